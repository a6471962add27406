/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * notices.h -- sends recalls and revocations without holding up the lease manager
 *
 * The manager's one clock thread tells all sessions; a client that reads slowly,
 * or whose connection is full of its own data, must not delay the others.  So a
 * notice that cannot go out at once waits in a ring for a thread of its session.
 */
#ifndef PML_RDMA_NOTICES_H
#define PML_RDMA_NOTICES_H

#include <pthread.h>

#include "hosts.h"
#include "transport.h"
#include "wire.h"

/* Two for each lease that a session may have by default. */
#define PML_NOTICES_MAX 2048u

union pml_notice {
	struct pml_wire_header h;
	struct pml_wire_recall recall;
	struct pml_wire_revoked revoked;
};

struct pml_notices {
	struct pml_ep *ep;
	struct pml_hosts *hosts;
	bool has_thread; /* set before anybody puts */
	pthread_t thread;
	pthread_mutex_t lock; /* innermost */
	pthread_cond_t changed;
	/* Under lock. */
	uint32_t first; /* index of the oldest */
	uint32_t count;
	bool is_sending; /* the thread has one in hand */
	bool is_over;
	union pml_notice *ring; /* PML_NOTICES_MAX */
};

/* @notices is the caller's memory.  @hosts: for lines in the log */
int pml_notices_init(struct pml_notices *notices, struct pml_ep *ep,
		     struct pml_hosts *hosts) PML_MUST_CHECK;
/*
 * Makes ring and thread, once: when the client is let in, as who is not gets no notice and
 * shall cost little.  -ENOMEM, -EAGAIN: no thread could be made.
 */
int pml_notices_start(struct pml_notices *notices) PML_MUST_CHECK;
/* Sends or queues; never blocks.  Assumes: started.  -ENOBUFS: lost, the ring is full.  -ENOTCONN.
 */
int pml_notices_put(struct pml_notices *notices, const union pml_notice *notice) PML_MUST_CHECK;
/* Assumes: pml_ep_kill() was called, so that nothing blocks, and nobody puts any more. */
void pml_notices_fini(struct pml_notices *notices);

#endif
