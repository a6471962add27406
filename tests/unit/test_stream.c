/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_stream.c -- a large file in very many extents is streamed with few keys at a time
 *
 * PML_STREAM_BYTES=10G: how large (256M); the device needs a tenth more in PML_TEST_DIR
 * (/dev/shm).  A real filesystem, the file layer of the client, the software fabric.  Each word
 * of the file says where it lies and who has written it, so that no byte of another place, or
 * of before, passes.
 *
 * A key covers one extent.  The server allows fewer keys than two leases may have, so leases
 * are cut short and have to slide along, thousands of times.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>

#include "pml/clock.h"
#include "pool_rig.h"
#include "tap.h"

#define PIECE_BYTES 16384u /* of an extent */
#define CHUNK_BYTES (1u << 20)
#define KEYS_MAX    96u

static struct pool_rig rig;
static struct pml_client *client;
static uint64_t file_bytes = 256ull << 20;
static uint64_t chunk[CHUNK_BYTES / sizeof(uint64_t)];

static uint64_t word_at(uint64_t byte, unsigned int round)
{
	return (byte / sizeof(uint64_t) + 1) * 0x9e3779b97f4a7c15u + round;
}

static void fill(uint64_t first_byte, unsigned int round)
{
	for (size_t i = 0; i < PML_ARRAY_LEN(chunk); i++)
		chunk[i] = word_at(first_byte + i * sizeof(chunk[0]), round);
}

static uint64_t count_wrong(uint64_t first_byte, unsigned int round)
{
	uint64_t wrong = 0;
	for (size_t i = 0; i < PML_ARRAY_LEN(chunk); i++)
		wrong += chunk[i] != word_at(first_byte + i * sizeof(chunk[0]), round);
	return wrong;
}

/* ---- the file ------------------------------------------------------------ */

/* Where the source has what lies at @byte: two pieces have changed places. */
static uint64_t source_of(uint64_t byte)
{
	return byte ^ PIECE_BYTES;
}

/* A contiguous file, and one that maps its pieces in another order; then the first one goes. */
static void make_file(void)
{
	struct pml_inode *root = fs_pool_root(&rig.pool);
	struct pml_inode *src = fs_pool_create(root, "src", S_IFREG | 0600);
	struct pml_inode *file = fs_pool_create(root, "file", S_IFREG | 0600);
	for (uint64_t at = 0; at < file_bytes; at += CHUNK_BYTES) {
		/* By where they will be. */
		for (size_t i = 0; i < PML_ARRAY_LEN(chunk); i++)
			chunk[i] = word_at(source_of(at + i * sizeof(chunk[0])), 0);
		if (pml_file_write(src, chunk, CHUNK_BYTES, at, false, NULL))
			BAIL_OUT("no space for the file");
	}
	for (uint64_t at = 0; at < file_bytes; at += PIECE_BYTES) {
		uint64_t done = 0;
		if (pml_file_clone(src, source_of(at), file, at, PIECE_BYTES, NULL, &done) ||
		    done != PIECE_BYTES)
			BAIL_OUT("no clone");
	}
	pml_inode_put(src, 1);
	if (pml_dir_unlink(root, "src"))
		BAIL_OUT("no unlink");
	pml_inode_put(file, 1);
	pml_inode_put(root, 1);
}

static void start(void)
{
	const char *given = getenv("PML_STREAM_BYTES");
	if (given) {
		char *end;
		file_bytes = strtoull(given, &end, 10) << (*end == 'G' ? 30 : *end == 'M' ? 20 : 0);
		file_bytes = pml_round_up(file_bytes, CHUNK_BYTES);
	}
	pool_rig_init_sized(&rig, file_bytes + file_bytes / 10 + FS_POOL_BYTES);
	rig.config.max_session_segments = KEYS_MAX;
	rig.config.drain_ms = 20000;
	uint64_t from_ms = pml_now_ms();
	make_file();
	printf("# %llu MiB in extents of %u KiB, made in %.1f s\n",
	       (unsigned long long)(file_bytes >> 20), PIECE_BYTES >> 10,
	       (double)(pml_now_ms() - from_ms) / 1000);
	pool_rig_start(&rig);
	client = pool_rig_user(&rig, 0, 0, false);
}

/* ---- how many keys there are ---------------------------------------------- */

static atomic_bool is_over;
static uint32_t most_keys, most_leases;

