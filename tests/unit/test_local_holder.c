/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_local_holder.c -- leases of local programs, over a fake filesystem: events, ends, and
 * the fence, with processes that are really killed
 */
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>

#include "../support/lease_fake_fs.h"
#include "../tap.h"
#include "pml/clock.h"
#include "pml/local.h"

#define BLOCK PML_BLOCK_BYTES

static struct pml_fs *fs;
static struct pml_lease_manager *mgr;
static struct pml_local *local;
static atomic_uint wakes;
static _Atomic uint64_t woken;

static void on_wake(void *arg, uint64_t open_id)
{
	(void)arg;
	woken = open_id;
	wakes++;
}

static void start_with(void (*adjust)(struct pml_lease_config *config))
{
	struct pml_lease_config config;
	pml_lease_config_default(&config, 1ull << 30);
	config.ack_ms = 100;
	config.drain_ms = 300;
	if (adjust)
		adjust(&config);
	fs = fake_fs_new();
	wakes = 0;
	if (pml_lease_manager_new(fs, &config, NULL, &mgr) != 0 ||
	    pml_local_new(mgr, on_wake, NULL, &local) != 0)
		BAIL_OUT("manager");
}

static void start(void)
{
	start_with(NULL);
}

static void finish(void)
{
	const char *what = NULL;
	CHECK_EQ(pml_lease_manager_free(mgr), 0);
	pml_local_free(local);
	CHECK_EQ(fake_fs_violations(fs, &what), 0);
	CHECK_EQ(fake_fs_pins(fs), 0);
	for (uint64_t ino = 0; ino < FAKE_INODES; ino++)
		CHECK_EQ(fake_fs_refs(fs, ino), 0);
	fake_fs_free(fs);
}

static void sleep_ms(unsigned int ms)
{
	struct timespec ts = {.tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000};
	nanosleep(&ts, NULL);
}

#define WAIT_FOR(cond)                                                                             \
	do {                                                                                       \
		uint64_t until_ = pml_now_ms() + 10000;                                            \
		while (!(cond) && pml_now_ms() < until_)                                           \
			sleep_ms(1);                                                               \
		CHECK(cond);                                                                       \
	} while (0)

static struct pml_lease_stats stats(void)
{
	struct pml_lease_stats got;
	pml_lease_stats(mgr, &got);
	return got;
}

/* ---- a process, and an operation ------------------------------------------- */

/* One that sleeps until it is killed. */
static pid_t process_new(void)
{
	pid_t pid = fork();
	if (pid < 0)
		BAIL_OUT("fork");
	if (pid == 0)
		for (;;)
			pause();
	return pid;
}

