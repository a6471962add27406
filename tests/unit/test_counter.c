/* SPDX-License-Identifier: BSD-3-Clause */
/* test_counter.c -- shares and pins in one 32-bit atomic (I1) */
#include <pthread.h>

#include "../../fs/counter.h"
#include "../tap.h"

#define N 100u

static pml_counter counters[N];

/* Runs that became zero, in the order of the calls. */
static struct {
	uint64_t first;
	uint64_t n;
} runs[N];
static unsigned int nruns;

static void note_run(void *arg, uint64_t first, uint64_t n)
{
	(void)arg;
	runs[nruns].first = first;
	runs[nruns].n = n;
	nruns++;
}

static void set_all(uint32_t value)
{
	nruns = 0;
	for (unsigned int i = 0; i < N; i++)
		atomic_store(&counters[i], value);
}

static unsigned int count_equal(uint32_t value)
{
	unsigned int n = 0;
	for (unsigned int i = 0; i < N; i++)
		n += atomic_load(&counters[i]) == value;
	return n;
}

static void test_a_fresh_block_is_free_and_a_shared_one_is_not(void)
{
	set_all(0);
	CHECK(pml_counter_is_free(&counters[0]));
	CHECK_EQ(pml_counter_share(counters, N), 0);
	CHECK(!pml_counter_is_free(&counters[0]));
	CHECK(!pml_counter_maybe_pinned(&counters[0]));
	CHECK_EQ(count_equal(1), N);
}

static void test_a_pin_counts_1024_shares(void)
{
	set_all(1);
	CHECK_EQ(pml_counter_pin(counters, N), 0);
	CHECK_EQ(count_equal(1025), N);
	CHECK(pml_counter_maybe_pinned(&counters[N - 1]));
}

static void test_1024_shares_look_pinned(void)
{
	set_all(1023);
	CHECK(!pml_counter_maybe_pinned(&counters[0]));
	CHECK_EQ(pml_counter_share(counters, 1), 0);
	CHECK(pml_counter_maybe_pinned(&counters[0]));
}

static void test_zero_is_reported_in_maximal_runs(void)
{
	set_all(1);
	atomic_store(&counters[0], 2);
	atomic_store(&counters[10], 2);
	atomic_store(&counters[11], 1025);
	pml_counter_unshare(counters, N, note_run, NULL);
	CHECK_EQ(nruns, 2);
	CHECK_EQ(runs[0].first, 1);
	CHECK_EQ(runs[0].n, 9);
	CHECK_EQ(runs[1].first, 12);
	CHECK_EQ(runs[1].n, N - 12);
	CHECK_EQ(atomic_load(&counters[11]), 1024);
}

static void test_the_last_pin_of_a_block_without_shares_frees_it(void)
{
	set_all(2048);
	pml_counter_unpin(counters, N, note_run, NULL);
	CHECK_EQ(nruns, 0);
	pml_counter_unpin(counters, N, note_run, NULL);
	CHECK_EQ(nruns, 1);
	CHECK_EQ(runs[0].n, N);
	CHECK_EQ(count_equal(0), N);
}

static void test_a_share_too_many_changes_nothing(void)
{
	set_all(7);
	atomic_store(&counters[60], PML_SHARES_MAX);
	CHECK_EQ(pml_counter_share(counters, N), -EMLINK);
	CHECK_EQ(count_equal(7), N - 1);
	CHECK_EQ(atomic_load(&counters[60]), PML_SHARES_MAX);

	atomic_store(&counters[60], PML_SHARES_MAX - 1);
	CHECK_EQ(pml_counter_share(counters, N), 0);
	CHECK_EQ(atomic_load(&counters[60]), PML_SHARES_MAX);
}

static void test_a_pin_too_many_changes_nothing(void)
{
	set_all(7);
	atomic_store(&counters[99], UINT32_MAX - PML_PIN_BIAS + 1);
	CHECK_EQ(pml_counter_pin(counters, N), -EUSERS);
	CHECK_EQ(count_equal(7), N - 1);

	atomic_store(&counters[99], UINT32_MAX - PML_PIN_BIAS);
	CHECK_EQ(pml_counter_pin(counters, N), 0);
	CHECK_EQ(atomic_load(&counters[99]), UINT32_MAX);
}

