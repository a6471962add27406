/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * media.h -- what lies on the device (docs/on-media-format.md)
 *
 * One libpmemobj pool covers the whole device.  An "offset" is a byte offset
 * from the start of the pool, 0 meaning none; a "block" is a 4096-byte device
 * block by number, block b lying at offset b * 4096.  The extent maps are the
 * single truth about which blocks are in use: there is no free map and no
 * reference count on the device (docs/design.md, "Block counters").
 *
 * All structures are little-endian and naturally aligned; reserved is zero.
 */
#ifndef PML_FS_MEDIA_H
#define PML_FS_MEDIA_H

#include <inttypes.h>

#include "pml/base.h"
#include "pml/fs.h"

/*
 * The pool's layout string, at byte 4096 of the device, zero-terminated:
 * "pmemleasefs/<version> size=<bytes>".  It can be read before the pool is
 * opened, which must not happen when the device has changed its size
 * (libpmemobj dies of SIGSEGV on an enlarged pool).
 */
#define PML_LAYOUT_OFFSET  4096
#define PML_LAYOUT_FORMAT  "pmemleasefs/%u size=%" PRIu64
#define PML_LAYOUT_SCAN	   "pmemleasefs/%u size=%" SCNu64
#define PML_FORMAT_VERSION 1u

#define PML_MEDIA_MAGIC 0x314546534c4d50ull /* "PMLSFE1" */

/* Type numbers of the pool's objects. */
enum pml_media_type {
	PML_TYPE_ITABLE_LEVEL = 1,
	PML_TYPE_ITABLE_CHUNK,
	PML_TYPE_BTREE_NODE,
	PML_TYPE_DIRENT,
	PML_TYPE_SYMLINK,
	PML_TYPE_GROUP,
	PML_TYPE_XATTR,
};

/* Bits of feature_ro_compat. */
#define PML_FEATURE_RO_XATTR	  1u /* an inode has or had extended attributes */
#define PML_FEATURE_RO_SPARE_TREE 2u /* an inode may have a spare tree */
#define PML_FEATURE_RO_HIDDEN	  4u /* an orphan may be a directory with entries */

/* A run of blocks for file data, inside one object of type PML_TYPE_GROUP; 2 MiB-aligned. */
struct pml_media_group {
	uint64_t first_block;
	uint64_t nblocks;
	uint64_t object; /* offset of the object that holds it */
	uint32_t device; /* 0: this pool */
	uint32_t reserved;
};
static_assert(sizeof(struct pml_media_group) == 32, "on-media size");

/*
 * With so many the root object is large enough for libpmemobj to give it chunks of its
 * own; a somewhat smaller one would come out of a run of 4 MiB.
 */
#define PML_GROUPS_MAX 16000u

/*
 * The inode table: inode number n - 1 indexes three levels of 1024 offsets of
 * levels, 1024 offsets of chunks, and 256 inodes.
 */
#define PML_ITABLE_FANOUT 1024u
#define PML_CHUNK_INODES  256u
#define PML_INO_MAX	  ((uint64_t)PML_ITABLE_FANOUT * PML_ITABLE_FANOUT * PML_CHUNK_INODES)

/* The root object of the pool. */
struct pml_media_super {
	uint64_t magic;
	uint32_t format_version;
	uint32_t feature_compat;    /* unknown bits are harmless */
	uint32_t feature_ro_compat; /* unknown bits: read-only */
	uint32_t feature_incompat;  /* unknown bits: refuse */
	uint64_t size_bytes;	    /* of the device at mkfs */
	uint8_t uuid[16];
	uint8_t hash_key[16]; /* SipHash key for directory entries */
	char label[PML_LABEL_BYTES];
	uint64_t created_ns;	 /* as inode times */
	uint64_t payload_blocks; /* what groups may come to in all; statfs total */
	uint32_t ngroups;
	uint32_t reserved0;
	uint64_t reserved1[3];
	uint64_t itable[PML_ITABLE_FANOUT]; /* offsets of struct pml_media_itable_level */
	struct pml_media_group groups[PML_GROUPS_MAX];
};

