/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_service.c -- names, permissions and data through a server and the client library
 *
 * Software fabric on the loopback, real lease manager, fake filesystem
 * (tests/support/service_rig.h).  Recalls: test_service_lease.c; hostile peers:
 * test_service_wire.c.
 */
#include <pthread.h>
#include <sys/stat.h>

#include "service_rig.h"
#include "tap.h"

#define MIB (1u << 20)

/* A rig with one client. */
static void start(struct rig *rig, struct pml_client **ret_client)
{
	rig_init(rig);
	if (rig_start(rig))
		BAIL_OUT("no server");
	*ret_client = rig_connect(rig);
}

static void stop(struct rig *rig, struct pml_client *client)
{
	pml_client_close(client);
	rig_stop(rig);
}

static uint64_t make_file(struct rig *rig, const char *name, size_t bytes)
{
	uint64_t ino = fake_fs_make(rig->fs, PML_ROOT_INO, name, S_IFREG | 0644, 0);
	uint8_t *data = malloc(bytes + 1);
	fill_pattern(data, ino, 0, bytes);
	fake_fs_write(rig->fs, ino, 0, data, bytes);
	free(data);
	return ino;
}

static struct pml_client_buffer *new_buffer(struct pml_client *client, size_t bytes)
{
	struct pml_client_buffer *buffer;
	if (pml_client_buffer_new(client, bytes, &buffer))
		BAIL_OUT("no buffer");
	return buffer;
}

/* ---- names -------------------------------------------------------------- */

struct seen {
	char is_there[600];
	unsigned int count;
	unsigned int stop_after;
};

static bool see(void *arg, const char *name, uint64_t ino, mode_t type)
{
	struct seen *seen = arg;
	unsigned int n = 0;
	CHECK_EQ(sscanf(name, "a name that is not short %u", &n), 1);
	CHECK(n < sizeof(seen->is_there) && ino > 1 && type == S_IFREG);
	seen->is_there[n]++;
	return ++seen->count != seen->stop_after;
}

static void test_listing_of_many_messages_shows_each_name_once(void)
{
	struct rig rig;
	struct pml_client *client;
	start(&rig, &client);
	for (int i = 0; i < 600; i++) {
		char name[64];
		snprintf(name, sizeof(name), "a name that is not short %d", i);
		fake_fs_make(rig.fs, PML_ROOT_INO, name, S_IFREG | 0644, 0);
	}
	struct seen seen = {.count = 0};
	CHECK_EQ(pml_client_readdir(client, "/", see, &seen), 0);
	CHECK_EQ(seen.count, 600);
	for (int i = 0; i < 600; i++)
		CHECK_EQ(seen.is_there[i], 1);

	struct seen some = {.stop_after = 7};
	CHECK_EQ(pml_client_readdir(client, "", see, &some), 0);
	CHECK_EQ(some.count, 7);
	stop(&rig, client);
}

static void test_paths_are_walked(void)
{
	struct rig rig;
	struct pml_client *client;
	start(&rig, &client);
	uint64_t dir = fake_fs_make(rig.fs, PML_ROOT_INO, "dir", S_IFDIR | 0755, 0);
	uint64_t file = fake_fs_make(rig.fs, dir, "file", S_IFREG | 0640, 7);
	fake_fs_write(rig.fs, file, 0, "hello", 5);

	struct pml_client_attr attr;
	CHECK_EQ(pml_client_stat(client, "/dir//./file", &attr), 0);
	CHECK_EQ(attr.ino, file);
	CHECK_EQ(attr.size_bytes, 5);
	CHECK_EQ(attr.mode, S_IFREG | 0640);
	CHECK_EQ(attr.uid, 7);
	CHECK_EQ(attr.mtime_s, 1000);
	CHECK_EQ(pml_client_stat(client, "", &attr), 0);
	CHECK_EQ(attr.ino, PML_ROOT_INO);
	CHECK_EQ(pml_client_stat(client, "dir/nothing", &attr), -ENOENT);
	CHECK(strstr(pml_client_reason(client), "dir/nothing") != NULL);
	CHECK_EQ(pml_client_stat(client, "dir/file/x", &attr), -ENOTDIR);
	CHECK_EQ(pml_client_stat(client, "dir/../dir", &attr), -EINVAL);
	char name[300];
	memset(name, 'x', sizeof(name) - 1);
	name[sizeof(name) - 1] = 0;
	CHECK_EQ(pml_client_stat(client, name, &attr), -ENAMETOOLONG);
	CHECK_EQ(pml_client_readdir(client, "dir/file", see, NULL), -ENOTDIR);
	stop(&rig, client);
}

