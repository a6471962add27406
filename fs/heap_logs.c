/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * heap_logs.c -- libpmemobj's logs: what they will do when the pool is opened
 *
 * When it opens a pool libpmemobj first sums up the continuations of all logs, then
 * carries out, lane after lane, the internal and the external redo log when their checksum
 * is right, and, with the heap ready, rolls back what the undo logs hold and frees their
 * continuations (lane.c and ulog.c of PMDK 1.12).  It walks all of them before it looks at
 * a checksum, does not end at an entry of an unknown kind, and stores wherever an entry
 * says.
 *
 * So redo logs are carried out here in a table of changed words, which everything else is
 * checked with.  A redo log may change words of the heap, the root object's place and the
 * links of logs; an undo log, bytes of objects only.
 */
#include <inttypes.h>
#include <string.h>

#include "heap.h"

/* Continuations of all logs; a transaction of ours needs a few dozen. */
#define CONTINUATIONS_MAX 65536u
/* Words that redo logs change; a transaction of ours changes a few thousand. */
#define WORDS_MAX (1u << 20)

/* ---- the table of changed words ------------------------------------------ */

struct pml_heap_words {
	size_t n;
	size_t capacity; /* a power of two, at least twice n */
	struct slot {
		uint64_t offset; /* 0: empty */
		uint64_t word;
	} * slot;
};

static struct slot *find_slot(const struct pml_heap_words *words, uint64_t offset)
{
	size_t i = (size_t)(offset * 0x9e3779b97f4a7c15ull >> 20) & (words->capacity - 1);
	while (words->slot[i].offset != 0 && words->slot[i].offset != offset)
		i = (i + 1) & (words->capacity - 1);
	return &words->slot[i];
}

uint64_t pml_heap_changed_word(const struct pml_heap_words *words, uint64_t offset, uint64_t word)
{
	const struct slot *slot = find_slot(words, offset);
	return slot->offset == offset ? slot->word : word;
}

static bool grow_words(struct pml_heap_words *words)
{
	struct pml_heap_words grown = {.capacity = words->capacity ? 2 * words->capacity : 64};
	grown.slot = calloc(grown.capacity, sizeof(*grown.slot));
	if (!grown.slot)
		return false;
	for (size_t i = 0; i < words->capacity; i++)
		if (words->slot[i].offset)
			*find_slot(&grown, words->slot[i].offset) = words->slot[i];
	free(words->slot);
	grown.n = words->n;
	*words = grown;
	return true;
}

static bool set_word(struct pml_heap *heap, uint64_t offset, uint64_t word)
{
	if (!heap->words) {
		struct pml_heap_words *words = calloc(1, sizeof(*words));
		if (!words || !grow_words(words)) {
			free(words);
			return false;
		}
		heap->words = words;
	}
	if (2 * heap->words->n >= heap->words->capacity && !grow_words(heap->words))
		return false;
	struct slot *slot = find_slot(heap->words, offset);
	heap->words->n += slot->offset == 0;
	*slot = (struct slot){.offset = offset, .word = word};
	return true;
}

void pml_heap_words_free(struct pml_heap *heap)
{
	if (heap->words)
		free(heap->words->slot);
	free(heap->words);
	heap->words = NULL;
}

/* ---- logs ----------------------------------------------------------------- */

static const struct kind {
	uint64_t offset; /* in the lane */
	uint64_t max_bytes;
	const char *name;
} kinds[] = {
	{PML_LOG_INTERNAL_OFFSET, PML_LOG_INTERNAL_BYTES, "internal redo log"},
	{PML_LOG_EXTERNAL_OFFSET, PML_LOG_EXTERNAL_BYTES, "external redo log"},
	{PML_LOG_UNDO_OFFSET, PML_LOG_UNDO_BYTES, "undo log"},
};
enum { INTERNAL, EXTERNAL, UNDO };

static uint64_t log_at(uint32_t lane, int kind)
{
	return PML_LANES_OFFSET + (uint64_t)lane * PML_LANE_BYTES + kinds[kind].offset;
}

static uint64_t field(const struct pml_heap *heap, uint64_t log, unsigned int which)
{
	return pml_heap_word(heap, log + 8ull * which);
}

/* Where the continuation begins in its object; 0: there is none. */
static uint64_t next_of(const struct pml_heap *heap, uint64_t log)
{
	uint64_t next = field(heap, log, PML_LOG_NEXT);
	return next ? pml_round_up(next, PML_LOG_ALIGN_BYTES) : 0;
}

/* As libpmemobj's checksum, of words as they will be; the one at @skip counts as zero. */
static uint64_t checksum(const struct pml_heap *heap, uint64_t at, uint64_t bytes, uint64_t skip)
{
	uint32_t low = 0;
	uint32_t high = 0;
	for (uint64_t i = 0; i < bytes; i += 8) {
		uint64_t word = at + i == skip ? 0 : pml_heap_word(heap, at + i);
		low += (uint32_t)word;
		high += low;
		low += (uint32_t)(word >> 32);
		high += low;
	}
	return (uint64_t)high << 32 | low;
}

