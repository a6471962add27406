/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * access.c -- see access.h
 *
 * Everything that a client is told before its proof is the same whether its identity is known
 * or not: the expected proof of an unknown one is made with a secret that nobody knows.
 *
 * Threads: pml_access.lock guards the rules; nothing is called with it that takes another lock.
 */
#include <pthread.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>

#include "access.h"
#include "exports.h"
#include "proof.h"

#define CONNECTIONS_DEFAULT 256u

struct pml_access_rules {
	struct pml_secrets *secrets; /* NULL: nobody proves anything */
	struct pml_exports *exports;
};

struct pml_access {
	bool allow_unauthenticated;
	bool is_read_only;
	struct pml_cred client_cred;
	gid_t client_groups[PML_GROUPS_MAX];
	struct pml_handle_maker handles;
	struct pml_hosts *hosts;
	struct pml_replies *replies;

	pthread_mutex_t lock;
	struct pml_access_rules *rules; /* under lock */
};

/* ---- rules -------------------------------------------------------------- */

void pml_access_free_rules(struct pml_access_rules *rules)
{
	if (!rules)
		return;
	pml_secrets_free(rules->secrets);
	pml_exports_free(rules->exports);
	free(rules);
}

/* Without a file: the whole filesystem for all, who act as the mount says or as they prove. */
static struct pml_exports *whole_fs(const struct pml_access *access, bool has_secrets)
{
	const struct pml_export_rule rule = {
		.is_anonymous = !has_secrets,
		.anon_uid = access->client_cred.uid,
		.anon_gid = access->client_cred.gid,
	};
	return pml_exports_of_root(&rule);
}

static int load(const struct pml_access *access, const char *secrets, const char *exports,
		struct pml_access_rules *rules, char *ret_reason)
{
	int err = secrets ? pml_secrets_load(secrets, false, &rules->secrets, ret_reason) : 0;
	if (err)
		return err;
	const struct pml_exports_defaults defaults = {
		.anon_uid = access->client_cred.uid,
		.anon_gid = access->client_cred.gid,
		.has_secrets = secrets,
	};
	if (exports)
		return pml_exports_load(exports, &defaults, &rules->exports, ret_reason);
	rules->exports = whole_fs(access, secrets);
	if (rules->exports)
		return 0;
	(void)snprintf(ret_reason, PML_REASON_BYTES, "out of memory");
	return -ENOMEM;
}

int pml_access_read_rules(const struct pml_access *access, const char *secrets, const char *exports,
			  struct pml_access_rules **ret_rules, char *ret_reason)
{
	struct pml_access_rules *rules = calloc(1, sizeof(*rules));
	if (!rules) {
		(void)snprintf(ret_reason, PML_REASON_BYTES, "out of memory");
		return -ENOMEM;
	}
	int err = load(access, secrets, exports, rules, ret_reason);
	if (err)
		pml_access_free_rules(rules);
	else
		*ret_rules = rules;
	return err;
}

void pml_access_use_rules(struct pml_access *access, struct pml_access_rules *rules)
{
	pthread_mutex_lock(&access->lock);
	struct pml_access_rules *old = access->rules;
	access->rules = rules;
	pthread_mutex_unlock(&access->lock);
	pml_access_free_rules(old);
}

/* ---- one client --------------------------------------------------------- */

/* Proofs of who says to be @name; NULL: nobody is called so. */
static const struct pml_identity *prove_locked(const struct pml_access *access,
					       const union pml_message *msg,
					       const uint8_t *server_nonce,
					       struct pml_admission *admission)
{
	const struct pml_wire_hello *m = &msg->hello;
	const struct pml_proof_facts facts = {
		.identity = admission->identity,
		.path = (const char *)msg->bytes + sizeof(*m) + m->identity_bytes,
		.path_bytes = m->path_bytes,
		.client_id = m->client_id,
		.client_nonce = m->nonce,
		.server_nonce = server_nonce,
		.epoch = access->handles.epoch,
	};
	const uint8_t *secret;
	const struct pml_identity *identity =
		pml_secrets_find(access->rules->secrets, admission->identity, &secret);
	pml_proof_make(secret, PML_PROOF_CLIENT, &facts, admission->client_proof);
	pml_proof_make(secret, PML_PROOF_SERVER, &facts, admission->server_proof);
	return identity;
}

