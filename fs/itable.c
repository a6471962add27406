/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * itable.c -- the inode table on the device, and which numbers are free
 *
 * At mount all offsets of the table are checked once and copied to DRAM; from
 * then on the copy is used, and it learns of a new chunk only after the commit.
 * Free numbers are a bitmap per chunk; chunks with a free number form a stack.
 *
 * Threads: lookups are lock-free (the copy only grows); taking and giving back
 * numbers is behind one mutex, held while a chunk is made.
 * Format:  docs/on-media-format.md, "Inode table".
 */
#include "itable.h"

#include <pthread.h>
#include <stdlib.h>

#include "tx.h"

#define CHUNKS_MAX (PML_ITABLE_FANOUT * PML_ITABLE_FANOUT)
#define FREE_WORDS (PML_CHUNK_INODES / 64)

struct chunk {
	_Atomic(struct pml_media_itable_chunk *) media; /* NULL: not made yet; set once */
	uint64_t free[FREE_WORDS];			/* a bit per free number; under the mutex */
	struct chunk *next; /* on the stack of chunks with a free number; under the mutex */
	uint32_t index;
};

struct level {
	struct chunk chunk[PML_ITABLE_FANOUT];
};

struct pml_itable {
	pthread_mutex_t mutex; /* lock order: fs.itable_lock of pool.h */
	_Atomic(struct level *) level[PML_ITABLE_FANOUT];
	struct chunk *with_free;
	uint32_t next_chunk; /* none below is missing */
	_Atomic uint64_t nused;
};

/* A piece of the device, for the check that none lies over another. */
struct piece {
	uint64_t offset;
	uint64_t bytes;
};

struct pieces {
	struct piece *piece;
	size_t n;
	size_t capacity;
};

static struct chunk *chunk_at(const struct pml_itable *itable, uint64_t index)
{
	struct level *level = atomic_load_explicit(&itable->level[index / PML_ITABLE_FANOUT],
						   memory_order_acquire);
	return level ? &level->chunk[index % PML_ITABLE_FANOUT] : NULL;
}

static struct pml_media_itable_chunk *chunk_media(struct chunk *chunk)
{
	return chunk ? atomic_load_explicit(&chunk->media, memory_order_acquire) : NULL;
}

static bool chunk_has_free(const struct chunk *chunk)
{
	for (unsigned int i = 0; i < FREE_WORDS; i++)
		if (chunk->free[i])
			return true;
	return false;
}

static struct level *level_make(struct pml_itable *itable, uint64_t index)
{
	struct level *level = atomic_load_explicit(&itable->level[index], memory_order_relaxed);
	if (level)
		return level;
	level = calloc(1, sizeof(*level));
	if (!level)
		return NULL;
	for (uint32_t i = 0; i < PML_ITABLE_FANOUT; i++)
		level->chunk[i].index = (uint32_t)index * PML_ITABLE_FANOUT + i;
	/* Pairs with the acquire of chunk_at(). */
	atomic_store_explicit(&itable->level[index], level, memory_order_release);
	return level;
}

/* Makes a chunk of the device known, with its bitmap of free numbers. */
static void chunk_publish(struct pml_itable *itable, struct chunk *chunk,
			  struct pml_media_itable_chunk *media)
{
	uint64_t nused = 0;
	for (unsigned int i = 0; i < PML_CHUNK_INODES; i++) {
		if (media->inode[i].mode)
			nused++;
		else
			chunk->free[i / 64] |= 1ull << (i % 64);
	}
	if (chunk_has_free(chunk)) {
		chunk->next = itable->with_free;
		itable->with_free = chunk;
	}
	atomic_fetch_add(&itable->nused, nused);
	/* Pairs with the acquire of chunk_media(). */
	atomic_store_explicit(&chunk->media, media, memory_order_release);
}

static int pieces_add(struct pieces *pieces, uint64_t offset, uint64_t bytes)
{
	if (pieces->n == pieces->capacity) {
		size_t capacity = pieces->capacity ? pieces->capacity * 2 : 64;
		struct piece *grown = reallocarray(pieces->piece, capacity, sizeof(*pieces->piece));
		if (!grown)
			return -ENOMEM;
		pieces->piece = grown;
		pieces->capacity = capacity;
	}
	pieces->piece[pieces->n++] = (struct piece){.offset = offset, .bytes = bytes};
	return 0;
}

