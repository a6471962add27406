/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_service_names.c -- every request on names and attributes, through a server
 *
 * A real filesystem in memory, clients of several users (tests/support/pool_rig.h): what they
 * get is compared with what the kernel would do (the rules: fs/permit.c).
 */
#include <fcntl.h>
#include <stdatomic.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#include "pml/clock.h"
#include "pool_rig.h"
#include "tap.h"

static struct pool_rig rig;
static struct pml_client *root, *alice, *bob, *reader;

enum { ALICE = 1000, BOB = 2000 };

static void start(void)
{
	pool_rig_init(&rig);
	pool_rig_start(&rig);
	root = pool_rig_user(&rig, 0, 0, false);
	alice = pool_rig_user(&rig, ALICE, ALICE, false);
	bob = pool_rig_user(&rig, BOB, BOB, false);
	reader = pool_rig_user(&rig, 0, 0, true);
}

static void stop(void)
{
	pool_rig_stop(&rig);
}

static struct pml_client_attr stat_of(const char *path)
{
	struct pml_client_attr attr = {.ino = 0};
	int err = pml_client_stat(root, path, &attr);
	if (err)
		TAP_FAIL("stat %s: %s", path, pml_client_reason(root));
	return attr;
}

/* Of this client's own server: valid for some more calls. */
static const struct pml_client_handle *handle_of(struct pml_client *client, const char *path)
{
	static struct pml_client_attr attrs[4];
	static unsigned int next;
	struct pml_client_attr *attr = &attrs[next++ % 4];
	int err = pml_client_stat(client, path, attr);
	if (err)
		TAP_FAIL("handle of %s: %s", path, pml_client_reason(client));
	return &attr->handle;
}

static bool is_there(const char *path)
{
	struct pml_client_attr attr;
	return pml_client_stat(root, path, &attr) == 0;
}

static struct pml_client_attr make_file(struct pml_client *client, const char *path, mode_t mode)
{
	struct pml_client_attr attr = {.ino = 0};
	if (pml_client_create(client, path, mode, true, &attr))
		BAIL_OUT("create %s: %s", path, pml_client_reason(client));
	return attr;
}

static void make_dir(struct pml_client *client, const char *path, mode_t mode)
{
	struct pml_client_attr attr;
	if (pml_client_mkdir(client, path, mode, &attr))
		BAIL_OUT("mkdir %s: %s", path, pml_client_reason(client));
}

/* The inode, as somebody on the server has it. */
static struct pml_inode *local_inode(const char *path)
{
	struct pml_inode *inode;
	if (pml_inode_get(rig.pool.fs, stat_of(path).ino, &inode))
		BAIL_OUT("no inode %s", path);
	return inode;
}

static void local_write(const char *path, const void *data, size_t bytes, uint64_t first)
{
	struct pml_inode *inode = local_inode(path);
	CHECK_EQ(pml_file_write(inode, data, bytes, first, false, NULL), 0);
	pml_inode_put(inode, 1);
}

static bool has_reason(struct pml_client *client, const char *part)
{
	return strstr(pml_client_reason(client), part) != NULL;
}

/* ---- directories -------------------------------------------------------- */

static void test_mkdir_makes_a_directory_of_its_user(void)
{
	start();
	struct pml_client_attr attr, top;
	CHECK_EQ(pml_client_mkdir(alice, "dir", 07755, &attr), 0);
	CHECK_EQ(attr.mode, S_IFDIR | 01755);
	CHECK_EQ(attr.uid, ALICE);
	CHECK_EQ(attr.gid, ALICE);
	CHECK_EQ(attr.nlink, 2);
	CHECK_STR(rig.told.last_name, "dir");
	CHECK_EQ(pml_client_stat(alice, "", &top), 0);
	CHECK_EQ(top.nlink, 3);
	CHECK_EQ(pml_client_mkdir(alice, "dir", 0755, &attr), -EEXIST);
	CHECK_EQ(pml_client_mkdir(bob, "dir/sub", 0755, &attr), -EACCES);
	CHECK_EQ(pml_client_mkdir(alice, "no/sub", 0755, &attr), -ENOENT);
	make_file(alice, "file", 0644);
	CHECK_EQ(pml_client_mkdir(alice, "file/sub", 0755, &attr), -ENOTDIR);
	CHECK_EQ(pml_client_mkdir(alice, "file", 0755, &attr), -EEXIST);
	CHECK_EQ(pml_client_mkdir(reader, "new", 0755, &attr), -EROFS);
	CHECK(has_reason(reader, "read only"));
	CHECK_EQ(pml_client_mkdir(reader, "dir", 0755, &attr), -EEXIST);

	CHECK_EQ(pml_client_chmod(alice, "dir", 02775), 0);
	CHECK_EQ(pml_client_chown(root, "dir", (uid_t)-1, 77), 0);
	CHECK_EQ(pml_client_mkdir_at(root, handle_of(root, "dir"), "sub", 0700, &attr), 0);
	CHECK_EQ(attr.mode, S_IFDIR | 02700);
	CHECK_EQ(attr.gid, 77);
	CHECK_EQ(pml_client_mkdir_at(alice, &top.handle, "a/b", 0700, &attr), -EINVAL);
	CHECK_EQ(pml_client_mkdir_at(alice, &top.handle, "", 0700, &attr), -EINVAL);
	CHECK_EQ(pml_client_mkdir_at(alice, &top.handle, "..", 0700, &attr), -EINVAL);
	stop();
}

