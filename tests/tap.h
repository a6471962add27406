/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * tap.h -- Test Anything Protocol for C tests
 *
 *	static void test_something_holds(void) { CHECK_EQ(f(1), 2); }
 *	int main(void) { TAP_RUN(test_something_holds); return tap_done(); }
 *
 * One test function is one TAP line; failed checks are printed as comments with
 * file and line.  The plan comes last, so a program that dies without it is an
 * error for prove and meson; tap_done() makes a failure the exit status too.
 * Threads: checks may be made from any thread.  Several files of a program may include it.
 */
#ifndef TAP_H
#define TAP_H

#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* One for the whole program: a check in a helper's file fails the test that called it. */
#define TAP_COMMON __attribute__((weak))
TAP_COMMON int tap_count, tap_failed_count;
TAP_COMMON atomic_int tap_bad;
TAP_COMMON const char *tap_skip_reason;

#define TAP_FAIL(...)                                                                              \
	do {                                                                                       \
		atomic_store(&tap_bad, 1);                                                         \
		printf("# %s:%d: ", __FILE__, __LINE__);                                           \
		printf(__VA_ARGS__);                                                               \
		printf("\n");                                                                      \
		fflush(stdout);                                                                    \
	} while (0)

#define CHECK(cond)                                                                                \
	do {                                                                                       \
		if (!(cond))                                                                       \
			TAP_FAIL("not true: %s", #cond);                                           \
	} while (0)

/* For integers. */
#define CHECK_EQ(got, want)                                                                        \
	do {                                                                                       \
		long long tap_got = (long long)(got), tap_want = (long long)(want);                \
		if (tap_got != tap_want)                                                           \
			TAP_FAIL("%s is %lld, want %s = %lld", #got, tap_got, #want, tap_want);    \
	} while (0)

#define CHECK_STR(got, want)                                                                       \
	do {                                                                                       \
		const char *tap_got = (got), *tap_want = (want);                                   \
		if (strcmp(tap_got, tap_want) != 0)                                                \
			TAP_FAIL("%s is \"%s\", want \"%s\"", #got, tap_got, tap_want);            \
	} while (0)

/* As CHECK, and the rest of the function makes no sense without it. */
#define REQUIRE(cond)                                                                              \
	do {                                                                                       \
		if (!(cond)) {                                                                     \
			TAP_FAIL("required: %s", #cond);                                           \
			return;                                                                    \
		}                                                                                  \
	} while (0)

#define SKIP(reason)                                                                               \
	do {                                                                                       \
		tap_skip_reason = (reason);                                                        \
		return;                                                                            \
	} while (0)

#define BAIL_OUT(...)                                                                              \
	do {                                                                                       \
		printf("Bail out! ");                                                              \
		printf(__VA_ARGS__);                                                               \
		printf("\n");                                                                      \
		fflush(stdout);                                                                    \
		_Exit(1);                                                                          \
	} while (0)

static inline void tap_run(const char *name, void (*fn)(void))
{
	atomic_store(&tap_bad, 0);
	tap_skip_reason = NULL;
	fn();
	tap_count++;
	if (atomic_load(&tap_bad)) {
		tap_failed_count++;
		printf("not ok %d - %s\n", tap_count, name);
	} else if (tap_skip_reason) {
		printf("ok %d - %s # SKIP %s\n", tap_count, name, tap_skip_reason);
	} else {
		printf("ok %d - %s\n", tap_count, name);
	}
	fflush(stdout);
}

#define TAP_RUN(fn) tap_run(#fn, fn)

static inline int tap_done(void)
{
	printf("1..%d\n", tap_count);
	return tap_failed_count ? 1 : 0;
}

#endif
