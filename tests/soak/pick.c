/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * pick.c -- draws operations
 *
 * Arguments are drawn freely, so that many operations have to be refused; only what the
 * model cannot hold (too large, too deep, too many) is drawn again.
 */
#include "pick.h"

#include <fcntl.h>
#include <linux/falloc.h>
#include <stdio.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "rules.h"

static uint64_t state;

uint64_t pick_word(void)
{
	/* splitmix64: Steele, Lea, Flood, "Fast splittable pseudorandom number generators". */
	uint64_t z = state += 0x9e3779b97f4a7c15u;
	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
	return z ^ (z >> 31);
}

void pick_seed(uint64_t seed, uint64_t worker, uint64_t count)
{
	state = seed * 1000003 + worker;
	state = pick_word() + count;
	(void)pick_word();
}

uint32_t pick_below(uint32_t n)
{
	return (uint32_t)(pick_word() >> 32) % n;
}

/* ---- kinds -------------------------------------------------------------- */

/* How often, in all KINDS together. */
static const uint8_t weights[KINDS] = {
	[CREATE] = 10,	[MKDIR] = 4,	   [MKNOD] = 2,	    [SYMLINK] = 3,   [LINK] = 4,
	[UNLINK] = 7,	[RMDIR] = 3,	   [RENAME] = 9,    [TMPFILE] = 4,   [SNAPSHOT] = 2,
	[SETACL] = 4,	[GETACL] = 3,	   [REMOVEACL] = 1, [PERMIT] = 6,    [CHMOD] = 2,
	[CHOWN] = 2,	[UTIMENS] = 2,	   [STAT] = 4,	    [FOLLOW] = 2,    [SETXATTR] = 4,
	[GETXATTR] = 2, [REMOVEXATTR] = 2, [LISTXATTR] = 1, [READDIR] = 5,   [OPEN] = 5,
	[CLOSE] = 4,	[READ] = 12,	   [WRITE] = 26,    [MMAP_READ] = 3, [MMAP_WRITE] = 5,
	[TRUNCATE] = 7, [ALLOCATE] = 9,	   [COPY] = 12,	    [SEEK] = 4,	     [CLONE] = 5,
	[DEDUPE] = 5,	[COLLAPSE] = 3,	   [INSERT] = 3,    [UNSHARE] = 2,   [SYNC] = 3,
	[RELOCATE] = 4, [RACE] = 12,
};

static bool is_possible(enum kind kind)
{
	/*
	 * FUSE asks for no space when a page is written to: on a full device what was stored
	 * through a mapping is lost when the kernel writes it back, and msync(2) says so.
	 */
	if (kind == MMAP_WRITE && world->may_be_full)
		return false;
	return world->has_xattr || (kind < SETXATTR || kind > REMOVEACL);
}

void pick_kind(struct op *op, int worker)
{
	uint32_t sum = 0;
	for (int k = 0; k < KINDS; k++)
		sum += weights[k];
	*op = (struct op){.dir = NODE_NONE,
			  .node = NODE_NONE,
			  .dir2 = NODE_NONE,
			  .node2 = NODE_NONE,
			  .fresh = NODE_NONE,
			  .slot = -1};
	do {
		uint32_t at = pick_below(sum);
		int kind = 0;
		while (at >= weights[kind])
			at -= weights[kind++];
		op->kind = (enum kind)kind;
	} while (!is_possible(op->kind));
	op->tree = op->tree2 = worker;
	if (op->kind == OPEN || op->kind == CLOSE || op->kind == READDIR || op->kind == RACE)
		return;
	if (pick_below(4) == 0)
		op->tree = op->tree2 = SHARED_TREE;
	/* Blocks that files of several trees share. */
	if (op_has_source(op) && pick_below(3) == 0)
		op->tree2 = op->tree == SHARED_TREE ? worker : SHARED_TREE;
}

/* ---- targets ------------------------------------------------------------ */

