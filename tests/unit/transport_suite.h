/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * transport_suite.h -- what every fabric must do, as tests
 *
 * A test program sets @suite, hands argv to suite_child() first (some tests
 * start the program again as a peer that can be killed) and calls suite_run().
 */
#ifndef TRANSPORT_SUITE_H
#define TRANSPORT_SUITE_H

#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "../../rdma/transport.h"
#include "../tap.h"
#include "pml/clock.h"

#define WAIT_MS	  10000 /* for what must happen: long, also under sanitizers in an emulator */
#define AREA	  (4u << 20)
#define PIECE	  65536u
#define POISON	  0xd5
#define IN_FLIGHT 16
#define AREAS_MAX 8

static struct {
	enum pml_transport_kind kind;
	const char *host;
	unsigned fence_rounds;
	const char *skip; /* reason not to run anything */
	struct pml_fabric *fabric;
	char port[8];
	/* Keys are windows; invalidating one is a fence there. */
	bool has_windows, is_window_fence;
	uint8_t *arena; /* AREAS_MAX areas; what windows are cut from */
	atomic_bool is_area_used[AREAS_MAX];
} suite;

/* One connection, both ends in this process. */
struct pair {
	struct pml_ep *server;
	struct pml_ep *client;
};

static void *connect_main(void *arg)
{
	struct pair *p = arg;
	char reason[PML_REASON_BYTES];
	int err = pml_ep_connect(suite.kind, suite.host, suite.port, WAIT_MS, &p->client, reason);
	if (err)
		TAP_FAIL("connect: %d %s", err, reason);
	return NULL;
}

static bool pair_open(struct pair *p)
{
	*p = (struct pair){0};
	pthread_t thread;
	pthread_create(&thread, NULL, connect_main, p);
	int err = pml_fabric_accept(suite.fabric, WAIT_MS, &p->server);
	CHECK_EQ(err, 0);
	pthread_join(thread, NULL);
	return p->server && p->client;
}

static void pair_close(struct pair *p)
{
	pml_ep_close(p->client);
	pml_ep_close(p->server);
}

static uint8_t *area_new(uint8_t fill)
{
	for (int i = 0; i < AREAS_MAX; i++) {
		if (atomic_exchange(&suite.is_area_used[i], true))
			continue;
		uint8_t *area = suite.arena + (size_t)i * AREA;
		memset(area, fill, AREA);
		return area;
	}
	abort();
}

static void area_free(const uint8_t *area)
{
	atomic_store(&suite.is_area_used[(size_t)(area - suite.arena) / AREA], false);
}

static bool is_all(const uint8_t *bytes, size_t n, uint8_t value)
{
	return n == 0 || (bytes[0] == value && memcmp(bytes, bytes + 1, n - 1) == 0);
}

static void fill_pattern(uint8_t *to, size_t n, unsigned seed)
{
	for (size_t i = 0; i < n; i++)
		to[i] = (uint8_t)((i * 2654435761u + seed * 40503u) >> 13);
}

/* Waits for one completion; INT_MIN-like 1 when none came. */
static int finish_one(struct pml_ep *ep, uint64_t *ret_cookie)
{
	struct pml_completion done;
	int n = pml_ep_poll(ep, &done, 1, WAIT_MS);
	if (n != 1)
		return n < 0 ? n : -ETIME;
	if (ret_cookie)
		*ret_cookie = done.cookie;
	return done.status;
}

static int do_op(struct pml_ep *ep, struct pml_data_op op)
{
	int err = pml_ep_post(ep, &op);
	return err ? err : finish_one(ep, NULL);
}

static void fence_ok(struct pml_key *key, enum pml_ep_fence how)
{
	CHECK_EQ(pml_key_fence(key, how, false), 0);
}

/* ---- messages ----------------------------------------------------------- */

static void *echo_main(void *arg)
{
	struct pml_ep *ep = arg;
	uint8_t buf[PML_MSG_BYTES_MAX];
	size_t bytes;
	while (pml_ep_recv(ep, buf, &bytes, WAIT_MS) == 0) {
		if (pml_ep_send(ep, buf, bytes, WAIT_MS))
			break;
	}
	return NULL;
}

static void test_messages_arrive_whole_and_in_order(void)
{
	struct pair p;
	REQUIRE(pair_open(&p));
	pthread_t thread;
	pthread_create(&thread, NULL, echo_main, p.server);
	static uint8_t out[PML_MSG_BYTES_MAX], in[PML_MSG_BYTES_MAX];
	int bad = 0;
	for (unsigned i = 0; i < 300 && !bad; i++) {
		size_t bytes = i % 3 == 0 ? PML_MSG_BYTES_MAX : 1 + i * 37 % PML_MSG_BYTES_MAX;
		size_t got = 0;
		fill_pattern(out, bytes, i);
		bad |= pml_ep_send(p.client, out, bytes, WAIT_MS);
		bad |= pml_ep_recv(p.client, in, &got, WAIT_MS);
		bad |= got != bytes || memcmp(in, out, bytes) != 0;
	}
	CHECK_EQ(bad, 0);
	pml_ep_kill(p.client);
	pthread_join(thread, NULL);
	pair_close(&p);
}

static void test_sender_waits_for_room_and_nothing_is_lost(void)
{
	struct pair p;
	REQUIRE(pair_open(&p));
	uint8_t buf[PML_MSG_BYTES_MAX] = {0};
	unsigned sent = 0;
	int err = 0;
	while (sent < 1000) {
		memcpy(buf, &sent, sizeof(sent));
		err = pml_ep_send(p.server, buf, sizeof(buf), 100);
		if (err)
			break;
		sent++;
	}
	CHECK_EQ(err, -ETIMEDOUT);
	CHECK(sent >= PML_MSG_DEPTH && sent <= 4 * PML_MSG_DEPTH);
	unsigned number = 0;
	size_t bytes;
	for (unsigned i = 0; i < sent; i++) {
		REQUIRE(pml_ep_recv(p.client, buf, &bytes, WAIT_MS) == 0);
		memcpy(&number, buf, sizeof(number));
		REQUIRE(number == i && bytes == sizeof(buf));
	}
	for (unsigned i = 0; i < 3 * PML_MSG_DEPTH; i++) {
		REQUIRE(pml_ep_send(p.server, &i, sizeof(i), WAIT_MS) == 0);
		REQUIRE(pml_ep_recv(p.client, &buf, &bytes, WAIT_MS) == 0);
	}
	pair_close(&p);
}

static void test_messages_before_the_end_are_delivered(void)
{
	struct pair p;
	REQUIRE(pair_open(&p));
	for (unsigned i = 0; i < 5; i++)
		CHECK_EQ(pml_ep_send(p.client, &i, sizeof(i), WAIT_MS), 0);
	(void)usleep(200000);
	pml_ep_kill(p.client);
	uint8_t buf[PML_MSG_BYTES_MAX];
	size_t bytes;
	for (unsigned i = 0; i < 5; i++) {
		REQUIRE(pml_ep_recv(p.server, buf, &bytes, WAIT_MS) == 0);
		CHECK(bytes == sizeof(i) && memcmp(buf, &i, sizeof(i)) == 0);
	}
	CHECK_EQ(pml_ep_recv(p.server, buf, &bytes, WAIT_MS), -ENOTCONN);
	CHECK_EQ(pml_ep_recv(p.client, buf, &bytes, 0), -ENOTCONN);
	pair_close(&p);
}

