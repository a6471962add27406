/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_lease_account.c -- limits: who may use how much, and that nobody takes another's share
 */
#include "../support/lease_table_fixture.h"

/* The refusals by @limit since the start of the table. */
static uint64_t refused(enum pml_limit limit)
{
	return tab.stats.refused[limit];
}

/* ---- each limit ----------------------------------------------------------- */

static void few_sessions(struct pml_lease_config *config)
{
	config->max_sessions = 8;
	config->max_client_sessions = 3;
	config->max_user_sessions = 2;
}

static void test_I9_sessions_are_limited_in_all_by_host_and_by_user(void)
{
	start(few_sessions);
	int err;
	CHECK(session_from("10.0.0.1:1", 5, &err) && session_from("10.0.0.1:2", 5, &err));
	CHECK(!session_from("10.0.0.2:1", 5, &err));
	CHECK_EQ(err, -EUSERS);
	CHECK_EQ(refused(PML_LIMIT_USER_SESSIONS), 1);
	/* Three of one host, whatever the port; root has no limit of its own. */
	CHECK(session_from("10.0.0.1:3", 0, &err));
	CHECK(!session_from("10.0.0.1:4", 0, &err));
	CHECK_EQ(err, -EUSERS);
	CHECK_EQ(refused(PML_LIMIT_CLIENT_SESSIONS), 1);
	for (int i = 0; i < 3; i++)
		CHECK(session_from("[fe80::1]:7", 0, &err));
	CHECK(!session_from("[fe80::1]:8", 0, &err));
	CHECK(session_from("10.0.0.3:1", 0, &err) && session_from("10.0.0.3:1", 0, &err));
	CHECK(!session_from("10.0.0.4:1", 0, &err));
	CHECK_EQ(err, -EUSERS);
	CHECK_EQ(refused(PML_LIMIT_SESSIONS), 1);

	/* A place is free again when the session has been released. */
	pml_table_session_end(&tab, 1, PML_END_SESSION, now);
	collect();
	CHECK(session_from("10.0.0.1:9", 5, &err));
	finish();
	CHECK_EQ(tab.accounts.nparties, 0);
}

static void eight_sessions(struct pml_lease_config *config)
{
	config->max_sessions = 8;
}

static void test_I9_one_host_leaves_a_quarter_of_the_sessions_to_others(void)
{
	start(eight_sessions);
	int err;
	for (int i = 0; i < 6; i++)
		CHECK(session_from("greedy:1", 0, &err));
	CHECK(!session_from("greedy:1", 0, &err));
	CHECK_EQ(err, -EUSERS);
	CHECK(session_from("innocent:1", 0, &err));
	finish();
}

static void few_of_a_user(struct pml_lease_config *config)
{
	config->max_user_leases = 2;
	config->max_user_segments = 5;
	config->max_user_pinned_bytes = 16 * BLOCK;
}

static void test_I9_the_sessions_of_a_user_are_limited_together(void)
{
	start(few_of_a_user);
	uint64_t a = session_of(5), b = session_of(5), other = session_of(6), root = session_new();
	must_acquire(a, 0, BLOCK, PML_LEASE_READ);
	CHECK_EQ(acquire(b, 0, 16 * BLOCK, PML_LEASE_READ, NULL), -EDQUOT);
	CHECK_EQ(refused(PML_LIMIT_USER_PINNED), 1);
	must_acquire(b, 0, BLOCK, PML_LEASE_READ);
	CHECK_EQ(acquire(b, 0, BLOCK, PML_LEASE_READ, NULL), -EDQUOT);
	CHECK_EQ(acquire(a, 0, BLOCK, PML_LEASE_READ, NULL), -EDQUOT);
	CHECK_EQ(refused(PML_LIMIT_USER_LEASES), 2);
	must_acquire(other, 0, BLOCK, PML_LEASE_READ);
	for (int i = 0; i < 8; i++)
		must_acquire(root, 0, 16 * BLOCK, PML_LEASE_READ);
	finish();
}

static void few_segments(struct pml_lease_config *config)
{
	config->max_session_segments = 5;
	config->max_user_segments = 7;
}

