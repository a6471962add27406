/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_client_file.c -- the file layer: leases that the library takes by itself
 *
 * Software fabric on the loopback (tests/support/service_rig.h).  The rig looks at its end
 * for pins that are left and for stains.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <sys/stat.h>

#include "../../rdma/transport.h"
#include "pml/clock.h"
#include "service_rig.h"
#include "tap.h"

#define KIB 1024u
#define MIB (1u << 20)

static const struct pml_client_file_options small_windows = {.window_bytes = 64 * KIB};

struct scene {
	struct rig rig;
	struct pml_client *client;
	uint64_t ino;
};

static void begin_with(struct scene *s, size_t file_bytes)
{
	s->ino = fake_fs_make(s->rig.fs, PML_ROOT_INO, "file", S_IFREG | 0644, 0);
	uint8_t *data = malloc(file_bytes + 1);
	fill_pattern(data, s->ino, 0, file_bytes);
	if (file_bytes > 0)
		fake_fs_write(s->rig.fs, s->ino, 0, data, file_bytes);
	free(data);
	if (rig_start(&s->rig))
		BAIL_OUT("no server");
	s->client = rig_connect(&s->rig);
}

static void begin(struct scene *s, size_t file_bytes)
{
	memset(s, 0, sizeof(*s));
	rig_init(&s->rig);
	begin_with(s, file_bytes);
}

static void end(struct scene *s)
{
	pml_client_close(s->client);
	rig_stop(&s->rig);
}

static struct pml_client_file *open_file(struct scene *s, struct pml_client *client,
					 unsigned int flags,
					 const struct pml_client_file_options *options)
{
	struct pml_client_file *file;
	if (pml_client_file_open(client, rig_handle(client, s->ino), flags, options, &file))
		BAIL_OUT("cannot open");
	return file;
}

static const unsigned int both = PML_CLIENT_FILE_READ | PML_CLIENT_FILE_WRITE;

static struct pml_lease_stats stats_of(struct scene *s)
{
	struct pml_lease_stats stats;
	pml_lease_stats(s->rig.mgr, &stats);
	return stats;
}

/* A lease may be in the server's table for a moment after its return was answered. */
static uint64_t leases_after_a_moment(struct scene *s, uint64_t max)
{
	uint64_t leases = stats_of(s).leases;
	for (int i = 0; i < 1000 && leases > max; i++) {
		usleep(1000);
		leases = stats_of(s).leases;
	}
	return leases;
}

/* ---- reading and writing -------------------------------------------------- */

static void test_reads_end_at_the_end_of_the_file(void)
{
	struct scene s;
	begin(&s, 100000);
	struct pml_client_file *file =
		open_file(&s, s.client, PML_CLIENT_FILE_READ, &small_windows);
	uint8_t data[200];
	CHECK_EQ(pml_client_file_read(file, data, 200, 99900), 100);
	CHECK_EQ(count_wrong(data, s.ino, 99900, 100), 0);
	CHECK_EQ(pml_client_file_read(file, data, 200, 100000), 0);
	CHECK_EQ(pml_client_file_read(file, data, 200, INT64_MAX), 0);
	CHECK_EQ(pml_client_file_read(file, data, 200, (uint64_t)INT64_MAX + 1), -EINVAL);
	CHECK_EQ(pml_client_file_read(file, data, 0, 5), 0);
	CHECK_EQ(pml_client_file_write(file, data, 1, 5), -EBADF);
	uint8_t *all = malloc(150000);
	CHECK_EQ(pml_client_file_read(file, all, 150000, 0), 100000);
	CHECK_EQ(count_wrong(all, s.ino, 0, 100000), 0);
	const struct iovec iov[3] = {{all, 70000}, {all, 0}, {all + 80000, 40000}};
	CHECK_EQ(pml_client_file_readv(file, iov, 3, 10), 99990);
	CHECK_EQ(count_wrong(all, s.ino, 10, 70000), 0);
	CHECK_EQ(count_wrong(all + 80000, s.ino, 70010, 29990), 0);

	/* The file grows meanwhile. */
	fake_fs_write(s.rig.fs, s.ino, 100000, "more", 4);
	CHECK_EQ(pml_client_file_read(file, data, 200, 100000), 4);
	CHECK_EQ(memcmp(data, "more", 4), 0);
	CHECK_EQ(pml_client_file_close(file), 0);
	CHECK(rig_wait_leases(&s.rig, 0));
	free(all);

	struct pml_client_file *none;
	const struct pml_client_handle *handle = rig_handle(s.client, s.ino);
	CHECK_EQ(pml_client_file_open(s.client, handle, 0, NULL, &none), -EINVAL);
	CHECK_EQ(pml_client_file_open(s.client, handle, 9, NULL, &none), -EINVAL);
	const struct pml_client_file_options many = {.max_leases = 65};
	CHECK_EQ(pml_client_file_open(s.client, handle, 1, &many, &none), -EINVAL);
	end(&s);
}

