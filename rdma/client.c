/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * client.c -- client library: its life, requests, and what messages of the server do
 *
 * A caller waits for the reply with its number.  Who takes it from the connection is in
 * client_receive.c.
 *
 * Protocol: docs/lease-protocol.md.
 */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <sodium.h>

#include "client_i.h"
#include "thread.h"

#define DEFAULT_TIMEOUT_MS 30000u
#define RETRIES_MAX	   3
/* A key may have to be made for the reply. */
#define REPLY_LOOK_US_MAX 1500u
#define RECONNECT_MS	  10000u

/* A caller that waits for a reply; on its stack.  Under pml_client.lock. */
struct call {
	struct pml_list link;
	uint32_t request_id;
	enum pml_wire_type type;
	uint64_t connection_number; /* that it was sent over */
	struct pml_client_look look;
	atomic_bool is_done; /* written under the lock */
	int status;
	union pml_message *reply;
};

static _Thread_local char last_reason[PML_REASON_BYTES];

int pml_client_fail(int err, const char *fmt, ...)
{
	va_list args;
	va_start(args, fmt);
	vsnprintf(last_reason, sizeof(last_reason), fmt, args);
	va_end(args);
	return err;
}

const char *pml_client_reason(struct pml_client *client)
{
	(void)client;
	return last_reason;
}

/* ---- requests ----------------------------------------------------------- */

static void die_locked(struct pml_client *client, const char *reason)
{
	if (client->dead_reason[0] == 0) {
		snprintf(client->dead_reason, sizeof(client->dead_reason), "%s", reason);
		pml_client_end_all_locked(client);
		struct call *call;
		struct call *tmp;
		pml_list_for_each_safe(call, tmp, &client->calls, link) {
			pml_list_remove(&call->link);
			call->status = -ENOTCONN;
			atomic_store(&call->is_done, true);
		}
	}
	pml_ep_kill(client->connection->ep);
	pthread_cond_broadcast(&client->changed);
}

void pml_client_die(struct pml_client *client, const char *reason)
{
	pthread_mutex_lock(&client->lock);
	die_locked(client, reason);
	pthread_mutex_unlock(&client->lock);
}

void pml_client_die_of(struct pml_client *client, uint64_t number, const char *reason)
{
	pthread_mutex_lock(&client->lock);
	if (number == client->connection_number)
		die_locked(client, reason);
	pthread_mutex_unlock(&client->lock);
}

static uint32_t new_request_id_locked(struct pml_client *client)
{
	uint32_t id = client->next_request_id++;
	if (client->next_request_id == 0)
		client->next_request_id = 1;
	return id;
}

int pml_client_send_async(struct pml_client *client, union pml_message *msg, size_t bytes,
			  enum pml_wire_type type, int timeout_ms)
{
	pthread_mutex_lock(&client->lock);
	uint32_t id = new_request_id_locked(client);
	pthread_mutex_unlock(&client->lock);
	pml_codec_header(&msg->h, type, bytes, id);
	struct pml_connection *connection = pml_connection_get(client);
	int err = pml_ep_send(connection->ep, msg, bytes, timeout_ms);
	pml_connection_put(connection);
	if (err)
		return err;

	pthread_mutex_lock(&client->lock);
	client->sent_ms = pml_now_ms();
	pthread_mutex_unlock(&client->lock);
	return 0;
}

/* Queues @call; from then on its reply finds it.  Who was not let in may only ask for that. */
static int start_call(struct pml_client *client, struct call *call,
		      struct pml_connection **ret_connection)
{
	bool is_greeting = call->type == PML_WIRE_HELLO || call->type == PML_WIRE_AUTH;
	pthread_mutex_lock(&client->lock);
	int err = client->dead_reason[0] || (!client->is_ready && !is_greeting) ? -ENOTCONN : 0;
	if (!err) {
		if (!call->request_id)
			call->request_id = new_request_id_locked(client);
		call->connection_number = client->connection_number;
		client->sent_ms = pml_now_ms();
		pml_list_append(&client->calls, &call->link);
		*ret_connection = pml_connection_get_locked(client);
		pml_client_look_begin_locked(client, &call->look);
	}
	pthread_mutex_unlock(&client->lock);
	return err;
}

/*
 * A server that does not answer is as good as gone: nobody knows what it did.  What may wait
 * for leases is waited for as long as the server answers renewals.
 */
