/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * local.c -- leases of programs on this machine, through their open files
 *
 * A holder is an open file description that has asked for a lease: a session of the
 * manager, found by the description's id.  Its keys are the process that took the lease.
 * Events stand in its leases' entries, which are made with the lease: so one cannot be
 * lost, and none needs memory when it comes (I7).
 *
 *   fence (I3)        confirmed by
 *   key               the holder's word: it returned the lease, or changed the file itself
 *   key, connection   the end of the description
 *   connection        SIGKILL, and then the end of the description
 *
 * Threads: local->lock guards all that is not constant; it comes last, and nothing is
 * called with it.  holder->taking lets one lease of a description be made at a time; it is
 * taken first, and held while the manager makes one.
 */
#include "pml/local.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "pml/list.h"
#include "pml/log.h"
#include "process.h"

#define BUCKETS 256u
/* How long pml_local_end() waits for fences. */
#define END_MS 10000u

/* A lease and its event, until the lease is returned or the event of its end was read. */
struct entry {
	struct pml_list link; /* of holder->entries */
	struct pml_list due;  /* of holder->due while there is an event */
	uint64_t lease_id;
	struct pml_local_event event;
};

struct holder {
	struct pml_list link; /* in its bucket; on none when released */
	struct pml_local *local;
	uint64_t open_id;
	pthread_mutex_t taking;
	struct pml_process *process; /* that took the last lease; under taking */

	/* Under local->lock. */
	unsigned int refs; /* the bucket's, and the manager's while it knows the session */
	uint64_t session;  /* 0: the manager knows none yet; written under taking, too */
	bool is_released;  /* the description is closed */
	struct pml_list entries;
	struct pml_list due; /* entries with an event, the oldest first */
	unsigned int nentries;
	unsigned int round; /* of for_each_holder() */
	/*
	 * The lease that is being made has no entry yet whose number is known, but may have
	 * an event: that of the highest number is kept, as numbers only grow.
	 */
	struct pml_local_event early;
};

struct key {
	struct pml_process *process;
};

struct pml_local {
	struct pml_lease_manager *mgr;
	uint32_t drain_ms; /* from pml_local_end() on */
	pml_local_wake_fn *wake;
	void *wake_arg;

	pthread_mutex_t lock;
	pthread_cond_t changed; /* a holder was released, nkeys became less */
	struct pml_list buckets[BUCKETS];
	uint64_t nkeys; /* that live */
	bool is_ending;
};

/* ---- holders ------------------------------------------------------------ */

static struct pml_list *bucket_of(struct pml_local *local, uint64_t open_id)
{
	return &local->buckets[open_id % BUCKETS];
}

static struct holder *find_locked(struct pml_local *local, uint64_t open_id)
{
	struct holder *holder;
	pml_list_for_each(holder, bucket_of(local, open_id), link) {
		if (holder->open_id == open_id)
			return holder;
	}
	return NULL;
}

static struct holder *holder_new_locked(struct pml_local *local, uint64_t open_id)
{
	struct holder *holder = calloc(1, sizeof(*holder));
	if (!holder)
		return NULL;
	holder->local = local;
	holder->open_id = open_id;
	holder->refs = 1;
	pthread_mutex_init(&holder->taking, NULL);
	pml_list_init(&holder->entries);
	pml_list_init(&holder->due);
	pml_list_append(bucket_of(local, open_id), &holder->link);
	return holder;
}

static void holder_free(struct holder *holder)
{
	struct entry *entry, *tmp;
	pml_list_for_each_safe(entry, tmp, &holder->entries, link)
		free(entry);
	pml_process_put(holder->process);
	pthread_mutex_destroy(&holder->taking);
	free(holder);
}

static void holder_put(struct holder *holder)
{
	struct pml_local *local = holder->local;
	pthread_mutex_lock(&local->lock);
	bool is_last = --holder->refs == 0;
	pthread_mutex_unlock(&local->lock);
	if (is_last)
		holder_free(holder);
}

