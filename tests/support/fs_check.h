/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fs_check.h -- is the namespace of an open filesystem sound?  has it changed?
 *
 * Call both while nothing changes the filesystem.
 */
#ifndef TEST_FS_CHECK_H
#define TEST_FS_CHECK_H

#include "pml/fs.h"

/*
 * Walks all directories and the inode table: each entry names an inode in use of its
 * type, each link count equals what was found, every inode but orphans that somebody
 * still refers to is reached, counts agree, each extended attribute is found by
 * its name, the pool holds no entry, symlink target, attribute or tree node that no inode leads to,
 * and pml_fs_audit() has nothing to say. Returns "" or the first fault in words (a static buffer).
 */
const char *fs_check(struct pml_fs *fs);

/* A number that any change of an inode, an entry or an extended attribute changes. */
uint64_t fs_digest(struct pml_fs *fs);

#endif
