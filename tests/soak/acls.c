/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * acls.c -- access control lists in the model: POSIX 1003.1e draft 17
 *
 * A list has at most one named user and one named group, and a mask whenever it has either.
 */
#include "acls.h"

#include <linux/posix_acl.h>
#include <linux/posix_acl_xattr.h>
#include <string.h>

const char *acl_name(int which)
{
	return which ? "system.posix_acl_default" : "system.posix_acl_access";
}

struct acl acl_of_op(const struct op *op)
{
	uint32_t bits = op->fill;
	struct acl acl = {
		.is_set = true,
		.has_user = bits >> 18 & 1,
		.has_group = bits >> 19 & 1,
		.user_obj = bits & 7,
		.user = bits >> 3 & 7,
		.group_obj = bits >> 6 & 7,
		.group = bits >> 9 & 7,
		.mask = bits >> 12 & 7,
		.other = bits >> 15 & 7,
		.uid = op->uid,
		.gid = op->gid,
	};
	acl.has_mask = acl.has_user || acl.has_group || (bits >> 20 & 1);
	return acl;
}

static size_t put(uint8_t *value, size_t at, unsigned int tag, unsigned int perm, uint32_t id)
{
	const struct posix_acl_xattr_entry entry = {(uint16_t)tag, (uint16_t)perm, id};
	memcpy(value + at, &entry, sizeof(entry));
	return at + sizeof(entry);
}

size_t acl_value(const struct acl *acl, uint8_t *ret_value)
{
	const struct posix_acl_xattr_header header = {POSIX_ACL_XATTR_VERSION};
	const uint32_t none = (uint32_t)ACL_UNDEFINED_ID;
	size_t at = sizeof(header);
	memcpy(ret_value, &header, sizeof(header));
	at = put(ret_value, at, ACL_USER_OBJ, acl->user_obj, none);
	if (acl->has_user)
		at = put(ret_value, at, ACL_USER, acl->user, acl->uid);
	at = put(ret_value, at, ACL_GROUP_OBJ, acl->group_obj, none);
	if (acl->has_group)
		at = put(ret_value, at, ACL_GROUP, acl->group, acl->gid);
	if (acl->has_mask)
		at = put(ret_value, at, ACL_MASK, acl->mask, none);
	return put(ret_value, at, ACL_OTHER, acl->other, none);
}

/* ---- lists and modes ---------------------------------------------------- */

static uint8_t *group_class(struct acl *acl)
{
	return acl->has_mask ? &acl->mask : &acl->group_obj;
}

void acl_set(struct node *n, int which, const struct acl *acl)
{
	n->acl[which] = *acl;
	if (which != 0 || !acl->is_set)
		return;
	n->mode = (n->mode & ~0777u) | (uint32_t)acl->user_obj << 6 |
		  (uint32_t)*group_class(&n->acl[0]) << 3 | acl->other;
	n->acl[0].is_set = acl->has_mask;
}

void acl_follow_mode(struct node *n)
{
	struct acl *acl = &n->acl[0];
	if (!acl->is_set)
		return;
	acl->user_obj = n->mode >> 6 & 7;
	*group_class(acl) = n->mode >> 3 & 7;
	acl->other = n->mode & 7;
}

void acl_inherit(struct node *n, const struct node *dir)
{
	const struct acl *from = &dir->acl[1];
	if (!from->is_set || S_ISLNK(n->type))
		return;
	struct acl acl = *from;
	acl.user_obj &= n->mode >> 6 & 7;
	*group_class(&acl) &= n->mode >> 3 & 7;
	acl.other &= n->mode & 7;
	acl_set(n, 0, &acl);
	if (S_ISDIR(n->type))
		n->acl[1] = *from;
}

/* ---- access ------------------------------------------------------------- */

bool acl_allows(const struct node *n, uint32_t uid, uint32_t gid, unsigned int wanted)
{
	const struct acl *acl = &n->acl[0];
	/* Linux looks at no list whose mask is empty, so all others' bits count for the named. */
	bool has_acl = acl->is_set && (n->mode & 070);
	unsigned int limit = has_acl ? acl->mask : 7;
	unsigned int group = has_acl ? acl->group_obj : n->mode >> 3 & 7;
	bool is_named = has_acl && acl->has_group && acl->gid == gid;
	if (n->uid == uid)
		return (wanted & ~(n->mode >> 6)) == 0;
	if (has_acl && acl->has_user && acl->uid == uid)
		return (wanted & ~(acl->user & limit)) == 0;
	/* Any one entry about a group that allows all of it will do. */
	if (n->gid == gid && (wanted & ~(group & limit)) == 0)
		return true;
	if (is_named && (wanted & ~(acl->group & limit)) == 0)
		return true;
	return n->gid != gid && !is_named && (wanted & ~n->mode) == 0;
}
