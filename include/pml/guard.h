/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * guard.h -- how the filesystem asks "is somebody in the way?" (I4)
 *
 * The filesystem knows blocks and ranges, not leases.  Before it changes the
 * layout of a range it asks the guard, while it holds the inode's lock
 * exclusively and before anything has been changed.  The guard answers go,
 * EBUSY or "parked": then the filesystem undoes nothing (nothing was done),
 * drops its locks and returns -EINPROGRESS to its caller, whose thread is free
 * for other work.  When the break has ended the guard calls waiter->resume()
 * and the caller runs the operation again from its start.
 *
 * From its first parking until pml_guard_ops.done() the waiter keeps its place
 * in the break queue: nobody gets a new conflicting lease on its range, so an
 * operation cannot be starved between resume() and its second run.  One that
 * makes several changes keeps the last two that it has waited for.
 *
 * Lock order: inode lock, then whatever the guard locks.  The guard never
 * calls the filesystem from admit(), and calls resume() without its locks.
 */
#ifndef PML_GUARD_H
#define PML_GUARD_H

#include "pml/base.h"
#include "pml/list.h"

/* Layout operations, by the names that policies use (docs/lease-protocol.md). */
enum pml_layout_op {
	PML_OP_TRUNCATE,  /* size changes inside a leased range, O_TRUNC too */
	PML_OP_PUNCH,	  /* blocks taken out of a range */
	PML_OP_UNSHARE,	  /* copy-on-write of a block under somebody's read lease */
	PML_OP_CLONE_SRC, /* blocks under a write lease would become shared */
	PML_OP_CLONE_DST, /* a range's blocks are replaced by shared ones */
	PML_OP_ZERO,	  /* a range becomes preallocated blocks */
	PML_OP_COLLAPSE,  /* a range is taken out, what lies behind it moves down */
	PML_OP_INSERT,	  /* a hole is put in, what lies behind it moves up */
	PML_OP_DEDUPE,	  /* a range's blocks are replaced by shared ones with the same bytes */
	PML_OP_RELOCATE,  /* defragmentation: a range's bytes move to other blocks */
	PML_OP_SNAPSHOT,  /* as CLONE_SRC, of each file of a tree */
	PML_OP_COUNT,
};

/* One change that an operation is about to make. */
struct pml_layout_change {
	uint64_t ino;
	uint64_t first_byte;
	uint64_t end_byte; /* exclusive; UINT64_MAX: to infinity */
	enum pml_layout_op op;
	bool writers_only; /* only write leases are in the way (clone-src) */
	bool is_probe;	   /* a refusal only chooses another way: it counts nowhere */
};

/*
 * Changes that a waiting operation holds back new leases from besides the one that it waits
 * for: with it those of any operation on one or two files (a clone that grows its destination
 * has four).  A snapshot waits for more files than that, and holds the last ones.
 */
#define PML_WAITER_HOLDS 3u

/* One of them; the guard's. */
struct pml_hold {
	struct pml_list link;
	struct pml_layout_change change;
};

/* Longest name of a waiting process that is kept, with its terminating zero. */
#define PML_WAITER_NAME_BYTES 32

/*
 * One run of an operation that can wait.  The caller owns the memory, sets the
 * first group and zeroes the rest; it stays valid until done() returned, or if
 * it was never parked, until the operation returned.
 */
struct pml_waiter {
	/*
	 * Called once for each time that an operation returned -EINPROGRESS, from
	 * a thread of the guard, without locks; it may even run before the
	 * operation has returned, so after -EINPROGRESS the caller leaves the
	 * waiter alone.  Must not block: it queues the rerun.
	 */
	void (*resume)(struct pml_waiter *w);
	uint64_t session; /* lease session on whose behalf it runs; 0: one without leases */
	int32_t pid;	  /* for display; 0 unknown */
	uint32_t uid;	  /* whose limits it counts against */
	/*
	 * Somebody waits for a lease of its session, which ends after this: it does not wait by
	 * policy block without an end, as two of that kind could wait for each other.
	 */
	bool is_returning;
	char name[PML_WAITER_NAME_BYTES];

	/* The guard's.  Under its lock. */
	struct pml_list link;
	struct pml_list resume_link;
	struct pml_layout_change change;	/* what it waits for */
	struct pml_hold hold[PML_WAITER_HOLDS]; /* what it has waited for before */
	uint32_t nholds;			/* used in turn: the last ones count */
	uint64_t since_ms;
	uint64_t deadline_ms; /* 0: none */
	int verdict;	      /* 0, or what the rerun must return: -EINTR, -EBUSY, -EIO */
	bool is_cancelled;    /* cancel() came while it ran: it may not park again */
	bool is_parked;
	bool is_queued;		 /* holds its place: done() is due */
	struct pml_party *party; /* what it is charged to while it is queued */
};

struct pml_party; /* lease/account.h */

struct pml_guard_ops {
	/*
	 * May @change happen now?  @w NULL: the caller cannot wait.
	 *
	 * Returns 0, or
	 *   -EINPROGRESS  parked; resume() will be called
	 *   -EBUSY        policy ebusy, @w NULL, an unbreakable lease, or the deadline of policy
	 *                 block passed
	 *   -EDEADLK      an unbreakable lease of the asker's own session
	 *   -ECANCELED    policy skip: leave the range alone, and go on with others
	 *   -EINTR        cancelled
	 *   -EAGAIN       too many operations wait already (I9)
	 *   -EIO          a lease in the way is stuck: its fence could not be confirmed
	 *
	 * Called with the inode lock held exclusively; does not block.
	 */
	int (*admit)(void *guard, const struct pml_layout_change *change, struct pml_waiter *w);

	/*
	 * The operation's caller was interrupted.  A parked one is resumed with
	 * -EINTR; one that is running gets -EINTR if it tries to park again.
	 * Call it only while @w is valid.
	 */
	void (*cancel)(void *guard, struct pml_waiter *w);

	/* The operation has ended, whatever its result.  Harmless if never parked. */
	void (*done)(void *guard, struct pml_waiter *w);

	/*
	 * The inode has lost its last name.  May be NULL.  Called with or without locks of the
	 * filesystem; does not block.
	 */
	void (*orphaned)(void *guard, uint64_t ino);

	/*
	 * A cheap hint: may any lease cover this inode at all?  One load, no lock;
	 * may say true too often, never false wrongly for a lease whose blocks are
	 * mapped while the caller holds the inode lock.
	 */
	bool (*may_be_leased)(void *guard, uint64_t ino);
};

#endif