static void *sleep_main(void *arg)
{
	pml_ep_recv_sleep(arg, WAIT_MS);
	return NULL;
}

/* How long a sleeper of the client sleeps that is armed so, while the server sends. */
static uint64_t slept_ms(struct pair *p, bool for_quiet, bool is_quiet, uint64_t send_after_ms)
{
	pthread_t thread;
	uint8_t buf[PML_MSG_BYTES_MAX];
	size_t bytes;
	int err = 0;
	pml_ep_recv_arm(p->client, for_quiet);
	CHECK_EQ(pml_ep_recv(p->client, buf, &bytes, 0), -ETIMEDOUT);
	uint64_t start = pml_now_ms();
	pthread_create(&thread, NULL, sleep_main, p->client);
	(void)usleep((useconds_t)send_after_ms * 1000);
	err = is_quiet ? pml_ep_send_quiet(p->server, "q", 1, WAIT_MS)
		       : pml_ep_send(p->server, "m", 1, WAIT_MS);
	CHECK_EQ(err, 0);
	if (is_quiet && !for_quiet) {
		/* Who looks finds it. */
		while ((err = pml_ep_recv(p->client, buf, &bytes, 0)) == -ETIMEDOUT &&
		       pml_now_ms() - start < WAIT_MS)
			(void)usleep(1000);
		CHECK_EQ(err, 0);
		(void)usleep(200000);
		CHECK_EQ(pml_ep_send(p->server, "m", 1, WAIT_MS), 0);
	}
	pthread_join(thread, NULL);
	uint64_t ms = pml_now_ms() - start;
	CHECK_EQ(pml_ep_recv(p->client, buf, &bytes, WAIT_MS), 0);
	CHECK(bytes == 1 && buf[0] == (is_quiet && for_quiet ? 'q' : 'm'));
	return ms;
}

static void test_a_sleeper_is_woken_by_what_it_asked_for(void)
{
	struct pair p;
	REQUIRE(pair_open(&p));
	static const struct {
		bool for_quiet, is_quiet;
		uint64_t least_ms;
	} cases[] = {{false, false, 50}, {true, true, 50}, {true, false, 50}, {false, true, 240}};
	for (size_t i = 0; i < PML_ARRAY_LEN(cases); i++) {
		/* The first use of a completion channel may wake without reason. */
		for (int warm = 0; warm < 2; warm++)
			pml_ep_recv_sleep(p.client, 1);
		uint64_t ms = slept_ms(&p, cases[i].for_quiet, cases[i].is_quiet, 50);
		if (ms < cases[i].least_ms || ms > WAIT_MS / 2)
			TAP_FAIL("case %zu: slept %llu ms", i, (unsigned long long)ms);
	}
	uint64_t start = pml_now_ms();
	pml_ep_recv_arm(p.client, true);
	pml_ep_recv_sleep(p.client, 60);
	CHECK(pml_now_ms() - start >= 59);
	/* The end of the connection wakes, too. */
	pthread_t thread;
	start = pml_now_ms();
	pthread_create(&thread, NULL, sleep_main, p.client);
	(void)usleep(50000);
	pml_ep_kill(p.client);
	pthread_join(thread, NULL);
	CHECK(pml_now_ms() - start < WAIT_MS / 2);
	pair_close(&p);
}

static void test_waits_end_at_their_timeouts(void)
{
	struct pair p;
	REQUIRE(pair_open(&p));
	uint8_t buf[PML_MSG_BYTES_MAX];
	size_t bytes;
	struct pml_completion done;
	struct pml_ep *none;
	uint64_t start = pml_now_ms();
	CHECK_EQ(pml_ep_recv(p.server, buf, &bytes, 0), -ETIMEDOUT);
	CHECK_EQ(pml_ep_recv(p.server, buf, &bytes, 60), -ETIMEDOUT);
	CHECK_EQ(pml_ep_poll(p.client, &done, 1, 0), 0);
	CHECK_EQ(pml_ep_poll(p.client, &done, 1, 60), 0);
	CHECK_EQ(pml_fabric_accept(suite.fabric, 0, &none), -ETIMEDOUT);
	CHECK_EQ(pml_fabric_accept(suite.fabric, 60, &none), -ETIMEDOUT);
	uint64_t ms = pml_now_ms() - start;
	CHECK(ms >= 177 && ms < 5000);
	CHECK(strlen(pml_ep_peer(p.server)) > 5 && strlen(pml_ep_peer(p.client)) > 5);
	pair_close(&p);
}

/* ---- data --------------------------------------------------------------- */

/*
 * Here and below the memory is looked at only after a fence: it also orders the
 * accesses for ThreadSanitizer, which sees no order in a completion that came
 * over the network.
 */

static void test_reads_and_writes_move_the_right_bytes(void)
{
	static const uint32_t sizes[] = {1, 7, 4095, 4096, 40000, 65536, 65537, 300001, 1u << 20};
	struct pair p;
	REQUIRE(pair_open(&p));
	uint8_t *area = area_new(0), *buf = area_new(0);
	struct pml_key *key;
	struct pml_local_mr *mr;
	REQUIRE(pml_local_mr_new(p.client, buf, AREA, &mr) == 0);
	for (size_t i = 0; i < PML_ARRAY_LEN(sizes); i++) {
		uint32_t n = sizes[i];
		uint8_t *far = area + 4096 * i + i; /* unaligned too */
		struct pml_data_op op = {.mr = mr,
					 .buf = buf + 3,
					 .bytes = n,
					 .kind = PML_DATA_WRITE,
					 .remote_addr = (uintptr_t)far};
		memset(area, 0x11, AREA);
		fill_pattern(buf + 3, n, n);
		REQUIRE(pml_key_new(p.server, area, AREA, PML_KEY_WRITE, &op.rkey, &key) == 0);
		CHECK_EQ(do_op(p.client, op), 0);
		fence_ok(key, PML_EP_FENCE_KEY);
		CHECK(memcmp(far, buf + 3, n) == 0);
		CHECK(is_all(area, (size_t)(far - area), 0x11));
		CHECK(is_all(far + n, (size_t)(area + AREA - far - n), 0x11));

		fill_pattern(far, n, n + 1);
		memset(buf, 0x22, AREA);
		op.kind = PML_DATA_READ;
		REQUIRE(pml_key_new(p.server, far, n, PML_KEY_READ, &op.rkey, &key) == 0);
		CHECK_EQ(do_op(p.client, op), 0);
		fence_ok(key, PML_EP_FENCE_KEY);
		CHECK(memcmp(far, buf + 3, n) == 0);
		CHECK(is_all(buf, 3, 0x22) && is_all(buf + 3 + n, AREA - n - 3, 0x22));
	}
	pml_local_mr_free(mr);
	pair_close(&p);
	area_free(area);
	area_free(buf);
}

