/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * remote.h -- files that a remote client writes through leases and local programs read
 */
#ifndef SOAK_REMOTE_H
#define SOAK_REMOTE_H

#include "model.h"

struct pml_client;
struct pml_client_buffer;

#define REMOTE_BYTES (8u * BLOCK) /* of a write at most */

/* Makes the files; false: that failed. */
bool remote_init(void);
/* Writes and commits a few blocks, and reads them as a local program does at once. */
void remote_write_once(struct pml_client *client, struct pml_client_buffer *buffer,
		       unsigned int *seed);
/* With no client at work: each block is what was committed last, or what was under way. */
void remote_check(void);
/* Commits, by all clients. */
uint64_t remote_commits(void);

#endif
