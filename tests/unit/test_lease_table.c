/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_lease_table.c -- life, clocks, sessions and fences of leases with a clock that the test owns
 */
#include "../support/lease_table_fixture.h"

/* ---- life of a lease ------------------------------------------------------ */

static void test_a_lease_is_seen_by_breaks_before_its_blocks_are_pinned(void)
{
	start(NULL);
	uint64_t s = session_new();
	CHECK(!pml_table_may_be_leased(&tab, INO));
	int err;
	struct pml_lease *lease = insert(s, 0, BLOCK, PML_LEASE_READ, &err);
	REQUIRE(lease);
	CHECK(pml_table_may_be_leased(&tab, INO));
	CHECK_EQ(lease->state, PML_LEASE_GRANTING);

	struct pml_waiter w = waiter(0);
	CHECK_EQ(admit(PML_OP_PUNCH, 0, 1, &w), -EINPROGRESS);
	CHECK_EQ(count_seen(PML_ACTION_RECALL), 0);
	pin(lease, 1);
	CHECK_EQ(count_seen(PML_ACTION_RECALL), 0);

	/* Recalled as soon as it is granted, with its clocks from then on. */
	now += 500;
	CHECK_EQ(pml_table_granted(&tab, lease, now), 0);
	CHECK_EQ(lease->state, PML_LEASE_RECALLING);
	CHECK_EQ(count_seen(PML_ACTION_RECALL), 1);
	CHECK_EQ(last_seen(PML_ACTION_RECALL)->op, PML_OP_PUNCH);
	CHECK_EQ(last_seen(PML_ACTION_RECALL)->drain_ms, 1000);
	CHECK_EQ(pml_table_next_due_ms(&tab), now + 100);

	CHECK_EQ(pml_table_return(&tab, s, lease->id, now), 0);
	run_fences();
	CHECK_EQ(count_seen(PML_ACTION_RESUME), 1);
	CHECK_EQ(admit(PML_OP_PUNCH, 0, 1, &w), 0);
	pml_table_done(&tab, &w, now);
	finish();
}

static void test_I3_a_voluntary_return_is_fenced_before_it_is_gone(void)
{
	start(NULL);
	uint64_t s = session_new();
	struct pml_lease *lease = must_acquire(s, 0, 2 * BLOCK, PML_LEASE_WRITE);
	uint64_t id = lease->id;
	CHECK_EQ(pml_table_return(&tab, s, id, now), 0);
	CHECK_EQ(lease->state, PML_LEASE_FENCING);
	CHECK_EQ(tab.stats.leases, 1);
	CHECK_EQ(tab.stats.pinned_bytes, 2 * BLOCK);

	struct pml_fence_attempt attempt;
	for (int i = 0; i < 2; i++) {
		REQUIRE(pml_table_next_fence(&tab, &attempt));
		CHECK(attempt.key == &lease->segments[i]);
		CHECK_EQ(attempt.step, PML_FENCE_KEY);
		CHECK(attempt.is_cooperative);
		pml_table_fence_result(&tab, lease, 0, 0, now);
	}
	REQUIRE(pml_table_next_fence(&tab, &attempt));
	CHECK(attempt.key == NULL);
	CHECK_EQ(tab.stats.leases, 1);
	pml_table_gone(&tab, lease, now);
	CHECK_EQ(count_seen(PML_ACTION_GONE), 1);
	CHECK(!last_seen(PML_ACTION_GONE)->tell_holder);
	CHECK_EQ(tab.stats.returned, 1);
	CHECK_EQ(tab.stats.fences, 2);
	CHECK(pml_table_find(&tab, id) == NULL);
	finish();
}

static void test_requests_for_what_one_does_not_hold_are_stale(void)
{
	start(NULL);
	uint64_t s = session_new(), other = session_new();
	struct pml_lease *held = must_acquire(s, 0, BLOCK, PML_LEASE_WRITE);
	uint64_t id = held->id;
	struct pml_lease *lease;
	CHECK_EQ(pml_table_ack(&tab, other, id, now), -ESTALE);
	CHECK_EQ(pml_table_return(&tab, other, id, now), -ESTALE);
	CHECK_EQ(pml_table_commit_begin(&tab, other, id, 0, 1, &lease), -ESTALE);
	CHECK_EQ(pml_table_ack(&tab, s, id + 1, now), -ESTALE);
	CHECK_EQ(pml_table_ack(&tab, s, id, now), 0);
	CHECK_EQ(pml_table_return(&tab, s, id, now), 0);
	CHECK_EQ(pml_table_ack(&tab, s, id, now), -ESTALE);
	CHECK_EQ(pml_table_return(&tab, s, id, now), -ESTALE);
	CHECK_EQ(pml_table_commit_begin(&tab, s, id, 0, 1, &lease), -ESTALE);
	run_fences();
	CHECK_EQ(pml_table_return(&tab, s, id, now), -ESTALE);

	int err;
	lease = insert(s, 0, BLOCK, PML_LEASE_WRITE, &err);
	REQUIRE(lease);
	CHECK_EQ(pml_table_return(&tab, s, lease->id, now), -ESTALE);
	pml_table_grant_failed(&tab, lease, now);
	CHECK_EQ(acquire(99, 0, BLOCK, PML_LEASE_READ, NULL), -ESTALE);
	finish();
}

