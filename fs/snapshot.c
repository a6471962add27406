/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * snapshot.c -- cloning a directory tree at one point in time
 *
 * All changes of the filesystem are stopped by the audit lock, held exclusively, so the
 * tree stands still.  First the guard is asked about every file; whoever has to wait, or
 * is refused, has made nothing yet.  Then the tree is cloned inode by inode below a
 * directory without links, which nobody can look up and every mount frees.  One last
 * transaction gives it its name (I8).
 *
 * Memory: a level of the walk per directory on the way down, an entry of the table of
 * links per file with several names.
 */
#include "pml/fs.h"

#include <string.h>

#include "dir.h"
#include "itable.h"
#include "reap.h"
#include "reflink.h"
#include "rewrite.h"
#include "sharers.h"
#include "tx.h"
#include "xattr.h"

/* A directory on the way down. */
struct level {
	struct pml_inode *src; /* a reference */
	struct pml_inode *dst; /* not published; NULL while only asking */
	uint64_t cookie;       /* entries up to this one are done */
};

/* Which inode of the clone stands for which of the source; an open hash table. */
struct links {
	struct link {
		uint64_t src; /* 0: free */
		uint64_t dst;
	} * slot;
	size_t nslots; /* a power of two, or 0 */
	size_t n;
};

struct snapshot {
	struct pml_fs *fs;
	struct pml_waiter *w;
	struct level *level;
	size_t depth;
	size_t capacity;
	struct links links;
	uint32_t nsubdirs; /* of the top */
	/* Handles one entry; *ret_dst: the clone of a directory. */
	int (*visit)(struct snapshot *s, const char *name, struct pml_inode *src,
		     struct pml_inode **ret_dst);
};

/* ---- the table of links --------------------------------------------------- */

static struct link *find_slot(struct link *slot, size_t nslots, uint64_t src)
{
	size_t i = (src * 0x9e3779b97f4a7c15u >> 32) & (nslots - 1);
	while (slot[i].src && slot[i].src != src)
		i = (i + 1) & (nslots - 1);
	return &slot[i];
}

static uint64_t links_find(const struct links *links, uint64_t src)
{
	return links->nslots ? find_slot(links->slot, links->nslots, src)->dst : 0;
}

static int links_grow(struct links *links)
{
	size_t nslots = links->nslots ? 2 * links->nslots : 256;
	struct link *slot = calloc(nslots, sizeof(*slot));
	if (!slot)
		return -ENOMEM;
	for (size_t i = 0; i < links->nslots; i++)
		if (links->slot[i].src)
			*find_slot(slot, nslots, links->slot[i].src) = links->slot[i];
	free(links->slot);
	links->slot = slot;
	links->nslots = nslots;
	return 0;
}

static int links_add(struct links *links, uint64_t src, uint64_t dst)
{
	if (links->n >= PML_SNAPSHOT_LINKS_MAX)
		return -E2BIG;
	int err = 2 * links->n >= links->nslots ? links_grow(links) : 0;
	if (err)
		return err;
	*find_slot(links->slot, links->nslots, src) = (struct link){src, dst};
	links->n++;
	return 0;
}

/* ---- walking --------------------------------------------------------------- */

struct found {
	char name[PML_NAME_BYTES_MAX + 1];
	uint64_t ino; /* 0: none */
	uint64_t cookie;
};

static bool take_one(void *arg, const struct pml_dirent *entry)
{
	struct found *found = arg;
	if (found->ino)
		return false;
	if (strcmp(entry->name, ".") == 0 || strcmp(entry->name, "..") == 0)
		return true;
	memcpy(found->name, entry->name, strlen(entry->name) + 1);
	found->ino = entry->ino;
	found->cookie = entry->cookie;
	return true;
}

/* Takes over the reference and @dst; on error too. */
static int push_level(struct snapshot *s, struct pml_inode *src, struct pml_inode *dst)
{
	int err = s->depth == PML_SNAPSHOT_DEPTH_MAX ? -ELOOP : 0;
	if (!err && s->depth == s->capacity) {
		size_t capacity = s->capacity ? 2 * s->capacity : 32;
		struct level *grown = reallocarray(s->level, capacity, sizeof(*grown));
		err = grown ? 0 : -ENOMEM;
		if (!err) {
			s->level = grown;
			s->capacity = capacity;
		}
	}
	if (err) {
		if (dst)
			pml_inode_abandon(dst);
		pml_inode_put_in_change(src);
		return err;
	}
	s->level[s->depth++] = (struct level){.src = src, .dst = dst};
	return 0;
}

