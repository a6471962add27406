/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_alloc.c -- free space, and transactions when there is none left
 *
 * Blocks are taken without files; what a test took it gives back, so that the
 * audit of the pool would find nothing.
 */
#include <inttypes.h>
#include <pthread.h>
#include <time.h>

#include "../../fs/alloc.h"
#include "../../fs/counter.h"
#include "../../fs/pin.h"
#include "../../fs/tx.h"
#include "../support/fs_pool.h"
#include "../tap.h"

#define POOL_BYTES (256ull << 20)
#define RUNS_MAX   70000u
/* Large enough for two arenas of libpmemobj. */
#define LARGE_POOL_BYTES (512ull << 20)

static struct fs_pool pool;

struct run {
	uint64_t first;
	uint64_t n;
};
static struct run runs[RUNS_MAX];
static unsigned int nruns;

static uint64_t next_random(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state;
}

static uint64_t free_blocks(void)
{
	struct pml_fs_counts counts;
	pml_fs_counts(pool.fs, &counts);
	CHECK(counts.free_blocks <= counts.total_blocks);
	CHECK_EQ(counts.free_blocks + counts.used_blocks + counts.quarantined_blocks,
		 counts.total_blocks);
	return counts.free_blocks;
}

/* Takes and notes one run. */
static int take(uint64_t want, uint64_t goal)
{
	struct run *run = &runs[nruns];
	if (nruns == RUNS_MAX)
		BAIL_OUT("more than %u runs", RUNS_MAX);
	int err = pml_alloc_take(pool.fs, want, goal, &run->first, &run->n);
	if (!err)
		nruns++;
	return err;
}

/* Takes until nothing is left. */
static void take_all(uint64_t want)
{
	int err = 0;
	while (!err)
		err = take(want, 0);
	CHECK_EQ(err, -ENOSPC);
}

static void give(unsigned int i)
{
	pml_alloc_unshare(pool.fs, runs[i].first, runs[i].n);
	runs[i] = runs[--nruns];
}

static void give_all(void)
{
	while (nruns)
		give(nruns - 1);
}

/* ---- taking -------------------------------------------------------------- */

static void test_a_fresh_device_is_all_free(void)
{
	struct statvfs st;
	pml_fs_statvfs(pool.fs, &st);
	CHECK_EQ(st.f_bfree, st.f_blocks);
	CHECK(st.f_blocks * st.f_frsize > POOL_BYTES * 8 / 10);
	CHECK_EQ(free_blocks(), st.f_blocks);
}

static void test_taken_blocks_have_one_share_and_lie_in_a_group(void)
{
	uint64_t before = free_blocks();
	REQUIRE(take(100, 0) == 0);
	CHECK_EQ(runs[0].n, 100);
	CHECK(pml_alloc_has(pool.fs, runs[0].first, 100));
	for (uint64_t b = runs[0].first; b < runs[0].first + 100; b++) {
		CHECK_EQ(atomic_load(&pool.fs->counters[b]), 1);
		CHECK(pml_alloc_is_used(pool.fs, b));
	}
	CHECK_EQ(free_blocks(), before - 100);
	uint64_t first = runs[0].first;
	give_all();
	CHECK(!pml_alloc_is_used(pool.fs, first));
	CHECK_EQ(free_blocks(), before);
}

static void test_large_runs_are_whole_and_aligned(void)
{
	REQUIRE(take(3, 0) == 0); /* so that not everything is aligned anyway */
	for (int i = 0; i < 4; i++) {
		REQUIRE(take(1024, 0) == 0);
		CHECK_EQ(runs[nruns - 1].n, 1024);
		CHECK_EQ(runs[nruns - 1].first % 512, 0);
	}
	give_all();
}

