/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_service_auth.c -- who is let in, where to and as whom; and peers that lie about it
 *
 * Server and client library over the software fabric; a server that this test plays; raw
 * connections with proofs made by hand.
 */
#include <pthread.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../../rdma/hosts.h"
#include "../../rdma/proof.h"
#include "../../rdma/secrets.h"
#include "pml/clock.h"
#include "pml/log.h"
#include "service_rig.h"
#include "tap.h"

#define HEX_ALICE "0101010101010101010101010101010101010101010101010101010101010101"
#define HEX_OTHER "0202020202020202020202020202020202020202020202020202020202020202"
#define SECRETS                                                                                    \
	"alice " HEX_ALICE " uid=1000 gid=1000,2000,2001\n"                                        \
	"reader " HEX_ALICE " uid=1000 gid=1000 ro\n"                                              \
	"root " HEX_ALICE " uid=0 gid=0,0,2000\n"
#define NO_ACCESS "identity, secret, address or path is not one that is let in"

static const uint8_t alices[PML_SECRET_BYTES] = {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1,
						 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1};
static const uint8_t others[PML_SECRET_BYTES] = {2};

static char dir[] = "/tmp/pml-auth.XXXXXX";
static char secrets_path[64], exports_path[64];
static _Thread_local char reason[PML_REASON_BYTES];

static void write_file(const char *path, const char *text, mode_t mode)
{
	FILE *f = fopen(path, "w");
	if (!f || fputs(text, f) < 0 || fclose(f) || chmod(path, mode))
		BAIL_OUT("cannot write %s", path);
}

/* ---- a rig with rules ---------------------------------------------------- */

struct house {
	struct rig rig;
	struct pml_access *access;
	struct pml_access_args args;
	uint64_t data, other; /* directories /data and /other, for everybody */
};

static void init_house(struct house *h, const char *secrets, const char *exports)
{
	rig_init(&h->rig);
	h->args = (struct pml_access_args){.client_cred = {.uid = 65534, .gid = 65534}};
	if (secrets) {
		write_file(secrets_path, secrets, 0600);
		h->args.secrets = secrets_path;
	}
	if (exports) {
		write_file(exports_path, exports, 0644);
		h->args.exports = exports_path;
	}
	h->data = fake_fs_make(h->rig.fs, PML_ROOT_INO, "data", S_IFDIR | 0777, 0);
	h->other = fake_fs_make(h->rig.fs, PML_ROOT_INO, "other", S_IFDIR | 0777, 0);
}

static void start_house(struct house *h)
{
	if (pml_access_new(&h->args, &h->access, reason))
		BAIL_OUT("%s", reason);
	h->rig.args.access = h->access;
	if (rig_start(&h->rig))
		BAIL_OUT("no server");
}

static void open_house(struct house *h, const char *secrets, const char *exports)
{
	init_house(h, secrets, exports);
	start_house(h);
}

static void close_house(struct house *h)
{
	CHECK(rig_wait_sessions(&h->rig, 0));
	rig_stop(&h->rig);
	pml_access_free(h->access);
}

/* @who: "alice@" or "".  Default secret: that of all in SECRETS. */
static int visit_with(struct house *h, const char *who, const char *path, const uint8_t *secret,
		      struct pml_client **ret_client)
{
	char url[256];
	snprintf(url, sizeof(url), "soft://%s127.0.0.1:%s%s", who, h->rig.port, path);
	const struct pml_client_args args = {
		.size_bytes = sizeof(args),
		.url = url,
		.secret = who[0] ? secret : NULL,
		.timeout_ms = 8000,
	};
	return pml_client_open(&args, ret_client, reason);
}

static struct pml_client *visit(struct house *h, const char *who, const char *path)
{
	struct pml_client *client;
	if (visit_with(h, who, path, alices, &client))
		BAIL_OUT("%s", reason);
	return client;
}

/* Is refused, and with which status? */
static int knock(struct house *h, const char *who, const char *path, const uint8_t *secret)
{
	struct pml_client *client;
	int err = visit_with(h, who, path, secret, &client);
	if (!err)
		pml_client_close(client);
	return err;
}

static int try_lease(struct pml_client *client, const struct pml_client_handle *handle,
		     bool for_write)
{
	struct pml_client_lease *lease;
	int err = pml_client_lease(client, handle, 0, 4096, for_write, 0, &lease);
	return err ? err : pml_client_return(lease);
}

/* ---- who ----------------------------------------------------------------- */

static void test_who_knows_the_secret_is_let_in_as_the_file_says(void)
{
	struct house h;
	open_house(&h, SECRETS, NULL);
	struct pml_client *client = visit(&h, "alice@", "");
	struct pml_client_attr attr;
	CHECK_EQ(pml_client_create(client, "/data/new", 0600, true, &attr), 0);
	CHECK_EQ(attr.uid, 1000);
	CHECK_EQ(attr.gid, 1000);
	CHECK_EQ(try_lease(client, &attr.handle, true), 0);

	uint64_t ours = fake_fs_make(h.rig.fs, h.data, "ours", S_IFREG | 0040, 2001);
	fake_fs_make(h.rig.fs, h.data, "theirs", S_IFREG | 0040, 2002);
	fake_fs_write(h.rig.fs, ours, 0, "x", 1);
	CHECK_EQ(pml_client_stat(client, "/data/ours", &attr), 0);
	CHECK_EQ(try_lease(client, &attr.handle, false), 0);
	CHECK_EQ(pml_client_stat(client, "/data/theirs", &attr), 0);
	CHECK_EQ(try_lease(client, &attr.handle, false), -EACCES);
	pml_client_close(client);
	close_house(&h);
}

