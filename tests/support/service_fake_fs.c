/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * service_fake_fs.c -- a filesystem of a few arrays; see service_fake_fs.h
 *
 * A full device: what a local write has no block for is lost.
 *
 * A name is the entry of an inode, or a slot that is nothing but another name of one.  Slots
 * and numbers are not used twice, so that who holds a pointer to a file without names may.
 * What a test has made cannot be removed, so that clients that change names leave it something.
 *
 * Threads: safe; everything is under one lock, which the guard's admit() is
 * called with, as the real one holds the inode's lock.
 */
#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include "service_fake_fs.h"

#define FAKE_INODES	 1024u
#define FAKE_FILE_BLOCKS 4096u
#define NO_BLOCK	 UINT32_MAX

struct pml_inode {
	struct pml_fs *fs;
	uint64_t ino;
	uint64_t parent; /* 0: no name in any directory, and free if it is not used */
	char name[PML_NAME_BYTES_MAX + 1];
	bool is_used;
	bool is_kept;		 /* a test has made it */
	struct pml_inode *other; /* a further name of this inode; else NULL */
	uint32_t nlink;
	char target[64]; /* of a symbolic link; longer ones are not made */
	mode_t mode;
	uid_t uid;
	gid_t gid;
	uint64_t size;
	uint32_t *blocks; /* FAKE_FILE_BLOCKS */
};

struct pml_fs {
	pthread_mutex_t lock;
	uint8_t *arena;
	uint8_t *durable; /* the arena as a power failure would leave it */
	bool has_pages;	  /* page granularity: nothing to flush from outside */
	uint64_t flushing_commits;
	uint32_t pins[FAKE_BLOCKS];
	bool is_mapped[FAKE_BLOCKS];
	bool is_fresh[FAKE_BLOCKS]; /* poisoned and never lent since */
	uint32_t next_block;
	struct pml_inode inodes[FAKE_INODES];
	const struct pml_guard_ops *guard;
	void *guard_arg;
};

/* ---- blocks ------------------------------------------------------------- */

static uint8_t *block_addr(struct pml_fs *fs, uint32_t block)
{
	return fs->arena + (size_t)block * PML_BLOCK_BYTES;
}

static void poison_if_free(struct pml_fs *fs, uint32_t block)
{
	if (fs->is_mapped[block] || fs->pins[block])
		return;
	memset(block_addr(fs, block), FAKE_POISON, PML_BLOCK_BYTES);
	fs->is_fresh[block] = true;
}

/* The next free block, skipping one after each run, zeroed. */
static uint32_t alloc_block(struct pml_fs *fs)
{
	for (uint32_t tries = 0; tries < FAKE_BLOCKS; tries++) {
		uint32_t block = fs->next_block;
		fs->next_block = (fs->next_block + 1) % FAKE_BLOCKS;
		if (block % (FAKE_RUN_BLOCKS + 1) == FAKE_RUN_BLOCKS)
			continue;
		if (!fs->is_fresh[block])
			continue;
		fs->is_fresh[block] = false;
		fs->is_mapped[block] = true;
		memset(block_addr(fs, block), 0, PML_BLOCK_BYTES);
		memset(fs->durable + (size_t)block * PML_BLOCK_BYTES, 0, PML_BLOCK_BYTES);
		return block;
	}
	return NO_BLOCK;
}

/* The block of a byte of a file, allocated if @is_needed. */
static uint32_t block_of(struct pml_inode *inode, uint64_t byte, bool is_needed)
{
	uint64_t at = byte >> PML_BLOCK_SHIFT;
	if (at >= FAKE_FILE_BLOCKS)
		return NO_BLOCK;
	if (inode->blocks[at] == NO_BLOCK && is_needed)
		inode->blocks[at] = alloc_block(inode->fs);
	return inode->blocks[at];
}

/* ---- making, for tests --------------------------------------------------- */

