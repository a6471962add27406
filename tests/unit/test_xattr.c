/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_xattr.c -- extended attributes and ACLs in the filesystem: against a model, at
 * every failing place (I8), on a full device, after remounts, from hostile structures
 */
#include <inttypes.h>
#include <pthread.h>

#include "../../fs/itable.h"
#include "../../fs/xattr.h"
#include "../support/fs_faults.h"

#define FILE_MODE (S_IFREG | 0644)
#define DIR_MODE  (S_IFDIR | 0755)
#define VALUE_MAX PML_XATTR_VALUE_BYTES_MAX

static const struct pml_cred super_user = {.uid = 0};
static char buffer[VALUE_MAX + 1];

/* ---- helpers ------------------------------------------------------------ */

static int set(struct pml_inode *inode, const char *name, const void *value, size_t bytes)
{
	return pml_xattr_set(inode, &super_user, name, value, bytes, 0);
}

/* The length of the value, or the error. */
static int64_t get(struct pml_inode *inode, const char *name, void *value, size_t max_bytes)
{
	size_t bytes = 0;
	int err = pml_xattr_get(inode, name, value, max_bytes, &bytes);
	return err ? err : (int64_t)bytes;
}

static int64_t list(struct pml_inode *inode, uid_t uid, char *names, size_t max_bytes)
{
	const struct pml_cred cred = {.uid = uid};
	size_t bytes = 0;
	int err = pml_xattr_list(inode, &cred, names, max_bytes, &bytes);
	return err ? err : (int64_t)bytes;
}

static void pattern(char *value, size_t bytes, unsigned int seed)
{
	for (size_t i = 0; i < bytes; i++)
		value[i] = (char)(seed + i * 7 + i / 251);
}

/* An ACL of owner, user 1000, group, mask, others. */
struct acl_value {
	struct posix_acl_xattr_header header;
	struct posix_acl_xattr_entry entry[5];
};

static struct acl_value acl_of(unsigned int owner, unsigned int named, unsigned int group,
			       unsigned int mask, unsigned int others)
{
	const uint32_t none = (uint32_t)ACL_UNDEFINED_ID;
	return (struct acl_value){
		.header = {POSIX_ACL_XATTR_VERSION},
		.entry = {{ACL_USER_OBJ, (uint16_t)owner, none},
			  {ACL_USER, (uint16_t)named, 1000},
			  {ACL_GROUP_OBJ, (uint16_t)group, none},
			  {ACL_MASK, (uint16_t)mask, none},
			  {ACL_OTHER, (uint16_t)others, none}},
	};
}

static int set_acl(struct pml_inode *inode, const char *name, struct acl_value value)
{
	return set(inode, name, &value, sizeof(value));
}

static void check_acl(struct pml_inode *inode, const char *name, struct acl_value want)
{
	struct acl_value got = {0};
	CHECK_EQ(get(inode, name, &got, sizeof(got)), sizeof(got));
	CHECK(memcmp(&got, &want, sizeof(want)) == 0);
}

static mode_t mode_of(const struct pml_inode *inode)
{
	return pml_inode_mode(inode) & 07777;
}

static uint64_t blocks_used(void)
{
	struct pml_fs_counts counts;
	pml_fs_counts(pool.fs, &counts);
	return counts.used_blocks;
}

/* ---- names, errors ------------------------------------------------------ */

static void test_names_and_namespaces(void)
{
	begin();
	struct pml_inode *file = fs_pool_create(root, "f", FILE_MODE);
	char name[PML_XATTR_NAME_BYTES_MAX + 2] = "user.";
	memset(name + 5, 'n', sizeof(name) - 6);
	CHECK_EQ(set(file, name, "v", 1), -ERANGE);
	CHECK_EQ(get(file, name, buffer, 1), -ERANGE);
	CHECK_EQ(pml_xattr_remove(file, name), -ERANGE);
	name[PML_XATTR_NAME_BYTES_MAX] = 0;
	CHECK_EQ(set(file, name, "v", 1), 0);
	CHECK_EQ(get(file, name, buffer, 1), 1);
	CHECK_EQ(list(file, 0, buffer, sizeof(buffer)), sizeof(name) - 1);
	CHECK_STR(buffer, name);
	static const char *const unknown[] = {"",
					      "user",
					      "x",
					      "system.",
					      "system.x",
					      "system.posix_acl_accessx",
					      "system.posix_acl",
					      "os2.x",
					      ".user.x"};
	for (size_t i = 0; i < PML_ARRAY_LEN(unknown); i++) {
		CHECK_EQ(set(file, unknown[i], "v", 1), -EOPNOTSUPP);
		CHECK_EQ(get(file, unknown[i], buffer, 1), -EOPNOTSUPP);
		CHECK_EQ(pml_xattr_remove(file, unknown[i]), -EOPNOTSUPP);
	}
	static const char *const bare[] = {"user.", "trusted.", "security."};
	for (size_t i = 0; i < PML_ARRAY_LEN(bare); i++) {
		CHECK_EQ(set(file, bare[i], "v", 1), -EINVAL);
		CHECK_EQ(get(file, bare[i], buffer, 1), -EINVAL);
	}
	/* Names differ by every byte, a value may be empty. */
	CHECK_EQ(set(file, "user.a", "1", 1), 0);
	CHECK_EQ(set(file, "user.A", "22", 2), 0);
	CHECK_EQ(set(file, "trusted.a", "", 0), 0);
	CHECK_EQ(set(file, "security.a", "4444", 4), 0);
	CHECK_EQ(get(file, "user.a", buffer, 9), 1);
	CHECK_EQ(get(file, "user.A", buffer, 9), 2);
	CHECK_EQ(get(file, "trusted.a", buffer, 9), 0);
	CHECK_EQ(get(file, "security.a", buffer, 9), 4);
	CHECK_EQ(get(file, "user.b", buffer, 9), -ENODATA);
	pml_inode_put(file, 1);
	end();
}

