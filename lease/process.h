/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * process.h -- a process that can be killed, and nobody in its place
 *
 * A number of a process may belong to another one a moment later; a pidfd does not.
 *
 * Threads: references are atomic; what else is said at each function.
 */
#ifndef PML_LEASE_PROCESS_H
#define PML_LEASE_PROCESS_H

#include <sys/types.h>

#include "pml/base.h"

struct pml_process;

/*
 * The process of a thread, with one reference.  Assumes: the thread lives during the call.
 *   -ESRCH  it is not visible in this process's namespace
 *   -EPERM  it may not be killed from here, or is this process
 *   -errno  of pidfd_open(2)
 */
int pml_process_of_thread(pid_t tid, struct pml_process **ret_process) PML_MUST_CHECK;
void pml_process_ref(struct pml_process *process);
void pml_process_put(struct pml_process *process);

pid_t pml_process_pid(const struct pml_process *process);
/* Does it run the thread?  Assumes: as above. */
bool pml_process_has_thread(const struct pml_process *process, pid_t tid);

/*
 * Sends SIGKILL and waits at most @wait_ms until the process has ended: a zombie has, it
 * has no open file any more.  The first call does it and returns true; later ones do
 * nothing.  One thread.
 */
bool pml_process_kill(struct pml_process *process, unsigned int wait_ms);

#endif
