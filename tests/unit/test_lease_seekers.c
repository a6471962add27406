/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_lease_seekers.c -- who asked first gets it first: requests for leases that were told EAGAIN
 */
#include "../support/lease_table_fixture.h"

#define RETRY_MS 100u

static int ask(uint64_t session, uint64_t first, uint64_t end, enum pml_lease_mode mode)
{
	return acquire(session, first, end, mode, NULL);
}

/* Gives all leases of @session back and fences them. */
static void give_back(uint64_t session)
{
	struct pml_lease *lease, *tmp;
	pml_list_for_each_safe(lease, tmp, &tab.leases, all) {
		if (lease->claim.session == session)
			CHECK(pml_table_return(&tab, session, lease->id, now) != -EINVAL);
	}
	run_fences();
}

static void test_a_younger_request_waits_for_an_older_one(void)
{
	start(NULL);
	uint64_t holder = session_new(), old = session_new(), young = session_new();
	must_acquire(holder, 0, BLOCK, PML_LEASE_READ);
	CHECK_EQ(ask(old, 0, BLOCK, PML_LEASE_WRITE), -EAGAIN);
	/* No lease is in its way but an older request is. */
	CHECK_EQ(ask(young, 0, BLOCK, PML_LEASE_READ), -EAGAIN);
	CHECK_EQ(tab.stats.sought, 1);
	CHECK_EQ(ask(young, BLOCK, 2 * BLOCK, PML_LEASE_READ), 0);
	give_back(holder);
	CHECK_EQ(ask(young, 0, BLOCK, PML_LEASE_READ), -EAGAIN);
	CHECK_EQ(ask(old, 0, BLOCK, PML_LEASE_WRITE), 0);
	CHECK(pml_list_is_empty(&tab.seekers) == false);
	give_back(old);
	CHECK_EQ(ask(young, 0, BLOCK, PML_LEASE_READ), 0);
	CHECK(pml_list_is_empty(&tab.seekers));
	finish();
}

static void test_requests_that_may_coexist_do_not_wait_for_each_other(void)
{
	start(NULL);
	uint64_t holder = session_new(), old = session_new(), young = session_new();
	must_acquire(holder, 0, 2 * BLOCK, PML_LEASE_WRITE);
	CHECK_EQ(ask(old, 0, BLOCK, PML_LEASE_READ), -EAGAIN);
	give_back(holder);
	CHECK_EQ(ask(young, 0, BLOCK, PML_LEASE_READ), 0);
	CHECK_EQ(ask(old, 0, BLOCK, PML_LEASE_READ), 0);
	finish();
}

static void test_who_does_not_come_again_loses_its_place(void)
{
	start(NULL);
	uint64_t holder = session_new(), old = session_new(), young = session_new();
	must_acquire(holder, 0, BLOCK, PML_LEASE_READ);
	CHECK_EQ(ask(old, 0, BLOCK, PML_LEASE_WRITE), -EAGAIN);
	give_back(holder);
	now += PML_SEEK_FRESH_MS - 1;
	CHECK_EQ(ask(young, 0, BLOCK, PML_LEASE_WRITE), -EAGAIN);
	now += 1;
	CHECK_EQ(ask(young, 0, BLOCK, PML_LEASE_WRITE), 0);
	/* It comes back too late, and stands behind a third one that asked meanwhile. */
	uint64_t third = session_new();
	CHECK_EQ(ask(third, 0, BLOCK, PML_LEASE_WRITE), -EAGAIN);
	CHECK_EQ(ask(old, 0, BLOCK, PML_LEASE_WRITE), -EAGAIN);
	give_back(young);
	CHECK_EQ(ask(old, 0, BLOCK, PML_LEASE_WRITE), -EAGAIN);
	CHECK_EQ(ask(third, 0, BLOCK, PML_LEASE_WRITE), 0);
	finish();
}

static void test_a_stale_place_is_not_taken_up_again(void)
{
	start(NULL);
	uint64_t holder = session_new(), old = session_new(), young = session_new();
	must_acquire(holder, 0, BLOCK, PML_LEASE_READ);
	CHECK_EQ(ask(old, 0, BLOCK, PML_LEASE_WRITE), -EAGAIN);
	now += PML_SEEK_FRESH_MS - 1;
	CHECK_EQ(ask(young, 0, BLOCK, PML_LEASE_WRITE), -EAGAIN);
	now += 1;
	CHECK_EQ(ask(old, 0, BLOCK, PML_LEASE_WRITE), -EAGAIN);
	give_back(holder);
	CHECK_EQ(ask(old, 0, BLOCK, PML_LEASE_WRITE), -EAGAIN);
	CHECK_EQ(ask(young, 0, BLOCK, PML_LEASE_WRITE), 0);
	finish();
}

static void test_a_session_has_one_place_and_another_request_gives_it_up(void)
{
	start(NULL);
	uint64_t holder = session_new(), old = session_new(), young = session_new();
	must_acquire(holder, 0, BLOCK, PML_LEASE_READ);
	/* Another refusal, a grant and another error: each ends the place. */
	for (int i = 0; i < 3; i++) {
		CHECK_EQ(ask(old, 0, BLOCK, PML_LEASE_WRITE), -EAGAIN);
		CHECK_EQ(ask(young, 0, BLOCK, PML_LEASE_WRITE), -EAGAIN);
		if (i == 0)
			CHECK_EQ(ask(old, 0, 2 * BLOCK, PML_LEASE_WRITE), -EAGAIN);
		else if (i == 1)
			CHECK_EQ(ask(old, 8 * BLOCK, 9 * BLOCK, PML_LEASE_READ), 0);
		else
			CHECK_EQ(ask(old, 8 * BLOCK, 9 * BLOCK, PML_LEASE_WRITE), -EDEADLK);
		give_back(holder);
		CHECK_EQ(ask(young, 0, BLOCK, PML_LEASE_WRITE), 0);
		give_back(young);
		now += PML_SEEK_FRESH_MS;
		must_acquire(holder, 0, BLOCK, PML_LEASE_READ);
	}
	finish();
}

