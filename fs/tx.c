/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * tx.c -- transactions: libpmemobj's, with memory for their logs on a full device
 *
 * A lane of libpmemobj has room for 2 KiB of snapshots and 40 allocations or
 * frees; for what goes beyond it takes log extensions from the heap, which is
 * impossible exactly when a full device has to be emptied.  Lending it buffers
 * (pmemobj_tx_log_append_buffer()) is no way out: should the process die in that
 * transaction, recovery frees the buffers as if they were libpmemobj's own
 * (measured with PMDK 1.12.1).
 *
 * So the extensions get memory that nothing else can use.  libpmemobj serves
 * each arena and each class of sizes from a block of memory that stays with them
 * even while it is empty.  At mount every arena gets such blocks for the classes
 * that extensions fall into, and all objects of ours are of other classes.
 */
#include <stdio.h>

#include "alloc.h"
#include "tx.h"

/*
 * Sizes of log extensions in libpmemobj (lane_undo_extend(), lane_redo_extend() and
 * SIZEOF_ALIGNED_ULOG() there; the last one has two variants).  An undo log extension is
 * as large as we say; this size just fits a class of which 1 MiB holds 195.
 */
#define UNDO_EXTENSION_BYTES 5120u
#define REDO_EXTENSION_BYTES 640u
#define VARIANT_1(bytes)     ((bytes) + 128u)
#define VARIANT_2(bytes)     ((bytes) + 192u)
static const size_t log_bytes[] = {
	VARIANT_1(UNDO_EXTENSION_BYTES),
	VARIANT_2(UNDO_EXTENSION_BYTES),
	VARIANT_1(REDO_EXTENSION_BYTES),
	VARIANT_2(REDO_EXTENSION_BYTES),
};

#define OBJECT_HEADER_BYTES 16u
#define CLASS_IDS	    255u
#define ARENAS_MAX	    256u

/*
 * Classes of our own.  An object may take up to 64 units (8 where libpmemobj chooses the
 * class).  That of symlinks is a default one that it does not choose for extensions.
 * Another reason for those of the inode table: the default classes take 2 and 4 MiB of
 * contiguous heap at a time, which a full device does not have.
 */
static const struct {
	enum pml_media_type type;
	unsigned int units; /* that a block of memory holds: 1 MiB for chunks, else 256 KiB */
	size_t unit_bytes;  /* with the object's header */
	size_t max_bytes;   /* larger objects of this type are of its next class; 0: none is */
} classes[] = {
	{PML_TYPE_ITABLE_LEVEL, 31, sizeof(struct pml_media_itable_level) + OBJECT_HEADER_BYTES, 0},
	{PML_TYPE_ITABLE_CHUNK, 15, sizeof(struct pml_media_itable_chunk) + OBJECT_HEADER_BYTES, 0},
	{PML_TYPE_BTREE_NODE, 252, sizeof(struct pml_media_btree_node) + OBJECT_HEADER_BYTES, 0},
	{PML_TYPE_DIRENT, 4087, 64, 0},
	{PML_TYPE_SYMLINK, 1364, 192, 0},
	{PML_TYPE_XATTR, 1636, 160, 1024},
	{PML_TYPE_XATTR, 248, 1056, 0},
};

