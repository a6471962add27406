/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * reflink.c -- cloning: two files map the same blocks
 *
 * Each call does one step: a stretch of whole blocks that is shared in one
 * transaction, or a stretch that has to be copied (edges, offsets that differ
 * modulo 4096).  The caller goes on behind it.
 */
#include "pml/fs.h"

#include <string.h>

#include "aside.h"
#include "counter.h"
#include "reflink.h"
#include "rewrite.h"
#include "sharers.h"
#include "tx.h"

/* Extents that one transaction shares. */
#define CLONE_EXTENTS_MAX 256u
static_assert(CLONE_EXTENTS_MAX <= PML_UNMAP_MAX, "their shares are noted in one list");

int pml_clone_begin(const struct pml_clone *c)
{
	if (!pml_inode_is_file(c->src) || !pml_inode_is_file(c->dst))
		return pml_inode_is_dir(c->src) || pml_inode_is_dir(c->dst) ? -EISDIR : -EINVAL;
	if (c->dst->fs->is_read_only)
		return -EROFS;
	if (c->dst_byte >= pml_inode_size(c->dst))
		pml_step_aside_at_tail(c->dst, c->dst_byte + c->len);
	struct pml_inode *low = c->src->ino < c->dst->ino ? c->src : c->dst;
	struct pml_inode *high = low == c->src ? c->dst : c->src;
	pthread_rwlock_rdlock(&c->dst->fs->audit_lock);
	pthread_rwlock_wrlock(&low->lock);
	if (high != low)
		pthread_rwlock_wrlock(&high->lock);
	int err = pml_extent_punch_resume(c->src->fs, c->src->media);
	if (!err)
		err = pml_extent_punch_resume(c->dst->fs, c->dst->media);
	if (err)
		pml_clone_end(c);
	return err;
}

void pml_clone_end(const struct pml_clone *c)
{
	pthread_rwlock_unlock(&c->src->lock);
	if (c->dst != c->src)
		pthread_rwlock_unlock(&c->dst->lock);
	pthread_rwlock_unlock(&c->dst->fs->audit_lock);
}

bool pml_clone_overlaps(const struct pml_clone *c)
{
	return c->src == c->dst && c->src_byte < c->dst_byte + c->len &&
	       c->dst_byte < c->src_byte + c->len;
}

/* What sharing [src_block, +n) with [dst_block, +n) has to ask and prepare. */
static int admit_share(const struct pml_clone *c, uint64_t src_block, uint64_t dst_block,
		       uint64_t n, uint64_t new_size)
{
	int err = pml_guard_admit(c->src, PML_OP_CLONE_SRC, src_block << PML_BLOCK_SHIFT,
				  (src_block + n) << PML_BLOCK_SHIFT, c->w);
	if (!err)
		err = pml_guard_admit(c->dst, PML_OP_CLONE_DST, dst_block << PML_BLOCK_SHIFT,
				      (dst_block + n) << PML_BLOCK_SHIFT, c->w);
	if (err || new_size <= c->dst->media->size_bytes)
		return err;
	err = pml_guard_admit(c->dst, PML_OP_TRUNCATE, c->dst->media->size_bytes, new_size, c->w);
	if (!err)
		err = pml_tail_admit(c->dst, c->w);
	bool has_moved;
	return err ? err : pml_tail_zero(c->dst, &has_moved);
}

/*
 * What remote writers left of these blocks in CPU caches is known of the source alone: the
 * other file's fsync would not flush it.
 */
static void flush_shared(const struct pml_inode *src, const struct pml_extent *e)
{
	if (src->fs->info.is_cache_line && atomic_load(&src->remote_writers) > 0)
		pml_data_persist(src->fs, pml_block_addr(src->fs, e->block),
				 e->nblocks << PML_BLOCK_SHIFT);
}

int pml_clone_map(const struct pml_inode *src, struct pml_media_inode *dst, uint64_t src_block,
		  uint64_t dst_block, uint64_t *n, struct pml_unmapped *shared)
{
	struct pml_fs *fs = src->fs;
	uint64_t done = 0;
	while (done < *n) {
		struct pml_extent e;
		int err = pml_extent_at(fs, src->media, src_block + done, src_block + *n, &e);
		if (err)
			return err;
		uint64_t len = e.nblocks;
		if (e.block && !e.is_unwritten) {
			if (shared->n == CLONE_EXTENTS_MAX)
				break;
			err = pml_counter_share(&fs->counters[e.block], len);
			if (err)
				return err;
			shared->owner = NULL;
			shared->run[shared->n].block = e.block;
			shared->run[shared->n].nblocks = len;
			shared->run[shared->n].file_block = e.file_block;
			shared->n++;
			flush_shared(src, &e);
			e.file_block = dst_block + done;
			err = pml_extent_map(fs, dst, &e);
			if (err)
				return err;
		}
		done += len;
	}
	*n = done;
	return 0;
}

