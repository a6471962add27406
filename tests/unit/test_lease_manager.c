/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_lease_manager.c -- the lease manager with its real threads, over a fake
 * filesystem (tests/support/lease_fake_fs.h) and holders that the test plays
 */
#include <pthread.h>
#include <semaphore.h>
#include <stdint.h>
#include <string.h>
#include <time.h>

#include "../support/lease_fake_fs.h"
#include "../tap.h"
#include "pml/clock.h"
#include "pml/lease.h"

#define BLOCK PML_BLOCK_BYTES

/* ---- a holder ------------------------------------------------------------- */

/* A session's transport: what the manager asked of it, and how it misbehaves. */
struct holder {
	struct pml_fs *fs;
	uint64_t session;
	atomic_uint keys_made, keys_dead, recalls, revokes, released, evicted;
	atomic_uint in_callback;
	_Atomic uint64_t recalled_lease;
	atomic_int revoked_why;
	atomic_uint fail_key_new;    /* the Nth key from now on fails */
	atomic_uint fail_key_fences; /* the next N soft fences fail */
	atomic_bool fail_all_fences;
	atomic_uint fence_ms; /* how long each fence takes */
	atomic_uint hard_fences, cooperative_fences;
	sem_t *hold_key_new; /* waited for in key_new(), if set */
	atomic_bool is_in_key_new;
	bool keeps_connection; /* although it was evicted */
};

struct key {
	struct pml_segment segment;
};

static void sleep_us(unsigned int us)
{
	struct timespec ts = {.tv_sec = us / 1000000, .tv_nsec = (long)(us % 1000000) * 1000};
	nanosleep(&ts, NULL);
}

static int key_new(void *arg, const struct pml_segment *segment, bool for_write, bool may_read,
		   uint32_t *ret_rkey, void **ret_key)
{
	struct holder *h = arg;
	(void)for_write;
	CHECK_EQ(h->released, 0);
	if (h->hold_key_new) {
		h->is_in_key_new = true;
		sem_wait(h->hold_key_new);
	}
	if (h->fail_key_new > 0 && --h->fail_key_new == 0)
		return -ENOSPC;
	struct key *key = calloc(1, sizeof(*key));
	if (!key)
		return -ENOMEM;
	key->segment = *segment;
	fake_fs_key_made(h->fs, segment);
	*ret_rkey = ++h->keys_made;
	*ret_key = key;
	return 0;
}

static int key_fence(void *arg, void *fenced, enum pml_fence_step step, bool is_cooperative)
{
	struct holder *h = arg;
	struct key *key = fenced;
	CHECK_EQ(h->released, 0);
	if (h->fence_ms)
		sleep_us(h->fence_ms * 1000);
	if (h->fail_all_fences)
		return -EIO;
	if (step == PML_FENCE_KEY && h->fail_key_fences > 0) {
		h->fail_key_fences--;
		return -EIO;
	}
	h->hard_fences += step == PML_FENCE_CONNECTION;
	h->cooperative_fences += is_cooperative;
	fake_fs_key_dead(h->fs, &key->segment);
	h->keys_dead++;
	free(key);
	return 0;
}

static void enter_callback(struct holder *h)
{
	CHECK_EQ(h->released, 0);
	CHECK_EQ(atomic_fetch_add(&h->in_callback, 1), 0);
}

static void leave_callback(struct holder *h)
{
	atomic_fetch_sub(&h->in_callback, 1);
}

static void recall(void *arg, uint64_t lease_id, enum pml_layout_op op, uint32_t drain_ms)
{
	struct holder *h = arg;
	(void)op;
	(void)drain_ms;
	enter_callback(h);
	h->recalled_lease = lease_id;
	h->recalls++;
	leave_callback(h);
}

static void revoked(void *arg, uint64_t lease_id, enum pml_end_reason why)
{
	struct holder *h = arg;
	(void)lease_id;
	enter_callback(h);
	h->revoked_why = (int)why;
	h->revokes++;
	leave_callback(h);
}

static void end_session_of(const struct holder *h);

static void released(void *arg)
{
	struct holder *h = arg;
	enter_callback(h);
	leave_callback(h);
	h->released++;
}

/* As a connection that is killed: its serving thread ends the session. */
static void evicted(void *arg)
{
	struct holder *h = arg;
	enter_callback(h);
	h->evicted++;
	leave_callback(h);
	if (!h->keeps_connection)
		end_session_of(h);
}

static const struct pml_holder_ops holder_ops = {
	.key_new = key_new,
	.key_fence = key_fence,
	.recall = recall,
	.revoked = revoked,
	.released = released,
	.evicted = evicted,
};

/* ---- one manager ---------------------------------------------------------- */

static struct pml_fs *fs;
static struct pml_lease_manager *mgr;
static atomic_uint changed_hooks, waiting_hooks;
static _Atomic uint64_t changed_first, changed_len;

static void end_session_of(const struct holder *h)
{
	pml_session_end(mgr, h->session, PML_END_EVICTED);
}

static void contents_changed(void *arg, uint64_t ino, uint64_t first_byte, uint64_t len_bytes,
			     bool may_wait)
{
	(void)arg;
	(void)ino;
	/* A write lease was granted. */
	if (len_bytes == 0)
		return;
	waiting_hooks += may_wait;
	changed_first = first_byte;
	changed_len = len_bytes;
	changed_hooks++;
}

static void start(void (*adjust)(struct pml_lease_config *config))
{
	struct pml_lease_config config;
	pml_lease_config_default(&config, 1ull << 30);
	config.ack_ms = 100;
	config.drain_ms = 300;
	config.fence_ms = 1000;
	if (adjust)
		adjust(&config);
	fs = fake_fs_new();
	changed_hooks = 0;
	waiting_hooks = 0;
	struct pml_lease_hooks hooks = {.contents_changed = contents_changed};
	if (pml_lease_manager_new(fs, &config, &hooks, &mgr) != 0)
		BAIL_OUT("manager");
}

static void check_fs(void)
{
	const char *what = NULL;
	CHECK_EQ(fake_fs_violations(fs, &what), 0);
	if (what)
		TAP_FAIL("%s", what);
}

static void finish(void)
{
	CHECK_EQ(pml_lease_manager_free(mgr), 0);
	check_fs();
	CHECK_EQ(fake_fs_pins(fs), 0);
	for (uint64_t ino = 0; ino < FAKE_INODES; ino++)
		CHECK_EQ(fake_fs_refs(fs, ino), 0);
	fake_fs_free(fs);
}

static void holder_start(struct holder *h)
{
	memset(h, 0, sizeof(*h));
	h->fs = fs;
	h->revoked_why = -1;
	if (pml_session_new(mgr, &holder_ops, h, "test:1", 0, &h->session) != 0)
		BAIL_OUT("session");
}

#define WAIT_FOR(cond)                                                                             \
	do {                                                                                       \
		uint64_t until_ = pml_now_ms() + 10000;                                            \
		while (!(cond) && pml_now_ms() < until_)                                           \
			sleep_us(500);                                                             \
		CHECK(cond);                                                                       \
	} while (0)

static struct pml_lease_stats stats(void)
{
	struct pml_lease_stats got;
	pml_lease_stats(mgr, &got);
	return got;
}

/* An operation of a local process, run by the calling thread. */
struct op {
	struct pml_waiter w;
	struct pml_layout_change change;
	sem_t resumed;
};

static void op_resume(struct pml_waiter *w)
{
	struct op *op = PML_CONTAINER_OF(w, struct op, w);
	sem_post(&op->resumed);
}

static void op_init(struct op *op, uint64_t ino, uint64_t first, uint64_t end)
{
	memset(op, 0, sizeof(*op));
	op->w.resume = op_resume;
	op->w.pid = 4711;
	strcpy(op->w.name, "dd");
	op->change = (struct pml_layout_change){
		.ino = ino, .first_byte = first, .end_byte = end, .op = PML_OP_PUNCH};
	sem_init(&op->resumed, 0, 0);
}

static int op_try(struct op *op)
{
	return fake_fs_change(fs, &op->change, &op->w);
}

/* Ends @op with its result and forgets it. */
static void op_done(struct op *op)
{
	fake_fs_done(fs, &op->w);
	sem_destroy(&op->resumed);
}

static bool op_wait(struct op *op, unsigned int ms)
{
	struct timespec ts;
	clock_gettime(CLOCK_REALTIME, &ts);
	uint64_t ns = (uint64_t)ts.tv_nsec + (uint64_t)ms * 1000000u;
	ts.tv_sec += (time_t)(ns / 1000000000u);
	ts.tv_nsec = (long)(ns % 1000000000u);
	return sem_timedwait(&op->resumed, &ts) == 0;
}

/* ---- granting ------------------------------------------------------------- */