static void test_the_goal_is_kept_where_it_is_free(void)
{
	REQUIRE(take(10, 0) == 0);
	uint64_t end = runs[0].first + 10;
	REQUIRE(take(20, end) == 0);
	CHECK_EQ(runs[1].first, end);
	CHECK_EQ(runs[1].n, 20);
	/* Taken now, so elsewhere. */
	REQUIRE(take(5, end) == 0);
	CHECK(runs[2].first < end || runs[2].first >= end + 20);
	/* Goals that are none. */
	CHECK_EQ(take(1, 1), 0);
	CHECK_EQ(take(1, UINT64_MAX), 0);
	give_all();
}

static void test_everything_can_be_taken_once(void)
{
	uint64_t total = free_blocks();
	pml_auto_free uint8_t *owned = calloc(pool.fs->nblocks, 1);
	REQUIRE(owned);
	take_all(777);
	uint64_t sum = 0;
	for (unsigned int i = 0; i < nruns; i++) {
		sum += runs[i].n;
		CHECK(pml_alloc_has(pool.fs, runs[i].first, runs[i].n));
		for (uint64_t b = runs[i].first; b < runs[i].first + runs[i].n; b++)
			if (owned[b]++)
				TAP_FAIL("block %" PRIu64 " is taken twice", b);
	}
	CHECK_EQ(free_blocks(), 0);
	/* What mkfs promised is about what there is. */
	CHECK(sum <= total + 2048 && sum >= total - total / 20);
	give_all();
	CHECK_EQ(free_blocks(), sum);
}

static void test_a_fragmented_device_gives_what_it_has(void)
{
	take_all(1);
	uint64_t total = nruns;
	/* Every second block by number. */
	for (unsigned int i = nruns; i-- > 0;)
		if (runs[i].first % 2)
			give(i);
	uint64_t left = free_blocks();
	CHECK(left > total / 3);
	for (int i = 0; i < 1000; i++) {
		REQUIRE(take(2048, 0) == 0);
		CHECK_EQ(runs[nruns - 1].n, 1);
	}
	CHECK_EQ(free_blocks(), left - 1000);
	take_all(16);
	CHECK_EQ(nruns, total);
	give_all();
}

static void test_a_run_that_wraps_the_search_is_found(void)
{
	take_all(512);
	/* The only run that is long enough begins before the last search ended. */
	unsigned int first = 0;
	for (unsigned int i = 1; i < nruns; i++)
		if (runs[i].first < runs[first].first && runs[i].n == 512)
			first = i;
	uint64_t expect = runs[first].first;
	give(first);
	REQUIRE(take(512, 0) == 0);
	CHECK_EQ(runs[nruns - 1].first, expect);
	CHECK_EQ(runs[nruns - 1].n, 512);
	give_all();
}

static void test_groups_come_back_after_reopening(void)
{
	uint64_t carved = pml_alloc_carved_blocks(pool.fs);
	uint64_t payload = pool.fs->super->payload_blocks;
	CHECK(carved > 0);
	CHECK_EQ(payload, carved);
	fs_pool_reopen(&pool);
	CHECK_EQ(pml_alloc_carved_blocks(pool.fs), carved);
	CHECK_EQ(pml_alloc_free_blocks(pool.fs), carved);
	CHECK_EQ(free_blocks(), carved);
}

/* ---- marking and freeing ------------------------------------------------- */

static void test_marked_blocks_are_not_handed_out(void)
{
	const struct pml_media_group *g = &pool.fs->super->groups[0];
	REQUIRE(pml_counter_share(&pool.fs->counters[g->first_block + 1], 3) == 0);
	CHECK_EQ(pml_alloc_mark_used(pool.fs, g->first_block + 1, 3), 0);
	CHECK_EQ(pml_alloc_mark_used(pool.fs, g->first_block + 1, 3), 0);
	uint64_t left = pml_alloc_free_blocks(pool.fs);
	CHECK_EQ(left, pml_alloc_carved_blocks(pool.fs) - 3);
	take_all(64);
	for (unsigned int i = 0; i < nruns; i++)
		CHECK(runs[i].first + runs[i].n <= g->first_block + 1 ||
		      runs[i].first >= g->first_block + 4);
	give_all();
	pml_alloc_unshare(pool.fs, g->first_block + 1, 3);
	CHECK_EQ(pml_alloc_free_blocks(pool.fs), pml_alloc_carved_blocks(pool.fs));
}

