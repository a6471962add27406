/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * size.h -- numbers as people write them: sizes, times, counts
 *
 * All return 0, -EINVAL (not such a number) or -ERANGE (does not fit).  Signs,
 * blanks and fractions are refused.
 */
#ifndef PML_TOOLS_SIZE_H
#define PML_TOOLS_SIZE_H

#include "pml/base.h"

/* "4096", "64M", "1T": suffixes K, M, G, T of either case are powers of 1024. */
int pml_size_parse(const char *text, uint64_t *ret_bytes) PML_MUST_CHECK;

/* "1500", "1500ms", "10s": milliseconds unless a suffix says otherwise. */
int pml_time_parse(const char *text, uint32_t *ret_ms) PML_MUST_CHECK;

/* A decimal number up to @max. */
int pml_count_parse(const char *text, uint64_t max, uint64_t *ret_count) PML_MUST_CHECK;

#define PML_SIZE_TEXT_BYTES 16

/* "512 B", "4.0 KiB", "1.5 GiB". */
void pml_size_format(uint64_t bytes, char *ret_text);

#endif
