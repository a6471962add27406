/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_ranges.c -- zero, collapse, insert, unshare, clone, dedupe: against arrays as the
 * model, with failing transactions and deaths at every place (I8), and with pins (I1, I4)
 *
 * The random run prints its seed; PML_SEED=N repeats it.
 */
#include <fcntl.h>
#include <inttypes.h>
#include <sys/wait.h>
#include <time.h>

#include "../../fs/counter.h"
#include "../../fs/inode.h"
#include "../../fs/pin.h"
#include "../support/fs_failing.h"
#include "../support/fs_letters.h"

#define BLOCK 4096u
#define ZERO  FALLOC_FL_ZERO_RANGE
#define KEEP  FALLOC_FL_KEEP_SIZE
#define PUNCH (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE)

/* ---- helpers ------------------------------------------------------------ */

static uint64_t used_blocks(void)
{
	struct pml_fs_counts counts;
	pml_fs_counts(pool.fs, &counts);
	return counts.used_blocks;
}

static uint64_t shared_blocks(void)
{
	struct pml_fs_counts counts;
	pml_fs_counts(pool.fs, &counts);
	return counts.shared_blocks;
}

static uint64_t blocks_of(struct pml_inode *inode)
{
	struct stat st;
	pml_inode_stat(inode, &st);
	return (uint64_t)st.st_blocks / 8;
}

static int clone_all(struct pml_inode *src, struct pml_inode *dst)
{
	uint64_t done = 0, at = 0;
	int err = 0;
	while (!err && at < pml_inode_size(src)) {
		err = pml_file_clone_blocks(src, at, dst, at, pml_inode_size(src) - at, NULL,
					    &done);
		at += done;
	}
	return err;
}

/* ---- zeroing ------------------------------------------------------------ */

static void test_zeroing_keeps_blocks_and_fills_holes(void)
{
	begin();
	struct pml_inode *f = lettered("f", "abc.ef");
	CHECK_EQ(blocks_of(f), 5);
	CHECK_EQ(pml_file_allocate(f, ZERO, BLOCK, 3 * BLOCK, NULL), 0);
	CHECK_STR(letters_of(f), "a...ef");
	CHECK_EQ(blocks_of(f), 6);
	uint64_t at;
	CHECK_EQ(pml_file_seek(f, BLOCK, SEEK_DATA, &at), 0);
	CHECK_EQ(at, 4 * BLOCK);
	/* Edges in place; the size stays with KEEP_SIZE and grows without. */
	CHECK_EQ(pml_file_allocate(f, ZERO | KEEP, 4 * BLOCK + 100, 3 * BLOCK, NULL), 0);
	CHECK_EQ(pml_inode_size(f), 6 * BLOCK);
	CHECK(fs_pool_holds(f, 4 * BLOCK, 'e', 100));
	CHECK(fs_pool_holds(f, 4 * BLOCK + 100, 0, 2 * BLOCK - 100));
	CHECK_EQ(blocks_of(f), 8);
	CHECK_EQ(pml_file_allocate(f, ZERO, 100, 50, NULL), 0);
	CHECK(fs_pool_holds(f, 0, 'a', 100) && fs_pool_holds(f, 100, 0, 50) &&
	      fs_pool_holds(f, 150, 'a', BLOCK - 150));
	CHECK_EQ(pml_file_allocate(f, ZERO, 9 * BLOCK, BLOCK + 7, NULL), 0);
	CHECK_EQ(pml_inode_size(f), 10 * BLOCK + 7);
	CHECK(fs_pool_holds(f, 5 * BLOCK, 0, 5 * BLOCK + 7));
	CHECK_EQ(pml_file_allocate(f, ZERO, 0, 0, NULL), -EINVAL);
	CHECK_EQ(pml_file_allocate(f, ZERO, INT64_MAX, 1, NULL), -EFBIG);
	CHECK_EQ(pml_file_allocate(f, ZERO | FALLOC_FL_PUNCH_HOLE, 0, 1, NULL), -EOPNOTSUPP);
	/* Prepared blocks take data without more space. */
	uint64_t used = used_blocks();
	CHECK_EQ(fill(f, BLOCK, 'z', 3 * BLOCK), 0);
	CHECK_EQ(used_blocks(), used);
	pml_inode_put(f, 1);
	end();
}

static void test_zeroing_never_writes_a_shared_block(void)
{
	begin();
	struct pml_inode *f = lettered("f", "abcdef"), *g = new_file("g");
	CHECK_EQ(clone_all(f, g), 0);
	CHECK_EQ(used_blocks(), 6);
	CHECK_EQ(pml_file_allocate(g, ZERO, 10, 3 * BLOCK, NULL), 0);
	CHECK_STR(letters_of(f), "abcdef");
	for (unsigned int i = 0; i < 6; i++)
		CHECK(fs_pool_holds(f, i * BLOCK, 'a' + (int)i, BLOCK));
	CHECK(fs_pool_holds(g, 0, 'a', 10) && fs_pool_holds(g, 10, 0, 3 * BLOCK) &&
	      fs_pool_holds(g, 3 * BLOCK + 10, 'd', BLOCK - 10));
	CHECK_EQ(used_blocks(), 10);
	CHECK_EQ(shared_blocks(), 2);
	pml_inode_put(f, 1);
	pml_inode_put(g, 1);
	end();
}

/* More extents than one transaction takes: the marker. */
static void test_zeroing_thousands_of_extents(void)
{
	enum { EXTENTS = 1500 };
	begin();
	struct pml_inode *f = new_file("f");
	for (unsigned int i = 0; i < EXTENTS; i++)
		CHECK_EQ(fill(f, 2ull * i * BLOCK, 'x', 1), 0);
	uint64_t size = pml_inode_size(f);
	CHECK_EQ(pml_file_allocate(f, ZERO, BLOCK, size - BLOCK, NULL), 0);
	CHECK_EQ(blocks_of(f), 2 * EXTENTS - 1);
	CHECK(fs_pool_holds(f, BLOCK, 0, size - BLOCK));
	CHECK(fs_pool_holds(f, 0, 'x', 1));
	uint64_t at;
	/* Of the last block a part was zeroed in place. */
	CHECK_EQ(pml_file_seek(f, BLOCK, SEEK_DATA, &at), 0);
	CHECK_EQ(at, 2 * (EXTENTS - 1) * BLOCK);
	CHECK_STR(fs_check(pool.fs), "");
	pml_inode_put(f, 1);
	end();
}

/* ---- collapse and insert ------------------------------------------------ */

