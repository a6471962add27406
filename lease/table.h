/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * table.h -- the lease state machine, pure: no threads, locks, clocks or I/O
 *
 * Time is passed in (now_ms, never going back) and every effect comes out of
 * two queues: pml_table_next_action() (messages, resumes, releases) and
 * pml_table_next_fence() (keys to kill, blocks to unpin).  manager.c drives it
 * with real threads, tests with a fake clock.
 *
 * Queue links are embedded in leases, sessions and waiters, so a revoke never
 * allocates (I7).
 *
 * Files: table.c (index, leases, clocks, actions), session.c (sessions),
 *        waiters.c (breaks and parked operations), fence.c (the fence ladder).
 * Threads: the caller serialises all calls, except pml_table_may_be_leased().
 * Doc: docs/lease-protocol.md, "States".
 */
#ifndef PML_LEASE_TABLE_H
#define PML_LEASE_TABLE_H

#include <stdatomic.h>

#include "account.h"
#include "interval.h"
#include "pml/lease.h"
#include "pml/list.h"
#include "rules.h"

#define PML_TABLE_SESSION_BUCKETS 64u
#define PML_TABLE_WAITER_BUCKETS  256u
#define PML_TABLE_FILTER_SLOTS	  65536u
#define PML_PEER_BYTES		  64u

/* A fence whose last step failed is tried again so often, so far apart; then it is stuck. */
#define PML_FENCE_RETRIES  3u
#define PML_FENCE_RETRY_MS 100u

#define PML_NEVER_MS UINT64_MAX

/*
 * A request that was told EAGAIN and will come again: the latest of its session.  Younger
 * requests that conflict with it wait, while it is fresh.
 */
struct pml_seeker {
	struct pml_list link; /* pml_table.seekers, oldest first; empty: there is none */
	struct pml_claim claim;
	uint64_t seen_ms; /* its last try */
};

struct pml_lease_session {
	struct pml_list by_id;
	struct pml_list all;	 /* pml_table.sessions, in order of id */
	struct pml_list by_term; /* pml_table.terms while live, soonest expiry first; not if
				    ops->is_local */
	struct pml_list action;	 /* pml_table.session_actions */
	struct pml_list leases;	 /* all of them, by pml_lease.of_session */
	const struct pml_holder_ops *ops;
	void *arg;
	uint64_t id;
	uint64_t expires_ms;
	uint32_t term_ms; /* as its holder was told */
	uint32_t uid;
	struct pml_party *user; /* what its usage is charged to, too */
	struct pml_party *host;
	struct pml_usage usage;
	struct pml_seeker seeker;
	enum pml_fence_step fence_from; /* later fences start here; only climbs */
	bool is_live;			/* neither expired nor ended: may have new leases */
	bool is_ended;			/* pml_session_end() was called: released() is due */
	bool is_died_due;		/* to be logged */
	bool is_evicted;		/* by an administrator */
	bool is_evict_due;		/* its holder is to be told */
	uint64_t since_ms;
	char peer[PML_PEER_BYTES];
	char identity[PML_IDENTITY_BYTES];
};

/* A segment and its key; @key NULL: none yet, or dead. */
struct pml_lease_segment {
	struct pml_segment at;
	void *key;
	uint32_t rkey;
};

/* Allocated by the caller of pml_table_insert(), freed at its PML_ACTION_GONE. */
struct pml_lease {
	struct pml_interval interval; /* in pml_table.ranges */
	struct pml_list by_id;
	struct pml_list all; /* pml_table.leases, in order of id */
	struct pml_list of_session;
	struct pml_list ack_clock;    /* pml_table.acks while the ack clock runs */
	struct pml_list drain_clock;  /* pml_table.drains while the drain clock runs */
	struct pml_list orphan_clock; /* pml_table.orphans while the grace of its file runs */
	struct pml_list action;	      /* pml_table.lease_actions */
	struct pml_list fence;	      /* pml_table.fences or .fence_retries */

	/* Set before pml_table_insert(). */
	struct pml_claim claim;	 /* end_byte may shrink at pml_table_pinned() */
	struct pml_inode *inode; /* a reference; keeps an unlinked file alive */

