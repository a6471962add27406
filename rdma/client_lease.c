/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * client_lease.c -- client library: leases, their recall and their return
 *
 * The receiver thread marks a lease as recalled or revoked; the worker thread
 * runs the program's callbacks and sends RETURN once no transfer uses the lease
 * any more.  Transfers look at the status before each piece, so a recall ends
 * even a long one soon.  A status, once set, stays, except that "revoked" replaces
 * what was meant to end otherwise.
 */
#include <stdio.h>
#include <string.h>

#include "client_window.h"
#include "pml/lease.h"
#include "thread.h"

#define RETURN_TIMEOUT_MS  1000
#define VERDICT_TIMEOUT_MS 500u
#define BACKOFF_MIN_MS	   2u
#define BACKOFF_MAX_MS	   100u
/* Who waits for transfers that others collect looks again after so long. */
#define IDLE_LOOK_MS 5u

static const char *end_text(uint32_t why)
{
	static const char *const texts[] = {
		[PML_END_RETURNED] = "it was returned",
		[PML_END_CONFLICT] = "the server needed the range, and it was not returned in time",
		[PML_END_SILENT] = "no sign of life after it was recalled",
		[PML_END_EXPIRED] = "the session was not renewed in time",
		[PML_END_SESSION] = "the session ended",
		[PML_END_UNMOUNT] = "the filesystem is being unmounted",
		[PML_END_OWN_CHANGE] = "an operation of this session changed the file's layout",
		[PML_END_EVICTED] = "an administrator of the server has ended the session",
	};
	return why < PML_ARRAY_LEN(texts) ? texts[why] : "unknown reason";
}

/* ---- ends of leases, under the lock -------------------------------------- */

/* Also in place of another end.  It is never 0 in between: a use may begin without the lock. */
static void set_end_locked(struct pml_client_lease *lease, int status, const char *reason)
{
	snprintf(lease->reason, sizeof(lease->reason), "%s", reason);
	atomic_store(&lease->status, status);
	pthread_cond_broadcast(&lease->client->changed);
}

void pml_client_end_lease_locked(struct pml_client_lease *lease, int status, const char *reason)
{
	if (!atomic_load(&lease->status))
		set_end_locked(lease, status, reason);
}

static void stop_for_return_locked(struct pml_client_lease *lease)
{
	pml_client_end_lease_locked(lease, -ESTALE, "the server recalled it: take it again");
	lease->wants_return = true;
	pthread_cond_signal(&lease->client->has_work);
}

static void queue_revoke_event_locked(struct pml_client_lease *lease)
{
	lease->has_revoke_event = true;
	pthread_cond_signal(&lease->client->has_work);
}

/* Also a second time: the first may have been without a time limit (policy block). */
static void recall_lease_locked(struct pml_client_lease *lease, uint32_t drain_ms)
{
	struct pml_client *client = lease->client;
	if (lease->is_returned || atomic_load(&lease->status) == -EKEYREVOKED)
		return;
	lease->is_recalled = true;
	lease->drain_ms = drain_ms;
	lease->needs_ack = !client->events.is_silent;
	client->has_unacked |= lease->needs_ack;
	if (atomic_load(&lease->status))
		return;
	if (client->events.recalled || client->events.is_silent || lease->owner.recalled) {
		lease->has_recall_event = true;
		pthread_cond_signal(&client->has_work);
	} else {
		stop_for_return_locked(lease);
	}
}

static void revoke_lease_locked(struct pml_client_lease *lease, uint32_t why)
{
	if (lease->is_returned && why == PML_END_RETURNED)
		return;
	lease->needs_ack = false;
	/* Also after a recall, and when our RETURN crossed it: the fence came first (I10). */
	int status = atomic_load(&lease->status);
	if (status && status != -ESTALE)
		return;
	queue_revoke_event_locked(lease);
	set_end_locked(lease, -EKEYREVOKED, end_text(why));
}

static struct pml_client_lease *find_lease_locked(struct pml_client *client, uint64_t lease_id)
{
	struct pml_client_lease *lease;
	pml_list_for_each(lease, &client->leases, link)
		if (lease->id == lease_id)
			return lease;
	return NULL;
}

/* The reply that makes the lease known is still under way, or it is long gone. */
static void note_early_locked(struct pml_client *client, const struct pml_early_notice *notice)
{
	client->early[client->next_early] = *notice;
	client->next_early = (client->next_early + 1) % PML_EARLY_NOTICES;
}

