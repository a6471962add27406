/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_acl.c -- access control lists: form, access, and what goes between them and modes
 *
 * Access is compared with a second reading of POSIX 1003.1e draft 17, 23.1.5, over
 * all masks, many askers and random lists.
 */
#include "../../fs/acl.h"

#include <stdlib.h>

#include "../tap.h"

#define NONE ((uint32_t)ACL_UNDEFINED_ID)

struct entry {
	uint16_t tag, perm;
	uint32_t id;
};

/* A value as a program passes it; returns its length. */
static size_t build(const struct entry *entry, size_t n, void *ret_value)
{
	const uint32_t version = POSIX_ACL_XATTR_VERSION;
	memcpy(ret_value, &version, sizeof(version));
	if (n > 0)
		memcpy((char *)ret_value + sizeof(version), entry, n * sizeof(*entry));
	return sizeof(version) + n * sizeof(*entry);
}

static int take(const struct entry *entry, size_t n, struct pml_acl *ret_acl)
{
	char value[2 * PML_ACL_BYTES_MAX];
	return pml_acl_from(value, build(entry, n, value), ret_acl);
}

#define TAKE(acl, ...)                                                                             \
	({                                                                                         \
		const struct entry entries_[] = {__VA_ARGS__};                                     \
		take(entries_, sizeof(entries_) / sizeof(entries_[0]), acl);                       \
	})

#define UO(p)                                                                                      \
	{                                                                                          \
		ACL_USER_OBJ, p, NONE                                                              \
	}
#define U(id, p)                                                                                   \
	{                                                                                          \
		ACL_USER, p, id                                                                    \
	}
#define GO(p)                                                                                      \
	{                                                                                          \
		ACL_GROUP_OBJ, p, NONE                                                             \
	}
#define G(id, p)                                                                                   \
	{                                                                                          \
		ACL_GROUP, p, id                                                                   \
	}
#define M(p)                                                                                       \
	{                                                                                          \
		ACL_MASK, p, NONE                                                                  \
	}
#define O(p)                                                                                       \
	{                                                                                          \
		ACL_OTHER, p, NONE                                                                 \
	}

/* ---- form --------------------------------------------------------------- */

static void test_good_lists_are_taken(void)
{
	struct pml_acl acl;
	CHECK_EQ(TAKE(&acl, UO(7), GO(5), O(0)), 0);
	CHECK_EQ(acl.nentries, 3);
	CHECK_EQ(pml_acl_bytes(&acl), 28);
	CHECK_EQ(TAKE(&acl, UO(7), GO(5), M(1), O(0)), 0);
	CHECK_EQ(TAKE(&acl, UO(7), U(1, 7), GO(5), M(7), O(0)), 0);
	CHECK_EQ(TAKE(&acl, UO(7), GO(5), G(0, 0), M(7), O(0)), 0);
	/* As Linux: names in any order, and twice. */
	CHECK_EQ(TAKE(&acl, UO(7), U(9, 7), U(1, 0), U(9, 1), GO(5), G(3, 1), G(2, 1), M(7), O(7)),
		 0);
	CHECK_EQ(acl.nentries, 9);
	/* The ids of those without names do not matter. */
	CHECK_EQ(TAKE(&acl, {ACL_USER_OBJ, 7, 5}, {ACL_GROUP_OBJ, 7, 0}, {ACL_OTHER, 0, 1}), 0);
	CHECK_EQ(take(NULL, 0, &acl), 0);
	CHECK_EQ(acl.nentries, 0);
}

