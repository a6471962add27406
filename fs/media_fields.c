/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * media_fields.c -- the fields of media.h's structures, by name
 */
#include "media_fields.h"

#define STRUCT(type) #type, NULL, 0, sizeof(struct type), PML_FIELD_MANY
#define FIELD(type, field, form)                                                                   \
#type, #field, offsetof(struct type, field), sizeof(((struct type *)0)->field),            \
		PML_FIELD_##form

const struct pml_media_field pml_media_fields[] = {
	{STRUCT(pml_media_super)},
	{FIELD(pml_media_super, magic, OFFSET)},
	{FIELD(pml_media_super, format_version, NUMBER)},
	{FIELD(pml_media_super, feature_compat, OFFSET)},
	{FIELD(pml_media_super, feature_ro_compat, OFFSET)},
	{FIELD(pml_media_super, feature_incompat, OFFSET)},
	{FIELD(pml_media_super, size_bytes, NUMBER)},
	{FIELD(pml_media_super, uuid, BYTES)},
	{FIELD(pml_media_super, hash_key, BYTES)},
	{FIELD(pml_media_super, label, TEXT)},
	{FIELD(pml_media_super, created_ns, NUMBER)},
	{FIELD(pml_media_super, payload_blocks, NUMBER)},
	{FIELD(pml_media_super, ngroups, NUMBER)},
	{FIELD(pml_media_super, reserved0, OFFSET)},
	{FIELD(pml_media_super, reserved1, MANY)},
	{FIELD(pml_media_super, itable, MANY)},
	{FIELD(pml_media_super, groups, MANY)},
	{STRUCT(pml_media_group)},
	{FIELD(pml_media_group, first_block, NUMBER)},
	{FIELD(pml_media_group, nblocks, NUMBER)},
	{FIELD(pml_media_group, object, OFFSET)},
	{FIELD(pml_media_group, device, NUMBER)},
	{FIELD(pml_media_group, reserved, OFFSET)},
	{STRUCT(pml_media_itable_level)},
	{FIELD(pml_media_itable_level, chunk, MANY)},
	{STRUCT(pml_media_itable_chunk)},
	{FIELD(pml_media_itable_chunk, inode, MANY)},
	{STRUCT(pml_media_inode)},
	{FIELD(pml_media_inode, mode, MODE)},
	{FIELD(pml_media_inode, nlink, NUMBER)},
	{FIELD(pml_media_inode, uid, NUMBER)},
	{FIELD(pml_media_inode, gid, NUMBER)},
	{FIELD(pml_media_inode, size_bytes, NUMBER)},
	{FIELD(pml_media_inode, generation, NUMBER)},
	{FIELD(pml_media_inode, atime_ns, NUMBER)},
	{FIELD(pml_media_inode, mtime_ns, NUMBER)},
	{FIELD(pml_media_inode, ctime_ns, NUMBER)},
	{FIELD(pml_media_inode, btime_ns, NUMBER)},
	{FIELD(pml_media_inode, rdev, OFFSET)},
	{FIELD(pml_media_inode, tree, OFFSET)},
	{FIELD(pml_media_inode, nblocks, NUMBER)},
	{FIELD(pml_media_inode, nentries, NUMBER)},
	{FIELD(pml_media_inode, parent, NUMBER)},
	{FIELD(pml_media_inode, symlink, OFFSET)},
	{FIELD(pml_media_inode, punch_first, NUMBER)},
	{FIELD(pml_media_inode, punch_end, NUMBER)},
	{FIELD(pml_media_inode, flags, OFFSET)},
	{FIELD(pml_media_inode, xattr, OFFSET)},
	{FIELD(pml_media_inode, spare_tree, OFFSET)},
	{FIELD(pml_media_inode, reserved, MANY)},
	{STRUCT(pml_media_btree_node)},
	{FIELD(pml_media_btree_node, level, NUMBER)},
	{FIELD(pml_media_btree_node, nkeys, NUMBER)},
	{FIELD(pml_media_btree_node, reserved, OFFSET)},
	{FIELD(pml_media_btree_node, reserved1, OFFSET)},
	{FIELD(pml_media_btree_node, entry, MANY)},
	{STRUCT(pml_media_dirent)},
	{FIELD(pml_media_dirent, ino, NUMBER)},
	{FIELD(pml_media_dirent, type, MODE)},
	{FIELD(pml_media_dirent, name_bytes, NUMBER)},
	{STRUCT(pml_media_xattr)},
	{FIELD(pml_media_xattr, value_bytes, NUMBER)},
	{FIELD(pml_media_xattr, name_bytes, NUMBER)},
};

const size_t pml_media_fields_count = PML_ARRAY_LEN(pml_media_fields);
