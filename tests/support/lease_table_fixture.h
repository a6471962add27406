/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * lease_table_fixture.h -- a lease table, its clock, and everything that came out of it
 *
 * For test programs of one thread: state is static.
 */
#ifndef LEASE_TABLE_FIXTURE_H
#define LEASE_TABLE_FIXTURE_H

#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "../../lease/table.h"
#include "../tap.h"

#define INO   7u
#define BLOCK 4096u

struct seen {
	enum pml_action_kind kind;
	uint64_t lease_id;
	uint64_t session;
	struct pml_waiter *waiter;
	enum pml_layout_op op;
	uint32_t drain_ms;
	bool tell_holder;
	enum pml_end_reason why;
};

static struct pml_table tab;
static uint64_t now;
static struct seen seen[4096];
static size_t nseen;
static struct pml_inode *const some_inode = (struct pml_inode *)&tab;
/* What the next leases are, besides their mode. */
static bool is_shared, is_unbreakable;
static int fence_calls; /* keys handed out to be fenced since the last reset */

static inline void no_resume(struct pml_waiter *w)
{
	(void)w;
}

static inline void start(void (*adjust)(struct pml_lease_config *config))
{
	struct pml_lease_config config;
	pml_lease_config_default(&config, 1ull << 30);
	config.ack_ms = 100;
	config.drain_ms = 1000;
	config.term_ms = 5000;
	config.fence_ms = 50;
	if (adjust)
		adjust(&config);
	now = 1000;
	nseen = 0;
	is_shared = is_unbreakable = false;
	fence_calls = 0;
	if (pml_table_init(&tab, &config) != 0)
		BAIL_OUT("table");
}

/* Every operation blocks but punch, which revokes. */
static inline void block_all(struct pml_lease_config *config)
{
	for (int i = 0; i < PML_OP_COUNT; i++)
		config->policy[i] = PML_POLICY_BLOCK;
	config->policy[PML_OP_PUNCH] = PML_POLICY_REVOKE;
	config->lease_policy = PML_POLICY_BLOCK;
	config->block_deadline_ms = 3000;
	config->term_ms = 1000000;
}

/* Executes all effects as manager.c does, and remembers them. */
static inline void collect(void)
{
	struct pml_action action;
	while (pml_table_next_action(&tab, &action)) {
		if (nseen == PML_ARRAY_LEN(seen))
			BAIL_OUT("too many effects");
		struct seen *s = &seen[nseen++];
		*s = (struct seen){.kind = action.kind,
				   .waiter = action.waiter,
				   .op = action.op,
				   .drain_ms = action.drain_ms,
				   .tell_holder = action.tell_holder};
		if (action.session)
			s->session = action.session->id;
		if (action.lease) {
			s->lease_id = action.lease->id;
			s->why = action.lease->why;
		}
		if (action.kind == PML_ACTION_GONE) {
			free(action.lease->segments);
			free(action.lease);
		}
		if (action.kind == PML_ACTION_RELEASED)
			free(action.session);
	}
}

static inline size_t count_seen(enum pml_action_kind kind)
{
	collect();
	size_t count = 0;
	for (size_t i = 0; i < nseen; i++)
		count += seen[i].kind == kind;
	return count;
}

static inline const struct seen *last_seen(enum pml_action_kind kind)
{
	static const struct seen nothing;
	collect();
	for (size_t i = nseen; i > 0; i--) {
		if (seen[i - 1].kind == kind)
			return &seen[i - 1];
	}
	return &nothing;
}

/* Lets @ms pass, stopping at each due time as the clock thread does. */
static inline void pass(uint64_t ms)
{
	uint64_t until = now + ms;
	while (pml_table_next_due_ms(&tab) <= until) {
		now = PML_MAX(now, pml_table_next_due_ms(&tab));
		pml_table_tick(&tab, now);
	}
	now = until;
	pml_table_tick(&tab, now);
	collect();
}

/* Executes fences: each key_fence() returns *@errs++ (NULL: 0). */
static inline void run_fences_with(const int *errs, size_t nerrs)
{
	struct pml_fence_attempt attempt;
	size_t i = 0;
	while (pml_table_next_fence(&tab, &attempt)) {
		if (!attempt.key) {
			pml_table_gone(&tab, attempt.lease, now);
			continue;
		}
		fence_calls++;
		int err = i < nerrs ? errs[i++] : 0;
		pml_table_fence_result(&tab, attempt.lease, err, 0, now);
	}
	collect();
}

static inline void run_fences(void)
{
	run_fences_with(NULL, 0);
}

/* A session of @uid that comes from @peer; 0 and *ret_err on refusal. */
static inline uint64_t session_with(const struct pml_holder_ops *ops, const char *peer,
				    uint32_t uid, int *ret_err)
{
	struct pml_lease_session *session = calloc(1, sizeof(*session));
	if (!session)
		BAIL_OUT("memory");
	session->ops = ops;
	session->uid = uid;
	(void)snprintf(session->peer, sizeof(session->peer), "%s", peer);
	*ret_err = pml_table_session_add(&tab, session, now);
	if (*ret_err == 0)
		return session->id;
	free(session);
	return 0;
}

static inline uint64_t session_from(const char *peer, uint32_t uid, int *ret_err)
{
	return session_with(NULL, peer, uid, ret_err);
}

