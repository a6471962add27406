/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fuse_nodes.c -- the inodes that the kernel knows, and what it must be told of them
 *
 * A hash table with chains that doubles.  A node on the stale list waits for a
 * thread to tell the kernel; one that is stale but not on the list waits for a
 * parked write to end first.
 *
 * Threads: nodes->lock guards everything; it is the last in every order, because
 * pml_fuse_nodes_mark() is called under any lock.
 */
#include <pthread.h>

#include "fuse_nodes.h"
#include "pml/list.h"

#define FIRST_BUCKETS 1024u

struct node {
	struct node *next;	 /* in the bucket */
	struct pml_inode *inode; /* one reference */
	uint64_t ino;
	uint64_t nlookup;     /* never 0 while in the table */
	struct pml_list link; /* on nodes->stale_list, or on none */
	uint64_t first_byte;  /* what is stale, if is_stale */
	uint64_t end_byte;
	uint32_t ntelling; /* threads that are telling the kernel right now */
	uint32_t nwriters; /* writes that may be parked */
	bool is_stale;
};

struct pml_fuse_nodes {
	pthread_mutex_t lock;
	pthread_cond_t wake; /* stale_list or is_stopping changed */
	struct pml_list stale_list;
	struct node **buckets;
	uint64_t nbuckets; /* a power of two */
	uint64_t nnodes;
	bool is_stopping;
};

int pml_fuse_nodes_new(struct pml_fuse_nodes **ret_nodes)
{
	pml_auto_free struct pml_fuse_nodes *nodes = calloc(1, sizeof(*nodes));
	if (!nodes)
		return -ENOMEM;
	nodes->nbuckets = FIRST_BUCKETS;
	nodes->buckets = calloc(nodes->nbuckets, sizeof(*nodes->buckets));
	if (!nodes->buckets)
		return -ENOMEM;

	pthread_mutex_init(&nodes->lock, NULL);
	pthread_cond_init(&nodes->wake, NULL);
	pml_list_init(&nodes->stale_list);
	*ret_nodes = pml_take_ptr(&nodes);
	return 0;
}

void pml_fuse_nodes_free(struct pml_fuse_nodes *nodes)
{
	if (!nodes)
		return;
	for (uint64_t i = 0; i < nodes->nbuckets; i++) {
		while (nodes->buckets[i]) {
			struct node *node = nodes->buckets[i];
			nodes->buckets[i] = node->next;
			pml_inode_put(node->inode, 1);
			free(node);
		}
	}
	pthread_cond_destroy(&nodes->wake);
	pthread_mutex_destroy(&nodes->lock);
	free(nodes->buckets);
	free(nodes);
}

static struct node **bucket_of(struct node **buckets, uint64_t nbuckets, uint64_t ino)
{
	/* Fibonacci hashing: Knuth, The Art of Computer Programming, vol. 3, 6.4. */
	return &buckets[(ino * 0x9e3779b97f4a7c15u >> 32) & (nbuckets - 1)];
}

/* The link that points at the node, or at the end of its chain. */
static struct node **find_locked(struct pml_fuse_nodes *nodes, uint64_t ino)
{
	struct node **link = bucket_of(nodes->buckets, nodes->nbuckets, ino);
	while (*link && (*link)->ino != ino)
		link = &(*link)->next;
	return link;
}

/* Without memory the chains just become longer. */
static void grow_locked(struct pml_fuse_nodes *nodes)
{
	uint64_t nbuckets = nodes->nbuckets * 2;
	struct node **buckets = calloc(nbuckets, sizeof(struct node *));
	if (!buckets)
		return;
	for (uint64_t i = 0; i < nodes->nbuckets; i++) {
		while (nodes->buckets[i]) {
			struct node *node = nodes->buckets[i];
			nodes->buckets[i] = node->next;
			struct node **to = bucket_of(buckets, nbuckets, node->ino);
			node->next = *to;
			*to = node;
		}
	}
	free(nodes->buckets);
	nodes->buckets = buckets;
	nodes->nbuckets = nbuckets;
}

static struct node *node_new(struct pml_inode *inode, uint64_t ino)
{
	struct node *node = calloc(1, sizeof(*node));
	if (!node)
		return NULL;
	node->inode = inode;
	node->ino = ino;
	node->nlookup = 1;
	pml_list_init(&node->link);
	return node;
}

int pml_fuse_nodes_add(struct pml_fuse_nodes *nodes, struct pml_inode *inode)
{
	uint64_t ino = pml_inode_ino(inode);

	pthread_mutex_lock(&nodes->lock);
	struct node **link = find_locked(nodes, ino);
	bool is_known = *link;
	if (is_known) {
		assert((*link)->inode == inode);
		(*link)->nlookup++;
	} else {
		struct node *node = node_new(inode, ino);
		if (!node) {
			pthread_mutex_unlock(&nodes->lock);
			return -ENOMEM;
		}
		*link = node;
		if (++nodes->nnodes > nodes->nbuckets)
			grow_locked(nodes);
	}
	pthread_mutex_unlock(&nodes->lock);

	if (is_known)
		pml_inode_put(inode, 1);
	return 0;
}

