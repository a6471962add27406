/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * usage.h -- which processor time processes have used
 *
 * Threads: any.
 */
#ifndef SOAK_USAGE_H
#define SOAK_USAGE_H

#include <sys/types.h>

/* Of a process and of the children that it has waited for, in ms; 0: there is none. */
double usage_ms(pid_t pid);
/* Of @n of them. */
double usage_all_ms(const pid_t *pids, unsigned int n);

#endif