struct pml_fs *fake_fs_new(void)
{
	struct pml_fs *fs = calloc(1, sizeof(*fs));
	fs->arena = mmap(NULL, (size_t)FAKE_BLOCKS * PML_BLOCK_BYTES, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	fs->durable = mmap(NULL, (size_t)FAKE_BLOCKS * PML_BLOCK_BYTES, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	pthread_mutex_init(&fs->lock, NULL);
	for (uint32_t i = 0; i < FAKE_BLOCKS; i++)
		poison_if_free(fs, i);
	for (uint32_t i = 0; i < FAKE_INODES; i++)
		fs->inodes[i] = (struct pml_inode){.fs = fs, .ino = i};
	struct pml_inode *root = &fs->inodes[PML_ROOT_INO];
	root->parent = PML_ROOT_INO;
	root->is_used = true;
	root->nlink = 1;
	root->mode = S_IFDIR | 0755;
	return fs;
}

void fake_fs_free(struct pml_fs *fs)
{
	for (uint32_t i = 0; i < FAKE_INODES; i++)
		free(fs->inodes[i].blocks);
	munmap(fs->arena, (size_t)FAKE_BLOCKS * PML_BLOCK_BYTES);
	munmap(fs->durable, (size_t)FAKE_BLOCKS * PML_BLOCK_BYTES);
	pthread_mutex_destroy(&fs->lock);
	free(fs);
}

/* The slot that has that name; NULL: none. */
static struct pml_inode *entry_locked(struct pml_fs *fs, uint64_t dir_ino, const char *name)
{
	for (uint32_t i = PML_ROOT_INO + 1; i < FAKE_INODES; i++)
		if (fs->inodes[i].parent == dir_ino && strcmp(fs->inodes[i].name, name) == 0)
			return &fs->inodes[i];
	return NULL;
}

/* What an entry is a name of. */
static struct pml_inode *inode_of(struct pml_inode *entry)
{
	return entry->other ? entry->other : entry;
}

static struct pml_inode *find_locked(struct pml_fs *fs, uint64_t dir_ino, const char *name)
{
	struct pml_inode *entry = entry_locked(fs, dir_ino, name);
	return entry ? inode_of(entry) : NULL;
}

/* NULL: all slots are used. */
static struct pml_inode *entry_new_locked(struct pml_fs *fs, uint64_t dir_ino, const char *name)
{
	for (uint32_t i = PML_ROOT_INO + 1; i < FAKE_INODES; i++) {
		struct pml_inode *entry = &fs->inodes[i];
		if (entry->is_used)
			continue;
		entry->is_used = true;
		entry->parent = dir_ino;
		snprintf(entry->name, sizeof(entry->name), "%s", name);
		return entry;
	}
	return NULL;
}

static struct pml_inode *make_locked(struct pml_fs *fs, uint64_t dir_ino, const char *name,
				     mode_t mode)
{
	struct pml_inode *inode = entry_new_locked(fs, dir_ino, name);
	if (!inode)
		return NULL;
	inode->mode = mode;
	inode->nlink = 1;
	inode->blocks = malloc(FAKE_FILE_BLOCKS * sizeof(*inode->blocks));
	memset(inode->blocks, 0xff, FAKE_FILE_BLOCKS * sizeof(*inode->blocks));
	return inode;
}

uint64_t fake_fs_make(struct pml_fs *fs, uint64_t dir_ino, const char *name, mode_t mode, uid_t uid)
{
	pthread_mutex_lock(&fs->lock);
	struct pml_inode *inode = make_locked(fs, dir_ino, name, mode);
	if (!inode)
		abort();
	inode->is_kept = true;
	inode->uid = uid;
	inode->gid = uid;
	pthread_mutex_unlock(&fs->lock);
	return inode->ino;
}

static void copy_locked(struct pml_inode *inode, uint64_t first_byte, uint8_t *data, size_t bytes,
			bool is_write)
{
	while (bytes > 0) {
		size_t in_block = first_byte % PML_BLOCK_BYTES;
		size_t n = PML_MIN(bytes, PML_BLOCK_BYTES - in_block);
		uint32_t block = block_of(inode, first_byte, is_write);
		if (is_write && block != NO_BLOCK)
			memcpy(block_addr(inode->fs, block) + in_block, data, n);
		else if (block == NO_BLOCK && !is_write)
			memset(data, 0, n);
		else if (!is_write)
			memcpy(data, block_addr(inode->fs, block) + in_block, n);
		data += n;
		first_byte += n;
		bytes -= n;
	}
}

void fake_fs_write(struct pml_fs *fs, uint64_t ino, uint64_t first_byte, const void *data,
		   size_t bytes)
{
	struct pml_inode *inode = &fs->inodes[ino];
	pthread_mutex_lock(&fs->lock);
	copy_locked(inode, first_byte, (uint8_t *)(uintptr_t)data, bytes, true);
	inode->size = PML_MAX(inode->size, first_byte + bytes);
	pthread_mutex_unlock(&fs->lock);
}

void fake_fs_read(struct pml_fs *fs, uint64_t ino, uint64_t first_byte, void *data, size_t bytes)
{
	pthread_mutex_lock(&fs->lock);
	copy_locked(&fs->inodes[ino], first_byte, data, bytes, false);
	pthread_mutex_unlock(&fs->lock);
}

uint64_t fake_fs_size(struct pml_fs *fs, uint64_t ino)
{
	pthread_mutex_lock(&fs->lock);
	uint64_t size = fs->inodes[ino].size;
	pthread_mutex_unlock(&fs->lock);
	return size;
}

uint64_t fake_fs_pins(struct pml_fs *fs)
{
	uint64_t pins = 0;
	pthread_mutex_lock(&fs->lock);
	for (uint32_t i = 0; i < FAKE_BLOCKS; i++)
		pins += fs->pins[i];
	pthread_mutex_unlock(&fs->lock);
	return pins;
}

uint64_t fake_fs_stained(struct pml_fs *fs)
{
	static const uint8_t poison[1] = {FAKE_POISON};
	uint64_t stained = 0;
	pthread_mutex_lock(&fs->lock);
	for (uint32_t i = 0; i < FAKE_BLOCKS; i++) {
		const uint8_t *at = block_addr(fs, i);
		if (fs->is_fresh[i] &&
		    (at[0] != poison[0] || memcmp(at, at + 1, PML_BLOCK_BYTES - 1) != 0))
			stained++;
	}
	pthread_mutex_unlock(&fs->lock);
	return stained;
}

/* ---- changes, with the guard --------------------------------------------- */

struct parked {
	struct pml_waiter waiter;
	sem_t resumed;
};

static void resume(struct pml_waiter *w)
{
	sem_post(&PML_CONTAINER_OF(w, struct parked, waiter)->resumed);
}

static void cut_locked(struct pml_inode *inode, uint64_t size_bytes)
{
	uint64_t from = pml_round_up(size_bytes, PML_BLOCK_BYTES) >> PML_BLOCK_SHIFT;
	for (uint64_t at = from; at < FAKE_FILE_BLOCKS; at++) {
		uint32_t block = inode->blocks[at];
		if (block == NO_BLOCK)
			continue;
		inode->blocks[at] = NO_BLOCK;
		inode->fs->is_mapped[block] = false;
		poison_if_free(inode->fs, block);
	}
	inode->size = size_bytes;
}

static void punch_locked(struct pml_inode *inode, uint64_t first_byte, uint64_t end_byte)
{
	uint64_t end = PML_MIN(end_byte >> PML_BLOCK_SHIFT, (uint64_t)FAKE_FILE_BLOCKS);
	for (uint64_t at = first_byte >> PML_BLOCK_SHIFT; at < end; at++) {
		uint32_t block = inode->blocks[at];
		if (block == NO_BLOCK)
			continue;
		inode->blocks[at] = NO_BLOCK;
		inode->fs->is_mapped[block] = false;
		poison_if_free(inode->fs, block);
	}
}

/* Makes @change once the guard lets it: a truncation to its first byte, or a punch. */
static int try_change(struct pml_inode *inode, const struct pml_layout_change *change,
		      struct pml_waiter *w)
{
	struct pml_fs *fs = inode->fs;
	pthread_mutex_lock(&fs->lock);
	struct pml_layout_change asked = *change;
	if (change->op == PML_OP_TRUNCATE)
		asked.first_byte = PML_MIN(change->first_byte, inode->size);
	int err = fs->guard ? fs->guard->admit(fs->guard_arg, &asked, w) : 0;
	if (!err && change->op == PML_OP_TRUNCATE)
		cut_locked(inode, change->first_byte);
	else if (!err)
		punch_locked(inode, change->first_byte, change->end_byte);
	pthread_mutex_unlock(&fs->lock);
	return err;
}

static int change_layout(struct pml_fs *fs, const struct pml_layout_change *change)
{
	struct parked parked = {.waiter = {.resume = resume, .name = "test"}};
	sem_init(&parked.resumed, 0, 0);
	int err = try_change(&fs->inodes[change->ino], change, &parked.waiter);
	while (err == -EINPROGRESS) {
		while (sem_wait(&parked.resumed))
			;
		err = try_change(&fs->inodes[change->ino], change, &parked.waiter);
	}
	if (fs->guard)
		fs->guard->done(fs->guard_arg, &parked.waiter);
	sem_destroy(&parked.resumed);
	return err;
}

static struct pml_layout_change truncation(uint64_t ino, uint64_t size_bytes)
{
	return (struct pml_layout_change){.ino = ino,
					  .first_byte = size_bytes,
					  .end_byte = UINT64_MAX,
					  .op = PML_OP_TRUNCATE};
}

int fake_fs_truncate(struct pml_fs *fs, uint64_t ino, uint64_t size_bytes)
{
	const struct pml_layout_change change = truncation(ino, size_bytes);
	return change_layout(fs, &change);
}

int fake_fs_punch(struct pml_fs *fs, uint64_t ino, uint64_t first_block, uint64_t nblocks)
{
	const struct pml_layout_change change = {.ino = ino,
						 .first_byte = first_block << PML_BLOCK_SHIFT,
						 .end_byte = (first_block + nblocks)
							     << PML_BLOCK_SHIFT,
						 .op = PML_OP_PUNCH};
	return change_layout(fs, &change);
}

/* ---- pml/fs.h ------------------------------------------------------------ */

void pml_fs_set_guard(struct pml_fs *fs, const struct pml_guard_ops *ops, void *guard)
{
	fs->guard = ops;
	fs->guard_arg = guard;
}

int pml_fs_audit(struct pml_fs *fs, pml_audit_pins pins_of, void *arg, char *ret_reason)
{
	return 0;
}

void pml_fs_mapping(const struct pml_fs *fs, uint8_t **ret_base, uint64_t *ret_bytes)
{
	*ret_base = fs->arena;
	*ret_bytes = (uint64_t)FAKE_BLOCKS * PML_BLOCK_BYTES;
}

int pml_inode_get(struct pml_fs *fs, uint64_t ino, struct pml_inode **ret_inode)
{
	pthread_mutex_lock(&fs->lock);
	bool is_there = ino > 0 && ino < FAKE_INODES && fs->inodes[ino].nlink > 0;
	pthread_mutex_unlock(&fs->lock);
	if (!is_there)
		return -ENOENT;
	*ret_inode = &fs->inodes[ino];
	return 0;
}

void pml_inode_ref(struct pml_inode *inode)
{
}

void pml_inode_put(struct pml_inode *inode, uint64_t count)
{
}

uint64_t pml_inode_ino(const struct pml_inode *inode)
{
	return inode->ino;
}

uint64_t pml_inode_generation(const struct pml_inode *inode)
{
	return 1;
}

mode_t pml_inode_mode(const struct pml_inode *inode)
{
	pthread_mutex_lock(&inode->fs->lock);
	mode_t mode = inode->mode;
	pthread_mutex_unlock(&inode->fs->lock);
	return mode;
}

uint64_t pml_inode_size(const struct pml_inode *inode)
{
	return fake_fs_size(inode->fs, inode->ino);
}

void pml_inode_stat(struct pml_inode *inode, struct stat *ret_stat)
{
	pthread_mutex_lock(&inode->fs->lock);
	*ret_stat = (struct stat){
		.st_ino = inode->ino,
		.st_mode = inode->mode,
		.st_uid = inode->uid,
		.st_gid = inode->gid,
		.st_nlink = inode->nlink,
		.st_size = (off_t)inode->size,
		.st_mtim = {.tv_sec = 1000, .tv_nsec = 5},
	};
	pthread_mutex_unlock(&inode->fs->lock);
}

static bool has_group(const struct pml_cred *cred, gid_t gid)
{
	bool is_in = cred->gid == gid;
	for (size_t i = 0; i < cred->ngroups; i++)
		is_in |= cred->groups[i] == gid;
	return is_in;
}

int pml_inode_access(struct pml_inode *inode, const struct pml_cred *cred, int mask)
{
	if (cred->uid == 0)
		return 0;
	pthread_mutex_lock(&inode->fs->lock);
	unsigned int shift = cred->uid == inode->uid ? 6 : has_group(cred, inode->gid) ? 3 : 0;
	unsigned int rights = inode->mode >> shift;
	pthread_mutex_unlock(&inode->fs->lock);
	return (rights & (unsigned int)mask) == (unsigned int)mask ? 0 : -EACCES;
}

int pml_dir_lookup(struct pml_inode *dir, const char *name, struct pml_inode **ret_inode)
{
	if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
		return -EINVAL;
	pthread_mutex_lock(&dir->fs->lock);
	struct pml_inode *inode = find_locked(dir->fs, dir->ino, name);
	pthread_mutex_unlock(&dir->fs->lock);
	if (!inode)
		return -ENOENT;
	*ret_inode = inode;
	return 0;
}

int pml_dir_create(struct pml_inode *dir, const char *name, const struct pml_create_args *args,
		   struct pml_inode **ret_inode)
{
	pthread_mutex_lock(&dir->fs->lock);
	struct pml_inode *inode = find_locked(dir->fs, dir->ino, name);
	int err = inode ? -EEXIST : dir->nlink == 0 ? -ENOENT : 0;
	if (!err && args->target && strlen(args->target) >= sizeof(dir->target))
		err = -ENAMETOOLONG;
	if (!err) {
		inode = make_locked(dir->fs, dir->ino, name, args->mode);
		err = inode ? 0 : -ENOSPC;
	}
	if (!err) {
		inode->uid = args->cred.uid;
		inode->gid = args->cred.gid;
		if (args->target)
			snprintf(inode->target, sizeof(inode->target), "%s", args->target);
		*ret_inode = inode;
	}
	pthread_mutex_unlock(&dir->fs->lock);
	return err;
}

int pml_dir_read(struct pml_inode *dir, uint64_t cookie, pml_dir_emit emit, void *arg)
{
	struct pml_fs *fs = dir->fs;
	pthread_mutex_lock(&fs->lock);
	const struct pml_dirent dot = {.name = ".", .ino = dir->ino, .type = S_IFDIR, .cookie = 1};
	bool goes_on = cookie > 0 || emit(arg, &dot);
	for (uint64_t i = PML_MAX(cookie, (uint64_t)1) + 1; goes_on && i < FAKE_INODES; i++) {
		if (fs->inodes[i].parent != dir->ino)
			continue;
		const struct pml_dirent entry = {
			.name = fs->inodes[i].name,
			.ino = inode_of(&fs->inodes[i])->ino,
			.type = inode_of(&fs->inodes[i])->mode & S_IFMT,
			.cookie = i,
		};
		goes_on = emit(arg, &entry);
	}
	pthread_mutex_unlock(&fs->lock);
	return 0;
}

/* Pins one block; prolongs the last segment where it adjoins.  False: no room for it. */
static bool pin_block(struct pml_fs *fs, struct pml_segment *segments, size_t max, size_t *count,
		      const struct pml_segment *piece)
{
	struct pml_segment *last = *count ? &segments[*count - 1] : NULL;
	bool adjoins = last && last->first_byte + last->len_bytes == piece->first_byte &&
		       last->block + last->nblocks == piece->block;
	if (!adjoins && *count == max)
		return false;
	fs->pins[piece->block]++;
	if (adjoins) {
		last->len_bytes += piece->len_bytes;
		last->nblocks++;
	} else {
		segments[(*count)++] = *piece;
	}
	return true;
}

static void pin_locked(struct pml_inode *inode, uint64_t first, uint64_t end, bool for_write,
		       struct pml_segment *segments, size_t max, size_t *ret_count,
		       uint64_t *ret_end)
{
	*ret_count = 0;
	*ret_end = end;
	while (first < end) {
		size_t in_block = first % PML_BLOCK_BYTES;
		uint64_t n = PML_MIN(end - first, (uint64_t)(PML_BLOCK_BYTES - in_block));
		uint32_t block = block_of(inode, first, for_write);
		if (block == NO_BLOCK && for_write) {
			*ret_end = first; /* the device is full */
			return;
		}
		if (block != NO_BLOCK) {
			const struct pml_segment piece = {
				.first_byte = first,
				.len_bytes = n,
				.addr = block_addr(inode->fs, block) + in_block,
				.block = block,
				.nblocks = 1,
			};
			if (!pin_block(inode->fs, segments, max, ret_count, &piece)) {
				*ret_end = first;
				return;
			}
		}
		first += n;
	}
}

int pml_file_pin(struct pml_inode *inode, uint64_t first_byte, uint64_t len_bytes,
		 enum pml_pin_kind kind, struct pml_segment *segments, size_t max,
		 size_t *ret_count, uint64_t *ret_end)
{
	bool for_write = kind == PML_PIN_WRITE;
	uint64_t end = first_byte + len_bytes;
	if (end > (uint64_t)FAKE_FILE_BLOCKS * PML_BLOCK_BYTES)
		return -EFBIG;
	pthread_mutex_lock(&inode->fs->lock);
	int err = 0;
	if (!for_write && first_byte >= inode->size)
		err = -ENODATA;
	else
		pin_locked(inode, first_byte, for_write ? end : PML_MIN(end, inode->size),
			   kind != PML_PIN_READ, segments, max, ret_count, ret_end);
	if (!err && *ret_end == first_byte)
		err = -ENOSPC;
	pthread_mutex_unlock(&inode->fs->lock);
	return err;
}

void pml_fs_unpin(struct pml_fs *fs, const struct pml_segment *segment)
{
	pthread_mutex_lock(&fs->lock);
	for (uint64_t i = 0; i < segment->nblocks; i++) {
		fs->pins[segment->block + i]--;
		poison_if_free(fs, (uint32_t)(segment->block + i));
	}
	pthread_mutex_unlock(&fs->lock);
}

int pml_file_commit(struct pml_inode *inode, uint64_t first_byte, uint64_t len_bytes,
		    uint64_t new_size_bytes, bool is_durable, struct pml_waiter *w)
{
	struct pml_fs *fs = inode->fs;
	pthread_mutex_lock(&fs->lock);
	inode->size = PML_MAX(inode->size, new_size_bytes);
	for (uint64_t at = first_byte; !is_durable && at < first_byte + len_bytes; at++) {
		uint32_t block = block_of(inode, at, false);
		size_t in_arena = (size_t)block * PML_BLOCK_BYTES + at % PML_BLOCK_BYTES;
		if (block != NO_BLOCK)
			fs->durable[in_arena] = fs->arena[in_arena];
	}
	if (!is_durable)
		fs->flushing_commits++;
	pthread_mutex_unlock(&fs->lock);
	return 0;
}

void pml_fs_persist(const struct pml_fs *fs, const void *addr, uint64_t bytes)
{
	size_t at = (size_t)((const uint8_t *)addr - fs->arena);
	memcpy(fs->durable + at, fs->arena + at, bytes);
}

void pml_fs_info(const struct pml_fs *fs, struct pml_device_info *ret_info)
{
	*ret_info = (struct pml_device_info){.is_cache_line = !fs->has_pages};
}

void fake_fs_have_pages(struct pml_fs *fs)
{
	fs->has_pages = true;
}

uint64_t fake_fs_flushing_commits(struct pml_fs *fs)
{
	pthread_mutex_lock(&fs->lock);
	uint64_t n = fs->flushing_commits;
	pthread_mutex_unlock(&fs->lock);
	return n;
}

bool fake_fs_is_durable(struct pml_fs *fs, uint64_t ino, uint64_t first_byte, const void *data,
			size_t bytes)
{
	struct pml_inode *inode = &fs->inodes[ino];
	bool is_durable = true;
	pthread_mutex_lock(&fs->lock);
	for (size_t i = 0; i < bytes && is_durable; i++) {
		uint32_t block = block_of(inode, first_byte + i, false);
		size_t at = (size_t)block * PML_BLOCK_BYTES + (first_byte + i) % PML_BLOCK_BYTES;
		is_durable = block != NO_BLOCK && fs->durable[at] == ((const uint8_t *)data)[i];
	}
	pthread_mutex_unlock(&fs->lock);
	return is_durable;
}

void pml_file_trim(struct pml_inode *inode, uint64_t first_byte, uint64_t end_byte)
{
}

bool pml_inode_is_orphan(const struct pml_inode *inode)
{
	pthread_mutex_lock(&inode->fs->lock);
	bool is_orphan = inode->nlink == 0;
	pthread_mutex_unlock(&inode->fs->lock);
	return is_orphan;
}

int pml_file_truncate(struct pml_inode *inode, uint64_t size_bytes, struct pml_waiter *w)
{
	const struct pml_layout_change change = truncation(inode->ino, size_bytes);
	return try_change(inode, &change, w);
}

void pml_fs_wait_cancel(struct pml_fs *fs, struct pml_waiter *w)
{
	if (fs->guard)
		fs->guard->cancel(fs->guard_arg, w);
}

void pml_fs_wait_done(struct pml_fs *fs, struct pml_waiter *w)
{
	if (fs->guard)
		fs->guard->done(fs->guard_arg, w);
}

/* ---- names and attributes, by simple rules (the real ones: test_service_names.c) ---- */

int pml_inode_set_as(struct pml_inode *inode, const struct pml_cred *cred, unsigned int what,
		     const struct stat *attr)
{
	pthread_mutex_lock(&inode->fs->lock);
	if (what & PML_SET_MODE)
		inode->mode = (inode->mode & S_IFMT) | (attr->st_mode & 07777);
	if (what & PML_SET_UID)
		inode->uid = attr->st_uid;
	if (what & PML_SET_GID)
		inode->gid = attr->st_gid;
	pthread_mutex_unlock(&inode->fs->lock);
	return 0;
}

int pml_inode_may_set(struct pml_inode *inode, const struct pml_cred *cred, unsigned int what,
		      const struct stat *attr)
{
	return what & PML_SET_MODE && S_ISLNK(pml_inode_mode(inode)) ? -EOPNOTSUPP : 0;
}

int pml_inode_drop_privileges(struct pml_inode *inode, const struct pml_cred *cred,
			      bool *ret_has_dropped)
{
	*ret_has_dropped = false;
	return 0;
}

int pml_inode_may_link(struct pml_inode *inode, const struct pml_cred *cred)
{
	return S_ISDIR(pml_inode_mode(inode)) ? -EPERM : 0;
}

int pml_inode_readlink(struct pml_inode *inode, char *ret_target)
{
	/* Constant once it is made. */
	if (!S_ISLNK(pml_inode_mode(inode)))
		return -EINVAL;
	memcpy(ret_target, inode->target, strlen(inode->target) + 1);
	return 0;
}

/* Each inode has one attribute. */
static const char attribute[] = "user.x";
static const char attribute_value[] = "value";

int pml_xattr_may_get(struct pml_inode *inode, const struct pml_cred *cred, const char *name)
{
	return strncmp(name, "user.", 5) == 0 ? 0 : -EOPNOTSUPP;
}

int pml_xattr_get(struct pml_inode *inode, const char *name, void *value, size_t max_bytes,
		  size_t *ret_bytes)
{
	if (strcmp(name, attribute) != 0)
		return -ENODATA;
	*ret_bytes = sizeof(attribute_value);
	memcpy(value, attribute_value, sizeof(attribute_value));
	return 0;
}

int pml_xattr_list(struct pml_inode *inode, const struct pml_cred *cred, char *names,
		   size_t max_bytes, size_t *ret_bytes)
{
	*ret_bytes = sizeof(attribute);
	memcpy(names, attribute, sizeof(attribute));
	return 0;
}

int pml_dir_link(struct pml_inode *dir, const char *name, struct pml_inode *inode)
{
	struct pml_fs *fs = dir->fs;
	pthread_mutex_lock(&fs->lock);
	int err = dir->nlink == 0 || inode->nlink == 0 ? -ENOENT : 0;
	if (!err && entry_locked(fs, dir->ino, name))
		err = -EEXIST;
	struct pml_inode *entry = err ? NULL : entry_new_locked(fs, dir->ino, name);
	if (!err && !entry)
		err = -ENOSPC;
	if (entry) {
		entry->other = inode;
		inode->nlink++;
	}
	pthread_mutex_unlock(&fs->lock);
	return err;
}

static bool is_empty_locked(const struct pml_inode *dir)
{
	for (uint32_t i = PML_ROOT_INO + 1; i < FAKE_INODES; i++)
		if (dir->fs->inodes[i].parent == dir->ino)
			return false;
	return true;
}

/* May the entry go?  0, or why not. */
static int check_removal_locked(struct pml_inode *entry, bool is_dir)
{
	const struct pml_inode *inode = inode_of(entry);
	if (inode->is_kept)
		return -EPERM;
	if (S_ISDIR(inode->mode) != is_dir)
		return is_dir ? -ENOTDIR : -EISDIR;
	return is_dir && !is_empty_locked(inode) ? -ENOTEMPTY : 0;
}

/* Returns the inode if it has no name any more, for the guard; else NULL. */
static struct pml_inode *remove_locked(struct pml_inode *entry)
{
	struct pml_inode *inode = inode_of(entry);
	entry->parent = 0;
	return --inode->nlink == 0 ? inode : NULL;
}

static void tell_orphaned(struct pml_fs *fs, const struct pml_inode *inode)
{
	if (inode && fs->guard && fs->guard->orphaned)
		fs->guard->orphaned(fs->guard_arg, inode->ino);
}

int pml_dir_remove_as(struct pml_inode *dir, const char *name, bool is_dir,
		      const struct pml_cred *cred, uint64_t *ret_ino)
{
	struct pml_fs *fs = dir->fs;
	const struct pml_inode *orphan = NULL;
	pthread_mutex_lock(&fs->lock);
	struct pml_inode *entry = entry_locked(fs, dir->ino, name);
	int err = entry ? check_removal_locked(entry, is_dir) : -ENOENT;
	if (!err) {
		*ret_ino = inode_of(entry)->ino;
		orphan = remove_locked(entry);
	}
	pthread_mutex_unlock(&fs->lock);
	tell_orphaned(fs, orphan);
	return err;
}

/* Is @dir @inode, or below it? */
static bool is_below_locked(const struct pml_inode *dir, const struct pml_inode *inode)
{
	while (dir != inode && dir->ino != PML_ROOT_INO && dir->parent)
		dir = &dir->fs->inodes[dir->parent];
	return dir == inode;
}

static void place_locked(struct pml_inode *entry, const struct pml_inode *dir, const char *name)
{
	entry->parent = dir->ino;
	snprintf(entry->name, sizeof(entry->name), "%s", name);
}

static int rename_locked(struct pml_inode *from, const char *name, struct pml_inode *to,
			 const char *new_name, unsigned int flags, struct pml_renamed *done,
			 struct pml_inode **ret_orphan)
{
	struct pml_inode *entry = entry_locked(from->fs, from->ino, name);
	struct pml_inode *old = entry_locked(to->fs, to->ino, new_name);
	bool is_exchange = flags & RENAME_EXCHANGE;
	if (!entry || (is_exchange && !old) || to->nlink == 0)
		return -ENOENT;
	if (old && flags & RENAME_NOREPLACE)
		return -EEXIST;
	if (is_below_locked(to, inode_of(entry)) ||
	    (is_exchange && is_below_locked(from, inode_of(old))))
		return -EINVAL;
	if (old && inode_of(old) == inode_of(entry))
		return 0;
	int err =
		old && !is_exchange ? check_removal_locked(old, S_ISDIR(inode_of(entry)->mode)) : 0;
	if (err)
		return err;
	done->moved_ino = inode_of(entry)->ino;
	done->replaced_ino = old ? inode_of(old)->ino : 0;
	if (is_exchange)
		place_locked(old, from, name);
	else if (old)
		*ret_orphan = remove_locked(old);
	place_locked(entry, to, new_name);
	return 0;
}

int pml_dir_rename_as(struct pml_inode *from, const char *name, struct pml_inode *to,
		      const char *new_name, unsigned int flags, const struct pml_cred *cred,
		      struct pml_renamed *ret_done)
{
	struct pml_inode *orphan = NULL;
	*ret_done = (struct pml_renamed){.moved_ino = 0};
	pthread_mutex_lock(&from->fs->lock);
	int err = rename_locked(from, name, to, new_name, flags, ret_done, &orphan);
	pthread_mutex_unlock(&from->fs->lock);
	tell_orphaned(from->fs, orphan);
	return err;
}

/* ---- clone ---------------------------------------------------------------- */

/* Gives the bytes other blocks, as far as there are free ones; returns how many blocks. */
static uint64_t move_locked(struct pml_inode *inode, uint64_t first, uint64_t end)
{
	struct pml_fs *fs = inode->fs;
	uint64_t at = first;
	for (; at < end; at++) {
		uint32_t old = inode->blocks[at];
		if (old == NO_BLOCK)
			continue;
		uint32_t fresh = alloc_block(fs);
		if (fresh == NO_BLOCK)
			break;
		memcpy(block_addr(fs, fresh), block_addr(fs, old), PML_BLOCK_BYTES);
		inode->blocks[at] = fresh;
		fs->is_mapped[old] = false;
		poison_if_free(fs, old);
	}
	return at - first;
}

/* Of a file onto itself at the same place alone: the blocks change, and no byte. */
int pml_file_clone_blocks(struct pml_inode *src, uint64_t src_byte, struct pml_inode *dst,
			  uint64_t dst_byte, uint64_t len_bytes, struct pml_waiter *w,
			  uint64_t *ret_bytes)
{
	struct pml_fs *fs = src->fs;
	uint64_t end_byte = src_byte + len_bytes;
	if (src != dst || src_byte != dst_byte)
		return -EOPNOTSUPP;
	if (src_byte % PML_BLOCK_BYTES || len_bytes % PML_BLOCK_BYTES || len_bytes == 0 ||
	    end_byte > (uint64_t)FAKE_FILE_BLOCKS * PML_BLOCK_BYTES)
		return -EINVAL;
	const struct pml_layout_change change = {.ino = dst->ino,
						 .first_byte = src_byte,
						 .end_byte = end_byte,
						 .op = PML_OP_CLONE_DST};
	pthread_mutex_lock(&fs->lock);
	int err = fs->guard ? fs->guard->admit(fs->guard_arg, &change, w) : 0;
	uint64_t nblocks = 0;
	if (!err) {
		nblocks =
			move_locked(src, src_byte >> PML_BLOCK_SHIFT, end_byte >> PML_BLOCK_SHIFT);
		err = nblocks ? 0 : -ENOSPC;
	}
	pthread_mutex_unlock(&fs->lock);
	if (!err)
		*ret_bytes = nblocks << PML_BLOCK_SHIFT;
	return err;
}

void pml_fs_statvfs(const struct pml_fs *fs, struct statvfs *ret_stat)
{
	*ret_stat = (struct statvfs){.f_frsize = PML_BLOCK_BYTES, .f_namemax = PML_NAME_BYTES_MAX};
}
