/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * manager.h -- the table with its lock and threads, shared by the files around it
 *
 * Lock order: pin_lock, then the filesystem's locks, then lock.  Callbacks and
 * the filesystem are called without lock (docs/locking.md).
 */
#ifndef PML_LEASE_MANAGER_H
#define PML_LEASE_MANAGER_H

#include <pthread.h>

#include "pml/clock.h"
#include "table.h"

struct pml_lease_manager {
	struct pml_fs *fs;
	struct pml_lease_hooks hooks;

	/*
	 * Held for reading while blocks are pinned and entered in the table, or unpinned
	 * and taken out; for writing by the audit, which must see both agree (I2).
	 */
	pthread_rwlock_t pin_lock;

	pthread_mutex_t lock;
	struct pml_table table;	   /* under lock */
	pthread_cond_t clock_cond; /* for the clock thread: an effect, an earlier deadline, stop */
	pthread_cond_t fence_cond; /* for the fence thread: a fence, stop */
	pthread_cond_t
		idle_cond; /* for who waits for an end: all due was done, or a fence failed */
	uint64_t wakes_ms; /* when the clock thread wakes by itself; under lock */
	bool is_acting;	   /* the clock thread runs a callback; under lock */
	bool is_stopping;  /* under lock */
	pthread_t clock_thread;
	pthread_t fence_thread;
};

/* Takes the lock and the time; the time under the lock, so that it never goes back. */
uint64_t pml_manager_lock(struct pml_lease_manager *mgr);
/*
 * Drops the lock and wakes the threads for what the table has queued.  Assumes: nothing
 * that happened under the lock lets pml_lease_manager_free() return.
 */
void pml_manager_unlock(struct pml_lease_manager *mgr);
/* The same, and leaves the fence thread alone: the caller sees to the fence, or the next one. */
void pml_manager_unlock_but_fences(struct pml_lease_manager *mgr);
/* Wakes the threads for what the table has queued.  With the lock. */
void pml_manager_wake_locked(struct pml_lease_manager *mgr);

/* Main function of the fence thread. */
void *pml_manager_fence(void *mgr);

/* Calls the hook.  Without locks. */
void pml_manager_contents_changed(struct pml_lease_manager *mgr, uint64_t ino, uint64_t first_byte,
				  uint64_t len_bytes, bool may_wait);

#endif
