/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_check.c -- the checker: every field damaged, found, repaired, and nothing else hurt
 *
 * A filesystem with a bit of everything is made once.  Each case damages one field of a
 * copy, in the file, and then
 *
 *	checks without repair: the finding of that kind is there
 *	repairs the safe way:  settles it if it is of that class, else leaves it
 *	repairs all:           no error is left, but where a repair would be a guess
 *	checks again:          clean
 *	mounts:                namespace and counters are sound (I1, I2), and all files but
 *	                       those that the damage was in are what they were
 *
 * Every repair is a transaction (I8).
 */
#include <fcntl.h>
#include <linux/posix_acl.h>
#include <linux/posix_acl_xattr.h>
#include <linux/xattr.h>
#include <stdarg.h>
#include <sys/mman.h>

#include "../../fs/dir.h"
#include "../../fs/itable.h"
#include "../tap.h"
#include "fs_check.h"
#include "fs_pool.h"

#define MANY	    300u /* entries: a tree of two levels */
#define FRAGMENTS   120u /* extents: a tree of two levels */
#define MANY_XATTRS 60u	 /* a tree of two levels */
#define LINES_BYTES (1u << 20)
/* Of a file so much is looked at: the largest one here has less, a damaged size more. */
#define DIGEST_BYTES (4u << 20)

/* ---- the filesystem ------------------------------------------------------------ */

static struct fs_pool ground; /* stays as it is */
static uint64_t super_at, size_bytes;

/* Objects of the pool, for random damage. */
static struct {
	uint64_t offset;
	uint64_t bytes;
} objects[4096];
static size_t nobjects;

static char ground_lines[LINES_BYTES], other_lines[LINES_BYTES];

static uint64_t ino_of(struct pml_fs *fs, const char *path)
{
	struct pml_inode *at, *next;
	char copy[256];
	if (pml_inode_get(fs, PML_ROOT_INO, &at))
		BAIL_OUT("no root");
	(void)snprintf(copy, sizeof(copy), "%s", path);
	for (char *save, *name = strtok_r(copy, "/", &save); name;
	     name = strtok_r(NULL, "/", &save)) {
		int err = pml_dir_lookup(at, name, &next);
		pml_inode_put(at, 1);
		if (err)
			BAIL_OUT("%s: %s", path, strerror(-err));
		at = next;
	}
	uint64_t ino = pml_inode_ino(at);
	pml_inode_put(at, 1);
	return ino;
}

static void make(struct pml_inode *dir, const char *name, mode_t mode, struct pml_inode **ret)
{
	const struct pml_create_args args = {.mode = mode, .target = "plain", .rdev = 0x0105};
	struct pml_inode *inode;
	int err = pml_dir_create(dir, name, &args, &inode);
	if (err)
		BAIL_OUT("create %s: %s", name, strerror(-err));
	if (ret)
		*ret = inode;
	else
		pml_inode_put(inode, 1);
}

static void store(struct pml_inode *file, uint64_t first_block, uint64_t n, uint8_t seed)
{
	static uint8_t data[64 * PML_BLOCK_BYTES];
	for (size_t i = 0; i < n * PML_BLOCK_BYTES; i++)
		data[i] = (uint8_t)(seed + i * 7 + i / 4096);
	if (pml_file_write(file, data, n * PML_BLOCK_BYTES, first_block * PML_BLOCK_BYTES, false,
			   NULL))
		BAIL_OUT("write");
}

static void set_xattr(struct pml_inode *inode, const char *name, const void *value, size_t bytes)
{
	const struct pml_cred root = {.uid = 0};
	int err = pml_xattr_set(inode, &root, name, value, bytes, 0);
	if (err)
		BAIL_OUT("%s: %s", name, strerror(-err));
}

/* User 1000 may read; @group is the group's and the mask. */
static void set_acl(struct pml_inode *inode, const char *name, uint16_t group)
{
	struct {
		struct posix_acl_xattr_header header;
		struct posix_acl_xattr_entry entry[5];
	} acl = {
		{POSIX_ACL_XATTR_VERSION},
		{{ACL_USER_OBJ, 6, (uint32_t)-1},
		 {ACL_USER, 4, 1000},
		 {ACL_GROUP_OBJ, group, (uint32_t)-1},
		 {ACL_MASK, group, (uint32_t)-1},
		 {ACL_OTHER, 0, (uint32_t)-1}},
	};
	set_xattr(inode, name, &acl, sizeof(acl));
}

static void set_xattrs(struct pml_inode *root, struct pml_inode *dir)
{
	struct pml_inode *file;
	static char big[5000];
	memset(big, 'b', sizeof(big));
	make(root, "attributes", S_IFREG | 0644, &file);
	set_xattr(file, "user.color", "red", 3);
	set_xattr(file, "user.big", big, sizeof(big));
	for (unsigned int i = 0; i < MANY_XATTRS; i++) {
		char name[32];
		(void)snprintf(name, sizeof(name), "user.%u", i);
		set_xattr(file, name, big, i);
	}
	pml_inode_put(file, 1);
	make(root, "acl", S_IFREG | 0644, &file);
	set_acl(file, XATTR_NAME_POSIX_ACL_ACCESS, 4);
	pml_inode_put(file, 1);
	set_acl(dir, XATTR_NAME_POSIX_ACL_DEFAULT, 5);
}

static void fill(struct pml_inode *root)
{
	struct pml_inode *dir, *sub, *file, *clone;
	uint64_t done;
	make(root, "dir", S_IFDIR | 0750, &dir);
	make(dir, "sub", S_IFDIR | 0700, &sub);
	make(sub, "deep", S_IFREG | 0644, &file);
	store(file, 0, 5, 9);
	pml_inode_put(file, 1);
	for (unsigned int i = 0; i < MANY; i++) {
		char name[32];
		(void)snprintf(name, sizeof(name), "entry-%u", i);
		make(dir, name, S_IFREG | 0600, NULL);
	}
	make(root, "plain", S_IFREG | 0644, &file);
	store(file, 0, 16, 1);
	make(root, "clone", S_IFREG | 0644, &clone);
	if (pml_file_clone(file, 0, clone, 0, 16 * PML_BLOCK_BYTES, NULL, &done))
		BAIL_OUT("clone");
	if (pml_dir_link(root, "hard", file))
		BAIL_OUT("link");
	pml_inode_put(clone, 1);
	pml_inode_put(file, 1);
	make(root, "fragments", S_IFREG | 0640, &file);
	for (unsigned int i = 0; i < FRAGMENTS; i++)
		store(file, 2 * i, 1, (uint8_t)i);
	pml_inode_put(file, 1);
	make(root, "pre", S_IFREG | 0644, &file);
	store(file, 0, 2, 3);
	if (pml_file_allocate(file, FALLOC_FL_KEEP_SIZE, 8192, 65536, NULL))
		BAIL_OUT("allocate");
	pml_inode_put(file, 1);
	make(root, "empty", S_IFREG | 04755, NULL);
	make(root, "symlink", S_IFLNK | 0777, NULL);
	make(root, "fifo", S_IFIFO | 0644, NULL);
	make(root, "socket", S_IFSOCK | 0644, NULL);
	make(root, "device", S_IFCHR | 0600, NULL);
	make(root, "other", S_IFDIR | 01777, &file);
	set_xattrs(root, file);
	pml_inode_put(file, 1);
	pml_inode_put(sub, 1);
	pml_inode_put(dir, 1);
}