static void test_I9_a_lease_may_have_as_many_segments_as_are_left(void)
{
	start(few_segments);
	uint64_t a = session_of(5), b = session_of(5);
	int err;
	struct pml_lease *lease = insert(a, 0, 64 * BLOCK, PML_LEASE_READ, &err);
	REQUIRE(lease);
	CHECK_EQ(lease->max_segments, 5);
	CHECK_EQ(acquire(a, 0, BLOCK, PML_LEASE_READ, NULL), -EDQUOT);
	CHECK_EQ(refused(PML_LIMIT_SESSION_SEGMENTS), 1);
	pin(lease, 4);
	CHECK_EQ(pml_table_granted(&tab, lease, now), 0);
	/* What it did not use is there for the next ones. */
	struct pml_lease *next = insert(b, 0, 64 * BLOCK, PML_LEASE_READ, &err);
	REQUIRE(next);
	CHECK_EQ(next->max_segments, 3);
	pin(next, 3);
	CHECK_EQ(pml_table_granted(&tab, next, now), 0);
	CHECK_EQ(acquire(a, 0, BLOCK, PML_LEASE_READ, NULL), -EDQUOT);
	CHECK_EQ(refused(PML_LIMIT_USER_SEGMENTS), 1);
	CHECK_EQ(tab.accounts.total.segments, 7);
	finish();
}

static void few_waiters(struct pml_lease_config *config)
{
	config->max_waiters = 8;
	config->max_user_waiters = 0;
}

static void test_I9_a_user_leaves_a_quarter_of_the_waiting_places_to_others(void)
{
	start(few_waiters);
	uint64_t s = session_new();
	struct pml_lease *lease = must_acquire(s, 0, BLOCK, PML_LEASE_READ);
	struct pml_waiter w[10];
	for (int i = 0; i < 10; i++) {
		w[i] = waiter(0);
		w[i].uid = i < 7 ? 5 : 0;
	}
	for (int i = 0; i < 6; i++)
		CHECK_EQ(admit(PML_OP_PUNCH, 0, 1, &w[i]), -EINPROGRESS);
	CHECK_EQ(admit(PML_OP_PUNCH, 0, 1, &w[6]), -EAGAIN);
	CHECK_EQ(refused(PML_LIMIT_USER_WAITERS), 1);
	CHECK(!w[6].is_queued && !w[6].party);
	for (int i = 7; i < 9; i++)
		CHECK_EQ(admit(PML_OP_PUNCH, 0, 1, &w[i]), -EINPROGRESS);
	CHECK_EQ(admit(PML_OP_PUNCH, 0, 1, &w[9]), -EAGAIN);
	CHECK_EQ(refused(PML_LIMIT_WAITERS), 1);
	CHECK_EQ(pml_table_return(&tab, s, lease->id, now), 0);
	run_fences();
	for (int i = 0; i < 10; i++)
		pml_table_done(&tab, &w[i], now);
	finish();
	CHECK_EQ(tab.accounts.nparties, 0);
}

static void some_unbreakable(struct pml_lease_config *config)
{
	config->max_unbreakable_bytes = 4 * BLOCK;
}

static void test_I9_unbreakable_bytes_are_limited_and_given_back(void)
{
	start(NULL);
	uint64_t s = session_new();
	is_unbreakable = true;
	CHECK_EQ(acquire(s, 0, BLOCK, PML_LEASE_READ, NULL), -EPERM);
	CHECK_EQ(refused(PML_LIMIT_UNBREAKABLE), 1);
	is_unbreakable = false;
	finish();

	start(some_unbreakable);
	s = session_new();
	is_unbreakable = true;
	/* By whole blocks, and by what was pinned in the end. */
	CHECK_EQ(acquire(s, 4095, 4 * BLOCK + 1, PML_LEASE_READ, NULL), -EUSERS);
	struct pml_lease *lease = must_acquire(s, 0, 4 * BLOCK, PML_LEASE_READ);
	CHECK_EQ(tab.accounts.unbreakable_bytes, 2 * BLOCK);
	must_acquire(s, 0, 2 * BLOCK, PML_LEASE_READ);
	CHECK_EQ(acquire(s, 0, 1, PML_LEASE_READ, NULL), -EUSERS);
	CHECK_EQ(pml_table_return(&tab, s, lease->id, now), 0);
	run_fences();
	must_acquire(s, 0, 2 * BLOCK, PML_LEASE_READ);
	is_unbreakable = false;
	must_acquire(s, 0, 64 * BLOCK, PML_LEASE_READ);
	finish();
}

