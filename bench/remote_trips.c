/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * remote_trips.c -- what requests of a remote client cost, in round trips of bare messages
 *
 * usage: bench_remote_trips [-q] [-r ROUNDS] URL
 *
 * -q: less of it.  URL is that of a server, rdma:// or soft://, that has the files "small"
 * (4 KiB), "large-0" and "large-1" (64 MiB).  The peer that sends back bare messages is a
 * process of its own, as the server is.
 */
#include <pthread.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "../rdma/client_i.h"
#include "../rdma/thread.h"
#include "../rdma/transport.h"
#include "ratio.h"

#define MESSAGES   8u /* round trips in one piece of work */
#define TIMEOUT_MS 30000
#define BLOCK	   4096u
#define LEASE_MAX  (64u << 20)

static unsigned int nrounds = 21;
static bool is_quick;

static struct {
	const char *url;
	enum pml_transport_kind kind;
	char host[128];
	char echo_port[8]; /* where a peer answers */
	char hold_port[8]; /* where a peer takes connections and says nothing */
	struct pml_ep *ep; /* to the one that answers */
	struct pml_client *client;
	struct pml_client_buffer *buffer;
	struct pml_client_attr large[2];
	uint64_t lease_bytes;
	void *memory; /* as large as the largest lease */
	bool for_write;
} net;

static void die(const char *what, const char *why)
{
	fprintf(stderr, "bench_remote_trips: %s: %s\n", what, why);
	exit(1);
}

static void must(int err, const char *what)
{
	if (err)
		die(what, strerror(-err));
}

/* What the library says of its last failure. */
static void must_remote(int err, const char *what)
{
	if (err)
		die(what, pml_client_reason(net.client));
}

/* ---- the peer: a process of its own ------------------------------------------ */

static void echo(struct pml_ep *ep)
{
	uint8_t msg[PML_MSG_BYTES_MAX];
	size_t bytes;
	while (pml_ep_recv(ep, msg, &bytes, -1) == 0)
		if (pml_ep_send(ep, msg, bytes, TIMEOUT_MS))
			break;
}

static void *serve(void *arg)
{
	struct pml_fabric *fabric = arg;
	struct pml_ep *ep;
	for (;;) {
		int err = pml_fabric_accept(fabric, TIMEOUT_MS, &ep);
		if (err == -ETIMEDOUT)
			continue;
		must(err, "accept");
		echo(ep);
		pml_ep_kill(ep);
		pml_ep_close(ep);
	}
	return NULL;
}

static struct pml_fabric *listen_here(char *ret_port)
{
	char reason[PML_REASON_BYTES];
	struct pml_fabric *fabric;
	if (pml_fabric_listen(net.kind, net.host, "0", &fabric, reason))
		die("listen", reason);
	(void)snprintf(ret_port, 8, "%u", pml_fabric_port(fabric));
	return fabric;
}

static void run_peer(int ports_fd)
{
	char ports[2][8] = {{0}};
	pthread_t thread;
	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	struct pml_fabric *echoing = listen_here(ports[0]);
	struct pml_fabric *holding = listen_here(ports[1]);
	if (write(ports_fd, ports, sizeof(ports)) != (ssize_t)sizeof(ports))
		die("peer", "cannot tell its ports");
	must(pml_thread_new(&thread, serve, holding), "thread");
	(void)serve(echoing);
}

/* Before anything of verbs is used: that does not survive a fork. */
static void start_peer(void)
{
	int fd[2];
	char ports[2][8];
	if (pipe(fd))
		die("peer", strerror(errno));
	pid_t pid = fork();
	if (pid < 0)
		die("peer", strerror(errno));
	if (pid == 0)
		run_peer(fd[1]);
	(void)close(fd[1]);
	if (read(fd[0], ports, sizeof(ports)) != (ssize_t)sizeof(ports))
		die("peer", "did not start");
	(void)close(fd[0]);
	memcpy(net.echo_port, ports[0], sizeof(net.echo_port));
	memcpy(net.hold_port, ports[1], sizeof(net.hold_port));
}

static struct pml_ep *connect_to(const char *port)
{
	char reason[PML_REASON_BYTES];
	struct pml_ep *ep;
	if (pml_ep_connect(net.kind, net.host, port, TIMEOUT_MS, &ep, reason))
		die("connect", reason);
	return ep;
}

