/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * create.c -- new inodes, with a name or without
 *
 * The number is taken and the in-core inode made first, then one transaction gives
 * the inode its contents, its inherited ACLs and its name.
 *
 * Threads: any.
 */
#include "namei.h"

#include <stdio.h>
#include <string.h>

#include "itable.h"
#include "tx.h"
#include "xattr.h"

static int check_create_args(const struct pml_create_args *args)
{
	switch (args->mode & S_IFMT) {
	case S_IFREG:
	case S_IFDIR:
	case S_IFIFO:
	case S_IFSOCK:
	case S_IFCHR:
	case S_IFBLK:
		return 0;
	case S_IFLNK:
		if (!args->target || !args->target[0])
			return -EINVAL;
		return strnlen(args->target, PML_SYMLINK_MAX + 1) > PML_SYMLINK_MAX ? -ENAMETOOLONG
										    : 0;
	default:
		return -EINVAL;
	}
}

/* Mode and group as inode_init_owner() of Linux (fs/inode.c) gives them. */
static void inherit(const struct pml_media_inode *dir, const struct pml_create_args *args,
		    struct pml_media_inode *inode)
{
	inode->mode = args->mode & (S_IFMT | 07777);
	inode->gid = args->cred.gid;
	if (!(dir->mode & S_ISGID))
		return;
	inode->gid = dir->gid;
	if (S_ISDIR(args->mode))
		inode->mode |= S_ISGID;
	else if ((args->mode & S_ISGID) && (args->mode & S_IXGRP) && args->cred.uid != 0 &&
		 !pml_cred_has_group(&args->cred, dir->gid))
		inode->mode &= ~(uint32_t)S_ISGID;
}

static int target_in_tx(struct pml_fs *fs, const char *target, struct pml_media_inode *inode)
{
	size_t bytes = strlen(target);
	int err = pml_tx_alloc(bytes + 1, PML_TYPE_SYMLINK, &inode->symlink);
	if (err)
		return err;
	memcpy(pml_at(fs, inode->symlink), target, bytes + 1);
	inode->size_bytes = bytes;
	return 0;
}

/* What a new inode gets of its directory's default ACL. */
struct inheritance {
	struct pml_acl access;	 /* without entries: none, or the mode says it all */
	struct pml_acl default_; /* of a directory */
};

/* As posix_acl_create() of Linux; else the umask is what counts. */
static int inherit_acls(const struct pml_inode *dir, const struct pml_create_args *args,
			mode_t *mode, struct inheritance *ret_acls)
{
	ret_acls->access.nentries = ret_acls->default_.nentries = 0;
	if (S_ISLNK(*mode))
		return 0;
	int err =
		pml_xattr_acl(dir->fs, dir->media, XATTR_NAME_POSIX_ACL_DEFAULT, &ret_acls->access);
	if (err)
		return err;
	if (ret_acls->access.nentries == 0) {
		*mode &= ~(args->umask & 0777);
		return 0;
	}
	if (S_ISDIR(*mode))
		ret_acls->default_ = ret_acls->access;
	if (pml_acl_inherit(&ret_acls->access, mode))
		ret_acls->access.nentries = 0;
	return 0;
}

/* Of a fresh inode. */
static int put_acls_in_tx(struct pml_fs *fs, const struct inheritance *acls,
			  struct pml_media_inode *inode)
{
	int err = 0;
	if (acls->access.nentries)
		err = pml_xattr_put_acl(fs, inode, XATTR_NAME_POSIX_ACL_ACCESS, &acls->access,
					false);
	if (!err && acls->default_.nentries)
		err = pml_xattr_put_acl(fs, inode, XATTR_NAME_POSIX_ACL_DEFAULT, &acls->default_,
					false);
	return err;
}

/* All words of the device that are the inode's; a rollback leaves the slot free. */
static int put_inode_in_tx(struct pml_media_inode *media, const struct pml_media_inode *fresh)
{
	/* With mode 0 all else is meaningless, so a rollback needs no more than this word. */
	static_assert(offsetof(struct pml_media_inode, uid) == sizeof(uint64_t), "one word");
	int err = pml_tx_add(media, sizeof(uint64_t));
	if (!err)
		err = pml_tx_add_fresh(&media->uid, sizeof(*media) - sizeof(uint64_t));
	if (!err)
		*media = *fresh;
	return err;
}

int pml_namei_fill_in_tx(const struct pml_inode *dir, const struct pml_create_args *args,
			 struct pml_inode *inode)
{
	struct pml_media_inode *media = inode->media;
	uint64_t now = pml_time_now();
	struct pml_media_inode fresh = {
		.nlink = 1,
		.uid = args->cred.uid,
		.generation = media->generation + 1,
		.atime_ns = now,
		.mtime_ns = now,
		.ctime_ns = now,
		.btime_ns = now,
	};
	struct inheritance acls;
	inherit(dir->media, args, &fresh);
	int err = inherit_acls(dir, args, &fresh.mode, &acls);
	if (S_ISDIR(args->mode)) {
		fresh.nlink = 2;
		fresh.parent = dir->ino;
	}
	if (S_ISCHR(args->mode) || S_ISBLK(args->mode))
		fresh.rdev = args->rdev;
	if (!err && S_ISLNK(args->mode))
		err = target_in_tx(dir->fs, args->target, &fresh);
	if (!err)
		err = put_inode_in_tx(media, &fresh);
	return err ? err : put_acls_in_tx(dir->fs, &acls, media);
}