static void test_a_grant_names_every_segment(void)
{
	start(NULL);
	fake_fs_set_extent(fs, 2);
	struct holder h;
	holder_start(&h);
	struct pml_grant grant;
	CHECK_EQ(pml_lease_acquire(mgr, h.session, 3, 100, 4 * BLOCK, PML_LEASE_READ, &grant), 0);
	CHECK_EQ(grant.nsegments, 3);
	CHECK_EQ(grant.first_byte, 100);
	CHECK_EQ(grant.end_byte, 100 + 4 * BLOCK);
	CHECK_EQ(grant.file_size, FAKE_FILE_BYTES);
	CHECK_EQ(grant.term_ms, 30000);
	uint64_t next = 100;
	for (uint32_t i = 0; i < grant.nsegments; i++) {
		CHECK_EQ(grant.segments[i].first_byte, next);
		CHECK_EQ(grant.segments[i].rkey, i + 1);
		CHECK_EQ(grant.segments[i].remote_addr - grant.segments[0].remote_addr, next - 100);
		next += grant.segments[i].len_bytes;
	}
	CHECK_EQ(next, grant.end_byte);
	CHECK_EQ(fake_fs_pins(fs), 5);
	CHECK_EQ(fake_fs_refs(fs, 3), 1);
	CHECK(fake_fs_may_be_leased(fs, 3));

	CHECK_EQ(pml_lease_return(mgr, h.session, grant.lease_id), 0);
	WAIT_FOR(stats().leases == 0);
	CHECK_EQ(h.cooperative_fences, 3);
	CHECK_EQ(h.revokes, 0);
	CHECK(!fake_fs_may_be_leased(fs, 3));
	finish();
	CHECK_EQ(h.released, 1);
}

/* I5: a writer owns whole blocks, so two writers never meet inside one. */
static void test_a_write_lease_is_rounded_out_to_whole_blocks(void)
{
	start(NULL);
	struct holder h;
	holder_start(&h);
	struct pml_grant grant;
	CHECK_EQ(pml_lease_acquire(mgr, h.session, 3, BLOCK + 100, 1, PML_LEASE_WRITE, &grant), 0);
	CHECK_EQ(grant.first_byte, BLOCK);
	CHECK_EQ(grant.end_byte, 2 * BLOCK);
	struct pml_grant other;
	CHECK_EQ(pml_lease_acquire(mgr, h.session, 3, BLOCK + 4000, 10, PML_LEASE_READ, &other),
		 -EDEADLK);
	finish();
}

static void test_a_grant_ends_at_the_end_of_the_file_or_of_its_segments(void)
{
	start(NULL);
	struct holder h;
	holder_start(&h);
	struct pml_grant grant;
	fake_fs_set_size(fs, 1, BLOCK + 5);
	CHECK_EQ(pml_lease_acquire(mgr, h.session, 1, 0, 1 << 20, PML_LEASE_READ, &grant), 0);
	CHECK_EQ(grant.end_byte, BLOCK + 5);
	CHECK_EQ(stats().pinned_bytes, 2 * BLOCK);
	CHECK_EQ(pml_lease_acquire(mgr, h.session, 1, BLOCK + 5, 1, PML_LEASE_READ, &grant),
		 -ENODATA);

	fake_fs_set_extent(fs, 1);
	CHECK_EQ(pml_lease_acquire(mgr, h.session, 2, 1, FAKE_FILE_BYTES, PML_LEASE_WRITE, &grant),
		 0);
	CHECK_EQ(grant.nsegments, PML_LEASE_SEGMENTS_MAX);
	CHECK_EQ(grant.end_byte, (uint64_t)PML_LEASE_SEGMENTS_MAX * BLOCK);
	finish();
}

static void test_bad_ranges_inodes_and_sessions_are_refused(void)
{
	start(NULL);
	struct holder h;
	holder_start(&h);
	struct pml_grant g;
	uint64_t s = h.session;
	CHECK_EQ(pml_lease_acquire(mgr, s, 1, 0, 0, PML_LEASE_READ, &g), -EINVAL);
	CHECK_EQ(pml_lease_acquire(mgr, s, 1, 0, PML_LEASE_BYTES_MAX + 1, PML_LEASE_READ, &g),
		 -EINVAL);
	CHECK_EQ(pml_lease_acquire(mgr, s, 1, UINT64_MAX - 1, 5, PML_LEASE_READ, &g), -EFBIG);
	CHECK_EQ(pml_lease_acquire(mgr, s, 1, INT64_MAX, 1, PML_LEASE_READ, &g), -EFBIG);
	CHECK_EQ(pml_lease_acquire(mgr, s, FAKE_INODES, 0, 1, PML_LEASE_READ, &g), -ENOENT);
	CHECK_EQ(pml_lease_acquire(mgr, s + 1, 1, 0, 1, PML_LEASE_READ, &g), -ESTALE);
	CHECK_EQ(stats().leases, 0);
	CHECK_EQ(fake_fs_refs(fs, 1), 0);
	finish();
}

static void test_a_failed_acquire_leaves_no_pin_no_key_no_reference(void)
{
	start(NULL);
	fake_fs_set_extent(fs, 1);
	struct holder h;
	holder_start(&h);
	struct pml_grant grant;
	fake_fs_fail_pin(fs, -ENOSPC);
	CHECK_EQ(pml_lease_acquire(mgr, h.session, 1, 0, 4 * BLOCK, PML_LEASE_WRITE, &grant),
		 -ENOSPC);
	CHECK_EQ(stats().leases, 0);
	CHECK_EQ(fake_fs_refs(fs, 1), 0);

	for (unsigned int n = 1; n <= 4; n++) {
		h.fail_key_new = n;
		CHECK_EQ(
			pml_lease_acquire(mgr, h.session, 1, 0, 4 * BLOCK, PML_LEASE_WRITE, &grant),
			-ENOSPC);
		WAIT_FOR(fake_fs_refs(fs, 1) == 0);
		CHECK_EQ(fake_fs_pins(fs), 0);
		CHECK_EQ(h.keys_made, h.keys_dead);
	}
	CHECK_EQ(pml_lease_acquire(mgr, h.session, 1, 0, 4 * BLOCK, PML_LEASE_WRITE, &grant), 0);
	finish();
	CHECK_EQ(h.keys_made, h.keys_dead);
}

struct acquire_args {
	struct holder *h;
	int err;
};

static void *acquire_in_thread(void *arg)
{
	struct acquire_args *args = arg;
	struct pml_grant grant;
	args->err = pml_lease_acquire(mgr, args->h->session, 1, 0, BLOCK, PML_LEASE_READ, &grant);
	return NULL;
}

static void test_a_session_that_ends_while_a_lease_is_granted_is_released_after_it(void)
{
	start(NULL);
	struct holder h;
	holder_start(&h);
	sem_t hold;
	sem_init(&hold, 0, 0);
	h.hold_key_new = &hold;
	struct acquire_args args = {.h = &h};
	pthread_t thread;
	REQUIRE(pthread_create(&thread, NULL, acquire_in_thread, &args) == 0);
	WAIT_FOR(h.is_in_key_new);
	pml_session_end(mgr, h.session, PML_END_SESSION);
	sleep_us(20000);
	CHECK_EQ(h.released, 0);
	sem_post(&hold);
	pthread_join(thread, NULL);
	CHECK_EQ(args.err, -ESTALE);
	WAIT_FOR(h.released == 1);
	CHECK_EQ(h.keys_made, h.keys_dead);
	CHECK_EQ(fake_fs_pins(fs), 0);
	sem_destroy(&hold);
	finish();
	CHECK_EQ(h.released, 1);
}

/* ---- breaks --------------------------------------------------------------- */

static void test_a_break_parks_and_goes_on_after_the_return(void)
{
	start(NULL);
	struct holder h;
	holder_start(&h);
	struct pml_grant grant;
	CHECK_EQ(pml_lease_acquire(mgr, h.session, 1, 0, 4 * BLOCK, PML_LEASE_WRITE, &grant), 0);
	struct op op;
	op_init(&op, 1, BLOCK, 2 * BLOCK);
	CHECK_EQ(op_try(&op), -EINPROGRESS);
	WAIT_FOR(h.recalls == 1);
	CHECK_EQ(h.recalled_lease, grant.lease_id);
	CHECK_EQ(pml_lease_ack(mgr, h.session, grant.lease_id), 0);
	CHECK(!op_wait(&op, 150));
	CHECK_EQ(fake_fs_pins(fs), 4);
	CHECK_EQ(pml_lease_return(mgr, h.session, grant.lease_id), 0);
	REQUIRE(op_wait(&op, 5000));
	CHECK_EQ(fake_fs_pins(fs), 0);
	/* Remote bytes are announced before the holder is answered, and before it goes on. */
	CHECK_EQ(waiting_hooks, 1);
	CHECK_EQ(changed_hooks, 2);
	CHECK_EQ(changed_len, 4 * BLOCK);
	CHECK_EQ(op_try(&op), 0);
	op_done(&op);
	CHECK_EQ(stats().returned, 1);
	CHECK_EQ(stats().revoked, 0);
	finish();
}

static void test_silent_and_slow_holders_are_revoked_in_time_and_told_why(void)
{
	start(NULL);
	struct holder h;
	holder_start(&h);
	for (int is_acked = 0; is_acked < 2; is_acked++) {
		struct pml_grant grant;
		CHECK_EQ(pml_lease_acquire(mgr, h.session, 1, 0, BLOCK, PML_LEASE_READ, &grant), 0);
		struct op op;
		op_init(&op, 1, 0, BLOCK);
		uint64_t began_ms = pml_now_ms();
		CHECK_EQ(op_try(&op), -EINPROGRESS);
		if (is_acked)
			CHECK_EQ(pml_lease_ack(mgr, h.session, grant.lease_id), 0);
		REQUIRE(op_wait(&op, 5000));
		uint64_t took_ms = pml_now_ms() - began_ms;
		CHECK(took_ms >= (is_acked ? 300 : 100));
		CHECK(took_ms < (is_acked ? 2300 : 2100));
		CHECK_EQ(op_try(&op), 0);
		op_done(&op);
		CHECK_EQ(h.revokes, is_acked + 1);
		CHECK_EQ(h.revoked_why, is_acked ? PML_END_CONFLICT : PML_END_SILENT);
	}
	CHECK_EQ(h.cooperative_fences, 0);
	CHECK_EQ(stats().revoked, 2);
	finish();
}

