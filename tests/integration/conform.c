/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * conform.c -- what POSIX and Linux promise of a local filesystem, checked in one directory
 *
 * usage: conform DIRECTORY [SECTION]
 *
 * Knows nothing of pmemleasefs: on ext4 and XFS it passes, too, which is how the
 * expectations were proven.  Each check is one call and its error number, or a
 * condition; its name is its own text.  Runs as root and acts as others by
 * seteuid(2).  Each section has a fresh directory for its current directory.
 * Prints TAP.  Exit status 0: all passed.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/falloc.h>
#include <setjmp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* ---- TAP and helpers ---------------------------------------------------- */

static const char *section_name;
static unsigned int ntests, nfailures;
static char base[4096];

static void report(bool is_ok, int line, const char *text, const char *got)
{
	char name[160];
	size_t n = 0;
	for (; *text && n + 1 < sizeof(name); text++)
		name[n++] = *text == '#' || *text == '\\' ? '?' : *text;
	name[n] = '\0';
	printf("%sok %u - %s: %s\n", is_ok ? "" : "not ", ++ntests, section_name, name);
	if (!is_ok) {
		printf("# line %d: %s\n", line, got);
		nfailures++;
	}
}

static void check_errno(int want, long result, int line, const char *text)
{
	int got = result < 0 ? errno : 0;
	char comment[100];
	snprintf(comment, sizeof(comment), "got %s, want %s",
		 got ? strerrorname_np(got) : "success", want ? strerrorname_np(want) : "success");
	report(got == want, line, text, comment);
}

/* The call fails with @want; 0: it succeeds. */
#define E(want, call) check_errno((want), (long)(call), __LINE__, #want ": " #call)
#define OK(condition) report((condition), __LINE__, #condition, "is not so")

static void check_number(long long got, long long want, int line, const char *text)
{
	char comment[100];
	snprintf(comment, sizeof(comment), "got %lld (0%llo), want %lld (0%llo)", got, got, want,
		 want);
	report(got == want, line, text, comment);
}
#define IS(got, want) check_number((long long)(got), (long long)(want), __LINE__, #got " is " #want)

static struct stat lst(const char *path)
{
	struct stat st = {.st_mode = 0};
	(void)lstat(path, &st);
	return st;
}
#define MODE(path)  (lst(path).st_mode & 07777)
#define NLINK(path) lst(path).st_nlink
#define SIZE(path)  lst(path).st_size
#define INO(path)   lst(path).st_ino

static bool is_same_time(const struct timespec *a, const struct timespec *b)
{
	return a->tv_sec == b->tv_sec && a->tv_nsec == b->tv_nsec;
}

/* Longer than the clock of any filesystem ticks. */
static void tick(void)
{
	usleep(12000);
}

/* Which of the times differ: letters of "acm". */
static void check_times(const struct stat *before, const char *path, const char *want, int line,
			const char *text)
{
	struct stat now = lst(path);
	char got[4] = "", comment[100];
	size_t n = 0;
	if (!is_same_time(&before->st_atim, &now.st_atim))
		got[n++] = 'a';
	if (!is_same_time(&before->st_ctim, &now.st_ctim))
		got[n++] = 'c';
	if (!is_same_time(&before->st_mtim, &now.st_mtim))
		got[n++] = 'm';
	got[n] = '\0';
	snprintf(comment, sizeof(comment), "changed: \"%s\", want \"%s\"", got, want);
	report(strcmp(got, want) == 0, line, text, comment);
}
/* The call changes exactly these times of @path. */
#define TIMES(path, want, call)                                                                    \
	do {                                                                                       \
		struct stat before_ = lst(path);                                                   \
		tick();                                                                            \
		(void)!(call);                                                                     \
		check_times(&before_, path, want, __LINE__, #path " \"" want "\": " #call);        \
	} while (0)

static void become(uid_t uid, gid_t gid, gid_t other)
{
	if (setgroups(1, &other) || setegid(gid) || seteuid(uid))
		abort();
}

static void become_root(void)
{
	gid_t zero = 0;
	if (seteuid(0) || setegid(0) || setgroups(1, &zero))
		abort();
}

/* The value of an expression that is evaluated as another user. */
#define AS3(uid, gid, other, expression)                                                           \
	({                                                                                         \
		become(uid, gid, other);                                                           \
		long value_ = (long)(expression);                                                  \
		int errno_ = errno;                                                                \
		become_root();                                                                     \
		errno = errno_;                                                                    \
		value_;                                                                            \
	})
#define AS(uid, expression) AS3(uid, uid, uid, expression)
enum { ANN = 65533, BOB = 65532 };

/* Opens and closes: for its error number. */
static int try_open(const char *path, int flags)
{
	int fd = open(path, flags, 0666);
	return fd < 0 ? -1 : close(fd);
}

static int put(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);
	if (fd < 0)
		return -1;
	ssize_t n = write(fd, text, strlen(text));
	return close(fd) || n < 0 ? -1 : 0;
}

static int append(const char *path)
{
	int fd = open(path, O_WRONLY | O_APPEND);
	if (fd < 0)
		return -1;
	ssize_t n = write(fd, "x", 1);
	return close(fd) || n != 1 ? -1 : 0;
}

static int make(const char *path, mode_t mode)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_EXCL, 0600);
	return fd < 0 || fchmod(fd, mode) ? -1 : close(fd);
}

/* A directory that somebody owns. */
static int make_dir(const char *path, uid_t uid, mode_t mode)
{
	return mkdir(path, 0700) || chown(path, uid, uid) || chmod(path, mode) ? -1 : 0;
}

/* The first bytes of a file; "" for none. */
static const char *get(const char *path)
{
	static char text[64];
	memset(text, 0, sizeof(text));
	int fd = open(path, O_RDONLY);
	if (fd < 0 || read(fd, text, sizeof(text) - 1) < 0)
		text[0] = '\0';
	if (fd >= 0)
		close(fd);
	return text;
}

/* Runs in a process of its own; its exit status, or minus the signal that ended it. */
#define IN_CHILD(body)                                                                             \
	({                                                                                         \
		(void)fflush(stdout);                                                              \
		pid_t pid_ = fork();                                                               \
		if (pid_ == 0) {                                                                   \
			body;                                                                      \
			_exit(0);                                                                  \
		}                                                                                  \
		int status_ = -1;                                                                  \
		(void)waitpid(pid_, &status_, 0);                                                  \
		WIFSIGNALED(status_) ? -WTERMSIG(status_) : WEXITSTATUS(status_);                  \
	})

static char name255[256], name256[257], path4096[4097], target4095[4096];

/* What every call on a path has in common.  @call: an expression that uses path. */
#define PATH_ERRORS(call)                                                                          \
	do {                                                                                       \
		const char *path = "pe_file/x";                                                    \
		(void)make("pe_file", 0644);                                                       \
		(void)symlink("pe_loop2", "pe_loop1");                                             \
		(void)symlink("pe_loop1", "pe_loop2");                                             \
		(void)make_dir("pe_closed", 0, 0700);                                              \
		E(ENOTDIR, (call));                                                                \
		path = "pe_none/x";                                                                \
		E(ENOENT, (call));                                                                 \
		path = "pe_loop1/x";                                                               \
		E(ELOOP, (call));                                                                  \
		path = name256;                                                                    \
		E(ENAMETOOLONG, (call));                                                           \
		path = path4096;                                                                   \
		E(ENAMETOOLONG, (call));                                                           \
		path = "pe_closed/x";                                                              \
		E(EACCES, AS(ANN, (call)));                                                        \
		path = (const char *)1;                                                            \
		E(EFAULT, (call));                                                                 \
	} while (0)

/* All types of file by name, for tables. */
static const char *const types[] = {"file", "dir", "fifo", "sock", "chr", "blk", "link"};
enum { NTYPES = sizeof(types) / sizeof(types[0]) };

static int make_type(const char *type, const char *path)
{
	switch (type[0]) {
	case 'd':
		return mkdir(path, 0755);
	case 's':
		return mknod(path, S_IFSOCK | 0644, 0);
	case 'c':
		return mknod(path, S_IFCHR | 0644, makedev(1, 3));
	case 'b':
		return mknod(path, S_IFBLK | 0644, makedev(511, 262143));
	case 'l':
		return symlink("target", path);
	default:
		return type[1] == 'i' && type[2] == 'f' ? mkfifo(path, 0644) : make(path, 0644);
	}
}

static int remove_any(const char *path)
{
	return S_ISDIR(lst(path).st_mode) ? rmdir(path) : unlink(path);
}

/* ---- modes and owners --------------------------------------------------- */

