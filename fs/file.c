/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * file.c -- reading, writing and syncing file data
 *
 * New blocks get their bytes before the transaction that maps them, bytes behind
 * the old end of the file before the transaction that moves the end, and bytes
 * overwritten in place after everything that can fail.  So a failed write changed
 * nothing (I8), and a crash shows at worst a torn overwrite.
 */
#include "pml/fs.h"

#include <limits.h>

#include "aside.h"
#include "rewrite.h"
#include "tx.h"

/* What holes read as. */
static uint8_t zeros[PML_IO_BYTES_MAX];

int pml_file_read_begin(struct pml_inode *inode, uint64_t first_byte, size_t len_bytes,
			struct iovec *iov, int *ret_iovcnt, size_t *ret_bytes)
{
	if (len_bytes > PML_IO_BYTES_MAX)
		return -EINVAL;
	if (!pml_inode_is_file(inode))
		return pml_inode_is_dir(inode) ? -EISDIR : -EINVAL;

	pthread_rwlock_rdlock(&inode->lock);
	uint64_t size = inode->media->size_bytes;
	uint64_t pos = PML_MIN(first_byte, size);
	uint64_t end = pos + PML_MIN(size - pos, len_bytes);
	size_t total = end - pos;
	int n = 0;

	while (pos < end) {
		uint64_t file_block = pos >> PML_BLOCK_SHIFT;
		struct pml_extent e;
		int err = pml_extent_at(inode->fs, inode->media, file_block,
					pml_round_up(end, PML_BLOCK_BYTES) >> PML_BLOCK_SHIFT, &e);
		if (err) {
			pthread_rwlock_unlock(&inode->lock);
			return err;
		}
		uint64_t stop = PML_MIN((e.file_block + e.nblocks) << PML_BLOCK_SHIFT, end);
		bool is_zero = !e.block || e.is_unwritten;
		assert(n < PML_IOV_MAX);
		iov[n].iov_base =
			is_zero ? zeros
				: pml_block_addr(inode->fs, e.block) + pos % PML_BLOCK_BYTES;
		iov[n].iov_len = stop - pos;
		n++;
		pos = stop;
	}
	*ret_iovcnt = n;
	*ret_bytes = total;
	return 0;
}

void pml_file_read_end(struct pml_inode *inode)
{
	pthread_rwlock_unlock(&inode->lock);
}

/* One write under way; bytes [first, end) of the file. */
struct write {
	struct pml_inode *inode;
	const uint8_t *data;
	uint64_t first;
	uint64_t end;
	uint64_t old_size;
	struct pml_rewrite rw;
};

static uint8_t *piece_addr(const struct write *wr, const struct pml_piece *piece, uint64_t byte)
{
	return pml_block_addr(wr->inode->fs, piece->block) +
	       (byte - (piece->file_block << PML_BLOCK_SHIFT));
}

/* Stores the part of the data that lies both in @piece and in [lo, hi). */
static void put_data(const struct write *wr, const struct pml_piece *piece, uint64_t lo,
		     uint64_t hi)
{
	uint64_t from = PML_MAX(lo, piece->file_block << PML_BLOCK_SHIFT);
	uint64_t to = PML_MIN(hi, (piece->file_block + piece->nblocks) << PML_BLOCK_SHIFT);
	from = PML_MAX(from, wr->first);
	to = PML_MIN(to, wr->end);
	if (from < to)
		pml_data_copy(wr->inode->fs, piece_addr(wr, piece, from),
			      wr->data + (from - wr->first), to - from);
}

/* What a fresh block holds in [from, to), outside of the written range. */
static void fill_edge(const struct write *wr, const struct pml_piece *piece, uint64_t from,
		      uint64_t to)
{
	if (from >= to)
		return;
	uint8_t *dst = piece_addr(wr, piece, from);
	if (piece->kind == PML_PIECE_COPY)
		pml_data_copy(wr->inode->fs, dst,
			      pml_block_addr(wr->inode->fs, piece->old_block) +
				      (from - (piece->file_block << PML_BLOCK_SHIFT)),
			      to - from);
	else
		pml_data_zero(wr->inode->fs, dst, to - from);
}

/* All stores that nobody can see before the commit, and which must not come after it. */
static void put_invisible(const struct write *wr)
{
	const struct pml_fs *fs = wr->inode->fs;
	for (size_t i = 0; i < wr->rw.n; i++) {
		const struct pml_piece *piece = &wr->rw.piece[i];
		uint64_t bytes = piece->nblocks << PML_BLOCK_SHIFT;
		if (piece->kind == PML_PIECE_IN_PLACE) {
			put_data(wr, piece, wr->old_size, UINT64_MAX);
			if (wr->end > wr->old_size)
				pml_data_settle(fs, pml_block_addr(fs, piece->block), bytes);
			continue;
		}
		uint64_t piece_first = piece->file_block << PML_BLOCK_SHIFT;
		uint64_t piece_end = piece_first + bytes;
		fill_edge(wr, piece, piece_first, PML_MIN(wr->first, piece_end));
		put_data(wr, piece, 0, UINT64_MAX);
		fill_edge(wr, piece, PML_MAX(wr->end, piece_first), piece_end);
		pml_data_settle(fs, pml_block_addr(fs, piece->block), bytes);
	}
	pml_data_drain(fs);
}

