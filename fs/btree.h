/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * btree.h -- persistent B+tree: 64-bit key -> two 64-bit words
 *
 * Used for extent maps (key: file block) and directories (key: name hash).
 * A tree is named by the 8-byte slot that holds its root's offset (0: empty).
 * Changing calls run inside a transaction and under the owner's lock held
 * exclusively; looking calls under that lock held for reading.
 *
 * A node that becomes empty is freed; nodes are not merged before that.  Node
 * contents come from the device: levels must descend by one, key counts and
 * offsets are checked, -EIO otherwise (pml_corrupt()), so every walk is bounded
 * by PML_BTREE_LEVELS_MAX.
 */
#ifndef PML_FS_BTREE_H
#define PML_FS_BTREE_H

#include "pool.h"

struct pml_btree_item {
	uint64_t key;
	uint64_t word[2];
};

/* The item with the largest key <= @key / the smallest key >= @key.  -ENOENT: there is none. */
int pml_btree_floor(const struct pml_fs *fs, uint64_t root, uint64_t key,
		    struct pml_btree_item *ret_item) PML_MUST_CHECK;
int pml_btree_ceil(const struct pml_fs *fs, uint64_t root, uint64_t key,
		   struct pml_btree_item *ret_item) PML_MUST_CHECK;

/*
 * Calls @visit for each item with key >= @from in ascending order until it returns
 * non-zero, which is then returned.  O(1) per item.  @visit must not change the tree.
 */
typedef int (*pml_btree_visit)(void *arg, const struct pml_btree_item *item);
int pml_btree_walk(const struct pml_fs *fs, uint64_t root, uint64_t from, pml_btree_visit visit,
		   void *arg) PML_MUST_CHECK;
/* Calls @visit with the offset of each node (for the audit and the checker). */
int pml_btree_nodes(const struct pml_fs *fs, uint64_t root,
		    int (*visit)(void *arg, uint64_t offset), void *arg) PML_MUST_CHECK;

/* -EEXIST: @item->key is there; -ENOSPC. */
int pml_btree_insert(struct pml_fs *fs, uint64_t *root_slot,
		     const struct pml_btree_item *item) PML_MUST_CHECK;
/* Changes the words of an existing key.  -ENOENT. */
int pml_btree_update(struct pml_fs *fs, uint64_t *root_slot,
		     const struct pml_btree_item *item) PML_MUST_CHECK;
/*
 * Frees the last @max_leaves leaves, or fewer where there are no more, whatever they hold:
 * how a tree that means nothing any more goes, piece by piece.
 */
int pml_btree_prune(struct pml_fs *fs, uint64_t *root_slot, unsigned int max_leaves) PML_MUST_CHECK;
/* -ENOENT. */
int pml_btree_remove(struct pml_fs *fs, uint64_t *root_slot, uint64_t key) PML_MUST_CHECK;

#endif
