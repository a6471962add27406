/* SPDX-License-Identifier: BSD-3-Clause */
/* script.h -- an input that is read as a list of decisions; behind its end all are 0 */
#ifndef FUZZ_SCRIPT_H
#define FUZZ_SCRIPT_H

#include <stddef.h>
#include <stdint.h>

struct script {
	const uint8_t *at;
	size_t left;
};

static inline uint8_t script_byte(struct script *s)
{
	if (s->left == 0)
		return 0;
	s->left--;
	return *s->at++;
}

/* Less than @n, which is at most 256. */
static inline uint32_t script_below(struct script *s, uint32_t n)
{
	return script_byte(s) % n;
}

static inline uint64_t script_u64(struct script *s)
{
	uint64_t value = 0;
	for (int i = 0; i < 8; i++)
		value = value << 8 | script_byte(s);
	return value;
}

#endif