static uint64_t add_to_checksum(uint64_t sum, uint64_t word)
{
	uint32_t low = (uint32_t)sum + (uint32_t)word;
	uint32_t high = (uint32_t)(sum >> 32) + low;
	low += (uint32_t)(word >> 32);
	high += low;
	return (uint64_t)high << 32 | low;
}

/* Can a continuation's header be read here, and its entries? */
static bool is_continuation(const struct pml_heap *heap, uint64_t next)
{
	uint64_t first = heap->offset + sizeof(struct pml_heap_header);
	if (next % 8 != 0 || next < first || next >= heap->bytes - 2 * PML_LOG_HEADER_BYTES)
		return false;
	uint64_t log = pml_round_up(next, PML_LOG_ALIGN_BYTES);
	uint64_t room = heap->bytes - log - PML_LOG_HEADER_BYTES;
	uint64_t capacity = field(heap, log, PML_LOG_CAPACITY);
	return capacity % PML_LOG_ALIGN_BYTES == 0 && capacity > 0 && capacity <= room &&
	       field(heap, log, PML_LOG_FLAGS) == 0;
}

static bool check_first(struct pml_heap_check *c, uint32_t lane, int kind)
{
	uint64_t log = log_at(lane, kind);
	uint64_t capacity = field(&c->heap, log, PML_LOG_CAPACITY);
	if (capacity > kinds[kind].max_bytes ||
	    (kind == UNDO && capacity != kinds[kind].max_bytes)) {
		pml_heap_fault(c, log, kinds[kind].name, "capacity of %" PRIu64 " bytes", capacity);
		return false;
	}
	if (field(&c->heap, log, PML_LOG_FLAGS) != 0) {
		pml_heap_fault(c, log, kinds[kind].name, "unknown flags");
		return false;
	}
	if (kind == INTERNAL && field(&c->heap, log, PML_LOG_NEXT) != 0) {
		pml_heap_fault(c, log, kinds[kind].name, "it is continued");
		return false;
	}
	return true;
}

/* Counts the continuations of a log into *n; a loop of them ends at the limit. */
static bool check_chain(struct pml_heap_check *c, uint32_t lane, int kind, uint32_t *n)
{
	uint64_t first = log_at(lane, kind);
	for (uint64_t log = first; log; log = next_of(&c->heap, log)) {
		uint64_t next = field(&c->heap, log, PML_LOG_NEXT);
		if (next != 0 && (!is_continuation(&c->heap, next) || ++*n > CONTINUATIONS_MAX)) {
			pml_heap_fault(c, first, kinds[kind].name,
				       "its continuation at %#" PRIx64 " is none", next);
			return false;
		}
	}
	return true;
}

/* ---- redo logs ------------------------------------------------------------ */

static bool is_redo_kind(uint64_t entry)
{
	uint64_t kind = entry & PML_ENTRY_KIND_MASK;
	return kind == PML_ENTRY_SET || kind == PML_ENTRY_AND || kind == PML_ENTRY_OR;
}

/*
 * Of the logs themselves only links are ever changed, and the generation of the undo log: a
 * commit that changes the heap makes the snapshots void in the same redo log.
 */
static bool is_log_field(uint64_t offset)
{
	uint64_t lanes_end = PML_LANES_OFFSET + (uint64_t)PML_NLANES * PML_LANE_BYTES;
	uint64_t in_lane = (offset - PML_LANES_OFFSET) % PML_LANE_BYTES;
	return offset >= PML_LANES_OFFSET && offset < lanes_end &&
	       (in_lane == PML_LOG_EXTERNAL_OFFSET + 8 * PML_LOG_NEXT ||
		in_lane == PML_LOG_UNDO_OFFSET + 8 * PML_LOG_NEXT ||
		in_lane == PML_LOG_UNDO_OFFSET + 8 * PML_LOG_GENERATION);
}

static bool may_change(const struct pml_heap *heap, uint64_t offset)
{
	uint64_t root =
		PML_POOL_DESCRIPTOR_OFFSET + offsetof(struct pml_pool_descriptor, root_offset);
	uint64_t root_bytes =
		PML_POOL_DESCRIPTOR_OFFSET + offsetof(struct pml_pool_descriptor, root_bytes);
	bool is_in_heap = offset >= heap->offset + sizeof(struct pml_heap_header) &&
			  offset <= heap->bytes - 8;
	return offset % 8 == 0 &&
	       (is_in_heap || is_log_field(offset) || offset == root || offset == root_bytes);
}