	struct pml_lease_session *session;
	struct pml_lease_segment *segments; /* constant once GRANTED or FENCING */
	uint32_t nsegments;
	enum pml_lease_state state;
	uint64_t id;
	uint64_t pinned_bytes; /* until pinned: what it may become */
	uint32_t max_segments; /* until pinned: charged */
	uint64_t since_ms;
	uint64_t granted_ms;
	uint64_t key_since_ms; /* when the fence of the key that is next began, or 0 */
	uint64_t orphan_due_ms;
	bool is_orphan;

	uint64_t recalled_ms; /* when the holder was first asked, or 0 */
	uint64_t ack_due_ms;
	uint64_t drain_due_ms;
	uint32_t drain_ms;	      /* as the clock was set, and as the holder is told */
	enum pml_layout_op recall_op; /* PML_OP_COUNT: for another lease */
	bool is_recall_pending;	      /* GRANTING: recall it as soon as it is granted */
	bool has_clocks;	      /* recalled under policy revoke (pending or running) */
	bool is_acked;

	enum pml_end_reason why;
	uint64_t ended_ms;	/* start of fencing */
	uint64_t retry_ms;	/* on fence_retries: when to try again */
	uint32_t fence_segment; /* the one whose key is next */
	uint32_t fence_tries;	/* of the last step, for this segment */
	enum pml_fence_step fence_step;
	uint32_t commits;    /* running: it is not unpinned meanwhile */
	bool is_end_pending; /* GRANTING: end it as soon as its keys are made */
	bool is_cooperative; /* the holder says it has drained */
	bool was_granted;    /* the holder knows it */
	bool is_fenced;	     /* all keys dead, waits for commits */
	bool is_fence_again; /* when it is given up: from its first live key once more */
	bool was_stuck;

	bool is_recall_due, is_stuck_due, is_gone_due; /* queued actions */

	/* Once it is gone: the operation that waited longest for it then, to be logged. */
	int32_t waiter_pid;
	char waiter[PML_WAITER_NAME_BYTES];
};

/* The last leases that ended by force: a ring, in order of their numbers. */
struct pml_history {
	struct pml_ending ending[PML_HISTORY_MAX]; /* .ago_ms is the time of the end here */
	uint64_t total; /* also the last one's number; its place is in front of total % MAX */
};

struct pml_table {
	struct pml_lease_config config;
	struct pml_interval_tree ranges; /* every lease of every inode */
	struct pml_list leases;		 /* in order of id */
	struct pml_list *lease_buckets;	 /* by id; as many as max_leases asks for */
	uint32_t nlease_buckets;
	struct pml_list session_buckets[PML_TABLE_SESSION_BUCKETS];
	struct pml_list waiter_buckets[PML_TABLE_WAITER_BUCKETS]; /* by change.ino, by age */
	struct pml_list held_buckets[PML_TABLE_WAITER_BUCKETS];	  /* of holds, by change.ino */

	/* Clocks: each list is in order of due time. */
	struct pml_list terms, acks, drains, fence_retries, orphans;
	uint64_t waiter_due_ms; /* no waiter's deadline is before this */

	struct pml_list lease_actions, resumes, session_actions;
	struct pml_list sessions; /* in order of id */
	struct pml_list fences;

	struct pml_list seekers;
	struct pml_accounts accounts;

	struct pml_lease_stats stats; /* .leases .sessions .waiters .pinned_bytes are exact */
	struct pml_history history;
	uint64_t last_lease_id;
	uint64_t last_session_id;
	bool is_closing; /* no new sessions, nothing parks */

	/* How many leases per hash of ino; written under the caller's lock, read without. */
	atomic_uint filter[PML_TABLE_FILTER_SLOTS];
};

/* 0, or -EINVAL: a limit or clock of @config is zero, or a policy is none; -ENOMEM. */
int pml_table_init(struct pml_table *tab, const struct pml_lease_config *config) PML_MUST_CHECK;

/*
 * Changes policies, clocks and limits: what begins from now on goes by them.  Clocks that run
 * and terms that holders were told stay; operations that are parked ask again.  -EINVAL as
 * pml_table_init(), and nothing has changed.
 */
