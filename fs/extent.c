/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * extent.c -- a file's map from file blocks to device blocks
 *
 * An extent is one B+tree item (media.h).  Neighbours that adjoin in the file
 * and on the device are merged when they are made, so a file written in order
 * has few.  Threads: see extent.h.
 */
#include "extent.h"

#include "alloc.h"
#include "sharers.h"
#include "tx.h"

static struct pml_extent to_extent(const struct pml_btree_item *item)
{
	return (struct pml_extent){
		.file_block = item->key,
		.block = item->word[0],
		.nblocks = item->word[1] & PML_EXTENT_BLOCKS_MASK,
		.is_unwritten = (item->word[1] & PML_EXTENT_UNWRITTEN) != 0,
	};
}

struct pml_btree_item pml_extent_item(const struct pml_extent *e)
{
	return (struct pml_btree_item){
		.key = e->file_block,
		.word = {e->block, e->nblocks | (e->is_unwritten ? PML_EXTENT_UNWRITTEN : 0)},
	};
}

/* What the device says may be anything. */
static int check_item(const struct pml_fs *fs, const struct pml_btree_item *item)
{
	uint64_t n = item->word[1] & PML_EXTENT_BLOCKS_MASK;
	uint64_t end;
	if (n == 0 || (item->word[1] & ~(PML_EXTENT_BLOCKS_MASK | PML_EXTENT_UNWRITTEN)) ||
	    __builtin_add_overflow(item->key, n, &end) || !pml_alloc_has(fs, item->word[0], n))
		return pml_corrupt(fs, "extent outside of the allocation groups, file block",
				   item->key);
	return 0;
}

/* The extent that covers @file_block, or the first one behind it.  -ENOENT: none. */
static int find_at_or_after(const struct pml_fs *fs, const struct pml_media_inode *inode,
			    uint64_t file_block, struct pml_extent *ret_extent)
{
	struct pml_btree_item item;
	int err = pml_btree_floor(fs, inode->tree, file_block, &item);
	if (err && err != -ENOENT)
		return err;
	if (!err) {
		err = check_item(fs, &item);
		if (err)
			return err;
		*ret_extent = to_extent(&item);
		if (file_block - item.key < ret_extent->nblocks)
			return 0;
	}
	err = pml_btree_ceil(fs, inode->tree, file_block, &item);
	if (!err)
		err = check_item(fs, &item);
	if (!err)
		*ret_extent = to_extent(&item);
	return err;
}

/* Cuts @e, which begins at or before @first and ends behind it, to [first, end). */
static void clip(struct pml_extent *e, uint64_t first, uint64_t end)
{
	if (e->file_block < first) {
		uint64_t skip = first - e->file_block;
		e->file_block = first;
		e->nblocks -= skip;
		if (e->block)
			e->block += skip;
	}
	if (e->nblocks > end - e->file_block)
		e->nblocks = end - e->file_block;
}

int pml_extent_at(const struct pml_fs *fs, const struct pml_media_inode *inode, uint64_t file_block,
		  uint64_t end_block, struct pml_extent *ret_extent)
{
	assert(file_block < end_block);
	struct pml_extent hole = {.file_block = file_block, .nblocks = end_block - file_block};

	if (file_block >= inode->punch_first && file_block < inode->punch_end) {
		clip(&hole, file_block, inode->punch_end);
		*ret_extent = hole;
		return 0;
	}
	if (file_block < inode->punch_first && inode->punch_first < inode->punch_end)
		end_block = PML_MIN(end_block, inode->punch_first);

	struct pml_extent e;
	int err = find_at_or_after(fs, inode, file_block, &e);
	if (err && err != -ENOENT)
		return err;
	if (!err && e.file_block <= file_block)
		hole = e;
	else if (!err)
		end_block = PML_MIN(end_block, e.file_block);
	clip(&hole, file_block, end_block);
	*ret_extent = hole;
	return 0;
}

struct walk {
	const struct pml_fs *fs;
	pml_extent_visit visit;
	void *arg;
	uint64_t next_file_block;
};

static int walk_item(void *arg, const struct pml_btree_item *item)
{
	struct walk *w = arg;
	int err = check_item(w->fs, item);
	if (err)
		return err;
	struct pml_extent e = to_extent(item);
	if (e.file_block < w->next_file_block)
		return pml_corrupt(w->fs, "overlapping extents, file block", e.file_block);
	w->next_file_block = e.file_block + e.nblocks;
	return w->visit(w->arg, &e);
}

int pml_extent_walk(const struct pml_fs *fs, const struct pml_media_inode *inode,
		    uint64_t from_block, pml_extent_visit visit, void *arg)
{
	struct walk w = {.fs = fs, .visit = visit, .arg = arg};
	struct pml_extent e;
	int err = find_at_or_after(fs, inode, from_block, &e);
	if (err)
		return err == -ENOENT ? 0 : err;
	return pml_btree_walk(fs, inode->tree, e.file_block, walk_item, &w);
}

