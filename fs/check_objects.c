/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * check_objects.c -- the pool's objects and who claims them
 */
#include "check.h"

#include <inttypes.h>
#include <string.h>

#include "tx.h"

bool pml_check_grow(struct pml_check *c, void *array, size_t n, size_t *capacity, size_t bytes)
{
	if (n < *capacity)
		return true;
	void **p = array;
	size_t wanted = *capacity ? 2 * *capacity : 256;
	void *grown = reallocarray(*p, wanted, bytes);
	if (!grown) {
		c->err = -ENOMEM;
		return false;
	}
	*p = grown;
	*capacity = wanted;
	return true;
}

static int compare_objects(const void *a, const void *b)
{
	const struct pml_check_object *x = a, *y = b;
	return (x->offset > y->offset) - (x->offset < y->offset);
}

static int load_object(void *arg, const struct pml_heap_object *object)
{
	struct pml_check *c = arg;
	if (object->is_internal)
		return 0;
	if (object->bytes / 8 > UINT32_MAX) {
		(void)pml_check_found(c, PML_CHECK_HEAP, "an object at %#" PRIx64 " is too large",
				      object->offset);
		return 0;
	}
	if (!pml_check_grow(c, &c->object, c->nobjects, &c->objects_capacity, sizeof(c->object[0])))
		return c->err;
	c->object[c->nobjects++] = (struct pml_check_object){
		.offset = object->offset,
		.eighths = (uint32_t)(object->bytes / 8),
		.type = (uint8_t)PML_MIN(object->type, (uint64_t)UINT8_MAX),
	};
	return c->nobjects % 65536 == 0 && pml_check_is_over(c) ? c->err : 0;
}

void pml_check_report_heap(void *arg, uint64_t offset, const char *structure, const char *problem)
{
	struct pml_check *c = arg;
	(void)pml_check_found(c, PML_CHECK_HEAP, "libpmemobj's %s at %#" PRIx64 ": %s", structure,
			      offset, problem);
}

void pml_check_load_objects(struct pml_check *c)
{
	struct pml_fs *fs = c->fs;
	c->nobjects = 0;
	int err = pml_heap_check(fs->base, fs->info.size_bytes, true, pml_check_report_heap, c);
	if (err == -ENOMEM)
		c->err = err;
	if (c->err)
		return;
	(void)pml_heap_walk(&fs->heap, load_object, c);
	if (c->nobjects)
		qsort(c->object, c->nobjects, sizeof(c->object[0]), compare_objects);
	c->result->objects = c->nobjects;
}

struct pml_check_object *pml_check_object_at(const struct pml_check *c, uint64_t offset)
{
	const struct pml_check_object key = {.offset = offset};
	if (c->nobjects == 0)
		return NULL;
	return bsearch(&key, c->object, c->nobjects, sizeof(key), compare_objects);
}

const char *pml_check_claim(struct pml_check *c, uint64_t offset, enum pml_media_type type,
			    uint64_t bytes)
{
	struct pml_check_object *object = pml_check_object_at(c, offset);
	if (!object)
		return "no object";
	if (object->type != type)
		return "an object of another type";
	if (pml_check_object_bytes(object) < bytes)
		return "an object that is too small";
	if (object->is_claimed)
		return "an object that is used elsewhere";
	object->is_claimed = true;
	return NULL;
}

static const char *type_name(uint8_t type)
{
	switch (type) {
	case PML_TYPE_ITABLE_LEVEL:
		return "inode table level";
	case PML_TYPE_ITABLE_CHUNK:
		return "inode table chunk";
	case PML_TYPE_BTREE_NODE:
		return "B+tree node";
	case PML_TYPE_DIRENT:
		return "directory entry";
	case PML_TYPE_SYMLINK:
		return "target of a symbolic link";
	case PML_TYPE_XATTR:
		return "extended attribute";
	case PML_TYPE_GROUP:
		return "allocation group";
	default:
		return NULL;
	}
}

static int free_object(struct pml_check *c, struct pml_check_object *object)
{
	struct pml_tx tx;
	int err = pml_tx_begin(c->fs, &tx);
	if (err)
		return err;
	return pml_tx_end(&tx, pml_tx_free(c->fs, object->offset, object->type));
}

void pml_check_leaks(struct pml_check *c)
{
	for (size_t i = 0; i < c->nobjects && !pml_check_is_over(c); i++) {
		struct pml_check_object *object = &c->object[i];
		if (object->is_claimed)
			continue;
		const char *name = type_name(object->type);
		/* Whoever freed these would free what hangs on them: their checks have spoken. */
		if (object->type == PML_TYPE_GROUP || object->type == PML_TYPE_ITABLE_LEVEL ||
		    object->type == PML_TYPE_ITABLE_CHUNK)
			continue;
		bool is_wanted =
			name ? pml_check_found(c, PML_CHECK_LEAK,
					       "%" PRIu64 " bytes at %#" PRIx64
					       " (%s) are lost: nothing leads to them",
					       pml_check_object_bytes(object), object->offset, name)
			     : pml_check_found(c, PML_CHECK_LEAK_FOREIGN,
					       "%" PRIu64 " bytes at %#" PRIx64
					       " are an object of unknown type",
					       pml_check_object_bytes(object), object->offset);
		if (is_wanted)
			pml_check_done(c, free_object(c, object));
	}
}
