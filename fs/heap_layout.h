/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * heap_layout.h -- what libpmemobj keeps on the device
 *
 * Facts about PMDK 1.12 to 2.1, which share one media format: src/common/pool_hdr.h and
 * shutdown_state.h, src/libpmemobj/obj.h, lane.h, ulog.h and heap_layout.h there.  All
 * integers are little-endian; pools of other byte orders are refused by their header.
 *
 *	0 .............. pool header
 *	4096 ........... descriptor: layout string, where lanes and heap lie, root object
 *	8192 ........... 1024 lanes of three logs each
 *	heap_offset .... heap header, then zones of up to 16 GiB: zone header, headers of
 *			 65528 chunks, chunks of 256 KiB
 *
 * A block is one or more chunks: free, used (one large object) or a run (many small
 * objects of one unit size, with a bitmap in front).  Only the header of a block's first
 * chunk and, in a run, those of the others mean something; the last one of a free or used
 * block is its footer.
 */
#ifndef PML_FS_HEAP_LAYOUT_H
#define PML_FS_HEAP_LAYOUT_H

#include <stdint.h>

#include "pml/base.h"

/* ---- pool header and descriptor ------------------------------------------ */

#define PML_POOL_SIGNATURE "PMEMOBJ"
#define PML_POOL_MAJOR	   6u

/* Bits of incompat. */
#define PML_POOL_CKSUM_2K 2u /* the checksum covers 2048 bytes only */
#define PML_POOL_SDS	  4u /* counts unsafe shutdowns */

#define PML_POOL_CLASS_64 2u
#define PML_POOL_DATA_LE  1u

struct pml_pool_header {
	char signature[8];
	uint32_t major;
	uint32_t compat;
	uint32_t incompat;
	uint32_t ro_compat;
	uint8_t set_uuid[16];
	uint8_t uuid[16];
	uint8_t neighbour_uuid[4][16]; /* parts and replicas around: all this one */
	uint64_t created_s;
	uint64_t alignments;
	uint8_t machine_class;
	uint8_t data;
	uint8_t reserved[4];
	uint16_t machine;
	uint8_t unused[3880];
	uint8_t shutdown_state[64];
	uint64_t checksum;
};
static_assert(sizeof(struct pml_pool_header) == 4096, "on-media size");

#define PML_POOL_DESCRIPTOR_OFFSET 4096u
#define PML_POOL_DESCRIPTOR_BYTES  2048u /* under the checksum */

struct pml_pool_descriptor {
	char layout[1024];
	uint64_t lanes_offset;
	uint64_t nlanes;
	uint64_t heap_offset;
	uint64_t unused;
	uint8_t zero[984];
	uint64_t checksum;
	/* Not under the checksum: */
	uint64_t root_offset; /* 0: none yet */
	uint64_t run_id;      /* even */
	uint64_t root_bytes;
	uint64_t conversion_flags;
	uint64_t heap_bytes;
};
static_assert(offsetof(struct pml_pool_descriptor, root_offset) == PML_POOL_DESCRIPTOR_BYTES,
	      "on-media size");

/* ---- lanes ---------------------------------------------------------------- */

#define PML_LANES_OFFSET 8192u
#define PML_NLANES	 1024u
#define PML_LANE_BYTES	 3072u

/* Of a log's header: eight words, then entries. */
enum {
	PML_LOG_CHECKSUM, /* of a redo log that has to be carried out */
	PML_LOG_NEXT,	  /* offset of an object with the log's continuation */
	PML_LOG_CAPACITY, /* bytes of entries */
	PML_LOG_GENERATION,
	PML_LOG_FLAGS,
};
#define PML_LOG_HEADER_BYTES 64u
#define PML_LOG_ALIGN_BYTES  64u /* a continuation begins at the next multiple in its object */

