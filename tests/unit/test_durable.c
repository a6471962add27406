/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_durable.c -- by which rule a remote write becomes durable, and what a flush is worth
 *
 * Software fabric on the loopback (tests/support/service_rig.h).  The fake filesystem keeps
 * what a power failure would leave, which is what its owner or the fabric has flushed.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/stat.h>

#include "../../rdma/transport.h"
#include "pml/clock.h"
#include "pml/durable.h"
#include "service_rig.h"
#include "tap.h"

#define BLOCK	   ((uint64_t)PML_BLOCK_BYTES)
#define KIB	   UINT64_C(1024)
#define FILE_BYTES ((uint32_t)(256 * KIB))
/* More than what a commit leaves to the server. */
#define LARGE (128 * KIB)

struct scene {
	struct rig rig;
	struct pml_client *client;
	uint64_t ino;
	uint8_t data[FILE_BYTES];
};
static struct scene scene;

static void begin(enum pml_durable_choice choice, mode_t mode, uid_t owner)
{
	memset(&scene, 0, sizeof(scene));
	rig_init(&scene.rig);
	scene.rig.args.durable = choice;
	/* Root may read whatever its mode says. */
	scene.rig.args.client_cred = (struct pml_cred){.uid = 1000, .gid = 1000};
	scene.ino = fake_fs_make(scene.rig.fs, PML_ROOT_INO, "file", S_IFREG | mode, owner);
	memset(scene.data, 'a', FILE_BYTES);
	fake_fs_write(scene.rig.fs, scene.ino, 0, scene.data, FILE_BYTES);
	if (rig_start(&scene.rig))
		BAIL_OUT("no server");
	scene.client = rig_connect(&scene.rig);
}

static void end(void)
{
	if (scene.client)
		pml_client_close(scene.client);
	rig_stop(&scene.rig);
}

static struct pml_client_lease *lease_of(uint64_t len_bytes, bool for_write)
{
	return rig_lease(scene.client, scene.ino, 0, len_bytes, for_write);
}

/* Writes @bytes of @letter from @first_byte on. */
static int put(struct pml_client_lease *lease, char letter, uint64_t first_byte, uint64_t bytes)
{
	memset(scene.data, letter, bytes);
	const struct iovec iov = {.iov_base = scene.data, .iov_len = bytes};
	return pml_client_writev(lease, &iov, 1, first_byte);
}

/* Are these bytes, as put() wrote them last, what a power failure leaves? */
static bool is_durable(uint64_t first_byte, uint64_t bytes)
{
	return fake_fs_is_durable(scene.rig.fs, scene.ino, first_byte, scene.data, bytes);
}

static uint64_t flushing_commits(void)
{
	return fake_fs_flushing_commits(scene.rig.fs);
}

/* ---- rules ---------------------------------------------------------------- */

static void test_flush_needs_no_server(void)
{
	begin(PML_DURABLE_AUTO, 0600, 1000);
	struct pml_client_lease *lease = lease_of(FILE_BYTES, true);
	CHECK_EQ(pml_client_lease_durability(lease), PML_CLIENT_DURABLE_BY_FLUSH);
	CHECK_EQ(put(lease, 'b', BLOCK, LARGE), 0);
	CHECK(!is_durable(BLOCK, LARGE));
	CHECK_EQ(pml_client_flush(lease, BLOCK, LARGE), 0);
	CHECK(is_durable(BLOCK, LARGE));
	/* A range only: its neighbours are as they were. */
	CHECK_EQ(put(lease, 'c', 0, 4 * BLOCK), 0);
	CHECK_EQ(pml_client_flush(lease, BLOCK, BLOCK), 0);
	CHECK(!is_durable(0, BLOCK));
	CHECK(is_durable(BLOCK, BLOCK));
	CHECK(!is_durable(2 * BLOCK, BLOCK));
	CHECK_EQ(flushing_commits(), 0);
	CHECK_EQ(pml_client_return(lease), 0);
	end();
}

