/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * pool.c -- opens and closes the device, and tells what it holds
 *
 * The pool is libpmemobj's; data goes through libpmem2's view of the same
 * mapping.  What can be refused is refused before pmemobj_open(), which does not
 * survive a device of another size than at mkfs.
 *
 * Order at mount: pool, super block, transaction logs, counters, free space,
 * inode table, pins, sharers, inode cache, and then the walk of recover.c over it all.
 */
#include <fcntl.h>
#include <linux/mman.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include "alloc.h"
#include "device.h"
#include "inode.h"
#include "itable.h"
#include "pin.h"
#include "pml/clock.h"
#include "recover.h"
#include "sharers.h"
#include "tx.h"

/* Metadata of an inode with its name, for the number of inodes in statvfs. */
#define INODE_METADATA_BYTES 512u

/* Part of the reserve for metadata that one arena of libpmemobj may tie up. */
#define ARENA_BYTES (8u << 20)

/* ---- small things -------------------------------------------------------- */

bool pml_pool_has(const struct pml_fs *fs, uint64_t offset, uint64_t bytes)
{
	/* In front of the heap lie pool header and layout. */
	return offset % 8 == 0 && offset >= 2ull * PML_LAYOUT_OFFSET &&
	       bytes <= fs->info.size_bytes && offset <= fs->info.size_bytes - bytes;
}

int pml_pool_check_object(const struct pml_fs *fs, uint64_t offset, enum pml_media_type type,
			  uint64_t bytes)
{
	struct pml_heap_object object;
	if (!pml_heap_object_at(&fs->heap, offset, &object) || object.is_huge)
		return pml_corrupt(fs, "no object where one should be", offset);
	/* Chunks inside a group hold file data, which may look like anything. */
	if (fs->alloc && pml_alloc_has(fs, offset >> PML_BLOCK_SHIFT, 1))
		return pml_corrupt(fs, "object among file data", offset);
	if (object.is_allocated && !object.is_internal && object.type == type &&
	    object.bytes >= bytes)
		return 0;
	if (!object.is_allocated && pml_tx_has_made(offset, type))
		return 0;
	return pml_corrupt(fs, "object of another kind", offset);
}

void pml_data_copy(const struct pml_fs *fs, void *dst, const void *src, size_t bytes)
{
	if (fs->info.is_cache_line)
		fs->memcpy_fn(dst, src, bytes, PMEM2_F_MEM_NONTEMPORAL | PMEM2_F_MEM_NODRAIN);
	else
		memcpy(dst, src, bytes);
}

void pml_data_zero(const struct pml_fs *fs, void *dst, size_t bytes)
{
	if (fs->info.is_cache_line)
		fs->memset_fn(dst, 0, bytes, PMEM2_F_MEM_NONTEMPORAL | PMEM2_F_MEM_NODRAIN);
	else
		memset(dst, 0, bytes);
}

void pml_data_drain(const struct pml_fs *fs)
{
	fs->drain_fn();
}

void pml_data_settle(const struct pml_fs *fs, const void *addr, size_t bytes)
{
	if (!fs->info.is_cache_line)
		fs->persist_fn(addr, bytes);
}

void pml_data_persist(const struct pml_fs *fs, const void *addr, size_t bytes)
{
	fs->persist_fn(addr, bytes);
}

uint64_t pml_time_from(const struct timespec *ts)
{
	/* The nearest time that there is, in whole seconds: timestamp_truncate() of Linux. */
	int64_t max_s = (int64_t)(UINT64_MAX / 1000000000u) - PML_TIME_BIAS_S - 1;
	if (ts->tv_sec <= -PML_TIME_BIAS_S)
		return 0;
	if (ts->tv_sec >= max_s)
		return (uint64_t)(max_s + PML_TIME_BIAS_S) * 1000000000u;
	return (uint64_t)(ts->tv_sec + PML_TIME_BIAS_S) * 1000000000u + (uint64_t)ts->tv_nsec;
}

