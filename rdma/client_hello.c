/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * client_hello.c -- see client_hello.h
 */
#include <sodium.h>
#include <stdio.h>
#include <string.h>

#include "client_i.h"
#include "exports.h"
#include "proof.h"
#include "secrets.h"

/* ---- identity and secret ------------------------------------------------- */

/* $PMEMLEASE_SECRETS, else a file at home.  A set-user-id program takes neither. */
static int name_file(char *ret_path, size_t room)
{
	const char *named = secure_getenv("PMEMLEASE_SECRETS");
	const char *home = secure_getenv("HOME");
	int bytes = -1;
	if (named)
		bytes = snprintf(ret_path, room, "%s", named);
	else if (home)
		bytes = snprintf(ret_path, room, "%s/.config/pmemleasefs/secrets", home);
	return bytes < 0 || (size_t)bytes >= room ? -ENOENT : 0;
}

static int read_secret(struct pml_client_claim *claim, const char *what)
{
	char path[4096];
	char reason[PML_REASON_BYTES];
	if (name_file(path, sizeof(path)))
		return pml_client_fail(-ENOENT, "%s: neither PMEMLEASE_SECRETS nor HOME is set",
				       what);
	struct pml_secrets *secrets;
	int err = pml_secrets_load(path, true, &secrets, reason);
	if (err)
		return pml_client_fail(err, "%s", reason);
	const uint8_t *secret;
	if (pml_secrets_find(secrets, claim->identity, &secret))
		memcpy(claim->secret, secret, PML_SECRET_BYTES);
	else
		err = pml_client_fail(-ENOKEY, "%.120s: no line for \"%s\"", path, claim->identity);
	pml_secrets_free(secrets);
	return err;
}

int pml_client_claim_init(struct pml_client_claim *claim, const struct pml_client_args *args,
			  const struct pml_client_url *url)
{
	const char *what = url->text;
	const char *identity = args->identity ? args->identity : url->identity;
	if (identity[0] ? !pml_identity_is_valid(identity) : args->secret != NULL)
		return pml_client_fail(-EINVAL,
				       "%s: the name of an identity is 1 to %u letters, digits and "
				       "-_.@",
				       what, PML_WIRE_IDENTITY_MAX);
	memcpy(claim->identity, identity, strlen(identity) + 1);
	if (!identity[0])
		return 0;
	claim->secret = sodium_malloc(PML_SECRET_BYTES);
	if (!claim->secret)
		return pml_client_fail(-ENOMEM, "%s: out of memory", what);
	if (!args->secret)
		return read_secret(claim, what);
	memcpy(claim->secret, args->secret, PML_SECRET_BYTES);
	return 0;
}

void pml_client_claim_end(struct pml_client_claim *claim)
{
	sodium_free(claim->secret); /* wipes it */
	claim->secret = NULL;
}

/* ---- hello and auth ------------------------------------------------------ */

static int ask_hello(struct pml_client *client, const char *what, union pml_message *ret_hello,
		     union pml_message *ret_reply)
{
	const struct pml_client_claim *claim = &client->claim;
	const char *path = client->url.path;
	struct pml_wire_hello *m = &ret_hello->hello;
	memset(m, 0, sizeof(*m));
	m->identity_bytes = (uint32_t)strlen(claim->identity);
	m->path_bytes = (uint32_t)strlen(path);
	memcpy(m->client_id, client->client_id, sizeof(m->client_id));
	randombytes_buf(m->nonce, sizeof(m->nonce));
	uint8_t *tail = ret_hello->bytes + sizeof(*m);
	memcpy(tail, claim->identity, m->identity_bytes);
	memcpy(tail + m->identity_bytes, path, m->path_bytes);
	return pml_client_request(client, ret_hello, sizeof(*m) + m->identity_bytes + m->path_bytes,
				  PML_WIRE_HELLO, what, ret_reply);
}

/* Neither side lets itself be talked out of a proof. */
static int check_method(const struct pml_client_claim *claim, uint32_t method, const char *what)
{
	if (method == PML_WIRE_AUTH_NONE && claim->secret)
		return pml_client_fail(-EACCES,
				       "%s: the server proves nothing and wants no proof: connect "
				       "without an identity if it is to be trusted",
				       what);
	if (method == PML_WIRE_AUTH_SECRET && !claim->secret)
		return pml_client_fail(-EACCES,
				       "%s: the server wants a proof of identity: give "
				       "rdma://IDENTITY@HOST:PORT/PATH",
				       what);
	return 0;
}

