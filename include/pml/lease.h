/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * lease.h -- the lease manager: who may reach which blocks directly, until when
 *
 * A session (one client connection) acquires leases on byte ranges of files.
 * The manager pins the blocks, asks the session's transport for a key per
 * segment, and answers the filesystem's guard questions (pml/guard.h) by
 * recalling, revoking, blocking or refusing, by policy.
 *
 *   granting -> granted -> recalling -> fencing -> gone
 *
 * Every end goes through fencing, a voluntary return too (I3).  The states,
 * clocks and messages are in docs/lease-protocol.md.
 *
 * Threads: every function may be called from any thread without locks.  The
 * manager owns one thread for clocks and one for fences; callbacks say which
 * thread runs them.
 */
#ifndef PML_LEASE_H
#define PML_LEASE_H

#if PML_LAYER < 2
#error "dependencies go one way: tools, rdma, lease, fs, base (docs/design.md)"
#endif

#include "pml/base.h"
#include "pml/fs.h"
#include "pml/guard.h"

struct pml_lease_manager;

enum pml_policy {
	PML_POLICY_REVOKE,
	PML_POLICY_EBUSY,
	PML_POLICY_BLOCK,
	PML_POLICY_SKIP, /* only for what pml_policy_may_skip() says */
};

struct pml_lease_config {
	enum pml_policy policy[PML_OP_COUNT];
	enum pml_policy lease_policy; /* when a lease request meets a conflicting lease */
	bool ebusy_recalls;	      /* policy ebusy: the holder is asked too, without clocks */
	uint32_t ack_ms;	      /* recall to first sign of life; default 2000 */
	uint32_t drain_ms;	      /* recall to return; default 10000 */
	uint32_t block_deadline_ms;   /* policy block ends in EBUSY after this; 0: never */
	uint32_t term_ms;  /* a session that is silent this long has died; default 30000 */
	uint32_t fence_ms; /* a fence unconfirmed this long is escalated; default 5000 */
	/* A file without names keeps its leases so long, then they are recalled; 0: for ever. */
	uint32_t orphan_grace_ms; /* default 60000 */

	/*
	 * Limits.  Of all; of one client's session (or, for sessions, of the host that it comes
	 * from); of one user (0: none, but waiters; uid 0 has none).  A quarter of a limit of all
	 * is kept in equal parts for each session that may be there.
	 */
	uint32_t max_sessions;	      /* default 64 */
	uint32_t max_client_sessions; /* of a host; 0, the default: all but a quarter */
	uint32_t max_user_sessions;
	uint32_t max_leases;	     /* default 65536 */
	uint32_t max_session_leases; /* default 1024 */
	uint32_t max_user_leases;
	uint32_t max_segments;	       /* default 1048576 */
	uint32_t max_session_segments; /* default 65536 */
	uint32_t max_user_segments;
	uint32_t max_waiters;		   /* parked operations; default 4096 */
	uint32_t max_user_waiters;	   /* 0, the default: all but a quarter */
	uint64_t max_pinned_bytes;	   /* default: 3/4 of the device */
	uint64_t max_session_pinned_bytes; /* default: half of the device */
	uint64_t max_user_pinned_bytes;
	uint64_t max_unbreakable_bytes; /* pinned by unbreakable leases; 0, the default: none */
};

/* A limit that was reached. */
enum pml_limit {
	PML_LIMIT_SESSIONS,
	PML_LIMIT_CLIENT_SESSIONS,
	PML_LIMIT_USER_SESSIONS,
	PML_LIMIT_LEASES,
	PML_LIMIT_SESSION_LEASES,
	PML_LIMIT_USER_LEASES,
	PML_LIMIT_SEGMENTS,
	PML_LIMIT_SESSION_SEGMENTS,
	PML_LIMIT_USER_SEGMENTS,
	PML_LIMIT_PINNED,
	PML_LIMIT_SESSION_PINNED,
	PML_LIMIT_USER_PINNED,
	PML_LIMIT_WAITERS,
	PML_LIMIT_USER_WAITERS,
	PML_LIMIT_UNBREAKABLE,
	PML_LIMIT_COUNT,
};

/* Fills in the defaults for a device of this payload. */
void pml_lease_config_default(struct pml_lease_config *ret_config, uint64_t device_bytes);

