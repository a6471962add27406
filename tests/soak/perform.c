/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * perform.c -- the system calls of an operation
 */
#include "perform.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "acls.h"
#include "compare.h"
#include "dirread.h"
#include "pmemleasefs/ioctl.h"
#include "rules.h"

int slot_fd[SLOTS];
bool is_quiet;
bool has_complained;

static const char *kept;

void complain_now(void)
{
	if (kept)
		(void)!write(STDOUT_FILENO, kept, strlen(kept));
	kept = NULL;
}

void complain(const char *fmt, ...)
{
	va_list args;
	/* One write, so that the lines of several processes stay whole. */
	static char line[2 * PATH_BYTES + 1];
	if (is_quiet && has_complained)
		return;
	has_complained = true;
	va_start(args, fmt);
	int n = vsnprintf(line + 2, sizeof(line) - 3, fmt, args);
	va_end(args);
	memcpy(line, "# ", 2);
	n = n + 2 < (int)sizeof(line) - 1 ? n + 2 : (int)sizeof(line) - 2;
	line[n++] = '\n';
	line[n] = '\0';
	kept = line;
	if (!is_quiet)
		complain_now();
}

bool is_dead(void)
{
	struct statfs st;
	return statfs(world->mount, &st) != 0 && (errno == ENOTCONN || errno == ECONNABORTED);
}

static const char *path1(const struct op *op)
{
	return path_of(op->tree, op->dir, op->name);
}

static const char *path2(const struct op *op)
{
	return path_of(op->tree2, op->dir2, op->name2);
}

static int err_of(long rc)
{
	return rc < 0 ? errno : 0;
}

/* What stands for an open file in an ioctl on another; good for one call. */
static int take_token(int fd, uint8_t *ret_token)
{
	struct pml_ioc_token token = {.version = PML_IOC_VERSION};
	if (ioctl(fd, PML_IOC_TOKEN, &token) != 0)
		return errno;
	memcpy(ret_token, token.token, sizeof(token.token));
	return 0;
}

/* ---- names and attributes ----------------------------------------------- */

static int do_create(const struct op *op)
{
	int fd = open(path1(op), op->flags | O_NOFOLLOW | O_CLOEXEC, op->mode);
	if (fd < 0)
		return errno;
	close(fd);
	return 0;
}

static int do_symlink(const struct op *op)
{
	char target[PATH_BYTES];
	target_text(op->name2, op->fill, target);
	return err_of(symlink(target, path1(op)));
}

static const char *directory1(const struct op *op)
{
	return path_of(op->tree, op->dir, -1);
}

/* Written before it has a name, so nobody sees less. */
static int do_tmpfile(const struct op *op)
{
	uint8_t bytes[IO_MAX / 16];
	char self[64];
	int fd = open(directory1(op), O_TMPFILE | O_RDWR | O_CLOEXEC | op->flags, op->mode);
	if (fd < 0)
		return errno;
	fill_bytes(bytes, op->bytes, op->fill);
	snprintf(self, sizeof(self), "/proc/self/fd/%d", fd);
	ssize_t n = pwrite(fd, bytes, op->bytes, 0);
	int err = n < 0 ? errno : n < (ssize_t)op->bytes ? ENOSPC : 0;
	if (!err)
		err = err_of(linkat(AT_FDCWD, self, AT_FDCWD, path1(op), AT_SYMLINK_FOLLOW));
	close(fd);
	return err;
}

