/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * verbs_ep.c -- endpoints on RDMA devices
 *
 * Each connection has a protection domain, completion queues and a queue pair
 * of its own.  Its keys, and their ends, are in verbs_key.c.  Message buffers are
 * registered without remote rights.
 *
 * Messages, one-sided operations and the work on memory windows share the send
 * queue.  Its completions are taken by whoever needs them, under sq_lock; those of
 * operations are kept in the ring until pml_ep_poll() hands them out.
 */
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>

#include "verbs.h"
#include "pml/clock.h"
#include "pml/log.h"

/* Receiver not ready: ask again after 0.64 ms.  ibv_modify_qp(3) */
#define RNR_TIMER_CODE 12
/* After the end of a connection the device reports what it flushed within: */
#define FLUSH_MS 1000
/* A waiter looks for completions for so long at most, before it sleeps. */
#define LOOK_US_MAX 400u
/* How often a caller that never sleeps looks for a disconnect: each tick of the kernel. */
#define GLANCE_MS 1u

/* Work-request ids on the send queue: a message's slot, a window, or a data operation. */
#define WR_IS_MSG (UINT64_C(1) << 63)

struct verbs_local_mr {
	struct pml_local_mr base;
	struct ibv_mr *mr;
};

static struct pml_verbs_ep *ep_of(struct pml_ep *base)
{
	return PML_CONTAINER_OF(base, struct pml_verbs_ep, base);
}

int pml_verbs_nonblocking(int fd)
{
	int flags = fcntl(fd, F_GETFL);
	return flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0 ? -errno : 0;
}

void pml_verbs_make_readable(int fd)
{
	uint64_t one = 1;
	/* Cannot fail: the counter is far from full.  eventfd(2) */
	ssize_t n PML_UNUSED = write(fd, &one, sizeof(one));
}

/* ---- the end of a connection -------------------------------------------- */

void pml_verbs_ep_end(struct pml_verbs_ep *ep)
{
	uint64_t never = 0;
	atomic_compare_exchange_strong(&ep->dead_ns, &never, pml_transport_now_ns());
	if (!atomic_exchange(&ep->is_dead, true))
		pml_verbs_make_readable(ep->dead_fd);
	pthread_mutex_lock(&ep->cm_lock);
	if (ep->is_connected && ep->has_qp) {
		/* Moves the queue pair to error, which flushes it, and tells the peer. */
		ep->is_connected = false;
		(void)rdma_disconnect(ep->id);
	}
	pthread_mutex_unlock(&ep->cm_lock);
}

void pml_verbs_kill(struct pml_ep *base)
{
	struct pml_verbs_ep *ep = ep_of(base);
	atomic_store(&ep->is_killed, true);
	pml_verbs_ep_end(ep);
}

/* Has the connection been dead for so long that the device has no more to say? */
static bool is_long_dead(struct pml_verbs_ep *ep)
{
	return pml_transport_now_ns() - atomic_load(&ep->dead_ns) > FLUSH_MS * 1000000ull;
}

static void take_cm_events(struct pml_verbs_ep *ep)
{
	if (pthread_mutex_trylock(&ep->event_lock))
		return;
	struct rdma_cm_event *event;
	while (rdma_get_cm_event(ep->cm, &event) == 0) {
		enum rdma_cm_event_type type = event->event;
		(void)rdma_ack_cm_event(event);
		if (type != RDMA_CM_EVENT_TIMEWAIT_EXIT)
			pml_verbs_ep_end(ep);
	}
	pthread_mutex_unlock(&ep->event_lock);
}

/* ---- waiting ------------------------------------------------------------ */

/*
 * Sleeps until the completion channel (NULL: none) or the connection has news,
 * or the deadline.  On a dead connection, which is always news: a millisecond.
 */
static void wait_for_news(struct pml_verbs_ep *ep, struct ibv_comp_channel *channel,
			  uint64_t deadline_ns)
{
	bool is_dead = atomic_load(&ep->is_dead);
	struct pollfd fds[] = {
		{.fd = channel ? channel->fd : -1, .events = POLLIN},
		{.fd = is_dead ? -1 : ep->dead_fd, .events = POLLIN},
		{.fd = is_dead ? -1 : ep->cm->fd, .events = POLLIN},
	};
	int ms = pml_transport_ms_left(deadline_ns);
	if (is_dead || !channel)
		ms = ms < 0 ? 1 : PML_MIN(ms, 1);
	if (poll(fds, PML_ARRAY_LEN(fds), ms) <= 0)
		return;
	if (fds[0].revents) {
		struct ibv_cq *cq;
		void *context;
		while (ibv_get_cq_event(channel, &cq, &context) == 0)
			ibv_ack_cq_events(cq, 1);
	}
	if (fds[2].revents)
		take_cm_events(ep);
}

