/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_fence_ladder.c -- the fence ladder from the lease manager down to the transport
 *
 * A real manager over a fake filesystem (tests/support/lease_fake_fs.h), a real connection
 * of the software fabric, and a client that returns its lease and goes on writing.  Faults
 * make one step after the other late, lost or failing.  What must hold in each case: the
 * blocks stay pinned until a step that is a fence was confirmed, and not one byte changes
 * after that.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>

#include "../../rdma/transport.h"
#include "../support/lease_fake_fs.h"
#include "../tap.h"
#include "pml/clock.h"
#include "pml/lease.h"

#define LEASE_BYTES  (16ull * PML_BLOCK_BYTES)
#define MEMORY_BYTES (FAKE_INODES * FAKE_FILE_BYTES)
#define WAIT_MS	     10000
#define POISON	     0xd5
#define DEPTH	     8u

/* ---- the rig ------------------------------------------------------------ */

static struct rig {
	struct pml_fs *fs;
	struct pml_lease_manager *mgr;
	struct pml_fabric *fabric;
	char port[8];
	struct pml_ep *server, *client;
	uint64_t session;
	uint8_t *memory; /* of all the fake files */
	atomic_uint keys_hard, keys_soft, released;

	pthread_t writer;
	uint64_t addr;
	uint32_t rkey;
	atomic_uint writes;
	atomic_bool is_over, must_stop;
} rig;

struct held_key {
	struct pml_key *key;
	struct pml_segment segment;
};

static int key_new(void *arg, const struct pml_segment *segment, bool for_write, bool may_read,
		   uint32_t *ret_rkey, void **ret_key)
{
	struct held_key *held = calloc(1, sizeof(*held));
	if (!held)
		return -ENOMEM;
	held->segment = *segment;
	int err = pml_key_new(rig.server, rig.memory + segment->block * PML_BLOCK_BYTES,
			      segment->len_bytes, for_write ? PML_KEY_WRITE : PML_KEY_READ,
			      ret_rkey, &held->key);
	if (err) {
		free(held);
		return err;
	}
	fake_fs_key_made(rig.fs, segment);
	rig.addr = (uintptr_t)rig.memory + segment->block * PML_BLOCK_BYTES;
	*ret_key = held;
	return 0;
}

static int key_fence(void *arg, void *key, enum pml_fence_step step, bool is_cooperative)
{
	struct held_key *held = key;
	bool is_hard = step == PML_FENCE_CONNECTION;
	int err = pml_key_fence(held->key, is_hard ? PML_EP_FENCE_CONNECTION : PML_EP_FENCE_KEY,
				is_cooperative);
	if (err)
		return err;
	atomic_fetch_add(is_hard ? &rig.keys_hard : &rig.keys_soft, 1);
	fake_fs_key_dead(rig.fs, &held->segment);
	free(held);
	return 0;
}

static void recall(void *arg, uint64_t lease_id, enum pml_layout_op op, uint32_t drain_ms)
{
}

static void revoked(void *arg, uint64_t lease_id, enum pml_end_reason why)
{
}

static void released(void *arg)
{
	atomic_fetch_add(&rig.released, 1);
}

static const struct pml_holder_ops holder_ops = {
	.key_new = key_new,
	.key_fence = key_fence,
	.recall = recall,
	.revoked = revoked,
	.released = released,
};

static void set_faults(struct pml_soft_faults faults)
{
	pml_soft_set_faults(&faults);
}

#define WAIT_FOR(cond)                                                                             \
	do {                                                                                       \
		uint64_t until_ = pml_now_ms() + WAIT_MS;                                          \
		while (!(cond) && pml_now_ms() < until_)                                           \
			(void)usleep(500);                                                         \
		CHECK(cond);                                                                       \
	} while (0)

static struct pml_lease_stats stats(void)
{
	struct pml_lease_stats got;
	pml_lease_stats(rig.mgr, &got);
	return got;
}

static void *connect_main(void *arg)
{
	char reason[PML_REASON_BYTES];
	if (pml_ep_connect(PML_TRANSPORT_SOFT, "127.0.0.1", rig.port, WAIT_MS, &rig.client, reason))
		TAP_FAIL("connect: %s", reason);
	return NULL;
}

