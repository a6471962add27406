/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * compare.c -- is what is mounted what the model says?
 */
#include "compare.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "acls.h"
#include "perform.h"
#include "rules.h"

/* ---- attributes --------------------------------------------------------- */

static int64_t ns_of(struct timespec ts)
{
	return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

static void compare_time(const char *path, const char *which, struct timespec got,
			 struct span *want)
{
	int64_t ns = ns_of(got);
	if (ns < want->from_ns || ns > want->to_ns)
		complain("%s: %s is %ld, not in %ld to %ld", path, which, (long)ns,
			 (long)want->from_ns, (long)want->to_ns);
	*want = (struct span){ns, ns};
}

static void compare_number(const char *path, const char *which, uint64_t got, uint64_t want)
{
	if (got != want)
		complain("%s: %s is %lu, not %lu", path, which, (unsigned long)got,
			 (unsigned long)want);
}

static void compare_blocks(const char *path, const struct node *n, uint64_t blocks_512)
{
	uint64_t least = 0, most = 0;
	for (int b = 0; b < (int)FILE_BLOCKS; b++) {
		least += n->mapping[b] == DATA || n->mapping[b] == UNWRITTEN;
		most += n->mapping[b] != HOLE;
	}
	if (blocks_512 % 8 || blocks_512 / 8 < least || blocks_512 / 8 > most)
		complain("%s: st_blocks is %lu, not 8 * %lu to %lu", path,
			 (unsigned long)blocks_512, (unsigned long)least, (unsigned long)most);
}

static void compare_stat(const char *path, struct node *n, const struct stat *st)
{
	compare_number(path, "type", st->st_mode & S_IFMT, n->type);
	compare_number(path, "mode", st->st_mode & 07777, n->mode);
	compare_number(path, "uid", st->st_uid, n->uid);
	compare_number(path, "gid", st->st_gid, n->gid);
	compare_number(path, "nlink", st->st_nlink, n->nlink);
	compare_number(path, "rdev", st->st_rdev, n->rdev);
	if (n->ino)
		compare_number(path, "inode", st->st_ino, n->ino);
	n->ino = st->st_ino;
	if (!S_ISDIR(n->type))
		compare_number(path, "size", (uint64_t)st->st_size, n->size);
	if (S_ISREG(n->type))
		compare_blocks(path, n, (uint64_t)st->st_blocks);
	compare_time(path, "mtime", st->st_mtim, &n->mtime);
	compare_time(path, "ctime", st->st_ctim, &n->ctime);
	int64_t atime_ns = ns_of(st->st_atim);
	if (atime_ns >= n->read_ns && atime_ns < n->read_ns + READ_AHEAD_NS)
		n->atime = (struct span){atime_ns, atime_ns};
	else
		compare_time(path, "atime", st->st_atim, &n->atime);
}

static const char *path_of_node(int tree, int node)
{
	int dir, name;
	if (node == 0)
		return path_of(tree, 0, -1);
	name_of_node(tree, node, &dir, &name);
	return path_of(tree, dir, name);
}

/* In every other case not what the kernel remembers, which must be the same. */
static void ask_sometimes(int fd, const char *path)
{
	static unsigned int turn;
	struct statx stx;
	if (turn++ % 2)
		(void)statx(fd, path, AT_STATX_FORCE_SYNC | AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH,
			    STATX_BASIC_STATS, &stx);
}

struct extent extent_of(const struct op *op)
{
	struct statx stx = {0};
	const char *path = op->slot >= 0 ? "" : path_of(op->tree, op->dir, op->name);
	(void)statx(op->slot >= 0 ? slot_fd[op->slot] : AT_FDCWD, path,
		    AT_STATX_FORCE_SYNC | AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH, STATX_BASIC_STATS,
		    &stx);
	return (struct extent){stx.stx_size, stx.stx_blocks};
}

void compare_attributes(int tree, int node)
{
	const char *path = path_of_node(tree, node);
	struct stat st;
	ask_sometimes(AT_FDCWD, path);
	if (lstat(path, &st) != 0)
		complain("%s: %s", path, strerror(errno));
	else
		compare_stat(path, node_of(tree, node), &st);
}

void compare_open(int tree, int node, int fd)
{
	struct stat st;
	char path[64];
	snprintf(path, sizeof(path), "%s: open node %d", tree_name(tree), node);
	ask_sometimes(fd, "");
	if (fstat(fd, &st) != 0)
		complain("%s: %s", path, strerror(errno));
	else
		compare_stat(path, node_of(tree, node), &st);
}

/* ---- extended attributes ------------------------------------------------ */

int compare_xattr_list(int tree, int node, const char *path)
{
	const struct node *n = node_of(tree, node);
	char list[4096];
	ssize_t bytes = llistxattr(path, list, sizeof(list));
	if (bytes < 0)
		return errno;
	bool is_there[XATTRS] = {false}, has_acl[2] = {false};
	for (const char *at = list; at < list + bytes; at += strlen(at) + 1) {
		int i = 0;
		while (i < XATTRS && strcmp(at, xattr_name(i)) != 0)
			i++;
		int acl = strcmp(at, acl_name(0)) == 0 ? 0 : strcmp(at, acl_name(1)) == 0 ? 1 : 2;
		if (acl < 2 && !has_acl[acl])
			has_acl[acl] = true;
		else if (i == XATTRS || is_there[i])
			complain("%s: lists attribute %s", path, at);
		else
			is_there[i] = true;
	}
	for (int i = 0; i < XATTRS; i++)
		if (is_there[i] != n->attribute[i].is_set)
			complain("%s: attribute %s is %slisted", path, xattr_name(i),
				 is_there[i] ? "" : "not ");
	for (int i = 0; i < 2; i++)
		if (has_acl[i] != n->acl[i].is_set)
			complain("%s: %s is %slisted", path, acl_name(i), has_acl[i] ? "" : "not ");
	return 0;
}

int compare_acl(int tree, int node, const char *path, int which)
{
	const struct acl *acl = &node_of(tree, node)->acl[which];
	uint8_t got[4 * ACL_BYTES_MAX], want[ACL_BYTES_MAX];
	ssize_t bytes = lgetxattr(path, acl_name(which), got, sizeof(got));
	if (bytes < 0)
		return errno;
	if (!acl->is_set || (size_t)bytes != acl_value(acl, want) ||
	    memcmp(got, want, (size_t)bytes) != 0)
		complain("%s: %s is different (%zd bytes)", path, acl_name(which), bytes);
	return 0;
}

static void compare_xattrs(int tree, int node, const char *path)
{
	const struct node *n = node_of(tree, node);
	uint8_t got[XATTR_MAX], want[XATTR_MAX];
	if (compare_xattr_list(tree, node, path) != 0)
		complain("%s: attributes cannot be listed", path);
	for (int i = 0; i < XATTRS; i++) {
		const struct attribute *a = &n->attribute[i];
		if (!a->is_set)
			continue;
		ssize_t bytes = lgetxattr(path, xattr_name(i), got, sizeof(got));
		fill_bytes(want, a->bytes, a->fill);
		if (bytes != (ssize_t)a->bytes || memcmp(got, want, a->bytes) != 0)
			complain("%s: attribute %s is different", path, xattr_name(i));
	}
	for (int i = 0; i < 2; i++)
		if (n->acl[i].is_set && compare_acl(tree, node, path, i) != 0)
			complain("%s: %s is not there", path, acl_name(i));
}

/* ---- contents ----------------------------------------------------------- */

/* What a torn overwrite may have left: for each byte of [first, end), @other's or the model's. */
struct torn {
	uint64_t first;
	uint64_t end;
	const uint8_t *other;
};

static bool is_torn(const struct torn *torn, uint64_t byte, uint8_t got)
{
	return torn && byte >= torn->first && byte < torn->end && got == torn->other[byte];
}

static void compare_bytes(const char *path, int tree, int node, const uint8_t *got,
			  const struct torn *torn)
{
	const struct node *n = node_of(tree, node);
	uint8_t *want = data_of(tree, node);
	if (memcmp(got, want, n->size) == 0)
		return;
	for (uint64_t i = 0; i < n->size; i++) {
		if (got[i] == want[i] || is_torn(torn, i, got[i]))
			continue;
		complain("%s: byte %lu of %lu is %02x, not %02x", path, (unsigned long)i,
			 (unsigned long)n->size, got[i], want[i]);
		return;
	}
	if (!is_quiet)
		return;
	memcpy(want, got, n->size);
}

static void compare_seek(const char *path, const struct node *n, int fd)
{
	off_t at = 0;
	while ((uint64_t)at < n->size) {
		off_t data = lseek(fd, at, SEEK_DATA);
		if (data < 0)
			data = (off_t)n->size;
		off_t hole = (uint64_t)data < n->size ? lseek(fd, data, SEEK_HOLE) : data;
		if (data < at || hole < data || (uint64_t)hole > n->size ||
		    (hole == data && (uint64_t)data < n->size)) {
			complain("%s: data at %ld to %ld behind %ld", path, (long)data, (long)hole,
				 (long)at);
			return;
		}
		for (uint64_t b = (uint64_t)at / BLOCK; b * BLOCK < (uint64_t)hole; b++) {
			bool is_data = b * BLOCK >= (uint64_t)data;
			if (is_data ? n->mapping[b] == HOLE || n->mapping[b] == UNWRITTEN
				    : n->mapping[b] == DATA)
				complain("%s: block %lu is %s", path, (unsigned long)b,
					 is_data ? "data" : "a hole");
		}
		at = hole;
	}
}

static void compare_file(int tree, int node, const char *path, const struct torn *torn)
{
	static uint8_t got[FILE_MAX + BLOCK] __attribute__((aligned(4096)));
	const struct node *n = node_of(tree, node);
	/* Sometimes past the page cache. */
	int direct = n->size % 3 == 0 ? O_DIRECT : 0;
	int fd = open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | direct);
	if (fd < 0) {
		complain("%s: %s", path, strerror(errno));
		return;
	}
	ssize_t bytes = 0, step = 1;
	while (step > 0 && (size_t)bytes < sizeof(got)) {
		step = pread(fd, got + bytes, sizeof(got) - (size_t)bytes, bytes);
		bytes += step > 0 ? step : 0;
	}
	if (step < 0 || (uint64_t)bytes != n->size)
		complain("%s: %zd bytes can be read of %lu: %s", path, bytes,
			 (unsigned long)n->size, step < 0 ? strerror(errno) : "end of file");
	else
		compare_bytes(path, tree, node, got, torn);
	compare_seek(path, n, fd);
	close(fd);
}