static void test_create_makes_or_opens(void)
{
	struct rig rig;
	struct pml_client *client;
	start(&rig, &client);
	fake_fs_make(rig.fs, PML_ROOT_INO, "dir", S_IFDIR | 0755, 0);
	struct pml_client_attr attr, again;
	CHECK_EQ(pml_client_create(client, "dir/new", 0600, true, &attr), 0);
	CHECK_EQ(attr.mode, S_IFREG | 0600);
	CHECK_EQ(pml_client_create(client, "dir/new", 0600, false, &again), 0);
	CHECK_EQ(again.ino, attr.ino);
	CHECK_EQ(pml_client_create(client, "/dir/new", 0600, true, &again), -EEXIST);
	CHECK_EQ(pml_client_create(client, "none/new", 0600, false, &again), -ENOENT);
	CHECK_EQ(pml_client_create(client, "dir", 0600, false, &again), -EISDIR);
	CHECK_EQ(pml_client_create(client, "/", 0600, false, &again), -EISDIR);
	CHECK_EQ(pml_client_create(client, "dir/new/x", 0600, false, &again), -ENOTDIR);
	stop(&rig, client);
}

static void test_bad_urls_are_refused_in_words(void)
{
	static const char *const urls[] = {
		"",
		"soft:",
		"soft://",
		"soft://h",
		"http://h:1",
		"soft://h:",
		"soft://:1",
		"soft://h:1x",
		"soft://[::1:1",
		"soft://[::1]",
		"soft://h:123456789",
		"soft://[]:1/",
	};
	struct pml_client *client;
	char reason[PML_REASON_BYTES];
	for (size_t i = 0; i < PML_ARRAY_LEN(urls); i++) {
		CHECK_EQ(pml_client_connect(urls[i], 100, &client, reason), -EINVAL);
		CHECK(strstr(reason, "give") != NULL);
	}
	CHECK_EQ(pml_client_connect("soft://127.0.0.1:1/x", 1000, &client, reason), -ECONNREFUSED);
}

/* ---- permissions --------------------------------------------------------- */

static int try_lease(struct pml_client *client, const char *path, bool for_write)
{
	struct pml_client_attr attr;
	struct pml_client_lease *lease;
	int err = pml_client_stat(client, path, &attr);
	if (!err)
		err = pml_client_lease(client, &attr.handle, 0, 4096, for_write, 0, &lease);
	return err ? err : pml_client_return(lease);
}

