/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * coherent.c -- a remote writer that looks at its file through the mount, too
 *
 * usage: coherent MOUNT URL ROUNDS
 *        coherent MOUNT URL parked
 *        coherent MOUNT URL longer
 *        coherent MOUNT URL seldom
 *
 * After each answer that the client gets (to a commit, a return, a create) the mount is
 * asked at once, without a pause: by descriptors and a mapping that were there before, so
 * that the kernel has everything in its caches; two threads keep it there.  Prints what
 * was stale.  "parked": the same while a local write to the file waits for the lease.  "longer":
 * a commit that makes a file longer waits for who reads its last block under a lease.  "seldom":
 * nobody here has the file open while it is written, some times in a row, and then one looks.
 * Exit status 0: nothing was stale; 1: something was; 2: set-up failed.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "../support/find_handle.h"
#include "pmemleasefs/client.h"

#define BLOCK  4096
#define BLOCKS 16

static const char *mount_dir;
static struct pml_client *client;
static struct pml_client_buffer *buffer;
static unsigned int nstale;

static void must(int err, const char *what)
{
	if (err == 0)
		return;
	printf("# %s: %s %s\n", what, strerrorname_np(err < 0 ? -err : err),
	       client ? pml_client_reason(client) : "");
	exit(2);
}

static void expect(bool is_so, int round, const char *what)
{
	if (is_so)
		return;
	nstale++;
	printf("# round %d: %s\n", round, what);
}

static void path_of(char *path, const char *name)
{
	snprintf(path, 4096, "%s/%s", mount_dir, name);
}

static int open_at(const char *name, int flags)
{
	char path[4096];
	path_of(path, name);
	int fd = open(path, flags, 0644);
	must(fd < 0 ? errno : 0, name);
	return fd;
}

static uint64_t ino_of(int fd)
{
	struct stat st;
	must(fstat(fd, &st) ? errno : 0, "fstat");
	return st.st_ino;
}

/* Of a file in the root. */
static struct pml_client_handle handle_of(uint64_t ino)
{
	struct pml_client_handle handle;
	must(find_handle(client, "", ino, &handle), "handle");
	return handle;
}

/* Writes by lease; commits unless @new_size is UINT64_MAX, which returns without. */
static void remote_write(uint64_t ino, uint64_t first, size_t len, unsigned char byte,
			 uint64_t new_size, struct pml_client_lease **kept)
{
	struct pml_client_lease *lease;
	const struct pml_client_handle file = handle_of(ino);
	must(pml_client_lease(client, &file, first, len, true, 10000, &lease), "lease");
	memset(pml_client_buffer_data(buffer), byte, len);
	must(pml_client_write(lease, buffer, 0, first, len), "write");
	if (new_size != UINT64_MAX) {
		must(pml_client_commit(lease, first, len, new_size), "commit");
		*kept = lease;
	} else {
		must(pml_client_return(lease), "return");
	}
}

/* ---- readers that fill the caches --------------------------------------- */

static atomic_bool is_over;

static void *reader(void *arg)
{
	int fd = *(int *)arg;
	static _Thread_local unsigned char bytes[BLOCK * BLOCKS];
	struct stat st;
	while (!is_over) {
		(void)!pread(fd, bytes, sizeof(bytes), 0);
		(void)fstat(fd, &st);
	}
	return NULL;
}

/* ---- what the mount shows ----------------------------------------------- */

struct ground {
	int fd;
	int append_fd;
	int append_read_fd;
	unsigned char *map;
	uint64_t ino;
	uint64_t append_ino;
};

static void check_bytes(const struct ground *g, int round, uint64_t first, unsigned char byte)
{
	unsigned char bytes[BLOCK];
	ssize_t n = pread(g->fd, bytes, BLOCK, (off_t)first);
	expect(n == BLOCK && bytes[0] == byte && bytes[BLOCK - 1] == byte, round,
	       "read(2) shows older bytes");
	expect(g->map[first] == byte && g->map[first + BLOCK - 1] == byte, round,
	       "a mapping shows older bytes");
}

