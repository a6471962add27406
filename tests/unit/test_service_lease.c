/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_service_lease.c -- recalls, revocations and ends of connections, seen by a client
 *
 * Good clients lose nothing and hold nobody up; bad ones are fenced, and what
 * they write afterwards lands nowhere (the rig looks for stains at its end).
 */
#include <pthread.h>
#include <stdatomic.h>
#include <sys/stat.h>

#include "pml/clock.h"
#include "service_rig.h"
#include "tap.h"

#define FILE_BYTES (1u << 20)

struct scene {
	struct rig rig;
	struct pml_client *client;
	uint64_t ino;
	struct pml_client_buffer *buffer; /* FILE_BYTES */
};

static void start(struct scene *s)
{
	s->ino = fake_fs_make(s->rig.fs, PML_ROOT_INO, "file", S_IFREG | 0644, 0);
	uint8_t *data = malloc(FILE_BYTES);
	fill_pattern(data, s->ino, 0, FILE_BYTES);
	fake_fs_write(s->rig.fs, s->ino, 0, data, FILE_BYTES);
	free(data);
	if (rig_start(&s->rig))
		BAIL_OUT("no server");
	s->client = rig_connect(&s->rig);
	if (pml_client_buffer_new(s->client, FILE_BYTES, &s->buffer))
		BAIL_OUT("no buffer");
}

static void begin(struct scene *s)
{
	memset(s, 0, sizeof(*s));
	rig_init(&s->rig);
	start(s);
}

static void end(struct scene *s)
{
	pml_client_close(s->client);
	rig_stop(&s->rig);
}

static void be_silent(struct scene *s)
{
	const struct pml_client_events events = {.is_silent = true};
	pml_client_set_events(s->client, &events);
}

static uint64_t revoked_count(struct scene *s)
{
	struct pml_lease_stats stats;
	pml_lease_stats(s->rig.mgr, &stats);
	return stats.revoked;
}

/* Truncates; returns how long that took. */
static uint64_t truncate_ms(struct scene *s, uint64_t size_bytes)
{
	uint64_t from_ms = pml_now_ms();
	CHECK_EQ(fake_fs_truncate(s->rig.fs, s->ino, size_bytes), 0);
	return pml_now_ms() - from_ms;
}

/* ---- good clients -------------------------------------------------------- */

static void test_idle_lease_is_returned_at_once_when_recalled(void)
{
	struct scene s;
	begin(&s);
	struct pml_client_lease *lease = rig_lease(s.client, s.ino, 0, FILE_BYTES, false);
	CHECK(truncate_ms(&s, 4096) < 300);
	CHECK_EQ(pml_client_lease_status(lease), -ESTALE);
	CHECK_EQ(pml_client_read(lease, s.buffer, 0, 0, 4096), -ESTALE);
	CHECK_EQ(pml_client_return(lease), 0);
	CHECK_EQ(revoked_count(&s), 0);

	lease = rig_lease(s.client, s.ino, 0, FILE_BYTES, false);
	CHECK_EQ(pml_client_lease_end(lease), 4096);
	CHECK_EQ(pml_client_read(lease, s.buffer, 0, 0, 4096), 0);
	CHECK_EQ(count_wrong(pml_client_buffer_data(s.buffer), s.ino, 0, 4096), 0);
	CHECK_EQ(pml_client_return(lease), 0);
	end(&s);
}

static void test_return_ends_a_lease_on_the_server(void)
{
	struct scene s;
	begin(&s);
	struct pml_client_lease *lease = rig_lease(s.client, s.ino, 0, 8192, true);
	CHECK(rig_wait_leases(&s.rig, 1));
	CHECK(fake_fs_pins(s.rig.fs) == 2);
	CHECK_EQ(pml_client_return(lease), 0);
	CHECK(rig_wait_leases(&s.rig, 0));
	CHECK_EQ(fake_fs_pins(s.rig.fs), 0);
	end(&s);
}

struct reader {
	struct scene *s;
	pthread_t thread;
	atomic_bool is_over;
	atomic_uint reads;
	unsigned int stale;
	size_t wrong;
	int err;
};

/* Reads again and again, taking the lease anew when it was recalled. */
static void *read_on(void *arg)
{
	struct reader *r = arg;
	struct scene *s = r->s;
	while (!atomic_load(&r->is_over) && !r->err) {
		struct pml_client_lease *lease;
		r->err = pml_client_lease(s->client, rig_handle(s->client, s->ino), 0, FILE_BYTES,
					  false, 5000, &lease);
		if (r->err)
			break;
		int err = 0;
		while (!err && !atomic_load(&r->is_over)) {
			size_t bytes = (size_t)pml_client_lease_end(lease);
			err = pml_client_read(lease, s->buffer, 0, 0, bytes);
			if (!err)
				r->wrong += count_wrong(pml_client_buffer_data(s->buffer), s->ino,
							0, bytes);
			r->reads++;
		}
		if (err == -ESTALE)
			r->stale++;
		else if (err)
			r->err = err;
		int returned = pml_client_return(lease);
		if (returned && !r->err)
			r->err = returned;
	}
	return NULL;
}