/* A holder that has not been seen in this round, with a reference. */
static struct holder *next_locked(struct pml_list *bucket, unsigned int round)
{
	struct holder *holder;
	pml_list_for_each(holder, bucket, link) {
		if (holder->round == round)
			continue;
		holder->round = round;
		holder->refs++;
		return holder;
	}
	return NULL;
}

/* ---- events ------------------------------------------------------------- */

static struct entry *entry_of_locked(struct holder *holder, uint64_t lease_id)
{
	struct entry *entry;
	pml_list_for_each(entry, &holder->entries, link) {
		if (entry->lease_id == lease_id)
			return entry;
	}
	return NULL;
}

static void entry_free_locked(struct holder *holder, struct entry *entry)
{
	pml_list_remove(&entry->due);
	pml_list_remove(&entry->link);
	holder->nentries--;
	free(entry);
}

static void set_event_locked(struct holder *holder, struct entry *entry,
			     const struct pml_local_event *event)
{
	entry->event = *event;
	if (pml_list_is_empty(&entry->due))
		pml_list_append(&holder->due, &entry->due);
}

static struct pml_local_event unmount_of(const struct holder *holder, uint64_t lease_id)
{
	return (struct pml_local_event){.lease_id = lease_id,
					.op = PML_LOCAL_OP_UNMOUNT,
					.drain_ms = holder->local->drain_ms};
}

/* A lease without entry was returned, or is being made. */
static void put_event(struct holder *holder, const struct pml_local_event *event)
{
	struct pml_local *local = holder->local;
	pthread_mutex_lock(&local->lock);
	struct entry *entry = entry_of_locked(holder, event->lease_id);
	if (entry)
		set_event_locked(holder, entry, event);
	else if (event->lease_id >= holder->early.lease_id)
		holder->early = *event;
	pthread_mutex_unlock(&local->lock);
	if (entry)
		local->wake(local->wake_arg, holder->open_id);
}

static void on_recall(void *arg, uint64_t lease_id, enum pml_layout_op op, uint32_t drain_ms)
{
	const struct pml_local_event event = {.lease_id = lease_id, .op = op, .drain_ms = drain_ms};
	put_event(arg, &event);
}

static void on_revoked(void *arg, uint64_t lease_id, enum pml_end_reason why)
{
	const struct pml_local_event event = {.lease_id = lease_id, .is_revoked = true, .why = why};
	put_event(arg, &event);
}

static void on_released(void *arg)
{
	holder_put(arg);
}

/* ---- keys and their fence ----------------------------------------------- */

static int key_new(void *arg, const struct pml_segment *segment, bool for_write, bool may_read,
		   uint32_t *ret_rkey, void **ret_key)
{
	struct holder *holder = arg;
	struct key *key = malloc(sizeof(*key));
	if (!key)
		return -ENOMEM;
	/* This thread has taken holder->taking. */
	key->process = holder->process;
	pml_process_ref(key->process);
	pthread_mutex_lock(&holder->local->lock);
	holder->local->nkeys++;
	pthread_mutex_unlock(&holder->local->lock);
	*ret_rkey = 0;
	*ret_key = key;
	return 0;
}

static void key_free(struct pml_local *local, struct key *key)
{
	pml_process_put(key->process);
	free(key);
	pthread_mutex_lock(&local->lock);
	local->nkeys--;
	pthread_cond_broadcast(&local->changed);
	pthread_mutex_unlock(&local->lock);
}

static struct timespec from_now(uint32_t ms)
{
	struct timespec t;
	(void)clock_gettime(CLOCK_MONOTONIC, &t);
	t.tv_sec += ms / 1000;
	t.tv_nsec += (long)(ms % 1000) * 1000000;
	if (t.tv_nsec >= 1000000000) {
		t.tv_sec++;
		t.tv_nsec -= 1000000000;
	}
	return t;
}

static bool is_released(struct holder *holder, uint32_t wait_ms)
{
	struct pml_local *local = holder->local;
	const struct timespec until = from_now(wait_ms);
	int err = wait_ms ? 0 : ETIMEDOUT;
	pthread_mutex_lock(&local->lock);
	while (!holder->is_released && !err)
		err = pthread_cond_timedwait(&local->changed, &local->lock, &until);
	bool is_over = holder->is_released;
	pthread_mutex_unlock(&local->lock);
	return is_over;
}

