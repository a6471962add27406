/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_namespace.c -- inodes and directories of an open filesystem (fs/itable.c,
 * fs/inode.c, fs/dir.c, fs/namei.c, fs/create.c, fs/rename.c) as pml/fs.h promises them
 */
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <time.h>

#include "../support/fs_ground.h"

#define FILE_MODE (S_IFREG | 0644)
#define DIR_MODE  (S_IFDIR | 0755)

static struct stat stat_of(struct pml_inode *inode)
{
	struct stat st;
	pml_inode_stat(inode, &st);
	return st;
}

static uint64_t inodes_in_use(void)
{
	struct pml_fs_counts counts;
	pml_fs_counts(pool.fs, &counts);
	return counts.inodes;
}

static bool is_before(struct timespec a, struct timespec b)
{
	return a.tv_sec < b.tv_sec || (a.tv_sec == b.tv_sec && a.tv_nsec < b.tv_nsec);
}

/* So that the next change has another time. */
static void wait_a_moment(void)
{
	const struct timespec moment = {.tv_nsec = 2000000};
	(void)nanosleep(&moment, NULL);
}

/* ---- create, look up, attributes ---------------------------------------- */

static void test_fresh_root_is_an_empty_directory(void)
{
	begin();
	struct stat st = stat_of(root);
	CHECK_EQ(st.st_ino, PML_ROOT_INO);
	CHECK(S_ISDIR(st.st_mode));
	CHECK_EQ(st.st_nlink, 2);
	CHECK_EQ(st.st_size, 0);
	CHECK_EQ(inodes_in_use(), 1);
	end();
}

static void test_created_inode_is_what_was_asked(void)
{
	static const mode_t types[] = {S_IFREG, S_IFDIR, S_IFIFO, S_IFSOCK, S_IFCHR, S_IFBLK};
	begin();
	for (size_t i = 0; i < PML_ARRAY_LEN(types); i++) {
		struct pml_inode *inode, *again;
		char name[16];
		(void)snprintf(name, sizeof(name), "n%zu", i);
		const struct pml_create_args args = {
			.mode = types[i] | 06751,
			.cred = {.uid = 1000, .gid = 2000},
			.rdev = makedev(7, 9),
		};
		struct timespec before, after;
		(void)clock_gettime(CLOCK_REALTIME, &before);
		REQUIRE(pml_dir_create(root, name, &args, &inode) == 0);
		(void)clock_gettime(CLOCK_REALTIME, &after);
		struct stat st = stat_of(inode);
		bool is_device = S_ISCHR(types[i]) || S_ISBLK(types[i]);
		CHECK_EQ(st.st_mode, types[i] | 06751);
		CHECK_EQ(pml_inode_mode(inode), types[i] | 06751);
		CHECK_EQ(st.st_ino, pml_inode_ino(inode));
		CHECK_EQ(st.st_nlink, S_ISDIR(types[i]) ? 2 : 1);
		CHECK_EQ(st.st_uid, 1000);
		CHECK_EQ(st.st_gid, 2000);
		CHECK_EQ(st.st_rdev, is_device ? makedev(7, 9) : 0);
		CHECK_EQ(st.st_size, 0);
		CHECK_EQ(pml_inode_size(inode), 0);
		CHECK_EQ(st.st_blocks, 0);
		CHECK_EQ(st.st_blksize, 4096);
		CHECK(!is_before(st.st_mtim, before) && !is_before(after, st.st_mtim));
		CHECK(memcmp(&st.st_mtim, &st.st_ctim, sizeof(st.st_mtim)) == 0);
		CHECK(memcmp(&st.st_mtim, &st.st_atim, sizeof(st.st_mtim)) == 0);
		REQUIRE(pml_dir_lookup(root, name, &again) == 0);
		CHECK(again == inode);
		pml_inode_put(inode, 2);
	}
	CHECK_EQ(stat_of(root).st_nlink, 3);
	CHECK_EQ(stat_of(root).st_size, 6 * 32);
	end();
}

static void test_create_touches_the_directory(void)
{
	begin();
	struct stat before = stat_of(root);
	wait_a_moment();
	CHECK_EQ(make(root, "f", FILE_MODE), 0);
	struct stat after = stat_of(root);
	CHECK(is_before(before.st_mtim, after.st_mtim));
	CHECK(is_before(before.st_ctim, after.st_ctim));
	end();
}

static void test_symlink_keeps_its_target(void)
{
	begin();
	char longest[PML_SYMLINK_MAX + 1], got[PML_SYMLINK_MAX + 1];
	memset(longest, 'x', PML_SYMLINK_MAX);
	longest[PML_SYMLINK_MAX] = 0;
	const char *targets[] = {"a", "/somewhere/else", longest};
	for (size_t i = 0; i < PML_ARRAY_LEN(targets); i++) {
		char name[2] = {(char)('0' + i), 0};
		struct pml_inode *inode;
		const struct pml_create_args args = {.mode = S_IFLNK | 0777, .target = targets[i]};
		REQUIRE(pml_dir_create(root, name, &args, &inode) == 0);
		CHECK_EQ(pml_inode_readlink(inode, got), 0);
		CHECK_STR(got, targets[i]);
		CHECK_EQ(stat_of(inode).st_size, strlen(targets[i]));
		pml_inode_put(inode, 1);
	}
	CHECK_EQ(pml_inode_readlink(root, got), -EINVAL);
	end();
}

static void test_bad_names_are_refused_everywhere(void)
{
	begin();
	char long_name[PML_NAME_BYTES_MAX + 2];
	memset(long_name, 'n', sizeof(long_name));
	long_name[sizeof(long_name) - 1] = 0;
	const struct {
		const char *name;
		int err;
	} bad[] = {{"", -EINVAL},    {".", -EINVAL}, {"..", -EINVAL},
		   {"a/b", -EINVAL}, {"/", -EINVAL}, {long_name, -ENAMETOOLONG}};
	struct pml_inode *file = fs_pool_create(root, "file", FILE_MODE);
	for (size_t i = 0; i < PML_ARRAY_LEN(bad); i++) {
		CHECK_EQ(make(root, bad[i].name, FILE_MODE), bad[i].err);
		CHECK_EQ(look(root, bad[i].name), bad[i].err);
		CHECK_EQ(pml_dir_link(root, bad[i].name, file), bad[i].err);
		CHECK_EQ(pml_dir_unlink(root, bad[i].name), bad[i].err);
		CHECK_EQ(pml_dir_rmdir(root, bad[i].name), bad[i].err);
		CHECK_EQ(pml_dir_rename(root, bad[i].name, root, "x", 0), bad[i].err);
		CHECK_EQ(pml_dir_rename(root, "file", root, bad[i].name, 0), bad[i].err);
	}
	/* The longest, and bytes that are no text. */
	CHECK_EQ(make(root, long_name + 1, FILE_MODE), 0);
	CHECK(look(root, long_name + 1) > 0);
	CHECK_EQ(make(root, "\xff\x01\n ", FILE_MODE), 0);
	CHECK(look(root, "\xff\x01\n ") > 0);
	CHECK_EQ(make(root, "...", FILE_MODE), 0);
	pml_inode_put(file, 1);
	end();
}

