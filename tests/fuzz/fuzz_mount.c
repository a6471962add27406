/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fuzz_mount.c -- mounts a damaged device and does everything with it
 *
 * Whatever the device says: no crash, no endless loop, no memory without bound.  What may
 * fail may fail; the work is bounded by the limits below, not by what the device says.
 */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "fuzz.h"
#include "image.h"

#define DIRS_MAX    20u
#define ENTRIES_MAX 500u
#define READ_BYTES  (256u << 10)

struct visit {
	struct pml_fs *fs;
	uint64_t dir[DIRS_MAX]; /* to be read */
	size_t ndirs;
	uint64_t file[ENTRIES_MAX];
	char name[ENTRIES_MAX][PML_NAME_BYTES_MAX + 1];
	uint64_t in[ENTRIES_MAX];
	size_t nfiles;
	uint64_t reading;
};

/* What is read, so that no read is left out. */
static volatile uint8_t sink;

static bool note_entry(void *arg, const struct pml_dirent *entry)
{
	struct visit *v = arg;
	if (strcmp(entry->name, ".") == 0 || strcmp(entry->name, "..") == 0)
		return true;
	if (v->nfiles == ENTRIES_MAX)
		return false;
	v->file[v->nfiles] = entry->ino;
	v->in[v->nfiles] = v->reading;
	(void)snprintf(v->name[v->nfiles++], sizeof(v->name[0]), "%s", entry->name);
	if (S_ISDIR(entry->type) && v->ndirs < DIRS_MAX)
		v->dir[v->ndirs++] = entry->ino;
	return true;
}

static void read_file(struct pml_inode *inode)
{
	struct iovec iov[PML_IOV_MAX];
	for (uint64_t at = 0; at < READ_BYTES; at += PML_IO_BYTES_MAX / 8) {
		int n;
		size_t bytes;
		if (pml_file_read_begin(inode, at, PML_IO_BYTES_MAX / 8, iov, &n, &bytes))
			return;
		for (int i = 0; i < n; i++)
			for (size_t j = 0; j < iov[i].iov_len; j += 512)
				sink ^= ((const uint8_t *)iov[i].iov_base)[j];
		pml_file_read_end(inode);
		if (bytes == 0)
			return;
	}
}

static void look_at(struct pml_fs *fs, uint64_t ino)
{
	struct pml_inode *inode;
	struct stat st;
	char target[PML_SYMLINK_MAX + 1];
	uint64_t byte;
	if (pml_inode_get(fs, ino, &inode))
		return;
	pml_inode_stat(inode, &st);
	if (S_ISREG(st.st_mode)) {
		read_file(inode);
		(void)!pml_file_seek(inode, 0, SEEK_HOLE, &byte);
		(void)!pml_file_seek(inode, 1u << 20, SEEK_DATA, &byte);
	}
	(void)!pml_inode_readlink(inode, target);
	static char names[PML_XATTR_LIST_BYTES_MAX];
	static char value[PML_XATTR_VALUE_BYTES_MAX];
	const struct pml_cred cred = {0};
	size_t bytes;
	(void)!pml_xattr_list(inode, &cred, names, sizeof(names), &bytes);
	(void)!pml_xattr_get(inode, "user.large", value, sizeof(value), &bytes);
	(void)!pml_xattr_get(inode, "system.posix_acl_access", value, sizeof(value), &bytes);
	pml_inode_put(inode, 1);
}

static void walk(struct visit *v)
{
	v->dir[v->ndirs++] = PML_ROOT_INO;
	for (size_t i = 0; i < v->ndirs; i++) {
		struct pml_inode *dir;
		v->reading = v->dir[i];
		if (pml_inode_get(v->fs, v->dir[i], &dir))
			continue;
		(void)!pml_dir_read(dir, 0, note_entry, v);
		pml_inode_put(dir, 1);
	}
	for (size_t i = 0; i < v->nfiles; i++)
		look_at(v->fs, v->file[i]);
}