void pml_client_recalled_locked(struct pml_client *client, uint64_t lease_id, uint32_t drain_ms)
{
	struct pml_client_lease *lease = find_lease_locked(client, lease_id);
	const struct pml_early_notice notice = {.lease_id = lease_id, .drain_ms = drain_ms};
	if (lease)
		recall_lease_locked(lease, drain_ms);
	else
		note_early_locked(client, &notice);
}

void pml_client_revoked_locked(struct pml_client *client, uint64_t lease_id, uint32_t why)
{
	struct pml_client_lease *lease = find_lease_locked(client, lease_id);
	const struct pml_early_notice notice = {
		.lease_id = lease_id, .is_revoked = true, .why = why};
	if (lease)
		revoke_lease_locked(lease, why);
	else
		note_early_locked(client, &notice);
}

static void end_with_connection_locked(struct pml_client_lease *lease)
{
	lease->needs_ack = false;
	if (atomic_load(&lease->status))
		return;
	if (lease->is_recalled) {
		/* Its keys died with the connection, whoever ended that. */
		queue_revoke_event_locked(lease);
		pml_client_end_lease_locked(lease, -EKEYREVOKED,
					    "the connection ended after a recall that was not "
					    "answered by a return");
		return;
	}
	const char *why = lease->client->dead_reason;
	pml_client_end_lease_locked(lease, -ENOTCONN, why[0] ? why : "the connection broke");
}

void pml_client_end_all_locked(struct pml_client *client)
{
	struct pml_client_lease *lease;
	pml_list_for_each(lease, &client->leases, link)
		end_with_connection_locked(lease);
}

struct pml_client_lease *pml_client_unacked_locked(struct pml_client *client)
{
	if (!client->has_unacked)
		return NULL;
	struct pml_client_lease *lease;
	pml_list_for_each(lease, &client->leases, link)
		if (lease->needs_ack)
			return lease;
	client->has_unacked = false;
	return NULL;
}

/* ---- the worker thread -------------------------------------------------- */

/* Its keys died with an old connection. */
static bool is_cut_off_locked(const struct pml_client_lease *lease)
{
	return lease->client->dead_reason[0] ||
	       lease->connection_number != lease->client->connection_number;
}

static bool may_send_return(const struct pml_client_lease *lease)
{
	return lease->wants_return && !lease->is_returned && atomic_load(&lease->busy) == 0 &&
	       !is_cut_off_locked(lease);
}

static struct pml_client_lease *find_work_locked(struct pml_client *client)
{
	struct pml_client_lease *lease;
	pml_list_for_each(lease, &client->leases, link)
		if (lease->has_revoke_event || lease->has_recall_event || may_send_return(lease))
			return lease;
	return NULL;
}

/* Is there a lease whose return waits for its transfers? */
static bool is_draining_locked(const struct pml_client *client)
{
	const struct pml_client_lease *lease;
	pml_list_for_each(lease, &client->leases, link)
		if (lease->wants_return && !lease->is_returned && atomic_load(&lease->busy) > 0)
			return true;
	return false;
}

static bool take_ahead_locked(struct pml_client *client)
{
	if (pml_list_is_empty(&client->ahead))
		return false;
	struct pml_windows *ws = pml_list_entry(client->ahead.next, struct pml_windows, ahead_link);
	pml_list_remove(&ws->ahead_link);
	pthread_mutex_unlock(&client->lock);
	pml_windows_take_ahead(ws);
	pthread_mutex_lock(&client->lock);
	return true;
}

/* Those of a queue may have nobody else who collects. */
static void wait_for_work_locked(struct pml_client *client)
{
	if (take_ahead_locked(client))
		return;
	bool is_collecting = false;
	if (is_draining_locked(client)) {
		pthread_mutex_unlock(&client->lock);
		is_collecting = pml_data_drive(client);
		pthread_mutex_lock(&client->lock);
	}
	if (is_collecting || client->is_closing || find_work_locked(client))
		return;
	if (is_draining_locked(client))
		pml_cond_wait_until(&client->has_work, &client->lock, pml_now_ms() + IDLE_LOOK_MS);
	else
		pthread_cond_wait(&client->has_work, &client->lock);
}

/* Callbacks and sending happen without the lock; is_in_worker makes a return wait. */
static void report_revoke_locked(struct pml_client *client, struct pml_client_lease *lease)
{
	struct pml_client_events events = client->events;
	lease->has_revoke_event = false;
	if (!events.revoked || lease->owner.recalled)
		return;
	pthread_mutex_unlock(&client->lock);
	events.revoked(events.arg, lease, lease->reason);
	pthread_mutex_lock(&client->lock);
}

