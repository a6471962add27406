/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_service_waits.c -- changes that meet leases, and changes that are sent again
 *
 * A real filesystem in memory (tests/support/pool_rig.h).  What the log of answers does by
 * itself: test_replies.c.
 */
#include <pthread.h>
#include <stdatomic.h>

#include "../../rdma/transport.h"
#include "pml/clock.h"
#include "pool_rig.h"
#include "tap.h"

#define BLOCK 4096u

static struct pool_rig rig;
static struct pml_client *holder, *changer;
static struct pml_client_handle file; /* holder's */

static void start(enum pml_policy policy)
{
	pool_rig_init(&rig);
	for (int op = 0; op < PML_OP_COUNT; op++)
		rig.config.policy[op] = policy;
	pool_rig_start(&rig);
	holder = pool_rig_user(&rig, 0, 0, false);
	changer = pool_rig_user(&rig, 0, 0, false);
	struct pml_client_attr attr;
	if (pml_client_create(holder, "file", 0644, true, &attr) ||
	    pml_client_truncate(holder, "file", 4 * BLOCK))
		BAIL_OUT("no file: %s", pml_client_reason(holder));
	file = attr.handle;
}

static void stop(void)
{
	pool_rig_stop(&rig);
}

static atomic_int nrecalls;

/* "I will return it." */
static bool keep(void *arg, struct pml_client_lease *lease, uint32_t drain_ms)
{
	atomic_fetch_add(&nrecalls, 1);
	return false;
}

static struct pml_client_lease *take(bool is_kept)
{
	const struct pml_client_events events = {.recalled = keep};
	nrecalls = 0;
	pml_client_set_events(holder, is_kept ? &events : NULL);
	struct pml_client_lease *lease;
	if (pml_client_lease(holder, &file, 0, 4 * BLOCK, true, 5000, &lease))
		BAIL_OUT("no lease: %s", pml_client_reason(holder));
	return lease;
}

static bool wait_for_waiters(uint64_t count)
{
	for (int i = 0; i < 5000; i++) {
		struct pml_lease_stats stats;
		pml_lease_stats(rig.mgr, &stats);
		if (stats.waiters == count)
			return true;
		usleep(1000);
	}
	return false;
}

/* What the server says of a lease comes when it comes. */
static void check_is_revoked(const struct pml_client_lease *lease)
{
	for (int i = 0; i < 5000 && pml_client_lease_status(lease) == 0; i++)
		usleep(1000);
	CHECK_EQ(pml_client_lease_status(lease), -EKEYREVOKED);
}

/* A lease that was returned is still in the way until it is fenced. */
static bool wait_for_no_lease(void)
{
	for (int i = 0; i < 5000; i++) {
		struct pml_lease_stats stats;
		pml_lease_stats(rig.mgr, &stats);
		if (stats.leases == 0)
			return true;
		usleep(1000);
	}
	return false;
}

struct truncation {
	struct pml_client *client;
	uint64_t size_bytes;
	atomic_bool is_done;
	int err;
};

static void *run_truncation(void *arg)
{
	struct truncation *t = arg;
	t->err = pml_client_truncate(t->client, "file", t->size_bytes);
	t->is_done = true;
	return NULL;
}

/* ---- policies ----------------------------------------------------------- */

static void test_a_truncate_waits_until_the_lease_is_returned(void)
{
	start(PML_POLICY_REVOKE);
	struct pml_client_lease *lease = take(true);
	struct truncation t = {.client = changer, .size_bytes = BLOCK};
	pthread_t thread;
	REQUIRE(pthread_create(&thread, NULL, run_truncation, &t) == 0);
	CHECK(wait_for_waiters(1));
	/* Meanwhile the same session answers what it is asked: replies overtake. */
	struct pml_client_attr attr;
	CHECK_EQ(pml_client_stat(changer, "file", &attr), 0);
	CHECK_EQ(attr.size_bytes, 4 * BLOCK);
	CHECK(!t.is_done);
	CHECK_EQ(pml_client_mkdir(changer, "meanwhile", 0755, &attr), 0);
	for (int i = 0; i < 1000 && nrecalls == 0; i++)
		usleep(1000);
	CHECK_EQ(pml_client_return(lease), 0);
	pthread_join(thread, NULL);
	CHECK_EQ(t.err, 0);
	CHECK_EQ(nrecalls, 1);
	CHECK_EQ(pml_client_stat(holder, "file", &attr), 0);
	CHECK_EQ(attr.size_bytes, BLOCK);
	stop();
}

