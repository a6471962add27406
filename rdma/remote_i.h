/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * remote_i.h -- what the files that serve one client share
 *
 * hello.c          lets it in, or not
 * session.c        the connection: requests in, replies out, the end
 * serve_names.c    requests that look at names and attributes
 * serve_changes.c  requests that change them
 * errands.c        those that may have to wait for leases of others
 * serve_leases.c   requests about leases; what the lease manager asks of a session
 *
 * Private to these.
 */
#ifndef PML_RDMA_REMOTE_I_H
#define PML_RDMA_REMOTE_I_H

#include <stdatomic.h>

#include "codec.h"
#include "errands.h"
#include "mention.h"
#include "notices.h"
#include "replies.h"
#include "secrets.h"
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
	struct pml_errands errands;

	/* Set when the client was let in, constant afterwards. */
	struct pml_cred cred;	      /* whom it acts as */
	gid_t groups[PML_GROUPS_MAX]; /* its further ones */
	bool is_read_only;
	struct pml_handle_scope scope;
	uint8_t client_id[PML_WIRE_CLIENT_ID_BYTES]; /* its own word */
	struct pml_reply_log *log;		     /* of its changes */
	uint32_t term_ms;			     /* the session's, whatever others get later */

	/* The serving thread's. */
	union pml_message in;
	union pml_message out;
	size_t out_bytes;
	uint64_t to_fence;  /* a lease that is returned, once it is answered; 0: none */
	const char *reason; /* of a status that is not 0, in words, or NULL; constant text */
};

/* A line about this client: mention.h. */
#define pml_remote_mention(remote, kind, ...)                                                      \
	pml_mention(pml_access_hosts((remote)->env->access), pml_ep_peer((remote)->ep), kind,      \
		    __VA_ARGS__)

/*
 * pml_remote_reply() - answer a request
 * @to:     its header
 * @out:    on status 0 the reply's body is in it, @bytes with the header, which is filled in
 * @reason: of another status, in words, or NULL
 *
 * Any thread.  -ETIMEDOUT, -ENOTCONN.
 */
int pml_remote_reply(struct pml_remote *remote, const struct pml_wire_header *to,
		     union pml_message *out, size_t bytes, int status,
		     const char *reason) PML_MUST_CHECK;

/* The same of the request in remote->in, out of remote->out.  In the serving thread. */
int pml_remote_answer(struct pml_remote *remote, int status) PML_MUST_CHECK;
/* Receives one message into remote->in and checks it.  An error ends the session. */
int pml_remote_receive(struct pml_remote *remote, uint32_t timeout_ms) PML_MUST_CHECK;

/* hello.c: takes hello and auth, and opens the session.  An error ends the connection. */
int pml_remote_greet(struct pml_remote *remote) PML_MUST_CHECK;

/*
 * The same for a request that was begun: what the answer to a change was is remembered first,
 * or with @is_undone that it was not made at all.
 */
int pml_remote_finish(struct pml_remote *remote, const struct pml_wire_header *to,
		      union pml_message *out, size_t bytes, int status, const char *reason,
		      bool is_undone) PML_MUST_CHECK;

/*
 * Each pml_serve_ function answers the request in remote->in and returns the status of its
 * reply; on 0 it has filled in remote->out behind the header and set out_bytes when the
 * reply has a body.  -EINPROGRESS: an errand will answer it.  In the serving thread.
 * Assumes: the message is checked.
 */

/* A reference to the inode that a handle stands for.  -ESTALE. */
int pml_remote_inode(struct pml_remote *remote, const struct pml_wire_handle *handle,
		     struct pml_inode **ret_inode) PML_MUST_CHECK;
/* Attributes as they go to this client, with a handle of its own. */
void pml_remote_attr(struct pml_remote *remote, struct pml_inode *inode,
		     struct pml_wire_attr *ret_attr);

/* The same of a directory, in which this client may do what @mask says.  -ENOTDIR, -EACCES. */
int pml_remote_dir(struct pml_remote *remote, const struct pml_wire_handle *handle, int mask,
		   struct pml_inode **ret_dir) PML_MUST_CHECK;
/* The same of a regular file.  -EISDIR, -EINVAL, -EACCES. */
int pml_remote_file(struct pml_remote *remote, const struct pml_wire_handle *handle, int mask,
		    struct pml_inode **ret_inode) PML_MUST_CHECK;
/* Is @inode such a file? */
int pml_remote_check_file(struct pml_remote *remote, struct pml_inode *inode,
			  int mask) PML_MUST_CHECK;
/* A name out of a message, as text.  @ret_name: PML_NAME_BYTES_MAX + 1 bytes. */
void pml_remote_name(const struct pml_remote *remote, size_t at, size_t bytes, char *ret_name);
/* The name that is all of the tail behind @at. */
void pml_remote_last_name(const struct pml_remote *remote, size_t at, char *ret_name);
/* That name, and the directory of the request, in which the client may search. */
int pml_remote_place(struct pml_remote *remote, const struct pml_wire_handle *handle, size_t at,
		     char *ret_name, struct pml_inode **ret_dir) PML_MUST_CHECK;
/* Fills in a reply with attributes.  Takes over the caller's reference to @inode. */
void pml_remote_reply_attr(struct pml_remote *remote, struct pml_inode *inode);
/* Somebody else on this machine may remember what has changed: session.h. */
void pml_remote_name_changed(struct pml_remote *remote, uint64_t dir_ino, const char *name);
void pml_remote_file_changed(struct pml_remote *remote, uint64_t ino, uint64_t first_byte,
			     uint64_t len_bytes);

/* serve_names.c */
int pml_serve_lookup(struct pml_remote *remote) PML_MUST_CHECK;
int pml_serve_getattr(struct pml_remote *remote) PML_MUST_CHECK;
int pml_serve_readdir(struct pml_remote *remote) PML_MUST_CHECK;
int pml_serve_readlink(struct pml_remote *remote) PML_MUST_CHECK;
int pml_serve_getxattr(struct pml_remote *remote) PML_MUST_CHECK;
int pml_serve_listxattr(struct pml_remote *remote) PML_MUST_CHECK;
int pml_serve_statfs(struct pml_remote *remote) PML_MUST_CHECK;

/* serve_changes.c */
int pml_serve_create(struct pml_remote *remote) PML_MUST_CHECK;
int pml_serve_mkdir(struct pml_remote *remote) PML_MUST_CHECK;
int pml_serve_symlink(struct pml_remote *remote) PML_MUST_CHECK;
int pml_serve_link(struct pml_remote *remote) PML_MUST_CHECK;
int pml_serve_unlink(struct pml_remote *remote) PML_MUST_CHECK;
int pml_serve_rename(struct pml_remote *remote) PML_MUST_CHECK;
int pml_serve_setattr(struct pml_remote *remote) PML_MUST_CHECK;
int pml_serve_clone(struct pml_remote *remote) PML_MUST_CHECK;

/* serve_leases.c */
extern const struct pml_holder_ops pml_remote_holder_ops;
int pml_serve_lease(struct pml_remote *remote) PML_MUST_CHECK;
int pml_serve_return(struct pml_remote *remote) PML_MUST_CHECK;
int pml_serve_downgrade(struct pml_remote *remote) PML_MUST_CHECK;
int pml_serve_commit(struct pml_remote *remote) PML_MUST_CHECK;
int pml_serve_ack(struct pml_remote *remote) PML_MUST_CHECK;

#endif
