/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * scale.c -- what large directories, files and devices cost, beside small ones
 *
 * usage: bench_scale [-n NUMBER] [-o markdown|ratio] DIRECTORY
 *
 * Works on the filesystem below FUSE, on device files in DIRECTORY.  A ratio is the
 * cost of one operation among NUMBER entries or extents divided by its cost among
 * 1000; where a line names something else, divided by that.  Memory is the process's.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "pml/fs.h"
#include "ratio.h"

#define SMALL 1000u
#define BLOCK PML_BLOCK_BYTES

static unsigned int large = 1000000;
static char path[4096];
static uint8_t block[BLOCK];

static void die(const char *what, const char *why)
{
	fprintf(stderr, "bench_scale: %s: %s\n", what, why);
	(void)unlink(path);
	exit(1);
}

static void must(int err, const char *what)
{
	if (err)
		die(what, strerror(-err));
}

static void row(const char *what, double ratio, const char *against)
{
	if (ratio_is_markdown)
		printf("| %s | %.2f | %s |\n", what, ratio, against);
	else
		printf("# ratio scale, %s: %.2f (%s)\n", what, ratio, against);
	(void)fflush(stdout);
}

static double own_mib(void)
{
	return ratio_own_bytes() / (1 << 20);
}

static struct pml_fs *open_fs(void)
{
	char reason[PML_REASON_BYTES];
	struct pml_fs *fs;
	if (pml_fs_open(&(struct pml_open_args){.path = path}, &fs, reason) != 0)
		die("open", reason);
	return fs;
}

static struct pml_fs *make_fs(uint64_t bytes)
{
	char reason[PML_REASON_BYTES];
	struct pml_device_info info;
	const struct pml_format_args args = {.path = path, .size_bytes = bytes};
	(void)unlink(path);
	if (pml_fs_format(&args, &info, reason) != 0)
		die("format", reason);
	return open_fs();
}

static void end_fs(struct pml_fs *fs)
{
	pml_fs_close(fs);
	(void)unlink(path);
}

static struct pml_inode *make_inode(struct pml_inode *dir, const char *name, mode_t mode)
{
	struct pml_inode *inode;
	must(pml_dir_create(dir, name, &(struct pml_create_args){.mode = mode}, &inode), name);
	return inode;
}

static struct pml_inode *root_of(struct pml_fs *fs)
{
	struct pml_inode *root;
	must(pml_inode_get(fs, PML_ROOT_INO, &root), "root");
	return root;
}

/* ---- a directory --------------------------------------------------------- */

enum { CREATE, LOOKUP, LIST, UNLINK, DIR_STEPS };

/* Seconds per entry of each step. */
struct dir_cost {
	double s[DIR_STEPS];
};

static const char *name_of(unsigned int i)
{
	static char name[32];
	(void)snprintf(name, sizeof(name), "entry-%u", i);
	return name;
}

static bool count_entry(void *arg, const struct pml_dirent *entry)
{
	unsigned int *n = arg;
	(void)entry;
	++*n;
	return true;
}

static void create_entries(struct pml_inode *dir, unsigned int first, unsigned int end)
{
	for (unsigned int i = first; i < end; i++)
		pml_inode_put(make_inode(dir, name_of(i), S_IFREG | 0644), 1);
}

/* The last SMALL of @n entries are timed, so that both sizes do as many operations. */
static struct dir_cost run_dir(struct pml_inode *root, const char *name, unsigned int n)
{
	struct dir_cost cost;
	struct pml_inode *dir = make_inode(root, name, S_IFDIR | 0755);
	create_entries(dir, 0, n - SMALL);
	double start = ratio_now_s();
	create_entries(dir, n - SMALL, n);
	cost.s[CREATE] = (ratio_now_s() - start) / SMALL;

	start = ratio_now_s();
	for (unsigned int i = 0; i < SMALL; i++) {
		struct pml_inode *inode;
		must(pml_dir_lookup(dir, name_of((unsigned int)(i * 2654435761u) % n), &inode),
		     "lookup");
		pml_inode_put(inode, 1);
	}
	cost.s[LOOKUP] = (ratio_now_s() - start) / SMALL;

	unsigned int seen = 0;
	start = ratio_now_s();
	must(pml_dir_read(dir, 0, count_entry, &seen), "readdir");
	cost.s[LIST] = (ratio_now_s() - start) / seen;
	if (seen != n + 2)
		die("readdir", "wrong number of entries");