#define PML_LEASE_SEGMENTS_MAX 64u	    /* segments in one lease */
#define PML_LEASE_BYTES_MAX    (1ull << 30) /* bytes in one lease */

enum pml_lease_mode { PML_LEASE_READ, PML_LEASE_WRITE };

/* What a recall is for, besides the operations of enum pml_layout_op. */
#define PML_RECALL_LEASE  PML_OP_COUNT				   /* another lease */
#define PML_RECALL_ORPHAN ((enum pml_layout_op)(PML_OP_COUNT + 1)) /* the file has no name */

enum pml_lease_state {
	PML_LEASE_GRANTING, /* in the table, pins and keys being made */
	PML_LEASE_GRANTED,
	PML_LEASE_RECALLING, /* the holder was asked to return it */
	PML_LEASE_FENCING,   /* keys being made dead */
	PML_LEASE_STUCK,     /* no fence could be confirmed: stays pinned, waiters get -EIO; until
				pml_session_fence_again() */
};

/* Longest name of an identity that is kept, with its terminating zero. */
#define PML_IDENTITY_BYTES 64

/* Why a lease ends; travels to the client in words (I10). */
enum pml_end_reason {
	PML_END_RETURNED, /* the holder gave it back */
	PML_END_CONFLICT, /* a layout operation or lease request needed the range, no return in time
			   */
	PML_END_SILENT,	  /* no sign of life after a recall (ack clock) */
	PML_END_EXPIRED,  /* the session's term ran out */
	PML_END_SESSION,  /* the session ended */
	PML_END_UNMOUNT,  /* the filesystem is going away */
	PML_END_OWN_CHANGE, /* the holder's own layout operation (counts as a return) */
	PML_END_EVICTED,    /* an administrator has ended the session */
};

/* How hard a fence is; the ladder that escalation climbs. */
enum pml_fence_step {
	PML_FENCE_KEY,	      /* make this one key dead; the connection lives on */
	PML_FENCE_CONNECTION, /* destroy the holder's connection, then the key */
};
#define PML_FENCE_STEPS 2

/* What a session's transport does for the manager.  @session_arg as in pml_session_new(). */
struct pml_holder_ops {
	/*
	 * Makes a key that reaches exactly this segment over this session's connection (I6)
	 * and reserves what its fence will need (I7).  It lets read for a read lease and write
	 * for a write lease; with @may_read (pml_lease_wish) that may read too.  A segment of no
	 * blocks lies in memory of the process, not on the device.
	 * Runs in the thread of pml_lease_acquire(), without locks.
	 */
	int (*key_new)(void *session_arg, const struct pml_segment *segment, bool for_write,
		       bool may_read, uint32_t *ret_rkey, void **ret_key);

	/*
	 * Makes @key dead.  Returns 0 only when no remote access through it can touch or
	 * return memory any more, also none already under way ("proven" for the device,
	 * docs/design.md "Fences").  @is_cooperative: the holder has drained and returned.
	 * On 0 @key is freed.  Runs in the fence thread, or in pml_lease_return_finish(), for one
	 * key in one of them; may block for up to fence_ms; on
	 * error @key stays valid and the next step is tried.  A key whose fence was given up
	 * comes here again after pml_session_fence_again().
	 */
	int (*key_fence)(void *session_arg, void *key, enum pml_fence_step step,
			 bool is_cooperative);

	/*
	 * Queues a recall / revoked message; must not block.  Lost is lost: clocks go on.
	 * In the clock thread, without locks; also for a session that has ended, until
	 * released().  @op: or PML_RECALL_LEASE, PML_RECALL_ORPHAN.  @drain_ms 0: no clock runs
	 * (policy block); a second recall of the same lease says that one has begun.
	 */
	void (*recall)(void *session_arg, uint64_t lease_id, enum pml_layout_op op,
		       uint32_t drain_ms);
	void (*revoked)(void *session_arg, uint64_t lease_id, enum pml_end_reason why);

	/*
	 * The last lease of a session that ended is gone; @session_arg is not used again.
	 * In the clock thread, without locks, once per session, after pml_session_end()
	 * or in pml_lease_manager_free().
	 */
	void (*released)(void *session_arg);

	/*
	 * An administrator has ended the session, and its last lease is gone: tells the holder
	 * and ends the connection, so that pml_session_end() follows.  Must not block.  In the
	 * clock thread, without locks, once, before released(); not if the session has ended by
	 * itself meanwhile.  NULL: what is left of it ends when its holder goes.
	 */
	void (*evicted)(void *session_arg);

