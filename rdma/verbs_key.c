/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * verbs_key.c -- keys on RDMA devices: regions and windows, and how they end
 *
 * A *region* is registered for the segment alone, in the client's own protection
 * domain; ibv_dereg_mr(3) ends it.  A *window* of type 2B is bound to the client's
 * queue pair, out of a base registration of the whole area, which has no remote rights
 * of its own and belongs to this connection alone; IBV_WR_LOCAL_INV ends it.  Neither
 * is worth anything on another connection (I6).
 *
 * Windows are pooled.  One goes back to the pool only after its LOCAL_INV has
 * completed, so none is bound again that may still be bound.  Each bind changes its
 * tag; when all 255 others have been used it is given back to the device.
 *
 * Work requests and completions for windows have slots of their own in the queues,
 * those for LOCAL_INV apart from those for binding (I7).  They are shared by all
 * keys of the connection: a send queue completes in order, so one that waits for a
 * slot waits for nothing that its own request would not have to wait for.
 *
 * The end of a connection, in this order: the queue pair in error; windows freed
 * (some drivers hold the queue pair for a bound one); queue pair destroyed; base
 * registration deregistered, which waits for what a driver may still be copying.
 *
 * Threads: all of them; key_lock guards windows and base registration.
 */
#include <sched.h>
#include <string.h>

#include "verbs.h"
#include "pml/log.h"

/* A bind or an invalidation takes microseconds; behind messages to a slow client longer. */
#define WINDOW_MS 2000
/* Look without sleeping for so long, then sleep between looks, longer and longer. */
#define LOOK_NS	     300000u
#define SLEEP_US_MIN 20u
#define SLEEP_US_MAX 1000u
/* Of the eight bits of a tag, all but the one that it begins with. */
#define BINDS_MAX 255u
/* Windows of one connection (I9). */
#define WINDOWS_MAX 16384u
struct pml_verbs_window {
	struct pml_verbs_window *next;	    /* of all; key_lock */
	struct pml_verbs_window *next_free; /* key_lock */
	struct ibv_mw *mw;		    /* NULL: none; key_lock */
	uint32_t binds;			    /* of this mw */
	/* The work request under way; sq_lock. */
	bool is_pending;
	bool is_inv;
	int status;
};

struct verbs_key {
	struct pml_key base;
	struct pml_verbs_window *window; /* NULL: a region */
	struct ibv_mr *mr;		 /* NULL: a window, or deregistered and not confirmed */
	size_t bytes;
};

static struct pml_verbs_ep *ep_of(struct pml_ep *base)
{
	return PML_CONTAINER_OF(base, struct pml_verbs_ep, base);
}

/* ---- work requests ------------------------------------------------------ */

void pml_verbs_window_done_locked(struct pml_verbs_ep *ep, uint64_t wr_id, int status)
{
	struct pml_verbs_window *w = (void *)(uintptr_t)(wr_id & ~PML_VERBS_WR_IS_WINDOW);
	w->is_pending = false;
	w->status = status;
	if (w->is_inv)
		ep->inv_slots++;
	else
		ep->bind_slots++;
}

/* Between two looks of a wait that began at @start_ns. */
static void rest(uint64_t start_ns, uint32_t *sleep_us)
{
	if (pml_transport_now_ns() - start_ns < LOOK_NS) {
		(void)sched_yield();
		return;
	}
	(void)usleep(*sleep_us);
	*sleep_us = PML_MIN(*sleep_us * 2, SLEEP_US_MAX);
}

/* One attempt, with key_lock.  -EAGAIN: no slot. */
static int try_post_locked(struct pml_verbs_ep *ep, struct pml_verbs_window *w,
			   struct ibv_send_wr *wr)
{
	bool is_inv = wr->opcode == IBV_WR_LOCAL_INV;
	uint32_t *slots = is_inv ? &ep->inv_slots : &ep->bind_slots;
	pthread_mutex_lock(&ep->sq_lock);
	pml_verbs_reap_locked(ep);
	int err = *slots == 0 ? -EAGAIN : pml_verbs_post_locked(ep, wr);
	if (!err) {
		--*slots;
		w->is_pending = true;
		w->is_inv = is_inv;
	}
	pthread_mutex_unlock(&ep->sq_lock);
	return err;
}

