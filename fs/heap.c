/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * heap.c -- libpmemobj's pool header and heap: checks, blocks, objects, footers
 *
 * Works from what is structurally sound outwards: header, descriptor, heap header, zones
 * with their blocks, logs (heap_logs.c), the root object.  What depends on something
 * damaged is not looked at.
 */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include "heap.h"

/* Longest text of a problem. */
#define PROBLEM_BYTES 160
/* Behind the lanes the heap begins at a page; pages have 64 KiB at most. */
#define PAGE_BYTES_MAX (64u << 10)

/* ---- reading ------------------------------------------------------------- */

void pml_heap_fault(struct pml_heap_check *c, uint64_t offset, const char *structure,
		    const char *format, ...)
{
	char problem[PROBLEM_BYTES];
	va_list args;
	if (c->nreports++ >= PML_HEAP_REPORTS_MAX)
		return;
	va_start(args, format);
	(void)vsnprintf(problem, sizeof(problem), format, args);
	va_end(args);
	c->report(c->arg, offset, structure, problem);
}

uint64_t pml_heap_word(const struct pml_heap *heap, uint64_t offset)
{
	/* Words of bitmaps change under us, whole. */
	uint64_t word = __atomic_load_n((const uint64_t *)(const void *)(heap->base + offset),
					__ATOMIC_RELAXED);
	return heap->words ? pml_heap_changed_word(heap->words, offset, word) : word;
}

/* libpmemobj's checksum of a range where [skip, skip + skip_bytes) counts as zero. */
static uint64_t checksum(const void *data, size_t bytes, size_t skip, size_t skip_bytes)
{
	const uint32_t *word = data;
	uint32_t low = 0;
	uint32_t high = 0;
	for (size_t at = 0; at < bytes; at += sizeof(*word), word++) {
		if (at < skip || at >= skip + skip_bytes)
			low += *word;
		high += low;
	}
	return (uint64_t)high << 32 | low;
}

static uint64_t zone_offset(const struct pml_heap *heap, uint32_t zone)
{
	return heap->offset + sizeof(struct pml_heap_header) + zone * PML_HEAP_ZONE_BYTES;
}

static uint64_t header_offset(const struct pml_heap *heap, uint32_t zone, uint32_t chunk)
{
	return zone_offset(heap, zone) + PML_HEAP_ZONE_HEADER_BYTES + 8ull * chunk;
}

static uint64_t chunk_offset(const struct pml_heap *heap, uint32_t zone, uint32_t chunk)
{
	return zone_offset(heap, zone) + PML_HEAP_ZONE_HEAD_BYTES + PML_HEAP_CHUNK_BYTES * chunk;
}

static struct pml_heap_chunk chunk_header(const struct pml_heap *heap, uint32_t zone,
					  uint32_t chunk)
{
	uint64_t word = pml_heap_word(heap, header_offset(heap, zone, chunk));
	struct pml_heap_chunk header;
	memcpy(&header, &word, sizeof(header));
	return header;
}

/* How many chunks a zone has by the size of the device. */
static uint32_t zone_chunks(const struct pml_heap *heap, uint32_t zone)
{
	uint64_t room = heap->bytes - zone_offset(heap, zone) - PML_HEAP_ZONE_HEAD_BYTES;
	return (uint32_t)PML_MIN(room / PML_HEAP_CHUNK_BYTES, (uint64_t)PML_HEAP_CHUNKS_PER_ZONE);
}

static bool zone_is_made(const struct pml_heap *heap, uint32_t zone)
{
	return (uint32_t)pml_heap_word(heap, zone_offset(heap, zone)) == PML_HEAP_ZONE_MAGIC;
}

static void set_geometry(struct pml_heap *heap, const uint8_t *base, uint64_t bytes,
			 uint64_t offset)
{
	uint64_t room = bytes - offset - sizeof(struct pml_heap_header);
	uint64_t rest = room % PML_HEAP_ZONE_BYTES;
	*heap = (struct pml_heap){
		.base = base,
		.bytes = bytes,
		.offset = offset,
		.nzones =
			(uint32_t)(room / PML_HEAP_ZONE_BYTES) + (rest >= PML_HEAP_ZONE_BYTES_MIN),
	};
}

void pml_heap_init(struct pml_heap *heap, const uint8_t *base, uint64_t bytes)
{
	const struct pml_pool_descriptor *descriptor =
		(const void *)(base + PML_POOL_DESCRIPTOR_OFFSET);
	set_geometry(heap, base, bytes, descriptor->heap_offset);
}

