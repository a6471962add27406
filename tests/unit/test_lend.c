/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_lend.c -- writers side by side on one file, and readers whose blocks do not move
 *
 * The test plays the remote ends: it stores at the addresses that pins gave it.
 */
#include <fcntl.h>

#include "../../fs/inode.h"
#include "../../fs/pin.h"
#include "fs_pool.h"
#include "pml/fs.h"
#include "tap.h"

#define BLOCK	 4096u
#define SEGMENTS 64u

static struct fs_pool pool;
static struct pml_inode *root, *file;

/* One pin, as the lease manager holds it. */
struct loan {
	struct pml_segment seg[SEGMENTS];
	size_t n;
	uint64_t first, end;
	bool is_live;
};

/* Free space holds 'J' afterwards: a byte of that is a stale one. */
static void setup(void)
{
	fs_pool_make(&pool, FS_POOL_BYTES);
	root = fs_pool_root(&pool);
	struct pml_inode *junk = fs_pool_create(root, "junk", S_IFREG | 0644);
	pml_auto_free unsigned char *buf = malloc(1 << 20);
	memset(buf, 'J', 1 << 20);
	CHECK_EQ(pml_file_write(junk, buf, 1 << 20, 0, false, NULL), 0);
	CHECK_EQ(pml_file_truncate(junk, 0, NULL), 0);
	pml_inode_put(junk, 1);
	file = fs_pool_create(root, "f", S_IFREG | 0644);
}

static void teardown(void)
{
	char reason[PML_REASON_BYTES];
	CHECK_EQ(pml_fs_audit(pool.fs, NULL, NULL, reason), 0);
	pml_inode_put(file, 1);
	pml_inode_put(root, 1);
	fs_pool_remove(&pool);
}

static uint64_t mapped_blocks(void)
{
	struct stat st;
	pml_inode_stat(file, &st);
	return (uint64_t)st.st_blocks / 8;
}

static void lend(struct loan *loan, uint64_t first, uint64_t end, enum pml_pin_kind kind)
{
	loan->first = first;
	if (pml_file_pin(file, first, end - first, kind, loan->seg, SEGMENTS, &loan->n,
			 &loan->end) != 0)
		BAIL_OUT("pin");
	loan->is_live = true;
}

static void give_back(struct loan *loan, enum pml_pin_kind kind)
{
	for (size_t i = 0; i < loan->n; i++)
		pml_fs_unpin(pool.fs, &loan->seg[i]);
	if (kind == PML_PIN_WRITE)
		pml_file_trim(file, loan->first, loan->end);
	loan->is_live = false;
}

/* The remote side's address of byte @at, or NULL: a hole. */
static uint8_t *remote(const struct loan *loan, uint64_t at)
{
	for (size_t i = 0; i < loan->n; i++) {
		const struct pml_segment *seg = &loan->seg[i];
		if (at >= seg->first_byte && at < seg->first_byte + seg->len_bytes)
			return seg->addr + (at - seg->first_byte);
	}
	return NULL;
}

static void store(const struct loan *loan, uint64_t first, uint64_t end, uint8_t byte)
{
	for (uint64_t at = first; at < end; at++) {
		uint8_t *addr = remote(loan, at);
		if (!addr)
			BAIL_OUT("byte %llu is not lent", (unsigned long long)at);
		*addr = byte;
	}
}

static void check_no_junk(const struct loan *loan)
{
	for (size_t i = 0; i < loan->n; i++)
		if (memchr(loan->seg[i].addr, 'J', loan->seg[i].len_bytes))
			TAP_FAIL("I6: a stale byte in the segment at %llu",
				 (unsigned long long)loan->seg[i].first_byte);
}

/* I5: each block that @loan reaches is this file's alone. */
static void check_owned(const struct loan *loan)
{
	for (size_t i = 0; i < loan->n; i++)
		for (uint64_t b = 0; b < loan->seg[i].nblocks; b++)
			CHECK_EQ(pml_block_shares(pool.fs, loan->seg[i].block + b), 1);
}

/* I4: where @after reaches what @before does, it is the same blocks. */
static void check_unmoved(const struct loan *before, const struct loan *after)
{
	for (uint64_t at = before->first; at < before->end; at += BLOCK)
		if (remote(after, at) && remote(before, at) != remote(after, at))
			TAP_FAIL("I4: block %llu has moved", (unsigned long long)(at / BLOCK));
}

