/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * inode.c -- in-core inodes and attributes
 *
 * One in-core inode per number that somebody refers to, in a hash table.  Who
 * finds none there may read nlink on the device under the table's mutex: it is
 * only changed by holders of a reference.  The last holder takes the in-core
 * inode out of the table, and if nlink is 0 nobody gets the inode again: nlink
 * stays 0 until its number, free only after pml_inode_destroy(), is in the
 * table once more.
 *
 * Threads: any; docs/locking.md.
 */
#include "inode.h"

#include <inttypes.h>
#include <string.h>

#include "extent.h"
#include "itable.h"
#include "permit.h"
#include "spare.h"
#include "tx.h"
#include "xattr.h"

#define BUCKETS_MIN	  1024u
#define DIR_ENTRY_BYTES	  32			  /* what an entry adds to a directory's st_size */
#define SECTORS_PER_BLOCK (PML_BLOCK_BYTES / 512) /* st_blocks */

struct pml_icache {
	pthread_mutex_t mutex;
	struct pml_inode **bucket;
	uint64_t nbuckets; /* a power of two */
	uint64_t n;
};

/* ---- the table ---------------------------------------------------------- */

int pml_icache_new(struct pml_fs *fs)
{
	pml_auto_free struct pml_icache *icache = calloc(1, sizeof(*icache));
	if (!icache)
		return -ENOMEM;
	icache->nbuckets = BUCKETS_MIN;
	icache->bucket = calloc(icache->nbuckets, sizeof(struct pml_inode *));
	if (!icache->bucket)
		return -ENOMEM;
	(void)pthread_mutex_init(&icache->mutex, NULL);
	fs->icache = pml_take_ptr(&icache);
	return 0;
}

void pml_icache_free(struct pml_fs *fs)
{
	if (!fs->icache)
		return;
	assert(fs->icache->n == 0);
	(void)pthread_mutex_destroy(&fs->icache->mutex);
	free(fs->icache->bucket);
	free(fs->icache);
	fs->icache = NULL;
}

static struct pml_inode **bucket_of(struct pml_icache *icache, uint64_t ino)
{
	return &icache->bucket[ino & (icache->nbuckets - 1)];
}

static struct pml_inode *find_locked(struct pml_icache *icache, uint64_t ino)
{
	struct pml_inode *inode = *bucket_of(icache, ino);
	while (inode && inode->ino != ino)
		inode = inode->hash_next;
	return inode;
}

/* Doubles the table; without memory it stays as it is and only gets slower. */
static void grow_locked(struct pml_icache *icache)
{
	uint64_t nold = icache->nbuckets;
	struct pml_inode **old = icache->bucket;
	struct pml_inode **grown = calloc(nold * 2, sizeof(struct pml_inode *));
	if (!grown)
		return;
	icache->bucket = grown;
	icache->nbuckets = nold * 2;
	for (uint64_t i = 0; i < nold; i++) {
		while (old[i]) {
			struct pml_inode *inode = old[i];
			old[i] = inode->hash_next;
			struct pml_inode **bucket = bucket_of(icache, inode->ino);
			inode->hash_next = *bucket;
			*bucket = inode;
		}
	}
	free(old);
}