/* Whom those act as who prove nothing, or are squashed. */
static void set_anonymous(const struct pml_access *access, const struct pml_export_rule *rule,
			  struct pml_admission *admission)
{
	const struct pml_cred *client = &access->client_cred;
	struct pml_cred *cred = &admission->cred;
	*cred = (struct pml_cred){.uid = rule->anon_uid, .gid = rule->anon_gid};
	if (cred->uid != client->uid || cred->gid != client->gid)
		return;
	cred->ngroups = client->ngroups;
	memcpy(admission->groups, access->client_groups, sizeof(admission->groups));
}

static void set_cred(const struct pml_access *access, const struct pml_export_rule *rule,
		     const struct pml_identity *identity, struct pml_admission *admission)
{
	if (!identity || rule->squash == PML_SQUASH_ALL) {
		set_anonymous(access, rule, admission);
		return;
	}
	struct pml_cred *cred = &admission->cred;
	cred->uid = identity->uid;
	cred->gid = identity->gid;
	cred->ngroups = identity->ngroups;
	memcpy(admission->groups, identity->groups, sizeof(identity->groups));
	if (rule->squash == PML_SQUASH_NONE)
		return;
	/* As nfsd does: each of them by itself. */
	cred->uid = cred->uid ? cred->uid : rule->anon_uid;
	cred->gid = cred->gid ? cred->gid : rule->anon_gid;
	for (size_t i = 0; i < cred->ngroups; i++)
		if (admission->groups[i] == 0)
			admission->groups[i] = rule->anon_gid;
}

/* False: no rule fits. */
static bool apply_rule_locked(const struct pml_access *access, const char *path,
			      const struct pml_address *address,
			      const struct pml_identity *identity, struct pml_admission *admission)
{
	const char *root;
	size_t bytes;
	const struct pml_export_rule *rule =
		pml_exports_find(access->rules->exports, path, address,
				 identity ? identity->name : NULL, &root, &bytes, &admission->why);
	if (!rule)
		return false;
	assert(strlen(root) < sizeof(admission->root) && bytes <= PML_WIRE_PATH_MAX);
	memcpy(admission->root, root, strlen(root) + 1);
	admission->root_bytes = (uint32_t)bytes;
	admission->is_read_only =
		access->is_read_only || rule->is_read_only || (identity && identity->is_read_only);
	set_cred(access, rule, identity, admission);
	admission->status = 0;
	return true;
}

/* @is_trusted: it may come in without a proof, where a rule says so. */
static void ask_locked(const struct pml_access *access, const struct pml_address *address,
		       bool is_trusted, const char *path, const union pml_message *msg,
		       const uint8_t *server_nonce, struct pml_admission *admission)
{
	/* Who proves nothing, or could not. */
	bool is_anonymous = !admission->identity[0] || !access->rules->secrets;
	admission->method = PML_WIRE_AUTH_NONE;
	admission->why = "it proves no identity, and comes from another host";
	bool is_let_in = is_anonymous && is_trusted &&
			 apply_rule_locked(access, path, address, NULL, admission);
	if (is_let_in || !access->rules->secrets) {
		memset(admission->identity, 0, sizeof(admission->identity));
		return;
	}

	/* Somebody unknown takes the same time, and fails by the proof. */
	static const struct pml_identity nobody = {.name = ""};
	admission->method = PML_WIRE_AUTH_SECRET;
	const struct pml_identity *identity = prove_locked(access, msg, server_nonce, admission);
	(void)apply_rule_locked(access, path, address, identity ? identity : &nobody, admission);
	if (!identity)
		admission->status = -EACCES;
}