static void test_wrong_secret_and_unknown_identity_are_the_same(void)
{
	struct house h;
	open_house(&h, SECRETS, NULL);
	char first[PML_REASON_BYTES];
	CHECK_EQ(knock(&h, "alice@", "", others), -EACCES);
	CHECK(strstr(reason, NO_ACCESS));
	snprintf(first, sizeof(first), "%s", strstr(reason, "127.0.0.1"));
	CHECK_EQ(knock(&h, "mallory@", "", others), -EACCES);
	CHECK_STR(strstr(reason, "127.0.0.1"), first);
	CHECK_EQ(knock(&h, "mallory@", "", alices), -EACCES);
	CHECK_EQ(knock(&h, "alice@", "", alices), 0);
	close_house(&h);
}

static void test_neither_side_is_talked_out_of_a_proof(void)
{
	struct house h;
	open_house(&h, SECRETS, NULL);
	CHECK_EQ(knock(&h, "", "", NULL), -EACCES);
	CHECK(strstr(reason, "IDENTITY@"));
	close_house(&h);
	open_house(&h, NULL, NULL);
	CHECK_EQ(knock(&h, "alice@", "", alices), -EACCES);
	CHECK(strstr(reason, "proves nothing"));
	CHECK_EQ(knock(&h, "", "", NULL), 0);
	close_house(&h);
}

/* ---- proofs by hand ------------------------------------------------------ */

struct talk {
	struct pml_ep *ep;
	union pml_message hello;
	union pml_message reply; /* the last one */
	uint8_t server_nonce[PML_WIRE_NONCE_BYTES];
	struct pml_proof_facts facts;
};

/* Hello of alice for the root; its nonce begins with @nonce. */
static void begin(struct house *h, struct talk *t, uint8_t nonce)
{
	t->ep = raw_connect(&h->rig);
	memset(&t->hello, 0, sizeof(t->hello));
	t->hello.hello.identity_bytes = 5;
	t->hello.hello.nonce[0] = nonce;
	memcpy(t->hello.bytes + sizeof(t->hello.hello), "alice", 5);
	if (raw_send(t->ep, &t->hello, sizeof(t->hello.hello) + 5, PML_WIRE_HELLO) ||
	    raw_recv(t->ep, &t->reply, 5000) || t->reply.h.status)
		BAIL_OUT("no answer to hello");
	CHECK_EQ(t->reply.hello_reply.method, PML_WIRE_AUTH_SECRET);
	memcpy(t->server_nonce, t->reply.hello_reply.nonce, sizeof(t->server_nonce));
	t->facts = (struct pml_proof_facts){
		.identity = "alice",
		.path = "",
		.client_id = t->hello.hello.client_id,
		.client_nonce = t->hello.hello.nonce,
		.server_nonce = t->server_nonce,
		.epoch = t->reply.hello_reply.epoch,
	};
}

/* The status of the reply to a proof. */
static int prove(struct talk *t, const uint8_t *proof)
{
	union pml_message msg;
	memset(&msg, 0, sizeof(msg));
	memcpy(msg.auth.proof, proof, sizeof(msg.auth.proof));
	if (raw_send(t->ep, &msg, sizeof(msg.auth), PML_WIRE_AUTH) ||
	    raw_recv(t->ep, &t->reply, 5000))
		return -ENOTCONN;
	return t->reply.h.status;
}

static void test_a_proof_is_for_one_connection_and_one_role(void)
{
	struct house h;
	open_house(&h, SECRETS, NULL);
	struct talk t, again;
	uint8_t client_proof[PML_WIRE_PROOF_BYTES], server_proof[PML_WIRE_PROOF_BYTES];
	begin(&h, &t, 2);
	pml_proof_make(alices, PML_PROOF_CLIENT, &t.facts, client_proof);
	pml_proof_make(alices, PML_PROOF_SERVER, &t.facts, server_proof);
	CHECK_EQ(prove(&t, client_proof), 0);
	CHECK(memcmp(t.reply.auth_reply.proof, server_proof, sizeof(server_proof)) == 0);
	raw_close(t.ep);

	/* Replayed: the same hello, the same proof. */
	begin(&h, &again, 2);
	CHECK(memcmp(again.server_nonce, t.server_nonce, sizeof(t.server_nonce)) != 0);
	CHECK_EQ(prove(&again, client_proof), -EACCES);
	raw_close(again.ep);
	/* Turned round: what a server would prove. */
	begin(&h, &again, 3);
	pml_proof_make(alices, PML_PROOF_SERVER, &again.facts, server_proof);
	CHECK_EQ(prove(&again, server_proof), -EACCES);
	/* And that is the end of it. */
	pml_proof_make(alices, PML_PROOF_CLIENT, &again.facts, client_proof);
	CHECK_EQ(prove(&again, client_proof), -ENOTCONN);
	raw_close(again.ep);
	/* Nothing but a proof, at this point. */
	begin(&h, &again, 3);
	union pml_message msg = {.inode = {.inode = {.ino = 1}}};
	CHECK_EQ(raw_send(again.ep, &msg, sizeof(msg.inode), PML_WIRE_GETATTR), 0);
	CHECK_EQ(raw_recv(again.ep, &msg, 5000), -ENOTCONN);
	raw_close(again.ep);
	close_house(&h);
}