static void compare_link(int tree, int node, const char *path)
{
	const struct node *n = node_of(tree, node);
	char got[PATH_BYTES];
	ssize_t bytes = readlink(path, got, sizeof(got));
	size_t name_bytes = strlen(name_text(n->target));
	if (bytes < 0 || (uint64_t)bytes != n->size || name_bytes > (size_t)bytes ||
	    memcmp(got + bytes - name_bytes, name_text(n->target), name_bytes) != 0)
		complain("%s: is a link of %zd bytes to something else", path, bytes);
}

/* ---- directories -------------------------------------------------------- */

static const int dirent_types[][2] = {{DT_REG, S_IFREG},  {DT_DIR, S_IFDIR}, {DT_LNK, S_IFLNK},
				      {DT_FIFO, S_IFIFO}, {DT_CHR, S_IFCHR}, {DT_SOCK, S_IFSOCK}};

static void compare_entry(int tree, const struct node *dir, const char *path,
			  const struct dirent *entry, int *seen)
{
	int i = 0;
	while (i < NAMES && strcmp(name_text(i), entry->d_name) != 0)
		i++;
	if (i == NAMES || dir->entry[i] == NODE_NONE) {
		complain("%s: has an entry %s", path, entry->d_name);
		return;
	}
	const struct node *n = node_of(tree, dir->entry[i]);
	seen[i]++;
	if (n->ino)
		compare_number(path, "inode of an entry", entry->d_ino, n->ino);
	for (size_t t = 0; t < sizeof(dirent_types) / sizeof(dirent_types[0]); t++)
		if ((uint32_t)dirent_types[t][1] == n->type && dirent_types[t][0] != entry->d_type)
			complain("%s/%s: readdir says type %d", path, entry->d_name, entry->d_type);
}

