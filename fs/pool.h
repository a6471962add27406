/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * pool.h -- the open filesystem: libpmemobj pool, store functions, shared state
 *
 * Private to fs/.  Lock order (docs/locking.md), first taken first:
 *   audit_lock, rename_lock, directory inode locks (ancestor first, else by number),
 *   file inode locks (by number), feature_lock, inode table, sharers, pin index, allocator, inode
 *   cache.
 * A libpmemobj transaction is opened after the inode locks and ended before
 * they are dropped (transactions give no isolation).
 */
#ifndef PML_FS_POOL_H
#define PML_FS_POOL_H

#include <libpmem2.h>
#include <libpmemobj.h>
#include <pthread.h>
#include <stdatomic.h>

#include "heap.h"
#include "media.h"
#include "pml/fs.h"
#include "pml/log.h"

struct pml_alloc;     /* alloc.h */
struct pml_itable;    /* itable.h */
struct pml_icache;    /* inode.h */
struct pml_tx_logs;   /* tx.h */
struct pml_pin_index; /* pin.h */
struct pml_sharers;   /* sharers.h */

/* What bounds the lines of pml_corrupt(). */
struct pml_corrupt_log {
	_Atomic uint64_t since_ms; /* the window of time began */
	_Atomic uint64_t lines;	   /* in it, those left out too */
};

struct pml_fs {
	PMEMobjpool *pool;
	uint8_t *base; /* of the mapping: offset 0 of the pool */
	struct pml_media_super *super;
	struct pml_device_info info;
	bool is_read_only;
	bool is_private; /* stores do not reach the device (the checker, reading only) */
	bool poison_freed;
	int fd; /* of the device, for libpmem2 */

	struct pml_heap heap; /* for pml_pool_check_object() */

	struct pmem2_map *map; /* libpmem2's view of the same mapping */
	pmem2_memcpy_fn memcpy_fn;
	pmem2_memset_fn memset_fn;
	pmem2_persist_fn persist_fn; /* CPU caches, or msync on page-granularity devices */
	pmem2_drain_fn drain_fn;

	/* One counter per device block (I1): shares + PML_PIN_BIAS * pins.  counter.h */
	_Atomic uint32_t *counters;
	uint64_t nblocks; /* device size in blocks: length of counters */

	struct pml_alloc *alloc;
	struct pml_itable *itable;
	struct pml_icache *icache;
	struct pml_tx_logs *tx_logs;
	struct pml_pin_index *pins;
	struct pml_sharers *sharers; /* NULL in the checker */

	/* pml_fs_counts() */
	_Atomic uint64_t aside_blocks;
	_Atomic uint64_t aside_refused;

	/* When an inode last lost its last name; pml_fs_frees_soon(). */
	_Atomic uint64_t orphan_ms;

	/*
	 * feature_ro_compat as far as it is committed.  Who finds that a feature is not noted yet
	 * holds the lock across the transaction that sets the bit.
	 */
	_Atomic uint32_t noted_features;
	pthread_mutex_t feature_lock;

	pthread_mutex_t rename_lock;
	/* Held for reading by every change, for writing by the audit; taken before all others. */
	pthread_rwlock_t audit_lock;

	struct pml_corrupt_log corrupt_log;

	const struct pml_guard_ops *guard_ops; /* NULL: none; set before use */
	void *guard;
};

static inline void *pml_at(const struct pml_fs *fs, uint64_t offset)
{
	return fs->base + offset;
}

static inline uint64_t pml_offset_of(const struct pml_fs *fs, const void *p)
{
	return (uint64_t)((const uint8_t *)p - fs->base);
}

/* The number of blocks that @byte bytes reach into. */
static inline uint64_t pml_block_above(uint64_t byte)
{
	return byte / PML_BLOCK_BYTES + (byte % PML_BLOCK_BYTES != 0);
}

static inline uint8_t *pml_block_addr(const struct pml_fs *fs, uint64_t block)
{
	return fs->base + (block << PML_BLOCK_SHIFT);
}

/*
 * Is [offset, +bytes) a place where an object may lie?  For offsets read from the
 * device: bounds and 8-byte alignment, nothing else.
 */
bool pml_pool_has(const struct pml_fs *fs, uint64_t offset, uint64_t bytes);

/*
 * Is there an object of this type and size at an offset read from the device, allocated or
 * made by the open transaction?  Before it is believed, changed or freed: nothing else
 * may be stored to, and libpmemobj does not survive being asked to free anything else.
 * Whoever asks holds the lock that keeps the object.  0 or -EIO (logged).
 */
int pml_pool_check_object(const struct pml_fs *fs, uint64_t offset, enum pml_media_type type,
			  uint64_t bytes) PML_MUST_CHECK;

/*
 * Data stores.  On a cache-line device the data is durable after pml_data_drain();
 * on a page-granularity device after pml_data_persist() of the range (fsync).
 *
 * Stored bytes that a transaction is going to make visible are drained before it, and
 * settled too, which makes them durable on a page-granularity device: nothing else orders
 * them before the transaction there, and after a power failure a file could map a fresh
 * block that still holds what another file left in it (I6).
 */
void pml_data_copy(const struct pml_fs *fs, void *dst, const void *src, size_t bytes);
void pml_data_zero(const struct pml_fs *fs, void *dst, size_t bytes);
void pml_data_drain(const struct pml_fs *fs);
void pml_data_settle(const struct pml_fs *fs, const void *addr, size_t bytes);
void pml_data_persist(const struct pml_fs *fs, const void *addr, size_t bytes);

/* Wall clock as inode time; and back. */
uint64_t pml_time_now(void);
uint64_t pml_time_from(const struct timespec *ts);
struct timespec pml_time_to(uint64_t time_ns);

/*
 * What kind of object @path is, and for one of ours its recorded size, without opening
 * the pool (format.c uses it too).  Errors as pml_fs_open().
 */
struct pml_device_peek {
	const char *kind;    /* as pml_device_info.kind */
	uint64_t size_bytes; /* of the device now */
	bool is_device_dax;
	bool is_ours;
	uint32_t format_version;
	uint64_t recorded_bytes;
};
int pml_device_peek(const char *path, struct pml_device_peek *ret_peek,
		    char *ret_reason) PML_MUST_CHECK;

/*
 * Sets a bit of feature_ro_compat, durably, before the first thing on the device that needs
 * it.  In a transaction of its own; one load when it is set.
 */
int pml_fs_use_feature(struct pml_fs *fs, uint32_t ro_compat_bit) PML_MUST_CHECK;

/*
 * Takes the device: descriptor, lock, pool, mapping, where the super block is.  What the
 * super block says is not looked at.  For pml_fs_open() and the checker; is_read_only and
 * is_private are set before.  After an error too: pml_fs_close().
 */
int pml_pool_open(struct pml_fs *fs, const char *path, char *reason) PML_MUST_CHECK;

/* Feature bits that this version knows. */
#define PML_KNOWN_COMPAT 0u
#define PML_KNOWN_RO_COMPAT                                                                        \
	(PML_FEATURE_RO_XATTR | PML_FEATURE_RO_SPARE_TREE | PML_FEATURE_RO_HIDDEN)
#define PML_KNOWN_INCOMPAT 0u

/* Logs a contradiction on the device, with a bound on the lines, and returns -EIO. */
int pml_corrupt(const struct pml_fs *fs, const char *what, uint64_t where);

#endif
