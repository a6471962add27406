/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * namei.c -- look-up, link, unlink, rmdir
 *
 * Each call: audit lock, inode locks, checks, one transaction, unlock.  What may
 * take long (freeing a deleted inode) comes last, without locks.  Directory locks:
 * docs/locking.md; a parent before its child, which cannot be moved meanwhile because
 * that takes the parent's lock.
 *
 * Threads: any.
 */
#include "namei.h"

#include "permit.h"
#include "pml/clock.h"
#include "tx.h"

/* ---- common parts ------------------------------------------------------- */

int pml_namei_name(const struct pml_inode *dir, const char *text, struct pml_name *ret_name)
{
	if (!pml_inode_is_dir(dir))
		return -ENOTDIR;
	ret_name->text = text;
	return pml_name_check(text, &ret_name->bytes);
}

int pml_namei_child(struct pml_inode *dir, const struct pml_name *name, struct pml_child *child)
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

void pml_namei_put(const struct pml_child *child)
{
	if (!child->inode)
		return;
	/* Only a committed change can be seen here; being told twice does no harm. */
	const struct pml_fs *fs = child->inode->fs;
	if (pml_inode_is_orphan(child->inode) && fs->guard_ops && fs->guard_ops->orphaned &&
	    fs->guard_ops->may_be_leased(fs->guard, child->inode->ino))
		fs->guard_ops->orphaned(fs->guard, child->inode->ino);
	pml_inode_put(child->inode, 1);
}

int pml_namei_check_absent(const struct pml_inode *dir, const struct pml_name *name)
{
	struct pml_dir_entry entry;
	if (dir->media->nlink == 0)
		return -ENOENT;
	int err = pml_dir_find(dir->fs, dir->media, name->text, name->bytes, &entry);
	if (err == 0)
		return -EEXIST;
	return err == -ENOENT ? 0 : err;
}

int pml_namei_check_removable(const struct pml_inode *child)
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

int pml_namei_set_ctime(struct pml_inode *inode)
{
	return PML_TX_SET(inode->media->ctime_ns, pml_time_now());
}

int pml_namei_add_links(struct pml_inode *dir, int delta)
{
	struct pml_media_inode *media = dir->media;
	if (delta == 0)
		return 0;
	if (delta < 0 && media->nlink < 3)
		return pml_corrupt(dir->fs, "link count of a directory", dir->ino);
	return PML_TX_SET(media->nlink, media->nlink + (uint32_t)delta);
}

int pml_namei_drop_link(struct pml_inode *inode)
{
	struct pml_media_inode *media = inode->media;
	int err = pml_namei_set_ctime(inode);
	if (err)
		return err;
	bool is_last = media->nlink == 1 || pml_inode_is_dir(inode);
	if (is_last)
		atomic_store(&inode->fs->orphan_ms, pml_now_ms());
	return PML_TX_SET(media->nlink, is_last ? 0 : media->nlink - 1);
}

int pml_dir_lookup(struct pml_inode *dir, const char *name, struct pml_inode **ret_inode)
{
	struct pml_name checked;
	int err = pml_namei_name(dir, name, &checked);
	if (err)
		return err;
	struct pml_child child = {0};
	(void)pthread_rwlock_rdlock(&dir->lock);
	err = pml_namei_child(dir, &checked, &child);
	(void)pthread_rwlock_unlock(&dir->lock);
	if (err)
		pml_namei_put(&child);
	else
		*ret_inode = child.inode;
	return err;
}
/* ---- a tree that was built out of sight (snapshot.c) ---------------------- */

static int adopt_in_tx(struct pml_inode *dir, const struct pml_name *name, struct pml_inode *tree,
		       uint32_t nsubdirs)
{
	int err = pml_dir_add(dir->fs, dir->media, name->text, name->bytes, tree->ino, S_IFDIR);
	if (!err)
		err = PML_TX_SET(tree->media->nlink, 2 + nsubdirs);
	if (!err)
		err = PML_TX_SET(tree->media->parent, dir->ino);
	if (!err)
		err = pml_inode_touch(dir);
	return err ? err : pml_namei_add_links(dir, 1);
}