static int pick_node(int tree, uint32_t type)
{
	int found[NODES], n = 0;
	for (int i = 0; i < NODES; i++)
		if (node_of(tree, i)->type == type && node_of(tree, i)->nlink > 0)
			found[n++] = i;
	return n ? found[pick_below((uint32_t)n)] : NODE_NONE;
}

/* Mostly a name that is there. */
static void pick_name(int tree, int *ret_dir, int *ret_name, int *ret_node)
{
	*ret_dir = pick_node(tree, S_IFDIR);
	const struct node *dir = node_of(tree, *ret_dir);
	*ret_name = (int)pick_below(NAMES);
	for (int tries = 0; tries < 4 && dir->entry[*ret_name] == NODE_NONE; tries++)
		*ret_name = (int)pick_below(NAMES);
	*ret_node = dir->entry[*ret_name];
}

/* A slot that has something open; -1: none. */
static int pick_used_slot(const struct worker *worker, bool is_used)
{
	uint32_t first = pick_below(SLOTS);
	for (uint32_t i = 0; i < SLOTS; i++) {
		int slot = (int)((first + i) % SLOTS);
		if ((worker->slot[slot].node != NODE_NONE) == is_used)
			return slot;
	}
	return -1;
}

static bool pick_file(struct op *op, const struct worker *worker)
{
	if (op->tree != SHARED_TREE && pick_below(2) && !op_has_source(op) && !op_is_range(op)) {
		op->slot = pick_used_slot(worker, true);
		if (op->slot >= 0) {
			op->node = worker->slot[op->slot].node;
			return true;
		}
	}
	op->node = pick_node(op->tree, S_IFREG);
	if (op->node == NODE_NONE)
		return false;
	name_of_node(op->tree, op->node, &op->dir, &op->name);
	return true;
}

static bool pick_source(struct op *op)
{
	op->node2 = pick_node(op->tree2, S_IFREG);
	if (op->node2 == NODE_NONE)
		return false;
	name_of_node(op->tree2, op->node2, &op->dir2, &op->name2);
	return true;
}

static bool is_too_deep(const struct op *op)
{
	int there = op->node == NODE_NONE ? 0 : height_of(op->tree, op->node);
	int here = op->node2 == NODE_NONE ? 0 : height_of(op->tree, op->node2);
	return depth_of(op->tree, op->dir2) + there > DEPTH_MAX ||
	       (op->dir != NODE_NONE && depth_of(op->tree, op->dir) + here > DEPTH_MAX);
}

static bool pick_two_names(struct op *op)
{
	static const int flags[] = {0,
				    0,
				    RENAME_NOREPLACE,
				    RENAME_EXCHANGE,
				    RENAME_WHITEOUT,
				    RENAME_WHITEOUT | RENAME_NOREPLACE};
	pick_name(op->tree, &op->dir, &op->name, &op->node);
	pick_name(op->tree, &op->dir2, &op->name2, &op->node2);
	if (op->kind == LINK && pick_below(3))
		op->node2 = node_of(op->tree, op->dir2)->entry[op->name2 = (int)pick_below(NAMES)];
	if (op->kind == RENAME)
		op->flags = flags[pick_below(6)];
	if ((op->flags & RENAME_WHITEOUT) && op->kind == RENAME)
		op->fresh = node_free(op->tree);
	if ((op->flags & RENAME_WHITEOUT) && op->fresh == NODE_NONE)
		return false;
	return !is_too_deep(op);
}

static bool pick_open_flags(struct op *op)
{
	static const int access[] = {O_RDONLY, O_WRONLY, O_RDWR, O_RDWR};
	const struct node *n = op->node == NODE_NONE ? NULL : node_of(op->tree, op->node);
	op->flags = access[pick_below(4)];
	op->flags |= pick_below(2) ? O_CREAT : 0;
	op->flags |= pick_below(3) ? 0 : O_EXCL | O_CREAT;
	op->flags |= pick_below(4) ? 0 : O_DIRECT;
	op->flags |= pick_below(4) ? 0 : O_APPEND;
	op->flags |= pick_below(6) ? 0 : O_SYNC;
	if ((op->flags & O_ACCMODE) != O_RDONLY && pick_below(4) == 0)
		op->flags |= O_TRUNC;
	/* Opening a FIFO or a device is another story; so is a directory that stays open. */
	bool is_openable = !n || S_ISREG(n->type) || S_ISLNK(n->type) ||
			   (S_ISDIR(n->type) && (op->flags & (O_ACCMODE | O_CREAT)));
	return is_openable || (op->flags & (O_CREAT | O_EXCL)) == (O_CREAT | O_EXCL);
}

