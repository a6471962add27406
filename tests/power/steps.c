/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * steps.c -- scripts of operations, and how they are carried out
 */
#include "steps.h"

#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/sysmacros.h>

#include "../tap.h"

#define SEGMENTS_MAX 64u

struct stepper {
	struct pml_fs *fs;
	struct pml_inode *held;
	unsigned int count; /* of steps: makes their bytes differ */
	struct pml_segment segment[SEGMENTS_MAX];
	size_t nsegments;
	struct pml_inode *pinned;
	uint64_t pinned_first;
	uint64_t pinned_end;
};

/* ---- names ------------------------------------------------------------------ */

static int look_up(struct pml_fs *fs, const char *path, struct pml_inode **ret_inode)
{
	struct pml_inode *inode;
	int err = pml_inode_get(fs, PML_ROOT_INO, &inode);
	char copy[512];
	char *rest = copy;
	(void)snprintf(copy, sizeof(copy), "%s", path);
	for (char *name; !err && (name = strsep(&rest, "/")) && *name;) {
		struct pml_inode *child;
		err = pml_dir_lookup(inode, name, &child);
		pml_inode_put(inode, 1);
		inode = err ? NULL : child;
	}
	if (!err)
		*ret_inode = inode;
	return err;
}

/* The directory of @path, and the last name in it. */
static int look_up_dir(struct pml_fs *fs, const char *path, struct pml_inode **ret_dir,
		       const char **ret_name)
{
	char dir[512] = "";
	const char *slash = strrchr(path, '/');
	if (slash)
		(void)snprintf(dir, sizeof(dir), "%.*s", (int)(slash - path), path);
	*ret_name = slash ? slash + 1 : path;
	return look_up(fs, dir, ret_dir);
}

/* ---- one call each ---------------------------------------------------------- */

static int create(struct pml_fs *fs, const char *path, mode_t mode, const char *target)
{
	struct pml_inode *dir, *inode;
	const char *name;
	int err = look_up_dir(fs, path, &dir, &name);
	if (err)
		return err;
	const struct pml_create_args args = {
		.mode = mode,
		.rdev = makedev(4, 64),
		.target = target,
	};
	err = pml_dir_create(dir, name, &args, &inode);
	if (!err)
		pml_inode_put(inode, 1);
	pml_inode_put(dir, 1);
	return err;
}

static int remove_name(struct pml_fs *fs, const struct step *step)
{
	struct pml_inode *dir;
	const char *name;
	int err = look_up_dir(fs, step->a, &dir, &name);
	if (err)
		return err;
	err = step->op == STEP_RMDIR ? pml_dir_rmdir(dir, name) : pml_dir_unlink(dir, name);
	pml_inode_put(dir, 1);
	return err;
}

static int rename_name(struct pml_fs *fs, const struct step *step)
{
	struct pml_inode *from, *to;
	const char *name, *new_name;
	int err = look_up_dir(fs, step->a, &from, &name);
	if (err)
		return err;
	err = look_up_dir(fs, step->b, &to, &new_name);
	if (!err) {
		err = pml_dir_rename(from, name, to, new_name, step->mode);
		pml_inode_put(to, 1);
	}
	pml_inode_put(from, 1);
	return err;
}

static int link_name(struct pml_fs *fs, struct pml_inode *inode, const struct step *step)
{
	struct pml_inode *dir;
	const char *name;
	int err = look_up_dir(fs, step->b, &dir, &name);
	if (err)
		return err;
	err = pml_dir_link(dir, name, inode);
	pml_inode_put(dir, 1);
	return err;
}

static int set_attributes(struct pml_inode *inode, const struct step *step)
{
	const struct stat st = {
		.st_mode = 0640,
		.st_uid = 1000,
		.st_gid = 1001,
		.st_atim = {1000000000, 123456789},
		.st_mtim = {2000000000, 987654321},
	};
	return pml_inode_set(inode, step->mode, &st);
}

/* Bytes that no other step writes, and none is zero. */
static void fill(uint8_t *data, size_t bytes, unsigned int count)
{
	for (size_t i = 0; i < bytes; i++)
		data[i] = (uint8_t)(1 + (count * 37 + i / 8 * 7 + i) % 255);
}

static int write_data(const struct stepper *s, struct pml_inode *inode, const struct step *step)
{
	pml_auto_free uint8_t *data = malloc(step->bytes);
	if (!data)
		BAIL_OUT("no memory");
	fill(data, step->bytes, s->count);
	return pml_file_write(inode, data, step->bytes, step->at, step->op == STEP_APPEND, NULL);
}

static int clone(struct pml_fs *fs, struct pml_inode *src, const struct step *step)
{
	struct pml_inode *dst;
	uint64_t done;
	bool is_same = true;
	int err = look_up(fs, step->b, &dst);
	if (err)
		return err;
	if (step->op == STEP_CLONE)
		err = pml_file_clone(src, step->at, dst, step->to, step->bytes, NULL, &done);
	else
		err = pml_file_dedupe(src, step->at, dst, step->to, step->bytes, NULL, &done,
				      &is_same);
	pml_inode_put(dst, 1);
	return !err && !is_same ? -EINVAL : err;
}

