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

static struct pml_list *held_bucket(const struct pml_table *tab, uint64_t ino)
{
	const struct pml_list *bucket = &tab->held_buckets[ino % PML_TABLE_WAITER_BUCKETS];
	return (struct pml_list *)(uintptr_t)bucket;
}

struct pml_lease *pml_table_first_in_the_way(const struct pml_table *tab,
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

/* Model: waiter_resume (tests/model/breaks.pml). */
static void resume(struct pml_table *tab, struct pml_waiter *w, int verdict)
{
	assert(w->is_parked);
	w->is_parked = false;
	w->verdict = verdict;
	if (verdict == -EINTR)
		tab->stats.interrupted++;
	pml_list_append(&tab->resumes, &w->resume_link);
}

/* Model: waiters_recheck (tests/model/breaks.pml). */
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
		if (!pml_table_first_in_the_way(tab, change))
			resume(tab, w, 0);
	}
}

/* Model: waiters_fail (tests/model/breaks.pml). */
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

/* Model: waiter_deadline (tests/model/breaks.pml). */
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
	bool has_unbreakable; /* another session's, and not ending */
	bool has_own_unbreakable;
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
		bool is_own = lease->claim.session == session;
		bool is_held = lease->claim.is_unbreakable && lease->state < PML_LEASE_FENCING;
		found.has_others |= !is_own;
		found.has_stuck |= lease->state == PML_LEASE_STUCK;
		found.has_unbreakable |= is_held && !is_own;
		found.has_own_unbreakable |= is_held && is_own;
	}
	return found;
}

/* A program that changes the file itself has drained; a client's message says no such thing. */
static bool is_local(const struct pml_lease *lease)
{
	return lease->session->ops && lease->session->ops->is_local;
}

/*
 * Starts ending everything in the way of @change: the asker's own leases count as returned.
 * Model: break_recall (tests/model/breaks.pml).
 */
static void break_leases(struct pml_table *tab, const struct pml_layout_change *change,
			 uint64_t session, uint64_t now_ms)
{
	bool arm_clocks = tab->config.policy[change->op] == PML_POLICY_REVOKE;
	struct pml_lease *lease;
	pml_table_for_each_near(lease, tab, change->ino, change->first_byte, change->end_byte) {
		if (!pml_rules_is_in_the_way(&lease->claim, change))
			continue;
		if (lease->claim.session == session)
			pml_table_end(tab, lease, PML_END_OWN_CHANGE, is_local(lease), now_ms);
		else
			pml_table_recall(tab, lease, change->op, arm_clocks, now_ms);
	}
}

/* Policy ebusy with courtesy: the operation fails, but a later try may not. */
static void recall_others(struct pml_table *tab, const struct pml_layout_change *change,
			  uint64_t session, uint64_t now_ms)
{
	struct pml_lease *lease;
	pml_table_for_each_near(lease, tab, change->ino, change->first_byte, change->end_byte) {
		if (pml_rules_is_in_the_way(&lease->claim, change) &&
		    lease->claim.session != session)
			pml_table_recall(tab, lease, change->op, false, now_ms);
	}
}

/* From now on it has a place in the break queue, and counts (I9). */
static int join_queue(struct pml_table *tab, struct pml_waiter *w, uint64_t now_ms)
{
	struct pml_party *user = pml_accounts_user(&tab->accounts, w->uid);
	if (!user)
		return -EAGAIN;
	enum pml_limit limit;
	int err = pml_accounts_admit_waiter(&tab->accounts, user, tab->stats.waiters, &limit);
	if (err) {
		pml_table_record_refusal(tab, limit);
		pml_accounts_put(&tab->accounts, user);
		return err;
	}
	user->waiters++;
	w->party = user;
	w->since_ms = now_ms;
	w->is_queued = true;
	pml_list_init(&w->link);
	w->nholds = 0;
	pml_list_init(&w->resume_link);
	tab->stats.waiters++;
	return 0;
}

static uint32_t holds_of(const struct pml_waiter *w)
{
	return PML_MIN(w->nholds, PML_WAITER_HOLDS);
}

/* Makes @held cover @change too, if it is one of the same kind; false: it is none. */
static bool widen(struct pml_layout_change *held, const struct pml_layout_change *change)
{
	if (held->ino != change->ino || held->op != change->op)
		return false;
	held->first_byte = PML_MIN(held->first_byte, change->first_byte);
	held->end_byte = PML_MAX(held->end_byte, change->end_byte);
	return true;
}

/*
 * An operation with several changes (a clone's source and destination) that waits for another
 * one goes on holding back leases in the way of the former ones: else it might have to wait
 * for the one, then for the other, for ever.
 * Model: break_hold (tests/model/breaks.pml).
 */
