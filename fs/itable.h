/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * itable.h -- the inode table on the device, and which numbers are free
 *
 * Free numbers are derived at mount and kept in DRAM.
 */
#ifndef PML_FS_ITABLE_H
#define PML_FS_ITABLE_H

#include "pool.h"

/* Makes the DRAM side; walks all chunks.  Every inode with mode 0 is free. */
int pml_itable_open(struct pml_fs *fs) PML_MUST_CHECK;
void pml_itable_close(struct pml_fs *fs);

/* The slot of an inode; in use or not.  -ENOENT: no such chunk; -EIO. */
int pml_itable_at(const struct pml_fs *fs, uint64_t ino,
		  struct pml_media_inode **ret_inode) PML_MUST_CHECK;

/*
 * Takes a free number, and makes a chunk (in a transaction of its own) when none is
 * left; not inside a transaction.  Give it back with pml_itable_put() when the
 * transaction that uses it fails or after the one that frees it.  -ENOSPC.
 */
int pml_itable_take(struct pml_fs *fs, uint64_t *ret_ino) PML_MUST_CHECK;
void pml_itable_put(struct pml_fs *fs, uint64_t ino);

/* Calls @visit for each inode in use, until it returns non-zero, which is returned. */
int pml_itable_walk(struct pml_fs *fs,
		    int (*visit)(void *arg, uint64_t ino, struct pml_media_inode *inode),
		    void *arg) PML_MUST_CHECK;

uint64_t pml_itable_used(const struct pml_fs *fs);

#endif
