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
 * files, is called on a descriptor of the file, and so is the third: leases for the caller
 * itself.
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

/* What leases are recalled for: layout operations, which can wait for it, and two more. */
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
	PML_IOC_OP_LEASE,  /* another lease */
	PML_IOC_OP_ORPHAN, /* the file has lost its last name */
	/* Of struct pml_ioc_lease_event only. */
	PML_IOC_OP_UNMOUNT, /* the filesystem is going away */
};

enum pml_ioc_policy {
	PML_IOC_POLICY_REVOKE,
	PML_IOC_POLICY_EBUSY,
	PML_IOC_POLICY_BLOCK,
	PML_IOC_POLICY_SKIP,
};

/* Why a lease ends. */
enum pml_ioc_end {
	PML_IOC_END_RETURNED,
	PML_IOC_END_CONFLICT, /* recalled, acknowledged and not returned in time */
	PML_IOC_END_SILENT,   /* recalled, and no answer in time */
	PML_IOC_END_EXPIRED,  /* nothing was heard of its session for a term */
	PML_IOC_END_SESSION,
	PML_IOC_END_UNMOUNT,
	PML_IOC_END_OWN_CHANGE, /* its holder's own layout operation */
	PML_IOC_END_EVICTED,	/* by PML_IOC_EVICT */
};

enum pml_ioc_lease_flag {
	PML_IOC_LEASE_SHARED = 1 << 0,
	PML_IOC_LEASE_UNBREAKABLE = 1 << 1,
	PML_IOC_LEASE_ORPHAN = 1 << 2,	 /* its file has no name any more */
	PML_IOC_LEASE_RECALLED = 1 << 3, /* recall_op and recalled_ms say more */
	PML_IOC_LEASE_ACKED = 1 << 4,	 /* the holder has seen the recall */
};

struct pml_ioc_lease {
	uint64_t lease_id;
	uint64_t session;
	uint64_t ino;
	uint64_t first_byte;
	uint64_t end_byte; /* exclusive */
	uint64_t age_ms;
	uint64_t pinned_bytes;
	uint64_t recalled_ms; /* since the recall */
	uint32_t nsegments;
	uint32_t uid;	    /* whom its session acts as */
	uint8_t mode;	    /* enum pml_ioc_mode */
	uint8_t state;	    /* enum pml_ioc_state */
	uint8_t recall_op;  /* enum pml_ioc_op; if it was recalled */
	uint8_t why;	    /* enum pml_ioc_end; while fencing or stuck */
	uint8_t waiter_op;  /* enum pml_ioc_op; of the first operation that waits */
	uint8_t has_waiter; /* 0 or 1 */
	uint16_t flags;	    /* enum pml_ioc_lease_flag */
	int32_t waiter_pid; /* 0: unknown */
	uint32_t reserved;
	char peer[64];	 /* the holder's address; zero-terminated */
	char waiter[32]; /* command name of the waiting process; zero-terminated */
};

#define PML_IOC_LEASES_MAX 88

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
	char peer[64]; /* the holder's address; zero-terminated */
};

#define PML_IOC_PINS_MAX 150

struct pml_ioc_pins {
	uint32_t version;
	uint32_t count;		/* out: entries filled in */
	uint64_t after_lease;	/* cursor, first part; 0: from the start */
	uint32_t after_segment; /* cursor, second part */
	uint32_t reserved;
	struct pml_ioc_pin pins[PML_IOC_PINS_MAX];
};

/* Limits that refuse; the mount options have their names. */
enum pml_ioc_limit {
	PML_IOC_LIMIT_SESSIONS,
	PML_IOC_LIMIT_CLIENT_SESSIONS,
	PML_IOC_LIMIT_USER_SESSIONS,
	PML_IOC_LIMIT_LEASES,
	PML_IOC_LIMIT_SESSION_LEASES,
	PML_IOC_LIMIT_USER_LEASES,
	PML_IOC_LIMIT_SEGMENTS,
	PML_IOC_LIMIT_SESSION_SEGMENTS,
	PML_IOC_LIMIT_USER_SEGMENTS,
	PML_IOC_LIMIT_PINNED,
	PML_IOC_LIMIT_SESSION_PINNED,
	PML_IOC_LIMIT_USER_PINNED,
	PML_IOC_LIMIT_WAITERS,
	PML_IOC_LIMIT_USER_WAITERS,
	PML_IOC_LIMIT_UNBREAKABLE,
	PML_IOC_LIMIT_COUNT,
};