static int snapshot(struct pml_fs *fs, struct pml_inode *from, const struct step *step)
{
	struct pml_inode *to;
	const char *name;
	int err = look_up_dir(fs, step->b, &to, &name);
	if (err)
		return err;
	err = pml_dir_snapshot(from, to, name, NULL);
	pml_inode_put(to, 1);
	return err;
}

static int relocate(struct pml_inode *inode)
{
	struct pml_relocation done;
	int err = pml_file_relocate(inode, 0, 0, NULL, &done);
	return !err && !done.moved_bytes ? -EINVAL : err;
}

static int set_xattr(const struct stepper *s, struct pml_inode *inode, const struct step *step)
{
	static const struct pml_cred root;
	pml_auto_free uint8_t *value = malloc(step->bytes + 1);
	if (!value)
		BAIL_OUT("no memory");
	fill(value, step->bytes, s->count);
	return step->bytes ? pml_xattr_set(inode, &root, step->b, value, step->bytes, 0)
			   : pml_xattr_remove(inode, step->b);
}

/* ---- a lease's life --------------------------------------------------------- */

static int refuse(void *guard, const struct pml_layout_change *change, struct pml_waiter *w)
{
	const struct stepper *s = guard;
	bool is_in_the_way = s->pinned && change->ino == pml_inode_ino(s->pinned) &&
			     change->first_byte < s->pinned_end &&
			     s->pinned_first < change->end_byte && !change->writers_only;
	return is_in_the_way ? -EBUSY : 0;
}

static bool may_be_leased(void *guard, uint64_t ino)
{
	const struct stepper *s = guard;
	return s->pinned && pml_inode_ino(s->pinned) == ino;
}

static const struct pml_guard_ops guard_ops = {.admit = refuse, .may_be_leased = may_be_leased};

static int pin(struct stepper *s, struct pml_inode *inode, const struct step *step)
{
	if (s->pinned)
		return -EBUSY;
	uint64_t end;
	enum pml_pin_kind kind = step->op == STEP_PIN ? PML_PIN_WRITE : PML_PIN_READ;
	int err = pml_file_pin(inode, step->at, step->bytes, kind, s->segment, SEGMENTS_MAX,
			       &s->nsegments, &end);
	if (err)
		return err;
	pml_inode_ref(inode);
	s->pinned = inode;
	s->pinned_first = step->at;
	s->pinned_end = end;
	if (kind == PML_PIN_READ)
		pml_fs_set_guard(s->fs, &guard_ops, s);
	return 0;
}

/* As a NIC does: plain stores, in whole words. */
static void store_remotely(const struct stepper *s, const struct step *step)
{
	for (size_t i = 0; i < s->nsegments; i++) {
		const struct pml_segment *seg = &s->segment[i];
		uint64_t first = PML_MAX(seg->first_byte, step->at);
		uint64_t end = PML_MIN(seg->first_byte + seg->len_bytes, step->at + step->bytes);
		if (first < end)
			fill(seg->addr + (first - seg->first_byte), end - first, s->count);
	}
}

static int store_and(const struct stepper *s, struct pml_inode *inode, const struct step *step)
{
	store_remotely(s, step);
	return step->op == STEP_SYNC
		       ? pml_file_sync(inode)
		       : pml_file_commit(inode, step->at, step->bytes, step->to, false, NULL);
}

static void unpin(struct stepper *s)
{
	if (!s->pinned)
		return;
	pml_fs_set_guard(s->fs, NULL, NULL);
	for (size_t i = 0; i < s->nsegments; i++)
		pml_fs_unpin(s->fs, &s->segment[i]);
	s->nsegments = 0;
	pml_file_trim(s->pinned, s->pinned_first, s->pinned_end);
	pml_inode_put(pml_take_ptr(&s->pinned), 1);
}

/* The lease ends without a commit, and then nobody refers to the file for a moment. */
static int end_and_sync(struct stepper *s, const struct step *step)
{
	struct pml_inode *inode;
	store_remotely(s, step);
	unpin(s);
	int err = look_up(s->fs, step->a, &inode);
	if (err)
		return err;
	err = pml_file_sync(inode);
	pml_inode_put(inode, 1);
	return err;
}

/* ---- running a step --------------------------------------------------------- */

