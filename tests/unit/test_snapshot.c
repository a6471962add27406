/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_snapshot.c -- a directory tree cloned at one point in time: what it holds, what it
 * leaves behind when it fails or dies (I8), and that nobody changes anything meanwhile
 */
#include <inttypes.h>
#include <pthread.h>
#include <sys/wait.h>
#include <time.h>

#include "../../fs/inode.h"
#include "../support/fs_failing.h"
#include "../support/fs_ground.h"

#define BLOCK	  4096u
#define FILE_MODE (S_IFREG | 0640)
#define DIR_MODE  (S_IFDIR | 0751)

/* ---- interposed functions ----------------------------------------------- */

/* Called by the next commit, before it is one; NULL: nothing. */
static void (*_Atomic before_commit)(void);

void pmemobj_tx_commit(void)
{
	void (*hook)(void) = atomic_exchange(&before_commit, NULL);
	if (hook)
		hook();
	REAL(pmemobj_tx_commit)();
}

/* ---- helpers ------------------------------------------------------------ */

static struct pml_inode *find(struct pml_inode *dir, const char *name)
{
	struct pml_inode *inode = NULL;
	if (pml_dir_lookup(dir, name, &inode))
		BAIL_OUT("no %s", name);
	return inode;
}

static void put_file(struct pml_inode *dir, const char *name, int byte, size_t len)
{
	struct pml_inode *f = fs_pool_create(dir, name, FILE_MODE);
	CHECK_EQ(fill(f, 0, byte, len), 0);
	pml_inode_put(f, 1);
}

/* A tree with one of each: src/{a,big,sparse,sub/{deep/x,link to a},sym,fifo,empty} */
static struct pml_inode *make_tree(void)
{
	struct pml_inode *src = fs_pool_create(root, "src", DIR_MODE);
	struct pml_inode *sub = fs_pool_create(src, "sub", S_IFDIR | 02770);
	struct pml_inode *deep = fs_pool_create(sub, "deep", DIR_MODE);
	put_file(src, "a", 'a', 3 * BLOCK + 7);
	put_file(deep, "x", 'x', 10);
	struct pml_inode *a = find(src, "a");
	CHECK_EQ(pml_dir_link(sub, "link", a), 0);
	CHECK_EQ(pml_dir_link(root, "outside", a), 0);
	const struct stat attr = {.st_mode = 04711,
				  .st_uid = 12,
				  .st_gid = 34,
				  .st_mtim = {1000, 5},
				  .st_atim = {2000, 6}};
	CHECK_EQ(pml_inode_set(a,
			       PML_SET_MODE | PML_SET_UID | PML_SET_GID | PML_SET_MTIME |
				       PML_SET_ATIME,
			       &attr),
		 0);
	static const char value[3000] = "v";
	const struct pml_cred cred = {.uid = 0};
	CHECK_EQ(pml_xattr_set(a, &cred, "user.long", value, sizeof(value), 0), 0);
	CHECK_EQ(pml_xattr_set(sub, &cred, "user.short", "s", 1, 0), 0);
	pml_inode_put(a, 1);
	struct pml_inode *sparse = fs_pool_create(src, "sparse", FILE_MODE);
	for (uint64_t i = 0; i < 600; i++) /* more than one transaction shares */
		CHECK_EQ(fill(sparse, 2 * i * BLOCK, 's', 1), 0);
	CHECK_EQ(pml_file_allocate(sparse, 0, 1300 * BLOCK, 5 * BLOCK, NULL), 0);
	pml_inode_put(sparse, 1);
	CHECK_EQ(make(src, "sym", S_IFLNK | 0777), 0);
	CHECK_EQ(make(src, "fifo", S_IFIFO | 0600), 0);
	CHECK_EQ(make(src, "empty", S_IFDIR | 0700), 0);
	pml_inode_put(deep, 1);
	pml_inode_put(sub, 1);
	return src;
}

static void compare_dirs(struct pml_inode *a, struct pml_inode *b);

