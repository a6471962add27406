/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * lend.c -- what a lease does to a file: pin a range, commit it, trim behind it
 *
 * Before a range is lent for writing every block of it is this file's alone and
 * holds nothing foreign (I5, I6): shared blocks are copied, holes and preallocated
 * blocks zeroed.  Blocks past the end of the file stay marked as preallocated, so
 * that whatever the remote writer puts there reads as zeros until it commits.
 */
#include "pml/fs.h"

#include <string.h>

#include "aside.h"
#include "pin.h"
#include "rewrite.h"
#include "tx.h"

/* ---- before a write lease ---- */

/* Zeroes preallocated blocks, but those that another holder may have written. */
static void zero_unlent(const struct pml_fs *fs, uint64_t block, uint64_t nblocks)
{
	for (uint64_t i = 0; i < nblocks; i++)
		if (!pml_pin_is_written(fs, block + i))
			pml_data_zero(fs, pml_block_addr(fs, block + i), PML_BLOCK_BYTES);
}

/* Gives fresh blocks their contents: zeros, or the copy of the shared block. */
static void fill_pieces(const struct pml_rewrite *rw)
{
	const struct pml_fs *fs = rw->inode->fs;
	for (size_t i = 0; i < rw->n; i++) {
		const struct pml_piece *piece = &rw->piece[i];
		uint8_t *addr = pml_block_addr(fs, piece->block);
		size_t bytes = piece->nblocks << PML_BLOCK_SHIFT;
		if (piece->kind == PML_PIECE_COPY)
			pml_data_copy(fs, addr, pml_block_addr(fs, piece->old_block), bytes);
		else if (piece->kind == PML_PIECE_CONVERT)
			zero_unlent(fs, piece->block, piece->nblocks);
		else if (piece->kind != PML_PIECE_IN_PLACE)
			pml_data_zero(fs, addr, bytes);
		if (piece->kind != PML_PIECE_IN_PLACE)
			pml_data_settle(fs, addr, bytes);
	}
	pml_data_drain(fs);
}

/* One transaction of the preparation; *ret_end: how far it came. */
static int own_some(struct pml_inode *inode, uint64_t first, uint64_t end, uint64_t *ret_end)
{
	struct pml_rewrite rw;
	int err = pml_rewrite_plan(inode, first, end, &rw);
	if (!err)
		err = pml_rewrite_allocate(&rw);
	if (err)
		return err;
	*ret_end = rw.end_block;
	if (rw.move_first == rw.move_end)
		return 0;
	fill_pieces(&rw);
	return pml_rewrite_commit(&rw, pml_block_above(inode->media->size_bytes));
}

/*
 * Is the last block under a write lease?  Then its tail was zeroed at the grant, and what
 * is there now the holder has written.
 */
static int is_tail_lent(struct pml_inode *inode, bool *ret_is_lent)
{
	uint64_t block = inode->media->size_bytes >> PML_BLOCK_SHIFT;
	struct pml_extent e;
	int err = pml_extent_at(inode->fs, inode->media, block, block + 1, &e);
	*ret_is_lent = !err && e.block && pml_pin_is_written(inode->fs, e.block);
	return err;
}

/* Makes every block of the range the file's own (I5) and clean (I6). */
static int own_range(struct pml_inode *inode, uint64_t first_byte, uint64_t end_byte)
{
	uint64_t pos = first_byte >> PML_BLOCK_SHIFT;
	uint64_t end = pml_block_above(end_byte);
	while (pos < end) {
		int err = own_some(inode, pos, end, &pos);
		if (err)
			return err;
	}
	bool has_moved, is_lent = false;
	uint64_t size = inode->media->size_bytes;
	/* The holder reaches what lies behind the end of the file in its last block. */
	if (first_byte > size || end_byte <= size)
		return 0;
	int err = is_tail_lent(inode, &is_lent);
	return err || is_lent ? err : pml_tail_zero(inode, &has_moved);
}

/* ---- pins ---- */

struct gather {
	struct pml_inode *inode;
	uint64_t first_byte; /* of the range */
	uint64_t end_byte;
	bool for_write;
	struct pml_segment *segment;
	size_t max;
	size_t n;
	bool is_full;
};