static void round_overwrite(const struct ground *g, int round)
{
	struct pml_client_lease *lease = NULL;
	unsigned char byte = (unsigned char)(1 + round % 250);
	uint64_t first = (uint64_t)(rand() % BLOCKS) * BLOCK;
	struct stat before, after;
	(void)fstat(g->fd, &before);
	remote_write(g->ino, first, BLOCK, byte, 0, &lease);
	check_bytes(g, round, first, byte);
	(void)fstat(g->fd, &after);
	expect(memcmp(&before.st_mtim, &after.st_mtim, sizeof(before.st_mtim)) != 0, round,
	       "stat(2) shows the older mtime");
	must(pml_client_return(lease), "return");

	first = (uint64_t)(rand() % BLOCKS) * BLOCK;
	remote_write(g->ino, first, BLOCK, (unsigned char)(byte + 1), UINT64_MAX, NULL);
	check_bytes(g, round, first, (unsigned char)(byte + 1));
}

/* A remote writer makes the file longer; then the local one appends. */
static void round_append(const struct ground *g, int round)
{
	struct pml_client_lease *lease = NULL;
	struct stat st;
	(void)fstat(g->append_fd, &st);
	uint64_t first = ((uint64_t)st.st_size + BLOCK - 1) / BLOCK * BLOCK;
	uint64_t size = first + 1000;
	remote_write(g->append_ino, first, BLOCK, 'r', size, &lease);
	must(pml_client_return(lease), "return");
	must(write(g->append_fd, "tail", 4) == 4 ? 0 : errno, "append");
	char bytes[8] = "";
	ssize_t n = pread(g->append_read_fd, bytes, sizeof(bytes), (off_t)size - 2);
	expect(n == 6 && memcmp(bytes, "rrtail", 6) == 0, round, "what was appended is elsewhere");
	(void)fstat(g->append_fd, &st);
	expect((uint64_t)st.st_size == size + 4, round, "stat(2) shows another size");
	must(ftruncate(g->append_fd, round % 3 * 100) ? errno : 0, "ftruncate");
}

static void round_create(int round)
{
	char name[40], path[4096];
	struct pml_client_attr attr;
	struct stat before, after, st;
	snprintf(name, sizeof(name), "new-%d", round);
	path_of(path, name);
	(void)stat(mount_dir, &before);
	expect(stat(path, &st) != 0, round, "a name is there before it was made");
	expect(stat(path, &st) != 0, round, "a name is there before it was made");
	must(pml_client_create(client, name, 0644, true, &attr), "create");
	expect(stat(path, &st) == 0 && st.st_ino == attr.ino, round, "a new name is not found");
	(void)stat(mount_dir, &after);
	expect(memcmp(&before.st_mtim, &after.st_mtim, sizeof(before.st_mtim)) != 0, round,
	       "the directory shows the older mtime");
	must(unlink(path) ? errno : 0, "unlink");
}

static void make_ground(struct ground *g)
{
	g->fd = open_at("file", O_RDWR | O_CREAT | O_TRUNC);
	must(ftruncate(g->fd, BLOCK * BLOCKS) ? errno : 0, "ftruncate");
	g->ino = ino_of(g->fd);
	g->map = mmap(NULL, BLOCK * BLOCKS, PROT_READ, MAP_SHARED, g->fd, 0);
	must(g->map == MAP_FAILED ? errno : 0, "mmap");
	g->append_fd = open_at("log", O_WRONLY | O_APPEND | O_CREAT | O_TRUNC);
	g->append_read_fd = open_at("log", O_RDONLY);
	g->append_ino = ino_of(g->append_fd);
}

static void run_rounds(int rounds)
{
	struct ground g;
	pthread_t threads[2];
	make_ground(&g);
	for (size_t i = 0; i < 2; i++)
		must(pthread_create(&threads[i], NULL, reader, &g.fd), "thread");
	for (int round = 0; round < rounds; round++) {
		round_overwrite(&g, round);
		round_append(&g, round);
		round_create(round);
	}
	is_over = true;
	for (size_t i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);
}

