/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_namespace_faults.c -- namespace operations when something is wrong: a failing
 * transaction at every place (I8), a full device, equal hashes, hostile structures
 */
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>

#include "../../fs/dir.h"
#include "../../fs/itable.h"
#include "../../fs/tx.h"
#include "../support/fs_faults.h"

#define FILE_MODE (S_IFREG | 0644)
#define DIR_MODE  (S_IFDIR | 0755)

/* ---- helpers ------------------------------------------------------------ */

static uint64_t inodes_in_use(void)
{
	struct pml_fs_counts counts;
	pml_fs_counts(pool.fs, &counts);
	return counts.inodes;
}

static bool count_entry(void *arg, const struct pml_dirent *entry)
{
	++*(uint64_t *)arg;
	return true;
}

/* ---- every transaction fails at every place ------------------------------ */

static struct pml_inode *d, *e;

static int op_create(void)
{
	return make(root, "new", FILE_MODE);
}

static int op_mkdir(void)
{
	return make(d, "newdir", DIR_MODE);
}

static int op_symlink(void)
{
	return make(d, "newlink", S_IFLNK | 0777);
}

static int op_link(void)
{
	struct pml_inode *inode;
	int err = pml_dir_lookup(root, "new", &inode);
	if (err)
		return err;
	err = pml_dir_link(e, "hard", inode);
	pml_inode_put(inode, 1);
	return err;
}

static int op_set(void)
{
	const struct stat attr = {.st_mode = 0123, .st_uid = 4};
	return pml_inode_set(d, PML_SET_MODE | PML_SET_UID | PML_SET_ATIME, &attr);
}

static int op_rename_file(void)
{
	return pml_dir_rename(root, "new", d, "moved", 0);
}

static int op_rename_directory(void)
{
	return pml_dir_rename(d, "newdir", e, "newdir", 0);
}

static int op_exchange(void)
{
	return pml_dir_rename(e, "newdir", d, "moved", RENAME_EXCHANGE);
}

static int op_replace_file(void)
{
	return pml_dir_rename(d, "newlink", e, "hard", 0);
}

static int op_replace_directory(void)
{
	return pml_dir_rename(root, "f", d, "moved", 0);
}

static int op_whiteout(void)
{
	const struct pml_cred cred = {.uid = 1, .gid = 2};
	return pml_dir_rename_whiteout(e, "newdir", root, "white", 0, &cred);
}

static struct pml_inode *unnamed;

static int op_create_unnamed(void)
{
	const struct pml_create_args args = {.mode = FILE_MODE};
	return pml_dir_create_unnamed(d, &args, &unnamed);
}

static int op_link_unnamed(void)
{
	return pml_dir_link(d, "was-unnamed", unnamed);
}

static int op_rmdir(void)
{
	return pml_dir_rmdir(d, "moved");
}

static int op_unlink(void)
{
	return pml_dir_unlink(e, "hard");
}

static void test_failed_operations_change_nothing(void)
{
	begin();
	char name[16];
	/* With the root and these no number is free: the first create makes a chunk. */
	for (unsigned int i = 0; i < PML_CHUNK_INODES - 4; i++) {
		(void)snprintf(name, sizeof(name), "f%u", i);
		CHECK_EQ(make(root, name, FILE_MODE), 0);
	}
	d = fs_pool_create(root, "d", DIR_MODE);
	e = fs_pool_create(root, "e", DIR_MODE);
	struct pml_inode *f = fs_pool_create(root, "f", DIR_MODE);
	CHECK_EQ(inodes_in_use(), PML_CHUNK_INODES);
	SWEEP(op_create);
	SWEEP(op_mkdir);
	/* Held, so that nothing is freed while failures are on. */
	struct pml_inode *held[3];
	REQUIRE(pml_dir_lookup(root, "new", &held[0]) == 0);
	REQUIRE(pml_dir_lookup(d, "newdir", &held[1]) == 0);
	SWEEP(op_symlink);
	REQUIRE(pml_dir_lookup(d, "newlink", &held[2]) == 0);
	SWEEP(op_link);
	SWEEP(op_set);
	SWEEP(op_rename_file);
	SWEEP(op_rename_directory);
	SWEEP(op_exchange);
	SWEEP(op_replace_file);
	SWEEP(op_replace_directory);
	SWEEP(op_whiteout);
	SWEEP(op_create_unnamed);
	SWEEP(op_link_unnamed);
	pml_inode_put(unnamed, 1);
	SWEEP(op_rmdir);
	SWEEP(op_unlink);
	for (size_t i = 0; i < PML_ARRAY_LEN(held); i++)
		pml_inode_put(held[i], 1);
	pml_inode_put(d, 1);
	pml_inode_put(e, 1);
	pml_inode_put(f, 1);
	uint64_t before = fs_digest(pool.fs);
	reopen();
	CHECK(fs_digest(pool.fs) == before);
	end();
}

