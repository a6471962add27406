/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * record.c -- what the table remembers to be looked at: spans, refusals, forced ends
 *
 * Threads: the caller serialises; see table.h.
 */
#include <string.h>

#include "table.h"

static unsigned int bucket_of(uint64_t ms)
{
	unsigned int bits = ms == 0 ? 0 : 64u - (unsigned int)__builtin_clzll(ms);
	return PML_MIN(bits, PML_HISTOGRAM_BUCKETS - 1);
}

void pml_table_record_span(struct pml_table *tab, enum pml_span span, uint64_t took_ms)
{
	struct pml_histogram *h = &tab->stats.histogram[span];
	h->count++;
	h->sum_ms += took_ms;
	h->max_ms = PML_MAX(h->max_ms, took_ms);
	h->bucket[bucket_of(took_ms)]++;
}

void pml_table_record_refusal(struct pml_table *tab, enum pml_limit limit)
{
	tab->stats.refused_limit++;
	tab->stats.refused[limit]++;
}

static bool is_forced(enum pml_end_reason why)
{
	switch (why) {
	case PML_END_RETURNED:
	case PML_END_SESSION:
	case PML_END_UNMOUNT:
		return false;
	case PML_END_CONFLICT:
	case PML_END_SILENT:
	case PML_END_EXPIRED:
	case PML_END_OWN_CHANGE:
	case PML_END_EVICTED:
		break;
	}
	return true;
}

static void note_waiter(const struct pml_table *tab, struct pml_lease *lease)
{
	const struct pml_waiter *w = pml_table_first_waiter(tab, lease);
	if (!w)
		return;
	lease->waiter_pid = w->pid;
	memcpy(lease->waiter, w->name, sizeof(lease->waiter));
	lease->waiter[sizeof(lease->waiter) - 1] = '\0';
}

void pml_table_record_end(struct pml_table *tab, struct pml_lease *lease, uint64_t now_ms)
{
	if (!lease->was_granted || !is_forced(lease->why))
		return;
	note_waiter(tab, lease);
	struct pml_history *history = &tab->history;
	struct pml_ending *ending = &history->ending[history->total % PML_HISTORY_MAX];
	history->total++;

	uint64_t began_ms = lease->recalled_ms ? lease->recalled_ms : lease->ended_ms;
	*ending = (struct pml_ending){
		.number = history->total,
		.lease_id = lease->id,
		.session = lease->claim.session,
		.ino = lease->claim.ino,
		.first_byte = lease->claim.first_byte,
		.end_byte = lease->claim.end_byte,
		.age_ms = now_ms - lease->since_ms,
		.recalled_ms = now_ms - began_ms,
		.ago_ms = now_ms,
		.mode = lease->claim.mode,
		.why = lease->why,
		.was_recalled = lease->recalled_ms != 0,
		.op = lease->recall_op,
		.waiter_pid = lease->waiter_pid,
	};
	static_assert(sizeof(ending->peer) == sizeof(lease->session->peer), "one size of names");
	memcpy(ending->peer, lease->session->peer, sizeof(ending->peer));
	memcpy(ending->waiter, lease->waiter, sizeof(ending->waiter));
}
