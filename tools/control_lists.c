/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * control_lists.c -- answers the ioctls of pmemleasefs/ioctl.h that list leases, pins, sessions,
 * waiting operations and forced ends, piece by piece
 */
#include <string.h>

#include "control.h"
#include "pmemleasefs/ioctl.h"

/* The size field of an ioctl number has 14 bits: asm-generic/ioctl.h. */
static_assert(sizeof(struct pml_ioc_leases) < 1 << 14, "passed whole by FUSE");
static_assert(sizeof(struct pml_ioc_pins) < 1 << 14, "passed whole by FUSE");
static_assert(sizeof(struct pml_ioc_waiters) < 1 << 14, "passed whole by FUSE");
static_assert(sizeof(struct pml_ioc_history) < 1 << 14, "passed whole by FUSE");
static_assert(sizeof(struct pml_ioc_sessions) < 1 << 14, "passed whole by FUSE");
static_assert(sizeof(struct pml_ioc_session) == 176, "public layout");
static_assert(sizeof(((struct pml_ioc_session *)0)->identity) == PML_IDENTITY_BYTES, "one size");
static_assert(sizeof(struct pml_ioc_lease) == 184, "public layout");
static_assert(sizeof(struct pml_ioc_pin) == 104, "public layout");
static_assert(sizeof(struct pml_ioc_waiter) == 152, "public layout");
static_assert(sizeof(struct pml_ioc_ending) == 184, "public layout");

static_assert((int)PML_IOC_MODE_WRITE == (int)PML_LEASE_WRITE, "same numbers");
static_assert((int)PML_IOC_STATE_RECALLING == (int)PML_LEASE_RECALLING, "same numbers");
static_assert((int)PML_IOC_STATE_STUCK == (int)PML_LEASE_STUCK, "same numbers");
static_assert((int)PML_IOC_OP_CLONE_SRC == (int)PML_OP_CLONE_SRC, "same numbers");
static_assert((int)PML_IOC_OP_CLONE_DST == (int)PML_OP_CLONE_DST, "same numbers");
static_assert((int)PML_IOC_OP_DEDUPE == (int)PML_OP_DEDUPE, "same numbers");
static_assert((int)PML_IOC_OP_SNAPSHOT == (int)PML_OP_SNAPSHOT, "same numbers");
static_assert((int)PML_IOC_OP_SNAPSHOT == (int)PML_OP_COUNT - 1, "all are named");
static_assert((int)PML_IOC_OP_LEASE == (int)PML_RECALL_LEASE, "same numbers");
static_assert((int)PML_IOC_OP_ORPHAN == (int)PML_RECALL_ORPHAN, "same numbers");
static_assert((int)PML_IOC_POLICY_BLOCK == (int)PML_POLICY_BLOCK, "same numbers");
static_assert((int)PML_IOC_POLICY_SKIP == (int)PML_POLICY_SKIP, "same numbers");
static_assert((int)PML_IOC_END_CONFLICT == (int)PML_END_CONFLICT, "same numbers");
static_assert((int)PML_IOC_END_SILENT == (int)PML_END_SILENT, "same numbers");
static_assert((int)PML_IOC_END_EXPIRED == (int)PML_END_EXPIRED, "same numbers");
static_assert((int)PML_IOC_END_OWN_CHANGE == (int)PML_END_OWN_CHANGE, "same numbers");
static_assert((int)PML_IOC_END_EVICTED == (int)PML_END_EVICTED, "same numbers");

/* ---- leases ------------------------------------------------------------- */

static uint16_t flags_of(const struct pml_lease_view *view)
{
	unsigned int flags = (view->is_shared ? PML_IOC_LEASE_SHARED : 0u) |
			     (view->is_unbreakable ? PML_IOC_LEASE_UNBREAKABLE : 0u) |
			     (view->is_orphan ? PML_IOC_LEASE_ORPHAN : 0u) |
			     (view->was_recalled ? PML_IOC_LEASE_RECALLED : 0u) |
			     (view->is_acked ? PML_IOC_LEASE_ACKED : 0u);
	return (uint16_t)flags;
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
		.recalled_ms = from->recalled_ms,
		.nsegments = from->nsegments,
		.uid = from->uid,
		.mode = (uint8_t)from->mode,
		.state = (uint8_t)from->state,
		.recall_op = (uint8_t)from->recall_op,
		.why = (uint8_t)from->why,
		.waiter_op = (uint8_t)from->waiter_op,
		.has_waiter = from->waiter[0] || from->waiter_pid,
		.flags = flags_of(from),
		.waiter_pid = from->waiter_pid,
	};
	pml_control_copy_text(to->peer, sizeof(to->peer), from->peer);
	pml_control_copy_text(to->waiter, sizeof(to->waiter), from->waiter);
}

int pml_control_leases(const struct pml_control *control, void *data)
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

/* ---- pins --------------------------------------------------------------- */

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

