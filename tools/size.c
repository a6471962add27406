/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * size.c -- numbers as people write them: sizes, times, counts
 */
#include <stdio.h>
#include <string.h>

#include "size.h"

/* The digits at the start of @text; *ret_rest is what follows them. */
static int parse_digits(const char *text, uint64_t *ret_number, const char **ret_rest)
{
	uint64_t number = 0;
	const char *at = text;
	for (; *at >= '0' && *at <= '9'; at++) {
		if (__builtin_mul_overflow(number, 10u, &number) ||
		    __builtin_add_overflow(number, (uint64_t)(*at - '0'), &number))
			return -ERANGE;
	}
	if (at == text)
		return -EINVAL;
	*ret_number = number;
	*ret_rest = at;
	return 0;
}

int pml_size_parse(const char *text, uint64_t *ret_bytes)
{
	static const char suffixes[] = "KkMmGgTt";
	uint64_t number = 0;
	const char *rest = NULL;
	int err = parse_digits(text, &number, &rest);
	if (err)
		return err;
	unsigned int shift = 0;
	if (*rest) {
		const char *suffix = strchr(suffixes, *rest);
		if (!suffix || rest[1])
			return -EINVAL;
		shift = (unsigned int)((suffix - suffixes) / 2 + 1) * 10;
	}
	if (number > UINT64_MAX >> shift)
		return -ERANGE;
	*ret_bytes = number << shift;
	return 0;
}

int pml_time_parse(const char *text, uint32_t *ret_ms)
{
	uint64_t number = 0;
	const char *rest = NULL;
	int err = parse_digits(text, &number, &rest);
	if (err)
		return err;
	bool is_seconds = strcmp(rest, "s") == 0;
	if (!is_seconds && *rest && strcmp(rest, "ms") != 0)
		return -EINVAL;
	if (number > UINT32_MAX / (is_seconds ? 1000u : 1u))
		return -ERANGE;
	*ret_ms = (uint32_t)(number * (is_seconds ? 1000u : 1u));
	return 0;
}

int pml_count_parse(const char *text, uint64_t max, uint64_t *ret_count)
{
	uint64_t number = 0;
	const char *rest = NULL;
	int err = parse_digits(text, &number, &rest);
	if (err)
		return err;
	if (*rest)
		return -EINVAL;
	if (number > max)
		return -ERANGE;
	*ret_count = number;
	return 0;
}

void pml_size_format(uint64_t bytes, char *ret_text)
{
	static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
	size_t unit = 0;
	uint64_t whole = bytes;
	uint64_t rest = 0;
	while (whole >= 1024 && unit + 1 < PML_ARRAY_LEN(units)) {
		rest = whole % 1024;
		whole /= 1024;
		unit++;
	}
	if (unit == 0)
		(void)snprintf(ret_text, PML_SIZE_TEXT_BYTES, "%u B", (unsigned int)whole);
	else
		(void)snprintf(ret_text, PML_SIZE_TEXT_BYTES, "%u.%u %s", (unsigned int)whole,
			       (unsigned int)(rest * 10 / 1024), units[unit]);
}