uint64_t pml_heap_root(const struct pml_heap *heap)
{
	return pml_heap_word(heap, PML_POOL_DESCRIPTOR_OFFSET +
					   offsetof(struct pml_pool_descriptor, root_offset));
}

/* ---- runs ---------------------------------------------------------------- */

struct run {
	uint64_t offset; /* of its first chunk */
	uint64_t unit_bytes;
	uint64_t nunits;
	uint64_t nwords; /* of the bitmap that are used */
	uint64_t data;	 /* offset of unit 0 */
};

/* The unit size comes from the device: false when it is none. */
static bool read_run(const struct pml_heap *heap, uint64_t offset, uint32_t nchunks,
		     struct run *ret_run)
{
	uint64_t unit = pml_heap_word(heap, offset);
	uint64_t content = nchunks * PML_HEAP_CHUNK_BYTES - PML_RUN_HEADER_BYTES;
	if (unit == 0 || unit % PML_RUN_UNIT_ALIGN != 0 || unit > content)
		return false;
	/* The bitmap is laid out for the units that there would be without it, in whole lines. */
	uint64_t header_words = PML_RUN_HEADER_BYTES / 8;
	uint64_t words = (content / unit + 63) / 64;
	words = pml_round_up(words + header_words, 8) - header_words;
	if (words * 8 >= content)
		return false;
	struct run run = {
		.offset = offset,
		.unit_bytes = unit,
		.nunits = (content - words * 8) / unit,
		.data = offset + PML_RUN_HEADER_BYTES + words * 8,
	};
	run.nwords = (run.nunits + 63) / 64;
	*ret_run = run;
	return run.nunits > 0;
}

static uint64_t bitmap_offset(const struct run *run, uint64_t unit)
{
	return run->offset + PML_RUN_HEADER_BYTES + unit / 64 * 8;
}

/* Are all of these units, which lie in one word, in use? */
static bool are_used(const struct pml_heap *heap, const struct run *run, uint64_t unit, uint64_t n)
{
	uint64_t mask = n == 64 ? UINT64_MAX : ((1ull << n) - 1) << unit % 64;
	return (pml_heap_word(heap, bitmap_offset(run, unit)) & mask) == mask;
}

/* The header of an object that begins at a unit in use.  False: it makes no sense. */
static bool read_small(const struct pml_heap *heap, const struct run *run, uint64_t unit,
		       struct pml_heap_object *ret_object)
{
	uint64_t at = run->data + unit * run->unit_bytes;
	uint64_t size = pml_heap_word(heap, at);
	uint64_t bytes = size & PML_OBJECT_SIZE_MASK;
	uint64_t n = bytes / run->unit_bytes;
	*ret_object = (struct pml_heap_object){
		.offset = at + PML_OBJECT_HEADER_BYTES,
		.bytes = bytes - PML_OBJECT_HEADER_BYTES,
		.type = pml_heap_word(heap, at + 8),
		.is_internal = (size & PML_OBJECT_INTERNAL) != 0,
		.is_allocated = true,
	};
	return bytes % run->unit_bytes == 0 && n >= 1 &&
	       n <= PML_OBJECT_UNITS_MAX - unit % PML_OBJECT_UNITS_MAX && unit + n <= run->nunits &&
	       are_used(heap, run, unit, n);
}

/* How far it is to the next object that may be. */
static uint64_t units_of(const struct pml_heap_object *object, const struct run *run, bool is_sound)
{
	return is_sound ? (object->bytes + PML_OBJECT_HEADER_BYTES) / run->unit_bytes : 1;
}

/* ---- objects ------------------------------------------------------------- */

static bool is_head(const struct pml_heap *heap, uint32_t zone, uint32_t chunk)
{
	return !heap->heads ||
	       (heap->heads[zone] && (heap->heads[zone][chunk / 64] >> chunk % 64 & 1));
}

static bool huge_at(const struct pml_heap *heap, uint64_t chunk_at, uint64_t offset,
		    const struct pml_heap_chunk *header, struct pml_heap_object *ret_object)
{
	if (offset != chunk_at + PML_OBJECT_HEADER_BYTES || !(header->flags & PML_CHUNK_COMPACT))
		return false;
	*ret_object = (struct pml_heap_object){
		.offset = offset,
		.bytes = header->nchunks * PML_HEAP_CHUNK_BYTES - PML_OBJECT_HEADER_BYTES,
		.type = pml_heap_word(heap, chunk_at + 8),
		.is_huge = true,
		.is_allocated = true,
	};
	return true;
}

