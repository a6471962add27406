/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * locals.h -- a local program's operations, one after the other, in a thread of their own
 *
 * They wait for leases as any local operation does; whoever asks for them goes on.
 */
#ifndef FUZZ_LOCALS_H
#define FUZZ_LOCALS_H

#include <pthread.h>

#include "service_fake_fs.h"

#define LOCALS_MAX 16u

enum local_kind { LOCAL_TRUNCATE, LOCAL_PUNCH, LOCAL_WRITE, LOCAL_READ, LOCAL_KINDS };

struct local_op {
	enum local_kind kind;
	uint64_t ino;
	uint64_t first_block;
	uint64_t nblocks;
};

struct locals {
	struct pml_fs *fs;
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	struct local_op ops[LOCALS_MAX];
	uint32_t first, count;
	bool is_over;
};

void locals_start(struct locals *locals, struct pml_fs *fs);
/* One too many is left out. */
void locals_put(struct locals *locals, const struct local_op *op);
/* Waits for those that were asked for.  Assumes: nobody keeps a lease. */
void locals_stop(struct locals *locals);

#endif
