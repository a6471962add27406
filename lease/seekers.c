/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * seekers.c -- who asked first: fairness among requests for leases
 *
 * A request that gets EAGAIN is not queued: its client asks again.  Without more,
 * whoever asks at the right moment would win, and others might wait for ever
 * behind requests and breaks that follow each other.  So each session's latest
 * request that got EAGAIN is remembered, oldest first, and goes before younger
 * ones that conflict with it, for as long as it comes again.
 *
 * Threads: the caller serialises; see table.h.
 * Doc: docs/lease-protocol.md, "Fairness".
 */
#include "table.h"

static bool is_fresh(const struct pml_seeker *seeker, uint64_t now_ms)
{
	return now_ms - seeker->seen_ms < PML_SEEK_FRESH_MS;
}

static bool is_same_claim(const struct pml_claim *a, const struct pml_claim *b)
{
	return a->ino == b->ino && a->first_byte == b->first_byte && a->end_byte == b->end_byte &&
	       a->mode == b->mode && a->is_shared == b->is_shared &&
	       a->is_unbreakable == b->is_unbreakable;
}

bool pml_table_is_outrun(struct pml_table *tab, const struct pml_claim *asked, uint64_t now_ms)
{
	struct pml_seeker *seeker, *tmp;
	pml_list_for_each_safe(seeker, tmp, &tab->seekers, link) {
		if (!is_fresh(seeker, now_ms)) {
			pml_list_remove(&seeker->link);
			continue;
		}
		/* What stands behind it in the list is younger. */
		if (seeker->claim.session == asked->session && is_same_claim(&seeker->claim, asked))
			return false;
		if (seeker->claim.session != asked->session &&
		    pml_rules_coexist(&seeker->claim, asked) != 0)
			return true;
	}
	return false;
}

void pml_table_seek(struct pml_table *tab, struct pml_lease_session *session,
		    const struct pml_claim *asked, uint64_t now_ms)
{
	struct pml_seeker *seeker = &session->seeker;
	bool keeps_place = !pml_list_is_empty(&seeker->link) && is_fresh(seeker, now_ms) &&
			   is_same_claim(&seeker->claim, asked);
	seeker->seen_ms = now_ms;
	if (keeps_place)
		return;
	pml_list_remove(&seeker->link);
	seeker->claim = *asked;
	pml_list_append(&tab->seekers, &seeker->link);
}

void pml_table_seek_end(struct pml_lease_session *session)
{
	pml_list_remove(&session->seeker.link);
}