static void test_a_lease_that_covers_less_than_asked_lets_waiters_go(void)
{
	start(NULL);
	uint64_t s = session_new();
	int err;
	struct pml_lease *lease = insert(s, 0, 8 * BLOCK, PML_LEASE_READ, &err);
	REQUIRE(lease);
	CHECK_EQ(tab.stats.pinned_bytes, 8 * BLOCK);
	struct pml_waiter w = waiter(0);
	CHECK_EQ(admit(PML_OP_PUNCH, 4 * BLOCK, 8 * BLOCK, &w), -EINPROGRESS);
	struct pml_lease_segment *segments = calloc(1, sizeof(*segments));
	segments[0].at.nblocks = 2;
	pml_table_pinned(&tab, lease, segments, 1, 2 * BLOCK);
	CHECK_EQ(tab.stats.pinned_bytes, 2 * BLOCK);
	CHECK_EQ(count_seen(PML_ACTION_RESUME), 1);
	CHECK_EQ(admit(PML_OP_PUNCH, 4 * BLOCK, 8 * BLOCK, &w), 0);
	pml_table_done(&tab, &w, now);
	CHECK_EQ(pml_table_granted(&tab, lease, now), 0);
	CHECK_EQ(lease->claim.end_byte, 2 * BLOCK);
	CHECK_EQ(admit(PML_OP_TRUNCATE, 2 * BLOCK, UINT64_MAX, NULL), 0);
	CHECK_EQ(admit(PML_OP_TRUNCATE, 2 * BLOCK - 1, UINT64_MAX, NULL), -EBUSY);
	finish();
}

static void test_failed_grants_leave_nothing_behind(void)
{
	start(NULL);
	uint64_t s = session_new();
	int err;
	struct pml_waiter w = waiter(0);

	/* Nothing pinned: gone at once. */
	struct pml_lease *lease = insert(s, 0, BLOCK, PML_LEASE_READ, &err);
	CHECK_EQ(admit(PML_OP_PUNCH, 0, BLOCK, &w), -EINPROGRESS);
	pml_table_grant_failed(&tab, lease, now);
	CHECK_EQ(count_seen(PML_ACTION_GONE), 1);
	CHECK_EQ(count_seen(PML_ACTION_RESUME), 1);
	pml_table_done(&tab, &w, now);

	/* One of two keys was made: that one is fenced first. */
	lease = insert(s, 0, BLOCK, PML_LEASE_READ, &err);
	pin(lease, 2);
	lease->segments[1].key = NULL;
	pml_table_grant_failed(&tab, lease, now);
	CHECK_EQ(lease->state, PML_LEASE_FENCING);
	run_fences();
	CHECK_EQ(fence_calls, 1);
	CHECK_EQ(count_seen(PML_ACTION_GONE), 2);
	CHECK(!last_seen(PML_ACTION_GONE)->tell_holder);
	CHECK_EQ(tab.stats.returned, 0);
	CHECK_EQ(tab.stats.granted, 0);
	finish();
}

/* ---- clocks --------------------------------------------------------------- */

static void test_a_silent_holder_is_revoked_after_ack_ms(void)
{
	start(NULL);
	uint64_t s = session_new();
	struct pml_lease *lease = must_acquire(s, 0, BLOCK, PML_LEASE_READ);
	struct pml_waiter w = waiter(0);
	CHECK_EQ(admit(PML_OP_TRUNCATE, 0, UINT64_MAX, &w), -EINPROGRESS);
	CHECK_EQ(count_seen(PML_ACTION_RECALL), 1);
	pml_table_session_renew(&tab, s, now); /* is no answer to a recall */
	pass(99);
	CHECK_EQ(lease->state, PML_LEASE_RECALLING);
	pass(1);
	CHECK_EQ(lease->state, PML_LEASE_FENCING);
	CHECK_EQ(lease->why, PML_END_SILENT);
	CHECK(!lease->is_cooperative);
	CHECK_EQ(count_seen(PML_ACTION_RESUME), 0);
	run_fences();
	CHECK_EQ(count_seen(PML_ACTION_RESUME), 1);
	CHECK_EQ(last_seen(PML_ACTION_GONE)->why, PML_END_SILENT);
	CHECK(last_seen(PML_ACTION_GONE)->tell_holder);
	CHECK_EQ(tab.stats.revoked, 1);
	CHECK_EQ(w.verdict, 0);
	CHECK_EQ(admit(PML_OP_TRUNCATE, 0, UINT64_MAX, &w), 0);
	pml_table_done(&tab, &w, now);
	finish();
}

static void test_an_acked_recall_is_revoked_after_drain_ms(void)
{
	start(NULL);
	uint64_t s = session_new();
	struct pml_lease *lease = must_acquire(s, 0, BLOCK, PML_LEASE_READ);
	struct pml_waiter w = waiter(0);
	CHECK_EQ(admit(PML_OP_TRUNCATE, 0, UINT64_MAX, &w), -EINPROGRESS);
	pass(50);
	CHECK_EQ(pml_table_ack(&tab, s, lease->id, now), 0);
	pass(949);
	CHECK_EQ(lease->state, PML_LEASE_RECALLING);
	CHECK_EQ(pml_table_ack(&tab, s, lease->id, now), 0); /* gives no more time */
	pass(1);
	CHECK_EQ(lease->state, PML_LEASE_FENCING);
	CHECK_EQ(lease->why, PML_END_CONFLICT);
	run_fences();
	pml_table_done(&tab, &w, now);
	CHECK_EQ(tab.stats.revoked, 1);
	finish();
}