static void test_failed_freeing_is_finished_at_mount(void)
{
	begin();
	struct pml_fs_counts counts;
	pml_fs_counts(pool.fs, &counts);
	uint64_t used_blocks = counts.used_blocks;
	for (unsigned int from = 1;; from++) {
		struct pml_inode *file = fs_pool_create(root, "f", FILE_MODE);
		char byte = 1;
		for (uint64_t i = 0; i < 5; i++)
			CHECK_EQ(pml_file_write(file, &byte, 1, i * 10000, false, NULL), 0);
		CHECK_EQ(pml_dir_unlink(root, "f"), 0);
		arm(from);
		pml_inode_put(file, 1);
		bool fired = disarm();
		pml_fs_counts(pool.fs, &counts);
		CHECK_EQ(counts.inodes, fired ? 2 : 1);
		CHECK_STR(fs_check(pool.fs), "");
		reopen();
		pml_fs_counts(pool.fs, &counts);
		CHECK_EQ(counts.inodes, 1);
		CHECK_EQ(counts.used_blocks, used_blocks);
		if (!fired)
			break;
	}
	end();
}

static void test_full_device_can_be_emptied(void)
{
	begin();
	char name[PML_NAME_BYTES_MAX + 1];
	unsigned int n = 0;
	int err = 0;
	uint64_t before = 0;
	for (; !err; n++) {
		(void)snprintf(name, sizeof(name), "%0*u", (int)PML_NAME_BYTES_MAX, n);
		err = make(root, name, FILE_MODE);
	}
	n--;
	CHECK_EQ(err, -ENOSPC);
	CHECK_EQ(inodes_in_use(), n + 1);
	before = fs_digest(pool.fs);
	/* A short name may still fit. */
	while (!err || err == -EEXIST)
		err = make(root, name, DIR_MODE);
	CHECK_EQ(err, -ENOSPC);
	CHECK(fs_digest(pool.fs) == before);
	CHECK_STR(fs_check(pool.fs), "");
	printf("# %u files\n", n);
	for (unsigned int i = 0; i < n; i++) {
		(void)snprintf(name, sizeof(name), "%0*u", (int)PML_NAME_BYTES_MAX, i);
		err = pml_dir_unlink(root, name);
		if (err)
			BAIL_OUT("unlink %u of %u: %s", i, n, strerror(-err));
	}
	CHECK_EQ(inodes_in_use(), 1);
	CHECK_EQ(make(root, "f", FILE_MODE), 0);
	end();
}

/* ---- equal hashes -------------------------------------------------------- */

static uint64_t hash_lowest(const unsigned char *name, size_t bytes)
{
	return 0;
}

static uint64_t hash_highest(const unsigned char *name, size_t bytes)
{
	return UINT64_MAX;
}

/* Neighbouring hashes for names that begin with neighbouring letters. */
static uint64_t hash_by_letter(const unsigned char *name, size_t bytes)
{
	return (uint64_t)name[0] << 8;
}

static void check_equal_hashes(char letter)
{
	enum { SAME = 256 };
	char name[16];
	for (int i = 0; i < SAME; i++) {
		(void)snprintf(name, sizeof(name), "%c%d", letter, i);
		CHECK_EQ(make(root, name, FILE_MODE), 0);
		CHECK_EQ(make(root, name, FILE_MODE), -EEXIST);
	}
	uint64_t before = fs_digest(pool.fs), n = 0;
	(void)snprintf(name, sizeof(name), "%c256", letter);
	CHECK_EQ(make(root, name, FILE_MODE), -ENOSPC);
	CHECK(fs_digest(pool.fs) == before);
	CHECK_EQ(pml_dir_read(root, 0, count_entry, &n), 0);
	CHECK(n >= SAME + 2);
	/* A gap is filled, and does not hide what lies behind it. */
	(void)snprintf(name, sizeof(name), "%c100", letter);
	CHECK_EQ(pml_dir_unlink(root, name), 0);
	CHECK_EQ(look(root, name), -ENOENT);
	(void)snprintf(name, sizeof(name), "%c255", letter);
	CHECK(look(root, name) > 0);
	(void)snprintf(name, sizeof(name), "%c256", letter);
	CHECK_EQ(make(root, name, FILE_MODE), 0);
	CHECK(look(root, name) > 0);
	CHECK_STR(fs_check(pool.fs), "");
}

