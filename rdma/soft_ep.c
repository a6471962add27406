/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * soft_ep.c -- endpoints of the software fabric: frames out and in
 *
 * Sending: whoever holds the transmit token writes one whole frame.  Between
 * two frames messages overtake data, so that a recall does not wait for a
 * megabyte.  A frame that cannot be finished ends the connection.
 *
 * Receiving: one thread reads the socket and never waits for the program:
 * messages go to a bounded queue (the peer sends no more than it has credits
 * for, or the connection ends), data goes straight to where it belongs.
 * That thread also completes operations, in posting order, and when it ends
 * it flushes the rest: then nothing touches their buffers any more.
 */
#include <poll.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>

#include "soft.h"
#include "thread.h"

/* A peer that takes no byte for so long is treated as dead. */
#define STALL_MS 30000
/* Credits are returned in lots, on any frame or with one of their own. */
#define CREDIT_LOT	(PML_MSG_DEPTH / 2)
#define CREDIT_RETRY_MS 50

static struct pml_soft_ep *ep_of(struct pml_ep *base)
{
	return PML_CONTAINER_OF(base, struct pml_soft_ep, base);
}

uint64_t pml_soft_stall_deadline_ns(void)
{
	return pml_transport_deadline_ns(STALL_MS);
}

/* ---- frames ------------------------------------------------------------- */

void pml_soft_frame_init(struct pml_soft_frame *frame, enum pml_soft_frame_type type)
{
	*frame = (struct pml_soft_frame){.magic = PML_SOFT_MAGIC, .version = PML_SOFT_VERSION};
	frame->type = (uint16_t)type;
}

static bool has_op_fields(const struct pml_soft_frame *f)
{
	return f->op || f->op_bytes || f->remote_addr || f->rkey;
}

/* An operation: the address is the key's business (soft_nic.c). */
static bool is_good_size(const struct pml_soft_frame *f)
{
	return f->op_bytes > 0 && f->op_bytes <= PML_DATA_BYTES_MAX && f->bytes <= f->op_bytes;
}

int pml_soft_frame_check(const struct pml_soft_frame *f, bool at_server)
{
	if (f->magic != PML_SOFT_MAGIC || f->version != PML_SOFT_VERSION ||
	    f->credits > PML_MSG_DEPTH)
		return -EPROTO;

	bool is_result = !f->op_bytes && !f->remote_addr && !f->rkey;
	bool is_good;
	switch (f->type) {
	case PML_SOFT_HELLO:
		is_good = f->bytes == 0 && f->credits == 0 && !has_op_fields(f);
		break;
	case PML_SOFT_MSG:
	case PML_SOFT_QUIET_MSG:
		is_good = f->bytes > 0 && f->bytes <= PML_MSG_BYTES_MAX && !has_op_fields(f);
		break;
	case PML_SOFT_CREDIT:
		is_good = f->bytes == 0 && f->credits > 0 && !has_op_fields(f);
		break;
	case PML_SOFT_READ:
		is_good = at_server && f->bytes == 0 && is_good_size(f);
		break;
	case PML_SOFT_WRITE:
		is_good = at_server && f->bytes > 0 && f->bytes <= PML_SOFT_PIECE_BYTES &&
			  is_good_size(f);
		break;
	case PML_SOFT_FLUSH:
		is_good = at_server && f->bytes == 0 && is_good_size(f);
		break;
	case PML_SOFT_ATOMIC_WRITE:
		is_good = at_server && f->bytes == PML_ATOMIC_WRITE_BYTES &&
			  f->op_bytes == PML_ATOMIC_WRITE_BYTES &&
			  f->remote_addr % PML_ATOMIC_WRITE_BYTES == 0 && is_good_size(f);
		break;
	case PML_SOFT_DATA:
		is_good =
			!at_server && f->bytes > 0 && f->bytes <= PML_SOFT_PIECE_BYTES && is_result;
		break;
	case PML_SOFT_ACK:
	case PML_SOFT_NAK:
		is_good = !at_server && f->bytes == 0 && is_result;
		break;
	default:
		is_good = false;
	}
	return is_good ? 0 : -EPROTO;
}

/* ---- end of a connection ------------------------------------------------ */