static void block_punch(struct pml_lease_config *config)
{
	config->policy[PML_OP_PUNCH] = PML_POLICY_BLOCK;
	config->block_deadline_ms = 200;
}

static void test_a_wait_ends_by_deadline_or_cancel_and_the_lease_lives_on(void)
{
	start(block_punch);
	struct holder h;
	holder_start(&h);
	struct pml_grant grant;
	CHECK_EQ(pml_lease_acquire(mgr, h.session, 1, 0, BLOCK, PML_LEASE_READ, &grant), 0);
	struct op op;
	op_init(&op, 1, 0, BLOCK);
	CHECK_EQ(op_try(&op), -EINPROGRESS);
	REQUIRE(op_wait(&op, 5000));
	CHECK_EQ(op_try(&op), -EBUSY);
	op_done(&op);

	op_init(&op, 1, 0, BLOCK);
	CHECK_EQ(op_try(&op), -EINPROGRESS);
	fake_fs_cancel(fs, &op.w);
	REQUIRE(op_wait(&op, 5000));
	CHECK_EQ(op_try(&op), -EINTR);
	op_done(&op);
	CHECK_EQ(stats().leases, 1);
	CHECK_EQ(stats().revoked, 0);
	finish();
}

static void short_term(struct pml_lease_config *config)
{
	config->term_ms = 150;
}

static void test_a_session_dies_without_renewal_and_lives_with_it(void)
{
	start(short_term);
	struct holder silent, alive;
	holder_start(&silent);
	holder_start(&alive);
	struct pml_grant grant;
	CHECK_EQ(pml_lease_acquire(mgr, silent.session, 1, 0, BLOCK, PML_LEASE_READ, &grant), 0);
	CHECK_EQ(pml_lease_acquire(mgr, alive.session, 1, 0, BLOCK, PML_LEASE_READ, &grant), 0);
	for (int i = 0; i < 40 && silent.revokes == 0; i++) {
		sleep_us(20000);
		pml_session_renew(mgr, alive.session);
	}
	CHECK_EQ(silent.revokes, 1);
	CHECK_EQ(silent.revoked_why, PML_END_EXPIRED);
	CHECK_EQ(alive.revokes, 0);
	CHECK_EQ(stats().sessions_died, 1);
	CHECK_EQ(silent.released, 0);
	pml_session_end(mgr, silent.session, PML_END_SESSION);
	WAIT_FOR(silent.released == 1);
	finish();
	CHECK_EQ(alive.released, 1);
}

/* ---- fences --------------------------------------------------------------- */

static void test_a_failed_fence_climbs_the_ladder_and_unpins_only_then(void)
{
	start(NULL);
	struct holder h;
	holder_start(&h);
	struct pml_grant grant;
	CHECK_EQ(pml_lease_acquire(mgr, h.session, 1, 0, BLOCK, PML_LEASE_READ, &grant), 0);
	h.fail_key_fences = 1;
	CHECK_EQ(pml_lease_return(mgr, h.session, grant.lease_id), 0);
	WAIT_FOR(stats().leases == 0);
	CHECK_EQ(h.hard_fences, 1);
	CHECK_EQ(stats().fence_escalations, 1);

	/* The last step fails for a while, then works. */
	CHECK_EQ(pml_lease_acquire(mgr, h.session, 1, 0, BLOCK, PML_LEASE_READ, &grant), 0);
	h.fail_all_fences = true;
	CHECK_EQ(pml_lease_return(mgr, h.session, grant.lease_id), 0);
	sleep_us(150000);
	CHECK_EQ(fake_fs_pins(fs), 1);
	h.fail_all_fences = false;
	WAIT_FOR(stats().leases == 0);
	CHECK_EQ(stats().fences_stuck, 0);
	finish();
}

static uint64_t must_acquire(struct holder *h, uint64_t ino, uint64_t len_bytes,
			     enum pml_lease_mode mode)
{
	struct pml_grant grant;
	if (pml_lease_acquire(mgr, h->session, ino, 0, len_bytes, mode, &grant) != 0)
		BAIL_OUT("acquire");
	return grant.lease_id;
}

static bool give_back_begins(struct holder *h, uint64_t lease_id)
{
	bool is_left;
	CHECK_EQ(pml_lease_return_begin(mgr, h->session, lease_id, &is_left), 0);
	return is_left;
}

/* I3: it stays pinned until then, and is gone at once afterwards. */
static void test_who_takes_a_return_fences_it(void)
{
	start(NULL);
	struct holder h;
	holder_start(&h);
	sleep_us(50000); /* a thread that only begins would look once */
	for (int mode = PML_LEASE_READ; mode <= PML_LEASE_WRITE; mode++) {
		uint64_t id = must_acquire(&h, 1, 3 * BLOCK, (enum pml_lease_mode)mode);
		h.keys_dead = 0;
		CHECK(give_back_begins(&h, id));
		sleep_us(30000);
		CHECK_EQ(h.keys_dead, 0);
		CHECK_EQ(fake_fs_pins(fs), 3);
		pml_lease_return_finish(mgr, id);
		CHECK(h.keys_dead > 0);
		CHECK_EQ(fake_fs_pins(fs), 0);
		pml_lease_return_finish(mgr, id); /* harmless */
	}
	CHECK_EQ(h.cooperative_fences, h.keys_made);
	CHECK_EQ(stats().returned, 2);
	CHECK_EQ(waiting_hooks, 1);
	CHECK_EQ(changed_hooks, 2);
	bool is_left = true;
	CHECK_EQ(pml_lease_return_begin(mgr, h.session, 4711, &is_left), -ESTALE);
	CHECK(!is_left);
	finish();
	CHECK_EQ(h.revokes, 0);
	CHECK_EQ(h.released, 1);
}

static void test_a_return_that_is_left_is_fenced_when_somebody_comes(void)
{
	start(NULL);
	struct holder h, other;
	holder_start(&h);
	holder_start(&other);
	uint64_t id = must_acquire(&h, 1, BLOCK, PML_LEASE_READ);
	CHECK(give_back_begins(&h, id));
	struct op op;
	op_init(&op, 1, 0, BLOCK);
	CHECK_EQ(op_try(&op), -EINPROGRESS);
	REQUIRE(op_wait(&op, 5000));
	CHECK_EQ(op_try(&op), 0);
	op_done(&op);
	pml_lease_return_finish(mgr, id);

	/* Or when the holder ends. */
	id = must_acquire(&h, 1, BLOCK, PML_LEASE_READ);
	CHECK(give_back_begins(&h, id));
	pml_session_end(mgr, h.session, PML_END_SESSION);
	WAIT_FOR(h.released == 1);
	CHECK_EQ(fake_fs_pins(fs), 0);

	/* Or at the end of all. */
	id = must_acquire(&other, 1, BLOCK, PML_LEASE_READ);
	CHECK(give_back_begins(&other, id));
	finish();
}

static void test_only_small_returns_that_nobody_waits_for_are_left(void)
{
	start(NULL);
	struct holder h;
	holder_start(&h);
	uint64_t id = must_acquire(&h, 1, FAKE_FILE_BYTES, PML_LEASE_READ);
	CHECK_EQ(give_back_begins(&h, id), FAKE_FILE_BYTES <= 1u << 20);
	pml_lease_return_finish(mgr, id);
	WAIT_FOR(stats().leases == 0);

	id = must_acquire(&h, 1, BLOCK, PML_LEASE_READ);
	struct op op;
	op_init(&op, 1, 0, BLOCK);
	CHECK_EQ(op_try(&op), -EINPROGRESS);
	WAIT_FOR(h.recalls == 1);
	CHECK(!give_back_begins(&h, id));
	REQUIRE(op_wait(&op, 5000));
	CHECK_EQ(op_try(&op), 0);
	op_done(&op);

	/* A fence that fails goes on in the fence thread, and harder. */
	id = must_acquire(&h, 1, BLOCK, PML_LEASE_READ);
	h.fail_key_fences = 1;
	CHECK(give_back_begins(&h, id));
	pml_lease_return_finish(mgr, id);
	WAIT_FOR(stats().leases == 0);
	CHECK_EQ(h.hard_fences, 1);
	/* From then on all of this session are hard. */
	id = must_acquire(&h, 1, BLOCK, PML_LEASE_READ);
	CHECK(!give_back_begins(&h, id));
	WAIT_FOR(stats().leases == 0);
	CHECK_EQ(h.hard_fences, 2);
	finish();
}

struct returner {
	struct holder holder;
	pthread_t thread;
	uint64_t ino;
	unsigned int bad;
};

