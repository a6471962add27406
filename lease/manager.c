/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * manager.c -- runs the lease table: lock, clock thread, guard
 *
 * The clock thread lets time pass in the table and executes its effects: all
 * messages, resumes and releases run in this one thread, so that callbacks of
 * a session never run side by side.  Fences are in fencer.c.
 *
 * Threads: see include/pml/lease.h; lock order in manager.h.
 */
#include <stdio.h>
#include <string.h>

#include "manager.h"
#include "pml/log.h"

/* ---- lock and wake-ups -------------------------------------------------- */

uint64_t pml_manager_lock(struct pml_lease_manager *mgr)
{
	pthread_mutex_lock(&mgr->lock);
	return pml_now_ms();
}

/* What the table has queued, and for whom. */
struct wakes {
	bool clock;
	bool fence;
};

static struct wakes wakes_locked(const struct pml_lease_manager *mgr)
{
	const struct pml_table *tab = &mgr->table;
	return (struct wakes){
		.clock = pml_table_has_action(tab) || pml_table_next_due_ms(tab) < mgr->wakes_ms,
		.fence = !pml_list_is_empty(&tab->fences),
	};
}

static void wake(struct pml_lease_manager *mgr, struct wakes wakes)
{
	if (wakes.clock)
		pthread_cond_signal(&mgr->clock_cond);
	if (wakes.fence)
		pthread_cond_signal(&mgr->fence_cond);
}

void pml_manager_wake_locked(struct pml_lease_manager *mgr)
{
	wake(mgr, wakes_locked(mgr));
}

static void unlock(struct pml_lease_manager *mgr, bool with_fences)
{
	struct wakes wakes = wakes_locked(mgr);
	wakes.fence &= with_fences;
	pthread_mutex_unlock(&mgr->lock);
	/* Not before: on one processor they would run at once, into the lock. */
	wake(mgr, wakes);
}

void pml_manager_unlock(struct pml_lease_manager *mgr)
{
	unlock(mgr, true);
}

void pml_manager_unlock_but_fences(struct pml_lease_manager *mgr)
{
	unlock(mgr, false);
}

static struct timespec timespec_of(uint64_t ms)
{
	return (struct timespec){.tv_sec = (time_t)(ms / 1000),
				 .tv_nsec = (long)(ms % 1000) * 1000000L};
}

/* Until signalled or @due_ms; PML_NEVER_MS: no end. */
static void wait_until_locked(struct pml_lease_manager *mgr, pthread_cond_t *cond, uint64_t due_ms)
{
	if (due_ms == PML_NEVER_MS) {
		pthread_cond_wait(cond, &mgr->lock);
		return;
	}
	struct timespec due = timespec_of(due_ms);
	(void)pthread_cond_timedwait(cond, &mgr->lock, &due);
}

/* ---- the clock thread --------------------------------------------------- */

/* Processes choose their names: nothing of them ends or breaks a line of the log. */
static void format_waiter(const struct pml_lease *lease, char *ret_text, size_t bytes)
{
	char name[PML_WAITER_NAME_BYTES];
	for (size_t i = 0; i < sizeof(name); i++) {
		unsigned char c = (unsigned char)lease->waiter[i];
		name[i] = c == 0 || (c >= 0x20 && c < 0x7f) ? (char)c : '?';
	}
	if (lease->waiter_pid || name[0])
		(void)snprintf(ret_text, bytes, "%s (pid %d) waited", name[0] ? name : "?",
			       (int)lease->waiter_pid);
	else
		(void)snprintf(ret_text, bytes, "no process waits");
}

static void log_revoke(const struct pml_lease *lease)
{
	if (lease->why != PML_END_CONFLICT && lease->why != PML_END_SILENT)
		return;
	uint64_t since_ms = lease->recalled_ms ? lease->recalled_ms : lease->ended_ms;
	char waiter[PML_WAITER_NAME_BYTES + 32];
	format_waiter(lease, waiter, sizeof(waiter));
	pml_log_warning("lease %llu revoked: inode %llu bytes %llu-%llu, held by %s, for %s, "
			"cause %s, %llu ms after the recall; %s",
			(unsigned long long)lease->id, (unsigned long long)lease->claim.ino,
			(unsigned long long)lease->claim.first_byte,
			(unsigned long long)lease->claim.end_byte, lease->session->peer,
			pml_layout_op_name(lease->recall_op), pml_end_reason_name(lease->why),
			(unsigned long long)(pml_now_ms() - since_ms), waiter);
}