static void hold_former(struct pml_table *tab, struct pml_waiter *w)
{
	for (uint32_t i = 0; i < holds_of(w); i++)
		if (widen(&w->hold[i].change, &w->change))
			return;
	struct pml_hold *hold = &w->hold[w->nholds % PML_WAITER_HOLDS];
	if (w->nholds >= PML_WAITER_HOLDS)
		pml_list_remove(&hold->link);
	w->nholds++;
	hold->change = w->change;
	pml_list_append(held_bucket(tab, hold->change.ino), &hold->link);
}

static bool is_same_change(const struct pml_layout_change *a, const struct pml_layout_change *b)
{
	return a->ino == b->ino && a->first_byte == b->first_byte && a->end_byte == b->end_byte &&
	       a->op == b->op;
}

/* How long @w may wait by policy block; 0: for ever. */
static uint64_t block_limit_ms(const struct pml_table *tab, const struct pml_waiter *w)
{
	uint64_t limit_ms = tab->config.block_deadline_ms;
	if (!w->is_returning)
		return limit_ms;
	return limit_ms ? PML_MIN(limit_ms, (uint64_t)tab->config.drain_ms) : tab->config.drain_ms;
}

/* Model: break_park (tests/model/breaks.pml). */
static void park(struct pml_table *tab, const struct pml_layout_change *change,
		 struct pml_waiter *w)
{
	bool has_place = !pml_list_is_empty(&w->link);
	bool keeps_place = has_place && w->change.ino == change->ino;
	if (has_place && !is_same_change(&w->change, change))
		hold_former(tab, w);
	if (!keeps_place) {
		pml_list_remove(&w->link);
		pml_list_append(waiter_bucket(tab, change->ino), &w->link);
	}
	w->change = *change;
	w->is_parked = true;
	tab->stats.parked++;

	w->deadline_ms = 0;
	uint64_t limit_ms = block_limit_ms(tab, w);
	if (tab->config.policy[change->op] == PML_POLICY_BLOCK && limit_ms) {
		w->deadline_ms = w->since_ms + limit_ms;
		tab->waiter_due_ms = PML_MIN(tab->waiter_due_ms, w->deadline_ms);
	}
}

/* Model: break_admit (tests/model/breaks.pml). */
int pml_table_admit(struct pml_table *tab, const struct pml_layout_change *change,
		    struct pml_waiter *w, uint64_t now_ms)
{
	assert(change->first_byte < change->end_byte && change->op < PML_OP_COUNT);
	assert(!w || !w->is_parked);
	if (w && w->verdict)
		return w->verdict;

	/* Session 0 is every local process that changes what it holds no lease on. */
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
	if (found.has_own_unbreakable)
		return -EDEADLK;
	bool is_busy = found.has_others && tab->config.policy[change->op] == PML_POLICY_EBUSY;
	if (!w || found.has_unbreakable || is_busy) {
		tab->stats.refused_busy += !change->is_probe;
		if (w && is_busy && !found.has_unbreakable && tab->config.ebusy_recalls)
			recall_others(tab, change, session, now_ms);
		return -EBUSY;
	}
	if (w->is_cancelled || tab->is_closing) {
		tab->stats.interrupted++;
		return -EINTR;
	}
	int err = w->is_queued ? 0 : join_queue(tab, w, now_ms);
	if (err)
		return err;
	break_leases(tab, change, session, now_ms);
	park(tab, change, w);
	return -EINPROGRESS;
}

/* Model: break_cancel (tests/model/breaks.pml). */
void pml_table_cancel(struct pml_table *tab, struct pml_waiter *w)
{
	if (w->is_parked)
		resume(tab, w, -EINTR);
	else
		w->is_cancelled = true;
}

/* Model: break_done (tests/model/breaks.pml). */
void pml_table_done(struct pml_table *tab, struct pml_waiter *w, uint64_t now_ms)
{
	if (!w->is_queued)
		return;
	assert(!w->is_parked && pml_list_is_empty(&w->resume_link));
	pml_list_remove(&w->link);
	for (uint32_t i = 0; i < holds_of(w); i++)
		pml_list_remove(&w->hold[i].link);
	w->is_queued = false;
	w->is_cancelled = false;
	w->verdict = 0;
	tab->stats.waiters--;
	w->party->waiters--;
	pml_accounts_put(&tab->accounts, w->party);
	w->party = NULL;
	pml_table_record_span(tab, PML_SPAN_WAIT, now_ms - w->since_ms);
}

/* ---- what others ask ---------------------------------------------------- */

/* Model: held_back (tests/model/breaks.pml). */
bool pml_table_is_held_back(const struct pml_table *tab, const struct pml_claim *asked)
{
	const struct pml_waiter *w;
	pml_list_for_each(w, waiter_bucket(tab, asked->ino), link) {
		if (pml_rules_is_in_the_way(asked, &w->change))
			return true;
	}
	const struct pml_hold *hold;
	pml_list_for_each(hold, held_bucket(tab, asked->ino), link) {
		if (pml_rules_is_in_the_way(asked, &hold->change))
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