static void test_a_full_queue_completes_in_posting_order(void)
{
	struct pair p;
	REQUIRE(pair_open(&p));
	uint8_t *area = area_new(0), *buf = area_new(0);
	struct pml_key *keys[2];
	struct pml_local_mr *mr;
	uint32_t rkeys[2];
	REQUIRE(pml_local_mr_new(p.client, buf, AREA, &mr) == 0);
	fill_pattern(area, AREA, 1);
	fill_pattern(buf, AREA, 2);
	for (unsigned round = 0; round < 5; round++) {
		for (unsigned i = 0; i < 2; i++)
			REQUIRE(pml_key_new(p.server, area, AREA, i ? PML_KEY_WRITE : PML_KEY_READ,
					    &rkeys[i], &keys[i]) == 0);
		for (unsigned i = 0; i < PML_DATA_DEPTH; i++) {
			uint32_t at = i * 8192;
			struct pml_data_op op = {.mr = mr,
						 .buf = buf + at,
						 .bytes = 8192 - i,
						 .kind = i % 2 ? PML_DATA_WRITE : PML_DATA_READ,
						 .remote_addr = (uintptr_t)area + at,
						 .rkey = rkeys[i % 2],
						 .cookie = round * 1000 + i};
			REQUIRE(pml_ep_post(p.client, &op) == 0);
		}
		struct pml_data_op more = {.mr = mr,
					   .buf = buf,
					   .bytes = 1,
					   .remote_addr = (uintptr_t)area,
					   .rkey = rkeys[0]};
		CHECK_EQ(pml_ep_post(p.client, &more), -EAGAIN);
		for (unsigned i = 0; i < PML_DATA_DEPTH; i++) {
			uint64_t cookie = 0;
			REQUIRE(finish_one(p.client, &cookie) == 0);
			REQUIRE(cookie == round * 1000 + i);
		}
		fence_ok(keys[0], PML_EP_FENCE_KEY);
		fence_ok(keys[1], PML_EP_FENCE_KEY);
		for (unsigned i = 0; i < PML_DATA_DEPTH; i++)
			REQUIRE(memcmp(buf + i * 8192, area + i * 8192, 8192 - i) == 0);
	}
	pml_local_mr_free(mr);
	pair_close(&p);
	area_free(area);
	area_free(buf);
}

/* ---- what a key does not allow ------------------------------------------ */

enum misuse {
	MISUSE_PAST_END,
	MISUSE_BEFORE_START,
	MISUSE_WRAP_AROUND,
	MISUSE_LONGER_THAN_KEY,
	MISUSE_READ_OF_WRITE_KEY,
	MISUSE_WRITE_OF_READ_KEY,
	MISUSE_DEAD_KEY,
	MISUSE_WRONG_TAG,
	MISUSE_OTHER_CONNECTION,
	MISUSE_NONSENSE_KEY,
	MISUSE_COUNT,
};

static void misuse_key(enum misuse how, struct pml_data_op *op, uint32_t other_rkey)
{
	switch (how) {
	case MISUSE_PAST_END:
		op->remote_addr += 4096 - op->bytes + 1;
		break;
	case MISUSE_BEFORE_START:
		op->remote_addr -= 1;
		break;
	case MISUSE_LONGER_THAN_KEY:
		op->bytes = 8192;
		break;
	case MISUSE_WRAP_AROUND:
		op->remote_addr = UINT64_MAX - 100;
		break;
	case MISUSE_READ_OF_WRITE_KEY:
	case MISUSE_WRITE_OF_READ_KEY:
		op->kind = op->kind == PML_DATA_WRITE ? PML_DATA_READ : PML_DATA_WRITE;
		break;
	case MISUSE_WRONG_TAG:
		op->rkey ^= 0x3;
		break;
	case MISUSE_OTHER_CONNECTION:
		op->rkey = other_rkey;
		break;
	case MISUSE_NONSENSE_KEY:
		op->rkey = 0xfedcba98;
		break;
	case MISUSE_DEAD_KEY:
	case MISUSE_COUNT:
		break;
	}
}

/*
 * soft-RoCE checks windows against the registration behind them: the server refuses to use
 * them there (pml_fence_decide()), and this is why.
 */
static bool is_not_refused(const struct pair *p, enum misuse how)
{
	struct pml_fence_device device;
	pml_ep_device(p->server, &device);
	bool is_known = suite.has_windows && strcmp(device.driver, "rdma_rxe") == 0 &&
			(how == MISUSE_PAST_END || how == MISUSE_BEFORE_START ||
			 how == MISUSE_LONGER_THAN_KEY);
	if (is_known)
		printf("# misuse %d: not refused by %s\n", how, device.driver);
	return is_known;
}

static void check_misuse(enum misuse how, struct pair *other, uint8_t *area, uint8_t *buf)
{
	struct pair p;
	REQUIRE(pair_open(&p));
	if (is_not_refused(&p, how)) {
		pair_close(&p);
		return;
	}
	memset(area, POISON, AREA);
	memset(buf, POISON, AREA);
	struct pml_key *key, *live = NULL, *other_keys[8];
	struct pml_local_mr *mr;
	uint32_t rkey, other_rkey = 0;
	bool for_write = how != MISUSE_WRITE_OF_READ_KEY && how != MISUSE_DEAD_KEY;
	uint8_t *mine = area + AREA / 2;
	REQUIRE(pml_key_new(p.server, mine, 4096, for_write ? PML_KEY_WRITE : PML_KEY_READ, &rkey,
			    &key) == 0);
	/* Several, so that the number is none that this connection has too. */
	for (size_t i = 0; i < PML_ARRAY_LEN(other_keys); i++)
		REQUIRE(pml_key_new(other->server, mine, 4096,
				    for_write ? PML_KEY_WRITE : PML_KEY_READ, &other_rkey,
				    &other_keys[i]) == 0);
	REQUIRE(pml_local_mr_new(p.client, buf, AREA, &mr) == 0);

	struct pml_data_op op = {.mr = mr,
				 .buf = buf,
				 .bytes = 1000,
				 .kind = for_write ? PML_DATA_WRITE : PML_DATA_READ,
				 .remote_addr = (uintptr_t)mine,
				 .rkey = rkey,
				 .cookie = 1};
	CHECK_EQ(do_op(p.client, op), 0);
	if (how == MISUSE_DEAD_KEY)
		fence_ok(key, PML_EP_FENCE_KEY);
	else
		live = key;
	memset(buf, 0x33, AREA);

	struct pml_data_op bad = op;
	bad.cookie = 2;
	misuse_key(how, &bad, other_rkey);
	CHECK_EQ(pml_ep_post(p.client, &bad), 0);
	op.cookie = 3;
	bool has_third = pml_ep_post(p.client, &op) == 0;
	uint64_t cookie = 0;
	int status = finish_one(p.client, &cookie);
	if (status != -EACCES || cookie != 2)
		TAP_FAIL("misuse %d: status %d, cookie %llu", how, status,
			 (unsigned long long)cookie);
	if (has_third)
		CHECK_EQ(finish_one(p.client, NULL), -ENOTCONN);
	CHECK_EQ(finish_one(p.client, NULL), -ENOTCONN);
	CHECK_EQ(pml_ep_post(p.client, &op), -ENOTCONN);
	CHECK(is_all(buf, AREA, 0x33));
	uint8_t msg[PML_MSG_BYTES_MAX];
	size_t bytes;
	CHECK_EQ(pml_ep_recv(p.server, msg, &bytes, WAIT_MS), -ENOTCONN);

	pml_local_mr_free(mr);
	if (live)
		fence_ok(live, PML_EP_FENCE_KEY);
	CHECK(is_all(area, AREA, POISON));
	for (size_t i = 0; i < PML_ARRAY_LEN(other_keys); i++)
		fence_ok(other_keys[i], PML_EP_FENCE_KEY);
	pair_close(&p);
}