/* On a busy machine the reader may be late. */
static void wait_for_reads(const struct reader *r, unsigned int count)
{
	for (int i = 0; i < 5000 && r->reads < count; i++)
		usleep(1000);
}

/* Its own thread fences what it returns, before it takes the next request. */
static void test_a_client_at_its_limit_may_return_and_ask_again(void)
{
	struct rig rig;
	rig_init(&rig);
	rig.config.max_session_leases = 1;
	REQUIRE(rig_start(&rig) == 0);
	struct pml_client *client = rig_connect(&rig);
	uint64_t ino = fake_fs_make(rig.fs, PML_ROOT_INO, "f", S_IFREG | 0666, 0);
	static const uint8_t bytes[16384];
	fake_fs_write(rig.fs, ino, 0, bytes, sizeof(bytes));
	for (unsigned int i = 0; i < 50; i++) {
		struct pml_client_lease *lease, *second;
		int err = pml_client_lease(client, rig_handle(client, ino), 0, 4096, i % 2, 0,
					   &lease);
		if (err)
			TAP_FAIL("lease %u: %s", i, pml_client_reason(client));
		REQUIRE(!err);
		if (i % 10 == 0)
			CHECK_EQ(pml_client_lease(client, rig_handle(client, ino), 8192, 4096,
						  false, 0, &second),
				 -EDQUOT);
		REQUIRE(pml_client_return(lease) == 0);
	}
	pml_client_close(client);
	rig_stop(&rig);
}

static void test_busy_reader_gives_way_and_never_sees_wrong_bytes(void)
{
	struct scene s;
	begin(&s);
	struct reader r = {.s = &s};
	pthread_create(&r.thread, NULL, read_on, &r);
	for (int i = 1; i <= 20; i++) {
		wait_for_reads(&r, r.reads + 1);
		CHECK(truncate_ms(&s, FILE_BYTES - (uint64_t)i * 8192) < 400);
	}
	atomic_store(&r.is_over, true);
	pthread_join(r.thread, NULL);
	CHECK_EQ(r.err, 0);
	CHECK_EQ(r.wrong, 0);
	CHECK(r.stale > 0 && r.reads > 0);
	CHECK_EQ(revoked_count(&s), 0);
	end(&s);
}

struct one_read {
	struct pml_client_lease *lease;
	struct pml_client_buffer *buffer;
	atomic_bool has_begun;
	int err;
};

static void *read_once(void *arg)
{
	struct one_read *r = arg;
	atomic_store(&r->has_begun, true);
	r->err = pml_client_read(r->lease, r->buffer, 0, 0, 4 * FILE_BYTES);
	return NULL;
}

static void test_long_transfer_stops_between_pieces(void)
{
	struct scene s;
	memset(&s, 0, sizeof(s));
	rig_init(&s.rig);
	s.rig.config.ack_ms = 10000; /* the data is slow, not the client */
	s.rig.config.drain_ms = 20000;
	start(&s);
	uint8_t *data = calloc(1, FILE_BYTES);
	for (uint64_t i = 0; i < 4; i++)
		fake_fs_write(s.rig.fs, s.ino, i * FILE_BYTES, data, FILE_BYTES);
	free(data);
	struct one_read r = {.lease = rig_lease(s.client, s.ino, 0, 4 * FILE_BYTES, false)};
	REQUIRE(pml_client_lease_end(r.lease) == 4 * FILE_BYTES);
	REQUIRE(pml_client_buffer_new(s.client, 4 * FILE_BYTES, &r.buffer) == 0);

	/* 64 pieces, of which 16 are in flight: more than a second in all. */
	const struct pml_soft_faults slow = {.delay_data_us = 20000};
	pml_soft_set_faults(&slow);
	pthread_t thread;
	pthread_create(&thread, NULL, read_once, &r);
	while (!atomic_load(&r.has_begun))
		usleep(1000);
	usleep(50000);
	(void)truncate_ms(&s, FILE_BYTES / 2);
	pthread_join(thread, NULL);
	CHECK_EQ(r.err, -ESTALE);
	CHECK_EQ(pml_client_return(r.lease), 0);
	CHECK_EQ(revoked_count(&s), 0);
	end(&s);
}