static int finish_call(struct pml_client *client, struct call *call, uint64_t deadline_ms)
{
	pthread_mutex_lock(&client->lock);
	while (!atomic_load(&call->is_done) && pml_codec_may_wait((uint16_t)call->type))
		pthread_cond_wait(&client->changed, &client->lock);
	while (!atomic_load(&call->is_done) && pml_now_ms() < deadline_ms)
		pml_cond_wait_until(&client->changed, &client->lock, deadline_ms);
	pml_client_look_end_locked(client, &call->look);
	if (!atomic_load(&call->is_done)) {
		pml_list_remove(&call->link);
		call->status = -ETIMEDOUT;
		die_locked(client, "the server did not answer in time");
	}
	int status = call->status;
	pthread_mutex_unlock(&client->lock);
	return status;
}

static int fail_dead(struct pml_client *client, int err, const char *what)
{
	char reason[PML_REASON_BYTES];
	pthread_mutex_lock(&client->lock);
	memcpy(reason, client->dead_reason, sizeof(reason));
	pthread_mutex_unlock(&client->lock);
	return pml_client_fail(err, "%s: %s", what,
			       reason[0] ? reason : "the connection to the server is gone");
}

/* Sends it once, and waits for the reply. */
static int run_call(struct pml_client *client, struct call *call, union pml_message *msg,
		    size_t bytes)
{
	bool is_retry = call->request_id != 0;
	struct pml_connection *connection;
	atomic_store(&call->is_done, false);
	int err = start_call(client, call, &connection);
	if (err)
		return err;
	uint64_t deadline_ms = pml_now_ms() + client->request_timeout_ms;
	pml_codec_header(&msg->h, call->type, bytes, call->request_id);
	msg->h.flags = (uint16_t)((is_retry ? PML_WIRE_RETRY : 0) |
				  (call->look.is_on ? PML_WIRE_QUIET : 0));
	err = pml_ep_send(connection->ep, msg, bytes, (int)client->request_timeout_ms);
	if (err) {
		/* The server may have said why. */
		pml_client_take_rest(client, connection->ep, call->connection_number);
		pml_client_die_of(client, call->connection_number,
				  err == -ETIMEDOUT ? "the server takes no messages"
						    : "the connection broke");
	}
	pml_client_look(client, connection->ep, call->connection_number, &call->look,
			&call->is_done);
	pml_connection_put(connection);
	return finish_call(client, call, deadline_ms);
}

/* May a request that broke off with its connection be sent again over another? */
static bool may_retry(const struct pml_client *client, enum pml_wire_type type)
{
	switch (type) {
	case PML_WIRE_HELLO:
	case PML_WIRE_AUTH:
	case PML_WIRE_RENEW:
	case PML_WIRE_LEASE: /* its caller asks anew */
	case PML_WIRE_RETURN:
	case PML_WIRE_DOWNGRADE:
	case PML_WIRE_COMMIT:
	case PML_WIRE_ACK:
		return false;
	default:
		return atomic_load(&client->does_always_reconnect);
	}
}

int pml_client_request_on(struct pml_client *client, union pml_message *msg, size_t bytes,
			  enum pml_wire_type type, const char *what, union pml_message *ret_reply,
			  uint64_t *ret_connection_number)
{
	struct call call = {.type = type, .reply = ret_reply};
	pml_list_init(&call.link);
	int err = run_call(client, &call, msg, bytes);
	/* Each connection is made within a time of its own. */
	for (int tries = 0; tries < RETRIES_MAX && may_retry(client, type) &&
			    (err == -ENOTCONN || err == -ETIMEDOUT || err == -EINPROGRESS);
	     tries++) {
		/* In progress: the server still does what was sent over the old one. */
		if (err != -EINPROGRESS && pml_client_reconnect(client))
			break;
		err = run_call(client, &call, msg, bytes);
	}
	*ret_connection_number = call.connection_number;
	if (err == -ENOTCONN || err == -ETIMEDOUT)
		return fail_dead(client, err, what);
	if (!err)
		return 0;
	int reason_bytes = (int)(ret_reply->h.bytes - sizeof(ret_reply->h));
	return pml_client_fail(err, "%s: %s%s%.*s", what, strerror(-err), reason_bytes ? ": " : "",
			       reason_bytes, (const char *)ret_reply->bytes + sizeof(ret_reply->h));
}

int pml_client_request(struct pml_client *client, union pml_message *msg, size_t bytes,
		       enum pml_wire_type type, const char *what, union pml_message *ret_reply)
{
	uint64_t number;
	return pml_client_request_on(client, msg, bytes, type, what, ret_reply, &number);
}

/* ---- messages of the server --------------------------------------------- */

