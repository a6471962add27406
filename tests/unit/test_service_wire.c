/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_service_wire.c -- peers that do not keep to the protocol
 *
 * The server against raw connections, and the client library against a server
 * that this test plays itself.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <sys/stat.h>
#include <time.h>

#include "pml/clock.h"
#include "service_rig.h"
#include "tap.h"

/* The other side may have hung up: that is for the receiver to find. */
static void send_or_not(struct pml_ep *ep, const void *msg, size_t bytes)
{
	if (pml_ep_send(ep, msg, bytes, 1000))
		return;
}

/* ---- the server ---------------------------------------------------------- */

/* Sends one message after hello; true if the server ended the connection for it. */
static bool ends_session(struct rig *rig, union pml_message *msg, size_t bytes, bool with_hello)
{
	struct pml_ep *ep = raw_connect(rig);
	if (with_hello)
		raw_hello(ep);
	send_or_not(ep, msg, bytes);
	union pml_message answer;
	int err = raw_recv(ep, &answer, 2000);
	raw_close(ep);
	return err == -ENOTCONN;
}

static void test_malformed_messages_end_the_session_and_nothing_else(void)
{
	struct rig rig;
	rig_init(&rig);
	REQUIRE(rig_start(&rig) == 0);
	struct pml_client *bystander = rig_connect(&rig);
	union pml_message msg;
	memset(&msg, 0, sizeof(msg));

	for (size_t bytes = 1; bytes < 40; bytes += 13) {
		memset(&msg, 0x5a, sizeof(msg));
		CHECK(ends_session(&rig, &msg, bytes, true));
		CHECK(ends_session(&rig, &msg, bytes, false));
	}
	memset(&msg, 0, sizeof(msg));
	pml_codec_header(&msg.h, PML_WIRE_GETATTR, sizeof(msg.inode), 1);
	CHECK(ends_session(&rig, &msg, sizeof(msg.inode), true)); /* inode 0 */
	msg.inode.inode = rig_wire_handle(&rig, PML_ROOT_INO);
	msg.h.request_id = 0;
	CHECK(ends_session(&rig, &msg, sizeof(msg.inode), true));
	msg.h.request_id = 1;
	msg.h.flags = 4;
	CHECK(ends_session(&rig, &msg, sizeof(msg.inode), true));
	msg.h.flags = 0;
	CHECK(!ends_session(&rig, &msg, sizeof(msg.inode), true));
	CHECK(ends_session(&rig, &msg, sizeof(msg.inode), false)); /* before hello */
	pml_codec_header(&msg.h, PML_WIRE_REPLY, sizeof(msg.h), 1);
	CHECK(ends_session(&rig, &msg, sizeof(msg.h), true));
	memset(&msg, 0, sizeof(msg));
	pml_codec_header(&msg.h, PML_WIRE_HELLO, sizeof(msg.hello), 1);
	CHECK(ends_session(&rig, &msg, sizeof(msg.hello), true)); /* twice */

	struct pml_client_attr attr;
	CHECK_EQ(pml_client_stat(bystander, "/", &attr), 0);
	CHECK(rig_wait_sessions(&rig, 1));
	pml_client_close(bystander);
	rig_stop(&rig);
}

static void test_other_version_is_told_so(void)
{
	struct rig rig;
	rig_init(&rig);
	REQUIRE(rig_start(&rig) == 0);
	struct pml_ep *ep = raw_connect(&rig);
	union pml_message msg = {.hello = {.path_bytes = 0}};
	pml_codec_header(&msg.h, PML_WIRE_HELLO, sizeof(msg.hello), 77);
	msg.h.version = PML_WIRE_VERSION + 1;
	CHECK_EQ(pml_ep_send(ep, &msg, sizeof(msg.hello), 1000), 0);
	CHECK_EQ(raw_recv(ep, &msg, 2000), 0);
	CHECK_EQ(msg.h.type, PML_WIRE_REPLY);
	CHECK_EQ(msg.h.request_id, 77);
	CHECK_EQ(msg.h.status, -EPROTONOSUPPORT);
	CHECK_EQ(msg.h.version, PML_WIRE_VERSION);
	CHECK_EQ(raw_recv(ep, &msg, 3000), -ENOTCONN);
	raw_close(ep);
	rig_stop(&rig);
}

