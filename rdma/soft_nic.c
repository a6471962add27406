/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * soft_nic.c -- keys, fences and the serving of one-sided operations
 *
 * Runs in the receive thread of the server's endpoint, as a network card does
 * its work: in order, and without the program above.  Memory is touched only
 * between access_begin() and access_end(), for at most PML_SOFT_PIECE_BYTES and in
 * one system call that does not block, straight between socket and memory.  So
 * a fence has nothing to do but to mark the key and wait for one such step; a
 * client that stalls half way through a transfer holds nothing up.  Bytes that
 * a read has put into the socket's buffer were the file's when they were taken.
 *
 * Windows and regions differ as they do on a device: a window lies inside the probed
 * area and is ended by a work request, which can be late, lost or fail and then ends
 * the connection; a region is deregistered by a call.  Both change the tag of their
 * slot, and the slot that is free for the longest time is used first, so a tag comes
 * back after 255 uses of all the others.
 *
 * A bad key, range or direction is answered with NAK and ends the connection,
 * as a remote access error ends a queue pair.
 */
#include <poll.h>
#include <stdatomic.h>
#include <string.h>

#include "soft.h"

/* One access is a short copy; longer than this and something holds it. */
#define FENCE_KEY_MS	    1000
#define FENCE_CONNECTION_MS 5000
/* A work request that never completes is waited for so long. */
#define LOCAL_INV_MS 200
/* Under DELAY_DATA_US an operation is cut into about so many steps. */
#define DELAY_STEPS 16u

/* ---- fault injection ---------------------------------------------------- */

static atomic_uint faults[PML_SOFT_FAULT_COUNT];

void pml_soft_set_faults(const struct pml_soft_faults *f)
{
	atomic_store(&faults[PML_SOFT_FAULT_DELAY_DATA_US], f->delay_data_us);
	atomic_store(&faults[PML_SOFT_FAULT_LATE_FENCE_US], f->late_fence_us);
	atomic_store(&faults[PML_SOFT_FAULT_FAIL_KEY_FENCE], f->fail_key_fences);
	atomic_store(&faults[PML_SOFT_FAULT_DROP_SERVER_MSG], f->drop_server_msgs);
	atomic_store(&faults[PML_SOFT_FAULT_TEAR_WRITE], f->tear_writes);
	atomic_store(&faults[PML_SOFT_FAULT_LATE_LOCAL_INV_US], f->late_local_inv_us);
	atomic_store(&faults[PML_SOFT_FAULT_LOSE_LOCAL_INV], f->lost_local_invs);
	atomic_store(&faults[PML_SOFT_FAULT_FAIL_LOCAL_INV], f->fail_local_invs);
	atomic_store(&faults[PML_SOFT_FAULT_LATE_INVALIDATE_US], f->late_invalidate_us);
	atomic_store(&faults[PML_SOFT_FAULT_FAIL_DEREG], f->fail_deregs);
	atomic_store(&faults[PML_SOFT_FAULT_FAIL_DESTROY], f->fail_destroys);
	atomic_store(&faults[PML_SOFT_FAULT_SLOW_DESTROY_US], f->slow_destroy_us);
}

uint32_t pml_soft_fault_value(enum pml_soft_fault fault)
{
	return atomic_load_explicit(&faults[fault], memory_order_relaxed);
}

bool pml_soft_fault_take(enum pml_soft_fault fault)
{
	unsigned left = pml_soft_fault_value(fault);
	while (left > 0) {
		if (atomic_compare_exchange_weak(&faults[fault], &left, left - 1))
			return true;
	}
	return false;
}

/* ---- keys --------------------------------------------------------------- */

static struct pml_soft_ep *ep_of(struct pml_ep *base)
{
	return PML_CONTAINER_OF(base, struct pml_soft_ep, base);
}

