/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fuse_nodes.c -- the inodes that the kernel knows, and what it must be told of them
 *
 * A hash table with chains that doubles.  A node on the stale list waits for a
 * thread to tell the kernel; one that is stale but not on the list waits for a
 * parked write to end first.  Who asks comes before them.
 *
 * A kernel that was told to forget all of an inode, and has not asked for any of it since, has
 * nothing that could be stale: it is told nothing until it does.  So files that only remote
 * clients use cost no telling.
 *
 * Threads: nodes->lock guards everything; it is the last in every order, because
 * pml_fuse_nodes_mark() is called under any lock.
 */
#include <pthread.h>
#include <semaphore.h>
#include <string.h>
#include <time.h>

#include "fuse_nodes.h"

#define FIRST_BUCKETS 1024u

/* How long who asks waits at most: a page that is locked longer belongs to a parked write. */
#define ASK_TIMEOUT_S 5

struct node {
	struct node *next;	 /* in the bucket */
	struct pml_inode *inode; /* one reference */
	uint64_t ino;
	uint64_t nlookup;     /* never 0 while in the table */
	struct pml_list link; /* on nodes->stale_list, or on none */
	uint64_t first_byte;  /* what is stale, if is_stale */
	uint64_t end_byte;
	uint32_t ntelling;	/* threads that are telling the kernel right now */
	struct pml_list parked; /* of struct pml_fuse_parked */
	bool is_stale;
	uint32_t nopen;	     /* descriptions that the kernel has open */
	uint64_t asked;	     /* how often it has asked for something that it may keep */
	uint64_t asked_told; /* the same when the last telling began */
	/* It keeps nothing but a size, and that one is right: */
	bool is_clean;
	uint64_t told_size;
};

/* One who waits.  Freed by the last of him and the teller. */
struct pml_fuse_ask {
	struct pml_list link; /* on nodes->asks, or on none: a teller has it */
	struct pml_list link_all;
	struct pml_fuse_stale stale;
	bool is_told;
	bool is_left;	 /* he does not wait any more */
	bool is_blocked; /* a write was parked meanwhile: the teller may wait for it */
	char name[];
};

struct pml_fuse_nodes {
	pthread_mutex_t lock;
	sem_t wake;		  /* of tellers that sleep: asks, stale_list, is_stopping changed */
	uint32_t nidle;		  /* that sleep and were not called yet */
	pthread_cond_t told;	  /* an ask changed, or is_over */
	struct pml_list asks;	  /* not taken yet */
	struct pml_list all_asks; /* not told yet */
	struct pml_list stale_list;
	struct node **buckets;
	uint64_t nbuckets; /* a power of two */
	uint64_t nnodes;
	bool is_over;
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
	(void)sem_init(&nodes->wake, 0, 0);
	pthread_condattr_t attr;
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&nodes->told, &attr);
	pthread_condattr_destroy(&attr);
	pml_list_init(&nodes->asks);
	pml_list_init(&nodes->all_asks);
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
	while (!pml_list_is_empty(&nodes->all_asks)) {
		struct pml_fuse_ask *ask =
			pml_list_entry(nodes->all_asks.next, struct pml_fuse_ask, link_all);
		pml_list_remove(&ask->link_all);
		free(ask);
	}
	pthread_cond_destroy(&nodes->told);
	(void)sem_destroy(&nodes->wake);
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
	pml_list_init(&node->parked);
	return node;
}

/* The kernel asks for something: before it is looked at what that is. */
static void touch_locked(struct node *node)
{
	node->asked++;
	node->is_clean = false;
}

/* Is there nothing to tell? */
static bool has_forgotten_locked(const struct node *node)
{
	return node->is_clean && node->told_size == pml_inode_size(node->inode);
}

int pml_fuse_nodes_add(struct pml_fuse_nodes *nodes, struct pml_inode *inode)
{
	uint64_t ino = pml_inode_ino(inode);

	pthread_mutex_lock(&nodes->lock);
	struct node **link = find_locked(nodes, ino);
	struct node *node = *link;
	bool is_known = node;
	if (is_known) {
		assert(node->inode == inode);
		node->nlookup++;
	} else {
		node = node_new(inode, ino);
		if (!node) {
			pthread_mutex_unlock(&nodes->lock);
			return -ENOMEM;
		}
		*link = node;
		if (++nodes->nnodes > nodes->nbuckets)
			grow_locked(nodes);
	}
	touch_locked(node);
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
		pml_list_remove(&node->parked);
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
	if (node)
		touch_locked(node);
	pthread_mutex_unlock(&nodes->lock);

	/* The kernel does not forget what a request of its own names (include/linux/fuse.h). */
	if (inode)
		pml_inode_ref(inode);
	return inode;
}

