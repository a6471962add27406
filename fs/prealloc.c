/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * prealloc.c -- blocks for holes, which read as zeros until they are written
 */
#include <string.h>

#include "rewrite.h"
#include "space.h"
#include "tx.h"

/* Maps the holes among one batch of pieces as preallocated blocks. */
static int fill_holes(struct pml_rewrite *rw)
{
	/* Only holes change: shared and preallocated blocks stay as they are. */
	size_t kept = 0;
	for (size_t i = 0; i < rw->n; i++)
		if (rw->piece[i].kind == PML_PIECE_FILL)
			rw->piece[kept++] = rw->piece[i];
	rw->n = kept;
	if (kept == 0)
		return 0;
	int err = pml_rewrite_allocate(rw);
	return err ? err : pml_rewrite_commit(rw, 0);
}

/* Gives back the preallocation that a failed call has made: holes again (I8). */
static void undo_holes(struct pml_inode *inode, const struct pml_extent *holes, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		int err = pml_extent_punch(inode->fs, inode->media, holes[i].file_block,
					   holes[i].file_block + holes[i].nblocks);
		if (err)
			pml_log_warning("inode %lu keeps preallocated blocks after a failed "
					"allocation: %s",
					(unsigned long)inode->ino, strerror(-err));
	}
}

/* The holes of [first, end), at most @max; *ret_end is where the list stops. */
static int list_holes(struct pml_inode *inode, uint64_t first, uint64_t end,
		      struct pml_extent *holes, size_t max, size_t *ret_n, uint64_t *ret_end)
{
	size_t n = 0;
	uint64_t pos = first;
	while (pos < end && n < max) {
		struct pml_extent e;
		int err = pml_extent_at(inode->fs, inode->media, pos, end, &e);
		if (err)
			return err;
		if (!e.block)
			holes[n++] = e;
		pos = e.file_block + e.nblocks;
	}
	*ret_n = n;
	*ret_end = pos;
	return 0;
}

/* Holes filled at a time; a failure undoes the last lot, earlier ones stay preallocated. */
#define HOLES_MAX 4096u

/* Refuses what cannot fit before it takes everybody else's free space on the way. */
static int check_room(const struct pml_fs *fs, const struct pml_extent *holes, size_t n)
{
	struct statvfs st;
	uint64_t wanted = 0;
	for (size_t i = 0; i < n; i++)
		wanted += holes[i].nblocks;
	pml_fs_statvfs(fs, &st);
	return wanted > st.f_bfree ? -ENOSPC : 0;
}

int pml_preallocate_blocks(struct pml_inode *inode, uint64_t first, uint64_t end)
{
	pml_auto_free struct pml_extent *holes = malloc(HOLES_MAX * sizeof(holes[0]));
	if (!holes)
		return -ENOMEM;
	while (first < end) {
		size_t n;
		uint64_t stop;
		int err = list_holes(inode, first, end, holes, HOLES_MAX, &n, &stop);
		if (!err)
			err = check_room(inode->fs, holes, n);
		if (err)
			return err;
		for (uint64_t pos = first; pos < stop;) {
			struct pml_rewrite rw;
			err = pml_rewrite_plan(inode, pos, stop, &rw);
			if (!err)
				err = fill_holes(&rw);
			if (err) {
				undo_holes(inode, holes, n);
				return err;
			}
			pos = rw.end_block;
		}
		first = stop;
	}
	return 0;
}

static int admit_holes(struct pml_inode *inode, uint64_t first, uint64_t end, struct pml_waiter *w)
{
	struct pml_extent hole;
	uint64_t stop;
	size_t n;
	int err = list_holes(inode, first, end, &hole, 1, &n, &stop);
	if (err || n == 0)
		return err;
	return pml_guard_admit(inode, PML_OP_UNSHARE, hole.file_block << PML_BLOCK_SHIFT,
			       end << PML_BLOCK_SHIFT, w);
}

int pml_preallocate_locked(struct pml_inode *inode, bool keeps_size, uint64_t first_byte,
			   uint64_t end_byte, struct pml_waiter *w)
{
	uint64_t first = first_byte >> PML_BLOCK_SHIFT;
	uint64_t end = pml_block_above(end_byte);
	uint64_t size = inode->media->size_bytes;
	bool grows = !keeps_size && end_byte > size;
	bool has_moved;

	int err = admit_holes(inode, first, end, w);
	if (!err && grows)
		err = pml_guard_admit(inode, PML_OP_TRUNCATE, size, end_byte, w);
	if (!err && grows)
		err = pml_tail_admit(inode, w);
	if (!err && grows)
		err = pml_tail_zero(inode, &has_moved);
	if (!err)
		err = pml_preallocate_blocks(inode, first, end);
	if (err)
		return err;

	struct pml_tx tx;
	err = pml_tx_begin(inode->fs, &tx);
	if (err)
		return err;
	if (grows)
		err = PML_TX_SET(inode->media->size_bytes, end_byte);
	if (!err && keeps_size && end_byte > size)
		err = PML_TX_SET(inode->media->flags,
				 inode->media->flags | PML_INODE_KEEPS_PREALLOC);
	if (!err)
		err = pml_inode_touch(inode);
	return pml_tx_end(&tx, err);
}