static void test_unlink_and_rmdir_take_names_away(void)
{
	start();
	make_dir(alice, "dir", 0755);
	make_file(alice, "dir/file", 0644);
	CHECK_EQ(pml_client_rmdir(alice, "dir"), -ENOTEMPTY);
	CHECK_EQ(pml_client_rmdir(alice, "dir/file"), -ENOTDIR);
	CHECK_EQ(pml_client_unlink(alice, "dir"), -EISDIR);
	CHECK_EQ(pml_client_unlink(bob, "dir/file"), -EACCES);
	CHECK_EQ(pml_client_unlink(reader, "dir/file"), -EROFS);
	CHECK_EQ(pml_client_rmdir(reader, "dir"), -EROFS);
	CHECK_EQ(pml_client_unlink(alice, "dir/nothing"), -ENOENT);
	struct pml_client_attr file = {.handle = *handle_of(alice, "dir/file")};
	unsigned int nnames = rig.told.nnames, nfiles = rig.told.nfiles;
	CHECK_EQ(pml_client_unlink(alice, "dir/file"), 0);
	CHECK_EQ(rig.told.nnames, nnames + 1);
	CHECK_EQ(rig.told.nfiles, nfiles + 1);
	CHECK(!is_there("dir/file"));
	CHECK_EQ(pml_client_stat_at(alice, &file.handle, &file), -ESTALE);
	CHECK(has_reason(alice, "gone"));
	CHECK_EQ(pml_client_rmdir_at(alice, handle_of(alice, ""), "dir"), 0);
	CHECK(!is_there("dir"));
	CHECK_EQ(pml_client_rmdir(alice, "/"), -EISDIR);
	stop();
}

static void test_sticky_directories_protect_names(void)
{
	start();
	make_dir(root, "tmp", 01777);
	make_file(alice, "tmp/hers", 0666);
	make_file(bob, "tmp/his", 0666);
	make_dir(alice, "own", 01777);
	make_file(bob, "own/his", 0666);
	CHECK_EQ(stat_of("tmp").mode, S_IFDIR | 01777);

	CHECK_EQ(pml_client_unlink(bob, "tmp/hers"), -EPERM);
	CHECK(has_reason(bob, "sticky"));
	CHECK_EQ(pml_client_rename(bob, "tmp/hers", "tmp/x", 0), -EPERM);
	CHECK_EQ(pml_client_rename(bob, "tmp/his", "tmp/hers", 0), -EPERM);
	CHECK_EQ(pml_client_rename(bob, "tmp/his", "tmp/hers", PML_CLIENT_RENAME_EXCHANGE), -EPERM);
	CHECK_EQ(pml_client_unlink(alice, "own/his"), 0);
	CHECK_EQ(pml_client_unlink(bob, "tmp/his"), 0);
	CHECK_EQ(pml_client_unlink(root, "tmp/hers"), 0);
	stop();
}

/* ---- names of files ----------------------------------------------------- */

static void test_symlinks_hold_what_they_were_given(void)
{
	start();
	char target[PML_SYMLINK_MAX + 2], got[PML_SYMLINK_MAX + 1];
	struct pml_client_attr attr;
	CHECK_EQ(pml_client_symlink(alice, "a/../b c", "link", &attr), 0);
	CHECK_EQ(attr.mode, S_IFLNK | 0777);
	CHECK_EQ(attr.uid, ALICE);
	CHECK_EQ(pml_client_readlink(bob, "link", got, sizeof(got)), 0);
	CHECK_STR(got, "a/../b c");
	CHECK_EQ(pml_client_readlink_at(alice, &attr.handle, got, 9), 0);
	CHECK_EQ(pml_client_readlink_at(alice, &attr.handle, got, 8), -ERANGE);
	CHECK_EQ(pml_client_symlink(alice, "x", "link", &attr), -EEXIST);
	CHECK_EQ(pml_client_symlink(alice, "", "empty", &attr), -ENOENT);
	CHECK_EQ(pml_client_symlink(reader, "x", "new", &attr), -EROFS);

	memset(target, 't', sizeof(target) - 1);
	target[PML_SYMLINK_MAX + 1] = 0;
	CHECK_EQ(pml_client_symlink(alice, target, "long", &attr), -ENAMETOOLONG);
	target[PML_SYMLINK_MAX] = 0;
	CHECK_EQ(pml_client_symlink_at(alice, target, handle_of(alice, ""), "long", &attr), 0);
	CHECK_EQ(pml_client_readlink(alice, "long", got, sizeof(got)), 0);
	CHECK_STR(got, target);

	make_dir(root, "closed", 0755);
	CHECK_EQ(pml_client_symlink(alice, "x", "closed/link", &attr), -EACCES);
	CHECK_EQ(pml_client_readlink(alice, "closed", got, sizeof(got)), -EINVAL);
	/* Shown, not followed. */
	CHECK_EQ(pml_client_symlink(alice, "closed", "into", &attr), 0);
	CHECK_EQ(pml_client_stat(alice, "into/x", &attr), -ENOTDIR);
	CHECK_EQ(pml_client_chmod(alice, "into", 0644), -EOPNOTSUPP);
	stop();
}

