/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * control.h -- answers the ioctls of pmemleasefs/ioctl.h
 */
#ifndef PML_TOOLS_CONTROL_H
#define PML_TOOLS_CONTROL_H

#include "pml/fs.h"
#include "pml/lease.h"
#include "remount.h"

struct pml_control {
	struct pml_fs *fs;
	struct pml_lease_manager *leases;
	struct pml_remount *remount;
};

/* For pml_fuse_ioctl_ops; @arg is a struct pml_control. */
int pml_control_ioctl(void *arg, unsigned int cmd, void *data, size_t bytes) PML_MUST_CHECK;

#endif