/* The top's clone stays with the caller. */
static void pop_level(struct snapshot *s)
{
	struct level *level = &s->level[--s->depth];
	if (level->dst && s->depth > 0)
		pml_inode_abandon(level->dst);
	pml_inode_put_in_change(level->src);
}

static int visit_entry(struct snapshot *s, const struct found *found)
{
	struct pml_inode *src;
	struct pml_inode *dst = NULL;
	int err = pml_inode_get(s->fs, found->ino, &src);
	if (err)
		return err == -ENOENT ? pml_corrupt(s->fs, "entry of a free inode", found->ino)
				      : err;
	/* As for a look-up: else a damaged tree may lead in a circle. */
	const struct level *level = &s->level[s->depth - 1];
	if (pml_inode_is_dir(src) && src->media->parent != level->src->ino)
		err = pml_corrupt(s->fs, "directory in two places", src->ino);
	if (!err)
		err = s->visit(s, found->name, src, &dst);
	if (!err && pml_inode_is_dir(src))
		return push_level(s, src, dst);
	pml_inode_put_in_change(src);
	return err;
}

/* Visits all that is below @top, a directory before what is in it. */
static int walk(struct snapshot *s, struct pml_inode *top, struct pml_inode *top_dst)
{
	pml_inode_ref(top);
	int err = push_level(s, top, NULL);
	if (err)
		return err;
	s->level[0].dst = top_dst;
	while (!err && s->depth > 0) {
		struct level *level = &s->level[s->depth - 1];
		struct found found = {.ino = 0};
		err = pml_dir_read(level->src, level->cookie, take_one, &found);
		if (err)
			break;
		level->cookie = found.cookie;
		if (found.ino)
			err = visit_entry(s, &found);
		else
			pop_level(s);
	}
	while (s->depth > 0)
		pop_level(s);
	return err;
}

/* ---- asking ---------------------------------------------------------------- */

static int ask_about(struct snapshot *s, const char *name, struct pml_inode *src,
		     struct pml_inode **ret_dst)
{
	uint64_t blocks = pml_block_above(src->media->size_bytes);
	if (!pml_inode_is_file(src) || blocks == 0)
		return 0;
	(void)pthread_rwlock_wrlock(&src->lock);
	int err = pml_guard_admit(src, PML_OP_SNAPSHOT, 0, blocks << PML_BLOCK_SHIFT, s->w);
	(void)pthread_rwlock_unlock(&src->lock);
	return err;
}

/* ---- cloning --------------------------------------------------------------- */

static int copy_target(struct pml_fs *fs, struct pml_inode *src, struct pml_media_inode *fresh)
{
	char target[PML_SYMLINK_MAX + 1];
	int err = pml_inode_readlink(src, target);
	if (err)
		return err;
	size_t bytes = strlen(target) + 1;
	err = pml_tx_alloc(bytes, PML_TYPE_SYMLINK, &fresh->symlink);
	if (!err)
		memcpy(pml_at(fs, fresh->symlink), target, bytes);
	return err;
}

struct copy_xattrs {
	struct pml_fs *fs;
	struct pml_media_inode *to;
};

/* The super block knows of attributes: the source has one. */
static int copy_xattr(void *arg, const struct pml_btree_item *item)
{
	const struct copy_xattrs *copy = arg;
	struct pml_xattr xattr;
	char name[PML_XATTR_NAME_BYTES_MAX + 1];
	int err = pml_xattr_of_item(copy->fs, item, &xattr);
	if (err)
		return err;
	assert(xattr.name_bytes < sizeof(name));
	memcpy(name, xattr.name, xattr.name_bytes);
	name[xattr.name_bytes] = 0;
	return pml_xattr_put(copy->fs, copy->to, name, xattr.value, xattr.value_bytes);
}

