/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * check_table.c -- the inode table
 *
 * Levels and chunks are made in order and never given back.  So a slot that is damaged,
 * or empty with others behind it, together with the only level or chunk that nothing
 * names belong to each other; with more of either it would be a guess.
 */
#include "check.h"

#include <inttypes.h>
#include <string.h>

struct bad {
	uint64_t *slot; /* the last one found */
	size_t n;
	uint64_t first_ino;
};

/* The objects of @type that nothing has claimed; *ret_object is the last one in use. */
static size_t count_unclaimed(const struct pml_check *c, uint8_t type,
			      struct pml_check_object **ret_object)
{
	size_t n = 0;
	for (size_t i = 0; i < c->nobjects; i++) {
		if (c->object[i].type != type || c->object[i].is_claimed)
			continue;
		*ret_object = &c->object[i];
		n++;
	}
	return n;
}

/* One slot and one object are missing each other; or the slot's content is lost. */
static void settle(struct pml_check *c, const struct bad *bad, uint8_t type, const char *what)
{
	struct pml_check_object *object = NULL;
	size_t nlost = count_unclaimed(c, type, &object);
	if (bad->n == 0 && nlost == 0)
		return;
	uint64_t wanted = type == PML_TYPE_ITABLE_LEVEL ? sizeof(struct pml_media_itable_level)
							: sizeof(struct pml_media_itable_chunk);
	if (bad->n == 1 && nlost == 1 && pml_check_object_bytes(object) >= wanted) {
		if (pml_check_found(c, PML_CHECK_TABLE_SLOT,
				    "inode table: the %s from inode %" PRIu64
				    " on is not named; the one at %#" PRIx64
				    " is the only one that is not used",
				    what, bad->first_ino, object->offset)) {
			pml_check_done(c, pml_check_store(c, bad->slot, &object->offset,
							  sizeof(uint64_t)));
		}
	} else if (nlost > 0) {
		(void)pml_check_found(
			c, PML_CHECK_TABLE_UNCLEAR,
			"inode table: %zu times a %s is not used, and %zu are missing: "
			"which belongs where is not known",
			nlost, what, bad->n);
	} else if (pml_check_found(c, PML_CHECK_TABLE_LOST,
				   "inode table: the %s from inode %" PRIu64 " on cannot be found",
				   what, bad->first_ino)) {
		pml_check_done(c, pml_check_store(c, bad->slot, &(uint64_t){0}, sizeof(uint64_t)));
	}
}

static void note_bad(struct bad *bad, uint64_t *slot, uint64_t first_ino)
{
	bad->slot = slot;
	bad->first_ino = first_ino;
	bad->n++;
}

/* A slot is empty and a later one is not. */
static bool is_hole(const uint64_t *slots, size_t i)
{
	for (size_t k = i + 1; k < PML_ITABLE_FANOUT; k++)
		if (slots[k])
			return true;
	return false;
}

static void load_level(struct pml_check *c, uint64_t index, struct bad *bad)
{
	struct pml_media_itable_level *level = pml_at(c->fs, c->fs->super->itable[index]);
	c->level[index] = calloc(PML_ITABLE_FANOUT, sizeof(c->level[index][0]));
	if (!c->level[index]) {
		c->err = -ENOMEM;
		return;
	}
	for (size_t i = 0; i < PML_ITABLE_FANOUT && !c->err; i++) {
		uint64_t first_ino = (index * PML_ITABLE_FANOUT + i) * PML_CHUNK_INODES + 1;
		uint64_t offset = level->chunk[i];
		if (!offset) {
			if (is_hole(level->chunk, i))
				note_bad(bad, &level->chunk[i], first_ino);
			continue;
		}
		if (pml_check_claim(c, offset, PML_TYPE_ITABLE_CHUNK,
				    sizeof(struct pml_media_itable_chunk))) {
			note_bad(bad, &level->chunk[i], first_ino);
			continue;
		}
		struct pml_check_chunk *chunk = calloc(1, sizeof(*chunk));
		if (!chunk)
			c->err = -ENOMEM;
		else
			chunk->media = pml_at(c->fs, offset);
		c->level[index][i] = chunk;
	}
}

void pml_check_table(struct pml_check *c)
{
	uint64_t *slots = c->fs->super->itable;
	struct bad levels = {0}, chunks = {0};
	pml_check_table_free(c);
	for (uint64_t i = 0; i < PML_ITABLE_FANOUT && !pml_check_is_over(c); i++) {
		uint64_t first_ino = i * PML_ITABLE_FANOUT * PML_CHUNK_INODES + 1;
		if (!slots[i]) {
			if (is_hole(slots, i))
				note_bad(&levels, &slots[i], first_ino);
		} else if (pml_check_claim(c, slots[i], PML_TYPE_ITABLE_LEVEL,
					   sizeof(struct pml_media_itable_level))) {
			note_bad(&levels, &slots[i], first_ino);
		} else {
			load_level(c, i, &chunks);
		}
	}
	if (c->err)
		return;
	settle(c, &levels, PML_TYPE_ITABLE_LEVEL, "level");
	/* Chunks of a level that is missing are no lost ones. */
	if (!c->must_restart && !c->is_partial)
		settle(c, &chunks, PML_TYPE_ITABLE_CHUNK, "chunk");
}

void pml_check_table_free(struct pml_check *c)
{
	for (size_t i = 0; i < PML_ITABLE_FANOUT; i++) {
		for (size_t k = 0; c->level[i] && k < PML_ITABLE_FANOUT; k++)
			free(c->level[i][k]);
		free(c->level[i]);
		c->level[i] = NULL;
	}
}

struct pml_media_inode *pml_check_inode_at(const struct pml_check *c, uint64_t ino,
					   struct pml_check_slot **ret_slot)
{
	if (ino == 0 || ino > PML_INO_MAX)
		return NULL;
	uint64_t index = (ino - 1) / PML_CHUNK_INODES;
	struct pml_check_chunk **level = c->level[index / PML_ITABLE_FANOUT];
	struct pml_check_chunk *chunk = level ? level[index % PML_ITABLE_FANOUT] : NULL;
	if (!chunk)
		return NULL;
	if (ret_slot)
		*ret_slot = &chunk->slot[(ino - 1) % PML_CHUNK_INODES];
	return &chunk->media->inode[(ino - 1) % PML_CHUNK_INODES];
}

void pml_check_each_inode(struct pml_check *c,
			  void (*visit)(struct pml_check *c, uint64_t ino,
					struct pml_media_inode *inode, struct pml_check_slot *slot))
{
	for (uint64_t i = 0; i < (uint64_t)PML_ITABLE_FANOUT * PML_ITABLE_FANOUT; i++) {
		struct pml_check_chunk **level = c->level[i / PML_ITABLE_FANOUT];
		if (!level) {
			i |= PML_ITABLE_FANOUT - 1; /* the whole level is missing */
			continue;
		}
		struct pml_check_chunk *chunk = level[i % PML_ITABLE_FANOUT];
		for (unsigned int k = 0; chunk && k < PML_CHUNK_INODES; k++) {
			if (!chunk->media->inode[k].mode)
				continue;
			if (pml_check_is_over(c))
				return;
			visit(c, i * PML_CHUNK_INODES + k + 1, &chunk->media->inode[k],
			      &chunk->slot[k]);
		}
	}
}