void pml_fuse_nodes_opened(struct pml_fuse_nodes *nodes, uint64_t ino, bool is_open)
{
	pthread_mutex_lock(&nodes->lock);
	struct node *node = *find_locked(nodes, ino);
	/* The kernel does not forget what it has open, but at a forced end. */
	if (node) {
		assert(is_open || node->nopen > 0);
		node->nopen += is_open ? 1 : -1;
		touch_locked(node);
	}
	pthread_mutex_unlock(&nodes->lock);
}

/*
 * Something is there to be told.  True: the caller calls wake_one() when it has unlocked.
 *
 * Grants and commits of all clients come by here.  So nobody is woken under the lock, and not by
 * pthread_cond_signal(3), which may wait until threads that it woke before have run.
 */
static bool call_teller_locked(struct pml_fuse_nodes *nodes)
{
	if (nodes->nidle == 0)
		return false;
	nodes->nidle--;
	return true;
}

static void wake_one(struct pml_fuse_nodes *nodes)
{
	(void)sem_post(&nodes->wake);
}

/* With the lock; drops it while this thread sleeps.  May return for no reason. */
static void sleep_locked(struct pml_fuse_nodes *nodes)
{
	nodes->nidle++;
	pthread_mutex_unlock(&nodes->lock);
	while (sem_wait(&nodes->wake) < 0 && errno == EINTR)
		;
	pthread_mutex_lock(&nodes->lock);
}

/*
 * Puts a stale node where a thread finds it, unless it must wait for a writer.
 * True: as call_teller_locked().
 */
PML_MUST_CHECK static bool offer_locked(struct pml_fuse_nodes *nodes, struct node *node)
{
	if (!node->is_stale || !pml_list_is_empty(&node->parked) || !pml_list_is_empty(&node->link))
		return false;
	pml_list_append(&nodes->stale_list, &node->link);
	return call_teller_locked(nodes);
}

/* True: as call_teller_locked(). */
PML_MUST_CHECK static bool mark_locked(struct pml_fuse_nodes *nodes, struct node *node,
				       uint64_t first_byte, uint64_t end_byte)
{
	/* Attributes alone are an empty range, which is told in any case. */
	if (first_byte >= end_byte) {
		first_byte = UINT64_MAX;
		end_byte = 0;
	}
	node->first_byte = node->is_stale ? PML_MIN(node->first_byte, first_byte) : first_byte;
	node->end_byte = node->is_stale ? PML_MAX(node->end_byte, end_byte) : end_byte;
	node->is_stale = true;
	return offer_locked(nodes, node);
}

void pml_fuse_nodes_mark(struct pml_fuse_nodes *nodes, const struct pml_fuse_stale *stale)
{
	pthread_mutex_lock(&nodes->lock);
	struct node *node = *find_locked(nodes, stale->ino);
	bool is_called = node && !has_forgotten_locked(node) &&
			 mark_locked(nodes, node, stale->first_byte, stale->end_byte);
	pthread_mutex_unlock(&nodes->lock);
	if (is_called)
		wake_one(nodes);
}

/* ---- asking ------------------------------------------------------------- */

static struct pml_fuse_ask *ask_new(const struct pml_fuse_stale *stale, const char *name)
{
	size_t name_bytes = name ? strlen(name) + 1 : 1;
	struct pml_fuse_ask *ask = calloc(1, sizeof(*ask) + name_bytes);
	if (!ask)
		return NULL;
	ask->stale = *stale;
	if (name)
		memcpy(ask->name, name, name_bytes);
	return ask;
}

static void wait_locked(struct pml_fuse_nodes *nodes, struct pml_fuse_ask *ask)
{
	struct timespec until;
	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += ASK_TIMEOUT_S;
	int err = 0;
	while (!ask->is_told && !ask->is_blocked && !nodes->is_over && !err)
		err = pthread_cond_timedwait(&nodes->told, &nodes->lock, &until);
}