static void test_flags_and_lengths(void)
{
	begin();
	struct pml_inode *f = fs_pool_create(root, "f", FILE_MODE);
	CHECK_EQ(pml_xattr_set(f, &super_user, "user.a", "1", 1, XATTR_REPLACE), -ENODATA);
	CHECK_EQ(pml_xattr_set(f, &super_user, "user.a", "1", 1, 4), -EINVAL);
	CHECK_EQ(get(f, "user.a", NULL, 0), -ENODATA);
	CHECK_EQ(pml_xattr_set(f, &super_user, "user.a", "123", 3, XATTR_CREATE), 0);
	CHECK_EQ(pml_xattr_set(f, &super_user, "user.a", "4", 1, XATTR_CREATE), -EEXIST);
	CHECK_EQ(get(f, "user.a", NULL, 0), 3);
	CHECK_EQ(get(f, "user.a", buffer, 2), -ERANGE);
	CHECK_EQ(get(f, "user.a", buffer, 3), 3);
	CHECK(memcmp(buffer, "123", 3) == 0);
	CHECK_EQ(pml_xattr_set(f, &super_user, "user.a", "45", 2, XATTR_REPLACE), 0);
	CHECK_EQ(get(f, "user.a", buffer, 3), 2);
	CHECK_EQ(list(f, 0, NULL, 0), 7);
	CHECK_EQ(list(f, 0, buffer, 6), -ERANGE);
	CHECK_EQ(list(f, 0, buffer, 7), 7);
	CHECK_EQ(pml_xattr_remove(f, "user.a"), 0);
	CHECK_EQ(pml_xattr_remove(f, "user.a"), -ENODATA);
	CHECK_EQ(list(f, 0, buffer, 7), 0);
	memset(buffer, 'x', sizeof(buffer));
	CHECK_EQ(set(f, "user.big", buffer, VALUE_MAX + 1), -E2BIG);
	CHECK_EQ(set(f, "user.big", buffer, VALUE_MAX), 0);
	CHECK_EQ(get(f, "user.big", buffer, VALUE_MAX), VALUE_MAX);
	pml_inode_put(f, 1);
	end();
}

static void test_types_of_inodes(void)
{
	static const mode_t types[] = {S_IFLNK, S_IFIFO, S_IFSOCK, S_IFCHR, S_IFBLK};
	begin();
	for (size_t i = 0; i < PML_ARRAY_LEN(types); i++) {
		bool is_link = types[i] == S_IFLNK;
		struct pml_inode *inode;
		CHECK_EQ(make(root, "x", types[i] | 0777), 0);
		REQUIRE(pml_dir_lookup(root, "x", &inode) == 0);
		CHECK_EQ(set(inode, "user.a", "1", 1), -EPERM);
		CHECK_EQ(get(inode, "user.a", buffer, 1), -ENODATA);
		CHECK_EQ(pml_xattr_remove(inode, "user.a"), -EPERM);
		CHECK_EQ(set(inode, "trusted.a", "1", 1), 0);
		CHECK_EQ(get(inode, "trusted.a", buffer, 1), 1);
		CHECK_EQ(set(inode, "security.a", "1", 1), 0);
		CHECK_EQ(set_acl(inode, XATTR_NAME_POSIX_ACL_ACCESS, acl_of(7, 7, 7, 7, 7)),
			 is_link ? -EOPNOTSUPP : 0);
		CHECK_EQ(set_acl(inode, XATTR_NAME_POSIX_ACL_DEFAULT, acl_of(7, 7, 7, 7, 7)),
			 is_link ? -EOPNOTSUPP : -EACCES);
		CHECK_EQ(pml_xattr_remove(inode, XATTR_NAME_POSIX_ACL_DEFAULT),
			 is_link ? -EOPNOTSUPP : 0);
		pml_inode_put(inode, 1);
		CHECK_EQ(pml_dir_unlink(root, "x"), 0);
	}
	end();
}

static void test_lists_hide_trusted_and_have_a_limit(void)
{
	begin();
	struct pml_inode *d = fs_pool_create(root, "d", DIR_MODE);
	CHECK_EQ(set(d, "trusted.a", "1", 1), 0);
	CHECK_EQ(set(d, "user.a", "1", 1), 0);
	CHECK_EQ(list(d, 0, buffer, sizeof(buffer)), 17);
	CHECK_EQ(list(d, 1, buffer, sizeof(buffer)), 7);
	CHECK_STR(buffer, "user.a");
	CHECK_EQ(pml_xattr_remove(d, "user.a"), 0);
	CHECK_EQ(pml_xattr_remove(d, "trusted.a"), 0);

	/* 256 names of 256 bytes just fit. */
	char name[PML_XATTR_NAME_BYTES_MAX + 1];
	for (int i = 0; i <= 256; i++) {
		(void)snprintf(name, sizeof(name), "user.%0250d", i);
		CHECK_EQ(set(d, name, &i, sizeof(i)), 0);
		if (i == 255)
			CHECK_EQ(list(d, 0, buffer, sizeof(buffer)), PML_XATTR_LIST_BYTES_MAX);
	}
	CHECK_EQ(list(d, 0, buffer, sizeof(buffer)), -E2BIG);
	CHECK_EQ(list(d, 0, NULL, 0), -E2BIG);
	for (int i = 0; i <= 256; i++) {
		int value = -1;
		(void)snprintf(name, sizeof(name), "user.%0250d", i);
		CHECK_EQ(get(d, name, &value, sizeof(value)), sizeof(value));
		CHECK_EQ(value, i);
	}
	pml_inode_put(d, 1);
	end();
}