/* One wait for completions: first look often, then have the queue wake us, then sleep. */
struct wait {
	struct pml_look_run run;
	uint64_t deadline_ns;
	bool is_armed;
};

static struct wait wait_begin(int timeout_ms, struct pml_look *look)
{
	struct wait w = {.run = pml_look_begin(look)};
	w.deadline_ns =
		timeout_ms < 0 ? PML_NEVER_NS : w.run.start_ns + (uint64_t)timeout_ms * 1000000u;
	w.run.end_ns = PML_MIN(w.run.end_ns, w.deadline_ns);
	return w;
}

static void arm(struct pml_verbs_ep *ep, struct ibv_cq *cq, bool solicited_only)
{
	if (ibv_req_notify_cq(cq, solicited_only))
		pml_verbs_ep_end(ep);
}

/* False: the time is over.  True: look again. */
static bool wait_step(struct pml_verbs_ep *ep, struct wait *w, struct ibv_cq *cq,
		      struct ibv_comp_channel *channel)
{
	if (!w->is_armed && pml_look_again(&w->run))
		return true;
	if (pml_transport_now_ns() >= w->deadline_ns)
		return false;
	/* What came before the queue was armed is found by looking once more. */
	if (w->is_armed)
		wait_for_news(ep, channel, w->deadline_ns);
	w->is_armed = true;
	/* Slept: what woke us may have used up the notification. */
	arm(ep, cq, false);
	return true;
}

/* ---- the send queue ----------------------------------------------------- */

static int status_of(const struct ibv_wc *wc)
{
	if (wc->status == IBV_WC_SUCCESS)
		return 0;
	return wc->status == IBV_WC_REM_ACCESS_ERR ? -EACCES : -ENOTCONN;
}

static int window_status(const struct ibv_wc *wc)
{
	if (wc->status == IBV_WC_SUCCESS)
		return 0;
	return wc->status == IBV_WC_WR_FLUSH_ERR ? -ENOTCONN : -EIO;
}

void pml_verbs_reap_locked(struct pml_verbs_ep *ep)
{
	struct ibv_wc wc[16];
	bool has_failed = false;
	int n;
	do {
		n = ibv_poll_cq(ep->send_cq, PML_ARRAY_LEN(wc), wc);
		for (int i = 0; i < n; i++) {
			has_failed |= wc[i].status != IBV_WC_SUCCESS;
			if (wc[i].wr_id & WR_IS_MSG) {
				ep->free_slots[ep->free_count++] = (uint32_t)wc[i].wr_id;
			} else if (wc[i].wr_id & PML_VERBS_WR_IS_WINDOW) {
				pml_verbs_window_done_locked(ep, wc[i].wr_id,
							     window_status(&wc[i]));
			} else if (!ep->is_flushed) {
				/* A send queue completes in order. */
				assert(wc[i].wr_id == ep->ops_done);
				ep->ops[ep->ops_done++ % PML_DATA_DEPTH].status = status_of(&wc[i]);
			}
		}
	} while (n == PML_ARRAY_LEN(wc));
	if (n < 0 || has_failed)
		pml_verbs_ep_end(ep);
}

int pml_verbs_post_locked(struct pml_verbs_ep *ep, struct ibv_send_wr *wr)
{
	if (atomic_load(&ep->is_dead) || !ep->has_qp)
		return -ENOTCONN;
	struct ibv_send_wr *bad;
	wr->send_flags |= IBV_SEND_SIGNALED;
	if (ibv_post_send(ep->id->qp, wr, &bad) == 0)
		return 0;
	pml_verbs_ep_end(ep);
	return -ENOTCONN;
}

