/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * persist.h -- stands in for libpmem's and libpmem2's store functions, to see flushes and fences
 *
 * libpmemobj reaches libpmem through imported symbols, and the filesystem gets its data
 * functions from libpmem2's getters.  Definitions of these names in the program or in a
 * preloaded library are found first: persist.c has them all.  It makes the stores and tells
 * two callbacks when something is flushed and when a fence ends.  It also sees each mapping
 * of a file being made.
 */
#ifndef TEST_POWER_PERSIST_H
#define TEST_POWER_PERSIST_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

/* Who stores: what a rule about flushes and fences is told from. */
enum persist_source {
	PERSIST_META,	   /* libpmemobj: transactions, allocator */
	PERSIST_OBJ,	   /* the filesystem's pmemobj_persist() */
	PERSIST_DATA_COPY, /* the filesystem's pml_data_copy(), pml_data_zero(), */
	PERSIST_DATA_ZERO, /* pml_data_persist() and pml_data_drain() */
	PERSIST_DATA_PERSIST,
	PERSIST_DATA_DRAIN,
};

struct persist_hooks {
	/* Every line of the range will be durable after the thread's next fence. */
	void (*flush)(enum persist_source source, const void *addr, size_t bytes);
	void (*fence)(enum persist_source source);
	/* A file was mapped (MAP_SHARED or MAP_PRIVATE in @flags), or memory unmapped. */
	void (*mapped)(void *addr, size_t bytes, int flags, int fd, off_t offset);
	void (*unmapped)(void *addr, size_t bytes);
};

/* NULL: stores are made and nobody is told. */
extern const struct persist_hooks *persist_hooks;

/* mmap(2) and munmap(2) that nobody is told of.  As mmap(2). */
void *persist_raw_mmap(void *addr, size_t bytes, int prot, int flags, int fd, off_t offset);
int persist_raw_munmap(void *addr, size_t bytes);

#endif
