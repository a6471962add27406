/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * btree.c -- persistent B+tree
 *
 * Every call walks from the root and keeps the path; there are no links between
 * leaves.  Changing calls snapshot only the entries that move, and a node made in
 * the same transaction not at all.
 *
 * Key 0 of an inner node is not looked at when searching, yet kept at or below
 * every key of that subtree and below key 1, so that pml_btree_nodes() can check
 * the order of all keys.
 *
 * Format: docs/on-media-format.md, "B+tree".
 */
#include <string.h>

#include "btree.h"
#include "tx.h"

/* An edge append or prepend leaves a full node; other splits leave two halves. */
#define HALF (PML_BTREE_FANOUT / 2)
/* With this few entries before the first that moves, one snapshot is cheaper than two. */
#define MERGE_SNAPSHOT_ENTRIES 20u

/* A path from the root, at[0], to a leaf, at[depth - 1]. */
struct path {
	unsigned int depth;
	struct step {
		uint64_t offset;
		struct pml_media_btree_node *node;
		unsigned int i; /* inner: the child gone to; leaf: first entry >= the key */
	} at[PML_BTREE_LEVELS_MAX];
};

static int load_node(const struct pml_fs *fs, uint64_t offset,
		     struct pml_media_btree_node **ret_node)
{
	int err = pml_pool_check_object(fs, offset, PML_TYPE_BTREE_NODE,
					sizeof(struct pml_media_btree_node));
	if (err)
		return err;
	struct pml_media_btree_node *node = pml_at(fs, offset);
	if (node->nkeys < 1 || node->nkeys > PML_BTREE_FANOUT)
		return pml_corrupt(fs, "B+tree node has a bad number of keys", offset);
	if (node->level >= PML_BTREE_LEVELS_MAX)
		return pml_corrupt(fs, "B+tree node has a bad level", offset);
	*ret_node = node;
	return 0;
}