static void *return_often(void *arg)
{
	struct returner *r = arg;
	for (unsigned int i = 0; i < 300; i++) {
		struct pml_grant grant;
		bool is_left;
		int err = pml_lease_acquire(mgr, r->holder.session, r->ino, 0, 2 * BLOCK,
					    i % 3 ? PML_LEASE_READ : PML_LEASE_WRITE, &grant);
		if (err == -EAGAIN) {
			sleep_us(100);
			continue;
		}
		r->bad |= err != 0;
		if (err)
			continue;
		err = pml_lease_return_begin(mgr, r->holder.session, grant.lease_id, &is_left);
		/* Revoked meanwhile. */
		r->bad |= err != 0 && err != -ESTALE;
		if (is_left)
			pml_lease_return_finish(mgr, grant.lease_id);
	}
	return NULL;
}

/* I1, I3: two threads fence, and a third one changes what they fence. */
static void test_returns_race_with_changes(void)
{
	start(NULL);
	struct returner r[3];
	for (size_t i = 0; i < PML_ARRAY_LEN(r); i++) {
		r[i] = (struct returner){.ino = 1 + i / 2};
		holder_start(&r[i].holder);
		pthread_create(&r[i].thread, NULL, return_often, &r[i]);
	}
	for (unsigned int i = 0; i < 100; i++) {
		struct op op;
		op_init(&op, 1 + i % 2, 0, BLOCK);
		int err = op_try(&op);
		while (err == -EINPROGRESS) {
			REQUIRE(op_wait(&op, 10000));
			err = op_try(&op);
		}
		CHECK_EQ(err, 0);
		op_done(&op);
	}
	for (size_t i = 0; i < PML_ARRAY_LEN(r); i++) {
		pthread_join(r[i].thread, NULL);
		CHECK_EQ(r[i].bad, 0);
	}
	finish();
	for (size_t i = 0; i < PML_ARRAY_LEN(r); i++)
		CHECK_EQ(r[i].holder.keys_made, r[i].holder.keys_dead);
}

static void test_slow_fences_hold_up_neither_callbacks_nor_the_end(void)
{
	start(NULL);
	struct holder slow, other;
	holder_start(&slow);
	holder_start(&other);
	struct pml_grant grant;
	CHECK_EQ(pml_lease_acquire(mgr, slow.session, 1, 0, BLOCK, PML_LEASE_READ, &grant), 0);
	slow.fence_ms = 400;
	CHECK_EQ(pml_lease_return(mgr, slow.session, grant.lease_id), 0);
	CHECK_EQ(pml_lease_acquire(mgr, other.session, 2, 0, BLOCK, PML_LEASE_READ, &grant), 0);
	struct op op;
	op_init(&op, 2, 0, BLOCK);
	CHECK_EQ(op_try(&op), -EINPROGRESS);
	uint64_t began_ms = pml_now_ms();
	WAIT_FOR(other.recalls == 1);
	CHECK(pml_now_ms() - began_ms < 300);
	REQUIRE(op_wait(&op, 5000));
	op_done(&op);
	finish();
	CHECK_EQ(slow.released, 1);
}

static void test_a_stuck_fence_keeps_its_pins_and_refuses_the_end(void)
{
	start(NULL);
	struct holder h;
	holder_start(&h);
	struct pml_grant grant;
	CHECK_EQ(pml_lease_acquire(mgr, h.session, 1, 0, BLOCK, PML_LEASE_READ, &grant), 0);
	h.fail_all_fences = true;
	struct op op;
	op_init(&op, 1, 0, BLOCK);
	CHECK_EQ(op_try(&op), -EINPROGRESS);
	REQUIRE(op_wait(&op, 5000));
	CHECK_EQ(op_try(&op), -EIO);
	op_done(&op);
	CHECK_EQ(stats().fences_stuck, 1);
	CHECK_EQ(fake_fs_pins(fs), 1);
	struct pml_lease_view view;
	CHECK_EQ(pml_lease_list(mgr, 0, &view, 1), 1);
	CHECK_EQ(view.state, PML_LEASE_STUCK);
	char reason[PML_REASON_BYTES];
	CHECK_EQ(pml_lease_audit(mgr, reason), 0);
	CHECK_EQ(pml_lease_manager_free(mgr), -EBUSY);
	CHECK_EQ(fake_fs_pins(fs), 1);
	CHECK_EQ(h.released, 0);
	check_fs();
	/* Nothing may be freed: this manager stays until the process ends. */
}

/* ---- an administrator ends a session -------------------------------------- */

static void allow_unbreakable(struct pml_lease_config *config)
{
	config->max_unbreakable_bytes = 1 << 20;
}

static void test_an_evicted_session_has_nothing_when_the_call_returns(void)
{
	start(allow_unbreakable);
	struct holder h, other;
	struct pml_grant grant;
	uint32_t nleases = 0;
	holder_start(&h);
	holder_start(&other);
	h.fence_ms = 20;
	for (uint64_t i = 0; i < 4; i++)
		CHECK_EQ(pml_lease_acquire(mgr, h.session, 1, i * BLOCK, BLOCK, PML_LEASE_WRITE,
					   &grant),
			 0);
	const struct pml_lease_wish wish = {.ino = 2, .len_bytes = BLOCK, .is_unbreakable = true};
	CHECK_EQ(pml_lease_request(mgr, h.session, &wish, &grant), 0);
	CHECK_EQ(pml_lease_acquire(mgr, other.session, 3, 0, BLOCK, PML_LEASE_READ, &grant), 0);

	CHECK_EQ(pml_session_evict(mgr, h.session, &nleases), 0);
	CHECK_EQ(nleases, 5);
	CHECK_EQ(h.keys_dead, 5);
	CHECK_EQ(fake_fs_pins(fs), 1); /* the other's */
	CHECK_EQ(h.revokes, 5);
	CHECK_EQ(h.revoked_why, PML_END_EVICTED);
	CHECK_EQ(h.recalls, 0);
	CHECK_EQ(h.evicted, 1);
	CHECK_EQ(h.cooperative_fences, 0);
	CHECK_EQ(other.revokes + other.evicted, 0);
	CHECK_EQ(stats().sessions, 1);
	CHECK_EQ(stats().revoked, 5);
	struct pml_ending ending;
	CHECK_EQ(pml_lease_history(mgr, 4, &ending, 1), 1);
	CHECK_EQ(ending.why, PML_END_EVICTED);
	CHECK_EQ(pml_lease_acquire(mgr, h.session, 1, 0, BLOCK, PML_LEASE_READ, &grant), -ESTALE);

	nleases = 77;
	CHECK_EQ(pml_session_evict(mgr, h.session, &nleases), -ESRCH);
	CHECK_EQ(pml_session_evict(mgr, 4711, &nleases), -ESRCH);
	CHECK_EQ(nleases, 77);
	finish();
}

static void test_an_evicted_session_without_leases_is_told(void)
{
	start(NULL);
	struct holder h;
	uint32_t nleases = 77;
	holder_start(&h);
	CHECK_EQ(pml_session_evict(mgr, h.session, &nleases), 0);
	CHECK_EQ(nleases, 0);
	CHECK_EQ(h.evicted, 1);
	CHECK_EQ(stats().sessions, 0);
	finish();
}

struct acquirer {
	struct holder *h;
	int err;
};

static void *acquire_one(void *arg)
{
	struct acquirer *a = arg;
	struct pml_grant grant;
	a->err = pml_lease_acquire(mgr, a->h->session, 1, 0, BLOCK, PML_LEASE_WRITE, &grant);
	return NULL;
}

static void *evict_one(void *arg)
{
	struct acquirer *a = arg;
	uint32_t nleases;
	a->err = pml_session_evict(mgr, a->h->session, &nleases);
	return NULL;
}

/* Its keys are being made: they are fenced when they are there. */
static void test_a_lease_that_is_just_being_granted_is_taken_too(void)
{
	start(NULL);
	struct holder h;
	sem_t hold;
	sem_init(&hold, 0, 0);
	holder_start(&h);
	h.hold_key_new = &hold;
	struct acquirer a = {.h = &h}, e = {.h = &h};
	pthread_t acquirer, evicter;
	REQUIRE(pthread_create(&acquirer, NULL, acquire_one, &a) == 0);
	while (!h.is_in_key_new)
		sleep_us(1000);
	REQUIRE(pthread_create(&evicter, NULL, evict_one, &e) == 0);
	sleep_us(50000);
	CHECK_EQ(h.evicted, 0);
	sem_post(&hold);
	pthread_join(acquirer, NULL);
	pthread_join(evicter, NULL);
	CHECK_EQ(a.err, -ESTALE);
	CHECK_EQ(e.err, 0);
	CHECK_EQ(h.keys_dead, 1);
	CHECK_EQ(fake_fs_pins(fs), 0);
	CHECK_EQ(h.evicted, 1);
	sem_destroy(&hold);
	finish();
}

static void test_an_evicted_session_whose_fence_fails_is_said_to_be_stuck(void)
{
	start(NULL);
	struct holder h;
	struct pml_grant grant;
	uint32_t nleases = 0;
	holder_start(&h);
	CHECK_EQ(pml_lease_acquire(mgr, h.session, 1, 0, BLOCK, PML_LEASE_READ, &grant), 0);
	h.fail_all_fences = true;
	CHECK_EQ(pml_session_evict(mgr, h.session, &nleases), -EIO);
	CHECK_EQ(nleases, 1);
	CHECK_EQ(h.evicted, 0);
	CHECK_EQ(fake_fs_pins(fs), 1);
	/* When it can be confirmed after all, the rest follows. */
	h.fail_all_fences = false;
	pml_session_fence_again(mgr, h.session);
	for (int i = 0; i < 5000 && h.released == 0; i++)
		sleep_us(1000);
	CHECK_EQ(h.evicted, 1);
	CHECK_EQ(h.released, 1);
	finish();
}

