/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fuzz_heap.c -- the deep check of libpmemobj's structures, and walks over what it lets pass
 */
#include <fcntl.h>
#include <sys/mman.h>

#include "../../fs/heap.h"
#include "fuzz.h"
#include "image.h"

static volatile uint64_t sink;

static void note(void *arg, uint64_t offset, const char *structure, const char *problem)
{
	sink += offset + (uint64_t)structure[0] + (uint64_t)problem[0];
}

static int visit(void *arg, const struct pml_heap_object *object)
{
	const struct pml_heap *heap = arg;
	struct pml_heap_object same;
	/* Both ways to find an object agree. */
	if (!pml_heap_object_at(heap, object->offset, &same) || same.bytes != object->bytes ||
	    !pml_heap_object_holding(heap, object->offset + object->bytes - 1, &same) ||
	    same.offset != object->offset)
		abort();
	return 0;
}

void fuzz_one(const uint8_t *input, size_t bytes)
{
	const char *path = image_make(input, bytes);
	if (!path)
		return;
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	uint8_t *base = mmap(NULL, IMAGE_BYTES, PROT_READ, MAP_SHARED, fd, 0);
	if (fd < 0 || base == MAP_FAILED)
		abort();
	(void)close(fd);
	int shallow = pml_heap_check(base, IMAGE_BYTES, false, note, NULL);
	int deep = pml_heap_check(base, IMAGE_BYTES, true, note, NULL);
	if (shallow && !deep)
		abort();
	if (!shallow) {
		struct pml_heap heap;
		pml_heap_init(&heap, base, IMAGE_BYTES);
		(void)pml_heap_walk(&heap, visit, &heap);
	}
	(void)munmap(base, IMAGE_BYTES);
}
