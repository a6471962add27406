/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_relocate.c -- a file's blocks move together, and nobody sees it: bytes, holes,
 * preallocated blocks, shares and pins stay (I1, I4), with failing transactions and deaths at
 * every place (I8), on a full device, and beside readers and writers
 */
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <sys/wait.h>

#include "../../fs/inode.h"
#include "../support/fs_failing.h"
#include "../support/fs_ground.h"

#define BLOCK 4096u
#define UNIT  512u /* blocks */
#define KEEP  FALLOC_FL_KEEP_SIZE
#define PUNCH (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE)

/* ---- helpers ------------------------------------------------------------ */

/* Each block has a byte of its own, never 0. */
static int byte_of(uint64_t file_block)
{
	return 1 + (int)(file_block * 7 % 251);
}

static int put_block(struct pml_inode *inode, uint64_t file_block)
{
	unsigned char buf[BLOCK];
	memset(buf, byte_of(file_block), sizeof(buf));
	return pml_file_write(inode, buf, sizeof(buf), file_block * BLOCK, false, NULL);
}

/* Written from its end to its beginning, so that no block follows another on the device. */
static void fragment(struct pml_inode *inode, uint64_t first, uint64_t n)
{
	for (uint64_t i = n; i-- > 0;)
		if (put_block(inode, first + i))
			BAIL_OUT("cannot write block %" PRIu64, first + i);
}

static struct pml_inode *fragmented(const char *name, uint64_t n)
{
	struct pml_inode *inode = new_file(name);
	fragment(inode, 0, n);
	return inode;
}

static unsigned int wrong_blocks(struct pml_inode *inode, uint64_t first, uint64_t n)
{
	unsigned int wrong = 0;
	for (uint64_t i = first; i < first + n; i++)
		wrong += !fs_pool_holds(inode, i * BLOCK, byte_of(i), BLOCK);
	return wrong;
}

/* How a file lies on the device. */
struct layout {
	unsigned int extents; /* contiguous in the file and on the device */
	uint64_t blocks;
	uint64_t units;	    /* whole ones */
	uint64_t unwritten; /* blocks */
};

static uint64_t units_in(uint64_t block, uint64_t n)
{
	uint64_t first = pml_round_up(block, (uint64_t)UNIT);
	uint64_t end = pml_round_down(block + n, (uint64_t)UNIT);
	return end > first ? (end - first) / UNIT : 0;
}

static struct layout layout_of(struct pml_inode *inode)
{
	static struct pml_extent_info info[4096];
	struct layout out = {0};
	uint64_t next, first = 0, len = 0, file_end = 0;
	size_t n;
	if (pml_file_extents(inode, 0, info, PML_ARRAY_LEN(info), &n, &next) ||
	    n == PML_ARRAY_LEN(info))
		BAIL_OUT("cannot list extents");
	for (size_t i = 0; i < n; i++) {
		if (len == 0 || info[i].first_byte != file_end || info[i].block != first + len) {
			out.extents++;
			out.units += units_in(first, len);
			first = info[i].block;
			len = 0;
		}
		len += info[i].nblocks;
		file_end = info[i].first_byte + info[i].nblocks * BLOCK;
		out.blocks += info[i].nblocks;
		out.unwritten += info[i].is_unwritten ? info[i].nblocks : 0;
	}
	out.units += units_in(first, len);
	return out;
}

static uint64_t block_behind(struct pml_inode *inode, uint64_t file_block)
{
	struct pml_extent_info info;
	size_t n = 0;
	uint64_t next;
	CHECK_EQ(pml_file_extents(inode, file_block * BLOCK, &info, 1, &n, &next), 0);
	return n && info.first_byte == file_block * BLOCK ? info.block : 0;
}

/* All steps; the sum of what they did. */
static int relocate(struct pml_inode *inode, struct pml_relocation *ret_sum)
{
	struct pml_relocation one, sum = {0};
	unsigned int steps = 0;
	do {
		int err = pml_file_relocate(inode, sum.next_byte, 0, NULL, &one);
		if (err)
			return err;
		CHECK(one.moved_bytes <= 8u << 20);
		CHECK(one.next_byte == 0 || one.next_byte > sum.next_byte);
		sum.next_byte = one.next_byte;
		sum.moved_bytes += one.moved_bytes;
		sum.skipped_shared_bytes += one.skipped_shared_bytes;
		sum.skipped_leased_bytes += one.skipped_leased_bytes;
	} while (sum.next_byte && ++steps < 10000);
	CHECK_EQ(sum.next_byte, 0);
	*ret_sum = sum;
	return 0;
}

