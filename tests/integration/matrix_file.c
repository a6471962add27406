/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * matrix_file.c -- the files of a cell, what is done to them, and what must be in them then
 *
 * Each block holds one letter, so blocks that went astray show.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "pmemleasefs/ioctl.h"

#include "matrix.h"

#define CHANGE_BYTE  ((uint64_t)RANGE_FIRST * BLOCK)
#define CHANGE_BYTES ((uint64_t)(RANGE_END - RANGE_FIRST) * BLOCK)
/* A write that covers no block of its ends. */
#define WRITE_BYTE  (CHANGE_BYTE + 50)
#define WRITE_BYTES (CHANGE_BYTES - BLOCK)
#define DOWN_BYTES  (CHANGE_BYTE + 100)

/* ---- contents ---------------------------------------------------------------- */

void contents_fill(struct contents *contents, uint64_t block, char letter)
{
	memset(contents->data + block * BLOCK, letter, BLOCK);
}

void contents_begin(struct contents *ret_contents, char letter)
{
	*ret_contents = (struct contents){.bytes = FILE_BYTES};
	for (uint64_t i = 0; i < FILE_BLOCKS; i++)
		contents_fill(ret_contents, i, (char)(letter + (char)i));
}

static void resize(struct contents *c, size_t bytes)
{
	if (bytes < c->bytes)
		memset(c->data + bytes, 0, c->bytes - bytes);
	c->bytes = bytes;
}

/* Moves what lies behind RANGE_FIRST down or up by SHIFT blocks. */
static void shift(struct contents *c, bool is_up)
{
	char *low = c->data + CHANGE_BYTE, *high = low + (size_t)SHIFT * BLOCK;
	size_t behind = c->bytes - CHANGE_BYTE;
	if (is_up) {
		memmove(high, low, behind);
		memset(low, 0, (size_t)(high - low));
		c->bytes += (size_t)SHIFT * BLOCK;
	} else {
		memmove(low, high, behind - (size_t)(high - low));
		resize(c, c->bytes - (size_t)SHIFT * BLOCK);
	}
}

void contents_change(struct contents *c, enum op op)
{
	switch (op) {
	case OP_TRUNCATE_DOWN:
		resize(c, DOWN_BYTES);
		break;
	case OP_TRUNCATE_UP:
		resize(c, (size_t)LONGER_END * BLOCK);
		break;
	case OP_TRUNCATE_OPEN:
		resize(c, 0);
		break;
	case OP_PUNCH:
	case OP_ZERO:
		memset(c->data + CHANGE_BYTE, 0, CHANGE_BYTES);
		break;
	case OP_COLLAPSE:
	case OP_INSERT:
		shift(c, op == OP_INSERT);
		break;
	case OP_UNSHARE_WRITE:
	case OP_UNSHARE_WRITE_BOTH:
		memset(c->data + WRITE_BYTE, 'n', WRITE_BYTES);
		break;
	case OP_CLONE_DST:
		for (uint64_t i = RANGE_FIRST; i < RANGE_END; i++)
			contents_fill(c, i, (char)('A' + (char)i));
		break;
	default: /* the leased file reads as before */
		break;
	}
}

int64_t contents_differ(const struct contents *a, const struct contents *b)
{
	size_t bytes = a->bytes < b->bytes ? a->bytes : b->bytes;
	for (size_t i = 0; i < bytes; i++) {
		if (a->data[i] != b->data[i])
			return (int64_t)i;
	}
	return a->bytes == b->bytes ? -1 : (int64_t)bytes;
}

/* ---- looking ------------------------------------------------------------------ */