/* ---- writers side by side -------------------------------------------------- */

static void test_two_writers_reach_the_same_blocks_and_commit_in_either_order(void)
{
	for (int order = 0; order < 2; order++) {
		setup();
		struct loan w[2];
		lend(&w[0], 0, 8 * BLOCK, PML_PIN_WRITE);
		lend(&w[1], 4 * BLOCK, 12 * BLOCK, PML_PIN_WRITE);
		check_unmoved(&w[0], &w[1]);
		check_owned(&w[0]);
		check_owned(&w[1]);
		check_no_junk(&w[0]);
		check_no_junk(&w[1]);
		store(&w[0], 0, 6 * BLOCK, 'a');
		store(&w[1], 6 * BLOCK, 12 * BLOCK, 'b');
		CHECK_EQ(pml_inode_size(file), 0);
		for (int i = 0; i < 2; i++) {
			bool is_first = i == order;
			CHECK_EQ(is_first ? pml_file_commit(file, 0, 6 * BLOCK, 6 * BLOCK, false,
							    NULL)
					  : pml_file_commit(file, 6 * BLOCK, 6 * BLOCK, 12 * BLOCK,
							    false, NULL),
				 0);
			/* What the other has not committed reads as zeros, if there is a file. */
			if (i == 0 && !is_first)
				CHECK(fs_pool_holds(file, 0, 0, 6 * BLOCK));
		}
		CHECK(fs_pool_holds(file, 0, 'a', 6 * BLOCK));
		CHECK(fs_pool_holds(file, 6 * BLOCK, 'b', 6 * BLOCK));
		give_back(&w[order], PML_PIN_WRITE);
		give_back(&w[!order], PML_PIN_WRITE);
		CHECK(fs_pool_holds(file, 0, 'a', 6 * BLOCK));
		CHECK(fs_pool_holds(file, 6 * BLOCK, 'b', 6 * BLOCK));
		teardown();
	}
}

static void test_a_writer_that_comes_later_keeps_what_the_first_has_written(void)
{
	setup();
	struct loan w[2];
	lend(&w[0], 0, 4 * BLOCK, PML_PIN_WRITE);
	store(&w[0], 0, 4 * BLOCK, 'a');
	lend(&w[1], 0, 4 * BLOCK, PML_PIN_WRITE); /* zeroes nothing */
	CHECK_EQ(pml_file_commit(file, 0, 4 * BLOCK, 4 * BLOCK, false, NULL), 0);
	CHECK(fs_pool_holds(file, 0, 'a', 4 * BLOCK));
	give_back(&w[0], PML_PIN_WRITE);
	give_back(&w[1], PML_PIN_WRITE);
	CHECK(fs_pool_holds(file, 0, 'a', 4 * BLOCK));
	teardown();
}

/* The same inside the last block of the file, whose tail the first one's grant zeroed. */
static void test_a_writer_that_comes_later_keeps_the_tail_of_the_last_block(void)
{
	setup();
	struct loan w[2];
	static const char bytes[100] = {[0 ... 99] = 'x'};
	CHECK_EQ(pml_file_write(file, bytes, 100, 0, false, NULL), 0);
	lend(&w[0], 0, BLOCK, PML_PIN_WRITE);
	store(&w[0], 100, 200, 'a');
	lend(&w[1], 0, BLOCK, PML_PIN_WRITE);
	store(&w[1], 200, 300, 'b');
	CHECK_EQ(pml_file_commit(file, 200, 100, 300, false, NULL), 0);
	CHECK_EQ(pml_file_commit(file, 100, 100, 200, false, NULL), 0);
	CHECK_EQ(pml_inode_size(file), 300);
	CHECK(fs_pool_holds(file, 0, 'x', 100));
	CHECK(fs_pool_holds(file, 100, 'a', 100));
	CHECK(fs_pool_holds(file, 200, 'b', 100));
	give_back(&w[0], PML_PIN_WRITE);
	give_back(&w[1], PML_PIN_WRITE);
	CHECK_EQ(pml_file_truncate(file, BLOCK, NULL), 0);
	CHECK(fs_pool_holds(file, 300, 0, BLOCK - 300));
	teardown();
}

