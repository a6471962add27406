/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_btree.c -- the persistent B+tree against a model in memory
 *
 * The tree's root offset lies in an object of its own, so that it survives
 * reopening.  PML_SEED repeats a random run.
 */
#include <inttypes.h>
#include <time.h>

#include "../../fs/btree.h"
#include "../../fs/tx.h"
#include "../support/fs_pool.h"
#include "../tap.h"

/* Keys of the model: number i is key i * STRIDE + 1. */
#define KEYS   6000u
#define STRIDE 3u

static struct fs_pool pool;
static uint64_t slot_offset;
static uint64_t random_state;

static uint64_t model[KEYS]; /* word 0 of the key, 0: absent */

static uint64_t next_random(void)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return random_state;
}

static uint64_t key_of(unsigned int i)
{
	return (uint64_t)i * STRIDE + 1;
}

static uint64_t *slot(void)
{
	return pml_at(pool.fs, slot_offset);
}

/* An empty tree in a new slot, and an empty model. */
static void begin(void)
{
	struct pml_tx tx;
	memset(model, 0, sizeof(model));
	int err = pml_tx_begin(pool.fs, &tx);
	if (!err)
		err = pml_tx_end(&tx,
				 pml_tx_alloc(sizeof(uint64_t), PML_TYPE_SYMLINK, &slot_offset));
	if (err)
		BAIL_OUT("no slot: %d", err);
}

static int insert(uint64_t key, uint64_t word)
{
	const struct pml_btree_item item = {.key = key, .word = {word, ~word}};
	return pml_btree_insert(pool.fs, slot(), &item);
}

static int insert_tx(uint64_t key, uint64_t word)
{
	struct pml_tx tx;
	int err = pml_tx_begin(pool.fs, &tx);
	return err ? err : pml_tx_end(&tx, insert(key, word));
}

static int remove_tx(uint64_t key)
{
	struct pml_tx tx;
	int err = pml_tx_begin(pool.fs, &tx);
	return err ? err : pml_tx_end(&tx, pml_btree_remove(pool.fs, slot(), key));
}

static int put(unsigned int i)
{
	int err = insert_tx(key_of(i), i + 1);
	if (!err)
		model[i] = i + 1;
	return err;
}

static int drop(unsigned int i)
{
	int err = remove_tx(key_of(i));
	if (!err)
		model[i] = 0;
	return err;
}

/* ---- comparing ----------------------------------------------------------- */

static int count_node(void *arg, uint64_t offset)
{
	(void)offset;
	(*(unsigned int *)arg)++;
	return 0;
}

/* Nodes of the tree, having checked their order. */
static unsigned int count_nodes(void)
{
	unsigned int n = 0;
	CHECK_EQ(pml_btree_nodes(pool.fs, *slot(), count_node, &n), 0);
	return n;
}

/* Nodes that exist in the pool, reachable or not. */
static unsigned int count_objects(void)
{
	unsigned int n = 0;
	for (PMEMoid oid = pmemobj_first(pool.fs->pool); !OID_IS_NULL(oid); oid = pmemobj_next(oid))
		n += pmemobj_type_num(oid) == PML_TYPE_BTREE_NODE;
	return n;
}

struct compare {
	unsigned int i;
	unsigned int wrong;
};

static int compare_item(void *arg, const struct pml_btree_item *item)
{
	struct compare *c = arg;
	while (c->i < KEYS && !model[c->i])
		c->i++;
	if (c->i == KEYS || item->key != key_of(c->i) || item->word[0] != model[c->i] ||
	    item->word[1] != ~model[c->i])
		c->wrong++;
	c->i++;
	return 0;
}

/* All items from number @from on are those of the model. */
static void check_walk(unsigned int from)
{
	struct compare c = {.i = from};
	CHECK_EQ(pml_btree_walk(pool.fs, *slot(), key_of(from), compare_item, &c), 0);
	CHECK_EQ(c.wrong, 0);
	while (c.i < KEYS && !model[c.i])
		c.i++;
	CHECK(c.i >= KEYS);
}

static void check_neighbours(uint64_t key)
{
	struct pml_btree_item item;
	unsigned int at = (unsigned int)(key / STRIDE);
	unsigned int up = at + (key > key_of(at)); /* first number with a key >= @key */
	int down = (int)at - (key < key_of(at));   /* last number with a key <= @key */
	while (up < KEYS && !model[up])
		up++;
	while (down >= 0 && (down >= (int)KEYS || !model[down]))
		down--;

	int err = pml_btree_ceil(pool.fs, *slot(), key, &item);
	CHECK_EQ(err, up < KEYS ? 0 : -ENOENT);
	if (!err)
		CHECK_EQ(item.key, key_of(up));
	err = pml_btree_floor(pool.fs, *slot(), key, &item);
	CHECK_EQ(err, down >= 0 ? 0 : -ENOENT);
	if (!err)
		CHECK_EQ(item.key, key_of((unsigned int)down));
}

