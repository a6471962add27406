/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fs_check.c -- is the namespace of an open filesystem sound?  has it changed?
 */
#include "fs_check.h"

#include <inttypes.h>
#include <stdarg.h>

#include "../../fs/btree.h"
#include "../../fs/heap.h"
#include "../../fs/itable.h"
#include "../../fs/xattr.h"
#include "../tap.h"

/* What is known of one inode in use. */
struct seen {
	uint64_t ino;
	const struct pml_media_inode *media;
	uint64_t links; /* found so far: entries, "." and ".." */
	uint64_t entries;
};

struct check {
	struct pml_fs *fs;
	struct seen *seen; /* by ino */
	size_t n;
	size_t capacity;
	struct seen *dir; /* being read */
	uint64_t last_cookie;
	char fault[256];
};

PML_PRINTF(2, 3) static void fault(struct check *c, const char *format, ...)
{
	if (c->fault[0])
		return;
	va_list args;
	va_start(args, format);
	(void)vsnprintf(c->fault, sizeof(c->fault), format, args);
	va_end(args);
}

static int collect(void *arg, uint64_t ino, struct pml_media_inode *media)
{
	struct check *c = arg;
	if (c->n == c->capacity) {
		c->capacity = c->capacity ? 2 * c->capacity : 1024;
		c->seen = reallocarray(c->seen, c->capacity, sizeof(c->seen[0]));
		if (!c->seen)
			BAIL_OUT("no memory");
	}
	c->seen[c->n++] = (struct seen){.ino = ino, .media = media};
	return 0;
}

static int compare_ino(const void *key, const void *element)
{
	uint64_t ino = *(const uint64_t *)key;
	const struct seen *seen = element;
	return (ino > seen->ino) - (ino < seen->ino);
}

static bool see_entry(void *arg, const struct pml_dirent *entry)
{
	struct check *c = arg;
	uint64_t dir = c->dir->ino;
	if (entry->cookie <= c->last_cookie)
		fault(c, "cookies of %" PRIu64 " do not grow", dir);
	c->last_cookie = entry->cookie;
	struct seen *seen = bsearch(&entry->ino, c->seen, c->n, sizeof(*c->seen), compare_ino);
	if (!seen) {
		fault(c, "%" PRIu64 "/%s names a free inode", dir, entry->name);
		return true;
	}
	if (entry->type != (seen->media->mode & S_IFMT))
		fault(c, "%" PRIu64 "/%s is of another type", dir, entry->name);
	seen->links++;
	if (strcmp(entry->name, ".") == 0 || strcmp(entry->name, "..") == 0)
		return true;
	c->dir->entries++;
	if (S_ISDIR(entry->type) && seen->media->parent != dir)
		fault(c, "%" PRIu64 "/%s is not its parent", dir, entry->name);
	return true;
}

static void read_dir(struct check *c, struct seen *seen)
{
	struct pml_inode *dir;
	c->dir = seen;
	c->last_cookie = 0;
	int err = pml_inode_get(c->fs, seen->ino, &dir);
	if (err) {
		fault(c, "get %" PRIu64 ": %s", seen->ino, strerror(-err));
		return;
	}
	err = pml_dir_read(dir, 0, see_entry, c);
	if (err)
		fault(c, "read %" PRIu64 ": %s", seen->ino, strerror(-err));
	pml_inode_put(dir, 1);
	if (seen->entries != seen->media->nentries)
		fault(c, "%" PRIu64 " has %" PRIu64 " entries, says %" PRIu64, seen->ino,
		      seen->entries, seen->media->nentries);
}

static void check_reached(struct check *c)
{
	for (size_t i = 0; i < c->n; i++) {
		const struct seen *seen = &c->seen[i];
		if (seen->links != seen->media->nlink)
			fault(c, "%" PRIu64 " has %" PRIu64 " links, says %u", seen->ino,
			      seen->links, seen->media->nlink);
		uint64_t up = seen->ino;
		size_t steps = 0;
		while (S_ISDIR(seen->media->mode) && up != PML_ROOT_INO && steps++ < c->n) {
			struct seen *s = bsearch(&up, c->seen, c->n, sizeof(*c->seen), compare_ino);
			up = s ? s->media->parent : 0;
		}
		if (seen->media->nlink && S_ISDIR(seen->media->mode) && up != PML_ROOT_INO)
			fault(c, "%" PRIu64 " is not below the root", seen->ino);
	}
	struct pml_fs_counts counts;
	pml_fs_counts(c->fs, &counts);
	if (counts.inodes != c->n)
		fault(c, "%zu inodes, counted %" PRIu64, c->n, counts.inodes);
}

/* Objects of each type that the inodes account for, or that the pool holds. */
struct objects {
	uint64_t n[16];
};

static int count_node(void *arg, uint64_t offset)
{
	++*(uint64_t *)arg;
	return 0;
}

struct xattr_count {
	struct check *c;
	const struct seen *of;
	uint64_t n;
};

static int count_xattr(void *arg, const struct pml_btree_item *item)
{
	struct xattr_count *count = arg;
	struct pml_xattr xattr, found;
	char name[PML_XATTR_NAME_BYTES_MAX + 1] = "";
	int err = pml_xattr_of_item(count->c->fs, item, &xattr);
	if (!err) {
		memcpy(name, xattr.name, xattr.name_bytes);
		err = pml_xattr_find(count->c->fs, count->of->media, name, &found);
	}
	if (err || found.object != xattr.object)
		fault(count->c, "attribute %s of %" PRIu64, name, count->of->ino);
	count->n++;
	return 0;
}