static void short_fences(struct pml_lease_config *config)
{
	config->fence_ms = 1;
}

static void test_an_eviction_that_is_not_over_in_time_says_so(void)
{
	start(short_fences);
	struct holder h;
	uint32_t nleases = 0;
	holder_start(&h);
	h.keeps_connection = true;
	CHECK_EQ(pml_session_evict(mgr, h.session, &nleases), -ETIMEDOUT);
	for (int i = 0; i < 5000 && h.evicted == 0; i++)
		sleep_us(1000);
	CHECK_EQ(h.evicted, 1);
	struct pml_session_view view;
	CHECK_EQ(pml_session_list(mgr, 0, &view, 1), 1);
	CHECK(view.is_ending);
	end_session_of(&h);
	finish();
}

static void test_sessions_are_listed_piece_by_piece(void)
{
	start(NULL);
	struct holder h[3];
	struct pml_grant grant;
	struct pml_session_view view[3];
	for (int i = 0; i < 3; i++)
		holder_start(&h[i]);
	pml_session_set_identity(mgr, h[1].session, "someone");
	CHECK_EQ(pml_lease_acquire(mgr, h[1].session, 1, 0, 3 * BLOCK, PML_LEASE_READ, &grant), 0);
	CHECK_EQ(pml_session_list(mgr, 0, view, 2), 2);
	CHECK_EQ(view[0].session, h[0].session);
	CHECK_EQ(view[0].nleases, 0);
	CHECK_STR(view[0].identity, "");
	CHECK_EQ(view[1].session, h[1].session);
	CHECK_STR(view[1].identity, "someone");
	CHECK_STR(view[1].peer, "test:1");
	CHECK_EQ(view[1].nleases, 1);
	CHECK_EQ(view[1].nsegments, 1);
	CHECK_EQ(view[1].pinned_bytes, 3 * BLOCK);
	CHECK(!view[1].is_local && !view[1].is_ending && view[1].silent_ms < 5000);
	CHECK_EQ(pml_session_list(mgr, view[1].session, view, 3), 1);
	CHECK_EQ(view[0].session, h[2].session);
	CHECK_EQ(pml_session_list(mgr, view[0].session, view, 3), 0);
	/* One that is gone is no place to go on from, but its number is. */
	pml_session_end(mgr, h[1].session, PML_END_SESSION);
	for (int i = 0; i < 5000 && h[1].released == 0; i++)
		sleep_us(1000);
	CHECK_EQ(pml_session_list(mgr, h[1].session, view, 3), 1);
	finish();
}

static void test_the_end_waits_for_fences_and_releases_every_session(void)
{
	start(NULL);
	struct holder h[3];
	for (int i = 0; i < 3; i++) {
		struct pml_grant grant;
		holder_start(&h[i]);
		h[i].fence_ms = 50;
		CHECK_EQ(pml_lease_acquire(mgr, h[i].session, 1, 0, BLOCK, PML_LEASE_READ, &grant),
			 0);
	}
	finish();
	for (int i = 0; i < 3; i++) {
		CHECK_EQ(h[i].released, 1);
		CHECK_EQ(h[i].revokes, 1);
		CHECK_EQ(h[i].revoked_why, PML_END_UNMOUNT);
	}
}

/* ---- commit and seeing ---------------------------------------------------- */

static void test_commit_reaches_the_file_and_is_announced(void)
{
	start(NULL);
	struct holder h;
	holder_start(&h);
	struct pml_grant grant;
	CHECK_EQ(pml_lease_acquire(mgr, h.session, 1, 0, 4 * BLOCK, PML_LEASE_WRITE, &grant), 0);
	uint64_t id = grant.lease_id;
	CHECK_EQ(pml_lease_commit(mgr, h.session, id, BLOCK, BLOCK, 0, false, NULL), 0);
	CHECK_EQ(fake_fs_commits(fs), 1);
	CHECK_EQ(changed_hooks, 1);
	CHECK_EQ(waiting_hooks, 1);
	CHECK_EQ(changed_first, BLOCK);
	CHECK_EQ(pml_lease_commit(mgr, h.session, id, 3 * BLOCK, 2 * BLOCK, 0, false, NULL),
		 -EINVAL);
	CHECK_EQ(pml_lease_commit(mgr, h.session, id + 1, 0, BLOCK, 0, false, NULL), -ESTALE);
	fake_fs_set_commit_result(fs, -EIO);
	CHECK_EQ(pml_lease_commit(mgr, h.session, id, 0, BLOCK, 0, false, NULL), -EIO);
	CHECK_EQ(changed_hooks, 1);
	CHECK_EQ(pml_lease_acquire(mgr, h.session, 2, 0, BLOCK, PML_LEASE_READ, &grant), 0);
	CHECK_EQ(pml_lease_commit(mgr, h.session, grant.lease_id, 0, BLOCK, 0, false, NULL),
		 -EACCES);
	finish();
}

static void test_lists_show_who_holds_what_and_who_waits(void)
{
	start(NULL);
	fake_fs_set_extent(fs, 1);
	struct holder h;
	holder_start(&h);
	struct pml_grant grants[5];
	for (uint64_t i = 0; i < 5; i++)
		CHECK_EQ(pml_lease_acquire(mgr, h.session, i, 0, 3 * BLOCK, PML_LEASE_READ,
					   &grants[i]),
			 0);
	struct op op;
	op_init(&op, 1, 0, BLOCK);
	CHECK_EQ(op_try(&op), -EINPROGRESS);

	/* In pages, in order of id; going on behind one that is gone works too. */
	struct pml_lease_view views[5];
	CHECK_EQ(pml_lease_list(mgr, 0, views, 2), 2);
	CHECK_STR(views[0].peer, "test:1");
	CHECK_STR(views[0].waiter, "");
	CHECK_STR(views[1].waiter, "dd");
	CHECK_EQ(views[1].waiter_pid, 4711);
	CHECK_EQ(views[1].waiter_op, PML_OP_PUNCH);
	CHECK_EQ(views[1].state, PML_LEASE_RECALLING);
	CHECK_EQ(views[1].pinned_bytes, 3 * BLOCK);
	CHECK_EQ(views[0].was_recalled, false);
	CHECK_EQ(views[1].was_recalled, true);
	CHECK_EQ(views[1].recall_op, PML_OP_PUNCH);
	CHECK_EQ(views[1].is_acked, false);
	CHECK_EQ(pml_lease_ack(mgr, h.session, grants[1].lease_id), 0);
	CHECK_EQ(pml_lease_list(mgr, grants[0].lease_id, &views[1], 1), 1);
	CHECK_EQ(views[1].is_acked, true);
	CHECK_EQ(pml_lease_return(mgr, h.session, grants[1].lease_id), 0);
	REQUIRE(op_wait(&op, 5000));
	op_done(&op);
	CHECK_EQ(pml_lease_list(mgr, views[1].lease_id, views, 5), 3);
	CHECK_EQ(views[0].lease_id, grants[2].lease_id);
	CHECK_EQ(pml_lease_list(mgr, grants[4].lease_id, views, 5), 0);

	struct pml_pin_view pins[12];
	CHECK_EQ(pml_pin_list(mgr, 0, 0, pins, 12), 12);
	CHECK_EQ(pml_pin_list(mgr, grants[2].lease_id, 1, pins, 12), 8);
	CHECK_EQ(pins[0].lease_id, grants[2].lease_id);
	CHECK_EQ(pins[0].first_byte, BLOCK);
	CHECK_EQ(pins[0].block, 2 * FAKE_FILE_BLOCKS + 1);
	CHECK_STR(pins[0].peer, "test:1");
	CHECK_EQ(pml_pin_list(mgr, grants[2].lease_id, 3, pins, 4), 4);
	CHECK_EQ(pins[0].lease_id, grants[3].lease_id);

	char reason[PML_REASON_BYTES];
	CHECK_EQ(pml_lease_audit(mgr, reason), 0);
	finish();
}

#define CROWD 5

