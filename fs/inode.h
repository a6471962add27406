/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * inode.h -- in-core inodes: one per referenced inode, found by number
 *
 * The device's struct is changed in place inside transactions, under lock.
 */
#ifndef PML_FS_INODE_H
#define PML_FS_INODE_H

#include "pml/list.h"
#include "pool.h"

struct pml_inode {
	struct pml_fs *fs;
	uint64_t ino;
	struct pml_media_inode *media;
	/* Readers of anything in media or its tree hold it shared, changers exclusively. */
	pthread_rwlock_t lock;
	uint64_t refs;             /* under icache lock; 0: about to be freed */
	struct pml_inode *hash_next; /* under icache lock */
	/* Remote writers may have left bytes in CPU caches; cleared by sync.  */
	_Atomic bool is_remote_dirty;
};

int pml_icache_new(struct pml_fs *fs) PML_MUST_CHECK;
/* Assumes: no references are out. */
void pml_icache_free(struct pml_fs *fs);

/* The in-core inode of a number just made by pml_itable_take(), with one reference. */
int pml_inode_new(struct pml_fs *fs, uint64_t ino, struct pml_inode **ret_inode) PML_MUST_CHECK;

/* Frees an inode whose nlink is 0 and that nobody refers to: blocks, tree, target, slot. */
int pml_inode_destroy(struct pml_fs *fs, uint64_t ino,
		      struct pml_media_inode *media) PML_MUST_CHECK;

static inline bool pml_inode_is_file(const struct pml_inode *inode)
{
	return S_ISREG(inode->media->mode);
}

static inline bool pml_inode_is_dir(const struct pml_inode *inode)
{
	return S_ISDIR(inode->media->mode);
}

/*
 * Enter and leave a change: the audit lock for reading, the lock exclusively.
 * Returns -EROFS on a read-only filesystem, without locks.
 */
int pml_inode_begin_change(struct pml_inode *inode) PML_MUST_CHECK;
void pml_inode_end_change(struct pml_inode *inode);

/* Sets mtime and ctime to now inside a transaction.  Lock held. */
int pml_inode_touch(struct pml_inode *inode) PML_MUST_CHECK;

#endif