static void test_connection_without_hello_is_dropped(void)
{
	struct rig rig;
	rig_init(&rig);
	REQUIRE(rig_start(&rig) == 0);
	struct pml_ep *ep = raw_connect(&rig);
	union pml_message msg;
	uint64_t from_ms = pml_now_ms();
	/* It has more time while there is room for others (docs/security.md). */
	CHECK_EQ(raw_recv(ep, &msg, 30000), -ENOTCONN);
	CHECK(pml_now_ms() - from_ms >= 4500);
	raw_close(ep);
	rig_stop(&rig);
}

/* One request with a status for an answer. */
static int ask(struct pml_ep *ep, union pml_message *msg, size_t bytes, enum pml_wire_type type)
{
	union pml_message reply;
	if (raw_send(ep, msg, bytes, type) || raw_recv(ep, &reply, 2000))
		return -ENOTCONN;
	return reply.h.status;
}

static void test_foreign_leases_are_out_of_reach(void)
{
	struct rig rig;
	rig_init(&rig);
	REQUIRE(rig_start(&rig) == 0);
	uint64_t ino = fake_fs_make(rig.fs, PML_ROOT_INO, "file", S_IFREG | 0644, 0);
	struct pml_client *client = rig_connect(&rig);
	struct pml_client_lease *lease = rig_lease(client, ino, 0, 4096, true);

	struct pml_ep *ep = raw_connect(&rig);
	raw_hello(ep);
	union pml_message msg = {.ret = {.lease_id = pml_client_lease_id(lease)}};
	CHECK_EQ(ask(ep, &msg, sizeof(msg.ret), PML_WIRE_RETURN), -ESTALE);
	msg = (union pml_message){
		.commit = {.lease_id = pml_client_lease_id(lease), .len_bytes = 4096}};
	CHECK_EQ(ask(ep, &msg, sizeof(msg.commit), PML_WIRE_COMMIT), -ESTALE);
	msg = (union pml_message){.ret = {.lease_id = pml_client_lease_id(lease)}};
	CHECK_EQ(raw_send(ep, &msg, sizeof(msg.ret), PML_WIRE_ACK), 0);
	CHECK_EQ(pml_client_lease_status(lease), 0);

	/* Reaching its bytes with its key over another connection ends that connection. */
	uint8_t stolen[16];
	struct pml_local_mr *mr;
	REQUIRE(pml_local_mr_new(ep, stolen, sizeof(stolen), &mr) == 0);
	const struct pml_data_op op = {.mr = mr,
				       .buf = stolen,
				       .bytes = sizeof(stolen),
				       .remote_addr = 0x1000,
				       .rkey = 0x100,
				       .kind = PML_DATA_WRITE};
	struct pml_completion done;
	CHECK_EQ(pml_ep_post(ep, &op), 0);
	CHECK_EQ(pml_ep_poll(ep, &done, 1, 2000), 1);
	CHECK_EQ(done.status, -EACCES);
	pml_local_mr_free(mr);
	raw_close(ep);
	CHECK_EQ(pml_client_return(lease), 0);
	pml_client_close(client);
	rig_stop(&rig);
}

static void test_too_large_lease_is_refused_politely(void)
{
	struct rig rig;
	rig_init(&rig);
	REQUIRE(rig_start(&rig) == 0);
	struct pml_ep *ep = raw_connect(&rig);
	raw_hello(ep);
	union pml_message msg = {
		.lease = {.inode = rig_wire_handle(&rig, PML_ROOT_INO), .len_bytes = INT64_MAX}};
	CHECK_EQ(ask(ep, &msg, sizeof(msg.lease), PML_WIRE_LEASE), -EISDIR);
	uint64_t ino = fake_fs_make(rig.fs, PML_ROOT_INO, "file", S_IFREG | 0644, 0);
	msg.lease.inode = rig_wire_handle(&rig, ino);
	msg.lease.mode = PML_LEASE_WRITE;
	CHECK(ask(ep, &msg, sizeof(msg.lease), PML_WIRE_LEASE) < 0);
	msg = (union pml_message){.inode = {.inode = rig_wire_handle(&rig, ino)}};
	CHECK_EQ(ask(ep, &msg, sizeof(msg.inode), PML_WIRE_GETATTR), 0);
	raw_close(ep);
	rig_stop(&rig);
}