/* Slots never used first, then the one that is free for the longest time. */
static struct pml_soft_key *take_slot_locked(struct pml_soft_ep *ep)
{
	uint32_t index = ep->keys_fresh;
	if (index < PML_SOFT_KEYS_MAX) {
		ep->keys_fresh++;
		return &ep->keys[index];
	}
	index = ep->keys_free_head;
	if (index == 0)
		return NULL;
	ep->keys_free_head = ep->keys[index].next_free;
	if (ep->keys_free_head == 0)
		ep->keys_free_tail = 0;
	return &ep->keys[index];
}

static void free_slot_locked(struct pml_soft_ep *ep, struct pml_soft_key *key)
{
	uint32_t index = (uint32_t)(key - ep->keys);
	key->state = PML_SOFT_KEY_FREE;
	key->next_free = 0;
	if (ep->keys_free_tail)
		ep->keys[ep->keys_free_tail].next_free = index;
	else
		ep->keys_free_head = index;
	ep->keys_free_tail = index;
}

int pml_soft_key_new(struct pml_ep *base, void *addr, size_t bytes, unsigned int rights,
		     uint32_t *ret_rkey, struct pml_key **ret_key)
{
	struct pml_soft_ep *ep = ep_of(base);
	bool is_window = base->plan.method == PML_BY_WINDOW && !(rights & PML_KEY_FOREIGN);
	assert(ep->is_server);
	if (is_window && !pml_transport_in_area(base, addr, bytes))
		return -EINVAL;
	pthread_mutex_lock(&ep->lock);
	int err = ep->is_dead ? -ENOTCONN : 0;
	/* Strangers cost no table: a first key means that the client was let in. */
	if (!err && !ep->keys)
		ep->keys = pml_soft_table_new(PML_SOFT_KEYS_BYTES);
	if (!err && !ep->keys)
		err = -ENOMEM;
	struct pml_soft_key *key = err ? NULL : take_slot_locked(ep);
	if (!err && !key)
		err = -ENOSPC;
	if (!err) {
		ep->keys_count++;
		key->base.ep = base;
		key->addr = addr;
		key->bytes = bytes;
		key->rights = (uint8_t)rights;
		key->dirty_from = key->dirty_to = 0;
		key->is_window = is_window;
		key->tag++;
		key->state = PML_SOFT_KEY_LIVE;
		*ret_rkey = (uint32_t)(key - ep->keys) << 8 | key->tag;
		*ret_key = &key->base;
	}
	pthread_mutex_unlock(&ep->lock);
	return err;
}

static void pause_us(uint32_t us)
{
	if (us > 0)
		(void)usleep(us);
}

/* The work request that ends a window, as its completion tells: 0, -EIO, -ETIMEDOUT. */
static int local_inv(struct pml_soft_ep *ep)
{
	if (pml_soft_fault_take(PML_SOFT_FAULT_LOSE_LOCAL_INV)) {
		pause_us(LOCAL_INV_MS * 1000u);
		return -ETIMEDOUT;
	}
	pause_us(pml_soft_fault_value(PML_SOFT_FAULT_LATE_LOCAL_INV_US));
	if (!pml_soft_fault_take(PML_SOFT_FAULT_FAIL_LOCAL_INV))
		return 0;
	/* A work request that fails moves the queue pair to error. */
	pml_soft_ep_kill(&ep->base);
	return -EIO;
}

/* Waits until nobody touches the memory, and frees the key. */
static int end_key(struct pml_soft_ep *ep, struct pml_soft_key *key, int timeout_ms, bool must_wait)
{
	uint64_t deadline_ns = pml_transport_deadline_ns(timeout_ms);
	pthread_mutex_lock(&ep->lock);
	assert(key->state != PML_SOFT_KEY_FREE && key->state != PML_SOFT_KEY_GHOST);
	key->state = PML_SOFT_KEY_DYING;
	int err = 0;
	while (key->in_access && must_wait && !err)
		err = pml_transport_cond_wait(&ep->access_cond, &ep->lock, deadline_ns);
	if (!key->in_access) {
		free_slot_locked(ep, key);
		ep->keys_count--;
		err = 0;
	} else if (!err) {
		key->state = PML_SOFT_KEY_GHOST; /* access_end() frees the slot */
		ep->keys_count--;
	}
	pthread_mutex_unlock(&ep->lock);
	return err;
}