static void test_the_trim_of_one_writer_leaves_the_others_blocks(void)
{
	setup();
	struct loan w[3];
	lend(&w[0], 0, 12 * BLOCK, PML_PIN_WRITE);
	lend(&w[1], 4 * BLOCK, 6 * BLOCK, PML_PIN_WRITE);
	lend(&w[2], 8 * BLOCK, 9 * BLOCK, PML_PIN_WRITE);
	store(&w[1], 4 * BLOCK, 6 * BLOCK, 'b');
	store(&w[2], 8 * BLOCK, 9 * BLOCK, 'c');
	store(&w[0], 0, 4 * BLOCK, 'a');
	give_back(&w[0], PML_PIN_WRITE);
	CHECK_EQ(mapped_blocks(), 3);
	/* Somebody else gets the freed ones; the writers' are theirs still. */
	struct pml_inode *other = fs_pool_create(root, "g", S_IFREG | 0644);
	pml_auto_free unsigned char *buf = malloc(1 << 20);
	memset(buf, 'o', 1 << 20);
	CHECK_EQ(pml_file_write(other, buf, 1 << 20, 0, false, NULL), 0);
	CHECK_EQ(pml_file_commit(file, 4 * BLOCK, 2 * BLOCK, 6 * BLOCK, false, NULL), 0);
	give_back(&w[1], PML_PIN_WRITE);
	give_back(&w[2], PML_PIN_WRITE);
	CHECK_EQ(mapped_blocks(), 2);
	CHECK(fs_pool_holds(file, 0, 0, 4 * BLOCK));
	CHECK(fs_pool_holds(file, 4 * BLOCK, 'b', 2 * BLOCK));
	CHECK(fs_pool_holds(other, 0, 'o', 1 << 20));
	CHECK_EQ(pml_file_truncate(file, 12 * BLOCK, NULL), 0);
	CHECK(fs_pool_holds(file, 6 * BLOCK, 0, 6 * BLOCK));
	pml_inode_put(other, 1);
	teardown();
}

/* ---- readers whose blocks are the file's own -------------------------------- */

/* A file with data, a hole, preallocated blocks and shared ones; 8 blocks and 100 bytes. */
static struct pml_inode *make_patchwork(void)
{
	struct pml_inode *twin = fs_pool_create(root, "twin", S_IFREG | 0644);
	pml_auto_free unsigned char *buf = malloc(2 * BLOCK);
	memset(buf, 's', 2 * BLOCK);
	uint64_t done;
	CHECK_EQ(pml_file_write(twin, buf, 2 * BLOCK, 0, false, NULL), 0);
	CHECK_EQ(pml_file_clone(twin, 0, file, 2 * BLOCK, 2 * BLOCK, NULL, &done), 0);
	memset(buf, 'd', BLOCK);
	CHECK_EQ(pml_file_write(file, buf, BLOCK, 0, false, NULL), 0);
	CHECK_EQ(pml_file_allocate(file, FALLOC_FL_KEEP_SIZE, 5 * BLOCK, 2 * BLOCK, NULL), 0);
	CHECK_EQ(pml_file_write(file, buf, 100, 8 * BLOCK, false, NULL), 0);
	return twin;
}

static void check_patchwork(const struct pml_inode *twin)
{
	CHECK(fs_pool_holds(file, 0, 'd', BLOCK));
	CHECK(fs_pool_holds(file, BLOCK, 0, BLOCK));
	CHECK(fs_pool_holds(file, 2 * BLOCK, 's', 2 * BLOCK));
	CHECK(fs_pool_holds(file, 4 * BLOCK, 0, 4 * BLOCK));
	CHECK(fs_pool_holds(file, 8 * BLOCK, 'd', 100));
	CHECK(fs_pool_holds((struct pml_inode *)(uintptr_t)twin, 0, 's', 2 * BLOCK));
}

