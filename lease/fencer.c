/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fencer.c -- executes fences, and unpins
 *
 * The fence thread takes what the table has queued, one key after the other; a fence may block.
 * A small lease that its holder gives back, and that nobody waits for, is fenced by the thread
 * that took the return: to wake another one for it takes longer than the fence.  It stays in the
 * queue until then: whoever locks the table meanwhile wakes the fence thread for it.
 *
 * Threads: see include/pml/lease.h; lock order in manager.h.
 */
#include <string.h>

#include "manager.h"

/* A lease of so much or less is fenced about as quickly as a thread is woken. */
#define FENCE_SMALL_BYTES (1u << 20)
#define FENCE_FEW_KEYS	  8u

/*
 * Called and returns with the lock, drops it for the fence.
 * Model: key_fence (tests/model/lease.pml).
 */
static void fence_key_locked(struct pml_lease_manager *mgr, const struct pml_fence_attempt *attempt)
{
	const struct pml_lease_session *session = attempt->lease->session;
	pthread_mutex_unlock(&mgr->lock);
	uint64_t began_ms = pml_now_ms();
	int err = session->ops->key_fence(session->arg, attempt->key, attempt->step,
					  attempt->is_cooperative);
	uint64_t took_ms = pml_now_ms() - began_ms;

	uint64_t now_ms = pml_manager_lock(mgr);
	pml_table_fence_result(&mgr->table, attempt->lease, err, took_ms, now_ms);
}

/*
 * I3: every key of @lease is confirmed dead.  Called and returns with the lock.
 * Model: blocks_unpin (tests/model/lease.pml).
 */
static void unpin_locked(struct pml_lease_manager *mgr, struct pml_lease *lease)
{
	const struct pml_claim *claim = &lease->claim;
	pthread_mutex_unlock(&mgr->lock);
	pthread_rwlock_rdlock(&mgr->pin_lock);
	for (uint32_t i = 0; i < lease->nsegments; i++)
		if (lease->segments[i].at.nblocks > 0)
			pml_fs_unpin(mgr->fs, &lease->segments[i].at);
	/* The lease is still in the table: nobody else has the range yet. */
	if (claim->mode == PML_LEASE_WRITE)
		pml_file_trim(lease->inode, claim->first_byte, claim->end_byte);
	/* Before anybody goes on who has waited for it. */
	if (lease->was_granted && claim->mode == PML_LEASE_WRITE)
		pml_manager_contents_changed(mgr, claim->ino, claim->first_byte,
					     claim->end_byte - claim->first_byte, false);

	uint64_t now_ms = pml_manager_lock(mgr);
	struct pml_inode *inode = lease->inode;
	pml_table_gone(&mgr->table, lease, now_ms);
	bool must_free = !mgr->is_acting && pml_table_take_gone(lease);
	/* From here on the clock thread may free the lease, if this one does not. */
	pml_manager_unlock(mgr);
	pthread_rwlock_unlock(&mgr->pin_lock);
	if (must_free) {
		free(lease->segments);
		free(lease);
	}
	pml_inode_put(inode, 1);
	pthread_mutex_lock(&mgr->lock);
}

static void execute_locked(struct pml_lease_manager *mgr, const struct pml_fence_attempt *attempt)
{
	if (attempt->key)
		fence_key_locked(mgr, attempt);
	else
		unpin_locked(mgr, attempt->lease);
}

void *pml_manager_fence(void *arg)
{
	struct pml_lease_manager *mgr = arg;
	pthread_mutex_lock(&mgr->lock);
	while (!mgr->is_stopping) {
		struct pml_fence_attempt attempt;
		if (!pml_table_next_fence(&mgr->table, &attempt)) {
			pthread_cond_wait(&mgr->fence_cond, &mgr->lock);
			continue;
		}
		execute_locked(mgr, &attempt);
		pml_manager_wake_locked(mgr);
	}
	pthread_mutex_unlock(&mgr->lock);
	return NULL;
}

/* ---- returns ------------------------------------------------------------ */

/* Only what is likely to be quick, and to succeed. */
static bool is_ours(const struct pml_lease *lease)
{
	return lease->state == PML_LEASE_FENCING && lease->is_cooperative &&
	       lease->pinned_bytes <= FENCE_SMALL_BYTES && lease->nsegments <= FENCE_FEW_KEYS &&
	       lease->recalled_ms == 0 && lease->fence_step == PML_FENCE_KEY;
}

/* @may_leave: the fence to the caller.  *ret_is_left: it is. */
static int give_back(struct pml_lease_manager *mgr, uint64_t session, uint64_t lease_id,
		     bool may_leave, bool *ret_is_left)
{
	uint64_t now_ms = pml_manager_lock(mgr);
	pml_table_session_renew(&mgr->table, session, now_ms);
	struct pml_lease *lease = pml_table_find_held(&mgr->table, session, lease_id);
	if (lease && lease->claim.mode == PML_LEASE_WRITE) {
		const struct pml_claim claim = lease->claim;
		pml_manager_unlock(mgr);
		/* What was written in place can be seen, committed or not. */
		pml_manager_contents_changed(mgr, claim.ino, claim.first_byte,
					     claim.end_byte - claim.first_byte, true);
		now_ms = pml_manager_lock(mgr);
	}
	int err = pml_table_return(&mgr->table, session, lease_id, now_ms);
	lease = err || !may_leave ? NULL : pml_table_find(&mgr->table, lease_id);
	*ret_is_left = lease && is_ours(lease);
	if (*ret_is_left)
		pml_manager_unlock_but_fences(mgr);
	else
		pml_manager_unlock(mgr);
	return err;
}

int pml_lease_return(struct pml_lease_manager *mgr, uint64_t session, uint64_t lease_id)
{
	bool is_left;
	return give_back(mgr, session, lease_id, false, &is_left);
}

int pml_lease_return_begin(struct pml_lease_manager *mgr, uint64_t session, uint64_t lease_id,
			   bool *ret_is_left)
{
	return give_back(mgr, session, lease_id, true, ret_is_left);
}

void pml_lease_return_finish(struct pml_lease_manager *mgr, uint64_t lease_id)
{
	pthread_mutex_lock(&mgr->lock);
	struct pml_lease *lease = pml_table_find(&mgr->table, lease_id);
	struct pml_fence_attempt attempt = {.key = lease};
	/* The unpinning is the last: after it the lease is no more. */
	while (lease && attempt.key && is_ours(lease) &&
	       pml_table_take_fence(&mgr->table, lease, &attempt))
		execute_locked(mgr, &attempt);
	pml_manager_unlock(mgr);
}
