/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * hello.c -- lets a client in, or not: hello, auth, session
 *
 * Nothing is told before the proof but a nonce and the epoch.  Whoever is refused hears the
 * same words, after a delay that grows with the refusals of its host; the delay is this
 * connection's own and holds up nobody else.
 *
 * Protocol: docs/lease-protocol.md, "Authentication".
 */
#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "proof.h"
#include "remote_i.h"
#include "thread.h"

/* A client whose machine is busy may be slow, as long as its place is not wanted by others. */
#define HELLO_TIMEOUT_MS	 20000u
#define HELLO_CROWDED_TIMEOUT_MS 5000u
/* How long a client that was refused may take to read why and hang up. */
#define LINGER_MS 1000u

/* Waits, and takes no notice of what comes.  False: the connection is gone. */
static bool linger(struct pml_remote *remote, uint32_t ms)
{
	uint64_t deadline_ms = pml_now_ms() + ms;
	for (uint64_t now_ms = pml_now_ms(); now_ms < deadline_ms; now_ms = pml_now_ms()) {
		size_t bytes;
		union pml_message ignored;
		int err = pml_ep_recv(remote->ep, &ignored, &bytes, (int)(deadline_ms - now_ms));
		if (err && err != -ETIMEDOUT)
			return false;
	}
	return true;
}

/* Says no, and gives the client time to hear it before the connection goes. */
static void refuse(struct pml_remote *remote, int status)
{
	if (pml_remote_answer(remote, status) == 0)
		(void)linger(remote, LINGER_MS);
}

static bool is_crowded(const struct pml_remote *remote)
{
	struct pml_address address;
	pml_address_of_peer(pml_ep_peer(remote->ep), &address);
	return pml_hosts_is_crowded(pml_access_hosts(remote->env->access), &address);
}

/* Receives the message that must come now; an error ends the connection. */
static int expect(struct pml_remote *remote, enum pml_wire_type type)
{
	int err = pml_remote_receive(remote, is_crowded(remote) ? HELLO_CROWDED_TIMEOUT_MS
								: HELLO_TIMEOUT_MS);
	if (err == -EPROTONOSUPPORT)
		refuse(remote, err);
	if (err)
		return err;
	if (remote->in.h.type == type)
		return 0;
	pml_remote_mention(remote, PML_LINE_GREETING, ": %s instead of %s",
			   pml_codec_request_name(remote->in.h.type),
			   pml_codec_request_name((uint16_t)type));
	return -EPROTO;
}

/* ---- who it is ---------------------------------------------------------- */

static int reply_hello(struct pml_remote *remote, const struct pml_admission *admission,
		       const uint8_t *nonce)
{
	struct pml_wire_hello_reply *m = &remote->out.hello_reply;
	memset(m, 0, sizeof(*m));
	m->epoch = remote->env->handles.epoch;
	m->method = admission->method;
	memcpy(m->nonce, nonce, sizeof(m->nonce));
	remote->out_bytes = sizeof(*m);
	return pml_remote_answer(remote, 0);
}

/* 0 or -EACCES; *ret_why is for the log alone. */
static int check_proof(const struct pml_remote *remote, const struct pml_admission *admission,
		       const char **ret_why)
{
	*ret_why = admission->identity[0] ? "identity or secret is wrong" : "no identity";
	if (admission->method == PML_WIRE_AUTH_SECRET &&
	    !pml_proof_is_same(remote->in.auth.proof, admission->client_proof))
		return -EACCES;
	*ret_why = admission->why;
	return admission->status;
}

/* Slows down, and notes, what may be somebody who tries secrets. */
static void turn_away(struct pml_remote *remote, const struct pml_admission *admission,
		      const char *why)
{
	struct pml_address address;
	pml_address_of_peer(pml_ep_peer(remote->ep), &address);
	struct pml_refusal refusal;
	pml_hosts_refuse(pml_access_hosts(remote->env->access), &address, pml_now_ms(), &refusal);
	pml_remote_mention(remote, PML_LINE_REFUSED, "%s%s: refused (%u of its host so far): %s",
			   admission->identity[0] ? " as " : "", admission->identity, refusal.count,
			   why);
	if (!linger(remote, refusal.delay_ms))
		return;
	remote->reason = "identity, secret, address or path is not one that is let in";
	refuse(remote, -EACCES);
}

static int identify(struct pml_remote *remote, struct pml_admission *ret_admission)
{
	int err = expect(remote, PML_WIRE_HELLO);
	if (err)
		return err;
	memcpy(remote->client_id, remote->in.hello.client_id, sizeof(remote->client_id));
	uint8_t nonce[PML_WIRE_NONCE_BYTES];
	randombytes_buf(nonce, sizeof(nonce));
	pml_access_ask(remote->env->access, pml_ep_peer(remote->ep), remote->env->trusts_loopback,
		       &remote->in, nonce, ret_admission);
	err = reply_hello(remote, ret_admission, nonce);
	if (!err)
		err = expect(remote, PML_WIRE_AUTH);
	if (err)
		return err;
	const char *why;
	err = check_proof(remote, ret_admission, &why);
	if (err)
		turn_away(remote, ret_admission, why);
	return err;
}