struct pml_media_itable_level {
	uint64_t chunk[PML_ITABLE_FANOUT]; /* offsets of struct pml_media_itable_chunk */
};

/*
 * Times are nanoseconds since 1901-12-13 20:45:52 UTC (Unix time -2^31), so 64
 * bits reach to 2486 and one aligned store changes a time.
 */
#define PML_TIME_BIAS_S 2147483648ll

/* An inode; free when mode is 0. */
struct pml_media_inode {
	uint32_t mode;	/* type and permission bits */
	uint32_t nlink; /* 0 with mode set: an orphan, freed at mount */
	uint32_t uid;
	uint32_t gid;
	uint64_t size_bytes;
	uint64_t generation;
	uint64_t atime_ns;
	uint64_t mtime_ns;
	uint64_t ctime_ns;
	uint64_t btime_ns;
	uint64_t rdev;
	uint64_t tree;	   /* B+tree root node: extents of a file, entries of a directory */
	uint64_t nblocks;  /* file: mapped blocks (shared ones too) */
	uint64_t nentries; /* directory: entries without "." and ".." */
	uint64_t parent;   /* directory: inode of ".." */
	uint64_t symlink;  /* offset of the target, zero-terminated; its length is size_bytes */
	/*
	 * Blocks [punch_first, punch_end) are being unmapped in several transactions:
	 * mount finishes it.  Equal: none.
	 */
	uint64_t punch_first;
	uint64_t punch_end;
	uint64_t flags; /* PML_INODE_ bits */
	uint64_t xattr; /* B+tree root node: extended attributes */
	/*
	 * File: B+tree root node of a map that is being built, or is no longer used, while
	 * ranges move (spare.h).  Holds no shares; mount frees it.
	 */
	uint64_t spare_tree;
	uint64_t reserved[13];
};
static_assert(sizeof(struct pml_media_inode) == 256, "on-media size");

/* Blocks past the end were asked for by fallocate and stay (pml_file_trim()). */
#define PML_INODE_KEEPS_PREALLOC 1ull
/* Blocks under the punch marker become preallocated, they are not unmapped. */
#define PML_INODE_MARKER_ZEROES 2ull

struct pml_media_itable_chunk {
	struct pml_media_inode inode[PML_CHUNK_INODES];
};

/*
 * B+tree node: nkeys keys in ascending order.  Leaf (level 0): key -> two
 * words.  Inner node: word[i][0] is the offset of the child holding keys
 * >= key[i]; key[0] of an inner node counts as minus infinity.
 */
#define PML_BTREE_FANOUT 42u
struct pml_media_btree_node {
	uint16_t level;
	uint16_t nkeys;
	uint32_t reserved;
	uint64_t reserved1;
	struct pml_media_btree_entry {
		uint64_t key;
		uint64_t word[2];
	} entry[PML_BTREE_FANOUT];
};
static_assert(sizeof(struct pml_media_btree_node) == 1024, "on-media size");
#define PML_BTREE_LEVELS_MAX 16

/*
 * Extent entry: key = first file block; word[0] = first device block;
 * word[1] = number of blocks | flags.
 */
#define PML_EXTENT_BLOCKS_MASK 0x00000000ffffffffull
#define PML_EXTENT_UNWRITTEN   (1ull << 32) /* allocated, reads as zeros */

/*
 * Directory entry: key = hash of the name with the low 8 bits free for
 * collisions (never below 256, top bit clear, so it doubles as the readdir
 * cookie); word[0] = offset of the struct below; word[1] = inode number.
 */
struct pml_media_dirent {
	uint64_t ino;
	uint32_t type; /* S_IFMT bits */
	uint32_t name_bytes;
	char name[]; /* without terminating zero */
};

/*
 * Extended attribute: key = hash of the name, as of a directory entry; word[0] =
 * offset of the struct below; word[1] = value_bytes | name_bytes << 32.  Behind the
 * struct come the name with its namespace ("user.x") and the value, without zeros.
 */
struct pml_media_xattr {
	uint32_t value_bytes;
	uint32_t name_bytes;
	char name[];
};

#endif