int pml_table_reconfigure(struct pml_table *tab,
			  const struct pml_lease_config *config) PML_MUST_CHECK;
/* Frees what the table has allocated.  Assumes: no session, lease or waiter is left. */
void pml_table_fini(struct pml_table *tab);

/* One load, no lock; see pml_guard_ops.may_be_leased. */
bool pml_table_may_be_leased(const struct pml_table *tab, uint64_t ino);

/* ---- sessions (session.c) ----------------------------------------------- */

/*
 * Adds @session, whose memory the caller frees at PML_ACTION_RELEASED; ops, arg, peer and uid
 * are set, the rest is zero.  -EUSERS, -ESHUTDOWN, -ENOMEM.
 */
int pml_table_session_add(struct pml_table *tab, struct pml_lease_session *session,
			  uint64_t now_ms) PML_MUST_CHECK;
struct pml_lease_session *pml_table_session_find(const struct pml_table *tab, uint64_t id);
void pml_table_session_renew(struct pml_table *tab, uint64_t id, uint64_t now_ms);
void pml_table_session_end(struct pml_table *tab, uint64_t id, enum pml_end_reason why,
			   uint64_t now_ms);
/*
 * Ends its leases as PML_END_EVICTED, and then has its holder told.  Harmless for one that has
 * ended, or was evicted before.
 */
void pml_table_session_evict(struct pml_table *tab, struct pml_lease_session *session,
			     uint64_t now_ms);
/* Ends every session for unmounting and lets nothing new in. */
void pml_table_close(struct pml_table *tab, uint64_t now_ms);
/* Fences leases of the sessions whose term has run out.  Part of pml_table_tick(). */
void pml_table_session_tick(struct pml_table *tab, uint64_t now_ms);
/* @session leaves the table. */
void pml_table_session_uncharge(struct pml_table *tab, struct pml_lease_session *session);
/* Lets a session go that has ended, or was evicted, and has no lease any more. */
void pml_table_session_check_released(struct pml_table *tab, struct pml_lease_session *session);

/* ---- leases (table.c) --------------------------------------------------- */

/*
 * Enters @lease (claim and inode set, the rest zero) as GRANTING, so that from now on
 * breaks see it and nothing conflicting is granted.  Errors as of pml_lease_acquire(),
 * and the lease is still the caller's.
 */
int pml_table_insert(struct pml_table *tab, struct pml_lease *lease,
		     uint64_t now_ms) PML_MUST_CHECK;
/*
 * As pml_table_insert() of a read lease with the range of @held, a write lease of the same
 * session, which is no conflict.
 */
int pml_table_insert_beside(struct pml_table *tab, struct pml_lease *lease,
			    const struct pml_lease *held, uint64_t now_ms) PML_MUST_CHECK;
/* The blocks are pinned: @segments becomes the lease's.  @end_byte: what was covered. */
void pml_table_pinned(struct pml_table *tab, struct pml_lease *lease,
		      struct pml_lease_segment *segments, uint32_t nsegments, uint64_t end_byte);
/*
 * All keys are made.  0: GRANTED; else it was ended meanwhile and the caller calls
 * pml_table_grant_failed(): -ESTALE its session ended, -EAGAIN an operation of the same
 * session needs the range.
 */
int pml_table_granted(struct pml_table *tab, struct pml_lease *lease,
		      uint64_t now_ms) PML_MUST_CHECK;
/* Granting failed: fences what keys there are (pinned), or it is gone at once (not pinned). */
void pml_table_grant_failed(struct pml_table *tab, struct pml_lease *lease, uint64_t now_ms);

/* A lease that @session holds and that has not ended, or NULL. */
struct pml_lease *pml_table_find_held(const struct pml_table *tab, uint64_t session,
				      uint64_t lease_id);
struct pml_lease *pml_table_find(const struct pml_table *tab, uint64_t lease_id);
/* -ESTALE. */
int pml_table_ack(struct pml_table *tab, uint64_t session, uint64_t lease_id,
		  uint64_t now_ms) PML_MUST_CHECK;
int pml_table_return(struct pml_table *tab, uint64_t session, uint64_t lease_id,
		     uint64_t now_ms) PML_MUST_CHECK;

