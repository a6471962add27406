/* SPDX-License-Identifier: BSD-3-Clause */
/* device.h -- the object that a filesystem lies on, before the pool is open (device.c) */
#ifndef PML_FS_DEVICE_H
#define PML_FS_DEVICE_H

#include "pool.h"

/* Writes a line of PML_REASON_BYTES at most into @reason and returns @err. */
int pml_reason(char *reason, int err, const char *format, ...) PML_PRINTF(3, 4);

/* An error of libpmem2 as ours. */
int pml_pmem2_error(int err);

/* The device's first @bytes; zeros behind its end. */
int pml_device_read(int fd, bool is_device_dax, void *ret_bytes, size_t bytes) PML_MUST_CHECK;

/*
 * Overwrites the first @bytes of a device-DAX with zeros, durably.
 * Assumes: @bytes is at most 2 MiB.
 */
int pml_device_dax_zero(int fd, size_t bytes) PML_MUST_CHECK;

/*
 * The lock of a mounted or just being formatted device, until @fd is closed.  Besides
 * libpmemobj's, which it takes by flock(2) on a descriptor of its own.  -EBUSY.
 */
int pml_device_lock(int fd) PML_MUST_CHECK;

/* How stores to a device become durable. */
struct pml_device_store {
	enum pmem2_granularity granularity; /* what libpmem2 grants */
	bool is_volatile;	/* memory behind a file: nothing outlives a power failure */
	const char *durability; /* as pml_device_info.durability */
};
int pml_device_store_of(int fd, struct pml_device_store *ret_store,
			char *ret_reason) PML_MUST_CHECK;

/* Is there a counter of unsafe shutdowns, which libpmemobj wants to keep? */
bool pml_device_has_usc(int fd);

#endif
