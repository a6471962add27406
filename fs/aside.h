/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * aside.h -- the other sharers of a block step aside, so that a lease need not end
 *
 * A shared block that is written must be copied.  Mostly the written file gets the copy; but
 * when a read lease on that file pins the block, this would move the leased range.  Then all
 * other files that map the block get one copy, which they share, and the written file keeps
 * the block, alone: an overwrite in place, which is in no lease's way.
 *
 * Best effort, before the change itself, which finds what is left and asks the guard: nothing
 * here fails.  The others do not step aside when one of them is leased there too, when there
 * are more than 8, when the file maps the block twice, when not all are known (sharers.h), or
 * when there is no space.
 *
 * Threads: any; called without locks, takes the audit lock for reading and then the files'
 * locks.  The first time after a mount that there is something to be done all changes wait for
 * a walk over all extents (pml_sharers_learn()).  Durable on return.
 */
#ifndef PML_FS_ASIDE_H
#define PML_FS_ASIDE_H

#include "inode.h"

/* For bytes [first, end) of @inode, rounded out to blocks.  Cheap where no lease is. */
void pml_step_aside(struct pml_inode *inode, uint64_t first_byte, uint64_t end_byte);

/* For the partial blocks at the ends of [first, end). */
void pml_step_aside_at_edges(struct pml_inode *inode, uint64_t first_byte, uint64_t end_byte);

/* For the block that the end of the file lies in, before the file becomes @size_bytes long. */
void pml_step_aside_at_tail(struct pml_inode *inode, uint64_t size_bytes);

#endif