static void test_create_errors(void)
{
	begin();
	struct pml_inode *file = fs_pool_create(root, "file", FILE_MODE), *inode;
	uint64_t before = fs_digest(pool.fs);
	CHECK_EQ(make(root, "file", FILE_MODE), -EEXIST);
	CHECK_EQ(make(root, "file", DIR_MODE), -EEXIST);
	CHECK_EQ(make(file, "x", FILE_MODE), -ENOTDIR);
	CHECK_EQ(make(root, "x", 0644), -EINVAL);
	CHECK_EQ(make(root, "x", S_IFMT), -EINVAL);
	CHECK_EQ(look(file, "x"), -ENOTDIR);
	CHECK_EQ(look(root, "x"), -ENOENT);

	char target[PML_SYMLINK_MAX + 2];
	memset(target, 'x', sizeof(target));
	target[sizeof(target) - 1] = 0;
	struct pml_create_args args = {.mode = S_IFLNK | 0777, .target = target};
	CHECK_EQ(pml_dir_create(root, "x", &args, &inode), -ENAMETOOLONG);
	args.target = "";
	CHECK_EQ(pml_dir_create(root, "x", &args, &inode), -EINVAL);
	args.target = NULL;
	CHECK_EQ(pml_dir_create(root, "x", &args, &inode), -EINVAL);
	CHECK_EQ(inodes_in_use(), 2);
	CHECK(fs_digest(pool.fs) == before);
	pml_inode_put(file, 1);
	end();
}

static void test_setgid_directory_gives_its_group(void)
{
	begin();
	struct pml_inode *dir, *inode;
	struct pml_create_args args = {.mode = S_IFDIR | S_ISGID | 0775, .cred = {.gid = 77}};
	REQUIRE(pml_dir_create(root, "d", &args, &dir) == 0);

	args = (struct pml_create_args){.mode = FILE_MODE, .cred = {.uid = 5, .gid = 6}};
	REQUIRE(pml_dir_create(dir, "f", &args, &inode) == 0);
	CHECK_EQ(stat_of(inode).st_gid, 77);
	CHECK_EQ(stat_of(inode).st_mode, FILE_MODE);
	pml_inode_put(inode, 1);

	args.mode = DIR_MODE;
	REQUIRE(pml_dir_create(dir, "d", &args, &inode) == 0);
	CHECK_EQ(stat_of(inode).st_gid, 77);
	CHECK_EQ(stat_of(inode).st_mode, DIR_MODE | S_ISGID);
	pml_inode_put(inode, 1);

	/* A program that would run as a group that its maker is not in. */
	args.mode = S_IFREG | S_ISGID | 0755;
	REQUIRE(pml_dir_create(dir, "p", &args, &inode) == 0);
	CHECK_EQ(stat_of(inode).st_mode, S_IFREG | 0755);
	pml_inode_put(inode, 1);
	args.cred.uid = 0;
	REQUIRE(pml_dir_create(dir, "q", &args, &inode) == 0);
	CHECK_EQ(stat_of(inode).st_mode, S_IFREG | S_ISGID | 0755);
	pml_inode_put(inode, 1);
	pml_inode_put(dir, 1);
	end();
}

static void test_set_changes_what_is_named(void)
{
	begin();
	struct pml_inode *file = fs_pool_create(root, "f", FILE_MODE);
	struct stat before = stat_of(file);
	struct stat attr = {
		.st_mode = S_IFDIR | 07123, /* the type is not ours to change */
		.st_uid = 11,
		.st_gid = 22,
		.st_atim = {.tv_sec = -1000000000, .tv_nsec = 123456789},
		.st_mtim = {.tv_sec = 4000000000, .tv_nsec = 999999999},
		.st_ctim = {.tv_sec = 0, .tv_nsec = 1},
	};
	wait_a_moment();
	CHECK_EQ(pml_inode_set(file, PML_SET_MODE, &attr), 0);
	struct stat st = stat_of(file);
	CHECK_EQ(st.st_mode, S_IFREG | 07123);
	CHECK_EQ(st.st_uid, before.st_uid);
	CHECK_EQ(st.st_mtim.tv_sec, before.st_mtim.tv_sec);
	CHECK(is_before(before.st_ctim, st.st_ctim));

	CHECK_EQ(pml_inode_set(file,
			       PML_SET_MODE | PML_SET_UID | PML_SET_GID | PML_SET_ATIME |
				       PML_SET_MTIME | PML_SET_CTIME,
			       &attr),
		 0);
	for (int i = 0; i < 2; i++) {
		st = stat_of(file);
		CHECK_EQ(st.st_mode, S_IFREG | 07123);
		CHECK_EQ(st.st_uid, 11);
		CHECK_EQ(st.st_gid, 22);
		CHECK_EQ(st.st_atim.tv_sec, -1000000000);
		CHECK_EQ(st.st_atim.tv_nsec, 123456789);
		CHECK_EQ(st.st_mtim.tv_sec, 4000000000);
		CHECK_EQ(st.st_mtim.tv_nsec, 999999999);
		CHECK_EQ(st.st_ctim.tv_sec, 0);
		CHECK_EQ(st.st_ctim.tv_nsec, 1);
		pml_inode_put(file, 1);
		reopen();
		REQUIRE(pml_dir_lookup(root, "f", &file) == 0);
	}
	pml_inode_put(file, 1);
	end();
}

static void test_new_owner_loses_setuid(void)
{
	begin();
	struct pml_inode *file = fs_pool_create(root, "f", S_IFREG | 06755);
	struct pml_inode *plain = fs_pool_create(root, "g", S_IFREG | 06644);
	struct pml_inode *dir = fs_pool_create(root, "d", S_IFDIR | 06755);
	const struct stat attr = {.st_uid = 9, .st_gid = 9, .st_mode = 06711};
	CHECK_EQ(pml_inode_set(file, PML_SET_MTIME, &attr), 0);
	CHECK_EQ(pml_inode_mode(file), S_IFREG | 06755);
	CHECK_EQ(pml_inode_set(file, PML_SET_UID, &attr), 0);
	CHECK_EQ(pml_inode_mode(file), S_IFREG | 0755);
	CHECK_EQ(pml_inode_set(file, PML_SET_UID | PML_SET_MODE, &attr), 0);
	CHECK_EQ(pml_inode_mode(file), S_IFREG | 06711);
	CHECK_EQ(pml_inode_set(file, PML_SET_GID, &attr), 0);
	CHECK_EQ(pml_inode_mode(file), S_IFREG | 0711);
	/* Where the group may not execute, setgid is another thing. */
	CHECK_EQ(pml_inode_set(plain, PML_SET_UID, &attr), 0);
	CHECK_EQ(pml_inode_mode(plain), S_IFREG | 02644);
	CHECK_EQ(pml_inode_set(dir, PML_SET_UID, &attr), 0);
	CHECK_EQ(pml_inode_mode(dir), S_IFDIR | 06755);
	pml_inode_put(file, 1);
	pml_inode_put(plain, 1);
	pml_inode_put(dir, 1);
	end();
}