static int run_on_inode(struct stepper *s, struct pml_inode *inode, const struct step *step)
{
	switch (step->op) {
	case STEP_LINK:
		return link_name(s->fs, inode, step);
	case STEP_SET:
		return set_attributes(inode, step);
	case STEP_XATTR:
		return set_xattr(s, inode, step);
	case STEP_WRITE:
	case STEP_APPEND:
		return write_data(s, inode, step);
	case STEP_TRUNCATE:
		return pml_file_truncate(inode, step->at, NULL);
	case STEP_ALLOCATE:
		return pml_file_allocate(inode, (int)step->mode, step->at, step->bytes, NULL);
	case STEP_CLONE:
	case STEP_DEDUPE:
		return clone(s->fs, inode, step);
	case STEP_COLLAPSE:
		return pml_file_collapse(inode, step->at, step->bytes, NULL);
	case STEP_INSERT:
		return pml_file_insert(inode, step->at, step->bytes, NULL);
	case STEP_UNSHARE:
		return pml_file_unshare(inode, step->at, step->bytes, NULL);
	case STEP_SNAPSHOT:
		return snapshot(s->fs, inode, step);
	case STEP_RELOCATE:
		return relocate(inode);
	case STEP_LEND:
	case STEP_PIN:
		return pin(s, inode, step);
	case STEP_COMMIT:
	case STEP_SYNC:
		return store_and(s, inode, step);
	default:
		return -EINVAL;
	}
}

int stepper_run(struct stepper *s, const struct step *step)
{
	struct pml_inode *inode;
	int err;
	s->count++;
	switch (step->op) {
	case STEP_CREATE:
		return create(s->fs, step->a, step->mode, step->b);
	case STEP_UNLINK:
	case STEP_RMDIR:
		return remove_name(s->fs, step);
	case STEP_RENAME:
		return rename_name(s->fs, step);
	case STEP_HOLD:
		return look_up(s->fs, step->a, &s->held);
	case STEP_DROP:
		pml_inode_put(pml_take_ptr(&s->held), 1);
		return 0;
	case STEP_UNPIN:
		unpin(s);
		return 0;
	case STEP_END:
		return end_and_sync(s, step);
	default:
		err = look_up(s->fs, step->a, &inode);
		if (err)
			return err;
		err = run_on_inode(s, inode, step);
		pml_inode_put(inode, 1);
		return err;
	}
}

struct stepper *stepper_new(struct pml_fs *fs)
{
	struct stepper *s = calloc(1, sizeof(*s));
	if (!s)
		BAIL_OUT("no memory");
	s->fs = fs;
	return s;
}

void stepper_free(struct stepper *s)
{
	unpin(s);
	if (s->held)
		pml_inode_put(s->held, 1);
	free(s);
}

/* ---- in words --------------------------------------------------------------- */

static const char *const op_names[] = {
	[STEP_CREATE] = "create",
	[STEP_LINK] = "link",
	[STEP_UNLINK] = "unlink",
	[STEP_RMDIR] = "rmdir",
	[STEP_RENAME] = "rename",
	[STEP_SET] = "set attributes of",
	[STEP_XATTR] = "xattr",
	[STEP_HOLD] = "hold",
	[STEP_DROP] = "drop",
	[STEP_WRITE] = "write",
	[STEP_APPEND] = "append",
	[STEP_TRUNCATE] = "truncate",
	[STEP_ALLOCATE] = "allocate",
	[STEP_CLONE] = "clone",
	[STEP_PIN] = "pin",
	[STEP_COMMIT] = "commit",
	[STEP_SYNC] = "sync",
	[STEP_UNPIN] = "unpin",
	[STEP_END] = "end the lease on",
	[STEP_COLLAPSE] = "collapse",
	[STEP_INSERT] = "insert into",
	[STEP_UNSHARE] = "unshare",
	[STEP_DEDUPE] = "dedupe",
	[STEP_SNAPSHOT] = "snapshot of",
	[STEP_RELOCATE] = "relocate",
	[STEP_LEND] = "lend",
};

void step_print(FILE *to, const struct step *step)
{
	fprintf(to, "%s %s%s%s at %" PRIu64 " bytes %" PRIu64 " to %" PRIu64 " mode %#o",
		op_names[step->op], step->a ? step->a : "", step->b ? " " : "",
		step->b ? step->b : "", step->at, step->bytes, step->to, step->mode);
}

/* The bytes that are stored in place. */
static void blur_data(const struct step *step, struct state_blur *blur)
{
	uint64_t first = step->op == STEP_CLONE ? step->to : step->at;
	uint64_t end = first + step->bytes;
	if (step->torn_bytes) {
		first = step->torn_at;
		end = first + step->torn_bytes;
	}
	blur->torn[0].first_byte = first;
	blur->torn[0].end_byte = end;
	if (step->op != STEP_ALLOCATE)
		return;
	/* A punch zeroes the blocks at its edges. */
	blur->torn[0].end_byte = PML_MIN(end, pml_round_up(first, PML_BLOCK_BYTES));
	blur->torn[1].first_byte = PML_MAX(first, pml_round_down(end, PML_BLOCK_BYTES));
	blur->torn[1].end_byte = end;
}