static void report_recall_locked(struct pml_client *client, struct pml_client_lease *lease)
{
	struct pml_client_events events = client->events;
	lease->has_recall_event = false;
	bool is_ours = true;
	if (lease->owner.recalled) {
		pthread_mutex_unlock(&client->lock);
		if (!events.is_silent)
			lease->owner.recalled(lease->owner.arg);
		pthread_mutex_lock(&client->lock);
		is_ours = false;
	} else if (events.recalled) {
		pthread_mutex_unlock(&client->lock);
		is_ours = events.recalled(events.arg, lease, lease->drain_ms);
		pthread_mutex_lock(&client->lock);
	}
	if (is_ours && !events.is_silent)
		stop_for_return_locked(lease);
}

static void send_return_locked(struct pml_client *client, struct pml_client_lease *lease)
{
	lease->is_returned = true;
	pthread_mutex_unlock(&client->lock);
	union pml_message msg = {.ret = {.lease_id = lease->id}};
	int err = pml_client_send_async(client, &msg, sizeof(msg.ret), PML_WIRE_RETURN,
					RETURN_TIMEOUT_MS);
	pthread_mutex_lock(&client->lock);
	if (err == -ETIMEDOUT)
		lease->is_returned = false; /* no room: found again */
}

void *pml_client_work(void *arg)
{
	struct pml_client *client = arg;
	pthread_mutex_lock(&client->lock);
	while (!client->is_closing) {
		struct pml_client_lease *lease = find_work_locked(client);
		if (!lease) {
			wait_for_work_locked(client);
			continue;
		}
		pml_client_lease_hold(lease);
		lease->is_in_worker = true;
		if (lease->has_revoke_event)
			report_revoke_locked(client, lease);
		else if (lease->has_recall_event)
			report_recall_locked(client, lease);
		else
			send_return_locked(client, lease);
		lease->is_in_worker = false;
		pthread_cond_broadcast(&client->changed);
		pml_client_lease_put(lease);
	}
	pthread_mutex_unlock(&client->lock);
	return NULL;
}

/* ---- taking a lease ----------------------------------------------------- */

static void apply_early_locked(struct pml_client_lease *lease)
{
	struct pml_early_notice *early = lease->client->early;
	for (uint32_t i = 0; i < PML_EARLY_NOTICES; i++) {
		if (early[i].lease_id != lease->id)
			continue;
		early[i].lease_id = 0;
		if (early[i].is_revoked)
			revoke_lease_locked(lease, early[i].why);
		else
			recall_lease_locked(lease, early[i].drain_ms);
	}
}

/* Write leases have no holes: each byte from the first on is behind some segment. */
static bool is_covered(const struct pml_client_lease *lease)
{
	uint64_t from = lease->first_byte;
	for (uint32_t i = 0; i < lease->nsegments; i++) {
		if (lease->segments[i].first_byte != from)
			return false;
		from += lease->segments[i].len_bytes;
	}
	return from == lease->end_byte;
}

/* Assumes: the reply is checked; there is room for all its segments. */
static int fill_lease(struct pml_client_lease *lease, const union pml_message *reply,
		      uint64_t first_byte)
{
	const struct pml_wire_lease_reply *m = &reply->lease_reply;
	lease->id = m->lease_id;
	lease->first_byte = m->first_byte;
	lease->end_byte = m->end_byte;
	lease->file_size = m->file_size;
	lease->nsegments = m->nsegments;
	lease->durable_rule = (enum pml_durable_rule)m->durability;
	atomic_store(&lease->written_end, m->written_end_byte);
	memcpy(lease->segments, reply->bytes + sizeof(*m),
	       m->nsegments * sizeof(lease->segments[0]));
	if (first_byte < m->first_byte || first_byte >= m->end_byte)
		return -EPROTO;
	return lease->for_write && !is_covered(lease) ? -EPROTO : 0;
}

static int register_lease(struct pml_client_lease *lease)
{
	struct pml_client *client = lease->client;
	pthread_mutex_lock(&client->lock);
	pml_list_append(&client->leases, &lease->link);
	apply_early_locked(lease);
	if (is_cut_off_locked(lease))
		end_with_connection_locked(lease);
	/* A recall needs its acknowledgement, which the receiver sends when it wakes up. */
	bool needs_ack = lease->needs_ack;
	if (needs_ack)
		lease->needs_ack = false;
	pthread_mutex_unlock(&client->lock);
	if (!needs_ack)
		return 0;
	union pml_message msg = {.ret = {.lease_id = lease->id}};
	return pml_client_send_async(client, &msg, sizeof(msg.ret), PML_WIRE_ACK,
				     RETURN_TIMEOUT_MS);
}

