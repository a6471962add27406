/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * load.c -- the same work on several filesystems in turn, as ratios
 *
 * usage: bench_load [-r ROUNDS] [-n FILES] [-m MIB] [-o markdown|ratio] NAME=DIR...
 *
 * The first directory is the subject, the others are its peers.  A round does each
 * operation on every directory before the next operation, beginning with another
 * directory each time, so that a disturbance of the machine meets all of them.  A
 * ratio is the subject's speed divided by the peer's in the same round: above 1 the
 * subject is ahead.  Printed is the median of the rounds, with the quartiles.  What a
 * directory cannot do is "-".
 *
 * A directory that lacks the file "data" gets one of MIB megabytes.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define TARGETS_MAX 8
#define ROUNDS_MAX  101
#define OPS_MAX	    32
#define BLOCK	    4096u
#define MIB	    (1u << 20)

struct target {
	const char *name;
	const char *dir;
	int dirfd;
};

static unsigned int nfiles = 2000;
static unsigned int data_mib = 64;
static unsigned int nrounds = 5;
static bool is_markdown;
static struct target targets[TARGETS_MAX];
static unsigned int ntargets;
static uint8_t *buffer; /* MIB bytes, page-aligned */

static double now(void)
{
	struct timespec ts;
	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec * 1e-9;
}

static uint64_t next_random(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state;
}