static void rig_open(const struct pml_fence_plan *plan, uint32_t fence_ms)
{
	struct pml_lease_config config;
	char reason[PML_REASON_BYTES];
	pthread_t thread;
	memset(&rig, 0, sizeof(rig));
	set_faults((struct pml_soft_faults){0});
	rig.memory = mmap(NULL, MEMORY_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
			  -1, 0);
	rig.fs = fake_fs_new();
	pml_lease_config_default(&config, 1ull << 30);
	config.fence_ms = fence_ms;
	const struct pml_lease_hooks no_hooks = {0};
	if (rig.memory == MAP_FAILED ||
	    pml_lease_manager_new(rig.fs, &config, &no_hooks, &rig.mgr) ||
	    pml_fabric_listen(PML_TRANSPORT_SOFT, "127.0.0.1", "0", &rig.fabric, reason) ||
	    pml_fabric_probe(rig.fabric, rig.memory, MEMORY_BYTES, reason))
		BAIL_OUT("no rig");
	pml_fabric_force_fence(rig.fabric, plan);
	snprintf(rig.port, sizeof(rig.port), "%u", pml_fabric_port(rig.fabric));
	pthread_create(&thread, NULL, connect_main, NULL);
	if (pml_fabric_accept(rig.fabric, WAIT_MS, &rig.server))
		BAIL_OUT("no connection");
	pthread_join(thread, NULL);
	if (pml_session_new(rig.mgr, &holder_ops, &rig, "test:1", 0, &rig.session))
		BAIL_OUT("no session");
}

static void rig_close(void)
{
	set_faults((struct pml_soft_faults){0});
	pml_session_end(rig.mgr, rig.session, PML_END_SESSION);
	WAIT_FOR(rig.released == 1);
	CHECK_EQ(pml_lease_manager_free(rig.mgr), 0);
	const char *what = NULL;
	CHECK_EQ(fake_fs_violations(rig.fs, &what), 0);
	if (what)
		TAP_FAIL("%s", what);
	CHECK_EQ(fake_fs_pins(rig.fs), 0);
	fake_fs_free(rig.fs);
	pml_ep_close(rig.client);
	pml_ep_close(rig.server);
	pml_fabric_close(rig.fabric);
	munmap(rig.memory, MEMORY_BYTES);
}

/* ---- a client that goes on ---------------------------------------------- */

static void *write_main(void *arg)
{
	static uint8_t buf[LEASE_BYTES];
	struct pml_local_mr *mr;
	struct pml_completion done[DEPTH];
	unsigned in_flight = 0;
	memset(buf, 0x66, sizeof(buf));
	if (pml_local_mr_new(rig.client, buf, sizeof(buf), &mr))
		return NULL;
	struct pml_data_op op = {.mr = mr,
				 .buf = buf,
				 .bytes = LEASE_BYTES,
				 .remote_addr = rig.addr,
				 .rkey = rig.rkey,
				 .kind = PML_DATA_WRITE};
	for (int n = 0; n >= 0;) {
		while (!rig.must_stop && in_flight < DEPTH && pml_ep_post(rig.client, &op) == 0)
			in_flight++;
		if (rig.must_stop && in_flight == 0)
			break;
		n = pml_ep_poll(rig.client, done, DEPTH, 1000);
		for (int i = 0; i < n; i++)
			rig.writes += done[i].status == 0;
		in_flight -= n > 0 ? (unsigned)n : 0;
	}
	pml_local_mr_free(mr);
	rig.is_over = true;
	return NULL;
}

static uint64_t grant_and_stream(void)
{
	struct pml_grant grant;
	int err =
		pml_lease_acquire(rig.mgr, rig.session, 3, 0, LEASE_BYTES, PML_LEASE_WRITE, &grant);
	if (err)
		BAIL_OUT("no lease: %d", err);
	rig.rkey = grant.segments[0].rkey;
	rig.writes = 0;
	rig.is_over = false;
	pthread_create(&rig.writer, NULL, write_main, NULL);
	WAIT_FOR(rig.writes > 2);
	return grant.lease_id;
}

/* The pins are gone: from here on nothing may change.  True: something did. */
static bool is_changed_after_the_fence(void)
{
	uint8_t *range = rig.memory + (rig.addr - (uintptr_t)rig.memory);
	memset(range, POISON, LEASE_BYTES);
	bool is_changed = false;
	uint64_t end_ms = pml_now_ms() + 3000;
	while (!rig.is_over && pml_now_ms() < end_ms) {
		is_changed |= memcmp(range, range + 1, LEASE_BYTES - 1) != 0;
		(void)usleep(200);
	}
	pthread_join(rig.writer, NULL);
	(void)usleep(10000);
	return is_changed || range[0] != POISON || memcmp(range, range + 1, LEASE_BYTES - 1) != 0;
}

static bool is_connected(void)
{
	return pml_ep_send(rig.server, "x", 1, WAIT_MS) == 0;
}

/* ---- one rung after the other ------------------------------------------- */