int pml_soft_ep_destroy(struct pml_ep *base)
{
	pml_soft_ep_kill(base);
	pause_us(pml_soft_fault_value(PML_SOFT_FAULT_SLOW_DESTROY_US));
	if (pml_soft_fault_take(PML_SOFT_FAULT_FAIL_DESTROY))
		return -EIO;
	/* No access begins any more; one that is under way must end. */
	struct pml_soft_ep *ep = ep_of(base);
	uint64_t deadline_ns = pml_transport_deadline_ns(FENCE_CONNECTION_MS);
	pthread_mutex_lock(&ep->lock);
	int err = 0;
	while (ep->is_in_access && !err)
		err = pml_transport_cond_wait(&ep->access_cond, &ep->lock, deadline_ns);
	if (!ep->is_in_access)
		err = 0;
	pthread_mutex_unlock(&ep->lock);
	return err;
}

int pml_soft_key_fence(struct pml_key *base, enum pml_ep_fence how)
{
	struct pml_soft_key *key = PML_CONTAINER_OF(base, struct pml_soft_key, base);
	struct pml_soft_ep *ep = ep_of(base->ep);
	bool is_hard = how == PML_EP_FENCE_CONNECTION;
	pause_us(pml_soft_fault_value(PML_SOFT_FAULT_LATE_FENCE_US));
	if (!is_hard && pml_soft_fault_take(PML_SOFT_FAULT_FAIL_KEY_FENCE))
		return -EIO;

	pthread_mutex_lock(&ep->lock);
	bool is_dead = ep->is_dead;
	pthread_mutex_unlock(&ep->lock);
	/* On a dead connection no work request is executed, and ending it costs nobody. */
	if (key->is_window && is_dead)
		is_hard = true;
	int err = is_hard ? pml_soft_ep_destroy(base->ep) : 0;
	if (!err && key->is_window && !is_hard)
		err = local_inv(ep);
	if (!err && !key->is_window && pml_soft_fault_take(PML_SOFT_FAULT_FAIL_DEREG))
		err = -EIO;
	if (err)
		return err;
	bool must_wait = is_hard || !key->is_window ||
			 pml_soft_fault_value(PML_SOFT_FAULT_LATE_INVALIDATE_US) == 0;
	return end_key(ep, key, is_hard ? FENCE_CONNECTION_MS : FENCE_KEY_MS, must_wait);
}

/* ---- accesses ----------------------------------------------------------- */

struct access {
	uint32_t rkey;
	uint64_t addr;
	size_t bytes;
	unsigned int right; /* one of PML_KEY_ */
};

static bool is_allowed(const struct pml_soft_key *key, const struct access *a)
{
	uint64_t first = (uintptr_t)key->addr;
	return key->state == PML_SOFT_KEY_LIVE && key->tag == (a->rkey & 0xff) &&
	       key->rights & a->right && a->addr >= first && a->bytes <= key->bytes &&
	       a->addr - first <= key->bytes - a->bytes;
}

/*
 * Until access_end() a fence of the key waits.  -EACCES; -ENOTCONN: killed.
 * Assumes: the receive thread, so at most one access at a time.
 */
static int access_begin(struct pml_soft_ep *ep, const struct access *a,
			struct pml_soft_key **ret_key)
{
	uint32_t index = a->rkey >> 8;
	if (index >= PML_SOFT_KEYS_MAX)
		return -EACCES;
	pthread_mutex_lock(&ep->lock);
	struct pml_soft_key *key = ep->keys ? &ep->keys[index] : NULL;
	int err = 0;
	if (ep->is_dead)
		err = -ENOTCONN;
	else if (!key || !is_allowed(key, a))
		err = -EACCES;
	else
		key->in_access = ep->is_in_access = true;
	pthread_mutex_unlock(&ep->lock);
	if (err)
		return err;
	*ret_key = key;
	/* The fault needs an access that takes its time. */
	uint32_t us = key->is_window ? pml_soft_fault_value(PML_SOFT_FAULT_LATE_INVALIDATE_US) : 0;
	pause_us(us);
	return 0;
}