/* ---- pieces of work ---------------------------------------------------------- */

static void ping_pong(void)
{
	union pml_message msg = {.bytes = {0}};
	size_t bytes;
	must(pml_ep_send(net.ep, &msg, sizeof(struct pml_wire_empty), TIMEOUT_MS), "send");
	must(pml_ep_recv(net.ep, &msg, &bytes, TIMEOUT_MS), "receive");
}

/* Both sides' waiting learns from what went before: a little of it is not counted. */
static double work_ping_pong(void *arg)
{
	double start_s = 0;
	(void)arg;
	for (unsigned int i = 0; i < MESSAGES + 2; i++) {
		if (i == 2)
			start_s = ratio_now_s();
		ping_pong();
	}
	return (ratio_now_s() - start_s) / MESSAGES;
}

/* The least that a grant and a return by regions can take: no lease, no filesystem. */
static double work_floor(void *arg)
{
	(void)arg;
	ping_pong();
	ping_pong();
	double start_s = ratio_now_s();
	for (unsigned int i = 0; i < MESSAGES; i++) {
		struct pml_local_mr *mr;
		ping_pong();
		must(pml_local_mr_new(net.ep, net.memory, net.lease_bytes, &mr), "register");
		pml_local_mr_free(mr);
		ping_pong();
	}
	return (ratio_now_s() - start_s) / MESSAGES;
}

static void ask_nothing(void)
{
	union pml_message msg, reply;
	must_remote(pml_client_request(net.client, &msg, sizeof(struct pml_wire_empty),
				       PML_WIRE_RENEW, "renew", &reply),
		    "renew");
}

static double work_empty(void *arg)
{
	double start_s = 0;
	(void)arg;
	for (unsigned int i = 0; i < MESSAGES + 2; i++) {
		if (i == 2)
			start_s = ratio_now_s();
		ask_nothing();
	}
	return (ratio_now_s() - start_s) / MESSAGES;
}

static struct pml_client_lease *take_lease(const struct pml_client_attr *file, uint64_t bytes,
					   bool for_write)
{
	struct pml_client_lease *lease;
	must_remote(pml_client_lease(net.client, &file->handle, 0, bytes, for_write, TIMEOUT_MS,
				     &lease),
		    "lease");
	if (pml_client_lease_end(lease) != bytes)
		die("lease", "shorter than asked");
	return lease;
}

/* From one file and then the other: a return is fenced meanwhile. */
static double work_lease(void *arg)
{
	double start_s = 0;
	(void)arg;
	ask_nothing();
	ask_nothing();
	start_s = ratio_now_s();
	for (unsigned int i = 0; i < MESSAGES; i++)
		must_remote(pml_client_return(
				    take_lease(&net.large[i % 2], net.lease_bytes, net.for_write)),
			    "return");
	return (ratio_now_s() - start_s) / MESSAGES;
}

/* What a program does that wants to see a small file once. */
static void look_at_small_file(void)
{
	struct pml_client_attr attr;
	must_remote(pml_client_stat(net.client, "small", &attr), "look-up");
	struct pml_client_lease *lease = take_lease(&attr, BLOCK, false);
	must_remote(pml_client_read(lease, net.buffer, 0, 0, BLOCK), "read");
	must_remote(pml_client_return(lease), "return");
}

static double work_small_file(void *arg)
{
	(void)arg;
	ask_nothing();
	ask_nothing();
	double start_s = ratio_now_s();
	for (unsigned int i = 0; i < MESSAGES; i++)
		look_at_small_file();
	return (ratio_now_s() - start_s) / MESSAGES;
}

/* A transport's connection, and nothing over it. */
static double work_connection(void *arg)
{
	(void)arg;
	double start_s = ratio_now_s();
	struct pml_ep *ep = connect_to(net.hold_port);
	double s = ratio_now_s() - start_s;
	pml_ep_kill(ep);
	pml_ep_close(ep);
	return s;
}

static void open_client(void)
{
	char reason[PML_REASON_BYTES];
	if (pml_client_connect(net.url, TIMEOUT_MS, &net.client, reason))
		die("connect", reason);
	must_remote(pml_client_buffer_new(net.client, BLOCK, &net.buffer), "buffer");
}