/* Number of entries with a key below @key, or with @or_equal at most @key. */
static unsigned int count_below(const struct pml_media_btree_node *node, uint64_t key,
				bool or_equal)
{
	unsigned int lo = 0;
	unsigned int hi = node->nkeys;
	while (lo < hi) {
		unsigned int mid = (lo + hi) / 2;
		if (node->entry[mid].key < key || (or_equal && node->entry[mid].key == key))
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

/* Appends the root or the child that the path's end points at; no position in it yet. */
static int push_node(const struct pml_fs *fs, struct path *path, uint64_t offset)
{
	struct step *step = &path->at[path->depth];
	int err = load_node(fs, offset, &step->node);
	if (err)
		return err;
	if (path->depth > 0 && step->node->level + 1 != step[-1].node->level)
		return pml_corrupt(fs, "B+tree level does not descend by one", offset);
	step->offset = offset;
	step->i = 0;
	path->depth++;
	return 0;
}

static inline struct step *leaf_of(struct path *path)
{
	return &path->at[path->depth - 1];
}

/* -ENOENT: the tree is empty. */
static int descend(const struct pml_fs *fs, uint64_t root, uint64_t key, struct path *ret_path)
{
	if (!root)
		return -ENOENT;
	ret_path->depth = 0;
	for (uint64_t offset = root;;) {
		int err = push_node(fs, ret_path, offset);
		if (err)
			return err;
		struct step *step = leaf_of(ret_path);
		if (step->node->level == 0) {
			step->i = count_below(step->node, key, false);
			return 0;
		}
		unsigned int n = count_below(step->node, key, true);
		step->i = n > 0 ? n - 1 : 0;
		offset = step->node->entry[step->i].word[0];
	}
}

/* Goes down from the child that the path's end points at, always first or always last. */
static int descend_edge(const struct pml_fs *fs, struct path *path, bool last)
{
	for (struct step *step = leaf_of(path); step->node->level > 0; step++) {
		int err = push_node(fs, path, step->node->entry[step->i].word[0]);
		if (err)
			return err;
		if (last)
			step[1].i = step[1].node->nkeys - 1u;
	}
	return 0;
}

/* To the first entry of the leaf behind.  -ENOENT: there is none. */
static int next_leaf(const struct pml_fs *fs, struct path *path)
{
	do {
		if (--path->depth == 0)
			return -ENOENT;
	} while (leaf_of(path)->i + 1u >= leaf_of(path)->node->nkeys);
	leaf_of(path)->i++;
	return descend_edge(fs, path, false);
}

/* To the last entry of the leaf before. */
static int previous_leaf(const struct pml_fs *fs, struct path *path)
{
	do {
		if (--path->depth == 0)
			return -ENOENT;
	} while (leaf_of(path)->i == 0);
	leaf_of(path)->i--;
	return descend_edge(fs, path, true);
}

static struct pml_btree_item item_of(const struct pml_media_btree_entry *entry)
{
	return (struct pml_btree_item){
		.key = entry->key,
		.word = {entry->word[0], entry->word[1]},
	};
}

int pml_btree_floor(const struct pml_fs *fs, uint64_t root, uint64_t key,
		    struct pml_btree_item *ret_item)
{
	struct path path;
	int err = descend(fs, root, key, &path);
	if (err)
		return err;
	struct step *leaf = leaf_of(&path);
	if (leaf->i == leaf->node->nkeys || leaf->node->entry[leaf->i].key != key) {
		if (leaf->i > 0) {
			leaf->i--;
		} else {
			err = previous_leaf(fs, &path);
			if (err)
				return err;
			leaf = leaf_of(&path);
		}
	}
	*ret_item = item_of(&leaf->node->entry[leaf->i]);
	return 0;
}

int pml_btree_ceil(const struct pml_fs *fs, uint64_t root, uint64_t key,
		   struct pml_btree_item *ret_item)
{
	struct path path;
	int err = descend(fs, root, key, &path);
	if (err)
		return err;
	if (leaf_of(&path)->i == leaf_of(&path)->node->nkeys) {
		err = next_leaf(fs, &path);
		if (err)
			return err;
	}
	const struct step *leaf = leaf_of(&path);
	*ret_item = item_of(&leaf->node->entry[leaf->i]);
	return 0;
}

int pml_btree_walk(const struct pml_fs *fs, uint64_t root, uint64_t from, pml_btree_visit visit,
		   void *arg)
{
	struct path path;
	int err = descend(fs, root, from, &path);
	if (err)
		return err == -ENOENT ? 0 : err;

	/* Keys must ascend, so a leaf that hangs in two places ends the walk. */
	uint64_t expect = from;
	for (;;) {
		const struct step *leaf = leaf_of(&path);
		for (unsigned int i = leaf->i; i < leaf->node->nkeys; i++) {
			struct pml_btree_item item = item_of(&leaf->node->entry[i]);
			if (item.key < expect)
				return pml_corrupt(fs, "B+tree keys are out of order",
						   leaf->offset);
			int stop = visit(arg, &item);
			if (stop || item.key == UINT64_MAX)
				return stop;
			expect = item.key + 1;
		}
		err = next_leaf(fs, &path);
		if (err)
			return err == -ENOENT ? 0 : err;
	}
}

/* ---- all nodes, checked -------------------------------------------------- */

/* Keys of a subtree: @lo <= key <= @hi. */
struct bounds {
	uint64_t lo;
	uint64_t hi;
};

/* The node's keys ascend within its bounds.  Key 0 of an inner node: not above key 1. */
static int check_order(const struct pml_fs *fs, const struct step *step, struct bounds b)
{
	const struct pml_media_btree_node *node = step->node;
	for (unsigned int i = 0; i < node->nkeys; i++) {
		uint64_t key = node->entry[i].key;
		bool is_bound = node->level == 0 || i > 0;
		if ((i > 0 && key <= node->entry[i - 1].key) ||
		    (is_bound && (key < b.lo || key > b.hi)))
			return pml_corrupt(fs, "B+tree keys are out of order", step->offset);
	}
	return 0;
}

/* Bounds of the child that @step points at. */
static struct bounds child_bounds(const struct step *step, struct bounds b)
{
	const struct pml_media_btree_node *node = step->node;
	if (step->i > 0)
		b.lo = node->entry[step->i].key;
	if (step->i + 1u < node->nkeys)
		b.hi = node->entry[step->i + 1u].key - 1;
	return b;
}

/* Puts the next node, in pre-order, at the path's end.  -ENOENT: that was the last one. */
static int next_node(const struct pml_fs *fs, struct path *path)
{
	if (leaf_of(path)->node->level == 0) {
		do {
			if (--path->depth == 0)
				return -ENOENT;
		} while (leaf_of(path)->i + 1u >= leaf_of(path)->node->nkeys);
		leaf_of(path)->i++;
	}
	return push_node(fs, path, leaf_of(path)->node->entry[leaf_of(path)->i].word[0]);
}

int pml_btree_nodes(const struct pml_fs *fs, uint64_t root,
		    int (*visit)(void *arg, uint64_t offset), void *arg)
{
	if (!root)
		return 0;
	struct path path = {.depth = 0};
	struct bounds bounds[PML_BTREE_LEVELS_MAX] = {{0, UINT64_MAX}};

	int err = push_node(fs, &path, root);
	while (!err) {
		unsigned int d = path.depth - 1;
		if (d > 0)
			bounds[d] = child_bounds(&path.at[d - 1], bounds[d - 1]);
		err = check_order(fs, &path.at[d], bounds[d]);
		if (err)
			return err;
		int stop = visit(arg, path.at[d].offset);
		if (stop)
			return stop;
		err = next_node(fs, &path);
	}
	return err == -ENOENT ? 0 : err;
}

/* ---- changing ------------------------------------------------------------ */

/* Snapshots the header and entries [@from, @end). */
static int touch(struct pml_media_btree_node *node, unsigned int from, unsigned int end)
{
	if (from <= MERGE_SNAPSHOT_ENTRIES || from >= end)
		return pml_tx_add(node, from < end
						? offsetof(struct pml_media_btree_node, entry) +
							  end * sizeof(struct pml_media_btree_entry)
						: offsetof(struct pml_media_btree_node, reserved1));
	int err = pml_tx_add(node, offsetof(struct pml_media_btree_node, reserved1));
	if (err)
		return err;
	return pml_tx_add(&node->entry[from], (end - from) * sizeof(struct pml_media_btree_entry));
}

static int make_node(struct pml_fs *fs, uint16_t level, uint64_t *ret_offset,
		     struct pml_media_btree_node **ret_node)
{
	int err =
		pml_tx_alloc(sizeof(struct pml_media_btree_node), PML_TYPE_BTREE_NODE, ret_offset);
	if (err)
		return err;
	*ret_node = pml_at(fs, *ret_offset);
	(*ret_node)->level = level;
	return 0;
}

/* Puts @entry at @i of a node that has room. */
static int put_entry(struct pml_media_btree_node *node, bool is_fresh, unsigned int i,
		     const struct pml_media_btree_entry *entry)
{
	/* Behind child 0, whose key is only a lower bound, may come a smaller key. */
	bool lower_first = node->level > 0 && i == 1 && entry->key <= node->entry[0].key;
	if (!is_fresh) {
		int err = touch(node, lower_first ? 0 : i, node->nkeys + 1u);
		if (err)
			return err;
	}
	memmove(&node->entry[i + 1], &node->entry[i],
		(node->nkeys - i) * sizeof(struct pml_media_btree_entry));
	node->entry[i] = *entry;
	if (lower_first)
		node->entry[0].key = 0;
	node->nkeys++;
	return 0;
}

/* How many entries a full node keeps when the one at @i comes in between. */
static unsigned int split_point(const struct path *path, unsigned int d, unsigned int i)
{
	bool is_last = true;
	bool is_first = true;
	for (unsigned int up = 0; up < d; up++) {
		is_first = is_first && path->at[up].i == 0;
		is_last = is_last && path->at[up].i + 1u == path->at[up].node->nkeys;
	}
	if (is_last && i == PML_BTREE_FANOUT)
		return PML_BTREE_FANOUT;
	if (is_first && i == 0)
		return 0;
	return HALF;
}

/*
 * Splits the full node at path->at[d] and puts @entry at @i of its old numbering.
 * @entry becomes the parent's entry for the new node on the right.
 */
static int split_node(struct pml_fs *fs, struct path *path, unsigned int d, unsigned int i,
		      struct pml_media_btree_entry *entry)
{
	struct pml_media_btree_node *left = path->at[d].node;
	unsigned int keep = split_point(path, d, i);
	uint64_t right_offset;
	struct pml_media_btree_node *right;

	int err = make_node(fs, left->level, &right_offset, &right);
	if (err)
		return err;
	right->nkeys = (uint16_t)(left->nkeys - keep);
	memcpy(right->entry, &left->entry[keep],
	       right->nkeys * sizeof(struct pml_media_btree_entry));

	bool goes_right = i > keep || keep == PML_BTREE_FANOUT;
	err = touch(left, 0, 0);
	if (err)
		return err;
	left->nkeys = (uint16_t)keep;
	err = goes_right ? put_entry(right, true, i - keep, entry)
			 : put_entry(left, false, i, entry);
	if (err)
		return err;
	*entry = (struct pml_media_btree_entry){.key = right->entry[0].key,
						.word = {right_offset, 0}};
	return 0;
}

/* A new root above the old one and its new right neighbour. */
static int grow(struct pml_fs *fs, uint64_t *root_slot, const struct step *old,
		const struct pml_media_btree_entry *right)
{
	if (old->node->level + 1 >= PML_BTREE_LEVELS_MAX)
		return -ENOSPC;
	uint64_t offset;
	struct pml_media_btree_node *node;
	int err = make_node(fs, (uint16_t)(old->node->level + 1), &offset, &node);
	if (err)
		return err;
	node->entry[0] = (struct pml_media_btree_entry){.key = 0, .word = {old->offset, 0}};
	node->entry[1] = *right;
	node->nkeys = 2;
	return PML_TX_SET(*root_slot, offset);
}

static int make_root(struct pml_fs *fs, uint64_t *root_slot,
		     const struct pml_media_btree_entry *entry)
{
	uint64_t offset;
	struct pml_media_btree_node *node;
	int err = make_node(fs, 0, &offset, &node);
	if (err)
		return err;
	node->entry[0] = *entry;
	node->nkeys = 1;
	return PML_TX_SET(*root_slot, offset);
}

int pml_btree_insert(struct pml_fs *fs, uint64_t *root_slot, const struct pml_btree_item *item)
{
	struct pml_media_btree_entry entry = {.key = item->key,
					      .word = {item->word[0], item->word[1]}};
	struct path path;
	int err = descend(fs, *root_slot, item->key, &path);
	if (err == -ENOENT)
		return make_root(fs, root_slot, &entry);
	if (err)
		return err;

	const struct step *leaf = leaf_of(&path);
	if (leaf->i < leaf->node->nkeys && leaf->node->entry[leaf->i].key == item->key)
		return -EEXIST;

	unsigned int i = leaf->i;
	for (unsigned int d = path.depth; d-- > 0;) {
		if (path.at[d].node->nkeys < PML_BTREE_FANOUT)
			return put_entry(path.at[d].node, false, i, &entry);
		err = split_node(fs, &path, d, i, &entry);
		if (err)
			return err;
		i = d > 0 ? path.at[d - 1].i + 1 : 0;
	}
	return grow(fs, root_slot, &path.at[0], &entry);
}

/* The entry with exactly this key. */
static int find(const struct pml_fs *fs, uint64_t root, uint64_t key, struct path *ret_path)
{
	int err = descend(fs, root, key, ret_path);
	if (err)
		return err;
	const struct step *leaf = leaf_of(ret_path);
	if (leaf->i == leaf->node->nkeys || leaf->node->entry[leaf->i].key != key)
		return -ENOENT;
	return 0;
}

int pml_btree_update(struct pml_fs *fs, uint64_t *root_slot, const struct pml_btree_item *item)
{
	struct path path;
	int err = find(fs, *root_slot, item->key, &path);
	if (err)
		return err;
	struct pml_media_btree_entry *entry = &leaf_of(&path)->node->entry[leaf_of(&path)->i];
	err = pml_tx_add(entry->word, sizeof(entry->word));
	if (err)
		return err;
	memcpy(entry->word, item->word, sizeof(entry->word));
	return 0;
}

/* Takes entry @i out of a node that has another one. */
static int drop_entry(struct pml_media_btree_node *node, unsigned int i)
{
	int err = touch(node, i, node->nkeys - 1u);
	if (err)
		return err;
	uint64_t bound = node->entry[0].key;
	memmove(&node->entry[i], &node->entry[i + 1],
		(node->nkeys - i - 1u) * sizeof(struct pml_media_btree_entry));
	if (node->level > 0)
		node->entry[0].key = bound; /* the new child 0 takes over the old one's keys */
	node->nkeys--;
	return 0;
}

/* An inner root with a single child gives way to it. */
static int collapse(struct pml_fs *fs, uint64_t *root_slot)
{
	for (;;) {
		struct pml_media_btree_node *root = NULL;
		int err = load_node(fs, *root_slot, &root);
		if (err)
			return err;
		if (root->level == 0 || root->nkeys > 1)
			return 0;
		uint64_t old = *root_slot;
		err = PML_TX_SET(*root_slot, root->entry[0].word[0]);
		if (!err)
			err = pml_tx_free(fs, old, PML_TYPE_BTREE_NODE);
		if (err)
			return err;
	}
}

int pml_btree_remove(struct pml_fs *fs, uint64_t *root_slot, uint64_t key)
{
	struct path path;
	int err = find(fs, *root_slot, key, &path);
	if (err)
		return err;

	for (unsigned int d = path.depth; d-- > 0;) {
		if (path.at[d].node->nkeys > 1) {
			err = drop_entry(path.at[d].node, path.at[d].i);
			return err ? err : collapse(fs, root_slot);
		}
		err = pml_tx_free(fs, path.at[d].offset, PML_TYPE_BTREE_NODE);
		if (err)
			return err;
	}
	return PML_TX_SET(*root_slot, 0);
}

/* Frees the last leaf and what lies above it alone. */
static int prune_leaf(struct pml_fs *fs, uint64_t *root_slot)
{
	struct path path;
	int err = descend(fs, *root_slot, UINT64_MAX, &path);
	if (err)
		return err;
	for (unsigned int d = path.depth; d-- > 0;) {
		/* Above the leaf: the child on the path, which is the last one, has gone. */
		struct pml_media_btree_node *node = path.at[d].node;
		if (d + 1 < path.depth && node->nkeys > 1)
			return PML_TX_SET(node->nkeys, (uint16_t)(node->nkeys - 1u));
		err = pml_tx_free(fs, path.at[d].offset, PML_TYPE_BTREE_NODE);
		if (err)
			return err;
	}
	return PML_TX_SET(*root_slot, 0);
}

int pml_btree_prune(struct pml_fs *fs, uint64_t *root_slot, unsigned int max_leaves)
{
	int err = 0;
	for (unsigned int i = 0; !err && *root_slot && i < max_leaves; i++)
		err = prune_leaf(fs, root_slot);
	return err;
}
