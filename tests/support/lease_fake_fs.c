/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * lease_fake_fs.c -- see lease_fake_fs.h
 *
 * Lock order: an inode's lock, then the guard's, then fs->lock.
 */
#include "lease_fake_fs.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>

#define BLOCKS (FAKE_INODES * FAKE_FILE_BLOCKS)

struct pml_inode {
	struct pml_fs *fs;
	uint64_t ino;
	uint64_t size_bytes; /* under fs->lock */
	uint64_t refs;	     /* under fs->lock */
	bool is_orphan;	     /* under fs->lock */
	pthread_mutex_t lock;
};

struct pml_fs {
	const struct pml_guard_ops *guard_ops;
	void *guard;
	struct pml_inode inodes[FAKE_INODES];
	pthread_mutex_t lock;
	uint64_t pins[BLOCKS];
	uint64_t keys[BLOCKS];
	uint64_t extent_blocks;
	uint64_t commits;
	int pin_err, commit_err;
	uint64_t violations;
	const char *first_violation;
	uint8_t memory[1]; /* only its address is used */
};

struct pml_fs *fake_fs_new(void)
{
	struct pml_fs *fs = calloc(1, sizeof(*fs));
	if (!fs)
		abort();
	pthread_mutex_init(&fs->lock, NULL);
	fs->extent_blocks = FAKE_FILE_BLOCKS;
	for (uint64_t i = 0; i < FAKE_INODES; i++) {
		fs->inodes[i].fs = fs;
		fs->inodes[i].ino = i;
		fs->inodes[i].size_bytes = FAKE_FILE_BYTES;
		pthread_mutex_init(&fs->inodes[i].lock, NULL);
	}
	return fs;
}

void fake_fs_free(struct pml_fs *fs)
{
	for (uint64_t i = 0; i < FAKE_INODES; i++)
		pthread_mutex_destroy(&fs->inodes[i].lock);
	pthread_mutex_destroy(&fs->lock);
	free(fs);
}

/* Sets @field under the lock. */
#define SET_LOCKED(fs, field, value)                                                               \
	do {                                                                                       \
		pthread_mutex_lock(&(fs)->lock);                                                   \
		(field) = (value);                                                                 \
		pthread_mutex_unlock(&(fs)->lock);                                                 \
	} while (0)

#define GET_LOCKED(fs, field)                                                                      \
	({                                                                                         \
		pthread_mutex_lock(&(fs)->lock);                                                   \
		__auto_type got_ = (field);                                                        \
		pthread_mutex_unlock(&(fs)->lock);                                                 \
		got_;                                                                              \
	})

void fake_fs_set_extent(struct pml_fs *fs, uint64_t nblocks)
{
	SET_LOCKED(fs, fs->extent_blocks, nblocks);
}

void fake_fs_set_size(struct pml_fs *fs, uint64_t ino, uint64_t size_bytes)
{
	SET_LOCKED(fs, fs->inodes[ino].size_bytes, size_bytes);
}

void fake_fs_fail_pin(struct pml_fs *fs, int err)
{
	SET_LOCKED(fs, fs->pin_err, err);
}

void fake_fs_set_commit_result(struct pml_fs *fs, int err)
{
	SET_LOCKED(fs, fs->commit_err, err);
}

static void violation_locked(struct pml_fs *fs, const char *what)
{
	if (fs->violations++ == 0)
		fs->first_violation = what;
}

void fake_fs_key_made(struct pml_fs *fs, const struct pml_segment *segment)
{
	pthread_mutex_lock(&fs->lock);
	for (uint64_t i = segment->block; i < segment->block + segment->nblocks; i++) {
		fs->keys[i]++;
		if (fs->pins[i] < fs->keys[i])
			violation_locked(fs, "a key to a block that is not pinned");
	}
	pthread_mutex_unlock(&fs->lock);
}

void fake_fs_key_dead(struct pml_fs *fs, const struct pml_segment *segment)
{
	pthread_mutex_lock(&fs->lock);
	for (uint64_t i = segment->block; i < segment->block + segment->nblocks; i++)
		fs->keys[i]--;
	pthread_mutex_unlock(&fs->lock);
}

/* Blocks that a change of these bytes touches. */
static void check_unpinned(struct pml_fs *fs, const struct pml_layout_change *change)
{
	uint64_t first = change->first_byte / PML_BLOCK_BYTES;
	uint64_t end = PML_MIN(change->end_byte, FAKE_FILE_BYTES) / PML_BLOCK_BYTES;
	pthread_mutex_lock(&fs->lock);
	for (uint64_t i = first; i < end && !change->writers_only; i++) {
		if (fs->pins[change->ino * FAKE_FILE_BLOCKS + i] > 0)
			violation_locked(fs, "I4: a layout change under a lease");
	}
	pthread_mutex_unlock(&fs->lock);
}