static void test_commit_picks_who_flushes(void)
{
	begin(PML_DURABLE_AUTO, 0600, 1000);
	struct pml_client_lease *lease = lease_of(FILE_BYTES, true);
	/* A little: in the one request that a commit is. */
	CHECK_EQ(put(lease, 'b', 0, BLOCK), 0);
	CHECK_EQ(pml_client_commit(lease, 0, BLOCK, 0), 0);
	CHECK(is_durable(0, BLOCK));
	CHECK_EQ(flushing_commits(), 1);
	/* Much: the server's processor has nothing to do. */
	CHECK_EQ(put(lease, 'c', 0, LARGE), 0);
	CHECK_EQ(pml_client_commit(lease, 0, LARGE, 0), 0);
	CHECK(is_durable(0, LARGE));
	CHECK_EQ(flushing_commits(), 1);
	CHECK_EQ(pml_client_return(lease), 0);
	end();
}

static void test_by_commit_alone(void)
{
	begin(PML_DURABLE_ONLY_COMMIT, 0600, 1000);
	struct pml_client_lease *lease = lease_of(FILE_BYTES, true);
	CHECK_EQ(pml_client_lease_durability(lease), PML_CLIENT_DURABLE_BY_COMMIT);
	CHECK_EQ(put(lease, 'b', 0, LARGE), 0);
	CHECK_EQ(pml_client_flush(lease, 0, LARGE), 0);
	CHECK(is_durable(0, LARGE));
	CHECK_EQ(flushing_commits(), 1);
	CHECK_EQ(put(lease, 'c', 0, LARGE), 0);
	CHECK_EQ(pml_client_commit(lease, 0, LARGE, 0), 0);
	CHECK(is_durable(0, LARGE));
	CHECK_EQ(flushing_commits(), 2);
	CHECK_EQ(pml_client_return(lease), 0);
	end();
}

static void test_by_read(void)
{
	begin(PML_DURABLE_ASSERT_READ, 0600, 1000);
	struct pml_client_lease *lease = lease_of(FILE_BYTES, true);
	CHECK_EQ(pml_client_lease_durability(lease), PML_CLIENT_DURABLE_BY_READ);
	CHECK_EQ(put(lease, 'b', 100, LARGE), 0);
	CHECK(!is_durable(100, LARGE));
	CHECK_EQ(pml_client_flush(lease, 100, LARGE), 0);
	CHECK(is_durable(100, LARGE));
	CHECK_EQ(put(lease, 'c', 0, LARGE), 0);
	CHECK_EQ(pml_client_commit(lease, 0, LARGE, 0), 0);
	CHECK(is_durable(0, LARGE));
	CHECK_EQ(flushing_commits(), 0);
	CHECK_EQ(pml_client_return(lease), 0);
	end();
}

/* Who may write a file and not read it gets no key that reads (I6). */
static void test_by_read_needs_permission(void)
{
	begin(PML_DURABLE_ASSERT_READ, 0602, 0);
	struct pml_client_lease *lease = lease_of(FILE_BYTES, true);
	CHECK_EQ(pml_client_lease_durability(lease), PML_CLIENT_DURABLE_BY_COMMIT);
	CHECK_EQ(put(lease, 'b', 0, LARGE), 0);
	CHECK_EQ(pml_client_flush(lease, 0, LARGE), 0);
	CHECK(is_durable(0, LARGE));
	CHECK_EQ(flushing_commits(), 1);
	CHECK_EQ(pml_client_return(lease), 0);
	end();
}

static void test_read_lease_has_no_rule(void)
{
	begin(PML_DURABLE_AUTO, 0600, 1000);
	struct pml_client_lease *lease = lease_of(FILE_BYTES, false);
	CHECK_EQ(pml_client_lease_durability(lease), 0);
	CHECK_EQ(pml_client_flush(lease, 0, BLOCK), -EINVAL);
	CHECK_EQ(pml_client_write_atomic(lease, "12345678", 0), -EINVAL);
	CHECK_EQ(pml_client_return(lease), 0);
	end();
}

