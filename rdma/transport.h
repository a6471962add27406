/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * transport.h -- one interface to two fabrics: verbs (verbs.c) and soft (soft.c)
 *
 * An endpoint is one reliable connection: messages both ways, one-sided reads
 * and writes from the client side, keys on the server side.  The code above
 * (server.c, client.c) is the same for both fabrics.
 *
 * Threads: send, key and kill calls are safe from any thread at any time until
 * close.  One thread at a time receives (pml_ep_recv, or see pml_ep_recv_arm), one collects
 * completions (pml_ep_poll).  pml_ep_close() only after all other calls returned.
 */
#ifndef PML_RDMA_TRANSPORT_H
#define PML_RDMA_TRANSPORT_H

#include "pml/base.h"
#include "pml/durable.h"
#include "pml/fence.h"

struct pml_fabric;   /* a listening address, or the client's way to connect */
struct pml_ep;	     /* one connection */
struct pml_key;	     /* server: remote access to one range of memory */
struct pml_local_mr; /* client: a registered buffer for one-sided transfers */

/* Largest message, and how many may be in flight towards a receiver. */
#define PML_MSG_BYTES_MAX 8192u
#define PML_MSG_DEPTH	  32u
/* One-sided operations that a client may have in flight. */
#define PML_DATA_DEPTH 128u
/* Largest single one-sided operation. */
#define PML_DATA_BYTES_MAX (1u << 20)

enum pml_transport_kind { PML_TRANSPORT_SOFT, PML_TRANSPORT_VERBS };

/* How a fence on this endpoint ends an access; strongest last. */
enum pml_ep_fence {
	PML_EP_FENCE_KEY,	 /* invalidate the key alone */
	PML_EP_FENCE_CONNECTION, /* destroy the connection, then the key */
};

/* What a key lets the other side do. */
#define PML_KEY_READ  1u
#define PML_KEY_WRITE 2u /* also ATOMIC WRITE */
#define PML_KEY_FLUSH 4u
/* The memory is not the probed one: the key is a region of its own, whatever the plan says. */
#define PML_KEY_FOREIGN 8u

/* ---- server side -------------------------------------------------------- */

/*
 * pml_fabric_listen() - listen for clients
 * @host: numeric address or name; @port: decimal; "0" picks one (soft: see pml_fabric_port())
 * @ret_reason: PML_REASON_BYTES, a line that names the address and the remedy
 */
int pml_fabric_listen(enum pml_transport_kind kind, const char *host, const char *port,
		      struct pml_fabric **ret_fabric, char *ret_reason) PML_MUST_CHECK;
uint16_t pml_fabric_port(const struct pml_fabric *fabric);
/*
 * Can @base..+@bytes be registered here, and how, or why not, in words?  0 or -EOPNOTSUPP.
 * A device that can page on demand takes what cannot be pinned (a file on a DAX filesystem, or
 * in the page cache), without memory windows.
 * The range is also what memory windows are cut from: a fabric that was not probed has
 * no windows to offer (pml_key_new() fails with -EINVAL).
 */
int pml_fabric_probe(struct pml_fabric *fabric, void *base, size_t bytes,
		     char *ret_reason) PML_MUST_CHECK;
/* Would writes through this fabric's keys go past the processor's page tables?  After the probe. */
bool pml_fabric_is_pinned(const struct pml_fabric *fabric);
/*
 * pml_fabric_set_fence() - how keys are made and ended, on what was measured
 * @verdicts: copied
 * @ret_text: PML_REASON_BYTES; what is done on this fabric's device, for the log
 *
 * Before the first accept; without it: regions.  Returns as pml_fence_decide(): 1 asks
 * for a warning.  Listening on every address: the device is known only when a client has
 * come, and one whose device has no fence is refused then.
 */
int pml_fabric_set_fence(struct pml_fabric *fabric, enum pml_fence_choice choice,
			 const struct pml_verdicts *verdicts, char *ret_text) PML_MUST_CHECK;
/* For measuring: this plan, on any device, whatever is known of it.  Before accept. */
void pml_fabric_force_fence(struct pml_fabric *fabric, const struct pml_fence_plan *plan);
/*
 * pml_fabric_set_durable() - by which rule writes become durable over this fabric
 * @persist: makes a range of the probed memory durable, for the fabric that plays the device
 *           itself; any thread.  NULL: the memory cannot be made durable that way, so the
 *           server has to be asked (PML_DURABLE_BY_COMMIT)
 * @ret_text: PML_REASON_BYTES; what was chosen, or why not, in words
 *
 * After pml_fabric_probe(), before the first accept; without it: by commit.  A connection
 * whose device or fence does not offer the rule falls back to commit: pml_ep_durable_rule().
 * Returns 0, or -EOPNOTSUPP: asked for one rule that this device or memory does not have.
 */