static void test_another_client_gets_the_range_after_a_recall(void)
{
	struct scene s;
	begin(&s);
	struct pml_client *other = rig_connect(&s.rig);
	struct pml_client_lease *mine = rig_lease(s.client, s.ino, 0, FILE_BYTES, true);
	struct pml_client_lease *theirs = rig_lease(other, s.ino, 4096, 4096, true);
	CHECK_EQ(pml_client_lease_status(mine), -ESTALE);
	CHECK_EQ(pml_client_lease_status(theirs), 0);
	CHECK_EQ(pml_client_return(mine), 0);
	CHECK_EQ(pml_client_return(theirs), 0);
	pml_client_close(other);
	CHECK_EQ(revoked_count(&s), 0);
	end(&s);
}

/* ---- programs that handle recalls themselves ------------------------------ */

struct own {
	struct scene *s;
	atomic_uint recalled, revoked;
	atomic_bool goes_on;
	bool returns_in_callback;
	char reason[PML_REASON_BYTES];
};

static bool take_recall(void *arg, struct pml_client_lease *lease, uint32_t drain_ms)
{
	struct own *own = arg;
	CHECK(drain_ms > 0);
	atomic_fetch_add(&own->recalled, 1);
	if (own->returns_in_callback)
		CHECK_EQ(pml_client_return(lease), 0);
	return atomic_load(&own->goes_on);
}

static void take_revoke(void *arg, struct pml_client_lease *lease, const char *reason)
{
	struct own *own = arg;
	snprintf(own->reason, sizeof(own->reason), "%s", reason);
	atomic_fetch_add(&own->revoked, 1);
}

static void set_own(struct scene *s, struct own *own)
{
	const struct pml_client_events events = {
		.recalled = take_recall, .revoked = take_revoke, .arg = own};
	own->s = s;
	pml_client_set_events(s->client, &events);
}

static bool wait_count(atomic_uint *count, unsigned int want)
{
	for (int i = 0; i < 5000 && atomic_load(count) < want; i++)
		usleep(1000);
	return atomic_load(count) == want;
}

static void *truncate_thread(void *arg)
{
	(void)truncate_ms(arg, 4096);
	return NULL;
}

static void test_program_may_finish_and_return_by_itself(void)
{
	struct scene s;
	begin(&s);
	struct own own = {.goes_on = false};
	set_own(&s, &own);
	struct pml_client_lease *lease = rig_lease(s.client, s.ino, 0, FILE_BYTES, true);
	pthread_t thread;
	pthread_create(&thread, NULL, truncate_thread, &s);
	CHECK(wait_count(&own.recalled, 1));
	usleep(600000); /* longer than ack_ms: the acknowledgement counts */
	CHECK_EQ(pml_client_lease_status(lease), 0);
	fill_pattern(pml_client_buffer_data(s.buffer), s.ino, 0, 4096);
	CHECK_EQ(pml_client_write(lease, s.buffer, 0, 0, 4096), 0);
	CHECK_EQ(pml_client_commit(lease, 0, 4096, 0), 0);
	CHECK_EQ(pml_client_return(lease), 0);
	pthread_join(thread, NULL);
	CHECK_EQ(revoked_count(&s), 0);
	end(&s);
}

static void test_program_may_return_inside_the_callback(void)
{
	struct scene s;
	begin(&s);
	struct own own = {.returns_in_callback = true};
	set_own(&s, &own);
	(void)rig_lease(s.client, s.ino, 0, FILE_BYTES, true);
	CHECK(truncate_ms(&s, 4096) < 300);
	CHECK_EQ(own.recalled, 1);
	CHECK_EQ(revoked_count(&s), 0);
	end(&s);
}

static void test_callback_may_leave_the_return_to_the_library(void)
{
	struct scene s;
	begin(&s);
	struct own own = {.goes_on = true};
	set_own(&s, &own);
	struct pml_client_lease *lease = rig_lease(s.client, s.ino, 0, FILE_BYTES, false);
	CHECK(truncate_ms(&s, 4096) < 300);
	CHECK_EQ(own.recalled, 1);
	CHECK_EQ(pml_client_lease_status(lease), -ESTALE);
	end(&s); /* close returns what is left */
}

static void test_program_that_does_not_return_in_time_is_told(void)
{
	struct scene s;
	begin(&s);
	struct own own = {.goes_on = false};
	set_own(&s, &own);
	struct pml_client_lease *lease = rig_lease(s.client, s.ino, 0, FILE_BYTES, true);
	uint64_t ms = truncate_ms(&s, 4096);
	CHECK(ms >= 1400 && ms < 3000);
	CHECK(wait_count(&own.revoked, 1));
	CHECK(strstr(own.reason, "not returned") != NULL);
	CHECK_EQ(pml_client_write(lease, s.buffer, 0, 0, 4096), -EKEYREVOKED);
	CHECK_EQ(pml_client_commit(lease, 0, 4096, 0), -EKEYREVOKED);
	CHECK_EQ(pml_client_lease_status(lease), -EKEYREVOKED);
	CHECK_EQ(pml_client_return(lease), -EKEYREVOKED);
	end(&s);
}

/* ---- bad clients --------------------------------------------------------- */

