/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * perform.h -- the system calls of an operation
 */
#ifndef SOAK_PERFORM_H
#define SOAK_PERFORM_H

#include "model.h"

/* Descriptors of this process, by slot of its worker. */
extern int slot_fd[SLOTS];

/*
 * Does it.  Returns 0 or an errno value; *ret_done: bytes done.  What is read is compared
 * with the model at once: a difference is told with complain().
 */
int op_perform(const struct op *op, struct worker *worker, uint64_t *ret_done);

/* Says what is wrong; the run has failed. */
__attribute__((format(printf, 1, 2))) void complain(const char *fmt, ...);
extern bool has_complained;
extern bool is_quiet; /* only the first is kept, for complain_now() */
void complain_now(void);

/* Is the daemon gone? */
bool is_dead(void);

#endif
