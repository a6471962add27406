/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * tx.c -- transactions: libpmemobj's, with logs that need no free memory
 *
 * A lane of libpmemobj has room for 2 KiB of snapshots and 40 allocations or
 * frees; what goes beyond is allocated from the heap, which is impossible
 * exactly when a full device has to be emptied.  So a transaction that is about
 * to outgrow its lane appends buffers from an object made by mkfs.  Small ones,
 * the many, do not pay for it (appending costs two fences).
 *
 * The buffers must be appended before libpmemobj extends the log by itself:
 * appending drops its own extensions, with whatever they hold (tx.c of PMDK
 * 1.12, tx_construct_user_buffer()).  Hence the bounds kept in struct pml_tx.
 */
#include <stdio.h>

#include "alloc.h"
#include "tx.h"

#define SNAPSHOT_LOG_BYTES (64u << 10)
#define INTENT_LOG_BYTES   (16u << 10)
#define LOG_BYTES	   (SNAPSHOT_LOG_BYTES + INTENT_LOG_BYTES)
#define LOGS_MAX	   24u
#define LOGS_MIN	   8u
/* Devices from this size on get LOGS_MAX logs. */
#define LOGS_MAX_FROM_BYTES (1ull << 30)

/* What a lane holds by itself (lane.h of PMDK 1.12), less a margin; a snapshot's header. */
#define LANE_SNAPSHOT_BYTES   2048u
#define LANE_INTENTS	      36u
#define SNAPSHOT_HEADER_BYTES 24u
#define SNAPSHOT_ALIGN_BYTES  64u

#define NO_LOG_YET (-1)
#define NO_LOG	   (-2)

/*
 * The default classes for objects of these sizes take 2 and 4 MiB of contiguous heap
 * at a time, which a full device does not have.
 */
static const struct {
	enum pml_media_type type;
	size_t object_bytes;
	unsigned int objects; /* that a block of memory holds: 256 KiB and 1 MiB */
} classes[] = {
	{PML_TYPE_ITABLE_LEVEL, sizeof(struct pml_media_itable_level), 31},
	{PML_TYPE_ITABLE_CHUNK, sizeof(struct pml_media_itable_chunk), 15},
};

#define OBJECT_HEADER_BYTES 16u
#define CLASS_IDS	    255u

struct pml_tx_logs {
	uint64_t pool_uuid;			  /* upper half of every PMEMoid */
	uint64_t class_flag[PML_TYPE_TX_LOG + 1]; /* of pmemobj_tx_xalloc(), by type; 0: default */
	unsigned int nlogs;
	_Atomic uint32_t free; /* bit i: log i is not in use */
};

/* Errors of libpmemobj, positive, as ours. */
static int error_of(const struct pml_fs *fs, int errnum)
{
	if (errnum == 0)
		return 0;
	if (errnum == ENOMEM)
		return -ENOSPC;
	/* EINVAL: a place outside the heap, so a bad offset on the device. */
	return pml_corrupt(fs, pmemobj_errormsg(), 0);
}

int pml_tx_logs_format(struct pml_fs *fs)
{
	unsigned int nlogs = fs->info.size_bytes >= LOGS_MAX_FROM_BYTES ? LOGS_MAX : LOGS_MIN;
	uint64_t bytes = (uint64_t)nlogs * LOG_BYTES;

	PMEMoid oid;
	if (pmemobj_alloc(fs->pool, &oid, bytes, PML_TYPE_TX_LOG, NULL, NULL) != 0)
		return error_of(fs, errno);
	fs->super->tx_logs_bytes = bytes;
	fs->super->tx_logs = oid.off;
	pmemobj_persist(fs->pool, &fs->super->tx_logs,
			sizeof(fs->super->tx_logs) + sizeof(fs->super->tx_logs_bytes));
	return 0;
}

/* The flag that names the class of these units; makes it unless it exists.  0: cannot. */
static uint64_t class_flag(PMEMobjpool *pool, size_t unit_bytes, unsigned int units)
{
	struct pobj_alloc_class_desc class = {
		.unit_size = unit_bytes,
		.units_per_block = units,
		.header_type = POBJ_HEADER_COMPACT,
	};
	if (pmemobj_ctl_set(pool, "heap.alloc_class.new.desc", &class) == 0)
		return POBJ_CLASS_ID(class.class_id);
	for (unsigned int id = 0; id < CLASS_IDS; id++) {
		char name[64];
		(void)snprintf(name, sizeof(name), "heap.alloc_class.%u.desc", id);
		if (pmemobj_ctl_get(pool, name, &class) == 0 && class.unit_size == unit_bytes)
			return POBJ_CLASS_ID(id);
	}
	return 0;
}

int pml_tx_logs_open(struct pml_fs *fs)
{
	const struct pml_media_super *super = fs->super;
	unsigned int nlogs = 0;

	if (super->tx_logs) {
		if (!pml_pool_has(fs, super->tx_logs, super->tx_logs_bytes))
			return pml_corrupt(fs, "transaction logs lie outside the device",
					   super->tx_logs);
		nlogs = (unsigned int)PML_MIN(super->tx_logs_bytes / LOG_BYTES, (uint64_t)LOGS_MAX);
	}

	struct pml_tx_logs *logs = calloc(1, sizeof(*logs));
	if (!logs)
		return -ENOMEM;
	logs->pool_uuid = pmemobj_oid(super).pool_uuid_lo;
	for (size_t i = 0; i < PML_ARRAY_LEN(classes); i++)
		logs->class_flag[classes[i].type] =
			class_flag(fs->pool, classes[i].object_bytes + OBJECT_HEADER_BYTES,
				   classes[i].objects);
	atomic_init(&logs->free, (1u << nlogs) - 1);
	fs->tx_logs = logs;
	return 0;
}