static void test_a_second_break_does_not_restart_the_clocks(void)
{
	start(NULL);
	uint64_t s = session_new();
	struct pml_lease *lease = must_acquire(s, 0, BLOCK, PML_LEASE_READ);
	struct pml_waiter w1 = waiter(0), w2 = waiter(0);
	CHECK_EQ(admit(PML_OP_TRUNCATE, 0, UINT64_MAX, &w1), -EINPROGRESS);
	pass(60);
	CHECK_EQ(admit(PML_OP_PUNCH, 0, BLOCK, &w2), -EINPROGRESS);
	CHECK_EQ(count_seen(PML_ACTION_RECALL), 1);
	pass(40);
	CHECK_EQ(lease->state, PML_LEASE_FENCING);
	CHECK_EQ(tab.stats.recalls, 1);
	run_fences();
	CHECK_EQ(count_seen(PML_ACTION_RESUME), 2);
	pml_table_done(&tab, &w1, now);
	pml_table_done(&tab, &w2, now);
	finish();
}

static void test_policy_block_never_revokes_a_live_holder(void)
{
	start(block_all);
	tab.config.block_deadline_ms = 0;
	uint64_t s = session_new();
	struct pml_lease *lease = must_acquire(s, 0, BLOCK, PML_LEASE_READ);
	struct pml_waiter w = waiter(0);
	CHECK_EQ(admit(PML_OP_TRUNCATE, 0, UINT64_MAX, &w), -EINPROGRESS);
	CHECK_EQ(count_seen(PML_ACTION_RECALL), 1);
	CHECK_EQ(last_seen(PML_ACTION_RECALL)->drain_ms, 0);
	pass(900000);
	CHECK_EQ(lease->state, PML_LEASE_RECALLING);
	CHECK(w.is_parked);

	/* Its death still ends it. */
	pass(200000);
	CHECK_EQ(lease->state, PML_LEASE_FENCING);
	CHECK_EQ(lease->why, PML_END_EXPIRED);
	run_fences();
	CHECK_EQ(count_seen(PML_ACTION_RESUME), 1);
	pml_table_done(&tab, &w, now);
	finish();
}

static void test_a_block_deadline_ends_in_EBUSY_and_the_lease_lives_on(void)
{
	start(block_all);
	uint64_t s = session_new();
	struct pml_lease *lease = must_acquire(s, 0, BLOCK, PML_LEASE_READ);
	struct pml_waiter w = waiter(0);
	CHECK_EQ(admit(PML_OP_TRUNCATE, 0, UINT64_MAX, &w), -EINPROGRESS);
	pass(2999);
	CHECK_EQ(count_seen(PML_ACTION_RESUME), 0);
	pass(1);
	CHECK_EQ(count_seen(PML_ACTION_RESUME), 1);
	CHECK_EQ(w.verdict, -EBUSY);
	CHECK_EQ(admit(PML_OP_TRUNCATE, 0, UINT64_MAX, &w), -EBUSY);
	CHECK_EQ(lease->state, PML_LEASE_RECALLING);
	pml_table_done(&tab, &w, now);
	CHECK_EQ(pml_table_next_due_ms(&tab), 1000 + 1000000);
	finish();
}

static void test_a_revoke_break_arms_the_clocks_of_a_blocked_recall(void)
{
	start(block_all);
	uint64_t s = session_new();
	struct pml_lease *lease = must_acquire(s, 0, BLOCK, PML_LEASE_READ);
	struct pml_waiter w1 = waiter(0), w2 = waiter(0);
	CHECK_EQ(admit(PML_OP_TRUNCATE, 0, UINT64_MAX, &w1), -EINPROGRESS);
	pass(500);
	CHECK_EQ(admit(PML_OP_PUNCH, 0, BLOCK, &w2), -EINPROGRESS);
	CHECK_EQ(count_seen(PML_ACTION_RECALL), 2);
	CHECK_EQ(last_seen(PML_ACTION_RECALL)->drain_ms, 1000);
	pass(100);
	CHECK_EQ(lease->state, PML_LEASE_FENCING);
	CHECK_EQ(lease->why, PML_END_SILENT);
	run_fences();
	CHECK_EQ(count_seen(PML_ACTION_RESUME), 2);
	pml_table_done(&tab, &w1, now);
	pml_table_done(&tab, &w2, now);
	finish();
}

