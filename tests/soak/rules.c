/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * rules.c -- what an operation must answer, and what it makes of the model
 *
 * The errors are in the order in which Linux finds them (fs/namei.c, fs/open.c,
 * fs/read_write.c); the workers are root, so permissions are never in the way.
 */
#include "rules.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <stdio.h>
#include <string.h>
#include <sys/xattr.h>

#include "acls.h"

static uint64_t min_u64(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

static uint64_t max_u64(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

bool op_has_source(const struct op *op)
{
	return op->kind == COPY || op->kind == CLONE || op->kind == DEDUPE;
}

bool op_is_range(const struct op *op)
{
	return op->kind >= CLONE && op->kind <= UNSHARE;
}

/* ---- what must be answered ---------------------------------------------- */

static struct node *named(const struct op *op)
{
	return op->node == NODE_NONE ? NULL : node_of(op->tree, op->node);
}

static struct node *named2(const struct op *op)
{
	return op->node2 == NODE_NONE ? NULL : node_of(op->tree2, op->node2);
}

static int expect_open(const struct node *n, int flags)
{
	bool writes = (flags & O_ACCMODE) != O_RDONLY;
	if (!n)
		return flags & O_CREAT ? 0 : ENOENT;
	if ((flags & (O_CREAT | O_EXCL)) == (O_CREAT | O_EXCL))
		return EEXIST;
	if (S_ISLNK(n->type))
		return ELOOP; /* O_NOFOLLOW */
	if (S_ISDIR(n->type) && (writes || (flags & O_CREAT)))
		return EISDIR;
	return 0;
}

static int expect_rename(const struct op *op)
{
	const struct node *from = named(op), *to = named2(op);
	if (!from)
		return ENOENT;
	if (to && (op->flags & RENAME_NOREPLACE))
		return EEXIST;
	if (!to && (op->flags & RENAME_EXCHANGE))
		return ENOENT;
	if (S_ISDIR(from->type) && is_below(op->tree, op->dir2, op->node))
		return EINVAL;
	if (to && S_ISDIR(to->type) && is_below(op->tree, op->dir, op->node2))
		return op->flags & RENAME_EXCHANGE ? EINVAL : ENOTEMPTY;
	if (!to || from == to || (op->flags & RENAME_EXCHANGE))
		return 0;
	if (S_ISDIR(from->type) && !S_ISDIR(to->type))
		return ENOTDIR;
	if (!S_ISDIR(from->type) && S_ISDIR(to->type))
		return EISDIR;
	return S_ISDIR(to->type) && entries_of(to) > 0 ? ENOTEMPTY : 0;
}

static int expect_name_op(const struct op *op)
{
	const struct node *n = named(op);
	switch (op->kind) {
	case CREATE:
		return expect_open(n, op->flags);
	case MKDIR:
	case MKNOD:
	case SYMLINK:
		return n ? EEXIST : 0;
	case TMPFILE:
		/* linkat(2): what was opened with O_EXCL gets no name. */
		return n ? EEXIST : op->flags & O_EXCL ? ENOENT : 0;
	case SNAPSHOT:
		return named2(op) ? EEXIST : 0;
	case LINK:
		return !n ? ENOENT : named2(op) ? EEXIST : S_ISDIR(n->type) ? EPERM : 0;
	case UNLINK:
		return !n ? ENOENT : S_ISDIR(n->type) ? EISDIR : 0;
	case RMDIR:
		return !n ? ENOENT : !S_ISDIR(n->type) ? ENOTDIR : entries_of(n) ? ENOTEMPTY : 0;
	default:
		return expect_rename(op);
	}
}

/* A link that points at a name beside it, and so on. */
static int expect_follow(const struct op *op)
{
	int node = op->node;
	for (int hops = 0; node != NODE_NONE && S_ISLNK(node_of(op->tree, node)->type); hops++) {
		if (hops == 40)
			return ELOOP;
		node = node_of(op->tree, op->dir)->entry[node_of(op->tree, node)->target];
	}
	return node == NODE_NONE ? ENOENT : 0;
}

static int expect_xattr_op(const struct op *op)
{
	const struct node *n = named(op);
	if (!n)
		return ENOENT;
	bool is_set = n->attribute[op->at].is_set;
	if (op->kind == SETXATTR)
		return is_set && op->flags == XATTR_CREATE     ? EEXIST
		       : !is_set && op->flags == XATTR_REPLACE ? ENODATA
							       : 0;
	return op->kind == LISTXATTR || is_set ? 0 : ENODATA;
}

/* ---- other users --------------------------------------------------------- */

/* May each directory on the way be searched? */
static bool is_reachable(const struct op *op)
{
	int dir = op->dir;
	while (acl_allows(node_of(op->tree, dir), op->uid, op->gid, 1)) {
		if (dir == 0)
			return true;
		dir = node_of(op->tree, dir)->parent;
	}
	return false;
}

static int expect_permit(const struct op *op)
{
	static const unsigned int wanted[] = {[OPEN_READ] = 4, [OPEN_WRITE] = 2, [OPEN_BOTH] = 6};
	const struct node *dir = node_of(op->tree, op->dir), *n = named(op);
	if (!is_reachable(op))
		return EACCES;
	if (!n)
		return ENOENT;
	switch (op->flags) {
	case OPEN_WRITE:
	case OPEN_BOTH:
		if (S_ISDIR(n->type))
			return EISDIR;
		/* fall through */
	case OPEN_READ:
		return acl_allows(n, op->uid, op->gid, wanted[op->flags]) ? 0 : EACCES;
	case CHANGE_MODE:
	case SET_ACL:
		return EPERM; /* not the owner */
	case REMOVE_NAME:
		/* Sticky, and neither's owner. */
		return acl_allows(dir, op->uid, op->gid, 3) ? EPERM : EACCES;
	default:
		return 0;
	}
}

bool op_is_forbidden(const struct op *op)
{
	const struct node *dir = node_of(op->tree, op->dir), *n = named(op);
	if (!is_reachable(op) || !n)
		return true;
	if (op->flags == CHANGE_MODE || op->flags == SET_ACL)
		return n->uid != op->uid;
	return !acl_allows(dir, op->uid, op->gid, 3) ||
	       ((dir->mode & S_ISVTX) && n->uid != op->uid && dir->uid != op->uid);
}

/* The access that a data operation has through its slot, or opens with by path: always enough. */
static bool slot_allows(const struct op *op, const struct worker *worker, bool writes)
{
	if (op->slot < 0)
		return true;
	int access = worker->slot[op->slot].flags & O_ACCMODE;
	return access == O_RDWR || access == (writes ? O_WRONLY : O_RDONLY);
}

static int expect_copy(const struct op *op)
{
	const struct node *from = named2(op);
	if (named(op) != from)
		return 0;
	/* Within one file: what is really copied may not overlap. */
	uint64_t bytes = op->at2 < from->size ? min_u64(op->bytes, from->size - op->at2) : 0;
	return op->at2 < op->at + bytes && op->at < op->at2 + bytes ? EINVAL : 0;
}

/* pmemleasefs/ioctl.h: a length that is no multiple of a block ends where both files do. */
static int expect_clone(const struct op *op)
{
	const struct node *to = named(op), *from = named2(op);
	if (op->at2 + op->bytes > from->size)
		return EINVAL;
	if (op->bytes % BLOCK &&
	    (op->at2 + op->bytes != from->size || op->at + op->bytes < to->size))
		return EINVAL;
	return expect_copy(op);
}

static int expect_data_op(const struct op *op, const struct worker *worker)
{
	const struct node *n = named(op);
	switch (op->kind) {
	case READ:
		return slot_allows(op, worker, false) ? 0 : EBADF;
	case WRITE:
		return slot_allows(op, worker, true) ? 0 : EBADF;
	case TRUNCATE:
		if (op->slot >= 0)
			return slot_allows(op, worker, true) ? 0 : EINVAL;
		return !n ? ENOENT : S_ISDIR(n->type) ? EISDIR : !S_ISREG(n->type) ? EINVAL : 0;
	case ALLOCATE:
	case RELOCATE:
		return slot_allows(op, worker, true) ? 0 : EBADF;
	case MMAP_READ:
		return slot_allows(op, worker, false) ? 0 : EACCES;
	case MMAP_WRITE:
		return slot_allows(op, worker, false) && slot_allows(op, worker, true) ? 0 : EACCES;
	case COPY:
		return expect_copy(op);
	case CLONE:
		return expect_clone(op);
	case COLLAPSE:
		return op->at + op->bytes >= n->size ? EINVAL : 0;
	case INSERT:
		return op->at >= n->size ? EINVAL : 0;
	case SEEK:
		return op->at >= n->size ? ENXIO : 0;
	default:
		return 0;
	}
}

int op_expect(const struct op *op, const struct worker *worker)
{
	switch (op->kind) {
	case CREATE:
	case MKDIR:
	case MKNOD:
	case SYMLINK:
	case LINK:
	case UNLINK:
	case RMDIR:
	case RENAME:
	case TMPFILE:
	case SNAPSHOT:
		return expect_name_op(op);
	case CHMOD:
	case CHOWN:
	case UTIMENS:
	case STAT:
		return op->node == NODE_NONE ? ENOENT : 0;
	case FOLLOW:
		return expect_follow(op);
	case SETXATTR:
	case GETXATTR:
	case REMOVEXATTR:
	case LISTXATTR:
		return expect_xattr_op(op);
	case SETACL:
		return op->node == NODE_NONE			  ? ENOENT
		       : op->at == 1 && !S_ISDIR(named(op)->type) ? EACCES
								  : 0;
	case GETACL:
		return op->node == NODE_NONE ? ENOENT : named(op)->acl[op->at].is_set ? 0 : ENODATA;
	case REMOVEACL:
		return op->node == NODE_NONE ? ENOENT : 0;
	case PERMIT:
		return expect_permit(op);
	case OPEN:
		return expect_open(named(op), op->flags);
	default:
		return expect_data_op(op, worker);
	}
}

bool op_may_lack_space(const struct op *op)
{
	switch (op->kind) {
	case UNLINK:
	case RMDIR:
	case CHMOD:
	case CHOWN:
	case UTIMENS:
	case STAT:
	case FOLLOW:
	case GETXATTR:
	case REMOVEXATTR:
	case LISTXATTR:
	case GETACL:
	case REMOVEACL:
	case PERMIT:
	case READDIR:
	case CLOSE:
	case READ:
	case MMAP_READ:
	case RELOCATE:
	case SEEK:
	case SYNC:
		return false;
	case TRUNCATE:
		return named(op) && op->at > named(op)->size;
	default:
		return true;
	}
}

uint64_t op_all(const struct op *op)
{
	uint64_t size;
	switch (op->kind) {
	case READ:
		size = named(op)->size;
		return op->at < size ? min_u64(op->bytes, size - op->at) : 0;
	case COPY:
		size = named2(op)->size;
		return op->at2 < size ? min_u64(op->bytes, size - op->at2) : 0;
	default:
		return op->bytes;
	}
}

/* ---- what becomes of the model ------------------------------------------ */

static void set_moved(struct span *span, const struct op *op)
{
	*span = (struct span){op->begin_ns, now_ns()};
}

static void move_ctime(struct node *n, const struct op *op)
{
	set_moved(&n->ctime, op);
}

static void move_both(struct node *n, const struct op *op)
{
	set_moved(&n->ctime, op);
	set_moved(&n->mtime, op);
}

void set_mapping(struct node *file, uint64_t first, uint64_t end, enum mapping mapping)
{
	for (uint64_t b = first / BLOCK; b < FILE_BLOCKS && b * BLOCK < end; b++)
		file->mapping[b] = (uint8_t)mapping;
}

static void set_entry(struct node *dir, int name, int node)
{
	dir->entry[name] = node;
	dir->changes[name]++;
}

static void apply_new(const struct op *op, uint32_t type, uint32_t mode)
{
	struct node *dir = node_of(op->tree, op->dir);
	struct node *n = node_of(op->tree, op->fresh);
	n->type = type;
	n->mode = mode;
	n->born_ns = op->begin_ns;
	n->gid = dir->mode & S_ISGID ? dir->gid : 0;
	n->nlink = 1;
	n->parent = op->dir;
	for (int i = 0; i < NAMES; i++)
		n->entry[i] = NODE_NONE;
	if (type == S_IFDIR) {
		n->nlink = 2;
		n->mode |= dir->mode & S_ISGID;
		dir->nlink++;
	}
	move_both(n, op);
	n->atime = n->mtime;
	acl_inherit(n, dir);
	set_entry(dir, op->name, op->fresh);
	move_both(dir, op);
}

static void apply_size(struct node *n, uint8_t *data, uint64_t size)
{
	if (size < n->size) {
		memset(data + size, 0, n->size - size);
		set_mapping(n, (size + BLOCK - 1) / BLOCK * BLOCK, FILE_MAX, HOLE);
	}
	n->size = size;
}

static void apply_open(const struct op *op)
{
	struct node *n = named(op);
	if (!n) {
		apply_new(op, S_IFREG, op->mode);
	} else if (op->flags & O_TRUNC) {
		apply_size(n, data_of(op->tree, op->node), 0);
		move_both(n, op);
	}
}

static void drop_name(const struct op *op, int dir, int name)
{
	struct node *d = node_of(op->tree, dir);
	int node = d->entry[name];
	struct node *n = node_of(op->tree, node);
	set_entry(d, name, NODE_NONE);
	move_both(d, op);
	move_ctime(n, op);
	n->nlink--;
	if (S_ISDIR(n->type)) {
		n->nlink = 0;
		d->nlink--;
	}
	node_drop(op->tree, node);
}

static void put_name(const struct op *op, int dir, int name, int node)
{
	struct node *d = node_of(op->tree, dir);
	struct node *n = node_of(op->tree, node);
	set_entry(d, name, node);
	move_both(d, op);
	move_ctime(n, op);
	if (S_ISDIR(n->type)) {
		n->parent = dir;
		d->nlink++;
	}
}

/* What was there goes; the clone of a file shares what it can. */
static void clone_node(const struct op *op, int from, int to)
{
	struct node *n = node_of(op->tree, to);
	pthread_mutex_t lock = n->lock;
	*n = *node_of(op->tree, from);
	n->lock = lock;
	n->opens = 0;
	n->ino = 0;
	n->born_ns = op->begin_ns;
	move_ctime(n, op);
	if (!S_ISREG(n->type))
		return;
	memcpy(data_of(op->tree, to), data_of(op->tree, from), n->size);
	for (uint64_t b = 0; b < FILE_BLOCKS; b++) {
		if (b * BLOCK >= n->size)
			n->mapping[b] = HOLE;
		else if (n->mapping[b] == UNWRITTEN)
			n->mapping[b] = ANY;
	}
}

static void apply_snapshot(const struct op *op)
{
	int from[NODES], clone_of[NODES] = {0};
	int n = below_of(op->tree, op->node, from);
	for (int i = 0, to = 0; i < n; i++) {
		while (node_of(op->tree, to)->type != 0)
			to++;
		clone_node(op, from[i], to);
		clone_of[from[i]] = to;
		/* Counted by the names below. */
		node_of(op->tree, to)->nlink = S_ISDIR(node_of(op->tree, to)->type) ? 2 : 0;
	}
	for (int i = 0; i < n; i++) {
		struct node *dir = node_of(op->tree, clone_of[from[i]]);
		for (int e = 0; S_ISDIR(dir->type) && e < NAMES; e++) {
			if (dir->entry[e] == NODE_NONE)
				continue;
			dir->entry[e] = clone_of[dir->entry[e]];
			struct node *child = node_of(op->tree, dir->entry[e]);
			if (S_ISDIR(child->type)) {
				child->parent = clone_of[from[i]];
				dir->nlink++;
			} else {
				child->nlink++;
			}
		}
	}
	struct node *top = node_of(op->tree, clone_of[op->node]);
	struct node *dir = node_of(op->tree, op->dir2);
	top->parent = op->dir2;
	set_entry(dir, op->name2, clone_of[op->node]);
	dir->nlink++;
	move_both(dir, op);
}

static void take_name(const struct op *op, int dir, int name)
{
	struct node *d = node_of(op->tree, dir);
	if (S_ISDIR(node_of(op->tree, d->entry[name])->type))
		d->nlink--;
	set_entry(d, name, NODE_NONE);
	move_both(d, op);
}

static void apply_rename(const struct op *op)
{
	if (op->node == op->node2)
		return; /* two names of one file, or one name */
	take_name(op, op->dir, op->name);
	if (op->flags & RENAME_EXCHANGE) {
		take_name(op, op->dir2, op->name2);
		put_name(op, op->dir, op->name, op->node2);
	} else if (op->node2 != NODE_NONE) {
		drop_name(op, op->dir2, op->name2);
	}
	put_name(op, op->dir2, op->name2, op->node);
	if (op->flags & RENAME_WHITEOUT)
		apply_new(op, S_IFCHR, 0);
}

static void apply_name_op(const struct op *op)
{
	static char target[PATH_BYTES];
	struct node *fresh = node_of(op->tree, op->fresh);
	switch (op->kind) {
	case CREATE:
		apply_open(op);
		break;
	case MKDIR:
		apply_new(op, S_IFDIR, op->mode & 01777);
		break;
	case MKNOD:
		apply_new(op, (uint32_t)op->flags, op->mode);
		fresh->rdev = S_ISCHR(op->flags) ? op->at : 0;
		break;
	case SYMLINK:
		apply_new(op, S_IFLNK, 0777);
		target_text(op->name2, op->fill, target);
		fresh->target = op->name2;
		fresh->size = strlen(target);
		break;
	case LINK:
		put_name(op, op->dir2, op->name2, op->node);
		named(op)->nlink++;
		break;
	case TMPFILE:
		apply_new(op, S_IFREG, op->mode);
		fill_bytes(data_of(op->tree, op->fresh), op->bytes, op->fill);
		set_mapping(fresh, 0, op->bytes, DATA);
		fresh->size = op->bytes;
		break;
	case SNAPSHOT:
		apply_snapshot(op);
		break;
	case UNLINK:
	case RMDIR:
		drop_name(op, op->dir, op->name);
		break;
	default:
		apply_rename(op);
		break;
	}
}

/* Each link on the way has been read. */
static void apply_follow(const struct op *op)
{
	int node = op->node;
	for (int hops = 0; hops < 40 && node != NODE_NONE; hops++) {
		struct node *n = node_of(op->tree, node);
		if (!S_ISLNK(n->type))
			return;
		may_have_moved(&n->atime, op->begin_ns);
		node = node_of(op->tree, op->dir)->entry[n->target];
	}
}

static void apply_attribute_op(const struct op *op)
{
	const struct acl acl = acl_of_op(op);
	struct node *n = named(op);
	switch (op->kind) {
	case CHMOD:
		n->mode = op->mode;
		acl_follow_mode(n);
		break;
	case CHOWN:
		n->uid = op->uid;
		n->gid = op->gid;
		/* As setattr_should_drop_suidgid() has it (fs/attr.c), for root. */
		if (!S_ISDIR(n->type))
			n->mode &= ~(uint32_t)(S_ISUID | (n->mode & S_IXGRP ? S_ISGID : 0));
		break;
	case UTIMENS:
		if (op->flags & 1)
			n->atime = (struct span){(int64_t)op->at, (int64_t)op->at};
		if (op->flags & 2)
			n->mtime = (struct span){(int64_t)op->at2, (int64_t)op->at2};
		break;
	case SETXATTR:
		n->attribute[op->at] = (struct attribute){true, (uint32_t)op->bytes, op->fill};
		break;
	case REMOVEXATTR:
		n->attribute[op->at].is_set = false;
		break;
	case FOLLOW:
		apply_follow(op);
		return;
	case SETACL:
		acl_set(n, (int)op->at, &acl);
		break;
	case REMOVEACL:
		/* Whether removing what is not there is a change is open. */
		if (!n->acl[op->at].is_set) {
			may_have_moved(&n->ctime, op->begin_ns);
			return;
		}
		n->acl[op->at].is_set = false;
		break;
	default:
		return;
	}
	move_ctime(n, op);
}

static void apply_allocate(const struct op *op)
{
	struct node *n = named(op);
	uint8_t *data = data_of(op->tree, op->node);
	uint64_t end = op->at + op->bytes;
	if (op->flags & (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE)) {
		if (op->at < n->size)
			memset(data + op->at, 0, min_u64(end, n->size) - op->at);
		bool is_punch = op->flags & FALLOC_FL_PUNCH_HOLE;
		if (!is_punch)
			set_mapping(n, op->at, end, ANY);
		uint64_t first = (op->at + BLOCK - 1) / BLOCK * BLOCK;
		if (is_punch && first < end / BLOCK * BLOCK)
			set_mapping(n, first, end / BLOCK * BLOCK, HOLE);
		/* Whoever punches to the end may take the whole last block. */
		if (is_punch && end >= n->size && n->mapping[(end - 1) / BLOCK] != HOLE)
			set_mapping(n, end - 1, end, ANY);
	} else {
		for (uint64_t b = op->at / BLOCK; b * BLOCK < end; b++)
			if (n->mapping[b] == HOLE)
				n->mapping[b] = UNWRITTEN;
	}
	if (!(op->flags & FALLOC_FL_KEEP_SIZE))
		n->size = max_u64(n->size, end);
	move_both(n, op);
}

/* Are the source's blocks behind this block of the destination all written? */
static enum mapping mapping_of_copy(const struct op *op, uint64_t block)
{
	const struct node *from = named2(op);
	int64_t shift = (int64_t)op->at2 - (int64_t)op->at;
	int64_t first = (int64_t)(block * BLOCK) + shift;
	int64_t end = first + BLOCK - 1;
	if (first < 0 || end >= (int64_t)FILE_MAX)
		return ANY;
	return from->mapping[first / BLOCK] == DATA && from->mapping[end / BLOCK] == DATA ? DATA
											  : ANY;
}

static void apply_copy(const struct op *op, uint64_t done)
{
	struct node *n = named(op);
	uint8_t *to = data_of(op->tree, op->node);
	if (done == 0)
		return;
	for (uint64_t b = op->at / BLOCK; b * BLOCK < op->at + done; b++) {
		bool is_whole = b * BLOCK >= op->at && (b + 1) * BLOCK <= op->at + done;
		enum mapping mapping = mapping_of_copy(op, b);
		n->mapping[b] = is_whole || mapping == DATA ? (uint8_t)mapping : (uint8_t)ANY;
	}
	memmove(to + op->at, data_of(op->tree2, op->node2) + op->at2, done);
	n->size = max_u64(n->size, op->at + done);
	move_both(n, op);
}

static void apply_collapse(const struct op *op)
{
	struct node *n = named(op);
	uint8_t *data = data_of(op->tree, op->node);
	uint64_t block = op->at / BLOCK, nblocks = op->bytes / BLOCK;
	memmove(data + op->at, data + op->at + op->bytes, n->size - op->at - op->bytes);
	memset(data + n->size - op->bytes, 0, op->bytes);
	memmove(n->mapping + block, n->mapping + block + nblocks, FILE_BLOCKS - block - nblocks);
	set_mapping(n, FILE_MAX - op->bytes, FILE_MAX, HOLE);
	n->size -= op->bytes;
	move_both(n, op);
}

static void apply_insert(const struct op *op)
{
	struct node *n = named(op);
	uint8_t *data = data_of(op->tree, op->node);
	uint64_t block = op->at / BLOCK, nblocks = op->bytes / BLOCK;
	memmove(data + op->at + op->bytes, data + op->at, n->size - op->at);
	memset(data + op->at, 0, op->bytes);
	memmove(n->mapping + block + nblocks, n->mapping + block, FILE_BLOCKS - block - nblocks);
	set_mapping(n, op->at, op->at + op->bytes, HOLE);
	n->size += op->bytes;
	move_both(n, op);
}

static bool is_same(const struct op *op)
{
	return memcmp(data_of(op->tree, op->node) + op->at, data_of(op->tree2, op->node2) + op->at2,
		      op->bytes) == 0;
}

static void apply_data_op(const struct op *op, uint64_t done)
{
	struct node *n = named(op);
	/* relatime decides whether these have read: a page is, before it is stored to. */
	if (op_has_source(op))
		may_have_been_read(named2(op), op->begin_ns);
	if (op->kind == MMAP_WRITE || op->kind == MMAP_READ || op->kind == READ ||
	    op->kind == DEDUPE)
		may_have_been_read(n, op->begin_ns);
	switch (op->kind) {
	case WRITE:
	case MMAP_WRITE:
		if (done == 0)
			return;
		fill_bytes(data_of(op->tree, op->node) + op->at, done, op->fill);
		set_mapping(n, op->at, op->at + done, DATA);
		n->size = max_u64(n->size, op->at + done);
		move_both(n, op);
		break;
	case TRUNCATE:
		if (op->at == n->size)
			/* Blocks behind the end may go; truncate(2) need not touch the times. */
			may_have_moved(&n->ctime, op->begin_ns),
				may_have_moved(&n->mtime, op->begin_ns);
		else
			move_both(n, op);
		for (uint64_t b = (n->size + BLOCK - 1) / BLOCK; b < FILE_BLOCKS; b++)
			if (n->mapping[b] != HOLE && op->at == n->size)
				n->mapping[b] = ANY;
		apply_size(n, data_of(op->tree, op->node), op->at);
		break;
	case ALLOCATE:
		apply_allocate(op);
		break;
	case COPY:
	case CLONE:
		apply_copy(op, done);
		break;
	case DEDUPE:
		/* Where they were zeros, either may have had the blocks. */
		if (is_same(op))
			set_mapping(n, op->at, op->at + op->bytes, ANY);
		break;
	case COLLAPSE:
		apply_collapse(op);
		break;
	case INSERT:
		apply_insert(op);
		break;
	case UNSHARE:
		may_have_moved(&n->mtime, op->begin_ns);
		may_have_moved(&n->ctime, op->begin_ns);
		break;
	default:
		break;
	}
}

void op_apply(const struct op *op, uint64_t done)
{
	if (op->kind <= SNAPSHOT)
		apply_name_op(op);
	else if (op->kind == OPEN)
		apply_open(op);
	else if (op->kind <= PERMIT)
		apply_attribute_op(op);
	else if (op->kind >= READ)
		apply_data_op(op, done);
	else if (op->kind == READDIR)
		may_have_moved(&node_of(op->tree, op->dir)->atime, op->begin_ns);
}

int op_touches(const struct op *op, int *ret_nodes)
{
	int n = 0;
	if ((op->slot < 0 || op->kind == OPEN) && op->dir != NODE_NONE)
		ret_nodes[n++] = op->dir;
	if (op->node != NODE_NONE)
		ret_nodes[n++] = op->node;
	if (op->dir2 != NODE_NONE && !op_has_source(op))
		ret_nodes[n++] = op->dir2;
	if (op->node2 != NODE_NONE && !op_has_source(op))
		ret_nodes[n++] = op->node2;
	/* The nodes of a snapshot are the first that are free, in the order of numbers. */
	for (int i = 0; op->kind == SNAPSHOT && i < NODES; i++)
		if (node_of(op->tree, i)->born_ns == op->begin_ns ||
		    node_of(op->tree, i)->type == 0)
			ret_nodes[n++] = i;
	if (op->fresh != NODE_NONE)
		ret_nodes[n++] = op->fresh;
	return n;
}
