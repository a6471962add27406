/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * image.h -- damaged devices made from an input of a few bytes
 *
 * An input is a head of 2 bytes and up to IMAGE_PATCHES_MAX patches of 16 bytes:
 *
 *	head[0]  which base image (modulo their number)
 *	head[1]  what the target makes of it; bit 7: checksums are left wrong
 *
 *	patch    kind of place, operation, number of the place (2 bytes), byte in it
 *		 (2 bytes), number of another place (2 bytes), value (8 bytes)
 *
 * Places are named by kind and number, not by offset, so that inputs mean the same when
 * the layout moves.  Base images are real filesystems, made by fuzz_start(): small with files of
 * all kinds; with trees of several levels; left by a process that died in a transaction.
 */
#ifndef FUZZ_IMAGE_H
#define FUZZ_IMAGE_H

#include "pml/fs.h"

#define IMAGE_BYTES	  PML_DEVICE_BYTES_MIN
#define IMAGE_PATCHES_MAX 64u

struct image_patch {
	uint8_t place;
	uint8_t operation;
	uint16_t number;
	uint16_t byte;
	uint16_t other; /* the place that an offset is taken from: kind in the upper 4 bits */
	uint64_t value;
};
static_assert(sizeof(struct image_patch) == 16, "no padding");

/*
 * image_make() - the device that an input stands for
 * Returns its path, the same each time, or NULL when the input is too short.
 */
const char *image_make(const uint8_t *input, size_t bytes);

/* A mutation that knows the form of inputs; returns the new number of bytes. */
size_t image_mutate(uint8_t *input, size_t bytes, size_t max_bytes, unsigned int seed);

#endif