static void test_permission_bits_are_checked_as_the_clients_user(void)
{
	struct rig rig;
	rig_init(&rig);
	rig.args.client_cred = (struct pml_cred){.uid = 1000, .gid = 1000};
	REQUIRE(rig_start(&rig) == 0);
	struct pml_client *client = rig_connect(&rig);
	uint64_t closed = fake_fs_make(rig.fs, PML_ROOT_INO, "closed", S_IFDIR | 0744, 0);
	uint64_t blind = fake_fs_make(rig.fs, PML_ROOT_INO, "blind", S_IFDIR | 0711, 0);
	uint64_t open = fake_fs_make(rig.fs, PML_ROOT_INO, "open", S_IFDIR | 0777, 0);
	uint64_t secret = fake_fs_make(rig.fs, open, "secret", S_IFREG | 0600, 0);
	uint64_t shown = fake_fs_make(rig.fs, open, "shown", S_IFREG | 0644, 0);
	fake_fs_make(rig.fs, closed, "file", S_IFREG | 0666, 0);
	fake_fs_make(rig.fs, blind, "file", S_IFREG | 0666, 0);
	fake_fs_write(rig.fs, secret, 0, "x", 1);
	fake_fs_write(rig.fs, shown, 0, "x", 1);

	struct pml_client_attr attr;
	struct seen seen = {.count = 0};
	CHECK_EQ(pml_client_stat(client, "closed/file", &attr), -EACCES);
	CHECK_EQ(pml_client_stat(client, "blind/file", &attr), 0);
	CHECK_EQ(pml_client_readdir(client, "blind", see, &seen), -EACCES);
	CHECK_EQ(pml_client_create(client, "new", 0644, false, &attr), -EACCES);
	CHECK_EQ(pml_client_create(client, "closed/file", 0644, false, &attr), -EACCES);
	CHECK_EQ(pml_client_create(client, "open/new", 0644, false, &attr), 0);
	CHECK_EQ(attr.uid, 1000);
	CHECK_EQ(try_lease(client, "open/new", true), 0);
	CHECK_EQ(try_lease(client, "open/secret", false), -EACCES);
	CHECK_EQ(try_lease(client, "open/secret", true), -EACCES);
	CHECK_EQ(try_lease(client, "open/shown", false), 0);
	CHECK_EQ(try_lease(client, "open/shown", true), -EACCES);
	CHECK_EQ(try_lease(client, "open", false), -EISDIR);
	CHECK_EQ(try_lease(client, "none", false), -ENOENT);
	stop(&rig, client);
}

static void test_read_only_server_refuses_changes(void)
{
	struct rig rig;
	rig_init(&rig);
	rig.args.is_read_only = true;
	REQUIRE(rig_start(&rig) == 0);
	struct pml_client *client = rig_connect(&rig);
	(void)make_file(&rig, "file", 100);
	struct pml_client_attr attr;
	CHECK_EQ(pml_client_create(client, "new", 0644, false, &attr), -EROFS);
	CHECK_EQ(pml_client_create(client, "file", 0644, false, &attr), 0);
	CHECK_EQ(try_lease(client, "file", true), -EROFS);
	CHECK_EQ(try_lease(client, "file", false), 0);
	stop(&rig, client);
}

static void test_open_networks_must_be_allowed_explicitly(void)
{
	struct rig rig;
	rig_init(&rig);
	rig.args.host = "0.0.0.0";
	CHECK_EQ(rig_start(&rig), -EPERM);
	rig.args.host = "no.such.host.invalid";
	CHECK_EQ(rig_start_server(&rig), -EADDRNOTAVAIL);
	rig.args.host = "0.0.0.0";
	rig.args.allow_unauthenticated = true;
	CHECK_EQ(rig_start_server(&rig), 0);
	if (rig.server)
		pml_client_close(rig_connect(&rig));
	rig_stop(&rig);
}

/* ---- data --------------------------------------------------------------- */

static void test_any_range_reads_as_written(void)
{
	struct rig rig;
	struct pml_client *client;
	start(&rig, &client);
	size_t size = 3 * MIB + 1234;
	uint64_t ino = make_file(&rig, "file", size);
	struct pml_client_buffer *buffer = new_buffer(client, size);
	struct pml_client_lease *lease = rig_lease(client, ino, 0, size, false);
	CHECK_EQ(pml_client_lease_end(lease), size);
	CHECK_EQ(pml_client_lease_file_size(lease), size);
	CHECK_EQ(pml_client_lease_status(lease), 0);

	CHECK_EQ(pml_client_read(lease, buffer, 0, 0, size), 0);
	const uint8_t *data = pml_client_buffer_data(buffer);
	CHECK_EQ(count_wrong(data, ino, 0, size), 0);
	unsigned int seed = 1;
	for (int i = 0; i < 300; i++) {
		uint64_t first = (uint64_t)rand_r(&seed) % size;
		size_t len = (size_t)rand_r(&seed) % PML_MIN((size_t)200000, size - first);
		CHECK_EQ(pml_client_read(lease, buffer, 17, first, len), 0);
		CHECK_EQ(count_wrong(data + 17, ino, first, len), 0);
	}
	CHECK_EQ(pml_client_return(lease), 0);
	stop(&rig, client);
}