/* A file in memory beside it; some holes. */
static void play_at_random(unsigned int seed, unsigned int flags, uint32_t max_leases)
{
	struct scene s;
	begin(&s, 0);
	const struct pml_client_file_options options = {.window_bytes = 128 * KIB,
							.max_leases = max_leases};
	struct pml_client_file *file = open_file(&s, s.client, flags, &options);
	uint8_t *model = calloc(1, 2 * MIB);
	uint8_t *data = malloc(MIB);
	uint64_t size = 0;
	for (int i = 0; i < 120; i++) {
		uint64_t at = (uint64_t)rand_r(&seed) % MIB;
		size_t len = 1 + (size_t)rand_r(&seed) % (rand_r(&seed) % 4 ? 6000 : 300000);
		switch (rand_r(&seed) % 8) {
		case 0:
			CHECK_EQ(pml_client_file_commit(file), 0);
			CHECK_EQ(fake_fs_size(s.rig.fs, s.ino), size);
			CHECK_EQ(pml_client_file_end(file), 0);
			break;
		case 1:
		case 2:
		case 3:
			memset(data, rand_r(&seed), len);
			memcpy(model + at, data, len);
			CHECK_EQ(pml_client_file_write(file, data, len, at), len);
			size = PML_MAX(size, at + len);
			break;
		default:
			memset(data, 0xee, len);
			size_t want = at < size ? PML_MIN(len, size - at) : 0;
			CHECK_EQ(pml_client_file_read(file, data, len, at), want);
			CHECK_EQ(memcmp(data, model + at, want), 0);
		}
		CHECK(leases_after_a_moment(&s, max_leases) <= max_leases);
	}
	CHECK_EQ(pml_client_file_close(file), 0);
	CHECK_EQ(fake_fs_size(s.rig.fs, s.ino), size);
	fake_fs_read(s.rig.fs, s.ino, 0, data, MIB);
	CHECK_EQ(memcmp(data, model, PML_MIN(size, (uint64_t)MIB)), 0);
	free(model);
	free(data);
	end(&s);
}

static void test_a_file_is_what_was_written_to_it(void)
{
	play_at_random(1, both, 4);
	play_at_random(2, both, 1);
	play_at_random(3, both, 9);
	play_at_random(4, both | PML_CLIENT_FILE_SHARED, 4);
	play_at_random(5, both | PML_CLIENT_FILE_SHARED, 2);
}

static void test_fragmented_file_streams_with_few_leases(void)
{
	struct scene s;
	begin(&s, 8 * MIB);
	struct pml_client_file *file = open_file(&s, s.client, both, NULL);
	uint8_t *data = malloc(8 * MIB);
	memset(data, 0, 8 * MIB);
	uint64_t leases = 0;
	for (uint64_t at = 0; at < 8 * MIB; at += 100000) {
		ssize_t n = pml_client_file_read(file, data + at, 100000, at);
		CHECK_EQ(n, PML_MIN((uint64_t)100000, 8 * MIB - at));
		leases = PML_MAX(leases, leases_after_a_moment(&s, 4));
	}
	CHECK_EQ(count_wrong(data, s.ino, 0, 8 * MIB), 0);
	CHECK(leases >= 2 && leases <= 4);
	/* And all at once. */
	memset(data, 0, 8 * MIB);
	CHECK_EQ(pml_client_file_read(file, data, 8 * MIB, 0), 8 * MIB);
	CHECK_EQ(count_wrong(data, s.ino, 0, 8 * MIB), 0);
	fill_pattern(data, 99, 0, 8 * MIB);
	for (uint64_t at = 0; at < 8 * MIB; at += 77777)
		CHECK(pml_client_file_write(file, data + at, PML_MIN((uint64_t)77777, 8 * MIB - at),
					    at) > 0);
	CHECK(leases_after_a_moment(&s, 4) <= 4);
	CHECK_EQ(pml_client_file_commit(file), 0);
	memset(data, 0, 8 * MIB);
	CHECK_EQ(pml_client_file_read(file, data, 8 * MIB, 0), 8 * MIB);
	CHECK_EQ(count_wrong(data, 99, 0, 8 * MIB), 0);
	CHECK_EQ(pml_client_file_close(file), 0);
	free(data);
	end(&s);
}