static void access_end(struct pml_soft_ep *ep, struct pml_soft_key *key)
{
	pthread_mutex_lock(&ep->lock);
	key->in_access = ep->is_in_access = false;
	if (key->state == PML_SOFT_KEY_GHOST)
		free_slot_locked(ep, key);
	if (key->state == PML_SOFT_KEY_DYING || ep->is_dead)
		pthread_cond_broadcast(&ep->access_cond);
	pthread_mutex_unlock(&ep->lock);
}

static int check_whole(struct pml_soft_ep *ep, const struct pml_soft_frame *frame,
		       unsigned int right)
{
	struct access whole = {frame->rkey, frame->remote_addr, frame->op_bytes, right};
	struct pml_soft_key *key;
	int err = access_begin(ep, &whole, &key);
	if (!err)
		access_end(ep, key);
	return err;
}

/* How much to move before the next look at the key. */
static uint32_t step_bytes(uint32_t op_bytes)
{
	if (pml_soft_fault_value(PML_SOFT_FAULT_DELAY_DATA_US) == 0)
		return PML_SOFT_PIECE_BYTES;
	return PML_MIN(op_bytes / DELAY_STEPS + 1, PML_SOFT_PIECE_BYTES);
}

/* The share of the injected delay that @bytes of @op_bytes take; not inside an access. */
static void delay(struct pml_soft_ep *ep, uint32_t bytes, uint32_t op_bytes)
{
	uint64_t us = pml_soft_fault_value(PML_SOFT_FAULT_DELAY_DATA_US);
	if (us == 0)
		return;
	uint64_t end_ns = pml_transport_now_ns() + us * 1000u * bytes / op_bytes;
	pthread_mutex_lock(&ep->lock);
	while (!ep->is_dead) {
		if (pml_transport_cond_wait(&ep->access_cond, &ep->lock, end_ns))
			break;
	}
	pthread_mutex_unlock(&ep->lock);
}

/* Tells the initiator; @err is passed on and ends the connection. */
static int refuse(struct pml_soft_ep *ep, uint64_t op, int err)
{
	if (err != -EACCES)
		return err;
	struct pml_soft_frame nak;
	pml_soft_frame_init(&nak, PML_SOFT_NAK);
	nak.op = op;
	int rc = pml_soft_tx_data(ep, &nak, NULL);
	(void)rc; /* an initiator that is gone needs no answer */
	return err;
}

/* Tells the initiator that its operation is done. */
static int acknowledge(struct pml_soft_ep *ep)
{
	struct pml_soft_frame ack;
	pml_soft_frame_init(&ack, PML_SOFT_ACK);
	ack.op = ep->nic_op++;
	int err = pml_soft_tx_data(ep, &ack, NULL);
	(void)err; /* the end of the connection shows on reading, after what arrived before */
	return 0;
}

/* ---- reads behind writes ------------------------------------------------ */

/*
 * A platform for which the administrator vouches (PML_DURABLE_BY_READ) has earlier writes in
 * the persistence domain when a read comes back.  This fabric's writes are stores of the
 * processor, which promise no such thing, so a read through the same key flushes them.
 */
static void note_written(struct pml_soft_key *key, uint64_t at, size_t bytes)
{
	bool is_clean = key->dirty_from == key->dirty_to;
	key->dirty_from = is_clean ? at : PML_MIN(key->dirty_from, at);
	key->dirty_to = is_clean ? at + bytes : PML_MAX(key->dirty_to, at + bytes);
}

/* In steps, so that a fence never waits for more than one.  -EACCES, -ENOTCONN. */
static int persist_steps(struct pml_soft_ep *ep, struct access whole)
{
	while (whole.bytes > 0) {
		struct access step = whole;
		step.bytes = PML_MIN(whole.bytes, (size_t)PML_SOFT_PIECE_BYTES);
		struct pml_soft_key *key;
		int err = access_begin(ep, &step, &key);
		if (err)
			return err;
		ep->base.persist(ep->base.persist_arg, (const void *)(uintptr_t)step.addr,
				 step.bytes);
		access_end(ep, key);
		whole.addr += step.bytes;
		whole.bytes -= step.bytes;
	}
	return 0;
}

