/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * names.h -- small texts that several tools print
 */
#ifndef PML_TOOLS_NAMES_H
#define PML_TOOLS_NAMES_H

#include <stdio.h>

#include "pml/base.h"

#define PML_UUID_TEXT_BYTES 37

/* RFC 4122, section 3. */
static inline void pml_uuid_format(const uint8_t uuid[16], char *ret_text)
{
	char *to = ret_text;
	for (int i = 0; i < 16; i++) {
		if (i == 4 || i == 6 || i == 8 || i == 10)
			*to++ = '-';
		to += snprintf(to, 3, "%02x", uuid[i]);
	}
}

#endif