static void test_I4_no_block_moves_when_a_writer_joins_an_owned_reader(void)
{
	setup();
	struct pml_inode *twin = make_patchwork();
	struct loan reader, writer, second;
	lend(&reader, 0, 1 << 20, PML_PIN_OWNED_READ);
	CHECK_EQ(reader.end, 8 * BLOCK + 100);
	/* Without a hole: what a writer fills later, the reader sees. */
	for (uint64_t at = 0; at < reader.end; at += BLOCK)
		CHECK(remote(&reader, at));
	check_owned(&reader);
	check_no_junk(&reader);
	check_patchwork(twin);

	lend(&writer, 0, 12 * BLOCK, PML_PIN_WRITE);
	check_unmoved(&reader, &writer);
	lend(&second, 0, 1 << 20, PML_PIN_OWNED_READ);
	check_unmoved(&reader, &second);
	check_owned(&writer);
	check_no_junk(&writer);
	check_patchwork(twin);
	store(&writer, BLOCK, 3 * BLOCK, 'w');
	CHECK_EQ(*remote(&reader, BLOCK), 'w');
	CHECK_EQ(*remote(&second, 3 * BLOCK - 1), 'w');
	CHECK_EQ(pml_file_commit(file, BLOCK, 2 * BLOCK, 0, false, NULL), 0);
	CHECK(fs_pool_holds(file, BLOCK, 'w', 2 * BLOCK));
	CHECK(fs_pool_holds(twin, 0, 's', 2 * BLOCK));

	give_back(&writer, PML_PIN_WRITE);
	for (uint64_t at = 0; at < reader.end; at += BLOCK)
		CHECK(remote(&reader, at) == remote(&second, at));
	give_back(&reader, PML_PIN_OWNED_READ);
	give_back(&second, PML_PIN_OWNED_READ);
	/* The file keeps space that it was promised, so also what was lent behind its end. */
	CHECK_EQ(mapped_blocks(), 12);
	pml_inode_put(twin, 1);
	teardown();
}

/* The reader's key ends with the file; a writer may make it longer in the same block. */
static void test_I4_a_file_that_grows_does_not_move_the_readers_last_block(void)
{
	setup();
	struct pml_inode *twin = make_patchwork();
	struct loan reader, writer;
	lend(&reader, 8 * BLOCK, 9 * BLOCK, PML_PIN_OWNED_READ);
	CHECK_EQ(reader.seg[0].len_bytes, 100);
	lend(&writer, 8 * BLOCK, 10 * BLOCK, PML_PIN_WRITE);
	check_unmoved(&reader, &writer);
	check_no_junk(&writer);
	store(&writer, 8 * BLOCK + 100, 8 * BLOCK + 200, 'w');
	CHECK_EQ(pml_file_commit(file, 8 * BLOCK + 100, 100, 8 * BLOCK + 200, false, NULL), 0);
	CHECK(fs_pool_holds(file, 8 * BLOCK, 'd', 100));
	CHECK(fs_pool_holds(file, 8 * BLOCK + 100, 'w', 100));
	give_back(&reader, PML_PIN_OWNED_READ);
	give_back(&writer, PML_PIN_WRITE);
	pml_inode_put(twin, 1);
	teardown();
}

static void test_owned_reads_are_refused_as_others_are(void)
{
	setup();
	struct pml_inode *twin = make_patchwork();
	struct pml_segment seg[2];
	size_t n;
	uint64_t end, blocks = mapped_blocks();
	enum pml_pin_kind kind = PML_PIN_OWNED_READ;
	CHECK_EQ(pml_file_pin(file, 8 * BLOCK + 100, 1, kind, seg, 2, &n, &end), -ENODATA);
	CHECK_EQ(pml_file_pin(file, 0, 0, kind, seg, 2, &n, &end), -EINVAL);
	CHECK_EQ(pml_file_pin(file, 0, BLOCK, kind, seg, 0, &n, &end), -EINVAL);
	CHECK_EQ(pml_file_pin(root, 0, BLOCK, kind, seg, 2, &n, &end), -EINVAL);
	CHECK_EQ(pml_file_pin(file, UINT64_MAX - 5, 10, kind, seg, 2, &n, &end), -EFBIG);
	CHECK_EQ(mapped_blocks(), blocks);
	/* As many segments as fit: the rest is not lent. */
	CHECK_EQ(pml_file_pin(file, 0, 9 * BLOCK, kind, seg, 1, &n, &end), 0);
	CHECK_EQ(n, 1);
	CHECK_EQ(end, seg[0].first_byte + seg[0].len_bytes);
	pml_fs_unpin(pool.fs, &seg[0]);
	pml_inode_put(twin, 1);
	teardown();
}

