/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_cow.c -- writing a shared block of a file that is leased: the others step aside (I4, I5)
 *
 * A lease is a pin and an entry in a guard that refuses at once what would move it.  That the
 * holder's bytes and the file's are the same ones is seen through the segment's address.
 * Also the hints that say who shares a block, against the extents themselves.
 *
 * The random runs print their seed; PML_SEED=N repeats them.
 */
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <sys/wait.h>
#include <time.h>

#include "../../fs/counter.h"
#include "../../fs/inode.h"
#include "../../fs/itable.h"
#include "../../fs/pin.h"
#include "../../fs/sharers.h"
#include "../support/fs_failing.h"
#include "../support/fs_letters.h"

#define BLOCK 4096u
#define ZERO  FALLOC_FL_ZERO_RANGE
#define KEEP  FALLOC_FL_KEEP_SIZE
#define PUNCH (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE)

/* ---- leases ------------------------------------------------------------- */

#define SEGMENTS_MAX 64u

struct lease {
	struct pml_inode *inode;
	uint64_t first;
	uint64_t end;
	size_t nsegments;
	struct pml_segment segment[SEGMENTS_MAX];
};

static struct lease leases[4];
static size_t nleases;
/* What the guard was asked that was no probe, and refused. */
static _Atomic unsigned int nrefused;

static int admit(void *guard, const struct pml_layout_change *change, struct pml_waiter *w)
{
	uint64_t first = change->first_byte, end = change->end_byte;
	/* As lease/rules.c does. */
	if (change->op == PML_OP_UNSHARE) {
		first = pml_round_down(first, BLOCK);
		end = pml_round_up(end, BLOCK);
	}
	CHECK(!change->is_probe || !w);
	for (size_t i = 0; !change->writers_only && i < nleases; i++) {
		if (leases[i].inode->ino != change->ino || leases[i].first >= end ||
		    first >= leases[i].end)
			continue;
		nrefused += !change->is_probe;
		return -EBUSY;
	}
	return 0;
}

static bool may_be_leased(void *guard, uint64_t ino)
{
	for (size_t i = 0; i < nleases; i++)
		if (leases[i].inode->ino == ino)
			return true;
	return false;
}

static const struct pml_guard_ops guard_ops = {.admit = admit, .may_be_leased = may_be_leased};

static void lease(struct pml_inode *inode, uint64_t first_block, uint64_t nblocks)
{
	struct lease *l = &leases[nleases];
	uint64_t end;
	REQUIRE(nleases < PML_ARRAY_LEN(leases));
	l->inode = inode;
	l->first = first_block * BLOCK;
	l->end = (first_block + nblocks) * BLOCK;
	REQUIRE(pml_file_pin(inode, l->first, nblocks * BLOCK, false, l->segment, SEGMENTS_MAX,
			     &l->nsegments, &end) == 0);
	nleases++;
	pml_fs_set_guard(pool.fs, &guard_ops, NULL);
}

/* What a holder reads in the segment is what the file reads there. */
static bool is_of_file(struct pml_inode *inode, const struct pml_segment *s)
{
	unsigned char buf[BLOCK];
	for (uint64_t at = 0; at < s->len_bytes; at += BLOCK) {
		size_t n = fs_pool_read(inode, s->first_byte + at, buf,
					PML_MIN(s->len_bytes - at, (uint64_t)BLOCK));
		if (memcmp(buf, s->addr + at, n) != 0)
			return false;
	}
	return true;
}

static void check_leases(void)
{
	for (size_t i = 0; i < nleases; i++)
		for (size_t k = 0; k < leases[i].nsegments; k++)
			CHECK(is_of_file(leases[i].inode, &leases[i].segment[k]));
}

static void list_pins(void *arg, pml_audit_emit emit, void *audit)
{
	for (size_t i = 0; i < nleases; i++)
		for (size_t k = 0; k < leases[i].nsegments; k++)
			emit(audit, leases[i].segment[k].block, leases[i].segment[k].nblocks);
}

/* All counters agree with extents and pins (I1, I2). */
static void check_counters(void)
{
	char reason[PML_REASON_BYTES] = "";
	if (pml_fs_audit(pool.fs, list_pins, NULL, reason) != 0)
		TAP_FAIL("%s", reason);
}

static void end_leases(void)
{
	check_leases();
	for (size_t i = 0; i < nleases; i++)
		for (size_t k = 0; k < leases[i].nsegments; k++)
			pml_fs_unpin(pool.fs, &leases[i].segment[k]);
	nleases = 0;
	nrefused = 0;
	pml_fs_set_guard(pool.fs, NULL, NULL);
}

/* ---- helpers ------------------------------------------------------------ */

static int clone_at(struct pml_inode *src, uint64_t from, struct pml_inode *dst, uint64_t to,
		    uint64_t nblocks)
{
	uint64_t done;
	return pml_file_clone_blocks(src, from * BLOCK, dst, to * BLOCK, nblocks * BLOCK, NULL,
				     &done);
}

/* A new file that shares all of @src. */
static struct pml_inode *twin(struct pml_inode *src, const char *name)
{
	struct pml_inode *dst = new_file(name);
	uint64_t done;
	CHECK_EQ(pml_file_clone_blocks(src, 0, dst, 0, 0, NULL, &done), 0);
	return dst;
}

static void learn(void)
{
	CHECK_EQ(pml_sharers_learn(pool.fs), 0);
}

static void put(struct pml_inode *inode)
{
	pml_inode_put(inode, 1);
}

static void remove_file(struct pml_inode *inode, const char *name)
{
	CHECK_EQ(pml_dir_unlink(root, name), 0);
	put(inode);
}

