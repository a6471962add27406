/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * ioctl.h -- what a mounted pmemleasefs tells about its leases, and what it does with
 * ranges of files that no system call reaches
 *
 * Every structure has a fixed size below 16 KiB, so that FUSE passes it whole.  The
 * caller zeroes it and sets version to PML_IOC_VERSION; reserved fields are zero both ways.
 *
 *   ENOTTY  not an object that the call is for, or no pmemleasefs
 *   EINVAL  a version that the filesystem does not speak, or a reserved field that is set
 *
 * The first part, about leases, is called on any open descriptor of the mount's root
 * directory, by root or by the user who mounted it (else EPERM).  The second part, about
 * files, is called on a descriptor of the file.
 *
 * Lists are read in pieces: pass the cursor of one answer in the next call until
 * count comes back as 0.  A list is not a snapshot; leases come and go meanwhile.
 *
 *	struct pml_ioc_leases list = {.version = PML_IOC_VERSION};
 *	while (ioctl(fd, PML_IOC_LEASES, &list) == 0 && list.count > 0)
 *		show(list.leases, list.count);
 */
#ifndef PMEMLEASEFS_IOCTL_H
#define PMEMLEASEFS_IOCTL_H

#include <stdint.h>
#include <sys/ioctl.h>

#define PML_IOC_TYPE	'P'
#define PML_IOC_VERSION 1u

enum pml_ioc_mode {
	PML_IOC_MODE_READ,
	PML_IOC_MODE_WRITE,
};

enum pml_ioc_state {
	PML_IOC_STATE_GRANTING,
	PML_IOC_STATE_GRANTED,
	PML_IOC_STATE_RECALLING, /* the holder was asked to return it */
	PML_IOC_STATE_FENCING,	 /* its keys are being made dead */
	PML_IOC_STATE_STUCK,	 /* no fence could be confirmed: stays pinned */
};

/* Layout operations that can wait for a lease. */
enum pml_ioc_op {
	PML_IOC_OP_TRUNCATE,
	PML_IOC_OP_PUNCH,
	PML_IOC_OP_UNSHARE,
	PML_IOC_OP_CLONE_SRC,
	PML_IOC_OP_CLONE_DST,
	PML_IOC_OP_ZERO,
	PML_IOC_OP_COLLAPSE,
	PML_IOC_OP_INSERT,
	PML_IOC_OP_DEDUPE,
	PML_IOC_OP_RELOCATE,
	PML_IOC_OP_SNAPSHOT,
};

struct pml_ioc_lease {
	uint64_t lease_id;
	uint64_t session;
	uint64_t ino;
	uint64_t first_byte;
	uint64_t end_byte; /* exclusive */
	uint64_t age_ms;
	uint64_t pinned_bytes;
	uint32_t nsegments;
	uint8_t mode;	    /* enum pml_ioc_mode */
	uint8_t state;	    /* enum pml_ioc_state */
	uint8_t waiter_op;  /* enum pml_ioc_op; of the first operation that waits */
	uint8_t has_waiter; /* 0 or 1 */
	int32_t waiter_pid; /* 0: unknown */
	uint32_t reserved;
	char peer[64];	 /* the holder's address; zero-terminated */
	char waiter[32]; /* command name of the waiting process; zero-terminated */
};

#define PML_IOC_LEASES_MAX 96

struct pml_ioc_leases {
	uint32_t version;
	uint32_t count; /* out: entries filled in */
	uint64_t after; /* in: leases with a greater id (0: all); out: cursor to go on with */
	struct pml_ioc_lease leases[PML_IOC_LEASES_MAX];
};

struct pml_ioc_pin {
	uint64_t lease_id;
	uint64_t ino;
	uint64_t first_byte; /* in the file */
	uint64_t block;	     /* on the device, in blocks of 4096 bytes */
	uint64_t nblocks;
};

#define PML_IOC_PINS_MAX 400

struct pml_ioc_pins {
	uint32_t version;
	uint32_t count;		/* out: entries filled in */
	uint64_t after_lease;	/* cursor, first part; 0: from the start */
	uint32_t after_segment; /* cursor, second part */
	uint32_t reserved;
	struct pml_ioc_pin pins[PML_IOC_PINS_MAX];
};

struct pml_ioc_stats {
	uint32_t version;
	uint32_t reserved;

	/* Now. */
	uint64_t sessions, leases, pinned_bytes, waiters;
	/* Since the mount. */
	uint64_t granted, returned, recalls, revoked, expired, sessions_died;
	uint64_t fences, fence_escalations, fences_stuck;
	uint64_t parked, refused_busy, refused_limit, interrupted;

