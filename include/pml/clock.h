/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * clock.h -- the two clocks of the project
 *
 * Logic that can be tested with a fake clock takes the time as an argument;
 * only the threads that drive it read these.
 */
#ifndef PML_CLOCK_H
#define PML_CLOCK_H

#include <stdint.h>
#include <time.h>

static inline uint64_t pml_clock_ms(clockid_t clock)
{
	struct timespec ts;
	clock_gettime(clock, &ts);
	return (uint64_t)ts.tv_sec * 1000u + (uint64_t)ts.tv_nsec / 1000000u;
}

/* Milliseconds since an arbitrary start; never goes back.  clock_gettime(2). */
static inline uint64_t pml_now_ms(void)
{
	return pml_clock_ms(CLOCK_MONOTONIC);
}

/*
 * The same, up to one tick of the kernel (10 ms) behind: cheap, because no hardware is asked.  For
 * times that are far longer; not to be compared with pml_now_ms().
 */
static inline uint64_t pml_now_coarse_ms(void)
{
	return pml_clock_ms(CLOCK_MONOTONIC_COARSE);
}

/* Wall-clock time for file timestamps. */
static inline struct timespec pml_now_wall(void)
{
	struct timespec ts;
	clock_gettime(CLOCK_REALTIME, &ts);
	return ts;
}

#endif
