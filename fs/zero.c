/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * zero.c -- zeroing a range and keeping its blocks (FALLOC_FL_ZERO_RANGE)
 *
 * What may need space comes first and changes no byte: holes are preallocated, shared
 * blocks copied.  Then one transaction makes the whole blocks preallocated, with the
 * marker where it cannot hold them all, and sets size and times (I8); at last the
 * partial blocks at the edges, which are the file's own by now, are zeroed in place.
 */
#include <string.h>

#include "rewrite.h"
#include "space.h"
#include "tx.h"

struct zero {
	struct pml_inode *inode;
	uint64_t first_byte;
	uint64_t end_byte;
	uint64_t first; /* blocks that the range touches */
	uint64_t end;
	uint64_t whole_first; /* blocks that it covers; equal or crossed: none */
	uint64_t whole_end;
	bool grows;
	bool keeps_size;
};

/* A partial block changes its place when it is a hole or shared. */
static int edge_moves(const struct zero *z, uint64_t file_block, bool *ret_moves)
{
	struct pml_space_survey survey;
	int err = pml_space_survey(z->inode, file_block, file_block + 1, &survey);
	*ret_moves = !err && (survey.nholes || survey.nshared);
	return err;
}

static int admit_zero(const struct zero *z, struct pml_waiter *w)
{
	uint64_t lo = z->whole_first, hi = PML_MAX(z->whole_first, z->whole_end);
	bool moves;
	int err = 0;
	if (z->first < z->whole_first) {
		err = edge_moves(z, z->first, &moves);
		lo = !err && moves ? z->first : lo;
	}
	if (!err && z->end > z->whole_end && z->end > z->whole_first) {
		err = edge_moves(z, z->end - 1, &moves);
		hi = !err && moves ? z->end : hi;
	}
	if (!err && lo < hi)
		err = pml_guard_admit(z->inode, PML_OP_ZERO, lo << PML_BLOCK_SHIFT,
				      hi << PML_BLOCK_SHIFT, w);
	if (!err && z->grows)
		err = pml_guard_admit(z->inode, PML_OP_TRUNCATE, z->inode->media->size_bytes,
				      z->end_byte, w);
	return !err && z->grows ? pml_tail_admit(z->inode, w) : err;
}

/* Everything that may fail for want of space. */
static int own_blocks(const struct zero *z)
{
	struct pml_space_survey survey;
	struct statvfs st;
	int err = pml_space_survey(z->inode, z->first, z->end, &survey);
	if (err)
		return err;
	pml_fs_statvfs(z->inode->fs, &st);
	if (survey.nholes + survey.nshared > st.f_bfree)
		return -ENOSPC;
	bool has_moved;
	if (z->grows)
		err = pml_tail_zero(z->inode, &has_moved);
	if (!err)
		err = pml_preallocate_blocks(z->inode, z->first, z->end);
	return err ? err : pml_unshare_blocks(z->inode, z->first, z->end);
}

static int commit_zero(const struct zero *z)
{
	struct pml_media_inode *media = z->inode->media;
	struct pml_tx tx;
	int err = pml_tx_begin(z->inode->fs, &tx);
	if (err)
		return err;
	if (z->whole_first < z->whole_end)
		err = pml_extent_zero_begin(z->inode->fs, media, z->whole_first, z->whole_end);
	if (!err && z->grows)
		err = PML_TX_SET(media->size_bytes, z->end_byte);
	if (!err && z->keeps_size && z->end_byte > media->size_bytes)
		err = PML_TX_SET(media->flags, media->flags | PML_INODE_KEEPS_PREALLOC);
	if (!err)
		err = pml_inode_touch(z->inode);
	return pml_tx_end(&tx, err);
}

/* Zeroes bytes of one block where they are; nothing to do where they read as zeros. */
static int zero_edge(const struct zero *z, uint64_t first_byte, uint64_t end_byte)
{
	if (first_byte >= end_byte)
		return 0;
	const struct pml_fs *fs = z->inode->fs;
	uint64_t file_block = first_byte >> PML_BLOCK_SHIFT;
	struct pml_extent e;
	int err = pml_extent_at(fs, z->inode->media, file_block, file_block + 1, &e);
	if (err || !e.block || e.is_unwritten)
		return err;
	pml_data_zero(fs, pml_block_addr(fs, e.block) + first_byte % PML_BLOCK_BYTES,
		      end_byte - first_byte);
	pml_data_drain(fs);
	return 0;
}

static int zero_edges(const struct zero *z)
{
	uint64_t head_end = PML_MIN(z->end_byte, z->whole_first << PML_BLOCK_SHIFT);
	int err = zero_edge(z, z->first_byte, head_end);
	/* Inside one block the head is all there is. */
	if (!err && z->whole_first <= z->whole_end)
		err = zero_edge(z, z->whole_end << PML_BLOCK_SHIFT, z->end_byte);
	return err;
}

int pml_zero_locked(struct pml_inode *inode, bool keeps_size, uint64_t first_byte,
		    uint64_t end_byte, struct pml_waiter *w)
{
	struct zero z = {
		.inode = inode,
		.first_byte = first_byte,
		.end_byte = end_byte,
		.first = first_byte >> PML_BLOCK_SHIFT,
		.end = pml_block_above(end_byte),
		.whole_first = pml_block_above(first_byte),
		.whole_end = end_byte >> PML_BLOCK_SHIFT,
		.grows = !keeps_size && end_byte > inode->media->size_bytes,
		.keeps_size = keeps_size,
	};
	int err = admit_zero(&z, w);
	if (!err)
		err = own_blocks(&z);
	if (!err)
		err = commit_zero(&z);
	if (!err)
		err = zero_edges(&z);
	if (err)
		return err;
	/* It has happened; what this cannot finish the next change of the file does. */
	err = pml_extent_punch_resume(inode->fs, inode->media);
	if (err)
		pml_log_warning("inode %lu: zeroing is finished later: %s",
				(unsigned long)inode->ino, strerror(-err));
	return 0;
}
