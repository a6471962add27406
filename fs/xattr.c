/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * xattr.c -- the extended attributes of one inode, as they lie on the device
 *
 * A tree as a directory's, keyed by the hash of the name, leads to one object for
 * each attribute.  A value of another length gets a new object, so what is fresh
 * needs no snapshot; one of the same length that is small is overwritten, so an
 * ACL can follow its mode on a full device.
 *
 * Threads: the inode's lock, see xattr.h.
 * Format:  docs/on-media-format.md, "Extended attributes".
 */
#include "xattr.h"

#include <string.h>

#include "dir.h"

/* A snapshot of this size fits in one log extension (tx.c). */
#define OVERWRITE_BYTES_MAX PML_ACL_BYTES_MAX
/* Attributes that one transaction removes of a deleted inode. */
#define DESTROY_BATCH 64u

static size_t object_bytes(size_t name_bytes, size_t value_bytes)
{
	return sizeof(struct pml_media_xattr) + name_bytes + value_bytes;
}

static uint64_t sizes_word(size_t name_bytes, size_t value_bytes)
{
	return (uint64_t)name_bytes << 32 | value_bytes;
}

/* ---- looking ------------------------------------------------------------ */

int pml_xattr_of_item(const struct pml_fs *fs, const struct pml_btree_item *item,
		      struct pml_xattr *ret_xattr)
{
	uint64_t object = item->word[0];
	if (item->key < PML_NAME_COLLISIONS || item->key > INT64_MAX)
		return pml_corrupt(fs, "key of an extended attribute", item->key);
	int err = pml_pool_check_object(fs, object, PML_TYPE_XATTR, sizeof(struct pml_media_xattr));
	if (err)
		return err;
	const struct pml_media_xattr *media = pml_at(fs, object);
	size_t name_bytes = media->name_bytes, value_bytes = media->value_bytes;
	if (name_bytes == 0 || name_bytes > PML_XATTR_NAME_BYTES_MAX ||
	    value_bytes > PML_XATTR_VALUE_BYTES_MAX ||
	    item->word[1] != sizes_word(name_bytes, value_bytes))
		return pml_corrupt(fs, "length of an extended attribute", object);
	err = pml_pool_check_object(fs, object, PML_TYPE_XATTR,
				    object_bytes(name_bytes, value_bytes));
	if (err)
		return err;
	if (memchr(media->name, 0, name_bytes))
		return pml_corrupt(fs, "name of an extended attribute", object);
	*ret_xattr = (struct pml_xattr){
		.key = item->key,
		.object = object,
		.name = media->name,
		.name_bytes = name_bytes,
		.value = media->name + name_bytes,
		.value_bytes = value_bytes,
	};
	return 0;
}

struct find {
	const struct pml_fs *fs;
	const char *name;
	size_t name_bytes;
	uint64_t end_key;
	struct pml_xattr *ret_xattr;
};

/* Returns 1 when the name is found, -ENODATA behind the last key of its hash. */
static int find_visit(void *arg, const struct pml_btree_item *item)
{
	const struct find *find = arg;
	if (item->key >= find->end_key)
		return -ENODATA;
	struct pml_xattr found;
	int err = pml_xattr_of_item(find->fs, item, &found);
	if (err)
		return err;
	if (found.name_bytes != find->name_bytes ||
	    memcmp(found.name, find->name, find->name_bytes) != 0)
		return 0;
	*find->ret_xattr = found;
	return 1;
}

int pml_xattr_find(const struct pml_fs *fs, const struct pml_media_inode *inode, const char *name,
		   struct pml_xattr *ret_xattr)
{
	if (!inode->xattr)
		return -ENODATA;
	size_t name_bytes = strlen(name);
	uint64_t key = pml_name_first_key(fs, name, name_bytes);
	struct find find = {
		.fs = fs,
		.name = name,
		.name_bytes = name_bytes,
		.end_key = key + PML_NAME_COLLISIONS,
		.ret_xattr = ret_xattr,
	};
	int found = pml_btree_walk(fs, inode->xattr, key, find_visit, &find);
	if (found == 0)
		return -ENODATA;
	return found < 0 ? found : 0;
}

/* ---- changing ----------------------------------------------------------- */

static int object_make(struct pml_fs *fs, const char *name, size_t name_bytes, const void *value,
		       size_t bytes, uint64_t *ret_offset)
{
	int err = pml_tx_alloc(object_bytes(name_bytes, bytes), PML_TYPE_XATTR, ret_offset);
	if (err)
		return err;
	struct pml_media_xattr *media = pml_at(fs, *ret_offset);
	media->name_bytes = (uint32_t)name_bytes;
	media->value_bytes = (uint32_t)bytes;
	memcpy(media->name, name, name_bytes);
	if (bytes > 0)
		memcpy(media->name + name_bytes, value, bytes);
	return 0;
}

static int add(struct pml_fs *fs, struct pml_media_inode *inode, const char *name,
	       const void *value, size_t bytes)
{
	size_t name_bytes = strlen(name);
	struct pml_btree_item item = {.word = {0, sizes_word(name_bytes, bytes)}};
	int err = pml_name_free_key(fs, inode->xattr, pml_name_first_key(fs, name, name_bytes),
				    &item.key);
	if (!err)
		err = object_make(fs, name, name_bytes, value, bytes, &item.word[0]);
	return err ? err : pml_btree_insert(fs, &inode->xattr, &item);
}