static inline uint64_t session_of(uint32_t uid)
{
	int err;
	uint64_t session = session_from("", uid, &err);
	if (!session)
		BAIL_OUT("session");
	return session;
}

/* Of a program on this machine. */
static inline uint64_t local_session_new(void)
{
	static const struct pml_holder_ops ops = {.is_local = true};
	int err;
	uint64_t session = session_with(&ops, "", 0, &err);
	if (!session)
		BAIL_OUT("session");
	return session;
}

static inline uint64_t session_new(void)
{
	return session_of(0);
}

/* What pml_table_reconfigure() says to the configuration that @adjust makes of the current one. */
static inline int reconfigure(void (*adjust)(struct pml_lease_config *config))
{
	struct pml_lease_config config = tab.config;
	adjust(&config);
	return pml_table_reconfigure(&tab, &config);
}

static inline struct pml_lease *new_lease(uint64_t session, uint64_t first, uint64_t end,
					  enum pml_lease_mode mode)
{
	struct pml_lease *lease = calloc(1, sizeof(*lease));
	if (!lease)
		BAIL_OUT("memory");
	lease->claim = (struct pml_claim){.session = session,
					  .ino = INO,
					  .first_byte = first,
					  .end_byte = end,
					  .mode = mode,
					  .is_shared = is_shared,
					  .is_unbreakable = is_unbreakable};
	lease->inode = some_inode;
	return lease;
}

/* Enters a lease; NULL and *ret_err on refusal. */
static inline struct pml_lease *insert(uint64_t session, uint64_t first, uint64_t end,
				       enum pml_lease_mode mode, int *ret_err)
{
	struct pml_lease *lease = new_lease(session, first, end, mode);
	*ret_err = pml_table_insert(&tab, lease, now);
	if (*ret_err) {
		free(lease);
		return NULL;
	}
	return lease;
}

/* Pins @lease in @count segments with a key each. */
static inline void pin(struct pml_lease *lease, uint32_t count)
{
	struct pml_lease_segment *segments = calloc(count, sizeof(*segments));
	if (!segments)
		BAIL_OUT("memory");
	for (uint32_t i = 0; i < count; i++) {
		segments[i].at.nblocks = 1;
		segments[i].key = &segments[i];
	}
	pml_table_pinned(&tab, lease, segments, count, lease->claim.end_byte);
}

static inline int acquire(uint64_t session, uint64_t first, uint64_t end, enum pml_lease_mode mode,
			  struct pml_lease **ret_lease)
{
	int err;
	struct pml_lease *lease = insert(session, first, end, mode, &err);
	if (!lease)
		return err;
	pin(lease, 2);
	err = pml_table_granted(&tab, lease, now);
	if (err)
		pml_table_grant_failed(&tab, lease, now);
	if (ret_lease)
		*ret_lease = lease;
	return err;
}

static inline struct pml_lease *must_acquire(uint64_t session, uint64_t first, uint64_t end,
					     enum pml_lease_mode mode)
{
	struct pml_lease *lease = NULL;
	if (acquire(session, first, end, mode, &lease) != 0)
		BAIL_OUT("acquire");
	return lease;
}

static inline struct pml_layout_change change_of(enum pml_layout_op op, uint64_t first,
						 uint64_t end)
{
	return (struct pml_layout_change){
		.ino = INO, .first_byte = first, .end_byte = end, .op = op};
}

static inline int admit(enum pml_layout_op op, uint64_t first, uint64_t end, struct pml_waiter *w)
{
	struct pml_layout_change change = change_of(op, first, end);
	return pml_table_admit(&tab, &change, w, now);
}

static inline struct pml_waiter waiter(uint64_t session)
{
	return (struct pml_waiter){.resume = no_resume, .session = session};
}

/* Ends all sessions and checks that nothing is left over; frees everything. */
static inline void finish(void)
{
	pml_table_close(&tab, now);
	run_fences();
	pass(10000);
	run_fences();
	collect();
	CHECK_EQ(tab.stats.leases, 0);
	CHECK_EQ(tab.stats.pinned_bytes, 0);
	CHECK_EQ(tab.stats.sessions, 0);
	CHECK_EQ(tab.stats.waiters, 0);
	CHECK(tab.ranges.root == NULL);
	CHECK(!pml_table_may_be_leased(&tab, INO));
	CHECK(pml_list_is_empty(&tab.acks) && pml_list_is_empty(&tab.drains));
	CHECK(pml_list_is_empty(&tab.fences) && pml_list_is_empty(&tab.fence_retries));
	CHECK(pml_list_is_empty(&tab.orphans) && pml_list_is_empty(&tab.seekers));
	CHECK_EQ(tab.accounts.unbreakable_bytes, 0);
	pml_table_fini(&tab);
}

/* For tables with a stuck lease: frees without checks. */
static inline void finish_stuck(void)
{
	pml_table_close(&tab, now);
	run_fences();
	struct pml_lease *lease, *tmp;
	pml_list_for_each_safe(lease, tmp, &tab.leases, all) {
		free(lease->segments);
		free(lease);
	}
	for (size_t i = 0; i < PML_TABLE_SESSION_BUCKETS; i++) {
		struct pml_lease_session *session, *next;
		pml_list_for_each_safe(session, next, &tab.session_buckets[i], by_id)
			free(session);
	}
	struct pml_party *party, *other;
	pml_list_for_each_safe(party, other, &tab.accounts.parties, link)
		free(party);
	free(tab.lease_buckets);
}

#endif