static void test_links_are_names_of_one_file(void)
{
	start();
	struct pml_client_attr attr, file = make_file(alice, "file", 0600);
	unsigned int nfiles = rig.told.nfiles;
	CHECK_EQ(pml_client_link(alice, "file", "other", &attr), 0);
	CHECK_EQ(attr.ino, file.ino);
	CHECK_EQ(attr.nlink, 2);
	CHECK_EQ(rig.told.nfiles, nfiles + 1);
	CHECK_EQ(pml_client_link(alice, "file", "other", &attr), -EEXIST);
	CHECK_EQ(pml_client_link(reader, "file", "third", &attr), -EROFS);
	make_dir(alice, "dir", 0755);
	CHECK_EQ(pml_client_link(alice, "dir", "dir2", &attr), -EPERM);
	CHECK_EQ(pml_client_link(bob, "file", "mine", &attr), -EPERM);
	CHECK(has_reason(bob, "owner"));
	CHECK_EQ(pml_client_chmod(alice, "file", 0666), 0);
	CHECK_EQ(pml_client_link(bob, "file", "mine", &attr), 0);
	CHECK_EQ(pml_client_chmod(alice, "file", 04777), 0);
	CHECK_EQ(pml_client_link(bob, "file", "mine2", &attr), -EPERM);
	CHECK_EQ(pml_client_link(alice, "file", "dir/mine", &attr), 0);
	CHECK_EQ(pml_client_link(bob, "mine", "dir/his", &attr), -EPERM);
	CHECK_EQ(pml_client_chmod(alice, "file", 0666), 0);
	CHECK_EQ(pml_client_link(bob, "mine", "dir/his", &attr), -EACCES);
	CHECK_EQ(pml_client_link_at(alice, &file.handle, handle_of(alice, "dir"), "at", &attr), 0);
	CHECK_EQ(attr.nlink, 5);
	CHECK_EQ(pml_client_unlink(alice, "file"), 0);
	CHECK_EQ(stat_of("other").nlink, 4);
	stop();
}

static void test_rename_moves_replaces_and_exchanges(void)
{
	start();
	struct pml_client_attr a = make_file(alice, "a", 0644), b = make_file(alice, "b", 0644);
	CHECK_EQ(pml_client_rename(alice, "a", "b", PML_CLIENT_RENAME_NOREPLACE), -EEXIST);
	CHECK_EQ(pml_client_rename(alice, "a", "c", PML_CLIENT_RENAME_EXCHANGE), -ENOENT);
	unsigned int nnames = rig.told.nnames, nfiles = rig.told.nfiles;
	CHECK_EQ(pml_client_rename(alice, "a", "b", PML_CLIENT_RENAME_EXCHANGE), 0);
	CHECK_EQ(rig.told.nnames, nnames + 2);
	CHECK_EQ(rig.told.nfiles, nfiles + 2);
	CHECK_EQ(stat_of("a").ino, b.ino);
	CHECK_EQ(stat_of("b").ino, a.ino);
	CHECK_EQ(pml_client_rename(alice, "a", "b", 0), 0);
	CHECK(!is_there("a"));
	CHECK_EQ(stat_of("b").ino, b.ino);
	CHECK_EQ(pml_client_stat_at(alice, &a.handle, &a), -ESTALE);
	CHECK_EQ(pml_client_rename(alice, "b", "c", 3), -EINVAL);
	CHECK_EQ(pml_client_rename(reader, "b", "c", 0), -EROFS);
	CHECK_EQ(pml_client_rename(alice, "nothing", "c", 0), -ENOENT);

	make_dir(alice, "dir", 0755);
	make_dir(alice, "dir/sub", 0755);
	CHECK_EQ(pml_client_rename(alice, "dir", "dir/sub/x", 0), -EINVAL);
	CHECK(has_reason(alice, "into itself"));
	CHECK_EQ(pml_client_rename(alice, "dir", "b", 0), -ENOTDIR);
	CHECK_EQ(pml_client_rename(alice, "b", "dir", 0), -EISDIR);
	make_dir(alice, "dir2", 0755);
	CHECK_EQ(pml_client_rename(alice, "dir2", "dir", 0), -ENOTEMPTY);
	CHECK_EQ(pml_client_rename_at(alice, handle_of(alice, ""), "b", handle_of(alice, "dir"),
				      "b", 0),
		 0);
	CHECK_EQ(stat_of("dir/b").ino, b.ino);

	CHECK_EQ(pml_client_rename(bob, "dir/b", "b", 0), -EACCES);
	make_dir(bob, "his", 0777);
	/* The directory's ".." would change, and it is not his to write. */
	CHECK_EQ(pml_client_rename(bob, "dir2", "his/dir2", 0), -EACCES);
	CHECK_EQ(pml_client_rename(bob, "dir2", "dir3", 0), 0);
	CHECK_EQ(pml_client_rename(alice, "dir3", "his/dir3", 0), 0);
	stop();
}