/* ---- what moves --------------------------------------------------------- */

static void test_a_fragmented_file_becomes_one_aligned_extent(void)
{
	enum { BLOCKS = 3000 };
	fs_pool_make(&pool, 256u << 20);
	root = fs_pool_root(&pool);
	struct pml_inode *f = fragmented("f", BLOCKS);
	struct layout before = layout_of(f);
	CHECK_EQ(before.extents, BLOCKS);
	CHECK_EQ(before.units, 0);
	uint64_t used = counts_now().used_blocks;
	struct stat old, now;
	pml_inode_stat(f, &old);
	struct pml_relocation sum;
	CHECK_EQ(relocate(f, &sum), 0);
	CHECK_EQ(sum.moved_bytes, BLOCKS * (uint64_t)BLOCK);
	CHECK_EQ(sum.skipped_shared_bytes + sum.skipped_leased_bytes, 0);
	struct layout after = layout_of(f);
	CHECK_EQ(after.extents, 1);
	CHECK_EQ(after.units, BLOCKS / UNIT);
	CHECK_EQ(wrong_blocks(f, 0, BLOCKS), 0);
	pml_inode_stat(f, &now);
	CHECK(memcmp(&old, &now, sizeof(now)) == 0);
	CHECK_EQ(counts_now().used_blocks, used);
	CHECK_STR(fs_check(pool.fs), "");
	/* What lies well stays. */
	uint64_t digest = fs_digest(pool.fs);
	CHECK_EQ(relocate(f, &sum), 0);
	CHECK_EQ(sum.moved_bytes, 0);
	CHECK(fs_digest(pool.fs) == digest);
	uint64_t ino = pml_inode_ino(f);
	pml_inode_put(f, 1);
	reopen();
	REQUIRE(pml_inode_get(pool.fs, ino, &f) == 0);
	CHECK_EQ(wrong_blocks(f, 0, BLOCKS), 0);
	pml_inode_put(f, 1);
	end();
}

/* As log files do it, which grow side by side. */
static void test_files_that_grew_side_by_side(void)
{
	begin();
	struct pml_inode *f[3] = {new_file("a"), new_file("b"), new_file("c")};
	for (uint64_t i = 0; i < 12; i++)
		for (size_t k = 0; k < PML_ARRAY_LEN(f); k++)
			CHECK_EQ(put_block(f[k], i), 0);
	for (size_t k = 0; k < PML_ARRAY_LEN(f); k++) {
		struct pml_relocation sum;
		CHECK(layout_of(f[k]).extents > 1);
		CHECK_EQ(relocate(f[k], &sum), 0);
		CHECK_EQ(layout_of(f[k]).extents, 1);
		CHECK_EQ(wrong_blocks(f[k], 0, 12), 0);
		pml_inode_put(f[k], 1);
	}
	end();
}

static void test_an_extent_moves_to_whole_units(void)
{
	begin();
	struct pml_inode *f = new_file("f");
	CHECK_EQ(pml_file_allocate(f, 0, 0, 700 * BLOCK, NULL), 0);
	/* What is left begins behind the beginning of a unit. */
	CHECK_EQ(pml_file_allocate(f, PUNCH, 0, BLOCK, NULL), 0);
	CHECK_EQ(put_block(f, 5), 0);
	struct layout before = layout_of(f);
	CHECK(before.extents == 1 && before.units == 0);
	struct pml_relocation sum;
	CHECK_EQ(relocate(f, &sum), 0);
	CHECK_EQ(sum.moved_bytes, 699 * (uint64_t)BLOCK);
	struct layout after = layout_of(f);
	CHECK(after.extents == 1 && after.units == 1);
	CHECK_EQ(after.unwritten, before.unwritten);
	CHECK_EQ(wrong_blocks(f, 5, 1), 0);
	CHECK_EQ(relocate(f, &sum), 0);
	CHECK_EQ(sum.moved_bytes, 0);
	pml_inode_put(f, 1);
	end();
}

