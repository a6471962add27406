/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_lease_kinds.c -- shared and unbreakable leases, downgrade, orphans, courtesy, and
 *                       configurations that change under all of them
 */
#include "../support/lease_table_fixture.h"

/* ---- shared --------------------------------------------------------------- */

static int ask(uint64_t session, enum pml_lease_mode mode, bool shared)
{
	is_shared = shared;
	int err = acquire(session, 0, BLOCK, mode, NULL);
	is_shared = false;
	return err;
}

static void test_shared_leases_stand_side_by_side_and_exclude_all_others(void)
{
	start(NULL);
	uint64_t a = session_new(), b = session_new(), c = session_new();
	CHECK_EQ(ask(a, PML_LEASE_WRITE, true), 0);
	CHECK_EQ(ask(b, PML_LEASE_WRITE, true), 0);
	CHECK_EQ(ask(b, PML_LEASE_READ, true), 0);
	CHECK_EQ(ask(a, PML_LEASE_WRITE, true), 0);
	CHECK_EQ(count_seen(PML_ACTION_RECALL), 0);
	CHECK_EQ(ask(a, PML_LEASE_READ, false), -EDEADLK);
	CHECK_EQ(ask(c, PML_LEASE_READ, false), -EAGAIN);
	CHECK_EQ(count_seen(PML_ACTION_RECALL), 4);
	finish();
}

/* I4: a writer that comes later would move its blocks. */
static void test_a_shared_reader_keeps_plain_readers_away(void)
{
	start(NULL);
	uint64_t a = session_new(), b = session_new();
	CHECK_EQ(ask(a, PML_LEASE_READ, true), 0);
	CHECK_EQ(ask(b, PML_LEASE_READ, false), -EAGAIN);
	finish();
	start(NULL);
	a = session_new();
	b = session_new();
	CHECK_EQ(ask(a, PML_LEASE_READ, false), 0);
	CHECK_EQ(ask(b, PML_LEASE_READ, true), -EAGAIN);
	finish();
}

static void test_I5_a_clone_of_the_source_meets_shared_readers_too(void)
{
	start(NULL);
	uint64_t a = session_new();
	struct pml_layout_change change = change_of(PML_OP_CLONE_SRC, 0, BLOCK);
	change.writers_only = true;
	CHECK_EQ(ask(a, PML_LEASE_READ, true), 0);
	CHECK_EQ(pml_table_admit(&tab, &change, NULL, now), -EBUSY);
	finish();
	start(NULL);
	CHECK_EQ(ask(session_new(), PML_LEASE_READ, false), 0);
	CHECK_EQ(pml_table_admit(&tab, &change, NULL, now), 0);
	finish();
}

static void test_a_break_ends_all_shared_leases_in_its_way(void)
{
	start(NULL);
	is_shared = true;
	uint64_t s[3];
	struct pml_lease *lease[3];
	for (int i = 0; i < 3; i++) {
		s[i] = session_new();
		lease[i] = must_acquire(s[i], 0, BLOCK, i ? PML_LEASE_WRITE : PML_LEASE_READ);
	}
	struct pml_waiter w = waiter(0);
	CHECK_EQ(admit(PML_OP_PUNCH, 0, BLOCK, &w), -EINPROGRESS);
	CHECK_EQ(acquire(s[0], 0, BLOCK, PML_LEASE_WRITE, NULL), -EAGAIN); /* held back */
	for (int i = 0; i < 3; i++) {
		CHECK(w.is_parked);
		CHECK_EQ(pml_table_return(&tab, s[i], lease[i]->id, now), 0);
		run_fences();
	}
	CHECK_EQ(count_seen(PML_ACTION_RESUME), 1);
	CHECK_EQ(admit(PML_OP_PUNCH, 0, BLOCK, &w), 0);
	pml_table_done(&tab, &w, now);
	finish();
}

/* ---- unbreakable ---------------------------------------------------------- */

static void allow_unbreakable(struct pml_lease_config *config)
{
	config->max_unbreakable_bytes = 1u << 20;
	config->orphan_grace_ms = 100;
	config->term_ms = 1u << 30;
}

