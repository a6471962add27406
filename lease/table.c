/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * table.c -- leases: index, life, clocks, and the queue of effects
 *
 *   granting -> granted -> recalling -> fencing -> gone
 *
 * There is one way out: pml_table_end() starts the fence, pml_table_gone() takes
 * the lease out when every key is dead and every block unpinned (I3).  A lease
 * in any state but gone keeps layout operations away from its range (I4).
 *
 * Threads: the caller serialises; see table.h.
 */
#include <string.h>

#include "table.h"

/* ---- the table ---------------------------------------------------------- */

/* Numbers of leases follow each other, so they spread evenly over the buckets. */
#define LEASES_PER_BUCKET 4u
#define LEASE_BUCKETS_MIN 64u
#define LEASE_BUCKETS_MAX (1u << 20)

static bool is_valid_policy(enum pml_policy policy, bool may_skip)
{
	return policy == PML_POLICY_REVOKE || policy == PML_POLICY_EBUSY ||
	       policy == PML_POLICY_BLOCK || (may_skip && policy == PML_POLICY_SKIP);
}

/* I9: without limits and clocks nothing is bounded. */
static bool is_valid_config(const struct pml_lease_config *config)
{
	for (size_t i = 0; i < PML_OP_COUNT; i++) {
		if (!is_valid_policy(config->policy[i], pml_policy_may_skip((enum pml_layout_op)i)))
			return false;
	}
	return is_valid_policy(config->lease_policy, false) && config->ack_ms && config->drain_ms &&
	       config->term_ms && config->fence_ms && config->max_sessions && config->max_leases &&
	       config->max_session_leases && config->max_segments && config->max_session_segments &&
	       config->max_waiters && config->max_session_pinned_bytes && config->max_pinned_bytes;
}

static void init_lists(struct pml_list *heads, size_t count)
{
	for (size_t i = 0; i < count; i++)
		pml_list_init(&heads[i]);
}

static int alloc_lease_buckets(struct pml_table *tab)
{
	uint32_t n = LEASE_BUCKETS_MIN;
	while (n < LEASE_BUCKETS_MAX && n < tab->config.max_leases / LEASES_PER_BUCKET)
		n *= 2;
	tab->lease_buckets = malloc(n * sizeof(tab->lease_buckets[0]));
	if (!tab->lease_buckets)
		return -ENOMEM;
	tab->nlease_buckets = n;
	init_lists(tab->lease_buckets, n);
	return 0;
}

int pml_table_init(struct pml_table *tab, const struct pml_lease_config *config)
{
	if (!is_valid_config(config))
		return -EINVAL;

	memset(tab, 0, sizeof(*tab));
	tab->config = *config;
	tab->waiter_due_ms = PML_NEVER_MS;
	pml_interval_tree_init(&tab->ranges);
	init_lists(tab->session_buckets, PML_TABLE_SESSION_BUCKETS);
	init_lists(tab->waiter_buckets, PML_TABLE_WAITER_BUCKETS);
	init_lists(tab->held_buckets, PML_TABLE_WAITER_BUCKETS);
	pml_list_init(&tab->leases);
	pml_list_init(&tab->terms);
	pml_list_init(&tab->acks);
	pml_list_init(&tab->drains);
	pml_list_init(&tab->fence_retries);
	pml_list_init(&tab->lease_actions);
	pml_list_init(&tab->resumes);
	pml_list_init(&tab->sessions);
	pml_list_init(&tab->session_actions);
	pml_list_init(&tab->fences);
	pml_list_init(&tab->orphans);
	pml_list_init(&tab->seekers);
	pml_accounts_init(&tab->accounts, &tab->config);
	return alloc_lease_buckets(tab);
}

void pml_table_fini(struct pml_table *tab)
{
	assert(pml_list_is_empty(&tab->leases) && tab->stats.sessions == 0);
	pml_accounts_fini(&tab->accounts);
	free(tab->lease_buckets);
	tab->lease_buckets = NULL;
}

