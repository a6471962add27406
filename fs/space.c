/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * space.c -- truncate and punch
 *
 * Bytes behind the end of the file in its last block are undefined; whoever moves
 * the end up zeroes them first (pml_tail_zero()).  So truncating down changes no
 * data and needs no free block, even when the last block is shared.
 */
#include "pml/fs.h"

#include <fcntl.h>

#include "aside.h"
#include "rewrite.h"
#include "space.h"
#include "tx.h"

static int check_file(const struct pml_inode *inode)
{
	if (pml_inode_is_file(inode))
		return 0;
	return pml_inode_is_dir(inode) ? -EISDIR : -EINVAL;
}

/* Times and size in one transaction. */
static int set_size(struct pml_inode *inode, uint64_t size)
{
	struct pml_tx tx;
	int err = pml_tx_begin(inode->fs, &tx);
	if (err)
		return err;
	err = PML_TX_SET(inode->media->size_bytes, size);
	if (!err)
		err = pml_inode_touch(inode);
	return pml_tx_end(&tx, err);
}

static int grow_locked(struct pml_inode *inode, uint64_t size, struct pml_waiter *w)
{
	bool has_moved;
	int err = pml_guard_admit(inode, PML_OP_TRUNCATE, inode->media->size_bytes, size, w);
	if (!err)
		err = pml_tail_admit(inode, w);
	if (!err)
		err = pml_tail_zero(inode, &has_moved);
	return err ? err : set_size(inode, size);
}

static int shrink_locked(struct pml_inode *inode, uint64_t size, struct pml_waiter *w)
{
	int err = pml_guard_admit(inode, PML_OP_TRUNCATE, size, UINT64_MAX, w);
	if (err)
		return err;

	struct pml_unmapped unmapped;
	struct pml_tx tx;
	err = pml_tx_begin(inode->fs, &tx);
	if (err)
		return err;
	err = PML_TX_SET(inode->media->size_bytes, size);
	if (!err)
		err = pml_inode_touch(inode);
	if (!err)
		err = PML_TX_SET(inode->media->flags,
				 inode->media->flags & ~PML_INODE_KEEPS_PREALLOC);
	if (!err)
		err = pml_extent_punch_begin(inode->fs, inode->media, pml_block_above(size),
					     UINT64_MAX, &unmapped);
	err = pml_tx_end(&tx, err);
	if (err)
		return err;
	pml_unmapped_drop(inode->fs, &unmapped);
	return pml_extent_punch_resume(inode->fs, inode->media);
}

int pml_file_truncate(struct pml_inode *inode, uint64_t size_bytes, struct pml_waiter *w)
{
	int err = check_file(inode);
	if (!err && size_bytes > (uint64_t)PML_FILE_BYTES_MAX)
		err = -EFBIG;
	if (err)
		return err;
	pml_step_aside_at_tail(inode, size_bytes);
	err = pml_inode_begin_change(inode);
	if (err)
		return err;

	err = pml_extent_punch_resume(inode->fs, inode->media);
	if (!err && size_bytes > inode->media->size_bytes)
		err = grow_locked(inode, size_bytes, w);
	else if (!err && size_bytes < inode->media->size_bytes)
		err = shrink_locked(inode, size_bytes, w);
	else if (!err)
		err = set_size(inode, size_bytes);
	pml_inode_end_change(inode);
	return err;
}

/* ---- punch ---- */

/* The partial block of a punch that [first, end) lies in; nothing when it is empty. */
struct edge {
	uint64_t first;
	uint64_t end;
	struct pml_rewrite rw; /* n == 0: reads as zeros already */
};

static int plan_edge(struct pml_inode *inode, struct edge *edge)
{
	edge->rw.n = 0;
	if (edge->first >= edge->end)
		return 0;
	uint64_t block = edge->first >> PML_BLOCK_SHIFT;
	int err = pml_rewrite_plan(inode, block, block + 1, &edge->rw);
	enum pml_piece_kind kind = edge->rw.piece[0].kind;
	if (!err && kind != PML_PIECE_IN_PLACE && kind != PML_PIECE_COPY)
		edge->rw.n = 0;
	return err;
}

/* Zeroes the bytes of an edge; a shared block is copied around them, in the transaction. */
static int zero_edge(struct edge *edge, struct pml_unmapped *unmapped)
{
	if (edge->rw.n == 0 || edge->rw.piece[0].kind == PML_PIECE_IN_PLACE)
		return 0;
	const struct pml_fs *fs = edge->rw.inode->fs;
	uint8_t *block = pml_block_addr(fs, edge->rw.piece[0].block);
	pml_data_copy(fs, block, pml_block_addr(fs, edge->rw.piece[0].old_block), PML_BLOCK_BYTES);
	pml_data_zero(fs, block + edge->first % PML_BLOCK_BYTES, edge->end - edge->first);
	pml_data_settle(fs, block, PML_BLOCK_BYTES);
	pml_data_drain(fs);
	return pml_rewrite_map(&edge->rw, UINT64_MAX, unmapped);
}