struct timespec pml_time_to(uint64_t time_ns)
{
	return (struct timespec){
		.tv_sec = (time_t)(time_ns / 1000000000u) - PML_TIME_BIAS_S,
		.tv_nsec = (long)(time_ns % 1000000000u),
	};
}

uint64_t pml_time_now(void)
{
	struct timespec now = pml_now_wall();
	return pml_time_from(&now);
}

/*
 * A damaged device is met again by every call: so many lines in so much time, then one that
 * says how many were left out.
 */
#define CORRUPT_LINES	  10u
#define CORRUPT_WINDOW_MS 10000u

int pml_corrupt(const struct pml_fs *fs, const char *what, uint64_t where)
{
	/* The const is that of the filesystem, not of its log. */
	struct pml_corrupt_log *log = (struct pml_corrupt_log *)(uintptr_t)&fs->corrupt_log;
	uint64_t now_ms = pml_now_ms();
	uint64_t since_ms = atomic_load(&log->since_ms);
	if (now_ms - since_ms >= CORRUPT_WINDOW_MS &&
	    atomic_compare_exchange_strong(&log->since_ms, &since_ms, now_ms)) {
		uint64_t n = atomic_exchange(&log->lines, 0);
		if (n > CORRUPT_LINES)
			pml_log_error("the device contradicts itself: %" PRIu64
				      " more lines were left out",
				      n - CORRUPT_LINES);
	}
	if (atomic_fetch_add(&log->lines, 1) < CORRUPT_LINES)
		pml_log_error("the device contradicts itself: %s (at %#" PRIx64 "); unmount it and "
			      "run fsck.pmemleasefs",
			      what, where);
	return -EIO;
}

/* ---- the super block ----------------------------------------------------- */

static int compare_groups(const void *a, const void *b)
{
	const struct pml_media_group *x = a;
	const struct pml_media_group *y = b;
	return (x->first_block > y->first_block) - (x->first_block < y->first_block);
}

/* Groups in ascending order of their objects; each must be found. */
struct group_search {
	struct pml_media_group *group;
	uint32_t n;
	uint32_t nfound;
};

static int compare_objects(const void *a, const void *b)
{
	const struct pml_media_group *x = a;
	const struct pml_media_group *y = b;
	return (x->object > y->object) - (x->object < y->object);
}

/* Counts the group whose object the block is, when it holds all of the group's blocks. */
static int find_group(void *arg, const struct pml_heap_block *block)
{
	struct group_search *search = arg;
	const struct pml_media_group key = {.object = block->offset + PML_OBJECT_HEADER_BYTES};
	if (block->header.type != PML_CHUNK_USED || search->n == 0)
		return 0;
	const struct pml_media_group *g =
		bsearch(&key, search->group, search->n, sizeof(key), compare_objects);
	uint64_t end = block->offset + block->header.nchunks * PML_HEAP_CHUNK_BYTES;
	if (g && (g->first_block + g->nblocks) << PML_BLOCK_SHIFT <= end)
		search->nfound++;
	return 0;
}

/* Only what a used block of the heap holds may be written as file data. */
static bool are_groups_in_objects(const struct pml_fs *fs, struct pml_media_group *groups)
{
	struct group_search search = {.group = groups, .n = fs->super->ngroups};
	qsort(groups, search.n, sizeof(groups[0]), compare_objects);
	(void)pml_heap_blocks(&fs->heap, find_group, &search);
	return search.nfound == search.n;
}