static void test_collapse_takes_a_range_out(void)
{
	begin();
	struct pml_inode *f = lettered("f", "ab.cdefg"), *g = new_file("g");
	CHECK_EQ(fill(f, 8 * BLOCK, 'h', 100), 0);
	CHECK_EQ(clone_all(f, g), 0);
	CHECK_EQ(pml_file_collapse(f, BLOCK, 3 * BLOCK, NULL), 0);
	CHECK_STR(letters_of(f), "adefgh");
	CHECK_EQ(pml_inode_size(f), 5 * BLOCK + 100);
	CHECK_EQ(blocks_of(f), 6);
	CHECK_STR(letters_of(g), "ab.cdefgh");
	CHECK_EQ(used_blocks(), 8);
	CHECK_EQ(shared_blocks(), 6);
	CHECK_EQ(pml_file_collapse(f, 0, 5 * BLOCK, NULL), 0);
	CHECK_STR(letters_of(f), "h");
	CHECK(fs_pool_holds(f, 0, 'h', 100));
	CHECK_EQ(pml_inode_size(f), 100);
	/* Growing shows no byte that was behind the end. */
	CHECK_EQ(pml_file_truncate(f, BLOCK, NULL), 0);
	CHECK(fs_pool_holds(f, 100, 0, BLOCK - 100));
	CHECK_EQ(pml_file_collapse(f, 0, BLOCK, NULL), -EINVAL); /* reaches the end */
	CHECK_EQ(pml_file_collapse(g, 8 * BLOCK, BLOCK, NULL), -EINVAL);
	CHECK_EQ(pml_file_collapse(g, 1, BLOCK, NULL), -EINVAL);
	CHECK_EQ(pml_file_collapse(g, 0, BLOCK + 1, NULL), -EINVAL);
	CHECK_EQ(pml_file_collapse(g, 0, 0, NULL), -EINVAL);
	CHECK_EQ(pml_file_collapse(g, UINT64_MAX - BLOCK + 1, BLOCK, NULL), -EINVAL);
	CHECK_EQ(pml_file_collapse(root, 0, BLOCK, NULL), -EISDIR);
	CHECK_STR(letters_of(g), "ab.cdefgh");
	pml_inode_put(f, 1);
	pml_inode_put(g, 1);
	end();
}

static void test_insert_puts_a_hole_in(void)
{
	begin();
	struct pml_inode *f = new_file("f");
	/* One extent, which is cut in the middle. */
	CHECK_EQ(fill(f, 0, 'a', 4 * BLOCK + 10), 0);
	CHECK_EQ(pml_file_allocate(f, KEEP, 0, 8 * BLOCK, NULL), 0);
	CHECK_EQ(pml_file_insert(f, 2 * BLOCK, 3 * BLOCK, NULL), 0);
	CHECK_STR(letters_of(f), "aa...aaa");
	CHECK_EQ(pml_inode_size(f), 7 * BLOCK + 10);
	CHECK_EQ(blocks_of(f), 8);
	CHECK(fs_pool_holds(f, 2 * BLOCK, 0, 3 * BLOCK) &&
	      fs_pool_holds(f, 5 * BLOCK, 'a', 2 * BLOCK + 10));
	/* The inverse restores the one extent. */
	CHECK_EQ(pml_file_collapse(f, 2 * BLOCK, 3 * BLOCK, NULL), 0);
	struct pml_extent_info info[4];
	size_t n;
	uint64_t next;
	CHECK_EQ(pml_file_extents(f, 0, info, 4, &n, &next), 0);
	CHECK_EQ(n, 2);
	CHECK(info[0].nblocks == 5 && !info[0].is_unwritten && info[1].is_unwritten);
	CHECK_EQ(pml_file_insert(f, 5 * BLOCK, BLOCK, NULL), -EINVAL); /* behind the end */
	CHECK_EQ(pml_file_insert(f, 8, BLOCK, NULL), -EINVAL);
	CHECK_EQ(pml_file_insert(f, 0, 1, NULL), -EINVAL);
	CHECK_EQ(pml_file_insert(f, 0, 0, NULL), -EINVAL);
	CHECK_EQ(pml_file_insert(f, 0, (uint64_t)INT64_MAX - BLOCK + 1, NULL), -EFBIG);
	CHECK_EQ(pml_file_insert(f, 0, pml_round_down(INT64_MAX, BLOCK) - 4 * BLOCK, NULL), -EFBIG);
	CHECK(fs_pool_holds(f, 0, 'a', 4 * BLOCK + 10));
	pml_inode_put(f, 1);
	/* Blocks that would be moved behind the largest file. */
	f = new_file("large");
	CHECK_EQ(fill(f, 0, 'a', 1), 0);
	CHECK_EQ(pml_file_allocate(f, KEEP, 10 * BLOCK, BLOCK, NULL), 0);
	CHECK_EQ(pml_file_insert(f, 0, pml_round_down(INT64_MAX, BLOCK) - 4 * BLOCK, NULL), -EFBIG);
	CHECK_EQ(pml_file_insert(f, 0, 1ull << 60, NULL), 0);
	CHECK(fs_pool_holds(f, 1ull << 60, 'a', 1));
	CHECK_EQ(pml_file_collapse(f, 0, 1ull << 60, NULL), 0);
	CHECK(fs_pool_holds(f, 0, 'a', 1));
	pml_inode_put(f, 1);
	end();
}

static void test_thousands_of_extents_move(void)
{
	enum { EXTENTS = 3000 };
	begin();
	struct pml_inode *f = new_file("f");
	for (unsigned int i = 0; i < EXTENTS; i++)
		CHECK_EQ(pml_file_write(f, &i, sizeof(i), 2ull * i * BLOCK, false, NULL), 0);
	CHECK_EQ(pml_file_insert(f, 2 * BLOCK, 10 * BLOCK, NULL), 0);
	CHECK_EQ(pml_file_collapse(f, 0, 2 * BLOCK, NULL), 0);
	CHECK_STR(fs_check(pool.fs), "");
	uint64_t ino = pml_inode_ino(f);
	pml_inode_put(f, 1);
	reopen();
	REQUIRE(pml_inode_get(pool.fs, ino, &f) == 0);
	unsigned int wrong = 0;
	for (unsigned int i = 1; i < EXTENTS; i++) {
		unsigned int got = 0;
		wrong +=
			fs_pool_read(f, (2ull * i + 8) * BLOCK, &got, sizeof(got)) != sizeof(got) ||
			got != i;
	}
	CHECK_EQ(wrong, 0);
	CHECK_EQ(blocks_of(f), EXTENTS - 1);
	CHECK_EQ(used_blocks(), EXTENTS - 1);
	/* Half of them go in one collapse. */
	CHECK_EQ(pml_file_collapse(f, 0, EXTENTS * (uint64_t)BLOCK, NULL), 0);
	CHECK_EQ(used_blocks(), blocks_of(f));
	pml_inode_put(f, 1);
	end();
}