static bool small_at(const struct pml_heap *heap, const struct run *run, uint64_t offset,
		     struct pml_heap_object *ret_object)
{
	uint64_t at = offset - PML_OBJECT_HEADER_BYTES;
	if (at < run->data || (at - run->data) % run->unit_bytes != 0)
		return false;
	uint64_t unit = (at - run->data) / run->unit_bytes;
	if (unit >= run->nunits)
		return false;
	if (are_used(heap, run, unit, 1))
		return read_small(heap, run, unit, ret_object);
	*ret_object = (struct pml_heap_object){.offset = offset};
	return true;
}

/* Which chunk has the byte. */
static bool find_chunk(const struct pml_heap *heap, uint64_t offset, uint32_t *ret_zone,
		       uint32_t *ret_chunk)
{
	uint64_t first = zone_offset(heap, 0);
	if (offset < first || offset >= heap->bytes)
		return false;
	uint64_t zone = (offset - first) / PML_HEAP_ZONE_BYTES;
	uint64_t rest = (offset - first) % PML_HEAP_ZONE_BYTES;
	if (zone >= heap->nzones || rest < PML_HEAP_ZONE_HEAD_BYTES)
		return false;
	*ret_zone = (uint32_t)zone;
	*ret_chunk = (uint32_t)((rest - PML_HEAP_ZONE_HEAD_BYTES) / PML_HEAP_CHUNK_BYTES);
	return *ret_chunk < zone_chunks(heap, *ret_zone) && zone_is_made(heap, *ret_zone);
}

static struct pml_heap_block block_at(const struct pml_heap *heap, uint32_t zone, uint32_t chunk)
{
	return (struct pml_heap_block){
		.zone = zone,
		.chunk = chunk,
		.header_offset = header_offset(heap, zone, chunk),
		.offset = chunk_offset(heap, zone, chunk),
		.header = chunk_header(heap, zone, chunk),
	};
}

/* The block of a small object, or of a huge one that begins at @offset; it may be none. */
static bool find_block(const struct pml_heap *heap, uint64_t offset,
		       struct pml_heap_block *ret_block)
{
	uint32_t zone;
	uint32_t chunk;
	if (!find_chunk(heap, offset, &zone, &chunk))
		return false;
	struct pml_heap_block block = block_at(heap, zone, chunk);
	uint32_t distance = 0;
	if (block.header.type == PML_CHUNK_RUN_DATA) {
		distance = block.header.nchunks;
		if (distance == 0 || distance > chunk)
			return false;
		block = block_at(heap, zone, chunk - distance);
		if (block.header.type != PML_CHUNK_RUN)
			return false;
	}
	*ret_block = block;
	return is_head(heap, zone, block.chunk) && block.header.nchunks > distance &&
	       block.header.nchunks <= zone_chunks(heap, zone) - block.chunk;
}

/* The block that has the byte at @offset, whatever lies inside it. */
static bool find_block_around(const struct pml_heap *heap, uint64_t offset,
			      struct pml_heap_block *ret_block)
{
	uint32_t zone;
	uint32_t chunk;
	if (!find_chunk(heap, offset, &zone, &chunk))
		return false;
	uint32_t head = heap->heads ? chunk : 0;
	while (heap->heads && head > 0 && !is_head(heap, zone, head))
		head--;
	for (;;) {
		*ret_block = block_at(heap, zone, head);
		uint32_t n = ret_block->header.nchunks;
		if (n == 0 || n > zone_chunks(heap, zone) - head)
			return false;
		if (chunk - head < n)
			return true;
		head += n;
	}
}

static bool find_run(const struct pml_heap *heap, const struct pml_heap_block *block,
		     struct run *ret_run)
{
	return block->header.type == PML_CHUNK_RUN &&
	       block->header.flags == (PML_CHUNK_COMPACT | PML_CHUNK_FLEX_BITMAP) &&
	       read_run(heap, block->offset, block->header.nchunks, ret_run);
}

