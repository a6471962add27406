/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * check_super.c -- super block, allocation groups
 *
 * A group is what its object says: begin and length follow from the object's place and
 * size (carve.c).  So the table of groups can be rebuilt from the objects, and everything
 * else is checked against these.
 */
#include "check.h"

#include <inttypes.h>
#include <string.h>

#include "alloc.h"
#include "device.h"
#include "tx.h"

#define GROUP_ALIGN_BYTES (2ull << 20)

/* ---- the super block ------------------------------------------------------- */

int pml_check_super_known(struct pml_check *c, char *reason)
{
	const struct pml_media_super *super = c->fs->super;
	if (super->magic == 0)
		return pml_reason(reason, -EMEDIUMTYPE,
				  "%s: mkfs was interrupted: run mkfs.pmemleasefs again with -f",
				  c->path);
	const struct {
		const char *name;
		uint32_t unknown;
	} features[] = {
		{"incompatible", super->feature_incompat & ~PML_KNOWN_INCOMPAT},
		{"read-only", super->feature_ro_compat & ~PML_KNOWN_RO_COMPAT},
		{"compatible", super->feature_compat & ~PML_KNOWN_COMPAT},
	};
	for (size_t i = 0; i < PML_ARRAY_LEN(features); i++)
		if (features[i].unknown)
			return pml_reason(reason, -EMEDIUMTYPE,
					  "%s has %s features that this program does not know "
					  "(%#x): use a newer fsck.pmemleasefs",
					  c->path, features[i].name, features[i].unknown);
	return 0;
}

/* What the groups that are there and may come can hold, measured as mkfs does. */
static int measure_payload(struct pml_check *c)
{
	uint64_t carved = 0;
	for (size_t i = 0; i < c->ngroups; i++)
		carved += c->group[i].nblocks;
	int err = pml_alloc_format(c->fs);
	if (err && err != -ENOSPC)
		return err;
	uint64_t more = err ? 0 : c->fs->super->payload_blocks;
	return pml_check_store(c, &c->fs->super->payload_blocks, &(uint64_t){carved + more},
			       sizeof(uint64_t));
}

void pml_check_super(struct pml_check *c)
{
	struct pml_media_super *super = c->fs->super;
	if (super->magic != PML_MEDIA_MAGIC)
		PML_CHECK_SET(c, PML_CHECK_SUPER_FIELD, super->magic, (uint64_t)PML_MEDIA_MAGIC,
			      "super block: the magic number is %#" PRIx64, super->magic);
	if (super->format_version != PML_FORMAT_VERSION)
		PML_CHECK_SET(c, PML_CHECK_SUPER_FIELD, super->format_version,
			      (uint32_t)PML_FORMAT_VERSION,
			      "super block: format version %u, the layout string says %u",
			      super->format_version, PML_FORMAT_VERSION);
	if (super->size_bytes != c->fs->info.size_bytes)
		PML_CHECK_SET(c, PML_CHECK_SUPER_FIELD, super->size_bytes,
			      (uint64_t)c->fs->info.size_bytes,
			      "super block: size %" PRIu64 ", the layout string says %" PRIu64,
			      super->size_bytes, c->fs->info.size_bytes);
	if (!memchr(super->label, 0, sizeof(super->label)))
		PML_CHECK_SET(c, PML_CHECK_SUPER_FIELD, super->label[sizeof(super->label) - 1],
			      (char)0, "super block: the label has no end");
	if (super->reserved0)
		PML_CHECK_SET(c, PML_CHECK_SUPER_FIELD, super->reserved0, 0u,
			      "super block: reserved bytes behind the number of groups are not 0");
	for (size_t i = 0; i < PML_ARRAY_LEN(super->reserved1); i++)
		if (super->reserved1[i])
			PML_CHECK_SET(c, PML_CHECK_SUPER_FIELD, super->reserved1[i], (uint64_t)0,
				      "super block: reserved word %zu is not 0", i);
}

/* ---- groups ---------------------------------------------------------------- */

/* The group that lies in an object; false: it is none. */
static bool group_of_object(const struct pml_check_object *object,
			    struct pml_media_group *ret_group)
{
	uint64_t first_byte = pml_round_up(object->offset, GROUP_ALIGN_BYTES);
	uint64_t end_byte = object->offset + pml_check_object_bytes(object);
	if (end_byte < first_byte + PML_BLOCK_BYTES)
		return false;
	*ret_group = (struct pml_media_group){
		.first_block = first_byte >> PML_BLOCK_SHIFT,
		.nblocks = (end_byte - first_byte) >> PML_BLOCK_SHIFT,
		.object = object->offset,
	};
	return true;
}

