/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * busy.h -- a device that is in use may be free in a moment
 */
#ifndef PML_TOOLS_BUSY_H
#define PML_TOOLS_BUSY_H

#include "pml/base.h"

/* Is it mounted in this mount namespace? */
bool pml_busy_is_mounted(const char *device);

/*
 * For loops around a call that found the device busy (-EBUSY): umount(8) returns before
 * the daemon has fenced its leases and let go of the device.  Sleeps a little and returns
 * true to try again; returns false at once if the device is mounted, or when @timeout_s
 * are over.  *waited_ms is 0 at first.
 */
bool pml_busy_wait(const char *device, unsigned int timeout_s, unsigned int *waited_ms);

#endif