static void test_waiting_operations_are_listed_piece_by_piece(void)
{
	start(NULL);
	struct holder h;
	holder_start(&h);
	struct pml_grant grants[CROWD];
	static struct op ops[CROWD];
	for (uint64_t i = 0; i < CROWD; i++) {
		CHECK_EQ(pml_lease_acquire(mgr, h.session, i, 0, BLOCK, PML_LEASE_READ, &grants[i]),
			 0);
		op_init(&ops[i], i, 0, BLOCK);
		ops[i].w.pid = 100 + (int32_t)i;
		ops[i].w.uid = 7;
		CHECK_EQ(op_try(&ops[i]), -EINPROGRESS);
	}
	struct pml_waiter_view views[CROWD];
	CHECK_EQ(pml_waiter_list(mgr, 0, views, 2), 2);
	CHECK_EQ(pml_waiter_list(mgr, 2, &views[2], CROWD), CROWD - 2);
	CHECK_EQ(pml_waiter_list(mgr, CROWD, views, CROWD), 0);
	unsigned int seen = 0;
	for (size_t i = 0; i < CROWD; i++) {
		const struct pml_waiter_view *view = &views[i];
		REQUIRE(view->ino < CROWD);
		seen |= 1u << view->ino;
		CHECK_EQ(view->lease_id, grants[view->ino].lease_id);
		CHECK_EQ(view->pid, 100 + (int32_t)view->ino);
		CHECK_EQ(view->uid, 7);
		CHECK_EQ(view->op, PML_OP_PUNCH);
		CHECK_EQ(view->policy, PML_POLICY_REVOKE);
		CHECK_STR(view->name, "dd");
		CHECK_STR(view->peer, "test:1");
	}
	CHECK_EQ(seen, (1u << CROWD) - 1);

	/* What has nothing in its way any more is there until it is done. */
	CHECK_EQ(pml_lease_return(mgr, h.session, grants[3].lease_id), 0);
	REQUIRE(op_wait(&ops[3], 5000));
	CHECK_EQ(pml_waiter_list(mgr, 0, views, CROWD), CROWD);
	for (size_t i = 0; i < CROWD; i++)
		if (views[i].ino == 3) {
			CHECK_EQ(views[i].lease_id, 0);
			CHECK_STR(views[i].peer, "");
		}
	op_done(&ops[3]);
	CHECK_EQ(pml_waiter_list(mgr, 0, views, CROWD), CROWD - 1);
	for (size_t i = 0; i < CROWD; i++) {
		if (i == 3)
			continue;
		CHECK_EQ(pml_lease_return(mgr, h.session, grants[i].lease_id), 0);
		REQUIRE(op_wait(&ops[i], 5000));
		op_done(&ops[i]);
	}
	finish();
}

static void longer_term(struct pml_lease_config *config)
{
	config->term_ms = 500;
}

static void test_the_history_tells_what_ended_by_force_and_for_whom(void)
{
	start(longer_term);
	struct holder h, dying;
	holder_start(&h);
	struct pml_grant grant;
	CHECK_EQ(pml_lease_acquire(mgr, h.session, 1, 0, BLOCK, PML_LEASE_READ, &grant), 0);
	CHECK_EQ(pml_lease_return(mgr, h.session, grant.lease_id), 0);
	CHECK_EQ(pml_lease_acquire(mgr, h.session, 2, 0, BLOCK, PML_LEASE_READ, &grant), 0);
	struct op op;
	op_init(&op, 2, 0, BLOCK);
	CHECK_EQ(op_try(&op), -EINPROGRESS);
	bool is_resumed = false;
	for (int i = 0; i < 250 && !is_resumed; i++) {
		pml_session_renew(mgr, h.session);
		is_resumed = op_wait(&op, 20);
	}
	REQUIRE(is_resumed);
	op_done(&op);
	uint64_t silent = grant.lease_id;
	holder_start(&dying);
	CHECK_EQ(pml_lease_acquire(mgr, dying.session, 3, 0, BLOCK, PML_LEASE_WRITE, &grant), 0);
	WAIT_FOR(stats().expired == 1);

	struct pml_ending endings[3];
	CHECK_EQ(pml_lease_history(mgr, 0, endings, 3), 2);
	CHECK_EQ(endings[0].number, 1);
	CHECK_EQ(endings[0].lease_id, silent);
	CHECK_EQ(endings[0].ino, 2);
	CHECK_EQ(endings[0].why, PML_END_SILENT);
	CHECK_EQ(endings[0].was_recalled, true);
	CHECK_EQ(endings[0].op, PML_OP_PUNCH);
	CHECK_EQ(endings[0].waiter_pid, 4711);
	CHECK_STR(endings[0].waiter, "dd");
	CHECK_STR(endings[0].peer, "test:1");
	CHECK(endings[0].recalled_ms >= 100 && endings[0].age_ms >= endings[0].recalled_ms);
	CHECK_EQ(endings[1].number, 2);
	CHECK_EQ(endings[1].why, PML_END_EXPIRED);
	CHECK_EQ(endings[1].mode, PML_LEASE_WRITE);
	CHECK_EQ(endings[1].was_recalled, false);
	CHECK_EQ(endings[1].waiter_pid, 0);
	CHECK_STR(endings[1].waiter, "");
	CHECK_EQ(pml_lease_history(mgr, 1, endings, 3), 1);
	CHECK_EQ(endings[0].number, 2);
	finish();
}

static void test_the_history_keeps_the_last_ones_and_their_numbers(void)
{
	const uint64_t all = PML_HISTORY_MAX + 44;
	start(NULL);
	struct holder h;
	holder_start(&h);
	for (uint64_t i = 0; i < all; i++) {
		struct pml_grant grant;
		CHECK_EQ(pml_lease_acquire(mgr, h.session, 1, 0, BLOCK, PML_LEASE_READ, &grant), 0);
		struct op op;
		op_init(&op, 1, 0, BLOCK);
		op.w.session = h.session;
		CHECK_EQ(op_try(&op), -EINPROGRESS);
		REQUIRE(op_wait(&op, 5000));
		op_done(&op);
	}
	static struct pml_ending endings[PML_HISTORY_MAX + 1];
	CHECK_EQ(pml_lease_history(mgr, 0, endings, PML_HISTORY_MAX + 1), PML_HISTORY_MAX);
	for (size_t i = 0; i < PML_HISTORY_MAX; i++)
		CHECK_EQ(endings[i].number, 45 + i);
	CHECK_EQ(endings[0].why, PML_END_OWN_CHANGE);
	CHECK_EQ(pml_lease_history(mgr, 100, endings, 10), 10);
	CHECK_EQ(endings[0].number, 101);
	CHECK_EQ(endings[9].number, 110);
	CHECK_EQ(pml_lease_history(mgr, all - 1, endings, 10), 1);
	CHECK_EQ(endings[0].number, all);
	CHECK_EQ(pml_lease_history(mgr, all, endings, 10), 0);
	finish();
}

static void test_I2_an_audit_finds_a_pin_that_no_lease_owns(void)
{
	start(NULL);
	struct pml_inode *inode;
	CHECK_EQ(pml_inode_get(fs, 1, &inode), 0);
	struct pml_segment segment;
	size_t count;
	uint64_t end;
	CHECK_EQ(pml_file_pin(inode, 0, BLOCK, PML_PIN_READ, &segment, 1, &count, &end), 0);
	char reason[PML_REASON_BYTES];
	CHECK_EQ(pml_lease_audit(mgr, reason), -EUCLEAN);
	pml_fs_unpin(fs, &segment);
	CHECK_EQ(pml_lease_audit(mgr, reason), 0);
	pml_inode_put(inode, 1);
	finish();
}

/* ---- kinds of lease, and what is configured -------------------------------- */

static void test_a_downgrade_puts_a_read_lease_in_place(void)
{
	start(NULL);
	struct holder h, other;
	holder_start(&h);
	holder_start(&other);
	struct pml_grant grant, got;
	fake_fs_set_size(fs, 1, BLOCK + 5);
	CHECK_EQ(pml_lease_acquire(mgr, h.session, 1, 0, 4 * BLOCK, PML_LEASE_WRITE, &grant), 0);
	CHECK_EQ(pml_lease_downgrade(mgr, other.session, grant.lease_id, &got), -ESTALE);
	CHECK_EQ(pml_lease_downgrade(mgr, h.session, grant.lease_id + 1, &got), -ESTALE);
	CHECK_EQ(pml_lease_downgrade(mgr, h.session, grant.lease_id, &got), 0);
	CHECK(got.lease_id != grant.lease_id);
	CHECK_EQ(got.end_byte, BLOCK + 5);
	WAIT_FOR(stats().leases == 1);
	CHECK_EQ(stats().downgraded, 1);
	CHECK_EQ(fake_fs_pins(fs), 2);
	CHECK_EQ(h.recalls + h.revokes, 0);
	CHECK_EQ(pml_lease_acquire(mgr, other.session, 1, 0, BLOCK, PML_LEASE_READ, &grant), 0);
	CHECK_EQ(pml_lease_downgrade(mgr, h.session, got.lease_id, &got), -EINVAL);

	/* Refused: the write lease is as it was. */
	CHECK_EQ(pml_lease_acquire(mgr, h.session, 2, 0, BLOCK, PML_LEASE_WRITE, &grant), 0);
	fake_fs_set_size(fs, 2, 0);
	CHECK_EQ(pml_lease_downgrade(mgr, h.session, grant.lease_id, &got), -ENODATA);
	fake_fs_set_size(fs, 2, BLOCK);
	h.fail_key_new = 1;
	CHECK_EQ(pml_lease_downgrade(mgr, h.session, grant.lease_id, &got), -ENOSPC);
	CHECK_EQ(pml_lease_commit(mgr, h.session, grant.lease_id, 0, BLOCK, 0, false, NULL), 0);
	CHECK_EQ(stats().downgraded, 1);
	finish();
}

static void test_shared_writers_commit_side_by_side(void)
{
	start(NULL);
	struct holder h[2];
	struct pml_grant grant[2];
	const struct pml_lease_wish wish = {
		.ino = 1, .len_bytes = BLOCK, .mode = PML_LEASE_WRITE, .is_shared = true};
	for (int i = 0; i < 2; i++) {
		holder_start(&h[i]);
		CHECK_EQ(pml_lease_request(mgr, h[i].session, &wish, &grant[i]), 0);
	}
	for (int i = 0; i < 2; i++)
		CHECK_EQ(pml_lease_commit(mgr, h[i].session, grant[i].lease_id, 0, BLOCK, 0, false,
					  NULL),
			 0);
	struct pml_lease_view views[2];
	CHECK_EQ(pml_lease_list(mgr, 0, views, 2), 2);
	CHECK(views[0].is_shared && !views[0].is_unbreakable);
	char reason[PML_REASON_BYTES];
	CHECK_EQ(pml_lease_audit(mgr, reason), 0);
	finish();
}

