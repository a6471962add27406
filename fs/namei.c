/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * namei.c -- create, link, unlink, rename
 *
 * Each call: audit lock, inode locks, checks, one transaction, unlock.  What may
 * take long (freeing a deleted inode) comes last, without locks.
 *
 * Directory locks (docs/locking.md): a parent before its child, which cannot be
 * moved meanwhile because that takes the parent's lock.  Only rename locks two
 * directories of which neither is the other's parent; fs.rename_lock makes it
 * the only one, keeps all ".." still, and so keeps ancestors ancestors.
 *
 * Threads: any.
 */
#include <stdio.h>
#include <string.h>

#include "pml/clock.h"
#include "dir.h"
#include "itable.h"
#include "tx.h"
#include "xattr.h"

struct name {
	const char *text;
	size_t bytes;
};

/* An entry and a reference to the inode that it names; inode NULL: nothing yet. */
struct child {
	struct pml_dir_entry entry;
	struct pml_inode *inode;
};

/* ---- common parts ------------------------------------------------------- */

/* Checks what needs no lock. */
static int name_of(const struct pml_inode *dir, const char *text, struct name *ret_name)
{
	if (!pml_inode_is_dir(dir))
		return -ENOTDIR;
	ret_name->text = text;
	return pml_name_check(text, &ret_name->bytes);
}

/*
 * Looks up @name in a locked directory.  The caller drops child->inode after its locks,
 * even on error.  -ENOENT: no such name, or @dir has been removed.
 */
static int child_get(struct pml_inode *dir, const struct name *name, struct child *child)
{
	struct pml_fs *fs = dir->fs;
	if (dir->media->nlink == 0)
		return -ENOENT;
	int err = pml_dir_find(fs, dir->media, name->text, name->bytes, &child->entry);
	if (err)
		return err;
	err = pml_inode_get(fs, child->entry.ino, &child->inode);
	if (err == -ENOENT)
		return pml_corrupt(fs, "entry of a free inode", child->entry.ino);
	if (err)
		return err;
	const struct pml_inode *inode = child->inode;
	if (child->entry.type != pml_inode_type(inode))
		return pml_corrupt(fs, "entry of another type than its inode", inode->ino);
	/* parent changes under the lock of the directory that it names. */
	if (pml_inode_is_dir(inode) && (inode == dir || inode->media->parent != dir->ino))
		return pml_corrupt(fs, "directory in two places", inode->ino);
	return 0;
}

static void child_put(const struct child *child)
{
	if (child->inode)
		pml_inode_put(child->inode, 1);
}

/* May @name be made in a locked directory? */
static int check_absent(const struct pml_inode *dir, const struct name *name)
{
	struct pml_dir_entry entry;
	if (dir->media->nlink == 0)
		return -ENOENT;
	int err = pml_dir_find(dir->fs, dir->media, name->text, name->bytes, &entry);
	if (err == 0)
		return -EEXIST;
	return err == -ENOENT ? 0 : err;
}

/* May the locked child lose a name? */
static int check_removable(const struct pml_inode *child)
{
	const struct pml_media_inode *media = child->media;
	if (media->nlink == 0)
		return pml_corrupt(child->fs, "entry of an inode without links", child->ino);
	if (!pml_inode_is_dir(child))
		return 0;
	if (media->nentries)
		return -ENOTEMPTY;
	if (media->tree)
		return pml_corrupt(child->fs, "number of entries of a directory", child->ino);
	return 0;
}

static int set_ctime(struct pml_inode *inode)
{
	return PML_TX_SET(inode->media->ctime_ns, pml_time_now());
}

/* A directory wins or loses subdirectories. */
static int add_links(struct pml_inode *dir, int delta)
{
	struct pml_media_inode *media = dir->media;
	if (delta == 0)
		return 0;
	if (delta < 0 && media->nlink < 3)
		return pml_corrupt(dir->fs, "link count of a directory", dir->ino);
	return PML_TX_SET(media->nlink, media->nlink + (uint32_t)delta);
}

