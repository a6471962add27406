/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * dump.c -- prints what lies on a device
 *
 * Reads a mapping of the device without libpmemobj, takes no lock and writes nothing, so it
 * works on a mounted device and, as far as that can be, on a damaged one: every offset is
 * bounded before it is followed, every structure copied before it is looked at (a mounted
 * filesystem changes meanwhile), and every walk has an end.
 */
#include "dump.h"

#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>

#include "device.h"

struct dump {
	struct pml_dump_out out;
	const uint8_t *base;
	uint64_t bytes;
	struct pml_heap heap;
	bool has_heap; /* the descriptor says where it is */
	uint64_t super_at;
	const struct pml_media_super *super; /* NULL: it cannot be found */
	uint64_t nodes_left;		     /* of this tree: no more fit on the device */
	const char *missing;		     /* what was asked for does not exist */
};

/* ---- reading ------------------------------------------------------------- */

static bool is_on_device(const struct dump *d, uint64_t offset, uint64_t bytes)
{
	return offset % 8 == 0 && offset >= 8192 && bytes <= d->bytes && offset <= d->bytes - bytes;
}

/* Copies a structure.  False (reported): the offset leads nowhere. */
static bool copy(struct dump *d, uint64_t offset, void *ret_data, size_t bytes, const char *what)
{
	if (!is_on_device(d, offset, bytes)) {
		pml_dump_problem(&d->out, offset, what, "its offset is not on the device");
		return false;
	}
	memcpy(ret_data, d->base + offset, bytes);
	return true;
}

/* 0: the inode's chunk does not exist. */
static uint64_t inode_at(struct dump *d, uint64_t ino)
{
	uint64_t i = ino - 1;
	uint64_t chunk_index = i / PML_CHUNK_INODES;
	uint64_t level = d->super->itable[chunk_index / PML_ITABLE_FANOUT];
	uint64_t chunk;
	if (level == 0)
		return 0;
	if (!copy(d, level + 8 * (chunk_index % PML_ITABLE_FANOUT), &chunk, sizeof(chunk),
		  "inode table level") ||
	    chunk == 0)
		return 0;
	if (!is_on_device(d, chunk, sizeof(struct pml_media_itable_chunk))) {
		pml_dump_problem(&d->out, chunk, "inode table chunk",
				 "its offset is not on the device");
		return 0;
	}
	return chunk + i % PML_CHUNK_INODES * sizeof(struct pml_media_inode);
}

/* Calls @visit for each inode in use. */
typedef void (*inode_visit)(struct dump *d, uint64_t ino, uint64_t offset,
			    const struct pml_media_inode *inode, uint64_t arg);
static void each_inode(struct dump *d, inode_visit visit, uint64_t arg)
{
	for (uint64_t ino = 1; ino <= PML_INO_MAX;) {
		if (d->super->itable[(ino - 1) / PML_CHUNK_INODES / PML_ITABLE_FANOUT] == 0) {
			ino += (uint64_t)PML_CHUNK_INODES * PML_ITABLE_FANOUT;
			continue;
		}
		uint64_t at = inode_at(d, ino);
		for (unsigned int i = 0; at && i < PML_CHUNK_INODES; i++) {
			struct pml_media_inode inode;
			memcpy(&inode, d->base + at + i * sizeof(inode), sizeof(inode));
			if (inode.mode)
				visit(d, ino + i, at + i * sizeof(inode), &inode, arg);
		}
		ino += PML_CHUNK_INODES;
	}
}

/* ---- trees --------------------------------------------------------------- */

struct tree {
	void (*node)(struct dump *d, uint64_t offset, const struct pml_media_btree_node *node);
	void (*item)(struct dump *d, const struct pml_media_btree_entry *entry, uint64_t arg);
	uint64_t arg;
};

