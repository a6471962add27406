/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_lease_breaks.c -- layout operations and lease requests that meet leases: policies,
 *                        the queue, limits, random schedules; the test owns the clock
 */
#include "../support/lease_table_fixture.h"

/* ---- admit: the policies -------------------------------------------------- */

static void ebusy_all(struct pml_lease_config *config)
{
	for (int i = 0; i < PML_OP_COUNT; i++)
		config->policy[i] = PML_POLICY_EBUSY;
	config->lease_policy = PML_POLICY_EBUSY;
}

static void test_policy_ebusy_changes_nothing(void)
{
	start(ebusy_all);
	uint64_t s = session_new(), other = session_new();
	struct pml_lease *lease = must_acquire(s, 0, BLOCK, PML_LEASE_READ);
	struct pml_waiter w = waiter(0);
	CHECK_EQ(admit(PML_OP_PUNCH, 0, BLOCK, &w), -EBUSY);
	CHECK(!w.is_queued && !w.is_parked);
	CHECK_EQ(acquire(other, 0, BLOCK, PML_LEASE_WRITE, NULL), -EBUSY);
	CHECK_EQ(lease->state, PML_LEASE_GRANTED);
	CHECK_EQ(count_seen(PML_ACTION_RECALL), 0);
	CHECK_EQ(tab.stats.refused_busy, 2);
	CHECK_EQ(tab.stats.recalls, 0);
	CHECK_EQ(tab.stats.waiters, 0);
	CHECK_EQ(admit(PML_OP_PUNCH, BLOCK, 2 * BLOCK, &w), 0);

	/* Not even the asker's own lease, as long as another is in the way. */
	struct pml_lease *own = must_acquire(other, 0, BLOCK, PML_LEASE_READ);
	struct pml_waiter mine = waiter(other);
	CHECK_EQ(admit(PML_OP_PUNCH, 0, BLOCK, &mine), -EBUSY);
	CHECK_EQ(own->state, PML_LEASE_GRANTED);
	finish();
}

static void test_who_cannot_wait_gets_EBUSY_and_recalls_nobody(void)
{
	start(NULL);
	uint64_t s = session_new();
	struct pml_lease *lease = must_acquire(s, 0, BLOCK, PML_LEASE_READ);
	CHECK_EQ(admit(PML_OP_PUNCH, 0, BLOCK, NULL), -EBUSY);
	CHECK_EQ(lease->state, PML_LEASE_GRANTED);
	CHECK_EQ(count_seen(PML_ACTION_RECALL), 0);
	CHECK_EQ(admit(PML_OP_PUNCH, BLOCK, UINT64_MAX, NULL), 0);
	CHECK_EQ(tab.stats.refused_busy, 1);
	/* Who only looks for another way is not counted. */
	struct pml_layout_change probe = {
		.ino = lease->claim.ino,
		.end_byte = 1,
		.op = PML_OP_UNSHARE,
		.is_probe = true,
	};
	CHECK_EQ(pml_table_admit(&tab, &probe, NULL, now), -EBUSY);
	CHECK_EQ(tab.stats.refused_busy, 1);
	CHECK_EQ(count_seen(PML_ACTION_RECALL), 0);
	finish();
}

static void skip_relocation(struct pml_lease_config *config)
{
	config->policy[PML_OP_RELOCATE] = PML_POLICY_SKIP;
}

static void test_housekeeping_skips_what_is_leased_and_recalls_nobody(void)
{
	start(skip_relocation);
	uint64_t s = session_new();
	struct pml_lease *lease = must_acquire(s, 0, BLOCK, PML_LEASE_READ);
	struct pml_waiter w = waiter(0);
	CHECK_EQ(admit(PML_OP_RELOCATE, 0, BLOCK, &w), -ECANCELED);
	CHECK_EQ(admit(PML_OP_RELOCATE, 0, BLOCK, NULL), -ECANCELED);
	CHECK_EQ(admit(PML_OP_RELOCATE, BLOCK, 2 * BLOCK, &w), 0);
	CHECK_EQ(lease->state, PML_LEASE_GRANTED);
	CHECK_EQ(count_seen(PML_ACTION_RECALL), 0);
	CHECK_EQ(tab.stats.skipped, 2);
	CHECK_EQ(tab.stats.waiters, 0);
	finish();
}

