/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * local.c -- answers the ioctls on open files of pmemleasefs/ioctl.h: leases for local programs
 *
 * The public structures are those of pml/local.h with fixed layouts.  What is checked here
 * is what the kernel has not: flags, reserved fields, and for what the file is open.
 */
#include "local.h"

#include <string.h>

#include "pmemleasefs/ioctl.h"

static_assert(sizeof(struct pml_ioc_lease_take) == 56 + 64 * 24, "public layout");
static_assert(sizeof(struct pml_ioc_lease_ref) == 16, "public layout");
static_assert(sizeof(struct pml_ioc_lease_commit) == 40, "public layout");
static_assert(sizeof(struct pml_ioc_lease_event) == 32, "public layout");
static_assert((int)PML_IOC_LEASE_SEGMENTS_MAX == (int)PML_LEASE_SEGMENTS_MAX, "same numbers");
static_assert((int)PML_IOC_OP_SNAPSHOT == (int)PML_OP_COUNT - 1, "all are named");

/* ---- taking --------------------------------------------------------------- */

#define FLAGS_KNOWN                                                                                \
	((uint32_t)(PML_IOC_TAKE_WRITE | PML_IOC_TAKE_SHARED | PML_IOC_TAKE_UNBREAKABLE))

static int check_take(const struct pml_fuse_open *open, const struct pml_ioc_lease_take *take)
{
	if (take->reserved || (take->flags & ~FLAGS_KNOWN))
		return -EINVAL;
	bool is_open_for_it = take->flags & PML_IOC_TAKE_WRITE ? open->can_write : open->can_read;
	return is_open_for_it ? 0 : -EBADF;
}

static void fill_take(struct pml_ioc_lease_take *to, const struct pml_grant *from)
{
	to->first_byte = from->first_byte;
	to->lease_id = from->lease_id;
	to->end_byte = from->end_byte;
	to->file_size = from->file_size;
	to->count = from->nsegments;
	for (uint32_t i = 0; i < from->nsegments; i++)
		to->segments[i] = (struct pml_ioc_lease_segment){
			.first_byte = from->segments[i].first_byte,
			.device_byte = from->segments[i].device_byte,
			.len_bytes = from->segments[i].len_bytes,
		};
}

static int take(struct pml_local *local, const struct pml_fuse_open *open, void *data)
{
	struct pml_ioc_lease_take *take = data;
	const struct pml_local_caller caller = {
		.open_id = open->id,
		.uid = open->uid,
		.tid = open->tid,
	};
	const struct pml_lease_wish wish = {
		.ino = open->ino,
		.first_byte = take->first_byte,
		.len_bytes = take->len_bytes,
		.mode = take->flags & PML_IOC_TAKE_WRITE ? PML_LEASE_WRITE : PML_LEASE_READ,
		.is_shared = take->flags & PML_IOC_TAKE_SHARED,
		.is_unbreakable = take->flags & PML_IOC_TAKE_UNBREAKABLE,
	};
	struct pml_grant grant;
	int err = check_take(open, take);
	if (!err)
		err = pml_local_take(local, &caller, &wish, &grant);
	if (!err)
		fill_take(take, &grant);
	return err;
}

/* ---- the others ------------------------------------------------------------ */

static int give_back(struct pml_local *local, const struct pml_fuse_open *open, void *data)
{
	const struct pml_ioc_lease_ref *ref = data;
	return ref->reserved ? -EINVAL : pml_local_return(local, open->id, ref->lease_id);
}

static int ack(struct pml_local *local, const struct pml_fuse_open *open, void *data)
{
	const struct pml_ioc_lease_ref *ref = data;
	return ref->reserved ? -EINVAL : pml_local_ack(local, open->id, ref->lease_id);
}

static int commit(struct pml_local *local, const struct pml_fuse_open *open, void *data)
{
	const struct pml_ioc_lease_commit *c = data;
	if (c->reserved)
		return -EINVAL;
	return pml_local_commit(local, open->id, c->lease_id, c->first_byte, c->len_bytes,
				c->new_size_bytes);
}

static uint32_t public_op(unsigned int op)
{
	return op == PML_LOCAL_OP_UNMOUNT ? PML_IOC_OP_UNMOUNT : op;
}

static int take_event(struct pml_local *local, const struct pml_fuse_open *open, void *data)
{
	struct pml_ioc_lease_event *out = data;
	struct pml_local_event event;
	if (out->reserved)
		return -EINVAL;
	int err = pml_local_event(local, open->id, &event);
	if (err)
		return err;
	*out = (struct pml_ioc_lease_event){
		.version = out->version,
		.kind = event.is_revoked ? PML_IOC_LEASE_REVOKED : PML_IOC_LEASE_RECALL,
		.lease_id = event.lease_id,
	};
	if (event.is_revoked) {
		out->why = event.why;
	} else {
		out->op = public_op(event.op);
		out->drain_ms = event.drain_ms;
	}
	return 0;
}

/* ---- for the front end ------------------------------------------------------ */

static const struct {
	unsigned int cmd;
	bool may_tell;
	int (*answer)(struct pml_local *local, const struct pml_fuse_open *open, void *data);
} calls[] = {
	{PML_IOC_LEASE_TAKE, false, take},	  {PML_IOC_LEASE_RETURN, true, give_back},
	{PML_IOC_LEASE_ACK, false, ack},	  {PML_IOC_LEASE_COMMIT, true, commit},
	{PML_IOC_LEASE_EVENT, false, take_event},
};

static int on_ioctl(void *arg, const struct pml_fuse_open *open, unsigned int cmd, void *data,
		    size_t bytes)
{
	for (size_t i = 0; i < PML_ARRAY_LEN(calls); i++) {
		if (calls[i].cmd != cmd)
			continue;
		uint32_t version = 0; /* the first field of each */
		memcpy(&version, data, sizeof(version));
		if (version != PML_IOC_VERSION)
			return -EINVAL;
		return arg ? calls[i].answer(arg, open, data) : -EPERM;
	}
	return -ENOTTY;
}

static bool on_may_tell(unsigned int cmd)
{
	for (size_t i = 0; i < PML_ARRAY_LEN(calls); i++)
		if (calls[i].cmd == cmd)
			return calls[i].may_tell;
	return false;
}

static bool on_has_event(void *arg, uint64_t open_id)
{
	return pml_local_has_event(arg, open_id);
}

static uint64_t on_session(void *arg, uint64_t open_id)
{
	return arg ? pml_local_session(arg, open_id) : 0;
}

static void on_released(void *arg, uint64_t open_id)
{
	if (arg)
		pml_local_released(arg, open_id);
}

static void on_ending(void *arg)
{
	if (arg)
		pml_local_end(arg);
}

struct pml_fuse_open_ops pml_local_open_ops(struct pml_local *local)
{
	return (struct pml_fuse_open_ops){
		.ioctl = on_ioctl,
		.may_tell = on_may_tell,
		.has_event = local ? on_has_event : NULL,
		.session = on_session,
		.released = on_released,
		.ending = on_ending,
		.arg = local,
	};
}
