/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_lease_rules.c -- lease/rules.c and lease/interval.c against brute force
 */
#include <stdint.h>

#include "../../lease/interval.h"
#include "../../lease/rules.h"
#include "../tap.h"

/* Small ranges whose ends fall on, before and behind block boundaries. */
static const uint64_t places[] = {0, 1, 4095, 4096, 4097, 8191, 8192, 8193, 12288};
#define PLACES PML_ARRAY_LEN(places)

struct range_pair {
	uint64_t a_first, a_end, b_first, b_end;
};

/* Calls @check with every pair of non-empty ranges between places. */
static void for_all_pairs(void (*check)(const struct range_pair *pair))
{
	for (size_t i = 0; i < PLACES; i++)
		for (size_t j = i + 1; j < PLACES; j++)
			for (size_t k = 0; k < PLACES; k++)
				for (size_t l = k + 1; l < PLACES; l++)
					check(&(struct range_pair){places[i], places[j], places[k],
								   places[l]});
}

/* Do the ranges have a byte in common?  Looks at each byte that matters. */
static bool share_a_byte(const struct range_pair *pair)
{
	uint64_t first = PML_MAX(pair->a_first, pair->b_first);
	return first < pair->a_end && first < pair->b_end;
}

/* Does a block exist that both touch? */
static bool share_a_block(const struct range_pair *pair)
{
	for (uint64_t block = 0; block < 4; block++) {
		uint64_t first = block * 4096, end = first + 4096;
		if (pair->a_first < end && pair->a_end > first && pair->b_first < end &&
		    pair->b_end > first)
			return true;
	}
	return false;
}

static struct pml_claim claim(uint64_t session, uint64_t first, uint64_t end,
			      enum pml_lease_mode mode)
{
	return (struct pml_claim){
		.session = session, .ino = 7, .first_byte = first, .end_byte = end, .mode = mode};
}

/* The four kinds of lease: read or write, shared or not. */
#define KINDS 4

static struct pml_claim claim_of_kind(uint64_t session, uint64_t first, uint64_t end, int kind)
{
	struct pml_claim c =
		claim(session, first, end, kind & 1 ? PML_LEASE_WRITE : PML_LEASE_READ);
	c.is_shared = kind & 2;
	return c;
}

/* By the words of docs/lease-protocol.md, "Conflicts". */
static bool may_coexist(int a, int b, const struct range_pair *p)
{
	bool are_both_shared = (a & 2) && (b & 2);
	bool are_plain_reads = a == 0 && b == 0;
	return are_both_shared || are_plain_reads || !share_a_block(p);
}

static void check_coexist(const struct range_pair *p)
{
	for (int kinds = 0; kinds < KINDS * KINDS; kinds++) {
		int kind_a = kinds % KINDS, kind_b = kinds / KINDS;
		struct pml_claim a = claim_of_kind(1, p->a_first, p->a_end, kind_a);
		struct pml_claim own = claim_of_kind(1, p->b_first, p->b_end, kind_b);
		struct pml_claim other = claim_of_kind(2, p->b_first, p->b_end, kind_b);

		bool is_clear = may_coexist(kind_a, kind_b, p);
		CHECK_EQ(pml_rules_coexist(&a, &own), is_clear ? 0 : -EDEADLK);
		CHECK_EQ(pml_rules_coexist(&a, &other), is_clear ? 0 : -EAGAIN);
		CHECK_EQ(pml_rules_coexist(&other, &a), pml_rules_coexist(&a, &other));
		a.is_unbreakable = true; /* is no matter of conflict */
		CHECK_EQ(pml_rules_coexist(&a, &other), is_clear ? 0 : -EAGAIN);
	}
}

static void test_who_owns_a_block_shares_it_with_shared_leases_only(void)
{
	for_all_pairs(check_coexist);
}

static void test_leases_of_different_inodes_never_conflict(void)
{
	struct pml_claim a = claim(1, 0, 8192, PML_LEASE_WRITE);
	struct pml_claim b = claim(2, 0, 8192, PML_LEASE_WRITE);
	CHECK_EQ(pml_rules_coexist(&a, &b), -EAGAIN);
	b.ino = 8;
	CHECK_EQ(pml_rules_coexist(&a, &b), 0);
}