/* ---- unshare ------------------------------------------------------------ */

static void test_unshare_gives_blocks_of_its_own(void)
{
	begin();
	struct pml_inode *f = lettered("f", "abc.ef"), *g = new_file("g");
	CHECK_EQ(clone_all(f, g), 0);
	CHECK_EQ(pml_file_unshare(g, BLOCK + 5, BLOCK, NULL), 0);
	CHECK_EQ(used_blocks(), 7);
	CHECK_EQ(shared_blocks(), 3);
	CHECK_EQ(blocks_of(g), 5);
	CHECK_EQ(pml_file_unshare(g, 0, 1ull << 40, NULL), 0);
	CHECK_EQ(shared_blocks(), 0);
	CHECK_EQ(used_blocks(), 10);
	CHECK_STR(letters_of(g), "abc.ef");
	CHECK_EQ(pml_file_unshare(g, 0, 0, NULL), -EINVAL);
	CHECK_EQ(pml_file_unshare(g, INT64_MAX, 1, NULL), -EFBIG);
	CHECK_EQ(pml_file_unshare(root, 0, 1, NULL), -EISDIR);
	pml_inode_put(f, 1);
	pml_inode_put(g, 1);
	end();
}

static void test_no_space_changes_nothing(void)
{
	begin();
	struct pml_inode *f = lettered("f", "abcdef"), *g = new_file("g"), *full = new_file("full");
	CHECK_EQ(clone_all(f, g), 0);
	struct statvfs st;
	for (pml_fs_statvfs(pool.fs, &st); st.f_bfree > 3; pml_fs_statvfs(pool.fs, &st)) {
		uint64_t bytes = (st.f_bfree > 64 ? st.f_bfree - 64 : st.f_bfree - 3) * BLOCK;
		if (pml_file_allocate(full, 0, pml_inode_size(full), bytes, NULL))
			break;
	}
	pml_fs_statvfs(pool.fs, &st);
	CHECK(st.f_bfree < 6);
	uint64_t used = used_blocks();
	CHECK_EQ(pml_file_unshare(g, 0, 6 * BLOCK, NULL), -ENOSPC);
	CHECK_EQ(pml_file_allocate(g, ZERO, 0, 6 * BLOCK, NULL), -ENOSPC);
	CHECK_EQ(pml_file_allocate(f, ZERO, 6 * BLOCK, 100 * BLOCK, NULL), -ENOSPC);
	CHECK_EQ(used_blocks(), used);
	CHECK_STR(letters_of(f), "abcdef");
	CHECK_STR(letters_of(g), "abcdef");
	CHECK_EQ(pml_inode_size(f), 6 * BLOCK);
	/* What needs no block works. */
	uint64_t done;
	bool is_same;
	CHECK_EQ(pml_file_collapse(g, BLOCK, BLOCK, NULL), 0);
	CHECK_EQ(pml_file_insert(g, BLOCK, BLOCK, NULL), 0);
	CHECK_STR(letters_of(g), "a.cdef");
	CHECK_EQ(pml_file_dedupe(f, 2 * BLOCK, g, 2 * BLOCK, 4 * BLOCK, NULL, &done, &is_same), 0);
	CHECK(is_same && done == 4 * BLOCK);
	CHECK_EQ(pml_file_truncate(full, 0, NULL), 0);
	CHECK_EQ(pml_file_unshare(g, 0, 6 * BLOCK, NULL), 0);
	pml_inode_put(f, 1);
	pml_inode_put(g, 1);
	pml_inode_put(full, 1);
	end();
}

/* ---- clone by blocks ---------------------------------------------------- */

static void test_clone_by_blocks_shares_or_fails(void)
{
	begin();
	struct pml_inode *f = lettered("f", "abcd"), *g = lettered("g", "wxyz");
	CHECK_EQ(fill(f, 4 * BLOCK, 'e', 10), 0);
	uint64_t done = 0;
	CHECK_EQ(pml_file_clone_blocks(f, BLOCK, g, 0, 2 * BLOCK, NULL, &done), 0);
	CHECK_EQ(done, 2 * BLOCK);
	CHECK_STR(letters_of(g), "bcyz");
	CHECK_EQ(pml_file_clone_blocks(f, 1, g, 0, BLOCK, NULL, &done), -EINVAL);
	CHECK_EQ(pml_file_clone_blocks(f, 0, g, 1, BLOCK, NULL, &done), -EINVAL);
	CHECK_EQ(pml_file_clone_blocks(f, 0, g, 0, BLOCK + 1, NULL, &done), -EINVAL);
	CHECK_EQ(pml_file_clone_blocks(f, 4 * BLOCK, g, 0, BLOCK, NULL, &done), -EINVAL);
	CHECK_EQ(pml_file_clone_blocks(f, 8 * BLOCK, g, 0, 0, NULL, &done), -EINVAL);
	/* The last block, over the middle of a file. */
	CHECK_EQ(pml_file_clone_blocks(f, 4 * BLOCK, g, 0, 0, NULL, &done), -EINVAL);
	CHECK_EQ(pml_file_clone_blocks(f, 0, f, BLOCK, 2 * BLOCK, NULL, &done), -EINVAL);
	CHECK_EQ(pml_file_clone_blocks(root, 0, g, 0, BLOCK, NULL, &done), -EISDIR);
	CHECK_STR(letters_of(g), "bcyz");
	/* To the end of the source, at the end of the destination. */
	CHECK_EQ(pml_file_clone_blocks(f, 3 * BLOCK, g, 4 * BLOCK, 0, NULL, &done), 0);
	CHECK_EQ(done, BLOCK + 10);
	CHECK_STR(letters_of(g), "bcyzde");
	CHECK_EQ(pml_inode_size(g), 5 * BLOCK + 10);
	CHECK_EQ(pml_file_clone_blocks(f, 4 * BLOCK + 10, g, 0, 0, NULL, &done), -EINVAL);
	pml_inode_put(f, 1);
	pml_inode_put(g, 1);
	end();
}

static uint64_t block_behind(struct pml_inode *inode, uint64_t byte)
{
	struct pml_extent_info info;
	size_t n = 0;
	uint64_t next;
	CHECK_EQ(pml_file_extents(inode, byte, &info, 1, &n, &next), 0);
	CHECK_EQ(n, 1);
	return info.block;
}