void step_blurs(const struct step *step, const struct state *before, struct state_blur *ret_before,
		struct state_blur *ret_after)
{
	const char *path = step->op == STEP_CLONE ? step->b : step->a;
	struct state_blur none = {.ino = path ? state_ino(before, path) : 0};
	*ret_before = *ret_after = none;
	if (step->leaves & STEP_TORN_BEFORE)
		blur_data(step, ret_before);
	if (step->leaves & STEP_TORN_AFTER)
		blur_data(step, ret_after);
	ret_after->times = (step->leaves & STEP_OLD_TIMES) != 0;
	ret_before->blocks = (step->leaves & STEP_BLOCKS) != 0;
}

/* ---- scripts ---------------------------------------------------------------- */

#define KIB(n) ((n)*1024ull)
#define PUNCH  (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE)

static const struct step names[] = {
	{.op = STEP_CREATE, .a = "f", .mode = S_IFREG | 0644, .rule_name = "create"},
	{.op = STEP_CREATE, .a = "d", .mode = S_IFDIR | 0755},
	{.op = STEP_CREATE, .a = "d/e", .mode = S_IFDIR | 02755},
	{.op = STEP_CREATE, .a = "fifo", .mode = S_IFIFO | 0600},
	{.op = STEP_CREATE, .a = "d/dev", .mode = S_IFCHR | 0600},
	{.op = STEP_CREATE, .a = "sock", .mode = S_IFSOCK | 0600},
	{.op = STEP_CREATE, .a = "l", .b = "short", .mode = S_IFLNK | 0777},
	{.op = STEP_CREATE,
	 .a = "d/long",
	 .b = "a/target/that/takes/more/than/one/line/of/the/cache/and/so/can/be/torn/in/many/"
	      "ways/by/a/power/failure/in/the/middle/of/it/all/and/goes/on/and/on/and/on/for/ever",
	 .mode = S_IFLNK | 0777},
	{.op = STEP_LINK, .a = "f", .b = "d/g", .rule_name = "link"},
	{.op = STEP_SET, .a = "f", .mode = PML_SET_MODE | PML_SET_UID | PML_SET_GID},
	{.op = STEP_SET, .a = "d", .mode = PML_SET_ATIME | PML_SET_MTIME},
	{.op = STEP_RENAME, .a = "f", .b = "h", .rule_name = "rename"},
	{.op = STEP_RENAME, .a = "h", .b = "d/h"},
	{.op = STEP_CREATE, .a = "x", .mode = S_IFREG | 0600},
	{.op = STEP_WRITE, .a = "x", .bytes = 5000},
	{.op = STEP_CREATE, .a = "y", .mode = S_IFREG | 0600},
	{.op = STEP_RENAME, .a = "y", .b = "x", .rule_name = "rename over"},
	{.op = STEP_RENAME, .a = "x", .b = "l", .mode = RENAME_EXCHANGE},
	{.op = STEP_CREATE, .a = "e2", .mode = S_IFDIR | 0755},
	{.op = STEP_RENAME, .a = "e2", .b = "d/e"},
	{.op = STEP_RENAME, .a = "d/e", .b = "e", .mode = RENAME_NOREPLACE},
	{.op = STEP_RENAME, .a = "d", .b = "e/d"},
	{.op = STEP_RENAME, .a = "e/d/h", .b = "fifo", .mode = RENAME_EXCHANGE},
	{.op = STEP_UNLINK, .a = "fifo", .rule_name = "unlink"},
	{.op = STEP_UNLINK, .a = "e/d/long"},
	{.op = STEP_UNLINK, .a = "x"},
	{.op = STEP_CREATE, .a = "open", .mode = S_IFREG | 0600},
	{.op = STEP_WRITE, .a = "open", .bytes = 20000},
	{.op = STEP_HOLD, .a = "open"},
	{.op = STEP_UNLINK, .a = "open"},
	{.op = STEP_CREATE, .a = "later", .mode = S_IFREG | 0600},
	{.op = STEP_DROP},
	{.op = STEP_CREATE, .a = "again", .mode = S_IFREG | 0600},
	{.op = STEP_CREATE, .a = "empty", .mode = S_IFDIR | 0755},
	{.op = STEP_RMDIR, .a = "empty"},
	{.op = STEP_CREATE, .a = "last", .mode = S_IFREG | 0600},
};

static const struct step xattrs[] = {
	{.op = STEP_CREATE, .a = "f", .mode = S_IFREG | 0644},
	{.op = STEP_XATTR, .a = "f", .b = "user.a", .bytes = 20, .rule_name = "new xattr"},
	{.op = STEP_XATTR, .a = "f", .b = "user.long", .bytes = 6000},
	{.op = STEP_XATTR, .a = "f", .b = "user.a", .bytes = 25, .rule_name = "replace xattr"},
	{.op = STEP_XATTR, .a = "f", .b = "trusted.b", .bytes = 300},
	{.op = STEP_CREATE, .a = "g", .mode = S_IFREG | 0644},
	{.op = STEP_XATTR, .a = "g", .b = "user.g", .bytes = 100},
	{.op = STEP_RENAME, .a = "g", .b = "f"},
	{.op = STEP_XATTR, .a = "f", .b = "user.h", .bytes = 65536},
	{.op = STEP_XATTR, .a = "f", .b = "user.g"},
	{.op = STEP_CREATE, .a = "d", .mode = S_IFDIR | 0755},
	{.op = STEP_XATTR, .a = "d", .b = "user.d", .bytes = 10},
	{.op = STEP_HOLD, .a = "f"},
	{.op = STEP_UNLINK, .a = "f"},
	{.op = STEP_DROP},
	{.op = STEP_RMDIR, .a = "d"},
	{.op = STEP_CREATE, .a = "last", .mode = S_IFREG | 0644},
};