	/* The device, in blocks of 4096 bytes. */
	uint64_t total_blocks, free_blocks, used_blocks, shared_blocks;
	uint64_t pinned_blocks, quarantined_blocks;
	uint64_t pins;	 /* over all blocks */
	uint64_t inodes; /* in use */

	uint64_t device_bytes;
	uint32_t format_version;
	uint32_t is_cache_line; /* 1: durable by cache flush; 0: by msync */
	uint8_t uuid[16];
	char label[64];
	char kind[32];
	char durability[128];

	/* Since the mount: blocks copied for other files, as a lease held the old ones; refusals.
	 */
	uint64_t aside_blocks, aside_refused;
};

struct pml_ioc_audit {
	uint32_t version;
	int32_t status;	  /* out: 0 consistent, else a negative errno value */
	char reason[256]; /* out: the first difference, in words */
};

#define PML_IOC_LEASES _IOWR(PML_IOC_TYPE, 1, struct pml_ioc_leases)
#define PML_IOC_PINS   _IOWR(PML_IOC_TYPE, 2, struct pml_ioc_pins)
#define PML_IOC_STATS  _IOWR(PML_IOC_TYPE, 3, struct pml_ioc_stats)
#define PML_IOC_AUDIT  _IOWR(PML_IOC_TYPE, 4, struct pml_ioc_audit)

/* ---- ranges of files ------------------------------------------------------------
 *
 * A call that names a second file names it by a token: PML_IOC_TOKEN on a descriptor of
 * that file gives 16 random bytes which stand for the open file, with the rights of the
 * descriptor (read, write), for the same user, for one call, within life_ms.
 *
 *	struct pml_ioc_token source = {.version = PML_IOC_VERSION};
 *	ioctl(source_fd, PML_IOC_TOKEN, &source);
 *	struct pml_ioc_clone clone = {.version = PML_IOC_VERSION};
 *	memcpy(clone.token, source.token, sizeof(clone.token));
 *	ioctl(destination_fd, PML_IOC_CLONE, &clone);
 *
 * The calls see what has reached the filesystem.  Whoever has changed the file through a
 * shared mapping calls fsync(2) or msync(2) first: a page that is written back after the
 * call lands where it was in the file before.  After the call read(2) and mappings of any
 * process show the new contents.
 *
 * Errors of all that change a file, besides those of the descriptor:
 *   EBADF   it is not open for writing
 *   EROFS   the filesystem is mounted read-only
 *   ENOSPC  no free block, or no room for metadata
 *   EBUSY, EINTR, EAGAIN, EIO  leases are in the way (pmemleasefs(7), "Policies")
 *   ESTALE  no such token, used already, too old, of another user, or without the right
 */

struct pml_ioc_token {
	uint32_t version;
	uint32_t life_ms;  /* out: how long it is good */
	uint8_t token[16]; /* out */
};

/*
 * On the destination, open for writing and not O_APPEND (else EBADF); the token's
 * descriptor is open for reading.  As FICLONERANGE of ioctl_ficlonerange(2): offsets and
 * length are multiples of 4096, but the length may end at the end of the source, if the
 * destination ends there too or before.  EINVAL else, when it reaches behind the end of
 * the source, and when ranges of one file overlap.  EMLINK: a block has as many shares as
 * it can.  After an error the first done_bytes may be cloned (they are in place then,
 * nothing else is changed, and done_bytes is not passed out).
 */
struct pml_ioc_clone {
	uint32_t version;
	uint32_t reserved;
	uint8_t token[16]; /* of the source */
	uint64_t src_byte;
	uint64_t dst_byte;
	uint64_t len_bytes;  /* 0: to the end of the source */
	uint64_t done_bytes; /* out */
};

enum pml_ioc_dedupe_status {
	PML_IOC_DEDUPE_SAME = 0,
	PML_IOC_DEDUPE_DIFFERS = 1,
};

struct pml_ioc_dedupe_dst {
	uint8_t token[16]; /* of a descriptor that is open for writing */
	uint64_t dst_byte;
	uint64_t done_bytes; /* out: how much is shared now */
	int32_t status;	     /* out: enum pml_ioc_dedupe_status, or a negative errno value */
	uint32_t reserved;
};

#define PML_IOC_DEDUPE_MAX 64

/*
 * On the source, open for reading.  As FIDEDUPERANGE of ioctl_fideduperange(2): where the
 * bytes are the same, the destination maps the source's blocks, and nobody sees a
 * difference but st_blocks and df; times stay.  The comparing and the sharing of one
 * destination are one step.  Offsets are multiples of 4096 (EINVAL); a length that is none
 * is cut to one, unless both ranges end where their files end.  At most 1 GiB at a time.
 * A destination's status is EINVAL when its range reaches behind its end, and as a rule
 * (policy.dedupe=ebusy) EBUSY while leases cover it, or ECANCELED (policy.dedupe=skip):
 * nothing pinned is ever replaced.
 */
