/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * check_tree.c -- B+trees: walk, rebuild
 *
 * The walk takes what it can: a node whose level contradicts its parent's is read as its
 * place says, one that cannot be read is reported with the keys that go with it.  Items
 * come out in the order of the leaves; one whose key breaks that order is marked.
 *
 * A damaged tree is not mended but made anew from the items: nodes are filled from the
 * left in transactions of a few, and a last one puts the new root in the place of the
 * old.  What is cut off by that, or by a stop on the way, is freed as leaks.
 */
#include "check.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "tx.h"

/* Nodes made in one transaction. */
#define NODES_PER_TX 16u

struct walk {
	struct pml_check *c;
	const char *owner;
	bool is_left; /* damage that was not to be repaired */
	bool is_order_reported;
};

/* Keys of a subtree. */
struct span {
	uint64_t lo;
	uint64_t hi;
	bool is_empty;
};

/* ---- walking --------------------------------------------------------------- */

/* Says whether the damage is taken care of; it then changes what the new tree is made of. */
static void damage(struct walk *w, bool is_wanted)
{
	if (is_wanted) {
		w->c->is_tree_damaged = true;
		pml_check_done(w->c, 0);
	} else {
		w->is_left = true;
	}
}

static void add_item(struct walk *w, const struct pml_media_btree_entry *entry)
{
	struct pml_check *c = w->c;
	if (!pml_check_grow(c, &c->item, c->nitems, &c->items_capacity, sizeof(c->item[0])))
		return;
	c->item[c->nitems++] = (struct pml_check_item){
		.key = entry->key,
		.word = {entry->word[0], entry->word[1]},
	};
}

/* The node that a free entry of a tree names; NULL: none. */
static const struct pml_media_btree_node *child_of(const struct pml_check *c, uint64_t offset)
{
	const struct pml_check_object *object = pml_check_object_at(c, offset);
	if (!object || object->type != PML_TYPE_BTREE_NODE || object->is_claimed ||
	    pml_check_object_bytes(object) < sizeof(struct pml_media_btree_node))
		return NULL;
	return pml_at(c->fs, offset);
}

/* The level of a root, if not one of its children agrees with it: that of the first and one. */
static unsigned int root_level(const struct pml_check *c, const struct pml_media_btree_node *root)
{
	unsigned int by_child = 0;
	for (unsigned int i = 0; i < root->nkeys; i++) {
		const struct pml_media_btree_node *child = child_of(c, root->entry[i].word[0]);
		if (!child || child->level + 1 >= PML_BTREE_LEVELS_MAX)
			continue;
		if (root->level == child->level + 1)
			return root->level;
		if (!by_child)
			by_child = child->level + 1u;
	}
	return by_child || root->level >= PML_BTREE_LEVELS_MAX ? by_child : root->level;
}

static void check_fields(struct walk *w, uint64_t offset, struct pml_media_btree_node *node,
			 unsigned int level)
{
	struct pml_check *c = w->c;
	if (node->level != level)
		PML_CHECK_SET(c, PML_CHECK_TREE_FIELD, node->level, (uint16_t)level,
			      "%s: B+tree node at %#" PRIx64 " has level %u, it lies at %u",
			      w->owner, offset, node->level, level);
	if (node->level != level) { /* left: nobody else can read it */
		w->is_left = true;
		c->is_partial = true;
	}
	if (node->reserved)
		PML_CHECK_SET(c, PML_CHECK_TREE_FIELD, node->reserved, 0u,
			      "%s: B+tree node at %#" PRIx64 ": reserved bytes are not 0", w->owner,
			      offset);
	if (node->reserved1)
		PML_CHECK_SET(c, PML_CHECK_TREE_FIELD, node->reserved1, (uint64_t)0,
			      "%s: B+tree node at %#" PRIx64 ": reserved word is not 0", w->owner,
			      offset);
}

