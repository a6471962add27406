/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * control.c -- answers the ioctls of pmemleasefs/ioctl.h
 *
 * The public structures are the lease manager's views with fixed layouts: their
 * numbers are checked to be the same here and in control_lists.c, and nowhere else.
 */
#include <string.h>

#include "control.h"
#include "pmemleasefs/ioctl.h"

static_assert(sizeof(struct pml_ioc_stats) == 768, "public layout");
static_assert(sizeof(struct pml_ioc_span) == 184, "public layout");
static_assert(sizeof(struct pml_ioc_spans) == 8 + 16 * 184, "public layout");
static_assert(sizeof(struct pml_ioc_audit) == 264, "public layout");
static_assert(sizeof(struct pml_ioc_remount) == 4360, "public layout");
static_assert(sizeof(struct pml_ioc_evict) == 16, "public layout");

static_assert(sizeof(struct pml_ioc_token) == 24, "public layout");
static_assert(sizeof(struct pml_ioc_clone) == 56, "public layout");
static_assert(sizeof(struct pml_ioc_dedupe) == 24 + 64 * 40, "public layout");
static_assert(sizeof(struct pml_ioc_range) == 24, "public layout");
static_assert(sizeof(struct pml_ioc_relocate) == 56, "public layout");
static_assert(sizeof(struct pml_ioc_extents) == 24 + 400 * 32, "public layout");
/* The size field of an ioctl number has 14 bits: asm-generic/ioctl.h. */
static_assert(sizeof(struct pml_ioc_extents) < 1 << 14, "passed whole by FUSE");
static_assert(sizeof(struct pml_ioc_snapshot) == 280, "public layout");
static_assert(sizeof(((struct pml_ioc_audit *)0)->reason) == PML_REASON_BYTES, "one size");

static_assert((int)PML_IOC_LIMIT_USER_SESSIONS == (int)PML_LIMIT_USER_SESSIONS, "same numbers");
static_assert((int)PML_IOC_LIMIT_USER_LEASES == (int)PML_LIMIT_USER_LEASES, "same numbers");
static_assert((int)PML_IOC_LIMIT_USER_SEGMENTS == (int)PML_LIMIT_USER_SEGMENTS, "same numbers");
static_assert((int)PML_IOC_LIMIT_USER_PINNED == (int)PML_LIMIT_USER_PINNED, "same numbers");
static_assert((int)PML_IOC_LIMIT_USER_WAITERS == (int)PML_LIMIT_USER_WAITERS, "same numbers");
static_assert((int)PML_IOC_LIMIT_UNBREAKABLE == (int)PML_LIMIT_UNBREAKABLE, "same numbers");
static_assert((int)PML_IOC_LIMIT_COUNT == (int)PML_LIMIT_COUNT, "all are named");
static_assert((int)PML_IOC_LIMIT_COUNT <= PML_IOC_LIMITS_MAX, "there is room");

static_assert((int)PML_IOC_SPAN_HELD == (int)PML_SPAN_HELD, "same numbers");
static_assert((int)PML_IOC_SPAN_RETURN == (int)PML_SPAN_RETURN, "same numbers");
static_assert((int)PML_IOC_SPAN_REVOKE == (int)PML_SPAN_REVOKE, "same numbers");
static_assert((int)PML_IOC_SPAN_UNPIN == (int)PML_SPAN_UNPIN, "same numbers");
static_assert((int)PML_IOC_SPAN_COUNT == (int)PML_SPAN_COUNT, "all are named");
static_assert((int)PML_IOC_SPAN_COUNT <= PML_IOC_SPANS_MAX, "there is room");
static_assert(PML_IOC_BUCKETS == PML_HISTOGRAM_BUCKETS, "same buckets");

void pml_control_copy_text(char *to, size_t to_bytes, const char *from)
{
	size_t bytes = strnlen(from, to_bytes - 1);
	memcpy(to, from, bytes);
	to[bytes] = '\0';
}

static void fill_lease_stats(struct pml_ioc_stats *out, const struct pml_lease_stats *stats)
{
	out->sessions = stats->sessions;
	out->leases = stats->leases;
	out->pinned_bytes = stats->pinned_bytes;
	out->waiters = stats->waiters;
	out->granted = stats->granted;
	out->returned = stats->returned;
	out->recalls = stats->recalls;
	out->revoked = stats->revoked;
	out->expired = stats->expired;
	out->sessions_died = stats->sessions_died;
	out->fences = stats->fences;
	out->fence_escalations = stats->fence_escalations;
	out->fences_stuck = stats->fences_stuck;
	out->parked = stats->parked;
	out->refused_busy = stats->refused_busy;
	out->refused_limit = stats->refused_limit;
	out->interrupted = stats->interrupted;
	out->skipped = stats->skipped;
	out->orphans_recalled = stats->orphans_recalled;
	out->downgraded = stats->downgraded;
	out->sought = stats->sought;
	memcpy(out->refused, stats->refused, sizeof(stats->refused));
}

