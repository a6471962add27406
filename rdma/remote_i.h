/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * remote_i.h -- what the files that serve one client share
 *
 * session.c       the connection: hello, requests in, replies out, the end
 * serve_names.c   requests about names and attributes
 * serve_leases.c  requests about leases; what the lease manager asks of a session
 *
 * Private to these.
 */
#ifndef PML_RDMA_REMOTE_I_H
#define PML_RDMA_REMOTE_I_H

#include <stdatomic.h>

#include "codec.h"
#include "notices.h"
#include "session.h"

struct pml_remote {
	const struct pml_remote_env *env;
	struct pml_ep *ep;
	uint64_t session; /* the manager's; 0 before auth.  Written by the serving thread */
	atomic_int why;	  /* enum pml_end_reason for pml_session_end() */

	pthread_mutex_t lock; /* innermost: nothing is called with it */
	pthread_cond_t changed;
	bool is_released; /* under lock */

	struct pml_notices notices;

	/* Set when the client was let in, constant afterwards. */
	struct pml_cred cred; /* whom it acts as */
	bool is_read_only;
	struct pml_handle_scope scope;
	uint32_t term_ms; /* the session's, whatever others get later */

	/* The serving thread's. */
	union pml_message in;
	union pml_message out;
	size_t out_bytes;
	const char *reason; /* of a status that is not 0, in words, or NULL; constant text */
};

/*
 * Each pml_serve_ function answers the request in remote->in and returns the status of its
 * reply; on 0 it has filled in remote->out behind the header and set out_bytes when the
 * reply has a body.  In the serving thread.  Assumes: the message is checked.
 */

/* A reference to the inode that a handle stands for.  -ESTALE. */
int pml_remote_inode(struct pml_remote *remote, const struct pml_wire_handle *handle,
		     struct pml_inode **ret_inode) PML_MUST_CHECK;
/* Attributes as they go to this client, with a handle of its own. */
void pml_remote_attr(struct pml_remote *remote, struct pml_inode *inode,
		     struct pml_wire_attr *ret_attr);

/* serve_names.c */
int pml_serve_lookup(struct pml_remote *remote) PML_MUST_CHECK;
int pml_serve_getattr(struct pml_remote *remote) PML_MUST_CHECK;
int pml_serve_readdir(struct pml_remote *remote) PML_MUST_CHECK;
int pml_serve_create(struct pml_remote *remote) PML_MUST_CHECK;

/* serve_leases.c */
extern const struct pml_holder_ops pml_remote_holder_ops;
int pml_serve_lease(struct pml_remote *remote) PML_MUST_CHECK;
int pml_serve_return(struct pml_remote *remote) PML_MUST_CHECK;
int pml_serve_downgrade(struct pml_remote *remote) PML_MUST_CHECK;
int pml_serve_commit(struct pml_remote *remote) PML_MUST_CHECK;
int pml_serve_ack(struct pml_remote *remote) PML_MUST_CHECK;

#endif