	start = ratio_now_s();
	for (unsigned int i = 0; i < SMALL; i++)
		must(pml_dir_unlink(dir, name_of(i)), "unlink");
	cost.s[UNLINK] = (ratio_now_s() - start) / SMALL;
	for (unsigned int i = SMALL; i < n; i++)
		must(pml_dir_unlink(dir, name_of(i)), "unlink");
	pml_inode_put(dir, 1);
	must(pml_dir_rmdir(root, name), "rmdir");
	return cost;
}

static void compare_dirs(void)
{
	static const char *const what[DIR_STEPS] = {"create", "look-up", "list, per entry",
						    "unlink"};
	struct pml_fs *fs = make_fs((256ull << 20) + (uint64_t)large * 3072);
	struct pml_inode *root = root_of(fs);
	(void)run_dir(root, "warm", 2 * SMALL);
	struct dir_cost of_small = run_dir(root, "small", SMALL);
	struct dir_cost of_large = run_dir(root, "large", large);
	for (int i = 0; i < DIR_STEPS; i++) {
		char text[80];
		(void)snprintf(text, sizeof(text), "directory of %u: %s", large, what[i]);
		row(text, of_large.s[i] / of_small.s[i], "directory of 1000");
	}
	pml_inode_put(root, 1);
	end_fs(fs);
}

/* ---- a file of many extents ---------------------------------------------- */

enum { APPEND, READ, SYNC, CLONE, TRUNCATE, FILE_STEPS };

struct file_cost {
	double s[FILE_STEPS];
};

static void write_block(struct pml_inode *file, uint64_t file_block)
{
	must(pml_file_write(file, block, BLOCK, file_block * BLOCK, false, NULL), "write");
}

/* Every second block is written, so each block is an extent. */
static void write_extents(struct pml_inode *file, unsigned int first, unsigned int end)
{
	for (unsigned int i = first; i < end; i++)
		write_block(file, 2ull * i);
}

static void clone_all(struct pml_inode *from, struct pml_inode *to)
{
	uint64_t size = pml_inode_size(from);
	for (uint64_t done = 0; done < size;) {
		uint64_t n = 0;
		must(pml_file_clone(from, done, to, done, size - done, NULL, &n), "clone");
		done += n;
	}
}

static struct file_cost run_file(struct pml_inode *root, unsigned int n)
{
	struct file_cost cost;
	struct pml_inode *file = make_inode(root, "file", S_IFREG | 0644);
	struct pml_inode *twin = make_inode(root, "twin", S_IFREG | 0644);
	write_extents(file, 0, n - SMALL);
	double start = ratio_now_s();
	write_extents(file, n - SMALL, n);
	cost.s[APPEND] = (ratio_now_s() - start) / SMALL;

	struct iovec iov[PML_IOV_MAX];
	start = ratio_now_s();
	for (unsigned int i = 0; i < SMALL; i++) {
		int niov;
		size_t got;
		uint64_t at = 2ull * ((unsigned int)(i * 2654435761u) % n) * BLOCK;
		must(pml_file_read_begin(file, at, BLOCK, iov, &niov, &got), "read");
		pml_file_read_end(file);
	}
	cost.s[READ] = (ratio_now_s() - start) / SMALL;

	start = ratio_now_s();
	for (unsigned int i = 0; i < 8; i++)
		must(pml_file_sync(file), "sync");
	cost.s[SYNC] = (ratio_now_s() - start) / 8;

	start = ratio_now_s();
	clone_all(file, twin);
	cost.s[CLONE] = (ratio_now_s() - start) / n;

	start = ratio_now_s();
	must(pml_file_truncate(twin, 0, NULL), "truncate");
	must(pml_file_truncate(file, 0, NULL), "truncate");
	cost.s[TRUNCATE] = (ratio_now_s() - start) / n / 2;
	pml_inode_put(file, 1);
	pml_inode_put(twin, 1);
	must(pml_dir_unlink(root, "file"), "unlink");
	must(pml_dir_unlink(root, "twin"), "unlink");
	return cost;
}