static void test_the_share_limit_is_an_error_or_a_copy(void)
{
	begin();
	struct pml_inode *f = lettered("f", "abc"), *g = new_file("g");
	/* As if so many extents mapped the second block. */
	_Atomic uint32_t *counter = &pool.fs->counters[block_behind(f, BLOCK)];
	atomic_store(counter, PML_SHARES_MAX);
	uint64_t done = 0, at = 0;
	CHECK_EQ(pml_file_clone_blocks(f, 0, g, 0, 3 * BLOCK, NULL, &done), -EMLINK);
	CHECK_EQ(pml_inode_size(g), 0);
	CHECK_EQ(blocks_of(g), 0);
	while (at < 3 * BLOCK) {
		REQUIRE(pml_file_clone(f, at, g, at, 3 * BLOCK - at, NULL, &done) == 0);
		REQUIRE(done > 0);
		at += done;
	}
	CHECK_STR(letters_of(g), "abc");
	CHECK(block_behind(g, BLOCK) != block_behind(f, BLOCK));
	CHECK_EQ(atomic_load(counter), PML_SHARES_MAX);
	atomic_store(counter, 1);
	pml_inode_put(f, 1);
	pml_inode_put(g, 1);
	end();
}

/* From 1024 shares on a counter looks pinned: never a wrong answer, with and without pins. */
static void test_ten_thousand_clones_and_a_pin(void)
{
	enum { CLONES = 10000 };
	fs_pool_make(&pool, 192u << 20);
	root = fs_pool_root(&pool);
	struct pml_inode *f = lettered("base", "ab"), *g = NULL;
	char name[32];
	for (unsigned int i = 0; i < CLONES; i++) {
		(void)snprintf(name, sizeof(name), "clone%u", i);
		struct pml_inode *clone = new_file(name);
		if (clone_all(f, clone))
			BAIL_OUT("clone %u", i);
		if (g)
			pml_inode_put(g, 1);
		g = clone;
	}
	CHECK_EQ(used_blocks(), 2);
	uint64_t block = block_behind(f, 0);
	CHECK_EQ(pml_block_shares(pool.fs, block), CLONES + 1);
	struct pml_segment seg[2];
	size_t n = 0;
	uint64_t to;
	CHECK_EQ(pml_file_pin(f, 0, BLOCK, PML_PIN_READ, seg, 2, &n, &to), 0);
	CHECK_EQ(n, 1);
	CHECK_EQ(pml_block_shares(pool.fs, block), CLONES + 1);
	struct pml_extent_info info[4];
	CHECK_EQ(pml_file_extents(g, 0, info, 4, &n, &to), 0);
	CHECK_EQ(n, 2);
	CHECK(info[0].is_pinned && !info[1].is_pinned && info[1].is_last && !info[0].is_last);
	CHECK(info[0].shares == CLONES + 1 && info[1].shares == CLONES + 1);
	/* A write to a clone copies, beside the pin as without. */
	CHECK_EQ(fill(g, 0, 'x', 2 * BLOCK), 0);
	CHECK_STR(letters_of(f), "ab");
	CHECK_EQ(used_blocks(), 4);
	CHECK_EQ(pml_block_shares(pool.fs, block), CLONES);
	bool is_same;
	CHECK_EQ(pml_file_dedupe(f, 0, g, 0, 2 * BLOCK, NULL, &to, &is_same), 0);
	CHECK(!is_same);
	CHECK_STR(fs_check(pool.fs)[0] == 'a' ? "audit" : fs_check(pool.fs), "audit");
	pml_fs_unpin(pool.fs, &seg[0]);
	CHECK_EQ(pml_block_shares(pool.fs, block), CLONES);
	CHECK_STR(fs_check(pool.fs), "");
	pml_inode_put(f, 1);
	pml_inode_put(g, 1);
	reopen();
	CHECK_EQ(pml_block_shares(pool.fs, block), CLONES);
	end();
}

/* ---- dedupe ------------------------------------------------------------- */

static void test_dedupe_shares_equal_bytes(void)
{
	begin();
	struct pml_inode *f = lettered("f", "abcd.f"), *g = lettered("g", "abcd..");
	CHECK_EQ(fill(g, 4 * BLOCK, 0, BLOCK), 0);
	CHECK_EQ(fill(g, 5 * BLOCK, 'f', BLOCK), 0);
	struct stat before, after;
	pml_inode_stat(g, &before);
	uint64_t done = 0;
	bool is_same = false;
	CHECK_EQ(pml_file_dedupe(f, 0, g, 0, 6 * BLOCK, NULL, &done, &is_same), 0);
	CHECK(is_same);
	CHECK_EQ(done, 6 * BLOCK);
	CHECK_EQ(used_blocks(), 5); /* zeros became a hole */
	CHECK_EQ(shared_blocks(), 5);
	CHECK_STR(letters_of(g), "abcd.f");
	pml_inode_stat(g, &after);
	CHECK(memcmp(&before.st_mtim, &after.st_mtim, sizeof(after.st_mtim)) == 0 &&
	      memcmp(&before.st_ctim, &after.st_ctim, sizeof(after.st_ctim)) == 0);
	/* Once more is harmless. */
	CHECK_EQ(pml_file_dedupe(f, 0, g, 0, 6 * BLOCK, NULL, &done, &is_same), 0);
	CHECK(is_same);
	/* The last byte differs. */
	CHECK_EQ(fill(g, 6 * BLOCK - 1, 'x', 1), 0);
	CHECK_EQ(pml_file_dedupe(f, 0, g, 0, 6 * BLOCK, NULL, &done, &is_same), 0);
	CHECK(!is_same);
	CHECK_EQ(done, 0);
	/* In one file. */
	CHECK_EQ(fill(f, 6 * BLOCK, 'a', BLOCK), 0);
	CHECK_EQ(pml_file_dedupe(f, 0, f, 6 * BLOCK, BLOCK, NULL, &done, &is_same), 0);
	CHECK(is_same && block_behind(f, 0) == block_behind(f, 6 * BLOCK));
	CHECK_EQ(pml_file_dedupe(f, 0, f, BLOCK, 2 * BLOCK, NULL, &done, &is_same), -EINVAL);
	CHECK_EQ(pml_file_dedupe(f, 1, g, 0, BLOCK, NULL, &done, &is_same), -EINVAL);
	CHECK_EQ(pml_file_dedupe(f, 0, g, 1, BLOCK, NULL, &done, &is_same), -EINVAL);
	CHECK_EQ(pml_file_dedupe(f, 0, g, 6 * BLOCK, BLOCK, NULL, &done, &is_same), -EINVAL);
	CHECK_EQ(pml_file_dedupe(f, 7 * BLOCK, g, 0, BLOCK, NULL, &done, &is_same), -EINVAL);
	CHECK_EQ(pml_file_dedupe(f, 0, g, 0, UINT64_MAX, NULL, &done, &is_same), -EINVAL);
	pml_inode_put(f, 1);
	pml_inode_put(g, 1);
	end();
}