/* The replies that somebody gets who has no secret, as bytes but for nonce and epoch. */
static void test_nothing_tells_identities_that_are_known_from_others(void)
{
	struct house h;
	open_house(&h, SECRETS, "/data *(rw,id=alice)\n");
	static const char *const names[] = {"alice", "mallo"};
	union pml_message replies[2][2];
	for (int i = 0; i < 2; i++) {
		struct pml_ep *ep = raw_connect(&h.rig);
		union pml_message msg;
		memset(&msg, 0, sizeof(msg));
		memset(replies[i], 0, sizeof(replies[i]));
		msg.hello.identity_bytes = 5;
		memcpy(msg.bytes + sizeof(msg.hello), names[i], 5);
		CHECK_EQ(raw_send(ep, &msg, sizeof(msg.hello) + 5, PML_WIRE_HELLO), 0);
		CHECK_EQ(raw_recv(ep, &replies[i][0], 5000), 0);
		memset(replies[i][0].hello_reply.nonce, 0, PML_WIRE_NONCE_BYTES);
		memset(&msg, 0, sizeof(msg));
		CHECK_EQ(raw_send(ep, &msg, sizeof(msg.auth), PML_WIRE_AUTH), 0);
		CHECK_EQ(raw_recv(ep, &replies[i][1], 5000), 0);
		CHECK_EQ(replies[i][1].h.status, -EACCES);
		raw_close(ep);
	}
	CHECK(memcmp(replies[0], replies[1], sizeof(replies[0])) == 0);
	close_house(&h);
}

/* ---- a server that this test plays --------------------------------------- */

struct act {
	struct pml_fabric *fabric;
	pthread_t thread;
	bool is_echo;  /* sends the client's proof back; else zeros */
	bool is_early; /* answers auth before it was asked */
	uint32_t path_bytes;
	atomic_int after; /* messages behind auth */
};

static void answer(struct pml_ep *ep, const struct pml_wire_header *request,
		   union pml_message *reply, size_t bytes)
{
	pml_codec_header(&reply->h, PML_WIRE_REPLY, bytes, request->request_id);
	reply->h.reply_to = request->type;
	if (pml_ep_send(ep, reply, bytes, 1000))
		return;
}

static void answer_auth(struct act *act, struct pml_ep *ep, const union pml_message *msg,
			const struct pml_wire_header *request)
{
	union pml_message reply = {.auth_reply = {.root = {.handle = {.ino = 1}},
						  .path_bytes = act->path_bytes,
						  .term_ms = 60,
						  .durability = PML_DURABLE_BY_COMMIT,
						  .credits = 1,
						  .max_lease_bytes = 1 << 20}};
	if (act->is_echo)
		memcpy(reply.auth_reply.proof, msg->auth.proof, PML_WIRE_PROOF_BYTES);
	answer(ep, request, &reply, sizeof(reply.auth_reply));
}

static void *run_act(void *arg)
{
	struct act *act = arg;
	struct pml_ep *ep;
	if (pml_fabric_accept(act->fabric, 5000, &ep))
		return NULL;
	union pml_message msg;
	while (raw_recv(ep, &msg, 10000) == 0) {
		union pml_message reply = {
			.hello_reply = {.epoch = 1, .method = PML_WIRE_AUTH_SECRET}};
		const struct pml_wire_header early = {.type = PML_WIRE_AUTH, .request_id = 7};
		if (msg.h.type == PML_WIRE_HELLO && act->is_early) {
			answer_auth(act, ep, &msg, &early);
			usleep(200000); /* who believes it renews every 20 ms */
		}
		if (msg.h.type == PML_WIRE_HELLO)
			answer(ep, &msg.h, &reply, sizeof(reply.hello_reply));
		else if (msg.h.type == PML_WIRE_AUTH)
			answer_auth(act, ep, &msg, &msg.h);
		else
			atomic_fetch_add(&act->after, 1);
	}
	raw_close(ep);
	return NULL;
}

static int call_act(struct act *act, const char *path)
{
	if (pml_fabric_listen(PML_TRANSPORT_SOFT, "127.0.0.1", "0", &act->fabric, reason))
		BAIL_OUT("%s", reason);
	pthread_create(&act->thread, NULL, run_act, act);
	char url[128];
	snprintf(url, sizeof(url), "soft://alice@127.0.0.1:%u%s", pml_fabric_port(act->fabric),
		 path);
	const struct pml_client_args args = {
		.size_bytes = sizeof(args), .url = url, .secret = alices, .timeout_ms = 2000};
	struct pml_client *client;
	int err = pml_client_open(&args, &client, reason);
	if (!err)
		pml_client_close(client);
	pthread_join(act->thread, NULL);
	pml_fabric_close(act->fabric);
	CHECK_EQ(act->after, 0);
	return err;
}

static void test_a_server_that_does_not_know_the_secret_is_left(void)
{
	struct act acts[] = {
		{.is_echo = false}, {.is_echo = true}, {.is_early = true}, {.path_bytes = 2}};
	for (size_t i = 0; i < PML_ARRAY_LEN(acts); i++) {
		CHECK_EQ(call_act(&acts[i], "/x"), -EKEYREJECTED);
		CHECK(strstr(reason, "alice"));
	}
}

/* ---- as whom ------------------------------------------------------------- */

static void check_read_only(struct house *h, const char *who)
{
	struct pml_client *client = visit(h, who, "/data");
	struct pml_client_attr attr;
	CHECK_EQ(pml_client_create(client, "/data/no", 0600, true, &attr), -EROFS);
	CHECK_EQ(pml_client_stat(client, "/data/file", &attr), 0);
	CHECK_EQ(try_lease(client, &attr.handle, true), -EROFS);
	CHECK_EQ(try_lease(client, &attr.handle, false), 0);
	pml_client_close(client);
}