/* The device block behind a file block; 0: none. */
static uint64_t block_of(struct pml_inode *inode, uint64_t file_block)
{
	struct pml_extent e;
	if (pml_extent_at(inode->fs, inode->media, file_block, file_block + 1, &e))
		BAIL_OUT("extents of inode %" PRIu64, inode->ino);
	return e.block;
}

static uint32_t shares_of(struct pml_inode *inode, uint64_t file_block)
{
	return pml_block_shares(inode->fs, block_of(inode, file_block));
}

/* ---- the others step aside ---------------------------------------------- */

static void test_a_clone_steps_aside_for_a_leased_file(void)
{
	begin();
	struct pml_inode *f = lettered("f", "abc"), *g = twin(f, "g");
	uint64_t b = block_of(f, 1);
	struct stat before, after;
	pml_inode_stat(g, &before);
	lease(f, 0, 3);
	CHECK_EQ(fill(f, BLOCK + 5, 'X', 10), 0);
	CHECK_EQ(nrefused, 0);
	CHECK_EQ(block_of(f, 1), b);
	CHECK(fs_pool_holds(f, BLOCK + 5, 'X', 10) && fs_pool_holds(f, BLOCK + 15, 'b', 100));
	CHECK(fs_pool_holds(g, BLOCK, 'b', BLOCK));
	CHECK_STR(letters_of(g), "abc");
	check_leases();
	CHECK_EQ(counts_now().used_blocks, 4);
	CHECK_EQ(counts_now().shared_blocks, 2);
	CHECK_EQ(counts_now().aside_blocks, 1);
	CHECK_EQ(counts_now().aside_refused, 0);
	/* Nobody sees that it has moved. */
	pml_inode_stat(g, &after);
	CHECK(memcmp(&before, &after, sizeof(before)) == 0);
	/* Now it is the file's own. */
	CHECK_EQ(fill(f, BLOCK, 'Y', BLOCK), 0);
	CHECK_EQ(counts_now().aside_blocks, 1);
	CHECK_STR(letters_of(f), "aYc");
	end_leases();
	put(f);
	put(g);
	reopen();
	end();
}

static void test_all_others_share_one_copy(void)
{
	begin();
	struct pml_inode *f = lettered("f", "abc"), *other[8];
	char name[8];
	for (unsigned int i = 0; i < 8; i++) {
		(void)snprintf(name, sizeof(name), "g%u", i);
		/* Clones of clones too. */
		other[i] = twin(i < 4 ? f : other[i - 4], name);
	}
	lease(f, 1, 1);
	CHECK_EQ(fill(f, BLOCK, 'X', BLOCK), 0);
	CHECK_EQ(shares_of(f, 1), 1);
	for (unsigned int i = 0; i < 8; i++) {
		CHECK_STR(letters_of(other[i]), "abc");
		CHECK_EQ(block_of(other[i], 1), block_of(other[0], 1));
	}
	CHECK_EQ(shares_of(other[0], 1), 8);
	CHECK_EQ(counts_now().used_blocks, 4);
	end_leases();
	/* The copy's sharers are known as well as the old block's were. */
	lease(other[3], 0, 3);
	CHECK_EQ(fill(other[3], BLOCK, 'Y', BLOCK), 0);
	CHECK_STR(letters_of(other[3]), "aYc");
	CHECK_STR(letters_of(other[7]), "abc");
	CHECK_STR(letters_of(f), "aXc");
	CHECK_EQ(counts_now().used_blocks, 5);
	CHECK_EQ(counts_now().aside_refused, 0);
	end_leases();
	put(f);
	for (unsigned int i = 0; i < 8; i++)
		put(other[i]);
	end();
}

static void test_runs_end_where_extents_and_sharers_change(void)
{
	begin();
	/* Written backwards, so no two blocks adjoin. */
	struct pml_inode *f = new_file("f"), *g = new_file("g"), *h = new_file("h");
	for (int i = 15; i >= 0; i--)
		CHECK_EQ(fill(f, (uint64_t)i * BLOCK, 'a' + i, BLOCK), 0);
	struct pml_inode *whole = lettered("whole", "ABCDEFGHIJKLMNOP");
	CHECK_EQ(clone_at(f, 0, g, 3, 16), 0);
	CHECK_EQ(clone_at(f, 4, h, 0, 5), 0);
	CHECK_EQ(clone_at(whole, 2, g, 20, 6), 0);
	CHECK_EQ(clone_at(whole, 5, h, 7, 8), 0);
	lease(f, 0, 16);
	CHECK_EQ(fill(f, 100, 'X', 15 * BLOCK), 0);
	CHECK_EQ(nrefused, 0);
	CHECK_STR(letters_of(f), "aXXXXXXXXXXXXXXX");
	CHECK_STR(letters_of(g), "...abcdefghijklmnop.CDEFGH");
	CHECK_EQ(shares_of(f, 0) + shares_of(f, 5) + shares_of(f, 15), 3);
	CHECK_EQ(block_of(g, 7), block_of(h, 0));
	end_leases();
	lease(whole, 0, 16);
	CHECK_EQ(fill(whole, BLOCK, 'X', 13 * BLOCK), 0);
	CHECK_EQ(nrefused, 0);
	CHECK_STR(letters_of(whole), "AXXXXXXXXXXXXXOP");
	CHECK_STR(letters_of(g), "...abcdefghijklmnop.CDEFGH");
	CHECK_STR(letters_of(h), "efghi..FGHIJKLM");
	CHECK_EQ(counts_now().aside_refused, 0);
	end_leases();
	put(f);
	put(g);
	put(h);
	put(whole);
	reopen();
	end();
}

