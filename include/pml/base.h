/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * base.h -- sizes, attributes and small helpers that every folder uses
 *
 * Error convention of the whole project: functions return 0 (or a result that
 * cannot be negative) or a negative errno value.  errno itself is never part
 * of an interface.  Outputs are named ret_ and are set only on success.
 */
#ifndef PML_BASE_H
#define PML_BASE_H

#include <assert.h>
#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "media and wire structures are little-endian and used in place"
#endif

#define PML_BLOCK_BYTES 4096u
#define PML_BLOCK_SHIFT 12

#define PML_MUST_CHECK	      __attribute__((warn_unused_result))
#define PML_PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))
#define PML_UNUSED	      __attribute__((unused))

#define PML_ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))
#define PML_MIN(a, b)                                                                              \
	({                                                                                         \
		__auto_type min_a_ = (a);                                                          \
		__auto_type min_b_ = (b);                                                          \
		min_a_ < min_b_ ? min_a_ : min_b_;                                                 \
	})
#define PML_MAX(a, b)                                                                              \
	({                                                                                         \
		__auto_type max_a_ = (a);                                                          \
		__auto_type max_b_ = (b);                                                          \
		max_a_ > max_b_ ? max_a_ : max_b_;                                                 \
	})
#define PML_CONTAINER_OF(ptr, type, member) ((type *)(void *)((char *)(ptr)-offsetof(type, member)))

/* Longest explanation of an error in words, with its terminating zero. */
#define PML_REASON_BYTES 256

static inline uint64_t pml_round_down(uint64_t n, uint64_t unit)
{
	return n - n % unit;
}

/* Assumes: n + unit - 1 does not overflow. */
static inline uint64_t pml_round_up(uint64_t n, uint64_t unit)
{
	return pml_round_down(n + unit - 1, unit);
}

static inline void pml_auto_free_(void *p)
{
	free(*(void **)p);
}

static inline void pml_auto_close_(const int *fd)
{
	if (*fd >= 0)
		(void)close(*fd);
}

/* The variable is freed / closed when it leaves its scope. */
#define pml_auto_free  __attribute__((cleanup(pml_auto_free_)))
#define pml_auto_close __attribute__((cleanup(pml_auto_close_)))

/* Hands an owned descriptor or pointer out of its pml_auto_ variable. */
static inline int pml_take_fd(int *fd)
{
	int taken = *fd;
	*fd = -1;
	return taken;
}

#define pml_take_ptr(p)                                                                            \
	({                                                                                         \
		__auto_type taken_ = *(p);                                                         \
		*(p) = NULL;                                                                       \
		taken_;                                                                            \
	})

#endif