/* ---- fair shares ---------------------------------------------------------- */

static void tight(struct pml_lease_config *config)
{
	config->max_sessions = config->max_client_sessions = 4;
	config->max_leases = 160;
	config->max_session_leases = 1000;
	config->max_segments = 320;
	config->max_session_segments = 1000;
	config->max_pinned_bytes = 320 * BLOCK;
	config->max_session_pinned_bytes = 1000 * BLOCK;
}

/* Takes leases of @blocks blocks (in two segments) until it is refused; returns how many. */
static unsigned int take_all(uint64_t session, uint64_t blocks, int *ret_err)
{
	unsigned int count = 0;
	while ((*ret_err = acquire(session, 0, blocks * BLOCK, PML_LEASE_READ, NULL)) == 0)
		count++;
	return count;
}

static void more_leases(struct pml_lease_config *config)
{
	tight(config);
	config->max_segments = config->max_session_segments = 1u << 20;
}

static void test_I9_who_takes_all_it_can_leaves_each_other_its_share_of_leases(void)
{
	start(more_leases);
	int err;
	uint64_t greedy = session_new();
	/* Three quarters for whoever comes, and its own share of the rest: a sixteenth. */
	CHECK_EQ(take_all(greedy, 1, &err), 160 * 3 / 4 + 10);
	CHECK_EQ(err, -EUSERS);
	CHECK_EQ(refused(PML_LIMIT_LEASES), 1);
	for (int i = 0; i < 3; i++) {
		CHECK_EQ(take_all(session_new(), 1, &err), 10);
		CHECK_EQ(err, -EUSERS);
	}
	CHECK_EQ(tab.stats.leases, 160);
	finish();
}

static void more_but_bytes(struct pml_lease_config *config)
{
	more_leases(config);
	config->max_leases = config->max_session_leases = 100000;
	config->max_pinned_bytes = 160 * BLOCK;
}

static void test_I9_who_takes_all_it_can_leaves_each_other_its_share_of_bytes(void)
{
	start(more_but_bytes);
	int err;
	/* What the fixture pins are two blocks. */
	CHECK_EQ(take_all(session_new(), 2, &err), (160 * 3 / 4 + 10) / 2);
	CHECK_EQ(err, -EUSERS);
	CHECK_EQ(refused(PML_LIMIT_PINNED), 1);
	CHECK_EQ(take_all(session_new(), 2, &err), 5);
	CHECK_EQ(err, -EUSERS);
	finish();
}

static void more_but_segments(struct pml_lease_config *config)
{
	more_but_bytes(config);
	config->max_pinned_bytes = 1ull << 30;
	config->max_session_pinned_bytes = 1ull << 30;
	config->max_segments = 160;
}

static void test_I9_who_takes_all_it_can_leaves_each_other_its_share_of_segments(void)
{
	start(more_but_segments);
	int err;
	CHECK_EQ(take_all(session_new(), 1, &err), (160 * 3 / 4 + 10) / 2);
	CHECK_EQ(err, -EUSERS);
	CHECK_EQ(refused(PML_LIMIT_SEGMENTS), 1);
	uint64_t innocent = session_new();
	int insert_err;
	struct pml_lease *lease = insert(innocent, 0, 64 * BLOCK, PML_LEASE_READ, &insert_err);
	REQUIRE(lease);
	CHECK_EQ(lease->max_segments, 10);
	pin(lease, 10);
	CHECK_EQ(pml_table_granted(&tab, lease, now), 0);
	CHECK_EQ(acquire(innocent, 0, BLOCK, PML_LEASE_READ, NULL), -EUSERS);
	finish();
}

