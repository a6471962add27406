/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * record.c -- watches stores: pages are write-protected, a fault says which one changes
 *
 * Only pages that have changed since they last were equal to the shadow are compared at
 * a fence.  They are read through a mapping of our own.
 */
#include "record.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../tap.h"

#define PAGE_BYTES   4096u
#define MAPPINGS_MAX 32u

struct mapping {
	uint8_t *addr; /* NULL: free */
	size_t bytes;
	uint64_t offset; /* in the file */
};

static struct {
	struct record out;
	size_t events_max;
	size_t lines_max;

	dev_t dev;
	ino_t ino;
	uint8_t *view;	 /* the file as it is */
	uint8_t *shadow; /* as it would be found */
	struct mapping mapping[MAPPINGS_MAX];

	bool *is_changed; /* by page: writable, and on the list */
	uint32_t *changed;
	size_t nchanged;

	uint32_t *flying_at; /* by line: index in flying, plus one */
	struct record_line *flying;
	size_t nflying;
	size_t flying_max;

	const struct record_drop *drop;
	uint64_t nskipped;
	uint64_t ndrops;
	uint32_t step;
	bool is_in_step;
	struct sigaction old_action;
} rec;

static void *must(void *p)
{
	if (!p || p == MAP_FAILED)
		BAIL_OUT("no memory");
	return p;
}

static void *grown(void *p, size_t n, size_t *max, size_t bytes)
{
	if (n < *max)
		return p;
	*max = *max ? 2 * *max : 1024;
	return must(reallocarray(p, *max, bytes));
}