static void test_read_only_filesystems_are_read(void)
{
	begin();
	struct pml_inode *f = fs_pool_create(root, "f", FILE_MODE);
	CHECK_EQ(set(f, "user.a", "1", 1), 0);
	pml_inode_put(f, 1);
	pml_inode_put(root, 1);
	fs_pool_reopen_read_only(&pool);
	root = fs_pool_root(&pool);
	REQUIRE(pml_dir_lookup(root, "f", &f) == 0);
	CHECK_EQ(get(f, "user.a", buffer, 1), 1);
	CHECK_EQ(set(f, "user.a", "1", 1), -EROFS);
	CHECK_EQ(pml_xattr_remove(f, "user.a"), -EROFS);
	pml_inode_put(f, 1);
	end();
}

static void test_changes_set_ctime_only(void)
{
	begin();
	struct pml_inode *f = fs_pool_create(root, "f", FILE_MODE);
	struct stat st;
	const struct stat old = {.st_ctim = {.tv_sec = 1}, .st_mtim = {.tv_sec = 2}};
	for (int i = 0; i < 4; i++) {
		CHECK_EQ(pml_inode_set(f, PML_SET_CTIME | PML_SET_MTIME, &old), 0);
		switch (i) {
		case 0:
			CHECK_EQ(set(f, "user.a", "1", 1), 0);
			break;
		case 1:
			CHECK_EQ(pml_xattr_remove(f, "user.a"), 0);
			break;
		case 2:
			CHECK_EQ(set_acl(f, XATTR_NAME_POSIX_ACL_ACCESS, acl_of(7, 7, 7, 7, 7)), 0);
			break;
		default:
			CHECK_EQ(pml_xattr_remove(f, "user.a"), -ENODATA);
		}
		pml_inode_stat(f, &st);
		CHECK_EQ(st.st_ctime == 1, i == 3);
		CHECK_EQ(st.st_mtime, 2);
	}
	pml_inode_put(f, 1);
	end();
}

/* ---- against a model ---------------------------------------------------- */

#define MODEL_NAMES 60
#define MODEL_FILES 3

static struct model {
	char name[PML_XATTR_NAME_BYTES_MAX + 1];
	int64_t bytes; /* -1: there is none */
	unsigned int seed;
} model[MODEL_FILES][MODEL_NAMES];

static void model_init(void)
{
	static const char *const spaces[] = {"user", "trusted", "security"};
	for (size_t f = 0; f < MODEL_FILES; f++) {
		for (int i = 0; i < MODEL_NAMES; i++) {
			int width = i % 7 == 0 ? 200 : i % 11;
			(void)snprintf(model[f][i].name, sizeof(model[f][i].name), "%s.%0*d",
				       spaces[i % 3], width, i);
			model[f][i].bytes = -1;
		}
	}
}

static size_t any_size(void)
{
	switch (random() % 8) {
	case 0:
		return (size_t)random() % (VALUE_MAX + 1);
	case 1:
		return 1000 + (size_t)random() % 50;
	case 2:
		return 0;
	default:
		return (size_t)random() % 300;
	}
}

static void model_check(struct pml_inode *inode, const struct model *m)
{
	static char want[VALUE_MAX];
	CHECK_EQ(get(inode, m->name, buffer, VALUE_MAX), m->bytes < 0 ? -ENODATA : m->bytes);
	if (m->bytes < 0)
		return;
	pattern(want, (size_t)m->bytes, m->seed);
	CHECK(memcmp(buffer, want, (size_t)m->bytes) == 0);
}

static void model_check_list(struct pml_inode *inode, const struct model *m)
{
	int64_t want = 0, found = 0;
	for (int i = 0; i < MODEL_NAMES; i++)
		want += m[i].bytes >= 0;
	int64_t bytes = list(inode, 0, buffer, sizeof(buffer));
	for (int64_t at = 0; at < bytes; at += (int64_t)strlen(buffer + at) + 1) {
		found++;
		int i = 0;
		while (i < MODEL_NAMES && strcmp(m[i].name, buffer + at) != 0)
			i++;
		CHECK(i < MODEL_NAMES && m[i].bytes >= 0);
	}
	CHECK_EQ(found, want);
}

static void model_step(struct pml_inode *inode, struct model *m)
{
	static char value[VALUE_MAX];
	static const int flags[] = {0, 0, XATTR_CREATE, XATTR_REPLACE};
	if (random() % 3 == 0) {
		CHECK_EQ(pml_xattr_remove(inode, m->name), m->bytes < 0 ? -ENODATA : 0);
		m->bytes = -1;
		return;
	}
	int flag = flags[random() % 4];
	size_t bytes = m->bytes > 0 && random() % 4 == 0 ? (size_t)m->bytes : any_size();
	unsigned int seed = (unsigned int)random();
	pattern(value, bytes, seed);
	int want = m->bytes >= 0 && flag == XATTR_CREATE   ? -EEXIST
		   : m->bytes < 0 && flag == XATTR_REPLACE ? -ENODATA
							   : 0;
	CHECK_EQ(pml_xattr_set(inode, &super_user, m->name, value, bytes, flag), want);
	if (want == 0) {
		m->bytes = (int64_t)bytes;
		m->seed = seed;
	}
}

static void test_random_changes_against_a_model(void)
{
	static const char *const names[MODEL_FILES] = {"f", "g", "d"};
	begin();
	model_init();
	srandom(4);
	struct pml_inode *inode[MODEL_FILES];
	for (int f = 0; f < MODEL_FILES; f++)
		inode[f] = fs_pool_create(root, names[f], f == 2 ? DIR_MODE : FILE_MODE);
	for (int step = 0; step < 6000; step++) {
		size_t f = (size_t)random() % MODEL_FILES;
		struct model *m = &model[f][random() % MODEL_NAMES];
		model_step(inode[f], m);
		model_check(inode[f], m);
		if (step % 100 == 0)
			model_check_list(inode[f], model[f]);
		if (step % 1500 != 0)
			continue;
		CHECK_STR(fs_check(pool.fs), "");
		for (f = 0; f < MODEL_FILES; f++)
			pml_inode_put(inode[f], 1);
		reopen();
		for (f = 0; f < MODEL_FILES; f++) {
			REQUIRE(pml_dir_lookup(root, names[f], &inode[f]) == 0);
			for (int i = 0; i < MODEL_NAMES; i++)
				model_check(inode[f], &model[f][i]);
		}
	}
	for (int f = 0; f < MODEL_FILES; f++) {
		pml_inode_put(inode[f], 1);
		CHECK_EQ(f == 2 ? pml_dir_rmdir(root, names[f]) : pml_dir_unlink(root, names[f]),
			 0);
	}
	end();
}

