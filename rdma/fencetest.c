/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fencetest.c -- is a fence one?  A client that goes on, and a server that looks
 *
 * One trial: a client connects, gets a key for RANGE_BYTES and streams writes, or
 * reads, of that size through it, many at a time, until it is thrown out.  When it is
 * in full flight the server side ends the key by the method under test, writes a
 * pattern over the range at once and watches it until the client has given up: then
 * nothing more can come.  A byte that changed is a violation, and so is a read that
 * succeeded and shows the pattern.
 *
 * What is measured is the step alone.  For PML_BY_CONNECTION that is the destruction of
 * the queue pair: the key is freed only after the look, though pml_key_fence() would
 * do both.
 *
 * Before the trials the key's bounds are tried: an access just outside must fail.
 *
 * Threads: the caller serves; one more is the client.
 */
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include "thread.h"
#include "transport_impl.h"

#define RANGE_BYTES 65536u
/* The range lies in the middle of as much that nobody may touch. */
#define AREA_BYTES   (16 * RANGE_BYTES)
#define RANGE_OFFSET (8 * RANGE_BYTES)
#define DEPTH	     8u
#define WAIT_MS	     30000
#define CONNECT_MS   30000
/* The first look; then the connection is ended. */
#define WATCH_MS 10u
/* Until a client that is thrown out has collected what there is. */
#define CLIENT_END_MS 20000u
/* A client that has nothing done after so long is no trial. */
#define IN_FLIGHT_MS 2000u
/* Attempts, also those that were no trial, for each trial that is asked for. */
#define ATTEMPTS_EACH 8u

#define CLEAN  0x55
#define POISON 0xd5
#define DIRT   0x66

enum task { TASK_STREAM, TASK_ONE_ACCESS };

/* What the client is told, in one message. */
struct grant {
	uint64_t addr;
	uint32_t rkey;
	uint32_t is_write;
	uint32_t task; /* enum task */
};

struct test {
	const struct pml_fencetest_args *args;
	struct pml_fabric *fabric;
	char port[8];
	uint8_t *area;
	bool is_key_alive; /* one could not be ended */

	/* Shared with the client. */
	atomic_bool must_stop;
	atomic_uint done_ops;	/* of the present connection */
	atomic_uint late_reads; /* of the present connection */
	atomic_uint ended;	/* connections that the client is through with */
	atomic_int one_status;	/* how the one access ended */
	atomic_bool is_gone;	/* the client has ended for good */
};

/* ---- the client --------------------------------------------------------- */

struct stream {
	struct test *test;
	struct pml_ep *ep;
	struct pml_local_mr *mr;
	uint8_t *buf; /* DEPTH times RANGE_BYTES */
	struct grant grant;
	uint64_t posted, done;
};

static int post_one(struct stream *s)
{
	uint64_t slot = s->posted % DEPTH;
	struct pml_data_op op = {
		.mr = s->mr,
		.buf = s->buf + slot * RANGE_BYTES,
		.bytes = RANGE_BYTES,
		.remote_addr = s->grant.addr,
		.rkey = s->grant.rkey,
		.kind = s->grant.is_write ? PML_DATA_WRITE : PML_DATA_READ,
		.cookie = slot,
	};
	int err = pml_ep_post(s->ep, &op);
	if (!err)
		s->posted++;
	return err;
}

static void take(struct stream *s, const struct pml_completion *done)
{
	const uint8_t *got = s->buf + done->cookie * RANGE_BYTES;
	if (!s->grant.is_write && done->status == 0 && memchr(got, POISON, RANGE_BYTES))
		atomic_fetch_add(&s->test->late_reads, 1);
	s->done++;
	if (done->status == 0)
		atomic_fetch_add(&s->test->done_ops, 1);
	atomic_store(&s->test->one_status, done->status);
}

/* Posts and collects until the connection ends, or the time is over. */
static void run_stream(struct stream *s)
{
	uint32_t depth = s->grant.task == TASK_STREAM ? DEPTH : 1;
	uint64_t end_ms = pml_now_ms() + CLIENT_END_MS;
	bool can_post = true;
	while (pml_now_ms() < end_ms && !(depth == 1 && s->done == 1)) {
		while (can_post && s->posted - s->done < depth)
			can_post = post_one(s) == 0;
		struct pml_completion done[DEPTH];
		int n = pml_ep_poll(s->ep, done, DEPTH, 1000);
		for (int i = 0; i < n; i++)
			take(s, &done[i]);
		if (n < 0)
			return;
	}
}