static void test_names_of_equal_hash_are_told_apart(void)
{
	uint64_t (*const hashes[])(const unsigned char *, size_t) = {hash_lowest, hash_highest};
	for (size_t i = 0; i < PML_ARRAY_LEN(hashes); i++) {
		begin();
		fake_hash = hashes[i];
		check_equal_hashes('x');
		/* Source and target of a rename have one hash. */
		CHECK_EQ(pml_dir_rename(root, "x1", root, "x2", 0), 0);
		CHECK_EQ(look(root, "x1"), -ENOENT);
		CHECK_EQ(pml_dir_rename(root, "x2", root, "x1", 0), 0);
		CHECK_EQ(pml_dir_rename(root, "x1", root, "x3", RENAME_EXCHANGE), 0);
		end();
		fake_hash = NULL;
	}
}

static void test_full_hash_does_not_spill_over(void)
{
	begin();
	fake_hash = hash_by_letter;
	check_equal_hashes('a');
	CHECK_EQ(make(root, "a999", FILE_MODE), -ENOSPC);
	check_equal_hashes('b');
	CHECK_EQ(make(root, "a999", FILE_MODE), -ENOSPC);
	CHECK_EQ(look(root, "a999"), -ENOENT);
	end();
	fake_hash = NULL;
}

/* ---- hostile structures -------------------------------------------------- */

/* The entry of a name as it lies on the device. */
static struct pml_media_dirent *dirent_of(struct pml_inode *dir, const char *name)
{
	struct pml_dir_entry entry;
	if (pml_dir_find(pool.fs, dir->media, name, strlen(name), &entry))
		BAIL_OUT("find %s", name);
	return pml_at(pool.fs, entry.object);
}

/* Is every way to the entry an error, and none of them fatal? */
static void check_entry_is_refused(const char *name)
{
	uint64_t n = 0;
	CHECK_EQ(look(root, name), -EIO);
	CHECK_EQ(make(root, name, FILE_MODE), -EIO);
	CHECK_EQ(pml_dir_unlink(root, name), -EIO);
	CHECK_EQ(pml_dir_rmdir(root, name), -EIO);
	CHECK_EQ(pml_dir_rename(root, name, root, "x", 0), -EIO);
	CHECK_EQ(pml_dir_rename(root, "d", root, name, 0), -EIO);
	CHECK_EQ(pml_dir_read(root, 0, count_entry, &n), -EIO);
}

static void test_bad_entries_are_refused(void)
{
	static const uint32_t bad_bytes[] = {0, 256, UINT32_MAX};
	static const uint32_t bad_types[] = {0, S_IFMT, S_IFREG | 0644, UINT32_MAX};
	static const uint64_t bad_inos[] = {0, PML_INO_MAX + 1, UINT64_MAX, PML_ROOT_INO};
	begin();
	CHECK_EQ(make(root, "f", FILE_MODE), 0);
	CHECK_EQ(make(root, "d", DIR_MODE), 0);
	struct pml_media_dirent *dirent = dirent_of(root, "f");
	const struct pml_media_dirent good = *dirent;
	for (size_t i = 0; i < PML_ARRAY_LEN(bad_bytes); i++) {
		dirent->name_bytes = bad_bytes[i];
		check_entry_is_refused("f");
		dirent->name_bytes = good.name_bytes;
	}
	for (size_t i = 0; i < PML_ARRAY_LEN(bad_types); i++) {
		dirent->type = bad_types[i];
		check_entry_is_refused("f");
		dirent->type = good.type;
	}
	for (size_t i = 0; i < PML_ARRAY_LEN(bad_inos); i++) {
		dirent->ino = bad_inos[i];
		check_entry_is_refused("f");
		dirent->ino = good.ino;
	}
	end();
}