static uint64_t hash_lowest(const unsigned char *name, size_t bytes)
{
	return 0;
}

static void test_names_of_one_hash(void)
{
	begin();
	fake_hash = hash_lowest;
	struct pml_inode *f = fs_pool_create(root, "f", FILE_MODE);
	char name[32];
	for (int i = 0; i <= 256; i++) {
		(void)snprintf(name, sizeof(name), "user.%d", i);
		CHECK_EQ(set(f, name, &i, sizeof(i)), i == 256 ? -ENOSPC : 0);
	}
	CHECK_EQ(pml_xattr_remove(f, "user.77"), 0);
	CHECK_EQ(get(f, "user.77", NULL, 0), -ENODATA);
	CHECK_EQ(set(f, "user.256", "v", 1), 0);
	for (int i = 0; i < 256; i++) {
		int value = -1;
		(void)snprintf(name, sizeof(name), "user.%d", i);
		CHECK_EQ(get(f, name, &value, sizeof(value)), i == 77 ? -ENODATA : 4);
		CHECK_EQ(value, i == 77 ? -1 : i);
	}
	pml_inode_put(f, 1);
	end();
	fake_hash = NULL;
}

static void test_links_and_renames_keep_clones_do_not_copy(void)
{
	begin();
	struct pml_inode *d = fs_pool_create(root, "d", DIR_MODE);
	struct pml_inode *f = fs_pool_create(root, "f", FILE_MODE), *found;
	static const char data[8192] = "x";
	CHECK_EQ(set(f, "user.a", "1", 1), 0);
	CHECK_EQ(pml_file_write(f, data, sizeof(data), 0, false, NULL), 0);
	CHECK_EQ(pml_dir_link(d, "hard", f), 0);
	CHECK_EQ(pml_dir_rename(root, "f", d, "moved", 0), 0);
	CHECK_EQ(look(root, "f"), -ENOENT);
	CHECK_EQ(pml_dir_unlink(d, "moved"), 0);
	pml_inode_put(f, 1);
	REQUIRE(pml_dir_lookup(d, "hard", &f) == 0);
	CHECK_EQ(get(f, "user.a", buffer, 1), 1);
	found = fs_pool_create(root, "copy", FILE_MODE);
	uint64_t bytes = 0;
	CHECK_EQ(pml_file_clone(f, 0, found, 0, sizeof(data), NULL, &bytes), 0);
	CHECK_EQ(bytes, sizeof(data));
	CHECK_EQ(list(found, 0, buffer, sizeof(buffer)), 0);
	/* Replaced: its attributes go with it. */
	CHECK_EQ(pml_dir_rename(root, "copy", d, "hard", 0), 0);
	CHECK_EQ(get(f, "user.a", buffer, 1), 1);
	pml_inode_put(f, 1);
	pml_inode_put(found, 1);
	CHECK_EQ(pml_dir_unlink(d, "hard"), 0);
	CHECK_EQ(make(root, "new", FILE_MODE), 0);
	REQUIRE(pml_dir_lookup(root, "new", &f) == 0);
	CHECK_EQ(list(f, 0, buffer, sizeof(buffer)), 0);
	pml_inode_put(f, 1);
	pml_inode_put(d, 1);
	end();
}

/* ---- ACLs and modes ----------------------------------------------------- */

static void test_access_acls_and_modes_go_together(void)
{
	begin();
	const char *name = XATTR_NAME_POSIX_ACL_ACCESS;
	struct pml_inode *f = fs_pool_create(root, "f", FILE_MODE | S_ISUID);
	CHECK_EQ(get(f, name, NULL, 0), -ENODATA);
	CHECK_EQ(set_acl(f, name, acl_of(6, 7, 5, 3, 1)), 0);
	CHECK_EQ(mode_of(f), 04631);
	check_acl(f, name, acl_of(6, 7, 5, 3, 1));
	/* chmod: the mask stands for the group. */
	const struct stat attr = {.st_mode = 0754};
	CHECK_EQ(pml_inode_set(f, PML_SET_MODE, &attr), 0);
	CHECK_EQ(mode_of(f), 0754);
	check_acl(f, name, acl_of(7, 7, 5, 5, 4));
	/* Nothing that the mode does not say: not stored. */
	const struct acl_value five = acl_of(7, 0, 5, 0, 4);
	struct acl_value three = five;
	three.entry[1] = five.entry[2];
	three.entry[2] = five.entry[4];
	CHECK_EQ(set(f, name, &three, sizeof(three) - 2 * sizeof(three.entry[0])), 0);
	CHECK_EQ(get(f, name, NULL, 0), -ENODATA);
	CHECK_EQ(mode_of(f), 0754);
	CHECK_EQ(list(f, 0, NULL, 0), 0);
	/* Removed, by removing or by an empty one: the mode stays; there need be none. */
	CHECK_EQ(set_acl(f, name, acl_of(7, 7, 1, 6, 0)), 0);
	CHECK_EQ(pml_xattr_remove(f, name), 0);
	CHECK_EQ(mode_of(f), 0760);
	CHECK_EQ(pml_xattr_remove(f, name), 0);
	CHECK_EQ(set_acl(f, name, acl_of(7, 7, 1, 6, 0)), 0);
	CHECK_EQ(set(f, name, &three, sizeof(three.header)), 0);
	CHECK_EQ(get(f, name, NULL, 0), -ENODATA);
	CHECK_EQ(mode_of(f), 0760);
	/* Refused ones change nothing. */
	uint64_t before = fs_digest(pool.fs);
	CHECK_EQ(set_acl(f, name, acl_of(8, 7, 1, 6, 0)), -EINVAL);
	CHECK_EQ(set(f, name, "x", 1), -EINVAL);
	CHECK(fs_digest(pool.fs) == before);
	pml_inode_put(f, 1);
	end();
}

