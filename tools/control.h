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

/*
 * Lists, each with @data of its ioctl: the next piece behind its cursor.  -ENOMEM.
 * Threads: any, no locks (control_lists.c).
 */
int pml_control_leases(const struct pml_control *control, void *data) PML_MUST_CHECK;
int pml_control_pins(const struct pml_control *control, void *data) PML_MUST_CHECK;
int pml_control_sessions(const struct pml_control *control, void *data) PML_MUST_CHECK;
int pml_control_waiters(const struct pml_control *control, void *data) PML_MUST_CHECK;
int pml_control_history(const struct pml_control *control, void *data) PML_MUST_CHECK;

/* Cuts what is too long. */
void pml_control_copy_text(char *to, size_t to_bytes, const char *from);

/* For pml_fuse_ioctl_ops; @arg is a struct pml_control. */
int pml_control_ioctl(void *arg, unsigned int cmd, void *data, size_t bytes) PML_MUST_CHECK;

#endif