/* After the commit: an edge that is nobody else's is zeroed where it is. */
static void zero_edge_in_place(const struct edge *edge)
{
	if (edge->rw.n == 0 || edge->rw.piece[0].kind != PML_PIECE_IN_PLACE)
		return;
	const struct pml_fs *fs = edge->rw.inode->fs;
	pml_data_zero(fs,
		      pml_block_addr(fs, edge->rw.piece[0].block) + edge->first % PML_BLOCK_BYTES,
		      edge->end - edge->first);
	pml_data_drain(fs);
}

struct punch {
	struct pml_inode *inode;
	uint64_t first_block; /* whole blocks */
	uint64_t end_block;
	struct edge head;
	struct edge tail;
};

static int plan_punch(struct punch *p, uint64_t first, uint64_t end)
{
	p->first_block = pml_block_above(first);
	p->end_block = end >> PML_BLOCK_SHIFT;
	p->head.first = first;
	p->head.end = PML_MIN(end, p->first_block << PML_BLOCK_SHIFT);
	/* Inside one block the head is all there is. */
	p->tail.first = p->first_block > p->end_block ? end : p->end_block << PML_BLOCK_SHIFT;
	p->tail.end = end;
	int err = plan_edge(p->inode, &p->head);
	return err ? err : plan_edge(p->inode, &p->tail);
}

static int admit_punch(const struct punch *p, struct pml_waiter *w)
{
	int err = 0;
	if (p->first_block < p->end_block)
		err = pml_guard_admit(p->inode, PML_OP_PUNCH, p->first_block << PML_BLOCK_SHIFT,
				      p->end_block << PML_BLOCK_SHIFT, w);
	if (!err && p->head.rw.n)
		err = pml_rewrite_admit(&p->head.rw, w);
	if (!err && p->tail.rw.n)
		err = pml_rewrite_admit(&p->tail.rw, w);
	return err;
}

static int commit_punch(struct punch *p, struct pml_unmapped *middle, struct pml_unmapped *edges)
{
	struct pml_tx tx;
	int err = pml_tx_begin(p->inode->fs, &tx);
	if (err)
		return err;
	err = zero_edge(&p->head, edges);
	if (!err)
		err = zero_edge(&p->tail, edges);
	if (!err && p->first_block < p->end_block)
		err = pml_extent_punch_begin(p->inode->fs, p->inode->media, p->first_block,
					     p->end_block, middle);
	if (!err)
		err = pml_inode_touch(p->inode);
	return pml_tx_end(&tx, err);
}

static int punch_locked(struct pml_inode *inode, uint64_t first, uint64_t end, struct pml_waiter *w)
{
	struct punch p = {.inode = inode};
	int err = plan_punch(&p, first, end);
	if (!err)
		err = admit_punch(&p, w);
	if (!err && p.head.rw.n)
		err = pml_rewrite_allocate(&p.head.rw);
	if (err)
		return err;
	if (p.tail.rw.n)
		err = pml_rewrite_allocate(&p.tail.rw);
	if (err) {
		pml_rewrite_abort(&p.head.rw);
		return err;
	}

	struct pml_unmapped middle = {.n = 0}, edges = {.n = 0};
	err = commit_punch(&p, &middle, &edges);
	if (err) {
		pml_rewrite_abort(&p.head.rw);
		pml_rewrite_abort(&p.tail.rw);
		return err;
	}
	pml_unmapped_drop(inode->fs, &edges);
	pml_unmapped_drop(inode->fs, &middle);
	zero_edge_in_place(&p.head);
	zero_edge_in_place(&p.tail);
	return pml_extent_punch_resume(inode->fs, inode->media);
}

int pml_file_allocate(struct pml_inode *inode, int mode, uint64_t first_byte, uint64_t len_bytes,
		      struct pml_waiter *w)
{
	bool is_punch = mode == (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE);
	bool is_zero = (mode & ~FALLOC_FL_KEEP_SIZE) == FALLOC_FL_ZERO_RANGE;
	bool keeps_size = mode & FALLOC_FL_KEEP_SIZE;
	if (!is_punch && !is_zero && mode != 0 && mode != FALLOC_FL_KEEP_SIZE)
		return -EOPNOTSUPP;
	uint64_t end_byte;
	if (len_bytes == 0)
		return -EINVAL;
	if (__builtin_add_overflow(first_byte, len_bytes, &end_byte) ||
	    end_byte > (uint64_t)PML_FILE_BYTES_MAX)
		return -EFBIG;
	int err = check_file(inode);
	if (err)
		return err;
	if (is_punch || is_zero)
		pml_step_aside_at_edges(inode, first_byte, end_byte);
	if (!keeps_size)
		pml_step_aside_at_tail(inode, end_byte);
	err = pml_inode_begin_change(inode);
	if (err)
		return err;

	err = pml_extent_punch_resume(inode->fs, inode->media);
	if (!err && is_punch)
		err = punch_locked(inode, first_byte, end_byte, w);
	else if (!err && is_zero)
		err = pml_zero_locked(inode, keeps_size, first_byte, end_byte, w);
	else if (!err)
		err = pml_preallocate_locked(inode, keeps_size, first_byte, end_byte, w);
	pml_inode_end_change(inode);
	return err;
}