static void wake_all_locked(struct pml_soft_ep *ep)
{
	pthread_cond_broadcast(&ep->tx_cond);
	pthread_cond_broadcast(&ep->recv_cond);
	pthread_cond_broadcast(&ep->done_cond);
	pthread_cond_broadcast(&ep->access_cond);
}

void pml_soft_ep_kill(struct pml_ep *base)
{
	struct pml_soft_ep *ep = ep_of(base);
	pthread_mutex_lock(&ep->lock);
	ep->is_dead = true;
	ep->is_killed = true;
	wake_all_locked(ep);
	pthread_mutex_unlock(&ep->lock);
	/* Wakes every thread that waits in the kernel for this socket. */
	(void)shutdown(ep->fd, SHUT_RDWR);
}

/* ---- sending ------------------------------------------------------------ */

int pml_soft_tx_take(struct pml_soft_ep *ep)
{
	pthread_mutex_lock(&ep->lock);
	int err = 0;
	while (!err && !ep->is_dead && (ep->is_tx_busy || ep->tx_msgs_waiting > 0))
		err = pml_transport_cond_wait(&ep->tx_cond, &ep->lock, PML_NEVER_NS);
	if (ep->is_dead)
		err = -ENOTCONN;
	if (!err)
		ep->is_tx_busy = true;
	pthread_mutex_unlock(&ep->lock);
	return err;
}

/* The token and one credit, to send a message. */
static int take_for_msg(struct pml_soft_ep *ep, uint64_t deadline_ns)
{
	pthread_mutex_lock(&ep->lock);
	int err = 0;
	while (!err && !ep->is_dead && (ep->credits == 0 || ep->is_tx_busy)) {
		/* Without a credit it must not hold up the data. */
		bool is_next = ep->credits > 0;
		ep->tx_msgs_waiting += is_next;
		err = pml_transport_cond_wait(&ep->tx_cond, &ep->lock, deadline_ns);
		ep->tx_msgs_waiting -= is_next;
	}
	if (ep->is_dead)
		err = -ENOTCONN;
	else if (ep->credits > 0 && !ep->is_tx_busy)
		err = 0;
	if (!err) {
		ep->is_tx_busy = true;
		ep->credits--;
	}
	pthread_cond_broadcast(&ep->tx_cond);
	pthread_mutex_unlock(&ep->lock);
	return err;
}

/* Lets @frame carry the credits that are due. */
static void load_credits(struct pml_soft_ep *ep, struct pml_soft_frame *frame)
{
	pthread_mutex_lock(&ep->lock);
	frame->credits = ep->owed_credits;
	ep->owed_credits = 0;
	pthread_mutex_unlock(&ep->lock);
}

static void unload_credits(struct pml_soft_ep *ep, const struct pml_soft_frame *frame)
{
	pthread_mutex_lock(&ep->lock);
	ep->owed_credits += frame->credits;
	pthread_mutex_unlock(&ep->lock);
}

int pml_soft_tx_once(struct pml_soft_ep *ep, struct pml_soft_out *out)
{
	struct pml_soft_frame *frame = out->frame;
	if (out->done_bytes == 0)
		load_credits(ep, frame);
	while (out->done_bytes < sizeof(*frame) + frame->bytes) {
		bool has_header = out->done_bytes < sizeof(*frame);
		size_t sent_bytes = has_header ? 0 : out->done_bytes - sizeof(*frame);
		struct iovec iov[2] = {
			{(char *)frame + out->done_bytes, sizeof(*frame) - out->done_bytes},
			/* sendmsg(2) only reads what it is given. */
			{(char *)(uintptr_t)out->payload + sent_bytes, frame->bytes - sent_bytes},
		};
		struct msghdr msg = {
			.msg_iov = has_header ? iov : iov + 1,
			.msg_iovlen = has_header ? 2 : 1,
		};
		ssize_t n = sendmsg(ep->fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0) {
			bool is_full = errno == EAGAIN;
			if (out->done_bytes == 0)
				unload_credits(ep, frame);
			/* Whatever the reason was, nothing may follow half a frame. */
			if (!is_full)
				(void)shutdown(ep->fd, SHUT_WR);
			return is_full ? -EAGAIN : -ENOTCONN;
		}
		out->done_bytes += (size_t)n;
	}
	return 0;
}

