/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * server.c -- listens, and gives each client a thread of its own
 *
 * The accepting thread is also the one that joins threads of clients that have
 * gone, so a connection is freed by exactly one place.  Who gets in is in hello.c, what a
 * client may ask in session.c.
 *
 * Threads: pml_server.lock guards the list of connections; it is taken before
 * none and held across nothing that blocks.
 */
#include <netdb.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "mention.h"
#include "pml/list.h"
#include "pml/log.h"
#include "pml/rdma.h"
#include "session.h"
#include "thread.h"

#define ACCEPT_TIMEOUT_MS 500
#define STOP_TIMEOUT_MS	  30000u

struct connection {
	struct pml_list link;
	struct pml_server *server;
	struct pml_remote *remote;
	struct pml_address host; /* that its place is counted for */
	pthread_t thread;
	bool is_finished; /* its thread is about to end; under the server's lock */
};

struct pml_server {
	struct pml_fabric *fabric;
	struct pml_remote_env env;
	struct pml_access *own_access; /* NULL: that of all is used */
	pthread_t accepter;

	pthread_mutex_t lock;
	pthread_cond_t changed; /* a connection has finished */
	struct pml_list connections;
	uint32_t nconnections;
	bool is_stopping;
};

/* ---- connections -------------------------------------------------------- */

static void *run_connection(void *arg)
{
	struct connection *conn = arg;
	pml_remote_serve(conn->remote);

	struct pml_server *server = conn->server;
	pthread_mutex_lock(&server->lock);
	conn->is_finished = true;
	pthread_cond_broadcast(&server->changed);
	pthread_mutex_unlock(&server->lock);
	return NULL;
}

static struct connection *take_finished_locked(struct pml_server *server)
{
	struct connection *conn;
	pml_list_for_each(conn, &server->connections, link) {
		if (!conn->is_finished)
			continue;
		pml_list_remove(&conn->link);
		server->nconnections--;
		return conn;
	}
	return NULL;
}

/* Assumes: its thread has ended, or never began. */
static void free_connection(struct connection *conn)
{
	pml_remote_free(conn->remote);
	pml_hosts_leave(pml_access_hosts(conn->server->env.access), &conn->host);
	free(conn);
}

static void reap_finished(struct pml_server *server)
{
	for (;;) {
		pthread_mutex_lock(&server->lock);
		struct connection *conn = take_finished_locked(server);
		pthread_mutex_unlock(&server->lock);
		if (!conn)
			return;
		pthread_join(conn->thread, NULL);
		free_connection(conn);
	}
}

/* Adds @conn to the list and starts its thread, both or neither. */
static int start_connection_locked(struct pml_server *server, struct connection *conn)
{
	if (server->is_stopping)
		return -ESHUTDOWN;
	int err = pml_thread_new_small(&conn->thread, run_connection, conn);
	if (err)
		return err;
	pml_list_append(&server->connections, &conn->link);
	server->nconnections++;
	return 0;
}

/* Takes a place for who has connected; who gets none is hung up on (I9). */
static int take_place(struct pml_server *server, const char *peer, struct pml_address *ret_host)
{
	struct pml_hosts *hosts = pml_access_hosts(server->env.access);
	pml_address_of_peer(peer, ret_host);
	int err = pml_hosts_enter(hosts, ret_host, pml_now_ms());
	if (err)
		pml_mention(hosts, peer, PML_LINE_TURNED_AWAY, ": hung up on: %s",
			    err == -EDQUOT ? "its host has as many connections as it may"
					   : "there are as many connections as may be");
	return err;
}

/* Owns @ep on success. */
static int new_connection(struct pml_server *server, struct pml_ep *ep, struct connection *conn)
{
	conn->server = server;
	pml_list_init(&conn->link);
	int err = take_place(server, pml_ep_peer(ep), &conn->host);
	if (err)
		return err;
	err = pml_remote_new(&server->env, ep, &conn->remote);
	if (err)
		pml_hosts_leave(pml_access_hosts(server->env.access), &conn->host);
	return err;
}