static void test_preallocated_blocks_stay_preallocated(void)
{
	enum { BLOCKS = 100, BEHIND = 20 };
	begin();
	struct pml_inode *f = new_file("f");
	for (uint64_t i = BLOCKS + BEHIND; i-- > 0;) {
		if (i % 3 == 0 && i < BLOCKS)
			CHECK_EQ(put_block(f, i), 0);
		else
			CHECK_EQ(pml_file_allocate(f, KEEP, i * BLOCK, BLOCK, NULL), 0);
	}
	struct layout before = layout_of(f);
	CHECK_EQ(before.extents, BLOCKS + BEHIND);
	uint64_t size = pml_inode_size(f);
	struct pml_relocation sum;
	CHECK_EQ(relocate(f, &sum), 0);
	struct layout after = layout_of(f);
	CHECK_EQ(after.extents, 1);
	CHECK_EQ(after.unwritten, before.unwritten);
	CHECK_EQ(after.blocks, BLOCKS + BEHIND);
	CHECK_EQ(pml_inode_size(f), size);
	for (uint64_t i = 0; i * BLOCK < size; i++) {
		uint64_t at;
		CHECK(fs_pool_holds(f, i * BLOCK, i % 3 ? 0 : byte_of(i), BLOCK));
		CHECK_EQ(pml_file_seek(f, i * BLOCK, SEEK_DATA, &at),
			 i * BLOCK < size ? 0 : -ENXIO);
		CHECK_EQ(at, (i + 2) / 3 * 3 * BLOCK);
	}
	/* They take data without more space. */
	uint64_t used = counts_now().used_blocks;
	for (uint64_t i = 0; i < BLOCKS; i++)
		CHECK_EQ(put_block(f, i), 0);
	CHECK_EQ(counts_now().used_blocks, used);
	CHECK_EQ(wrong_blocks(f, 0, BLOCKS), 0);
	CHECK_EQ(layout_of(f).extents, 1);
	pml_inode_put(f, 1);
	end();
}

static void test_holes_stay_holes(void)
{
	begin();
	struct pml_inode *f = new_file("f");
	fragment(f, 1ull << 30, 10);
	fragment(f, 40, 20);
	fragment(f, 10, 10);
	struct pml_relocation sum;
	CHECK_EQ(relocate(f, &sum), 0);
	CHECK_EQ(sum.moved_bytes, 40 * (uint64_t)BLOCK);
	struct layout after = layout_of(f);
	CHECK_EQ(after.extents, 3);
	CHECK_EQ(after.blocks, 40);
	CHECK_EQ(wrong_blocks(f, 10, 10) + wrong_blocks(f, 40, 20) +
			 wrong_blocks(f, 1ull << 30, 10),
		 0);
	CHECK(fs_pool_holds(f, 0, 0, 10 * BLOCK) && fs_pool_holds(f, 20 * BLOCK, 0, 20 * BLOCK));
	uint64_t at;
	CHECK_EQ(pml_file_seek(f, 10 * BLOCK, SEEK_HOLE, &at), 0);
	CHECK_EQ(at, 20 * BLOCK);
	pml_inode_put(f, 1);
	f = new_file("empty");
	CHECK_EQ(relocate(f, &sum), 0);
	CHECK_EQ(sum.moved_bytes, 0);
	pml_inode_put(f, 1);
	end();
}

static void test_only_the_range_moves(void)
{
	begin();
	struct pml_inode *f = fragmented("f", 60);
	struct pml_relocation one;
	uint64_t outside[2] = {block_behind(f, 19), block_behind(f, 40)};
	CHECK_EQ(pml_file_relocate(f, 20 * BLOCK + 1, 20 * BLOCK - 1, NULL, &one), 0);
	CHECK_EQ(one.next_byte, 0);
	CHECK_EQ(one.moved_bytes, 20 * (uint64_t)BLOCK);
	CHECK_EQ(layout_of(f).extents, 41);
	CHECK(block_behind(f, 19) == outside[0] && block_behind(f, 40) == outside[1]);
	CHECK_EQ(wrong_blocks(f, 0, 60), 0);
	pml_inode_put(f, 1);
	/* It ends in the middle of an extent. */
	f = new_file("pairs");
	for (uint64_t i = 20; i > 0; i -= 2)
		CHECK(put_block(f, i - 2) == 0 && put_block(f, i - 1) == 0);
	CHECK_EQ(layout_of(f).extents, 10);
	outside[0] = block_behind(f, 5);
	CHECK_EQ(pml_file_relocate(f, 0, 5 * BLOCK, NULL, &one), 0);
	CHECK_EQ(one.moved_bytes, 5 * (uint64_t)BLOCK);
	CHECK_EQ(block_behind(f, 5), outside[0]);
	CHECK_EQ(layout_of(f).extents, 9);
	CHECK_EQ(wrong_blocks(f, 0, 20), 0);
	pml_inode_put(f, 1);
	end();
}