static void test_misuse_is_refused_and_ends_that_connection_only(void)
{
	struct pair other;
	REQUIRE(pair_open(&other));
	uint8_t *area = area_new(0), *buf = area_new(0);
	for (enum misuse how = 0; how < MISUSE_COUNT; how++)
		check_misuse(how, &other, area, buf);
	uint8_t msg[PML_MSG_BYTES_MAX];
	size_t bytes = 0;
	CHECK_EQ(pml_ep_send(other.client, "still", 5, WAIT_MS), 0);
	CHECK_EQ(pml_ep_recv(other.server, msg, &bytes, WAIT_MS), 0);
	CHECK_EQ(bytes, 5);
	pair_close(&other);
	area_free(area);
	area_free(buf);
}

static void test_a_fence_without_use_leaves_the_connection_alive(void)
{
	struct pair p;
	REQUIRE(pair_open(&p));
	uint8_t *area = area_new(0x44), *buf = area_new(0);
	struct pml_local_mr *mr;
	REQUIRE(pml_local_mr_new(p.client, buf, AREA, &mr) == 0);
	uint32_t last_rkey = 0;
	for (unsigned i = 0; i < 50; i++) {
		struct pml_key *key;
		uint32_t rkey;
		REQUIRE(pml_key_new(p.server, area, 4096, PML_KEY_READ, &rkey, &key) == 0);
		CHECK(rkey != last_rkey);
		last_rkey = rkey;
		struct pml_data_op op = {.mr = mr,
					 .buf = buf,
					 .bytes = 4096,
					 .remote_addr = (uintptr_t)area,
					 .rkey = rkey};
		CHECK_EQ(do_op(p.client, op), 0);
		CHECK_EQ(pml_key_fence(key, PML_EP_FENCE_KEY, true), 0);
	}
	CHECK(is_all(buf, 4096, 0x44));
	pml_local_mr_free(mr);
	pair_close(&p);
	area_free(area);
	area_free(buf);
}

/* More than a window has tags, so that it has to be given back and replaced. */
static void test_tags_change_and_come_back_late(void)
{
	enum { BINDS = 600, WINDOW = 200 };
	static uint32_t seen[BINDS];
	struct pair p;
	REQUIRE(pair_open(&p));
	uint8_t *area = area_new(0x44);
	for (unsigned i = 0; i < BINDS; i++) {
		struct pml_key *key;
		REQUIRE(pml_key_new(p.server, area, 4096, i % 2 ? PML_KEY_WRITE : PML_KEY_READ,
				    &seen[i], &key) == 0);
		for (unsigned j = i > WINDOW ? i - WINDOW : 0; j < i; j++)
			REQUIRE(seen[j] != seen[i]);
		REQUIRE(pml_key_fence(key, PML_EP_FENCE_KEY, true) == 0);
	}
	pair_close(&p);
	area_free(area);
}

/* Keys of one connection end in any order, some with it and some before. */
static void test_many_keys_end_in_any_order(void)
{
	enum { KEYS = 100 };
	struct pml_key *keys[KEYS];
	struct pair p;
	REQUIRE(pair_open(&p));
	uint8_t *area = area_new(0);
	uint32_t rkey;
	for (unsigned i = 0; i < KEYS; i++)
		REQUIRE(pml_key_new(p.server, area + i * 4096, 4096,
				    i % 2 ? PML_KEY_WRITE : PML_KEY_READ, &rkey, &keys[i]) == 0);
	for (unsigned i = 0; i < KEYS / 2; i++)
		fence_ok(keys[i * 2], PML_EP_FENCE_KEY);
	fence_ok(keys[1], PML_EP_FENCE_CONNECTION);
	for (unsigned i = 1; i < KEYS / 2; i++)
		fence_ok(keys[i * 2 + 1], i % 2 ? PML_EP_FENCE_KEY : PML_EP_FENCE_CONNECTION);
	CHECK_EQ(pml_key_new(p.server, area, 4096, PML_KEY_READ, &rkey, &keys[0]), -ENOTCONN);
	pair_close(&p);
	area_free(area);
}

static void test_windows_lie_inside_the_probed_memory(void)
{
	struct pair p;
	REQUIRE(pair_open(&p));
	uint8_t *end = suite.arena + (size_t)AREAS_MAX * AREA;
	struct pml_key *key;
	uint32_t rkey;
	CHECK_EQ(pml_key_new(p.server, suite.arena - 4096, 8192, PML_KEY_READ, &rkey, &key),
		 -EINVAL);
	CHECK_EQ(pml_key_new(p.server, end - 4096, 8192, PML_KEY_READ, &rkey, &key), -EINVAL);
	CHECK_EQ(pml_key_new(p.server, end, 1, PML_KEY_READ, &rkey, &key), -EINVAL);
	REQUIRE(pml_key_new(p.server, end - 4096, 4096, PML_KEY_READ, &rkey, &key) == 0);
	fence_ok(key, PML_EP_FENCE_KEY);
	pair_close(&p);
}

/* A step that is no fence there must not be taken for one: the next has to be. */
static void test_an_unproven_step_is_refused(void)
{
	static const struct pml_fence_plan plans[] = {
		{PML_BY_REGION, false, true},
		{PML_BY_WINDOW, false, true},
		{PML_BY_CONNECTION, false, true},
	};
	for (size_t i = suite.has_windows ? 0 : 2; i < PML_ARRAY_LEN(plans); i++) {
		struct pair p;
		struct pml_key *key;
		uint32_t rkey;
		pml_fabric_force_fence(suite.fabric, &plans[i]);
		REQUIRE(pair_open(&p));
		uint8_t *area = area_new(0);
		REQUIRE(pml_key_new(p.server, area, 4096, PML_KEY_WRITE, &rkey, &key) == 0);
		CHECK_EQ(pml_key_fence(key, PML_EP_FENCE_KEY, true), -EOPNOTSUPP);
		CHECK_EQ(pml_ep_send(p.server, "x", 1, WAIT_MS), 0);
		fence_ok(key, PML_EP_FENCE_CONNECTION);
		CHECK_EQ(pml_ep_send(p.server, "x", 1, WAIT_MS), -ENOTCONN);
		pair_close(&p);
		area_free(area);
	}
}

