/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * check_dir.c -- entries of directories
 *
 * First each item by itself, with its object; then names against each other; then what
 * they mean for the inodes that they name.  An entry that is dropped loses no file: what
 * has no name any more goes to lost+found.
 */
#include "check.h"

#include <inttypes.h>
#include <string.h>

#include "dir.h"
#include "tx.h"

struct dir {
	struct pml_check *c;
	const char *name;
	uint64_t ino;
	struct pml_media_inode *inode;
	bool is_changed; /* the items differ from the tree on the device */
	bool must_rekey;
};

/* A finding that is settled by the new tree: it is said and counted here. */
static bool wants_change(struct dir *d, bool is_wanted)
{
	if (!is_wanted)
		return false;
	d->is_changed = true;
	pml_check_done(d->c, 0);
	return true;
}

static struct pml_media_dirent *dirent_of(const struct pml_check *c,
					  const struct pml_check_item *item)
{
	return pml_at(c->fs, item->word[0]);
}

/* "name" for messages; zero-terminated, without control characters. */
static const char *text_of(const struct pml_media_dirent *dirent, char text[64])
{
	size_t n = PML_MIN(dirent->name_bytes, 63u);
	for (size_t i = 0; i < n; i++)
		text[i] = (unsigned char)dirent->name[i] < ' ' ? '?' : dirent->name[i];
	text[n] = 0;
	return text;
}

/* ---- single entries --------------------------------------------------------- */

static const char *name_fault(const struct pml_check *c, const struct pml_check_item *item)
{
	const struct pml_media_dirent *dirent = dirent_of(c, item);
	const struct pml_check_object *object = pml_check_object_at(c, item->word[0]);
	uint32_t n = dirent->name_bytes;
	if (n == 0 || n > PML_NAME_BYTES_MAX ||
	    sizeof(*dirent) + n > pml_check_object_bytes(object))
		return "a name of impossible length";
	if (memchr(dirent->name, '/', n) || memchr(dirent->name, 0, n))
		return "a name with a byte that no name has";
	if (dirent->name[0] == '.' && (n == 1 || (n == 2 && dirent->name[1] == '.')))
		return "the name of the directory itself or its parent";
	return NULL;
}

static struct pml_media_inode *inode_in_use(const struct pml_check *c, uint64_t ino)
{
	struct pml_media_inode *inode = pml_check_inode_at(c, ino, NULL);
	return inode && inode->mode ? inode : NULL;
}

/* Entry and tree name different inodes: the one that fits the entry's type, if only one does. */
static bool settle_number(struct dir *d, struct pml_check_item *item)
{
	struct pml_check *c = d->c;
	struct pml_media_dirent *dirent = dirent_of(c, item);
	char text[64];
	const struct pml_media_inode *by_entry = inode_in_use(c, dirent->ino);
	const struct pml_media_inode *by_tree = inode_in_use(c, item->word[1]);
	bool fits_entry = by_entry && (by_entry->mode & S_IFMT) == dirent->type;
	bool fits_tree = by_tree && (by_tree->mode & S_IFMT) == dirent->type;
	if (fits_entry == fits_tree)
		return !wants_change(d, pml_check_found(c, PML_CHECK_ENTRY,
							"%s: \"%s\" is inode %" PRIu64
							" and also inode %" PRIu64,
							d->name, text_of(dirent, text), dirent->ino,
							item->word[1]));
	uint64_t right = fits_entry ? dirent->ino : item->word[1];
	if (!pml_check_found(c, PML_CHECK_ENTRY_FIELD,
			     "%s: \"%s\" is inode %" PRIu64 " in the entry, %" PRIu64
			     " in the tree; %" PRIu64 " fits",
			     d->name, text_of(dirent, text), dirent->ino, item->word[1], right))
		return true;
	int err = pml_check_store(c, &dirent->ino, &right, sizeof(right));
	pml_check_done(c, err);
	if (item->word[1] != right)
		d->is_changed = true;
	item->word[1] = right;
	return true;
}

/* Does an inode look as one of this type does, apart from its mode? */
static bool fits_type(const struct pml_media_inode *inode, uint32_t type)
{
	bool has_extent_fields = inode->nblocks || inode->size_bytes;
	if (S_ISREG(type))
		return !inode->symlink && !inode->nentries && !inode->parent && !inode->rdev;
	if (S_ISDIR(type))
		return !inode->symlink && !has_extent_fields && inode->parent && !inode->rdev;
	if (S_ISLNK(type))
		return inode->symlink && !inode->tree;
	return !inode->symlink && !inode->tree && !has_extent_fields && !inode->parent &&
	       (!inode->rdev || S_ISCHR(type) || S_ISBLK(type));
}