static bool pick_attributes(struct op *op)
{
	static const int xattr_flags[] = {0, XATTR_CREATE, XATTR_REPLACE};
	const struct node *n = op->node == NODE_NONE ? NULL : node_of(op->tree, op->node);
	if (op->kind == CHMOD && n && S_ISLNK(n->type))
		return false;
	if (op->kind == UTIMENS) {
		op->flags = (int)(1 + pick_below(3));
		/* Up to the year 2100. */
		op->at = pick_word() % 4102444800000000000u;
		op->at2 = pick_word() % 4102444800000000000u;
	}
	if (op->kind >= SETACL && op->kind <= REMOVEACL) {
		op->at = pick_below(2);
		/* As below for modes with the sticky bit. */
		if (n && (n->mode & S_ISVTX))
			op->fill &= ~(1u << 7 | 1u << 13 | 1u << 16);
		return !n || !S_ISLNK(n->type);
	}
	if (op->kind == PERMIT) {
		op->flags = (int)pick_below(ATTEMPTS);
		op->uid = 1 + pick_below(3);
		op->gid = pick_below(4);
		bool may_open = n && (S_ISREG(n->type) || S_ISDIR(n->type));
		if (op->flags >= CHANGE_MODE ? !op_is_forbidden(op) : !may_open)
			op->flags = LOOK_UP;
		return !n || !S_ISLNK(n->type);
	}
	if (op->kind >= SETXATTR && op->kind <= LISTXATTR) {
		if (n && !S_ISREG(n->type) && !S_ISDIR(n->type))
			return false;
		op->at = pick_below(XATTRS);
		op->flags = xattr_flags[pick_below(3)];
		op->bytes = pick_below(4) ? pick_below(100) : pick_below(XATTR_MAX);
	}
	return true;
}

static bool pick_mknod(struct op *op)
{
	static const int types[] = {S_IFIFO, S_IFSOCK, S_IFCHR, S_IFREG};
	op->flags = types[pick_below(4)];
	op->at = S_ISCHR(op->flags) ? makedev(1, pick_below(256)) : 0;
	return true;
}

static bool pick_dir_only(struct op *op)
{
	op->dir = pick_node(op->tree, S_IFDIR);
	return op->dir != NODE_NONE;
}

/* With all that is below it, if there are nodes for that. */
static bool pick_snapshot(struct op *op)
{
	int below[NODES];
	op->node = pick_node(op->tree, S_IFDIR);
	if (op->node == 0)
		return false;
	name_of_node(op->tree, op->node, &op->dir, &op->name);
	op->dir2 = pick_node(op->tree, S_IFDIR);
	op->name2 = (int)pick_below(NAMES);
	op->node2 = node_of(op->tree, op->dir2)->entry[op->name2];
	return below_of(op->tree, op->node, below) <= nodes_free(op->tree) / 2 &&
	       depth_of(op->tree, op->dir2) + height_of(op->tree, op->node) <= DEPTH_MAX;
}

/* Mostly a directory that is empty. */
static bool pick_removed_dir(struct op *op)
{
	int dir = pick_node(op->tree, S_IFDIR);
	if (dir == 0 || pick_below(4) == 0) {
		pick_name(op->tree, &op->dir, &op->name, &op->node);
		return true;
	}
	for (int tries = 0; tries < 8 && (dir == 0 || entries_of(node_of(op->tree, dir))); tries++)
		dir = pick_node(op->tree, S_IFDIR);
	op->node = dir;
	name_of_node(op->tree, dir, &op->dir, &op->name);
	return dir != 0;
}

