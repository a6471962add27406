/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * dir.c -- the entries of one directory
 *
 * A name's key is its keyed hash with the low 8 bits counting names of one hash;
 * a name keeps its key for life, so keys are readdir cookies.  A look-up compares
 * the names of all keys of its hash.  Entries come from the device: each is
 * checked before it is believed.
 *
 * Threads: the directory's lock, see dir.h.
 * Format:  docs/on-media-format.md, "Directories".
 */
#include "dir.h"

#include <sodium.h>
#include <string.h>

#include "tx.h"

#define COOKIE_DOT     1u
#define COOKIE_DOT_DOT 2u

static_assert(crypto_shorthash_KEYBYTES == sizeof(((struct pml_media_super *)0)->hash_key),
	      "SipHash key");
static_assert(crypto_shorthash_BYTES == sizeof(uint64_t), "SipHash result");

int pml_name_check(const char *name, size_t *ret_bytes)
{
	size_t bytes = strnlen(name, PML_NAME_BYTES_MAX + 1);
	if (bytes > PML_NAME_BYTES_MAX)
		return -ENAMETOOLONG;
	if (bytes == 0 || strcmp(name, ".") == 0 || strcmp(name, "..") == 0 ||
	    memchr(name, '/', bytes))
		return -EINVAL;
	*ret_bytes = bytes;
	return 0;
}

uint64_t pml_name_first_key(const struct pml_fs *fs, const char *name, size_t name_bytes)
{
	uint64_t hash;
	(void)crypto_shorthash((unsigned char *)&hash, (const unsigned char *)name, name_bytes,
			       fs->super->hash_key);
	hash &= (uint64_t)INT64_MAX & ~(uint64_t)(PML_NAME_COLLISIONS - 1);
	return hash ? hash : PML_NAME_COLLISIONS;
}

static bool is_file_type(uint32_t type)
{
	return S_ISREG(type) || S_ISDIR(type) || S_ISLNK(type) || S_ISFIFO(type) ||
	       S_ISSOCK(type) || S_ISCHR(type) || S_ISBLK(type);
}

/* Checks an item of a directory's tree; *ret_dirent and its name may be read then. */
static int item_check(const struct pml_fs *fs, const struct pml_btree_item *item,
		      const struct pml_media_dirent **ret_dirent)
{
	uint64_t object = item->word[0];
	if (item->key < PML_NAME_COLLISIONS || item->key > INT64_MAX)
		return pml_corrupt(fs, "key of a directory entry", item->key);
	int err =
		pml_pool_check_object(fs, object, PML_TYPE_DIRENT, sizeof(struct pml_media_dirent));
	if (err)
		return err;
	const struct pml_media_dirent *dirent = pml_at(fs, object);
	if (dirent->name_bytes == 0 || dirent->name_bytes > PML_NAME_BYTES_MAX)
		return pml_corrupt(fs, "length of a name", object);
	err = pml_pool_check_object(fs, object, PML_TYPE_DIRENT,
				    sizeof(*dirent) + dirent->name_bytes);
	if (err)
		return err;
	if (dirent->ino == 0 || dirent->ino > PML_INO_MAX || dirent->ino != item->word[1])
		return pml_corrupt(fs, "inode number of a directory entry", object);
	if (dirent->type != (dirent->type & S_IFMT) || !is_file_type(dirent->type))
		return pml_corrupt(fs, "type of a directory entry", object);
	*ret_dirent = dirent;
	return 0;
}

struct find {
	const struct pml_fs *fs;
	const char *name;
	size_t name_bytes;
	uint64_t end_key;
	struct pml_dir_entry *ret_entry;
};

