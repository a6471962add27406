/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fuzz_check.c -- checks and repairs a damaged device
 *
 * What the checker calls sound, or has repaired whole, is: a second check finds nothing,
 * and it can be mounted.
 */
#include <stdio.h>

#include "fuzz.h"
#include "image.h"

/* Looks for errors and returns how many are left; -1: there was none to check. */
static int64_t check(const char *path, enum pml_check_mode mode)
{
	const struct pml_check_options options = {.mode = mode};
	struct pml_check_result result;
	char reason[PML_REASON_BYTES];
	if (pml_fs_check(path, &options, &result, reason))
		return -1;
	return (int64_t)result.nleft;
}

void fuzz_one(const uint8_t *input, size_t bytes)
{
	static const enum pml_check_mode modes[] = {PML_CHECK_ALL, PML_CHECK_SAFE,
						    PML_CHECK_NOTHING};
	const char *path = image_make(input, bytes);
	if (!path)
		return;
	if (check(path, modes[input[1] % PML_ARRAY_LEN(modes)]) != 0)
		return;
	if (check(path, PML_CHECK_NOTHING) != 0) {
		fprintf(stderr, "the second check finds something\n");
		abort();
	}
	struct pml_fs *fs;
	char reason[PML_REASON_BYTES];
	const struct pml_open_args args = {.path = path};
	if (pml_fs_open(&args, &fs, reason)) {
		fprintf(stderr, "what was checked cannot be mounted: %s\n", reason);
		abort();
	}
	pml_fs_close(fs);
}