static void test_dedupe_of_last_blocks(void)
{
	begin();
	struct pml_inode *f = lettered("f", "ab"), *g = lettered("g", "ab");
	CHECK_EQ(fill(f, 2 * BLOCK, 't', 100), 0);
	CHECK_EQ(fill(g, 2 * BLOCK, 't', 100), 0);
	uint64_t done = 0;
	bool is_same = false;
	/* Equal up to both ends: the last block too. */
	CHECK_EQ(pml_file_dedupe(f, 0, g, 0, 2 * BLOCK + 100, NULL, &done, &is_same), 0);
	CHECK(is_same);
	CHECK_EQ(done, 2 * BLOCK + 100);
	CHECK_EQ(used_blocks(), 3);
	/* Where it is not the end of both, cut to whole blocks. */
	CHECK_EQ(fill(g, 2 * BLOCK + 100, 'u', 1), 0);
	CHECK_EQ(pml_file_dedupe(f, 0, g, 0, 2 * BLOCK + 100, NULL, &done, &is_same), 0);
	CHECK(is_same);
	CHECK_EQ(done, 2 * BLOCK);
	CHECK_EQ(pml_file_dedupe(f, 0, g, 0, 100, NULL, &done, &is_same), 0);
	CHECK(is_same);
	CHECK_EQ(done, 0);
	pml_inode_put(f, 1);
	pml_inode_put(g, 1);
	end();
}

/* ---- extents ------------------------------------------------------------ */

static void test_extents_tell_shares_and_flags(void)
{
	begin();
	struct pml_inode *f = new_file("f"), *g = new_file("g");
	CHECK_EQ(fill(f, 0, 'a', 4 * BLOCK), 0);
	uint64_t done, next = 0;
	CHECK_EQ(pml_file_clone_blocks(f, BLOCK, g, 0, 2 * BLOCK, NULL, &done), 0);
	CHECK_EQ(pml_file_allocate(f, 0, 6 * BLOCK, 2 * BLOCK, NULL), 0);
	struct pml_extent_info info[8];
	size_t n = 0;
	CHECK_EQ(pml_file_extents(f, 0, info, 8, &n, &next), 0);
	REQUIRE(n == 4);
	CHECK_EQ(next, 8 * BLOCK);
	CHECK(info[0].nblocks == 1 && info[0].shares == 1 && info[0].first_byte == 0);
	CHECK(info[1].nblocks == 2 && info[1].shares == 2 && info[1].first_byte == BLOCK);
	CHECK(info[1].block == info[0].block + 1);
	CHECK(info[2].nblocks == 1 && info[2].shares == 1 && !info[2].is_last);
	CHECK(info[3].nblocks == 2 && info[3].is_unwritten && info[3].is_last);
	/* With a cursor, one by one, from the middle of a block on. */
	uint64_t at = BLOCK + 5;
	unsigned int seen = 0;
	for (;;) {
		CHECK_EQ(pml_file_extents(f, at, info, 1, &n, &next), 0);
		if (n == 0)
			break;
		CHECK_EQ(info[0].first_byte, seen == 0 ? BLOCK : seen == 1 ? 3 * BLOCK : 6 * BLOCK);
		CHECK_EQ(info[0].is_last, seen == 2);
		seen++;
		at = next;
		REQUIRE(seen < 5);
	}
	CHECK_EQ(seen, 3);
	CHECK_EQ(pml_file_extents(root, 0, info, 1, &n, &next), -EISDIR);
	pml_inode_put(f, 1);
	pml_inode_put(g, 1);
	end();
}

/* ---- the guard ---------------------------------------------------------- */

static struct {
	int answer;
	struct pml_layout_change last;
	unsigned int asked[PML_OP_COUNT];
} fake;

static int fake_admit(void *guard, const struct pml_layout_change *change, struct pml_waiter *w)
{
	fake.asked[change->op]++;
	fake.last = *change;
	return fake.answer;
}

static bool fake_may_be_leased(void *guard, uint64_t ino)
{
	return true;
}

static const struct pml_guard_ops fake_ops = {
	.admit = fake_admit,
	.may_be_leased = fake_may_be_leased,
};

static void check_asked(enum pml_layout_op op, uint64_t first, uint64_t end)
{
	CHECK_EQ(fake.last.op, op);
	CHECK_EQ(fake.last.first_byte, first);
	CHECK_EQ(fake.last.end_byte, end);
}

/* I4, I8: each operation asks for what it moves, and what is refused has changed nothing. */
static void test_refused_operations_change_nothing(void)
{
	begin();
	struct pml_inode *f = lettered("f", "ab.de"), *g = new_file("g"),
			 *h = lettered("h", "ab.de");
	CHECK_EQ(clone_all(f, g), 0);
	pml_fs_set_guard(pool.fs, &fake_ops, NULL);
	uint64_t before = fs_digest(pool.fs), done;
	bool is_same;
	const int answers[] = {-EBUSY, -EINPROGRESS, -EINTR};
	for (size_t i = 0; i < PML_ARRAY_LEN(answers); i++) {
		fake.answer = answers[i];
		CHECK_EQ(pml_file_collapse(f, BLOCK, BLOCK, NULL), answers[i]);
		check_asked(PML_OP_COLLAPSE, BLOCK, UINT64_MAX);
		CHECK_EQ(pml_file_insert(f, 2 * BLOCK, BLOCK, NULL), answers[i]);
		check_asked(PML_OP_INSERT, 2 * BLOCK, UINT64_MAX);
		CHECK_EQ(pml_file_allocate(h, ZERO, 5, 2 * BLOCK, NULL), answers[i]);
		check_asked(PML_OP_ZERO, BLOCK, 3 * BLOCK); /* the last edge is a hole */
		CHECK_EQ(pml_file_allocate(g, ZERO, 5, 2 * BLOCK, NULL), answers[i]);
		check_asked(PML_OP_ZERO, 0, 3 * BLOCK); /* the first one is shared */
		CHECK_EQ(pml_file_unshare(g, 0, 5 * BLOCK, NULL), answers[i]);
		check_asked(PML_OP_UNSHARE, 0, 5 * BLOCK);
		CHECK_EQ(pml_file_dedupe(f, 0, h, 0, 5 * BLOCK, NULL, &done, &is_same), answers[i]);
		/* The source's leases are left alone when the destination's refuse. */
		check_asked(PML_OP_DEDUPE, 0, 5 * BLOCK);
		CHECK_EQ(pml_file_clone_blocks(f, 0, h, 0, BLOCK, NULL, &done), answers[i]);
		check_asked(PML_OP_CLONE_SRC, 0, BLOCK);
	}
	CHECK(fs_digest(pool.fs) == before);
	fake.answer = 0;
	/* Bytes that differ need nobody's leave. */
	CHECK_EQ(fill(h, 0, 'x', 1), 0);
	memset(&fake, 0, sizeof(fake));
	CHECK_EQ(pml_file_dedupe(f, 0, h, 0, 5 * BLOCK, NULL, &done, &is_same), 0);
	CHECK_EQ(fake.asked[PML_OP_DEDUPE] + fake.asked[PML_OP_CLONE_SRC], 0);
	CHECK_EQ(pml_file_dedupe(f, BLOCK, h, BLOCK, BLOCK, NULL, &done, &is_same), 0);
	check_asked(PML_OP_CLONE_SRC, BLOCK, 2 * BLOCK);
	CHECK_EQ(fake.asked[PML_OP_DEDUPE], 1);
	/* An overwrite of a written, unshared block is none of its business. */
	memset(&fake, 0, sizeof(fake));
	CHECK_EQ(pml_file_allocate(h, ZERO, 3 * BLOCK + 5, 100, NULL), 0);
	for (int op = 0; op < PML_OP_COUNT; op++)
		CHECK_EQ(fake.asked[op], 0);
	pml_fs_set_guard(pool.fs, NULL, NULL);
	pml_inode_put(f, 1);
	pml_inode_put(g, 1);
	pml_inode_put(h, 1);
	end();
}

