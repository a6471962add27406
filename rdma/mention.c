/* SPDX-License-Identifier: BSD-3-Clause */
/* mention.c -- see mention.h */
#include <stdarg.h>
#include <stdio.h>

#include "mention.h"
#include "pml/clock.h"
#include "pml/log.h"

void pml_mention(struct pml_hosts *hosts, const char *peer, enum pml_line_kind kind,
		 const char *format, ...)
{
	struct pml_address address;
	uint64_t left_out;
	pml_address_of_peer(peer, &address);
	if (!pml_hosts_may_log(hosts, &address, kind, pml_now_ms(), &left_out))
		return;

	char text[PML_MENTION_BYTES];
	va_list args;
	va_start(args, format);
	(void)vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	if (left_out)
		pml_log_warning("client %s%s (%llu more of this kind were left out)", peer, text,
				(unsigned long long)left_out);
	else
		pml_log_warning("client %s%s", peer, text);
}
