/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * session.c -- answers the requests of one client
 *
 * One thread per client receives a message, has it checked (codec.c), does it
 * and sends the reply; the lease manager's threads call in through holder_ops
 * to make and fence keys and to send recalls.  Sending is safe from all of them.
 *
 * Limit: an inode number is taken from any client that may use the inode itself;
 * whether the directories above it could be passed is checked only by lookup.
 *
 * Protocol: docs/lease-protocol.md.
 */
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "codec.h"
#include "notices.h"
#include "pml/log.h"
#include "session.h"
#include "thread.h"

#define HELLO_TIMEOUT_MS 5000u
#define SEND_TIMEOUT_MS	 10000
/* How long a client that was refused may take to read why and hang up. */
#define LINGER_MS 1000u

struct pml_remote {
	const struct pml_remote_env *env;
	struct pml_ep *ep;
	uint64_t session; /* the manager's; 0 before hello.  Written by the serving thread */
	atomic_int why;	  /* enum pml_end_reason for pml_session_end() */

	pthread_mutex_t lock; /* innermost: nothing is called with it */
	pthread_cond_t changed;
	bool is_released; /* under lock */

	struct pml_notices notices;

	/* The serving thread's. */
	uint32_t term_ms; /* the session's, whatever others get later */
	union pml_message in;
	union pml_message out;
	size_t out_bytes;
};

/* ---- what the lease manager asks of a session ---------------------------- */