/* @parent_level: of the node above; PML_BTREE_LEVELS_MAX for the root. */
static void walk_tree(struct dump *d, uint64_t offset, unsigned int parent_level,
		      const struct tree *tree)
{
	struct pml_media_btree_node node;
	if (d->nodes_left == 0)
		return;
	d->nodes_left--;
	if (!copy(d, offset, &node, sizeof(node), "B+tree node"))
		return;
	bool is_root = parent_level == PML_BTREE_LEVELS_MAX;
	if (node.nkeys == 0 || node.nkeys > PML_BTREE_FANOUT || node.level >= parent_level ||
	    (!is_root && node.level + 1u != parent_level)) {
		pml_dump_problem(&d->out, offset, "B+tree node", "bad level or number of keys");
		return;
	}
	if (tree->node)
		tree->node(d, offset, &node);
	for (unsigned int i = 0; i < node.nkeys; i++) {
		if (node.level > 0)
			walk_tree(d, node.entry[i].word[0], node.level, tree);
		else if (tree->item)
			tree->item(d, &node.entry[i], tree->arg);
	}
}

static void walk_root(struct dump *d, uint64_t root, const struct tree *tree)
{
	if (!root)
		return;
	/* A node that hangs in many places would be walked through many times. */
	d->nodes_left = d->bytes / sizeof(struct pml_media_btree_node);
	walk_tree(d, root, PML_BTREE_LEVELS_MAX, tree);
	if (d->nodes_left == 0)
		pml_dump_problem(&d->out, root, "B+tree", "it has more nodes than the device");
}

static void print_node(struct dump *d, uint64_t offset, const struct pml_media_btree_node *node)
{
	pml_dump_structure(&d->out, "pml_media_btree_node", node, offset, NULL, 0);
	for (unsigned int i = 0; i < node->nkeys; i++) {
		const struct pml_media_btree_entry *e = &node->entry[i];
		pml_dump_begin(&d->out, "key",
			       offset + offsetof(struct pml_media_btree_node, entry) +
				       i * sizeof(*e),
			       false);
		pml_dump_number(&d->out, "key", e->key);
		pml_dump_offset(&d->out, "word0", e->word[0]);
		pml_dump_offset(&d->out, "word1", e->word[1]);
		pml_dump_end(&d->out);
	}
}

static void print_extent(struct dump *d, const struct pml_media_btree_entry *e, uint64_t ino)
{
	pml_dump_begin(&d->out, "extent", 0, false);
	pml_dump_number(&d->out, "inode", ino);
	pml_dump_number(&d->out, "file_block", e->key);
	pml_dump_number(&d->out, "block", e->word[0]);
	pml_dump_number(&d->out, "nblocks", e->word[1] & PML_EXTENT_BLOCKS_MASK);
	pml_dump_number(&d->out, "unwritten", (e->word[1] & PML_EXTENT_UNWRITTEN) != 0);
	pml_dump_end(&d->out);
}

static void print_entry(struct dump *d, const struct pml_media_btree_entry *e, uint64_t dir)
{
	struct pml_media_dirent dirent;
	char name[PML_NAME_BYTES_MAX + 1];
	if (!copy(d, e->word[0], &dirent, sizeof(dirent), "directory entry"))
		return;
	uint64_t at = e->word[0] + sizeof(dirent);
	if (dirent.name_bytes > PML_NAME_BYTES_MAX || dirent.name_bytes > d->bytes - at) {
		pml_dump_problem(&d->out, e->word[0], "directory entry", "bad length of the name");
		return;
	}
	memcpy(name, d->base + at, dirent.name_bytes);
	pml_dump_begin(&d->out, "pml_media_dirent", e->word[0], false);
	pml_dump_number(&d->out, "directory", dir);
	pml_dump_number(&d->out, "key", e->key);
	pml_dump_number(&d->out, "ino", dirent.ino);
	pml_dump_mode(&d->out, "type", dirent.type);
	pml_dump_number(&d->out, "name_bytes", dirent.name_bytes);
	pml_dump_text(&d->out, "name", name, dirent.name_bytes);
	pml_dump_end(&d->out);
}