static void test_a_million_pins_fit_beside_all_shares(void)
{
	set_all(PML_SHARES_MAX);
	for (unsigned int i = 0; i < 1000000; i++)
		if (pml_counter_pin(counters, 1) != 0)
			TAP_FAIL("pin %u is refused", i);
	for (unsigned int i = 0; i < 1000000; i++)
		pml_counter_unpin(counters, 1, note_run, NULL);
	CHECK_EQ(atomic_load(&counters[0]), PML_SHARES_MAX);
	CHECK_EQ(nruns, 0);
}

/* ---- threads ------------------------------------------------------------- */

#define THREADS 4
#define ROUNDS	20000

static atomic_bool stop;
static atomic_uint zeros;
static atomic_uint dips;

static void count_zeros(void *arg, uint64_t first, uint64_t n)
{
	(void)arg;
	(void)first;
	atomic_fetch_add(&zeros, (unsigned int)n);
}

/* Shares and pins random runs, and takes them back. */
static void *churn(void *arg)
{
	unsigned int seed = (unsigned int)(uintptr_t)arg;
	for (int i = 0; i < ROUNDS; i++) {
		unsigned int first = (unsigned int)rand_r(&seed) % N;
		unsigned int n = 1 + (unsigned int)rand_r(&seed) % (N - first);
		bool shared = pml_counter_share(&counters[first], n) == 0;
		bool pinned = pml_counter_pin(&counters[first], n) == 0;
		if (shared)
			pml_counter_unshare(&counters[first], n, count_zeros, NULL);
		if (pinned)
			pml_counter_unpin(&counters[first], n, count_zeros, NULL);
	}
	return NULL;
}

/* No counter is ever seen below its owner's one share. */
static void *watch(void *arg)
{
	(void)arg;
	while (!atomic_load(&stop))
		for (unsigned int i = 0; i < N; i++)
			if (pml_counter_is_free(&counters[i]))
				atomic_fetch_add(&dips, 1);
	return NULL;
}

static void test_threads_never_lose_a_count(void)
{
	pthread_t thread[THREADS];
	pthread_t watcher;
	set_all(1);
	/* Batches that cross this one fail and are rolled back. */
	atomic_store(&counters[N / 2], PML_SHARES_MAX);
	atomic_store(&stop, false);
	REQUIRE(pthread_create(&watcher, NULL, watch, NULL) == 0);
	for (uintptr_t i = 0; i < THREADS; i++)
		REQUIRE(pthread_create(&thread[i], NULL, churn, (void *)(i + 1)) == 0);
	for (int i = 0; i < THREADS; i++)
		(void)pthread_join(thread[i], NULL);
	atomic_store(&stop, true);
	(void)pthread_join(watcher, NULL);
	CHECK_EQ(count_equal(1), N - 1);
	CHECK_EQ(atomic_load(&counters[N / 2]), PML_SHARES_MAX);
	CHECK_EQ(atomic_load(&zeros), 0);
	CHECK_EQ(atomic_load(&dips), 0);
}

static void *drop_one(void *arg)
{
	(void)arg;
	pml_counter_unshare(counters, N, count_zeros, NULL);
	return NULL;
}

static void test_exactly_one_of_the_droppers_sees_zero(void)
{
	for (int round = 0; round < 200; round++) {
		pthread_t thread[THREADS];
		set_all(THREADS);
		atomic_store(&zeros, 0);
		for (int i = 0; i < THREADS; i++)
			REQUIRE(pthread_create(&thread[i], NULL, drop_one, NULL) == 0);
		for (int i = 0; i < THREADS; i++)
			(void)pthread_join(thread[i], NULL);
		CHECK_EQ(atomic_load(&zeros), N);
	}
}

int main(void)
{
	TAP_RUN(test_a_fresh_block_is_free_and_a_shared_one_is_not);
	TAP_RUN(test_a_pin_counts_1024_shares);
	TAP_RUN(test_1024_shares_look_pinned);
	TAP_RUN(test_zero_is_reported_in_maximal_runs);
	TAP_RUN(test_the_last_pin_of_a_block_without_shares_frees_it);
	TAP_RUN(test_a_share_too_many_changes_nothing);
	TAP_RUN(test_a_pin_too_many_changes_nothing);
	TAP_RUN(test_a_million_pins_fit_beside_all_shares);
	TAP_RUN(test_threads_never_lose_a_count);
	TAP_RUN(test_exactly_one_of_the_droppers_sees_zero);
	return tap_done();
}
