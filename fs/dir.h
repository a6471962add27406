/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * dir.h -- the entries of one directory
 *
 * Looking calls need the directory's lock, changing calls need it exclusively
 * and a transaction.  They change the tree, nentries and the dirent objects,
 * not the link counts and times (namei.c, create.c and rename.c do).
 */
#ifndef PML_FS_DIR_H
#define PML_FS_DIR_H

#include "btree.h"
#include "inode.h"

struct pml_dir_entry {
	uint64_t key;	 /* of the entry in the tree */
	uint64_t object; /* offset of struct pml_media_dirent */
	uint64_t ino;
	uint32_t type;
};

/* -EINVAL, -ENAMETOOLONG: as fs.h says about names. */
int pml_name_check(const char *name, size_t *ret_bytes) PML_MUST_CHECK;

/*
 * Keys of names in a tree, also of extended attributes': those of one hash lie in
 * [first key, first key + PML_NAME_COLLISIONS), and all below 2^63.
 */
#define PML_NAME_COLLISIONS 256u
uint64_t pml_name_first_key(const struct pml_fs *fs, const char *name, size_t name_bytes);
/* The lowest key that a new name of this first key can have.  -ENOSPC: none is left. */
int pml_name_free_key(const struct pml_fs *fs, uint64_t tree, uint64_t first_key,
		      uint64_t *ret_key) PML_MUST_CHECK;

/* -ENOENT. */
int pml_dir_find(const struct pml_fs *fs, const struct pml_media_inode *dir, const char *name,
		 size_t name_bytes, struct pml_dir_entry *ret_entry) PML_MUST_CHECK;
/* The entry with the lowest key.  -ENOENT: there is none. */
int pml_dir_first(const struct pml_fs *fs, const struct pml_media_inode *dir,
		  struct pml_dir_entry *ret_entry) PML_MUST_CHECK;
/* Assumes: @name is not there.  -ENOSPC: no room, or 256 names of one hash. */
int pml_dir_add(struct pml_fs *fs, struct pml_media_inode *dir, const char *name, size_t name_bytes,
		uint64_t ino, uint32_t type) PML_MUST_CHECK;
int pml_dir_remove(struct pml_fs *fs, struct pml_media_inode *dir,
		   const struct pml_dir_entry *entry) PML_MUST_CHECK;
/* Points an existing entry at another inode (rename). */
int pml_dir_set(struct pml_fs *fs, struct pml_media_inode *dir, const struct pml_dir_entry *entry,
		uint64_t ino, uint32_t type) PML_MUST_CHECK;

/*
 * namei.c: gives a directory without links, which nobody can reach yet, with all that is
 * below it the name @name in @dir.  @nsubdirs: how many directories lie in it.  Audit lock
 * held exclusively.  Errors as pml_dir_create().
 */
int pml_dir_adopt(struct pml_inode *dir, const char *name, struct pml_inode *tree,
		  uint32_t nsubdirs) PML_MUST_CHECK;

#endif
