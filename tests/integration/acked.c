/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * acked.c -- changes files until the filesystem dies, and knows what must be there afterwards
 *
 * usage: acked DIR SEED
 *
 * Reads commands on standard input: "run" works at random in DIR until a call fails
 * because the daemon has gone, and prints "stopped COUNT"; "verify", after the next
 * mount, compares DIR with the model and prints "good" or "bad" behind comments; "quit".
 *
 * Every operation that returned has happened.  The last one, which did not, has
 * happened wholly or not at all; only bytes that it would have overwritten in place
 * may be a mixture (I8, docs/design.md "Durability").  The model lives here, in a
 * process that the crash does not touch.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#define NAMES	  12
#define BYTES_MAX (256u << 10)
#define WRITE_MAX (64u << 10) /* one request of the kernel */
#define RECENT	  12

struct file {
	uint8_t *data; /* BYTES_MAX; zeros behind size */
	size_t size;
	int refs;
};

/* What the directory holds: for each name a file, a directory, or nothing. */
struct state {
	struct file *file[NAMES];
	bool is_dir[NAMES];
};

enum kind {
	CREATE,
	UNLINK,
	RENAME,
	LINK,
	APPEND,
	WRITE,
	TRUNCATE,
	CLONE,
	PUNCH,
	MKDIR,
	RMDIR,
	KINDS
};
static const char *const kind_names[KINDS] = {"create", "unlink", "rename",   "link",
					      "append", "write",  "truncate", "clone",
					      "punch",	"mkdir",  "rmdir"};

struct op {
	enum kind kind;
	int name, to;	  /* indexes of names */
	size_t at, bytes; /* of data; truncate: the size in at */
	unsigned int fill;
};

static const char *dir;
static struct state now;
static struct op recent[RECENT];
static unsigned long long count;
static unsigned int seed;

static unsigned int below(unsigned int n)
{
	return (unsigned int)rand_r(&seed) % n;
}

static void *must(void *p)
{
	if (!p) {
		perror("acked");
		exit(2);
	}
	return p;
}

static const char *path_of(int name)
{
	static char path[2][4200];
	static int turn;
	turn = !turn;
	snprintf(path[turn], sizeof(path[turn]), "%s/n%d", dir, name);
	return path[turn];
}

/* ---- the model ---------------------------------------------------------- */

static struct file *file_new(void)
{
	struct file *f = must(calloc(1, sizeof(*f)));
	f->data = must(calloc(1, BYTES_MAX));
	f->refs = 1;
	return f;
}

static void file_put(struct file *f)
{
	if (f && --f->refs == 0) {
		free(f->data);
		free(f);
	}
}

/* Names that are one file stay one file. */
static void state_copy(const struct state *from, struct state *to)
{
	*to = *from;
	for (int i = 0; i < NAMES; i++) {
		if (!from->file[i])
			continue;
		int first = 0;
		while (from->file[first] != from->file[i])
			first++;
		if (first < i) {
			to->file[i] = to->file[first];
			to->file[i]->refs++;
			continue;
		}
		to->file[i] = file_new();
		memcpy(to->file[i]->data, from->file[i]->data, BYTES_MAX);
		to->file[i]->size = from->file[i]->size;
	}
}

static void state_free(struct state *s)
{
	for (int i = 0; i < NAMES; i++)
		file_put(s->file[i]);
	memset(s, 0, sizeof(*s));
}

static void fill(uint8_t *to, const struct op *op)
{
	for (size_t i = 0; i < op->bytes; i++)
		to[i] = (uint8_t)(op->fill + i * 7 + (i >> 8));
}

static void put_data(struct file *f, size_t at, const struct op *op)
{
	fill(f->data + at, op);
	if (at + op->bytes > f->size)
		f->size = at + op->bytes;
}

static void clone_data(const struct file *from, struct file *to, size_t bytes)
{
	memcpy(to->data, from->data, bytes);
	if (bytes > to->size)
		to->size = bytes;
}