void pml_access_ask(struct pml_access *access, const char *peer, bool trusts_loopback,
		    const union pml_message *msg, const uint8_t *server_nonce,
		    struct pml_admission *ret_admission)
{
	const struct pml_wire_hello *m = &msg->hello;
	const char *tail = (const char *)msg->bytes + sizeof(*m);
	struct pml_address address;
	pml_address_of_peer(peer, &address);
	bool is_trusted = access->allow_unauthenticated ||
			  (trusts_loopback && pml_address_is_loopback(&address));
	char path[PML_WIRE_PATH_MAX + 1];
	memcpy(path, tail + m->identity_bytes, m->path_bytes);
	path[m->path_bytes] = 0;

	memset(ret_admission, 0, sizeof(*ret_admission));
	ret_admission->status = -EACCES;
	memcpy(ret_admission->identity, tail, m->identity_bytes);
	pthread_mutex_lock(&access->lock);
	ask_locked(access, &address, is_trusted, path, msg, server_nonce, ret_admission);
	pthread_mutex_unlock(&access->lock);
}

/* ---- make and free ------------------------------------------------------ */

const struct pml_handle_maker *pml_access_handles(const struct pml_access *access)
{
	return &access->handles;
}

struct pml_hosts *pml_access_hosts(struct pml_access *access)
{
	return access->hosts;
}

struct pml_replies *pml_access_replies(struct pml_access *access)
{
	return access->replies;
}

bool pml_access_is_open(struct pml_access *access)
{
	pthread_mutex_lock(&access->lock);
	bool is_open = access->allow_unauthenticated || access->rules->secrets;
	pthread_mutex_unlock(&access->lock);
	return is_open;
}

/* What all servers share besides the rules. */
static int init_shared(struct pml_access *access, uint32_t max, uint32_t share)
{
	access->hosts = pml_hosts_new(max, share);
	if (!access->hosts)
		return -ENOMEM;
	int err = pml_replies_new(&access->replies);
	if (err)
		pml_hosts_free(access->hosts);
	return err;
}

int pml_access_new(const struct pml_access_args *args, struct pml_access **ret_access,
		   char *ret_reason)
{
	(void)snprintf(ret_reason, PML_REASON_BYTES, "out of memory");
	struct pml_access *access = calloc(1, sizeof(*access));
	if (!access)
		return -ENOMEM;
	access->allow_unauthenticated = args->allow_unauthenticated;
	access->is_read_only = args->is_read_only;
	access->client_cred = args->client_cred;
	access->client_cred.groups = access->client_groups;
	access->client_cred.ngroups = PML_MIN(args->client_cred.ngroups, (size_t)PML_GROUPS_MAX);
	for (size_t i = 0; i < access->client_cred.ngroups; i++)
		access->client_groups[i] = args->client_cred.groups[i];
	uint32_t max = args->max_connections ? args->max_connections : CONNECTIONS_DEFAULT;
	uint32_t share =
		args->max_host_connections ? args->max_host_connections : PML_MAX(max / 4 * 3, 1u);
	int err = pml_handle_maker_init(&access->handles);
	if (err)
		(void)snprintf(ret_reason, PML_REASON_BYTES, "no random numbers");
	if (!err)
		err = pml_access_read_rules(access, args->secrets, args->exports, &access->rules,
					    ret_reason);
	if (!err)
		err = init_shared(access, max, share);
	if (err) {
		pml_access_free_rules(access->rules);
		free(access);
		return err;
	}
	pthread_mutex_init(&access->lock, NULL);
	*ret_access = access;
	return 0;
}

void pml_access_free(struct pml_access *access)
{
	if (!access)
		return;
	pml_access_free_rules(access->rules);
	pml_hosts_free(access->hosts);
	pml_replies_free(access->replies);
	pthread_mutex_destroy(&access->lock);
	sodium_memzero(&access->handles, sizeof(access->handles));
	free(access);
}
