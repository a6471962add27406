/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * spare.h -- a second extent tree beside a file's own: how a whole map changes at once
 *
 * A change that moves any number of extents builds the new map under the inode's
 * spare_tree, in many transactions which nobody sees, and then exchanges the two trees in
 * one.  The old map is freed afterwards.  The extents of a spare tree hold no shares:
 * whatever a crash leaves of it is freed by the next mount, or by the next such change.
 *
 * All calls need the inode's lock exclusively (or the mount).
 */
#ifndef PML_FS_SPARE_H
#define PML_FS_SPARE_H

#include "extent.h"

struct pml_spare {
	struct pml_fs *fs;
	struct pml_media_inode *inode;
	struct pml_tx *tx;	   /* open while building */
	struct pml_extent pending; /* may grow yet; nblocks 0: none */
	unsigned int ninserted;	   /* in this transaction */
	uint64_t nblocks;	   /* of all extents that were added */
	bool has_tx;
};

/*
 * Building: begin, add the extents in ascending order, end.  Not inside a transaction.
 * After an error of add, end it too: the tree is freed then.
 */
int pml_spare_begin(struct pml_spare *ret_spare, struct pml_tx *tx,
		    struct pml_inode *inode) PML_MUST_CHECK;
int pml_spare_add(struct pml_spare *spare, const struct pml_extent *e) PML_MUST_CHECK;
/* @err 0: the tree is complete.  Returns @err, or the error of the last transaction. */
int pml_spare_end(struct pml_spare *spare, int err) PML_MUST_CHECK;

/* In a transaction: the spare tree becomes the map, the map the spare tree. */
int pml_spare_exchange(struct pml_inode *inode, uint64_t nblocks) PML_MUST_CHECK;

/* Frees the spare tree, if there is one, in transactions of its own. */
int pml_spare_free(struct pml_fs *fs, struct pml_media_inode *inode) PML_MUST_CHECK;
/* The same; what cannot be freed now is by the next such change, or the next mount. */
void pml_spare_drop(struct pml_fs *fs, struct pml_media_inode *inode);

#endif