/* From the filesystem: the kernel does not hear of blocks that a lease has allocated. */
int state_of(const char *path, struct state *ret_state)
{
	struct statx st;
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	ssize_t n = statx(fd, "", AT_EMPTY_PATH | AT_STATX_FORCE_SYNC, STATX_BASIC_STATS, &st);
	*ret_state = (struct state){0};
	if (n == 0)
		n = pread(fd, ret_state->contents.data, BYTES_MAX, 0);
	int err = n < 0 ? -errno : (uint64_t)n != st.stx_size ? -EIO : 0;
	(void)close(fd);
	if (err)
		return err;
	ret_state->contents.bytes = (size_t)n;
	ret_state->blocks_512 = (int64_t)st.stx_blocks;
	ret_state->mtime_s = st.stx_mtime.tv_sec;
	ret_state->mtime_ns = st.stx_mtime.tv_nsec;
	return 0;
}

static uint64_t overlap(uint64_t first_a, uint64_t end_a, uint64_t first_b, uint64_t end_b)
{
	uint64_t first = first_a > first_b ? first_a : first_b;
	uint64_t end = end_a < end_b ? end_a : end_b;
	return first < end ? end - first : 0;
}

int count_blocks(const char *path, uint64_t first, uint64_t end, uint32_t flags)
{
	struct pml_ioc_extents *list = calloc(1, sizeof(*list));
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	int err = list && fd >= 0 ? 0 : -1;
	uint64_t n = 0;
	if (!err) {
		list->version = PML_IOC_VERSION;
		err = ioctl(fd, PML_IOC_EXTENTS, list);
	}
	for (uint32_t i = 0; !err && i < list->count; i++) {
		const struct pml_ioc_extent *e = &list->extents[i];
		uint64_t at = e->first_byte / BLOCK;
		if (e->flags & flags)
			n += overlap(at, at + e->nblocks, first, end);
	}
	if (fd >= 0)
		(void)close(fd);
	free(list);
	return err ? -1 : (int)n;
}

/* ---- making -------------------------------------------------------------------- */

static int write_file(const char *path, const struct contents *c)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
	if (fd < 0)
		return -errno;
	ssize_t n = write(fd, c->data, c->bytes);
	int err = n < 0 ? -errno : n != (ssize_t)c->bytes ? -EIO : 0;
	(void)close(fd);
	return err;
}

bool op_unshares(enum op op)
{
	return op == OP_UNSHARE_WRITE || op == OP_UNSHARE_CALL || op == OP_UNSHARE_WRITE_BOTH ||
	       op == OP_UNSHARE_CALL_BOTH;
}

/* Shares @bytes of @from at @first with @to, at @to_first. */
static int share(const char *from, uint64_t first, const char *to, uint64_t to_first, size_t bytes)
{
	loff_t src = (loff_t)first, dst = (loff_t)to_first;
	int in = open(from, O_RDONLY | O_CLOEXEC);
	int out = open(to, O_WRONLY | O_CREAT | O_CLOEXEC, 0666);
	ssize_t n = in < 0 || out < 0 ? -1 : copy_file_range(in, &src, out, &dst, bytes, 0);
	int err = n < 0 ? -errno : n != (ssize_t)bytes ? -EIO : 0;
	if (in >= 0)
		(void)close(in);
	if (out >= 0)
		(void)close(out);
	return err;
}

/* With its blocks in pieces: each second one of a file that is gone. */
static int write_pieces(const struct ground *g, const struct contents *c)
{
	static struct contents spread;
	spread.bytes = 2 * c->bytes;
	for (uint64_t i = 0; i < FILE_BLOCKS; i++)
		memcpy(spread.data + 2 * i * BLOCK, c->data + i * BLOCK, BLOCK);
	int err = write_file(g->other, &spread);
	for (uint64_t i = 0; i < FILE_BLOCKS && !err; i++)
		err = share(g->other, 2 * i * BLOCK, g->held, i * BLOCK, BLOCK);
	if (!err && unlink(g->other))
		err = -errno;
	return err;
}

