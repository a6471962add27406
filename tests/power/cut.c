/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * cut.c -- preloaded into an unmodified daemon, makes kill -9 a power cut
 *
 *	LD_PRELOAD=libpml_cut.so PML_CUT_DEVICE=FILE PMEMOBJ_CONF=copy_on_write.at_open=1
 *	PMEM2_FORCE_GRANULARITY=CACHE_LINE mount.pmemleasefs ...
 *
 * The pool is a private mapping of the file, so stores stay in the process.  A line gets to
 * the file when the thread that has flushed it fences.
 *
 * PML_CUT_EARLY=PERCENT  of the flushed lines land before their fence, some in part, and
 *                        now and then a line that was not flushed at all
 * PML_CUT_LOSE_ALL=1     nothing gets to the file: proves that nothing else brings it there
 *
 * Threads: any.  A line is flushed into a copy of the device, and from there it goes to the
 * file, both under the lock of its page: so what another thread has made durable of a line
 * is never taken back.
 */
#include "persist.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define LINE_BYTES   64u
#define LINE_WORDS   8u
#define PAGE_LINES   64u
#define LOCKS	     1024u
#define MAPPINGS_MAX 64u

struct mapping {
	uint8_t *addr; /* NULL: free */
	size_t bytes;
	uint64_t offset;
};

struct lines {
	uint64_t first;
	uint64_t end;
};

static struct {
	dev_t dev;
	ino_t ino;
	uint64_t *file;		     /* the device, shared */
	uint64_t *flushed;	     /* by line: as it was last flushed */
	pthread_mutex_t lock[LOCKS]; /* of pages, by number */
	unsigned int early;
	bool loses_all;

	pthread_rwlock_t mappings_lock;
	struct mapping mapping[MAPPINGS_MAX];
} cut;

/* In flight, by thread; lost with it, as a thread that ends has fenced. */
static __thread struct lines *flying;
static __thread size_t nflying;
static __thread size_t flying_max;
static __thread uint64_t rng;

static void die(const char *what)
{
	perror(what);
	abort();
}

static uint64_t draw(void)
{
	if (rng == 0)
		rng = 0x9e3779b97f4a7c15u * (uint64_t)(gettid() + 1);
	rng ^= rng << 13;
	rng ^= rng >> 7;
	rng ^= rng << 17;
	return rng;
}

static pthread_mutex_t *lock_of(uint64_t line)
{
	return &cut.lock[line / PAGE_LINES % LOCKS];
}

/* Words are never torn. */
static void copy_line(uint64_t *to, const uint64_t *from, unsigned int mask)
{
	for (unsigned int i = 0; i < LINE_WORDS; i++)
		if (mask & 1u << i)
			__atomic_store_n(&to[i], __atomic_load_n(&from[i], __ATOMIC_RELAXED),
					 __ATOMIC_RELAXED);
}

/* What libpmemobj keeps in the pool while it is open is never flushed. */
static bool is_runtime_state(uint64_t line)
{
	return line >= 0x1a00u / LINE_BYTES && line < 0x2000u / LINE_BYTES;
}

static void evict(uint64_t line, const uint64_t *memory, unsigned int mask)
{
	if (cut.loses_all || is_runtime_state(line))
		return;
	copy_line(cut.flushed + line * LINE_WORDS, memory, 0xff);
	copy_line(cut.file + line * LINE_WORDS, memory, mask);
}

static void flush_line(uint64_t line, const uint64_t *memory)
{
	copy_line(cut.flushed + line * LINE_WORDS, memory, 0xff);
	if (!cut.early || draw() % 100 >= cut.early)
		return;
	uint64_t chance = draw();
	evict(line, memory, chance & 1 ? 0xff : (unsigned int)(chance >> 8 & 0xff));
	/* Its neighbour in the same page, whatever state that is in. */
	if (chance >> 16 & 1)
		evict(line ^ 1, line & 1 ? memory - LINE_WORDS : memory + LINE_WORDS, 0xff);
}

static void remember(uint64_t first, uint64_t end)
{
	if (nflying == flying_max) {
		flying_max = flying_max ? 2 * flying_max : 256;
		flying = reallocarray(flying, flying_max, sizeof(*flying));
		if (!flying)
			die("memory");
	}
	flying[nflying++] = (struct lines){first, end};
}

/* ---- hooks ------------------------------------------------------------------ */