int pml_table_reconfigure(struct pml_table *tab, const struct pml_lease_config *config)
{
	if (!is_valid_config(config))
		return -EINVAL;
	tab->config = *config;
	pml_accounts_begin_recount(&tab->accounts, tab->stats.sessions);
	for (size_t i = 0; i < PML_TABLE_SESSION_BUCKETS; i++) {
		const struct pml_lease_session *session;
		pml_list_for_each(session, &tab->session_buckets[i], by_id)
			pml_accounts_recount(&tab->accounts, &session->usage);
	}
	/* They meet the leases in their way by the new policies. */
	pml_table_fail_all_waiters(tab, 0);
	return 0;
}

/* Inode numbers are dense: the low bits spread them best. */
static size_t filter_slot(uint64_t ino)
{
	return ino % PML_TABLE_FILTER_SLOTS;
}

bool pml_table_may_be_leased(const struct pml_table *tab, uint64_t ino)
{
	/*
	 * Acquire is not needed for the leases themselves, which are looked up under the
	 * lock.  A lease whose blocks are mapped was counted before pml_file_pin() took the
	 * inode lock that our caller holds now: the count is visible.
	 */
	return atomic_load_explicit(&tab->filter[filter_slot(ino)], memory_order_acquire) != 0;
}

/* ---- index -------------------------------------------------------------- */

static struct pml_list *lease_bucket(const struct pml_table *tab, uint64_t id)
{
	return &tab->lease_buckets[id % tab->nlease_buckets];
}

struct pml_lease *pml_table_find(const struct pml_table *tab, uint64_t lease_id)
{
	struct pml_lease *lease;
	pml_list_for_each(lease, lease_bucket(tab, lease_id), by_id) {
		if (lease->id == lease_id)
			return lease;
	}
	return NULL;
}

struct pml_lease *pml_table_find_held(const struct pml_table *tab, uint64_t session,
				      uint64_t lease_id)
{
	struct pml_lease *lease = pml_table_find(tab, lease_id);
	if (!lease || lease->claim.session != session)
		return NULL;
	bool is_held = lease->state == PML_LEASE_GRANTED || lease->state == PML_LEASE_RECALLING;
	return is_held ? lease : NULL;
}

static struct pml_lease *lease_at(struct pml_interval *node)
{
	return node ? PML_CONTAINER_OF(node, struct pml_lease, interval) : NULL;
}

struct pml_lease *pml_table_first_near(const struct pml_table *tab, uint64_t ino,
				       uint64_t first_byte, uint64_t end_byte)
{
	pml_rules_round_out(&first_byte, &end_byte);
	return lease_at(pml_interval_first(&tab->ranges, ino, first_byte, end_byte));
}

struct pml_lease *pml_table_next_near(struct pml_lease *lease, uint64_t ino, uint64_t first_byte,
				      uint64_t end_byte)
{
	pml_rules_round_out(&first_byte, &end_byte);
	return lease_at(pml_interval_next(&lease->interval, ino, first_byte, end_byte));
}

/* Charges @lease with @bytes and @segments from now on. */
static void charge(struct pml_table *tab, struct pml_lease *lease, uint64_t bytes,
		   uint32_t segments)
{
	struct pml_lease_session *session = lease->session;
	struct pml_usage now = session->usage;
	now.pinned_bytes += bytes - lease->pinned_bytes;
	now.segments += (uint64_t)segments - lease->max_segments;
	pml_accounts_set(&tab->accounts, &session->usage, session->user, &now);
	if (lease->claim.is_unbreakable)
		tab->accounts.unbreakable_bytes += bytes - lease->pinned_bytes;
	tab->stats.pinned_bytes = tab->accounts.total.pinned_bytes;
	lease->pinned_bytes = bytes;
	lease->max_segments = segments;
}

/* One lease more (1) or less (-1). */
static void charge_lease(struct pml_table *tab, struct pml_lease_session *session, int change)
{
	struct pml_usage now = session->usage;
	now.leases += (uint64_t)(int64_t)change;
	pml_accounts_set(&tab->accounts, &session->usage, session->user, &now);
	tab->stats.leases = tab->accounts.total.leases;
}

/* ---- queues of effects -------------------------------------------------- */