/* Not across groups, even where they lie side by side. */
bool pml_extent_adjoin(const struct pml_fs *fs, const struct pml_extent *left,
		       const struct pml_extent *right)
{
	return left->file_block + left->nblocks == right->file_block &&
	       left->block + left->nblocks == right->block &&
	       left->is_unwritten == right->is_unwritten &&
	       left->nblocks + right->nblocks <= PML_EXTENT_BLOCKS_MASK &&
	       pml_alloc_has(fs, left->block, left->nblocks + right->nblocks);
}

static int add_nblocks(struct pml_media_inode *inode, int64_t delta)
{
	return PML_TX_SET(inode->nblocks, inode->nblocks + (uint64_t)delta);
}

int pml_extent_map(struct pml_fs *fs, struct pml_media_inode *inode,
		   const struct pml_extent *extent)
{
	struct pml_extent e = *extent;
	struct pml_btree_item item;
	assert(e.nblocks > 0 && e.block != 0);

	int err = add_nblocks(inode, (int64_t)e.nblocks);
	if (err)
		return err;
	err = pml_btree_ceil(fs, inode->tree, e.file_block, &item);
	if (err && err != -ENOENT)
		return err;
	if (!err) {
		struct pml_extent right = to_extent(&item);
		if (pml_extent_adjoin(fs, &e, &right)) {
			err = pml_btree_remove(fs, &inode->tree, right.file_block);
			if (err)
				return err;
			e.nblocks += right.nblocks;
		}
	}
	err = e.file_block ? pml_btree_floor(fs, inode->tree, e.file_block - 1, &item) : -ENOENT;
	if (err && err != -ENOENT)
		return err;
	if (!err) {
		struct pml_extent left = to_extent(&item);
		if (pml_extent_adjoin(fs, &left, &e)) {
			left.nblocks += e.nblocks;
			item = pml_extent_item(&left);
			return pml_btree_update(fs, &inode->tree, &item);
		}
	}
	item = pml_extent_item(&e);
	return pml_btree_insert(fs, &inode->tree, &item);
}

/* Takes [first, end), which @old covers at least in part, out of it. */
static int cut(struct pml_fs *fs, struct pml_media_inode *inode, const struct pml_extent *old,
	       uint64_t first, uint64_t end)
{
	uint64_t old_end = old->file_block + old->nblocks;
	struct pml_btree_item item;
	int err;

	if (first > old->file_block) {
		struct pml_extent left = *old;
		left.nblocks = first - old->file_block;
		item = pml_extent_item(&left);
		err = pml_btree_update(fs, &inode->tree, &item);
	} else {
		err = pml_btree_remove(fs, &inode->tree, old->file_block);
	}
	if (err || end >= old_end)
		return err;

	struct pml_extent right = *old;
	clip(&right, end, old_end);
	item = pml_extent_item(&right);
	return pml_btree_insert(fs, &inode->tree, &item);
}

int pml_extent_unmap(struct pml_fs *fs, struct pml_media_inode *inode, uint64_t first, uint64_t end,
		     struct pml_unmapped *unmapped, uint64_t *ret_next)
{
	uint64_t pos = first;
	while (pos < end) {
		struct pml_extent old;
		int err = find_at_or_after(fs, inode, pos, &old);
		if (err == -ENOENT || (!err && old.file_block >= end))
			break;
		if (err)
			return err;
		if (unmapped->n == PML_UNMAP_MAX) {
			*ret_next = pos;
			return 0;
		}
		struct pml_extent gone = old;
		clip(&gone, PML_MAX(pos, old.file_block), end);
		uint64_t gone_end = gone.file_block + gone.nblocks;
		err = cut(fs, inode, &old, gone.file_block, gone_end);
		if (!err)
			err = add_nblocks(inode, -(int64_t)gone.nblocks);
		if (err)
			return err;
		unmapped->owner = inode;
		unmapped->run[unmapped->n].block = gone.block;
		unmapped->run[unmapped->n].nblocks = gone.nblocks;
		unmapped->run[unmapped->n].file_block = gone.file_block;
		unmapped->n++;
		pos = gone_end;
	}
	*ret_next = end;
	return 0;
}

void pml_unmapped_drop(struct pml_fs *fs, const struct pml_unmapped *unmapped)
{
	for (size_t i = 0; i < unmapped->n; i++) {
		const struct pml_extent e = {
			.file_block = unmapped->run[i].file_block,
			.block = unmapped->run[i].block,
			.nblocks = unmapped->run[i].nblocks,
		};
		pml_alloc_unshare(fs, e.block, e.nblocks);
		if (unmapped->owner)
			pml_sharers_drop(fs, unmapped->owner, &e);
	}
}

