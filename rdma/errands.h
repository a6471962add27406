/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * errands.h -- requests of one client that may have to wait for leases of others
 *
 * A thread of the session runs them, so that its serving thread goes on: the client can
 * renew, and return the very lease that is waited for.  One that waits keeps no thread
 * (pml/guard.h), so others overtake it and replies come out of order.
 *
 * Threads: safe.  An errand belongs to the thread that runs it, then to the guard, then to the
 * list of those that may run again.
 */
#ifndef PML_RDMA_ERRANDS_H
#define PML_RDMA_ERRANDS_H

#include <pthread.h>

#include "codec.h"
#include "pml/fs.h"
#include "pml/guard.h"
#include "pml/list.h"

/* Requests of a client that are no more than half done: its credits (I9). */
#define PML_ERRANDS_MAX PML_MSG_DEPTH

struct pml_remote;

struct pml_errands {
	pthread_mutex_t lock; /* taken before the guard's */
	pthread_cond_t changed;
	/* Under lock. */
	struct pml_list ready;
	struct pml_list alive;
	uint32_t nalive;
	bool is_over; /* the connection is gone */
	bool has_thread;
	pthread_t thread; /* constant once it is there */
};

struct pml_errand {
	struct pml_list link;	    /* on errands->ready, or on none */
	struct pml_list link_alive; /* on errands->alive */
	struct pml_remote *remote;
	struct pml_waiter waiter;
	bool has_begun;
	struct pml_wire_header request;
	struct pml_inode *inode; /* a reference; what is changed, or NULL */
	struct pml_inode *src;	 /* a reference; of a clone, else NULL */

	/*
	 * Runs it from its start, or from the progress that it made: 0 with the reply's body in
	 * @out and its length, or -errno.  -EINPROGRESS: the guard has it.
	 */
	int (*run)(struct pml_errand *errand, union pml_message *out, size_t *ret_bytes);
	const char *reason; /* of an error, in words, or NULL */

	/* For run(). */
	union {
		struct pml_wire_setattr setattr;
		struct pml_wire_clone clone;
		struct pml_wire_commit commit;
	} args;
	uint64_t done_bytes;
};

void pml_errands_init(struct pml_errands *errands);
/*
 * Cancels what waits, and waits for the thread: bounded by what a change takes that no lease
 * is in the way of.  Nothing begins any more.
 */
void pml_errands_stop(struct pml_errands *errands);
/* Assumes: stopped, or never used. */
void pml_errands_fini(struct pml_errands *errands);

/*
 * pml_errands_start() - have the request in remote->in done and answered
 * @what: zero but for inode, src, run and args; copied.  Its references are taken over, on
 *        error, too
 *
 *   -EINPROGRESS  it will be answered
 *   -EAGAIN       PML_ERRANDS_MAX are there already
 *   -ENOMEM, -EAGAIN  no thread can be made
 * In the serving thread.
 */
int pml_errands_start(struct pml_remote *remote, const struct pml_errand *what) PML_MUST_CHECK;

#endif