/* Makes the granted lease out of the reply to @what. */
static int accept_grant(struct pml_client_lease *lease, const union pml_message *reply,
			uint64_t first_byte, const char *what)
{
	struct pml_client *client = lease->client;
	int err = fill_lease(lease, reply, first_byte);
	if (err) {
		pml_client_die_of(client, lease->connection_number,
				  "the server granted a lease that contradicts itself");
		return pml_client_fail(-ENOTCONN, "%s: the server granted something else", what);
	}
	(void)register_lease(lease); /* a dead connection shows in the lease's status */
	return 0;
}

/* Asks once. */
static int ask_for_lease(struct pml_client *client, const struct pml_wire_lease *want,
			 struct pml_client_lease *lease)
{
	union pml_message msg = {.lease = *want};
	union pml_message reply;
	char what[64];
	snprintf(what, sizeof(what), "lease on inode %llu", (unsigned long long)want->inode.ino);
	int err = pml_client_request_on(client, &msg, sizeof(msg.lease), PML_WIRE_LEASE, what,
					&reply, &lease->connection_number);
	return err ? err : accept_grant(lease, &reply, want->first_byte, what);
}

static struct pml_client_lease *lease_new(struct pml_client *client, bool for_write)
{
	struct pml_client_lease *lease =
		calloc(1, sizeof(*lease) + PML_LEASE_SEGMENTS_MAX * sizeof(lease->segments[0]));
	if (!lease)
		return NULL;
	lease->client = client;
	lease->for_write = for_write;
	atomic_init(&lease->refs, 1);
	pml_list_init(&lease->link);
	return lease;
}

int pml_client_lease_owned(struct pml_client *client, const struct pml_client_handle *file,
			   uint64_t first_byte, uint64_t len_bytes, unsigned int kind, int wait_ms,
			   const struct pml_lease_owner *owner, struct pml_client_lease **ret_lease)
{
	if (len_bytes == 0 || first_byte >= INT64_MAX)
		return pml_client_fail(-EINVAL, "lease: empty or impossible range");
	if (kind & ~(unsigned int)(PML_CLIENT_WRITE | PML_CLIENT_SHARED | PML_CLIENT_UNBREAKABLE))
		return pml_client_fail(-EINVAL, "lease: no such kind");
	uint64_t len = PML_MIN(len_bytes, client->max_lease_bytes);
	struct pml_wire_lease want = {
		.first_byte = first_byte,
		.len_bytes = PML_MIN(len, (uint64_t)INT64_MAX - first_byte),
		.mode = kind & PML_CLIENT_WRITE ? PML_LEASE_WRITE : PML_LEASE_READ,
		.flags = (kind & PML_CLIENT_SHARED ? PML_WIRE_LEASE_SHARED : 0) |
			 (kind & PML_CLIENT_UNBREAKABLE ? PML_WIRE_LEASE_UNBREAKABLE : 0),
	};
	pml_client_put_handle(file, &want.inode);
	if (want.inode.ino == 0)
		return pml_client_fail(-EINVAL, "lease: no file");
	pml_auto_free struct pml_client_lease *lease = lease_new(client, kind & PML_CLIENT_WRITE);
	if (!lease)
		return pml_client_fail(-ENOMEM, "lease: out of memory");
	if (owner)
		lease->owner = *owner;

	uint64_t deadline_ms = pml_now_ms() + (wait_ms > 0 ? (uint64_t)wait_ms : 0);
	uint32_t backoff_ms = BACKOFF_MIN_MS;
	int err = ask_for_lease(client, &want, lease);
	if ((err == -ENOTCONN || err == -ETIMEDOUT) &&
	    atomic_load(&client->does_always_reconnect) && pml_client_reconnect(client) == 0)
		err = ask_for_lease(client, &want, lease);
	while (err == -EAGAIN && pml_now_ms() < deadline_ms) {
		pml_sleep_ms(backoff_ms);
		backoff_ms = PML_MIN(backoff_ms * 2, BACKOFF_MAX_MS);
		err = ask_for_lease(client, &want, lease);
	}
	if (err)
		return err;
	*ret_lease = pml_take_ptr(&lease);
	return 0;
}