/* The groups lie in the pool, in their objects, and nowhere over each other or the super block. */
static bool are_groups_sane(const struct pml_fs *fs)
{
	const struct pml_media_super *super = fs->super;
	if (super->ngroups > PML_GROUPS_MAX)
		return false;
	size_t bytes = super->ngroups * sizeof(super->groups[0]);
	pml_auto_free struct pml_media_group *sorted = malloc(bytes + 1);
	if (!sorted)
		return false;
	memcpy(sorted, super->groups, bytes);
	qsort(sorted, super->ngroups, sizeof(sorted[0]), compare_groups);

	uint64_t super_offset = pml_offset_of(fs, super);
	uint64_t end = 0;
	for (uint32_t i = 0; i < super->ngroups; i++) {
		const struct pml_media_group *g = &sorted[i];
		uint64_t first_byte = g->first_block << PML_BLOCK_SHIFT;
		if (g->first_block % 512 != 0 || g->first_block < end || g->nblocks == 0 ||
		    g->first_block > fs->nblocks || g->nblocks > fs->nblocks - g->first_block)
			return false;
		end = g->first_block + g->nblocks;
		bool holds_super = super_offset < end << PML_BLOCK_SHIFT &&
				   super_offset + sizeof(*super) > first_byte;
		if (g->device != 0 || !pml_pool_has(fs, g->object, 1) || g->object >= first_byte ||
		    first_byte - g->object > 2u << 20 || holds_super)
			return false;
	}
	return are_groups_in_objects(fs, sorted);
}

static int check_features(const struct pml_fs *fs, const char *path, char *reason)
{
	const struct pml_media_super *super = fs->super;
	if (super->format_version != PML_FORMAT_VERSION)
		return pml_reason(reason, -EMEDIUMTYPE,
				  "%s has format version %u; this program knows version %u", path,
				  super->format_version, PML_FORMAT_VERSION);
	uint32_t unknown = super->feature_incompat & ~PML_KNOWN_INCOMPAT;
	if (unknown)
		return pml_reason(reason, -EMEDIUMTYPE,
				  "%s needs features that this program does not know (%#x)", path,
				  unknown);
	unknown = super->feature_ro_compat & ~PML_KNOWN_RO_COMPAT;
	if (unknown && !fs->is_read_only)
		return pml_reason(reason, -EMEDIUMTYPE,
				  "%s has features that this program does not know (%#x): it can "
				  "only be mounted read-only",
				  path, unknown);
	return 0;
}

static int check_super(const struct pml_fs *fs, const char *path, char *reason)
{
	const struct pml_media_super *super = fs->super;
	if (super->magic == 0)
		return pml_reason(reason, -EMEDIUMTYPE,
				  "%s: mkfs was interrupted: run mkfs.pmemleasefs again with -f",
				  path);
	if (super->magic != PML_MEDIA_MAGIC)
		return pml_reason(reason, -EUCLEAN,
				  "%s: the super block is damaged: run fsck.pmemleasefs", path);
	int err = check_features(fs, path, reason);
	if (err)
		return err;
	if (super->size_bytes != fs->info.size_bytes ||
	    memchr(super->label, 0, sizeof(super->label)) == NULL || !are_groups_sane(fs))
		return pml_reason(reason, -EUCLEAN,
				  "%s: the super block contradicts itself: run fsck.pmemleasefs",
				  path);
	return 0;
}

/* ---- opening ------------------------------------------------------------- */

/* What can be told without opening the pool. */
static int check_peek(const struct pml_device_peek *peek, const char *path, char *reason)
{
	if (!peek->is_ours)
		return pml_reason(reason, -EMEDIUMTYPE,
				  "%s holds no pmemleasefs filesystem: make one with "
				  "mkfs.pmemleasefs",
				  path);
	if (peek->format_version != PML_FORMAT_VERSION)
		return pml_reason(reason, -EMEDIUMTYPE,
				  "%s has format version %u; this program knows version %u", path,
				  peek->format_version, PML_FORMAT_VERSION);
	if (peek->recorded_bytes != peek->size_bytes)
		return pml_reason(reason, -EUCLEAN,
				  "%s has %" PRIu64 " bytes now and had %" PRIu64
				  " at mkfs: give it its old size back (truncate -s %" PRIu64 ")",
				  path, peek->size_bytes, peek->recorded_bytes,
				  peek->recorded_bytes);
	return 0;
}

/*
 * libpmemobj makes an arena for each processor, and each holds memory for each size of
 * objects: too much for a small device.  The switch is one of the whole process.
 */
