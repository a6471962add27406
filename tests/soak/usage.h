/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * usage.h -- which processor time processes have used
 *
 * Threads: any.
 */
#ifndef SOAK_USAGE_H
#define SOAK_USAGE_H

#include <sys/types.h>

/* Of @n processes, as far as they are there, and of children that they have waited for; in ms. */
double usage_all_ms(const pid_t *pids, unsigned int n);

#endif