void pml_tx_logs_close(struct pml_fs *fs)
{
	free(fs->tx_logs);
	fs->tx_logs = NULL;
}

/* Index of a log that is ours from now on, or NO_LOG. */
static int take_log(struct pml_tx_logs *logs)
{
	uint32_t set = atomic_load_explicit(&logs->free, memory_order_relaxed);
	while (set) {
		int log = __builtin_ctz(set);
		if (atomic_compare_exchange_weak_explicit(&logs->free, &set, set & ~(1u << log),
							  memory_order_acquire,
							  memory_order_relaxed))
			return log;
	}
	return NO_LOG;
}

static void put_log(struct pml_tx_logs *logs, int log)
{
	if (log >= 0)
		atomic_fetch_or_explicit(&logs->free, 1u << log, memory_order_release);
}

/* Appends this part of a preallocated log to the open transaction; harmless if none is free. */
static int append_log(struct pml_tx *tx, enum pobj_log_type type, size_t first_byte, size_t bytes)
{
	if (tx->log == NO_LOG_YET)
		tx->log = take_log(tx->fs->tx_logs);
	if (tx->log == NO_LOG)
		return 0;
	uint8_t *log = pml_at(tx->fs, tx->fs->super->tx_logs + (uint64_t)tx->log * LOG_BYTES);
	return error_of(tx->fs, pmemobj_tx_log_append_buffer(type, log + first_byte, bytes));
}

/* Room for one more snapshot of @bytes. */
static int reserve_snapshot(struct pml_tx *tx, size_t bytes)
{
	tx->snapshot_bytes += pml_round_up(bytes + SNAPSHOT_HEADER_BYTES, SNAPSHOT_ALIGN_BYTES);
	if (tx->has_snapshot_log || tx->snapshot_bytes <= LANE_SNAPSHOT_BYTES)
		return 0;
	tx->has_snapshot_log = true;
	return append_log(tx, TX_LOG_TYPE_SNAPSHOT, 0, SNAPSHOT_LOG_BYTES);
}

/* Room for one more allocation or free. */
static int reserve_intent(struct pml_tx *tx)
{
	tx->nintents++;
	if (tx->has_intent_log || tx->nintents <= LANE_INTENTS)
		return 0;
	tx->has_intent_log = true;
	return append_log(tx, TX_LOG_TYPE_INTENT, SNAPSHOT_LOG_BYTES, INTENT_LOG_BYTES);
}

int pml_tx_begin(struct pml_fs *fs, struct pml_tx *ret_tx)
{
	assert(pmemobj_tx_stage() == TX_STAGE_NONE);

	int err = pmemobj_tx_begin(fs->pool, NULL, TX_PARAM_NONE);
	if (err) {
		(void)pmemobj_tx_end();
		return -err;
	}
	pmemobj_tx_set_failure_behavior(POBJ_TX_FAILURE_RETURN);
	*ret_tx = (struct pml_tx){
		.fs = fs,
		.log = NO_LOG_YET,
		.nintents = 1, /* libpmemobj's own: the undo log's generation */
	};
	pmemobj_tx_set_user_data(ret_tx);
	return 0;
}

int pml_tx_end(struct pml_tx *tx, int err)
{
	if (pmemobj_tx_stage() == TX_STAGE_WORK) {
		if (err)
			pmemobj_tx_abort(err < 0 ? -err : ECANCELED);
		else
			pmemobj_tx_commit();
	}
	int tx_err = pmemobj_tx_end();
	put_log(tx->fs->tx_logs, tx->log);
	return err ? err : error_of(tx->fs, tx_err);
}

int pml_tx_add(const void *addr, size_t bytes)
{
	struct pml_tx *tx = pmemobj_tx_get_user_data();
	int err = reserve_snapshot(tx, bytes);
	if (err)
		return err;
	return error_of(tx->fs, pmemobj_tx_xadd_range_direct(addr, bytes, POBJ_XADD_NO_ABORT));
}

int pml_tx_add_fresh(const void *addr, size_t bytes)
{
	const uint64_t flags = POBJ_XADD_NO_SNAPSHOT | POBJ_XADD_NO_ABORT;
	struct pml_tx *tx = pmemobj_tx_get_user_data();
	return error_of(tx->fs, pmemobj_tx_xadd_range_direct(addr, bytes, flags));
}

int pml_tx_alloc(size_t bytes, enum pml_media_type type, uint64_t *ret_offset)
{
	struct pml_tx *tx = pmemobj_tx_get_user_data();
	const uint64_t flags =
		POBJ_XALLOC_ZERO | POBJ_XALLOC_NO_ABORT | tx->fs->tx_logs->class_flag[type];

	int err = reserve_intent(tx);
	if (err)
		return err;
	PMEMoid oid = pmemobj_tx_xalloc(bytes, type, flags);
	if (OID_IS_NULL(oid)) {
		/* The allocator may be holding back free memory for a moment, to measure it. */
		pml_alloc_wait(tx->fs);
		oid = pmemobj_tx_xalloc(bytes, type, flags);
	}
	if (OID_IS_NULL(oid))
		return error_of(tx->fs, errno);
	*ret_offset = oid.off;
	return 0;
}

int pml_tx_free(struct pml_fs *fs, uint64_t offset)
{
	if (!pml_pool_has(fs, offset, 1))
		return pml_corrupt(fs, "an object to be freed lies outside the device", offset);
	int err = reserve_intent(pmemobj_tx_get_user_data());
	if (err)
		return err;
	PMEMoid oid = {.pool_uuid_lo = fs->tx_logs->pool_uuid, .off = offset};
	return error_of(fs, pmemobj_tx_xfree(oid, POBJ_XFREE_NO_ABORT));
}
