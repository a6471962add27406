/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_file.c -- file data: every operation against a plain array as the model
 *
 * The random run prints its seed; PML_SEED=N repeats it.
 */
#include <fcntl.h>
#include <time.h>

#include "../../fs/inode.h"
#include "fs_pool.h"
#include "pml/fs.h"
#include "tap.h"

static struct fs_pool pool;
static struct pml_inode *root;

static void setup(void)
{
	fs_pool_make(&pool, FS_POOL_BYTES);
	root = fs_pool_root(&pool);
}

static void teardown(void)
{
	char reason[PML_REASON_BYTES];
	CHECK_EQ(pml_fs_audit(pool.fs, NULL, NULL, reason), 0);
	pml_inode_put(root, 1);
	fs_pool_remove(&pool);
}

static struct pml_inode *new_file(const char *name)
{
	return fs_pool_create(root, name, S_IFREG | 0644);
}

static uint64_t free_blocks(void)
{
	struct statvfs st;
	pml_fs_statvfs(pool.fs, &st);
	return st.f_bfree;
}

static int write_bytes(struct pml_inode *inode, uint64_t first, int byte, size_t len,
		       struct pml_waiter *w)
{
	pml_auto_free unsigned char *buf = malloc(len);
	memset(buf, byte, len);
	return pml_file_write(inode, buf, len, first, false, w);
}

static void test_written_bytes_come_back_also_after_reopen(void)
{
	setup();
	struct pml_inode *f = new_file("f");
	CHECK_EQ(write_bytes(f, 5, 'a', 10000, NULL), 0);
	CHECK(fs_pool_holds(f, 0, 0, 5));
	CHECK(fs_pool_holds(f, 5, 'a', 10000));
	CHECK_EQ(pml_inode_size(f), 10005);
	pml_inode_put(f, 1);
	pml_inode_put(root, 1);
	fs_pool_reopen(&pool);
	root = fs_pool_root(&pool);
	REQUIRE(pml_dir_lookup(root, "f", &f) == 0);
	CHECK(fs_pool_holds(f, 5, 'a', 10000));
	pml_inode_put(f, 1);
	teardown();
}

/* ---- what a page-granularity device must have before a commit ---- */

static struct {
	struct pml_inode *file;
	const uint8_t *addr;
	size_t bytes;
	uint64_t size_then; /* of the file */
	int n;
} settled;

static void note_settled(const void *addr, size_t bytes)
{
	settled.addr = addr;
	settled.bytes = bytes;
	settled.size_then = pml_inode_size(settled.file);
	settled.n++;
}

static void test_I6_bytes_are_durable_before_they_are_mapped(void)
{
	setup();
	struct pml_inode *f = new_file("f");
	settled.file = f;
	pool.fs->info.is_cache_line = false;
	pool.fs->persist_fn = note_settled;

	CHECK_EQ(write_bytes(f, 0, 'a', 5000, NULL), 0);
	CHECK_EQ(settled.n, 1);
	CHECK_EQ(settled.size_then, 0);
	CHECK_EQ(settled.bytes, 8192);
	struct iovec iov[PML_IOV_MAX];
	int n;
	size_t got;
	REQUIRE(pml_file_read_begin(f, 0, 1, iov, &n, &got) == 0);
	CHECK(iov[0].iov_base == settled.addr);
	pml_file_read_end(f);

	/* Behind the end, in a block that is mapped already; then an overwrite, left to fsync. */
	CHECK_EQ(write_bytes(f, 5000, 'b', 100, NULL), 0);
	CHECK_EQ(settled.n, 2);
	CHECK_EQ(settled.size_then, 5000);
	CHECK_EQ(write_bytes(f, 0, 'c', 5100, NULL), 0);
	CHECK_EQ(settled.n, 2);
	/* The tail before the file grows over it. */
	CHECK_EQ(pml_file_truncate(f, 9000, NULL), 0);
	CHECK_EQ(settled.n, 3);
	CHECK_EQ(settled.size_then, 5100);
	pml_inode_put(f, 1);
	teardown();
}

static void test_a_gap_behind_the_old_end_reads_as_zeros(void)
{
	setup();
	struct pml_inode *f = new_file("f");
	CHECK_EQ(write_bytes(f, 0, 'a', 4096, NULL), 0);
	CHECK_EQ(pml_file_truncate(f, 100, NULL), 0);
	CHECK_EQ(write_bytes(f, 5000, 'b', 10, NULL), 0);
	CHECK(fs_pool_holds(f, 0, 'a', 100));
	CHECK(fs_pool_holds(f, 100, 0, 4900));
	CHECK_EQ(pml_file_truncate(f, 200, NULL), 0);
	CHECK_EQ(pml_file_truncate(f, 8192, NULL), 0);
	CHECK(fs_pool_holds(f, 100, 0, 8092));
	pml_inode_put(f, 1);
	teardown();
}