static void test_a_holder_that_keeps_it_is_revoked(void)
{
	start(PML_POLICY_REVOKE);
	struct pml_client_lease *lease = take(true);
	CHECK_EQ(pml_client_truncate(changer, "file", 0), 0);
	check_is_revoked(lease);
	(void)pml_client_return(lease);
	stop();
}

static void test_policy_ebusy_says_so_in_words(void)
{
	start(PML_POLICY_EBUSY);
	struct pml_client_lease *lease = take(true);
	CHECK_EQ(pml_client_truncate(changer, "file", 0), -EBUSY);
	CHECK(strstr(pml_client_reason(changer), "policy") != NULL);
	struct pml_client_attr attr;
	CHECK_EQ(pml_client_create(changer, "src", 0644, true, &attr), 0);
	CHECK_EQ(pml_client_truncate(changer, "src", BLOCK), 0);
	CHECK_EQ(pml_client_clone(changer, "src", 0, "file", 0, 0, NULL), -EBUSY);
	CHECK_EQ(nrecalls, 0);
	CHECK_EQ(pml_client_return(lease), 0);
	CHECK(wait_for_no_lease());
	CHECK_EQ(pml_client_truncate(changer, "file", 0), 0);
	CHECK_EQ(pml_client_clone(changer, "src", 0, "file", 0, 0, NULL), 0);
	stop();
}

static void test_policy_block_waits_without_a_clock(void)
{
	start(PML_POLICY_BLOCK);
	struct pml_client_lease *lease = take(true);
	struct truncation t = {.client = changer, .size_bytes = 7};
	pthread_t thread;
	REQUIRE(pthread_create(&thread, NULL, run_truncation, &t) == 0);
	CHECK(wait_for_waiters(1));
	usleep(1000000); /* well behind ack, which does not run */
	CHECK(!t.is_done);
	CHECK_EQ(pml_client_lease_status(lease), 0);
	CHECK_EQ(pml_client_return(lease), 0);
	pthread_join(thread, NULL);
	CHECK_EQ(t.err, 0);
	stop();
}

/* The term is far away: while a call waits, the server must answer renewals like any request. */
static void test_who_waits_notices_a_server_that_falls_silent(void)
{
	start(PML_POLICY_BLOCK);
	struct pml_client_lease *lease = take(true);
	struct pml_client *waiter = pool_rig_again(&rig, holder, 500);
	struct truncation t = {.client = waiter, .size_bytes = 7};
	pthread_t thread;
	REQUIRE(pthread_create(&thread, NULL, run_truncation, &t) == 0);
	CHECK(wait_for_waiters(1));
	usleep(2000000); /* several times what other requests have */
	CHECK(!t.is_done);
	const struct pml_soft_faults silent = {.drop_server_msgs = UINT32_MAX};
	const struct pml_soft_faults none = {0};
	uint64_t from_ms = pml_now_ms();
	pml_soft_set_faults(&silent);
	pthread_join(thread, NULL);
	pml_soft_set_faults(&none);
	CHECK_EQ(t.err, -ENOTCONN);
	CHECK(pml_now_ms() - from_ms < rig.config.term_ms / 3);
	CHECK(wait_for_waiters(0));
	pml_client_close(waiter);
	CHECK_EQ(pml_client_return(lease), 0);
	stop();
}

/* It waits for no one, and its lease ends. */
static void test_a_clients_own_lease_counts_as_returned(void)
{
	start(PML_POLICY_BLOCK);
	struct pml_client_lease *lease = take(true);
	CHECK_EQ(pml_client_truncate(holder, "file", 7), 0);
	check_is_revoked(lease);
	(void)pml_client_return(lease);
	stop();
}