static void test_an_ack_of_a_blocked_recall_counts_when_clocks_start(void)
{
	start(block_all);
	uint64_t s = session_new();
	struct pml_lease *lease = must_acquire(s, 0, BLOCK, PML_LEASE_READ);
	struct pml_waiter w1 = waiter(0), w2 = waiter(0);
	CHECK_EQ(admit(PML_OP_TRUNCATE, 0, UINT64_MAX, &w1), -EINPROGRESS);
	CHECK_EQ(pml_table_ack(&tab, s, lease->id, now), 0);
	CHECK_EQ(admit(PML_OP_PUNCH, 0, BLOCK, &w2), -EINPROGRESS);
	pass(999);
	CHECK_EQ(lease->state, PML_LEASE_RECALLING);
	pass(1);
	CHECK_EQ(lease->why, PML_END_CONFLICT);
	run_fences();
	pml_table_done(&tab, &w1, now);
	pml_table_done(&tab, &w2, now);
	finish();
}

/* ---- sessions ------------------------------------------------------------- */

static void test_a_session_that_does_not_renew_dies_with_all_its_leases(void)
{
	start(NULL);
	uint64_t s = session_new(), other = session_new();
	struct pml_lease *granted = must_acquire(s, 0, BLOCK, PML_LEASE_READ);
	struct pml_lease *recalling = must_acquire(s, 8 * BLOCK, 9 * BLOCK, PML_LEASE_READ);
	struct pml_lease *kept = must_acquire(other, 0, BLOCK, PML_LEASE_READ);
	pass(4950);
	pml_table_session_renew(&tab, other, now);
	struct pml_waiter w = waiter(0);
	CHECK_EQ(admit(PML_OP_PUNCH, 8 * BLOCK, 9 * BLOCK, &w), -EINPROGRESS);
	pass(50);
	CHECK_EQ(granted->why, PML_END_EXPIRED);
	CHECK_EQ(recalling->why, PML_END_EXPIRED);
	CHECK_EQ(granted->state, PML_LEASE_FENCING);
	CHECK_EQ(recalling->state, PML_LEASE_FENCING);
	CHECK_EQ(kept->state, PML_LEASE_GRANTED);
	CHECK_EQ(tab.stats.sessions_died, 1);
	CHECK_EQ(count_seen(PML_ACTION_DIED), 1);

	/* Dead is dead, but it is released only when it has ended. */
	pml_table_session_renew(&tab, s, now);
	CHECK_EQ(acquire(s, 0, BLOCK, PML_LEASE_READ, NULL), -ESTALE);
	run_fences();
	CHECK_EQ(tab.stats.expired, 2);
	CHECK(last_seen(PML_ACTION_GONE)->tell_holder);
	CHECK_EQ(count_seen(PML_ACTION_RELEASED), 0);
	pml_table_session_end(&tab, s, PML_END_SESSION, now);
	CHECK_EQ(count_seen(PML_ACTION_RELEASED), 1);
	pml_table_session_end(&tab, s, PML_END_SESSION, now);
	CHECK_EQ(count_seen(PML_ACTION_RELEASED), 1);
	pml_table_done(&tab, &w, now);
	finish();
}

static void test_a_session_that_dies_and_ends_at_once_is_released_once(void)
{
	start(NULL);
	uint64_t s = session_new();
	now += 5000;
	pml_table_tick(&tab, now);
	pml_table_session_end(&tab, s, PML_END_SESSION, now);
	CHECK_EQ(count_seen(PML_ACTION_DIED), 1);
	CHECK_EQ(count_seen(PML_ACTION_RELEASED), 1);
	CHECK_EQ(tab.stats.sessions, 0);
	finish();
}

static void test_a_session_end_fences_leases_in_every_state(void)
{
	start(NULL);
	uint64_t s = session_new();
	struct pml_lease *granted = must_acquire(s, 0, BLOCK, PML_LEASE_READ);
	struct pml_lease *recalling = must_acquire(s, 8 * BLOCK, 9 * BLOCK, PML_LEASE_READ);
	struct pml_lease *fencing = must_acquire(s, 16 * BLOCK, 17 * BLOCK, PML_LEASE_READ);
	int err;
	struct pml_lease *granting = insert(s, 24 * BLOCK, 25 * BLOCK, PML_LEASE_READ, &err);
	struct pml_waiter w = waiter(0);
	CHECK_EQ(admit(PML_OP_PUNCH, 8 * BLOCK, 9 * BLOCK, &w), -EINPROGRESS);
	CHECK_EQ(pml_table_return(&tab, s, fencing->id, now), 0);

	pml_table_session_end(&tab, s, PML_END_SESSION, now);
	CHECK_EQ(granted->why, PML_END_SESSION);
	CHECK_EQ(recalling->why, PML_END_SESSION);
	CHECK_EQ(fencing->why, PML_END_RETURNED);
	CHECK_EQ(granting->state, PML_LEASE_GRANTING);
	run_fences();
	CHECK_EQ(count_seen(PML_ACTION_GONE), 3);
	for (size_t i = 0; i < nseen; i++)
		CHECK(seen[i].kind != PML_ACTION_GONE || !seen[i].tell_holder);
	CHECK_EQ(count_seen(PML_ACTION_RECALL), 0); /* overtaken */
	CHECK_EQ(count_seen(PML_ACTION_RESUME), 1);

	/* The one being granted keeps the session until its keys are dead too. */
	CHECK_EQ(count_seen(PML_ACTION_RELEASED), 0);
	pin(granting, 1);
	CHECK_EQ(pml_table_granted(&tab, granting, now), -ESTALE);
	pml_table_grant_failed(&tab, granting, now);
	CHECK_EQ(count_seen(PML_ACTION_RELEASED), 0);
	run_fences();
	CHECK_EQ(count_seen(PML_ACTION_RELEASED), 1);
	CHECK_EQ(seen[nseen - 1].kind, PML_ACTION_RELEASED);
	pml_table_done(&tab, &w, now);
	finish();
}