static void test_read_only(void)
{
	begin();
	struct pml_inode *f = lettered("f", "abc");
	uint64_t ino = pml_inode_ino(f), done;
	bool is_same;
	pml_inode_put(f, 1);
	pml_inode_put(root, 1);
	fs_pool_reopen_read_only(&pool);
	REQUIRE(pml_inode_get(pool.fs, ino, &f) == 0);
	CHECK_EQ(pml_file_collapse(f, 0, BLOCK, NULL), -EROFS);
	CHECK_EQ(pml_file_insert(f, 0, BLOCK, NULL), -EROFS);
	CHECK_EQ(pml_file_unshare(f, 0, BLOCK, NULL), -EROFS);
	CHECK_EQ(pml_file_allocate(f, ZERO, 0, BLOCK, NULL), -EROFS);
	CHECK_EQ(pml_file_clone_blocks(f, 0, f, BLOCK, BLOCK, NULL, &done), -EROFS);
	CHECK_EQ(pml_file_dedupe(f, 0, f, BLOCK, BLOCK, NULL, &done, &is_same), -EROFS);
	pml_inode_put(f, 1);
	fs_pool_reopen(&pool);
	root = fs_pool_root(&pool);
	end();
}

/* ---- every transaction fails at every place ------------------------------ */

static struct pml_inode *f0, *g0;

static int op_zero(void)
{
	return pml_file_allocate(f0, ZERO, 100, 6 * BLOCK, NULL);
}

static int op_zero_behind(void)
{
	return pml_file_allocate(g0, ZERO, 10 * BLOCK, 6 * BLOCK, NULL);
}

static int op_collapse(void)
{
	return pml_file_collapse(f0, BLOCK, 2 * BLOCK, NULL);
}

static int op_insert(void)
{
	return pml_file_insert(f0, BLOCK, 2 * BLOCK, NULL);
}

static int op_unshare(void)
{
	return pml_file_unshare(g0, 0, 20 * BLOCK, NULL);
}

static int op_clone(void)
{
	uint64_t done;
	return pml_file_clone_blocks(g0, 0, f0, 3 * BLOCK, 4 * BLOCK, NULL, &done);
}

static int op_dedupe(void)
{
	uint64_t done;
	bool is_same = false;
	int err = pml_file_dedupe(g0, 4 * BLOCK, f0, 7 * BLOCK, 2 * BLOCK, NULL, &done, &is_same);
	CHECK(err || is_same);
	return err;
}

static uint64_t contents_of(struct pml_inode *inode)
{
	static unsigned char buf[64 * BLOCK];
	size_t n = fs_pool_read(inode, 0, buf, sizeof(buf));
	uint64_t hash = n * 31 + pml_inode_size(inode);
	for (size_t i = 0; i < n; i++)
		hash = (hash ^ buf[i]) * 0x100000001b3ull;
	return hash;
}

static void sweep(const char *name, int (*op)(void))
{
	unsigned int from = 0;
	for (;;) {
		uint64_t f_before = contents_of(f0), g_before = contents_of(g0);
		arm(++from);
		int err = op();
		if (!disarm()) {
			CHECK_EQ(err, 0);
			break;
		}
		/* What fails when the work is done already is finished later. */
		CHECK(err == -ENOSPC || err == 0);
		if (err == 0)
			break;
		CHECK(contents_of(f0) == f_before);
		CHECK(contents_of(g0) == g_before);
		CHECK_STR(fs_check(pool.fs), "");
	}
	CHECK(from > 1);
	CHECK_STR(fs_check(pool.fs), "");
	printf("# %s: %u places\n", name, from - 1);
}

#define SWEEP(op) sweep(#op, op)

static void test_failed_operations_change_nothing(void)
{
	begin();
	f0 = lettered("f", "abcdefghi");
	g0 = new_file("g");
	CHECK_EQ(clone_all(f0, g0), 0);
	SWEEP(op_zero);
	SWEEP(op_zero_behind);
	SWEEP(op_collapse);
	SWEEP(op_insert);
	SWEEP(op_clone);
	CHECK_EQ(fill(f0, 7 * BLOCK, 'e', BLOCK), 0);
	CHECK_EQ(fill(f0, 8 * BLOCK, 'f', BLOCK), 0);
	SWEEP(op_dedupe);
	SWEEP(op_unshare);
	uint64_t f_before = contents_of(f0), g_before = contents_of(g0);
	uint64_t f_ino = pml_inode_ino(f0), g_ino = pml_inode_ino(g0);
	pml_inode_put(f0, 1);
	pml_inode_put(g0, 1);
	reopen();
	REQUIRE(pml_inode_get(pool.fs, f_ino, &f0) == 0 && pml_inode_get(pool.fs, g_ino, &g0) == 0);
	CHECK(contents_of(f0) == f_before && contents_of(g0) == g_before);
	pml_inode_put(f0, 1);
	pml_inode_put(g0, 1);
	end();
}

/* ---- a death at every place ---------------------------------------------- */

enum { DEATH_EXTENTS = 700 }; /* more than one transaction moves */

static uint64_t victim;

static int victim_collapse(struct pml_inode *f)
{
	return pml_file_collapse(f, 100 * 2 * BLOCK, 20 * BLOCK, NULL);
}

static int victim_insert(struct pml_inode *f)
{
	return pml_file_insert(f, 101 * 2 * BLOCK, 20 * BLOCK, NULL);
}

static int victim_zero(struct pml_inode *f)
{
	return pml_file_allocate(f, ZERO, 2 * BLOCK, 2 * 650 * BLOCK, NULL);
}