/* An in-core inode with one reference that is not in the table. */
static int incore_new(struct pml_fs *fs, uint64_t ino, struct pml_media_inode *media,
		      struct pml_inode **ret_inode)
{
	struct pml_inode *inode = calloc(1, sizeof(*inode));
	if (!inode)
		return -ENOMEM;
	inode->fs = fs;
	inode->ino = ino;
	inode->media = media;
	inode->refs = 1;
	/* A stream of readers must not keep a writer out; no thread locks twice. */
	pthread_rwlockattr_t attr;
	(void)pthread_rwlockattr_init(&attr);
	(void)pthread_rwlockattr_setkind_np(&attr, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
	(void)pthread_rwlock_init(&inode->lock, &attr);
	(void)pthread_rwlockattr_destroy(&attr);
	*ret_inode = inode;
	return 0;
}

static void incore_free(struct pml_inode *inode)
{
	(void)pthread_rwlock_destroy(&inode->lock);
	free(inode);
}

static void insert_locked(struct pml_icache *icache, struct pml_inode *inode)
{
	if (icache->n >= icache->nbuckets)
		grow_locked(icache);
	struct pml_inode **bucket = bucket_of(icache, inode->ino);
	inode->hash_next = *bucket;
	*bucket = inode;
	icache->n++;
}

static void remove_locked(struct pml_icache *icache, struct pml_inode *inode)
{
	struct pml_inode **link = bucket_of(icache, inode->ino);
	while (*link != inode)
		link = &(*link)->hash_next;
	*link = inode->hash_next;
	icache->n--;
}

/* ---- references --------------------------------------------------------- */

/* Not found in the table: from the device. */
static int get_from_device_locked(struct pml_fs *fs, uint64_t ino, struct pml_inode **ret_inode)
{
	struct pml_media_inode *media;
	int err = pml_itable_at(fs, ino, &media);
	if (err)
		return err;
	/* In this order: the mode of an unlinked inode may change at any time. */
	if (media->nlink == 0 || media->mode == 0)
		return -ENOENT;
	err = incore_new(fs, ino, media, ret_inode);
	if (err)
		return err;
	(*ret_inode)->is_published = true;
	insert_locked(fs->icache, *ret_inode);
	return 0;
}

int pml_inode_get(struct pml_fs *fs, uint64_t ino, struct pml_inode **ret_inode)
{
	struct pml_icache *icache = fs->icache;
	int err = 0;
	(void)pthread_mutex_lock(&icache->mutex);
	struct pml_inode *inode = find_locked(icache, ino);
	if (!inode)
		err = get_from_device_locked(fs, ino, &inode);
	else if (inode->is_published)
		inode->refs++;
	else
		err = -ENOENT;
	(void)pthread_mutex_unlock(&icache->mutex);
	if (!err)
		*ret_inode = inode;
	return err;
}

int pml_inode_new(struct pml_fs *fs, uint64_t ino, struct pml_inode **ret_inode)
{
	struct pml_media_inode *media;
	int err = pml_itable_at(fs, ino, &media);
	if (!err)
		err = incore_new(fs, ino, media, ret_inode);
	if (err)
		return err;
	(void)pthread_mutex_lock(&fs->icache->mutex);
	insert_locked(fs->icache, *ret_inode);
	(void)pthread_mutex_unlock(&fs->icache->mutex);
	return 0;
}

void pml_inode_publish(struct pml_inode *inode)
{
	(void)pthread_mutex_lock(&inode->fs->icache->mutex);
	inode->is_published = true;
	(void)pthread_mutex_unlock(&inode->fs->icache->mutex);
}

void pml_inode_abandon(struct pml_inode *inode)
{
	struct pml_icache *icache = inode->fs->icache;
	(void)pthread_mutex_lock(&icache->mutex);
	assert(inode->refs == 1 && !inode->is_published);
	remove_locked(icache, inode);
	(void)pthread_mutex_unlock(&icache->mutex);
	incore_free(inode);
}

void pml_inode_ref(struct pml_inode *inode)
{
	(void)pthread_mutex_lock(&inode->fs->icache->mutex);
	assert(inode->refs > 0);
	inode->refs++;
	(void)pthread_mutex_unlock(&inode->fs->icache->mutex);
}

/*
 * UNREF_NOT_YET: nothing has changed.  Remote writers may have left bytes in caches, which
 * only the in-core inode knows: they are flushed first, so that fsync keeps its promise to
 * who opens the file anew.
 */
enum unref_result { UNREF_KEPT, UNREF_NOT_YET, UNREF_LAST, UNREF_LAST_OF_ORPHAN };

/*
 * From the last reference on the caller has the only pointer.
 * @flushed: so many remote writers' bytes are durable
 */
static enum unref_result try_unref(struct pml_inode *inode, uint64_t count, uint32_t flushed)
{
	struct pml_icache *icache = inode->fs->icache;
	enum unref_result result = UNREF_KEPT;
	(void)pthread_mutex_lock(&icache->mutex);
	assert(inode->refs >= count);
	bool is_last = inode->refs == count;
	/* Under the mutex: behind it the next in-core inode may be unlinked. */
	bool is_orphan = is_last && inode->media->nlink == 0 && !inode->fs->is_read_only;
	if (is_last && !is_orphan && atomic_load(&inode->remote_writers) != flushed) {
		result = UNREF_NOT_YET;
	} else {
		inode->refs -= count;
		if (is_last) {
			remove_locked(icache, inode);
			result = is_orphan ? UNREF_LAST_OF_ORPHAN : UNREF_LAST;
		}
	}
	(void)pthread_mutex_unlock(&icache->mutex);
	return result;
}

static enum unref_result unref(struct pml_inode *inode, uint64_t count)
{
	uint32_t flushed = 0;
	enum unref_result result;
	while ((result = try_unref(inode, count, flushed)) == UNREF_NOT_YET) {
		flushed = atomic_load(&inode->remote_writers);
		int err = pml_file_sync(inode);
		if (err)
			pml_log_error("what remote clients wrote to inode %" PRIu64
				      " may not be durable: %s",
				      inode->ino, strerror(-err));
	}
	return result;
}

static void destroy_or_log(struct pml_inode *inode)
{
	int err = pml_inode_destroy(inode->fs, inode->ino, inode->media);
	if (err)
		pml_log_error("inode %" PRIu64
			      " is deleted but not freed before the next mount: %s",
			      inode->ino, strerror(-err));
}

void pml_inode_put(struct pml_inode *inode, uint64_t count)
{
	enum unref_result result = unref(inode, count);
	if (result == UNREF_LAST_OF_ORPHAN) {
		struct pml_fs *fs = inode->fs;
		(void)pthread_rwlock_rdlock(&fs->audit_lock);
		destroy_or_log(inode);
		(void)pthread_rwlock_unlock(&fs->audit_lock);
	}
	if (result != UNREF_KEPT)
		incore_free(inode);
}

void pml_inode_put_in_change(struct pml_inode *inode)
{
	enum unref_result result = unref(inode, 1);
	if (result == UNREF_LAST_OF_ORPHAN)
		destroy_or_log(inode);
	if (result != UNREF_KEPT)
		incore_free(inode);
}

static int free_slot(struct pml_fs *fs, struct pml_media_inode *media)
{
	struct pml_tx tx;
	int err = pml_tx_begin(fs, &tx);
	if (err)
		return err;
	if (media->symlink && S_ISLNK(media->mode))
		err = pml_tx_free(fs, media->symlink, PML_TYPE_SYMLINK);
	/* The generation stays for the next inode of this number. */
	if (!err)
		err = PML_TX_SET(media->mode, 0);
	return pml_tx_end(&tx, err);
}

int pml_inode_destroy(struct pml_fs *fs, uint64_t ino, struct pml_media_inode *media)
{
	assert(media->nlink == 0);
	/* An empty file costs no transaction of its own for that. */
	bool has_extents = S_ISREG(media->mode) && media->tree;
	int err = has_extents ? pml_extent_punch(fs, media, 0, UINT64_MAX) : 0;
	if (!err && S_ISREG(media->mode))
		err = pml_spare_free(fs, media);
	if (err)
		return err;
	/* A file's tree went with its last extent, a directory is removed empty. */
	if (media->tree)
		return pml_corrupt(fs, "tree of a deleted inode", ino);
	err = pml_xattr_destroy(fs, media);
	if (!err)
		err = free_slot(fs, media);
	if (!err)
		pml_itable_put(fs, ino);
	return err;
}

/* ---- attributes --------------------------------------------------------- */

uint64_t pml_inode_ino(const struct pml_inode *inode)
{
	return inode->ino;
}

uint64_t pml_inode_generation(const struct pml_inode *inode)
{
	return inode->media->generation;
}

mode_t pml_inode_mode(const struct pml_inode *inode)
{
	return __atomic_load_n(&inode->media->mode, __ATOMIC_RELAXED);
}

bool pml_inode_is_orphan(const struct pml_inode *inode)
{
	return __atomic_load_n(&inode->media->nlink, __ATOMIC_RELAXED) == 0;
}

void pml_inode_btime(const struct pml_inode *inode, struct timespec *ret_btime)
{
	*ret_btime = pml_time_to(inode->media->btime_ns);
}

uint64_t pml_inode_size(const struct pml_inode *inode)
{
	return __atomic_load_n(&inode->media->size_bytes, __ATOMIC_RELAXED);
}

static off_t stat_size(const struct pml_media_inode *media)
{
	if (S_ISDIR(media->mode))
		return (off_t)PML_MIN(media->nentries, PML_INO_MAX) * DIR_ENTRY_BYTES;
	return (off_t)PML_MIN(media->size_bytes, (uint64_t)PML_FILE_BYTES_MAX);
}

void pml_inode_stat(struct pml_inode *inode, struct stat *ret_stat)
{
	const struct pml_media_inode *media = inode->media;
	(void)pthread_rwlock_rdlock(&inode->lock);
	*ret_stat = (struct stat){
		.st_ino = inode->ino,
		.st_mode = media->mode,
		.st_nlink = media->nlink,
		.st_uid = media->uid,
		.st_gid = media->gid,
		.st_rdev = media->rdev,
		.st_size = stat_size(media),
		.st_blksize = PML_BLOCK_BYTES,
		.st_blocks =
			S_ISREG(media->mode) ? (blkcnt_t)(media->nblocks * SECTORS_PER_BLOCK) : 0,
		.st_atim = pml_time_to(media->atime_ns),
		.st_mtim = pml_time_to(media->mtime_ns),
		.st_ctim = pml_time_to(media->ctime_ns),
	};
	(void)pthread_rwlock_unlock(&inode->lock);
}

/* What the permission bits allow. */
static uint32_t allowed_by_mode(const struct pml_media_inode *media, const struct pml_cred *cred)
{
	uint32_t mode = media->mode;
	if (cred->uid == 0)
		return R_OK | W_OK | (S_ISDIR(mode) || (mode & 0111) ? X_OK : 0);
	if (cred->uid == media->uid)
		return (mode & S_IRWXU) >> 6;
	if (pml_cred_has_group(cred, media->gid))
		return (mode & S_IRWXG) >> 3;
	return mode & S_IRWXO;
}

int pml_inode_access_locked(const struct pml_inode *inode, const struct pml_cred *cred, int mask)
{
	const struct pml_media_inode *media = inode->media;
	struct pml_acl acl = {.nentries = 0};
	int err = cred->uid == 0
			  ? 0
			  : pml_xattr_acl(inode->fs, media, XATTR_NAME_POSIX_ACL_ACCESS, &acl);
	if (err)
		return err;
	if (acl.nentries)
		return pml_acl_check(&acl, media->uid, media->gid, cred, mask);
	uint32_t wanted = (uint32_t)mask & (R_OK | W_OK | X_OK);
	return wanted & ~allowed_by_mode(media, cred) ? -EACCES : 0;
}

int pml_inode_access(struct pml_inode *inode, const struct pml_cred *cred, int mask)
{
	(void)pthread_rwlock_rdlock(&inode->lock);
	int err = pml_inode_access_locked(inode, cred, mask);
	(void)pthread_rwlock_unlock(&inode->lock);
	return err;
}

int pml_inode_begin_change(struct pml_inode *inode)
{
	if (inode->fs->is_read_only)
		return -EROFS;
	(void)pthread_rwlock_rdlock(&inode->fs->audit_lock);
	(void)pthread_rwlock_wrlock(&inode->lock);
	return 0;
}

void pml_inode_end_change(struct pml_inode *inode)
{
	(void)pthread_rwlock_unlock(&inode->lock);
	(void)pthread_rwlock_unlock(&inode->fs->audit_lock);
}

#define DAY_NS (24ull * 3600 * 1000000000)

static bool is_atime_due_locked(const struct pml_inode *inode, enum pml_atime when, uint64_t now)
{
	const struct pml_media_inode *media = inode->media;
	if (when == PML_ATIME_STRICT)
		return media->atime_ns != now;
	return media->atime_ns <= media->mtime_ns || media->atime_ns <= media->ctime_ns ||
	       (now > media->atime_ns && now - media->atime_ns >= DAY_NS);
}

bool pml_inode_is_atime_due(struct pml_inode *inode, enum pml_atime when)
{
	if (when == PML_ATIME_NEVER || inode->fs->is_read_only)
		return false;
	(void)pthread_rwlock_rdlock(&inode->lock);
	bool is_due = is_atime_due_locked(inode, when, pml_time_now());
	(void)pthread_rwlock_unlock(&inode->lock);
	return is_due;
}

void pml_inode_accessed(struct pml_inode *inode, enum pml_atime when)
{
	/* Mostly it is not due: readers do not exclude each other then. */
	if (!pml_inode_is_atime_due(inode, when) || pml_inode_begin_change(inode) != 0)
		return;
	uint64_t now = pml_time_now();
	if (is_atime_due_locked(inode, when, now)) {
		/* One aligned store: atomic without a transaction. */
		inode->media->atime_ns = now;
		pmemobj_persist(inode->fs->pool, &inode->media->atime_ns, sizeof(uint64_t));
	}
	pml_inode_end_change(inode);
}

int pml_inode_touch(struct pml_inode *inode)
{
	struct pml_media_inode *media = inode->media;
	static_assert(offsetof(struct pml_media_inode, ctime_ns) ==
			      offsetof(struct pml_media_inode, mtime_ns) + sizeof(uint64_t),
		      "two neighbours in one range");
	int err = pml_tx_add(&media->mtime_ns, 2 * sizeof(uint64_t));
	if (!err)
		media->mtime_ns = media->ctime_ns = pml_time_now();
	return err;
}

/*
 * Without set-user-id, and without set-group-id where that is what it means: where the group
 * may not execute, it once asked for mandatory locks and stays.
 */
static uint32_t mode_without_privileges(uint32_t mode)
{
	if (mode & S_IXGRP)
		mode &= ~(uint32_t)S_ISGID;
	return mode & ~(uint32_t)S_ISUID;
}

/* A new owner does not get what set-user-id promised of the old one. */
static uint32_t mode_after_set(const struct pml_media_inode *media, unsigned int what, mode_t mode)
{
	if (what & PML_SET_MODE)
		return (media->mode & S_IFMT) | (mode & 07777);
	if ((what & (PML_SET_UID | PML_SET_GID)) && !S_ISDIR(media->mode))
		return mode_without_privileges(media->mode);
	return media->mode;
}

/* The entries of an access ACL that the mode has bits for follow it. */
static int set_acl_mode_in_tx(struct pml_fs *fs, struct pml_media_inode *media, mode_t mode)
{
	struct pml_acl acl;
	int err = pml_xattr_acl(fs, media, XATTR_NAME_POSIX_ACL_ACCESS, &acl);
	if (err || acl.nentries == 0)
		return err;
	pml_acl_set_mode(&acl, mode);
	return pml_xattr_put_acl(fs, media, XATTR_NAME_POSIX_ACL_ACCESS, &acl, false);
}

static int set_in_tx(struct pml_inode *inode, unsigned int what, const struct stat *attr)
{
	struct pml_media_inode *media = inode->media;
	/* Mode to ctime are one cache line or two: one range. */
	int err = pml_tx_add(media, offsetof(struct pml_media_inode, btime_ns));
	if (err)
		return err;
	/* Read without lock by pml_inode_mode(). */
	__atomic_store_n(&media->mode, mode_after_set(media, what, attr->st_mode),
			 __ATOMIC_RELAXED);
	if (what & PML_SET_UID)
		media->uid = attr->st_uid;
	if (what & PML_SET_GID)
		media->gid = attr->st_gid;
	if (what & PML_SET_ATIME)
		media->atime_ns = pml_time_from(&attr->st_atim);
	if (what & PML_SET_MTIME)
		media->mtime_ns = pml_time_from(&attr->st_mtim);
	media->ctime_ns = what & PML_SET_CTIME ? pml_time_from(&attr->st_ctim) : pml_time_now();
	return what & PML_SET_MODE ? set_acl_mode_in_tx(inode->fs, media, media->mode) : 0;
}

int pml_inode_set(struct pml_inode *inode, unsigned int what, const struct stat *attr)
{
	int err = pml_inode_begin_change(inode);
	if (err)
		return err;
	struct pml_tx tx;
	err = pml_tx_begin(inode->fs, &tx);
	if (!err)
		err = pml_tx_end(&tx, set_in_tx(inode, what, attr));
	pml_inode_end_change(inode);
	return err;
}

/* What goes with the privileges of a file that gets a new owner or group from @cred. */
static int drop_for_new_owner_in_tx(struct pml_inode *inode, const struct pml_cred *cred)
{
	struct pml_media_inode *media = inode->media;
	if (S_ISDIR(media->mode))
		return 0;
	/* As setattr_should_drop_sgid() of Linux (fs/attr.c); the rest is mode_after_set()'s. */
	if (cred->uid != 0 && !pml_cred_has_group(cred, media->gid)) {
		int err = PML_TX_SET(media->mode, media->mode & ~(uint32_t)S_ISGID);
		if (err)
			return err;
	}
	int err = pml_xattr_drop(inode->fs, media, XATTR_NAME_CAPS);
	return err == -ENODATA ? 0 : err;
}

static int set_as_in_tx(struct pml_inode *inode, const struct pml_cred *cred, unsigned int what,
			const struct stat *attr)
{
	int err = 0;
	if (what & (PML_SET_UID | PML_SET_GID))
		err = drop_for_new_owner_in_tx(inode, cred);
	return err ? err : set_in_tx(inode, what, attr);
}

int pml_inode_set_as(struct pml_inode *inode, const struct pml_cred *cred, unsigned int what,
		     const struct stat *attr)
{
	int err = pml_inode_begin_change(inode);
	if (err)
		return err;
	err = pml_permit_set(inode, cred, what, attr);
	struct stat allowed = *attr;
	allowed.st_mode = pml_permit_mode(inode, cred, what, attr);
	struct pml_tx tx;
	if (!err)
		err = pml_tx_begin(inode->fs, &tx);
	if (!err)
		err = pml_tx_end(&tx, set_as_in_tx(inode, cred, what, &allowed));
	pml_inode_end_change(inode);
	return err;
}

/* As setattr_should_drop_suidgid() of Linux (fs/attr.c). */
static uint32_t mode_after_write(const struct pml_media_inode *media, const struct pml_cred *cred)
{
	if (cred->uid == 0)
		return media->mode;
	uint32_t mode = mode_without_privileges(media->mode);
	return pml_cred_has_group(cred, media->gid) ? mode : mode & ~(uint32_t)S_ISGID;
}

static int drop_privileges_in_tx(struct pml_inode *inode, const struct pml_cred *cred)
{
	struct pml_media_inode *media = inode->media;
	int err = PML_TX_SET(media->mode, mode_after_write(media, cred));
	if (err)
		return err;
	err = pml_xattr_drop(inode->fs, media, XATTR_NAME_CAPS);
	return err && err != -ENODATA ? err : PML_TX_SET(media->ctime_ns, pml_time_now());
}

/* 0: there is something to drop; -ENODATA: nothing. */
static int has_privileges_locked(const struct pml_inode *inode, const struct pml_cred *cred)
{
	struct pml_xattr xattr;
	if (mode_after_write(inode->media, cred) != inode->media->mode)
		return 0;
	return pml_xattr_find(inode->fs, inode->media, XATTR_NAME_CAPS, &xattr);
}

int pml_inode_drop_privileges_locked(struct pml_inode *inode, const struct pml_cred *cred,
				     bool *ret_has_dropped)
{
	*ret_has_dropped = false;
	int err = has_privileges_locked(inode, cred);
	if (err)
		return err == -ENODATA ? 0 : err;
	struct pml_tx tx;
	err = pml_tx_begin(inode->fs, &tx);
	if (!err)
		err = pml_tx_end(&tx, drop_privileges_in_tx(inode, cred));
	*ret_has_dropped = !err;
	return err;
}

int pml_inode_drop_privileges(struct pml_inode *inode, const struct pml_cred *cred,
			      bool *ret_has_dropped)
{
	*ret_has_dropped = false;
	if (!pml_inode_is_file(inode))
		return 0;
	/* Mostly there is nothing: writers do not exclude each other then. */
	(void)pthread_rwlock_rdlock(&inode->lock);
	int err = has_privileges_locked(inode, cred);
	(void)pthread_rwlock_unlock(&inode->lock);
	if (!err)
		err = pml_inode_begin_change(inode);
	if (err)
		return err == -ENODATA ? 0 : err;
	err = pml_inode_drop_privileges_locked(inode, cred, ret_has_dropped);
	pml_inode_end_change(inode);
	return err;
}

static int readlink_locked(const struct pml_inode *inode, char *ret_target)
{
	const struct pml_media_inode *media = inode->media;
	uint64_t bytes = media->size_bytes;
	if (bytes == 0 || bytes > PML_SYMLINK_MAX)
		return pml_corrupt(inode->fs, "target of a symbolic link", inode->ino);
	int err = pml_pool_check_object(inode->fs, media->symlink, PML_TYPE_SYMLINK, bytes + 1);
	if (err)
		return err;
	const char *target = pml_at(inode->fs, media->symlink);
	if (strnlen(target, bytes + 1) != bytes)
		return pml_corrupt(inode->fs, "length of a symbolic link", inode->ino);
	memcpy(ret_target, target, bytes + 1);
	return 0;
}

int pml_inode_readlink(struct pml_inode *inode, char *ret_target)
{
	if (pml_inode_type(inode) != S_IFLNK)
		return -EINVAL;
	(void)pthread_rwlock_rdlock(&inode->lock);
	int err = readlink_locked(inode, ret_target);
	(void)pthread_rwlock_unlock(&inode->lock);
	return err;
}