static void test_rule_identity_or_mount_make_it_read_only(void)
{
	struct house h;
	for (int i = 0; i < 3; i++) {
		init_house(&h, SECRETS, i == 0 ? "/data *(rw)\n/data/in *\n" : "/data *(ro)\n");
		h.args.is_read_only = i == 2;
		uint64_t ino = fake_fs_make(h.rig.fs, h.data, "file", S_IFREG | 0666, 0);
		fake_fs_write(h.rig.fs, ino, 0, "x", 1);
		start_house(&h);
		check_read_only(&h, i == 0 ? "reader@" : "alice@");
		close_house(&h);
	}
}

/* Owner and group of what somebody makes. */
static void check_owner(struct house *h, const char *who, const char *path, uint32_t uid,
			uint32_t gid)
{
	struct pml_client *client = visit(h, who, path);
	struct pml_client_attr attr;
	static int count;
	char name[64];
	snprintf(name, sizeof(name), "%s/f%d", path, count++);
	CHECK_EQ(pml_client_create(client, name, 0600, true, &attr), 0);
	if (attr.uid != uid || attr.gid != gid)
		TAP_FAIL("%s%s: %u:%u", who, path, attr.uid, attr.gid);
	pml_client_close(client);
}

static void test_squash_makes_somebody_else_of_root(void)
{
	struct house h;
	open_house(&h, SECRETS, NULL);
	check_owner(&h, "root@", "/data", 65534, 65534);
	close_house(&h);

	init_house(&h, SECRETS,
		   "/data/a *(rw)\n"
		   "/data/b *(rw,anonuid=7,anongid=8)\n"
		   "/data/c *(rw,no_root_squash)\n"
		   "/data/d *(rw,all_squash,anonuid=7)\n"
		   "/data/e *(rw,auth=none,anongid=9) *(rw)\n");
	for (char name[] = "a"; name[0] <= 'e'; name[0]++)
		fake_fs_make(h.rig.fs, h.data, name, S_IFDIR | 0777, 0);
	start_house(&h);
	check_owner(&h, "root@", "/data/a", 65534, 65534);
	check_owner(&h, "alice@", "/data/a", 1000, 1000);
	check_owner(&h, "root@", "/data/b", 7, 8);
	check_owner(&h, "root@", "/data/c", 0, 0);
	check_owner(&h, "root@", "/data/d", 7, 65534);
	check_owner(&h, "alice@", "/data/d", 7, 65534);
	check_owner(&h, "", "/data/e", 65534, 9);
	check_owner(&h, "alice@", "/data/e", 1000, 1000);
	close_house(&h);
}

static void test_groups_of_root_are_squashed_too(void)
{
	struct house h;
	init_house(&h, SECRETS, "/data *(rw)\n");
	uint64_t zero = fake_fs_make(h.rig.fs, h.data, "zero", S_IFREG | 0040, 0);
	uint64_t ours = fake_fs_make(h.rig.fs, h.data, "ours", S_IFREG | 0040, 2000);
	fake_fs_write(h.rig.fs, zero, 0, "x", 1);
	fake_fs_write(h.rig.fs, ours, 0, "x", 1);
	start_house(&h);
	struct pml_client *client = visit(&h, "root@", "/data");
	struct pml_client_attr attr;
	CHECK_EQ(pml_client_stat(client, "/data/zero", &attr), 0);
	CHECK_EQ(try_lease(client, &attr.handle, false), -EACCES);
	CHECK_EQ(pml_client_stat(client, "/data/ours", &attr), 0);
	CHECK_EQ(try_lease(client, &attr.handle, false), 0);
	pml_client_close(client);
	close_house(&h);
}

/* ---- where to ------------------------------------------------------------ */

static bool count_entry(void *arg, const char *name, uint64_t ino, mode_t type)
{
	++*(int *)arg;
	return true;
}

static void test_paths_outside_of_the_export_are_refused(void)
{
	struct house h;
	open_house(&h, SECRETS, "/data *(rw)\n");
	fake_fs_make(h.rig.fs, h.data, "file", S_IFREG | 0666, 0);
	struct pml_client *client = visit(&h, "alice@", "//data/./file");
	struct pml_client_attr attr, root;
	CHECK_EQ(pml_client_stat(client, "/data", &root), 0);
	CHECK_EQ(root.ino, h.data);
	CHECK_EQ(pml_client_stat(client, "/data/file", &attr), 0);
	CHECK_EQ(pml_client_stat(client, "data//file", &attr), 0);
	static const char *const outside[] = {
		"", "/", "/other", "/datum", "/dat/file", "/data/../other", "/..", "/file"};
	for (size_t i = 0; i < PML_ARRAY_LEN(outside); i++) {
		CHECK_EQ(pml_client_stat(client, outside[i], &attr), -EACCES);
		CHECK(strstr(pml_client_reason(client), "outside of the export //data"));
	}
	CHECK_EQ(pml_client_create(client, "/other/x", 0600, false, &attr), -EACCES);
	CHECK_EQ(pml_client_create(client, "/data", 0600, false, &attr), -EISDIR);
	CHECK_EQ(pml_client_create(client, "/data/x", 0600, false, &attr), 0);
	int count = 0;
	CHECK_EQ(pml_client_readdir(client, "/data", count_entry, &count), 0);
	CHECK_EQ(count, 2);
	CHECK_EQ(pml_client_readdir(client, "/", count_entry, &count), -EACCES);
	pml_client_close(client);

	CHECK_EQ(knock(&h, "alice@", "/other", alices), -EACCES);
	CHECK_EQ(knock(&h, "alice@", "/data/../other", alices), -EACCES);
	CHECK_EQ(knock(&h, "alice@", "", alices), -EACCES);
	CHECK(strstr(reason, NO_ACCESS));
	close_house(&h);
}

