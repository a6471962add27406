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

/*
 * One more share for each block of the extent; those that had none are in use from now on.
 * One pass over the counters, which nobody else changes while mounting.  On an error the
 * mount fails, so nothing is taken back.
 */
static int count_extent(void *arg, const struct pml_extent *e)
{
	struct pml_fs *fs = arg;
	for (uint64_t done = 0; done < e->nblocks;) {
		uint64_t first = e->block + done;
		uint64_t nfree = 0;
		uint64_t left = e->nblocks - done;
		while (nfree < left && pml_counter_is_free(&fs->counters[first + nfree]))
			nfree++;
		if (nfree > 0) {
			pml_counter_take(&fs->counters[first], nfree);
			int err = pml_alloc_mark_used(fs, first, nfree);
			if (err)
				return err;
			done += nfree;
			continue;
		}
		uint64_t nshared = 1;
		while (nshared < left && !pml_counter_is_free(&fs->counters[first + nshared]))
			nshared++;
		int err = pml_counter_share(&fs->counters[first], nshared);
		if (err)
			return err;
		done += nshared;
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
	/* It has gone with the tree of another. */
	if (inode->mode == 0)
		return 0;
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
	for (size_t i = 0; !err && !fs->is_read_only && i < r.n; i++) {
		err = finish_inode(fs, r.unfinished[i]);
		/* Nobody sees what is left, and only a mount makes room. */
		if (err == -ENOSPC) {
			pml_log_warning("inode %" PRIu64 " is finished by a later mount: no room",
					r.unfinished[i]);
			err = 0;
		}
	}
	free(r.unfinished);
	return err;
}
