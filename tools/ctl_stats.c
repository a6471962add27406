/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * ctl_stats.c -- pmemleasectl: numbers, times and the audit of a mount
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "ctl.h"
#include "names.h"
#include "pmemleasefs/ioctl.h"
#include "pml/lease.h"

/* ---- stats -------------------------------------------------------------- */

#define STAT(field, title)                                                                         \
	{                                                                                          \
#field, title, offsetof(struct pml_ioc_stats, field)                               \
	}

static const struct stat_line {
	const char *name;  /* in JSON */
	const char *title; /* in text; NULL heads: @name is the heading of a group */
	size_t offset;
} stat_lines[] = {
	{"DEVICE", NULL, 0},
	STAT(device_bytes, "bytes"),
	STAT(total_blocks, "blocks for data"),
	STAT(free_blocks, "free blocks"),
	STAT(used_blocks, "used blocks"),
	STAT(shared_blocks, "shared blocks"),
	STAT(pinned_blocks, "pinned blocks"),
	STAT(quarantined_blocks, "quarantined blocks"),
	STAT(pins, "pins"),
	STAT(inodes, "inodes"),
	{"NOW", NULL, 0},
	STAT(sessions, "sessions"),
	STAT(leases, "leases"),
	STAT(pinned_bytes, "pinned bytes"),
	STAT(waiters, "waiting operations"),
	{"SINCE THE MOUNT", NULL, 0},
	STAT(granted, "leases granted"),
	STAT(returned, "leases returned"),
	STAT(recalls, "recalls"),
	STAT(revoked, "leases revoked"),
	STAT(expired, "leases expired"),
	STAT(sessions_died, "sessions died"),
	STAT(fences, "fences"),
	STAT(fence_escalations, "fences escalated"),
	STAT(fences_stuck, "fences stuck"),
	STAT(parked, "operations parked"),
	STAT(refused_busy, "refused: busy"),
	STAT(refused_limit, "refused: limit"),
	STAT(interrupted, "interrupted"),
	STAT(skipped, "ranges skipped"),
	STAT(orphans_recalled, "orphans recalled"),
	STAT(downgraded, "leases downgraded"),
	STAT(sought, "let others go first"),
	STAT(aside_blocks, "copied for others"),
	STAT(aside_refused, "others stayed"),
};

static unsigned long long stat_value(const struct pml_ioc_stats *stats, size_t offset)
{
	uint64_t value = 0;
	memcpy(&value, (const char *)stats + offset, sizeof(value));
	return value;
}

/* ---- refusals by limit ------------------------------------------------------ */

static void print_refusals(const struct pml_ioc_stats *stats)
{
	if (stats->refused_limit == 0)
		return;
	printf("REFUSED BY LIMIT\n");
	for (unsigned int i = 0; i < PML_IOC_LIMIT_COUNT; i++)
		if (stats->refused[i] > 0)
			printf("  %-20s %" PRIu64 "\n", pml_limit_name((enum pml_limit)i),
			       stats->refused[i]);
}

static void print_json_refusals(const struct pml_ioc_stats *stats)
{
	printf(",\n\"refused\":{");
	for (unsigned int i = 0; i < PML_IOC_LIMIT_COUNT; i++)
		printf("%s\"%s\":%" PRIu64, i ? "," : "", pml_limit_name((enum pml_limit)i),
		       stats->refused[i]);
	putchar('}');
}

/* ---- times ------------------------------------------------------------------- */

/* The bucket that the @percent-th of a hundred lies in.  Assumes: there is any. */
static unsigned int bucket_of(const struct pml_ioc_span *span, uint64_t percent)
{
	uint64_t rank = (span->count * percent + 99) / 100, seen = 0;
	for (unsigned int i = 0; i < PML_IOC_BUCKETS - 1; i++) {
		seen += span->bucket[i];
		if (seen >= rank)
			return i;
	}
	return PML_IOC_BUCKETS - 1;
}

static void print_bucket(unsigned int i)
{
	char text[24];
	bool is_last = i == PML_IOC_BUCKETS - 1;
	(void)snprintf(text, sizeof(text), "%s%u", is_last ? ">=" : "<",
		       1u << (is_last ? i - 1 : i));
	printf(" %9s", text);
}

static void print_spans(const struct pml_ioc_spans *spans)
{
	printf("TIMES (ms) %11s %9s %9s %9s %9s\n", "count", "mean", "median", "99 %", "longest");
	for (unsigned int i = 0; i < PML_IOC_SPAN_COUNT; i++) {
		const struct pml_ioc_span *span = &spans->spans[i];
		printf("  %-8s %11" PRIu64, pml_span_name((enum pml_span)i), span->count);
		if (span->count == 0) {
			putchar('\n');
			continue;
		}
		printf(" %9" PRIu64, span->sum_ms / span->count);
		print_bucket(bucket_of(span, 50));
		print_bucket(bucket_of(span, 99));
		printf(" %9" PRIu64 "\n", span->max_ms);
	}
}

