/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * format.c -- mkfs: makes an empty filesystem on a device
 *
 * First everything that may refuse, then the change: the pool, the root object,
 * and its magic number last, so that an interrupted mkfs leaves no filesystem.
 */
#include <blkid/blkid.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>

#include "alloc.h"
#include "device.h"
#include "tx.h"

#define SIZE_UNIT_BYTES	     (2u << 20)
#define PML_DEVICE_BYTES_MAX (64ull << 40) /* PML_GROUPS_MAX groups cover about twice as much */
/* So much of a device must be zero, or it holds something. */
#define HEAD_BYTES	(64u << 10)
#define ROOT_MODE	(S_IFDIR | 0755)
#define ROOT_GENERATION 1u

struct format {
	const struct pml_format_args *args;
	char *reason;
	int fd;
	bool is_new;	 /* a file that we made: removed on failure */
	bool is_changed; /* the point of no return is passed */
	struct pml_device_peek peek;
	uint64_t size_bytes; /* as it will be */
};

/* ---- checks -------------------------------------------------------------- */

static int refuse(const struct format *f, int err, const char *what)
{
	return pml_reason(f->reason, err, "%s %s", f->args->path, what);
}

static int fail(const struct format *f, int err, const char *what)
{
	return pml_reason(f->reason, err, "%s: %s: %s", f->args->path, what, strerror(-err));
}

static int check_size(const struct format *f)
{
	if (f->size_bytes < PML_DEVICE_BYTES_MIN)
		return pml_reason(f->reason, -EINVAL,
				  "%s: %" PRIu64 " bytes are too few: the smallest size is %u MiB",
				  f->args->path, f->size_bytes, PML_DEVICE_BYTES_MIN >> 20);
	if (f->size_bytes > PML_DEVICE_BYTES_MAX)
		return pml_reason(f->reason, -EFBIG,
				  "%s: %" PRIu64
				  " bytes are too many: the largest size is %llu TiB",
				  f->args->path, f->size_bytes, PML_DEVICE_BYTES_MAX >> 40);
	return 0;
}

/* Which size an existing object will have. */
static int choose_size(struct format *f)
{
	uint64_t now = f->peek.size_bytes;
	uint64_t wanted = f->args->size_bytes;

	if (f->peek.is_device_dax) {
		f->size_bytes = now;
		if (wanted && wanted != now)
			return refuse(f, -EINVAL, "is a device-DAX: it has the size it has");
		return check_size(f);
	}
	if (now == 0 && wanted == 0)
		return refuse(f, -EINVAL, "is empty: give a size (-s)");
	f->size_bytes = pml_round_down(wanted ? wanted : now, SIZE_UNIT_BYTES);
	if (now != 0 && wanted != 0 && f->size_bytes != now && !f->args->force)
		return pml_reason(f->reason, -EEXIST,
				  "%s exists and has %" PRIu64 " bytes; use -f to resize it",
				  f->args->path, now);
	return check_size(f);
}

/* Looks for filesystems, RAID members and partition tables. */
static int probe_foreign(const struct format *f)
{
	blkid_probe probe = blkid_new_probe_from_filename(f->args->path);
	if (!probe)
		return fail(f, -errno, "cannot be probed");
	blkid_probe_enable_superblocks(probe, 1);
	blkid_probe_enable_partitions(probe, 1);

	int found = blkid_do_safeprobe(probe);
	const char *type = NULL;
	if (found == 0 && blkid_probe_lookup_value(probe, "TYPE", &type, NULL) != 0)
		(void)blkid_probe_lookup_value(probe, "PTTYPE", &type, NULL);
	int err = 0;
	if (found == 0)
		err = pml_reason(f->reason, -EEXIST,
				 "%s already holds something (%s); use -f to overwrite",
				 f->args->path, type ? type : "of unknown type");
	else if (found == -2)
		err = refuse(f, -EEXIST,
			     "already holds more than one filesystem; use -f to overwrite");
	else if (found < 0)
		err = refuse(f, -EIO, "cannot be read");
	blkid_free_probe(probe);
	return err;
}

/* -EEXIST: the device holds something. */
static int check_empty(const struct format *f)
{
	if (f->peek.is_ours)
		return refuse(f, -EEXIST,
			      "already holds a pmemleasefs filesystem; use -f to overwrite");
	pml_auto_free uint8_t *head = malloc(HEAD_BYTES);
	if (!head)
		return fail(f, -ENOMEM, "checking");
	int err = pml_device_read(f->fd, f->peek.is_device_dax, head, HEAD_BYTES);
	if (err)
		return fail(f, err, "cannot be read");
	if (memcmp(head, "PMEM", 4) == 0)
		return refuse(f, -EEXIST, "already holds a PMDK pool; use -f to overwrite");
	if (!f->peek.is_device_dax && f->peek.size_bytes > 0) {
		err = probe_foreign(f);
		if (err)
			return err;
	}
	for (size_t i = 0; i < HEAD_BYTES; i++)
		if (head[i])
			return refuse(f, -EEXIST, "is not empty; use -f to overwrite");
	return 0;
}

