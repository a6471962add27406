/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fuse_tokens.h -- random bytes that stand for an open file
 *
 * An ioctl on one file that needs a second one cannot name it by a descriptor, which means
 * something in its process only.  So the process asks for a token on that descriptor: who
 * has it has had the file open.  A token is good once, for one user, for a short time.
 *
 * Threads: safe.  One lock, not held while calling anything else.
 */
#ifndef PML_FUSE_TOKENS_H
#define PML_FUSE_TOKENS_H

#include "pml/base.h"
#include "pml/fs.h"

#define PML_FUSE_TOKEN_BYTES   16u
#define PML_FUSE_TOKEN_LIFE_MS 10000u
/* I9.  Of all users, and of one: its oldest makes room. */
#define PML_FUSE_TOKENS_MAX	 4096u
#define PML_FUSE_USER_TOKENS_MAX 256u

/* What a descriptor may do. */
enum {
	PML_FUSE_CAN_READ = 1 << 0,
	PML_FUSE_CAN_WRITE = 1 << 1,
	PML_FUSE_APPENDS = 1 << 2,
	PML_FUSE_RIGHTS = (1 << 3) - 1,
};

struct pml_fuse_tokens;

int pml_fuse_tokens_new(struct pml_fuse_tokens **ret_tokens) PML_MUST_CHECK;
/* Drops all references.  Assumes: no other thread uses the table. */
void pml_fuse_tokens_free(struct pml_fuse_tokens *tokens);

/*
 * Makes a token for @inode; takes a reference of its own.  -EAGAIN: too many of all users
 * (uid 0 takes the oldest one's place); -EIO: no random numbers.
 */
int pml_fuse_tokens_give(struct pml_fuse_tokens *tokens, struct pml_inode *inode, uid_t uid,
			 unsigned int rights, uint64_t now_ms,
			 uint8_t ret_token[PML_FUSE_TOKEN_BYTES]) PML_MUST_CHECK;

/* Uses a token up; the reference is the caller's.  NULL: not good, or without @rights. */
struct pml_inode *pml_fuse_tokens_take(struct pml_fuse_tokens *tokens,
				       const uint8_t token[PML_FUSE_TOKEN_BYTES], uid_t uid,
				       unsigned int rights, uint64_t now_ms) PML_MUST_CHECK;

/* Drops those that are too old.  Returns how many are left. */
size_t pml_fuse_tokens_purge(struct pml_fuse_tokens *tokens, uint64_t now_ms);

#endif