/* ---- what a filesystem holds, as lines -------------------------------------------- */

struct listing {
	struct pml_fs *fs;
	char *text;
	size_t n;
	char path[512];
};

PML_PRINTF(2, 3) static void add_line(struct listing *l, const char *format, ...)
{
	va_list args;
	va_start(args, format);
	l->n += (size_t)vsnprintf(l->text + l->n, LINES_BYTES - l->n, format, args);
	va_end(args);
	if (l->n >= LINES_BYTES)
		BAIL_OUT("too many lines");
}

static uint64_t digest_of(struct pml_inode *file)
{
	uint64_t hash = 0xcbf29ce484222325ull;
	for (uint64_t at = 0;;) {
		struct iovec iov[PML_IOV_MAX];
		int n;
		size_t bytes;
		int err = pml_file_read_begin(file, at, PML_IO_BYTES_MAX, iov, &n, &bytes);
		if (err)
			return (uint64_t)-err;
		for (int i = 0; i < n; i++)
			for (size_t k = 0; k < iov[i].iov_len; k++)
				hash = (hash ^ ((uint8_t *)iov[i].iov_base)[k]) * 0x100000001b3ull;
		pml_file_read_end(file);
		at += bytes;
		if (bytes == 0 || at >= DIGEST_BYTES)
			return hash;
	}
}

struct names {
	struct pml_dirent entry[2048];
	char name[2048][64];
	size_t n;
};

static bool collect(void *arg, const struct pml_dirent *entry)
{
	struct names *names = arg;
	if (strcmp(entry->name, ".") == 0 || strcmp(entry->name, "..") == 0 || names->n == 2048)
		return true;
	names->entry[names->n] = *entry;
	(void)snprintf(names->name[names->n++], 64, "%s", entry->name);
	return true;
}

/* Sum over all, as their order is that of their keys. */
static uint64_t xattrs_of(struct pml_inode *inode)
{
	const struct pml_cred root = {.uid = 0};
	static char names[8192], value[8192];
	size_t bytes, value_bytes;
	uint64_t sum = 0;
	if (pml_xattr_list(inode, &root, names, sizeof(names), &bytes))
		return 1;
	for (const char *name = names; name < names + bytes; name += strlen(name) + 1) {
		uint64_t hash = 0xcbf29ce484222325ull;
		if (pml_xattr_get(inode, name, value, sizeof(value), &value_bytes))
			return 2;
		for (const char *p = name; *p; p++)
			hash = (hash ^ (uint8_t)*p) * 0x100000001b3ull;
		for (size_t k = 0; k < value_bytes; k++)
			hash = (hash ^ (uint8_t)value[k]) * 0x100000001b3ull;
		sum += hash;
	}
	return sum;
}

static void list(struct listing *l, struct pml_inode *inode)
{
	struct stat st;
	char target[PML_SYMLINK_MAX + 1] = "";
	pml_inode_stat(inode, &st);
	if (S_ISLNK(st.st_mode) && pml_inode_readlink(inode, target))
		add_line(l, "%s cannot be read\n", l->path);
	/* A directory's links and times change when names come and go beside it. */
	add_line(l, "%s %#o %u:%u %llu %lld %#llx %s %#llx %#llx\n", l->path[0] ? l->path : "/",
		 st.st_mode, st.st_uid, st.st_gid,
		 S_ISDIR(st.st_mode) ? 0ull : (unsigned long long)st.st_nlink,
		 S_ISDIR(st.st_mode) ? 0 : (long long)st.st_size,
		 S_ISREG(st.st_mode) ? (unsigned long long)digest_of(inode) : 0, target,
		 (unsigned long long)st.st_rdev, (unsigned long long)xattrs_of(inode));
	if (!S_ISDIR(st.st_mode))
		return;
	struct names *names = calloc(1, sizeof(*names));
	if (!names || pml_dir_read(inode, 0, collect, names))
		BAIL_OUT("read %s", l->path);
	size_t n = strlen(l->path);
	for (size_t i = 0; i < names->n; i++) {
		struct pml_inode *child;
		(void)snprintf(l->path + n, sizeof(l->path) - n, "/%s", names->name[i]);
		if (pml_dir_lookup(inode, names->name[i], &child)) {
			add_line(l, "%s cannot be looked up\n", l->path);
			continue;
		}
		list(l, child);
		pml_inode_put(child, 1);
	}
	l->path[n] = 0;
	free(names);
}

static void list_all(struct fs_pool *pool, char *text)
{
	struct listing l = {.fs = pool->fs, .text = text};
	struct pml_inode *root = fs_pool_root(pool);
	list(&l, root);
	pml_inode_put(root, 1);
}

/* Is this path, or a directory above it, among the hurt ones ("a b")?  "*": all are. */
static bool is_hurt(const char *hurt, const char *line, size_t path_bytes)
{
	if (strcmp(hurt, "*") == 0)
		return true;
	while (*hurt) {
		size_t n = strcspn(hurt, " ");
		if (path_bytes >= n && memcmp(hurt, line, n) == 0 &&
		    (path_bytes == n || line[n] == '/'))
			return true;
		hurt += n + (hurt[n] != 0);
	}
	return false;
}