static void test_places_outside_the_groups_are_refused(void)
{
	const struct pml_media_group *g = &pool.fs->super->groups[0];
	uint64_t first = g->first_block;
	CHECK(pml_alloc_has(pool.fs, first, g->nblocks));
	CHECK(!pml_alloc_has(pool.fs, first, g->nblocks + 1));
	CHECK(!pml_alloc_has(pool.fs, first, UINT64_MAX));
	CHECK(!pml_alloc_has(pool.fs, first, 0));
	CHECK(!pml_alloc_has(pool.fs, 0, 1));
	CHECK(!pml_alloc_has(pool.fs, pool.fs->nblocks, 1));
	CHECK(!pml_alloc_has(pool.fs, UINT64_MAX, 1));
	CHECK(!pml_alloc_has(pool.fs, UINT64_MAX, UINT64_MAX));
	CHECK_EQ(pml_alloc_mark_used(pool.fs, 0, 1), -EIO);
	CHECK_EQ(pml_alloc_mark_used(pool.fs, first + g->nblocks - 1, 2), -EIO);
	CHECK(!pml_alloc_is_used(pool.fs, 0));
	CHECK(!pml_alloc_is_used(pool.fs, UINT64_MAX));
}

/* I1: no share, but a pin: not free, not reusable, not poisoned. */
static void test_pinned_blocks_are_not_reused(void)
{
	REQUIRE(take(4, 0) == 0);
	struct run run = runs[0];
	uint8_t *p = pml_block_addr(pool.fs, run.first);
	memset(p, 0x11, 4 * PML_BLOCK_BYTES);
	REQUIRE(pml_pin_add(pool.fs, run.first + 1, 2, false) == 0);
	uint64_t before = free_blocks();
	give_all();
	CHECK_EQ(free_blocks(), before + 2);
	CHECK_EQ(p[0], 0xdb);
	CHECK_EQ(p[PML_BLOCK_BYTES], 0x11);
	CHECK_EQ(p[3 * PML_BLOCK_BYTES], 0xdb);
	struct pml_fs_counts counts;
	pml_fs_counts(pool.fs, &counts);
	CHECK_EQ(counts.pins, 2);
	CHECK_EQ(counts.quarantined_blocks, 2);
	take_all(64);
	for (unsigned int i = 0; i < nruns; i++)
		CHECK(runs[i].first > run.first + 2 || runs[i].first + runs[i].n <= run.first + 1);
	CHECK_EQ(p[PML_BLOCK_BYTES], 0x11);
	pml_pin_drop(pool.fs, run.first + 1, 2);
	CHECK_EQ(p[2 * PML_BLOCK_BYTES - 1], 0xdb);
	CHECK_EQ(take(64, 0), 0);
	CHECK_EQ(runs[nruns - 1].first, run.first + 1);
	give_all();
}

static void test_shares_are_counted(void)
{
	struct pml_fs_counts counts;
	REQUIRE(take(10, 0) == 0);
	struct run run = runs[0];
	CHECK_EQ(pml_counter_share(&pool.fs->counters[run.first], 4), 0);
	pml_fs_counts(pool.fs, &counts);
	CHECK_EQ(counts.used_blocks, 10);
	CHECK_EQ(counts.shared_blocks, 4);
	pml_alloc_unshare(pool.fs, run.first, 4);
	give_all();
	pml_fs_counts(pool.fs, &counts);
	CHECK_EQ(counts.used_blocks, 0);
	CHECK_EQ(counts.shared_blocks, 0);
}