static void test_silent_writer_is_fenced_and_leaves_no_stain(void)
{
	struct scene s;
	begin(&s);
	be_silent(&s);
	struct pml_client_lease *lease = rig_lease(s.client, s.ino, 0, FILE_BYTES, true);
	pthread_t thread;
	pthread_create(&thread, NULL, truncate_thread, &s);
	int err = 0;
	uint64_t from_ms = pml_now_ms();
	while (!err && pml_now_ms() - from_ms < 10000)
		err = pml_client_write(lease, s.buffer, 0, 0, FILE_BYTES);
	CHECK_EQ(err, -EKEYREVOKED);
	CHECK(pml_now_ms() - from_ms < 2000);
	pthread_join(thread, NULL);
	CHECK_EQ(pml_client_lease_status(lease), -EKEYREVOKED);
	CHECK(pml_client_reason(s.client)[0] != 0);
	CHECK_EQ(pml_client_return(lease), -EKEYREVOKED);
	CHECK_EQ(revoked_count(&s), 1);
	end(&s);
}

static void test_silent_reader_is_fenced(void)
{
	struct scene s;
	begin(&s);
	be_silent(&s);
	struct pml_client_lease *lease = rig_lease(s.client, s.ino, 0, FILE_BYTES, false);
	uint64_t ms = truncate_ms(&s, 4096);
	CHECK(ms >= 400 && ms < 2000);
	/* Right after the truncation, which means right after the fence. */
	int err = pml_client_read(lease, s.buffer, 0, 0, FILE_BYTES);
	CHECK_EQ(err, -EKEYREVOKED);
	CHECK_EQ(pml_client_return(lease), -EKEYREVOKED);
	end(&s);
}

static void test_fence_that_fails_is_escalated_to_the_connection(void)
{
	struct scene s;
	begin(&s);
	be_silent(&s);
	struct pml_client_lease *lease = rig_lease(s.client, s.ino, 0, FILE_BYTES, true);
	const struct pml_soft_faults faults = {.fail_key_fences = 1};
	pml_soft_set_faults(&faults);
	CHECK(truncate_ms(&s, 4096) < 8000);
	CHECK_EQ(pml_client_write(lease, s.buffer, 0, 0, 4096), -EKEYREVOKED);
	CHECK_EQ(pml_client_return(lease), -EKEYREVOKED);
	struct pml_client_attr attr;
	CHECK_EQ(pml_client_stat(s.client, "file", &attr), -ENOTCONN);
	end(&s);
}

static void test_lost_recall_ends_in_a_revocation(void)
{
	struct scene s;
	begin(&s);
	struct pml_client_lease *lease = rig_lease(s.client, s.ino, 0, FILE_BYTES, false);
	const struct pml_soft_faults faults = {.drop_server_msgs = 1};
	pml_soft_set_faults(&faults);
	CHECK(truncate_ms(&s, 4096) < 2000);
	int err = 0;
	for (int i = 0; i < 1000 && !err; i++) {
		err = pml_client_lease_status(lease);
		usleep(1000);
	}
	CHECK_EQ(err, -EKEYREVOKED);
	CHECK(strstr(pml_client_reason(s.client), "sign of life") != NULL);
	CHECK_EQ(pml_client_return(lease), -EKEYREVOKED);

	/* The connection lives on. */
	lease = rig_lease(s.client, s.ino, 0, 4096, false);
	CHECK_EQ(pml_client_read(lease, s.buffer, 0, 0, 4096), 0);
	CHECK_EQ(pml_client_return(lease), 0);
	end(&s);
}

static void test_torn_write_costs_the_connection_only(void)
{
	struct scene s;
	begin(&s);
	struct pml_client_lease *lease = rig_lease(s.client, s.ino, 0, FILE_BYTES, true);
	const struct pml_soft_faults faults = {.tear_writes = 1};
	pml_soft_set_faults(&faults);
	int err = pml_client_write(lease, s.buffer, 0, 0, FILE_BYTES);
	CHECK(err == -ENOTCONN || err == -EKEYREVOKED);
	CHECK(pml_client_return(lease) != 0);
	CHECK(rig_wait_sessions(&s.rig, 0));
	CHECK_EQ(fake_fs_pins(s.rig.fs), 0);
	end(&s);
}

/* ---- sessions and connections --------------------------------------------- */

static void test_lost_reply_ends_in_a_timeout(void)
{
	struct scene s;
	begin(&s);
	struct pml_client *hasty;
	char reason[PML_REASON_BYTES];
	REQUIRE(pml_client_connect(s.rig.url, 300, &hasty, reason) == 0);
	const struct pml_soft_faults faults = {.drop_server_msgs = 1};
	pml_soft_set_faults(&faults);
	struct pml_client_attr attr;
	CHECK_EQ(pml_client_stat(hasty, "file", &attr), -ETIMEDOUT);
	CHECK_EQ(pml_client_stat(hasty, "file", &attr), -ENOTCONN);
	pml_client_close(hasty);
	end(&s);
}