int pml_client_lease_with(struct pml_client *client, const struct pml_client_handle *file,
			  uint64_t first_byte, uint64_t len_bytes, unsigned int kind, int wait_ms,
			  struct pml_client_lease **ret_lease)
{
	return pml_client_lease_owned(client, file, first_byte, len_bytes, kind, wait_ms, NULL,
				      ret_lease);
}

int pml_client_lease(struct pml_client *client, const struct pml_client_handle *file,
		     uint64_t first_byte, uint64_t len_bytes, bool for_write, int wait_ms,
		     struct pml_client_lease **ret_lease)
{
	return pml_client_lease_with(client, file, first_byte, len_bytes,
				     for_write ? PML_CLIENT_WRITE : 0, wait_ms, ret_lease);
}

uint64_t pml_client_lease_end(const struct pml_client_lease *lease)
{
	return lease->end_byte;
}

uint64_t pml_client_lease_file_size(const struct pml_client_lease *lease)
{
	return lease->file_size;
}

uint64_t pml_client_lease_id(const struct pml_client_lease *lease)
{
	return lease->id;
}

int pml_client_lease_status(const struct pml_client_lease *lease)
{
	int status = atomic_load(&lease->status);
	return status ? pml_client_lease_fail(lease, status) : 0;
}

/* ---- using and returning it --------------------------------------------- */

int pml_client_lease_fail(const struct pml_client_lease *lease, int err)
{
	struct pml_client *client = lease->client;
	pthread_mutex_lock(&client->lock);
	(void)pml_client_fail(err, "%s", lease->reason);
	pthread_mutex_unlock(&client->lock);
	return err;
}

void pml_client_lease_hold(struct pml_client_lease *lease)
{
	atomic_fetch_add(&lease->refs, 1);
}

void pml_client_lease_put(struct pml_client_lease *lease)
{
	if (atomic_fetch_sub(&lease->refs, 1) == 1)
		free(lease);
}

int pml_client_lease_begin(struct pml_client_lease *lease)
{
	pml_client_lease_hold(lease);
	atomic_fetch_add(&lease->busy, 1);
	int status = atomic_load(&lease->status);
	if (!status)
		return 0;
	pml_client_lease_end_use(lease);
	(void)pml_client_lease_fail(lease, status);
	pml_client_lease_put(lease);
	return status;
}

void pml_client_lease_end_use(struct pml_client_lease *lease)
{
	struct pml_client *client = lease->client;
	if (atomic_fetch_sub(&lease->busy, 1) > 1)
		return;
	/* Whoever waits for this has set one of them before it looked at busy. */
	if (!atomic_load(&lease->status) && !atomic_load(&lease->drainers))
		return;
	pthread_mutex_lock(&client->lock);
	pthread_cond_broadcast(&client->changed);
	if (lease->wants_return)
		pthread_cond_signal(&client->has_work);
	pthread_mutex_unlock(&client->lock);
}

int pml_client_lease_verdict(struct pml_client_lease *lease, int err)
{
	struct pml_client *client = lease->client;
	uint64_t deadline_ms = pml_now_ms() + VERDICT_TIMEOUT_MS;
	pthread_mutex_lock(&client->lock);
	while (!client->has_receiver_ended &&
	       lease->connection_number == client->connection_number &&
	       atomic_load(&lease->status) != -EKEYREVOKED && pml_now_ms() < deadline_ms)
		pml_cond_wait_until(&client->changed, &client->lock, deadline_ms);
	int status = atomic_load(&lease->status);
	if (err == -EACCES && status != -EKEYREVOKED) {
		/* The refused key says more than the broken connection that follows from it. */
		set_end_locked(lease, -EKEYREVOKED, "its key is dead");
		queue_revoke_event_locked(lease);
	}
	pml_client_end_lease_locked(lease, -ENOTCONN, "the connection broke");
	status = atomic_load(&lease->status);
	pthread_mutex_unlock(&client->lock);
	pml_client_die_of(client, lease->connection_number,
			  "the connection broke when a key was refused");
	return status;
}

/* Waits for a change; collects meanwhile if nobody does. */
static void wait_for_transfers_locked(struct pml_client_lease *lease)
{
	struct pml_client *client = lease->client;
	pthread_mutex_unlock(&client->lock);
	bool is_collecting = pml_data_drive(client);
	pthread_mutex_lock(&client->lock);
	if (!is_collecting && atomic_load(&lease->busy) > 0)
		pml_cond_wait_until(&client->changed, &client->lock, pml_now_ms() + IDLE_LOOK_MS);
}