static void test_holes_read_as_zeros(void)
{
	struct rig rig;
	struct pml_client *client;
	start(&rig, &client);
	uint64_t ino = fake_fs_make(rig.fs, PML_ROOT_INO, "sparse", S_IFREG | 0644, 0);
	uint8_t *want = calloc(1, MIB);
	fill_pattern(want + 8192, ino, 8192, 10000);
	fake_fs_write(rig.fs, ino, 8192, want + 8192, 10000);
	fill_pattern(want + 500000, ino, 500000, 3);
	fake_fs_write(rig.fs, ino, 500000, want + 500000, 3);
	fake_fs_write(rig.fs, ino, MIB - 1, "", 1);

	struct pml_client_buffer *buffer = new_buffer(client, MIB);
	memset(pml_client_buffer_data(buffer), 0xee, MIB);
	struct pml_client_lease *lease = rig_lease(client, ino, 0, MIB, false);
	CHECK_EQ(pml_client_read(lease, buffer, 0, 0, MIB), 0);
	CHECK_EQ(memcmp(pml_client_buffer_data(buffer), want, MIB), 0);
	CHECK_EQ(pml_client_read(lease, buffer, 5, 12288, 7), 0);
	CHECK_EQ(memcmp((uint8_t *)pml_client_buffer_data(buffer) + 5, want + 12288, 7), 0);
	CHECK_EQ(pml_client_read(lease, buffer, 0, 100000, 100000), 0);
	CHECK_EQ(memcmp(pml_client_buffer_data(buffer), want + 100000, 100000), 0);
	CHECK_EQ(pml_client_return(lease), 0);
	free(want);
	stop(&rig, client);
}

static void test_committed_bytes_are_there_and_the_size_grows(void)
{
	struct rig rig;
	struct pml_client *client;
	start(&rig, &client);
	struct pml_client_attr attr;
	REQUIRE(pml_client_create(client, "new", 0644, true, &attr) == 0);
	size_t size = MIB + 777;
	struct pml_client_buffer *buffer = new_buffer(client, size);
	fill_pattern(pml_client_buffer_data(buffer), attr.ino, 0, size);
	struct pml_client_lease *lease = rig_lease(client, attr.ino, 0, size, true);
	CHECK(pml_client_lease_end(lease) >= size);
	CHECK_EQ(pml_client_write(lease, buffer, 0, 0, 5000), 0);
	CHECK_EQ(pml_client_write(lease, buffer, 5000, 5000, size - 5000), 0);
	CHECK_EQ(fake_fs_size(rig.fs, attr.ino), 0);
	CHECK_EQ(pml_client_commit(lease, 0, size, size), 0);
	CHECK_EQ(pml_client_return(lease), 0);

	CHECK_EQ(fake_fs_size(rig.fs, attr.ino), size);
	uint8_t *got = malloc(size);
	fake_fs_read(rig.fs, attr.ino, 0, got, size);
	CHECK_EQ(count_wrong(got, attr.ino, 0, size), 0);
	free(got);
	stop(&rig, client);
}