/* A run longer than a region of hints, and than one extent is. */
static void test_a_large_write_and_many_small_ones(void)
{
	begin();
	struct pml_inode *f = new_file("f");
	CHECK_EQ(fill(f, 0, 'a', 1 << 20), 0);
	CHECK_EQ(fill(f, 1 << 20, 'b', 1 << 20), 0);
	struct pml_inode *g = twin(f, "g");
	lease(f, 0, 512);
	CHECK_EQ(fill(f, 5, 'X', 1 << 20), 0);
	for (uint64_t i = 300; i < 400; i += 3)
		CHECK_EQ(fill(f, i * BLOCK, 'Y', 1), 0);
	CHECK_EQ(nrefused, 0);
	CHECK_EQ(counts_now().aside_blocks, 257 + 34);
	CHECK(fs_pool_holds(g, 0, 'a', 1 << 20) && fs_pool_holds(g, 1 << 20, 'b', 1 << 20));
	CHECK(fs_pool_holds(f, 5, 'X', 1 << 20) && fs_pool_holds(f, 300 * BLOCK, 'Y', 1));
	end_leases();
	put(f);
	put(g);
	end();
}

/* Each operation that copies a shared block on its way. */
static void test_every_operation_lets_them_step_aside(void)
{
	begin();
	struct pml_inode *f = lettered("f", "abcdef");
	CHECK_EQ(pml_file_truncate(f, 6 * BLOCK - 1000, NULL), 0);
	struct pml_inode *g = twin(f, "g");
	uint64_t b[6];
	for (uint64_t i = 0; i < 6; i++)
		b[i] = block_of(f, i);
	lease(f, 0, 6);
	leases[0].end = 6 * BLOCK - 1000;
	uint64_t done;
	CHECK_EQ(pml_file_unshare(f, 0, BLOCK, NULL), 0);
	CHECK_EQ(shares_of(f, 0), 1);
	CHECK_EQ(pml_file_allocate(f, PUNCH, BLOCK + 10, 20, NULL), 0);
	CHECK(fs_pool_holds(f, BLOCK + 10, 0, 20) && fs_pool_holds(f, BLOCK + 30, 'b', 100));
	CHECK_EQ(pml_file_allocate(f, ZERO, 2 * BLOCK + 10, 20, NULL), 0);
	CHECK_EQ(pml_file_write_back(f, "X", 1, 3 * BLOCK, NULL), 0);
	CHECK_EQ(nrefused, 0);
	CHECK_EQ(counts_now().aside_blocks, 4);
	/* The last block, in each way that a file grows. */
	CHECK_EQ(pml_file_truncate(f, 6 * BLOCK + 1, NULL), 0);
	CHECK_EQ(shares_of(f, 5), 1);
	CHECK(fs_pool_holds(f, 6 * BLOCK - 1000, 0, 1001));
	for (uint64_t i = 0; i < 6; i++)
		CHECK_EQ(block_of(f, i), b[i]);
	CHECK_STR(letters_of(g), "abcdef");
	CHECK_STR(letters_of(f), "abcXef.");
	end_leases();
	static const int modes[] = {0, ZERO};
	struct pml_inode *donor = lettered("donor", "zz");
	for (unsigned int how = 0; how < 6; how++) {
		CHECK_EQ(pml_file_truncate(f, 0, NULL), 0);
		CHECK_EQ(clone_at(g, 0, f, 0, 5), 0);
		CHECK_EQ(pml_file_truncate(f, 4 * BLOCK + 100, NULL), 0);
		uint64_t tail = block_of(f, 4), size = pml_inode_size(f);
		CHECK_EQ(shares_of(f, 4), 2);
		lease(f, 0, 5);
		leases[0].end = size;
		switch (how) {
		case 0:
		case 1:
			CHECK_EQ(pml_file_allocate(f, modes[how], 5 * BLOCK, BLOCK, NULL), 0);
			break;
		case 2:
			CHECK_EQ(fill(f, 7 * BLOCK, 'w', 10), 0);
			break;
		case 3:
			CHECK_EQ(pml_file_write(f, "append", 6, 0, true, NULL), 0);
			break;
		case 4:
			CHECK_EQ(clone_at(donor, 0, f, 6, 2), 0);
			break;
		default:
			CHECK_EQ(pml_file_commit(f, 0, BLOCK, 5 * BLOCK, false, NULL), 0);
		}
		CHECK_EQ(nrefused, 0);
		CHECK_EQ(block_of(f, 4), tail);
		CHECK_EQ(shares_of(f, 4), 1);
		CHECK(pml_inode_size(f) > size);
		CHECK(fs_pool_holds(g, 4 * BLOCK, 'e', BLOCK));
		end_leases();
	}
	CHECK_EQ(pml_file_clone(donor, 0, f, 100, 10, NULL, &done), 0);
	put(f);
	put(g);
	put(donor);
	end();
}