static void test_several_wait_at_once(void)
{
	start(PML_POLICY_BLOCK);
	struct pml_client_attr attr;
	CHECK_EQ(pml_client_create(changer, "src", 0644, true, &attr), 0);
	CHECK_EQ(pml_client_truncate(changer, "src", 2 * BLOCK), 0);
	struct pml_client_lease *lease = take(true);
	struct truncation t[8];
	pthread_t threads[8];
	for (int i = 0; i < 8; i++) {
		t[i] = (struct truncation){.client = changer, .size_bytes = 7};
		REQUIRE(pthread_create(&threads[i], NULL, run_truncation, &t[i]) == 0);
	}
	CHECK(wait_for_waiters(8));
	CHECK_EQ(pml_client_return(lease), 0);
	for (int i = 0; i < 8; i++) {
		pthread_join(threads[i], NULL);
		CHECK_EQ(t[i].err, 0);
	}
	CHECK(wait_for_waiters(0));
	stop();
}

static void test_the_end_of_the_connection_cancels_the_wait(void)
{
	start(PML_POLICY_BLOCK);
	struct pml_client_lease *lease = take(true);
	static const uint8_t id[PML_WIRE_CLIENT_ID_BYTES] = {1};
	struct pml_ep *ep = pool_rig_raw(&rig, holder, id, 1);
	union pml_message msg = {.setattr = {.what = PML_WIRE_SET_SIZE}};
	memcpy(&msg.setattr.inode, file.opaque, sizeof(msg.setattr.inode));
	pml_codec_header(&msg.h, PML_WIRE_SETATTR, sizeof(msg.setattr), 5);
	CHECK_EQ(pml_ep_send(ep, &msg, sizeof(msg.setattr), 1000), 0);
	CHECK(wait_for_waiters(1));
	pml_ep_kill(ep);
	pml_ep_close(ep);
	CHECK(wait_for_waiters(0));
	CHECK_EQ(pml_client_lease_status(lease), 0);

	/* It was not done, and may be asked for again: now it waits once more. */
	ep = pool_rig_raw(&rig, holder, id, 6);
	pml_codec_header(&msg.h, PML_WIRE_SETATTR, sizeof(msg.setattr), 5);
	msg.h.flags = PML_WIRE_RETRY;
	CHECK_EQ(pml_ep_send(ep, &msg, sizeof(msg.setattr), 1000), 0);
	CHECK(wait_for_waiters(1));
	CHECK_EQ(pml_client_return(lease), 0);
	size_t bytes;
	CHECK_EQ(pml_ep_recv(ep, &msg, &bytes, 5000), 0);
	CHECK_EQ(msg.h.request_id, 5);
	CHECK_EQ(msg.h.status, 0);
	CHECK_EQ(msg.attr_reply.attr.size_bytes, 0);
	pml_ep_kill(ep);
	pml_ep_close(ep);
	stop();
}

static void test_a_server_that_stops_lets_nobody_wait(void)
{
	start(PML_POLICY_BLOCK);
	struct pml_client_lease *lease = take(true);
	struct truncation t = {.client = changer, .size_bytes = 7};
	pthread_t thread;
	REQUIRE(pthread_create(&thread, NULL, run_truncation, &t) == 0);
	CHECK(wait_for_waiters(1));
	pml_server_stop(rig.servers[1]);
	pthread_join(thread, NULL);
	CHECK_EQ(t.err, -ENOTCONN);
	CHECK_EQ(pml_client_return(lease), 0);
	pml_client_close(changer);
	rig.nusers = 1;
	stop();
}

/* ---- commits that make a file longer ------------------------------------- */

/*
 * "file" ends in a block that it shares with "twin", and both are read under leases there: so
 * neither may move.  A writer has a lease on what is to come behind the end.
 */
struct growth {
	struct pml_client *writer, *third;
	struct pml_client_lease *reader;  /* holder's, on "file" */
	struct pml_client_lease *twins;	  /* third's, on "twin" */
	struct pml_client_lease *written; /* writer's */
	int err;			  /* of the commit */
	atomic_bool is_done;
};

static struct pml_client_lease *take_of(struct pml_client *client, const char *path,
					uint64_t first_byte, uint64_t len_bytes, bool for_write)
{
	struct pml_client_attr attr;
	struct pml_client_lease *lease;
	if (pml_client_stat(client, path, &attr) ||
	    pml_client_lease(client, &attr.handle, first_byte, len_bytes, for_write, 5000, &lease))
		BAIL_OUT("no lease on %s: %s", path, pml_client_reason(client));
	return lease;
}