static void check_all(void)
{
	check_walk(0);
	for (int i = 0; i < 50; i++) {
		check_walk((unsigned int)(next_random() % KEYS));
		check_neighbours(next_random() % (KEYS * STRIDE));
	}
	CHECK_EQ(count_nodes(), count_objects());
}

/* ---- tests --------------------------------------------------------------- */

static void test_an_empty_tree_holds_nothing(void)
{
	struct pml_btree_item item;
	struct pml_tx tx;
	begin();
	CHECK_EQ(pml_btree_floor(pool.fs, 0, 5, &item), -ENOENT);
	CHECK_EQ(pml_btree_ceil(pool.fs, 0, 5, &item), -ENOENT);
	check_walk(0);
	CHECK_EQ(remove_tx(5), -ENOENT);
	item = (struct pml_btree_item){.key = 5};
	REQUIRE(pml_tx_begin(pool.fs, &tx) == 0);
	CHECK_EQ(pml_tx_end(&tx, pml_btree_update(pool.fs, slot(), &item)), -ENOENT);
	CHECK_EQ(*slot(), 0);
}

static void test_a_key_is_there_once_and_can_be_updated(void)
{
	struct pml_btree_item item = {.key = 5, .word = {70, 71}};
	struct pml_tx tx;
	begin();
	CHECK_EQ(insert_tx(5, 50), 0);
	CHECK_EQ(insert_tx(5, 60), -EEXIST);
	REQUIRE(pml_tx_begin(pool.fs, &tx) == 0);
	CHECK_EQ(pml_tx_end(&tx, pml_btree_update(pool.fs, slot(), &item)), 0);
	item = (struct pml_btree_item){.key = 0};
	CHECK_EQ(pml_btree_floor(pool.fs, *slot(), 5, &item), 0);
	CHECK_EQ(item.word[0], 70);
	CHECK_EQ(item.word[1], 71);
	CHECK_EQ(remove_tx(5), 0);
	CHECK_EQ(*slot(), 0);
}

static void test_the_extreme_keys_work(void)
{
	struct pml_btree_item item;
	begin();
	CHECK_EQ(insert_tx(UINT64_MAX, 1), 0);
	CHECK_EQ(insert_tx(0, 2), 0);
	for (unsigned int i = 1; i < 200; i++) {
		CHECK_EQ(insert_tx(i, i), 0);
		CHECK_EQ(insert_tx(UINT64_MAX - i, i), 0);
	}
	CHECK_EQ(pml_btree_ceil(pool.fs, *slot(), 200, &item), 0);
	CHECK_EQ(item.key, UINT64_MAX - 199);
	CHECK_EQ(pml_btree_floor(pool.fs, *slot(), UINT64_MAX, &item), 0);
	CHECK_EQ(item.key, UINT64_MAX);
	(void)count_nodes();
	for (unsigned int i = 0; i < 200; i++) {
		CHECK_EQ(remove_tx(i), 0);
		CHECK_EQ(remove_tx(UINT64_MAX - i), 0);
	}
	CHECK_EQ(*slot(), 0);
}

static void test_ascending_inserts_fill_their_nodes(void)
{
	begin();
	for (unsigned int i = 0; i < KEYS; i++)
		CHECK_EQ(put(i), 0);
	check_all();
	/* Leaves full, and a few inner nodes above them. */
	CHECK(count_nodes() <= KEYS / PML_BTREE_FANOUT * 11 / 10 + 2);
	for (unsigned int i = 0; i < KEYS; i++)
		CHECK_EQ(drop(i), 0);
	CHECK_EQ(*slot(), 0);
	CHECK_EQ(count_objects(), 0);
}

static void test_descending_inserts_fill_their_nodes(void)
{
	begin();
	for (unsigned int i = KEYS; i-- > 0;)
		CHECK_EQ(put(i), 0);
	check_all();
	CHECK(count_nodes() <= KEYS / PML_BTREE_FANOUT * 11 / 10 + 2);
	for (unsigned int i = KEYS; i-- > 0;)
		CHECK_EQ(drop(i), 0);
	CHECK_EQ(*slot(), 0);
	CHECK_EQ(count_objects(), 0);
}