	/*
	 * A program on this machine (pml/local.h).  No term runs, as its end is heard of.  Its
	 * own change is made by the program itself: it has drained, as on a return.
	 */
	bool is_local;
};

/* What others have to hear of, because they remember what a file is like. */
struct pml_lease_hooks {
	/*
	 * Remote bytes may have changed the range; @len_bytes 0: the attributes alone (a write
	 * lease was granted, which may have allocated).
	 * @may_wait: the client gets its answer (to a commit, to the return of a write lease)
	 *            when this returns, and no lock is held; else it must not block, nor call
	 *            the manager or the filesystem (the end of a lease)
	 */
	void (*contents_changed)(void *arg, uint64_t ino, uint64_t first_byte, uint64_t len_bytes,
				 bool may_wait);
	void *arg;
};

/* Starts the manager and its threads, and installs it as the filesystem's guard. */
int pml_lease_manager_new(struct pml_fs *fs, const struct pml_lease_config *config,
			  const struct pml_lease_hooks *hooks,
			  struct pml_lease_manager **ret_mgr) PML_MUST_CHECK;

/*
 * Ends every session (PML_END_UNMOUNT), waits until all fences are confirmed (at most
 * 3 * fence_ms), resumes parked operations with -EINTR, stops the threads, removes the
 * guard.  Returns 0, or -EBUSY when a lease is stuck or a waiting operation did not end:
 * then nothing may be freed and the process must end (which destroys the connections).
 */
int pml_lease_manager_free(struct pml_lease_manager *mgr) PML_MUST_CHECK;

/* ---- sessions ----------------------------------------------------------- */

/*
 * @peer: where it comes from, for display; copied.  What is in front of its last colon is the
 *        host whose sessions are limited together
 * @uid:  whom it acts as: whose limits it counts against
 * *ret_session is never 0.  -EUSERS: a limit of sessions is reached.  -ESHUTDOWN: unmounting.
 */
int pml_session_new(struct pml_lease_manager *mgr, const struct pml_holder_ops *ops,
		    void *session_arg, const char *peer, uint32_t uid,
		    uint64_t *ret_session) PML_MUST_CHECK;
/* Under which name it has proved who it is, for display; copied. */
void pml_session_set_identity(struct pml_lease_manager *mgr, uint64_t session,
			      const char *identity);
/*
 * How long it may be silent: the term that was configured when it began, and stays its own.
 * 0: no such session.
 */
uint32_t pml_session_term_ms(struct pml_lease_manager *mgr, uint64_t session);
/* A sign of life: renews the term of all its leases. */
void pml_session_renew(struct pml_lease_manager *mgr, uint64_t session);
/*
 * The connection is gone or closing: all its leases are fenced.  Returns at once;
 * ops->released() follows, even from within this call.
 */
void pml_session_end(struct pml_lease_manager *mgr, uint64_t session, enum pml_end_reason why);
/*
 * What kept fences from being confirmed may be over: keys of the session's stuck leases, and
 * of those that are about to become stuck, go to key_fence() once more.  Only that confirms
 * them (I3).  Returns at once; harmless for a session that is gone.
 */
void pml_session_fence_again(struct pml_lease_manager *mgr, uint64_t session);

/*
 * pml_session_evict() - take everything from a session, and end it
 * @ret_leases: how many leases it had
 *
 * No new leases from here on; each that it has is revoked whatever its kind, as PML_END_EVICTED.
 * On 0 each fence is confirmed (I3), and the connection has ended; of a local holder, who is
 * killed if it has a lease, only the leases are gone.  Waits at most 4 * fence_ms.
 *   -ESRCH      no such session, or it is ending by itself
 *   -EIO        the fence of a lease cannot be confirmed: it is stuck
 *   -ETIMEDOUT  it goes on, and is not over yet
 * Any thread but those of the manager, without locks.
 */
int pml_session_evict(struct pml_lease_manager *mgr, uint64_t session,
		      uint32_t *ret_leases) PML_MUST_CHECK;

/* ---- leases ------------------------------------------------------------- */

struct pml_grant_segment {
	uint64_t first_byte; /* in the file */
	uint64_t len_bytes;
	uint64_t remote_addr; /* to use with rkey */
	uint64_t device_byte; /* where it lies on the device */
	uint32_t rkey;
};