static bool pick_close(struct op *op, const struct worker *worker)
{
	op->slot = pick_used_slot(worker, true);
	if (op->slot >= 0)
		op->node = worker->slot[op->slot].node;
	return op->slot >= 0;
}

/* Whatever needs a node of its own has one. */
static bool pick_fresh(struct op *op)
{
	if (op->kind != CREATE && op->kind != MKDIR && op->kind != MKNOD && op->kind != SYMLINK &&
	    op->kind != OPEN && op->kind != TMPFILE)
		return true;
	if (op->node == NODE_NONE)
		op->fresh = node_free(op->tree);
	if (op->kind == MKDIR && depth_of(op->tree, op->dir) >= DEPTH_MAX - 1)
		return false;
	return op->node != NODE_NONE || op->fresh != NODE_NONE;
}

bool pick_target(struct op *op, const struct worker *worker)
{
	op->fill = pick_below(UINT32_MAX);
	op->mode = pick_below(8) ? 0600 | pick_below(01000) : pick_below(010000);
	/* Linux protects what others have in such a directory even from root (proc_sys_fs(5)). */
	if (op->mode & S_ISVTX)
		op->mode &= ~022u;
	/* Mostly those whom PERMIT asks for. */
	op->uid = pick_below(4) ? pick_below(4) : pick_below(1000);
	op->gid = pick_below(4) ? pick_below(4) : pick_below(1000);
	switch (op->kind) {
	case LINK:
	case RENAME:
		return pick_two_names(op);
	case SNAPSHOT:
		return pick_snapshot(op);
	case READDIR:
		return pick_dir_only(op);
	case RMDIR:
		return pick_removed_dir(op);
	case CLOSE:
		return pick_close(op, worker);
	case RACE:
		return true;
	case READ:
	case WRITE:
	case MMAP_READ:
	case MMAP_WRITE:
	case ALLOCATE:
	case RELOCATE:
	case SEEK:
	case SYNC:
		return pick_file(op, worker);
	case COPY:
	case CLONE:
	case DEDUPE:
		return pick_file(op, worker) && pick_source(op);
	case COLLAPSE:
	case INSERT:
	case UNSHARE:
		return pick_file(op, worker);
	case TRUNCATE:
		if (op->tree == SHARED_TREE || pick_below(8))
			return pick_file(op, worker);
		op->fill |= 1; /* truncate(2), of anything but a link, which it would follow */
		pick_name(op->tree, &op->dir, &op->name, &op->node);
		return op->node == NODE_NONE || !S_ISLNK(node_of(op->tree, op->node)->type);
	default:
		break;
	}
	pick_name(op->tree, &op->dir, &op->name, &op->node);
	if (op->kind == OPEN)
		op->slot = pick_used_slot(worker, false);
	if (op->kind == OPEN && op->slot < 0)
		return false;
	if ((op->kind == CREATE || op->kind == OPEN) && !pick_open_flags(op))
		return false;
	if (op->kind == TMPFILE) {
		op->flags = pick_below(6) ? 0 : O_EXCL;
		op->bytes = pick_below(IO_MAX / 16);
	}
	if (op->kind == MKNOD)
		(void)pick_mknod(op);
	if (op->kind == SYMLINK)
		op->name2 = (int)pick_below(NAMES);
	return pick_attributes(op) && pick_fresh(op);
}

/* ---- extents ------------------------------------------------------------ */

/* Files are of three sizes, by their number. */
static uint64_t largest(int node)
{
	static const uint64_t sizes[] = {64u << 10, 256u << 10, 256u << 10, FILE_MAX};
	return sizes[node % 4];
}

static uint64_t pick_offset(uint64_t max)
{
	uint64_t at = pick_word() % max;
	return pick_below(3) ? at : at / BLOCK * BLOCK;
}

static uint64_t pick_bytes(void)
{
	switch (pick_below(8)) {
	case 0:
		return 1 + pick_below(IO_MAX);
	case 1:
		return BLOCK * (1 + pick_below(IO_MAX / BLOCK));
	case 2:
		return BLOCK;
	default:
		return 1 + pick_below(4 * BLOCK);
	}
}