static void test_skip_is_for_housekeeping_only(void)
{
	struct pml_lease_config config;
	static struct pml_table other;
	for (int i = 0; i < PML_OP_COUNT; i++) {
		pml_lease_config_default(&config, 1ull << 30);
		config.policy[i] = PML_POLICY_SKIP;
		bool is_good = i == PML_OP_DEDUPE || i == PML_OP_RELOCATE;
		CHECK_EQ(pml_table_init(&other, &config), is_good ? 0 : -EINVAL);
		if (is_good)
			pml_table_fini(&other);
	}
	pml_lease_config_default(&config, 1ull << 30);
	config.lease_policy = PML_POLICY_SKIP;
	CHECK_EQ(pml_table_init(&other, &config), -EINVAL);
}

static void test_the_holders_own_change_counts_as_a_return(void)
{
	for (int policy = 0; policy < 3; policy++) {
		start(NULL);
		for (int i = 0; i < PML_OP_COUNT; i++)
			tab.config.policy[i] = (enum pml_policy)policy;
		uint64_t s = session_new();
		struct pml_lease *lease = must_acquire(s, 0, BLOCK, PML_LEASE_WRITE);
		struct pml_waiter w = waiter(s);
		CHECK_EQ(admit(PML_OP_TRUNCATE, 0, UINT64_MAX, &w), -EINPROGRESS);
		CHECK_EQ(lease->state, PML_LEASE_FENCING);
		CHECK_EQ(lease->why, PML_END_OWN_CHANGE);
		CHECK_EQ(count_seen(PML_ACTION_RECALL), 0);
		run_fences();
		CHECK(last_seen(PML_ACTION_GONE)->tell_holder);
		CHECK_EQ(count_seen(PML_ACTION_RESUME), 1);
		CHECK_EQ(admit(PML_OP_TRUNCATE, 0, UINT64_MAX, &w), 0);
		pml_table_done(&tab, &w, now);
		CHECK_EQ(tab.stats.returned, 1);
		CHECK_EQ(tab.stats.revoked, 0);
		finish();
	}
}

/* I3: a client's message does not say that it has drained; a program's own call does. */
static void test_only_a_local_holders_own_change_is_fenced_as_a_return(void)
{
	start(NULL);
	uint64_t local = local_session_new(), remote = session_new();
	struct pml_lease *mine = must_acquire(local, 0, BLOCK, PML_LEASE_WRITE);
	struct pml_lease *theirs = must_acquire(remote, BLOCK, 2 * BLOCK, PML_LEASE_WRITE);
	struct pml_waiter w = waiter(local), other = waiter(remote);
	CHECK_EQ(admit(PML_OP_PUNCH, 0, BLOCK, &w), -EINPROGRESS);
	CHECK_EQ(admit(PML_OP_PUNCH, BLOCK, 2 * BLOCK, &other), -EINPROGRESS);
	CHECK(mine->is_cooperative && !theirs->is_cooperative);
	run_fences();
	pml_table_done(&tab, &w, now);
	pml_table_done(&tab, &other, now);
	finish();
}

static void test_an_own_change_ends_a_lease_that_is_being_granted(void)
{
	start(NULL);
	uint64_t s = session_new();
	int err;
	struct pml_lease *lease = insert(s, 0, BLOCK, PML_LEASE_WRITE, &err);
	struct pml_waiter w = waiter(s);
	CHECK_EQ(admit(PML_OP_TRUNCATE, 0, UINT64_MAX, &w), -EINPROGRESS);
	pin(lease, 1);
	CHECK_EQ(pml_table_granted(&tab, lease, now), -EAGAIN);
	pml_table_grant_failed(&tab, lease, now);
	CHECK_EQ(count_seen(PML_ACTION_RESUME), 0);
	run_fences();
	CHECK_EQ(count_seen(PML_ACTION_RESUME), 1);
	pml_table_done(&tab, &w, now);
	finish();
}

