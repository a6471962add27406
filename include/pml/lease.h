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
	uint32_t ack_ms;	      /* recall to first sign of life; default 2000 */
	uint32_t drain_ms;	      /* recall to return; default 10000 */
	uint32_t block_deadline_ms;   /* policy block ends in EBUSY after this; 0: never */
	uint32_t term_ms;      /* a session that is silent this long has died; default 30000 */
	uint32_t fence_ms;     /* a fence unconfirmed this long is escalated; default 5000 */
	uint32_t max_sessions; /* default 64 */
	uint32_t max_leases;   /* in all; default 65536 */
	uint32_t max_session_leases;	   /* default 1024 */
	uint32_t max_waiters;		   /* parked operations in all; default 4096 */
	uint64_t max_session_pinned_bytes; /* default: half of the device */
	uint64_t max_pinned_bytes;	   /* default: 3/4 of the device */
};

/* Fills in the defaults for a device of this payload. */
void pml_lease_config_default(struct pml_lease_config *ret_config, uint64_t device_bytes);

#define PML_LEASE_SEGMENTS_MAX 64u	    /* segments in one lease */
#define PML_LEASE_BYTES_MAX    (1ull << 30) /* bytes in one lease */

enum pml_lease_mode { PML_LEASE_READ, PML_LEASE_WRITE };

enum pml_lease_state {
	PML_LEASE_GRANTING, /* in the table, pins and keys being made */
	PML_LEASE_GRANTED,
	PML_LEASE_RECALLING, /* the holder was asked to return it */
	PML_LEASE_FENCING,   /* keys being made dead */
	PML_LEASE_STUCK,     /* no fence could be confirmed: stays pinned, waiters get -EIO; until
				pml_session_fence_again() */
};

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
	 * Makes a key that reaches exactly this segment over this session's connection,
	 * in one direction only (I6), and reserves what its fence will need (I7).
	 * Runs in the thread of pml_lease_acquire(), without locks.
	 */
	int (*key_new)(void *session_arg, const struct pml_segment *segment, bool for_write,
		       uint32_t *ret_rkey, void **ret_key);

	/*
	 * Makes @key dead.  Returns 0 only when no remote access through it can touch or
	 * return memory any more, also none already under way ("proven" for the device,
	 * docs/design.md "Fences").  @is_cooperative: the holder has drained and returned.
	 * On 0 @key is freed.  Runs in the fence thread; may block for up to fence_ms; on
	 * error @key stays valid and the next step is tried.  A key whose fence was given up
	 * comes here again after pml_session_fence_again().
	 */
	int (*key_fence)(void *session_arg, void *key, enum pml_fence_step step,
			 bool is_cooperative);

	/*
	 * Queues a recall / revoked message; must not block.  Lost is lost: clocks go on.
	 * In the clock thread, without locks; also for a session that has ended, until
	 * released().  @op PML_OP_COUNT: for another session's lease.  @drain_ms 0: no clock
	 * runs (policy block); a second recall of the same lease says that one has begun.
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
	 * A program on this machine (pml/local.h).  No term runs, as its end is heard of.  Its
	 * own change is made by the program itself: it has drained, as on a return.
	 */
	bool is_local;
};

/* What others have to hear of, because they remember what a file is like. */
struct pml_lease_hooks {
	/*
	 * Remote bytes may have changed the range; @len_bytes 0: the attributes alone (a write
	 * lease was granted, which may have allocated).  Without locks.
	 * @may_wait: the client gets its answer (to a commit, to the return of a write lease)
	 *            when this returns; else it must not block (the end of a lease)
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
 * @peer: where it comes from, for display; copied.  *ret_session is never 0.
 * -EUSERS: max_sessions reached.  -ESHUTDOWN: unmounting.
 */
int pml_session_new(struct pml_lease_manager *mgr, const struct pml_holder_ops *ops,
		    void *session_arg, const char *peer, uint64_t *ret_session) PML_MUST_CHECK;
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
	uint64_t end_byte;  /* exclusive; may be less than asked */
	uint64_t file_size; /* at the grant */
	uint32_t term_ms;
	uint32_t nsegments; /* what lies between segments reads as zeros (read leases only) */
	struct pml_grant_segment segments[PML_LEASE_SEGMENTS_MAX];
};

/*
 * pml_lease_acquire() - lend a range of a file to a session
 * @len_bytes: 1 to PML_LEASE_BYTES_MAX; a write lease is rounded out to whole blocks
 *
 * Returns 0, or
 *   -EAGAIN   a conflicting lease was recalled, or an operation waits on the range:
 *             ask again in a moment
 *   -EBUSY    a conflicting lease and policy ebusy
 *   -EDEADLK  conflicts with a lease of the same session: return that first
 *   -EDQUOT   a limit of this session (leases, pinned bytes); -EUSERS a limit of all
 *   -ESTALE   no such session, or it is ending
 *   -EIO      a conflicting lease is stuck
 *   -EINVAL   range; and what pml_file_pin() and key_new() return
 * The caller has checked permission.
 */
int pml_lease_acquire(struct pml_lease_manager *mgr, uint64_t session, uint64_t ino,
		      uint64_t first_byte, uint64_t len_bytes, enum pml_lease_mode mode,
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
 * pml_lease_commit() - pml_file_commit() inside a write lease
 *   -ESTALE  no such lease, or it is being fenced already (bytes may be torn: I10)
 *   -EINVAL  outside the lease; -EACCES a read lease
 * Allowed while recalling: a good holder commits, then returns.
 */
int pml_lease_commit(struct pml_lease_manager *mgr, uint64_t session, uint64_t lease_id,
		     uint64_t first_byte, uint64_t len_bytes,
		     uint64_t new_size_bytes) PML_MUST_CHECK;

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
	enum pml_lease_mode mode;
	enum pml_lease_state state;
	char peer[64];
	char waiter[PML_WAITER_NAME_BYTES]; /* the first operation that waits for it, or "" */
	int32_t waiter_pid;
	enum pml_layout_op waiter_op;
};

struct pml_pin_view {
	uint64_t lease_id;
	uint64_t ino;
	uint64_t first_byte; /* in the file */
	uint64_t block;	     /* on the device */
	uint64_t nblocks;
};

struct pml_lease_stats {
	uint64_t sessions, leases, pinned_bytes, waiters;		      /* now */
	uint64_t granted, returned, recalls, revoked, expired, sessions_died; /* since mount */
	uint64_t fences, fence_escalations, fences_stuck;
	uint64_t parked, refused_busy, refused_limit, interrupted, skipped;
};

/*
 * Copies out up to @max views of leases with an id above @after, in order of id.
 * Pins: of leases above @after_lease, or of that lease from its segment @after_segment on.
 */
size_t pml_lease_list(struct pml_lease_manager *mgr, uint64_t after,
		      struct pml_lease_view *ret_views, size_t max);
size_t pml_pin_list(struct pml_lease_manager *mgr, uint64_t after_lease, uint32_t after_segment,
		    struct pml_pin_view *ret_views, size_t max);
void pml_lease_stats(struct pml_lease_manager *mgr, struct pml_lease_stats *ret_stats);

/* pml_fs_audit() against the manager's own segments (I2). */
int pml_lease_audit(struct pml_lease_manager *mgr, char *ret_reason) PML_MUST_CHECK;

/*
 * Names for messages and options: "truncate", "clone-src"; "revoke"; "conflict".
 * PML_OP_COUNT is "lease"; a number that has no name is "unknown".
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