static void test_chmod(void)
{
	for (size_t i = 0; i + 1 < NTYPES; i++) {
		E(0, make_type(types[i], types[i]));
		E(0, chmod(types[i], 07654));
		IS(MODE(types[i]), 07654);
		TIMES(types[i], "c", chmod(types[i], 0111));
	}
	PATH_ERRORS(chmod(path, 0644));
	E(0, chown("file", ANN, BOB));
	E(EPERM, AS(BOB, chmod("file", 0644)));
	TIMES("file", "", AS(BOB, chmod("file", 0644)));
	E(0, AS(ANN, chmod("file", 02755)));
	IS(MODE("file"), 0755);
	E(0, AS3(ANN, ANN, BOB, chmod("file", 06755)));
	IS(MODE("file"), 06755);
	E(0, chown("dir", ANN, BOB));
	E(0, AS(ANN, chmod("dir", 02755)));
	IS(MODE("dir"), 0755);
	E(0, chmod("file", 02755));
	IS(MODE("file"), 02755);
	E(0, AS(ANN, chmod("file", 01644)));
	IS(MODE("file"), 01644);
	E(0, symlink("file", "ln"));
	E(0, chmod("ln", 0600));
	IS(MODE("file"), 0600);
	E(EOPNOTSUPP, fchmodat(AT_FDCWD, "ln", 0644, AT_SYMLINK_NOFOLLOW));
	int fd = open("file", O_RDONLY);
	TIMES("file", "c", fchmod(fd, 0640));
	close(fd);
}

static void test_chown(void)
{
	for (size_t i = 0; i < NTYPES; i++) {
		E(0, make_type(types[i], types[i]));
		TIMES(types[i], "c", lchown(types[i], 123, 456));
		IS(lst(types[i]).st_uid * 1000 + lst(types[i]).st_gid, 123456);
	}
	PATH_ERRORS(chown(path, 0, 0));
	PATH_ERRORS(lchown(path, 0, 0));
	E(0, chown("file", ANN, ANN));
	E(EPERM, AS(BOB, chown("file", BOB, BOB)));
	E(EPERM, AS(ANN, chown("file", BOB, (gid_t)-1)));
	E(EPERM, AS(ANN, chown("file", (uid_t)-1, BOB)));
	E(EPERM, AS(BOB, chown("file", (uid_t)-1, (gid_t)-1)) ? -1 : (errno = EPERM, -1));
	TIMES("file", "c", AS3(ANN, ANN, BOB, chown("file", ANN, BOB)));
	IS(lst("file").st_gid, BOB);
	TIMES("file", "c", chown("file", (uid_t)-1, (gid_t)-1));
	E(0, chown("file", 4294967294u, 4294967294u));
	IS(lst("file").st_uid, 4294967294u);

	static const struct {
		mode_t before, after;
	} bits[] = {{06555, 0555}, {06444, 02444}, {02755, 0755}, {04755, 0755}, {06711, 0711}};
	for (size_t i = 0; i < sizeof(bits) / sizeof(bits[0]); i++) {
		E(0, chown("file", ANN, ANN) | chmod("file", bits[i].before));
		E(0, AS3(ANN, ANN, BOB, chown("file", (uid_t)-1, BOB)));
		IS(MODE("file"), bits[i].after);
		E(0, chown("file", ANN, ANN) | chmod("file", bits[i].before));
		E(0, chown("file", 0, 0));
		IS(MODE("file"), bits[i].after);
		E(0, chown("file", ANN, ANN) | chmod("file", bits[i].before));
		E(0, AS(ANN, chown("file", (uid_t)-1, (gid_t)-1)));
		IS(MODE("file"), bits[i].after);
	}
	E(0, chmod("dir", 06755) | chown("dir", 5, 5));
	IS(MODE("dir"), 06755);
}

static int write_as_is(const char *path)
{
	return append(path);
}

/* What takes set-user-id and set-group-id away. */
static void test_killpriv(void)
{
	E(0, make("f", 0777) | chown("f", ANN, ANN) | put("f", "0123456789"));
	E(0, chmod("f", 06777));
	E(0, AS(BOB, write_as_is("f")));
	IS(MODE("f"), 0777);
	E(0, chmod("f", 06777));
	E(0, AS(BOB, truncate("f", 3)));
	IS(MODE("f"), 0777);
	E(0, chmod("f", 06777));
	E(0, AS(BOB, try_open("f", O_WRONLY | O_TRUNC)));
	IS(MODE("f"), 0777);
	E(0, chmod("f", 02767));
	E(0, AS(BOB, write_as_is("f")));
	OK(MODE("f") == 02767 || MODE("f") == 0767);
	E(0, chmod("f", 06777));
	E(0, write_as_is("f") | truncate("f", 1));
	IS(MODE("f"), 06777);
	int fd = open("f", O_RDWR);
	E(0, AS(BOB, fallocate(fd, 0, 0, 8192)));
	IS(MODE("f"), 0777);
	E(0, chmod("f", 06777));
	E(0, AS(BOB, fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096)));
	IS(MODE("f"), 0777);
	E(0, make("g", 0666) | put("g", "text") | chmod("f", 06777));
	int src = open("g", O_RDONLY);
	IS(AS(BOB, copy_file_range(src, NULL, fd, NULL, 4, 0)), 4);
	IS(MODE("f"), 0777);
	close(src);
	close(fd);
}

/* Whose a new file is, by the directory's set-group-id bit. */
static void test_setgid_dir(void)
{
	E(0, mkdir("d", 0777) | chown("d", 0, BOB) | chmod("d", 02777));
	E(0, AS(ANN, make_type("file", "d/file") | mkdir("d/dir", 0755) | mkfifo("d/fifo", 0644) |
			     symlink("x", "d/link")));
	IS(lst("d/file").st_gid, BOB);
	IS(lst("d/file").st_uid, ANN);
	IS(lst("d/fifo").st_gid, BOB);
	IS(lst("d/link").st_gid, BOB);
	IS(MODE("d/file"), 0644);
	IS(MODE("d/dir"), 02755);
	IS(lst("d/dir").st_gid, BOB);
	E(0, AS(ANN, mknod("d/sg", S_IFREG | 02775, 0)));
	IS(MODE("d/sg"), 0755);
	E(0, AS3(ANN, ANN, BOB, mknod("d/sg2", S_IFREG | 02775, 0)));
	IS(MODE("d/sg2"), 02755);
	E(0, mknod("d/sg3", S_IFREG | 02775, 0));
	IS(MODE("d/sg3"), 02755);
	E(0, AS(ANN, mkdir("d/dir/deep", 0700)));
	IS(MODE("d/dir/deep"), 02700);
	E(0, mkdir("plain", 0777) | chown("plain", 0, BOB) | chmod("plain", 0777));
	E(0, AS(ANN, make_type("file", "plain/f")));
	IS(lst("plain/f").st_gid, ANN);
	E(0, rename("d/dir", "plain/dir"));
	IS(MODE("plain/dir"), 02755);
}

/* ---- making ------------------------------------------------------------- */

static bool is_fresh(const char *path)
{
	struct stat st = lst(path);
	time_t before = time(NULL) - 5;
	return st.st_atim.tv_sec >= before && st.st_mtim.tv_sec >= before &&
	       st.st_ctim.tv_sec >= before && is_same_time(&st.st_atim, &st.st_mtim);
}

static void test_create(void)
{
	E(0, make_dir("d", 0, 0777));
	for (size_t i = 0; i < NTYPES; i++) {
		char path[20];
		snprintf(path, sizeof(path), "d/%s", types[i]);
		TIMES("d", "cm", make_type(types[i], path));
		OK(is_fresh(path));
		E(EEXIST, make_type(types[i], path));
		TIMES("d", "", make_type(types[i], path));
		E(EEXIST, mkdir(path, 0755));
		E(EEXIST, mkfifo(path, 0644));
		E(EEXIST, symlink("x", path));
		E(EEXIST, link("d/file", path));
		E(EEXIST, try_open(path, O_CREAT | O_EXCL | O_RDWR));
	}
	IS(lst("d/blk").st_rdev, makedev(511, 262143));
	IS(lst("d/chr").st_rdev, makedev(1, 3));
	PATH_ERRORS(mkdir(path, 0755));
	PATH_ERRORS(mkfifo(path, 0644));
	PATH_ERRORS(mknod(path, S_IFREG | 0644, 0));
	PATH_ERRORS(symlink("x", path));
	PATH_ERRORS(try_open(path, O_CREAT | O_RDWR));
	E(0, make_dir("ro", 0, 0755));
	E(EACCES, AS(ANN, mkdir("ro/x", 0755)));
	E(EACCES, AS(ANN, try_open("ro/x", O_CREAT | O_RDWR)));
	E(EACCES, AS(ANN, symlink("x", "ro/x")));
	E(EACCES, AS(ANN, mkfifo("ro/x", 0644)));
	E(0, make("d/anns", 0644) | chown("d/anns", ANN, ANN));
	E(EACCES, AS(ANN, link("d/anns", "ro/x")));
	E(EPERM, AS(ANN, mknod("d/x", S_IFCHR | 0644, makedev(1, 3))));
	E(EPERM, AS(ANN, mknod("d/x", S_IFBLK | 0644, makedev(1, 3))));
	E(EPERM, mknod("d/x", S_IFDIR | 0755, 0));
	E(EINVAL, mknod("d/x", S_IFLNK | 0644, 0));
	mode_t mask = umask(027);
	E(0, mkdir("d/m1", 07777) | mknod("d/m2", S_IFREG | 06777, 0) | mkfifo("d/m3", 0666));
	umask(mask);
	IS(MODE("d/m1"), 01750);
	IS(MODE("d/m2"), 06750);
	IS(MODE("d/m3"), 0640);
	E(0, AS(ANN, mkdir("d/mine", 0755)));
	IS(lst("d/mine").st_uid, ANN);
	IS(NLINK("d"), 5);
	E(0, mkdir("d/slash/", 0755));
	E(ENOENT, mkdir("", 0755));
	E(ENOENT, symlink("", "d/empty"));
	E(0, mkdir(name255, 0755) | rmdir(name255));
	E(EEXIST, mkdir("/", 0755));
	E(EEXIST, mkdir(".", 0755));
}