static const struct step data[] = {
	{.op = STEP_CREATE, .a = "f", .mode = S_IFREG | 0644},
	{.op = STEP_WRITE, .a = "f", .bytes = 10000, .rule_name = "fill"},
	{.op = STEP_WRITE,
	 .a = "f",
	 .at = 100,
	 .bytes = 300,
	 .leaves = STEP_TORN_BEFORE | STEP_OLD_TIMES,
	 .rule_name = "overwrite"},
	{.op = STEP_APPEND, .a = "f", .bytes = 700, .rule_name = "append"},
	{.op = STEP_WRITE,
	 .a = "f",
	 .at = 3333,
	 .bytes = 4097,
	 .leaves = STEP_TORN_BEFORE | STEP_OLD_TIMES},
	{.op = STEP_WRITE, .a = "f", .at = 40000, .bytes = 100, .rule_name = "gap"},
	{.op = STEP_WRITE,
	 .a = "f",
	 .at = 8192,
	 .bytes = 16384,
	 .leaves = STEP_TORN_AFTER,
	 .torn_at = 8192,
	 .torn_bytes = 4096,
	 .rule_name = "mixed"},
	{.op = STEP_CREATE, .a = "g", .mode = S_IFREG | 0644},
	{.op = STEP_CLONE, .a = "f", .b = "g", .bytes = 40100, .rule_name = "clone"},
	{.op = STEP_WRITE, .a = "g", .at = 5000, .bytes = 200, .rule_name = "copy"},
	{.op = STEP_WRITE,
	 .a = "f",
	 .at = 4096,
	 .bytes = 8192,
	 .leaves = STEP_TORN_AFTER,
	 .torn_at = 4096,
	 .torn_bytes = 4096},
	{.op = STEP_TRUNCATE, .a = "g", .at = 1000},
	{.op = STEP_TRUNCATE, .a = "g", .at = 9000, .rule_name = "grow a copy"},
	{.op = STEP_TRUNCATE, .a = "g", .at = 500},
	{.op = STEP_TRUNCATE, .a = "g", .at = 3000, .rule_name = "grow"},
	{.op = STEP_WRITE,
	 .a = "g",
	 .at = 2000,
	 .bytes = 2000,
	 .leaves = STEP_TORN_AFTER,
	 .torn_at = 2000,
	 .torn_bytes = 1000},
	{.op = STEP_TRUNCATE, .a = "g", .at = 3000},
	{.op = STEP_TRUNCATE, .a = "g", .at = 3000},
	{.op = STEP_CLONE,
	 .a = "f",
	 .b = "g",
	 .at = 4096,
	 .to = 8192,
	 .bytes = 8192,
	 .rule_name = "clone behind the end"},
	{.op = STEP_CLONE,
	 .a = "f",
	 .b = "g",
	 .at = 10,
	 .to = 1010,
	 .bytes = 1500,
	 .leaves = STEP_TORN_BEFORE | STEP_OLD_TIMES},
	{.op = STEP_ALLOCATE,
	 .a = "g",
	 .mode = PUNCH,
	 .at = 8200,
	 .bytes = 4000,
	 .rule_name = "punch a copy"},
	{.op = STEP_ALLOCATE,
	 .a = "f",
	 .mode = PUNCH,
	 .at = 100,
	 .bytes = 20000,
	 .leaves = STEP_TORN_AFTER,
	 .rule_name = "punch"},
	{.op = STEP_ALLOCATE,
	 .a = "f",
	 .mode = PUNCH,
	 .at = 24000,
	 .bytes = 100,
	 .leaves = STEP_TORN_AFTER},
	{.op = STEP_ALLOCATE,
	 .a = "g",
	 .at = 0,
	 .bytes = 65536,
	 .leaves = STEP_BLOCKS,
	 .rule_name = "preallocate"},
	{.op = STEP_WRITE, .a = "g", .at = 30000, .bytes = 3000, .rule_name = "convert"},
	{.op = STEP_ALLOCATE,
	 .a = "g",
	 .mode = FALLOC_FL_KEEP_SIZE,
	 .at = 70000,
	 .bytes = 30000,
	 .leaves = STEP_BLOCKS},
	{.op = STEP_APPEND, .a = "g", .bytes = 10000},
	{.op = STEP_TRUNCATE, .a = "f", .at = 0},
	{.op = STEP_UNLINK, .a = "g"},
	{.op = STEP_WRITE, .a = "f", .at = KIB(1), .bytes = KIB(64)},
	{.op = STEP_SET, .a = "f", .mode = PML_SET_MODE},
};