static void print_json_buckets(const struct pml_ioc_span *span)
{
	for (unsigned int i = 0; i < PML_IOC_BUCKETS; i++) {
		printf("%s{\"below_ms\":", i ? "," : "");
		if (i < PML_IOC_BUCKETS - 1)
			printf("%u", 1u << i);
		else
			printf("null");
		printf(",\"count\":%" PRIu64 "}", span->bucket[i]);
	}
}

static void print_json_spans(const struct pml_ioc_spans *spans)
{
	printf(",\n\"times\":{");
	for (unsigned int i = 0; i < PML_IOC_SPAN_COUNT; i++) {
		const struct pml_ioc_span *span = &spans->spans[i];
		printf("%s\n\"%s\":{\"count\":%" PRIu64 ",\"sum_ms\":%" PRIu64
		       ",\"max_ms\":%" PRIu64 ",\"buckets\":[",
		       i ? "," : "", pml_span_name((enum pml_span)i), span->count, span->sum_ms,
		       span->max_ms);
		print_json_buckets(span);
		printf("]}");
	}
	putchar('}');
}

/* ---- all ---------------------------------------------------------------------- */

static void print_stats(const struct pml_ioc_stats *stats, const char *uuid)
{
	for (size_t i = 0; i < PML_ARRAY_LEN(stat_lines); i++) {
		const struct stat_line *line = &stat_lines[i];
		if (line->title)
			printf("  %-20s %llu\n", line->title, stat_value(stats, line->offset));
		else
			printf("%s\n", line->name);
		if (i > 0)
			continue;
		printf("  %-20s %s, format %u\n", "kind", stats->kind,
		       (unsigned int)stats->format_version);
		printf("  %-20s %s\n", "uuid", uuid);
		printf("  %-20s ", "label");
		pml_ctl_print_text(stats->label[0] ? stats->label : "none");
		printf("\n  %-20s %s\n", "durability", stats->durability);
	}
}

static void print_stats_json(const struct pml_ioc_stats *stats, const char *uuid)
{
	printf("{\"kind\":");
	pml_ctl_print_json_text(stats->kind);
	printf(",\n\"format_version\":%u,\n\"uuid\":\"%s\",\n\"label\":",
	       (unsigned int)stats->format_version, uuid);
	pml_ctl_print_json_text(stats->label);
	printf(",\n\"durability\":");
	pml_ctl_print_json_text(stats->durability);
	printf(",\n\"is_cache_line\":%s", stats->is_cache_line ? "true" : "false");
	for (size_t i = 0; i < PML_ARRAY_LEN(stat_lines); i++)
		if (stat_lines[i].title)
			printf(",\n\"%s\":%llu", stat_lines[i].name,
			       stat_value(stats, stat_lines[i].offset));
}

int pml_ctl_stats(const struct pml_ctl_mount *mount, const struct pml_ctl_options *options)
{
	struct pml_ioc_stats stats = {.version = PML_IOC_VERSION};
	struct pml_ioc_spans spans = {.version = PML_IOC_VERSION};
	int err = pml_ctl_ask(mount->path, mount->fd, PML_IOC_STATS, &stats);
	if (!err)
		err = pml_ctl_ask(mount->path, mount->fd, PML_IOC_SPANS, &spans);
	if (err)
		return err;
	char uuid[PML_UUID_TEXT_BYTES];
	pml_uuid_format(stats.uuid, uuid);
	if (options->is_json) {
		print_stats_json(&stats, uuid);
		print_json_refusals(&stats);
		print_json_spans(&spans);
		printf("}\n");
	} else {
		print_stats(&stats, uuid);
		print_refusals(&stats);
		print_spans(&spans);
	}
	return 0;
}

/* ---- audit -------------------------------------------------------------- */

int pml_ctl_audit(const struct pml_ctl_mount *mount, const struct pml_ctl_options *options)
{
	struct pml_ioc_audit audit = {.version = PML_IOC_VERSION};
	int err = pml_ctl_ask(mount->path, mount->fd, PML_IOC_AUDIT, &audit);
	if (err)
		return err;
	if (options->is_json) {
		printf("{\"consistent\":%s,\"status\":%d,\"reason\":",
		       audit.status == 0 ? "true" : "false", (int)audit.status);
		pml_ctl_print_json_text(audit.reason);
		printf("}\n");
	} else if (audit.status == 0) {
		printf("consistent\n");
	} else {
		printf("%s: ", audit.status == -EUCLEAN ? "inconsistent" : "not audited");
		pml_ctl_print_text(audit.reason[0] ? audit.reason : strerror(-audit.status));
		printf("\n");
	}
	return audit.status;
}
