/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * rules.c -- conflicts, policy defaults and names
 *
 * Threads: pure functions, no state.
 * Doc: docs/lease-protocol.md, "Conflicts".
 */
#include <string.h>

#include "rules.h"

static bool overlaps(uint64_t first_a, uint64_t end_a, uint64_t first_b, uint64_t end_b)
{
	return first_a < end_b && first_b < end_a;
}

void pml_rules_round_out(uint64_t *first_byte, uint64_t *end_byte)
{
	*first_byte = pml_round_down(*first_byte, PML_BLOCK_BYTES);
	if (*end_byte > UINT64_MAX - PML_BLOCK_BYTES)
		*end_byte = UINT64_MAX;
	else
		*end_byte = pml_round_up(*end_byte, PML_BLOCK_BYTES);
}

bool pml_rules_owns(const struct pml_claim *claim)
{
	return claim->mode == PML_LEASE_WRITE || claim->is_shared;
}

static void reach_of(const struct pml_claim *claim, uint64_t *ret_first, uint64_t *ret_end)
{
	*ret_first = claim->first_byte;
	*ret_end = claim->end_byte;
	if (pml_rules_owns(claim))
		pml_rules_round_out(ret_first, ret_end);
}

int pml_rules_coexist(const struct pml_claim *held, const struct pml_claim *asked)
{
	if (held->ino != asked->ino)
		return 0;
	if (held->is_shared && asked->is_shared)
		return 0;
	if (!pml_rules_owns(held) && !pml_rules_owns(asked))
		return 0;

	uint64_t held_first, held_end, asked_first, asked_end;
	reach_of(held, &held_first, &held_end);
	reach_of(asked, &asked_first, &asked_end);
	if (!overlaps(held_first, held_end, asked_first, asked_end))
		return 0;
	return held->session == asked->session ? -EDEADLK : -EAGAIN;
}

bool pml_rules_is_in_the_way(const struct pml_claim *held, const struct pml_layout_change *change)
{
	if (held->ino != change->ino)
		return false;
	if (change->writers_only && !pml_rules_owns(held))
		return false;

	uint64_t first_byte = change->first_byte;
	uint64_t end_byte = change->end_byte;
	if (change->op == PML_OP_UNSHARE)
		pml_rules_round_out(&first_byte, &end_byte);
	return overlaps(held->first_byte, held->end_byte, first_byte, end_byte);
}

void pml_lease_config_default(struct pml_lease_config *ret_config, uint64_t device_bytes)
{
	*ret_config = (struct pml_lease_config){
		.lease_policy = PML_POLICY_REVOKE,
		.ack_ms = 2000,
		.drain_ms = 10000,
		.block_deadline_ms = 0,
		.term_ms = 30000,
		.fence_ms = 5000,
		.orphan_grace_ms = 60000,
		.max_sessions = 64,
		.max_leases = 65536,
		.max_session_leases = 1024,
		.max_segments = 1u << 20,
		.max_session_segments = 1u << 16,
		.max_waiters = 4096,
		.max_session_pinned_bytes = device_bytes / 2,
		.max_pinned_bytes = device_bytes - device_bytes / 4,
	};
	for (size_t i = 0; i < PML_OP_COUNT; i++)
		ret_config->policy[i] = PML_POLICY_REVOKE;
	/* Neither saving space nor order is a reason to take a lease away. */
	ret_config->policy[PML_OP_DEDUPE] = PML_POLICY_EBUSY;
	ret_config->policy[PML_OP_RELOCATE] = PML_POLICY_SKIP;
}

/* Housekeeping, which may leave a range alone and come back later. */
bool pml_policy_may_skip(enum pml_layout_op op)
{
	return op == PML_OP_DEDUPE || op == PML_OP_RELOCATE;
}

/* ---- names -------------------------------------------------------------- */

static const char *const op_names[] = {
	[PML_OP_TRUNCATE] = "truncate",	  [PML_OP_PUNCH] = "punch",
	[PML_OP_UNSHARE] = "unshare",	  [PML_OP_CLONE_SRC] = "clone-src",
	[PML_OP_CLONE_DST] = "clone-dst", [PML_OP_ZERO] = "zero",
	[PML_OP_COLLAPSE] = "collapse",	  [PML_OP_INSERT] = "insert",
	[PML_OP_DEDUPE] = "dedupe",	  [PML_OP_RELOCATE] = "relocate",
	[PML_OP_SNAPSHOT] = "snapshot",	  [PML_RECALL_LEASE] = "lease",
	[PML_RECALL_ORPHAN] = "orphan",
};

