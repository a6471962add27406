/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * lease_fake_fs.h -- the few filesystem functions that leases use, in 200 lines
 *
 * Every inode has FAKE_FILE_BLOCKS blocks of its own; blocks count pins and live
 * keys under one lock, so that "no unpin before the key is dead" (I3) and "no
 * layout change under a pin" (I1, I4) are checked at the moment they could break.
 *
 * Threads: all functions are safe.
 */
#ifndef LEASE_FAKE_FS_H
#define LEASE_FAKE_FS_H

#include <stdatomic.h>

#include "pml/fs.h"

#define FAKE_INODES	 8u
#define FAKE_FILE_BLOCKS 64u
#define FAKE_FILE_BYTES	 ((uint64_t)FAKE_FILE_BLOCKS * PML_BLOCK_BYTES)

struct pml_fs *fake_fs_new(void);
void fake_fs_free(struct pml_fs *fs);

/* Blocks per segment that pml_file_pin() hands out; default FAKE_FILE_BLOCKS. */
void fake_fs_set_extent(struct pml_fs *fs, uint64_t nblocks);
void fake_fs_set_size(struct pml_fs *fs, uint64_t ino, uint64_t size_bytes);
/* What the next pml_file_pin() and all pml_file_commit() return. */
void fake_fs_fail_pin(struct pml_fs *fs, int err);
void fake_fs_set_commit_result(struct pml_fs *fs, int err);

/* The transport says: a key for this segment lives / is dead. */
void fake_fs_key_made(struct pml_fs *fs, const struct pml_segment *segment);
void fake_fs_key_dead(struct pml_fs *fs, const struct pml_segment *segment);

/*
 * A layout operation: asks the guard under the inode's lock, then changes the range.
 * Returns what admit() does.
 */
int fake_fs_change(struct pml_fs *fs, const struct pml_layout_change *change, struct pml_waiter *w);
void fake_fs_cancel(struct pml_fs *fs, struct pml_waiter *w);
void fake_fs_done(struct pml_fs *fs, struct pml_waiter *w);
/* The inode has lost its last name, or has one again. */
void fake_fs_orphan(struct pml_fs *fs, uint64_t ino, bool is_orphan);
bool fake_fs_may_be_leased(struct pml_fs *fs, uint64_t ino);

/* Now. */
uint64_t fake_fs_pins(struct pml_fs *fs);
uint64_t fake_fs_refs(struct pml_fs *fs, uint64_t ino);
uint64_t fake_fs_commits(struct pml_fs *fs);
/* How often a rule was broken; the first in words. */
uint64_t fake_fs_violations(struct pml_fs *fs, const char **ret_first);

#endif
