/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fsop.c -- one system call from a shell script, and a few sequences that no tool offers
 *
 * usage: fsop OPERATION ARGUMENT...
 *
 * Prints "ok", or what the operation found, or the name of the error ("ENOTEMPTY").
 * Exit status 0 without an error, 1 with one, 2 for a wrong use.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "pmemleasefs/ioctl.h"

/* An operation returns -1 with errno, or 0 for "ok", or 1 when it has printed its result. */
enum { FAILED = -1, DONE = 0, PRINTED = 1 };

static long long number(const char *text)
{
	return strtoll(text, NULL, 0);
}

static int say(const char *text)
{
	puts(text);
	return PRINTED;
}

static int open_flags(const char *text)
{
	static const struct {
		const char *name;
		int flag;
	} flags[] = {{"r", O_RDONLY},	      {"w", O_WRONLY},	    {"rw", O_RDWR},
		     {"creat", O_CREAT},      {"excl", O_EXCL},	    {"trunc", O_TRUNC},
		     {"append", O_APPEND},    {"dir", O_DIRECTORY}, {"direct", O_DIRECT},
		     {"nofollow", O_NOFOLLOW}};
	int all = 0;
	char *copy = strdup(text);
	for (char *word = strtok(copy, ","); word; word = strtok(NULL, ","))
		for (size_t i = 0; i < sizeof(flags) / sizeof(flags[0]); i++)
			if (strcmp(word, flags[i].name) == 0)
				all |= flags[i].flag;
	free(copy);
	return all;
}

/* ---- single calls ------------------------------------------------------- */

static int op_open(char **a)
{
	int fd = open(a[0], open_flags(a[1]), 0666);
	return fd < 0 ? FAILED : close(fd);
}

static int op_mkdir(char **a)
{
	return mkdir(a[0], (mode_t)strtoul(a[1], NULL, 8));
}

static int op_rmdir(char **a)
{
	return rmdir(a[0]);
}

static int op_unlink(char **a)
{
	return unlink(a[0]);
}

static int op_rename(char **a)
{
	return rename(a[0], a[1]);
}

static int op_renameat2(char **a)
{
	unsigned int flags = strcmp(a[2], "exchange") == 0    ? RENAME_EXCHANGE
			     : strcmp(a[2], "noreplace") == 0 ? RENAME_NOREPLACE
							      : RENAME_WHITEOUT;
	return renameat2(AT_FDCWD, a[0], AT_FDCWD, a[1], flags);
}

static int op_link(char **a)
{
	return link(a[0], a[1]);
}

static int op_symlink(char **a)
{
	return symlink(a[0], a[1]);
}

static int op_truncate(char **a)
{
	return truncate(a[0], number(a[1]));
}

static int op_chmod(char **a)
{
	return chmod(a[0], (mode_t)strtoul(a[1], NULL, 8));
}

static int op_chown(char **a)
{
	return chown(a[0], (uid_t)number(a[1]), (gid_t)number(a[2]));
}

static int op_fallocate(char **a)
{
	int mode = strcmp(a[1], "punch") == 0	    ? FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE
		   : strcmp(a[1], "keep") == 0	    ? FALLOC_FL_KEEP_SIZE
		   : strcmp(a[1], "collapse") == 0  ? FALLOC_FL_COLLAPSE_RANGE
		   : strcmp(a[1], "zero") == 0	    ? FALLOC_FL_ZERO_RANGE
		   : strcmp(a[1], "zero-keep") == 0 ? FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE
						    : 0;
	int fd = open(a[0], O_RDWR);
	if (fd < 0)
		return FAILED;
	int rc = fallocate(fd, mode, number(a[2]), number(a[3]));
	int kept = errno;
	close(fd);
	errno = kept;
	return rc;
}

static int op_seek(char **a)
{
	int fd = open(a[0], O_RDONLY);
	off_t at =
		fd < 0 ? -1
		       : lseek(fd, number(a[2]), strcmp(a[1], "hole") == 0 ? SEEK_HOLE : SEEK_DATA);
	if (at < 0)
		return FAILED;
	printf("%lld\n", (long long)at);
	return PRINTED;
}