static int send_locked(struct pml_verbs_ep *ep, const void *msg, size_t bytes, bool is_quiet)
{
	if (ep->free_count < PML_MSG_DEPTH / 2)
		pml_verbs_reap_locked(ep);
	if (atomic_load(&ep->is_dead))
		return -ENOTCONN;
	if (ep->free_count == 0)
		return -EAGAIN;
	uint32_t slot = ep->free_slots[ep->free_count - 1];
	char *at = ep->msgs + (size_t)slot * PML_MSG_BYTES_MAX;
	memcpy(at, msg, bytes);
	struct ibv_sge sge = {
		.addr = (uintptr_t)at,
		.length = (uint32_t)bytes,
		.lkey = ep->msgs_mr->lkey,
	};
	struct ibv_send_wr wr = {
		.wr_id = WR_IS_MSG | slot,
		.sg_list = &sge,
		.num_sge = 1,
		.opcode = IBV_WR_SEND,
		.send_flags = is_quiet ? 0 : IBV_SEND_SOLICITED,
	};
	int err = pml_verbs_post_locked(ep, &wr);
	if (!err)
		ep->free_count--;
	return err;
}

int pml_verbs_send(struct pml_ep *base, const void *msg, size_t bytes, bool is_quiet,
		   int timeout_ms)
{
	struct pml_verbs_ep *ep = ep_of(base);
	uint64_t deadline_ns = pml_transport_deadline_ns(timeout_ms);
	for (;;) {
		pthread_mutex_lock(&ep->sq_lock);
		int err = send_locked(ep, msg, bytes, is_quiet);
		pthread_mutex_unlock(&ep->sq_lock);
		if (err != -EAGAIN)
			return err;
		if (pml_transport_now_ns() >= deadline_ns)
			return -ETIMEDOUT;
		/* Rare: the peer is slow to receive.  The completion events are the collector's. */
		wait_for_news(ep, NULL, deadline_ns);
	}
}

/* With sq_lock. */
static int post_op_locked(struct pml_verbs_ep *ep, const struct pml_data_op *op, uint64_t wr_id)
{
	if (op->kind == PML_DATA_FLUSH || op->kind == PML_DATA_ATOMIC_WRITE) {
		if (atomic_load(&ep->is_dead) || !ep->has_qp)
			return -ENOTCONN;
		if (pml_verbs_post_more_locked(ep, op, wr_id) == 0)
			return 0;
		pml_verbs_ep_end(ep);
		return -ENOTCONN;
	}
	struct ibv_sge sge = {
		.addr = (uintptr_t)op->buf,
		.length = op->bytes,
		.lkey = PML_CONTAINER_OF(op->mr, struct verbs_local_mr, base)->mr->lkey,
	};
	struct ibv_send_wr wr = {
		.wr_id = wr_id,
		.sg_list = &sge,
		.num_sge = 1,
		.opcode = op->kind == PML_DATA_WRITE ? IBV_WR_RDMA_WRITE : IBV_WR_RDMA_READ,
		.wr.rdma.remote_addr = op->remote_addr,
		.wr.rdma.rkey = op->rkey,
	};
	return pml_verbs_post_locked(ep, &wr);
}

int pml_verbs_post(struct pml_ep *base, const struct pml_data_op *op)
{
	struct pml_verbs_ep *ep = ep_of(base);
	pthread_mutex_lock(&ep->sq_lock);
	int err = -EAGAIN;
	if (ep->ops_posted - ep->ops_collected < PML_DATA_DEPTH) {
		err = post_op_locked(ep, op, ep->ops_posted);
	} else if (atomic_load(&ep->is_dead)) {
		err = -ENOTCONN;
	}
	if (!err)
		ep->ops[ep->ops_posted++ % PML_DATA_DEPTH].cookie = op->cookie;
	pthread_mutex_unlock(&ep->sq_lock);
	return err;
}

/* What the device has not flushed in time: without a queue pair it touches no buffer. */
static void flush(struct pml_verbs_ep *ep)
{
	/* A client's: it has no windows. */
	if (pml_verbs_destroy_qp(ep))
		return;
	pthread_mutex_lock(&ep->sq_lock);
	pml_verbs_reap_locked(ep);
	while (ep->ops_done < ep->ops_posted)
		ep->ops[ep->ops_done++ % PML_DATA_DEPTH].status = -ENOTCONN;
	ep->is_flushed = true;
	pthread_mutex_unlock(&ep->sq_lock);
}

/* Completions that are there: their number; 0: none yet; -ENOTCONN: none will be. */
static int collect(struct pml_verbs_ep *ep, struct pml_completion *ret, int max)
{
	int n = 0;
	bool is_dead = atomic_load(&ep->is_dead);
	pthread_mutex_lock(&ep->sq_lock);
	pml_verbs_reap_locked(ep);
	for (; n < max && ep->ops_collected < ep->ops_done; n++) {
		const struct pml_verbs_op *op = &ep->ops[ep->ops_collected++ % PML_DATA_DEPTH];
		ret[n] = (struct pml_completion){.cookie = op->cookie, .status = op->status};
	}
	bool is_idle = ep->ops_collected == ep->ops_posted;
	pthread_mutex_unlock(&ep->sq_lock);
	if (n > 0 || !is_dead)
		return n;
	if (is_idle)
		return -ENOTCONN;
	if (is_long_dead(ep))
		flush(ep);
	return 0;
}