/* Every mode, every asker, every mask against a second reading of POSIX. */
static void test_access_follows_the_permission_bits(void)
{
	begin();
	static const mode_t types[] = {S_IFREG, S_IFDIR};
	static const struct pml_cred askers[] = {{.uid = 0, .gid = 0},
						 {.uid = 1, .gid = 2},
						 {.uid = 1, .gid = 9},
						 {.uid = 9, .gid = 2},
						 {.uid = 9, .gid = 9}};
	for (size_t t = 0; t < PML_ARRAY_LEN(types); t++) {
		struct pml_inode *inode = fs_pool_create(root, t ? "d" : "f", types[t]);
		struct stat attr = {.st_uid = 1, .st_gid = 2};
		for (mode_t mode = 0; mode < 01000; mode++) {
			attr.st_mode = mode;
			if (pml_inode_set(inode, PML_SET_MODE | PML_SET_UID | PML_SET_GID, &attr))
				BAIL_OUT("set");
			for (size_t a = 0; a < PML_ARRAY_LEN(askers); a++) {
				int shift = askers[a].uid == 1 ? 6 : askers[a].gid == 2 ? 3 : 0;
				mode_t bits = mode >> shift & 7;
				if (askers[a].uid == 0)
					bits = types[t] == S_IFDIR || mode & 0111 ? 7 : 6;
				for (mode_t mask = 0; mask < 8; mask++)
					CHECK_EQ(pml_inode_access(inode, &askers[a], (int)mask),
						 (mask & bits) == mask ? 0 : -EACCES);
			}
		}
		pml_inode_put(inode, 1);
	}
	end();
}

/* ---- references and numbers --------------------------------------------- */

static void test_get_finds_inodes_in_use_only(void)
{
	begin();
	struct pml_inode *inode, *again;
	static const uint64_t none[] = {0, 2, 256, 257, 1ull << 28, (1ull << 28) + 1, UINT64_MAX};
	for (size_t i = 0; i < PML_ARRAY_LEN(none); i++)
		CHECK_EQ(pml_inode_get(pool.fs, none[i], &inode), -ENOENT);

	struct pml_inode *file = fs_pool_create(root, "f", FILE_MODE);
	uint64_t ino = pml_inode_ino(file);
	REQUIRE(pml_inode_get(pool.fs, ino, &again) == 0);
	CHECK(again == file);
	pml_inode_ref(file);
	pml_inode_put(file, 3);
	REQUIRE(pml_inode_get(pool.fs, ino, &again) == 0);
	CHECK_EQ(pml_inode_ino(again), ino);
	pml_inode_put(again, 1);
	end();
}

static void test_deleted_inode_lives_until_its_last_reference(void)
{
	begin();
	struct pml_fs_counts before, after;
	pml_fs_counts(pool.fs, &before);
	struct pml_inode *file = fs_pool_create(root, "f", FILE_MODE), *again;
	uint64_t ino = pml_inode_ino(file);
	char data[10000];
	memset(data, 1, sizeof(data));
	CHECK_EQ(pml_file_write(file, data, sizeof(data), 0, false, NULL), 0);
	CHECK_EQ(stat_of(file).st_blocks, 3 * 8);
	CHECK_EQ(pml_dir_unlink(root, "f"), 0);
	CHECK_EQ(look(root, "f"), -ENOENT);
	CHECK_EQ(stat_of(file).st_nlink, 0);
	CHECK_EQ(stat_of(file).st_size, sizeof(data));
	CHECK_EQ(pml_dir_link(root, "g", file), -ENOENT);
	CHECK_EQ(inodes_in_use(), 2);
	REQUIRE(pml_inode_get(pool.fs, ino, &again) == 0);
	pml_inode_put(file, 2);
	CHECK_EQ(pml_inode_get(pool.fs, ino, &again), -ENOENT);
	pml_fs_counts(pool.fs, &after);
	CHECK_EQ(after.inodes, 1);
	CHECK_EQ(after.used_blocks, before.used_blocks);
	end();
}

static void test_reused_number_has_a_new_generation(void)
{
	begin();
	uint64_t last = 0, ino = 0;
	for (int i = 0; i < 10; i++) {
		struct pml_inode *file = fs_pool_create(root, "f", FILE_MODE);
		if (i > 0)
			CHECK_EQ(pml_inode_ino(file), ino);
		CHECK(pml_inode_generation(file) > last);
		ino = pml_inode_ino(file);
		last = pml_inode_generation(file);
		CHECK_EQ(pml_dir_unlink(root, "f"), 0);
		pml_inode_put(file, 1);
		if (i % 3 == 0)
			reopen();
	}
	end();
}

/* A crash with an open deleted file: the process ends, the next mount cleans up. */
static void test_orphans_are_freed_at_mount(void)
{
	begin();
	CHECK_EQ(make(root, "kept", FILE_MODE), 0);
	struct pml_fs_counts before, after;
	pml_fs_counts(pool.fs, &before);
	pml_inode_put(root, 1);
	fs_pool_close(&pool);

	pid_t pid = fork();
	REQUIRE(pid >= 0);
	if (pid == 0) {
		fs_pool_reopen(&pool);
		root = fs_pool_root(&pool);
		struct pml_inode *file = fs_pool_create(root, "f", FILE_MODE);
		struct pml_inode *dir = fs_pool_create(root, "d", DIR_MODE);
		struct pml_inode *link;
		const struct pml_create_args args = {.mode = S_IFLNK, .target = "t"};
		char data[100000] = {1};
		bool ok = pml_dir_create(root, "l", &args, &link) == 0 && dir &&
			  pml_file_write(file, data, sizeof(data), 0, false, NULL) == 0 &&
			  pml_dir_unlink(root, "f") == 0 && pml_dir_unlink(root, "l") == 0 &&
			  pml_dir_rmdir(root, "d") == 0 && inodes_in_use() == 5;
		_exit(ok ? 0 : 1);
	}
	int status = -1;
	REQUIRE(waitpid(pid, &status, 0) == pid);
	CHECK_EQ(status, 0);
	fs_pool_reopen(&pool);
	root = fs_pool_root(&pool);
	pml_fs_counts(pool.fs, &after);
	CHECK_EQ(after.inodes, before.inodes);
	CHECK_EQ(after.used_blocks, before.used_blocks);
	end();
}

static void test_table_grows_and_reuses_numbers(void)
{
	begin();
	enum { N = 1000 };
	char name[16];
	int64_t highest = 0;
	for (int round = 0; round < 3; round++) {
		for (int i = 0; i < N; i++) {
			(void)snprintf(name, sizeof(name), "f%d", i);
			CHECK_EQ(make(root, name, FILE_MODE), 0);
			highest = PML_MAX(highest, look(root, name));
		}
		CHECK_EQ(inodes_in_use(), N + 1);
		CHECK(highest <= N + 1);
		reopen();
		CHECK_EQ(inodes_in_use(), N + 1);
		for (int i = 0; i < N; i++) {
			(void)snprintf(name, sizeof(name), "f%d", i);
			CHECK_EQ(pml_dir_unlink(root, name), 0);
		}
		CHECK_EQ(inodes_in_use(), 1);
	}
	end();
}

/* ---- link, unlink, rmdir ------------------------------------------------ */

static void test_hard_links_are_counted(void)
{
	begin();
	struct pml_inode *file = fs_pool_create(root, "a", FILE_MODE);
	struct pml_inode *dir = fs_pool_create(root, "d", DIR_MODE);
	struct stat before = stat_of(file);
	wait_a_moment();
	CHECK_EQ(pml_dir_link(dir, "b", file), 0);
	CHECK_EQ(stat_of(file).st_nlink, 2);
	CHECK(is_before(before.st_ctim, stat_of(file).st_ctim));
	CHECK_EQ(look(dir, "b"), pml_inode_ino(file));
	CHECK_EQ(pml_dir_link(dir, "b", file), -EEXIST);
	CHECK_EQ(pml_dir_link(root, "x", dir), -EPERM);
	CHECK_EQ(pml_dir_link(file, "x", file), -ENOTDIR);
	CHECK_EQ(pml_dir_unlink(root, "a"), 0);
	CHECK_EQ(stat_of(file).st_nlink, 1);
	CHECK_EQ(look(dir, "b"), pml_inode_ino(file));
	pml_inode_put(file, 1);
	CHECK(look(dir, "b") > 0);
	CHECK_EQ(pml_dir_unlink(dir, "b"), 0);
	CHECK_EQ(inodes_in_use(), 2);
	pml_inode_put(dir, 1);
	end();
}

