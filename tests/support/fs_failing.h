/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fs_failing.h -- libpmemobj's part of transactions, failing or dying where a test wants it
 *
 * The program's own definitions come before the library's.  Included once per program.
 */
#ifndef TEST_FS_FAILING_H
#define TEST_FS_FAILING_H

#include <dlfcn.h>
#include <errno.h>
#include <libpmemobj.h>
#include <stdbool.h>
#include <stdlib.h>

/*
 * Calls of the library from the fail_from-th on fail, with fails_once only that one; at the
 * die_at-th it dies; 0: none.
 */
static _Atomic unsigned int fail_from, die_at, calls;
static bool fails_once;

static bool must_fail(void)
{
	unsigned int call = ++calls;
	if (die_at && call == die_at)
		_Exit(42);
	if (!fail_from || (fails_once ? call != fail_from : call < fail_from))
		return false;
	errno = ENOMEM;
	return true;
}

static void arm(unsigned int from)
{
	fail_from = from;
	calls = 0;
}

/* Was there a failure? */
static bool disarm(void)
{
	bool fired = fail_from && calls >= fail_from;
	fail_from = 0;
	return fired;
}

#define REAL(name) ((__typeof__(&(name)))dlsym(RTLD_NEXT, #name))

int pmemobj_tx_xadd_range_direct(const void *addr, size_t bytes, uint64_t flags)
{
	return must_fail() ? ENOMEM : REAL(pmemobj_tx_xadd_range_direct)(addr, bytes, flags);
}

PMEMoid pmemobj_tx_xalloc(size_t bytes, uint64_t type, uint64_t flags)
{
	/* It is tried twice, by the same thread: the second try fails like the first. */
	static _Thread_local bool is_second;
	bool fails = (fails_once && is_second) || must_fail();
	is_second = fails && !is_second;
	return fails ? OID_NULL : REAL(pmemobj_tx_xalloc)(bytes, type, flags);
}

int pmemobj_tx_xfree(PMEMoid oid, uint64_t flags)
{
	return must_fail() ? ENOMEM : REAL(pmemobj_tx_xfree)(oid, flags);
}

#endif