static int put(struct pml_client_lease *lease, uint64_t first_byte, const char *text)
{
	char bytes[16];
	const struct iovec iov = {bytes, strlen(text)};
	memcpy(bytes, text, iov.iov_len);
	return pml_client_writev(lease, &iov, 1, first_byte);
}

static int get(struct pml_client_lease *lease, char *ret_bytes, size_t len_bytes)
{
	const struct iovec iov = {ret_bytes, len_bytes};
	return pml_client_readv(lease, &iov, 1, 0);
}

static void growth_start(struct growth *g, bool is_own)
{
	const struct pml_client_events events = {.recalled = keep};
	pml_client_set_events(holder, &events);
	*g = (struct growth){.writer = is_own ? holder : changer};
	g->third = pool_rig_user(&rig, 0, 0, false);
	struct pml_client_attr attr;
	if (pml_client_truncate(holder, "file", 100) ||
	    pml_client_create(holder, "twin", 0644, true, &attr))
		BAIL_OUT("no files: %s", pml_client_reason(holder));
	struct pml_client_lease *first = take_of(holder, "file", 0, 100, true);
	CHECK_EQ(put(first, 0, "shared"), 0);
	CHECK_EQ(pml_client_commit(first, 0, 6, 0), 0);
	CHECK_EQ(pml_client_return(first), 0);
	CHECK_EQ(pml_client_clone(holder, "file", 0, "twin", 0, 0, NULL), 0);
	g->reader = take_of(holder, "file", 0, 100, false);
	g->twins = take_of(g->third, "twin", 0, 100, false);
	g->written = take_of(g->writer, "file", BLOCK, BLOCK, true);
	CHECK_EQ(put(g->written, BLOCK, "grown"), 0);
	nrecalls = 0;
}

/* What must be there when the commit was answered with 0. */
static void check_grown(struct growth *g)
{
	char head[BLOCK + 5], want[BLOCK + 5] = "shared";
	memcpy(want + BLOCK, "grown", 5);
	struct pml_client_attr attr;
	CHECK_EQ(pml_client_stat(g->third, "file", &attr), 0);
	CHECK_EQ(attr.size_bytes, BLOCK + 5);
	CHECK_EQ(pml_client_return(g->written), 0);
	struct pml_client_lease *lease = take_of(g->third, "file", 0, BLOCK + 5, false);
	CHECK_EQ(get(lease, head, sizeof(head)), 0);
	CHECK(memcmp(head, want, sizeof(head)) == 0);
	CHECK_EQ(pml_client_return(lease), 0);
	/* The other file's holder has lost nothing. */
	CHECK_EQ(get(g->twins, head, 100), 0);
	CHECK(memcmp(head, want, 100) == 0);
	CHECK_EQ(pml_client_return(g->twins), 0);
}

static void *run_growth(void *arg)
{
	struct growth *g = arg;
	g->err = pml_client_commit(g->written, BLOCK, 5, BLOCK + 5);
	g->is_done = true;
	return NULL;
}

static void test_a_growing_commit_waits_for_the_reader_of_a_shared_last_block(void)
{
	struct growth g;
	struct pml_client_attr attr;
	pthread_t thread;
	start(PML_POLICY_REVOKE);
	growth_start(&g, false);
	REQUIRE(pthread_create(&thread, NULL, run_growth, &g) == 0);
	CHECK(wait_for_waiters(1));
	/* Meanwhile the session is served. */
	CHECK_EQ(pml_client_stat(g.writer, "file", &attr), 0);
	CHECK_EQ(attr.size_bytes, 100);
	for (int i = 0; i < 1000 && nrecalls == 0; i++)
		usleep(1000);
	CHECK(!g.is_done);
	CHECK_EQ(pml_client_return(g.reader), 0);
	pthread_join(thread, NULL);
	CHECK_EQ(g.err, 0);
	CHECK_EQ(nrecalls, 1);
	CHECK(wait_for_waiters(0));
	check_grown(&g);
	struct pml_lease_stats stats;
	pml_lease_stats(rig.mgr, &stats);
	CHECK_EQ(stats.refused_busy, 0);
	stop();
}

