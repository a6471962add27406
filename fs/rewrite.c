/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * rewrite.c -- copy-on-write, hole filling and conversion of preallocated blocks
 *
 * The counter of a block that this inode maps can only be raised by a clone of
 * this inode while it has one share, which needs this inode's lock: so "one
 * share" stays true while the lock is held exclusively (I5).
 */
#include "rewrite.h"

#include "alloc.h"
#include "pin.h"
#include "tx.h"

int pml_guard_admit(struct pml_inode *inode, enum pml_layout_op op, uint64_t first, uint64_t end,
		    struct pml_waiter *w)
{
	const struct pml_guard_ops *ops = inode->fs->guard_ops;
	if (!ops)
		return 0;
	/* A resumed or cancelled operation must hear its verdict even if the lease is gone. */
	if (!(w && (w->is_queued || w->verdict)) &&
	    !ops->may_be_leased(inode->fs->guard, inode->ino))
		return 0;
	struct pml_layout_change change = {
		.ino = inode->ino,
		.first_byte = first,
		.end_byte = end,
		.op = op,
		.writers_only = op == PML_OP_CLONE_SRC || op == PML_OP_SNAPSHOT,
	};
	return ops->admit(inode->fs->guard, &change, w);
}

int pml_guard_probe(struct pml_inode *inode, enum pml_layout_op op, uint64_t first, uint64_t end)
{
	const struct pml_guard_ops *ops = inode->fs->guard_ops;
	if (!ops || !ops->may_be_leased(inode->fs->guard, inode->ino))
		return 0;
	const struct pml_layout_change change = {
		.ino = inode->ino,
		.first_byte = first,
		.end_byte = end,
		.op = op,
		.is_probe = true,
	};
	return ops->admit(inode->fs->guard, &change, NULL);
}

uint64_t pml_same_sharing(const struct pml_fs *fs, uint64_t block, uint64_t n, bool *ret_shared)
{
	bool is_shared = pml_block_shares(fs, block) > 1;
	uint64_t len = 1;
	while (len < n && (pml_block_shares(fs, block + len) > 1) == is_shared)
		len++;
	*ret_shared = is_shared;
	return len;
}

static struct pml_piece next_piece(const struct pml_fs *fs, const struct pml_extent *e)
{
	struct pml_piece piece = {
		.file_block = e->file_block,
		.nblocks = e->nblocks,
		.block = e->block,
	};
	if (!e->block) {
		piece.kind = PML_PIECE_FILL;
	} else if (e->is_unwritten) {
		piece.kind = PML_PIECE_CONVERT;
	} else {
		bool is_shared;
		piece.nblocks = pml_same_sharing(fs, e->block, e->nblocks, &is_shared);
		piece.kind = is_shared ? PML_PIECE_COPY : PML_PIECE_IN_PLACE;
		if (is_shared) {
			piece.old_block = e->block;
			piece.block = 0;
		}
	}
	return piece;
}

int pml_rewrite_plan(struct pml_inode *inode, uint64_t first, uint64_t end,
		     struct pml_rewrite *ret_rw)
{
	assert(first < end);
	ret_rw->inode = inode;
	ret_rw->first_block = first;
	ret_rw->move_first = ret_rw->move_end = first;
	ret_rw->n = 0;

	uint64_t pos = first;
	while (pos < end && ret_rw->n < PML_PIECES_MAX) {
		struct pml_extent e;
		int err = pml_extent_at(inode->fs, inode->media, pos, end, &e);
		if (err)
			return err;
		struct pml_piece piece = next_piece(inode->fs, &e);
		if (piece.kind != PML_PIECE_IN_PLACE) {
			if (ret_rw->move_first == ret_rw->move_end)
				ret_rw->move_first = pos;
			ret_rw->move_end = pos + piece.nblocks;
		}
		ret_rw->piece[ret_rw->n++] = piece;
		pos += piece.nblocks;
	}
	ret_rw->end_block = pos;
	return 0;
}