/* ---- when limits change --------------------------------------------------- */

static void halve(struct pml_lease_config *config)
{
	config->max_leases /= 2;
}

static void test_what_is_above_a_lowered_limit_stays_and_grows_by_shares_only(void)
{
	start(more_leases);
	int err;
	uint64_t greedy = session_new(), innocent = session_new();
	unsigned int taken = take_all(greedy, 1, &err);
	CHECK_EQ(reconfigure(halve), 0);
	CHECK_EQ(tab.stats.leases, taken);
	CHECK_EQ(take_all(greedy, 1, &err), 0);
	CHECK_EQ(err, -EUSERS);
	CHECK_EQ(take_all(innocent, 1, &err), 5);
	finish();
}

static void one_session(struct pml_lease_config *config)
{
	config->max_sessions = 1;
}

/* The shares of sessions that are there already are not added to each other. */
static void test_I9_fewer_sessions_than_there_are_do_not_share_out_more(void)
{
	start(more_leases);
	uint64_t s[4];
	int err;
	for (int i = 0; i < 4; i++)
		s[i] = session_new();
	CHECK_EQ(reconfigure(one_session), 0);
	CHECK(!session_from("", 0, &err));
	for (int i = 0; i < 4; i++)
		(void)take_all(s[i], 1, &err);
	CHECK_EQ(tab.stats.leases, 160);
	finish();
}

static void no_leases(struct pml_lease_config *config)
{
	config->max_leases = 0;
}

static void test_a_bad_configuration_is_refused_and_changes_nothing(void)
{
	start(NULL);
	struct pml_lease_config before = tab.config;
	CHECK_EQ(reconfigure(no_leases), -EINVAL);
	CHECK(memcmp(&before, &tab.config, sizeof(before)) == 0);
	finish();
}

/* ---- random sequences ----------------------------------------------------- */

static uint64_t seed;

static uint64_t random_below(uint64_t n)
{
	seed = seed * 6364136223846793005ull + 1442695040888963407ull;
	return (seed >> 33) % n;
}

static void any_limits(struct pml_lease_config *config)
{
	config->max_sessions = (uint32_t)(2 + random_below(8));
	config->max_leases = (uint32_t)(1 + random_below(120));
	config->max_session_leases = (uint32_t)(1 + random_below(80));
	config->max_user_leases = (uint32_t)random_below(80);
	config->max_segments = (uint32_t)(1 + random_below(400));
	config->max_pinned_bytes = (1 + random_below(300)) * BLOCK;
	config->max_session_pinned_bytes = (1 + random_below(300)) * BLOCK;
	config->max_unbreakable_bytes = random_below(60) * BLOCK;
	config->term_ms = 1u << 30;
}

static uint64_t above(uint64_t used, uint64_t share)
{
	return used > share ? used - share : 0;
}

static void add_usage(struct pml_usage *sum, const struct pml_lease *lease)
{
	sum->leases++;
	sum->segments += lease->max_segments;
	sum->pinned_bytes += lease->pinned_bytes;
}

static void check_same(const struct pml_usage *got, const struct pml_usage *want)
{
	CHECK_EQ(got->leases, want->leases);
	CHECK_EQ(got->segments, want->segments);
	CHECK_EQ(got->pinned_bytes, want->pinned_bytes);
}