static void test_ranges_and_directions_are_checked(void)
{
	struct rig rig;
	struct pml_client *client;
	start(&rig, &client);
	uint64_t ino = make_file(&rig, "file", 65536);
	struct pml_client_buffer *buffer = new_buffer(client, 4096);
	struct pml_client_lease *lease = rig_lease(client, ino, 8192, 8192, false);
	CHECK_EQ(pml_client_read(lease, buffer, 0, 8192, 4096), 0);
	CHECK_EQ(pml_client_read(lease, buffer, 0, 8191, 2), -EINVAL);
	CHECK_EQ(pml_client_read(lease, buffer, 0, 16384, 1), -EINVAL);
	CHECK_EQ(pml_client_read(lease, buffer, 0, 8192, SIZE_MAX), -EINVAL);
	CHECK_EQ(pml_client_read(lease, buffer, 1, 8192, 4096), -EINVAL);
	CHECK_EQ(pml_client_read(lease, buffer, SIZE_MAX, 8192, 1), -EINVAL);
	CHECK_EQ(pml_client_write(lease, buffer, 0, 8192, 1), -EINVAL);
	CHECK_EQ(pml_client_commit(lease, 8192, 1, 0), -EINVAL);
	CHECK_EQ(pml_client_read(lease, buffer, 0, 8192, 0), 0);
	CHECK_EQ(pml_client_return(lease), 0);

	struct pml_client_lease *none;
	CHECK_EQ(pml_client_lease(client, rig_handle(client, ino), 65536, 1, false, 0, &none),
		 -ENODATA);
	CHECK_EQ(pml_client_lease(client, rig_handle(client, ino), 0, 0, false, 0, &none), -EINVAL);
	CHECK_EQ(pml_client_lease(client, rig_handle(client, ino), UINT64_MAX, 1, false, 0, &none),
		 -EINVAL);
	stop(&rig, client);
}

static void test_fragmented_file_is_leased_piece_by_piece(void)
{
	struct rig rig;
	struct pml_client *client;
	start(&rig, &client);
	size_t size = 6 * MIB; /* more than 64 runs of 16 blocks */
	uint64_t ino = make_file(&rig, "file", size);
	struct pml_client_buffer *buffer = new_buffer(client, size);
	unsigned int leases = 0;
	for (uint64_t at = 0; at < size; leases++) {
		struct pml_client_lease *lease = rig_lease(client, ino, at, size - at, false);
		uint64_t end = pml_client_lease_end(lease);
		REQUIRE(end > at);
		CHECK_EQ(pml_client_read(lease, buffer, at, at, end - at), 0);
		CHECK_EQ(pml_client_return(lease), 0);
		at = end;
	}
	CHECK(leases > 1);
	CHECK_EQ(count_wrong(pml_client_buffer_data(buffer), ino, 0, size), 0);
	stop(&rig, client);
}

static void test_unaligned_write_lease_works(void)
{
	struct rig rig;
	struct pml_client *client;
	start(&rig, &client);
	uint64_t ino = make_file(&rig, "file", 20000);
	struct pml_client_buffer *buffer = new_buffer(client, 4096);
	memset(pml_client_buffer_data(buffer), 'w', 4096);
	struct pml_client_lease *lease = rig_lease(client, ino, 5000, 10, true);
	CHECK_EQ(pml_client_write(lease, buffer, 0, 5000, 10), 0);
	CHECK_EQ(pml_client_commit(lease, 5000, 10, 0), 0);
	CHECK_EQ(pml_client_return(lease), 0);
	uint8_t got[20000];
	fake_fs_read(rig.fs, ino, 0, got, sizeof(got));
	CHECK_EQ(count_wrong(got, ino, 0, 5000), 0);
	CHECK_EQ(memcmp(got + 5000, "wwwwwwwwww", 10), 0);
	CHECK_EQ(count_wrong(got + 5010, ino, 5010, sizeof(got) - 5010), 0);
	stop(&rig, client);
}