/* Queues what is due for @lease; once is enough, the flags say what. */
static void queue_lease_action(struct pml_table *tab, struct pml_lease *lease)
{
	if (pml_list_is_empty(&lease->action))
		pml_list_append(&tab->lease_actions, &lease->action);
}

static bool must_tell_holder(const struct pml_lease *lease)
{
	if (!lease->was_granted)
		return false;
	switch (lease->why) {
	case PML_END_RETURNED:
	case PML_END_SESSION:
		return false;
	case PML_END_UNMOUNT:
		return true;
	case PML_END_CONFLICT:
	case PML_END_SILENT:
	case PML_END_EXPIRED:
	case PML_END_OWN_CHANGE:
	case PML_END_EVICTED:
		return !lease->session->is_ended;
	}
	return false;
}

/* Takes one due action of @lease; false: there is none (a recall was overtaken). */
static bool take_lease_action(struct pml_lease *lease, struct pml_action *ret)
{
	*ret = (struct pml_action){.lease = lease, .session = lease->session};
	if (lease->is_recall_due) {
		lease->is_recall_due = false;
		if (lease->state == PML_LEASE_RECALLING) {
			ret->kind = PML_ACTION_RECALL;
			ret->op = lease->recall_op;
			ret->drain_ms = lease->drain_ms;
			return true;
		}
	}
	if (lease->is_stuck_due) {
		lease->is_stuck_due = false;
		ret->kind = PML_ACTION_STUCK;
		return true;
	}
	if (lease->is_gone_due) {
		lease->is_gone_due = false;
		ret->kind = PML_ACTION_GONE;
		ret->tell_holder = must_tell_holder(lease);
		return true;
	}
	return false;
}

static bool next_lease_action(struct pml_table *tab, struct pml_action *ret)
{
	while (!pml_list_is_empty(&tab->lease_actions)) {
		struct pml_lease *lease =
			pml_list_entry(tab->lease_actions.next, struct pml_lease, action);
		bool has_one = take_lease_action(lease, ret);
		if (!lease->is_recall_due && !lease->is_stuck_due && !lease->is_gone_due)
			pml_list_remove(&lease->action);
		if (has_one)
			return true;
	}
	return false;
}

static bool next_session_action(struct pml_table *tab, struct pml_action *ret)
{
	if (pml_list_is_empty(&tab->session_actions))
		return false;
	struct pml_lease_session *session =
		pml_list_entry(tab->session_actions.next, struct pml_lease_session, action);
	*ret = (struct pml_action){.session = session};
	bool is_over = session->is_ended && session->usage.leases == 0;
	if (session->is_died_due) {
		session->is_died_due = false;
		ret->kind = PML_ACTION_DIED;
	} else if (session->is_evict_due) {
		session->is_evict_due = false;
		ret->kind = PML_ACTION_EVICTED;
	} else {
		ret->kind = PML_ACTION_RELEASED;
		pml_list_remove(&session->by_id);
		pml_list_remove(&session->all);
		pml_table_session_uncharge(tab, session);
		is_over = false;
	}
	if (!is_over && !session->is_evict_due)
		pml_list_remove(&session->action);
	return true;
}

bool pml_table_next_action(struct pml_table *tab, struct pml_action *ret_action)
{
	if (next_lease_action(tab, ret_action))
		return true;
	if (!pml_list_is_empty(&tab->resumes)) {
		struct pml_waiter *w =
			pml_list_entry(tab->resumes.next, struct pml_waiter, resume_link);
		pml_list_remove(&w->resume_link);
		*ret_action = (struct pml_action){.kind = PML_ACTION_RESUME, .waiter = w};
		return true;
	}
	return next_session_action(tab, ret_action);
}

bool pml_table_take_gone(struct pml_lease *lease)
{
	assert(lease->is_gone_due);
	if (lease->why != PML_END_RETURNED || lease->was_stuck)
		return false;
	pml_list_remove(&lease->action);
	return true;
}

bool pml_table_has_action(const struct pml_table *tab)
{
	return !pml_list_is_empty(&tab->lease_actions) || !pml_list_is_empty(&tab->resumes) ||
	       !pml_list_is_empty(&tab->session_actions);
}

/* ---- granting ----------------------------------------------------------- */