static const struct pml_fence_plan by_window = {PML_BY_WINDOW, true, true};
static const struct pml_fence_plan by_unproven_window = {PML_BY_WINDOW, false, true};
static const struct pml_fence_plan by_region = {PML_BY_REGION, true, true};
static const struct pml_fence_plan by_unproven_region = {PML_BY_REGION, false, true};
static const struct pml_fence_plan by_connection = {PML_BY_CONNECTION, false, true};

struct rung {
	const struct pml_fence_plan *plan;
	struct pml_soft_faults faults;
	uint32_t fence_ms;
	bool is_hard; /* only the end of the connection confirms it */
	uint32_t escalations;
	uint32_t pinned_ms_min; /* so long the blocks stay pinned at least */
};

static void climb(const struct rung *rung)
{
	rig_open(rung->plan, rung->fence_ms ? rung->fence_ms : 2000);
	uint64_t id = grant_and_stream();
	set_faults(rung->faults);
	uint64_t start_ms = pml_now_ms();
	/* The client is lying: it goes on (I3). */
	CHECK_EQ(pml_lease_return(rig.mgr, rig.session, id), 0);
	if (rung->pinned_ms_min > 50) {
		(void)usleep((rung->pinned_ms_min - 50) * 1000u);
		CHECK(fake_fs_pins(rig.fs) > 0 || pml_now_ms() - start_ms >= rung->pinned_ms_min);
	}
	WAIT_FOR(fake_fs_pins(rig.fs) == 0);
	CHECK(pml_now_ms() - start_ms >= rung->pinned_ms_min);
	CHECK(!is_changed_after_the_fence());
	CHECK_EQ(rig.keys_hard, rung->is_hard);
	CHECK_EQ(rig.keys_soft, !rung->is_hard);
	CHECK_EQ(stats().fence_escalations, rung->escalations);
	CHECK_EQ(stats().fences_stuck, 0);
	rig_close();
}

#define RUNG(name, ...)                                                                            \
	static void name(void)                                                                     \
	{                                                                                          \
		const struct rung rung = {__VA_ARGS__};                                            \
		climb(&rung);                                                                      \
	}

RUNG(test_a_window_ends_by_itself, .plan = &by_window)
RUNG(test_a_region_ends_by_itself, .plan = &by_region)
RUNG(test_a_late_local_inv_is_waited_for, .plan = &by_window,
     .faults = {.late_local_inv_us = 150000}, .pinned_ms_min = 150)
RUNG(test_a_lost_local_inv_takes_the_connection, .plan = &by_window,
     .faults = {.lost_local_invs = 1}, .is_hard = true, .escalations = 1, .pinned_ms_min = 200)
RUNG(test_a_failed_local_inv_takes_the_connection, .plan = &by_window,
     .faults = {.fail_local_invs = 1}, .is_hard = true, .escalations = 1)
RUNG(test_a_failed_deregistration_takes_the_connection, .plan = &by_region,
     .faults = {.fail_deregs = 1}, .is_hard = true, .escalations = 1)
RUNG(test_a_deregistration_that_fails_twice_is_tried_again, .plan = &by_region,
     .faults = {.fail_deregs = 3}, .is_hard = true, .escalations = 1, .pinned_ms_min = 200)
RUNG(test_a_slow_destruction_is_waited_for, .plan = &by_region,
     .faults = {.fail_deregs = 1, .slow_destroy_us = 300000}, .is_hard = true, .escalations = 1,
     .pinned_ms_min = 300)
RUNG(test_a_failed_destruction_is_tried_again, .plan = &by_window,
     .faults = {.lost_local_invs = 1, .fail_destroys = 2}, .is_hard = true, .escalations = 1,
     .pinned_ms_min = 400)
RUNG(test_a_fence_that_is_too_slow_counts_as_an_escalation, .plan = &by_window, .fence_ms = 100,
     .faults = {.late_local_inv_us = 150000}, .escalations = 1, .pinned_ms_min = 150)
RUNG(test_a_window_that_is_no_fence_takes_the_connection, .plan = &by_unproven_window,
     .faults = {.late_invalidate_us = 20000}, .is_hard = true, .escalations = 1)
RUNG(test_a_region_that_is_no_fence_takes_the_connection, .plan = &by_unproven_region,
     .is_hard = true, .escalations = 1)
RUNG(test_the_connection_method_takes_the_connection, .plan = &by_connection, .is_hard = true,
     .escalations = 1)

/* The test sees what it looks for: taken for a fence, an invalidation that is none shows. */
static void test_a_late_invalidate_is_seen(void)
{
#ifdef __SANITIZE_THREAD__
	SKIP("what is to be seen is a data race");
#endif
	unsigned seen = 0;
	for (unsigned i = 0; i < 5 && seen == 0; i++) {
		rig_open(&by_window, 2000);
		uint64_t id = grant_and_stream();
		set_faults((struct pml_soft_faults){.late_invalidate_us = 20000});
		(void)usleep(50000);
		CHECK_EQ(pml_lease_return(rig.mgr, rig.session, id), 0);
		WAIT_FOR(fake_fs_pins(rig.fs) == 0);
		seen += is_changed_after_the_fence();
		rig_close();
	}
	CHECK(seen > 0);
}