/* ---- kinds of leases ------------------------------------------------------ */

static int take_kind(struct pml_client *client, uint64_t ino, unsigned int kind,
		     struct pml_client_lease **ret_lease)
{
	return pml_client_lease_with(client, rig_handle(client, ino), 0, FILE_BYTES, kind, 0,
				     ret_lease);
}

static void test_shared_writers_and_readers_reach_the_same_bytes(void)
{
	struct scene s;
	begin(&s);
	struct pml_client *other = rig_connect(&s.rig);
	struct pml_client_lease *writer = NULL, *reader = NULL, *alone = NULL;
	CHECK_EQ(take_kind(s.client, s.ino, PML_CLIENT_WRITE | PML_CLIENT_SHARED, &writer), 0);
	CHECK_EQ(take_kind(other, s.ino, PML_CLIENT_SHARED, &reader), 0);
	memset(pml_client_buffer_data(s.buffer), 0x5a, 4096);
	CHECK_EQ(pml_client_write(writer, s.buffer, 0, 4096, 4096), 0);
	struct pml_client_buffer *buffer;
	REQUIRE(pml_client_buffer_new(other, 4096, &buffer) == 0);
	CHECK_EQ(pml_client_read(reader, buffer, 0, 4096, 4096), 0);
	CHECK(memcmp(pml_client_buffer_data(buffer), pml_client_buffer_data(s.buffer), 4096) == 0);
	CHECK_EQ(pml_client_return(writer), 0);
	/* One that is not shared does not come beside them: they are recalled for it. */
	CHECK_EQ(take_kind(s.client, s.ino, 0, &alone), -EAGAIN);
	CHECK(rig_wait_leases(&s.rig, 0));
	CHECK_EQ(pml_client_return(reader), 0);
	CHECK_EQ(take_kind(s.client, s.ino, 8, &alone), -EINVAL);
	pml_client_buffer_free(buffer);
	pml_client_close(other);
	end(&s);
}

static void test_unbreakable_leases_are_for_mounts_that_allow_them(void)
{
	struct scene s;
	begin(&s);
	struct pml_client_lease *lease = NULL;
	CHECK_EQ(take_kind(s.client, s.ino, PML_CLIENT_UNBREAKABLE, &lease), -EPERM);
	s.rig.config.max_unbreakable_bytes = FILE_BYTES;
	CHECK_EQ(pml_lease_configure(s.rig.mgr, &s.rig.config), 0);
	CHECK_EQ(take_kind(s.client, s.ino, PML_CLIENT_UNBREAKABLE, &lease), 0);
	CHECK_EQ(fake_fs_truncate(s.rig.fs, s.ino, 4096), -EBUSY);
	CHECK_EQ(pml_client_lease_status(lease), 0);
	CHECK_EQ(pml_client_read(lease, s.buffer, 0, 0, FILE_BYTES), 0);
	CHECK_EQ(pml_client_return(lease), 0);
	CHECK(rig_wait_leases(&s.rig, 0));
	CHECK_EQ(fake_fs_truncate(s.rig.fs, s.ino, 4096), 0);
	end(&s);
}

static void test_a_downgrade_leaves_no_gap(void)
{
	struct scene s;
	begin(&s);
	struct pml_client_lease *lease = rig_lease(s.client, s.ino, 0, FILE_BYTES, true);
	uint64_t id = pml_client_lease_id(lease);
	memset(pml_client_buffer_data(s.buffer), 0x77, 8192);
	CHECK_EQ(pml_client_write(lease, s.buffer, 0, 0, 8192), 0);
	CHECK_EQ(pml_client_commit(lease, 0, 8192, 0), 0);
	CHECK_EQ(pml_client_downgrade(&lease), 0);
	CHECK(pml_client_lease_id(lease) != id);
	CHECK(rig_wait_leases(&s.rig, 1));
	CHECK_EQ(pml_client_read(lease, s.buffer, 0, 4096, 4096), 0);
	CHECK_EQ(((uint8_t *)pml_client_buffer_data(s.buffer))[0], 0x77);
	/* Another reader fits beside it now. */
	struct pml_client *other = rig_connect(&s.rig);
	struct pml_client_lease *reader = NULL;
	CHECK_EQ(take_kind(other, s.ino, 0, &reader), 0);
	CHECK_EQ(pml_client_write(lease, s.buffer, 0, 0, 4096), -EINVAL);
	CHECK_EQ(pml_client_downgrade(&lease), -EINVAL);
	CHECK_EQ(pml_client_lease_status(lease), 0);
	CHECK_EQ(pml_client_return(reader), 0);
	CHECK_EQ(pml_client_return(lease), 0);
	pml_client_close(other);
	CHECK_EQ(revoked_count(&s), 0);
	end(&s);
}