static void test_pages_written_back_never_make_a_file_longer(void)
{
	setup();
	static const char page[8192] = {[0 ... 8191] = 'b'};
	struct pml_inode *f = new_file("f");
	CHECK_EQ(write_bytes(f, 0, 'a', 5000, NULL), 0);
	CHECK_EQ(pml_file_write_back(f, page, 4096, 4096, NULL), 0);
	CHECK_EQ(pml_inode_size(f), 5000);
	CHECK(fs_pool_holds(f, 0, 'a', 4096));
	CHECK(fs_pool_holds(f, 4096, 'b', 904));
	CHECK_EQ(pml_file_write_back(f, page, 8192, 5000, NULL), 0);
	CHECK_EQ(pml_file_write_back(f, page, 4096, 8192, NULL), 0);
	CHECK_EQ(pml_inode_size(f), 5000);
	/* And what was dropped does not show up. */
	CHECK_EQ(pml_file_truncate(f, 12288, NULL), 0);
	CHECK(fs_pool_holds(f, 5000, 0, 7288));
	pml_inode_put(f, 1);
	teardown();
}

static void test_limits_are_refused(void)
{
	setup();
	struct pml_inode *f = new_file("f");
	static char buf[PML_IO_BYTES_MAX + 1];
	struct iovec iov[PML_IOV_MAX];
	int n;
	size_t got;
	CHECK_EQ(pml_file_write(f, buf, sizeof(buf), 0, false, NULL), -EINVAL);
	CHECK_EQ(pml_file_read_begin(f, 0, sizeof(buf), iov, &n, &got), -EINVAL);
	CHECK_EQ(pml_file_write(f, buf, 2, PML_FILE_BYTES_MAX - 1, false, NULL), -EFBIG);
	CHECK_EQ(pml_file_write(f, buf, 1, PML_FILE_BYTES_MAX - 1, false, NULL), 0);
	CHECK_EQ(pml_file_truncate(f, (uint64_t)PML_FILE_BYTES_MAX + 1, NULL), -EFBIG);
	CHECK_EQ(pml_file_allocate(f, 0, PML_FILE_BYTES_MAX, 1, NULL), -EFBIG);
	CHECK_EQ(pml_file_allocate(f, 0, 0, 0, NULL), -EINVAL);
	CHECK_EQ(pml_file_allocate(f, FALLOC_FL_COLLAPSE_RANGE, 0, 4096, NULL), -EOPNOTSUPP);
	CHECK_EQ(pml_file_write(root, buf, 1, 0, false, NULL), -EISDIR);
	CHECK_EQ(pml_file_truncate(root, 0, NULL), -EISDIR);
	pml_inode_put(f, 1);
	teardown();
}

static void test_a_clone_shares_blocks_and_a_write_unshares_them(void)
{
	setup();
	struct pml_inode *f = new_file("f"), *g = new_file("g");
	struct pml_fs_counts before, after;
	uint64_t done;
	CHECK_EQ(write_bytes(f, 0, 'a', 10 * 4096 + 7, NULL), 0);
	uint64_t free_before = free_blocks();
	CHECK_EQ(pml_file_clone(f, 0, g, 0, 1 << 20, NULL, &done), 0);
	CHECK_EQ(done, 10 * 4096 + 7);
	CHECK_EQ(pml_inode_size(g), 10 * 4096 + 7);
	CHECK_EQ(free_blocks(), free_before);
	pml_fs_counts(pool.fs, &before);
	CHECK_EQ(before.shared_blocks, 11);
	CHECK_EQ(write_bytes(g, 4096 + 10, 'b', 20, NULL), 0);
	pml_fs_counts(pool.fs, &after);
	CHECK_EQ(after.shared_blocks, 10);
	CHECK_EQ(after.used_blocks, before.used_blocks + 1);
	CHECK(fs_pool_holds(f, 0, 'a', 10 * 4096 + 7));
	CHECK(fs_pool_holds(g, 4096, 'a', 10));
	CHECK(fs_pool_holds(g, 4096 + 10, 'b', 20));
	CHECK(fs_pool_holds(g, 4096 + 30, 'a', 4066));
	/* Growing past a shared last block must not touch the other file. */
	CHECK_EQ(pml_file_truncate(g, 11 * 4096, NULL), 0);
	CHECK(fs_pool_holds(g, 10 * 4096 + 7, 0, 4089));
	CHECK_EQ(pml_file_truncate(f, 10 * 4096 + 100, NULL), 0);
	CHECK(fs_pool_holds(f, 10 * 4096 + 7, 0, 93));
	pml_inode_put(f, 1);
	pml_inode_put(g, 1);
	teardown();
}

static void test_overlapping_clone_inside_one_file_is_refused(void)
{
	setup();
	struct pml_inode *f = new_file("f");
	uint64_t done = 0;
	CHECK_EQ(write_bytes(f, 0, 'a', 8 * 4096, NULL), 0);
	CHECK_EQ(pml_file_clone(f, 0, f, 4096, 2 * 4096, NULL, &done), -EINVAL);
	CHECK_EQ(pml_file_clone(f, 0, f, 4 * 4096, 4 * 4096, NULL, &done), 0);
	CHECK_EQ(done, 4 * 4096);
	CHECK(fs_pool_holds(f, 0, 'a', 8 * 4096));
	CHECK_EQ(pml_file_clone(f, 9 * 4096, f, 0, 4096, NULL, &done), 0);
	CHECK_EQ(done, 0);
	pml_inode_put(f, 1);
	teardown();
}