static void test_page_granularity(void)
{
	static const struct {
		enum pml_durable_choice choice;
		int err;
	} cases[] = {
		{PML_DURABLE_AUTO, 0},
		{PML_DURABLE_ONLY_COMMIT, 0},
		{PML_DURABLE_ASSERT_READ, -EOPNOTSUPP},
		{PML_DURABLE_NEED_FLUSH, -EOPNOTSUPP},
	};
	begin(PML_DURABLE_AUTO, 0600, 1000);
	pml_client_close(scene.client);
	fake_fs_have_pages(scene.rig.fs);
	for (size_t i = 0; i < PML_ARRAY_LEN(cases); i++) {
		rig_stop_server(&scene.rig);
		scene.rig.args.durable = cases[i].choice;
		CHECK_EQ(rig_start_server(&scene.rig), cases[i].err);
		if (cases[i].err)
			continue;
		scene.client = rig_connect(&scene.rig);
		struct pml_client_lease *lease = lease_of(FILE_BYTES, true);
		CHECK_EQ(pml_client_lease_durability(lease), PML_CLIENT_DURABLE_BY_COMMIT);
		CHECK_EQ(pml_client_return(lease), 0);
		pml_client_close(scene.client);
	}
	scene.client = NULL;
	end();
}

static void test_decide(void)
{
	static const struct {
		enum pml_durable_choice choice;
		bool can_flush, can_persist;
		int err;
		enum pml_durable_rule rule;
	} cases[] = {
		{PML_DURABLE_AUTO, true, true, 0, PML_DURABLE_BY_FLUSH},
		{PML_DURABLE_AUTO, false, true, 0, PML_DURABLE_BY_COMMIT},
		{PML_DURABLE_AUTO, false, false, 0, PML_DURABLE_BY_COMMIT},
		{PML_DURABLE_ONLY_COMMIT, true, true, 0, PML_DURABLE_BY_COMMIT},
		{PML_DURABLE_ASSERT_READ, false, true, 0, PML_DURABLE_BY_READ},
		{PML_DURABLE_ASSERT_READ, true, true, 0, PML_DURABLE_BY_READ},
		{PML_DURABLE_ASSERT_READ, false, false, -EOPNOTSUPP, 0},
		{PML_DURABLE_NEED_FLUSH, true, true, 0, PML_DURABLE_BY_FLUSH},
		{PML_DURABLE_NEED_FLUSH, false, true, -EOPNOTSUPP, 0},
	};
	for (size_t i = 0; i < PML_ARRAY_LEN(cases); i++) {
		enum pml_durable_rule rule = 0;
		enum pml_durable_choice parsed;
		char text[PML_REASON_BYTES] = "";
		CHECK_EQ(pml_durable_decide(cases[i].choice, cases[i].can_flush,
					    cases[i].can_persist, &rule, text),
			 cases[i].err);
		CHECK_EQ(rule, cases[i].rule);
		CHECK(text[0]);
		CHECK_EQ(
			pml_durable_choice_parse(pml_durable_choice_name(cases[i].choice), &parsed),
			0);
		CHECK_EQ(parsed, cases[i].choice);
	}
	enum pml_durable_choice parsed;
	CHECK_EQ(pml_durable_choice_parse("", &parsed), -EINVAL);
	CHECK_EQ(pml_durable_choice_parse("Flush", &parsed), -EINVAL);
}

/* ---- what a flush covers ---------------------------------------------------- */

static void test_flush_behind_the_end_commits(void)
{
	begin(PML_DURABLE_AUTO, 0600, 1000);
	struct pml_client_lease *lease = lease_of(FILE_BYTES + 4 * BLOCK, true);
	CHECK_EQ(put(lease, 'b', FILE_BYTES, BLOCK), 0);
	CHECK_EQ(pml_client_flush(lease, FILE_BYTES, BLOCK), 0);
	CHECK(is_durable(FILE_BYTES, BLOCK));
	CHECK_EQ(flushing_commits(), 1);
	CHECK_EQ(fake_fs_size(scene.rig.fs, scene.ino), FILE_BYTES + BLOCK);
	/* The file has it now. */
	CHECK_EQ(put(lease, 'c', FILE_BYTES, BLOCK), 0);
	CHECK_EQ(pml_client_flush(lease, FILE_BYTES, BLOCK), 0);
	CHECK(is_durable(FILE_BYTES, BLOCK));
	CHECK_EQ(flushing_commits(), 1);
	/* A commit with a gap before it: what is in the gap still needs one. */
	CHECK_EQ(put(lease, 'd', FILE_BYTES + 3 * BLOCK, BLOCK), 0);
	CHECK_EQ(pml_client_commit(lease, FILE_BYTES + 3 * BLOCK, BLOCK, FILE_BYTES + 4 * BLOCK),
		 0);
	CHECK_EQ(flushing_commits(), 2);
	CHECK_EQ(put(lease, 'e', FILE_BYTES + 2 * BLOCK, BLOCK), 0);
	CHECK_EQ(pml_client_flush(lease, FILE_BYTES + 2 * BLOCK, BLOCK), 0);
	CHECK_EQ(flushing_commits(), 3);
	CHECK_EQ(pml_client_return(lease), 0);
	end();
}