/* Returns 1 when the name is found, -ENOENT behind the last key of its hash. */
static int find_visit(void *arg, const struct pml_btree_item *item)
{
	struct find *find = arg;
	if (item->key >= find->end_key)
		return -ENOENT;
	const struct pml_media_dirent *dirent;
	int err = item_check(find->fs, item, &dirent);
	if (err)
		return err;
	if (dirent->name_bytes != find->name_bytes ||
	    memcmp(dirent->name, find->name, find->name_bytes) != 0)
		return 0;
	*find->ret_entry = (struct pml_dir_entry){
		.key = item->key,
		.object = item->word[0],
		.ino = dirent->ino,
		.type = dirent->type,
	};
	return 1;
}

int pml_dir_find(const struct pml_fs *fs, const struct pml_media_inode *dir, const char *name,
		 size_t name_bytes, struct pml_dir_entry *ret_entry)
{
	uint64_t key = pml_name_first_key(fs, name, name_bytes);
	struct find find = {
		.fs = fs,
		.name = name,
		.name_bytes = name_bytes,
		.end_key = key + PML_NAME_COLLISIONS,
		.ret_entry = ret_entry,
	};
	int found = pml_btree_walk(fs, dir->tree, key, find_visit, &find);
	if (found == 0)
		return -ENOENT;
	return found < 0 ? found : 0;
}

/* Returns 1 at the first key that is not @arg, which it counts up. */
static int free_key_visit(void *arg, const struct pml_btree_item *item)
{
	uint64_t *key = arg;
	if (item->key != *key)
		return 1;
	++*key;
	return 0;
}

int pml_name_free_key(const struct pml_fs *fs, uint64_t tree, uint64_t first_key, uint64_t *ret_key)
{
	uint64_t key = first_key;
	int err = pml_btree_walk(fs, tree, first_key, free_key_visit, &key);
	if (err < 0)
		return err;
	if (key >= first_key + PML_NAME_COLLISIONS)
		return -ENOSPC;
	*ret_key = key;
	return 0;
}

int pml_dir_add(struct pml_fs *fs, struct pml_media_inode *dir, const char *name, size_t name_bytes,
		uint64_t ino, uint32_t type)
{
	struct pml_btree_item item = {.word = {0, ino}};
	int err = pml_name_free_key(fs, dir->tree, pml_name_first_key(fs, name, name_bytes),
				    &item.key);
	if (!err)
		err = pml_tx_alloc(sizeof(struct pml_media_dirent) + name_bytes, PML_TYPE_DIRENT,
				   &item.word[0]);
	if (err)
		return err;
	struct pml_media_dirent *dirent = pml_at(fs, item.word[0]);
	dirent->ino = ino;
	dirent->type = type & S_IFMT;
	dirent->name_bytes = (uint32_t)name_bytes;
	memcpy(dirent->name, name, name_bytes);
	err = pml_btree_insert(fs, &dir->tree, &item);
	return err ? err : PML_TX_SET(dir->nentries, dir->nentries + 1);
}

int pml_dir_remove(struct pml_fs *fs, struct pml_media_inode *dir,
		   const struct pml_dir_entry *entry)
{
	if (dir->nentries == 0)
		return pml_corrupt(fs, "number of entries of a directory", pml_offset_of(fs, dir));
	int err = pml_btree_remove(fs, &dir->tree, entry->key);
	if (!err)
		err = pml_tx_free(fs, entry->object, PML_TYPE_DIRENT);
	return err ? err : PML_TX_SET(dir->nentries, dir->nentries - 1);
}

int pml_dir_set(struct pml_fs *fs, struct pml_media_inode *dir, const struct pml_dir_entry *entry,
		uint64_t ino, uint32_t type)
{
	struct pml_btree_item item = {.key = entry->key, .word = {entry->object, ino}};
	struct pml_media_dirent *dirent = pml_at(fs, entry->object);
	int err = pml_btree_update(fs, &dir->tree, &item);
	if (!err)
		err = PML_TX_SET(dirent->ino, ino);
	return err ? err : PML_TX_SET(dirent->type, type & S_IFMT);
}

