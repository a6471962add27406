/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * reflink.h -- two ranges that come to map the same blocks: what clone and dedupe share
 */
#ifndef PML_FS_REFLINK_H
#define PML_FS_REFLINK_H

#include "extent.h"

struct pml_clone {
	struct pml_inode *src;
	struct pml_inode *dst;
	uint64_t src_byte;
	uint64_t dst_byte;
	uint64_t len;
	struct pml_waiter *w;
	bool keeps_times; /* of the destination: its bytes stay the same */
};

/*
 * Both locks, by inode number (docs/locking.md), and the audit lock once; finishes what
 * punches have left.  Before that others step aside where the destination grows (aside.h).
 * -EISDIR or -EINVAL not regular files; -EROFS.
 */
int pml_clone_begin(const struct pml_clone *c) PML_MUST_CHECK;
void pml_clone_end(const struct pml_clone *c);

/* Do the two ranges, of one file, overlap? */
bool pml_clone_overlaps(const struct pml_clone *c);

/*
 * Shares whole blocks in one transaction, fewer than @n when they lie in many extents; @n
 * counts a last partial block as whole.  The guard has been asked.  *ret_blocks: how many.
 * -EMLINK: a block has as many shares as it can.
 */
int pml_clone_share(const struct pml_clone *c, uint64_t n, uint64_t *ret_blocks) PML_MUST_CHECK;

/*
 * In a transaction: maps the readable extents of [src_block, +*n) of @src at @dst_block of
 * @dst, a hole until now; *n: blocks done, may shrink.  The shares that were taken are in
 * @shared, empty at first: after the commit pml_sharers_note_clone(), drop them when the
 * transaction fails.  What remote writers have left in them is durable then.
 */
int pml_clone_map(const struct pml_inode *src, struct pml_media_inode *dst, uint64_t src_block,
		  uint64_t dst_block, uint64_t *n, struct pml_unmapped *shared) PML_MUST_CHECK;

#endif
