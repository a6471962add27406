/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_dump.c -- pml_fs_dump() prints what is there
 *
 * What it prints is compared with what an open filesystem says.  The fields' names and
 * places are compared with the document by test_media_format.c.
 */
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>

#include "../../fs/inode.h"
#include "../../fs/media_fields.h"
#include "../tap.h"
#include "fs_pool.h"

static struct fs_pool pool;
static char *text; /* what was printed last */
static char reason[PML_REASON_BYTES];

static int dump(const char *what, uint64_t number, bool is_json)
{
	size_t bytes;
	free(text);
	text = NULL;
	FILE *file = open_memstream(&text, &bytes);
	if (!file)
		BAIL_OUT("no memory");
	reason[0] = 0;
	int err = pml_fs_dump(pool.path, what, number, is_json, file, reason);
	(void)fclose(file);
	return err;
}

/* Is a line with exactly these words there? */
static bool has_line(const char *line)
{
	size_t n = strlen(line);
	for (const char *at = text; (at = strstr(at, line)); at++)
		if ((at == text || at[-1] == '\n') && (at[n] == '\n' || at[n] == 0))
			return true;
	return false;
}

#define CHECK_LINE(...)                                                                            \
	do {                                                                                       \
		char wanted_line[512];                                                             \
		(void)snprintf(wanted_line, sizeof(wanted_line), __VA_ARGS__);                     \
		if (!has_line(wanted_line))                                                        \
			TAP_FAIL("no line \"%s\" in:\n# %s", wanted_line, text);                   \
	} while (0)

static struct pml_inode *begin(void)
{
	fs_pool_make(&pool, FS_POOL_BYTES);
	return fs_pool_root(&pool);
}

static void end(struct pml_inode *root)
{
	pml_inode_put(root, 1);
	fs_pool_remove(&pool);
	free(text);
	text = NULL;
}

static void check_fields(const char *structure, const void *data)
{
	for (size_t i = 0; i < pml_media_fields_count; i++) {
		const struct pml_media_field *f = &pml_media_fields[i];
		if (!f->field || strcmp(f->structure, structure) != 0 || f->bytes > 8)
			continue;
		uint64_t value = 0;
		memcpy(&value, (const uint8_t *)data + f->offset, f->bytes);
		if (f->form == PML_FIELD_NUMBER)
			CHECK_LINE("  %-18s %" PRIu64, f->field, value);
		else if (f->form == PML_FIELD_OFFSET)
			CHECK_LINE("  %-18s %#" PRIx64, f->field, value);
		else
			CHECK_LINE("  %-18s %#" PRIo64, f->field, value);
	}
}

static void test_the_super_block_and_groups(void)
{
	struct pml_inode *root = begin();
	struct pml_inode *file = fs_pool_create(root, "file", S_IFREG | 0644);
	REQUIRE(pml_file_write(file, "x", 1, 0, false, NULL) == 0);
	CHECK_EQ(dump("super", 0, false), 0);
	CHECK_LINE("pml_media_super at %#" PRIx64, pml_offset_of(pool.fs, pool.fs->super));
	check_fields("pml_media_super", pool.fs->super);
	CHECK_EQ(dump("groups", 0, false), 0);
	REQUIRE(pool.fs->super->ngroups == 1);
	check_fields("pml_media_group", &pool.fs->super->groups[0]);
	pml_inode_put(file, 1);
	end(root);
}

static void test_an_inode_with_its_extents(void)
{
	struct pml_inode *root = begin();
	struct pml_inode *file = fs_pool_create(root, "file", S_IFREG | 0640);
	static const char data[8192];
	REQUIRE(pml_file_write(file, data, 8192, 4096, false, NULL) == 0);
	REQUIRE(pml_file_allocate(file, 0, 1u << 20, 4096, NULL) == 0);
	uint64_t ino = pml_inode_ino(file);
	CHECK_EQ(dump("inode", ino, false), 0);
	check_fields("pml_media_inode", file->media);
	CHECK_EQ(dump("extents", ino, false), 0);
	const struct pml_media_btree_node *node = pml_at(pool.fs, file->media->tree);
	REQUIRE(node->nkeys == 2);
	CHECK_LINE("extent inode=%" PRIu64 " file_block=1 block=%" PRIu64 " nblocks=2 unwritten=0",
		   ino, node->entry[0].word[0]);
	CHECK_LINE("extent inode=%" PRIu64 " file_block=256 block=%" PRIu64
		   " nblocks=1 unwritten=1",
		   ino, node->entry[1].word[0]);
	CHECK_EQ(dump("tree", ino, false), 0);
	CHECK_LINE("pml_media_btree_node at %#" PRIx64, file->media->tree);
	check_fields("pml_media_btree_node", node);
	pml_inode_put(file, 1);
	end(root);
}