static void test_bad_lists_are_refused(void)
{
	struct pml_acl acl;
	/* Missing, twice, out of order. */
	CHECK_EQ(TAKE(&acl, GO(5), O(0)), -EINVAL);
	CHECK_EQ(TAKE(&acl, UO(7), O(0)), -EINVAL);
	CHECK_EQ(TAKE(&acl, UO(7), GO(5)), -EINVAL);
	CHECK_EQ(TAKE(&acl, UO(7), GO(5), M(7)), -EINVAL);
	CHECK_EQ(TAKE(&acl, UO(7), UO(7), GO(5), O(0)), -EINVAL);
	CHECK_EQ(TAKE(&acl, UO(7), GO(5), GO(5), O(0)), -EINVAL);
	CHECK_EQ(TAKE(&acl, UO(7), GO(5), M(5), M(5), O(0)), -EINVAL);
	CHECK_EQ(TAKE(&acl, UO(7), GO(5), O(0), O(0)), -EINVAL);
	CHECK_EQ(TAKE(&acl, GO(5), UO(7), O(0)), -EINVAL);
	CHECK_EQ(TAKE(&acl, UO(7), GO(5), O(0), M(7)), -EINVAL);
	CHECK_EQ(TAKE(&acl, UO(7), GO(5), U(1, 7), M(7), O(0)), -EINVAL);
	CHECK_EQ(TAKE(&acl, UO(7), G(1, 7), GO(5), M(7), O(0)), -EINVAL);
	/* A name without a mask; without an id; permissions and tags that there are not. */
	CHECK_EQ(TAKE(&acl, UO(7), U(1, 7), GO(5), O(0)), -EINVAL);
	CHECK_EQ(TAKE(&acl, UO(7), GO(5), G(1, 7), O(0)), -EINVAL);
	CHECK_EQ(TAKE(&acl, UO(7), U(NONE, 7), GO(5), M(7), O(0)), -EINVAL);
	CHECK_EQ(TAKE(&acl, UO(7), GO(5), G(NONE, 7), M(7), O(0)), -EINVAL);
	CHECK_EQ(TAKE(&acl, UO(8), GO(5), O(0)), -EINVAL);
	CHECK_EQ(TAKE(&acl, UO(7), GO(5), O(0x8000)), -EINVAL);
	CHECK_EQ(TAKE(&acl, UO(7), {0, 7, 1}, GO(5), M(7), O(0)), -EINVAL);
	CHECK_EQ(TAKE(&acl, UO(7), GO(5), {0x40, 7, 1}, O(0)), -EINVAL);
	CHECK_EQ(TAKE(&acl, UO(7), {ACL_USER | ACL_GROUP, 7, 1}, GO(5), M(7), O(0)), -EINVAL);
}

static void test_lengths_and_versions(void)
{
	const struct entry entry[] = {UO(7), GO(5), O(0)};
	char value[64];
	struct pml_acl acl;
	size_t bytes = build(entry, 3, value);
	for (size_t n = 0; n < bytes; n++)
		CHECK_EQ(pml_acl_from(value, n, &acl), n == 4 ? 0 : -EINVAL);
	value[0]++;
	CHECK_EQ(pml_acl_from(value, bytes, &acl), -EOPNOTSUPP);

	struct entry many[PML_ACL_ENTRIES_MAX + 1] = {UO(7)};
	CHECK_EQ(PML_ACL_ENTRIES_MAX, 511);
	for (size_t n = PML_ACL_ENTRIES_MAX; n <= PML_ACL_ENTRIES_MAX + 1; n++) {
		for (size_t i = 1; i < n - 3; i++)
			many[i] = (struct entry)U((uint32_t)i, 7);
		many[n - 3] = (struct entry)GO(7);
		many[n - 2] = (struct entry)M(7);
		many[n - 1] = (struct entry)O(7);
		CHECK_EQ(take(many, n, &acl), n <= PML_ACL_ENTRIES_MAX ? 0 : -E2BIG);
	}
}

/* ---- access ------------------------------------------------------------- */

enum { OWNER = 1, OWNING_GROUP = 1, IDS = 5 };

struct asker {
	uint32_t uid;
	bool is_in[IDS]; /* groups */
};

static uint16_t perm_of(const struct entry *entry, size_t n, uint16_t tag, uint16_t absent)
{
	for (size_t i = 0; i < n; i++)
		if (entry[i].tag == tag)
			return entry[i].perm;
	return absent;
}

/* Step by step as the draft has it; @entry has a mask if it has names. */
static bool is_granted(const struct entry *entry, size_t n, const struct asker *asker,
		       unsigned int wanted)
{
	uint16_t mask = perm_of(entry, n, ACL_MASK, 7);
	if (asker->uid == OWNER)
		return (perm_of(entry, n, ACL_USER_OBJ, 0) & wanted) == wanted;
	for (size_t i = 0; i < n; i++)
		if (entry[i].tag == ACL_USER && entry[i].id == asker->uid)
			return (entry[i].perm & mask & wanted) == wanted;
	bool matches = false;
	for (size_t i = 0; i < n; i++) {
		bool is_group = (entry[i].tag == ACL_GROUP_OBJ && asker->is_in[OWNING_GROUP]) ||
				(entry[i].tag == ACL_GROUP && asker->is_in[entry[i].id]);
		matches = matches || is_group;
		if (is_group && (entry[i].perm & mask & wanted) == wanted)
			return true;
	}
	return !matches && (perm_of(entry, n, ACL_OTHER, 0) & wanted) == wanted;
}