/* SRC SRC-OFFSET DST DST-OFFSET LENGTH: prints how much was copied. */
static int op_clone(char **a)
{
	int src = open(a[0], O_RDONLY);
	int dst = open(a[2], O_RDWR | O_CREAT, 0666);
	if (src < 0 || dst < 0)
		return FAILED;
	loff_t from = number(a[1]), to = number(a[3]);
	long long left = number(a[4]), done = 0;
	while (left > 0) {
		ssize_t n = copy_file_range(src, &from, dst, &to, (size_t)left, 0);
		if (n < 0)
			return FAILED;
		if (n == 0)
			break;
		left -= n;
		done += n;
	}
	printf("%lld\n", done);
	return PRINTED;
}

/* ---- sequences ---------------------------------------------------------- */

/* COUNT TAG: appends COUNT records of 64 bytes, each by one write. */
static int op_append(char **a)
{
	int fd = open(a[0], O_WRONLY | O_CREAT | O_APPEND, 0666);
	if (fd < 0)
		return FAILED;
	for (long long i = 0; i < number(a[1]); i++) {
		char record[96];
		snprintf(record, sizeof(record), "%-10.10s %010lld%042d", a[2], i, 0);
		record[63] = '\n';
		if (write(fd, record, 64) != 64)
			return FAILED;
	}
	return close(fd);
}

/* The file is removed while it is open: data and attributes live on, and new data too. */
static int op_unlinked(char **a)
{
	char text[16] = "";
	struct stat st;
	int fd = open(a[0], O_RDWR | O_CREAT | O_EXCL, 0600);
	if (fd < 0 || write(fd, "before", 6) != 6 || unlink(a[0]) != 0)
		return FAILED;
	if (access(a[0], F_OK) == 0)
		return say("the name is still there");
	if (pwrite(fd, "behind", 6, 6) != 6 || pread(fd, text, 12, 0) != 12 || fstat(fd, &st) != 0)
		return FAILED;
	if (strcmp(text, "beforebehind") != 0 || st.st_size != 12 || st.st_nlink != 0)
		return say("wrong contents or attributes");
	return close(fd);
}

static int op_mmap_shared(char **a)
{
	const size_t bytes = 3 * 4096;
	char text[8] = "";
	int fd = open(a[0], O_RDWR | O_CREAT | O_TRUNC, 0600);
	if (fd < 0 || ftruncate(fd, (off_t)bytes) != 0 || pwrite(fd, "old", 3, 5000) != 3)
		return FAILED;
	char *map = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (map == MAP_FAILED)
		return FAILED;
	if (memcmp(map + 5000, "old", 3) != 0)
		return say("a write is not seen through the mapping");
	memcpy(map + 5000, "new", 3);
	if (pread(fd, text, 3, 5000) != 3)
		return FAILED;
	if (strcmp(text, "new") != 0)
		return say("a store is not seen by read");
	if (pwrite(fd, "xyz", 3, 100) != 3)
		return FAILED;
	if (memcmp(map + 100, "xyz", 3) != 0)
		return say("a later write is not seen through the mapping");
	if (msync(map, bytes, MS_SYNC) != 0 || munmap(map, bytes) != 0)
		return FAILED;
	return close(fd);
}

static int op_mmap_private(char **a)
{
	char text[8] = "";
	int fd = open(a[0], O_RDWR | O_CREAT | O_TRUNC, 0600);
	if (fd < 0 || write(fd, "original", 8) != 8)
		return FAILED;
	char *map = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
	if (map == MAP_FAILED)
		return FAILED;
	memcpy(map, "mine", 4);
	if (pread(fd, text, 4, 0) != 4)
		return FAILED;
	if (strcmp(text, "orig") != 0)
		return say("a private store has reached the file");
	munmap(map, 4096);
	return close(fd);
}

struct linux_dirent64 {
	unsigned long long d_ino;
	long long d_off;
	unsigned short d_reclen;
	unsigned char d_type;
	char d_name[];
};

/* Reads with a small buffer and removes each entry as it comes: prints how many there were. */
static int op_read_removing(char **a)
{
	_Alignas(8) char buffer[1024];
	long long count = 0;
	int fd = open(a[0], O_RDONLY | O_DIRECTORY);
	if (fd < 0)
		return FAILED;
	for (;;) {
		long n = syscall(SYS_getdents64, fd, buffer, sizeof(buffer));
		if (n < 0)
			return FAILED;
		if (n == 0)
			break;
		for (long at = 0; at < n;) {
			struct linux_dirent64 *entry = (void *)(buffer + at);
			at += entry->d_reclen;
			if (entry->d_name[0] == '.')
				continue;
			if (unlinkat(fd, entry->d_name, 0) != 0)
				return FAILED;
			count++;
		}
	}
	printf("%lld\n", count);
	close(fd);
	return PRINTED;
}