static void test_closing_ends_everything_and_tells_holders(void)
{
	start(NULL);
	uint64_t s = session_new();
	must_acquire(s, 0, BLOCK, PML_LEASE_READ);
	pml_table_close(&tab, now);
	struct pml_lease_session session = {0};
	CHECK_EQ(pml_table_session_add(&tab, &session, now), -ESHUTDOWN);
	CHECK_EQ(acquire(s, BLOCK, 2 * BLOCK, PML_LEASE_READ, NULL), -ESTALE);
	struct pml_waiter w = waiter(0);
	CHECK_EQ(admit(PML_OP_PUNCH, 0, BLOCK, &w), -EINTR);
	run_fences();
	CHECK_EQ(last_seen(PML_ACTION_GONE)->why, PML_END_UNMOUNT);
	CHECK(last_seen(PML_ACTION_GONE)->tell_holder);
	CHECK_EQ(count_seen(PML_ACTION_RELEASED), 1);
	finish();
}

/* ---- fences --------------------------------------------------------------- */

static void test_a_failed_key_fence_escalates_to_the_connection(void)
{
	start(NULL);
	uint64_t s = session_new();
	struct pml_lease *a = must_acquire(s, 0, BLOCK, PML_LEASE_READ);
	struct pml_lease *b = must_acquire(s, 8 * BLOCK, 9 * BLOCK, PML_LEASE_READ);
	CHECK_EQ(pml_table_return(&tab, s, a->id, now), 0);
	CHECK_EQ(pml_table_return(&tab, s, b->id, now), 0);

	struct pml_fence_attempt attempt;
	REQUIRE(pml_table_next_fence(&tab, &attempt));
	CHECK_EQ(attempt.step, PML_FENCE_KEY);
	void *key = attempt.key;
	pml_table_fence_result(&tab, attempt.lease, -EIO, 0, now);
	CHECK_EQ(tab.stats.fence_escalations, 1);

	/* The other lease of the session goes the hard way at once. */
	REQUIRE(pml_table_next_fence(&tab, &attempt));
	CHECK(attempt.lease == b);
	CHECK_EQ(attempt.step, PML_FENCE_CONNECTION);
	pml_table_fence_result(&tab, b, 0, 0, now);
	REQUIRE(pml_table_next_fence(&tab, &attempt));
	pml_table_fence_result(&tab, attempt.lease, 0, 0, now);
	REQUIRE(pml_table_next_fence(&tab, &attempt));
	CHECK(attempt.lease == b && !attempt.key);
	pml_table_gone(&tab, b, now);
	REQUIRE(pml_table_next_fence(&tab, &attempt));
	CHECK(attempt.key == key);
	CHECK_EQ(attempt.step, PML_FENCE_CONNECTION);
	pml_table_fence_result(&tab, a, 0, 0, now);
	run_fences();
	CHECK_EQ(tab.stats.fence_escalations, 1);
	CHECK_EQ(count_seen(PML_ACTION_GONE), 2);
	finish();
}

static void test_a_slow_fence_escalates_the_ones_after_it(void)
{
	start(NULL);
	uint64_t s = session_new();
	struct pml_lease *lease = must_acquire(s, 0, BLOCK, PML_LEASE_READ);
	CHECK_EQ(pml_table_return(&tab, s, lease->id, now), 0);
	struct pml_fence_attempt attempt;
	REQUIRE(pml_table_next_fence(&tab, &attempt));
	CHECK_EQ(attempt.step, PML_FENCE_KEY);
	pml_table_fence_result(&tab, lease, 0, 51, now);
	CHECK_EQ(tab.stats.fence_escalations, 1);
	REQUIRE(pml_table_next_fence(&tab, &attempt));
	CHECK_EQ(attempt.step, PML_FENCE_CONNECTION);
	pml_table_fence_result(&tab, lease, 0, 50, now);
	run_fences();
	finish();
}

static void test_the_last_step_is_retried_and_may_still_work(void)
{
	start(NULL);
	uint64_t s = session_new();
	struct pml_lease *lease = must_acquire(s, 0, BLOCK, PML_LEASE_READ);
	CHECK_EQ(pml_table_return(&tab, s, lease->id, now), 0);
	static const int fail[] = {-EIO, -EIO};
	run_fences_with(fail, 2);
	CHECK_EQ(fence_calls, 2);
	run_fences();
	CHECK_EQ(fence_calls, 2); /* not before its time */
	pass(PML_FENCE_RETRY_MS);
	run_fences();
	CHECK_EQ(fence_calls, 4);
	CHECK_EQ(count_seen(PML_ACTION_GONE), 1);
	CHECK_EQ(tab.stats.fences_stuck, 0);
	finish();
}

/* Lets every fence of the first segment fail until it is given up. */
static void get_stuck(void)
{
	static const int fail[] = {-EIO, -EIO};
	run_fences_with(fail, 2);
	for (uint32_t i = 0; i < PML_FENCE_RETRIES; i++) {
		pass(PML_FENCE_RETRY_MS);
		run_fences_with(fail, 1);
	}
}

