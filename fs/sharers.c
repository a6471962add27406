/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * sharers.c -- which files map a shared block
 *
 * The device is cut into regions of 128 blocks; each that has shared blocks has its hints,
 * clipped to the region, in chains by the block that they begin at.  Hints of one file on one
 * line (the same distance of file block and device block) neither overlap nor touch each
 * other: they are merged.
 *
 * A region is made and freed under the lock, and looked for without it: a hint of a file is
 * noted and dropped under that file's lock, so whoever drops sees the regions that hold its
 * hints.
 */
#include "sharers.h"

#include <string.h>

#include "itable.h"
#include "pin.h"

#define REGION_BLOCKS	   128u
#define REGION_HINTS_FIRST 4u
#define BLOCKS_PER_HINT	   8u
#define HINTS_MIN	   4096u

struct hint {
	const struct pml_media_inode *owner;
	uint64_t ino;
	uint64_t file_block;
	uint16_t first; /* in the region */
	uint16_t end;
	uint16_t next; /* in its chain, or free: index and 1; 0: the last */
};
static_assert(sizeof(struct hint) == 32, "as sharers.h says");

struct region {
	uint64_t starts[REGION_BLOCKS / 64]; /* a bit for each chain that is not empty */
	uint16_t chain[REGION_BLOCKS];	     /* index and 1 of the first hint; 0: none */
	uint16_t free;			     /* the same */
	uint16_t n;
	uint16_t capacity;
	uint16_t longest; /* no hint has more blocks */
	struct hint hint[];
};

enum state { NOT_KNOWN, KNOWN, FAILED };

struct pml_sharers {
	/* Changes while the audit lock is held exclusively. */
	_Atomic(enum state) state;
	pthread_mutex_t lock;
	uint64_t n; /* hints; under lock */
	uint64_t max;
	uint64_t nregions;
	_Atomic(struct region *) region[]; /* contents under lock */
};

int pml_sharers_new(struct pml_fs *fs)
{
	uint64_t nregions = fs->nblocks / REGION_BLOCKS + 1;
	struct pml_sharers *sharers =
		calloc(1, sizeof(*sharers) + nregions * sizeof(sharers->region[0]));
	if (!sharers)
		return -ENOMEM;
	pthread_mutex_init(&sharers->lock, NULL);
	sharers->nregions = nregions;
	sharers->max = PML_MAX(fs->nblocks / BLOCKS_PER_HINT, (uint64_t)HINTS_MIN);
	fs->sharers = sharers;
	return 0;
}

void pml_sharers_free(struct pml_fs *fs)
{
	if (!fs->sharers)
		return;
	for (uint64_t r = 0; r < fs->sharers->nregions; r++)
		free(atomic_load(&fs->sharers->region[r]));
	pthread_mutex_destroy(&fs->sharers->lock);
	free(fs->sharers);
	fs->sharers = NULL;
}

/* ---- one region --------------------------------------------------------- */

static bool is_shared(const struct pml_fs *fs, uint64_t r, const struct hint *h)
{
	const _Atomic uint32_t *counter = &fs->counters[r * REGION_BLOCKS];
	for (uint64_t b = h->first; b < h->end; b++)
		/* Mostly there is no pin, and one look is enough. */
		if (atomic_load_explicit(&counter[b], memory_order_relaxed) > 1 &&
		    pml_block_shares(fs, r * REGION_BLOCKS + b) > 1)
			return true;
	return false;
}

/* The first block from @from on that hints begin at; REGION_BLOCKS: there is none. */
static uint64_t next_start(const struct region *region, uint64_t from)
{
	for (uint64_t word = from / 64; word < PML_ARRAY_LEN(region->starts); word++) {
		uint64_t bits = region->starts[word];
		if (word == from / 64)
			bits &= UINT64_MAX << from % 64;
		if (bits)
			return word * 64 + (uint64_t)__builtin_ctzll(bits);
	}
	return REGION_BLOCKS;
}

/* Where hints may begin that reach to block @first or beyond it. */
static uint64_t earliest_start(const struct region *region, uint64_t first)
{
	return first > region->longest ? first - region->longest : 0;
}

/* Takes the hint that *@link leads to out of its chain. */
static void remove_locked(struct pml_sharers *sharers, struct region *region, uint16_t *link)
{
	uint16_t i = *link;
	struct hint *h = &region->hint[i - 1];
	*link = h->next;
	if (!region->chain[h->first])
		region->starts[h->first / 64] &= ~(1ull << h->first % 64);
	h->next = region->free;
	region->free = i;
	region->n--;
	sharers->n--;
}

