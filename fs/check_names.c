/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * check_names.c -- what is reached from the root: parents, link counts, lost+found
 *
 * Every tree has been read by now: each slot knows which entries name its inode.
 */
#include "check.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "dir.h"
#include "itable.h"
#include "tx.h"

#define LOST_FOUND	"lost+found"
#define LOST_FOUND_MODE (S_IFDIR | 0700)
/* Tries for a name in it that is not taken. */
#define LOST_NAMES_MAX 100u

/* ---- names for messages ----------------------------------------------------- */

/* Puts "/name" in front of what is at *at of the text. */
static bool prepend(const struct pml_check *c, const struct pml_check_slot *slot, char *text,
		    size_t *at)
{
	const struct pml_media_dirent *dirent = pml_at(c->fs, slot->dirent);
	if (dirent->name_bytes + 1u > *at)
		return false;
	*at -= dirent->name_bytes + 1u;
	text[*at] = '/';
	for (uint32_t i = 0; i < dirent->name_bytes; i++) {
		char byte = dirent->name[i];
		text[*at + 1 + i] = (unsigned char)byte < ' ' || byte == 127 ? '?' : byte;
	}
	return true;
}

const char *pml_check_name(const struct pml_check *c, uint64_t ino, char *ret_text)
{
	char path[PML_CHECK_NAME_BYTES - 40];
	size_t at = sizeof(path) - 1;
	uint64_t up = ino;
	struct pml_check_slot *slot = NULL;
	path[at] = 0;
	while (up != PML_ROOT_INO && pml_check_inode_at(c, up, &slot) && slot->dirent) {
		if (!prepend(c, slot, path, &at)) {
			(void)snprintf(ret_text, PML_CHECK_NAME_BYTES, "inode %" PRIu64 " (...%s)",
				       ino, &path[at]);
			return ret_text;
		}
		up = slot->parent;
	}
	if (up != PML_ROOT_INO || at == sizeof(path) - 1)
		(void)snprintf(ret_text, PML_CHECK_NAME_BYTES, "inode %" PRIu64 "%s", ino,
			       ino == PML_ROOT_INO ? " (/)" : "");
	else
		(void)snprintf(ret_text, PML_CHECK_NAME_BYTES, "inode %" PRIu64 " (%s)", ino,
			       &path[at]);
	return ret_text;
}

/* ---- lost+found ------------------------------------------------------------- */

static int make_lost_found_in_tx(struct pml_check *c, uint64_t ino)
{
	struct pml_media_inode *root, *dir;
	int err = pml_itable_at(c->fs, PML_ROOT_INO, &root);
	if (!err)
		err = pml_itable_at(c->fs, ino, &dir);
	if (!err)
		err = pml_tx_add(dir, sizeof(*dir));
	if (err)
		return err;
	uint64_t now = pml_time_now();
	*dir = (struct pml_media_inode){
		.mode = LOST_FOUND_MODE,
		.nlink = 2,
		.generation = dir->generation + 1,
		.atime_ns = now,
		.mtime_ns = now,
		.ctime_ns = now,
		.btime_ns = now,
		.parent = PML_ROOT_INO,
	};
	err = pml_dir_add(c->fs, root, LOST_FOUND, strlen(LOST_FOUND), ino, S_IFDIR);
	return err ? err : PML_TX_SET(root->nlink, root->nlink + 1);
}

static int make_lost_found(struct pml_check *c, uint64_t *ret_ino)
{
	int err = pml_itable_take(c->fs, ret_ino);
	struct pml_tx tx;
	if (!err)
		err = pml_tx_begin(c->fs, &tx);
	return err ? err : pml_tx_end(&tx, make_lost_found_in_tx(c, *ret_ino));
}