int pml_soft_tx_room(struct pml_soft_ep *ep, uint64_t deadline_ns)
{
	struct pollfd p = {.fd = ep->fd, .events = POLLOUT};
	int n;
	do {
		n = poll(&p, 1, pml_transport_ms_left(deadline_ns));
	} while (n < 0 && errno == EINTR);
	return n == 0 ? -ETIMEDOUT : 0;
}

/* The token's holder sends a frame.  -ETIMEDOUT: nothing was sent. */
static int send_frame(struct pml_soft_ep *ep, struct pml_soft_out *out, uint64_t deadline_ns)
{
	for (;;) {
		int err = pml_soft_tx_once(ep, out);
		if (err != -EAGAIN)
			return err;
		if (pml_soft_tx_room(ep, deadline_ns)) {
			if (out->done_bytes == 0)
				return -ETIMEDOUT;
			/* Half a frame is out: nothing can follow it. */
			pml_soft_ep_kill(&ep->base);
			return -ENOTCONN;
		}
	}
}

int pml_soft_tx_data(struct pml_soft_ep *ep, struct pml_soft_frame *frame, const void *payload)
{
	int err = pml_soft_tx_take(ep);
	if (err)
		return err;
	struct pml_soft_out out = {.frame = frame, .payload = payload};
	err = send_frame(ep, &out, pml_soft_stall_deadline_ns());
	if (err == -ETIMEDOUT) {
		pml_soft_ep_kill(&ep->base);
		err = -ENOTCONN;
	}
	pml_soft_tx_release(ep);
	return err;
}

/* The token's holder gives back a lot of credits, if there is room in the socket. */
static void send_credits(struct pml_soft_ep *ep)
{
	struct pml_soft_frame frame;
	pml_soft_frame_init(&frame, PML_SOFT_CREDIT);
	struct pml_soft_out out = {.frame = &frame};
	int err = pml_soft_tx_once(ep, &out);
	/* A header in two parts: as good as impossible, and bounded. */
	if (err == -EAGAIN && out.done_bytes > 0)
		err = send_frame(ep, &out, pml_transport_deadline_ns(CREDIT_RETRY_MS));
	(void)err; /* later frames carry them, and a broken socket shows on reading */
}

void pml_soft_tx_release(struct pml_soft_ep *ep)
{
	pthread_mutex_lock(&ep->lock);
	if (ep->owed_credits >= CREDIT_LOT && !ep->is_dead) {
		pthread_mutex_unlock(&ep->lock);
		send_credits(ep);
		pthread_mutex_lock(&ep->lock);
	}
	ep->is_tx_busy = false;
	pthread_cond_broadcast(&ep->tx_cond);
	pthread_mutex_unlock(&ep->lock);
}

/* Called after messages were taken; a busy token's holder does it on release. */
static void return_credits_locked(struct pml_soft_ep *ep)
{
	if (ep->owed_credits < CREDIT_LOT || ep->is_tx_busy || ep->is_dead)
		return;
	ep->is_tx_busy = true;
	pthread_mutex_unlock(&ep->lock);
	pml_soft_tx_release(ep);
	pthread_mutex_lock(&ep->lock);
}

int pml_soft_ep_send(struct pml_ep *base, const void *msg, size_t bytes, bool is_quiet,
		     int timeout_ms)
{
	struct pml_soft_ep *ep = ep_of(base);
	uint64_t deadline_ns = pml_transport_deadline_ns(timeout_ms);
	if (ep->is_server && pml_soft_fault_take(PML_SOFT_FAULT_DROP_SERVER_MSG))
		return 0;
	int err = take_for_msg(ep, deadline_ns);
	if (err)
		return err;

	struct pml_soft_frame frame;
	pml_soft_frame_init(&frame, is_quiet ? PML_SOFT_QUIET_MSG : PML_SOFT_MSG);
	frame.bytes = (uint32_t)bytes;
	struct pml_soft_out out = {.frame = &frame, .payload = msg};
	/* POLLOUT means room for far more than a message: no half frame at the deadline. */
	err = pml_soft_tx_room(ep, deadline_ns);
	if (!err)
		err = send_frame(ep, &out, deadline_ns);
	if (err) {
		pthread_mutex_lock(&ep->lock);
		ep->credits++;
		pthread_mutex_unlock(&ep->lock);
	}
	pml_soft_tx_release(ep);
	return err;
}

/* ---- receiving messages ------------------------------------------------- */