static void check_change(const struct range_pair *p)
{
	for (int i = 0; i < PML_OP_COUNT * KINDS; i++) {
		enum pml_layout_op op = (enum pml_layout_op)(i / KINDS);
		int kind = i % KINDS;
		struct pml_layout_change change = {
			.ino = 7, .first_byte = p->b_first, .end_byte = p->b_end, .op = op};
		bool want = op == PML_OP_UNSHARE ? share_a_block(p) : share_a_byte(p);
		struct pml_claim held = claim_of_kind(1, p->a_first, p->a_end, kind);
		CHECK_EQ(pml_rules_owns(&held), kind != 0);
		CHECK_EQ(pml_rules_is_in_the_way(&held, &change), want);

		/* I5: not only writers own their blocks. */
		change.writers_only = true;
		CHECK_EQ(pml_rules_is_in_the_way(&held, &change), want && kind != 0);
		change.ino = 8;
		CHECK_EQ(pml_rules_is_in_the_way(&held, &change), false);
	}
}

static void test_a_change_meets_the_leases_that_its_bytes_or_copied_blocks_touch(void)
{
	for_all_pairs(check_change);
}

static void test_a_change_to_infinity_meets_every_lease_behind_its_start(void)
{
	struct pml_claim held = claim(1, 1ull << 40, (1ull << 40) + 1, PML_LEASE_READ);
	for (int op = 0; op < PML_OP_COUNT; op++) {
		struct pml_layout_change change = {.ino = 7,
						   .first_byte = 5,
						   .end_byte = UINT64_MAX,
						   .op = (enum pml_layout_op)op};
		CHECK(pml_rules_is_in_the_way(&held, &change));
		change.first_byte = (1ull << 40) + 4096;
		CHECK(!pml_rules_is_in_the_way(&held, &change));
	}
}

static void test_rounding_out_never_wraps(void)
{
	uint64_t first = 4097, end = UINT64_MAX - 3;
	pml_rules_round_out(&first, &end);
	CHECK(first == 4096 && end == UINT64_MAX);
	first = 0;
	end = UINT64_MAX - 4096;
	pml_rules_round_out(&first, &end);
	CHECK(end >= UINT64_MAX - 4096);
}

static void test_names_round_trip_and_unknown_ones_are_refused(void)
{
	for (int i = 0; i < PML_OP_COUNT; i++) {
		enum pml_layout_op op = PML_OP_COUNT;
		CHECK_EQ(pml_layout_op_from_name(pml_layout_op_name((enum pml_layout_op)i), &op),
			 0);
		CHECK_EQ(op, i);
	}
	for (int i = 0; i <= PML_POLICY_SKIP; i++) {
		enum pml_policy policy = PML_POLICY_REVOKE;
		CHECK_EQ(pml_policy_from_name(pml_policy_name((enum pml_policy)i), &policy), 0);
		CHECK_EQ(policy, i);
	}
	enum pml_layout_op op;
	enum pml_policy policy;
	CHECK_EQ(pml_layout_op_from_name("lease", &op), -EINVAL);
	CHECK_EQ(pml_layout_op_from_name("", &op), -EINVAL);
	CHECK_EQ(pml_policy_from_name("Revoke", &policy), -EINVAL);
	CHECK_STR(pml_layout_op_name(PML_OP_CLONE_SRC), "clone-src");
	CHECK_STR(pml_layout_op_name(PML_OP_COUNT), "lease");
	CHECK_STR(pml_layout_op_name(PML_RECALL_ORPHAN), "orphan");
	CHECK_STR(pml_layout_op_name((enum pml_layout_op)99), "unknown");
	CHECK_STR(pml_end_reason_name(PML_END_CONFLICT), "conflict");
	CHECK_STR(pml_end_reason_name(PML_END_OWN_CHANGE), "own-change");
	CHECK_STR(pml_end_reason_name((enum pml_end_reason)99), "unknown");
	CHECK_STR(pml_lease_state_name(PML_LEASE_STUCK), "stuck");
}

static void test_defaults_are_those_documented(void)
{
	struct pml_lease_config config;
	pml_lease_config_default(&config, 1000);
	for (int i = 0; i < PML_OP_COUNT; i++)
		CHECK_EQ(config.policy[i], i == PML_OP_DEDUPE	  ? PML_POLICY_EBUSY
					   : i == PML_OP_RELOCATE ? PML_POLICY_SKIP
								  : PML_POLICY_REVOKE);
	CHECK_EQ(config.ack_ms, 2000);
	CHECK_EQ(config.drain_ms, 10000);
	CHECK_EQ(config.term_ms, 30000);
	CHECK_EQ(config.orphan_grace_ms, 60000);
	CHECK_EQ(config.max_unbreakable_bytes, 0);
	CHECK(!config.ebusy_recalls);
	CHECK_EQ(config.max_session_pinned_bytes, 500);
	CHECK_EQ(config.max_pinned_bytes, 750);
}