/* Puts words into the tree that pml_dir_add() would not. */
static void set_words(const char *name, uint64_t object, uint64_t ino)
{
	struct pml_dir_entry entry;
	struct pml_tx tx;
	if (pml_dir_find(pool.fs, root->media, name, strlen(name), &entry))
		BAIL_OUT("find %s", name);
	const struct pml_btree_item item = {.key = entry.key, .word = {object, ino}};
	int err = pml_tx_begin(pool.fs, &tx);
	if (!err)
		err = pml_tx_end(&tx, pml_btree_update(pool.fs, &root->media->tree, &item));
	if (err)
		BAIL_OUT("update: %s", strerror(-err));
}

static void test_bad_offsets_are_refused(void)
{
	begin();
	const uint64_t bad[] = {0, 1, FS_POOL_BYTES - 8, FS_POOL_BYTES, UINT64_MAX & ~7ull};
	for (size_t i = 0; i < PML_ARRAY_LEN(bad); i++) {
		char name[16];
		CHECK_EQ(make(root, "f", FILE_MODE), 0);
		int64_t ino = look(root, "f");
		set_words("f", bad[i], (uint64_t)ino);
		CHECK_EQ(look(root, "f"), -EIO);
		CHECK_EQ(pml_dir_unlink(root, "f"), -EIO);
		(void)snprintf(name, sizeof(name), "g%zu", i);
		CHECK_EQ(make(root, name, FILE_MODE), 0);
		pml_inode_put(root, 1);
		fs_pool_remove(&pool);
		fs_pool_make(&pool, FS_POOL_BYTES);
		root = fs_pool_root(&pool);
	}
	end();
}

static void test_entry_and_inode_must_agree(void)
{
	begin();
	CHECK_EQ(make(root, "f", FILE_MODE), 0);
	struct pml_inode *dir = fs_pool_create(root, "d", DIR_MODE);
	CHECK_EQ(make(dir, "s", DIR_MODE), 0);
	uint64_t ino = (uint64_t)look(root, "f");
	struct pml_media_inode *media;
	REQUIRE(pml_itable_at(pool.fs, ino, &media) == 0);
	const struct pml_media_inode good = *media;
	media->nlink = 0;
	CHECK_EQ(look(root, "f"), -EIO);
	*media = good;
	media->mode = 0;
	CHECK_EQ(look(root, "f"), -EIO);
	*media = good;
	media->mode = DIR_MODE;
	CHECK_EQ(look(root, "f"), -EIO);
	*media = good;

	/* A directory that says it is elsewhere; one with entries that says it has none. */
	dir->media->parent = 3;
	CHECK_EQ(look(root, "d"), -EIO);
	CHECK_EQ(pml_dir_rmdir(root, "d"), -EIO);
	dir->media->parent = PML_ROOT_INO;
	dir->media->nentries = 0;
	CHECK_EQ(pml_dir_rmdir(root, "d"), -EIO);
	CHECK_EQ(pml_dir_rmdir(dir, "s"), -EIO);
	dir->media->nentries = 1;
	dir->media->nlink = 2;
	CHECK_EQ(pml_dir_rmdir(dir, "s"), -EIO);
	dir->media->nlink = 3;
	pml_inode_put(dir, 1);
	end();
}

static void test_loops_of_directories_end(void)
{
	begin();
	struct pml_inode *a = fs_pool_create(root, "a", DIR_MODE);
	struct pml_inode *b = fs_pool_create(a, "b", DIR_MODE);
	struct pml_inode *c = fs_pool_create(root, "c", DIR_MODE);
	CHECK_EQ(make(c, "f", FILE_MODE), 0);
	static const uint64_t no_dir[] = {0, 200, UINT64_MAX};
	a->media->parent = pml_inode_ino(b);
	CHECK_EQ(pml_dir_rename(c, "f", b, "f", 0), -EIO);
	CHECK_EQ(pml_dir_rename(b, "x", c, "f", 0), -EIO);
	for (size_t i = 0; i < PML_ARRAY_LEN(no_dir); i++) {
		a->media->parent = no_dir[i];
		CHECK_EQ(pml_dir_rename(c, "f", b, "f", 0), -EIO);
	}
	uint64_t n = 0;
	CHECK_EQ(pml_dir_read(a, 0, count_entry, &n), -EIO);
	a->media->parent = (uint64_t)look(c, "f");
	CHECK_EQ(pml_dir_rename(c, "f", b, "f", 0), -EIO);
	a->media->parent = PML_ROOT_INO;
	CHECK_EQ(pml_dir_rename(c, "f", b, "f", 0), 0);
	pml_inode_put(a, 1);
	pml_inode_put(b, 1);
	pml_inode_put(c, 1);
	end();
}

