/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_transport_soft.c -- the software fabric: the common suite, hostile peers, faults
 */
#include <arpa/inet.h>
#include <limits.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>

#include "../../rdma/soft.h"
#include "transport_suite.h"

/* ---- a client that speaks TCP by hand ----------------------------------- */

static int raw_connect(void)
{
	struct sockaddr_in to = {.sin_family = AF_INET,
				 .sin_port = htons(pml_fabric_port(suite.fabric)),
				 .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (connect(fd, (struct sockaddr *)&to, sizeof(to)) < 0)
		BAIL_OUT("cannot connect to the test's own server");
	return fd;
}

static void raw_send(int fd, const void *bytes, size_t n)
{
	const char *at = bytes;
	while (n > 0) {
		ssize_t sent = send(fd, at, n, MSG_NOSIGNAL);
		if (sent <= 0)
			return;
		at += sent;
		n -= (size_t)sent;
	}
}

/* A connection that has shaken hands, so that only its later frames are wrong. */
static int raw_open(struct pml_ep **ret_ep)
{
	int fd = raw_connect();
	struct pml_soft_frame hello;
	pml_soft_frame_init(&hello, PML_SOFT_HELLO);
	raw_send(fd, &hello, sizeof(hello));
	if (pml_fabric_accept(suite.fabric, WAIT_MS, ret_ep) ||
	    recv(fd, &hello, sizeof(hello), MSG_WAITALL) != sizeof(hello))
		BAIL_OUT("no connection by hand");
	return fd;
}

static void raw_close(int fd, struct pml_ep *ep)
{
	(void)close(fd);
	pml_ep_close(ep);
}

static bool is_ended(struct pml_ep *ep)
{
	uint8_t buf[PML_MSG_BYTES_MAX];
	size_t bytes;
	int err;
	while ((err = pml_ep_recv(ep, buf, &bytes, WAIT_MS)) == 0)
		;
	return err == -ENOTCONN;
}

/* Sends @bytes to a fresh connection; it must end, and no other. */
static void check_refused(const void *bytes, size_t n, const char *what)
{
	struct pml_ep *ep;
	int fd = raw_open(&ep);
	raw_send(fd, bytes, n);
	if (!is_ended(ep))
		TAP_FAIL("still alive after: %s", what);
	raw_close(fd, ep);
}

static void test_malformed_frames_end_only_their_connection(void)
{
	struct pair other;
	REQUIRE(pair_open(&other));
	static uint8_t noise[100000];
	for (unsigned round = 0; round < 50; round++) {
		srand(round);
		for (size_t i = 0; i < sizeof(noise); i++)
			noise[i] = (uint8_t)rand();
		/* Some with a header that is right up to a point. */
		struct pml_soft_frame f;
		pml_soft_frame_init(&f, (enum pml_soft_frame_type)(round % 10));
		memcpy(noise, &f, round % 5 * 8);
		check_refused(noise, sizeof(noise), "noise");
	}
	static const struct {
		const char *what;
		struct pml_soft_frame f;
	} cases[] = {
		{"message too long", {.type = PML_SOFT_MSG, .bytes = PML_MSG_BYTES_MAX + 1}},
		{"message of 4 GiB", {.type = PML_SOFT_MSG, .bytes = UINT32_MAX}},
		{"empty message", {.type = PML_SOFT_MSG}},
		{"message with an rkey", {.type = PML_SOFT_MSG, .bytes = 1, .rkey = 1}},
		{"second hello", {.type = PML_SOFT_HELLO}},
		{"type of the other side", {.type = PML_SOFT_ACK}},
		{"data at the server", {.type = PML_SOFT_DATA, .bytes = 100}},
		{"credits never earned", {.type = PML_SOFT_CREDIT, .credits = 1}},
		{"credits out of range", {.type = PML_SOFT_CREDIT, .credits = 1000000}},
		{"read of nothing", {.type = PML_SOFT_READ}},
		{"read too long", {.type = PML_SOFT_READ, .op_bytes = PML_DATA_BYTES_MAX + 1}},
		{"read over the end",
		 {.type = PML_SOFT_READ, .op_bytes = 4096, .remote_addr = UINT64_MAX - 10}},
		{"read out of order", {.type = PML_SOFT_READ, .op_bytes = 1, .op = 7}},
		{"write piece too long",
		 {.type = PML_SOFT_WRITE,
		  .bytes = PML_SOFT_PIECE_BYTES + 1,
		  .op_bytes = PML_DATA_BYTES_MAX}},
		{"write piece over its operation",
		 {.type = PML_SOFT_WRITE, .bytes = 2, .op_bytes = 1}},
	};
	for (size_t i = 0; i < PML_ARRAY_LEN(cases); i++) {
		struct pml_soft_frame f = cases[i].f;
		f.magic = PML_SOFT_MAGIC;
		f.version = PML_SOFT_VERSION;
		check_refused(&f, sizeof(f), cases[i].what);
	}
	struct pml_soft_frame f;
	pml_soft_frame_init(&f, PML_SOFT_CREDIT);
	f.version = PML_SOFT_VERSION + 1;
	check_refused(&f, sizeof(f), "version");
	uint8_t msg[PML_MSG_BYTES_MAX];
	size_t bytes;
	CHECK_EQ(pml_ep_send(other.client, "alive", 5, WAIT_MS), 0);
	CHECK_EQ(pml_ep_recv(other.server, msg, &bytes, WAIT_MS), 0);
	pair_close(&other);
}

static void test_a_write_that_changes_its_size_is_refused(void)
{
	struct pml_ep *ep;
	uint8_t *area = area_new(POISON);
	struct pml_key *key;
	uint32_t rkey;
	int fd = raw_open(&ep);
	REQUIRE(pml_key_new(ep, area, 200, PML_KEY_WRITE, &rkey, &key) == 0);
	struct {
		struct pml_soft_frame f;
		uint8_t data[104];
	} piece;
	memset(&piece, 0x01, sizeof(piece));
	pml_soft_frame_init(&piece.f, PML_SOFT_WRITE);
	piece.f.rkey = rkey;
	piece.f.remote_addr = (uintptr_t)area;
	piece.f.bytes = sizeof(piece.data);
	piece.f.op_bytes = 200;
	raw_send(fd, &piece, sizeof(piece));
	piece.f.op_bytes = sizeof(piece.data); /* less than was placed already is left */
	piece.f.remote_addr += 50;
	raw_send(fd, &piece, sizeof(piece));
	CHECK(is_ended(ep));
	CHECK(is_all(area + sizeof(piece.data), AREA - sizeof(piece.data), POISON));
	fence_ok(key, PML_EP_FENCE_KEY);
	raw_close(fd, ep);
	area_free(area);
}

static void test_messages_without_credit_end_the_connection(void)
{
	struct pml_ep *ep;
	int fd = raw_open(&ep);
	uint8_t buf[sizeof(struct pml_soft_frame) + 8] = {0};
	struct pml_soft_frame f;
	pml_soft_frame_init(&f, PML_SOFT_MSG);
	f.bytes = 8;
	memcpy(buf, &f, sizeof(f));
	for (unsigned i = 0; i < PML_MSG_DEPTH + 1; i++)
		raw_send(fd, buf, sizeof(buf));
	char end;
	CHECK(recv(fd, &end, 1, MSG_WAITALL) <= 0);
	CHECK(is_ended(ep));
	raw_close(fd, ep);
}

static void test_silent_connections_hold_nobody_up(void)
{
	int silent[100];
	for (size_t i = 0; i < PML_ARRAY_LEN(silent); i++)
		silent[i] = raw_connect();
	/* One that speaks nonsense, one that says half a hello. */
	raw_send(silent[98], "GET / HTTP/1.1\r\nHost: example.org\r\n\r\n......", 44);
	raw_send(silent[99], "SMLP", 4);
	uint64_t start = pml_now_ms();
	struct pair p;
	REQUIRE(pair_open(&p));
	CHECK(pml_now_ms() - start < 1800); /* well before the silent ones' deadline */
	/* After their deadline the silent ones are gone. */
	struct pml_ep *none;
	CHECK_EQ(pml_fabric_accept(suite.fabric, 2500, &none), -ETIMEDOUT);
	unsigned closed = 0;
	for (size_t i = 0; i < PML_ARRAY_LEN(silent); i++) {
		char c;
		ssize_t n = recv(silent[i], &c, 1, MSG_DONTWAIT);
		closed += n == 0 || (n < 0 && errno != EAGAIN);
		(void)close(silent[i]);
	}
	CHECK_EQ(closed, PML_ARRAY_LEN(silent));
	pair_close(&p);
}

/* More than there is room for, before and behind one that says hello a moment later. */
static void test_a_crowd_of_silent_connections_displaces_nobody(void)
{
	int silent[130];
	struct pml_ep *ep = NULL;
	for (size_t i = 0; i < 65; i++)
		silent[i] = raw_connect();
	CHECK_EQ(pml_fabric_accept(suite.fabric, 0, &ep), -ETIMEDOUT);
	int fd = raw_connect();
	for (size_t i = 65; i < PML_ARRAY_LEN(silent); i++)
		silent[i] = raw_connect();
	for (int i = 0; i < 4; i++)
		CHECK_EQ(pml_fabric_accept(suite.fabric, 0, &ep), -ETIMEDOUT);
	struct pml_soft_frame hello;
	pml_soft_frame_init(&hello, PML_SOFT_HELLO);
	raw_send(fd, &hello, sizeof(hello));
	CHECK_EQ(pml_fabric_accept(suite.fabric, WAIT_MS, &ep), 0);
	CHECK_EQ(recv(fd, &hello, sizeof(hello), MSG_WAITALL), (ssize_t)sizeof(hello));
	for (size_t i = 0; i < PML_ARRAY_LEN(silent); i++)
		(void)close(silent[i]);
	if (ep)
		raw_close(fd, ep);
}

static void test_a_server_of_another_version_is_refused_in_words(void)
{
	struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t bytes = sizeof(at);
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	REQUIRE(bind(fd, (struct sockaddr *)&at, sizeof(at)) == 0 && listen(fd, 5) == 0);
	getsockname(fd, (struct sockaddr *)&at, &bytes);
	char port[8], reason[PML_REASON_BYTES];
	snprintf(port, sizeof(port), "%u", ntohs(at.sin_port));
	struct pml_ep *ep;
	/* It accepts in the kernel and never speaks. */
	CHECK_EQ(pml_ep_connect(suite.kind, suite.host, port, 200, &ep, reason), -ETIMEDOUT);
	printf("# %s\n", reason);
	(void)close(fd);
}

/* ---- fences against stalled clients ------------------------------------- */

static void test_a_client_that_stalls_in_a_write_cannot_stall_the_fence(void)
{
	struct pml_ep *ep;
	int fd = raw_open(&ep);
	uint8_t *area = area_new(0);
	struct pml_key *key;
	uint32_t rkey;
	REQUIRE(pml_key_new(ep, area, PIECE, PML_KEY_WRITE, &rkey, &key) == 0);
	struct pml_soft_frame f;
	pml_soft_frame_init(&f, PML_SOFT_WRITE);
	f.bytes = f.op_bytes = PIECE;
	f.rkey = rkey;
	f.remote_addr = (uintptr_t)area;
	static uint8_t ones[PIECE / 2];
	memset(ones, 1, sizeof(ones));
	raw_send(fd, &f, sizeof(f));
	raw_send(fd, ones, sizeof(ones));
	(void)usleep(50000);
	uint64_t start = pml_now_ms();
	fence_ok(key, PML_EP_FENCE_KEY);
	CHECK(pml_now_ms() - start < 1000);
	size_t placed = strnlen((char *)area, PIECE / 2); /* all of it, if the machine is quick */
	CHECK(is_all(area, placed, 1) && is_all(area + placed, PIECE - placed, 0));
	memset(area, POISON, PIECE);
	raw_send(fd, ones, sizeof(ones));
	CHECK(is_ended(ep));
	CHECK(is_all(area, PIECE, POISON));
	raw_close(fd, ep);
	area_free(area);
}

/* Reads to the end of the stream: no poison in it, and a refusal last. */
static void check_stream_end(int fd)
{
	static uint8_t buf[PIECE];
	struct pml_soft_frame last;
	size_t poison = 0, kept = 0;
	ssize_t n;
	while ((n = recv(fd, buf + kept, sizeof(buf) - kept, 0)) > 0) {
		size_t have = kept + (size_t)n;
		poison += memchr(buf + kept, POISON, (size_t)n) != NULL;
		kept = PML_MIN(have, sizeof(last));
		memmove(buf, buf + have - kept, kept);
	}
	memcpy(&last, buf, sizeof(last));
	CHECK_EQ(n, 0);
	CHECK_EQ(poison, 0);
	CHECK_EQ(last.magic, PML_SOFT_MAGIC);
	CHECK_EQ(last.type, PML_SOFT_NAK);
}

static void test_a_client_that_reads_nothing_cannot_stall_fence_or_sender(void)
{
	struct pml_ep *ep;
	int fd = raw_open(&ep);
	uint8_t *area = area_new(0);
	struct pml_key *key;
	uint32_t rkey;
	REQUIRE(pml_key_new(ep, area, AREA, PML_KEY_READ, &rkey, &key) == 0);
	struct pml_soft_frame f;
	pml_soft_frame_init(&f, PML_SOFT_READ);
	f.op_bytes = PML_DATA_BYTES_MAX;
	f.rkey = rkey;
	f.remote_addr = (uintptr_t)area;
	for (f.op = 0; f.op < 64; f.op++)
		raw_send(fd, &f, sizeof(f));
	(void)usleep(100000);
	/* Sooner or later the socket is full. */
	uint64_t start;
	int err = 0;
	for (unsigned i = 0; i <= PML_MSG_DEPTH && !err; i++) {
		start = pml_now_ms();
		err = pml_ep_send(ep, "recall", 6, 100);
	}
	CHECK_EQ(err, -ETIMEDOUT);
	CHECK(pml_now_ms() - start < 1000);
	start = pml_now_ms();
	fence_ok(key, PML_EP_FENCE_KEY);
	CHECK(pml_now_ms() - start < 1000);
	/* What it reads now was taken before the fence, or is filled up with zeros. */
	memset(area, POISON, AREA);
	check_stream_end(fd);
	CHECK(is_ended(ep));
	raw_close(fd, ep);
	area_free(area);
}

/* ---- faults ------------------------------------------------------------- */

static void set_faults(struct pml_soft_faults f)
{
	pml_soft_set_faults(&f);
}

/* A connection with one key over @area and a buffer. */
struct rig {
	struct pair p;
	uint8_t *area, *buf;
	struct pml_key *key;
	struct pml_local_mr *mr;
	struct pml_data_op op;
};

static bool rig_open(struct rig *r, bool is_write)
{
	uint32_t rkey;
	if (!pair_open(&r->p))
		return false;
	r->area = area_new(0x10);
	r->buf = area_new(0x20);
	if (pml_key_new(r->p.server, r->area, AREA, is_write ? PML_KEY_WRITE : PML_KEY_READ, &rkey,
			&r->key) ||
	    pml_local_mr_new(r->p.client, r->buf, AREA, &r->mr))
		return false;
	r->op = (struct pml_data_op){.mr = r->mr,
				     .buf = r->buf,
				     .bytes = PIECE,
				     .rkey = rkey,
				     .kind = is_write ? PML_DATA_WRITE : PML_DATA_READ,
				     .remote_addr = (uintptr_t)r->area};
	return true;
}

static void rig_close(struct rig *r)
{
	set_faults((struct pml_soft_faults){0});
	if (r->key)
		fence_ok(r->key, PML_EP_FENCE_CONNECTION);
	pml_local_mr_free(r->mr);
	pair_close(&r->p);
	area_free(r->area);
	area_free(r->buf);
}

static void test_fault_delay_stretches_an_operation(void)
{
	for (int is_write = 0; is_write < 2; is_write++) {
		struct rig r;
		REQUIRE(rig_open(&r, is_write));
		r.op.bytes = 1u << 20;
		set_faults((struct pml_soft_faults){.delay_data_us = 100000});
		uint64_t start = pml_now_ms();
		CHECK_EQ(do_op(r.p.client, r.op), 0);
		uint64_t ms = pml_now_ms() - start;
		CHECK(ms >= 95);
		fence_ok(r.key, PML_EP_FENCE_KEY);
		r.key = NULL;
		CHECK(memcmp(r.area, r.buf, r.op.bytes) == 0);
		rig_close(&r);
	}
}

static void test_a_fence_stops_a_slow_write_half_way(void)
{
	struct rig r;
	REQUIRE(rig_open(&r, true));
	set_faults((struct pml_soft_faults){.delay_data_us = 1500000});
	CHECK_EQ(pml_ep_post(r.p.client, &r.op), 0);
	(void)usleep(300000);
	uint64_t start = pml_now_ms();
	fence_ok(r.key, PML_EP_FENCE_KEY);
	r.key = NULL;
	CHECK(pml_now_ms() - start < 700);
	CHECK(r.area[0] == 0x20 && r.area[PIECE - 1] == 0x10);
	memset(r.area, POISON, PIECE);
	CHECK_EQ(finish_one(r.p.client, NULL), -EACCES);
	CHECK(is_all(r.area, PIECE, POISON));
	rig_close(&r);
}

static void test_a_fence_stops_a_slow_read_without_showing_later_bytes(void)
{
	struct rig r;
	REQUIRE(rig_open(&r, false));
	set_faults((struct pml_soft_faults){.delay_data_us = 1500000});
	CHECK_EQ(pml_ep_post(r.p.client, &r.op), 0);
	(void)usleep(300000);
	fence_ok(r.key, PML_EP_FENCE_KEY);
	r.key = NULL;
	memset(r.area, POISON, PIECE);
	CHECK_EQ(finish_one(r.p.client, NULL), -EACCES);
	CHECK(memchr(r.buf, POISON, PIECE) == NULL);
	rig_close(&r);
}

static void test_fault_failing_key_fence_leaves_the_next_step(void)
{
	struct rig r;
	REQUIRE(rig_open(&r, true));
	set_faults((struct pml_soft_faults){.fail_key_fences = 2});
	CHECK_EQ(pml_key_fence(r.key, PML_EP_FENCE_KEY, false), -EIO);
	CHECK_EQ(do_op(r.p.client, r.op), 0); /* it did not work indeed */
	CHECK_EQ(pml_key_fence(r.key, PML_EP_FENCE_KEY, false), -EIO);
	CHECK_EQ(pml_key_fence(r.key, PML_EP_FENCE_CONNECTION, false), 0);
	r.key = NULL;
	CHECK_EQ(pml_ep_send(r.p.server, "x", 1, 0), -ENOTCONN);
	CHECK_EQ(finish_one(r.p.client, NULL), -ENOTCONN);
	rig_close(&r);
}

static void test_fault_late_fence_takes_its_time(void)
{
	struct rig r;
	REQUIRE(rig_open(&r, true));
	set_faults((struct pml_soft_faults){.late_fence_us = 100000});
	uint64_t start = pml_now_ms();
	fence_ok(r.key, PML_EP_FENCE_KEY);
	r.key = NULL;
	CHECK(pml_now_ms() - start >= 99);
	rig_close(&r);
}

static void test_fault_dropped_messages_are_lost_and_no_more(void)
{
	struct rig r;
	uint8_t buf[PML_MSG_BYTES_MAX];
	size_t bytes;
	REQUIRE(rig_open(&r, true));
	set_faults((struct pml_soft_faults){.drop_server_msgs = 2});
	CHECK_EQ(pml_ep_send(r.p.client, "c", 1, WAIT_MS), 0);
	for (char c = 'a'; c < 'd'; c++)
		CHECK_EQ(pml_ep_send(r.p.server, &c, 1, WAIT_MS), 0);
	CHECK_EQ(pml_ep_recv(r.p.client, buf, &bytes, WAIT_MS), 0);
	CHECK_EQ(buf[0], 'c');
	CHECK_EQ(pml_ep_recv(r.p.client, buf, &bytes, 50), -ETIMEDOUT);
	CHECK_EQ(pml_ep_recv(r.p.server, buf, &bytes, WAIT_MS), 0);
	rig_close(&r);
}

static void test_fault_torn_write_breaks_the_connection(void)
{
	struct rig r;
	REQUIRE(rig_open(&r, true));
	set_faults((struct pml_soft_faults){.tear_writes = 1});
	CHECK_EQ(do_op(r.p.client, r.op), -ENOTCONN);
	CHECK(is_ended(r.p.server));
	CHECK(is_all(r.area, PIECE / 2, 0x20));
	CHECK(is_all(r.area + PIECE / 2, PIECE / 2, 0x10));
	rig_close(&r);
	REQUIRE(rig_open(&r, true));
	CHECK_EQ(do_op(r.p.client, r.op), 0);
	rig_close(&r);
}

/* ---- the rest ----------------------------------------------------------- */

static void test_a_recall_overtakes_bulk_data(void)
{
	struct rig r;
	REQUIRE(rig_open(&r, false));
	r.op.bytes = 1u << 20;
	set_faults((struct pml_soft_faults){.delay_data_us = 50000});
	for (int i = 0; i < 20; i++)
		CHECK_EQ(pml_ep_post(r.p.client, &r.op), 0);
	(void)usleep(20000);
	uint8_t buf[PML_MSG_BYTES_MAX];
	size_t bytes;
	uint64_t start = pml_now_ms();
	CHECK_EQ(pml_ep_send(r.p.server, "recall", 6, WAIT_MS), 0);
	CHECK_EQ(pml_ep_recv(r.p.client, buf, &bytes, WAIT_MS), 0);
	CHECK(pml_now_ms() - start < 700); /* the data takes a second */
	set_faults((struct pml_soft_faults){0});
	for (int i = 0; i < 20; i++)
		CHECK_EQ(finish_one(r.p.client, NULL), 0);
	rig_close(&r);
}

static void test_keys_run_out_with_an_error_and_slots_change_their_tag(void)
{
	struct pair p;
	REQUIRE(pair_open(&p));
	static struct pml_key *keys[PML_SOFT_KEYS_MAX];
	uint8_t *area = area_new(0);
	uint32_t first = 0, rkey = 0, count = 0;
	while (pml_key_new(p.server, area, 1, PML_KEY_WRITE, &rkey, &keys[count]) == 0) {
		if (count++ == 0)
			first = rkey;
	}
	CHECK_EQ(count, PML_SOFT_KEYS_MAX - 1);
	CHECK_EQ(pml_key_new(p.server, area, 1, PML_KEY_WRITE, &rkey, &keys[count]), -ENOSPC);
	fence_ok(keys[0], PML_EP_FENCE_KEY);
	CHECK_EQ(pml_key_new(p.server, area, 1, PML_KEY_WRITE, &rkey, &keys[0]), 0);
	CHECK(rkey >> 8 == first >> 8 && rkey != first);
	for (uint32_t i = 0; i < count; i++)
		fence_ok(keys[i], PML_EP_FENCE_KEY);
	pair_close(&p);
	area_free(area);
}

static unsigned long own_kib(void)
{
	FILE *f = fopen("/proc/self/status", "re");
	char line[128];
	unsigned long kib = 0;
	while (f && fgets(line, sizeof(line), f))
		if (sscanf(line, "RssAnon: %lu kB", &kib) == 1)
			break;
	if (f)
		(void)fclose(f);
	return kib;
}

/* ThreadSanitizer has memory of its own for each byte, and for each thread. */
#ifdef __SANITIZE_THREAD__
#define CONNECTION_KIB ULONG_MAX
#else
#define CONNECTION_KIB 1024ul
#endif

/* I9: an attacker may open many of them, again and again, while others stay. */
static void test_a_connection_takes_memory_for_what_it_uses_only(void)
{
	enum { PAIRS = 16, ROUNDS = 4 };
	struct pair pairs[PAIRS];
	void *other[ROUNDS][PAIRS]; /* lies between them, so that the heap cannot shrink */
	unsigned long before_kib = own_kib(), kib = 0;
	for (int round = 0; round < ROUNDS; round++) {
		for (int i = 0; i < PAIRS; i++) {
			REQUIRE(pair_open(&pairs[i]));
			other[round][i] = malloc(4096);
			CHECK(other[round][i] != NULL);
		}
		kib = own_kib() - before_kib;
		for (int i = 0; i < PAIRS; i++)
			pair_close(&pairs[i]);
	}
	for (int i = 0; i < ROUNDS * PAIRS; i++)
		free(other[i / PAIRS][i % PAIRS]);
	printf("# %lu KiB for each connection, both ends\n", kib / PAIRS);
	CHECK(kib / PAIRS < CONNECTION_KIB);
}

static void test_ipv6_works(void)
{
	struct pml_fabric *v4 = suite.fabric;
	char reason[PML_REASON_BYTES], port[8];
	memcpy(port, suite.port, sizeof(port));
	if (pml_fabric_listen(suite.kind, "::1", "0", &suite.fabric, reason)) {
		suite.fabric = v4;
		SKIP("no IPv6 here");
	}
	suite.host = "::1";
	snprintf(suite.port, sizeof(suite.port), "%u", pml_fabric_port(suite.fabric));
	struct pair p;
	CHECK(pair_open(&p));
	CHECK(strncmp(pml_ep_peer(p.server), "[::1]:", 6) == 0);
	pair_close(&p);
	pml_fabric_close(suite.fabric);
	suite.fabric = v4;
	suite.host = "127.0.0.1";
	memcpy(suite.port, port, sizeof(port));
}

/* Prints figures; no judgement, the machine may be busy. */
static void test_speed(void)
{
	for (int is_write = 0; is_write < 2; is_write++) {
		struct rig r;
		REQUIRE(rig_open(&r, is_write));
		r.op.bytes = 1u << 20;
		uint64_t start = pml_now_ms(), posted = 0, done = 0, total = 1000;
		while (done < total) {
			while (posted < total && posted - done < 8) {
				REQUIRE(pml_ep_post(r.p.client, &r.op) == 0);
				posted++;
			}
			CHECK_EQ(finish_one(r.p.client, NULL), 0);
			done++;
		}
		uint64_t ms = pml_now_ms() - start + 1;
		printf("# 1 MiB %s: %llu MB/s\n", is_write ? "writes" : "reads",
		       (unsigned long long)(total * 1048576u / 1000u / ms));
		r.op.bytes = 4096;
		start = pml_now_ms();
		for (int i = 0; i < 5000; i++)
			REQUIRE(do_op(r.p.client, r.op) == 0);
		ms = pml_now_ms() - start + 1;
		printf("# 4 KiB, one at a time: %llu us\n",
		       (unsigned long long)(ms * 1000u / 5000u));
		rig_close(&r);
	}
}

int main(int argc, char **argv)
{
	suite.kind = PML_TRANSPORT_SOFT;
	suite.host = "127.0.0.1";
	suite.fence_rounds = 400;
	if (suite_child(argc, argv))
		return 0;
	suite_open();
	suite_run();
	TAP_RUN(test_malformed_frames_end_only_their_connection);
	TAP_RUN(test_a_write_that_changes_its_size_is_refused);
	TAP_RUN(test_messages_without_credit_end_the_connection);
	TAP_RUN(test_silent_connections_hold_nobody_up);
	TAP_RUN(test_a_crowd_of_silent_connections_displaces_nobody);
	TAP_RUN(test_a_server_of_another_version_is_refused_in_words);
	TAP_RUN(test_a_client_that_stalls_in_a_write_cannot_stall_the_fence);
	TAP_RUN(test_a_client_that_reads_nothing_cannot_stall_fence_or_sender);
	TAP_RUN(test_fault_delay_stretches_an_operation);
	TAP_RUN(test_a_fence_stops_a_slow_write_half_way);
	TAP_RUN(test_a_fence_stops_a_slow_read_without_showing_later_bytes);
	TAP_RUN(test_fault_failing_key_fence_leaves_the_next_step);
	TAP_RUN(test_fault_late_fence_takes_its_time);
	TAP_RUN(test_fault_dropped_messages_are_lost_and_no_more);
	TAP_RUN(test_fault_torn_write_breaks_the_connection);
	TAP_RUN(test_a_recall_overtakes_bulk_data);
	TAP_RUN(test_keys_run_out_with_an_error_and_slots_change_their_tag);
	TAP_RUN(test_a_connection_takes_memory_for_what_it_uses_only);
	TAP_RUN(test_ipv6_works);
	TAP_RUN(test_speed);
	suite_close();
	suite.is_window_fence = true;
	suite.fence_rounds = 100;
	suite_run_durable(NULL);
	CHECK(atomic_load(&persisted_bytes) > 0);
	suite_run_windows();
	return tap_done();
}