/* Charges nothing yet; *ret_segments is how many the lease may have. */
static int check_limits(struct pml_table *tab, const struct pml_lease_session *session,
			const struct pml_claim *claim, uint64_t bytes, uint32_t *ret_segments)
{
	const struct pml_usage more = {
		.leases = 1, .segments = PML_LEASE_SEGMENTS_MAX, .pinned_bytes = bytes};
	enum pml_limit limit;
	int err = pml_accounts_admit_lease(&tab->accounts, &session->usage, session->user, &more,
					   ret_segments, &limit);
	if (!err && claim->is_unbreakable)
		err = pml_accounts_admit_unbreakable(&tab->accounts, bytes, &limit);
	if (err)
		pml_table_record_refusal(tab, limit);
	return err;
}

/* EAGAIN passes by itself, EBUSY ends the try, on EDEADLK the asker itself must act. */
static int severity(int err)
{
	switch (err) {
	case 0:
		return 0;
	case -EAGAIN:
		return 1;
	case -EBUSY:
		return 2;
	default:
		return 3;
	}
}

/*
 * What the leases in the way of @asked mean for it.  Changes nothing: a refusal must
 * not recall anybody.  A lease that is being fenced is as good as gone: -EAGAIN.
 */
static int judge_conflicts(const struct pml_table *tab, const struct pml_claim *asked)
{
	int verdict = 0;
	struct pml_lease *lease;
	pml_table_for_each_near(lease, tab, asked->ino, asked->first_byte, asked->end_byte) {
		int err = pml_rules_coexist(&lease->claim, asked);
		if (err == 0)
			continue;
		if (lease->state == PML_LEASE_STUCK)
			return -EIO;
		if (lease->state == PML_LEASE_FENCING)
			err = -EAGAIN;
		else if (err == -EAGAIN && (lease->claim.is_unbreakable ||
					    tab->config.lease_policy == PML_POLICY_EBUSY))
			err = -EBUSY;
		if (severity(err) > severity(verdict))
			verdict = err;
	}
	return verdict;
}

/* Does @asked fail whatever others give back? */
static bool meets_unbreakable(const struct pml_table *tab, const struct pml_claim *asked)
{
	struct pml_lease *lease;
	pml_table_for_each_near(lease, tab, asked->ino, asked->first_byte, asked->end_byte) {
		if (lease->claim.is_unbreakable && pml_rules_coexist(&lease->claim, asked) != 0)
			return true;
	}
	return false;
}

static void recall_conflicts(struct pml_table *tab, const struct pml_claim *asked, uint64_t now_ms)
{
	bool arm_clocks = tab->config.lease_policy == PML_POLICY_REVOKE;
	struct pml_lease *lease;
	pml_table_for_each_near(lease, tab, asked->ino, asked->first_byte, asked->end_byte) {
		if (pml_rules_coexist(&lease->claim, asked) != 0)
			pml_table_recall(tab, lease, PML_RECALL_LEASE, arm_clocks, now_ms);
	}
}

/* @held: a lease that is no conflict, or NULL. */
static int check_conflicts(struct pml_table *tab, const struct pml_claim *asked,
			   const struct pml_lease *held, uint64_t now_ms)
{
	/* Nobody new could have come beside @held: it excludes more than @asked. */
	int err = held ? 0 : judge_conflicts(tab, asked);
	if (err == -EBUSY)
		tab->stats.refused_busy++;
	bool is_courteous = err == -EBUSY && tab->config.lease_policy == PML_POLICY_EBUSY &&
			    tab->config.ebusy_recalls && !meets_unbreakable(tab, asked);
	if (err == -EAGAIN || is_courteous)
		recall_conflicts(tab, asked, now_ms);
	if (err)
		return err;
	if (pml_table_is_held_back(tab, asked))
		return -EAGAIN;
	if (!held && pml_table_is_outrun(tab, asked, now_ms)) {
		tab->stats.sought++;
		return -EAGAIN;
	}
	return 0;
}