static void compare_directory(int tree, int node, const char *path)
{
	const struct node *dir = node_of(tree, node);
	int seen[NAMES] = {0};
	DIR *d = opendir(path);
	if (!d) {
		complain("%s: %s", path, strerror(errno));
		return;
	}
	int dots = 0;
	for (struct dirent *e = readdir(d); e; e = readdir(d)) {
		if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
			dots++;
		else
			compare_entry(tree, dir, path, e, seen);
	}
	closedir(d);
	for (int i = 0; i < NAMES; i++)
		if (seen[i] != (dir->entry[i] != NODE_NONE))
			complain("%s: has entry %d %d times", path, i, seen[i]);
	if (dots != 2)
		complain("%s: has %d dots", path, dots);
}

/* ---- all ---------------------------------------------------------------- */

/* A node that has a name. */
static void compare_node(int tree, int node, const struct torn *torn)
{
	const struct node *n = node_of(tree, node);
	const char *found = path_of_node(tree, node);
	char path[PATH_BYTES];
	int64_t begin_ns = now_coarse_ns();
	snprintf(path, sizeof(path), "%s", found);
	compare_attributes(tree, node);
	if (has_complained)
		return;
	if (S_ISREG(n->type))
		compare_file(tree, node, path, torn);
	else if (S_ISLNK(n->type))
		compare_link(tree, node, path);
	else if (S_ISDIR(n->type))
		compare_directory(tree, node, path);
	if (world->has_xattr && !S_ISLNK(n->type))
		compare_xattrs(tree, node, path);
	may_have_been_read(node_of(tree, node), begin_ns);
}

