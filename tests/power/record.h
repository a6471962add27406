/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * record.h -- what a run leaves to chance at each of its fences
 *
 * Between record_start() and record_stop() all stores to one file's shared mappings are
 * watched.  A shadow receives only what was flushed and then fenced.  At each fence a list
 * is taken down of the 64-byte lines that differ from the shadow: in flight (flushed since
 * the last fence) and dirty (stored and not flushed, or stored again).  A power failure just
 * before that fence may leave any of them on the device.  image.h builds such devices.
 *
 * One recording at a time, in a program of one thread.
 */
#ifndef TEST_POWER_RECORD_H
#define TEST_POWER_RECORD_H

#include <stdint.h>

#include "persist.h"

#define LINE_BYTES 64u
#define LINE_WORDS 8u

struct record_line {
	uint32_t line; /* number in the file */
	bool is_dirty; /* else in flight: lands at the fence */
	uint64_t word[LINE_WORDS];
};

/* One fence, or the end of the recording, which is like a fence that never comes. */
struct record_event {
	uint32_t step;	   /* the last one that has begun; 0: none yet */
	bool is_in_step;   /* it has not returned yet */
	size_t first_line; /* in record.lines */
	size_t nlines;	   /* those in flight first */
	size_t nflying;
};

struct record {
	uint64_t size_bytes;
	uint8_t *start; /* the file's contents at the start */
	struct record_event *events;
	size_t nevents;
	struct record_line *lines;
	size_t nlines;
};

/*
 * Flushes, or fences, that do not happen: what a mistake in the program would be like.  Most
 * rules are about flushes: where a fence is missing the next one of the same thread does its
 * work, so only the last before something else counts.
 */
struct record_drop {
	uint32_t first_step; /* steps [first_step, end_step); 0: in none */
	uint32_t end_step;
	unsigned int sources; /* bits 1 << enum persist_source */
	bool is_fence;	      /* else flushes, of ranges in [first_byte, end_byte) */
	uint64_t first_byte;
	uint64_t end_byte;
	unsigned int skip; /* the first so many happen */
	unsigned int max;  /* 0: all */
};

/* @drop: NULL: none.  The file must not be mapped yet.  Ends the program on failure. */
void record_start(const char *path, const struct record_drop *drop);
/* The next step begins; it ends. */
void record_begin_step(void);
void record_end_step(void);
/* The mappings must still be there.  Nothing is watched any more. */
void record_stop(struct record *ret_record);
void record_free(struct record *record);
/* How often the drop of record_start() has happened since. */
uint64_t record_drops(void);

/* What libpmemobj keeps in the pool for the time it is open, and never flushes. */
static inline bool record_ignores(uint32_t line)
{
	return line >= 0x1a00u / LINE_BYTES && line < 0x2000u / LINE_BYTES;
}

#endif