static void fill_counts(struct pml_ioc_stats *out, const struct pml_fs_counts *counts)
{
	out->total_blocks = counts->total_blocks;
	out->free_blocks = counts->free_blocks;
	out->used_blocks = counts->used_blocks;
	out->shared_blocks = counts->shared_blocks;
	out->pinned_blocks = counts->pinned_blocks;
	out->quarantined_blocks = counts->quarantined_blocks;
	out->pins = counts->pins;
	out->inodes = counts->inodes;
	out->aside_blocks = counts->aside_blocks;
	out->aside_refused = counts->aside_refused;
}

static int show_stats(const struct pml_control *control, void *data)
{
	struct pml_ioc_stats *out = data;
	struct pml_lease_stats stats;
	pml_lease_stats(control->leases, &stats);
	fill_lease_stats(out, &stats);
	struct pml_fs_counts counts;
	pml_fs_counts(control->fs, &counts);
	fill_counts(out, &counts);

	struct pml_device_info info;
	pml_fs_info(control->fs, &info);
	out->device_bytes = info.size_bytes;
	out->format_version = info.format_version;
	out->is_cache_line = info.is_cache_line;
	memcpy(out->uuid, info.uuid, sizeof(out->uuid));
	pml_control_copy_text(out->label, sizeof(out->label), info.label);
	pml_control_copy_text(out->kind, sizeof(out->kind), info.kind);
	pml_control_copy_text(out->durability, sizeof(out->durability), info.durability);
	return 0;
}

static int show_spans(const struct pml_control *control, void *data)
{
	struct pml_ioc_spans *out = data;
	struct pml_lease_stats stats;
	pml_lease_stats(control->leases, &stats);
	for (size_t i = 0; i < PML_SPAN_COUNT; i++) {
		const struct pml_histogram *from = &stats.histogram[i];
		struct pml_ioc_span *to = &out->spans[i];
		to->count = from->count;
		to->sum_ms = from->sum_ms;
		to->max_ms = from->max_ms;
		memcpy(to->bucket, from->bucket, sizeof(to->bucket));
	}
	return 0;
}

static int audit(const struct pml_control *control, void *data)
{
	struct pml_ioc_audit *out = data;
	out->reason[0] = '\0';
	out->status = pml_lease_audit(control->leases, out->reason);
	if (out->status == 0)
		out->reason[0] = '\0';
	return 0;
}

static int evict(const struct pml_control *control, void *data)
{
	struct pml_ioc_evict *m = data;
	m->nleases = 0;
	return pml_session_evict(control->leases, m->session, &m->nleases);
}

static int remount(const struct pml_control *control, void *data)
{
	struct pml_ioc_remount *m = data;
	if (!memchr(m->options, 0, sizeof(m->options)))
		return -EINVAL;
	char reason[PML_REASON_BYTES] = "";
	m->status = pml_remount_change(control->remount, m->options, reason);
	pml_control_copy_text(m->reason, sizeof(m->reason), reason);
	return 0;
}

static const struct {
	unsigned int cmd;
	int (*answer)(const struct pml_control *control, void *data);
	size_t reserved_at; /* of a field that must be zero; 0: there is none */
} calls[] = {
	{PML_IOC_LEASES, pml_control_leases, 0},
	{PML_IOC_PINS, pml_control_pins, offsetof(struct pml_ioc_pins, reserved)},
	{PML_IOC_STATS, show_stats, offsetof(struct pml_ioc_stats, reserved)},
	{PML_IOC_AUDIT, audit, 0},
	{PML_IOC_WAITERS, pml_control_waiters, 0},
	{PML_IOC_HISTORY, pml_control_history, 0},
	{PML_IOC_SPANS, show_spans, offsetof(struct pml_ioc_spans, reserved)},
	{PML_IOC_REMOUNT, remount, 0},
	{PML_IOC_SESSIONS, pml_control_sessions, 0},
	{PML_IOC_EVICT, evict, 0},
};

int pml_control_ioctl(void *arg, unsigned int cmd, void *data, size_t bytes)
{
	for (size_t i = 0; i < PML_ARRAY_LEN(calls); i++) {
		if (calls[i].cmd != cmd)
			continue;
		uint32_t version = 0; /* the first field of each */
		uint32_t reserved = 0;
		memcpy(&version, data, sizeof(version));
		if (calls[i].reserved_at)
			memcpy(&reserved, (const char *)data + calls[i].reserved_at,
			       sizeof(reserved));
		bool is_good = version == PML_IOC_VERSION && reserved == 0;
		return is_good ? calls[i].answer(arg, data) : -EINVAL;
	}
	return -ENOTTY;
}