static bool has_msg_locked(const struct pml_soft_ep *ep)
{
	return ep->msgs_in != ep->msgs_out || ep->is_rx_gone || ep->is_killed;
}

static bool has_news_locked(const struct pml_soft_ep *ep)
{
	return ep->has_news || ep->is_rx_gone || ep->is_killed;
}

static void wait_locked(struct pml_soft_ep *ep, bool (*is_over)(const struct pml_soft_ep *ep),
			uint64_t deadline_ns)
{
	while (!is_over(ep)) {
		return_credits_locked(ep);
		if (is_over(ep) || pml_transport_now_ns() >= deadline_ns)
			return;
		uint64_t wake_ns = deadline_ns;
		if (ep->owed_credits >= CREDIT_LOT)
			wake_ns = PML_MIN(wake_ns, pml_transport_deadline_ns(CREDIT_RETRY_MS));
		int err = pml_transport_cond_wait(&ep->recv_cond, &ep->lock, wake_ns);
		(void)err; /* the clock is asked above */
	}
}

int pml_soft_ep_recv(struct pml_ep *base, void *buf, size_t *ret_bytes, int timeout_ms)
{
	struct pml_soft_ep *ep = ep_of(base);
	uint64_t deadline_ns = pml_transport_deadline_ns(timeout_ms);
	pthread_mutex_lock(&ep->lock);
	wait_locked(ep, has_msg_locked, deadline_ns);
	int err = -ETIMEDOUT;
	if (ep->is_killed || (ep->msgs_in == ep->msgs_out && ep->is_rx_gone)) {
		err = -ENOTCONN;
	} else if (ep->msgs_in != ep->msgs_out) {
		const struct pml_soft_msg *msg = &ep->msgs[ep->msgs_out % PML_MSG_DEPTH];
		memcpy(buf, msg->data, msg->bytes);
		*ret_bytes = msg->bytes;
		ep->msgs_out++;
		ep->owed_credits++;
		return_credits_locked(ep);
		err = 0;
	}
	pthread_mutex_unlock(&ep->lock);
	return err;
}

static atomic_bool is_looking_let;

void pml_soft_let_look(bool lets_look)
{
	atomic_store(&is_looking_let, lets_look);
}

bool pml_soft_ep_can_look(const struct pml_ep *base)
{
	return atomic_load(&is_looking_let);
}

void pml_soft_ep_recv_arm(struct pml_ep *base, bool for_quiet)
{
	struct pml_soft_ep *ep = ep_of(base);
	pthread_mutex_lock(&ep->lock);
	ep->is_for_quiet = for_quiet;
	pthread_mutex_unlock(&ep->lock);
}

void pml_soft_ep_recv_sleep(struct pml_ep *base, int timeout_ms)
{
	struct pml_soft_ep *ep = ep_of(base);
	uint64_t deadline_ns = pml_transport_deadline_ns(timeout_ms);
	pthread_mutex_lock(&ep->lock);
	wait_locked(ep, has_news_locked, deadline_ns);
	ep->has_news = false;
	pthread_mutex_unlock(&ep->lock);
}

/* ---- the client's operations -------------------------------------------- */

/* Sends the frames of an operation.  On failure the receive thread flushes it. */
static void send_op(struct pml_soft_ep *ep, const struct pml_data_op *op, uint64_t number)
{
	static const enum pml_soft_frame_type types[] = {
		[PML_DATA_READ] = PML_SOFT_READ,
		[PML_DATA_WRITE] = PML_SOFT_WRITE,
		[PML_DATA_FLUSH] = PML_SOFT_FLUSH,
		[PML_DATA_ATOMIC_WRITE] = PML_SOFT_ATOMIC_WRITE,
	};
	struct pml_soft_frame frame;
	pml_soft_frame_init(&frame, types[op->kind]);
	frame.op = number;
	frame.rkey = op->rkey;
	frame.op_bytes = op->bytes;
	frame.remote_addr = op->remote_addr;
	if (op->kind == PML_DATA_READ || op->kind == PML_DATA_FLUSH) {
		int err = pml_soft_tx_data(ep, &frame, NULL);
		(void)err;
		return;
	}
	for (uint32_t done_bytes = 0; done_bytes < op->bytes;) {
		frame.bytes = PML_MIN(op->bytes - done_bytes, PML_SOFT_PIECE_BYTES);
		frame.remote_addr = op->remote_addr + done_bytes;
		if (pml_soft_tx_data(ep, &frame, (const char *)op->buf + done_bytes))
			return;
		done_bytes += frame.bytes;
	}
}