static void test_setgid_goes_with_an_acl_of_a_stranger(void)
{
	static const gid_t groups[] = {8, 9};
	const struct {
		struct pml_cred cred;
		bool keeps;
	} cases[] = {
		{{.uid = 0, .gid = 1}, true},
		{{.uid = 1, .gid = 9}, true},
		{{.uid = 1, .gid = 7, .groups = groups, .ngroups = 2}, true},
		{{.uid = 1, .gid = 7, .groups = groups, .ngroups = 1}, false},
	};
	begin();
	for (size_t i = 0; i < PML_ARRAY_LEN(cases); i++) {
		struct pml_inode *f;
		const struct pml_create_args args = {.mode = FILE_MODE | S_ISGID | S_IXGRP,
						     .cred = {.uid = 1, .gid = 9}};
		const struct acl_value acl = acl_of(7, 7, 7, 7, 7);
		REQUIRE(pml_dir_create(root, "f", &args, &f) == 0);
		CHECK_EQ(pml_xattr_set(f, &cases[i].cred, XATTR_NAME_POSIX_ACL_ACCESS, &acl,
				       sizeof(acl), 0),
			 0);
		CHECK_EQ(mode_of(f), cases[i].keeps ? 02777 : 0777);
		pml_inode_put(f, 1);
		CHECK_EQ(pml_dir_unlink(root, "f"), 0);
	}
	end();
}

static struct pml_inode *make_masked(struct pml_inode *dir, const char *name, mode_t mode,
				     mode_t umask)
{
	struct pml_inode *inode;
	const struct pml_create_args args = {.mode = mode, .umask = umask, .target = "t"};
	if (pml_dir_create(dir, name, &args, &inode))
		BAIL_OUT("create %s", name);
	return inode;
}

static void test_default_acls_are_inherited(void)
{
	begin();
	const char *access = XATTR_NAME_POSIX_ACL_ACCESS, *default_ = XATTR_NAME_POSIX_ACL_DEFAULT;
	struct pml_inode *d = fs_pool_create(root, "d", DIR_MODE);
	/* Without one the umask counts. */
	struct pml_inode *f = make_masked(d, "f0", S_IFREG | 02666, 027);
	CHECK_EQ(mode_of(f), 02640);
	pml_inode_put(f, 1);
	CHECK_EQ(set_acl(d, default_, acl_of(7, 6, 5, 7, 1)), 0);
	CHECK_EQ(mode_of(d), 0755);
	CHECK_EQ(get(d, access, NULL, 0), -ENODATA);
	/* With one it does not. */
	f = make_masked(d, "f1", S_IFREG | 0666, 077);
	CHECK_EQ(mode_of(f), 0660);
	check_acl(f, access, acl_of(6, 6, 5, 6, 0));
	CHECK_EQ(get(f, default_, NULL, 0), -ENODATA);
	pml_inode_put(f, 1);
	f = make_masked(d, "p", S_IFIFO | 0777, 077);
	CHECK_EQ(mode_of(f), 0771);
	check_acl(f, access, acl_of(7, 6, 5, 7, 1));
	pml_inode_put(f, 1);
	f = make_masked(d, "l", S_IFLNK | 0777, 077);
	CHECK_EQ(mode_of(f), 0777);
	CHECK_EQ(list(f, 0, NULL, 0), 0);
	pml_inode_put(f, 1);
	struct pml_inode *sub = make_masked(d, "sub", S_IFDIR | 0750, 077);
	CHECK_EQ(mode_of(sub), 0750);
	check_acl(sub, access, acl_of(7, 6, 5, 5, 0));
	check_acl(sub, default_, acl_of(7, 6, 5, 7, 1));
	f = make_masked(sub, "f", S_IFREG | 0600, 0);
	check_acl(f, access, acl_of(6, 6, 5, 0, 0));
	pml_inode_put(f, 1);
	/* One that a mode says: only directories keep it. */
	struct acl_value three = acl_of(7, 0, 5, 0, 4);
	three.entry[1] = three.entry[2];
	three.entry[2] = three.entry[4];
	CHECK_EQ(set(d, default_, &three, 28), 0);
	f = make_masked(d, "f3", S_IFREG | 0666, 077);
	CHECK_EQ(mode_of(f), 0644);
	CHECK_EQ(list(f, 0, NULL, 0), 0);
	pml_inode_put(f, 1);
	f = make_masked(d, "d3", S_IFDIR | 0777, 077);
	CHECK_EQ(mode_of(f), 0754);
	CHECK_EQ(get(f, access, NULL, 0), -ENODATA);
	CHECK_EQ(get(f, default_, NULL, 0), 28);
	pml_inode_put(f, 1);
	pml_inode_put(sub, 1);
	pml_inode_put(d, 1);
	reopen();
	end();
}