static void log_stuck(const struct pml_lease *lease)
{
	pml_log_error("lease %llu is stuck: no fence could be confirmed for inode %llu bytes "
		      "%llu-%llu, held by %s; its blocks stay pinned",
		      (unsigned long long)lease->id, (unsigned long long)lease->claim.ino,
		      (unsigned long long)lease->claim.first_byte,
		      (unsigned long long)lease->claim.end_byte, lease->session->peer);
}

void pml_manager_contents_changed(struct pml_lease_manager *mgr, uint64_t ino, uint64_t first_byte,
				  uint64_t len_bytes, bool may_wait)
{
	if (mgr->hooks.contents_changed)
		mgr->hooks.contents_changed(mgr->hooks.arg, ino, first_byte, len_bytes, may_wait);
}

/* The last that happens to a lease.  Model: act_gone (tests/model/table.pml). */
static void finish_lease(const struct pml_action *action)
{
	struct pml_lease *lease = action->lease;
	log_revoke(lease);
	if (lease->was_stuck)
		pml_log_warning("lease %llu of %s is stuck no more: its fence is confirmed",
				(unsigned long long)lease->id, lease->session->peer);
	if (action->tell_holder)
		lease->session->ops->revoked(lease->session->arg, lease->id, lease->why);
	free(lease->segments);
	free(lease);
}

/* Without locks.  What an action names lives until its last action, which runs here too. */
static void act(const struct pml_action *action)
{
	struct pml_lease_session *session = action->session;
	switch (action->kind) {
	case PML_ACTION_RECALL:
		session->ops->recall(session->arg, action->lease->id, action->op, action->drain_ms);
		break;
	case PML_ACTION_STUCK:
		log_stuck(action->lease);
		break;
	case PML_ACTION_GONE:
		finish_lease(action);
		break;
	case PML_ACTION_RESUME:
		action->waiter->resume(action->waiter);
		break;
	case PML_ACTION_DIED:
		pml_log_warning("session %llu of %s has been silent for %u ms: all its leases end",
				(unsigned long long)session->id, session->peer, session->term_ms);
		break;
	case PML_ACTION_EVICTED:
		pml_log_warning("session %llu of %s was ended by an administrator",
				(unsigned long long)session->id, session->peer);
		if (session->ops->evicted)
			session->ops->evicted(session->arg);
		break;
	case PML_ACTION_RELEASED:
		if (session->ops->released)
			session->ops->released(session->arg);
		free(session);
		break;
	}
}

static void *run_clock(void *arg)
{
	struct pml_lease_manager *mgr = arg;
	pthread_mutex_lock(&mgr->lock);
	for (;;) {
		const struct pml_list *last = mgr->table.fences.prev;
		pml_table_tick(&mgr->table, pml_now_ms());
		/* Only for what has become due: others see to theirs. */
		if (mgr->table.fences.prev != last)
			pthread_cond_signal(&mgr->fence_cond);

		struct pml_action action;
		if (pml_table_next_action(&mgr->table, &action)) {
			mgr->is_acting = true;
			pthread_mutex_unlock(&mgr->lock);
			act(&action);
			pthread_mutex_lock(&mgr->lock);
			mgr->is_acting = false;
			continue;
		}
		pthread_cond_broadcast(&mgr->idle_cond);
		if (mgr->is_stopping)
			break;
		mgr->wakes_ms = pml_table_next_due_ms(&mgr->table);
		wait_until_locked(mgr, &mgr->clock_cond, mgr->wakes_ms);
		mgr->wakes_ms = 0; /* awake: needs no signal, it looks before it sleeps */
	}
	pthread_mutex_unlock(&mgr->lock);
	return NULL;
}

/* ---- the guard ---------------------------------------------------------- */

static int guard_admit(void *guard, const struct pml_layout_change *change, struct pml_waiter *w)
{
	struct pml_lease_manager *mgr = guard;
	uint64_t now_ms = pml_manager_lock(mgr);
	int err = pml_table_admit(&mgr->table, change, w, now_ms);
	pml_manager_unlock(mgr);
	return err;
}