/* A caller that never sleeps must learn of a disconnect too. */
static void glance(struct pml_verbs_ep *ep, uint64_t *last_ms)
{
	uint64_t now_ms = pml_now_coarse_ms();
	if (now_ms - *last_ms < GLANCE_MS)
		return;
	*last_ms = now_ms;
	take_cm_events(ep);
}

int pml_verbs_poll(struct pml_ep *base, struct pml_completion *ret, int max, int timeout_ms)
{
	struct pml_verbs_ep *ep = ep_of(base);
	int n = collect(ep, ret, max);
	if (n == 0 && timeout_ms == 0)
		glance(ep, &ep->poll_glance_ms);
	if (n != 0 || timeout_ms == 0)
		return n;
	struct wait w = wait_begin(timeout_ms, &ep->poll_look);
	while (wait_step(ep, &w, ep->send_cq, ep->send_channel)) {
		n = collect(ep, ret, max);
		if (n != 0)
			break;
	}
	pml_look_end(&ep->poll_look, &w.run);
	return n;
}

/* ---- the receive queue -------------------------------------------------- */

static char *recv_slot(const struct pml_verbs_ep *ep, uint64_t slot)
{
	return ep->msgs + (PML_MSG_DEPTH + slot) * PML_MSG_BYTES_MAX;
}

static int post_recv_locked(struct pml_verbs_ep *ep, uint64_t slot)
{
	struct ibv_sge sge = {
		.addr = (uintptr_t)recv_slot(ep, slot),
		.length = PML_MSG_BYTES_MAX,
		.lkey = ep->msgs_mr->lkey,
	};
	struct ibv_recv_wr wr = {.wr_id = slot, .sg_list = &sge, .num_sge = 1};
	struct ibv_recv_wr *bad;
	if (!ep->has_qp)
		return -ENOTCONN;
	return -ibv_post_recv(ep->id->qp, &wr, &bad);
}

/* 1: a message; 0: none yet; -ENOTCONN: none will come. */
static int take_msg_locked(struct pml_verbs_ep *ep, void *buf, size_t *ret_bytes)
{
	struct ibv_wc wc;
	if (ep->is_drained)
		return -ENOTCONN;
	int n = ibv_poll_cq(ep->recv_cq, 1, &wc);
	if (n == 0)
		return 0;
	/* The peer's empty message is against the rules; a flush follows all that arrived. */
	if (n < 0 || wc.status != IBV_WC_SUCCESS || wc.byte_len == 0) {
		ep->is_drained = true;
		return -ENOTCONN;
	}
	assert(wc.byte_len <= PML_MSG_BYTES_MAX && wc.wr_id < PML_MSG_DEPTH);
	memcpy(buf, recv_slot(ep, wc.wr_id), wc.byte_len);
	*ret_bytes = wc.byte_len;
	int err = post_recv_locked(ep, wc.wr_id);
	(void)err; /* a queue pair that takes no more is at its end, and shows it */
	return 1;
}

static int take_msg(struct pml_verbs_ep *ep, void *buf, size_t *ret_bytes)
{
	if (atomic_load(&ep->is_killed))
		return -ENOTCONN;
	bool is_last_look = atomic_load(&ep->is_dead) && is_long_dead(ep);
	pthread_mutex_lock(&ep->rq_lock);
	int n = take_msg_locked(ep, buf, ret_bytes);
	pthread_mutex_unlock(&ep->rq_lock);
	if (n == 0 && is_last_look)
		n = -ENOTCONN;
	if (n < 0)
		pml_verbs_ep_end(ep);
	return n;
}

int pml_verbs_recv(struct pml_ep *base, void *buf, size_t *ret_bytes, int timeout_ms)
{
	struct pml_verbs_ep *ep = ep_of(base);
	int n = take_msg(ep, buf, ret_bytes);
	if (n == 0 && timeout_ms == 0)
		glance(ep, &ep->recv_glance_ms);
	if (n != 0 || timeout_ms == 0)
		return n > 0 ? 0 : n < 0 ? n : -ETIMEDOUT;
	struct wait w = wait_begin(timeout_ms, &ep->recv_look);
	while (wait_step(ep, &w, ep->recv_cq, ep->recv_channel)) {
		n = take_msg(ep, buf, ret_bytes);
		if (n != 0)
			break;
	}
	pml_look_end(&ep->recv_look, &w.run);
	return n > 0 ? 0 : n < 0 ? n : -ETIMEDOUT;
}