static void test_a_reader_that_keeps_the_shared_last_block_is_revoked(void)
{
	struct growth g;
	start(PML_POLICY_REVOKE);
	growth_start(&g, false);
	run_growth(&g);
	CHECK_EQ(g.err, 0);
	check_is_revoked(g.reader);
	(void)pml_client_return(g.reader);
	check_grown(&g);
	stop();
}

static void test_policy_ebusy_refuses_a_growing_commit_in_words(void)
{
	struct growth g;
	start(PML_POLICY_EBUSY);
	growth_start(&g, false);
	run_growth(&g);
	CHECK_EQ(g.err, -EBUSY);
	CHECK(strstr(pml_client_reason(g.writer), "policy") != NULL);
	CHECK_EQ(nrecalls, 0);
	/* The lease is as it was, also for what moves nothing. */
	CHECK_EQ(pml_client_commit(g.written, BLOCK, 5, 0), 0);
	struct pml_lease_stats stats;
	pml_lease_stats(rig.mgr, &stats);
	CHECK_EQ(stats.refused_busy, 1);
	CHECK_EQ(pml_client_return(g.reader), 0);
	for (int i = 0; i < 5000 && g.err == -EBUSY; i++) {
		run_growth(&g); /* until it is fenced */
		usleep(1000);
	}
	CHECK_EQ(g.err, 0);
	check_grown(&g);
	stop();
}

static void test_policy_block_lets_a_growing_commit_wait_without_a_clock(void)
{
	struct growth g;
	pthread_t thread;
	start(PML_POLICY_BLOCK);
	growth_start(&g, false);
	REQUIRE(pthread_create(&thread, NULL, run_growth, &g) == 0);
	CHECK(wait_for_waiters(1));
	usleep(800000); /* well behind ack, which does not run */
	CHECK(!g.is_done);
	CHECK_EQ(pml_client_lease_status(g.reader), 0);
	CHECK_EQ(pml_client_return(g.reader), 0);
	pthread_join(thread, NULL);
	CHECK_EQ(g.err, 0);
	check_grown(&g);
	stop();
}

static void test_a_growing_commit_ends_its_clients_own_read_lease(void)
{
	struct growth g;
	start(PML_POLICY_BLOCK);
	growth_start(&g, true);
	run_growth(&g);
	CHECK_EQ(g.err, 0);
	check_is_revoked(g.reader);
	(void)pml_client_return(g.reader);
	check_grown(&g);
	stop();
}

static void *run_clone(void *arg)
{
	struct truncation *t = arg;
	t->err = pml_client_clone(t->client, "src", 0, "file", BLOCK, 0, NULL);
	t->is_done = true;
	return NULL;
}

/* Else whoever waits for the writer would wait as long as the reader likes. */
static void test_a_commit_that_waits_does_not_keep_its_own_lease(void)
{
	struct growth g;
	struct pml_client_attr attr;
	pthread_t committer, cloner;
	start(PML_POLICY_REVOKE);
	rig.config.policy[PML_OP_UNSHARE] = PML_POLICY_BLOCK;
	CHECK_EQ(pml_lease_configure(rig.mgr, &rig.config), 0);
	growth_start(&g, false);
	const struct pml_client_events events = {.recalled = keep};
	pml_client_set_events(g.writer, &events);
	REQUIRE(pml_client_create(g.third, "src", 0644, true, &attr) == 0);
	CHECK_EQ(pml_client_truncate(g.third, "src", BLOCK), 0);
	REQUIRE(pthread_create(&committer, NULL, run_growth, &g) == 0);
	CHECK(wait_for_waiters(1));
	struct truncation t = {.client = g.third};
	REQUIRE(pthread_create(&cloner, NULL, run_clone, &t) == 0);
	check_is_revoked(g.written);
	CHECK(!g.is_done);
	CHECK_EQ(pml_client_lease_status(g.reader), 0);
	CHECK_EQ(pml_client_return(g.reader), 0);
	pthread_join(committer, NULL);
	CHECK_EQ(g.err, -EKEYREVOKED);
	pthread_join(cloner, NULL);
	CHECK_EQ(t.err, 0);
	CHECK(wait_for_waiters(0));
	(void)pml_client_return(g.written);
	CHECK_EQ(pml_client_return(g.twins), 0);
	CHECK_EQ(pml_client_stat(g.third, "file", &attr), 0);
	CHECK_EQ(attr.size_bytes, 2 * BLOCK);
	stop();
}