/* ---- random --------------------------------------------------------------- */

#define WRITERS	   4
#define FILE_BYTES (16u * BLOCK)

static uint64_t seed;

static uint64_t random_below(uint64_t n)
{
	seed = seed * 6364136223846793005ull + 1442695040888963407ull;
	return (seed >> 33) % n;
}

static struct loan loans[WRITERS];
static uint8_t committed[FILE_BYTES]; /* 0: nothing for certain */

/* Writer i writes only its number, and commits at once what must be there from then on. */
static void random_writer_step(int i)
{
	struct loan *w = &loans[i];
	uint64_t first = random_below(FILE_BYTES - 1);
	uint64_t end = first + 1 + random_below(FILE_BYTES - first);
	if (!w->is_live) {
		lend(w, first, end, PML_PIN_WRITE);
		w->first = pml_round_down(first, BLOCK);
		check_owned(w);
		check_no_junk(w);
		return;
	}
	if (random_below(4) == 0) {
		give_back(w, PML_PIN_WRITE);
		return;
	}
	first = PML_MAX(first, w->first);
	end = PML_MIN(end, w->end);
	if (first >= end)
		return;
	store(w, first, end, (uint8_t)(i + 1));
	bool does_commit = random_below(2);
	memset(committed + first, does_commit ? i + 1 : 0, end - first);
	if (does_commit)
		CHECK_EQ(pml_file_commit(file, first, end - first, end, false, NULL), 0);
}

static void check_file(void)
{
	static uint8_t buf[FILE_BYTES];
	size_t size = fs_pool_read(file, 0, buf, FILE_BYTES);
	for (size_t at = 0; at < size; at++) {
		if (buf[at] <= WRITERS && (committed[at] == 0 || buf[at] == committed[at]))
			continue;
		TAP_FAIL("byte %zu is %d, want %d", at, buf[at], committed[at]);
		return;
	}
}

/* Blocks of live loans stay where they were: I4 among writers. */
static void check_loans(void)
{
	for (int i = 0; i < WRITERS; i++)
		for (int k = 0; k < i && loans[i].is_live; k++)
			if (loans[k].is_live)
				check_unmoved(&loans[i], &loans[k]);
}

static void test_random_writers_side_by_side_lose_and_expose_nothing(void)
{
	const char *env = getenv("PML_SEED");
	seed = env ? strtoull(env, NULL, 0) : 20240607u;
	printf("# PML_SEED=%llu\n", (unsigned long long)seed);
	for (int round = 0; round < 12 && !atomic_load(&tap_bad); round++) {
		setup();
		memset(committed, 0, sizeof(committed));
		for (int step = 0; step < 150; step++) {
			random_writer_step((int)random_below(WRITERS));
			check_loans();
			check_file();
		}
		for (int i = 0; i < WRITERS; i++)
			if (loans[i].is_live)
				give_back(&loans[i], PML_PIN_WRITE);
		check_file();
		uint64_t size = pml_inode_size(file);
		CHECK(mapped_blocks() <= (size + BLOCK - 1) / BLOCK);
		CHECK_EQ(pml_file_truncate(file, FILE_BYTES + 100, NULL), 0);
		CHECK(fs_pool_holds(file, size, 0, FILE_BYTES + 100 - size));
		teardown();
	}
}

int main(void)
{
	TAP_RUN(test_two_writers_reach_the_same_blocks_and_commit_in_either_order);
	TAP_RUN(test_a_writer_that_comes_later_keeps_what_the_first_has_written);
	TAP_RUN(test_a_writer_that_comes_later_keeps_the_tail_of_the_last_block);
	TAP_RUN(test_the_trim_of_one_writer_leaves_the_others_blocks);
	TAP_RUN(test_I4_no_block_moves_when_a_writer_joins_an_owned_reader);
	TAP_RUN(test_I4_a_file_that_grows_does_not_move_the_readers_last_block);
	TAP_RUN(test_owned_reads_are_refused_as_others_are);
	TAP_RUN(test_random_writers_side_by_side_lose_and_expose_nothing);
	return tap_done();
}