static void test_idle_client_renews_its_session(void)
{
	struct scene s;
	memset(&s, 0, sizeof(s));
	rig_init(&s.rig);
	s.rig.config.term_ms = 1000;
	start(&s);
	struct pml_client_lease *lease = rig_lease(s.client, s.ino, 0, FILE_BYTES, false);
	usleep(3000000);
	CHECK_EQ(pml_client_lease_status(lease), 0);
	CHECK_EQ(pml_client_read(lease, s.buffer, 0, 0, 4096), 0);
	CHECK_EQ(pml_client_return(lease), 0);
	end(&s);
}

static void test_a_term_that_was_changed_is_told_to_clients_that_come_then(void)
{
	struct scene s;
	begin(&s);
	s.rig.config.term_ms = 600;
	CHECK_EQ(pml_lease_configure(s.rig.mgr, &s.rig.config), 0);
	struct pml_client *late = rig_connect(&s.rig);
	struct pml_client_lease *lease = rig_lease(late, s.ino, 0, FILE_BYTES, false);
	usleep(2000000);
	CHECK_EQ(pml_client_lease_status(lease), 0);
	CHECK(rig_wait_leases(&s.rig, 1));
	CHECK_EQ(pml_client_return(lease), 0);
	pml_client_close(late);
	end(&s);
}

static void test_quiet_session_expires(void)
{
	struct scene s;
	memset(&s, 0, sizeof(s));
	rig_init(&s.rig);
	s.rig.config.term_ms = 400;
	start(&s);
	pml_client_close(s.client);
	struct pml_ep *ep = raw_connect(&s.rig);
	raw_hello(ep);
	union pml_message msg = {
		.lease = {.inode = rig_wire_handle(&s.rig, s.ino), .len_bytes = 4096}};
	CHECK_EQ(raw_send(ep, &msg, sizeof(msg.lease), PML_WIRE_LEASE), 0);
	CHECK_EQ(raw_recv(ep, &msg, 1000), 0);
	CHECK_EQ(msg.h.status, 0);
	CHECK(rig_wait_leases(&s.rig, 1));
	CHECK(rig_wait_sessions(&s.rig, 0));
	CHECK_EQ(fake_fs_pins(s.rig.fs), 0);
	raw_close(ep);
	rig_stop(&s.rig);
}

static void test_client_that_dies_leaves_nothing_behind(void)
{
	struct scene s;
	begin(&s);
	for (int i = 0; i < 20; i++) {
		struct pml_ep *ep = raw_connect(&s.rig);
		raw_hello(ep);
		union pml_message msg = {.lease = {.inode = rig_wire_handle(&s.rig, s.ino),
						   .len_bytes = 65536,
						   .mode = PML_LEASE_READ}};
		CHECK_EQ(raw_send(ep, &msg, sizeof(msg.lease), PML_WIRE_LEASE), 0);
		if (i % 2)
			CHECK_EQ(raw_recv(ep, &msg, 1000), 0);
		raw_close(ep); /* every other one before the reply came */
	}
	CHECK(rig_wait_sessions(&s.rig, 1));
	CHECK(rig_wait_leases(&s.rig, 0));
	CHECK_EQ(fake_fs_pins(s.rig.fs), 0);
	end(&s);
}

static void test_sessions_are_limited(void)
{
	struct scene s;
	memset(&s, 0, sizeof(s));
	rig_init(&s.rig);
	s.rig.config.max_sessions = 2;
	start(&s);
	struct pml_client *second = rig_connect(&s.rig);
	struct pml_client *third;
	char reason[PML_REASON_BYTES];
	CHECK_EQ(pml_client_connect(s.rig.url, 5000, &third, reason), -EUSERS);
	CHECK(strstr(reason, "as many clients") != NULL);
	pml_client_close(second);
	CHECK(rig_wait_sessions(&s.rig, 1));
	CHECK_EQ(pml_client_connect(s.rig.url, 5000, &third, reason), 0);
	pml_client_close(third);
	end(&s);
}