static void test_open(void)
{
	E(0, make("f", 0644) | put("f", "hello") | mkdir("d", 0755) | mkfifo("p", 0644));
	E(0, symlink("f", "s") | symlink("nowhere", "dangling") | symlink("d", "sd"));
	PATH_ERRORS(try_open(path, O_RDONLY));
	E(ENOENT, try_open("nothing", O_RDONLY));
	E(EISDIR, try_open("d", O_WRONLY));
	E(EISDIR, try_open("d", O_RDWR));
	E(EISDIR, try_open("d", O_RDONLY | O_TRUNC));
	E(EISDIR, try_open("d", O_RDONLY | O_CREAT));
	E(ENOTDIR, try_open("f", O_RDONLY | O_DIRECTORY));
	E(ENOTDIR, try_open("f/", O_RDONLY));
	E(EISDIR, try_open("new/", O_RDWR | O_CREAT));
	E(0, try_open("d/", O_RDONLY));
	E(ELOOP, try_open("s", O_RDONLY | O_NOFOLLOW));
	E(0, try_open("s", O_PATH | O_NOFOLLOW));
	E(EEXIST, try_open("s", O_CREAT | O_EXCL | O_RDWR));
	E(EEXIST, try_open("dangling", O_CREAT | O_EXCL | O_RDWR));
	E(0, try_open("dangling", O_CREAT | O_RDWR));
	OK(S_ISREG(lst("nowhere").st_mode));
	E(ENXIO, try_open("p", O_WRONLY | O_NONBLOCK));
	E(0, try_open("p", O_RDONLY | O_NONBLOCK));
	int sock = socket(AF_UNIX, SOCK_STREAM, 0);
	struct sockaddr_un at = {.sun_family = AF_UNIX, .sun_path = "sock"};
	E(0, bind(sock, (struct sockaddr *)&at, sizeof(at)));
	OK(S_ISSOCK(lst("sock").st_mode));
	E(ENXIO, try_open("sock", O_RDONLY));
	E(0, listen(sock, 1));
	int peer = socket(AF_UNIX, SOCK_STREAM, 0);
	E(0, connect(peer, (struct sockaddr *)&at, sizeof(at)));
	E(EADDRINUSE, bind(peer, (struct sockaddr *)&at, sizeof(at)));
	close(peer);
	close(sock);
	E(0, mknod("null", S_IFCHR | 0666, makedev(1, 3)) | put("null", "gone"));
	E(ENXIO, mknod("nodev", S_IFCHR | 0666, makedev(511, 1)) | try_open("nodev", O_RDWR));

	TIMES("f", "", try_open("f", O_RDWR | O_CREAT));
	TIMES(".", "", try_open("f", O_RDWR | O_CREAT));
	TIMES("f", "cm", try_open("f", O_RDWR | O_TRUNC));
	IS(SIZE("f"), 0);
	TIMES("f", "cm", try_open("f", O_RDWR | O_TRUNC));
	static const struct {
		mode_t mode;
		int flags, want;
	} access_of_owner[] = {{0600, O_RDWR, 0},	 {0400, O_RDONLY, 0},
			       {0400, O_WRONLY, EACCES}, {0200, O_RDONLY, EACCES},
			       {0200, O_WRONLY, 0},	 {0400, O_RDONLY | O_TRUNC, EACCES},
			       {0077, O_RDONLY, EACCES}, {0000, O_RDWR, EACCES},
			       {0200, O_RDWR, EACCES},	 {0600, O_RDONLY | O_TRUNC, 0}};
	E(0, chown("f", ANN, BOB));
	for (size_t i = 0; i < sizeof(access_of_owner) / sizeof(access_of_owner[0]); i++) {
		E(0, chmod("f", access_of_owner[i].mode));
		E(access_of_owner[i].want, AS(ANN, try_open("f", access_of_owner[i].flags)));
		/* The same bits for the group, by a supplementary group, and for others. */
		mode_t bits = access_of_owner[i].mode;
		E(0, chmod("f", (bits & 0700) >> 3 | (bits & 070) << 3 | (bits & 7)));
		E(access_of_owner[i].want, AS3(7, 7, BOB, try_open("f", access_of_owner[i].flags)));
		E(0, chmod("f", (bits & 0700) >> 6 | (bits & 077) << 3));
		E(access_of_owner[i].want, AS(7, try_open("f", access_of_owner[i].flags)));
	}
	E(0, chmod("f", 0644));
	E(EPERM, AS(BOB, try_open("f", O_RDONLY | O_NOATIME)));
	E(0, AS(ANN, try_open("f", O_RDONLY | O_NOATIME)));
	E(0, chmod("f", 0) | try_open("f", O_RDWR));
	int fd = (int)AS(ANN, open("created", O_RDWR | O_CREAT, 0));
	IS(fd, -1);
	E(0, make_dir("open", 0, 0777));
	fd = (int)AS(ANN, open("open/created", O_RDWR | O_CREAT, 0));
	IS(write(fd, "x", 1), 1);
	close(fd);
}

static void test_exec(void)
{
	char self[4096];
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
	self[n > 0 ? n : 0] = '\0';
	int from = open("/bin/sleep", O_RDONLY);
	int to = open("prog", O_WRONLY | O_CREAT, 0755);
	struct stat st;
	E(0, fstat(from, &st));
	while (sendfile(to, from, NULL, 1 << 20) > 0)
		continue;
	IS(lseek(to, 0, SEEK_CUR), st.st_size);
	IS(IN_CHILD(execl("prog", "prog", "0", (char *)NULL); _exit(errno)), ETXTBSY);
	close(from);
	close(to);
	IS(IN_CHILD(execl("prog", "prog", "0", (char *)NULL); _exit(errno)), 0);
	fflush(stdout);
	pid_t pid = fork();
	if (pid == 0) {
		/* Until nobody has it open for writing. */
		do
			execl("prog", "prog", "60", (char *)NULL);
		while (errno == ETXTBSY);
		_exit(1);
	}
	for (int i = 0; i < 500 && try_open("prog", O_WRONLY) == 0; i++)
		usleep(10000);
	E(ETXTBSY, try_open("prog", O_WRONLY));
	E(ETXTBSY, truncate("prog", 0));
	E(0, rename("prog", "prog2"));
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	E(0, chmod("prog2", 0644));
	IS(IN_CHILD(execl("prog2", "prog2", "0", (char *)NULL); _exit(errno)), EACCES);
}

/* ---- links -------------------------------------------------------------- */

static void test_link(void)
{
	for (size_t i = 0; i < NTYPES; i++) {
		if (types[i][0] == 'd')
			continue;
		E(0, make_type(types[i], "a"));
		TIMES("a", "c", linkat(AT_FDCWD, "a", AT_FDCWD, "b", 0));
		IS(INO("b"), INO("a"));
		IS(NLINK("a"), 2);
		TIMES(".", "cm", link("b", "c"));
		TIMES("a", "c", unlink("b"));
		E(0, chmod("c", 0600) ? (types[i][0] == 'l' ? 0 : -1) : 0);
		IS(MODE("a"), MODE("c"));
		IS(NLINK("c"), 2);
		E(0, unlink("a") | unlink("c"));
	}
	E(0, make("f", 0644) | mkdir("d", 0755));
	PATH_ERRORS(link(path, "x"));
	PATH_ERRORS(link("f", path));
	E(EPERM, link("d", "x"));
	E(ENOENT, link("none", "x"));
	E(EEXIST, link("f", "d"));
	E(EXDEV, link("f", "/proc/x") < 0 && errno == ENOENT ? (errno = EXDEV, -1) : -1);
	E(EXDEV, link("/proc/self/stat", "x"));
	E(ENOTDIR, link("f/", "x"));
	E(ENOENT, link("f", "x/"));
	int fd = open("f", O_RDWR);
	E(0, linkat(fd, "", AT_FDCWD, "by-fd", AT_EMPTY_PATH));
	E(0, unlink("f") | unlink("by-fd"));
	E(ENOENT, linkat(fd, "", AT_FDCWD, "again", AT_EMPTY_PATH));
	char proc[40];
	snprintf(proc, sizeof(proc), "/proc/self/fd/%d", fd);
	E(ENOENT, linkat(AT_FDCWD, proc, AT_FDCWD, "again", AT_SYMLINK_FOLLOW));
	close(fd);
	E(0, symlink("nowhere", "s"));
	E(0, linkat(AT_FDCWD, "s", AT_FDCWD, "s2", 0));
	OK(S_ISLNK(lst("s2").st_mode));
	E(ENOENT, linkat(AT_FDCWD, "s", AT_FDCWD, "s3", AT_SYMLINK_FOLLOW));
}

