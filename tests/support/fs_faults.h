/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fs_faults.h -- transactions that fail at every place (I8), and a hash of one's choice
 *
 * The program's own definitions of some library functions come before the libraries'.
 * Included once per program.
 */
#ifndef TEST_FS_FAULTS_H
#define TEST_FS_FAULTS_H

#include <sodium.h>
#include <stdio.h>

#include "fs_failing.h"
#include "fs_ground.h"

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
