/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * counter.c -- shares and pins of each block in one 32-bit atomic
 *
 * Every change is one compare-and-swap or subtraction per counter, so a batch
 * is one pass over memory and observers see each counter before or after it.
 * A batch that has to be undone first grows and then shrinks the counters that
 * it had reached: in between they are too high, never too low, so nobody can
 * take a block for free that is not.
 *
 * Ordering: a decrement releases the caller's accesses to the block, and the
 * one that reaches 0 acquires everybody else's, before the block is reused (I1).
 */
#include "counter.h"

/* Adds @bias if the counter is at most @limit. */
static bool add_up_to(pml_counter *c, uint32_t bias, uint32_t limit)
{
	uint32_t old = atomic_load_explicit(c, memory_order_relaxed);
	do {
		if (old > limit)
			return false;
	} while (!atomic_compare_exchange_weak_explicit(c, &old, old + bias, memory_order_acq_rel,
							memory_order_relaxed));
	return true;
}

/* All @n, or none and the error @err. */
static int add_batch(pml_counter *c, uint64_t n, uint32_t bias, uint32_t limit, int err)
{
	for (uint64_t i = 0; i < n; i++) {
		if (add_up_to(&c[i], bias, limit))
			continue;
		while (i-- > 0)
			atomic_fetch_sub_explicit(&c[i], bias, memory_order_acq_rel);
		return err;
	}
	return 0;
}

static void subtract_batch(pml_counter *c, uint64_t n, uint32_t bias, pml_counter_zero became_zero,
			   void *arg)
{
	uint64_t first_zero = 0;
	uint64_t nzero = 0;

	for (uint64_t i = 0; i < n; i++) {
		uint32_t old = atomic_fetch_sub_explicit(&c[i], bias, memory_order_acq_rel);
		assert(old >= bias);
		if (old == bias) {
			if (nzero++ == 0)
				first_zero = i;
		} else if (nzero > 0) {
			became_zero(arg, first_zero, nzero);
			nzero = 0;
		}
	}
	if (nzero > 0)
		became_zero(arg, first_zero, nzero);
}

int pml_counter_share(pml_counter *c, uint64_t n)
{
	return add_batch(c, n, 1, PML_SHARES_MAX - 1, -EMLINK);
}

int pml_counter_pin(pml_counter *c, uint64_t n)
{
	return add_batch(c, n, PML_PIN_BIAS, UINT32_MAX - PML_PIN_BIAS, -EUSERS);
}

void pml_counter_unshare(pml_counter *c, uint64_t n, pml_counter_zero became_zero, void *arg)
{
	subtract_batch(c, n, 1, became_zero, arg);
}

void pml_counter_unpin(pml_counter *c, uint64_t n, pml_counter_zero became_zero, void *arg)
{
	subtract_batch(c, n, PML_PIN_BIAS, became_zero, arg);
}