/* ---- threads ------------------------------------------------------------- */

#define THREADS	   4u
#define HELD	   64u
#define ITERATIONS 20000u

static _Atomic uint8_t *owner; /* by block: 1 while a thread has it */
static atomic_uint twice;

static void *churn(void *arg)
{
	uint64_t random = 0x9e3779b97f4a7c15ull * ((uintptr_t)arg + 1);
	struct run held[HELD] = {{0, 0}};
	for (unsigned int i = 0; i < ITERATIONS + HELD; i++) {
		struct run *run = &held[i % HELD];
		for (uint64_t b = run->first; b < run->first + run->n; b++)
			atomic_store(&owner[b], 0);
		if (run->n)
			pml_alloc_unshare(pool.fs, run->first, run->n);
		run->n = 0;
		uint64_t want = 1 + next_random(&random) % (i % 7 ? 40 : 1500);
		if (i >= ITERATIONS ||
		    pml_alloc_take(pool.fs, want, run->first, &run->first, &run->n) != 0)
			continue;
		for (uint64_t b = run->first; b < run->first + run->n; b++)
			if (atomic_exchange(&owner[b], 1))
				atomic_fetch_add(&twice, 1);
	}
	return NULL;
}

static void test_threads_never_share_a_block(void)
{
	pthread_t thread[THREADS];
	owner = calloc(pool.fs->nblocks, 1);
	REQUIRE(owner);
	uint64_t before = free_blocks();
	for (uintptr_t i = 0; i < THREADS; i++)
		REQUIRE(pthread_create(&thread[i], NULL, churn, (void *)i) == 0);
	for (unsigned int i = 0; i < THREADS; i++)
		(void)pthread_join(thread[i], NULL);
	free((void *)(uintptr_t)owner);
	CHECK_EQ(atomic_load(&twice), 0);
	CHECK_EQ(free_blocks(), before);
}

/* ---- a heap that is full -------------------------------------------------- */

#define OBJECTS_MAX   100000u
#define SMALL_OBJECTS 700u
#define PLACE_BYTES   sizeof(struct pml_media_itable_chunk)

static uint64_t objects[OBJECTS_MAX];
static unsigned int nobjects;

static int add_object(size_t bytes, enum pml_media_type type)
{
	struct pml_tx tx;
	int err = pml_tx_begin(pool.fs, &tx);
	if (!err)
		err = pml_tx_end(&tx, pml_tx_alloc(bytes, type, &objects[nobjects]));
	if (!err)
		nobjects++;
	return err;
}

/* Some small objects, then of every kind until none fits. */
static void fill_heap(void)
{
	static const struct {
		enum pml_media_type type;
		size_t bytes;
	} kinds[] = {
		{PML_TYPE_ITABLE_CHUNK, sizeof(struct pml_media_itable_chunk)},
		{PML_TYPE_ITABLE_LEVEL, sizeof(struct pml_media_itable_level)},
		{PML_TYPE_BTREE_NODE, sizeof(struct pml_media_btree_node)},
		{PML_TYPE_SYMLINK, 4096},
		{PML_TYPE_SYMLINK, 800},
		{PML_TYPE_SYMLINK, 10},
		{PML_TYPE_DIRENT, 271},
		{PML_TYPE_DIRENT, 20},
	};
	nobjects = 0;
	while (nobjects < SMALL_OBJECTS && add_object(64, PML_TYPE_DIRENT) == 0)
		;
	for (size_t i = 0; i < PML_ARRAY_LEN(kinds); i++) {
		int err = 0;
		while (!err && nobjects < OBJECTS_MAX)
			err = add_object(kinds[i].bytes, kinds[i].type);
		CHECK_EQ(err, -ENOSPC);
	}
	/* Not even libpmemobj itself finds anything. */
	PMEMoid oid;
	CHECK(pmemobj_alloc(pool.fs->pool, &oid, 300u << 10, 0, NULL, NULL) != 0);
}

