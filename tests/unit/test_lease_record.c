/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_lease_record.c -- what the table remembers: spans of time, refusals, leases ended by force
 */
#include "../support/lease_table_fixture.h"

static const struct pml_histogram *span(enum pml_span which)
{
	return &tab.stats.histogram[which];
}

static void check_span(enum pml_span which, uint64_t count, uint64_t max_ms)
{
	if (span(which)->count != count || span(which)->max_ms != max_ms)
		TAP_FAIL("%s: %llu up to %llu ms, want %llu up to %llu", pml_span_name(which),
			 (unsigned long long)span(which)->count,
			 (unsigned long long)span(which)->max_ms, (unsigned long long)count,
			 (unsigned long long)max_ms);
}

static void test_a_span_is_counted_by_powers_of_two(void)
{
	start(NULL);
	static const struct {
		uint64_t ms;
		unsigned int bucket;
	} cases[] = {{0, 0},	 {1, 1},	 {2, 2},
		     {3, 2},	 {4, 3},	 {1023, 10},
		     {1024, 11}, {1u << 18, 19}, {UINT64_MAX / 2, PML_HISTOGRAM_BUCKETS - 1}};
	for (size_t i = 0; i < PML_ARRAY_LEN(cases); i++) {
		uint64_t before = span(PML_SPAN_HELD)->bucket[cases[i].bucket];
		pml_table_record_span(&tab, PML_SPAN_HELD, cases[i].ms);
		CHECK_EQ(span(PML_SPAN_HELD)->bucket[cases[i].bucket], before + 1);
	}
	CHECK_EQ(span(PML_SPAN_HELD)->count, PML_ARRAY_LEN(cases));
	CHECK_EQ(span(PML_SPAN_HELD)->max_ms, UINT64_MAX / 2);
	finish();
}

static void test_each_span_of_a_lease_that_is_returned(void)
{
	start(NULL);
	uint64_t s = session_new();
	int err;
	struct pml_lease *lease = insert(s, 0, BLOCK, PML_LEASE_READ, &err);
	REQUIRE(lease);
	pin(lease, 2);
	now += 7;
	CHECK_EQ(pml_table_granted(&tab, lease, now), 0);
	check_span(PML_SPAN_GRANT, 1, 7);
	now += 100;
	struct pml_waiter w = waiter(0);
	CHECK_EQ(admit(PML_OP_PUNCH, 0, BLOCK, &w), -EINPROGRESS);
	now += 20;
	CHECK_EQ(pml_table_ack(&tab, s, lease->id, now), 0);
	CHECK_EQ(pml_table_ack(&tab, s, lease->id, now), 0);
	check_span(PML_SPAN_ACK, 1, 20);
	now += 30;
	CHECK_EQ(pml_table_return(&tab, s, lease->id, now), 0);
	check_span(PML_SPAN_RETURN, 1, 50);
	check_span(PML_SPAN_HELD, 1, 150);

	/* The first key needs two steps and a retry, the second 3 ms. */
	struct pml_fence_attempt attempt;
	static const struct {
		int err;
		uint64_t took_ms;
	} steps[] = {{-EIO, 10}, {-EIO, 10}, {0, 5}, {0, 3}};
	for (size_t i = 0; i < PML_ARRAY_LEN(steps); i++) {
		if (i == 2)
			pass(PML_FENCE_RETRY_MS);
		REQUIRE(pml_table_next_fence(&tab, &attempt) && attempt.key);
		now += steps[i].took_ms;
		pml_table_fence_result(&tab, lease, steps[i].err, steps[i].took_ms, now);
	}
	check_span(PML_SPAN_FENCE, 2, 20 + PML_FENCE_RETRY_MS + 5);
	run_fences();
	check_span(PML_SPAN_UNPIN, 1, 28 + PML_FENCE_RETRY_MS);
	now += 2;
	pml_table_done(&tab, &w, now);
	check_span(PML_SPAN_WAIT, 1, 50 + 28 + PML_FENCE_RETRY_MS + 2);
	check_span(PML_SPAN_REVOKE, 0, 0);
	finish();
}

static void test_what_was_not_granted_leaves_no_span(void)
{
	start(NULL);
	uint64_t s = session_new();
	int err;
	struct pml_lease *lease = insert(s, 0, BLOCK, PML_LEASE_READ, &err);
	pin(lease, 1);
	pml_table_grant_failed(&tab, lease, now);
	run_fences();
	check_span(PML_SPAN_GRANT, 0, 0);
	check_span(PML_SPAN_HELD, 0, 0);
	check_span(PML_SPAN_UNPIN, 0, 0);
	CHECK_EQ(tab.history.total, 0);
	finish();
}

