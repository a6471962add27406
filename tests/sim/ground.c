/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * ground.c -- the simulated filesystem: which blocks lie behind which file, shares and pins
 *
 * What fs/ does in words of blocks: copy-on-write, holes, clones, snapshots.  A block that is
 * handed out gets a new identity: who still reaches it by an old one reads foreign bytes.
 */
#include <string.h>

#include "sim.h"

#define SNAPSHOT SIM_FILES /* the file that snapshots go to */

static uint32_t fb_of(uint64_t byte)
{
	return (uint32_t)PML_MIN(byte / PML_BLOCK_BYTES, (uint64_t)SIM_FILE_BLOCKS);
}

static uint32_t fb_above(uint64_t byte)
{
	return byte > SIM_FILE_BLOCKS * PML_BLOCK_BYTES
		       ? SIM_FILE_BLOCKS
		       : (uint32_t)((byte + PML_BLOCK_BYTES - 1) / PML_BLOCK_BYTES);
}

/* A free block, from anywhere; SIM_HOLE: there is none. */
static uint32_t allocate(struct sim *sim)
{
	uint32_t from = (uint32_t)sim_below(sim, SIM_BLOCKS);
	for (uint32_t i = 0; i < SIM_BLOCKS; i++) {
		uint32_t block = (from + i) % SIM_BLOCKS;
		if (sim->shares[block] || sim->pins[block])
			continue;
		sim->shares[block] = 1;
		sim->identity[block] = ++sim->last_identity;
		return block;
	}
	return SIM_HOLE;
}

static void unmap(struct sim *sim, uint32_t file, uint32_t fb)
{
	uint32_t block = sim->map[file][fb];
	if (block == SIM_HOLE)
		return;
	sim->shares[block]--;
	sim->map[file][fb] = SIM_HOLE;
}

/* A new block in place of what is there; false: the device is full. */
static bool replace(struct sim *sim, uint32_t file, uint32_t fb)
{
	uint32_t block = allocate(sim);
	if (block == SIM_HOLE)
		return false;
	unmap(sim, file, fb);
	sim->map[file][fb] = block;
	return true;
}

static void share(struct sim *sim, uint32_t from, uint32_t from_fb, uint32_t to, uint32_t to_fb)
{
	uint32_t block = sim->map[from][from_fb];
	unmap(sim, to, to_fb);
	if (block == SIM_HOLE)
		return;
	sim->shares[block]++;
	sim->map[to][to_fb] = block;
}

void ground_init(struct sim *sim)
{
	memset(sim->map, 0xff, sizeof(sim->map));
	for (uint32_t file = 0; file < SIM_FILES; file++)
		for (uint32_t fb = 0; fb < SIM_FILE_BLOCKS; fb++)
			if (sim_maybe(sim, 70))
				(void)replace(sim, file, fb);
}

/* ---- pins ------------------------------------------------------------------ */

/* Makes a block the file's own, as own_range() in fs/lend.c. */
static bool own(struct sim *sim, uint32_t file, uint32_t fb)
{
	uint32_t block = sim->map[file][fb];
	bool is_own = block != SIM_HOLE && sim->shares[block] == 1;
	if (is_own || (block != SIM_HOLE && sim->fault == SIM_NO_OWN))
		return true;
	return replace(sim, file, fb);
}

static void add_block(struct sim *sim, struct pml_segment *at, uint32_t *count, uint32_t fb,
		      uint32_t block)
{
	struct pml_segment *last = *count ? &at[*count - 1] : NULL;
	sim->pins[block]++;
	if (last && last->block + last->nblocks == block &&
	    last->first_byte + last->nblocks * PML_BLOCK_BYTES == fb * PML_BLOCK_BYTES) {
		last->nblocks++;
		last->len_bytes += PML_BLOCK_BYTES;
		return;
	}
	at[(*count)++] = (struct pml_segment){.first_byte = fb * PML_BLOCK_BYTES,
					      .len_bytes = PML_BLOCK_BYTES,
					      .block = block,
					      .nblocks = 1};
}

int ground_pin(struct sim *sim, const struct pml_lease *lease, struct pml_segment *at, uint32_t max,
	       uint32_t *ret_count, uint64_t *ret_end)
{
	const struct pml_claim *claim = &lease->claim;
	uint32_t file = (uint32_t)claim->ino, end = fb_above(claim->end_byte);
	bool owns = claim->mode == PML_LEASE_WRITE || claim->is_shared;
	for (uint32_t fb = fb_of(claim->first_byte); owns && fb < end; fb++)
		if (!own(sim, file, fb))
			return -ENOSPC;
	*ret_count = 0;
	*ret_end = claim->end_byte;
	for (uint32_t fb = fb_of(claim->first_byte); fb < end; fb++) {
		uint32_t block = sim->map[file][fb];
		if (block == SIM_HOLE)
			continue;
		/* One segment is always left for a block that adjoins none. */
		if (*ret_count == max) {
			*ret_end = fb * PML_BLOCK_BYTES;
			break;
		}
		add_block(sim, at, ret_count, fb, block);
	}
	return *ret_end > claim->first_byte ? 0 : -ENODATA;
}

void ground_unpin(struct sim *sim, const struct pml_segment *at)
{
	for (uint64_t i = at->block; i < at->block + at->nblocks; i++) {
		if (sim->pins[i] == 0)
			sim_fail(sim, "I2: block %llu is unpinned more often than pinned",
				 (unsigned long long)i);
		else
			sim->pins[i]--;
	}
}

/* ---- changes ---------------------------------------------------------------- */

static void change_block(struct sim *sim, const struct sim_op *op, enum pml_layout_op kind,
			 uint32_t file, uint32_t fb)
{
	uint32_t block = sim->map[file][fb];
	switch (kind) {
	case PML_OP_TRUNCATE:
	case PML_OP_PUNCH:
		unmap(sim, file, fb);
		break;
	case PML_OP_UNSHARE:
		if (block == SIM_HOLE || sim->shares[block] > 1)
			(void)replace(sim, file, fb);
		break;
	case PML_OP_CLONE_SRC:
	case PML_OP_SNAPSHOT:
		share(sim, file, fb, SNAPSHOT, fb);
		break;
	case PML_OP_CLONE_DST:
	case PML_OP_DEDUPE:
		if (op->nchanges == 2)
			share(sim, (uint32_t)op->change[0].ino, fb, file, fb);
		else
			unmap(sim, file, fb);
		break;
	case PML_OP_ZERO:
	case PML_OP_COLLAPSE:
	case PML_OP_INSERT:
	case PML_OP_RELOCATE:
	case PML_OP_COUNT:
		(void)replace(sim, file, fb);
		break;
	}
}

/* Whole blocks; copy-on-write rounds out (lease/rules.c). */
static void change_range(struct sim *sim, const struct sim_op *op,
			 const struct pml_layout_change *change)
{
	bool rounds_out = change->op == PML_OP_UNSHARE;
	uint32_t first = rounds_out ? fb_of(change->first_byte) : fb_above(change->first_byte);
	uint32_t end = rounds_out ? fb_above(change->end_byte) : fb_of(change->end_byte);
	for (uint32_t fb = first; fb < end; fb++)
		change_block(sim, op, change->op, (uint32_t)change->ino, fb);
}

void ground_change(struct sim *sim, const struct sim_op *op)
{
	/* Of a clone only the destination's map changes. */
	change_range(sim, op, &op->change[op->nchanges - 1]);
	sim->changes++;
}