static void print_xattr(struct dump *d, const struct pml_media_btree_entry *e, uint64_t ino)
{
	struct pml_media_xattr xattr;
	if (!copy(d, e->word[0], &xattr, sizeof(xattr), "extended attribute"))
		return;
	uint64_t at = e->word[0] + sizeof(xattr);
	if (xattr.name_bytes > PML_XATTR_NAME_BYTES_MAX ||
	    xattr.value_bytes > PML_XATTR_VALUE_BYTES_MAX ||
	    (uint64_t)xattr.name_bytes + xattr.value_bytes > d->bytes - at) {
		pml_dump_problem(&d->out, e->word[0], "extended attribute", "bad length");
		return;
	}
	const char *name = (const char *)d->base + at;
	pml_dump_begin(&d->out, "pml_media_xattr", e->word[0], false);
	pml_dump_number(&d->out, "inode", ino);
	pml_dump_number(&d->out, "key", e->key);
	pml_dump_number(&d->out, "value_bytes", xattr.value_bytes);
	pml_dump_number(&d->out, "name_bytes", xattr.name_bytes);
	pml_dump_text(&d->out, "name", name, xattr.name_bytes);
	pml_dump_text(&d->out, "value", name + xattr.name_bytes, xattr.value_bytes);
	pml_dump_end(&d->out);
}

/* ---- what is asked for --------------------------------------------------- */

static void dump_super(struct dump *d, uint64_t number)
{
	pml_dump_structure(&d->out, "pml_media_super", d->super, d->super_at, NULL, 0);
	for (uint64_t i = 0; i < PML_ITABLE_FANOUT; i++) {
		if (!d->super->itable[i])
			continue;
		pml_dump_begin(&d->out, "pml_media_itable_level", d->super->itable[i], false);
		pml_dump_number(&d->out, "index", i);
		pml_dump_end(&d->out);
	}
}

static void dump_groups(struct dump *d, uint64_t number)
{
	uint32_t n = PML_MIN(d->super->ngroups, PML_GROUPS_MAX);
	for (uint32_t i = 0; i < n; i++)
		pml_dump_structure(&d->out, "pml_media_group", &d->super->groups[i],
				   d->super_at + offsetof(struct pml_media_super, groups) +
					   i * sizeof(struct pml_media_group),
				   "group", i);
}

struct sums {
	uint64_t chunks[PML_CHUNK_RUN_DATA];
	uint64_t blocks[PML_CHUNK_RUN_DATA];
	uint64_t objects[PML_TYPE_XATTR + 2]; /* by type; the last: of unknown ones */
};

static const char *const chunk_type[] = {
	[PML_CHUNK_FREE] = "free", [PML_CHUNK_USED] = "used", [PML_CHUNK_RUN] = "run"};

static const char *chunk_type_name(unsigned int type)
{
	return type < PML_ARRAY_LEN(chunk_type) && chunk_type[type] ? chunk_type[type] : "unknown";
}

static int print_block(void *arg, const struct pml_heap_block *block)
{
	struct dump *d = arg;
	pml_dump_begin(&d->out, "chunks", block->offset, false);
	pml_dump_number(&d->out, "zone", block->zone);
	pml_dump_number(&d->out, "chunk", block->chunk);
	pml_dump_number(&d->out, "nchunks", block->header.nchunks);
	const char *name = chunk_type_name(block->header.type);
	pml_dump_text(&d->out, "type", name, strlen(name));
	pml_dump_offset(&d->out, "flags", block->header.flags);
	if (block->header.type == PML_CHUNK_RUN)
		pml_dump_number(&d->out, "unit_bytes", pml_heap_word(&d->heap, block->offset));
	pml_dump_end(&d->out);
	return 0;
}

