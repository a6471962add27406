/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * remote_keys.c -- what keys cost: made and fenced, by method and size
 *
 * usage: bench_remote_keys [-r ROUNDS] rdma|soft HOST
 *
 * Both ends of the connection are threads here, over the transports alone.  The round trip
 * that all is compared with is that of a bare message over the same connection.
 */
#include <pthread.h>
#include <sys/mman.h>

#include "../rdma/thread.h"
#include "../rdma/transport.h"
#include "ratio.h"

#define MEMORY_BYTES (64u << 20)
#define MESSAGES     8u
#define TIMEOUT_MS   30000

static unsigned int nrounds = 21;

/* A connection whose server side is @server; messages to it are sent back. */
struct pair {
	enum pml_transport_kind kind;
	const char *host;
	struct pml_fabric *fabric;
	struct pml_ep *server;
	struct pml_ep *client;
	pthread_t echo;
	uint8_t *memory;
	/* What work_key() does. */
	size_t bytes;
	enum pml_ep_fence how;
};

static void die(const char *what, const char *why)
{
	fprintf(stderr, "bench_remote_keys: %s: %s\n", what, why);
	exit(1);
}

static void must(int err, const char *what)
{
	if (err)
		die(what, strerror(-err));
}

/* ---- a connection ------------------------------------------------------------ */

static void *echo(void *arg)
{
	struct pair *pair = arg;
	uint8_t msg[PML_MSG_BYTES_MAX];
	size_t bytes;
	must(pml_fabric_accept(pair->fabric, TIMEOUT_MS, &pair->server), "accept");
	while (pml_ep_recv(pair->server, msg, &bytes, -1) == 0)
		if (pml_ep_send(pair->server, msg, bytes, TIMEOUT_MS))
			break;
	return NULL;
}

static double trips_s(struct pair *pair, unsigned int count)
{
	char msg[PML_MSG_BYTES_MAX] = {0};
	double start_s = ratio_now_s();
	for (unsigned int i = 0; i < count; i++) {
		size_t bytes;
		must(pml_ep_send(pair->client, msg, 64, TIMEOUT_MS), "send");
		must(pml_ep_recv(pair->client, msg, &bytes, TIMEOUT_MS), "receive");
	}
	return ratio_now_s() - start_s;
}

static void connect_pair(struct pair *pair)
{
	char reason[PML_REASON_BYTES];
	char port[8];
	must(pml_thread_new(&pair->echo, echo, pair), "thread");
	(void)snprintf(port, sizeof(port), "%u", pml_fabric_port(pair->fabric));
	if (pml_ep_connect(pair->kind, pair->host, port, TIMEOUT_MS, &pair->client, reason))
		die("connect", reason);
	(void)trips_s(pair, 1); /* from here on pair->server is set */
}

static void disconnect_pair(struct pair *pair)
{
	pml_ep_kill(pair->client);
	(void)pthread_join(pair->echo, NULL);
	pml_ep_kill(pair->server);
	pml_ep_close(pair->server);
	pml_ep_close(pair->client);
}

/* ---- pieces of work ---------------------------------------------------------- */

static double work_ping_pong(void *arg)
{
	(void)trips_s(arg, 2);
	return trips_s(arg, MESSAGES) / MESSAGES;
}

static double work_key(void *arg)
{
	struct pair *pair = arg;
	double start_s = ratio_now_s();
	for (unsigned int i = 0; i < MESSAGES; i++) {
		struct pml_key *key;
		uint32_t rkey;
		must(pml_key_new(pair->server, pair->memory, pair->bytes, PML_KEY_WRITE, &rkey,
				 &key),
		     "key");
		must(pml_key_fence(key, PML_EP_FENCE_KEY, true), "fence");
	}
	return (ratio_now_s() - start_s) / MESSAGES;
}

/* It takes the connection with it; the next one is not counted. */
static double work_connection(void *arg)
{
	struct pair *pair = arg;
	struct pml_key *key;
	uint32_t rkey;
	double start_s = ratio_now_s();
	must(pml_key_new(pair->server, pair->memory, pair->bytes, PML_KEY_WRITE, &rkey, &key),
	     "key");
	must(pml_key_fence(key, PML_EP_FENCE_CONNECTION, true), "fence");
	double s = ratio_now_s() - start_s;
	disconnect_pair(pair);
	connect_pair(pair);
	return s;
}

/* ---- the run ----------------------------------------------------------------- */

static void compare(struct pair *pair, enum pml_fence_method method, ratio_work work,
		    unsigned int n)
{
	static const struct {
		const char *text;
		size_t bytes;
	} sizes[] = {{"4 KiB", 4096}, {"1 MiB", 1u << 20}, {"64 MiB", MEMORY_BYTES}};
	for (size_t i = 0; i < PML_ARRAY_LEN(sizes); i++) {
		char text[96];
		pair->bytes = sizes[i].bytes;
		(void)snprintf(text, sizeof(text), "key made and fenced by %s, %s",
			       pml_fence_method_name(method), sizes[i].text);
		ratio_compare_works(text, work, pair, "bare message and answer", work_ping_pong,
				    pair, n);
	}
}

/* Each method as if it were proven here: whether it is, `pmemlease fencetest` tells. */
static void start(struct pair *pair, enum pml_fence_method method)
{
	char reason[PML_REASON_BYTES];
	const struct pml_fence_plan plan = {method, true, true};
	if (pml_fabric_listen(pair->kind, pair->host, "0", &pair->fabric, reason))
		die("listen", reason);
	/* Windows are cut from what was probed. */
	if (pml_fabric_probe(pair->fabric, pair->memory, MEMORY_BYTES, reason))
		die("probe", reason);
	pml_fabric_force_fence(pair->fabric, &plan);
	connect_pair(pair);
}

static void end(struct pair *pair)
{
	disconnect_pair(pair);
	pml_fabric_shutdown(pair->fabric);
	pml_fabric_close(pair->fabric);
}

static void measure(struct pair *pair, enum pml_fence_method method)
{
	start(pair, method);
	if (method == PML_BY_CONNECTION)
		compare(pair, method, work_connection, PML_MIN(nrounds, 11u));
	else
		compare(pair, method, work_key, nrounds);
	end(pair);
}

int main(int argc, char **argv)
{
	ratio_is_row = true;
	nrounds = ratio_rounds_of(argc, argv, nrounds, 2);
	if (nrounds == 0)
		return 2;
	struct pair pair = {
		.kind = strcmp(argv[optind], "soft") == 0 ? PML_TRANSPORT_SOFT
							  : PML_TRANSPORT_VERBS,
		.host = argv[optind + 1],
	};
	pair.memory = mmap(NULL, MEMORY_BYTES, PROT_READ | PROT_WRITE,
			   MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	if (pair.memory == MAP_FAILED)
		die("memory", strerror(errno));
	measure(&pair, PML_BY_WINDOW);
	measure(&pair, PML_BY_REGION);
	measure(&pair, PML_BY_CONNECTION);
	return 0;
}