int pml_soft_ep_post(struct pml_ep *base, const struct pml_data_op *op)
{
	struct pml_soft_ep *ep = ep_of(base);
	pthread_mutex_lock(&ep->post_lock);
	pthread_mutex_lock(&ep->lock);
	int err = 0;
	uint64_t number = ep->ops_posted;
	if (ep->is_dead) {
		err = -ENOTCONN;
	} else if (number - ep->ops_collected >= PML_DATA_DEPTH) {
		err = -EAGAIN;
	} else {
		ep->ops[number % PML_DATA_DEPTH] = (struct pml_soft_op){
			.buf = op->buf,
			.cookie = op->cookie,
			.bytes = op->bytes,
			.is_read = op->kind == PML_DATA_READ,
		};
		ep->ops_posted++;
	}
	pthread_mutex_unlock(&ep->lock);
	if (!err) {
		send_op(ep, op, number);
		pthread_mutex_lock(&ep->lock);
		ep->ops_sent = number + 1;
		pthread_mutex_unlock(&ep->lock);
		pthread_cond_signal(&ep->done_cond);
	}
	pthread_mutex_unlock(&ep->post_lock);
	return err;
}

static int collect_locked(struct pml_soft_ep *ep, struct pml_completion *ret, int max)
{
	int n = 0;
	uint64_t end = PML_MIN(ep->ops_done, ep->ops_sent);
	for (; n < max && ep->ops_collected < end; n++) {
		const struct pml_soft_op *op = &ep->ops[ep->ops_collected++ % PML_DATA_DEPTH];
		ret[n] = (struct pml_completion){.cookie = op->cookie, .status = op->status};
	}
	return n;
}

int pml_soft_ep_poll(struct pml_ep *base, struct pml_completion *ret, int max, int timeout_ms)
{
	struct pml_soft_ep *ep = ep_of(base);
	uint64_t deadline_ns = timeout_ms ? pml_transport_deadline_ns(timeout_ms) : 0;
	pthread_mutex_lock(&ep->lock);
	int n = collect_locked(ep, ret, max);
	int err = 0;
	while (n == 0 && !err) {
		if (ep->is_rx_gone && ep->ops_collected == ep->ops_posted)
			err = -ENOTCONN;
		else if (timeout_ms == 0)
			err = -ETIMEDOUT;
		else
			err = pml_transport_cond_wait(&ep->done_cond, &ep->lock, deadline_ns);
		n = collect_locked(ep, ret, max);
	}
	pthread_mutex_unlock(&ep->lock);
	if (n > 0)
		return n;
	return err == -ENOTCONN ? err : 0;
}

/* ---- the receive thread ------------------------------------------------- */

/* Reads ahead, at least one byte. */
static int stage(struct pml_soft_ep *ep)
{
	ssize_t n;
	do {
		n = recv(ep->fd, ep->staged, sizeof(ep->staged), 0);
	} while (n < 0 && errno == EINTR);
	if (n <= 0)
		return -ENOTCONN;
	ep->staged_from = 0;
	ep->staged_to = (size_t)n;
	return 0;
}

int pml_soft_rx_bytes(struct pml_soft_ep *ep, void *buf, size_t bytes)
{
	char *to = buf;
	size_t n = PML_MIN(bytes, ep->staged_to - ep->staged_from);
	memcpy(to, ep->staged + ep->staged_from, n);
	ep->staged_from += n;
	for (to += n, bytes -= n; bytes > 0;) {
		ssize_t got = recv(ep->fd, to, bytes, MSG_WAITALL);
		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			return -ENOTCONN;
		to += got;
		bytes -= (size_t)got;
	}
	return 0;
}

static int receive_header(struct pml_soft_ep *ep, struct pml_soft_frame *frame)
{
	char *to = (char *)frame;
	size_t left_bytes = sizeof(*frame);
	while (left_bytes > 0) {
		int err = ep->staged_from == ep->staged_to ? stage(ep) : 0;
		if (err)
			return err;
		size_t n = PML_MIN(left_bytes, ep->staged_to - ep->staged_from);
		memcpy(to, ep->staged + ep->staged_from, n);
		ep->staged_from += n;
		to += n;
		left_bytes -= n;
	}
	return pml_soft_frame_check(frame, ep->is_server);
}

