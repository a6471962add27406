/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * remote_names.c -- changes of names and attributes by a client, looked at through the mount
 *
 * usage: remote_names MOUNT URL
 *
 * After each answer that the client gets the mount is asked at once: the kernel has the name
 * or file in its caches, as each was looked at right before the change.  Then the other way
 * round: local changes, looked at by the client.  Prints what was stale or failed.  Exit
 * status 0: nothing; 1: something; 2: set-up failed.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "pmemleasefs/client.h"

#define BLOCK 4096

static const char *mount_dir;
static struct pml_client *client;
static unsigned int nwrong;

static void must(int err, const char *what)
{
	if (err == 0)
		return;
	printf("# %s: %s %s\n", what, strerrorname_np(err < 0 ? -err : err),
	       client ? pml_client_reason(client) : "");
	exit(2);
}

#define EXPECT(cond)                                                                               \
	do {                                                                                       \
		if (!(cond)) {                                                                     \
			nwrong++;                                                                  \
			printf("# line %d: not so: %s (%s)\n", __LINE__, #cond,                    \
			       pml_client_reason(client));                                         \
		}                                                                                  \
	} while (0)

static const char *local(const char *name)
{
	static char paths[4][4096];
	static unsigned int next;
	char *path = paths[next++ % 4];
	(void)snprintf(path, sizeof(paths[0]), "%s/%s", mount_dir, name);
	return path;
}

/* Attributes as the kernel shows them; a size of -1: there is no such name. */
static struct stat look(const char *name)
{
	struct stat st;
	if (lstat(local(name), &st))
		st = (struct stat){.st_size = -1};
	return st;
}

static bool is_there(const char *name)
{
	return look(name).st_size != -1;
}

static struct pml_client_attr remote(const char *name)
{
	struct pml_client_attr attr;
	if (pml_client_stat(client, name, &attr))
		attr = (struct pml_client_attr){.ino = 0};
	return attr;
}

static int open_file(const char *name, const void *data, size_t bytes)
{
	int fd = open(local(name), O_RDWR | O_CREAT | O_TRUNC, 0644);
	must(fd < 0 ? errno : 0, name);
	must(pwrite(fd, data, bytes, 0) == (ssize_t)bytes ? 0 : errno, name);
	return fd;
}

/* ---- made remotely, looked at locally ------------------------------------ */

static void remote_names(void)
{
	struct pml_client_attr attr;
	EXPECT(!is_there("dir"));
	EXPECT(pml_client_mkdir(client, "dir", 0755, &attr) == 0);
	EXPECT(look("dir").st_ino == attr.ino && S_ISDIR(look("dir").st_mode));
	EXPECT(look("dir").st_nlink == 2 && !is_there("dir/link") && !is_there("dir/sub"));
	EXPECT(pml_client_mkdir(client, "dir/sub", 0755, &attr) == 0);
	EXPECT(look("dir").st_nlink == 3 && is_there("dir/sub"));

	char target[32] = "";
	EXPECT(pml_client_symlink(client, "a target", "dir/link", &attr) == 0);
	EXPECT(readlink(local("dir/link"), target, sizeof(target) - 1) == 8 &&
	       strcmp(target, "a target") == 0);

	int fd = open_file("dir/file", "12345", 5);
	EXPECT(!is_there("dir/other") && look("dir/file").st_nlink == 1);
	EXPECT(pml_client_link(client, "dir/file", "dir/other", &attr) == 0);
	EXPECT(look("dir/file").st_nlink == 2 && look("dir/other").st_ino == attr.ino);

	EXPECT(!is_there("moved"));
	EXPECT(pml_client_rename(client, "dir/other", "moved", 0) == 0);
	EXPECT(!is_there("dir/other") && look("moved").st_ino == attr.ino);
	EXPECT(pml_client_rename(client, "moved", "dir/link", PML_CLIENT_RENAME_EXCHANGE) == 0);
	EXPECT(S_ISLNK(look("moved").st_mode) && S_ISREG(look("dir/link").st_mode));
	EXPECT(pml_client_rename(client, "moved", "dir/link", 0) == 0);
	EXPECT(!is_there("moved") && S_ISLNK(look("dir/link").st_mode));
	struct stat st;
	EXPECT(fstat(fd, &st) == 0 && st.st_nlink == 1);

	EXPECT(pml_client_unlink(client, "dir/file") == 0);
	EXPECT(!is_there("dir/file") && fstat(fd, &st) == 0 && st.st_nlink == 0);
	EXPECT(pml_client_unlink(client, "dir/link") == 0 && !is_there("dir/link"));
	EXPECT(pml_client_rename(client, "dir/sub", "sub", 0) == 0);
	EXPECT(look("dir").st_nlink == 2 && is_there("sub") && !is_there("dir/sub"));
	EXPECT(pml_client_rmdir(client, "dir") == 0 && !is_there("dir"));
	EXPECT(rmdir(local("sub")) == 0);
	(void)close(fd);
}