int fake_fs_change(struct pml_fs *fs, const struct pml_layout_change *change, struct pml_waiter *w)
{
	struct pml_inode *inode = &fs->inodes[change->ino];
	pthread_mutex_lock(&inode->lock);
	int err = 0;
	if (fs->guard_ops->may_be_leased(fs->guard, change->ino))
		err = fs->guard_ops->admit(fs->guard, change, w);
	if (err == 0)
		check_unpinned(fs, change);
	pthread_mutex_unlock(&inode->lock);
	return err;
}

void fake_fs_cancel(struct pml_fs *fs, struct pml_waiter *w)
{
	fs->guard_ops->cancel(fs->guard, w);
}

void fake_fs_done(struct pml_fs *fs, struct pml_waiter *w)
{
	fs->guard_ops->done(fs->guard, w);
}

void fake_fs_orphan(struct pml_fs *fs, uint64_t ino, bool is_orphan)
{
	SET_LOCKED(fs, fs->inodes[ino].is_orphan, is_orphan);
	if (is_orphan)
		fs->guard_ops->orphaned(fs->guard, ino);
}

bool fake_fs_may_be_leased(struct pml_fs *fs, uint64_t ino)
{
	return fs->guard_ops->may_be_leased(fs->guard, ino);
}

uint64_t fake_fs_pins(struct pml_fs *fs)
{
	uint64_t pins = 0;
	pthread_mutex_lock(&fs->lock);
	for (size_t i = 0; i < BLOCKS; i++)
		pins += fs->pins[i];
	pthread_mutex_unlock(&fs->lock);
	return pins;
}

uint64_t fake_fs_refs(struct pml_fs *fs, uint64_t ino)
{
	return GET_LOCKED(fs, fs->inodes[ino].refs);
}

uint64_t fake_fs_commits(struct pml_fs *fs)
{
	return GET_LOCKED(fs, fs->commits);
}

uint64_t fake_fs_violations(struct pml_fs *fs, const char **ret_first)
{
	*ret_first = GET_LOCKED(fs, fs->first_violation);
	return GET_LOCKED(fs, fs->violations);
}

/* ---- pml/fs.h ------------------------------------------------------------- */

void pml_fs_set_guard(struct pml_fs *fs, const struct pml_guard_ops *ops, void *guard)
{
	fs->guard_ops = ops;
	fs->guard = guard;
}

int pml_inode_get(struct pml_fs *fs, uint64_t ino, struct pml_inode **ret_inode)
{
	if (ino >= FAKE_INODES)
		return -ENOENT;
	pthread_mutex_lock(&fs->lock);
	fs->inodes[ino].refs++;
	pthread_mutex_unlock(&fs->lock);
	*ret_inode = &fs->inodes[ino];
	return 0;
}

void pml_inode_put(struct pml_inode *inode, uint64_t count)
{
	struct pml_fs *fs = inode->fs;
	pthread_mutex_lock(&fs->lock);
	if (inode->refs < count)
		violation_locked(fs, "an inode reference was dropped twice");
	inode->refs -= count;
	pthread_mutex_unlock(&fs->lock);
}

uint64_t pml_inode_size(const struct pml_inode *inode)
{
	return GET_LOCKED(inode->fs, inode->size_bytes);
}

static struct pml_segment segment_at(const struct pml_inode *inode, uint64_t first, uint64_t end)
{
	uint64_t block = first / PML_BLOCK_BYTES;
	return (struct pml_segment){
		.first_byte = first,
		.len_bytes = end - first,
		.addr = inode->fs->memory + inode->ino * FAKE_FILE_BYTES + first,
		.block = inode->ino * FAKE_FILE_BLOCKS + block,
		.nblocks = (end + PML_BLOCK_BYTES - 1) / PML_BLOCK_BYTES - block,
	};
}

static int pin_locked(struct pml_inode *inode, uint64_t first, uint64_t end,
		      struct pml_segment *segments, size_t max, size_t *ret_count,
		      uint64_t *ret_end)
{
	struct pml_fs *fs = inode->fs;
	uint64_t extent_bytes = fs->extent_blocks * PML_BLOCK_BYTES;
	size_t count = 0;
	while (first < end && count < max) {
		uint64_t stop = PML_MIN(end, pml_round_down(first, extent_bytes) + extent_bytes);
		struct pml_segment segment = segment_at(inode, first, stop);
		for (uint64_t i = 0; i < segment.nblocks; i++)
			fs->pins[segment.block + i]++;
		segments[count++] = segment;
		first = stop;
	}
	*ret_count = count;
	*ret_end = first;
	return 0;
}

