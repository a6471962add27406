/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * reap.c -- freeing a directory tree that nobody can reach
 *
 * Entry by entry, the deepest first, each in a transaction; a directory's way up is its
 * ".." on the device, so this takes no memory, however deep and wide the tree is.  That
 * ".." must be where it was come from also keeps a damaged tree from leading in a circle.
 */
#include "reap.h"

#include "dir.h"
#include "itable.h"
#include "tx.h"

struct reap {
	struct pml_fs *fs;
	struct pml_inode *root; /* not published */
	struct pml_inode *dir;	/* being emptied; a reference unless it is the root */
};

static int remove_in_tx(struct pml_inode *dir, const struct pml_dir_entry *entry,
			struct pml_inode *child)
{
	uint32_t nlink = pml_inode_is_dir(child) ? 0 : child->media->nlink - 1;
	int err = pml_dir_remove(dir->fs, dir->media, entry);
	return err ? err : PML_TX_SET(child->media->nlink, nlink);
}

static int remove_entry(struct pml_inode *dir, const struct pml_dir_entry *entry,
			struct pml_inode *child)
{
	struct pml_tx tx;
	/* Who guesses a number may look at the inode. */
	(void)pthread_rwlock_wrlock(&dir->lock);
	(void)pthread_rwlock_wrlock(&child->lock);
	int err = pml_tx_begin(dir->fs, &tx);
	if (!err)
		err = pml_tx_end(&tx, remove_in_tx(dir, entry, child));
	(void)pthread_rwlock_unlock(&child->lock);
	(void)pthread_rwlock_unlock(&dir->lock);
	return err;
}

static void leave_dir(const struct reap *r)
{
	if (r->dir != r->root)
		pml_inode_put_in_change(r->dir);
}

/* Goes to where ".." leads. */
static int go_up(struct reap *r)
{
	struct pml_inode *parent = r->root;
	if (r->dir->media->parent != r->root->ino) {
		int err = pml_inode_get(r->fs, r->dir->media->parent, &parent);
		if (err)
			return err == -ENOENT
				       ? pml_corrupt(r->fs, "parent of a directory", r->dir->ino)
				       : err;
	}
	leave_dir(r);
	r->dir = parent;
	return 0;
}

/* Takes the first entry out, or goes down into it. */
static int reap_first(struct reap *r, const struct pml_dir_entry *entry)
{
	struct pml_inode *child;
	int err = pml_inode_get(r->fs, entry->ino, &child);
	if (err)
		return err == -ENOENT ? pml_corrupt(r->fs, "entry of a free inode", entry->ino)
				      : err;
	bool is_dir = pml_inode_is_dir(child);
	if (is_dir && child->media->parent != r->dir->ino)
		err = pml_corrupt(r->fs, "directory in two places", child->ino);
	if (!err && is_dir && child->media->tree) {
		leave_dir(r);
		r->dir = child;
		return 0;
	}
	if (!err)
		err = remove_entry(r->dir, entry, child);
	pml_inode_put_in_change(child);
	return err;
}

static int empty_tree(struct reap *r)
{
	for (;;) {
		struct pml_dir_entry entry;
		int err = pml_dir_first(r->fs, r->dir->media, &entry);
		if (err == -ENOENT && r->dir == r->root)
			return 0;
		if (err == -ENOENT)
			err = go_up(r);
		else if (!err)
			err = reap_first(r, &entry);
		if (err)
			return err;
	}
}

int pml_reap_tree(struct pml_fs *fs, uint64_t ino)
{
	struct reap r = {.fs = fs};
	int err = pml_inode_new(fs, ino, &r.root);
	if (err)
		return err;
	struct pml_media_inode *media = r.root->media;
	r.dir = r.root;
	err = empty_tree(&r);
	leave_dir(&r);
	pml_inode_abandon(r.root);
	return err ? err : pml_inode_destroy(fs, ino, media);
}