static void compare_data(struct pml_inode *a, struct pml_inode *b)
{
	static struct iovec iov[2][PML_IOV_MAX];
	static unsigned char bytes[2][1 << 20];
	uint64_t size = pml_inode_size(a);
	for (uint64_t at = 0; at < size; at += sizeof(bytes[0])) {
		struct pml_inode *inode[2] = {a, b};
		size_t got[2] = {0};
		for (int k = 0; k < 2; k++) {
			int n;
			size_t to = 0;
			REQUIRE(pml_file_read_begin(inode[k], at, sizeof(bytes[0]), iov[k], &n,
						    &got[k]) == 0);
			for (int i = 0; i < n; i++) {
				memcpy(bytes[k] + to, iov[k][i].iov_base, iov[k][i].iov_len);
				to += iov[k][i].iov_len;
			}
			pml_file_read_end(inode[k]);
		}
		CHECK_EQ(got[0], got[1]);
		CHECK(memcmp(bytes[0], bytes[1], got[0]) == 0);
	}
}

static void compare_xattrs(struct pml_inode *a, struct pml_inode *b)
{
	static char names[2][1024], value[2][4096];
	const struct pml_cred cred = {.uid = 0};
	size_t bytes[2], got[2] = {0};
	CHECK_EQ(pml_xattr_list(a, &cred, names[0], sizeof(names[0]), &bytes[0]), 0);
	CHECK_EQ(pml_xattr_list(b, &cred, names[1], sizeof(names[1]), &bytes[1]), 0);
	CHECK_EQ(bytes[0], bytes[1]);
	CHECK(memcmp(names[0], names[1], bytes[0]) == 0);
	for (size_t at = 0; at < bytes[0]; at += strlen(&names[0][at]) + 1) {
		CHECK_EQ(pml_xattr_get(a, &names[0][at], value[0], sizeof(value[0]), &got[0]), 0);
		CHECK_EQ(pml_xattr_get(b, &names[0][at], value[1], sizeof(value[1]), &got[1]), 0);
		CHECK(got[0] == got[1] && memcmp(value[0], value[1], got[0]) == 0);
	}
}

static void compare(struct pml_inode *a, struct pml_inode *b)
{
	struct stat x, y;
	pml_inode_stat(a, &x);
	pml_inode_stat(b, &y);
	CHECK(x.st_ino != y.st_ino);
	CHECK_EQ(x.st_mode, y.st_mode);
	CHECK_EQ(x.st_uid, y.st_uid);
	CHECK_EQ(x.st_gid, y.st_gid);
	CHECK_EQ(x.st_size, y.st_size);
	CHECK_EQ(x.st_rdev, y.st_rdev);
	CHECK(memcmp(&x.st_mtim, &y.st_mtim, sizeof(x.st_mtim)) == 0);
	CHECK(memcmp(&x.st_atim, &y.st_atim, sizeof(x.st_atim)) == 0);
	compare_xattrs(a, b);
	if (S_ISDIR(x.st_mode)) {
		CHECK_EQ(x.st_nlink, y.st_nlink);
		compare_dirs(a, b);
	} else if (S_ISREG(x.st_mode)) {
		compare_data(a, b);
	} else if (S_ISLNK(x.st_mode)) {
		char s[PML_SYMLINK_MAX + 1], t[PML_SYMLINK_MAX + 1];
		CHECK_EQ(pml_inode_readlink(a, s), 0);
		CHECK_EQ(pml_inode_readlink(b, t), 0);
		CHECK_STR(s, t);
	}
}

struct names {
	char name[64][16];
	size_t n;
};

static bool take_name(void *arg, const struct pml_dirent *entry)
{
	struct names *names = arg;
	if (entry->name[0] != '.' && names->n < 64)
		(void)snprintf(names->name[names->n++], 16, "%s", entry->name);
	return true;
}

static void compare_dirs(struct pml_inode *a, struct pml_inode *b)
{
	struct names in_a = {.n = 0}, in_b = {.n = 0};
	CHECK_EQ(pml_dir_read(a, 0, take_name, &in_a), 0);
	CHECK_EQ(pml_dir_read(b, 0, take_name, &in_b), 0);
	CHECK_EQ(in_a.n, in_b.n);
	for (size_t i = 0; i < in_a.n; i++) {
		struct pml_inode *x = find(a, in_a.name[i]), *y = find(b, in_a.name[i]);
		compare(x, y);
		pml_inode_put(x, 1);
		pml_inode_put(y, 1);
	}
}

/* ---- what it holds ------------------------------------------------------ */