static void test_thousands_of_clones_keep_the_counters_right(void)
{
	setup();
	struct pml_inode *f = new_file("f");
	uint64_t done, free_before;
	CHECK_EQ(write_bytes(f, 0, 'a', 2 * 4096, NULL), 0);
	free_before = free_blocks();
	for (int i = 0; i < 1500; i++) {
		char name[16];
		snprintf(name, sizeof(name), "c%d", i);
		struct pml_inode *g = new_file(name);
		CHECK_EQ(pml_file_clone(f, 0, g, 0, 2 * 4096, NULL, &done), 0);
		pml_inode_put(g, 1);
	}
	/* 1501 shares look like a pin (1024): a false positive, which must do no harm. */
	CHECK_EQ(free_blocks(), free_before);
	struct pml_fs_counts counts;
	pml_fs_counts(pool.fs, &counts);
	CHECK_EQ(counts.pinned_blocks, 0);
	CHECK_EQ(counts.quarantined_blocks, 0);
	CHECK_EQ(counts.shared_blocks, 2);
	struct pml_segment seg[4];
	size_t n;
	uint64_t end;
	CHECK_EQ(pml_file_pin(f, 0, 2 * 4096, PML_PIN_READ, seg, 4, &n, &end), 0);
	REQUIRE(n == 1);
	pml_fs_counts(pool.fs, &counts);
	CHECK_EQ(counts.pinned_blocks, 2);
	CHECK_EQ(counts.shared_blocks, 2);
	/* A write lease of one clone takes it out of the sharing (I5). */
	struct pml_inode *g;
	REQUIRE(pml_dir_lookup(root, "c7", &g) == 0);
	struct pml_segment wseg[4];
	size_t wn;
	CHECK_EQ(pml_file_pin(g, 0, 4096, PML_PIN_WRITE, wseg, 4, &wn, &end), 0);
	REQUIRE(wn == 1);
	CHECK(wseg[0].block != seg[0].block);
	pml_fs_unpin(pool.fs, &wseg[0]);
	pml_fs_unpin(pool.fs, &seg[0]);
	pml_inode_put(g, 1);
	for (int i = 0; i < 1500; i++) {
		char name[16];
		snprintf(name, sizeof(name), "c%d", i);
		CHECK_EQ(pml_dir_unlink(root, name), 0);
	}
	CHECK_EQ(free_blocks(), free_before);
	CHECK(fs_pool_holds(f, 0, 'a', 2 * 4096));
	pml_inode_put(f, 1);
	teardown();
}

/* I1, quarantine: unmapped but pinned blocks are neither free nor given out. */
static void test_pinned_blocks_outlive_their_file_in_quarantine(void)
{
	setup();
	uint64_t free_before = free_blocks();
	struct pml_inode *f = new_file("f");
	CHECK_EQ(write_bytes(f, 0, 'a', 16 * 4096, NULL), 0);
	struct pml_segment seg[4];
	size_t n;
	uint64_t end;
	CHECK_EQ(pml_file_pin(f, 4096, 8 * 4096, PML_PIN_READ, seg, 4, &n, &end), 0);
	REQUIRE(n == 1);
	CHECK_EQ(end, 9 * 4096);
	/* No guard is installed: the layout changes under the pin. */
	CHECK_EQ(pml_file_truncate(f, 0, NULL), 0);
	struct pml_fs_counts counts;
	pml_fs_counts(pool.fs, &counts);
	CHECK_EQ(counts.quarantined_blocks, 8);
	CHECK_EQ(counts.used_blocks, 0);
	CHECK_EQ(free_blocks(), free_before - 8);
	/* Fill the device: none of the quarantined blocks may be handed out. */
	struct pml_inode *g = new_file("g");
	uint64_t at = 0;
	while (write_bytes(g, at, 'b', 1 << 20, NULL) == 0)
		at += 1 << 20;
	for (size_t i = 0; i < seg[0].len_bytes; i++) {
		if (seg[0].addr[i] != 'a') {
			TAP_FAIL("byte %zu of a quarantined block was reused", i);
			break;
		}
	}
	pml_fs_unpin(pool.fs, &seg[0]);
	pml_fs_counts(pool.fs, &counts);
	CHECK_EQ(counts.quarantined_blocks, 0);
	CHECK_EQ(counts.pins, 0);
	CHECK_EQ(pml_dir_unlink(root, "f"), 0);
	CHECK_EQ(pml_dir_unlink(root, "g"), 0);
	pml_inode_put(f, 1);
	pml_inode_put(g, 1);
	teardown();
}