struct pml_grant {
	uint64_t lease_id; /* never reused while the filesystem is mounted */
	uint64_t first_byte;
	uint64_t end_byte;    /* exclusive; may be less than asked */
	uint64_t file_size;   /* at the grant */
	uint64_t written_end; /* of the range; blocks behind it may read as zeros until a commit */
	uint32_t term_ms;
	/*
	 * What lies between segments reads as zeros (read leases only), if a read by some key of
	 * the lease has succeeded since: so there is one at least, for remote holders.
	 */
	uint32_t nsegments;
	struct pml_grant_segment segments[PML_LEASE_SEGMENTS_MAX];
};

/* What a session asks for. */
struct pml_lease_wish {
	uint64_t ino;
	uint64_t first_byte;
	uint64_t len_bytes; /* 1 to PML_LEASE_BYTES_MAX; a write lease is rounded out to blocks */
	enum pml_lease_mode mode;
	bool is_shared;	     /* beside leases that asked for it too, whatever their modes */
	bool is_unbreakable; /* what needs its range fails with EBUSY; it is never recalled */
	bool may_read;	     /* a write lease whose holder is allowed to read the file as well */
};

/*
 * pml_lease_request() - lend a range of a file to a session
 *
 * Who was told EAGAIN has the first claim on its range for PML_SEEK_FRESH_MS from its last
 * try: younger requests that conflict with it get EAGAIN meanwhile.
 *
 * Returns 0, or
 *   -EAGAIN   a conflicting lease was recalled, an operation waits on the range, or somebody
 *             else asked earlier: ask again in a moment
 *   -EBUSY    a conflicting lease that is unbreakable, or policy ebusy
 *   -EDEADLK  conflicts with a lease of the same session: return that first
 *   -EDQUOT   a limit of this session or user; -EUSERS a limit of all
 *   -EPERM    unbreakable, and the mount allows none
 *   -ESTALE   no such session, or it is ending
 *   -EIO      a conflicting lease is stuck
 *   -EINVAL   range; and what pml_file_pin() and key_new() return
 * The caller has checked permission.
 */
#define PML_SEEK_FRESH_MS 1000u
int pml_lease_request(struct pml_lease_manager *mgr, uint64_t session,
		      const struct pml_lease_wish *wish,
		      struct pml_grant *ret_grant) PML_MUST_CHECK;

/* One without anything special. */
static inline PML_MUST_CHECK int pml_lease_acquire(struct pml_lease_manager *mgr, uint64_t session,
						   uint64_t ino, uint64_t first_byte,
						   uint64_t len_bytes, enum pml_lease_mode mode,
						   struct pml_grant *ret_grant)
{
	const struct pml_lease_wish wish = {
		.ino = ino, .first_byte = first_byte, .len_bytes = len_bytes, .mode = mode};
	return pml_lease_request(mgr, session, &wish, ret_grant);
}

/*
 * pml_lease_downgrade() - a read lease in place of a write lease
 *
 * The new lease is there before the old one is returned, so nobody else's change comes in
 * between; its range ends at the end of the file at the latest.  The holder has drained: the
 * old lease is returned as by pml_lease_return(), and what was not committed is as after one.
 * Errors as pml_lease_request(), and then the write lease is as it was:
 *   -ESTALE   no such lease, or it has ended
 *   -EINVAL   it is a read lease
 *   -EAGAIN   an operation waits that a read lease would hold up as well
 *   -ENODATA  its range begins at or behind the end of the file
 */
int pml_lease_downgrade(struct pml_lease_manager *mgr, uint64_t session, uint64_t lease_id,
			struct pml_grant *ret_grant) PML_MUST_CHECK;

/* The holder saw a recall and drains.  Unknown or ended leases: -ESTALE. */
int pml_lease_ack(struct pml_lease_manager *mgr, uint64_t session,
		  uint64_t lease_id) PML_MUST_CHECK;

/*
 * The holder gives it back: it is fenced cooperatively.  Returns when the fence is queued,
 * and after the hook contents_changed() of a write lease.
 */
int pml_lease_return(struct pml_lease_manager *mgr, uint64_t session,
		     uint64_t lease_id) PML_MUST_CHECK;
