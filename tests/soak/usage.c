/* SPDX-License-Identifier: BSD-3-Clause */
/* usage.c -- see usage.h; proc_pid_stat(5) */
#include "usage.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* 0: there is no such process. */
static double usage_ms(pid_t pid)
{
	char path[64], text[1024];
	(void)snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	FILE *file = fopen(path, "re");
	if (!file)
		return 0;
	size_t bytes = fread(text, 1, sizeof(text) - 1, file);
	(void)fclose(file);
	text[bytes] = 0;
	/* The name, in brackets, may hold anything. */
	const char *rest = strrchr(text, ')');
	unsigned long user, system;
	long waited_user, waited_system;
	if (!rest ||
	    sscanf(rest + 1, " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu %ld %ld", &user,
		   &system, &waited_user, &waited_system) != 4)
		return 0;
	double ticks = (double)(user + system) + (double)(waited_user + waited_system);
	return ticks * 1000 / (double)sysconf(_SC_CLK_TCK);
}

double usage_all_ms(const pid_t *pids, unsigned int n)
{
	double ms = 0;
	for (unsigned int i = 0; i < n; i++)
		ms += usage_ms(pids[i]);
	return ms;
}