static int receive_msg(struct pml_soft_ep *ep, const struct pml_soft_frame *frame)
{
	pthread_mutex_lock(&ep->lock);
	bool is_full = ep->msgs_in - ep->msgs_out == PML_MSG_DEPTH;
	struct pml_soft_msg *msg = &ep->msgs[ep->msgs_in % PML_MSG_DEPTH];
	pthread_mutex_unlock(&ep->lock);
	/* The peer sent without a credit. */
	if (is_full)
		return -EPROTO;

	msg->bytes = frame->bytes;
	int err = pml_soft_rx_bytes(ep, msg->data, frame->bytes);
	if (err)
		return err;
	pthread_mutex_lock(&ep->lock);
	ep->msgs_in++;
	ep->has_news |= ep->is_for_quiet || frame->type != PML_SOFT_QUIET_MSG;
	pthread_mutex_unlock(&ep->lock);
	/* Not before: on one processor who waits would run at once, into the lock. */
	pthread_cond_signal(&ep->recv_cond);
	return 0;
}

/* Then done_cond is signalled, after the unlock. */
static void complete_locked(struct pml_soft_ep *ep, int status)
{
	ep->ops[ep->ops_done++ % PML_DATA_DEPTH].status = status;
}

/* Client: DATA, ACK or NAK, which answer the oldest operation that is not done. */
static int receive_result(struct pml_soft_ep *ep, const struct pml_soft_frame *frame)
{
	pthread_mutex_lock(&ep->lock);
	struct pml_soft_op *op = &ep->ops[ep->ops_done % PML_DATA_DEPTH];
	bool is_due = frame->op == ep->ops_done && ep->ops_done < ep->ops_posted;
	if (is_due && frame->type == PML_SOFT_NAK)
		complete_locked(ep, -EACCES);
	pthread_mutex_unlock(&ep->lock);
	if (!is_due)
		return -EPROTO;
	if (frame->type == PML_SOFT_NAK) {
		pthread_cond_signal(&ep->done_cond);
		return -EACCES;
	}
	if (op->is_read == (frame->type == PML_SOFT_ACK))
		return -EPROTO;

	if (op->is_read) {
		if (frame->bytes > op->bytes - op->done_bytes)
			return -EPROTO;
		int err = pml_soft_rx_bytes(ep, op->buf + op->done_bytes, frame->bytes);
		if (err)
			return err;
		op->done_bytes += frame->bytes;
		if (op->done_bytes < op->bytes)
			return 0;
	}
	pthread_mutex_lock(&ep->lock);
	complete_locked(ep, 0);
	pthread_mutex_unlock(&ep->lock);
	pthread_cond_signal(&ep->done_cond);
	return 0;
}

static int receive_credits(struct pml_soft_ep *ep, uint32_t credits)
{
	pthread_mutex_lock(&ep->lock);
	bool is_good = credits <= PML_MSG_DEPTH - ep->credits;
	if (is_good)
		ep->credits += credits;
	pthread_cond_broadcast(&ep->tx_cond);
	pthread_mutex_unlock(&ep->lock);
	return is_good ? 0 : -EPROTO;
}

static int receive_frame(struct pml_soft_ep *ep)
{
	struct pml_soft_frame frame;
	int err = receive_header(ep, &frame);
	if (!err && frame.credits > 0)
		err = receive_credits(ep, frame.credits);
	if (err)
		return err;
	switch (frame.type) {
	case PML_SOFT_MSG:
	case PML_SOFT_QUIET_MSG:
		return receive_msg(ep, &frame);
	case PML_SOFT_CREDIT:
		return 0;
	case PML_SOFT_READ:
		return pml_soft_nic_read(ep, &frame);
	case PML_SOFT_WRITE:
		return pml_soft_nic_write(ep, &frame);
	case PML_SOFT_FLUSH:
		return pml_soft_nic_flush(ep, &frame);
	case PML_SOFT_ATOMIC_WRITE:
		return pml_soft_nic_atomic_write(ep, &frame);
	case PML_SOFT_DATA:
	case PML_SOFT_ACK:
	case PML_SOFT_NAK:
		return receive_result(ep, &frame);
	default:
		return -EPROTO; /* a second HELLO */
	}
}