static int share_in_tx(const struct pml_clone *c, uint64_t src_block, uint64_t dst_block,
		       uint64_t *n, uint64_t end_size, struct pml_unmapped *unmapped,
		       struct pml_unmapped *shared)
{
	uint64_t wanted = *n, next;
	int err = pml_extent_unmap(c->dst->fs, c->dst->media, dst_block, dst_block + *n, unmapped,
				   &next);
	if (err)
		return err;
	*n = next - dst_block;
	err = pml_clone_map(c->src, c->dst->media, src_block, dst_block, n, shared);
	if (err)
		return err;
	/*
	 * pml_clone_map() may have stopped before @next: what was unmapped behind its end would be
	 * lost.  Only whole steps are committed, so ask for a shorter one.
	 */
	if (*n < next - dst_block)
		return -EAGAIN;
	uint64_t size = *n == wanted ? end_size : (dst_block + *n) << PML_BLOCK_SHIFT;
	if (size > c->dst->media->size_bytes)
		err = PML_TX_SET(c->dst->media->size_bytes, size);
	return err || c->keeps_times ? err : pml_inode_touch(c->dst);
}

/* One transaction.  On -EAGAIN *n is a number of blocks that fits one. */
static int share_once(const struct pml_clone *c, uint64_t src_block, uint64_t dst_block,
		      uint64_t *n, uint64_t end_size)
{
	struct pml_unmapped unmapped = {.n = 0};
	struct pml_unmapped shared = {.n = 0};
	struct pml_tx tx;
	int err = pml_tx_begin(c->dst->fs, &tx);
	if (err)
		return err;
	err = pml_tx_end(&tx,
			 share_in_tx(c, src_block, dst_block, n, end_size, &unmapped, &shared));
	if (err) {
		pml_unmapped_drop(c->dst->fs, &shared);
		return err;
	}
	pml_unmapped_drop(c->dst->fs, &unmapped);
	pml_sharers_note_clone(c->src, c->dst->ino, c->dst->media, src_block, dst_block, &shared);
	return 0;
}

int pml_clone_share(const struct pml_clone *c, uint64_t n, uint64_t *ret_blocks)
{
	uint64_t src_block = c->src_byte >> PML_BLOCK_SHIFT;
	uint64_t dst_block = c->dst_byte >> PML_BLOCK_SHIFT;
	uint64_t end_size = PML_MIN(c->dst_byte + c->len, (dst_block + n) << PML_BLOCK_SHIFT);
	int err;
	/* A second try asks for what the first could map, so this ends. */
	do {
		if ((dst_block + n) << PML_BLOCK_SHIFT < end_size)
			end_size = (dst_block + n) << PML_BLOCK_SHIFT;
		err = share_once(c, src_block, dst_block, &n, end_size);
	} while (err == -EAGAIN);
	if (!err)
		*ret_blocks = n;
	return err;
}

/* How much of the request one sharing step covers; 0: it must be copied. */
static uint64_t shareable_blocks(const struct pml_clone *c)
{
	if (c->src_byte % PML_BLOCK_BYTES != 0 || c->dst_byte % PML_BLOCK_BYTES != 0)
		return 0;
	/* The last block of the source, when nothing of the destination lies behind it. */
	bool is_tail = c->src_byte + c->len == c->src->media->size_bytes &&
		       c->dst_byte + c->len >= c->dst->media->size_bytes;
	return is_tail ? pml_round_up(c->len, PML_BLOCK_BYTES) >> PML_BLOCK_SHIFT
		       : c->len >> PML_BLOCK_SHIFT;
}

/* Copies up to the next block border (or a megabyte where offsets never line up). */
static int copy_bytes(const struct pml_clone *c, uint64_t *ret_bytes)
{
	uint64_t len = PML_MIN(c->len, PML_IO_BYTES_MAX);
	if (c->src_byte % PML_BLOCK_BYTES == c->dst_byte % PML_BLOCK_BYTES)
		len = PML_MIN(len, PML_BLOCK_BYTES - c->src_byte % PML_BLOCK_BYTES);

	pml_auto_free uint8_t *bounce = malloc(len);
	pml_auto_free struct iovec *iov = malloc(PML_IOV_MAX * sizeof(*iov));
	if (!bounce || !iov)
		return -ENOMEM;
	int n;
	size_t got;
	int err = pml_file_read_begin(c->src, c->src_byte, len, iov, &n, &got);
	if (err)
		return err;
	size_t at = 0;
	for (int i = 0; i < n; i++) {
		memcpy(bounce + at, iov[i].iov_base, iov[i].iov_len);
		at += iov[i].iov_len;
	}
	pml_file_read_end(c->src);
	*ret_bytes = got;
	return got ? pml_file_write(c->dst, bounce, got, c->dst_byte, false, c->w) : 0;
}