static struct pml_lease *unbreakable(uint64_t session, enum pml_lease_mode mode)
{
	is_unbreakable = true;
	struct pml_lease *lease = must_acquire(session, 0, BLOCK, mode);
	is_unbreakable = false;
	return lease;
}

static void test_what_meets_an_unbreakable_lease_fails_at_once_under_each_policy(void)
{
	static const enum pml_policy policies[] = {PML_POLICY_REVOKE, PML_POLICY_EBUSY,
						   PML_POLICY_BLOCK};
	for (size_t i = 0; i < PML_ARRAY_LEN(policies); i++) {
		start(allow_unbreakable);
		tab.config.policy[PML_OP_PUNCH] = policies[i];
		tab.config.lease_policy = policies[i];
		tab.config.ebusy_recalls = true;
		uint64_t s = session_new(), other = session_new();
		struct pml_lease *held = unbreakable(s, PML_LEASE_READ);
		struct pml_lease *beside = must_acquire(other, 0, BLOCK, PML_LEASE_READ);
		struct pml_waiter w = waiter(0), own = waiter(s);
		CHECK_EQ(admit(PML_OP_PUNCH, 0, BLOCK, &w), -EBUSY);
		CHECK_EQ(admit(PML_OP_PUNCH, 0, BLOCK, &own), -EDEADLK);
		CHECK(!w.is_queued && !own.is_queued);
		CHECK_EQ(acquire(session_new(), 0, BLOCK, PML_LEASE_WRITE, NULL), -EBUSY);
		CHECK_EQ(acquire(s, 0, BLOCK, PML_LEASE_WRITE, NULL), -EDEADLK);
		/* Nobody was asked to give back what would have been no use. */
		CHECK_EQ(beside->state, PML_LEASE_GRANTED);
		CHECK_EQ(held->state, PML_LEASE_GRANTED);
		CHECK_EQ(count_seen(PML_ACTION_RECALL), 0);
		finish();
	}
}

static void test_an_unbreakable_lease_is_awaited_once_it_ends(void)
{
	start(allow_unbreakable);
	uint64_t s = session_new(), other = session_new();
	struct pml_lease *held = unbreakable(s, PML_LEASE_WRITE);
	CHECK_EQ(pml_table_return(&tab, s, held->id, now), 0);
	struct pml_waiter w = waiter(0);
	CHECK_EQ(acquire(other, 0, BLOCK, PML_LEASE_WRITE, NULL), -EAGAIN);
	CHECK_EQ(admit(PML_OP_PUNCH, 0, BLOCK, &w), -EINPROGRESS);
	run_fences();
	CHECK_EQ(admit(PML_OP_PUNCH, 0, BLOCK, &w), 0);
	pml_table_done(&tab, &w, now);
	finish();
}

static void test_no_unbreakable_lease_overtakes_a_queued_operation(void)
{
	start(allow_unbreakable);
	uint64_t s = session_new(), other = session_new();
	must_acquire(s, 0, BLOCK, PML_LEASE_READ);
	struct pml_waiter w = waiter(0);
	CHECK_EQ(admit(PML_OP_PUNCH, 0, BLOCK, &w), -EINPROGRESS);
	is_unbreakable = true;
	CHECK_EQ(acquire(other, 0, BLOCK, PML_LEASE_READ, NULL), -EAGAIN);
	is_unbreakable = false;
	pml_table_cancel(&tab, &w);
	collect();
	pml_table_done(&tab, &w, now);
	finish();
}

static void test_an_unbreakable_lease_ends_with_its_session(void)
{
	start(allow_unbreakable);
	tab.config.term_ms = 5000;
	uint64_t s = session_new();
	struct pml_lease *held = unbreakable(s, PML_LEASE_READ);
	pass(5000);
	CHECK_EQ(held->why, PML_END_EXPIRED);
	run_fences();
	CHECK_EQ(tab.stats.leases, 0);
	finish();
}

/* ---- downgrade ------------------------------------------------------------ */