static void test_bad_ranges(void)
{
	begin(PML_DURABLE_AUTO, 0600, 1000);
	struct pml_client_lease *lease = lease_of(16 * BLOCK, true);
	CHECK_EQ(pml_client_flush(lease, 0, 0), -EINVAL);
	CHECK_EQ(pml_client_flush(lease, 0, 16 * BLOCK + 1), -EINVAL);
	CHECK_EQ(pml_client_flush(lease, 16 * BLOCK, 1), -EINVAL);
	CHECK_EQ(pml_client_flush(lease, 1, UINT64_MAX), -EINVAL);
	CHECK_EQ(pml_client_flush(lease, 16 * BLOCK - 1, 1), 0);
	CHECK_EQ(pml_client_return(lease), 0);
	end();
}

/* Fragmented: a key for each segment. */
static void test_all_segments(void)
{
	begin(PML_DURABLE_AUTO, 0600, 1000);
	for (int i = 0; i < 2; i++) {
		struct pml_client_lease *lease = lease_of(FILE_BYTES, true);
		CHECK_EQ(put(lease, (char)('b' + i), 0, FILE_BYTES), 0);
		CHECK_EQ(pml_client_flush(lease, 0, FILE_BYTES), 0);
		CHECK(is_durable(0, FILE_BYTES));
		CHECK_EQ(pml_client_return(lease), 0);
		/* And the same by reads. */
		pml_client_close(scene.client);
		rig_stop_server(&scene.rig);
		scene.rig.args.durable = PML_DURABLE_ASSERT_READ;
		REQUIRE(rig_start_server(&scene.rig) == 0);
		scene.client = rig_connect(&scene.rig);
	}
	CHECK_EQ(flushing_commits(), 0);
	end();
}

static void test_queue(void)
{
	begin(PML_DURABLE_AUTO, 0600, 1000);
	struct pml_client_lease *lease = lease_of(FILE_BYTES, true);
	struct pml_client_queue *queue;
	struct pml_client_completion done[4];
	REQUIRE(pml_client_queue_new(scene.client, 2, &queue) == 0);
	CHECK_EQ(put(lease, 'b', 0, LARGE), 0);
	CHECK_EQ(pml_client_queue_flush(queue, lease, 0, BLOCK, 1), 0);
	CHECK_EQ(pml_client_queue_flush(queue, lease, BLOCK, LARGE - BLOCK, 2), 0);
	CHECK_EQ(pml_client_queue_flush(queue, lease, 0, BLOCK, 3), -EAGAIN);
	uint64_t cookies = 0;
	while (pml_client_queue_pending(queue) > 0) {
		int n = pml_client_queue_wait(queue, done, 4, 5000);
		REQUIRE(n > 0);
		for (int i = 0; i < n; i++) {
			CHECK_EQ(done[i].status, 0);
			CHECK_EQ(done[i].bytes, done[i].cookie == 1 ? BLOCK : LARGE - BLOCK);
			cookies |= done[i].cookie;
		}
	}
	CHECK_EQ(cookies, 3);
	CHECK(is_durable(0, LARGE));
	CHECK_EQ(pml_client_queue_flush(queue, lease, 0, FILE_BYTES + 1, 4), -EINVAL);
	CHECK_EQ(pml_client_return(lease), 0);

	/* Behind the end of the file only a commit helps. */
	lease = lease_of(FILE_BYTES + BLOCK, true);
	CHECK_EQ(pml_client_queue_flush(queue, lease, FILE_BYTES, 1, 5), -EOPNOTSUPP);
	CHECK_EQ(pml_client_queue_pending(queue), 0);
	CHECK_EQ(pml_client_return(lease), 0);
	pml_client_queue_free(queue);
	end();
}