static PMEMobjpool *open_with_few_arenas(const char *path, const char *layout, uint64_t size_bytes)
{
	static const char name[] = "heap.arenas_default_max";
	unsigned int old = 1;
	if (pmemobj_ctl_get(NULL, name, &old) != 0)
		return pmemobj_open(path, layout);

	uint64_t wanted = pml_metadata_reserve(size_bytes) / ARENA_BYTES;
	unsigned int narenas = (unsigned int)PML_MIN(PML_MAX(wanted, 1u), (uint64_t)old);
	(void)pmemobj_ctl_set(NULL, name, &narenas);
	PMEMobjpool *pool = pmemobj_open(path, layout);
	int err = errno;
	(void)pmemobj_ctl_set(NULL, name, &old);
	errno = err;
	return pool;
}

struct first_fault {
	const char *path;
	char *reason;
	bool is_set;
};

static void keep_first_fault(void *arg, uint64_t offset, const char *structure, const char *problem)
{
	struct first_fault *first = arg;
	if (!first->is_set)
		(void)pml_reason(first->reason, 0,
				 "%s: libpmemobj's %s at %#" PRIx64
				 ": %s; restore it from a copy (if mkfs was interrupted, run it "
				 "again with -f)",
				 first->path, structure, offset, problem);
	first->is_set = true;
}

/* libpmemobj believes what it finds. */
static int check_heap(struct pml_fs *fs, const char *path, char *reason)
{
	struct first_fault first = {.path = path, .reason = reason};
	int err = pml_heap_check_fd(fs->fd, fs->info.size_bytes, false, keep_first_fault, &first);
	if (err && !first.is_set)
		return pml_reason(reason, err, "%s: reading it: %s", path, strerror(-err));
	return err;
}

/* Not even libpmemobj's recovery reaches the device.  The switch is one of the whole process. */
static PMEMobjpool *open_private(const char *path, const char *layout)
{
	static const char name[] = "copy_on_write.at_open";
	int old = 0, on = 1;
	(void)pmemobj_ctl_get(NULL, name, &old);
	if (pmemobj_ctl_set(NULL, name, &on) != 0)
		return NULL;
	PMEMobjpool *pool = pmemobj_open(path, layout);
	int err = errno;
	(void)pmemobj_ctl_set(NULL, name, &old);
	errno = err;
	return pool;
}

static int open_pool(struct pml_fs *fs, const char *path, char *reason)
{
	char layout[64];
	(void)snprintf(layout, sizeof(layout), PML_LAYOUT_FORMAT, PML_FORMAT_VERSION,
		       fs->info.size_bytes);
	fs->pool = fs->is_private ? open_private(path, layout)
				  : open_with_few_arenas(path, layout, fs->info.size_bytes);
	if (!fs->pool && (errno == EAGAIN || errno == EWOULDBLOCK))
		return pml_reason(reason, -EBUSY, "%s is in use by another program", path);
	/* It has left -1 in errno, too. */
	if (!fs->pool && (errno == EINVAL || errno <= 0))
		return pml_reason(
			reason, -EUCLEAN,
			"%s: libpmemobj refuses the pool (%s); if mkfs was interrupted, run "
			"it again with -f",
			path, pmemobj_errormsg());
	if (!fs->pool)
		return pml_reason(reason, -errno, "%s: %s", path, pmemobj_errormsg());

	fs->base = (uint8_t *)fs->pool;
	pml_heap_init(&fs->heap, fs->base, fs->info.size_bytes);
	if (pmemobj_root_size(fs->pool) < sizeof(struct pml_media_super))
		return pml_reason(reason, -EMEDIUMTYPE,
				  "%s: mkfs was interrupted: run mkfs.pmemleasefs again with -f",
				  path);
	PMEMoid root = pmemobj_root(fs->pool, sizeof(struct pml_media_super));
	if (OID_IS_NULL(root) || !pml_pool_has(fs, root.off, sizeof(struct pml_media_super)))
		return pml_reason(reason, -EUCLEAN, "%s: the super block cannot be found", path);
	fs->super = pml_at(fs, root.off);
	return 0;
}