bool pml_verbs_can_look(const struct pml_ep *base)
{
	return true;
}

void pml_verbs_recv_arm(struct pml_ep *base, bool for_quiet)
{
	struct pml_verbs_ep *ep = ep_of(base);
	arm(ep, ep->recv_cq, !for_quiet);
}

void pml_verbs_recv_sleep(struct pml_ep *base, int timeout_ms)
{
	struct pml_verbs_ep *ep = ep_of(base);
	wait_for_news(ep, ep->recv_channel, pml_transport_deadline_ns(timeout_ms));
}

/* ---- buffers ------------------------------------------------------------ */

int pml_verbs_local_mr_new(struct pml_ep *base, void *buf, size_t bytes,
			   struct pml_local_mr **ret_mr)
{
	struct verbs_local_mr *mr = malloc(sizeof(*mr));
	if (!mr)
		return -ENOMEM;
	mr->base = (struct pml_local_mr){.ep = base, .buf = buf, .bytes = bytes};
	mr->mr = ibv_reg_mr(ep_of(base)->pd, buf, bytes, IBV_ACCESS_LOCAL_WRITE);
	if (!mr->mr) {
		int err = -errno;
		free(mr);
		return err;
	}
	*ret_mr = &mr->base;
	return 0;
}

void pml_verbs_local_mr_free(struct pml_local_mr *base)
{
	struct verbs_local_mr *mr = PML_CONTAINER_OF(base, struct verbs_local_mr, base);
	int rc = ibv_dereg_mr(mr->mr);
	if (rc)
		pml_log_error("deregistering a transfer buffer failed: %s", strerrordesc_np(rc));
	free(mr);
}

/* ---- life -------------------------------------------------------------- */

/* Frees what there is; also an endpoint that pml_verbs_ep_setup() left half made. */
void pml_verbs_close(struct pml_ep *base)
{
	struct pml_verbs_ep *ep = ep_of(base);
	int err = pml_verbs_destroy(base);
	assert(atomic_load(&ep->keys_count) == 0);
	if (err) {
		/* Freeing what a device still uses would be worse than to lose it. */
		pml_log_error("%s: the connection cannot be destroyed: %s", base->peer,
			      strerrordesc_np(-err));
		return;
	}
	pml_verbs_forget_windows(ep);
	if (ep->msgs_mr)
		(void)ibv_dereg_mr(ep->msgs_mr);
	if (ep->send_cq)
		(void)ibv_destroy_cq(ep->send_cq);
	if (ep->recv_cq)
		(void)ibv_destroy_cq(ep->recv_cq);
	if (ep->send_channel)
		(void)ibv_destroy_comp_channel(ep->send_channel);
	if (ep->recv_channel)
		(void)ibv_destroy_comp_channel(ep->recv_channel);
	if (ep->pd && ibv_dealloc_pd(ep->pd))
		pml_log_error("%s: a protection domain could not be freed", ep->base.peer);
	if (ep->id)
		(void)rdma_destroy_id(ep->id);
	if (ep->cm)
		rdma_destroy_event_channel(ep->cm);
	(void)close(ep->dead_fd);
	pthread_mutex_destroy(&ep->sq_lock);
	pthread_mutex_destroy(&ep->rq_lock);
	pthread_mutex_destroy(&ep->cm_lock);
	pthread_mutex_destroy(&ep->event_lock);
	pthread_mutex_destroy(&ep->key_lock);
	free(ep->msgs);
	free(ep);
}

/* An endpoint without connection; @cm is its event channel. */
int pml_verbs_ep_new(struct pml_verbs_ep **ret_ep)
{
	int dead_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (dead_fd < 0)
		return -errno;
	struct pml_verbs_ep *ep = calloc(1, sizeof(*ep));
	if (!ep) {
		(void)close(dead_fd);
		return -ENOMEM;
	}
	ep->base.ops = &pml_verbs_ops;
	ep->dead_fd = dead_fd;
	pml_look_init(&ep->poll_look, LOOK_US_MAX);
	pml_look_init(&ep->recv_look, LOOK_US_MAX);
	pthread_mutex_init(&ep->sq_lock, NULL);
	pthread_mutex_init(&ep->rq_lock, NULL);
	pthread_mutex_init(&ep->cm_lock, NULL);
	pthread_mutex_init(&ep->event_lock, NULL);
	pthread_mutex_init(&ep->key_lock, NULL);
	ep->cm = rdma_create_event_channel();
	int err = ep->cm ? pml_verbs_nonblocking(ep->cm->fd) : -errno;
	if (err)
		pml_verbs_close(&ep->base);
	else
		*ret_ep = ep;
	return err;
}

