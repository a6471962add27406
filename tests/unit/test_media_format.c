/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_media_format.c -- docs/on-media-format.md says what fs/media.h says
 *
 * usage: test_media_format FILE
 *
 * A heading "### `struct NAME`, BYTES bytes" begins a structure; the rows
 * "| OFFSET | SIZE | `FIELD` | ..." behind it are its fields.
 */
#include "../../fs/media.h"

#include <stdio.h>

#include "tap.h"

static const struct fact {
	size_t offset;
	size_t bytes;
	const char *name; /* "struct pml_media_super", or its field as "pml_media_super.magic" */
} facts[] = {
#define STRUCT(type) 0, sizeof(struct type), "struct " #type
#define FIELD(type, field)                                                                         \
	offsetof(struct type, field), sizeof(((struct type *)0)->field), #type "." #field
	{STRUCT(pml_media_super)},
	{FIELD(pml_media_super, magic)},
	{FIELD(pml_media_super, format_version)},
	{FIELD(pml_media_super, feature_compat)},
	{FIELD(pml_media_super, feature_ro_compat)},
	{FIELD(pml_media_super, feature_incompat)},
	{FIELD(pml_media_super, size_bytes)},
	{FIELD(pml_media_super, uuid)},
	{FIELD(pml_media_super, hash_key)},
	{FIELD(pml_media_super, label)},
	{FIELD(pml_media_super, created_ns)},
	{FIELD(pml_media_super, payload_blocks)},
	{FIELD(pml_media_super, ngroups)},
	{FIELD(pml_media_super, reserved0)},
	{FIELD(pml_media_super, reserved1)},
	{FIELD(pml_media_super, itable)},
	{FIELD(pml_media_super, groups)},
	{STRUCT(pml_media_group)},
	{FIELD(pml_media_group, first_block)},
	{FIELD(pml_media_group, nblocks)},
	{FIELD(pml_media_group, object)},
	{FIELD(pml_media_group, device)},
	{FIELD(pml_media_group, reserved)},
	{STRUCT(pml_media_itable_level)},
	{FIELD(pml_media_itable_level, chunk)},
	{STRUCT(pml_media_itable_chunk)},
	{FIELD(pml_media_itable_chunk, inode)},
	{STRUCT(pml_media_inode)},
	{FIELD(pml_media_inode, mode)},
	{FIELD(pml_media_inode, nlink)},
	{FIELD(pml_media_inode, uid)},
	{FIELD(pml_media_inode, gid)},
	{FIELD(pml_media_inode, size_bytes)},
	{FIELD(pml_media_inode, generation)},
	{FIELD(pml_media_inode, atime_ns)},
	{FIELD(pml_media_inode, mtime_ns)},
	{FIELD(pml_media_inode, ctime_ns)},
	{FIELD(pml_media_inode, btime_ns)},
	{FIELD(pml_media_inode, rdev)},
	{FIELD(pml_media_inode, tree)},
	{FIELD(pml_media_inode, nblocks)},
	{FIELD(pml_media_inode, nentries)},
	{FIELD(pml_media_inode, parent)},
	{FIELD(pml_media_inode, symlink)},
	{FIELD(pml_media_inode, punch_first)},
	{FIELD(pml_media_inode, punch_end)},
	{FIELD(pml_media_inode, flags)},
	{FIELD(pml_media_inode, xattr)},
	{FIELD(pml_media_inode, spare_tree)},
	{FIELD(pml_media_inode, reserved)},
	{STRUCT(pml_media_btree_node)},
	{FIELD(pml_media_btree_node, level)},
	{FIELD(pml_media_btree_node, nkeys)},
	{FIELD(pml_media_btree_node, reserved)},
	{FIELD(pml_media_btree_node, reserved1)},
	{FIELD(pml_media_btree_node, entry)},
	{STRUCT(pml_media_dirent)},
	{FIELD(pml_media_dirent, ino)},
	{FIELD(pml_media_dirent, type)},
	{FIELD(pml_media_dirent, name_bytes)},
	{STRUCT(pml_media_xattr)},
	{FIELD(pml_media_xattr, value_bytes)},
	{FIELD(pml_media_xattr, name_bytes)},
};

#define FACTS (sizeof(facts) / sizeof(facts[0]))

static const char *path;
static bool is_told[FACTS]; /* the document has it, right */

static const struct fact *find_fact(const char *name)
{
	for (size_t i = 0; i < FACTS; i++)
		if (strcmp(facts[i].name, name) == 0)
			return &facts[i];
	return NULL;
}

static void compare(const char *name, size_t offset, size_t bytes)
{
	const struct fact *fact = find_fact(name);
	if (!fact)
		TAP_FAIL("%s is unknown", name);
	else if (fact->offset != offset || fact->bytes != bytes)
		TAP_FAIL("%s: offset %zu, %zu bytes; fs/media.h has %zu, %zu", name, offset, bytes,
			 fact->offset, fact->bytes);
	else
		is_told[fact - facts] = true;
}

static void test_what_the_document_says_is_true(void)
{
	FILE *file = fopen(path, "r");
	REQUIRE(file);
	char line[4096], of[64] = "", field[64], name[160];
	size_t offset, bytes;
	while (fgets(line, sizeof(line), file)) {
		if (sscanf(line, "### `struct %63[a-z_]`, %zu bytes", of, &bytes) == 2) {
			(void)snprintf(name, sizeof(name), "struct %s", of);
			compare(name, 0, bytes);
		} else if (sscanf(line, "| %zu | %zu | `%63[a-z0-9_]` |", &offset, &bytes, field) ==
			   3) {
			(void)snprintf(name, sizeof(name), "%s.%s", of, field);
			compare(name, offset, bytes);
		}
	}
	(void)fclose(file);
}

static void test_the_document_says_all(void)
{
	for (size_t i = 0; i < FACTS; i++)
		if (!is_told[i])
			TAP_FAIL("%s is missing or wrong", facts[i].name);
}

/* What a structure has behind the fields that are listed would go unnoticed. */
static void test_the_fields_fill_their_structures(void)
{
	size_t end = 0;
	const char *of = NULL;
	for (size_t i = 0; i <= FACTS; i++) {
		bool is_struct = i == FACTS || strncmp(facts[i].name, "struct ", 7) == 0;
		if (is_struct && of && find_fact(of)->bytes != end)
			TAP_FAIL("%s: its fields end at %zu", of, end);
		if (i == FACTS)
			break;
		if (!is_struct && facts[i].offset != end)
			TAP_FAIL("%s: a gap of %zu bytes before it", facts[i].name,
				 facts[i].offset - end);
		of = is_struct ? facts[i].name : of;
		end = is_struct ? 0 : facts[i].offset + facts[i].bytes;
	}
}

int main(int argc, char **argv)
{
	if (argc != 2)
		BAIL_OUT("usage: test_media_format FILE");
	path = argv[1];
	TAP_RUN(test_what_the_document_says_is_true);
	TAP_RUN(test_the_document_says_all);
	TAP_RUN(test_the_fields_fill_their_structures);
	return tap_done();
}
