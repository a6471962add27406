/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * recover.c -- the walk at mount
 *
 * First pass: every extent of every inode adds a share to its blocks, so counters
 * and free space are derived from the one truth.  Second pass, when all blocks in
 * use are known: interrupted punches are finished, spare trees and orphans freed.
 */
#include "recover.h"

#include "alloc.h"
#include "counter.h"
#include "extent.h"
#include "itable.h"
#include "reap.h"
#include "spare.h"

struct recovery {
	struct pml_fs *fs;
	uint64_t *unfinished; /* inodes for the second pass */
	size_t n;
	size_t capacity;
};

/* Blocks of the run whose counter is 0, up to the first that is not; or the other way round. */
static uint64_t equal_run(const struct pml_fs *fs, uint64_t block, uint64_t n, bool *ret_is_free)
{
	bool is_free = pml_counter_is_free(&fs->counters[block]);
	uint64_t len = 1;
	while (len < n && pml_counter_is_free(&fs->counters[block + len]) == is_free)
		len++;
	*ret_is_free = is_free;
	return len;
}

static int count_extent(void *arg, const struct pml_extent *e)
{
	struct pml_fs *fs = arg;
	for (uint64_t done = 0; done < e->nblocks;) {
		uint64_t block = e->block + done;
		bool was_free;
		uint64_t n = equal_run(fs, block, e->nblocks - done, &was_free);
		int err = pml_counter_share(&fs->counters[block], n);
		if (!err && was_free)
			err = pml_alloc_mark_used(fs, block, n);
		if (err)
			return err;
		done += n;
	}
	return 0;
}

static int remember(struct recovery *r, uint64_t ino)
{
	if (r->n == r->capacity) {
		size_t capacity = r->capacity ? 2 * r->capacity : 64;
		uint64_t *grown = reallocarray(r->unfinished, capacity, sizeof(grown[0]));
		if (!grown)
			return -ENOMEM;
		r->unfinished = grown;
		r->capacity = capacity;
	}
	r->unfinished[r->n++] = ino;
	return 0;
}

static int count_inode(void *arg, uint64_t ino, struct pml_media_inode *inode)
{
	struct recovery *r = arg;
	if (S_ISREG(inode->mode)) {
		int err = pml_extent_walk(r->fs, inode, 0, count_extent, r->fs);
		if (err)
			return err;
	}
	bool is_unfinished = inode->nlink == 0 || inode->punch_first < inode->punch_end ||
			     (S_ISREG(inode->mode) && inode->spare_tree);
	return is_unfinished ? remember(r, ino) : 0;
}

static int finish_inode(struct pml_fs *fs, uint64_t ino)
{
	struct pml_media_inode *inode;
	int err = pml_itable_at(fs, ino, &inode);
	if (err)
		return err;
	if (inode->nlink == 0 && S_ISDIR(inode->mode) && inode->tree)
		return pml_reap_tree(fs, ino);
	if (inode->nlink == 0)
		return pml_inode_destroy(fs, ino, inode);
	err = pml_extent_punch_resume(fs, inode);
	return err ? err : pml_spare_free(fs, inode);
}

int pml_recover(struct pml_fs *fs)
{
	struct recovery r = {.fs = fs};
	int err = pml_itable_walk(fs, count_inode, &r);
	for (size_t i = 0; !err && !fs->is_read_only && i < r.n; i++)
		err = finish_inode(fs, r.unfinished[i]);
	free(r.unfinished);
	return err;
}