static int make_queues(struct pml_verbs_ep *ep)
{
	struct ibv_context *verbs = ep->id->verbs;
	int send_depth = PML_DATA_DEPTH + PML_MSG_DEPTH;
	if (ep->base.plan.method == PML_BY_WINDOW && ep->is_server) {
		ep->bind_slots = PML_VERBS_BIND_SLOTS;
		ep->inv_slots = PML_VERBS_INV_SLOTS;
		send_depth += PML_VERBS_BIND_SLOTS + PML_VERBS_INV_SLOTS;
	}
	ep->pd = ibv_alloc_pd(verbs);
	if (!ep->pd)
		return -errno;
	ep->send_channel = ibv_create_comp_channel(verbs);
	ep->recv_channel = ibv_create_comp_channel(verbs);
	if (!ep->send_channel || !ep->recv_channel)
		return -errno;
	int err = pml_verbs_nonblocking(ep->send_channel->fd);
	if (!err)
		err = pml_verbs_nonblocking(ep->recv_channel->fd);
	if (err)
		return err;
	ep->send_cq = ibv_create_cq(verbs, send_depth, NULL, ep->send_channel, 0);
	ep->recv_cq = ibv_create_cq(verbs, PML_MSG_DEPTH, NULL, ep->recv_channel, 0);
	if (!ep->send_cq || !ep->recv_cq)
		return -errno;
	struct ibv_qp_init_attr_ex attr = {
		.comp_mask = IBV_QP_INIT_ATTR_PD,
		.pd = ep->pd,
		.send_cq = ep->send_cq,
		.recv_cq = ep->recv_cq,
		.cap = {.max_send_wr = (uint32_t)send_depth,
			.max_recv_wr = PML_MSG_DEPTH,
			.max_send_sge = 1,
			.max_recv_sge = 1},
		.qp_type = IBV_QPT_RC,
	};
	/* Only a client posts them; a queue pair for them may be one of another kind. */
	ep->base.can = ep->is_server ? 0 : pml_verbs_can(verbs);
	if (ep->base.can) {
		attr.comp_mask |= IBV_QP_INIT_ATTR_SEND_OPS_FLAGS;
		attr.send_ops_flags = pml_verbs_send_ops(ep->base.can);
	}
	if (rdma_create_qp_ex(ep->id, &attr))
		return -errno;
	ep->has_qp = true;
	return 0;
}

static int make_msgs(struct pml_verbs_ep *ep)
{
	size_t bytes = 2 * PML_MSG_DEPTH * PML_MSG_BYTES_MAX;
	ep->msgs = aligned_alloc(PML_BLOCK_BYTES, bytes);
	if (!ep->msgs)
		return -ENOMEM;
	memset(ep->msgs, 0, bytes);
	ep->msgs_mr = ibv_reg_mr(ep->pd, ep->msgs, bytes, IBV_ACCESS_LOCAL_WRITE);
	if (!ep->msgs_mr)
		return -errno;
	for (uint32_t slot = 0; slot < PML_MSG_DEPTH; slot++) {
		ep->free_slots[ep->free_count++] = slot;
		int err = post_recv_locked(ep, slot);
		if (err)
			return err;
	}
	return 0;
}

/* Gives the endpoint's id all that a connection needs. */
int pml_verbs_ep_setup(struct pml_verbs_ep *ep)
{
	pml_transport_peer_text(rdma_get_peer_addr(ep->id), ep->base.peer);
	int err = make_queues(ep);
	return err ? err : make_msgs(ep);
}

void pml_verbs_ep_connected(struct pml_verbs_ep *ep)
{
	/* The default of the connection manager is 655 ms.  Only speed depends on it. */
	struct ibv_qp_attr attr = {.min_rnr_timer = RNR_TIMER_CODE};
	(void)ibv_modify_qp(ep->id->qp, &attr, IBV_QP_MIN_RNR_TIMER);
	pthread_mutex_lock(&ep->cm_lock);
	ep->is_connected = true;
	pthread_mutex_unlock(&ep->cm_lock);
}