/*
 * The same in two parts, so that the holder has its answer before the fence begins.
 * *ret_is_left: the lease is small and nobody has asked for it back, so the fence thread was not
 * woken: the caller answers, and then fences it by pml_lease_return_finish().  Whoever asks for
 * it before that has it fenced at once; if nobody does, it stays pinned until then.
 *
 * pml_lease_return_finish() - may block as key_fence() does.  What fails goes on in the fence
 *	thread.  Harmless if the lease is gone.
 */
int pml_lease_return_begin(struct pml_lease_manager *mgr, uint64_t session, uint64_t lease_id,
			   bool *ret_is_left) PML_MUST_CHECK;
void pml_lease_return_finish(struct pml_lease_manager *mgr, uint64_t lease_id);

/*
 * pml_lease_commit() - pml_file_commit() inside a write lease
 * @w: of the same session, or NULL
 *
 *   -ESTALE  no such lease, or it is being fenced already (bytes may be torn: I10)
 *   -EINVAL  outside the lease; -EACCES a read lease
 *   -EINPROGRESS, and other errors of the guard: growing would move a shared last block from
 *            under another lease.  One that waits holds nothing: its own lease may end
 *            meanwhile, and then the rerun gets -ESTALE
 * Allowed while recalling: a good holder commits, then returns.
 */
int pml_lease_commit(struct pml_lease_manager *mgr, uint64_t session, uint64_t lease_id,
		     uint64_t first_byte, uint64_t len_bytes, uint64_t new_size_bytes,
		     bool is_durable, struct pml_waiter *w) PML_MUST_CHECK;

/* ---- seeing ------------------------------------------------------------- */

struct pml_lease_view {
	uint64_t lease_id;
	uint64_t session;
	uint64_t ino;
	uint64_t first_byte;
	uint64_t end_byte;
	uint64_t age_ms;
	uint64_t pinned_bytes;
	uint32_t nsegments;
	uint32_t uid;
	bool is_shared;
	bool is_unbreakable;
	bool is_orphan;	   /* the file has no name any more */
	bool was_recalled; /* the next three say more */
	bool is_acked;
	enum pml_layout_op recall_op;
	uint64_t recalled_ms; /* since the recall */
	enum pml_lease_mode mode;
	enum pml_lease_state state;
	enum pml_end_reason why; /* while FENCING or STUCK */
	char peer[64];
	char waiter[PML_WAITER_NAME_BYTES]; /* the first operation that waits for it, or "" */
	int32_t waiter_pid;
	enum pml_layout_op waiter_op;
};

struct pml_session_view {
	uint64_t session;
	uint64_t age_ms;
	uint64_t silent_ms; /* since its last message; 0 of a local one */
	uint64_t pinned_bytes;
	uint32_t nleases;
	uint32_t nsegments;
	uint32_t uid;
	bool is_local;
	bool is_ending; /* it gets no more leases */
	char peer[64];
	char identity[PML_IDENTITY_BYTES]; /* "": it has proved none */
};

struct pml_pin_view {
	uint64_t lease_id;
	uint64_t ino;
	uint64_t first_byte; /* in the file */
	uint64_t block;	     /* on the device */
	uint64_t nblocks;
	char peer[64];
};

/* An operation that waits for leases. */
struct pml_waiter_view {
	uint64_t ino;
	uint64_t first_byte;
	uint64_t end_byte;
	uint64_t age_ms;
	uint64_t lease_id; /* the first one in its way, or 0: it runs again just now */
	int32_t pid;
	uint32_t uid;
	enum pml_layout_op op;
	enum pml_policy policy;
	char name[PML_WAITER_NAME_BYTES];
	char peer[64]; /* who holds that lease, or "" */
};

/* A lease that ended against its holder's will. */
struct pml_ending {
	uint64_t number; /* 1 is the first since the mount */
	uint64_t lease_id;
	uint64_t session;
	uint64_t ino;
	uint64_t first_byte;
	uint64_t end_byte;
	uint64_t age_ms;      /* of the lease, when it was gone */
	uint64_t recalled_ms; /* from the recall, or the end, to its being gone */
	uint64_t ago_ms;      /* since then */
	enum pml_lease_mode mode;
	enum pml_end_reason why;
	bool was_recalled;
	enum pml_layout_op op; /* what for */
	int32_t waiter_pid;    /* of the operation that waited longest then; 0: none */
	char peer[64];
	char waiter[PML_WAITER_NAME_BYTES];
};
#define PML_HISTORY_MAX 256u