static void *run_rx(void *arg)
{
	struct pml_soft_ep *ep = arg;
	int err = 0;
	while (!err) {
		err = receive_frame(ep);
		pthread_mutex_lock(&ep->lock);
		if (ep->is_killed)
			err = -ENOTCONN;
		pthread_mutex_unlock(&ep->lock);
	}
	pthread_mutex_lock(&ep->lock);
	ep->is_dead = true;
	ep->is_rx_gone = true;
	while (ep->ops_done < ep->ops_posted)
		complete_locked(ep, -ENOTCONN);
	wake_all_locked(ep);
	pthread_mutex_unlock(&ep->lock);
	(void)shutdown(ep->fd, SHUT_RDWR);
	return NULL;
}

/* ---- life --------------------------------------------------------------- */

static int init_sync(struct pml_soft_ep *ep)
{
	pthread_mutex_init(&ep->lock, NULL);
	pthread_mutex_init(&ep->post_lock, NULL);
	pthread_cond_t *conds[] = {&ep->tx_cond, &ep->recv_cond, &ep->done_cond, &ep->access_cond};
	for (size_t i = 0; i < PML_ARRAY_LEN(conds); i++) {
		int err = pml_transport_cond_init(conds[i]);
		if (err)
			return err;
	}
	return 0;
}

#define MSGS_BYTES (PML_MSG_DEPTH * sizeof(struct pml_soft_msg))

/*
 * Zeros.  Mapped, so that only what is used of a table takes memory, and goes with the
 * connection: malloc(3) would after some time take it from a heap, zero all of it and keep it.
 */
void *pml_soft_table_new(size_t bytes)
{
	void *table = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (table == MAP_FAILED)
		return NULL;
	/* A huge page would be half of it.  Kernels without them say EINVAL. */
	(void)madvise(table, bytes, MADV_NOHUGEPAGE);
	return table;
}

static void table_free(void *table, size_t bytes)
{
	if (table)
		(void)munmap(table, bytes);
}

static void free_ep(struct pml_soft_ep *ep)
{
	if (!ep)
		return;
	table_free(ep->msgs, MSGS_BYTES);
	table_free(ep->keys, PML_SOFT_KEYS_BYTES);
	free(ep);
}

int pml_soft_ep_new(int fd, const struct pml_fabric *fabric, const char *peer,
		    struct pml_ep **ret_ep)
{
	bool is_server = fabric;
	struct pml_soft_ep *ep = calloc(1, sizeof(*ep));
	if (ep)
		ep->msgs = pml_soft_table_new(MSGS_BYTES);
	int err = !ep || !ep->msgs ? -ENOMEM : 0;
	if (!err) {
		ep->base.ops = &pml_soft_ops;
		strncpy(ep->base.peer, peer, sizeof(ep->base.peer) - 1);
		ep->fd = fd;
		ep->is_server = is_server;
		ep->credits = PML_MSG_DEPTH;
		ep->keys_fresh = 1;
		ep->base.can = PML_EP_CAN_FLUSH | PML_EP_CAN_ATOMIC_WRITE;
		/* There is one device, and the server has said what it lacks when it began. */
		char ignored[PML_REASON_BYTES];
		err = is_server ? pml_transport_plan(fabric, &ep->base, ignored) : 0;
	}
	if (!err)
		err = init_sync(ep);
	if (!err)
		err = pml_thread_new_small(&ep->rx_thread, run_rx, ep);
	if (err) {
		free_ep(ep);
		(void)close(fd);
		return err;
	}
	*ret_ep = &ep->base;
	return 0;
}

void pml_soft_ep_close(struct pml_ep *base)
{
	struct pml_soft_ep *ep = ep_of(base);
	pml_soft_ep_kill(base);
	pthread_join(ep->rx_thread, NULL);
	assert(ep->keys_count == 0);
	(void)close(ep->fd);
	pthread_cond_destroy(&ep->tx_cond);
	pthread_cond_destroy(&ep->recv_cond);
	pthread_cond_destroy(&ep->done_cond);
	pthread_cond_destroy(&ep->access_cond);
	pthread_mutex_destroy(&ep->post_lock);
	pthread_mutex_destroy(&ep->lock);
	free_ep(ep);
}
