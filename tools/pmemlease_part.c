/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * pmemlease_part.c -- a local file that is not complete yet, beside the one it will be
 *
 * It has a name of its own and takes the place of the file when all of it has
 * arrived.  With --resume it stays when the copy fails, and beside it a note: of
 * which version of which remote file it is, and how many of its bytes are known to
 * be on their disk.  What the note does not vouch for is copied again; a note that
 * is damaged or of another version vouches for nothing.
 *
 * Format of the note: text; the hash of the first line is the second.
 */
#include <fcntl.h>
#include <inttypes.h>
#include <sodium.h>
#include <string.h>
#include <sys/file.h>

#include "pml/clock.h"
#include "pmemlease_part.h"

#define NOTE_MS	       1000u /* how often at most the note is written */
#define NOTE_BYTES_MAX 8192u
#define HASH_BYTES     16u
#define TRIES	       100

static int fail(const struct part *part, int err)
{
	return report_local("%s: %s", part->shown, strerror(err));
}

/* ---- the note ----------------------------------------------------------- */

/* What a note says of a copy of @attr that has come to @pos; the hash is in its second line. */
static char *make_note(const char *url, const struct pml_client_attr *attr, uint64_t pos)
{
	char *line = NULL;
	char *note = NULL;
	uint8_t hash[HASH_BYTES];
	char hex[2 * HASH_BYTES + 1];
	int bytes =
		asprintf(&line,
			 "pml 1 ino=%" PRIu64 " generation=%" PRIu64 " size=%" PRIu64
			 " mtime=%" PRId64 ".%09u ctime=%" PRId64 ".%09u pos=%" PRIu64 " url=%s\n",
			 attr->ino, attr->generation, attr->size_bytes, attr->mtime_s,
			 attr->mtime_ns, attr->ctime_s, attr->ctime_ns, pos, url);
	if (bytes < 0)
		return NULL;
	crypto_generichash(hash, sizeof(hash), (const uint8_t *)line, (size_t)bytes, NULL, 0);
	sodium_bin2hex(hex, sizeof(hex), hash, sizeof(hash));
	if (asprintf(&note, "%s%s\n", line, hex) < 0)
		note = NULL;
	free(line);
	return note;
}