static int holder_key_new(void *arg, const struct pml_segment *segment, bool for_write,
			  uint32_t *ret_rkey, void **ret_key)
{
	struct pml_remote *remote = arg;
	struct pml_key *key;
	int err = pml_key_new(remote->ep, segment->addr, segment->len_bytes, for_write, ret_rkey,
			      &key);
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
		pml_log_warning("client %s: a notice is lost: %s", pml_ep_peer(remote->ep),
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

static const struct pml_holder_ops holder_ops = {
	.key_new = holder_key_new,
	.key_fence = holder_key_fence,
	.recall = holder_recall,
	.revoked = holder_revoked,
	.released = holder_released,
};

/* ---- requests ----------------------------------------------------------- */
/*
 * Each returns the status of its reply; on 0 it has filled in remote->out behind
 * the header and set out_bytes when the reply has a body.
 */

/* A reference to a directory in which this client may do what @mask says. */
static int get_dir(struct pml_remote *remote, uint64_t ino, int mask, struct pml_inode **ret_dir)
{
	struct pml_inode *dir;
	int err = pml_inode_get(remote->env->fs, ino, &dir);
	if (err)
		return err;

	err = S_ISDIR(pml_inode_mode(dir)) ? pml_inode_access(dir, &remote->env->cred, mask)
					   : -ENOTDIR;
	if (err) {
		pml_inode_put(dir, 1);
		return err;
	}
	*ret_dir = dir;
	return 0;
}

/* Takes over the caller's reference to @inode. */
static void reply_attr(struct pml_remote *remote, struct pml_inode *inode)
{
	struct stat st;
	pml_inode_stat(inode, &st);
	remote->out.attr_reply.attr = (struct pml_wire_attr){
		.ino = pml_inode_ino(inode),
		.generation = pml_inode_generation(inode),
		.size_bytes = (uint64_t)st.st_size,
		.blocks_512 = (uint64_t)st.st_blocks,
		.mtime_s = st.st_mtim.tv_sec,
		.ctime_s = st.st_ctim.tv_sec,
		.mtime_ns = (uint32_t)st.st_mtim.tv_nsec,
		.ctime_ns = (uint32_t)st.st_ctim.tv_nsec,
		.mode = st.st_mode,
		.nlink = (uint32_t)st.st_nlink,
		.uid = st.st_uid,
		.gid = st.st_gid,
	};
	remote->out_bytes = sizeof(remote->out.attr_reply);
	pml_inode_put(inode, 1);
}

/* The directory to search, and the name: the @name_bytes behind the fixed @body_bytes. */
static int get_named_dir(struct pml_remote *remote, uint64_t dir_ino, size_t body_bytes,
			 size_t name_bytes, char *ret_name, struct pml_inode **ret_dir)
{
	memcpy(ret_name, remote->in.bytes + body_bytes, name_bytes);
	ret_name[name_bytes] = 0;
	return get_dir(remote, dir_ino, X_OK, ret_dir);
}

static int serve_lookup(struct pml_remote *remote)
{
	const struct pml_wire_lookup *m = &remote->in.lookup;
	char name[PML_NAME_BYTES_MAX + 1];
	struct pml_inode *dir;
	int err = get_named_dir(remote, m->dir_ino, sizeof(*m), m->name_bytes, name, &dir);
	if (err)
		return err;

	struct pml_inode *inode;
	err = pml_dir_lookup(dir, name, &inode);
	pml_inode_put(dir, 1);
	if (err)
		return err;
	reply_attr(remote, inode);
	return 0;
}

static int serve_getattr(struct pml_remote *remote)
{
	struct pml_inode *inode;
	int err = pml_inode_get(remote->env->fs, remote->in.getattr.ino, &inode);
	if (err)
		return err;
	reply_attr(remote, inode);
	return 0;
}

static bool emit_dirent(void *arg, const struct pml_dirent *entry)
{
	struct pml_remote *remote = arg;
	if (strcmp(entry->name, ".") == 0 || strcmp(entry->name, "..") == 0)
		return true;

	size_t name_bytes = strlen(entry->name);
	size_t bytes = pml_codec_dirent_bytes(name_bytes);
	if (remote->out_bytes + bytes > sizeof(remote->out)) {
		remote->out.readdir_reply.is_end = 0;
		return false;
	}

	struct pml_wire_dirent dirent = {
		.ino = entry->ino,
		.cookie = entry->cookie,
		.mode = entry->type,
		.name_bytes = (uint32_t)name_bytes,
	};
	uint8_t *to = remote->out.bytes + remote->out_bytes;
	memset(to, 0, bytes);
	memcpy(to, &dirent, sizeof(dirent));
	memcpy(to + sizeof(dirent), entry->name, name_bytes);
	remote->out_bytes += bytes;
	remote->out.readdir_reply.count++;
	return true;
}

static int serve_readdir(struct pml_remote *remote)
{
	struct pml_inode *dir;
	int err = get_dir(remote, remote->in.readdir.dir_ino, R_OK, &dir);
	if (err)
		return err;

	remote->out.readdir_reply.count = 0;
	remote->out.readdir_reply.is_end = 1;
	remote->out_bytes = sizeof(remote->out.readdir_reply);
	err = pml_dir_read(dir, remote->in.readdir.cookie, emit_dirent, remote);
	pml_inode_put(dir, 1);
	return err;
}

/* Creates @name, or finds it unless it must be new. */
static int create_or_find(struct pml_remote *remote, struct pml_inode *dir, const char *name,
			  struct pml_inode **ret_inode)
{
	const struct pml_wire_create *m = &remote->in.create;
	int err = pml_dir_lookup(dir, name, ret_inode);
	if (err == 0 && m->exclusive) {
		pml_inode_put(*ret_inode, 1);
		return -EEXIST;
	}
	if (err != -ENOENT)
		return err;

	if (remote->env->is_read_only)
		return -EROFS;
	err = pml_inode_access(dir, &remote->env->cred, W_OK | X_OK);
	if (err)
		return err;
	const struct pml_create_args args = {.mode = S_IFREG | m->mode, .cred = remote->env->cred};
	err = pml_dir_create(dir, name, &args, ret_inode);
	if (!err && remote->env->created)
		remote->env->created(remote->env->created_arg, pml_inode_ino(dir), name);
	/* Somebody was faster. */
	if (err == -EEXIST && !m->exclusive)
		return pml_dir_lookup(dir, name, ret_inode);
	return err;
}

static int serve_create(struct pml_remote *remote)
{
	const struct pml_wire_create *m = &remote->in.create;
	char name[PML_NAME_BYTES_MAX + 1];
	struct pml_inode *dir;
	int err = get_named_dir(remote, m->dir_ino, sizeof(*m), m->name_bytes, name, &dir);
	if (err)
		return err;
	struct pml_inode *inode;
	err = create_or_find(remote, dir, name, &inode);
	pml_inode_put(dir, 1);
	if (err)
		return err;

	if (!S_ISREG(pml_inode_mode(inode))) {
		err = S_ISDIR(pml_inode_mode(inode)) ? -EISDIR : -EINVAL;
		pml_inode_put(inode, 1);
		return err;
	}
	reply_attr(remote, inode);
	return 0;
}

/* May this client have such a lease on the file? */
static int check_lease_permission(struct pml_remote *remote, const struct pml_wire_lease *m)
{
	bool for_write = m->mode == PML_LEASE_WRITE;
	/* A shared lease may have to give the file blocks of its own. */
	if ((for_write || m->flags & PML_WIRE_LEASE_SHARED) && remote->env->is_read_only)
		return -EROFS;

	struct pml_inode *inode;
	int err = pml_inode_get(remote->env->fs, m->ino, &inode);
	if (err)
		return err;
	if (S_ISDIR(pml_inode_mode(inode)))
		err = -EISDIR;
	else if (!S_ISREG(pml_inode_mode(inode)))
		err = -EINVAL;
	else
		err = pml_inode_access(inode, &remote->env->cred, for_write ? W_OK : R_OK);
	pml_inode_put(inode, 1);
	return err;
}

static void reply_grant(struct pml_remote *remote, const struct pml_grant *grant)
{
	struct pml_wire_lease_reply *m = &remote->out.lease_reply;
	m->lease_id = grant->lease_id;
	m->first_byte = grant->first_byte;
	m->end_byte = grant->end_byte;
	m->file_size = grant->file_size;
	m->term_ms = grant->term_ms;
	m->nsegments = grant->nsegments;
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

static int serve_lease(struct pml_remote *remote)
{
	const struct pml_wire_lease *m = &remote->in.lease;
	int err = check_lease_permission(remote, m);
	if (err)
		return err;

	const struct pml_lease_wish wish = {
		.ino = m->ino,
		.first_byte = m->first_byte,
		.len_bytes = m->len_bytes,
		.mode = (enum pml_lease_mode)m->mode,
		.is_shared = m->flags & PML_WIRE_LEASE_SHARED,
		.is_unbreakable = m->flags & PML_WIRE_LEASE_UNBREAKABLE,
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
	reply_grant(remote, &grant);
	return 0;
}

static int serve_downgrade(struct pml_remote *remote)
{
	struct pml_grant grant;
	int err = pml_lease_downgrade(remote->env->leases, remote->session, remote->in.ret.lease_id,
				      &grant);
	if (err)
		return err;
	reply_grant(remote, &grant);
	return 0;
}

static int serve_commit(struct pml_remote *remote)
{
	const struct pml_wire_commit *m = &remote->in.commit;
	return pml_lease_commit(remote->env->leases, remote->session, m->lease_id, m->first_byte,
				m->len_bytes, m->new_size_bytes);
}

/* Assumes: the message is checked, and not a hello. */
static int serve_request(struct pml_remote *remote)
{
	switch ((enum pml_wire_type)remote->in.h.type) {
	case PML_WIRE_LOOKUP:
		return serve_lookup(remote);
	case PML_WIRE_GETATTR:
		return serve_getattr(remote);
	case PML_WIRE_READDIR:
		return serve_readdir(remote);
	case PML_WIRE_CREATE:
		return serve_create(remote);
	case PML_WIRE_LEASE:
		return serve_lease(remote);
	case PML_WIRE_RETURN:
		return pml_lease_return(remote->env->leases, remote->session,
					remote->in.ret.lease_id);
	case PML_WIRE_DOWNGRADE:
		return serve_downgrade(remote);
	case PML_WIRE_COMMIT:
		return serve_commit(remote);
	case PML_WIRE_ACK:
		return pml_lease_ack(remote->env->leases, remote->session, remote->in.ret.lease_id);
	case PML_WIRE_RENEW:
	case PML_WIRE_HELLO:
	case PML_WIRE_REPLY:
	case PML_WIRE_RECALL:
	case PML_WIRE_REVOKED:
		break;
	}
	return 0;
}

/* ---- the connection ----------------------------------------------------- */

static int send_reply(struct pml_remote *remote, int status)
{
	size_t bytes = status ? sizeof(remote->out.h) : remote->out_bytes;
	pml_codec_header(&remote->out.h, PML_WIRE_REPLY, bytes, remote->in.h.request_id);
	remote->out.h.status = status;
	remote->out.h.reply_to = remote->in.h.type;
	return pml_ep_send(remote->ep, &remote->out, bytes, SEND_TIMEOUT_MS);
}

/* Receives one message and checks it.  An error ends the session. */
static int receive(struct pml_remote *remote, uint32_t timeout_ms)
{
	size_t bytes;
	int err = pml_ep_recv(remote->ep, &remote->in, &bytes, (int)timeout_ms);
	if (err)
		return err;

	const char *reason;
	err = pml_codec_check_request(&remote->in, bytes, &reason);
	if (err)
		pml_log_warning("client %s: malformed message (type %u, %zu bytes): %s",
				pml_ep_peer(remote->ep),
				bytes >= sizeof(remote->in.h) ? remote->in.h.type : 0u, bytes,
				reason);
	return err;
}

/* Says no, and gives the client time to hear it before the connection goes. */
static void refuse(struct pml_remote *remote, int status)
{
	if (send_reply(remote, status))
		return;
	uint64_t deadline_ms = pml_now_ms() + LINGER_MS;
	for (uint64_t now_ms = pml_now_ms(); now_ms < deadline_ms; now_ms = pml_now_ms()) {
		size_t bytes;
		int left_ms = (int)(deadline_ms - now_ms);
		if (pml_ep_recv(remote->ep, &remote->in, &bytes, left_ms))
			return;
	}
}

/* Opens the manager's session. */
static int greet(struct pml_remote *remote)
{
	int err = receive(remote, HELLO_TIMEOUT_MS);
	if (err == -EPROTONOSUPPORT)
		refuse(remote, err);
	if (err)
		return err;
	if (remote->in.h.type != PML_WIRE_HELLO) {
		pml_log_warning("client %s: %s before hello", pml_ep_peer(remote->ep),
				pml_codec_request_name(remote->in.h.type));
		return -EPROTO;
	}

	err = pml_session_new(remote->env->leases, &holder_ops, remote, pml_ep_peer(remote->ep),
			      (uint32_t)remote->env->cred.uid, &remote->session);
	if (err) {
		pml_log_warning("client %s: refused: %s", pml_ep_peer(remote->ep), strerror(-err));
		refuse(remote, err);
		return err;
	}

	remote->term_ms = pml_session_term_ms(remote->env->leases, remote->session);
	if (remote->term_ms == 0)
		return -ESHUTDOWN;
	struct pml_wire_hello_reply *m = &remote->out.hello_reply;
	m->epoch = remote->env->epoch;
	m->root_ino = PML_ROOT_INO;
	m->term_ms = remote->term_ms;
	m->durability = PML_WIRE_SERVER_COMMIT;
	m->max_lease_bytes = PML_LEASE_BYTES_MAX;
	remote->out_bytes = sizeof(*m);
	return send_reply(remote, 0);
}

/* Returns when the session must end. */
static void answer_requests(struct pml_remote *remote)
{
	for (;;) {
		int err = receive(remote, remote->term_ms);
		if (err == -ETIMEDOUT)
			atomic_store(&remote->why, PML_END_EXPIRED);
		if (err)
			return;
		if (remote->in.h.type == PML_WIRE_HELLO) {
			pml_log_warning("client %s: a second hello", pml_ep_peer(remote->ep));
			return;
		}

		pml_session_renew(remote->env->leases, remote->session);
		remote->out_bytes = sizeof(remote->out.h);
		int status = serve_request(remote);
		if (remote->in.h.type == PML_WIRE_ACK)
			continue;
		if (send_reply(remote, status))
			return;
	}
}

void pml_remote_serve(struct pml_remote *remote)
{
	if (greet(remote) == 0)
		answer_requests(remote);
	pml_ep_kill(remote->ep);
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
	err = pml_notices_init(&remote->notices, ep);
	if (err)
		goto undo_cond;
	pthread_mutex_init(&remote->lock, NULL);
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
	pthread_cond_destroy(&remote->changed);
	pthread_mutex_destroy(&remote->lock);
	free(remote);
}