int pml_dir_adopt(struct pml_inode *dir, const char *text, struct pml_inode *tree,
		  uint32_t nsubdirs)
{
	struct pml_name name;
	int err = pml_namei_name(dir, text, &name);
	if (err)
		return err;
	(void)pthread_rwlock_wrlock(&dir->lock);
	err = pml_namei_check_absent(dir, &name);
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

static int link_in_tx(struct pml_inode *dir, const struct pml_name *name, struct pml_inode *inode)
{
	int err = pml_dir_add(dir->fs, dir->media, name->text, name->bytes, inode->ino,
			      pml_inode_type(inode));
	if (!err)
		err = pml_inode_touch(dir);
	if (!err)
		err = pml_namei_set_ctime(inode);
	return err ? err : PML_TX_SET(inode->media->nlink, inode->media->nlink + 1);
}

static int link_locked(struct pml_inode *dir, const struct pml_name *name, struct pml_inode *inode)
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
	struct pml_name checked;
	int err = pml_namei_name(dir, name, &checked);
	if (err)
		return err;
	if (pml_inode_is_dir(inode))
		return -EPERM;
	err = pml_inode_begin_change(dir);
	if (err)
		return err;
	err = pml_namei_check_absent(dir, &checked);
	if (!err) {
		(void)pthread_rwlock_wrlock(&inode->lock);
		err = link_locked(dir, &checked, inode);
		(void)pthread_rwlock_unlock(&inode->lock);
	}
	pml_inode_end_change(dir);
	return err;
}

static int remove_in_tx(struct pml_inode *dir, const struct pml_child *child)
{
	int err = pml_dir_remove(dir->fs, dir->media, &child->entry);
	if (!err)
		err = pml_inode_touch(dir);
	if (!err)
		err = pml_namei_drop_link(child->inode);
	if (!err && pml_inode_is_dir(child->inode))
		err = pml_namei_add_links(dir, -1);
	return err;
}

/* A name that goes. */
struct removal {
	struct pml_inode *dir;
	struct pml_child child;
	bool wants_dir;
	const struct pml_cred *cred; /* NULL: the kernel has checked */
};

static int remove_locked(const struct removal *r)
{
	const struct pml_inode *inode = r->child.inode;
	int err = r->cred ? pml_permit_remove(r->dir, inode, r->cred) : 0;
	if (!err && pml_inode_is_dir(inode) != r->wants_dir)
		err = r->wants_dir ? -ENOTDIR : -EISDIR;
	if (!err)
		err = pml_namei_check_removable(inode);
	if (err)
		return err;
	struct pml_tx tx;
	err = pml_tx_begin(r->dir->fs, &tx);
	return err ? err : pml_tx_end(&tx, remove_in_tx(r->dir, &r->child));
}

static int remove_name(struct removal *r, const char *name, uint64_t *ret_ino)
{
	struct pml_name checked;
	int err = pml_namei_name(r->dir, name, &checked);
	if (!err)
		err = pml_inode_begin_change(r->dir);
	if (err)
		return err;
	err = pml_namei_child(r->dir, &checked, &r->child);
	if (!err) {
		(void)pthread_rwlock_wrlock(&r->child.inode->lock);
		err = remove_locked(r);
		(void)pthread_rwlock_unlock(&r->child.inode->lock);
	}
	if (!err)
		*ret_ino = r->child.inode->ino;
	pml_inode_end_change(r->dir);
	pml_namei_put(&r->child);
	return err;
}

int pml_dir_unlink(struct pml_inode *dir, const char *name)
{
	struct removal r = {.dir = dir};
	uint64_t ino;
	return remove_name(&r, name, &ino);
}

int pml_dir_rmdir(struct pml_inode *dir, const char *name)
{
	struct removal r = {.dir = dir, .wants_dir = true};
	uint64_t ino;
	return remove_name(&r, name, &ino);
}

int pml_dir_remove_as(struct pml_inode *dir, const char *name, bool is_dir,
		      const struct pml_cred *cred, uint64_t *ret_ino)
{
	struct removal r = {.dir = dir, .wants_dir = is_dir, .cred = cred};
	return remove_name(&r, name, ret_ino);
}
