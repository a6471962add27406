/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * check_inode.c -- inodes, extents, symbolic links
 */
#include "check.h"

#include <inttypes.h>
#include <string.h>

#include "tx.h"

#define FLAGS_KNOWN (PML_INODE_KEEPS_PREALLOC | PML_INODE_MARKER_ZEROES)
/* File blocks that a file may have. */
#define FILE_BLOCKS_MAX ((uint64_t)PML_FILE_BYTES_MAX / PML_BLOCK_BYTES + 1)

bool pml_check_type_known(uint32_t mode)
{
	return S_ISREG(mode) || S_ISDIR(mode) || S_ISLNK(mode) || S_ISFIFO(mode) ||
	       S_ISSOCK(mode) || S_ISCHR(mode) || S_ISBLK(mode);
}

static int clear_inode(struct pml_check *c, struct pml_media_inode *inode)
{
	return pml_check_store(c, &inode->mode, &(uint32_t){0}, sizeof(inode->mode));
}

/* ---- extents --------------------------------------------------------------- */

struct file {
	struct pml_check *c;
	const char *name;
	uint64_t ino;
	struct pml_media_inode *inode;
	uint64_t mapped; /* blocks */
	bool is_changed; /* the items differ from the tree on the device */
	bool can_change; /* the tree could be read */
};

static uint64_t blocks_of(const struct pml_check_item *item)
{
	return item->word[1] & PML_EXTENT_BLOCKS_MASK;
}

/* What makes an extent impossible, or NULL. */
static const char *extent_fault(const struct pml_check *c, const struct pml_check_item *item)
{
	uint64_t n = blocks_of(item);
	if (item->is_misplaced)
		return "is out of order";
	if (n == 0)
		return "has no blocks";
	if (item->word[1] & ~(PML_EXTENT_BLOCKS_MASK | PML_EXTENT_UNWRITTEN))
		return "has unknown flags";
	if (item->key >= FILE_BLOCKS_MAX || n > FILE_BLOCKS_MAX - item->key)
		return "lies behind the largest file";
	if (!pml_check_in_group(c, item->word[0], n))
		return "maps blocks outside of the allocation groups";
	return NULL;
}

/* A finding about items, which only a new tree can settle. */
static bool wants_change(struct file *f, bool is_wanted)
{
	if (!is_wanted)
		return false;
	f->is_changed = true;
	pml_check_done(f->c, 0);
	return true;
}

/* Drops impossible extents and cuts those that reach into the next one. */
static void check_extents(struct file *f)
{
	struct pml_check *c = f->c;
	size_t kept = 0;
	for (size_t i = 0; i < c->nitems; i++) {
		struct pml_check_item item = c->item[i];
		const char *fault = extent_fault(c, &item);
		if (fault &&
		    wants_change(f, pml_check_found(c, PML_CHECK_EXTENT,
						    "%s: the extent at file block %" PRIu64
						    " (%" PRIu64 " blocks from %" PRIu64 ") %s",
						    f->name, item.key, blocks_of(&item),
						    item.word[0], fault)))
			continue;
		struct pml_check_item *before = kept ? &c->item[kept - 1] : NULL;
		if (!fault && before && !extent_fault(c, before) &&
		    blocks_of(before) > item.key - before->key &&
		    wants_change(f, pml_check_found(c, PML_CHECK_EXTENT_OVERLAP,
						    "%s: the extents at file blocks %" PRIu64
						    " and %" PRIu64 " overlap",
						    f->name, before->key, item.key)))
			before->word[1] -= blocks_of(before) - (item.key - before->key);
		c->item[kept++] = item;
	}
	c->nitems = kept;
}

/* Blocks under the punch marker read as holes already. */
static bool is_under_marker(const struct pml_media_inode *inode, uint64_t first, uint64_t end)
{
	return inode->punch_first < inode->punch_end && first >= inode->punch_first &&
	       end <= inode->punch_end;
}

/* An impossible size: what can be read ends with the last block. */
static void check_size(struct file *f)
{
	struct pml_check *c = f->c;
	uint64_t end = 0;
	if (f->inode->size_bytes <= (uint64_t)PML_FILE_BYTES_MAX)
		return;
	for (size_t i = 0; i < c->nitems; i++)
		if (!(c->item[i].word[1] & PML_EXTENT_UNWRITTEN) && !extent_fault(c, &c->item[i]))
			end = PML_MAX(end, c->item[i].key + blocks_of(&c->item[i]));
	end = PML_MIN(end * PML_BLOCK_BYTES, (uint64_t)PML_FILE_BYTES_MAX);
	PML_CHECK_SET(c, PML_CHECK_INODE_FIELD, f->inode->size_bytes, end,
		      "%s: size %" PRIu64 " is too large, the last block ends at %" PRIu64, f->name,
		      f->inode->size_bytes, end);
}