static void test_the_sharers_own_changes_are_followed(void)
{
	begin();
	learn();
	struct pml_inode *f = lettered("f", "abcdefgh");
	struct pml_inode *g = twin(f, "g"), *h = twin(f, "h"), *i = twin(f, "i");
	CHECK_EQ(pml_file_collapse(g, BLOCK, BLOCK, NULL), 0);
	CHECK_EQ(pml_file_insert(g, 3 * BLOCK, 2 * BLOCK, NULL), 0);
	CHECK_EQ(fill(g, 0, 'A', BLOCK), 0);
	CHECK_EQ(pml_file_insert(h, 0, 3 * BLOCK, NULL), 0);
	CHECK_EQ(pml_file_allocate(h, PUNCH, 5 * BLOCK, BLOCK, NULL), 0);
	CHECK_EQ(pml_file_truncate(h, 9 * BLOCK, NULL), 0);
	CHECK_EQ(pml_file_allocate(i, ZERO, 4 * BLOCK, BLOCK, NULL), 0);
	struct pml_inode *dir = fs_pool_create(root, "dir", S_IFDIR | 0755);
	CHECK_EQ(pml_dir_link(dir, "g", g), 0);
	CHECK_EQ(pml_dir_snapshot(dir, root, "snap", NULL), 0);
	CHECK_STR(letters_of(g), "Acd..efgh");
	CHECK_STR(letters_of(h), "...ab.def");
	CHECK_STR(letters_of(i), "abcd.fgh");
	for (int pass = 0; pass < 2; pass++) {
		/* The second time what there is after a mount. */
		uint64_t f_ino = f->ino;
		if (pass) {
			put(f);
			put(g);
			put(h);
			put(i);
			put(dir);
			reopen();
			REQUIRE(pml_inode_get(pool.fs, f_ino, &f) == 0);
			REQUIRE(pml_dir_lookup(root, "g", &g) == 0);
			REQUIRE(pml_dir_lookup(root, "h", &h) == 0);
			REQUIRE(pml_dir_lookup(root, "i", &i) == 0);
			REQUIRE(pml_dir_lookup(root, "dir", &dir) == 0);
		}
		lease(f, 0, 8);
		/* The first blocks now, the others after the mount. */
		for (uint64_t b = pass ? 4 : 0; b < (pass ? 8u : 4u); b++) {
			CHECK_EQ(fill(f, b * BLOCK, 'X', BLOCK), 0);
			CHECK_EQ(shares_of(f, b), 1);
		}
		CHECK_EQ(nrefused, 0);
		CHECK_EQ(counts_now().aside_refused, 0);
		end_leases();
		CHECK_STR(letters_of(g), "Acd..efgh");
		CHECK_STR(letters_of(h), "...ab.def");
		CHECK_STR(letters_of(i), "abcd.fgh");
	}
	CHECK_STR(letters_of(f), "XXXXXXXX");
	put(f);
	put(g);
	put(h);
	put(i);
	put(dir);
	end();
}

static void test_deleted_files_that_are_open_are_sharers(void)
{
	begin();
	struct pml_inode *f = lettered("f", "abc");
	struct pml_inode *g = twin(f, "g"), *h = twin(f, "h");
	CHECK_EQ(pml_dir_unlink(root, "g"), 0);
	lease(f, 0, 3);
	CHECK_EQ(fill(f, 0, 'X', BLOCK), 0);
	CHECK_STR(letters_of(g), "abc");
	CHECK_EQ(block_of(g, 0), block_of(h, 0));
	put(g);
	remove_file(h, "h");
	/* Nobody shares it any more. */
	CHECK_EQ(fill(f, BLOCK, 'Y', BLOCK), 0);
	CHECK_EQ(counts_now().aside_blocks, 1);
	CHECK_EQ(nrefused, 0);
	CHECK_EQ(counts_now().used_blocks, 3);
	end_leases();
	put(f);
	end();
}

/* A sharer that nobody else refers to is brought into core, and let go again. */
static void test_sharers_that_nobody_has_open(void)
{
	begin();
	struct pml_inode *f = lettered("f", "abc"), *g = twin(f, "g");
	put(g);
	lease(f, 0, 3);
	CHECK_EQ(fill(f, 0, 'X', BLOCK), 0);
	CHECK_EQ(nrefused, 0);
	end_leases();
	REQUIRE(pml_dir_lookup(root, "g", &g) == 0);
	CHECK_STR(letters_of(g), "abc");
	put(g);
	put(f);
	end();
}

/* ---- where they do not -------------------------------------------------- */

/* The write is refused, as without all this, and has changed nothing (I8). */
static void check_refused(struct pml_inode *f, uint64_t first, size_t len)
{
	struct pml_fs_counts before = counts_now();
	uint64_t digest = fs_digest(pool.fs);
	nrefused = 0;
	CHECK_EQ(fill(f, first, 'R', len), -EBUSY);
	CHECK_EQ(nrefused, 1);
	CHECK(fs_digest(pool.fs) == digest);
	CHECK_EQ(counts_now().used_blocks, before.used_blocks);
	CHECK_EQ(counts_now().shared_blocks, before.shared_blocks);
	CHECK_EQ(counts_now().aside_blocks, before.aside_blocks);
	CHECK_EQ(counts_now().aside_refused, before.aside_refused + 1);
	check_counters();
	check_leases();
}

static void test_a_lease_on_both_is_the_policys_to_decide(void)
{
	begin();
	struct pml_inode *f = lettered("f", "abcd"), *g = twin(f, "g"), *h = twin(f, "h");
	lease(f, 0, 2);
	lease(g, 1, 2);
	check_refused(f, BLOCK, BLOCK);
	CHECK_STR(letters_of(f), "abcd");
	/* Block by block: the first is the others' to leave, the third is the file's. */
	uint64_t b = block_of(f, 0);
	CHECK_EQ(fill(f, 0, 'X', BLOCK), 0);
	CHECK_EQ(block_of(f, 0), b);
	CHECK_EQ(fill(f, 2 * BLOCK, 'Z', BLOCK), 0);
	CHECK_EQ(block_of(g, 2), leases[1].segment[0].block + 1);
	CHECK_STR(letters_of(f), "XbZd");
	CHECK_STR(letters_of(g), "abcd");
	CHECK_STR(letters_of(h), "abcd");
	end_leases();
	/* In one write: one block is pinned for each of two files. */
	struct pml_inode *k = lettered("k", "mn"), *l = twin(k, "l");
	lease(k, 0, 1);
	lease(l, 1, 1);
	CHECK_EQ(fill(k, 0, 'X', 2 * BLOCK), 0);
	CHECK_STR(letters_of(k), "XX");
	CHECK_STR(letters_of(l), "mn");
	CHECK_EQ(nrefused, 0);
	end_leases();
	put(f);
	put(g);
	put(h);
	put(k);
	put(l);
	end();
}