/* How it ended: 0, or by which signal. */
static int process_end(pid_t pid, int signo)
{
	int status = 0;
	if (signo)
		kill(pid, signo);
	waitpid(pid, &status, 0);
	return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

static bool has_ended(pid_t pid)
{
	siginfo_t info = {0};
	return waitid(P_PID, (id_t)pid, &info, WEXITED | WNOHANG | WNOWAIT) == 0 && info.si_pid;
}

static int take(uint64_t open_id, pid_t pid, uint64_t first, uint64_t len, enum pml_lease_mode mode,
		uint64_t *ret_lease)
{
	const struct pml_local_caller caller = {.open_id = open_id, .tid = pid};
	const struct pml_lease_wish wish = {
		.ino = 1, .first_byte = first, .len_bytes = len, .mode = mode};
	struct pml_grant grant;
	int err = pml_local_take(local, &caller, &wish, &grant);
	if (!err)
		*ret_lease = grant.lease_id;
	return err;
}

static uint64_t must_take(uint64_t open_id, pid_t pid, uint64_t first, uint64_t len)
{
	uint64_t lease = 0;
	if (take(open_id, pid, first, len, PML_LEASE_READ, &lease) != 0)
		BAIL_OUT("take");
	return lease;
}

struct op {
	struct pml_waiter w;
	struct pml_layout_change change;
	sem_t resumed;
};

static void op_resume(struct pml_waiter *w)
{
	sem_post(&PML_CONTAINER_OF(w, struct op, w)->resumed);
}

static int op_start(struct op *op, uint64_t session)
{
	memset(op, 0, sizeof(*op));
	op->w.resume = op_resume;
	op->w.session = session;
	op->change = (struct pml_layout_change){.ino = 1, .end_byte = BLOCK, .op = PML_OP_PUNCH};
	sem_init(&op->resumed, 0, 0);
	return fake_fs_change(fs, &op->change, &op->w);
}

/* What it comes to when it is resumed. */
static int op_end(struct op *op)
{
	while (sem_wait(&op->resumed) != 0)
		;
	int err = fake_fs_change(fs, &op->change, &op->w);
	fake_fs_done(fs, &op->w);
	sem_destroy(&op->resumed);
	return err;
}

/* ---- events ------------------------------------------------------------------ */

static void test_a_recall_is_an_event_and_reading_it_is_an_ack(void)
{
	start();
	pid_t pid = process_new();
	uint64_t lease = must_take(7, pid, 0, BLOCK);
	struct pml_local_event event;
	CHECK_EQ(pml_local_event(local, 7, &event), -EAGAIN);
	CHECK(!pml_local_has_event(local, 7));
	struct op op;
	CHECK_EQ(op_start(&op, 0), -EINPROGRESS);
	WAIT_FOR(wakes == 1);
	CHECK_EQ(woken, 7);
	CHECK(pml_local_has_event(local, 7));
	CHECK_EQ(pml_local_event(local, 7, &event), 0);
	CHECK(!event.is_revoked);
	CHECK_EQ(event.lease_id, lease);
	CHECK_EQ(event.op, PML_OP_PUNCH);
	CHECK_EQ(event.drain_ms, 300);
	CHECK(!pml_local_has_event(local, 7));
	/* Longer than the ack clock. */
	sleep_ms(180);
	CHECK_EQ(stats().leases, 1);
	CHECK_EQ(pml_local_return(local, 7, lease), 0);
	CHECK_EQ(op_end(&op), 0);
	CHECK_EQ(pml_local_event(local, 7, &event), -EAGAIN);
	CHECK_EQ(pml_local_return(local, 7, lease), -ESTALE);
	CHECK_EQ(stats().fence_escalations, 0);
	CHECK(!has_ended(pid));
	pml_local_released(local, 7);
	CHECK_EQ(process_end(pid, SIGTERM), SIGTERM);
	finish();
}

static void test_an_own_change_is_a_return_and_an_event(void)
{
	start();
	pid_t pid = process_new();
	uint64_t lease = must_take(7, pid, 0, BLOCK);
	CHECK_EQ(pml_local_session(local, 8), 0);
	uint64_t session = pml_local_session(local, 7);
	CHECK(session != 0);
	struct op op;
	CHECK_EQ(op_start(&op, session), -EINPROGRESS);
	CHECK_EQ(op_end(&op), 0);
	struct pml_local_event event;
	CHECK_EQ(pml_local_event(local, 7, &event), 0);
	CHECK(event.is_revoked);
	CHECK_EQ(event.lease_id, lease);
	CHECK_EQ(event.why, PML_END_OWN_CHANGE);
	CHECK_EQ(pml_local_event(local, 7, &event), -EAGAIN);
	CHECK_EQ(stats().recalls, 0);
	CHECK(!has_ended(pid));
	pml_local_released(local, 7);
	process_end(pid, SIGTERM);
	finish();
}

static void make_small(struct pml_lease_config *config)
{
	config->max_session_leases = 4 * PML_LOCAL_LEASES_MAX;
}

/* I9: events that nobody reads. */
static void test_I9_leases_and_unread_events_are_limited(void)
{
	start_with(make_small);
	pid_t pid = process_new();
	uint64_t session = 0, lease = 0;
	for (unsigned int i = 0; i < PML_LOCAL_LEASES_MAX; i++) {
		must_take(7, pid, 0, BLOCK);
		session = pml_local_session(local, 7);
		/* Of half of them an event is left. */
		if (i % 2 == 0)
			continue;
		struct op op;
		CHECK_EQ(op_start(&op, session), -EINPROGRESS);
		CHECK_EQ(op_end(&op), 0);
	}
	CHECK_EQ(stats().leases, 0);
	CHECK_EQ(take(7, pid, 0, BLOCK, PML_LEASE_READ, &lease), -ENOBUFS);
	struct pml_local_event event;
	for (unsigned int i = 0; i < PML_LOCAL_LEASES_MAX; i++)
		CHECK_EQ(pml_local_event(local, 7, &event), 0);
	CHECK_EQ(pml_local_event(local, 7, &event), -EAGAIN);
	CHECK_EQ(take(7, pid, 0, BLOCK, PML_LEASE_READ, &lease), 0);
	pml_local_released(local, 7);
	process_end(pid, SIGTERM);
	finish();
}

static void test_a_refused_lease_leaves_nothing(void)
{
	start();
	pid_t pid = process_new();
	uint64_t lease = 0;
	CHECK_EQ(take(7, 0, 0, BLOCK, PML_LEASE_READ, &lease), -ESRCH);
	CHECK_EQ(take(7, getpid(), 0, BLOCK, PML_LEASE_READ, &lease), -EPERM);
	CHECK_EQ(pml_local_session(local, 7), 0);
	CHECK_EQ(stats().sessions, 0);
	CHECK_EQ(take(7, pid, 0, 0, PML_LEASE_READ, &lease), -EINVAL);
	fake_fs_fail_pin(fs, -ENOSPC);
	CHECK_EQ(take(7, pid, 0, BLOCK, PML_LEASE_READ, &lease), -ENOSPC);
	CHECK_EQ(pml_local_return(local, 7, 1), -ESTALE);
	CHECK_EQ(pml_local_ack(local, 8, 1), -ESTALE);
	CHECK_EQ(pml_local_commit(local, 8, 1, 0, 1, 0), -ESTALE);
	CHECK_EQ(pml_local_commit(local, 8, 1, 0, 0, 0), -EINVAL);
	pml_local_released(local, 7);
	pml_local_released(local, 8);
	process_end(pid, SIGTERM);
	/* What has ended is not seen any more. */
	CHECK_EQ(take(9, pid, 0, BLOCK, PML_LEASE_READ, &lease), -ESRCH);
	pml_local_released(local, 9);
	finish();
}

/* ---- the fence ------------------------------------------------------------------ */

static void test_I3_a_closed_description_is_the_end_of_its_leases(void)
{
	start();
	pid_t pid = process_new();
	must_take(7, pid, 0, BLOCK);
	must_take(7, pid, BLOCK, BLOCK);
	must_take(8, pid, 0, BLOCK);
	CHECK_EQ(stats().sessions, 2);
	pml_local_released(local, 7);
	WAIT_FOR(stats().leases == 1);
	WAIT_FOR(stats().sessions == 1);
	CHECK_EQ(stats().fence_escalations, 0);
	CHECK(!has_ended(pid));
	pml_local_released(local, 8);
	process_end(pid, SIGTERM);
	finish();
}

/* The kernel's part: the description ends with its process. */
static void *release_after(void *arg)
{
	pid_t pid = *(pid_t *)arg;
	while (!has_ended(pid))
		sleep_ms(1);
	pml_local_released(local, 7);
	return NULL;
}

static void test_I3_a_silent_holder_is_killed_and_only_then_unpinned(void)
{
	start();
	pid_t pid = process_new();
	must_take(7, pid, 0, BLOCK);
	pthread_t kernel;
	pthread_create(&kernel, NULL, release_after, &pid);
	struct op op;
	uint64_t began_ms = pml_now_ms();
	CHECK_EQ(op_start(&op, 0), -EINPROGRESS);
	CHECK_EQ(op_end(&op), 0);
	CHECK(pml_now_ms() - began_ms >= 100);
	pthread_join(kernel, NULL);
	CHECK_EQ(process_end(pid, 0), SIGKILL);
	CHECK_EQ(stats().revoked, 1);
	CHECK_EQ(stats().fences_stuck, 0);
	finish();
}

/* Somebody else has the description: nobody knows what his devices do. */
static void test_I3_a_description_that_lives_on_is_stuck_until_it_ends(void)
{
	start();
	pid_t pid = process_new(), other = process_new();
	must_take(7, pid, 0, BLOCK);
	struct op op;
	CHECK_EQ(op_start(&op, 0), -EINPROGRESS);
	CHECK_EQ(op_end(&op), -EIO);
	CHECK_EQ(process_end(pid, 0), SIGKILL);
	CHECK(!has_ended(other));
	CHECK_EQ(stats().fences_stuck, 1);
	CHECK_EQ(fake_fs_pins(fs), 1);
	CHECK_EQ(op_start(&op, 0), -EIO);
	fake_fs_done(fs, &op.w);
	sem_destroy(&op.resumed);

	pml_local_released(local, 7);
	WAIT_FOR(stats().leases == 0);
	CHECK_EQ(stats().fences_stuck, 0);
	CHECK_EQ(fake_fs_pins(fs), 0);
	CHECK_EQ(op_start(&op, 0), 0);
	fake_fs_done(fs, &op.w);
	sem_destroy(&op.resumed);
	process_end(other, SIGTERM);
	finish();
}

/* The process that took it is what is killed, not the one that took another. */
static void test_each_lease_is_of_the_process_that_took_it(void)
{
	start();
	pid_t first = process_new(), second = process_new();
	must_take(7, first, 0, BLOCK);
	must_take(7, second, BLOCK, BLOCK);
	must_take(7, second, 2 * BLOCK, BLOCK);
	struct op op;
	CHECK_EQ(op_start(&op, 0), -EINPROGRESS);
	CHECK_EQ(op_end(&op), -EIO);
	CHECK_EQ(process_end(first, 0), SIGKILL);
	CHECK(!has_ended(second));
	pml_local_released(local, 7);
	WAIT_FOR(stats().leases == 0);
	CHECK(!has_ended(second));
	process_end(second, SIGTERM);
	finish();
}

/* ---- the end ---------------------------------------------------------------------- */

struct returner {
	uint64_t open_id, lease;
	unsigned int op;
};

static void *return_when_recalled(void *arg)
{
	struct returner *r = arg;
	struct pml_local_event event;
	while (pml_local_event(local, r->open_id, &event) != 0)
		sleep_ms(1);
	r->op = event.op;
	CHECK_EQ(pml_local_return(local, r->open_id, r->lease), 0);
	return NULL;
}

static void test_at_the_end_holders_are_asked_first_and_killed_then(void)
{
	start();
	pid_t good = process_new(), bad = process_new();
	struct returner r = {.open_id = 8, .lease = must_take(8, good, 0, BLOCK)};
	must_take(7, bad, 0, BLOCK);
	pthread_t returning, kernel;
	pthread_create(&returning, NULL, return_when_recalled, &r);
	pthread_create(&kernel, NULL, release_after, &bad);
	uint64_t began_ms = pml_now_ms(), lease = 0;
	pml_local_end(local);
	CHECK(pml_now_ms() - began_ms >= 200);
	pthread_join(returning, NULL);
	pthread_join(kernel, NULL);
	CHECK_EQ(r.op, PML_LOCAL_OP_UNMOUNT);
	CHECK_EQ(process_end(bad, 0), SIGKILL);
	CHECK(!has_ended(good));
	WAIT_FOR(stats().leases == 0);
	CHECK_EQ(take(8, good, 0, BLOCK, PML_LEASE_READ, &lease), -ESHUTDOWN);
	CHECK_EQ(take(9, good, 0, BLOCK, PML_LEASE_READ, &lease), -ESHUTDOWN);
	process_end(good, SIGTERM);
	/* 8 is never released, as when the loop has ended. */
	finish();
}

static void test_an_end_without_holders_waits_for_nothing(void)
{
	start();
	uint64_t began_ms = pml_now_ms();
	pml_local_end(local);
	CHECK(pml_now_ms() - began_ms < 150);
	finish();
}

/* ---- threads ------------------------------------------------------------------------ */

#define THREADS 3
#define ROUNDS	150

static pid_t racer;

/* Each with a description of its own: takes, reads events, returns, closes. */
static void *race(void *arg)
{
	uint64_t open_id = (uint64_t)(uintptr_t)arg;
	for (int i = 0; i < ROUNDS; i++) {
		uint64_t lease = 0;
		struct pml_local_event event;
		int err = take(open_id, racer, 0, BLOCK, i % 3 ? PML_LEASE_READ : PML_LEASE_WRITE,
			       &lease);
		while (pml_local_event(local, open_id, &event) == 0)
			;
		if (err) {
			CHECK(err == -EAGAIN || err == -EDEADLK);
			sleep_ms(1);
			continue;
		}
		err = pml_local_return(local, open_id, lease);
		CHECK(err == 0 || err == -ESTALE);
		if (i % 10 == 9) {
			pml_local_released(local, open_id);
			open_id += THREADS;
		}
	}
	pml_local_released(local, open_id);
	return NULL;
}

static void make_patient(struct pml_lease_config *config)
{
	config->ack_ms = 20000;
	config->drain_ms = 30000;
	config->max_sessions = 1000;
}

static void test_threads_take_return_and_close_side_by_side(void)
{
	start_with(make_patient);
	racer = process_new();
	pthread_t threads[THREADS];
	for (uintptr_t i = 0; i < THREADS; i++)
		pthread_create(&threads[i], NULL, race, (void *)(i + 1));
	for (int i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	WAIT_FOR(stats().leases == 0);
	CHECK(stats().granted > 0);
	CHECK(!has_ended(racer));
	process_end(racer, SIGTERM);
	finish();
}

int main(void)
{
	TAP_RUN(test_a_recall_is_an_event_and_reading_it_is_an_ack);
	TAP_RUN(test_an_own_change_is_a_return_and_an_event);
	TAP_RUN(test_I9_leases_and_unread_events_are_limited);
	TAP_RUN(test_a_refused_lease_leaves_nothing);
	TAP_RUN(test_I3_a_closed_description_is_the_end_of_its_leases);
	TAP_RUN(test_I3_a_silent_holder_is_killed_and_only_then_unpinned);
	TAP_RUN(test_I3_a_description_that_lives_on_is_stuck_until_it_ends);
	TAP_RUN(test_each_lease_is_of_the_process_that_took_it);
	TAP_RUN(test_at_the_end_holders_are_asked_first_and_killed_then);
	TAP_RUN(test_an_end_without_holders_waits_for_nothing);
	TAP_RUN(test_threads_take_return_and_close_side_by_side);
	return tap_done();
}