struct seen {
	unsigned int count;
	uint64_t cookie;
	unsigned int stop_after;
	uint64_t hash;
};

static bool see(void *arg, const struct pml_client_dirent *entry)
{
	struct seen *seen = arg;
	seen->cookie = entry->cookie;
	seen->hash += strtoull(entry->name + 1, NULL, 10) + 1;
	return ++seen->count != seen->stop_after;
}

static void test_a_listing_goes_on_behind_any_entry(void)
{
	start();
	make_dir(alice, "dir", 0700);
	const struct pml_client_handle dir = *handle_of(alice, "dir");
	for (int i = 0; i < 500; i++) {
		char name[32];
		struct pml_client_attr attr;
		snprintf(name, sizeof(name), "n%d", i);
		CHECK_EQ(pml_client_create_at(alice, &dir, name, 0644, true, &attr), 0);
	}
	struct seen some = {.stop_after = 123};
	CHECK_EQ(pml_client_readdir_at(alice, &dir, 0, see, &some), 0);
	CHECK_EQ(some.count, 123);
	some.stop_after = 0;
	CHECK_EQ(pml_client_readdir_at(alice, &dir, some.cookie, see, &some), 0);
	CHECK_EQ(some.count, 500);
	CHECK_EQ(some.hash, 500 * 501 / 2);
	CHECK_EQ(pml_client_readdir_at(bob, handle_of(bob, ""), UINT64_MAX, see, &some), -EINVAL);
	struct pml_client_attr attr;
	CHECK_EQ(pml_client_lookup_at(alice, &dir, "n7", &attr), 0);
	CHECK_EQ(pml_client_lookup_at(alice, &dir, "n500", &attr), -ENOENT);
	CHECK_EQ(pml_client_lookup_at(alice, &dir, ".", &attr), -EINVAL);
	stop();
}

/* ---- attributes --------------------------------------------------------- */

static void test_chmod_is_for_owners(void)
{
	start();
	make_file(alice, "file", 0644);
	unsigned int nfiles = rig.told.nfiles;
	CHECK_EQ(pml_client_chmod(alice, "file", 04711), 0);
	CHECK_EQ(rig.told.nfiles, nfiles + 1);
	CHECK_EQ(stat_of("file").mode, S_IFREG | 04711);
	CHECK_EQ(pml_client_chmod(bob, "file", 0777), -EPERM);
	CHECK(has_reason(bob, "owner"));
	CHECK_EQ(pml_client_chmod(root, "file", 0600), 0);
	CHECK_EQ(pml_client_chmod(reader, "file", 0777), -EROFS);
	/* Setgid is for members. */
	CHECK_EQ(pml_client_chown(root, "file", (uid_t)-1, 77), 0);
	CHECK_EQ(pml_client_chmod(alice, "file", 02755), 0);
	CHECK_EQ(stat_of("file").mode, S_IFREG | 0755);
	CHECK_EQ(pml_client_chown(root, "file", (uid_t)-1, ALICE + 1), 0);
	CHECK_EQ(pml_client_chmod(alice, "file", 02755), 0);
	CHECK_EQ(stat_of("file").mode, S_IFREG | 02755);
	stop();
}

static void test_chown_is_for_root_and_chgrp_for_members(void)
{
	start();
	make_file(alice, "file", 0644);
	CHECK_EQ(pml_client_chown(alice, "file", BOB, (gid_t)-1), -EPERM);
	CHECK_EQ(pml_client_chown(alice, "file", ALICE, ALICE + 1), 0);
	CHECK_EQ(stat_of("file").gid, ALICE + 1);
	CHECK_EQ(pml_client_chown(alice, "file", (uid_t)-1, BOB), -EPERM);
	CHECK_EQ(pml_client_chown(bob, "file", (uid_t)-1, BOB), -EPERM);
	CHECK_EQ(pml_client_chown(bob, "file", BOB, (gid_t)-1), -EPERM);

	/* The promises of the old owner end. */
	CHECK_EQ(pml_client_chmod(alice, "file", 06755), 0);
	struct pml_inode *inode = local_inode("file");
	const struct pml_cred nobody = {.uid = 0};
	CHECK_EQ(pml_xattr_set(inode, &nobody, "security.capability", "caps", 4, 0), 0);
	CHECK_EQ(pml_client_chown(root, "file", BOB, BOB), 0);
	CHECK_EQ(stat_of("file").mode, S_IFREG | 0755);
	CHECK_EQ(stat_of("file").uid, BOB);
	size_t bytes;
	CHECK_EQ(pml_xattr_get(inode, "security.capability", NULL, 0, &bytes), -ENODATA);
	pml_inode_put(inode, 1);

	struct pml_client_set set = {.what = PML_CLIENT_SET_UID, .uid = UINT32_MAX};
	struct pml_client_attr attr;
	CHECK_EQ(pml_client_setattr(root, "file", &set, &attr), -EINVAL);
	set = (struct pml_client_set){
		.what = PML_CLIENT_SET_UID | PML_CLIENT_SET_MODE, .uid = ALICE, .mode = 0600};
	CHECK_EQ(pml_client_setattr(root, "file", &set, &attr), 0);
	CHECK_EQ(attr.uid, ALICE);
	CHECK_EQ(attr.mode, S_IFREG | 0600);
	stop();
}

