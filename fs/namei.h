/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * namei.h -- what namei.c, create.c and rename.c share
 *
 * The directory is locked: for reading by what looks, exclusively by what changes;
 * the latter inside a transaction.
 */
#ifndef PML_FS_NAMEI_H
#define PML_FS_NAMEI_H

#include "dir.h"

struct pml_name {
	const char *text;
	size_t bytes;
};

/* An entry and a reference to the inode that it names; inode NULL: nothing yet. */
struct pml_child {
	struct pml_dir_entry entry;
	struct pml_inode *inode;
};

/* Checks what needs no lock. */
int pml_namei_name(const struct pml_inode *dir, const char *text,
		   struct pml_name *ret_name) PML_MUST_CHECK;

/*
 * Looks up @name.  The caller drops the child after its locks, even on error.
 * -ENOENT: no such name, or @dir has been removed.
 */
int pml_namei_child(struct pml_inode *dir, const struct pml_name *name,
		    struct pml_child *child) PML_MUST_CHECK;
void pml_namei_put(const struct pml_child *child);

/* May @name be made?  -EEXIST; -ENOENT: @dir has been removed. */
int pml_namei_check_absent(const struct pml_inode *dir, const struct pml_name *name) PML_MUST_CHECK;
/* May the locked child lose a name?  -ENOTEMPTY. */
int pml_namei_check_removable(const struct pml_inode *child) PML_MUST_CHECK;

int pml_namei_set_ctime(struct pml_inode *inode) PML_MUST_CHECK;
/* A directory wins or loses subdirectories. */
int pml_namei_add_links(struct pml_inode *dir, int delta) PML_MUST_CHECK;
/* The inode loses a name; a directory its only one. */
int pml_namei_drop_link(struct pml_inode *inode) PML_MUST_CHECK;

/* Gives the new @inode its contents and what it inherits from @dir (create.c). */
int pml_namei_fill_in_tx(const struct pml_inode *dir, const struct pml_create_args *args,
			 struct pml_inode *inode) PML_MUST_CHECK;

#endif