static void test_shared_blocks_stay(void)
{
	begin();
	struct pml_inode *f = fragmented("f", 100), *g = new_file("g");
	uint64_t done;
	CHECK_EQ(pml_file_clone_blocks(f, 30 * BLOCK, g, 0, 40 * BLOCK, NULL, &done), 0);
	uint64_t was[40];
	for (uint64_t i = 0; i < 40; i++)
		was[i] = block_behind(f, 30 + i);
	struct pml_relocation sum;
	CHECK_EQ(relocate(f, &sum), 0);
	CHECK_EQ(sum.skipped_shared_bytes, 40 * (uint64_t)BLOCK);
	CHECK_EQ(sum.moved_bytes, 60 * (uint64_t)BLOCK);
	CHECK_EQ(layout_of(f).extents, 42);
	CHECK_EQ(counts_now().shared_blocks, 40);
	for (uint64_t i = 0; i < 40; i++)
		CHECK(block_behind(f, 30 + i) == was[i] && block_behind(g, i) == was[i]);
	CHECK_EQ(wrong_blocks(f, 0, 100), 0);
	pml_inode_put(f, 1);
	pml_inode_put(g, 1);
	end();
}

static void test_errors(void)
{
	begin();
	struct pml_inode *f = fragmented("f", 10),
			 *pipe = fs_pool_create(root, "p", S_IFIFO | 0600);
	struct pml_relocation one;
	CHECK_EQ(pml_file_relocate(root, 0, 0, NULL, &one), -EISDIR);
	CHECK_EQ(pml_file_relocate(pipe, 0, 0, NULL, &one), -EINVAL);
	CHECK_EQ(pml_file_relocate(f, (uint64_t)INT64_MAX + 1, 0, NULL, &one), -EFBIG);
	CHECK_EQ(pml_file_relocate(f, 1, INT64_MAX, NULL, &one), -EFBIG);
	CHECK_EQ(pml_file_relocate(f, INT64_MAX, 0, NULL, &one), 0);
	CHECK(one.next_byte == 0 && one.moved_bytes == 0);
	CHECK_EQ(layout_of(f).extents, 10);
	uint64_t ino = pml_inode_ino(f);
	pml_inode_put(pipe, 1);
	pml_inode_put(f, 1);
	pml_inode_put(root, 1);
	fs_pool_reopen_read_only(&pool);
	REQUIRE(pml_inode_get(pool.fs, ino, &f) == 0);
	CHECK_EQ(pml_file_relocate(f, 0, 0, NULL, &one), -EROFS);
	pml_inode_put(f, 1);
	fs_pool_reopen(&pool);
	root = fs_pool_root(&pool);
	end();
}

/* ---- little space ------------------------------------------------------- */

/* Takes all free blocks, and then gives @run of each @stride of its first ones back. */
static struct pml_inode *fill_device(uint64_t run, uint64_t stride)
{
	enum { GIVEN_BACK = 7000 };
	struct pml_inode *full = new_file("full");
	uint64_t size = 0;
	for (uint64_t chunk = 4096; chunk > 0; chunk /= 2)
		while (pml_file_allocate(full, 0, size * BLOCK, chunk * BLOCK, NULL) == 0)
			size += chunk;
	CHECK(size > GIVEN_BACK);
	for (uint64_t i = 0; run && i < GIVEN_BACK; i += stride)
		CHECK_EQ(pml_file_allocate(full, PUNCH, i * BLOCK, run * BLOCK, NULL), 0);
	return full;
}

