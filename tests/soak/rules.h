/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * rules.h -- what an operation must answer, and what it makes of the model
 */
#ifndef SOAK_RULES_H
#define SOAK_RULES_H

#include "model.h"

/* Does it take from node2, which it leaves as it is? */
bool op_has_source(const struct op *op);
/* Is it one of the ioctls on whole blocks? */
bool op_is_range(const struct op *op);

/* The errno value that the operation must end with in the model as it is now; 0: it succeeds. */
int op_expect(const struct op *op, const struct worker *worker);
/* May it fail on a full device?  Removing and making smaller never may. */
bool op_may_lack_space(const struct op *op);
/* How much of @bytes a success must do: less than asked at the end of a file. */
uint64_t op_all(const struct op *op);
/* Is a PERMIT that could change something refused? */
bool op_is_forbidden(const struct op *op);
/*
 * The operation has happened; of data only the first @done bytes.  Times that had to move
 * lie between op->begin_ns and now.
 */
void op_apply(const struct op *op, uint64_t done);
/*
 * Nodes whose attributes, entries or contents it may change, in its own tree; returns how
 * many, TOUCHED_MAX at most.
 */
int op_touches(const struct op *op, int *ret_nodes);

/* Blocks of [first, end) bytes, partial ones too. */
void set_mapping(struct node *file, uint64_t first, uint64_t end, enum mapping mapping);

#endif
