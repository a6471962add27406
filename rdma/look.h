/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * look.h -- how long a waiter looks for what it waits for, before it sleeps
 *
 * Looking is quicker than being woken, and takes a processor from others.  So a waiter looks
 * for about twice as long as it lately had to wait, as the kernel's halt polling does.
 *
 * Where waking up takes long, two peers that both sleep between messages stay slow: in the test
 * guest a round trip then takes 5 ms, and 0.1 ms when both look.  So now and then one looks for
 * as long as that; less and less often when it does not help.
 *
 * Threads: the caller serialises what uses one struct pml_look.
 */
#ifndef PML_RDMA_LOOK_H
#define PML_RDMA_LOOK_H

#include "pml/base.h"

/* What is known from waits before. */
struct pml_look {
	uint32_t max_us;
	uint32_t us;
	uint32_t waits;	    /* since the last long look or quick answer */
	uint32_t long_each; /* so many waits: a long look */
};

/* One wait. */
struct pml_look_run {
	uint64_t start_ns;
	uint64_t end_ns;
	uint32_t looks;
	bool is_long;
};

/* @max_us: what takes longer is slept for; at least 100. */
void pml_look_init(struct pml_look *ret_look, uint32_t max_us);
struct pml_look_run pml_look_begin(struct pml_look *look);
/* False: it is time to sleep.  Asks the clock each few looks. */
bool pml_look_again(struct pml_look_run *run);
/* The wait is over, with or without sleep. */
void pml_look_end(struct pml_look *look, const struct pml_look_run *run);

#endif