/* Owns @ep from here on. */
static int serve_endpoint(struct pml_server *server, struct pml_ep *ep)
{
	struct connection *conn = calloc(1, sizeof(*conn));
	int err = conn ? new_connection(server, ep, conn) : -ENOMEM;
	if (err) {
		free(conn);
		pml_ep_kill(ep);
		pml_ep_close(ep);
		/* It has been said, and others are not to wait for that. */
		return err == -EDQUOT || err == -EUSERS ? 0 : err;
	}

	pthread_mutex_lock(&server->lock);
	err = start_connection_locked(server, conn);
	pthread_mutex_unlock(&server->lock);
	if (err)
		free_connection(conn);
	return err;
}

static void *accept_clients(void *arg)
{
	struct pml_server *server = arg;
	for (;;) {
		struct pml_ep *ep;
		int err = pml_fabric_accept(server->fabric, ACCEPT_TIMEOUT_MS, &ep);
		reap_finished(server);
		if (err == -ESHUTDOWN)
			return NULL;
		if (err == -ETIMEDOUT)
			continue;
		if (err == 0)
			err = serve_endpoint(server, ep);
		if (err) {
			pml_mention(pml_access_hosts(server->env.access), "?",
				    PML_LINE_NOT_ACCEPTED, " was not accepted: %s", strerror(-err));
			pml_sleep_ms(100); /* out of descriptors or memory: do not spin */
		}
	}
}

/* ---- start -------------------------------------------------------------- */

static bool is_loopback(const struct sockaddr *addr)
{
	struct pml_address address;
	pml_address_of(addr, &address);
	return pml_address_is_loopback(&address);
}

/* 0: every address that @host stands for is this machine's loopback; -EPERM: not. */
static int check_loopback(const char *host, char *ret_reason)
{
	const struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
	struct addrinfo *list;
	int err = getaddrinfo(host, NULL, &hints, &list);
	if (err) {
		snprintf(ret_reason, PML_REASON_BYTES,
			 "%s: %s: give an address of this machine to listen on", host,
			 gai_strerror(err));
		return -EADDRNOTAVAIL;
	}
	for (const struct addrinfo *ai = list; ai; ai = ai->ai_next)
		err = is_loopback(ai->ai_addr) ? err : -EPERM;
	freeaddrinfo(list);
	if (err)
		snprintf(ret_reason, PML_REASON_BYTES,
			 "%s: clients are not authenticated: give secrets=FILE, listen on "
			 "127.0.0.1, or allow it explicitly on a network where every host is "
			 "trusted",
			 host);
	return err;
}

/* Who gets in: by the rules of all servers, or by some for this one alone. */
static int init_access(struct pml_server *server, const struct pml_server_args *args,
		       char *ret_reason)
{
	const struct pml_access_args own = {
		.allow_unauthenticated = args->allow_unauthenticated,
		.client_cred = args->client_cred,
		.is_read_only = args->is_read_only,
	};
	server->env.access = args->access;
	if (args->access)
		return 0;
	int err = pml_access_new(&own, &server->own_access, ret_reason);
	if (!err)
		server->env.access = server->own_access;
	return err;
}

/*
 * The kernel drops packets from loopback addresses that come from elsewhere.  Over verbs the
 * address is what the client's first message says: believed where no other host can send one.
 */
static bool trusts_loopback(const struct pml_server_args *args)
{
	char ignored[PML_REASON_BYTES];
	return args->is_soft || check_loopback(args->host, ignored) == 0;
}

static int init_env(struct pml_server *server, const struct pml_server_args *args, char *ret_reason)
{
	int err = init_access(server, args, ret_reason);
	if (err)
		return err;
	struct pml_remote_env *env = &server->env;
	env->fs = args->fs;
	env->leases = args->leases;
	env->trusts_loopback = trusts_loopback(args);
	env->handles = *pml_access_handles(env->access);
	env->hooks = args->hooks;
	env->replies = pml_access_replies(env->access);
	return 0;
}