static void test_the_end_of_the_connection_ends_a_commit_that_waits(void)
{
	struct growth g;
	pthread_t thread;
	start(PML_POLICY_BLOCK);
	growth_start(&g, false);
	REQUIRE(pthread_create(&thread, NULL, run_growth, &g) == 0);
	CHECK(wait_for_waiters(1));
	pml_server_stop(rig.servers[1]);
	pthread_join(thread, NULL);
	CHECK(g.err < 0);
	CHECK(wait_for_waiters(0));
	(void)pml_client_return(g.written);
	CHECK_EQ(pml_client_lease_status(g.reader), 0);
	CHECK_EQ(pml_client_return(g.reader), 0);
	CHECK_EQ(pml_client_return(g.twins), 0);
	pml_client_close(changer);
	rig.clients[1] = rig.clients[2];
	rig.servers[1] = rig.servers[2];
	rig.nusers = 2;
	stop();
}

/* ---- sent again --------------------------------------------------------- */

/* Over a raw connection, as a client whose library reconnects. */
struct raw {
	struct pml_ep *ep;
	uint8_t id[PML_WIRE_CLIENT_ID_BYTES];
	struct pml_client_attr root;
};

static void raw_start(struct raw *raw, uint32_t request_id)
{
	raw->ep = pool_rig_raw(&rig, holder, raw->id, request_id);
	if (pml_client_stat(holder, "", &raw->root))
		BAIL_OUT("no root");
}

static void raw_stop(struct raw *raw)
{
	pml_ep_kill(raw->ep);
	pml_ep_close(raw->ep);
}

/* MKDIR "d" is not idempotent: made twice, it is EEXIST. */
static int raw_send_mkdir(struct raw *raw, uint32_t request_id, uint16_t flags)
{
	union pml_message msg = {.create = {.mode = 0755}};
	memcpy(&msg.create.dir, raw->root.handle.opaque, sizeof(msg.create.dir));
	msg.bytes[sizeof(msg.create)] = 'd';
	pml_codec_header(&msg.h, PML_WIRE_MKDIR, sizeof(msg.create) + 1, request_id);
	msg.h.flags = flags;
	return pml_ep_send(raw->ep, &msg, sizeof(msg.create) + 1, 1000);
}

static int raw_mkdir(struct raw *raw, uint32_t request_id, uint16_t flags,
		     union pml_message *ret_reply)
{
	size_t bytes;
	int err = raw_send_mkdir(raw, request_id, flags);
	if (!err)
		err = pml_ep_recv(raw->ep, ret_reply, &bytes, 5000);
	if (err)
		BAIL_OUT("no reply");
	CHECK_EQ(ret_reply->h.request_id, request_id);
	return ret_reply->h.status;
}

static bool wait_for_dir(void)
{
	struct pml_client_attr attr;
	for (int i = 0; i < 5000; i++) {
		if (pml_client_stat(holder, "d", &attr) == 0)
			return true;
		usleep(1000);
	}
	return false;
}