bool pml_heap_object_at(const struct pml_heap *heap, uint64_t offset,
			struct pml_heap_object *ret_object)
{
	struct pml_heap_block block;
	struct run run;
	if (offset % 8 != 0 || !find_block(heap, offset, &block))
		return false;
	if (block.header.type == PML_CHUNK_USED)
		return huge_at(heap, block.offset, offset, &block.header, ret_object);
	return find_run(heap, &block, &run) && small_at(heap, &run, offset, ret_object);
}

bool pml_heap_object_holding(const struct pml_heap *heap, uint64_t offset,
			     struct pml_heap_object *ret_object)
{
	struct pml_heap_block block;
	struct run run;
	if (!find_block_around(heap, offset, &block))
		return false;
	if (block.header.type == PML_CHUNK_USED)
		return huge_at(heap, block.offset, block.offset + PML_OBJECT_HEADER_BYTES,
			       &block.header, ret_object) &&
		       offset >= ret_object->offset;
	if (!find_run(heap, &block, &run) || offset < run.data)
		return false;
	/* Objects lie within words of the bitmap. */
	uint64_t end = (offset - run.data) / run.unit_bytes;
	for (uint64_t unit = end - end % 64; unit <= end && unit < run.nunits;) {
		bool is_used = are_used(heap, &run, unit, 1);
		bool is_sound = is_used && read_small(heap, &run, unit, ret_object);
		uint64_t n = units_of(ret_object, &run, is_sound);
		if (end < unit + n)
			return is_sound && offset >= ret_object->offset;
		unit += n;
	}
	return false;
}

/* ---- walking ------------------------------------------------------------- */

int pml_heap_blocks(const struct pml_heap *heap, pml_heap_visit_block visit, void *arg)
{
	for (uint32_t zone = 0; zone < heap->nzones; zone++) {
		uint32_t end = zone_is_made(heap, zone) ? zone_chunks(heap, zone) : 0;
		for (uint32_t chunk = 0; chunk < end;) {
			const struct pml_heap_block block = block_at(heap, zone, chunk);
			uint32_t n = block.header.nchunks;
			if (n == 0 || n > end - chunk)
				break; /* damaged: the rest of the zone is out of reach */
			int stop = visit(arg, &block);
			if (stop)
				return stop;
			chunk += n;
		}
	}
	return 0;
}

struct walk {
	const struct pml_heap *heap;
	pml_heap_visit visit;
	void *arg;
};

static int walk_block(void *arg, const struct pml_heap_block *block)
{
	const struct walk *w = arg;
	struct pml_heap_object object;
	struct run run;
	if (block->header.type == PML_CHUNK_USED)
		return huge_at(w->heap, block->offset, block->offset + PML_OBJECT_HEADER_BYTES,
			       &block->header, &object)
			       ? w->visit(w->arg, &object)
			       : 0;
	if (block->header.type != PML_CHUNK_RUN ||
	    !read_run(w->heap, block->offset, block->header.nchunks, &run))
		return 0;
	for (uint64_t unit = 0; unit < run.nunits;) {
		if (!are_used(w->heap, &run, unit, 1)) {
			unit++;
			continue;
		}
		bool is_sound = read_small(w->heap, &run, unit, &object);
		int stop = is_sound ? w->visit(w->arg, &object) : 0;
		if (stop)
			return stop;
		unit += units_of(&object, &run, is_sound);
	}
	return 0;
}

int pml_heap_walk(const struct pml_heap *heap, pml_heap_visit visit, void *arg)
{
	struct walk w = {.heap = heap, .visit = visit, .arg = arg};
	return pml_heap_blocks(heap, walk_block, &w);
}

/* ---- where blocks begin ---------------------------------------------------- */

static bool note_block(struct pml_heap *heap, uint32_t zone, uint32_t chunk)
{
	if (!heap->heads[zone])
		heap->heads[zone] = calloc(PML_HEAP_CHUNKS_PER_ZONE / 64 + 1, sizeof(uint64_t));
	if (!heap->heads[zone])
		return false;
	heap->heads[zone][chunk / 64] |= 1ull << chunk % 64;
	return true;
}

static int note_block_visit(void *arg, const struct pml_heap_block *block)
{
	return note_block(arg, block->zone, block->chunk) ? 0 : -ENOMEM;
}

int pml_heap_note_blocks(struct pml_heap *heap)
{
	pml_heap_forget_blocks(heap);
	heap->heads = calloc(heap->nzones, sizeof(uint64_t *));
	if (!heap->heads)
		return -ENOMEM;
	int err = pml_heap_blocks(heap, note_block_visit, heap);
	if (err)
		pml_heap_forget_blocks(heap);
	return err;
}