static uint32_t random_of(uint64_t *state)
{
	*state = *state * 6364136223846793005u + 1442695040888963407u;
	return (uint32_t)(*state >> 33);
}

static void test_server_survives_random_valid_and_damaged_requests(void)
{
	const char *seed = getenv("PML_SEED");
	uint64_t state = seed ? strtoull(seed, NULL, 0) : (uint64_t)time(NULL);
	printf("# PML_SEED=%llu\n", (unsigned long long)state);
	struct rig rig;
	rig_init(&rig);
	REQUIRE(rig_start(&rig) == 0);
	for (int i = 0; i < 5; i++) {
		char name[8] = {(char)('a' + i)};
		fake_fs_make(rig.fs, PML_ROOT_INO, name, S_IFREG | 0644, 0);
	}
	struct pml_client *looker = rig_connect(&rig);
	struct pml_client_attr attr;
	CHECK_EQ(pml_client_stat(looker, "a", &attr), 0);
	struct pml_wire_handle file;
	memcpy(&file, attr.handle.opaque, sizeof(file));
	pml_client_close(looker);
	for (int round = 0; round < 150; round++) {
		struct pml_ep *ep = raw_connect(&rig);
		raw_hello(ep);
		for (int i = 0; i < 20; i++) {
			union pml_message msg;
			size_t bytes = 24 + random_of(&state) % 100;
			memset(msg.bytes, 0, sizeof(msg));
			for (size_t n = 24; n < bytes; n += 8) {
				uint64_t small = random_of(&state) % 9;
				memcpy(msg.bytes + n, &small, 8);
			}
			enum pml_wire_type type = (enum pml_wire_type)(
				PML_WIRE_LOOKUP +
				random_of(&state) % (PML_WIRE_REQUESTS_END - PML_WIRE_LOOKUP));
			if (random_of(&state) % 4)
				memcpy(msg.bytes + 24, &file, sizeof(file));
			if (random_of(&state) % 4)
				bytes &= ~(size_t)7;
			if (raw_send(ep, &msg, bytes, type))
				break;
		}
		raw_close(ep);
	}
	CHECK(rig_wait_sessions(&rig, 0));
	CHECK_EQ(fake_fs_pins(rig.fs), 0);
	rig_stop(&rig);
}

/* ---- the client ---------------------------------------------------------- */

/* A server that this test plays: what it answers to a lease request is the case. */
struct act {
	struct pml_fabric *fabric;
	char url[64];
	pthread_t thread;
	void (*play)(struct act *act, struct pml_ep *ep, union pml_message *msg);
	atomic_uint acks, returns;
};

static void answer(struct pml_ep *ep, const union pml_message *request, union pml_message *reply,
		   size_t bytes, int status)
{
	uint16_t type = request->h.type;
	pml_codec_header(&reply->h, PML_WIRE_REPLY, bytes, request->h.request_id);
	reply->h.reply_to = type;
	reply->h.status = status;
	send_or_not(ep, reply, bytes);
}

static void answer_hello(struct pml_ep *ep, const union pml_message *request)
{
	union pml_message reply = {.hello_reply = {.epoch = 1, .method = PML_WIRE_AUTH_NONE}};
	answer(ep, request, &reply, sizeof(reply.hello_reply), 0);
}

static void answer_auth(struct pml_ep *ep, const union pml_message *request)
{
	union pml_message reply = {.auth_reply = {.root = {.handle = {.ino = 1}},
						  .term_ms = 60000,
						  .durability = PML_DURABLE_BY_COMMIT,
						  .credits = 1,
						  .max_lease_bytes = 1 << 20}};
	answer(ep, request, &reply, sizeof(reply.auth_reply), 0);
}

/* The played server looks at none. */
static const struct pml_client_handle any_file = {{1}};