static void test_stream_runs_at_each_depth(void)
{
	struct rig rig;
	struct pml_client *client;
	start(&rig, &client);
	uint64_t ino = make_file(&rig, "file", MIB);
	struct pml_client_buffer *buffer = new_buffer(client, MIB);
	struct pml_client_lease *lease = rig_lease(client, ino, 0, MIB, false);
	uint64_t ns = 0;
	static const uint32_t depths[] = {1, 2, 16, 128};
	for (size_t i = 0; i < PML_ARRAY_LEN(depths); i++) {
		ns = 0;
		CHECK_EQ(pml_client_stream(lease, buffer, false, 4096, depths[i], 500, &ns), 0);
		CHECK(ns > 0);
	}
	CHECK_EQ(pml_client_stream(lease, buffer, false, 65536, 8, 50, &ns), 0);
	CHECK_EQ(pml_client_stream(lease, buffer, false, 65537, 8, 50, &ns), -EINVAL);
	CHECK_EQ(pml_client_stream(lease, buffer, true, 4096, 8, 50, &ns), -EINVAL);
	CHECK_EQ(pml_client_stream(lease, buffer, false, 4096, 129, 50, &ns), -EINVAL);
	CHECK_EQ(pml_client_stream(lease, buffer, false, 0, 1, 50, &ns), -EINVAL);
	CHECK_EQ(pml_client_return(lease), 0);
	stop(&rig, client);
}

struct worker {
	struct pml_client *client;
	uint64_t ino;
	pthread_t thread;
	size_t wrong;
	int err;
};

static void *read_often(void *arg)
{
	struct worker *w = arg;
	struct pml_client_buffer *buffer = new_buffer(w->client, 65536);
	for (int i = 0; i < 30 && !w->err; i++) {
		struct pml_client_lease *lease;
		w->err = pml_client_lease(w->client, rig_handle(w->client, w->ino), 0, 65536, false,
					  5000, &lease);
		if (w->err)
			break;
		w->err = pml_client_read(lease, buffer, 0, 0, 65536);
		w->wrong += count_wrong(pml_client_buffer_data(buffer), w->ino, 0, 65536);
		if (!w->err)
			w->err = pml_client_return(lease);
	}
	pml_client_buffer_free(buffer);
	return NULL;
}

static void test_threads_share_one_client(void)
{
	struct rig rig;
	struct pml_client *client;
	start(&rig, &client);
	struct worker workers[6] = {0};
	for (size_t i = 0; i < PML_ARRAY_LEN(workers); i++) {
		char name[8];
		snprintf(name, sizeof(name), "f%zu", i / 2);
		workers[i].client = client;
		workers[i].ino = i % 2 ? workers[i - 1].ino : make_file(&rig, name, 65536);
		pthread_create(&workers[i].thread, NULL, read_often, &workers[i]);
	}
	for (size_t i = 0; i < PML_ARRAY_LEN(workers); i++) {
		pthread_join(workers[i].thread, NULL);
		CHECK_EQ(workers[i].err, 0);
		CHECK_EQ(workers[i].wrong, 0);
	}
	stop(&rig, client);
}

int main(void)
{
	TAP_RUN(test_listing_of_many_messages_shows_each_name_once);
	TAP_RUN(test_paths_are_walked);
	TAP_RUN(test_create_makes_or_opens);
	TAP_RUN(test_bad_urls_are_refused_in_words);
	TAP_RUN(test_permission_bits_are_checked_as_the_clients_user);
	TAP_RUN(test_read_only_server_refuses_changes);
	TAP_RUN(test_open_networks_must_be_allowed_explicitly);
	TAP_RUN(test_any_range_reads_as_written);
	TAP_RUN(test_holes_read_as_zeros);
	TAP_RUN(test_committed_bytes_are_there_and_the_size_grows);
	TAP_RUN(test_ranges_and_directions_are_checked);
	TAP_RUN(test_fragmented_file_is_leased_piece_by_piece);
	TAP_RUN(test_unaligned_write_lease_works);
	TAP_RUN(test_stream_runs_at_each_depth);
	TAP_RUN(test_threads_share_one_client);
	return tap_done();
}
