/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * rewrite.h -- which blocks of a range must change place before they are written
 *
 * A write plans its range, asks the guard, gives blocks to what needs new ones,
 * fills these while nobody sees them, and maps them in one transaction:
 *
 *	plan -> admit -> allocate -> (fill) -> map in a transaction -> drop
 *
 * Up to the transaction's commit the file is unchanged; pml_rewrite_abort() gives
 * the blocks back.  All calls need the inode's lock exclusively.
 */
#ifndef PML_FS_REWRITE_H
#define PML_FS_REWRITE_H

#include "extent.h"

enum pml_piece_kind {
	PML_PIECE_IN_PLACE, /* written and unshared: stays where it is */
	PML_PIECE_FILL,	    /* a hole: gets a new block */
	PML_PIECE_COPY,	    /* shared: gets a new block, old contents copied (I5) */
	PML_PIECE_CONVERT,  /* preallocated: becomes readable where it is */
};

struct pml_piece {
	uint64_t file_block;
	uint64_t nblocks;
	uint64_t block;	    /* where it will be; 0 until pml_rewrite_allocate() */
	uint64_t old_block; /* of a copy */
	enum pml_piece_kind kind;
};

/* Enough for one piece per block of a write of PML_IO_BYTES_MAX at any alignment. */
#define PML_PIECES_MAX 260u

struct pml_rewrite {
	struct pml_inode *inode;
	uint64_t first_block; /* what is covered: file blocks [first_block, end_block) */
	uint64_t end_block;
	uint64_t move_first; /* the span of blocks whose layout changes; equal: none */
	uint64_t move_end;
	size_t n;
	struct pml_piece piece[PML_PIECES_MAX];
};

/* Covers less than [first, end) when the range has more pieces than fit. */
int pml_rewrite_plan(struct pml_inode *inode, uint64_t first, uint64_t end,
		     struct pml_rewrite *ret_rw) PML_MUST_CHECK;

/* Asks the guard about the blocks that will move (PML_OP_UNSHARE).  Errors as admit(). */
int pml_rewrite_admit(const struct pml_rewrite *rw, struct pml_waiter *w) PML_MUST_CHECK;

/*
 * Takes the blocks.  May shorten the rewrite (end_block) when free space is in small
 * pieces, never below 256 blocks.  -ENOSPC: nothing is held.
 */
int pml_rewrite_allocate(struct pml_rewrite *rw) PML_MUST_CHECK;
void pml_rewrite_abort(const struct pml_rewrite *rw);

/*
 * In a transaction: maps all pieces; @unwritten_from: fresh blocks from this file block on
 * are mapped as preallocated (UINT64_MAX: none).  @unmapped: empty; drop it after the commit.
 */
int pml_rewrite_map(const struct pml_rewrite *rw, uint64_t unwritten_from,
		    struct pml_unmapped *unmapped) PML_MUST_CHECK;

/* pml_rewrite_map() in a transaction of its own; on error the blocks are given back. */
int pml_rewrite_commit(const struct pml_rewrite *rw, uint64_t unwritten_from) PML_MUST_CHECK;

/* How many blocks from @block on, at most @n, are shared (or not), as the first is. */
uint64_t pml_same_sharing(const struct pml_fs *fs, uint64_t block, uint64_t n, bool *ret_shared);

/* Asks the guard about one change of @inode; bytes, @end exclusive. */
int pml_guard_admit(struct pml_inode *inode, enum pml_layout_op op, uint64_t first, uint64_t end,
		    struct pml_waiter *w) PML_MUST_CHECK;

/*
 * Would the guard let it happen at once?  0, or an error; recalls nobody, and is counted
 * nowhere.
 */
int pml_guard_probe(struct pml_inode *inode, enum pml_layout_op op, uint64_t first,
		    uint64_t end) PML_MUST_CHECK;

/*
 * Zeroes what lies behind the end of the file in its last block, before the file grows:
 * bytes there are undefined (fs/space.c).  Copies the block first when it is shared.
 * @ret_moved: it was.  Transaction of its own.
 */
int pml_tail_zero(struct pml_inode *inode, bool *ret_moved) PML_MUST_CHECK;
/* The guard's answer to the move that pml_tail_zero() would make. */
int pml_tail_admit(struct pml_inode *inode, struct pml_waiter *w) PML_MUST_CHECK;
/* The same as pml_guard_probe() asks. */
int pml_tail_probe(struct pml_inode *inode) PML_MUST_CHECK;

#endif
