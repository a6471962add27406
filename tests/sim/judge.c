/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * judge.c -- the rules, looked at after every event, in words of the world and not of the table
 *
 * I1 to I5, I9, I10 and the order of requests.  Conflicts are written down here a second time, from
 * docs/lease-protocol.md.
 */
#include <string.h>

#include "sim.h"

#define ULL(x) ((unsigned long long)(x))

/* ---- blocks: I1, I2, I3 ------------------------------------------------------- */

static void judge_pins(struct sim *sim)
{
	uint32_t pins[SIM_BLOCKS] = {0};
	const struct pml_lease *lease;
	pml_list_for_each(lease, &sim->tab->leases, all)
		for (uint32_t i = 0; i < lease->nsegments; i++)
			for (uint64_t b = 0; b < lease->segments[i].at.nblocks; b++)
				pins[lease->segments[i].at.block + b]++;
	for (uint32_t b = 0; b < SIM_BLOCKS; b++)
		if (pins[b] != sim->pins[b])
			sim_fail(sim, "I2: block %u has %u pins, its leases %u", b, sim->pins[b],
				 pins[b]);
}

static void judge_key(struct sim *sim, const struct sim_key *key)
{
	for (uint32_t i = 0; i < key->nblocks; i++) {
		uint32_t block = key->block[i];
		if (sim->pins[block] == 0)
			sim_fail(sim, "I3: block %u is not pinned, a key of lease %llu lives",
				 block, ULL(key->lease_id));
		if (sim->identity[block] != key->identity[i])
			sim_fail(sim, "I1: block %u was given away, a key of lease %llu lives",
				 block, ULL(key->lease_id));
	}
}

static void judge_keys(struct sim *sim)
{
	while (sim->first_alive < sim->nkeys && !sim->keys[sim->first_alive].is_alive)
		sim->first_alive++;
	for (uint32_t i = sim->first_alive; i < sim->nkeys; i++)
		if (sim->keys[i].is_alive)
			judge_key(sim, &sim->keys[i]);
}

/* ---- leases: I4, I5, conflicts ------------------------------------------------- */

static void judge_layout(struct sim *sim, const struct pml_lease *lease)
{
	const struct sim_note *note = &sim->notes[lease->id];
	if (!note->is_pinned)
		return;
	bool owns = lease->claim.mode == PML_LEASE_WRITE || lease->claim.is_shared;
	for (uint32_t fb = note->first_fb; fb < note->end_fb; fb++) {
		uint32_t block = sim->map[lease->claim.ino][fb];
		if (block != note->map[fb])
			sim_fail(sim, "I4: block %u of file %llu moved under lease %llu", fb,
				 ULL(lease->claim.ino), ULL(lease->id));
		else if (owns && (block == SIM_HOLE || sim->shares[block] != 1))
			sim_fail(sim, "I5: block %u of file %llu is not its own under lease %llu",
				 fb, ULL(lease->claim.ino), ULL(lease->id));
	}
}

/* Do two claims exclude each other?  Whoever owns blocks reaches them whole. */
static bool conflict(const struct pml_claim *a, const struct pml_claim *b)
{
	bool a_owns = a->mode == PML_LEASE_WRITE || a->is_shared;
	bool b_owns = b->mode == PML_LEASE_WRITE || b->is_shared;
	if (a->ino != b->ino || (a->is_shared && b->is_shared) || (!a_owns && !b_owns))
		return false;
	return a->first_byte / PML_BLOCK_BYTES <= (b->end_byte - 1) / PML_BLOCK_BYTES &&
	       b->first_byte / PML_BLOCK_BYTES <= (a->end_byte - 1) / PML_BLOCK_BYTES;
}

static void judge_pair(struct sim *sim, const struct pml_lease *a, const struct pml_lease *b)
{
	bool is_downgrade = a->claim.session == b->claim.session &&
			    (sim->notes[a->id].stands_for || sim->notes[b->id].stands_for);
	if (!is_downgrade && conflict(&a->claim, &b->claim))
		sim_fail(sim, "leases %llu and %llu exclude each other", ULL(a->id), ULL(b->id));
}