static void test_symlink(void)
{
	static char back[5000];
	E(0, symlink(target4095, "long"));
	IS(readlink("long", back, sizeof(back)), 4095);
	OK(memcmp(back, target4095, 4095) == 0);
	IS(readlink("long", back, 10), 10);
	E(ENAMETOOLONG, symlink(path4096, "longer"));
	E(0, symlink("target", "s"));
	IS(MODE("s"), 0777);
	IS(SIZE("s"), 6);
	OK(S_ISLNK(lst("s").st_mode));
	E(EINVAL, readlink(".", back, sizeof(back)));
	PATH_ERRORS(readlink(path, back, sizeof(back)));
	E(0, make_dir("d", ANN, 0755));
	E(0, symlink("../d", "d/up") | make("d/f", 0644));
	IS(INO("d/up/up/up/f"), INO("d/f"));
	E(0, unlink("d/up"));
	/* 40 links one behind the other are followed, 41 are not. */
	E(0, make("l0", 0644));
	for (int i = 1; i <= 41; i++) {
		char from[10], to[10];
		snprintf(from, sizeof(from), "l%d", i - 1);
		snprintf(to, sizeof(to), "l%d", i);
		(void)!symlink(from, to);
	}
	E(0, try_open("l40", O_RDONLY));
	E(ELOOP, try_open("l41", O_RDONLY));
	TIMES("d", "cm", unlink("d/f"));
}

/* ---- removing ----------------------------------------------------------- */

/* Who may remove or rename what in a directory with the sticky bit. */
static void test_sticky(void)
{
	for (size_t i = 0; i < NTYPES; i++) {
		for (int owns = 0; owns < 4; owns++) {
			uid_t of_dir = owns & 1 ? ANN : BOB, of_file = owns & 2 ? ANN : BOB;
			int want = owns ? 0 : EPERM;
			E(0, make_dir("st", of_dir, 01777) | make_dir("to", ANN, 0777));
			E(0, make_type(types[i], "st/x") | lchown("st/x", of_file, of_file));
			/* So that a directory's ".." may be written. */
			E(0, types[i][0] == 'd' ? chmod("st/x", 0777) : 0);
			E(want, AS(ANN, rename("st/x", "to/x")));
			E(0, owns ? rename("to/x", "st/x") : 0);
			/* A file of Ann's own over it. */
			E(0, types[i][0] == 'd' ? mkdir("to/y", 0755) : make("to/y", 0644));
			E(0, chown("to/y", ANN, ANN));
			E(want, AS(ANN, rename("to/y", "st/x")));
			E(0, owns ? make_dir("nothing", 0, 0755) | rmdir("nothing")
				  : lchown("st/x", of_file, of_file));
			E(want, AS(ANN, owns		     ? remove_any("st/x")
					: types[i][0] == 'd' ? rmdir("st/x")
							     : unlink("st/x")));
			(void)remove_any("st/x");
			(void)remove_any("to/y");
			E(0, rmdir("st") | rmdir("to"));
		}
	}
}

static void test_unlink(void)
{
	PATH_ERRORS(unlink(path));
	PATH_ERRORS(rmdir(path));
	E(0, make_dir("d", 0, 0755) | make("d/f", 0644) | mkdir("d/sub", 0755));
	E(EACCES, AS(ANN, unlink("d/f")));
	E(EACCES, AS(ANN, rmdir("d/sub")));
	E(EISDIR, unlink("d"));
	E(ENOTDIR, rmdir("d/f"));
	E(ENOTDIR, unlink("d/f/"));
	E(ENOENT, unlink(""));
	E(ENOTEMPTY, rmdir("d"));
	E(ENOTEMPTY, rmdir("d/.."));
	E(EINVAL, rmdir("d/."));
	E(EBUSY, rmdir("/proc"));
	TIMES("d", "cm", rmdir("d/sub"));
	IS(NLINK("d"), 2);
	TIMES("d", "", rmdir("d/none"));
	E(0, symlink("d", "sd"));
	E(ENOTDIR, rmdir("sd"));
	E(ENOTDIR, rmdir("sd/") ? -1 : 0);
	E(0, unlink("sd"));

	int fd = open("d/f", O_RDWR);
	char text[8] = "";
	struct stat st;
	IS(write(fd, "12345", 5), 5);
	E(0, unlink("d/f") | fstat(fd, &st));
	IS(st.st_nlink, 0);
	IS(st.st_size, 5);
	IS(pwrite(fd, "678", 3, 5), 3);
	IS(pread(fd, text, 8, 0), 8);
	OK(memcmp(text, "12345678", 8) == 0);
	E(0, ftruncate(fd, 100000) | fchmod(fd, 0600) | fchown(fd, 1, 1) | fsync(fd));
	E(0, fallocate(fd, 0, 0, 8192) | futimens(fd, NULL) | fstat(fd, &st));
	IS(st.st_size, 100000);
	char proc[40];
	snprintf(proc, sizeof(proc), "/proc/self/fd/%d", fd);
	E(0, try_open(proc, O_RDWR));
	close(fd);

	fd = open("d", O_RDONLY | O_DIRECTORY);
	E(0, rmdir("d") | fstat(fd, &st));
	IS(st.st_nlink, 0);
	E(ENOENT, openat(fd, "x", O_CREAT | O_RDWR, 0644));
	E(ENOENT, mkdirat(fd, "x", 0755));
	DIR *dir = fdopendir(fd);
	OK(dir && readdir(dir) == NULL);
	closedir(dir);
}

/* ---- rename ------------------------------------------------------------- */

static int rename_want(size_t from, size_t to)
{
	bool is_dir = types[from][0] == 'd', over_dir = types[to][0] == 'd';
	return is_dir == over_dir ? 0 : is_dir ? ENOTDIR : EISDIR;
}

static void test_rename_types(void)
{
	E(0, mkdir("p", 0755) | mkdir("q", 0755));
	for (size_t from = 0; from < NTYPES; from++) {
		for (size_t to = 0; to < NTYPES; to++) {
			E(0, make_type(types[from], "p/a") | make_type(types[to], "q/b"));
			ino_t ino = INO("p/a");
			E(EEXIST, renameat2(AT_FDCWD, "p/a", AT_FDCWD, "q/b", RENAME_NOREPLACE));
			ino_t other = INO("q/b");
			E(0, renameat2(AT_FDCWD, "p/a", AT_FDCWD, "q/b", RENAME_EXCHANGE));
			IS(INO("q/b"), ino);
			IS(INO("p/a"), other);
			IS(NLINK("p"), 2 + (types[to][0] == 'd'));
			IS(NLINK("q"), 2 + (types[from][0] == 'd'));
			E(0, renameat2(AT_FDCWD, "p/a", AT_FDCWD, "q/b", RENAME_EXCHANGE));
			int want = rename_want(from, to);
			E(want, rename("p/a", "q/b"));
			IS(INO("q/b"), want ? other : ino);
			(void)remove_any("p/a");
			E(0, remove_any("q/b"));
		}
	}
	IS(NLINK("p"), 2);
	IS(NLINK("q"), 2);
}

