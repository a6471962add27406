/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * state.c -- what a filesystem shows
 *
 * Names are walked in the order of readdir, which a filesystem keeps (its hash key lies on
 * the device), so two states of one filesystem are compared entry by entry.
 */
#include "state.h"

#include <inttypes.h>
#include <stdarg.h>
#include <string.h>

#include "../tap.h"

#define ENTRIES_MAX 4096u
#define PATH_BYTES  1024u

struct content {
	uint64_t bytes;
	size_t refs;
	uint8_t data[];
};

struct entry {
	char *path;
	struct stat st;
	uint64_t generation;
	char *target;	 /* of a symlink */
	uint8_t *xattrs; /* names and values, one after the other */
	size_t xattr_bytes;
	struct content *content; /* of a file */
};

struct state {
	size_t n;
	struct entry entry[ENTRIES_MAX];
};

/* A walk over all names, in depth. */
struct walk {
	struct pml_fs *fs;
	bool (*visit)(struct walk *walk, const char *path, struct pml_inode *inode);
	struct state *state;	  /* being taken */
	const struct state *want; /* or compared with */
	const struct state *other;
	const struct state_blur *blur;
	size_t at;
	char difference[512];
};

static void *must(void *p)
{
	if (!p)
		BAIL_OUT("no memory");
	return p;
}

/* ---- walking ---------------------------------------------------------------- */

struct names {
	char (*name)[PML_NAME_BYTES_MAX + 1];
	size_t n;
};

static bool add_name(void *arg, const struct pml_dirent *entry)
{
	struct names *names = arg;
	if (strcmp(entry->name, ".") == 0 || strcmp(entry->name, "..") == 0)
		return true;
	names->name = must(reallocarray(names->name, names->n + 1, sizeof(names->name[0])));
	(void)snprintf(names->name[names->n++], sizeof(names->name[0]), "%s", entry->name);
	return true;
}

PML_PRINTF(2, 3) static bool differ(struct walk *walk, const char *format, ...)
{
	va_list args;
	va_start(args, format);
	(void)vsnprintf(walk->difference, sizeof(walk->difference), format, args);
	va_end(args);
	return false;
}

static bool walk_inode(struct walk *walk, const char *path, struct pml_inode *inode);

static bool walk_names(struct walk *walk, const char *path, struct pml_inode *dir,
		       const struct names *names)
{
	for (size_t i = 0; i < names->n; i++) {
		char below[PATH_BYTES];
		struct pml_inode *child;
		(void)snprintf(below, sizeof(below), "%s%s%s", path, *path ? "/" : "",
			       names->name[i]);
		int err = pml_dir_lookup(dir, names->name[i], &child);
		if (err)
			return differ(walk, "look up %s: %s", below, strerror(-err));
		bool is_good = walk_inode(walk, below, child);
		pml_inode_put(child, 1);
		if (!is_good)
			return false;
	}
	return true;
}

static bool walk_inode(struct walk *walk, const char *path, struct pml_inode *inode)
{
	if (!walk->visit(walk, path, inode))
		return false;
	if (!S_ISDIR(pml_inode_mode(inode)))
		return true;
	struct names names = {0};
	int err = pml_dir_read(inode, 0, add_name, &names);
	bool is_good = err ? differ(walk, "read directory %s: %s", path, strerror(-err))
			   : walk_names(walk, path, inode, &names);
	free(names.name);
	return is_good;
}

static bool walk_all(struct walk *walk)
{
	struct pml_inode *root;
	int err = pml_inode_get(walk->fs, PML_ROOT_INO, &root);
	if (err)
		return differ(walk, "root: %s", strerror(-err));
	bool is_good = walk_inode(walk, "", root);
	pml_inode_put(root, 1);
	return is_good;
}

/* Calls @part for each piece of the contents, in order. */
typedef bool (*content_part)(void *arg, uint64_t at, const uint8_t *data, size_t bytes);

static int read_content(struct pml_inode *inode, content_part part, void *arg)
{
	struct iovec iov[PML_IOV_MAX];
	uint64_t at = 0;
	for (;;) {
		int n;
		size_t got;
		int err = pml_file_read_begin(inode, at, PML_IO_BYTES_MAX, iov, &n, &got);
		if (err)
			return err;
		bool goes_on = got > 0;
		for (int i = 0; i < n && goes_on; i++) {
			goes_on = part(arg, at, iov[i].iov_base, iov[i].iov_len);
			at += iov[i].iov_len;
		}
		pml_file_read_end(inode);
		if (!goes_on)
			return 0;
	}
}

/* Appends a value behind the names. */
static bool take_value(struct pml_inode *inode, const char *name, uint8_t **all, size_t *bytes)
{
	size_t n;
	if (pml_xattr_get(inode, name, NULL, 0, &n) != 0)
		return false;
	*all = must(realloc(*all, *bytes + n + 1));
	if (n && pml_xattr_get(inode, name, *all + *bytes, n, &n) != 0)
		return false;
	*bytes += n;
	return true;
}