/* ---- a local write that waits for the lease ----------------------------- */

static atomic_bool is_recalled, is_written;

static bool on_recalled(void *arg, struct pml_client_lease *lease, uint32_t drain_ms)
{
	(void)arg, (void)lease, (void)drain_ms;
	is_recalled = true;
	return false; /* the program returns it */
}

/* Across the end of the file: its last page is locked, and the lease is in the way. */
static void *late_writer(void *arg)
{
	int fd = *(int *)arg;
	char bytes[100];
	memset(bytes, 'L', sizeof(bytes));
	must(pwrite(fd, bytes, 100, 3 * BLOCK - 50) == 100 ? 0 : errno, "local write");
	is_written = true;
	return NULL;
}

static double seconds(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static void run_parked(void)
{
	static unsigned char bytes[3 * BLOCK];
	const struct pml_client_events events = {.recalled = on_recalled};
	struct pml_client_lease *lease;
	pthread_t writer;
	pml_client_set_events(client, &events);
	int fd = open_at("file", O_RDWR | O_CREAT | O_TRUNC);
	memset(bytes, 'a', sizeof(bytes));
	must(pwrite(fd, bytes, sizeof(bytes), 0) == sizeof(bytes) ? 0 : errno, "pwrite");
	const struct pml_client_handle file = handle_of(ino_of(fd));
	must(pml_client_lease(client, &file, 0, 4 * BLOCK, true, 10000, &lease), "lease");
	must(pthread_create(&writer, NULL, late_writer, &fd), "thread");
	for (int i = 0; i < 1000 && !is_recalled; i++)
		usleep(10000);
	expect(is_recalled && !is_written, 0, "the local write does not wait");

	memset(pml_client_buffer_data(buffer), 'R', sizeof(bytes));
	must(pml_client_write(lease, buffer, 0, 0, sizeof(bytes)), "write");
	double start = seconds();
	must(pml_client_commit(lease, 0, sizeof(bytes), 0), "commit");
	expect(seconds() - start < 2, 0, "a commit waits for a write that waits for the lease");
	expect(!is_written, 0, "the local write has not waited");
	(void)!pread(fd, bytes, 2 * BLOCK, 0);
	expect(bytes[0] == 'R' && bytes[2 * BLOCK - 1] == 'R', 0, "other pages are stale");
	start = seconds();
	must(pml_client_return(lease), "return");
	expect(seconds() - start < 2, 0, "a return waits for a write that waits for the lease");
	pthread_join(writer, NULL);
	for (int i = 0; i < 500; i++) {
		(void)!pread(fd, bytes, BLOCK, 2 * BLOCK);
		if (bytes[0] == 'R')
			break;
		usleep(10000);
	}
	expect(bytes[0] == 'R' && bytes[BLOCK - 51] == 'R' && bytes[BLOCK - 50] == 'L', 0,
	       "the page of the local write stays stale");
}

/* ---- a commit that waits for a reader of the last block ------------------ */

/* The last block of "file" is the one of "twin", too, and both are read: neither may move. */
struct growth {
	int fd;				 /* of "file" */
	struct pml_client *other;	 /* who reads */
	struct pml_client_lease *reader; /* on "file" */
	struct pml_client_lease *twins;	 /* on "twin" */
	struct pml_client_lease *written;
	atomic_bool is_committed;
};

static struct pml_client_lease *lease_of(struct pml_client *of, const char *name,
					 uint64_t first_byte, uint64_t len_bytes, bool for_write)
{
	struct pml_client_attr attr;
	struct pml_client_lease *lease;
	must(pml_client_stat(of, name, &attr), "stat");
	must(pml_client_lease(of, &attr.handle, first_byte, len_bytes, for_write, 10000, &lease),
	     "lease");
	return lease;
}

static void *run_commit(void *arg)
{
	struct growth *g = arg;
	must(pml_client_commit(g->written, BLOCK, BLOCK, 2 * BLOCK), "growing commit");
	g->is_committed = true;
	return NULL;
}

static void make_growth(struct growth *g)
{
	const struct pml_client_events events = {.recalled = on_recalled};
	char bytes[100];
	pml_client_set_events(g->other, &events);
	g->fd = open_at("file", O_RDWR | O_CREAT | O_TRUNC);
	memset(bytes, 's', sizeof(bytes));
	must(pwrite(g->fd, bytes, sizeof(bytes), 0) == sizeof(bytes) ? 0 : errno, "pwrite");
	(void)close(open_at("twin", O_RDWR | O_CREAT | O_TRUNC));
	must(pml_client_clone(client, "file", 0, "twin", 0, 0, NULL), "clone");
	g->reader = lease_of(g->other, "file", 0, sizeof(bytes), false);
	g->twins = lease_of(g->other, "twin", 0, sizeof(bytes), false);
	g->written = lease_of(client, "file", BLOCK, BLOCK, true);
	memset(pml_client_buffer_data(buffer), 'g', BLOCK);
	must(pml_client_write(g->written, buffer, 0, BLOCK, BLOCK), "write");
}

/* What the mount and the other file's reader see when the commit was answered. */
static void check_growth(const struct growth *g)
{
	static char bytes[2 * BLOCK];
	char twin[100];
	const struct iovec iov = {twin, sizeof(twin)};
	struct stat st;
	expect(fstat(g->fd, &st) == 0 && st.st_size == 2 * BLOCK, 0, "the file has not grown");
	(void)!pread(g->fd, bytes, sizeof(bytes), 0);
	expect(bytes[0] == 's' && bytes[99] == 's' && bytes[100] == 0 && bytes[BLOCK - 1] == 0, 0,
	       "what was there is not, or not all behind it is zero");
	expect(bytes[BLOCK] == 'g' && bytes[2 * BLOCK - 1] == 'g', 0,
	       "what was committed is not there");
	must(pml_client_readv(g->twins, &iov, 1, 0), "read of the twin");
	expect(twin[0] == 's' && twin[99] == 's', 0, "the twin has changed");
}

static void run_longer(const char *url)
{
	struct growth g = {.is_committed = false};
	char reason[256] = "";
	pthread_t thread;
	struct stat st;
	must(pml_client_connect(url, 10000, &g.other, reason), "connect");
	make_growth(&g);
	must(pthread_create(&thread, NULL, run_commit, &g), "thread");
	for (int i = 0; i < 1000 && !is_recalled; i++)
		usleep(10000);
	expect(is_recalled && !g.is_committed, 0, "the commit does not wait");
	expect(fstat(g.fd, &st) == 0 && st.st_size == 100, 0, "the file has grown before");
	must(pml_client_return(g.reader), "return");
	pthread_join(thread, NULL);
	check_growth(&g);
	must(pml_client_return(g.twins), "return");
	must(pml_client_return(g.written), "return");
	pml_client_close(g.other);
	(void)close(g.fd);
}

/* ---- a file that is looked at seldom ------------------------------------------ */

#define SELDOM_ROUNDS 60

struct seldom {
	uint64_t ino;
	uint64_t size;
	unsigned char last; /* in all of the last block */
};

/* Its last block, which may be a new one. */
static void write_seldom(struct seldom *s, int number)
{
	struct pml_client_lease *lease;
	if (number % 3 == 0)
		s->size += BLOCK;
	s->last = (unsigned char)(1 + number % 255);
	remote_write(s->ino, s->size - BLOCK, BLOCK, s->last, s->size, &lease);
	must(pml_client_return(lease), "return");
}

static void look_by_stat(const struct seldom *s, const char *path, int round)
{
	struct stat st;
	struct pml_client_attr attr;
	expect(stat(path, &st) == 0 && (uint64_t)st.st_size == s->size, round,
	       "stat(2) of a file that nobody uses shows an older size");
	must(pml_client_stat(client, "seldom", &attr), "stat");
	expect(st.st_mtim.tv_sec == attr.mtime_s && st.st_mtim.tv_nsec == attr.mtime_ns, round,
	       "stat(2) of a file that nobody uses shows an older time");
}

static void look_by_read(const struct seldom *s, const char *path, int round)
{
	unsigned char bytes[BLOCK] = {0};
	/* Else the kernel would drop its pages, for the first read is to set the time. */
	int fd = open(path, O_RDONLY | O_NOATIME);
	ssize_t n = pread(fd, bytes, sizeof(bytes), (off_t)(s->size - BLOCK));
	expect(n == BLOCK && bytes[0] == s->last && bytes[BLOCK - 1] == s->last, round,
	       "read(2) of a file that nobody uses shows older bytes");
	expect(pread(fd, bytes, 1, (off_t)s->size) == 0, round, "read(2) behind the end");
	(void)close(fd);
}

/* Without asking for the size: a mapping that the kernel holds to be too short is SIGBUS. */
static void look_by_map(const struct seldom *s, const char *path, int round)
{
	int fd = open(path, O_RDONLY);
	unsigned char *map = mmap(NULL, s->size, PROT_READ, MAP_SHARED, fd, 0);
	(void)close(fd);
	must(map == MAP_FAILED ? errno : 0, "mmap");
	expect(map[s->size - BLOCK] == s->last && map[s->size - 1] == s->last, round,
	       "a new mapping shows older bytes");
	(void)munmap(map, s->size);
}

/* A block behind the end, wherever the kernel holds that to be. */
static void look_by_append(struct seldom *s, const char *path, int round)
{
	unsigned char bytes[BLOCK];
	s->last ^= 0x80;
	memset(bytes, s->last, sizeof(bytes));
	int fd = open(path, O_WRONLY | O_APPEND);
	must(write(fd, bytes, sizeof(bytes)) == BLOCK ? 0 : EIO, "append");
	(void)close(fd);
	s->size += BLOCK;
	look_by_stat(s, path, round);
	look_by_read(s, path, round);
}

static void run_seldom(void)
{
	char path[4096];
	path_of(path, "seldom");
	int fd = open_at("seldom", O_CREAT | O_RDWR | O_TRUNC);
	struct seldom s = {.ino = ino_of(fd), .size = BLOCK};
	must(ftruncate(fd, BLOCK) ? errno : 0, "ftruncate");
	(void)close(fd);
	for (int round = 0, number = 1; round < SELDOM_ROUNDS; round++) {
		for (int i = 0; i < 1 + round % 5; i++)
			write_seldom(&s, number++);
		switch (round % 4) {
		case 0:
			look_by_map(&s, path, round);
			break;
		case 1:
			look_by_read(&s, path, round);
			break;
		case 2:
			look_by_stat(&s, path, round);
			break;
		default:
			look_by_append(&s, path, round);
			break;
		}
	}
}

int main(int argc, char **argv)
{
	char reason[256] = "";
	if (argc != 4) {
		fprintf(stderr, "usage: coherent MOUNT URL ROUNDS|parked|longer|seldom\n");
		return 2;
	}
	setvbuf(stdout, NULL, _IOLBF, 0);
	mount_dir = argv[1];
	int err = pml_client_connect(argv[2], 10000, &client, reason);
	if (err)
		printf("# %s\n", reason);
	must(err, "connect");
	must(pml_client_buffer_new(client, 4 * BLOCK, &buffer), "buffer");
	if (strcmp(argv[3], "parked") == 0)
		run_parked();
	else if (strcmp(argv[3], "longer") == 0)
		run_longer(argv[2]);
	else if (strcmp(argv[3], "seldom") == 0)
		run_seldom();
	else
		run_rounds(atoi(argv[3]));
	pml_client_buffer_free(buffer);
	pml_client_close(client);
	printf("stale %u\n", nstale);
	return nstale ? 1 : 0;
}