static int count_object(void *arg, const struct pml_heap_object *object)
{
	struct sums *sums = arg;
	uint64_t last = PML_ARRAY_LEN(sums->objects) - 1;
	sums->objects[PML_MIN(object->type, last)]++;
	return 0;
}

static void report_heap(void *arg, uint64_t offset, const char *structure, const char *problem)
{
	struct dump *d = arg;
	pml_dump_problem(&d->out, offset, structure, problem);
}

static void dump_heap(struct dump *d, uint64_t number)
{
	struct sums sums = {0};
	(void)!pml_heap_check(d->base, d->bytes, true, report_heap, d);
	if (!d->has_heap)
		return;
	pml_dump_begin(&d->out, "heap", d->heap.offset, false);
	pml_dump_number(&d->out, "nzones", d->heap.nzones);
	pml_dump_end(&d->out);
	(void)pml_heap_blocks(&d->heap, print_block, d);
	(void)pml_heap_walk(&d->heap, count_object, &sums);
	for (uint64_t type = 0; type < PML_ARRAY_LEN(sums.objects); type++) {
		if (!sums.objects[type])
			continue;
		pml_dump_begin(&d->out, "objects", 0, false);
		pml_dump_number(&d->out, "type", type);
		pml_dump_number(&d->out, "n", sums.objects[type]);
		pml_dump_end(&d->out);
	}
}

static void print_symlink(struct dump *d, const struct pml_media_inode *inode)
{
	if (!S_ISLNK(inode->mode) || inode->symlink == 0)
		return;
	if (!is_on_device(d, inode->symlink, 1)) {
		pml_dump_problem(&d->out, inode->symlink, "target of a symbolic link",
				 "its offset is not on the device");
		return;
	}
	uint64_t room = PML_MIN(d->bytes - inode->symlink, (uint64_t)PML_SYMLINK_MAX);
	const char *target = (const char *)d->base + inode->symlink;
	pml_dump_begin(&d->out, "symlink", inode->symlink, false);
	pml_dump_text(&d->out, "target", target, strnlen(target, room));
	pml_dump_end(&d->out);
}

static void print_inode(struct dump *d, uint64_t ino, uint64_t offset,
			const struct pml_media_inode *inode, uint64_t arg)
{
	pml_dump_structure(&d->out, "pml_media_inode", inode, offset, "inode", ino);
	print_symlink(d, inode);
}

static void print_items(struct dump *d, uint64_t ino, const struct pml_media_inode *inode)
{
	const struct tree extents = {.item = print_extent, .arg = ino};
	const struct tree entries = {.item = print_entry, .arg = ino};
	if (S_ISDIR(inode->mode))
		walk_root(d, inode->tree, &entries);
	else if (S_ISREG(inode->mode))
		walk_root(d, inode->tree, &extents);
}

static void print_xattrs(struct dump *d, uint64_t ino, const struct pml_media_inode *inode)
{
	const struct tree xattrs = {.item = print_xattr, .arg = ino};
	walk_root(d, inode->xattr, &xattrs);
}

static void print_all(struct dump *d, uint64_t ino, uint64_t offset,
		      const struct pml_media_inode *inode, uint64_t arg)
{
	print_inode(d, ino, offset, inode, arg);
	print_items(d, ino, inode);
	print_xattrs(d, ino, inode);
}

/* An inode in use.  False: there is none of this number. */
static bool find_inode(struct dump *d, uint64_t ino, uint64_t *ret_offset,
		       struct pml_media_inode *ret_inode)
{
	uint64_t at = ino >= 1 && ino <= PML_INO_MAX ? inode_at(d, ino) : 0;
	if (at)
		memcpy(ret_inode, d->base + at, sizeof(*ret_inode));
	if (!at || ret_inode->mode == 0) {
		d->missing = "no inode in use has this number";
		return false;
	}
	*ret_offset = at;
	return true;
}