#define PML_IOC_LIMITS_MAX 32

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

	/* Since the mount, too. */
	uint64_t skipped;	   /* operations of policy skip that left a range alone */
	uint64_t orphans_recalled; /* leases on files without names */
	uint64_t downgraded;	   /* write leases that became read leases */
	uint64_t sought;	   /* lease requests that let an older one go first */
	uint64_t refused[PML_IOC_LIMITS_MAX]; /* refused_limit, by enum pml_ioc_limit */
	/* Blocks copied for other files, as a lease held the old ones; refusals of that. */
	uint64_t aside_blocks, aside_refused;
};

/* How long something took: counts by powers of two of milliseconds. */
#define PML_IOC_BUCKETS 20
struct pml_ioc_span {
	uint64_t count;
	uint64_t sum_ms;
	uint64_t max_ms;
	uint64_t bucket[PML_IOC_BUCKETS]; /* 0: below 1 ms, i: below 2^i ms; last: the rest */
};

/* What is timed. */
enum pml_ioc_span_kind {
	PML_IOC_SPAN_GRANT,  /* of a lease, from the request on */
	PML_IOC_SPAN_HELD,   /* a lease, until its end */
	PML_IOC_SPAN_ACK,    /* recall to its acknowledgement */
	PML_IOC_SPAN_RETURN, /* recall to the return */
	PML_IOC_SPAN_REVOKE, /* recall to the revoke, of who did not return */
	PML_IOC_SPAN_FENCE,  /* one key */
	PML_IOC_SPAN_UNPIN,  /* end of a lease to its blocks being free of it */
	PML_IOC_SPAN_WAIT,   /* a layout operation, from its first wait to its end */
	PML_IOC_SPAN_COUNT,
};

#define PML_IOC_SPANS_MAX 16

struct pml_ioc_spans {
	uint32_t version;
	uint32_t reserved;
	struct pml_ioc_span spans[PML_IOC_SPANS_MAX]; /* those above, then zeros */
};

/* An operation that waits for leases. */
struct pml_ioc_waiter {
	uint64_t ino;
	uint64_t first_byte;
	uint64_t end_byte; /* exclusive; UINT64_MAX: to infinity */
	uint64_t age_ms;
	uint64_t lease_id; /* the first one in its way; 0: it runs again just now */
	int32_t pid;	   /* 0: unknown */
	uint32_t uid;
	uint8_t op;	/* enum pml_ioc_op */
	uint8_t policy; /* enum pml_ioc_policy */
	uint8_t reserved[6];
	char name[32]; /* command name of its process; zero-terminated */
	char peer[64]; /* the holder of that lease; zero-terminated */
};

#define PML_IOC_WAITERS_MAX 100

struct pml_ioc_waiters {
	uint32_t version;
	uint32_t count; /* out: entries filled in */
	uint64_t skip;	/* in: how many not to tell again (0: none); out: to go on with */
	struct pml_ioc_waiter waiters[PML_IOC_WAITERS_MAX];
};

/* A lease that ended against its holder's will. */
struct pml_ioc_ending {
	uint64_t number; /* 1 is the first since the mount; its number is never used again */
	uint64_t lease_id;
	uint64_t session;
	uint64_t ino;
	uint64_t first_byte;
	uint64_t end_byte;    /* exclusive */
	uint64_t age_ms;      /* of the lease, when it was gone */
	uint64_t recalled_ms; /* from the recall, or else its end, until it was gone */
	uint64_t ago_ms;      /* since then */
	uint8_t mode;	      /* enum pml_ioc_mode */
	uint8_t why;	      /* enum pml_ioc_end */
	uint8_t op;	      /* enum pml_ioc_op: what it was recalled for */
	uint8_t was_recalled; /* 0 or 1 */
	uint8_t has_waiter;   /* 0 or 1 */
	uint8_t reserved[3];
	int32_t waiter_pid; /* of the operation that waited longest for it; 0: unknown */
	uint32_t reserved2;
	char peer[64];	 /* the holder's address; zero-terminated */
	char waiter[32]; /* command name of the waiting process; zero-terminated */
};