static void test_a_full_device_refuses_writes_and_still_frees(void)
{
	setup();
	struct pml_inode *f = new_file("f");
	uint64_t at = 0;
	int err;
	while ((err = write_bytes(f, at, 'x', 1 << 20, NULL)) == 0)
		at += 1 << 20;
	CHECK_EQ(err, -ENOSPC);
	CHECK_EQ(pml_inode_size(f), at);
	while ((err = write_bytes(f, at, 'x', 4096, NULL)) == 0)
		at += 4096;
	CHECK_EQ(err, -ENOSPC);
	CHECK_EQ(free_blocks(), 0);
	CHECK(fs_pool_holds(f, at - 4096, 'x', 4096));
	CHECK_EQ(pml_file_allocate(f, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 4096, 4096, NULL),
		 0);
	CHECK_EQ(free_blocks(), 1);
	CHECK_EQ(write_bytes(f, 4096, 'y', 4096, NULL), 0);
	CHECK_EQ(pml_file_truncate(f, 0, NULL), 0);
	CHECK(free_blocks() > at / 4096 - 10);
	CHECK_EQ(pml_file_allocate(f, 0, 0, (uint64_t)FS_POOL_BYTES * 2, NULL), -ENOSPC);
	CHECK_EQ(pml_inode_size(f), 0);
	pml_inode_put(f, 1);
	teardown();
}

static void test_seek_finds_data_and_holes(void)
{
	setup();
	struct pml_inode *f = new_file("f");
	uint64_t at = 0;
	CHECK_EQ(pml_file_seek(f, 0, SEEK_DATA, &at), -ENXIO);
	CHECK_EQ(write_bytes(f, 3 * 4096, 'a', 100, NULL), 0);
	CHECK_EQ(pml_file_allocate(f, 0, 10 * 4096, 4096, NULL), 0);
	CHECK_EQ(pml_file_seek(f, 0, SEEK_DATA, &at), 0);
	CHECK_EQ(at, 3 * 4096);
	CHECK_EQ(pml_file_seek(f, 3 * 4096 + 5, SEEK_DATA, &at), 0);
	CHECK_EQ(at, 3 * 4096 + 5);
	CHECK_EQ(pml_file_seek(f, 3 * 4096 + 5, SEEK_HOLE, &at), 0);
	CHECK_EQ(at, 4 * 4096);
	CHECK_EQ(pml_file_seek(f, 0, SEEK_HOLE, &at), 0);
	CHECK_EQ(at, 0);
	CHECK_EQ(pml_file_seek(f, 4 * 4096, SEEK_DATA, &at), -ENXIO);
	CHECK_EQ(pml_file_seek(f, 11 * 4096, SEEK_HOLE, &at), -ENXIO);
	pml_inode_put(f, 1);
	teardown();
}

/* What is left of a punch that could not go on, and of a zeroing. */
static void test_seek_takes_what_the_punch_marker_covers_for_holes(void)
{
	setup();
	struct pml_inode *f = new_file("f");
	uint64_t at = 0;
	CHECK_EQ(write_bytes(f, 0, 'a', 6 * 4096, NULL), 0);
	f->media->punch_first = 2;
	f->media->punch_end = 4;
	CHECK(fs_pool_holds(f, 2 * 4096, 0, 2 * 4096));
	CHECK_EQ(pml_file_seek(f, 0, SEEK_HOLE, &at), 0);
	CHECK_EQ(at, 2 * 4096);
	CHECK_EQ(pml_file_seek(f, 2 * 4096 + 1, SEEK_HOLE, &at), 0);
	CHECK_EQ(at, 2 * 4096 + 1);
	CHECK_EQ(pml_file_seek(f, 2 * 4096 + 1, SEEK_DATA, &at), 0);
	CHECK_EQ(at, 4 * 4096);
	CHECK_EQ(pml_file_seek(f, 4 * 4096, SEEK_HOLE, &at), 0);
	CHECK_EQ(at, 6 * 4096);
	f->media->punch_end = 6;
	CHECK_EQ(pml_file_seek(f, 2 * 4096, SEEK_DATA, &at), -ENXIO);
	f->media->punch_first = f->media->punch_end = 0;
	pml_inode_put(f, 1);
	teardown();
}

/* ---- leases' side ---- */

/* Device bytes whose cache lines have been flushed. */
static struct {
	const uint8_t *addr;
	size_t bytes;
	size_t n; /* of addr .. +bytes */
} flushed;

static void note_flushed(const void *addr, size_t bytes)
{
	const uint8_t *lo = PML_MAX((const uint8_t *)addr, flushed.addr);
	const uint8_t *hi = PML_MIN((const uint8_t *)addr + bytes, flushed.addr + flushed.bytes);
	flushed.n += lo < hi ? (size_t)(hi - lo) : 0;
}

