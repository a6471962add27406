/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * account.h -- who uses how much of what is limited (I9)
 *
 * Each lease is charged to its session, to the session's user and to the whole
 * table; each session and each waiting operation to its client host, its user
 * and the table.  A limit of all can be reached only by what sessions use above
 * their share, an equal part of a quarter of it that is kept for each session
 * that may be there: so nobody can use up what an innocent session needs.
 *
 * Files: account.c.
 * Threads: the caller serialises; see table.h.
 * Doc: docs/lease-protocol.md, "Limits".
 */
#ifndef PML_LEASE_ACCOUNT_H
#define PML_LEASE_ACCOUNT_H

#include "pml/lease.h"
#include "pml/list.h"

/* What a lease uses. */
struct pml_usage {
	uint64_t leases;
	uint64_t segments;
	uint64_t pinned_bytes;
};

#define PML_HOST_NAME_BYTES 64u

/*
 * A user, or the host that clients come from: what all its sessions and waiting operations
 * use together.  Lives as long as it has one of these.
 */
struct pml_party {
	struct pml_list link;
	bool is_host;
	uint32_t uid; /* of a user */
	char host[PML_HOST_NAME_BYTES];
	uint32_t sessions;
	uint32_t waiters;
	struct pml_usage usage;
};

struct pml_accounts {
	struct pml_list parties;
	uint64_t nparties;
	struct pml_usage total;
	struct pml_usage excess; /* sum over sessions of what they use above their share */
	uint64_t unbreakable_bytes;
	uint64_t nshares; /* max_sessions, or how many there were when it was lowered below that */
	const struct pml_lease_config *config; /* the table's: its limits */
};

void pml_accounts_init(struct pml_accounts *acc, const struct pml_lease_config *config);
/*
 * The limits have changed and there are @nsessions: call the first once, then the second for each
 * session.  What is above a limit stays; of what is limited in all, each session still gets its
 * share.
 */
void pml_accounts_begin_recount(struct pml_accounts *acc, uint64_t nsessions);
void pml_accounts_recount(struct pml_accounts *acc, const struct pml_usage *session);

/* Assumes: nothing is used. */
void pml_accounts_fini(struct pml_accounts *acc);

/* The share of one session that others cannot use. */
struct pml_usage pml_accounts_share(const struct pml_accounts *acc);

/*
 * Finds or makes a party, which lives on while it has a session or a waiter: call
 * pml_accounts_put() when one of these has been taken away, or none was added.  NULL: no memory.
 * The host of "10.0.0.1:4711" is "10.0.0.1".
 */
struct pml_party *pml_accounts_user(struct pml_accounts *acc, uint32_t uid);
struct pml_party *pml_accounts_host(struct pml_accounts *acc, const char *peer);
void pml_accounts_put(struct pml_accounts *acc, struct pml_party *party);

/*
 * May there be one more session of @host and @user, beside @nsessions in all?
 * -EUSERS; *ret_limit is the one that was reached.
 */
int pml_accounts_admit_session(const struct pml_accounts *acc, const struct pml_party *host,
			       const struct pml_party *user, uint64_t nsessions,
			       enum pml_limit *ret_limit) PML_MUST_CHECK;
/* May one more operation of @user wait, beside @nwaiters in all?  -EAGAIN. */
int pml_accounts_admit_waiter(const struct pml_accounts *acc, const struct pml_party *user,
			      uint64_t nwaiters, enum pml_limit *ret_limit) PML_MUST_CHECK;
/*
 * May a session that uses @session charge @more too?  -EDQUOT a limit of the session or the
 * user, -EUSERS one of all.  @segments: *ret_segments is how many of more->segments fit, at
 * least one.
 */
int pml_accounts_admit_lease(const struct pml_accounts *acc, const struct pml_usage *session,
			     const struct pml_party *user, const struct pml_usage *more,
			     uint32_t *ret_segments, enum pml_limit *ret_limit) PML_MUST_CHECK;
/* May @bytes more be under unbreakable leases?  -EPERM the mount allows none, -EUSERS. */
int pml_accounts_admit_unbreakable(const struct pml_accounts *acc, uint64_t bytes,
				   enum pml_limit *ret_limit) PML_MUST_CHECK;

/* Makes a session's usage @now, for its user and in all. */
void pml_accounts_set(struct pml_accounts *acc, struct pml_usage *session, struct pml_party *user,
		      const struct pml_usage *now);

#endif