int ground_make(struct ground *g, const struct rig *rig, const struct cell *cell,
		unsigned int number)
{
	struct contents c;
	(void)snprintf(g->dir, sizeof(g->dir), "%.200s/cell.%u", rig->mnt, number);
	(void)snprintf(g->tree, sizeof(g->tree), "%s/tree", g->dir);
	(void)snprintf(g->held, sizeof(g->held), "%s/held", g->tree);
	(void)snprintf(g->twin, sizeof(g->twin), "%s/twin", g->dir);
	(void)snprintf(g->other, sizeof(g->other), "%s/other", g->dir);
	(void)snprintf(g->made, sizeof(g->made), "%s/made", g->dir);
	(void)snprintf(g->made_held, sizeof(g->made_held), "%s/held", g->made);
	if (mkdir(g->dir, 0777) || mkdir(g->tree, 0777))
		return -errno;
	contents_begin(&c, 'a');
	int err = cell->op == OP_RELOCATE ? write_pieces(g, &c) : write_file(g->held, &c);
	if (err)
		return err;
	contents_begin(&c, 'A');
	if (op_unshares(cell->op))
		err = share(g->held, 0, g->twin, 0, FILE_BYTES);
	else if (cell->op == OP_CLONE_DST)
		err = write_file(g->other, &c);
	else if (cell->op == OP_CLONE_SRC)
		err = write_file(g->other, &(struct contents){0});
	return err;
}

int ground_finish(const struct ground *g, const struct cell *cell)
{
	struct state held;
	if (cell->op != OP_DEDUPE_SRC && cell->op != OP_DEDUPE_DST)
		return 0;
	int err = state_of(g->held, &held);
	return err ? err : write_file(g->other, &held.contents);
}

void ground_remove(const struct ground *g)
{
	(void)unlink(g->made_held);
	(void)rmdir(g->made);
	(void)unlink(g->held);
	(void)rmdir(g->tree);
	(void)unlink(g->twin);
	(void)unlink(g->other);
	(void)rmdir(g->dir);
}

/* ---- operations ------------------------------------------------------------------ */

static int call_range(int fd, unsigned long cmd, uint64_t bytes)
{
	struct pml_ioc_range range = {
		.version = PML_IOC_VERSION, .first_byte = CHANGE_BYTE, .len_bytes = bytes};
	return ioctl(fd, cmd, &range);
}

static int token_of(int fd, uint8_t *ret_token)
{
	struct pml_ioc_token token = {.version = PML_IOC_VERSION};
	int rc = ioctl(fd, PML_IOC_TOKEN, &token);
	memcpy(ret_token, token.token, sizeof(token.token));
	return rc;
}

static int dedupe(int from, int to)
{
	struct pml_ioc_dedupe *d = calloc(1, sizeof(*d));
	int err = d ? 0 : -ENOMEM;
	if (!err) {
		d->version = PML_IOC_VERSION;
		d->ndst = 1;
		d->src_byte = d->dst[0].dst_byte = CHANGE_BYTE;
		d->len_bytes = CHANGE_BYTES;
		if (token_of(to, d->dst[0].token) || ioctl(from, PML_IOC_DEDUPE, d))
			err = -errno;
	}
	if (!err && d->dst[0].status == PML_IOC_DEDUPE_SAME && d->dst[0].done_bytes != CHANGE_BYTES)
		err = -EIO;
	if (!err)
		err = d->dst[0].status == PML_IOC_DEDUPE_DIFFERS ? -EILSEQ : d->dst[0].status;
	free(d);
	return err;
}

/* Between the leased file, open as @held, and the other one. */
static int dedupe_held(const struct ground *g, int held, bool is_source)
{
	int other = open(g->other, O_RDWR | O_CLOEXEC);
	if (other < 0)
		return -errno;
	int err = is_source ? dedupe(held, other) : dedupe(other, held);
	(void)close(other);
	return err;
}

/* Goes along the file; ECANCELED: some of it was left where it is, for a lease. */
static int relocate(int fd)
{
	struct pml_ioc_relocate r = {.version = PML_IOC_VERSION};
	uint64_t moved = 0, skipped = 0;
	do {
		r = (struct pml_ioc_relocate){.version = PML_IOC_VERSION,
					      .first_byte = r.next_byte};
		if (ioctl(fd, PML_IOC_RELOCATE, &r))
			return -errno;
		moved += r.moved_bytes;
		skipped += r.skipped_leased_bytes;
	} while (r.next_byte);
	return skipped ? -ECANCELED : moved ? 0 : -EIO;
}