struct pml_ioc_dedupe {
	uint32_t version;
	uint32_t ndst; /* 1 to PML_IOC_DEDUPE_MAX */
	uint64_t src_byte;
	uint64_t len_bytes;
	struct pml_ioc_dedupe_dst dst[PML_IOC_DEDUPE_MAX];
};

/*
 * COLLAPSE, INSERT: as FALLOC_FL_COLLAPSE_RANGE and FALLOC_FL_INSERT_RANGE of
 * fallocate(2): multiples of 4096; EINVAL else, when a collapse reaches the end of the file
 * and when an insertion begins at or behind it; EFBIG.  All or nothing, whatever the
 * number of extents, also across a crash.
 *
 * UNSHARE: as FALLOC_FL_UNSHARE_RANGE: gives the file blocks of its own for those in the
 * range that are shared, so that writing to them needs no space.  Any offsets; the range
 * grows to whole blocks.  Holes stay.  ENOSPC before anything is copied when free blocks
 * do not suffice.
 */
struct pml_ioc_range {
	uint32_t version;
	uint32_t reserved;
	uint64_t first_byte;
	uint64_t len_bytes; /* not 0 */
};

enum pml_ioc_extent_flag {
	PML_IOC_EXTENT_UNWRITTEN = 1 << 0, /* preallocated: reads as zeros */
	PML_IOC_EXTENT_SHARED = 1 << 1,	   /* two shares or more */
	PML_IOC_EXTENT_PINNED = 1 << 2,	   /* a lease keeps it in place */
	PML_IOC_EXTENT_LAST = 1 << 3,	   /* nothing is mapped behind it */
};

struct pml_ioc_extent {
	uint64_t first_byte; /* in the file */
	uint64_t block;	     /* on the device, in blocks of 4096 bytes */
	uint64_t nblocks;
	uint32_t shares; /* of each of its blocks */
	uint32_t flags;	 /* enum pml_ioc_extent_flag */
};

#define PML_IOC_EXTENTS_MAX 400

/*
 * The mapped extents of a file, in order, as FIEMAP tells them; a stretch of an extent
 * whose blocks have equal shares and pins is an entry of its own.  Extents behind the end
 * of the file are listed too.  Read in pieces: next_byte of one answer is first_byte of
 * the next call, until count is 0.
 */
struct pml_ioc_extents {
	uint32_t version;
	uint32_t count; /* out: entries filled in */
	uint64_t first_byte;
	uint64_t next_byte; /* out */
	struct pml_ioc_extent extents[PML_IOC_EXTENTS_MAX];
};

/*
 * On a directory: clones it with all that is below it under the name @name in the
 * directory of the token, at one point in time: no change of the filesystem happens while
 * it is cloned, and the new tree appears whole or not at all, also across a crash.  File
 * data is shared; modes, owners, times (but ctime) and extended attributes are the same;
 * hard links inside of the tree are kept, others become files of their own.
 *
 * For root and the user who mounted it (else EPERM).  EEXIST the name is there; ENOENT a
 * directory has been removed; EMLINK, EINVAL, ENAMETOOLONG as mkdir(2); ELOOP more
 * directories below each other than 4096; E2BIG more than 4194304 files with several names.
 */
struct pml_ioc_snapshot {
	uint32_t version;
	uint32_t reserved;
	uint8_t token[16]; /* of the directory that gets the new name */
	char name[256];	   /* zero-terminated */
};

#define PML_IOC_TOKEN	 _IOWR(PML_IOC_TYPE, 16, struct pml_ioc_token)
#define PML_IOC_CLONE	 _IOWR(PML_IOC_TYPE, 17, struct pml_ioc_clone)
#define PML_IOC_DEDUPE	 _IOWR(PML_IOC_TYPE, 18, struct pml_ioc_dedupe)
#define PML_IOC_COLLAPSE _IOWR(PML_IOC_TYPE, 19, struct pml_ioc_range)
#define PML_IOC_INSERT	 _IOWR(PML_IOC_TYPE, 20, struct pml_ioc_range)
#define PML_IOC_UNSHARE	 _IOWR(PML_IOC_TYPE, 21, struct pml_ioc_range)
#define PML_IOC_EXTENTS	 _IOWR(PML_IOC_TYPE, 22, struct pml_ioc_extents)
#define PML_IOC_SNAPSHOT _IOWR(PML_IOC_TYPE, 23, struct pml_ioc_snapshot)

#endif
