/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fuse_nodes.h -- the inodes that the kernel knows
 *
 * The kernel names inodes by number and says how often it has learned of each
 * (its lookup count).  The table holds one reference to the inode for all of
 * them, and remembers which ranges the kernel has to be told are stale.  Only
 * inodes in the table can be cached by the kernel, so the stale ranges live in
 * the table's entries: marking one cannot fail and needs no queue with a limit.
 *
 * Threads: safe.  One lock, which is never held while calling anything else.
 */
#ifndef PML_FUSE_NODES_H
#define PML_FUSE_NODES_H

#include "pml/base.h"
#include "pml/fs.h"

struct pml_fuse_nodes;

int pml_fuse_nodes_new(struct pml_fuse_nodes **ret_nodes) PML_MUST_CHECK;
/* Drops all references.  Assumes: no other thread uses the table. */
void pml_fuse_nodes_free(struct pml_fuse_nodes *nodes);

/*
 * The kernel is about to learn of @inode: one more lookup.  Takes over the caller's
 * reference; the inode stays valid for the caller until the kernel has been answered.
 * -ENOMEM: the reference is still the caller's.
 */
int pml_fuse_nodes_add(struct pml_fuse_nodes *nodes, struct pml_inode *inode) PML_MUST_CHECK;

/* The kernel forgot @count lookups, or never learned of them. */
void pml_fuse_nodes_forget(struct pml_fuse_nodes *nodes, uint64_t ino, uint64_t count);

/* With a reference of the caller's own; NULL: the kernel was never told of it. */
struct pml_inode *pml_fuse_nodes_get(struct pml_fuse_nodes *nodes, uint64_t ino) PML_MUST_CHECK;

/* ---- stale ranges ------------------------------------------------------- */

struct pml_fuse_stale {
	uint64_t ino;
	uint64_t first_byte;
	uint64_t end_byte; /* exclusive; UINT64_MAX: to the end */
};

/* Marks a range; ranges of one inode merge into the smallest that covers them. */
void pml_fuse_nodes_mark(struct pml_fuse_nodes *nodes, const struct pml_fuse_stale *stale);

/* Waits for a marked range and takes it.  Returns false when told to stop. */
bool pml_fuse_nodes_take_stale(struct pml_fuse_nodes *nodes, struct pml_fuse_stale *ret_stale);
/* The kernel has been told what pml_fuse_nodes_take_stale() gave. */
void pml_fuse_nodes_told(struct pml_fuse_nodes *nodes, uint64_t ino);
/* Is there something about @ino that the kernel has not been told yet? */
bool pml_fuse_nodes_is_stale(struct pml_fuse_nodes *nodes, uint64_t ino);
/* Wakes all who wait in pml_fuse_nodes_take_stale(), for good. */
void pml_fuse_nodes_stop(struct pml_fuse_nodes *nodes);

/*
 * Between these a write to @ino may be parked, and the kernel may hold locks on the
 * pages that it writes: telling it that they are stale would wait for the write.
 * So it is told afterwards.
 */
void pml_fuse_nodes_write_begin(struct pml_fuse_nodes *nodes, uint64_t ino);
void pml_fuse_nodes_write_end(struct pml_fuse_nodes *nodes, uint64_t ino);

#endif