static int downgrade(const struct pml_lease *held, struct pml_lease **ret_lease)
{
	struct pml_lease *lease = new_lease(held->claim.session, held->claim.first_byte,
					    held->claim.end_byte, PML_LEASE_READ);
	lease->claim.is_shared = held->claim.is_shared;
	lease->claim.is_unbreakable = held->claim.is_unbreakable;
	int err = pml_table_insert_beside(&tab, lease, held, now);
	if (err)
		free(lease);
	else
		*ret_lease = lease;
	return err;
}

static void test_a_downgrade_leaves_no_gap_for_a_change(void)
{
	start(NULL);
	uint64_t s = session_new(), other = session_new();
	struct pml_lease *held = must_acquire(s, 0, BLOCK, PML_LEASE_WRITE), *lease = NULL;
	REQUIRE(downgrade(held, &lease) == 0);
	CHECK_EQ(admit(PML_OP_PUNCH, 0, BLOCK, NULL), -EBUSY);
	pin(lease, 1);
	CHECK_EQ(pml_table_granted(&tab, lease, now), 0);
	CHECK_EQ(pml_table_return(&tab, s, held->id, now), 0);
	run_fences();
	CHECK_EQ(admit(PML_OP_PUNCH, 0, BLOCK, NULL), -EBUSY);
	CHECK_EQ(acquire(other, 0, BLOCK, PML_LEASE_READ, NULL), 0);
	finish();
}

static void test_a_downgrade_gives_way_to_an_operation_that_waits(void)
{
	start(NULL);
	uint64_t s = session_new();
	struct pml_lease *held = must_acquire(s, 0, BLOCK, PML_LEASE_WRITE), *lease = NULL;
	struct pml_waiter w = waiter(0);
	CHECK_EQ(admit(PML_OP_PUNCH, 0, BLOCK, &w), -EINPROGRESS);
	CHECK_EQ(downgrade(held, &lease), -EAGAIN);
	CHECK_EQ(held->state, PML_LEASE_RECALLING);
	pml_table_cancel(&tab, &w);
	collect();
	pml_table_done(&tab, &w, now);

	/* One that meets writers only is not held up by a reader. */
	struct pml_layout_change change = change_of(PML_OP_CLONE_SRC, 0, BLOCK);
	change.writers_only = true;
	w = waiter(0);
	CHECK_EQ(pml_table_admit(&tab, &change, &w, now), -EINPROGRESS);
	REQUIRE(downgrade(held, &lease) == 0);
	pin(lease, 1);
	CHECK_EQ(pml_table_granted(&tab, lease, now), 0);
	CHECK_EQ(pml_table_return(&tab, s, held->id, now), 0);
	run_fences();
	CHECK_EQ(pml_table_admit(&tab, &change, &w, now), 0);
	pml_table_done(&tab, &w, now);
	finish();
}

static void one_lease(struct pml_lease_config *config)
{
	config->max_session_leases = 1;
}

static void test_a_downgrade_needs_room_for_both_leases(void)
{
	start(one_lease);
	uint64_t s = session_new();
	struct pml_lease *held = must_acquire(s, 0, BLOCK, PML_LEASE_WRITE), *lease = NULL;
	CHECK_EQ(downgrade(held, &lease), -EDQUOT);
	CHECK_EQ(held->state, PML_LEASE_GRANTED);
	finish();
}

/* ---- orphans -------------------------------------------------------------- */

static void short_grace(struct pml_lease_config *config)
{
	config->orphan_grace_ms = 300;
	config->term_ms = 1u << 30;
	config->max_unbreakable_bytes = 1u << 20;
}

static void test_leases_of_a_file_without_names_are_recalled_after_its_grace(void)
{
	start(short_grace);
	uint64_t s = session_new();
	struct pml_lease *lease = must_acquire(s, 0, BLOCK, PML_LEASE_READ);
	pml_table_orphaned(&tab, INO, now);
	pass(200);
	pml_table_orphaned(&tab, INO, now); /* gives no more time */
	CHECK(lease->is_orphan);
	CHECK_EQ(pml_table_next_due_ms(&tab), now + 100);
	pass(99);
	CHECK_EQ(lease->state, PML_LEASE_GRANTED);
	pass(1);
	CHECK_EQ(lease->state, PML_LEASE_RECALLING);
	CHECK_EQ(last_seen(PML_ACTION_RECALL)->op, PML_RECALL_ORPHAN);
	CHECK_EQ(last_seen(PML_ACTION_RECALL)->drain_ms, 1000);
	CHECK_EQ(tab.stats.orphans_recalled, 1);
	pass(100);
	CHECK_EQ(lease->why, PML_END_SILENT);
	run_fences();
	finish();
}

