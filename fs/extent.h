/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * extent.h -- a file's map from file blocks to device blocks
 *
 * Looking calls need the inode's lock, changing calls need it exclusively and a
 * transaction.  Changes of counters are never made here: a transaction may roll
 * back.  The caller collects what was unmapped in a struct pml_unmapped and drops
 * the shares after the commit.
 */
#ifndef PML_FS_EXTENT_H
#define PML_FS_EXTENT_H

#include "btree.h"
#include "inode.h"

struct pml_extent {
	uint64_t file_block;
	uint64_t block;	   /* on the device; 0: a hole */
	uint64_t nblocks;  /* at least 1; for a hole up to the next extent or the asked end */
	bool is_unwritten; /* allocated, reads as zeros */
};

/* The extents that one transaction may unmap; more work means more transactions. */
#define PML_UNMAP_MAX 512u

struct pml_unmapped {
	size_t n;
	const struct pml_media_inode *owner; /* set with the first run; NULL: none mapped them */
	struct {
		uint64_t block;
		uint64_t nblocks;
		uint64_t file_block;
	} run[PML_UNMAP_MAX];
};

/*
 * The extent or hole at @file_block, clipped to begin there and to end at @end_block.
 * Blocks under the punch marker are holes.
 * Validates what it reads: -EIO on blocks outside groups or overlapping extents.
 */
int pml_extent_at(const struct pml_fs *fs, const struct pml_media_inode *inode, uint64_t file_block,
		  uint64_t end_block, struct pml_extent *ret_extent) PML_MUST_CHECK;

/*
 * Maps [extent->file_block, +nblocks), a hole until now, to extent->block; merges with its
 * neighbours where they adjoin.  Updates nblocks.
 */
int pml_extent_map(struct pml_fs *fs, struct pml_media_inode *inode,
		   const struct pml_extent *extent) PML_MUST_CHECK;

/* May @right, an extent or a run of blocks behind @left, become one extent with it? */
bool pml_extent_adjoin(const struct pml_fs *fs, const struct pml_extent *left,
		       const struct pml_extent *right);

/*
 * Unmaps what is mapped in [first, end), splitting extents at its ends, and appends it to
 * @unmapped.  Stops after PML_UNMAP_MAX extents: *ret_next is where to go on (@end: done).
 */
int pml_extent_unmap(struct pml_fs *fs, struct pml_media_inode *inode, uint64_t first, uint64_t end,
		     struct pml_unmapped *unmapped, uint64_t *ret_next) PML_MUST_CHECK;

/* Drops the shares of what was unmapped, and the hints of sharers.h.  After the commit. */
void pml_unmapped_drop(struct pml_fs *fs, const struct pml_unmapped *unmapped);

/*
 * Unmapping a range of any number of extents, all or nothing:
 *
 *	in the caller's transaction: pml_extent_punch_begin()
 *	after its commit:            pml_unmapped_drop(), pml_extent_punch_resume()
 *
 * What one transaction cannot hold is noted in the inode's punch marker: from the
 * commit on these blocks read as holes, and resume unmaps them in transactions of its
 * own; should that fail or the machine stop, the next change of the file or the next
 * mount goes on.  No other change may be made while the marker stands.
 */
int pml_extent_punch_begin(struct pml_fs *fs, struct pml_media_inode *inode, uint64_t first,
			   uint64_t end, struct pml_unmapped *ret_unmapped) PML_MUST_CHECK;
int pml_extent_punch_resume(struct pml_fs *fs, struct pml_media_inode *inode) PML_MUST_CHECK;
/*
 * As pml_extent_punch_begin(), but blocks stay mapped and become preallocated; shared ones
 * too.  What one transaction cannot hold goes under the marker with
 * PML_INODE_MARKER_ZEROES, and pml_extent_punch_resume() goes on with it.
 */
int pml_extent_zero_begin(struct pml_fs *fs, struct pml_media_inode *inode, uint64_t first,
			  uint64_t end) PML_MUST_CHECK;
/* Both, in transactions of its own.  Touches no times and no size. */
int pml_extent_punch(struct pml_fs *fs, struct pml_media_inode *inode, uint64_t first,
		     uint64_t end) PML_MUST_CHECK;

/*
 * Calls @visit for each extent on the device in order, also those under the punch marker,
 * until it returns non-zero, which is returned.
 */
typedef int (*pml_extent_visit)(void *arg, const struct pml_extent *extent);

/* The item of an extent, to build a tree with. */
struct pml_btree_item pml_extent_item(const struct pml_extent *e);
int pml_extent_walk(const struct pml_fs *fs, const struct pml_media_inode *inode,
		    uint64_t from_block, pml_extent_visit visit, void *arg) PML_MUST_CHECK;

#endif
