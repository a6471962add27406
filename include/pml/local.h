/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * local.h -- leases of programs on this machine, through their open files
 *
 * A program takes a lease through an open file description and hands the blocks to a
 * device of its own.  The description is the session: who has it has its leases, and they
 * end with it at the latest.
 *
 * There is no key that could be made dead.  What ends such an access (I3) is the holder's
 * word, by returning the lease or closing the description; a holder that does not give it
 * is killed, and the end of its process together with the end of the description is the
 * fence.  As long as somebody else has the description, the lease is stuck.
 *
 * Threads: every function may be called from any thread, without locks.
 * Doc: docs/lease-protocol.md, "Local holders".
 */
#ifndef PML_LOCAL_H
#define PML_LOCAL_H

#if PML_LAYER < 2
#error "dependencies go one way: tools, rdma, lease, fs, base (docs/design.md)"
#endif

#include "pml/base.h"
#include "pml/lease.h"

/* I9: of one description, leases and unread events of leases that have ended. */
#define PML_LOCAL_LEASES_MAX 1024u
/* How long a process may take to end that was killed. */
#define PML_LOCAL_KILL_MS 5000u
/* And from then to the end of the description, which the kernel tells on its own. */
#define PML_LOCAL_RELEASE_MS 1000u

struct pml_local;

/*
 * An event for an open file that had none, or one more: who polls it is to look again.
 * Must not block.  In the clock thread, or that of pml_local_end(), without locks.
 */
typedef void pml_local_wake_fn(void *arg, uint64_t open_id);

int pml_local_new(struct pml_lease_manager *mgr, pml_local_wake_fn *wake, void *arg,
		  struct pml_local **ret_local) PML_MUST_CHECK;
/* After pml_lease_manager_free() has returned 0; nobody uses it any more. */
void pml_local_free(struct pml_local *local);

/* An open file description, and who acts through it. */
struct pml_local_caller {
	uint64_t open_id; /* not 0; never used again */
	uid_t uid;
	pid_t tid; /* a thread of the process, alive during the call; 0: not visible */
};

/*
 * pml_lease_request() for a description.  Its errors, and
 *   -ENOBUFS    PML_LOCAL_LEASES_MAX
 *   -EPERM      the process cannot be killed by this one, or is this one
 *   -ESHUTDOWN  pml_local_end() has begun
 *   -ESRCH      the process is not visible
 * The caller has checked that the description is open for its mode.
 */
int pml_local_take(struct pml_local *local, const struct pml_local_caller *caller,
		   const struct pml_lease_wish *wish, struct pml_grant *ret_grant) PML_MUST_CHECK;
/*
 * As pml_lease_return(), pml_lease_ack() and pml_lease_commit().  -ESTALE also when the
 * description has never had a lease.
 */
int pml_local_return(struct pml_local *local, uint64_t open_id, uint64_t lease_id) PML_MUST_CHECK;
int pml_local_ack(struct pml_local *local, uint64_t open_id, uint64_t lease_id) PML_MUST_CHECK;
int pml_local_commit(struct pml_local *local, uint64_t open_id, uint64_t lease_id,
		     uint64_t first_byte, uint64_t len_bytes,
		     uint64_t new_size_bytes) PML_MUST_CHECK;

/* pml_local_event.op besides enum pml_layout_op, where PML_OP_COUNT is another lease. */
#define PML_LOCAL_OP_UNMOUNT (PML_RECALL_ORPHAN + 1)

struct pml_local_event {
	uint64_t lease_id;
	bool is_revoked; /* else: recalled */
	unsigned int op; /* of a recall */
	uint32_t drain_ms;
	enum pml_end_reason why; /* of a revocation */
};

/*
 * Takes the oldest event; a recall is acknowledged by it.  One lease has at most one event
 * at a time: the end of a lease takes the place of its recall.  -EAGAIN: there is none.
 */
int pml_local_event(struct pml_local *local, uint64_t open_id,
		    struct pml_local_event *ret_event) PML_MUST_CHECK;
bool pml_local_has_event(struct pml_local *local, uint64_t open_id);

/* The lease session of a description, for pml_waiter.session; 0: it has none. */
uint64_t pml_local_session(struct pml_local *local, uint64_t open_id);

/*
 * The description is closed: its leases end, and so do those that were stuck.  Returns at
 * once.  Nothing else is called for this description any more.
 */
void pml_local_released(struct pml_local *local, uint64_t open_id);

/*
 * Before an unmount, while descriptions can still be released: gives nothing out any more,
 * recalls all, and after the manager's drain_ms ends the sessions of those that have
 * not returned everything.  Returns when nothing is lent, or 10 s after that.
 */
void pml_local_end(struct pml_local *local);

#endif