/* How long something took: counts by powers of two of milliseconds. */
#define PML_HISTOGRAM_BUCKETS 20u
struct pml_histogram {
	uint64_t count;
	uint64_t sum_ms;
	uint64_t max_ms;
	uint64_t bucket[PML_HISTOGRAM_BUCKETS]; /* 0: below 1 ms, i: below 2^i ms, last: the rest */
};

enum pml_span {
	PML_SPAN_GRANT,	 /* granting to granted */
	PML_SPAN_HELD,	 /* granted to returned, revoked or expired */
	PML_SPAN_ACK,	 /* recall to its acknowledgement */
	PML_SPAN_RETURN, /* recall to the return */
	PML_SPAN_REVOKE, /* recall to the revoke, of who did not return */
	PML_SPAN_FENCE,	 /* one key, from its first step on to its death */
	PML_SPAN_UNPIN,	 /* begin of fencing to gone */
	PML_SPAN_WAIT,	 /* a layout operation, first parking to its end */
	PML_SPAN_COUNT,
};
const char *pml_span_name(enum pml_span span);
const char *pml_limit_name(enum pml_limit limit);

struct pml_lease_stats {
	uint64_t sessions, leases, pinned_bytes, waiters;		      /* now */
	uint64_t granted, returned, recalls, revoked, expired, sessions_died; /* since mount */
	uint64_t fences, fence_escalations, fences_stuck;
	uint64_t parked, refused_busy, refused_limit, interrupted, skipped;
	uint64_t orphans_recalled, downgraded, sought; /* sought: EAGAIN for an older request */
	uint64_t refused[PML_LIMIT_COUNT];	       /* refused_limit, limit by limit */
	struct pml_histogram histogram[PML_SPAN_COUNT];
};

/* Changes the configuration of a running manager; see pml_table_reconfigure(). */
int pml_lease_configure(struct pml_lease_manager *mgr,
			const struct pml_lease_config *config) PML_MUST_CHECK;
void pml_lease_config_get(struct pml_lease_manager *mgr, struct pml_lease_config *ret_config);

/*
 * Up to @max leases that ended by force, with a number above @after, oldest first; the last
 * PML_HISTORY_MAX are remembered.
 */
size_t pml_lease_history(struct pml_lease_manager *mgr, uint64_t after,
			 struct pml_ending *ret_endings, size_t max);
/* Up to @max operations that wait, from number @skip on, in no order. */
size_t pml_waiter_list(struct pml_lease_manager *mgr, size_t skip,
		       struct pml_waiter_view *ret_views, size_t max);

/*
 * Copies out up to @max views of leases with an id above @after, in order of id.
 * Pins: of leases above @after_lease, or of that lease from its segment @after_segment on.
 */
size_t pml_lease_list(struct pml_lease_manager *mgr, uint64_t after,
		      struct pml_lease_view *ret_views, size_t max);
size_t pml_pin_list(struct pml_lease_manager *mgr, uint64_t after_lease, uint32_t after_segment,
		    struct pml_pin_view *ret_views, size_t max);
/* The same of sessions. */
size_t pml_session_list(struct pml_lease_manager *mgr, uint64_t after,
			struct pml_session_view *ret_views, size_t max);
void pml_lease_stats(struct pml_lease_manager *mgr, struct pml_lease_stats *ret_stats);

/* pml_fs_audit() against the manager's own segments (I2). */
int pml_lease_audit(struct pml_lease_manager *mgr, char *ret_reason) PML_MUST_CHECK;

/*
 * Names for messages and options: "truncate", "clone-src"; "revoke"; "conflict".
 * PML_RECALL_LEASE is "lease", PML_RECALL_ORPHAN "orphan"; what has no name is "unknown".
 */
const char *pml_layout_op_name(enum pml_layout_op op);
const char *pml_policy_name(enum pml_policy policy);
const char *pml_end_reason_name(enum pml_end_reason why);
const char *pml_lease_state_name(enum pml_lease_state state);
/* -EINVAL: no such name. */
bool pml_policy_may_skip(enum pml_layout_op op);
int pml_policy_from_name(const char *name, enum pml_policy *ret_policy) PML_MUST_CHECK;
int pml_layout_op_from_name(const char *name, enum pml_layout_op *ret_op) PML_MUST_CHECK;

#endif
