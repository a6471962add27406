/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * counter.h -- shares and pins of each block in one 32-bit atomic
 *
 * counter = shares + 1024 * pins: the bias of the kernel's GUP_PIN_COUNTING_BIAS
 * (include/linux/mm.h).  A block is free only at 0 (I1).  From 1024 shares on
 * pml_counter_maybe_pinned() may be a false positive, never a false negative.
 *
 * Overflow is refused before it happens: shares up to PML_SHARES_MAX; pins only
 * while the whole counter fits.  A counter above 1024 does not say by itself how
 * it splits: the exact split is kept by alloc.h's statistics and by the owners
 * (extent maps, pin.h); see pml_block_shares().
 *
 * Lock-free.  Who may change what: shares under the lock of the inode whose
 * extent comes or goes; pins by the owner of the segment (I2).
 */
#ifndef PML_FS_COUNTER_H
#define PML_FS_COUNTER_H

#include <stdatomic.h>

#include "pml/base.h"

#define PML_PIN_BIAS 1024u
/* Shares are refused above this, so that a million pins still fit in 32 bits. */
#define PML_SHARES_MAX (1u << 30)

typedef _Atomic uint32_t pml_counter;

static inline bool pml_counter_is_free(const pml_counter *c)
{
	return atomic_load_explicit(c, memory_order_acquire) == 0;
}

static inline bool pml_counter_maybe_pinned(const pml_counter *c)
{
	return atomic_load_explicit(c, memory_order_acquire) >= PML_PIN_BIAS;
}

/*
 * Gives blocks that are free their first share.  Assumes: the counters are 0 and nobody
 * else changes them (the allocator has just taken the blocks).
 */
static inline void pml_counter_take(pml_counter *c, uint64_t n)
{
	for (uint64_t i = 0; i < n; i++) {
		assert(atomic_load_explicit(&c[i], memory_order_relaxed) == 0);
		atomic_store_explicit(&c[i], 1, memory_order_relaxed);
	}
}

/* Batch operations on @n consecutive counters; all or none of them change. */

/* One more share each.  -EMLINK: one of them would overflow. */
int pml_counter_share(pml_counter *c, uint64_t n) PML_MUST_CHECK;
/* One more pin each.  -EUSERS: one of them would overflow. */
int pml_counter_pin(pml_counter *c, uint64_t n) PML_MUST_CHECK;

/*
 * One share / pin less each.  @became_zero is called for each maximal run [first, +n)
 * of indexes whose counter reached 0: the caller frees these blocks.
 */
typedef void (*pml_counter_zero)(void *arg, uint64_t first, uint64_t n);
void pml_counter_unshare(pml_counter *c, uint64_t n, pml_counter_zero became_zero, void *arg);
void pml_counter_unpin(pml_counter *c, uint64_t n, pml_counter_zero became_zero, void *arg);

#endif