/* The other file's fsync knows nothing of writers that it never had. */
static void test_what_remote_writers_left_is_durable_before_it_is_shared(void)
{
	setup();
	struct pml_inode *f = new_file("f"), *g = new_file("g"), *h = new_file("h");
	struct pml_segment segment;
	size_t n = 0;
	uint64_t end, bytes;
	bool is_same;
	CHECK_EQ(write_bytes(f, 0, 'a', 4 * 4096, NULL), 0);
	CHECK_EQ(write_bytes(h, 0, 'a', 4 * 4096, NULL), 0);
	pool.fs->info.is_cache_line = true;
	pool.fs->persist_fn = note_flushed;
	REQUIRE(pml_file_pin(f, 0, 4 * 4096, PML_PIN_WRITE, &segment, 1, &n, &end) == 0 && n == 1);
	flushed.addr = segment.addr;
	flushed.bytes = segment.len_bytes;
	pml_fs_unpin(pool.fs, &segment);

	CHECK_EQ(pml_file_clone(f, 0, g, 0, 2 * 4096, NULL, &bytes), 0);
	CHECK_EQ(flushed.n, 2 * 4096);
	flushed.n = 0;
	CHECK_EQ(pml_file_dedupe(f, 0, h, 0, 4 * 4096, NULL, &bytes, &is_same), 0);
	CHECK(is_same);
	CHECK_EQ(flushed.n, 4 * 4096);
	flushed.n = 0;
	CHECK_EQ(pml_dir_snapshot(root, root, "s", NULL), 0);
	CHECK_EQ(flushed.n, 4 * 4096);
	/* A file that none has written costs nothing. */
	flushed.n = 0;
	CHECK_EQ(pml_file_clone(h, 0, g, 0, 4 * 4096, NULL, &bytes), 0);
	CHECK_EQ(flushed.n, 0);
	pml_inode_put(f, 1);
	pml_inode_put(g, 1);
	pml_inode_put(h, 1);
	teardown();
}

/* I5, I6: what a write lease reaches is the file's alone, and zeros where it was a hole. */
static void test_a_write_pin_owns_and_zeroes_its_blocks(void)
{
	setup();
	/* Dirty the free space first, so that fresh blocks hold something foreign. */
	struct pml_inode *junk = new_file("junk");
	CHECK_EQ(write_bytes(junk, 0, 'J', 1 << 20, NULL), 0);
	CHECK_EQ(pml_file_truncate(junk, 0, NULL), 0);

	struct pml_inode *f = new_file("f"), *g = new_file("g");
	uint64_t done, end;
	CHECK_EQ(write_bytes(f, 0, 'a', 2 * 4096 + 50, NULL), 0);
	CHECK_EQ(pml_file_clone(f, 0, g, 0, 1 << 20, NULL, &done), 0);
	struct pml_segment seg[64];
	size_t n;
	CHECK_EQ(pml_file_pin(g, 0, 16 * 4096, PML_PIN_WRITE, seg, 64, &n, &end), 0);
	CHECK_EQ(end, 16 * 4096);
	uint64_t at = 0;
	for (size_t i = 0; i < n; i++) {
		CHECK_EQ(seg[i].first_byte, at);
		for (size_t b = 0; b < seg[i].len_bytes; b++) {
			uint8_t want = at + b < 2 * 4096 + 50 ? 'a' : 0;
			if (seg[i].addr[b] != want) {
				TAP_FAIL("byte %zu holds %d", at + b, seg[i].addr[b]);
				break;
			}
		}
		at += seg[i].len_bytes;
	}
	CHECK_EQ(at, 16 * 4096);
	CHECK_EQ(pml_inode_size(g), 2 * 4096 + 50);
	/* The remote writer fills block 5; nobody sees it before the commit. */
	memset(seg[0].addr, 'W', 4096);
	for (size_t i = 0; i < n; i++)
		if (seg[i].first_byte <= 5 * 4096 &&
		    seg[i].first_byte + seg[i].len_bytes > 5 * 4096)
			memset(seg[i].addr + (5 * 4096 - seg[i].first_byte), 'N', 4096);
	CHECK(fs_pool_holds(f, 0, 'a', 4096));
	CHECK_EQ(pml_file_commit(g, 0, 6 * 4096, 5 * 4096 + 1000, false, NULL), 0);
	CHECK_EQ(pml_inode_size(g), 5 * 4096 + 1000);
	CHECK(fs_pool_holds(g, 0, 'W', 4096));
	CHECK(fs_pool_holds(g, 2 * 4096 + 50, 0, 3 * 4096 - 50));
	CHECK(fs_pool_holds(g, 5 * 4096, 'N', 1000));
	for (size_t i = 0; i < n; i++)
		pml_fs_unpin(pool.fs, &seg[i]);
	pml_file_trim(g, 0, end);
	struct stat st;
	pml_inode_stat(g, &st);
	CHECK_EQ(st.st_blocks, 6 * 8);
	/* Uncommitted bytes behind the end never show. */
	CHECK_EQ(pml_file_truncate(g, 6 * 4096, NULL), 0);
	CHECK(fs_pool_holds(g, 5 * 4096 + 1000, 0, 3096));
	pml_inode_put(junk, 1);
	pml_inode_put(f, 1);
	pml_inode_put(g, 1);
	teardown();
}