static void test_access_honours_the_acl(void)
{
	begin();
	static const gid_t groups[] = {5};
	const struct pml_cred named = {.uid = 1000}, stranger = {.uid = 7, .gid = 7};
	const struct pml_cred member = {.uid = 7, .gid = 7, .groups = groups, .ngroups = 1};
	const struct pml_create_args args = {.mode = FILE_MODE, .cred = {.uid = 3, .gid = 5}};
	struct pml_inode *f;
	REQUIRE(pml_dir_create(root, "f", &args, &f) == 0);
	CHECK_EQ(pml_inode_access(f, &member, W_OK), -EACCES);
	CHECK_EQ(set_acl(f, XATTR_NAME_POSIX_ACL_ACCESS, acl_of(6, 6, 2, 6, 4)), 0);
	CHECK_EQ(pml_inode_access(f, &named, R_OK | W_OK), 0);
	CHECK_EQ(pml_inode_access(f, &named, X_OK), -EACCES);
	CHECK_EQ(pml_inode_access(f, &member, W_OK), 0);
	CHECK_EQ(pml_inode_access(f, &member, R_OK), -EACCES);
	CHECK_EQ(pml_inode_access(f, &stranger, R_OK), 0);
	CHECK_EQ(pml_inode_access(f, &stranger, W_OK), -EACCES);
	CHECK_EQ(pml_inode_access(f, &super_user, R_OK | W_OK), 0);
	CHECK_EQ(pml_inode_access(f, &super_user, X_OK), -EACCES);
	/* A stored value that is no ACL lets nobody in. */
	struct pml_xattr xattr;
	REQUIRE(pml_xattr_find(pool.fs, f->media, XATTR_NAME_POSIX_ACL_ACCESS, &xattr) == 0);
	struct pml_media_xattr *media = pml_at(pool.fs, xattr.object);
	char *perm = media->name + xattr.name_bytes + 4 + 2;
	*perm ^= 8;
	CHECK_EQ(pml_inode_access(f, &named, R_OK), -EIO);
	const struct stat attr = {.st_mode = 0600};
	CHECK_EQ(pml_inode_set(f, PML_SET_MODE, &attr), -EIO);
	CHECK_EQ(mode_of(f), 0664);
	*perm ^= 8;
	pml_inode_put(f, 1);
	end();
}

/* A file with all that a write may take away. */
static struct pml_inode *make_privileged(mode_t mode)
{
	struct pml_inode *f;
	const struct pml_create_args args = {.mode = S_IFREG | mode, .cred = {.uid = 1, .gid = 9}};
	if (pml_dir_create(root, "f", &args, &f) || set(f, XATTR_NAME_CAPS, "caps", 4))
		BAIL_OUT("create");
	return f;
}

static void test_writes_take_privileges_away(void)
{
	static const gid_t groups[] = {9};
	const struct {
		mode_t mode, left;
		struct pml_cred cred;
	} cases[] = {
		{06755, 06755, {.uid = 0}},
		{06755, 0755, {.uid = 1, .gid = 9}},
		{04644, 0644, {.uid = 1, .gid = 9}},
		/* Without x for the group setgid is another thing; a stranger takes it, too. */
		{06745, 02745, {.uid = 2, .gid = 9}},
		{06745, 02745, {.uid = 2, .gid = 3, .groups = groups, .ngroups = 1}},
		{06745, 0745, {.uid = 2, .gid = 3}},
		{0755, 0755, {.uid = 2, .gid = 3}},
	};
	begin();
	for (size_t i = 0; i < PML_ARRAY_LEN(cases); i++) {
		struct pml_inode *f = make_privileged(cases[i].mode);
		bool has_dropped = false;
		CHECK_EQ(pml_inode_drop_privileges(f, &cases[i].cred, &has_dropped), 0);
		CHECK(has_dropped);
		CHECK_EQ(mode_of(f), cases[i].left);
		CHECK_EQ(list(f, 0, NULL, 0), 0);
		CHECK_EQ(pml_inode_drop_privileges(f, &cases[i].cred, &has_dropped), 0);
		CHECK(!has_dropped);
		pml_inode_put(f, 1);
		CHECK_EQ(pml_dir_unlink(root, "f"), 0);
	}
	struct pml_inode *f = make_privileged(06755);
	struct pml_segment segment;
	size_t count;
	uint64_t end_byte;
	CHECK_EQ(pml_file_pin(f, 0, 4096, PML_PIN_WRITE, &segment, 1, &count, &end_byte), 0);
	CHECK_EQ(mode_of(f), 0755);
	CHECK_EQ(list(f, 0, NULL, 0), 0);
	pml_fs_unpin(pool.fs, &segment);
	pml_inode_put(f, 1);
	struct pml_inode *d = fs_pool_create(root, "d", S_IFDIR | 06777);
	bool has_dropped = true;
	CHECK_EQ(pml_inode_drop_privileges(d, &cases[5].cred, &has_dropped), 0);
	CHECK_EQ(mode_of(d), 06777);
	pml_inode_put(d, 1);
	end();
}

/* ---- every transaction fails at every place ------------------------------ */

static struct pml_inode *swept, *swept_dir;
static char swept_value[VALUE_MAX];

static int op_set_first(void)
{
	return set(swept, "user.first", "1", 1);
}

static int op_set_same_length(void)
{
	return set(swept, "user.first", "2", 1);
}

static int op_set_large(void)
{
	return set(swept, "user.first", swept_value, VALUE_MAX);
}

static int op_set_large_again(void)
{
	return set(swept, "user.first", swept_value + 1, VALUE_MAX - 1);
}

static int op_set_43rd(void)
{
	return set(swept, "user.split", "1", 1);
}

static int op_set_acl(void)
{
	return set_acl(swept, XATTR_NAME_POSIX_ACL_ACCESS, acl_of(7, 7, 7, 7, 7));
}

static int op_chmod(void)
{
	const struct stat attr = {.st_mode = 0123};
	return pml_inode_set(swept, PML_SET_MODE, &attr);
}

static int op_remove_acl(void)
{
	return pml_xattr_remove(swept, XATTR_NAME_POSIX_ACL_ACCESS);
}

static int op_remove(void)
{
	return pml_xattr_remove(swept, "user.first");
}

static int op_drop_privileges(void)
{
	const struct pml_cred cred = {.uid = 1};
	bool has_dropped;
	return pml_inode_drop_privileges(swept, &cred, &has_dropped);
}

static int op_set_default(void)
{
	return set_acl(swept_dir, XATTR_NAME_POSIX_ACL_DEFAULT, acl_of(7, 7, 7, 7, 7));
}