/* Never returns. */
static void die_inside(int (*op)(struct pml_inode *), unsigned int at)
{
	struct pml_inode *f;
	if (fs_pool_try_open(&pool) || pml_inode_get(pool.fs, victim, &f))
		_Exit(1);
	calls = 0;
	die_at = at;
	_Exit(op(f) ? 2 : 0);
}

/* The file has its old contents or the new ones; returns which. */
static bool has_happened(uint64_t old, const char *name, uint64_t *ret_now)
{
	struct pml_inode *f;
	if (pml_inode_get(pool.fs, victim, &f))
		BAIL_OUT("%s: the file is gone", name);
	/* The mount has finished what it found. */
	CHECK(f->media->spare_tree == 0 && f->media->punch_first >= f->media->punch_end);
	static unsigned char buf[2 * DEATH_EXTENTS * BLOCK + 64 * BLOCK];
	size_t n = fs_pool_read(f, 0, buf, sizeof(buf));
	uint64_t hash = n;
	for (size_t i = 0; i < n; i += 64)
		hash = (hash ^ buf[i]) * 0x100000001b3ull;
	pml_inode_put(f, 1);
	*ret_now = hash;
	return hash != old;
}

/* @may_keep: blocks that a death before it has happened may leave allocated. */
static void kill_at_every_place(const char *name, int (*op)(struct pml_inode *), unsigned int step,
				uint64_t may_keep)
{
	uint64_t old, now, first_new = 0;
	unsigned int died = 0, changed = 0;
	begin();
	struct pml_inode *f = new_file("f");
	for (unsigned int i = 0; i < DEATH_EXTENTS; i++)
		CHECK_EQ(fill(f, 2ull * i * BLOCK, 1 + (int)(i % 250), 1), 0);
	victim = pml_inode_ino(f);
	pml_inode_put(f, 1);
	(void)has_happened(0, name, &old);
	uint64_t used = used_blocks();
	pml_inode_put(root, 1);
	for (unsigned int at = 1;; at += step) {
		fs_pool_close(&pool);
		pid_t pid = fork();
		if (pid == 0)
			die_inside(op, at);
		int status = -1;
		REQUIRE(waitpid(pid, &status, 0) == pid && WIFEXITED(status));
		REQUIRE(fs_pool_try_open(&pool) == 0);
		CHECK_STR(fs_check(pool.fs), "");
		bool is_new = has_happened(old, name, &now);
		if (is_new && !first_new)
			first_new = now;
		if (is_new)
			CHECK(now == first_new);
		else
			CHECK(used_blocks() <= used + may_keep);
		if (WEXITSTATUS(status) != 42) {
			CHECK_EQ(WEXITSTATUS(status), 0);
			CHECK(is_new);
			break;
		}
		died++;
		changed += is_new;
		/* Happened and not finished: a second time would be another change. */
		if (is_new)
			break;
	}
	printf("# %s: %u deaths, %u after it had happened\n", name, died, changed);
	CHECK(died > 5);
	root = fs_pool_root(&pool);
	end();
}

static void test_a_death_inside_a_collapse_leaves_old_or_new(void)
{
	kill_at_every_place("collapse", victim_collapse, 37, 0);
}

static void test_a_death_inside_an_insertion_leaves_old_or_new(void)
{
	kill_at_every_place("insert", victim_insert, 41, 0);
}

static void test_a_death_inside_a_zeroing_leaves_old_or_new(void)
{
	kill_at_every_place("zero", victim_zero, 97, 650);
}

/* ---- random run ---------------------------------------------------------- */

#define MODEL_FILES 3
#define MODEL_BYTES (64u * BLOCK)

static struct model {
	unsigned char bytes[MODEL_BYTES];
	uint64_t size;
} model[MODEL_FILES];
static struct pml_inode *file[MODEL_FILES];
static uint64_t file_ino[MODEL_FILES];

static uint64_t below(uint64_t n)
{
	return (uint64_t)random() % n;
}

/* A random range, of whole blocks in most cases. */
static void pick(uint64_t *first, uint64_t *len)
{
	*first = below(MODEL_BYTES - 1);
	*len = 1 + below(PML_MIN((uint64_t)MODEL_BYTES - *first, 12 * (uint64_t)BLOCK));
	if (below(3)) {
		*first = pml_round_down(*first, BLOCK);
		*len = PML_MIN(pml_round_up(*len, BLOCK), MODEL_BYTES - *first);
	}
}

static void model_set(struct model *m, uint64_t first, int byte, uint64_t len)
{
	memset(m->bytes + first, byte, len);
	m->size = PML_MAX(m->size, first + len);
}

static void step_write(unsigned int i, uint64_t first, uint64_t len)
{
	int byte = 1 + (int)below(3); /* few, so that dedupe finds something */
	if (fill(file[i], first, byte, len) == 0)
		model_set(&model[i], first, byte, len);
	else
		CHECK(fail_from);
}

static void step_truncate(unsigned int i, uint64_t size)
{
	struct model *m = &model[i];
	int err = pml_file_truncate(file[i], size, NULL);
	if (err) {
		CHECK(fail_from);
		return;
	}
	if (size < m->size)
		memset(m->bytes + size, 0, m->size - size);
	m->size = size;
}

static void step_allocate(unsigned int i, int mode, uint64_t first, uint64_t len)
{
	struct model *m = &model[i];
	int err = pml_file_allocate(file[i], mode, first, len, NULL);
	if (err) {
		CHECK(fail_from);
		return;
	}
	if (mode & (FALLOC_FL_PUNCH_HOLE | ZERO))
		memset(m->bytes + first, 0, len);
	if (!(mode & KEEP))
		m->size = PML_MAX(m->size, first + len);
}

static void step_collapse(unsigned int i, uint64_t first, uint64_t len)
{
	struct model *m = &model[i];
	bool is_valid = first % BLOCK == 0 && len % BLOCK == 0 && first + len < m->size;
	int err = pml_file_collapse(file[i], first, len, NULL);
	if (err) {
		CHECK(err == -EINVAL ? !is_valid : fail_from != 0);
		return;
	}
	CHECK(is_valid);
	memmove(m->bytes + first, m->bytes + first + len, MODEL_BYTES - first - len);
	memset(m->bytes + MODEL_BYTES - len, 0, len);
	m->size -= len;
}

static void step_insert(unsigned int i, uint64_t first, uint64_t len)
{
	struct model *m = &model[i];
	if (m->size + len > MODEL_BYTES)
		return;
	bool is_valid = first % BLOCK == 0 && len % BLOCK == 0 && first < m->size;
	int err = pml_file_insert(file[i], first, len, NULL);
	if (err) {
		CHECK(err == -EINVAL ? !is_valid : fail_from != 0);
		return;
	}
	CHECK(is_valid);
	memmove(m->bytes + first + len, m->bytes + first, MODEL_BYTES - first - len);
	memset(m->bytes + first, 0, len);
	m->size += len;
}