static void test_files_on_one_handle_share_their_leases(void)
{
	struct scene s;
	begin(&s, 10000);
	struct pml_client_file *writer = open_file(&s, s.client, PML_CLIENT_FILE_WRITE, NULL);
	struct pml_client_file *reader = open_file(&s, s.client, PML_CLIENT_FILE_READ, NULL);
	uint8_t data[16];
	for (int i = 0; i < 10; i++) {
		memset(data, 'a' + i, sizeof(data));
		CHECK_EQ(pml_client_file_write(writer, data, 16, 20000), 16);
		CHECK_EQ(pml_client_file_end(reader), 20016);
		memset(data, 0, sizeof(data));
		CHECK_EQ(pml_client_file_read(reader, data, 16, 20000), 16);
		CHECK(data[0] == 'a' + i && data[15] == 'a' + i);
		CHECK_EQ(pml_client_file_end(reader), 0);
	}
	CHECK_EQ(pml_client_file_read(reader, data, 16, 15000), 16);
	CHECK_EQ(data[3], 0);
	CHECK_EQ(pml_client_file_close(writer), 0);
	CHECK_EQ(pml_client_file_read(reader, data, 16, 0), 16);
	CHECK_EQ(count_wrong(data, s.ino, 0, 16), 0);
	CHECK_EQ(pml_client_file_close(reader), 0);
	end(&s);
}

/* ---- other parties -------------------------------------------------------- */

static void test_recalled_lease_is_committed_and_taken_again(void)
{
	struct scene s;
	begin(&s, 100000);
	struct pml_client_file *file = open_file(&s, s.client, both, NULL);
	uint8_t data[100];
	memset(data, 'w', sizeof(data));
	CHECK_EQ(pml_client_file_write(file, data, 100, 200000), 100);
	CHECK_EQ(fake_fs_size(s.rig.fs, s.ino), 100000);
	/* Someone here shortens the file to behind what was written. */
	uint64_t from_ms = pml_now_ms();
	CHECK_EQ(fake_fs_truncate(s.rig.fs, s.ino, 200050), 0);
	CHECK(pml_now_ms() - from_ms < 1000);
	CHECK_EQ(fake_fs_size(s.rig.fs, s.ino), 200050);
	CHECK_EQ(pml_client_file_commit(file), 0);
	memset(data, 0, sizeof(data));
	CHECK_EQ(pml_client_file_read(file, data, 100, 200000), 50);
	CHECK(data[0] == 'w' && data[49] == 'w');

	CHECK_EQ(fake_fs_truncate(s.rig.fs, s.ino, 5000), 0);
	CHECK_EQ(pml_client_file_read(file, data, 100, 4950), 50);
	CHECK_EQ(count_wrong(data, s.ino, 4950, 50), 0);
	CHECK_EQ(stats_of(&s).revoked, 0);
	CHECK_EQ(pml_client_file_close(file), 0);
	end(&s);
}

static void test_revoked_writes_are_reported_once_to_each(void)
{
	struct scene s;
	begin(&s, 100000);
	struct pml_client_file *file = open_file(&s, s.client, both, NULL);
	struct pml_client_file *other = open_file(&s, s.client, both, NULL);
	uint8_t data[100];
	memset(data, 'w', sizeof(data));
	CHECK_EQ(pml_client_file_write(file, data, 100, 50000), 100);
	const struct pml_client_events silent = {.is_silent = true};
	pml_client_set_events(s.client, &silent);
	CHECK_EQ(fake_fs_truncate(s.rig.fs, s.ino, 20000), 0);
	CHECK_EQ(stats_of(&s).revoked, 1);
	pml_client_set_events(s.client, NULL);

	CHECK_EQ(pml_client_file_commit(file), -EKEYREVOKED);
	CHECK(strstr(pml_client_reason(s.client), "bytes 50000 to 50099") != NULL);
	CHECK_EQ(pml_client_file_commit(file), 0);
	/* It goes on. */
	CHECK_EQ(pml_client_file_write(file, data, 100, 50000), 100);
	CHECK_EQ(pml_client_file_commit(file), 0);
	CHECK_EQ(fake_fs_size(s.rig.fs, s.ino), 50100);
	CHECK_EQ(pml_client_file_close(file), 0);
	CHECK_EQ(pml_client_file_close(other), -EKEYREVOKED);
	end(&s);
}