/* The kernel forgets names and attributes; what it tells a daemon of it gets a moment. */
static bool drop_names(void)
{
	int fd = open("/proc/sys/vm/drop_caches", O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	bool ok = write(fd, "2", 1) == 1;
	(void)close(fd);
	(void)usleep(20 * 1000);
	return ok;
}

/* ---- names --------------------------------------------------------------- */

/* Calls @one for each of the files; seconds per call, or -1 when one failed. */
static double each_name(const struct target *t, int (*one)(int fd, const char *name))
{
	char name[64];
	double start = now();
	for (unsigned int i = 0; i < nfiles; i++) {
		(void)snprintf(name, sizeof(name), "names/file-%06u", i);
		if (one(t->dirfd, name) != 0)
			return -1;
	}
	return (now() - start) / nfiles;
}

static int one_create(int fd, const char *name)
{
	int file = openat(fd, name, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0644);
	return file < 0 ? -1 : close(file);
}

static int one_stat(int fd, const char *name)
{
	struct stat st;
	return fstatat(fd, name, &st, 0);
}

static int one_open(int fd, const char *name)
{
	int file = openat(fd, name, O_RDONLY | O_CLOEXEC);
	return file < 0 ? -1 : close(file);
}

static int one_rename(int fd, const char *name)
{
	char to[64];
	(void)snprintf(to, sizeof(to), "%s.new", name);
	return renameat(fd, name, fd, to);
}

static int one_unlink(int fd, const char *name)
{
	char from[64];
	(void)snprintf(from, sizeof(from), "%s.new", name);
	return unlinkat(fd, from, 0);
}

static int one_small_file(int fd, const char *name)
{
	int file = openat(fd, name, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0644);
	if (file < 0)
		return -1;
	bool ok = write(file, buffer, BLOCK) == BLOCK;
	return close(file) == 0 && ok ? 0 : -1;
}

static int one_unlink_small(int fd, const char *name)
{
	return unlinkat(fd, name, 0);
}

static int one_mkdir(int fd, const char *name)
{
	return mkdirat(fd, name, 0755);
}

static int one_rmdir(int fd, const char *name)
{
	return unlinkat(fd, name, AT_REMOVEDIR);
}

static double op_create(const struct target *t)
{
	return each_name(t, one_create);
}

static double op_stat_cached(const struct target *t)
{
	return each_name(t, one_stat);
}

static double op_stat_cold(const struct target *t)
{
	return drop_names() ? each_name(t, one_stat) : -1;
}

static double op_open(const struct target *t)
{
	return each_name(t, one_open);
}

static double op_rename(const struct target *t)
{
	return each_name(t, one_rename);
}

static double op_unlink(const struct target *t)
{
	return each_name(t, one_unlink);
}

static double op_small_file(const struct target *t)
{
	return each_name(t, one_small_file);
}

static double op_unlink_small(const struct target *t)
{
	return each_name(t, one_unlink_small);
}

static double op_mkdir(const struct target *t)
{
	return each_name(t, one_mkdir);
}

static double op_rmdir(const struct target *t)
{
	return each_name(t, one_rmdir);
}

static double list(const struct target *t, bool with_stat)
{
	int fd = openat(t->dirfd, "names", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	if (!dir)
		return -1;
	unsigned int n = 0;
	double start = now();
	for (const struct dirent *d; (d = readdir(dir));) {
		struct stat st;
		if (with_stat && fstatat(fd, d->d_name, &st, AT_SYMLINK_NOFOLLOW) != 0)
			break;
		n++;
	}
	double end = now();
	(void)closedir(dir);
	return n >= nfiles ? (end - start) / n : -1;
}

static double op_list(const struct target *t)
{
	return drop_names() ? list(t, false) : -1;
}

static double op_list_stat(const struct target *t)
{
	return drop_names() ? list(t, true) : -1;
}

/* ---- contents ------------------------------------------------------------ */

enum transfer { READ, WRITE };

/* @bytes at a time over the file, in order or at random; seconds per transfer. */
static double transfer(const struct target *t, const char *name, enum transfer what, size_t bytes,
		       bool is_random, int flags, unsigned int n)
{
	int fd = openat(t->dirfd, name, (what == READ ? O_RDONLY : O_WRONLY) | O_CLOEXEC | flags);
	if (fd < 0)
		return -1;
	uint64_t size = (uint64_t)data_mib * MIB;
	uint64_t seed = 88172645463325252u;
	ssize_t got = (ssize_t)bytes;
	double start = now();
	for (unsigned int i = 0; i < n && got == (ssize_t)bytes; i++) {
		uint64_t at = (is_random ? next_random(&seed) : i) * bytes % size;
		got = what == READ ? pread(fd, buffer, bytes, (off_t)at)
				   : pwrite(fd, buffer, bytes, (off_t)at);
	}
	double end = now();
	(void)close(fd);
	return got == (ssize_t)bytes ? (end - start) / n : -1;
}

/* The kernel's pages of the file go. */
static bool drop_pages(const struct target *t)
{
	int fd = openat(t->dirfd, "data", O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return false;
	bool ok = fdatasync(fd) == 0 && posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED) == 0;
	(void)close(fd);
	return ok;
}

static double op_read_random_cached(const struct target *t)
{
	if (transfer(t, "data", READ, MIB, false, 0, data_mib) < 0)
		return -1;
	return transfer(t, "data", READ, BLOCK, true, 0, nfiles);
}

static double op_read_random(const struct target *t)
{
	return transfer(t, "data", READ, BLOCK, true, O_DIRECT, nfiles);
}

static double op_write_random_cached(const struct target *t)
{
	return transfer(t, "data", WRITE, BLOCK, true, 0, nfiles);
}

static double op_write_random(const struct target *t)
{
	return transfer(t, "data", WRITE, BLOCK, true, O_DIRECT, nfiles);
}

static double op_read(const struct target *t)
{
	return transfer(t, "data", READ, MIB, false, O_DIRECT, data_mib);
}

static double op_read_cold(const struct target *t)
{
	return drop_pages(t) ? transfer(t, "data", READ, MIB, false, 0, data_mib) : -1;
}

static double op_write(const struct target *t)
{
	return transfer(t, "data", WRITE, MIB, false, O_DIRECT, data_mib);
}

static double op_write_new(const struct target *t)
{
	int fd = openat(t->dirfd, "new", O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0644);
	if (fd < 0)
		return -1;
	(void)close(fd);
	double s = transfer(t, "new", WRITE, MIB, false, 0, data_mib);
	(void)unlinkat(t->dirfd, "new", 0);
	return s;
}

static double op_append_fsync(const struct target *t)
{
	int fd = openat(t->dirfd, "log", O_CREAT | O_TRUNC | O_WRONLY | O_APPEND | O_CLOEXEC, 0644);
	if (fd < 0)
		return -1;
	unsigned int n = nfiles / 4 + 1;
	bool ok = true;
	double start = now();
	for (unsigned int i = 0; i < n && ok; i++)
		ok = write(fd, buffer, BLOCK) == BLOCK && fsync(fd) == 0;
	double end = now();
	(void)close(fd);
	(void)unlinkat(t->dirfd, "log", 0);
	return ok ? (end - start) / n : -1;
}

static double op_mmap_read(const struct target *t)
{
	if (!drop_pages(t))
		return -1;
	int fd = openat(t->dirfd, "data", O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -1;
	size_t size = (size_t)data_mib * MIB;
	const volatile uint8_t *p = mmap(NULL, size, PROT_READ, MAP_SHARED, fd, 0);
	(void)close(fd);
	if (p == MAP_FAILED)
		return -1;
	uint64_t sum = 0;
	double start = now();
	for (size_t at = 0; at < size; at += BLOCK)
		sum += p[at];
	double end = now();
	(void)munmap((void *)(uintptr_t)p, size);
	return sum == UINT64_MAX ? -1 : (end - start) / (double)(size / BLOCK);
}

/* ---- clones -------------------------------------------------------------- */

static double op_clone(const struct target *t)
{
	(void)unlinkat(t->dirfd, "clone", 0);
	if (!drop_pages(t)) /* what is dirty would be written back within the time */
		return -1;
	int from = openat(t->dirfd, "data", O_RDONLY | O_CLOEXEC);
	int to = openat(t->dirfd, "clone", O_CREAT | O_TRUNC | O_RDWR | O_CLOEXEC, 0644);
	uint64_t left = (uint64_t)data_mib * MIB;
	double start = now();
	while (from >= 0 && to >= 0 && left > 0) {
		ssize_t n = copy_file_range(from, NULL, to, NULL, left, 0);
		if (n <= 0)
			break;
		left -= (uint64_t)n;
	}
	double end = now();
	if (from >= 0)
		(void)close(from);
	if (to >= 0)
		(void)close(to);
	return left == 0 ? end - start : -1;
}

static double op_write_clone(const struct target *t)
{
	return transfer(t, "clone", WRITE, BLOCK, true, O_DIRECT, nfiles / 2);
}

/* ---- rounds -------------------------------------------------------------- */

static const struct op {
	const char *name;
	double (*run)(const struct target *t);
} ops[] = {
	{"create", op_create},
	{"stat, names known", op_stat_cached},
	{"stat, names unknown", op_stat_cold},
	{"open and close", op_open},
	{"list a directory", op_list},
	{"list and stat", op_list_stat},
	{"rename", op_rename},
	{"unlink", op_unlink},
	{"mkdir", op_mkdir},
	{"rmdir", op_rmdir},
	{"create with 4 KiB", op_small_file},
	{"unlink with 4 KiB", op_unlink_small},
	{"4 KiB random read, cached", op_read_random_cached},
	{"4 KiB random read, direct", op_read_random},
	{"4 KiB random write", op_write_random_cached},
	{"4 KiB random write, direct", op_write_random},
	{"1 MiB read, direct", op_read},
	{"1 MiB read, not cached", op_read_cold},
	{"1 MiB write, direct", op_write},
	{"1 MiB write of a new file", op_write_new},
	{"4 KiB append and fsync", op_append_fsync},
	{"mmap read, not cached", op_mmap_read},
	{"clone of a file", op_clone},
	{"4 KiB write to the clone, direct", op_write_clone},
};
#define NOPS (sizeof(ops) / sizeof(ops[0]))

static double seconds[NOPS][TARGETS_MAX][ROUNDS_MAX];

static int compare(const void *a, const void *b)
{
	const double *x = a, *y = b;
	return (*x > *y) - (*x < *y);
}

/* Of the rounds in which both could do it; 0: none. */
static unsigned int ratios(size_t op, unsigned int target, double *ret_sorted)
{
	unsigned int n = 0;
	for (unsigned int r = 0; r < nrounds; r++)
		if (seconds[op][0][r] > 0 && seconds[op][target][r] > 0)
			ret_sorted[n++] = seconds[op][target][r] / seconds[op][0][r];
	qsort(ret_sorted, n, sizeof(ret_sorted[0]), compare);
	return n;
}

static void print_markdown(void)
{
	printf("| operation |");
	for (unsigned int t = 1; t < ntargets; t++)
		printf(" %s |", targets[t].name);
	printf("\n| --- |");
	for (unsigned int t = 1; t < ntargets; t++)
		printf(" --- |");
	for (size_t op = 0; op < NOPS; op++) {
		printf("\n| %s |", ops[op].name);
		for (unsigned int t = 1; t < ntargets; t++) {
			double sorted[ROUNDS_MAX];
			unsigned int n = ratios(op, t, sorted);
			if (n)
				printf(" %.2f (%.2f-%.2f) |", sorted[n / 2], sorted[n / 4],
				       sorted[n - 1 - n / 4]);
			else
				printf(" - |");
		}
	}
	printf("\n");
}

static void print_ratios(void)
{
	for (size_t op = 0; op < NOPS; op++)
		for (unsigned int t = 1; t < ntargets; t++) {
			double sorted[ROUNDS_MAX];
			unsigned int n = ratios(op, t, sorted);
			if (n)
				printf("# ratio %s, %s/%s: %.2f (%.2f to %.2f)\n", ops[op].name,
				       targets[0].name, targets[t].name, sorted[n / 2],
				       sorted[n / 4], sorted[n - 1 - n / 4]);
		}
}

/* A file of data, and a directory for names; a peer may be unable to have either. */
static void prepare(const struct target *t)
{
	if (mkdirat(t->dirfd, "names", 0755) != 0 && errno == EEXIST)
		return;
	int fd = openat(t->dirfd, "data", O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0644);
	for (unsigned int i = 0; fd >= 0 && i < data_mib; i++)
		if (write(fd, buffer, MIB) != MIB)
			break;
	if (fd >= 0)
		(void)close(fd);
}

static void add_target(char *text)
{
	char *dir = strchr(text, '=');
	if (!dir || ntargets == TARGETS_MAX) {
		fprintf(stderr, "load: not NAME=DIR, or too many: %s\n", text);
		exit(2);
	}
	*dir++ = 0;
	struct target *t = &targets[ntargets++];
	*t = (struct target){.name = text, .dir = dir};
	t->dirfd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (t->dirfd < 0) {
		fprintf(stderr, "load: %s: %s\n", dir, strerror(errno));
		exit(2);
	}
	prepare(t);
}

int main(int argc, char **argv)
{
	bool subject_failed = false;
	int c;
	while ((c = getopt(argc, argv, "r:n:m:o:")) != -1) {
		if (c == 'r')
			nrounds = (unsigned int)strtoul(optarg, NULL, 10);
		else if (c == 'n')
			nfiles = (unsigned int)strtoul(optarg, NULL, 10);
		else if (c == 'm')
			data_mib = (unsigned int)strtoul(optarg, NULL, 10);
		else if (c == 'o')
			is_markdown = strcmp(optarg, "markdown") == 0;
		else
			return 2;
	}
	if (nrounds < 1 || nrounds > ROUNDS_MAX || nfiles < 2 || data_mib < 1 || optind == argc)
		return 2;
	buffer = aligned_alloc(BLOCK, MIB);
	if (!buffer)
		return 2;
	memset(buffer, 'b', MIB);
	for (int i = optind; i < argc; i++)
		add_target(argv[i]);

	for (unsigned int r = 0; r < nrounds; r++)
		for (size_t op = 0; op < NOPS; op++)
			for (unsigned int k = 0; k < ntargets; k++) {
				unsigned int t = (k + r) % ntargets;
				seconds[op][t][r] = ops[op].run(&targets[t]);
				if (t == 0 && seconds[op][t][r] < 0) {
					fprintf(stderr, "load: %s: %s: %s\n", targets[t].name,
						ops[op].name, strerror(errno));
					subject_failed = true;
				}
			}
	if (is_markdown)
		print_markdown();
	else
		print_ratios();
	return subject_failed;
}