/* Takes our lock, held while @f->fd is open, and sees whether libpmemobj's is free. */
static int lock_device(const struct format *f)
{
	int err = pml_device_lock(f->fd);
	if (!err && flock(f->fd, LOCK_EX | LOCK_NB) < 0)
		err = errno == EWOULDBLOCK ? -EBUSY : -errno;
	if (err == -EBUSY)
		return refuse(f, err, "is mounted or in use by another program");
	if (err)
		return fail(f, err, "locking");
	(void)flock(f->fd, LOCK_UN);
	return 0;
}

static int open_existing(struct format *f)
{
	int err = pml_device_peek(f->args->path, &f->peek, f->reason);
	if (err)
		return err;
	f->fd = open(f->args->path, O_RDWR | O_CLOEXEC);
	if (f->fd < 0)
		return fail(f, -errno, "opening");
	err = lock_device(f);
	if (!err)
		err = choose_size(f);
	if (!err && !f->args->force)
		err = check_empty(f);
	return err;
}

static int create_file(struct format *f)
{
	f->size_bytes = pml_round_down(f->args->size_bytes, SIZE_UNIT_BYTES);
	int err = check_size(f);
	if (err)
		return err;
	f->fd = open(f->args->path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (f->fd < 0)
		return fail(f, -errno, "creating");
	f->is_new = true;
	err = lock_device(f);
	if (!err && ftruncate(f->fd, (off_t)f->size_bytes) < 0)
		err = fail(f, -errno, "setting its size");
	if (err)
		return err;
	return pml_device_peek(f->args->path, &f->peek, f->reason);
}

static int open_device(struct format *f)
{
	const struct pml_format_args *args = f->args;
	struct stat st;

	if (args->label && strlen(args->label) >= PML_LABEL_BYTES)
		return pml_reason(f->reason, -EINVAL, "the label is longer than %u bytes",
				  PML_LABEL_BYTES - 1);
	if (stat(args->path, &st) == 0)
		return open_existing(f);
	if (errno != ENOENT)
		return fail(f, -errno, "stat");
	if (args->size_bytes == 0)
		return refuse(f, -ENOENT, "does not exist; give a size (-s) to make a file");
	return create_file(f);
}

/* ---- making it ----------------------------------------------------------- */

/* What the device held is gone after this. */
static int clear_device(struct format *f)
{
	bool is_resized = f->size_bytes != f->peek.size_bytes;

	f->is_changed = true;
	if (f->peek.is_device_dax) {
		int err = pml_device_dax_zero(f->fd, HEAD_BYTES);
		return err ? fail(f, err, "clearing") : 0;
	}
	if (!f->args->force && !is_resized)
		return 0; /* keeps what was allocated to it */
	if (ftruncate(f->fd, 0) < 0 || ftruncate(f->fd, (off_t)f->size_bytes) < 0)
		return fail(f, -errno, "clearing");
	return 0;
}

/* Sets a switch of libpmemobj that holds for the whole process, and tells the old value. */
static int swap_switch(const char *name, int value)
{
	int old = 1;
	(void)pmemobj_ctl_get(NULL, name, &old);
	(void)pmemobj_ctl_set(NULL, name, &value);
	return old;
}

static int create_pool(const struct format *f, PMEMobjpool **ret_pool)
{
	/*
	 * A plain file stays sparse.  And it has no count of unsafe shutdowns: without
	 * this PMDK 2.1 would refuse the pool.
	 */
	bool is_plain = strcmp(f->peek.kind, "plain file") == 0;
	int old_fallocate = swap_switch("fallocate.at_create", !is_plain);
	int old_sds = swap_switch("sds.at_create", pml_device_has_usc(f->fd));

	char layout[64];
	(void)snprintf(layout, sizeof(layout), PML_LAYOUT_FORMAT, PML_FORMAT_VERSION,
		       f->size_bytes);
	PMEMobjpool *pool = pmemobj_create(f->args->path, layout, 0, 0);
	int err = pool ? 0 : -errno;

	(void)swap_switch("fallocate.at_create", old_fallocate);
	(void)swap_switch("sds.at_create", old_sds);
	if (err == -EAGAIN)
		return refuse(f, -EBUSY, "is in use by another program");
	if (err)
		return pml_reason(f->reason, err, "%s: libpmemobj: %s", f->args->path,
				  pmemobj_errormsg());
	*ret_pool = pool;
	return 0;
}

static int fill_super(struct pml_fs *fs, const char *label)
{
	struct pml_media_super *super = fs->super;
	uint8_t random[sizeof(super->uuid) + sizeof(super->hash_key)];
	if (getrandom(random, sizeof(random), 0) != (ssize_t)sizeof(random))
		return -EIO;

	super->format_version = PML_FORMAT_VERSION;
	super->size_bytes = fs->info.size_bytes;
	memcpy(super->uuid, random, sizeof(super->uuid));
	super->uuid[6] = (uint8_t)((super->uuid[6] & 0x0f) | 0x40); /* RFC 4122: random */
	super->uuid[8] = (uint8_t)((super->uuid[8] & 0x3f) | 0x80);
	memcpy(super->hash_key, random + sizeof(super->uuid), sizeof(super->hash_key));
	if (label)
		(void)snprintf(super->label, sizeof(super->label), "%s", label);
	super->created_ns = pml_time_now();
	pmemobj_persist(fs->pool, super, sizeof(*super));
	return 0;
}

/* The first level and chunk of the inode table with the root directory, inode 1. */
static int make_root(struct pml_fs *fs)
{
	uint64_t level_offset;
	uint64_t chunk_offset;
	int err = pml_tx_alloc(sizeof(struct pml_media_itable_level), PML_TYPE_ITABLE_LEVEL,
			       &level_offset);
	if (!err)
		err = pml_tx_alloc(sizeof(struct pml_media_itable_chunk), PML_TYPE_ITABLE_CHUNK,
				   &chunk_offset);
	if (err)
		return err;

	struct pml_media_itable_level *level = pml_at(fs, level_offset);
	struct pml_media_itable_chunk *chunk = pml_at(fs, chunk_offset);
	level->chunk[0] = chunk_offset;
	uint64_t now = fs->super->created_ns;
	chunk->inode[PML_ROOT_INO - 1] = (struct pml_media_inode){
		.mode = ROOT_MODE,
		.nlink = 2,
		.generation = ROOT_GENERATION,
		.atime_ns = now,
		.mtime_ns = now,
		.ctime_ns = now,
		.btime_ns = now,
		.parent = PML_ROOT_INO,
	};
	return PML_TX_SET(fs->super->itable[0], level_offset);
}

static int fill_pool(struct pml_fs *fs, const char *label)
{
	int err = fill_super(fs, label);
	if (!err)
		err = pml_tx_logs_open(fs);
	if (err)
		return err;

	struct pml_tx tx;
	err = pml_tx_begin(fs, &tx);
	if (!err)
		err = pml_tx_end(&tx, make_root(fs));
	if (!err)
		err = pml_alloc_format(fs);
	pml_tx_logs_close(fs);
	if (err)
		return err;
	fs->super->magic = PML_MEDIA_MAGIC; /* last: now it is a filesystem */
	pmemobj_persist(fs->pool, &fs->super->magic, sizeof(fs->super->magic));
	return 0;
}

static int make_filesystem(const struct format *f, struct pml_device_info *ret_info)
{
	struct pml_device_store store;
	struct pml_fs fs = {
		.info = {.size_bytes = f->size_bytes,
			 .format_version = PML_FORMAT_VERSION,
			 .kind = f->peek.kind},
		.nblocks = f->size_bytes >> PML_BLOCK_SHIFT,
		.fd = f->fd,
	};
	int err = pml_device_store_of(f->fd, &store, f->reason);
	if (!err)
		err = create_pool(f, &fs.pool);
	if (err)
		return err;

	fs.base = (uint8_t *)fs.pool;
	pml_heap_init(&fs.heap, fs.base, fs.info.size_bytes);
	PMEMoid root = pmemobj_root(fs.pool, sizeof(*fs.super));
	if (OID_IS_NULL(root)) {
		err = -errno;
	} else {
		fs.super = pml_at(&fs, root.off);
		err = fill_pool(&fs, f->args->label);
	}
	if (!err) {
		fs.info.is_cache_line = store.granularity != PMEM2_GRANULARITY_PAGE;
		fs.info.durability = store.durability;
		memcpy(fs.info.uuid, fs.super->uuid, sizeof(fs.info.uuid));
		memcpy(fs.info.label, fs.super->label, sizeof(fs.info.label));
		*ret_info = fs.info;
	} else {
		(void)fail(f, err, "making the filesystem");
	}
	pmemobj_close(fs.pool);
	return err;
}

/* After an error: a new file is removed, half a filesystem is wiped. */
static void undo(const struct format *f)
{
	if (f->is_new)
		(void)unlink(f->args->path);
	else if (f->is_changed && f->peek.is_device_dax)
		(void)!pml_device_dax_zero(f->fd, HEAD_BYTES);
	else if (f->is_changed)
		(void)!(ftruncate(f->fd, 0) || ftruncate(f->fd, (off_t)f->size_bytes));
}

int pml_fs_format(const struct pml_format_args *args, struct pml_device_info *ret_info,
		  char *ret_reason)
{
	struct format f = {.args = args, .reason = ret_reason, .fd = -1};
	int err = open_device(&f);
	if (!err)
		err = clear_device(&f);
	if (!err)
		err = make_filesystem(&f, ret_info);
	if (err)
		undo(&f);
	if (f.fd >= 0)
		(void)close(f.fd);
	return err;
}