/* Of entry and inode it is the inode that knows, unless the rest of it says otherwise. */
static void check_type(struct dir *d, const struct pml_check_item *item,
		       struct pml_media_inode *target)
{
	struct pml_check *c = d->c;
	struct pml_media_dirent *dirent = dirent_of(c, item);
	uint32_t type = target->mode & S_IFMT;
	bool is_entry_known =
		pml_check_type_known(dirent->type) && (dirent->type & ~(uint32_t)S_IFMT) == 0;
	char text[64];
	/* An inode without a known type gets that of its name later. */
	if (dirent->type == type || (!pml_check_type_known(type) && is_entry_known))
		return;
	if (is_entry_known && !fits_type(target, type) && fits_type(target, dirent->type)) {
		PML_CHECK_SET(c, PML_CHECK_INODE_TYPE, target->mode,
			      dirent->type | (target->mode & 07777u),
			      "%s: \"%s\" has type %#o, its inode %#o and the rest of type %#o",
			      d->name, text_of(dirent, text), dirent->type, type, dirent->type);
	} else if (pml_check_type_known(type)) {
		PML_CHECK_SET(c, PML_CHECK_ENTRY_FIELD, dirent->type, type,
			      "%s: \"%s\" has type %#o, its inode %#o", d->name,
			      text_of(dirent, text), dirent->type, type);
	}
}

static void check_key(struct dir *d, struct pml_check_item *item)
{
	const struct pml_media_dirent *dirent = dirent_of(d->c, item);
	uint64_t first = pml_name_first_key(d->c->fs, dirent->name, dirent->name_bytes);
	char text[64];
	item->is_misplaced = false; /* the name says where it belongs */
	if (item->key >= first && item->key - first < PML_NAME_COLLISIONS)
		return;
	if (wants_change(d, pml_check_found(d->c, PML_CHECK_ENTRY_KEY,
					    "%s: \"%s\" has key %#" PRIx64
					    ", which is not of its name",
					    d->name, text_of(dirent, text), item->key))) {
		item->key = first;
		item->is_misplaced = true;
		d->must_rekey = true;
	} else {
		item->is_bad = true;
	}
}

/* False: it is dropped. */
static bool check_entry(struct dir *d, struct pml_check_item *item)
{
	struct pml_check *c = d->c;
	char text[64];
	const char *fault = pml_check_claim(c, item->word[0], PML_TYPE_DIRENT,
					    sizeof(struct pml_media_dirent) + 1);
	if (!fault)
		fault = name_fault(c, item);
	if (fault) {
		item->is_bad = true;
		return !wants_change(d, pml_check_found(c, PML_CHECK_ENTRY,
							"%s: the entry with key %#" PRIx64
							" for inode %" PRIu64 " names %s",
							d->name, item->key, item->word[1], fault));
	}
	const struct pml_media_dirent *dirent = dirent_of(c, item);
	if (dirent->ino != item->word[1] && !settle_number(d, item))
		return false;
	if (dirent->ino != item->word[1]) {
		item->is_bad = true;
		return true;
	}
	struct pml_media_inode *target = inode_in_use(c, dirent->ino);
	if (!target) {
		item->is_bad = true;
		return !wants_change(
			d, pml_check_found(c, PML_CHECK_ENTRY_FREE,
					   "%s: \"%s\" is inode %" PRIu64 ", which is not in use",
					   d->name, text_of(dirent, text), dirent->ino));
	}
	if (dirent->ino == PML_ROOT_INO) {
		item->is_bad = true;
		return !wants_change(d, pml_check_found(c, PML_CHECK_ENTRY,
							"%s: \"%s\" is the root directory", d->name,
							text_of(dirent, text)));
	}
	check_type(d, item, target);
	check_key(d, item);
	return true;
}

/* ---- entries together -------------------------------------------------------- */

static int compare_items(const void *a, const void *b)
{
	const struct pml_check_item *x = a, *y = b;
	if (x->is_misplaced != y->is_misplaced)
		return x->is_misplaced ? 1 : -1;
	return (x->key > y->key) - (x->key < y->key);
}

