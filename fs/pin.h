/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * pin.h -- the exact table behind the block counters: which blocks are pinned how often
 *
 * counter.h cannot tell 1024 shares from a pin.  Where that matters (is this
 * block shared?  in quarantine?) this index of pinned runs knows.
 */
#ifndef PML_FS_PIN_H
#define PML_FS_PIN_H

#include "counter.h"
#include "pool.h"

struct pml_pin_index;

int pml_pin_index_new(struct pml_fs *fs) PML_MUST_CHECK;
/* Assumes: no pin is held. */
void pml_pin_index_free(struct pml_fs *fs);

/*
 * One pin more / less on each block of a run; drop takes exactly what one add pinned
 * and cannot fail.  A block is not pinned for reading and for writing at once.  Blocks that reach 0
 * become free.  The index's lock comes before the allocator's. -EUSERS a counter would overflow;
 * -ENOMEM
 */
int pml_pin_add(struct pml_fs *fs, uint64_t first, uint64_t n, bool for_write) PML_MUST_CHECK;
void pml_pin_drop(struct pml_fs *fs, uint64_t first, uint64_t n);

/* Is the block pinned for writing? */
bool pml_pin_is_written(const struct pml_fs *fs, uint64_t block);

/* Calls @visit for each pinned run; a run may come in pieces. */
void pml_pin_walk(const struct pml_fs *fs, void (*visit)(void *arg, uint64_t first, uint64_t n),
		  void *arg);

/* Exact number of shares of a block whose counter is 1024 or more: a look into the index. */
uint32_t pml_block_shares_exact(const struct pml_fs *fs, uint64_t block);

/* Exact number of shares of a block.  One load while its counter is below 1024. */
static inline uint32_t pml_block_shares(const struct pml_fs *fs, uint64_t block)
{
	uint32_t counter = atomic_load_explicit(&fs->counters[block], memory_order_acquire);
	return counter < PML_PIN_BIAS ? counter : pml_block_shares_exact(fs, block);
}

/* Exact, at one instant. */
void pml_pin_counts(const struct pml_fs *fs, uint64_t *ret_pinned_blocks,
		    uint64_t *ret_quarantined_blocks, uint64_t *ret_pins);

#endif
