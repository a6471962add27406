/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * ioctl.h -- what a mounted pmemleasefs tells about its leases
 *
 * The calls are made on any open descriptor of the mount's root directory, by
 * root or by the user who mounted it (else EPERM).  Every structure has a fixed
 * size below 16 KiB, so that FUSE passes it whole.  The caller zeroes it and sets
 * version to PML_IOC_VERSION and the cursor; reserved fields are zero both ways.
 *
 *   ENOTTY  not the root directory of a pmemleasefs mount
 *   EINVAL  a version that the filesystem does not speak
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

#endif
