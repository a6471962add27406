/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * client_connection.c -- client library: connections, and making a broken one again
 *
 * A client has one connection at a time; they are numbered.  A lease belongs to the
 * connection that it was granted over, and ends with it.  What is registered for an old
 * connection keeps it, dead as it is, until it is let go of.
 *
 * Reconnecting: the receiver of the old connection has ended, nothing is in flight any more,
 * then the new connection takes its place, buffers are registered with it, and the server is
 * greeted with the same client id, so that it knows requests that are sent again.
 *
 * Threads: any; one at a time reconnects.
 */
#include <stdio.h>
#include <string.h>

#include "client_i.h"
#include "thread.h"

#define BACKOFF_FIRST_MS 20u
#define BACKOFF_LAST_MS	 1000u
#define DRAIN_MS	 10000u

int pml_connection_new(const struct pml_client_url *url, uint32_t timeout_ms,
		       struct pml_connection **ret_connection, char *ret_reason)
{
	struct pml_connection *connection = calloc(1, sizeof(*connection));
	if (!connection)
		return -ENOMEM;
	atomic_init(&connection->refs, 1);
	int err = pml_ep_connect(url->kind, url->host, url->port, (int)timeout_ms, &connection->ep,
				 ret_reason);
	if (err) {
		free(connection);
		return err;
	}
	*ret_connection = connection;
	return 0;
}

struct pml_connection *pml_connection_get_locked(struct pml_client *client)
{
	atomic_fetch_add(&client->connection->refs, 1);
	return client->connection;
}

struct pml_connection *pml_connection_get(struct pml_client *client)
{
	pthread_mutex_lock(&client->lock);
	struct pml_connection *connection = pml_connection_get_locked(client);
	pthread_mutex_unlock(&client->lock);
	return connection;
}

void pml_connection_put(struct pml_connection *connection)
{
	if (atomic_fetch_sub(&connection->refs, 1) > 1)
		return;
	pml_ep_close(connection->ep);
	free(connection);
}

/* ---- reconnecting ------------------------------------------------------- */

/* The old connection is dead: its receiver ends, and all that is in flight completes. */
static int finish_old(struct pml_client *client)
{
	pthread_mutex_lock(&client->lock);
	bool has_receiver = client->has_receiver;
	client->has_receiver = false;
	pthread_mutex_unlock(&client->lock);
	if (has_receiver)
		pthread_join(client->receiver, NULL);
	uint64_t deadline_ms = pml_now_ms() + DRAIN_MS;
	while (!pml_data_is_idle(client)) {
		if (pml_now_ms() > deadline_ms)
			return pml_client_fail(-ENOTCONN, "reconnect: transfers do not end");
		if (!pml_data_drive(client))
			pml_sleep_ms(1);
	}
	return 0;
}

/* Assumes: finish_old().  No lease is live, so nothing can begin a transfer. */
static void swap(struct pml_client *client, struct pml_connection *fresh)
{
	pthread_mutex_lock(&client->data.lock);
	pthread_mutex_lock(&client->lock);
	struct pml_connection *old = client->connection;
	client->connection = fresh;
	client->connection_number++;
	client->dead_reason[0] = 0;
	client->is_ready = false;
	client->has_receiver_ended = false;
	client->renew_id = 0;
	client->sent_ms = pml_now_ms();
	client->term_ms = client->request_timeout_ms;
	memset(client->early, 0, sizeof(client->early));
	pthread_mutex_unlock(&client->lock);
	pthread_mutex_unlock(&client->data.lock);
	pml_connection_put(old);
}

static int try_once(struct pml_client *client, uint32_t timeout_ms)
{
	char reason[PML_REASON_BYTES] = "";
	struct pml_connection *fresh;
	int err = pml_connection_new(&client->url, timeout_ms, &fresh, reason);
	if (err)
		return pml_client_fail(err, "reconnect: %s", reason[0] ? reason : strerror(-err));
	swap(client, fresh);
	err = pml_memory_rebind(client);
	if (err) {
		pml_client_die(client, "buffers cannot be registered again");
		return pml_client_fail(err, "reconnect: buffers cannot be registered again: %s",
				       strerror(-err));
	}
	return pml_client_greet(client);
}

/* Does it make sense to try again? */
static bool is_passing(int err)
{
	return err != -EACCES && err != -EKEYREJECTED && err != -EPERM && err != -ENOMEM &&
	       err != -EPROTONOSUPPORT && err != -EINVAL && err != -ENOENT;
}

static int reconnect(struct pml_client *client)
{
	uint64_t deadline_ms = pml_now_ms() + client->reconnect_ms;
	uint32_t backoff_ms = BACKOFF_FIRST_MS;
	for (;;) {
		int err = finish_old(client);
		uint64_t now_ms = pml_now_ms();
		uint64_t left_ms = deadline_ms - PML_MIN(now_ms, deadline_ms);
		if (!err)
			err = try_once(client, (uint32_t)PML_MAX(left_ms, (uint64_t)1));
		if (!err || !is_passing(err) || left_ms <= backoff_ms)
			return err;
		pml_sleep_ms(backoff_ms);
		backoff_ms = PML_MIN(backoff_ms * 2, BACKOFF_LAST_MS);
	}
}

int pml_client_reconnect(struct pml_client *client)
{
	pthread_mutex_lock(&client->lock);
	while (client->is_reconnecting)
		pthread_cond_wait(&client->changed, &client->lock);
	bool is_dead = client->dead_reason[0];
	bool may_try = client->reconnect_ms > 0 && !client->is_closing;
	char reason[PML_REASON_BYTES];
	memcpy(reason, client->dead_reason, sizeof(reason));
	client->is_reconnecting = is_dead && may_try;
	pthread_mutex_unlock(&client->lock);
	if (!is_dead)
		return 0;
	if (!may_try)
		return pml_client_fail(-ENOTCONN, "%s", reason);

	int err = reconnect(client);
	pthread_mutex_lock(&client->lock);
	client->is_reconnecting = false;
	pthread_cond_broadcast(&client->changed);
	pthread_mutex_unlock(&client->lock);
	/* Whatever it was: for the caller the connection is gone. */
	return err ? -ENOTCONN : 0;
}

void pml_client_set_reconnect(struct pml_client *client, int timeout_ms)
{
	pthread_mutex_lock(&client->lock);
	client->reconnect_ms = timeout_ms > 0 ? (uint32_t)timeout_ms : 0;
	atomic_store(&client->does_always_reconnect, timeout_ms > 0);
	pthread_mutex_unlock(&client->lock);
}