static void test_an_export_is_a_directory_that_is_there(void)
{
	struct house h;
	open_house(&h, SECRETS, "/none *(rw)\n/data/file *(rw)\n/data/file/x *(rw)\n");
	fake_fs_make(h.rig.fs, h.data, "file", S_IFREG | 0666, 0);
	CHECK_EQ(knock(&h, "alice@", "/none/x", alices), -ENOENT);
	CHECK(strstr(reason, "directory of the export"));
	CHECK_EQ(knock(&h, "alice@", "/data/file", alices), -ENOTDIR);
	CHECK_EQ(knock(&h, "alice@", "/data/file/x", alices), -ENOTDIR);
	CHECK_EQ(knock(&h, "mallory@", "/none/x", alices), -EACCES);
	close_house(&h);
}

static void test_handles_of_others_are_worthless(void)
{
	struct house h;
	open_house(&h, SECRETS, "/data *(rw)\n/other *(rw)\n");
	uint64_t ino = fake_fs_make(h.rig.fs, h.data, "file", S_IFREG | 0666, 0);
	fake_fs_write(h.rig.fs, ino, 0, "x", 1);
	struct pml_client *in_data = visit(&h, "alice@", "/data");
	struct pml_client *same = visit(&h, "alice@", "/data/deeper");
	struct pml_client *in_other = visit(&h, "alice@", "/other");
	struct pml_client *reader = visit(&h, "reader@", "/data");
	struct pml_client_attr attr;
	CHECK_EQ(pml_client_stat(in_data, "/data/file", &attr), 0);
	CHECK_EQ(try_lease(same, &attr.handle, false), 0);
	CHECK_EQ(try_lease(in_other, &attr.handle, false), -ESTALE);
	CHECK(strstr(pml_client_reason(in_other), "did not give to this client"));
	CHECK_EQ(try_lease(reader, &attr.handle, false), -ESTALE);
	pml_client_close(in_data);
	pml_client_close(same);
	pml_client_close(in_other);
	pml_client_close(reader);
	close_house(&h);
}

static void test_rules_choose_by_address_and_identity(void)
{
	struct house h;
	open_house(&h, SECRETS,
		   "/data 10.0.0.0/8(rw) 127.0.0.0/8(rw,id=reader)\n"
		   "/other ::1(rw) 127.0.0.1(rw,id=alice)\n");
	CHECK_EQ(knock(&h, "alice@", "/data", alices), -EACCES);
	CHECK_EQ(knock(&h, "reader@", "/data", alices), 0);
	CHECK_EQ(knock(&h, "alice@", "/other", alices), 0);
	CHECK_EQ(knock(&h, "reader@", "/other", alices), -EACCES);
	CHECK_EQ(knock(&h, "", "/data", NULL), -EACCES);
	close_house(&h);
}

static int reload(struct pml_access *access, const char *secrets, const char *exports,
		  char *ret_reason)
{
	struct pml_access_rules *rules;
	int err = pml_access_read_rules(access, secrets, exports, &rules, ret_reason);
	if (!err)
		pml_access_use_rules(access, rules);
	return err;
}

static void test_rules_read_anew_are_for_those_who_come_later(void)
{
	struct house h;
	open_house(&h, SECRETS, "/data *(rw)\n");
	struct pml_client *client = visit(&h, "alice@", "/data");
	write_file(secrets_path, "bob " HEX_OTHER " uid=5 gid=5\n", 0600);
	CHECK_EQ(reload(h.access, secrets_path, exports_path, reason), 0);
	CHECK_EQ(knock(&h, "alice@", "/data", alices), -EACCES);
	struct pml_client_attr attr;
	CHECK_EQ(pml_client_create(client, "/data/x", 0600, true, &attr), 0);
	CHECK_EQ(attr.uid, 1000);
	pml_client_close(client);
	close_house(&h);
}

/* ---- several addresses, and those who try -------------------------------- */

/* A second server of the same house, on [::1]; NULL: this machine has none. */
static struct pml_server *start_second(struct house *h, char *ret_url, size_t room)
{
	struct pml_server_args args = h->rig.args;
	struct pml_server *server;
	args.host = "::1";
	args.port = "0";
	if (pml_server_start(&args, &server, reason))
		return NULL;
	snprintf(ret_url, room, "soft://alice@[::1]:%u", pml_server_port(server));
	return server;
}

static int knock_at(const char *url, const uint8_t *secret)
{
	const struct pml_client_args args = {
		.size_bytes = sizeof(args), .url = url, .secret = secret, .timeout_ms = 8000};
	struct pml_client *client;
	int err = pml_client_open(&args, &client, reason);
	if (!err)
		pml_client_close(client);
	return err;
}