static void step_clone(unsigned int i, unsigned int j, uint64_t from, uint64_t to, uint64_t len)
{
	struct model *src = &model[i], *dst = &model[j];
	len = PML_MIN(len, MODEL_BYTES - PML_MAX(from, to));
	uint64_t done = 0;
	bool strict = below(2);
	int err = strict ? pml_file_clone_blocks(file[i], from, file[j], to, len, NULL, &done)
			 : pml_file_clone(file[i], from, file[j], to, len, NULL, &done);
	if (err) {
		CHECK(fail_from || err == -EINVAL);
		return;
	}
	CHECK(done <= len || len == 0);
	memmove(dst->bytes + to, src->bytes + from, done);
	if (done)
		dst->size = PML_MAX(dst->size, to + done);
}

static void step_dedupe(unsigned int i, unsigned int j, uint64_t from, uint64_t to, uint64_t len)
{
	uint64_t done = 0;
	bool is_same = false;
	int err = pml_file_dedupe(file[i], from, file[j], to, len, NULL, &done, &is_same);
	if (err) {
		CHECK(fail_from || err == -EINVAL);
		return;
	}
	CHECK(done <= len);
	bool is_equal = memcmp(model[i].bytes + from, model[j].bytes + to, done) == 0;
	CHECK(!is_same || is_equal);
	if (!is_same)
		CHECK(memcmp(model[i].bytes + from, model[j].bytes + to, len) != 0);
}

static void step_unshare(unsigned int i, uint64_t first, uint64_t len)
{
	int err = pml_file_unshare(file[i], first, len, NULL);
	CHECK(err == 0 || fail_from);
}

static void compare_model(unsigned int i, const char *what, unsigned int step)
{
	static unsigned char got[MODEL_BYTES];
	CHECK_EQ(pml_inode_size(file[i]), model[i].size);
	size_t n = fs_pool_read(file[i], 0, got, MODEL_BYTES);
	CHECK_EQ(n, model[i].size);
	if (memcmp(got, model[i].bytes, n) != 0)
		BAIL_OUT("step %u (%s): file %u differs", step, what, i);
}

static const char *one_step(void)
{
	unsigned int i = (unsigned int)below(MODEL_FILES), j = (unsigned int)below(MODEL_FILES);
	uint64_t first, len, to, ignored;
	pick(&first, &len);
	pick(&to, &ignored);
	switch (below(14)) {
	case 0:
		step_truncate(i, first);
		return "truncate";
	case 1:
		step_allocate(i, PUNCH, first, len);
		return "punch";
	case 2:
		step_allocate(i, below(2) ? KEEP : 0, first, len);
		return "allocate";
	case 3:
	case 4:
		step_allocate(i, ZERO | (below(2) ? KEEP : 0), first, len);
		return "zero";
	case 5:
	case 6:
		step_collapse(i, first, len);
		return "collapse";
	case 7:
		step_insert(i, first, len);
		return "insert";
	case 8:
	case 9:
		step_clone(i, j, first, to, len);
		return "clone";
	case 10:
		step_dedupe(i, j, first, below(2) ? first : to, len);
		return "dedupe";
	case 11:
		step_unshare(i, first, len);
		return "unshare";
	default:
		step_write(i, first, len);
		return "write";
	}
}

static void reopen_model(void)
{
	for (unsigned int i = 0; i < MODEL_FILES; i++)
		pml_inode_put(file[i], 1);
	reopen();
	for (unsigned int i = 0; i < MODEL_FILES; i++)
		if (pml_inode_get(pool.fs, file_ino[i], &file[i]))
			BAIL_OUT("file %u is gone", i);
}

static void test_random_operations_equal_the_model(void)
{
	const char *given = getenv("PML_SEED");
	unsigned int seed =
		given ? (unsigned int)strtoul(given, NULL, 10) : (unsigned int)time(NULL);
	const char *steps = getenv("PML_STEPS");
	unsigned int nsteps = steps ? (unsigned int)strtoul(steps, NULL, 10) : 4000;
	printf("# PML_SEED=%u\n", seed);
	srandom(seed);
	begin();
	for (unsigned int i = 0; i < MODEL_FILES; i++) {
		char name[8];
		(void)snprintf(name, sizeof(name), "f%u", i);
		file[i] = new_file(name);
		file_ino[i] = pml_inode_ino(file[i]);
	}
	for (unsigned int step = 0; step < nsteps; step++) {
		/* A failing operation must leave what the model has. */
		if (below(8) == 0)
			arm(1 + (unsigned int)below(40));
		const char *what = one_step();
		(void)disarm();
		for (unsigned int i = 0; i < MODEL_FILES; i++)
			compare_model(i, what, step);
		if (step % 250 == 0)
			CHECK_STR(fs_check(pool.fs), "");
		if (step % 600 == 599)
			reopen_model();
	}
	for (unsigned int i = 0; i < MODEL_FILES; i++)
		pml_inode_put(file[i], 1);
	end();
}

int main(void)
{
	TAP_RUN(test_zeroing_keeps_blocks_and_fills_holes);
	TAP_RUN(test_zeroing_never_writes_a_shared_block);
	TAP_RUN(test_zeroing_thousands_of_extents);
	TAP_RUN(test_collapse_takes_a_range_out);
	TAP_RUN(test_insert_puts_a_hole_in);
	TAP_RUN(test_thousands_of_extents_move);
	TAP_RUN(test_unshare_gives_blocks_of_its_own);
	TAP_RUN(test_no_space_changes_nothing);
	TAP_RUN(test_clone_by_blocks_shares_or_fails);
	TAP_RUN(test_the_share_limit_is_an_error_or_a_copy);
	TAP_RUN(test_ten_thousand_clones_and_a_pin);
	TAP_RUN(test_dedupe_shares_equal_bytes);
	TAP_RUN(test_dedupe_of_last_blocks);
	TAP_RUN(test_extents_tell_shares_and_flags);
	TAP_RUN(test_refused_operations_change_nothing);
	TAP_RUN(test_read_only);
	TAP_RUN(test_failed_operations_change_nothing);
	TAP_RUN(test_a_death_inside_a_collapse_leaves_old_or_new);
	TAP_RUN(test_a_death_inside_an_insertion_leaves_old_or_new);
	TAP_RUN(test_a_death_inside_a_zeroing_leaves_old_or_new);
	TAP_RUN(test_random_operations_equal_the_model);
	return tap_done();
}
