/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * ageing.c -- does the allocator keep large files in one piece when the filesystem is old?
 *
 * usage: ageing [CYCLES] (PML_SEED; PML_TEST_DIR)
 *
 * On the filesystem below FUSE, with requests as the kernel makes them (up to 1 MiB).  A
 * cycle fills the device to FULL_PERCENT with files of 4 KiB to 32 MiB, several growing at a
 * time, overwrites parts of clones, and removes files at random down to EMPTY_PERCENT.
 * Before the first cycle and after the last one large files are written, one alone and four
 * side by side; the figures are extents per file, and the part of a file's bytes that whole
 * 2 MiB units of the device hold.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../fs/extent.h"
#include "../../fs/pool.h"
#include "../support/fs_pool.h"
#include "../tap.h"

#define DEVICE_BYTES  (1ull << 30)
#define REQUEST	      (1u << 20)
#define UNIT_BLOCKS   512u /* 2 MiB */
#define FILES	      8192
#define STREAMS	      4
#define LARGE_BYTES   (32u << 20)
#define LARGE_FILES   8
#define FULL_PERCENT  90
#define EMPTY_PERCENT 55

static struct fs_pool pool;
static struct pml_inode *root;
static struct pml_inode *files[FILES];
static uint64_t state;
static unsigned int name_count;
static uint8_t data[REQUEST];

static uint64_t below(uint64_t n)
{
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return state % n;
}

/* ---- figures ------------------------------------------------------------ */

struct figures {
	uint64_t extents;
	uint64_t blocks;
	uint64_t unit_blocks; /* in whole units of the device */
};

static int count_extent(void *arg, const struct pml_extent *e)
{
	struct figures *f = arg;
	uint64_t first = (e->block + UNIT_BLOCKS - 1) / UNIT_BLOCKS;
	uint64_t end = (e->block + e->nblocks) / UNIT_BLOCKS;
	f->extents++;
	f->blocks += e->nblocks;
	f->unit_blocks += end > first ? (end - first) * UNIT_BLOCKS : 0;
	return 0;
}

static void count_file(struct pml_inode *inode, struct figures *f)
{
	CHECK_EQ(pml_extent_walk(pool.fs, inode->media, 0, count_extent, f), 0);
}

static unsigned int percent_used(void)
{
	struct pml_fs_counts counts;
	pml_fs_counts(pool.fs, &counts);
	return (unsigned int)(counts.used_blocks * 100 / counts.total_blocks);
}

/* ---- files -------------------------------------------------------------- */

static struct pml_inode *new_file(void)
{
	char name[32];
	snprintf(name, sizeof(name), "f%u", name_count++);
	const struct pml_create_args args = {.mode = S_IFREG | 0644};
	struct pml_inode *inode = NULL;
	CHECK_EQ(pml_dir_create(root, name, &args, &inode), 0);
	return inode;
}

/* The name of a file is its number of creation, which its btime order tells: kept beside it. */
static unsigned int names[FILES];

static void remove_file(int i)
{
	char name[32];
	snprintf(name, sizeof(name), "f%u", names[i]);
	CHECK_EQ(pml_dir_unlink(root, name), 0);
	pml_inode_put(files[i], 1);
	files[i] = NULL;
}

static int free_place(void)
{
	int i = (int)below(FILES);
	while (files[i])
		i = (i + 1) % FILES;
	return i;
}

/* Log-uniform from 4 KiB to 32 MiB. */
static uint64_t random_bytes(void)
{
	uint64_t high = 4096ull << below(13);
	return high + below(high);
}

struct stream {
	int file;
	uint64_t at;
	uint64_t bytes;
};

static void stream_begin(struct stream *s, uint64_t bytes)
{
	s->file = free_place();
	names[s->file] = name_count;
	files[s->file] = new_file();
	s->at = 0;
	s->bytes = bytes;
}

/* One request more; false: it is done. */
static bool stream_go_on(struct stream *s, uint64_t request)
{
	uint64_t n = PML_MIN(s->bytes - s->at, request);
	if (n == 0 || pml_file_write(files[s->file], data, n, s->at, false, NULL) != 0)
		return false;
	s->at += n;
	return s->at < s->bytes;
}

/* ---- ageing ------------------------------------------------------------- */

static void fill(void)
{
	struct stream streams[STREAMS];
	for (int i = 0; i < STREAMS; i++)
		stream_begin(&streams[i], random_bytes());
	while (percent_used() < FULL_PERCENT) {
		for (int round = 0; round < 16; round++) {
			struct stream *s = &streams[below(STREAMS)];
			if (!stream_go_on(s, 4096ull << below(9)))
				stream_begin(s, random_bytes());
		}
	}
}