static void test_unlink_and_rmdir_errors(void)
{
	begin();
	struct pml_inode *dir = fs_pool_create(root, "d", DIR_MODE);
	struct pml_inode *file = fs_pool_create(dir, "f", FILE_MODE);
	uint64_t before = fs_digest(pool.fs);
	CHECK_EQ(pml_dir_unlink(root, "x"), -ENOENT);
	CHECK_EQ(pml_dir_unlink(root, "d"), -EISDIR);
	CHECK_EQ(pml_dir_unlink(file, "x"), -ENOTDIR);
	CHECK_EQ(pml_dir_rmdir(root, "x"), -ENOENT);
	CHECK_EQ(pml_dir_rmdir(dir, "f"), -ENOTDIR);
	CHECK_EQ(pml_dir_rmdir(root, "d"), -ENOTEMPTY);
	CHECK_EQ(pml_dir_rmdir(file, "x"), -ENOTDIR);
	CHECK(fs_digest(pool.fs) == before);
	pml_inode_put(file, 1);
	pml_inode_put(dir, 1);
	end();
}

static bool emit_nothing(void *arg, const struct pml_dirent *entry)
{
	return true;
}

static void test_removed_directory_takes_no_names(void)
{
	begin();
	struct pml_inode *dir = fs_pool_create(root, "d", DIR_MODE);
	struct pml_inode *file = fs_pool_create(root, "f", FILE_MODE);
	CHECK_EQ(stat_of(root).st_nlink, 3);
	CHECK_EQ(pml_dir_rmdir(root, "d"), 0);
	CHECK_EQ(stat_of(root).st_nlink, 2);
	CHECK_EQ(stat_of(dir).st_nlink, 0);
	CHECK_EQ(make(dir, "x", FILE_MODE), -ENOENT);
	CHECK_EQ(look(dir, "x"), -ENOENT);
	CHECK_EQ(pml_dir_link(dir, "x", file), -ENOENT);
	CHECK_EQ(pml_dir_unlink(dir, "x"), -ENOENT);
	CHECK_EQ(pml_dir_rmdir(dir, "x"), -ENOENT);
	CHECK_EQ(pml_dir_rename(root, "f", dir, "x", 0), -ENOENT);
	CHECK_EQ(pml_dir_rename(dir, "x", root, "f", 0), -ENOENT);
	CHECK_EQ(pml_dir_read(dir, 0, emit_nothing, NULL), -ENOENT);
	CHECK_EQ(inodes_in_use(), 3);
	pml_inode_put(dir, 1);
	CHECK_EQ(inodes_in_use(), 2);
	pml_inode_put(file, 1);
	end();
}

static void test_links_of_a_file_are_limited(void)
{
	begin();
	char name[16];
	struct pml_inode *file = fs_pool_create(root, "f", FILE_MODE);
	for (unsigned int i = 1; i < PML_LINK_MAX; i++) {
		(void)snprintf(name, sizeof(name), "l%u", i);
		if (pml_dir_link(root, name, file))
			BAIL_OUT("link %u", i);
	}
	CHECK_EQ(stat_of(file).st_nlink, PML_LINK_MAX);
	CHECK_EQ(pml_dir_link(root, "x", file), -EMLINK);
	CHECK_EQ(pml_dir_unlink(root, "l1"), 0);
	CHECK_EQ(pml_dir_link(root, "x", file), 0);
	pml_inode_put(file, 1);
	end();
}

static void test_subdirectories_are_limited(void)
{
	begin();
	char name[16];
	struct pml_inode *dir = fs_pool_create(root, "d", DIR_MODE);
	for (unsigned int i = 2; i < PML_LINK_MAX; i++) {
		(void)snprintf(name, sizeof(name), "s%u", i);
		if (make(dir, name, DIR_MODE))
			BAIL_OUT("mkdir %u", i);
	}
	CHECK_EQ(stat_of(dir).st_nlink, PML_LINK_MAX);
	CHECK_EQ(make(dir, "x", DIR_MODE), -EMLINK);
	CHECK_EQ(make(dir, "f", FILE_MODE), 0);
	CHECK_EQ(make(root, "e", DIR_MODE), 0);
	CHECK_EQ(make(root, "f", FILE_MODE), 0);
	CHECK_EQ(pml_dir_rename(root, "e", dir, "x", 0), -EMLINK);
	CHECK_EQ(pml_dir_rename(root, "e", dir, "f", RENAME_EXCHANGE), -EMLINK);
	CHECK_EQ(pml_dir_rename(root, "f", dir, "s7", RENAME_EXCHANGE), 0);
	CHECK_EQ(pml_dir_rename(root, "e", dir, "x", 0), 0);
	/* One for one: the count stays. */
	CHECK_EQ(pml_dir_rename(root, "f", dir, "s8", 0), 0);
	CHECK_EQ(stat_of(dir).st_nlink, PML_LINK_MAX);
	CHECK_EQ(pml_dir_rename(dir, "s9", dir, "s10", 0), 0);
	CHECK_EQ(stat_of(dir).st_nlink, PML_LINK_MAX - 1);
	pml_inode_put(dir, 1);
	end();
}

/* ---- rename ------------------------------------------------------------- */

/* root: f -> file, g -> file, d/ (with d/f, d/s/), e/ (empty) */
static struct {
	struct pml_inode *f, *g, *d, *df, *ds, *e;
} tree;

static void begin_tree(void)
{
	begin();
	tree.f = fs_pool_create(root, "f", FILE_MODE);
	tree.g = fs_pool_create(root, "g", FILE_MODE);
	tree.d = fs_pool_create(root, "d", DIR_MODE);
	tree.df = fs_pool_create(tree.d, "f", FILE_MODE);
	tree.ds = fs_pool_create(tree.d, "s", DIR_MODE);
	tree.e = fs_pool_create(root, "e", DIR_MODE);
}

static void end_tree(void)
{
	pml_inode_put(tree.f, 1);
	pml_inode_put(tree.g, 1);
	pml_inode_put(tree.d, 1);
	pml_inode_put(tree.df, 1);
	pml_inode_put(tree.ds, 1);
	pml_inode_put(tree.e, 1);
	end();
}

#define CHECK_IS(dir, name, inode) CHECK_EQ(look(dir, name), pml_inode_ino(inode))

static void test_rename_moves_a_file(void)
{
	begin_tree();
	struct stat before = stat_of(tree.f);
	wait_a_moment();
	CHECK_EQ(pml_dir_rename(root, "f", root, "h", 0), 0);
	CHECK_EQ(look(root, "f"), -ENOENT);
	CHECK_IS(root, "h", tree.f);
	CHECK(is_before(before.st_ctim, stat_of(tree.f).st_ctim));
	CHECK_EQ(pml_dir_rename(root, "h", tree.e, "f", 0), 0);
	CHECK_EQ(look(root, "h"), -ENOENT);
	CHECK_IS(tree.e, "f", tree.f);
	CHECK_EQ(pml_dir_rename(tree.e, "f", root, "f", RENAME_NOREPLACE), 0);
	CHECK_IS(root, "f", tree.f);
	CHECK_EQ(stat_of(tree.f).st_nlink, 1);
	end_tree();
}