/* Lines of the ground that are missing now, but for the hurt ones. */
static void compare_lines(const char *case_name, const char *hurt)
{
	for (const char *line = ground_lines; *line;) {
		size_t n = strcspn(line, "\n") + 1;
		if (!memmem(other_lines, strlen(other_lines), line, n) &&
		    !is_hurt(hurt, line, strcspn(line, " ")))
			TAP_FAIL("%s: lost or changed: %.*s", case_name, (int)n - 1, line);
		line += n;
	}
}

/* ---- copies, and the bytes in them -------------------------------------------------- */

static struct fs_pool copy;
static uint8_t *base; /* of the copy, while it is being damaged */

static void copy_file(const char *from, const char *to)
{
	static uint8_t buffer[1 << 20];
	int in = open(from, O_RDONLY), out = open(to, O_RDWR | O_CREAT | O_TRUNC, 0600);
	if (in < 0 || out < 0 || ftruncate(out, (off_t)size_bytes))
		BAIL_OUT("copy: %s", strerror(errno));
	for (off_t at = 0; (at = lseek(in, at, SEEK_DATA)) >= 0;) {
		off_t end = lseek(in, at, SEEK_HOLE);
		while (at < end) {
			ssize_t n =
				pread(in, buffer, PML_MIN((size_t)(end - at), sizeof(buffer)), at);
			if (n <= 0 || pwrite(out, buffer, (size_t)n, at) != n)
				BAIL_OUT("copy: %s", strerror(errno));
			at += n;
		}
	}
	(void)close(in);
	(void)close(out);
}