/* ---- atomic writes ---------------------------------------------------------- */

static atomic_bool must_stop;
static atomic_uint torn, seen;

static void *watch(void *arg)
{
	while (!atomic_load(&must_stop)) {
		uint64_t value;
		fake_fs_read(scene.rig.fs, scene.ino, 4096, &value, sizeof(value));
		uint8_t first = (uint8_t)value;
		if (value != first * UINT64_C(0x0101010101010101))
			atomic_fetch_add(&torn, 1);
		atomic_fetch_add(&seen, 1);
	}
	return NULL;
}

static void test_atomic_write(void)
{
	begin(PML_DURABLE_AUTO, 0600, 1000);
	struct pml_client_lease *lease = lease_of(16 * BLOCK, true);
	pthread_t thread;
	must_stop = false;
	REQUIRE(pthread_create(&thread, NULL, watch, NULL) == 0);
	for (int i = 0; i < 300; i++) {
		memset(scene.data, i, 8);
		CHECK_EQ(pml_client_write_atomic(lease, scene.data, 4096), 0);
	}
	atomic_store(&must_stop, true);
	pthread_join(thread, NULL);
	CHECK_EQ(torn, 0);
	CHECK(seen > 0);
	CHECK(!is_durable(4096, 8));
	CHECK_EQ(pml_client_flush(lease, 4096, 8), 0);
	CHECK(is_durable(4096, 8));
	CHECK_EQ(pml_client_write_atomic(lease, scene.data, 4097), -EINVAL);
	CHECK_EQ(pml_client_write_atomic(lease, scene.data, 16 * BLOCK), -EINVAL);
	CHECK_EQ(pml_client_write_atomic(lease, scene.data, 16 * BLOCK - 8), 0);
	CHECK_EQ(pml_client_return(lease), 0);
	end();
}

/* ---- what keys let through ---------------------------------------------------- */

/* One operation over a connection of its own, through a key of the right direction or not. */
static int try_raw(unsigned int mode, enum pml_data_kind kind)
{
	struct pml_ep *ep = raw_connect(&scene.rig);
	raw_hello(ep);
	union pml_message msg = {.lease = {.inode = rig_wire_handle(&scene.rig, scene.ino),
					   .len_bytes = BLOCK,
					   .mode = mode}};
	CHECK_EQ(raw_send(ep, &msg, sizeof(msg.lease), PML_WIRE_LEASE), 0);
	CHECK_EQ(raw_recv(ep, &msg, 5000), 0);
	CHECK_EQ(msg.h.status, 0);
	struct pml_wire_segment s;
	memcpy(&s, msg.bytes + sizeof(msg.lease_reply), sizeof(s));
	uint8_t buffer[8] = "overrun";
	struct pml_local_mr *mr;
	if (pml_local_mr_new(ep, buffer, sizeof(buffer), &mr))
		return -EIO;
	const struct pml_data_op op = {
		.kind = kind,
		.mr = kind == PML_DATA_FLUSH ? NULL : mr,
		.buf = kind == PML_DATA_FLUSH ? NULL : buffer,
		.bytes = 8,
		.remote_addr = s.remote_addr,
		.rkey = s.rkey,
	};
	struct pml_completion done = {.status = -EIO};
	CHECK_EQ(pml_ep_post(ep, &op), 0);
	CHECK_EQ(pml_ep_poll(ep, &done, 1, 5000), 1);
	pml_local_mr_free(mr);
	raw_close(ep);
	CHECK(rig_wait_leases(&scene.rig, 0));
	return done.status;
}

