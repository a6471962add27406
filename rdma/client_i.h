/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * client_i.h -- what the files of the client library share
 *
 * client.c        its life, requests, what messages of the server do
 * client_receive.c who takes those messages: callers that look, the receiver thread
 * client_connection.c  connections, and making a broken one again
 * client_hello.c  who this client is, proofs
 * client_path.c   from paths to handles
 * client_names.c  entries of directories
 * client_attrs.c  attributes, clone
 * client_lease.c  leases: take, recall, return
 * client_data.h   transfers: client_data.c, client_transfer.c, client_memory.c
 * client_io.c     synchronous transfers
 * client_durable.c commits, flushes, atomic writes
 * client_queue.c  queues of transfers
 * client_file.c   files that take their leases by themselves
 * client_window.c those leases
 *
 * Lock order: files_lock, pml_windows.lock, pml_client_data.lock, pml_client_memory.lock,
 * recv_lock, pml_client.lock.  None is held while a callback of the program runs or while
 * somebody waits for the fabric.
 */
#ifndef PML_RDMA_CLIENT_I_H
#define PML_RDMA_CLIENT_I_H

#include <pthread.h>
#include <stdatomic.h>

#include "client_data.h"
#include "client_hello.h"
#include "client_url.h"
#include "codec.h"
#include "look.h"
#include "pmemleasefs/client.h"
#include "pml/list.h"

/* Notices that may arrive before the reply that names their lease. */
#define PML_EARLY_NOTICES 64u

/* A recall or revocation of a lease that nobody here knows yet. */
struct pml_early_notice {
	uint64_t lease_id; /* 0: free slot */
	bool is_revoked;   /* else recalled */
	uint32_t drain_ms;
	uint32_t why;
};

/* An endpoint and who needs it: the client, and what is registered with it. */
struct pml_connection {
	struct pml_ep *ep;
	atomic_uint refs;
};

struct pml_client {
	struct pml_client_url url;
	/* Changed under data.lock and lock, when nothing is in flight and no receiver runs. */
	struct pml_connection *connection;
	uint64_t connection_number;	   /* from 1; under lock */
	bool has_receiver;		   /* it runs, or is to be joined; under lock */
	bool is_reconnecting;		   /* under lock */
	atomic_bool does_always_reconnect; /* not only for files */
	uint32_t reconnect_ms;		   /* 0: never; under lock */
	bool is_ready;			   /* let in by the server; under lock */
	struct pml_client_attr root;	   /* new with each connection; under lock */
	uint8_t client_id[PML_WIRE_CLIENT_ID_BYTES];
	struct pml_client_claim claim;
	uint64_t max_lease_bytes;
	uint32_t term_ms;
	uint32_t request_timeout_ms;
	pthread_t receiver; /* progress: notices, renewals, replies that nobody looks for */
	pthread_t worker;   /* callbacks of the program, returns */

	struct pml_client_data data;	 /* has its own lock */
	struct pml_client_memory memory; /* has its own lock */

	pthread_mutex_t files_lock; /* the list, and pml_windows.opens; above all others */
	struct pml_list files;	    /* struct pml_windows */

	/* To take a message and to act on it: one step. */
	pthread_mutex_t recv_lock;
	atomic_bool is_receiver_there; /* it waits for recv_lock, and goes first */

	pthread_mutex_t lock;
	pthread_cond_t changed;	 /* anything below, for the program's threads */
	pthread_cond_t has_work; /* for the worker: it sleeps through replies */
	/* Under lock. */
	struct pml_list calls; /* waiting for replies */
	struct pml_look reply_look;
	bool is_looked;		 /* some caller looks for its reply */
	uint32_t quiet_sleepers; /* callers that have looked, and sleep now */
	struct pml_list leases;
	struct pml_list buffers;
	struct pml_list queues;
	struct pml_list ahead; /* struct pml_windows that want a lease ahead: for the worker */
	struct pml_client_events events;
	struct pml_early_notice early[PML_EARLY_NOTICES];
	uint32_t next_early;
	uint32_t next_request_id;
	uint32_t renew_id; /* of the renewal that was not answered yet; 0: none */
	uint64_t sent_ms;  /* when the last message went out */
	uint64_t renew_sent_ms;
	bool is_closing;
	bool has_receiver_ended;
	bool has_unacked; /* some lease may need its acknowledgement: the receiver looks */
	char dead_reason[PML_REASON_BYTES]; /* "": the connection lives */
};

/* Who is asked in the worker when a lease is recalled, instead of the program. */
struct pml_lease_owner {
	void (*recalled)(void *arg); /* returns the lease, now or soon */
	void *arg;
};

/*
 * The life of a lease on this side.  Under pml_client.lock, except what is constant or atomic.
 *
 * A use begins and ends without the lock: it counts itself in busy, and then looks at status.
 * Who stops the lease sets status, and then looks at busy.  So one of them sees the other.
 */