static void enter(struct pml_table *tab, struct pml_lease *lease, uint64_t now_ms)
{
	const struct pml_claim *claim = &lease->claim;
	lease->id = ++tab->last_lease_id;
	lease->state = PML_LEASE_GRANTING;
	lease->since_ms = now_ms;
	pml_list_init(&lease->ack_clock);
	pml_list_init(&lease->drain_clock);
	pml_list_init(&lease->orphan_clock);
	pml_list_init(&lease->action);
	pml_list_init(&lease->fence);

	/* Counted first: nobody may find it and not be told so by the filter. */
	atomic_fetch_add_explicit(&tab->filter[filter_slot(claim->ino)], 1, memory_order_seq_cst);
	pml_interval_insert(&tab->ranges, &lease->interval, claim->ino, claim->first_byte,
			    claim->end_byte);
	pml_list_append(&tab->leases, &lease->all);
	pml_list_append(lease_bucket(tab, lease->id), &lease->by_id);
	pml_list_append(&lease->session->leases, &lease->of_session);
	charge_lease(tab, lease->session, 1);
}

/* Model: lease_insert (tests/model/table.pml). */
static int insert(struct pml_table *tab, struct pml_lease *lease, const struct pml_lease *held,
		  uint64_t now_ms)
{
	const struct pml_claim *claim = &lease->claim;
	struct pml_lease_session *session = pml_table_session_find(tab, claim->session);
	if (!session || !session->is_live)
		return -ESTALE;

	uint64_t first_byte = claim->first_byte;
	uint64_t end_byte = claim->end_byte;
	uint32_t segments = 0;
	pml_rules_round_out(&first_byte, &end_byte);
	int err = check_limits(tab, session, claim, end_byte - first_byte, &segments);
	if (!err)
		err = check_conflicts(tab, claim, held, now_ms);
	if (err == -EAGAIN && !held)
		pml_table_seek(tab, session, claim, now_ms);
	else
		pml_table_seek_end(session);
	if (err)
		return err;

	lease->session = session;
	enter(tab, lease, now_ms);
	charge(tab, lease, end_byte - first_byte, segments);
	return 0;
}

int pml_table_insert(struct pml_table *tab, struct pml_lease *lease, uint64_t now_ms)
{
	return insert(tab, lease, NULL, now_ms);
}

int pml_table_insert_beside(struct pml_table *tab, struct pml_lease *lease,
			    const struct pml_lease *held, uint64_t now_ms)
{
	assert(held->claim.session == lease->claim.session);
	assert(lease->claim.mode == PML_LEASE_READ && held->claim.mode == PML_LEASE_WRITE);
	return insert(tab, lease, held, now_ms);
}

/* Model: lease_pinned (tests/model/table.pml). */
void pml_table_pinned(struct pml_table *tab, struct pml_lease *lease,
		      struct pml_lease_segment *segments, uint32_t nsegments, uint64_t end_byte)
{
	struct pml_claim *claim = &lease->claim;
	assert(lease->state == PML_LEASE_GRANTING && !lease->segments);
	assert(end_byte > claim->first_byte && end_byte <= claim->end_byte);

	uint64_t bytes = 0;
	for (uint32_t i = 0; i < nsegments; i++)
		bytes += segments[i].at.nblocks * PML_BLOCK_BYTES;
	lease->segments = segments;
	lease->nsegments = nsegments;
	charge(tab, lease, bytes, nsegments);

	uint64_t asked_end = claim->end_byte;
	if (end_byte == asked_end)
		return;
	pml_interval_remove(&tab->ranges, &lease->interval);
	claim->end_byte = end_byte;
	pml_interval_insert(&tab->ranges, &lease->interval, claim->ino, claim->first_byte,
			    claim->end_byte);
	pml_table_recheck_waiters(tab, claim->ino, claim->first_byte, asked_end);
}

/* Model: lease_granted (tests/model/table.pml). */
int pml_table_granted(struct pml_table *tab, struct pml_lease *lease, uint64_t now_ms)
{
	assert(lease->state == PML_LEASE_GRANTING);
	if (lease->is_end_pending)
		return lease->why == PML_END_OWN_CHANGE ? -EAGAIN : -ESTALE;

	lease->state = PML_LEASE_GRANTED;
	lease->was_granted = true;
	lease->granted_ms = now_ms;
	tab->stats.granted++;
	pml_table_record_span(tab, PML_SPAN_GRANT, now_ms - lease->since_ms);
	if (lease->is_recall_pending)
		pml_table_recall(tab, lease, lease->recall_op, lease->has_clocks, now_ms);
	return 0;
}