/* Behind the end nothing is readable: whoever moves the end up would expose it. */
static void check_behind_end(struct file *f)
{
	struct pml_check *c = f->c;
	uint64_t end = pml_block_above(f->inode->size_bytes);
	for (size_t i = 0; i < c->nitems; i++) {
		struct pml_check_item *item = &c->item[i];
		uint64_t n = blocks_of(item);
		uint64_t first = PML_MAX(end, item->key);
		if ((item->word[1] & PML_EXTENT_UNWRITTEN) || extent_fault(c, item) ||
		    item->key + n <= end || is_under_marker(f->inode, first, item->key + n))
			continue;
		if (!wants_change(f, pml_check_found(c, PML_CHECK_EXTENT_BEHIND_END,
						     "%s: file blocks %" PRIu64 " to %" PRIu64
						     " lie behind the end and are not preallocated",
						     f->name, first, item->key + n - 1)))
			continue;
		if (first == item->key) {
			item->word[1] |= PML_EXTENT_UNWRITTEN;
			continue;
		}
		struct pml_check_item behind = {
			.key = first,
			.word = {item->word[0] + (first - item->key),
				 (item->key + n - first) | PML_EXTENT_UNWRITTEN},
		};
		item->word[1] = first - item->key;
		if (!pml_check_grow(c, &c->item, c->nitems, &c->items_capacity, sizeof(c->item[0])))
			return;
		memmove(&c->item[i + 2], &c->item[i + 1], (c->nitems - i - 1) * sizeof(c->item[0]));
		c->item[++i] = behind;
		c->nitems++;
	}
}

static void note_runs(struct file *f)
{
	struct pml_check *c = f->c;
	for (size_t i = 0; i < c->nitems; i++) {
		const struct pml_check_item *item = &c->item[i];
		f->mapped += blocks_of(item);
		if (extent_fault(c, item))
			continue;
		if (!pml_check_grow(c, &c->run, c->nruns, &c->runs_capacity, sizeof(c->run[0])))
			return;
		c->run[c->nruns++] = (struct pml_check_run){
			.block = item->word[0],
			.nblocks = (uint32_t)blocks_of(item),
			.ino = (uint32_t)f->ino & 0x7fffffffu,
			.is_unwritten = (item->word[1] & PML_EXTENT_UNWRITTEN) != 0,
		};
	}
}

/* A map that the next mount frees: only its nodes matter. */
static void check_spare_tree(struct file *f)
{
	struct pml_check *c = f->c;
	struct pml_media_super *super = c->fs->super;
	if (!f->inode->spare_tree)
		return;
	c->result->npunches++;
	(void)pml_check_tree(c, f->name, f->inode->spare_tree);
	if (c->is_tree_damaged) {
		c->nitems = 0; /* what is left of it are leaks */
		pml_check_tree_replace(c, &f->inode->spare_tree);
	}
	if (!(super->feature_ro_compat & PML_FEATURE_RO_SPARE_TREE))
		PML_CHECK_SET(c, PML_CHECK_SUPER_FIELD, super->feature_ro_compat,
			      super->feature_ro_compat | PML_FEATURE_RO_SPARE_TREE,
			      "super block: the feature of spare trees is not set, %s has one",
			      f->name);
}

static void check_file(struct pml_check *c, const char *name, uint64_t ino,
		       struct pml_media_inode *inode)
{
	struct file f = {.c = c, .name = name, .ino = ino, .inode = inode};
	if (inode->punch_first > inode->punch_end)
		PML_CHECK_SET(c, PML_CHECK_INODE_PUNCH, inode->punch_first, inode->punch_end,
			      "%s: the punch marker begins behind its end", name);
	else if (inode->punch_first < inode->punch_end && inode->nlink)
		c->result->npunches++;

	c->is_held = !pml_check_tree(c, name, inode->tree);
	check_extents(&f);
	check_size(&f);
	check_behind_end(&f);
	note_runs(&f);
	c->is_held = false;
	if (c->err)
		return;
	if (f.is_changed || c->is_tree_damaged)
		pml_check_tree_replace(c, &inode->tree);
	if (f.mapped != inode->nblocks)
		PML_CHECK_SET(c, PML_CHECK_INODE_BLOCKS, inode->nblocks, f.mapped,
			      "%s: %" PRIu64 " blocks are mapped, the inode says %" PRIu64, name,
			      f.mapped, inode->nblocks);
	check_spare_tree(&f);
}

