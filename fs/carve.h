/* SPDX-License-Identifier: BSD-3-Clause */
/* carve.h -- making allocation groups out of the pool's heap (carve.c; alloc.c uses it) */
#ifndef PML_FS_CARVE_H
#define PML_FS_CARVE_H

#include "pool.h"

/*
 * Makes one more group, in super->groups too, atomically.  Caller: alone (alloc lock).
 * -ENOSPC: the heap has no room for one besides the reserve for metadata.
 */
int pml_carve_group(struct pml_fs *fs, struct pml_media_group *ret_group) PML_MUST_CHECK;

/* super->payload_blocks: what all groups may come to. */
uint64_t pml_carve_payload(const struct pml_fs *fs);
void pml_carve_set_payload(struct pml_fs *fs, uint64_t nblocks);

#endif