static const char *const policy_names[] = {
	[PML_POLICY_REVOKE] = "revoke",
	[PML_POLICY_EBUSY] = "ebusy",
	[PML_POLICY_BLOCK] = "block",
	[PML_POLICY_SKIP] = "skip",
};

static const char *const end_names[] = {
	[PML_END_RETURNED] = "returned",     [PML_END_CONFLICT] = "conflict",
	[PML_END_SILENT] = "silent",	     [PML_END_EXPIRED] = "expired",
	[PML_END_SESSION] = "session",	     [PML_END_UNMOUNT] = "unmount",
	[PML_END_OWN_CHANGE] = "own-change", [PML_END_EVICTED] = "evicted",
};

static const char *const state_names[] = {
	[PML_LEASE_GRANTING] = "granting",   [PML_LEASE_GRANTED] = "granted",
	[PML_LEASE_RECALLING] = "recalling", [PML_LEASE_FENCING] = "fencing",
	[PML_LEASE_STUCK] = "stuck",
};

static const char *const limit_names[] = {
	[PML_LIMIT_SESSIONS] = "max_sessions",
	[PML_LIMIT_CLIENT_SESSIONS] = "max_client_sessions",
	[PML_LIMIT_USER_SESSIONS] = "max_user_sessions",
	[PML_LIMIT_LEASES] = "max_leases",
	[PML_LIMIT_SESSION_LEASES] = "max_session_leases",
	[PML_LIMIT_USER_LEASES] = "max_user_leases",
	[PML_LIMIT_SEGMENTS] = "max_segments",
	[PML_LIMIT_SESSION_SEGMENTS] = "max_session_segments",
	[PML_LIMIT_USER_SEGMENTS] = "max_user_segments",
	[PML_LIMIT_PINNED] = "max_pinned",
	[PML_LIMIT_SESSION_PINNED] = "max_session_pinned",
	[PML_LIMIT_USER_PINNED] = "max_user_pinned",
	[PML_LIMIT_WAITERS] = "max_waiters",
	[PML_LIMIT_USER_WAITERS] = "max_user_waiters",
	[PML_LIMIT_UNBREAKABLE] = "max_unbreakable",
};
static_assert(PML_ARRAY_LEN(limit_names) == PML_LIMIT_COUNT, "all are named, as the options");

static const char *const span_names[] = {
	[PML_SPAN_GRANT] = "grant",   [PML_SPAN_HELD] = "held",	    [PML_SPAN_ACK] = "ack",
	[PML_SPAN_RETURN] = "return", [PML_SPAN_REVOKE] = "revoke", [PML_SPAN_FENCE] = "fence",
	[PML_SPAN_UNPIN] = "unpin",   [PML_SPAN_WAIT] = "wait",
};
static_assert(PML_ARRAY_LEN(span_names) == PML_SPAN_COUNT, "all are named");

/* The name at @i, or "unknown": the number may come from the wire. */
static const char *name_at(const char *const *names, size_t count, size_t i)
{
	return i < count ? names[i] : "unknown";
}

/* The index of @name among @count names, or -EINVAL. */
static int index_of(const char *const *names, size_t count, const char *name)
{
	for (size_t i = 0; i < count; i++) {
		if (strcmp(names[i], name) == 0)
			return (int)i;
	}
	return -EINVAL;
}

const char *pml_layout_op_name(enum pml_layout_op op)
{
	return name_at(op_names, PML_ARRAY_LEN(op_names), (size_t)op);
}

const char *pml_policy_name(enum pml_policy policy)
{
	return name_at(policy_names, PML_ARRAY_LEN(policy_names), (size_t)policy);
}

const char *pml_end_reason_name(enum pml_end_reason why)
{
	return name_at(end_names, PML_ARRAY_LEN(end_names), (size_t)why);
}

const char *pml_lease_state_name(enum pml_lease_state state)
{
	return name_at(state_names, PML_ARRAY_LEN(state_names), (size_t)state);
}

const char *pml_limit_name(enum pml_limit limit)
{
	return name_at(limit_names, PML_ARRAY_LEN(limit_names), (size_t)limit);
}

const char *pml_span_name(enum pml_span span)
{
	return name_at(span_names, PML_ARRAY_LEN(span_names), (size_t)span);
}

int pml_policy_from_name(const char *name, enum pml_policy *ret_policy)
{
	int i = index_of(policy_names, PML_ARRAY_LEN(policy_names), name);
	if (i < 0)
		return i;
	*ret_policy = (enum pml_policy)i;
	return 0;
}

int pml_layout_op_from_name(const char *name, enum pml_layout_op *ret_op)
{
	int i = index_of(op_names, PML_OP_COUNT, name);
	if (i < 0)
		return i;
	*ret_op = (enum pml_layout_op)i;
	return 0;
}
