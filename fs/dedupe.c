/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * dedupe.c -- sharing what holds the same bytes already
 *
 * Compared and shared under both inodes' locks: no local change comes in between, and no
 * remote one, because a write lease that could reach the blocks is found by the guard
 * (clone-src, dedupe), and one that comes later needs the locks to pin them.
 */
#include <string.h>

#include "reflink.h"
#include "rewrite.h"

static const uint8_t zeros[PML_BLOCK_BYTES];

/* What file block @file_block reads as; *n: as many blocks that follow it on the device. */
static int readable_at(const struct pml_inode *inode, uint64_t file_block, uint64_t *n,
		       const uint8_t **ret_addr)
{
	struct pml_extent e;
	int err = pml_extent_at(inode->fs, inode->media, file_block, file_block + *n, &e);
	if (err)
		return err;
	bool is_zero = !e.block || e.is_unwritten;
	*n = e.nblocks;
	*ret_addr = is_zero ? NULL : pml_block_addr(inode->fs, e.block);
	return 0;
}

static bool is_zero(const uint8_t *addr, uint64_t bytes)
{
	for (uint64_t at = 0; at < bytes; at += PML_BLOCK_BYTES)
		if (memcmp(addr + at, zeros, PML_MIN(bytes - at, (uint64_t)PML_BLOCK_BYTES)) != 0)
			return false;
	return true;
}

/* NULL: zeros. */
static bool are_equal(const uint8_t *a, const uint8_t *b, uint64_t bytes)
{
	if (a == b)
		return true;
	if (!a || !b)
		return is_zero(a ? a : b, bytes);
	return memcmp(a, b, bytes) == 0;
}

static int compare(const struct pml_clone *c, bool *ret_is_same)
{
	bool is_same = true;
	for (uint64_t done = 0; is_same && done < c->len;) {
		uint64_t left = pml_block_above(c->len - done);
		uint64_t src_n = left, dst_n = left;
		const uint8_t *src_addr, *dst_addr;
		int err = readable_at(c->src, (c->src_byte + done) >> PML_BLOCK_SHIFT, &src_n,
				      &src_addr);
		if (!err)
			err = readable_at(c->dst, (c->dst_byte + done) >> PML_BLOCK_SHIFT, &dst_n,
					  &dst_addr);
		if (err)
			return err;
		uint64_t n = PML_MIN(src_n, dst_n);
		uint64_t bytes = PML_MIN(n << PML_BLOCK_SHIFT, c->len - done);
		is_same = are_equal(src_addr, dst_addr, bytes);
		done += bytes;
	}
	*ret_is_same = is_same;
	return 0;
}

/* As generic_remap_checks() of Linux (fs/remap_range.c). */
static int check_range(struct pml_clone *c)
{
	uint64_t src_size = c->src->media->size_bytes, dst_size = c->dst->media->size_bytes;
	if (c->src_byte % PML_BLOCK_BYTES != 0 || c->dst_byte % PML_BLOCK_BYTES != 0)
		return -EINVAL;
	if (c->src_byte > src_size || c->len > src_size - c->src_byte || c->dst_byte > dst_size ||
	    c->len > dst_size - c->dst_byte)
		return -EINVAL;
	c->len = PML_MIN(c->len, (uint64_t)PML_DEDUPE_BYTES_MAX);
	/* The last block can be shared where it is the last one of both. */
	if (c->src_byte + c->len != src_size || c->dst_byte + c->len != dst_size)
		c->len = pml_round_down(c->len, PML_BLOCK_BYTES);
	return pml_clone_overlaps(c) ? -EINVAL : 0;
}

/*
 * The destination's bytes may be durable: the source's must be before they take their
 * place, or a power failure would take them away.
 */
static int settle_source(const struct pml_clone *c)
{
	for (uint64_t done = 0; done < c->len;) {
		uint64_t n = pml_block_above(c->len - done);
		const uint8_t *addr;
		int err = readable_at(c->src, (c->src_byte + done) >> PML_BLOCK_SHIFT, &n, &addr);
		if (err)
			return err;
		if (addr)
			pml_data_settle(c->src->fs, addr, n << PML_BLOCK_SHIFT);
		done += n << PML_BLOCK_SHIFT;
	}
	return 0;
}

static int share_all(struct pml_clone *c)
{
	while (c->len > 0) {
		uint64_t n = pml_block_above(c->len);
		int err = pml_clone_share(c, n, &n);
		if (err)
			return err;
		uint64_t bytes = PML_MIN(n << PML_BLOCK_SHIFT, c->len);
		c->src_byte += bytes;
		c->dst_byte += bytes;
		c->len -= bytes;
	}
	return 0;
}

static int dedupe_locked(struct pml_clone *c, uint64_t *ret_bytes, bool *ret_is_same)
{
	int err = check_range(c);
	if (err)
		return err;
	*ret_bytes = 0;
	*ret_is_same = true;
	if (c->len == 0)
		return 0;
	err = compare(c, ret_is_same);
	if (err || !*ret_is_same)
		return err;
	uint64_t blocks = pml_block_above(c->len) << PML_BLOCK_SHIFT;
	/* It may be refused: then no lease of the source was taken away for it. */
	err = pml_guard_admit(c->dst, PML_OP_DEDUPE, c->dst_byte, c->dst_byte + blocks, c->w);
	if (!err)
		err = pml_guard_admit(c->src, PML_OP_CLONE_SRC, c->src_byte, c->src_byte + blocks,
				      c->w);
	if (!err)
		err = settle_source(c);
	if (err)
		return err;
	*ret_bytes = c->len;
	return share_all(c);
}

int pml_file_dedupe(struct pml_inode *src, uint64_t src_byte, struct pml_inode *dst,
		    uint64_t dst_byte, uint64_t len_bytes, struct pml_waiter *w,
		    uint64_t *ret_bytes, bool *ret_is_same)
{
	struct pml_clone c = {
		.src = src,
		.dst = dst,
		.src_byte = src_byte,
		.dst_byte = dst_byte,
		.len = len_bytes,
		.w = w,
		.keeps_times = true,
	};
	int err = pml_clone_begin(&c);
	if (err)
		return err;
	err = dedupe_locked(&c, ret_bytes, ret_is_same);
	pml_clone_end(&c);
	return err;
}
