/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fs_ground.h -- one pool with its root directory, and short ways to make and look up names
 *
 * For programs that test one pool at a time; included once per program.
 */
#ifndef TEST_FS_GROUND_H
#define TEST_FS_GROUND_H

#include "fs_check.h"
#include "fs_pool.h"
#include "../tap.h"

static struct fs_pool pool;
static struct pml_inode *root;

static void begin(void)
{
	fs_pool_make(&pool, FS_POOL_BYTES);
	root = fs_pool_root(&pool);
}

static void reopen(void)
{
	pml_inode_put(root, 1);
	fs_pool_reopen(&pool);
	root = fs_pool_root(&pool);
}

static void end(void)
{
	CHECK_STR(fs_check(pool.fs), "");
	pml_inode_put(root, 1);
	fs_pool_remove(&pool);
}

/* With a reference. */
static PML_UNUSED struct pml_inode *new_file(const char *name)
{
	return fs_pool_create(root, name, S_IFREG | 0644);
}

static PML_UNUSED int fill(struct pml_inode *inode, uint64_t first, int byte, size_t len)
{
	pml_auto_free unsigned char *buf = malloc(len);
	memset(buf, byte, len);
	return pml_file_write(inode, buf, len, first, false, NULL);
}

static PML_UNUSED struct pml_fs_counts counts_now(void)
{
	struct pml_fs_counts counts;
	pml_fs_counts(pool.fs, &counts);
	return counts;
}

/* Create, and drop the reference. */
static PML_UNUSED int make(struct pml_inode *dir, const char *name, mode_t mode)
{
	struct pml_inode *inode;
	const struct pml_create_args args = {.mode = mode, .target = "target"};
	int err = pml_dir_create(dir, name, &args, &inode);
	if (!err)
		pml_inode_put(inode, 1);
	return err;
}

/* The inode's number, or the error. */
static PML_UNUSED int64_t look(struct pml_inode *dir, const char *name)
{
	struct pml_inode *inode;
	int err = pml_dir_lookup(dir, name, &inode);
	if (err)
		return err;
	int64_t ino = (int64_t)pml_inode_ino(inode);
	pml_inode_put(inode, 1);
	return ino;
}

#endif