/* The hard way.  True: the process and the description are gone. */
static bool end_holder(struct holder *holder, struct pml_process *process)
{
	bool is_first = pml_process_kill(process, PML_LOCAL_KILL_MS);
	return is_released(holder, is_first ? PML_LOCAL_RELEASE_MS : 0);
}

static int key_fence(void *arg, void *fenced, enum pml_fence_step step, bool is_cooperative)
{
	struct holder *holder = arg;
	struct key *key = fenced;
	if (!is_cooperative && !is_released(holder, 0) &&
	    (step == PML_FENCE_KEY || !end_holder(holder, key->process)))
		return -EBUSY;
	key_free(holder->local, key);
	return 0;
}

static const struct pml_holder_ops holder_ops = {
	.key_new = key_new,
	.key_fence = key_fence,
	.recall = on_recall,
	.revoked = on_revoked,
	.released = on_released,
	.is_local = true,
};

/* ---- taking ------------------------------------------------------------- */

/* The holder of a description, made at its first lease; with its taking lock. */
static int begin_taking(struct pml_local *local, uint64_t open_id, struct holder **ret_holder)
{
	pthread_mutex_lock(&local->lock);
	struct holder *holder = find_locked(local, open_id);
	if (!holder && !local->is_ending)
		holder = holder_new_locked(local, open_id);
	bool is_ending = local->is_ending;
	pthread_mutex_unlock(&local->lock);
	if (is_ending)
		return -ESHUTDOWN;
	if (!holder)
		return -ENOMEM;
	/* It is not released meanwhile: the caller acts through the description. */
	pthread_mutex_lock(&holder->taking);
	*ret_holder = holder;
	return 0;
}

/* The process that is to be killed if it does not return the lease. */
static int find_process(struct holder *holder, pid_t tid)
{
	if (holder->process && pml_process_has_thread(holder->process, tid))
		return 0;
	struct pml_process *process = NULL;
	int err = pml_process_of_thread(tid, &process);
	if (err)
		return err;
	pml_process_put(holder->process);
	holder->process = process;
	return 0;
}

static int find_session(struct holder *holder, uid_t uid)
{
	struct pml_local *local = holder->local;
	if (holder->session)
		return 0;
	char peer[64];
	(void)snprintf(peer, sizeof(peer), "process %d of user %u",
		       (int)pml_process_pid(holder->process), (unsigned int)uid);
	uint64_t session = 0;
	int err = pml_session_new(local->mgr, &holder_ops, holder, peer, uid, &session);
	if (err)
		return err;
	pthread_mutex_lock(&local->lock);
	holder->session = session;
	holder->refs++;
	pthread_mutex_unlock(&local->lock);
	return 0;
}

/* Makes an entry for the lease that comes; its number is 0, which no lease has. */
static int reserve(struct holder *holder, struct entry **ret_entry)
{
	struct pml_local *local = holder->local;
	struct entry *entry = calloc(1, sizeof(*entry));
	if (!entry)
		return -ENOMEM;
	pml_list_init(&entry->due);
	pthread_mutex_lock(&local->lock);
	bool has_room = holder->nentries < PML_LOCAL_LEASES_MAX;
	if (has_room) {
		pml_list_append(&holder->entries, &entry->link);
		holder->nentries++;
	}
	holder->early.lease_id = 0;
	pthread_mutex_unlock(&local->lock);
	if (!has_room) {
		free(entry);
		return -ENOBUFS;
	}
	*ret_entry = entry;
	return 0;
}

/* @lease_id 0: there is no lease. */
static void settle(struct holder *holder, struct entry *entry, uint64_t lease_id)
{
	struct pml_local *local = holder->local;
	pthread_mutex_lock(&local->lock);
	bool has_event = lease_id && holder->early.lease_id == lease_id;
	if (lease_id && !has_event && local->is_ending) {
		holder->early = unmount_of(holder, lease_id);
		has_event = true;
	}
	entry->lease_id = lease_id;
	if (has_event)
		set_event_locked(holder, entry, &holder->early);
	if (!lease_id)
		entry_free_locked(holder, entry);
	pthread_mutex_unlock(&local->lock);
	if (has_event)
		local->wake(local->wake_arg, holder->open_id);
}

