/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * rename.c -- moving, replacing and exchanging names
 *
 * Only rename locks two directories of which neither is the other's parent;
 * fs.rename_lock makes it the only one, keeps all ".." still, and so keeps
 * ancestors ancestors (docs/locking.md).
 *
 * Threads: any.
 */
#include "namei.h"

#include <stdio.h>

#include "itable.h"
#include "permit.h"
#include "tx.h"

struct rename {
	struct pml_fs *fs;
	struct pml_inode *from;
	struct pml_inode *to;
	struct pml_name name;
	struct pml_name new_name;
	bool is_exchange;
	bool is_noreplace;
	/* The child of one directory that is the other or an ancestor of it; 0: none. */
	uint64_t from_child;
	uint64_t to_child;
	struct pml_child moved;
	struct pml_child replaced; /* without inode: the new name is not there yet */
	/* What takes the old name; NULL: nothing. */
	const struct pml_create_args *whiteout_args;
	struct pml_inode *whiteout;
	bool has_whiteout;  /* it has got the name */
	uint64_t moved_ino; /* for who asks afterwards */
	uint64_t replaced_ino;
	const struct pml_cred *cred; /* NULL: the kernel has checked */
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

/* As vfs_rename() of Linux asks (fs/namei.c).  Parents and children locked. */
static int check_permission(const struct rename *r)
{
	const struct pml_inode *moved = r->moved.inode, *replaced = r->replaced.inode;
	int err = pml_permit_remove(r->from, moved, r->cred);
	if (!err)
		err = replaced ? pml_permit_remove(r->to, replaced, r->cred)
			       : pml_permit_change_dir(r->to, r->cred);
	/* Its ".." changes. */
	bool crosses = r->from != r->to;
	if (!err && crosses && pml_inode_is_dir(moved))
		err = pml_inode_access_locked(moved, r->cred, W_OK);
	if (!err && crosses && r->is_exchange && pml_inode_is_dir(replaced))
		err = pml_inode_access_locked(replaced, r->cred, W_OK);
	return err;
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
		int err = pml_namei_check_removable(r->replaced.inode);
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
	int err = pml_namei_set_ctime(inode);
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
			err = pml_namei_drop_link(r->replaced.inode);
	} else {
		err = pml_dir_add(r->fs, r->to->media, r->new_name.text, r->new_name.bytes,
				  moved->ino, moved->type);
	}
	if (err || !r->whiteout)
		return err ? err : pml_dir_remove(r->fs, r->from->media, moved);
	err = pml_namei_fill_in_tx(r->from, r->whiteout_args, r->whiteout);
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
		err = pml_namei_add_links(r->from, from_links);
	if (!err)
		err = pml_namei_add_links(r->to, to_links);
	if (!err)
		err = pml_inode_touch(r->from);
	if (!err && r->from != r->to)
		err = pml_inode_touch(r->to);
	return err;
}

/* With the parents locked. */
static int rename_locked(struct rename *r)
{
	int err = pml_namei_child(r->from, &r->name, &r->moved);
	if (!err && r->to->media->nlink == 0)
		err = -ENOENT;
	if (err)
		return err;
	err = pml_namei_child(r->to, &r->new_name, &r->replaced);
	if (err && err != -ENOENT)
		return err;
	err = check_names(r);
	/* Two names of one inode: rename(2) does nothing. */
	if (err || r->moved.inode == r->replaced.inode)
		return err;

	lock_children(r);
	err = r->cred ? check_permission(r) : 0;
	if (!err)
		err = check_children(r);
	struct pml_tx tx;
	if (!err)
		err = pml_tx_begin(r->fs, &tx);
	if (!err)
		err = pml_tx_end(&tx, rename_in_tx(r));
	unlock_children(r);
	if (!err) {
		r->moved_ino = r->moved.inode->ino;
		r->replaced_ino = r->replaced.inode ? r->replaced.inode->ino : 0;
	}
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
	int err = pml_namei_name(r->from, name, &r->name);
	if (!err)
		err = pml_namei_name(r->to, new_name, &r->new_name);
	if (!err && r->fs->is_read_only)
		err = -EROFS;
	if (err)
		return err;

	(void)pthread_rwlock_rdlock(&r->fs->audit_lock);
	err = r->whiteout_args ? rename_leaving_whiteout(r) : rename_in_change(r);
	(void)pthread_rwlock_unlock(&r->fs->audit_lock);
	pml_namei_put(&r->moved);
	pml_namei_put(&r->replaced);
	return err;
}

int pml_dir_rename(struct pml_inode *from, const char *name, struct pml_inode *to,
		   const char *new_name, unsigned int flags)
{
	struct pml_renamed done;
	return pml_dir_rename_as(from, name, to, new_name, flags, NULL, &done);
}

int pml_dir_rename_as(struct pml_inode *from, const char *name, struct pml_inode *to,
		      const char *new_name, unsigned int flags, const struct pml_cred *cred,
		      struct pml_renamed *ret_done)
{
	struct rename r = {
		.fs = from->fs,
		.from = from,
		.to = to,
		.is_exchange = flags == RENAME_EXCHANGE,
		.is_noreplace = flags == RENAME_NOREPLACE,
		.cred = cred,
	};
	if (flags && !r.is_exchange && !r.is_noreplace)
		return -EINVAL;
	int err = rename_names(&r, name, new_name);
	if (!err)
		*ret_done = (struct pml_renamed){r.moved_ino, r.replaced_ino};
	return err;
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