static int set_marker(struct pml_media_inode *inode, uint64_t first, uint64_t end, bool zeroes)
{
	uint64_t flags = inode->flags & ~PML_INODE_MARKER_ZEROES;
	if (zeroes)
		flags |= PML_INODE_MARKER_ZEROES;
	int err = flags == inode->flags ? 0 : PML_TX_SET(inode->flags, flags);
	if (err || (inode->punch_first == first && inode->punch_end == end))
		return err;
	err = PML_TX_SET(inode->punch_first, first);
	return err ? err : PML_TX_SET(inode->punch_end, end);
}

int pml_extent_punch_begin(struct pml_fs *fs, struct pml_media_inode *inode, uint64_t first,
			   uint64_t end, struct pml_unmapped *ret_unmapped)
{
	uint64_t next;
	ret_unmapped->n = 0;
	int err = pml_extent_unmap(fs, inode, first, end, ret_unmapped, &next);
	if (err)
		return err;
	return next < end ? set_marker(inode, next, end, false) : set_marker(inode, 0, 0, false);
}

/* Maps [@e] as preallocated; the same blocks, so shares stay as they are. */
static int set_unwritten(struct pml_fs *fs, struct pml_media_inode *inode, struct pml_extent *e)
{
	struct pml_unmapped same = {.n = 0};
	uint64_t next;
	int err = pml_extent_unmap(fs, inode, e->file_block, e->file_block + e->nblocks, &same,
				   &next);
	e->is_unwritten = true;
	return err ? err : pml_extent_map(fs, inode, e);
}

int pml_extent_zero_begin(struct pml_fs *fs, struct pml_media_inode *inode, uint64_t first,
			  uint64_t end)
{
	uint64_t pos = first;
	for (unsigned int n = 0; pos < end; n++) {
		struct pml_extent e;
		int err = find_at_or_after(fs, inode, pos, &e);
		if (err == -ENOENT || (!err && e.file_block >= end))
			break;
		if (!err && n == PML_UNMAP_MAX)
			return set_marker(inode, pos, end, true);
		if (!err) {
			clip(&e, PML_MAX(pos, e.file_block), end);
			pos = e.file_block + e.nblocks;
			if (!e.is_unwritten)
				err = set_unwritten(fs, inode, &e);
		}
		if (err)
			return err;
	}
	return set_marker(inode, 0, 0, false);
}

/* One transaction more of what the marker stands for. */
static int resume_once(struct pml_fs *fs, struct pml_media_inode *inode)
{
	struct pml_unmapped unmapped = {.n = 0};
	struct pml_tx tx;
	int err = pml_tx_begin(fs, &tx);
	if (err)
		return err;
	if (inode->flags & PML_INODE_MARKER_ZEROES)
		err = pml_extent_zero_begin(fs, inode, inode->punch_first, inode->punch_end);
	else
		err = pml_extent_punch_begin(fs, inode, inode->punch_first, inode->punch_end,
					     &unmapped);
	err = pml_tx_end(&tx, err);
	if (!err)
		pml_unmapped_drop(fs, &unmapped);
	return err;
}

/* From now on the marker unmaps: less room is needed for that. */
static int give_up_zeroing(struct pml_fs *fs, struct pml_media_inode *inode)
{
	struct pml_tx tx;
	int err = pml_tx_begin(fs, &tx);
	if (err)
		return err;
	return pml_tx_end(&tx, PML_TX_SET(inode->flags, inode->flags & ~PML_INODE_MARKER_ZEROES));
}

int pml_extent_punch_resume(struct pml_fs *fs, struct pml_media_inode *inode)
{
	int err = 0;
	while (!err && inode->punch_first < inode->punch_end) {
		err = resume_once(fs, inode);
		/* A full device must not keep a file from being changed, or deleted. */
		if (err == -ENOSPC && (inode->flags & PML_INODE_MARKER_ZEROES))
			err = give_up_zeroing(fs, inode);
	}
	return err;
}

int pml_extent_punch(struct pml_fs *fs, struct pml_media_inode *inode, uint64_t first, uint64_t end)
{
	struct pml_unmapped unmapped;
	struct pml_tx tx;
	/* What lies inside of the new range needs no finishing. */
	bool is_inside = first <= inode->punch_first && inode->punch_end <= end;
	int err = is_inside ? 0 : pml_extent_punch_resume(fs, inode);
	if (!err)
		err = pml_tx_begin(fs, &tx);
	if (err)
		return err;
	err = pml_tx_end(&tx, pml_extent_punch_begin(fs, inode, first, end, &unmapped));
	if (err)
		return err;
	pml_unmapped_drop(fs, &unmapped);
	return pml_extent_punch_resume(fs, inode);
}
