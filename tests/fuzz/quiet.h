/* SPDX-License-Identifier: BSD-3-Clause */
/* quiet.h -- nothing is logged: damaged devices make many messages */
#ifndef FUZZ_QUIET_H
#define FUZZ_QUIET_H

#include <stdarg.h>

void syslog(int priority, const char *format, ...) __attribute__((format(printf, 2, 3)));
void syslog(int priority, const char *format, ...)
{
}

/* libpmem2 1.12 keeps 144 bytes of each pmem2_map_from_existing() after pmem2_map_delete(). */
const char *__lsan_default_suppressions(void);
const char *__lsan_default_suppressions(void)
{
	return "leak:libpmem2.so\n";
}

#endif
