/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * remotefs_nodes.c -- the files that the kernel knows, by their numbers
 *
 * A node lives while the kernel has look-ups of it, or a child that was seen below it.
 */
#include <stdlib.h>
#include <string.h>

#include "remotefs_private.h"

static struct pml_list *bucket_of(struct pml_remotefs *fs, uint64_t ino)
{
	return &fs->buckets[(ino * 0x9e3779b97f4a7c15u) >> 52];
}
static_assert(PML_REMOTE_BUCKETS == 1u << (64 - 52), "the hash has as many bits");

static struct pml_list *names_of(struct pml_remotefs *fs, const struct pml_remote_node *dir,
				 const char *name)
{
	uint64_t hash = dir->ino;
	for (const char *c = name; *c; c++)
		hash = (hash ^ (uint8_t)*c) * 0x9e3779b97f4a7c15u;
	return &fs->names[hash >> 52];
}

static struct pml_remote_node *find_locked(struct pml_remotefs *fs, uint64_t ino)
{
	struct pml_remote_node *node;
	pml_list_for_each(node, bucket_of(fs, ino), link)
		if (node->ino == ino)
			return node;
	return NULL;
}

static void free_node(struct pml_remote_node *node)
{
	pthread_mutex_destroy(&node->lock);
	free(node->name);
	free(node);
}

/* Drops look-ups of @node, and with its last one that of the node above, and so on. */
static void drop_locked(struct pml_remote_node *node, uint64_t count)
{
	while (node) {
		assert(node->nlookups >= count);
		node->nlookups -= count;
		if (node->nlookups)
			return;
		struct pml_remote_node *parent = node->parent;
		pml_list_remove(&node->link);
		pml_list_remove(&node->by_name);
		/* The kernel releases what is open before it forgets it. */
		assert(!node->file);
		free_node(node);
		node = parent;
		count = 1;
	}
}

static struct pml_remote_node *add_locked(struct pml_remotefs *fs, uint64_t ino,
					  const struct pml_client_attr *attr)
{
	struct pml_remote_node *node = calloc(1, sizeof(*node));
	if (!node)
		return NULL;
	pthread_mutex_init(&node->lock, NULL);
	node->ino = ino;
	node->generation = attr->generation;
	node->handle = attr->handle;
	pml_list_init(&node->by_name);
	pml_list_append(bucket_of(fs, ino), &node->link);
	return node;
}

int pml_remote_nodes_init(struct pml_remotefs *fs, const struct pml_client_attr *root)
{
	pthread_mutex_init(&fs->lock, NULL);
	for (uint32_t i = 0; i < PML_REMOTE_BUCKETS; i++) {
		pml_list_init(&fs->buckets[i]);
		pml_list_init(&fs->names[i]);
	}
	fs->root = add_locked(fs, FUSE_ROOT_ID, root);
	if (!fs->root)
		return -ENOMEM;
	fs->root->nlookups = 1;
	return 0;
}

/* Assumes: no request runs; what the kernel has not forgotten goes too. */
void pml_remote_nodes_fini(struct pml_remotefs *fs)
{
	for (uint32_t i = 0; i < PML_REMOTE_BUCKETS; i++) {
		struct pml_remote_node *node, *tmp;
		pml_list_for_each_safe(node, tmp, &fs->buckets[i], link) {
			if (node->file)
				(void)pml_client_file_close(node->file);
			free_node(node);
		}
	}
	pthread_mutex_destroy(&fs->lock);
}

struct pml_remote_node *pml_remote_node(struct pml_remotefs *fs, fuse_ino_t ino)
{
	pthread_mutex_lock(&fs->lock);
	struct pml_remote_node *node = find_locked(fs, ino);
	pthread_mutex_unlock(&fs->lock);
	assert(node); /* the kernel names what it has not forgotten */
	return node;
}

/* False: out of memory, nothing has changed. */
static bool set_place_locked(struct pml_remotefs *fs, struct pml_remote_node *node,
			     struct pml_remote_node *parent, const char *name)
{
	if (node->parent == parent && (!parent || strcmp(node->name, name) == 0))
		return true;
	char *copy = parent ? strdup(name) : NULL;
	if (parent && !copy)
		return false;
	struct pml_remote_node *before = node->parent;
	if (parent)
		parent->nlookups++;
	free(node->name);
	node->name = copy;
	node->parent = parent;
	pml_list_remove(&node->by_name);
	if (parent)
		pml_list_append(names_of(fs, parent, name), &node->by_name);
	drop_locked(before, 1);
	return true;
}