static void test_client_reconnects_after_the_server_came_back(void)
{
	struct scene s;
	begin(&s);
	struct pml_client_lease *lease = rig_lease(s.client, s.ino, 0, FILE_BYTES, true);
	const struct pml_client_handle file = *rig_handle(s.client, s.ino);
	uint64_t from_ms = pml_now_ms();
	rig_stop_server(&s.rig);
	CHECK(pml_now_ms() - from_ms < 3000);
	CHECK_EQ(fake_fs_pins(s.rig.fs), 0);
	int err = pml_client_write(lease, s.buffer, 0, 0, 4096);
	CHECK(err == -ENOTCONN || err == -EKEYREVOKED);
	struct pml_client_attr attr;
	CHECK_EQ(pml_client_stat(s.client, "file", &attr), -ENOTCONN);
	CHECK(strstr(pml_client_reason(s.client), "file") != NULL);
	CHECK(pml_client_return(lease) != 0);
	struct pml_client_lease *none;
	CHECK_EQ(pml_client_lease(s.client, &file, 0, 4096, true, 5000, &none), -ENOTCONN);
	pml_client_close(s.client);

	REQUIRE(rig_start_server(&s.rig) == 0);
	s.client = rig_connect(&s.rig);
	CHECK_EQ(pml_client_lease(s.client, &file, 0, 4096, true, 5000, &none), -ESTALE);
	CHECK(strstr(pml_client_reason(s.client), "mounted again") != NULL);
	CHECK_EQ(pml_client_stat(s.client, "file", &attr), 0);
	end(&s);
}

static void test_server_stops_while_clients_are_busy(void)
{
	struct scene s;
	begin(&s);
	struct reader r = {.s = &s};
	pthread_create(&r.thread, NULL, read_on, &r);
	usleep(20000);
	rig_stop_server(&s.rig);
	pthread_join(r.thread, NULL);
	CHECK(r.err == -ENOTCONN || r.err == -EKEYREVOKED);
	CHECK_EQ(r.wrong, 0);
	end(&s);
}

/* ---- an administrator ends a session -------------------------------------- */

static uint64_t session_of(struct scene *s)
{
	struct pml_session_view view[2];
	CHECK_EQ(pml_session_list(s->rig.mgr, 0, view, 2), 1);
	return view[0].session;
}

static void test_an_evicted_client_is_told_why_and_may_come_again(void)
{
	struct scene s;
	begin(&s);
	pml_client_set_reconnect(s.client, 0);
	struct pml_client_lease *lease = rig_lease(s.client, s.ino, 0, FILE_BYTES, true);
	uint64_t session = session_of(&s);
	uint32_t nleases = 0;
	CHECK_EQ(pml_session_evict(s.rig.mgr, session, &nleases), 0);
	CHECK_EQ(nleases, 1);
	CHECK_EQ(fake_fs_pins(s.rig.fs), 0);
	for (int i = 0; i < 5000 && pml_client_lease_status(lease) == 0; i++)
		usleep(1000);
	CHECK_EQ(pml_client_lease_status(lease), -EKEYREVOKED);
	CHECK(pml_client_return(lease) < 0);
	CHECK(strstr(pml_client_reason(s.client), "administrator") != NULL);
	struct pml_client_attr attr;
	int err = 0;
	for (int i = 0; i < 5000 && !err; i++) {
		err = pml_client_stat(s.client, "file", &attr);
		usleep(1000);
	}
	CHECK_EQ(err, -ENOTCONN);
	CHECK(strstr(pml_client_reason(s.client), "administrator") != NULL);

	pml_client_set_reconnect(s.client, 5000);
	CHECK_EQ(pml_client_stat(s.client, "file", &attr), 0);
	CHECK(session_of(&s) > session);
	lease = rig_lease(s.client, s.ino, 0, FILE_BYTES, false);
	CHECK_EQ(pml_client_read(lease, s.buffer, 0, 0, 4096), 0);
	CHECK_EQ(pml_client_return(lease), 0);
	end(&s);
}

/* Its key may be refused before it has heard why. */
static void test_a_client_that_is_evicted_while_it_writes_leaves_no_stain(void)
{
	struct scene s;
	begin(&s);
	pml_client_set_reconnect(s.client, 0);
	struct pml_client_lease *lease = rig_lease(s.client, s.ino, 0, FILE_BYTES, true);
	CHECK_EQ(pml_client_write(lease, s.buffer, 0, 0, 4096), 0);
	uint32_t nleases = 0;
	CHECK_EQ(pml_session_evict(s.rig.mgr, session_of(&s), &nleases), 0);
	CHECK_EQ(nleases, 1);
	CHECK_EQ(fake_fs_pins(s.rig.fs), 0);
	/* Bytes that are sent now land nowhere: the rig looks for stains. */
	CHECK(pml_client_write(lease, s.buffer, 0, 0, 4096) < 0);
	CHECK(pml_client_return(lease) < 0);
	CHECK(rig_wait_sessions(&s.rig, 0));
	end(&s);
}

static void test_a_client_that_hears_nothing_is_evicted_too(void)
{
	struct scene s;
	begin(&s);
	be_silent(&s);
	struct pml_client_lease *lease = rig_lease(s.client, s.ino, 0, FILE_BYTES, true);
	uint32_t nleases = 0;
	const struct pml_soft_faults lose = {.drop_server_msgs = 100};
	const struct pml_soft_faults none = {0};
	pml_soft_set_faults(&lose);
	CHECK_EQ(pml_session_evict(s.rig.mgr, session_of(&s), &nleases), 0);
	CHECK_EQ(fake_fs_pins(s.rig.fs), 0);
	pml_soft_set_faults(&none);
	CHECK(pml_client_write(lease, s.buffer, 0, 0, 4096) < 0);
	CHECK(pml_client_return(lease) < 0);
	CHECK(rig_wait_sessions(&s.rig, 0));
	end(&s);
}