static void copy_begin(void)
{
	copy_file(ground.path, copy.path);
	int fd = open(copy.path, O_RDWR);
	base = mmap(NULL, size_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	(void)close(fd);
	if (base == MAP_FAILED)
		BAIL_OUT("mmap");
}

static void copy_end(void)
{
	(void)munmap(base, size_bytes);
}

static struct pml_media_super *super(void)
{
	return (void *)(base + super_at);
}

static struct pml_media_itable_level *level0(void)
{
	return (void *)(base + super()->itable[0]);
}

static struct pml_media_inode *inode_at(uint64_t ino)
{
	struct pml_media_itable_chunk *chunk =
		(void *)(base + level0()->chunk[(ino - 1) / PML_CHUNK_INODES]);
	return &chunk->inode[(ino - 1) % PML_CHUNK_INODES];
}

/* Numbers in the ground by path. */
static struct {
	const char *path;
	uint64_t ino;
} known[] = {
	{"/plain", 0}, {"/clone", 0},	   {"/fragments", 0}, {"/pre", 0},    {"/empty", 0},
	{"/dir", 0},   {"/dir/sub", 0},	   {"/symlink", 0},   {"/fifo", 0},   {"/device", 0},
	{"/acl", 0},   {"/attributes", 0}, {"/other", 0},     {"/socket", 0}, {"/dir/sub/deep", 0},
};

static uint64_t number(const char *path)
{
	for (size_t i = 0; i < PML_ARRAY_LEN(known); i++)
		if (strcmp(known[i].path, path) == 0)
			return known[i].ino;
	return PML_ROOT_INO;
}

static struct pml_media_inode *inode(const char *path)
{
	return inode_at(number(path));
}

static struct pml_media_btree_node *node(uint64_t offset)
{
	return (void *)(base + offset);
}

static struct pml_media_btree_node *tree(const char *path)
{
	return node(inode(path)->tree);
}

/* The first leaf below. */
static struct pml_media_btree_node *leaf(const char *path)
{
	struct pml_media_btree_node *n = tree(path);
	while (n->level > 0)
		n = node(n->entry[0].word[0]);
	return n;
}

/* A leaf may have one entry only. */
static struct pml_media_btree_entry *middle(struct pml_media_btree_node *leaf)
{
	return &leaf->entry[leaf->nkeys / 2];
}

static struct pml_media_dirent *dirent(const struct pml_media_btree_entry *entry)
{
	return (void *)(base + entry->word[0]);
}

/* The entry of the root directory that has this name. */
static struct pml_media_btree_entry *entry(const char *name)
{
	struct pml_media_btree_node *n = tree("/");
	for (unsigned int i = 0; i < n->nkeys; i++) {
		const struct pml_media_dirent *d = dirent(&n->entry[i]);
		if (d->name_bytes == strlen(name) && memcmp(d->name, name, d->name_bytes) == 0)
			return &n->entry[i];
	}
	BAIL_OUT("no entry %s", name);
}

static struct pml_media_btree_node *xattr_leaf(const char *path)
{
	struct pml_media_btree_node *n = node(inode(path)->xattr);
	while (n->level > 0)
		n = node(n->entry[0].word[0]);
	return n;
}

static struct pml_media_xattr *xattr(const char *path)
{
	return (void *)(base + xattr_leaf(path)->entry[0].word[0]);
}

/* ---- damage --------------------------------------------------------------------------- */

enum level {
	SAFE, /* -p repairs it */
	FULL, /* -y does */
	LEFT, /* neither: it would be a guess */
};

struct damage {
	const char *name;
	void (*apply)(void);
	const char *finding; /* of that kind one is reported */
	enum level level;
	const char *hurt; /* what may be lost: paths */
};

#define DAMAGE(id, statement)                                                                      \
	static void damage_##id(void)                                                              \
	{                                                                                          \
		statement;                                                                         \
	}

/* Name, finding, level, what may be hurt, statement. */
#define DAMAGES(X)                                                                                 \
	X(super_magic, "super-field", FULL, "", super()->magic = 77)                               \
	X(super_version, "super-field", FULL, "", super()->format_version = 9)                     \
	X(super_size, "super-field", FULL, "", super()->size_bytes++)                              \
	X(super_label, "super-field", FULL, "", memset(super()->label, 'x', PML_LABEL_BYTES))      \
	X(super_reserved0, "super-field", FULL, "", super()->reserved0 = 1)                        \
	X(super_reserved1, "super-field", FULL, "", super()->reserved1[2] = 1)                     \
	X(super_payload, "super-field", FULL, "", super()->payload_blocks = UINT64_MAX)            \
	X(super_hash_key, "entry-key", FULL, "", super()->hash_key[3] ^= 1)                        \
	X(ngroups_none, "group-table", FULL, "", super()->ngroups = 0)                             \
	X(ngroups_more, "group-table", FULL, "", super()->ngroups++)                               \
	X(ngroups_wild, "group-table", FULL, "", super()->ngroups = 70000)                         \
	X(group_first, "group-table", FULL, "", super()->groups[0].first_block += 512)             \
	X(group_blocks, "group-table", FULL, "", super()->groups[0].nblocks += 100000)             \
	X(group_object, "group-table", FULL, "", super()->groups[0].object += 8)                   \
	X(group_device, "group-table", FULL, "", super()->groups[0].device = 1)                    \
	X(group_reserved, "group-table", FULL, "", super()->groups[0].reserved = 1)                \
	X(itable_wild, "table-slot", FULL, "", super()->itable[0] = 12345)                         \
	X(itable_other, "table-lost", FULL, "", super()->itable[1] = 4096)                         \
	X(level_wild, "table-slot", FULL, "", level0()->chunk[1] = UINT64_MAX)                     \
	X(level_none, "table-slot", FULL, "", level0()->chunk[0] = 0)                              \
	X(level_swapped, "table-slot", FULL, "", level0()->chunk[1] = level0()->chunk[0])          \
	X(mode_unknown, "inode-type", FULL, "", inode("/plain")->mode ^= S_IFMT)                   \
	X(mode_none, "unreached", FULL, "/plain /hard", break_mode())                              \
	X(mode_bits, "inode-field", FULL, "", inode("/plain")->mode |= 0x80000000u)                \
	X(mode_fifo, "inode-type", FULL, "", inode("/plain")->mode = S_IFIFO | 0644)               \
	X(mode_dir, "inode-type", FULL, "", inode("/plain")->mode = S_IFDIR | 0644)                \
	X(mode_file, "inode-type", FULL, "", inode("/dir")->mode = S_IFREG | 0750)                 \
	X(mode_link, "inode-type", FULL, "", inode("/symlink")->mode = S_IFREG | 0777)             \
	X(mode_root, "root", FULL, "", inode("/")->mode = S_IFREG | 0755)                          \
	X(nlink_more, "links", SAFE, "", inode("/plain")->nlink = 17)                              \
	X(nlink_none, "links", SAFE, "", inode("/plain")->nlink = 0)                               \
	X(nlink_dir, "links", SAFE, "", inode("/dir")->nlink = 2)                                  \
	X(nlink_root, "links", SAFE, "", inode("/")->nlink = 1)                                    \
	X(size_wild, "inode-field", FULL, "/plain /hard",                                          \
	  inode("/plain")->size_bytes |= 1ull << 63)                                               \
	X(size_less, "extent-behind-end", FULL, "/plain /hard",                                    \
	  inode("/plain")->size_bytes = 5000)                                                      \
	X(size_dir, "inode-field", FULL, "", inode("/dir")->size_bytes = 1)                        \
	X(size_link, "symlink-size", FULL, "", inode("/symlink")->size_bytes = 4)                  \
	X(generation, "inode-field", FULL, "", inode("/empty")->generation = 0)                    \
	X(rdev, "inode-field", FULL, "", inode("/empty")->rdev = 5)                                \
	X(tree_wild, "tree", FULL, "/plain /hard", inode("/plain")->tree = 0x123456789abcdefull)   \
	X(tree_unaligned, "tree", FULL, "/plain /hard", inode("/plain")->tree++)                   \
	X(tree_other_type, "tree", FULL, "/plain /hard",                                           \
	  inode("/plain")->tree = entry("plain")->word[0])                                         \
	X(tree_foreign, "tree", FULL, "/plain /hard /clone",                                       \
	  inode("/plain")->tree = inode("/clone")->tree)                                           \
	X(tree_none, "leak", SAFE, "/plain /hard", inode("/plain")->tree = 0)                      \
	X(tree_fifo, "inode-field", FULL, "", inode("/fifo")->tree = 8192)                         \
	X(nblocks, "inode-blocks", SAFE, "", inode("/plain")->nblocks = 99)                        \
	X(nblocks_dir, "inode-field", FULL, "", inode("/dir")->nblocks = 99)                       \
	X(nentries, "dir-entries", SAFE, "", inode("/dir")->nentries = 0)                          \
	X(nentries_file, "inode-field", FULL, "", inode("/empty")->nentries = 1)                   \
	X(parent, "dir-parent", FULL, "", inode("/dir/sub")->parent = 1)                           \
	X(parent_wild, "dir-parent", FULL, "", inode("/dir/sub")->parent = UINT64_MAX)             \
	X(parent_root, "dir-parent", FULL, "", inode("/")->parent = 5)                             \
	X(parent_file, "inode-field", FULL, "", inode("/empty")->parent = 5)                       \
	X(symlink_wild, "symlink", FULL, "/symlink", inode("/symlink")->symlink = 99999)           \
	X(symlink_empty, "symlink", FULL, "/symlink", base[inode("/symlink")->symlink] = 0)        \
	X(symlink_file, "inode-field", FULL, "", inode("/empty")->symlink = 8192)                  \
	X(punch_reversed, "inode-punch", FULL, "", inode("/plain")->punch_first = 3)               \
	X(punch_dir, "inode-field", FULL, "", inode("/dir")->punch_end = 3)                        \
	X(flags, "inode-field", FULL, "", inode("/plain")->flags = 0x82)                           \
	X(reserved, "inode-field", FULL, "",                                                       \
	  inode("/plain")->reserved[PML_ARRAY_LEN(inode("/plain")->reserved) - 1] = 1)             \
	X(node_level, "tree-field", FULL, "", tree("/fragments")->level = 7)                       \
	X(node_level_leaf, "tree-field", FULL, "", leaf("/fragments")->level = 1)                  \
	X(node_level_wild, "tree-field", FULL, "", tree("/plain")->level = 999)                    \
	X(node_nkeys_none, "tree", FULL, "/fragments", leaf("/fragments")->nkeys = 0)              \
	X(node_nkeys_wild, "tree", FULL, "/fragments", leaf("/fragments")->nkeys = 43)             \
	X(node_reserved, "tree-field", FULL, "", tree("/plain")->reserved = 1)                     \
	X(node_reserved1, "tree-field", FULL, "", tree("/plain")->reserved1 = 1)                   \
	X(node_child_wild, "tree", FULL, "/fragments",                                             \
	  tree("/fragments")->entry[1].word[0] = 40960)                                            \
	X(node_child_twice, "tree", FULL, "/fragments",                                            \
	  tree("/fragments")->entry[1].word[0] = tree("/fragments")->entry[0].word[0])             \
	X(node_child_loop, "tree", FULL, "/fragments",                                             \
	  tree("/fragments")->entry[1].word[0] = inode("/fragments")->tree)                        \
	X(node_inner_key, "tree", FULL, "", tree("/fragments")->entry[1].key++)                    \
	X(node_leaf_key, "tree", FULL, "/fragments", leaf("/fragments")->entry[5].key = 1000000)   \
	X(node_leaf_key_back, "tree", FULL, "/fragments", leaf("/fragments")->entry[5].key = 3)    \
	X(node_dir_nkeys, "tree", FULL, "/dir", leaf("/dir")->nkeys = 0)                           \
	X(node_dir_key, "entry-key", FULL, "", middle(leaf("/dir"))->key ^= 1ull << 40)            \
	X(node_dir_inner_key, "tree", FULL, "", tree("/dir")->entry[2].key ^= 1ull << 62)          \
	X(extent_outside, "extent", FULL, "/fragments", leaf("/fragments")->entry[3].word[0] = 2)  \
	X(extent_wild, "extent", FULL, "/plain /hard",                                             \
	  leaf("/plain")->entry[0].word[0] = UINT64_MAX)                                           \
	X(extent_metadata, "extent", FULL, "/plain /hard",                                         \
	  leaf("/plain")->entry[0].word[0] = super()->itable[0] >> PML_BLOCK_SHIFT)                \
	X(extent_empty, "extent", FULL, "/plain /hard", leaf("/plain")->entry[0].word[1] = 0)      \
	X(extent_flags, "extent", FULL, "/plain /hard",                                            \
	  leaf("/plain")->entry[0].word[1] |= 1ull << 40)                                          \
	X(extent_far, "extent", FULL, "/plain /hard", leaf("/plain")->entry[0].key = 1ull << 60)   \
	X(extent_long, "extent", FULL, "/plain /hard",                                             \
	  leaf("/plain")->entry[0].word[1] = 0x7fffffff)                                           \
	X(extent_overlap, "extent-overlap", FULL, "/fragments",                                    \
	  leaf("/fragments")->entry[3].word[1] = 3)                                                \
	X(extent_shared, "extent-shared", FULL, "/plain /hard",                                    \
	  leaf("/plain")->entry[0].word[1] |= PML_EXTENT_UNWRITTEN)                                \
	X(entry_object, "entry", FULL, "/plain /hard", entry("plain")->word[0] += 8)               \
	X(entry_object_twice, "entry", FULL, "/plain /clone /hard",                                \
	  entry("plain")->word[0] = entry("clone")->word[0])                                       \
	X(entry_number, "entry-field", FULL, "", entry("plain")->word[1] = number("/dir"))         \
	X(entry_number_free, "entry-field", FULL, "", entry("plain")->word[1] = 500)               \
	X(entry_number_both, "entry", FULL, "/fifo", entry("fifo")->word[1] = number("/plain");    \
	  dirent(entry("fifo"))->type = S_IFBLK)                                                   \
	X(dirent_ino, "entry-field", FULL, "", dirent(entry("plain"))->ino = 1ull << 40)           \
	X(dirent_free, "entry-free", FULL, "/empty", entry("empty")->word[1] = 500;                \
	  dirent(entry("empty"))->ino = 500)                                                       \
	X(dirent_root, "entry", FULL, "/empty", entry("empty")->word[1] = 1;                       \
	  dirent(entry("empty"))->ino = 1; dirent(entry("empty"))->type = S_IFDIR)                 \
	X(dirent_type, "entry-field", FULL, "", dirent(entry("plain"))->type = S_IFDIR)            \
	X(dirent_type_wild, "entry-field", FULL, "", dirent(entry("plain"))->type = 0xffff0000u)   \
	X(dirent_name_none, "entry", FULL, "/plain /hard", dirent(entry("plain"))->name_bytes = 0) \
	X(dirent_name_long, "entry", FULL, "/plain /hard",                                         \
	  dirent(entry("plain"))->name_bytes = 300)                                                \
	X(dirent_name_slash, "entry", FULL, "/plain /hard", dirent(entry("plain"))->name[1] = '/') \
	X(dirent_name_zero, "entry", FULL, "/plain /hard", dirent(entry("plain"))->name[1] = 0)    \
	X(dirent_name_dots, "entry", FULL, "/plain /hard", name_dots())                            \
	X(dirent_name_other, "entry-key", FULL, "/plain /hard",                                    \
	  dirent(entry("plain"))->name[0] = 'q')                                                   \
	X(dirent_name_moved, "entry-key", FULL, "/plain /hard", rename_plain())                    \
	X(dirent_name_twice, "entry-twice", FULL, "/plain /hard", name_twice())                    \
	X(dir_twice, "dir-twice", FULL, "/empty", entry("empty")->word[1] = number("/dir/sub");    \
	  dirent(entry("empty"))->ino = number("/dir/sub");                                        \
	  dirent(entry("empty"))->type = S_IFDIR)                                                  \
	X(dir_loop, "dir-loop", FULL, "/dir", make_loop())                                         \
	X(feature_xattr, "super-field", FULL, "", super()->feature_ro_compat = 0)                  \
	X(xattr_wild, "tree", FULL, "/attributes", inode("/attributes")->xattr = 77)               \
	X(xattr_none, "leak", SAFE, "/attributes", inode("/attributes")->xattr = 0)                \
	X(xattr_is_tree, "tree", FULL, "/attributes /plain /hard",                                 \
	  inode("/attributes")->xattr = inode("/plain")->tree)                                     \
	X(xattr_node, "tree", FULL, "/attributes", xattr_leaf("/attributes")->nkeys = 0)           \
	X(xattr_key, "entry-key", FULL, "", middle(xattr_leaf("/attributes"))->key++;              \
	  middle(xattr_leaf("/attributes"))->key ^= 1ull << 33)                                    \
	X(xattr_object, "xattr", FULL, "/attributes",                                              \
	  middle(xattr_leaf("/attributes"))->word[0]--)                                            \
	X(xattr_sizes, "xattr-field", FULL, "", middle(xattr_leaf("/attributes"))->word[1]++)      \
	X(xattr_sizes_wild, "xattr-field", FULL, "",                                               \
	  middle(xattr_leaf("/attributes"))->word[1] = UINT64_MAX)                                 \
	X(xattr_value_bytes, "xattr-field", FULL, "",                                              \
	  xattr("/attributes")->value_bytes = UINT32_MAX)                                          \
	X(xattr_name_bytes, "xattr-field", FULL, "", xattr("/attributes")->name_bytes--)           \
	X(xattr_name, "entry-key", FULL, "/attributes", xattr("/attributes")->name[5] ^= 1)        \
	X(xattr_name_zero, "xattr", FULL, "/attributes", xattr("/attributes")->name[5] = 0)        \
	X(acl_version, "xattr", FULL, "/acl", xattr("/acl")->name[xattr("/acl")->name_bytes] = 9)  \
	X(acl_mode, "xattr-field", FULL, "", inode("/acl")->mode ^= 0020)                          \
	X(acl_file, "xattr", FULL, "/acl /other", inode("/acl")->xattr = inode("/other")->xattr;   \
	  inode("/other")->xattr = 0)                                                              \
	X(spare_wild, "tree", FULL, "", inode("/plain")->spare_tree = 77)                          \
	X(spare_is_tree, "tree", FULL, "/plain /hard /clone",                                      \
	  inode("/plain")->spare_tree = inode("/clone")->tree)                                     \
	X(spare_dir, "inode-field", FULL, "", inode("/dir")->spare_tree = 8192)                    \
	X(unreached_file, "unreached", FULL, "/fifo /empty",                                       \
	  entry("fifo")->word[1] = number("/empty");                                               \
	  *dirent(entry("fifo")) = *dirent(entry("empty")))                                        \
	X(unreached_dir, "unreached", FULL, "/dir", entry("dir")->word[1] = 500;                   \
	  dirent(entry("dir"))->ino = 500)

static void name_dots(void)
{
	struct pml_media_dirent *plain = dirent(entry("plain"));
	plain->name_bytes = 2;
	memset(plain->name, '.', 2);
}

static void rename_plain(void)
{
	memcpy(dirent(entry("plain"))->name, "clone", 5);
}

/* Two entries "clone", each with a key of that name. */
static void name_twice(void)
{
	struct pml_media_btree_node *n = tree("/");
	struct pml_media_btree_entry moved = *entry("plain");
	rename_plain();
	unsigned int i = 0, to = 0;
	while (n->entry[i].word[0] != moved.word[0])
		i++;
	memmove(&n->entry[i], &n->entry[i + 1], (n->nkeys - i - 1u) * sizeof(moved));
	while (n->entry[to].word[1] != number("/clone"))
		to++;
	moved.key = n->entry[to].key + 1;
	memmove(&n->entry[to + 2], &n->entry[to + 1], (n->nkeys - to - 2u) * sizeof(moved));
	n->entry[to + 1] = moved;
}

/* The only valid type of this one is gone, and so are its names. */
static void break_mode(void)
{
	entry("plain")->word[0] += 8;
	entry("hard")->word[0] += 8;
}

/* /dir is no longer in the root but in /dir/sub, instead of "deep". */
static void make_loop(void)
{
	struct pml_media_btree_entry *deep = &tree("/dir/sub")->entry[0];
	uint64_t deep_ino = number("/dir/sub/deep");
	deep->word[1] = dirent(deep)->ino = number("/dir");
	dirent(deep)->type = S_IFDIR;
	struct pml_media_btree_entry *dir = entry("dir");
	dir->word[1] = dirent(dir)->ino = deep_ino;
	dirent(dir)->type = S_IFREG;
}

#define DAMAGE_FUNCTION(id, finding, level, hurt, ...) DAMAGE(id, __VA_ARGS__)
DAMAGES(DAMAGE_FUNCTION)

static const struct damage damages[] = {
#define DAMAGE_ROW(id, finding, level, hurt, ...) {#id, damage_##id, finding, level, hurt},
	DAMAGES(DAMAGE_ROW)};

/* ---- checking ---------------------------------------------------------------------------- */

struct report {
	char kinds[4096]; /* " kind kind ..." */
	char lines[8192];
};

static void take_finding(void *arg, const struct pml_check_finding *f)
{
	struct report *r = arg;
	size_t n = strlen(r->kinds), m = strlen(r->lines);
	if (f->outcome != PML_CHECK_NOTE)
		(void)snprintf(r->kinds + n, sizeof(r->kinds) - n, " %s ", f->name);
	(void)snprintf(r->lines + m, sizeof(r->lines) - m, "#   [%s %d] %s: %s\n", f->name,
		       f->outcome, f->text, f->action);
}

static int check(enum pml_check_mode mode, struct pml_check_result *ret_result,
		 struct report *ret_report)
{
	char reason[PML_REASON_BYTES];
	memset(ret_report, 0, sizeof(*ret_report));
	const struct pml_check_options options = {
		.mode = mode, .report = take_finding, .arg = ret_report};
	return pml_fs_check(copy.path, &options, ret_result, reason);
}

/* Mounts the copy, which the checker has called clean. */
static void check_mounted(const char *name, const char *hurt)
{
	int err = fs_pool_try_open(&copy);
	if (err) {
		TAP_FAIL("%s: mount: %s", name, strerror(-err));
		return;
	}
	const char *fault = fs_check(copy.fs);
	if (*fault)
		TAP_FAIL("%s: %s", name, fault);
	list_all(&copy, other_lines);
	fs_pool_close(&copy);
	compare_lines(name, hurt);
}

static void run_damage(const struct damage *d)
{
	struct pml_check_result result;
	struct report found, report;
	char kind[64];
	copy_begin();
	d->apply();
	copy_end();

	int err = check(PML_CHECK_NOTHING, &result, &found);
	(void)snprintf(kind, sizeof(kind), " %s ", d->finding);
	if (err || !strstr(found.kinds, kind) || result.nleft == 0 || result.nrepaired)
		TAP_FAIL("%s: not found: %d, kinds%s", d->name, err, found.kinds);
	err = check(PML_CHECK_SAFE, &result, &report);
	if (err || (result.nleft == 0) != (d->level == SAFE))
		TAP_FAIL("%s: safe repair: %d, %llu left\n%s", d->name, err,
			 (unsigned long long)result.nleft, report.lines);
	err = check(PML_CHECK_ALL, &result, &report);
	if (err || (result.nleft != 0) != (d->level == LEFT) ||
	    (result.nrepaired == 0) != (d->level != FULL))
		TAP_FAIL("%s: repair: %d, %llu repaired, %llu left\n%s", d->name, err,
			 (unsigned long long)result.nrepaired, (unsigned long long)result.nleft,
			 report.lines);
	struct report again;
	err = check(PML_CHECK_NOTHING, &result, &again);
	if (err || (result.nleft != 0) != (d->level == LEFT))
		TAP_FAIL("%s: not clean after repair: %d\n%s# repair was\n%s", d->name, err,
			 again.lines, report.lines);
	else if (d->level != LEFT)
		check_mounted(d->name, d->hurt);
	if (atomic_load(&tap_bad) && getenv("PML_VERBOSE"))
		printf("# %s found\n%s", d->name, found.lines);
}

static void test_every_field_is_checked_and_repaired(void)
{
	const char *only = getenv("PML_CASE");
	for (size_t i = 0; i < PML_ARRAY_LEN(damages); i++)
		if (!only || strcmp(only, damages[i].name) == 0)
			run_damage(&damages[i]);
}

/* ---- random damage -------------------------------------------------------------------------- */

static uint64_t random_state;

static uint64_t draw(uint64_t below)
{
	/* splitmix64 */
	uint64_t z = random_state += 0x9e3779b97f4a7c15ull;
	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
	return (z ^ (z >> 31)) % below;
}

static void damage_word(void)
{
	size_t i = draw(nobjects + 1);
	/* Of the super block the part that is not all zeros. */
	uint64_t offset = i == nobjects ? super_at : objects[i].offset;
	uint64_t bytes = i == nobjects ? 512 : PML_MIN(objects[i].bytes, (uint64_t)65536);
	if (bytes > 4096 && i != nobjects && draw(2))
		bytes = 4096;
	uint64_t at = offset + draw(bytes / 8) * 8;
	uint64_t *word = (uint64_t *)(void *)(base + at);
	switch (draw(7)) {
	case 0:
		*word = 0;
		break;
	case 1:
		*word = UINT64_MAX;
		break;
	case 2:
		*word ^= 1ull << draw(64);
		break;
	case 3:
		*word = objects[draw(nobjects)].offset;
		break;
	case 4:
		*word += draw(3) - 1;
		break;
	case 5:
		base[at + draw(8)] = (uint8_t)draw(256);
		break;
	default:
		*word = draw(UINT64_MAX);
	}
}

static void test_random_damage_never_kills_and_is_repaired(void)
{
	const char *given = getenv("PML_SEED");
	uint64_t seed = given ? strtoull(given, NULL, 0) : 1;
	unsigned int rounds = given ? 1 : 100, unrepaired = 0, refused = 0;
	for (unsigned int i = 0; i < rounds; i++) {
		struct pml_check_result result;
		struct report report, again;
		random_state = seed + i;
		copy_begin();
		for (uint64_t n = 1 + draw(12); n > 0; n--)
			damage_word();
		copy_end();
		int err = check(PML_CHECK_ALL, &result, &report);
		if (err) {
			CHECK(err == -EMEDIUMTYPE || err == -EUCLEAN);
			refused++;
			continue;
		}
		if (result.nleft) {
			unrepaired++;
			continue;
		}
		err = check(PML_CHECK_NOTHING, &result, &again);
		if (err || result.nleft)
			TAP_FAIL("PML_SEED=%llu: not clean after repair: %d\n%s# repair was\n%s",
				 (unsigned long long)seed + i, err, again.lines, report.lines);
		char name[64];
		(void)snprintf(name, sizeof(name), "PML_SEED=%llu", (unsigned long long)seed + i);
		check_mounted(name, "*");
	}
	printf("# of %u, %u were refused and %u could not be repaired\n", rounds, refused,
	       unrepaired);
	CHECK(given || unrepaired < rounds / 4);
}

/* ---- other ------------------------------------------------------------------------------------
 */

static void test_a_sound_filesystem_is_clean_and_left_alone(void)
{
	struct pml_check_result result;
	struct report report;
	static const enum pml_check_mode modes[] = {PML_CHECK_NOTHING, PML_CHECK_SAFE,
						    PML_CHECK_ALL};
	copy_begin();
	copy_end();
	for (size_t i = 0; i < PML_ARRAY_LEN(modes); i++) {
		CHECK_EQ(check(modes[i], &result, &report), 0);
		CHECK_STR(report.lines, "");
		CHECK_EQ(result.nleft + result.nrepaired, 0);
		CHECK_EQ(result.directories, 4);
		CHECK_EQ(result.files, MANY + 12);
	}
	check_mounted("sound", "");
}

static void test_unknown_features_and_versions_are_refused(void)
{
	struct pml_check_result result;
	struct report report;
	static const size_t field[] = {offsetof(struct pml_media_super, feature_compat),
				       offsetof(struct pml_media_super, feature_ro_compat),
				       offsetof(struct pml_media_super, feature_incompat)};
	for (size_t i = 0; i < PML_ARRAY_LEN(field); i++) {
		copy_begin();
		*(uint32_t *)(void *)(base + super_at + field[i]) |= 0x40000000u;
		copy_end();
		CHECK_EQ(check(PML_CHECK_ALL, &result, &report), -EMEDIUMTYPE);
		/* A mount minds but those that only a checker must know. */
		CHECK_EQ(fs_pool_try_open(&copy), i == 0 ? 0 : -EMEDIUMTYPE);
		fs_pool_close(&copy);
	}
}

static void test_a_device_in_use_is_refused(void)
{
	struct pml_check_result result;
	struct report report;
	copy_begin();
	copy_end();
	fs_pool_reopen(&copy);
	CHECK_EQ(check(PML_CHECK_NOTHING, &result, &report), -EBUSY);
	CHECK_EQ(check(PML_CHECK_ALL, &result, &report), -EBUSY);
	fs_pool_close(&copy);
}

static void test_checking_only_changes_no_byte(void)
{
	struct pml_check_result result;
	struct report report;
	copy_begin();
	damage_nlink_none();
	damage_extent_overlap();
	damage_dir_loop();
	uint8_t *before = malloc(size_bytes);
	if (!before)
		BAIL_OUT("no memory");
	memcpy(before, base, size_bytes);
	CHECK_EQ(check(PML_CHECK_NOTHING, &result, &report), 0);
	CHECK(result.nleft >= 3);
	CHECK(memcmp(before, base, size_bytes) == 0);
	free(before);
	copy_end();
}

/* Nothing is walked that libpmemobj's damaged structures would lead to. */
static void test_a_damaged_heap_is_reported_and_left(void)
{
	struct pml_check_result result;
	struct report report;
	struct pml_heap heap;
	copy_begin();
	pml_heap_init(&heap, base, size_bytes);
	memset(base + heap.offset, 0xff, 64);
	copy_end();
	CHECK_EQ(check(PML_CHECK_ALL, &result, &report), 0);
	CHECK(result.nleft > 0);
	CHECK_EQ(result.nrepaired, 0);
	CHECK(strstr(report.kinds, " heap ") != NULL);
	CHECK_EQ(fs_pool_try_open(&copy), -EUCLEAN);
}

/* A snapshot that was not finished: its directory has no links, and no name yet. */
static void test_a_hidden_tree_is_pending_not_lost(void)
{
	struct pml_check_result result;
	struct report report;
	copy_begin();
	/* The entry goes to a file's second name, so that nothing leaks. */
	struct pml_media_btree_entry *e = entry("dir");
	e->word[1] = dirent(e)->ino = number("/empty");
	dirent(e)->type = S_IFREG;
	inode("/empty")->nlink = 2;
	inode("/")->nlink--;
	inode("/dir")->nlink = 0;
	super()->feature_ro_compat |= PML_FEATURE_RO_HIDDEN;
	copy_end();
	CHECK_EQ(check(PML_CHECK_NOTHING, &result, &report), 0);
	CHECK_STR(report.lines, "");
	CHECK_EQ(result.nleft, 0);
	CHECK_EQ(result.norphans, 1);
	CHECK_EQ(check(PML_CHECK_SAFE, &result, &report), 0);
	CHECK_EQ(check(PML_CHECK_NOTHING, &result, &report), 0);
	CHECK_EQ(result.nleft + result.norphans, 0);
	CHECK_EQ(result.directories, 2);
	check_mounted("hidden", "/dir /empty");
}

/* A crash leaves these; they are no errors, and a repair finishes them. */
static void test_orphans_and_punch_markers_are_no_errors(void)
{
	struct pml_check_result result;
	struct report report;
	copy_begin();
	/* As unlink leaves it while the file is open: the name is gone. */
	struct pml_media_btree_node *n = tree("/dir/sub");
	uint64_t lost = n->entry[0].word[0];
	CHECK_EQ(n->nkeys, 1);
	inode("/dir/sub")->tree = 0;
	inode("/dir/sub")->nentries = 0;
	(void)lost;
	inode("/dir/sub/deep")->nlink = 0;
	inode("/fragments")->punch_first = 100;
	inode("/fragments")->punch_end = UINT64_MAX;
	copy_end();
	CHECK_EQ(check(PML_CHECK_NOTHING, &result, &report), 0);
	CHECK_EQ(result.nleft, 2); /* node and entry, which were cut off by hand */
	CHECK_EQ(result.norphans, 1);
	CHECK_EQ(result.npunches, 1);
	CHECK_EQ(check(PML_CHECK_SAFE, &result, &report), 0);
	CHECK_EQ(result.nleft, 0);
	CHECK_EQ(check(PML_CHECK_NOTHING, &result, &report), 0);
	CHECK_EQ(result.nleft + result.norphans + result.npunches, 0);
	check_mounted("orphan", "/dir/sub/deep /fragments");
}

static bool say_no(void *arg, const char *text, const char *action)
{
	return false;
}

static bool say_yes(void *arg, const char *text, const char *action)
{
	return true;
}

static void test_asking_decides(void)
{
	char reason[PML_REASON_BYTES];
	struct pml_check_result result;
	copy_begin();
	damage_nlink_more();
	damage_dirent_type();
	copy_end();
	struct pml_check_options options = {.mode = PML_CHECK_ASK, .ask = say_no};
	CHECK_EQ(pml_fs_check(copy.path, &options, &result, reason), 0);
	CHECK_EQ(result.nleft, 2);
	CHECK_EQ(result.nrepaired, 0);
	options.ask = say_yes;
	CHECK_EQ(pml_fs_check(copy.path, &options, &result, reason), 0);
	CHECK_EQ(result.nleft, 0);
	CHECK_EQ(result.nrepaired, 2);
	check_mounted("asked", "");
}

static bool cancel(void *arg)
{
	return true;
}

static void test_it_can_be_cancelled(void)
{
	char reason[PML_REASON_BYTES];
	struct pml_check_result result;
	copy_begin();
	copy_end();
	const struct pml_check_options options = {.mode = PML_CHECK_ALL, .is_cancelled = cancel};
	CHECK_EQ(pml_fs_check(copy.path, &options, &result, reason), -ECANCELED);
	check_mounted("cancelled", "");
}

/* ---- the ground
 * ---------------------------------------------------------------------------------- */

static void make_ground(void)
{
	fs_pool_make(&ground, FS_POOL_BYTES);
	struct pml_inode *root = fs_pool_root(&ground);
	fill(root);
	pml_inode_put(root, 1);
	struct pml_fs *fs = ground.fs;
	for (size_t i = 0; i < PML_ARRAY_LEN(known); i++)
		known[i].ino = ino_of(fs, known[i].path);
	super_at = pml_offset_of(fs, fs->super);
	size_bytes = fs->info.size_bytes;
	for (PMEMoid oid = pmemobj_first(fs->pool); !OID_IS_NULL(oid); oid = pmemobj_next(oid)) {
		if (pmemobj_type_num(oid) == PML_TYPE_GROUP || nobjects == PML_ARRAY_LEN(objects))
			continue;
		objects[nobjects].offset = oid.off;
		objects[nobjects++].bytes = pmemobj_alloc_usable_size(oid);
	}
	list_all(&ground, ground_lines);
	CHECK_STR(fs_check(fs), "");
	fs_pool_close(&ground);
	fs_pool_make(&copy, FS_POOL_BYTES);
	fs_pool_close(&copy);
}

int main(void)
{
	make_ground();
	TAP_RUN(test_a_sound_filesystem_is_clean_and_left_alone);
	TAP_RUN(test_every_field_is_checked_and_repaired);
	TAP_RUN(test_unknown_features_and_versions_are_refused);
	TAP_RUN(test_a_device_in_use_is_refused);
	TAP_RUN(test_checking_only_changes_no_byte);
	TAP_RUN(test_orphans_and_punch_markers_are_no_errors);
	TAP_RUN(test_a_damaged_heap_is_reported_and_left);
	TAP_RUN(test_a_hidden_tree_is_pending_not_lost);
	TAP_RUN(test_asking_decides);
	TAP_RUN(test_it_can_be_cancelled);
	TAP_RUN(test_random_damage_never_kills_and_is_repaired);
	fs_pool_remove(&copy);
	fs_pool_remove(&ground);
	return tap_done();
}
