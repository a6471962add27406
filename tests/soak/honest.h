/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * honest.h -- a client that does nothing wrong, while others do, and how long its calls take
 *
 * It reads and writes a file that nobody else wants, /siege/own, by leases that it takes and
 * returns each time, and looks at every byte.
 *
 * Threads: one process does it; others may read the counts.
 */
#ifndef SOAK_HONEST_H
#define SOAK_HONEST_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define HONEST_FILE  "/siege/own"
#define HONEST_BYTES (256u << 10) /* of its file */

enum honest_step {
	HONEST_LEASE,
	HONEST_READ,
	HONEST_WRITE,
	HONEST_COMMIT,
	HONEST_RETURN,
	HONEST_STEPS,
};
extern const char *const honest_names[HONEST_STEPS];

/* In memory that all processes share. */
struct honest_counts {
	_Atomic uint64_t done;	     /* rounds: lease, transfer, return */
	_Atomic uint64_t lost;	     /* connections */
	_Atomic uint64_t violations; /* each was printed */
	/* Of steps that succeeded, without [0] and under [1] attack. */
	_Atomic uint64_t calls[2][HONEST_STEPS];
	_Atomic uint64_t took_ns[2][HONEST_STEPS];
};

struct honest_env {
	const char *url;
	const _Atomic bool *must_stop;
	const _Atomic bool *is_attack;
	struct honest_counts *counts;
};

/* What its file holds at @i. */
uint8_t honest_byte(uint64_t i);
/* Goes on until it must stop. */
void honest_run(const struct honest_env *env);

#endif