/* Forgets hints about blocks that are not shared any more. */
static void purge_locked(const struct pml_fs *fs, uint64_t r, struct region *region)
{
	for (uint64_t start = next_start(region, 0); start < REGION_BLOCKS;
	     start = start + 1 < REGION_BLOCKS ? next_start(region, start + 1) : REGION_BLOCKS) {
		for (uint16_t *link = &region->chain[start]; *link;) {
			struct hint *h = &region->hint[*link - 1];
			if (is_shared(fs, r, h))
				link = &h->next;
			else
				remove_locked(fs->sharers, region, link);
		}
	}
}

/* A region with room for one hint more; NULL: there is none. */
static struct region *grow_locked(const struct pml_fs *fs, uint64_t r)
{
	struct pml_sharers *sharers = fs->sharers;
	struct region *old = atomic_load(&sharers->region[r]);
	if (old && old->n == old->capacity)
		purge_locked(fs, r, old);
	if (sharers->n >= sharers->max)
		return NULL;
	if (old && old->n < old->capacity)
		return old;
	uint32_t nold = old ? old->capacity : 0;
	uint32_t capacity = old ? nold * 2 : REGION_HINTS_FIRST;
	if (capacity > PML_SHARERS_REGION_MAX)
		return NULL;
	struct region *grown = malloc(sizeof(*grown) + capacity * sizeof(grown->hint[0]));
	if (!grown)
		return NULL;
	if (old)
		memcpy(grown, old, sizeof(*old) + nold * sizeof(old->hint[0]));
	else
		memset(grown, 0, sizeof(*grown));
	for (uint32_t i = nold; i < capacity; i++) {
		grown->hint[i].next = grown->free;
		grown->free = (uint16_t)(i + 1);
	}
	grown->capacity = (uint16_t)capacity;
	atomic_store(&sharers->region[r], grown);
	free(old);
	return grown;
}

static void add_locked(const struct pml_fs *fs, uint64_t r, const struct hint *hint)
{
	struct region *region = grow_locked(fs, r);
	if (!region)
		return;
	uint16_t i = region->free;
	struct hint *h = &region->hint[i - 1];
	region->free = h->next;
	*h = *hint;
	h->next = region->chain[h->first];
	region->chain[h->first] = i;
	region->starts[h->first / 64] |= 1ull << h->first % 64;
	if (h->end - h->first > region->longest)
		region->longest = (uint16_t)(h->end - h->first);
	region->n++;
	fs->sharers->n++;
}

static bool are_on_one_line(const struct hint *a, const struct hint *b)
{
	return a->owner == b->owner && a->file_block - a->first == b->file_block - b->first;
}

/* Becomes the union of both, which overlap or touch each other on one line. */
static void widen(struct hint *hint, const struct hint *by)
{
	if (by->first < hint->first) {
		hint->first = by->first;
		hint->file_block = by->file_block;
	}
	if (by->end > hint->end)
		hint->end = by->end;
}

/* Adds a hint; those that it overlaps or touches on its line become one with it. */
static void note_locked(const struct pml_fs *fs, uint64_t r, struct hint hint)
{
	struct region *region = atomic_load(&fs->sharers->region[r]);
	uint64_t last = hint.end;
	for (uint64_t start = region ? earliest_start(region, hint.first) : REGION_BLOCKS;
	     start < REGION_BLOCKS; start++) {
		start = next_start(region, start);
		if (start > last || start == REGION_BLOCKS)
			break;
		for (uint16_t *link = &region->chain[start]; *link;) {
			struct hint *h = &region->hint[*link - 1];
			if (!are_on_one_line(h, &hint) || h->end < hint.first) {
				link = &h->next;
				continue;
			}
			/* Often it is there already. */
			if (h->first <= hint.first && h->end >= hint.end)
				return;
			widen(&hint, h);
			remove_locked(fs->sharers, region, link);
		}
	}
	add_locked(fs, r, &hint);
}

/* What is left of hint @h, on one line with it, outside of @gone. */
static void keep_rest(const struct hint *h, const struct hint *gone, struct hint *rest, size_t *n)
{
	if (h->first < gone->first) {
		rest[*n] = *h;
		rest[(*n)++].end = gone->first;
	}
	if (h->end > gone->end) {
		rest[*n] = *h;
		rest[*n].file_block += (uint64_t)gone->end - h->first;
		rest[(*n)++].first = gone->end;
	}
}

