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
#include "pml/list.h"

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

/* A description of it is open from now on, or not any more. */
void pml_fuse_nodes_opened(struct pml_fuse_nodes *nodes, uint64_t ino, bool is_open);

/* ---- what the kernel must be told --------------------------------------- */
/*
 * Telling may wait in the kernel for a page, so threads of its own do it (tellers).  A
 * range is marked, and told some time later; or asked, and the caller waits until it was
 * told.  A write that is parked keeps the pages that it writes: they are told after it.
 */

/* Bytes of an inode; first_byte >= end_byte: only its attributes. */
struct pml_fuse_stale {
	uint64_t ino;
	uint64_t first_byte;
	uint64_t end_byte; /* exclusive; UINT64_MAX: to the end */
};

/*
 * Marks a range; ranges of one inode merge into the smallest that covers them.  Call it after
 * the bytes have changed: nothing is marked if the kernel keeps nothing.
 */
void pml_fuse_nodes_mark(struct pml_fuse_nodes *nodes, const struct pml_fuse_stale *stale);

/*
 * Returns when the kernel has been told, but for pages of parked writes, which are marked.
 * What takes too long is told later, and so is everything once there is no loop.
 * @name: NULL, or what has been made in the directory stale->ino.
 */
void pml_fuse_nodes_ask(struct pml_fuse_nodes *nodes, const struct pml_fuse_stale *stale,
			const char *name);
/* Requests are not served any more: who asks does not wait from now on. */
void pml_fuse_nodes_stop_waiting(struct pml_fuse_nodes *nodes);

/* Something to be told by one teller. */
struct pml_fuse_tell {
	struct pml_fuse_stale stale; /* advanced by the teller */
	struct pml_fuse_ask *ask;    /* who waits for it; NULL: it was marked */
	const char *name;
	bool is_counted; /* in the node's number of tellers */
	bool is_all;	 /* it makes the kernel forget all that it keeps */
	uint64_t asked, size;
};
/* Waits for something to tell and takes it.  Returns false when told to stop. */
bool pml_fuse_nodes_take(struct pml_fuse_nodes *nodes, struct pml_fuse_tell *ret_tell);
/*
 * The next piece of it that no parked write keeps.  Returns false when there is none left.
 * Of attributes and names there is one piece.
 */
bool pml_fuse_nodes_next_piece(struct pml_fuse_nodes *nodes, struct pml_fuse_tell *tell,
			       struct pml_fuse_stale *ret_piece);
/* The kernel has been told all of it. */
void pml_fuse_nodes_told(struct pml_fuse_nodes *nodes, const struct pml_fuse_tell *tell);
/* False, too, when requests are not served any more: what it forgets is not heard then. */
bool pml_fuse_nodes_is_known(struct pml_fuse_nodes *nodes, uint64_t ino);
/* Is there something about @ino that the kernel has not been told yet? */
bool pml_fuse_nodes_is_stale(struct pml_fuse_nodes *nodes, uint64_t ino);
/* Wakes all who wait, for good. */
void pml_fuse_nodes_stop(struct pml_fuse_nodes *nodes);

/*
 * Between these a write of [first_byte, end_byte) to @ino may be parked, and the kernel may
 * hold locks on the pages that it writes: telling it that they are stale would wait for
 * the write.
 */
struct pml_fuse_parked {
	struct pml_list link;
	uint64_t first_byte;
	uint64_t end_byte;
};
void pml_fuse_nodes_write_begin(struct pml_fuse_nodes *nodes, uint64_t ino,
				struct pml_fuse_parked *parked);
void pml_fuse_nodes_write_end(struct pml_fuse_nodes *nodes, uint64_t ino,
			      struct pml_fuse_parked *parked);

#endif
