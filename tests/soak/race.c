/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * race.c -- operations on names and files that no lock keeps in order
 *
 * All processes make, remove, rename and link the same few names, and write the same
 * files in whole blocks, each block 512 times the same word.  No model can say what comes
 * out, but: an operation ends with an error that some order explains, a block that is
 * read is one that somebody wrote as a whole or zeros, and at rest each inode has as many
 * links as names.
 */
#include "race.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "perform.h"

#define RACE_DIRS   3
#define RACE_NAMES  5
#define RACE_BLOCKS 64u
#define RACE_INODES (RACE_DIRS * (RACE_NAMES + 1) * 4)

static uint64_t state;

static uint32_t below(uint32_t n)
{
	state = state * 6364136223846793005u + 1442695040888963407u;
	return (uint32_t)(state >> 33) % n;
}

/* A place for a name: in race/ itself, or in one of the directories that may be there. */
static void pick_path(char *ret_path)
{
	uint32_t dir = below(RACE_DIRS + 1), name = below(RACE_NAMES);
	if (dir == RACE_DIRS)
		snprintf(ret_path, PATH_BYTES, "%s/race/d%u", world->mount, name % RACE_DIRS);
	else
		snprintf(ret_path, PATH_BYTES, "%s/race/d%u/n%u", world->mount, dir, name);
}

static int explained(int rc, const int *errors)
{
	if (rc >= 0)
		return 0;
	for (; *errors; errors++)
		if (errno == *errors)
			return 0;
	return errno;
}

/* ---- contents ----------------------------------------------------------- */

static bool is_whole(const uint64_t *block)
{
	for (uint32_t i = 1; i < BLOCK / 8; i++)
		if (block[i] != block[0])
			return false;
	return true;
}

static void check_blocks(const char *path, const uint8_t *got, ssize_t bytes)
{
	for (ssize_t at = 0; at + (ssize_t)BLOCK <= bytes; at += BLOCK)
		if (!is_whole((const uint64_t *)(const void *)(got + at)))
			complain("%s: a block is a mixture of two writes", path);
}

static int work_on(int fd, int other, const char *path)
{
	static uint8_t buffer[8 * BLOCK] __attribute__((aligned(4096)));
	off_t at = (off_t)below(RACE_BLOCKS) * BLOCK;
	size_t bytes = (1 + below(8)) * BLOCK;
	loff_t from = (loff_t)below(RACE_BLOCKS) * BLOCK, to = at;
	uint64_t word = state | 1;
	ssize_t rc;
	switch (below(6)) {
	case 0:
	case 1:
		for (size_t i = 0; i < bytes / 8; i++)
			memcpy(buffer + i * 8, &word, 8);
		rc = pwrite(fd, buffer, bytes, at);
		break;
	case 2:
		rc = ftruncate(fd, at);
		break;
	case 3:
		rc = fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, at, (off_t)bytes);
		break;
	case 4:
		rc = other < 0 ? 0 : copy_file_range(other, &from, fd, &to, bytes, 0);
		break;
	default:
		rc = pread(fd, buffer, bytes, at);
		if (rc > 0)
			check_blocks(path, buffer, rc);
		break;
	}
	/* EINVAL: a copy within one file whose ranges overlap. */
	return explained((int)rc, (const int[]){world->may_be_full ? ENOSPC : EINVAL, EINVAL, 0});
}

