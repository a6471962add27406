/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * service_fake_fs.h -- as much of pml/fs.h as the service and the lease manager use
 *
 * One memory arena, files scattered over it in short runs, one lock.  Blocks that
 * become free are filled with 0xdb at once, so a stray remote write shows.
 */
#ifndef SERVICE_FAKE_FS_H
#define SERVICE_FAKE_FS_H

#include "pml/fs.h"

#ifndef FAKE_BLOCKS
#define FAKE_BLOCKS 8192u
#endif
#define FAKE_RUN_BLOCKS 16u /* longest contiguous piece of a file */
#define FAKE_POISON	0xdb

struct pml_fs *fake_fs_new(void);
void fake_fs_free(struct pml_fs *fs);

/* Makes an entry (S_IFREG or S_IFDIR) owned by @uid; returns its inode number. */
uint64_t fake_fs_make(struct pml_fs *fs, uint64_t dir_ino, const char *name, mode_t mode,
		      uid_t uid);
/* A local write; allocates what is missing. */
void fake_fs_write(struct pml_fs *fs, uint64_t ino, uint64_t first_byte, const void *data,
		   size_t bytes);
/* A local read; holes are zeros. */
void fake_fs_read(struct pml_fs *fs, uint64_t ino, uint64_t first_byte, void *data, size_t bytes);
uint64_t fake_fs_size(struct pml_fs *fs, uint64_t ino);
/* Asks the guard, and waits as it says, then truncates.  0 or the guard's error. */
int fake_fs_truncate(struct pml_fs *fs, uint64_t ino, uint64_t size_bytes);
/* The same, then frees these blocks. */
int fake_fs_punch(struct pml_fs *fs, uint64_t ino, uint64_t first_block, uint64_t nblocks);

/* From now on the device is one that only msync(2) makes durable. */
void fake_fs_have_pages(struct pml_fs *fs);
/* Would a power failure leave these bytes there? */
bool fake_fs_is_durable(struct pml_fs *fs, uint64_t ino, uint64_t first_byte, const void *data,
			size_t bytes);
/* Commits that had the server flush. */
uint64_t fake_fs_flushing_commits(struct pml_fs *fs);

uint64_t fake_fs_pins(struct pml_fs *fs);
/* Free blocks whose poison was overwritten. */
uint64_t fake_fs_stained(struct pml_fs *fs);

#endif
