/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * raid.h -- what bad clients do to a server, over either fabric
 *
 * A raid is one attack of a kind, with connections of its own, some tenths of a second long.
 * The files that raiders may write, /siege/a0 to a3, hold RAID_EVIL where they wrote,
 * RAID_LOCAL where a local program did, and zeros: any other byte that a key of theirs shows
 * is somebody else's.  What they write through keys that are dead, or were never theirs, is
 * RAID_EVIL, so it shows wherever it gets to.
 *
 * Threads: one process does one raid at a time.
 */
#ifndef SOAK_RAID_H
#define SOAK_RAID_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define RAID_EVIL  0xee
#define RAID_LOCAL 0x4c
#define RAID_FILES 4u

enum raid_kind {
	RAID_DIE,     /* a client of the library is killed in the middle of a transfer */
	RAID_LIE,     /* returns a lease and goes on; commits what it did not write */
	RAID_SILENT,  /* never answers a recall, and goes on until it is cut off */
	RAID_REPLAY,  /* says again what it has said over a connection that is gone */
	RAID_FLOOD,   /* connections that say nothing; requests whose answers nobody takes */
	RAID_GARBAGE, /* messages and, on soft, bytes that are none */
	RAID_KINDS,
};
extern const char *const raid_names[RAID_KINDS];

/* Counted in memory that all processes share. */
struct raid_counts {
	_Atomic uint64_t raids[RAID_KINDS];
	_Atomic uint64_t served;     /* one-sided accesses that succeeded */
	_Atomic uint64_t refused;    /* that the fabric refused, or broke the connection for */
	_Atomic uint64_t violations; /* each was printed */
};

struct raid_target {
	const char *url;
	struct raid_counts *counts;
};

/* One raid; ends early when it is refused a connection. */
void raid(const struct raid_target *target, enum raid_kind kind, unsigned int *seed);

#endif
