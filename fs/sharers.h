/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * sharers.h -- which files map a shared block: hints from the device's blocks back to files
 *
 * In DRAM only, and no truth: who uses a hint looks at the file's extent under its lock, and
 * compares the number of files found with the block's shares.  So a hint that is missing or
 * stale never does harm.
 *
 * Nothing is noted before pml_sharers_learn() is called for the first time, by who needs it: it
 * walks all extents once.  From then on hints are noted when blocks become shared (clone,
 * dedupe, snapshot), for both sides, and moved and dropped with the extents.  What makes a
 * hint missing:
 *   - the block had more than PML_SHARERS_MAX shares when it was shared once more;
 *   - its region holds PML_SHARERS_REGION_MAX hints that are in use, or the whole table one
 *     for each 8 blocks of the device (I9), or there was no memory;
 *   - a file that maps the block twice moved both mappings by an insertion.
 * Memory: 32 bytes per hint (up to 64, as tables double) and 288 bytes per region that has
 * some: 11 bytes per block of the device at most.  Files that share nothing have no hints.
 *
 * Threads: any; who notes, moves or drops holds the audit lock, and the owner's lock
 * exclusively (or nobody else can: snapshot, the end of a deleted inode).
 */
#ifndef PML_FS_SHARERS_H
#define PML_FS_SHARERS_H

#include "extent.h"

struct pml_sharers;

/* One of a block's sharers as far as it is known. */
struct pml_sharer {
	uint64_t ino;
	uint64_t file_block;
};

#define PML_SHARERS_MAX	       9u    /* of one block that are worth being known */
#define PML_SHARERS_REGION_MAX 1024u /* hints for 128 blocks of the device */

int pml_sharers_new(struct pml_fs *fs) PML_MUST_CHECK;
void pml_sharers_free(struct pml_fs *fs);

/* Have all sharers been noted? */
bool pml_sharers_are_known(const struct pml_fs *fs);
/*
 * Notes all sharers there are, unless that was done.  Takes the audit lock exclusively: all
 * changes wait for a walk over all extents.  -EIO: the device contradicts itself, or it did
 * when this was called first; nothing is known then until the next mount.
 */
int pml_sharers_learn(struct pml_fs *fs) PML_MUST_CHECK;

/* Inode @ino at slot @owner maps @e, whose blocks are shared. */
void pml_sharers_note(struct pml_fs *fs, uint64_t ino, const struct pml_media_inode *owner,
		      const struct pml_extent *e);
/*
 * After the commit of a clone: from @src_block of @src to @dst_block of inode @dst_ino, the
 * runs of @shared with the file blocks of @src.
 */
void pml_sharers_note_clone(const struct pml_inode *src, uint64_t dst_ino,
			    const struct pml_media_inode *dst, uint64_t src_block,
			    uint64_t dst_block, const struct pml_unmapped *shared);
/* It maps @e no more.  After the blocks' shares were dropped: the last sharer's hint goes too. */
void pml_sharers_drop(struct pml_fs *fs, const struct pml_media_inode *owner,
		      const struct pml_extent *e);
/* It maps the blocks of @e from @file_block on now. */
void pml_sharers_move(struct pml_fs *fs, uint64_t ino, const struct pml_media_inode *owner,
		      const struct pml_extent *e, uint64_t file_block);

/*
 * Who is said to map @block; returns how many, of which @max are in @ret_sharers at most.
 * *n: blocks from there on with the same answer, at most what it was.
 */
size_t pml_sharers_at(const struct pml_fs *fs, uint64_t block, uint64_t *n,
		      struct pml_sharer *ret_sharers, size_t max);

/* All hints there are. */
uint64_t pml_sharers_count(const struct pml_fs *fs);

#endif