/* How keys end here, by what was measured of the device; a doubt goes to the log. */
static int choose_fence(struct pml_fabric *fabric, const struct pml_server_args *args,
			char *ret_reason)
{
	pml_auto_free struct pml_verdicts *verdicts = calloc(1, sizeof(*verdicts));
	if (!verdicts)
		return -ENOMEM;
	int err = pml_verdicts_load(args->verdicts ? args->verdicts : PML_VERDICTS_PATH, verdicts,
				    ret_reason);
	if (err)
		return err;
	char text[PML_REASON_BYTES];
	int rc = pml_fabric_set_fence(fabric, args->fence, verdicts, text);
	if (rc < 0)
		memcpy(ret_reason, text, sizeof(text));
	else if (rc > 0)
		pml_log_warning("%s:%s: %s", args->host, args->port, text);
	else
		pml_log_info("%s:%s: %s", args->host, args->port, text);
	return rc < 0 ? rc : 0;
}

static void persist(void *arg, const void *addr, size_t bytes)
{
	pml_fs_persist(arg, addr, bytes);
}

/* By which rule remote writes become durable on the fabric's device. */
static int choose_durable(struct pml_fabric *fabric, const struct pml_server_args *args,
			  char *ret_reason)
{
	struct pml_device_info info;
	pml_fs_info(args->fs, &info);
	char text[PML_REASON_BYTES];
	int err = pml_fabric_set_durable(fabric, args->durable, info.is_cache_line ? persist : NULL,
					 args->fs, text);
	if (err)
		memcpy(ret_reason, text, sizeof(text));
	else
		pml_log_info("%s:%s: %s", args->host, args->port, text);
	return err;
}

/*
 * Kernels before 6.5 let a file in the page cache be pinned for writing.  But what the device
 * then writes dirties no page: neither msync(2) nor the kernel would write it back.
 */
static int check_pages(const struct pml_fabric *fabric, const struct pml_server_args *args,
		       char *ret_reason)
{
	struct pml_device_info info;
	pml_fs_info(args->fs, &info);
	if (!info.is_page_cache || !pml_fabric_is_pinned(fabric))
		return 0;
	snprintf(
		ret_reason, PML_REASON_BYTES,
		"%s:%s: this memory cannot be registered for remote writing, as a file in the page "
		"cache cannot; use device-DAX or tmpfs",
		args->host, args->port);
	return -EOPNOTSUPP;
}

/* Listens on a fabric that can reach the device's memory. */
static int open_fabric(const struct pml_server_args *args, struct pml_fabric **ret_fabric,
		       char *ret_reason)
{
	struct pml_fabric *fabric;
	int err = pml_fabric_listen(args->is_soft ? PML_TRANSPORT_SOFT : PML_TRANSPORT_VERBS,
				    args->host, args->port, &fabric, ret_reason);
	if (err)
		return err;

	uint8_t *base;
	uint64_t bytes;
	pml_fs_mapping(args->fs, &base, &bytes);
	err = pml_fabric_probe(fabric, base, bytes, ret_reason);
	if (!err)
		err = check_pages(fabric, args, ret_reason);
	if (!err)
		pml_log_info("%s:%s: %s", args->host, args->port, ret_reason);
	if (!err)
		err = choose_fence(fabric, args, ret_reason);
	if (!err)
		err = choose_durable(fabric, args, ret_reason);
	if (err) {
		pml_fabric_close(fabric);
		return err;
	}
	*ret_fabric = fabric;
	return 0;
}

static int start_accepting(struct pml_server *server)
{
	int err = pml_cond_init(&server->changed);
	if (err)
		return err;
	pthread_mutex_init(&server->lock, NULL);
	pml_list_init(&server->connections);
	err = pml_thread_new(&server->accepter, accept_clients, server);
	if (err) {
		pthread_mutex_destroy(&server->lock);
		pthread_cond_destroy(&server->changed);
	}
	return err;
}

