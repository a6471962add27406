/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * shift.c -- collapse and insert: what lies behind a range moves
 *
 * The new map is built beside the old one and takes its place in one transaction
 * (spare.h), so the change is all or nothing however many extents move (I8).  No data
 * is touched: offsets are whole blocks, so every byte keeps its place in its block, the
 * undefined ones behind the end too.
 */
#include "pml/fs.h"

#include "alloc.h"
#include "rewrite.h"
#include "sharers.h"
#include "spare.h"
#include "tx.h"

struct shift {
	struct pml_inode *inode;
	uint64_t first; /* file blocks [first, end) are taken out or put in */
	uint64_t end;
	bool is_insert;
	uint64_t new_size;
	struct pml_spare spare;
};

/* The part of @e in [lo, hi); no blocks when it is empty. */
static struct pml_extent part_of(const struct pml_extent *e, uint64_t lo, uint64_t hi)
{
	lo = PML_MAX(lo, e->file_block);
	hi = PML_MIN(hi, e->file_block + e->nblocks);
	return (struct pml_extent){
		.file_block = lo,
		.block = e->block + (lo - e->file_block),
		.nblocks = lo < hi ? hi - lo : 0,
		.is_unwritten = e->is_unwritten,
	};
}

/* The part of @e in [lo, hi), moved to @to; nothing when it is empty. */
static int add_part(struct shift *s, const struct pml_extent *e, uint64_t lo, uint64_t hi,
		    uint64_t to)
{
	struct pml_extent part = part_of(e, lo, hi);
	part.file_block = to;
	return part.nblocks ? pml_spare_add(&s->spare, &part) : 0;
}

/* Adds to the new map what becomes of an extent of the old one. */
static int move_extent(void *arg, const struct pml_extent *e)
{
	struct shift *s = arg;
	int err = add_part(s, e, 0, s->first, e->file_block);
	if (err)
		return err;
	uint64_t behind = s->is_insert ? s->first : s->end;
	uint64_t lo = PML_MAX(behind, e->file_block);
	uint64_t to = s->is_insert ? lo + (s->end - s->first) : lo - (s->end - s->first);
	return add_part(s, e, behind, UINT64_MAX, to);
}

static int build(struct shift *s)
{
	struct pml_tx tx;
	int err = pml_spare_begin(&s->spare, &tx, s->inode);
	if (err)
		return err;
	err = pml_extent_walk(s->inode->fs, s->inode->media, 0, move_extent, s);
	return pml_spare_end(&s->spare, err);
}

static int exchange(struct shift *s)
{
	struct pml_tx tx;
	int err = pml_tx_begin(s->inode->fs, &tx);
	if (err)
		return err;
	err = pml_spare_exchange(s->inode, s->spare.nblocks);
	if (!err)
		err = PML_TX_SET(s->inode->media->size_bytes, s->new_size);
	if (!err)
		err = pml_inode_touch(s->inode);
	return pml_tx_end(&tx, err);
}

/*
 * Drops the shares of an extent of the old map that the new one has no more; hints who shares
 * what is left of it move with it.  1: nothing is to be done behind it.
 */
static int leave_extent(void *arg, const struct pml_extent *e)
{
	const struct shift *s = arg;
	struct pml_inode *inode = s->inode;
	uint64_t len = s->end - s->first;
	if (!s->is_insert) {
		struct pml_extent gone = part_of(e, s->first, s->end);
		if (gone.nblocks)
			pml_alloc_unshare(inode->fs, gone.block, gone.nblocks);
		pml_sharers_drop(inode->fs, inode->media, &gone);
	}
	if (!pml_sharers_are_known(inode->fs))
		return s->is_insert || e->file_block >= s->end;
	struct pml_extent moved = part_of(e, s->is_insert ? s->first : s->end, UINT64_MAX);
	uint64_t to = s->is_insert ? moved.file_block + len : moved.file_block - len;
	pml_sharers_move(inode->fs, inode->ino, inode->media, &moved, to);
	return 0;
}