static void dump_inode(struct dump *d, uint64_t ino)
{
	uint64_t at;
	struct pml_media_inode inode;
	if (find_inode(d, ino, &at, &inode))
		print_inode(d, ino, at, &inode, 0);
}

static void dump_tree(struct dump *d, uint64_t ino)
{
	uint64_t at;
	struct pml_media_inode inode;
	const struct tree nodes = {.node = print_node};
	if (!find_inode(d, ino, &at, &inode))
		return;
	walk_root(d, inode.tree, &nodes);
	walk_root(d, inode.xattr, &nodes);
}

static void dump_items(struct dump *d, uint64_t ino, mode_t type, const char *missing)
{
	uint64_t at;
	struct pml_media_inode inode;
	if (!find_inode(d, ino, &at, &inode))
		return;
	if ((inode.mode & S_IFMT) == type)
		print_items(d, ino, &inode);
	else
		d->missing = missing;
}

static void dump_extents(struct dump *d, uint64_t ino)
{
	dump_items(d, ino, S_IFREG, "the inode is no regular file");
}

static void dump_dir(struct dump *d, uint64_t ino)
{
	dump_items(d, ino, S_IFDIR, "the inode is no directory");
}

static void dump_xattrs(struct dump *d, uint64_t ino)
{
	uint64_t at;
	struct pml_media_inode inode;
	if (find_inode(d, ino, &at, &inode))
		print_xattrs(d, ino, &inode);
}

/* ---- who maps a block ---------------------------------------------------- */

static void print_if_mapped(struct dump *d, const struct pml_media_btree_entry *e, uint64_t arg)
{
	/* The tree's argument: an inode number and a block do not fit one word. */
	const uint64_t *ino_and_block = (const uint64_t *)(uintptr_t)arg;
	uint64_t block = ino_and_block[1];
	uint64_t n = e->word[1] & PML_EXTENT_BLOCKS_MASK;
	if (block >= e->word[0] && block - e->word[0] < n)
		print_extent(d, e, ino_and_block[0]);
}

static void find_block(struct dump *d, uint64_t ino, uint64_t offset,
		       const struct pml_media_inode *inode, uint64_t block)
{
	const uint64_t ino_and_block[2] = {ino, block};
	const struct tree tree = {.item = print_if_mapped, .arg = (uintptr_t)ino_and_block};
	if (S_ISREG(inode->mode))
		walk_root(d, inode->tree, &tree);
}

static int print_if_around(void *arg, const struct pml_heap_block *block)
{
	const uint64_t *byte_and_dump = arg;
	uint64_t end = block->offset + block->header.nchunks * PML_HEAP_CHUNK_BYTES;
	if (byte_and_dump[0] < block->offset || byte_and_dump[0] >= end)
		return 0;
	(void)print_block((void *)(uintptr_t)byte_and_dump[1], block);
	return 1;
}

static void dump_block(struct dump *d, uint64_t block)
{
	uint64_t byte_and_dump[2] = {block << PML_BLOCK_SHIFT, (uintptr_t)d};
	if (block >= d->bytes >> PML_BLOCK_SHIFT) {
		d->missing = "the block is not on the device";
		return;
	}
	if (d->has_heap)
		(void)pml_heap_blocks(&d->heap, print_if_around, byte_and_dump);
	uint32_t n = PML_MIN(d->super->ngroups, PML_GROUPS_MAX);
	for (uint32_t i = 0; i < n; i++) {
		const struct pml_media_group *g = &d->super->groups[i];
		if (block >= g->first_block && block - g->first_block < g->nblocks)
			pml_dump_structure(&d->out, "pml_media_group", g,
					   d->super_at + offsetof(struct pml_media_super, groups) +
						   i * sizeof(*g),
					   "group", i);
	}
	each_inode(d, find_block, block);
}

static void dump_all(struct dump *d, uint64_t number)
{
	dump_super(d, 0);
	dump_groups(d, 0);
	dump_heap(d, 0);
	each_inode(d, print_all, 0);
}