static bool carry_out(struct pml_heap_check *c, uint64_t at, const char *name)
{
	uint64_t entry = pml_heap_word(&c->heap, at);
	uint64_t value = pml_heap_word(&c->heap, at + 8);
	uint64_t offset = entry & ~PML_ENTRY_KIND_MASK;
	if (!is_redo_kind(entry) || !may_change(&c->heap, offset)) {
		pml_heap_fault(c, at, name, "an entry changes the word at %#" PRIx64, offset);
		return false;
	}
	uint64_t word = pml_heap_word(&c->heap, offset);
	uint64_t kind = entry & PML_ENTRY_KIND_MASK;
	if (kind == PML_ENTRY_AND)
		value &= word;
	else if (kind == PML_ENTRY_OR)
		value |= word;
	if (c->heap.words && c->heap.words->n >= WORDS_MAX) {
		pml_heap_fault(c, at, name, "too many entries");
		return false;
	}
	c->is_out_of_memory = !set_word(&c->heap, offset, value);
	return !c->is_out_of_memory;
}

/* Bytes of entries in the log itself, up to the first empty one; UINT64_MAX: a bad one. */
static uint64_t redo_bytes(struct pml_heap_check *c, uint64_t log, const char *name)
{
	uint64_t capacity = field(&c->heap, log, PML_LOG_CAPACITY);
	uint64_t n = 0;
	for (; n < capacity; n += PML_ENTRY_REDO_BYTES) {
		uint64_t at = log + PML_LOG_HEADER_BYTES + n;
		uint64_t entry = pml_heap_word(&c->heap, at);
		if (entry == 0)
			break;
		if (!is_redo_kind(entry)) {
			pml_heap_fault(c, at, name, "an entry of an unknown kind");
			return UINT64_MAX;
		}
	}
	return PML_MIN(n, capacity);
}

static void run_redo(struct pml_heap_check *c, uint32_t lane, int kind)
{
	const struct pml_heap *heap = &c->heap;
	const char *name = kinds[kind].name;
	uint64_t first = log_at(lane, kind);
	uint64_t bytes = redo_bytes(c, first, name);
	if (bytes == 0 || bytes == UINT64_MAX)
		return;
	if (bytes % 8 != 0) {
		pml_heap_fault(c, first, name, "capacity of %" PRIu64 " bytes", bytes);
		return;
	}
	if (field(heap, first, PML_LOG_CHECKSUM) !=
	    checksum(heap, first, PML_LOG_HEADER_BYTES + bytes, first))
		return; /* it was never completed: libpmemobj forgets it */
	for (uint64_t log = first; log; log = next_of(heap, log)) {
		uint64_t end = field(heap, log, PML_LOG_CAPACITY) + log + PML_LOG_HEADER_BYTES;
		for (uint64_t at = log + PML_LOG_HEADER_BYTES; at < end; at += PML_ENTRY_REDO_BYTES)
			if (pml_heap_word(heap, at) == 0 || !carry_out(c, at, name))
				return;
		/* Its own entries may have changed the link. */
		uint64_t next = field(heap, log, PML_LOG_NEXT);
		if (next && !is_continuation(heap, next)) {
			pml_heap_fault(c, log, name, "its continuation at %#" PRIx64 " is none",
				       next);
			return;
		}
	}
}

void pml_heap_check_redo(struct pml_heap_check *c)
{
	uint32_t n = 0;
	uint64_t nreports = c->nreports;
	for (uint32_t lane = 0; lane < PML_NLANES; lane++)
		for (int kind = INTERNAL; kind <= UNDO; kind++)
			if (check_first(c, lane, kind) && n <= CONTINUATIONS_MAX)
				(void)check_chain(c, lane, kind, &n);
	for (uint32_t lane = 0; lane < PML_NLANES && c->nreports == nreports; lane++) {
		run_redo(c, lane, INTERNAL);
		run_redo(c, lane, EXTERNAL);
	}
}

/* ---- what remains when the redo logs are through --------------------------- */

struct chains {
	uint64_t *offset;
	size_t n;
};

/* The object is one for logs, holds this log and is not seen twice. */
static bool check_continuation(struct pml_heap_check *c, uint64_t next, const char *name,
			       struct chains *seen)
{
	struct pml_heap_object object;
	uint64_t log = pml_round_up(next, PML_LOG_ALIGN_BYTES);
	if (!is_continuation(&c->heap, next) || seen->n == CONTINUATIONS_MAX ||
	    !pml_heap_object_at(&c->heap, next, &object) || !object.is_allocated ||
	    !object.is_internal || object.is_huge || next == pml_heap_root(&c->heap) ||
	    log + PML_LOG_HEADER_BYTES + field(&c->heap, log, PML_LOG_CAPACITY) >
		    next + object.bytes) {
		pml_heap_fault(c, next, name, "its continuation is none");
		return false;
	}
	seen->offset[seen->n++] = next;
	return true;
}