static void *anonymous(size_t bytes)
{
	return must(persist_raw_mmap(NULL, bytes, PROT_READ | PROT_WRITE,
				     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
}

/* ---- pages ------------------------------------------------------------------ */

static void protect_page(uint32_t page, int prot)
{
	uint64_t offset = (uint64_t)page * PAGE_BYTES;
	for (size_t i = 0; i < MAPPINGS_MAX; i++) {
		const struct mapping *m = &rec.mapping[i];
		if (m->addr && offset >= m->offset && offset < m->offset + m->bytes &&
		    mprotect(m->addr + (offset - m->offset), PAGE_BYTES, prot) != 0)
			BAIL_OUT("mprotect: %s", strerror(errno));
	}
}

static const struct mapping *mapping_of(const void *addr)
{
	const uint8_t *p = addr;
	for (size_t i = 0; i < MAPPINGS_MAX; i++) {
		const struct mapping *m = &rec.mapping[i];
		if (m->addr && p >= m->addr && p < m->addr + m->bytes)
			return m;
	}
	return NULL;
}

static void on_fault(int sig, siginfo_t *info, void *context)
{
	const struct mapping *m = mapping_of(info->si_addr);
	uint32_t page = 0;
	if (m)
		page = (uint32_t)((m->offset + (size_t)((uint8_t *)info->si_addr - m->addr)) /
				  PAGE_BYTES);
	if (!m || rec.is_changed[page]) {
		/* A fault of the program's own: it comes again, and is fatal. */
		(void)sigaction(SIGSEGV, &rec.old_action, NULL);
		return;
	}
	rec.is_changed[page] = true;
	rec.changed[rec.nchanged++] = page;
	protect_page(page, PROT_READ | PROT_WRITE);
}

static bool is_line_equal(uint32_t line)
{
	size_t at = (size_t)line * LINE_BYTES;
	return memcmp(rec.view + at, rec.shadow + at, LINE_BYTES) == 0;
}

/* Pages that are as the shadow is need no comparing until they change again. */
static void protect_clean_pages(void)
{
	size_t kept = 0;
	for (size_t i = 0; i < rec.nchanged; i++) {
		uint32_t page = rec.changed[i];
		uint32_t line = page * (PAGE_BYTES / LINE_BYTES);
		uint32_t end = line + PAGE_BYTES / LINE_BYTES;
		while (line < end && (record_ignores(line) || is_line_equal(line)))
			line++;
		if (line < end) {
			rec.changed[kept++] = page;
			continue;
		}
		rec.is_changed[page] = false;
		protect_page(page, PROT_READ);
	}
	rec.nchanged = kept;
}

/* ---- lines ------------------------------------------------------------------ */

static void add_line(const struct record_line *line)
{
	rec.out.lines = grown(rec.out.lines, rec.out.nlines, &rec.lines_max, sizeof(*line));
	rec.out.lines[rec.out.nlines++] = *line;
}

static void take_line(uint32_t line, bool is_dirty, struct record_line *ret_line)
{
	ret_line->line = line;
	ret_line->is_dirty = is_dirty;
	memcpy(ret_line->word, rec.view + (size_t)line * LINE_BYTES, LINE_BYTES);
}

static void add_dirty_lines(uint32_t page)
{
	uint32_t line = page * (PAGE_BYTES / LINE_BYTES);
	uint32_t end = line + PAGE_BYTES / LINE_BYTES;
	for (; line < end; line++) {
		if (record_ignores(line) || is_line_equal(line))
			continue;
		struct record_line dirty;
		take_line(line, true, &dirty);
		uint32_t flying = rec.flying_at[line];
		if (!flying || memcmp(rec.flying[flying - 1].word, dirty.word, LINE_BYTES) != 0)
			add_line(&dirty);
	}
}

/* A power failure could be now. */
static void add_event(void)
{
	struct record_event e = {
		.step = rec.step,
		.is_in_step = rec.is_in_step,
		.first_line = rec.out.nlines,
		.nflying = rec.nflying,
	};
	for (size_t i = 0; i < rec.nflying; i++)
		add_line(&rec.flying[i]);
	for (size_t i = 0; i < rec.nchanged; i++)
		add_dirty_lines(rec.changed[i]);
	e.nlines = rec.out.nlines - e.first_line;
	rec.out.events = grown(rec.out.events, rec.out.nevents, &rec.events_max, sizeof(e));
	rec.out.events[rec.out.nevents++] = e;
}

static bool is_dropped(enum persist_source source, bool is_fence, uint64_t first, uint64_t end)
{
	const struct record_drop *drop = rec.drop;
	uint32_t step = rec.is_in_step ? rec.step : 0;
	if (!drop || !(drop->sources & 1u << source) || drop->is_fence != is_fence ||
	    step < drop->first_step || step >= drop->end_step ||
	    (!is_fence && (first >= drop->end_byte || end <= drop->first_byte)))
		return false;
	if (rec.nskipped < drop->skip) {
		rec.nskipped++;
		return false;
	}
	if (drop->max && rec.ndrops == drop->max)
		return false;
	rec.ndrops++;
	return true;
}

static void flush_line(uint32_t line)
{
	uint32_t at = rec.flying_at[line];
	if (record_ignores(line) || (!at && is_line_equal(line)))
		return;
	if (!at) {
		rec.flying = grown(rec.flying, rec.nflying, &rec.flying_max, sizeof(*rec.flying));
		at = (uint32_t)++rec.nflying;
		rec.flying_at[line] = at;
	}
	take_line(line, false, &rec.flying[at - 1]);
}

static void on_flush(enum persist_source source, const void *addr, size_t bytes)
{
	const struct mapping *m = mapping_of(addr);
	if (!m)
		return;
	uint64_t first = m->offset + (uint64_t)((const uint8_t *)addr - m->addr);
	uint64_t end = first + bytes;
	if (is_dropped(source, false, first, end))
		return;
	for (uint64_t at = first / LINE_BYTES; at < (end + LINE_BYTES - 1) / LINE_BYTES; at++)
		flush_line((uint32_t)at);
}

static void on_fence(enum persist_source source)
{
	if (is_dropped(source, true, 0, 0))
		return;
	add_event();
	for (size_t i = 0; i < rec.nflying; i++) {
		const struct record_line *line = &rec.flying[i];
		memcpy(rec.shadow + (size_t)line->line * LINE_BYTES, line->word, LINE_BYTES);
		rec.flying_at[line->line] = 0;
	}
	rec.nflying = 0;
	protect_clean_pages();
}

/* ---- mappings --------------------------------------------------------------- */

static void on_mapped(void *addr, size_t bytes, int flags, int fd, off_t offset)
{
	struct stat st;
	if (fstat(fd, &st) != 0 || st.st_dev != rec.dev || st.st_ino != rec.ino ||
	    !(flags & MAP_SHARED))
		return;
	size_t i = 0;
	while (i < MAPPINGS_MAX && rec.mapping[i].addr)
		i++;
	if (i == MAPPINGS_MAX)
		BAIL_OUT("more than %u mappings", MAPPINGS_MAX);
	rec.mapping[i] = (struct mapping){addr, bytes, (uint64_t)offset};
	/* All of it; changed pages fault once more, which does no harm. */
	if (mprotect(addr, bytes, PROT_READ) != 0)
		BAIL_OUT("mprotect: %s", strerror(errno));
	for (size_t n = 0; n < rec.nchanged; n++)
		protect_page(rec.changed[n], PROT_READ | PROT_WRITE);
}

static void on_unmapped(void *addr, size_t bytes)
{
	for (size_t i = 0; i < MAPPINGS_MAX; i++) {
		struct mapping *m = &rec.mapping[i];
		if (m->addr >= (uint8_t *)addr && m->addr < (uint8_t *)addr + bytes)
			m->addr = NULL;
	}
}

static const struct persist_hooks hooks = {
	.flush = on_flush,
	.fence = on_fence,
	.mapped = on_mapped,
	.unmapped = on_unmapped,
};

/* ---- start and stop --------------------------------------------------------- */

/* By read(2), as reading a hole of a mapping would allocate it. */
static void copy_contents(int fd, uint8_t *ret_a, uint8_t *ret_b, uint64_t size)
{
	static uint8_t page[PAGE_BYTES], zeros[PAGE_BYTES];
	off_t at = 0;
	while ((at = lseek(fd, at, SEEK_DATA)) >= 0 && (uint64_t)at < size) {
		if (pread(fd, page, sizeof(page), at) != (ssize_t)sizeof(page))
			BAIL_OUT("read: %s", strerror(errno));
		if (memcmp(page, zeros, sizeof(page)) != 0) {
			memcpy(ret_a + at, page, sizeof(page));
			memcpy(ret_b + at, page, sizeof(page));
		}
		at += PAGE_BYTES;
	}
}

void record_start(const char *path, const struct record_drop *drop)
{
	struct stat st;
	int fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st) != 0)
		BAIL_OUT("%s: %s", path, strerror(errno));
	uint64_t size = (uint64_t)st.st_size;
	memset(&rec, 0, sizeof(rec));
	rec.out.size_bytes = size;
	rec.dev = st.st_dev;
	rec.ino = st.st_ino;
	rec.drop = drop;
	rec.view = must(persist_raw_mmap(NULL, size, PROT_READ, MAP_SHARED, fd, 0));
	rec.shadow = anonymous(size);
	rec.out.start = anonymous(size);
	rec.is_changed = anonymous(size / PAGE_BYTES * sizeof(rec.is_changed[0]));
	rec.changed = anonymous(size / PAGE_BYTES * sizeof(rec.changed[0]));
	rec.flying_at = anonymous(size / LINE_BYTES * sizeof(rec.flying_at[0]));
	copy_contents(fd, rec.shadow, rec.out.start, size);
	(void)close(fd);

	struct sigaction action = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO};
	(void)sigaction(SIGSEGV, &action, &rec.old_action);
	persist_hooks = &hooks;
}