/* Inside a transaction. */
static int free_object(uint64_t offset)
{
	PMEMoid oid = pmemobj_oid(pml_at(pool.fs, offset));
	return pml_tx_free(pool.fs, offset, (enum pml_media_type)pmemobj_type_num(oid));
}

static void test_groups_leave_the_reserve_to_metadata(void)
{
	take_all(512);
	uint64_t sum = 0;
	nobjects = 0;
	while (nobjects < OBJECTS_MAX && add_object(PLACE_BYTES, PML_TYPE_ITABLE_CHUNK) == 0)
		sum += PLACE_BYTES;
	CHECK(sum >= PML_METADATA_RESERVE_MIN * 8 / 10);
	for (unsigned int i = 0; i < nobjects; i++) {
		struct pml_tx tx;
		REQUIRE(pml_tx_begin(pool.fs, &tx) == 0);
		CHECK_EQ(pml_tx_end(&tx, free_object(objects[i])), 0);
	}
	give_all();
}

/* Sets every second line of a place, so that snapshots do not merge. */
static int change_place(uint8_t *place, size_t bytes, uint8_t value)
{
	int err = 0;
	for (size_t at = 0; at < bytes && !err; at += 128) {
		err = pml_tx_add(place + at, 64);
		if (!err)
			memset(place + at, value, 64);
	}
	return err;
}

/* That, and frees objects [first, end), in one transaction. */
static int big_change(uint8_t *place, size_t bytes, uint8_t value, unsigned int first,
		      unsigned int end)
{
	struct pml_tx tx;
	int err = pml_tx_begin(pool.fs, &tx);
	if (err)
		return err;
	err = change_place(place, bytes, value);
	for (unsigned int i = first; i < end && !err; i++)
		err = free_object(objects[i]);
	return pml_tx_end(&tx, err);
}

static int make_place(uint64_t *ret_offset)
{
	struct pml_tx tx;
	int err = pml_tx_begin(pool.fs, &tx);
	if (err)
		return err;
	return pml_tx_end(&tx, pml_tx_alloc(PLACE_BYTES, PML_TYPE_ITABLE_CHUNK, ret_offset));
}

static void test_a_full_heap_can_still_be_emptied(void)
{
	uint64_t offset;
	REQUIRE(make_place(&offset) == 0);
	uint8_t *place = pml_at(pool.fs, offset);
	take_all(512);
	fill_heap();
	REQUIRE(nobjects > SMALL_OBJECTS);
	/* Far more than the 2 KiB and 40 frees that a lane holds by itself. */
	CHECK_EQ(big_change(place, PLACE_BYTES / 2, 0x55, 0, 500), 0);
	CHECK_EQ(place[0], 0x55);
	/* And the rest, which makes room again. */
	for (unsigned int i = 500; i < nobjects; i += 100)
		CHECK_EQ(big_change(place, 8192, 0x66, i, PML_MIN(i + 100, nobjects)), 0);
	CHECK_EQ(add_object(PLACE_BYTES, PML_TYPE_ITABLE_CHUNK), 0);
	give_all();
}

static void test_a_large_rollback_brings_everything_back(void)
{
	struct pml_tx tx;
	uint64_t offset;
	REQUIRE(make_place(&offset) == 0);
	uint8_t *place = pml_at(pool.fs, offset);
	CHECK_EQ(place[0], 0);
	CHECK_EQ(place[PLACE_BYTES - 1], 0);
	CHECK_EQ(big_change(place, PLACE_BYTES, 1, 0, 0), 0);

	REQUIRE(pml_tx_begin(pool.fs, &tx) == 0);
	CHECK_EQ(change_place(place, PLACE_BYTES, 2), 0);
	CHECK_EQ(pml_tx_end(&tx, -EBUSY), -EBUSY);
	unsigned int wrong = 0;
	for (size_t at = 0; at < PLACE_BYTES; at++)
		wrong += place[at] != (at % 128 < 64 ? 1 : 0);
	CHECK_EQ(wrong, 0);
}