/* Adds [first, end) at @block; prolongs the last segment where it adjoins. */
static void add_run(struct gather *g, const struct pml_extent *e)
{
	uint64_t first = PML_MAX(e->file_block << PML_BLOCK_SHIFT, g->first_byte);
	uint64_t end = PML_MIN((e->file_block + e->nblocks) << PML_BLOCK_SHIFT, g->end_byte);
	struct pml_segment *last = g->n ? &g->segment[g->n - 1] : NULL;

	if (last && last->first_byte + last->len_bytes == first &&
	    last->block + last->nblocks == e->block) {
		last->len_bytes += end - first;
		last->nblocks += e->nblocks;
		return;
	}
	if (g->n == g->max) {
		g->is_full = true;
		g->end_byte = first;
		return;
	}
	g->segment[g->n++] = (struct pml_segment){
		.first_byte = first,
		.len_bytes = end - first,
		.addr = pml_block_addr(g->inode->fs, e->block) + first % PML_BLOCK_BYTES,
		.block = e->block,
		.nblocks = e->nblocks,
	};
}

static int gather_segments(struct gather *g)
{
	uint64_t pos = g->first_byte >> PML_BLOCK_SHIFT;
	uint64_t end = pml_block_above(g->end_byte);
	while (pos < end && !g->is_full) {
		struct pml_extent e;
		int err = pml_extent_at(g->inode->fs, g->inode->media, pos, end, &e);
		if (err)
			return err;
		assert(e.block || !g->for_write);
		if (e.block && (g->for_write || !e.is_unwritten))
			add_run(g, &e);
		pos = e.file_block + e.nblocks;
	}
	return 0;
}

static int pin_segments(struct pml_fs *fs, const struct gather *g)
{
	for (size_t i = 0; i < g->n; i++) {
		int err = pml_pin_add(fs, g->segment[i].block, g->segment[i].nblocks, g->for_write);
		if (err) {
			while (i-- > 0)
				pml_pin_drop(fs, g->segment[i].block, g->segment[i].nblocks);
			return err;
		}
	}
	return 0;
}

/* How far from file block @pos on blocks are lent for writing, or are not; at most to @end. */
static int same_lending(struct pml_inode *inode, uint64_t pos, uint64_t end, uint64_t *ret_next,
			bool *ret_is_lent)
{
	struct pml_extent e;
	int err = pml_extent_at(inode->fs, inode->media, pos, end, &e);
	if (err)
		return err;
	uint64_t n = e.nblocks;
	*ret_is_lent = e.block && pml_pin_is_written(inode->fs, e.block);
	for (uint64_t i = 1; e.block && i < n; i++)
		if (pml_pin_is_written(inode->fs, e.block + i) != *ret_is_lent)
			n = i;
	*ret_next = pos + n;
	return 0;
}

/* Frees what lies past the end of the file in [first, end) bytes (pml_file_trim()). */
static void trim_locked(struct pml_inode *inode, uint64_t first_byte, uint64_t end_byte)
{
	uint64_t pos =
		PML_MAX(first_byte >> PML_BLOCK_SHIFT, pml_block_above(inode->media->size_bytes));
	uint64_t end = pml_block_above(end_byte);
	if (inode->media->flags & PML_INODE_KEEPS_PREALLOC)
		return;
	while (pos < end) {
		uint64_t next;
		bool is_lent;
		int err = same_lending(inode, pos, end, &next, &is_lent);
		if (!err && !is_lent)
			err = pml_extent_punch(inode->fs, inode->media, pos, next);
		if (err) {
			pml_log_warning("inode %lu keeps uncommitted blocks past its end: %s",
					(unsigned long)inode->ino, strerror(-err));
			return;
		}
		pos = next;
	}
}

static int pin_for_read_locked(struct gather *g)
{
	uint64_t size = g->inode->media->size_bytes;
	if (g->first_byte >= size)
		return -ENODATA;
	g->end_byte = PML_MIN(g->end_byte, size);
	int err = gather_segments(g);
	return err ? err : pin_segments(g->inode->fs, g);
}