/* A connection that a proven key step leaves alone serves on. */
static void test_the_connection_survives_a_client_that_has_drained(void)
{
	rig_open(&by_window, 2000);
	for (int i = 0; i < 3; i++) {
		uint64_t id = grant_and_stream();
		rig.must_stop = true;
		pthread_join(rig.writer, NULL);
		rig.must_stop = false;
		CHECK_EQ(pml_lease_return(rig.mgr, rig.session, id), 0);
		WAIT_FOR(fake_fs_pins(rig.fs) == 0);
		CHECK(is_connected());
	}
	CHECK_EQ(rig.keys_soft, 3);
	rig_close();
}

/* Nothing can be confirmed: stuck, pinned, until somebody has it tried again (I1, I3). */
static void test_without_any_confirmed_step_the_blocks_stay_pinned(void)
{
	rig_open(&by_region, 2000);
	uint64_t id = grant_and_stream();
	set_faults((struct pml_soft_faults){.fail_deregs = 1000});
	CHECK_EQ(pml_lease_return(rig.mgr, rig.session, id), 0);
	WAIT_FOR(stats().fences_stuck == 1);
	CHECK_EQ(fake_fs_pins(rig.fs), LEASE_BYTES / PML_BLOCK_BYTES);
	struct pml_grant grant;
	CHECK(pml_lease_acquire(rig.mgr, rig.session, 3, 0, LEASE_BYTES, PML_LEASE_WRITE, &grant) !=
	      0);
	set_faults((struct pml_soft_faults){0});
	(void)usleep(50000);
	CHECK_EQ(fake_fs_pins(rig.fs), LEASE_BYTES / PML_BLOCK_BYTES);
	pml_session_fence_again(rig.mgr, rig.session);
	WAIT_FOR(fake_fs_pins(rig.fs) == 0);
	CHECK_EQ(stats().fences_stuck, 0);
	CHECK(!is_changed_after_the_fence());
	rig_close();
}

/* Half the keys of a lease end the easy way, then the connection goes: all must end. */
static void test_a_fault_in_the_middle_of_a_lease_ends_all_its_keys(void)
{
	rig_open(&by_window, 2000);
	fake_fs_set_extent(rig.fs, 1);
	struct pml_grant grant;
	REQUIRE(pml_lease_acquire(rig.mgr, rig.session, 3, 0, LEASE_BYTES, PML_LEASE_WRITE,
				  &grant) == 0);
	CHECK_EQ(grant.nsegments, 16);
	set_faults((struct pml_soft_faults){.late_local_inv_us = 20000});
	CHECK_EQ(pml_lease_return(rig.mgr, rig.session, grant.lease_id), 0);
	WAIT_FOR(rig.keys_soft >= 3);
	pml_ep_kill(rig.client);
	WAIT_FOR(fake_fs_pins(rig.fs) == 0);
	CHECK_EQ(rig.keys_soft + rig.keys_hard, 16);
	CHECK_EQ(stats().fences_stuck, 0);
	rig_close();
}

int main(void)
{
	TAP_RUN(test_a_window_ends_by_itself);
	TAP_RUN(test_a_region_ends_by_itself);
	TAP_RUN(test_a_late_local_inv_is_waited_for);
	TAP_RUN(test_a_lost_local_inv_takes_the_connection);
	TAP_RUN(test_a_failed_local_inv_takes_the_connection);
	TAP_RUN(test_a_failed_deregistration_takes_the_connection);
	TAP_RUN(test_a_deregistration_that_fails_twice_is_tried_again);
	TAP_RUN(test_a_slow_destruction_is_waited_for);
	TAP_RUN(test_a_failed_destruction_is_tried_again);
	TAP_RUN(test_a_fence_that_is_too_slow_counts_as_an_escalation);
	TAP_RUN(test_a_window_that_is_no_fence_takes_the_connection);
	TAP_RUN(test_a_region_that_is_no_fence_takes_the_connection);
	TAP_RUN(test_the_connection_method_takes_the_connection);
	TAP_RUN(test_a_late_invalidate_is_seen);
	TAP_RUN(test_the_connection_survives_a_client_that_has_drained);
	TAP_RUN(test_without_any_confirmed_step_the_blocks_stay_pinned);
	TAP_RUN(test_a_fault_in_the_middle_of_a_lease_ends_all_its_keys);
	return tap_done();
}