static void compare_files(void)
{
	static const char *const what[FILE_STEPS] = {"append", "find a block", "fsync",
						     "clone, per extent", "truncate, per extent"};
	struct pml_fs *fs = make_fs((256ull << 20) + (uint64_t)large * (BLOCK + 512));
	struct pml_inode *root = root_of(fs);
	(void)run_file(root, 2 * SMALL);
	struct file_cost of_small = run_file(root, SMALL);
	struct file_cost of_large = run_file(root, large);
	for (int i = 0; i < FILE_STEPS; i++) {
		char text[80];
		(void)snprintf(text, sizeof(text), "file of %u extents: %s", large, what[i]);
		row(text, of_large.s[i] / of_small.s[i], "file of 1000 extents");
	}
	pml_inode_put(root, 1);
	end_fs(fs);
}

/* ---- a large device ------------------------------------------------------- */

struct device_cost {
	double mount_s;
	double mib;
};

static struct device_cost run_device(uint64_t bytes)
{
	double mib = own_mib();
	struct pml_fs *fs = make_fs(bytes);
	pml_fs_close(fs);
	double start = ratio_now_s();
	fs = open_fs();
	struct pml_inode *root = root_of(fs);
	struct pml_inode *file = make_inode(root, "sparse", S_IFREG | 0644);
	must(pml_file_truncate(file, 16ull << 40, NULL), "truncate");
	write_block(file, (16ull << 40) / BLOCK - 1);
	uint64_t at;
	must(pml_file_seek(file, 0, SEEK_DATA, &at), "seek");
	struct stat st;
	pml_inode_stat(file, &st);
	if (at != (16ull << 40) - BLOCK || st.st_size != 16ll << 40 || st.st_blocks != 8)
		die("a sparse file of 16 TiB", "wrong numbers");
	struct statvfs sv;
	pml_fs_statvfs(fs, &sv);
	if (sv.f_blocks < bytes / BLOCK / 100 * 90)
		die("statvfs", "blocks are missing");
	pml_inode_put(file, 1);
	pml_inode_put(root, 1);
	struct device_cost cost = {ratio_now_s() - start, own_mib() - mib};
	end_fs(fs);
	return cost;
}

static void compare_devices(void)
{
	(void)run_device(1ull << 30);
	struct device_cost of_small = run_device(1ull << 30);
	struct device_cost of_large = run_device(1ull << 40);
	row("empty device of 1 TiB: mount, a sparse file of 16 TiB",
	    of_large.mount_s / of_small.mount_s, "device of 1 GiB");
	row("empty device of 1 TiB: MiB of memory", of_large.mib, "1 MiB");
}

/* ---- mounting after a crash ------------------------------------------------ */

/* In a process that dies without unmounting. */
static void fill_and_die(void (*fill)(struct pml_fs *fs), uint64_t bytes)
{
	struct pml_fs *fs = make_fs(bytes);
	pml_fs_close(fs);
	pid_t child = fork();
	if (child == 0) {
		fs = open_fs();
		fill(fs);
		_exit(0);
	}
	int status;
	if (child < 0 || waitpid(child, &status, 0) != child || status != 0)
		die("crash", "the process ended in another way");
}

static void fill_files(struct pml_fs *fs)
{
	struct pml_inode *root = root_of(fs);
	struct pml_inode *dir = NULL;
	for (unsigned int i = 0; i < large; i++) {
		if (i % 1000 == 0)
			dir = make_inode(root, name_of(i), S_IFDIR | 0755);
		char name[32];
		(void)snprintf(name, sizeof(name), "%u", i);
		struct pml_inode *file = make_inode(dir, name, S_IFREG | 0644);
		must(pml_file_write(file, block, 100, 0, false, NULL), "write");
		pml_inode_put(file, 1);
	}
}

static void fill_extents(struct pml_fs *fs)
{
	write_extents(make_inode(root_of(fs), "file", S_IFREG | 0644), 0, large);
}

/* Half a terabyte of preallocated blocks. */
static void fill_terabyte(struct pml_fs *fs)
{
	struct pml_inode *file = make_inode(root_of(fs), "file", S_IFREG | 0644);
	must(pml_file_allocate(file, 0, 0, 512ull << 30, NULL), "fallocate");
}

static void fill_nothing(struct pml_fs *fs)
{
	(void)fs;
}

/* Seconds that copying @bytes takes: what the machine's memory can do. */
static double memory_pass(size_t bytes)
{
	char *from = malloc(bytes), *to = malloc(bytes);
	if (!from || !to)
		die("memory", "none left");
	memset(from, 1, bytes);
	memset(to, 1, bytes);
	double start = ratio_now_s();
	memcpy(to, from, bytes);
	double s = ratio_now_s() - start;
	s += to[bytes / 2] == 0;
	free(from);
	free(to);
	return s;
}