static void serve_grant(struct stream *s)
{
	union {
		uint8_t bytes[PML_MSG_BYTES_MAX];
		struct grant grant;
	} msg;
	size_t bytes;
	if (pml_ep_recv(s->ep, &msg, &bytes, WAIT_MS) || bytes != sizeof(msg.grant))
		return;
	s->grant = msg.grant;
	s->posted = s->done = 0;
	if (pml_local_mr_new(s->ep, s->buf, DEPTH * RANGE_BYTES, &s->mr))
		return;
	memset(s->buf, DIRT, DEPTH * RANGE_BYTES);
	run_stream(s);
	pml_local_mr_free(s->mr);
}

static void *run_client(void *arg)
{
	struct test *t = arg;
	struct stream s = {.test = t};
	char reason[PML_REASON_BYTES];
	s.buf = aligned_alloc(PML_BLOCK_BYTES, DEPTH * RANGE_BYTES);
	while (s.buf && !atomic_load(&t->must_stop)) {
		enum pml_transport_kind kind =
			t->args->is_soft ? PML_TRANSPORT_SOFT : PML_TRANSPORT_VERBS;
		if (pml_ep_connect(kind, t->args->host, t->port, CONNECT_MS, &s.ep, reason))
			continue;
		serve_grant(&s);
		pml_ep_close(s.ep);
		atomic_fetch_add(&t->ended, 1);
	}
	free(s.buf);
	atomic_store(&t->is_gone, true);
	return NULL;
}

/* ---- one trial ---------------------------------------------------------- */

struct trial {
	struct test *test;
	struct pml_ep *ep;
	struct pml_key *key;
	uint32_t number;
	uint32_t ended_before; /* test->ended when it began */
	bool is_write;
	bool is_changed; /* after the fence */
	char *reason;
};

static uint8_t *range_of(const struct test *t)
{
	return t->area + RANGE_OFFSET;
}

static bool is_all(const uint8_t *bytes, size_t n, uint8_t value)
{
	return bytes[0] == value && memcmp(bytes, bytes + 1, n - 1) == 0;
}

/* The keys of this trial: as the method makes them; for the connection both kinds in turn. */
static enum pml_fence_method keys_of(const struct trial *trial,
				     const struct pml_fence_device *device)
{
	if (trial->test->args->method != PML_BY_CONNECTION)
		return trial->test->args->method;
	bool has_windows = device->has_windows && !trial->test->fabric->is_on_demand;
	return has_windows && trial->number / 2 % 2 ? PML_BY_WINDOW : PML_BY_REGION;
}

/*
 * Accepts the client and gives it a key.  -errno with the reason; -ENOTCONN: it had given
 * up waiting, as may happen on a machine that is busy.
 */
static int begin(struct trial *trial, enum task task, enum pml_fence_method keys)
{
	struct test *t = trial->test;
	const struct pml_fence_plan plan = {keys, true, true};
	pml_fabric_force_fence(t->fabric, &plan);
	memset(t->area, CLEAN, AREA_BYTES);
	atomic_store(&t->done_ops, 0);
	atomic_store(&t->late_reads, 0);
	trial->ended_before = atomic_load(&t->ended);
	int err = pml_fabric_accept(t->fabric, WAIT_MS, &trial->ep);
	if (err) {
		pml_transport_reason(trial->reason, "the test's client did not connect: %s",
				     strerrordesc_np(-err));
		return err;
	}
	struct grant grant = {.is_write = trial->is_write, .task = task};
	grant.addr = (uintptr_t)range_of(t) - (task == TASK_ONE_ACCESS ? RANGE_BYTES / 2 : 0);
	err = pml_key_new(trial->ep, range_of(t), RANGE_BYTES,
			  trial->is_write ? PML_KEY_WRITE : PML_KEY_READ, &grant.rkey, &trial->key);
	if (!err)
		err = pml_ep_send(trial->ep, &grant, sizeof(grant), WAIT_MS);
	if (err)
		pml_transport_reason(trial->reason, "no key for the test's client: %s",
				     strerrordesc_np(-err));
	return err;
}

/* Whatever happened: the key dead, the connection gone.  An error: not even that. */
static int end(struct trial *trial)
{
	int err = 0;
	for (int i = 0; trial->key && i < 3; i++) {
		err = pml_key_fence(trial->key, PML_EP_FENCE_CONNECTION, false);
		if (!err)
			trial->key = NULL;
	}
	if (err) {
		trial->test->is_key_alive = true;
		pml_transport_reason(trial->reason, "a key could not be ended at all: %s",
				     strerrordesc_np(-err));
		return err;
	}
	pml_ep_close(trial->ep);
	return 0;
}