struct pml_tx_logs {
	uint64_t pool_uuid;			     /* upper half of every PMEMoid */
	uint64_t class_flag[PML_ARRAY_LEN(classes)]; /* of pmemobj_tx_xalloc(); 0: default */
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

/* ---- memory of the pool --------------------------------------------------- */

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

/* Every arena gets blocks of memory for log extensions. */
static void provide_logs(PMEMobjpool *pool)
{
	enum { NSIZES = PML_ARRAY_LEN(log_bytes) };
	long long undo_bytes = UNDO_EXTENSION_BYTES;
	unsigned int narenas = 0;
	struct pobj_action action[NSIZES];

	if (pmemobj_ctl_set(pool, "tx.cache.size", &undo_bytes) != 0 ||
	    pmemobj_ctl_get(pool, "heap.narenas.automatic", &narenas) != 0)
		pml_log_warning("libpmemobj: %s", pmemobj_errormsg());
	for (unsigned int arena = 1; arena <= narenas && arena <= ARENAS_MAX; arena++) {
		size_t n = 0;
		for (size_t i = 0; i < NSIZES; i++) {
			PMEMoid oid = pmemobj_xreserve(pool, &action[n], log_bytes[i], 0,
						       POBJ_ARENA_ID(arena));
			n += !OID_IS_NULL(oid);
		}
		pmemobj_cancel(pool, action, n);
		if (n < NSIZES)
			pml_log_warning("the device is full: removing large files may fail");
	}
}

int pml_tx_logs_open(struct pml_fs *fs)
{
	struct pml_tx_logs *logs = calloc(1, sizeof(*logs));
	if (!logs)
		return -ENOMEM;
	logs->pool_uuid = pmemobj_oid(fs->super).pool_uuid_lo;
	/*
	 * First of all: the first allocation looks through the heap, and chunks of a class that
	 * is not known then are not used any more, though most of their units may be free.
	 */
	for (size_t i = 0; i < PML_ARRAY_LEN(classes); i++)
		logs->class_flag[i] = class_flag(fs->pool, classes[i].unit_bytes, classes[i].units);
	provide_logs(fs->pool);
	fs->tx_logs = logs;
	return 0;
}

void pml_tx_logs_close(struct pml_fs *fs)
{
	free(fs->tx_logs);
	fs->tx_logs = NULL;
}

/* ---- transactions --------------------------------------------------------- */

int pml_tx_begin(struct pml_fs *fs, struct pml_tx *ret_tx)
{
	assert(pmemobj_tx_stage() == TX_STAGE_NONE);

	int err = pmemobj_tx_begin(fs->pool, NULL, TX_PARAM_NONE);
	if (err) {
		(void)pmemobj_tx_end();
		return -err;
	}
	pmemobj_tx_set_failure_behavior(POBJ_TX_FAILURE_RETURN);
	*ret_tx = (struct pml_tx){.fs = fs};
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
	free(tx->objects);
	return err ? err : error_of(tx->fs, tx_err);
}

static const struct pml_fs *current_fs(void)
{
	const struct pml_tx *tx = pmemobj_tx_get_user_data();
	return tx->fs;
}

int pml_tx_add(const void *addr, size_t bytes)
{
	return error_of(current_fs(),
			pmemobj_tx_xadd_range_direct(addr, bytes, POBJ_XADD_NO_ABORT));
}

int pml_tx_add_fresh(const void *addr, size_t bytes)
{
	const uint64_t flags = POBJ_XADD_NO_SNAPSHOT | POBJ_XADD_NO_ABORT;
	return error_of(current_fs(), pmemobj_tx_xadd_range_direct(addr, bytes, flags));
}

/* ---- objects of the transaction -------------------------------------------- */

static struct pml_tx_object *find_object(const struct pml_tx *tx, uint64_t offset)
{
	for (size_t i = tx->nobjects; i-- > 0;)
		if (tx->objects[i].offset == offset)
			return &tx->objects[i];
	return NULL;
}

/* Room for one more, so that noting it cannot fail. */
static int reserve_object(struct pml_tx *tx)
{
	if (tx->nobjects < tx->capacity)
		return 0;
	size_t capacity = tx->capacity ? 2 * tx->capacity : 16;
	struct pml_tx_object *grown = reallocarray(tx->objects, capacity, sizeof(*grown));
	if (!grown)
		return -ENOMEM;
	tx->objects = grown;
	tx->capacity = capacity;
	return 0;
}

static void note_object(struct pml_tx *tx, uint64_t offset, enum pml_media_type type)
{
	struct pml_tx_object *object = find_object(tx, offset);
	if (!object)
		object = &tx->objects[tx->nobjects++];
	*object = (struct pml_tx_object){.offset = offset, .type = type};
}

bool pml_tx_has_made(uint64_t offset, enum pml_media_type type)
{
	if (pmemobj_tx_stage() != TX_STAGE_WORK)
		return false;
	const struct pml_tx_object *object = find_object(pmemobj_tx_get_user_data(), offset);
	return object && object->type == type;
}

static uint64_t class_for(const struct pml_tx_logs *logs, size_t bytes, enum pml_media_type type)
{
	for (size_t i = 0; i < PML_ARRAY_LEN(classes); i++)
		if (classes[i].type == type &&
		    (classes[i].max_bytes == 0 || bytes <= classes[i].max_bytes))
			return logs->class_flag[i];
	return 0;
}

int pml_tx_alloc(size_t bytes, enum pml_media_type type, uint64_t *ret_offset)
{
	struct pml_tx *tx = pmemobj_tx_get_user_data();
	struct pml_fs *fs = tx->fs;
	const uint64_t flags =
		POBJ_XALLOC_ZERO | POBJ_XALLOC_NO_ABORT | class_for(fs->tx_logs, bytes, type);

	int err = reserve_object(tx);
	if (err)
		return err;
	PMEMoid oid = pmemobj_tx_xalloc(bytes, type, flags);
	if (OID_IS_NULL(oid)) {
		/*
		 * The allocator may be holding back free memory for a moment, to measure it:
		 * once more while it does not, and cannot begin to.
		 */
		pml_alloc_stop(fs);
		oid = pmemobj_tx_xalloc(bytes, type, flags);
		pml_alloc_go_on(fs);
	}
	if (OID_IS_NULL(oid))
		return error_of(fs, errno);
	note_object(tx, oid.off, type);
	*ret_offset = oid.off;
	return 0;
}

int pml_tx_free(struct pml_fs *fs, uint64_t offset, enum pml_media_type type)
{
	struct pml_tx *tx = pmemobj_tx_get_user_data();
	const struct pml_tx_object *object = find_object(tx, offset);
	if (object && object->type == 0)
		return pml_corrupt(fs, "an object is freed twice", offset);
	int err = pml_pool_check_object(fs, offset, type, 1);
	if (!err)
		err = reserve_object(tx);
	if (err)
		return err;
	PMEMoid oid = {.pool_uuid_lo = fs->tx_logs->pool_uuid, .off = offset};
	err = error_of(fs, pmemobj_tx_xfree(oid, POBJ_XFREE_NO_ABORT));
	if (!err)
		note_object(tx, offset, 0);
	return err;
}