/* Others can reach an address that is not loopback: do clients prove who they are? */
static int check_address(const struct pml_server_args *args, char *ret_reason)
{
	bool is_open =
		args->access ? pml_access_is_open(args->access) : args->allow_unauthenticated;
	return is_open ? 0 : check_loopback(args->host, ret_reason);
}

int pml_server_check(const struct pml_server_args *args, char *ret_reason)
{
	int err = check_address(args, ret_reason);
	if (err)
		return err;
	struct pml_fabric *fabric;
	err = pml_fabric_listen(args->is_soft ? PML_TRANSPORT_SOFT : PML_TRANSPORT_VERBS,
				args->host, "0", &fabric, ret_reason);
	if (!err)
		pml_fabric_close(fabric);
	return err;
}

static int start(struct pml_server *server, const struct pml_server_args *args, char *ret_reason)
{
	int err = init_env(server, args, ret_reason);
	if (!err)
		err = open_fabric(args, &server->fabric, ret_reason);
	if (err)
		return err;
	err = start_accepting(server);
	if (err) {
		snprintf(ret_reason, PML_REASON_BYTES, "%s:%s: cannot start a thread: %s",
			 args->host, args->port, strerror(-err));
		pml_fabric_close(server->fabric);
	}
	return err;
}

int pml_server_start(const struct pml_server_args *args, struct pml_server **ret_server,
		     char *ret_reason)
{
	int err = check_address(args, ret_reason);
	if (err)
		return err;
	struct pml_server *server = calloc(1, sizeof(*server));
	if (!server) {
		snprintf(ret_reason, PML_REASON_BYTES, "%s:%s: out of memory", args->host,
			 args->port);
		return -ENOMEM;
	}
	err = start(server, args, ret_reason);
	if (err) {
		pml_access_free(server->own_access);
		free(server);
		return err;
	}
	*ret_server = server;
	return 0;
}

uint16_t pml_server_port(const struct pml_server *server)
{
	return pml_fabric_port(server->fabric);
}

/* ---- stop --------------------------------------------------------------- */

static bool are_all_finished_locked(const struct pml_server *server)
{
	const struct connection *conn;
	pml_list_for_each(conn, &server->connections, link)
		if (!conn->is_finished)
			return false;
	return true;
}

/* Ends all connections and waits for their threads.  False: some did not end in time. */
static bool end_connections(struct pml_server *server)
{
	uint64_t deadline_ms = pml_now_ms() + STOP_TIMEOUT_MS;
	pthread_mutex_lock(&server->lock);
	server->is_stopping = true;
	struct connection *conn;
	pml_list_for_each(conn, &server->connections, link)
		pml_remote_kill(conn->remote, PML_END_UNMOUNT);
	while (!are_all_finished_locked(server) && pml_now_ms() < deadline_ms)
		pml_cond_wait_until(&server->changed, &server->lock, deadline_ms);
	bool is_done = are_all_finished_locked(server);
	pthread_mutex_unlock(&server->lock);
	return is_done;
}

void pml_server_stop(struct pml_server *server)
{
	pml_fabric_shutdown(server->fabric);
	pthread_join(server->accepter, NULL);
	bool is_done = end_connections(server);
	reap_finished(server);
	if (!is_done) {
		/* Their keys are not proven dead: nothing that they reach may be freed (I3). */
		pml_log_error("%u client connections could not be fenced in %u s and are left "
			      "behind; end the process to destroy them",
			      server->nconnections, STOP_TIMEOUT_MS / 1000);
		return;
	}
	pml_fabric_close(server->fabric);
	pthread_cond_destroy(&server->changed);
	pthread_mutex_destroy(&server->lock);
	pml_access_free(server->own_access);
	free(server);
}
