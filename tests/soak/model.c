/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * model.c -- the model's memory, names and paths
 */
#include "model.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

struct world *world;
static uint8_t *all_data; /* FILE_MAX bytes per node, touched only where a file has bytes */

const char *const kind_names[KINDS] = {
	[CREATE] = "create",	   [MKDIR] = "mkdir",
	[MKNOD] = "mknod",	   [SYMLINK] = "symlink",
	[LINK] = "link",	   [TMPFILE] = "tmpfile",
	[SNAPSHOT] = "snapshot",   [SETACL] = "setacl",
	[GETACL] = "getacl",	   [REMOVEACL] = "removeacl",
	[PERMIT] = "permit",	   [UNLINK] = "unlink",
	[RMDIR] = "rmdir",	   [RENAME] = "rename",
	[CHMOD] = "chmod",	   [CHOWN] = "chown",
	[UTIMENS] = "utimens",	   [STAT] = "stat",
	[FOLLOW] = "follow",	   [SETXATTR] = "setxattr",
	[GETXATTR] = "getxattr",   [REMOVEXATTR] = "removexattr",
	[LISTXATTR] = "listxattr", [READDIR] = "readdir",
	[OPEN] = "open",	   [CLOSE] = "close",
	[READ] = "read",	   [WRITE] = "write",
	[MMAP_READ] = "mmap_read", [MMAP_WRITE] = "mmap_write",
	[TRUNCATE] = "truncate",   [ALLOCATE] = "allocate",
	[COPY] = "copy",	   [SEEK] = "seek",
	[CLONE] = "clone",	   [DEDUPE] = "dedupe",
	[COLLAPSE] = "collapse",   [INSERT] = "insert",
	[UNSHARE] = "unshare",	   [RELOCATE] = "relocate",
	[SYNC] = "sync",	   [RACE] = "race",
};

static void *must_map(size_t bytes)
{
	void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
		       MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (p == MAP_FAILED) {
		perror("random: memory");
		exit(2);
	}
	return p;
}

/* ---- nodes -------------------------------------------------------------- */

struct node *node_of(int tree, int node)
{
	return &world->tree[tree].node[node];
}

uint8_t *data_of(int tree, int node)
{
	return all_data + ((size_t)tree * NODES + (size_t)node) * FILE_MAX;
}

int node_free(int tree)
{
	for (int i = 0; i < NODES; i++)
		if (node_of(tree, i)->type == 0)
			return i;
	return NODE_NONE;
}

int nodes_free(int tree)
{
	int n = 0;
	for (int i = 0; i < NODES; i++)
		n += node_of(tree, i)->type == 0;
	return n;
}

void node_drop(int tree, int node)
{
	struct node *n = node_of(tree, node);
	if (n->nlink > 0 || n->opens > 0)
		return;
	(void)madvise(data_of(tree, node), FILE_MAX, MADV_REMOVE);
	pthread_mutex_t lock = n->lock;
	memset(n, 0, sizeof(*n));
	n->lock = lock;
}

int entries_of(const struct node *dir)
{
	int n = 0;
	for (int i = 0; i < NAMES; i++)
		n += dir->entry[i] != NODE_NONE;
	return n;
}

int depth_of(int tree, int dir)
{
	int depth = 0;
	for (; dir != 0; dir = node_of(tree, dir)->parent)
		depth++;
	return depth;
}

int height_of(int tree, int node)
{
	const struct node *dir = node_of(tree, node);
	int height = 0;
	if (!S_ISDIR(dir->type))
		return 0;
	for (int i = 0; i < NAMES; i++) {
		int below = dir->entry[i] == NODE_NONE ? 0 : height_of(tree, dir->entry[i]);
		height = below > height ? below : height;
	}
	return height + 1;
}

static int add_below(int tree, int node, int *ret_nodes, int n)
{
	const struct node *dir = node_of(tree, node);
	int i = 0;
	while (i < n && ret_nodes[i] != node)
		i++;
	if (i < n)
		return n;
	ret_nodes[n++] = node;
	for (i = 0; S_ISDIR(dir->type) && i < NAMES; i++)
		if (dir->entry[i] != NODE_NONE)
			n = add_below(tree, dir->entry[i], ret_nodes, n);
	return n;
}

int below_of(int tree, int node, int *ret_nodes)
{
	return add_below(tree, node, ret_nodes, 0);
}

bool is_below(int tree, int node, int ancestor)
{
	while (node != 0 && node != ancestor)
		node = node_of(tree, node)->parent;
	return node == ancestor;
}

void name_of_node(int tree, int node, int *ret_dir, int *ret_name)
{
	*ret_dir = NODE_NONE;
	for (int d = 0; d < NODES; d++) {
		const struct node *dir = node_of(tree, d);
		for (int i = 0; S_ISDIR(dir->type) && i < NAMES; i++) {
			if (dir->entry[i] == node) {
				*ret_dir = d;
				*ret_name = i;
				return;
			}
		}
	}
}