/* Returns whether there was such a hint. */
static bool drop_locked(const struct pml_fs *fs, uint64_t r, const struct hint *gone)
{
	struct region *region = atomic_load(&fs->sharers->region[r]);
	struct hint rest[2]; /* in front of @gone, and behind it */
	size_t nrest = 0;
	bool had_some = false;
	for (uint64_t start = region ? earliest_start(region, gone->first) : REGION_BLOCKS;
	     start < REGION_BLOCKS; start++) {
		start = next_start(region, start);
		if (start >= gone->end)
			break;
		for (uint16_t *link = &region->chain[start]; *link;) {
			struct hint *h = &region->hint[*link - 1];
			bool is_gone = h->end > gone->first && are_on_one_line(h, gone);
			if (is_gone)
				keep_rest(h, gone, rest, &nrest);
			had_some |= is_gone;
			if (is_gone || (h->end > gone->first && !is_shared(fs, r, h)))
				remove_locked(fs->sharers, region, link);
			else
				link = &h->next;
		}
	}
	for (size_t i = 0; i < nrest; i++)
		add_locked(fs, r, &rest[i]);
	region = atomic_load(&fs->sharers->region[r]);
	if (region && region->n == 0) {
		atomic_store(&fs->sharers->region[r], NULL);
		free(region);
	}
	return had_some;
}

/* ---- extents, region by region ------------------------------------------ */

/* The part of @e at its block @done that lies in one region; returns the region. */
static uint64_t part_of(const struct pml_extent *e, uint64_t done, struct hint *ret_part)
{
	uint64_t first = (e->block + done) % REGION_BLOCKS;
	ret_part->file_block = e->file_block + done;
	ret_part->first = (uint16_t)first;
	ret_part->end = (uint16_t)PML_MIN(first + (e->nblocks - done), (uint64_t)REGION_BLOCKS);
	return (e->block + done) / REGION_BLOCKS;
}

bool pml_sharers_are_known(const struct pml_fs *fs)
{
	/* The checker has none. */
	return fs->sharers &&
	       atomic_load_explicit(&fs->sharers->state, memory_order_relaxed) == KNOWN;
}

static void note_extent_locked(const struct pml_fs *fs, uint64_t ino,
			       const struct pml_media_inode *owner, const struct pml_extent *e)
{
	for (uint64_t done = 0; done < e->nblocks;) {
		struct hint part = {.owner = owner, .ino = ino};
		uint64_t r = part_of(e, done, &part);
		if (pml_block_shares(fs, e->block + done) <= PML_SHARERS_MAX)
			note_locked(fs, r, part);
		done += (uint64_t)part.end - part.first;
	}
}

void pml_sharers_note(struct pml_fs *fs, uint64_t ino, const struct pml_media_inode *owner,
		      const struct pml_extent *e)
{
	if (!pml_sharers_are_known(fs))
		return;
	pthread_mutex_lock(&fs->sharers->lock);
	note_extent_locked(fs, ino, owner, e);
	pthread_mutex_unlock(&fs->sharers->lock);
}

void pml_sharers_note_clone(const struct pml_inode *src, uint64_t dst_ino,
			    const struct pml_media_inode *dst, uint64_t src_block,
			    uint64_t dst_block, const struct pml_unmapped *shared)
{
	const struct pml_fs *fs = src->fs;
	if (!pml_sharers_are_known(fs))
		return;
	pthread_mutex_lock(&fs->sharers->lock);
	for (size_t i = 0; i < shared->n; i++) {
		struct pml_extent e = {
			.file_block = shared->run[i].file_block,
			.block = shared->run[i].block,
			.nblocks = shared->run[i].nblocks,
		};
		note_extent_locked(fs, src->ino, src->media, &e);
		e.file_block = e.file_block - src_block + dst_block;
		note_extent_locked(fs, dst_ino, dst, &e);
	}
	pthread_mutex_unlock(&fs->sharers->lock);
}

/* One inode's extents, in the walk over all. */
struct learn {
	struct pml_fs *fs;
	uint64_t ino;
	const struct pml_media_inode *inode;
};

