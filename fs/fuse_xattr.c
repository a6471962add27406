/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fuse_xattr.c -- requests on extended attributes
 *
 * The kernel has checked who may (xattr_permission() and the commoncap security
 * module there), and asks and tells us of ACLs as attributes (fs/fuse/acl.c).  What
 * it leaves to us: which names a listing shows, and whether a new access ACL takes
 * the setgid bit away.  It takes security.capability away by itself before a file
 * is written, truncated or given to another owner (file_remove_privs()).
 */
#include <string.h>

#include "fuse_private.h"

/* As many as Linux lets a process have (NGROUPS_MAX of linux/limits.h). */
#define GROUPS_MAX 65536

/* Answers a request that wants a length (@size 0) or a value. */
static void reply_value(fuse_req_t req, int err, const char *value, size_t bytes, size_t size)
{
	if (err)
		pml_fuse_reply_err(req, err);
	else if (size == 0)
		(void)fuse_reply_xattr(req, bytes);
	else
		(void)fuse_reply_buf(req, value, bytes);
}

/* The kernel asks for 64 KiB at most; @ret_size is bounded by what can be there. */
static int answer_alloc(size_t size, char **ret_value, size_t *ret_size)
{
	*ret_size = PML_MIN(size, (size_t)PML_XATTR_VALUE_BYTES_MAX);
	*ret_value = malloc(*ret_size + 1);
	return *ret_value ? 0 : -ENOMEM;
}

void pml_fuse_getxattr(fuse_req_t req, fuse_ino_t ino, const char *name, size_t size)
{
	struct pml_inode *inode = pml_fuse_hold(req, ino);
	if (!inode)
		return;
	pml_auto_free char *value = NULL;
	size_t bytes = 0, max_bytes;
	int err = answer_alloc(size, &value, &max_bytes);
	if (!err)
		err = pml_xattr_get(inode, name, value, max_bytes, &bytes);
	reply_value(req, err, value, bytes, size);
	pml_inode_put(inode, 1);
}

void pml_fuse_listxattr(fuse_req_t req, fuse_ino_t ino, size_t size)
{
	struct pml_inode *inode = pml_fuse_hold(req, ino);
	if (!inode)
		return;
	const struct pml_cred cred = {.uid = fuse_req_ctx(req)->uid};
	pml_auto_free char *names = NULL;
	size_t bytes = 0, max_bytes;
	int err = answer_alloc(size, &names, &max_bytes);
	if (!err)
		err = pml_xattr_list(inode, &cred, names, max_bytes, &bytes);
	reply_value(req, err, names, bytes, size);
	pml_inode_put(inode, 1);
}

struct pml_cred pml_fuse_caller(fuse_req_t req, bool with_groups, gid_t **ret_groups)
{
	struct pml_cred cred = {.uid = fuse_req_ctx(req)->uid, .gid = fuse_req_ctx(req)->gid};
	*ret_groups = NULL;
	int n = with_groups ? fuse_req_getgroups(req, 0, NULL) : 0;
	if (n <= 0 || n > GROUPS_MAX)
		return cred;
	gid_t *groups = calloc((size_t)n, sizeof(groups[0]));
	int now = groups ? fuse_req_getgroups(req, n, groups) : 0;
	cred.groups = groups;
	cred.ngroups = now < 0 ? 0 : (size_t)PML_MIN(n, now);
	*ret_groups = groups;
	return cred;
}

void pml_fuse_setxattr(fuse_req_t req, fuse_ino_t ino, const char *name, const char *value,
		       size_t size, int flags)
{
	struct pml_inode *inode = pml_fuse_hold(req, ino);
	if (!inode)
		return;
	/* Groups matter to the setgid bit only. */
	pml_auto_free gid_t *groups = NULL;
	bool has_setgid = pml_inode_mode(inode) & S_ISGID;
	struct pml_cred cred = pml_fuse_caller(req, has_setgid, &groups);
	pml_fuse_reply_err(req, pml_xattr_set(inode, &cred, name, value, size, flags));
	pml_inode_put(inode, 1);
}

void pml_fuse_removexattr(fuse_req_t req, fuse_ino_t ino, const char *name)
{
	struct pml_inode *inode = pml_fuse_hold(req, ino);
	if (!inode)
		return;
	pml_fuse_reply_err(req, pml_xattr_remove(inode, name));
	pml_inode_put(inode, 1);
}