/*
 * libpmemobj notes the continuations before it carries out the redo logs: those must be
 * memory that logs may be written to even when a redo log frees them.
 */
static void check_noted(struct pml_heap_check *c, uint32_t lane, int kind)
{
	struct pml_heap before = c->heap;
	before.words = NULL;
	uint32_t n = 0;
	for (uint64_t log = log_at(lane, kind); log && n++ <= CONTINUATIONS_MAX;
	     log = next_of(&before, log)) {
		uint64_t next = field(&before, log, PML_LOG_NEXT);
		struct pml_heap_object object;
		if (next && (!pml_heap_object_at(&c->heap, next, &object) || object.is_huge)) {
			pml_heap_fault(c, log, kinds[kind].name,
				       "its continuation at %#" PRIx64 " is none", next);
			return;
		}
	}
}

/* Bytes of the undo entry; 0: the log ends before it or (reported) it makes no sense. */
static uint64_t check_undo_entry(struct pml_heap_check *c, uint64_t at, uint64_t room,
				 uint64_t generation)
{
	const char *name = kinds[UNDO].name;
	uint64_t entry = pml_heap_word(&c->heap, at);
	uint64_t kind = entry & PML_ENTRY_KIND_MASK;
	uint64_t offset = entry & ~PML_ENTRY_KIND_MASK;
	if (entry == 0)
		return 0;
	uint64_t bytes = pml_heap_word(&c->heap, at + 16);
	if ((kind != PML_ENTRY_COPY && kind != PML_ENTRY_FILL) || bytes > room ||
	    pml_round_up(bytes + PML_ENTRY_UNDO_HEADER_BYTES, PML_LOG_ALIGN_BYTES) > room) {
		pml_heap_fault(c, at, name, "an entry of kind %u with %" PRIu64 " bytes",
			       (unsigned int)(kind >> 61), bytes);
		return 0;
	}
	uint64_t all = pml_round_up(bytes + PML_ENTRY_UNDO_HEADER_BYTES, PML_LOG_ALIGN_BYTES);
	uint64_t sum = add_to_checksum(checksum(&c->heap, at, all, at + 8), generation);
	if (sum != pml_heap_word(&c->heap, at + 8))
		return 0; /* of an earlier transaction, or never completed */
	struct pml_heap_object object;
	if (!pml_heap_object_holding(&c->heap, offset, &object) ||
	    (object.is_internal && object.offset != pml_heap_root(&c->heap)) ||
	    bytes > object.offset + object.bytes - offset) {
		pml_heap_fault(c, at, name, "an entry restores %" PRIu64 " bytes at %#" PRIx64,
			       bytes, offset);
		return 0;
	}
	return all;
}

static void check_undo(struct pml_heap_check *c, uint32_t lane)
{
	uint64_t first = log_at(lane, UNDO);
	uint64_t generation = field(&c->heap, first, PML_LOG_GENERATION);
	for (uint64_t log = first; log; log = next_of(&c->heap, log)) {
		uint64_t end = field(&c->heap, log, PML_LOG_CAPACITY) + log + PML_LOG_HEADER_BYTES;
		for (uint64_t at = log + PML_LOG_HEADER_BYTES; at < end;) {
			uint64_t n = check_undo_entry(c, at, end - at, generation);
			if (n == 0)
				return;
			at += n;
		}
	}
}

static int compare_offsets(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a;
	uint64_t y = *(const uint64_t *)b;
	return (x > y) - (x < y);
}

void pml_heap_check_logs(struct pml_heap_check *c)
{
	struct chains seen = {.offset = calloc(CONTINUATIONS_MAX, sizeof(uint64_t))};
	uint64_t nreports = c->nreports;
	if (!seen.offset) {
		c->is_out_of_memory = true;
		return;
	}
	for (uint32_t lane = 0; lane < PML_NLANES; lane++)
		for (int kind = EXTERNAL; kind <= UNDO; kind++) {
			bool is_sound = true;
			uint64_t log = log_at(lane, kind);
			for (; is_sound && log; log = next_of(&c->heap, log)) {
				uint64_t next = field(&c->heap, log, PML_LOG_NEXT);
				is_sound = !next ||
					   check_continuation(c, next, kinds[kind].name, &seen);
			}
			check_noted(c, lane, kind);
		}
	/* Each is freed once. */
	qsort(seen.offset, seen.n, sizeof(uint64_t), compare_offsets);
	for (size_t i = 1; i < seen.n; i++)
		if (seen.offset[i] == seen.offset[i - 1])
			pml_heap_fault(c, seen.offset[i], "log", "it continues two logs");
	free(seen.offset);
	for (uint32_t lane = 0; lane < PML_NLANES && c->nreports == nreports; lane++)
		check_undo(c, lane);
}