/*
 * The bytes of a hole travel from nowhere, so no key refuses them: a client that has not heard
 * yet that it was revoked must learn it from the read (I10).
 */
static void test_I10_a_hole_is_not_believed_after_the_fence(void)
{
	struct rig rig;
	rig_init(&rig);
	uint64_t ino = fake_fs_make(rig.fs, PML_ROOT_INO, "holes", S_IFREG | 0644, 0);
	/* Blocks 0 and 9; what is between them has none. */
	fake_fs_write(rig.fs, ino, 0, "a", 1);
	fake_fs_write(rig.fs, ino, 9 * PML_BLOCK_BYTES, "b", 1);
	REQUIRE(rig_start(&rig) == 0);
	for (uint64_t end = 9; end <= 10; end++) {
		struct pml_client *client = rig_connect(&rig);
		pml_client_set_events(client, &(struct pml_client_events){.is_silent = true});
		struct pml_client_lease *lease =
			rig_lease(client, ino, PML_BLOCK_BYTES, (end - 1) * PML_BLOCK_BYTES, false);
		uint8_t got[64];
		const struct iovec iov = {.iov_base = got, .iov_len = sizeof(got)};
		memset(got, 0xee, sizeof(got));
		CHECK_EQ(pml_client_readv(lease, &iov, 1, 5 * PML_BLOCK_BYTES), 0);
		CHECK(got[0] == 0 && memcmp(got, got + 1, sizeof(got) - 1) == 0);
		/* Neither recall nor revocation gets to the client. */
		pml_soft_set_faults(&(struct pml_soft_faults){.drop_server_msgs = 1000});
		CHECK_EQ(fake_fs_punch(rig.fs, ino, 5, 1), 0);
		CHECK_EQ(pml_client_lease_status(lease), 0);
		CHECK(pml_client_readv(lease, &iov, 1, 5 * PML_BLOCK_BYTES) < 0);
		CHECK(pml_client_lease_status(lease) != 0);
		pml_soft_set_faults(&(struct pml_soft_faults){0});
		(void)pml_client_return(lease);
		pml_client_close(client);
	}
	rig_stop(&rig);
}

int main(void)
{
	TAP_RUN(test_idle_lease_is_returned_at_once_when_recalled);
	TAP_RUN(test_return_ends_a_lease_on_the_server);
	TAP_RUN(test_a_client_at_its_limit_may_return_and_ask_again);
	TAP_RUN(test_busy_reader_gives_way_and_never_sees_wrong_bytes);
	TAP_RUN(test_long_transfer_stops_between_pieces);
	TAP_RUN(test_another_client_gets_the_range_after_a_recall);
	TAP_RUN(test_program_may_finish_and_return_by_itself);
	TAP_RUN(test_program_may_return_inside_the_callback);
	TAP_RUN(test_callback_may_leave_the_return_to_the_library);
	TAP_RUN(test_program_that_does_not_return_in_time_is_told);
	TAP_RUN(test_silent_writer_is_fenced_and_leaves_no_stain);
	TAP_RUN(test_silent_reader_is_fenced);
	TAP_RUN(test_fence_that_fails_is_escalated_to_the_connection);
	TAP_RUN(test_lost_recall_ends_in_a_revocation);
	TAP_RUN(test_torn_write_costs_the_connection_only);
	TAP_RUN(test_lost_reply_ends_in_a_timeout);
	TAP_RUN(test_shared_writers_and_readers_reach_the_same_bytes);
	TAP_RUN(test_unbreakable_leases_are_for_mounts_that_allow_them);
	TAP_RUN(test_a_downgrade_leaves_no_gap);
	TAP_RUN(test_I10_a_hole_is_not_believed_after_the_fence);
	TAP_RUN(test_idle_client_renews_its_session);
	TAP_RUN(test_a_term_that_was_changed_is_told_to_clients_that_come_then);
	TAP_RUN(test_quiet_session_expires);
	TAP_RUN(test_client_that_dies_leaves_nothing_behind);
	TAP_RUN(test_sessions_are_limited);
	TAP_RUN(test_client_reconnects_after_the_server_came_back);
	TAP_RUN(test_server_stops_while_clients_are_busy);
	TAP_RUN(test_an_evicted_client_is_told_why_and_may_come_again);
	TAP_RUN(test_a_client_that_is_evicted_while_it_writes_leaves_no_stain);
	TAP_RUN(test_a_client_that_hears_nothing_is_evicted_too);
	return tap_done();
}