void pml_fuse_nodes_ask(struct pml_fuse_nodes *nodes, const struct pml_fuse_stale *stale,
			const char *name)
{
	struct pml_fuse_ask *ask = ask_new(stale, name);
	if (!ask) {
		pml_fuse_nodes_mark(nodes, stale);
		return;
	}
	pthread_mutex_lock(&nodes->lock);
	/* A kernel that does not know the inode has nothing that could be stale. */
	const struct node *node = *find_locked(nodes, stale->ino);
	if (nodes->is_stopping || !node || (!name && has_forgotten_locked(node))) {
		pthread_mutex_unlock(&nodes->lock);
		free(ask);
		return;
	}
	pml_list_append(&nodes->asks, &ask->link);
	pml_list_append(&nodes->all_asks, &ask->link_all);
	if (call_teller_locked(nodes)) {
		pthread_mutex_unlock(&nodes->lock);
		wake_one(nodes);
		pthread_mutex_lock(&nodes->lock);
	}
	wait_locked(nodes, ask);
	bool is_told = ask->is_told;
	ask->is_left = true;
	pthread_mutex_unlock(&nodes->lock);
	if (is_told)
		free(ask);
}

void pml_fuse_nodes_stop_waiting(struct pml_fuse_nodes *nodes)
{
	pthread_mutex_lock(&nodes->lock);
	nodes->is_over = true;
	pthread_cond_broadcast(&nodes->told);
	pthread_mutex_unlock(&nodes->lock);
}

/* ---- telling ------------------------------------------------------------ */

static void take_ask_locked(struct pml_fuse_nodes *nodes, struct pml_fuse_tell *ret_tell)
{
	struct pml_fuse_ask *ask = pml_list_entry(nodes->asks.next, struct pml_fuse_ask, link);
	pml_list_remove(&ask->link);
	*ret_tell = (struct pml_fuse_tell){
		.stale = ask->stale,
		.ask = ask,
		.name = ask->name[0] ? ask->name : NULL,
	};
}

static void take_marked_locked(struct pml_fuse_nodes *nodes, struct pml_fuse_tell *ret_tell)
{
	struct node *node = pml_list_entry(nodes->stale_list.next, struct node, link);
	pml_list_remove(&node->link);
	node->is_stale = false;
	*ret_tell = (struct pml_fuse_tell){
		.stale = {.ino = node->ino,
			  .first_byte = node->first_byte,
			  .end_byte = node->end_byte},
	};
}

/*
 * Nobody has the file open, and the kernel has not asked since it was told the last time: it is
 * told to forget all.
 */
static bool may_forget_all(const struct node *node, const struct pml_fuse_tell *tell)
{
	return !tell->name && tell->stale.first_byte < tell->stale.end_byte && node->nopen == 0 &&
	       node->asked == node->asked_told;
}

static void begin_telling_locked(struct node *node, struct pml_fuse_tell *tell)
{
	node->ntelling++;
	tell->is_counted = true;
	tell->asked = node->asked;
	tell->size = pml_inode_size(node->inode);
	tell->is_all = may_forget_all(node, tell);
	if (tell->is_all) {
		tell->stale.first_byte = 0;
		tell->stale.end_byte = UINT64_MAX;
	}
	node->asked_told = node->asked;
}

bool pml_fuse_nodes_take(struct pml_fuse_nodes *nodes, struct pml_fuse_tell *ret_tell)
{
	pthread_mutex_lock(&nodes->lock);
	while (!nodes->is_stopping && pml_list_is_empty(&nodes->asks) &&
	       pml_list_is_empty(&nodes->stale_list))
		sleep_locked(nodes);
	bool has_one = !nodes->is_stopping;
	if (has_one) {
		if (!pml_list_is_empty(&nodes->asks))
			take_ask_locked(nodes, ret_tell);
		else
			take_marked_locked(nodes, ret_tell);
		struct node *node = *find_locked(nodes, ret_tell->stale.ino);
		if (node)
			begin_telling_locked(node, ret_tell);
	}
	pthread_mutex_unlock(&nodes->lock);
	return has_one;
}

/* The first parked write that touches [@byte, @end); NULL: none. */
static const struct pml_fuse_parked *find_parked(struct node *node, uint64_t byte, uint64_t end)
{
	const struct pml_fuse_parked *found = NULL;
	struct pml_fuse_parked *parked;
	pml_list_for_each(parked, &node->parked, link)
		if (parked->end_byte > byte && parked->first_byte < end &&
		    (!found || parked->first_byte < found->first_byte))
			found = parked;
	return found;
}