static void test_addresses_share_handles_and_places(void)
{
	struct house h;
	char url[64];
	init_house(&h, SECRETS, NULL);
	h.args.max_connections = 4;
	h.args.max_host_connections = 2;
	start_house(&h);
	struct pml_server *second = start_second(&h, url, sizeof(url));
	if (!second) {
		close_house(&h);
		SKIP("no ::1");
	}
	uint64_t ino = fake_fs_make(h.rig.fs, h.data, "file", S_IFREG | 0666, 0);
	fake_fs_write(h.rig.fs, ino, 0, "x", 1);
	struct pml_client *one = visit(&h, "alice@", ""), *two, *three;
	const struct pml_client_args args = {
		.size_bytes = sizeof(args), .url = url, .secret = alices, .timeout_ms = 8000};
	REQUIRE(pml_client_open(&args, &two, reason) == 0);
	struct pml_client_attr attr;
	CHECK_EQ(pml_client_stat(one, "/data/file", &attr), 0);
	CHECK_EQ(try_lease(two, &attr.handle, false), 0);

	/* The share of one host, then all. */
	three = visit(&h, "alice@", "");
	CHECK_EQ(knock(&h, "alice@", "", alices), -ENOTCONN);
	CHECK_EQ(knock_at(url, alices), 0);
	pml_client_close(three);
	CHECK(rig_wait_sessions(&h.rig, 2));
	pml_client_close(one);
	pml_client_close(two);
	CHECK(rig_wait_sessions(&h.rig, 0));
	pml_server_stop(second);
	close_house(&h);
}

struct burglar {
	struct house *house;
	pthread_t thread;
	uint64_t waited_ms;
	atomic_bool is_refused;
};

static void *break_in(void *arg)
{
	struct burglar *b = arg;
	char url[128];
	uint64_t from_ms = pml_now_ms();
	snprintf(url, sizeof(url), "soft://alice@127.0.0.1:%s", b->house->rig.port);
	CHECK_EQ(knock_at(url, others), -EACCES);
	b->waited_ms = pml_now_ms() - from_ms;
	atomic_store(&b->is_refused, true);
	return NULL;
}

static void test_trying_is_slow_and_holds_up_nobody_else(void)
{
	struct house h;
	char url[64];
	open_house(&h, SECRETS, NULL);
	struct pml_server *second = start_second(&h, url, sizeof(url));
	/* Who does not wait for its answer is slow the next time. */
	for (int i = 0; i < 20; i++) {
		struct talk t;
		begin(&h, &t, 2);
		union pml_message msg = {.auth = {.proof = {1}}};
		CHECK_EQ(raw_send(t.ep, &msg, sizeof(msg.auth), PML_WIRE_AUTH), 0);
		raw_close(t.ep);
	}
	struct burglar b = {.house = &h};
	pthread_create(&b.thread, NULL, break_in, &b);
	/* Who knows a secret is let in at once, wherever it comes from. */
	CHECK_EQ(knock(&h, "alice@", "", alices), 0);
	CHECK_EQ(knock(&h, "reader@", "", alices), 0);
	if (second)
		CHECK_EQ(knock_at(url, alices), 0);
	/* Another host's first refusal is as quick as ever. */
	if (second)
		CHECK_EQ(knock_at(url, others), -EACCES);
	CHECK(!atomic_load(&b.is_refused));
	pthread_join(b.thread, NULL);
	CHECK(b.waited_ms >= 3200);
	if (second)
		pml_server_stop(second);
	close_house(&h);
}

/* ---- what strangers make the log say ------------------------------------- */

/* Standard error goes to a file meanwhile, and the log to standard error. */
struct log_tap {
	int file;
	int saved;
};

static void tap_log(struct log_tap *tap)
{
	tap->file = memfd_create("log", MFD_CLOEXEC);
	tap->saved = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3);
	if (tap->file < 0 || tap->saved < 0 || dup2(tap->file, STDERR_FILENO) < 0)
		BAIL_OUT("cannot catch the log");
	pml_log_open("test_service_auth", true);
}

/* What was logged; the caller frees it. */
static char *untap_log(struct log_tap *tap)
{
	pml_log_open("test_service_auth", false);
	off_t bytes = lseek(tap->file, 0, SEEK_END);
	char *text = calloc(1, (size_t)bytes + 1);
	if (dup2(tap->saved, STDERR_FILENO) < 0 || !text ||
	    pread(tap->file, text, (size_t)bytes, 0) != bytes)
		BAIL_OUT("cannot read the log");
	(void)close(tap->saved);
	(void)close(tap->file);
	return text;
}

static unsigned int count_words(const char *text, const char *words)
{
	unsigned int n = 0;
	for (const char *at = strstr(text, words); at; at = strstr(at + 1, words))
		n++;
	return n;
}

/* A stranger greets with nonsense, and waits until it is hung up on. */
static void greet_with_nonsense(const char *host, const char *port)
{
	struct pml_ep *ep;
	union pml_message msg;
	memset(&msg, 0x5a, sizeof(msg));
	if (pml_ep_connect(PML_TRANSPORT_SOFT, host, port, 5000, &ep, reason))
		BAIL_OUT("cannot connect: %s", reason);
	int err = pml_ep_send(ep, &msg, 40, 1000);
	CHECK(err == 0 || err == -ENOTCONN);
	CHECK_EQ(raw_recv(ep, &msg, 5000), -ENOTCONN);
	raw_close(ep);
}