void compare_tree(int tree)
{
	for (int i = 0; i < NODES && !has_complained; i++)
		if (node_of(tree, i)->type && node_of(tree, i)->nlink > 0)
			compare_node(tree, i, NULL);
}

/* ---- after a crash ------------------------------------------------------ */

/* Nodes as they were, and the bytes of those that are files. */
struct saved {
	int tree;
	int64_t begin_ns;
	int n;
	int number[TOUCHED_MAX];
	struct node node[TOUCHED_MAX];
	uint8_t *data[TOUCHED_MAX]; /* NULL: none */
};

static void save(const struct op *op, struct saved *saved)
{
	saved->tree = op->tree;
	saved->begin_ns = now_coarse_ns();
	saved->n = op_touches(op, saved->number);
	for (int i = 0; i < saved->n; i++) {
		saved->node[i] = *node_of(op->tree, saved->number[i]);
		saved->data[i] = NULL;
		if (!S_ISREG(saved->node[i].type))
			continue;
		saved->data[i] = malloc(FILE_MAX);
		if (!saved->data[i])
			abort();
		memcpy(saved->data[i], data_of(op->tree, saved->number[i]), FILE_MAX);
	}
}

static void restore(const struct saved *saved)
{
	for (int i = 0; i < saved->n; i++) {
		uint8_t *data = data_of(saved->tree, saved->number[i]);
		struct node *n = node_of(saved->tree, saved->number[i]);
		*n = saved->node[i];
		/* The comparison has read it. */
		if (n->type)
			may_have_been_read(n, saved->begin_ns);
		if (saved->data[i])
			memcpy(data, saved->data[i], FILE_MAX);
		else
			(void)madvise(data, FILE_MAX, MADV_REMOVE);
	}
}

static void free_saved(struct saved *saved)
{
	for (int i = 0; i < saved->n; i++)
		free(saved->data[i]);
}

/* The bytes that the operation may leave torn: those that it overwrites where they are. */
static void torn_range(const struct op *op, struct torn *torn)
{
	if (op->kind != WRITE && op->kind != MMAP_WRITE && op->kind != ALLOCATE && op->kind != COPY)
		return;
	torn->first = op->at;
	torn->end = op->at + op->bytes;
}