static void judge_orphan(struct sim *sim, const struct pml_lease *lease)
{
	const struct sim_note *note = &sim->notes[lease->id];
	if (!note->orphan_ms || !note->grace_ms || lease->claim.is_unbreakable)
		return;
	uint64_t due_ms = note->orphan_ms + note->grace_ms + SIM_GRANT_MAX + SIM_SLACK;
	if (lease->state == PML_LEASE_GRANTED && sim->now_ms > due_ms)
		sim_fail(sim, "I9: lease %llu of a file without names is not recalled",
			 ULL(lease->id));
}

static void judge_leases(struct sim *sim)
{
	const struct pml_lease *lease;
	pml_list_for_each(lease, &sim->tab->leases, all) {
		judge_layout(sim, lease);
		judge_orphan(sim, lease);
		const struct pml_list *link = lease->all.next;
		for (; link != &sim->tab->leases; link = link->next)
			judge_pair(sim, lease,
				   pml_list_entry((struct pml_list *)(uintptr_t)link,
						  struct pml_lease, all));
	}
}

/* ---- limits: I9 ---------------------------------------------------------------- */

static void judge_sums(struct sim *sim)
{
	const struct pml_table *tab = sim->tab;
	struct pml_usage total = {0};
	uint64_t unbreakable = 0, waiters = 0;
	const struct pml_lease *lease;
	pml_list_for_each(lease, &tab->leases, all) {
		total.leases++;
		total.segments += lease->max_segments;
		total.pinned_bytes += lease->pinned_bytes;
		unbreakable += lease->claim.is_unbreakable ? lease->pinned_bytes : 0;
	}
	for (uint32_t i = 0; i < SIM_OPS; i++)
		waiters += sim->ops[i].w.is_queued;
	const struct pml_usage *got = &tab->accounts.total;
	if (got->leases != total.leases || got->segments != total.segments ||
	    got->pinned_bytes != total.pinned_bytes || tab->stats.waiters != waiters ||
	    tab->accounts.unbreakable_bytes != unbreakable)
		sim_fail(sim, "I9: what is charged is not what there is");
}

/* Just granted: within every limit, or within the share of its session. */
static void judge_limits(struct sim *sim, const struct pml_lease_session *session)
{
	const struct pml_lease_config *config = &sim->tab->config;
	const struct pml_usage share = pml_accounts_share(&sim->tab->accounts);
	const struct pml_usage *own = &session->usage, *all = &sim->tab->accounts.total;
	if (own->leases > config->max_session_leases ||
	    own->segments > config->max_session_segments ||
	    own->pinned_bytes > config->max_session_pinned_bytes)
		sim_fail(sim, "I9: session %llu is above its limits", ULL(session->id));
	if ((all->leases > config->max_leases && own->leases > share.leases) ||
	    (all->segments > config->max_segments && own->segments > share.segments) ||
	    (all->pinned_bytes > config->max_pinned_bytes &&
	     own->pinned_bytes > share.pinned_bytes))
		sim_fail(sim, "I9: a limit of all is passed by session %llu", ULL(session->id));
}

/* ---- waits: I9 ------------------------------------------------------------------ */

/* Drain of who does not return, a grant and a commit under way, and the fences. */
static void judge_wait(struct sim *sim, const struct sim_op *op)
{
	if (!op->w.is_parked)
		return;
	uint64_t waited_ms = sim->now_ms - op->parked_ms;
	uint64_t fences_ms = sim->fencing_ms - op->fencing_at_park_ms;
	uint64_t bound_ms = SIM_DRAIN_MAX + SIM_GRANT_MAX + SIM_COMMIT_MAX + SIM_SLACK;
	if (op->policy == PML_POLICY_REVOKE && waited_ms > bound_ms + fences_ms)
		sim_fail(sim, "I9: operation %d waits for %llu ms, %llu of them for fences",
			 op->w.pid, ULL(waited_ms), ULL(fences_ms));
	/* It may have passed when a new configuration made the operation ask again. */
	uint64_t due_ms = PML_MAX(op->w.deadline_ms, op->parked_ms);
	if (op->w.deadline_ms && sim->now_ms > due_ms + SIM_SLACK)
		sim_fail(sim, "I9: operation %d waits longer than its deadline", op->w.pid);
}

