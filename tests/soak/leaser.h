/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * leaser.h -- a remote client that takes leases on the files that others work on
 */
#ifndef SOAK_LEASER_H
#define SOAK_LEASER_H

#include "model.h"

void leaser_init(void);
/* Starts it in a process of its own; its end is not waited for by others. */
pid_t leaser_start(const char *url);
void leaser_stop(pid_t pid);
/* Leases granted, by all of them. */
uint64_t leaser_granted(void);

#endif
