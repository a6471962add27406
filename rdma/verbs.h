/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * verbs.h -- RDMA devices: endpoints
 *
 * verbs.c makes connections, verbs_ep.c uses them, verbs_key.c gives access.  The only file that
 * includes <infiniband/verbs.h> and <rdma/rdma_cma.h>; private to verbs*.c.
 *
 * The end of a connection shows as an event of the connection manager, as a
 * failed completion, or as pml_ep_kill(); each leads to pml_verbs_ep_end(),
 * which makes dead_fd readable for good, and so wakes every sleeper.
 *
 * Lock order: key_lock, sq_lock, rq_lock, cm_lock.  None but key_lock is held while
 * sleeping, and that only while the device frees something.
 */
#ifndef PML_RDMA_VERBS_H
#define PML_RDMA_VERBS_H

#include <infiniband/verbs.h>
#include <rdma/rdma_cma.h>
#include <stdatomic.h>

#include "look.h"
#include "transport_impl.h"

/* Work-request id: the address of a window, and this. */
#define PML_VERBS_WR_IS_WINDOW (UINT64_C(1) << 62)
/* Places in the send queue and its completion queue for work on windows (I7). */
#define PML_VERBS_BIND_SLOTS 16
#define PML_VERBS_INV_SLOTS  48

struct pml_verbs_window;

struct pml_verbs_op {
	uint64_t cookie;
	int status;
};

struct pml_verbs_ep {
	struct pml_ep base;	       /* first: see verbs_ep_device() */
	struct rdma_event_channel *cm; /* events of this connection alone */
	struct rdma_cm_id *id;
	struct ibv_pd *pd;
	struct ibv_comp_channel *send_channel, *recv_channel;
	struct ibv_cq *send_cq, *recv_cq;
	char *msgs; /* PML_MSG_DEPTH slots to send from, as many to receive into */
	struct ibv_mr *msgs_mr;
	int dead_fd;		  /* readable once the connection has ended */
	atomic_bool is_dead;	  /* no new work */
	atomic_bool is_killed;	  /* by this side: nothing more is delivered */
	_Atomic uint64_t dead_ns; /* since when; set before is_dead */
	atomic_uint keys_count;
	bool is_server;
	uint64_t dereg_trusted_ns; /* a deregistration that took longer may be no fence: rxe.h */

	pthread_mutex_t key_lock;
	struct ibv_mr *base_mr; /* of the whole area, without remote rights; made on first need */
	struct pml_verbs_window *windows, *windows_free;
	uint32_t windows_count;
	bool are_windows_gone; /* the connection is destroyed, and they are proven dead */

	pthread_mutex_t sq_lock; /* send queue and its completions */
	uint32_t free_slots[PML_MSG_DEPTH];
	uint32_t free_count;
	struct pml_verbs_op ops[PML_DATA_DEPTH]; /* index modulo PML_DATA_DEPTH */
	uint64_t ops_posted, ops_done, ops_collected;
	uint32_t bind_slots, inv_slots; /* free ones */
	bool is_flushed;		/* completions that still come are of no interest */

	pthread_mutex_t rq_lock; /* receive queue and its completions */
	bool is_drained;	 /* the receive queue was flushed: no more messages */

	pthread_mutex_t cm_lock; /* the queue pair's life; reading has_qp: any of the three */
	bool has_qp;
	bool is_connected; /* and not yet disconnected */

	pthread_mutex_t event_lock; /* one thread reads events */

	/* The collecting thread's and the receiving thread's own. */
	struct pml_look poll_look, recv_look;
	uint64_t poll_glance_ms, recv_glance_ms;
};

/* An endpoint without an id; its event channel is there. */
int pml_verbs_ep_new(struct pml_verbs_ep **ret_ep) PML_MUST_CHECK;
/* Gives the endpoint's id all that a connection needs.  On failure: close it. */
int pml_verbs_ep_setup(struct pml_verbs_ep *ep) PML_MUST_CHECK;
/* The connection is made. */
void pml_verbs_ep_connected(struct pml_verbs_ep *ep);
/* The connection has ended; harmless when repeated. */
void pml_verbs_ep_end(struct pml_verbs_ep *ep);
int pml_verbs_nonblocking(int fd) PML_MUST_CHECK;
/* @fd: an eventfd(2). */
void pml_verbs_make_readable(int fd);

/* With sq_lock: takes all completions of the send queue that are there. */
void pml_verbs_reap_locked(struct pml_verbs_ep *ep);
/* With sq_lock: posts one work request, signaled.  -ENOTCONN. */
int pml_verbs_post_locked(struct pml_verbs_ep *ep, struct ibv_send_wr *wr) PML_MUST_CHECK;
/* A work request of a window has completed. */
void pml_verbs_window_done_locked(struct pml_verbs_ep *ep, uint64_t wr_id, int status);
/* After it nobody touches the queue pair; the completion queues stay. */
int pml_verbs_destroy_qp(struct pml_verbs_ep *ep) PML_MUST_CHECK;
/* Frees what pml_verbs_destroy() has left of them. */
void pml_verbs_forget_windows(struct pml_verbs_ep *ep);

/*
 * verbs_flush.c, or verbs_noflush.c where rdma-core's headers do not know FLUSH and ATOMIC
 * WRITE: what there is of them.
 */
/* What the device's queue pairs can post, PML_EP_CAN_. */
unsigned int pml_verbs_can(struct ibv_context *verbs);
/* For registrations that FLUSH may be used through. */
unsigned int pml_verbs_flush_access(void);
/* For ibv_qp_init_attr_ex.send_ops_flags, of what pml_verbs_can() said. */
uint64_t pml_verbs_send_ops(unsigned int can);
/* With sq_lock: posts one, signaled.  0 or an errno value.  Assumes: it can. */
int pml_verbs_post_more_locked(struct pml_verbs_ep *ep, const struct pml_data_op *op,
			       uint64_t wr_id) PML_MUST_CHECK;

/* transport.h on an endpoint */
int pml_verbs_key_new(struct pml_ep *base, void *addr, size_t bytes, unsigned int rights,
		      uint32_t *ret_rkey, struct pml_key **ret_key) PML_MUST_CHECK;
int pml_verbs_key_fence(struct pml_key *base, enum pml_ep_fence how) PML_MUST_CHECK;
int pml_verbs_destroy(struct pml_ep *base) PML_MUST_CHECK;
int pml_verbs_local_mr_new(struct pml_ep *base, void *buf, size_t bytes,
			   struct pml_local_mr **ret_mr) PML_MUST_CHECK;
void pml_verbs_local_mr_free(struct pml_local_mr *base);
int pml_verbs_post(struct pml_ep *base, const struct pml_data_op *op) PML_MUST_CHECK;
int pml_verbs_poll(struct pml_ep *base, struct pml_completion *ret, int max,
		   int timeout_ms) PML_MUST_CHECK;
int pml_verbs_send(struct pml_ep *base, const void *msg, size_t bytes, bool is_quiet,
		   int timeout_ms) PML_MUST_CHECK;
int pml_verbs_recv(struct pml_ep *base, void *buf, size_t *ret_bytes,
		   int timeout_ms) PML_MUST_CHECK;
bool pml_verbs_can_look(const struct pml_ep *base);
void pml_verbs_recv_arm(struct pml_ep *base, bool for_quiet);
void pml_verbs_recv_sleep(struct pml_ep *base, int timeout_ms);
void pml_verbs_kill(struct pml_ep *base);
void pml_verbs_close(struct pml_ep *base);

#endif