static void test_a_waiter_is_resumed_when_the_last_lease_in_its_way_is_gone(void)
{
	start(NULL);
	uint64_t s1 = session_new(), s2 = session_new();
	struct pml_lease *a = must_acquire(s1, 0, BLOCK, PML_LEASE_READ);
	struct pml_lease *b = must_acquire(s2, 0, BLOCK, PML_LEASE_READ);
	struct pml_lease *c = must_acquire(s2, 8 * BLOCK, 9 * BLOCK, PML_LEASE_READ);
	struct pml_waiter w = waiter(0);
	CHECK_EQ(admit(PML_OP_PUNCH, 0, BLOCK, &w), -EINPROGRESS);
	CHECK_EQ(count_seen(PML_ACTION_RECALL), 2);
	CHECK_EQ(pml_table_return(&tab, s1, a->id, now), 0);
	run_fences();
	CHECK_EQ(count_seen(PML_ACTION_RESUME), 0);
	CHECK_EQ(pml_table_return(&tab, s2, b->id, now), 0);
	run_fences();
	CHECK_EQ(count_seen(PML_ACTION_RESUME), 1);
	CHECK_EQ(c->state, PML_LEASE_GRANTED);
	/* Holders hear of a lease's end before the operation goes on. */
	CHECK_EQ(seen[nseen - 1].kind, PML_ACTION_RESUME);
	pml_table_done(&tab, &w, now);
	finish();
}

static void test_clone_src_recalls_writers_only(void)
{
	start(NULL);
	uint64_t s1 = session_new(), s2 = session_new();
	struct pml_lease *reader = must_acquire(s1, 0, BLOCK, PML_LEASE_READ);
	struct pml_lease *writer = must_acquire(s2, BLOCK, 2 * BLOCK, PML_LEASE_WRITE);
	struct pml_layout_change change = change_of(PML_OP_CLONE_SRC, 0, 2 * BLOCK);
	change.writers_only = true;
	struct pml_waiter w = waiter(0);
	CHECK_EQ(pml_table_admit(&tab, &change, &w, now), -EINPROGRESS);
	CHECK_EQ(reader->state, PML_LEASE_GRANTED);
	CHECK_EQ(writer->state, PML_LEASE_RECALLING);
	/* And holds back writers only. */
	CHECK_EQ(acquire(s1, 2 * BLOCK, 3 * BLOCK, PML_LEASE_READ, NULL), 0);
	CHECK_EQ(pml_table_return(&tab, s2, writer->id, now), 0);
	run_fences();
	CHECK_EQ(acquire(s2, BLOCK, 2 * BLOCK, PML_LEASE_WRITE, NULL), -EAGAIN);
	CHECK_EQ(acquire(s2, BLOCK, 2 * BLOCK, PML_LEASE_READ, NULL), 0);
	CHECK_EQ(pml_table_admit(&tab, &change, &w, now), 0);
	pml_table_done(&tab, &w, now);
	finish();
}

/* ---- the queue ------------------------------------------------------------ */

static void test_no_new_lease_overtakes_a_queued_operation(void)
{
	start(NULL);
	uint64_t s1 = session_new(), s2 = session_new();
	struct pml_lease *lease = must_acquire(s1, 0, BLOCK, PML_LEASE_READ);
	struct pml_waiter w = waiter(0);
	CHECK_EQ(admit(PML_OP_PUNCH, 0, 4 * BLOCK, &w), -EINPROGRESS);

	/* Parked, resumed, and running again: held back until done. */
	CHECK_EQ(acquire(s2, BLOCK, 2 * BLOCK, PML_LEASE_READ, NULL), -EAGAIN);
	CHECK_EQ(pml_table_return(&tab, s1, lease->id, now), 0);
	run_fences();
	CHECK_EQ(count_seen(PML_ACTION_RESUME), 1);
	CHECK_EQ(acquire(s2, 0, BLOCK, PML_LEASE_READ, NULL), -EAGAIN);
	CHECK_EQ(admit(PML_OP_PUNCH, 0, 4 * BLOCK, &w), 0);
	CHECK_EQ(acquire(s2, 0, BLOCK, PML_LEASE_READ, NULL), -EAGAIN);
	CHECK_EQ(acquire(s2, 4 * BLOCK, 5 * BLOCK, PML_LEASE_READ, NULL), 0);
	pml_table_done(&tab, &w, now);
	CHECK_EQ(acquire(s2, 0, BLOCK, PML_LEASE_READ, NULL), 0);
	finish();
}

