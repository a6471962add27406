/* SPDX-License-Identifier: BSD-3-Clause */
/* libfuzzer.c -- a target under libFuzzer */
#include "fuzz.h"
#include "quiet.h"

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *input, size_t bytes);

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	fuzz_start();
	return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t bytes)
{
	fuzz_one(input, bytes);
	return 0;
}