static void test_random_inserts_and_removes_equal_the_model(void)
{
	begin();
	unsigned int left = KEYS;
	for (unsigned int n = 0; n < 4 * KEYS; n++) {
		unsigned int i = (unsigned int)(next_random() % KEYS);
		bool there = model[i] != 0;
		/* First more inserts than removes, then the other way round. */
		bool want_insert = next_random() % 4 < (n < 2 * KEYS ? 3 : 1);
		if (want_insert)
			CHECK_EQ(put(i), there ? -EEXIST : 0);
		else
			CHECK_EQ(drop(i), there ? 0 : -ENOENT);
		if (n % KEYS == KEYS / 2)
			check_all();
	}
	for (unsigned int i = 0; i < KEYS; i++)
		if (model[i])
			CHECK_EQ(drop(i), 0);
	left = count_objects();
	CHECK_EQ(left, 0);
	CHECK_EQ(*slot(), 0);
}

static void test_a_root_with_one_child_gives_way_to_it(void)
{
	begin();
	for (unsigned int i = 0; i < 2000; i++)
		CHECK_EQ(put(i), 0);
	for (unsigned int i = 0; i < 1999; i++)
		CHECK_EQ(drop(i), 0);
	const struct pml_media_btree_node *root = pml_at(pool.fs, *slot());
	CHECK_EQ(root->level, 0);
	CHECK_EQ(count_objects(), 1);
	CHECK_EQ(drop(1999), 0);
}

/* Smaller keys than any before, behind the first child, after its old neighbours went. */
static void test_keys_below_a_removed_first_child_find_their_place(void)
{
	begin();
	for (unsigned int i = 2000; i < 5000; i++)
		CHECK_EQ(put(i), 0);
	const struct pml_media_btree_node *root = pml_at(pool.fs, *slot());
	CHECK_EQ(root->level, 2);
	/* The first child of the root with all its leaves; the second becomes the root. */
	unsigned int end = 2000 + PML_BTREE_FANOUT * PML_BTREE_FANOUT + 2 * PML_BTREE_FANOUT;
	for (unsigned int i = 2000; i < end; i++)
		CHECK_EQ(drop(i), 0);
	root = pml_at(pool.fs, *slot());
	CHECK_EQ(root->level, 1);
	for (unsigned int i = 0; i < end; i++)
		CHECK_EQ(put(i * 7 % end), 0);
	check_all();
	for (unsigned int i = 0; i < 5000; i++)
		CHECK_EQ(drop(i), 0);
	CHECK_EQ(*slot(), 0);
}

/* Several changes in one transaction, which is rolled back or not. */
static void test_a_rollback_brings_everything_back(void)
{
	begin();
	/* Full leaves, and keys in between that split them. */
	for (unsigned int i = 0; i < 1000; i += 2)
		CHECK_EQ(put(i), 0);
	for (unsigned int round = 0; round < 500; round++) {
		uint64_t before[1000];
		struct pml_tx tx;
		memcpy(before, model, sizeof(before));
		bool is_aborted = round % 3 != 0;
		REQUIRE(pml_tx_begin(pool.fs, &tx) == 0);
		int err = 0;
		for (unsigned int k = 0; k < 1 + round % 40 && !err; k++) {
			unsigned int i = (unsigned int)(next_random() % 1000);
			err = model[i] ? pml_btree_remove(pool.fs, slot(), key_of(i))
				       : insert(key_of(i), i + 1 + round);
			model[i] = model[i] ? 0 : i + 1 + round;
		}
		CHECK_EQ(err, 0);
		CHECK_EQ(pml_tx_end(&tx, is_aborted ? -EINTR : 0), is_aborted ? -EINTR : 0);
		if (is_aborted)
			memcpy(model, before, sizeof(before));
		check_walk(0);
		if (round % 50 == 0)
			check_all();
	}
	check_all();
}

static void test_the_tree_survives_reopening(void)
{
	fs_pool_reopen(&pool);
	check_all();
	for (unsigned int i = 0; i < 1000; i++)
		if (model[i])
			CHECK_EQ(drop(i), 0);
	CHECK_EQ(*slot(), 0);
	CHECK_EQ(count_objects(), 0);
}

static int stop_at(void *arg, const struct pml_btree_item *item)
{
	return item->key >= *(uint64_t *)arg ? 42 : 0;
}

static void test_a_visitor_stops_the_walk(void)
{
	begin();
	for (unsigned int i = 0; i < 300; i++)
		CHECK_EQ(put(i), 0);
	uint64_t key = key_of(200);
	CHECK_EQ(pml_btree_walk(pool.fs, *slot(), 0, stop_at, &key), 42);
	for (unsigned int i = 0; i < 300; i++)
		CHECK_EQ(drop(i), 0);
}

/* ---- hostile bytes ------------------------------------------------------- */

static int accept_item(void *arg, const struct pml_btree_item *item)
{
	(void)item;
	(*(unsigned int *)arg)++;
	return 0;
}

