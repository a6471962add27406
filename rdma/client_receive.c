/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * client_receive.c -- who takes the messages of the server
 *
 * A caller that waits for a reply looks for it by itself, where the transport allows that: so
 * no thread has to be woken for it, and the server is asked to wake nobody.  One caller at a
 * time looks, and hands on what belongs to others.  Who has looked in vain for long enough goes
 * to sleep like all others.
 *
 * The receiver thread sleeps until something comes for which nobody looks: it wakes the callers
 * that sleep, acknowledges recalls, and in between it renews the session.  It never waits for
 * anything else, so messages keep flowing whatever the program and the worker thread do.
 *
 * Threads: recv_lock makes taking a message and acting on it one step, so that they keep the
 * server's order.  Lock order in client_i.h.
 */
#include <string.h>

#include "client_i.h"
#include "thread.h"

#define SEND_RETRY_MS 10u

/* ---- one message -------------------------------------------------------- */

/* With recv_lock.  0; -ETIMEDOUT: there is none; -ENOTCONN: none will come. */
static int take_one_locked(struct pml_client *client, struct pml_ep *ep, uint64_t number)
{
	union pml_message msg;
	size_t bytes;
	int err = pml_ep_recv(ep, &msg, &bytes, 0);
	if (err == -ETIMEDOUT)
		return err;
	if (err) {
		pml_client_die_of(client, number, "the server closed the connection");
		return -ENOTCONN;
	}
	const char *reason;
	err = pml_codec_check_from_server(&msg, bytes, &reason);
	if (!err)
		err = pml_client_take_message(client, number, &msg);
	if (!err)
		return 0;
	pml_client_die_of(client, number,
			  err == -EPROTONOSUPPORT
				  ? "the server speaks another version of the protocol"
				  : "the server sent a malformed message");
	return -ENOTCONN;
}

/* With recv_lock.  How many; at PML_MSG_DEPTH there may be more; -ENOTCONN. */
static int take_all_locked(struct pml_client *client, struct pml_ep *ep, uint64_t number)
{
	for (int n = 0; n < (int)PML_MSG_DEPTH; n++) {
		int err = take_one_locked(client, ep, number);
		if (err)
			return err == -ETIMEDOUT ? n : err;
	}
	return (int)PML_MSG_DEPTH;
}

/* With recv_lock.  From now on the receiver is woken by all that nobody looks for. */
static void arm_locked(struct pml_client *client, struct pml_ep *ep)
{
	pthread_mutex_lock(&client->lock);
	bool for_quiet = client->quiet_sleepers > 0;
	pthread_mutex_unlock(&client->lock);
	pml_ep_recv_arm(ep, for_quiet);
}

void pml_client_take_rest(struct pml_client *client, struct pml_ep *ep, uint64_t number)
{
	pthread_mutex_lock(&client->recv_lock);
	(void)take_all_locked(client, ep, number);
	pthread_mutex_unlock(&client->recv_lock);
}

/* ---- a caller looks ----------------------------------------------------- */

void pml_client_look_begin_locked(struct pml_client *client, struct pml_client_look *ret_look)
{
	/* Before, the receiver has to take the replies: how long it sleeps depends on them. */
	*ret_look = (struct pml_client_look){
		.is_on = client->is_ready && !client->is_looked &&
			 pml_ep_can_look(client->connection->ep),
	};
	if (!ret_look->is_on)
		return;
	client->is_looked = true;
	ret_look->run = pml_look_begin(&client->reply_look);
}

/* The reply comes quietly, and its caller sleeps now: the receiver has to be woken for it. */
static void go_to_sleep(struct pml_client *client, struct pml_ep *ep, uint64_t number,
			struct pml_client_look *look)
{
	pthread_mutex_lock(&client->lock);
	client->is_looked = false;
	client->quiet_sleepers++;
	look->is_asleep = true;
	pthread_mutex_unlock(&client->lock);

	pthread_mutex_lock(&client->recv_lock);
	pml_ep_recv_arm(ep, true);
	/* What came before that wakes nobody; the receiver notices an end by itself. */
	(void)take_all_locked(client, ep, number);
	pthread_mutex_unlock(&client->recv_lock);
}

void pml_client_look(struct pml_client *client, struct pml_ep *ep, uint64_t number,
		     struct pml_client_look *look, const atomic_bool *is_done)
{
	if (!look->is_on)
		return;
	while (!atomic_load(is_done)) {
		if (!pml_look_again(&look->run)) {
			go_to_sleep(client, ep, number, look);
			return;
		}
		/* The receiver goes first: it has acknowledgements to send. */
		if (atomic_load(&client->is_receiver_there) ||
		    pthread_mutex_trylock(&client->recv_lock))
			continue;
		(void)take_one_locked(client, ep, number);
		pthread_mutex_unlock(&client->recv_lock);
	}
}