static int create_in_tx(struct pml_inode *dir, const struct pml_name *name,
			const struct pml_create_args *args, struct pml_inode *inode)
{
	int err = pml_namei_fill_in_tx(dir, args, inode);
	if (!err)
		err = pml_dir_add(dir->fs, dir->media, name->text, name->bytes, inode->ino,
				  args->mode);
	if (!err)
		err = pml_inode_touch(dir);
	if (!err && S_ISDIR(args->mode))
		err = pml_namei_add_links(dir, 1);
	return err;
}

/* Gives the new inode its contents and name.  Audit lock held. */
static int create_as(struct pml_inode *dir, const struct pml_name *name,
		     const struct pml_create_args *args, struct pml_inode *inode)
{
	(void)pthread_rwlock_wrlock(&dir->lock);
	int err = pml_namei_check_absent(dir, name);
	if (!err && S_ISDIR(args->mode) && dir->media->nlink >= PML_LINK_MAX)
		err = -EMLINK;
	struct pml_tx tx;
	if (!err)
		err = pml_tx_begin(dir->fs, &tx);
	if (!err)
		err = pml_tx_end(&tx, create_in_tx(dir, name, args, inode));
	/* Before the name can be looked up. */
	if (!err)
		pml_inode_publish(inode);
	(void)pthread_rwlock_unlock(&dir->lock);
	return err;
}

static int create_in_change(struct pml_inode *dir, const struct pml_name *name,
			    const struct pml_create_args *args, struct pml_inode **ret_inode)
{
	uint64_t ino;
	int err = pml_itable_take(dir->fs, &ino);
	if (err)
		return err;
	struct pml_inode *inode;
	err = pml_inode_new(dir->fs, ino, &inode);
	if (!err) {
		err = create_as(dir, name, args, inode);
		if (err)
			pml_inode_abandon(inode);
	}
	if (err)
		pml_itable_put(dir->fs, ino);
	else
		*ret_inode = inode;
	return err;
}

int pml_dir_create(struct pml_inode *dir, const char *name, const struct pml_create_args *args,
		   struct pml_inode **ret_inode)
{
	struct pml_name checked;
	int err = pml_namei_name(dir, name, &checked);
	if (!err)
		err = check_create_args(args);
	if (!err && dir->fs->is_read_only)
		err = -EROFS;
	if (err)
		return err;
	(void)pthread_rwlock_rdlock(&dir->fs->audit_lock);
	err = create_in_change(dir, &checked, args, ret_inode);
	(void)pthread_rwlock_unlock(&dir->fs->audit_lock);
	return err;
}

static int unnamed_in_tx(struct pml_inode *dir, const struct pml_create_args *args,
			 struct pml_inode *inode)
{
	int err = pml_namei_fill_in_tx(dir, args, inode);
	/* As what was deleted while it was open: the next mount would free it. */
	if (!err)
		inode->media->nlink = 0;
	return err;
}

/* Audit lock held. */
static int create_unnamed_in_change(struct pml_inode *dir, const struct pml_create_args *args,
				    struct pml_inode **ret_inode)
{
	uint64_t ino;
	int err = pml_itable_take(dir->fs, &ino);
	if (err)
		return err;
	struct pml_inode *inode;
	err = pml_inode_new(dir->fs, ino, &inode);
	if (err) {
		pml_itable_put(dir->fs, ino);
		return err;
	}
	(void)pthread_rwlock_rdlock(&dir->lock);
	struct pml_tx tx;
	err = dir->media->nlink ? pml_tx_begin(dir->fs, &tx) : -ENOENT;
	if (!err)
		err = pml_tx_end(&tx, unnamed_in_tx(dir, args, inode));
	(void)pthread_rwlock_unlock(&dir->lock);
	if (err) {
		pml_inode_abandon(inode);
		pml_itable_put(dir->fs, ino);
		return err;
	}
	inode->is_unnamed = true;
	pml_inode_publish(inode);
	*ret_inode = inode;
	return 0;
}

int pml_dir_create_unnamed(struct pml_inode *dir, const struct pml_create_args *args,
			   struct pml_inode **ret_inode)
{
	if (!pml_inode_is_dir(dir))
		return -ENOTDIR;
	if (!S_ISREG(args->mode))
		return -EINVAL;
	if (dir->fs->is_read_only)
		return -EROFS;
	(void)pthread_rwlock_rdlock(&dir->fs->audit_lock);
	int err = create_unnamed_in_change(dir, args, ret_inode);
	(void)pthread_rwlock_unlock(&dir->fs->audit_lock);
	return err;
}