static void test_I1_a_stuck_lease_keeps_its_pins_and_fails_its_waiters(void)
{
	start(NULL);
	uint64_t s = session_new(), other = session_new();
	struct pml_lease *lease = must_acquire(s, 0, BLOCK, PML_LEASE_READ);
	struct pml_waiter w = waiter(0), elsewhere = waiter(0);
	must_acquire(other, 8 * BLOCK, 9 * BLOCK, PML_LEASE_READ);
	CHECK_EQ(admit(PML_OP_PUNCH, 0, BLOCK, &w), -EINPROGRESS);
	CHECK_EQ(admit(PML_OP_PUNCH, 8 * BLOCK, 9 * BLOCK, &elsewhere), -EINPROGRESS);
	CHECK_EQ(pml_table_ack(&tab, other, 2, now), 0);
	CHECK_EQ(pml_table_return(&tab, s, lease->id, now), 0);
	get_stuck();
	CHECK_EQ(lease->state, PML_LEASE_STUCK);
	CHECK_EQ(count_seen(PML_ACTION_STUCK), 1);
	CHECK_EQ(count_seen(PML_ACTION_GONE), 0);
	CHECK_EQ(tab.stats.fences_stuck, 1);
	CHECK(lease->segments[0].key != NULL);
	CHECK(lease->segments[1].key == NULL); /* the others are dead all the same */
	CHECK_EQ(tab.stats.pinned_bytes, 3 * BLOCK + BLOCK);

	CHECK_EQ(w.verdict, -EIO);
	CHECK(elsewhere.is_parked);
	CHECK_EQ(admit(PML_OP_PUNCH, 0, BLOCK, &w), -EIO);
	pml_table_done(&tab, &w, now);
	struct pml_waiter late = waiter(0);
	CHECK_EQ(admit(PML_OP_PUNCH, 0, BLOCK, &late), -EIO);
	CHECK_EQ(admit(PML_OP_PUNCH, 0, BLOCK, NULL), -EIO);
	CHECK_EQ(acquire(other, 0, BLOCK, PML_LEASE_WRITE, NULL), -EIO);
	CHECK_EQ(acquire(s, 0, BLOCK, PML_LEASE_WRITE, NULL), -EIO);
	CHECK_EQ(pml_table_return(&tab, s, lease->id, now), -ESTALE);

	pml_table_session_end(&tab, s, PML_END_SESSION, now);
	pass(10000);
	CHECK_EQ(count_seen(PML_ACTION_RELEASED), 0);
	pml_table_fail_all_waiters(&tab, -EINTR);
	collect();
	pml_table_done(&tab, &elsewhere, now);
	finish_stuck();
}

/* Refuses all steps of all keys, as get_stuck() does of one. */
static void fail_every_fence(void)
{
	for (uint32_t i = 0; i < 2 * PML_FENCE_RETRIES + 4; i++) {
		static const int errs[] = {-EIO, -EIO, -EIO, -EIO};
		run_fences_with(errs, PML_ARRAY_LEN(errs));
		pass(PML_FENCE_RETRY_MS);
	}
}

static void test_a_stuck_lease_that_is_fenced_again_lets_later_operations_go(void)
{
	start(NULL);
	uint64_t s = session_new(), other = session_new();
	struct pml_lease *lease = must_acquire(s, 0, BLOCK, PML_LEASE_READ);
	CHECK_EQ(pml_table_return(&tab, s, lease->id, now), 0);
	fail_every_fence();
	CHECK_EQ(lease->state, PML_LEASE_STUCK);
	CHECK_EQ(tab.stats.fences_stuck, 1);
	CHECK(lease->segments[0].key && lease->segments[1].key);
	pml_table_fence_again(&tab, other); /* not its session */
	CHECK(pml_list_is_empty(&tab.fences));

	/* It fails again: stuck as before. */
	pml_table_fence_again(&tab, s);
	fail_every_fence();
	CHECK_EQ(lease->state, PML_LEASE_STUCK);
	CHECK_EQ(tab.stats.fences_stuck, 1);
	CHECK_EQ(count_seen(PML_ACTION_STUCK), 2);
	struct pml_waiter early = waiter(0);
	CHECK_EQ(admit(PML_OP_PUNCH, 0, BLOCK, &early), -EIO);

	/* I3: the fence confirms it, nothing else. */
	pml_table_fence_again(&tab, s);
	pml_table_fence_again(&tab, s);
	CHECK_EQ(count_seen(PML_ACTION_GONE), 0);
	struct pml_fence_attempt attempt;
	REQUIRE(pml_table_next_fence(&tab, &attempt));
	CHECK(attempt.lease == lease && attempt.key == lease->segments[0].key);
	CHECK_EQ(lease->state, PML_LEASE_FENCING);
	CHECK_EQ(tab.stats.fences_stuck, 0);
	struct pml_waiter late = waiter(0);
	CHECK_EQ(admit(PML_OP_PUNCH, 0, BLOCK, &late), -EINPROGRESS);
	pml_table_fence_result(&tab, lease, 0, 0, now);
	run_fences();
	CHECK_EQ(count_seen(PML_ACTION_GONE), 1);
	CHECK_EQ(count_seen(PML_ACTION_RESUME), 1);
	CHECK_EQ(admit(PML_OP_PUNCH, 0, BLOCK, &late), 0);
	pml_table_done(&tab, &late, now);
	pml_table_fence_again(&tab, s); /* there is nothing any more */
	finish();
}