static void test_a_snapshot_is_the_same_tree(void)
{
	begin();
	struct pml_inode *src = make_tree();
	uint64_t used = counts_now().used_blocks, inodes = counts_now().inodes;
	CHECK_EQ(pml_dir_snapshot(src, root, "snap", NULL), 0);
	struct pml_inode *snap = find(root, "snap");
	compare(src, snap);
	CHECK_EQ(counts_now().used_blocks, used);
	CHECK_EQ(counts_now().inodes, inodes + 9);
	/* The two names inside are one file, without the name outside. */
	struct pml_inode *sub = find(snap, "sub");
	CHECK(look(snap, "a") == look(sub, "link") && look(snap, "a") != look(root, "outside"));
	struct pml_inode *a = find(snap, "a");
	struct stat st;
	pml_inode_stat(a, &st);
	CHECK_EQ(st.st_nlink, 2);
	/* From now on they go their own ways. */
	CHECK_EQ(fill(a, 0, 'n', BLOCK), 0);
	CHECK_EQ(counts_now().used_blocks, used + 1);
	CHECK_EQ(make(sub, "new", FILE_MODE), 0);
	struct pml_inode *src_sub = find(src, "sub");
	CHECK_EQ(look(src_sub, "new"), -ENOENT);
	CHECK_STR(fs_check(pool.fs), "");
	pml_inode_put(src_sub, 1);
	pml_inode_put(a, 1);
	pml_inode_put(sub, 1);
	pml_inode_put(snap, 1);
	pml_inode_put(src, 1);
	reopen();
	CHECK(look(root, "snap") > 0);
	end();
}

static void test_a_snapshot_inside_of_its_source(void)
{
	begin();
	struct pml_inode *src = make_tree();
	struct pml_inode *sub = find(src, "sub");
	CHECK_EQ(pml_dir_snapshot(src, src, "snap1", NULL), 0);
	CHECK_EQ(pml_dir_snapshot(root, sub, "snap2", NULL), 0);
	struct pml_inode *snap1 = find(src, "snap1"), *snap2 = find(sub, "snap2");
	CHECK_EQ(look(snap1, "snap1"), -ENOENT);
	CHECK(look(snap2, "src") > 0);
	pml_inode_put(snap1, 1);
	pml_inode_put(snap2, 1);
	pml_inode_put(sub, 1);
	pml_inode_put(src, 1);
	end();
}

static void test_errors(void)
{
	begin();
	struct pml_inode *src = make_tree();
	struct pml_inode *a = find(src, "a"), *empty = find(src, "empty");
	char longest[PML_NAME_BYTES_MAX + 2];
	memset(longest, 'n', sizeof(longest));
	longest[sizeof(longest) - 1] = 0;
	uint64_t before = fs_digest(pool.fs);
	CHECK_EQ(pml_dir_snapshot(a, root, "snap", NULL), -ENOTDIR);
	CHECK_EQ(pml_dir_snapshot(src, a, "snap", NULL), -ENOTDIR);
	CHECK_EQ(pml_dir_snapshot(src, root, "src", NULL), -EEXIST);
	CHECK_EQ(pml_dir_snapshot(src, root, "", NULL), -EINVAL);
	CHECK_EQ(pml_dir_snapshot(src, root, "..", NULL), -EINVAL);
	CHECK_EQ(pml_dir_snapshot(src, root, "x/y", NULL), -EINVAL);
	CHECK_EQ(pml_dir_snapshot(src, root, longest, NULL), -ENAMETOOLONG);
	CHECK(fs_digest(pool.fs) == before);
	CHECK_EQ(pml_dir_rmdir(src, "empty"), 0);
	CHECK_EQ(pml_dir_snapshot(empty, root, "snap", NULL), -ENOENT);
	CHECK_EQ(pml_dir_snapshot(src, empty, "snap", NULL), -ENOENT);
	uint64_t ino = pml_inode_ino(src);
	pml_inode_put(empty, 1);
	pml_inode_put(a, 1);
	pml_inode_put(src, 1);
	pml_inode_put(root, 1);
	fs_pool_reopen_read_only(&pool);
	REQUIRE(pml_inode_get(pool.fs, ino, &src) == 0);
	root = fs_pool_root(&pool);
	CHECK_EQ(pml_dir_snapshot(src, root, "snap", NULL), -EROFS);
	pml_inode_put(src, 1);
	pml_inode_put(root, 1);
	fs_pool_reopen(&pool);
	root = fs_pool_root(&pool);
	end();
}