/* Asks, and shares @n blocks or some of them. */
static int share_blocks(const struct pml_clone *c, uint64_t n, uint64_t *ret_bytes)
{
	uint64_t dst_block = c->dst_byte >> PML_BLOCK_SHIFT;
	uint64_t end_size = PML_MIN(c->dst_byte + c->len, (dst_block + n) << PML_BLOCK_SHIFT);
	int err = admit_share(c, c->src_byte >> PML_BLOCK_SHIFT, dst_block, n, end_size);
	if (!err)
		err = pml_clone_share(c, n, &n);
	if (!err)
		*ret_bytes = PML_MIN(n << PML_BLOCK_SHIFT, c->len);
	return err;
}

/* Cuts the request at the end of the source.  c->len 0: nothing is left. */
static int check_range(struct pml_clone *c)
{
	uint64_t src_size = c->src->media->size_bytes;
	c->len = c->src_byte >= src_size ? 0 : PML_MIN(c->len, src_size - c->src_byte);
	if (c->len > (uint64_t)PML_FILE_BYTES_MAX ||
	    c->dst_byte > (uint64_t)PML_FILE_BYTES_MAX - c->len)
		return -EFBIG;
	return pml_clone_overlaps(c) ? -EINVAL : 0;
}

static int clone_locked(struct pml_clone *c, uint64_t *ret_bytes, bool *ret_copy)
{
	*ret_copy = false;
	*ret_bytes = 0;
	int err = check_range(c);
	if (err || c->len == 0)
		return err;
	uint64_t n = shareable_blocks(c);
	if (n)
		err = share_blocks(c, n, ret_bytes);
	/* A block that cannot be shared once more can be copied. */
	*ret_copy = n == 0 || err == -EMLINK;
	return *ret_copy ? 0 : err;
}

int pml_file_clone(struct pml_inode *src, uint64_t src_byte, struct pml_inode *dst,
		   uint64_t dst_byte, uint64_t len_bytes, struct pml_waiter *w, uint64_t *ret_bytes)
{
	struct pml_clone c = {
		.src = src,
		.dst = dst,
		.src_byte = src_byte,
		.dst_byte = dst_byte,
		.len = len_bytes,
		.w = w,
	};
	uint64_t done = 0;
	bool must_copy;
	int err = pml_clone_begin(&c);
	if (err)
		return err;
	err = clone_locked(&c, &done, &must_copy);
	pml_clone_end(&c);
	/* A copy is a read and a write, each atomic by itself, as copy_file_range(2) allows. */
	if (!err && must_copy)
		err = copy_bytes(&c, &done);
	if (!err)
		*ret_bytes = done;
	return err;
}

static int clone_blocks_locked(struct pml_clone *c, uint64_t *ret_bytes)
{
	uint64_t src_size = c->src->media->size_bytes;
	if (c->src_byte > src_size || c->len > src_size - c->src_byte)
		return -EINVAL;
	if (c->len == 0)
		c->len = src_size - c->src_byte;
	int err = check_range(c);
	if (err)
		return err;
	if (c->src_byte % PML_BLOCK_BYTES != 0 || c->dst_byte % PML_BLOCK_BYTES != 0)
		return -EINVAL;
	*ret_bytes = 0;
	if (c->len == 0)
		return 0;
	uint64_t n = shareable_blocks(c);
	/* What is left over of a block would have to be copied. */
	if (n << PML_BLOCK_SHIFT < c->len)
		return -EINVAL;
	return share_blocks(c, n, ret_bytes);
}

int pml_file_clone_blocks(struct pml_inode *src, uint64_t src_byte, struct pml_inode *dst,
			  uint64_t dst_byte, uint64_t len_bytes, struct pml_waiter *w,
			  uint64_t *ret_bytes)
{
	struct pml_clone c = {
		.src = src,
		.dst = dst,
		.src_byte = src_byte,
		.dst_byte = dst_byte,
		.len = len_bytes,
		.w = w,
	};
	int err = pml_clone_begin(&c);
	if (err)
		return err;
	err = clone_blocks_locked(&c, ret_bytes);
	pml_clone_end(&c);
	return err;
}