/* ---- fences against a client that goes on (I3) --------------------------- */

struct attack {
	bool is_write;
	atomic_bool must_stop;
	atomic_uint done_ops;
	atomic_uint late_reads; /* successful reads that saw the poison */
	unsigned nlost;		/* connections that it gave up: the machine is busy */
};

struct grant {
	uint64_t addr;
	uint32_t rkey;
};

/* One connection: as many 64 KiB operations as it can, until it is thrown out. */
static void attack_once(struct attack *a, struct pml_ep *ep, uint8_t *buf)
{
	struct grant grant;
	uint8_t msg[PML_MSG_BYTES_MAX];
	size_t bytes;
	struct pml_local_mr *mr;
	if (pml_ep_recv(ep, msg, &bytes, WAIT_MS) || pml_local_mr_new(ep, buf, AREA, &mr))
		return;
	memcpy(&grant, msg, sizeof(grant));
	uint64_t posted = 0;
	for (int n = 0; n >= 0;) {
		struct pml_data_op op = {.mr = mr,
					 .kind = a->is_write ? PML_DATA_WRITE : PML_DATA_READ,
					 .bytes = PIECE,
					 .rkey = grant.rkey,
					 .remote_addr = grant.addr};
		for (;; posted++) {
			op.cookie = posted % IN_FLIGHT;
			op.buf = buf + op.cookie * PIECE;
			if (posted - atomic_load(&a->done_ops) >= IN_FLIGHT || pml_ep_post(ep, &op))
				break;
		}
		struct pml_completion done[IN_FLIGHT];
		n = pml_ep_poll(ep, done, IN_FLIGHT, 1000);
		for (int i = 0; i < n; i++) {
			const uint8_t *got = buf + done[i].cookie * PIECE;
			if (!a->is_write && done[i].status == 0 && memchr(got, POISON, PIECE))
				atomic_fetch_add(&a->late_reads, 1);
			atomic_fetch_add(&a->done_ops, 1);
		}
	}
	pml_local_mr_free(mr);
}

static void *attack_main(void *arg)
{
	struct attack *a = arg;
	uint8_t *buf = area_new(0x66);
	char reason[PML_REASON_BYTES];
	while (!atomic_load(&a->must_stop)) {
		struct pml_ep *ep;
		if (pml_ep_connect(suite.kind, suite.host, suite.port, 1000, &ep, reason))
			continue;
		atomic_store(&a->done_ops, 0);
		attack_once(a, ep, buf);
		pml_ep_close(ep);
	}
	area_free(buf);
	return NULL;
}

/* Returns bytes that changed after the fence. */
static unsigned defend_once(struct attack *a, uint8_t *area, unsigned round)
{
	struct pml_ep *ep;
	if (pml_fabric_accept(suite.fabric, WAIT_MS, &ep)) {
		TAP_FAIL("round %u: no client", round);
		return 0;
	}
	memset(area, 0x55, PIECE);
	struct pml_key *key;
	struct grant grant = {.addr = (uintptr_t)area};
	unsigned changed = 0;
	if (pml_key_new(ep, area, PIECE, a->is_write ? PML_KEY_WRITE : PML_KEY_READ, &grant.rkey,
			&key)) {
		TAP_FAIL("round %u: no key", round);
	} else {
		bool is_hard = round % 3 == 2 || (suite.has_windows && !suite.is_window_fence);
		enum pml_ep_fence how = is_hard ? PML_EP_FENCE_CONNECTION : PML_EP_FENCE_KEY;
		int err = pml_ep_send(ep, &grant, sizeof(grant), WAIT_MS);
		a->nlost += err == -ENOTCONN;
		CHECK(!err || err == -ENOTCONN);
		uint64_t start = pml_now_ms();
		while (!err && atomic_load(&a->done_ops) < 2 && pml_now_ms() - start < 2000)
			(void)usleep(100);
		(void)usleep(round * 7919u % 3000u);
		if (round % 7 == 6)
			pml_ep_kill(ep); /* alone it is no fence, and must not spoil one */
		fence_ok(key, how);
		memset(area, POISON, PIECE);
		(void)usleep(1000 + round % 4 * 500);
		for (unsigned i = 0; i < PIECE; i++)
			changed += area[i] != POISON;
	}
	pml_ep_close(ep);
	return changed;
}

static void attack_and_defend(bool is_write)
{
	struct attack a = {.is_write = is_write};
	uint8_t *area = area_new(0);
	pthread_t thread;
	pthread_create(&thread, NULL, attack_main, &a);
	unsigned violations = 0;
	for (unsigned i = 0; i < suite.fence_rounds; i++)
		violations += defend_once(&a, area, i) > 0;
	atomic_store(&a.must_stop, true);
	/* It may be connecting once more. */
	struct pml_ep *ep;
	while (pml_fabric_accept(suite.fabric, 1100, &ep) == 0)
		pml_ep_close(ep);
	pthread_join(thread, NULL);
	CHECK_EQ(violations, 0);
	CHECK_EQ(atomic_load(&a.late_reads), 0);
	CHECK(a.nlost <= suite.fence_rounds / 4);
	area_free(area);
}

static void test_no_byte_changes_after_a_fence(void)
{
	attack_and_defend(true);
}

static void test_no_read_returns_bytes_from_after_a_fence(void)
{
	attack_and_defend(false);
}

/* ---- the end of a connection -------------------------------------------- */

struct waiter {
	struct pml_ep *ep;
	bool is_poll;
	int result;
	uint64_t end_ms;
};

static void *wait_main(void *arg)
{
	struct waiter *w = arg;
	uint8_t buf[PML_MSG_BYTES_MAX];
	size_t bytes;
	struct pml_completion done;
	w->result = w->is_poll ? pml_ep_poll(w->ep, &done, 1, WAIT_MS)
			       : pml_ep_recv(w->ep, buf, &bytes, WAIT_MS);
	w->end_ms = pml_now_ms();
	return NULL;
}

static void check_kill(bool by_server)
{
	struct pair p;
	REQUIRE(pair_open(&p));
	struct waiter waiters[] = {
		{.ep = p.server}, {.ep = p.client}, {.ep = p.client, .is_poll = true}};
	pthread_t threads[3];
	for (int i = 0; i < 3; i++)
		pthread_create(&threads[i], NULL, wait_main, &waiters[i]);
	(void)usleep(50000);
	uint64_t start = pml_now_ms();
	pml_ep_kill(by_server ? p.server : p.client);
	for (int i = 0; i < 3; i++) {
		pthread_join(threads[i], NULL);
		CHECK_EQ(waiters[i].result, -ENOTCONN);
		CHECK(waiters[i].end_ms < start + 3000);
	}
	CHECK_EQ(pml_ep_send(p.server, "x", 1, WAIT_MS), -ENOTCONN);
	CHECK_EQ(pml_ep_send(p.client, "x", 1, WAIT_MS), -ENOTCONN);
	pml_ep_kill(p.server);
	pml_ep_kill(p.client);
	pair_close(&p);
}