void judge_parked(struct sim *sim, struct sim_op *op)
{
	if (op->config_number != sim->config_number)
		op->parks = 0;
	/*
	 * One with two changes waits for the second, for the first, which had no place until then,
	 * and once more for the second at most.
	 */
	uint32_t most = op->nchanges == 1 ? 1 : 3;
	if (op->parks == most)
		sim_fail(sim, "operation %d was overtaken by a lease", op->w.pid);
	op->parks++;
	op->config_number = sim->config_number;
	op->parked_ms = sim->now_ms;
	op->fencing_at_park_ms = sim->fencing_ms;
	op->policy = sim->tab->config.policy[op->w.change.op];
}

static bool meets(const struct pml_lease *lease, const struct pml_layout_change *change)
{
	uint64_t first = change->first_byte, end = change->end_byte;
	if (change->op == PML_OP_UNSHARE)
		pml_rules_round_out(&first, &end);
	bool owns = lease->claim.mode == PML_LEASE_WRITE || lease->claim.is_shared;
	return lease->claim.ino == change->ino && (owns || !change->writers_only) &&
	       lease->claim.first_byte < end && first < lease->claim.end_byte;
}

void judge_refusal(struct sim *sim, const struct sim_op *op, const struct pml_layout_change *change,
		   int err)
{
	enum pml_policy policy = sim->tab->config.policy[change->op];
	bool is_met = false, is_stuck = false, is_unbreakable = false;
	const struct pml_lease *lease;
	pml_list_for_each(lease, &sim->tab->leases, all) {
		if (!meets(lease, change))
			continue;
		is_met = true;
		is_stuck |= lease->state == PML_LEASE_STUCK;
		is_unbreakable |= lease->claim.is_unbreakable;
	}
	bool is_right = false;
	if (op->w.verdict && err == op->w.verdict)
		is_right = err != -EINTR || op->was_cancelled || sim->is_closing;
	else if (err == -EBUSY)
		is_right =
			is_met && (op->cannot_wait || is_unbreakable || policy == PML_POLICY_EBUSY);
	else if (err == -EDEADLK)
		is_right = is_unbreakable && op->w.session;
	else if (err == -EIO)
		is_right = is_stuck;
	else if (err == -ECANCELED)
		is_right = is_met && policy == PML_POLICY_SKIP;
	else if (err == -EINTR)
		is_right = op->was_cancelled || sim->is_closing;
	else if (err == -EAGAIN)
		is_right = is_met && !op->w.is_queued;
	if (!is_right)
		sim_fail(sim, "operation %d was refused with %d for no reason", op->w.pid, err);
}

/* ---- who asked first ------------------------------------------------------------- */

static bool is_waiting(const struct sim *sim, const struct sim_seeker *s)
{
	return s->order && sim->now_ms - s->seen_ms < PML_SEEK_FRESH_MS;
}

static bool is_same(const struct pml_claim *a, const struct pml_claim *b)
{
	return a->ino == b->ino && a->first_byte == b->first_byte && a->end_byte == b->end_byte &&
	       a->mode == b->mode && a->is_shared == b->is_shared &&
	       a->is_unbreakable == b->is_unbreakable;
}

static bool is_live(const struct sim *sim, uint32_t conn)
{
	const struct pml_lease_session *session =
		pml_table_session_find(sim->tab, sim->conns[conn].session);
	return session && session->is_live;
}

static void judge_order(struct sim *sim, uint32_t conn, const struct pml_claim *claim,
			uint64_t order)
{
	for (uint32_t i = 0; i < sim->nconns; i++) {
		const struct sim_seeker *s = &sim->seekers[i];
		if (i != conn && is_waiting(sim, s) && s->order < order && is_live(sim, i) &&
		    conflict(&s->claim, claim))
			sim_fail(sim, "a request of connection %u was overtaken by one of %u", i,
				 conn);
	}
}