/* -ENOTDIR: the name is taken by something else. */
static int find_lost_found(struct pml_check *c, uint64_t *ret_ino)
{
	int err = c->fs->itable ? 0 : pml_itable_open(c->fs);
	struct pml_media_inode *root;
	if (!err)
		err = pml_itable_at(c->fs, PML_ROOT_INO, &root);
	if (err)
		return err;
	struct pml_dir_entry entry;
	err = pml_dir_find(c->fs, root, LOST_FOUND, strlen(LOST_FOUND), &entry);
	if (err == -ENOENT)
		return make_lost_found(c, ret_ino);
	if (err)
		return err;
	*ret_ino = entry.ino;
	return S_ISDIR(entry.type) ? 0 : -ENOTDIR;
}

/* "#12", and if that is taken "#12.1". */
static int choose_name(struct pml_check *c, const struct pml_media_inode *dir, uint64_t ino,
		       char name[64])
{
	for (unsigned int i = 0; i < LOST_NAMES_MAX; i++) {
		struct pml_dir_entry entry;
		int n = i ? snprintf(name, 64, "#%" PRIu64 ".%u", ino, i)
			  : snprintf(name, 64, "#%" PRIu64, ino);
		int err = pml_dir_find(c->fs, dir, name, (size_t)n, &entry);
		if (err)
			return err == -ENOENT ? 0 : err;
	}
	return -EEXIST;
}

static int add_in_tx(struct pml_check *c, struct pml_media_inode *dir, uint64_t dir_ino,
		     const char *name, uint64_t ino, struct pml_media_inode *inode)
{
	int err = pml_dir_add(c->fs, dir, name, strlen(name), ino, inode->mode & S_IFMT);
	if (err || !S_ISDIR(inode->mode))
		return err ? err : PML_TX_SET(inode->nlink, 1u);
	err = PML_TX_SET(inode->parent, dir_ino);
	if (!err && inode->nlink == 0)
		err = PML_TX_SET(inode->nlink, 2u);
	return err ? err : PML_TX_SET(dir->nlink, dir->nlink + 1);
}

static int move_to_lost_found(struct pml_check *c, uint64_t ino, struct pml_media_inode *inode)
{
	uint64_t dir_ino = 0;
	char name[64];
	struct pml_media_inode *dir;
	int err = find_lost_found(c, &dir_ino);
	if (!err)
		err = pml_itable_at(c->fs, dir_ino, &dir);
	if (!err)
		err = choose_name(c, dir, ino, name);
	struct pml_tx tx;
	if (!err)
		err = pml_tx_begin(c->fs, &tx);
	if (err)
		return err;
	return pml_tx_end(&tx, add_in_tx(c, dir, dir_ino, name, ino, inode));
}

/* ---- directories ------------------------------------------------------------ */

/* Marks the way up from @ino; the slot where it ends. */
static uint64_t climb(struct pml_check *c, uint64_t ino)
{
	struct pml_check_slot *slot = NULL;
	uint64_t up = ino;
	while (pml_check_inode_at(c, up, &slot) && up != PML_ROOT_INO && slot->parent &&
	       !(slot->flags & (PML_SLOT_ON_PATH | PML_SLOT_REACHED))) {
		slot->flags |= PML_SLOT_ON_PATH;
		up = slot->parent;
	}
	return up;
}

/* A tree that is being made or freed hangs on a directory without links. */
static bool is_hidden_top(const struct pml_check *c, const struct pml_media_inode *inode,
			  const struct pml_check_slot *slot)
{
	return S_ISDIR(inode->mode) && inode->nlink == 0 && !slot->links &&
	       (c->fs->super->feature_ro_compat & PML_FEATURE_RO_HIDDEN);
}

/* Everything on the way is settled: below the root, or below what is said by itself. */
static void settle_path(struct pml_check *c, uint64_t ino, bool is_hidden)
{
	struct pml_check_slot *slot = NULL;
	while (pml_check_inode_at(c, ino, &slot) && (slot->flags & PML_SLOT_ON_PATH)) {
		slot->flags = (slot->flags & ~(uint32_t)PML_SLOT_ON_PATH) | PML_SLOT_REACHED |
			      (is_hidden ? PML_SLOT_HIDDEN : 0u);
		ino = slot->parent;
	}
}