static struct pml_client_lease *act_lease(struct pml_client *client)
{
	struct pml_client_lease *lease;
	if (pml_client_lease(client, &any_file, 0, 4096, false, 5000, &lease))
		BAIL_OUT("no lease: %s", pml_client_reason(client));
	return lease;
}

static void *run_act(void *arg)
{
	struct act *act = arg;
	struct pml_ep *ep;
	if (pml_fabric_accept(act->fabric, 5000, &ep))
		return NULL;
	union pml_message msg;
	while (raw_recv(ep, &msg, 10000) == 0) {
		union pml_message reply;
		if (msg.h.type == PML_WIRE_HELLO)
			answer_hello(ep, &msg);
		else if (msg.h.type == PML_WIRE_AUTH)
			answer_auth(ep, &msg);
		else if (msg.h.type == PML_WIRE_ACK)
			atomic_fetch_add(&act->acks, 1);
		else if (msg.h.type == PML_WIRE_RETURN) {
			atomic_fetch_add(&act->returns, 1);
			answer(ep, &msg, &reply, sizeof(reply.h), 0);
		} else {
			act->play(act, ep, &msg);
		}
	}
	raw_close(ep);
	return NULL;
}

static struct pml_client *start_act(struct act *act)
{
	char reason[PML_REASON_BYTES];
	if (pml_fabric_listen(PML_TRANSPORT_SOFT, "127.0.0.1", "0", &act->fabric, reason))
		BAIL_OUT("%s", reason);
	snprintf(act->url, sizeof(act->url), "soft://127.0.0.1:%u", pml_fabric_port(act->fabric));
	pthread_create(&act->thread, NULL, run_act, act);
	struct pml_client *client;
	if (pml_client_connect(act->url, 2000, &client, reason))
		BAIL_OUT("%s", reason);
	return client;
}

static void stop_act(struct act *act, struct pml_client *client)
{
	pml_client_close(client);
	pthread_join(act->thread, NULL);
	pml_fabric_close(act->fabric);
}

static void grant(struct pml_ep *ep, const union pml_message *request, uint64_t lease_id)
{
	union pml_message reply = {.lease_reply = {.lease_id = lease_id,
						   .first_byte = request->lease.first_byte,
						   .end_byte = request->lease.first_byte + 4096,
						   .term_ms = 1000,
						   .durability = PML_DURABLE_BY_COMMIT}};
	answer(ep, request, &reply, sizeof(reply.lease_reply), 0);
}

static void send_recall(struct pml_ep *ep, uint64_t lease_id)
{
	struct pml_wire_recall recall = {.lease_id = lease_id, .drain_ms = 1000};
	pml_codec_header(&recall.h, PML_WIRE_RECALL, sizeof(recall), 0);
	send_or_not(ep, &recall, sizeof(recall));
}

static void recall_first(struct act *act, struct pml_ep *ep, union pml_message *msg)
{
	send_recall(ep, 1); /* of nobody */
	send_recall(ep, 42);
	grant(ep, msg, 42);
}

static bool wait_for(atomic_uint *count, unsigned int want)
{
	for (int i = 0; i < 3000 && atomic_load(count) < want; i++)
		usleep(1000);
	return atomic_load(count) == want;
}

static void test_recall_before_the_grant_is_not_lost(void)
{
	struct act act = {.play = recall_first};
	struct pml_client *client = start_act(&act);
	struct pml_client_lease *lease = act_lease(client);
	CHECK_EQ(pml_client_lease_status(lease), -ESTALE);
	CHECK(wait_for(&act.acks, 1));
	CHECK(wait_for(&act.returns, 1));
	CHECK_EQ(pml_client_return(lease), 0);
	CHECK_EQ(act.returns, 1);
	stop_act(&act, client);
}

static void revoke_first(struct act *act, struct pml_ep *ep, union pml_message *msg)
{
	struct pml_wire_revoked revoked = {.lease_id = 42, .why = PML_END_UNMOUNT};
	pml_codec_header(&revoked.h, PML_WIRE_REVOKED, sizeof(revoked), 0);
	send_or_not(ep, &revoked, sizeof(revoked));
	grant(ep, msg, 42);
}