/* With key_lock: what of @w the request has to name. */
static void address(const struct pml_verbs_ep *ep, const struct pml_verbs_window *w,
		    struct ibv_send_wr *wr)
{
	wr->wr_id = PML_VERBS_WR_IS_WINDOW | (uintptr_t)w;
	if (wr->opcode == IBV_WR_LOCAL_INV) {
		wr->invalidate_rkey = w->mw->rkey;
		return;
	}
	wr->bind_mw.mw = w->mw;
	wr->bind_mw.rkey = ibv_inc_rkey(w->mw->rkey);
	wr->bind_mw.bind_info.mr = ep->base_mr;
}

/*
 * 0, -ENOTCONN, -ETIMEDOUT.  @w is the caller's, but what the device knows of it can be
 * freed meanwhile: pml_verbs_destroy().
 */
static int post(struct pml_verbs_ep *ep, struct pml_verbs_window *w, struct ibv_send_wr *wr,
		uint64_t deadline_ns)
{
	uint64_t start_ns = pml_transport_now_ns();
	uint32_t sleep_us = SLEEP_US_MIN;
	for (;;) {
		pthread_mutex_lock(&ep->key_lock);
		int err = -ENOTCONN;
		if (w->mw) {
			address(ep, w, wr);
			err = try_post_locked(ep, w, wr);
		}
		pthread_mutex_unlock(&ep->key_lock);
		if (err != -EAGAIN)
			return err;
		if (pml_transport_now_ns() >= deadline_ns)
			return -ETIMEDOUT;
		rest(start_ns, &sleep_us);
	}
}

/* Its own completion: 0, -EIO, -ENOTCONN; or -ETIMEDOUT. */
static int await(struct pml_verbs_ep *ep, const struct pml_verbs_window *w, uint64_t deadline_ns)
{
	uint64_t start_ns = pml_transport_now_ns();
	uint32_t sleep_us = SLEEP_US_MIN;
	for (;;) {
		pthread_mutex_lock(&ep->sq_lock);
		pml_verbs_reap_locked(ep);
		bool is_pending = w->is_pending;
		int status = w->status;
		bool has_qp = ep->has_qp;
		pthread_mutex_unlock(&ep->sq_lock);
		if (!is_pending)
			return status;
		if (!has_qp)
			return -ENOTCONN;
		if (pml_transport_now_ns() >= deadline_ns)
			return -ETIMEDOUT;
		rest(start_ns, &sleep_us);
	}
}

/* ---- the pool ----------------------------------------------------------- */

static int need_base_locked(struct pml_verbs_ep *ep)
{
	if (ep->base_mr)
		return 0;
	/* Windows for remote writing need local write on it.  ibv_bind_mw(3) */
	ep->base_mr = ibv_reg_mr(ep->pd, ep->base.area, ep->base.area_bytes,
				 IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_MW_BIND);
	return ep->base_mr ? 0 : -errno;
}

/* Gives @w a window that was never bound, or one with tags left. */
static int refresh_locked(struct pml_verbs_ep *ep, struct pml_verbs_window *w)
{
	if (w->mw && w->binds < BINDS_MAX)
		return 0;
	if (w->mw) {
		int rc = ibv_dealloc_mw(w->mw);
		if (rc)
			return -rc;
	}
	w->binds = 0;
	w->mw = ibv_alloc_mw(ep->pd, IBV_MW_TYPE_2);
	return w->mw ? 0 : -errno;
}

static int new_window_locked(struct pml_verbs_ep *ep, struct pml_verbs_window **ret)
{
	if (ep->windows_count == WINDOWS_MAX)
		return -ENOSPC;
	struct pml_verbs_window *w = calloc(1, sizeof(*w));
	if (!w)
		return -ENOMEM;
	w->next = ep->windows;
	ep->windows = w;
	ep->windows_count++;
	*ret = w;
	return 0;
}

static void put_window_locked(struct pml_verbs_ep *ep, struct pml_verbs_window *w)
{
	w->next_free = ep->windows_free;
	ep->windows_free = w;
}

/* A window that is not bound. */
static int take_window_locked(struct pml_verbs_ep *ep, struct pml_verbs_window **ret)
{
	/* After this came true pml_verbs_destroy() frees all windows. */
	if (atomic_load(&ep->is_dead))
		return -ENOTCONN;
	int err = need_base_locked(ep);
	if (err)
		return err;
	struct pml_verbs_window *w = ep->windows_free;
	if (w)
		ep->windows_free = w->next_free;
	else
		err = new_window_locked(ep, &w);
	if (err)
		return err;
	err = refresh_locked(ep, w);
	if (err)
		put_window_locked(ep, w);
	else
		*ret = w;
	return err;
}

