/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * soft.h -- the software fabric: frames on TCP, endpoints, keys
 *
 * soft.c makes connections, soft_ep.c moves frames, soft_nic.c plays the part
 * of the server's network card: it serves one-sided operations against the key
 * table of the connection, without the program above.  Private to soft*.c.
 *
 * Threads of an endpoint: the callers, and one receive thread (@rx_thread)
 * that alone reads the socket.
 */
#ifndef PML_RDMA_SOFT_H
#define PML_RDMA_SOFT_H

#include "transport_impl.h"

/* ---- frames ------------------------------------------------------------- */

#define PML_SOFT_MAGIC	 0x534c4d50u /* "PMLS" */
#define PML_SOFT_VERSION 2u
/* Payload of a frame that carries data; also the most that one access touches. */
#define PML_SOFT_PIECE_BYTES 65536u

enum pml_soft_frame_type {
	PML_SOFT_HELLO = 1, /* first frame, both ways */
	PML_SOFT_MSG,	    /* payload: a message */
	PML_SOFT_CREDIT,    /* carries credits and nothing else */
	PML_SOFT_READ,	    /* client: read op_bytes at remote_addr */
	PML_SOFT_WRITE, /* client: payload goes to remote_addr; one of the pieces of an operation */
	PML_SOFT_DATA,	/* server: payload is the next piece of a read */
	PML_SOFT_ACK,	/* server: anything but a read is done */
	PML_SOFT_NAK,	/* server: access refused; the connection ends */
	PML_SOFT_FLUSH, /* client: make op_bytes at remote_addr durable */
	PML_SOFT_ATOMIC_WRITE, /* client: the payload's eight bytes go to remote_addr */
	PML_SOFT_QUIET_MSG,    /* payload: a message that its receiver looks for */
};

/* Little-endian; a field that its type does not use is zero, and checked. */
struct pml_soft_frame {
	uint32_t magic;
	uint16_t version;
	uint16_t type;
	uint32_t bytes;	      /* of the payload behind this header */
	uint32_t op_bytes;    /* of the whole operation; not in its results */
	uint64_t op;	      /* of an operation and its results: its number, from 0 */
	uint64_t remote_addr; /* of an operation: its start; WRITE: of this piece */
	uint32_t rkey;	      /* of an operation */
	uint32_t credits;     /* any but HELLO: messages received since the last frame */
};
static_assert(sizeof(struct pml_soft_frame) == 40, "wire size");

void pml_soft_frame_init(struct pml_soft_frame *frame, enum pml_soft_frame_type type);
/* May a peer have sent this?  0 or -EPROTO.  @at_server: the receiver's side. */
int pml_soft_frame_check(const struct pml_soft_frame *frame, bool at_server) PML_MUST_CHECK;

/* ---- keys --------------------------------------------------------------- */

/* Keys that one connection may hold (I9).  rkey = index << 8 | tag. */
#define PML_SOFT_KEYS_MAX 65536u

enum pml_soft_key_state {
	PML_SOFT_KEY_FREE,
	PML_SOFT_KEY_LIVE,
	PML_SOFT_KEY_DYING, /* a fence has begun: no new access, one may still be under way */
	PML_SOFT_KEY_GHOST, /* fenced, by a fault that did not wait for the access under way */
};

/* All under pml_soft_ep.lock. */
struct pml_soft_key {
	struct pml_key base;
	void *addr;
	size_t bytes;
	uint32_t next_free; /* index; 0 ends the list */
	uint8_t tag;	    /* changes at each use of the slot */
	uint8_t state;
	uint8_t rights; /* PML_KEY_ */
	bool is_window;
	bool in_access; /* the receive thread touches the memory right now */
	/* What was written since the last read, of a key for both; receive thread. */
	uint64_t dirty_from, dirty_to;
};

#define PML_SOFT_KEYS_BYTES (PML_SOFT_KEYS_MAX * sizeof(struct pml_soft_key))

/* ---- endpoints ---------------------------------------------------------- */