/* Is what is mounted as the model has it, as far as the operation goes? */
static bool is_as_modelled(const struct op *op, const struct torn *torn)
{
	int nodes[TOUCHED_MAX];
	int n = op_touches(op, nodes);
	has_complained = false;
	for (int i = 0; i < n; i++) {
		const struct node *node = node_of(op->tree, nodes[i]);
		if (node->type && node->nlink > 0)
			compare_node(op->tree, nodes[i], nodes[i] == op->node ? torn : NULL);
	}
	bool is_so = !has_complained;
	has_complained = false;
	return is_so;
}

/* What a crash may leave open: which blocks lie behind the range and behind the end. */
static void forget_mapping(const struct op *op)
{
	if (op->kind < READ || op->node == NODE_NONE || op->kind == READ || op->kind == MMAP_READ ||
	    op->kind == RELOCATE || op->kind == SEEK || op->kind == SYNC)
		return;
	struct node *n = node_of(op->tree, op->node);
	set_mapping(n, op->at / BLOCK * BLOCK, op->at + op->bytes, ANY);
	set_mapping(n, n->size, FILE_MAX, ANY);
	may_have_moved(&n->mtime, op->begin_ns);
	may_have_moved(&n->ctime, op->begin_ns);
}

/*
 * The next length that the operation may have got to, below @done; 0: none.  The kernel cuts
 * a write(2) at page borders, a copy goes on block by block.
 */
static uint64_t part_below(const struct op *op, uint64_t done)
{
	if ((op->kind != WRITE && op->kind != COPY && op->kind != CLONE) || done == 0)
		return 0;
	uint64_t end = (op->at + done - 1) / BLOCK * BLOCK;
	return end > op->at ? end - op->at : 0;
}

/* Tries what it may have become; true: the model is that now. */
static bool try_states(const struct op *op, const struct saved *saved, int file,
		       const uint8_t *after)
{
	struct torn torn = {0};
	torn_range(op, &torn);
	/* At least once: most operations are not about bytes. */
	uint64_t done = op_all(op);
	do {
		op_apply(op, done);
		forget_mapping(op);
		torn.other = file >= 0 ? saved->data[file] : NULL;
		if (is_as_modelled(op, torn.other ? &torn : NULL))
			return true;
		restore(saved);
		done = part_below(op, done);
	} while (done > 0);
	forget_mapping(op);
	torn.other = after;
	if (is_as_modelled(op, after ? &torn : NULL))
		return true;
	restore(saved);
	return false;
}

static void try_all(struct worker *worker, const struct op *op)
{
	struct saved saved;
	save(op, &saved);
	int file = -1;
	for (int i = 0; i < saved.n; i++)
		if (saved.number[i] == op->node && S_ISREG(saved.node[i].type))
			file = i;
	uint8_t *after = NULL;
	if (file >= 0) {
		after = malloc(FILE_MAX);
		if (!after)
			abort();
		op_apply(op, op_all(op));
		memcpy(after, data_of(op->tree, op->node), FILE_MAX);
		restore(&saved);
	}
	is_quiet = true;
	bool is_resolved = try_states(op, &saved, file, after);
	is_quiet = false;
	if (!is_resolved) {
		complain("worker %d: its last operation (%s) has happened in part",
			 (int)(worker - world->worker), kind_names[op->kind]);
		complain("as before it:");
		(void)is_as_modelled(op, NULL);
		op_apply(op, op_all(op));
		complain("as after it:");
		(void)is_as_modelled(op, NULL);
		has_complained = true;
	}
	free(after);
	free_saved(&saved);
}

void resolve_pending(struct worker *worker)
{
	const struct op *op = &worker->recent[worker->count % RECENT];
	worker->is_pending = false;
	/* With a name it had still to get, or of a file that has gone. */
	if (op->kind == RACE || op->kind == CLOSE || op_expect(op, worker) != 0)
		return;
	if (op->node != NODE_NONE && node_of(op->tree, op->node)->type == 0)
		return;
	if (op->kind == READDIR || op->kind == SYNC || op->kind == STAT || op->kind == FOLLOW ||
	    op->kind == PERMIT)
		return;
	try_all(worker, op);
}