static int pin_for_write_locked(struct gather *g)
{
	struct pml_inode *inode = g->inode;
	uint64_t asked_end = g->end_byte;
	/* What the holder writes is not seen here: as if a stranger did. */
	static const struct pml_cred stranger = {.uid = (uid_t)-1, .gid = (gid_t)-1};
	bool has_dropped;
	int err = pml_inode_drop_privileges_locked(inode, &stranger, &has_dropped);
	if (!err)
		err = pml_extent_punch_resume(inode->fs, inode->media);
	if (err)
		return err;
	err = own_range(inode, g->first_byte, g->end_byte);
	if (!err)
		err = gather_segments(g);
	if (!err)
		err = pin_segments(inode->fs, g);
	if (!err)
		atomic_fetch_add(&inode->remote_writers, 1);
	/* What was prepared and not lent. */
	trim_locked(inode, err ? g->first_byte : g->end_byte, asked_end);
	return err;
}

/* For reading beside writers: the blocks are the file's own already when those come (I4). */
static int pin_owned_locked(struct gather *g)
{
	uint64_t size = g->inode->media->size_bytes;
	if (g->first_byte >= size)
		return -ENODATA;
	g->end_byte = PML_MIN(g->end_byte, size);
	int err = pml_extent_punch_resume(g->inode->fs, g->inode->media);
	if (!err)
		err = own_range(g->inode, g->first_byte, g->end_byte);
	if (!err)
		err = gather_segments(g);
	return err ? err : pin_segments(g->inode->fs, g);
}

static int pin_owned(struct gather *g)
{
	int err = pml_inode_begin_change(g->inode);
	if (err)
		return err;
	err = pin_owned_locked(g);
	pml_inode_end_change(g->inode);
	return err;
}

static int pin_for_read(struct gather *g)
{
	/* The inode's lock is enough, and a read-only filesystem lends too. */
	pthread_rwlock_rdlock(&g->inode->fs->audit_lock);
	pthread_rwlock_rdlock(&g->inode->lock);
	int err = pin_for_read_locked(g);
	pthread_rwlock_unlock(&g->inode->lock);
	pthread_rwlock_unlock(&g->inode->fs->audit_lock);
	return err;
}

static int pin_for_write(struct gather *g)
{
	g->first_byte = pml_round_down(g->first_byte, PML_BLOCK_BYTES);
	g->end_byte = pml_round_up(g->end_byte, PML_BLOCK_BYTES);
	if (g->end_byte > (uint64_t)PML_FILE_BYTES_MAX)
		return -EFBIG;
	int err = pml_inode_begin_change(g->inode);
	if (err)
		return err;
	err = pin_for_write_locked(g);
	pml_inode_end_change(g->inode);
	return err;
}

int pml_file_pin(struct pml_inode *inode, uint64_t first_byte, uint64_t len_bytes,
		 enum pml_pin_kind kind, struct pml_segment *segments, size_t max,
		 size_t *ret_count, uint64_t *ret_end)
{
	static int (*const pin[])(struct gather * g) = {
		[PML_PIN_READ] = pin_for_read,
		[PML_PIN_WRITE] = pin_for_write,
		[PML_PIN_OWNED_READ] = pin_owned,
	};
	if (len_bytes == 0 || max == 0 || !pml_inode_is_file(inode))
		return -EINVAL;
	if (len_bytes > (uint64_t)PML_FILE_BYTES_MAX ||
	    first_byte > (uint64_t)PML_FILE_BYTES_MAX - len_bytes)
		return -EFBIG;
	struct gather g = {
		.inode = inode,
		.first_byte = first_byte,
		.end_byte = first_byte + len_bytes,
		.for_write = kind == PML_PIN_WRITE,
		.segment = segments,
		.max = max,
	};
	int err = pin[kind](&g);
	if (err)
		return err;
	*ret_count = g.n;
	*ret_end = g.end_byte;
	return 0;
}

void pml_fs_unpin(struct pml_fs *fs, const struct pml_segment *segment)
{
	pthread_rwlock_rdlock(&fs->audit_lock);
	pml_pin_drop(fs, segment->block, segment->nblocks);
	pthread_rwlock_unlock(&fs->audit_lock);
}