static void test_waiting_operations_and_forced_ends_are_listed(void)
{
	start(NULL);
	struct holder h;
	holder_start(&h);
	struct pml_grant grant;
	CHECK_EQ(pml_lease_acquire(mgr, h.session, 1, 0, BLOCK, PML_LEASE_READ, &grant), 0);
	struct op op;
	op_init(&op, 1, 0, BLOCK);
	op.w.uid = 5;
	struct pml_waiter_view waits[2];
	struct pml_ending endings[2];
	CHECK_EQ(pml_waiter_list(mgr, 0, waits, 2), 0);
	CHECK_EQ(pml_lease_history(mgr, 0, endings, 2), 0);
	CHECK_EQ(op_try(&op), -EINPROGRESS);
	CHECK_EQ(pml_waiter_list(mgr, 0, waits, 2), 1);
	CHECK_STR(waits[0].name, "dd");
	CHECK_EQ(waits[0].uid, 5);
	CHECK_EQ(waits[0].op, PML_OP_PUNCH);
	CHECK_EQ(waits[0].policy, PML_POLICY_REVOKE);
	CHECK_EQ(waits[0].lease_id, grant.lease_id);
	CHECK_EQ(pml_waiter_list(mgr, 1, waits, 2), 0);
	CHECK_EQ(pml_waiter_list(mgr, 0, waits, 0), 0);
	REQUIRE(op_wait(&op, 5000)); /* nobody acknowledges */
	CHECK_EQ(pml_waiter_list(mgr, 0, waits, 2), 1);
	CHECK_EQ(waits[0].lease_id, 0);
	op_done(&op);
	CHECK_EQ(pml_lease_history(mgr, 0, endings, 2), 1);
	CHECK_EQ(endings[0].lease_id, grant.lease_id);
	CHECK_EQ(endings[0].why, PML_END_SILENT);
	CHECK_STR(endings[0].waiter, "dd");
	CHECK_STR(endings[0].peer, "test:1");
	CHECK(endings[0].ago_ms < 5000);
	CHECK(stats().histogram[PML_SPAN_WAIT].count == 1);
	finish();
}

static void test_a_new_configuration_reaches_operations_that_wait(void)
{
	start(block_punch);
	struct holder h;
	holder_start(&h);
	struct pml_grant grant;
	CHECK_EQ(pml_lease_acquire(mgr, h.session, 1, 0, BLOCK, PML_LEASE_READ, &grant), 0);
	struct pml_lease_config config, bad;
	pml_lease_config_get(mgr, &config);
	CHECK_EQ(config.policy[PML_OP_PUNCH], PML_POLICY_BLOCK);
	config.block_deadline_ms = 0;
	CHECK_EQ(pml_lease_configure(mgr, &config), 0);
	struct op op;
	op_init(&op, 1, 0, BLOCK);
	CHECK_EQ(op_try(&op), -EINPROGRESS);
	bad = config;
	bad.max_leases = 0;
	CHECK_EQ(pml_lease_configure(mgr, &bad), -EINVAL);
	CHECK(!op_wait(&op, 150));
	config.policy[PML_OP_PUNCH] = PML_POLICY_EBUSY;
	CHECK_EQ(pml_lease_configure(mgr, &config), 0);
	REQUIRE(op_wait(&op, 5000));
	CHECK_EQ(op_try(&op), -EBUSY);
	op_done(&op);
	finish();
}

static void short_grace(struct pml_lease_config *config)
{
	config->orphan_grace_ms = 50;
}

static void test_leases_on_files_without_names_are_recalled_whenever_they_came(void)
{
	start(short_grace);
	struct holder h;
	holder_start(&h);
	struct pml_grant grant;
	CHECK_EQ(pml_lease_acquire(mgr, h.session, 1, 0, BLOCK, PML_LEASE_READ, &grant), 0);
	fake_fs_orphan(fs, 1, true);
	WAIT_FOR(h.recalls == 1);
	/* One that comes afterwards has its own grace. */
	CHECK_EQ(pml_lease_acquire(mgr, h.session, 1, 0, BLOCK, PML_LEASE_READ, &grant), 0);
	struct pml_lease_view views[2];
	size_t count = pml_lease_list(mgr, grant.lease_id - 1, views, 2);
	CHECK(count == 1 && views[0].is_orphan);
	WAIT_FOR(h.recalls == 2);
	CHECK_EQ(h.recalled_lease, grant.lease_id);
	finish();
}

/* ---- everything at once --------------------------------------------------- */

#define STRESS_HOLDERS 4
#define STRESS_OPS     4
#define STRESS_MS      2500u

static atomic_bool stop;
static uint64_t stress_seed;
static atomic_uint ops_done_count, ops_failed_count, sessions_count, grants_count, evictions_count;

static uint64_t random_below(uint64_t *seed, uint64_t n)
{
	*seed = *seed * 6364136223846793005ull + 1442695040888963407ull;
	return (*seed >> 33) % n;
}

static bool is_refusal(int err)
{
	return err == -EAGAIN || err == -EDEADLK || err == -ESTALE || err == -ENOSPC ||
	       err == -EBUSY || err == -EDQUOT || err == -EUSERS || err == -EPERM;
}

static void give_back_recalled(struct holder *h)
{
	uint64_t recalled = h->recalled_lease;
	if (!recalled)
		return;
	int err = pml_lease_ack(mgr, h->session, recalled);
	CHECK(err == 0 || err == -ESTALE);
	err = pml_lease_return(mgr, h->session, recalled);
	CHECK(err == 0 || err == -ESTALE);
	h->recalled_lease = 0;
}

static uint64_t acquire_any(struct holder *h, uint64_t *seed)
{
	struct pml_grant grant;
	const struct pml_lease_wish wish = {
		.ino = random_below(seed, 3),
		.first_byte = random_below(seed, 16) * (BLOCK / 2),
		.len_bytes = 1 + random_below(seed, 4 * BLOCK),
		.mode = random_below(seed, 3) ? PML_LEASE_READ : PML_LEASE_WRITE,
		.is_shared = random_below(seed, 3) == 0,
		.is_unbreakable = random_below(seed, 12) == 0,
	};
	int err = pml_lease_request(mgr, h->session, &wish, &grant);
	CHECK(err == 0 || is_refusal(err));
	if (err == -EAGAIN)
		sleep_us(200);
	if (err)
		return 0;
	grants_count++;
	return grant.lease_id;
}

/* One request of a holder that is mostly good. */
static void holder_step(struct holder *h, uint64_t *seed, uint64_t *leases)
{
	uint64_t *lease = &leases[random_below(seed, 8)];
	if (random_below(seed, 4) != 0)
		give_back_recalled(h);
	if (!*lease) {
		*lease = acquire_any(h, seed);
		return;
	}
	if (random_below(seed, 2)) {
		int err = pml_lease_commit(mgr, h->session, *lease, 0, BLOCK, 0, false, NULL);
		CHECK(err == 0 || err == -ESTALE || err == -EACCES || err == -EINVAL);
	}
	if (random_below(seed, 4) == 0) {
		struct pml_grant grant;
		int err = pml_lease_downgrade(mgr, h->session, *lease, &grant);
		CHECK(err == 0 || err == -EINVAL || is_refusal(err));
		if (err == 0)
			*lease = grant.lease_id;
		return;
	}
	int err = pml_lease_return(mgr, h->session, *lease);
	CHECK(err == 0 || err == -ESTALE);
	*lease = 0;
}

/* Plays one session after the other. */
static void *run_holder(void *arg)
{
	uint64_t seed = stress_seed + (uintptr_t)arg;
	while (!stop) {
		struct holder h;
		holder_start(&h);
		uint64_t leases[8] = {0};
		uint64_t steps = 1 + random_below(&seed, 400);
		for (uint64_t i = 0; i < steps && !stop; i++) {
			if (random_below(&seed, 50) == 0)
				h.fail_key_fences = 1;
			if (random_below(&seed, 50) == 0)
				h.fail_key_new = 2;
			if (random_below(&seed, 100) == 0)
				sleep_us((unsigned int)random_below(&seed, 120) * 1000);
			holder_step(&h, &seed, leases);
		}
		pml_session_end(mgr, h.session, PML_END_SESSION);
		WAIT_FOR(h.released == 1);
		CHECK_EQ(h.keys_made, h.keys_dead);
		CHECK_EQ(h.in_callback, 0);
		sessions_count++;
	}
	return NULL;
}

/* Runs one operation to its end. */
static int run_op(uint64_t *seed)
{
	struct op op;
	uint64_t first = random_below(seed, 10) * BLOCK;
	op_init(&op, random_below(seed, 3), first, first + (1 + random_below(seed, 4)) * BLOCK);
	op.change.op = (enum pml_layout_op)random_below(seed, PML_OP_COUNT);
	if (random_below(seed, 8) == 0)
		op.change.end_byte = UINT64_MAX;
	int err = op_try(&op);
	while (err == -EINPROGRESS) {
		/* A wait ends in bounded time whatever holders do. */
		bool is_patient = random_below(seed, 10) != 0;
		unsigned int wait_ms = is_patient ? 10000 : (unsigned int)random_below(seed, 3);
		if (!op_wait(&op, wait_ms)) {
			CHECK(!is_patient);
			fake_fs_cancel(fs, &op.w);
			CHECK(op_wait(&op, 10000));
		}
		err = op_try(&op);
	}
	op_done(&op);
	return err;
}