static void test_times_are_set_by_owners_and_touched_by_writers(void)
{
	start();
	make_file(alice, "file", 0666);
	const struct timespec when[2] = {{.tv_sec = 1000, .tv_nsec = 1}, {.tv_sec = 2000}};
	CHECK_EQ(pml_client_utimens(alice, "file", when), 0);
	struct pml_client_attr attr = stat_of("file");
	CHECK_EQ(attr.atime_s, 1000);
	CHECK_EQ(attr.atime_ns, 1);
	CHECK_EQ(attr.mtime_s, 2000);
	CHECK(attr.ctime_s > 2000);
	CHECK_EQ(pml_client_utimens(bob, "file", when), -EPERM);
	/* One of them alone, even now, is an owner's matter (utimensat(2)). */
	const struct timespec one[2] = {{.tv_nsec = UTIME_NOW}, {.tv_nsec = UTIME_OMIT}};
	CHECK_EQ(pml_client_utimens(bob, "file", one), -EPERM);
	CHECK_EQ(pml_client_utimens(alice, "file", one), 0);
	CHECK_EQ(stat_of("file").mtime_s, 2000);
	CHECK_EQ(pml_client_utimens(bob, "file", NULL), 0);
	attr = stat_of("file");
	CHECK(attr.mtime_s > 2000 && attr.mtime_s == attr.atime_s && attr.mtime_s == attr.ctime_s);
	CHECK_EQ(pml_client_chmod(alice, "file", 0644), 0);
	CHECK_EQ(pml_client_utimens(bob, "file", NULL), -EACCES);
	const struct timespec bad[2] = {{.tv_nsec = 1000000000}, {.tv_nsec = 0}};
	CHECK_EQ(pml_client_utimens(alice, "file", bad), -EINVAL);
	CHECK_EQ(pml_client_utimens(reader, "file", NULL), -EROFS);
	stop();
}

static void test_truncate_is_a_write(void)
{
	start();
	make_file(alice, "file", 0666);
	local_write("file", "0123456789", 10, 0);
	CHECK_EQ(pml_client_chmod(alice, "file", 06777), 0);
	unsigned int nfiles = rig.told.nfiles;
	CHECK_EQ(pml_client_truncate(bob, "file", 4), 0);
	CHECK_EQ(rig.told.nfiles, nfiles + 1);
	CHECK_EQ(stat_of("file").size_bytes, 4);
	CHECK_EQ(stat_of("file").mode, S_IFREG | 0777);
	CHECK_EQ(pml_client_truncate(bob, "file", 1ull << 40), 0);
	CHECK_EQ(stat_of("file").size_bytes, 1ull << 40);
	CHECK_EQ(pml_client_chmod(alice, "file", 0644), 0);
	CHECK_EQ(pml_client_truncate(bob, "file", 0), -EACCES);
	CHECK_EQ(pml_client_truncate(reader, "file", 0), -EROFS);
	CHECK_EQ(pml_client_truncate(alice, "", 0), -EISDIR);
	struct pml_client_attr attr;
	CHECK_EQ(pml_client_symlink(alice, "x", "link", &attr), 0);
	CHECK_EQ(pml_client_truncate(alice, "link", 0), -EINVAL);
	struct pml_client_set set = {.what = PML_CLIENT_SET_SIZE, .size_bytes = UINT64_MAX};
	CHECK_EQ(pml_client_setattr(alice, "file", &set, &attr), -EINVAL);

	/* With others, all or nothing: the mode is not his. */
	CHECK_EQ(pml_client_chmod(alice, "file", 0666), 0);
	set = (struct pml_client_set){
		.what = PML_CLIENT_SET_SIZE | PML_CLIENT_SET_MODE, .size_bytes = 7, .mode = 0777};
	CHECK_EQ(pml_client_setattr(bob, "file", &set, &attr), -EPERM);
	CHECK_EQ(stat_of("file").size_bytes, 1ull << 40);
	CHECK_EQ(pml_client_setattr(alice, "file", &set, &attr), 0);
	CHECK_EQ(attr.size_bytes, 7);
	CHECK_EQ(attr.mode, S_IFREG | 0777);
	/* As open(2) with O_TRUNC through a mount: a writer's. */
	set = (struct pml_client_set){.what = PML_CLIENT_SET_SIZE | PML_CLIENT_SET_MTIME_NOW};
	CHECK_EQ(pml_client_setattr(bob, "file", &set, &attr), 0);
	CHECK_EQ(attr.size_bytes, 0);
	stop();
}

static void test_setattr_of_nothing_takes_privileges_away(void)
{
	start();
	make_file(alice, "file", 0666);
	CHECK_EQ(pml_client_chmod(alice, "file", 06777), 0);
	struct pml_client_attr attr;
	const struct pml_client_set nothing = {.what = 0};
	CHECK_EQ(pml_client_setattr(bob, "file", &nothing, &attr), 0);
	CHECK_EQ(attr.mode, S_IFREG | 0777);
	CHECK_EQ(pml_client_chmod(alice, "file", 04700), 0);
	CHECK_EQ(pml_client_setattr(bob, "file", &nothing, &attr), -EACCES);
	const struct pml_client_set unknown = {.what = 256};
	CHECK_EQ(pml_client_setattr(alice, "file", &unknown, &attr), -EINVAL);
	stop();
}

