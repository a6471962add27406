/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * pace.h -- so many events in a row, then one per interval
 *
 * A bucket of tokens in one number: when it will be full again if nothing more is taken.
 *
 * Threads: the caller's lock.
 */
#ifndef PML_RDMA_PACE_H
#define PML_RDMA_PACE_H

#include "pml/base.h"

struct pml_pace_rule {
	uint32_t burst; /* not 0 */
	uint32_t interval_ms;
};

/* Zeroed: nothing was taken yet. */
struct pml_pace {
	uint64_t full_ms;
};

/* May one more event happen? */
static inline bool pml_pace_has(const struct pml_pace *pace, const struct pml_pace_rule *rule,
				uint64_t now_ms)
{
	uint64_t room_ms = (uint64_t)(rule->burst - 1) * rule->interval_ms;
	return pace->full_ms <= now_ms || pace->full_ms - now_ms <= room_ms;
}

/* It happens. */
static inline void pml_pace_take(struct pml_pace *pace, const struct pml_pace_rule *rule,
				 uint64_t now_ms)
{
	pace->full_ms = PML_MAX(pace->full_ms, now_ms) + rule->interval_ms;
}

#endif