/* Notes the blocks of an extent that are shared. */
static int learn_extent(void *arg, const struct pml_extent *e)
{
	const struct learn *learn = arg;
	const struct pml_fs *fs = learn->fs;
	for (uint64_t done = 0; done < e->nblocks;) {
		uint64_t n = 0;
		while (done + n < e->nblocks && pml_block_shares(fs, e->block + done + n) > 1)
			n++;
		const struct pml_extent part = {
			.file_block = e->file_block + done,
			.block = e->block + done,
			.nblocks = n,
		};
		if (n)
			note_extent_locked(fs, learn->ino, learn->inode, &part);
		done += n + 1;
	}
	return 0;
}

static int learn_inode(void *arg, uint64_t ino, struct pml_media_inode *inode)
{
	struct learn learn = {.fs = arg, .ino = ino, .inode = inode};
	return S_ISREG(inode->mode) ? pml_extent_walk(arg, inode, 0, learn_extent, &learn) : 0;
}

int pml_sharers_learn(struct pml_fs *fs)
{
	struct pml_sharers *sharers = fs->sharers;
	pthread_rwlock_wrlock(&fs->audit_lock);
	if (atomic_load(&sharers->state) == NOT_KNOWN) {
		pthread_mutex_lock(&sharers->lock);
		int err = pml_itable_walk(fs, learn_inode, fs);
		pthread_mutex_unlock(&sharers->lock);
		atomic_store(&sharers->state, err ? FAILED : KNOWN);
	}
	int err = atomic_load(&sharers->state) == KNOWN ? 0 : -EIO;
	pthread_rwlock_unlock(&fs->audit_lock);
	return err;
}

void pml_sharers_drop(struct pml_fs *fs, const struct pml_media_inode *owner,
		      const struct pml_extent *e)
{
	for (uint64_t done = 0; pml_sharers_are_known(fs) && done < e->nblocks;) {
		struct hint part = {.owner = owner};
		uint64_t r = part_of(e, done, &part);
		done += (uint64_t)part.end - part.first;
		if (!atomic_load(&fs->sharers->region[r]))
			continue;
		pthread_mutex_lock(&fs->sharers->lock);
		(void)drop_locked(fs, r, &part);
		pthread_mutex_unlock(&fs->sharers->lock);
	}
}

void pml_sharers_move(struct pml_fs *fs, uint64_t ino, const struct pml_media_inode *owner,
		      const struct pml_extent *e, uint64_t file_block)
{
	for (uint64_t done = 0; pml_sharers_are_known(fs) && done < e->nblocks;) {
		struct hint part = {.owner = owner, .ino = ino};
		uint64_t r = part_of(e, done, &part);
		struct hint moved = part;
		moved.file_block = file_block + done;
		done += (uint64_t)part.end - part.first;
		if (!atomic_load(&fs->sharers->region[r]))
			continue;
		pthread_mutex_lock(&fs->sharers->lock);
		if (drop_locked(fs, r, &part))
			note_locked(fs, r, moved);
		pthread_mutex_unlock(&fs->sharers->lock);
	}
}

size_t pml_sharers_at(const struct pml_fs *fs, uint64_t block, uint64_t *n,
		      struct pml_sharer *ret_sharers, size_t max)
{
	uint64_t at = block % REGION_BLOCKS;
	uint64_t end = PML_MIN(at + *n, (uint64_t)REGION_BLOCKS);
	size_t count = 0;
	pthread_mutex_lock(&fs->sharers->lock);
	const struct region *region = atomic_load(&fs->sharers->region[block / REGION_BLOCKS]);
	for (uint64_t start = region ? earliest_start(region, at) : REGION_BLOCKS;
	     start < REGION_BLOCKS; start++) {
		start = next_start(region, start);
		/* What begins behind it is another answer. */
		if (start > at) {
			end = PML_MIN(end, start);
			break;
		}
		for (uint16_t i = region->chain[start]; i; i = region->hint[i - 1].next) {
			const struct hint *h = &region->hint[i - 1];
			if (h->end <= at)
				continue;
			end = PML_MIN(end, (uint64_t)h->end);
			if (count < max)
				ret_sharers[count] = (struct pml_sharer){
					.ino = h->ino,
					.file_block = h->file_block + (at - h->first),
				};
			count++;
		}
	}
	pthread_mutex_unlock(&fs->sharers->lock);
	*n = end - at;
	return count;
}

uint64_t pml_sharers_count(const struct pml_fs *fs)
{
	pthread_mutex_lock(&fs->sharers->lock);
	uint64_t n = fs->sharers->n;
	pthread_mutex_unlock(&fs->sharers->lock);
	return n;
}