static void test_an_operation_that_parks_again_waits_for_its_new_change(void)
{
	start(NULL);
	uint64_t s = session_new();
	struct pml_lease *src = must_acquire(s, 0, BLOCK, PML_LEASE_WRITE);
	struct pml_lease *dst = must_acquire(s, 8 * BLOCK, 9 * BLOCK, PML_LEASE_READ);
	struct pml_waiter w = waiter(0);
	CHECK_EQ(admit(PML_OP_CLONE_SRC, 0, BLOCK, &w), -EINPROGRESS);
	CHECK_EQ(pml_table_return(&tab, s, src->id, now), 0);
	run_fences();
	CHECK_EQ(admit(PML_OP_CLONE_SRC, 0, BLOCK, &w), 0);
	CHECK_EQ(admit(PML_OP_CLONE_DST, 8 * BLOCK, 9 * BLOCK, &w), -EINPROGRESS);
	CHECK_EQ(tab.stats.waiters, 1);
	CHECK_EQ(w.change.op, PML_OP_CLONE_DST);
	CHECK(pml_table_first_waiter(&tab, dst) == &w);
	CHECK_EQ(pml_table_return(&tab, s, dst->id, now), 0);
	run_fences();
	CHECK_EQ(count_seen(PML_ACTION_RESUME), 2);
	CHECK_EQ(admit(PML_OP_CLONE_DST, 8 * BLOCK, 9 * BLOCK, &w), 0);
	pml_table_done(&tab, &w, now);
	finish();
}

/* Else leases on the one and on the other might starve it by turns. */
static void test_an_operation_with_two_changes_holds_back_leases_in_the_way_of_both(void)
{
	start(NULL);
	uint64_t s = session_new(), other = session_new();
	struct pml_lease *src = must_acquire(s, 0, BLOCK, PML_LEASE_WRITE);
	struct pml_lease *dst = must_acquire(s, 8 * BLOCK, 9 * BLOCK, PML_LEASE_READ);
	struct pml_waiter w = waiter(0);
	CHECK_EQ(admit(PML_OP_PUNCH, 0, BLOCK, &w), -EINPROGRESS);
	CHECK_EQ(pml_table_return(&tab, s, src->id, now), 0);
	run_fences();
	CHECK_EQ(admit(PML_OP_PUNCH, 0, BLOCK, &w), 0);
	CHECK_EQ(admit(PML_OP_CLONE_DST, 8 * BLOCK, 9 * BLOCK, &w), -EINPROGRESS);
	for (int i = 0; i < 2; i++) {
		CHECK_EQ(acquire(other, 0, BLOCK, PML_LEASE_READ, NULL), -EAGAIN);
		CHECK_EQ(acquire(other, 8 * BLOCK, 9 * BLOCK, PML_LEASE_READ, NULL), -EAGAIN);
		CHECK_EQ(acquire(other, 4 * BLOCK, 5 * BLOCK, PML_LEASE_READ, NULL), 0);
		if (i == 0)
			CHECK_EQ(pml_table_return(&tab, s, dst->id, now), 0);
		run_fences();
	}
	CHECK_EQ(admit(PML_OP_PUNCH, 0, BLOCK, &w), 0);
	CHECK_EQ(admit(PML_OP_CLONE_DST, 8 * BLOCK, 9 * BLOCK, &w), 0);
	pml_table_done(&tab, &w, now);
	CHECK_EQ(acquire(other, 0, BLOCK, PML_LEASE_READ, NULL), 0);
	CHECK_EQ(acquire(other, 8 * BLOCK, 9 * BLOCK, PML_LEASE_READ, NULL), 0);
	finish();
}

