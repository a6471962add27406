/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * survivor.h -- a child that ends the FUSE connection of a daemon that was killed
 *
 * The kernel ends a connection when the last descriptor of /dev/fuse is closed.  A
 * daemon that dies while one of its threads tells the kernel what is stale may not get
 * there: the thread waits in the kernel for a page, the page for an answer of the
 * daemon, and every program that uses the mount for ever.  The child does then what
 * umount -f does, and leaves the dead mount where it is.
 *
 * Needs the right to unmount; without it there is no child, and no error.
 */
#ifndef PML_TOOLS_SURVIVOR_H
#define PML_TOOLS_SURVIVOR_H

#include "pml/base.h"

struct pml_survivor {
	pid_t pid; /* 0: there is none */
	int fd;	   /* closed: nothing is left to do */
};

/*
 * Call it in the main thread, whose death is waited for, before there are others and
 * before the device is open.  @mountpoint is absolute.  -errno: could not fork.
 */
int pml_survivor_start(const char *mountpoint, struct pml_survivor *ret_survivor) PML_MUST_CHECK;

/* The filesystem is mounted.  Asks nothing of it. */
void pml_survivor_arm(const struct pml_survivor *survivor, const char *mountpoint);

/* The daemon ends as it should.  Waits for the child. */
void pml_survivor_end(const struct pml_survivor *survivor);

#endif