/*
 * Asks the holder to return @lease.  @arm_clocks: and revokes if it does not; a recall
 * without clocks gets them when a break under policy revoke joins.
 */
void pml_table_recall(struct pml_table *tab, struct pml_lease *lease, enum pml_layout_op op,
		      bool arm_clocks, uint64_t now_ms);
/* Starts fencing; harmless if it has begun.  Cannot fail (I7). */
void pml_table_end(struct pml_table *tab, struct pml_lease *lease, enum pml_end_reason why,
		   bool is_cooperative, uint64_t now_ms);
/* Every key is dead and every block unpinned (I3): takes @lease out of the table. */
void pml_table_gone(struct pml_table *tab, struct pml_lease *lease, uint64_t now_ms);

/* As pml_lease_commit(); on 0 *ret_lease stays pinned until pml_table_commit_end(). */
int pml_table_commit_begin(struct pml_table *tab, uint64_t session, uint64_t lease_id,
			   uint64_t first_byte, uint64_t len_bytes,
			   struct pml_lease **ret_lease) PML_MUST_CHECK;
void pml_table_commit_end(struct pml_table *tab, struct pml_lease *lease);

/* The file has lost its last name: its leases are recalled when its grace is over. */
void pml_table_orphaned(struct pml_table *tab, uint64_t ino, uint64_t now_ms);

/* The first lease that overlaps the range, rounded out to blocks, and the next ones. */
struct pml_lease *pml_table_first_near(const struct pml_table *tab, uint64_t ino,
				       uint64_t first_byte, uint64_t end_byte);
struct pml_lease *pml_table_next_near(struct pml_lease *lease, uint64_t ino, uint64_t first_byte,
				      uint64_t end_byte);
#define pml_table_for_each_near(lease, tab, ino, first_byte, end_byte)                             \
	for (lease = pml_table_first_near(tab, ino, first_byte, end_byte); lease;                  \
	     lease = pml_table_next_near(lease, ino, first_byte, end_byte))

/* Keeps a list of clocks in order: almost always the new @entry is the last. */
#define pml_table_insert_by_due(list, entry, type, link, due)                                      \
	do {                                                                                       \
		struct pml_list *behind = (list)->prev;                                            \
		while (behind != (list) && pml_list_entry(behind, type, link)->due > (entry)->due) \
			behind = behind->prev;                                                     \
		pml_list_append(behind->next, &(entry)->link);                                     \
	} while (0)

/* ---- breaks (waiters.c) ------------------------------------------------- */

/* pml_guard_ops.admit, cancel and done. */
int pml_table_admit(struct pml_table *tab, const struct pml_layout_change *change,
		    struct pml_waiter *w, uint64_t now_ms) PML_MUST_CHECK;
void pml_table_cancel(struct pml_table *tab, struct pml_waiter *w);
void pml_table_done(struct pml_table *tab, struct pml_waiter *w, uint64_t now_ms);

/* The first lease that @change would meet, or NULL. */
struct pml_lease *pml_table_first_in_the_way(const struct pml_table *tab,
					     const struct pml_layout_change *change);
/* Does a queued operation hold back a new lease with this claim? */
bool pml_table_is_held_back(const struct pml_table *tab, const struct pml_claim *asked);
/* Resumes parked operations near the range with nothing in their way any more. */
void pml_table_recheck_waiters(struct pml_table *tab, uint64_t ino, uint64_t first_byte,
			       uint64_t end_byte);
/* Resumes those that @lease is in the way of, with @verdict. */
void pml_table_fail_waiters(struct pml_table *tab, const struct pml_lease *lease, int verdict);
void pml_table_fail_all_waiters(struct pml_table *tab, int verdict);
/* Ends waits past their deadline.  Part of pml_table_tick(). */
void pml_table_waiter_tick(struct pml_table *tab, uint64_t now_ms);
/* The operation that waits longest for @lease, or NULL. */
const struct pml_waiter *pml_table_first_waiter(const struct pml_table *tab,
						const struct pml_lease *lease);

/* ---- fences (fence.c) --------------------------------------------------- */

