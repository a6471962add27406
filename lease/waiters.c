/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * waiters.c -- layout operations that meet leases: admit, park, resume
 *
 * A waiter is queued from its first parking until done(), on the bucket of the
 * inode it waits for.  While queued it holds back new conflicting leases, so
 * the leases in its way only get fewer; when the last is gone it is resumed
 * and asks again.
 *
 * Threads: the caller serialises; see table.h.
 * Doc: include/pml/guard.h; docs/lease-protocol.md, "Breaks".
 */
#include "table.h"

static struct pml_list *waiter_bucket(const struct pml_table *tab, uint64_t ino)
{
	const struct pml_list *bucket = &tab->waiter_buckets[ino % PML_TABLE_WAITER_BUCKETS];
	return (struct pml_list *)(uintptr_t)bucket;
}

static struct pml_lease *first_in_the_way(const struct pml_table *tab,
					  const struct pml_layout_change *change)
{
	struct pml_lease *lease;
	pml_table_for_each_near(lease, tab, change->ino, change->first_byte, change->end_byte) {
		if (pml_rules_is_in_the_way(&lease->claim, change))
			break;
	}
	return lease;
}

/* ---- resume ------------------------------------------------------------- */

static void resume(struct pml_table *tab, struct pml_waiter *w, int verdict)
{
	assert(w->is_parked);
	w->is_parked = false;
	w->verdict = verdict;
	if (verdict == -EINTR)
		tab->stats.interrupted++;
	pml_list_append(&tab->resumes, &w->resume_link);
}

void pml_table_recheck_waiters(struct pml_table *tab, uint64_t ino, uint64_t first_byte,
			       uint64_t end_byte)
{
	pml_rules_round_out(&first_byte, &end_byte);
	struct pml_waiter *w;
	pml_list_for_each(w, waiter_bucket(tab, ino), link) {
		const struct pml_layout_change *change = &w->change;
		if (!w->is_parked || change->ino != ino || change->first_byte >= end_byte ||
		    change->end_byte <= first_byte)
			continue;
		if (!first_in_the_way(tab, change))
			resume(tab, w, 0);
	}
}

void pml_table_fail_waiters(struct pml_table *tab, const struct pml_lease *lease, int verdict)
{
	struct pml_waiter *w;
	pml_list_for_each(w, waiter_bucket(tab, lease->claim.ino), link) {
		if (w->is_parked && pml_rules_is_in_the_way(&lease->claim, &w->change))
			resume(tab, w, verdict);
	}
}

void pml_table_fail_all_waiters(struct pml_table *tab, int verdict)
{
	for (size_t i = 0; i < PML_TABLE_WAITER_BUCKETS; i++) {
		struct pml_waiter *w;
		pml_list_for_each(w, &tab->waiter_buckets[i], link) {
			if (w->is_parked)
				resume(tab, w, verdict);
		}
	}
}

void pml_table_waiter_tick(struct pml_table *tab, uint64_t now_ms)
{
	if (tab->waiter_due_ms > now_ms)
		return;

	uint64_t due_ms = PML_NEVER_MS;
	for (size_t i = 0; i < PML_TABLE_WAITER_BUCKETS; i++) {
		struct pml_waiter *w;
		pml_list_for_each(w, &tab->waiter_buckets[i], link) {
			if (!w->is_parked || w->deadline_ms == 0)
				continue;
			if (w->deadline_ms <= now_ms)
				resume(tab, w, -EBUSY);
			else
				due_ms = PML_MIN(due_ms, w->deadline_ms);
		}
	}
	tab->waiter_due_ms = due_ms;
}

/* ---- admit -------------------------------------------------------------- */

/* What is in the way of a change. */
struct survey {
	bool has_any;
	bool has_others; /* of other sessions than the asker's */
	bool has_stuck;
};

static struct survey look(const struct pml_table *tab, const struct pml_layout_change *change,
			  uint64_t session)
{
	struct survey found = {0};
	struct pml_lease *lease;
	pml_table_for_each_near(lease, tab, change->ino, change->first_byte, change->end_byte) {
		if (!pml_rules_is_in_the_way(&lease->claim, change))
			continue;
		found.has_any = true;
		found.has_others |= lease->claim.session != session;
		found.has_stuck |= lease->state == PML_LEASE_STUCK;
	}
	return found;
}