static void make_proofs(struct pml_client *client, const union pml_message *hello,
			const union pml_message *reply, uint8_t *ret_client_proof)
{
	struct pml_client_claim *claim = &client->claim;
	const struct pml_proof_facts facts = {
		.identity = claim->identity,
		.path = client->url.path,
		.path_bytes = strlen(client->url.path),
		.client_id = hello->hello.client_id,
		.client_nonce = hello->hello.nonce,
		.server_nonce = reply->hello_reply.nonce,
		.epoch = reply->hello_reply.epoch,
	};
	uint8_t server_proof[PML_WIRE_PROOF_BYTES] = {0};
	memset(ret_client_proof, 0, PML_WIRE_PROOF_BYTES);
	if (claim->secret) {
		pml_proof_make(claim->secret, PML_PROOF_CLIENT, &facts, ret_client_proof);
		pml_proof_make(claim->secret, PML_PROOF_SERVER, &facts, server_proof);
	}
	pthread_mutex_lock(&client->lock);
	memcpy(claim->server_proof, server_proof, sizeof(server_proof));
	claim->is_asking = true;
	claim->is_refuted = false;
	client->is_ready = false;
	pthread_mutex_unlock(&client->lock);
}

void pml_client_take_auth_locked(struct pml_client *client, const union pml_message *reply)
{
	struct pml_client_claim *claim = &client->claim;
	const struct pml_wire_auth_reply *m = &reply->auth_reply;
	if (!claim->is_asking)
		return;
	claim->is_asking = false;
	if (claim->secret && !pml_proof_is_same(m->proof, claim->server_proof)) {
		claim->is_refuted = true;
		return;
	}
	if (m->path_bytes > strlen(client->url.path))
		return;
	memcpy(claim->root, client->url.path, m->path_bytes);
	claim->root[m->path_bytes] = 0;
	pml_client_take_attr(&m->root, &client->root);
	client->max_lease_bytes = m->max_lease_bytes;
	client->term_ms = m->term_ms;
	client->is_ready = true;
}

/* What the receiver has made of the reply to auth. */
static int judge_auth(struct pml_client *client, const char *what)
{
	pthread_mutex_lock(&client->lock);
	bool is_refuted = client->claim.is_refuted;
	bool is_ready = client->is_ready;
	pthread_mutex_unlock(&client->lock);
	if (is_refuted)
		return pml_client_fail(-EKEYREJECTED,
				       "%s: the server could not prove that it knows the secret of "
				       "\"%s\": it is not the one that is wanted",
				       what, client->claim.identity);
	if (!is_ready)
		return pml_client_fail(-EPROTO, "%s: the root is longer than the path", what);
	return 0;
}

int pml_client_hello(struct pml_client *client, const char *what)
{
	union pml_message msg;
	union pml_message reply;
	int err = ask_hello(client, what, &msg, &reply);
	if (!err)
		err = check_method(&client->claim, reply.hello_reply.method, what);
	if (err)
		return err;
	uint8_t proof[PML_WIRE_PROOF_BYTES];
	make_proofs(client, &msg, &reply, proof);
	memcpy(msg.auth.proof, proof, sizeof(proof));
	err = pml_client_request(client, &msg, sizeof(msg.auth), PML_WIRE_AUTH, what, &reply);
	if (err == -EUSERS)
		return pml_client_fail(err, "%s: the server has as many clients as it allows",
				       what);
	return err ? err : judge_auth(client, what);
}

/* ---- paths --------------------------------------------------------------- */

int pml_client_strip(struct pml_client *client, const char *path, const char **ret_rest)
{
	char root[PML_WIRE_PATH_MAX + 1];
	pthread_mutex_lock(&client->lock);
	memcpy(root, client->claim.root, sizeof(root));
	pthread_mutex_unlock(&client->lock);
	size_t bytes = 0;
	/* The whole filesystem: also what is wrong is told by who walks the path. */
	if (root[0] && !pml_path_is_below(root, path, &bytes))
		return pml_client_fail(-EACCES, "%s: outside of the export %s", path, root);
	*ret_rest = path + bytes;
	return 0;
}
