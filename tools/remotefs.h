/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * remotefs.h -- a server's filesystem, mounted on the client's machine
 *
 * mount.pmemleasefs(8) with a URL for a device.
 */
#ifndef PML_TOOLS_REMOTEFS_H
#define PML_TOOLS_REMOTEFS_H

#include "pml/base.h"

struct pml_remotefs;

struct pml_remotefs_args {
	const char *url;	/* rdma://... or soft://... */
	const char *mountpoint; /* absolute */
	const char *options;	/* comma-separated; "" none */
};

/* Is @source a URL and not a device? */
bool pml_remotefs_is_url(const char *source);

/*
 * pml_remotefs_start() - connect and mount
 * @ret_reason: PML_REASON_BYTES; a line that names the object
 *
 *   -EINVAL  an option, or the URL
 *   -EACCES  the server does not let this client in
 *   -errno   of the connection, or of mount(2)
 */
int pml_remotefs_start(const struct pml_remotefs_args *args, struct pml_remotefs **ret_fs,
		       char *ret_reason) PML_MUST_CHECK;
/* Serves until unmounted or signalled.  0 or -errno. */
int pml_remotefs_run(struct pml_remotefs *fs) PML_MUST_CHECK;
/* Commits what is left, unmounts, returns all leases, frees everything. */
void pml_remotefs_stop(struct pml_remotefs *fs);

#endif