static void test_bad_symlinks_are_refused(void)
{
	begin();
	struct pml_inode *link;
	char target[PML_SYMLINK_MAX + 1];
	const struct pml_create_args args = {.mode = S_IFLNK | 0777, .target = "0123456789"};
	REQUIRE(pml_dir_create(root, "l", &args, &link) == 0);
	struct pml_media_inode *media = link->media;
	const struct pml_media_inode good = *media;
	static const uint64_t bad_sizes[] = {0, 9, 11, PML_SYMLINK_MAX + 1, UINT64_MAX};
	for (size_t i = 0; i < PML_ARRAY_LEN(bad_sizes); i++) {
		media->size_bytes = bad_sizes[i];
		CHECK_EQ(pml_inode_readlink(link, target), -EIO);
	}
	*media = good;
	const uint64_t bad_offsets[] = {0, 8, FS_POOL_BYTES - 8, UINT64_MAX & ~7ull};
	for (size_t i = 0; i < PML_ARRAY_LEN(bad_offsets); i++) {
		media->symlink = bad_offsets[i];
		CHECK_EQ(pml_inode_readlink(link, target), -EIO);
	}
	*media = good;
	CHECK_EQ(pml_inode_readlink(link, target), 0);
	CHECK_STR(target, "0123456789");
	pml_inode_put(link, 1);
	end();
}

/* Stores a word in the closed pool and tries to open it. */
static int open_with_word(uint64_t offset, uint64_t word)
{
	fs_pool_close(&pool);
	int fd = open(pool.path, O_RDWR | O_CLOEXEC);
	if (fd < 0 || pwrite(fd, &word, sizeof(word), (off_t)offset) != sizeof(word))
		BAIL_OUT("%s: %s", pool.path, strerror(errno));
	(void)close(fd);
	return fs_pool_try_open(&pool);
}

static void test_bad_inode_table_is_refused(void)
{
	begin();
	const struct pml_media_super *super = pool.fs->super;
	uint64_t level = super->itable[0];
	uint64_t slot = pml_offset_of(pool.fs, &super->itable[1]);
	uint64_t chunk_slot = level + sizeof(uint64_t);
	uint64_t chunk = ((const struct pml_media_itable_level *)pml_at(pool.fs, level))->chunk[0];
	uint64_t super_offset = pml_offset_of(pool.fs, super);
	pml_inode_put(root, 1);
	const uint64_t bad[] = {1,     7,     FS_POOL_BYTES, FS_POOL_BYTES - 8, UINT64_MAX & ~7ull,
				level, chunk, level + 64,    chunk + 4096,	super_offset};
	for (size_t i = 0; i < PML_ARRAY_LEN(bad); i++) {
		CHECK_EQ(open_with_word(slot, bad[i]), -EUCLEAN);
		CHECK_EQ(open_with_word(slot, 0), 0);
		CHECK_EQ(open_with_word(chunk_slot, bad[i]), -EUCLEAN);
		CHECK_EQ(open_with_word(chunk_slot, 0), 0);
	}
	root = fs_pool_root(&pool);
	end();
}

int main(void)
{
	TAP_RUN(test_failed_operations_change_nothing);
	TAP_RUN(test_failed_freeing_is_finished_at_mount);
	TAP_RUN(test_full_device_can_be_emptied);
	TAP_RUN(test_names_of_equal_hash_are_told_apart);
	TAP_RUN(test_full_hash_does_not_spill_over);
	TAP_RUN(test_bad_entries_are_refused);
	TAP_RUN(test_bad_offsets_are_refused);
	TAP_RUN(test_entry_and_inode_must_agree);
	TAP_RUN(test_loops_of_directories_end);
	TAP_RUN(test_bad_symlinks_are_refused);
	TAP_RUN(test_bad_inode_table_is_refused);
	return tap_done();
}
