/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * show.c -- which blocks lie behind a file, who shares them, what is pinned
 */
#include "counter.h"
#include "extent.h"
#include "pin.h"

/* Blocks whose counters one call looks at, at most: it holds the inode's lock. */
#define SCAN_BLOCKS_MAX (1u << 20)

struct listing {
	struct pml_inode *inode;
	struct pml_extent_info *info;
	size_t max;
	size_t n;
	uint64_t scanned;
	uint64_t from; /* first file block that is wanted */
	uint64_t next; /* file block to go on with */
};

/* As many blocks from @block on, at most @n, as have the shares and pins of the first. */
static uint64_t equal_run(const struct pml_fs *fs, uint64_t block, uint64_t n,
			  struct pml_extent_info *info)
{
	uint32_t counter = atomic_load_explicit(&fs->counters[block], memory_order_acquire);
	info->shares = pml_block_shares(fs, block);
	info->is_pinned = counter > info->shares;
	uint64_t len = 1;
	/* Equal counters of neighbours in one extent: equal shares, but for a pin against 1024. */
	while (len < n &&
	       atomic_load_explicit(&fs->counters[block + len], memory_order_acquire) == counter &&
	       (counter < PML_PIN_BIAS || pml_block_shares(fs, block + len) == info->shares))
		len++;
	return len;
}

/* Adds an extent in pieces; 1 when the list is full. */
static int add_extent(struct listing *list, const struct pml_extent *extent)
{
	struct pml_extent e = *extent;
	while (e.nblocks > 0) {
		if (list->n == list->max || list->scanned >= SCAN_BLOCKS_MAX)
			return 1;
		struct pml_extent_info *info = &list->info[list->n++];
		*info = (struct pml_extent_info){
			.first_byte = e.file_block << PML_BLOCK_SHIFT,
			.block = e.block,
			.is_unwritten = e.is_unwritten,
		};
		uint64_t most = PML_MIN(e.nblocks, (uint64_t)SCAN_BLOCKS_MAX - list->scanned);
		info->nblocks = equal_run(list->inode->fs, e.block, most, info);
		list->scanned += info->nblocks;
		e.file_block += info->nblocks;
		e.block += info->nblocks;
		e.nblocks -= info->nblocks;
		list->next = e.file_block;
	}
	return 0;
}

/* The marker's blocks are holes already, so from gap to gap. */
static int list_locked(struct listing *list)
{
	const struct pml_media_inode *media = list->inode->media;
	struct pml_btree_item last;
	int err = pml_btree_floor(list->inode->fs, media->tree, UINT64_MAX, &last);
	if (err)
		return err == -ENOENT ? 0 : err;
	uint64_t end = last.key + (last.word[1] & PML_EXTENT_BLOCKS_MASK);
	if (media->punch_first < media->punch_end && media->punch_end >= end)
		end = PML_MIN(end, media->punch_first);
	int stop = 0;
	for (uint64_t pos = list->from; !stop && pos < end;) {
		struct pml_extent e;
		err = pml_extent_at(list->inode->fs, media, pos, end, &e);
		if (err)
			return err;
		if (e.block)
			stop = add_extent(list, &e);
		pos = e.file_block + e.nblocks;
	}
	if (!stop && list->n > 0 && list->next >= end)
		list->info[list->n - 1].is_last = true;
	return 0;
}

int pml_file_extents(struct pml_inode *inode, uint64_t first_byte, struct pml_extent_info *infos,
		     size_t max, size_t *ret_count, uint64_t *ret_next_byte)
{
	if (!pml_inode_is_file(inode))
		return pml_inode_is_dir(inode) ? -EISDIR : -EINVAL;
	struct listing list = {
		.inode = inode,
		.info = infos,
		.max = max,
		.from = first_byte >> PML_BLOCK_SHIFT,
		.next = first_byte >> PML_BLOCK_SHIFT,
	};
	pthread_rwlock_rdlock(&inode->lock);
	int err = list_locked(&list);
	pthread_rwlock_unlock(&inode->lock);
	if (err)
		return err;
	*ret_count = list.n;
	*ret_next_byte = list.next << PML_BLOCK_SHIFT;
	return 0;
}