static void test_a_full_device_keeps_its_files(void)
{
	begin();
	struct pml_inode *f = fragmented("f", 300), *full = fill_device(0, 1);
	uint64_t digest = fs_digest(pool.fs), used = counts_now().used_blocks;
	struct pml_relocation sum;
	CHECK_EQ(relocate(f, &sum), 0);
	CHECK_EQ(sum.moved_bytes, 0);
	CHECK(fs_digest(pool.fs) == digest);
	CHECK_EQ(counts_now().used_blocks, used);
	CHECK_EQ(layout_of(f).extents, 300);
	CHECK_EQ(wrong_blocks(f, 0, 300), 0);
	pml_inode_put(f, 1);
	pml_inode_put(full, 1);
	end();
}

/* Others must not meet -ENOSPC because of what a move holds for a moment: 8 MiB are theirs. */
static void test_the_last_free_blocks_are_left_to_others(void)
{
	enum { BLOCKS = 300, THEIRS = 2048 };
	begin();
	struct pml_inode *f = fragmented("f", BLOCKS), *full = fill_device(0, 1);
	struct statvfs vfs;
	struct pml_relocation sum;
	pml_fs_statvfs(pool.fs, &vfs);
	REQUIRE(vfs.f_bfree < THEIRS);
	/* A stretch is of 256 blocks at most. */
	uint64_t n = THEIRS + 256 - 1 - vfs.f_bfree;
	CHECK_EQ(pml_file_allocate(full, PUNCH, 0, n * BLOCK, NULL), 0);
	CHECK_EQ(pml_file_relocate(f, 0, 256 * BLOCK, NULL, &sum), 0);
	CHECK_EQ(sum.moved_bytes, 0);
	CHECK_EQ(pml_file_allocate(full, PUNCH, n * BLOCK, BLOCK, NULL), 0);
	CHECK_EQ(pml_file_relocate(f, 0, 256 * BLOCK, NULL, &sum), 0);
	CHECK_EQ(sum.moved_bytes, 256 * (uint64_t)BLOCK);
	CHECK_EQ(wrong_blocks(f, 0, BLOCKS), 0);
	pml_inode_put(f, 1);
	pml_inode_put(full, 1);
	end();
}

/* 14 MiB are free, but no two blocks side by side: there is no better place. */
static void test_scattered_free_space_is_no_better_place(void)
{
	begin();
	struct pml_inode *f = fragmented("f", 2000), *full = fill_device(1, 2);
	uint64_t digest = fs_digest(pool.fs), used = counts_now().used_blocks;
	CHECK(counts_now().free_blocks > 3000);
	struct pml_relocation sum;
	CHECK_EQ(relocate(f, &sum), 0);
	CHECK_EQ(sum.moved_bytes, 0);
	CHECK(fs_digest(pool.fs) == digest);
	CHECK_EQ(counts_now().used_blocks, used);
	pml_inode_put(f, 1);
	pml_inode_put(full, 1);
	end();
}

/* Where no run is long enough for all, shorter ones serve. */
static void test_short_runs_serve_too(void)
{
	begin();
	struct pml_inode *f = fragmented("f", 300), *full = fill_device(10, 20);
	struct pml_relocation sum;
	CHECK_EQ(relocate(f, &sum), 0);
	CHECK(sum.moved_bytes > 250 * (uint64_t)BLOCK);
	unsigned int extents = layout_of(f).extents;
	printf("# %u extents\n", extents);
	CHECK(extents > 1 && extents <= 50);
	CHECK_EQ(wrong_blocks(f, 0, 300), 0);
	pml_inode_put(f, 1);
	pml_inode_put(full, 1);
	end();
}

/* ---- the guard ---------------------------------------------------------- */

static struct {
	int answer; /* to what touches the leased blocks */
	uint64_t first, end;
	unsigned int asked;
	struct pml_layout_change last;
} fake;

static int fake_admit(void *guard, const struct pml_layout_change *change, struct pml_waiter *w)
{
	CHECK_EQ(change->op, PML_OP_RELOCATE);
	CHECK(!change->writers_only);
	fake.asked++;
	fake.last = *change;
	bool meets = change->first_byte < fake.end * BLOCK && fake.first * BLOCK < change->end_byte;
	return meets ? fake.answer : 0;
}

static bool fake_may_be_leased(void *guard, uint64_t ino)
{
	return true;
}

static const struct pml_guard_ops fake_ops = {
	.admit = fake_admit,
	.may_be_leased = fake_may_be_leased,
};

static void lease(int answer, uint64_t first, uint64_t end)
{
	memset(&fake, 0, sizeof(fake));
	fake.answer = answer;
	fake.first = first;
	fake.end = end;
	pml_fs_set_guard(pool.fs, &fake_ops, NULL);
}