static void locks_init(struct tree *tree)
{
	pthread_rwlockattr_t rw;
	pthread_mutexattr_t attr;
	pthread_rwlockattr_init(&rw);
	pthread_rwlockattr_setpshared(&rw, PTHREAD_PROCESS_SHARED);
	pthread_rwlock_init(&tree->lock, &rw);
	pthread_mutexattr_init(&attr);
	pthread_mutexattr_setpshared(&attr, PTHREAD_PROCESS_SHARED);
	for (int i = 0; i < NODES; i++)
		pthread_mutex_init(&tree->node[i].lock, &attr);
}

void model_new(const char *mount, uint64_t seed, int nworkers)
{
	world = must_map(sizeof(*world));
	all_data = must_map((size_t)TREES_MAX * NODES * FILE_MAX);
	world->seed = seed;
	world->nworkers = nworkers;
	snprintf(world->mount, sizeof(world->mount), "%s", mount);
	for (int t = 0; t < TREES_MAX; t++) {
		struct node *root = node_of(t, 0);
		locks_init(&world->tree[t]);
		*root = (struct node){
			.type = S_IFDIR, .mode = 0755, .nlink = 2, .lock = root->lock};
		root->mtime = root->ctime = root->atime = (struct span){INT64_MIN, INT64_MAX};
		for (int i = 0; i < NAMES; i++)
			root->entry[i] = NODE_NONE;
	}
	world->aim = -1;
	sem_init(&world->aimed, 1, 0);
	for (int w = 0; w < nworkers; w++) {
		sem_init(&world->worker[w].go, 1, 0);
		sem_init(&world->worker[w].done, 1, 0);
		for (int i = 0; i < SLOTS; i++)
			world->worker[w].slot[i].node = NODE_NONE;
	}
}

/* ---- names -------------------------------------------------------------- */

const char *tree_name(int tree)
{
	static const char *const names[TREES_MAX] = {"p0", "p1", "p2", "p3",	"p4",
						     "p5", "p6", "p7", "shared"};
	return names[tree];
}

/* Short ones, one of the full 255 bytes, and one of bytes that are no text. */
const char *name_text(int name)
{
	static char text[NAMES][256];
	if (text[name][0] == '\0') {
		if (name == NAMES - 1)
			memset(text[name], 'l', 255);
		else if (name == NAMES - 2)
			memcpy(text[name], "\x01\xff \n*\\\x80", 8);
		else
			snprintf(text[name], sizeof(text[name]), "n%d", name);
	}
	return text[name];
}

const char *xattr_name(int attribute)
{
	static const char *const names[XATTRS] = {"user.a", "user.longer.name", "trusted.b",
						  "user.c"};
	return names[attribute];
}

void target_text(int name, uint32_t fill, char *ret)
{
	/* Of very different lengths, up to what a link can have. */
	size_t pad = fill % 8 == 0 ? 3800 : fill % 64 & ~1u;
	size_t at = 0;
	for (; at < pad; at += 2)
		memcpy(ret + at, "./", 2);
	snprintf(ret + at, PATH_BYTES - at, "%s", name_text(name));
}

const char *path_of(int tree, int dir, int name)
{
	static _Thread_local char buffers[4][PATH_BYTES];
	static _Thread_local unsigned int turn;
	char *path = buffers[turn++ % 4];
	char *to = path + PATH_BYTES - 1;
	*to = '\0';
	const char *part = name >= 0 ? name_text(name) : NULL;
	for (;;) {
		if (part) {
			to -= strlen(part);
			memcpy(to, part, strlen(part));
			*--to = '/';
		}
		if (dir == 0)
			break;
		const struct node *parent = node_of(tree, node_of(tree, dir)->parent);
		int i = 0;
		while (parent->entry[i] != dir)
			i++;
		part = name_text(i);
		dir = node_of(tree, dir)->parent;
	}
	const char *top[] = {tree_name(tree), "/", world->mount};
	for (int i = 0; i < 3; i++) {
		to -= strlen(top[i]);
		memcpy(to, top[i], strlen(top[i]));
	}
	return to;
}

/* ---- bytes and times ---------------------------------------------------- */

void fill_bytes(uint8_t *to, uint64_t bytes, uint32_t fill)
{
	for (uint64_t i = 0; i < bytes; i++)
		to[i] = (uint8_t)((fill + i * 7 + (i >> 8) * 13 + (i >> 16)) | 1);
}

static int64_t clock_ns(clockid_t clock)
{
	struct timespec ts;
	clock_gettime(clock, &ts);
	return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

int64_t now_ns(void)
{
	return clock_ns(CLOCK_REALTIME);
}

int64_t now_coarse_ns(void)
{
	return clock_ns(CLOCK_REALTIME_COARSE);
}

void may_have_been_read(struct node *n, int64_t since_ns)
{
	may_have_moved(&n->atime, since_ns);
	n->read_ns = since_ns;
}

void may_have_moved(struct span *span, int64_t since_ns)
{
	int64_t now = now_ns();
	span->from_ns = since_ns < span->from_ns ? since_ns : span->from_ns;
	span->to_ns = now > span->to_ns ? now : span->to_ns;
}