static void test_rename_replaces_a_file(void)
{
	begin_tree();
	uint64_t before = inodes_in_use();
	CHECK_EQ(pml_dir_rename(root, "f", root, "g", 0), 0);
	CHECK_EQ(look(root, "f"), -ENOENT);
	CHECK_IS(root, "g", tree.f);
	CHECK_EQ(stat_of(tree.g).st_nlink, 0);
	CHECK_EQ(inodes_in_use(), before);
	CHECK_EQ(pml_dir_rename(root, "g", tree.d, "f", 0), 0);
	CHECK_IS(tree.d, "f", tree.f);
	CHECK_EQ(stat_of(tree.df).st_nlink, 0);
	end_tree();
	begin();
	CHECK_EQ(make(root, "a", FILE_MODE), 0);
	CHECK_EQ(make(root, "b", FILE_MODE), 0);
	CHECK_EQ(pml_dir_rename(root, "a", root, "b", 0), 0);
	CHECK_EQ(inodes_in_use(), 2);
	end();
}

static void test_rename_moves_a_directory(void)
{
	begin_tree();
	CHECK_EQ(pml_dir_rename(tree.d, "s", root, "t", 0), 0);
	CHECK_IS(root, "t", tree.ds);
	CHECK_EQ(stat_of(tree.d).st_nlink, 2);
	CHECK_EQ(stat_of(root).st_nlink, 5);
	/* Into a deeper one, and back up. */
	CHECK_EQ(pml_dir_rename(root, "e", tree.ds, "e", 0), 0);
	CHECK_EQ(pml_dir_rename(root, "t", tree.d, "s", 0), 0);
	CHECK_EQ(pml_dir_rename(tree.ds, "e", root, "e", 0), 0);
	/* Over an empty one, in another directory and in the same. */
	CHECK_EQ(pml_dir_rename(root, "e", tree.d, "s", 0), 0);
	CHECK_IS(tree.d, "s", tree.e);
	CHECK_EQ(stat_of(tree.ds).st_nlink, 0);
	CHECK_EQ(make(tree.ds, "x", FILE_MODE), -ENOENT);
	CHECK_EQ(make(tree.d, "t", DIR_MODE), 0);
	CHECK_EQ(pml_dir_rename(tree.d, "s", tree.d, "t", 0), 0);
	CHECK_IS(tree.d, "t", tree.e);
	CHECK_EQ(stat_of(tree.d).st_nlink, 3);
	CHECK_EQ(stat_of(root).st_nlink, 3);
	end_tree();
}

static void test_rename_errors_change_nothing(void)
{
	begin_tree();
	uint64_t before = fs_digest(pool.fs);
	CHECK_EQ(pml_dir_rename(root, "x", root, "y", 0), -ENOENT);
	CHECK_EQ(pml_dir_rename(root, "f", root, "g", RENAME_NOREPLACE), -EEXIST);
	CHECK_EQ(pml_dir_rename(root, "f", root, "f", RENAME_NOREPLACE), -EEXIST);
	CHECK_EQ(pml_dir_rename(root, "f", root, "x", RENAME_EXCHANGE), -ENOENT);
	CHECK_EQ(pml_dir_rename(root, "f", root, "x", RENAME_EXCHANGE | RENAME_NOREPLACE), -EINVAL);
	CHECK_EQ(pml_dir_rename(root, "f", root, "x", RENAME_WHITEOUT), -EINVAL);
	CHECK_EQ(pml_dir_rename(root, "f", root, "e", 0), -EISDIR);
	CHECK_EQ(pml_dir_rename(root, "e", root, "f", 0), -ENOTDIR);
	CHECK_EQ(pml_dir_rename(root, "e", root, "d", 0), -ENOTEMPTY);
	CHECK_EQ(pml_dir_rename(tree.f, "x", root, "y", 0), -ENOTDIR);
	CHECK_EQ(pml_dir_rename(root, "f", tree.g, "y", 0), -ENOTDIR);
	/* Into itself, below itself, over what holds it. */
	CHECK_EQ(pml_dir_rename(root, "d", tree.d, "x", 0), -EINVAL);
	CHECK_EQ(pml_dir_rename(root, "d", tree.d, "s", 0), -EINVAL);
	CHECK_EQ(pml_dir_rename(root, "d", tree.ds, "x", 0), -EINVAL);
	CHECK_EQ(pml_dir_rename(root, "d", tree.ds, "x", RENAME_NOREPLACE), -EINVAL);
	CHECK_EQ(pml_dir_rename(tree.d, "s", root, "d", 0), -ENOTEMPTY);
	CHECK_EQ(pml_dir_rename(tree.d, "f", root, "d", 0), -ENOTEMPTY);
	CHECK_EQ(pml_dir_rename(tree.d, "s", root, "d", RENAME_EXCHANGE), -EINVAL);
	CHECK_EQ(pml_dir_rename(root, "d", tree.d, "s", RENAME_EXCHANGE), -EINVAL);
	/* Names of one inode: nothing to do. */
	CHECK_EQ(pml_dir_rename(root, "f", root, "f", 0), 0);
	CHECK_EQ(pml_dir_rename(root, "d", root, "d", 0), 0);
	CHECK_EQ(pml_dir_rename(root, "d", root, "d", RENAME_EXCHANGE), 0);
	CHECK(fs_digest(pool.fs) == before);

	CHECK_EQ(pml_dir_link(tree.e, "f", tree.f), 0);
	before = fs_digest(pool.fs);
	CHECK_EQ(pml_dir_rename(root, "f", tree.e, "f", 0), 0);
	CHECK_EQ(pml_dir_rename(root, "f", tree.e, "f", RENAME_EXCHANGE), 0);
	CHECK(fs_digest(pool.fs) == before);
	end_tree();
}

static void test_rename_leaves_a_whiteout(void)
{
	const struct pml_cred cred = {.uid = 7, .gid = 8};
	begin_tree();
	uint64_t before = fs_digest(pool.fs);
	CHECK_EQ(pml_dir_rename_whiteout(root, "x", root, "y", 0, &cred), -ENOENT);
	CHECK_EQ(pml_dir_rename_whiteout(root, "f", root, "g", RENAME_NOREPLACE, &cred), -EEXIST);
	CHECK_EQ(pml_dir_rename_whiteout(root, "f", root, "g", RENAME_EXCHANGE, &cred), -EINVAL);
	CHECK_EQ(pml_dir_rename_whiteout(root, "f", root, "f", 0, &cred), 0);
	CHECK(fs_digest(pool.fs) == before);

	CHECK_EQ(pml_dir_rename_whiteout(root, "f", tree.e, "x", 0, &cred), 0);
	CHECK_IS(tree.e, "x", tree.f);
	struct pml_inode *white;
	REQUIRE(pml_dir_lookup(root, "f", &white) == 0);
	struct stat st = stat_of(white);
	pml_inode_put(white, 1);
	CHECK_EQ(st.st_mode, S_IFCHR);
	CHECK_EQ(st.st_rdev, 0);
	CHECK_EQ(st.st_uid, 7);
	CHECK_EQ(st.st_gid, 8);
	CHECK_EQ(st.st_nlink, 1);
	/* A directory; over a file's name that is taken. */
	CHECK_EQ(pml_dir_rename_whiteout(tree.d, "s", root, "s", RENAME_NOREPLACE, &cred), 0);
	CHECK_EQ(stat_of(tree.d).st_nlink, 2);
	CHECK_EQ(pml_dir_rename_whiteout(tree.e, "x", root, "g", 0, &cred), 0);
	CHECK_IS(root, "g", tree.f);
	CHECK_STR(fs_check(pool.fs), "");
	end_tree();
}

