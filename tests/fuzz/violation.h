/* SPDX-License-Identifier: BSD-3-Clause */
/* violation.h -- what must not be: says so and ends the program */
#ifndef FUZZ_VIOLATION_H
#define FUZZ_VIOLATION_H

#include <stdio.h>
#include <stdlib.h>

#define VIOLATION(...)                                                                             \
	do {                                                                                       \
		fprintf(stderr, "VIOLATION: ");                                                    \
		fprintf(stderr, __VA_ARGS__);                                                      \
		fprintf(stderr, "\n");                                                             \
		abort();                                                                           \
	} while (0)

#endif