struct pml_soft_msg {
	uint32_t bytes;
	uint8_t data[PML_MSG_BYTES_MAX];
};

/* One operation of the client, posted and not yet collected. */
struct pml_soft_op {
	char *buf;
	uint64_t cookie;
	uint32_t bytes;
	uint32_t done_bytes; /* of a read: received */
	int status;
	bool is_read;
};

/* Lock order: post_lock, lock.  The transmit token is held without locks. */
struct pml_soft_ep {
	struct pml_ep base;
	int fd; /* blocking; senders pass MSG_DONTWAIT */
	bool is_server;
	pthread_t rx_thread;

	pthread_mutex_t post_lock; /* keeps operations in order on the wire */
	pthread_mutex_t lock;	   /* everything below, down to the receive thread's own */
	bool is_dead;		   /* no new work */
	bool is_killed;		   /* by this side: nothing more is delivered */
	bool is_rx_gone;	   /* the receive thread has ended: nothing more arrives */

	/* Transmit token: its holder alone sends.  Messages go before data. */
	pthread_cond_t tx_cond; /* token, credits, death */
	bool is_tx_busy;
	unsigned tx_msgs_waiting;
	uint32_t credits;      /* messages that the peer has room for */
	uint32_t owed_credits; /* received here and not yet told to the peer */

	/* Received messages: the receive thread fills, pml_ep_recv() takes. */
	pthread_cond_t recv_cond;
	struct pml_soft_msg *msgs; /* PML_MSG_DEPTH */
	uint64_t msgs_in, msgs_out;
	bool is_for_quiet; /* such messages wake pml_ep_recv_sleep() as well */
	bool has_news;	   /* one that wakes it has come since it slept */

	/* Client: operations in posting order; index modulo PML_DATA_DEPTH. */
	pthread_cond_t done_cond;
	struct pml_soft_op ops[PML_DATA_DEPTH];
	uint64_t ops_posted;	/* have a place in the ring */
	uint64_t ops_sent;	/* their poster no longer looks at the buffer */
	uint64_t ops_done;	/* the receive thread no longer touches the buffer */
	uint64_t ops_collected; /* reported by pml_ep_poll() */

	/* Server: keys. */
	pthread_cond_t access_cond; /* an access has ended, or the endpoint died */
	bool is_in_access;	    /* through any key */
	struct pml_soft_key *keys;  /* PML_SOFT_KEYS_MAX, index 0 unused; NULL: no key yet */
	uint32_t keys_fresh;	    /* first slot that was never used */
	uint32_t keys_free_head, keys_free_tail;
	uint32_t keys_count;

	/* Receive thread only. */
	uint64_t nic_op;	 /* server: operation being served */
	uint32_t nic_done_bytes; /* server: of a write, placed */
	uint32_t nic_op_bytes;	 /* server: of that write, as its first frame said */
	size_t staged_from, staged_to;
	char staged[4096]; /* read ahead of the current header */
};

/*
 * soft.c, soft_ep.c: an endpoint on a connected socket, which it owns even on failure.
 * @fabric: that accepted it; NULL: the client's side
 */
int pml_soft_ep_new(int fd, const struct pml_fabric *fabric, const char *peer,
		    struct pml_ep **ret_ep) PML_MUST_CHECK;
/* Zeroed memory of a table of an endpoint, or NULL. */
void *pml_soft_table_new(size_t bytes);
void pml_soft_ep_kill(struct pml_ep *base);
void pml_soft_ep_close(struct pml_ep *base);
int pml_soft_ep_send(struct pml_ep *base, const void *msg, size_t bytes, bool is_quiet,
		     int timeout_ms) PML_MUST_CHECK;
int pml_soft_ep_recv(struct pml_ep *base, void *buf, size_t *ret_bytes,
		     int timeout_ms) PML_MUST_CHECK;