static void test_kill_wakes_everybody(void)
{
	check_kill(false);
	check_kill(true);
}

static void test_kill_wakes_a_sender(void)
{
	struct pair p;
	REQUIRE(pair_open(&p));
	uint8_t buf[PML_MSG_BYTES_MAX] = {0};
	while (pml_ep_send(p.server, buf, sizeof(buf), 200) == 0)
		;
	struct waiter w = {.ep = p.server};
	pthread_t thread;
	pthread_create(&thread, NULL, wait_main, &w);
	uint64_t start = pml_now_ms();
	pml_ep_kill(p.client);
	CHECK_EQ(pml_ep_send(p.server, buf, sizeof(buf), WAIT_MS), -ENOTCONN);
	CHECK(pml_now_ms() < start + 3000);
	pthread_join(thread, NULL);
	pair_close(&p);
}

extern char **environ;

static pid_t spawn_child(const char *role, int stdout_fd)
{
	char *argv[] = {(char *)"test", (char *)(uintptr_t)role, suite.port, NULL};
	posix_spawn_file_actions_t actions;
	posix_spawn_file_actions_init(&actions);
	if (stdout_fd >= 0)
		posix_spawn_file_actions_adddup2(&actions, stdout_fd, STDOUT_FILENO);
	pid_t pid = -1;
	if (posix_spawn(&pid, "/proc/self/exe", &actions, NULL, argv, environ))
		pid = -1;
	posix_spawn_file_actions_destroy(&actions);
	return pid;
}

static void child_client(const char *port)
{
	struct pml_ep *ep;
	char reason[PML_REASON_BYTES];
	if (pml_ep_connect(suite.kind, suite.host, port, WAIT_MS, &ep, reason) == 0 &&
	    pml_ep_send(ep, "here", 4, WAIT_MS) == 0)
		sleep(60);
}

/* Prints its port, grants 64 KiB for reading, and never looks at the connection again. */
static void child_server(void)
{
	struct pml_fabric *fabric;
	struct pml_ep *ep;
	struct pml_key *key;
	char reason[PML_REASON_BYTES];
	uint8_t *area = area_new(0x77);
	struct grant grant = {.addr = (uintptr_t)area};
	if (pml_fabric_listen(suite.kind, suite.host, "0", &fabric, reason))
		return;
	printf("%u\n", pml_fabric_port(fabric));
	fflush(stdout);
	if (pml_fabric_accept(fabric, WAIT_MS, &ep) == 0 &&
	    pml_key_new(ep, area, PIECE, PML_KEY_READ, &grant.rkey, &key) == 0 &&
	    pml_ep_send(ep, &grant, sizeof(grant), WAIT_MS) == 0)
		sleep(60);
}

static void suite_arena(void);

/* True: this process was a child, and is done. */
static bool suite_child(int argc, char **argv)
{
	suite_arena();
	if (argc < 3)
		return false;
	if (strcmp(argv[1], "--client") == 0)
		child_client(argv[2]);
	else
		child_server();
	return true;
}

static void test_a_client_that_was_killed_is_noticed(void)
{
	pid_t pid = spawn_child("--client", -1);
	REQUIRE(pid > 0);
	struct pml_ep *ep = NULL;
	uint8_t buf[PML_MSG_BYTES_MAX];
	size_t bytes;
	CHECK_EQ(pml_fabric_accept(suite.fabric, WAIT_MS, &ep), 0);
	if (ep)
		CHECK_EQ(pml_ep_recv(ep, buf, &bytes, WAIT_MS), 0);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	REQUIRE(ep);
	uint64_t start = pml_now_ms();
	CHECK_EQ(pml_ep_recv(ep, buf, &bytes, WAIT_MS), -ENOTCONN);
	CHECK(pml_now_ms() - start < 3000);
	pml_ep_close(ep);
}

static void read_until_killed(struct pml_ep *ep, pid_t pid)
{
	uint8_t *buf = area_new(0);
	struct grant grant;
	size_t bytes;
	struct pml_local_mr *mr;
	CHECK_EQ(pml_ep_recv(ep, buf, &bytes, WAIT_MS), 0);
	memcpy(&grant, buf, sizeof(grant));
	REQUIRE(pml_local_mr_new(ep, buf, AREA, &mr) == 0);
	struct pml_data_op op = {.mr = mr,
				 .buf = buf,
				 .bytes = PIECE,
				 .rkey = grant.rkey,
				 .remote_addr = grant.addr};
	CHECK_EQ(do_op(ep, op), 0);
	CHECK(is_all(buf, PIECE, 0x77));
	unsigned posted = 0, done = 0;
	for (; posted < PML_DATA_DEPTH && pml_ep_post(ep, &op) == 0; posted++)
		;
	kill(pid, SIGKILL);
	uint64_t start = pml_now_ms();
	struct pml_completion got[8];
	int n;
	while ((n = pml_ep_poll(ep, got, 8, WAIT_MS)) > 0)
		done += (unsigned)n;
	CHECK_EQ(n, -ENOTCONN);
	CHECK_EQ(done, posted);
	CHECK(pml_now_ms() - start < 5000);
	CHECK_EQ(pml_ep_recv(ep, buf, &bytes, WAIT_MS), -ENOTCONN);
	pml_local_mr_free(mr);
	area_free(buf);
}

static void test_a_server_that_was_killed_is_noticed(void)
{
	int fds[2];
	REQUIRE(pipe(fds) == 0);
	pid_t pid = spawn_child("--server", fds[1]);
	(void)close(fds[1]);
	REQUIRE(pid > 0);
	char port[8] = {0}, reason[PML_REASON_BYTES];
	CHECK(read(fds[0], port, sizeof(port) - 1) > 1);
	(void)close(fds[0]);
	port[strcspn(port, "\n")] = '\0';
	struct pml_ep *ep = NULL;
	int err = pml_ep_connect(suite.kind, suite.host, port, WAIT_MS, &ep, reason);
	if (err)
		TAP_FAIL("connect: %d %s", err, reason);
	else
		read_until_killed(ep, pid);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	pml_ep_close(ep);
}

/* ---- flushes and atomic writes ------------------------------------------- */

/* What the fabric that plays the device itself was asked to make durable, added up. */
static atomic_ullong persisted_bytes;

static void note_persist(void *arg, const void *addr, size_t bytes)
{
	const uint8_t *at = addr;
	CHECK(at >= suite.arena && at + bytes <= suite.arena + (size_t)AREAS_MAX * AREA);
	atomic_fetch_add(&persisted_bytes, bytes);
}

struct durable_case {
	const char *what;
	unsigned int rights;
	enum pml_data_kind kind;
	uint32_t bytes;
	int64_t offset;
	bool is_dead;
	int status;
};

