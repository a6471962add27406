/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * xattr_names.c -- get, list, set and remove extended attributes; what a name means
 *
 * ACLs are the attributes that have a meaning here: they go with the mode.
 *
 * Threads: any; docs/locking.md.
 */
#include <string.h>

#include "xattr.h"

enum space { SPACE_USER, SPACE_TRUSTED, SPACE_SECURITY, SPACE_ACCESS, SPACE_DEFAULT };

/* ---- names -------------------------------------------------------------- */

static const struct {
	const char *text;
	enum space space;
	bool is_whole; /* the name, not what it begins with */
} spaces[] = {
	{XATTR_USER_PREFIX, SPACE_USER, false},
	{XATTR_TRUSTED_PREFIX, SPACE_TRUSTED, false},
	{XATTR_SECURITY_PREFIX, SPACE_SECURITY, false},
	{XATTR_NAME_POSIX_ACL_ACCESS, SPACE_ACCESS, true},
	{XATTR_NAME_POSIX_ACL_DEFAULT, SPACE_DEFAULT, true},
};

static int space_of(const char *name, enum space *ret_space)
{
	size_t name_bytes = strnlen(name, PML_XATTR_NAME_BYTES_MAX + 1);
	if (name_bytes > PML_XATTR_NAME_BYTES_MAX)
		return -ERANGE;
	for (size_t i = 0; i < PML_ARRAY_LEN(spaces); i++) {
		size_t bytes = strlen(spaces[i].text);
		if (strncmp(name, spaces[i].text, bytes) != 0)
			continue;
		if (!spaces[i].is_whole && name_bytes == bytes)
			return -EINVAL;
		if (spaces[i].is_whole && name_bytes != bytes)
			continue;
		*ret_space = spaces[i].space;
		return 0;
	}
	return -EOPNOTSUPP;
}

static bool is_acl(enum space space)
{
	return space == SPACE_ACCESS || space == SPACE_DEFAULT;
}

/* Which kinds of inodes have which attributes. */
static int check_type(const struct pml_inode *inode, enum space space)
{
	if (space == SPACE_USER && !pml_inode_is_file(inode) && !pml_inode_is_dir(inode))
		return -EPERM;
	if (is_acl(space) && pml_inode_type(inode) == S_IFLNK)
		return -EOPNOTSUPP;
	return 0;
}

/* ---- get, list ---------------------------------------------------------- */

static int get_locked(const struct pml_inode *inode, const char *name, void *value,
		      size_t max_bytes, size_t *ret_bytes)
{
	struct pml_xattr xattr;
	int err = pml_xattr_find(inode->fs, inode->media, name, &xattr);
	if (err)
		return err;
	*ret_bytes = xattr.value_bytes;
	if (max_bytes == 0)
		return 0;
	if (xattr.value_bytes > max_bytes)
		return -ERANGE;
	memcpy(value, xattr.value, xattr.value_bytes);
	return 0;
}

int pml_xattr_get(struct pml_inode *inode, const char *name, void *value, size_t max_bytes,
		  size_t *ret_bytes)
{
	enum space space;
	int err = space_of(name, &space);
	if (!err)
		err = check_type(inode, space);
	if (err)
		return err == -EPERM ? -ENODATA : err;
	(void)pthread_rwlock_rdlock(&inode->lock);
	err = get_locked(inode, name, value, max_bytes, ret_bytes);
	(void)pthread_rwlock_unlock(&inode->lock);
	return err;
}

struct list {
	const struct pml_fs *fs;
	bool shows_trusted;
	char *names;
	size_t max_bytes;
	size_t used;
};

static int list_visit(void *arg, const struct pml_btree_item *item)
{
	struct list *list = arg;
	struct pml_xattr xattr;
	int err = pml_xattr_of_item(list->fs, item, &xattr);
	if (err)
		return err;
	size_t hidden = strlen(XATTR_TRUSTED_PREFIX);
	if (!list->shows_trusted && xattr.name_bytes > hidden &&
	    memcmp(xattr.name, XATTR_TRUSTED_PREFIX, hidden) == 0)
		return 0;
	size_t end = list->used + xattr.name_bytes + 1;
	if (end > PML_XATTR_LIST_BYTES_MAX)
		return -E2BIG;
	if (end <= list->max_bytes) {
		memcpy(list->names + list->used, xattr.name, xattr.name_bytes);
		list->names[end - 1] = 0;
	}
	list->used = end;
	return 0;
}