/* Model: grant_failed (tests/model/table.pml). */
void pml_table_grant_failed(struct pml_table *tab, struct pml_lease *lease, uint64_t now_ms)
{
	assert(lease->state == PML_LEASE_GRANTING);
	lease->state = PML_LEASE_GRANTED;
	pml_table_end(tab, lease, PML_END_RETURNED, true, now_ms);
	if (!lease->segments) {
		/* Nothing is pinned, so there is nothing to fence. */
		pml_list_remove(&lease->fence);
		pml_table_gone(tab, lease, now_ms);
	}
}

/* ---- recall and end ----------------------------------------------------- */

/* Model: clocks_start (tests/model/table.pml). */
static void start_clocks(struct pml_table *tab, struct pml_lease *lease, uint64_t now_ms)
{
	lease->has_clocks = true;
	lease->drain_ms = tab->config.drain_ms;
	lease->drain_due_ms = now_ms + lease->drain_ms;
	pml_table_insert_by_due(&tab->drains, lease, struct pml_lease, drain_clock, drain_due_ms);
	if (lease->is_acked)
		return;
	lease->ack_due_ms = now_ms + tab->config.ack_ms;
	pml_table_insert_by_due(&tab->acks, lease, struct pml_lease, ack_clock, ack_due_ms);
}

/* Model: recall_start (tests/model/table.pml). */
void pml_table_recall(struct pml_table *tab, struct pml_lease *lease, enum pml_layout_op op,
		      bool arm_clocks, uint64_t now_ms)
{
	if (lease->claim.is_unbreakable)
		return;
	switch (lease->state) {
	case PML_LEASE_GRANTING:
		if (!lease->is_recall_pending)
			lease->recall_op = op;
		lease->is_recall_pending = true;
		lease->has_clocks |= arm_clocks;
		return;
	case PML_LEASE_GRANTED:
		lease->state = PML_LEASE_RECALLING;
		lease->recalled_ms = now_ms;
		tab->stats.recalls++;
		break;
	case PML_LEASE_RECALLING:
		/* Whoever came first set the clocks; joining does not give more time. */
		if (!arm_clocks || lease->has_clocks)
			return;
		break;
	case PML_LEASE_FENCING:
	case PML_LEASE_STUCK:
		return;
	}
	lease->recall_op = op;
	if (arm_clocks)
		start_clocks(tab, lease, now_ms);
	lease->is_recall_due = true;
	queue_lease_action(tab, lease);
}

static void record_end_of_hold(struct pml_table *tab, const struct pml_lease *lease,
			       enum pml_end_reason why, uint64_t now_ms)
{
	if (!lease->was_granted)
		return;
	pml_table_record_span(tab, PML_SPAN_HELD, now_ms - lease->granted_ms);
	if (lease->state != PML_LEASE_RECALLING)
		return;
	uint64_t took_ms = now_ms - lease->recalled_ms;
	if (why == PML_END_RETURNED)
		pml_table_record_span(tab, PML_SPAN_RETURN, took_ms);
	else if (why == PML_END_CONFLICT || why == PML_END_SILENT)
		pml_table_record_span(tab, PML_SPAN_REVOKE, took_ms);
}

/* Model: lease_end (tests/model/table.pml). */
void pml_table_end(struct pml_table *tab, struct pml_lease *lease, enum pml_end_reason why,
		   bool is_cooperative, uint64_t now_ms)
{
	switch (lease->state) {
	case PML_LEASE_GRANTING:
		/* The acquiring thread still makes keys; it fences them when it is done. */
		if (!lease->is_end_pending)
			lease->why = why;
		lease->is_end_pending = true;
		return;
	case PML_LEASE_GRANTED:
	case PML_LEASE_RECALLING:
		break;
	case PML_LEASE_FENCING:
	case PML_LEASE_STUCK:
		return;
	}
	pml_list_remove(&lease->ack_clock);
	pml_list_remove(&lease->drain_clock);
	pml_list_remove(&lease->orphan_clock);
	record_end_of_hold(tab, lease, why, now_ms);
	lease->state = PML_LEASE_FENCING;
	lease->why = why;
	lease->is_cooperative = is_cooperative;
	lease->ended_ms = now_ms;
	pml_table_fence_start(tab, lease);
}