static void test_cancel_ends_a_wait_with_EINTR_in_every_state(void)
{
	start(NULL);
	uint64_t s = session_new();
	must_acquire(s, 0, BLOCK, PML_LEASE_READ);

	/* Parked: resumed; the lease stays recalled. */
	struct pml_waiter parked = waiter(0);
	CHECK_EQ(admit(PML_OP_PUNCH, 0, BLOCK, &parked), -EINPROGRESS);
	pml_table_cancel(&tab, &parked);
	pml_table_cancel(&tab, &parked);
	CHECK_EQ(count_seen(PML_ACTION_RESUME), 1);
	CHECK_EQ(admit(PML_OP_PUNCH, 0, BLOCK, &parked), -EINTR);
	pml_table_done(&tab, &parked, now);
	pml_table_done(&tab, &parked, now);

	/* Running, never parked: may go on, but not wait. */
	struct pml_waiter running = waiter(0);
	pml_table_cancel(&tab, &running);
	CHECK_EQ(admit(PML_OP_PUNCH, BLOCK, 2 * BLOCK, &running), 0);
	CHECK_EQ(admit(PML_OP_PUNCH, 0, BLOCK, &running), -EINTR);
	CHECK(!running.is_queued);
	pml_table_done(&tab, &running, now);
	CHECK_EQ(tab.stats.interrupted, 2);

	/* Resumed with success, cancelled before it asks again: no lease is left, it goes on. */
	struct pml_waiter resumed = waiter(0);
	CHECK_EQ(admit(PML_OP_PUNCH, 0, BLOCK, &resumed), -EINPROGRESS);
	pml_table_session_end(&tab, s, PML_END_SESSION, now);
	run_fences();
	CHECK_EQ(resumed.verdict, 0);
	pml_table_cancel(&tab, &resumed);
	CHECK_EQ(admit(PML_OP_PUNCH, 0, BLOCK, &resumed), 0);
	pml_table_done(&tab, &resumed, now);
	finish();
}

static void blocking(struct pml_lease_config *config)
{
	config->policy[PML_OP_UNSHARE] = PML_POLICY_BLOCK;
	config->block_deadline_ms = 0;
	config->drain_ms = 3000;
}

/* Two commits, of leases that others wait for, each in the way of a lease of the other. */
static void test_I9_commits_on_the_way_out_do_not_wait_for_each_other_for_ever(void)
{
	start(blocking);
	uint64_t s[2] = {session_new(), session_new()};
	struct pml_lease *lease[2];
	struct pml_waiter w[2];
	for (uint64_t i = 0; i < 2; i++)
		lease[i] = must_acquire(s[i], 8 * i * BLOCK, (8 * i + 1) * BLOCK, PML_LEASE_READ);
	for (uint64_t i = 0; i < 2; i++) {
		w[i] = waiter(s[i]);
		w[i].is_returning = i == 0;
		uint64_t at = 8 * (1 - i) * BLOCK;
		CHECK_EQ(admit(PML_OP_UNSHARE, at, at + BLOCK, &w[i]), -EINPROGRESS);
	}
	pass(2900);
	CHECK_EQ(count_seen(PML_ACTION_RESUME), 0);
	pass(200);
	/* The one gives up, and so returns what the other waits for. */
	CHECK_EQ(count_seen(PML_ACTION_RESUME), 1);
	CHECK_EQ(w[0].verdict, -EBUSY);
	CHECK_EQ(admit(PML_OP_UNSHARE, 8 * BLOCK, 9 * BLOCK, &w[0]), -EBUSY);
	pml_table_done(&tab, &w[0], now);
	CHECK_EQ(pml_table_return(&tab, s[0], lease[0]->id, now), 0);
	run_fences();
	CHECK_EQ(admit(PML_OP_UNSHARE, 0, BLOCK, &w[1]), 0);
	pml_table_done(&tab, &w[1], now);
	CHECK_EQ(pml_table_return(&tab, s[1], lease[1]->id, now), 0);
	finish();
}

static void few(struct pml_lease_config *config)
{
	config->max_waiters = 2;
	config->max_leases = 3;
	config->max_session_leases = 2;
	config->max_sessions = 3;
}