static void test_statfs_counts_blocks(void)
{
	start();
	struct pml_client_statfs before, after;
	CHECK_EQ(pml_client_statfs(reader, &before), 0);
	CHECK_EQ(before.block_bytes, 4096);
	CHECK_EQ(before.name_max, 255);
	CHECK(before.blocks > 1000 && before.blocks_free <= before.blocks);
	make_file(alice, "file", 0666);
	static char data[64 * 4096];
	local_write("file", data, sizeof(data), 0);
	CHECK_EQ(pml_client_statfs(alice, &after), 0);
	CHECK(after.blocks_free <= before.blocks_free - 64);
	stop();
}

/* ---- extended attributes ------------------------------------------------ */

static void set_xattr(const char *path, const char *name, const void *value, size_t bytes)
{
	const struct pml_cred nobody = {.uid = 0};
	struct pml_inode *inode = local_inode(path);
	CHECK_EQ(pml_xattr_set(inode, &nobody, name, value, bytes, 0), 0);
	pml_inode_put(inode, 1);
}

static void test_extended_attributes_of_any_size_are_read(void)
{
	start();
	make_file(alice, "file", 0600);
	static char value[PML_XATTR_VALUE_BYTES_MAX], got[PML_XATTR_VALUE_BYTES_MAX];
	for (size_t i = 0; i < sizeof(value); i++)
		value[i] = (char)(i * 7 + i / 256);
	size_t bytes = 0;
	set_xattr("file", "user.big", value, sizeof(value));
	set_xattr("file", "user.none", "", 0);
	set_xattr("file", "trusted.t", "root", 4);
	set_xattr("file", "security.s", "all", 3);
	CHECK_EQ(pml_client_getxattr(alice, "file", "user.big", got, sizeof(got), &bytes), 0);
	CHECK_EQ(bytes, sizeof(value));
	CHECK(memcmp(got, value, sizeof(value)) == 0);
	CHECK_EQ(pml_client_getxattr(alice, "file", "user.big", NULL, 0, &bytes), 0);
	CHECK_EQ(bytes, sizeof(value));
	CHECK_EQ(pml_client_getxattr(alice, "file", "user.big", got, 100, &bytes), -ERANGE);
	CHECK_EQ(pml_client_getxattr(alice, "file", "user.none", got, 100, &bytes), 0);
	CHECK_EQ(bytes, 0);
	CHECK_EQ(pml_client_getxattr(alice, "file", "user.no", got, 100, &bytes), -ENODATA);
	CHECK_EQ(pml_client_getxattr(alice, "file", "other.no", got, 100, &bytes), -EOPNOTSUPP);
	CHECK_EQ(pml_client_getxattr(alice, "file", "user.", got, 100, &bytes), -EINVAL);
	CHECK_EQ(pml_client_getxattr(alice, "file", "", got, 100, &bytes), -EINVAL);
	char name[300];
	memset(name, 'n', sizeof(name));
	name[299] = 0;
	CHECK_EQ(pml_client_getxattr(alice, "file", name, got, 100, &bytes), -ERANGE);

	CHECK_EQ(pml_client_getxattr(bob, "file", "user.none", got, 100, &bytes), -EACCES);
	CHECK_EQ(pml_client_getxattr(alice, "file", "trusted.t", got, 100, &bytes), -ENODATA);
	CHECK_EQ(pml_client_getxattr(reader, "file", "trusted.t", got, 100, &bytes), 0);
	const struct pml_client_handle file = stat_of("file").handle;
	CHECK_EQ(pml_client_getxattr_at(root, &file, "trusted.t", got, 100, &bytes), 0);
	CHECK_EQ(pml_client_getxattr(bob, "file", "security.s", got, 100, &bytes), 0);
	CHECK_EQ(bytes, 3);
	stop();
}

static void test_names_of_extended_attributes_are_listed(void)
{
	start();
	make_file(alice, "file", 0600);
	static char names[PML_XATTR_LIST_BYTES_MAX];
	size_t bytes = 1;
	CHECK_EQ(pml_client_listxattr(bob, "file", names, sizeof(names), &bytes), 0);
	CHECK_EQ(bytes, 0);
	/* More than one message holds. */
	for (int i = 0; i < 60; i++) {
		char name[256];
		snprintf(name, sizeof(name), "user.%02d-%0200d", i, i);
		set_xattr("file", name, "x", 1);
	}
	set_xattr("file", "trusted.t", "root", 4);
	CHECK_EQ(pml_client_listxattr(alice, "file", names, sizeof(names), &bytes), 0);
	CHECK_EQ(bytes, 60 * 209);
	uint64_t seen = 0;
	for (size_t at = 0; at < bytes; at += strlen(names + at) + 1)
		seen |= 1ull << strtoul(names + at + 5, NULL, 10);
	CHECK_EQ(seen, (1ull << 60) - 1);
	CHECK_EQ(pml_client_listxattr(root, "file", NULL, 0, &bytes), 0);
	CHECK_EQ(bytes, 60 * 209 + 10);
	CHECK_EQ(pml_client_listxattr_at(root, handle_of(root, "file"), names, 100, &bytes),
		 -ERANGE);
	stop();
}