void pml_fuse_nodes_forget(struct pml_fuse_nodes *nodes, uint64_t ino, uint64_t count)
{
	struct node *gone = NULL;

	if (ino == PML_ROOT_INO) /* known as long as there is a mount */
		return;
	pthread_mutex_lock(&nodes->lock);
	struct node **link = find_locked(nodes, ino);
	struct node *node = *link;
	if (node && node->nlookup <= count) {
		*link = node->next;
		nodes->nnodes--;
		pml_list_remove(&node->link);
		gone = node;
	} else if (node) {
		node->nlookup -= count;
	}
	pthread_mutex_unlock(&nodes->lock);

	if (gone) {
		pml_inode_put(gone->inode, 1);
		free(gone);
	}
}

struct pml_inode *pml_fuse_nodes_get(struct pml_fuse_nodes *nodes, uint64_t ino)
{
	pthread_mutex_lock(&nodes->lock);
	struct node *node = *find_locked(nodes, ino);
	struct pml_inode *inode = node ? node->inode : NULL;
	pthread_mutex_unlock(&nodes->lock);

	/* The kernel does not forget what a request of its own names (include/linux/fuse.h). */
	if (inode)
		pml_inode_ref(inode);
	return inode;
}

/* Puts a stale node where a thread finds it, unless it must wait for a writer. */
static void offer_locked(struct pml_fuse_nodes *nodes, struct node *node)
{
	if (!node->is_stale || node->nwriters > 0 || !pml_list_is_empty(&node->link))
		return;
	pml_list_append(&nodes->stale_list, &node->link);
	pthread_cond_signal(&nodes->wake);
}

void pml_fuse_nodes_mark(struct pml_fuse_nodes *nodes, const struct pml_fuse_stale *stale)
{
	pthread_mutex_lock(&nodes->lock);
	struct node *node = *find_locked(nodes, stale->ino);
	if (node) {
		node->first_byte = node->is_stale ? PML_MIN(node->first_byte, stale->first_byte)
						  : stale->first_byte;
		node->end_byte =
			node->is_stale ? PML_MAX(node->end_byte, stale->end_byte) : stale->end_byte;
		node->is_stale = true;
		offer_locked(nodes, node);
	}
	pthread_mutex_unlock(&nodes->lock);
}

bool pml_fuse_nodes_take_stale(struct pml_fuse_nodes *nodes, struct pml_fuse_stale *ret_stale)
{
	pthread_mutex_lock(&nodes->lock);
	while (!nodes->is_stopping && pml_list_is_empty(&nodes->stale_list))
		pthread_cond_wait(&nodes->wake, &nodes->lock);
	bool has_one = !nodes->is_stopping;
	if (has_one) {
		struct node *node = pml_list_entry(nodes->stale_list.next, struct node, link);
		pml_list_remove(&node->link);
		node->is_stale = false;
		node->ntelling++;
		ret_stale->ino = node->ino;
		ret_stale->first_byte = node->first_byte;
		ret_stale->end_byte = node->end_byte;
	}
	pthread_mutex_unlock(&nodes->lock);
	return has_one;
}

void pml_fuse_nodes_told(struct pml_fuse_nodes *nodes, uint64_t ino)
{
	pthread_mutex_lock(&nodes->lock);
	struct node *node = *find_locked(nodes, ino);
	/* It may have been forgotten and looked up anew in between. */
	if (node && node->ntelling > 0)
		node->ntelling--;
	pthread_mutex_unlock(&nodes->lock);
}

bool pml_fuse_nodes_is_stale(struct pml_fuse_nodes *nodes, uint64_t ino)
{
	pthread_mutex_lock(&nodes->lock);
	struct node *node = *find_locked(nodes, ino);
	bool is_stale = node && (node->is_stale || node->ntelling > 0);
	pthread_mutex_unlock(&nodes->lock);
	return is_stale;
}

void pml_fuse_nodes_stop(struct pml_fuse_nodes *nodes)
{
	pthread_mutex_lock(&nodes->lock);
	nodes->is_stopping = true;
	pthread_cond_broadcast(&nodes->wake);
	pthread_mutex_unlock(&nodes->lock);
}

void pml_fuse_nodes_write_begin(struct pml_fuse_nodes *nodes, uint64_t ino)
{
	pthread_mutex_lock(&nodes->lock);
	struct node *node = *find_locked(nodes, ino);
	if (node) {
		node->nwriters++;
		pml_list_remove(&node->link);
	}
	pthread_mutex_unlock(&nodes->lock);
}

void pml_fuse_nodes_write_end(struct pml_fuse_nodes *nodes, uint64_t ino)
{
	pthread_mutex_lock(&nodes->lock);
	struct node *node = *find_locked(nodes, ino);
	if (node && node->nwriters > 0) {
		node->nwriters--;
		offer_locked(nodes, node);
	}
	pthread_mutex_unlock(&nodes->lock);
}