static int op_inherit_file(void)
{
	return make(swept_dir, "file", FILE_MODE);
}

static int op_inherit_dir(void)
{
	return make(swept_dir, "dir", DIR_MODE);
}

static void test_failed_operations_change_nothing(void)
{
	begin();
	swept = fs_pool_create(root, "f", FILE_MODE);
	swept_dir = fs_pool_create(root, "d", DIR_MODE);
	pattern(swept_value, VALUE_MAX, 9);
	CHECK_EQ(pool.fs->super->feature_ro_compat, 0);
	SWEEP(op_set_first);
	CHECK_EQ(pool.fs->super->feature_ro_compat, PML_FEATURE_RO_XATTR);
	SWEEP(op_set_same_length);
	SWEEP(op_set_large);
	SWEEP(op_set_large_again);
	char name[32];
	for (int i = 0; i < (int)PML_BTREE_FANOUT - 1; i++) {
		(void)snprintf(name, sizeof(name), "user.%d", i);
		CHECK_EQ(set(swept, name, name, 5), 0);
	}
	SWEEP(op_set_43rd);
	SWEEP(op_set_acl);
	SWEEP(op_chmod);
	check_acl(swept, XATTR_NAME_POSIX_ACL_ACCESS, acl_of(1, 7, 7, 2, 3));
	SWEEP(op_remove_acl);
	SWEEP(op_remove);
	CHECK_EQ(set(swept, XATTR_NAME_CAPS, "caps", 4), 0);
	SWEEP(op_drop_privileges);
	SWEEP(op_set_default);
	SWEEP(op_inherit_file);
	SWEEP(op_inherit_dir);
	uint64_t before = fs_digest(pool.fs);
	pml_inode_put(swept, 1);
	pml_inode_put(swept_dir, 1);
	reopen();
	CHECK(fs_digest(pool.fs) == before);
	end();
}

static void test_failed_freeing_is_finished_at_mount(void)
{
	begin();
	struct pml_fs_counts counts;
	/* More than go in one transaction. */
	enum { MANY = 150 };
	for (unsigned int from = 1;; from += from < 8 ? 1 : 37) {
		struct pml_inode *f = fs_pool_create(root, "f", FILE_MODE);
		char name[32];
		for (int i = 0; i < MANY; i++) {
			(void)snprintf(name, sizeof(name), "user.%d", i);
			CHECK_EQ(set(f, name, name, 1 + (size_t)i % 9), 0);
		}
		CHECK_EQ(pml_dir_unlink(root, "f"), 0);
		arm(from);
		pml_inode_put(f, 1);
		bool fired = disarm();
		pml_fs_counts(pool.fs, &counts);
		CHECK_EQ(counts.inodes, fired ? 2 : 1);
		CHECK_STR(fs_check(pool.fs), "");
		reopen();
		CHECK_STR(fs_check(pool.fs), "");
		pml_fs_counts(pool.fs, &counts);
		CHECK_EQ(counts.inodes, 1);
		if (!fired)
			break;
	}
	end();
}

/* ---- a full device ------------------------------------------------------ */

static void fill_device(struct pml_inode *f, size_t bytes)
{
	static unsigned int n;
	int err = 0;
	unsigned int first = n;
	while (!err) {
		char name[32];
		(void)snprintf(name, sizeof(name), "user.fill%u", n++);
		err = set(f, name, buffer, bytes);
	}
	CHECK_EQ(err, -ENOSPC);
	printf("# %u attributes of %zu bytes\n", n - first - 1, bytes);
}

static void test_a_full_device_changes_nothing_and_can_be_emptied(void)
{
	begin();
	uint64_t used = blocks_used();
	struct pml_inode *f = fs_pool_create(root, "f", FILE_MODE);
	struct pml_inode *d = fs_pool_create(root, "d", DIR_MODE), *many;
	CHECK_EQ(set_acl(f, XATTR_NAME_POSIX_ACL_ACCESS, acl_of(7, 7, 7, 7, 7)), 0);
	CHECK_EQ(set_acl(d, XATTR_NAME_POSIX_ACL_DEFAULT, acl_of(7, 7, 7, 7, 7)), 0);
	many = fs_pool_create(root, "many", FILE_MODE);
	static const size_t sizes[] = {VALUE_MAX, 5000, 900, 100, 1};
	for (size_t i = 0; i < PML_ARRAY_LEN(sizes); i++)
		fill_device(many, sizes[i]);
	uint64_t before = fs_digest(pool.fs);
	CHECK_EQ(set(f, "user.a", buffer, VALUE_MAX), -ENOSPC);
	CHECK_EQ(set(f, "user.a", buffer, 100), -ENOSPC);
	CHECK_EQ(make(d, "new", DIR_MODE), -ENOSPC);
	CHECK(fs_digest(pool.fs) == before);
	CHECK_STR(fs_check(pool.fs), "");
	/* What frees, and what changes nothing but bits, works. */
	const struct stat attr = {.st_mode = 0640};
	CHECK_EQ(pml_inode_set(f, PML_SET_MODE, &attr), 0);
	check_acl(f, XATTR_NAME_POSIX_ACL_ACCESS, acl_of(6, 7, 7, 4, 0));
	CHECK_EQ(pml_xattr_remove(f, XATTR_NAME_POSIX_ACL_ACCESS), 0);
	CHECK_EQ(pml_dir_unlink(root, "many"), 0);
	pml_inode_put(many, 1);
	CHECK_STR(fs_check(pool.fs), "");
	CHECK_EQ(set(f, "user.a", buffer, VALUE_MAX), 0);
	CHECK_EQ(make(d, "new", DIR_MODE), 0);
	CHECK_EQ(blocks_used(), used);
	pml_inode_put(f, 1);
	pml_inode_put(d, 1);
	reopen();
	end();
}

/* ---- hostile structures -------------------------------------------------- */