static void test_who_maps_a_block(void)
{
	struct pml_inode *root = begin();
	struct pml_inode *file = fs_pool_create(root, "file", S_IFREG | 0644);
	struct pml_inode *clone = fs_pool_create(root, "clone", S_IFREG | 0644);
	static const char data[8192];
	uint64_t done;
	REQUIRE(pml_file_write(file, data, 8192, 0, false, NULL) == 0);
	REQUIRE(pml_file_clone(file, 0, clone, 0, 8192, NULL, &done) == 0 && done == 8192);
	const struct pml_media_btree_node *node = pml_at(pool.fs, file->media->tree);
	uint64_t block = node->entry[0].word[0];
	CHECK_EQ(dump("block", block + 1, false), 0);
	CHECK_LINE("extent inode=%" PRIu64 " file_block=0 block=%" PRIu64 " nblocks=2 unwritten=0",
		   pml_inode_ino(file), block);
	CHECK_LINE("extent inode=%" PRIu64 " file_block=0 block=%" PRIu64 " nblocks=2 unwritten=0",
		   pml_inode_ino(clone), block);
	CHECK_EQ(dump("block", block + 2, false), 0);
	CHECK(!strstr(text, "extent"));
	CHECK(strstr(text, "pml_media_group"));
	CHECK_EQ(dump("block", FS_POOL_BYTES / 4096, false), -ENOENT);
	pml_inode_put(clone, 1);
	pml_inode_put(file, 1);
	end(root);
}

static void test_names_are_escaped(void)
{
	struct pml_inode *root = begin();
	struct pml_inode *file = fs_pool_create(root, "a\"\n\\\xff", S_IFREG | 0644);
	struct pml_inode *link;
	const struct pml_create_args args = {.mode = S_IFLNK | 0777, .target = "to\tthere"};
	REQUIRE(pml_dir_create(root, "link", &args, &link) == 0);
	CHECK_EQ(dump("dir", PML_ROOT_INO, false), 0);
	CHECK(strstr(text, "name=\"a\\\"\\x0a\\\\\\xff\"\n"));
	CHECK(strstr(text, "name=\"link\"\n"));
	CHECK_EQ(dump("dir", PML_ROOT_INO, true), 0);
	CHECK(strstr(text, "\"name\":\"a\\\"\\u000a\\\\\\u00ff\"}\n"));
	CHECK_EQ(dump("inode", pml_inode_ino(link), false), 0);
	CHECK(strstr(text, "target=\"to\\x09there\"\n"));
	pml_inode_put(link, 1);
	pml_inode_put(file, 1);
	end(root);
}

static void test_what_does_not_exist(void)
{
	struct pml_inode *root = begin();
	struct pml_inode *file = fs_pool_create(root, "file", S_IFREG | 0644);
	CHECK_EQ(dump("inode", 0, false), -ENOENT);
	CHECK_EQ(dump("inode", 5000, false), -ENOENT);
	CHECK_EQ(dump("tree", UINT64_MAX, false), -ENOENT);
	CHECK_EQ(dump("dir", pml_inode_ino(file), false), -ENOENT);
	CHECK_EQ(dump("extents", PML_ROOT_INO, false), -ENOENT);
	CHECK_EQ(dump("nonsense", 0, false), -EINVAL);
	CHECK_EQ(pml_fs_dump_has_number("nonsense"), -EINVAL);
	pml_inode_put(file, 1);
	pool.path[0] = '_';
	CHECK_EQ(dump("super", 0, false), -ENOENT);
	pool.path[0] = '/';
	end(root);
}

static uint64_t hash_device(void)
{
	uint64_t hash = 0xcbf29ce484222325ull;
	for (uint64_t i = 0; i < FS_POOL_BYTES / 8; i++)
		hash = (hash ^ ((const uint64_t *)(void *)pool.fs->base)[i]) * 0x100000001b3ull;
	return hash;
}

static void test_nothing_is_written_and_all_is_sound(void)
{
	struct pml_inode *root = begin();
	pml_inode_put(fs_pool_create(root, "file", S_IFREG | 0644), 1);
	uint64_t before = hash_device();
	CHECK_EQ(dump("all", 0, false), 0);
	CHECK(!strstr(text, "problem"));
	CHECK(strstr(text, "chunks at "));
	CHECK_EQ(dump("all", 0, true), 0);
	CHECK_EQ(hash_device(), before);
	end(root);
}

/* Bad offsets are named, and the rest is printed. */
static void test_a_damaged_device(void)
{
	struct pml_inode *root = begin();
	struct pml_inode *file = fs_pool_create(root, "file", S_IFREG | 0644);
	static const char data[4096];
	REQUIRE(pml_file_write(file, data, 4096, 0, false, NULL) == 0);
	struct pml_media_inode *media = root->media;
	uint64_t tree = media->tree;
	static const uint64_t bad[] = {7, 8192, FS_POOL_BYTES - 8, UINT64_MAX - 7};
	for (size_t i = 0; i < PML_ARRAY_LEN(bad); i++) {
		media->tree = bad[i];
		CHECK_EQ(dump("all", 0, false), -EUCLEAN);
		CHECK(strstr(text, "problem"));
		CHECK(strstr(text, "extent inode=2 "));
	}
	/* A tree that leads to itself: levels descend, so that walks end. */
	struct pml_media_btree_node *node = pml_at(pool.fs, tree);
	media->tree = tree;
	node->level = 3;
	node->entry[0].word[0] = tree;
	CHECK_EQ(dump("tree", PML_ROOT_INO, false), -EUCLEAN);
	node->level = 0;
	media->tree = 0;
	pml_inode_put(file, 1);
	end(root);
}

int main(void)
{
	TAP_RUN(test_the_super_block_and_groups);
	TAP_RUN(test_an_inode_with_its_extents);
	TAP_RUN(test_who_maps_a_block);
	TAP_RUN(test_names_are_escaped);
	TAP_RUN(test_what_does_not_exist);
	TAP_RUN(test_nothing_is_written_and_all_is_sound);
	TAP_RUN(test_a_damaged_device);
	return tap_done();
}