/* False: they cannot be read.  The caller frees *ret_all. */
static bool take_xattrs(struct pml_inode *inode, uint8_t **ret_all, size_t *ret_bytes)
{
	static const struct pml_cred root;
	static char names[PML_XATTR_LIST_BYTES_MAX];
	size_t n;
	*ret_all = NULL;
	*ret_bytes = 0;
	if (pml_xattr_list(inode, &root, names, sizeof(names), &n) != 0)
		return false;
	if (n == 0)
		return true;
	*ret_all = must(malloc(n));
	memcpy(*ret_all, names, n);
	*ret_bytes = n;
	for (const char *name = names; name < names + n; name += strlen(name) + 1)
		if (!take_value(inode, name, ret_all, ret_bytes))
			return false;
	return true;
}

/* ---- taking ----------------------------------------------------------------- */

static bool copy_part(void *arg, uint64_t at, const uint8_t *data, size_t bytes)
{
	struct content *content = arg;
	memcpy(content->data + at, data, bytes);
	return true;
}

static const struct entry *find(const struct state *state, uint64_t ino)
{
	for (size_t i = 0; i < state->n; i++)
		if (state->entry[i].st.st_ino == ino)
			return &state->entry[i];
	return NULL;
}

/* The file's contents, those of @before if they are equal. */
static struct content *take_content(struct pml_inode *inode, uint64_t bytes,
				    const struct state *before)
{
	struct content *content = must(malloc(sizeof(*content) + bytes));
	*content = (struct content){.bytes = bytes, .refs = 1};
	int err = read_content(inode, copy_part, content);
	if (err)
		BAIL_OUT("read inode %" PRIu64 ": %s", pml_inode_ino(inode), strerror(-err));
	const struct entry *old = before ? find(before, pml_inode_ino(inode)) : NULL;
	if (!old || !old->content || old->content->bytes != bytes ||
	    memcmp(old->content->data, content->data, bytes) != 0)
		return content;
	free(content);
	old->content->refs++;
	return old->content;
}

static bool take_entry(struct walk *walk, const char *path, struct pml_inode *inode)
{
	struct state *state = walk->state;
	if (state->n == ENTRIES_MAX)
		BAIL_OUT("more than %u names", ENTRIES_MAX);
	struct entry *e = &state->entry[state->n++];
	*e = (struct entry){.path = must(strdup(path)), .generation = pml_inode_generation(inode)};
	pml_inode_stat(inode, &e->st);
	if (S_ISREG(e->st.st_mode))
		e->content = take_content(inode, (uint64_t)e->st.st_size, walk->other);
	char target[PML_SYMLINK_MAX + 1];
	if (S_ISLNK(e->st.st_mode) && pml_inode_readlink(inode, target) == 0)
		e->target = must(strdup(target));
	if (!take_xattrs(inode, &e->xattrs, &e->xattr_bytes))
		BAIL_OUT("extended attributes of %s", path);
	return true;
}

struct state *state_take(struct pml_fs *fs, const struct state *before)
{
	struct state *state = must(calloc(1, sizeof(*state)));
	struct walk walk = {.fs = fs, .visit = take_entry, .state = state, .other = before};
	if (!walk_all(&walk))
		BAIL_OUT("%s", walk.difference);
	return state;
}

void state_free(struct state *state)
{
	for (size_t i = 0; state && i < state->n; i++) {
		struct entry *e = &state->entry[i];
		free(e->path);
		free(e->target);
		free(e->xattrs);
		if (e->content && --e->content->refs == 0)
			free(e->content);
	}
	free(state);
}

uint64_t state_ino(const struct state *state, const char *path)
{
	for (size_t i = 0; i < state->n; i++)
		if (strcmp(state->entry[i].path, path) == 0)
			return state->entry[i].st.st_ino;
	return 0;
}

/* ---- comparing -------------------------------------------------------------- */

struct comparison {
	struct walk *walk;
	const struct entry *want;
	const struct entry *other; /* NULL: nothing may be torn */
	bool is_good;
};

static bool is_blurred(const struct state_blur *blur, uint64_t word)
{
	for (size_t i = 0; i < PML_ARRAY_LEN(blur->torn); i++)
		if (word + 8 > blur->torn[i].first_byte && word < blur->torn[i].end_byte)
			return true;
	return false;
}

static bool is_word_of(const struct entry *e, uint64_t at, const uint8_t *data, size_t bytes)
{
	static const uint8_t zeros[8];
	const struct content *c = e->content;
	if (at >= c->bytes)
		return memcmp(data, zeros, bytes) == 0;
	return at + bytes <= c->bytes && memcmp(data, c->data + at, bytes) == 0;
}

static bool compare_part(void *arg, uint64_t at, const uint8_t *data, size_t bytes)
{
	struct comparison *c = arg;
	if (memcmp(data, c->want->content->data + at, bytes) == 0)
		return true;
	for (size_t i = 0; i < bytes;) {
		/* Extents begin at blocks, so words of the file are words of the device. */
		size_t n = PML_MIN(8 - (at + i) % 8, bytes - i);
		if (!is_word_of(c->want, at + i, data + i, n) &&
		    !(c->other && is_blurred(c->walk->blur, at + i) &&
		      is_word_of(c->other, at + i, data + i, n))) {
			c->is_good = differ(c->walk, "%s: other bytes at %" PRIu64 " of %" PRIu64,
					    c->want->path, at + i, c->want->content->bytes);
			return false;
		}
		i += n;
	}
	return true;
}