/* The logs of a lane: where, and how many bytes of entries at most. */
#define PML_LOG_INTERNAL_OFFSET 0u
#define PML_LOG_INTERNAL_BYTES	192u
#define PML_LOG_EXTERNAL_OFFSET 256u
#define PML_LOG_EXTERNAL_BYTES	640u
#define PML_LOG_UNDO_OFFSET	960u
#define PML_LOG_UNDO_BYTES	2048u

/*
 * An entry's first word: offset and kind.  Redo entries have one more word, the value.
 * Undo entries are a checksum, a length and the bytes, in whole lines of 64.
 */
#define PML_ENTRY_KIND_MASK	    (7ull << 61)
#define PML_ENTRY_SET		    (0ull << 61)
#define PML_ENTRY_AND		    (1ull << 61)
#define PML_ENTRY_OR		    (2ull << 61)
#define PML_ENTRY_FILL		    (5ull << 61)
#define PML_ENTRY_COPY		    (6ull << 61)
#define PML_ENTRY_REDO_BYTES	    16u
#define PML_ENTRY_UNDO_HEADER_BYTES 24u

/* ---- heap ----------------------------------------------------------------- */

#define PML_HEAP_SIGNATURE	 "MEMORY_HEAP_HDR"
#define PML_HEAP_CHUNK_BYTES	 (256ull << 10)
#define PML_HEAP_CHUNKS_PER_ZONE 65528u
#define PML_HEAP_ZONE_MAGIC	 0xc3f0a2d2u

struct pml_heap_header {
	char signature[16];
	uint64_t major;
	uint64_t minor;
	uint64_t unused; /* anything */
	uint64_t chunk_bytes;
	uint64_t chunks_per_zone;
	uint8_t reserved[960];
	uint64_t checksum;
};
static_assert(sizeof(struct pml_heap_header) == 1024, "on-media size");

#define PML_HEAP_ZONE_HEADER_BYTES 64u /* magic and number of chunks, four bytes each */
/* A zone's headers: 512 KiB. */
#define PML_HEAP_ZONE_HEAD_BYTES (PML_HEAP_ZONE_HEADER_BYTES + 8ull * PML_HEAP_CHUNKS_PER_ZONE)
#define PML_HEAP_ZONE_BYTES                                                                        \
	(PML_HEAP_ZONE_HEAD_BYTES + PML_HEAP_CHUNK_BYTES * PML_HEAP_CHUNKS_PER_ZONE)
/* A shorter rest of the heap is no zone. */
#define PML_HEAP_ZONE_BYTES_MIN (PML_HEAP_ZONE_HEAD_BYTES + PML_HEAP_CHUNK_BYTES)

enum pml_heap_chunk_type {
	PML_CHUNK_UNKNOWN,
	PML_CHUNK_FOOTER,
	PML_CHUNK_FREE,
	PML_CHUNK_USED,
	PML_CHUNK_RUN,
	PML_CHUNK_RUN_DATA, /* of a run, behind its first; nchunks is the distance to that */
};

struct pml_heap_chunk {
	uint16_t type;
	uint16_t flags;
	uint32_t nchunks;
};
static_assert(sizeof(struct pml_heap_chunk) == 8, "on-media size");

/* Bits of flags: the only ones that libpmemobj sets for what we ask of it. */
#define PML_CHUNK_COMPACT     1u /* object headers of 16 bytes */
#define PML_CHUNK_FLEX_BITMAP 8u /* the bitmap is as long as it has to be */

#define PML_RUN_HEADER_BYTES 16u /* unit size and alignment, 8 bytes each; then the bitmap */
#define PML_RUN_UNIT_ALIGN   16u

/* In front of each object: size with header, flags above bit 48; type number. */
#define PML_OBJECT_HEADER_BYTES 16u
#define PML_OBJECT_SIZE_MASK	((1ull << 48) - 1)
#define PML_OBJECT_INTERNAL	(1ull << 63) /* libpmemobj's own: a log's continuation */
#define PML_OBJECT_UNITS_MAX	64u	     /* of a run; never across words of the bitmap */

#endif