static void remote_attributes(void)
{
	char bytes[2 * BLOCK], got[2 * BLOCK];
	struct stat st;
	memset(bytes, 'x', sizeof(bytes));
	int fd = open_file("file", bytes, sizeof(bytes));
	(void)fstat(fd, &st);
	EXPECT(pml_client_chmod(client, "file", 0640) == 0);
	EXPECT(fstat(fd, &st) == 0 && st.st_mode == (S_IFREG | 0640));
	EXPECT(pml_client_chown(client, "file", 12, 34) == 0);
	EXPECT(look("file").st_uid == 12 && look("file").st_gid == 34);
	const struct timespec times[2] = {{.tv_sec = 1111}, {.tv_sec = 2222, .tv_nsec = 7}};
	EXPECT(pml_client_utimens(client, "file", times) == 0);
	EXPECT(fstat(fd, &st) == 0 && st.st_atime == 1111 && st.st_mtime == 2222 &&
	       st.st_mtim.tv_nsec == 7);

	EXPECT(pread(fd, got, sizeof(got), 0) == sizeof(got));
	EXPECT(pml_client_truncate(client, "file", 100) == 0);
	EXPECT(fstat(fd, &st) == 0 && st.st_size == 100);
	EXPECT(pread(fd, got, sizeof(got), 0) == 100);
	EXPECT(pml_client_truncate(client, "file", sizeof(bytes)) == 0);
	EXPECT(pread(fd, got, sizeof(got), 0) == sizeof(got));
	EXPECT(got[99] == 'x' && got[100] == 0 && got[BLOCK] == 0 && got[sizeof(got) - 1] == 0);

	memset(bytes, 'c', sizeof(bytes));
	int src = open_file("src", bytes, sizeof(bytes));
	uint64_t cloned = 0;
	EXPECT(pml_client_clone(client, "src", 0, "file", 0, 0, &cloned) == 0);
	EXPECT(cloned == sizeof(bytes));
	EXPECT(pread(fd, got, sizeof(got), 0) == sizeof(got) &&
	       memcmp(got, bytes, sizeof(got)) == 0);
	EXPECT(unlink(local("file")) == 0 && unlink(local("src")) == 0);
	(void)close(src);
	(void)close(fd);
}

/* A directory that somebody stands in, and a listing that is open. */
static void remote_under_local_feet(void)
{
	struct pml_client_attr attr;
	char name[64];
	must(mkdir(local("busy"), 0755) ? errno : 0, "mkdir");
	int dir = open(local("busy"), O_RDONLY | O_DIRECTORY);
	must(dir < 0 ? errno : 0, "open");
	for (int i = 0; i < 50; i++) {
		(void)snprintf(name, sizeof(name), "busy/%d", i);
		EXPECT(pml_client_create(client, name, 0644, true, &attr) == 0);
		EXPECT(faccessat(dir, name + 5, F_OK, 0) == 0);
		EXPECT(pml_client_unlink(client, name) == 0);
		EXPECT(faccessat(dir, name + 5, F_OK, 0) != 0 && errno == ENOENT);
	}
	EXPECT(pml_client_rmdir(client, "busy") == 0);
	EXPECT(openat(dir, "new", O_CREAT | O_WRONLY, 0644) < 0);
	(void)close(dir);
}

/* ---- made locally, looked at remotely ------------------------------------ */

static void local_changes(void)
{
	EXPECT(remote("here").ino == 0);
	int fd = open_file("here", "abc", 3);
	uint64_t ino = look("here").st_ino;
	EXPECT(remote("here").ino == ino && remote("here").size_bytes == 3);
	EXPECT(fchmod(fd, 0600) == 0 && remote("here").mode == (S_IFREG | 0600));
	EXPECT(ftruncate(fd, 1 << 20) == 0 && remote("here").size_bytes == 1 << 20);
	EXPECT(fsetxattr(fd, "user.colour", "red", 3, 0) == 0);
	char value[16];
	size_t bytes = 0;
	EXPECT(pml_client_getxattr(client, "here", "user.colour", value, sizeof(value), &bytes) ==
		       0 &&
	       bytes == 3 && memcmp(value, "red", 3) == 0);
	EXPECT(rename(local("here"), local("there")) == 0);
	EXPECT(remote("here").ino == 0 && remote("there").ino == ino);
	EXPECT(link(local("there"), local("twice")) == 0 && remote("there").nlink == 2);
	EXPECT(unlink(local("there")) == 0 && remote("there").ino == 0);
	EXPECT(remote("twice").nlink == 1);
	EXPECT(symlink("to", local("sym")) == 0);
	char target[16] = "";
	EXPECT(pml_client_readlink(client, "sym", target, sizeof(target)) == 0 &&
	       strcmp(target, "to") == 0);
	EXPECT(unlink(local("sym")) == 0 && unlink(local("twice")) == 0);
	(void)close(fd);
}

int main(int argc, char **argv)
{
	char reason[256] = "";
	if (argc != 3) {
		fprintf(stderr, "usage: remote_names MOUNT URL\n");
		return 2;
	}
	setvbuf(stdout, NULL, _IOLBF, 0);
	mount_dir = argv[1];
	int err = pml_client_connect(argv[2], 10000, &client, reason);
	if (err)
		printf("# %s\n", reason);
	must(err, "connect");
	remote_names();
	remote_attributes();
	remote_under_local_feet();
	local_changes();
	pml_client_close(client);
	printf("wrong %u\n", nwrong);
	return nwrong ? 1 : 0;
}