static void *run_ops(void *arg)
{
	uint64_t seed = stress_seed + 1000 + (uintptr_t)arg;
	while (!stop) {
		int err = run_op(&seed);
		CHECK(err == 0 || err == -EINTR || err == -EBUSY || err == -ECANCELED);
		if (err)
			ops_failed_count++;
		else
			ops_done_count++;
		sleep_us((unsigned int)random_below(&seed, 500));
	}
	return NULL;
}

static void *run_audits(void *arg)
{
	(void)arg;
	while (!stop) {
		char reason[PML_REASON_BYTES] = "";
		if (pml_lease_audit(mgr, reason) != 0)
			TAP_FAIL("I2: %s", reason);
		struct pml_lease_view views[64];
		size_t count = pml_lease_list(mgr, 0, views, 64);
		struct pml_waiter_view waits[STRESS_OPS];
		CHECK(pml_waiter_list(mgr, 0, waits, STRESS_OPS) <= STRESS_OPS);
		struct pml_ending endings[8];
		CHECK(pml_lease_history(mgr, 0, endings, 8) <= 8);
		for (size_t i = 1; i < count; i++)
			CHECK(views[i].lease_id > views[i - 1].lease_id);
		sleep_us(3000);
	}
	return NULL;
}

/* An administrator who ends sessions, in whatever state they are. */
static void *run_evictions(void *arg)
{
	uint64_t seed = stress_seed + 4711;
	while (!stop) {
		struct pml_session_view views[STRESS_HOLDERS];
		size_t n = pml_session_list(mgr, 0, views, STRESS_HOLDERS);
		uint32_t nleases;
		sleep_us((unsigned int)random_below(&seed, 60) * 1000);
		if (n == 0)
			continue;
		int err = pml_session_evict(mgr, views[random_below(&seed, n)].session, &nleases);
		CHECK(err == 0 || err == -ESRCH);
		evictions_count += err == 0;
	}
	return NULL;
}

static void stress_config(struct pml_lease_config *config);

/* Policies, clocks and limits that change while everything runs; files that lose their names. */
static void *run_configs(void *arg)
{
	uint64_t seed = stress_seed + 2000 + (uintptr_t)arg;
	while (!stop) {
		struct pml_lease_config config;
		pml_lease_config_get(mgr, &config);
		stress_config(&config);
		for (int op = 0; op < PML_OP_COUNT; op++)
			config.policy[op] = (enum pml_policy)random_below(&seed, 3);
		config.lease_policy = (enum pml_policy)random_below(&seed, 3);
		config.ebusy_recalls = random_below(&seed, 2);
		config.drain_ms = 15 + (uint32_t)random_below(&seed, 30);
		config.max_session_leases = 2 + (uint32_t)random_below(&seed, 20);
		config.max_sessions = 8 + (uint32_t)random_below(&seed, 8);
		CHECK_EQ(pml_lease_configure(mgr, &config), 0);
		fake_fs_orphan(fs, random_below(&seed, 3), random_below(&seed, 2));
		sleep_us(10000);
	}
	return NULL;
}

static void stress_config(struct pml_lease_config *config)
{
	config->ack_ms = 10;
	config->drain_ms = 30;
	config->term_ms = 80;
	config->policy[PML_OP_CLONE_DST] = PML_POLICY_EBUSY;
	config->policy[PML_OP_UNSHARE] = PML_POLICY_BLOCK;
	config->block_deadline_ms = 20;
	config->orphan_grace_ms = 20;
	config->max_unbreakable_bytes = 64 * BLOCK;
}

static void test_random_schedules_keep_I1_to_I4(void)
{
	const char *env = getenv("PML_SEED");
	stress_seed = env ? strtoull(env, NULL, 0) : (uint64_t)time(NULL);
	printf("# PML_SEED=%llu\n", (unsigned long long)stress_seed);
	start(stress_config);
	fake_fs_set_extent(fs, 2);
	stop = false;
	pthread_t threads[STRESS_HOLDERS + STRESS_OPS + 3];
	size_t n = 0;
	for (uintptr_t i = 0; i < STRESS_HOLDERS; i++)
		REQUIRE(pthread_create(&threads[n++], NULL, run_holder, (void *)i) == 0);
	for (uintptr_t i = 0; i < STRESS_OPS; i++)
		REQUIRE(pthread_create(&threads[n++], NULL, run_ops, (void *)i) == 0);
	REQUIRE(pthread_create(&threads[n++], NULL, run_audits, NULL) == 0);
	REQUIRE(pthread_create(&threads[n++], NULL, run_configs, NULL) == 0);
	REQUIRE(pthread_create(&threads[n++], NULL, run_evictions, NULL) == 0);
	sleep_us(STRESS_MS * 1000);
	stop = true;
	for (size_t i = 0; i < n; i++)
		pthread_join(threads[i], NULL);

	struct pml_lease_stats got = stats();
	printf("# %u sessions, %u grants, %u operations, %u refused; recalls %llu, revoked %llu, "
	       "died %llu, parked %llu, escalations %llu, downgraded %llu, orphans %llu, evicted %u\n",
	       sessions_count, grants_count, ops_done_count, ops_failed_count,
	       (unsigned long long)got.recalls, (unsigned long long)got.revoked,
	       (unsigned long long)got.sessions_died, (unsigned long long)got.parked,
	       (unsigned long long)got.fence_escalations, (unsigned long long)got.downgraded,
	       (unsigned long long)got.orphans_recalled, evictions_count);
	CHECK_EQ(got.leases, 0);
	CHECK_EQ(got.sessions, 0);
	CHECK_EQ(got.waiters, 0);
	CHECK(grants_count > 50 && ops_done_count > 50 && got.revoked > 0);
	CHECK(got.downgraded > 0 && got.orphans_recalled > 0 && evictions_count > 0);
	finish();
}

int main(void)
{
	TAP_RUN(test_a_grant_names_every_segment);
	TAP_RUN(test_a_write_lease_is_rounded_out_to_whole_blocks);
	TAP_RUN(test_a_grant_ends_at_the_end_of_the_file_or_of_its_segments);
	TAP_RUN(test_bad_ranges_inodes_and_sessions_are_refused);
	TAP_RUN(test_a_failed_acquire_leaves_no_pin_no_key_no_reference);
	TAP_RUN(test_a_session_that_ends_while_a_lease_is_granted_is_released_after_it);
	TAP_RUN(test_a_break_parks_and_goes_on_after_the_return);
	TAP_RUN(test_silent_and_slow_holders_are_revoked_in_time_and_told_why);
	TAP_RUN(test_a_wait_ends_by_deadline_or_cancel_and_the_lease_lives_on);
	TAP_RUN(test_a_session_dies_without_renewal_and_lives_with_it);
	TAP_RUN(test_a_failed_fence_climbs_the_ladder_and_unpins_only_then);
	TAP_RUN(test_who_takes_a_return_fences_it);
	TAP_RUN(test_a_return_that_is_left_is_fenced_when_somebody_comes);
	TAP_RUN(test_only_small_returns_that_nobody_waits_for_are_left);
	TAP_RUN(test_returns_race_with_changes);
	TAP_RUN(test_slow_fences_hold_up_neither_callbacks_nor_the_end);
	TAP_RUN(test_a_stuck_fence_keeps_its_pins_and_refuses_the_end);
	TAP_RUN(test_an_evicted_session_has_nothing_when_the_call_returns);
	TAP_RUN(test_an_evicted_session_without_leases_is_told);
	TAP_RUN(test_a_lease_that_is_just_being_granted_is_taken_too);
	TAP_RUN(test_an_evicted_session_whose_fence_fails_is_said_to_be_stuck);
	TAP_RUN(test_an_eviction_that_is_not_over_in_time_says_so);
	TAP_RUN(test_sessions_are_listed_piece_by_piece);
	TAP_RUN(test_the_end_waits_for_fences_and_releases_every_session);
	TAP_RUN(test_commit_reaches_the_file_and_is_announced);
	TAP_RUN(test_lists_show_who_holds_what_and_who_waits);
	TAP_RUN(test_waiting_operations_are_listed_piece_by_piece);
	TAP_RUN(test_the_history_tells_what_ended_by_force_and_for_whom);
	TAP_RUN(test_the_history_keeps_the_last_ones_and_their_numbers);
	TAP_RUN(test_I2_an_audit_finds_a_pin_that_no_lease_owns);
	TAP_RUN(test_a_downgrade_puts_a_read_lease_in_place);
	TAP_RUN(test_shared_writers_commit_side_by_side);
	TAP_RUN(test_waiting_operations_and_forced_ends_are_listed);
	TAP_RUN(test_a_new_configuration_reaches_operations_that_wait);
	TAP_RUN(test_leases_on_files_without_names_are_recalled_whenever_they_came);
	TAP_RUN(test_random_schedules_keep_I1_to_I4);
	return tap_done();
}