/* The position that the note vouches for; 0 when it is of something else. */
static uint64_t read_note(const struct part *part)
{
	char text[NOTE_BYTES_MAX];
	pml_auto_close int fd =
		openat(part->dirfd, part->note_name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	ssize_t bytes = fd < 0 ? -1 : pread(fd, text, sizeof(text) - 1, 0);
	if (bytes <= 0)
		return 0;
	text[bytes] = 0;
	const char *at = strstr(text, " pos=");
	if (!at)
		return 0;
	uint64_t pos = strtoull(at + strlen(" pos="), NULL, 10);
	/* The same words for that position: then all else is the same too, and so is the hash. */
	pml_auto_free char *want = make_note(part->url, &part->attr, pos);
	return want && strcmp(want, text) == 0 ? pos : 0;
}

/* An exit status. */
static int write_note(struct part *part, uint64_t pos)
{
	pml_auto_free char *note = make_note(part->url, &part->attr, pos);
	pml_auto_close int fd = openat(part->dirfd, part->note_name,
				       O_WRONLY | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (!note || fd < 0)
		return fail(part, note ? errno : ENOMEM);
	size_t bytes = strlen(note);
	/* First the bytes, then the word that they are there; half a note has a wrong hash. */
	if (ftruncate(part->fd, (off_t)pos) < 0) /* a hole at the end */
		return fail(part, errno);
	if (!part->is_unsynced && fdatasync(part->fd) < 0)
		return fail(part, errno);
	if (pwrite(fd, note, bytes, 0) != (ssize_t)bytes || ftruncate(fd, (off_t)bytes) < 0)
		return fail(part, errno ? errno : EIO);
	part->noted_ms = pml_now_ms();
	part->noted_pos = pos;
	return 0;
}

int part_note(struct part *part, uint64_t pos)
{
	if (!part->is_resumed || pml_now_ms() - part->noted_ms < NOTE_MS)
		return 0;
	return write_note(part, pos);
}

/* ---- opening ------------------------------------------------------------ */

static int open_new(struct part *part, const char *name)
{
	for (int i = 0; i < TRIES; i++) {
		free(part->name);
		part->name = random_temp_path(name);
		if (!part->name)
			return EXIT_LOCAL;
		part->fd = openat(part->dirfd, part->name,
				  O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
		if (part->fd >= 0)
			return 0;
		if (errno != EEXIST)
			return fail(part, errno);
	}
	return fail(part, EEXIST);
}

/* Nobody else writes it, and it has that name still. */
static int lock(struct part *part)
{
	struct stat own = {0}, named = {0};
	if (flock(part->fd, LOCK_EX | LOCK_NB) < 0 && errno == EWOULDBLOCK)
		return report_local("%s: another get --resume writes it", part->shown);
	if (fstat(part->fd, &own) < 0 ||
	    fstatat(part->dirfd, part->name, &named, AT_SYMLINK_NOFOLLOW) < 0)
		return fail(part, errno);
	if (!S_ISREG(own.st_mode) || own.st_nlink != 1)
		return report_local("%s: the file %s beside it is none that get --resume has made",
				    part->shown, part->name);
	if (own.st_ino != named.st_ino || own.st_dev != named.st_dev)
		return report_local("%s: another get --resume writes it", part->shown);
	part->size = (uint64_t)own.st_size;
	return 0;
}

static int open_left(struct part *part, const char *name, uint64_t *ret_pos)
{
	part->name = temp_path(name, "part");
	part->note_name = temp_path(name, "note");
	if (!part->name || !part->note_name)
		return EXIT_LOCAL;
	part->fd = openat(part->dirfd, part->name,
			  O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK, 0600);
	if (part->fd < 0)
		return fail(part, errno);
	int status = lock(part);
	if (status)
		return status;
	uint64_t pos = read_note(part);
	if (pos > part->size || pos > part->attr.size_bytes)
		pos = 0;
	if (pos == 0) /* what comes is not what it vouches for */
		(void)unlinkat(part->dirfd, part->note_name, 0);
	if (ftruncate(part->fd, (off_t)pos) < 0)
		return fail(part, errno);
	*ret_pos = pos;
	part->noted_pos = pos;
	return 0;
}

static void part_free(struct part *part)
{
	if (part->fd >= 0)
		(void)close(part->fd);
	free(part->name);
	free(part->note_name);
	part->fd = -1;
	part->name = NULL;
	part->note_name = NULL;
}

int part_open(struct part *part, const char *name, uint64_t *ret_pos)
{
	part->fd = -1;
	if (sodium_init() < 0)
		return report_local("no random numbers");
	*ret_pos = 0;
	part->noted_ms = pml_now_ms();
	int status = part->is_resumed ? open_left(part, name, ret_pos) : open_new(part, name);
	if (status)
		part_free(part);
	return status;
}

/* ---- the end ------------------------------------------------------------ */

int part_complete(struct part *part, const char *name)
{
	if (!part->is_unsynced && fsync(part->fd) < 0)
		return fail(part, errno);
	if (renameat(part->dirfd, part->name, part->dirfd, name) < 0)
		return fail(part, errno);
	part->is_complete = true;
	if (part->is_resumed)
		(void)unlinkat(part->dirfd, part->note_name, 0);
	if (!part->is_unsynced && fsync(part->dirfd) < 0 && errno != EINVAL)
		return fail(part, errno);
	return 0;
}

int part_close(struct part *part, uint64_t pos)
{
	int status = 0;
	if (part->fd < 0)
		return 0;
	if (!part->is_complete && !part->is_resumed)
		(void)unlinkat(part->dirfd, part->name, 0);
	else if (!part->is_complete && pos != part->noted_pos)
		status = write_note(part, pos);
	part_free(part);
	return status;
}