static size_t lower_bound(const struct pml_check_item *item, size_t n, uint64_t key)
{
	size_t lo = 0, hi = n;
	while (lo < hi) {
		size_t mid = (lo + hi) / 2;
		if (item[mid].key < key)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

void pml_check_assign_keys(struct pml_check *c)
{
	struct pml_check_item *item = c->item;
	size_t n = c->nitems;
	qsort(item, n, sizeof(item[0]), compare_items);
	size_t nplaced = 0;
	while (nplaced < n && !item[nplaced].is_misplaced)
		nplaced++;
	size_t kept = nplaced;
	for (size_t i = nplaced; i < n;) {
		uint64_t first = item[i].key;
		size_t at = lower_bound(item, nplaced, first);
		for (uint64_t key = first; i < n && item[i].key == first; key++) {
			if (key - first == PML_NAME_COLLISIONS) {
				i++; /* no room; its inode goes to lost+found */
				key--;
				continue;
			}
			if (at < nplaced && item[at].key == key) {
				at++;
				continue;
			}
			item[kept] = item[i++];
			item[kept].key = key;
			item[kept++].is_misplaced = false;
		}
	}
	c->nitems = kept;
	if (kept)
		qsort(item, kept, sizeof(item[0]), compare_items);
}

static bool is_same_name(const struct pml_check *c, const struct pml_check_item *a,
			 const struct pml_check_item *b)
{
	const struct pml_media_dirent *x = dirent_of(c, a), *y = dirent_of(c, b);
	return x->name_bytes == y->name_bytes && memcmp(x->name, y->name, x->name_bytes) == 0;
}

/* Names that are there twice; equal ones have keys of one hash. */
static void check_doubles(struct dir *d)
{
	struct pml_check *c = d->c;
	char text[64];
	size_t kept = 0, first = 0;
	for (size_t i = 0; i < c->nitems; i++) {
		struct pml_check_item item = c->item[i];
		while (first < kept &&
		       c->item[first].key / PML_NAME_COLLISIONS != item.key / PML_NAME_COLLISIONS)
			first++;
		bool is_double = false;
		for (size_t k = first; !item.is_bad && !is_double && k < kept; k++)
			is_double = !c->item[k].is_bad && is_same_name(c, &c->item[k], &item);
		if (is_double) {
			item.is_bad = true;
			if (wants_change(d, pml_check_found(c, PML_CHECK_ENTRY_TWICE,
							    "%s: \"%s\" is there twice, for inode "
							    "%" PRIu64 " too",
							    d->name,
							    text_of(dirent_of(c, &item), text),
							    item.word[1])))
				continue;
		}
		c->item[kept++] = item;
	}
	c->nitems = kept;
}

/* ---- what they name ---------------------------------------------------------- */

static int remove_in_tx(struct pml_check *c, struct pml_media_inode *dir,
			const struct pml_dir_entry *entry)
{
	struct pml_tx tx;
	int err = pml_tx_begin(c->fs, &tx);
	return err ? err : pml_tx_end(&tx, pml_dir_remove(c->fs, dir, entry));
}

int pml_check_remove_entry(struct pml_check *c, uint64_t dir_ino, uint64_t dirent)
{
	struct pml_media_inode *dir = pml_check_inode_at(c, dir_ino, NULL);
	const struct pml_media_dirent *d = pml_at(c->fs, dirent);
	struct pml_dir_entry entry;
	int err = pml_dir_find(c->fs, dir, d->name, d->name_bytes, &entry);
	if (!err && entry.object != dirent)
		err = -EIO;
	return err ? err : remove_in_tx(c, dir, &entry);
}

/* A directory has one name.  Its own word for its parent decides which.  False: drop @item. */
static bool settle_dir(struct dir *d, struct pml_check_item *item,
		       const struct pml_check_slot *slot, uint64_t parent)
{
	struct pml_check *c = d->c;
	char name[PML_CHECK_NAME_BYTES], text[64];
	const struct pml_media_dirent *dirent = dirent_of(c, item);
	bool is_wanted = pml_check_found(
		c, PML_CHECK_DIR_TWICE, "%s has a second name: \"%s\" in %s",
		pml_check_name(c, dirent->ino, name), text_of(dirent, text), d->name);
	item->is_bad = true;
	if (!is_wanted)
		return true;
	if (parent != d->ino || slot->parent == d->ino)
		return !wants_change(d, true);
	/* The other one is wrong. */
	pml_check_done(c, pml_check_remove_entry(c, slot->parent, slot->dirent));
	return true;
}

static void count_names(struct dir *d)
{
	struct pml_check *c = d->c;
	struct pml_check_slot *mine = NULL;
	size_t kept = 0;
	(void)pml_check_inode_at(c, d->ino, &mine);
	for (size_t i = 0; i < c->nitems && !c->err; i++) {
		struct pml_check_item item = c->item[i];
		struct pml_check_slot *slot = NULL;
		const struct pml_media_inode *inode =
			item.is_bad ? NULL : pml_check_inode_at(c, item.word[1], &slot);
		bool is_dir = inode && S_ISDIR(inode->mode);
		if (is_dir && slot->links > 0 && !settle_dir(d, &item, slot, inode->parent))
			continue;
		c->item[kept++] = item;
		if (!inode || item.is_bad)
			continue;
		slot->links++;
		mine->subdirs += is_dir;
		if (!slot->dirent) {
			slot->dirent = item.word[0];
			slot->parent = (uint32_t)d->ino;
		}
	}
	c->nitems = kept;
}

void pml_check_dir(struct pml_check *c, const char *name, uint64_t ino,
		   struct pml_media_inode *inode)
{
	struct dir d = {.c = c, .name = name, .ino = ino, .inode = inode};
	c->is_held = !pml_check_tree(c, name, inode->tree);
	size_t kept = 0;
	for (size_t i = 0; i < c->nitems && !pml_check_is_over(c); i++) {
		struct pml_check_item item = c->item[i];
		if (check_entry(&d, &item))
			c->item[kept++] = item;
	}
	if (!c->err)
		c->nitems = kept;
	if (d.must_rekey)
		pml_check_assign_keys(c);
	check_doubles(&d);
	count_names(&d);
	c->is_held = false;
	if (c->err)
		return;
	if (d.is_changed || c->is_tree_damaged)
		pml_check_tree_replace(c, &inode->tree);
	if (inode->nentries != c->nitems)
		PML_CHECK_SET(c, PML_CHECK_DIR_ENTRIES, inode->nentries, (uint64_t)c->nitems,
			      "%s: %zu entries, the inode says %" PRIu64, name, c->nitems,
			      inode->nentries);
}