static void put_in_place(const struct write *wr)
{
	for (size_t i = 0; i < wr->rw.n; i++)
		if (wr->rw.piece[i].kind == PML_PIECE_IN_PLACE)
			put_data(wr, &wr->rw.piece[i], 0, wr->old_size);
	pml_data_drain(wr->inode->fs);
}

/* The times alone: two aligned stores, each atomic; no transaction. */
static void stamp_times(struct pml_inode *inode)
{
	struct pml_media_inode *media = inode->media;
	static_assert(offsetof(struct pml_media_inode, ctime_ns) ==
			      offsetof(struct pml_media_inode, mtime_ns) + 8,
		      "one flush covers both");
	media->mtime_ns = media->ctime_ns = pml_time_now();
	pmemobj_persist(inode->fs->pool, &media->mtime_ns, 2 * sizeof(uint64_t));
}

/* Plans and asks; nothing has changed when it fails. */
static int admit_write(struct write *wr, struct pml_waiter *w)
{
	int err = pml_rewrite_plan(wr->inode, wr->first >> PML_BLOCK_SHIFT,
				   pml_round_up(wr->end, PML_BLOCK_BYTES) >> PML_BLOCK_SHIFT,
				   &wr->rw);
	if (!err && wr->end > wr->old_size)
		err = pml_guard_admit(wr->inode, PML_OP_TRUNCATE, wr->old_size, wr->end, w);
	if (!err)
		err = pml_rewrite_admit(&wr->rw, w);
	if (!err && wr->first > wr->old_size)
		err = pml_tail_admit(wr->inode, w);
	return err;
}

/* Before a write behind the end of the file: the gap's first bytes must read as zeros. */
static int close_gap(struct write *wr)
{
	bool has_moved;
	int err = pml_tail_zero(wr->inode, &has_moved);
	if (err || !has_moved)
		return err;
	return pml_rewrite_plan(wr->inode, wr->rw.first_block, wr->rw.end_block, &wr->rw);
}

static int commit_write(struct write *wr, struct pml_unmapped *unmapped)
{
	struct pml_tx tx;
	int err = pml_tx_begin(wr->inode->fs, &tx);
	if (err)
		return err;
	err = pml_rewrite_map(&wr->rw, UINT64_MAX, unmapped);
	if (!err && wr->end > wr->old_size)
		err = PML_TX_SET(wr->inode->media->size_bytes, wr->end);
	if (!err)
		err = pml_inode_touch(wr->inode);
	return pml_tx_end(&tx, err);
}

static int write_locked(struct write *wr, struct pml_waiter *w)
{
	int err = pml_extent_punch_resume(wr->inode->fs, wr->inode->media);
	if (!err)
		err = admit_write(wr, w);
	if (!err && wr->first > wr->old_size)
		err = close_gap(wr);
	if (err)
		return err;

	bool is_overwrite = wr->rw.move_first == wr->rw.move_end && wr->end <= wr->old_size;
	if (is_overwrite) {
		put_in_place(wr);
		stamp_times(wr->inode);
		return 0;
	}
	err = pml_rewrite_allocate(&wr->rw);
	if (err)
		return err;
	put_invisible(wr);

	/* Not initialised as a whole either. */
	struct pml_unmapped unmapped;
	unmapped.n = 0;
	err = commit_write(wr, &unmapped);
	if (err) {
		pml_rewrite_abort(&wr->rw);
		return err;
	}
	pml_unmapped_drop(wr->inode->fs, &unmapped);
	put_in_place(wr);
	return 0;
}

/* What a write does about the end of the file. */
enum write_where {
	WRITE_AT,     /* makes the file longer if need be */
	WRITE_APPEND, /* begins there */
	WRITE_BACK,   /* stops there */
};

/* A write behind the end touches the last block, too. */
static void step_aside_for_write(struct pml_inode *inode, size_t len_bytes, uint64_t first_byte,
				 enum write_where where)
{
	uint64_t size = pml_inode_size(inode);
	uint64_t first = where == WRITE_APPEND ? size : first_byte;
	if (first <= (uint64_t)PML_FILE_BYTES_MAX - len_bytes)
		pml_step_aside(inode, PML_MIN(first, size), first + len_bytes);
}