/* Takes the node at @offset; NULL: it cannot be read, and that is settled. */
static struct pml_media_btree_node *take_node(struct walk *w, uint64_t offset, struct span bounds)
{
	struct pml_check *c = w->c;
	char fault[64] = "";
	const char *claim = pml_check_claim(c, offset, PML_TYPE_BTREE_NODE,
					    sizeof(struct pml_media_btree_node));
	struct pml_media_btree_node *node = claim ? NULL : pml_at(c->fs, offset);
	if (claim)
		(void)snprintf(fault, sizeof(fault), "names %s", claim);
	else if (node->nkeys < 1 || node->nkeys > PML_BTREE_FANOUT)
		(void)snprintf(fault, sizeof(fault), "has %u keys", node->nkeys);
	else
		return node;
	bool is_wanted =
		pml_check_found(c, PML_CHECK_TREE,
				"%s: B+tree node at %#" PRIx64 " %s: what has keys from %" PRIu64
				" to %" PRIu64 " is lost",
				w->owner, offset, fault, bounds.lo, bounds.hi);
	damage(w, is_wanted);
	return NULL;
}

static struct span walk_node(struct walk *w, uint64_t offset, int level, struct span bounds);

/* Keys of the children must be in the bounds that the node's own keys set. */
static struct span walk_inner(struct walk *w, const struct pml_media_btree_node *node,
			      unsigned int level, struct span bounds, bool *ret_is_ordered)
{
	struct span all = {.is_empty = true};
	bool is_ordered = true;
	for (unsigned int i = 0; i < node->nkeys && !w->c->err; i++) {
		struct span mine = {.lo = i > 0 ? node->entry[i].key : bounds.lo,
				    .hi = i + 1u < node->nkeys ? node->entry[i + 1].key - 1
							       : bounds.hi};
		struct span got = walk_node(w, node->entry[i].word[0], (int)level - 1, mine);
		if (i > 0 && node->entry[i].key <= node->entry[i - 1].key)
			is_ordered = false;
		if (got.is_empty)
			continue;
		if ((i > 0 && got.lo < node->entry[i].key) ||
		    (i + 1u < node->nkeys && got.hi >= node->entry[i + 1].key))
			is_ordered = false;
		all = all.is_empty ? got : (struct span){.lo = all.lo, .hi = got.hi};
	}
	*ret_is_ordered = is_ordered;
	return all;
}

static void report_order(struct walk *w, uint64_t offset)
{
	if (w->is_order_reported)
		return;
	w->is_order_reported = true;
	damage(w, pml_check_found(w->c, PML_CHECK_TREE,
				  "%s: keys of the B+tree node at %#" PRIx64 " are out of order",
				  w->owner, offset));
}

/* @level: where it lies; -1: the root.  Depth is at most PML_BTREE_LEVELS_MAX. */
static struct span walk_node(struct walk *w, uint64_t offset, int level, struct span bounds)
{
	struct pml_check *c = w->c;
	struct pml_media_btree_node *node = take_node(w, offset, bounds);
	if (!node || pml_check_is_over(c))
		return (struct span){.is_empty = true};
	unsigned int at = level < 0 ? root_level(c, node) : (unsigned int)level;
	check_fields(w, offset, node, at);
	if (at > 0) {
		bool is_ordered;
		struct span all = walk_inner(w, node, at, bounds, &is_ordered);
		if (!is_ordered)
			report_order(w, offset);
		return all;
	}
	for (unsigned int i = 0; i < node->nkeys; i++)
		add_item(w, &node->entry[i]);
	return (struct span){.lo = node->entry[0].key, .hi = node->entry[node->nkeys - 1u].key};
}

/* ---- order of the items ---------------------------------------------------- */

/*
 * Marks the items that break the order.  Of two neighbours in the wrong order it is the
 * first if the order is right without it, else the second.
 */
static void mark_misplaced(struct walk *w)
{
	struct pml_check *c = w->c;
	size_t kept[2] = {SIZE_MAX, SIZE_MAX}; /* the last one in order, and the one before */
	for (size_t i = 0; i < c->nitems; i++) {
		struct pml_check_item *item = &c->item[i];
		if (kept[0] != SIZE_MAX && item->key <= c->item[kept[0]].key) {
			bool is_first =
				kept[1] == SIZE_MAX
					? i + 1 < c->nitems &&
						  c->item[i + 1].key <= c->item[kept[0]].key &&
						  c->item[i + 1].key > item->key
					: item->key > c->item[kept[1]].key;
			report_order(w, 0);
			if (!is_first) {
				item->is_misplaced = true;
				continue;
			}
			c->item[kept[0]].is_misplaced = true;
			kept[0] = i;
			continue;
		}
		kept[1] = kept[0];
		kept[0] = i;
	}
}