static int settle_written(struct pml_soft_ep *ep, const struct pml_soft_frame *frame)
{
	struct access read = {frame->rkey, frame->remote_addr, frame->op_bytes, PML_KEY_READ};
	struct pml_soft_key *key;
	if (!ep->base.persist)
		return 0;
	int err = access_begin(ep, &read, &key);
	if (err)
		return err;
	struct access dirty = {frame->rkey, key->dirty_from, key->dirty_to - key->dirty_from,
			       PML_KEY_WRITE};
	key->dirty_from = key->dirty_to = 0;
	access_end(ep, key);
	return persist_steps(ep, dirty);
}

/* ---- reads -------------------------------------------------------------- */

/*
 * Sends one DATA frame straight from memory.  If the key dies after the header
 * went out, zeros fill the frame up and the refusal follows it.
 */
static int send_piece(struct pml_soft_ep *ep, struct pml_soft_frame *data, const struct access *a)
{
	static const char zeros[PML_SOFT_PIECE_BYTES];
	struct pml_soft_out out = {.frame = data, .payload = (const char *)(uintptr_t)a->addr};
	int denied = 0;
	for (;;) {
		struct pml_soft_key *key = NULL;
		if (!denied)
			denied = access_begin(ep, a, &key);
		if (denied && out.done_bytes == 0)
			return denied;
		if (denied)
			out.payload = zeros;
		int err = pml_soft_tx_once(ep, &out);
		if (key)
			access_end(ep, key);
		if (err == 0)
			return denied;
		if (err != -EAGAIN)
			return err;
		if (pml_soft_tx_room(ep, pml_soft_stall_deadline_ns())) {
			pml_soft_ep_kill(&ep->base);
			return -ENOTCONN;
		}
	}
}

int pml_soft_nic_read(struct pml_soft_ep *ep, const struct pml_soft_frame *frame)
{
	if (frame->op != ep->nic_op || ep->nic_done_bytes > 0)
		return -EPROTO;
	int err = check_whole(ep, frame, PML_KEY_READ);
	if (!err)
		err = settle_written(ep, frame);
	uint32_t step = step_bytes(frame->op_bytes);
	for (uint32_t done_bytes = 0; done_bytes < frame->op_bytes && !err;) {
		struct pml_soft_frame data;
		pml_soft_frame_init(&data, PML_SOFT_DATA);
		data.op = frame->op;
		data.bytes = PML_MIN(frame->op_bytes - done_bytes, step);
		struct access piece = {frame->rkey, frame->remote_addr + done_bytes, data.bytes,
				       PML_KEY_READ};
		delay(ep, data.bytes, frame->op_bytes);
		err = pml_soft_tx_take(ep);
		if (err)
			break;
		err = send_piece(ep, &data, &piece);
		pml_soft_tx_release(ep);
		done_bytes += data.bytes;
	}
	if (err)
		return refuse(ep, frame->op, err);
	ep->nic_op++;
	return 0;
}

/* ---- writes ------------------------------------------------------------- */

/* One step from what was read ahead, or from the socket.  Bytes placed, or < 0. */
static ssize_t place_some(struct pml_soft_ep *ep, const struct access *a)
{
	size_t staged_bytes = PML_MIN(ep->staged_to - ep->staged_from, a->bytes);
	struct pml_soft_key *key;
	int err = access_begin(ep, a, &key);
	if (err)
		return err;
	ssize_t n = (ssize_t)staged_bytes;
	char *to = (char *)(uintptr_t)a->addr;
	if (staged_bytes > 0) {
		memcpy(to, ep->staged + ep->staged_from, staged_bytes);
		ep->staged_from += staged_bytes;
	} else {
		n = recv(ep->fd, to, a->bytes, MSG_DONTWAIT);
		err = errno;
	}
	if (n > 0)
		note_written(key, a->addr, (size_t)n);
	access_end(ep, key);
	if (n > 0)
		return n;
	return n < 0 && (err == EAGAIN || err == EINTR) ? -EAGAIN : -ENOTCONN;
}

