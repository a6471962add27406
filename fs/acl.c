/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * acl.c -- access control lists of POSIX 1003.1e draft 17: the rules alone
 *
 * The entries come in the order of their tags: the owner's, named users', the
 * group's, named groups', the mask, all others'.  As on Linux (fs/posix_acl.c)
 * entries of one tag may come in any order.
 *
 * Threads: any; works on the caller's memory.
 */
#include "acl.h"

#include <string.h>

#define PERMISSIONS 7u

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "values are used in place");
static_assert(sizeof(((struct pml_acl *)0)->value) <= PML_ACL_BYTES_MAX, "fits in a page");

/* ---- form --------------------------------------------------------------- */

size_t pml_acl_bytes(const struct pml_acl *acl)
{
	return sizeof(acl->value.header) + acl->nentries * sizeof(acl->value.entry[0]);
}

/* The place of a tag in the order of entries; -1: not a tag. */
static int rank_of(unsigned int tag)
{
	static const uint16_t order[] = {ACL_USER_OBJ, ACL_USER, ACL_GROUP_OBJ,
					 ACL_GROUP,    ACL_MASK, ACL_OTHER};
	for (int i = 0; i < (int)PML_ARRAY_LEN(order); i++)
		if (order[i] == tag)
			return i;
	return -1;
}

static bool is_named(unsigned int tag)
{
	return tag == ACL_USER || tag == ACL_GROUP;
}

/* Of the only entry with this tag; NULL: there is none. */
static struct posix_acl_xattr_entry *find(struct pml_acl *acl, unsigned int tag)
{
	for (size_t i = 0; i < acl->nentries; i++)
		if (acl->value.entry[i].e_tag == tag)
			return &acl->value.entry[i];
	return NULL;
}

static int check_entries(struct pml_acl *acl)
{
	int last = -1;
	bool has_named = false;
	for (size_t i = 0; i < acl->nentries; i++) {
		const struct posix_acl_xattr_entry *e = &acl->value.entry[i];
		int rank = rank_of(e->e_tag);
		if (rank < last || (rank == last && !is_named(e->e_tag)) ||
		    (e->e_perm & ~PERMISSIONS))
			return -EINVAL;
		if (is_named(e->e_tag) && e->e_id == (uint32_t)ACL_UNDEFINED_ID)
			return -EINVAL;
		has_named = has_named || is_named(e->e_tag);
		last = rank;
	}
	if (!find(acl, ACL_USER_OBJ) || !find(acl, ACL_GROUP_OBJ) || !find(acl, ACL_OTHER) ||
	    (has_named && !find(acl, ACL_MASK)))
		return -EINVAL;
	return 0;
}

int pml_acl_from(const void *value, size_t bytes, struct pml_acl *ret_acl)
{
	struct posix_acl_xattr_header header;
	if (bytes < sizeof(header))
		return -EINVAL;
	memcpy(&header, value, sizeof(header));
	if (header.a_version != POSIX_ACL_XATTR_VERSION)
		return -EOPNOTSUPP;
	size_t entry_bytes = bytes - sizeof(header);
	if (entry_bytes % sizeof(struct posix_acl_xattr_entry) != 0)
		return -EINVAL;
	if (entry_bytes > sizeof(ret_acl->value.entry))
		return -E2BIG;
	memcpy(&ret_acl->value, value, bytes);
	ret_acl->nentries = entry_bytes / sizeof(struct posix_acl_xattr_entry);
	return ret_acl->nentries ? check_entries(ret_acl) : 0;
}

/* ---- permission bits ---------------------------------------------------- */

/* The entry that goes with the group's bits of a mode. */
static struct posix_acl_xattr_entry *find_group_class(struct pml_acl *acl)
{
	struct posix_acl_xattr_entry *mask = find(acl, ACL_MASK);
	return mask ? mask : find(acl, ACL_GROUP_OBJ);
}

/* The three entries that a mode has bits for, and where these lie in it. */
struct mode_entry {
	struct posix_acl_xattr_entry *entry;
	unsigned int shift;
};

#define MODE_ENTRIES 3
static void find_mode_entries(struct pml_acl *acl, struct mode_entry ret_entries[MODE_ENTRIES])
{
	ret_entries[0] = (struct mode_entry){find(acl, ACL_USER_OBJ), 6};
	ret_entries[1] = (struct mode_entry){find_group_class(acl), 3};
	ret_entries[2] = (struct mode_entry){find(acl, ACL_OTHER), 0};
}