static void on_flush(enum persist_source source, const void *addr, size_t bytes)
{
	const uint8_t *p = addr;
	const uint8_t *base = NULL;
	(void)pthread_rwlock_rdlock(&cut.mappings_lock);
	for (size_t i = 0; i < MAPPINGS_MAX && !base; i++) {
		const struct mapping *m = &cut.mapping[i];
		if (m->addr && p >= m->addr && p < m->addr + m->bytes)
			base = m->addr - m->offset; /* where the device would begin */
	}
	(void)pthread_rwlock_unlock(&cut.mappings_lock);
	if (!base)
		return;
	uint64_t first = (uint64_t)(p - base) / LINE_BYTES;
	uint64_t end = ((uint64_t)(p - base) + bytes + LINE_BYTES - 1) / LINE_BYTES;
	const uint64_t *memory = (const uint64_t *)(const void *)base;
	for (uint64_t line = first; line < end;) {
		uint64_t stop = (line / PAGE_LINES + 1) * PAGE_LINES;
		pthread_mutex_t *lock = lock_of(line);
		(void)pthread_mutex_lock(lock);
		for (; line < end && line < stop; line++)
			flush_line(line, memory + line * LINE_WORDS);
		(void)pthread_mutex_unlock(lock);
	}
	remember(first, end);
}

static void land(uint64_t first, uint64_t end)
{
	for (uint64_t line = first; line < end;) {
		uint64_t stop = (line / PAGE_LINES + 1) * PAGE_LINES;
		pthread_mutex_t *lock = lock_of(line);
		(void)pthread_mutex_lock(lock);
		for (; line < end && line < stop; line++)
			copy_line(cut.file + line * LINE_WORDS, cut.flushed + line * LINE_WORDS,
				  0xff);
		(void)pthread_mutex_unlock(lock);
	}
}

static void on_fence(enum persist_source source)
{
	for (size_t i = 0; i < nflying && !cut.loses_all; i++)
		land(flying[i].first, flying[i].end);
	nflying = 0;
}

static void on_mapped(void *addr, size_t bytes, int flags, int fd, off_t offset)
{
	struct stat st;
	if (!(flags & MAP_PRIVATE) || fstat(fd, &st) != 0 || st.st_dev != cut.dev ||
	    st.st_ino != cut.ino)
		return;
	size_t i = 0;
	(void)pthread_rwlock_wrlock(&cut.mappings_lock);
	while (i < MAPPINGS_MAX && cut.mapping[i].addr)
		i++;
	if (i < MAPPINGS_MAX)
		cut.mapping[i] = (struct mapping){addr, bytes, (uint64_t)offset};
	(void)pthread_rwlock_unlock(&cut.mappings_lock);
	if (i == MAPPINGS_MAX)
		die("too many mappings");
}

static void on_unmapped(void *addr, size_t bytes)
{
	(void)pthread_rwlock_wrlock(&cut.mappings_lock);
	for (size_t i = 0; i < MAPPINGS_MAX; i++) {
		struct mapping *m = &cut.mapping[i];
		if (m->addr >= (uint8_t *)addr && m->addr < (uint8_t *)addr + bytes)
			m->addr = NULL;
	}
	(void)pthread_rwlock_unlock(&cut.mappings_lock);
}

static const struct persist_hooks hooks = {
	.flush = on_flush,
	.fence = on_fence,
	.mapped = on_mapped,
	.unmapped = on_unmapped,
};

/* ---- loading ---------------------------------------------------------------- */

__attribute__((constructor)) static void load(void)
{
	const char *path = getenv("PML_CUT_DEVICE");
	const char *early = getenv("PML_CUT_EARLY");
	struct stat st;
	if (!path)
		return;
	int fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st) != 0)
		die(path);
	size_t bytes = (size_t)st.st_size;
	void *file = persist_raw_mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	void *flushed = persist_raw_mmap(NULL, bytes, PROT_READ | PROT_WRITE,
					 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (file == MAP_FAILED || flushed == MAP_FAILED)
		die(path);
	(void)close(fd);
	cut.dev = st.st_dev;
	cut.ino = st.st_ino;
	cut.file = file;
	cut.flushed = flushed;
	cut.early = early ? (unsigned int)atoi(early) : 0;
	cut.loses_all = getenv("PML_CUT_LOSE_ALL") != NULL;
	for (size_t i = 0; i < LOCKS; i++)
		(void)pthread_mutex_init(&cut.lock[i], NULL);
	(void)pthread_rwlock_init(&cut.mappings_lock, NULL);
	persist_hooks = &hooks;
}
