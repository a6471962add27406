/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * pin.c -- the exact index of pinned blocks
 *
 * The device is cut into regions of 512 blocks; each region lists the parts of
 * pinned runs that lie in it.  A run is added and dropped as a whole, so a part
 * is found again by its bounds.  Counters of pinned blocks and the index change
 * together under one lock: whoever holds it sees them agree (I2).
 */
#include "pin.h"

#include "alloc.h"

#define REGION_BLOCKS 512u

struct part {
	struct part *next;
	uint64_t first;
	uint64_t n;
	bool for_write;
};

struct pml_pin_index {
	pthread_mutex_t lock;
	uint64_t nregions;
	struct part *region[]; /* under lock */
};

int pml_pin_index_new(struct pml_fs *fs)
{
	uint64_t nregions = fs->nblocks / REGION_BLOCKS + 1;
	struct pml_pin_index *idx = calloc(1, sizeof(*idx) + nregions * sizeof(idx->region[0]));
	if (!idx)
		return -ENOMEM;
	pthread_mutex_init(&idx->lock, NULL);
	idx->nregions = nregions;
	fs->pins = idx;
	return 0;
}

void pml_pin_index_free(struct pml_fs *fs)
{
	if (!fs->pins)
		return;
	for (uint64_t r = 0; r < fs->pins->nregions; r++)
		assert(!fs->pins->region[r]);
	pthread_mutex_destroy(&fs->pins->lock);
	free(fs->pins);
	fs->pins = NULL;
}

/* The part of [first, first + n) that lies in the region of @first. */
static uint64_t part_len(uint64_t first, uint64_t n)
{
	return PML_MIN(n, REGION_BLOCKS - first % REGION_BLOCKS);
}

static void remove_part_locked(struct pml_pin_index *idx, uint64_t first, uint64_t n)
{
	struct part **link = &idx->region[first / REGION_BLOCKS];
	while (*link && ((*link)->first != first || (*link)->n != n))
		link = &(*link)->next;
	assert(*link); /* I2: every pin that is dropped was taken */
	struct part *part = *link;
	*link = part->next;
	free(part);
}

static void remove_run_locked(struct pml_pin_index *idx, uint64_t first, uint64_t n)
{
	for (uint64_t done = 0; done < n;) {
		uint64_t len = part_len(first + done, n - done);
		remove_part_locked(idx, first + done, len);
		done += len;
	}
}

static int add_run_locked(struct pml_pin_index *idx, uint64_t first, uint64_t n, bool for_write)
{
	for (uint64_t done = 0; done < n;) {
		uint64_t len = part_len(first + done, n - done);
		struct part *part = malloc(sizeof(*part));
		if (!part) {
			remove_run_locked(idx, first, done);
			return -ENOMEM;
		}
		struct part **head = &idx->region[(first + done) / REGION_BLOCKS];
		*part = (struct part){
			.next = *head,
			.first = first + done,
			.n = len,
			.for_write = for_write,
		};
		*head = part;
		done += len;
	}
	return 0;
}

int pml_pin_add(struct pml_fs *fs, uint64_t first, uint64_t n, bool for_write)
{
	assert(n > 0 && first + n <= fs->nblocks);
	pthread_mutex_lock(&fs->pins->lock);
	int err = add_run_locked(fs->pins, first, n, for_write);
	if (!err) {
		err = pml_counter_pin(&fs->counters[first], n);
		if (err)
			remove_run_locked(fs->pins, first, n);
	}
	pthread_mutex_unlock(&fs->pins->lock);
	return err;
}

void pml_pin_drop(struct pml_fs *fs, uint64_t first, uint64_t n)
{
	pthread_mutex_lock(&fs->pins->lock);
	remove_run_locked(fs->pins, first, n);
	pml_alloc_unpin(fs, first, n);
	pthread_mutex_unlock(&fs->pins->lock);
}

bool pml_pin_is_written(const struct pml_fs *fs, uint64_t block)
{
	bool is_written = false;
	pthread_mutex_lock(&fs->pins->lock);
	for (const struct part *p = fs->pins->region[block / REGION_BLOCKS]; p; p = p->next)
		is_written |= p->for_write && block >= p->first && block - p->first < p->n;
	pthread_mutex_unlock(&fs->pins->lock);
	return is_written;
}

void pml_pin_walk(const struct pml_fs *fs, void (*visit)(void *arg, uint64_t first, uint64_t n),
		  void *arg)
{
	pthread_mutex_lock(&fs->pins->lock);
	for (uint64_t r = 0; r < fs->pins->nregions; r++)
		for (const struct part *p = fs->pins->region[r]; p; p = p->next)
			visit(arg, p->first, p->n);
	pthread_mutex_unlock(&fs->pins->lock);
}

static uint32_t pins_of_locked(const struct pml_pin_index *idx, uint64_t block)
{
	uint32_t pins = 0;
	for (const struct part *p = idx->region[block / REGION_BLOCKS]; p; p = p->next)
		pins += block >= p->first && block - p->first < p->n;
	return pins;
}

uint32_t pml_block_shares_exact(const struct pml_fs *fs, uint64_t block)
{
	pthread_mutex_lock(&fs->pins->lock);
	uint32_t counter = atomic_load_explicit(&fs->counters[block], memory_order_acquire);
	uint32_t shares = counter - PML_PIN_BIAS * pins_of_locked(fs->pins, block);
	pthread_mutex_unlock(&fs->pins->lock);
	return shares;
}

/* Adds up one region; pins per block are counted in a small array. */
static void count_region_locked(const struct pml_fs *fs, uint64_t r, uint64_t *pinned,
				uint64_t *quarantined, uint64_t *pins)
{
	uint32_t count[REGION_BLOCKS] = {0};
	for (const struct part *p = fs->pins->region[r]; p; p = p->next) {
		*pins += p->n;
		for (uint64_t i = 0; i < p->n; i++)
			count[p->first % REGION_BLOCKS + i]++;
	}
	for (uint64_t i = 0; i < REGION_BLOCKS; i++) {
		if (count[i] == 0)
			continue;
		(*pinned)++;
		*quarantined += atomic_load(&fs->counters[r * REGION_BLOCKS + i]) ==
				PML_PIN_BIAS * count[i];
	}
}

void pml_pin_counts(const struct pml_fs *fs, uint64_t *ret_pinned_blocks,
		    uint64_t *ret_quarantined_blocks, uint64_t *ret_pins)
{
	uint64_t pinned = 0, quarantined = 0, pins = 0;
	pthread_mutex_lock(&fs->pins->lock);
	for (uint64_t r = 0; r < fs->pins->nregions; r++)
		if (fs->pins->region[r])
			count_region_locked(fs, r, &pinned, &quarantined, &pins);
	pthread_mutex_unlock(&fs->pins->lock);
	*ret_pinned_blocks = pinned;
	*ret_quarantined_blocks = quarantined;
	*ret_pins = pins;
}
