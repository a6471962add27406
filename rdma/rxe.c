/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * rxe.c -- see rxe.h
 */
#include <stdio.h>
#include <string.h>
#include <sys/utsname.h>
#include <time.h>

#include "rxe.h"

#define WAIT_TICKS 200u
#define WAIT_NS	   50000000000ull
/* The kernel's fastest clock, and its slowest. */
#define TICK_NS_MIN 1000000ull
#define TICK_NS_MAX 10000000ull

struct kernel {
	unsigned major, minor, patch;
};

static bool parse(const char *text, struct kernel *ret)
{
	struct kernel k = {0};
	int n = sscanf(text, "%3u.%3u.%4u", &k.major, &k.minor, &k.patch);
	*ret = k;
	return n >= 2;
}

static bool waits_long(const struct kernel *k)
{
	if (k->major != 6)
		return k->major > 6;
	/* Looked at: 6.1.192 of Debian. */
	return k->minor >= 14 || (k->minor == 1 && k->patch >= 192);
}

uint64_t pml_rxe_wait_ns(const char *release, const char *version, uint64_t tick_ns)
{
	struct kernel k;
	/* The release of such a kernel ends with the number of its binary interface. */
	const char *debian = strstr(version, " Debian ");
	bool is_known = debian ? parse(debian + strlen(" Debian "), &k) : parse(release, &k);
	if (is_known && waits_long(&k))
		return WAIT_NS;
	tick_ns = PML_MIN(PML_MAX(tick_ns, TICK_NS_MIN), TICK_NS_MAX);
	return WAIT_TICKS * tick_ns;
}

uint64_t pml_rxe_trusted_ns(void)
{
	/* The resolution of a coarse clock is a tick: clock_getres(2). */
	struct timespec tick;
	struct utsname name;
	if (clock_getres(CLOCK_MONOTONIC_COARSE, &tick) || tick.tv_sec)
		tick = (struct timespec){0};
	if (uname(&name))
		name.release[0] = name.version[0] = 0;
	return pml_rxe_wait_ns(name.release, name.version, (uint64_t)tick.tv_nsec) / 4 * 3;
}
