/* SPDX-License-Identifier: BSD-3-Clause */
/* fuzz.h -- what a target defines, for libFuzzer (libfuzzer.c) and for replays (replay.c) */
#ifndef FUZZ_FUZZ_H
#define FUZZ_FUZZ_H

#include <stddef.h>
#include <stdint.h>

/* Called once, before all else.  What fails ends the program. */
void fuzz_start(void);
/* Must come back, whatever the input. */
void fuzz_one(const uint8_t *input, size_t bytes);

#endif
