/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * session.c -- the connection of one client: answers its requests
 *
 * One thread per client lets it in (hello.c), then receives a message, has it checked
 * (codec.c), has it done (serve_*.c) and sends the reply; then it fences a lease that was
 * returned.  What may have to wait for leases is done by another one (errands.c).
 *
 * Protocol: docs/lease-protocol.md.
 */
#include <stdio.h>
#include <string.h>

#include "remote_i.h"
#include "thread.h"

#define SEND_TIMEOUT_MS 10000

/* Assumes: the message is checked, and neither hello nor auth. */
static int serve_request(struct pml_remote *remote)
{
	switch ((enum pml_wire_type)remote->in.h.type) {
	case PML_WIRE_RENEW:
		return 0;
	case PML_WIRE_LOOKUP:
		return pml_serve_lookup(remote);
	case PML_WIRE_GETATTR:
		return pml_serve_getattr(remote);
	case PML_WIRE_READDIR:
		return pml_serve_readdir(remote);
	case PML_WIRE_READLINK:
		return pml_serve_readlink(remote);
	case PML_WIRE_GETXATTR:
		return pml_serve_getxattr(remote);
	case PML_WIRE_LISTXATTR:
		return pml_serve_listxattr(remote);
	case PML_WIRE_STATFS:
		return pml_serve_statfs(remote);
	case PML_WIRE_SETATTR:
		return pml_serve_setattr(remote);
	case PML_WIRE_CREATE:
		return pml_serve_create(remote);
	case PML_WIRE_MKDIR:
		return pml_serve_mkdir(remote);
	case PML_WIRE_SYMLINK:
		return pml_serve_symlink(remote);
	case PML_WIRE_LINK:
		return pml_serve_link(remote);
	case PML_WIRE_UNLINK:
		return pml_serve_unlink(remote);
	case PML_WIRE_RENAME:
		return pml_serve_rename(remote);
	case PML_WIRE_CLONE:
		return pml_serve_clone(remote);
	case PML_WIRE_LEASE:
		return pml_serve_lease(remote);
	case PML_WIRE_RETURN:
		return pml_serve_return(remote);
	case PML_WIRE_DOWNGRADE:
		return pml_serve_downgrade(remote);
	case PML_WIRE_COMMIT:
		return pml_serve_commit(remote);
	case PML_WIRE_ACK:
		return pml_serve_ack(remote);
	default:
		return -EOPNOTSUPP;
	}
}

/* ---- the connection ----------------------------------------------------- */

int pml_remote_reply(struct pml_remote *remote, const struct pml_wire_header *to,
		     union pml_message *out, size_t bytes, int status, const char *reason)
{
	const struct pml_wire_header request = *to; /* it may be in @out */
	if (status) {
		size_t reason_bytes = reason ? strlen(reason) : 0;
		assert(reason_bytes <= PML_WIRE_REASON_MAX);
		bytes = sizeof(out->h) + reason_bytes;
		if (reason_bytes)
			memcpy(out->bytes + sizeof(out->h), reason, reason_bytes);
	}
	pml_codec_header(&out->h, PML_WIRE_REPLY, bytes, request.request_id);
	out->h.status = status;
	out->h.reply_to = request.type;
	if (request.flags & PML_WIRE_QUIET)
		return pml_ep_send_quiet(remote->ep, out, bytes, SEND_TIMEOUT_MS);
	return pml_ep_send(remote->ep, out, bytes, SEND_TIMEOUT_MS);
}

int pml_remote_answer(struct pml_remote *remote, int status)
{
	return pml_remote_reply(remote, &remote->in.h, &remote->out, remote->out_bytes, status,
				remote->reason);
}

int pml_remote_finish(struct pml_remote *remote, const struct pml_wire_header *to,
		      union pml_message *out, size_t bytes, int status, const char *reason,
		      bool is_undone)
{
	if (pml_codec_is_change(to->type) && is_undone) {
		pml_replies_abandon(remote->env->replies, remote->log, to->request_id);
	} else if (pml_codec_is_change(to->type)) {
		struct pml_reply reply = {.status = status, .reason = reason};
		if (!status) {
			reply.body_bytes = (uint32_t)(bytes - sizeof(out->h));
			assert(reply.body_bytes <= sizeof(reply.body));
			memcpy(reply.body, out->bytes + sizeof(out->h), reply.body_bytes);
		}
		pml_replies_end(remote->env->replies, remote->log, to->request_id, &reply);
	}
	return pml_remote_reply(remote, to, out, bytes, status, reason);
}

int pml_remote_receive(struct pml_remote *remote, uint32_t timeout_ms)
{
	size_t bytes;
	int err = pml_ep_recv(remote->ep, &remote->in, &bytes, (int)timeout_ms);
	if (err)
		return err;

	const char *reason;
	err = pml_codec_check_request(&remote->in, bytes, &reason);
	if (err)
		pml_remote_mention(remote, remote->session ? PML_LINE_PROTOCOL : PML_LINE_GREETING,
				   ": malformed message (type %u, %zu bytes): %s",
				   bytes >= sizeof(remote->in.h) ? remote->in.h.type : 0u, bytes,
				   reason);
	return err;
}