static void test_a_file_without_a_name(void)
{
	begin_tree();
	struct pml_create_args args = {.mode = S_IFREG | 0600, .cred = {.uid = 7, .gid = 8}};
	struct pml_fs_counts counts;
	pml_fs_counts(pool.fs, &counts);
	uint64_t inodes = counts.inodes;
	struct pml_inode *file;
	REQUIRE(pml_dir_create_unnamed(root, &args, &file) == 0);
	CHECK_EQ(stat_of(file).st_nlink, 0);
	CHECK_EQ(stat_of(file).st_uid, 7);
	char byte = 1;
	CHECK_EQ(pml_file_write(file, &byte, 1, 0, false, NULL), 0);
	CHECK_STR(fs_check(pool.fs), "");
	/* Its last reference takes it away. */
	pml_inode_put(file, 1);
	pml_fs_counts(pool.fs, &counts);
	CHECK_EQ(counts.inodes, inodes);
	CHECK_EQ(counts.used_blocks, 0);

	/* A name, once; deleted it is as deleted as others. */
	REQUIRE(pml_dir_create_unnamed(tree.d, &args, &file) == 0);
	CHECK_EQ(pml_dir_link(tree.e, "name", file), 0);
	CHECK_IS(tree.e, "name", file);
	CHECK_EQ(stat_of(file).st_nlink, 1);
	CHECK_EQ(pml_dir_unlink(tree.e, "name"), 0);
	CHECK_EQ(pml_dir_link(tree.e, "name", file), -ENOENT);
	pml_inode_put(file, 1);

	args.mode = S_IFDIR | 0700;
	CHECK_EQ(pml_dir_create_unnamed(root, &args, &file), -EINVAL);
	args.mode = S_IFREG | 0600;
	CHECK_EQ(pml_dir_create_unnamed(tree.f, &args, &file), -ENOTDIR);
	CHECK_EQ(pml_dir_rmdir(root, "e"), 0);
	CHECK_EQ(pml_dir_create_unnamed(tree.e, &args, &file), -ENOENT);
	CHECK_STR(fs_check(pool.fs), "");
	end_tree();
}

static void test_parent_of_a_directory(void)
{
	begin_tree();
	struct pml_inode *parent;
	REQUIRE(pml_dir_parent(tree.d, &parent) == 0);
	CHECK(parent == root);
	pml_inode_put(parent, 1);
	REQUIRE(pml_dir_parent(root, &parent) == 0);
	CHECK(parent == root);
	pml_inode_put(parent, 1);
	CHECK_EQ(pml_dir_parent(tree.f, &parent), -ENOTDIR);
	CHECK_EQ(pml_dir_rmdir(root, "e"), 0);
	CHECK_EQ(pml_dir_parent(tree.e, &parent), -ENOENT);
	end_tree();
}

static void test_rename_exchanges(void)
{
	begin_tree();
	CHECK_EQ(pml_dir_rename(root, "f", root, "g", RENAME_EXCHANGE), 0);
	CHECK_IS(root, "f", tree.g);
	CHECK_IS(root, "g", tree.f);
	/* A file and a directory, in one directory and across. */
	CHECK_EQ(pml_dir_rename(root, "f", root, "e", RENAME_EXCHANGE), 0);
	CHECK_IS(root, "f", tree.e);
	CHECK_IS(root, "e", tree.g);
	CHECK_EQ(stat_of(root).st_nlink, 4);
	CHECK_EQ(pml_dir_rename(root, "f", tree.d, "f", RENAME_EXCHANGE), 0);
	CHECK_IS(root, "f", tree.df);
	CHECK_IS(tree.d, "f", tree.e);
	CHECK_EQ(stat_of(root).st_nlink, 3);
	CHECK_EQ(stat_of(tree.d).st_nlink, 4);
	CHECK_EQ(pml_dir_rename(root, "f", tree.d, "f", RENAME_EXCHANGE), 0);
	CHECK_EQ(stat_of(root).st_nlink, 4);
	/* Two directories, not empty. */
	CHECK_EQ(make(tree.ds, "x", FILE_MODE), 0);
	CHECK_EQ(make(tree.e, "y", FILE_MODE), 0);
	CHECK_EQ(pml_dir_rename(tree.d, "s", root, "f", RENAME_EXCHANGE), 0);
	CHECK_IS(tree.d, "s", tree.e);
	CHECK_IS(root, "f", tree.ds);
	CHECK_EQ(stat_of(tree.d).st_nlink, 3);
	CHECK_EQ(stat_of(root).st_nlink, 4);
	end_tree();
}

/* ---- reading ------------------------------------------------------------ */

#define ENTRIES_MAX 64

struct listing {
	size_t n;
	size_t stop_at; /* refuses the entry with this index */
	struct {
		char name[PML_NAME_BYTES_MAX + 1];
		uint64_t ino;
		mode_t type;
		uint64_t cookie;
	} entry[ENTRIES_MAX];
};

static bool list(void *arg, const struct pml_dirent *entry)
{
	struct listing *l = arg;
	if (l->n == l->stop_at)
		return false;
	if (l->n == ENTRIES_MAX)
		BAIL_OUT("too many entries");
	(void)snprintf(l->entry[l->n].name, sizeof(l->entry[0].name), "%s", entry->name);
	l->entry[l->n].ino = entry->ino;
	l->entry[l->n].type = entry->type;
	l->entry[l->n].cookie = entry->cookie;
	l->n++;
	return true;
}

static void test_read_lists_dot_dotdot_and_all_entries(void)
{
	begin_tree();
	struct listing l = {.stop_at = SIZE_MAX};
	CHECK_EQ(pml_dir_read(tree.d, 0, list, &l), 0);
	REQUIRE(l.n == 4);
	CHECK_STR(l.entry[0].name, ".");
	CHECK_EQ(l.entry[0].ino, pml_inode_ino(tree.d));
	CHECK_EQ(l.entry[0].type, S_IFDIR);
	CHECK_EQ(l.entry[0].cookie, 1);
	CHECK_STR(l.entry[1].name, "..");
	CHECK_EQ(l.entry[1].ino, PML_ROOT_INO);
	CHECK_EQ(l.entry[1].type, S_IFDIR);
	CHECK_EQ(l.entry[1].cookie, 2);
	for (size_t i = 2; i < 4; i++) {
		bool is_file = strcmp(l.entry[i].name, "f") == 0;
		CHECK_EQ(l.entry[i].ino, pml_inode_ino(is_file ? tree.df : tree.ds));
		CHECK_EQ(l.entry[i].type, is_file ? S_IFREG : S_IFDIR);
		CHECK(l.entry[i].cookie > l.entry[i - 1].cookie);
		CHECK(l.entry[i].cookie <= INT64_MAX);
	}
	l = (struct listing){.stop_at = SIZE_MAX};
	CHECK_EQ(pml_dir_read(root, 0, list, &l), 0);
	CHECK_EQ(l.n, 6);
	CHECK_EQ(l.entry[1].ino, PML_ROOT_INO);
	CHECK_EQ(pml_dir_read(tree.f, 0, list, &l), -ENOTDIR);
	end_tree();
}