/* The step under test. */
static int fence(struct trial *trial)
{
	if (trial->test->args->method == PML_BY_CONNECTION)
		return pml_ep_destroy(trial->ep);
	int err = pml_key_fence(trial->key, PML_EP_FENCE_KEY, false);
	if (!err)
		trial->key = NULL;
	return err;
}

/* True: the client has had some operations done, and is at it. */
static bool is_in_flight(const struct trial *trial)
{
	struct test *t = trial->test;
	uint64_t start_ns = pml_transport_now_ns();
	uint64_t end_ns = start_ns + IN_FLIGHT_MS * 1000000ull;
	while (atomic_load(&t->done_ops) < 2 && pml_transport_now_ns() < end_ns)
		(void)usleep(50);
	/* At any point of an operation's life: within the time that two of them took. */
	uint64_t cycle_us = (pml_transport_now_ns() - start_ns) / 1000u + 2000u;
	(void)usleep((useconds_t)(trial->number * 2654435761u % PML_MIN(cycle_us, 200000u)));
	return atomic_load(&t->done_ops) >= 2 && atomic_load(&t->ended) == trial->ended_before;
}

static bool has_client_ended(const struct trial *trial)
{
	return atomic_load(&trial->test->ended) != trial->ended_before;
}

/* Until the client is through with this connection, so that it is not mixed up with the next. */
static void await_client(const struct trial *trial)
{
	uint64_t end_ms = pml_now_ms() + CLIENT_END_MS;
	while (!has_client_ended(trial) && pml_now_ms() < end_ms)
		(void)usleep(200);
}

static void look(struct trial *trial)
{
	trial->is_changed |= !is_all(range_of(trial->test), RANGE_BYTES, POISON);
}

/* Fences a client in full flight.  True: that was a trial, to be judged at its end. */
static bool fence_and_watch(struct trial *trial, struct pml_fencetest_result *ret)
{
	uint64_t start_ns = pml_transport_now_ns();
	int err = fence(trial);
	uint64_t took_ns = pml_transport_now_ns() - start_ns;
	if (err) {
		ret->failed++;
		return false;
	}
	memset(range_of(trial->test), POISON, RANGE_BYTES);
	ret->fence_ns += took_ns;
	ret->fence_max_ns = PML_MAX(ret->fence_max_ns, took_ns);
	uint64_t end_ms = pml_now_ms() + WATCH_MS;
	while (pml_now_ms() < end_ms && !has_client_ended(trial)) {
		look(trial);
		(void)usleep(200);
	}
	return true;
}

/* The connection is gone, and the client has collected what there is: all has been seen. */
static void judge(struct trial *trial, struct pml_fencetest_result *ret)
{
	look(trial);
	bool is_read_late = atomic_load(&trial->test->late_reads) > 0;
	ret->trials++;
	ret->writes += trial->is_changed;
	ret->reads += is_read_late;
	ret->violations += trial->is_changed || is_read_late;
}

static int run_trial(struct test *t, uint32_t number, struct pml_fencetest_result *ret,
		     char *ret_reason)
{
	struct trial trial = {
		.test = t, .number = number, .is_write = number % 2 == 0, .reason = ret_reason};
	int err = begin(&trial, TASK_STREAM, keys_of(&trial, &ret->device));
	bool is_flying = !err && is_in_flight(&trial);
	bool is_trial = is_flying && fence_and_watch(&trial, ret);
	ret->idle += !is_flying;
	int rc = end(&trial);
	if (!err)
		await_client(&trial);
	if (is_trial && !rc)
		judge(&trial, ret);
	if (err == -ENOTCONN)
		err = 0;
	return err ? err : rc;
}

/* ---- the whole ---------------------------------------------------------- */

/* One access that begins in front of the range, which alone the key is for. */
static int try_bounds(struct test *t, bool is_write, struct pml_fencetest_result *ret,
		      char *ret_reason)
{
	struct trial trial = {.test = t, .is_write = is_write, .reason = ret_reason};
	atomic_store(&t->one_status, -ETIME);
	int err = begin(&trial, TASK_ONE_ACCESS,
			t->args->method == PML_BY_WINDOW ? PML_BY_WINDOW : PML_BY_REGION);
	if (!err)
		await_client(&trial);
	bool is_outside = atomic_load(&t->one_status) == 0 || !is_all(t->area, RANGE_OFFSET, CLEAN);
	int rc = end(&trial);
	if (!err)
		ret->unbounded += is_outside;
	return err ? err : rc;
}

static int try_both_bounds(struct test *t, struct pml_fencetest_result *ret, char *ret_reason)
{
	int err = 0;
	for (int i = 0; i < 2 && !err; i++) {
		uint32_t tries = 0;
		do {
			err = try_bounds(t, i == 0, ret, ret_reason);
		} while (err == -ENOTCONN && ++tries < ATTEMPTS_EACH);
	}
	return err;
}