static void test_lost_connection_is_reported_at_commit(void)
{
	struct scene s;
	begin(&s, 100000);
	struct pml_client_file *file = open_file(&s, s.client, both, NULL);
	CHECK_EQ(pml_client_file_write(file, "x", 1, 7), 1);
	rig_stop_server(&s.rig);
	int err = pml_client_file_close(file);
	CHECK(err == -ENOTCONN || err == -EKEYREVOKED);
	CHECK(strstr(pml_client_reason(s.client), "bytes 7 to 7") != NULL);
	end(&s);
}

static void test_what_is_in_the_way_is_told(void)
{
	struct scene s;
	begin(&s, 100000);
	const struct pml_client_file_options hasty = {.wait_ms = 50};
	struct pml_client_file *file = open_file(&s, s.client, both, &hasty);
	struct pml_client_lease *own = rig_lease(s.client, s.ino, 0, 4096, true);
	uint8_t data[10];
	CHECK_EQ(pml_client_file_read(file, data, 10, 0), -EDEADLK);
	CHECK_EQ(pml_client_return(own), 0);
	CHECK_EQ(pml_client_file_read(file, data, 10, 0), 10);

	/* Somebody who keeps his lease for a while. */
	struct pml_client *other = rig_connect(&s.rig);
	const struct pml_client_events silent = {.is_silent = true};
	pml_client_set_events(other, &silent);
	struct pml_client_lease *lease = rig_lease(other, s.ino, 0, 4096, true);
	CHECK_EQ(pml_client_file_read(file, data, 10, 0), -EAGAIN);
	pml_client_set_events(other, NULL);
	(void)pml_client_return(lease);
	pml_client_close(other);
	CHECK_EQ(pml_client_file_close(file), 0);

	struct pml_client_handle handle = *rig_handle(s.client, s.ino);
	handle.opaque[3] ^= 1;
	REQUIRE(pml_client_file_open(s.client, &handle, both, NULL, &file) == 0);
	CHECK_EQ(pml_client_file_read(file, data, 10, 0), -ESTALE);
	CHECK_EQ(pml_client_file_close(file), 0);
	end(&s);
}

static void test_two_clients_hand_a_file_to_and_fro(void)
{
	struct scene s;
	begin(&s, 0);
	struct pml_client *other = rig_connect(&s.rig);
	struct pml_client_file *a = open_file(&s, s.client, both, NULL);
	struct pml_client_file *b = open_file(&s, other, both, NULL);
	uint32_t n = 0;
	for (uint32_t i = 1; i <= 60; i++) {
		struct pml_client_file *writer = i % 2 ? a : b;
		CHECK_EQ(pml_client_file_write(writer, &i, 4, 4 * (uint64_t)i), 4);
		n = 0;
		CHECK_EQ(pml_client_file_read(i % 2 ? b : a, &n, 4, 4 * (uint64_t)i), 4);
		CHECK_EQ(n, i);
	}
	CHECK_EQ(pml_client_file_close(a), 0);
	CHECK_EQ(pml_client_file_close(b), 0);
	CHECK_EQ(stats_of(&s).revoked, 0);
	pml_client_close(other);
	end(&s);
}

static void test_idle_leases_make_room_at_a_limit(void)
{
	struct scene s;
	memset(&s, 0, sizeof(s));
	rig_init(&s.rig);
	s.rig.config.max_session_leases = 3;
	begin_with(&s, 10000);
	struct pml_client_file *files[8];
	uint8_t data[10] = {0};
	for (int i = 0; i < 8; i++) {
		char name[16];
		snprintf(name, sizeof(name), "f%d", i);
		struct pml_client_attr attr;
		REQUIRE(pml_client_create(s.client, name, 0644, true, &attr) == 0);
		REQUIRE(pml_client_file_open(s.client, &attr.handle, both, NULL, &files[i]) == 0);
	}
	for (int round = 0; round < 3; round++)
		for (int i = 0; i < 8; i++) {
			data[0] = (uint8_t)('0' + i);
			CHECK_EQ(pml_client_file_write(files[i], data, 10, 0), 10);
		}
	for (int i = 0; i < 8; i++) {
		CHECK_EQ(pml_client_file_read(files[i], data, 10, 0), 10);
		CHECK_EQ(data[0], '0' + i);
	}
	for (int i = 0; i < 8; i++)
		CHECK_EQ(pml_client_file_close(files[i]), 0);
	end(&s);
}