int pml_remote_node_seen(struct pml_remotefs *fs, struct pml_remote_node *parent, const char *name,
			 const struct pml_client_attr *attr, struct pml_remote_node **ret_node)
{
	bool is_new = false;
	pthread_mutex_lock(&fs->lock);
	struct pml_remote_node *node = find_locked(fs, attr->ino);
	if (!node) {
		node = add_locked(fs, attr->ino, attr);
		is_new = true;
	}
	if (node) {
		node->nlookups++;
		/* Without a place it is not found again after a restart, and no more. */
		(void)set_place_locked(fs, node, parent, name);
	}
	pthread_mutex_unlock(&fs->lock);
	if (!node)
		return -ENOMEM;
	if (!is_new) {
		pthread_mutex_lock(&node->lock);
		node->handle = attr->handle;
		node->generation = attr->generation;
		pthread_mutex_unlock(&node->lock);
	}
	*ret_node = node;
	return 0;
}

void pml_remote_node_forget(struct pml_remotefs *fs, uint64_t ino, uint64_t count)
{
	pthread_mutex_lock(&fs->lock);
	struct pml_remote_node *node = find_locked(fs, ino);
	/* The root stays: the kernel counts its look-ups, too, and forgets them at the end. */
	if (node && node != fs->root)
		drop_locked(node, count);
	pthread_mutex_unlock(&fs->lock);
}

/* The node that was seen last as @name in @dir. */
static struct pml_remote_node *find_name_locked(struct pml_remotefs *fs,
						const struct pml_remote_node *dir, const char *name)
{
	struct pml_remote_node *node;
	pml_list_for_each(node, names_of(fs, dir, name), by_name)
		if (node->parent == dir && strcmp(node->name, name) == 0)
			return node;
	return NULL;
}

void pml_remote_node_moved(struct pml_remotefs *fs, struct pml_remote_node *from, const char *name,
			   struct pml_remote_node *to, const char *new_name, bool is_exchange)
{
	pthread_mutex_lock(&fs->lock);
	struct pml_remote_node *node = find_name_locked(fs, from, name);
	struct pml_remote_node *other = is_exchange ? find_name_locked(fs, to, new_name) : NULL;
	if (node)
		(void)set_place_locked(fs, node, to, new_name);
	if (other)
		(void)set_place_locked(fs, other, from, name);
	pthread_mutex_unlock(&fs->lock);
}

struct pml_remote_node *pml_remote_node_open_as(struct pml_remotefs *fs,
						const struct pml_remote_node *dir, const char *name)
{
	pthread_mutex_lock(&fs->lock);
	struct pml_remote_node *node = find_name_locked(fs, dir, name);
	if (node)
		node->nlookups++;
	pthread_mutex_unlock(&fs->lock);
	if (!node)
		return NULL;
	pthread_mutex_lock(&node->lock);
	bool is_open = node->nopens > 0;
	pthread_mutex_unlock(&node->lock);
	if (is_open)
		return node;
	pml_remote_node_forget(fs, node->ino, 1);
	return NULL;
}

int pml_remote_node_place(struct pml_remotefs *fs, struct pml_remote_node *node,
			  struct pml_remote_node **ret_dir, char **ret_name)
{
	pthread_mutex_lock(&fs->lock);
	char *name = node->parent ? strdup(node->name) : NULL;
	if (name) {
		node->parent->nlookups++;
		*ret_dir = node->parent;
		*ret_name = name;
	}
	pthread_mutex_unlock(&fs->lock);
	return name ? 0 : -ENOENT;
}

struct pml_client_handle pml_remote_handle(struct pml_remote_node *node)
{
	pthread_mutex_lock(&node->lock);
	struct pml_client_handle handle = node->handle;
	pthread_mutex_unlock(&node->lock);
	return handle;
}

/* ---- after the server was mounted again ---------------------------------- */

/* The path of @node on the server, for free(); NULL: it has none, or no memory. */
static char *path_of(struct pml_remotefs *fs, const struct pml_remote_node *node)
{
	const char *names[PML_REMOTE_DEPTH_MAX];
	uint32_t n = 0;
	size_t bytes = strlen(fs->path) + 1;
	pthread_mutex_lock(&fs->lock);
	for (; node->parent && n < PML_REMOTE_DEPTH_MAX; node = node->parent) {
		names[n++] = node->name;
		bytes += strlen(node->name) + 1;
	}
	char *path = node == fs->root ? malloc(bytes) : NULL;
	if (path) {
		char *to = stpcpy(path, fs->path);
		while (n > 0) {
			*to++ = '/';
			to = stpcpy(to, names[--n]);
		}
	}
	pthread_mutex_unlock(&fs->lock);
	return path;
}

int pml_remote_node_again(struct pml_remotefs *fs, struct pml_remote_node *node)
{
	pml_auto_free char *path = path_of(fs, node);
	struct pml_client_attr attr;
	int err = path ? pml_client_stat(fs->client, path, &attr) : -ESTALE;
	if (err)
		return -ESTALE;
	pthread_mutex_lock(&node->lock);
	bool is_same = (node == fs->root || attr.ino == node->ino) &&
		       attr.generation == node->generation &&
		       memcmp(&attr.handle, &node->handle, sizeof(attr.handle)) != 0;
	if (is_same)
		node->handle = attr.handle;
	pthread_mutex_unlock(&node->lock);
	return is_same ? 0 : -ESTALE;
}