static const struct step ranges[] = {
	{.op = STEP_CREATE, .a = "f", .mode = S_IFREG | 0644},
	{.op = STEP_WRITE, .a = "f", .bytes = 40000},
	{.op = STEP_CREATE, .a = "g", .mode = S_IFREG | 0644},
	{.op = STEP_CLONE, .a = "f", .b = "g", .bytes = 40000},
	{.op = STEP_ALLOCATE,
	 .a = "f",
	 .mode = FALLOC_FL_ZERO_RANGE,
	 .at = 5000,
	 .bytes = 20000,
	 .leaves = STEP_TORN_AFTER | STEP_BLOCKS,
	 .rule_name = "zero"},
	{.op = STEP_ALLOCATE,
	 .a = "f",
	 .mode = FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE,
	 .at = 60000,
	 .bytes = 10000,
	 .leaves = STEP_BLOCKS},
	{.op = STEP_COLLAPSE, .a = "g", .at = 4096, .bytes = 8192, .rule_name = "collapse"},
	{.op = STEP_INSERT, .a = "g", .at = 8192, .bytes = 12288, .rule_name = "insert"},
	{.op = STEP_COLLAPSE, .a = "f", .at = 0, .bytes = 4096},
	{.op = STEP_WRITE, .a = "g", .at = 10000, .bytes = 9000},
	{.op = STEP_CREATE, .a = "h", .mode = S_IFREG | 0644},
	{.op = STEP_CLONE, .a = "g", .b = "h", .bytes = 44096},
	{.op = STEP_UNSHARE, .a = "h", .bytes = 40960, .rule_name = "unshare"},
	{.op = STEP_DEDUPE, .a = "g", .b = "h", .bytes = 16384},
	{.op = STEP_CREATE, .a = "d", .mode = S_IFDIR | 0755},
	{.op = STEP_LINK, .a = "h", .b = "d/h"},
	{.op = STEP_CREATE, .a = "d/e", .mode = S_IFDIR | 0755},
	{.op = STEP_CREATE, .a = "d/e/l", .b = "target", .mode = S_IFLNK | 0777},
	{.op = STEP_XATTR, .a = "d/e", .b = "user.e", .bytes = 50},
	{.op = STEP_RENAME, .a = "g", .b = "d/e/g"},
	{.op = STEP_SNAPSHOT, .a = "d", .b = "s", .rule_name = "snapshot"},
	{.op = STEP_WRITE, .a = "s/e/g", .at = 100, .bytes = 5000},
	{.op = STEP_UNLINK, .a = "s/e/g"},
	{.op = STEP_UNLINK, .a = "d/h"},
	/* From its end to its beginning: four extents, one of them preallocated. */
	{.op = STEP_CREATE, .a = "k", .mode = S_IFREG | 0644},
	{.op = STEP_WRITE, .a = "k", .at = KIB(16), .bytes = 6000},
	{.op = STEP_ALLOCATE,
	 .a = "k",
	 .mode = FALLOC_FL_KEEP_SIZE,
	 .at = KIB(12),
	 .bytes = KIB(4),
	 .leaves = STEP_BLOCKS},
	{.op = STEP_WRITE, .a = "k", .at = KIB(8), .bytes = KIB(4)},
	{.op = STEP_WRITE, .a = "k", .at = KIB(0), .bytes = KIB(8)},
	{.op = STEP_RELOCATE, .a = "k", .rule_name = "relocate"},
	{.op = STEP_WRITE, .a = "k", .at = KIB(12), .bytes = KIB(4)},
};