static int take_reply_locked(struct pml_client *client, const union pml_message *msg)
{
	if (msg->h.request_id == client->renew_id)
		client->renew_id = 0;
	/* Here and not in the caller: the next wait depends on it. */
	if (msg->h.reply_to == PML_WIRE_AUTH && msg->h.status == 0)
		pml_client_take_auth_locked(client, msg);
	struct call *call;
	pml_list_for_each(call, &client->calls, link) {
		if (call->request_id != msg->h.request_id)
			continue;
		if (call->type != msg->h.reply_to)
			return -EPROTO;
		memcpy(call->reply->bytes, msg->bytes, msg->h.bytes);
		call->status = msg->h.status;
		pml_list_remove(&call->link);
		atomic_store(&call->is_done, true);
		return 0;
	}
	return 0; /* of a renewal or of a return by the worker */
}

int pml_client_take_message(struct pml_client *client, uint64_t number,
			    const union pml_message *msg)
{
	int err = 0;
	bool is_reply = false;
	pthread_mutex_lock(&client->lock);
	if (number != client->connection_number) {
		pthread_mutex_unlock(&client->lock);
		return 0;
	}
	switch ((enum pml_wire_type)msg->h.type) {
	case PML_WIRE_RECALL:
		pml_client_recalled_locked(client, msg->recall.lease_id, msg->recall.drain_ms);
		break;
	case PML_WIRE_REVOKED:
		if (msg->revoked.lease_id == PML_WIRE_SESSION_ITSELF)
			die_locked(client, "an administrator of the server has ended the session");
		else
			pml_client_revoked_locked(client, msg->revoked.lease_id, msg->revoked.why);
		break;
	default:
		err = take_reply_locked(client, msg);
		is_reply = true;
		break;
	}
	pthread_mutex_unlock(&client->lock);
	/* Not before: on one processor the caller would run at once, into the lock. */
	if (is_reply)
		pthread_cond_broadcast(&client->changed);
	return err;
}

bool pml_client_is_waiting_locked(const struct pml_client *client)
{
	const struct call *call;
	pml_list_for_each(call, &client->calls, link)
		if (pml_codec_may_wait((uint16_t)call->type))
			return true;
	return false;
}

/* ---- connect and close -------------------------------------------------- */

static struct pml_client *alloc_client(uint32_t timeout_ms)
{
	if (sodium_init() < 0)
		return NULL;
	struct pml_client *client = calloc(1, sizeof(*client));
	if (!client)
		return NULL;
	randombytes_buf(client->client_id, sizeof(client->client_id));
	if (pml_cond_init(&client->changed) || pml_cond_init(&client->has_work)) {
		free(client);
		return NULL;
	}
	pthread_mutex_init(&client->lock, NULL);
	pml_data_init(&client->data);
	pml_memory_init(&client->memory);
	pthread_mutex_init(&client->recv_lock, NULL);
	pml_look_init(&client->reply_look, REPLY_LOOK_US_MAX);
	pml_list_init(&client->calls);
	pml_list_init(&client->leases);
	pml_list_init(&client->buffers);
	pml_list_init(&client->queues);
	pml_list_init(&client->ahead);
	pml_list_init(&client->files);
	pthread_mutex_init(&client->files_lock, NULL);
	client->next_request_id = 1;
	client->request_timeout_ms = timeout_ms;
	client->reconnect_ms = RECONNECT_MS;
	client->connection_number = 1;
	client->term_ms = timeout_ms; /* until hello is answered */
	client->sent_ms = pml_now_ms();
	return client;
}

/* Assumes: the threads have ended or never began. */
static void free_client(struct pml_client *client)
{
	pml_data_end(&client->data);
	pml_memory_end(client);
	if (client->connection)
		pml_connection_put(client->connection);
	pml_client_claim_end(&client->claim);
	pthread_mutex_destroy(&client->lock);
	pthread_mutex_destroy(&client->recv_lock);
	pthread_mutex_destroy(&client->files_lock);
	pthread_cond_destroy(&client->changed);
	pthread_cond_destroy(&client->has_work);
	free(client);
}

int pml_client_greet(struct pml_client *client)
{
	int err = pml_client_receive(client);
	if (!err)
		err = pml_client_hello(client, client->url.text);
	if (err)
		pml_client_die(client, "the server did not let it in");
	return err;
}