static int overwrite(struct pml_fs *fs, const struct pml_xattr *old, const void *value)
{
	if (old->value_bytes == 0)
		return 0;
	struct pml_media_xattr *media = pml_at(fs, old->object);
	char *to = media->name + old->name_bytes;
	int err = pml_tx_add(to, old->value_bytes);
	if (!err)
		memcpy(to, value, old->value_bytes);
	return err;
}

static int replace(struct pml_fs *fs, struct pml_media_inode *inode, const struct pml_xattr *old,
		   const void *value, size_t bytes)
{
	struct pml_btree_item item = {.key = old->key,
				      .word = {0, sizes_word(old->name_bytes, bytes)}};
	int err = object_make(fs, old->name, old->name_bytes, value, bytes, &item.word[0]);
	if (!err)
		err = pml_btree_update(fs, &inode->xattr, &item);
	return err ? err : pml_tx_free(fs, old->object, PML_TYPE_XATTR);
}

int pml_xattr_put(struct pml_fs *fs, struct pml_media_inode *inode, const char *name,
		  const void *value, size_t bytes)
{
	struct pml_xattr old;
	int err = pml_xattr_find(fs, inode, name, &old);
	if (err == -ENODATA)
		return add(fs, inode, name, value, bytes);
	if (err)
		return err;
	if (bytes == old.value_bytes && bytes <= OVERWRITE_BYTES_MAX)
		return overwrite(fs, &old, value);
	return replace(fs, inode, &old, value, bytes);
}

static int drop_found(struct pml_fs *fs, struct pml_media_inode *inode,
		      const struct pml_xattr *xattr)
{
	int err = pml_btree_remove(fs, &inode->xattr, xattr->key);
	return err ? err : pml_tx_free(fs, xattr->object, PML_TYPE_XATTR);
}

int pml_xattr_drop(struct pml_fs *fs, struct pml_media_inode *inode, const char *name)
{
	struct pml_xattr old;
	int err = pml_xattr_find(fs, inode, name, &old);
	return err ? err : drop_found(fs, inode, &old);
}

/* ---- the first attribute ------------------------------------------------ */

int pml_xattr_tx_begin(struct pml_fs *fs, struct pml_xattr_tx *ret_tx)
{
	ret_tx->is_first = !(atomic_load(&fs->noted_features) & PML_FEATURE_RO_XATTR);
	/* Transactions give no isolation: nobody may build on a bit that is rolled back. */
	if (ret_tx->is_first)
		(void)pthread_mutex_lock(&fs->feature_lock);
	int err = pml_tx_begin(fs, &ret_tx->tx);
	if (err && ret_tx->is_first)
		(void)pthread_mutex_unlock(&fs->feature_lock);
	if (err || !ret_tx->is_first)
		return err;
	uint32_t *features = &fs->super->feature_ro_compat;
	err = PML_TX_SET(*features, *features | PML_FEATURE_RO_XATTR);
	return err ? pml_xattr_tx_end(ret_tx, err) : 0;
}

int pml_xattr_tx_end(struct pml_xattr_tx *tx, int err)
{
	struct pml_fs *fs = tx->tx.fs;
	err = pml_tx_end(&tx->tx, err);
	if (tx->is_first) {
		if (!err)
			atomic_fetch_or(&fs->noted_features, PML_FEATURE_RO_XATTR);
		(void)pthread_mutex_unlock(&fs->feature_lock);
	}
	return err;
}

/* ---- a deleted inode ---------------------------------------------------- */

static int destroy_batch(struct pml_fs *fs, struct pml_media_inode *inode)
{
	int err = 0;
	for (unsigned int i = 0; !err && inode->xattr && i < DESTROY_BATCH; i++) {
		struct pml_btree_item item;
		struct pml_xattr xattr;
		err = pml_btree_ceil(fs, inode->xattr, 0, &item);
		if (!err)
			err = pml_xattr_of_item(fs, &item, &xattr);
		if (!err)
			err = drop_found(fs, inode, &xattr);
	}
	return err;
}

int pml_xattr_destroy(struct pml_fs *fs, struct pml_media_inode *inode)
{
	int err = 0;
	while (!err && inode->xattr) {
		struct pml_tx tx;
		err = pml_tx_begin(fs, &tx);
		if (!err)
			err = pml_tx_end(&tx, destroy_batch(fs, inode));
	}
	return err;
}

/* ---- ACLs --------------------------------------------------------------- */

int pml_xattr_acl(const struct pml_fs *fs, const struct pml_media_inode *inode, const char *name,
		  struct pml_acl *ret_acl)
{
	struct pml_xattr xattr;
	int err = pml_xattr_find(fs, inode, name, &xattr);
	ret_acl->nentries = 0;
	if (err)
		return err == -ENODATA ? 0 : err;
	err = pml_acl_from(xattr.value, xattr.value_bytes, ret_acl);
	if (err || ret_acl->nentries == 0)
		return pml_corrupt(fs, "access control list", xattr.object);
	return 0;
}

int pml_xattr_put_acl(struct pml_fs *fs, struct pml_media_inode *inode, const char *name,
		      const struct pml_acl *acl, bool is_needless)
{
	if (!is_needless)
		return pml_xattr_put(fs, inode, name, &acl->value, pml_acl_bytes(acl));
	int err = pml_xattr_drop(fs, inode, name);
	return err == -ENODATA ? 0 : err;
}