static void test_more_sharers_than_eight_stay(void)
{
	begin();
	struct pml_inode *f = lettered("f", "abc"), *other[9];
	char name[8];
	for (unsigned int i = 0; i < 9; i++) {
		(void)snprintf(name, sizeof(name), "g%u", i);
		other[i] = twin(f, name);
	}
	lease(f, 0, 3);
	check_refused(f, 0, BLOCK);
	/* The ninth was one too many to be noted: with eight it is not known... */
	remove_file(other[0], "g0");
	check_refused(f, 0, BLOCK);
	end_leases();
	uint64_t ino = f->ino;
	put(f);
	for (unsigned int i = 1; i < 9; i++)
		put(other[i]);
	/* ... before the next mount has learnt anew. */
	reopen();
	REQUIRE(pml_inode_get(pool.fs, ino, &f) == 0);
	lease(f, 0, 3);
	CHECK_EQ(fill(f, 0, 'X', BLOCK), 0);
	CHECK_EQ(nrefused, 0);
	end_leases();
	put(f);
	end();
}

static void test_a_file_that_maps_a_block_twice(void)
{
	begin();
	struct pml_inode *f = lettered("f", "abc"), *g = new_file("g");
	CHECK_EQ(clone_at(f, 0, f, 5, 1), 0);
	lease(f, 0, 3);
	check_refused(f, 0, BLOCK);
	/* Another one may. */
	CHECK_EQ(clone_at(f, 1, g, 0, 1), 0);
	CHECK_EQ(clone_at(f, 1, g, 3, 1), 0);
	CHECK_EQ(clone_at(f, 2, g, 4, 1), 0);
	CHECK_EQ(fill(f, BLOCK, 'X', 2 * BLOCK), 0);
	CHECK_STR(letters_of(f), "aXX..a");
	CHECK_STR(letters_of(g), "b..bc");
	CHECK_EQ(block_of(g, 0), block_of(g, 3));
	CHECK_EQ(shares_of(g, 0), 2);
	end_leases();
	put(f);
	put(g);
	end();
}

static void test_sharers_that_are_not_known_stay(void)
{
	begin();
	struct pml_inode *f = lettered("f", "abc"), *g = twin(f, "g"), *h = lettered("h", "xyz");
	lease(f, 0, 3);
	learn();
	struct pml_extent e = {.block = block_of(f, 1), .file_block = 1, .nblocks = 1};
	pml_sharers_drop(pool.fs, g->media, &e);
	check_refused(f, BLOCK, BLOCK);
	pml_sharers_note(pool.fs, g->ino, g->media, &e);
	/* A wrong hint is found out, whoever it names, and forgotten. */
	pml_sharers_note(pool.fs, h->ino, h->media, &e);
	pml_sharers_note(pool.fs, root->ino, root->media, &e);
	struct pml_media_inode nobody;
	pml_sharers_note(pool.fs, 200, &nobody, &e);
	CHECK_EQ(fill(f, BLOCK, 'X', BLOCK), 0);
	CHECK_STR(letters_of(f), "aXc");
	CHECK_STR(letters_of(g), "abc");
	CHECK_STR(letters_of(h), "xyz");
	end_leases();
	put(f);
	put(g);
	put(h);
	end();
}

static void test_without_space_the_policy_decides(void)
{
	begin();
	struct pml_inode *f = lettered("f", "abc"), *g = twin(f, "g"), *full = new_file("full");
	uint64_t at = 0;
	for (size_t len = 1 << 20; len >= BLOCK; len = len > BLOCK ? BLOCK : 0)
		while (fill(full, at, 'f', len) == 0)
			at += len;
	lease(f, 0, 3);
	check_refused(f, BLOCK, BLOCK);
	CHECK_STR(letters_of(g), "abc");
	CHECK_EQ(pml_file_truncate(full, 0, NULL), 0);
	CHECK_EQ(fill(f, BLOCK, 'X', BLOCK), 0);
	end_leases();
	put(f);
	put(g);
	put(full);
	end();
}

/* What concerns no lease of the file takes no other way than before. */
static void test_without_a_lease_of_its_own_the_file_moves(void)
{
	begin();
	struct pml_inode *f = lettered("f", "abc"), *g = twin(f, "g");
	uint64_t b = block_of(g, 1);
	lease(g, 0, 3);
	CHECK_EQ(fill(f, BLOCK, 'X', BLOCK), 0);
	CHECK_EQ(block_of(g, 1), b);
	lease(f, 2, 1);
	leases[1].first = leases[1].end = 0; /* leased elsewhere, and it has not moved */
	CHECK_EQ(fill(f, 0, 'Y', BLOCK), 0);
	CHECK_EQ(block_of(g, 0), leases[0].segment[0].block);
	CHECK_EQ(counts_now().aside_blocks + counts_now().aside_refused, 0);
	end_leases();
	put(f);
	put(g);
	end();
}

/* ---- failures and deaths ------------------------------------------------ */

/* Two files share all of f, whose middle is fragmented; all three are fragmented. */
static struct pml_inode *f0, *g0, *h0;

static void make_sharers(void)
{
	f0 = new_file("f");
	for (int i = 11; i >= 0; i--)
		CHECK_EQ(fill(f0, (uint64_t)i * BLOCK, 'a' + i, BLOCK), 0);
	g0 = twin(f0, "g");
	h0 = new_file("h");
	CHECK_EQ(clone_at(f0, 0, h0, 1, 12), 0);
}

static void put_sharers(void)
{
	put(f0);
	put(g0);
	put(h0);
}