static void read_block(struct pml_client_file *file)
{
	ssize_t n = pml_client_file_read(file, pml_client_buffer_data(net.buffer), BLOCK, 0);
	if (n != BLOCK)
		die("read", n < 0 ? pml_client_reason(net.client) : "short");
}

/* From the break of the connection until the library has read through a new lease. */
static double work_reconnect(void *arg)
{
	struct pml_client_attr attr;
	struct pml_client_file *file;
	(void)arg;
	must_remote(pml_client_stat(net.client, "small", &attr), "look-up");
	must_remote(
		pml_client_file_open(net.client, &attr.handle, PML_CLIENT_FILE_READ, NULL, &file),
		"open");
	read_block(file);
	double start_s = ratio_now_s();
	pml_ep_kill(net.client->connection->ep);
	read_block(file);
	double s = ratio_now_s() - start_s;
	must_remote(pml_client_file_close(file), "close");
	return s;
}

/* ---- the run ----------------------------------------------------------------- */

static void compare_requests(void)
{
	static const char bare[] = "bare message and answer";
	ratio_compare_works("empty request", work_empty, NULL, bare, work_ping_pong, NULL, nrounds);
	ratio_compare_works("open, lease, read, return of 4 KiB", work_small_file, NULL, bare,
			    work_ping_pong, NULL, nrounds);
	ratio_compare_works("open, lease, read, return of 4 KiB", work_small_file, NULL,
			    "empty request", work_empty, NULL, nrounds);
}

static void compare_leases(void)
{
	static const struct {
		const char *text;
		uint64_t bytes;
	} sizes[] = {{"4 KiB", BLOCK},
		     {"64 KiB", 64u << 10},
		     {"1 MiB", 1u << 20},
		     {"64 MiB", LEASE_MAX}};
	net.memory = mmap(NULL, LEASE_MAX, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	if (net.memory == MAP_FAILED)
		die("memory", strerror(errno));
	must_remote(pml_client_stat(net.client, "large-0", &net.large[0]), "look-up");
	must_remote(pml_client_stat(net.client, "large-1", &net.large[1]), "look-up");
	for (int for_write = 0; for_write <= !is_quick; for_write++)
		for (size_t i = 0; i < PML_ARRAY_LEN(sizes); i += is_quick ? 2 : 1) {
			char text[64];
			net.lease_bytes = sizes[i].bytes;
			net.for_write = for_write;
			(void)snprintf(text, sizeof(text), "grant and return, %s, %s",
				       for_write ? "write" : "read", sizes[i].text);
			ratio_compare_works(text, work_lease, NULL, "bare message and answer",
					    work_ping_pong, NULL, nrounds);
			ratio_compare_works(text, work_lease, NULL, "empty request", work_empty,
					    NULL, nrounds);
			ratio_compare_works(text, work_lease, NULL,
					    "two bare messages, memory registered and not",
					    work_floor, NULL, nrounds);
		}
}

static void read_url(const char *url)
{
	net.url = url;
	net.kind = strncmp(url, "soft://", 7) == 0 ? PML_TRANSPORT_SOFT : PML_TRANSPORT_VERBS;
	if (strlen(url) <= 7 || sscanf(url + 7, "%127[^:/]", net.host) != 1)
		die(url, "not a URL with a numeric IPv4 address");
}

int main(int argc, char **argv)
{
	int c;
	ratio_is_row = true;
	while ((c = getopt(argc, argv, "qr:")) != -1) {
		if (c == 'r')
			nrounds = (unsigned int)strtoul(optarg, NULL, 10);
		else if (c == 'q')
			is_quick = true;
		else
			return 2;
	}
	if (nrounds < 1 || nrounds > RATIO_ROUNDS_MAX || optind + 1 != argc)
		return 2;
	read_url(argv[optind]);
	start_peer();
	net.ep = connect_to(net.echo_port);
	open_client();
	compare_requests();
	compare_leases();
	ratio_compare_works("broken connection to the next read", work_reconnect, NULL,
			    "bare connection", work_connection, NULL, PML_MIN(nrounds, 11u));
	pml_client_close(net.client);
	pml_ep_kill(net.ep);
	pml_ep_close(net.ep);
	return 0;
}