/* All of them, bound or not: the queue pair is in error.  What fails can be tried again. */
static int free_windows_locked(struct pml_verbs_ep *ep)
{
	for (struct pml_verbs_window *w = ep->windows; w; w = w->next) {
		int rc = w->mw ? ibv_dealloc_mw(w->mw) : 0;
		if (rc)
			return -rc;
		w->mw = NULL;
	}
	ep->windows_free = NULL;
	return 0;
}

/* ---- the end of a connection -------------------------------------------- */

/* Readers of has_qp hold one of the three locks. */
static int destroy_qp_locked(struct pml_verbs_ep *ep)
{
	if (!ep->has_qp)
		return 0;
	int rc = ibv_destroy_qp(ep->id->qp);
	if (rc)
		return -rc;
	ep->id->qp = NULL;
	ep->has_qp = false;
	return 0;
}

int pml_verbs_destroy_qp(struct pml_verbs_ep *ep)
{
	pthread_mutex_lock(&ep->sq_lock);
	pthread_mutex_lock(&ep->rq_lock);
	pthread_mutex_lock(&ep->cm_lock);
	int err = destroy_qp_locked(ep);
	pthread_mutex_unlock(&ep->cm_lock);
	pthread_mutex_unlock(&ep->rq_lock);
	pthread_mutex_unlock(&ep->sq_lock);
	return err;
}

int pml_verbs_destroy(struct pml_ep *base)
{
	struct pml_verbs_ep *ep = ep_of(base);
	pml_verbs_kill(base);
	pthread_mutex_lock(&ep->key_lock);
	int err = free_windows_locked(ep);
	if (!err)
		err = pml_verbs_destroy_qp(ep);
	if (!err && ep->base_mr) {
		err = -ibv_dereg_mr(ep->base_mr);
		if (!err)
			ep->base_mr = NULL;
	}
	if (!err)
		ep->are_windows_gone = true;
	pthread_mutex_unlock(&ep->key_lock);
	return err;
}

void pml_verbs_forget_windows(struct pml_verbs_ep *ep)
{
	while (ep->windows) {
		struct pml_verbs_window *w = ep->windows;
		ep->windows = w->next;
		free(w);
	}
}

/* ---- making keys -------------------------------------------------------- */

static unsigned int access_of(unsigned int rights)
{
	unsigned int access = 0;
	if (rights & PML_KEY_READ)
		access |= IBV_ACCESS_REMOTE_READ;
	if (rights & PML_KEY_WRITE)
		access |= IBV_ACCESS_REMOTE_WRITE;
	if (rights & PML_KEY_FLUSH)
		access |= pml_verbs_flush_access();
	return access;
}

static int bind_window(struct pml_verbs_ep *ep, struct pml_verbs_window *w, void *addr,
		       size_t bytes, unsigned int rights, uint32_t *ret_rkey)
{
	uint64_t deadline_ns = pml_transport_deadline_ns(WINDOW_MS);
	struct ibv_send_wr wr = {
		.opcode = IBV_WR_BIND_MW,
		.bind_mw.bind_info = {.addr = (uintptr_t)addr,
				      .length = bytes,
				      .mw_access_flags = access_of(rights)},
	};
	int err = post(ep, w, &wr, deadline_ns);
	if (!err)
		err = await(ep, w, deadline_ns);
	if (err)
		return err;
	pthread_mutex_lock(&ep->key_lock);
	if (w->mw) {
		*ret_rkey = w->mw->rkey = wr.bind_mw.rkey;
		w->binds++;
	} else {
		err = -ENOTCONN;
	}
	pthread_mutex_unlock(&ep->key_lock);
	return err;
}

static int new_window_key(struct pml_verbs_ep *ep, struct verbs_key *key, void *addr,
			  unsigned int rights, uint32_t *ret_rkey)
{
	if (!pml_transport_in_area(&ep->base, addr, key->bytes))
		return -EINVAL;
	pthread_mutex_lock(&ep->key_lock);
	int err = take_window_locked(ep, &key->window);
	pthread_mutex_unlock(&ep->key_lock);
	if (err)
		return err;
	err = bind_window(ep, key->window, addr, key->bytes, rights, ret_rkey);
	if (err) {
		/*
		 * It may be bound yet, and a key that nobody knows can be guessed.  Where not
		 * even this works the connection stays, and its memory with it: see close.
		 */
		int rc = pml_verbs_destroy(&ep->base);
		if (rc)
			pml_log_error("%s: a memory window could not be freed: %s", ep->base.peer,
				      strerrordesc_np(-rc));
		return rc ? rc : err;
	}
	return 0;
}