/* ---- clone -------------------------------------------------------------- */

static void test_clone_shares_blocks(void)
{
	start();
	static char data[3 * 4096 + 100], got[sizeof(data)];
	memset(data, 'd', sizeof(data));
	make_file(alice, "src", 0644);
	make_file(bob, "dst", 0644);
	local_write("src", data, sizeof(data), 0);
	uint64_t bytes = 0;
	CHECK_EQ(pml_client_chmod(bob, "dst", 04755), 0);
	unsigned int nfiles = rig.told.nfiles;
	CHECK_EQ(pml_client_clone(bob, "src", 0, "dst", 0, 0, &bytes), 0);
	CHECK_EQ(bytes, sizeof(data));
	CHECK_EQ(rig.told.nfiles, nfiles + 1);
	CHECK_EQ(stat_of("dst").size_bytes, sizeof(data));
	CHECK_EQ(stat_of("dst").mode, S_IFREG | 0755);
	struct pml_inode *dst = local_inode("dst");
	CHECK_EQ(fs_pool_read(dst, 0, got, sizeof(got)), sizeof(got));
	CHECK(memcmp(got, data, sizeof(data)) == 0);
	pml_inode_put(dst, 1);
	struct pml_fs_counts counts;
	pml_fs_counts(rig.pool.fs, &counts);
	CHECK_EQ(counts.shared_blocks, 4);

	CHECK_EQ(pml_client_clone(bob, "src", 4096, "dst", 16384, 4096, &bytes), 0);
	CHECK_EQ(bytes, 4096);
	CHECK_EQ(pml_client_clone(bob, "src", 1, "dst", 0, 4096, &bytes), -EINVAL);
	CHECK(has_reason(bob, "4096"));
	CHECK_EQ(pml_client_clone(bob, "src", 0, "dst", 0, 1 << 20, &bytes), -EINVAL);
	CHECK_EQ(pml_client_clone(bob, "src", 0, "dst", 0, UINT64_MAX, &bytes), -EINVAL);
	CHECK_EQ(pml_client_clone(alice, "src", 0, "src", 0, 8192, &bytes), -EINVAL);
	CHECK_EQ(pml_client_clone(alice, "src", 0, "dst", 0, 0, &bytes), -EACCES);
	CHECK_EQ(pml_client_clone(reader, "src", 0, "dst", 0, 0, &bytes), -EROFS);
	CHECK_EQ(pml_client_clone(bob, "src", 0, "", 0, 0, &bytes), -EISDIR);
	CHECK_EQ(pml_client_clone(bob, "", 0, "dst", 0, 0, &bytes), -EISDIR);
	CHECK_EQ(pml_client_chmod(alice, "src", 0200), 0);
	CHECK_EQ(pml_client_clone_at(bob, handle_of(root, "src"), 0, handle_of(root, "dst"), 0, 0,
				     &bytes),
		 -ESTALE);
	CHECK_EQ(pml_client_clone(bob, "src", 0, "dst", 0, 0, &bytes), -EACCES);
	stop();
}

/* ---- after the server was mounted again ------------------------------------ */

/*
 * Until the client knows that its connection is gone: a change that it sends before is one of
 * which nobody knows (-EREMOTEIO).
 */
static void restart(void)
{
	struct pml_client_lease *lease;
	const struct pml_client_handle *file = handle_of(root, "file");
	REQUIRE(pml_client_lease(root, file, 0, 1, false, 5000, &lease) == 0);
	pool_rig_restart(&rig, root);
	for (int i = 0; i < 5000 && pml_client_lease_status(lease) == 0; i++)
		usleep(1000);
	CHECK(pml_client_return(lease) < 0);
	usleep(50000);
}

static bool note_entry(void *arg, const char *name, uint64_t ino, mode_t type)
{
	(*(unsigned int *)arg)++;
	return true;
}