static void test_truncate_keeps_what_was_written_before_it(void)
{
	struct scene s;
	begin(&s, 100000);
	struct pml_client_file *reader = open_file(&s, s.client, PML_CLIENT_FILE_READ, NULL);
	struct pml_client_file *file = open_file(&s, s.client, both, NULL);
	uint8_t data[100];
	memset(data, 'w', sizeof(data));
	CHECK_EQ(pml_client_file_truncate(reader, 5), -EBADF);
	CHECK_EQ(pml_client_file_write(file, data, 100, 40000), 100);
	CHECK_EQ(pml_client_file_write(file, data, 100, 200000), 100);
	CHECK_EQ(pml_client_file_truncate(file, 40050), 0);
	CHECK_EQ(fake_fs_size(s.rig.fs, s.ino), 40050);
	memset(data, 0, sizeof(data));
	CHECK_EQ(pml_client_file_read(reader, data, 100, 40000), 50);
	CHECK(data[0] == 'w' && data[49] == 'w');
	CHECK_EQ(pml_client_file_truncate(file, 50000), 0);
	CHECK_EQ(pml_client_file_read(file, data, 100, 45000), 100);
	CHECK_EQ(data[7], 0);
	CHECK_EQ(pml_client_file_close(file), 0);
	CHECK_EQ(pml_client_file_close(reader), 0);
	CHECK_EQ(stats_of(&s).revoked, 0);
	end(&s);
}

/* ---- connections that break ------------------------------------------------ */

static void tear_writes(uint32_t count)
{
	const struct pml_soft_faults faults = {.tear_writes = count};
	pml_soft_set_faults(&faults);
}

static void test_broken_connection_is_made_again(void)
{
	struct scene s;
	begin(&s, 200000);
	struct pml_client_buffer *buffer;
	REQUIRE(pml_client_buffer_new(s.client, 65536, &buffer) == 0);
	uint8_t *memory = pml_client_buffer_data(buffer);
	uint8_t *data = malloc(65536);
	CHECK_EQ(pml_client_cache_memory(s.client, 8, MIB), 0);
	struct pml_client_lease *lease = rig_lease(s.client, s.ino, 131072, 4096, false);
	struct pml_client_file *file = open_file(&s, s.client, both, NULL);
	for (int round = 0; round < 3; round++) {
		memset(data, 'a' + round, 65536);
		CHECK_EQ(pml_client_file_write(file, data, 100, 50000), 100);
		tear_writes(1);
		CHECK_EQ(pml_client_file_write(file, data, 40000, 0), 40000);
		CHECK_EQ(pml_client_file_commit(file), -ENOTCONN);
		CHECK(strstr(pml_client_reason(s.client), "bytes 50000 to 50099") != NULL);
		CHECK_EQ(pml_client_file_commit(file), 0);
		/* All kinds of memory go on. */
		memset(memory, 0, 65536);
		CHECK_EQ(pml_client_file_read(file, memory, 40000, 0), 40000);
		CHECK(memory[0] == 'a' + round && memory[39999] == 'a' + round);
		CHECK_EQ(pml_client_file_read(file, data, 40000, 0), 40000);
		CHECK(data[0] == 'a' + round && data[39999] == 'a' + round);
		CHECK_EQ(pml_client_file_read(file, data, 100, 199000), 100);
		CHECK_EQ(count_wrong(data, s.ino, 199000, 100), 0);
	}
	/* A lease does not outlive its connection. */
	CHECK_EQ(pml_client_lease_status(lease), -ENOTCONN);
	CHECK_EQ(pml_client_read(lease, buffer, 0, 131072, 10), -ENOTCONN);
	CHECK_EQ(pml_client_return(lease), -ENOTCONN);
	lease = rig_lease(s.client, s.ino, 131072, 4096, false);
	CHECK_EQ(pml_client_read(lease, buffer, 0, 131072, 10), 0);
	CHECK_EQ(count_wrong(memory, s.ino, 131072, 10), 0);
	CHECK_EQ(pml_client_return(lease), 0);
	CHECK_EQ(pml_client_file_close(file), 0);

	/* Unless it is not wanted. */
	pml_client_set_reconnect(s.client, 0);
	file = open_file(&s, s.client, both, NULL);
	tear_writes(1);
	CHECK_EQ(pml_client_file_write(file, data, 40000, 0), -ENOTCONN);
	CHECK_EQ(pml_client_file_close(file), 0);
	free(data);
	end(&s);
}