static void apply(struct state *s, const struct op *op)
{
	struct file *f = s->file[op->name];
	switch (op->kind) {
	case CREATE:
		s->file[op->name] = file_new();
		break;
	case UNLINK:
		file_put(f);
		s->file[op->name] = NULL;
		break;
	case RENAME:
		if (f && f == s->file[op->to])
			break; /* two names of one file: rename(2) does nothing */
		file_put(s->file[op->to]);
		s->file[op->to] = f;
		s->file[op->name] = NULL;
		s->is_dir[op->to] = s->is_dir[op->name];
		s->is_dir[op->name] = false;
		break;
	case LINK:
		f->refs++;
		s->file[op->to] = f;
		break;
	case APPEND:
		put_data(f, f->size, op);
		break;
	case WRITE:
		put_data(f, op->at, op);
		break;
	case TRUNCATE:
		if (op->at < f->size)
			memset(f->data + op->at, 0, f->size - op->at);
		f->size = op->at;
		break;
	case CLONE:
		clone_data(f, s->file[op->to], op->bytes);
		break;
	case PUNCH:
		if (op->at < f->size) {
			size_t bytes = f->size - op->at;
			memset(f->data + op->at, 0, bytes < op->bytes ? bytes : op->bytes);
		}
		break;
	case MKDIR:
	case RMDIR:
	case KINDS:
		s->is_dir[op->name] = op->kind == MKDIR;
		break;
	}
}

/* Does the operation make sense in this state? */
static bool is_possible(const struct state *s, const struct op *op)
{
	const struct file *f = s->file[op->name], *to = s->file[op->to];
	bool is_free = !f && !s->is_dir[op->name], is_to_free = !to && !s->is_dir[op->to];
	switch (op->kind) {
	case CREATE:
	case MKDIR:
		return is_free;
	case RMDIR:
		return s->is_dir[op->name];
	case RENAME:
		return op->to != op->name && (f ? !s->is_dir[op->to] : s->is_dir[op->name] && !to);
	case LINK:
		return f && is_to_free;
	case CLONE:
		return f && to && f != to && f->size > 0;
	case APPEND:
		return f && f->size + op->bytes <= BYTES_MAX;
	case WRITE:
		return f && op->at + op->bytes <= BYTES_MAX;
	case UNLINK:
	case TRUNCATE:
	case PUNCH:
	case KINDS:
		break;
	}
	return f;
}

/* ---- doing it ----------------------------------------------------------- */

static int with_file(const struct op *op, int flags, int (*act)(int fd, const struct op *op))
{
	int fd = open(path_of(op->name), flags | O_CLOEXEC, 0644);
	if (fd < 0)
		return -errno;
	int err = act ? act(fd, op) : 0;
	close(fd);
	return err;
}

static int act_append(int fd, const struct op *op)
{
	static uint8_t data[WRITE_MAX];
	fill(data, op);
	ssize_t n = op->kind == APPEND ? write(fd, data, op->bytes)
				       : pwrite(fd, data, op->bytes, (off_t)op->at);
	/* Short: a later request of the same call has met the crash. */
	return n < 0 ? -errno : (size_t)n == op->bytes ? 0 : -ECONNABORTED;
}

static int act_truncate(int fd, const struct op *op)
{
	return ftruncate(fd, (off_t)op->at) ? -errno : 0;
}

static int act_punch(int fd, const struct op *op)
{
	return fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)op->at,
			 (off_t)op->bytes)
		       ? -errno
		       : 0;
}

static int act_clone(int fd, const struct op *op)
{
	int to = open(path_of(op->to), O_WRONLY | O_CLOEXEC);
	if (to < 0)
		return -errno;
	loff_t from_at = 0, to_at = 0;
	ssize_t n = copy_file_range(fd, &from_at, to, &to_at, op->bytes, 0);
	int err = n < 0 ? -errno : (size_t)n == op->bytes ? 0 : -EIO;
	close(to);
	return err;
}

static int perform(const struct op *op)
{
	switch (op->kind) {
	case CREATE:
		return with_file(op, O_WRONLY | O_CREAT | O_EXCL, NULL);
	case UNLINK:
		return unlink(path_of(op->name)) ? -errno : 0;
	case RENAME:
		return rename(path_of(op->name), path_of(op->to)) ? -errno : 0;
	case LINK:
		return link(path_of(op->name), path_of(op->to)) ? -errno : 0;
	case APPEND:
		return with_file(op, O_WRONLY | O_APPEND, act_append);
	case WRITE:
		return with_file(op, O_WRONLY, act_append);
	case TRUNCATE:
		return with_file(op, O_WRONLY, act_truncate);
	case CLONE:
		return with_file(op, O_RDONLY, act_clone);
	case PUNCH:
		return with_file(op, O_WRONLY, act_punch);
	case MKDIR:
		return mkdir(path_of(op->name), 0755) ? -errno : 0;
	case RMDIR:
	case KINDS:
		return rmdir(path_of(op->name)) ? -errno : 0;
	}
	return -EINVAL;
}