/* Starts ending everything in the way of @change: the asker's own leases count as returned. */
static void break_leases(struct pml_table *tab, const struct pml_layout_change *change,
			 uint64_t session, uint64_t now_ms)
{
	bool arm_clocks = tab->config.policy[change->op] == PML_POLICY_REVOKE;
	struct pml_lease *lease;
	pml_table_for_each_near(lease, tab, change->ino, change->first_byte, change->end_byte) {
		if (!pml_rules_is_in_the_way(&lease->claim, change))
			continue;
		if (lease->claim.session == session)
			pml_table_end(tab, lease, PML_END_OWN_CHANGE, false, now_ms);
		else
			pml_table_recall(tab, lease, change->op, arm_clocks, now_ms);
	}
}

static void park(struct pml_table *tab, const struct pml_layout_change *change,
		 struct pml_waiter *w, uint64_t now_ms)
{
	bool keeps_place = w->is_queued && w->change.ino == change->ino;
	if (!w->is_queued) {
		w->since_ms = now_ms;
		w->is_queued = true;
		pml_list_init(&w->link);
		pml_list_init(&w->resume_link);
		tab->stats.waiters++;
	}
	if (!keeps_place) {
		pml_list_remove(&w->link);
		pml_list_append(waiter_bucket(tab, change->ino), &w->link);
	}
	w->change = *change;
	w->is_parked = true;
	tab->stats.parked++;

	w->deadline_ms = 0;
	if (tab->config.policy[change->op] == PML_POLICY_BLOCK && tab->config.block_deadline_ms) {
		w->deadline_ms = w->since_ms + tab->config.block_deadline_ms;
		tab->waiter_due_ms = PML_MIN(tab->waiter_due_ms, w->deadline_ms);
	}
}

int pml_table_admit(struct pml_table *tab, const struct pml_layout_change *change,
		    struct pml_waiter *w, uint64_t now_ms)
{
	assert(change->first_byte < change->end_byte && change->op < PML_OP_COUNT);
	assert(!w || !w->is_parked);
	if (w && w->verdict)
		return w->verdict;

	/* Session 0 is every local process: it has no leases of its own. */
	uint64_t session = w ? w->session : 0;
	struct survey found = look(tab, change, session);
	if (!found.has_any)
		return 0;
	if (tab->config.policy[change->op] == PML_POLICY_SKIP) {
		tab->stats.skipped++;
		return -ECANCELED;
	}
	if (found.has_stuck)
		return -EIO;
	if (!w || (found.has_others && tab->config.policy[change->op] == PML_POLICY_EBUSY)) {
		tab->stats.refused_busy += !change->is_probe;
		return -EBUSY;
	}
	if (w->is_cancelled || tab->is_closing) {
		tab->stats.interrupted++;
		return -EINTR;
	}
	if (!w->is_queued && tab->stats.waiters >= tab->config.max_waiters) {
		tab->stats.refused_limit++;
		return -EAGAIN;
	}
	break_leases(tab, change, session, now_ms);
	park(tab, change, w, now_ms);
	return -EINPROGRESS;
}

void pml_table_cancel(struct pml_table *tab, struct pml_waiter *w)
{
	if (w->is_parked)
		resume(tab, w, -EINTR);
	else
		w->is_cancelled = true;
}

void pml_table_done(struct pml_table *tab, struct pml_waiter *w)
{
	if (!w->is_queued)
		return;
	assert(!w->is_parked && pml_list_is_empty(&w->resume_link));
	pml_list_remove(&w->link);
	w->is_queued = false;
	w->is_cancelled = false;
	w->verdict = 0;
	tab->stats.waiters--;
}

/* ---- what others ask ---------------------------------------------------- */

bool pml_table_is_held_back(const struct pml_table *tab, const struct pml_claim *asked)
{
	const struct pml_waiter *w;
	pml_list_for_each(w, waiter_bucket(tab, asked->ino), link) {
		if (pml_rules_is_in_the_way(asked, &w->change))
			return true;
	}
	return false;
}

const struct pml_waiter *pml_table_first_waiter(const struct pml_table *tab,
						const struct pml_lease *lease)
{
	const struct pml_waiter *w;
	pml_list_for_each(w, waiter_bucket(tab, lease->claim.ino), link) {
		if (w->is_parked && pml_rules_is_in_the_way(&lease->claim, &w->change))
			return w;
	}
	return NULL;
}