static void test_I9_strangers_cannot_fill_the_log(void)
{
	enum { N = 500 };
	struct house h;
	char url[64], port[8], words[64];
	open_house(&h, SECRETS, NULL);
	struct pml_server *second = start_second(&h, url, sizeof(url));
	struct log_tap tap;
	tap_log(&tap);
	uint64_t from_ms = pml_now_ms();
	for (int i = 0; i < N; i++)
		greet_with_nonsense("127.0.0.1", h.rig.port);
	/* Who tries a secret is seen in all that. */
	CHECK_EQ(knock(&h, "alice@", "", others), -EACCES);
	uint64_t ms = pml_now_ms() - from_ms;
	/* Another host's line is written, and tells what is missing. */
	if (second) {
		snprintf(port, sizeof(port), "%u", pml_server_port(second));
		greet_with_nonsense("::1", port);
		pml_server_stop(second);
	}
	close_house(&h);
	char *text = untap_log(&tap);

	unsigned int from_one = count_words(text, "client 127.0.0.1:");
	unsigned int lines = count_words(text, "malformed message");
	CHECK(from_one >= PML_HOST_LINES + 1);
	CHECK(from_one <= PML_HOST_LINES + 1 + ms / PML_HOST_LINE_MS);
	CHECK_EQ(lines, from_one - 1 + (second ? 1 : 0));
	CHECK_EQ(count_words(text, "as alice: refused (1 of its host so far)"), 1);
	if (second && ms < PML_HOST_LINE_MS) {
		snprintf(words, sizeof(words), " (%u more of this kind were left out)",
			 N - PML_HOST_LINES);
		CHECK_EQ(count_words(text, words), 1);
	}
	printf("# %u lines for %d greetings in %llu ms\n", lines, N, (unsigned long long)ms);
	free(text);
}

/* ---- silence ------------------------------------------------------------- */

/* A peer whose network is gone says nothing and hears nothing; nothing tells the server. */
static void test_a_silent_session_ends_at_its_term_whoever_waits(void)
{
	struct house h;
	init_house(&h, NULL, NULL);
	h.rig.config.term_ms = 700;
	h.rig.config.policy[PML_OP_TRUNCATE] = PML_POLICY_BLOCK; /* no other clock */
	uint64_t ino = fake_fs_make(h.rig.fs, h.data, "file", S_IFREG | 0666, 0);
	fake_fs_write(h.rig.fs, ino, 0, "x", 1);
	start_house(&h);
	struct pml_client *client = visit(&h, "", "");
	struct pml_client_attr attr;
	REQUIRE(pml_client_stat(client, "/data/file", &attr) == 0);

	struct pml_ep *ep = raw_connect(&h.rig);
	raw_hello(ep);
	union pml_message msg = {.lease = {.len_bytes = 4096, .mode = 1}};
	memcpy(&msg.lease.inode, attr.handle.opaque, sizeof(msg.lease.inode));
	CHECK_EQ(raw_send(ep, &msg, sizeof(msg.lease), PML_WIRE_LEASE), 0);
	CHECK_EQ(raw_recv(ep, &msg, 5000), 0);
	CHECK_EQ(msg.h.status, 0);
	CHECK(rig_wait_leases(&h.rig, 1));
	uint64_t from_ms = pml_now_ms();
	CHECK_EQ(fake_fs_truncate(h.rig.fs, ino, 0), 0);
	uint64_t ms = pml_now_ms() - from_ms;
	if (ms < 300 || ms > 5000)
		TAP_FAIL("waited for %llu ms", (unsigned long long)ms);
	CHECK(rig_wait_leases(&h.rig, 0));
	CHECK(rig_wait_sessions(&h.rig, 1));
	CHECK_EQ(pml_client_stat(client, "/data/file", &attr), 0);
	raw_close(ep);
	pml_client_close(client);
	close_house(&h);
}

/* ---- the client's arguments ---------------------------------------------- */

static void test_the_secret_comes_from_the_file_of_the_user(void)
{
	struct house h;
	open_house(&h, SECRETS, NULL);
	char path[96];
	snprintf(path, sizeof(path), "%s/mine", dir);
	setenv("PMEMLEASE_SECRETS", path, 1);
	CHECK_EQ(knock(&h, "alice@", "", NULL), -ENOENT);
	CHECK(strstr(reason, path));
	write_file(path, "alice " HEX_ALICE "\n", 0644);
	CHECK_EQ(knock(&h, "alice@", "", NULL), -EPERM);
	CHECK(strstr(reason, "chmod 600"));
	write_file(path, "alice " HEX_ALICE "\n", 0600);
	CHECK_EQ(knock(&h, "alice@", "", NULL), 0);
	CHECK_EQ(knock(&h, "bob@", "", NULL), -ENOKEY);
	CHECK(strstr(reason, "no line for \"bob\""));
	write_file(path, "alice\n", 0600);
	CHECK_EQ(knock(&h, "alice@", "", NULL), -EINVAL);
	CHECK(strstr(reason, "mine:1: "));
	unsetenv("PMEMLEASE_SECRETS");

	/* At home. */
	char home[160];
	setenv("HOME", dir, 1);
	snprintf(home, sizeof(home), "%s/.config", dir);
	CHECK_EQ(mkdir(home, 0700), 0);
	snprintf(home, sizeof(home), "%s/.config/pmemleasefs", dir);
	CHECK_EQ(mkdir(home, 0700), 0);
	snprintf(home, sizeof(home), "%s/.config/pmemleasefs/secrets", dir);
	write_file(home, "alice " HEX_ALICE "\n", 0600);
	CHECK_EQ(knock(&h, "alice@", "", NULL), 0);
	unsetenv("HOME");
	CHECK_EQ(knock(&h, "alice@", "", NULL), -ENOENT);
	CHECK(strstr(reason, "HOME"));
	close_house(&h);
}

/*
 * A busy machine is slow to say who it is; it may be, while places are left for others.  The time
 * passes while the other tests run: this is the first of them.
 */
static struct silence {
	struct house house;
	struct pml_ep *eps[3];
} silence;