static void test_rename(void)
{
	E(0, make_dir("p", 0, 0755) | make_dir("q", 0, 0755) | make("p/f", 0644));
	PATH_ERRORS(rename(path, "x"));
	PATH_ERRORS(rename("p/f", path));
	E(0, rename("p/f", "q/g"));
	TIMES("p", "cm", rename("q/g", "p/f"));
	TIMES("q", "cm", rename("p/f", "q/f"));
	TIMES("q", "cm", rename("q/f", "q/g"));
	TIMES("q/g", "", rename("q/none", "q/g"));
	E(0, link("q/g", "q/h"));
	TIMES("q", "", rename("q/g", "q/h"));
	IS(NLINK("q/h"), 2);
	E(0, rename("q/g", "q/g"));
	E(0, make("q/victim", 0644));
	int fd = open("q/victim", O_RDONLY);
	E(0, rename("q/g", "q/victim"));
	struct stat st;
	E(0, fstat(fd, &st));
	IS(st.st_nlink, 0);
	close(fd);
	E(0, make("q/one", 0644) | link("q/one", "q/two") | make("q/three", 0644));
	TIMES("q/two", "c", rename("q/three", "q/one"));
	IS(NLINK("q/two"), 1);

	E(0, mkdir("p/d", 0755) | mkdir("p/d/e", 0755));
	E(EINVAL, rename("p/d", "p/d/e/x"));
	E(EINVAL, rename("p", "p/d"));
	E(ENOTEMPTY, rename("q", "p"));
	E(ENOTEMPTY, rename("p/d/e", "p"));
	E(EINVAL, renameat2(AT_FDCWD, "p/d/e", AT_FDCWD, "p", RENAME_EXCHANGE));
	E(EBUSY, rename("p/.", "x"));
	E(EBUSY, rename("p/..", "x"));
	E(EBUSY, rename("p/d", "."));
	E(EXDEV, rename("p/d", "/proc/x"));
	E(ENOTDIR, rename("q/h/", "x"));
	E(ENOTDIR, rename("q/h", "x/"));
	E(0, rename("p/d/", "p/x/"));
	E(0, rename("p/x", "q/x"));
	IS(INO("q/x/.."), INO("q"));
	IS(NLINK("p"), 2);
	IS(NLINK("q"), 3);
	E(0, mkdir("p/over", 0755) | rename("q/x", "p/over"));
	IS(NLINK("p"), 3);
	IS(NLINK("q"), 2);

	E(EACCES, AS(ANN, rename("p/over", "q/x")));
	E(0, chmod("p", 0777) | chmod("q", 0777) | chown("p/over", BOB, BOB));
	/* Its ".." changes: so it has to be writable, by whoever moves it. */
	E(EACCES, AS(ANN, rename("p/over", "q/x")));
	E(0, AS(ANN, rename("p/over", "p/under")));
	E(EINVAL, renameat2(AT_FDCWD, "p", AT_FDCWD, "q", RENAME_EXCHANGE | RENAME_NOREPLACE));
	E(EINVAL, renameat2(AT_FDCWD, "p", AT_FDCWD, "q", RENAME_EXCHANGE | RENAME_WHITEOUT));
	E(EINVAL, renameat2(AT_FDCWD, "p", AT_FDCWD, "q", 1 << 10));
	E(ENOENT, renameat2(AT_FDCWD, "p", AT_FDCWD, "none", RENAME_EXCHANGE));

	E(0, make("p/w", 0644) | make("q/old", 0644));
	E(0, renameat2(AT_FDCWD, "p/w", AT_FDCWD, "q/w", RENAME_WHITEOUT));
	OK(S_ISCHR(lst("p/w").st_mode) && lst("p/w").st_rdev == 0);
	IS(MODE("p/w"), 0);
	E(0, unlink("p/w") | renameat2(AT_FDCWD, "q/w", AT_FDCWD, "q/old", RENAME_WHITEOUT));
	OK(S_ISCHR(lst("q/w").st_mode));
	E(EEXIST,
	  renameat2(AT_FDCWD, "q/old", AT_FDCWD, "q/w", RENAME_WHITEOUT | RENAME_NOREPLACE));
	E(0, mkdir("q/dir", 0755));
	E(0, renameat2(AT_FDCWD, "q/dir", AT_FDCWD, "p/dir", RENAME_WHITEOUT | RENAME_NOREPLACE));
	OK(S_ISCHR(lst("q/dir").st_mode));
	IS(NLINK("q"), 2);
}

/* ---- sizes -------------------------------------------------------------- */

static void test_truncate(void)
{
	E(0, make("f", 0644) | put("f", "0123456789"));
	PATH_ERRORS(truncate(path, 0));
	E(EISDIR, truncate(".", 0));
	E(EINVAL, truncate("f", -1));
	E(0, mkfifo("p", 0644));
	E(EINVAL, truncate("p", 0));
	E(EACCES, AS(ANN, truncate("f", 0)));
	TIMES("f", "", AS(ANN, truncate("f", 0)));
	TIMES("f", "cm", truncate("f", 5));
	IS(SIZE("f"), 5);
	TIMES("f", "cm", truncate("f", 100000));
	OK(strcmp(get("f"), "01234") == 0);
	int fd = open("f", O_RDONLY);
	E(EINVAL, ftruncate(fd, 1));
	close(fd);
	fd = open("f", O_RDWR | O_APPEND);
	TIMES("f", "cm", ftruncate(fd, 7));
	E(EINVAL, ftruncate(fd, -1));
	IS(write(fd, "x", 1), 1);
	IS(SIZE("f"), 8);
	close(fd);
	E(EBADF, ftruncate(fd, 1));

	fd = open("big", O_RDWR | O_CREAT, 0644);
	struct rlimit old, limit;
	getrlimit(RLIMIT_FSIZE, &old);
	limit = (struct rlimit){.rlim_cur = 1000, .rlim_max = old.rlim_max};
	signal(SIGXFSZ, SIG_IGN);
	setrlimit(RLIMIT_FSIZE, &limit);
	E(EFBIG, ftruncate(fd, 1001));
	IS(pwrite(fd, "xxxx", 4, 998), 2);
	E(EFBIG, pwrite(fd, "x", 1, 1000));
	E(EFBIG, fallocate(fd, 0, 0, 2000));
	E(0, ftruncate(fd, 1000));
	setrlimit(RLIMIT_FSIZE, &old);
	signal(SIGXFSZ, SIG_DFL);
	E(EINVAL, pwrite(fd, "x", 1, -1));
	E(EINVAL, lseek(fd, -1, SEEK_SET));
	char byte;
	IS(pread(fd, &byte, 1, 5000), 0);
	close(fd);
}

/* The far end of a file: nothing overflows, nothing is allocated in between. */
static void test_large(void)
{
	int fd = open("f", O_RDWR | O_CREAT, 0644);
	struct statvfs vfs;
	off_t most = 1ll << 43;
	char byte = 0;
	E(0, fstatvfs(fd, &vfs));
	while (most > 1 << 20 && ftruncate(fd, most) != 0)
		most /= 2;
	IS(pwrite(fd, "a", 1, most - 1), 1);
	IS(pread(fd, &byte, 1, most - 1), 1);
	IS(byte, 'a');
	IS(lseek(fd, 0, SEEK_DATA), most - 4096);
	IS(lseek(fd, most - 4096, SEEK_HOLE), most);
	OK(lst("f").st_blocks <= 64);
	IS(lseek(fd, 0, SEEK_END), most);
	E(0, ftruncate(fd, 0));
	IS(lst("f").st_blocks, 0);
	close(fd);
}

static void test_fallocate(void)
{
	char text[8192];
	int fd = open("f", O_RDWR | O_CREAT, 0644), ro = open("f", O_RDONLY);
	E(EBADF, fallocate(ro, 0, 0, 10));
	E(EINVAL, fallocate(fd, 0, 0, 0));
	E(EINVAL, fallocate(fd, 0, -1, 10));
	E(EFBIG, fallocate(fd, 0, INT64_MAX - 5, 10));
	E(EOPNOTSUPP, fallocate(fd, FALLOC_FL_PUNCH_HOLE, 0, 4096));
	TIMES("f", "cm", fallocate(fd, 0, 0, 10000));
	IS(SIZE("f"), 10000);
	OK(lst("f").st_blocks >= 24);
	E(0, fallocate(fd, FALLOC_FL_KEEP_SIZE, 10000, 100000));
	IS(SIZE("f"), 10000);
	OK(lst("f").st_blocks >= 215);
	memset(text, 'x', sizeof(text));
	IS(pwrite(fd, text, sizeof(text), 0), sizeof(text));
	TIMES("f", "cm", fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 100, 5000));
	IS(pread(fd, text, sizeof(text), 0), sizeof(text));
	OK(text[99] == 'x' && text[100] == 0 && text[5099] == 0 && text[5100] == 'x');
	IS(lseek(fd, 0, SEEK_DATA), 0);
	E(ENXIO, lseek(fd, 10000, SEEK_DATA));
	E(ENXIO, lseek(fd, 10000, SEEK_HOLE));
	E(ENXIO, lseek(fd, -1, SEEK_DATA));
	E(EINVAL, lseek(fd, 0, 99));
	IS(posix_fallocate(fd, 0, 20000), 0);
	IS(SIZE("f"), 20000);
	IS(posix_fallocate(fd, 0, 10), 0);
	IS(SIZE("f"), 20000);
	IS(posix_fallocate(ro, 0, 10), EBADF);
	int pipes[2];
	E(0, pipe(pipes));
	IS(posix_fallocate(pipes[1], 0, 10), ESPIPE);
	close(pipes[0]);
	close(pipes[1]);
	IS(posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED), 0);
	IS(posix_fadvise(fd, 0, 0, 99), EINVAL);
	close(ro);
	close(fd);
}

