/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fence.c -- the fence ladder: one key at a time, harder when it does not work
 *
 * For each segment: PML_FENCE_KEY, on error PML_FENCE_CONNECTION, that one tried
 * again a few times, then the lease is stuck: its blocks stay pinned (I1, I3) and
 * whoever waits is told.  The other keys of a stuck lease are still made dead.  A
 * session that needed the harder step keeps it.  Who learns that the holder's access
 * may have ended after all has it fenced again: only a confirmed fence unpins.
 *
 * Threads: the caller serialises; see table.h.
 */
#include "table.h"

/* The step that the next key of @lease starts with. */
static void begin_segment(struct pml_lease *lease)
{
	lease->fence_step = lease->session->fence_from;
	lease->fence_tries = 0;
	lease->key_since_ms = 0;
}

/* Model: fence_start (tests/model/fence.pml). */
void pml_table_fence_start(struct pml_table *tab, struct pml_lease *lease)
{
	lease->fence_segment = 0;
	begin_segment(lease);
	pml_list_append(&tab->fences, &lease->fence);
}

/* To @lease's next live key; true if there is none. */
static bool skip_dead_keys(struct pml_lease *lease)
{
	while (lease->fence_segment < lease->nsegments &&
	       !lease->segments[lease->fence_segment].key)
		lease->fence_segment++;
	return lease->fence_segment == lease->nsegments;
}

/* All of a stuck lease has been tried.  True: and is to be tried once more, from its start. */
static bool revive(struct pml_table *tab, struct pml_lease *lease)
{
	if (!lease->is_fence_again)
		return false;
	lease->is_fence_again = false;
	lease->state = PML_LEASE_FENCING;
	tab->stats.fences_stuck--;
	lease->fence_segment = 0;
	begin_segment(lease);
	return true;
}

/*
 * What is to be done next for @lease, which is on no queue now.  False: nothing.
 * Model: fence_next (tests/model/fence.pml).
 */
static bool next_attempt(struct pml_table *tab, struct pml_lease *lease,
			 struct pml_fence_attempt *ret_attempt)
{
	bool is_fenced = skip_dead_keys(lease);
	if (is_fenced && lease->state == PML_LEASE_STUCK) {
		if (!revive(tab, lease))
			return false;
		is_fenced = skip_dead_keys(lease);
	}
	if (is_fenced && lease->commits > 0) {
		/* pml_table_commit_end() queues it again. */
		lease->is_fenced = true;
		return false;
	}
	*ret_attempt = (struct pml_fence_attempt){.lease = lease};
	if (is_fenced)
		return true;
	if (lease->fence_step < lease->session->fence_from)
		lease->fence_step = lease->session->fence_from;
	ret_attempt->key = lease->segments[lease->fence_segment].key;
	ret_attempt->step = lease->fence_step;
	ret_attempt->is_cooperative = lease->is_cooperative;
	return true;
}

bool pml_table_next_fence(struct pml_table *tab, struct pml_fence_attempt *ret_attempt)
{
	while (!pml_list_is_empty(&tab->fences)) {
		struct pml_lease *lease = pml_list_entry(tab->fences.next, struct pml_lease, fence);
		pml_list_remove(&lease->fence);
		if (next_attempt(tab, lease, ret_attempt))
			return true;
	}
	return false;
}

bool pml_table_take_fence(struct pml_table *tab, struct pml_lease *lease,
			  struct pml_fence_attempt *ret_attempt)
{
	if (pml_list_is_empty(&lease->fence))
		return false;
	pml_list_remove(&lease->fence);
	return next_attempt(tab, lease, ret_attempt);
}

/* Model: fence_escalate (tests/model/fence.pml). */
static void escalate(struct pml_table *tab, struct pml_lease *lease)
{
	if (lease->session->fence_from == PML_FENCE_CONNECTION)
		return;
	lease->session->fence_from = PML_FENCE_CONNECTION;
	tab->stats.fence_escalations++;
}

/*
 * This key stays alive as far as we know; goes on with the others.
 * Model: fence_give_up (tests/model/fence.pml).
 */
static void give_up_segment(struct pml_table *tab, struct pml_lease *lease)
{
	if (lease->state != PML_LEASE_STUCK) {
		lease->state = PML_LEASE_STUCK;
		lease->was_stuck = true;
		lease->is_stuck_due = true;
		if (pml_list_is_empty(&lease->action))
			pml_list_append(&tab->lease_actions, &lease->action);
		tab->stats.fences_stuck++;
		pml_table_fail_waiters(tab, lease, -EIO);
	}
	lease->fence_segment++;
	begin_segment(lease);
	pml_list_append(&tab->fences, &lease->fence);
}

/* Model: fence_result (tests/model/fence.pml). */
void pml_table_fence_result(struct pml_table *tab, struct pml_lease *lease, int err,
			    uint64_t took_ms, uint64_t now_ms)
{
	/* Too slow, though it worked: the others of this session go the hard way. */
	if (took_ms > tab->config.fence_ms)
		escalate(tab, lease);

	if (err == 0) {
		tab->stats.fences++;
		/* Retries and harder steps count: from the first of them on. */
		uint64_t began_ms = lease->key_since_ms ? lease->key_since_ms : now_ms - took_ms;
		pml_table_record_span(tab, PML_SPAN_FENCE, now_ms - began_ms);
		lease->segments[lease->fence_segment].key = NULL;
		begin_segment(lease);
		/* In front: finishing one lease frees more than beginning two. */
		pml_list_append(tab->fences.next, &lease->fence);
		return;
	}
	if (!lease->key_since_ms)
		lease->key_since_ms = now_ms - took_ms;
	if (lease->fence_step < PML_FENCE_CONNECTION) {
		escalate(tab, lease);
		lease->fence_step = PML_FENCE_CONNECTION;
		pml_list_append(&tab->fences, &lease->fence);
		return;
	}
	if (lease->fence_tries < PML_FENCE_RETRIES) {
		lease->fence_tries++;
		lease->retry_ms = now_ms + PML_FENCE_RETRY_MS;
		pml_list_append(&tab->fence_retries, &lease->fence);
		return;
	}
	give_up_segment(tab, lease);
}

/* Has each of its keys been tried?  Then it is on no queue, and no fence of it runs. */
static bool is_at_rest(const struct pml_lease *lease)
{
	return lease->state == PML_LEASE_STUCK && lease->fence_segment == lease->nsegments &&
	       pml_list_is_empty(&lease->fence);
}

void pml_table_fence_again(struct pml_table *tab, uint64_t id)
{
	struct pml_lease_session *session = pml_table_session_find(tab, id);
	if (!session)
		return;
	struct pml_lease *lease;
	pml_list_for_each(lease, &session->leases, of_session) {
		/* A fence that runs now may fail for what was so when it began. */
		if (lease->state != PML_LEASE_STUCK && lease->state != PML_LEASE_FENCING)
			continue;
		lease->is_fence_again = true;
		if (is_at_rest(lease))
			pml_list_append(&tab->fences, &lease->fence);
	}
}

/* Model: fence_retry (tests/model/fence.pml). */
void pml_table_fence_tick(struct pml_table *tab, uint64_t now_ms)
{
	struct pml_lease *lease, *tmp;
	pml_list_for_each_safe(lease, tmp, &tab->fence_retries, fence) {
		if (lease->retry_ms > now_ms)
			break;
		pml_list_remove(&lease->fence);
		pml_list_append(&tab->fences, &lease->fence);
	}
}