static void test_I4_refused_moves_change_nothing(void)
{
	begin();
	struct pml_inode *f = fragmented("f", 100);
	struct pml_relocation one, sum;
	uint64_t digest = fs_digest(pool.fs), used = counts_now().used_blocks,
		 nfree = counts_now().free_blocks;
	const int answers[] = {-EBUSY, -EINPROGRESS, -EINTR, -EAGAIN, -EIO};
	for (size_t i = 0; i < PML_ARRAY_LEN(answers); i++) {
		lease(answers[i], 50, 51);
		CHECK_EQ(pml_file_relocate(f, 0, 0, NULL, &one), answers[i]);
		CHECK_EQ(fake.asked, 1);
		CHECK_EQ(fake.last.first_byte, 0);
		CHECK_EQ(fake.last.end_byte, 100 * BLOCK);
		CHECK(fs_digest(pool.fs) == digest);
		CHECK_EQ(counts_now().used_blocks, used);
		CHECK_EQ(counts_now().free_blocks, nfree);
	}
	/* After the wait it runs again. */
	lease(0, 0, 100);
	CHECK_EQ(relocate(f, &sum), 0);
	CHECK_EQ(fake.asked, 1);
	CHECK_EQ(sum.moved_bytes, 100 * (uint64_t)BLOCK);
	/* About what stays nobody is asked. */
	CHECK_EQ(relocate(f, &sum), 0);
	CHECK_EQ(fake.asked, 1);
	CHECK_EQ(layout_of(f).extents, 1);
	CHECK_EQ(wrong_blocks(f, 0, 100), 0);
	pml_fs_set_guard(pool.fs, NULL, NULL);
	pml_inode_put(f, 1);
	end();
}

/* I1, I4: what a key reaches stays, the rest moves. */
static void test_I4_leased_blocks_are_skipped_alone(void)
{
	begin();
	struct pml_inode *f = fragmented("f", 100);
	struct pml_segment seg[64];
	size_t nseg;
	uint64_t end_byte, was[40];
	CHECK_EQ(pml_file_pin(f, 30 * BLOCK, 40 * BLOCK, false, seg, 64, &nseg, &end_byte), 0);
	CHECK_EQ(nseg, 40);
	for (uint64_t i = 0; i < 40; i++)
		was[i] = block_behind(f, 30 + i);
	lease(-ECANCELED, 30, 70);
	struct pml_relocation sum;
	CHECK_EQ(relocate(f, &sum), 0);
	CHECK_EQ(sum.skipped_leased_bytes, 40 * (uint64_t)BLOCK);
	CHECK_EQ(sum.moved_bytes, 60 * (uint64_t)BLOCK);
	for (uint64_t i = 0; i < 40; i++)
		CHECK_EQ(block_behind(f, 30 + i), was[i]);
	CHECK_EQ(layout_of(f).extents, 42);
	CHECK_EQ(counts_now().quarantined_blocks, 0);
	CHECK_EQ(counts_now().used_blocks, 100);
	/* All of it. */
	uint64_t digest = fs_digest(pool.fs);
	lease(-ECANCELED, 0, 100);
	CHECK_EQ(relocate(f, &sum), 0);
	CHECK_EQ(sum.moved_bytes, 0);
	CHECK(fs_digest(pool.fs) == digest);
	/* When the leases have ended all of it moves. */
	for (size_t i = 0; i < nseg; i++)
		pml_fs_unpin(pool.fs, &seg[i]);
	pml_fs_set_guard(pool.fs, NULL, NULL);
	CHECK_EQ(relocate(f, &sum), 0);
	CHECK_EQ(layout_of(f).extents, 1);
	CHECK_EQ(wrong_blocks(f, 0, 100), 0);
	pml_inode_put(f, 1);
	end();
}

static void test_nobody_is_asked_where_there_is_no_better_place(void)
{
	begin();
	struct pml_inode *f = fragmented("f", 100), *full = fill_device(1, 2);
	lease(-EBUSY, 0, 100);
	struct pml_relocation sum;
	CHECK_EQ(relocate(f, &sum), 0);
	CHECK_EQ(fake.asked, 0);
	pml_fs_set_guard(pool.fs, NULL, NULL);
	pml_inode_put(f, 1);
	pml_inode_put(full, 1);
	end();
}