static void test_I9_waiting_operations_are_limited(void)
{
	start(few);
	uint64_t s = session_new();
	struct pml_lease *lease = must_acquire(s, 0, BLOCK, PML_LEASE_READ);
	struct pml_waiter w[3] = {waiter(0), waiter(0), waiter(0)};
	CHECK_EQ(admit(PML_OP_PUNCH, 0, BLOCK, &w[0]), -EINPROGRESS);
	CHECK_EQ(admit(PML_OP_PUNCH, 0, BLOCK, &w[1]), -EINPROGRESS);
	CHECK_EQ(admit(PML_OP_PUNCH, 0, BLOCK, &w[2]), -EAGAIN);
	CHECK_EQ(tab.stats.refused_limit, 1);
	pml_table_done(&tab, &w[2], now);
	CHECK_EQ(pml_table_return(&tab, s, lease->id, now), 0);
	run_fences();
	pml_table_done(&tab, &w[0], now);
	pml_table_done(&tab, &w[1], now);
	CHECK_EQ(tab.stats.waiters, 0);
	finish();
}

/* ---- acquire -------------------------------------------------------------- */

static void test_I9_leases_and_sessions_are_limited(void)
{
	start(few);
	uint64_t s1 = session_new(), s2 = session_new();
	must_acquire(s1, 0, BLOCK, PML_LEASE_READ);
	must_acquire(s1, 0, BLOCK, PML_LEASE_READ);
	CHECK_EQ(acquire(s1, 0, BLOCK, PML_LEASE_READ, NULL), -EDQUOT);
	must_acquire(s2, 0, BLOCK, PML_LEASE_READ);
	CHECK_EQ(acquire(s2, 0, BLOCK, PML_LEASE_READ, NULL), -EUSERS);
	session_new();
	struct pml_lease_session session = {0};
	CHECK_EQ(pml_table_session_add(&tab, &session, now), -EUSERS);
	CHECK_EQ(tab.stats.refused_limit, 3);
	finish();
}

static void small(struct pml_lease_config *config)
{
	config->max_session_pinned_bytes = 8 * BLOCK;
	config->max_pinned_bytes = 12 * BLOCK;
}

static void test_I9_pinned_bytes_are_limited_by_whole_blocks(void)
{
	start(small);
	uint64_t s1 = session_new(), s2 = session_new();
	/* 8 blocks and a byte of each neighbour are ten blocks. */
	CHECK_EQ(acquire(s1, BLOCK - 1, 9 * BLOCK + 1, PML_LEASE_READ, NULL), -EDQUOT);
	int err;
	struct pml_lease *lease = insert(s1, 0, 8 * BLOCK, PML_LEASE_READ, &err);
	REQUIRE(lease);
	CHECK_EQ(acquire(s1, 0, 1, PML_LEASE_READ, NULL), -EDQUOT);
	CHECK_EQ(acquire(s2, 0, 5 * BLOCK, PML_LEASE_READ, NULL), -EUSERS);
	/* It pinned less than it asked for. */
	pin(lease, 2);
	CHECK_EQ(pml_table_granted(&tab, lease, now), 0);
	CHECK_EQ(acquire(s2, 0, 5 * BLOCK, PML_LEASE_READ, NULL), 0);
	CHECK_EQ(tab.stats.pinned_bytes, 4 * BLOCK);
	finish();
}

static void test_a_lease_request_recalls_what_is_in_its_way(void)
{
	start(NULL);
	uint64_t s1 = session_new(), s2 = session_new();
	struct pml_lease *lease = must_acquire(s1, 0, BLOCK, PML_LEASE_WRITE);
	CHECK_EQ(acquire(s2, 0, BLOCK, PML_LEASE_READ, NULL), -EAGAIN);
	CHECK_EQ(acquire(s2, 0, BLOCK, PML_LEASE_READ, NULL), -EAGAIN);
	CHECK_EQ(count_seen(PML_ACTION_RECALL), 1);
	CHECK_EQ(last_seen(PML_ACTION_RECALL)->op, PML_OP_COUNT);
	CHECK_EQ(last_seen(PML_ACTION_RECALL)->drain_ms, 1000);
	pass(100);
	CHECK_EQ(lease->why, PML_END_SILENT);
	CHECK_EQ(acquire(s2, 0, BLOCK, PML_LEASE_READ, NULL), -EAGAIN);
	run_fences();
	CHECK_EQ(acquire(s2, 0, BLOCK, PML_LEASE_READ, NULL), 0);
	finish();

	start(block_all);
	s1 = session_new();
	s2 = session_new();
	lease = must_acquire(s1, 0, BLOCK, PML_LEASE_READ);
	CHECK_EQ(acquire(s2, 0, BLOCK, PML_LEASE_WRITE, NULL), -EAGAIN);
	CHECK_EQ(count_seen(PML_ACTION_RECALL), 1);
	pass(100000);
	CHECK_EQ(lease->state, PML_LEASE_RECALLING);
	finish();
}