static void test_a_change_whose_reply_was_lost_is_made_once(void)
{
	start(PML_POLICY_REVOKE);
	struct raw raw = {.id = {3}};
	union pml_message reply;
	struct pml_client_attr attr;
	raw_start(&raw, 1);
	/* The next message of the server is the reply. */
	const struct pml_soft_faults lose = {.drop_server_msgs = 1};
	const struct pml_soft_faults none = {0};
	pml_soft_set_faults(&lose);
	CHECK_EQ(raw_send_mkdir(&raw, 5, 0), 0);
	size_t bytes;
	CHECK_EQ(pml_ep_recv(raw.ep, &reply, &bytes, 500), -ETIMEDOUT);
	pml_soft_set_faults(&none);
	CHECK(wait_for_dir());
	raw_stop(&raw);

	raw_start(&raw, 6);
	CHECK_EQ(raw_mkdir(&raw, 5, PML_WIRE_RETRY, &reply), 0);
	CHECK_EQ(pml_client_stat(holder, "d", &attr), 0);
	CHECK_EQ(reply.attr_reply.attr.handle.ino, attr.ino);
	/* As often as it likes; and a new request is a new one. */
	CHECK_EQ(raw_mkdir(&raw, 5, PML_WIRE_RETRY, &reply), 0);
	CHECK_EQ(raw_mkdir(&raw, 8, 0, &reply), -EEXIST);
	CHECK_EQ(raw_mkdir(&raw, 8, PML_WIRE_RETRY, &reply), -EEXIST);
	raw_stop(&raw);
	stop();
}

static void test_the_library_sends_a_change_again_by_itself(void)
{
	start(PML_POLICY_REVOKE);
	const struct pml_soft_faults lose = {.drop_server_msgs = 1};
	struct pml_client *client = pool_rig_again(&rig, holder, 700);
	pml_client_set_reconnect(client, 5000);
	struct pml_client_attr attr, seen;
	pml_soft_set_faults(&lose);
	CHECK_EQ(pml_client_mkdir(client, "d", 0755, &attr), 0);
	CHECK_EQ(pml_client_stat(client, "d", &seen), 0);
	CHECK_EQ(seen.ino, attr.ino);
	CHECK_EQ(pml_client_mkdir(client, "d", 0755, &attr), -EEXIST);
	pml_client_close(client);
	stop();
}

static void test_a_change_that_never_arrived_is_made(void)
{
	start(PML_POLICY_REVOKE);
	struct raw raw = {.id = {3}};
	union pml_message reply;
	raw_start(&raw, 1);
	raw_stop(&raw);
	raw_start(&raw, 6);
	CHECK_EQ(raw_mkdir(&raw, 5, PML_WIRE_RETRY, &reply), 0);
	raw_stop(&raw);
	stop();
}

static void test_a_server_that_knows_nothing_says_so(void)
{
	start(PML_POLICY_REVOKE);
	struct raw raw = {.id = {3}};
	union pml_message reply;
	struct pml_client_attr attr;
	raw_start(&raw, 6);
	CHECK_EQ(raw_mkdir(&raw, 5, PML_WIRE_RETRY, &reply), -EREMOTEIO);
	CHECK(reply.h.bytes > sizeof(reply.h));
	CHECK(memmem(reply.bytes, reply.h.bytes, "not known", 9) != NULL);
	CHECK_EQ(pml_client_stat(holder, "d", &attr), -ENOENT);
	raw_stop(&raw);
	stop();
}

static void test_the_old_connection_of_a_client_ends(void)
{
	start(PML_POLICY_REVOKE);
	struct raw old = {.id = {3}}, again = {.id = {3}}, other = {.id = {4}};
	union pml_message reply;
	size_t bytes;
	raw_start(&old, 1);
	raw_start(&other, 1);
	raw_start(&again, 6);
	CHECK_EQ(pml_ep_recv(old.ep, &reply, &bytes, 5000), -ENOTCONN);
	CHECK_EQ(raw_mkdir(&again, 9, 0, &reply), 0);
	CHECK_EQ(raw_mkdir(&other, 9, PML_WIRE_RETRY, &reply), -EEXIST);
	raw_stop(&old);
	raw_stop(&again);
	raw_stop(&other);
	stop();
}

/* ---- several addresses --------------------------------------------------- */

/* Both servers of start() are addresses of one service, as of one mount. */
static void start_addresses(void)
{
	const struct pml_access_args args = {.client_cred = {.uid = 0}};
	char reason[PML_REASON_BYTES];
	pool_rig_init(&rig);
	if (pml_access_new(&args, &rig.access, reason))
		BAIL_OUT("no access: %s", reason);
	pool_rig_start(&rig);
	holder = pool_rig_user(&rig, 0, 0, false);
	changer = pool_rig_user(&rig, 0, 0, false);
}