static void test_revocation_before_the_grant_is_not_lost(void)
{
	struct act act = {.play = revoke_first};
	struct pml_client *client = start_act(&act);
	struct pml_client_lease *lease = act_lease(client);
	CHECK_EQ(pml_client_lease_status(lease), -EKEYREVOKED);
	CHECK(strstr(pml_client_reason(client), "unmounted") != NULL);
	CHECK_EQ(pml_client_return(lease), -EKEYREVOKED);
	CHECK_EQ(act.returns, 0);
	stop_act(&act, client);
}

static void recall_twice(struct act *act, struct pml_ep *ep, union pml_message *msg)
{
	grant(ep, msg, 42);
	send_recall(ep, 42);
	send_recall(ep, 42);
}

static void test_second_recall_makes_no_second_return(void)
{
	struct act act = {.play = recall_twice};
	struct pml_client *client = start_act(&act);
	struct pml_client_lease *lease = act_lease(client);
	CHECK(wait_for(&act.returns, 1));
	usleep(50000);
	CHECK(act.acks >= 1 && act.acks <= 2);
	CHECK_EQ(act.returns, 1);
	CHECK_EQ(pml_client_return(lease), 0);
	CHECK_EQ(act.returns, 1);
	stop_act(&act, client);
}

static void lie_about_range(struct act *act, struct pml_ep *ep, union pml_message *msg)
{
	msg->lease.first_byte += 8192;
	grant(ep, msg, 42);
}

static void send_garbage(struct act *act, struct pml_ep *ep, union pml_message *msg)
{
	memset(msg, 0x33, 100);
	send_or_not(ep, msg, 100);
}

static void answer_another_type(struct act *act, struct pml_ep *ep, union pml_message *msg)
{
	union pml_message reply;
	msg->h.type = PML_WIRE_RENEW;
	answer(ep, msg, &reply, sizeof(reply.h), 0);
}

static void answer_twice(struct act *act, struct pml_ep *ep, union pml_message *msg)
{
	grant(ep, msg, 42);
	grant(ep, msg, 43);
}

static void say_nothing(struct act *act, struct pml_ep *ep, union pml_message *msg)
{
}

static void test_lying_server_costs_the_connection(void)
{
	static const struct {
		void (*play)(struct act *act, struct pml_ep *ep, union pml_message *msg);
		int err;
	} cases[] = {
		{lie_about_range, -ENOTCONN},
		{send_garbage, -ENOTCONN},
		{answer_another_type, -ENOTCONN},
		{say_nothing, -ETIMEDOUT},
	};
	for (size_t i = 0; i < PML_ARRAY_LEN(cases); i++) {
		struct act act = {.play = cases[i].play};
		struct pml_client *client = start_act(&act);
		struct pml_client_lease *lease;
		CHECK_EQ(pml_client_lease(client, &any_file, 0, 4096, false, 0, &lease),
			 cases[i].err);
		struct pml_client_attr attr;
		CHECK_EQ(pml_client_stat(client, "/", &attr), -ENOTCONN);
		stop_act(&act, client);
	}
}

static void test_reply_to_no_request_is_ignored(void)
{
	struct act act = {.play = answer_twice};
	struct pml_client *client = start_act(&act);
	struct pml_client_lease *lease = act_lease(client);
	usleep(20000);
	CHECK_EQ(pml_client_lease_id(lease), 42);
	CHECK_EQ(pml_client_return(lease), 0);
	stop_act(&act, client);
}

int main(void)
{
	TAP_RUN(test_malformed_messages_end_the_session_and_nothing_else);
	TAP_RUN(test_other_version_is_told_so);
	TAP_RUN(test_connection_without_hello_is_dropped);
	TAP_RUN(test_foreign_leases_are_out_of_reach);
	TAP_RUN(test_too_large_lease_is_refused_politely);
	TAP_RUN(test_server_survives_random_valid_and_damaged_requests);
	TAP_RUN(test_recall_before_the_grant_is_not_lost);
	TAP_RUN(test_revocation_before_the_grant_is_not_lost);
	TAP_RUN(test_second_recall_makes_no_second_return);
	TAP_RUN(test_lying_server_costs_the_connection);
	TAP_RUN(test_reply_to_no_request_is_ignored);
	return tap_done();
}