static int shift_locked(struct shift *s)
{
	struct pml_fs *fs = s->inode->fs;
	int err = build(s);
	if (err)
		return err;
	err = exchange(s);
	if (err) {
		pml_spare_drop(fs, s->inode->media);
		return err;
	}
	/* From here on it has happened; the old map is the spare tree. */
	const struct pml_media_inode old = {.tree = s->inode->media->spare_tree};
	err = pml_extent_walk(fs, &old, s->first, leave_extent, s);
	if (err < 0 && !s->is_insert)
		pml_log_warning("inode %lu: blocks that were collapsed are free after the next "
				"mount only",
				(unsigned long)s->inode->ino);
	pml_spare_drop(fs, s->inode->media);
	return 0;
}

/* -ENOENT: nothing is mapped. */
static int last_mapped(const struct pml_inode *inode, uint64_t *ret_end_block)
{
	struct pml_btree_item item;
	int err = pml_btree_floor(inode->fs, inode->media->tree, UINT64_MAX, &item);
	if (!err)
		*ret_end_block = item.key + (item.word[1] & PML_EXTENT_BLOCKS_MASK);
	return err;
}

static int check_collapse(struct shift *s)
{
	uint64_t size = s->inode->media->size_bytes;
	if (s->end << PML_BLOCK_SHIFT >= size)
		return -EINVAL;
	s->new_size = size - ((s->end - s->first) << PML_BLOCK_SHIFT);
	return 0;
}

static int check_insert(struct shift *s)
{
	uint64_t size = s->inode->media->size_bytes;
	uint64_t len = (s->end - s->first) << PML_BLOCK_SHIFT;
	if (s->first << PML_BLOCK_SHIFT >= size)
		return -EINVAL;
	if (len > (uint64_t)PML_FILE_BYTES_MAX - size)
		return -EFBIG;
	s->new_size = size + len;
	/* What is preallocated behind the end moves too. */
	uint64_t mapped_end;
	int err = last_mapped(s->inode, &mapped_end);
	if (err)
		return err == -ENOENT ? 0 : err;
	uint64_t limit = (uint64_t)PML_FILE_BYTES_MAX >> PML_BLOCK_SHIFT;
	return mapped_end > limit - (s->end - s->first) ? -EFBIG : 0;
}

static int shift_range(struct pml_inode *inode, uint64_t first_byte, uint64_t len_bytes,
		       bool is_insert, struct pml_waiter *w)
{
	if (!pml_inode_is_file(inode))
		return pml_inode_is_dir(inode) ? -EISDIR : -EINVAL;
	if (len_bytes == 0 || first_byte % PML_BLOCK_BYTES || len_bytes % PML_BLOCK_BYTES)
		return -EINVAL;
	if (first_byte > (uint64_t)PML_FILE_BYTES_MAX ||
	    len_bytes > (uint64_t)PML_FILE_BYTES_MAX - first_byte)
		return is_insert ? -EFBIG : -EINVAL;
	struct shift s = {
		.inode = inode,
		.first = first_byte >> PML_BLOCK_SHIFT,
		.end = (first_byte + len_bytes) >> PML_BLOCK_SHIFT,
		.is_insert = is_insert,
	};
	int err = pml_inode_begin_change(inode);
	if (err)
		return err;
	err = pml_extent_punch_resume(inode->fs, inode->media);
	if (!err)
		err = is_insert ? check_insert(&s) : check_collapse(&s);
	if (!err)
		err = pml_guard_admit(inode, is_insert ? PML_OP_INSERT : PML_OP_COLLAPSE,
				      first_byte, UINT64_MAX, w);
	if (!err)
		err = shift_locked(&s);
	pml_inode_end_change(inode);
	return err;
}

int pml_file_collapse(struct pml_inode *inode, uint64_t first_byte, uint64_t len_bytes,
		      struct pml_waiter *w)
{
	return shift_range(inode, first_byte, len_bytes, false, w);
}

int pml_file_insert(struct pml_inode *inode, uint64_t first_byte, uint64_t len_bytes,
		    struct pml_waiter *w)
{
	return shift_range(inode, first_byte, len_bytes, true, w);
}