static void test_a_read_pin_stops_at_the_end_and_skips_holes(void)
{
	setup();
	struct pml_inode *f = new_file("f");
	CHECK_EQ(write_bytes(f, 0, 'a', 4096, NULL), 0);
	CHECK_EQ(write_bytes(f, 3 * 4096, 'b', 10, NULL), 0);
	struct pml_segment seg[4];
	size_t n;
	uint64_t end;
	CHECK_EQ(pml_file_pin(f, 0, 1 << 20, PML_PIN_READ, seg, 4, &n, &end), 0);
	REQUIRE(n == 2);
	CHECK_EQ(end, 3 * 4096 + 10);
	CHECK_EQ(seg[0].len_bytes, 4096);
	CHECK_EQ(seg[1].first_byte, 3 * 4096);
	CHECK_EQ(seg[1].len_bytes, 10);
	for (size_t i = 0; i < n; i++)
		pml_fs_unpin(pool.fs, &seg[i]);
	/* One segment only fits: the grant ends where the second would begin. */
	CHECK_EQ(pml_file_pin(f, 0, 1 << 20, PML_PIN_READ, seg, 1, &n, &end), 0);
	CHECK_EQ(n, 1);
	CHECK_EQ(end, 3 * 4096);
	pml_fs_unpin(pool.fs, &seg[0]);
	CHECK_EQ(pml_file_pin(f, 3 * 4096 + 10, 1, PML_PIN_READ, seg, 4, &n, &end), -ENODATA);
	CHECK_EQ(pml_file_pin(f, 0, 0, PML_PIN_READ, seg, 4, &n, &end), -EINVAL);
	CHECK_EQ(pml_file_pin(root, 0, 1, PML_PIN_READ, seg, 4, &n, &end), -EINVAL);
	CHECK_EQ(pml_file_pin(f, UINT64_MAX - 5, 10, PML_PIN_READ, seg, 4, &n, &end), -EFBIG);
	pml_inode_put(f, 1);
	teardown();
}

/* ---- the guard ---- */

static struct {
	int answer;
	unsigned int asked[PML_OP_COUNT];
} fake;