static void test_copy_file_range(void)
{
	E(0, make("a", 0644) | put("a", "0123456789") | make("b", 0644) | mkdir("d", 0755));
	int a = open("a", O_RDWR), b = open("b", O_RDWR), dir = open("d", O_RDONLY);
	int ro = open("b", O_RDONLY), ap = open("b", O_WRONLY | O_APPEND);
	loff_t in = 2, out = 0;
	IS(copy_file_range(a, &in, b, &out, 5, 0), 5);
	IS(in * 100 + out, 705);
	OK(strcmp(get("b"), "23456") == 0);
	in = 20;
	IS(copy_file_range(a, &in, b, &out, 5, 0), 0);
	E(EBADF, copy_file_range(a, NULL, ro, NULL, 5, 0));
	E(EBADF, copy_file_range(a, NULL, ap, NULL, 5, 0));
	E(EISDIR, copy_file_range(dir, NULL, b, NULL, 5, 0));
	E(EINVAL, copy_file_range(a, NULL, b, NULL, 5, 1));
	in = 0, out = 2;
	E(EINVAL, copy_file_range(a, &in, a, &out, 5, 0));
	in = 0, out = 20;
	IS(copy_file_range(a, &in, a, &out, 5, 0), 5);
	IS(SIZE("a"), 25);
	TIMES("b", "cm", copy_file_range(a, &(loff_t){0}, b, &(loff_t){0}, 3, 0));
	int pipes[2];
	E(0, pipe(pipes));
	in = 0;
	IS(splice(a, &in, pipes[1], NULL, 5, 0), 5);
	out = 100;
	IS(splice(pipes[0], NULL, b, &out, 5, 0), 5);
	IS(SIZE("b"), 105);
	E(EINVAL, splice(pipes[0], NULL, ap, NULL, 5, SPLICE_F_NONBLOCK));
	close(pipes[0]);
	close(pipes[1]);
	close(a), close(b), close(dir), close(ro), close(ap);
}

/* ---- data --------------------------------------------------------------- */

#define RECORD 100
static void append_records(char letter, int n)
{
	char record[RECORD];
	memset(record, letter, RECORD);
	int fd = open("log", O_WRONLY | O_APPEND);
	while (n-- > 0)
		if (write(fd, record, RECORD) != RECORD)
			_exit(1);
	close(fd);
}

static void test_append(void)
{
	enum { WRITERS = 4, RECORDS = 300 };
	E(0, make("log", 0644));
	fflush(stdout);
	for (int i = 0; i < WRITERS; i++) {
		if (fork() == 0) {
			append_records((char)('A' + i), RECORDS);
			_exit(0);
		}
	}
	int bad = 0, status;
	while (wait(&status) > 0)
		bad += status != 0;
	IS(bad, 0);
	IS(SIZE("log"), WRITERS * RECORDS * RECORD);
	int seen[WRITERS] = {0}, torn = 0;
	FILE *log = fopen("log", "r");
	char record[RECORD];
	while (fread(record, RECORD, 1, log) == 1) {
		for (size_t i = 1; i < RECORD; i++)
			torn += record[i] != record[0];
		if (record[0] >= 'A' && record[0] < 'A' + WRITERS)
			seen[record[0] - 'A']++;
	}
	fclose(log);
	IS(torn, 0);
	for (int i = 0; i < WRITERS; i++)
		IS(seen[i], RECORDS);
	int fd = open("log", O_RDWR | O_APPEND);
	IS(pwrite(fd, "end", 3, 0), 3);
	IS(SIZE("log"), WRITERS * RECORDS * RECORD + 3);
	close(fd);
}

static void test_io(void)
{
	static char block[8192] __attribute__((aligned(4096)));
	int fd = open("f", O_RDWR | O_CREAT | O_SYNC, 0644);
	TIMES("f", "cm", write(fd, "hello", 5));
	TIMES("f", "", write(fd, "", 0));
	const char *volatile nowhere = (const char *)1;
	E(EFAULT, write(fd, nowhere, 5));
	IS(pwrite(fd, "z", 1, 10000), 1);
	IS(pread(fd, block, 20, 9995), 6);
	OK(memcmp(block, "\0\0\0\0\0z", 6) == 0);
	E(EBADF, write(open("f", O_RDONLY), "x", 1));
	E(EBADF, read(open("f", O_WRONLY), block, 1));
	E(EISDIR, read(open(".", O_RDONLY), block, 1));
	E(0, fsync(fd) | fdatasync(fd) | syncfs(fd));
	E(0, sync_file_range(fd, 0, 0, SYNC_FILE_RANGE_WRITE));
	close(fd);
	fd = open("f", O_RDWR | O_DIRECT | O_DSYNC);
	memset(block, 'd', sizeof(block));
	IS(pwrite(fd, block, 8192, 4096), 8192);
	int cached = open("f", O_RDWR);
	char byte = 0;
	IS(pread(cached, &byte, 1, 8192), 1);
	IS(byte, 'd');
	IS(pwrite(cached, "c", 1, 8192), 1);
	IS(pread(fd, block, 4096, 8192), 4096);
	IS(block[0], 'c');
	IS(pread(fd, block, 8192, 8192), 4096);
	close(cached);
	close(fd);
}

static sigjmp_buf on_bus;
static void bus(int signo)
{
	siglongjmp(on_bus, 1);
}

static void test_mmap(void)
{
	static char text[8192];
	int fd = open("f", O_RDWR | O_CREAT, 0644);
	E(0, ftruncate(fd, 3 * 4096));
	char *shared = mmap(NULL, 4 * 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	char *private = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
	OK(shared != MAP_FAILED && private != MAP_FAILED);
	strcpy(shared + 4000, "shared");
	IS(pread(fd, text, 6, 4000), 6);
	OK(memcmp(text, "shared", 6) == 0);
	E(0, msync(shared, 4096, MS_SYNC));
	tick();
	struct stat before = lst("f");
	shared[0] = 's';
	E(0, msync(shared, 4096, MS_SYNC));
	OK(!is_same_time(&before.st_mtim,
			 &(struct timespec){lst("f").st_mtim.tv_sec, lst("f").st_mtim.tv_nsec}));
	private[1] = 'p';
	IS(pread(fd, text, 2, 0), 2);
	OK(text[0] == 's' && text[1] == 0);
	IS(pwrite(fd, "written", 7, 8192), 7);
	OK(memcmp(shared + 8192, "written", 7) == 0);
	E(0, fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 8192, 4096));
	IS(shared[8192], 0);
	shared[5000] = 'd';
	int direct = open("f", O_RDONLY | O_DIRECT);
	static char block[4096] __attribute__((aligned(4096)));
	IS(pread(direct, block, 4096, 4096), 4096);
	IS(block[5000 - 4096], 'd');
	close(direct);
	signal(SIGBUS, bus);
	/* Behind the end of the file: a store, and with a new end a load. */
	bool is_bus = sigsetjmp(on_bus, 1) != 0;
	if (!is_bus)
		shared[3 * 4096] = 1;
	OK(is_bus);
	E(0, ftruncate(fd, 100));
	is_bus = sigsetjmp(on_bus, 1) != 0;
	if (!is_bus)
		(void)*(volatile char *)(shared + 4096);
	OK(is_bus);
	signal(SIGBUS, SIG_DFL);
	E(0, ftruncate(fd, 4096));
	shared[300] = 'u';
	E(0, munmap(shared, 4 * 4096) | munmap(private, 4096) | close(fd));
	fd = open("f", O_RDONLY | O_DIRECT);
	IS(pread(fd, block, 4096, 0), 4096);
	IS(block[300], 'u');
	E(EACCES, mmap(NULL, 4096, PROT_WRITE, MAP_SHARED, fd, 0) == MAP_FAILED ? -1 : 0);
	close(fd);
}

/* ---- times -------------------------------------------------------------- */

static bool has_times(const char *path, time_t atime, long ans, time_t mtime, long mns)
{
	struct stat st = lst(path);
	if (st.st_atim.tv_sec == atime && st.st_atim.tv_nsec == ans && st.st_mtim.tv_sec == mtime &&
	    st.st_mtim.tv_nsec == mns)
		return true;
	printf("# atime %lld.%09ld mtime %lld.%09ld\n", (long long)st.st_atim.tv_sec,
	       st.st_atim.tv_nsec, (long long)st.st_mtim.tv_sec, st.st_mtim.tv_nsec);
	return false;
}

static int set_times(const char *path, time_t atime, long ans, time_t mtime, long mns)
{
	struct timespec times[2] = {{atime, ans}, {mtime, mns}};
	return utimensat(AT_FDCWD, path, times, AT_SYMLINK_NOFOLLOW);
}