int pml_rewrite_admit(const struct pml_rewrite *rw, struct pml_waiter *w)
{
	if (rw->move_first == rw->move_end)
		return 0;
	return pml_guard_admit(rw->inode, PML_OP_UNSHARE, rw->move_first << PML_BLOCK_SHIFT,
			       rw->move_end << PML_BLOCK_SHIFT, w);
}

static bool needs_blocks(const struct pml_piece *piece)
{
	return piece->kind == PML_PIECE_FILL || piece->kind == PML_PIECE_COPY;
}

/* Where the block in front of @file_block lies, plus one: keeps a file contiguous. */
static uint64_t goal_for(const struct pml_rewrite *rw, uint64_t file_block)
{
	struct pml_extent e;
	if (file_block == 0 ||
	    pml_extent_at(rw->inode->fs, rw->inode->media, file_block - 1, file_block, &e))
		return 0;
	return e.block ? e.block + 1 : 0;
}

/* Appends what one allocation gives to @piece; the rest of it stays in *@piece. */
static int allocate_some(struct pml_rewrite *rw, struct pml_piece *piece, uint64_t *goal)
{
	uint64_t block = piece->block, n = piece->nblocks;
	if (needs_blocks(piece)) {
		const struct pml_alloc_wish wish = {
			.want = piece->nblocks,
			.goal = *goal,
			.ino = rw->inode->ino,
			.file_block = piece->file_block,
		};
		int err = pml_alloc_take_for(rw->inode->fs, &wish, &block, &n);
		if (err)
			return err;
	}
	*goal = block + n;
	struct pml_piece *part = &rw->piece[rw->n++];
	*part = *piece;
	part->block = block;
	part->nblocks = n;
	piece->file_block += n;
	piece->nblocks -= n;
	if (piece->old_block)
		piece->old_block += n;
	else if (piece->block)
		piece->block += n;
	return 0;
}

int pml_rewrite_allocate(struct pml_rewrite *rw)
{
	if (rw->move_first == rw->move_end)
		return 0;

	pml_auto_free struct pml_piece *planned = malloc(rw->n * sizeof(planned[0]));
	if (!planned)
		return -ENOMEM;
	size_t nplanned = rw->n;
	for (size_t i = 0; i < nplanned; i++)
		planned[i] = rw->piece[i];

	rw->n = 0;
	uint64_t goal = goal_for(rw, rw->first_block);
	for (size_t i = 0; i < nplanned; i++) {
		while (planned[i].nblocks > 0) {
			if (rw->n == PML_PIECES_MAX) {
				rw->end_block = planned[i].file_block;
				return 0;
			}
			int err = allocate_some(rw, &planned[i], &goal);
			if (err) {
				pml_rewrite_abort(rw);
				return err;
			}
		}
	}
	return 0;
}

void pml_rewrite_abort(const struct pml_rewrite *rw)
{
	for (size_t i = 0; i < rw->n; i++)
		if (needs_blocks(&rw->piece[i]))
			pml_alloc_unshare(rw->inode->fs, rw->piece[i].block, rw->piece[i].nblocks);
}

/* Maps [first, +n) of a fresh piece; its old extent is gone already. */
static int map_part(const struct pml_rewrite *rw, const struct pml_piece *piece, uint64_t first,
		    uint64_t end, bool is_unwritten)
{
	struct pml_extent e = {
		.file_block = first,
		.block = piece->block + (first - piece->file_block),
		.nblocks = end - first,
		.is_unwritten = is_unwritten,
	};
	return first < end ? pml_extent_map(rw->inode->fs, rw->inode->media, &e) : 0;
}