static void test_the_place_of_a_dead_session_goes(void)
{
	for (int is_ended = 0; is_ended < 2; is_ended++) {
		start(NULL);
		uint64_t old = session_new();
		now += 4500;
		uint64_t holder = session_new(), young = session_new();
		must_acquire(holder, 0, BLOCK, PML_LEASE_READ);
		CHECK_EQ(ask(old, 0, BLOCK, PML_LEASE_WRITE), -EAGAIN);
		give_back(holder);
		CHECK_EQ(ask(young, 0, BLOCK, PML_LEASE_WRITE), -EAGAIN);
		if (is_ended)
			pml_table_session_end(&tab, old, PML_END_SESSION, now);
		else
			pass(500); /* its term */
		CHECK_EQ(ask(young, 0, BLOCK, PML_LEASE_WRITE), 0);
		finish();
	}
}

/* A downgrade does not stand in line, and whoever does keeps its place meanwhile. */
static void test_a_downgrade_is_no_younger_request(void)
{
	start(NULL);
	uint64_t holder = session_new(), old = session_new();
	struct pml_lease *held = must_acquire(holder, 0, BLOCK, PML_LEASE_WRITE);
	CHECK_EQ(ask(old, 0, BLOCK, PML_LEASE_WRITE), -EAGAIN);
	struct pml_lease *lease = new_lease(holder, 0, BLOCK, PML_LEASE_READ);
	CHECK_EQ(pml_table_insert_beside(&tab, lease, held, now), 0);
	pin(lease, 1);
	CHECK_EQ(pml_table_granted(&tab, lease, now), 0);
	CHECK_EQ(pml_table_return(&tab, holder, held->id, now), 0);
	run_fences();
	CHECK_EQ(ask(old, 0, BLOCK, PML_LEASE_WRITE), -EAGAIN);
	CHECK_EQ(lease->state, PML_LEASE_RECALLING);
	give_back(holder);
	CHECK_EQ(ask(old, 0, BLOCK, PML_LEASE_WRITE), 0);
	finish();
}

/* ---- the bound ------------------------------------------------------------ */

static void no_death(struct pml_lease_config *config)
{
	config->term_ms = 1u << 30;
}

/* Greedy sessions that hold, never return and ask again at once; one that asks in turn. */
static void press(const uint64_t *greedy, size_t n)
{
	for (size_t i = 0; i < n; i++)
		(void)ask(greedy[i], 0, 4 * BLOCK, i % 2 ? PML_LEASE_READ : PML_LEASE_WRITE);
}

/* Repeated breaks: one that waits, runs, ends and begins again. */
static void break_again(struct pml_waiter *w, uint64_t *count)
{
	if (w->is_parked)
		return;
	collect();
	if (admit(PML_OP_PUNCH, 0, 4 * BLOCK, w) == -EINPROGRESS)
		return;
	(*count)++;
	pml_table_done(&tab, w, now);
	*w = waiter(0);
}

static void test_the_wait_of_a_request_is_bounded_under_breaks_and_younger_requests(void)
{
	start(no_death);
	uint64_t greedy[3], rounds = 0, breaks = 0, longest_ms = 0;
	for (size_t i = 0; i < 3; i++)
		greedy[i] = session_new();
	uint64_t innocent = session_new();
	struct pml_waiter w = waiter(0);
	uint64_t asked_ms = now;
	for (uint64_t end = now + 200000; now < end; pass(RETRY_MS / 4)) {
		press(greedy, 3);
		run_fences();
		press(greedy, 3);
		if (now / RETRY_MS % 8 == 0)
			break_again(&w, &breaks);
		press(greedy, 3);
		nseen = 0;
		if (now % RETRY_MS)
			continue;
		if (ask(innocent, BLOCK, 2 * BLOCK, PML_LEASE_WRITE) == 0) {
			rounds++;
			longest_ms = PML_MAX(longest_ms, now - asked_ms);
			give_back(innocent);
			asked_ms = now + RETRY_MS;
		}
		press(greedy, 3);
	}
	/*
	 * Three older requests may be before it; each is granted, recalled (nobody acknowledges:
	 * 100 ms) and fenced, and a break may stand before each.
	 */
	printf("# %llu grants, %llu breaks, longest wait %llu ms\n", (unsigned long long)rounds,
	       (unsigned long long)breaks, (unsigned long long)longest_ms);
	CHECK(rounds > 50 && breaks > 50);
	CHECK(longest_ms <= (3 + 1) * 2 * (100 + RETRY_MS + 8 * RETRY_MS));
	while (w.is_parked) {
		pass(100);
		run_fences();
	}
	pml_table_done(&tab, &w, now);
	finish();
}

int main(void)
{
	TAP_RUN(test_a_younger_request_waits_for_an_older_one);
	TAP_RUN(test_requests_that_may_coexist_do_not_wait_for_each_other);
	TAP_RUN(test_who_does_not_come_again_loses_its_place);
	TAP_RUN(test_a_stale_place_is_not_taken_up_again);
	TAP_RUN(test_a_session_has_one_place_and_another_request_gives_it_up);
	TAP_RUN(test_the_place_of_a_dead_session_goes);
	TAP_RUN(test_a_downgrade_is_no_younger_request);
	TAP_RUN(test_the_wait_of_a_request_is_bounded_under_breaks_and_younger_requests);
	return tap_done();
}
