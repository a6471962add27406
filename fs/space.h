/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * space.h -- the parts of pml_file_allocate() that lie in files of their own
 *
 * All calls need the inode's lock exclusively, no punch marker, and make transactions of
 * their own.
 */
#ifndef PML_FS_SPACE_H
#define PML_FS_SPACE_H

#include "inode.h"

/* ---- prealloc.c ---- */

/*
 * Maps the holes of file blocks [first, end) as preallocated.  -ENOSPC: nothing has
 * changed, or with more than 4096 holes the first ones are preallocated.
 */
int pml_preallocate_blocks(struct pml_inode *inode, uint64_t first, uint64_t end) PML_MUST_CHECK;

/* fallocate(2) with mode 0 or FALLOC_FL_KEEP_SIZE. */
int pml_preallocate_locked(struct pml_inode *inode, bool keeps_size, uint64_t first_byte,
			   uint64_t end_byte, struct pml_waiter *w) PML_MUST_CHECK;

/* ---- zero.c ---- */

/* fallocate(2) with FALLOC_FL_ZERO_RANGE. */
int pml_zero_locked(struct pml_inode *inode, bool keeps_size, uint64_t first_byte,
		    uint64_t end_byte, struct pml_waiter *w) PML_MUST_CHECK;

/* ---- unshare.c ---- */

/* What giving the file blocks of its own in a range takes. */
struct pml_space_survey {
	uint64_t nshared;      /* blocks that must be copied */
	uint64_t nholes;       /* blocks that are not mapped */
	uint64_t shared_first; /* the span of the shared blocks; equal: none */
	uint64_t shared_end;
};
int pml_space_survey(struct pml_inode *inode, uint64_t first, uint64_t end,
		     struct pml_space_survey *ret_survey) PML_MUST_CHECK;

/* Copies the shared blocks of [first, end).  Does not ask the guard. */
int pml_unshare_blocks(struct pml_inode *inode, uint64_t first, uint64_t end) PML_MUST_CHECK;

#endif