static int find_device(struct test *t, struct pml_fence_device *ret, char *ret_reason)
{
	if (!t->fabric->ops->fabric_device(t->fabric, ret)) {
		pml_transport_reason(ret_reason, "%s belongs to no single RDMA device",
				     t->args->host);
		return -ENODEV;
	}
	if (t->args->method == PML_BY_WINDOW && t->fabric->is_on_demand) {
		pml_transport_reason(ret_reason, "memory that is registered on demand excludes "
						 "memory windows");
		return -EOPNOTSUPP;
	}
	if (t->args->method != PML_BY_WINDOW || ret->has_windows)
		return 0;
	pml_transport_reason(ret_reason, "device %s (%s) has no memory windows of type 2B",
			     ret->name, ret->driver);
	return -EOPNOTSUPP;
}

static int run_trials(struct test *t, struct pml_fencetest_result *ret, char *ret_reason)
{
	const struct pml_fencetest_args *args = t->args;
	int err = find_device(t, &ret->device, ret_reason);
	if (!err)
		err = try_both_bounds(t, ret, ret_reason);
	uint32_t attempts_max = args->count > UINT32_MAX / ATTEMPTS_EACH - 8
					? UINT32_MAX
					: args->count * ATTEMPTS_EACH + 8;
	for (uint32_t i = 0; !err && ret->trials < args->count && i < attempts_max; i++) {
		err = run_trial(t, i, ret, ret_reason);
		if (args->progress && !args->progress(args->progress_arg, ret->trials,
						      ret->violations + ret->unbounded))
			break;
	}
	if (!err && ret->trials == 0) {
		pml_transport_reason(ret_reason,
				     "no trial: %u fences failed, %u times the client was idle",
				     ret->failed, ret->idle);
		err = -EIO;
	}
	return err;
}

/* The client may be connecting once more. */
static void stop_client(struct test *t, pthread_t thread)
{
	struct pml_ep *ep;
	atomic_store(&t->must_stop, true);
	while (!atomic_load(&t->is_gone)) {
		if (pml_fabric_accept(t->fabric, 20, &ep) == 0)
			pml_ep_close(ep);
	}
	pthread_join(thread, NULL);
}

/* Memory of no file, or of one: how it is registered may differ. */
static int map_area(struct test *t, char *ret_reason)
{
	const char *dir = t->args->dir;
	pml_auto_close int fd = dir ? open(dir, O_RDWR | O_TMPFILE | O_CLOEXEC, 0600) : -1;
	int err = dir && (fd < 0 || ftruncate(fd, AREA_BYTES)) ? -errno : 0;
	if (!err) {
		int flags = dir ? MAP_SHARED : MAP_PRIVATE | MAP_ANONYMOUS;
		t->area = mmap(NULL, AREA_BYTES, PROT_READ | PROT_WRITE, flags, fd, 0);
		err = t->area == MAP_FAILED ? -errno : 0;
	}
	if (err) {
		t->area = NULL;
		pml_transport_reason(ret_reason, "no memory for the test%s%s: %s",
				     dir ? " in " : "", dir ? dir : "", strerrordesc_np(-err));
	}
	return err;
}

static int open_test(struct test *t, char *ret_reason)
{
	int err = pml_fabric_listen(t->args->is_soft ? PML_TRANSPORT_SOFT : PML_TRANSPORT_VERBS,
				    t->args->host, "0", &t->fabric, ret_reason);
	if (err)
		return err;
	(void)snprintf(t->port, sizeof(t->port), "%u", pml_fabric_port(t->fabric));
	err = map_area(t, ret_reason);
	return err ? err : pml_fabric_probe(t->fabric, t->area, AREA_BYTES, ret_reason);
}

int pml_fencetest_run(const struct pml_fencetest_args *args, struct pml_fencetest_result *ret,
		      char *ret_reason)
{
	struct test t = {.args = args};
	struct pml_fencetest_result result = {0};
	pthread_t thread;
	ret_reason[0] = 0;
	int err = open_test(&t, ret_reason);
	if (!err) {
		err = pml_thread_new(&thread, run_client, &t);
		if (err)
			pml_transport_reason(ret_reason, "no thread for the client: %s",
					     strerrordesc_np(-err));
	}
	if (!err) {
		err = run_trials(&t, &result, ret_reason);
		stop_client(&t, thread);
	}
	pml_fabric_close(t.fabric);
	/* A key that could not be ended may reach it: then it stays. */
	if (t.area && !t.is_key_alive)
		(void)munmap(t.area, AREA_BYTES);
	if (!err)
		*ret = result;
	return err;
}