static void persist_nothing(const void *addr, size_t bytes)
{
	(void)addr;
	(void)bytes;
}

/* libpmem2's functions for the pool's mapping. */
static int adopt_mapping(struct pml_fs *fs, const struct pml_device_store *store, char *reason)
{
	struct pmem2_source *source;
	int err = pmem2_source_from_fd(&source, fs->fd);
	if (!err)
		err = pmem2_map_from_existing(&fs->map, source, fs->base, fs->info.size_bytes,
					      store->granularity);
	(void)pmem2_source_delete(&source);
	if (err)
		return pml_reason(reason, pml_pmem2_error(err), "libpmem2: %s", pmem2_errormsg());

	fs->info.is_cache_line = store->granularity != PMEM2_GRANULARITY_PAGE;
	fs->info.is_page_cache = !fs->info.is_cache_line && !store->is_volatile;
	fs->info.durability = store->durability;
	fs->memcpy_fn = pmem2_get_memcpy_fn(fs->map);
	fs->memset_fn = pmem2_get_memset_fn(fs->map);
	fs->drain_fn = pmem2_get_drain_fn(fs->map);
	/* Spares the msync(2) where it makes nothing durable. */
	bool is_vain = store->is_volatile && !fs->info.is_cache_line;
	fs->persist_fn = is_vain ? persist_nothing : pmem2_get_persist_fn(fs->map);
	return 0;
}

/* Before the first allocation, which pml_tx_logs_open() makes, of a read-only mount too. */
static void repair_footers(struct pml_fs *fs)
{
	uint64_t n = pml_heap_repair_footers(&fs->heap, fs->base, fs->persist_fn);
	if (n)
		pml_log_info("%" PRIu64 " chunk footers of libpmemobj were stale", n);
}

int pml_pool_open(struct pml_fs *fs, const char *path, char *reason)
{
	struct pml_device_peek peek;
	int err = pml_device_peek(path, &peek, reason);
	if (!err)
		err = check_peek(&peek, path, reason);
	if (err)
		return err;
	/* libpmemobj cannot map a device-DAX privately. */
	fs->is_private = fs->is_private && !peek.is_device_dax;
	fs->info.kind = peek.kind;
	fs->info.size_bytes = peek.size_bytes;
	fs->info.format_version = peek.format_version;
	fs->nblocks = peek.size_bytes >> PML_BLOCK_SHIFT;

	fs->fd = open(path, O_RDWR | O_CLOEXEC);
	if (fs->fd < 0)
		return pml_reason(reason, -errno, "%s: %s", path, strerror(errno));
	err = pml_device_lock(fs->fd);
	if (err)
		return pml_reason(reason, err, "%s is already mounted", path);

	struct pml_device_store store;
	err = pml_device_store_of(fs->fd, &store, reason);
	if (!err)
		err = check_heap(fs, path, reason);
	if (!err)
		err = open_pool(fs, path, reason);
	if (!err)
		err = adopt_mapping(fs, &store, reason);
	if (!err)
		repair_footers(fs);
	return err;
}

static int open_device(struct pml_fs *fs, const char *path, char *reason)
{
	int err = pml_pool_open(fs, path, reason);
	/* For what mounting reads; open_core() forgets them. */
	if (!err)
		err = pml_heap_note_blocks(&fs->heap);
	if (!err)
		err = check_super(fs, path, reason);
	if (err)
		return err;
	fs->noted_features = fs->super->feature_ro_compat;
	memcpy(fs->info.uuid, fs->super->uuid, sizeof(fs->info.uuid));
	memcpy(fs->info.label, fs->super->label, sizeof(fs->info.label));
	return 0;
}