/* What ends the holder's access may happen at any moment of a ladder that fails. */
static void test_a_fence_that_fails_after_the_holders_end_is_tried_again(void)
{
	for (int when = 0; when < 10; when++) {
		start(NULL);
		uint64_t s = session_new();
		struct pml_lease *lease = must_acquire(s, 0, BLOCK, PML_LEASE_READ);
		CHECK_EQ(pml_table_return(&tab, s, lease->id, now), 0);
		/* Nine: a key that escalates, and both keys four times at the last step. */
		for (int i = 0; i <= when; i++) {
			struct pml_fence_attempt attempt;
			bool has_one = pml_table_next_fence(&tab, &attempt);
			CHECK_EQ(has_one, i < 9);
			/* While that fence runs. */
			if (i == when)
				pml_table_fence_again(&tab, s);
			if (has_one)
				pml_table_fence_result(&tab, lease, -EIO, 0, now);
			if (i < when)
				pass(PML_FENCE_RETRY_MS);
		}
		for (int i = 0; i < 20 && count_seen(PML_ACTION_GONE) == 0; i++) {
			run_fences();
			pass(PML_FENCE_RETRY_MS);
		}
		CHECK_EQ(count_seen(PML_ACTION_GONE), 1);
		CHECK_EQ(tab.stats.fences_stuck, 0);
		finish();
	}
}

static void test_a_local_session_has_no_term(void)
{
	start(NULL);
	uint64_t s = local_session_new(), remote = session_new();
	must_acquire(s, 0, BLOCK, PML_LEASE_READ);
	must_acquire(remote, BLOCK, 2 * BLOCK, PML_LEASE_READ);
	pml_table_session_renew(&tab, s, now); /* harmless */
	pass(100000);
	run_fences();
	CHECK_EQ(tab.stats.expired, 1);
	CHECK_EQ(tab.stats.leases, 1);
	CHECK_EQ(tab.stats.sessions_died, 1);
	CHECK_EQ(acquire(s, 2 * BLOCK, 3 * BLOCK, PML_LEASE_READ, NULL), 0);
	pml_table_session_end(&tab, s, PML_END_SESSION, now);
	run_fences();
	CHECK_EQ(count_seen(PML_ACTION_RELEASED), 1);
	pml_table_session_end(&tab, remote, PML_END_SESSION, now);
	finish();
}

/* ---- commit --------------------------------------------------------------- */

static void test_commit_stays_inside_a_live_write_lease(void)
{
	start(NULL);
	uint64_t s = session_new();
	uint64_t reader = must_acquire(s, 0, BLOCK, PML_LEASE_READ)->id;
	struct pml_lease *writer = must_acquire(s, BLOCK, 3 * BLOCK, PML_LEASE_WRITE);
	uint64_t id = writer->id;
	struct pml_lease *lease;
	CHECK_EQ(pml_table_commit_begin(&tab, s, reader, 0, 1, &lease), -EACCES);
	CHECK_EQ(pml_table_commit_begin(&tab, s, id, BLOCK - 1, 2, &lease), -EINVAL);
	CHECK_EQ(pml_table_commit_begin(&tab, s, id, 2 * BLOCK, BLOCK + 1, &lease), -EINVAL);
	CHECK_EQ(pml_table_commit_begin(&tab, s, id, 2 * BLOCK, UINT64_MAX, &lease), -EINVAL);
	CHECK_EQ(pml_table_commit_begin(&tab, s, id, BLOCK, 2 * BLOCK, &lease), 0);
	pml_table_commit_end(&tab, lease);

	struct pml_waiter w = waiter(0);
	CHECK_EQ(admit(PML_OP_PUNCH, BLOCK, 2 * BLOCK, &w), -EINPROGRESS);
	CHECK_EQ(pml_table_commit_begin(&tab, s, id, BLOCK, 1, &lease), 0); /* recalling: may */
	pml_table_commit_end(&tab, lease);
	pass(100);
	CHECK_EQ(writer->state, PML_LEASE_FENCING);
	CHECK_EQ(pml_table_commit_begin(&tab, s, id, BLOCK, 1, &lease), -ESTALE);
	run_fences();
	pml_table_done(&tab, &w, now);
	finish();
}

static void test_a_lease_stays_pinned_while_a_commit_runs(void)
{
	start(NULL);
	uint64_t s = session_new();
	struct pml_lease *lease = must_acquire(s, 0, BLOCK, PML_LEASE_WRITE);
	struct pml_lease *committing = NULL;
	CHECK_EQ(pml_table_commit_begin(&tab, s, lease->id, 0, 1, &committing), 0);
	CHECK_EQ(pml_table_commit_begin(&tab, s, lease->id, 0, 1, &committing), 0);
	pml_table_session_end(&tab, s, PML_END_SESSION, now);
	run_fences();
	CHECK_EQ(fence_calls, 2); /* keys die at once */
	CHECK_EQ(count_seen(PML_ACTION_GONE), 0);
	pml_table_commit_end(&tab, committing);
	run_fences();
	CHECK_EQ(count_seen(PML_ACTION_GONE), 0);
	pml_table_commit_end(&tab, committing);
	run_fences();
	CHECK_EQ(count_seen(PML_ACTION_GONE), 1);
	CHECK_EQ(count_seen(PML_ACTION_RELEASED), 1);
	finish();
}

