/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * dirread.c -- reading a directory piece by piece while its entries come and go
 *
 * A process reads one directory of its own tree at a time, a few entries with each
 * operation of kind READDIR, and changes the directory with the operations between.  At
 * the end each entry that was there all the time was seen once, none that was never there
 * was seen, and a cookie leads to the same place as before.
 */
#include "dirread.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "perform.h"

/* As getdents64(2) fills it in. */
struct linux_dirent64 {
	uint64_t ino;
	int64_t cookie;
	unsigned short bytes;
	unsigned char type;
	char name[];
};

static struct {
	bool is_active;
	int tree;
	int dir;
	int64_t born_ns;
	int fd;
	bool was_there[NAMES];
	uint32_t changes[NAMES];
	int seen[NAMES];
	int order[4 * NAMES]; /* names as they came */
	int64_t cookie[4 * NAMES];
	int n;
} reader = {.fd = -1};

void read_directory_end(void)
{
	if (reader.is_active)
		close(reader.fd);
	reader.is_active = false;
}

static int begin(const struct op *op)
{
	const struct node *dir = node_of(op->tree, op->dir);
	int fd = open(path_of(op->tree, op->dir, -1), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return errno;
	memset(&reader, 0, sizeof(reader));
	reader.is_active = true;
	reader.tree = op->tree;
	reader.dir = op->dir;
	reader.born_ns = dir->born_ns;
	reader.fd = fd;
	for (int i = 0; i < NAMES; i++) {
		reader.was_there[i] = dir->entry[i] != NODE_NONE;
		reader.changes[i] = dir->changes[i];
	}
	return 0;
}

static void take(const struct linux_dirent64 *entry)
{
	int i = 0;
	if (strcmp(entry->name, ".") == 0 || strcmp(entry->name, "..") == 0)
		return;
	while (i < NAMES && strcmp(name_text(i), entry->name) != 0)
		i++;
	if (i == NAMES) {
		complain("readdir finds an entry %s", entry->name);
		return;
	}
	reader.seen[i]++;
	if (reader.n < 4 * NAMES) {
		reader.order[reader.n] = i;
		reader.cookie[reader.n++] = entry->cookie;
	}
}

/* Returns the number of bytes, 0 at the end, or a negative errno value. */
static long read_some(uint32_t bytes, void (*each)(const struct linux_dirent64 *entry))
{
	char buffer[1024] __attribute__((aligned(8)));
	long n = syscall(SYS_getdents64, reader.fd, buffer, bytes);
	if (n < 0)
		return -errno;
	for (long at = 0; at < n;) {
		const struct linux_dirent64 *entry = (const void *)(buffer + at);
		each(entry);
		at += entry->bytes;
	}
	return n;
}

static bool is_steady(const struct node *dir, int name)
{
	return dir->changes[name] == reader.changes[name];
}

static int first_steady; /* what came behind a cookie */

static void take_first(const struct linux_dirent64 *entry)
{
	const struct node *dir = node_of(reader.tree, reader.dir);
	for (int i = 0; first_steady < 0 && i < NAMES; i++)
		if (strcmp(name_text(i), entry->name) == 0 && is_steady(dir, i))
			first_steady = i;
}

/* A cookie leads to the entry that followed it. */
static void check_cookie(uint32_t pick)
{
	const struct node *dir = node_of(reader.tree, reader.dir);
	if (reader.n == 0)
		return;
	int from = (int)(pick % (uint32_t)reader.n);
	int want = -1;
	for (int i = from + 1; want < 0 && i < reader.n; i++)
		if (is_steady(dir, reader.order[i]))
			want = reader.order[i];
	first_steady = -1;
	if (lseek(reader.fd, reader.cookie[from], SEEK_SET) < 0)
		complain("lseek to a cookie: %s", strerror(errno));
	long n = 1;
	while (first_steady < 0 && n > 0)
		n = read_some(1024, take_first);
	if (first_steady != want)
		complain("%s: a cookie leads to entry %d, not %d",
			 path_of(reader.tree, reader.dir, -1), first_steady, want);
}

static void check_end(uint32_t pick)
{
	const struct node *dir = node_of(reader.tree, reader.dir);
	for (int i = 0; i < NAMES; i++)
		if (is_steady(dir, i) && reader.seen[i] != (int)reader.was_there[i])
			complain("%s: readdir while entries changed has seen entry %d %d times",
				 path_of(reader.tree, reader.dir, -1), i, reader.seen[i]);
	check_cookie(pick);
}

int read_directory_on(const struct op *op)
{
	struct node *dir = node_of(reader.tree, reader.dir);
	if (reader.is_active && (!S_ISDIR(dir->type) || dir->born_ns != reader.born_ns))
		read_directory_end();
	if (!reader.is_active)
		return begin(op);
	long n = read_some(300 + op->fill % 700, take);
	if (n < 0)
		return (int)-n;
	if (n == 0) {
		check_end(op->fill);
		read_directory_end();
	}
	may_have_moved(&dir->atime, op->begin_ns);
	return 0;
}