#define PML_IOC_HISTORY_MAX 88

/* The last 256, oldest first. */
struct pml_ioc_history {
	uint32_t version;
	uint32_t count; /* out: entries filled in */
	uint64_t after; /* in: endings with a greater number (0: all); out: to go on with */
	struct pml_ioc_ending endings[PML_IOC_HISTORY_MAX];
};

enum pml_ioc_session_flag {
	PML_IOC_SESSION_LOCAL = 1 << 0,	 /* an open file of a program on this machine */
	PML_IOC_SESSION_ENDING = 1 << 1, /* it gets no more leases */
};

/* A client's connection, or an open file of a local program that has taken leases. */
struct pml_ioc_session {
	uint64_t session; /* its number, never used again while the filesystem is mounted */
	uint64_t age_ms;
	uint64_t silent_ms; /* since its last message; 0 of a local one */
	uint64_t pinned_bytes;
	uint32_t nleases;
	uint32_t nsegments;
	uint32_t uid;	   /* whom it acts as */
	uint32_t flags;	   /* enum pml_ioc_session_flag */
	char peer[64];	   /* its address; zero-terminated */
	char identity[64]; /* the name that it has proved, or ""; zero-terminated */
};

#define PML_IOC_SESSIONS_MAX 90

struct pml_ioc_sessions {
	uint32_t version;
	uint32_t count; /* out: entries filled in */
	uint64_t after; /* in: sessions with a greater number (0: all); out: to go on with */
	struct pml_ioc_session sessions[PML_IOC_SESSIONS_MAX];
};

/*
 * Ends a session: all its leases are revoked, whatever their kind, fences included, and the
 * client's connection is ended, when this returns.  A local program that has leases is killed.
 * A client that connects again has a new session.
 *   ESRCH      no such session, or it is ending by itself
 *   EIO        a lease is stuck: its fence could not be confirmed
 *   ETIMEDOUT  it is not over yet, and goes on
 */
struct pml_ioc_evict {
	uint32_t version;
	uint32_t nleases; /* out: that it had */
	uint64_t session;
};

struct pml_ioc_audit {
	uint32_t version;
	int32_t status;	  /* out: 0 consistent, else a negative errno value */
	char reason[256]; /* out: the first difference, in words */
};

/*
 * Changes the options of the mount, as mount -o remount does: policies, clocks and limits;
 * the others must be as they are.  status EINVAL, with a reason in words: nothing is changed.
 */
struct pml_ioc_remount {
	uint32_t version;
	int32_t status;	    /* out: 0, or a negative errno value */
	char options[4096]; /* comma-separated; zero-terminated */
	char reason[256];   /* out */
};

#define PML_IOC_LEASES	 _IOWR(PML_IOC_TYPE, 1, struct pml_ioc_leases)
#define PML_IOC_PINS	 _IOWR(PML_IOC_TYPE, 2, struct pml_ioc_pins)
#define PML_IOC_STATS	 _IOWR(PML_IOC_TYPE, 3, struct pml_ioc_stats)
#define PML_IOC_AUDIT	 _IOWR(PML_IOC_TYPE, 4, struct pml_ioc_audit)
#define PML_IOC_WAITERS	 _IOWR(PML_IOC_TYPE, 5, struct pml_ioc_waiters)
#define PML_IOC_HISTORY	 _IOWR(PML_IOC_TYPE, 6, struct pml_ioc_history)
#define PML_IOC_SPANS	 _IOWR(PML_IOC_TYPE, 7, struct pml_ioc_spans)
#define PML_IOC_REMOUNT	 _IOWR(PML_IOC_TYPE, 8, struct pml_ioc_remount)
#define PML_IOC_SESSIONS _IOWR(PML_IOC_TYPE, 9, struct pml_ioc_sessions)
#define PML_IOC_EVICT	 _IOWR(PML_IOC_TYPE, 10, struct pml_ioc_evict)

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
 * On a file, open for writing: goes along it from first_byte to the first part that would lie
 * better elsewhere on the device, in fewer extents or in more whole 2 MiB units, and moves
 * that, 8 MiB at most; next_byte of one answer is first_byte of the next call, until it is 0.
 * Nobody sees a difference but by PML_IOC_EXTENTS: bytes, times, holes, preallocated blocks and
 * st_blocks stay.  Each call happens wholly or not at all.  Where there is no better place,
 * or less than 8 MiB would stay free meanwhile, nothing moves.
 *
 * Left alone and counted: extents of less than 8 MiB that are shared, and as a rule
 * (policy.relocate=skip) what would be moved if no lease covered it.
 */
