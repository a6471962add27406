/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * persist.c -- stands in for libpmem's and libpmem2's store functions
 *
 * On these stand-ins memory is as persistent as the callbacks make it: no CPU cache
 * is flushed.  Flags are equal in both libraries: PMEM_F_MEM_ and PMEM2_F_MEM_.
 */
#undef _FILE_OFFSET_BITS /* else mmap() is another name of mmap64(), and both are needed */
#include "persist.h"

#include <assert.h>
#include <libpmem.h>
#include <libpmem2.h>
#include <libpmemobj.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

static_assert(PMEM_F_MEM_NODRAIN == PMEM2_F_MEM_NODRAIN &&
		      PMEM_F_MEM_NOFLUSH == PMEM2_F_MEM_NOFLUSH,
	      "one treatment for both");

const struct persist_hooks *persist_hooks;

static void tell_flush(enum persist_source source, const void *addr, size_t bytes)
{
	if (persist_hooks && bytes > 0)
		persist_hooks->flush(source, addr, bytes);
}

static void tell_fence(enum persist_source source)
{
	/* The instruction itself: ThreadSanitizer has no atomic_thread_fence(). */
	__builtin_ia32_mfence();
	if (persist_hooks)
		persist_hooks->fence(source);
}

static void *after_store(enum persist_source source, void *dst, size_t bytes, unsigned int flags)
{
	if (!(flags & PMEM_F_MEM_NOFLUSH))
		tell_flush(source, dst, bytes);
	if (!(flags & (PMEM_F_MEM_NOFLUSH | PMEM_F_MEM_NODRAIN)))
		tell_fence(source);
	return dst;
}

/* ---- libpmem, as libpmemobj calls it -------------------------------------- */

int pmem_is_pmem(const void *addr, size_t bytes)
{
	return 1;
}

void pmem_flush(const void *addr, size_t bytes)
{
	tell_flush(PERSIST_META, addr, bytes);
}

void pmem_deep_flush(const void *addr, size_t bytes)
{
	tell_flush(PERSIST_META, addr, bytes);
}

void pmem_drain(void)
{
	tell_fence(PERSIST_META);
}

void pmem_persist(const void *addr, size_t bytes)
{
	tell_flush(PERSIST_META, addr, bytes);
	tell_fence(PERSIST_META);
}

int pmem_msync(const void *addr, size_t bytes)
{
	pmem_persist(addr, bytes);
	return 0;
}

void *pmem_memcpy(void *dst, const void *src, size_t bytes, unsigned int flags)
{
	return after_store(PERSIST_META, memmove(dst, src, bytes), bytes, flags);
}

void *pmem_memmove(void *dst, const void *src, size_t bytes, unsigned int flags)
{
	return after_store(PERSIST_META, memmove(dst, src, bytes), bytes, flags);
}

void *pmem_memset(void *dst, int byte, size_t bytes, unsigned int flags)
{
	return after_store(PERSIST_META, memset(dst, byte, bytes), bytes, flags);
}

/* ---- the filesystem's own calls ------------------------------------------- */

void pmemobj_persist(PMEMobjpool *pool, const void *addr, size_t bytes)
{
	tell_flush(PERSIST_OBJ, addr, bytes);
	tell_fence(PERSIST_OBJ);
}

static void *data_copy(void *dst, const void *src, size_t bytes, unsigned int flags)
{
	return after_store(PERSIST_DATA_COPY, memmove(dst, src, bytes), bytes, flags);
}

static void *data_set(void *dst, int byte, size_t bytes, unsigned int flags)
{
	return after_store(PERSIST_DATA_ZERO, memset(dst, byte, bytes), bytes, flags);
}

static void data_flush(const void *addr, size_t bytes)
{
	tell_flush(PERSIST_DATA_PERSIST, addr, bytes);
}

static void data_drain(void)
{
	tell_fence(PERSIST_DATA_DRAIN);
}

static void data_persist(const void *addr, size_t bytes)
{
	tell_flush(PERSIST_DATA_PERSIST, addr, bytes);
	tell_fence(PERSIST_DATA_PERSIST);
}

pmem2_memcpy_fn pmem2_get_memcpy_fn(struct pmem2_map *map)
{
	return data_copy;
}

pmem2_memmove_fn pmem2_get_memmove_fn(struct pmem2_map *map)
{
	return data_copy;
}

pmem2_memset_fn pmem2_get_memset_fn(struct pmem2_map *map)
{
	return data_set;
}

pmem2_flush_fn pmem2_get_flush_fn(struct pmem2_map *map)
{
	return data_flush;
}

pmem2_drain_fn pmem2_get_drain_fn(struct pmem2_map *map)
{
	return data_drain;
}

pmem2_persist_fn pmem2_get_persist_fn(struct pmem2_map *map)
{
	return data_persist;
}

/* ---- mappings -------------------------------------------------------------- */

void *persist_raw_mmap(void *addr, size_t bytes, int prot, int flags, int fd, off_t offset)
{
	/* NOLINTNEXTLINE: syscall(2) returns an address here. */
	return (void *)syscall(SYS_mmap, addr, bytes, prot, flags, fd, offset);
}

int persist_raw_munmap(void *addr, size_t bytes)
{
	return (int)syscall(SYS_munmap, addr, bytes);
}

void *mmap(void *addr, size_t bytes, int prot, int flags, int fd, off_t offset)
{
	void *p = persist_raw_mmap(addr, bytes, prot, flags, fd, offset);
	if (p != MAP_FAILED && fd >= 0 && (prot & PROT_WRITE) && persist_hooks)
		persist_hooks->mapped(p, bytes, flags, fd, offset);
	return p;
}

void *mmap64(void *addr, size_t bytes, int prot, int flags, int fd, off_t offset)
{
	return mmap(addr, bytes, prot, flags, fd, offset);
}

int munmap(void *addr, size_t bytes)
{
	if (persist_hooks)
		persist_hooks->unmapped(addr, bytes);
	return persist_raw_munmap(addr, bytes);
}