int pml_local_take(struct pml_local *local, const struct pml_local_caller *caller,
		   const struct pml_lease_wish *wish, struct pml_grant *ret_grant)
{
	struct holder *holder = NULL;
	struct entry *entry = NULL;
	int err = begin_taking(local, caller->open_id, &holder);
	if (err)
		return err;
	err = find_process(holder, caller->tid);
	if (!err)
		err = find_session(holder, caller->uid);
	if (!err)
		err = reserve(holder, &entry);
	if (!err) {
		err = pml_lease_request(local->mgr, holder->session, wish, ret_grant);
		settle(holder, entry, err ? 0 : ret_grant->lease_id);
	}
	pthread_mutex_unlock(&holder->taking);
	return err;
}

/* ---- the holder's other calls ------------------------------------------- */

uint64_t pml_local_session(struct pml_local *local, uint64_t open_id)
{
	pthread_mutex_lock(&local->lock);
	const struct holder *holder = find_locked(local, open_id);
	uint64_t session = holder ? holder->session : 0;
	pthread_mutex_unlock(&local->lock);
	return session;
}

/* Its holder has returned it: no event of it matters any more. */
static void forget(struct pml_local *local, uint64_t open_id, uint64_t lease_id)
{
	pthread_mutex_lock(&local->lock);
	struct holder *holder = find_locked(local, open_id);
	struct entry *entry = holder ? entry_of_locked(holder, lease_id) : NULL;
	if (entry)
		entry_free_locked(holder, entry);
	pthread_mutex_unlock(&local->lock);
}

int pml_local_return(struct pml_local *local, uint64_t open_id, uint64_t lease_id)
{
	int err = pml_lease_return(local->mgr, pml_local_session(local, open_id), lease_id);
	if (!err)
		forget(local, open_id, lease_id);
	return err;
}

int pml_local_ack(struct pml_local *local, uint64_t open_id, uint64_t lease_id)
{
	return pml_lease_ack(local->mgr, pml_local_session(local, open_id), lease_id);
}

int pml_local_commit(struct pml_local *local, uint64_t open_id, uint64_t lease_id,
		     uint64_t first_byte, uint64_t len_bytes, uint64_t new_size_bytes)
{
	if (len_bytes == 0)
		return -EINVAL;
	return pml_lease_commit(local->mgr, pml_local_session(local, open_id), lease_id, first_byte,
				len_bytes, new_size_bytes, false, NULL);
}

bool pml_local_has_event(struct pml_local *local, uint64_t open_id)
{
	pthread_mutex_lock(&local->lock);
	const struct holder *holder = find_locked(local, open_id);
	bool has_event = holder && !pml_list_is_empty(&holder->due);
	pthread_mutex_unlock(&local->lock);
	return has_event;
}

int pml_local_event(struct pml_local *local, uint64_t open_id, struct pml_local_event *ret_event)
{
	pthread_mutex_lock(&local->lock);
	struct holder *holder = find_locked(local, open_id);
	bool has_event = holder && !pml_list_is_empty(&holder->due);
	uint64_t session = holder ? holder->session : 0;
	if (has_event) {
		struct entry *entry = pml_list_entry(holder->due.next, struct entry, due);
		*ret_event = entry->event;
		pml_list_remove(&entry->due);
		if (entry->event.is_revoked)
			entry_free_locked(holder, entry);
	}
	pthread_mutex_unlock(&local->lock);
	if (!has_event)
		return -EAGAIN;
	/* -ESTALE: it has ended since; the next event says so. */
	if (!ret_event->is_revoked)
		(void)!pml_lease_ack(local->mgr, session, ret_event->lease_id);
	return 0;
}

/* ---- ends --------------------------------------------------------------- */