static void *watch_keys(void *arg)
{
	while (!is_over) {
		struct pml_session_view view[2];
		size_t n = pml_session_list(rig.mgr, 0, view, 2);
		for (size_t i = 0; i < n; i++) {
			most_keys = PML_MAX(most_keys, view[i].nsegments);
			most_leases = PML_MAX(most_leases, view[i].nleases);
		}
		usleep(200);
	}
	return NULL;
}

static struct pml_lease_stats stats(void)
{
	struct pml_lease_stats now;
	pml_lease_stats(rig.mgr, &now);
	return now;
}

/* ---- streams -------------------------------------------------------------- */

static uint64_t read_all(struct pml_client_file *file, unsigned int round)
{
	uint64_t wrong = 0;
	for (uint64_t at = 0; at < file_bytes; at += CHUNK_BYTES) {
		ssize_t n = pml_client_file_read(file, chunk, CHUNK_BYTES, at);
		if (n != CHUNK_BYTES)
			BAIL_OUT("read at %llu: %zd: %s", (unsigned long long)at, n,
				 pml_client_reason(client));
		wrong += count_wrong(at, round);
	}
	return wrong;
}

static void write_all(struct pml_client_file *file, unsigned int round)
{
	for (uint64_t at = 0; at < file_bytes; at += CHUNK_BYTES) {
		fill(at, round);
		ssize_t n = pml_client_file_write(file, chunk, CHUNK_BYTES, at);
		if (n != CHUNK_BYTES)
			BAIL_OUT("write at %llu: %zd: %s", (unsigned long long)at, n,
				 pml_client_reason(client));
	}
}

/* By the filesystem itself. */
static uint64_t look_at_all(unsigned int round)
{
	struct pml_inode *root = fs_pool_root(&rig.pool);
	struct pml_inode *file;
	uint64_t wrong = 0;
	if (pml_dir_lookup(root, "file", &file))
		BAIL_OUT("no file");
	for (uint64_t at = 0; at < file_bytes; at += CHUNK_BYTES) {
		if (fs_pool_read(file, at, chunk, CHUNK_BYTES) != CHUNK_BYTES)
			BAIL_OUT("no bytes");
		wrong += count_wrong(at, round);
	}
	pml_inode_put(file, 1);
	pml_inode_put(root, 1);
	return wrong;
}

static void test_a_file_in_many_extents_streams_with_few_keys(void)
{
	start();
	/* As many leases as must be, if none may have more than a lease can have. */
	const uint64_t slides_min = file_bytes / (PML_LEASE_SEGMENTS_MAX * (uint64_t)PIECE_BYTES);
	struct pml_client_attr attr;
	struct pml_client_file *file;
	pthread_t watcher;
	if (pml_client_stat(client, "file", &attr) ||
	    pml_client_file_open(client, &attr.handle, PML_CLIENT_FILE_READ | PML_CLIENT_FILE_WRITE,
				 NULL, &file))
		BAIL_OUT("cannot open");
	REQUIRE(pthread_create(&watcher, NULL, watch_keys, NULL) == 0);

	uint64_t from_ms = pml_now_ms();
	CHECK_EQ(read_all(file, 0), 0);
	uint64_t read_ms = pml_now_ms();
	uint64_t nreads = stats().granted;
	CHECK(nreads >= slides_min);
	write_all(file, 1);
	CHECK_EQ(pml_client_file_commit(file), 0);
	uint64_t written_ms = pml_now_ms();
	/* The extents are as they were: as many keys again. */
	CHECK(stats().granted - nreads >= slides_min);
	CHECK_EQ(pml_client_file_close(file), 0);
	CHECK_EQ(look_at_all(1), 0);

	is_over = true;
	pthread_join(watcher, NULL);
	const struct pml_lease_stats end = stats();
	CHECK(most_keys <= KEYS_MAX);
	CHECK(most_keys > PML_LEASE_SEGMENTS_MAX / 2); /* it has been watched */
	CHECK_EQ(end.revoked + end.expired, 0);
	printf("# read in %.1f s, written in %.1f s\n", (double)(read_ms - from_ms) / 1000,
	       (double)(written_ms - read_ms) / 1000);
	printf("# %llu leases and %llu keys; at most %u and %u (of %u) at a time\n",
	       (unsigned long long)end.granted, (unsigned long long)end.fences, most_leases,
	       most_keys, KEYS_MAX);
	pool_rig_stop(&rig);
}

int main(void)
{
	TAP_RUN(test_a_file_in_many_extents_streams_with_few_keys);
	return tap_done();
}