static int piece_compare(const void *a, const void *b)
{
	const struct piece *left = a, *right = b;
	return (left->offset > right->offset) - (left->offset < right->offset);
}

/* No inode may have two numbers: its locks go by number. */
static int pieces_check(const struct pml_fs *fs, struct pieces *pieces)
{
	qsort(pieces->piece, pieces->n, sizeof(*pieces->piece), piece_compare);
	for (size_t i = 1; i < pieces->n; i++) {
		const struct piece *before = &pieces->piece[i - 1];
		if (before->offset + before->bytes > pieces->piece[i].offset)
			return pml_corrupt(fs, "parts of the inode table overlap",
					   pieces->piece[i].offset);
	}
	return 0;
}

static int scan_level(struct pml_fs *fs, uint64_t index, struct pieces *pieces)
{
	uint64_t offset = fs->super->itable[index];
	if (!offset)
		return 0;
	int err = pml_pool_check_object(fs, offset, PML_TYPE_ITABLE_LEVEL,
					sizeof(struct pml_media_itable_level));
	if (err)
		return err;
	const struct pml_media_itable_level *media = pml_at(fs, offset);
	struct level *level = level_make(fs->itable, index);
	if (!level)
		return -ENOMEM;
	err = pieces_add(pieces, offset, sizeof(*media));
	/* Backwards, so that low numbers come to lie on top of the stack. */
	for (unsigned int i = PML_ITABLE_FANOUT; !err && i-- > 0;) {
		uint64_t chunk = media->chunk[i];
		if (!chunk)
			continue;
		err = pml_pool_check_object(fs, chunk, PML_TYPE_ITABLE_CHUNK,
					    sizeof(struct pml_media_itable_chunk));
		if (!err)
			err = pieces_add(pieces, chunk, sizeof(struct pml_media_itable_chunk));
		if (!err)
			chunk_publish(fs->itable, &level->chunk[i], pml_at(fs, chunk));
	}
	return err;
}

int pml_itable_open(struct pml_fs *fs)
{
	fs->itable = calloc(1, sizeof(*fs->itable));
	if (!fs->itable)
		return -ENOMEM;
	(void)pthread_mutex_init(&fs->itable->mutex, NULL);
	struct pieces pieces = {0};
	int err = pieces_add(&pieces, pml_offset_of(fs, fs->super), sizeof(*fs->super));
	for (uint64_t i = PML_ITABLE_FANOUT; !err && i-- > 0;)
		err = scan_level(fs, i, &pieces);
	if (!err)
		err = pieces_check(fs, &pieces);
	free(pieces.piece);
	if (err)
		pml_itable_close(fs);
	return err;
}

void pml_itable_close(struct pml_fs *fs)
{
	if (!fs->itable)
		return;
	for (unsigned int i = 0; i < PML_ITABLE_FANOUT; i++)
		free(atomic_load_explicit(&fs->itable->level[i], memory_order_relaxed));
	(void)pthread_mutex_destroy(&fs->itable->mutex);
	free(fs->itable);
	fs->itable = NULL;
}

int pml_itable_at(const struct pml_fs *fs, uint64_t ino, struct pml_media_inode **ret_inode)
{
	if (ino == 0 || ino > PML_INO_MAX)
		return -ENOENT;
	struct pml_media_itable_chunk *media =
		chunk_media(chunk_at(fs->itable, (ino - 1) / PML_CHUNK_INODES));
	if (!media)
		return -ENOENT;
	*ret_inode = &media->inode[(ino - 1) % PML_CHUNK_INODES];
	return 0;
}