static int make_counters(struct pml_fs *fs)
{
	/* Untouched pages cost nothing, so this need not be spared on large devices. */
	void *counters = mmap(NULL, fs->nblocks * sizeof(fs->counters[0]), PROT_READ | PROT_WRITE,
			      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (counters == MAP_FAILED)
		return -errno;
	/* Large devices: a fault for each 2 GiB of the device, not for each 4 MiB. */
	(void)madvise(counters, fs->nblocks * sizeof(fs->counters[0]), MADV_HUGEPAGE);
	fs->counters = counters;
	return 0;
}

/* Everything that is derived from the device. */
static int open_core(struct pml_fs *fs)
{
	static int (*const step[])(struct pml_fs * fs) = {
		pml_tx_logs_open,  make_counters,   pml_alloc_open, pml_itable_open,
		pml_pin_index_new, pml_sharers_new, pml_icache_new,
	};
	for (size_t i = 0; i < PML_ARRAY_LEN(step); i++) {
		int err = step[i](fs);
		if (err)
			return err;
	}
	pml_heap_forget_blocks(&fs->heap);
	return pml_recover(fs);
}

int pml_fs_open(const struct pml_open_args *args, struct pml_fs **ret_fs, char *ret_reason)
{
	struct pml_fs *fs = calloc(1, sizeof(*fs));
	if (!fs)
		return pml_reason(ret_reason, -ENOMEM, "out of memory");
	fs->fd = -1;
	fs->is_read_only = args->is_read_only;
	fs->poison_freed = args->poison_freed;
	pthread_mutex_init(&fs->feature_lock, NULL);
	pthread_mutex_init(&fs->rename_lock, NULL);
	/* A stream of changes must not keep the audit and snapshots out; no thread locks twice. */
	pthread_rwlockattr_t attr;
	(void)pthread_rwlockattr_init(&attr);
	(void)pthread_rwlockattr_setkind_np(&attr, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
	(void)pthread_rwlock_init(&fs->audit_lock, &attr);
	(void)pthread_rwlockattr_destroy(&attr);

	int err = open_device(fs, args->path, ret_reason);
	if (!err) {
		err = open_core(fs);
		if (err == -EIO)
			err = -EUCLEAN;
		if (err)
			(void)pml_reason(ret_reason, err, "%s: %s", args->path,
					 err == -EUCLEAN ? "its structures contradict themselves: "
							   "run fsck.pmemleasefs"
							 : strerror(-err));
	}
	if (err) {
		pml_fs_close(fs);
		return err;
	}
	*ret_fs = fs;
	return 0;
}

/* Also of one that was opened only in part. */
void pml_fs_close(struct pml_fs *fs)
{
	if (fs->icache)
		pml_icache_free(fs);
	pml_sharers_free(fs);
	if (fs->pins)
		pml_pin_index_free(fs);
	if (fs->itable)
		pml_itable_close(fs);
	if (fs->alloc)
		pml_alloc_close(fs);
	if (fs->counters)
		(void)munmap((void *)(uintptr_t)fs->counters,
			     fs->nblocks * sizeof(fs->counters[0]));
	if (fs->tx_logs)
		pml_tx_logs_close(fs);
	pml_heap_forget_blocks(&fs->heap);
	if (fs->map)
		(void)pmem2_map_delete(&fs->map);
	if (fs->pool)
		pmemobj_close(fs->pool);
	if (fs->fd >= 0)
		(void)close(fs->fd);
	pthread_rwlock_destroy(&fs->audit_lock);
	pthread_mutex_destroy(&fs->rename_lock);
	pthread_mutex_destroy(&fs->feature_lock);
	free(fs);
}

void pml_fs_set_guard(struct pml_fs *fs, const struct pml_guard_ops *ops, void *guard)
{
	fs->guard_ops = ops;
	fs->guard = guard;
}

void pml_fs_wait_cancel(struct pml_fs *fs, struct pml_waiter *w)
{
	if (fs->guard_ops)
		fs->guard_ops->cancel(fs->guard, w);
}

void pml_fs_wait_done(struct pml_fs *fs, struct pml_waiter *w)
{
	if (fs->guard_ops)
		fs->guard_ops->done(fs->guard, w);
}

int pml_fs_use_feature(struct pml_fs *fs, uint32_t ro_compat_bit)
{
	uint32_t *bits = &fs->super->feature_ro_compat;
	/* Not the bit itself: nobody may build on one that is not committed. */
	if (atomic_load(&fs->noted_features) & ro_compat_bit)
		return 0;
	/* Alone: a rollback must not take back a bit that another transaction has set. */
	pthread_mutex_lock(&fs->feature_lock);
	struct pml_tx tx;
	int err = pml_tx_begin(fs, &tx);
	if (!err)
		err = pml_tx_end(&tx, PML_TX_SET(*bits, *bits | ro_compat_bit));
	if (!err)
		atomic_fetch_or(&fs->noted_features, ro_compat_bit);
	pthread_mutex_unlock(&fs->feature_lock);
	return err;
}

/* ---- numbers ------------------------------------------------------------- */

void pml_fs_info(const struct pml_fs *fs, struct pml_device_info *ret_info)
{
	*ret_info = fs->info;
}

void pml_fs_persist(const struct pml_fs *fs, const void *addr, uint64_t bytes)
{
	assert(fs->info.is_cache_line);
	pml_data_persist(fs, addr, bytes);
}

void pml_fs_mapping(const struct pml_fs *fs, uint8_t **ret_base, uint64_t *ret_bytes)
{
	*ret_base = fs->base;
	*ret_bytes = fs->info.size_bytes;
}

/* Free blocks, never more than @total less those in use. */
static uint64_t count_free(const struct pml_fs *fs, uint64_t *ret_total)
{
	uint64_t carved = pml_alloc_carved_blocks(fs);
	uint64_t uncarved = fs->is_read_only ? 0 : pml_alloc_uncarved_blocks(fs);
	uint64_t free_blocks = PML_MIN(pml_alloc_free_blocks(fs), carved);
	*ret_total = carved + uncarved;
	return free_blocks + uncarved;
}

bool pml_fs_frees_soon(const struct pml_fs *fs)
{
	return pml_now_ms() < atomic_load(&fs->orphan_ms) + PML_FREES_SOON_MS;
}

void pml_fs_counts(const struct pml_fs *fs, struct pml_fs_counts *ret_counts)
{
	struct pml_fs_counts c = {0};
	c.free_blocks = count_free(fs, &c.total_blocks);
	pml_alloc_count_shares(fs, &c.used_blocks, &c.shared_blocks);
	pml_pin_counts(fs, &c.pinned_blocks, &c.quarantined_blocks, &c.pins);
	c.inodes = pml_itable_used(fs);
	c.aside_blocks = atomic_load(&fs->aside_blocks);
	c.aside_refused = atomic_load(&fs->aside_refused);
	*ret_counts = c;
}

void pml_fs_statvfs(const struct pml_fs *fs, struct statvfs *ret_stat)
{
	uint64_t total;
	uint64_t nfree = count_free(fs, &total);
	uint64_t inodes = pml_itable_used(fs);
	/* Inodes take of what the groups leave over. */
	uint64_t heap_bytes = (fs->nblocks - pml_alloc_carved_blocks(fs)) << PML_BLOCK_SHIFT;
	uint64_t room = PML_MIN(heap_bytes / INODE_METADATA_BYTES, PML_INO_MAX);
	uint64_t id;
	memcpy(&id, fs->info.uuid, sizeof(id));

	*ret_stat = (struct statvfs){
		.f_bsize = PML_BLOCK_BYTES,
		.f_frsize = PML_BLOCK_BYTES,
		.f_blocks = total,
		.f_bfree = nfree,
		.f_bavail = nfree,
		.f_files = PML_MAX(room, inodes),
		.f_ffree = room > inodes ? room - inodes : 0,
		.f_favail = room > inodes ? room - inodes : 0,
		.f_fsid = id,
		.f_flag = fs->is_read_only ? ST_RDONLY : 0,
		.f_namemax = PML_NAME_BYTES_MAX,
	};
}