/* Sets times in ns and in a year behind 2106, reads them back. */
static int op_times(char **a)
{
	const struct timespec set[2] = {{.tv_sec = 1, .tv_nsec = 999999999},
					{.tv_sec = 5000000000, .tv_nsec = 123456789}};
	struct stat st;
	if (utimensat(AT_FDCWD, a[0], set, 0) != 0 || stat(a[0], &st) != 0)
		return FAILED;
	bool is_same = memcmp(&st.st_atim, &set[0], sizeof(set[0])) == 0 &&
		       memcmp(&st.st_mtim, &set[1], sizeof(set[1])) == 0;
	return is_same ? DONE : say("other times come back");
}

static void on_alarm(int signo)
{
	(void)signo;
}

/* FILE SIZE MS: truncate, interrupted by a signal whose handler returns. */
static int op_interrupted_truncate(char **a)
{
	struct sigaction action = {.sa_handler = on_alarm}; /* no SA_RESTART */
	struct itimerval timer = {
		.it_value = {.tv_sec = number(a[2]) / 1000, .tv_usec = number(a[2]) % 1000 * 1000}};
	sigaction(SIGALRM, &action, NULL);
	setitimer(ITIMER_REAL, &timer, NULL);
	return truncate(a[0], number(a[1]));
}

/* READ-FILE...: is what was read once seen anew through the same descriptor after a line on stdin?
 */
static int op_reread(char **a)
{
	char before[4096] = "", after[4096] = "";
	int fd = open(a[0], O_RDONLY);
	if (fd < 0 || pread(fd, before, sizeof(before), 0) < 0)
		return FAILED;
	puts("read");
	fflush(stdout);
	if (getchar() == EOF)
		return FAILED;
	/* A stale page may live on for a moment after the remote commit: docs/design.md. */
	for (int i = 0; i < 300; i++) {
		if (pread(fd, after, sizeof(after), 0) < 0)
			return FAILED;
		if (memcmp(before, after, sizeof(before)) != 0)
			return say("new");
		usleep(10000);
	}
	return say("old");
}

/* ---- ioctls of ours ------------------------------------------------------ */

/* SRC PREFIX COUNT: so many whole clones of SRC, PREFIX0 and so on. */
static int op_clones(char **a)
{
	struct stat st;
	int src = open(a[0], O_RDONLY);
	if (src < 0 || fstat(src, &st) != 0)
		return FAILED;
	for (long long i = 0; i < number(a[2]); i++) {
		char name[4096];
		loff_t from = 0, to = 0;
		snprintf(name, sizeof(name), "%s%lld", a[1], i);
		int dst = open(name, O_WRONLY | O_CREAT | O_EXCL, 0666);
		if (dst < 0 ||
		    copy_file_range(src, &from, dst, &to, (size_t)st.st_size, 0) != st.st_size)
			return FAILED;
		close(dst);
	}
	return DONE;
}

static int call_range(int fd, unsigned long cmd, uint64_t first, uint64_t len)
{
	struct pml_ioc_range range = {
		.version = PML_IOC_VERSION, .first_byte = first, .len_bytes = len};
	return ioctl(fd, cmd, &range);
}

/* FILE: what is read and mapped is new at once when a range was moved. */
/*
 * outlived PID PATH: kills the daemon while /dev/fuse stays open elsewhere, as in a thread of
 * it that hangs in the kernel, and uses the mount until that fails for good.
 */
static int op_outlived(char **a)
{
	pid_t pid = (pid_t)number(a[0]);
	int pidfd = (int)syscall(SYS_pidfd_open, pid, 0), held = -1;
	if (pidfd < 0)
		return FAILED;
	for (int fd = 3; fd < 256 && held < 0; fd++) {
		char link[64], target[64] = "";
		(void)snprintf(link, sizeof(link), "/proc/%d/fd/%d", (int)pid, fd);
		(void)!readlink(link, target, sizeof(target) - 1);
		if (strcmp(target, "/dev/fuse") == 0)
			held = (int)syscall(SYS_pidfd_getfd, pidfd, fd, 0);
	}
	if (held < 0)
		return say("no /dev/fuse");
	if (kill(pid, SIGKILL))
		return FAILED;
	alarm(15);
	struct statvfs st; /* never from a cache */
	while (statvfs(a[1], &st) == 0 || errno == ECONNABORTED)
		(void)usleep(10000);
	return FAILED;
}