static int chunk_alloc_in_tx(struct pml_fs *fs, uint64_t index, uint64_t *ret_offset)
{
	uint64_t *level_slot = &fs->super->itable[index / PML_ITABLE_FANOUT];
	if (!*level_slot) {
		uint64_t offset;
		int err = pml_tx_alloc(sizeof(struct pml_media_itable_level), PML_TYPE_ITABLE_LEVEL,
				       &offset);
		if (!err)
			err = PML_TX_SET(*level_slot, offset);
		if (err)
			return err;
	}
	struct pml_media_itable_level *level = pml_at(fs, *level_slot);
	int err = pml_tx_alloc(sizeof(struct pml_media_itable_chunk), PML_TYPE_ITABLE_CHUNK,
			       ret_offset);
	return err ? err : PML_TX_SET(level->chunk[index % PML_ITABLE_FANOUT], *ret_offset);
}

/* Makes the first missing chunk.  Mutex held. */
static int chunk_make(struct pml_fs *fs)
{
	struct pml_itable *itable = fs->itable;
	while (itable->next_chunk < CHUNKS_MAX && chunk_media(chunk_at(itable, itable->next_chunk)))
		itable->next_chunk++;
	uint32_t index = itable->next_chunk;
	if (index == CHUNKS_MAX)
		return -ENOSPC;
	struct level *level = level_make(itable, index / PML_ITABLE_FANOUT);
	if (!level)
		return -ENOMEM;

	struct pml_tx tx;
	uint64_t offset = 0;
	int err = pml_tx_begin(fs, &tx);
	if (err)
		return err;
	err = pml_tx_end(&tx, chunk_alloc_in_tx(fs, index, &offset));
	if (!err)
		chunk_publish(itable, &level->chunk[index % PML_ITABLE_FANOUT], pml_at(fs, offset));
	return err;
}

int pml_itable_take(struct pml_fs *fs, uint64_t *ret_ino)
{
	struct pml_itable *itable = fs->itable;
	(void)pthread_mutex_lock(&itable->mutex);
	int err = itable->with_free ? 0 : chunk_make(fs);
	if (!err) {
		struct chunk *chunk = itable->with_free;
		unsigned int word = 0;
		while (!chunk->free[word])
			word++;
		unsigned int bit = (unsigned int)__builtin_ctzll(chunk->free[word]);
		chunk->free[word] &= ~(1ull << bit);
		if (!chunk_has_free(chunk))
			itable->with_free = chunk->next;
		atomic_fetch_add(&itable->nused, 1);
		*ret_ino = (uint64_t)chunk->index * PML_CHUNK_INODES + word * 64 + bit + 1;
	}
	(void)pthread_mutex_unlock(&itable->mutex);
	return err;
}

void pml_itable_put(struct pml_fs *fs, uint64_t ino)
{
	struct pml_itable *itable = fs->itable;
	assert(ino >= 1 && ino <= PML_INO_MAX);
	struct chunk *chunk = chunk_at(itable, (ino - 1) / PML_CHUNK_INODES);
	unsigned int i = (unsigned int)((ino - 1) % PML_CHUNK_INODES);
	(void)pthread_mutex_lock(&itable->mutex);
	if (!chunk_has_free(chunk)) {
		chunk->next = itable->with_free;
		itable->with_free = chunk;
	}
	assert(!(chunk->free[i / 64] & 1ull << (i % 64)));
	chunk->free[i / 64] |= 1ull << (i % 64);
	atomic_fetch_sub(&itable->nused, 1);
	(void)pthread_mutex_unlock(&itable->mutex);
}

int pml_itable_walk(struct pml_fs *fs,
		    int (*visit)(void *arg, uint64_t ino, struct pml_media_inode *inode), void *arg)
{
	for (uint64_t index = 0; index < CHUNKS_MAX; index++) {
		struct chunk *chunk = chunk_at(fs->itable, index);
		if (!chunk) {
			index |= PML_ITABLE_FANOUT - 1; /* the whole level is missing */
			continue;
		}
		struct pml_media_itable_chunk *media = chunk_media(chunk);
		for (unsigned int i = 0; media && i < PML_CHUNK_INODES; i++) {
			if (!media->inode[i].mode)
				continue;
			int err = visit(arg, index * PML_CHUNK_INODES + i + 1, &media->inode[i]);
			if (err)
				return err;
		}
	}
	return 0;
}

uint64_t pml_itable_used(const struct pml_fs *fs)
{
	return atomic_load(&fs->itable->nused);
}