/* Moves @ino, which hangs on nothing that hangs on the root. */
static int break_loop(struct pml_check *c, uint64_t ino, struct pml_media_inode *inode,
		      const struct pml_check_slot *slot)
{
	int err = pml_check_remove_entry(c, slot->parent, slot->dirent);
	return err ? err : move_to_lost_found(c, ino, inode);
}

static void check_dir_reached(struct pml_check *c, uint64_t ino)
{
	char name[PML_CHECK_NAME_BYTES];
	uint64_t end = climb(c, ino);
	struct pml_check_slot *slot = NULL;
	struct pml_media_inode *inode = pml_check_inode_at(c, end, &slot);
	if (slot->flags & PML_SLOT_ON_PATH) {
		(void)snprintf(name, sizeof(name), "inode %" PRIu64, end);
		if (pml_check_found(c, PML_CHECK_DIR_LOOP,
				    "%s: the directory lies below itself, not below the root",
				    name))
			pml_check_done(c, break_loop(c, end, inode, slot));
	}
	settle_path(c, ino, (slot->flags & PML_SLOT_HIDDEN) || is_hidden_top(c, inode, slot));
}

static void check_parent(struct pml_check *c, uint64_t ino, struct pml_media_inode *inode,
			 const struct pml_check_slot *slot)
{
	char name[PML_CHECK_NAME_BYTES];
	uint64_t parent = ino == PML_ROOT_INO ? PML_ROOT_INO : slot->parent;
	if (parent && inode->parent != parent)
		PML_CHECK_SET(c, PML_CHECK_DIR_PARENT, inode->parent, parent,
			      "%s: \"..\" is inode %" PRIu64 ", it lies in inode %" PRIu64,
			      pml_check_name(c, ino, name), inode->parent, parent);
}

static void reach_inode(struct pml_check *c, uint64_t ino, struct pml_media_inode *inode,
			struct pml_check_slot *slot)
{
	char name[PML_CHECK_NAME_BYTES];
	bool is_dir = S_ISDIR(inode->mode);
	if (!(slot->flags & PML_SLOT_IS_WALKED))
		return; /* lost+found, made a moment ago */
	if (is_dir && slot->dirent)
		check_dir_reached(c, ino);
	if (ino == PML_ROOT_INO || slot->links > 0)
		return;
	if (is_hidden_top(c, inode, slot))
		slot->flags |= PML_SLOT_HIDDEN;
	if (inode->nlink == 0 && (!is_dir || !inode->tree || (slot->flags & PML_SLOT_HIDDEN))) {
		c->result->norphans++;
		return;
	}
	if (pml_check_found(c, PML_CHECK_UNREACHED, "%s has no name", pml_check_name(c, ino, name)))
		pml_check_done(c, move_to_lost_found(c, ino, inode));
}

/* ---- link counts ------------------------------------------------------------ */

static void count_inode(struct pml_check *c, uint64_t ino, struct pml_media_inode *inode,
			struct pml_check_slot *slot)
{
	char name[PML_CHECK_NAME_BYTES];
	bool is_dir = S_ISDIR(inode->mode);
	if (is_dir)
		check_parent(c, ino, inode, slot);
	if (ino != PML_ROOT_INO && slot->links == 0)
		return; /* an orphan, or said already */
	struct pml_check_slot *parent = NULL;
	(void)pml_check_inode_at(c, slot->parent, &parent);
	if (ino != PML_ROOT_INO && parent && (parent->flags & PML_SLOT_HIDDEN))
		return; /* counts in a tree that is being made or freed are not kept */
	uint32_t links = is_dir ? 2 + slot->subdirs : slot->links;
	if (inode->nlink != links)
		PML_CHECK_SET(c, PML_CHECK_LINKS, inode->nlink, links,
			      "%s: %u links, the inode says %u", pml_check_name(c, ino, name),
			      links, inode->nlink);
}

void pml_check_names(struct pml_check *c)
{
	pml_check_each_inode(c, reach_inode);
	if (c->fs->itable)
		pml_itable_close(c->fs);
	if (!c->must_restart && !c->err)
		pml_check_each_inode(c, count_inode);
}
