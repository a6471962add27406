/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * audit.c -- recompute every counter from extents and pins, and compare (I1, I2)
 *
 * Three accounts must agree for each block: the counter, the extents that map it
 * plus the pin index, and the allocator's mark.  They are compared with all
 * changes stopped.  The owners' own list of pins (the lease manager's segments)
 * changes beside that, so it is compared a few times before a difference counts.
 */
#include "pml/fs.h"

#include <sys/mman.h>
#include <stdio.h>
#include <string.h>

#include "alloc.h"
#include "counter.h"
#include "extent.h"
#include "itable.h"
#include "pin.h"

struct audit {
	struct pml_fs *fs;
	uint32_t *expected; /* per device block */
	uint32_t *owned;    /* pins that the owners list */
	bool is_out_of_range;
};

static int add_extent(void *arg, const struct pml_extent *e)
{
	struct audit *a = arg;
	for (uint64_t i = 0; i < e->nblocks; i++)
		a->expected[e->block + i]++;
	return 0;
}

static int add_inode(void *arg, uint64_t ino, struct pml_media_inode *inode)
{
	struct audit *a = arg;
	(void)ino;
	return S_ISREG(inode->mode) ? pml_extent_walk(a->fs, inode, 0, add_extent, a) : 0;
}

static void add_pins(void *arg, uint64_t first, uint64_t n)
{
	struct audit *a = arg;
	for (uint64_t i = 0; i < n; i++)
		a->expected[first + i] += PML_PIN_BIAS;
}

static void add_owned(void *arg, uint64_t first, uint64_t n)
{
	struct audit *a = arg;
	if (first > a->fs->nblocks || n > a->fs->nblocks - first) {
		a->is_out_of_range = true;
		return;
	}
	for (uint64_t i = 0; i < n; i++)
		a->owned[first + i]++;
}

static int compare_block(const struct audit *a, uint64_t block, char *ret_reason)
{
	uint32_t counter = atomic_load(&a->fs->counters[block]);
	if (counter != a->expected[block]) {
		snprintf(ret_reason, PML_REASON_BYTES,
			 "I1: block %lu has counter %u, its extents and pins make %u",
			 (unsigned long)block, counter, a->expected[block]);
		return -EUCLEAN;
	}
	if (counter != 0 && !pml_alloc_has(a->fs, block, 1)) {
		snprintf(ret_reason, PML_REASON_BYTES, "I1: block %lu is in use outside of groups",
			 (unsigned long)block);
		return -EUCLEAN;
	}
	if (pml_alloc_has(a->fs, block, 1) && pml_alloc_is_used(a->fs, block) != (counter != 0)) {
		snprintf(ret_reason, PML_REASON_BYTES, "I1: block %lu is marked %s with counter %u",
			 (unsigned long)block, counter ? "free" : "in use", counter);
		return -EUCLEAN;
	}
	return 0;
}

static int compare_all(const struct audit *a, char *ret_reason)
{
	for (uint64_t block = 0; block < a->fs->nblocks; block++) {
		int err = compare_block(a, block, ret_reason);
		if (err)
			return err;
	}
	return 0;
}

static int compare_owned(const struct audit *a, char *ret_reason)
{
	if (a->is_out_of_range) {
		snprintf(ret_reason, PML_REASON_BYTES, "I2: a lease segment lies off the device");
		return -EUCLEAN;
	}
	for (uint64_t block = 0; block < a->fs->nblocks; block++) {
		uint32_t pins =
			(atomic_load(&a->fs->counters[block]) - pml_block_shares(a->fs, block)) /
			PML_PIN_BIAS;
		if (pins != a->owned[block]) {
			snprintf(ret_reason, PML_REASON_BYTES,
				 "I2: block %lu has %u pins, leases own %u", (unsigned long)block,
				 pins, a->owned[block]);
			return -EUCLEAN;
		}
	}
	return 0;
}

static void *map_array(uint64_t n)
{
	void *p = mmap(NULL, n * sizeof(uint32_t), PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	return p == MAP_FAILED ? NULL : p;
}

static int audit_once(struct pml_fs *fs, pml_audit_pins pins_of, void *arg, char *ret_reason)
{
	struct audit a = {
		.fs = fs,
		.expected = map_array(fs->nblocks),
		.owned = map_array(fs->nblocks),
	};
	int err = a.expected && a.owned ? 0 : -ENOMEM;
	if (!err) {
		pthread_rwlock_wrlock(&fs->audit_lock);
		err = pml_itable_walk(fs, add_inode, &a);
		if (!err) {
			pml_pin_walk(fs, add_pins, &a);
			err = compare_all(&a, ret_reason);
		}
		if (!err && pins_of) {
			pins_of(arg, add_owned, &a);
			err = compare_owned(&a, ret_reason) ? -EAGAIN : 0;
		}
		pthread_rwlock_unlock(&fs->audit_lock);
	}
	if (a.expected)
		munmap(a.expected, fs->nblocks * sizeof(uint32_t));
	if (a.owned)
		munmap(a.owned, fs->nblocks * sizeof(uint32_t));
	return err;
}

/* Rounds of comparing with the owners, 10 ms apart, before a difference is one. */
#define OWNER_ROUNDS 50

int pml_fs_audit(struct pml_fs *fs, pml_audit_pins pins_of, void *arg, char *ret_reason)
{
	snprintf(ret_reason, PML_REASON_BYTES, "the audit could not run");
	int err = -EAGAIN;
	for (int i = 0; i < OWNER_ROUNDS && err == -EAGAIN; i++) {
		if (i > 0)
			usleep(10000);
		err = audit_once(fs, pins_of, arg, ret_reason);
	}
	return err == -EAGAIN ? -EUCLEAN : err;
}