/* Everything but extents, entries and the parent. */
static int copy_attributes(struct pml_inode *src, struct pml_inode *dst)
{
	const struct pml_media_inode *from = src->media;
	uint64_t now = pml_time_now();
	struct pml_media_inode fresh = {
		.mode = from->mode,
		.uid = from->uid,
		.gid = from->gid,
		.size_bytes = from->size_bytes,
		.generation = dst->media->generation + 1,
		.atime_ns = from->atime_ns,
		.mtime_ns = from->mtime_ns,
		.ctime_ns = now,
		.btime_ns = now,
		.rdev = from->rdev,
	};
	int err = S_ISLNK(from->mode) ? copy_target(src->fs, src, &fresh) : 0;
	/* As for a new inode (create.c): with mode 0 all else is meaningless. */
	if (!err)
		err = pml_tx_add(dst->media, sizeof(uint64_t));
	if (!err)
		err = pml_tx_add_fresh(&dst->media->uid, sizeof(fresh) - sizeof(uint64_t));
	if (err)
		return err;
	*dst->media = fresh;
	struct copy_xattrs copy = {.fs = src->fs, .to = dst->media};
	return pml_btree_walk(src->fs, from->xattr, 0, copy_xattr, &copy);
}

/* One transaction's share of a file's extents; *pos moves on. */
static int map_some(struct pml_inode *src, struct pml_inode *dst, uint64_t *pos,
		    struct pml_unmapped *shared)
{
	uint64_t end = pml_block_above(src->media->size_bytes);
	uint64_t n = end - *pos;
	int err = n ? pml_clone_map(src, dst->media, *pos, *pos, &n, shared) : 0;
	if (!err)
		*pos += n;
	return err;
}

static int clone_in_tx(struct level *level, const char *name, struct pml_inode *src,
		       struct pml_inode *dst, bool is_below_top, uint64_t *pos,
		       struct pml_unmapped *shared)
{
	struct pml_media_inode *dir = level->dst->media;
	bool is_dir = pml_inode_is_dir(src);
	int err = copy_attributes(src, dst);
	if (err)
		return err;
	dst->media->nlink = is_dir ? 2 : 1;
	dst->media->parent = is_dir ? level->dst->ino : 0;
	err = pml_dir_add(dst->fs, dir, name, strlen(name), dst->ino, dst->media->mode);
	if (!err && is_dir && !is_below_top)
		err = PML_TX_SET(dir->nlink, dir->nlink + 1);
	if (!err && pml_inode_is_file(src))
		err = map_some(src, dst, pos, shared);
	return err;
}

/* The entry, the inode and its first extents in one transaction, then the others. */
static int clone_into(struct snapshot *s, const char *name, struct pml_inode *src,
		      struct pml_inode *dst)
{
	struct level *level = &s->level[s->depth - 1];
	uint64_t end = pml_inode_is_file(src) ? pml_block_above(src->media->size_bytes) : 0;
	uint64_t pos = 0;
	bool is_first = true;
	while (is_first || pos < end) {
		struct pml_unmapped shared = {.n = 0};
		struct pml_tx tx;
		int err = pml_tx_begin(s->fs, &tx);
		if (err)
			return err;
		err = is_first ? clone_in_tx(level, name, src, dst, s->depth == 1, &pos, &shared)
			       : map_some(src, dst, &pos, &shared);
		err = pml_tx_end(&tx, err);
		if (err) {
			pml_unmapped_drop(s->fs, &shared);
			return err;
		}
		pml_sharers_note_clone(src, dst->ino, dst->media, 0, 0, &shared);
		is_first = false;
	}
	return 0;
}

/* One more name of a file that was cloned already. */
static int link_clone(struct snapshot *s, const char *name, const struct pml_inode *src,
		      uint64_t dst_ino)
{
	struct pml_media_inode *dst;
	struct pml_tx tx;
	int err = pml_itable_at(s->fs, dst_ino, &dst);
	if (!err)
		err = pml_tx_begin(s->fs, &tx);
	if (err)
		return err;
	err = pml_dir_add(s->fs, s->level[s->depth - 1].dst->media, name, strlen(name), dst_ino,
			  pml_inode_type(src));
	if (!err)
		err = PML_TX_SET(dst->nlink, dst->nlink + 1);
	return pml_tx_end(&tx, err);
}