/* ---- intervals ---------------------------------------------------------- */

#define NODES 300

struct node {
	struct pml_interval interval;
	uint64_t ino, first, end;
	bool is_in;
};

static uint64_t random_below(uint64_t *seed, uint64_t n)
{
	*seed = *seed * 6364136223846793005ull + 1442695040888963407ull;
	return (*seed >> 33) % n;
}

/* What the tree finds is what a walk over all nodes finds, in order, each once. */
static void check_search(const struct pml_interval_tree *tree, struct node *nodes, uint64_t ino,
			 uint64_t first, uint64_t end)
{
	size_t want = 0, got = 0;
	for (size_t i = 0; i < NODES; i++)
		want += nodes[i].is_in && nodes[i].ino == ino && nodes[i].first < end &&
			nodes[i].end > first;

	uint64_t last = 0;
	struct pml_interval *found = pml_interval_first(tree, ino, first, end);
	for (; found; found = pml_interval_next(found, ino, first, end)) {
		const struct node *node = PML_CONTAINER_OF(found, struct node, interval);
		CHECK(node->is_in && node->ino == ino && node->first < end && node->end > first);
		CHECK(node->first >= last);
		last = node->first;
		if (++got > want)
			break;
	}
	CHECK_EQ(got, want);
}

static void test_the_tree_finds_exactly_what_overlaps(void)
{
	static struct node nodes[NODES];
	struct pml_interval_tree tree;
	pml_interval_tree_init(&tree);
	uint64_t seed = 1;
	for (int step = 0; step < 20000; step++) {
		struct node *node = &nodes[random_below(&seed, NODES)];
		if (node->is_in) {
			pml_interval_remove(&tree, &node->interval);
			node->is_in = false;
		} else {
			node->ino = random_below(&seed, 3) + (UINT64_MAX - 2);
			node->first = random_below(&seed, 60);
			node->end = node->first + 1 + random_below(&seed, 20);
			pml_interval_insert(&tree, &node->interval, node->ino, node->first,
					    node->end);
			node->is_in = true;
		}
		uint64_t first = random_below(&seed, 80);
		uint64_t end = first + 1 + random_below(&seed, 10);
		if (random_below(&seed, 8) == 0)
			end = UINT64_MAX;
		check_search(&tree, nodes, random_below(&seed, 3) + (UINT64_MAX - 2), first, end);
	}
}

static size_t depth_of(const struct pml_interval *node)
{
	size_t depth = 0;
	for (; node; node = node->parent)
		depth++;
	return depth;
}

static void test_the_tree_stays_shallow_whatever_the_order(void)
{
	enum { COUNT = 1 << 16 };
	struct pml_interval *nodes = calloc(COUNT, sizeof(*nodes));
	REQUIRE(nodes);
	struct pml_interval_tree tree;
	pml_interval_tree_init(&tree);
	for (size_t i = 0; i < COUNT; i++)
		pml_interval_insert(&tree, &nodes[i], 1, i * 4096, i * 4096 + 4096);
	size_t deepest = 0;
	for (size_t i = 0; i < COUNT; i++)
		deepest = PML_MAX(deepest, depth_of(&nodes[i]));
	CHECK(deepest < 60);
	for (size_t i = 0; i < COUNT; i++)
		pml_interval_remove(&tree, &nodes[i]);
	CHECK(tree.root == NULL);
	free(nodes);
}

int main(void)
{
	TAP_RUN(test_who_owns_a_block_shares_it_with_shared_leases_only);
	TAP_RUN(test_leases_of_different_inodes_never_conflict);
	TAP_RUN(test_a_change_meets_the_leases_that_its_bytes_or_copied_blocks_touch);
	TAP_RUN(test_a_change_to_infinity_meets_every_lease_behind_its_start);
	TAP_RUN(test_rounding_out_never_wraps);
	TAP_RUN(test_names_round_trip_and_unknown_ones_are_refused);
	TAP_RUN(test_defaults_are_those_documented);
	TAP_RUN(test_the_tree_finds_exactly_what_overlaps);
	TAP_RUN(test_the_tree_stays_shallow_whatever_the_order);
	return tap_done();
}