static void sweep_failures(bool once)
{
	begin();
	make_sharers();
	lease(f0, 0, 12);
	fails_once = once;
	unsigned int from = 0;
	for (;;) {
		uint64_t aside = counts_now().aside_blocks;
		arm(++from);
		int err = fill(f0, 3 * BLOCK, 'X', BLOCK);
		bool fired = disarm();
		CHECK_STR(letters_of(g0), "abcdefghijkl");
		CHECK_STR(letters_of(h0), ".abcdefghijkl");
		check_leases();
		check_counters();
		if (err == 0) {
			CHECK(!fired);
			break;
		}
		CHECK_EQ(err, -EBUSY);
		CHECK_STR(letters_of(f0), "abcdefghijkl");
		CHECK_EQ(counts_now().aside_blocks, aside);
		CHECK_EQ(counts_now().used_blocks, 12);
	}
	CHECK(from > 3);
	CHECK_EQ(counts_now().aside_blocks, 1);
	CHECK_EQ(counts_now().aside_refused, from - 1);
	CHECK_STR(letters_of(f0), "abcXefghijkl");
	printf("# %u places\n", from - 1);
	fails_once = false;
	end_leases();
	put_sharers();
	end();
}

static void test_what_fails_changes_nothing(void)
{
	sweep_failures(false);
	sweep_failures(true);
}

static uint64_t victims[3];

/* Never returns. */
static void die_inside(unsigned int at)
{
	if (fs_pool_try_open(&pool) || pml_inode_get(pool.fs, victims[0], &f0))
		_Exit(1);
	lease(f0, 0, 12);
	calls = 0;
	die_at = at;
	_Exit(fill(f0, 3 * BLOCK, 'X', 4 * BLOCK) ? 2 : 0);
}

static void find_sharers(void)
{
	REQUIRE(pml_inode_get(pool.fs, victims[0], &f0) == 0);
	REQUIRE(pml_inode_get(pool.fs, victims[1], &g0) == 0);
	REQUIRE(pml_inode_get(pool.fs, victims[2], &h0) == 0);
}

/* Every block's move has happened or not; what is written comes after all of them. */
static void test_a_death_at_any_place_leaves_each_move_whole(void)
{
	begin();
	make_sharers();
	victims[0] = f0->ino;
	victims[1] = g0->ino;
	victims[2] = h0->ino;
	put_sharers();
	put(root);
	unsigned int died = 0, moved = 0;
	for (unsigned int at = 1;; at++) {
		fs_pool_close(&pool);
		pid_t pid = fork();
		if (pid == 0)
			die_inside(at);
		int status = -1;
		REQUIRE(waitpid(pid, &status, 0) == pid && WIFEXITED(status));
		REQUIRE(fs_pool_try_open(&pool) == 0);
		CHECK_STR(fs_check(pool.fs), "");
		find_sharers();
		CHECK_STR(letters_of(g0), "abcdefghijkl");
		CHECK_STR(letters_of(h0), ".abcdefghijkl");
		bool is_done = WEXITSTATUS(status) != 42;
		CHECK_STR(letters_of(f0), is_done ? "abcXXXXhijkl" : "abcdefghijkl");
		unsigned int alone = 0;
		for (uint64_t b = 3; b < 7; b++) {
			alone += shares_of(f0, b) == 1;
			CHECK(shares_of(f0, b) == 1 || shares_of(f0, b) == 3);
			CHECK_EQ(block_of(g0, b), block_of(h0, b + 1));
			CHECK((block_of(f0, b) == block_of(g0, b)) == (shares_of(f0, b) == 3));
		}
		CHECK_EQ(counts_now().used_blocks, 12 + alone);
		moved = PML_MAX(moved, alone);
		put_sharers();
		if (is_done) {
			CHECK_EQ(WEXITSTATUS(status), 0);
			break;
		}
		died++;
		/* What happened stays: the rest of it is the next one's. */
	}
	printf("# %u deaths\n", died);
	CHECK(died > 8);
	CHECK_EQ(moved, 4);
	root = fs_pool_root(&pool);
	end();
}

/* ---- hints against extents ---------------------------------------------- */

#define FILES	   4u
#define FILE_LIMIT 300u /* blocks */

struct truth {
	struct pml_inode *file[FILES];
	size_t nblocks;
	uint32_t *shares;
	/* Once mapped twice by one file, and in use since: hints may be missing. */
	bool *was_twice;
};

static bool hint_is_true(struct truth *t, uint64_t block, const struct pml_sharer *s)
{
	for (unsigned int i = 0; i < FILES; i++)
		if (t->file[i]->ino == s->ino)
			return block_of(t->file[i], s->file_block) == block;
	return false;
}

static void look_twice(struct truth *t)
{
	memset(t->shares, 0, t->nblocks * sizeof(t->shares[0]));
	for (unsigned int i = 0; i < FILES; i++)
		for (uint64_t fb = 0; fb < FILE_LIMIT; fb++) {
			uint64_t b = block_of(t->file[i], fb);
			if (!b)
				continue;
			t->shares[b]++;
			for (uint64_t k = 0; k < fb; k++)
				t->was_twice[b] |= block_of(t->file[i], k) == b;
		}
	for (uint64_t b = 0; b < t->nblocks; b++)
		t->was_twice[b] &= t->shares[b] > 0;
}

static void check_hints(struct truth *t)
{
	look_twice(t);
	for (uint64_t b = 1; b < t->nblocks; b++) {
		struct pml_sharer sharer[16];
		uint64_t n = 1;
		size_t count = pml_sharers_at(pool.fs, b, &n, sharer, 16);
		for (size_t i = 0; i < count && i < 16; i++)
			CHECK(hint_is_true(t, b, &sharer[i]));
		CHECK(count <= t->shares[b]);
		if (t->shares[b] > 1 && !t->was_twice[b])
			CHECK_EQ(count, t->shares[b]);
	}
}

