/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * permit.c -- who may change names and attributes, by the rules of Linux
 *
 * As setattr_prepare() and may_setattr() of fs/attr.c there, may_create(), may_delete(),
 * check_sticky() and may_linkat() of fs/namei.c, xattr_permission() of fs/xattr.c; uid 0 has
 * all capabilities that they ask for.
 *
 * Threads: any.
 */
#include "permit.h"

#include <linux/xattr.h>
#include <string.h>

#include "acl.h"

static bool is_owner(const struct pml_inode *inode, const struct pml_cred *cred)
{
	return cred->uid == 0 || cred->uid == inode->media->uid;
}

static bool may_chown(const struct pml_inode *inode, const struct pml_cred *cred, uid_t uid)
{
	const struct pml_media_inode *media = inode->media;
	return cred->uid == 0 || (cred->uid == media->uid && uid == media->uid);
}

static bool may_chgrp(const struct pml_inode *inode, const struct pml_cred *cred, gid_t gid)
{
	const struct pml_media_inode *media = inode->media;
	return cred->uid == 0 ||
	       (cred->uid == media->uid && (gid == media->gid || pml_cred_has_group(cred, gid)));
}

int pml_permit_set(const struct pml_inode *inode, const struct pml_cred *cred, unsigned int what,
		   const struct stat *attr)
{
	if ((what & PML_SET_UID) && !may_chown(inode, cred, attr->st_uid))
		return -EPERM;
	if ((what & PML_SET_GID) && !may_chgrp(inode, cred, attr->st_gid))
		return -EPERM;
	if ((what & PML_SET_MODE) && pml_inode_type(inode) == S_IFLNK)
		return -EOPNOTSUPP;
	if ((what & PML_SET_MODE) && !is_owner(inode, cred))
		return -EPERM;
	if (is_owner(inode, cred))
		return 0;
	if (what & PML_SET_TOUCH)
		return pml_inode_access_locked(inode, cred, W_OK);
	return what & (PML_SET_ATIME | PML_SET_MTIME) ? -EPERM : 0;
}

mode_t pml_permit_mode(const struct pml_inode *inode, const struct pml_cred *cred,
		       unsigned int what, const struct stat *attr)
{
	gid_t gid = what & PML_SET_GID ? attr->st_gid : inode->media->gid;
	bool keeps_setgid = cred->uid == 0 || pml_cred_has_group(cred, gid);
	return keeps_setgid ? attr->st_mode : attr->st_mode & ~(mode_t)S_ISGID;
}

int pml_permit_change_dir(const struct pml_inode *dir, const struct pml_cred *cred)
{
	return pml_inode_access_locked(dir, cred, W_OK | X_OK);
}

int pml_permit_remove(const struct pml_inode *dir, const struct pml_inode *child,
		      const struct pml_cred *cred)
{
	int err = pml_permit_change_dir(dir, cred);
	if (err)
		return err;
	bool is_sticky = dir->media->mode & S_ISVTX;
	return is_sticky && !is_owner(child, cred) && !is_owner(dir, cred) ? -EPERM : 0;
}

/* ---- checks alone --------------------------------------------------------- */

int pml_inode_may_set(struct pml_inode *inode, const struct pml_cred *cred, unsigned int what,
		      const struct stat *attr)
{
	(void)pthread_rwlock_rdlock(&inode->lock);
	int err = pml_permit_set(inode, cred, what, attr);
	(void)pthread_rwlock_unlock(&inode->lock);
	return err;
}

/* What somebody else's program might be fooled with: safe_hardlink_source(). */
static bool is_safe_to_link(const struct pml_inode *inode, const struct pml_cred *cred)
{
	uint32_t mode = inode->media->mode;
	return S_ISREG(mode) && !(mode & S_ISUID) &&
	       (mode & (S_ISGID | S_IXGRP)) != (S_ISGID | S_IXGRP) &&
	       pml_inode_access_locked(inode, cred, R_OK | W_OK) == 0;
}

int pml_inode_may_link(struct pml_inode *inode, const struct pml_cred *cred)
{
	(void)pthread_rwlock_rdlock(&inode->lock);
	bool may = is_owner(inode, cred) || is_safe_to_link(inode, cred);
	(void)pthread_rwlock_unlock(&inode->lock);
	return may ? 0 : -EPERM;
}

int pml_xattr_may_get(struct pml_inode *inode, const struct pml_cred *cred, const char *name)
{
	if (strncmp(name, XATTR_TRUSTED_PREFIX, XATTR_TRUSTED_PREFIX_LEN) == 0)
		return cred->uid == 0 ? 0 : -ENODATA;
	if (strncmp(name, XATTR_USER_PREFIX, XATTR_USER_PREFIX_LEN) != 0)
		return 0;
	if (!pml_inode_is_file(inode) && !pml_inode_is_dir(inode))
		return -ENODATA;
	return pml_inode_access(inode, cred, R_OK);
}
