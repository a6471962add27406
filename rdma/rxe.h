/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * rxe.h -- soft-RoCE: for how long its word is to be trusted
 *
 * soft-RoCE takes a region out of its table, waits for the last access through it, and after
 * some time gives up waiting, forgets the region all the same, and reports success
 * (drivers/infiniband/sw/rxe/rxe_pool.c, __rxe_cleanup()).  So a deregistration that was back
 * earlier than that is a fence, and one that was not may be none.
 *
 * How long it waits:
 *  - since Linux 6.14 50 seconds (commit edc4ef0e0154), also in stable kernels, of which those
 *    count whose source was looked at;
 *  - before that 200 ticks of the kernel's clock, that is 0.2 to 2 s.
 *
 * Threads: any.
 */
#ifndef PML_RDMA_RXE_H
#define PML_RDMA_RXE_H

#include "pml/base.h"

/*
 * Nanoseconds that soft-RoCE of a kernel waits at least.
 * @release, @version: as uname(2) says; Debian's stable number is in the version
 * @tick_ns: of the kernel's clock
 */
uint64_t pml_rxe_wait_ns(const char *release, const char *version, uint64_t tick_ns);

/*
 * A deregistration on this machine that took less is a fence.  A quarter is left out, because a
 * kernel whose processor comes late counts several ticks at once.
 */
uint64_t pml_rxe_trusted_ns(void);

#endif