static int write_file(struct pml_inode *inode, const void *data, size_t len_bytes,
		      uint64_t first_byte, enum write_where where, struct pml_waiter *w)
{
	if (len_bytes > PML_IO_BYTES_MAX)
		return -EINVAL;
	if (!pml_inode_is_file(inode))
		return pml_inode_is_dir(inode) ? -EISDIR : -EINVAL;
	if (len_bytes == 0)
		return 0;

	step_aside_for_write(inode, len_bytes, first_byte, where);
	int err = pml_inode_begin_change(inode);
	if (err)
		return err;
	/* Not initialised as a whole: the pieces would be most of a small write's work. */
	struct write wr;
	wr.inode = inode;
	wr.data = data;
	wr.old_size = inode->media->size_bytes;
	wr.rw.n = 0;
	wr.first = where == WRITE_APPEND ? wr.old_size : first_byte;
	if (wr.first > (uint64_t)PML_FILE_BYTES_MAX - len_bytes) {
		err = -EFBIG;
	} else if (where != WRITE_BACK || wr.first < wr.old_size) {
		wr.end = wr.first + len_bytes;
		if (where == WRITE_BACK)
			wr.end = PML_MIN(wr.end, wr.old_size);
		err = write_locked(&wr, w);
	}
	pml_inode_end_change(inode);
	return err;
}

int pml_file_write(struct pml_inode *inode, const void *data, size_t len_bytes, uint64_t first_byte,
		   bool is_append, struct pml_waiter *w)
{
	return write_file(inode, data, len_bytes, first_byte, is_append ? WRITE_APPEND : WRITE_AT,
			  w);
}

int pml_file_write_back(struct pml_inode *inode, const void *data, size_t len_bytes,
			uint64_t first_byte, struct pml_waiter *w)
{
	return write_file(inode, data, len_bytes, first_byte, WRITE_BACK, w);
}

/* Walks from gap to gap, for blocks under the punch marker are holes already. */
static int seek_locked(const struct pml_inode *inode, uint64_t from_byte, bool for_data,
		       uint64_t *ret_byte)
{
	uint64_t size = inode->media->size_bytes;
	if (from_byte >= size)
		return -ENXIO;
	uint64_t end = pml_block_above(size);
	for (uint64_t pos = from_byte >> PML_BLOCK_SHIFT; pos < end;) {
		struct pml_extent e;
		int err = pml_extent_at(inode->fs, inode->media, pos, end, &e);
		if (err)
			return err;
		bool is_data = e.block && !e.is_unwritten;
		if (is_data == for_data) {
			*ret_byte = PML_MAX(e.file_block << PML_BLOCK_SHIFT, from_byte);
			return 0;
		}
		pos = e.file_block + e.nblocks;
	}
	*ret_byte = size;
	return for_data ? -ENXIO : 0;
}

int pml_file_seek(struct pml_inode *inode, uint64_t from_byte, int whence, uint64_t *ret_byte)
{
	if (whence != SEEK_DATA && whence != SEEK_HOLE)
		return -EINVAL;
	pthread_rwlock_rdlock(&inode->lock);
	int err = seek_locked(inode, from_byte, whence == SEEK_DATA, ret_byte);
	pthread_rwlock_unlock(&inode->lock);
	return err;
}

/* With more extents one msync of the device is cheaper: the kernel knows what is dirty. */
#define SYNC_EXTENTS_MAX 64u

struct sync {
	const struct pml_fs *fs;
	unsigned int left; /* extents that are still synced one by one */
};

/* Returns 1 when there are too many. */
static int sync_extent(void *arg, const struct pml_extent *e)
{
	struct sync *sync = arg;
	if (sync->left-- == 0)
		return 1;
	if (!e->is_unwritten)
		pml_data_persist(sync->fs, pml_block_addr(sync->fs, e->block),
				 e->nblocks << PML_BLOCK_SHIFT);
	return 0;
}

int pml_file_sync(struct pml_inode *inode)
{
	const struct pml_fs *fs = inode->fs;
	/* On a cache-line device local writes are durable already; a NIC's may be in caches. */
	if (fs->info.is_cache_line && atomic_load(&inode->remote_writers) == 0)
		return 0;
	if (!pml_inode_is_file(inode))
		return 0;
	/* Cache lines of a whole device cannot be flushed, only those of the file. */
	struct sync sync = {.fs = fs, .left = fs->info.is_cache_line ? UINT_MAX : SYNC_EXTENTS_MAX};
	pthread_rwlock_rdlock(&inode->lock);
	int err = pml_extent_walk(fs, inode->media, 0, sync_extent, &sync);
	pthread_rwlock_unlock(&inode->lock);
	if (err > 0) {
		pml_data_persist(fs, fs->base, fs->info.size_bytes);
		err = 0;
	}
	return err;
}