/* Touches nothing behind the unlock: pml_lease_manager_free() may have waited for this. */
static void unlock_last(struct pml_lease_manager *mgr)
{
	pml_manager_wake_locked(mgr);
	pthread_mutex_unlock(&mgr->lock);
}

static void guard_cancel(void *guard, struct pml_waiter *w)
{
	struct pml_lease_manager *mgr = guard;
	pml_manager_lock(mgr);
	pml_table_cancel(&mgr->table, w);
	unlock_last(mgr);
}

static void guard_done(void *guard, struct pml_waiter *w)
{
	struct pml_lease_manager *mgr = guard;
	/* Without the lock: only its own operation, which has ended, changes this field. */
	if (!w->is_queued)
		return;
	uint64_t now_ms = pml_manager_lock(mgr);
	pml_table_done(&mgr->table, w, now_ms);
	pthread_cond_broadcast(&mgr->idle_cond);
	unlock_last(mgr);
}

static bool guard_may_be_leased(void *guard, uint64_t ino)
{
	struct pml_lease_manager *mgr = guard;
	return pml_table_may_be_leased(&mgr->table, ino);
}

static void guard_orphaned(void *guard, uint64_t ino)
{
	struct pml_lease_manager *mgr = guard;
	uint64_t now_ms = pml_manager_lock(mgr);
	pml_table_orphaned(&mgr->table, ino, now_ms);
	pml_manager_unlock(mgr);
}

static const struct pml_guard_ops guard_ops = {
	.admit = guard_admit,
	.cancel = guard_cancel,
	.done = guard_done,
	.orphaned = guard_orphaned,
	.may_be_leased = guard_may_be_leased,
};

/* ---- start and stop ----------------------------------------------------- */

static void init_locks(struct pml_lease_manager *mgr)
{
	pthread_condattr_t monotonic;
	pthread_condattr_init(&monotonic);
	pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC); /* the clock of pml_now_ms() */
	pthread_cond_init(&mgr->clock_cond, &monotonic);
	pthread_cond_init(&mgr->fence_cond, &monotonic);
	pthread_cond_init(&mgr->idle_cond, &monotonic);
	pthread_condattr_destroy(&monotonic);

	pthread_rwlockattr_t fair;
	pthread_rwlockattr_init(&fair);
	/* Else a stream of acquires could keep the audit out for ever. */
	pthread_rwlockattr_setkind_np(&fair, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
	pthread_rwlock_init(&mgr->pin_lock, &fair);
	pthread_rwlockattr_destroy(&fair);
	pthread_mutex_init(&mgr->lock, NULL);
}

static void destroy(struct pml_lease_manager *mgr)
{
	pthread_cond_destroy(&mgr->clock_cond);
	pthread_cond_destroy(&mgr->fence_cond);
	pthread_cond_destroy(&mgr->idle_cond);
	pml_table_fini(&mgr->table);
	pthread_rwlock_destroy(&mgr->pin_lock);
	pthread_mutex_destroy(&mgr->lock);
	pml_table_fini(&mgr->table);
	free(mgr);
}

static void ask_to_stop(struct pml_lease_manager *mgr)
{
	pthread_mutex_lock(&mgr->lock);
	mgr->is_stopping = true;
	pthread_cond_broadcast(&mgr->clock_cond);
	pthread_cond_broadcast(&mgr->fence_cond);
	pthread_mutex_unlock(&mgr->lock);
}

int pml_lease_manager_new(struct pml_fs *fs, const struct pml_lease_config *config,
			  const struct pml_lease_hooks *hooks, struct pml_lease_manager **ret_mgr)
{
	struct pml_lease_manager *mgr = calloc(1, sizeof(*mgr));
	if (!mgr)
		return -ENOMEM;
	int err = pml_table_init(&mgr->table, config);
	if (err) {
		free(mgr);
		return err;
	}
	mgr->fs = fs;
	if (hooks)
		mgr->hooks = *hooks;
	init_locks(mgr);

	err = -pthread_create(&mgr->clock_thread, NULL, run_clock, mgr);
	if (err)
		goto undo_locks;
	err = -pthread_create(&mgr->fence_thread, NULL, pml_manager_fence, mgr);
	if (err)
		goto undo_clock;
	pml_fs_set_guard(fs, &guard_ops, mgr);
	*ret_mgr = mgr;
	return 0;

undo_clock:
	ask_to_stop(mgr);
	pthread_join(mgr->clock_thread, NULL);
undo_locks:
	destroy(mgr);
	return err;
}

