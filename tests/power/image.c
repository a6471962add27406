/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * image.c -- devices as a power failure leaves them
 *
 * The file holds what is durable before the event that is looked at; an image's lines
 * are put into it and taken out again.
 */
#include "image.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "../tap.h"

#define PAGE_BYTES 4096u

struct run {
	const struct record *record;
	const struct image_plan *plan;
	image_visit visit;
	void *arg;
	struct image image;
	uint8_t *file; /* mapped */
	uint64_t hash; /* of the file: sum over its lines that ever changed */
	uint64_t rng;
	bool is_ended;

	const struct record_line *lines; /* of the event */
	size_t nlines;
	uint8_t *mask;	 /* by line: words that landed */
	uint64_t *saved; /* what they replaced */

	uint64_t *seen; /* hash table of images */
	size_t nseen;
	size_t seen_max;
	uint64_t nbuilt;
	uint64_t nsame;
};

/* splitmix64 */
static uint64_t mix(uint64_t x)
{
	x += 0x9e3779b97f4a7c15u;
	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
	x = (x ^ x >> 27) * 0x94d049bb133111ebu;
	return x ^ x >> 31;
}

static uint64_t draw(struct run *run)
{
	run->rng += 0x9e3779b97f4a7c15u;
	return mix(run->rng);
}

static uint64_t line_hash(uint32_t line, const uint64_t *word)
{
	uint64_t h = mix(line);
	for (size_t i = 0; i < LINE_WORDS; i++)
		h = mix(h ^ word[i]);
	return h;
}

static bool has_seen(struct run *run, uint64_t key)
{
	if (2 * run->nseen >= run->seen_max) {
		size_t max = run->seen_max ? 2 * run->seen_max : 4096;
		uint64_t *old = run->seen;
		size_t nold = run->seen_max;
		run->seen = calloc(max, sizeof(*run->seen));
		if (!run->seen)
			BAIL_OUT("no memory");
		run->seen_max = max;
		run->nseen = 0;
		for (size_t i = 0; i < nold; i++)
			if (old[i])
				(void)has_seen(run, old[i]);
		free(old);
	}
	key |= 1; /* 0: a free place */
	size_t i = key >> 1 & (run->seen_max - 1);
	for (; run->seen[i]; i = (i + 1) & (run->seen_max - 1))
		if (run->seen[i] == key)
			return true;
	run->seen[i] = key;
	run->nseen++;
	return false;
}

static uint64_t *line_at(const struct run *run, uint32_t line)
{
	return (uint64_t *)(void *)(run->file + (size_t)line * LINE_BYTES);
}

/* Puts line @i's landed words into the file. */
static void put_line(struct run *run, size_t i)
{
	const struct record_line *line = &run->lines[i];
	uint64_t *to = line_at(run, line->line);
	memcpy(run->saved + i * LINE_WORDS, to, LINE_BYTES);
	run->hash -= line_hash(line->line, to);
	for (unsigned int w = 0; w < LINE_WORDS; w++)
		if (run->mask[i] & 1u << w)
			to[w] = line->word[w];
	run->hash += line_hash(line->line, to);
}

static void take_out_line(const struct run *run, size_t i)
{
	if (run->mask[i])
		memcpy(line_at(run, run->lines[i].line), run->saved + i * LINE_WORDS, LINE_BYTES);
}

/* The image of run.mask. */
static void build(struct run *run, const char *kind)
{
	run->image.kind = kind;
	run->image.number++;
	if (run->is_ended ||
	    (run->plan->only_image >= 0 && run->image.number != run->plan->only_image))
		return;
	uint64_t hash = run->hash;
	for (size_t i = 0; i < run->nlines; i++)
		if (run->mask[i])
			put_line(run, i);
	uint64_t state = 2ull * run->image.step + run->image.is_in_step;
	if (has_seen(run, mix(run->hash ^ mix(state)))) {
		run->nsame++;
	} else {
		run->nbuilt++;
		run->is_ended = !run->visit(run->arg, &run->image);
	}
	for (size_t i = run->nlines; i-- > 0;)
		take_out_line(run, i);
	run->hash = hash;
}

static void set_all(struct run *run, size_t n, uint8_t mask)
{
	memset(run->mask, 0, run->nlines);
	memset(run->mask, mask, n);
}

/* The @k-th of at most @max places to look at; all of them if there are so few. */
static size_t place(struct run *run, size_t k, size_t max)
{
	return run->nlines <= max ? k : draw(run) % run->nlines;
}