/* ---- shares of preallocated blocks ------------------------------------------ */

static int compare_runs(const void *a, const void *b)
{
	const struct pml_check_run *x = a, *y = b;
	if (x->block != y->block)
		return x->block > y->block ? 1 : -1;
	return (int)x->is_unwritten - (int)y->is_unwritten;
}

static int unmap_in_tx(struct pml_check *c, struct pml_media_inode *inode, uint64_t file_block,
		       uint64_t n)
{
	int err = pml_btree_remove(c->fs, &inode->tree, file_block);
	return err ? err : PML_TX_SET(inode->nblocks, inode->nblocks - n);
}

/* Unmaps the preallocated extent of the file that maps the run. */
static int unmap_run(struct pml_check *c, const struct pml_check_run *run)
{
	struct pml_media_inode *inode = pml_check_inode_at(c, run->ino, NULL);
	struct pml_btree_item item = {.key = 0};
	for (uint64_t from = 0;; from = item.key + 1) {
		int err = pml_btree_ceil(c->fs, inode->tree, from, &item);
		if (err)
			return err;
		if (item.word[0] == run->block && (item.word[1] & PML_EXTENT_UNWRITTEN))
			break;
	}
	struct pml_tx tx;
	int err = pml_tx_begin(c->fs, &tx);
	if (err)
		return err;
	return pml_tx_end(&tx,
			  unmap_in_tx(c, inode, item.key, item.word[1] & PML_EXTENT_BLOCKS_MASK));
}

/* A preallocated block is written in place, so nobody else may have it. */
static void report_shared(struct pml_check *c, const struct pml_check_run *run,
			  const struct pml_check_run *other)
{
	char name[PML_CHECK_NAME_BYTES], other_name[PML_CHECK_NAME_BYTES];
	if (!pml_check_found(c, PML_CHECK_EXTENT_SHARED,
			     "%s: preallocated blocks from %" PRIu64 " are mapped by %s too",
			     pml_check_name(c, run->ino, name), (uint64_t)run->block,
			     pml_check_name(c, other->ino, other_name)))
		return;
	pml_check_done(c, unmap_run(c, run));
}

void pml_check_shares(struct pml_check *c)
{
	if (c->nruns)
		qsort(c->run, c->nruns, sizeof(c->run[0]), compare_runs);
	uint64_t end[2] = {0, 0}; /* of the written and of the preallocated blocks so far */
	const struct pml_check_run *last[2] = {NULL, NULL};
	uint64_t used_end = 0;
	c->result->blocks = c->result->shares = 0;
	for (size_t i = 0; i < c->nruns && !pml_check_is_over(c); i++) {
		const struct pml_check_run *run = &c->run[i];
		uint64_t run_end = run->block + run->nblocks;
		bool is_unwritten = run->is_unwritten;
		if (run->block < end[1])
			report_shared(c, last[1], run);
		else if (is_unwritten && run->block < end[0])
			report_shared(c, run, last[0]);
		if (run_end > end[is_unwritten]) {
			end[is_unwritten] = run_end;
			last[is_unwritten] = run;
		}
		c->result->shares += run->nblocks;
		if (run_end > used_end)
			c->result->blocks += run_end - PML_MAX(used_end, (uint64_t)run->block);
		used_end = PML_MAX(used_end, run_end);
	}
}

/* ---- symbolic links --------------------------------------------------------- */

static void check_symlink(struct pml_check *c, const char *name, struct pml_media_inode *inode)
{
	const char *fault = pml_check_claim(c, inode->symlink, PML_TYPE_SYMLINK, 1);
	uint64_t bytes = 0;
	if (!fault) {
		uint64_t room = pml_check_object_bytes(pml_check_object_at(c, inode->symlink));
		room = PML_MIN(room, (uint64_t)PML_SYMLINK_MAX + 1);
		bytes = strnlen(pml_at(c->fs, inode->symlink), room);
		if (bytes == 0)
			fault = "an empty target";
		else if (bytes == room)
			fault = "a target without end";
	}
	if (fault) {
		if (pml_check_found(c, PML_CHECK_SYMLINK, "%s: the symbolic link names %s", name,
				    fault))
			pml_check_done(c, clear_inode(c, inode));
		return;
	}
	if (bytes != inode->size_bytes)
		PML_CHECK_SET(c, PML_CHECK_SYMLINK_SIZE, inode->size_bytes, bytes,
			      "%s: the target has %" PRIu64 " bytes, the inode says %" PRIu64, name,
			      bytes, inode->size_bytes);
}

/* ---- inodes ----------------------------------------------------------------- */