static int do_snapshot(const struct op *op)
{
	struct pml_ioc_snapshot snapshot = {.version = PML_IOC_VERSION};
	int from = open(path1(op), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (from < 0)
		return errno;
	int to = open(path_of(op->tree, op->dir2, -1), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int err = err_of(to);
	strcpy(snapshot.name, name_text(op->name2));
	/* A token lives for a short time, which a busy machine may let pass. */
	for (int tries = 0; !err && tries < 5; tries++) {
		err = take_token(to, snapshot.token);
		if (!err)
			err = err_of(ioctl(from, PML_IOC_SNAPSHOT, &snapshot));
		if (err != ESTALE)
			break;
		err = 0;
	}
	if (to >= 0)
		close(to);
	close(from);
	return err;
}

static int do_name_op(const struct op *op)
{
	switch (op->kind) {
	case CREATE:
		return do_create(op);
	case MKDIR:
		return err_of(mkdir(path1(op), op->mode));
	case MKNOD:
		return err_of(mknod(path1(op), (mode_t)op->flags | op->mode, (dev_t)op->at));
	case SYMLINK:
		return do_symlink(op);
	case LINK:
		return err_of(linkat(AT_FDCWD, path1(op), AT_FDCWD, path2(op), 0));
	case UNLINK:
		return err_of(unlink(path1(op)));
	case RMDIR:
		return err_of(rmdir(path1(op)));
	case TMPFILE:
		return do_tmpfile(op);
	case SNAPSHOT:
		return do_snapshot(op);
	default:
		return err_of(renameat2(AT_FDCWD, path1(op), AT_FDCWD, path2(op),
					(unsigned int)op->flags));
	}
}

static struct timespec to_timespec(uint64_t ns, bool is_set)
{
	if (!is_set)
		return (struct timespec){.tv_nsec = UTIME_OMIT};
	return (struct timespec){.tv_sec = (time_t)(ns / 1000000000),
				 .tv_nsec = (long)(ns % 1000000000)};
}

static int do_getxattr(const struct op *op)
{
	uint8_t got[XATTR_MAX], want[XATTR_MAX];
	const struct attribute *a = &node_of(op->tree, op->node)->attribute[op->at];
	ssize_t n = lgetxattr(path1(op), xattr_name((int)op->at), got, sizeof(got));
	if (n < 0)
		return errno;
	fill_bytes(want, a->bytes, a->fill);
	if (!a->is_set || (uint32_t)n != a->bytes || memcmp(got, want, a->bytes) != 0)
		complain("%s: attribute %s has other contents (%zd bytes)", path1(op),
			 xattr_name((int)op->at), n);
	return 0;
}

static int do_setxattr(const struct op *op)
{
	uint8_t value[XATTR_MAX];
	fill_bytes(value, op->bytes, op->fill);
	return err_of(lsetxattr(path1(op), xattr_name((int)op->at), value, op->bytes, op->flags));
}

/* ---- lists, and what others may ------------------------------------------ */

static int do_setacl(const struct op *op)
{
	uint8_t value[ACL_BYTES_MAX];
	const struct acl acl = acl_of_op(op);
	size_t bytes = acl_value(&acl, value);
	return err_of(lsetxattr(path1(op), acl_name((int)op->at), value, bytes, 0));
}

static int do_getacl(const struct op *op)
{
	return compare_acl(op->tree, op->node, path1(op), (int)op->at);
}

static int attempt(const struct op *op, const char *path)
{
	static const int access[] = {
		[OPEN_READ] = O_RDONLY, [OPEN_WRITE] = O_WRONLY, [OPEN_BOTH] = O_RDWR};
	struct stat st;
	int fd;
	switch (op->flags) {
	case OPEN_READ:
	case OPEN_WRITE:
	case OPEN_BOTH:
		fd = open(path, access[op->flags] | O_NOFOLLOW | O_CLOEXEC);
		if (fd < 0)
			return errno;
		close(fd);
		return 0;
	case CHANGE_MODE:
		return err_of(chmod(path, op->mode));
	case SET_ACL:
		return do_setacl(op);
	case REMOVE_NAME:
		return err_of(unlink(path));
	default:
		return err_of(lstat(path, &st));
	}
}

static int do_permit(const struct op *op)
{
	const char *path = path1(op);
	if (setresgid((gid_t)-1, op->gid, (gid_t)-1) != 0 ||
	    setresuid((uid_t)-1, op->uid, (uid_t)-1) != 0)
		return errno;
	int err = attempt(op, path);
	if (setresuid((uid_t)-1, 0, (uid_t)-1) != 0 || setresgid((gid_t)-1, 0, (gid_t)-1) != 0)
		abort();
	return err;
}

static int do_attribute_op(const struct op *op)
{
	struct stat st;
	struct timespec times[2];
	switch (op->kind) {
	case CHMOD:
		return err_of(chmod(path1(op), op->mode));
	case CHOWN:
		return err_of(lchown(path1(op), op->uid, op->gid));
	case UTIMENS:
		times[0] = to_timespec(op->at, op->flags & 1);
		times[1] = to_timespec(op->at2, op->flags & 2);
		return err_of(utimensat(AT_FDCWD, path1(op), times, AT_SYMLINK_NOFOLLOW));
	case STAT:
		return err_of(lstat(path1(op), &st));
	case FOLLOW:
		return err_of(stat(path1(op), &st));
	case SETXATTR:
		return do_setxattr(op);
	case GETXATTR:
		return do_getxattr(op);
	case REMOVEXATTR:
		return err_of(lremovexattr(path1(op), xattr_name((int)op->at)));
	case SETACL:
		return do_setacl(op);
	case GETACL:
		return do_getacl(op);
	case REMOVEACL:
		return err_of(lremovexattr(path1(op), acl_name((int)op->at)));
	case PERMIT:
		return do_permit(op);
	default:
		return compare_xattr_list(op->tree, op->node, path1(op));
	}
}

/* ---- contents ----------------------------------------------------------- */

/* What faults on a mapping whose daemon has gone. */
static sigjmp_buf on_fault;
static volatile sig_atomic_t may_fault;

static void on_sigbus(int signo)
{
	(void)signo;
	if (!may_fault)
		_exit(3);
	siglongjmp(on_fault, 1);
}

static int open_for(const struct op *op, int tree, int dir, int name, int flags)
{
	if (op->slot >= 0 && tree == op->tree)
		return slot_fd[op->slot];
	return open(path_of(tree, dir, name), flags | O_NOFOLLOW | O_CLOEXEC);
}

static void close_for(const struct op *op, int fd)
{
	if (op->slot < 0 || fd != slot_fd[op->slot])
		close(fd);
}

static void compare_read(const struct op *op, const uint8_t *got, uint64_t bytes)
{
	const uint8_t *want = data_of(op->tree, op->node) + op->at;
	if (memcmp(got, want, bytes) == 0)
		return;
	uint64_t i = 0;
	while (got[i] == want[i])
		i++;
	complain("read at %lu of %lu bytes: byte %lu is %02x, not %02x", (unsigned long)op->at,
		 (unsigned long)bytes, (unsigned long)(op->at + i), got[i], want[i]);
}

static int do_read(const struct op *op, int fd, uint64_t *done)
{
	static uint8_t buffer[IO_MAX] __attribute__((aligned(4096)));
	ssize_t n = pread(fd, buffer, op->bytes, (off_t)op->at);
	if (n < 0)
		return errno;
	*done = (uint64_t)n;
	if (*done == op_all(op))
		compare_read(op, buffer, *done);
	return 0;
}

static int do_write(const struct op *op, int fd, uint64_t *done)
{
	static uint8_t buffer[IO_MAX] __attribute__((aligned(4096)));
	fill_bytes(buffer, op->bytes, op->fill);
	ssize_t n = pwrite(fd, buffer, op->bytes, (off_t)op->at);
	if (n < 0)
		return errno;
	*done = (uint64_t)n;
	return 0;
}

/* EFAULT: there was a SIGBUS. */
static int touch(const struct op *op, uint8_t *bytes, bool writes)
{
	if (sigsetjmp(on_fault, 1) != 0) {
		may_fault = 0;
		return EFAULT;
	}
	may_fault = 1;
	if (writes)
		fill_bytes(bytes, op->bytes, op->fill);
	else
		compare_read(op, bytes, op->bytes);
	may_fault = 0;
	return 0;
}

/* The mapping begins at a page. */
static int do_mmap(const struct op *op, int fd, uint64_t *done)
{
	bool writes = op->kind == MMAP_WRITE;
	uint64_t skip = op->at % BLOCK;
	uint8_t *map =
		mmap(NULL, op->bytes + skip, writes ? PROT_READ | PROT_WRITE : PROT_READ,
		     writes || op->fill % 2 ? MAP_SHARED : MAP_PRIVATE, fd, (off_t)(op->at - skip));
	if (map == MAP_FAILED)
		return errno;
	int err = touch(op, map + skip, writes);
	if (!err && writes && op->fill % 2 == 0)
		err = err_of(msync(map, op->bytes + skip, MS_SYNC));
	munmap(map, op->bytes + skip);
	/* Else the caller closes it, which must do as well. */
	if (!err && writes && op->fill % 2 != 0 && (op->slot >= 0 || op->fill % 4 == 1))
		err = err_of(fsync(fd));
	*done = op->bytes;
	return err;
}

static int do_copy(const struct op *op, int fd, uint64_t *done)
{
	int from = open(path2(op), O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	if (from < 0)
		return errno;
	loff_t from_at = (loff_t)op->at2, to_at = (loff_t)op->at;
	ssize_t n = copy_file_range(from, &from_at, fd, &to_at, op->bytes, 0);
	int err = err_of(n);
	if (!err)
		*done = (uint64_t)n;
	close(from);
	return err;
}

/* Anything that the model allows: a hole reads as zeros, and what is mapped is data. */
static int do_seek(const struct op *op, int fd)
{
	const struct node *n = node_of(op->tree, op->node);
	enum mapping other = op->flags == SEEK_DATA ? DATA : HOLE;
	off_t got = lseek(fd, (off_t)op->at, op->flags);
	if (got < 0 && op->at >= n->size)
		return errno;
	if (got < 0) {
		/* No data behind: only if there may be none. */
		uint64_t b = op->at / BLOCK;
		while (b * BLOCK < n->size && n->mapping[b] != DATA)
			b++;
		return errno == ENXIO && op->flags == SEEK_DATA && b * BLOCK >= n->size ? 0 : errno;
	}
	if ((uint64_t)got < op->at || (uint64_t)got > n->size)
		complain("lseek from %lu found %ld of %lu", (unsigned long)op->at, (long)got,
			 (unsigned long)n->size);
	for (uint64_t b = op->at / BLOCK; b * BLOCK < (uint64_t)got && op->at < (uint64_t)got; b++)
		if (n->mapping[b] == other || (other == HOLE && n->mapping[b] == UNWRITTEN))
			complain("lseek from %lu skipped block %lu and found %ld",
				 (unsigned long)op->at, (unsigned long)b, (long)got);
	enum mapping found = (uint64_t)got < n->size ? n->mapping[got / BLOCK] : ANY;
	if (op->flags == SEEK_DATA ? found == HOLE || found == UNWRITTEN : found == DATA)
		complain("lseek from %lu found %ld, which it is not", (unsigned long)op->at,
			 (long)got);
	return 0;
}

static int do_clone(const struct op *op, int from, int fd)
{
	struct pml_ioc_clone clone = {.version = PML_IOC_VERSION,
				      .src_byte = op->at2,
				      .dst_byte = op->at,
				      .len_bytes = op->bytes};
	int err = take_token(from, clone.token);
	return err ? err : err_of(ioctl(fd, PML_IOC_CLONE, &clone));
}

static int do_dedupe(const struct op *op, int from, int fd)
{
	struct pml_ioc_dedupe dedupe = {
		.version = PML_IOC_VERSION, .ndst = 1, .src_byte = op->at2, .len_bytes = op->bytes};
	dedupe.dst[0].dst_byte = op->at;
	int err = take_token(fd, dedupe.dst[0].token);
	if (!err)
		err = err_of(ioctl(from, PML_IOC_DEDUPE, &dedupe));
	if (err || dedupe.dst[0].status < 0)
		return err ? err : -dedupe.dst[0].status;
	bool is_same = memcmp(data_of(op->tree, op->node) + op->at,
			      data_of(op->tree2, op->node2) + op->at2, op->bytes) == 0;
	if (is_same != (dedupe.dst[0].status == PML_IOC_DEDUPE_SAME) ||
	    (is_same && dedupe.dst[0].done_bytes != op->bytes))
		complain("dedupe says status %d and %lu bytes of %lu", dedupe.dst[0].status,
			 (unsigned long)dedupe.dst[0].done_bytes, (unsigned long)op->bytes);
	return 0;
}

static int do_range(const struct op *op, int fd)
{
	struct pml_ioc_range range = {
		.version = PML_IOC_VERSION, .first_byte = op->at, .len_bytes = op->bytes};
	unsigned long request = op->kind == COLLAPSE ? PML_IOC_COLLAPSE
				: op->kind == INSERT ? PML_IOC_INSERT
						     : PML_IOC_UNSHARE;
	return err_of(ioctl(fd, request, &range));
}

static int do_relocate(int fd)
{
	struct pml_ioc_relocate step = {.version = PML_IOC_VERSION};
	int err;
	do {
		err = err_of(ioctl(fd, PML_IOC_RELOCATE, &step));
		step.first_byte = step.next_byte;
	} while (!err && step.next_byte);
	return err;
}

static int do_ioctl(const struct op *op, int fd)
{
	if (!op_has_source(op))
		return do_range(op, fd);
	int from = open(path2(op), O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	if (from < 0)
		return errno;
	int err = ESTALE;
	/* A token lives for a short time, which a busy machine may let pass. */
	for (int tries = 0; err == ESTALE && tries < 5; tries++)
		err = op->kind == CLONE ? do_clone(op, from, fd) : do_dedupe(op, from, fd);
	close(from);
	return err;
}

static int do_data_op(const struct op *op, uint64_t *done)
{
	if (op->kind == TRUNCATE && op->slot < 0 && op->fill % 2)
		return err_of(truncate(path1(op), (off_t)op->at));
	int access = op->kind == READ || op->kind == MMAP_READ || op->kind == SEEK ? O_RDONLY
		     : op->kind == MMAP_WRITE					   ? O_RDWR
										   : O_WRONLY;
	int flags = op->kind == ALLOCATE || op->kind == SEEK ? 0 : op->flags;
	int fd = open_for(op, op->tree, op->dir, op->name, access | flags);
	if (fd < 0)
		return errno;
	int err = 0;
	switch (op->kind) {
	case READ:
		err = do_read(op, fd, done);
		break;
	case WRITE:
		err = do_write(op, fd, done);
		break;
	case MMAP_READ:
	case MMAP_WRITE:
		err = do_mmap(op, fd, done);
		break;
	case TRUNCATE:
		err = err_of(ftruncate(fd, (off_t)op->at));
		break;
	case ALLOCATE:
		err = err_of(fallocate(fd, op->flags, (off_t)op->at, (off_t)op->bytes));
		break;
	case COPY:
		err = do_copy(op, fd, done);
		break;
	case SEEK:
		err = do_seek(op, fd);
		break;
	case CLONE:
	case DEDUPE:
	case COLLAPSE:
	case INSERT:
	case UNSHARE:
		err = do_ioctl(op, fd);
		break;
	case RELOCATE:
		err = do_relocate(fd);
		break;
	default:
		err = err_of(op->fill % 3 == 0	 ? syncfs(fd)
			     : op->fill % 3 == 1 ? fdatasync(fd)
						 : fsync(fd));
		break;
	}
	close_for(op, fd);
	/* munmap(2) and close(2) do not say that it could not be written. */
	if (op->kind == MMAP_WRITE && !err && is_dead())
		err = ENOTCONN;
	return err;
}

/* ---- descriptors that stay open ----------------------------------------- */

static int do_open(const struct op *op, struct worker *worker)
{
	int fd = open(path1(op), op->flags | O_NOFOLLOW | O_CLOEXEC, op->mode);
	if (fd < 0)
		return errno;
	slot_fd[op->slot] = fd;
	worker->slot[op->slot].flags = op->flags;
	return 0;
}

int op_perform(const struct op *op, struct worker *worker, uint64_t *ret_done)
{
	static bool has_handler;
	if (!has_handler) {
		struct sigaction act = {.sa_handler = on_sigbus};
		sigaction(SIGBUS, &act, NULL);
		has_handler = true;
	}
	*ret_done = op_all(op);
	if (op->kind <= SNAPSHOT)
		return do_name_op(op);
	if (op->kind <= PERMIT)
		return do_attribute_op(op);
	if (op->kind == READDIR)
		return read_directory_on(op);
	if (op->kind == OPEN)
		return do_open(op, worker);
	if (op->kind == CLOSE)
		return err_of(close(slot_fd[op->slot]));
	return do_data_op(op, ret_done);
}