static void test_silence_before_hello_begins(void)
{
	init_house(&silence.house, NULL, NULL);
	silence.house.args.max_connections = 8;
	silence.house.args.max_host_connections = 4;
	start_house(&silence.house);
	for (size_t i = 0; i < PML_ARRAY_LEN(silence.eps); i++) {
		silence.eps[i] = raw_connect(&silence.house.rig);
		usleep(50000); /* the next is taken after it */
	}
}

static void test_silence_before_hello_costs_the_place_only_in_a_crowd(void)
{
	union pml_message msg;
	CHECK_EQ(raw_recv(silence.eps[2], &msg, 7000), -ENOTCONN);
	raw_hello(silence.eps[0]);
	raw_hello(silence.eps[1]);
	for (size_t i = 0; i < PML_ARRAY_LEN(silence.eps); i++)
		raw_close(silence.eps[i]);
	close_house(&silence.house);
}

static void test_arguments_of_other_versions(void)
{
	struct house h;
	open_house(&h, SECRETS, NULL);
	char url[128];
	snprintf(url, sizeof(url), "soft://reader@127.0.0.1:%s/data", h.rig.port);
	struct {
		struct pml_client_args args;
		uint64_t later;
	} big = {.args = {.size_bytes = sizeof(big), .url = url, .secret = alices}};
	struct pml_client *client;
	CHECK_EQ(pml_client_open(&big.args, &client, reason), 0);
	pml_client_close(client);
	big.later = 1;
	CHECK_EQ(pml_client_open(&big.args, &client, reason), -E2BIG);
	struct pml_client_args args = {.url = url, .secret = alices};
	CHECK_EQ(pml_client_open(&args, &client, reason), -EINVAL);
	args.size_bytes = sizeof(args);
	args.identity = "alice";
	CHECK_EQ(pml_client_open(&args, &client, reason), 0);
	struct pml_client_attr attr;
	CHECK_EQ(pml_client_create(client, "/data/by_alice", 0600, true, &attr), 0);
	pml_client_close(client);
	args.identity = "al ice";
	CHECK_EQ(pml_client_open(&args, &client, NULL), -EINVAL);
	args.identity = "";
	CHECK_EQ(pml_client_open(&args, &client, reason), -EINVAL);
	args.url = NULL;
	CHECK_EQ(pml_client_open(&args, &client, reason), -EINVAL);
	close_house(&h);
}

static void test_urls_with_identities(void)
{
	static const char *const wrong[] = {"soft://@h:1", "soft://a b@h:1", "soft://a:b@h:1",
					    "soft://a@:1", "soft://a@"};
	struct pml_client *client;
	for (size_t i = 0; i < PML_ARRAY_LEN(wrong); i++)
		CHECK_EQ(pml_client_connect(wrong[i], 100, &client, reason), -EINVAL);
	char *text = malloc(PML_WIRE_PATH_MAX + 64);
	memset(text, 'x', PML_WIRE_PATH_MAX + 63);
	text[PML_WIRE_PATH_MAX + 63] = 0;
	memcpy(text, "soft://h:1/", 11);
	CHECK_EQ(pml_client_connect(text, 100, &client, reason), -ENAMETOOLONG);
	free(text);

	struct house h;
	open_house(&h, "a@b.example " HEX_ALICE " uid=1 gid=1\n", NULL);
	CHECK_EQ(knock(&h, "a@b.example@", "/x@y/z", alices), 0);
	close_house(&h);
}

int main(void)
{
	if (!mkdtemp(dir))
		BAIL_OUT("no directory");
	snprintf(secrets_path, sizeof(secrets_path), "%s/secrets", dir);
	snprintf(exports_path, sizeof(exports_path), "%s/exports", dir);
	TAP_RUN(test_silence_before_hello_begins);
	TAP_RUN(test_who_knows_the_secret_is_let_in_as_the_file_says);
	TAP_RUN(test_wrong_secret_and_unknown_identity_are_the_same);
	TAP_RUN(test_neither_side_is_talked_out_of_a_proof);
	TAP_RUN(test_a_proof_is_for_one_connection_and_one_role);
	TAP_RUN(test_nothing_tells_identities_that_are_known_from_others);
	TAP_RUN(test_a_server_that_does_not_know_the_secret_is_left);
	TAP_RUN(test_rule_identity_or_mount_make_it_read_only);
	TAP_RUN(test_squash_makes_somebody_else_of_root);
	TAP_RUN(test_groups_of_root_are_squashed_too);
	TAP_RUN(test_paths_outside_of_the_export_are_refused);
	TAP_RUN(test_an_export_is_a_directory_that_is_there);
	TAP_RUN(test_handles_of_others_are_worthless);
	TAP_RUN(test_rules_choose_by_address_and_identity);
	TAP_RUN(test_rules_read_anew_are_for_those_who_come_later);
	TAP_RUN(test_addresses_share_handles_and_places);
	TAP_RUN(test_trying_is_slow_and_holds_up_nobody_else);
	TAP_RUN(test_I9_strangers_cannot_fill_the_log);
	TAP_RUN(test_a_silent_session_ends_at_its_term_whoever_waits);
	TAP_RUN(test_the_secret_comes_from_the_file_of_the_user);
	TAP_RUN(test_arguments_of_other_versions);
	TAP_RUN(test_silence_before_hello_costs_the_place_only_in_a_crowd);
	TAP_RUN(test_urls_with_identities);
	char command[128];
	snprintf(command, sizeof(command), "rm -rf %s", dir);
	if (system(command))
		printf("# %s is left\n", dir);
	return tap_done();
}
