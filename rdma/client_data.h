/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * client_data.h -- client library: transfers in flight and the memory that they use
 *
 * client_data.c    which operations are posted, who collects completions
 * client_memory.c  buffers, registrations of program memory, bounce slots
 * client_transfer.c  one transfer: checks, pieces, outcome
 *
 * A transfer is a source of operations.  It belongs to a thread that waits for it (a
 * synchronous call) or to a queue.  Whoever waits for something first posts what there is
 * room for, whosever it is, and then collects, or sleeps while another thread does.
 *
 * Lock order: pml_client_data.lock, pml_client_memory.lock, pml_client.lock.
 */
#ifndef PML_RDMA_CLIENT_DATA_H
#define PML_RDMA_CLIENT_DATA_H

#include <pthread.h>
#include <stdatomic.h>
#include <sys/uio.h>

#include "transport.h"
#include "pml/list.h"

struct pml_client;
struct pml_connection;
struct pml_client_lease;
struct pml_client_queue;

/* In flight of all transfers together: short to drain, and nobody waits long behind others. */
#define PML_DATA_BYTES_IN_FLIGHT (UINT64_C(16) << 20)
/* Operations in flight of one transfer: enough for the fabric. */
#define PML_TRANSFER_DEPTH 16u
/* Entries of a scatter/gather list, and those that need no allocation. */
#define PML_TRANSFER_PIECES_MAX	  1024
#define PML_TRANSFER_PIECES_SMALL 4
/* Transfers up to this go through a bounce slot if their memory is not registered. */
#define PML_BOUNCE_BYTES 16384u
#define PML_BOUNCE_SLOTS 32u

/* ---- memory ------------------------------------------------------------- */

/* A range that is registered with the client's endpoint. */
struct pml_memory {
	struct pml_list link; /* pml_client_memory.ranges, or on none */
	uintptr_t first;      /* constant, as what follows */
	uintptr_t end;
	struct pml_local_mr *mr;	   /* rebound when nothing is in flight */
	struct pml_connection *connection; /* that mr is of */
	void *owned;			   /* freed with it: a buffer, a bounce area */
	atomic_uint uses;		   /* falls to 0 under pml_client_memory.lock alone */
	/* Under that lock. */
	bool is_cached; /* counts; stays when uses is 0 */
};

/* All under lock. */
struct pml_client_memory {
	pthread_mutex_t lock;
	struct pml_list ranges; /* that program memory is looked up in; last used is last */
	uint32_t max_count;	/* cached ones */
	uint64_t max_bytes;
	uint32_t count;
	uint64_t bytes;
	struct pml_memory *bounce;  /* PML_BOUNCE_SLOTS, made when first needed */
	uint32_t bounce_free;	    /* bits */
	bool has_bounce_been_tried; /* and failed, if there is none */
};

void pml_memory_init(struct pml_client_memory *memory);
/* Frees all that is left.  Assumes: nothing is in use. */
void pml_memory_end(struct pml_client *client);

/*
 * There is a new connection: registers buffers with it and drops what is cached.  Assumes:
 * nothing is in flight.
 */
int pml_memory_rebind(struct pml_client *client) PML_MUST_CHECK;

/*
 * Finds a registration that covers the range, or makes one if @may_register; the caller puts
 * it back.  -ENOENT there is none; else why it cannot be registered.
 */
int pml_memory_get(struct pml_client *client, const void *addr, size_t bytes, bool may_register,
		   struct pml_memory **ret_memory) PML_MUST_CHECK;
/* Fresh memory of its own, page-aligned, at (void *)first. */
int pml_memory_new(struct pml_client *client, size_t bytes,
		   struct pml_memory **ret_memory) PML_MUST_CHECK;
/* One more use of what the caller uses already.  No locks. */
void pml_memory_hold(struct pml_memory *memory);
void pml_memory_put(struct pml_client *client, struct pml_memory *memory);
/* A bounce slot of PML_BOUNCE_BYTES, or NULL. */
uint8_t *pml_bounce_take(struct pml_client *client, struct pml_local_mr **ret_mr);
void pml_bounce_give(struct pml_client *client, uint8_t *slot);

/* ---- transfers ---------------------------------------------------------- */

/* A contiguous part of the program's side of a transfer. */
struct pml_piece {
	uint8_t *data;
	size_t bytes;
	struct pml_local_mr *mr;
	struct pml_memory *memory; /* to be put back, or NULL */
};

struct pml_transfer {
	struct pml_list link; /* pml_client_data.waiting, or pml_client_queue's */
	struct pml_client_lease *lease;
	struct pml_client_queue *queue; /* NULL: a thread waits for it */
	uint64_t cookie;
	uint64_t bytes;
	bool is_write;
	uint32_t depth;
	/* Fills in buf, mr, bytes, remote_addr and rkey of the next operation; false: no more. */
	bool (*next)(struct pml_transfer *t, struct pml_data_op *ret_op);