static void test_utimensat(void)
{
	for (size_t i = 0; i < NTYPES; i++) {
		E(0, make_type(types[i], types[i]));
		E(0, set_times(types[i], 1000000000, 123456789, 2000000000, 987654321));
		OK(has_times(types[i], 1000000000, 123456789, 2000000000, 987654321));
		TIMES(types[i], "ac", set_times(types[i], 5, 5, 0, UTIME_OMIT));
		TIMES(types[i], "cm", set_times(types[i], 0, UTIME_OMIT, 0, UTIME_NOW));
		TIMES(types[i], "", set_times(types[i], 0, UTIME_OMIT, 0, UTIME_OMIT));
		TIMES(types[i], "acm", utimensat(AT_FDCWD, types[i], NULL, AT_SYMLINK_NOFOLLOW));
		OK(is_fresh(types[i]));
	}
	E(EINVAL, set_times("file", 0, 1000000000, 0, 0));
	E(EINVAL, set_times("file", 0, 0, 0, -5));
	PATH_ERRORS(utimensat(AT_FDCWD, path, NULL, 0));
	/* Before 1970, and after 2038. */
	E(0, set_times("file", -1, 999999999, -86400, 0));
	OK(has_times("file", -1, 999999999, -86400, 0));
	E(0, set_times("file", 0x7fffffff + 1ll, 1, 4294967296ll + 7, 0));
	OK(has_times("file", 0x7fffffff + 1ll, 1, 4294967296ll + 7, 0));
	/* What a filesystem cannot hold becomes the nearest that it can. */
	E(0, set_times("file", -(1ll << 40), 5, 1ll << 40, 5));
	OK(lst("file").st_atim.tv_sec < -2000000000 &&
	   lst("file").st_mtim.tv_sec > 15000000000 / 2);
	E(0, chown("file", ANN, ANN) | chmod("file", 0644));
	E(EPERM, AS(BOB, set_times("file", 1, 1, 1, 1)));
	E(EPERM, AS(BOB, set_times("file", 0, UTIME_NOW, 0, UTIME_OMIT)));
	E(EACCES, AS(BOB, utimensat(AT_FDCWD, "file", NULL, 0)));
	E(0, AS(BOB, set_times("file", 0, UTIME_OMIT, 0, UTIME_OMIT)));
	E(0, chmod("file", 0666));
	E(0, AS(BOB, utimensat(AT_FDCWD, "file", NULL, 0)));
	E(0, AS(BOB, set_times("file", 0, UTIME_NOW, 0, UTIME_NOW)));
	E(EPERM, AS(BOB, set_times("file", 1, 1, 0, UTIME_NOW)));
	E(0, chmod("file", 0) | AS(ANN, set_times("file", 3, 3, 4, 4)));
	int fd = open("file", O_RDONLY);
	struct timespec times[2] = {{7, 7}, {8, 8}};
	E(0, futimens(fd, times));
	OK(has_times("file", 7, 7, 8, 8));
	close(fd);
	struct statx stx;
	E(0, statx(AT_FDCWD, "file", 0, STATX_ALL, &stx));
	IS(stx.stx_mtime.tv_sec, 8);
	OK((stx.stx_mask & STATX_BASIC_STATS) == STATX_BASIC_STATS);
}

/* relatime: a read sets atime when it is not younger than mtime and ctime, or a day old. */
static void test_atime(void)
{
	char target[10];
	E(0, make("f", 0644) | put("f", "text") | symlink("f", "s") | make_dir("d", 0, 0755));
	TIMES("f", "a", get("f"));
	TIMES("f", "", get("f"));
	E(0, append("f"));
	TIMES("f", "a", get("f"));
	E(0, chmod("f", 0600));
	TIMES("f", "a", get("f"));
	E(0, set_times("f", time(NULL) - 90000, 0, time(NULL) - 200000, 0));
	TIMES("f", "a", get("f"));
	TIMES("f", "", get("f"));
	E(0, append("f"));
	int fd = open("f", O_RDONLY | O_NOATIME);
	TIMES("f", "", read(fd, target, 1));
	close(fd);
	TIMES("s", "a", readlink("s", target, sizeof(target)));
	TIMES("s", "", readlink("s", target, sizeof(target)));
	DIR *dir = opendir("d");
	TIMES("d", "a", readdir(dir));
	closedir(dir);
	dir = opendir("d");
	TIMES("d", "", readdir(dir));
	closedir(dir);
	fd = open("f", O_RDONLY);
	tick();
	struct stat before = lst("f");
	char *map = mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 0);
	OK(map[0] == 't');
	munmap(map, 4096);
	close(fd);
	OK(!is_same_time(&before.st_atim,
			 &(struct timespec){lst("f").st_atim.tv_sec, lst("f").st_atim.tv_nsec}));
}

/* ---- directories -------------------------------------------------------- */

static int count(const char *path)
{
	DIR *dir = opendir(path);
	int n = 0;
	while (dir && readdir(dir))
		n++;
	if (dir)
		closedir(dir);
	return n;
}

static void test_readdir(void)
{
	enum { N = 3000 };
	char name[300];
	E(0, mkdir("d", 0755));
	for (size_t i = 0; i < NTYPES; i++) {
		snprintf(name, sizeof(name), "d/%s", types[i]);
		E(0, make_type(types[i], name));
	}
	DIR *dir = opendir("d");
	int wrong = 0, dots = 0;
	for (struct dirent *e = readdir(dir); e; e = readdir(dir)) {
		snprintf(name, sizeof(name), "d/%s", e->d_name);
		wrong += e->d_type != DT_UNKNOWN && e->d_type != IFTODT(lst(name).st_mode);
		wrong += e->d_ino != INO(name);
		dots += e->d_name[0] == '.';
	}
	IS(wrong, 0);
	IS(dots, 2);
	closedir(dir);

	E(0, mkdir("big", 0755));
	for (int i = 0; i < N; i++) {
		snprintf(name, sizeof(name), "big/%d-%.*s", i, i % 100, name255);
		(void)!mknod(name, S_IFREG | 0644, 0);
	}
	IS(count("big"), N + 2);
	static long at[N + 2];
	static ino_t ino[N + 2];
	dir = opendir("big");
	int n = 0;
	for (;;) {
		long where = telldir(dir);
		struct dirent *e = readdir(dir);
		if (!e || n == N + 2)
			break;
		at[n] = where;
		ino[n++] = e->d_ino;
	}
	IS(n, N + 2);
	wrong = 0;
	for (int i = n - 1; i >= 0; i -= 97) {
		seekdir(dir, at[i]);
		struct dirent *e = readdir(dir);
		wrong += !e || e->d_ino != ino[i];
	}
	IS(wrong, 0);
	/* Others come and go: what stays keeps its place. */
	for (int i = 1; i < N; i += 2) {
		snprintf(name, sizeof(name), "big/%d-%.*s", i, i % 100, name255);
		(void)unlink(name);
		snprintf(name, sizeof(name), "big/new-%d", i);
		(void)!mknod(name, S_IFREG | 0644, 0);
	}
	rewinddir(dir);
	int old = 0, fresh = 0;
	for (struct dirent *e = readdir(dir); e; e = readdir(dir)) {
		old += e->d_name[0] >= '0' && e->d_name[0] <= '9';
		fresh += e->d_name[0] == 'n';
	}
	IS(old, N / 2);
	IS(fresh, N / 2);
	rewinddir(dir);
	(void)readdir(dir);
	E(0, make("big/after-open", 0644));
	rewinddir(dir);
	wrong = 1;
	for (struct dirent *e = readdir(dir); e; e = readdir(dir))
		wrong = strcmp(e->d_name, "after-open") == 0 ? 0 : wrong;
	IS(wrong, 0);
	closedir(dir);
	E(ENOTDIR, opendir("d/file") ? 0 : -1);
	E(0, make_dir("blind", ANN, 0300));
	E(EACCES, AS(ANN, opendir("blind") ? 0 : -1));
	E(0, AS(ANN, mkdir("blind/x", 0755)));
}

static void test_names(void)
{
	E(0, mkdir("d", 0755));
	int lost = 0;
	for (int c = 1; c < 256; c++) {
		char path[8] = {'d', '/', (char)c, 'n', (char)c, 0};
		if (c == '/')
			continue;
		lost += make(path, 0644) != 0 || lst(path).st_ino == 0;
	}
	IS(lost, 0);
	IS(count("d"), 254 + 2);
	E(0, make(name255, 0644));
	E(ENAMETOOLONG, make(name256, 0644));
	E(0, make("d/...", 0644) | make("d/ ", 0644) | make("d/-", 0644));
	/* A path of 4095 bytes is one, of 4096 is none. */
	char path[4200] = "";
	while (strlen(path) < 4090)
		strcat(path, "./");
	E(0, try_open(strcat(path, "./d/-"), O_RDONLY));
	IS(strlen(path), 4095);
}

/* ---- numbers, locks, handles -------------------------------------------- */

static void test_statfs(void)
{
	struct statvfs before, after;
	static char megabyte[1 << 20];
	E(0, statvfs(".", &before));
	OK(before.f_bavail <= before.f_bfree && before.f_bfree <= before.f_blocks);
	OK(before.f_ffree <= before.f_files);
	IS(before.f_namemax, 255);
	int fd = open("f", O_RDWR | O_CREAT, 0644);
	memset(megabyte, 'x', sizeof(megabyte));
	for (int i = 0; i < 4; i++)
		(void)!write(fd, megabyte, sizeof(megabyte));
	E(0, fsync(fd) | statvfs(".", &after));
	unsigned long long used = (before.f_bfree - after.f_bfree) * before.f_frsize;
	OK(used >= 4 << 20 && used < 5 << 20);
	IS(lst("f").st_blocks / 8, 1024);
	IS(before.f_ffree - after.f_ffree, 1);
	E(0, ftruncate(fd, 1 << 20));
	IS(lst("f").st_blocks / 8, 256);
	close(fd);
	OK(lst("f").st_blksize >= 512);
}