static void *restart_server(void *arg)
{
	struct scene *s = arg;
	usleep(150000);
	if (rig_start_server(&s->rig))
		BAIL_OUT("no server");
	return NULL;
}

static void test_requests_wait_for_a_server_that_comes_back(void)
{
	struct scene s;
	begin(&s, 100000);
	struct pml_client_file *file = open_file(&s, s.client, both, NULL);
	uint8_t data[10];
	CHECK_EQ(pml_client_file_read(file, data, 10, 0), 10);
	struct pml_client_attr attr;
	rig_stop_server(&s.rig);
	CHECK_EQ(pml_client_stat(s.client, "file", &attr), -ENOTCONN);
	pml_client_set_reconnect(s.client, 100);
	CHECK_EQ(pml_client_stat(s.client, "file", &attr), -ENOTCONN);
	pml_client_set_reconnect(s.client, 10000);
	pthread_t thread;
	pthread_create(&thread, NULL, restart_server, &s);
	REQUIRE(pml_client_stat(s.client, "file", &attr) == 0);
	pthread_join(thread, NULL);
	CHECK_EQ(attr.ino, s.ino);
	/* Its handles are of the time before. */
	CHECK_EQ(pml_client_file_read(file, data, 10, 0), -ESTALE);
	CHECK_EQ(pml_client_file_close(file), 0);
	REQUIRE(pml_client_file_open(s.client, &attr.handle, both, NULL, &file) == 0);
	CHECK_EQ(pml_client_file_read(file, data, 10, 0), 10);
	CHECK_EQ(count_wrong(data, s.ino, 0, 10), 0);
	CHECK_EQ(pml_client_file_close(file), 0);
	end(&s);
}

struct reader {
	struct pml_client_file *file;
	uint64_t ino;
	pthread_t thread;
	atomic_bool *is_over;
	unsigned int rounds;
	size_t wrong;
	ssize_t err;
};

static void *read_on(void *arg)
{
	struct reader *r = arg;
	uint8_t data[30000];
	for (uint64_t at = 0; !atomic_load(r->is_over); at = (at + 7777) % 70000) {
		ssize_t n = pml_client_file_read(r->file, data, sizeof(data), at);
		if (n != (ssize_t)sizeof(data))
			r->err = n < 0 ? n : -ENODATA;
		else
			r->wrong += count_wrong(data, r->ino, at, sizeof(data));
		r->rounds++;
	}
	return NULL;
}

static void test_readers_do_not_notice_that_connections_break(void)
{
	struct scene s;
	begin(&s, 100000);
	uint64_t other = fake_fs_make(s.rig.fs, PML_ROOT_INO, "other", S_IFREG | 0644, 0);
	struct pml_client_file *file =
		open_file(&s, s.client, PML_CLIENT_FILE_READ, &small_windows);
	struct pml_client_file *torn;
	REQUIRE(pml_client_file_open(s.client, rig_handle(s.client, other), both, NULL, &torn) ==
		0);
	struct reader readers[3] = {0};
	atomic_bool is_over = false;
	for (size_t i = 0; i < PML_ARRAY_LEN(readers); i++) {
		readers[i] = (struct reader){.file = file, .ino = s.ino, .is_over = &is_over};
		pthread_create(&readers[i].thread, NULL, read_on, &readers[i]);
	}
	static uint8_t data[100000];
	for (int i = 0; i < 8; i++) {
		tear_writes(1);
		CHECK_EQ(pml_client_file_write(torn, data, sizeof(data), 0), sizeof(data));
		usleep(20000);
	}
	atomic_store(&is_over, true);
	for (size_t i = 0; i < PML_ARRAY_LEN(readers); i++) {
		pthread_join(readers[i].thread, NULL);
		CHECK_EQ(readers[i].err, 0);
		CHECK_EQ(readers[i].wrong, 0);
		CHECK(readers[i].rounds > 8);
	}
	int err = pml_client_file_close(torn);
	CHECK(err == 0 || err == -ENOTCONN);
	CHECK_EQ(pml_client_file_close(file), 0);
	end(&s);
}