static struct op pick(void)
{
	struct op op;
	do {
		op = (struct op){.kind = below(KINDS),
				 .name = (int)below(NAMES),
				 .to = (int)below(NAMES),
				 .fill = below(256),
				 .bytes = 1 + below(WRITE_MAX),
				 .at = below(BYTES_MAX)};
		if (below(3) == 0) { /* block edges */
			op.at &= ~4095u;
			op.bytes = (op.bytes + 4095) & ~4095u;
		}
	} while (!is_possible(&now, &op));
	if (op.kind == CLONE) { /* of all that there is */
		op.at = 0;
		op.bytes = now.file[op.name]->size;
	}
	return op;
}

static bool says_death(int err)
{
	return err == -ENOTCONN || err == -ECONNABORTED || err == -ECONNREFUSED || err == -ENODEV;
}

/*
 * A request that the daemon was just receiving fails with EIO (fuse_dev_do_read() of the
 * kernel): so ask once more, with a request that no cache answers.
 */
static bool is_death(int err)
{
	struct statvfs st;
	return err && (says_death(err) || (statvfs(dir, &st) != 0 && says_death(-errno)));
}

static void print_op(const struct op *op)
{
	printf("# %s n%d", kind_names[op->kind], op->name);
	if (op->kind == RENAME || op->kind == LINK || op->kind == CLONE)
		printf(" n%d", op->to);
	printf(" at %zu bytes %zu\n", op->at, op->bytes);
}

static void print_recent(void)
{
	for (unsigned long long i = count >= RECENT ? count - RECENT + 1 : 0; i <= count; i++)
		print_op(&recent[i % RECENT]);
}

/* False: an operation has failed for another reason than the crash. */
static bool run(void)
{
	for (;;) {
		struct op op = pick();
		recent[count % RECENT] = op;
		int err = perform(&op);
		if (is_death(err))
			return true;
		if (err) {
			print_op(&op);
			printf("# failed: %s\n", strerror(-err));
			return false;
		}
		apply(&now, &op);
		count++;
	}
}

/* ---- judging ------------------------------------------------------------ */

static bool is_quiet;

#define DIFFERENT(...)                                                                             \
	do {                                                                                       \
		if (!is_quiet)                                                                     \
			printf("# " __VA_ARGS__);                                                  \
		return false;                                                                      \
	} while (0)

/*
 * May @op leave a mixture of old and new at this byte?  Punch and clone overwrite only the
 * blocks at their edges.
 */
static bool is_overwritten(const struct op *op, size_t byte)
{
	size_t end = op->at + op->bytes;
	if (byte < op->at || byte >= end)
		return false;
	return op->kind == WRITE || byte < ((op->at + 4095) & ~4095u) || byte >= (end & ~4095u);
}

/* @other: what the file was or becomes by @op, if that overwrites in place. */
static bool is_content(const uint8_t *got, const struct file *f, const struct file *other,
		       const struct op *op, int name)
{
	for (size_t i = 0; i < f->size; i++) {
		bool is_mixed = other && i < other->size && is_overwritten(op, i);
		if (got[i] != f->data[i] && !(is_mixed && got[i] == other->data[i]))
			DIFFERENT("n%d: byte %zu of %zu is %02x, not %02x\n", name, i, f->size,
				  got[i], f->data[i]);
	}
	return true;
}