static void test_read_goes_on_behind_a_cookie(void)
{
	begin_tree();
	struct listing all = {.stop_at = SIZE_MAX};
	CHECK_EQ(pml_dir_read(root, 0, list, &all), 0);
	uint64_t cookie = 0;
	for (size_t i = 0; i <= all.n; i++) {
		for (size_t stop = 0; stop <= all.n - i; stop++) {
			struct listing part = {.stop_at = stop};
			CHECK_EQ(pml_dir_read(root, cookie, list, &part), 0);
			CHECK_EQ(part.n, stop);
			for (size_t j = 0; j < part.n; j++)
				CHECK_STR(part.entry[j].name, all.entry[i + j].name);
		}
		if (i < all.n)
			cookie = all.entry[i].cookie;
	}
	struct listing none = {.stop_at = SIZE_MAX};
	CHECK_EQ(pml_dir_read(root, INT64_MAX, list, &none), 0);
	CHECK_EQ(pml_dir_read(root, UINT64_MAX, list, &none), 0);
	CHECK_EQ(none.n, 0);
	end_tree();
}

/* What a reader saw: numbers of names "s<number>" that stay all the time. */
struct reader {
	unsigned char seen[2000];
	unsigned int batch;
	uint64_t cookie;
	bool has_more;
};

static bool see(void *arg, const struct pml_dirent *entry)
{
	struct reader *r = arg;
	if (r->batch == 0) {
		r->has_more = true;
		return false;
	}
	r->batch--;
	r->cookie = entry->cookie;
	if (entry->name[0] == 's')
		r->seen[strtoul(entry->name + 1, NULL, 10)]++;
	return true;
}

static void test_cookies_stay_valid_while_entries_come_and_go(void)
{
	begin();
	enum { STAY = 2000, COME_AND_GO = 2000 };
	char name[16];
	for (int i = 0; i < STAY; i++) {
		(void)snprintf(name, sizeof(name), "s%d", i);
		CHECK_EQ(make(root, name, FILE_MODE), 0);
		(void)snprintf(name, sizeof(name), "g%d", i);
		CHECK_EQ(make(root, name, FILE_MODE), 0);
	}
	struct reader r = {0};
	int gone = 0;
	do {
		r.has_more = false;
		r.batch = 7;
		CHECK_EQ(pml_dir_read(root, r.cookie, see, &r), 0);
		for (int i = 0; i < 5 && gone < COME_AND_GO; i++, gone++) {
			(void)snprintf(name, sizeof(name), "g%d", gone);
			CHECK_EQ(pml_dir_unlink(root, name), 0);
			(void)snprintf(name, sizeof(name), "n%d", gone);
			CHECK_EQ(make(root, name, FILE_MODE), 0);
		}
	} while (r.has_more);
	int wrong = 0;
	for (int i = 0; i < STAY; i++)
		wrong += r.seen[i] != 1;
	CHECK_EQ(wrong, 0);
	CHECK(gone > 1000);
	end();
}

static bool count_entry(void *arg, const struct pml_dirent *entry)
{
	++*(uint64_t *)arg;
	return true;
}

static void test_directory_of_20000_entries(void)
{
	begin();
	enum { N = 20000 };
	struct pml_inode *dir = fs_pool_create(root, "d", DIR_MODE);
	char name[40];
	int wrong = 0;
	for (int i = 0; i < N; i++) {
		(void)snprintf(name, sizeof(name), "a rather ordinary name %d.txt", i);
		wrong += make(dir, name, FILE_MODE) != 0;
	}
	CHECK_EQ(wrong, 0);
	CHECK_EQ(stat_of(dir).st_size, N * 32);
	pml_inode_put(dir, 1);
	CHECK_STR(fs_check(pool.fs), "");
	reopen();
	REQUIRE(pml_dir_lookup(root, "d", &dir) == 0);
	uint64_t n = 0;
	CHECK_EQ(pml_dir_read(dir, 0, count_entry, &n), 0);
	CHECK_EQ(n, N + 2);
	for (int i = 0; i < N; i++) {
		(void)snprintf(name, sizeof(name), "a rather ordinary name %d.txt", i);
		wrong += look(dir, name) <= 0;
	}
	CHECK_EQ(wrong, 0);
	CHECK_EQ(pml_dir_rmdir(root, "d"), -ENOTEMPTY);
	for (int i = 0; i < N; i++) {
		(void)snprintf(name, sizeof(name), "a rather ordinary name %d.txt", i);
		wrong += pml_dir_unlink(dir, name) != 0;
	}
	CHECK_EQ(wrong, 0);
	CHECK_EQ(pml_dir_rmdir(root, "d"), 0);
	pml_inode_put(dir, 1);
	CHECK_EQ(inodes_in_use(), 1);
	end();
}

/* ---- what is on the device ---------------------------------------------- */

static void test_all_is_there_after_reopen(void)
{
	begin_tree();
	CHECK_EQ(make(root, "l", S_IFLNK | 0777), 0);
	CHECK_EQ(pml_dir_link(tree.e, "hard", tree.f), 0);
	CHECK_EQ(pml_dir_rename(root, "g", tree.ds, "deep", 0), 0);
	CHECK_EQ(pml_dir_rename(tree.d, "s", tree.e, "moved", 0), 0);
	uint64_t before = fs_digest(pool.fs);
	uint64_t deep = pml_inode_ino(tree.g);
	struct pml_inode *held[] = {tree.f, tree.g, tree.d, tree.df, tree.ds, tree.e};
	for (size_t i = 0; i < PML_ARRAY_LEN(held); i++)
		pml_inode_put(held[i], 1);
	reopen();
	CHECK(fs_digest(pool.fs) == before);
	struct pml_inode *e, *moved, *link;
	char target[PML_SYMLINK_MAX + 1];
	REQUIRE(pml_dir_lookup(root, "e", &e) == 0);
	REQUIRE(pml_dir_lookup(e, "moved", &moved) == 0);
	REQUIRE(pml_dir_lookup(root, "l", &link) == 0);
	CHECK_EQ(look(moved, "deep"), deep);
	CHECK_EQ(look(e, "hard"), look(root, "f"));
	CHECK_EQ(pml_inode_readlink(link, target), 0);
	CHECK_STR(target, "target");
	pml_inode_put(e, 1);
	pml_inode_put(moved, 1);
	pml_inode_put(link, 1);
	end();
}

static void test_read_only_refuses_every_change(void)
{
	begin();
	CHECK_EQ(make(root, "f", FILE_MODE), 0);
	CHECK_EQ(make(root, "d", DIR_MODE), 0);
	pml_inode_put(root, 1);
	fs_pool_reopen_read_only(&pool);
	root = fs_pool_root(&pool);
	struct pml_inode *file;
	const struct stat attr = {0};
	REQUIRE(pml_dir_lookup(root, "f", &file) == 0);
	uint64_t before = fs_digest(pool.fs);
	CHECK_EQ(make(root, "x", FILE_MODE), -EROFS);
	CHECK_EQ(pml_dir_link(root, "x", file), -EROFS);
	CHECK_EQ(pml_dir_unlink(root, "f"), -EROFS);
	CHECK_EQ(pml_dir_rmdir(root, "d"), -EROFS);
	CHECK_EQ(pml_dir_rename(root, "f", root, "x", 0), -EROFS);
	CHECK_EQ(pml_inode_set(file, PML_SET_MODE, &attr), -EROFS);
	CHECK(fs_digest(pool.fs) == before);
	CHECK_EQ(stat_of(file).st_mode, FILE_MODE);
	pml_inode_put(file, 1);
	end();
}

/* ---- many threads ------------------------------------------------------- */