static const struct step lease[] = {
	{.op = STEP_CREATE, .a = "f", .mode = S_IFREG | 0644},
	{.op = STEP_WRITE, .a = "f", .bytes = 6000},
	{.op = STEP_CREATE, .a = "g", .mode = S_IFREG | 0644},
	{.op = STEP_CLONE, .a = "f", .b = "g", .bytes = 6000},
	{.op = STEP_TRUNCATE, .a = "f", .at = 30000},
	{.op = STEP_PIN, .a = "f", .bytes = 20000, .leaves = STEP_BLOCKS, .rule_name = "grant"},
	{.op = STEP_COMMIT,
	 .a = "f",
	 .at = 1000,
	 .bytes = 4000,
	 .leaves = STEP_TORN_BEFORE,
	 .rule_name = "commit"},
	{.op = STEP_SYNC,
	 .a = "f",
	 .at = 9000,
	 .bytes = 1000,
	 .leaves = STEP_TORN_BEFORE,
	 .rule_name = "sync"},
	{.op = STEP_SET, .a = "g", .mode = PML_SET_MODE},
	{.op = STEP_UNPIN, .a = "f"},
	{.op = STEP_APPEND, .a = "g", .bytes = 2000},
	{.op = STEP_TRUNCATE, .a = "g", .at = 6000},
	/* Bytes of the append are still behind the end: */
	{.op = STEP_PIN,
	 .a = "g",
	 .at = 4096,
	 .bytes = 20000,
	 .leaves = STEP_BLOCKS,
	 .rule_name = "grant behind the end"},
	{.op = STEP_COMMIT,
	 .a = "g",
	 .at = 8192,
	 .bytes = 6808,
	 .to = 15000,
	 .rule_name = "commit behind the end"},
	{.op = STEP_SET, .a = "g", .mode = PML_SET_UID},
	{.op = STEP_UNPIN, .a = "g", .leaves = STEP_BLOCKS},
	{.op = STEP_PIN, .a = "f", .bytes = 10000, .leaves = STEP_BLOCKS},
	{.op = STEP_END,
	 .a = "f",
	 .at = 4000,
	 .bytes = 1000,
	 .leaves = STEP_TORN_BEFORE,
	 .rule_name = "late sync"},
	{.op = STEP_SET, .a = "g", .mode = PML_SET_MODE},
	{.op = STEP_WRITE,
	 .a = "f",
	 .at = 100,
	 .bytes = 100,
	 .leaves = STEP_TORN_BEFORE | STEP_OLD_TIMES},
	{.op = STEP_SET, .a = "f", .mode = PML_SET_UID},
	/* The others step aside: */
	{.op = STEP_CREATE, .a = "k", .mode = S_IFREG | 0644},
	{.op = STEP_WRITE, .a = "k", .bytes = 30000},
	{.op = STEP_CREATE, .a = "l", .mode = S_IFREG | 0644},
	{.op = STEP_CLONE, .a = "k", .b = "l", .bytes = 30000},
	{.op = STEP_CREATE, .a = "m", .mode = S_IFREG | 0644},
	{.op = STEP_CLONE, .a = "l", .b = "m", .at = 4096, .bytes = 8192},
	{.op = STEP_LEND, .a = "k", .bytes = 30000},
	{.op = STEP_UNSHARE, .a = "k", .bytes = 16384, .rule_name = "step aside"},
	{.op = STEP_SET, .a = "g", .mode = PML_SET_MODE},
	{.op = STEP_WRITE,
	 .a = "k",
	 .at = 15000,
	 .bytes = 9000,
	 .leaves = STEP_TORN_BEFORE | STEP_OLD_TIMES},
	{.op = STEP_TRUNCATE, .a = "k", .at = 31000},
	{.op = STEP_UNPIN, .a = "k"},
	{.op = STEP_UNLINK, .a = "l"},
};

/* Free space that holds what was there before, as on a used device. */
static void prepare_used(struct pml_fs *fs)
{
	static uint8_t old[KIB(512)];
	struct pml_inode *inode;
	memset(old, 0xee, sizeof(old));
	int err = create(fs, "old", S_IFREG | 0644, NULL);
	if (!err)
		err = look_up(fs, "old", &inode);
	if (!err) {
		err = pml_file_write(inode, old, sizeof(old), 0, false, NULL);
		pml_inode_put(inode, 1);
	}
	const struct step removal = {.op = STEP_UNLINK, .a = "old"};
	if (!err)
		err = remove_name(fs, &removal);
	if (err)
		BAIL_OUT("preparing: %s", strerror(-err));
}

/* A file of 600 extents, a directory of two levels, an inode table whose chunk is full. */
static void prepare_large(struct pml_fs *fs)
{
	int err = create(fs, "many", S_IFDIR | 0755, NULL);
	for (unsigned int i = 0; !err && i < 251; i++) {
		char path[64];
		(void)snprintf(path, sizeof(path), "many/%u", i);
		err = create(fs, path, S_IFREG | 0644, NULL);
	}
	if (!err)
		err = create(fs, "frag", S_IFREG | 0644, NULL);
	struct pml_inode *frag;
	if (!err)
		err = look_up(fs, "frag", &frag);
	static uint8_t block[PML_BLOCK_BYTES];
	for (uint64_t i = 0; !err && i < 600; i++) {
		fill(block, sizeof(block), (unsigned int)i);
		err = pml_file_write(frag, block, sizeof(block), i * KIB(8), false, NULL);
	}
	/* Most of the first group is taken. */
	if (!err)
		err = pml_file_allocate(frag, FALLOC_FL_KEEP_SIZE, KIB(8192), KIB(11 * 1024), NULL);
	if (err)
		BAIL_OUT("preparing: %s", strerror(-err));
	pml_inode_put(frag, 1);
}