static void check_refused(struct pml_inode *f, const char *name)
{
	CHECK_EQ(get(f, name, buffer, VALUE_MAX), -EIO);
	CHECK_EQ(set(f, name, "1", 1), -EIO);
	CHECK_EQ(pml_xattr_remove(f, name), -EIO);
	CHECK_EQ(list(f, 0, buffer, sizeof(buffer)), -EIO);
}

static void set_words(struct pml_inode *f, const struct pml_btree_item *item)
{
	struct pml_tx tx;
	int err = pml_tx_begin(pool.fs, &tx);
	if (!err)
		err = pml_tx_end(&tx, pml_btree_update(pool.fs, &f->media->xattr, item));
	if (err)
		BAIL_OUT("update: %s", strerror(-err));
}

static void test_bad_attributes_are_refused(void)
{
	begin();
	struct pml_inode *f = fs_pool_create(root, "f", FILE_MODE);
	CHECK_EQ(set(f, "user.a", "12345", 5), 0);
	struct pml_btree_item item;
	REQUIRE(pml_btree_ceil(pool.fs, f->media->xattr, 0, &item) == 0);
	const struct pml_btree_item good = item;
	struct pml_media_xattr *media = pml_at(pool.fs, item.word[0]);
	static const uint32_t bad_bytes[] = {0, 4, 6, 256, VALUE_MAX + 1, UINT32_MAX};
	for (size_t i = 0; i < PML_ARRAY_LEN(bad_bytes); i++) {
		media->value_bytes = bad_bytes[i];
		check_refused(f, "user.a");
		/* The tree says the same. */
		if (bad_bytes[i] > VALUE_MAX) {
			item.word[1] = 6ull << 32 | bad_bytes[i];
			set_words(f, &item);
			check_refused(f, "user.a");
			set_words(f, &good);
		}
		media->value_bytes = 5;
		media->name_bytes = bad_bytes[i] == 6 ? 5 : bad_bytes[i];
		check_refused(f, "user.a");
		media->name_bytes = 6;
	}
	media->name[2] = 0;
	check_refused(f, "user.a");
	media->name[2] = 'e';
	const uint64_t bad_offsets[] = {0, 1, FS_POOL_BYTES - 8, FS_POOL_BYTES, UINT64_MAX & ~7ull};
	for (size_t i = 0; i < PML_ARRAY_LEN(bad_offsets); i++) {
		item = good;
		item.word[0] = bad_offsets[i];
		set_words(f, &item);
		check_refused(f, "user.a");
	}
	set_words(f, &good);
	uint64_t tree = f->media->xattr;
	f->media->xattr = FS_POOL_BYTES;
	check_refused(f, "user.a");
	f->media->xattr = tree;
	CHECK_EQ(get(f, "user.a", buffer, 5), 5);
	pml_inode_put(f, 1);
	end();
}

/* ---- threads ------------------------------------------------------------- */

enum { THREADS = 4, ROUNDS = 300 };
static struct pml_inode *shared, *own[THREADS];

static void *change_both(void *arg)
{
	size_t self = (size_t)(uintptr_t)arg;
	char value[VALUE_MAX / 64], got[VALUE_MAX / 64];
	for (unsigned int i = 0; i < ROUNDS; i++) {
		size_t bytes = i * 7 % sizeof(value) + 1;
		memset(value, (int)i, bytes);
		CHECK_EQ(set(own[self], "user.own", value, bytes), 0);
		CHECK_EQ(set(shared, "user.shared", value, bytes), 0);
		/* Whole, whoever set it last. */
		int64_t n = get(shared, "user.shared", got, sizeof(got));
		CHECK(n > 0);
		for (int64_t k = 1; k < n; k++)
			if (got[k] != got[0])
				TAP_FAIL("a torn value");
		CHECK_EQ(get(own[self], "user.own", got, sizeof(got)), bytes);
	}
	return NULL;
}

static void test_threads(void)
{
	begin();
	pthread_t thread[THREADS];
	char name[8];
	shared = fs_pool_create(root, "shared", FILE_MODE);
	for (size_t i = 0; i < THREADS; i++) {
		(void)snprintf(name, sizeof(name), "f%zu", i);
		own[i] = fs_pool_create(root, name, FILE_MODE);
	}
	/* All begin with the first attribute of the filesystem. */
	for (size_t i = 0; i < THREADS; i++)
		if (pthread_create(&thread[i], NULL, change_both, (void *)(uintptr_t)i))
			BAIL_OUT("pthread_create");
	for (size_t i = 0; i < THREADS; i++)
		(void)pthread_join(thread[i], NULL);
	pml_inode_put(shared, 1);
	for (size_t i = 0; i < THREADS; i++)
		pml_inode_put(own[i], 1);
	end();
}

int main(void)
{
	TAP_RUN(test_names_and_namespaces);
	TAP_RUN(test_flags_and_lengths);
	TAP_RUN(test_types_of_inodes);
	TAP_RUN(test_lists_hide_trusted_and_have_a_limit);
	TAP_RUN(test_read_only_filesystems_are_read);
	TAP_RUN(test_changes_set_ctime_only);
	TAP_RUN(test_random_changes_against_a_model);
	TAP_RUN(test_names_of_one_hash);
	TAP_RUN(test_links_and_renames_keep_clones_do_not_copy);
	TAP_RUN(test_access_acls_and_modes_go_together);
	TAP_RUN(test_setgid_goes_with_an_acl_of_a_stranger);
	TAP_RUN(test_default_acls_are_inherited);
	TAP_RUN(test_access_honours_the_acl);
	TAP_RUN(test_writes_take_privileges_away);
	TAP_RUN(test_failed_operations_change_nothing);
	TAP_RUN(test_failed_freeing_is_finished_at_mount);
	TAP_RUN(test_a_full_device_changes_nothing_and_can_be_emptied);
	TAP_RUN(test_bad_attributes_are_refused);
	TAP_RUN(test_threads);
	return tap_done();
}