static void build_torn(struct run *run)
{
	/* Some landed, and of one line a part. */
	uint64_t landed = draw(run) % 3;
	for (size_t i = 0; i < run->nlines; i++)
		run->mask[i] = landed == 0 ? 0 : landed == 1 ? 0xff : draw(run) & 1 ? 0xff : 0;
	size_t i = draw(run) % run->nlines;
	unsigned int cut = 1 + (unsigned int)(draw(run) % (LINE_WORDS - 1));
	switch (draw(run) % 3) {
	case 0:
		run->mask[i] = (uint8_t)((1u << cut) - 1); /* a prefix */
		break;
	case 1:
		run->mask[i] = (uint8_t) ~((1u << cut) - 1);
		break;
	default:
		run->mask[i] = (uint8_t)draw(run);
	}
	build(run, "torn line");
}

static void build_images(struct run *run, size_t nflying)
{
	const struct image_plan *plan = run->plan;
	set_all(run, 0, 0);
	build(run, "nothing landed");
	if (run->nlines == 0)
		return;
	set_all(run, nflying, 0xff);
	build(run, "what was flushed landed");
	set_all(run, run->nlines, 0xff);
	build(run, "all landed");
	for (size_t k = 0; k < plan->singles && k < run->nlines; k++) {
		set_all(run, 0, 0);
		run->mask[place(run, k, plan->singles)] = 0xff;
		build(run, "one line landed");
	}
	for (size_t k = 0; k < plan->without && k < run->nlines; k++) {
		set_all(run, run->nlines, 0xff);
		run->mask[place(run, k, plan->without)] = 0;
		build(run, "all but one line landed");
	}
	for (size_t k = 0; k < plan->random && run->nlines > 1; k++) {
		for (size_t i = 0; i < run->nlines; i++)
			run->mask[i] = draw(run) & 1 ? 0xff : 0;
		build(run, "some lines landed");
	}
	for (size_t k = 0; k < plan->torn; k++)
		build_torn(run);
}

static void look_at(struct run *run, size_t event)
{
	const struct record_event *e = &run->record->events[event];
	run->lines = run->record->lines + e->first_line;
	run->nlines = e->nlines;
	run->mask = realloc(run->mask, e->nlines + 1);
	run->saved = reallocarray(run->saved, e->nlines + 1, LINE_BYTES);
	if (!run->mask || !run->saved)
		BAIL_OUT("no memory");
	if (event >= run->plan->first_event) {
		run->rng = mix(run->plan->seed ^ mix(event));
		run->image.event = event;
		run->image.number = -1;
		run->image.step = e->step;
		run->image.is_in_step = e->is_in_step;
		build_images(run, e->nflying);
	}
	set_all(run, e->nflying, 0xff);
	for (size_t i = 0; i < e->nflying; i++)
		put_line(run, i);
}

static void make_file(struct run *run)
{
	static const uint8_t zeros[PAGE_BYTES];
	const struct record *record = run->record;
	(void)unlink(run->image.path);
	int fd = open(run->image.path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0 || ftruncate(fd, (off_t)record->size_bytes) != 0)
		BAIL_OUT("%s: %s", run->image.path, strerror(errno));
	for (uint64_t at = 0; at < record->size_bytes; at += PAGE_BYTES)
		if (memcmp(record->start + at, zeros, PAGE_BYTES) != 0 &&
		    pwrite(fd, record->start + at, PAGE_BYTES, (off_t)at) != PAGE_BYTES)
			BAIL_OUT("%s: %s", run->image.path, strerror(errno));
	run->file = persist_raw_mmap(NULL, record->size_bytes, PROT_READ | PROT_WRITE, MAP_SHARED,
				     fd, 0);
	if (run->file == MAP_FAILED)
		BAIL_OUT("%s: %s", run->image.path, strerror(errno));
	(void)close(fd);
}

uint64_t image_run(const struct record *record, const struct image_plan *plan, const char *path,
		   image_visit visit, void *arg, uint64_t *ret_same)
{
	struct run run = {
		.record = record,
		.plan = plan,
		.visit = visit,
		.arg = arg,
		.image = {.path = path},
	};
	make_file(&run);
	for (size_t i = 0; i < record->nevents && i < plan->end_event && !run.is_ended; i++)
		look_at(&run, i);
	(void)persist_raw_munmap(run.file, record->size_bytes);
	(void)unlink(path);
	free(run.mask);
	free(run.saved);
	free(run.seen);
	*ret_same = run.nsame;
	return run.nbuilt;
}
