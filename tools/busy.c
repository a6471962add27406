/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * busy.c -- a device that is in use may be free in a moment
 */
#include <limits.h>
#include <mntent.h>
#include <stdio.h>
#include <string.h>

#include "busy.h"

#define STEP_MS 50u

bool pml_busy_is_mounted(const char *device)
{
	char path[PATH_MAX]; /* as the mount table has it */
	if (!realpath(device, path))
		return false;
	FILE *mounts = setmntent("/proc/self/mounts", "r");
	if (!mounts)
		return false;
	bool is_found = false;
	const struct mntent *entry;
	while (!is_found && (entry = getmntent(mounts)))
		is_found = strcmp(entry->mnt_type, "fuse.pmemleasefs") == 0 &&
			   strcmp(entry->mnt_fsname, path) == 0;
	(void)endmntent(mounts);
	return is_found;
}

bool pml_busy_wait(const char *device, unsigned int timeout_s, unsigned int *waited_ms)
{
	if (*waited_ms >= timeout_s * 1000u || pml_busy_is_mounted(device))
		return false;
	(void)usleep(STEP_MS * 1000u);
	*waited_ms += STEP_MS;
	return true;
}
