/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * interval.c -- an intrusive treap of intervals
 *
 * Threads: the owner of the tree locks.
 */
#include "interval.h"

enum { LEFT, RIGHT };

static struct pml_place place(uint64_t ino, uint64_t byte)
{
	return (struct pml_place){.ino = ino, .byte = byte};
}

static bool is_before(struct pml_place a, struct pml_place b)
{
	return a.ino != b.ino ? a.ino < b.ino : a.byte < b.byte;
}

static void refresh_max_end(struct pml_interval *node)
{
	node->max_end = node->end;
	for (int side = LEFT; side <= RIGHT; side++) {
		const struct pml_interval *child = node->child[side];
		if (child && is_before(node->max_end, child->max_end))
			node->max_end = child->max_end;
	}
}

static void refresh_up(struct pml_interval *node)
{
	for (; node; node = node->parent)
		refresh_max_end(node);
}

/* Puts @node (or nothing) where @old hangs below its parent. */
static void replace(struct pml_interval_tree *tree, const struct pml_interval *old,
		    struct pml_interval *node)
{
	struct pml_interval *parent = old->parent;
	if (!parent)
		tree->root = node;
	else
		parent->child[parent->child[RIGHT] == old] = node;
	if (node)
		node->parent = parent;
}

/* Makes @node the parent of its parent, keeping the order. */
static void rotate_up(struct pml_interval_tree *tree, struct pml_interval *node)
{
	struct pml_interval *parent = node->parent;
	int side = parent->child[RIGHT] == node;
	struct pml_interval *inner = node->child[!side];

	replace(tree, parent, node);
	node->child[!side] = parent;
	parent->parent = node;
	parent->child[side] = inner;
	if (inner)
		inner->parent = parent;
	refresh_max_end(parent);
	refresh_max_end(node);
}

void pml_interval_tree_init(struct pml_interval_tree *tree)
{
	*tree = (struct pml_interval_tree){.seed = 2463534242u};
}

/* xorshift32 (Marsaglia 2003): balance needs no better randomness. */
static uint32_t next_priority(struct pml_interval_tree *tree)
{
	uint32_t x = tree->seed;
	x ^= x << 13;
	x ^= x >> 17;
	x ^= x << 5;
	tree->seed = x;
	return x;
}

void pml_interval_insert(struct pml_interval_tree *tree, struct pml_interval *node, uint64_t ino,
			 uint64_t first_byte, uint64_t end_byte)
{
	assert(first_byte < end_byte);
	*node = (struct pml_interval){.first = place(ino, first_byte),
				      .end = place(ino, end_byte),
				      .max_end = place(ino, end_byte),
				      .priority = next_priority(tree)};

	struct pml_interval **spot = &tree->root;
	while (*spot) {
		node->parent = *spot;
		spot = &(*spot)->child[!is_before(node->first, (*spot)->first)];
	}
	*spot = node;
	refresh_up(node->parent);
	while (node->parent && node->parent->priority < node->priority)
		rotate_up(tree, node);
}

void pml_interval_remove(struct pml_interval_tree *tree, struct pml_interval *node)
{
	while (node->child[LEFT] && node->child[RIGHT]) {
		bool right = node->child[RIGHT]->priority > node->child[LEFT]->priority;
		rotate_up(tree, node->child[right]);
	}
	struct pml_interval *only = node->child[LEFT] ? node->child[LEFT] : node->child[RIGHT];
	replace(tree, node, only);
	refresh_up(node->parent);
	*node = (struct pml_interval){0};
}

/*
 * The first match at or below @node, which has some end behind @first.  If the left
 * subtree reaches behind @first, its first node that does is the match or there is
 * none: whatever comes later begins even later.
 */
static struct pml_interval *search(struct pml_interval *node, struct pml_place first,
				   struct pml_place end)
{
	for (;;) {
		struct pml_interval *left = node->child[LEFT];
		if (left && is_before(first, left->max_end)) {
			node = left;
			continue;
		}
		if (!is_before(node->first, end))
			return NULL;
		if (is_before(first, node->end))
			return node;
		struct pml_interval *right = node->child[RIGHT];
		if (!right || !is_before(first, right->max_end))
			return NULL;
		node = right;
	}
}

struct pml_interval *pml_interval_first(const struct pml_interval_tree *tree, uint64_t ino,
					uint64_t first_byte, uint64_t end_byte)
{
	struct pml_place first = place(ino, first_byte);
	if (!tree->root || !is_before(first, tree->root->max_end))
		return NULL;
	return search(tree->root, first, place(ino, end_byte));
}

struct pml_interval *pml_interval_next(struct pml_interval *node, uint64_t ino, uint64_t first_byte,
				       uint64_t end_byte)
{
	struct pml_place first = place(ino, first_byte);
	struct pml_place end = place(ino, end_byte);
	for (;;) {
		struct pml_interval *right = node->child[RIGHT];
		if (right && is_before(first, right->max_end))
			return search(right, first, end);

		struct pml_interval *came_from;
		do {
			came_from = node;
			node = node->parent;
			if (!node)
				return NULL;
		} while (node->child[RIGHT] == came_from);
		if (!is_before(node->first, end))
			return NULL;
		if (is_before(first, node->end))
			return node;
	}
}