/* With three entries they are those that every ACL has. */
static bool is_mode_alone(const struct pml_acl *acl)
{
	return acl->nentries == MODE_ENTRIES;
}

bool pml_acl_to_mode(const struct pml_acl *acl, mode_t *mode)
{
	unsigned int bits = 0;
	for (size_t i = 0; i < acl->nentries; i++) {
		const struct posix_acl_xattr_entry *e = &acl->value.entry[i];
		unsigned int perm = e->e_perm;
		switch (e->e_tag) {
		case ACL_USER_OBJ:
			bits |= perm << 6;
			break;
		case ACL_GROUP_OBJ:
			bits |= perm << 3;
			break;
		case ACL_MASK:
			bits = (bits & ~(PERMISSIONS << 3)) | perm << 3;
			break;
		case ACL_OTHER:
			bits |= perm;
			break;
		default:
			break;
		}
	}
	*mode = (*mode & ~(mode_t)0777) | bits;
	return is_mode_alone(acl);
}

void pml_acl_set_mode(struct pml_acl *acl, mode_t mode)
{
	struct mode_entry with_bits[MODE_ENTRIES];
	find_mode_entries(acl, with_bits);
	for (size_t i = 0; i < MODE_ENTRIES; i++)
		with_bits[i].entry->e_perm = (uint16_t)(mode >> with_bits[i].shift & PERMISSIONS);
}

bool pml_acl_inherit(struct pml_acl *acl, mode_t *mode)
{
	struct mode_entry with_bits[MODE_ENTRIES];
	find_mode_entries(acl, with_bits);
	for (size_t i = 0; i < MODE_ENTRIES; i++) {
		unsigned int shift = with_bits[i].shift;
		uint16_t perm = (uint16_t)(with_bits[i].entry->e_perm & (*mode >> shift));
		with_bits[i].entry->e_perm = perm;
		*mode = (*mode & ~(mode_t)(PERMISSIONS << shift)) | (mode_t)perm << shift;
	}
	return is_mode_alone(acl);
}

/* ---- access ------------------------------------------------------------- */

bool pml_cred_has_group(const struct pml_cred *cred, gid_t gid)
{
	bool has = cred->gid == gid;
	for (size_t i = 0; !has && i < cred->ngroups; i++)
		has = cred->groups[i] == gid;
	return has;
}

/* Does an entry that is not the mask's nor that of all others speak of @cred? */
static bool is_about(const struct posix_acl_xattr_entry *e, uid_t uid, gid_t gid,
		     const struct pml_cred *cred)
{
	switch (e->e_tag) {
	case ACL_USER_OBJ:
		return cred->uid == uid;
	case ACL_USER:
		return cred->uid == e->e_id;
	case ACL_GROUP_OBJ:
		return pml_cred_has_group(cred, gid);
	case ACL_GROUP:
		return pml_cred_has_group(cred, e->e_id);
	default:
		return false;
	}
}

/*
 * The first entry about a user decides; of those about groups any one that allows all of it
 * does, and if there are some but none does, access is denied.
 */
int pml_acl_check(const struct pml_acl *acl, uid_t uid, gid_t gid, const struct pml_cred *cred,
		  int mask)
{
	unsigned int wanted = (unsigned int)mask & PERMISSIONS;
	unsigned int limit = PERMISSIONS, others = 0;
	for (size_t i = 0; i < acl->nentries; i++) {
		if (acl->value.entry[i].e_tag == ACL_MASK)
			limit = acl->value.entry[i].e_perm;
		else if (acl->value.entry[i].e_tag == ACL_OTHER)
			others = acl->value.entry[i].e_perm;
	}
	bool is_in_group = false;
	for (size_t i = 0; i < acl->nentries; i++) {
		const struct posix_acl_xattr_entry *e = &acl->value.entry[i];
		if (!is_about(e, uid, gid, cred))
			continue;
		unsigned int perm = e->e_tag == ACL_USER_OBJ ? e->e_perm : e->e_perm & limit;
		bool is_allowed = (wanted & ~perm) == 0;
		if (is_allowed)
			return 0;
		if (e->e_tag == ACL_USER_OBJ || e->e_tag == ACL_USER)
			return -EACCES;
		is_in_group = true;
	}
	return is_in_group || (wanted & ~others) ? -EACCES : 0;
}