/* ---- every transaction fails at every place ------------------------------ */

enum { VICTIM_BLOCKS = 40 };

/* A file whose move takes several extents with it: preallocated ones, too. */
static struct pml_inode *victim_file(void)
{
	struct pml_inode *f = new_file("f");
	for (uint64_t i = VICTIM_BLOCKS; i-- > 0;)
		if (i % 10 == 3 ? pml_file_allocate(f, KEEP, i * BLOCK, BLOCK, NULL)
				: put_block(f, i))
			BAIL_OUT("cannot make the file");
	return f;
}

static unsigned int wrong_in_victim(struct pml_inode *f)
{
	unsigned int wrong = pml_inode_size(f) != VICTIM_BLOCKS * BLOCK;
	for (uint64_t i = 0; i < VICTIM_BLOCKS; i++)
		wrong += !fs_pool_holds(f, i * BLOCK, i % 10 == 3 ? 0 : byte_of(i), BLOCK);
	return wrong;
}

static void test_failed_moves_change_nothing(void)
{
	begin();
	struct pml_inode *f = victim_file();
	uint64_t digest = fs_digest(pool.fs), used = counts_now().used_blocks;
	unsigned int from = 0;
	struct pml_relocation one;
	for (;;) {
		arm(++from);
		int err = pml_file_relocate(f, 0, 0, NULL, &one);
		bool failed = disarm();
		CHECK_EQ(err, 0);
		if (!failed)
			break;
		CHECK_EQ(one.moved_bytes, 0);
		CHECK(fs_digest(pool.fs) == digest);
		CHECK_EQ(counts_now().used_blocks, used);
		CHECK_STR(fs_check(pool.fs), "");
	}
	printf("# %u places\n", from - 1);
	CHECK(from > 5);
	CHECK_EQ(one.moved_bytes, VICTIM_BLOCKS * (uint64_t)BLOCK);
	CHECK_EQ(layout_of(f).extents, 1);
	CHECK_EQ(wrong_in_victim(f), 0);
	pml_inode_put(f, 1);
	end();
}

/* ---- a death at every place ---------------------------------------------- */

static uint64_t victim;

/* Never returns. */
static void die_inside(unsigned int at)
{
	struct pml_inode *f;
	struct pml_relocation one;
	if (fs_pool_try_open(&pool) || pml_inode_get(pool.fs, victim, &f))
		_Exit(1);
	calls = 0;
	die_at = at;
	_Exit(pml_file_relocate(f, 0, 0, NULL, &one) ? 2 : 0);
}

static void test_a_death_inside_a_move_leaves_old_or_new(void)
{
	begin();
	struct pml_inode *f = victim_file();
	victim = pml_inode_ino(f);
	struct layout old = layout_of(f), now;
	uint64_t used = counts_now().used_blocks;
	pml_inode_put(f, 1);
	pml_inode_put(root, 1);
	unsigned int died = 0;
	for (unsigned int at = 1;; at += 3) {
		fs_pool_close(&pool);
		pid_t pid = fork();
		if (pid == 0)
			die_inside(at);
		int status = -1;
		REQUIRE(waitpid(pid, &status, 0) == pid && WIFEXITED(status));
		REQUIRE(fs_pool_try_open(&pool) == 0);
		CHECK_STR(fs_check(pool.fs), "");
		REQUIRE(pml_inode_get(pool.fs, victim, &f) == 0);
		now = layout_of(f);
		CHECK_EQ(wrong_in_victim(f), 0);
		pml_inode_put(f, 1);
		CHECK(now.extents == old.extents || now.extents == 1);
		CHECK_EQ(now.unwritten, old.unwritten);
		CHECK_EQ(counts_now().used_blocks, used);
		if (WEXITSTATUS(status) != 42) {
			CHECK_EQ(WEXITSTATUS(status), 0);
			CHECK_EQ(now.extents, 1);
			break;
		}
		died++;
	}
	printf("# %u deaths\n", died);
	CHECK(died > 5);
	root = fs_pool_root(&pool);
	end();
}

/* ---- beside readers and writers ------------------------------------------- */

enum { BUSY_BLOCKS = 400, BUSY_ROUNDS = 60 };

static struct pml_inode *busy;
static atomic_bool is_over;
static _Atomic unsigned int torn, failed, moves;