bool pml_soft_ep_can_look(const struct pml_ep *base);
void pml_soft_ep_recv_arm(struct pml_ep *base, bool for_quiet);
void pml_soft_ep_recv_sleep(struct pml_ep *base, int timeout_ms);
int pml_soft_ep_post(struct pml_ep *base, const struct pml_data_op *op) PML_MUST_CHECK;
int pml_soft_ep_poll(struct pml_ep *base, struct pml_completion *ret, int max,
		     int timeout_ms) PML_MUST_CHECK;

/* A frame on its way out; @done_bytes counts the header too. */
struct pml_soft_out {
	struct pml_soft_frame *frame;
	const char *payload;
	size_t done_bytes;
};
/* Waits for the transmit token to send data.  -ENOTCONN. */
int pml_soft_tx_take(struct pml_soft_ep *ep) PML_MUST_CHECK;
void pml_soft_tx_release(struct pml_soft_ep *ep);
/* One attempt of the token's holder.  0: all sent; -EAGAIN: no room; -ENOTCONN. */
int pml_soft_tx_once(struct pml_soft_ep *ep, struct pml_soft_out *out) PML_MUST_CHECK;
/* Waits for room in the socket.  0, -ETIMEDOUT. */
int pml_soft_tx_room(struct pml_soft_ep *ep, uint64_t deadline_ns) PML_MUST_CHECK;
/* Sends a whole data frame; ends the connection if the peer takes nothing for long. */
int pml_soft_tx_data(struct pml_soft_ep *ep, struct pml_soft_frame *frame,
		     const void *payload) PML_MUST_CHECK;
/* When a peer that takes nothing counts as dead. */
uint64_t pml_soft_stall_deadline_ns(void);
/* Receive thread: exactly @bytes of payload into private memory.  -ENOTCONN. */
int pml_soft_rx_bytes(struct pml_soft_ep *ep, void *buf, size_t bytes) PML_MUST_CHECK;

/* ---- the server's network card (soft_nic.c) ------------------------------ */

int pml_soft_key_new(struct pml_ep *base, void *addr, size_t bytes, unsigned int rights,
		     uint32_t *ret_rkey, struct pml_key **ret_key) PML_MUST_CHECK;
int pml_soft_key_fence(struct pml_key *base, enum pml_ep_fence how) PML_MUST_CHECK;
int pml_soft_ep_destroy(struct pml_ep *base) PML_MUST_CHECK;
/* Serve one frame.  An error ends the connection; the initiator was told. */
int pml_soft_nic_read(struct pml_soft_ep *ep, const struct pml_soft_frame *frame) PML_MUST_CHECK;
int pml_soft_nic_write(struct pml_soft_ep *ep, const struct pml_soft_frame *frame) PML_MUST_CHECK;
int pml_soft_nic_flush(struct pml_soft_ep *ep, const struct pml_soft_frame *frame) PML_MUST_CHECK;
int pml_soft_nic_atomic_write(struct pml_soft_ep *ep,
			      const struct pml_soft_frame *frame) PML_MUST_CHECK;

enum pml_soft_fault {
	PML_SOFT_FAULT_DELAY_DATA_US,
	PML_SOFT_FAULT_LATE_FENCE_US,
	PML_SOFT_FAULT_FAIL_KEY_FENCE,
	PML_SOFT_FAULT_DROP_SERVER_MSG,
	PML_SOFT_FAULT_TEAR_WRITE,
	PML_SOFT_FAULT_LATE_LOCAL_INV_US,
	PML_SOFT_FAULT_LOSE_LOCAL_INV,
	PML_SOFT_FAULT_FAIL_LOCAL_INV,
	PML_SOFT_FAULT_LATE_INVALIDATE_US,
	PML_SOFT_FAULT_FAIL_DEREG,
	PML_SOFT_FAULT_FAIL_DESTROY,
	PML_SOFT_FAULT_SLOW_DESTROY_US,
	PML_SOFT_FAULT_COUNT,
};
uint32_t pml_soft_fault_value(enum pml_soft_fault fault);
/* True for the next N calls. */
bool pml_soft_fault_take(enum pml_soft_fault fault);

#endif
