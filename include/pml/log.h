/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * log.h -- one line per event, through syslog(3)
 *
 * Programs call pml_log_open() once; with @to_stderr the lines are copied to
 * standard error as well.  An event is logged once, where it is handled.
 * Threads: safe, as syslog(3) is.
 */
#ifndef PML_LOG_H
#define PML_LOG_H

#include <stdbool.h>
#include <syslog.h>

static inline void pml_log_open(const char *program, bool to_stderr)
{
	openlog(program, LOG_PID | (to_stderr ? LOG_PERROR : 0), LOG_DAEMON);
}

#define pml_log_error(...)   syslog(LOG_ERR, __VA_ARGS__)
#define pml_log_warning(...) syslog(LOG_WARNING, __VA_ARGS__)
#define pml_log_info(...)    syslog(LOG_INFO, __VA_ARGS__)

#endif