static void test_the_same_session_gets_EDEADLK_until_it_returns(void)
{
	start(NULL);
	uint64_t s = session_new(), other = session_new();
	struct pml_lease *lease = must_acquire(s, 0, BLOCK, PML_LEASE_READ);
	must_acquire(other, 0, BLOCK, PML_LEASE_READ);
	CHECK_EQ(acquire(s, 0, BLOCK, PML_LEASE_READ, NULL), 0);
	CHECK_EQ(acquire(s, 0, BLOCK, PML_LEASE_WRITE, NULL), -EDEADLK);
	CHECK_EQ(count_seen(PML_ACTION_RECALL), 0); /* and recalls nobody */
	CHECK_EQ(pml_table_return(&tab, s, lease->id, now), 0);
	CHECK_EQ(pml_table_return(&tab, s, lease->id + 2, now), 0);
	/* Returned but not fenced yet: soon. */
	CHECK_EQ(acquire(s, 0, BLOCK, PML_LEASE_WRITE, NULL), -EAGAIN);
	finish();
}

static void test_I5_two_sessions_never_write_one_block(void)
{
	start(NULL);
	uint64_t s1 = session_new(), s2 = session_new();
	must_acquire(s1, 0, 100, PML_LEASE_WRITE);
	CHECK_EQ(acquire(s2, 200, 300, PML_LEASE_WRITE, NULL), -EAGAIN);
	CHECK_EQ(acquire(s2, 200, 300, PML_LEASE_READ, NULL), -EAGAIN);
	CHECK_EQ(acquire(s2, BLOCK, BLOCK + 1, PML_LEASE_WRITE, NULL), 0);
	finish();
}

/* ---- random schedules ----------------------------------------------------- */

#define RANDOM_WAITERS 12

static uint64_t seed;

static uint64_t random_below(uint64_t n)
{
	seed = seed * 6364136223846793005ull + 1442695040888963407ull;
	return (seed >> 33) % n;
}

/* No write lease of two sessions on a block; no lease granted in a queued change's way. */
static void check_invariants(void)
{
	struct pml_lease *a, *b;
	uint64_t pinned = 0, count = 0;
	pml_list_for_each(a, &tab.leases, all) {
		pinned += a->pinned_bytes;
		count++;
		pml_list_for_each(b, &tab.leases, all)
			CHECK(a == b || pml_rules_coexist(&a->claim, &b->claim) == 0);
	}
	CHECK_EQ(tab.stats.pinned_bytes, pinned);
	CHECK_EQ(tab.stats.leases, count);
}

static void random_admit(struct pml_waiter *w)
{
	if (w->is_parked) {
		if (random_below(20) == 0)
			pml_table_cancel(&tab, w);
		return;
	}
	collect(); /* delivers its resume */
	uint64_t first = w->is_queued ? w->change.first_byte : random_below(12) * 1024;
	uint64_t end = w->is_queued ? w->change.end_byte : first + 1 + random_below(8192);
	enum pml_layout_op op =
		w->is_queued ? w->change.op : (enum pml_layout_op)random_below(PML_OP_COUNT);
	int err = admit(op, first, end, w);
	if (err == 0) {
		struct pml_lease *lease;
		struct pml_layout_change change = change_of(op, first, end);
		pml_list_for_each(lease, &tab.leases, all)
			CHECK(!pml_rules_is_in_the_way(&lease->claim, &change));
	}
	if (err != -EINPROGRESS) {
		pml_table_done(&tab, w, now);
		*w = waiter(random_below(4));
	}
}

