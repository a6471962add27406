/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fs_pool.c -- a small formatted pool for tests of fs/
 */
#include "fs_pool.h"

#include <glob.h>
#include <signal.h>

#include "../tap.h"

#define POOLS_MAX 16
#define POOL_NAME "pmemleasefs-test-"

/* What the sanitizers may not complain of; they ask by these names. */
const char *__tsan_default_suppressions(void);
const char *__lsan_default_suppressions(void);

/*
 * libpmemobj is not instrumented: what its locks order looks like a race.
 *
 * Directories are locked parent first, and a directory can become the parent of its
 * parent: fs.rename_lock makes that safe (docs/locking.md), but no fixed order.
 */
const char *__tsan_default_suppressions(void)
{
	return "race:libpmemobj.so\n"
	       "deadlock:pml_dir_rename\n"
	       "deadlock:pml_dir_rmdir\n";
}

/* libpmem2 1.12 keeps 144 bytes of each pmem2_map_from_existing() after pmem2_map_delete(). */
const char *__lsan_default_suppressions(void)
{
	return "leak:libpmem2.so\n";
}

/* Of pools that exist: removed at exit by the process that made them. */
static char paths[POOLS_MAX][PATH_MAX];
static pid_t maker;

static void remove_all(void)
{
	if (getpid() != maker)
		return;
	for (size_t i = 0; i < POOLS_MAX; i++)
		if (paths[i][0])
			(void)unlink(paths[i]);
}

/* Pools of processes that died. */
static void remove_stale(const char *folder)
{
	char pattern[PATH_MAX];
	glob_t found;
	int n = snprintf(pattern, sizeof(pattern), "%s/" POOL_NAME "*", folder);
	if (n < 0 || (size_t)n >= sizeof(pattern) || glob(pattern, 0, NULL, &found))
		return;
	for (size_t i = 0; i < found.gl_pathc; i++) {
		const char *pid = found.gl_pathv[i] + strlen(folder) + 1 + strlen(POOL_NAME);
		if (kill((pid_t)strtol(pid, NULL, 10), 0) < 0 && errno == ESRCH)
			(void)unlink(found.gl_pathv[i]);
	}
	globfree(&found);
}

static void remember(const char *folder, const char *path)
{
	if (maker == 0) {
		maker = getpid();
		(void)atexit(remove_all);
		remove_stale(folder);
	}
	for (size_t i = 0; i < POOLS_MAX; i++) {
		if (paths[i][0])
			continue;
		(void)snprintf(paths[i], sizeof(paths[i]), "%s", path);
		return;
	}
	BAIL_OUT("more than %d pools", POOLS_MAX);
}

static void forget(const char *path)
{
	for (size_t i = 0; i < POOLS_MAX; i++)
		if (strcmp(paths[i], path) == 0)
			paths[i][0] = 0;
}

static int open_as(struct fs_pool *pool, bool is_read_only, char *ret_reason)
{
	const struct pml_open_args args = {
		.path = pool->path,
		.is_read_only = is_read_only,
		.poison_freed = true,
	};
	return pml_fs_open(&args, &pool->fs, ret_reason);
}

void fs_pool_make(struct fs_pool *pool, uint64_t size_bytes)
{
	static unsigned int count;
	const char *given = getenv("PML_TEST_DIR");
	const char *folder = given ? given : "/dev/shm";
	(void)snprintf(pool->path, sizeof(pool->path), "%s/" POOL_NAME "%ld-%u", folder,
		       (long)getpid(), count++);
	(void)unlink(pool->path);
	remember(folder, pool->path);

	char reason[PML_REASON_BYTES];
	struct pml_device_info info;
	const struct pml_format_args args = {.path = pool->path, .size_bytes = size_bytes};
	int err = pml_fs_format(&args, &info, reason);
	if (err)
		BAIL_OUT("format %s: %s (%s)", pool->path, reason, strerror(-err));
	pool->fs = NULL;
	fs_pool_reopen(pool);
}

static void reopen_as(struct fs_pool *pool, bool is_read_only)
{
	fs_pool_close(pool);
	char reason[PML_REASON_BYTES];
	int err = open_as(pool, is_read_only, reason);
	if (err)
		BAIL_OUT("open %s: %s (%s)", pool->path, reason, strerror(-err));
}

void fs_pool_reopen(struct fs_pool *pool)
{
	reopen_as(pool, false);
}

void fs_pool_reopen_read_only(struct fs_pool *pool)
{
	reopen_as(pool, true);
}

int fs_pool_try_open(struct fs_pool *pool)
{
	char reason[PML_REASON_BYTES];
	return open_as(pool, false, reason);
}

void fs_pool_close(struct fs_pool *pool)
{
	if (pool->fs)
		pml_fs_close(pool->fs);
	pool->fs = NULL;
}

void fs_pool_remove(struct fs_pool *pool)
{
	fs_pool_close(pool);
	(void)unlink(pool->path);
	forget(pool->path);
}

struct pml_inode *fs_pool_root(const struct fs_pool *pool)
{
	struct pml_inode *root;
	int err = pml_inode_get(pool->fs, PML_ROOT_INO, &root);
	if (err)
		BAIL_OUT("root directory: %s", strerror(-err));
	return root;
}

struct pml_inode *fs_pool_create(struct pml_inode *dir, const char *name, mode_t mode)
{
	struct pml_inode *inode;
	const struct pml_create_args args = {.mode = mode};
	int err = pml_dir_create(dir, name, &args, &inode);
	if (err)
		BAIL_OUT("create %s: %s", name, strerror(-err));
	return inode;
}

size_t fs_pool_read(struct pml_inode *inode, uint64_t first, void *buf, size_t len)
{
	static struct iovec iov[PML_IOV_MAX];
	size_t at = 0;
	while (at < len) {
		int n;
		size_t got = 0, begin = at;
		size_t want = PML_MIN(len - at, (size_t)PML_IO_BYTES_MAX);
		if (pml_file_read_begin(inode, first + at, want, iov, &n, &got))
			return at;
		for (int i = 0; i < n; i++) {
			memcpy((char *)buf + at, iov[i].iov_base, iov[i].iov_len);
			at += iov[i].iov_len;
		}
		pml_file_read_end(inode);
		if (at - begin != got)
			BAIL_OUT("a read of %zu bytes has %zu", got, at - begin);
		if (got < want)
			break;
	}
	return at;
}

bool fs_pool_holds(struct pml_inode *inode, uint64_t first, int byte, size_t len)
{
	pml_auto_free unsigned char *buf = malloc(len);
	if (fs_pool_read(inode, first, buf, len) != len)
		return false;
	for (size_t i = 0; i < len; i++)
		if (buf[i] != byte)
			return false;
	return true;
}