int pml_lease_configure(struct pml_lease_manager *mgr, const struct pml_lease_config *config)
{
	pml_manager_lock(mgr);
	int err = pml_table_reconfigure(&mgr->table, config);
	pml_manager_unlock(mgr);
	return err;
}

void pml_lease_config_get(struct pml_lease_manager *mgr, struct pml_lease_config *ret_config)
{
	pml_manager_lock(mgr);
	*ret_config = mgr->table.config;
	pml_manager_unlock(mgr);
}

/* ---- an administrator ends a session ------------------------------------- */

static bool has_stuck(const struct pml_lease_session *session)
{
	const struct pml_lease *lease;
	pml_list_for_each(lease, &session->leases, of_session)
		if (lease->state == PML_LEASE_STUCK)
			return true;
	return false;
}

/* 0: nothing is left that could be ended; -EAGAIN: not yet; -EIO. */
static int look_evicted_locked(const struct pml_lease_manager *mgr, uint64_t id)
{
	const struct pml_lease_session *session = pml_table_session_find(&mgr->table, id);
	if (!session)
		return 0;
	if (has_stuck(session))
		return -EIO;
	return session->usage.leases == 0 && session->ops->is_local ? 0 : -EAGAIN;
}

int pml_session_evict(struct pml_lease_manager *mgr, uint64_t id, uint32_t *ret_leases)
{
	int err = -ESRCH;
	uint64_t now_ms = pml_manager_lock(mgr);
	uint64_t until_ms = now_ms + 4ull * mgr->table.config.fence_ms;
	struct pml_lease_session *session = pml_table_session_find(&mgr->table, id);
	if (session && !session->is_ended) {
		*ret_leases = (uint32_t)session->usage.leases;
		pml_table_session_evict(&mgr->table, session, now_ms);
		pml_manager_wake_locked(mgr);
		err = look_evicted_locked(mgr, id);
	}
	while (err == -EAGAIN && pml_now_ms() < until_ms) {
		wait_until_locked(mgr, &mgr->idle_cond, until_ms);
		err = look_evicted_locked(mgr, id);
	}
	pthread_mutex_unlock(&mgr->lock);
	return err == -EAGAIN ? -ETIMEDOUT : err;
}

/* ---- stop --------------------------------------------------------------- */

/* Everything that can end has ended, and everybody has been told. */
static bool is_idle_locked(const struct pml_lease_manager *mgr)
{
	const struct pml_table *tab = &mgr->table;
	return tab->stats.leases == tab->stats.fences_stuck && tab->stats.waiters == 0 &&
	       !pml_table_has_action(tab) && !mgr->is_acting;
}

static bool wait_idle_locked(struct pml_lease_manager *mgr, uint64_t until_ms)
{
	while (!is_idle_locked(mgr) && pml_now_ms() < until_ms)
		wait_until_locked(mgr, &mgr->idle_cond, until_ms);
	return is_idle_locked(mgr);
}

int pml_lease_manager_free(struct pml_lease_manager *mgr)
{
	uint64_t now_ms = pml_manager_lock(mgr);
	uint32_t fence_ms = mgr->table.config.fence_ms;
	pml_table_close(&mgr->table, now_ms);
	pml_manager_wake_locked(mgr);
	bool is_idle = wait_idle_locked(mgr, now_ms + 3ull * fence_ms);
	if (!is_idle) {
		/* Fences hang: at least nobody waits for them any longer. */
		pml_table_fail_all_waiters(&mgr->table, -EINTR);
		pml_manager_wake_locked(mgr);
		is_idle = wait_idle_locked(mgr, pml_now_ms() + PML_MIN(fence_ms, 1000u));
	}
	bool has_leases = mgr->table.stats.leases > 0;
	pthread_mutex_unlock(&mgr->lock);
	if (!is_idle || has_leases)
		return -EBUSY;

	ask_to_stop(mgr);
	pthread_join(mgr->clock_thread, NULL);
	pthread_join(mgr->fence_thread, NULL);
	pml_fs_set_guard(mgr->fs, NULL, NULL);
	destroy(mgr);
	return 0;
}
