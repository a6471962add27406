/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * local.h -- answers the ioctls on open files of pmemleasefs/ioctl.h: leases for local programs
 */
#ifndef PML_TOOLS_LOCAL_H
#define PML_TOOLS_LOCAL_H

#include "pml/fuse.h"
#include "pml/local.h"

/* For pml_fuse_args; @local NULL: the mount has no such leases, and each call gets EPERM. */
struct pml_fuse_open_ops pml_local_open_ops(struct pml_local *local);

#endif
