/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * account.c -- limits: what is used, and whether more may be
 *
 * Threads: the caller serialises; see account.h.
 */
#include <stdlib.h>
#include <string.h>

#include "account.h"

/* A quarter of each limit of all is kept for sessions that use little. */
#define SHARED_OUT 4u

void pml_accounts_init(struct pml_accounts *acc, const struct pml_lease_config *config)
{
	memset(acc, 0, sizeof(*acc));
	pml_list_init(&acc->parties);
	acc->config = config;
	acc->nshares = config->max_sessions;
}

void pml_accounts_fini(struct pml_accounts *acc)
{
	assert(pml_list_is_empty(&acc->parties));
	assert(acc->total.leases == 0 && acc->total.pinned_bytes == 0);
	assert(acc->total.segments == 0 && acc->excess.leases == 0);
}

struct pml_usage pml_accounts_share(const struct pml_accounts *acc)
{
	const struct pml_lease_config *limits = acc->config;
	uint64_t parts = acc->nshares * SHARED_OUT;
	return (struct pml_usage){
		.leases = limits->max_leases / parts,
		.segments = limits->max_segments / parts,
		.pinned_bytes = pml_round_down(limits->max_pinned_bytes / parts, PML_BLOCK_BYTES),
	};
}

/* ---- parties ------------------------------------------------------------ */

static bool is_same(const struct pml_party *a, const struct pml_party *b)
{
	return a->is_host == b->is_host && a->uid == b->uid && strcmp(a->host, b->host) == 0;
}

static struct pml_party *find_or_make(struct pml_accounts *acc, const struct pml_party *wanted)
{
	struct pml_party *party;
	pml_list_for_each(party, &acc->parties, link) {
		if (is_same(party, wanted))
			return party;
	}
	party = malloc(sizeof(*party));
	if (!party)
		return NULL;
	*party = *wanted;
	pml_list_append(&acc->parties, &party->link);
	acc->nparties++;
	return party;
}

struct pml_party *pml_accounts_user(struct pml_accounts *acc, uint32_t uid)
{
	const struct pml_party wanted = {.uid = uid};
	return find_or_make(acc, &wanted);
}

struct pml_party *pml_accounts_host(struct pml_accounts *acc, const char *peer)
{
	struct pml_party wanted = {.is_host = true};
	const char *colon = strrchr(peer, ':');
	size_t bytes = colon ? (size_t)(colon - peer) : strlen(peer);
	memcpy(wanted.host, peer, PML_MIN(bytes, sizeof(wanted.host) - 1));
	return find_or_make(acc, &wanted);
}

void pml_accounts_put(struct pml_accounts *acc, struct pml_party *party)
{
	if (!party || party->sessions > 0 || party->waiters > 0)
		return;
	assert(party->usage.leases == 0 && party->usage.pinned_bytes == 0);
	pml_list_remove(&party->link);
	acc->nparties--;
	free(party);
}

/* ---- questions ---------------------------------------------------------- */

/* Root is bound by the limits of all only, as by quotas elsewhere. */
static bool is_limited(const struct pml_party *user)
{
	return user->uid != 0;
}

/* The greatest number that one of several may have when none was set: all but a quarter. */
static uint32_t or_most(uint32_t limit, uint32_t all)
{
	return limit ? limit : all - all / SHARED_OUT;
}

int pml_accounts_admit_session(const struct pml_accounts *acc, const struct pml_party *host,
			       const struct pml_party *user, uint64_t nsessions,
			       enum pml_limit *ret_limit)
{
	const struct pml_lease_config *limits = acc->config;
	*ret_limit = PML_LIMIT_SESSIONS;
	if (nsessions >= limits->max_sessions)
		return -EUSERS;
	*ret_limit = PML_LIMIT_CLIENT_SESSIONS;
	if (host->sessions >= or_most(limits->max_client_sessions, limits->max_sessions))
		return -EUSERS;
	*ret_limit = PML_LIMIT_USER_SESSIONS;
	if (limits->max_user_sessions && is_limited(user) &&
	    user->sessions >= limits->max_user_sessions)
		return -EUSERS;
	return 0;
}

int pml_accounts_admit_waiter(const struct pml_accounts *acc, const struct pml_party *user,
			      uint64_t nwaiters, enum pml_limit *ret_limit)
{
	const struct pml_lease_config *limits = acc->config;
	*ret_limit = PML_LIMIT_WAITERS;
	if (nwaiters >= limits->max_waiters)
		return -EAGAIN;
	*ret_limit = PML_LIMIT_USER_WAITERS;
	if (is_limited(user) &&
	    user->waiters >= or_most(limits->max_user_waiters, limits->max_waiters))
		return -EAGAIN;
	return 0;
}

/* How much more fits below a limit. */
static uint64_t room(uint64_t limit, uint64_t used)
{
	return limit > used ? limit - used : 0;
}

/* How much more a session may use of something that is limited in all. */
static uint64_t room_of_all(uint64_t limit, uint64_t nshares, uint64_t share, uint64_t excess,
			    uint64_t used)
{
	return room(share, used) + room(limit - share * nshares, excess);
}

static uint64_t user_room(const struct pml_party *user, uint64_t limit, uint64_t used)
{
	return limit && is_limited(user) ? room(limit, used) : UINT64_MAX;
}

