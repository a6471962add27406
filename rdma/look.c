/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * look.c -- how long a waiter looks before it sleeps: see look.h
 */
#include "look.h"

#include "transport_impl.h"

#define LOOK_US_MIN	   100u
#define LONG_LOOK_US	   10000u
#define LONG_LOOK_EACH_MIN 8u
#define LONG_LOOK_EACH_MAX 4096u
/* So many looks for one at the clock. */
#define LOOKS_PER_CLOCK 4u

void pml_look_init(struct pml_look *ret_look, uint32_t max_us)
{
	assert(max_us >= LOOK_US_MIN && max_us <= LONG_LOOK_US);
	*ret_look =
		(struct pml_look){.max_us = max_us, .us = max_us, .long_each = LONG_LOOK_EACH_MIN};
}

struct pml_look_run pml_look_begin(struct pml_look *look)
{
	struct pml_look_run run = {.start_ns = pml_transport_now_ns()};
	run.is_long = ++look->waits >= look->long_each;
	run.end_ns = run.start_ns + (run.is_long ? LONG_LOOK_US : look->us) * 1000ull;
	return run;
}

bool pml_look_again(struct pml_look_run *run)
{
	return ++run->looks % LOOKS_PER_CLOCK || pml_transport_now_ns() < run->end_ns;
}

void pml_look_end(struct pml_look *look, const struct pml_look_run *run)
{
	uint64_t took_us = (pml_transport_now_ns() - run->start_ns) / 1000u;
	if (took_us <= look->max_us) {
		look->us = (uint32_t)PML_MAX(look->us, PML_MIN(took_us * 2 + 1, look->max_us));
		look->long_each = LONG_LOOK_EACH_MIN;
		look->waits = 0;
	} else if (run->is_long) {
		look->us = took_us < LONG_LOOK_US ? look->max_us : LOOK_US_MIN;
		look->long_each = PML_MIN(look->long_each * 2, LONG_LOOK_EACH_MAX);
		look->waits = 0;
	} else {
		look->us = PML_MAX(look->us / 2, LOOK_US_MIN);
	}
}