/* All that is charged, counted again from the leases. */
static void check_sums(void)
{
	const struct pml_usage share = pml_accounts_share(&tab.accounts);
	struct pml_usage total = {0}, excess = {0};
	uint64_t unbreakable = 0;
	const struct pml_lease *lease;
	pml_list_for_each(lease, &tab.leases, all) {
		add_usage(&total, lease);
		if (lease->claim.is_unbreakable)
			unbreakable += lease->pinned_bytes;
	}
	for (size_t i = 0; i < PML_TABLE_SESSION_BUCKETS; i++) {
		const struct pml_lease_session *session;
		pml_list_for_each(session, &tab.session_buckets[i], by_id) {
			struct pml_usage own = {0};
			pml_list_for_each(lease, &session->leases, of_session)
				add_usage(&own, lease);
			check_same(&session->usage, &own);
			excess.leases += above(own.leases, share.leases);
			excess.segments += above(own.segments, share.segments);
			excess.pinned_bytes += above(own.pinned_bytes, share.pinned_bytes);
		}
	}
	check_same(&tab.accounts.total, &total);
	check_same(&tab.accounts.excess, &excess);
	CHECK_EQ(tab.accounts.unbreakable_bytes, unbreakable);
	const struct pml_party *party;
	pml_list_for_each(party, &tab.accounts.parties, link) {
		struct pml_usage own = {0};
		pml_list_for_each(lease, &tab.leases, all)
			if (!party->is_host && lease->session->user == party)
				add_usage(&own, lease);
		check_same(&party->usage, &own);
	}
}

static uint64_t any_session(void)
{
	return 1 + random_below(tab.last_session_id + 1);
}

static void return_any(void)
{
	uint64_t id = 1 + random_below(tab.last_lease_id + 1);
	const struct pml_lease *lease = pml_table_find(&tab, id);
	if (!lease)
		return;
	int err = pml_table_return(&tab, lease->claim.session, id, now);
	CHECK(err == 0 || err == -ESTALE);
}

static void random_step(void)
{
	int err;
	is_unbreakable = random_below(4) == 0;
	switch (random_below(8)) {
	case 0:
		(void)session_from(random_below(2) ? "a:1" : "b:1", (uint32_t)random_below(3),
				   &err);
		break;
	case 1:
		if (random_below(4) == 0)
			pml_table_session_end(&tab, any_session(), PML_END_SESSION, now);
		break;
	case 2:
		if (random_below(4) == 0)
			CHECK_EQ(reconfigure(any_limits), 0);
		break;
	case 3:
		run_fences();
		break;
	case 4:
		return_any();
		break;
	default:
		(void)acquire(any_session(), 0, (2 + random_below(8)) * BLOCK, PML_LEASE_READ,
			      NULL);
	}
	collect();
	nseen = 0;
}

static void test_random_charges_add_up_also_when_limits_change(void)
{
	const char *env = getenv("PML_SEED");
	seed = env ? strtoull(env, NULL, 0) : 20240607u;
	printf("# PML_SEED=%llu\n", (unsigned long long)seed);
	uint64_t refused_steps = 0;
	for (int round = 0; round < 30 && !atomic_load(&tap_bad); round++) {
		start(any_limits);
		for (int step = 0; step < 400; step++) {
			random_step();
			check_sums();
		}
		refused_steps += tab.stats.refused_limit;
		finish();
	}
	CHECK(refused_steps > 1000);
}

int main(void)
{
	TAP_RUN(test_I9_sessions_are_limited_in_all_by_host_and_by_user);
	TAP_RUN(test_I9_one_host_leaves_a_quarter_of_the_sessions_to_others);
	TAP_RUN(test_I9_the_sessions_of_a_user_are_limited_together);
	TAP_RUN(test_I9_a_lease_may_have_as_many_segments_as_are_left);
	TAP_RUN(test_I9_a_user_leaves_a_quarter_of_the_waiting_places_to_others);
	TAP_RUN(test_I9_unbreakable_bytes_are_limited_and_given_back);
	TAP_RUN(test_I9_who_takes_all_it_can_leaves_each_other_its_share_of_leases);
	TAP_RUN(test_I9_who_takes_all_it_can_leaves_each_other_its_share_of_bytes);
	TAP_RUN(test_I9_who_takes_all_it_can_leaves_each_other_its_share_of_segments);
	TAP_RUN(test_what_is_above_a_lowered_limit_stays_and_grows_by_shares_only);
	TAP_RUN(test_I9_fewer_sessions_than_there_are_do_not_share_out_more);
	TAP_RUN(test_a_bad_configuration_is_refused_and_changes_nothing);
	TAP_RUN(test_random_charges_add_up_also_when_limits_change);
	return tap_done();
}
