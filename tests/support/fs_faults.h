/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fs_faults.h -- transactions that fail at every place (I8), and a hash of one's choice
 *
 * The program's own definitions of some library functions come before the libraries'.
 * Included once per program.
 */
#ifndef TEST_FS_FAULTS_H
#define TEST_FS_FAULTS_H

#include <dlfcn.h>
#include <libpmemobj.h>
#include <sodium.h>
#include <stdio.h>

#include "fs_ground.h"

/* Calls of the library from the fail_from-th on fail; 0: none. */
static _Atomic unsigned int fail_from, calls;

static bool must_fail(void)
{
	calls++;
	if (!fail_from || calls < fail_from)
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
	return must_fail() ? OID_NULL : REAL(pmemobj_tx_xalloc)(bytes, type, flags);
}

int pmemobj_tx_xfree(PMEMoid oid, uint64_t flags)
{
	return must_fail() ? ENOMEM : REAL(pmemobj_tx_xfree)(oid, flags);
}

/* NULL: the real hash. */
static uint64_t (*fake_hash)(const unsigned char *name, size_t bytes);

int crypto_shorthash(unsigned char *ret_hash, const unsigned char *in, unsigned long long bytes,
		     const unsigned char *key)
{
	if (!fake_hash)
		return crypto_shorthash_siphash24(ret_hash, in, bytes, key);
	uint64_t hash = fake_hash(in, bytes);
	memcpy(ret_hash, &hash, sizeof(hash));
	return 0;
}

/* The operation changes nothing as long as anything in it fails, and succeeds then. */
static void sweep(const char *name, int (*op)(void))
{
	unsigned int from = 0;
	for (;;) {
		uint64_t before = fs_digest(pool.fs);
		arm(++from);
		int err = op();
		if (!disarm()) {
			CHECK_EQ(err, 0);
			break;
		}
		CHECK_EQ(err, -ENOSPC);
		CHECK(fs_digest(pool.fs) == before);
		CHECK_STR(fs_check(pool.fs), "");
	}
	CHECK(from > 1);
	CHECK_STR(fs_check(pool.fs), "");
	printf("# %s: %u places\n", name, from - 1);
}

#define SWEEP(op) sweep(#op, op)

#endif