void pml_heap_forget_blocks(struct pml_heap *heap)
{
	for (uint32_t zone = 0; heap->heads && zone < heap->nzones; zone++)
		free(heap->heads[zone]);
	free(heap->heads);
	heap->heads = NULL;
}

/* ---- footers ------------------------------------------------------------- */

struct repair {
	const struct pml_heap *heap;
	uint8_t *base;
	void (*persist)(const void *addr, size_t bytes);
	uint64_t n;
};

static int repair_footer(void *arg, const struct pml_heap_block *block)
{
	struct repair *r = arg;
	uint32_t n = block->header.nchunks;
	if (n == 1 ||
	    (block->header.type != PML_CHUNK_FREE && block->header.type != PML_CHUNK_USED))
		return 0;
	/* libpmemobj looks at nothing but nchunks of a footer. */
	struct pml_heap_chunk footer = {.type = PML_CHUNK_FOOTER, .nchunks = n};
	struct pml_heap_chunk *at =
		(void *)(r->base + block->header_offset + (n - 1) * sizeof(*at));
	if (at->type == PML_CHUNK_FOOTER && at->nchunks == n)
		return 0;
	memcpy(at, &footer, sizeof(footer));
	r->persist(at, sizeof(*at));
	r->n++;
	return 0;
}

uint64_t pml_heap_repair_footers(const struct pml_heap *heap, uint8_t *base,
				 void (*persist)(const void *addr, size_t bytes))
{
	struct repair r = {.heap = heap, .base = base, .persist = persist};
	(void)pml_heap_blocks(heap, repair_footer, &r);
	return r.n;
}

/* ---- checks: pool header and descriptor ---------------------------------- */

static void check_header(struct pml_heap_check *c)
{
	static const char name[] = "pool header";
	const struct pml_pool_header *header = (const void *)c->heap.base;
	const uint32_t known = PML_POOL_CKSUM_2K | PML_POOL_SDS;
	size_t skip = header->incompat & PML_POOL_CKSUM_2K
			      ? 2048
			      : offsetof(struct pml_pool_header, checksum);

	if (memcmp(header->signature, PML_POOL_SIGNATURE, sizeof(header->signature)) != 0) {
		pml_heap_fault(c, 0, name, "no signature");
		return;
	}
	if (header->checksum != checksum(header, sizeof(*header), skip, sizeof(*header) - skip))
		pml_heap_fault(c, 0, name, "wrong checksum");
	if (header->major != PML_POOL_MAJOR)
		pml_heap_fault(c, 0, name, "version %u", header->major);
	if ((header->incompat & ~known) || header->ro_compat)
		pml_heap_fault(c, 0, name, "unknown features %#x, %#x", header->incompat,
			       header->ro_compat);
	if (header->machine_class != PML_POOL_CLASS_64 || header->data != PML_POOL_DATA_LE)
		pml_heap_fault(c, 0, name, "made on another kind of machine");
	for (size_t i = 0; i < PML_ARRAY_LEN(header->neighbour_uuid); i++)
		if (memcmp(header->neighbour_uuid[i], header->uuid, sizeof(header->uuid)) != 0)
			pml_heap_fault(c, 0, name, "part of a set of pools");
}

static void check_descriptor(struct pml_heap_check *c)
{
	static const char name[] = "pool descriptor";
	const uint64_t at = PML_POOL_DESCRIPTOR_OFFSET;
	const struct pml_pool_descriptor *d = (const void *)(c->heap.base + at);
	const uint64_t lanes_end = PML_LANES_OFFSET + (uint64_t)PML_NLANES * PML_LANE_BYTES;

	if (d->checksum != checksum(d, PML_POOL_DESCRIPTOR_BYTES,
				    offsetof(struct pml_pool_descriptor, checksum), 8))
		pml_heap_fault(c, at, name, "wrong checksum");
	if (d->lanes_offset != PML_LANES_OFFSET || d->nlanes != PML_NLANES)
		pml_heap_fault(c, at, name, "%" PRIu64 " lanes at %#" PRIx64, d->nlanes,
			       d->lanes_offset);
	if (d->heap_offset % PML_BLOCK_BYTES != 0 || d->heap_offset < lanes_end ||
	    d->heap_offset > lanes_end + PAGE_BYTES_MAX)
		pml_heap_fault(c, at, name, "the heap begins at %#" PRIx64, d->heap_offset);
	else if (d->heap_bytes != c->heap.bytes - d->heap_offset)
		pml_heap_fault(c, at, name, "the heap has %#" PRIx64 " bytes", d->heap_bytes);
	if (d->run_id % 2 != 0)
		pml_heap_fault(c, at, name, "odd run number");
	if (d->conversion_flags != 0)
		pml_heap_fault(c, at, name, "conversion flags %#" PRIx64, d->conversion_flags);
}