static void test_rights(void)
{
	static const struct {
		enum pml_durable_choice choice;
		unsigned int mode;
		enum pml_data_kind kind;
		int status;
	} cases[] = {
		{PML_DURABLE_AUTO, PML_LEASE_WRITE, PML_DATA_FLUSH, 0},
		{PML_DURABLE_AUTO, PML_LEASE_WRITE, PML_DATA_ATOMIC_WRITE, 0},
		{PML_DURABLE_AUTO, PML_LEASE_WRITE, PML_DATA_READ, -EACCES},
		{PML_DURABLE_AUTO, PML_LEASE_READ, PML_DATA_FLUSH, -EACCES},
		{PML_DURABLE_AUTO, PML_LEASE_READ, PML_DATA_ATOMIC_WRITE, -EACCES},
		{PML_DURABLE_ONLY_COMMIT, PML_LEASE_WRITE, PML_DATA_FLUSH, -EACCES},
		{PML_DURABLE_ONLY_COMMIT, PML_LEASE_WRITE, PML_DATA_READ, -EACCES},
		{PML_DURABLE_ASSERT_READ, PML_LEASE_WRITE, PML_DATA_READ, 0},
		{PML_DURABLE_ASSERT_READ, PML_LEASE_WRITE, PML_DATA_FLUSH, -EACCES},
		{PML_DURABLE_ASSERT_READ, PML_LEASE_READ, PML_DATA_WRITE, -EACCES},
	};
	for (size_t i = 0; i < PML_ARRAY_LEN(cases); i++) {
		begin(cases[i].choice, 0606, 0);
		CHECK_EQ(try_raw(cases[i].mode, cases[i].kind), cases[i].status);
		end();
	}
	begin(PML_DURABLE_ASSERT_READ, 0602, 0);
	CHECK_EQ(try_raw(PML_LEASE_WRITE, PML_DATA_READ), -EACCES);
	end();
}

/* ---- the end of a lease -------------------------------------------------------- */

static void test_revoked(void)
{
	begin(PML_DURABLE_AUTO, 0600, 1000);
	/* Nobody answers the recall. */
	pml_client_set_events(scene.client, &(struct pml_client_events){.is_silent = true});
	struct pml_client_lease *lease = lease_of(FILE_BYTES, true);
	CHECK_EQ(put(lease, 'b', 0, BLOCK), 0);
	CHECK_EQ(fake_fs_truncate(scene.rig.fs, scene.ino, 0), 0);
	CHECK_EQ(pml_client_flush(lease, 0, BLOCK), -EKEYREVOKED);
	CHECK_EQ(pml_client_commit(lease, 0, LARGE, 0), -EKEYREVOKED);
	CHECK_EQ(pml_client_write_atomic(lease, scene.data, 0), -EKEYREVOKED);
	CHECK_EQ(pml_client_return(lease), -EKEYREVOKED);
	end();
}

static void *flush_on(void *arg)
{
	struct pml_client_lease *lease = arg;
	int err;
	do {
		err = pml_client_flush(lease, 0, FILE_BYTES);
	} while (err == 0);
	return (void *)(intptr_t)err;
}

/* Flushes under way when the lease is fenced end in words, and touch nothing after it. */
static void test_fenced_under_flushes(void)
{
	begin(PML_DURABLE_AUTO, 0600, 1000);
	pml_client_set_events(scene.client, &(struct pml_client_events){.is_silent = true});
	struct pml_client_lease *lease = lease_of(FILE_BYTES, true);
	pthread_t threads[3];
	for (size_t i = 0; i < PML_ARRAY_LEN(threads); i++)
		REQUIRE(pthread_create(&threads[i], NULL, flush_on, lease) == 0);
	CHECK_EQ(fake_fs_truncate(scene.rig.fs, scene.ino, 0), 0);
	for (size_t i = 0; i < PML_ARRAY_LEN(threads); i++) {
		void *result;
		pthread_join(threads[i], &result);
		CHECK_EQ((int)(intptr_t)result, -EKEYREVOKED);
	}
	CHECK_EQ(pml_client_return(lease), -EKEYREVOKED);
	end();
}

int main(void)
{
	TAP_RUN(test_decide);
	TAP_RUN(test_flush_needs_no_server);
	TAP_RUN(test_commit_picks_who_flushes);
	TAP_RUN(test_by_commit_alone);
	TAP_RUN(test_by_read);
	TAP_RUN(test_by_read_needs_permission);
	TAP_RUN(test_read_lease_has_no_rule);
	TAP_RUN(test_page_granularity);
	TAP_RUN(test_flush_behind_the_end_commits);
	TAP_RUN(test_bad_ranges);
	TAP_RUN(test_all_segments);
	TAP_RUN(test_queue);
	TAP_RUN(test_atomic_write);
	TAP_RUN(test_rights);
	TAP_RUN(test_revoked);
	TAP_RUN(test_fenced_under_flushes);
	return tap_done();
}
