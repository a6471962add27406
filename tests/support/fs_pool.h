/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fs_pool.h -- a small formatted pool for tests of fs/
 *
 *	struct fs_pool pool;
 *	fs_pool_make(&pool, FS_POOL_BYTES);
 *	... pool.fs ...
 *	fs_pool_reopen(&pool);
 *	fs_pool_remove(&pool);
 *
 * The pool is a file in $PML_TEST_DIR, or /dev/shm.  It is removed at exit if the
 * test did not, after a crash by the next test program.  What fails here ends the
 * program with "Bail out!".
 */
#ifndef TEST_FS_POOL_H
#define TEST_FS_POOL_H

#include <limits.h>

#include "pml/fs.h"

#define FS_POOL_BYTES PML_DEVICE_BYTES_MIN

struct fs_pool {
	struct pml_fs *fs;
	char path[PATH_MAX];
};

/* Formats and opens. */
void fs_pool_make(struct fs_pool *pool, uint64_t size_bytes);
/* Closes if open, and opens. */
void fs_pool_reopen(struct fs_pool *pool);
void fs_pool_reopen_read_only(struct fs_pool *pool);
void fs_pool_close(struct fs_pool *pool);
/* 0 or the error of pml_fs_open(). */
int fs_pool_try_open(struct fs_pool *pool);
/* Closes if open, and removes the file. */
void fs_pool_remove(struct fs_pool *pool);

/* The root directory; the reference is the caller's. */
struct pml_inode *fs_pool_root(const struct fs_pool *pool);
/* pml_dir_create() with mode and owner 0:0. */
struct pml_inode *fs_pool_create(struct pml_inode *dir, const char *name, mode_t mode);

/* Reads up to @len bytes; less only at the end of the file or on an error. */
size_t fs_pool_read(struct pml_inode *inode, uint64_t first, void *buf, size_t len);
/* Does [first, +len) hold nothing but @byte? */
bool fs_pool_holds(struct pml_inode *inode, uint64_t first, int byte, size_t len);

#endif