static atomic_uint failed;

static void *big_changes(void *arg)
{
	for (int i = 0; i < 50; i++) {
		struct pml_tx tx;
		uint64_t offset;
		int err = make_place(&offset);
		if (!err)
			err = big_change(pml_at(pool.fs, offset), PLACE_BYTES, (uint8_t)i, 0, 0);
		if (!err)
			err = pml_tx_begin(pool.fs, &tx);
		if (!err)
			err = pml_tx_end(&tx, pml_tx_free(pool.fs, offset, PML_TYPE_ITABLE_CHUNK));
		if (err)
			atomic_fetch_add(&failed, 1);
	}
	return arg;
}

static void test_many_large_transactions_at_once(void)
{
	pthread_t thread[12];
	for (size_t i = 0; i < PML_ARRAY_LEN(thread); i++)
		REQUIRE(pthread_create(&thread[i], NULL, big_changes, NULL) == 0);
	for (size_t i = 0; i < PML_ARRAY_LEN(thread); i++)
		(void)pthread_join(thread[i], NULL);
	CHECK_EQ(atomic_load(&failed), 0);
}

/* ---- a full heap and several arenas --------------------------------------- */

#define EMPTIERS 4u

static pthread_barrier_t barrier;
static uint64_t places[EMPTIERS];

/* Frees its share of the objects in large transactions. */
static void *empty_heap(void *arg)
{
	uintptr_t me = (uintptr_t)arg;
	if (make_place(&places[me]) != 0)
		atomic_fetch_add(&failed, 1);
	(void)pthread_barrier_wait(&barrier);
	/* Now the heap is filled. */
	(void)pthread_barrier_wait(&barrier);
	for (unsigned int i = (unsigned int)me * 100; i < nobjects; i += EMPTIERS * 100)
		if (big_change(pml_at(pool.fs, places[me]), PLACE_BYTES / 2, (uint8_t)i, i,
			       PML_MIN(i + 100, nobjects)) != 0)
			atomic_fetch_add(&failed, 1);
	return NULL;
}

static void test_every_thread_can_empty_a_full_heap(void)
{
	pthread_t thread[EMPTIERS];
	struct statvfs st;
	fs_pool_remove(&pool);
	const char *folder = getenv("PML_TEST_DIR");
	if (statvfs(folder ? folder : "/dev/shm", &st) != 0 ||
	    st.f_bavail * st.f_frsize < LARGE_POOL_BYTES) {
		fs_pool_make(&pool, POOL_BYTES);
		SKIP("no room for a device of 512 MiB");
	}
	fs_pool_make(&pool, LARGE_POOL_BYTES);
	atomic_store(&failed, 0);
	(void)pthread_barrier_init(&barrier, NULL, EMPTIERS + 1);
	for (uintptr_t i = 0; i < EMPTIERS; i++)
		REQUIRE(pthread_create(&thread[i], NULL, empty_heap, (void *)i) == 0);
	(void)pthread_barrier_wait(&barrier);
	take_all(512);
	fill_heap();
	(void)pthread_barrier_wait(&barrier);
	for (unsigned int i = 0; i < EMPTIERS; i++)
		(void)pthread_join(thread[i], NULL);
	CHECK_EQ(atomic_load(&failed), 0);
	give_all();
	CHECK_EQ(add_object(PLACE_BYTES, PML_TYPE_ITABLE_CHUNK), 0);
}

/* The blocks of memory for logs are there again after opening a full device. */
static void test_a_full_heap_can_be_emptied_after_reopening(void)
{
	uint64_t offset;
	REQUIRE(make_place(&offset) == 0);
	take_all(512);
	fill_heap();
	give_all();
	fs_pool_reopen(&pool);
	for (unsigned int i = 0; i < nobjects; i += 100)
		CHECK_EQ(big_change(pml_at(pool.fs, offset), PLACE_BYTES / 2, 1, i,
				    PML_MIN(i + 100, nobjects)),
			 0);
}

