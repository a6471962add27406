/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * text.h -- texts that come from others, for terminals and as JSON
 */
#ifndef PML_TOOLS_TEXT_H
#define PML_TOOLS_TEXT_H

#include <stdio.h>

#include "pml/base.h"

/* RFC 8259, section 7, with the quotes; what is no UTF-8 becomes U+FFFD. */
void pml_text_print_json(FILE *out, const char *text);

/*
 * Nothing that moves a terminal's cursor or changes its state: control characters (of UTF-8,
 * too) and what is no UTF-8 as "\n", "\033", a backslash as "\\", as ls -b does.
 */
void pml_text_print_escaped(FILE *out, const char *text);
/* How many characters that takes; a wide one counts as one. */
size_t pml_text_escaped_width(const char *text);

#endif
