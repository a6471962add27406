/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * serve_leases.c -- leases of one client, between its messages and the lease manager
 *
 * The serving thread asks the manager; the manager's threads call in through
 * pml_remote_holder_ops to make and fence keys and to send recalls.
 */
#include <string.h>

#include "remote_i.h"

/* ---- what the lease manager asks of a session ---------------------------- */

/* The rule of a write lease whose holder may read the file, or may not. */
static enum pml_durable_rule rule_of(const struct pml_remote *remote, bool may_read)
{
	enum pml_durable_rule rule = pml_ep_durable_rule(remote->ep);
	return rule == PML_DURABLE_BY_READ && !may_read ? PML_DURABLE_BY_COMMIT : rule;
}

static unsigned int write_rights(enum pml_durable_rule rule)
{
	switch (rule) {
	case PML_DURABLE_BY_READ:
		return PML_KEY_WRITE | PML_KEY_READ;
	case PML_DURABLE_BY_FLUSH:
		return PML_KEY_WRITE | PML_KEY_FLUSH;
	default:
		return PML_KEY_WRITE;
	}
}

static int holder_key_new(void *arg, const struct pml_segment *segment, bool for_write,
			  bool may_read, uint32_t *ret_rkey, void **ret_key)
{
	struct pml_remote *remote = arg;
	struct pml_key *key;
	unsigned int rights = for_write ? write_rights(rule_of(remote, may_read)) : PML_KEY_READ;
	if (segment->nblocks == 0)
		rights |= PML_KEY_FOREIGN;
	int err =
		pml_key_new(remote->ep, segment->addr, segment->len_bytes, rights, ret_rkey, &key);
	if (err)
		return err;
	*ret_key = key;
	return 0;
}

static int holder_key_fence(void *arg, void *key, enum pml_fence_step step, bool is_cooperative)
{
	enum pml_ep_fence how = step == PML_FENCE_KEY ? PML_EP_FENCE_KEY : PML_EP_FENCE_CONNECTION;
	return pml_key_fence(key, how, is_cooperative);
}

static void put_notice(struct pml_remote *remote, const union pml_notice *notice)
{
	/* Lost is lost: the manager's clocks go on without it. */
	int err = pml_notices_put(&remote->notices, notice);
	if (err && err != -ENOTCONN)
		pml_remote_mention(remote, PML_LINE_NOTICE_LOST, ": a notice is lost: %s",
				   strerror(-err));
}

static uint32_t wire_op(enum pml_layout_op op)
{
	if (op == PML_RECALL_ORPHAN)
		return PML_WIRE_OP_ORPHAN;
	return (unsigned int)op < PML_OP_COUNT ? (uint32_t)op : PML_WIRE_OP_LEASE;
}

static void holder_recall(void *arg, uint64_t lease_id, enum pml_layout_op op, uint32_t drain_ms)
{
	union pml_notice notice = {.recall = {
					   .lease_id = lease_id,
					   .op = wire_op(op),
					   .drain_ms = drain_ms,
				   }};
	pml_codec_header(&notice.h, PML_WIRE_RECALL, sizeof(notice.recall), 0);
	put_notice(arg, &notice);
}

static void holder_revoked(void *arg, uint64_t lease_id, enum pml_end_reason why)
{
	union pml_notice notice = {.revoked = {.lease_id = lease_id, .why = (uint32_t)why}};
	pml_codec_header(&notice.h, PML_WIRE_REVOKED, sizeof(notice.revoked), 0);
	put_notice(arg, &notice);
}

/* Its leases are gone, and it has been told so.  A notice that is lost ends as all do. */
static void holder_evicted(void *arg)
{
	struct pml_remote *remote = arg;
	holder_revoked(remote, PML_WIRE_SESSION_ITSELF, PML_END_EVICTED);
	pml_remote_kill(remote, PML_END_EVICTED);
}

static void holder_released(void *arg)
{
	struct pml_remote *remote = arg;
	/* The manager may end a session by itself: the serving thread has to notice. */
	pml_ep_kill(remote->ep);
	pthread_mutex_lock(&remote->lock);
	remote->is_released = true;
	pthread_cond_broadcast(&remote->changed);
	pthread_mutex_unlock(&remote->lock);
}

const struct pml_holder_ops pml_remote_holder_ops = {
	.key_new = holder_key_new,
	.key_fence = holder_key_fence,
	.recall = holder_recall,
	.revoked = holder_revoked,
	.released = holder_released,
	.evicted = holder_evicted,
};

/* ---- requests ----------------------------------------------------------- */

