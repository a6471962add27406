/* SPDX-License-Identifier: BSD-3-Clause */
/* libfuzzer.c -- a target under libFuzzer */
#include <stdbool.h>

#include "fuzz.h"
#include "image.h"
#include "quiet.h"

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *input, size_t bytes);
size_t LLVMFuzzerCustomMutator(uint8_t *input, size_t bytes, size_t max_bytes, unsigned int seed);
size_t LLVMFuzzerMutate(uint8_t *input, size_t bytes, size_t max_bytes);

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	image_start();
	return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t bytes)
{
	fuzz_one(input, bytes);
	return 0;
}

size_t LLVMFuzzerCustomMutator(uint8_t *input, size_t bytes, size_t max_bytes, unsigned int seed)
{
	if (seed % 4 == 0)
		return LLVMFuzzerMutate(input, bytes, max_bytes);
	return image_mutate(input, bytes, max_bytes, seed / 4);
}
