/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * acl.h -- access control lists of POSIX 1003.1e draft 17: the rules alone
 *
 * An ACL is kept as Linux passes it to programs (linux/posix_acl_xattr.h), in one
 * piece of memory.  Nothing here knows the device.
 */
#ifndef PML_FS_ACL_H
#define PML_FS_ACL_H

#include <linux/posix_acl.h>
#include <linux/posix_acl_xattr.h>

#include "pml/fs.h"

/* Linux reads and writes no ACL of a FUSE filesystem that is larger than a page (fs/fuse/acl.c). */
#define PML_ACL_BYTES_MAX 4096u
#define PML_ACL_ENTRIES_MAX                                                                        \
	((PML_ACL_BYTES_MAX - sizeof(struct posix_acl_xattr_header)) /                             \
	 sizeof(struct posix_acl_xattr_entry))

struct pml_acl {
	size_t nentries; /* 0: there is no ACL */
	struct {
		struct posix_acl_xattr_header header;
		struct posix_acl_xattr_entry entry[PML_ACL_ENTRIES_MAX];
	} value;
};

/*
 * Checks a value from outside and takes it over.  A header alone is no ACL.  Returns 0, or
 *   -EOPNOTSUPP  of another version
 *   -E2BIG       more than PML_ACL_ENTRIES_MAX entries
 *   -EINVAL      anything else that is wrong with it: length, order, tags, permissions, or a
 *                named user or group without a mask
 */
int pml_acl_from(const void *value, size_t bytes, struct pml_acl *ret_acl) PML_MUST_CHECK;

/* The length of acl->value. */
size_t pml_acl_bytes(const struct pml_acl *acl);

/* Gives @mode the nine bits that the ACL stands for.  true: they say all that it says. */
bool pml_acl_to_mode(const struct pml_acl *acl, mode_t *mode);

/* chmod(2): the entries that @mode has bits for. */
void pml_acl_set_mode(struct pml_acl *acl, mode_t mode);

/*
 * Makes a directory's default ACL the access ACL of a file made in it with @mode, and takes
 * out of @mode what it does not allow.  true: the mode says all that it says.
 */
bool pml_acl_inherit(struct pml_acl *acl, mode_t *mode);

/* May @cred do what @mask says (R_OK, W_OK, X_OK) with a file of this owner?  0 or -EACCES. */
int pml_acl_check(const struct pml_acl *acl, uid_t uid, gid_t gid, const struct pml_cred *cred,
		  int mask) PML_MUST_CHECK;

/* Is @gid one of its groups? */
bool pml_cred_has_group(const struct pml_cred *cred, gid_t gid);

#endif