static void no_grace(struct pml_lease_config *config)
{
	short_grace(config);
	config->orphan_grace_ms = 0;
}

static void test_some_leases_of_a_file_without_names_stay(void)
{
	start(no_grace); /* 0: for ever */
	struct pml_lease *lease = must_acquire(session_new(), 0, BLOCK, PML_LEASE_READ);
	pml_table_orphaned(&tab, INO, now);
	pass(100000);
	CHECK(lease->is_orphan);
	CHECK_EQ(lease->state, PML_LEASE_GRANTED);
	finish();

	start(short_grace);
	struct pml_lease *held = unbreakable(session_new(), PML_LEASE_READ);
	pml_table_orphaned(&tab, INO + 1, now);
	CHECK(!held->is_orphan);
	pml_table_orphaned(&tab, INO, now);
	pass(100000);
	CHECK(held->is_orphan);
	CHECK_EQ(held->state, PML_LEASE_GRANTED);
	CHECK_EQ(tab.stats.orphans_recalled, 0);
	finish();
}

static void test_an_orphans_lease_may_end_before_and_while_it_is_granted(void)
{
	start(short_grace);
	uint64_t s = session_new();
	struct pml_lease *lease = must_acquire(s, 0, BLOCK, PML_LEASE_READ);
	int err;
	struct pml_lease *granting = insert(s, 0, BLOCK, PML_LEASE_READ, &err);
	struct pml_lease *failing = insert(s, 0, BLOCK, PML_LEASE_READ, &err);
	pml_table_orphaned(&tab, INO, now);
	CHECK_EQ(pml_table_return(&tab, s, lease->id, now), 0);
	pml_table_grant_failed(&tab, failing, now);
	run_fences();
	pass(300);
	CHECK_EQ(count_seen(PML_ACTION_RECALL), 0);
	pin(granting, 1);
	CHECK_EQ(pml_table_granted(&tab, granting, now), 0);
	CHECK_EQ(granting->state, PML_LEASE_RECALLING);
	CHECK_EQ(last_seen(PML_ACTION_RECALL)->op, PML_RECALL_ORPHAN);
	finish();
}

/* No clock of a lease may run when it is gone. */
static void test_a_file_may_lose_its_name_while_its_leases_are_fenced(void)
{
	start(short_grace);
	uint64_t s = session_new();
	struct pml_lease *lease = must_acquire(s, 0, BLOCK, PML_LEASE_READ);
	CHECK_EQ(pml_table_return(&tab, s, lease->id, now), 0);
	pml_table_orphaned(&tab, INO, now);
	CHECK(lease->is_orphan);
	CHECK(pml_list_is_empty(&tab.orphans));
	run_fences();
	pass(300);
	CHECK_EQ(tab.stats.orphans_recalled, 0);
	finish();
}

/* ---- courtesy under ebusy -------------------------------------------------- */

static void courteous(struct pml_lease_config *config)
{
	for (int i = 0; i < PML_OP_COUNT; i++)
		config->policy[i] = PML_POLICY_EBUSY;
	config->lease_policy = PML_POLICY_EBUSY;
	config->ebusy_recalls = true;
	config->term_ms = 1u << 30;
}

