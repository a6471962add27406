/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * pin.h -- the exact table behind the block counters: which blocks are pinned how often
 *
 * counter.h cannot tell 1024 shares from a pin.  Where that matters (is this
 * block shared?  in quarantine?) this index of pinned runs knows.
 */
#ifndef PML_FS_PIN_H
#define PML_FS_PIN_H

#include "pool.h"

struct pml_pin_index;

int pml_pin_index_new(struct pml_fs *fs) PML_MUST_CHECK;
/* Assumes: no pin is held. */
void pml_pin_index_free(struct pml_fs *fs);

/* Exact number of shares of a block.  One load while its counter is below 1024. */
uint32_t pml_block_shares(const struct pml_fs *fs, uint64_t block);

/* Exact, at one instant. */
void pml_pin_counts(const struct pml_fs *fs, uint64_t *ret_pinned_blocks,
		    uint64_t *ret_quarantined_blocks, uint64_t *ret_pins);

#endif