/* Connects, and is let in.  Frees @client on error. */
static int start_client(struct pml_client *client)
{
	const char *text = client->url.text;
	char reason[PML_REASON_BYTES] = "";
	int err = pml_connection_new(&client->url, client->request_timeout_ms, &client->connection,
				     reason);
	if (err) {
		free_client(client);
		return pml_client_fail(err, "%s", reason[0] ? reason : strerror(-err));
	}
	err = pml_thread_new(&client->worker, pml_client_work, client);
	if (err) {
		(void)pml_client_fail(err, "%s: cannot start a thread: %s", text, strerror(-err));
		pml_ep_kill(client->connection->ep);
		free_client(client);
		return err;
	}
	err = pml_client_greet(client);
	if (err)
		pml_client_close(client); /* leaves the reason alone */
	return err;
}

static int open_client(const struct pml_client_args *args, struct pml_client **ret_client)
{
	const char *text = args->url ? args->url : "(none)";
	struct pml_client *client = alloc_client(args->timeout_ms > 0 ? (uint32_t)args->timeout_ms
								      : DEFAULT_TIMEOUT_MS);
	if (!client)
		return pml_client_fail(-ENOMEM, "%s: out of memory", text);
	int err = pml_client_url_parse(text, &client->url);
	if (err)
		(void)pml_client_fail(err,
				      err == -ENAMETOOLONG
					      ? "%s: the path is longer than 4095 bytes"
					      : "%s: give rdma://HOST:PORT/PATH or "
						"soft://HOST:PORT/PATH, with IDENTITY@ before HOST "
						"to prove who you are",
				      text);
	if (!err)
		err = pml_client_claim_init(&client->claim, args, &client->url);
	if (err) {
		free_client(client);
		return err;
	}
	err = start_client(client);
	if (!err)
		*ret_client = client;
	return err;
}

/* What a program of another version has set, as this one knows it. */
static int take_args(const struct pml_client_args *args, struct pml_client_args *ret_args)
{
	struct pml_client_args known = {0};
	if (args->size_bytes < offsetof(struct pml_client_args, identity))
		return pml_client_fail(-EINVAL, "size_bytes is not set");
	const uint8_t *bytes = (const uint8_t *)args;
	for (size_t i = sizeof(known); i < args->size_bytes; i++)
		if (bytes[i])
			return pml_client_fail(-E2BIG, "an argument that this version has not");
	memcpy(&known, args, PML_MIN(args->size_bytes, sizeof(known)));
	*ret_args = known;
	return 0;
}

int pml_client_open(const struct pml_client_args *args, struct pml_client **ret_client,
		    char *ret_reason)
{
	struct pml_client_args known;
	int err = take_args(args, &known);
	if (!err)
		err = open_client(&known, ret_client);
	if (err && ret_reason)
		memcpy(ret_reason, last_reason, sizeof(last_reason));
	return err;
}

int pml_client_connect(const char *url, int timeout_ms, struct pml_client **ret_client,
		       char *ret_reason)
{
	const struct pml_client_args args = {
		.size_bytes = sizeof(args),
		.url = url,
		.timeout_ms = timeout_ms,
	};
	return pml_client_open(&args, ret_client, ret_reason);
}

void pml_client_set_events(struct pml_client *client, const struct pml_client_events *events)
{
	pthread_mutex_lock(&client->lock);
	client->events = events ? *events : (struct pml_client_events){0};
	pthread_mutex_unlock(&client->lock);
}

static struct pml_client_lease *first_lease(struct pml_client *client)
{
	pthread_mutex_lock(&client->lock);
	bool is_empty = pml_list_is_empty(&client->leases);
	struct pml_client_lease *lease =
		is_empty ? NULL
			 : pml_list_entry(client->leases.next, struct pml_client_lease, link);
	pthread_mutex_unlock(&client->lock);
	return lease;
}

void pml_client_close(struct pml_client *client)
{
	char reason[PML_REASON_BYTES];
	memcpy(reason, last_reason, sizeof(reason));
	pml_files_free(client);
	for (struct pml_client_lease *lease = first_lease(client); lease;
	     lease = first_lease(client))
		(void)pml_client_return(lease);

	/* First the worker: a callback that it is in may still return a lease. */
	pthread_mutex_lock(&client->lock);
	client->is_closing = true;
	pthread_cond_signal(&client->has_work);
	pthread_mutex_unlock(&client->lock);
	pthread_join(client->worker, NULL);
	pml_client_die(client, "closed");
	if (client->has_receiver)
		pthread_join(client->receiver, NULL);
	pml_queues_free(client);
	pml_client_buffers_free(client);
	free_client(client);
	memcpy(last_reason, reason, sizeof(reason));
}