/* What the fence thread does next for @lease. */
struct pml_fence_attempt {
	struct pml_lease *lease;
	void *key; /* to make dead, then pml_table_fence_result(); NULL: all are dead: unpin all
		      segments, then pml_table_gone() */
	enum pml_fence_step step;
	bool is_cooperative;
};
/* False: nothing to do now. */
bool pml_table_next_fence(struct pml_table *tab, struct pml_fence_attempt *ret_attempt);
/* The same of this lease alone.  False also: another thread is at it. */
bool pml_table_take_fence(struct pml_table *tab, struct pml_lease *lease,
			  struct pml_fence_attempt *ret_attempt);
/* Result of key_fence() and how long it took. */
void pml_table_fence_result(struct pml_table *tab, struct pml_lease *lease, int err,
			    uint64_t took_ms, uint64_t now_ms);
/* Queues the fence of @lease.  Assumes: state FENCING, on no fence queue. */
void pml_table_fence_start(struct pml_table *tab, struct pml_lease *lease);
/*
 * A holder's access may have ended after all: leases of @session that are stuck, or become
 * so, are FENCING again from their first live key.  Whoever asks for their range from then
 * on waits for them as for any fence.  Harmless if there are none, or no such session.
 */
void pml_table_fence_again(struct pml_table *tab, uint64_t session);
/* Queues retries that are due.  Part of pml_table_tick(). */
void pml_table_fence_tick(struct pml_table *tab, uint64_t now_ms);

/* ---- seekers (seekers.c) ------------------------------------------------- */

/* Does an older, fresh request of another session come before @asked? */
bool pml_table_is_outrun(struct pml_table *tab, const struct pml_claim *asked, uint64_t now_ms);
/* The session was told EAGAIN for @asked, and keeps its place if it had asked for it before. */
void pml_table_seek(struct pml_table *tab, struct pml_lease_session *session,
		    const struct pml_claim *asked, uint64_t now_ms);
void pml_table_seek_end(struct pml_lease_session *session);

/* ---- what was seen (record.c) -------------------------------------------- */

void pml_table_record_span(struct pml_table *tab, enum pml_span span, uint64_t took_ms);
void pml_table_record_refusal(struct pml_table *tab, enum pml_limit limit);
/* @lease is gone: notes who waited, and it in the history if it was not given back. */
void pml_table_record_end(struct pml_table *tab, struct pml_lease *lease, uint64_t now_ms);

/* ---- time and effects (table.c) ----------------------------------------- */

/* Lets everything happen that is due at @now_ms. */
void pml_table_tick(struct pml_table *tab, uint64_t now_ms);
/* When the next tick is due; PML_NEVER_MS. */
uint64_t pml_table_next_due_ms(const struct pml_table *tab);

enum pml_action_kind {
	PML_ACTION_RECALL,   /* ops->recall(lease, op, drain_ms) */
	PML_ACTION_STUCK,    /* log: a fence of lease could not be confirmed */
	PML_ACTION_GONE,     /* tell (below) and free lease */
	PML_ACTION_RESUME,   /* waiter->resume() */
	PML_ACTION_DIED,     /* log: the session's term ran out */
	PML_ACTION_EVICTED,  /* log, ops->evicted() */
	PML_ACTION_RELEASED, /* ops->released(), then free session */
};

struct pml_action {
	enum pml_action_kind kind;
	struct pml_lease *lease;
	struct pml_waiter *waiter;
	struct pml_lease_session *session; /* of lease too */
	enum pml_layout_op op;
	uint32_t drain_ms; /* RECALL; 0: no clock runs */
	bool tell_holder;  /* GONE: ops->revoked() is due */
};

/*
 * Takes the next effect off the queues.  What concerns leases comes before resumes, and
 * releases of sessions come last.  One thread executes them, in order.
 */
bool pml_table_next_action(struct pml_table *tab, struct pml_action *ret_action);
bool pml_table_has_action(const struct pml_table *tab);
/*
 * Instead of the last action of @lease, which is gone: true: nobody has to be told anything, and
 * the caller frees it.  Assumes: no thread executes an action of it.
 */
bool pml_table_take_gone(struct pml_lease *lease);

#endif