int pml_xattr_list(struct pml_inode *inode, const struct pml_cred *cred, char *names,
		   size_t max_bytes, size_t *ret_bytes)
{
	struct list list = {
		.fs = inode->fs,
		.shows_trusted = cred->uid == 0,
		.names = names,
		.max_bytes = max_bytes,
	};
	(void)pthread_rwlock_rdlock(&inode->lock);
	int err = pml_btree_walk(inode->fs, inode->media->xattr, 0, list_visit, &list);
	(void)pthread_rwlock_unlock(&inode->lock);
	if (err)
		return err;
	*ret_bytes = list.used;
	return max_bytes > 0 && list.used > max_bytes ? -ERANGE : 0;
}

/* ---- set, remove -------------------------------------------------------- */

/* What is to be set; a value of 0 bytes is one. */
struct change {
	struct pml_inode *inode;
	const struct pml_cred *cred;
	const char *name;
	enum space space;
	const void *value;
	size_t bytes;
	struct pml_acl acl; /* of an ACL, instead of a value */
	bool is_removal;
};

static int set_ctime(struct pml_media_inode *media)
{
	return PML_TX_SET(media->ctime_ns, pml_time_now());
}

/* As posix_acl_update_mode() of Linux. */
static int set_access_acl(const struct change *c)
{
	struct pml_media_inode *media = c->inode->media;
	mode_t mode = media->mode;
	bool is_needless = pml_acl_to_mode(&c->acl, &mode);
	if (c->cred->uid != 0 && !pml_cred_has_group(c->cred, media->gid))
		mode &= ~(mode_t)S_ISGID;
	int err = PML_TX_SET(media->mode, mode);
	return err ? err : pml_xattr_put_acl(c->inode->fs, media, c->name, &c->acl, is_needless);
}

static int change_in_tx(const struct change *c)
{
	struct pml_fs *fs = c->inode->fs;
	struct pml_media_inode *media = c->inode->media;
	int err;
	if (c->is_removal)
		err = pml_xattr_drop(fs, media, c->name);
	else if (c->space == SPACE_ACCESS)
		err = set_access_acl(c);
	else if (c->space == SPACE_DEFAULT)
		err = pml_xattr_put_acl(fs, media, c->name, &c->acl, false);
	else
		err = pml_xattr_put(fs, media, c->name, c->value, c->bytes);
	return err ? err : set_ctime(media);
}

static int set_locked(const struct change *c, int flags)
{
	if (!is_acl(c->space) && flags) {
		struct pml_xattr old;
		int err = pml_xattr_find(c->inode->fs, c->inode->media, c->name, &old);
		if (err && err != -ENODATA)
			return err;
		if (!err && (flags & XATTR_CREATE))
			return -EEXIST;
		if (err && (flags & XATTR_REPLACE))
			return err;
	}
	struct pml_xattr_tx tx;
	int err = pml_xattr_tx_begin(c->inode->fs, &tx);
	return err ? err : pml_xattr_tx_end(&tx, change_in_tx(c));
}

static int remove_locked(const struct change *c)
{
	struct pml_xattr old;
	int err = pml_xattr_find(c->inode->fs, c->inode->media, c->name, &old);
	if (err)
		return err == -ENODATA && is_acl(c->space) ? 0 : err;
	struct pml_tx tx;
	err = pml_tx_begin(c->inode->fs, &tx);
	return err ? err : pml_tx_end(&tx, change_in_tx(c));
}

/* What can be said of an ACL to be set without its inode's lock. */
static int take_acl(struct change *c)
{
	int err = pml_acl_from(c->value, c->bytes, &c->acl);
	if (err)
		return err;
	c->is_removal = c->acl.nentries == 0;
	if (c->space == SPACE_DEFAULT && !c->is_removal && !pml_inode_is_dir(c->inode))
		return -EACCES;
	return 0;
}

int pml_xattr_set(struct pml_inode *inode, const struct pml_cred *cred, const char *name,
		  const void *value, size_t bytes, int flags)
{
	struct change c = {
		.inode = inode, .cred = cred, .name = name, .value = value, .bytes = bytes};
	if (flags & ~(XATTR_CREATE | XATTR_REPLACE))
		return -EINVAL;
	int err = space_of(name, &c.space);
	if (!err && bytes > PML_XATTR_VALUE_BYTES_MAX)
		err = -E2BIG;
	if (!err)
		err = check_type(inode, c.space);
	if (!err && is_acl(c.space))
		err = take_acl(&c);
	if (!err)
		err = pml_inode_begin_change(inode);
	if (err)
		return err;
	err = c.is_removal ? remove_locked(&c) : set_locked(&c, flags);
	pml_inode_end_change(inode);
	return err;
}

int pml_xattr_remove(struct pml_inode *inode, const char *name)
{
	struct change c = {.inode = inode, .name = name, .is_removal = true};
	int err = space_of(name, &c.space);
	if (!err)
		err = check_type(inode, c.space);
	if (!err)
		err = pml_inode_begin_change(inode);
	if (err)
		return err;
	err = remove_locked(&c);
	pml_inode_end_change(inode);
	return err;
}