/* A block holds one byte everywhere: 0 after a punch, or the one that was written. */
static bool is_torn(uint64_t file_block)
{
	struct iovec iov[4];
	unsigned char buf[BLOCK];
	int n;
	size_t bytes;
	if (pml_file_read_begin(busy, file_block * BLOCK, BLOCK, iov, &n, &bytes))
		return true;
	bool is_one = n == 1 && bytes == BLOCK;
	if (is_one)
		memcpy(buf, iov[0].iov_base, BLOCK);
	pml_file_read_end(busy);
	return !is_one || memcmp(buf, buf + 1, BLOCK - 1) != 0 ||
	       (buf[0] != 0 && buf[0] != byte_of(file_block));
}

static void *read_all_the_time(void *arg)
{
	for (uint64_t i = 0; !atomic_load(&is_over); i = (i + 7) % BUSY_BLOCKS)
		if (is_torn(i))
			atomic_fetch_add(&torn, 1);
	return NULL;
}

static void *relocate_all_the_time(void *arg)
{
	struct pml_relocation one = {0};
	while (!atomic_load(&is_over)) {
		uint64_t from = one.next_byte;
		if (pml_file_relocate(busy, from, 0, NULL, &one))
			atomic_fetch_add(&failed, 1);
		if (one.moved_bytes)
			atomic_fetch_add(&moves, 1);
	}
	return NULL;
}

static void test_readers_writers_and_moves_at_once(void)
{
	begin();
	busy = fragmented("f", BUSY_BLOCKS);
	pthread_t threads[4];
	atomic_store(&is_over, false);
	for (size_t i = 0; i < PML_ARRAY_LEN(threads); i++)
		REQUIRE(pthread_create(&threads[i], NULL,
				       i < 2 ? read_all_the_time : relocate_all_the_time,
				       NULL) == 0);
	/* Takes it apart again and again. */
	unsigned int wrong = 0;
	for (unsigned int round = 0; round < BUSY_ROUNDS; round++) {
		for (uint64_t i = 1 + round % 3; i < BUSY_BLOCKS; i += 3)
			wrong += pml_file_allocate(busy, PUNCH, i * BLOCK, BLOCK, NULL) != 0;
		for (uint64_t i = BUSY_BLOCKS; i-- > 0;)
			wrong += i % 3 == (1 + round % 3) % 3 && put_block(busy, i) != 0;
	}
	atomic_store(&is_over, true);
	for (size_t i = 0; i < PML_ARRAY_LEN(threads); i++)
		pthread_join(threads[i], NULL);
	printf("# %u moves\n", atomic_load(&moves));
	CHECK_EQ(wrong, 0);
	CHECK_EQ(atomic_load(&torn), 0);
	CHECK_EQ(atomic_load(&failed), 0);
	CHECK(atomic_load(&moves) > 0);
	fragment(busy, 0, BUSY_BLOCKS);
	CHECK_EQ(wrong_blocks(busy, 0, BUSY_BLOCKS), 0);
	CHECK_EQ(counts_now().used_blocks, BUSY_BLOCKS);
	pml_inode_put(busy, 1);
	end();
}

int main(void)
{
	TAP_RUN(test_a_fragmented_file_becomes_one_aligned_extent);
	TAP_RUN(test_files_that_grew_side_by_side);
	TAP_RUN(test_an_extent_moves_to_whole_units);
	TAP_RUN(test_preallocated_blocks_stay_preallocated);
	TAP_RUN(test_holes_stay_holes);
	TAP_RUN(test_only_the_range_moves);
	TAP_RUN(test_shared_blocks_stay);
	TAP_RUN(test_errors);
	TAP_RUN(test_a_full_device_keeps_its_files);
	TAP_RUN(test_the_last_free_blocks_are_left_to_others);
	TAP_RUN(test_scattered_free_space_is_no_better_place);
	TAP_RUN(test_short_runs_serve_too);
	TAP_RUN(test_I4_refused_moves_change_nothing);
	TAP_RUN(test_I4_leased_blocks_are_skipped_alone);
	TAP_RUN(test_nobody_is_asked_where_there_is_no_better_place);
	TAP_RUN(test_failed_moves_change_nothing);
	TAP_RUN(test_a_death_inside_a_move_leaves_old_or_new);
	TAP_RUN(test_readers_writers_and_moves_at_once);
	return tap_done();
}