/* Nobody finds it from now on.  True: the caller has to send RETURN. */
static bool stop_lease_locked(struct pml_client_lease *lease)
{
	struct pml_client *client = lease->client;
	bool is_worker = pthread_equal(pthread_self(), client->worker);
	pml_list_remove(&lease->link);
	pml_client_end_lease_locked(lease, -ESTALE, "it was returned");
	lease->wants_return = false;
	lease->has_recall_event = false;
	lease->has_revoke_event = false;
	while (atomic_load(&lease->busy) > 0)
		wait_for_transfers_locked(lease);
	while (lease->is_in_worker && !is_worker)
		pthread_cond_wait(&client->changed, &client->lock);
	bool is_due = atomic_load(&lease->status) == -ESTALE && !lease->is_returned;
	lease->is_returned = true;
	lease->has_revoke_event = false;
	return is_due;
}

int pml_client_return(struct pml_client_lease *lease)
{
	struct pml_client *client = lease->client;
	pthread_mutex_lock(&client->lock);
	bool is_due = stop_lease_locked(lease);
	int err = atomic_load(&lease->status);
	/* There is a new connection: the server knows nothing of this lease any more. */
	bool is_old = lease->connection_number != client->connection_number;
	pthread_mutex_unlock(&client->lock);

	err = err == -ESTALE ? 0 : pml_client_lease_fail(lease, err);
	if (is_due && is_old) {
		err = pml_client_fail(-ENOTCONN, "return: the connection broke before");
	} else if (is_due) {
		union pml_message msg = {.ret = {.lease_id = lease->id}};
		union pml_message reply;
		err = pml_client_request(client, &msg, sizeof(msg.ret), PML_WIRE_RETURN, "return",
					 &reply);
		/* Gone already: fenced between our look and the server's. */
		err = err == -ESTALE ? -EKEYREVOKED : err;
	}

	pml_client_lease_put(lease);
	return err;
}

/* Waits until nothing uses it.  Its status, if it has ended; then it is not stopped. */
static int stop_for_downgrade(struct pml_client_lease *lease)
{
	struct pml_client *client = lease->client;
	pthread_mutex_lock(&client->lock);
	atomic_fetch_add(&lease->drainers, 1);
	while (atomic_load(&lease->busy) > 0 && atomic_load(&lease->status) == 0)
		wait_for_transfers_locked(lease);
	atomic_fetch_sub(&lease->drainers, 1);
	int status = atomic_load(&lease->status);
	/* As a transfer: a recall that comes now is answered behind the downgrade. */
	if (!status)
		atomic_fetch_add(&lease->busy, 1);
	pthread_mutex_unlock(&client->lock);
	return status ? pml_client_lease_fail(lease, status) : 0;
}

/* The server has taken it back itself. */
static void forget_lease(struct pml_client_lease *lease)
{
	struct pml_client *client = lease->client;
	pthread_mutex_lock(&client->lock);
	atomic_fetch_sub(&lease->busy, 1);
	(void)stop_lease_locked(lease);
	pthread_mutex_unlock(&client->lock);
	pml_client_lease_put(lease);
}

int pml_client_downgrade(struct pml_client_lease **lease)
{
	struct pml_client_lease *old = *lease;
	if (!old->for_write)
		return pml_client_fail(-EINVAL, "downgrade: not a write lease");
	pml_auto_free struct pml_client_lease *fresh = lease_new(old->client, false);
	if (!fresh)
		return pml_client_fail(-ENOMEM, "downgrade: out of memory");
	int err = stop_for_downgrade(old);
	if (err)
		return err;
	union pml_message msg = {.ret = {.lease_id = old->id}};
	union pml_message reply;
	err = pml_client_request_on(old->client, &msg, sizeof(msg.ret), PML_WIRE_DOWNGRADE,
				    "downgrade", &reply, &fresh->connection_number);
	if (!err)
		err = accept_grant(fresh, &reply, old->first_byte, "downgrade");
	if (err) {
		pml_client_lease_end_use(old);
		/* That means fenced; the notice may still be on its way. */
		return err == -ESTALE ? pml_client_fail(-EKEYREVOKED, "downgrade: the lease was "
								      "revoked before it")
				      : err;
	}
	forget_lease(old);
	*lease = pml_take_ptr(&fresh);
	return 0;
}