static void change_something(struct truth *t, unsigned int *seed)
{
#define BELOW(n) ((unsigned int)rand_r(seed) % (unsigned int)(n))
	struct pml_inode *f = t->file[BELOW(FILES)], *g = t->file[BELOW(FILES)];
	uint64_t first = BELOW(40), n = 1 + BELOW(12), done;
	bool is_same;
	int err;
	switch (BELOW(9)) {
	case 0:
	case 1:
		err = fill(f, first * BLOCK, 'a' + (int)BELOW(3), n * BLOCK);
		break;
	case 2:
	case 3:
		err = clone_at(f, first, g, BELOW(4) ? first : BELOW(40), n);
		break;
	case 4:
		err = pml_file_truncate(f, first * BLOCK, NULL);
		break;
	case 5:
		err = pml_file_allocate(f, BELOW(2) ? PUNCH : ZERO | KEEP, first * BLOCK, n * BLOCK,
					NULL);
		break;
	case 6:
		err = pml_file_collapse(f, first * BLOCK, n * BLOCK, NULL);
		break;
	case 7:
		err = pml_inode_size(f) < 60 * BLOCK
			      ? pml_file_insert(f, first * BLOCK, n * BLOCK, NULL)
			      : 0;
		break;
	default:
		err = pml_file_dedupe(f, first * BLOCK, g, first * BLOCK, n * BLOCK, NULL, &done,
				      &is_same);
	}
#undef BELOW
	CHECK(err == 0 || err == -EINVAL);
}

static void test_hints_say_what_extents_say(void)
{
	begin();
	const char *given = getenv("PML_SEED");
	unsigned int seed =
		given ? (unsigned int)strtoul(given, NULL, 10) : (unsigned int)time(NULL);
	printf("# seed %u\n", seed);
	struct truth t = {.nblocks = pool.fs->nblocks};
	t.shares = calloc(t.nblocks, sizeof(t.shares[0]));
	t.was_twice = calloc(t.nblocks, sizeof(t.was_twice[0]));
	static const char *const names[FILES] = {"a", "b", "c", "d"};
	for (unsigned int i = 0; i < FILES; i++)
		t.file[i] = new_file(names[i]);
	learn();
	for (unsigned int round = 0; round < 200; round++) {
		change_something(&t, &seed);
		check_hints(&t);
		if (round == 100) {
			for (unsigned int i = 0; i < FILES; i++)
				put(t.file[i]);
			reopen();
			for (unsigned int i = 0; i < FILES; i++)
				REQUIRE(pml_dir_lookup(root, names[i], &t.file[i]) == 0);
			CHECK_EQ(pml_sharers_count(pool.fs), 0);
			learn();
			/* Now all are known. */
			memset(t.was_twice, 0, t.nblocks * sizeof(t.was_twice[0]));
			for (uint64_t b = 1; b < t.nblocks; b++) {
				struct pml_sharer sharer;
				uint64_t n = 1;
				size_t count = pml_sharers_at(pool.fs, b, &n, &sharer, 1);
				uint32_t shares = pml_block_shares(pool.fs, b);
				CHECK_EQ(count,
					 shares > 1 && shares <= PML_SHARERS_MAX ? shares : 0);
			}
		}
	}
	for (unsigned int i = 0; i < FILES; i++)
		remove_file(t.file[i], names[i]);
	CHECK_EQ(pml_sharers_count(pool.fs), 0);
	free(t.shares);
	free(t.was_twice);
	end();
}

/* I9: hints are bounded, and what is not noted any more is only not known. */
static void test_hints_are_bounded(void)
{
	begin();
	struct pml_inode *f = new_file("f"), *g = new_file("g");
	/* Each block of one region on a line of its own, again and again. */
	CHECK_EQ(fill(f, 0, 'a', 128 * BLOCK), 0);
	uint64_t first = pml_round_up(block_of(f, 0), 128);
	struct pml_media_inode nobody[64];
	learn();
	CHECK_EQ(clone_at(f, 0, g, 0, 128), 0);
	for (uint64_t i = 0; i < 64; i++)
		for (uint64_t b = 0; b < 32; b++) {
			struct pml_extent e = {
				.block = first + b,
				.file_block = 1000 * b,
				.nblocks = 1,
			};
			/* Of blocks that are shared: they stay. */
			if (pml_block_shares(pool.fs, e.block) == 2)
				pml_sharers_note(pool.fs, 500 + i, &nobody[i], &e);
		}
	uint64_t n = pml_sharers_count(pool.fs);
	CHECK(n >= PML_SHARERS_REGION_MAX && n <= PML_SHARERS_REGION_MAX + 2 * 2);
	/* The first ones to be noted are still known. */
	struct pml_sharer sharer[200];
	uint64_t len = 1;
	size_t count = pml_sharers_at(pool.fs, first, &len, sharer, 200);
	CHECK(count > 3 && count < 66);
	put(f);
	put(g);
	CHECK_EQ(pml_dir_unlink(root, "f"), 0);
	CHECK_EQ(pml_dir_unlink(root, "g"), 0);
	/* With the last share of their blocks all go, whoever noted them. */
	CHECK_EQ(pml_sharers_count(pool.fs), 0);
	end();
}

/* ---- threads ------------------------------------------------------------ */

enum { ROUNDS = 100, BLOCKS = 6 };

static _Atomic bool is_over;
static _Atomic unsigned int nwrites, nbusy;