static void random_step(struct pml_waiter *waiters)
{
	uint64_t first = random_below(12) * 1024;
	uint64_t s = 1 + random_below(3);
	switch (random_below(6)) {
	case 0:
		(void)acquire(s, first, first + 1 + random_below(8192),
			      random_below(2) ? PML_LEASE_READ : PML_LEASE_WRITE, NULL);
		break;
	case 1:
		random_admit(&waiters[random_below(RANDOM_WAITERS)]);
		break;
	case 2:
		if (!pml_list_is_empty(&tab.leases)) {
			struct pml_lease *lease =
				pml_list_entry(tab.leases.next, struct pml_lease, all);
			int err = pml_table_return(&tab, lease->claim.session, lease->id, now);
			CHECK(err == 0 || err == -ESTALE);
		}
		break;
	case 3:
		run_fences();
		break;
	case 4:
		pml_table_session_renew(&tab, s, now);
		pass(random_below(60));
		break;
	default: {
		int err = pml_table_ack(&tab, s, 1 + random_below(tab.last_lease_id + 1), now);
		CHECK(err == 0 || err == -ESTALE);
		break;
	}
	}
	nseen = 0;
}

static void no_death(struct pml_lease_config *config)
{
	config->term_ms = 1u << 30;
	config->policy[PML_OP_PUNCH] = PML_POLICY_BLOCK;
	config->policy[PML_OP_CLONE_DST] = PML_POLICY_EBUSY;
	config->block_deadline_ms = 700;
}

static void test_random_schedules_keep_the_invariants_and_end(void)
{
	const char *env = getenv("PML_SEED");
	seed = env ? strtoull(env, NULL, 0) : 20240607u;
	printf("# PML_SEED=%llu\n", (unsigned long long)seed);
	for (int round = 0; round < 40; round++) {
		start(no_death);
		for (int i = 0; i < 3; i++)
			session_new();
		struct pml_waiter waiters[RANDOM_WAITERS] = {0};
		for (int i = 0; i < RANDOM_WAITERS; i++)
			waiters[i] = waiter(0);
		for (int step = 0; step < 600; step++) {
			random_step(waiters);
			if (step % 10 == 0)
				check_invariants();
		}
		/* Every wait ends in bounded time without anybody's help. */
		for (int i = 0; i < 40; i++) {
			pass(100);
			run_fences();
			nseen = 0;
		}
		for (int i = 0; i < RANDOM_WAITERS; i++) {
			CHECK(!waiters[i].is_parked);
			pml_table_done(&tab, &waiters[i], now);
		}
		finish();
	}
}

int main(void)
{
	TAP_RUN(test_policy_ebusy_changes_nothing);
	TAP_RUN(test_who_cannot_wait_gets_EBUSY_and_recalls_nobody);
	TAP_RUN(test_housekeeping_skips_what_is_leased_and_recalls_nobody);
	TAP_RUN(test_skip_is_for_housekeeping_only);
	TAP_RUN(test_the_holders_own_change_counts_as_a_return);
	TAP_RUN(test_only_a_local_holders_own_change_is_fenced_as_a_return);
	TAP_RUN(test_an_own_change_ends_a_lease_that_is_being_granted);
	TAP_RUN(test_a_waiter_is_resumed_when_the_last_lease_in_its_way_is_gone);
	TAP_RUN(test_clone_src_recalls_writers_only);
	TAP_RUN(test_no_new_lease_overtakes_a_queued_operation);
	TAP_RUN(test_an_operation_that_parks_again_waits_for_its_new_change);
	TAP_RUN(test_an_operation_with_two_changes_holds_back_leases_in_the_way_of_both);
	TAP_RUN(test_cancel_ends_a_wait_with_EINTR_in_every_state);
	TAP_RUN(test_I9_waiting_operations_are_limited);
	TAP_RUN(test_I9_commits_on_the_way_out_do_not_wait_for_each_other_for_ever);
	TAP_RUN(test_I9_leases_and_sessions_are_limited);
	TAP_RUN(test_I9_pinned_bytes_are_limited_by_whole_blocks);
	TAP_RUN(test_a_lease_request_recalls_what_is_in_its_way);
	TAP_RUN(test_the_same_session_gets_EDEADLK_until_it_returns);
	TAP_RUN(test_I5_two_sessions_never_write_one_block);
	TAP_RUN(test_random_schedules_keep_the_invariants_and_end);
	return tap_done();
}
