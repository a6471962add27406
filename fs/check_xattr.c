/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * check_xattr.c -- extended attributes
 */
#include "check.h"

#include <inttypes.h>
#include <string.h>

#include "dir.h"
#include "xattr.h"

struct attributes {
	struct pml_check *c;
	const char *name; /* of the inode */
	struct pml_media_inode *inode;
	bool is_changed; /* the items differ from the tree on the device */
	bool must_rekey;
};

/* A finding that is settled by the new tree: it is said and counted here. */
static bool wants_change(struct attributes *a, bool is_wanted)
{
	if (!is_wanted)
		return false;
	a->is_changed = true;
	pml_check_done(a->c, 0);
	return true;
}

static struct pml_media_xattr *xattr_of(const struct pml_check *c,
					const struct pml_check_item *item)
{
	return pml_at(c->fs, item->word[0]);
}

/* Do these lengths fit into the object, and is the name one? */
static bool fits(const struct pml_check *c, const struct pml_check_item *item, uint64_t sizes)
{
	const struct pml_check_object *object = pml_check_object_at(c, item->word[0]);
	uint64_t name_bytes = sizes >> 32, value_bytes = sizes & UINT32_MAX;
	return name_bytes > 0 && name_bytes <= PML_XATTR_NAME_BYTES_MAX &&
	       value_bytes <= PML_XATTR_VALUE_BYTES_MAX &&
	       sizeof(struct pml_media_xattr) + name_bytes + value_bytes <=
		       pml_check_object_bytes(object) &&
	       !memchr(xattr_of(c, item)->name, 0, name_bytes);
}

static bool is_key_of(const struct pml_check *c, const struct pml_check_item *item,
		      uint64_t name_bytes)
{
	uint64_t first = pml_name_first_key(c->fs, xattr_of(c, item)->name, name_bytes);
	return item->key >= first && item->key - first < PML_NAME_COLLISIONS;
}

static const char *text_of(const struct pml_media_xattr *xattr, char text[64])
{
	size_t n = PML_MIN(xattr->name_bytes, 63u);
	for (size_t i = 0; i < n; i++)
		text[i] = (unsigned char)xattr->name[i] < ' ' ? '?' : xattr->name[i];
	text[n] = 0;
	return text;
}

/*
 * The lengths are there twice; those count that make a name which has this key, and its own
 * if both do.
 */
static bool settle_sizes(struct attributes *a, struct pml_check_item *item)
{
	struct pml_check *c = a->c;
	struct pml_media_xattr *xattr = xattr_of(c, item);
	uint64_t own = (uint64_t)xattr->name_bytes << 32 | xattr->value_bytes;
	bool is_own_good = fits(c, item, own);
	bool is_tree_good = fits(c, item, item->word[1]);
	if (is_own_good && own == item->word[1])
		return true;
	bool own_has_key = is_own_good && is_key_of(c, item, xattr->name_bytes);
	bool tree_has_key = is_tree_good && is_key_of(c, item, item->word[1] >> 32);
	if (!own_has_key && !tree_has_key) {
		item->is_bad = true;
		return !wants_change(a, pml_check_found(c, PML_CHECK_XATTR,
							"%s: the lengths of the extended attribute "
							"with key %#" PRIx64 " are not known",
							a->name, item->key));
	}
	uint64_t right = own_has_key ? own : item->word[1];
	if (!pml_check_found(c, PML_CHECK_XATTR_FIELD,
			     "%s: extended attribute with key %#" PRIx64 ": lengths %#" PRIx64
			     " in the tree, %#" PRIx64 " in it; %#" PRIx64 " fits",
			     a->name, item->key, item->word[1], own, right)) {
		item->is_bad = true;
		return true;
	}
	const struct pml_media_xattr sizes = {.value_bytes = (uint32_t)right,
					      .name_bytes = (uint32_t)(right >> 32)};
	pml_check_done(c, pml_check_store(c, xattr, &sizes, sizeof(sizes)));
	a->is_changed = a->is_changed || item->word[1] != right;
	item->word[1] = right;
	return true;
}

static bool check_item(struct attributes *a, struct pml_check_item *item)
{
	struct pml_check *c = a->c;
	char text[64];
	const char *fault = pml_check_claim(c, item->word[0], PML_TYPE_XATTR,
					    sizeof(struct pml_media_xattr) + 1);
	if (fault) {
		item->is_bad = true;
		return !wants_change(a, pml_check_found(c, PML_CHECK_XATTR,
							"%s: the extended attribute with key "
							"%#" PRIx64 " names %s",
							a->name, item->key, fault));
	}
	if (!settle_sizes(a, item))
		return false;
	item->is_misplaced = false; /* the name says where it belongs */
	if (item->is_bad || is_key_of(c, item, xattr_of(c, item)->name_bytes))
		return true;
	const struct pml_media_xattr *xattr = xattr_of(c, item);
	if (wants_change(a, pml_check_found(c, PML_CHECK_ENTRY_KEY,
					    "%s: extended attribute \"%s\" has key %#" PRIx64
					    ", which is not of its name",
					    a->name, text_of(xattr, text), item->key))) {
		item->key = pml_name_first_key(c->fs, xattr->name, xattr->name_bytes);
		item->is_misplaced = true;
		a->must_rekey = true;
	} else {
		item->is_bad = true;
	}
	return true;
}