/* One kind of thing: what is wanted, and what there is room for. */
struct question {
	uint64_t want;
	uint64_t session_room, user_room, all_room;
	enum pml_limit session_limit, user_limit, all_limit;
};

static int judge(const struct question *q, enum pml_limit *ret_limit)
{
	*ret_limit = q->session_limit;
	if (q->want > q->session_room)
		return -EDQUOT;
	*ret_limit = q->user_limit;
	if (q->want > q->user_room)
		return -EDQUOT;
	*ret_limit = q->all_limit;
	return q->want > q->all_room ? -EUSERS : 0;
}

int pml_accounts_admit_lease(const struct pml_accounts *acc, const struct pml_usage *session,
			     const struct pml_party *user, const struct pml_usage *more,
			     uint32_t *ret_segments, enum pml_limit *ret_limit)
{
	const struct pml_lease_config *l = acc->config;
	const struct pml_usage share = pml_accounts_share(acc);
	const struct question leases = {
		more->leases,
		room(l->max_session_leases, session->leases),
		user_room(user, l->max_user_leases, user->usage.leases),
		room_of_all(l->max_leases, acc->nshares, share.leases, acc->excess.leases,
			    session->leases),
		PML_LIMIT_SESSION_LEASES,
		PML_LIMIT_USER_LEASES,
		PML_LIMIT_LEASES,
	};
	const struct question bytes = {
		more->pinned_bytes,
		room(l->max_session_pinned_bytes, session->pinned_bytes),
		user_room(user, l->max_user_pinned_bytes, user->usage.pinned_bytes),
		room_of_all(l->max_pinned_bytes, acc->nshares, share.pinned_bytes,
			    acc->excess.pinned_bytes, session->pinned_bytes),
		PML_LIMIT_SESSION_PINNED,
		PML_LIMIT_USER_PINNED,
		PML_LIMIT_PINNED,
	};
	/* A lease may be cut short behind any of its segments. */
	const struct question segments = {
		PML_MIN(more->segments, 1u),
		room(l->max_session_segments, session->segments),
		user_room(user, l->max_user_segments, user->usage.segments),
		room_of_all(l->max_segments, acc->nshares, share.segments, acc->excess.segments,
			    session->segments),
		PML_LIMIT_SESSION_SEGMENTS,
		PML_LIMIT_USER_SEGMENTS,
		PML_LIMIT_SEGMENTS,
	};
	int err = judge(&leases, ret_limit);
	if (!err)
		err = judge(&bytes, ret_limit);
	if (!err)
		err = judge(&segments, ret_limit);
	if (err)
		return err;
	uint64_t fit = PML_MIN(more->segments, segments.session_room);
	fit = PML_MIN(fit, segments.user_room);
	*ret_segments = (uint32_t)PML_MIN(fit, segments.all_room);
	return 0;
}

int pml_accounts_admit_unbreakable(const struct pml_accounts *acc, uint64_t bytes,
				   enum pml_limit *ret_limit)
{
	uint64_t limit = acc->config->max_unbreakable_bytes;
	*ret_limit = PML_LIMIT_UNBREAKABLE;
	if (limit == 0)
		return -EPERM;
	return bytes > room(limit, acc->unbreakable_bytes) ? -EUSERS : 0;
}

/* ---- changes ------------------------------------------------------------ */

static uint64_t above(uint64_t used, uint64_t share)
{
	return used > share ? used - share : 0;
}

static void move(uint64_t *sum, uint64_t from, uint64_t to)
{
	*sum += to - from; /* unsigned: wraps back */
}

void pml_accounts_set(struct pml_accounts *acc, struct pml_usage *session, struct pml_party *user,
		      const struct pml_usage *now)
{
	const struct pml_usage share = pml_accounts_share(acc);
	struct pml_usage *sums[] = {&acc->total, &user->usage};
	for (size_t i = 0; i < PML_ARRAY_LEN(sums); i++) {
		move(&sums[i]->leases, session->leases, now->leases);
		move(&sums[i]->segments, session->segments, now->segments);
		move(&sums[i]->pinned_bytes, session->pinned_bytes, now->pinned_bytes);
	}
	move(&acc->excess.leases, above(session->leases, share.leases),
	     above(now->leases, share.leases));
	move(&acc->excess.segments, above(session->segments, share.segments),
	     above(now->segments, share.segments));
	move(&acc->excess.pinned_bytes, above(session->pinned_bytes, share.pinned_bytes),
	     above(now->pinned_bytes, share.pinned_bytes));
	*session = *now;
}

void pml_accounts_begin_recount(struct pml_accounts *acc, uint64_t nsessions)
{
	acc->nshares = PML_MAX((uint64_t)acc->config->max_sessions, nsessions);
	acc->excess = (struct pml_usage){0};
}

void pml_accounts_recount(struct pml_accounts *acc, const struct pml_usage *session)
{
	const struct pml_usage share = pml_accounts_share(acc);
	acc->excess.leases += above(session->leases, share.leases);
	acc->excess.segments += above(session->segments, share.segments);
	acc->excess.pinned_bytes += above(session->pinned_bytes, share.pinned_bytes);
}