void record_begin_step(void)
{
	rec.step++;
	rec.is_in_step = true;
}

void record_end_step(void)
{
	rec.is_in_step = false;
}

void record_stop(struct record *ret_record)
{
	add_event();
	for (size_t i = 0; i < MAPPINGS_MAX; i++)
		if (rec.mapping[i].addr)
			(void)mprotect(rec.mapping[i].addr, rec.mapping[i].bytes,
				       PROT_READ | PROT_WRITE);
	persist_hooks = NULL;
	(void)sigaction(SIGSEGV, &rec.old_action, NULL);

	uint64_t size = rec.out.size_bytes;
	(void)persist_raw_munmap(rec.view, size);
	(void)persist_raw_munmap(rec.shadow, size);
	(void)persist_raw_munmap(rec.is_changed, size / PAGE_BYTES * sizeof(rec.is_changed[0]));
	(void)persist_raw_munmap(rec.changed, size / PAGE_BYTES * sizeof(rec.changed[0]));
	(void)persist_raw_munmap(rec.flying_at, size / LINE_BYTES * sizeof(rec.flying_at[0]));
	free(rec.flying);
	*ret_record = rec.out;
}

void record_free(struct record *record)
{
	(void)persist_raw_munmap(record->start, record->size_bytes);
	free(record->events);
	free(record->lines);
	memset(record, 0, sizeof(*record));
}

uint64_t record_drops(void)
{
	return rec.ndrops;
}