static void test_courtesy_asks_the_holder_and_still_fails(void)
{
	for (int by_lease = 0; by_lease < 2; by_lease++) {
		start(courteous);
		uint64_t s = session_new(), other = session_new();
		struct pml_lease *lease = must_acquire(s, 0, BLOCK, PML_LEASE_READ);
		struct pml_waiter w = waiter(0);
		CHECK_EQ(admit(PML_OP_PUNCH, 0, BLOCK, NULL), -EBUSY); /* cannot come again */
		CHECK_EQ(lease->state, PML_LEASE_GRANTED);
		if (by_lease)
			CHECK_EQ(acquire(other, 0, BLOCK, PML_LEASE_WRITE, NULL), -EBUSY);
		else
			CHECK_EQ(admit(PML_OP_PUNCH, 0, BLOCK, &w), -EBUSY);
		CHECK(!w.is_queued);
		CHECK_EQ(lease->state, PML_LEASE_RECALLING);
		CHECK_EQ(count_seen(PML_ACTION_RECALL), 1);
		CHECK_EQ(last_seen(PML_ACTION_RECALL)->drain_ms, 0);
		pass(1000000); /* without clocks */
		CHECK_EQ(lease->state, PML_LEASE_RECALLING);
		CHECK_EQ(pml_table_return(&tab, s, lease->id, now), 0);
		run_fences();
		CHECK_EQ(admit(PML_OP_PUNCH, 0, BLOCK, &w), 0);
		finish();
	}
}

static void test_courtesy_spares_the_askers_own_lease(void)
{
	start(courteous);
	uint64_t s = session_new(), other = session_new();
	struct pml_lease *lease = must_acquire(s, 0, BLOCK, PML_LEASE_READ);
	struct pml_lease *own = must_acquire(other, 0, BLOCK, PML_LEASE_READ);
	struct pml_waiter w = waiter(other);
	CHECK_EQ(admit(PML_OP_PUNCH, 0, BLOCK, &w), -EBUSY);
	CHECK_EQ(lease->state, PML_LEASE_RECALLING);
	CHECK_EQ(own->state, PML_LEASE_GRANTED);
	finish();
}

/* ---- configurations that change -------------------------------------------- */

static void to_ebusy(struct pml_lease_config *config)
{
	config->policy[PML_OP_TRUNCATE] = PML_POLICY_EBUSY;
}

static void to_revoke(struct pml_lease_config *config)
{
	config->policy[PML_OP_TRUNCATE] = PML_POLICY_REVOKE;
}

static void test_operations_that_wait_ask_again_by_the_new_policies(void)
{
	start(block_all);
	uint64_t s = session_new();
	struct pml_lease *lease = must_acquire(s, 0, BLOCK, PML_LEASE_READ);
	struct pml_waiter w = waiter(0), other = waiter(0);
	CHECK_EQ(admit(PML_OP_TRUNCATE, 0, UINT64_MAX, &w), -EINPROGRESS);
	CHECK_EQ(admit(PML_OP_TRUNCATE, 0, UINT64_MAX, &other), -EINPROGRESS);
	CHECK_EQ(reconfigure(to_ebusy), 0);
	CHECK_EQ(count_seen(PML_ACTION_RESUME), 2);
	CHECK_EQ(admit(PML_OP_TRUNCATE, 0, UINT64_MAX, &w), -EBUSY);
	pml_table_done(&tab, &w, now);
	CHECK_EQ(reconfigure(to_revoke), 0); /* it has not asked yet: once is enough */
	CHECK_EQ(count_seen(PML_ACTION_RESUME), 2);
	CHECK_EQ(acquire(s, 0, BLOCK, PML_LEASE_READ, NULL), -EAGAIN); /* and keeps its place */
	CHECK_EQ(admit(PML_OP_TRUNCATE, 0, UINT64_MAX, &other), -EINPROGRESS);
	CHECK_EQ(last_seen(PML_ACTION_RECALL)->drain_ms, 1000);
	pass(100);
	CHECK_EQ(lease->why, PML_END_SILENT);
	run_fences();
	CHECK_EQ(admit(PML_OP_TRUNCATE, 0, UINT64_MAX, &other), 0);
	pml_table_done(&tab, &other, now);
	finish();
}

static void slower(struct pml_lease_config *config)
{
	config->ack_ms = 10000;
	config->drain_ms = 20000;
	config->term_ms = 30000;
}