static void count_end(struct pml_lease_stats *stats, const struct pml_lease *lease)
{
	if (!lease->was_granted)
		return;
	switch (lease->why) {
	case PML_END_RETURNED:
	case PML_END_OWN_CHANGE:
		stats->returned++;
		break;
	case PML_END_CONFLICT:
	case PML_END_SILENT:
	case PML_END_EVICTED:
		stats->revoked++;
		break;
	case PML_END_EXPIRED:
		stats->expired++;
		break;
	case PML_END_SESSION:
	case PML_END_UNMOUNT:
		break;
	}
}

/* Model: lease_gone (tests/model/table.pml). */
void pml_table_gone(struct pml_table *tab, struct pml_lease *lease, uint64_t now_ms)
{
	struct pml_lease_session *session = lease->session;
	const struct pml_claim *claim = &lease->claim;
	assert(lease->state == PML_LEASE_FENCING && lease->commits == 0);
	for (uint32_t i = 0; i < lease->nsegments; i++)
		assert(!lease->segments[i].key); /* I3 */

	count_end(&tab->stats, lease);
	if (lease->was_granted)
		pml_table_record_span(tab, PML_SPAN_UNPIN, now_ms - lease->ended_ms);
	pml_table_record_end(tab, lease, now_ms);
	charge(tab, lease, 0, 0);
	pml_interval_remove(&tab->ranges, &lease->interval);
	pml_list_remove(&lease->by_id);
	pml_list_remove(&lease->all);
	pml_list_remove(&lease->of_session);
	charge_lease(tab, session, -1);
	atomic_fetch_sub_explicit(&tab->filter[filter_slot(claim->ino)], 1, memory_order_release);

	lease->is_gone_due = true;
	queue_lease_action(tab, lease);
	pml_table_recheck_waiters(tab, claim->ino, claim->first_byte, claim->end_byte);
	pml_table_session_check_released(tab, session);
}

/* ---- the holder's requests ---------------------------------------------- */

/* Model: lease_ack (tests/model/table.pml). */
int pml_table_ack(struct pml_table *tab, uint64_t session, uint64_t lease_id, uint64_t now_ms)
{
	struct pml_lease *lease = pml_table_find_held(tab, session, lease_id);
	if (!lease)
		return -ESTALE;
	if (lease->state == PML_LEASE_RECALLING) {
		if (!lease->is_acked)
			pml_table_record_span(tab, PML_SPAN_ACK, now_ms - lease->recalled_ms);
		lease->is_acked = true;
		pml_list_remove(&lease->ack_clock);
	}
	return 0;
}

/* Model: lease_return (tests/model/table.pml). */
int pml_table_return(struct pml_table *tab, uint64_t session, uint64_t lease_id, uint64_t now_ms)
{
	struct pml_lease *lease = pml_table_find_held(tab, session, lease_id);
	if (!lease)
		return -ESTALE;
	/* I3: it says that it has drained; it may be lying. */
	pml_table_end(tab, lease, PML_END_RETURNED, true, now_ms);
	return 0;
}

/* Model: commit_begin (tests/model/table.pml). */
int pml_table_commit_begin(struct pml_table *tab, uint64_t session, uint64_t lease_id,
			   uint64_t first_byte, uint64_t len_bytes, struct pml_lease **ret_lease)
{
	struct pml_lease *lease = pml_table_find_held(tab, session, lease_id);
	if (!lease)
		return -ESTALE;
	const struct pml_claim *claim = &lease->claim;
	if (claim->mode != PML_LEASE_WRITE)
		return -EACCES;
	if (first_byte < claim->first_byte || first_byte > claim->end_byte ||
	    len_bytes > claim->end_byte - first_byte)
		return -EINVAL;
	lease->commits++;
	*ret_lease = lease;
	return 0;
}