/* Everything ends with -EIO or as if nothing were wrong, and ends. */
static void check_contained(const char *what, bool walk_sees_it)
{
	struct pml_btree_item item;
	unsigned int n = 0;
	int err = pml_btree_nodes(pool.fs, *slot(), count_node, &n);
	if (err != -EIO)
		TAP_FAIL("%s: pml_btree_nodes() gives %d", what, err);
	err = pml_btree_walk(pool.fs, *slot(), 0, accept_item, &n);
	if (err != (walk_sees_it ? -EIO : 0))
		TAP_FAIL("%s: pml_btree_walk() gives %d", what, err);
	for (uint64_t key = 0; key < key_of(KEYS); key += 97) {
		err = pml_btree_floor(pool.fs, *slot(), key, &item);
		CHECK(err == 0 || err == -EIO || err == -ENOENT);
		err = pml_btree_ceil(pool.fs, *slot(), key, &item);
		CHECK(err == 0 || err == -EIO || err == -ENOENT);
	}
}

/* Changes one place of a good tree, checks, and puts it back. */
#define WITH_CHANGE(lvalue, value, walk_sees_it)                                                   \
	do {                                                                                       \
		__auto_type kept_ = (lvalue);                                                      \
		(lvalue) = (__typeof__(kept_))(value);                                             \
		check_contained(#lvalue " = " #value, walk_sees_it);                               \
		(lvalue) = kept_;                                                                  \
	} while (0)

static void test_a_damaged_tree_is_noticed_and_ends_every_walk(void)
{
	begin();
	for (unsigned int i = 0; i < KEYS; i++)
		CHECK_EQ(put(i), 0);
	struct pml_media_btree_node *root = pml_at(pool.fs, *slot());
	REQUIRE(root->level == 2);
	struct pml_media_btree_node *inner = pml_at(pool.fs, root->entry[1].word[0]);
	struct pml_media_btree_node *leaf = pml_at(pool.fs, inner->entry[1].word[0]);

	WITH_CHANGE(root->nkeys, 0, true);
	WITH_CHANGE(root->nkeys, PML_BTREE_FANOUT + 1, true);
	WITH_CHANGE(root->level, 1, true);
	WITH_CHANGE(root->level, 65535, true);
	WITH_CHANGE(root->entry[1].word[0], *slot(), true); /* a cycle */
	WITH_CHANGE(root->entry[1].word[0], root->entry[0].word[0], true);
	WITH_CHANGE(root->entry[1].word[0], 0, true);
	WITH_CHANGE(root->entry[1].word[0], 12345, true);
	WITH_CHANGE(root->entry[1].word[0], UINT64_MAX - 7, true);
	WITH_CHANGE(root->entry[1].word[0], PML_DEVICE_BYTES_MIN - 8, true);
	WITH_CHANGE(root->entry[1].key, 1, false);
	WITH_CHANGE(inner->entry[1].word[0], inner->entry[0].word[0], true);
	WITH_CHANGE(inner->entry[2].word[0], inner->entry[0].word[0], true);
	WITH_CHANGE(leaf->nkeys, 0, true);
	WITH_CHANGE(leaf->level, 1, true);
	WITH_CHANGE(leaf->entry[1].key, leaf->entry[0].key, true);
	WITH_CHANGE(leaf->entry[1].key, UINT64_MAX - 1, true);
	check_all();
}

int main(void)
{
	const char *given = getenv("PML_SEED");
	random_state = given ? strtoull(given, NULL, 0) : (uint64_t)time(NULL) * 2654435761u + 1;
	printf("# PML_SEED=%" PRIu64 "\n", random_state);
	fs_pool_make(&pool, FS_POOL_BYTES);
	/* The root directory is empty, so all nodes are ours. */
	TAP_RUN(test_an_empty_tree_holds_nothing);
	TAP_RUN(test_a_key_is_there_once_and_can_be_updated);
	TAP_RUN(test_the_extreme_keys_work);
	TAP_RUN(test_ascending_inserts_fill_their_nodes);
	TAP_RUN(test_descending_inserts_fill_their_nodes);
	TAP_RUN(test_random_inserts_and_removes_equal_the_model);
	TAP_RUN(test_a_root_with_one_child_gives_way_to_it);
	TAP_RUN(test_keys_below_a_removed_first_child_find_their_place);
	TAP_RUN(test_a_rollback_brings_everything_back);
	TAP_RUN(test_the_tree_survives_reopening);
	TAP_RUN(test_a_visitor_stops_the_walk);
	TAP_RUN(test_a_damaged_tree_is_noticed_and_ends_every_walk);
	fs_pool_remove(&pool);
	return tap_done();
}
