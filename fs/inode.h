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
	uint64_t refs;		     /* under icache lock */
	bool is_published;	     /* pml_inode_get() may find it; under icache lock */
	bool is_unnamed;	     /* never had a name: may get one; under lock */
	struct pml_inode *hash_next; /* under icache lock */
	/* Write leases since this came into core: each may have left bytes in CPU caches. */
	_Atomic uint32_t remote_writers;
};

int pml_icache_new(struct pml_fs *fs) PML_MUST_CHECK;
/* Assumes: no references are out. */
void pml_icache_free(struct pml_fs *fs);

/*
 * The in-core inode of a number just made by pml_itable_take(), with one reference.
 * pml_inode_get() does not find it until pml_inode_publish(), which comes after the
 * commit; where there is no commit pml_inode_abandon() takes its place.
 */
int pml_inode_new(struct pml_fs *fs, uint64_t ino, struct pml_inode **ret_inode) PML_MUST_CHECK;
void pml_inode_publish(struct pml_inode *inode);
void pml_inode_abandon(struct pml_inode *inode);

/* pml_inode_put() of one reference by a caller inside a change (audit lock held). */
void pml_inode_put_in_change(struct pml_inode *inode);

/*
 * Frees an inode whose nlink is 0 and that nobody refers to: blocks, tree, target, slot,
 * number.  Own transactions; audit lock held (or mounting).
 */
int pml_inode_destroy(struct pml_fs *fs, uint64_t ino,
		      struct pml_media_inode *media) PML_MUST_CHECK;

/* The type never changes; the permission bits beside it do. */
static inline uint32_t pml_inode_type(const struct pml_inode *inode)
{
	return __atomic_load_n(&inode->media->mode, __ATOMIC_RELAXED) & S_IFMT;
}

static inline bool pml_inode_is_file(const struct pml_inode *inode)
{
	return pml_inode_type(inode) == S_IFREG;
}

static inline bool pml_inode_is_dir(const struct pml_inode *inode)
{
	return pml_inode_type(inode) == S_IFDIR;
}

/*
 * Enter and leave a change: the audit lock for reading, the lock exclusively.
 * Returns -EROFS on a read-only filesystem, without locks.
 */
int pml_inode_begin_change(struct pml_inode *inode) PML_MUST_CHECK;
void pml_inode_end_change(struct pml_inode *inode);

/* pml_inode_access() with the lock held. */
int pml_inode_access_locked(const struct pml_inode *inode, const struct pml_cred *cred,
			    int mask) PML_MUST_CHECK;

/* pml_inode_drop_privileges() in a change of the caller's, in a transaction of its own. */
int pml_inode_drop_privileges_locked(struct pml_inode *inode, const struct pml_cred *cred,
				     bool *ret_has_dropped) PML_MUST_CHECK;

/* Sets mtime and ctime to now inside a transaction.  Lock held. */
int pml_inode_touch(struct pml_inode *inode) PML_MUST_CHECK;

#endif