static int snapshot(const struct ground *g)
{
	struct pml_ioc_snapshot snap = {.version = PML_IOC_VERSION, .name = "made"};
	int tree = open(g->tree, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int dir = open(g->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int err = token_of(dir, snap.token) || ioctl(tree, PML_IOC_SNAPSHOT, &snap) ? -errno : 0;
	(void)close(tree);
	(void)close(dir);
	return err;
}

/* As share(), from or to the leased file, open as @held. */
static int clone_held(const struct ground *g, int held, bool is_source)
{
	loff_t held_at = (loff_t)CHANGE_BYTE, at = is_source ? 0 : (loff_t)CHANGE_BYTE;
	int other = open(g->other, O_RDWR | O_CLOEXEC);
	if (other < 0)
		return -errno;
	ssize_t n = is_source ? copy_file_range(held, &held_at, other, &at, CHANGE_BYTES, 0)
			      : copy_file_range(other, &at, held, &held_at, CHANGE_BYTES, 0);
	int err = n < 0 ? -errno : n != (ssize_t)CHANGE_BYTES ? -EIO : 0;
	(void)close(other);
	return err;
}

static int write_held(int fd)
{
	static char text[WRITE_BYTES];
	memset(text, 'n', sizeof(text));
	ssize_t n = pwrite(fd, text, sizeof(text), (off_t)WRITE_BYTE);
	return n < 0 ? -errno : n != (ssize_t)sizeof(text) ? -EIO : 0;
}

/* A change by one system call: 0, or -1 and errno. */
static int change(int fd, enum op op)
{
	switch (op) {
	case OP_TRUNCATE_DOWN:
		return ftruncate(fd, (off_t)DOWN_BYTES);
	case OP_TRUNCATE_UP:
		return ftruncate(fd, (off_t)LONGER_END * BLOCK);
	case OP_PUNCH:
		return fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)CHANGE_BYTE,
				 (off_t)CHANGE_BYTES);
	case OP_ZERO:
		return fallocate(fd, FALLOC_FL_ZERO_RANGE, (off_t)CHANGE_BYTE, (off_t)CHANGE_BYTES);
	case OP_COLLAPSE:
		return call_range(fd, PML_IOC_COLLAPSE, (uint64_t)SHIFT * BLOCK);
	case OP_INSERT:
		return call_range(fd, PML_IOC_INSERT, (uint64_t)SHIFT * BLOCK);
	default: /* to unshare, in either way */
		return call_range(fd, PML_IOC_UNSHARE, CHANGE_BYTES);
	}
}

int operate_on(const struct ground *g, int fd, enum op op)
{
	switch (op) {
	case OP_UNSHARE_WRITE:
	case OP_UNSHARE_WRITE_BOTH:
		return write_held(fd);
	case OP_CLONE_SRC:
	case OP_CLONE_DST:
		return clone_held(g, fd, op == OP_CLONE_SRC);
	case OP_DEDUPE_SRC:
	case OP_DEDUPE_DST:
		return dedupe_held(g, fd, op == OP_DEDUPE_SRC);
	case OP_RELOCATE:
		return relocate(fd);
	case OP_SNAPSHOT:
		return snapshot(g);
	case OP_TRUNCATE_OPEN:
		return operate(g, op);
	default:
		return change(fd, op) ? -errno : 0;
	}
}

int operate(const struct ground *g, enum op op)
{
	int flags = O_RDWR | O_CLOEXEC | (op == OP_TRUNCATE_OPEN ? O_TRUNC : 0);
	int fd = open(g->held, flags);
	if (fd < 0)
		return -errno;
	int err = op == OP_TRUNCATE_OPEN ? 0 : operate_on(g, fd, op);
	(void)close(fd);
	return err;
}