/* Model: commit_end (tests/model/table.pml). */
void pml_table_commit_end(struct pml_table *tab, struct pml_lease *lease)
{
	assert(lease->commits > 0);
	lease->commits--;
	if (lease->commits == 0 && lease->is_fenced)
		pml_list_append(&tab->fences, &lease->fence);
}

/* ---- files without names ------------------------------------------------- */

void pml_table_orphaned(struct pml_table *tab, uint64_t ino, uint64_t now_ms)
{
	struct pml_lease *lease;
	pml_table_for_each_near(lease, tab, ino, 0, UINT64_MAX) {
		if (lease->is_orphan)
			continue;
		lease->is_orphan = true;
		bool is_ending = lease->state >= PML_LEASE_FENCING;
		if (tab->config.orphan_grace_ms == 0 || lease->claim.is_unbreakable || is_ending)
			continue;
		lease->orphan_due_ms = now_ms + tab->config.orphan_grace_ms;
		pml_table_insert_by_due(&tab->orphans, lease, struct pml_lease, orphan_clock,
					orphan_due_ms);
	}
}

static void tick_orphans(struct pml_table *tab, uint64_t now_ms)
{
	struct pml_lease *lease, *tmp;
	pml_list_for_each_safe(lease, tmp, &tab->orphans, orphan_clock) {
		if (lease->orphan_due_ms > now_ms)
			break;
		pml_list_remove(&lease->orphan_clock);
		tab->stats.orphans_recalled++;
		pml_table_recall(tab, lease, PML_RECALL_ORPHAN, true, now_ms);
	}
}

/* ---- time --------------------------------------------------------------- */

/*
 * No sign of life: the ack clock.  Alive but not returned: the drain clock.
 * Model: clock_ack, clock_drain (tests/model/table.pml).
 */
static void tick_recalls(struct pml_table *tab, uint64_t now_ms)
{
	struct pml_lease *lease, *tmp;
	pml_list_for_each_safe(lease, tmp, &tab->acks, ack_clock) {
		if (lease->ack_due_ms > now_ms)
			break;
		pml_table_end(tab, lease, PML_END_SILENT, false, now_ms);
	}
	pml_list_for_each_safe(lease, tmp, &tab->drains, drain_clock) {
		if (lease->drain_due_ms > now_ms)
			break;
		pml_table_end(tab, lease, PML_END_CONFLICT, false, now_ms);
	}
}

void pml_table_tick(struct pml_table *tab, uint64_t now_ms)
{
	tick_orphans(tab, now_ms);
	tick_recalls(tab, now_ms);
	pml_table_session_tick(tab, now_ms);
	pml_table_waiter_tick(tab, now_ms);
	pml_table_fence_tick(tab, now_ms);
}

uint64_t pml_table_next_due_ms(const struct pml_table *tab)
{
	uint64_t due_ms = tab->waiter_due_ms;
	if (!pml_list_is_empty(&tab->acks)) {
		const struct pml_lease *lease =
			pml_list_entry(tab->acks.next, struct pml_lease, ack_clock);
		due_ms = PML_MIN(due_ms, lease->ack_due_ms);
	}
	if (!pml_list_is_empty(&tab->drains)) {
		const struct pml_lease *lease =
			pml_list_entry(tab->drains.next, struct pml_lease, drain_clock);
		due_ms = PML_MIN(due_ms, lease->drain_due_ms);
	}
	if (!pml_list_is_empty(&tab->fence_retries)) {
		const struct pml_lease *lease =
			pml_list_entry(tab->fence_retries.next, struct pml_lease, fence);
		due_ms = PML_MIN(due_ms, lease->retry_ms);
	}
	if (!pml_list_is_empty(&tab->orphans)) {
		const struct pml_lease *lease =
			pml_list_entry(tab->orphans.next, struct pml_lease, orphan_clock);
		due_ms = PML_MIN(due_ms, lease->orphan_due_ms);
	}
	if (!pml_list_is_empty(&tab->terms)) {
		const struct pml_lease_session *session =
			pml_list_entry(tab->terms.next, struct pml_lease_session, by_term);
		due_ms = PML_MIN(due_ms, session->expires_ms);
	}
	return due_ms;
}