static void check_heap_header(struct pml_heap_check *c)
{
	static const char name[] = "heap header";
	const uint64_t at = c->heap.offset;
	const struct pml_heap_header *h = (const void *)(c->heap.base + at);

	if (h->checksum != checksum(h, sizeof(*h), offsetof(struct pml_heap_header, checksum), 8))
		pml_heap_fault(c, at, name, "wrong checksum");
	if (memcmp(h->signature, PML_HEAP_SIGNATURE, sizeof(h->signature)) != 0)
		pml_heap_fault(c, at, name, "no signature");
	if (h->major != 1 || h->chunk_bytes != PML_HEAP_CHUNK_BYTES ||
	    h->chunks_per_zone != PML_HEAP_CHUNKS_PER_ZONE)
		pml_heap_fault(c, at, name,
			       "version %" PRIu64 " with chunks of %#" PRIx64 " bytes, %" PRIu64
			       " a zone",
			       h->major, h->chunk_bytes, h->chunks_per_zone);
}

/* ---- checks: zones ------------------------------------------------------- */

static void check_run_objects(struct pml_heap_check *c, const struct run *run)
{
	for (uint64_t unit = 0; unit < run->nunits;) {
		struct pml_heap_object object;
		if (!are_used(&c->heap, run, unit, 1)) {
			unit++;
			continue;
		}
		bool is_sound = read_small(&c->heap, run, unit, &object);
		if (!is_sound)
			pml_heap_fault(c, object.offset - PML_OBJECT_HEADER_BYTES, "object header",
				       "its size does not fit the run");
		unit += units_of(&object, run, is_sound);
	}
}

static void check_run(struct pml_heap_check *c, const struct pml_heap_block *block)
{
	const struct pml_heap *heap = &c->heap;
	struct run run;
	for (uint32_t i = 1; i < block->header.nchunks; i++) {
		struct pml_heap_chunk data = chunk_header(heap, block->zone, block->chunk + i);
		if (data.type != PML_CHUNK_RUN_DATA || data.nchunks != i)
			pml_heap_fault(c, block->header_offset + 8ull * i, "chunk header",
				       "type %u, %u chunks inside of a run", data.type,
				       data.nchunks);
	}
	if (!read_run(heap, block->offset, block->header.nchunks, &run)) {
		pml_heap_fault(c, block->offset, "run header", "units of %#" PRIx64 " bytes",
			       pml_heap_word(heap, block->offset));
		return;
	}
	if (pml_heap_word(heap, block->offset + 8) != 0)
		pml_heap_fault(c, block->offset, "run header", "alignment of units");
	/* The bits behind the last unit are set, or memory behind it would be given out. */
	uint64_t last = bitmap_offset(&run, (run.nwords - 1) * 64);
	uint64_t behind = run.nunits % 64 ? UINT64_MAX << run.nunits % 64 : 0;
	if ((pml_heap_word(heap, last) & behind) != behind)
		pml_heap_fault(c, last, "run bitmap", "units behind the last are free");
	else if (c->is_deep)
		check_run_objects(c, &run);
}

/* Returns the number of chunks; 0: it cannot be told. */
static uint32_t check_block(struct pml_heap_check *c, uint32_t zone, uint32_t chunk, uint32_t end)
{
	static const char name[] = "chunk header";
	const struct pml_heap_block block = block_at(&c->heap, zone, chunk);
	const struct pml_heap_chunk *h = &block.header;
	if (h->nchunks == 0 || h->nchunks > end - chunk) {
		pml_heap_fault(c, block.header_offset, name, "%u chunks where %u are left",
			       h->nchunks, end - chunk);
		return 0;
	}
	bool is_run = h->type == PML_CHUNK_RUN;
	if (!is_run && h->type != PML_CHUNK_FREE && h->type != PML_CHUNK_USED) {
		pml_heap_fault(c, block.header_offset, name, "type %u", h->type);
		return 0;
	}
	unsigned int must = h->type == PML_CHUNK_FREE ? 0
			    : is_run		      ? PML_CHUNK_COMPACT | PML_CHUNK_FLEX_BITMAP
						      : PML_CHUNK_COMPACT;
	if ((h->flags & ~(must | PML_CHUNK_COMPACT)) || (h->flags & must) != must)
		pml_heap_fault(c, block.header_offset, name, "flags %#x of type %u", h->flags,
			       h->type);
	else if (is_run)
		check_run(c, &block);
	return h->nchunks;
}

