/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * service.h -- a mounted filesystem with its leases and its remote service
 */
#ifndef PML_TOOLS_SERVICE_H
#define PML_TOOLS_SERVICE_H

#include "options.h"

struct pml_service;

struct pml_service_args {
	const char *device;	/* absolute */
	const char *mountpoint; /* absolute */
	const struct pml_mount_options *options;
};

/*
 * Opens the device, starts the lease manager, listens where asked to (one line each on
 * stdout) and mounts.  On error nothing of it is left.
 * @ret_reason: PML_REASON_BYTES; a line that names the object
 */
int pml_service_start(const struct pml_service_args *args, struct pml_service **ret_service,
		      char *ret_reason) PML_MUST_CHECK;

/* Serves until unmounted or signalled.  0 or -errno. */
int pml_service_run(struct pml_service *service) PML_MUST_CHECK;

/*
 * Stops the remote service, fences all leases, unmounts, closes the device.  Returns 0,
 * or -EBUSY: a fence could not be confirmed, and the process must end at once.
 */
int pml_service_stop(struct pml_service *service) PML_MUST_CHECK;

#endif