bool pml_fuse_nodes_next_piece(struct pml_fuse_nodes *nodes, struct pml_fuse_tell *tell,
			       struct pml_fuse_stale *ret_piece)
{
	struct pml_fuse_stale *left = &tell->stale;
	bool has_piece = false;
	pthread_mutex_lock(&nodes->lock);
	struct node *node = *find_locked(nodes, left->ino);
	while (node && !has_piece && left->first_byte < left->end_byte) {
		const struct pml_fuse_parked *parked =
			find_parked(node, left->first_byte, left->end_byte);
		uint64_t stop = parked ? parked->first_byte : left->end_byte;
		if (stop > left->first_byte) {
			*ret_piece = (struct pml_fuse_stale){left->ino, left->first_byte, stop};
			left->first_byte = stop;
			has_piece = true;
		} else {
			stop = PML_MIN(parked->end_byte, left->end_byte);
			/* No: the write is parked, and calls when it ends. */
			bool is_called = mark_locked(nodes, node, left->first_byte, stop);
			assert(!is_called);
			left->first_byte = stop;
		}
	}
	pthread_mutex_unlock(&nodes->lock);
	return has_piece;
}

void pml_fuse_nodes_told(struct pml_fuse_nodes *nodes, const struct pml_fuse_tell *tell)
{
	struct pml_fuse_ask *ask = tell->ask;
	bool is_left = false;
	pthread_mutex_lock(&nodes->lock);
	struct node *node = *find_locked(nodes, tell->stale.ino);
	/* It may have been forgotten and looked up anew in between. */
	if (node && tell->is_counted && node->ntelling > 0)
		node->ntelling--;
	if (node && tell->is_all && node->asked == tell->asked && node->nopen == 0) {
		node->is_clean = true;
		node->told_size = tell->size;
	}
	if (ask) {
		pml_list_remove(&ask->link_all);
		is_left = ask->is_left;
		ask->is_told = true;
		pthread_cond_broadcast(&nodes->told);
	}
	pthread_mutex_unlock(&nodes->lock);
	if (is_left)
		free(ask);
}

bool pml_fuse_nodes_is_known(struct pml_fuse_nodes *nodes, uint64_t ino)
{
	pthread_mutex_lock(&nodes->lock);
	bool is_known = !nodes->is_over && *find_locked(nodes, ino);
	pthread_mutex_unlock(&nodes->lock);
	return is_known;
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
	nodes->is_over = true;
	while (call_teller_locked(nodes))
		wake_one(nodes);
	pthread_cond_broadcast(&nodes->told);
	pthread_mutex_unlock(&nodes->lock);
}

/* ---- parked writes ------------------------------------------------------ */

void pml_fuse_nodes_write_begin(struct pml_fuse_nodes *nodes, uint64_t ino,
				struct pml_fuse_parked *parked)
{
	/* Whole pages are locked. */
	parked->first_byte -= parked->first_byte % PML_BLOCK_BYTES;
	parked->end_byte = pml_round_up(parked->end_byte, PML_BLOCK_BYTES);
	pml_list_init(&parked->link);

	pthread_mutex_lock(&nodes->lock);
	struct node *node = *find_locked(nodes, ino);
	if (node) {
		pml_list_append(&node->parked, &parked->link);
		pml_list_remove(&node->link);
	}
	/* What a teller does right now may have to wait for this write: nobody else shall. */
	struct pml_fuse_ask *ask;
	pml_list_for_each(ask, &nodes->all_asks, link_all)
		if (ask->stale.ino == ino && pml_list_is_empty(&ask->link) &&
		    ask->stale.first_byte < parked->end_byte &&
		    parked->first_byte < ask->stale.end_byte)
			ask->is_blocked = true;
	pthread_cond_broadcast(&nodes->told);
	pthread_mutex_unlock(&nodes->lock);
}

void pml_fuse_nodes_write_end(struct pml_fuse_nodes *nodes, uint64_t ino,
			      struct pml_fuse_parked *parked)
{
	pthread_mutex_lock(&nodes->lock);
	pml_list_remove(&parked->link);
	struct node *node = *find_locked(nodes, ino);
	bool is_called = node && offer_locked(nodes, node);
	pthread_mutex_unlock(&nodes->lock);
	if (is_called)
		wake_one(nodes);
}