/* A clone, and overwrites that move blocks of one of the two. */
static void clone_and_overwrite(void)
{
	int from = (int)below(FILES);
	for (int tries = 0; tries < FILES && !files[from]; tries++)
		from = (from + 1) % FILES;
	if (!files[from] || pml_inode_size(files[from]) > (4u << 20))
		return;
	struct stream s;
	uint64_t bytes = pml_inode_size(files[from]), done = 0;
	stream_begin(&s, 0);
	int err = 0;
	for (uint64_t n = 1; !err && done < bytes && n > 0; done += n)
		err = pml_file_clone(files[from], done, files[s.file], done, bytes - done, NULL,
				     &n);
	for (int i = 0; i < 16 && !err && done > 0; i++)
		err = pml_file_write(files[s.file], data, 4096 * (1 + below(8)),
				     below(done) / 4096 * 4096, false, NULL);
	CHECK_EQ(err, 0);
}

static void empty(void)
{
	while (percent_used() > EMPTY_PERCENT)
		for (int i = 0; i < 32; i++) {
			int file = (int)below(FILES);
			if (files[file])
				remove_file(file);
		}
}

static void remove_all(void)
{
	for (int i = 0; i < FILES; i++)
		if (files[i])
			remove_file(i);
}

/* ---- measuring ---------------------------------------------------------- */

/* Large files, @together growing side by side; they are removed again. */
static struct figures measure(const char *when, int together)
{
	struct figures f = {0};
	for (int i = 0; i < LARGE_FILES; i += together) {
		struct stream streams[STREAMS];
		for (int k = 0; k < together; k++)
			stream_begin(&streams[k], LARGE_BYTES);
		for (bool goes_on = true; goes_on;) {
			goes_on = false;
			for (int k = 0; k < together; k++)
				goes_on |= stream_go_on(&streams[k], REQUEST);
		}
		for (int k = 0; k < together; k++) {
			CHECK_EQ(pml_inode_size(files[streams[k].file]), LARGE_BYTES);
			count_file(files[streams[k].file], &f);
			remove_file(streams[k].file);
		}
	}
	printf("# %s, %d at a time: %.1f extents per file of %u MiB, %.0f %% in whole 2 MiB units\n",
	       when, together, (double)f.extents / LARGE_FILES, LARGE_BYTES >> 20,
	       100.0 * (double)f.unit_blocks / (double)f.blocks);
	return f;
}

static unsigned int cycles;

static void check_figures(const struct figures *f, unsigned int extents_max, unsigned int percent)
{
	CHECK(f->extents <= (uint64_t)extents_max * LARGE_FILES);
	CHECK(f->unit_blocks * 100 >= f->blocks * percent);
}

static void test_large_files_of_a_new_filesystem_are_in_one_piece(void)
{
	struct figures alone = measure("new", 1), together = measure("new", STREAMS);
	check_figures(&alone, 2, 90);
	check_figures(&together, 16, 90);
}

static void test_large_files_of_an_old_filesystem_are_in_few_pieces(void)
{
	for (unsigned int i = 0; i < cycles; i++) {
		fill();
		for (int k = 0; k < 64; k++)
			clone_and_overwrite();
		empty();
	}
	struct figures all = {0};
	uint64_t n = 0;
	for (int i = 0; i < FILES; i++) {
		if (!files[i])
			continue;
		n++;
		count_file(files[i], &all);
	}
	printf("# after %u cycles, %u %% in use: %" PRIu64 " files of %" PRIu64
	       " KiB have %.1f extents each\n",
	       cycles, percent_used(), n, all.blocks * 4 / (n ? n : 1),
	       (double)all.extents / (double)(n ? n : 1));
	struct figures alone = measure("old", 1), together = measure("old", STREAMS);
	check_figures(&alone, 32, 50);
	check_figures(&together, 32, 50);
}

static void test_an_emptied_filesystem_is_as_new(void)
{
	remove_all();
	struct figures alone = measure("emptied", 1), together = measure("emptied", STREAMS);
	check_figures(&alone, 2, 90);
	check_figures(&together, 16, 90);
	struct pml_fs_counts counts;
	pml_fs_counts(pool.fs, &counts);
	CHECK_EQ(counts.used_blocks, 0);
}

int main(int argc, char **argv)
{
	const char *seed = getenv("PML_SEED");
	cycles = argc > 1 ? (unsigned int)atoi(argv[1]) : 10;
	state = (seed ? strtoull(seed, NULL, 0) : 1) * 0x9e3779b97f4a7c15u | 1;
	fs_pool_make(&pool, DEVICE_BYTES);
	root = fs_pool_root(&pool);
	TAP_RUN(test_large_files_of_a_new_filesystem_are_in_one_piece);
	TAP_RUN(test_large_files_of_an_old_filesystem_are_in_few_pieces);
	TAP_RUN(test_an_emptied_filesystem_is_as_new);
	pml_inode_put(root, 1);
	fs_pool_remove(&pool);
	return tap_done();
}