/* Each block of each file is of one byte at any time: writes of whole blocks. */
static void check_uniform(struct pml_inode *inode)
{
	struct iovec iov[PML_IOV_MAX];
	int n;
	size_t got;
	if (pml_file_read_begin(inode, 0, BLOCKS * BLOCK, iov, &n, &got))
		BAIL_OUT("read");
	for (int i = 0; i < n; i++)
		for (size_t at = 0; at < iov[i].iov_len; at += BLOCK) {
			const unsigned char *p = (unsigned char *)iov[i].iov_base + at;
			if (p[0] != p[BLOCK - 1] || p[0] != p[BLOCK / 2])
				TAP_FAIL("a block of two writes");
		}
	pml_file_read_end(inode);
}

static void *write_blocks(void *arg)
{
	struct pml_inode *inode = arg;
	unsigned int seed = (unsigned int)inode->ino;
	for (unsigned int i = 0; !is_over; i++) {
		uint64_t first = (uint64_t)rand_r(&seed) % BLOCKS;
		size_t n = 1 + (size_t)rand_r(&seed) % (BLOCKS - first);
		int err = fill(inode, first * BLOCK, 'A' + (int)(i % 26), n * BLOCK);
		CHECK(err == 0 || err == -EBUSY);
		nwrites++;
		/* A deleted file that is being freed is no sharer that could be asked. */
		nbusy += err == -EBUSY;
		if (err)
			usleep(100);
		check_uniform(inode);
	}
	return NULL;
}

struct cloner {
	struct pml_inode *src[2];
	struct pml_inode *shared;
	const char *name;
	bool deletes_late;
};

static void *make_clones(void *arg)
{
	const struct cloner *c = arg;
	/* Until the writers had something to do, too. */
	for (unsigned int i = 0;
	     i < ROUNDS || (i < 100 * ROUNDS && atomic_load(&pool.fs->aside_blocks) <= 10); i++) {
		struct pml_inode *h = new_file(c->name);
		CHECK_EQ(clone_at(c->src[i % 2], 0, h, i % 3, BLOCKS), 0);
		if (!c->deletes_late)
			CHECK_EQ(pml_dir_unlink(root, c->name), 0);
		CHECK_EQ(clone_at(h, i % 3, c->shared, 0, BLOCKS), 0);
		if (i % 5 == 0)
			CHECK_EQ(pml_file_insert(h, 0, BLOCK, NULL), 0);
		check_uniform(h);
		if (c->deletes_late)
			CHECK_EQ(pml_dir_unlink(root, c->name), 0);
		put(h);
	}
	return NULL;
}

static void test_writers_of_one_block_and_cloners_at_once(void)
{
	begin();
	struct pml_inode *f = lettered("f", "abcdef"), *g = twin(f, "g");
	struct cloner cloner[2] = {
		{.src = {f, g}, .shared = g, .name = "h", .deletes_late = false},
		{.src = {g, f}, .shared = g, .name = "i", .deletes_late = true},
	};
	lease(f, 0, BLOCKS);
	pthread_t writer[3], maker[2];
	is_over = false;
	nwrites = nbusy = 0;
	for (int i = 0; i < 2; i++)
		REQUIRE(pthread_create(&maker[i], NULL, make_clones, &cloner[i]) == 0);
	struct pml_inode *written[3] = {f, g, g};
	for (int i = 0; i < 3; i++)
		REQUIRE(pthread_create(&writer[i], NULL, write_blocks, written[i]) == 0);
	for (int i = 0; i < 2; i++)
		(void)pthread_join(maker[i], NULL);
	is_over = true;
	for (int i = 0; i < 3; i++)
		(void)pthread_join(writer[i], NULL);
	struct pml_fs_counts counts = counts_now();
	printf("# %u of %u writes refused, %" PRIu64 " blocks copied for others, %" PRIu64
	       " times refused\n",
	       (unsigned int)nbusy, (unsigned int)nwrites, counts.aside_blocks,
	       counts.aside_refused);
	CHECK(counts.aside_blocks > 10);
	/* I4: no write has moved what is leased. */
	check_leases();
	for (uint64_t b = 0; b < BLOCKS; b++)
		CHECK_EQ(block_of(f, b), leases[0].segment[0].block + b);
	check_counters();
	end_leases();
	remove_file(f, "f");
	remove_file(g, "g");
	CHECK_EQ(counts_now().used_blocks, 0);
	CHECK_EQ(pml_sharers_count(pool.fs), 0);
	end();
}

int main(void)
{
	TAP_RUN(test_a_clone_steps_aside_for_a_leased_file);
	TAP_RUN(test_all_others_share_one_copy);
	TAP_RUN(test_runs_end_where_extents_and_sharers_change);
	TAP_RUN(test_a_large_write_and_many_small_ones);
	TAP_RUN(test_every_operation_lets_them_step_aside);
	TAP_RUN(test_the_sharers_own_changes_are_followed);
	TAP_RUN(test_deleted_files_that_are_open_are_sharers);
	TAP_RUN(test_sharers_that_nobody_has_open);
	TAP_RUN(test_a_lease_on_both_is_the_policys_to_decide);
	TAP_RUN(test_more_sharers_than_eight_stay);
	TAP_RUN(test_a_file_that_maps_a_block_twice);
	TAP_RUN(test_sharers_that_are_not_known_stay);
	TAP_RUN(test_without_space_the_policy_decides);
	TAP_RUN(test_without_a_lease_of_its_own_the_file_moves);
	TAP_RUN(test_what_fails_changes_nothing);
	TAP_RUN(test_a_death_at_any_place_leaves_each_move_whole);
	TAP_RUN(test_hints_say_what_extents_say);
	TAP_RUN(test_hints_are_bounded);
	TAP_RUN(test_writers_of_one_block_and_cloners_at_once);
	return tap_done();
}