static void test_a_change_is_made_once_also_by_another_address(void)
{
	start_addresses();
	struct raw raw = {.id = {3}};
	union pml_message reply;
	struct pml_client_attr attr;
	raw_start(&raw, 1);
	const struct pml_soft_faults lose = {.drop_server_msgs = 1};
	const struct pml_soft_faults none = {0};
	pml_soft_set_faults(&lose);
	CHECK_EQ(raw_send_mkdir(&raw, 5, 0), 0);
	size_t bytes;
	CHECK_EQ(pml_ep_recv(raw.ep, &reply, &bytes, 500), -ETIMEDOUT);
	pml_soft_set_faults(&none);
	CHECK(wait_for_dir());

	/* The old connection is still there: it ends, as on one address. */
	struct raw again = {.id = {3}, .root = raw.root};
	again.ep = pool_rig_raw(&rig, changer, again.id, 6);
	CHECK_EQ(pml_ep_recv(raw.ep, &reply, &bytes, 5000), -ENOTCONN);
	raw_stop(&raw);
	CHECK_EQ(raw_mkdir(&again, 5, PML_WIRE_RETRY, &reply), 0);
	CHECK_EQ(pml_client_stat(holder, "d", &attr), 0);
	CHECK_EQ(reply.attr_reply.attr.handle.ino, attr.ino);
	CHECK_EQ(raw_mkdir(&again, 8, 0, &reply), -EEXIST);
	raw_stop(&again);

	/* And back: what was answered over there is known here. */
	raw_start(&raw, 9);
	CHECK_EQ(raw_mkdir(&raw, 8, PML_WIRE_RETRY, &reply), -EEXIST);
	raw_stop(&raw);
	stop();
}

/* What an address has answered outlives it. */
static void test_the_log_outlives_an_address(void)
{
	start_addresses();
	struct raw raw = {.id = {3}};
	union pml_message reply;
	raw_start(&raw, 1);
	CHECK_EQ(raw_mkdir(&raw, 5, 0, &reply), 0);
	raw_stop(&raw);
	pml_client_close(holder);
	pml_server_stop(rig.servers[0]);
	rig.clients[0] = holder = rig.clients[1];
	rig.servers[0] = rig.servers[1];
	rig.nusers = 1;
	raw_start(&raw, 6);
	CHECK_EQ(raw_mkdir(&raw, 5, PML_WIRE_RETRY, &reply), 0);
	raw_stop(&raw);
	stop();
}

int main(void)
{
	TAP_RUN(test_a_truncate_waits_until_the_lease_is_returned);
	TAP_RUN(test_a_holder_that_keeps_it_is_revoked);
	TAP_RUN(test_policy_ebusy_says_so_in_words);
	TAP_RUN(test_policy_block_waits_without_a_clock);
	TAP_RUN(test_who_waits_notices_a_server_that_falls_silent);
	TAP_RUN(test_a_clients_own_lease_counts_as_returned);
	TAP_RUN(test_several_wait_at_once);
	TAP_RUN(test_the_end_of_the_connection_cancels_the_wait);
	TAP_RUN(test_a_server_that_stops_lets_nobody_wait);
	TAP_RUN(test_a_growing_commit_waits_for_the_reader_of_a_shared_last_block);
	TAP_RUN(test_a_reader_that_keeps_the_shared_last_block_is_revoked);
	TAP_RUN(test_policy_ebusy_refuses_a_growing_commit_in_words);
	TAP_RUN(test_policy_block_lets_a_growing_commit_wait_without_a_clock);
	TAP_RUN(test_a_growing_commit_ends_its_clients_own_read_lease);
	TAP_RUN(test_a_commit_that_waits_does_not_keep_its_own_lease);
	TAP_RUN(test_the_end_of_the_connection_ends_a_commit_that_waits);
	TAP_RUN(test_a_change_whose_reply_was_lost_is_made_once);
	TAP_RUN(test_the_library_sends_a_change_again_by_itself);
	TAP_RUN(test_a_change_that_never_arrived_is_made);
	TAP_RUN(test_a_server_that_knows_nothing_says_so);
	TAP_RUN(test_the_old_connection_of_a_client_ends);
	TAP_RUN(test_a_change_is_made_once_also_by_another_address);
	TAP_RUN(test_the_log_outlives_an_address);
	return tap_done();
}