/* ---- configuration -------------------------------------------------------- */

/* As many as max_leases allows: far more than there are buckets to find them by. */
static void allow_1000(struct pml_lease_config *config)
{
	config->max_leases = 2000; /* a part is kept for other sessions */
	config->max_session_leases = 1000;
}

static void test_each_of_many_leases_is_found_by_its_number(void)
{
	start(allow_1000);
	uint64_t s = session_new();
	struct pml_lease *lease[1000];
	for (uint32_t i = 0; i < 1000; i++)
		lease[i] =
			must_acquire(s, 2ull * i * BLOCK, (2ull * i + 1) * BLOCK, PML_LEASE_READ);
	int err;
	CHECK(!insert(s, 0, BLOCK, PML_LEASE_READ, &err));
	CHECK_EQ(err, -EDQUOT);
	/* Every third one goes, from the middle of its bucket too. */
	for (uint32_t i = 0; i < 1000; i += 3)
		CHECK_EQ(pml_table_return(&tab, s, lease[i]->id, now), 0);
	uint64_t first_id = lease[0]->id;
	run_fences();
	for (uint32_t i = 0; i < 1000; i++)
		CHECK(pml_table_find(&tab, first_id + i) == (i % 3 ? lease[i] : NULL));
	CHECK(!pml_table_find(&tab, 0));
	CHECK(!pml_table_find(&tab, first_id + 1000));
	finish();
}

static void test_a_table_without_limits_is_refused(void)
{
	struct pml_lease_config good, config;
	pml_lease_config_default(&good, 1 << 30);
	CHECK_EQ(pml_table_init(&tab, &good), 0);
	pml_table_fini(&tab);
	uint32_t *const fields[] = {&config.ack_ms,	  &config.drain_ms,
				    &config.term_ms,	  &config.fence_ms,
				    &config.max_leases,	  &config.max_sessions,
				    &config.max_waiters,  &config.max_session_leases,
				    &config.max_segments, &config.max_session_segments};
	for (size_t i = 0; i < PML_ARRAY_LEN(fields); i++) {
		config = good;
		*fields[i] = 0;
		CHECK_EQ(pml_table_init(&tab, &config), -EINVAL);
	}
	config = good;
	config.policy[PML_OP_PUNCH] = (enum pml_policy)3;
	CHECK_EQ(pml_table_init(&tab, &config), -EINVAL);
}

int main(void)
{
	TAP_RUN(test_a_lease_is_seen_by_breaks_before_its_blocks_are_pinned);
	TAP_RUN(test_I3_a_voluntary_return_is_fenced_before_it_is_gone);
	TAP_RUN(test_requests_for_what_one_does_not_hold_are_stale);
	TAP_RUN(test_a_lease_that_covers_less_than_asked_lets_waiters_go);
	TAP_RUN(test_failed_grants_leave_nothing_behind);
	TAP_RUN(test_a_silent_holder_is_revoked_after_ack_ms);
	TAP_RUN(test_an_acked_recall_is_revoked_after_drain_ms);
	TAP_RUN(test_a_second_break_does_not_restart_the_clocks);
	TAP_RUN(test_policy_block_never_revokes_a_live_holder);
	TAP_RUN(test_a_block_deadline_ends_in_EBUSY_and_the_lease_lives_on);
	TAP_RUN(test_a_revoke_break_arms_the_clocks_of_a_blocked_recall);
	TAP_RUN(test_an_ack_of_a_blocked_recall_counts_when_clocks_start);
	TAP_RUN(test_a_session_that_does_not_renew_dies_with_all_its_leases);
	TAP_RUN(test_a_session_that_dies_and_ends_at_once_is_released_once);
	TAP_RUN(test_a_session_end_fences_leases_in_every_state);
	TAP_RUN(test_closing_ends_everything_and_tells_holders);
	TAP_RUN(test_a_failed_key_fence_escalates_to_the_connection);
	TAP_RUN(test_a_slow_fence_escalates_the_ones_after_it);
	TAP_RUN(test_the_last_step_is_retried_and_may_still_work);
	TAP_RUN(test_I1_a_stuck_lease_keeps_its_pins_and_fails_its_waiters);
	TAP_RUN(test_a_stuck_lease_that_is_fenced_again_lets_later_operations_go);
	TAP_RUN(test_a_fence_that_fails_after_the_holders_end_is_tried_again);
	TAP_RUN(test_a_local_session_has_no_term);
	TAP_RUN(test_commit_stays_inside_a_live_write_lease);
	TAP_RUN(test_a_lease_stays_pinned_while_a_commit_runs);
	TAP_RUN(test_each_of_many_leases_is_found_by_its_number);
	TAP_RUN(test_a_table_without_limits_is_refused);
	return tap_done();
}