static uint16_t any_perm(void)
{
	return (uint16_t)(random() % 8);
}

static size_t any_acl(struct entry *entry)
{
	size_t n = 0;
	entry[n++] = (struct entry)UO(any_perm());
	for (uint32_t id = 0; id < IDS; id++)
		if (id != OWNER && random() % 3 == 0)
			entry[n++] = (struct entry)U(id, any_perm());
	entry[n++] = (struct entry)GO(any_perm());
	for (uint32_t id = 0; id < IDS; id++)
		if (random() % 3 == 0)
			entry[n++] = (struct entry)G(id, any_perm());
	if (n > 2 || random() % 2)
		entry[n++] = (struct entry)M(any_perm());
	entry[n++] = (struct entry)O(any_perm());
	return n;
}

static void check_access(const struct pml_acl *acl, const struct entry *entry, size_t n,
			 const struct asker *asker)
{
	gid_t groups[IDS];
	struct pml_cred cred = {.uid = asker->uid, .gid = IDS + 1, .groups = groups};
	for (gid_t gid = 0; gid < IDS; gid++)
		if (asker->is_in[gid])
			groups[cred.ngroups++] = gid;
	/* One of them as the first group. */
	if (cred.ngroups && random() % 2)
		cred.gid = groups[--cred.ngroups];
	for (int wanted = 0; wanted < 8; wanted++)
		CHECK_EQ(pml_acl_check(acl, OWNER, OWNING_GROUP, &cred, wanted),
			 is_granted(entry, n, asker, (unsigned int)wanted) ? 0 : -EACCES);
}

static void test_access_follows_the_draft(void)
{
	srandom(1);
	for (int round = 0; round < 3000; round++) {
		struct entry entry[2 * IDS + 4];
		struct pml_acl acl;
		size_t n = any_acl(entry);
		REQUIRE(take(entry, n, &acl) == 0);
		struct asker asker;
		for (asker.uid = 0; asker.uid < IDS; asker.uid++) {
			for (int gid = 0; gid < IDS; gid++)
				asker.is_in[gid] = random() % 2;
			check_access(&acl, entry, n, &asker);
		}
	}
}

static void test_access_in_the_cases_that_matter(void)
{
	struct pml_acl acl;
	REQUIRE(TAKE(&acl, UO(1), U(2, 7), GO(4), G(3, 2), M(6), O(7)) == 0);
	const struct pml_cred owner = {.uid = OWNER}, named = {.uid = 2, .gid = 3};
	static const gid_t both[] = {3};
	const struct pml_cred two_groups = {
		.uid = 9, .gid = OWNING_GROUP, .groups = both, .ngroups = 1};
	const struct pml_cred nobody = {.uid = 9, .gid = 9};
	/* The owner's entry is not masked, and nothing else counts. */
	CHECK_EQ(pml_acl_check(&acl, OWNER, OWNING_GROUP, &owner, X_OK), 0);
	CHECK_EQ(pml_acl_check(&acl, OWNER, OWNING_GROUP, &owner, R_OK), -EACCES);
	CHECK_EQ(pml_acl_check(&acl, OWNER, OWNING_GROUP, &named, R_OK | W_OK), 0);
	CHECK_EQ(pml_acl_check(&acl, OWNER, OWNING_GROUP, &named, X_OK), -EACCES);
	/* One group reads, another writes: neither does both. */
	CHECK_EQ(pml_acl_check(&acl, OWNER, OWNING_GROUP, &two_groups, R_OK), 0);
	CHECK_EQ(pml_acl_check(&acl, OWNER, OWNING_GROUP, &two_groups, W_OK), 0);
	CHECK_EQ(pml_acl_check(&acl, OWNER, OWNING_GROUP, &two_groups, R_OK | W_OK), -EACCES);
	CHECK_EQ(pml_acl_check(&acl, OWNER, OWNING_GROUP, &nobody, R_OK | W_OK | X_OK), 0);
}