static const char *reason_not_begun(int err)
{
	switch (err) {
	case -EINPROGRESS:
		return "it is still being done over the connection that broke";
	case -EAGAIN:
		return "the client has too many requests under way";
	case -EREMOTEIO:
		return "the server was restarted, or has forgotten this client: it is not known "
		       "whether it was done";
	case -ESTALE:
		return "it is too long ago to know whether it was done";
	case -EINVAL:
		return "another request had its number";
	default:
		return NULL;
	}
}

/* A change is made once, however often it is asked for.  An error ends the session. */
static int answer_change(struct pml_remote *remote)
{
	struct pml_reply reply;
	int err = pml_replies_begin(remote->env->replies, remote->log, &remote->in.h, &reply);
	if (err == -EALREADY) {
		remote->reason = reply.reason;
		memcpy(remote->out.bytes + sizeof(remote->out.h), reply.body, reply.body_bytes);
		remote->out_bytes = sizeof(remote->out.h) + reply.body_bytes;
		return pml_remote_answer(remote, reply.status);
	}
	if (err) {
		remote->reason = reason_not_begun(err);
		return pml_remote_answer(remote, err);
	}
	int status = serve_request(remote);
	/* An errand answers for itself. */
	return status == -EINPROGRESS
		       ? 0
		       : pml_remote_finish(remote, &remote->in.h, &remote->out, remote->out_bytes,
					   status, remote->reason, false);
}

static int answer(struct pml_remote *remote)
{
	remote->out_bytes = sizeof(remote->out.h);
	remote->reason = NULL;
	if (pml_codec_is_change(remote->in.h.type))
		return answer_change(remote);
	int status = serve_request(remote);
	bool is_answered = remote->in.h.type == PML_WIRE_ACK || status == -EINPROGRESS;
	return is_answered ? 0 : pml_remote_answer(remote, status);
}

/* Behind the answer: the client does not wait for the fence. */
static void finish_return(struct pml_remote *remote)
{
	if (remote->to_fence)
		pml_lease_return_finish(remote->env->leases, remote->to_fence);
	remote->to_fence = 0;
}

/* Returns when the session must end. */
static void answer_requests(struct pml_remote *remote)
{
	for (;;) {
		int err = pml_remote_receive(remote, remote->term_ms);
		if (err == -ETIMEDOUT)
			atomic_store(&remote->why, PML_END_EXPIRED);
		if (err)
			return;
		if (remote->in.h.type == PML_WIRE_HELLO || remote->in.h.type == PML_WIRE_AUTH) {
			pml_remote_mention(remote, PML_LINE_PROTOCOL, ": a second %s",
					   pml_codec_request_name(remote->in.h.type));
			return;
		}

		pml_session_renew(remote->env->leases, remote->session);
		err = answer(remote);
		finish_return(remote);
		if (err)
			return;
	}
}

void pml_remote_serve(struct pml_remote *remote)
{
	if (pml_remote_greet(remote) == 0)
		answer_requests(remote);
	pml_ep_kill(remote->ep);
	pml_errands_stop(&remote->errands);
	if (remote->log)
		pml_replies_detach(remote->env->replies, remote->log, remote, remote->term_ms);
	if (remote->session == 0)
		return;

	pml_session_end(remote->env->leases, remote->session,
			(enum pml_end_reason)atomic_load(&remote->why));
	pthread_mutex_lock(&remote->lock);
	while (!remote->is_released)
		pthread_cond_wait(&remote->changed, &remote->lock);
	pthread_mutex_unlock(&remote->lock);
}

void pml_remote_kill(struct pml_remote *remote, enum pml_end_reason why)
{
	atomic_store(&remote->why, (int)why);
	pml_ep_kill(remote->ep);
}

int pml_remote_new(const struct pml_remote_env *env, struct pml_ep *ep,
		   struct pml_remote **ret_remote)
{
	struct pml_remote *remote = calloc(1, sizeof(*remote));
	if (!remote)
		return -ENOMEM;

	int err = pml_cond_init(&remote->changed);
	if (err)
		goto undo_alloc;
	err = pml_notices_init(&remote->notices, ep, pml_access_hosts(env->access));
	if (err)
		goto undo_cond;
	pthread_mutex_init(&remote->lock, NULL);
	pml_errands_init(&remote->errands);
	remote->env = env;
	remote->ep = ep;
	atomic_init(&remote->why, PML_END_SESSION);
	*ret_remote = remote;
	return 0;

undo_cond:
	pthread_cond_destroy(&remote->changed);
undo_alloc:
	free(remote);
	return err;
}

void pml_remote_free(struct pml_remote *remote)
{
	pml_ep_kill(remote->ep);
	pml_notices_fini(&remote->notices);
	pml_ep_close(remote->ep);
	pml_errands_fini(&remote->errands);
	pthread_cond_destroy(&remote->changed);
	pthread_mutex_destroy(&remote->lock);
	free(remote);
}
