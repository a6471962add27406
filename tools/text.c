/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * text.c -- texts that come from others, for terminals and as JSON
 */
#include <string.h>

#include "text.h"

/* Length of the UTF-8 sequence at @at, or 0: it is none (RFC 3629, section 4). */
static size_t sequence_bytes(const unsigned char *at)
{
	size_t bytes = at[0] < 0x80		       ? 1
		       : at[0] >= 0xc2 && at[0] < 0xe0 ? 2
		       : at[0] >= 0xe0 && at[0] < 0xf0 ? 3
		       : at[0] >= 0xf0 && at[0] < 0xf5 ? 4
						       : 0;
	for (size_t i = 1; i < bytes; i++)
		if ((at[i] & 0xc0) != 0x80)
			return 0;
	bool is_wrong = (at[0] == 0xe0 && at[1] < 0xa0) || (at[0] == 0xed && at[1] >= 0xa0) ||
			(at[0] == 0xf0 && at[1] < 0x90) || (at[0] == 0xf4 && at[1] >= 0x90);
	return is_wrong ? 0 : bytes;
}

void pml_text_print_json(FILE *out, const char *text)
{
	const unsigned char *at = (const unsigned char *)text;
	fputc('"', out);
	while (*at) {
		size_t bytes = sequence_bytes(at);
		if (bytes == 0)
			fputs("\\ufffd", out);
		else if (*at == '"' || *at == '\\')
			fprintf(out, "\\%c", *at);
		else if (*at < 0x20 || *at == 0x7f)
			fprintf(out, "\\u%04x", *at);
		else
			fprintf(out, "%.*s", (int)bytes, (const char *)at);
		at += bytes ? bytes : 1;
	}
	fputc('"', out);
}

/* One character as it is shown; returns how many bytes of @at it is. */
static size_t escape(const unsigned char *at, char ret_shown[8])
{
	static const char named[] = "\aa\bb\ff\nn\rr\tt\vv\\\\";
	size_t bytes = sequence_bytes(at);
	/* C1 controls: U+0080 to U+009F; some terminals obey them. */
	bool is_control =
		bytes == 0 || at[0] < 0x20 || at[0] == 0x7f || (at[0] == 0xc2 && at[1] < 0xa0);
	for (const char *pair = named; *pair; pair += 2) {
		if (*at != (unsigned char)*pair)
			continue;
		(void)snprintf(ret_shown, 8, "\\%c", pair[1]);
		return 1;
	}
	if (!is_control) {
		memcpy(ret_shown, at, bytes);
		ret_shown[bytes] = 0;
		return bytes;
	}
	/* Each byte of its own: the second of a C1 control is no UTF-8 then. */
	(void)snprintf(ret_shown, 8, "\\%03o", at[0]);
	return 1;
}

void pml_text_print_escaped(FILE *out, const char *text)
{
	char shown[8];
	for (const unsigned char *at = (const unsigned char *)text; *at;) {
		at += escape(at, shown);
		fputs(shown, out);
	}
}

size_t pml_text_escaped_width(const char *text)
{
	char shown[8];
	size_t width = 0;
	for (const unsigned char *at = (const unsigned char *)text; *at;) {
		size_t bytes = escape(at, shown);
		at += bytes;
		width += bytes > 1 ? 1 : strlen(shown);
	}
	return width;
}
