/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * heap.h -- libpmemobj's structures on the device, read without libpmemobj
 *
 * libpmemobj believes what it finds: a bad log, chunk header or object offset ends in a
 * crash or an endless loop inside it.  So all that it reads is checked before the pool is
 * opened, and every offset that it is to free, and every object that we are to change,
 * before that.
 *
 * Threads: everything here only reads the device, and may run in any thread.  While the
 * pool is open, answers are about objects that the caller's locks keep from changing.
 */
#ifndef PML_FS_HEAP_H
#define PML_FS_HEAP_H

#include "heap_layout.h"
#include "media.h"

struct pml_heap_words; /* heap_logs.c */

/* Where things are. */
struct pml_heap {
	const uint8_t *base; /* of a mapping of the device */
	uint64_t bytes;
	uint64_t offset; /* of the heap */
	uint32_t nzones;
	struct pml_heap_words *words; /* what pending redo logs will change; the check's */
	uint64_t **heads;	      /* per zone a bit per chunk that begins a block; or NULL */
};

/*
 * A contradiction.
 * @offset:    where on the device
 * @structure: what lies there ("chunk header")
 * @problem:   what is wrong with it
 */
typedef void (*pml_heap_report)(void *arg, uint64_t offset, const char *structure,
				const char *problem);

/*
 * pml_heap_check() - check everything on the device that libpmemobj believes
 * @base:    a mapping of the whole device, for reading; it is not changed
 * @is_deep: also each small object's header, in time proportional to their number; else in
 *           time proportional to the number of blocks of memory
 * @report:  called for each contradiction, up to PML_HEAP_REPORTS_MAX; what depends on a
 *           structure that is damaged is left out
 *
 * The device is judged as it will be when libpmemobj has carried out its redo logs; any
 * state that a crash can leave is sound.  Stale footers are no contradiction
 * (pml_heap_repair_footers()).
 * Returns 0, -EUCLEAN (something was reported), or -ENOMEM.
 */
#define PML_HEAP_REPORTS_MAX 100u
int pml_heap_check(const uint8_t *base, uint64_t bytes, bool is_deep, pml_heap_report report,
		   void *arg) PML_MUST_CHECK;

/* Maps the device for a pml_heap_check().  -errno of mmap(2) besides. */
int pml_heap_check_fd(int fd, uint64_t bytes, bool is_deep, pml_heap_report report,
		      void *arg) PML_MUST_CHECK;

/* Fills in where things are.  Assumes: pml_heap_check() found nothing. */
void pml_heap_init(struct pml_heap *heap, const uint8_t *base, uint64_t bytes);

/*
 * Notes which chunks begin a block, until pml_heap_forget_blocks(): meanwhile nothing that
 * only looks like a block, inside of another one, is taken for one.  Blocks that are made
 * after it are not known.  -ENOMEM.
 */
int pml_heap_note_blocks(struct pml_heap *heap) PML_MUST_CHECK;
void pml_heap_forget_blocks(struct pml_heap *heap);

/* Offset of the root object; 0: there is none. */
uint64_t pml_heap_root(const struct pml_heap *heap);

/* An object of the pool. */
struct pml_heap_object {
	uint64_t offset;
	uint64_t bytes;	  /* without its header, rounded up to whole units */
	uint64_t type;	  /* enum pml_media_type; 0 the root object and those of libpmemobj */
	bool is_huge;	  /* has chunks of its own */
	bool is_internal; /* libpmemobj's, or the root object */
	bool is_allocated;
};

/*
 * Is @offset where an object begins, with a header that makes sense?  For an object that is
 * not allocated only the place is sure, and nothing else but @offset and @is_huge is set.
 */
bool pml_heap_object_at(const struct pml_heap *heap, uint64_t offset,
			struct pml_heap_object *ret_object);

/* The allocated object that holds the byte at @offset, if there is one with a sound header. */
bool pml_heap_object_holding(const struct pml_heap *heap, uint64_t offset,
			     struct pml_heap_object *ret_object);

/*
 * Calls @visit for each allocated object in ascending order until it returns non-zero,
 * which is returned.  Objects with a senseless header are left out.
 */
typedef int (*pml_heap_visit)(void *arg, const struct pml_heap_object *object);
int pml_heap_walk(const struct pml_heap *heap, pml_heap_visit visit, void *arg);

/* Calls @visit for each block: first chunk's header, its offset, and that of its memory. */
struct pml_heap_block {
	uint32_t zone;
	uint32_t chunk;
	uint64_t header_offset;
	uint64_t offset;
	struct pml_heap_chunk header;
};
typedef int (*pml_heap_visit_block)(void *arg, const struct pml_heap_block *block);
int pml_heap_blocks(const struct pml_heap *heap, pml_heap_visit_block visit, void *arg);

/*
 * pml_heap_repair_footers() - write anew the footer of each block that has one
 * @base:    the mapping, for writing
 * @persist: makes a range durable
 *
 * libpmemobj before 2.1.3 does not flush the footer of a free block nor make it anew: after
 * a power failure a later free goes by a stale one, and memory in use is handed out.
 * Assumes: pml_heap_check() found nothing; nothing has been allocated or freed since the
 * pool was opened.  Returns the number of footers that were wrong.
 */
uint64_t pml_heap_repair_footers(const struct pml_heap *heap, uint8_t *base,
				 void (*persist)(const void *addr, size_t bytes));

/* ---- between heap.c and heap_logs.c --------------------------------------- */

struct pml_heap_check {
	struct pml_heap heap;
	pml_heap_report report;
	void *arg;
	uint64_t nreports;
	bool is_deep;
	bool is_out_of_memory;
};

void pml_heap_fault(struct pml_heap_check *c, uint64_t offset, const char *structure,
		    const char *format, ...) PML_PRINTF(4, 5);

/* The 8 bytes at an offset that is a multiple of 8 and on the device, after the redo logs. */
uint64_t pml_heap_word(const struct pml_heap *heap, uint64_t offset);
uint64_t pml_heap_changed_word(const struct pml_heap_words *words, uint64_t offset, uint64_t word);

/* Before the blocks are checked: the logs' bounds, and what redo logs will change. */
void pml_heap_check_redo(struct pml_heap_check *c);
/* After them: continuations are objects, undo logs restore objects. */
void pml_heap_check_logs(struct pml_heap_check *c);
void pml_heap_words_free(struct pml_heap *heap);

#endif