/* together FILE COUNT: copies FILE to FILE.1, FILE.2, ... by processes that begin at once. */
static int op_together(char **a)
{
	int source = open(a[0], O_RDONLY), gate[2];
	struct stat st;
	if (source < 0 || fstat(source, &st) || pipe(gate))
		return FAILED;
	for (long long i = 1; i <= number(a[1]); i++) {
		char name[4096], byte;
		(void)snprintf(name, sizeof(name), "%s.%lld", a[0], i);
		int to = open(name, O_WRONLY | O_CREAT | O_TRUNC, 0600);
		if (to < 0)
			return FAILED;
		pid_t child = fork();
		if (child < 0)
			return FAILED;
		if (child == 0) {
			close(gate[1]);
			(void)!read(gate[0], &byte, 1);
			off_t from = 0;
			_exit(copy_file_range(source, &from, to, NULL, (size_t)st.st_size, 0) !=
			      st.st_size);
		}
		close(to);
	}
	close(gate[1]);
	int status, bad = 0;
	while (wait(&status) > 0)
		bad |= status;
	return bad ? say("not copied whole") : DONE;
}

static int op_coherent(char **a)
{
	char block[4096];
	int fd = open(a[0], O_RDWR | O_CREAT | O_TRUNC, 0600);
	for (int i = 0; i < 8; i++) {
		memset(block, 'a' + i, sizeof(block));
		if (fd < 0 || write(fd, block, sizeof(block)) != sizeof(block))
			return FAILED;
	}
	char *map = mmap(NULL, 8 * 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (map == MAP_FAILED)
		return FAILED;
	/* A store that was synced moves along. */
	map[3 * 4096] = 'D';
	if (msync(map, 8 * 4096, MS_SYNC) != 0)
		return FAILED;
	for (int round = 0; round < 100; round++) {
		if (map[4096] != 'b' || map[3 * 4096] != 'D')
			return say("old contents in the mapping");
		if (call_range(fd, PML_IOC_COLLAPSE, 4096, 2 * 4096) != 0)
			return FAILED;
		if (map[4096] != 'D' || pread(fd, block, 1, 2 * 4096) != 1 || block[0] != 'e')
			return say("a collapse is not seen");
		struct stat st;
		if (fstat(fd, &st) != 0 || st.st_size != 6 * 4096)
			return say("the size after a collapse");
		if (call_range(fd, PML_IOC_INSERT, 4096, 2 * 4096) != 0)
			return FAILED;
		if (map[4096] != 0 || pread(fd, block, 1, 3 * 4096) != 1 || block[0] != 'D')
			return say("an insertion is not seen");
		memset(block, 'b', sizeof(block));
		if (pwrite(fd, block, sizeof(block), 4096) != sizeof(block))
			return FAILED;
	}
	munmap(map, 8 * 4096);
	/* Nobody has asked for the size: the kernel may think of 8 blocks. */
	loff_t from = 5 * 4096, to = 16 * 4096;
	if (call_range(fd, PML_IOC_COLLAPSE, 4096, 2 * 4096) != 0)
		return FAILED;
	if (copy_file_range(fd, &from, fd, &to, 3 * 4096, 0) != 4096)
		return say("a copy reads behind the end that a collapse has left");
	return close(fd);
}

static int expect(int rc, int want, const char *what)
{
	if (want == 0 ? rc == 0 : rc == -1 && errno == want)
		return 0;
	printf("%s: %s\n", what, rc == 0 ? "no error" : strerrorname_np(errno));
	return -1;
}

static int token_of(int fd, uint8_t *token)
{
	struct pml_ioc_token t = {.version = PML_IOC_VERSION};
	int rc = ioctl(fd, PML_IOC_TOKEN, &t);
	memcpy(token, t.token, sizeof(t.token));
	return rc;
}

/* SRC DST: who may call what; both files exist, and SRC has 8192 bytes or more. */
static int op_rights(char **a)
{
	struct pml_ioc_clone clone = {.version = PML_IOC_VERSION, .len_bytes = 4096};
	struct pml_ioc_clone none = clone, again;
	struct pml_ioc_dedupe dedupe = {.version = PML_IOC_VERSION, .ndst = 1, .len_bytes = 4096};
	int src = open(a[0], O_RDONLY), src_w = open(a[0], O_WRONLY);
	int dst = open(a[1], O_RDWR), dst_r = open(a[1], O_RDONLY);
	int dst_a = open(a[1], O_WRONLY | O_APPEND);
	int bad = 0;
	if (src < 0 || src_w < 0 || dst < 0 || dst_r < 0 || dst_a < 0)
		return FAILED;
	bad |= expect(ioctl(dst, PML_IOC_CLONE, &none), ESTALE, "no token");
	bad |= expect(token_of(src, clone.token), 0, "a token");
	again = clone;
	bad |= expect(ioctl(dst_r, PML_IOC_CLONE, &clone), EBADF, "read-only destination");
	bad |= expect(ioctl(dst_a, PML_IOC_CLONE, &clone), EBADF, "appending destination");
	bad |= expect(ioctl(dst, PML_IOC_CLONE, &clone), 0, "a clone");
	bad |= expect(ioctl(dst, PML_IOC_CLONE, &again), ESTALE, "a token twice");
	bad |= expect(token_of(src_w, clone.token), 0, "a token for writing");
	bad |= expect(ioctl(dst, PML_IOC_CLONE, &clone), ESTALE, "a source that cannot be read");
	bad |= expect(token_of(dst_r, dedupe.dst[0].token), 0, "a token");
	bad |= expect(ioctl(src, PML_IOC_DEDUPE, &dedupe), ESTALE, "a destination only read");
	bad |= expect(token_of(dst, dedupe.dst[0].token), 0, "a token");
	bad |= expect(ioctl(src_w, PML_IOC_DEDUPE, &dedupe), EBADF, "dedupe of an unread source");
	bad |= expect(ioctl(src, PML_IOC_DEDUPE, &dedupe), 0, "dedupe");
	if (dedupe.dst[0].status != PML_IOC_DEDUPE_SAME || dedupe.dst[0].done_bytes != 4096)
		bad |= puts("dedupe: not the same");
	dedupe.ndst = 0;
	bad |= expect(ioctl(src, PML_IOC_DEDUPE, &dedupe), EINVAL, "dedupe with nothing");
	dedupe.ndst = PML_IOC_DEDUPE_MAX + 1;
	bad |= expect(ioctl(src, PML_IOC_DEDUPE, &dedupe), EINVAL, "dedupe with too many");
	bad |= expect(call_range(dst_r, PML_IOC_COLLAPSE, 0, 4096), EBADF, "collapse");
	bad |= expect(call_range(dst_r, PML_IOC_INSERT, 0, 4096), EBADF, "insert");
	bad |= expect(call_range(dst_r, PML_IOC_UNSHARE, 0, 4096), EBADF, "unshare");
	struct pml_ioc_range range = {.version = PML_IOC_VERSION + 1, .len_bytes = 4096};
	bad |= expect(ioctl(dst, PML_IOC_UNSHARE, &range), EINVAL, "another version");
	range = (struct pml_ioc_range){
		.version = PML_IOC_VERSION, .reserved = 1, .len_bytes = 4096};
	bad |= expect(ioctl(dst, PML_IOC_UNSHARE, &range), EINVAL, "a reserved field");
	struct pml_ioc_stats stats = {.version = PML_IOC_VERSION};
	bad |= expect(ioctl(dst, PML_IOC_STATS, &stats), ENOTTY, "stats of a file");
	return bad ? PRINTED : DONE;
}

/* FILE COUNT: so many tokens, the first of which is not good any more. */
static int op_tokens(char **a)
{
	struct pml_ioc_clone clone = {
		.version = PML_IOC_VERSION, .dst_byte = 4096, .len_bytes = 4096};
	int fd = open(a[0], O_RDWR);
	if (fd < 0 || token_of(fd, clone.token) != 0)
		return FAILED;
	for (long long i = 1; i < number(a[1]); i++) {
		uint8_t token[16];
		if (token_of(fd, token) != 0)
			return FAILED;
	}
	return ioctl(fd, PML_IOC_CLONE, &clone);
}

/* DIR COUNT SIZE: a process for each of its files 0 to COUNT - 1 truncates it. */
static int op_truncate_each(char **a)
{
	int failed = 0, status = 0;
	for (long long i = 0; i < number(a[1]); i++) {
		char name[256];
		(void)snprintf(name, sizeof(name), "%s/%lld", a[0], i);
		pid_t child = fork();
		if (child < 0)
			return FAILED;
		if (child == 0) {
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			_exit(truncate(name, number(a[2])) != 0);
		}
	}
	while (wait(&status) > 0)
		failed += status != 0;
	printf("%d failed\n", failed);
	return PRINTED;
}

/* ROOT: what the ioctls about leases refuse. */
static int op_asking(char **a)
{
	static union {
		uint32_t version;
		struct pml_ioc_leases leases;
		struct pml_ioc_pins pins;
		struct pml_ioc_stats stats;
		struct pml_ioc_waiters waiters;
		struct pml_ioc_history history;
		struct pml_ioc_spans spans;
		struct pml_ioc_sessions sessions;
	} u;
	static const unsigned long calls[] = {PML_IOC_LEASES,  PML_IOC_PINS,	PML_IOC_STATS,
					      PML_IOC_WAITERS, PML_IOC_HISTORY, PML_IOC_SPANS,
					      PML_IOC_SESSIONS};
	int fd = open(a[0], O_RDONLY | O_DIRECTORY);
	int bad = 0;
	if (fd < 0)
		return FAILED;
	for (size_t i = 0; i < sizeof(calls) / sizeof(calls[0]); i++) {
		memset(&u, 0, sizeof(u));
		bad |= expect(ioctl(fd, calls[i], &u), EINVAL, "no version");
		u.version = PML_IOC_VERSION + 1;
		bad |= expect(ioctl(fd, calls[i], &u), EINVAL, "another version");
		memset(&u, 0, sizeof(u));
		u.version = PML_IOC_VERSION;
		bad |= expect(ioctl(fd, calls[i], &u), 0, "this version");
	}
	memset(&u, 0, sizeof(u));
	u.spans.version = PML_IOC_VERSION;
	u.spans.reserved = 1;
	bad |= expect(ioctl(fd, PML_IOC_SPANS, &u), EINVAL, "spans: a reserved field");
	bad |= expect(ioctl(fd, PML_IOC_STATS, &u), EINVAL, "stats: a reserved field");
	memset(&u, 0, sizeof(u));
	u.pins.version = PML_IOC_VERSION;
	u.pins.reserved = 1;
	bad |= expect(ioctl(fd, PML_IOC_PINS, &u), EINVAL, "pins: a reserved field");
	return bad ? PRINTED : DONE;
}

static const struct {
	const char *name;
	int nargs;
	int (*run)(char **args);
} operations[] = {
	{"open", 2, op_open},
	{"mkdir", 2, op_mkdir},
	{"rmdir", 1, op_rmdir},
	{"unlink", 1, op_unlink},
	{"rename", 2, op_rename},
	{"renameat2", 3, op_renameat2},
	{"link", 2, op_link},
	{"symlink", 2, op_symlink},
	{"truncate", 2, op_truncate},
	{"truncate-each", 3, op_truncate_each},
	{"asking", 1, op_asking},
	{"chmod", 2, op_chmod},
	{"chown", 3, op_chown},
	{"fallocate", 4, op_fallocate},
	{"seek", 3, op_seek},
	{"clone", 5, op_clone},
	{"clones", 3, op_clones},
	{"outlived", 2, op_outlived},
	{"together", 2, op_together},
	{"coherent", 1, op_coherent},
	{"rights", 2, op_rights},
	{"tokens", 2, op_tokens},
	{"append", 3, op_append},
	{"unlinked", 1, op_unlinked},
	{"mmap-shared", 1, op_mmap_shared},
	{"mmap-private", 1, op_mmap_private},
	{"read-removing", 1, op_read_removing},
	{"times", 1, op_times},
	{"interrupted-truncate", 3, op_interrupted_truncate},
	{"reread", 1, op_reread},
};

int main(int argc, char **argv)
{
	for (size_t i = 0; argc > 1 && i < sizeof(operations) / sizeof(operations[0]); i++) {
		if (strcmp(argv[1], operations[i].name) != 0 || argc - 2 != operations[i].nargs)
			continue;
		int rc = operations[i].run(argv + 2);
		if (rc == FAILED)
			puts(strerrorname_np(errno));
		else if (rc == DONE)
			puts("ok");
		return rc == FAILED;
	}
	fprintf(stderr, "usage: fsop OPERATION ARGUMENT...: see tests/integration/fsop.c\n");
	return 2;
}