static void try_durable(const struct durable_case *c, uint8_t *area, uint8_t *buf)
{
	struct pair p;
	REQUIRE(pair_open(&p));
	uint8_t *mine = area + AREA / 2;
	memset(area, 0x11, AREA);
	memset(buf, 0x77, AREA);
	struct pml_key *key;
	struct pml_local_mr *mr;
	uint32_t rkey;
	REQUIRE(pml_key_new(p.server, mine, 4 * 4096, c->rights, &rkey, &key) == 0);
	REQUIRE(pml_local_mr_new(p.client, buf, AREA, &mr) == 0);
	if (c->is_dead)
		fence_ok(key, PML_EP_FENCE_KEY);
	const struct pml_data_op op = {
		.kind = c->kind,
		.mr = c->kind == PML_DATA_FLUSH ? NULL : mr,
		.buf = c->kind == PML_DATA_FLUSH ? NULL : buf,
		.bytes = c->bytes,
		.remote_addr = (uintptr_t)mine + (uint64_t)c->offset,
		.rkey = rkey,
	};
	int status = do_op(p.client, op);
	if (status != c->status)
		TAP_FAIL("%s: status %d", c->what, status);
	pml_local_mr_free(mr);
	if (!c->is_dead)
		fence_ok(key, PML_EP_FENCE_KEY);
	uint32_t changed = status == 0 && c->kind == PML_DATA_ATOMIC_WRITE ? c->bytes : 0;
	uint8_t *at = mine + c->offset;
	CHECK(is_all(area, (size_t)(at - area), 0x11));
	CHECK(is_all(at, changed, 0x77));
	CHECK(is_all(at + changed, (size_t)(area + AREA - at - changed), 0x11));
	pair_close(&p);
}

static void test_flushes_and_atomic_writes_keep_to_their_key(void)
{
	const unsigned int both = PML_KEY_WRITE | PML_KEY_FLUSH;
	const struct durable_case cases[] = {
		{"flush", both, PML_DATA_FLUSH, 4 * 4096, 0, false, 0},
		{"flush of a part", both, PML_DATA_FLUSH, 10, 4099, false, 0},
		{"flush past the end", both, PML_DATA_FLUSH, 4096, 3 * 4096 + 1, false, -EACCES},
		{"flush before the start", both, PML_DATA_FLUSH, 4096, -1, false, -EACCES},
		{"flush, no right", PML_KEY_WRITE, PML_DATA_FLUSH, 4096, 0, false, -EACCES},
		{"flush to read", PML_KEY_READ, PML_DATA_FLUSH, 4096, 0, false, -EACCES},
		{"flush, dead", both, PML_DATA_FLUSH, 4096, 0, true, -EACCES},
		{"read", both, PML_DATA_READ, 4096, 0, false, -EACCES},
		{"atomic", both, PML_DATA_ATOMIC_WRITE, 8, 4096 - 8, false, 0},
		{"atomic to write", PML_KEY_WRITE, PML_DATA_ATOMIC_WRITE, 8, 0, false, 0},
		{"atomic to read", PML_KEY_READ, PML_DATA_ATOMIC_WRITE, 8, 0, false, -EACCES},
		{"atomic behind", both, PML_DATA_ATOMIC_WRITE, 8, 4 * 4096, false, -EACCES},
		{"atomic, dead", both, PML_DATA_ATOMIC_WRITE, 8, 0, true, -EACCES},
	};
	uint8_t *area = area_new(0), *buf = area_new(0);
	for (size_t i = 0; i < PML_ARRAY_LEN(cases); i++)
		try_durable(&cases[i], area, buf);
	area_free(area);
	area_free(buf);
}

/* Many in flight, of all kinds: they complete in posting order. */
static void test_flushes_among_writes_complete_in_order(void)
{
	static const enum pml_data_kind kinds[] = {PML_DATA_WRITE, PML_DATA_FLUSH,
						   PML_DATA_ATOMIC_WRITE, PML_DATA_FLUSH};
	struct pair p;
	REQUIRE(pair_open(&p));
	uint8_t *area = area_new(0), *buf = area_new(0);
	struct pml_key *key;
	struct pml_local_mr *mr;
	uint32_t rkey;
	REQUIRE(pml_key_new(p.server, area, AREA, PML_KEY_WRITE | PML_KEY_FLUSH, &rkey, &key) == 0);
	REQUIRE(pml_local_mr_new(p.client, buf, AREA, &mr) == 0);
	fill_pattern(buf, AREA, 9);
	for (unsigned i = 0; i < PML_DATA_DEPTH; i++) {
		enum pml_data_kind kind = kinds[i % 4];
		bool is_flush = kind == PML_DATA_FLUSH;
		uint32_t at = i / 2 * 8192 + (kind == PML_DATA_ATOMIC_WRITE ? 4096 : 0);
		struct pml_data_op op = {.kind = kind,
					 .mr = is_flush ? NULL : mr,
					 .buf = is_flush ? NULL : buf + at,
					 .bytes = kind == PML_DATA_ATOMIC_WRITE ? 8 : 4096,
					 .remote_addr = (uintptr_t)area + at,
					 .rkey = rkey,
					 .cookie = i};
		REQUIRE(pml_ep_post(p.client, &op) == 0);
	}
	for (unsigned i = 0; i < PML_DATA_DEPTH; i++) {
		uint64_t cookie = 0;
		REQUIRE(finish_one(p.client, &cookie) == 0);
		REQUIRE(cookie == i);
	}
	fence_ok(key, PML_EP_FENCE_KEY);
	for (unsigned i = 0; i < PML_DATA_DEPTH; i += 4) {
		uint32_t at = i / 2 * 8192;
		CHECK(memcmp(area + at, buf + at, 4096) == 0);
		at += 8192 + 4096;
		CHECK(memcmp(area + at, buf + at, 8) == 0);
	}
	pml_local_mr_free(mr);
	pair_close(&p);
	area_free(area);
	area_free(buf);
}

/* Where there is no FLUSH nothing is posted, and the rule is by commit. */
static void check_no_flush(void)
{
	char reason[PML_REASON_BYTES];
	struct pair p;
	CHECK_EQ(pml_fabric_set_durable(suite.fabric, PML_DURABLE_NEED_FLUSH, note_persist, NULL,
					reason),
		 -EOPNOTSUPP);
	printf("# %s\n", reason);
	REQUIRE(pair_open(&p));
	CHECK_EQ(pml_ep_durable_rule(p.server), PML_DURABLE_BY_COMMIT);
	const struct pml_data_op op = {.kind = PML_DATA_FLUSH, .bytes = 1};
	if (!(pml_ep_can(p.client) & PML_EP_CAN_FLUSH))
		CHECK_EQ(pml_ep_post(p.client, &op), -EOPNOTSUPP);
	pair_close(&p);
}

/* ---- the fabric --------------------------------------------------------- */