void pml_local_released(struct pml_local *local, uint64_t open_id)
{
	pthread_mutex_lock(&local->lock);
	struct holder *holder = find_locked(local, open_id);
	uint64_t session = holder ? holder->session : 0;
	if (holder) {
		pml_list_remove(&holder->link);
		holder->is_released = true;
		pthread_cond_broadcast(&local->changed);
	}
	pthread_mutex_unlock(&local->lock);
	if (!holder)
		return;
	if (session) {
		pml_session_end(local->mgr, session, PML_END_SESSION);
		/* What was given up because others had the description can be confirmed now. */
		pml_session_fence_again(local->mgr, session);
	}
	holder_put(holder);
}

/*
 * Calls @act once for each holder, without locks; one that is released meanwhile is left out.
 * @round: greater each time.
 */
static void for_each_holder(struct pml_local *local, unsigned int round,
			    void (*act)(struct holder *holder))
{
	for (size_t i = 0; i < BUCKETS; i++) {
		struct holder *holder;
		do {
			pthread_mutex_lock(&local->lock);
			holder = next_locked(&local->buckets[i], round);
			pthread_mutex_unlock(&local->lock);
			if (holder) {
				act(holder);
				holder_put(holder);
			}
		} while (holder);
	}
}

static void recall_all(struct holder *holder)
{
	struct pml_local *local = holder->local;
	struct entry *entry;
	pthread_mutex_lock(&local->lock);
	pml_list_for_each(entry, &holder->entries, link) {
		const struct pml_local_event event = unmount_of(holder, entry->lease_id);
		/* One that is being made: settle(). */
		if (entry->lease_id && !entry->event.is_revoked)
			set_event_locked(holder, entry, &event);
	}
	pthread_mutex_unlock(&local->lock);
	local->wake(local->wake_arg, holder->open_id);
}

static void end_session(struct holder *holder)
{
	struct pml_local *local = holder->local;
	uint64_t session = pml_local_session(local, holder->open_id);
	if (session)
		pml_session_end(local->mgr, session, PML_END_UNMOUNT);
}

static void wait_until_unlent(struct pml_local *local, uint32_t wait_ms)
{
	const struct timespec until = from_now(wait_ms);
	int err = 0;
	pthread_mutex_lock(&local->lock);
	while (local->nkeys > 0 && !err)
		err = pthread_cond_timedwait(&local->changed, &local->lock, &until);
	pthread_mutex_unlock(&local->lock);
}

void pml_local_end(struct pml_local *local)
{
	struct pml_lease_config config;
	pml_lease_config_get(local->mgr, &config);
	pthread_mutex_lock(&local->lock);
	local->drain_ms = config.drain_ms;
	local->is_ending = true;
	pthread_mutex_unlock(&local->lock);
	for_each_holder(local, 1, recall_all);
	wait_until_unlent(local, local->drain_ms);
	for_each_holder(local, 2, end_session);
	wait_until_unlent(local, END_MS);
}

/* ---- the whole ---------------------------------------------------------- */

int pml_local_new(struct pml_lease_manager *mgr, pml_local_wake_fn *wake, void *arg,
		  struct pml_local **ret_local)
{
	struct pml_local *local = calloc(1, sizeof(*local));
	if (!local)
		return -ENOMEM;
	local->mgr = mgr;
	local->wake = wake;
	local->wake_arg = arg;
	for (size_t i = 0; i < BUCKETS; i++)
		pml_list_init(&local->buckets[i]);
	pthread_mutex_init(&local->lock, NULL);
	pthread_condattr_t monotonic;
	pthread_condattr_init(&monotonic);
	pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
	pthread_cond_init(&local->changed, &monotonic);
	pthread_condattr_destroy(&monotonic);
	*ret_local = local;
	return 0;
}

void pml_local_free(struct pml_local *local)
{
	if (!local)
		return;
	for (size_t i = 0; i < BUCKETS; i++) {
		struct holder *holder, *tmp;
		pml_list_for_each_safe(holder, tmp, &local->buckets[i], link)
			holder_free(holder);
	}
	pthread_cond_destroy(&local->changed);
	pthread_mutex_destroy(&local->lock);
	free(local);
}