/* Each is the first request after a mount, by a client that has all handles of before. */
static void test_paths_outlive_the_server(void)
{
	start();
	struct pml_client_attr attr;
	char bytes[64];
	size_t nbytes = 0;
	unsigned int count = 0;
	CHECK_EQ(pml_client_create(root, "file", 0644, true, &attr), 0);
	CHECK_EQ(pml_client_truncate(root, "file", 4096), 0);
	CHECK_EQ(pml_client_mkdir(root, "dir", 0755, &attr), 0);
	CHECK_EQ(pml_client_mkdir(root, "dir/below", 0755, &attr), 0);
	CHECK_EQ(pml_client_symlink(root, "target", "soft", &attr), 0);
	const struct pml_client_handle old = *handle_of(root, "dir");
	pml_client_set_reconnect(root, 10000);

	restart();
	CHECK_EQ(pml_client_stat(root, "", &attr), 0);
	restart();
	CHECK_EQ(pml_client_stat(root, "dir/below", &attr), 0);
	restart();
	CHECK_EQ(pml_client_create(root, "new", 0644, true, &attr), 0);
	restart();
	CHECK_EQ(pml_client_mkdir(root, "dir/below/d", 0755, &attr), 0);
	restart();
	CHECK_EQ(pml_client_symlink(root, "x", "dir/x", &attr), 0);
	restart();
	CHECK_EQ(pml_client_link(root, "new", "dir/hard", &attr), 0);
	CHECK_EQ(attr.nlink, 2);
	restart();
	CHECK_EQ(pml_client_rename(root, "dir/hard", "moved", 0), 0);
	restart();
	CHECK_EQ(pml_client_unlink(root, "moved"), 0);
	restart();
	CHECK_EQ(pml_client_rmdir(root, "dir/below/d"), 0);
	restart();
	CHECK_EQ(pml_client_chmod(root, "new", 0600), 0);
	restart();
	CHECK_EQ(pml_client_truncate(root, "new", 8192), 0);
	restart();
	CHECK_EQ(pml_client_clone(root, "file", 0, "new", 4096, 4096, NULL), 0);
	restart();
	CHECK_EQ(pml_client_readlink(root, "soft", bytes, sizeof(bytes)), 0);
	CHECK_STR(bytes, "target");
	restart();
	CHECK_EQ(pml_client_listxattr(root, "file", bytes, sizeof(bytes), &nbytes), 0);
	restart();
	CHECK_EQ(pml_client_getxattr(root, "file", "user.none", bytes, sizeof(bytes), &nbytes),
		 -ENODATA);
	restart();
	CHECK_EQ(pml_client_readdir(root, "", note_entry, &count), 0);
	CHECK_EQ(count, 4);
	/* What fails for another reason fails once, and for that. */
	restart();
	CHECK_EQ(pml_client_mkdir(root, "dir", 0755, &attr), -EEXIST);
	restart();
	CHECK_EQ(pml_client_unlink(root, "none"), -ENOENT);

	/* Handles are of their mount, and say so. */
	CHECK_EQ(pml_client_stat_at(root, &old, &attr), -ESTALE);
	CHECK(strstr(pml_client_reason(root), "mounted again") != NULL);
	stop();
}

struct restarter {
	atomic_bool is_over;
	atomic_uint nwalks;
	unsigned int n;
};

/* Not before a walk has ended: one that meets mounts without an end gives up. */
static void *restart_often(void *arg)
{
	struct restarter *r = arg;
	while (!r->is_over) {
		unsigned int nwalks = r->nwalks;
		pool_rig_restart(&rig, root);
		r->n++;
		while (!r->is_over && r->nwalks == nwalks)
			usleep(1000);
		usleep(r->n % 8 * 2500);
	}
	return NULL;
}

/* In the middle of a walk, too: whatever moment it is, what is looked at by path is found. */
static void test_a_walk_outlives_the_server(void)
{
	start();
	struct pml_client_attr attr;
	CHECK_EQ(pml_client_mkdir(root, "a", 0755, &attr), 0);
	CHECK_EQ(pml_client_mkdir(root, "a/b", 0755, &attr), 0);
	CHECK_EQ(pml_client_mkdir(root, "a/b/c", 0755, &attr), 0);
	CHECK_EQ(pml_client_create(root, "a/b/c/d", 0644, true, &attr), 0);
	pml_client_set_reconnect(root, 10000);
	struct restarter r = {.n = 0};
	pthread_t thread;
	REQUIRE(pthread_create(&thread, NULL, restart_often, &r) == 0);
	unsigned int nwrong = 0;
	for (uint64_t until_ms = pml_now_ms() + 1000; pml_now_ms() < until_ms; r.nwalks++)
		nwrong += pml_client_stat(root, "a/b/c/d", &attr) != 0;
	r.is_over = true;
	pthread_join(thread, NULL);
	CHECK_EQ(nwrong, 0);
	CHECK(r.n > 1);
	stop();
}

int main(void)
{
	TAP_RUN(test_mkdir_makes_a_directory_of_its_user);
	TAP_RUN(test_unlink_and_rmdir_take_names_away);
	TAP_RUN(test_sticky_directories_protect_names);
	TAP_RUN(test_symlinks_hold_what_they_were_given);
	TAP_RUN(test_links_are_names_of_one_file);
	TAP_RUN(test_rename_moves_replaces_and_exchanges);
	TAP_RUN(test_a_listing_goes_on_behind_any_entry);
	TAP_RUN(test_chmod_is_for_owners);
	TAP_RUN(test_chown_is_for_root_and_chgrp_for_members);
	TAP_RUN(test_times_are_set_by_owners_and_touched_by_writers);
	TAP_RUN(test_truncate_is_a_write);
	TAP_RUN(test_setattr_of_nothing_takes_privileges_away);
	TAP_RUN(test_statfs_counts_blocks);
	TAP_RUN(test_extended_attributes_of_any_size_are_read);
	TAP_RUN(test_names_of_extended_attributes_are_listed);
	TAP_RUN(test_clone_shares_blocks);
	TAP_RUN(test_paths_outlive_the_server);
	TAP_RUN(test_a_walk_outlives_the_server);
	return tap_done();
}