static void change_file(struct pml_fs *fs, struct pml_inode *inode, unsigned int i)
{
	static const uint8_t data[10000];
	struct pml_segment segment[4];
	size_t n;
	uint64_t end;
	(void)!pml_file_write(inode, data, 100, i * 4096ull, false, NULL);
	(void)!pml_file_write(inode, data, sizeof(data), 0, true, NULL);
	(void)!pml_file_allocate(inode, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 100, 20000,
				 NULL);
	(void)!pml_file_allocate(inode, 0, 1u << 20, 8192, NULL);
	if (pml_file_pin(inode, 0, 8192, PML_PIN_WRITE, segment, PML_ARRAY_LEN(segment), &n,
			 &end) == 0) {
		(void)!pml_file_commit(inode, 0, end, end, false, NULL);
		while (n-- > 0) {
			struct pml_segment s = segment[n];
			pml_fs_unpin(fs, &s);
		}
	}
	(void)!pml_file_truncate(inode, i % 2 ? 5000 : 0, NULL);
	(void)!pml_file_sync(inode);
}

static void change_entry(struct visit *v, size_t i, struct pml_inode *root)
{
	struct pml_inode *dir;
	struct pml_inode *inode;
	char name[32];
	(void)snprintf(name, sizeof(name), "new%zu", i);
	if (pml_inode_get(v->fs, v->in[i], &dir))
		return;
	if (pml_dir_lookup(dir, v->name[i], &inode) == 0) {
		uint64_t done;
		const struct stat st = {.st_mode = 0700};
		change_file(v->fs, inode, (unsigned int)i);
		const struct pml_cred cred = {0};
		(void)!pml_inode_set(inode, PML_SET_MODE, &st);
		(void)!pml_xattr_set(inode, &cred, "user.small", name, sizeof(name), 0);
		(void)!pml_xattr_set(inode, &cred, "user.new", name, 3, 0);
		(void)!pml_xattr_remove(inode, "user.large");
		(void)!pml_dir_link(root, name, inode);
		struct pml_inode *other;
		const struct pml_create_args args = {.mode = S_IFREG | 0600};
		if (i % 4 == 0 && pml_dir_create(dir, name, &args, &other) == 0) {
			(void)!pml_file_clone(inode, 0, other, 0, 1u << 20, NULL, &done);
			pml_inode_put(other, 1);
		}
		pml_inode_put(inode, 1);
	}
	if (i % 3 == 0)
		(void)!pml_dir_rename(dir, v->name[i], root, name, 0);
	else if (pml_dir_unlink(dir, v->name[i]))
		(void)!pml_dir_rmdir(dir, v->name[i]);
	pml_inode_put(dir, 1);
}

static void change(struct visit *v)
{
	struct pml_inode *root;
	struct pml_inode *inode;
	const struct pml_create_args dir = {.mode = S_IFDIR | 0700};
	const struct pml_create_args link = {.mode = S_IFLNK | 0777, .target = "somewhere else"};
	if (pml_inode_get(v->fs, PML_ROOT_INO, &root))
		return;
	for (size_t i = 0; i < v->nfiles; i += 1 + v->nfiles / 40)
		change_entry(v, i, root);
	if (pml_dir_create(root, "a directory", &dir, &inode) == 0)
		pml_inode_put(inode, 1);
	if (pml_dir_create(root, "a link", &link, &inode) == 0)
		pml_inode_put(inode, 1);
	(void)!pml_dir_rmdir(root, "a directory");
	(void)!pml_dir_unlink(root, "a link");
	pml_inode_put(root, 1);
}

static void no_pins(void *arg, pml_audit_emit emit, void *audit)
{
}

static void mount(const char *path, bool is_read_only)
{
	static struct visit v;
	char reason[PML_REASON_BYTES];
	const struct pml_open_args args = {.path = path, .is_read_only = is_read_only};
	memset(&v, 0, offsetof(struct visit, name));
	v.nfiles = 0;
	if (pml_fs_open(&args, &v.fs, reason))
		return;
	struct statvfs st;
	pml_fs_statvfs(v.fs, &st);
	walk(&v);
	if (!is_read_only)
		change(&v);
	(void)!pml_fs_audit(v.fs, no_pins, NULL, reason);
	pml_fs_close(v.fs);
}

void fuzz_one(const uint8_t *input, size_t bytes)
{
	const char *path = image_make(input, bytes);
	if (!path)
		return;
	mount(path, false);
	/* What the first mount has left. */
	mount(path, (input[1] & 1) != 0);
}