static int race_contents(const char *path, const char *other_path)
{
	/* Past the page cache, whose pages a read may see in the middle of a write. */
	static const int open_errors[] = {ENOENT, EISDIR, ELOOP, ENXIO, ENOSPC, ENOTDIR, 0};
	int create = below(2) ? O_CREAT : 0;
	int fd = open(path, O_RDWR | O_NOFOLLOW | O_DIRECT | O_CLOEXEC | create, 0644);
	if (fd < 0)
		return explained(fd, open_errors);
	int other = open(other_path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	struct stat st;
	if (other >= 0 && (fstat(other, &st) != 0 || !S_ISREG(st.st_mode))) {
		close(other);
		other = -1;
	}
	int err = 0;
	for (int i = 0; i < 3 && !err; i++)
		err = work_on(fd, other, path);
	if (other >= 0)
		close(other);
	close(fd);
	return err;
}

/* ---- names -------------------------------------------------------------- */

static int race_names(const char *path, const char *other)
{
	static const int errors[] = {ENOENT, EEXIST, ENOTDIR, EISDIR, ENOTEMPTY,
				     EPERM,  EINVAL, ENOSPC,  0};
	static const unsigned int flags[] = {0, RENAME_NOREPLACE, RENAME_EXCHANGE};
	int rc = 0;
	switch (below(8)) {
	case 0:
		rc = mkdir(path, 0755);
		break;
	case 1:
		rc = rmdir(path);
		break;
	case 2:
		rc = unlink(path);
		break;
	case 3:
		rc = link(path, other);
		break;
	case 4:
		rc = symlink("nowhere", path);
		break;
	default:
		rc = renameat2(AT_FDCWD, path, AT_FDCWD, other, flags[below(3)]);
		break;
	}
	return explained(rc, errors);
}

int race_once(const struct op *op, uint64_t seed)
{
	char path[PATH_BYTES], other[PATH_BYTES];
	(void)op;
	state = seed;
	pick_path(path);
	pick_path(other);
	int err = below(3) ? race_names(path, other) : race_contents(path, other);
	if (err)
		complain("race on %s and %s: %s", path, other, strerror(err));
	return err;
}

/* ---- at rest ------------------------------------------------------------ */

struct seen {
	ino_t ino;
	nlink_t names;
	nlink_t links;
};

static void count_name(struct seen *seen, int *n, const struct stat *st)
{
	int i = 0;
	while (i < *n && seen[i].ino != st->st_ino)
		i++;
	if (i == *n && *n < RACE_INODES)
		seen[(*n)++] = (struct seen){.ino = st->st_ino, .links = st->st_nlink};
	if (i < RACE_INODES)
		seen[i].names++;
}

static void check_file(const char *path)
{
	static uint8_t got[(RACE_BLOCKS + 8) * BLOCK] __attribute__((aligned(4096)));
	int fd = open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	ssize_t bytes = fd < 0 ? -1 : pread(fd, got, sizeof(got), 0);
	if (bytes < 0)
		complain("%s: %s", path, strerror(errno));
	else
		check_blocks(path, got, bytes);
	if (fd >= 0)
		close(fd);
}

/* Returns the number of directories in it. */
static nlink_t walk(const char *dir, struct seen *seen, int *n)
{
	nlink_t dirs = 0;
	DIR *d = opendir(dir);
	if (!d) {
		complain("%s: %s", dir, strerror(errno));
		return 0;
	}
	for (struct dirent *e = readdir(d); e; e = readdir(d)) {
		char path[2 * PATH_BYTES];
		struct stat st;
		if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
			continue;
		snprintf(path, sizeof(path), "%s/%s", dir, e->d_name);
		if (lstat(path, &st) != 0) {
			complain("%s: %s", path, strerror(errno));
			continue;
		}
		if (S_ISDIR(st.st_mode)) {
			dirs++;
			nlink_t below_it = walk(path, seen, n);
			if (st.st_nlink != below_it + 2)
				complain("%s: has %lu links and %lu directories", path,
					 (unsigned long)st.st_nlink, (unsigned long)below_it);
		} else {
			count_name(seen, n, &st);
		}
		if (S_ISREG(st.st_mode))
			check_file(path);
	}
	closedir(d);
	return dirs;
}

void race_check(void)
{
	struct seen seen[RACE_INODES];
	char dir[PATH_BYTES];
	int n = 0;
	snprintf(dir, sizeof(dir), "%s/race", world->mount);
	(void)walk(dir, seen, &n);
	for (int i = 0; i < n; i++)
		if (seen[i].names != seen[i].links)
			complain("race: inode %lu has %lu links and %lu names",
				 (unsigned long)seen[i].ino, (unsigned long)seen[i].links,
				 (unsigned long)seen[i].names);
}