static bool is_time(const struct timespec *got, const struct timespec *want,
		    const struct timespec *other)
{
	return (got->tv_sec == want->tv_sec && got->tv_nsec == want->tv_nsec) ||
	       (other && got->tv_sec == other->tv_sec && got->tv_nsec == other->tv_nsec);
}

static bool compare_times(struct walk *walk, const struct stat *st, const struct entry *want,
			  const struct entry *other)
{
	bool is_blurred_time = other && walk->blur->times;
	if (!is_time(&st->st_atim, &want->st.st_atim, NULL))
		return differ(walk, "%s: another atime", want->path);
	if (!is_time(&st->st_mtim, &want->st.st_mtim, is_blurred_time ? &other->st.st_mtim : NULL))
		return differ(walk, "%s: another mtime", want->path);
	if (!is_time(&st->st_ctim, &want->st.st_ctim, is_blurred_time ? &other->st.st_ctim : NULL))
		return differ(walk, "%s: another ctime", want->path);
	return true;
}

static bool compare_stat(struct walk *walk, const struct stat *st, const struct entry *want,
			 const struct entry *other)
{
	const struct {
		const char *name;
		uint64_t got, want;
	} field[] = {
		{"inode number", st->st_ino, want->st.st_ino},
		{"mode", st->st_mode, want->st.st_mode},
		{"links", st->st_nlink, want->st.st_nlink},
		{"owner", st->st_uid, want->st.st_uid},
		{"group", st->st_gid, want->st.st_gid},
		{"device number", st->st_rdev, want->st.st_rdev},
		{"size", (uint64_t)st->st_size, (uint64_t)want->st.st_size},
		{"st_blocks", (uint64_t)st->st_blocks, (uint64_t)want->st.st_blocks},
	};
	size_t n = PML_ARRAY_LEN(field) - (other && walk->blur->blocks);
	for (size_t i = 0; i < n; i++)
		if (field[i].got != field[i].want)
			return differ(walk, "%s: %s is %" PRIu64 ", not %" PRIu64, want->path,
				      field[i].name, field[i].got, field[i].want);
	return compare_times(walk, st, want, other);
}

static bool compare_content(struct walk *walk, struct pml_inode *inode, const struct entry *want,
			    const struct entry *other)
{
	struct comparison c = {.walk = walk, .want = want, .is_good = true};
	if (other && other->content)
		c.other = other;
	int err = read_content(inode, compare_part, &c);
	return err ? differ(walk, "read %s: %s", want->path, strerror(-err)) : c.is_good;
}

static bool compare_xattrs(struct walk *walk, struct pml_inode *inode, const struct entry *want)
{
	uint8_t *all;
	size_t bytes;
	bool is_good = take_xattrs(inode, &all, &bytes);
	if (!is_good)
		(void)differ(walk, "%s: extended attributes cannot be read", want->path);
	else if (bytes != want->xattr_bytes || (bytes && memcmp(all, want->xattrs, bytes) != 0))
		is_good = differ(walk, "%s: other extended attributes", want->path);
	free(all);
	return is_good;
}

static bool compare_entry(struct walk *walk, const char *path, struct pml_inode *inode)
{
	if (walk->at == walk->want->n)
		return differ(walk, "%s should not be there", path);
	const struct entry *want = &walk->want->entry[walk->at++];
	if (strcmp(path, want->path) != 0)
		return differ(walk, "there is %s, not %s", path, want->path);
	struct stat st;
	pml_inode_stat(inode, &st);
	const struct entry *other = NULL;
	if (walk->blur && walk->blur->ino == st.st_ino && walk->other)
		other = find(walk->other, st.st_ino);
	if (!compare_stat(walk, &st, want, other))
		return false;
	if (pml_inode_generation(inode) != want->generation)
		return differ(walk, "%s: another generation", path);
	char target[PML_SYMLINK_MAX + 1];
	if (S_ISLNK(st.st_mode) &&
	    (pml_inode_readlink(inode, target) != 0 || strcmp(target, want->target) != 0))
		return differ(walk, "%s: another target", path);
	if (!compare_xattrs(walk, inode, want))
		return false;
	return !S_ISREG(st.st_mode) || compare_content(walk, inode, want, other);
}

bool state_matches(struct pml_fs *fs, const struct state *state, const struct state *other,
		   const struct state_blur *blur, const char **ret_difference)
{
	static char difference[512];
	struct walk walk = {
		.fs = fs,
		.visit = compare_entry,
		.want = state,
		.other = other,
		.blur = blur,
	};
	bool is_good = walk_all(&walk);
	if (is_good && walk.at < state->n)
		is_good = differ(&walk, "%s is missing", state->entry[walk.at].path);
	(void)snprintf(difference, sizeof(difference), "%s", walk.difference);
	*ret_difference = difference;
	return is_good;
}