void judge_request(struct sim *sim, uint32_t conn, const struct pml_claim *claim, int err)
{
	struct sim_seeker *s = &sim->seekers[conn];
	bool has_place = is_waiting(sim, s) && is_same(&s->claim, claim);
	if (err == 0) {
		judge_order(sim, conn, claim, has_place ? s->order : UINT64_MAX);
		judge_limits(sim, pml_table_session_find(sim->tab, claim->session));
	}
	if (err != -EAGAIN) {
		s->order = 0;
		return;
	}
	if (!has_place)
		*s = (struct sim_seeker){.claim = *claim, .order = ++sim->seek_order};
	s->seen_ms = sim->now_ms;
}

/*
 * A request that comes again at once is granted when those that were before it have been: each is
 * at most late, drained and granted, twice if it is downgraded.  Fences, breaks and policies
 * that take nothing away come on top.
 */
static void judge_seekers(struct sim *sim, uint64_t passed_ms)
{
	uint64_t turn_ms = SIM_WAKE_MAX + 2 * SIM_TRAVEL_MAX + SIM_DRAIN_MAX + 2 * SIM_GRANT_MAX;
	uint64_t bound_ms = PML_SEEK_FRESH_MS + 2ull * SIM_CLIENTS * turn_ms;
	bool is_fencing = sim->is_fencing || !pml_list_is_empty(&sim->tab->fence_retries);
	bool is_taken_back = sim->tab->config.lease_policy == PML_POLICY_REVOKE;
	for (uint32_t i = 0; sim->is_prompt && i < sim->nconns; i++) {
		struct sim_seeker *s = &sim->seekers[i];
		if (!is_waiting(sim, s) || !is_live(sim, i) || !is_taken_back)
			continue;
		if (!is_fencing && !pml_table_is_held_back(sim->tab, &s->claim))
			s->waited_ms += passed_ms;
		sim->longest_seek_ms = PML_MAX(sim->longest_seek_ms, s->waited_ms);
		if (s->waited_ms > bound_ms)
			sim_fail(sim, "I9: a request of connection %u waits for %llu ms", i,
				 ULL(s->waited_ms));
	}
}

/* ---- what a client sees: I10 ------------------------------------------------------ */

void judge_access(struct sim *sim, const struct sim_key *key, bool is_served)
{
	if (!is_served) {
		sim->refused_accesses++;
		return;
	}
	sim->accesses++;
	if (!pml_table_find(sim->tab, key->lease_id))
		sim_fail(sim, "I10: an access after the end of lease %llu is served",
			 ULL(key->lease_id));
	for (uint32_t i = 0; i < key->nblocks; i++)
		if (sim->identity[key->block[i]] != key->identity[i])
			sim_fail(sim, "I10: an access through lease %llu reaches foreign bytes",
				 ULL(key->lease_id));
}

/* ---- all of it ---------------------------------------------------------------------- */

void judge_step(struct sim *sim, uint64_t passed_ms)
{
	judge_pins(sim);
	judge_keys(sim);
	judge_leases(sim);
	judge_sums(sim);
	for (uint32_t i = 0; i < SIM_OPS; i++)
		judge_wait(sim, &sim->ops[i]);
	judge_seekers(sim, passed_ms);
}

/* Everything has ended but what is stuck, and nobody waits any more. */
void judge_end(struct sim *sim)
{
	const struct pml_lease_stats *stats = &sim->tab->stats;
	if (stats->leases != stats->fences_stuck)
		sim_fail(sim, "%llu leases are left, %llu are stuck", ULL(stats->leases),
			 ULL(stats->fences_stuck));
	if (stats->waiters)
		sim_fail(sim, "%llu operations wait at the end", ULL(stats->waiters));
	if (stats->sessions && !stats->leases)
		sim_fail(sim, "%llu sessions are left", ULL(stats->sessions));
	if (!pml_list_is_empty(&sim->tab->seekers) || !pml_list_is_empty(&sim->tab->orphans))
		sim_fail(sim, "a clock or a place of an ended session is left");
	for (uint32_t i = 0; i < SIM_OPS; i++)
		if (sim->ops[i].is_running)
			sim_fail(sim, "operation %d has not ended", sim->ops[i].w.pid);
}
