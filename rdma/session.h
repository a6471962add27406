/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * session.h -- one connected client, seen from the server
 *
 * A remote owns its endpoint and its session with the lease manager.  It lives
 * until both are over: the manager may still fence keys of the endpoint after
 * the connection broke, so pml_remote_serve() returns only after released().
 */
#ifndef PML_RDMA_SESSION_H
#define PML_RDMA_SESSION_H

#include "pml/fs.h"
#include "pml/lease.h"
#include "pml/rdma.h"
#include "access.h"
#include "handle.h"
#include "replies.h"
#include "transport.h"

struct pml_remote;

/* What all clients of one server have in common; outlives them. */
struct pml_remote_env {
	struct pml_fs *fs;
	struct pml_lease_manager *leases;
	struct pml_access *access;
	bool trusts_loopback; /* nobody else can say to come from there */
	struct pml_handle_maker handles;
	struct pml_server_hooks hooks;
	struct pml_replies *replies;
};

/* On success @ep is the remote's, on error still the caller's. */
int pml_remote_new(const struct pml_remote_env *env, struct pml_ep *ep,
		   struct pml_remote **ret_remote) PML_MUST_CHECK;

/*
 * pml_remote_serve() - answer this client until it is gone
 *
 * Returns when the connection has ended and the manager has let go of every lease,
 * which takes as long as its fences take.
 */
void pml_remote_serve(struct pml_remote *remote);

/* Ends the connection; @why is told to the manager.  Any thread, until pml_remote_free(). */
void pml_remote_kill(struct pml_remote *remote, enum pml_end_reason why);

/* Assumes: pml_remote_serve() has returned or was never called. */
void pml_remote_free(struct pml_remote *remote);

#endif