int pml_file_pin(struct pml_inode *inode, uint64_t first_byte, uint64_t len_bytes,
		 enum pml_pin_kind kind, struct pml_segment *segments, size_t max,
		 size_t *ret_count, uint64_t *ret_end)
{
	bool for_write = kind == PML_PIN_WRITE;
	struct pml_fs *fs = inode->fs;
	uint64_t end = PML_MIN(first_byte + len_bytes, FAKE_FILE_BYTES);
	pthread_mutex_lock(&inode->lock);
	pthread_mutex_lock(&fs->lock);
	int err = fs->pin_err;
	fs->pin_err = 0;
	if (!for_write)
		end = PML_MIN(end, inode->size_bytes);
	if (!err && first_byte >= end)
		err = -ENODATA;
	if (!err)
		err = pin_locked(inode, first_byte, end, segments, max, ret_count, ret_end);
	pthread_mutex_unlock(&fs->lock);
	pthread_mutex_unlock(&inode->lock);
	return err;
}

void pml_fs_unpin(struct pml_fs *fs, const struct pml_segment *segment)
{
	pthread_mutex_lock(&fs->lock);
	for (uint64_t i = segment->block; i < segment->block + segment->nblocks; i++) {
		if (fs->pins[i] == 0)
			violation_locked(fs, "I2: more unpins than pins");
		fs->pins[i]--;
		if (fs->pins[i] < fs->keys[i])
			violation_locked(fs, "I3: unpinned while a key lives");
	}
	pthread_mutex_unlock(&fs->lock);
}

int pml_file_commit(struct pml_inode *inode, uint64_t first_byte, uint64_t len_bytes,
		    uint64_t new_size_bytes, bool is_durable, struct pml_waiter *w)
{
	struct pml_fs *fs = inode->fs;
	uint64_t end = (first_byte + len_bytes) / PML_BLOCK_BYTES;
	pthread_mutex_lock(&inode->lock);
	pthread_mutex_lock(&fs->lock);
	for (uint64_t i = first_byte / PML_BLOCK_BYTES; i < end; i++) {
		if (fs->pins[inode->ino * FAKE_FILE_BLOCKS + i] == 0)
			violation_locked(fs, "a commit of blocks that are not pinned");
	}
	fs->commits++;
	inode->size_bytes = PML_MAX(inode->size_bytes, new_size_bytes);
	int err = fs->commit_err;
	pthread_mutex_unlock(&fs->lock);
	pthread_mutex_unlock(&inode->lock);
	return err;
}

struct audit {
	uint64_t pins[BLOCKS];
};

void pml_file_trim(struct pml_inode *inode, uint64_t first_byte, uint64_t end_byte)
{
	(void)inode;
	assert(first_byte < end_byte);
}

static void count_pins(void *arg, uint64_t block, uint64_t nblocks)
{
	struct audit *audit = arg;
	for (uint64_t i = block; i < block + nblocks; i++)
		audit->pins[i]++;
}

int pml_fs_audit(struct pml_fs *fs, pml_audit_pins pins_of, void *arg, char *ret_reason)
{
	static_assert(sizeof(struct audit) < 65536, "fits on a stack");
	struct audit audit = {0};
	for (size_t i = 0; i < FAKE_INODES; i++)
		pthread_mutex_lock(&fs->inodes[i].lock);
	pins_of(arg, count_pins, &audit);
	pthread_mutex_lock(&fs->lock);
	int err = 0;
	for (size_t i = 0; i < BLOCKS && !err; i++) {
		if (audit.pins[i] == fs->pins[i])
			continue;
		(void)snprintf(ret_reason, PML_REASON_BYTES, "block %zu: %llu pins, %llu known", i,
			       (unsigned long long)fs->pins[i], (unsigned long long)audit.pins[i]);
		err = -EUCLEAN;
	}
	pthread_mutex_unlock(&fs->lock);
	for (size_t i = 0; i < FAKE_INODES; i++)
		pthread_mutex_unlock(&fs->inodes[i].lock);
	return err;
}

bool pml_inode_is_orphan(const struct pml_inode *inode)
{
	return GET_LOCKED(inode->fs, inode->is_orphan);
}

uint64_t pml_inode_ino(const struct pml_inode *inode)
{
	return inode->ino;
}