typedef void pml_persist_fn(void *arg, const void *addr, size_t bytes);
int pml_fabric_set_durable(struct pml_fabric *fabric, enum pml_durable_choice choice,
			   pml_persist_fn *persist, void *arg, char *ret_text) PML_MUST_CHECK;
/* Waits for a client.  -ETIMEDOUT; -ESHUTDOWN after pml_fabric_shutdown(). */
int pml_fabric_accept(struct pml_fabric *fabric, int timeout_ms,
		      struct pml_ep **ret_ep) PML_MUST_CHECK;
void pml_fabric_shutdown(struct pml_fabric *fabric);
void pml_fabric_close(struct pml_fabric *fabric);

/*
 * pml_key_new() - grant remote access to exactly @bytes at @addr over this connection (I6)
 * @rights: of PML_KEY_, and nothing else; PML_KEY_FLUSH where the connection's rule is by FLUSH
 * Everything that the fence needs is reserved here (I7).
 *
 *   -ENOTCONN   the connection has ended
 *   -ETIMEDOUT  a window was not bound in time, because the client takes no messages or
 *               the device hangs; the connection was destroyed, so nothing is bound later
 *   -EINVAL     windows: the range is outside the probed memory
 *   -ENOSPC     this connection has as many keys as it may have
 *   -errno      of the device: no memory, no more regions or windows
 */
int pml_key_new(struct pml_ep *ep, void *addr, size_t bytes, unsigned int rights,
		uint32_t *ret_rkey, struct pml_key **ret_key) PML_MUST_CHECK;

/*
 * pml_key_fence() - make the key dead, proven (I3)
 *
 * Returns 0 when no access through @key can touch or return memory any more, also none
 * that was under way; the key is freed.  An error leaves it valid to try the next step;
 * PML_EP_FENCE_CONNECTION implies pml_ep_kill().  May be called after pml_ep_kill() and
 * after the peer has gone, but before pml_ep_close().
 * @is_cooperative changes nothing: who returned a lease may be lying.
 *
 *   -EOPNOTSUPP  this step is no fence on this device (pml_fence_decide()): take the next
 *   -ETIMEDOUT   the device did not confirm in time
 *   -errno       of the device
 */
int pml_key_fence(struct pml_key *key, enum pml_ep_fence how, bool is_cooperative) PML_MUST_CHECK;

/*
 * Kills the connection and destroys its queue pair, whatever keys there are: these stay
 * to be fenced.  0, or -errno of the device: try again.
 */
int pml_ep_destroy(struct pml_ep *ep) PML_MUST_CHECK;
/* How writes through this connection's keys become durable; constant. */
enum pml_durable_rule pml_ep_durable_rule(const struct pml_ep *ep);
/* The device of a connection. */
void pml_ep_device(const struct pml_ep *ep, struct pml_fence_device *ret_device);

/* ---- client side -------------------------------------------------------- */

int pml_ep_connect(enum pml_transport_kind kind, const char *host, const char *port, int timeout_ms,
		   struct pml_ep **ret_ep, char *ret_reason) PML_MUST_CHECK;

/* Registers a buffer for data transfers of this endpoint; soft: nothing to do. */
int pml_local_mr_new(struct pml_ep *ep, void *buf, size_t bytes,
		     struct pml_local_mr **ret_mr) PML_MUST_CHECK;
void pml_local_mr_free(struct pml_local_mr *mr);

enum pml_data_kind {
	PML_DATA_READ,
	PML_DATA_WRITE,
	PML_DATA_FLUSH,	       /* makes durable what earlier writes have placed in the range */
	PML_DATA_ATOMIC_WRITE, /* eight aligned bytes: all of them are seen, or none */
};
#define PML_ATOMIC_WRITE_BYTES 8u

/* Which of the last two this connection can post, of PML_EP_CAN_; constant. */
#define PML_EP_CAN_FLUSH	1u
#define PML_EP_CAN_ATOMIC_WRITE 2u
unsigned int pml_ep_can(const struct pml_ep *ep);

struct pml_data_op {
	enum pml_data_kind kind;
	struct pml_local_mr *mr; /* FLUSH: NULL */
	void *buf;		 /* inside mr */
	uint32_t bytes;		 /* 1 to PML_DATA_BYTES_MAX; ATOMIC WRITE: 8 */
	uint64_t remote_addr;	 /* ATOMIC WRITE: a multiple of 8 */
	uint32_t rkey;
	uint64_t cookie; /* comes back in the completion */
};
/*
 * Queues a one-sided operation.  -EAGAIN: PML_DATA_DEPTH in flight; -ENOTCONN; -EOPNOTSUPP:
 * of a kind that pml_ep_can() does not have.
 * A write completes when the remote side has placed the bytes (not: made them durable).  One
 * connection's operations take effect in the order in which they were posted.
 */