/* A free number with an in-core inode that nobody finds. */
static int new_inode(struct pml_fs *fs, struct pml_inode **ret_inode)
{
	uint64_t ino;
	int err = pml_itable_take(fs, &ino);
	if (err)
		return err;
	err = pml_inode_new(fs, ino, ret_inode);
	if (err)
		pml_itable_put(fs, ino);
	return err;
}

static void drop_new_inode(struct pml_inode *inode)
{
	struct pml_fs *fs = inode->fs;
	uint64_t ino = inode->ino;
	/* What a transaction has made of it is the tree's. */
	bool is_free = inode->media->mode == 0;
	pml_inode_abandon(inode);
	if (is_free)
		pml_itable_put(fs, ino);
}

static int clone_entry(struct snapshot *s, const char *name, struct pml_inode *src,
		       struct pml_inode **ret_dst)
{
	bool is_dir = pml_inode_is_dir(src);
	bool has_names = !is_dir && src->media->nlink > 1;
	uint64_t known = has_names ? links_find(&s->links, src->ino) : 0;
	if (known)
		return link_clone(s, name, src, known);
	struct pml_inode *dst;
	int err = new_inode(s->fs, &dst);
	if (err)
		return err;
	err = clone_into(s, name, src, dst);
	if (!err && has_names)
		err = links_add(&s->links, src->ino, dst->ino);
	if (!err && is_dir && s->depth == 1)
		s->nsubdirs++;
	if (!err && is_dir)
		*ret_dst = dst;
	else
		drop_new_inode(dst);
	return err;
}

/* ---- the whole ------------------------------------------------------------- */

/* The clone of the top: an orphan until it gets its name. */
static int new_top(struct pml_inode *from, struct pml_inode **ret_top)
{
	int err = new_inode(from->fs, ret_top);
	if (err)
		return err;
	struct pml_tx tx;
	err = pml_tx_begin(from->fs, &tx);
	if (!err)
		err = pml_tx_end(&tx, copy_attributes(from, *ret_top));
	if (err)
		drop_new_inode(*ret_top);
	return err;
}

static int check_name(const struct pml_inode *to, const char *name)
{
	struct pml_dir_entry entry;
	size_t bytes;
	int err = pml_name_check(name, &bytes);
	if (err)
		return err;
	if (to->media->nlink == 0)
		return -ENOENT;
	err = pml_dir_find(to->fs, to->media, name, bytes, &entry);
	if (err == 0)
		return -EEXIST;
	return err == -ENOENT ? 0 : err;
}

static int build(struct snapshot *s, struct pml_inode *from, struct pml_inode *to, const char *name)
{
	struct pml_inode *top;
	int err = pml_fs_use_feature(s->fs, PML_FEATURE_RO_HIDDEN);
	if (!err)
		err = new_top(from, &top);
	if (err)
		return err;
	s->visit = clone_entry;
	err = walk(s, from, top);
	if (!err)
		err = pml_dir_adopt(to, name, top, s->nsubdirs);
	if (!err) {
		pml_inode_put_in_change(top);
		return 0;
	}
	uint64_t ino = top->ino;
	pml_inode_abandon(top);
	int reap_err = pml_reap_tree(s->fs, ino);
	if (reap_err)
		pml_log_warning("what a failed snapshot has made is freed by the next mount: %s",
				strerror(-reap_err));
	return err;
}

static int snapshot_locked(struct snapshot *s, struct pml_inode *from, struct pml_inode *to,
			   const char *name)
{
	if (from->media->nlink == 0)
		return -ENOENT;
	int err = check_name(to, name);
	if (err)
		return err;
	s->visit = ask_about;
	err = walk(s, from, NULL);
	return err ? err : build(s, from, to, name);
}

int pml_dir_snapshot(struct pml_inode *from, struct pml_inode *to, const char *name,
		     struct pml_waiter *w)
{
	struct snapshot s = {.fs = from->fs, .w = w};
	if (!pml_inode_is_dir(from) || !pml_inode_is_dir(to))
		return -ENOTDIR;
	if (s.fs->is_read_only)
		return -EROFS;
	(void)pthread_rwlock_wrlock(&s.fs->audit_lock);
	int err = snapshot_locked(&s, from, to, name);
	(void)pthread_rwlock_unlock(&s.fs->audit_lock);
	free(s.level);
	free(s.links.slot);
	return err;
}