/* ---- where it goes ------------------------------------------------------ */

/* A reference to the directory that the export names now.  Links are not followed. */
static int find_root(struct pml_remote *remote, const char *path, struct pml_inode **ret_root)
{
	struct pml_inode *dir;
	int err = pml_inode_get(remote->env->fs, PML_ROOT_INO, &dir);
	if (err)
		return err;
	while (*path) {
		char name[PML_NAME_BYTES_MAX + 1];
		path++; /* the slash */
		size_t bytes = strcspn(path, "/");
		struct pml_inode *next = NULL;
		err = bytes < sizeof(name) ? 0 : -ENAMETOOLONG;
		if (!err) {
			memcpy(name, path, bytes);
			name[bytes] = 0;
			err = S_ISDIR(pml_inode_mode(dir)) ? pml_dir_lookup(dir, name, &next)
							   : -ENOTDIR;
		}
		pml_inode_put(dir, 1);
		if (err)
			return err;
		dir = next;
		path += bytes;
	}
	if (!S_ISDIR(pml_inode_mode(dir))) {
		pml_inode_put(dir, 1);
		return -ENOTDIR;
	}
	*ret_root = dir;
	return 0;
}

static void take_admission(struct pml_remote *remote, const struct pml_admission *admission)
{
	remote->cred = admission->cred;
	memcpy(remote->groups, admission->groups, sizeof(remote->groups));
	remote->cred.groups = remote->groups;
	remote->is_read_only = admission->is_read_only;
	pml_handle_scope_init(&remote->scope, admission->root, admission->identity);
}

/* Opens the manager's session, which may send notices from then on. */
static int open_session(struct pml_remote *remote, const char *identity)
{
	int err = pml_notices_start(&remote->notices);
	if (!err)
		err = pml_session_new(remote->env->leases, &pml_remote_holder_ops, remote,
				      pml_ep_peer(remote->ep), (uint32_t)remote->cred.uid,
				      &remote->session);
	if (err) {
		pml_remote_mention(remote, PML_LINE_NO_SESSION, ": refused: %s", strerror(-err));
		refuse(remote, err);
		return err;
	}
	pml_session_set_identity(remote->env->leases, remote->session, identity);
	remote->term_ms = pml_session_term_ms(remote->env->leases, remote->session);
	return remote->term_ms == 0 ? -ESHUTDOWN : 0;
}

static void on_replaced(void *arg)
{
	pml_remote_kill(arg, PML_END_SESSION);
}

/* Finds what the client was answered before.  Before it hears that it is let in, and may send. */
static int attach_log(struct pml_remote *remote)
{
	struct pml_reply_client client;
	static_assert(sizeof(client.scope) == sizeof(remote->scope.tree), "scope");
	memcpy(client.client_id, remote->client_id, sizeof(client.client_id));
	memcpy(client.scope, remote->scope.tree, sizeof(client.scope));
	int err = pml_replies_attach(remote->env->replies, &client, remote->in.h.request_id,
				     on_replaced, remote, &remote->log);
	if (err) {
		pml_remote_mention(remote, PML_LINE_NO_SESSION, ": refused: %s",
				   err == -ESTALE ? "it has a younger connection" : strerror(-err));
		refuse(remote, err);
	}
	return err;
}

static int reply_auth(struct pml_remote *remote, const struct pml_admission *admission,
		      struct pml_inode *root)
{
	struct pml_wire_auth_reply *m = &remote->out.auth_reply;
	memset(m, 0, sizeof(*m));
	memcpy(m->proof, admission->server_proof, sizeof(m->proof));
	pml_remote_attr(remote, root, &m->root);
	m->path_bytes = admission->root_bytes;
	m->term_ms = remote->term_ms;
	m->durability = pml_ep_durable_rule(remote->ep);
	m->flags = remote->is_read_only ? PML_WIRE_SESSION_READ_ONLY : 0;
	m->credits = PML_MSG_DEPTH;
	m->max_lease_bytes = PML_LEASE_BYTES_MAX;
	remote->out_bytes = sizeof(*m);
	return pml_remote_answer(remote, 0);
}

/* Assumes: it has proved who it is. */
static int let_in(struct pml_remote *remote, const struct pml_admission *admission)
{
	struct pml_inode *root;
	int err = find_root(remote, admission->root, &root);
	if (err) {
		pml_remote_mention(remote, PML_LINE_NO_SESSION, ": refused: export %s: %s",
				   admission->root, strerror(-err));
		remote->reason = "the directory of the export is not there";
		refuse(remote, err);
		return err;
	}
	take_admission(remote, admission);
	err = open_session(remote, admission->identity);
	if (!err)
		err = attach_log(remote);
	if (!err)
		err = reply_auth(remote, admission, root);
	pml_inode_put(root, 1);
	return err;
}

int pml_remote_greet(struct pml_remote *remote)
{
	struct pml_admission admission;
	int err = identify(remote, &admission);
	return err ? err : let_in(remote, &admission);
}