struct pml_client_lease {
	struct pml_list link;
	struct pml_client *client;
	uint64_t connection_number; /* that it was granted over */
	uint64_t id;
	uint64_t first_byte;
	uint64_t end_byte;
	uint64_t file_size;
	bool for_write;
	enum pml_durable_rule durable_rule; /* the grant's */
	_Atomic uint64_t
		written_end; /* below it blocks hold what was written, also after a crash */
	uint32_t nsegments;
	struct pml_lease_owner owner; /* recalled NULL: the program */

	atomic_int status; /* written under lock; see pml_client_lease_status() */
	atomic_uint refs;  /* the program's, the worker's, those of transfers */
	atomic_uint busy;  /* transfers and commits under way */
	/* Who waits for busy to fall while status is 0: the last use wakes them. */
	atomic_uint drainers;
	uint32_t drain_ms;
	bool is_recalled;
	bool needs_ack;				 /* to be sent by the receiver */
	bool has_recall_event, has_revoke_event; /* for the worker */
	bool wants_return;			 /* the worker sends RETURN when busy is 0 */
	bool is_returned;			 /* RETURN was sent, by whomever */
	bool is_in_worker;			 /* in a callback, or RETURN is being sent */
	char reason[PML_REASON_BYTES];		 /* why status is not 0 */

	struct pml_wire_segment segments[]; /* ordered, inside the range */
};

/* ---- client.c ----------------------------------------------------------- */

/* Says why the calling thread's call failed, and returns @err. */
int pml_client_fail(int err, const char *fmt, ...) PML_PRINTF(2, 3);

/*
 * Sends @msg (its header is filled in here) and waits for the reply.  Returns the
 * status of the reply, -ENOTCONN or -ETIMEDOUT; the reason is set then, with @what
 * as its subject.  @ret_reply is valid on 0.
 */
int pml_client_request(struct pml_client *client, union pml_message *msg, size_t bytes,
		       enum pml_wire_type type, const char *what,
		       union pml_message *ret_reply) PML_MUST_CHECK;

/* Sends a message whose reply nobody waits for.  -ETIMEDOUT, -ENOTCONN. */
int pml_client_send_async(struct pml_client *client, union pml_message *msg, size_t bytes,
			  enum pml_wire_type type, int timeout_ms) PML_MUST_CHECK;

/* The same, and which connection it was sent over. */
int pml_client_request_on(struct pml_client *client, union pml_message *msg, size_t bytes,
			  enum pml_wire_type type, const char *what, union pml_message *ret_reply,
			  uint64_t *ret_connection_number) PML_MUST_CHECK;

/* Declares the connection dead: every lease and waiting call ends.  First reason wins. */
void pml_client_die(struct pml_client *client, const char *reason);
/* The same, if it is that connection still. */
void pml_client_die_of(struct pml_client *client, uint64_t number, const char *reason);

/*
 * Does what a checked message of connection @number says; one of a connection that is gone says
 * nothing.  -EPROTO: a reply to something else.  With recv_lock.
 */
int pml_client_take_message(struct pml_client *client, uint64_t number,
			    const union pml_message *msg) PML_MUST_CHECK;
/* Does a call wait that may have to wait for leases?  With the client's lock. */
bool pml_client_is_waiting_locked(const struct pml_client *client);

/* Starts the receiver of a new connection and has the server let the client in. */
int pml_client_greet(struct pml_client *client) PML_MUST_CHECK;

/* ---- client_receive.c --------------------------------------------------- */

/* A caller that looks for its reply. */
struct pml_client_look {
	bool is_on; /* it does: the request says so (PML_WIRE_QUIET) */
	bool is_asleep;
	struct pml_look_run run;
};

/* Takes what has arrived before an error is believed.  No locks. */
void pml_client_take_rest(struct pml_client *client, struct pml_ep *ep, uint64_t number);

/* Starts the receiver thread of the connection. */
int pml_client_receive(struct pml_client *client) PML_MUST_CHECK;

/*
 * Brackets a call: begin before its request is sent and end when the call is over, with the
 * client's lock; in between, without locks, pml_client_look() returns when @is_done, or when it
 * is time to sleep for it.  Other calls see to their own replies only.
 */
void pml_client_look_begin_locked(struct pml_client *client, struct pml_client_look *ret_look);
void pml_client_look(struct pml_client *client, struct pml_ep *ep, uint64_t number,
		     struct pml_client_look *look, const atomic_bool *is_done);
void pml_client_look_end_locked(struct pml_client *client, const struct pml_client_look *look);

/* ---- client_connection.c ------------------------------------------------ */

int pml_connection_new(const struct pml_client_url *url, uint32_t timeout_ms,
		       struct pml_connection **ret_connection, char *ret_reason) PML_MUST_CHECK;
/* The current one, for a while. */
struct pml_connection *pml_connection_get(struct pml_client *client);
struct pml_connection *pml_connection_get_locked(struct pml_client *client);
void pml_connection_put(struct pml_connection *connection);

/* ---- client_path.c ------------------------------------------------------ */

/* An entry of a directory, which may not be there yet. */
struct pml_client_place {
	struct pml_client_handle dir;
	char name[PML_WIRE_NAME_MAX + 1];
	const char *what; /* for messages; the caller's */
};