int pml_dir_first(const struct pml_fs *fs, const struct pml_media_inode *dir,
		  struct pml_dir_entry *ret_entry)
{
	struct pml_btree_item item;
	const struct pml_media_dirent *dirent;
	int err = pml_btree_ceil(fs, dir->tree, 0, &item);
	if (!err)
		err = item_check(fs, &item, &dirent);
	if (!err)
		*ret_entry = (struct pml_dir_entry){
			.key = item.key,
			.object = item.word[0],
			.ino = dirent->ino,
			.type = dirent->type,
		};
	return err;
}

/* Entries lie anywhere: so many are on their way from memory at a time. */
#define READ_AHEAD 16u

struct read {
	const struct pml_fs *fs;
	pml_dir_emit emit;
	void *arg;
	struct pml_btree_item ahead[READ_AHEAD]; /* a ring */
	size_t nseen;
};

/* Returns 1 when @emit has had enough. */
static int read_item(const struct read *read, const struct pml_btree_item *item)
{
	const struct pml_media_dirent *dirent;
	int err = item_check(read->fs, item, &dirent);
	if (err)
		return err;
	char name[PML_NAME_BYTES_MAX + 1];
	memcpy(name, dirent->name, dirent->name_bytes);
	name[dirent->name_bytes] = 0;
	const struct pml_dirent entry = {
		.name = name, .ino = dirent->ino, .type = dirent->type, .cookie = item->key};
	return read->emit(read->arg, &entry) ? 0 : 1;
}

static int read_visit(void *arg, const struct pml_btree_item *item)
{
	struct read *read = arg;
	struct pml_btree_item *slot = &read->ahead[read->nseen % READ_AHEAD];
	int stop = read->nseen >= READ_AHEAD ? read_item(read, slot) : 0;
	if (stop)
		return stop;
	*slot = *item;
	read->nseen++;
	if (pml_pool_has(read->fs, item->word[0], sizeof(struct pml_media_dirent)))
		__builtin_prefetch(pml_at(read->fs, item->word[0]));
	return 0;
}

static int read_entries(struct read *read, uint64_t tree, uint64_t from)
{
	int stop = pml_btree_walk(read->fs, tree, from, read_visit, read);
	size_t i = read->nseen - PML_MIN(read->nseen, (size_t)READ_AHEAD);
	for (; !stop && i < read->nseen; i++)
		stop = read_item(read, &read->ahead[i % READ_AHEAD]);
	return stop < 0 ? stop : 0;
}

static int read_locked(struct pml_inode *dir, uint64_t cookie, struct read *read)
{
	if (dir->media->nlink == 0)
		return -ENOENT;
	if (dir->media->parent == 0 || dir->media->parent > PML_INO_MAX)
		return pml_corrupt(dir->fs, "parent of a directory", dir->ino);
	const struct pml_dirent dot[] = {
		{.name = ".", .ino = dir->ino, .type = S_IFDIR, .cookie = COOKIE_DOT},
		{.name = "..",
		 .ino = dir->media->parent,
		 .type = S_IFDIR,
		 .cookie = COOKIE_DOT_DOT},
	};
	for (size_t i = 0; i < PML_ARRAY_LEN(dot); i++)
		if (cookie < dot[i].cookie && !read->emit(read->arg, &dot[i]))
			return 0;
	if (cookie >= INT64_MAX)
		return 0;
	uint64_t from = PML_MAX(cookie + 1, (uint64_t)PML_NAME_COLLISIONS);
	return read_entries(read, dir->media->tree, from);
}

int pml_dir_read(struct pml_inode *dir, uint64_t cookie, pml_dir_emit emit, void *arg)
{
	if (!pml_inode_is_dir(dir))
		return -ENOTDIR;
	struct read read = {.fs = dir->fs, .emit = emit, .arg = arg};
	(void)pthread_rwlock_rdlock(&dir->lock);
	int err = read_locked(dir, cookie, &read);
	(void)pthread_rwlock_unlock(&dir->lock);
	return err;
}