static uint64_t count_xattrs(struct check *c, const struct seen *seen)
{
	struct xattr_count count = {.c = c, .of = seen};
	if (pml_btree_walk(c->fs, seen->media->xattr, 0, count_xattr, &count))
		fault(c, "attributes of %" PRIu64, seen->ino);
	if (seen->media->xattr && !(c->fs->super->feature_ro_compat & PML_FEATURE_RO_XATTR))
		fault(c, "the super block knows of no attributes");
	return count.n;
}

static void heap_fault(void *arg, uint64_t offset, const char *structure, const char *problem)
{
	fault(arg, "heap: %s at %#" PRIx64 ": %s", structure, offset, problem);
}

/* What no inode leads to any more is lost for good. */
static void check_objects(struct check *c)
{
	static const enum pml_media_type types[] = {PML_TYPE_DIRENT, PML_TYPE_SYMLINK,
						    PML_TYPE_BTREE_NODE, PML_TYPE_XATTR};
	struct objects used = {0}, held = {0};
	for (size_t i = 0; i < c->n; i++) {
		const struct pml_media_inode *media = c->seen[i].media;
		used.n[PML_TYPE_SYMLINK] += S_ISLNK(media->mode);
		used.n[PML_TYPE_DIRENT] += c->seen[i].entries;
		if (pml_btree_nodes(c->fs, media->tree, count_node, &used.n[PML_TYPE_BTREE_NODE]))
			fault(c, "tree of %" PRIu64, c->seen[i].ino);
		used.n[PML_TYPE_XATTR] += count_xattrs(c, &c->seen[i]);
		if (pml_btree_nodes(c->fs, media->xattr, count_node, &used.n[PML_TYPE_BTREE_NODE]))
			fault(c, "tree of attributes of %" PRIu64, c->seen[i].ino);
		if (pml_btree_nodes(c->fs, media->spare_tree, count_node,
				    &used.n[PML_TYPE_BTREE_NODE]))
			fault(c, "spare tree of %" PRIu64, c->seen[i].ino);
	}
	/* pmemobj_next() does not end behind an object without a sound header. */
	if (pml_heap_check(c->fs->base, c->fs->info.size_bytes, true, heap_fault, c))
		return;
	for (PMEMoid oid = pmemobj_first(c->fs->pool); !OID_IS_NULL(oid); oid = pmemobj_next(oid))
		if (pmemobj_type_num(oid) < PML_ARRAY_LEN(held.n))
			held.n[pmemobj_type_num(oid)]++;
	for (size_t i = 0; i < PML_ARRAY_LEN(types); i++)
		if (used.n[types[i]] != held.n[types[i]])
			fault(c, "%" PRIu64 " objects of type %d, used %" PRIu64, held.n[types[i]],
			      types[i], used.n[types[i]]);
}

static void no_pins(void *arg, pml_audit_emit emit, void *audit)
{
}

const char *fs_check(struct pml_fs *fs)
{
	static char ret_fault[512];
	struct check c = {.fs = fs};
	int err = pml_itable_walk(fs, collect, &c);
	if (err)
		fault(&c, "walk: %s", strerror(-err));
	for (size_t i = 0; i < c.n; i++)
		if (S_ISDIR(c.seen[i].media->mode) && c.seen[i].media->nlink)
			read_dir(&c, &c.seen[i]);
	check_reached(&c);
	check_objects(&c);
	char reason[PML_REASON_BYTES];
	if (pml_fs_audit(fs, no_pins, NULL, reason))
		fault(&c, "audit: %s", reason);
	(void)snprintf(ret_fault, sizeof(ret_fault), "%s", c.fault);
	free(c.seen);
	return ret_fault;
}

struct digest {
	struct pml_fs *fs;
	uint64_t hash; /* FNV-1a */
};

static void mix(struct digest *d, const void *data, size_t bytes)
{
	const unsigned char *p = data;
	for (size_t i = 0; i < bytes; i++)
		d->hash = (d->hash ^ p[i]) * 0x100000001b3ull;
}

static bool mix_entry(void *arg, const struct pml_dirent *entry)
{
	mix(arg, entry->name, strlen(entry->name));
	mix(arg, &entry->ino, sizeof(entry->ino));
	mix(arg, &entry->type, sizeof(entry->type));
	mix(arg, &entry->cookie, sizeof(entry->cookie));
	return true;
}

static int mix_xattr(void *arg, const struct pml_btree_item *item)
{
	struct digest *d = arg;
	struct pml_xattr xattr;
	mix(d, item, sizeof(*item));
	if (pml_xattr_of_item(d->fs, item, &xattr))
		BAIL_OUT("attribute at %#" PRIx64, item->word[0]);
	mix(d, xattr.name, xattr.name_bytes);
	mix(d, xattr.value, xattr.value_bytes);
	return 0;
}

static int mix_inode(void *arg, uint64_t ino, struct pml_media_inode *media)
{
	struct digest *d = arg;
	struct pml_inode *inode;
	mix(d, &ino, sizeof(ino));
	mix(d, media, sizeof(*media));
	if (pml_btree_walk(d->fs, media->xattr, 0, mix_xattr, d))
		BAIL_OUT("attributes of %" PRIu64, ino);
	if (!S_ISDIR(media->mode) || media->nlink == 0 || pml_inode_get(d->fs, ino, &inode))
		return 0;
	if (pml_dir_read(inode, 0, mix_entry, d))
		BAIL_OUT("read directory %" PRIu64, ino);
	pml_inode_put(inode, 1);
	return 0;
}

uint64_t fs_digest(struct pml_fs *fs)
{
	struct digest d = {.fs = fs, .hash = 0xcbf29ce484222325ull};
	mix(&d, &fs->super->feature_ro_compat, sizeof(fs->super->feature_ro_compat));
	if (pml_itable_walk(fs, mix_inode, &d))
		BAIL_OUT("walk of the inode table");
	return d.hash;
}