static int fake_admit(void *guard, const struct pml_layout_change *change, struct pml_waiter *w)
{
	fake.asked[change->op]++;
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

/* I8: what the guard refuses has changed nothing. */
static void test_a_refused_operation_changes_nothing(void)
{
	setup();
	struct pml_inode *f = new_file("f"), *g = new_file("g");
	uint64_t done;
	CHECK_EQ(write_bytes(f, 0, 'a', 8 * 4096 + 100, NULL), 0);
	CHECK_EQ(pml_file_clone(f, 0, g, 0, 1 << 20, NULL, &done), 0);
	uint64_t free_before = free_blocks();
	pml_fs_set_guard(pool.fs, &fake_ops, NULL);
	const int answers[] = {-EBUSY, -EINPROGRESS, -EINTR};
	for (size_t i = 0; i < PML_ARRAY_LEN(answers); i++) {
		fake.answer = answers[i];
		CHECK_EQ(pml_file_truncate(f, 10, NULL), answers[i]);
		CHECK_EQ(pml_file_truncate(f, 9 * 4096, NULL), answers[i]);
		CHECK_EQ(pml_file_allocate(f, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 10, 9000,
					   NULL),
			 answers[i]);
		CHECK_EQ(write_bytes(f, 4096, 'b', 10, NULL), answers[i]);
		CHECK_EQ(write_bytes(f, 20 * 4096, 'b', 10, NULL), answers[i]);
		CHECK_EQ(pml_file_clone(f, 0, g, 4096, 4096, NULL, &done), answers[i]);
		CHECK_EQ(pml_file_allocate(f, 0, 12 * 4096, 4096, NULL), answers[i]);
	}
	CHECK_EQ(free_blocks(), free_before);
	CHECK_EQ(pml_inode_size(f), 8 * 4096 + 100);
	CHECK(fs_pool_holds(f, 0, 'a', 8 * 4096 + 100));
	CHECK(fs_pool_holds(g, 0, 'a', 8 * 4096 + 100));
	CHECK(fake.asked[PML_OP_TRUNCATE] && fake.asked[PML_OP_PUNCH] &&
	      fake.asked[PML_OP_UNSHARE] && fake.asked[PML_OP_CLONE_SRC]);
	pml_fs_set_guard(pool.fs, NULL, NULL);
	pml_inode_put(f, 1);
	pml_inode_put(g, 1);
	teardown();
}

/* Leases guard the layout, not the contents. */
static void test_overwriting_an_unshared_block_asks_nobody(void)
{
	setup();
	struct pml_inode *f = new_file("f");
	CHECK_EQ(write_bytes(f, 0, 'a', 8 * 4096, NULL), 0);
	pml_fs_set_guard(pool.fs, &fake_ops, NULL);
	fake.answer = -EBUSY;
	CHECK_EQ(write_bytes(f, 4096 + 5, 'b', 4096, NULL), 0);
	pml_fs_set_guard(pool.fs, NULL, NULL);
	CHECK(fs_pool_holds(f, 4096 + 5, 'b', 4096));
	pml_inode_put(f, 1);
	teardown();
}

/* I4: a growing commit may not take a shared last block from under a reader's lease. */
static void test_I4_a_growing_commit_asks_before_it_moves_a_shared_last_block(void)
{
	setup();
	struct pml_inode *f = new_file("f"), *g = new_file("g");
	struct pml_segment reader, writer, again;
	size_t n = 0;
	uint64_t done, end;
	CHECK_EQ(write_bytes(f, 0, 'a', 100, NULL), 0);
	CHECK_EQ(pml_file_clone(f, 0, g, 0, 100, NULL, &done), 0);
	REQUIRE(pml_file_pin(f, 0, 100, false, &reader, 1, &n, &end) == 0 && n == 1);
	REQUIRE(pml_file_pin(f, 4096, 4096, true, &writer, 1, &n, &end) == 0 && n == 1);
	memset(writer.addr, 'w', 4096);

	pml_fs_set_guard(pool.fs, &fake_ops, NULL);
	fake.answer = -EBUSY;
	CHECK_EQ(pml_file_commit(f, 4096, 4096, 2 * 4096, false, NULL), -EBUSY);
	CHECK_EQ(pml_file_commit(f, 4096, 4096, 0, false, NULL), 0); /* moves nothing */
	CHECK_EQ(pml_inode_size(f), 100);
	REQUIRE(pml_file_pin(f, 0, 100, false, &again, 1, &n, &end) == 0 && n == 1);
	CHECK_EQ(again.block, reader.block);
	pml_fs_unpin(pool.fs, &again);

	fake.answer = 0;
	CHECK_EQ(pml_file_commit(f, 4096, 4096, 2 * 4096, false, NULL), 0);
	pml_fs_set_guard(pool.fs, NULL, NULL);
	CHECK_EQ(pml_inode_size(f), 2 * 4096);
	CHECK(fs_pool_holds(f, 0, 'a', 100) && fs_pool_holds(f, 4096, 'w', 4096));
	CHECK(fs_pool_holds(f, 100, 0, 4096 - 100) && fs_pool_holds(g, 0, 'a', 100));
	pml_fs_unpin(pool.fs, &reader);
	pml_fs_unpin(pool.fs, &writer);
	pml_inode_put(f, 1);
	pml_inode_put(g, 1);
	teardown();
}

/* ---- random run ---- */

#define MODEL_FILES 3
#define MODEL_BYTES (96u * 4096)

struct model {
	unsigned char bytes[MODEL_BYTES];
	uint64_t size;
};

static struct model model[MODEL_FILES];
static struct pml_inode *file[MODEL_FILES];

static uint64_t below(uint64_t n)
{
	return (uint64_t)random() % n;
}

/* A random range, aligned in half of the cases. */
static void pick(uint64_t *first, uint64_t *len)
{
	*first = below(MODEL_BYTES - 1);
	*len = 1 + below(PML_MIN((uint64_t)MODEL_BYTES - *first, 20 * 4096u));
	if (below(2)) {
		*first = pml_round_down(*first, 4096);
		*len = PML_MIN(pml_round_up(*len, 4096), MODEL_BYTES - *first);
	}
}

static void model_grow(struct model *m, uint64_t size)
{
	if (size > m->size)
		m->size = size;
}

static void random_write(int i, uint64_t first, uint64_t len)
{
	static unsigned char buf[MODEL_BYTES];
	memset(buf, (int)(1 + below(255)), len);
	CHECK_EQ(pml_file_write(file[i], buf, len, first, false, NULL), 0);
	memcpy(model[i].bytes + first, buf, len);
	model_grow(&model[i], first + len);
}

static void random_truncate(int i, uint64_t size)
{
	CHECK_EQ(pml_file_truncate(file[i], size, NULL), 0);
	if (size < model[i].size)
		memset(model[i].bytes + size, 0, model[i].size - size);
	model[i].size = size;
}

static void random_clone(int i, uint64_t first, uint64_t len)
{
	int to = (int)below(MODEL_FILES);
	uint64_t at = below(MODEL_BYTES - len + 1);
	if (below(3))
		at = pml_round_down(at, 4096) + first % 4096 <= MODEL_BYTES - len
			     ? pml_round_down(at, 4096) + first % 4096
			     : first;
	if (to == i && first < at + len && at < first + len)
		return;
	uint64_t done = 0, n = 1;
	while (done < len && n > 0) {
		int err = pml_file_clone(file[i], first + done, file[to], at + done, len - done,
					 NULL, &n);
		CHECK_EQ(err, 0);
		if (err)
			return;
		done += n;
	}
	memmove(model[to].bytes + at, model[i].bytes + first, done);
	if (done)
		model_grow(&model[to], at + done);
}

/* A remote writer: pins, stores behind the filesystem's back, commits, returns. */
static void random_remote_write(int i, uint64_t first, uint64_t len)
{
	struct pml_segment seg[96];
	size_t n;
	uint64_t end;
	int byte = (int)(1 + below(255));
	bool does_commit = below(4) != 0;
	CHECK_EQ(pml_file_pin(file[i], first, len, PML_PIN_WRITE, seg, 96, &n, &end), 0);
	for (size_t k = 0; k < n; k++) {
		uint64_t from = PML_MAX(seg[k].first_byte, first);
		uint64_t to = PML_MIN(seg[k].first_byte + seg[k].len_bytes, first + len);
		if (!does_commit && to > model[i].size)
			from = PML_MAX(from, model[i].size); /* garbage past the end only */
		else if (!does_commit)
			continue;
		if (from < to)
			memset(seg[k].addr + (from - seg[k].first_byte), byte, to - from);
	}
	if (does_commit) {
		CHECK_EQ(pml_file_commit(file[i], first, len, first + len, false, NULL), 0);
		memset(model[i].bytes + first, byte, len);
		model_grow(&model[i], first + len);
	}
	for (size_t k = 0; k < n; k++)
		pml_fs_unpin(pool.fs, &seg[k]);
	if (below(2))
		pml_file_trim(file[i], first, end);
}

static void random_step(void)
{
	int i = (int)below(MODEL_FILES);
	uint64_t first, len;
	pick(&first, &len);
	switch (below(9)) {
	case 0:
	case 1:
		random_write(i, first, len);
		break;
	case 2:
		random_truncate(i, first);
		break;
	case 3:
		CHECK_EQ(pml_file_allocate(file[i], FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
					   first, len, NULL),
			 0);
		if (first < model[i].size)
			memset(model[i].bytes + first, 0, PML_MIN(len, model[i].size - first));
		break;
	case 4:
		CHECK_EQ(pml_file_allocate(file[i], 0, first, len, NULL), 0);
		model_grow(&model[i], first + len);
		break;
	case 5:
		CHECK_EQ(pml_file_allocate(file[i], FALLOC_FL_KEEP_SIZE, first, len, NULL), 0);
		break;
	case 6:
		random_remote_write(i, first, len);
		break;
	default:
		random_clone(i, first, len);
	}
}

static bool equals_model(int i)
{
	static unsigned char buf[MODEL_BYTES];
	if (pml_inode_size(file[i]) != model[i].size)
		return false;
	return fs_pool_read(file[i], 0, buf, MODEL_BYTES) == model[i].size &&
	       memcmp(buf, model[i].bytes, model[i].size) == 0;
}

static void open_files(bool create)
{
	root = fs_pool_root(&pool);
	for (int i = 0; i < MODEL_FILES; i++) {
		char name[2] = {(char)('a' + i), 0};
		if (create)
			file[i] = new_file(name);
		else
			CHECK_EQ(pml_dir_lookup(root, name, &file[i]), 0);
	}
}

static void close_files(void)
{
	for (int i = 0; i < MODEL_FILES; i++)
		pml_inode_put(file[i], 1);
	pml_inode_put(root, 1);
}

static void test_random_operations_equal_the_model(void)
{
	const char *env = getenv("PML_SEED");
	unsigned int seed = env ? (unsigned int)atoi(env) : (unsigned int)time(NULL);
	printf("# seed %u (PML_SEED)\n", seed);
	srandom(seed);
	fs_pool_make(&pool, FS_POOL_BYTES);
	uint64_t free_before = free_blocks();
	open_files(true);
	for (int step = 0; step < 6000 && !atomic_load(&tap_bad); step++) {
		char reason[PML_REASON_BYTES];
		random_step();
		for (int i = 0; i < MODEL_FILES; i++)
			if (!equals_model(i))
				TAP_FAIL("file %d differs after step %d", i, step);
		if (step % 500 == 0 && pml_fs_audit(pool.fs, NULL, NULL, reason))
			TAP_FAIL("step %d: %s", step, reason);
		if (step % 1000 == 999) {
			close_files();
			fs_pool_reopen(&pool);
			open_files(false);
		}
	}
	for (int i = 0; i < MODEL_FILES; i++) {
		char name[2] = {(char)('a' + i), 0};
		CHECK_EQ(pml_dir_unlink(root, name), 0);
	}
	close_files();
	CHECK_EQ(free_blocks(), free_before);
	fs_pool_remove(&pool);
}

int main(void)
{
	TAP_RUN(test_written_bytes_come_back_also_after_reopen);
	TAP_RUN(test_I6_bytes_are_durable_before_they_are_mapped);
	TAP_RUN(test_a_gap_behind_the_old_end_reads_as_zeros);
	TAP_RUN(test_pages_written_back_never_make_a_file_longer);
	TAP_RUN(test_limits_are_refused);
	TAP_RUN(test_a_clone_shares_blocks_and_a_write_unshares_them);
	TAP_RUN(test_overlapping_clone_inside_one_file_is_refused);
	TAP_RUN(test_thousands_of_clones_keep_the_counters_right);
	TAP_RUN(test_pinned_blocks_outlive_their_file_in_quarantine);
	TAP_RUN(test_a_full_device_refuses_writes_and_still_frees);
	TAP_RUN(test_seek_finds_data_and_holes);
	TAP_RUN(test_seek_takes_what_the_punch_marker_covers_for_holes);
	TAP_RUN(test_what_remote_writers_left_is_durable_before_it_is_shared);
	TAP_RUN(test_a_write_pin_owns_and_zeroes_its_blocks);
	TAP_RUN(test_a_read_pin_stops_at_the_end_and_skips_holes);
	TAP_RUN(test_a_refused_operation_changes_nothing);
	TAP_RUN(test_overwriting_an_unshared_block_asks_nobody);
	TAP_RUN(test_I4_a_growing_commit_asks_before_it_moves_a_shared_last_block);
	TAP_RUN(test_random_operations_equal_the_model);
	return tap_done();
}
