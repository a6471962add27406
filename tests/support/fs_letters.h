/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fs_letters.h -- files with a letter in each block, so that a text says which block is where
 *
 * Included once per program; with it fs_ground.h.
 */
#ifndef TEST_FS_LETTERS_H
#define TEST_FS_LETTERS_H

#include "fs_ground.h"

/* One block of each letter: "abc" makes three; '.' a hole. */
static struct pml_inode *lettered(const char *name, const char *letters)
{
	struct pml_inode *inode = new_file(name);
	for (size_t i = 0; letters[i]; i++)
		if (letters[i] != '.')
			CHECK_EQ(fill(inode, i * PML_BLOCK_BYTES, letters[i], PML_BLOCK_BYTES), 0);
	return inode;
}

/* The first byte of each block, '.' for 0; a static buffer. */
static const char *letters_of(struct pml_inode *inode)
{
	static char text[256];
	size_t n = 0;
	for (uint64_t at = 0; at < pml_inode_size(inode) && n + 1 < sizeof(text);
	     at += PML_BLOCK_BYTES) {
		char c = 0;
		if (fs_pool_read(inode, at, &c, 1) != 1)
			break;
		text[n++] = c ? c : '.';
	}
	text[n] = 0;
	return text;
}

#endif