/*
 * A request by path, which has to begin anew when the server was mounted again under way: then
 * nobody takes the handles of before, that of the root included, and -ESTALE says that nothing
 * was done.
 *
 *	struct pml_client_attempt attempt = pml_client_attempt(client);
 *	do
 *		err = ...;
 *	while (pml_client_again(client, &attempt, err));
 */
struct pml_client_attempt {
	struct pml_client_handle root; /* when it began */
	unsigned int n;
};
struct pml_client_attempt pml_client_attempt(struct pml_client *client);
bool pml_client_again(struct pml_client *client, struct pml_client_attempt *attempt, int err);

/* What a path leads to. */
int pml_client_walk(struct pml_client *client, const char *path,
		    struct pml_client_attr *ret_attr) PML_MUST_CHECK;
/* Where its last name is, or would be. */
int pml_client_walk_to(struct pml_client *client, const char *path,
		       struct pml_client_place *ret_place) PML_MUST_CHECK;
/* The same without a path.  -EINVAL, -ENAMETOOLONG. */
int pml_client_place_at(const struct pml_client_handle *dir, const char *name,
			struct pml_client_place *ret_place) PML_MUST_CHECK;

/* ---- client_names.c, client_attrs.c ------------------------------------- */

int pml_client_look_up(struct pml_client *client, const struct pml_client_place *place,
		       struct pml_client_attr *ret_attr) PML_MUST_CHECK;
int pml_client_ask_attr(struct pml_client *client, const struct pml_client_handle *inode,
			const char *what, struct pml_client_attr *ret_attr) PML_MUST_CHECK;
void pml_client_take_attr(const struct pml_wire_attr *from, struct pml_client_attr *ret_attr);
void pml_client_put_handle(const struct pml_client_handle *from,
			   struct pml_wire_handle *ret_handle);

/* Makes the connection live again if it is dead, as far as that is wanted; 0: it lives. */
int pml_client_reconnect(struct pml_client *client) PML_MUST_CHECK;

/* ---- client_lease.c ----------------------------------------------------- */

/* All with the client's lock held. */
void pml_client_recalled_locked(struct pml_client *client, uint64_t lease_id, uint32_t drain_ms);
void pml_client_revoked_locked(struct pml_client *client, uint64_t lease_id, uint32_t why);
void pml_client_end_lease_locked(struct pml_client_lease *lease, int status, const char *reason);
void pml_client_end_all_locked(struct pml_client *client);
/* A lease whose recall still has to be acknowledged, or NULL.  In the receiver. */
struct pml_client_lease *pml_client_unacked_locked(struct pml_client *client);

/* Main function of the worker thread. */
void *pml_client_work(void *arg);

/*
 * Brackets a use of the lease; begin fails with its status when it has ended.  Keeps
 * RETURN from being sent in between.  Begin also holds the struct: put it after the end, which
 * may be what its freeing waits for.  No locks.
 */
int pml_client_lease_begin(struct pml_client_lease *lease) PML_MUST_CHECK;
void pml_client_lease_end_use(struct pml_client_lease *lease);

/* pml_client_lease_with() for a part of the library. */
int pml_client_lease_owned(struct pml_client *client, const struct pml_client_handle *file,
			   uint64_t first_byte, uint64_t len_bytes, unsigned int kind, int wait_ms,
			   const struct pml_lease_owner *owner,
			   struct pml_client_lease **ret_lease) PML_MUST_CHECK;

/* Keeps the struct until it is put, beyond the end of the lease.  No locks. */
void pml_client_lease_hold(struct pml_client_lease *lease);
void pml_client_lease_put(struct pml_client_lease *lease);

/* Makes the lease's end the calling thread's reason, and returns @err. */
int pml_client_lease_fail(const struct pml_client_lease *lease, int err);

/*
 * A transfer failed with @err, -EACCES or -ENOTCONN: what has happened to the lease?
 * Waits a moment for the server's own word.  Returns the lease's status.
 */
int pml_client_lease_verdict(struct pml_client_lease *lease, int err);

/* ---- client_durable.c --------------------------------------------------- */

/* -EINVAL: not a range of a write lease; the reason is set, with @what as its subject. */
int pml_durable_check(const struct pml_client_lease *lease, uint64_t first_byte, uint64_t len_bytes,
		      const char *what) PML_MUST_CHECK;
/* Can this side make durable what lies before @end_byte, without the server? */
bool pml_durable_is_ours(const struct pml_client_lease *lease, uint64_t end_byte);
/* Makes @t a transfer that does.  As pml_transfer_begin(). */
int pml_durable_begin(struct pml_transfer *t, struct pml_client_lease *lease, uint64_t first_byte,
		      uint64_t len_bytes) PML_MUST_CHECK;

/* ---- client_window.c ---------------------------------------------------- */

/* Assumes: no other thread of the program uses the client any more. */
void pml_files_free(struct pml_client *client);

/* ---- client_memory.c ---------------------------------------------------- */

struct pml_client_buffer {
	struct pml_list link;
	struct pml_client *client;
	uint8_t *data;
	size_t bytes;
	struct pml_memory *memory;
};

void pml_client_buffers_free(struct pml_client *client);

#endif
