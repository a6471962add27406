/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * seeing.c -- lists, numbers and the audit: who holds what, and who waits for whom
 *
 * Threads: any; lock order in manager.h.
 */
#include <string.h>

#include "manager.h"

static void fill_waiter(const struct pml_table *tab, const struct pml_lease *lease,
			struct pml_lease_view *view)
{
	const struct pml_waiter *w = pml_table_first_waiter(tab, lease);
	if (!w)
		return;
	memcpy(view->waiter, w->name, sizeof(view->waiter));
	view->waiter[sizeof(view->waiter) - 1] = '\0';
	view->waiter_pid = w->pid;
	view->waiter_op = w->change.op;
}

static void fill_view(const struct pml_table *tab, const struct pml_lease *lease, uint64_t now_ms,
		      struct pml_lease_view *ret_view)
{
	*ret_view = (struct pml_lease_view){
		.lease_id = lease->id,
		.session = lease->claim.session,
		.ino = lease->claim.ino,
		.first_byte = lease->claim.first_byte,
		.end_byte = lease->claim.end_byte,
		.age_ms = now_ms - lease->since_ms,
		.pinned_bytes = lease->pinned_bytes,
		.nsegments = lease->nsegments,
		.uid = lease->session->uid,
		.is_shared = lease->claim.is_shared,
		.is_unbreakable = lease->claim.is_unbreakable,
		.is_orphan = lease->is_orphan,
		.was_recalled = lease->recalled_ms != 0,
		.is_acked = lease->is_acked,
		.recall_op = lease->recall_op,
		.recalled_ms = lease->recalled_ms ? now_ms - lease->recalled_ms : 0,
		.mode = lease->claim.mode,
		.state = lease->state,
		.why = lease->why,
	};
	static_assert(sizeof(ret_view->peer) == sizeof(lease->session->peer), "one size of names");
	memcpy(ret_view->peer, lease->session->peer, sizeof(ret_view->peer));
	fill_waiter(tab, lease, ret_view);
}

/* The link behind lease @after in order of id; a step if it is still there, else a walk. */
static const struct pml_list *link_behind(const struct pml_table *tab, uint64_t after)
{
	const struct pml_lease *lease = pml_table_find(tab, after);
	if (lease)
		return lease->all.next;
	pml_list_for_each(lease, &tab->leases, all) {
		if (lease->id > after)
			return &lease->all;
	}
	return &tab->leases;
}

static const struct pml_lease *lease_of(const struct pml_list *link)
{
	return (const struct pml_lease *)(const void *)((const char *)link -
							offsetof(struct pml_lease, all));
}

size_t pml_lease_list(struct pml_lease_manager *mgr, uint64_t after,
		      struct pml_lease_view *ret_views, size_t max)
{
	size_t count = 0;
	uint64_t now_ms = pml_manager_lock(mgr);
	const struct pml_table *tab = &mgr->table;
	const struct pml_list *link = link_behind(tab, after);
	for (; link != &tab->leases && count < max; link = link->next)
		fill_view(tab, lease_of(link), now_ms, &ret_views[count++]);
	pml_manager_unlock(mgr);
	return count;
}

/* Views of @lease's segments from @from on; returns how many fitted. */
static size_t fill_pins(const struct pml_lease *lease, uint32_t from,
			struct pml_pin_view *ret_views, size_t max)
{
	size_t count = 0;
	for (uint32_t i = from; i < lease->nsegments && count < max; i++) {
		const struct pml_segment *at = &lease->segments[i].at;
		struct pml_pin_view *view = &ret_views[count++];
		*view = (struct pml_pin_view){
			.lease_id = lease->id,
			.ino = lease->claim.ino,
			.first_byte = at->first_byte,
			.block = at->block,
			.nblocks = at->nblocks,
		};
		memcpy(view->peer, lease->session->peer, sizeof(view->peer));
	}
	return count;
}

size_t pml_pin_list(struct pml_lease_manager *mgr, uint64_t after_lease, uint32_t after_segment,
		    struct pml_pin_view *ret_views, size_t max)
{
	size_t count = 0;
	pml_manager_lock(mgr);
	const struct pml_table *tab = &mgr->table;
	const struct pml_lease *lease = pml_table_find(tab, after_lease);
	if (lease)
		count = fill_pins(lease, after_segment, ret_views, max);
	const struct pml_list *link = link_behind(tab, after_lease);
	for (; link != &tab->leases && count < max; link = link->next)
		count += fill_pins(lease_of(link), 0, &ret_views[count], max - count);
	pml_manager_unlock(mgr);
	return count;
}

/* ---- sessions ------------------------------------------------------------ */