static void test_clocks_that_run_and_what_was_told_stay(void)
{
	start(NULL);
	uint64_t s = session_new(), late = session_new();
	struct pml_lease *lease = must_acquire(s, 0, BLOCK, PML_LEASE_READ);
	struct pml_waiter w = waiter(0);
	CHECK_EQ(admit(PML_OP_PUNCH, 0, BLOCK, &w), -EINPROGRESS);
	CHECK_EQ(pml_table_ack(&tab, s, lease->id, now), 0);
	/* The message goes out afterwards and says what the clock will do. */
	CHECK_EQ(reconfigure(slower), 0);
	CHECK_EQ(count_seen(PML_ACTION_RECALL), 1);
	CHECK_EQ(last_seen(PML_ACTION_RECALL)->drain_ms, 1000);
	pass(1000);
	CHECK_EQ(lease->why, PML_END_CONFLICT);
	run_fences();
	pml_table_done(&tab, &w, now);

	uint64_t fresh = session_new();
	struct pml_lease *old = must_acquire(late, 0, BLOCK, PML_LEASE_READ);
	struct pml_lease *new = must_acquire(fresh, 0, BLOCK, PML_LEASE_READ);
	pass(4000);
	CHECK_EQ(old->why, PML_END_EXPIRED); /* the term that it was told */
	CHECK_EQ(new->state, PML_LEASE_GRANTED);
	finish();
}

static void quicker(struct pml_lease_config *config)
{
	config->ack_ms = 50;
	config->drain_ms = 60;
}

static void test_a_shorter_clock_runs_out_before_longer_ones_that_began_earlier(void)
{
	start(NULL);
	uint64_t s = session_new();
	struct pml_lease *first = must_acquire(s, 0, BLOCK, PML_LEASE_READ);
	struct pml_lease *second = must_acquire(s, 8 * BLOCK, 9 * BLOCK, PML_LEASE_READ);
	struct pml_waiter w1 = waiter(0), w2 = waiter(0);
	CHECK_EQ(admit(PML_OP_PUNCH, 0, BLOCK, &w1), -EINPROGRESS);
	CHECK_EQ(reconfigure(quicker), 0);
	collect();
	CHECK_EQ(admit(PML_OP_PUNCH, 0, BLOCK, &w1), -EINPROGRESS);
	CHECK_EQ(admit(PML_OP_PUNCH, 8 * BLOCK, 9 * BLOCK, &w2), -EINPROGRESS);
	pass(50);
	CHECK_EQ(second->state, PML_LEASE_FENCING);
	CHECK_EQ(first->state, PML_LEASE_RECALLING);
	pass(50);
	CHECK_EQ(first->state, PML_LEASE_FENCING);
	run_fences();
	pml_table_done(&tab, &w1, now);
	pml_table_done(&tab, &w2, now);
	finish();
}

int main(void)
{
	TAP_RUN(test_shared_leases_stand_side_by_side_and_exclude_all_others);
	TAP_RUN(test_a_shared_reader_keeps_plain_readers_away);
	TAP_RUN(test_I5_a_clone_of_the_source_meets_shared_readers_too);
	TAP_RUN(test_a_break_ends_all_shared_leases_in_its_way);
	TAP_RUN(test_what_meets_an_unbreakable_lease_fails_at_once_under_each_policy);
	TAP_RUN(test_an_unbreakable_lease_is_awaited_once_it_ends);
	TAP_RUN(test_no_unbreakable_lease_overtakes_a_queued_operation);
	TAP_RUN(test_an_unbreakable_lease_ends_with_its_session);
	TAP_RUN(test_a_downgrade_leaves_no_gap_for_a_change);
	TAP_RUN(test_a_downgrade_gives_way_to_an_operation_that_waits);
	TAP_RUN(test_a_downgrade_needs_room_for_both_leases);
	TAP_RUN(test_leases_of_a_file_without_names_are_recalled_after_its_grace);
	TAP_RUN(test_some_leases_of_a_file_without_names_stay);
	TAP_RUN(test_an_orphans_lease_may_end_before_and_while_it_is_granted);
	TAP_RUN(test_a_file_may_lose_its_name_while_its_leases_are_fenced);
	TAP_RUN(test_courtesy_asks_the_holder_and_still_fails);
	TAP_RUN(test_courtesy_spares_the_askers_own_lease);
	TAP_RUN(test_operations_that_wait_ask_again_by_the_new_policies);
	TAP_RUN(test_clocks_that_run_and_what_was_told_stay);
	TAP_RUN(test_a_shorter_clock_runs_out_before_longer_ones_that_began_earlier);
	return tap_done();
}