static void test_forced_ends_are_remembered_with_cause_and_who_waited(void)
{
	start(NULL);
	uint64_t s = session_new();
	uint64_t id = must_acquire(s, 0, BLOCK, PML_LEASE_WRITE)->id;
	now += 40;
	struct pml_waiter w = waiter(0);
	w.pid = 4711;
	strcpy(w.name, "truncate");
	CHECK_EQ(admit(PML_OP_TRUNCATE, 0, UINT64_MAX, &w), -EINPROGRESS);
	pass(100);
	run_fences();
	check_span(PML_SPAN_REVOKE, 1, 100);
	REQUIRE(tab.history.total == 1);
	const struct pml_ending *e = &tab.history.ending[0];
	CHECK_EQ(e->lease_id, id);
	CHECK_EQ(e->session, s);
	CHECK_EQ(e->ino, INO);
	CHECK_EQ(e->end_byte, BLOCK);
	CHECK_EQ(e->mode, PML_LEASE_WRITE);
	CHECK_EQ(e->why, PML_END_SILENT);
	CHECK_EQ(e->op, PML_OP_TRUNCATE);
	CHECK_EQ(e->age_ms, 140);
	CHECK_EQ(e->recalled_ms, 100);
	CHECK_EQ(e->waiter_pid, 4711);
	CHECK_STR(e->waiter, "truncate");
	pml_table_done(&tab, &w, now);

	/* Expired without a recall: nobody waited. */
	must_acquire(s, 0, BLOCK, PML_LEASE_READ);
	pass(5000);
	run_fences();
	REQUIRE(tab.history.total == 2);
	e = &tab.history.ending[1];
	CHECK_EQ(e->why, PML_END_EXPIRED);
	CHECK(!e->was_recalled);
	CHECK_EQ(e->waiter_pid, 0);
	CHECK_STR(e->waiter, "");
	finish();
}

static void test_what_was_given_back_or_ended_with_its_session_is_not_remembered(void)
{
	start(NULL);
	uint64_t s = session_new();
	uint64_t id = must_acquire(s, 0, BLOCK, PML_LEASE_READ)->id;
	CHECK_EQ(pml_table_return(&tab, s, id, now), 0);
	must_acquire(s, 0, BLOCK, PML_LEASE_READ);
	pml_table_session_end(&tab, s, PML_END_SESSION, now);
	must_acquire(session_new(), 0, BLOCK, PML_LEASE_READ);
	finish(); /* an unmount */
	CHECK_EQ(tab.history.total, 0);
}

static void test_the_history_keeps_the_last_ones(void)
{
	start(NULL);
	uint64_t s = session_new(), last = 0;
	for (uint64_t i = 0; i < PML_HISTORY_MAX + 10; i++) {
		struct pml_lease *lease = must_acquire(s, 0, BLOCK, PML_LEASE_READ);
		last = lease->id;
		pml_table_end(&tab, lease, PML_END_CONFLICT, false, now);
		run_fences();
		nseen = 0;
	}
	CHECK_EQ(tab.history.total, PML_HISTORY_MAX + 10);
	CHECK_EQ(tab.history.ending[9].lease_id, last);
	CHECK_EQ(tab.history.ending[10].lease_id, last - PML_HISTORY_MAX + 1);
	finish();
}

static void test_every_limit_and_span_has_a_name_of_its_own(void)
{
	for (int i = 0; i < PML_LIMIT_COUNT; i++)
		for (int j = 0; j < i; j++)
			CHECK(strcmp(pml_limit_name((enum pml_limit)i),
				     pml_limit_name((enum pml_limit)j)) != 0);
	for (int i = 0; i < PML_SPAN_COUNT; i++)
		for (int j = 0; j < i; j++)
			CHECK(strcmp(pml_span_name((enum pml_span)i),
				     pml_span_name((enum pml_span)j)) != 0);
	CHECK_STR(pml_limit_name(PML_LIMIT_USER_PINNED), "max_user_pinned");
	CHECK_STR(pml_limit_name(PML_LIMIT_COUNT), "unknown");
	CHECK_STR(pml_span_name(PML_SPAN_UNPIN), "unpin");
	CHECK_STR(pml_span_name(PML_SPAN_COUNT), "unknown");
}

int main(void)
{
	TAP_RUN(test_a_span_is_counted_by_powers_of_two);
	TAP_RUN(test_each_span_of_a_lease_that_is_returned);
	TAP_RUN(test_what_was_not_granted_leaves_no_span);
	TAP_RUN(test_forced_ends_are_remembered_with_cause_and_who_waited);
	TAP_RUN(test_what_was_given_back_or_ended_with_its_session_is_not_remembered);
	TAP_RUN(test_the_history_keeps_the_last_ones);
	TAP_RUN(test_every_limit_and_span_has_a_name_of_its_own);
	return tap_done();
}