static bool is_named(const struct pml_media_xattr *xattr, const char *name)
{
	return xattr->name_bytes == strlen(name) && memcmp(xattr->name, name, strlen(name)) == 0;
}

/* What is wrong with an ACL, or NULL.  Sets *ret_mode to what an access ACL stands for. */
static const char *acl_fault(const struct attributes *a, const struct pml_media_xattr *xattr,
			     mode_t *ret_mode)
{
	bool is_access = is_named(xattr, XATTR_NAME_POSIX_ACL_ACCESS);
	struct pml_acl acl;
	if (!is_access && !is_named(xattr, XATTR_NAME_POSIX_ACL_DEFAULT))
		return NULL;
	if (!is_access && !S_ISDIR(a->inode->mode))
		return "only a directory has one";
	if (pml_acl_from(xattr->name + xattr->name_bytes, xattr->value_bytes, &acl) ||
	    acl.nentries == 0)
		return "it is no access control list";
	if (is_access)
		(void)pml_acl_to_mode(&acl, ret_mode);
	return NULL;
}

/* False: it is dropped. */
static bool check_acl(struct attributes *a, struct pml_check_item *item)
{
	struct pml_check *c = a->c;
	const struct pml_media_xattr *xattr = xattr_of(c, item);
	char text[64];
	mode_t mode = a->inode->mode;
	const char *fault = item->is_bad ? NULL : acl_fault(a, xattr, &mode);
	if (fault)
		return !wants_change(a, pml_check_found(c, PML_CHECK_XATTR,
							"%s: extended attribute \"%s\": %s",
							a->name, text_of(xattr, text), fault));
	/* The ACL is what decides who may do what. */
	if (mode != a->inode->mode)
		PML_CHECK_SET(c, PML_CHECK_XATTR_FIELD, a->inode->mode, (uint32_t)mode,
			      "%s: mode %#o, its access control list says %#o", a->name,
			      a->inode->mode, mode);
	return true;
}

static bool is_same_name(const struct pml_check *c, const struct pml_check_item *x,
			 const struct pml_check_item *y)
{
	const struct pml_media_xattr *a = xattr_of(c, x), *b = xattr_of(c, y);
	return a->name_bytes == b->name_bytes && memcmp(a->name, b->name, a->name_bytes) == 0;
}

static void check_together(struct attributes *a)
{
	struct pml_check *c = a->c;
	char text[64];
	size_t kept = 0;
	for (size_t i = 0; i < c->nitems; i++) {
		struct pml_check_item item = c->item[i];
		bool is_double = false;
		for (size_t k = kept;
		     !item.is_bad && !is_double && k-- > 0 &&
		     c->item[k].key / PML_NAME_COLLISIONS == item.key / PML_NAME_COLLISIONS;)
			is_double = !c->item[k].is_bad && is_same_name(c, &c->item[k], &item);
		if (is_double &&
		    wants_change(a, pml_check_found(c, PML_CHECK_XATTR,
						    "%s: extended attribute \"%s\" is there twice",
						    a->name, text_of(xattr_of(c, &item), text))))
			continue;
		if (!is_double && !check_acl(a, &item))
			continue;
		c->item[kept++] = item;
	}
	c->nitems = kept;
}

void pml_check_xattrs(struct pml_check *c, const char *name, struct pml_media_inode *inode)
{
	struct pml_media_super *super = c->fs->super;
	struct attributes a = {.c = c, .name = name, .inode = inode};
	if (!inode->xattr)
		return;
	c->is_held = !pml_check_tree(c, name, inode->xattr);
	size_t kept = 0;
	for (size_t i = 0; i < c->nitems && !c->err; i++) {
		struct pml_check_item item = c->item[i];
		if (check_item(&a, &item))
			c->item[kept++] = item;
	}
	if (!c->err)
		c->nitems = kept;
	if (a.must_rekey)
		pml_check_assign_keys(c);
	check_together(&a);
	c->is_held = false;
	if (c->err)
		return;
	if (a.is_changed || c->is_tree_damaged)
		pml_check_tree_replace(c, &inode->xattr);
	if (!(super->feature_ro_compat & PML_FEATURE_RO_XATTR) && inode->xattr)
		PML_CHECK_SET(c, PML_CHECK_SUPER_FIELD, super->feature_ro_compat,
			      super->feature_ro_compat | PML_FEATURE_RO_XATTR,
			      "super block: the feature of extended attributes is not set, %s has "
			      "some",
			      name);
}