static void test_too_deep_is_refused_and_leaves_nothing(void)
{
	begin();
	struct pml_inode *dir = fs_pool_create(root, "d", DIR_MODE);
	for (unsigned int i = 0; i < PML_SNAPSHOT_DEPTH_MAX; i++) {
		struct pml_inode *next = fs_pool_create(dir, "d", DIR_MODE);
		pml_inode_put(dir, 1);
		dir = next;
	}
	pml_inode_put(dir, 1);
	uint64_t inodes = counts_now().inodes;
	dir = find(root, "d");
	struct pml_inode *second = find(dir, "d");
	CHECK_EQ(pml_dir_snapshot(dir, root, "snap", NULL), -ELOOP);
	CHECK_EQ(counts_now().inodes, inodes);
	CHECK_EQ(pml_dir_snapshot(second, root, "snap", NULL), 0);
	CHECK_EQ(counts_now().inodes, inodes + PML_SNAPSHOT_DEPTH_MAX);
	pml_inode_put(second, 1);
	pml_inode_put(dir, 1);
	end();
}

/* ---- the guard ---------------------------------------------------------- */

static struct {
	uint64_t ino; /* the file that a lease covers */
	int answer;
	unsigned int asked;
} fake;

static int fake_admit(void *guard, const struct pml_layout_change *change, struct pml_waiter *w)
{
	CHECK_EQ(change->op, PML_OP_SNAPSHOT);
	CHECK(change->writers_only);
	fake.asked++;
	return change->ino == fake.ino ? fake.answer : 0;
}

static bool fake_may_be_leased(void *guard, uint64_t ino)
{
	return true;
}

static const struct pml_guard_ops fake_ops = {
	.admit = fake_admit,
	.may_be_leased = fake_may_be_leased,
};

static void test_a_lease_in_the_way_stops_it_before_it_begins(void)
{
	begin();
	struct pml_inode *src = make_tree(), *sub = find(src, "sub"), *deep = find(sub, "deep");
	fake.ino = (uint64_t)look(deep, "x");
	pml_fs_set_guard(pool.fs, &fake_ops, NULL);
	uint64_t before = fs_digest(pool.fs);
	const int answers[] = {-EBUSY, -EINPROGRESS, -EINTR};
	for (size_t i = 0; i < PML_ARRAY_LEN(answers); i++) {
		fake.answer = answers[i];
		CHECK_EQ(pml_dir_snapshot(src, root, "snap", NULL), answers[i]);
		CHECK(fs_digest(pool.fs) == before);
	}
	fake.answer = 0;
	fake.asked = 0;
	CHECK_EQ(pml_dir_snapshot(src, root, "snap", NULL), 0);
	CHECK_EQ(fake.asked, 4); /* a by two names, sparse, x */
	pml_fs_set_guard(pool.fs, NULL, NULL);
	pml_inode_put(deep, 1);
	pml_inode_put(sub, 1);
	pml_inode_put(src, 1);
	end();
}

/* ---- one point in time ---------------------------------------------------- */

static _Atomic bool is_over;
static struct pml_inode *pair[2];

/* The second file is never ahead of the first, nor more than one behind. */
static void *write_pairs(void *arg)
{
	for (uint64_t i = 1; !is_over; i++)
		for (int k = 0; k < 2; k++)
			if (pml_file_write(pair[k], &i, sizeof(i), 0, false, NULL))
				BAIL_OUT("write");
	return NULL;
}

static uint64_t number_in(struct pml_inode *dir, const char *name)
{
	struct iovec iov[PML_IOV_MAX];
	uint64_t number = 0;
	size_t got;
	int n;
	struct pml_inode *f = find(dir, name);
	if (pml_file_read_begin(f, 0, sizeof(number), iov, &n, &got) == 0) {
		memcpy(&number, iov[0].iov_base, got);
		pml_file_read_end(f);
	}
	pml_inode_put(f, 1);
	return number;
}

static void test_no_change_comes_between_two_files(void)
{
	begin();
	struct pml_inode *src = fs_pool_create(root, "src", DIR_MODE);
	char name[16];
	for (unsigned int i = 0; i < 50; i++) {
		(void)snprintf(name, sizeof(name), "f%u", i);
		put_file(src, name, 'f', BLOCK);
	}
	pair[0] = find(src, "f3");
	pair[1] = find(src, "f40");
	for (uint64_t k = 0, zero = 0; k < 2; k++)
		CHECK_EQ(pml_file_write(pair[k], &zero, sizeof(zero), 0, false, NULL), 0);
	pthread_t writer;
	is_over = false;
	REQUIRE(pthread_create(&writer, NULL, write_pairs, NULL) == 0);
	for (unsigned int i = 0; i < 60; i++) {
		(void)snprintf(name, sizeof(name), "snap%u", i);
		CHECK_EQ(pml_dir_snapshot(src, root, name, NULL), 0);
		struct pml_inode *snap = find(root, name);
		uint64_t first = number_in(snap, "f3"), second = number_in(snap, "f40");
		CHECK(first == second || first == second + 1);
		pml_inode_put(snap, 1);
	}
	is_over = true;
	(void)pthread_join(writer, NULL);
	pml_inode_put(pair[0], 1);
	pml_inode_put(pair[1], 1);
	pml_inode_put(src, 1);
	end();
}

