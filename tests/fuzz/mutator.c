/* SPDX-License-Identifier: BSD-3-Clause */
/* mutator.c -- libFuzzer's mutations for targets whose inputs are patches of a device */
#include "fuzz.h"
#include "image.h"

size_t LLVMFuzzerCustomMutator(uint8_t *input, size_t bytes, size_t max_bytes, unsigned int seed);
size_t LLVMFuzzerMutate(uint8_t *input, size_t bytes, size_t max_bytes);

size_t LLVMFuzzerCustomMutator(uint8_t *input, size_t bytes, size_t max_bytes, unsigned int seed)
{
	if (seed % 4 == 0)
		return LLVMFuzzerMutate(input, bytes, max_bytes);
	return image_mutate(input, bytes, max_bytes, seed / 4);
}