int pml_control_pins(const struct pml_control *control, void *data)
{
	struct pml_ioc_pins *out = data;
	pml_auto_free struct pml_pin_view *views = calloc(PML_IOC_PINS_MAX, sizeof(*views));
	if (!views)
		return -ENOMEM;
	size_t count = pml_pin_list(control->leases, out->after_lease, out->after_segment, views,
				    PML_IOC_PINS_MAX);
	for (size_t i = 0; i < count; i++) {
		out->pins[i] = (struct pml_ioc_pin){
			.lease_id = views[i].lease_id,
			.ino = views[i].ino,
			.first_byte = views[i].first_byte,
			.block = views[i].block,
			.nblocks = views[i].nblocks,
		};
		pml_control_copy_text(out->pins[i].peer, sizeof(out->pins[i].peer), views[i].peer);
	}
	if (count > 0)
		move_pin_cursor(out, views, count);
	out->count = (uint32_t)count;
	return 0;
}

/* ---- sessions ----------------------------------------------------------- */

static void fill_session(struct pml_ioc_session *to, const struct pml_session_view *from)
{
	*to = (struct pml_ioc_session){
		.session = from->session,
		.age_ms = from->age_ms,
		.silent_ms = from->silent_ms,
		.pinned_bytes = from->pinned_bytes,
		.nleases = from->nleases,
		.nsegments = from->nsegments,
		.uid = from->uid,
		.flags = (from->is_local ? PML_IOC_SESSION_LOCAL : 0u) |
			 (from->is_ending ? PML_IOC_SESSION_ENDING : 0u),
	};
	pml_control_copy_text(to->peer, sizeof(to->peer), from->peer);
	pml_control_copy_text(to->identity, sizeof(to->identity), from->identity);
}

int pml_control_sessions(const struct pml_control *control, void *data)
{
	struct pml_ioc_sessions *out = data;
	pml_auto_free struct pml_session_view *views = calloc(PML_IOC_SESSIONS_MAX, sizeof(*views));
	if (!views)
		return -ENOMEM;
	size_t count = pml_session_list(control->leases, out->after, views, PML_IOC_SESSIONS_MAX);
	for (size_t i = 0; i < count; i++)
		fill_session(&out->sessions[i], &views[i]);
	if (count > 0)
		out->after = views[count - 1].session;
	out->count = (uint32_t)count;
	return 0;
}

/* ---- waiting operations -------------------------------------------------- */

static void fill_waiter(struct pml_ioc_waiter *to, const struct pml_waiter_view *from)
{
	*to = (struct pml_ioc_waiter){
		.ino = from->ino,
		.first_byte = from->first_byte,
		.end_byte = from->end_byte,
		.age_ms = from->age_ms,
		.lease_id = from->lease_id,
		.pid = from->pid,
		.uid = from->uid,
		.op = (uint8_t)from->op,
		.policy = (uint8_t)from->policy,
	};
	pml_control_copy_text(to->name, sizeof(to->name), from->name);
	pml_control_copy_text(to->peer, sizeof(to->peer), from->peer);
}

int pml_control_waiters(const struct pml_control *control, void *data)
{
	struct pml_ioc_waiters *out = data;
	pml_auto_free struct pml_waiter_view *views = calloc(PML_IOC_WAITERS_MAX, sizeof(*views));
	if (!views)
		return -ENOMEM;
	size_t count = pml_waiter_list(control->leases, out->skip, views, PML_IOC_WAITERS_MAX);
	for (size_t i = 0; i < count; i++)
		fill_waiter(&out->waiters[i], &views[i]);
	out->skip += count;
	out->count = (uint32_t)count;
	return 0;
}

/* ---- history -------------------------------------------------------------- */

static void fill_ending(struct pml_ioc_ending *to, const struct pml_ending *from)
{
	*to = (struct pml_ioc_ending){
		.number = from->number,
		.lease_id = from->lease_id,
		.session = from->session,
		.ino = from->ino,
		.first_byte = from->first_byte,
		.end_byte = from->end_byte,
		.age_ms = from->age_ms,
		.recalled_ms = from->recalled_ms,
		.ago_ms = from->ago_ms,
		.mode = (uint8_t)from->mode,
		.why = (uint8_t)from->why,
		.op = (uint8_t)from->op,
		.was_recalled = from->was_recalled,
		.has_waiter = from->waiter[0] || from->waiter_pid,
		.waiter_pid = from->waiter_pid,
	};
	pml_control_copy_text(to->peer, sizeof(to->peer), from->peer);
	pml_control_copy_text(to->waiter, sizeof(to->waiter), from->waiter);
}

int pml_control_history(const struct pml_control *control, void *data)
{
	struct pml_ioc_history *out = data;
	pml_auto_free struct pml_ending *endings = calloc(PML_IOC_HISTORY_MAX, sizeof(*endings));
	if (!endings)
		return -ENOMEM;
	size_t count = pml_lease_history(control->leases, out->after, endings, PML_IOC_HISTORY_MAX);
	for (size_t i = 0; i < count; i++)
		fill_ending(&out->endings[i], &endings[i]);
	if (count > 0)
		out->after = endings[count - 1].number;
	out->count = (uint32_t)count;
	return 0;
}