bool pml_check_tree(struct pml_check *c, const char *owner, uint64_t root)
{
	struct walk w = {.c = c, .owner = owner};
	c->nitems = 0;
	c->is_tree_damaged = false;
	if (root)
		(void)walk_node(&w, root, -1, (struct span){.lo = 0, .hi = UINT64_MAX});
	if (!c->err)
		mark_misplaced(&w);
	return !w.is_left && !c->err;
}

/* ---- making a tree --------------------------------------------------------- */

/* A level of the new tree while it is made: an entry for each node of the one below. */
struct build {
	struct pml_media_btree_entry *entry;
	size_t n;
};

static int fill_node(struct pml_check *c, uint16_t level, const struct pml_media_btree_entry *from,
		     size_t n, struct pml_media_btree_entry *ret_parent)
{
	uint64_t offset;
	int err = pml_tx_alloc(sizeof(struct pml_media_btree_node), PML_TYPE_BTREE_NODE, &offset);
	if (err)
		return err;
	struct pml_media_btree_node *node = pml_at(c->fs, offset);
	node->level = level;
	node->nkeys = (uint16_t)n;
	memcpy(node->entry, from, n * sizeof(from[0]));
	*ret_parent = (struct pml_media_btree_entry){.key = from[0].key, .word = {offset, 0}};
	return 0;
}

/* The nodes of one level; b becomes what the next one is made of. */
static int fill_level(struct pml_check *c, uint16_t level, struct build *b)
{
	size_t nnodes = 0;
	for (size_t i = 0; i < b->n;) {
		struct pml_tx tx;
		int err = pml_tx_begin(c->fs, &tx);
		if (err)
			return err;
		for (size_t k = 0; !err && k < NODES_PER_TX && i < b->n; k++) {
			size_t n = PML_MIN((size_t)PML_BTREE_FANOUT, b->n - i);
			struct pml_media_btree_entry parent;
			err = fill_node(c, level, &b->entry[i], n, &parent);
			/* Behind what has been read. */
			if (!err)
				b->entry[nnodes++] = parent;
			i += n;
		}
		err = pml_tx_end(&tx, err);
		if (err)
			return err;
	}
	b->n = nnodes;
	return 0;
}

static int compare_items(const void *a, const void *b)
{
	const struct pml_check_item *x = a, *y = b;
	return (x->key > y->key) - (x->key < y->key);
}

static int replace(struct pml_check *c, uint64_t *root_slot)
{
	struct build b = {.n = c->nitems};
	if (c->nitems)
		qsort(c->item, c->nitems, sizeof(c->item[0]), compare_items);
	b.entry = calloc(c->nitems + 1, sizeof(b.entry[0]));
	if (!b.entry)
		return -ENOMEM;
	for (size_t i = 0; i < c->nitems; i++)
		b.entry[i] = (struct pml_media_btree_entry){
			.key = c->item[i].key,
			.word = {c->item[i].word[0], c->item[i].word[1]},
		};
	int err = 0;
	uint16_t level = 0;
	do
		err = fill_level(c, level++, &b);
	while (!err && b.n > 1);
	uint64_t root = c->nitems ? b.entry[0].word[0] : 0;
	free(b.entry);
	return err ? err : pml_check_store(c, root_slot, &root, sizeof(root));
}

void pml_check_tree_replace(struct pml_check *c, uint64_t *root_slot)
{
	int err = replace(c, root_slot);
	c->must_restart = true;
	if (!err)
		return;
	/* The findings stand again in the next round, and are left. */
	c->has_failed = true;
	pml_check_note(c, "a B+tree cannot be made anew: %s; nothing more is repaired",
		       strerror(-err));
}
