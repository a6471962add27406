/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * permit.h -- who may change names and attributes, by the rules of Linux
 *
 * The kernel checks what comes through it.  Who does not is checked here, with the locks
 * of the change held, so that nothing comes between the check and the change.
 */
#ifndef PML_FS_PERMIT_H
#define PML_FS_PERMIT_H

#include "inode.h"

/*
 * pml_inode_set() as @cred: may it?  Lock held.
 *   -EPERM       neither its owner nor uid 0, or gives it to somebody
 *   -EACCES      PML_SET_TOUCH: it may not write the inode either
 *   -EOPNOTSUPP  the mode of a symlink
 */
int pml_permit_set(const struct pml_inode *inode, const struct pml_cred *cred, unsigned int what,
		   const struct stat *attr) PML_MUST_CHECK;

/* What @cred gets of the mode that it wants: setgid is for members of the group.  Lock held. */
mode_t pml_permit_mode(const struct pml_inode *inode, const struct pml_cred *cred,
		       unsigned int what, const struct stat *attr);

/* May @cred make entries in @dir, and take them away?  -EACCES.  Lock held. */
int pml_permit_change_dir(const struct pml_inode *dir, const struct pml_cred *cred) PML_MUST_CHECK;

/*
 * May @cred take the entry of @child away from @dir?  Both locks held.
 *   -EACCES  it may not change @dir
 *   -EPERM   @dir is sticky, and neither it nor @child is @cred's
 */
int pml_permit_remove(const struct pml_inode *dir, const struct pml_inode *child,
		      const struct pml_cred *cred) PML_MUST_CHECK;

#endif