/* The type that the entry which names it says; 0: none. */
static uint32_t type_of_entry(const struct pml_check *c, const struct pml_check_slot *slot)
{
	return slot->dirent ? ((const struct pml_media_dirent *)pml_at(c->fs, slot->dirent))->type
			    : 0;
}

/* False: nothing more can be said about this inode. */
static bool check_mode(struct pml_check *c, const char *name, struct pml_media_inode *inode,
		       const struct pml_check_slot *slot)
{
	uint32_t mode = inode->mode;
	if (pml_check_type_known(mode) && (mode & ~(uint32_t)(S_IFMT | 07777)) == 0)
		return true;
	if (pml_check_type_known(mode)) {
		PML_CHECK_SET(c, PML_CHECK_INODE_FIELD, inode->mode,
			      mode & (uint32_t)(S_IFMT | 07777), "%s: unknown bits in mode %#o",
			      name, mode);
		return true;
	}
	uint32_t type = type_of_entry(c, slot);
	if (type) {
		PML_CHECK_SET(c, PML_CHECK_INODE_TYPE, inode->mode, type | (mode & 07777u),
			      "%s: no known type in mode %#o, its name says %#o", name, mode, type);
	} else if (pml_check_found(c, PML_CHECK_INODE_LOST,
				   "%s: no known type in mode %#o, and no name that says one", name,
				   mode)) {
		pml_check_done(c, clear_inode(c, inode));
	}
	return pml_check_type_known(inode->mode);
}

#define CHECK_ZERO(field, what)                                                                    \
	do {                                                                                       \
		if (inode->field)                                                                  \
			PML_CHECK_SET(c, PML_CHECK_INODE_FIELD, inode->field, (uint64_t)0,         \
				      "%s: " what " is %" PRIu64 ", it ought to be 0", name,       \
				      inode->field);                                               \
	} while (0)

/* What an inode of this type does not have. */
static void check_unused(struct pml_check *c, const char *name, struct pml_media_inode *inode)
{
	uint32_t mode = inode->mode;
	bool is_file = S_ISREG(mode), is_dir = S_ISDIR(mode), is_link = S_ISLNK(mode);
	if (!is_file && !is_link)
		CHECK_ZERO(size_bytes, "the size");
	if (!is_file && !is_dir)
		CHECK_ZERO(tree, "the tree");
	if (!is_file) {
		CHECK_ZERO(nblocks, "the number of blocks");
		CHECK_ZERO(punch_first, "the punch marker's begin");
		CHECK_ZERO(punch_end, "the punch marker's end");
		CHECK_ZERO(flags, "the flag word");
		CHECK_ZERO(spare_tree, "the spare tree");
	}
	if (!is_dir) {
		CHECK_ZERO(nentries, "the number of entries");
		CHECK_ZERO(parent, "the parent");
	}
	if (!is_link)
		CHECK_ZERO(symlink, "the target");
	if (!S_ISCHR(mode) && !S_ISBLK(mode))
		CHECK_ZERO(rdev, "the device number");
	if (is_file && (inode->flags & ~FLAGS_KNOWN))
		PML_CHECK_SET(c, PML_CHECK_INODE_FIELD, inode->flags, inode->flags & FLAGS_KNOWN,
			      "%s: unknown flags %#" PRIx64, name, inode->flags);
	if (inode->generation == 0)
		PML_CHECK_SET(c, PML_CHECK_INODE_FIELD, inode->generation, (uint64_t)1,
			      "%s: the generation is 0", name);
	for (size_t i = 0; i < PML_ARRAY_LEN(inode->reserved); i++)
		if (inode->reserved[i])
			PML_CHECK_SET(c, PML_CHECK_INODE_FIELD, inode->reserved[i], (uint64_t)0,
				      "%s: reserved word %zu is not 0", name, i);
}

void pml_check_inode(struct pml_check *c, uint64_t ino, struct pml_media_inode *inode,
		     struct pml_check_slot *slot)
{
	char name[PML_CHECK_NAME_BYTES];
	(void)pml_check_name(c, ino, name);
	slot->flags |= PML_SLOT_IS_WALKED;
	bool was_dir = S_ISDIR(inode->mode);
	if (!check_mode(c, name, inode, slot))
		return;
	check_unused(c, name, inode);
	pml_check_xattrs(c, name, inode);
	if (was_dir) {
		c->result->directories++;
		pml_check_dir(c, name, ino, inode);
		return;
	}
	c->result->files++;
	if (S_ISREG(inode->mode))
		check_file(c, name, ino, inode);
	else if (S_ISLNK(inode->mode))
		check_symlink(c, name, inode);
}
