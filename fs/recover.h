/* SPDX-License-Identifier: BSD-3-Clause */
/* recover.h -- the walk at mount (recover.c) */
#ifndef PML_FS_RECOVER_H
#define PML_FS_RECOVER_H

#include "pool.h"

/*
 * Rebuilds the share counters and free space from the extent maps, finishes
 * interrupted punches and frees orphans.  After pml_itable_open() and
 * pml_alloc_open(), before anything else.  On a read-only mount the last two
 * steps are left out.
 */
int pml_recover(struct pml_fs *fs) PML_MUST_CHECK;

#endif