static double mount_s(double *ret_mib)
{
	double mib = own_mib();
	double start = ratio_now_s();
	struct pml_fs *fs = open_fs();
	double s = ratio_now_s() - start;
	*ret_mib = own_mib() - mib;
	end_fs(fs);
	return s;
}

static void compare_mounts(void)
{
	/* An inode, a name, an entry in a directory and an extent with its counter. */
	double pass = memory_pass((size_t)large * 512);
	uint64_t bytes = (256ull << 20) + (uint64_t)large * (BLOCK + 3072);
	double mib;
	char text[80];

	fill_and_die(fill_nothing, bytes);
	double empty = mount_s(&mib);
	fill_and_die(fill_files, bytes);
	double files = mount_s(&mib);
	(void)snprintf(text, sizeof(text), "mount after a crash, %u files", large);
	row(text, (files - empty) / pass, "copying 512 bytes per file");
	(void)snprintf(text, sizeof(text), "mount after a crash, %u files: MiB of memory", large);
	row(text, mib, "1 MiB");

	fill_and_die(fill_extents, bytes);
	double extents = mount_s(&mib);
	(void)snprintf(text, sizeof(text), "mount after a crash, %u extents", large);
	row(text, (extents - empty) / pass, "copying 512 bytes per extent");

	/* A counter of 4 bytes for each block, and a bit. */
	fill_and_die(fill_terabyte, 1ull << 40);
	double terabyte = mount_s(&mib);
	row("mount after a crash, 512 GiB in use", terabyte / memory_pass(512u << 20),
	    "copying 4 bytes per block");
	row("mount after a crash, 512 GiB in use: MiB of memory", mib, "1 MiB");
}

/* ---- writers side by side -------------------------------------------------- */

#define WRITERS	     4u
#define WRITER_BYTES (32u << 20)
#define REQUEST	     (128u << 10)

static unsigned int count_extents(struct pml_inode *file)
{
	struct iovec iov[PML_IOV_MAX];
	uint64_t size = pml_inode_size(file);
	unsigned int n = 0;
	const uint8_t *end = NULL;
	for (uint64_t at = 0; at < size; at += REQUEST) {
		int niov;
		size_t got;
		must(pml_file_read_begin(file, at, REQUEST, iov, &niov, &got), "read");
		for (int i = 0; i < niov; i++) {
			n += iov[i].iov_base != end;
			end = (const uint8_t *)iov[i].iov_base + iov[i].iov_len;
		}
		pml_file_read_end(file);
	}
	return n;
}

static void compare_writers(void)
{
	struct pml_fs *fs = make_fs(1ull << 30);
	struct pml_inode *root = root_of(fs);
	struct pml_inode *file[WRITERS];
	uint8_t *data = calloc(1, REQUEST);
	unsigned int n = 0;
	if (!data)
		die("memory", "none left");
	for (unsigned int i = 0; i < WRITERS; i++)
		file[i] = make_inode(root, name_of(i), S_IFREG | 0644);
	for (uint64_t at = 0; at < WRITER_BYTES; at += REQUEST)
		for (unsigned int i = 0; i < WRITERS; i++)
			must(pml_file_write(file[i], data, REQUEST, at, false, NULL), "write");
	for (unsigned int i = 0; i < WRITERS; i++) {
		n += count_extents(file[i]);
		pml_inode_put(file[i], 1);
	}
	row("4 writers of 32 MiB in turn, 128 KiB at a time: extents", (double)n / WRITERS,
	    "one extent for each file");
	pml_inode_put(root, 1);
	free(data);
	end_fs(fs);
}

int main(int argc, char **argv)
{
	int c;
	while ((c = getopt(argc, argv, "n:o:")) != -1) {
		if (c == 'n')
			large = (unsigned int)strtoul(optarg, NULL, 10);
		else if (c == 'o')
			ratio_is_markdown = strcmp(optarg, "markdown") == 0;
		else
			return 2;
	}
	if (large < 2 * SMALL || optind + 1 != argc)
		return 2;
	(void)snprintf(path, sizeof(path), "%s/scale.dev", argv[optind]);
	memset(block, 'b', sizeof(block));
	if (ratio_is_markdown)
		printf("| what | ratio | against |\n| --- | --- | --- |\n");
	compare_dirs();
	compare_files();
	compare_devices();
	compare_mounts();
	compare_writers();
	return 0;
}