	/* The program's side.  With a bounce the pieces are that, and iov says what it is for. */
	struct pml_piece *pieces;
	uint32_t npieces;
	uint8_t *bounce_slot;
	uint8_t *bounce; /* NULL: none */
	struct iovec *iov;
	uint32_t niov;

	/* Where the source is.  Under pml_client_data.lock from the start on, as what follows. */
	uint32_t segment;
	uint64_t at_byte; /* in the file; stream: in the segment */
	uint64_t end_byte;
	uint32_t piece;
	size_t piece_at;
	uint64_t left; /* stream: operations to go */
	uint32_t op_bytes;
	uint32_t slot; /* stream: where in the buffer */
	uint32_t nslots;

	struct pml_data_op op; /* to be posted next, if has_more */
	bool has_more;
	bool is_done; /* nothing of it is in flight or will be */
	uint32_t in_flight;
	int err; /* the first that says something */
	struct pml_data_waiter *waiter;

	/* Last, and not zeroed for each transfer. */
	struct pml_piece small[PML_TRANSFER_PIECES_SMALL];
	struct iovec small_iov[PML_TRANSFER_PIECES_SMALL];
};

/* Makes @t new, without pieces, from @first_byte on. */
void pml_transfer_init(struct pml_transfer *t, struct pml_client_lease *lease, uint64_t first_byte);

/*
 * Makes @t a transfer between @iov and the file.  @memory: all of @iov is in it, and the caller
 * uses it; NULL: it is to be found.  -EINVAL, -ENOMEM and what memory cannot be registered with;
 * -ESTALE and the like when the lease has ended.  Then pml_transfer_end() is due.
 */
int pml_transfer_begin(struct pml_transfer *t, struct pml_client_lease *lease, bool is_write,
		       const struct iovec *iov, int niov, uint64_t first_byte,
		       struct pml_memory *memory) PML_MUST_CHECK;
/*
 * The parts of it, for transfers without memory of the program: pml_transfer_init(); if it needs
 * any, a piece of @bytes, up to PML_BOUNCE_BYTES, that nobody copies; then
 * pml_transfer_use() is due, and pml_transfer_drop() if that fails.
 */
int pml_transfer_use_scratch(struct pml_transfer *t, size_t bytes) PML_MUST_CHECK;
void pml_transfer_drop(struct pml_transfer *t);
/* Uses the lease until @t is done; its status if it has ended.  Part of pml_transfer_begin(). */
int pml_transfer_use(struct pml_transfer *t) PML_MUST_CHECK;
/* After it is done: moves bytes out of the bounce, lets go of everything; the outcome. */
int pml_transfer_end(struct pml_transfer *t);

/* ---- what is in flight -------------------------------------------------- */

/* A thread that sleeps while another one collects. */
struct pml_data_waiter {
	struct pml_list link;
	pthread_cond_t woken;
};

/* All under lock. */
struct pml_client_data {
	pthread_mutex_t lock;
	struct pml_list waiting;   /* transfers that have something to post, in turn */
	struct pml_list followers; /* pml_data_waiter; the first one leads next */
	bool has_leader;	   /* a thread collects, without the lock */
	uint32_t in_flight;
	uint64_t bytes_in_flight;
	uint64_t posted; /* operations, from the beginning; completions come in this order */
	uint64_t collected;
	uint32_t op_bytes[PML_DATA_DEPTH];
	/* Since when nothing has completed; looked at only when a look has found nothing. */
	uint64_t still_ms; /* pml_now_coarse_ms() */
	bool has_moved; /* since still_ms was set: a completion, or the first post after nothing */
};

void pml_data_init(struct pml_client_data *data);
void pml_data_end(struct pml_client_data *data);

/* Queues the transfer's operations.  It may be done when this returns. */
void pml_data_start(struct pml_client *client, struct pml_transfer *t);
/* The same, and waits until it is done. */
void pml_data_run(struct pml_client *client, struct pml_transfer *t);
/*
 * Waits until @is_ready says so, or for @timeout_ms (< 0: without a limit).  @waiter is where
 * who makes it ready finds this thread.  With the lock held.
 */
bool pml_data_wait_locked(struct pml_client *client, bool (*is_ready)(const void *arg),
			  const void *arg, struct pml_data_waiter **waiter, int timeout_ms);
/*
 * Collects for a short while for others who do not.  False: nothing is in flight, or
 * somebody else collects.
 */
bool pml_data_drive(struct pml_client *client);
/* Nothing is in flight or waits to be posted, and nobody collects. */
bool pml_data_is_idle(struct pml_client *client);

/* client_queue.c: the transfer has begun; is done.  With the data lock held. */
void pml_queue_begun_locked(struct pml_transfer *t);
void pml_queue_done_locked(struct pml_transfer *t);
void pml_queues_free(struct pml_client *client);

#endif
