/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * alloc.h -- free space: which blocks of the allocation groups may be handed out
 *
 * All in DRAM, derived at mount.  A block is in use exactly while its counter is
 * not 0 (I1).  Groups are carved from the pool on demand, in falling sizes from
 * 8 GiB - 62 MiB to 16 MiB, never given back, and only while enough of the heap
 * stays free for metadata (PML_METADATA_RESERVE).
 *
 * Threads: safe; fs.alloc is behind one mutex, taken after inode locks.
 */
#ifndef PML_FS_ALLOC_H
#define PML_FS_ALLOC_H

#include "pool.h"

/* Heap that groups leave to metadata: 1/32 of the device and 8 MiB, whichever is more. */
#define PML_METADATA_RESERVE_SHIFT 5
#define PML_METADATA_RESERVE_MIN   (8u << 20)

static inline uint64_t pml_metadata_reserve(uint64_t device_bytes)
{
	return PML_MAX(device_bytes >> PML_METADATA_RESERVE_SHIFT,
		       (uint64_t)PML_METADATA_RESERVE_MIN);
}

/* Makes the DRAM side from super->groups, everything free.  Recovery then marks. */
int pml_alloc_open(struct pml_fs *fs) PML_MUST_CHECK;
void pml_alloc_close(struct pml_fs *fs);
/* At mkfs: computes super->payload_blocks (an estimate of what will ever be carved). */
int pml_alloc_format(struct pml_fs *fs) PML_MUST_CHECK;

/* Do blocks [first, +n) lie inside one group?  For extents read from the device; no lock. */
bool pml_alloc_has(const struct pml_fs *fs, uint64_t first, uint64_t n);

/* Recovery: counters of these blocks have just become non-zero.  -EIO: not in a group. */
int pml_alloc_mark_used(struct pml_fs *fs, uint64_t first, uint64_t n) PML_MUST_CHECK;

/*
 * pml_alloc_take() - take one contiguous run of free blocks
 * @want: how many, at least 1
 * @goal: preferred first block (behind the file's last extent), 0 none
 *
 * Takes at most @want, fewer when no run is long enough; runs of 512 and more start
 * 2 MiB-aligned where possible.  Their counters are 1 (one share) on return; nothing on
 * the device has changed.  -ENOSPC: no block is free and no group can be carved.
 * Not inside a transaction (carving makes its own).
 */
int pml_alloc_take(struct pml_fs *fs, uint64_t want, uint64_t goal, uint64_t *ret_first,
		   uint64_t *ret_n) PML_MUST_CHECK;

/*
 * pml_alloc_take_for() - the same for blocks of a file
 *
 * A file that is written in order, if only in pieces and beside others, gets blocks that
 * lie in order too: whole 2 MiB units once it is larger than a few requests.
 */
struct pml_alloc_wish {
	uint64_t want; /* blocks, at least 1 */
	uint64_t goal; /* as above */
	uint64_t ino;  /* 0: of no file */
	uint64_t file_block;
};
int pml_alloc_take_for(struct pml_fs *fs, const struct pml_alloc_wish *wish, uint64_t *ret_first,
		       uint64_t *ret_n) PML_MUST_CHECK;

/*
 * One share less for each block (the transaction that unmapped them is committed, or the
 * one that would have mapped them is not).  Those without shares and pins become free
 * (poisoned first if asked); those still pinned are in quarantine.
 */
void pml_alloc_unshare(struct pml_fs *fs, uint64_t first, uint64_t n);
/* One pin less for each block; as above. */
void pml_alloc_unpin(struct pml_fs *fs, uint64_t first, uint64_t n);

/* Free blocks in carved groups; all blocks in them. */
uint64_t pml_alloc_free_blocks(const struct pml_fs *fs);
uint64_t pml_alloc_carved_blocks(const struct pml_fs *fs);
/* Blocks that may still be carved (an estimate until the heap's end is met, then 0). */
uint64_t pml_alloc_uncarved_blocks(const struct pml_fs *fs);
/* Blocks with one share and more, and with two and more; passes over the counters in use. */
void pml_alloc_count_shares(const struct pml_fs *fs, uint64_t *ret_used, uint64_t *ret_shared);

/*
 * Waits for a carving that is under way, and lets none begin: it holds back free heap for
 * moments.  Whoever gets no memory from the heap tries once more between these two
 * (pml_tx_alloc()).
 */
void pml_alloc_stop(struct pml_fs *fs);
void pml_alloc_go_on(struct pml_fs *fs);

/* Audit: is the block marked in use?  Caller has stopped all changes. */
bool pml_alloc_is_used(const struct pml_fs *fs, uint64_t block);

#endif