static void fill_session(const struct pml_lease_session *session, uint64_t now_ms,
			 struct pml_session_view *ret_view)
{
	bool is_local = session->ops->is_local;
	*ret_view = (struct pml_session_view){
		.session = session->id,
		.age_ms = now_ms - session->since_ms,
		.silent_ms = is_local ? 0 : now_ms + session->term_ms - session->expires_ms,
		.pinned_bytes = session->usage.pinned_bytes,
		.nleases = (uint32_t)session->usage.leases,
		.nsegments = (uint32_t)session->usage.segments,
		.uid = session->uid,
		.is_local = is_local,
		.is_ending = !session->is_live,
	};
	static_assert(sizeof(ret_view->peer) == sizeof(session->peer), "one size of names");
	memcpy(ret_view->peer, session->peer, sizeof(ret_view->peer));
	memcpy(ret_view->identity, session->identity, sizeof(ret_view->identity));
}

size_t pml_session_list(struct pml_lease_manager *mgr, uint64_t after,
			struct pml_session_view *ret_views, size_t max)
{
	size_t count = 0;
	uint64_t now_ms = pml_manager_lock(mgr);
	const struct pml_lease_session *session;
	pml_list_for_each(session, &mgr->table.sessions, all) {
		if (count == max)
			break;
		if (session->id > after)
			fill_session(session, now_ms, &ret_views[count++]);
	}
	pml_manager_unlock(mgr);
	return count;
}

/* ---- numbers ------------------------------------------------------------- */

void pml_lease_stats(struct pml_lease_manager *mgr, struct pml_lease_stats *ret_stats)
{
	pml_manager_lock(mgr);
	*ret_stats = mgr->table.stats;
	pml_manager_unlock(mgr);
}

/* ---- who waits, and what has ended by force ------------------------------ */

static void fill_waiter_view(const struct pml_table *tab, const struct pml_waiter *w,
			     uint64_t now_ms, struct pml_waiter_view *ret_view)
{
	const struct pml_lease *lease = pml_table_first_in_the_way(tab, &w->change);
	*ret_view = (struct pml_waiter_view){
		.ino = w->change.ino,
		.first_byte = w->change.first_byte,
		.end_byte = w->change.end_byte,
		.age_ms = now_ms - w->since_ms,
		.lease_id = lease ? lease->id : 0,
		.pid = w->pid,
		.uid = w->uid,
		.op = w->change.op,
		.policy = tab->config.policy[w->change.op],
	};
	memcpy(ret_view->name, w->name, sizeof(ret_view->name));
	ret_view->name[sizeof(ret_view->name) - 1] = '\0';
	if (lease)
		memcpy(ret_view->peer, lease->session->peer, sizeof(ret_view->peer));
}

size_t pml_waiter_list(struct pml_lease_manager *mgr, size_t skip,
		       struct pml_waiter_view *ret_views, size_t max)
{
	size_t count = 0, seen = 0;
	uint64_t now_ms = pml_manager_lock(mgr);
	const struct pml_table *tab = &mgr->table;
	for (size_t i = 0; i < PML_TABLE_WAITER_BUCKETS; i++) {
		const struct pml_waiter *w;
		pml_list_for_each(w, &tab->waiter_buckets[i], link) {
			if (seen++ >= skip && count < max)
				fill_waiter_view(tab, w, now_ms, &ret_views[count++]);
		}
	}
	pml_manager_unlock(mgr);
	return count;
}

size_t pml_lease_history(struct pml_lease_manager *mgr, uint64_t after,
			 struct pml_ending *ret_endings, size_t max)
{
	size_t count = 0;
	uint64_t now_ms = pml_manager_lock(mgr);
	const struct pml_history *history = &mgr->table.history;
	uint64_t forgotten = history->total - PML_MIN(history->total, PML_HISTORY_MAX);
	for (uint64_t i = PML_MAX(after, forgotten); i < history->total && count < max; i++) {
		struct pml_ending *ending = &ret_endings[count++];
		*ending = history->ending[i % PML_HISTORY_MAX]; /* the number is i + 1 */
		ending->ago_ms = now_ms - ending->ago_ms;
	}
	pml_manager_unlock(mgr);
	return count;
}

/* ---- the audit ----------------------------------------------------------- */

/* Under every lock of the filesystem; lock comes after those. */
static void emit_pins(void *arg, pml_audit_emit emit, void *audit)
{
	struct pml_lease_manager *mgr = arg;
	pml_manager_lock(mgr);
	const struct pml_lease *lease;
	pml_list_for_each(lease, &mgr->table.leases, all) {
		for (uint32_t i = 0; i < lease->nsegments; i++)
			emit(audit, lease->segments[i].at.block, lease->segments[i].at.nblocks);
	}
	pml_manager_unlock(mgr);
}

int pml_lease_audit(struct pml_lease_manager *mgr, char *ret_reason)
{
	/* No pin is made or dropped without the table knowing while this is held. */
	pthread_rwlock_wrlock(&mgr->pin_lock);
	int err = pml_fs_audit(mgr->fs, emit_pins, mgr, ret_reason);
	pthread_rwlock_unlock(&mgr->pin_lock);
	return err;
}