static void test_a_place_outside_the_heap_is_an_error_and_aborts(void)
{
	struct pml_tx tx;
	uint64_t *word = &pool.fs->super->payload_blocks;
	uint64_t before = *word;
	REQUIRE(pml_tx_begin(pool.fs, &tx) == 0);
	CHECK_EQ(PML_TX_SET(*word, before + 1), 0);
	int err = pml_tx_add(pool.fs->base + 64, 8);
	CHECK_EQ(err, -EIO);
	CHECK_EQ(pml_tx_free(pool.fs, UINT64_MAX - 7, PML_TYPE_DIRENT), -EIO);
	CHECK_EQ(pml_tx_end(&tx, err), -EIO);
	CHECK_EQ(*word, before);
	/* And the thread can go on. */
	REQUIRE(pml_tx_begin(pool.fs, &tx) == 0);
	CHECK_EQ(pml_tx_end(&tx, 0), 0);
}

#define OPENS 60

/* Chunks of objects that an earlier open has begun are filled up by the next ones. */
static void test_opening_again_and_again_takes_no_memory(void)
{
	uint64_t kept[OPENS];
	fs_pool_remove(&pool);
	fs_pool_make(&pool, 64u << 20);
	for (int i = 0; i < OPENS; i++) {
		struct pml_tx tx;
		REQUIRE(pml_tx_begin(pool.fs, &tx) == 0);
		int err = pml_tx_alloc(sizeof(struct pml_media_btree_node), PML_TYPE_BTREE_NODE,
				       &kept[i]);
		REQUIRE(pml_tx_end(&tx, err) == 0);
		fs_pool_reopen(&pool);
	}
	/* All of them have a place in a few chunks. */
	uint64_t last = 0, first = UINT64_MAX;
	for (int i = 0; i < OPENS; i++) {
		last = PML_MAX(last, kept[i]);
		first = PML_MIN(first, kept[i]);
	}
	CHECK(last - first < 8u << 20);
}

int main(void)
{
	fs_pool_make(&pool, POOL_BYTES);
	TAP_RUN(test_a_fresh_device_is_all_free);
	TAP_RUN(test_taken_blocks_have_one_share_and_lie_in_a_group);
	TAP_RUN(test_large_runs_are_whole_and_aligned);
	TAP_RUN(test_the_goal_is_kept_where_it_is_free);
	TAP_RUN(test_everything_can_be_taken_once);
	TAP_RUN(test_a_fragmented_device_gives_what_it_has);
	TAP_RUN(test_a_run_that_wraps_the_search_is_found);
	TAP_RUN(test_groups_come_back_after_reopening);
	TAP_RUN(test_marked_blocks_are_not_handed_out);
	TAP_RUN(test_places_outside_the_groups_are_refused);
	TAP_RUN(test_pinned_blocks_are_not_reused);
	TAP_RUN(test_shares_are_counted);
	TAP_RUN(test_threads_never_share_a_block);
	TAP_RUN(test_groups_leave_the_reserve_to_metadata);
	TAP_RUN(test_a_full_heap_can_still_be_emptied);
	TAP_RUN(test_a_large_rollback_brings_everything_back);
	TAP_RUN(test_many_large_transactions_at_once);
	TAP_RUN(test_a_place_outside_the_heap_is_an_error_and_aborts);
	TAP_RUN(test_every_thread_can_empty_a_full_heap);
	TAP_RUN(test_a_full_heap_can_be_emptied_after_reopening);
	TAP_RUN(test_opening_again_and_again_takes_no_memory);
	fs_pool_remove(&pool);
	return tap_done();
}