/* ---- failures and deaths --------------------------------------------------- */

/* @for_good: nothing works any more, so the next mount has to clear up. */
static void fail_everywhere(bool for_good, unsigned int step)
{
	begin();
	struct pml_inode *src = make_tree();
	uint64_t src_ino = pml_inode_ino(src);
	struct pml_fs_counts before = counts_now();
	unsigned int places = 0;
	for (unsigned int from = 1;; from += step) {
		fails_once = !for_good;
		arm(from);
		int err = pml_dir_snapshot(src, root, "snap", NULL);
		if (!disarm()) {
			CHECK_EQ(err, 0);
			break;
		}
		CHECK_EQ(err, -ENOSPC);
		CHECK_EQ(look(root, "snap"), -ENOENT);
		places++;
		if (for_good) {
			pml_inode_put(src, 1);
			reopen();
			REQUIRE(pml_inode_get(pool.fs, src_ino, &src) == 0);
		}
		CHECK_STR(fs_check(pool.fs), "");
		struct pml_fs_counts after = counts_now();
		CHECK_EQ(after.inodes, before.inodes);
		CHECK_EQ(after.used_blocks, before.used_blocks);
		CHECK_EQ(after.shared_blocks, before.shared_blocks);
	}
	printf("# %u places\n", places);
	CHECK(places > 20);
	struct pml_inode *snap = find(root, "snap");
	compare(src, snap);
	pml_inode_put(snap, 1);
	pml_inode_put(src, 1);
	end();
}

static void test_a_failure_at_every_place_leaves_nothing(void)
{
	fail_everywhere(false, 7);
}

static void test_a_failure_for_good_is_cleared_up_by_the_next_mount(void)
{
	fail_everywhere(true, 31);
}

/* Never returns. */
static void die_inside(unsigned int at)
{
	if (fs_pool_try_open(&pool))
		_Exit(1);
	root = fs_pool_root(&pool);
	struct pml_inode *src = find(root, "src");
	calls = 0;
	die_at = at;
	_Exit(pml_dir_snapshot(src, root, "snap", NULL) ? 2 : 0);
}

static void test_a_death_at_every_place_leaves_all_or_nothing(void)
{
	begin();
	pml_inode_put(make_tree(), 1);
	struct pml_fs_counts before = counts_now();
	pml_inode_put(root, 1);
	unsigned int died = 0;
	for (unsigned int at = 1;; at += 37) {
		fs_pool_close(&pool);
		pid_t pid = fork();
		if (pid == 0)
			die_inside(at);
		int status = -1;
		REQUIRE(waitpid(pid, &status, 0) == pid && WIFEXITED(status));
		REQUIRE(fs_pool_try_open(&pool) == 0);
		root = fs_pool_root(&pool);
		CHECK_STR(fs_check(pool.fs), "");
		bool is_there = look(root, "snap") > 0;
		if (!is_there) {
			CHECK_EQ(counts_now().inodes, before.inodes);
			CHECK_EQ(counts_now().shared_blocks, before.shared_blocks);
		}
		if (WEXITSTATUS(status) != 42) {
			CHECK_EQ(WEXITSTATUS(status), 0);
			CHECK(is_there);
			break;
		}
		died++;
		pml_inode_put(root, 1);
		if (is_there) {
			root = fs_pool_root(&pool);
			break;
		}
	}
	printf("# %u deaths\n", died);
	CHECK(died > 10);
	struct pml_inode *src = find(root, "src"), *snap = find(root, "snap");
	compare(src, snap);
	pml_inode_put(src, 1);
	pml_inode_put(snap, 1);
	end();
}