static int place(struct pml_soft_ep *ep, struct access *a)
{
	while (a->bytes > 0) {
		ssize_t n = place_some(ep, a);
		if (n == -EAGAIN) {
			/* Outside the access: whoever stalls here stalls no fence. */
			struct pollfd p = {.fd = ep->fd, .events = POLLIN};
			(void)poll(&p, 1, -1);
			continue;
		}
		if (n < 0)
			return (int)n;
		a->addr += (size_t)n;
		a->bytes -= (size_t)n;
	}
	return 0;
}

/* Places one frame in steps. */
static int place_frame(struct pml_soft_ep *ep, const struct pml_soft_frame *frame)
{
	/* The first frame of a torn operation brings half of its bytes, and the end. */
	bool is_torn = ep->nic_done_bytes == 0 && pml_soft_fault_take(PML_SOFT_FAULT_TEAR_WRITE);
	uint32_t bytes = is_torn ? frame->bytes / 2 : frame->bytes;
	uint32_t step = step_bytes(frame->op_bytes);
	for (uint32_t done_bytes = 0; done_bytes < bytes;) {
		uint32_t n = PML_MIN(bytes - done_bytes, step);
		struct access piece = {frame->rkey, frame->remote_addr + done_bytes, n,
				       PML_KEY_WRITE};
		delay(ep, n, frame->op_bytes);
		int err = place(ep, &piece);
		if (err)
			return err;
		done_bytes += n;
	}
	return is_torn ? -ENOTCONN : 0;
}

int pml_soft_nic_write(struct pml_soft_ep *ep, const struct pml_soft_frame *frame)
{
	bool is_first = ep->nic_done_bytes == 0;
	if (is_first)
		ep->nic_op_bytes = frame->op_bytes;
	if (frame->op != ep->nic_op || frame->op_bytes != ep->nic_op_bytes ||
	    frame->bytes > frame->op_bytes - ep->nic_done_bytes)
		return -EPROTO;
	int err = is_first ? check_whole(ep, frame, PML_KEY_WRITE) : 0;
	if (!err)
		err = place_frame(ep, frame);
	if (err)
		return refuse(ep, frame->op, err);

	ep->nic_done_bytes += frame->bytes;
	if (ep->nic_done_bytes < frame->op_bytes)
		return 0;
	ep->nic_done_bytes = 0;
	return acknowledge(ep);
}

/* ---- flushes and atomic writes ------------------------------------------ */

int pml_soft_nic_flush(struct pml_soft_ep *ep, const struct pml_soft_frame *frame)
{
	if (frame->op != ep->nic_op || ep->nic_done_bytes > 0)
		return -EPROTO;
	int err = check_whole(ep, frame, PML_KEY_FLUSH);
	if (!err)
		err = persist_steps(ep, (struct access){frame->rkey, frame->remote_addr,
							frame->op_bytes, PML_KEY_FLUSH});
	return err ? refuse(ep, frame->op, err) : acknowledge(ep);
}

int pml_soft_nic_atomic_write(struct pml_soft_ep *ep, const struct pml_soft_frame *frame)
{
	if (frame->op != ep->nic_op || ep->nic_done_bytes > 0)
		return -EPROTO;
	uint64_t value;
	int err = pml_soft_rx_bytes(ep, &value, sizeof(value));
	if (err)
		return err;
	struct access whole = {frame->rkey, frame->remote_addr, sizeof(value), PML_KEY_WRITE};
	struct pml_soft_key *key;
	err = access_begin(ep, &whole, &key);
	if (err)
		return refuse(ep, frame->op, err);
	__atomic_store_n((uint64_t *)(uintptr_t)whole.addr, value, __ATOMIC_RELEASE);
	note_written(key, whole.addr, sizeof(value));
	access_end(ep, key);
	return acknowledge(ep);
}
