/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * played.h -- a server that answers as a script says
 *
 * Mostly well-formed, often true: it has memory, grants real keys for it, and may fence them
 * and say so, or not.  It recalls and revokes what it has granted or never did, answers late,
 * twice, with an error, with another type, with damage, or not at all; it sends frames that
 * are none and hangs up.
 *
 * Threads: its own; it listens until it is stopped.
 */
#ifndef FUZZ_PLAYED_H
#define FUZZ_PLAYED_H

#include <pthread.h>
#include <stdatomic.h>

#include "../../rdma/codec.h"
#include "script.h"

#define PLAYED_KEYS  64u
#define PLAYED_BYTES (256u << 10) /* of its memory, which is the beginning of each file */

struct played_key {
	uint64_t lease_id;
	struct pml_key *key; /* NULL: dead */
};

struct played {
	struct script script;
	struct pml_fabric *fabric;
	char url[64];
	pthread_t thread;
	atomic_bool is_over;
	struct pml_ep *ep;
	uint8_t *memory;
	uint64_t last_lease;
	uint32_t nkeys;
	struct played_key keys[PLAYED_KEYS];
};

void played_start(struct played *played, const struct script *script);
void played_stop(struct played *played);

#endif