static void clip(uint64_t *bytes, uint64_t at, uint64_t max)
{
	if (at >= max)
		*bytes = 0;
	else if (*bytes > max - at)
		*bytes = max - at;
}

static void pick_allocate(struct op *op)
{
	static const int modes[] = {0,
				    FALLOC_FL_KEEP_SIZE,
				    FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
				    FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
				    FALLOC_FL_ZERO_RANGE,
				    FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE};
	op->flags = modes[pick_below(world->has_zero_range ? 6 : 4)];
}

static void pick_append(struct op *op, const struct worker *worker, uint64_t size)
{
	bool is_append =
		op->slot >= 0 ? worker->slot[op->slot].flags & O_APPEND : pick_below(4) == 0;
	if (op->slot < 0) {
		op->flags = (is_append ? O_APPEND : 0) | (pick_below(4) ? 0 : O_DIRECT) |
			    (pick_below(8) ? 0 : O_DSYNC);
	}
	if (is_append)
		op->at = size;
}

/* Whole blocks; what must lie inside of the files does. */
static bool pick_blocks(struct op *op, uint64_t max, uint64_t size)
{
	uint64_t source = op->node2 == NODE_NONE ? 0 : node_of(op->tree2, op->node2)->size;
	op->at = op->at / BLOCK * BLOCK;
	op->at2 = pick_below(3) ? pick_offset(largest(op->node2 < 0 ? 0 : op->node2)) : op->at;
	op->at2 = op->at2 / BLOCK * BLOCK;
	op->bytes = (1 + pick_below(24)) * BLOCK;
	if (op->kind == CLONE && pick_below(3) == 0 && source > op->at2)
		op->bytes = source - op->at2; /* to the end */
	if (op->kind == DEDUPE) {
		clip(&op->bytes, op->at, size);
		clip(&op->bytes, op->at2, source);
		op->bytes = op->bytes / BLOCK * BLOCK;
		bool overlaps = op->node == op->node2 && op->tree == op->tree2 &&
				op->at < op->at2 + op->bytes && op->at2 < op->at + op->bytes;
		return op->bytes > 0 && !overlaps;
	}
	/* The model has no place for what an insertion would push behind FILE_MAX. */
	const struct node *n = node_of(op->tree, op->node);
	for (uint64_t b = FILE_BLOCKS - op->bytes / BLOCK; op->kind == INSERT && b < FILE_BLOCKS;
	     b++)
		if (n->mapping[b] != HOLE)
			return false;
	return op->at + op->bytes <= max && (op->kind != INSERT || size + op->bytes <= max);
}

bool pick_extent(struct op *op, const struct worker *worker)
{
	if (op->kind < READ || op->kind == RACE || op->node == NODE_NONE)
		return true;
	uint64_t max = largest(op->node);
	uint64_t size = node_of(op->tree, op->node)->size;
	op->at = pick_offset(max);
	op->bytes = pick_bytes();
	if (op_is_range(op))
		return pick_blocks(op, max, size);
	if (op->kind == WRITE)
		pick_append(op, worker, size);
	if (op->kind == READ && op->slot < 0)
		op->flags = pick_below(4) ? 0 : O_DIRECT;
	if (op->kind == SEEK)
		op->flags = pick_below(2) ? SEEK_DATA : SEEK_HOLE;
	if (op->kind == ALLOCATE)
		pick_allocate(op);
	if (op->kind == COPY) {
		op->at2 = pick_below(2) ? pick_offset(largest(op->node2)) : op->at;
		if (pick_below(3) == 0)
			op->bytes = max; /* all that there is */
		if (pick_below(3) == 0)
			op->at2 = op->at2 / BLOCK * BLOCK, op->at = op->at / BLOCK * BLOCK;
	}
	if (op->kind == MMAP_READ || op->kind == MMAP_WRITE) {
		max = size;
		op->at = size ? op->at % size : 0;
	}
	clip(&op->bytes, op->at, max);
	if (op->kind == COPY)
		clip(&op->bytes, op->at2, FILE_MAX);
	return op->bytes > 0;
}
