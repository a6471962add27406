/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * carve.c -- makes allocation groups out of the pool's heap
 *
 * A group lies in one huge object of libpmemobj.  Those consist of whole chunks
 * of 256 KiB and begin 16 bytes behind one, so the object is 2 MiB larger than
 * the blocks that are wanted and they begin at the first multiple of 2 MiB in it.
 * Two groups of the largest size fill a zone of the heap (16 GiB) best.
 *
 * How much of the heap is free nobody says reliably (statistics are wrong after
 * a crash), so it is tried out: reservations live in DRAM, take microseconds and
 * can be cancelled.
 *
 * Threads: the caller's lock, see alloc.h.
 */
#include "alloc.h"
#include "carve.h"

#define CHUNK_BYTES	      (256u << 10)
#define OBJECT_HEADER_BYTES   16u
#define GROUP_ALIGN_BYTES     (2u << 20)
#define GROUP_BYTES_MAX	      ((8ull << 30) - (62u << 20))
#define GROUP_BYTES_MIN	      (16u << 20)
#define SMALL_GROUP_BYTES_MIN (4u << 20) /* on devices below 512 MiB */
/* Smaller pieces of free heap are not counted: metadata takes up to this much at once (tx.c). */
#define PIECE_BYTES_MIN (1u << 20)
/* Reservations that one trial of the free heap may make. */
#define TRIALS_MAX 4096u

static uint64_t largest_group_bytes(const struct pml_fs *fs)
{
	uint64_t bytes = PML_MIN(fs->info.size_bytes / 4, GROUP_BYTES_MAX);
	return pml_round_down(bytes, GROUP_ALIGN_BYTES);
}

/* 0: there is none. */
static uint64_t smaller_group_bytes(const struct pml_fs *fs, uint64_t bytes)
{
	uint64_t least = PML_MIN(fs->info.size_bytes / 32, (uint64_t)GROUP_BYTES_MIN);
	least = PML_MAX(pml_round_down(least, GROUP_ALIGN_BYTES), (uint64_t)SMALL_GROUP_BYTES_MIN);
	if (bytes <= least)
		return 0;
	return PML_MAX(pml_round_down(bytes / 2, GROUP_ALIGN_BYTES), least);
}

/* Reserves an object for at least @bytes of aligned blocks, and says where they will be. */
static bool reserve_group(struct pml_fs *fs, uint64_t bytes, struct pobj_action *ret_action,
			  struct pml_media_group *ret_group)
{
	uint64_t object_bytes = bytes + GROUP_ALIGN_BYTES - OBJECT_HEADER_BYTES;
	PMEMoid oid = pmemobj_reserve(fs->pool, ret_action, object_bytes, PML_TYPE_GROUP);
	if (OID_IS_NULL(oid))
		return false;

	/* Behind the aligned part the rest serves too. */
	uint64_t first_byte = pml_round_up(oid.off, GROUP_ALIGN_BYTES);
	uint64_t end = oid.off + object_bytes;
	*ret_group = (struct pml_media_group){
		.first_block = first_byte >> PML_BLOCK_SHIFT,
		.nblocks = (end - first_byte) >> PML_BLOCK_SHIFT,
		.object = oid.off,
	};
	return true;
}

/* Is so much of the heap free, in pieces of a useful size? */
static bool has_free_heap(struct pml_fs *fs, uint64_t bytes)
{
	pml_auto_free struct pobj_action *trial = calloc(TRIALS_MAX, sizeof(*trial));
	if (!trial)
		return false;

	size_t n = 0;
	uint64_t sum = 0;
	uint64_t piece = PIECE_BYTES_MIN;
	while (piece < bytes && piece < GROUP_BYTES_MAX / 2)
		piece *= 2;
	while (sum < bytes && n < TRIALS_MAX && piece >= PIECE_BYTES_MIN) {
		PMEMoid oid = pmemobj_reserve(fs->pool, &trial[n], piece - OBJECT_HEADER_BYTES,
					      PML_TYPE_GROUP);
		if (OID_IS_NULL(oid)) {
			piece /= 2;
			continue;
		}
		n++;
		sum += piece;
	}
	pmemobj_cancel(fs->pool, trial, n);
	return sum >= bytes;
}

/* Reserves the next group, not larger than *bytes, which falls to the size that it got. */
static bool reserve_next(struct pml_fs *fs, uint64_t *bytes, struct pobj_action *ret_action,
			 struct pml_media_group *ret_group)
{
	uint64_t reserve = pml_metadata_reserve(fs->info.size_bytes);

	for (; *bytes; *bytes = smaller_group_bytes(fs, *bytes)) {
		if (!reserve_group(fs, *bytes, ret_action, ret_group))
			continue;
		if (has_free_heap(fs, reserve))
			return true;
		pmemobj_cancel(fs->pool, ret_action, 1);
	}
	return false;
}

int pml_carve_group(struct pml_fs *fs, struct pml_media_group *ret_group)
{
	struct pml_media_super *super = fs->super;
	struct pml_media_group *entry = &super->groups[super->ngroups];
	struct pobj_action action[2];
	uint64_t bytes = largest_group_bytes(fs);

	assert(super->ngroups < PML_GROUPS_MAX);
	if (!reserve_next(fs, &bytes, &action[0], ret_group))
		return -ENOSPC;

	/* The entry says nothing yet; the object and the new number come together. */
	*entry = *ret_group;
	pmemobj_persist(fs->pool, entry, sizeof(*entry));
	static_assert(offsetof(struct pml_media_super, ngroups) % 8 == 0,
		      "set by one 8-byte store, with reserved0");
	pmemobj_set_value(fs->pool, &action[1], (uint64_t *)(void *)&super->ngroups,
			  super->ngroups + 1u);
	if (pmemobj_publish(fs->pool, action, PML_ARRAY_LEN(action)) != 0) {
		pmemobj_cancel(fs->pool, action, PML_ARRAY_LEN(action));
		return -ENOSPC;
	}
	return 0;
}

int pml_alloc_format(struct pml_fs *fs)
{
	pml_auto_free struct pobj_action *action = calloc(PML_GROUPS_MAX, sizeof(*action));
	if (!action)
		return -ENOMEM;

	struct pml_media_group group;
	uint64_t bytes = largest_group_bytes(fs);
	uint64_t nblocks = 0;
	size_t n = 0;
	while (n < PML_GROUPS_MAX && reserve_next(fs, &bytes, &action[n], &group)) {
		nblocks += group.nblocks;
		n++;
	}
	pmemobj_cancel(fs->pool, action, n);
	pml_carve_set_payload(fs, nblocks);
	return n > 0 ? 0 : -ENOSPC;
}

uint64_t pml_carve_payload(const struct pml_fs *fs)
{
	return __atomic_load_n(&fs->super->payload_blocks, __ATOMIC_RELAXED);
}

void pml_carve_set_payload(struct pml_fs *fs, uint64_t nblocks)
{
	__atomic_store_n(&fs->super->payload_blocks, nblocks, __ATOMIC_RELAXED);
	pmemobj_persist(fs->pool, &fs->super->payload_blocks, sizeof(nblocks));
}
