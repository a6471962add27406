/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * interval.h -- finds the ranges that overlap a range, among those of all inodes
 *
 * A treap (a search tree kept balanced by random priorities) ordered by inode,
 * then first byte; each node knows the largest end below it, which prunes a
 * search as in the kernel's include/linux/interval_tree_generic.h.  Ranges of
 * one inode are neighbours, so a search never walks another inode's ranges:
 * O(log all) for each one found.  Nodes are embedded; nothing is allocated (I7).
 *
 * Threads: the owner of the tree locks.
 */
#ifndef PML_LEASE_INTERVAL_H
#define PML_LEASE_INTERVAL_H

#include "pml/base.h"

/* A byte of an inode.  (Not an __int128: its alignment does not suit pml_list_for_each().) */
struct pml_place {
	uint64_t ino;
	uint64_t byte;
};

struct pml_interval {
	struct pml_interval *parent;
	struct pml_interval *child[2]; /* left, right */
	struct pml_place first;
	struct pml_place end;	  /* exclusive */
	struct pml_place max_end; /* of this node and all below it */
	uint32_t priority;	  /* not above the parent's */
};

struct pml_interval_tree {
	struct pml_interval *root;
	uint32_t seed; /* of the priorities */
};

void pml_interval_tree_init(struct pml_interval_tree *tree);

/* Adds @node, which is in no tree, with this range.  Ranges may overlap and be equal. */
void pml_interval_insert(struct pml_interval_tree *tree, struct pml_interval *node, uint64_t ino,
			 uint64_t first_byte, uint64_t end_byte);
/* Assumes: @node is in @tree. */
void pml_interval_remove(struct pml_interval_tree *tree, struct pml_interval *node);

/* The first range, by first byte, that overlaps this one; NULL: none. */
struct pml_interval *pml_interval_first(const struct pml_interval_tree *tree, uint64_t ino,
					uint64_t first_byte, uint64_t end_byte);
/* The one behind @node that overlaps too.  Assumes: the tree is as it was at pml_interval_first().
 */
struct pml_interval *pml_interval_next(struct pml_interval *node, uint64_t ino, uint64_t first_byte,
				       uint64_t end_byte);

#endif