/* May this client have such a lease on the file?  *ret_may_read: and read it, too? */
static int check_lease_permission(struct pml_remote *remote, const struct pml_wire_lease *m,
				  bool *ret_may_read)
{
	bool for_write = m->mode == PML_LEASE_WRITE;
	/* A shared lease may have to give the file blocks of its own. */
	if ((for_write || m->flags & PML_WIRE_LEASE_SHARED) && remote->is_read_only)
		return -EROFS;

	struct pml_inode *inode;
	int err = pml_remote_file(remote, &m->inode, for_write ? W_OK : R_OK, &inode);
	if (err)
		return err;
	*ret_may_read = !for_write || pml_inode_access(inode, &remote->cred, R_OK) == 0;
	pml_inode_put(inode, 1);
	return err;
}

static void reply_grant(struct pml_remote *remote, const struct pml_grant *grant,
			enum pml_durable_rule rule)
{
	struct pml_wire_lease_reply *m = &remote->out.lease_reply;
	m->lease_id = grant->lease_id;
	m->first_byte = grant->first_byte;
	m->end_byte = grant->end_byte;
	m->file_size = grant->file_size;
	m->term_ms = grant->term_ms;
	m->nsegments = grant->nsegments;
	m->durability = rule;
	m->reserved = 0;
	m->written_end_byte = grant->written_end;
	remote->out_bytes = sizeof(*m);
	for (uint32_t i = 0; i < grant->nsegments; i++) {
		const struct pml_grant_segment *from = &grant->segments[i];
		struct pml_wire_segment s = {
			.first_byte = from->first_byte,
			.len_bytes = from->len_bytes,
			.remote_addr = from->remote_addr,
			.rkey = from->rkey,
		};
		memcpy(remote->out.bytes + remote->out_bytes, &s, sizeof(s));
		remote->out_bytes += sizeof(s);
	}
}

int pml_serve_lease(struct pml_remote *remote)
{
	const struct pml_wire_lease *m = &remote->in.lease;
	bool may_read;
	int err = check_lease_permission(remote, m, &may_read);
	if (err)
		return err;

	const struct pml_lease_wish wish = {
		.ino = m->inode.ino,
		.first_byte = m->first_byte,
		.len_bytes = m->len_bytes,
		.mode = (enum pml_lease_mode)m->mode,
		.is_shared = m->flags & PML_WIRE_LEASE_SHARED,
		.is_unbreakable = m->flags & PML_WIRE_LEASE_UNBREAKABLE,
		.may_read = may_read,
	};
	struct pml_grant grant;
	err = pml_lease_request(remote->env->leases, remote->session, &wish, &grant);
	if (err == -ESTALE) {
		/* The manager has given this session up: so do we. */
		pml_ep_kill(remote->ep);
		return err;
	}
	if (err)
		return err;
	/* Nothing is written under a read lease. */
	bool is_write = wish.mode == PML_LEASE_WRITE;
	reply_grant(remote, &grant, is_write ? rule_of(remote, may_read) : PML_DURABLE_BY_COMMIT);
	return 0;
}

int pml_serve_downgrade(struct pml_remote *remote)
{
	struct pml_grant grant;
	int err = pml_lease_downgrade(remote->env->leases, remote->session, remote->in.ret.lease_id,
				      &grant);
	if (err)
		return err;
	reply_grant(remote, &grant, PML_DURABLE_BY_COMMIT);
	return 0;
}

static int commit(struct pml_remote *remote, const struct pml_wire_commit *m, struct pml_waiter *w)
{
	return pml_lease_commit(remote->env->leases, remote->session, m->lease_id, m->first_byte,
				m->len_bytes, m->new_size_bytes,
				m->flags & PML_WIRE_COMMIT_IS_DURABLE, w);
}

static int run_commit(struct pml_errand *errand, union pml_message *out, size_t *ret_bytes)
{
	return commit(errand->remote, &errand->args.commit, &errand->waiter);
}

int pml_serve_commit(struct pml_remote *remote)
{
	const struct pml_wire_commit *m = &remote->in.commit;
	/* Hardly any has to wait for another lease: only that one is worth an errand. */
	int err = commit(remote, m, NULL);
	if (err != -EBUSY)
		return err;
	const struct pml_errand errand = {.run = run_commit, .args.commit = *m};
	return pml_errands_start(remote, &errand);
}

int pml_serve_return(struct pml_remote *remote)
{
	uint64_t id = remote->in.ret.lease_id;
	bool is_left;
	int err = pml_lease_return_begin(remote->env->leases, remote->session, id, &is_left);
	if (is_left)
		remote->to_fence = id;
	return err;
}

int pml_serve_ack(struct pml_remote *remote)
{
	return pml_lease_ack(remote->env->leases, remote->session, remote->in.ret.lease_id);
}