static int new_region_key(struct pml_verbs_ep *ep, struct verbs_key *key, void *addr,
			  unsigned int rights, uint32_t *ret_rkey)
{
	/* Remote write needs local write.  ibv_reg_mr(3) */
	unsigned int local = rights & PML_KEY_WRITE ? IBV_ACCESS_LOCAL_WRITE : 0;
	if (ep->base.is_on_demand && !(rights & PML_KEY_FOREIGN))
		local |= IBV_ACCESS_ON_DEMAND;
	key->mr = ibv_reg_mr(ep->pd, addr, key->bytes, (int)(local | access_of(rights)));
	if (!key->mr)
		return -errno;
	*ret_rkey = key->mr->rkey;
	return 0;
}

int pml_verbs_key_new(struct pml_ep *base, void *addr, size_t bytes, unsigned int rights,
		      uint32_t *ret_rkey, struct pml_key **ret_key)
{
	struct pml_verbs_ep *ep = ep_of(base);
	if (atomic_load(&ep->is_dead))
		return -ENOTCONN;
	struct verbs_key *key = calloc(1, sizeof(*key));
	if (!key)
		return -ENOMEM;
	key->base.ep = base;
	key->bytes = bytes;
	int err = base->plan.method == PML_BY_WINDOW && !(rights & PML_KEY_FOREIGN)
			  ? new_window_key(ep, key, addr, rights, ret_rkey)
			  : new_region_key(ep, key, addr, rights, ret_rkey);
	if (err) {
		free(key);
		return err;
	}
	atomic_fetch_add(&ep->keys_count, 1);
	*ret_key = &key->base;
	return 0;
}

/* ---- ending keys -------------------------------------------------------- */

static int invalidate(struct pml_verbs_ep *ep, struct pml_verbs_window *w)
{
	uint64_t deadline_ns = pml_transport_deadline_ns(WINDOW_MS);
	/* One from an earlier call, which may complete yet, will do. */
	pthread_mutex_lock(&ep->sq_lock);
	bool is_pending = w->is_pending;
	pthread_mutex_unlock(&ep->sq_lock);
	int err = 0;
	if (!is_pending) {
		struct ibv_send_wr wr = {.opcode = IBV_WR_LOCAL_INV};
		err = post(ep, w, &wr, deadline_ns);
	}
	return err ? err : await(ep, w, deadline_ns);
}

static bool are_windows_gone(struct pml_verbs_ep *ep)
{
	pthread_mutex_lock(&ep->key_lock);
	bool are_gone = ep->are_windows_gone;
	pthread_mutex_unlock(&ep->key_lock);
	return are_gone;
}

static int end_window(struct pml_verbs_ep *ep, struct pml_verbs_window *w)
{
	if (are_windows_gone(ep))
		return 0;
	/* On a queue pair in error nothing is executed; it is of no use to anybody either. */
	int err = atomic_load(&ep->is_dead) ? -ENOTCONN : invalidate(ep, w);
	if (err && atomic_load(&ep->is_dead))
		return pml_verbs_destroy(&ep->base);
	if (err)
		return err;
	pthread_mutex_lock(&ep->key_lock);
	if (w->mw)
		put_window_locked(ep, w);
	pthread_mutex_unlock(&ep->key_lock);
	return 0;
}

/*
 * @is_qp_gone: nobody is left who could hold the region.  How long the call took says nothing of
 * where: a thread that waited for a processor is in doubt, too.
 */
static int end_region(struct pml_verbs_ep *ep, struct verbs_key *key, bool is_qp_gone)
{
	if (!key->mr)
		return is_qp_gone ? 0 : -ETIMEDOUT;
	uint64_t start_ns = pml_transport_now_ns();
	int rc = ibv_dereg_mr(key->mr);
	if (rc)
		return -rc;
	key->mr = NULL;
	uint64_t took_ns = pml_transport_now_ns() - start_ns;
	return !is_qp_gone && took_ns >= ep->dereg_trusted_ns ? -ETIMEDOUT : 0;
}

int pml_verbs_key_fence(struct pml_key *base, enum pml_ep_fence how)
{
	struct verbs_key *key = PML_CONTAINER_OF(base, struct verbs_key, base);
	struct pml_verbs_ep *ep = ep_of(base->ep);
	bool is_hard = how == PML_EP_FENCE_CONNECTION;
	int err = is_hard ? pml_verbs_destroy(base->ep) : 0;
	if (!err)
		err = key->window ? end_window(ep, key->window) : end_region(ep, key, is_hard);
	if (err)
		return err;
	atomic_fetch_sub(&ep->keys_count, 1);
	free(key);
	return 0;
}