int pml_ep_post(struct pml_ep *ep, const struct pml_data_op *op) PML_MUST_CHECK;

struct pml_completion {
	uint64_t cookie;
	int status; /* 0; -EACCES the key is dead or wrong; -ENOTCONN flushed or connection lost */
};
/*
 * Collects completions of data operations, in posting order.  @timeout_ms 0: do not
 * wait.  Returns their number (0 at the timeout) or -ENOTCONN when the connection is
 * gone and every operation's completion has been handed out.
 */
int pml_ep_poll(struct pml_ep *ep, struct pml_completion *ret, int max,
		int timeout_ms) PML_MUST_CHECK;

/* ---- both sides --------------------------------------------------------- */

/* Sends one message (copied).  Waits for room at most @timeout_ms: -ETIMEDOUT; -ENOTCONN. */
int pml_ep_send(struct pml_ep *ep, const void *msg, size_t bytes, int timeout_ms) PML_MUST_CHECK;
/*
 * Receives one message into @buf of PML_MSG_BYTES_MAX.  0: *ret_bytes is set;
 * -ETIMEDOUT; -ENOTCONN the connection is gone (all messages that arrived came first).
 */
int pml_ep_recv(struct pml_ep *ep, void *buf, size_t *ret_bytes, int timeout_ms) PML_MUST_CHECK;
/*
 * To wait for messages in two threads: one that looks for them with pml_ep_recv() and no time,
 * as long as it expects one, and another one that sleeps.  The caller has them take messages one
 * at a time.
 *
 * pml_ep_can_look() - is looking any use here?  Soft: no, a thread of its own brings messages,
 *	and wants the processor.
 * pml_ep_recv_arm() - from now on what arrives wakes the sleeper, once; what was sent quietly
 *	only if @for_quiet.  What arrived before does not: look after this, then sleep.  Any thread.
 * pml_ep_recv_sleep() - until then, until the connection ends, or for @timeout_ms; also without
 *	reason.  One thread.
 * pml_ep_send_quiet() - pml_ep_send() to a peer who has said that it looks for this message.
 */
bool pml_ep_can_look(const struct pml_ep *ep);
void pml_ep_recv_arm(struct pml_ep *ep, bool for_quiet);
void pml_ep_recv_sleep(struct pml_ep *ep, int timeout_ms);
int pml_ep_send_quiet(struct pml_ep *ep, const void *msg, size_t bytes,
		      int timeout_ms) PML_MUST_CHECK;
/* Ends the connection now: pending and later calls fail with -ENOTCONN.  Any thread. */
void pml_ep_kill(struct pml_ep *ep);
/* Frees the endpoint.  Assumes: every key of it is fenced, every local_mr freed. */
void pml_ep_close(struct pml_ep *ep);
/* "127.0.0.1:34567" */
const char *pml_ep_peer(const struct pml_ep *ep);
/* How this connection's keys end, in words; constant text. */
const char *pml_ep_fence_text(const struct pml_ep *ep);

/*
 * Fault injection of the soft fabric, for tests; process-wide, applies to endpoints
 * made afterwards and before.  All zero: none.
 */
struct pml_soft_faults {
	uint32_t delay_data_us;	    /* server: each one-sided operation takes so long, in pieces */
	uint32_t fail_key_fences;   /* the next N fences with PML_EP_FENCE_KEY fail with -EIO */
	uint32_t late_fence_us;	    /* a fence takes this long */
	uint32_t drop_server_msgs;  /* the next N server-sent messages are lost */
	uint32_t tear_writes;	    /* the next N writes stop half way and break the connection */
	uint32_t late_local_inv_us; /* windows: LOCAL_INV completes so much later */
	uint32_t lost_local_invs;   /* windows: the next N LOCAL_INV do nothing, never complete */
	uint32_t fail_local_invs; /* windows: the next N complete in error and end the connection */
	/*
	 * Windows: LOCAL_INV does not wait for the access under way, which touches memory
	 * up to so much later; what soft-RoCE does.
	 */
	uint32_t late_invalidate_us;
	uint32_t fail_deregs;	  /* regions: the next N deregistrations fail, in any step */
	uint32_t fail_destroys;	  /* the next N PML_EP_FENCE_CONNECTION fail */
	uint32_t slow_destroy_us; /* PML_EP_FENCE_CONNECTION takes so much longer */
};
void pml_soft_set_faults(const struct pml_soft_faults *faults);
/* For tests: pml_ep_can_look(), as over verbs.  Process-wide; before connections are made. */
void pml_soft_let_look(bool lets_look);

#endif
