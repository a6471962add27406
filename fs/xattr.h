/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * xattr.h -- the extended attributes of one inode, as they lie on the device
 *
 * Looking calls need the inode's lock, changing calls need it exclusively and a
 * transaction.  Names are whole, with their namespace; who may have which is
 * xattr_names.c's business.  Attributes come from the device: each is checked
 * before it is believed (-EIO, logged).
 */
#ifndef PML_FS_XATTR_H
#define PML_FS_XATTR_H

#include <linux/xattr.h>

#include "acl.h"
#include "btree.h"
#include "inode.h"
#include "tx.h"

/* Where an attribute lies.  @name and @value point into the device. */
struct pml_xattr {
	uint64_t key;	 /* in the tree */
	uint64_t object; /* offset of struct pml_media_xattr */
	const char *name;
	size_t name_bytes;
	const void *value;
	size_t value_bytes;
};

/* An item of an inode's tree, checked (for the walks of the checker, too). */
int pml_xattr_of_item(const struct pml_fs *fs, const struct pml_btree_item *item,
		      struct pml_xattr *ret_xattr) PML_MUST_CHECK;

/* -ENODATA. */
int pml_xattr_find(const struct pml_fs *fs, const struct pml_media_inode *inode, const char *name,
		   struct pml_xattr *ret_xattr) PML_MUST_CHECK;

/*
 * Sets an attribute that the inode may have already.  The super block knows of attributes
 * (pml_xattr_tx_begin()), or the inode or its directory has one.
 */
int pml_xattr_put(struct pml_fs *fs, struct pml_media_inode *inode, const char *name,
		  const void *value, size_t bytes) PML_MUST_CHECK;
/* -ENODATA. */
int pml_xattr_drop(struct pml_fs *fs, struct pml_media_inode *inode,
		   const char *name) PML_MUST_CHECK;

/* A transaction that may make the first attribute of the filesystem. */
struct pml_xattr_tx {
	struct pml_tx tx;
	bool is_first;
};
int pml_xattr_tx_begin(struct pml_fs *fs, struct pml_xattr_tx *ret_tx) PML_MUST_CHECK;
int pml_xattr_tx_end(struct pml_xattr_tx *tx, int err) PML_MUST_CHECK;

/* All attributes of an inode that is being destroyed, in transactions of its own. */
int pml_xattr_destroy(struct pml_fs *fs, struct pml_media_inode *inode) PML_MUST_CHECK;

/* ---- ACLs --------------------------------------------------------------- */

/* One of the two ACLs; without entries if there is none. */
int pml_xattr_acl(const struct pml_fs *fs, const struct pml_media_inode *inode, const char *name,
		  struct pml_acl *ret_acl) PML_MUST_CHECK;
/* In a transaction: sets the ACL, or with @is_needless removes it. */
int pml_xattr_put_acl(struct pml_fs *fs, struct pml_media_inode *inode, const char *name,
		      const struct pml_acl *acl, bool is_needless) PML_MUST_CHECK;

#endif