void pml_client_look_end_locked(struct pml_client *client, const struct pml_client_look *look)
{
	if (!look->is_on)
		return;
	pml_look_end(&client->reply_look, &look->run);
	if (look->is_asleep)
		client->quiet_sleepers--;
	else
		client->is_looked = false;
}

/* ---- the receiver thread ------------------------------------------------ */

/* Sends acknowledgements that are due.  True: one is left, there was no room. */
static bool send_acks(struct pml_client *client)
{
	for (;;) {
		pthread_mutex_lock(&client->lock);
		struct pml_client_lease *lease = pml_client_unacked_locked(client);
		uint64_t id = lease ? lease->id : 0;
		pthread_mutex_unlock(&client->lock);
		if (!id)
			return false;

		/* The lease may be freed meanwhile; no other thread changes needs_ack. */
		union pml_message msg = {.ret = {.lease_id = id}};
		if (pml_client_send_async(client, &msg, sizeof(msg.ret), PML_WIRE_ACK, 0))
			return true;
		pthread_mutex_lock(&client->lock);
		lease = pml_client_unacked_locked(client);
		if (lease && lease->id == id)
			lease->needs_ack = false;
		pthread_mutex_unlock(&client->lock);
	}
}

/*
 * Renews a session that has been quiet; returns how long to wait for messages now.  While a
 * call waits that may wait for leases, only renewals tell whether the server is still there:
 * it is asked, and must answer, in the time of any other request then.
 */
static uint32_t renew_if_due(struct pml_client *client)
{
	pthread_mutex_lock(&client->lock);
	uint32_t patience_ms = client->term_ms;
	if (pml_client_is_waiting_locked(client))
		patience_ms = PML_MIN(patience_ms, client->request_timeout_ms);
	uint32_t period_ms = PML_MAX(patience_ms / 3, 1u);
	uint64_t now_ms = pml_now_ms();
	uint64_t idle_ms = now_ms - client->sent_ms;
	bool is_due = idle_ms >= period_ms && client->is_ready;
	/* Several renewals may be out; the oldest one decides whether the server is there. */
	bool is_silent = client->renew_id && now_ms - client->renew_sent_ms > patience_ms;
	pthread_mutex_unlock(&client->lock);
	if (is_silent) {
		pml_client_die(client, "the server is silent");
		return 0;
	}
	if (!is_due)
		return (uint32_t)(period_ms - idle_ms);

	union pml_message msg;
	if (pml_client_send_async(client, &msg, sizeof(struct pml_wire_empty), PML_WIRE_RENEW, 0))
		return SEND_RETRY_MS;
	pthread_mutex_lock(&client->lock);
	if (!client->renew_id) {
		client->renew_id = msg.h.request_id;
		client->renew_sent_ms = now_ms;
	}
	pthread_mutex_unlock(&client->lock);
	return period_ms;
}

/* Takes what is there, and has the rest wake this thread.  As take_all_locked(). */
static int take_and_arm(struct pml_client *client, struct pml_ep *ep, uint64_t number)
{
	atomic_store(&client->is_receiver_there, true);
	pthread_mutex_lock(&client->recv_lock);
	atomic_store(&client->is_receiver_there, false);
	int n = take_all_locked(client, ep, number);
	if (n == 0) {
		arm_locked(client, ep);
		n = take_all_locked(client, ep, number);
	}
	pthread_mutex_unlock(&client->recv_lock);
	return n;
}

static void *run_receiver(void *arg)
{
	struct pml_client *client = arg;
	/* These stay: another connection takes its place only when this thread has ended. */
	struct pml_ep *ep = client->connection->ep;
	uint64_t number = client->connection_number;
	for (;;) {
		/* Looks now and then: a call that waits may have begun meanwhile. */
		uint32_t wait_ms = PML_MIN(renew_if_due(client), client->request_timeout_ms);
		int n = take_and_arm(client, ep, number);
		if (n < 0)
			break;
		/* Also of recalls that a caller has taken: they wake this thread, too. */
		if (send_acks(client))
			wait_ms = PML_MIN(wait_ms, SEND_RETRY_MS);
		if (n == 0)
			pml_ep_recv_sleep(ep, (int)wait_ms);
	}
	pthread_mutex_lock(&client->lock);
	client->has_receiver_ended = true;
	pthread_cond_broadcast(&client->changed);
	pthread_mutex_unlock(&client->lock);
	return NULL;
}

int pml_client_receive(struct pml_client *client)
{
	int err = pml_thread_new(&client->receiver, run_receiver, client);
	pthread_mutex_lock(&client->lock);
	client->has_receiver = !err;
	pthread_mutex_unlock(&client->lock);
	return err ? pml_client_fail(err, "%s: cannot start a thread: %s", client->url.text,
				     strerror(-err))
		   : 0;
}
