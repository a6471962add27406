/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * control.c -- answers the ioctls of pmemleasefs/ioctl.h
 *
 * The public structures are the lease manager's views with fixed layouts: their
 * numbers are checked to be the same here, and nowhere else.
 */
#include <string.h>

#include "control.h"
#include "pmemleasefs/ioctl.h"

/* The size field of an ioctl number has 14 bits: asm-generic/ioctl.h. */
static_assert(sizeof(struct pml_ioc_leases) < 1 << 14, "passed whole by FUSE");
static_assert(sizeof(struct pml_ioc_pins) < 1 << 14, "passed whole by FUSE");
static_assert(sizeof(struct pml_ioc_lease) == 168, "public layout");
static_assert(sizeof(struct pml_ioc_pin) == 40, "public layout");
static_assert(sizeof(struct pml_ioc_stats) == 480, "public layout");
static_assert(sizeof(struct pml_ioc_audit) == 264, "public layout");

static_assert((int)PML_IOC_MODE_WRITE == (int)PML_LEASE_WRITE, "same numbers");
static_assert((int)PML_IOC_STATE_RECALLING == (int)PML_LEASE_RECALLING, "same numbers");
static_assert((int)PML_IOC_STATE_STUCK == (int)PML_LEASE_STUCK, "same numbers");
static_assert((int)PML_IOC_OP_CLONE_SRC == (int)PML_OP_CLONE_SRC, "same numbers");
static_assert((int)PML_IOC_OP_CLONE_DST == (int)PML_OP_CLONE_DST, "same numbers");
static_assert((int)PML_IOC_OP_DEDUPE == (int)PML_OP_DEDUPE, "same numbers");
static_assert((int)PML_IOC_OP_SNAPSHOT == (int)PML_OP_SNAPSHOT, "same numbers");
static_assert((int)PML_IOC_OP_SNAPSHOT == (int)PML_OP_COUNT - 1, "all are named");
static_assert(sizeof(struct pml_ioc_token) == 24, "public layout");
static_assert(sizeof(struct pml_ioc_clone) == 56, "public layout");
static_assert(sizeof(struct pml_ioc_dedupe) == 24 + 64 * 40, "public layout");
static_assert(sizeof(struct pml_ioc_range) == 24, "public layout");
static_assert(sizeof(struct pml_ioc_extents) == 24 + 400 * 32, "public layout");
static_assert(sizeof(struct pml_ioc_extents) < 1 << 14, "passed whole by FUSE");
static_assert(sizeof(struct pml_ioc_snapshot) == 280, "public layout");
static_assert(sizeof(((struct pml_ioc_audit *)0)->reason) == PML_REASON_BYTES, "one size");

/* Cuts what is too long. */
static void copy_text(char *to, size_t to_bytes, const char *from)
{
	size_t bytes = strnlen(from, to_bytes - 1);
	memcpy(to, from, bytes);
	to[bytes] = '\0';
}

static void fill_lease(struct pml_ioc_lease *to, const struct pml_lease_view *from)
{
	*to = (struct pml_ioc_lease){
		.lease_id = from->lease_id,
		.session = from->session,
		.ino = from->ino,
		.first_byte = from->first_byte,
		.end_byte = from->end_byte,
		.age_ms = from->age_ms,
		.pinned_bytes = from->pinned_bytes,
		.nsegments = from->nsegments,
		.mode = (uint8_t)from->mode,
		.state = (uint8_t)from->state,
		.waiter_op = (uint8_t)from->waiter_op,
		.has_waiter = from->waiter[0] || from->waiter_pid,
		.waiter_pid = from->waiter_pid,
	};
	copy_text(to->peer, sizeof(to->peer), from->peer);
	copy_text(to->waiter, sizeof(to->waiter), from->waiter);
}

static int list_leases(const struct pml_control *control, void *data)
{
	struct pml_ioc_leases *out = data;
	pml_auto_free struct pml_lease_view *views = calloc(PML_IOC_LEASES_MAX, sizeof(*views));
	if (!views)
		return -ENOMEM;
	size_t count = pml_lease_list(control->leases, out->after, views, PML_IOC_LEASES_MAX);
	for (size_t i = 0; i < count; i++)
		fill_lease(&out->leases[i], &views[i]);
	if (count > 0)
		out->after = views[count - 1].lease_id;
	out->count = (uint32_t)count;
	return 0;
}

/* Where to go on behind the last of @count views: how many segments of its lease are out. */
static void move_pin_cursor(struct pml_ioc_pins *out, const struct pml_pin_view *views,
			    size_t count)
{
	uint64_t last = views[count - 1].lease_id;
	uint32_t segments = last == out->after_lease ? out->after_segment : 0;
	for (size_t i = count; i > 0 && views[i - 1].lease_id == last; i--)
		segments++;
	out->after_lease = last;
	out->after_segment = segments;
}

static int list_pins(const struct pml_control *control, void *data)
{
	struct pml_ioc_pins *out = data;
	pml_auto_free struct pml_pin_view *views = calloc(PML_IOC_PINS_MAX, sizeof(*views));
	if (!views)
		return -ENOMEM;
	size_t count = pml_pin_list(control->leases, out->after_lease, out->after_segment, views,
				    PML_IOC_PINS_MAX);
	for (size_t i = 0; i < count; i++)
		out->pins[i] = (struct pml_ioc_pin){
			.lease_id = views[i].lease_id,
			.ino = views[i].ino,
			.first_byte = views[i].first_byte,
			.block = views[i].block,
			.nblocks = views[i].nblocks,
		};
	if (count > 0)
		move_pin_cursor(out, views, count);
	out->count = (uint32_t)count;
	return 0;
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
	copy_text(out->label, sizeof(out->label), info.label);
	copy_text(out->kind, sizeof(out->kind), info.kind);
	copy_text(out->durability, sizeof(out->durability), info.durability);
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

static const struct {
	unsigned int cmd;
	int (*answer)(const struct pml_control *control, void *data);
} calls[] = {
	{PML_IOC_LEASES, list_leases},
	{PML_IOC_PINS, list_pins},
	{PML_IOC_STATS, show_stats},
	{PML_IOC_AUDIT, audit},
};

int pml_control_ioctl(void *arg, unsigned int cmd, void *data, size_t bytes)
{
	for (size_t i = 0; i < PML_ARRAY_LEN(calls); i++) {
		if (calls[i].cmd != cmd)
			continue;
		uint32_t version = 0; /* the first field of each */
		memcpy(&version, data, sizeof(version));
		return version == PML_IOC_VERSION ? calls[i].answer(arg, data) : -EINVAL;
	}
	return -ENOTTY;
}
