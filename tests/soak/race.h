/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * race.h -- operations on names and files that no lock keeps in order
 */
#ifndef SOAK_RACE_H
#define SOAK_RACE_H

#include "model.h"

/* One operation, drawn by @seed.  Returns 0, or an errno value that no order of others explains. */
int race_once(const struct op *op, uint64_t seed);
/* With nobody at work: links are counted right, and blocks are whole. */
void race_check(void);

#endif
