/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * daemon.h -- into the background, but not before the outcome is known
 *
 * The child does all the work and keeps the terminal until it is ready; the
 * parent waits for its word and ends with that exit status.
 */
#ifndef PML_TOOLS_DAEMON_H
#define PML_TOOLS_DAEMON_H

#include "pml/base.h"

/*
 * Forks.  Returns in the child only, with a descriptor for pml_daemon_ready(); the parent
 * exits with what the child says, or with @failed_status if it dies without a word.
 * Call it before starting threads.  -errno: could not fork.
 */
int pml_daemon_fork(int failed_status, int *ret_ready_fd) PML_MUST_CHECK;

/* Lets go of terminal and directory, then ends the parent with status 0. */
int pml_daemon_ready(int ready_fd) PML_MUST_CHECK;

#endif