/* What a read-only mount may not clear up it does not show either. */
static void test_a_half_built_tree_is_out_of_sight(void)
{
	begin();
	struct pml_inode *src = make_tree();
	fails_once = false;
	arm(150);
	CHECK_EQ(pml_dir_snapshot(src, root, "snap", NULL), -ENOSPC);
	CHECK(disarm());
	pml_inode_put(src, 1);
	pml_inode_put(root, 1);
	struct pml_fs_counts left = counts_now();
	fs_pool_reopen_read_only(&pool);
	root = fs_pool_root(&pool);
	CHECK_EQ(look(root, "snap"), -ENOENT);
	CHECK_EQ(counts_now().inodes, left.inodes);
	pml_inode_put(root, 1);
	/* A mount that finds no room to free it is one all the same. */
	fs_pool_close(&pool);
	fails_once = false;
	arm(1);
	CHECK_EQ(fs_pool_try_open(&pool), 0);
	CHECK(disarm());
	root = fs_pool_root(&pool);
	CHECK_EQ(look(root, "snap"), -ENOENT);
	CHECK_EQ(counts_now().inodes, left.inodes);
	pml_inode_put(root, 1);
	fs_pool_reopen(&pool);
	root = fs_pool_root(&pool);
	CHECK(counts_now().inodes < left.inodes);
	end();
}

static void test_a_full_device_refuses_and_can_be_emptied(void)
{
	begin();
	struct pml_inode *src = fs_pool_create(root, "src", DIR_MODE);
	char name[PML_NAME_BYTES_MAX + 1];
	for (unsigned int i = 0; i < 3000; i++) {
		(void)snprintf(name, sizeof(name), "%0200u", i);
		put_file(src, name, 'x', 1);
	}
	int err = 0;
	unsigned int n = 0;
	struct pml_fs_counts before = counts_now();
	for (; !err && n < 1000; n++) {
		before = counts_now();
		(void)snprintf(name, sizeof(name), "snap%u", n);
		err = pml_dir_snapshot(src, root, name, NULL);
	}
	CHECK_EQ(err, -ENOSPC);
	CHECK(n > 1);
	CHECK_EQ(counts_now().inodes, before.inodes);
	CHECK_STR(fs_check(pool.fs), "");
	for (unsigned int i = 0; i < 3000; i++) {
		(void)snprintf(name, sizeof(name), "%0200u", i);
		if (pml_dir_unlink(src, name))
			BAIL_OUT("unlink on a full device");
	}
	pml_inode_put(src, 1);
	end();
}

/* ---- features ------------------------------------------------------------ */

static pthread_t other_user;
static bool was_early;

static void *use_feature(void *arg)
{
	(void)arg;
	return (void *)(intptr_t)pml_fs_use_feature(pool.fs, PML_FEATURE_RO_HIDDEN);
}

static void let_other_use_it(void)
{
	CHECK_EQ(pthread_create(&other_user, NULL, use_feature, NULL), 0);
	struct timespec until;
	(void)clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec++;
	was_early = pthread_timedjoin_np(other_user, NULL, &until) == 0;
}

/* A death before the commit would take the bit away under what was built on it. */
static void test_a_feature_is_used_only_when_its_bit_is_committed(void)
{
	begin();
	before_commit = let_other_use_it;
	CHECK_EQ(pml_fs_use_feature(pool.fs, PML_FEATURE_RO_HIDDEN), 0);
	CHECK(!before_commit && !was_early);
	if (!was_early)
		CHECK_EQ(pthread_join(other_user, NULL), 0);
	CHECK(pool.fs->super->feature_ro_compat & PML_FEATURE_RO_HIDDEN);
	end();
}

int main(void)
{
	TAP_RUN(test_a_snapshot_is_the_same_tree);
	TAP_RUN(test_a_snapshot_inside_of_its_source);
	TAP_RUN(test_errors);
	TAP_RUN(test_too_deep_is_refused_and_leaves_nothing);
	TAP_RUN(test_a_lease_in_the_way_stops_it_before_it_begins);
	TAP_RUN(test_no_change_comes_between_two_files);
	TAP_RUN(test_a_failure_at_every_place_leaves_nothing);
	TAP_RUN(test_a_failure_for_good_is_cleared_up_by_the_next_mount);
	TAP_RUN(test_a_death_at_every_place_leaves_all_or_nothing);
	TAP_RUN(test_a_half_built_tree_is_out_of_sight);
	TAP_RUN(test_a_full_device_refuses_and_can_be_emptied);
	TAP_RUN(test_a_feature_is_used_only_when_its_bit_is_committed);
	return tap_done();
}