/* Adopts what a torn overwrite has left. */
static bool is_file(int name, struct file *f, const struct file *other, const struct op *op)
{
	static uint8_t got[BYTES_MAX + 1];
	struct stat st;
	int fd = open(path_of(name), O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		DIFFERENT("n%d: %s\n", name, strerror(errno));
	ssize_t bytes = read(fd, got, sizeof(got));
	if (fstat(fd, &st) != 0)
		bytes = -1;
	close(fd);
	if (bytes < 0)
		DIFFERENT("n%d: cannot be read: %s\n", name, strerror(errno));
	if ((size_t)bytes != f->size || st.st_size != bytes)
		DIFFERENT("n%d: has %zd bytes, not %zu\n", name, bytes, f->size);
	if (st.st_nlink != (nlink_t)f->refs)
		DIFFERENT("n%d: has %d links, not %d\n", name, (int)st.st_nlink, f->refs);
	if (!is_content(got, f, other, op, name))
		return false;
	memcpy(f->data, got, f->size);
	return true;
}

/* Is the directory in this state?  @op: an overwrite that may be torn, between @s and @other. */
static bool is_state(struct state *s, const struct state *other, const struct op *op)
{
	for (int i = 0; i < NAMES; i++) {
		struct stat st;
		bool is_there = lstat(path_of(i), &st) == 0;
		if (!is_there && errno != ENOENT)
			DIFFERENT("n%d: %s\n", i, strerror(errno));
		if (is_there != (s->file[i] || s->is_dir[i]))
			DIFFERENT("n%d: %s there\n", i, is_there ? "should not be" : "is not");
		if (!is_there)
			continue;
		if (S_ISDIR(st.st_mode) != s->is_dir[i])
			DIFFERENT("n%d: is %sa directory\n", i, s->is_dir[i] ? "not " : "");
		bool is_torn = op && s->file[i] &&
			       s->file[i] == s->file[op->kind == CLONE ? op->to : op->name];
		if (s->file[i] &&
		    !is_file(i, s->file[i], is_torn ? other->file[i] : NULL, is_torn ? op : NULL))
			return false;
	}
	return true;
}

static const struct op *in_place(const struct op *op)
{
	return op->kind == WRITE || op->kind == PUNCH || op->kind == CLONE ? op : NULL;
}

/* Is the directory as @op leaves it?  Then the model is, too. */
static bool is_after(const struct op *op)
{
	struct state after;
	state_copy(&now, &after);
	apply(&after, op);
	bool is_so = is_state(&after, &now, in_place(op));
	struct state old = now;
	if (is_so)
		now = after;
	state_free(is_so ? &old : &after);
	return is_so;
}

static bool is_before(const struct op *op)
{
	struct state after;
	state_copy(&now, &after);
	apply(&after, op);
	bool is_so = is_state(&now, &after, in_place(op));
	state_free(&after);
	return is_so;
}

/*
 * The kernel cuts a write(2) into requests at page boundaries, and a clone
 * shares whole blocks and then copies what is left: the first part may have happened.
 */
static bool is_after_part(const struct op *op)
{
	struct op part = *op;
	if (op->kind == CLONE) {
		part.bytes = op->bytes & ~4095ul;
		return part.bytes > 0 && is_after(&part);
	}
	size_t at = op->kind == APPEND ? now.file[op->name]->size : op->at;
	if (op->kind != APPEND && op->kind != WRITE)
		return false;
	for (size_t end = (at | 4095) + 1; end < at + op->bytes; end += 4096) {
		part.bytes = end - at;
		if (is_after(&part))
			return true;
	}
	return false;
}

/* The last operation has happened, or it has not. */
static bool verify(void)
{
	const struct op *op = &recent[count % RECENT];
	is_quiet = true;
	if (is_before(op) || is_after(op) || is_after_part(op))
		return true;
	is_quiet = false;
	printf("# not as before the last operation:\n");
	(void)is_before(op);
	printf("# not as after it:\n");
	(void)is_after(op);
	printf("# the last operations; the last one was not acknowledged:\n");
	print_recent();
	return false;
}

int main(int argc, char **argv)
{
	char line[64];
	if (argc != 3) {
		fprintf(stderr, "usage: acked DIR SEED\n");
		return 2;
	}
	dir = argv[1];
	seed = (unsigned int)atoi(argv[2]);
	setvbuf(stdout, NULL, _IOLBF, 0);
	while (fgets(line, sizeof(line), stdin)) {
		if (strcmp(line, "quit\n") == 0)
			break;
		if (strcmp(line, "run\n") == 0 && run())
			printf("stopped %llu operations\n", count);
		else if (strcmp(line, "verify\n") == 0 && verify())
			printf("good\n");
		else
			printf("bad\n");
	}
	return 0;
}