/* ---- modes -------------------------------------------------------------- */

static void test_lists_become_modes(void)
{
	struct pml_acl acl;
	mode_t mode = S_IFREG | 07000;
	REQUIRE(TAKE(&acl, UO(7), GO(5), O(1)) == 0);
	CHECK(pml_acl_to_mode(&acl, &mode));
	CHECK_EQ(mode, S_IFREG | 07751);
	REQUIRE(TAKE(&acl, UO(6), GO(7), M(4), O(0)) == 0);
	CHECK(!pml_acl_to_mode(&acl, &mode));
	CHECK_EQ(mode, S_IFREG | 07640);
	REQUIRE(TAKE(&acl, UO(6), U(3, 7), GO(7), M(2), O(4)) == 0);
	CHECK(!pml_acl_to_mode(&acl, &mode));
	CHECK_EQ(mode, S_IFREG | 07624);
}

static void test_modes_go_into_lists(void)
{
	srandom(2);
	for (int round = 0; round < 1000; round++) {
		struct entry entry[2 * IDS + 4];
		struct pml_acl acl;
		size_t n = any_acl(entry);
		REQUIRE(take(entry, n, &acl) == 0);
		const mode_t wanted = (mode_t)random() % 01000;
		mode_t mode = 0;
		bool has_mask = perm_of(entry, n, ACL_MASK, 8) != 8;
		pml_acl_set_mode(&acl, wanted);
		CHECK_EQ(pml_acl_to_mode(&acl, &mode), n == 3);
		CHECK_EQ(mode, wanted);
		/* Names, and with a mask the group, keep what they have. */
		for (size_t i = 0; i < n; i++) {
			const struct posix_acl_xattr_entry *e = &acl.value.entry[i];
			CHECK_EQ(e->e_tag, entry[i].tag);
			if (e->e_tag == ACL_USER || e->e_tag == ACL_GROUP ||
			    (e->e_tag == ACL_GROUP_OBJ && has_mask))
				CHECK_EQ(e->e_perm, entry[i].perm);
		}
	}
}

static void test_inheriting_takes_away_on_both_sides(void)
{
	srandom(3);
	for (int round = 0; round < 1000; round++) {
		struct entry entry[2 * IDS + 4];
		struct pml_acl acl;
		size_t n = any_acl(entry);
		REQUIRE(take(entry, n, &acl) == 0);
		mode_t of_default = 0, of_access = 0;
		(void)pml_acl_to_mode(&acl, &of_default);
		const mode_t asked = (mode_t)random() % 010000 | S_IFREG;
		mode_t mode = asked;
		CHECK_EQ(pml_acl_inherit(&acl, &mode), n == 3);
		CHECK_EQ(mode, (asked & ~0777u) | (asked & of_default));
		(void)pml_acl_to_mode(&acl, &of_access);
		CHECK_EQ(of_access, mode & 0777);
		for (size_t i = 0; i < n; i++)
			if (entry[i].tag == ACL_USER || entry[i].tag == ACL_GROUP)
				CHECK_EQ(acl.value.entry[i].e_perm, entry[i].perm);
	}
	/* With a mask the group's own entry stays as it is. */
	struct pml_acl acl;
	mode_t mode = 0640;
	REQUIRE(TAKE(&acl, UO(7), GO(7), M(7), O(7)) == 0);
	CHECK(!pml_acl_inherit(&acl, &mode));
	CHECK_EQ(mode, 0640);
	CHECK_EQ(acl.value.entry[1].e_perm, 7);
	CHECK_EQ(acl.value.entry[2].e_perm, 4);
}

int main(void)
{
	TAP_RUN(test_good_lists_are_taken);
	TAP_RUN(test_bad_lists_are_refused);
	TAP_RUN(test_lengths_and_versions);
	TAP_RUN(test_access_follows_the_draft);
	TAP_RUN(test_access_in_the_cases_that_matter);
	TAP_RUN(test_lists_become_modes);
	TAP_RUN(test_modes_go_into_lists);
	TAP_RUN(test_inheriting_takes_away_on_both_sides);
	return tap_done();
}
