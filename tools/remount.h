/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * remount.h -- other policies, clocks and limits for a filesystem that is mounted
 *
 * mount.pmemleasefs -o remount asks, by an ioctl; the process that serves the mount does it.
 */
#ifndef PML_TOOLS_REMOUNT_H
#define PML_TOOLS_REMOUNT_H

#include <pthread.h>

#include "options.h"
#include "pml/fs.h"
#include "pml/lease.h"
#include "pml/rdma.h"

/* The serving side.  The owner fills it in, but for the lock. */
struct pml_remount {
	pthread_mutex_t lock;
	struct pml_mount_options options; /* of the mount as it is now; under lock */
	struct pml_fs *fs;
	struct pml_lease_manager *leases;
	struct pml_access *access; /* NULL: nothing is offered */
};

/* What @options make of the lease configuration for this filesystem. */
void pml_remount_config(const struct pml_fs *fs, const struct pml_mount_options *options,
			struct pml_lease_config *ret_config);

/*
 * Changes what @list says, and reads the files of secrets and exports anew.  0, or an error
 * and nothing has changed.  Any thread.
 * @ret_reason: PML_REASON_BYTES; a line that names the option, or file and line
 *
 *   -EINVAL           the list, or what a file says
 *   of the files      as pml_access_read_rules()
 */
int pml_remount_change(struct pml_remount *remount, const char *list,
		       char *ret_reason) PML_MUST_CHECK;

/*
 * The asking side: the mount at @mountpoint.  0, what pml_remount_change() returned there, or
 *   -ENOTTY         no pmemleasefs is mounted there
 *   -EPERM          not root, nor the one who mounted it
 *   -ENAMETOOLONG   the list
 */
int pml_remount_ask(const char *mountpoint, const char *list, char *ret_reason) PML_MUST_CHECK;

#endif
