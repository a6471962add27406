/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * session.c -- sessions of the lease table: term, death, end, release
 *
 *   live -> dead (term ran out) -> ended -> released
 *   live -----------------------> ended -> released   (a local one always)
 *
 * Threads: the caller serialises; see table.h.
 */
#include "table.h"

static struct pml_list *session_bucket(const struct pml_table *tab, uint64_t id)
{
	const struct pml_list *bucket = &tab->session_buckets[id % PML_TABLE_SESSION_BUCKETS];
	return (struct pml_list *)(uintptr_t)bucket;
}

struct pml_lease_session *pml_table_session_find(const struct pml_table *tab, uint64_t id)
{
	struct pml_lease_session *session;
	pml_list_for_each(session, session_bucket(tab, id), by_id) {
		if (session->id == id)
			return session;
	}
	return NULL;
}

/* The session counts for its host and its user. */
static int charge(struct pml_table *tab, struct pml_lease_session *session)
{
	struct pml_accounts *acc = &tab->accounts;
	struct pml_party *host = pml_accounts_host(acc, session->peer);
	struct pml_party *user = pml_accounts_user(acc, session->uid);
	enum pml_limit limit = PML_LIMIT_SESSIONS;
	int err = host && user
			  ? pml_accounts_admit_session(acc, host, user, tab->stats.sessions, &limit)
			  : -ENOMEM;
	if (err) {
		if (err == -EUSERS)
			pml_table_record_refusal(tab, limit);
		pml_accounts_put(acc, host);
		pml_accounts_put(acc, user);
		return err;
	}
	host->sessions++;
	user->sessions++;
	session->host = host;
	session->user = user;
	tab->stats.sessions++;
	return 0;
}

void pml_table_session_uncharge(struct pml_table *tab, struct pml_lease_session *session)
{
	session->host->sessions--;
	session->user->sessions--;
	pml_accounts_put(&tab->accounts, session->host);
	pml_accounts_put(&tab->accounts, session->user);
	session->host = session->user = NULL;
	tab->stats.sessions--;
}

/*
 * In order of expiry: almost always it is the last.  A local holder has no term: it lives as
 * long as its open file.
 */
static void start_term(struct pml_table *tab, struct pml_lease_session *session, uint64_t now_ms)
{
	pml_list_remove(&session->by_term);
	if (session->ops && session->ops->is_local)
		return;
	session->expires_ms = now_ms + session->term_ms;
	pml_table_insert_by_due(&tab->terms, session, struct pml_lease_session, by_term,
				expires_ms);
}

/* Model: session_add (tests/model/table.pml). */
int pml_table_session_add(struct pml_table *tab, struct pml_lease_session *session, uint64_t now_ms)
{
	if (tab->is_closing)
		return -ESHUTDOWN;
	int err = charge(tab, session);
	if (err)
		return err;
	session->id = ++tab->last_session_id;
	session->since_ms = now_ms;
	session->is_live = true;
	session->term_ms = tab->config.term_ms;
	pml_list_init(&session->action);
	pml_list_init(&session->leases);
	pml_list_init(&session->seeker.link);
	pml_list_init(&session->by_term);
	pml_list_append(session_bucket(tab, session->id), &session->by_id);
	pml_list_append(&tab->sessions, &session->all);
	start_term(tab, session, now_ms);
	return 0;
}

void pml_table_session_renew(struct pml_table *tab, uint64_t id, uint64_t now_ms)
{
	struct pml_lease_session *session = pml_table_session_find(tab, id);
	if (!session || !session->is_live)
		return;
	start_term(tab, session, now_ms);
}

/*
 * No new leases, and the fences of all that it has.  Cannot fail (I7).
 * Model: session_end_leases (tests/model/table.pml).
 */
static void end_leases(struct pml_table *tab, struct pml_lease_session *session,
		       enum pml_end_reason why, uint64_t now_ms)
{
	session->is_live = false;
	pml_list_remove(&session->by_term);
	pml_table_seek_end(session);
	struct pml_lease *lease;
	pml_list_for_each(lease, &session->leases, of_session)
		pml_table_end(tab, lease, why, false, now_ms);
}

/* Model: session_end (tests/model/table.pml). */
static void end_session(struct pml_table *tab, struct pml_lease_session *session,
			enum pml_end_reason why, uint64_t now_ms)
{
	if (session->is_ended)
		return;
	end_leases(tab, session, why, now_ms);
	session->is_ended = true;
	pml_table_session_check_released(tab, session);
}

void pml_table_session_end(struct pml_table *tab, uint64_t id, enum pml_end_reason why,
			   uint64_t now_ms)
{
	struct pml_lease_session *session = pml_table_session_find(tab, id);
	if (session)
		end_session(tab, session, why, now_ms);
}

void pml_table_session_evict(struct pml_table *tab, struct pml_lease_session *session,
			     uint64_t now_ms)
{
	if (session->is_ended || session->is_evicted)
		return;
	end_leases(tab, session, PML_END_EVICTED, now_ms);
	session->is_evicted = true;
	pml_table_session_check_released(tab, session);
}

/* Model: table_close (tests/model/table.pml). */
void pml_table_close(struct pml_table *tab, uint64_t now_ms)
{
	tab->is_closing = true;
	for (size_t i = 0; i < PML_TABLE_SESSION_BUCKETS; i++) {
		struct pml_lease_session *session;
		pml_list_for_each(session, &tab->session_buckets[i], by_id)
			end_session(tab, session, PML_END_UNMOUNT, now_ms);
	}
}

/* Model: session_expire (tests/model/table.pml). */
void pml_table_session_tick(struct pml_table *tab, uint64_t now_ms)
{
	struct pml_lease_session *session, *tmp;
	pml_list_for_each_safe(session, tmp, &tab->terms, by_term) {
		if (session->expires_ms > now_ms)
			break;
		end_leases(tab, session, PML_END_EXPIRED, now_ms);
		tab->stats.sessions_died++;
		session->is_died_due = true;
		pml_list_append(&tab->session_actions, &session->action);
	}
}

/* Model: session_check_released (tests/model/table.pml). */
void pml_table_session_check_released(struct pml_table *tab, struct pml_lease_session *session)
{
	if (session->usage.leases > 0 || (!session->is_ended && !session->is_evicted))
		return;
	session->is_evict_due = !session->is_ended;
	if (pml_list_is_empty(&session->action))
		pml_list_append(&tab->session_actions, &session->action);
}