static int lock(int fd, int command, short type, off_t start, off_t len)
{
	struct flock lock = {.l_type = type, .l_whence = SEEK_SET, .l_start = start, .l_len = len};
	return fcntl(fd, command, &lock);
}

static void test_locks(void)
{
	E(0, make("f", 0644) | put("f", "0123456789"));
	int fd = open("f", O_RDWR);
	E(0, flock(fd, LOCK_EX));
	IS(IN_CHILD(int o = open("f", O_RDWR); _exit(flock(o, LOCK_SH | LOCK_NB) == 0 ? 0 : errno)),
	   EWOULDBLOCK);
	E(0, flock(fd, LOCK_UN));
	IS(IN_CHILD(int o = open("f", O_RDWR); _exit(flock(o, LOCK_EX | LOCK_NB) == 0 ? 0 : errno)),
	   0);
	E(0, lock(fd, F_SETLK, F_WRLCK, 2, 4));
	IS(IN_CHILD(int o = open("f", O_RDWR);
		    _exit(lock(o, F_SETLK, F_RDLCK, 5, 1) == 0 ? 0 : errno)),
	   EAGAIN);
	IS(IN_CHILD(int o = open("f", O_RDWR);
		    _exit(lock(o, F_SETLK, F_WRLCK, 6, 1) == 0 ? 0 : errno)),
	   0);
	IS(IN_CHILD(int o = open("f", O_RDWR);
		    _exit(lock(o, F_OFD_SETLK, F_RDLCK, 2, 1) == 0 ? 0 : errno)),
	   EAGAIN);
	struct flock found = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
	pid_t self = getpid();
	IS(IN_CHILD(int o = open("f", O_RDWR); (void)fcntl(o, F_GETLK, &found);
		    _exit(found.l_pid == self && found.l_start == 2 && found.l_len == 4)),
	   1);
	E(0, lock(fd, F_SETLK, F_UNLCK, 0, 0));
	close(fd);
	fd = open("f", O_RDONLY);
	E(0, fcntl(fd, F_SETLEASE, F_RDLCK));
	IS(fcntl(fd, F_GETLEASE), F_RDLCK);
	signal(SIGIO, SIG_IGN);
	E(EWOULDBLOCK, try_open("f", O_WRONLY | O_NONBLOCK));
	E(0, fcntl(fd, F_SETLEASE, F_UNLCK));
	signal(SIGIO, SIG_DFL);
	close(fd);
}

static void test_handles(void)
{
	union {
		struct file_handle handle;
		char room[sizeof(struct file_handle) + MAX_HANDLE_SZ];
	} file = {.handle.handle_bytes = MAX_HANDLE_SZ}, dir = file;
	int mount_id;
	E(0, mkdir("d", 0755) | make("d/f", 0644) | put("d/f", "by handle"));
	E(0, name_to_handle_at(AT_FDCWD, "d/f", &file.handle, &mount_id, 0));
	E(0, name_to_handle_at(AT_FDCWD, "d", &dir.handle, &mount_id, 0));
	int at = open(".", O_RDONLY);
	int caches = open("/proc/sys/vm/drop_caches", O_WRONLY);
	if (caches >= 0)
		(void)!write(caches, "2", 1);
	close(caches);
	int fd = open_by_handle_at(at, &file.handle, O_RDONLY);
	char text[16] = "";
	IS(read(fd, text, 15), 9);
	OK(strcmp(text, "by handle") == 0);
	close(fd);
	fd = open_by_handle_at(at, &dir.handle, O_RDONLY | O_DIRECTORY);
	OK(fd >= 0);
	E(0, faccessat(fd, "f", R_OK, 0));
	close(fd);
	E(0, unlink("d/f"));
	E(ESTALE, open_by_handle_at(at, &file.handle, O_RDONLY));
	for (int i = 0; i < 20; i++) {
		(void)make("d/again", 0644);
		(void)unlink("d/again");
	}
	E(0, make("d/again", 0644));
	E(ESTALE, open_by_handle_at(at, &file.handle, O_RDONLY));
	E(0, unlink("d/again") | rmdir("d"));
	E(ESTALE, open_by_handle_at(at, &dir.handle, O_RDONLY));
	close(at);
}

static void test_access(void)
{
	E(0, make("f", 0640) | chown("f", ANN, BOB));
	E(0, AS(ANN, faccessat(AT_FDCWD, "f", R_OK | W_OK, AT_EACCESS)));
	E(EACCES, AS(ANN, faccessat(AT_FDCWD, "f", X_OK, AT_EACCESS)));
	E(0, AS3(1, 1, BOB, faccessat(AT_FDCWD, "f", R_OK, AT_EACCESS)));
	E(EACCES, AS3(1, 1, BOB, faccessat(AT_FDCWD, "f", W_OK, AT_EACCESS)));
	E(EACCES, AS(1, faccessat(AT_FDCWD, "f", R_OK, AT_EACCESS)));
	E(EACCES, access("f", X_OK));
	E(0, access("f", R_OK | W_OK));
	E(0, make_dir("d", ANN, 0600) | make("d/f", 0666));
	E(EACCES, AS(ANN, try_open("d/f", O_RDONLY)));
	E(EACCES, AS(ANN, chdir("d")));
	E(0, chmod("d", 0100));
	E(0, AS(ANN, try_open("d/f", O_RDONLY)));
	E(EACCES, AS(ANN, unlink("d/f")));
	E(0, chmod("d", 0));
	E(0, try_open("d/f", O_RDONLY) | unlink("d/f"));
}

/* O_TMPFILE, where the filesystem has it. */
static void test_tmpfile(void)
{
	int fd = open(".", O_TMPFILE | O_RDWR, 0600);
	if (fd < 0 && errno == EOPNOTSUPP) {
		printf("ok %u - %s: O_TMPFILE # SKIP not supported\n", ++ntests, section_name);
		return;
	}
	OK(fd >= 0);
	struct stat st;
	IS(write(fd, "text", 4), 4);
	E(0, fstat(fd, &st));
	IS(st.st_nlink, 0);
	IS(count("."), 2);
	E(0, linkat(fd, "", AT_FDCWD, "named", AT_EMPTY_PATH));
	OK(strcmp(get("named"), "text") == 0);
	close(fd);
	fd = open(".", O_TMPFILE | O_RDWR | O_EXCL, 0600);
	E(ENOENT, linkat(fd, "", AT_FDCWD, "never", AT_EMPTY_PATH));
	close(fd);
	E(EINVAL, open(".", O_TMPFILE | O_RDONLY, 0600));
	E(0, make_dir("theirs", 0, 0755));
	E(EACCES, AS(ANN, open("theirs", O_TMPFILE | O_RDWR, 0600)));
	E(0, unlink("named") | rmdir("theirs"));
}

/* ---- running ------------------------------------------------------------ */

static const struct {
	const char *name;
	void (*run)(void);
} sections[] = {
	{"chmod", test_chmod},
	{"chown", test_chown},
	{"killpriv", test_killpriv},
	{"setgid_dir", test_setgid_dir},
	{"create", test_create},
	{"open", test_open},
	{"exec", test_exec},
	{"link", test_link},
	{"symlink", test_symlink},
	{"sticky", test_sticky},
	{"unlink", test_unlink},
	{"rename_types", test_rename_types},
	{"rename", test_rename},
	{"truncate", test_truncate},
	{"large", test_large},
	{"fallocate", test_fallocate},
	{"copy", test_copy_file_range},
	{"append", test_append},
	{"io", test_io},
	{"mmap", test_mmap},
	{"utimensat", test_utimensat},
	{"atime", test_atime},
	{"readdir", test_readdir},
	{"names", test_names},
	{"statfs", test_statfs},
	{"locks", test_locks},
	{"handles", test_handles},
	{"access", test_access},
	{"tmpfile", test_tmpfile},
};

static void run(size_t i)
{
	char path[sizeof(base) + 40];
	section_name = sections[i].name;
	snprintf(path, sizeof(path), "%s/conform-%s", base, section_name);
	if (mkdir(path, 0755) || chdir(path)) {
		report(false, __LINE__, "a directory for the section", strerror(errno));
		return;
	}
	sections[i].run();
	(void)chdir("/");
}

int main(int argc, char **argv)
{
	if (argc < 2 || argc > 3 || geteuid() != 0 || !realpath(argv[1], base)) {
		fprintf(stderr, "usage: conform DIRECTORY [SECTION], as root\n");
		return 2;
	}
	umask(022);
	memset(name255, 'n', 255);
	memset(name256, 'n', 256);
	memset(path4096, 'p', 4096);
	for (size_t i = 100; i < 4096; i += 100)
		path4096[i] = '/';
	memset(target4095, 't', 4095);
	for (size_t i = 0; i < sizeof(sections) / sizeof(sections[0]); i++)
		if (argc == 2 || strcmp(argv[2], sections[i].name) == 0)
			run(i);
	printf("1..%u\n", ntests);
	return nfailures ? 1 : 0;
}
