/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * client_data.c -- client library: posts operations and collects their completions
 *
 * All transfers of a client share the endpoint's operations in flight.  Those that have
 * something to post take turns, one operation each, so a long one does not keep a short one
 * waiting; operations and bytes in flight are limited, because an operation waits for all
 * that were posted before it.
 *
 * One thread at a time collects: the leader, one of those that wait for something.  It hands
 * out what it collects to whom it belongs; when it has what it waits for, the next of the
 * followers leads.  A transfer that nobody waits for (of a queue) goes on as far as somebody
 * collects; a return of its lease does too.
 *
 * Before that it looks once for what is there, with the lock held and without the clock, which
 * for most waits is all.
 *
 * Threads: any.  The lock is not held while the leader waits for completions.
 */
#include <string.h>

#include "client_i.h"
#include "thread.h"

#define POLL_MAX 32
#define POLL_MS	 1000
#define DRIVE_MS 10

void pml_data_init(struct pml_client_data *data)
{
	pthread_mutex_init(&data->lock, NULL);
	pml_list_init(&data->waiting);
	pml_list_init(&data->followers);
}

void pml_data_end(struct pml_client_data *data)
{
	assert(data->in_flight == 0 && pml_list_is_empty(&data->waiting));
	pthread_mutex_destroy(&data->lock);
}

/* ---- posting ------------------------------------------------------------ */

/* A dead key says more than the connection that breaks after it. */
static void note_error(struct pml_transfer *t, int err)
{
	if (err && (t->err == 0 || err == -EACCES))
		t->err = err;
}

static void complete_locked(struct pml_transfer *t)
{
	t->is_done = true;
	pml_client_lease_end_use(t->lease);
	if (t->queue)
		pml_queue_done_locked(t);
	if (t->waiter)
		pthread_cond_signal(&t->waiter->woken);
}

static void count_posted_locked(struct pml_client_data *data, struct pml_transfer *t)
{
	if (data->in_flight == 0)
		data->has_moved = true;
	data->op_bytes[data->posted++ % PML_DATA_DEPTH] = t->op.bytes;
	data->bytes_in_flight += t->op.bytes;
	data->in_flight++;
	t->in_flight++;
}

/* Posts the next operation of @t.  False: there is no room just now. */
static bool post_one_locked(struct pml_client *client, struct pml_transfer *t)
{
	struct pml_client_data *data = &client->data;
	/* The recall of a lease ends even a long transfer soon. */
	int err = t->err ? t->err : atomic_load(&t->lease->status);
	if (!err) {
		t->op.cookie = (uintptr_t)t;
		err = pml_ep_post(client->connection->ep, &t->op);
	}
	if (err == -EAGAIN && data->in_flight > 0)
		return false;
	note_error(t, err);
	if (!err)
		count_posted_locked(data, t);
	t->has_more = !err && t->next(t, &t->op);
	return true;
}

static bool has_room(const struct pml_client_data *data)
{
	return data->in_flight < PML_DATA_DEPTH && data->bytes_in_flight < PML_DATA_BYTES_IN_FLIGHT;
}

/* Posts in turn what there is room for. */
static void post_locked(struct pml_client *client)
{
	struct pml_client_data *data = &client->data;
	while (!pml_list_is_empty(&data->waiting) && has_room(data)) {
		struct pml_transfer *t =
			pml_list_entry(data->waiting.next, struct pml_transfer, link);
		if (!post_one_locked(client, t))
			return;
		pml_list_remove(&t->link);
		if (t->has_more && t->in_flight < t->depth)
			pml_list_append(&data->waiting, &t->link);
		else if (!t->has_more && t->in_flight == 0)
			complete_locked(t);
	}
}

/* ---- collecting --------------------------------------------------------- */

static void take_completion_locked(struct pml_client_data *data, const struct pml_completion *c)
{
	struct pml_transfer *t = (struct pml_transfer *)(uintptr_t)c->cookie;
	data->bytes_in_flight -= data->op_bytes[data->collected++ % PML_DATA_DEPTH];
	data->in_flight--;
	note_error(t, c->status);
	bool was_full = t->in_flight-- == t->depth;
	if (t->has_more && t->err) {
		t->has_more = false;
		pml_list_remove(&t->link);
	}
	if (t->has_more && was_full)
		pml_list_append(&data->waiting, &t->link);
	else if (!t->has_more && t->in_flight == 0)
		complete_locked(t);
}

/* A look from @from_ms to @now_ms found nothing.  When nothing moves, end the connection. */
static void note_still_locked(struct pml_client *client, uint64_t from_ms, uint64_t now_ms)
{
	struct pml_client_data *data = &client->data;
	if (data->has_moved)
		data->still_ms = from_ms;
	data->has_moved = false;
	/* Then everything completes. */
	if (now_ms - data->still_ms > client->request_timeout_ms)
		pml_client_die(client, "transfers do not complete");
}

static void hand_out_locked(struct pml_client *client, const struct pml_completion *done, int count)
{
	struct pml_client_data *data = &client->data;
	/* -ENOTCONN is said when each completion was handed out, and then nothing is in flight. */
	assert(count >= 0);
	for (int i = 0; i < count; i++)
		take_completion_locked(data, &done[i]);
	data->has_moved |= count > 0;
	post_locked(client);
}

/*
 * Hands out completions that are there, if nobody else collects.  The lock is kept, which is as
 * good as to lead: the fabric is asked, and not waited for.
 */
