/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * pmemlease_progress.c -- how far a copy is, and what it did
 *
 * One line of standard error that is drawn anew.  The rate is that of the last few
 * seconds, so that it follows the network; the remaining time is of what is known:
 * all that is to be copied, or the file at hand.
 */
#include <inttypes.h>

#include "pml/clock.h"
#include "pmemlease.h"
#include "size.h"
#include "text.h"

#define SHOW_MS	     200u
#define SAMPLE_MS    500u
#define NAME_COLUMNS 24u

void progress_init(struct progress *p, const struct options *opt)
{
	*p = (struct progress){.opt = opt, .start_ms = pml_now_ms()};
	p->is_wanted = opt->force_progress || (!opt->is_quiet && isatty(STDERR_FILENO));
	p->samples[0].at_ms = p->start_ms;
	p->nsamples = 1;
}

/* Bytes in a second, over what the samples span. */
static double rate_of(struct progress *p, uint64_t now_ms, uint64_t bytes)
{
	uint32_t last = p->nsamples - 1;
	if (now_ms - p->samples[last].at_ms >= SAMPLE_MS) {
		if (p->nsamples == PROGRESS_SAMPLES) {
			for (uint32_t i = 1; i < PROGRESS_SAMPLES; i++)
				p->samples[i - 1] = p->samples[i];
			p->nsamples--;
		}
		last = p->nsamples++;
		p->samples[last].at_ms = now_ms;
		p->samples[last].bytes = bytes;
	}
	uint64_t ms = PML_MAX(now_ms - p->samples[0].at_ms, (uint64_t)1);
	uint64_t moved = bytes > p->samples[0].bytes ? bytes - p->samples[0].bytes : 0;
	return (double)moved * 1000 / (double)ms;
}

static void print_remaining(double seconds)
{
	if (!(seconds < 360000)) { /* stands still */
		fprintf(stderr, "   --:-- left");
		return;
	}
	uint64_t s = (uint64_t)(seconds + 0.5);
	if (s >= 3600)
		fprintf(stderr, " %2" PRIu64 ":%02" PRIu64 ":%02" PRIu64 " left", s / 3600,
			s / 60 % 60, s % 60);
	else
		fprintf(stderr, "   %2" PRIu64 ":%02" PRIu64 " left", s / 60, s % 60);
}

static void draw(struct progress *p, uint64_t now_ms)
{
	bool is_one = p->total_bytes == 0;
	uint64_t at = is_one ? p->at_bytes : p->done_bytes + p->at_bytes;
	uint64_t of = is_one ? p->size_bytes : PML_MAX(p->total_bytes, at);
	double rate = rate_of(p, now_ms, p->done_bytes + p->at_bytes);
	char at_text[PML_SIZE_TEXT_BYTES], rate_text[PML_SIZE_TEXT_BYTES];
	pml_size_format(at, at_text);
	pml_size_format((uint64_t)rate, rate_text);
	fprintf(stderr, "\r%3.0f %%  %10s  %10s/s", of ? 100.0 * (double)at / (double)of : 100.0,
		at_text, rate_text);
	print_remaining(rate > 0 ? (double)(of - PML_MIN(at, of)) / rate : of > at ? 1e9 : 0);
	fputs("  ", stderr);
	if (pml_text_escaped_width(p->name) <= NAME_COLUMNS)
		pml_text_print_escaped(stderr, p->name);
	fputs(isatty(STDERR_FILENO) ? "\033[K" : "", stderr);
	fflush(stderr);
	p->shown_ms = now_ms;
	p->is_shown = true;
}

void progress_begin(struct progress *p, const char *name, uint64_t size_bytes)
{
	p->name = name;
	p->size_bytes = size_bytes;
	p->at_bytes = 0;
}

void progress_move(struct progress *p, uint64_t at_bytes)
{
	p->at_bytes = at_bytes;
	uint64_t now_ms = pml_now_ms();
	if (p->is_wanted && (now_ms - p->shown_ms >= SHOW_MS || at_bytes == p->size_bytes))
		draw(p, now_ms);
}

void progress_end(struct progress *p)
{
	p->done_bytes += p->at_bytes;
	p->at_bytes = 0;
	p->size_bytes = 0;
}

void progress_clear(struct progress *p)
{
	if (p->is_shown)
		fputc('\n', stderr);
	p->is_shown = false;
}

void progress_print_summary(const struct progress *p, const char *command)
{
	if (!p->opt->is_json)
		return;
	double seconds = (double)PML_MAX(pml_now_ms() - p->start_ms, (uint64_t)1) / 1e3;
	printf("{\"command\": \"%s\", \"files\": %u, \"directories\": %u, \"symlinks\": %u, "
	       "\"skipped\": %u, \"failed\": %u, \"bytes\": %" PRIu64 ", \"moved_bytes\": %" PRIu64
	       ", \"resumed_bytes\": %" PRIu64
	       ", \"seconds\": %.6f, \"mb_per_s\": %.3f, \"recalls\": %u, \"revokes\": %u, "
	       "\"reconnects\": %u}\n",
	       command, p->files, p->directories, p->symlinks, p->skipped, p->failed, p->done_bytes,
	       p->moved_bytes, p->resumed_bytes, seconds, (double)p->moved_bytes / seconds / 1e6,
	       p->recalls, p->revokes, p->reconnects);
}