static void check_zone(struct pml_heap_check *c, uint32_t zone)
{
	struct pml_heap *heap = &c->heap;
	uint64_t at = zone_offset(heap, zone);
	uint64_t word = pml_heap_word(heap, at);
	uint32_t end = zone_chunks(heap, zone);
	if ((uint32_t)word == 0)
		return; /* not made yet */
	if ((uint32_t)word != PML_HEAP_ZONE_MAGIC || word >> 32 != end) {
		pml_heap_fault(c, at, "zone header", "magic %#x, %u chunks instead of %u",
			       (uint32_t)word, (uint32_t)(word >> 32), end);
		return;
	}
	for (uint32_t chunk = 0; chunk < end;) {
		uint32_t n = check_block(c, zone, chunk, end);
		if (n == 0)
			return;
		chunk += n;
	}
}

static void check_zones(struct pml_heap_check *c)
{
	for (uint32_t zone = 0; zone < c->heap.nzones; zone++)
		check_zone(c, zone);
	if (!c->nreports)
		c->is_out_of_memory = pml_heap_note_blocks(&c->heap) != 0;
}

static void check_root(struct pml_heap_check *c)
{
	const uint64_t at = PML_POOL_DESCRIPTOR_OFFSET;
	uint64_t root = pml_heap_root(&c->heap);
	uint64_t bytes =
		pml_heap_word(&c->heap, at + offsetof(struct pml_pool_descriptor, root_bytes));
	struct pml_heap_object object;
	if (root == 0 && bytes == 0)
		return; /* an mkfs was interrupted */
	if (!pml_heap_object_at(&c->heap, root, &object) || !object.is_allocated ||
	    object.bytes < bytes)
		pml_heap_fault(c, at, "pool descriptor",
			       "no root object of %" PRIu64 " bytes at %#" PRIx64, bytes, root);
}

/* ---- the check ----------------------------------------------------------- */

static void check_all(struct pml_heap_check *c)
{
	check_header(c);
	check_descriptor(c);
	if (c->nreports)
		return;
	pml_heap_init(&c->heap, c->heap.base, c->heap.bytes);
	check_heap_header(c);
	/* libpmemobj walks the blocks before it carries out the redo logs, and after that. */
	check_zones(c);
	if (c->nreports || c->is_out_of_memory)
		return;
	pml_heap_check_redo(c);
	if (c->heap.words)
		check_zones(c);
	if (c->nreports || c->is_out_of_memory)
		return;
	pml_heap_check_logs(c);
	check_root(c);
}

int pml_heap_check(const uint8_t *base, uint64_t bytes, bool is_deep, pml_heap_report report,
		   void *arg)
{
	struct pml_heap_check c = {
		.heap = {.base = base, .bytes = bytes},
		.report = report,
		.arg = arg,
		.is_deep = is_deep,
	};
	if (bytes < PML_DEVICE_BYTES_MIN)
		pml_heap_fault(&c, 0, "device", "%" PRIu64 " bytes are too few", bytes);
	else
		check_all(&c);
	pml_heap_forget_blocks(&c.heap);
	pml_heap_words_free(&c.heap);
	if (c.is_out_of_memory)
		return -ENOMEM;
	return c.nreports ? -EUCLEAN : 0;
}

int pml_heap_check_fd(int fd, uint64_t bytes, bool is_deep, pml_heap_report report, void *arg)
{
	/* Shared: a device-DAX has no other kind of mapping. */
	void *base = mmap(NULL, bytes, PROT_READ, MAP_SHARED | MAP_NORESERVE, fd, 0);
	if (base == MAP_FAILED)
		return -errno;
	int err = pml_heap_check(base, bytes, is_deep, report, arg);
	(void)munmap(base, bytes);
	return err;
}