/* The inode loses a name; a directory its only one. */
static int drop_link(struct pml_inode *inode)
{
	struct pml_media_inode *media = inode->media;
	int err = set_ctime(inode);
	if (err)
		return err;
	bool is_last = media->nlink == 1 || pml_inode_is_dir(inode);
	if (is_last)
		atomic_store(&inode->fs->orphan_ms, pml_now_ms());
	return PML_TX_SET(media->nlink, is_last ? 0 : media->nlink - 1);
}

int pml_dir_lookup(struct pml_inode *dir, const char *name, struct pml_inode **ret_inode)
{
	struct name checked;
	int err = name_of(dir, name, &checked);
	if (err)
		return err;
	struct child child = {0};
	(void)pthread_rwlock_rdlock(&dir->lock);
	err = child_get(dir, &checked, &child);
	(void)pthread_rwlock_unlock(&dir->lock);
	if (err)
		child_put(&child);
	else
		*ret_inode = child.inode;
	return err;
}

/* ---- create ------------------------------------------------------------- */

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

static int inode_fill_in_tx(const struct pml_inode *dir, const struct pml_create_args *args,
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

static int create_in_tx(struct pml_inode *dir, const struct name *name,
			const struct pml_create_args *args, struct pml_inode *inode)
{
	int err = inode_fill_in_tx(dir, args, inode);
	if (!err)
		err = pml_dir_add(dir->fs, dir->media, name->text, name->bytes, inode->ino,
				  args->mode);
	if (!err)
		err = pml_inode_touch(dir);
	if (!err && S_ISDIR(args->mode))
		err = add_links(dir, 1);
	return err;
}

/* Gives the new inode its contents and name.  Audit lock held. */
static int create_as(struct pml_inode *dir, const struct name *name,
		     const struct pml_create_args *args, struct pml_inode *inode)
{
	(void)pthread_rwlock_wrlock(&dir->lock);
	int err = check_absent(dir, name);
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

static int create_in_change(struct pml_inode *dir, const struct name *name,
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
	struct name checked;
	int err = name_of(dir, name, &checked);
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
	int err = inode_fill_in_tx(dir, args, inode);
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

/* ---- a tree that was built out of sight (snapshot.c) ---------------------- */

static int adopt_in_tx(struct pml_inode *dir, const struct name *name, struct pml_inode *tree,
		       uint32_t nsubdirs)
{
	int err = pml_dir_add(dir->fs, dir->media, name->text, name->bytes, tree->ino, S_IFDIR);
	if (!err)
		err = PML_TX_SET(tree->media->nlink, 2 + nsubdirs);
	if (!err)
		err = PML_TX_SET(tree->media->parent, dir->ino);
	if (!err)
		err = pml_inode_touch(dir);
	return err ? err : add_links(dir, 1);
}

int pml_dir_adopt(struct pml_inode *dir, const char *text, struct pml_inode *tree,
		  uint32_t nsubdirs)
{
	struct name name;
	int err = name_of(dir, text, &name);
	if (err)
		return err;
	(void)pthread_rwlock_wrlock(&dir->lock);
	err = check_absent(dir, &name);
	if (!err && dir->media->nlink >= PML_LINK_MAX)
		err = -EMLINK;
	struct pml_tx tx;
	if (!err)
		err = pml_tx_begin(dir->fs, &tx);
	if (!err)
		err = pml_tx_end(&tx, adopt_in_tx(dir, &name, tree, nsubdirs));
	if (!err)
		pml_inode_publish(tree);
	(void)pthread_rwlock_unlock(&dir->lock);
	return err;
}

/* ---- link, unlink, rmdir ------------------------------------------------ */

static int link_in_tx(struct pml_inode *dir, const struct name *name, struct pml_inode *inode)
{
	int err = pml_dir_add(dir->fs, dir->media, name->text, name->bytes, inode->ino,
			      pml_inode_type(inode));
	if (!err)
		err = pml_inode_touch(dir);
	if (!err)
		err = set_ctime(inode);
	return err ? err : PML_TX_SET(inode->media->nlink, inode->media->nlink + 1);
}

static int link_locked(struct pml_inode *dir, const struct name *name, struct pml_inode *inode)
{
	/* Deleted: nothing may bring it back, its number is as good as free. */
	if (inode->media->nlink == 0 && !inode->is_unnamed)
		return -ENOENT;
	if (inode->media->nlink >= PML_LINK_MAX)
		return -EMLINK;
	struct pml_tx tx;
	int err = pml_tx_begin(dir->fs, &tx);
	if (!err)
		err = pml_tx_end(&tx, link_in_tx(dir, name, inode));
	if (!err)
		inode->is_unnamed = false;
	return err;
}

int pml_dir_link(struct pml_inode *dir, const char *name, struct pml_inode *inode)
{
	struct name checked;
	int err = name_of(dir, name, &checked);
	if (err)
		return err;
	if (pml_inode_is_dir(inode))
		return -EPERM;
	err = pml_inode_begin_change(dir);
	if (err)
		return err;
	err = check_absent(dir, &checked);
	if (!err) {
		(void)pthread_rwlock_wrlock(&inode->lock);
		err = link_locked(dir, &checked, inode);
		(void)pthread_rwlock_unlock(&inode->lock);
	}
	pml_inode_end_change(dir);
	return err;
}

static int remove_in_tx(struct pml_inode *dir, const struct child *child)
{
	int err = pml_dir_remove(dir->fs, dir->media, &child->entry);
	if (!err)
		err = pml_inode_touch(dir);
	if (!err)
		err = drop_link(child->inode);
	if (!err && pml_inode_is_dir(child->inode))
		err = add_links(dir, -1);
	return err;
}

static int remove_locked(struct pml_inode *dir, const struct child *child)
{
	int err = check_removable(child->inode);
	if (err)
		return err;
	struct pml_tx tx;
	err = pml_tx_begin(dir->fs, &tx);
	return err ? err : pml_tx_end(&tx, remove_in_tx(dir, child));
}

static int remove_name(struct pml_inode *dir, const char *name, bool wants_dir)
{
	struct name checked;
	int err = name_of(dir, name, &checked);
	if (!err)
		err = pml_inode_begin_change(dir);
	if (err)
		return err;
	struct child child = {0};
	err = child_get(dir, &checked, &child);
	if (!err && pml_inode_is_dir(child.inode) != wants_dir)
		err = wants_dir ? -ENOTDIR : -EISDIR;
	if (!err) {
		(void)pthread_rwlock_wrlock(&child.inode->lock);
		err = remove_locked(dir, &child);
		(void)pthread_rwlock_unlock(&child.inode->lock);
	}
	pml_inode_end_change(dir);
	child_put(&child);
	return err;
}

int pml_dir_unlink(struct pml_inode *dir, const char *name)
{
	return remove_name(dir, name, false);
}

int pml_dir_rmdir(struct pml_inode *dir, const char *name)
{
	return remove_name(dir, name, true);
}

/* ---- rename ------------------------------------------------------------- */

struct rename {
	struct pml_fs *fs;
	struct pml_inode *from;
	struct pml_inode *to;
	struct name name;
	struct name new_name;
	bool is_exchange;
	bool is_noreplace;
	/* The child of one directory that is the other or an ancestor of it; 0: none. */
	uint64_t from_child;
	uint64_t to_child;
	struct child moved;
	struct child replaced; /* without inode: the new name is not there yet */
	/* What takes the old name; NULL: nothing. */
	const struct pml_create_args *whiteout_args;
	struct pml_inode *whiteout;
	bool has_whiteout; /* it has got the name */
};

/* -ENOENT: @dir has been removed.  The audit lock held. */
static int parent_get(struct pml_inode *dir, struct pml_inode **ret_parent)
{
	struct pml_inode *parent = NULL;
	(void)pthread_rwlock_rdlock(&dir->lock);
	/* With its lock held a directory that has a name keeps its parent alive. */
	int err = -ENOENT;
	if (dir->media->nlink) {
		err = pml_inode_get(dir->fs, dir->media->parent, &parent);
		if (err == -ENOENT)
			err = pml_corrupt(dir->fs, "parent of a directory", dir->ino);
	}
	(void)pthread_rwlock_unlock(&dir->lock);
	if (!err && !pml_inode_is_dir(parent)) {
		pml_inode_put_in_change(parent);
		err = pml_corrupt(dir->fs, "parent of a directory", dir->ino);
	}
	if (!err)
		*ret_parent = parent;
	return err;
}

/* The child of directory @ancestor on the way up from @start; 0: @ancestor is none. */
static int find_child_above(struct pml_inode *start, uint64_t ancestor, uint64_t *ret_child)
{
	uint64_t steps = pml_itable_used(start->fs);
	uint64_t child = 0;
	int err = 0;
	struct pml_inode *dir = start;
	pml_inode_ref(dir);
	while (!err && !child && dir->ino != PML_ROOT_INO) {
		struct pml_inode *parent = NULL;
		if (steps-- == 0)
			err = pml_corrupt(start->fs, "directories form a loop", start->ino);
		else
			err = parent_get(dir, &parent);
		if (err)
			break;
		if (parent->ino == ancestor)
			child = dir->ino;
		pml_inode_put_in_change(dir);
		dir = parent;
	}
	pml_inode_put_in_change(dir);
	if (!err)
		*ret_child = child;
	return err;
}

static int find_ancestry(struct rename *r)
{
	if (r->from == r->to)
		return 0;
	int err = find_child_above(r->to, r->from->ino, &r->from_child);
	if (!err && !r->from_child)
		err = find_child_above(r->from, r->to->ino, &r->to_child);
	return err;
}

/* The ancestor first, else by number. */
static void lock_parents(const struct rename *r)
{
	bool to_first = r->to_child || (!r->from_child && r->to->ino < r->from->ino);
	(void)pthread_rwlock_wrlock(to_first ? &r->to->lock : &r->from->lock);
	if (r->from != r->to)
		(void)pthread_rwlock_wrlock(to_first ? &r->from->lock : &r->to->lock);
}

static void unlock_parents(const struct rename *r)
{
	(void)pthread_rwlock_unlock(&r->from->lock);
	if (r->from != r->to)
		(void)pthread_rwlock_unlock(&r->to->lock);
}

/* Directories first, then by number.  Neither is a parent of this rename, nor above one. */
static void lock_children(const struct rename *r)
{
	struct pml_inode *first = r->moved.inode, *second = r->replaced.inode;
	if (second) {
		bool first_is_dir = pml_inode_is_dir(first);
		if (first_is_dir == pml_inode_is_dir(second) ? second->ino < first->ino
							     : !first_is_dir) {
			first = r->replaced.inode;
			second = r->moved.inode;
		}
	}
	(void)pthread_rwlock_wrlock(&first->lock);
	if (second)
		(void)pthread_rwlock_wrlock(&second->lock);
}

static void unlock_children(const struct rename *r)
{
	(void)pthread_rwlock_unlock(&r->moved.inode->lock);
	if (r->replaced.inode)
		(void)pthread_rwlock_unlock(&r->replaced.inode->lock);
}

/* What can be said with the parents locked. */
static int check_names(const struct rename *r)
{
	const struct pml_inode *moved = r->moved.inode, *replaced = r->replaced.inode;
	if (moved->ino == r->from_child)
		return -EINVAL;
	if (!replaced)
		return r->is_exchange ? -ENOENT : 0;
	if (r->is_noreplace)
		return -EEXIST;
	if (replaced->ino == r->to_child)
		return r->is_exchange ? -EINVAL : -ENOTEMPTY;
	if (r->is_exchange || pml_inode_is_dir(moved) == pml_inode_is_dir(replaced))
		return 0;
	return pml_inode_is_dir(moved) ? -ENOTDIR : -EISDIR;
}

/* How the parents' link counts change, by ".." entries that come and go. */
static void count_links(const struct rename *r, int *ret_from, int *ret_to)
{
	bool moved_is_dir = pml_inode_is_dir(r->moved.inode);
	bool replaced_is_dir = r->replaced.inode && pml_inode_is_dir(r->replaced.inode);
	bool crosses = r->from != r->to;
	*ret_to = (moved_is_dir && crosses) - (replaced_is_dir && (crosses || !r->is_exchange));
	*ret_from = (replaced_is_dir && r->is_exchange && crosses) - (moved_is_dir && crosses);
}

/* What can be said with the children locked too. */
static int check_children(const struct rename *r)
{
	if (r->moved.inode->media->nlink == 0)
		return pml_corrupt(r->fs, "entry of an inode without links", r->moved.inode->ino);
	if (r->replaced.inode && !r->is_exchange) {
		int err = check_removable(r->replaced.inode);
		if (err)
			return err;
	}
	int from_links, to_links;
	count_links(r, &from_links, &to_links);
	if ((from_links > 0 && r->from->media->nlink >= PML_LINK_MAX) ||
	    (to_links > 0 && r->to->media->nlink >= PML_LINK_MAX))
		return -EMLINK;
	return 0;
}

/* The inode lies in @dir now. */
static int move_to(struct pml_inode *inode, const struct pml_inode *dir)
{
	int err = set_ctime(inode);
	if (!err && pml_inode_is_dir(inode) && inode->media->parent != dir->ino)
		err = PML_TX_SET(inode->media->parent, dir->ino);
	return err;
}

static int exchange_in_tx(const struct rename *r)
{
	const struct pml_dir_entry *moved = &r->moved.entry, *replaced = &r->replaced.entry;
	int err = pml_dir_set(r->fs, r->from->media, moved, replaced->ino, replaced->type);
	if (!err)
		err = pml_dir_set(r->fs, r->to->media, replaced, moved->ino, moved->type);
	return err ? err : move_to(r->replaced.inode, r->from);
}

static int replace_in_tx(const struct rename *r)
{
	const struct pml_dir_entry *moved = &r->moved.entry;
	int err;
	if (r->replaced.inode) {
		err = pml_dir_set(r->fs, r->to->media, &r->replaced.entry, moved->ino, moved->type);
		if (!err)
			err = drop_link(r->replaced.inode);
	} else {
		err = pml_dir_add(r->fs, r->to->media, r->new_name.text, r->new_name.bytes,
				  moved->ino, moved->type);
	}
	if (err || !r->whiteout)
		return err ? err : pml_dir_remove(r->fs, r->from->media, moved);
	err = inode_fill_in_tx(r->from, r->whiteout_args, r->whiteout);
	return err ? err
		   : pml_dir_set(r->fs, r->from->media, moved, r->whiteout->ino,
				 r->whiteout_args->mode);
}

static int rename_in_tx(const struct rename *r)
{
	int from_links, to_links;
	count_links(r, &from_links, &to_links);
	int err = r->is_exchange ? exchange_in_tx(r) : replace_in_tx(r);
	if (!err)
		err = move_to(r->moved.inode, r->to);
	if (!err)
		err = add_links(r->from, from_links);
	if (!err)
		err = add_links(r->to, to_links);
	if (!err)
		err = pml_inode_touch(r->from);
	if (!err && r->from != r->to)
		err = pml_inode_touch(r->to);
	return err;
}

/* With the parents locked. */
static int rename_locked(struct rename *r)
{
	int err = child_get(r->from, &r->name, &r->moved);
	if (!err && r->to->media->nlink == 0)
		err = -ENOENT;
	if (err)
		return err;
	err = child_get(r->to, &r->new_name, &r->replaced);
	if (err && err != -ENOENT)
		return err;
	err = check_names(r);
	/* Two names of one inode: rename(2) does nothing. */
	if (err || r->moved.inode == r->replaced.inode)
		return err;

	lock_children(r);
	err = check_children(r);
	struct pml_tx tx;
	if (!err)
		err = pml_tx_begin(r->fs, &tx);
	if (!err)
		err = pml_tx_end(&tx, rename_in_tx(r));
	unlock_children(r);
	if (!err && r->whiteout) {
		pml_inode_publish(r->whiteout);
		r->has_whiteout = true;
	}
	return err;
}

/* Audit lock held. */
static int rename_in_change(struct rename *r)
{
	(void)pthread_mutex_lock(&r->fs->rename_lock);
	int err = find_ancestry(r);
	if (!err) {
		lock_parents(r);
		err = rename_locked(r);
		unlock_parents(r);
	}
	(void)pthread_mutex_unlock(&r->fs->rename_lock);
	return err;
}

static int rename_leaving_whiteout(struct rename *r)
{
	uint64_t ino;
	int err = pml_itable_take(r->fs, &ino);
	if (err)
		return err;
	err = pml_inode_new(r->fs, ino, &r->whiteout);
	if (!err) {
		err = rename_in_change(r);
		if (r->has_whiteout)
			pml_inode_put_in_change(r->whiteout);
		else
			pml_inode_abandon(r->whiteout);
	}
	if (!r->has_whiteout)
		pml_itable_put(r->fs, ino);
	return err;
}

static int rename_names(struct rename *r, const char *name, const char *new_name)
{
	int err = name_of(r->from, name, &r->name);
	if (!err)
		err = name_of(r->to, new_name, &r->new_name);
	if (!err && r->fs->is_read_only)
		err = -EROFS;
	if (err)
		return err;

	(void)pthread_rwlock_rdlock(&r->fs->audit_lock);
	err = r->whiteout_args ? rename_leaving_whiteout(r) : rename_in_change(r);
	(void)pthread_rwlock_unlock(&r->fs->audit_lock);
	child_put(&r->moved);
	child_put(&r->replaced);
	return err;
}

int pml_dir_rename(struct pml_inode *from, const char *name, struct pml_inode *to,
		   const char *new_name, unsigned int flags)
{
	struct rename r = {
		.fs = from->fs,
		.from = from,
		.to = to,
		.is_exchange = flags == RENAME_EXCHANGE,
		.is_noreplace = flags == RENAME_NOREPLACE,
	};
	if (flags && !r.is_exchange && !r.is_noreplace)
		return -EINVAL;
	return rename_names(&r, name, new_name);
}

int pml_dir_rename_whiteout(struct pml_inode *from, const char *name, struct pml_inode *to,
			    const char *new_name, unsigned int flags, const struct pml_cred *cred)
{
	const struct pml_create_args args = {.mode = S_IFCHR, .cred = *cred};
	struct rename r = {
		.fs = from->fs,
		.from = from,
		.to = to,
		.is_noreplace = flags == RENAME_NOREPLACE,
		.whiteout_args = &args,
	};
	if (flags && !r.is_noreplace)
		return -EINVAL;
	return rename_names(&r, name, new_name);
}

int pml_dir_parent(struct pml_inode *dir, struct pml_inode **ret_parent)
{
	if (!pml_inode_is_dir(dir))
		return -ENOTDIR;
	(void)pthread_rwlock_rdlock(&dir->fs->audit_lock);
	int err = parent_get(dir, ret_parent);
	(void)pthread_rwlock_unlock(&dir->fs->audit_lock);
	return err;
}
