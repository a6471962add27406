/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * replies.h -- what was answered to changes, so that none is made twice
 *
 * A client whose connection breaks does not know whether its last requests were done.  It
 * connects again under the same client id and sends them again, marked (PML_WIRE_RETRY).
 * For each client there is a log of its last changes: what is in it is answered from it;
 * what is not, and was sent after the last one that the log has forgotten, was never done.
 *
 * Request numbers of a client grow; they are compared modulo 2^32.
 *
 * Threads: safe.  One lock, with which nothing is called but the owner's kill().
 */
#ifndef PML_RDMA_REPLIES_H
#define PML_RDMA_REPLIES_H

#include "wire.h"

/* Changes that are remembered of a client: more than it has credits. */
#define PML_REPLIES_KEPT 64u
/* Clients that are remembered, those that have gone included (I9). */
#define PML_REPLIES_CLIENTS_MAX 1024u
/* Longest body of a reply to a change. */
#define PML_REPLY_BODY_MAX sizeof(struct pml_wire_attr)

struct pml_replies;
struct pml_reply_log; /* of one client */

int pml_replies_new(struct pml_replies **ret_replies) PML_MUST_CHECK;
/* Assumes: nobody is attached. */
void pml_replies_free(struct pml_replies *replies);

/* Whose log. */
struct pml_reply_client {
	uint8_t client_id[PML_WIRE_CLIENT_ID_BYTES];
	uint8_t scope[16]; /* of whom it is taken for, and what it sees */
};

/*
 * pml_replies_attach() - the log of a client that has connected
 * @request_id: of its last message so far: what it sent before that, and is not in the log,
 *              is not known about
 * @kill:       ends the connection; called, from any thread, when the client connects once
 *              more: whoever had the log before is dead to it
 *
 * -EUSERS: as many clients as can be remembered are connected.  -ESTALE: a younger connection
 * of the client is there.
 */
int pml_replies_attach(struct pml_replies *replies, const struct pml_reply_client *client,
		       uint32_t request_id, void (*kill)(void *arg), void *arg,
		       struct pml_reply_log **ret_log) PML_MUST_CHECK;
/*
 * The connection is gone, and nothing of it runs any more.  The log stays for @keep_ms at
 * least, unless there are too many.
 */
void pml_replies_detach(struct pml_replies *replies, struct pml_reply_log *log, void *arg,
			uint32_t keep_ms);

struct pml_reply {
	int32_t status;
	const char *reason; /* constant text, or NULL */
	uint32_t body_bytes;
	uint8_t body[PML_REPLY_BODY_MAX];
};

/*
 * pml_replies_begin() - may a change be made?
 *
 * A retry of one that is still being made on the connection that broke is waited for, for
 * PML_REPLIES_WAIT_MS.  Returns 0, then end or abandon follows; or
 *   -EALREADY   a retry of what was done: *ret_reply is the answer
 *   -EINPROGRESS  a retry of what is still being made
 *   -EAGAIN     too many others are being made
 *   -EREMOTEIO  a retry of a time that this server knows nothing of
 *   -ESTALE     a retry, too long ago to know
 *   -EINVAL     a retry under the number of another request; no retry, and one of its number is
 *               being made
 */
#define PML_REPLIES_WAIT_MS 3000u
int pml_replies_begin(struct pml_replies *replies, struct pml_reply_log *log,
		      const struct pml_wire_header *request,
		      struct pml_reply *ret_reply) PML_MUST_CHECK;
/* It was made, or failed: so a retry is answered. */
void pml_replies_end(struct pml_replies *replies, struct pml_reply_log *log, uint32_t request_id,
		     const struct pml_reply *reply);
/* It was not made at all, and a retry may. */
void pml_replies_abandon(struct pml_replies *replies, struct pml_reply_log *log,
			 uint32_t request_id);

#endif