#define THREADS 4
#define DIRS	3
#define NAMES	12

struct worker {
	pthread_t thread;
	uint64_t random; /* xorshift64 */
	uint64_t operations;
	int wrong; /* first error that must not be */
};

static struct pml_inode *dirs[DIRS];
static atomic_bool stop;

static uint32_t pick(struct worker *w, uint32_t n)
{
	w->random ^= w->random << 13;
	w->random ^= w->random >> 7;
	w->random ^= w->random << 17;
	return (uint32_t)(w->random >> 32) % n;
}

/* One of the directories, or by chance one in it; with a reference. */
static struct pml_inode *pick_dir(struct worker *w)
{
	static const char *const names[] = {"n0", "n1", "n2", "n3"};
	struct pml_inode *dir = dirs[pick(w, DIRS)];
	pml_inode_ref(dir);
	while (pick(w, 3) == 0) {
		struct pml_inode *below;
		if (pml_dir_lookup(dir, names[pick(w, 4)], &below))
			break;
		pml_inode_put(dir, 1);
		dir = below;
	}
	return dir;
}

static int work(struct worker *w, struct pml_inode *a, struct pml_inode *b)
{
	char name[16], other[16];
	struct stat attr = {.st_mode = pick(w, 01000)};
	struct pml_inode *inode;
	(void)snprintf(name, sizeof(name), "n%u", pick(w, NAMES));
	(void)snprintf(other, sizeof(other), "n%u", pick(w, NAMES));
	static const unsigned int flags[] = {0, 0, RENAME_NOREPLACE, RENAME_EXCHANGE};
	uint64_t cookies = 0;
	int err;
	switch (pick(w, 13)) {
	case 0:
	case 1:
		return make(a, name, FILE_MODE);
	case 2:
	case 3:
		return make(a, name, DIR_MODE);
	case 4:
		return make(a, name, S_IFLNK | 0777);
	case 5:
	case 6:
		return pml_dir_unlink(a, name);
	case 7:
		return pml_dir_rmdir(a, name);
	case 8:
	case 9:
		return pml_dir_rename(a, name, b, other, flags[pick(w, 4)]);
	case 10:
		err = pml_dir_lookup(a, name, &inode);
		if (err)
			return err;
		err = pml_dir_link(b, other, inode);
		pml_inode_stat(inode, &attr);
		pml_inode_put(inode, 1);
		return err;
	case 11:
		err = pml_inode_get(pool.fs, pick(w, 300), &inode);
		if (err)
			return err;
		err = pml_inode_set(inode, PML_SET_MODE, &attr);
		pml_inode_put(inode, 1);
		return err;
	default:
		return pml_dir_read(a, 0, count_entry, &cookies);
	}
}

static void *run_worker(void *arg)
{
	struct worker *w = arg;
	while (!atomic_load(&stop)) {
		struct pml_inode *a = pick_dir(w), *b = pick_dir(w);
		int err = work(w, a, b);
		pml_inode_put(a, 1);
		pml_inode_put(b, 1);
		w->operations++;
		switch (err) {
		case 0:
		case -EEXIST:
		case -EINVAL:
		case -EISDIR:
		case -ENOENT:
		case -ENOTDIR:
		case -ENOTEMPTY:
		case -EPERM:
			break;
		default:
			w->wrong = err;
			return NULL;
		}
	}
	return NULL;
}

static void no_pins(void *arg, pml_audit_emit emit, void *audit)
{
}

static void test_threads_leave_a_sound_tree(void)
{
	begin();
	const char *given = getenv("PML_SEED");
	uint64_t seed = given ? strtoull(given, NULL, 0) : (uint64_t)time(NULL);
	printf("# PML_SEED=%" PRIu64 "\n", seed);
	for (unsigned int i = 0; i < DIRS; i++) {
		char name[2] = {(char)('a' + i), 0};
		dirs[i] = fs_pool_create(root, name, DIR_MODE);
	}
	struct worker workers[THREADS] = {0};
	atomic_store(&stop, false);
	for (unsigned int i = 0; i < THREADS; i++) {
		workers[i].random = (seed + i + 1) * 0x9e3779b97f4a7c15ull;
		REQUIRE(pthread_create(&workers[i].thread, NULL, run_worker, &workers[i]) == 0);
	}
	for (int i = 0; i < 20; i++) {
		const struct timespec tenth = {.tv_nsec = 100000000};
		(void)nanosleep(&tenth, NULL);
		char reason[PML_REASON_BYTES];
		if (pml_fs_audit(pool.fs, no_pins, NULL, reason))
			TAP_FAIL("audit: %s", reason);
	}
	atomic_store(&stop, true);
	uint64_t operations = 0;
	for (unsigned int i = 0; i < THREADS; i++) {
		(void)pthread_join(workers[i].thread, NULL);
		CHECK_EQ(workers[i].wrong, 0);
		operations += workers[i].operations;
	}
	printf("# %" PRIu64 " operations, %" PRIu64 " inodes left\n", operations, inodes_in_use());
	for (unsigned int i = 0; i < DIRS; i++)
		pml_inode_put(dirs[i], 1);
	CHECK_STR(fs_check(pool.fs), "");
	uint64_t before = fs_digest(pool.fs);
	reopen();
	CHECK(fs_digest(pool.fs) == before);
	end();
}

int main(void)
{
	TAP_RUN(test_fresh_root_is_an_empty_directory);
	TAP_RUN(test_created_inode_is_what_was_asked);
	TAP_RUN(test_create_touches_the_directory);
	TAP_RUN(test_symlink_keeps_its_target);
	TAP_RUN(test_bad_names_are_refused_everywhere);
	TAP_RUN(test_create_errors);
	TAP_RUN(test_setgid_directory_gives_its_group);
	TAP_RUN(test_set_changes_what_is_named);
	TAP_RUN(test_new_owner_loses_setuid);
	TAP_RUN(test_access_follows_the_permission_bits);
	TAP_RUN(test_get_finds_inodes_in_use_only);
	TAP_RUN(test_deleted_inode_lives_until_its_last_reference);
	TAP_RUN(test_reused_number_has_a_new_generation);
	TAP_RUN(test_orphans_are_freed_at_mount);
	TAP_RUN(test_table_grows_and_reuses_numbers);
	TAP_RUN(test_hard_links_are_counted);
	TAP_RUN(test_unlink_and_rmdir_errors);
	TAP_RUN(test_removed_directory_takes_no_names);
	TAP_RUN(test_links_of_a_file_are_limited);
	TAP_RUN(test_subdirectories_are_limited);
	TAP_RUN(test_rename_moves_a_file);
	TAP_RUN(test_rename_replaces_a_file);
	TAP_RUN(test_rename_moves_a_directory);
	TAP_RUN(test_rename_errors_change_nothing);
	TAP_RUN(test_rename_exchanges);
	TAP_RUN(test_rename_leaves_a_whiteout);
	TAP_RUN(test_a_file_without_a_name);
	TAP_RUN(test_parent_of_a_directory);
	TAP_RUN(test_read_lists_dot_dotdot_and_all_entries);
	TAP_RUN(test_read_goes_on_behind_a_cookie);
	TAP_RUN(test_cookies_stay_valid_while_entries_come_and_go);
	TAP_RUN(test_directory_of_20000_entries);
	TAP_RUN(test_all_is_there_after_reopen);
	TAP_RUN(test_read_only_refuses_every_change);
	TAP_RUN(test_threads_leave_a_sound_tree);
	return tap_done();
}
