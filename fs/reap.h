/* SPDX-License-Identifier: BSD-3-Clause */
/* reap.h -- freeing a directory tree that nobody can reach (reap.c) */
#ifndef PML_FS_REAP_H
#define PML_FS_REAP_H

#include "inode.h"

/*
 * Frees an orphan, a directory with entries, and all that hangs on it alone; in
 * transactions of its own.  Nobody has a reference to it.  Audit lock held (or mounting).
 * After an error the rest stays an orphan, which the next mount frees.
 */
int pml_reap_tree(struct pml_fs *fs, uint64_t ino) PML_MUST_CHECK;

#endif
