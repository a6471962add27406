/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * pick.h -- draws operations
 */
#ifndef SOAK_PICK_H
#define SOAK_PICK_H

#include "model.h"

/* Numbers that depend on nothing but the seed, the worker and the operation's number. */
void pick_seed(uint64_t seed, uint64_t worker, uint64_t count);
uint32_t pick_below(uint32_t n);
uint64_t pick_word(void);

/* The kind, and which tree it is for.  No lock is needed. */
void pick_kind(struct op *op, int worker);
/* What it works on; false: there is nothing suitable.  The tree's lock is held. */
bool pick_target(struct op *op, const struct worker *worker);
/* Where and how much; false: nothing fits.  The files' locks are held. */
bool pick_extent(struct op *op, const struct worker *worker);

#endif