/* All objects that are groups become c->group. */
static void list_groups(struct pml_check *c)
{
	free(c->group);
	c->ngroups = 0;
	c->group = calloc(PML_GROUPS_MAX, sizeof(c->group[0]));
	if (!c->group)
		c->err = -ENOMEM;
	for (size_t i = 0; c->group && i < c->nobjects; i++) {
		struct pml_check_object *object = &c->object[i];
		if (object->type != PML_TYPE_GROUP)
			continue;
		if (c->ngroups < PML_GROUPS_MAX && group_of_object(object, &c->group[c->ngroups])) {
			object->is_claimed = true;
			c->ngroups++;
			continue;
		}
		(void)pml_check_found(c, PML_CHECK_GROUP_OBJECT,
				      "the object at %#" PRIx64
				      " is an allocation group and too small for one",
				      object->offset);
	}
}

static int compare_groups(const void *a, const void *b)
{
	const struct pml_media_group *x = a, *y = b;
	return (x->object > y->object) - (x->object < y->object);
}

/* Keeps the order of those that are in the table. */
static int rebuild_groups(struct pml_check *c)
{
	struct pml_media_super *super = c->fs->super;
	size_t bytes = PML_GROUPS_MAX * sizeof(super->groups[0]);
	struct pml_media_group *table = calloc(1, bytes);
	bool *is_taken = calloc(PML_GROUPS_MAX, sizeof(bool));
	uint32_t n = 0;
	int err = table && is_taken ? 0 : -ENOMEM;
	for (uint32_t i = 0; !err && i < PML_MIN(super->ngroups, PML_GROUPS_MAX); i++) {
		const struct pml_media_group *g = bsearch(&super->groups[i], c->group, c->ngroups,
							  sizeof(c->group[0]), compare_groups);
		if (!g || is_taken[g - c->group])
			continue;
		is_taken[g - c->group] = true;
		table[n++] = *g;
	}
	for (size_t i = 0; !err && i < c->ngroups; i++)
		if (!is_taken[i])
			table[n++] = c->group[i];
	struct pml_tx tx;
	if (!err)
		err = pml_tx_begin(c->fs, &tx);
	if (!err) {
		err = pml_tx_add(super->groups, n * sizeof(table[0]));
		if (!err)
			err = PML_TX_SET(super->ngroups, n);
		if (!err)
			memcpy(super->groups, table, n * sizeof(table[0]));
		err = pml_tx_end(&tx, err);
	}
	free(table);
	free(is_taken);
	return err;
}

/* What is wrong with entry @i, or NULL. */
static const char *entry_fault(const struct pml_check *c, uint32_t i)
{
	const struct pml_media_group *entry = &c->fs->super->groups[i];
	const struct pml_media_group *g = NULL;
	if (c->ngroups)
		g = bsearch(entry, c->group, c->ngroups, sizeof(*g), compare_groups);
	if (!g)
		return "names no group";
	if (entry->first_block != g->first_block)
		return "has a wrong first block";
	if (entry->nblocks != g->nblocks)
		return "has a wrong number of blocks";
	if (entry->device != 0)
		return "names another device";
	if (entry->reserved != 0)
		return "has reserved bytes that are not 0";
	for (uint32_t before = 0; before < i; before++)
		if (c->fs->super->groups[before].object == entry->object)
			return "is there twice";
	return NULL;
}

static void check_group_table(struct pml_check *c)
{
	const struct pml_media_super *super = c->fs->super;
	bool is_wanted = false;
	if (super->ngroups != c->ngroups)
		is_wanted = pml_check_found(c, PML_CHECK_GROUP_TABLE,
					    "super block: %u groups, there are %zu", super->ngroups,
					    c->ngroups);
	for (uint32_t i = 0; !is_wanted && i < PML_MIN(super->ngroups, PML_GROUPS_MAX); i++) {
		const char *fault = entry_fault(c, i);
		if (fault)
			is_wanted =
				pml_check_found(c, PML_CHECK_GROUP_TABLE, "group %u %s", i, fault);
	}
	if (is_wanted)
		pml_check_done(c, rebuild_groups(c));
}

void pml_check_groups(struct pml_check *c)
{
	list_groups(c);
	if (pml_check_is_over(c))
		return;
	check_group_table(c);
	const struct pml_media_super *super = c->fs->super;
	if (!c->must_restart && super->payload_blocks > c->fs->nblocks &&
	    pml_check_found(c, PML_CHECK_SUPER_FIELD,
			    "super block: %" PRIu64 " blocks for files, the device has %" PRIu64,
			    super->payload_blocks, c->fs->nblocks))
		pml_check_done(c, measure_payload(c));
}

bool pml_check_in_group(const struct pml_check *c, uint64_t first, uint64_t n)
{
	size_t lo = 0, hi = c->ngroups;
	while (lo < hi) {
		size_t mid = (lo + hi) / 2;
		if (c->group[mid].first_block <= first)
			lo = mid + 1;
		else
			hi = mid;
	}
	if (lo == 0 || n == 0)
		return false;
	const struct pml_media_group *g = &c->group[lo - 1];
	uint64_t i = first - g->first_block;
	return i < g->nblocks && n <= g->nblocks - i;
}