static int map_piece(const struct pml_rewrite *rw, const struct pml_piece *piece,
		     uint64_t unwritten_from, struct pml_unmapped *unmapped)
{
	uint64_t end = piece->file_block + piece->nblocks;
	uint64_t border = PML_MIN(PML_MAX(unwritten_from, piece->file_block), end);
	uint64_t next;
	int err = 0;

	if (piece->kind == PML_PIECE_COPY) {
		border = end; /* a copy of readable bytes is readable */
		err = pml_extent_unmap(rw->inode->fs, rw->inode->media, piece->file_block, end,
				       unmapped, &next);
	} else if (piece->kind == PML_PIECE_CONVERT) {
		/* The same blocks come back: their share is neither dropped nor taken. */
		struct pml_unmapped same = {.n = 0};
		err = pml_extent_unmap(rw->inode->fs, rw->inode->media, piece->file_block, end,
				       &same, &next);
	}
	if (!err)
		err = map_part(rw, piece, piece->file_block, border, false);
	if (!err)
		err = map_part(rw, piece, border, end, true);
	return err;
}

int pml_rewrite_map(const struct pml_rewrite *rw, uint64_t unwritten_from,
		    struct pml_unmapped *unmapped)
{
	for (size_t i = 0; i < rw->n; i++) {
		if (rw->piece[i].kind == PML_PIECE_IN_PLACE)
			continue;
		int err = map_piece(rw, &rw->piece[i], unwritten_from, unmapped);
		if (err)
			return err;
	}
	return 0;
}

int pml_rewrite_commit(const struct pml_rewrite *rw, uint64_t unwritten_from)
{
	struct pml_unmapped unmapped = {.n = 0};
	struct pml_tx tx;
	int err = pml_tx_begin(rw->inode->fs, &tx);
	if (!err)
		err = pml_tx_end(&tx, pml_rewrite_map(rw, unwritten_from, &unmapped));
	if (err)
		pml_rewrite_abort(rw);
	else
		pml_unmapped_drop(rw->inode->fs, &unmapped);
	return err;
}

/* ---- the last block of a file ---- */

/* Plans the block that the end of the file lies in; n == 0: nothing readable is there. */
static int plan_tail(struct pml_inode *inode, struct pml_rewrite *rw)
{
	uint64_t size = inode->media->size_bytes;
	uint64_t block = size >> PML_BLOCK_SHIFT;
	rw->n = 0;
	if (size % PML_BLOCK_BYTES == 0)
		return 0;
	int err = pml_rewrite_plan(inode, block, block + 1, rw);
	if (!err && rw->piece[0].kind != PML_PIECE_IN_PLACE && rw->piece[0].kind != PML_PIECE_COPY)
		rw->n = 0;
	return err;
}

int pml_tail_admit(struct pml_inode *inode, struct pml_waiter *w)
{
	struct pml_rewrite rw;
	int err = plan_tail(inode, &rw);
	return err || rw.n == 0 ? err : pml_rewrite_admit(&rw, w);
}

int pml_tail_probe(struct pml_inode *inode)
{
	struct pml_rewrite rw;
	int err = plan_tail(inode, &rw);
	if (err || rw.n == 0 || rw.move_first == rw.move_end)
		return err;
	return pml_guard_probe(inode, PML_OP_UNSHARE, rw.move_first << PML_BLOCK_SHIFT,
			       rw.move_end << PML_BLOCK_SHIFT);
}

int pml_tail_zero(struct pml_inode *inode, bool *ret_moved)
{
	struct pml_fs *fs = inode->fs;
	size_t keep = inode->media->size_bytes % PML_BLOCK_BYTES;
	struct pml_rewrite rw;
	int err = plan_tail(inode, &rw);
	if (!err && rw.n)
		err = pml_rewrite_allocate(&rw);
	if (err)
		return err;
	*ret_moved = false;
	if (rw.n == 0)
		return 0;

	uint8_t *addr = pml_block_addr(fs, rw.piece[0].block);
	bool is_copy = rw.piece[0].kind == PML_PIECE_COPY;
	if (is_copy)
		pml_data_copy(fs, addr, pml_block_addr(fs, rw.piece[0].old_block), keep);
	pml_data_zero(fs, addr + keep, PML_BLOCK_BYTES - keep);
	pml_data_settle(fs, addr, PML_BLOCK_BYTES);
	pml_data_drain(fs);
	if (!is_copy)
		return 0;

	err = pml_rewrite_commit(&rw, UINT64_MAX);
	if (err)
		return err;
	*ret_moved = true;
	return 0;
}