static const struct {
	const char *what;
	void (*print)(struct dump *d, uint64_t number);
	bool has_number;
	bool needs_super;
} parts[] = {
	{"super", dump_super, false, true}, {"groups", dump_groups, false, true},
	{"heap", dump_heap, false, false},  {"inode", dump_inode, true, true},
	{"tree", dump_tree, true, true},    {"extents", dump_extents, true, true},
	{"dir", dump_dir, true, true},	    {"xattrs", dump_xattrs, true, true},
	{"block", dump_block, true, true},  {"all", dump_all, false, true},
};

/* ---- the device ---------------------------------------------------------- */

static void find_structures(struct dump *d)
{
	const struct pml_pool_descriptor *descriptor =
		(const void *)(d->base + PML_POOL_DESCRIPTOR_OFFSET);
	uint64_t heap = descriptor->heap_offset;
	uint64_t super = descriptor->root_offset;
	uint64_t magic = 0;
	if (heap % PML_BLOCK_BYTES == 0 && is_on_device(d, heap, PML_HEAP_ZONE_BYTES_MIN)) {
		pml_heap_init(&d->heap, d->base, d->bytes);
		d->has_heap = true;
	} else {
		pml_dump_problem(&d->out, PML_POOL_DESCRIPTOR_OFFSET, "pool descriptor",
				 "the heap's offset is not on the device");
	}
	if (is_on_device(d, super, sizeof(*d->super)))
		memcpy(&magic, d->base + super, sizeof(magic));
	if (magic == PML_MEDIA_MAGIC) {
		d->super_at = super;
		d->super = (const void *)(d->base + super);
	}
}

static int print_part(struct dump *d, const char *what, uint64_t number, char *reason)
{
	for (size_t i = 0; i < PML_ARRAY_LEN(parts); i++) {
		if (strcmp(parts[i].what, what) != 0)
			continue;
		if (parts[i].needs_super && !d->super)
			return pml_reason(
				reason, -EUCLEAN,
				"the super block cannot be found (\"heap\" may say more)");
		parts[i].print(d, number);
		return 0;
	}
	return pml_reason(reason, -EINVAL, "there is no \"%s\" to print", what);
}

int pml_fs_dump_has_number(const char *what)
{
	for (size_t i = 0; i < PML_ARRAY_LEN(parts); i++)
		if (strcmp(parts[i].what, what) == 0)
			return parts[i].has_number;
	return -EINVAL;
}

int pml_fs_dump(const char *path, const char *what, uint64_t number, bool is_json, FILE *out,
		char *ret_reason)
{
	struct pml_device_peek peek;
	int err = pml_device_peek(path, &peek, ret_reason);
	if (err)
		return err;
	if (!peek.is_ours || peek.size_bytes < PML_DEVICE_BYTES_MIN)
		return pml_reason(ret_reason, -EMEDIUMTYPE, "%s holds no pmemleasefs filesystem",
				  path);
	pml_auto_close int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return pml_reason(ret_reason, -errno, "%s: %s", path, strerror(errno));
	void *base = mmap(NULL, peek.size_bytes, PROT_READ, MAP_SHARED | MAP_NORESERVE, fd, 0);
	if (base == MAP_FAILED)
		return pml_reason(ret_reason, -errno, "%s: %s", path, strerror(errno));

	struct dump d = {
		.out = {.file = out, .is_json = is_json}, .base = base, .bytes = peek.size_bytes};
	find_structures(&d);
	err = print_part(&d, what, number, ret_reason);
	if (!err && d.missing)
		err = pml_reason(ret_reason, -ENOENT, "%s: %s", path, d.missing);
	if (!err && d.out.nproblems)
		err = pml_reason(ret_reason, -EUCLEAN, "%s: not all is as it must be: see above",
				 path);
	(void)munmap(base, peek.size_bytes);
	return err;
}