/* ---- threads --------------------------------------------------------------- */

struct worker {
	struct pml_client_file *file;
	pthread_t thread;
	unsigned int number;
	atomic_bool *is_over;
	unsigned int wrong;
	atomic_uint rounds;
	ssize_t err;
};

/* Each has a region of its own that it writes and reads, and reads what nobody writes. */
static void *work(void *arg)
{
	struct worker *w = arg;
	uint8_t data[3000];
	unsigned int seed = w->number;
	while (!atomic_load(w->is_over)) {
		uint64_t at = w->number * 20000 + (uint64_t)rand_r(&seed) % 15000;
		size_t len = 1 + (size_t)rand_r(&seed) % 3000;
		uint8_t c = (uint8_t)rand_r(&seed);
		memset(data, c, len);
		ssize_t n = pml_client_file_write(w->file, data, len, at);
		if (n != (ssize_t)len && n != -EAGAIN)
			w->err = n < 0 ? n : -EIO;
		if (n != (ssize_t)len)
			continue;
		memset(data, 0, len);
		n = pml_client_file_read(w->file, data, len, at);
		if (n != (ssize_t)len)
			w->err = n < 0 ? n : -ENODATA;
		else
			w->wrong += data[0] != c || memcmp(data, data + 1, len - 1) != 0;
		if (++w->rounds % 16 == 0 && pml_client_file_commit(w->file))
			w->err = -EIO;
	}
	return NULL;
}

/* Has each of four had its turns? */
static bool have_all_worked(struct worker *workers)
{
	for (unsigned int i = 0; i < 4; i++)
		if (workers[i].rounds <= 5)
			return false;
	return true;
}

static void test_threads_share_a_file_that_is_recalled(void)
{
	struct scene s;
	begin(&s, 200000);
	const struct pml_client_file_options options = {.window_bytes = 32 * KIB};
	struct pml_client_file *file = open_file(&s, s.client, both, &options);
	struct worker workers[4] = {0};
	atomic_bool is_over = false;
	for (unsigned int i = 0; i < 4; i++) {
		workers[i] = (struct worker){.file = file, .number = i, .is_over = &is_over};
		pthread_create(&workers[i].thread, NULL, work, &workers[i]);
	}
	/* Behind what they use, but windows reach there. */
	for (int i = 0; i < 20 || (i < 1000 && !have_all_worked(workers)); i++) {
		CHECK_EQ(fake_fs_truncate(s.rig.fs, s.ino, 80000 + (uint64_t)(i % 2) * 50000), 0);
		usleep(20000);
	}
	atomic_store(&is_over, true);
	for (unsigned int i = 0; i < 4; i++) {
		pthread_join(workers[i].thread, NULL);
		CHECK_EQ(workers[i].err, 0);
		CHECK_EQ(workers[i].wrong, 0);
	}
	CHECK(have_all_worked(workers));
	CHECK_EQ(pml_client_file_close(file), 0);
	CHECK_EQ(stats_of(&s).revoked, 0);
	end(&s);
}

int main(void)
{
	TAP_RUN(test_reads_end_at_the_end_of_the_file);
	TAP_RUN(test_a_file_is_what_was_written_to_it);
	TAP_RUN(test_fragmented_file_streams_with_few_leases);
	TAP_RUN(test_files_on_one_handle_share_their_leases);
	TAP_RUN(test_recalled_lease_is_committed_and_taken_again);
	TAP_RUN(test_revoked_writes_are_reported_once_to_each);
	TAP_RUN(test_lost_connection_is_reported_at_commit);
	TAP_RUN(test_what_is_in_the_way_is_told);
	TAP_RUN(test_two_clients_hand_a_file_to_and_fro);
	TAP_RUN(test_idle_leases_make_room_at_a_limit);
	TAP_RUN(test_truncate_keeps_what_was_written_before_it);
	TAP_RUN(test_broken_connection_is_made_again);
	TAP_RUN(test_requests_wait_for_a_server_that_comes_back);
	TAP_RUN(test_readers_do_not_notice_that_connections_break);
	TAP_RUN(test_threads_share_a_file_that_is_recalled);
	return tap_done();
}