static void look_locked(struct pml_client *client)
{
	struct pml_client_data *data = &client->data;
	struct pml_completion done[POLL_MAX];
	if (data->has_leader || data->in_flight == 0)
		return;
	int count = pml_ep_poll(client->connection->ep, done, POLL_MAX, 0);
	if (count == 0) {
		uint64_t now_ms = pml_now_coarse_ms();
		note_still_locked(client, now_ms, now_ms);
	}
	hand_out_locked(client, done, count);
}

/* Waits for completions and hands them out.  Assumes: the caller leads, something is in flight. */
static void collect_locked(struct pml_client *client, int timeout_ms)
{
	struct pml_client_data *data = &client->data;
	struct pml_completion done[POLL_MAX];
	uint64_t from_ms = pml_now_coarse_ms();
	pthread_mutex_unlock(&data->lock);
	int count = pml_ep_poll(client->connection->ep, done, POLL_MAX, timeout_ms);
	pthread_mutex_lock(&data->lock);
	if (count == 0)
		note_still_locked(client, from_ms, pml_now_coarse_ms());
	hand_out_locked(client, done, count);
}

/* Sleeps until somebody wakes this thread, or until the deadline. */
static void follow_locked(struct pml_client_data *data, struct pml_data_waiter **waiter,
			  uint64_t deadline_ms)
{
	struct pml_data_waiter self;
	if (pml_cond_init(&self.woken)) {
		pthread_mutex_unlock(&data->lock);
		pml_sleep_ms(1);
		pthread_mutex_lock(&data->lock);
		return;
	}
	pml_list_init(&self.link);
	pml_list_append(&data->followers, &self.link);
	*waiter = &self;
	pml_cond_wait_until(&self.woken, &data->lock, deadline_ms);
	*waiter = NULL;
	pml_list_remove(&self.link);
	pthread_cond_destroy(&self.woken);
}

/* Who stops waiting may be the one that was woken to lead. */
static void pass_on_locked(struct pml_client_data *data)
{
	if (data->has_leader || pml_list_is_empty(&data->followers))
		return;
	struct pml_data_waiter *next =
		pml_list_entry(data->followers.next, struct pml_data_waiter, link);
	pthread_cond_signal(&next->woken);
}

/* Leads or follows until it is ready, or for @timeout_ms. */
static void sleep_locked(struct pml_client *client, bool (*is_ready)(const void *arg),
			 const void *arg, struct pml_data_waiter **waiter, int timeout_ms)
{
	struct pml_client_data *data = &client->data;
	uint64_t now_ms = pml_now_ms();
	uint64_t deadline_ms = timeout_ms < 0 ? UINT64_MAX : now_ms + (uint64_t)timeout_ms;
	bool is_leader = false;
	while (!is_ready(arg) && now_ms < deadline_ms) {
		int ms = (int)PML_MIN(deadline_ms - now_ms, (uint64_t)POLL_MS);
		if (!is_leader && !data->has_leader && data->in_flight > 0)
			is_leader = data->has_leader = true;
		if (is_leader && data->in_flight > 0)
			collect_locked(client, ms);
		else
			follow_locked(data, waiter, now_ms + (uint64_t)ms);
		now_ms = pml_now_ms();
	}
	if (is_leader)
		data->has_leader = false;
}

bool pml_data_wait_locked(struct pml_client *client, bool (*is_ready)(const void *arg),
			  const void *arg, struct pml_data_waiter **waiter, int timeout_ms)
{
	/* Most often what is waited for is there by now: that is found without a clock. */
	post_locked(client);
	if (!is_ready(arg))
		look_locked(client);
	if (!is_ready(arg) && timeout_ms != 0)
		sleep_locked(client, is_ready, arg, waiter, timeout_ms);
	pass_on_locked(&client->data);
	return is_ready(arg);
}

/* ---- whole transfers ---------------------------------------------------- */

static void start_locked(struct pml_client_data *data, struct pml_transfer *t)
{
	if (t->queue)
		pml_queue_begun_locked(t);
	t->has_more = t->next(t, &t->op);
	if (t->has_more)
		pml_list_append(&data->waiting, &t->link);
	else
		complete_locked(t);
}

void pml_data_start(struct pml_client *client, struct pml_transfer *t)
{
	pthread_mutex_lock(&client->data.lock);
	start_locked(&client->data, t);
	post_locked(client);
	pthread_mutex_unlock(&client->data.lock);
}

static bool is_done(const void *arg)
{
	return ((const struct pml_transfer *)arg)->is_done;
}

void pml_data_run(struct pml_client *client, struct pml_transfer *t)
{
	pthread_mutex_lock(&client->data.lock);
	start_locked(&client->data, t);
	(void)pml_data_wait_locked(client, is_done, t, &t->waiter, -1);
	pthread_mutex_unlock(&client->data.lock);
}

bool pml_data_drive(struct pml_client *client)
{
	struct pml_client_data *data = &client->data;
	pthread_mutex_lock(&data->lock);
	/* Also what cannot be posted any more comes to its end here. */
	uint64_t was_collected = data->collected;
	post_locked(client);
	bool may_lead = !data->has_leader && data->in_flight > 0;
	if (may_lead) {
		data->has_leader = true;
		collect_locked(client, DRIVE_MS);
		data->has_leader = false;
		pass_on_locked(data);
	}
	bool has_moved = data->collected != was_collected;
	pthread_mutex_unlock(&data->lock);
	return may_lead || has_moved;
}

bool pml_data_is_idle(struct pml_client *client)
{
	struct pml_client_data *data = &client->data;
	pthread_mutex_lock(&data->lock);
	bool is_idle =
		data->in_flight == 0 && !data->has_leader && pml_list_is_empty(&data->waiting);
	pthread_mutex_unlock(&data->lock);
	return is_idle;
}