static void test_failures_to_connect_and_listen_have_reasons(void)
{
	struct pml_ep *ep;
	struct pml_fabric *fabric;
	char reason[PML_REASON_BYTES] = "";
	CHECK(pml_ep_connect(suite.kind, suite.host, "1", 3000, &ep, reason) < 0);
	CHECK(strlen(reason) > 10);
	printf("# %s\n", reason);
	CHECK_EQ(pml_ep_connect(suite.kind, suite.host, "70000", 1000, &ep, reason), -EINVAL);
	printf("# %s\n", reason);
	CHECK(pml_fabric_listen(suite.kind, "192.0.2.77", "0", &fabric, reason) < 0);
	CHECK(strstr(reason, "192.0.2.77") != NULL);
	printf("# %s\n", reason);
	CHECK(pml_fabric_listen(suite.kind, suite.host, suite.port, &fabric, reason) < 0);
	printf("# %s\n", reason);
}

static void test_memory_of_the_process_can_be_registered(void)
{
	uint8_t *area = area_new(0x12);
	char reason[PML_REASON_BYTES];
	CHECK_EQ(pml_fabric_probe(suite.fabric, area, AREA, reason), 0);
	CHECK(is_all(area, AREA, 0x12));
	area_free(area);
}

static void *shutdown_main(void *arg)
{
	(void)usleep(50000);
	pml_fabric_shutdown(arg);
	return NULL;
}

static void test_shutdown_ends_accept(void)
{
	struct pml_fabric *fabric;
	struct pml_ep *ep;
	char reason[PML_REASON_BYTES];
	REQUIRE(pml_fabric_listen(suite.kind, suite.host, "0", &fabric, reason) == 0);
	CHECK(pml_fabric_port(fabric) != 0);
	pthread_t thread;
	pthread_create(&thread, NULL, shutdown_main, fabric);
	CHECK_EQ(pml_fabric_accept(fabric, WAIT_MS, &ep), -ESHUTDOWN);
	pthread_join(thread, NULL);
	CHECK_EQ(pml_fabric_accept(fabric, WAIT_MS, &ep), -ESHUTDOWN);
	pml_fabric_close(fabric);
}

static void suite_arena(void)
{
	suite.arena = mmap(NULL, (size_t)AREAS_MAX * AREA, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (suite.arena == MAP_FAILED)
		abort();
}

static void suite_open(void)
{
	char reason[PML_REASON_BYTES];
	if (suite.skip)
		return;
	if (pml_fabric_listen(suite.kind, suite.host, "0", &suite.fabric, reason))
		BAIL_OUT("%s", reason);
	snprintf(suite.port, sizeof(suite.port), "%u", pml_fabric_port(suite.fabric));
	if (suite.has_windows) {
		const struct pml_fence_plan plan = {PML_BY_WINDOW, true, true};
		if (pml_fabric_probe(suite.fabric, suite.arena, (size_t)AREAS_MAX * AREA, reason))
			BAIL_OUT("%s", reason);
		pml_fabric_force_fence(suite.fabric, &plan);
	}
}

static void suite_close(void)
{
	pml_fabric_close(suite.fabric);
	suite.fabric = NULL;
}

/* Runs @fn, or reports why not. */
static void suite_skipped(void)
{
	SKIP(suite.skip);
}

#define SUITE_RUN(fn) tap_run(#fn, suite.skip ? suite_skipped : fn)

static void suite_run(void)
{
	SUITE_RUN(test_failures_to_connect_and_listen_have_reasons);
	SUITE_RUN(test_memory_of_the_process_can_be_registered);
	SUITE_RUN(test_shutdown_ends_accept);
	SUITE_RUN(test_messages_arrive_whole_and_in_order);
	SUITE_RUN(test_sender_waits_for_room_and_nothing_is_lost);
	SUITE_RUN(test_messages_before_the_end_are_delivered);
	SUITE_RUN(test_a_sleeper_is_woken_by_what_it_asked_for);
	SUITE_RUN(test_waits_end_at_their_timeouts);
	SUITE_RUN(test_reads_and_writes_move_the_right_bytes);
	SUITE_RUN(test_a_full_queue_completes_in_posting_order);
	SUITE_RUN(test_misuse_is_refused_and_ends_that_connection_only);
	SUITE_RUN(test_a_fence_without_use_leaves_the_connection_alive);
	SUITE_RUN(test_many_keys_end_in_any_order);
	SUITE_RUN(test_no_byte_changes_after_a_fence);
	SUITE_RUN(test_no_read_returns_bytes_from_after_a_fence);
	SUITE_RUN(test_kill_wakes_everybody);
	SUITE_RUN(test_kill_wakes_a_sender);
	SUITE_RUN(test_a_client_that_was_killed_is_noticed);
	SUITE_RUN(test_a_server_that_was_killed_is_noticed);
}

static void test_no_flush_is_said(void)
{
	check_no_flush();
}

/* Its own fabric, and memory that is persistent if the device asks for that. */
static void suite_run_durable(uint8_t *arena)
{
	char reason[PML_REASON_BYTES];
	uint8_t *anonymous = suite.arena;
	suite.arena = arena ? arena : anonymous;
	suite_open();
	bool can_flush = false;
	if (suite.fabric) {
		if (pml_fabric_probe(suite.fabric, suite.arena, (size_t)AREAS_MAX * AREA, reason) ||
		    pml_fabric_set_durable(suite.fabric, PML_DURABLE_AUTO, note_persist, NULL,
					   reason))
			BAIL_OUT("%s", reason);
		struct pair p;
		if (!pair_open(&p))
			BAIL_OUT("no connection");
		can_flush = pml_ep_durable_rule(p.server) == PML_DURABLE_BY_FLUSH;
		pair_close(&p);
		printf("# %s\n", reason);
	}
	if (can_flush || suite.skip) {
		SUITE_RUN(test_flushes_and_atomic_writes_keep_to_their_key);
		SUITE_RUN(test_flushes_among_writes_complete_in_order);
	} else {
		SUITE_RUN(test_no_flush_is_said);
	}
	suite_close();
	suite.arena = anonymous;
}

#define WINDOW_RUN(fn) tap_run("windows: " #fn, suite.skip ? suite_skipped : fn)

/* What has to do with keys, once more with windows.  Its own fabric. */
static void suite_run_windows(void)
{
	suite.has_windows = true;
	suite_open();
	WINDOW_RUN(test_windows_lie_inside_the_probed_memory);
	WINDOW_RUN(test_reads_and_writes_move_the_right_bytes);
	WINDOW_RUN(test_a_full_queue_completes_in_posting_order);
	WINDOW_RUN(test_misuse_is_refused_and_ends_that_connection_only);
	WINDOW_RUN(test_a_fence_without_use_leaves_the_connection_alive);
	WINDOW_RUN(test_tags_change_and_come_back_late);
	WINDOW_RUN(test_many_keys_end_in_any_order);
	WINDOW_RUN(test_no_byte_changes_after_a_fence);
	WINDOW_RUN(test_no_read_returns_bytes_from_after_a_fence);
	WINDOW_RUN(test_an_unproven_step_is_refused);
	suite_close();
}

#endif