static const struct step large[] = {
	{.op = STEP_CREATE, .a = "many/a", .mode = S_IFREG | 0644},
	{.op = STEP_CREATE, .a = "many/b", .mode = S_IFREG | 0644},
	{.op = STEP_CREATE, .a = "many/c", .mode = S_IFDIR | 0755, .rule_name = "new chunk"},
	{.op = STEP_CREATE, .a = "many/d", .mode = S_IFREG | 0644},
	{.op = STEP_ALLOCATE,
	 .a = "many/a",
	 .bytes = KIB(6 * 1024),
	 .leaves = STEP_BLOCKS,
	 .rule_name = "new group"},
	{.op = STEP_CLONE, .a = "frag", .b = "many/b", .bytes = KIB(4096)},
	{.op = STEP_WRITE, .a = "frag", .at = KIB(100), .bytes = KIB(30)},
	{.op = STEP_TRUNCATE, .a = "frag", .at = 100, .rule_name = "punch in steps"},
	{.op = STEP_ALLOCATE, .a = "many/b", .mode = PUNCH, .at = 5, .bytes = KIB(4000)},
	{.op = STEP_UNLINK, .a = "many/b"},
	{.op = STEP_UNLINK, .a = "frag"},
	{.op = STEP_UNLINK, .a = "many/a"},
	{.op = STEP_UNLINK, .a = "many/17"},
	{.op = STEP_RMDIR, .a = "many/c"},
};

static void prepare_nothing(struct pml_fs *fs)
{
}

#define SCRIPT(what, how)                                                                          \
	{                                                                                          \
		.name = #what, .prepare = how, .step = what, .n = PML_ARRAY_LEN(what),             \
	}
const struct script scripts[] = {
	SCRIPT(names, prepare_nothing), SCRIPT(xattrs, prepare_nothing),
	SCRIPT(data, prepare_used),	SCRIPT(ranges, prepare_used),
	SCRIPT(lease, prepare_used),	SCRIPT(large, prepare_large),
};
const size_t nscripts = PML_ARRAY_LEN(scripts);

/* ---- at random -------------------------------------------------------------- */

static const char *const paths[] = {"a", "b", "c", "d", "a/a", "a/b", "b/c", "d/d"};

static struct step random_step(unsigned int *seed)
{
	static const enum step_op ops[] = {
		STEP_CREATE,   STEP_CREATE,   STEP_CREATE, STEP_LINK,	STEP_UNLINK,
		STEP_RMDIR,    STEP_RENAME,   STEP_RENAME, STEP_SET,	STEP_WRITE,
		STEP_WRITE,    STEP_WRITE,    STEP_APPEND, STEP_APPEND, STEP_TRUNCATE,
		STEP_ALLOCATE, STEP_ALLOCATE, STEP_CLONE,  STEP_CLONE,
	};
	static const unsigned int modes[] = {0, FALLOC_FL_KEEP_SIZE, PUNCH, FALLOC_FL_ZERO_RANGE};
#define BELOW(n) ((unsigned int)rand_r(seed) % (unsigned int)(n))
	struct step step = {
		.op = ops[BELOW(PML_ARRAY_LEN(ops))],
		.a = paths[BELOW(PML_ARRAY_LEN(paths))],
		.b = paths[BELOW(PML_ARRAY_LEN(paths))],
		.at = BELOW(60000),
		.bytes = 1 + BELOW(20000),
		.to = BELOW(60000),
		.leaves = STEP_MAY_FAIL,
	};
	if (BELOW(2)) {
		step.at = pml_round_down(step.at, PML_BLOCK_BYTES);
		step.to = pml_round_down(step.to, PML_BLOCK_BYTES);
		step.bytes = pml_round_up(step.bytes, PML_BLOCK_BYTES);
	}
	if (step.op == STEP_CREATE) {
		step.mode = BELOW(3) ? S_IFREG | 0644 : S_IFDIR | 0755;
	} else if (step.op == STEP_RENAME) {
		step.mode = BELOW(2) ? 0 : 1 + BELOW(2);
	} else if (step.op == STEP_SET) {
		step.mode = 1 + BELOW(31);
	} else if (step.op == STEP_XATTR) {
		step.b = BELOW(2) ? "user.a" : "user.b";
		step.bytes = BELOW(3) ? 1 + BELOW(5000) : 0;
	} else if (step.op == STEP_ALLOCATE) {
		step.mode = modes[BELOW(4)];
		step.leaves |= STEP_TORN_AFTER | STEP_BLOCKS;
	} else if (step.op == STEP_WRITE || step.op == STEP_CLONE) {
		/* Where it will be in place is not known here. */
		step.leaves |= STEP_TORN_BEFORE | STEP_TORN_AFTER | STEP_OLD_TIMES;
	}
#undef BELOW
	return step;
}

struct script script_random(uint64_t seed, size_t nsteps)
{
	struct step *step = calloc(nsteps, sizeof(*step));
	unsigned int state = (unsigned int)seed;
	if (!step)
		BAIL_OUT("no memory");
	for (size_t i = 0; i < nsteps; i++)
		step[i] = random_step(&state);
	return (struct script){
		.name = "random",
		.prepare = prepare_used,
		.step = step,
		.n = nsteps,
	};
}