/* ---- commit and trim ---- */

/* Makes the NIC's bytes in the range durable. */
static int flush_range(struct pml_inode *inode, uint64_t first, uint64_t end)
{
	uint64_t pos = first >> PML_BLOCK_SHIFT;
	uint64_t stop = pml_block_above(end);
	while (pos < stop) {
		struct pml_extent e;
		int err = pml_extent_at(inode->fs, inode->media, pos, stop, &e);
		if (err)
			return err;
		if (e.block)
			pml_data_persist(inode->fs, pml_block_addr(inode->fs, e.block),
					 e.nblocks << PML_BLOCK_SHIFT);
		pos = e.file_block + e.nblocks;
	}
	return 0;
}

/* Makes preallocated blocks in [first, end) readable: the NIC has filled them. */
static int publish_range(struct pml_inode *inode, uint64_t first, uint64_t end)
{
	uint64_t pos = first;
	while (pos < end) {
		struct pml_extent e;
		int err = pml_extent_at(inode->fs, inode->media, pos, end, &e);
		if (err)
			return err;
		if (e.block && e.is_unwritten) {
			struct pml_unmapped same = {.n = 0};
			uint64_t next;
			err = pml_extent_unmap(inode->fs, inode->media, e.file_block,
					       e.file_block + e.nblocks, &same, &next);
			e.is_unwritten = false;
			if (!err)
				err = pml_extent_map(inode->fs, inode->media, &e);
			if (err)
				return err;
		}
		pos = e.file_block + e.nblocks;
	}
	return 0;
}

static int commit_in_tx(struct pml_inode *inode, uint64_t first, uint64_t end, uint64_t size)
{
	int err = publish_range(inode, first >> PML_BLOCK_SHIFT,
				PML_MIN(pml_block_above(end), pml_block_above(size)));
	if (!err && size != inode->media->size_bytes)
		err = PML_TX_SET(inode->media->size_bytes, size);
	return err ? err : pml_inode_touch(inode);
}

/* A shared last block moves, perhaps from under another's lease: not unasked (I4). */
static int clear_tail(struct pml_inode *inode, struct pml_waiter *w)
{
	bool has_moved;
	int err = w ? pml_tail_admit(inode, w) : pml_tail_probe(inode);
	return err ? err : pml_tail_zero(inode, &has_moved);
}

static int commit_locked(struct pml_inode *inode, uint64_t first, uint64_t end, uint64_t new_size,
			 bool is_durable, struct pml_waiter *w)
{
	uint64_t size = PML_MAX(inode->media->size_bytes, new_size);
	bool is_lent = false;
	int err = pml_extent_punch_resume(inode->fs, inode->media);
	if (!err && !is_durable)
		err = flush_range(inode, first, end);
	if (!err && size > inode->media->size_bytes)
		err = is_tail_lent(inode, &is_lent);
	if (!err && size > inode->media->size_bytes && !is_lent)
		err = clear_tail(inode, w);
	if (err)
		return err;
	struct pml_tx tx;
	err = pml_tx_begin(inode->fs, &tx);
	return err ? err : pml_tx_end(&tx, commit_in_tx(inode, first, end, size));
}

int pml_file_commit(struct pml_inode *inode, uint64_t first_byte, uint64_t len_bytes,
		    uint64_t new_size_bytes, bool is_durable, struct pml_waiter *w)
{
	if (new_size_bytes > (uint64_t)PML_FILE_BYTES_MAX)
		return -EFBIG;
	pml_step_aside_at_tail(inode, new_size_bytes);
	int err = pml_inode_begin_change(inode);
	if (err)
		return err;
	err = commit_locked(inode, first_byte, first_byte + len_bytes, new_size_bytes, is_durable,
			    w);
	pml_inode_end_change(inode);
	return err;
}

void pml_file_trim(struct pml_inode *inode, uint64_t first_byte, uint64_t end_byte)
{
	if (pml_inode_begin_change(inode))
		return;
	trim_locked(inode, first_byte, end_byte);
	pml_inode_end_change(inode);
}