struct pml_ioc_relocate {
	uint32_t version;
	uint32_t reserved;
	uint64_t first_byte;
	uint64_t len_bytes;	       /* 0: to the end; grows to whole blocks */
	uint64_t next_byte;	       /* out; 0: nothing is left of the range */
	uint64_t moved_bytes;	       /* out */
	uint64_t skipped_shared_bytes; /* out */
	uint64_t skipped_leased_bytes; /* out */
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
#define PML_IOC_RELOCATE _IOWR(PML_IOC_TYPE, 24, struct pml_ioc_relocate)

/* ---- leases for local programs -----------------------------------------------------
 *
 * For a program that hands a file's blocks to a device of its own.  A lease keeps the
 * layout of a range: its segments say where its bytes lie on the filesystem's device.  It
 * belongs to the open file description: descriptors that were made of it by dup(2), fork(2)
 * or SCM_RIGHTS share it, another open(2) of the file has nothing to do with it.  It ends
 * when it is returned, when it is taken away, and when the last of these descriptors is
 * closed.  Whoever returns or closes says that no device uses the blocks any more.
 *
 * Needs the mount option local_leases.  What has not reached the filesystem is not there:
 * a program that has stored through a mapping calls msync(2) first.
 *
 *	struct pml_ioc_lease_take take = {.version = PML_IOC_VERSION, .len_bytes = 1 << 20};
 *	while (ioctl(fd, PML_IOC_LEASE_TAKE, &take) != 0 && errno == EAGAIN)
 *		wait_a_moment();
 *
 * When somebody is in the way, an event comes: poll(2) shows POLLPRI (reading and writing
 * are always possible), and PML_IOC_LEASE_EVENT says what it is.  After a recall the
 * program stops its devices, commits what is to be kept, and returns the lease.  If it does
 * not within drain_ms, or does not even read the event within the time of the mount option
 * ack, the process that took the lease is killed by SIGKILL.
 *
 * A change that is made through the description itself (write, ftruncate, fallocate,
 * copy_file_range, the ioctls above) returns the leases that are in its way: its caller has
 * stopped the devices before.  An event with why OWN_CHANGE says so.
 *
 * When the daemon dies every call fails with ENOTCONN, and poll(2) shows POLLERR: nothing
 * keeps the blocks any more, and the devices must be stopped at once.
 *
 * Errors of all of these, besides the above:
 *   EPERM   the mount has no option local_leases
 *   ESTALE  (all but TAKE and EVENT) the lease is none of this description, or it has ended
 *           or is being taken away
 */

enum pml_ioc_take_flag {
	PML_IOC_TAKE_WRITE = 1 << 0,
	/* Beside leases of others that are shared too, for reading and writing. */
	PML_IOC_TAKE_SHARED = 1 << 1,
	/* It is never recalled: what meets it fails with EBUSY.  If max_unbreakable allows it. */
	PML_IOC_TAKE_UNBREAKABLE = 1 << 2,
};

struct pml_ioc_lease_segment {
	uint64_t first_byte;  /* in the file */
	uint64_t device_byte; /* on the device, from its beginning */
	uint64_t len_bytes;
};

#define PML_IOC_LEASE_SEGMENTS_MAX 64

/*
 * Takes a lease on [first_byte, first_byte + len_bytes), or less: it ends at end_byte, after
 * 64 segments or 1 GiB, a read lease at the end of the file.  A read lease needs a
 * descriptor that is open for reading; what lies between its segments are holes, which read
 * as zeros.  A write lease needs one that is open for writing; it is rounded out to whole
 * blocks, which are there and belong to this file alone.  What is written there behind the
 * end of the file becomes part of it by a commit.
 *
 *   EAGAIN      somebody's lease is in the way and was recalled, or somebody waits for the
 *               range: ask again in a moment
 *   EBADF       the descriptor is not open for that
 *   EBUSY       a conflicting lease, and policy.lease=ebusy
 *   EDEADLK     a conflicting lease of this description: return it first
 *   EDQUOT      leases or pinned bytes of this description
 *   EFBIG, EINVAL  the range; EINVAL a flag that is not known
 *   EIO         a conflicting lease is stuck
 *   ENOBUFS     this description has 1024 leases or unread events of leases that ended
 *   ENODATA     reading: it begins at or behind the end of the file
 *   ENOSPC      writing: no blocks for it
 *   EPERM       (also) the daemon may not kill the caller, who is another user; unbreakable,
 *               and the mount allows none
 *   EROFS       writing or shared: the filesystem is mounted read-only
 *   ESHUTDOWN   the filesystem is going away
 *   ESRCH       the caller is not visible in the daemon's process namespace
 *   EUSERS      leases or pinned bytes of all, or too many sessions: each description with
 *               a lease is one
 */
struct pml_ioc_lease_take {
	uint32_t version;
	uint32_t flags;	     /* enum pml_ioc_take_flag */
	uint64_t first_byte; /* out too */
	uint64_t len_bytes;  /* 1 to 1 GiB */
	uint64_t lease_id;   /* out, and so is all that follows */
	uint64_t end_byte;   /* exclusive */
	uint64_t file_size;  /* when it was taken */
	uint32_t count;	     /* of segments, which are in order */
	uint32_t reserved;
	struct pml_ioc_lease_segment segments[PML_IOC_LEASE_SEGMENTS_MAX];
};

/*
 * RETURN: no device uses the blocks any more.  ACK: the recall was seen, and devices are
 * being stopped; to read the event says the same.
 */
struct pml_ioc_lease_ref {
	uint32_t version;
	uint32_t reserved;
	uint64_t lease_id;
};

/*
 * What devices have written into the range, which is part of a write lease, belongs to the
 * file, is durable, and is seen by other programs when this returns.  new_size_bytes: the
 * file is at least so long now; 0: leave its size.  EACCES a read lease; EINVAL outside of
 * the lease, or no bytes; EBUSY the file would grow, and its last block is shared and under
 * another lease; EFBIG, EIO, ENOSPC.
 */
struct pml_ioc_lease_commit {
	uint32_t version;
	uint32_t reserved;
	uint64_t lease_id;
	uint64_t first_byte;
	uint64_t len_bytes; /* not 0 */
	uint64_t new_size_bytes;
};

enum pml_ioc_lease_event_kind {
	PML_IOC_LEASE_RECALL,  /* it is to be returned */
	PML_IOC_LEASE_REVOKED, /* it is over */
};

/* Takes the oldest event.  EAGAIN: there is none. */
struct pml_ioc_lease_event {
	uint32_t version;
	uint32_t kind; /* enum pml_ioc_lease_event_kind; out, and so is all that follows */
	uint64_t lease_id;
	uint32_t op;	   /* of a recall: enum pml_ioc_op */
	uint32_t drain_ms; /* of a recall, from when it was made; 0: no clock runs yet */
	uint32_t why;	   /* of what is over: enum pml_ioc_end */
	uint32_t reserved;
};

#define PML_IOC_LEASE_TAKE   _IOWR(PML_IOC_TYPE, 32, struct pml_ioc_lease_take)
#define PML_IOC_LEASE_RETURN _IOWR(PML_IOC_TYPE, 33, struct pml_ioc_lease_ref)
#define PML_IOC_LEASE_ACK    _IOWR(PML_IOC_TYPE, 34, struct pml_ioc_lease_ref)
#define PML_IOC_LEASE_COMMIT _IOWR(PML_IOC_TYPE, 35, struct pml_ioc_lease_commit)
#define PML_IOC_LEASE_EVENT  _IOWR(PML_IOC_TYPE, 36, struct pml_ioc_lease_event)

#endif
