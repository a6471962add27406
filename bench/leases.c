/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * leases.c -- what leases cost: pins, messages, a truncate that has to wait, everybody else
 *
 * usage: bench_leases [-r ROUNDS] [-o markdown|ratio] DIRECTORY
 *
 * Filesystem, lease manager, server and client library in this process, on a device
 * file in DIRECTORY; the software fabric, and verbs where PML_RDMA_ADDR is an address
 * of an RDMA device.  A ratio is a cost divided by the cost that its line names.
 */
#include <pthread.h>
#include <semaphore.h>

#include "../fs/pin.h"
#include "../rdma/client_i.h"
#include "../tests/support/find_handle.h"
#include "../rdma/thread.h"
#include "pml/lease.h"
#include "pml/rdma.h"
#include "ratio.h"

#define BLOCK	     PML_BLOCK_BYTES
#define DEVICE_BYTES (1ull << 30)
#define LEASE_BYTES  (64u << 20) /* the longest lease here */
#define FILES	     2u		 /* of that size */
#define TIMEOUT_MS   30000

static unsigned int nrounds = 101;
static char path[4096];
static uint8_t block[BLOCK];

static struct pml_fs *fs;
static struct pml_lease_manager *mgr;
static struct pml_inode *root;
static struct pml_inode *large[FILES];

static void die(const char *what, const char *why)
{
	fprintf(stderr, "bench_leases: %s: %s\n", what, why);
	(void)unlink(path);
	exit(1);
}

static void must(int err, const char *what)
{
	if (err)
		die(what, strerror(-err));
}

static struct pml_inode *make_file(const char *name)
{
	struct pml_inode *inode;
	must(pml_dir_create(root, name, &(struct pml_create_args){.mode = S_IFREG | 0666}, &inode),
	     name);
	return inode;
}

static void write_at(struct pml_inode *file, uint64_t first_byte)
{
	must(pml_file_write(file, block, BLOCK, first_byte, false, NULL), "write");
}

static void start(void)
{
	char reason[PML_REASON_BYTES];
	struct pml_device_info info;
	const struct pml_format_args args = {.path = path, .size_bytes = DEVICE_BYTES};
	(void)unlink(path);
	if (pml_fs_format(&args, &info, reason) != 0)
		die("format", reason);
	if (pml_fs_open(&(struct pml_open_args){.path = path}, &fs, reason) != 0)
		die("open", reason);
	struct pml_lease_config config;
	pml_lease_config_default(&config, DEVICE_BYTES);
	/* What was returned counts until it is fenced. */
	config.max_session_pinned_bytes = config.max_pinned_bytes = UINT64_MAX;
	must(pml_lease_manager_new(fs, &config, NULL, &mgr), "lease manager");
	must(pml_inode_get(fs, PML_ROOT_INO, &root), "root");
	for (unsigned int i = 0; i < FILES; i++) {
		char name[32];
		(void)snprintf(name, sizeof(name), "large-%u", i);
		large[i] = make_file(name);
		must(pml_file_allocate(large[i], 0, 0, LEASE_BYTES, NULL), "fallocate");
		for (uint64_t at = 0; at < LEASE_BYTES; at += BLOCK)
			write_at(large[i], at);
	}
}

static void end(void)
{
	for (unsigned int i = 0; i < FILES; i++)
		pml_inode_put(large[i], 1);
	pml_inode_put(root, 1);
	must(pml_lease_manager_free(mgr), "lease manager");
	pml_fs_close(fs);
	(void)unlink(path);
}

/* ---- pins ------------------------------------------------------------------ */

#define PASS_COUNTERS 16384u /* counters that one piece of work goes over, at least */

struct pins {
	uint64_t first; /* blocks of large[0] that lie together */
	uint64_t n;
	pml_counter *plain; /* @n, like those of the device */
	unsigned int times;
};

static double work_plain_pass(void *arg)
{
	const struct pins *p = arg;
	double start_s = ratio_now_s();
	for (unsigned int t = 0; t < p->times; t++) {
		for (uint64_t i = 0; i < p->n; i++)
			atomic_fetch_add_explicit(&p->plain[i], PML_PIN_BIAS, memory_order_relaxed);
		for (uint64_t i = 0; i < p->n; i++)
			atomic_fetch_sub_explicit(&p->plain[i], PML_PIN_BIAS, memory_order_relaxed);
	}
	return (ratio_now_s() - start_s) / p->times;
}

static double work_pins(void *arg)
{
	const struct pins *p = arg;
	double start_s = ratio_now_s();
	for (unsigned int t = 0; t < p->times; t++) {
		must(pml_pin_add(fs, p->first, p->n, false), "pin");
		pml_pin_drop(fs, p->first, p->n);
	}
	return (ratio_now_s() - start_s) / p->times;
}

/* With all that the filesystem does for a read lease. */
static double work_lend(void *arg)
{
	const struct pins *p = arg;
	double start_s = ratio_now_s();
	for (unsigned int t = 0; t < p->times; t++) {
		struct pml_segment segment[PML_LEASE_SEGMENTS_MAX];
		size_t count;
		uint64_t end_byte;
		must(pml_file_pin(large[0], 0, p->n * BLOCK, PML_PIN_READ, segment,
				  PML_LEASE_SEGMENTS_MAX, &count, &end_byte),
		     "pin");
		for (size_t i = 0; i < count; i++)
			pml_fs_unpin(fs, &segment[i]);
	}
	return (ratio_now_s() - start_s) / p->times;
}

static void compare_pins(void)
{
	static const uint64_t runs[] = {1, 64, 512, 8192};
	struct pml_extent_info info;
	size_t count;
	uint64_t next;
	must(pml_file_extents(large[0], 0, &info, 1, &count, &next), "extents");
	pml_counter *plain = calloc(LEASE_BYTES / BLOCK, sizeof(*plain));
	if (!plain)
		die("memory", "none left");
	for (size_t i = 0; i < PML_ARRAY_LEN(runs); i++) {
		struct pins pins = {.first = info.block, .n = runs[i], .plain = plain};
		pins.times = (unsigned int)(PASS_COUNTERS / runs[i]);
		if (count != 1 || info.nblocks < pins.n)
			die("extents", "the file is in pieces");
		char text[80];
		(void)snprintf(text, sizeof(text), "pin and unpin, run of %lu blocks", pins.n);
		ratio_compare_works(text, work_pins, &pins, "plain atomic adds", work_plain_pass,
				    &pins, nrounds);
		(void)snprintf(text, sizeof(text), "lend and take back, run of %lu blocks", pins.n);
		ratio_compare_works(text, work_lend, &pins, "plain atomic adds", work_plain_pass,
				    &pins, nrounds);
	}
	free(plain);
}

/* ---- a fabric: a peer that sends back what it gets, a server, a client ------- */

#define MESSAGES 4u    /* round trips in one piece of work */
#define CROWD	 1000u /* leases of one client */

struct net {
	const char *name;
	struct pml_server *server;
	char url[128];
	struct pml_client *client;
	struct pml_client_handle large[FILES]; /* as this client knows them */

	struct pml_fabric *fabric; /* of the peer */
	pthread_t echo;
	struct pml_ep *ep;

	/* What work_lease() asks for. */
	uint64_t lease_bytes;
	bool for_write;
};

static void *run_echo(void *arg)
{
	struct net *net = arg;
	struct pml_ep *ep;
	uint8_t msg[PML_MSG_BYTES_MAX];
	size_t bytes;
	must(pml_fabric_accept(net->fabric, TIMEOUT_MS, &ep), "accept");
	while (pml_ep_recv(ep, msg, &bytes, TIMEOUT_MS) == 0)
		if (pml_ep_send(ep, msg, bytes, TIMEOUT_MS))
			break;
	pml_ep_kill(ep);
	pml_ep_close(ep);
	return NULL;
}

static void start_echo(struct net *net, enum pml_transport_kind kind, const char *host,
		       const char *port)
{
	char reason[PML_REASON_BYTES];
	char at[8];
	if (pml_fabric_listen(kind, host, port, &net->fabric, reason))
		die("listen", reason);
	must(pml_thread_new(&net->echo, run_echo, net), "thread");
	(void)snprintf(at, sizeof(at), "%u", pml_fabric_port(net->fabric));
	if (pml_ep_connect(kind, host, at, TIMEOUT_MS, &net->ep, reason))
		die("connect", reason);
}

static void start_server(struct net *net, enum pml_transport_kind kind, const char *host,
			 const char *port)
{
	char reason[PML_REASON_BYTES];
	const struct pml_server_args args = {
		.fs = fs,
		.leases = mgr,
		.is_soft = kind == PML_TRANSPORT_SOFT,
		.host = host,
		.port = port,
		.allow_unauthenticated = true,
	};
	if (pml_server_start(&args, &net->server, reason))
		die("server", reason);
	(void)snprintf(net->url, sizeof(net->url), "%s://%s:%u", args.is_soft ? "soft" : "rdma",
		       host, pml_server_port(net->server));
	if (pml_client_connect(net->url, TIMEOUT_MS, &net->client, reason))
		die("connect", reason);
}

static void end_net(struct net *net)
{
	pml_client_close(net->client);
	pml_server_stop(net->server);
	pml_ep_kill(net->ep);
	pml_ep_close(net->ep);
	(void)pthread_join(net->echo, NULL);
	pml_fabric_shutdown(net->fabric);
	pml_fabric_close(net->fabric);
}

/* ---- messages and leases ----------------------------------------------------- */

static double work_ping_pong(void *arg)
{
	const struct net *net = arg;
	union pml_message msg = {.bytes = {0}};
	double start_s = ratio_now_s();
	for (unsigned int i = 0; i < MESSAGES; i++) {
		size_t bytes;
		must(pml_ep_send(net->ep, &msg, sizeof(struct pml_wire_empty), TIMEOUT_MS), "send");
		must(pml_ep_recv(net->ep, &msg, &bytes, TIMEOUT_MS), "receive");
	}
	return (ratio_now_s() - start_s) / MESSAGES;
}

/* A request that asks for nothing, through client library and server. */
static double work_empty(void *arg)
{
	const struct net *net = arg;
	union pml_message msg, reply;
	double start_s = ratio_now_s();
	for (unsigned int i = 0; i < MESSAGES; i++)
		must(pml_client_request(net->client, &msg, sizeof(struct pml_wire_empty),
					PML_WIRE_RENEW, "renew", &reply),
		     "renew");
	return (ratio_now_s() - start_s) / MESSAGES;
}

static struct pml_client_handle handle_of(const struct net *net, const struct pml_inode *file)
{
	struct pml_client_handle handle;
	if (find_handle(net->client, "", pml_inode_ino(file), &handle))
		die("look-up", pml_client_reason(net->client));
	return handle;
}

static void look_up(struct net *net)
{
	for (unsigned int i = 0; i < FILES; i++)
		net->large[i] = handle_of(net, large[i]);
}

static struct pml_client_lease *take_lease(const struct net *net,
					   const struct pml_client_handle *file,
					   uint64_t first_byte, uint64_t bytes, bool for_write)
{
	struct pml_client_lease *lease = NULL;
	if (pml_client_lease(net->client, file, first_byte, bytes, for_write, TIMEOUT_MS, &lease))
		die("lease", pml_client_reason(net->client));
	if (pml_client_lease_end(lease) != first_byte + bytes)
		die("lease", "shorter than asked");
	return lease;
}

/* Grant and return, from one file and then the other: a return is fenced meanwhile. */
static double work_lease(void *arg)
{
	const struct net *net = arg;
	double start_s = ratio_now_s();
	for (unsigned int i = 0; i < MESSAGES; i++)
		must(pml_client_return(take_lease(net, &net->large[i % FILES], 0, net->lease_bytes,
						  net->for_write)),
		     "return");
	return (ratio_now_s() - start_s) / MESSAGES;
}

static void compare_leases(struct net *net)
{
	static const struct {
		const char *text;
		uint64_t bytes;
	} sizes[] = {{"4 KiB", BLOCK}, {"1 MiB", 1u << 20}, {"64 MiB", LEASE_BYTES}};
	char text[96];
	look_up(net);
	(void)snprintf(text, sizeof(text), "%s: empty request", net->name);
	ratio_compare_works(text, work_empty, net, "bare message and answer", work_ping_pong, net,
			    nrounds);
	net->lease_bytes = BLOCK;
	net->for_write = false;
	(void)snprintf(text, sizeof(text), "%s: grant and return, read, 4 KiB", net->name);
	ratio_compare_works(text, work_lease, net, "bare message and answer", work_ping_pong, net,
			    nrounds);
	for (int for_write = 0; for_write <= 1; for_write++)
		for (size_t i = 0; i < PML_ARRAY_LEN(sizes); i++) {
			net->lease_bytes = sizes[i].bytes;
			net->for_write = for_write;
			(void)snprintf(text, sizeof(text), "%s: grant and return, %s, %s",
				       net->name, for_write ? "write" : "read", sizes[i].text);
			ratio_compare_works(text, work_lease, net, "empty request", work_empty, net,
					    nrounds);
		}
}

/* A client with many leases beside one that has none. */
static void compare_crowded(struct net *net)
{
	struct net crowded = *net;
	char reason[PML_REASON_BYTES];
	char text[96];
	if (pml_client_connect(net->url, TIMEOUT_MS, &crowded.client, reason))
		die("connect", reason);
	look_up(&crowded);
	for (unsigned int i = 0; i < CROWD; i++)
		(void)take_lease(&crowded, &crowded.large[0], (uint64_t)i * BLOCK, BLOCK, false);
	net->lease_bytes = crowded.lease_bytes = BLOCK;
	net->for_write = crowded.for_write = false;
	(void)snprintf(text, sizeof(text), "%s: grant and return, client with %u leases", net->name,
		       CROWD);
	ratio_compare_works(text, work_lease, &crowded, "client without", work_lease, net, nrounds);
	pml_client_close(crowded.client);
}

/* ---- a truncate in the way of a lease ---------------------------------------- */

struct operation {
	struct pml_waiter waiter;
	sem_t resumed;
};

static void resume(struct pml_waiter *w)
{
	struct operation *op = PML_CONTAINER_OF(w, struct operation, waiter);
	(void)sem_post(&op->resumed);
}

/* Seconds until the file is that long.  Waits as a request of the mount does. */
static double truncate_s(struct pml_inode *file, uint64_t size_bytes, bool *ret_has_waited)
{
	struct operation op = {.waiter = {.resume = resume}};
	(void)sem_init(&op.resumed, 0, 0);
	double start_s = ratio_now_s();
	int err = pml_file_truncate(file, size_bytes, &op.waiter);
	*ret_has_waited = err == -EINPROGRESS;
	while (err == -EINPROGRESS) {
		while (sem_wait(&op.resumed) != 0)
			;
		err = pml_file_truncate(file, size_bytes, &op.waiter);
	}
	double s = ratio_now_s() - start_s;
	must(err, "truncate");
	fs->guard_ops->done(fs->guard, &op.waiter);
	(void)sem_destroy(&op.resumed);
	return s;
}

static struct pml_inode *short_file;

/* Cuts off the second block, which the client has leased. */
static double work_truncate_leased(void *arg)
{
	const struct net *net = arg;
	double s = 0;
	for (unsigned int i = 0; i < MESSAGES; i++) {
		bool has_waited;
		write_at(short_file, BLOCK);
		struct pml_client_handle handle = handle_of(net, short_file);
		struct pml_client_lease *lease = take_lease(net, &handle, BLOCK, BLOCK, false);
		s += truncate_s(short_file, BLOCK, &has_waited);
		if (!has_waited)
			die("truncate", "found no lease");
		must(pml_client_return(lease), "return"); /* the library has returned it */
	}
	return s / MESSAGES;
}

static double work_truncate_free(void *arg)
{
	double s = 0;
	(void)arg;
	for (unsigned int i = 0; i < MESSAGES; i++) {
		bool has_waited;
		write_at(short_file, BLOCK);
		s += truncate_s(short_file, BLOCK, &has_waited);
		if (has_waited)
			die("truncate", "found a lease");
	}
	return s / MESSAGES;
}

static void compare_truncates(struct net *net)
{
	char text[96];
	(void)snprintf(text, sizeof(text), "%s: truncate, one holder returns", net->name);
	ratio_compare_works(text, work_truncate_leased, net, "empty request", work_empty, net,
			    nrounds);
	ratio_compare_works(text, work_truncate_leased, net, "truncate without a lease",
			    work_truncate_free, net, nrounds);
}

static void compare_net(const char *name, enum pml_transport_kind kind, const char *host,
			const char *port, const char *echo_port)
{
	struct net net = {.name = name};
	start_echo(&net, kind, host, echo_port);
	start_server(&net, kind, host, port);
	compare_leases(&net);
	compare_crowded(&net);
	compare_truncates(&net);
	end_net(&net);
}

/* ---- who has no lease -------------------------------------------------------- */

#define CALLS	 64u /* in one piece of work */
#define SESSIONS 8u

/* A holder in this process, which has no memory to reach. */
static int key_new(void *arg, const struct pml_segment *segment, bool for_write, bool may_read,
		   uint32_t *ret_rkey, void **ret_key)
{
	*ret_rkey = 0;
	*ret_key = arg;
	return 0;
}

static int key_fence(void *arg, void *key, enum pml_fence_step step, bool is_cooperative)
{
	return 0;
}

static void recall(void *arg, uint64_t lease_id, enum pml_layout_op op, uint32_t drain_ms)
{
	die("recall", "of a lease that nobody is in the way of");
}

static void revoked(void *arg, uint64_t lease_id, enum pml_end_reason why)
{
}

static const struct pml_holder_ops holder_ops = {
	.key_new = key_new,
	.key_fence = key_fence,
	.recall = recall,
	.revoked = revoked,
};

struct other {
	struct pml_inode *file;
	const struct pml_guard_ops *guard_ops; /* NULL: nobody is asked */
	void *guard;
	double (*call_all)(struct pml_inode *file);
};

static double read_all(struct pml_inode *file)
{
	struct iovec iov[PML_IOV_MAX];
	double start_s = ratio_now_s();
	for (unsigned int i = 0; i < CALLS; i++) {
		int niov;
		size_t got;
		must(pml_file_read_begin(file, (uint64_t)i * BLOCK, BLOCK, iov, &niov, &got),
		     "read");
		memcpy(block, iov[0].iov_base, iov[0].iov_len);
		pml_file_read_end(file);
	}
	return ratio_now_s() - start_s;
}

static double overwrite_all(struct pml_inode *file)
{
	double start_s = ratio_now_s();
	for (unsigned int i = 0; i < CALLS; i++)
		write_at(file, (uint64_t)i * BLOCK);
	return ratio_now_s() - start_s;
}

static double append_all(struct pml_inode *file)
{
	uint64_t size = pml_inode_size(file);
	double start_s = ratio_now_s();
	for (unsigned int i = 0; i < CALLS; i++)
		must(pml_file_write(file, block, BLOCK, 0, true, NULL), "append");
	double s = ratio_now_s() - start_s;
	must(pml_file_truncate(file, size, NULL), "truncate");
	return s;
}

static double truncate_all(struct pml_inode *file)
{
	uint64_t size = pml_inode_size(file);
	for (unsigned int i = 0; i < CALLS; i++)
		must(pml_file_write(file, block, BLOCK, 0, true, NULL), "append");
	double start_s = ratio_now_s();
	for (unsigned int i = CALLS; i-- > 0;)
		must(pml_file_truncate(file, size + (uint64_t)i * BLOCK, NULL), "truncate");
	return ratio_now_s() - start_s;
}

static double work_guarded(void *arg)
{
	struct other *other = arg;
	pml_fs_set_guard(fs, other->guard_ops, other->guard);
	return other->call_all(other->file);
}

static double work_unguarded(void *arg)
{
	struct other *other = arg;
	pml_fs_set_guard(fs, NULL, NULL);
	return other->call_all(other->file);
}

static void compare_calls(struct other *other, const char *what_is_leased)
{
	static const struct {
		const char *name;
		double (*call_all)(struct pml_inode *file);
	} calls[] = {{"read", read_all},
		     {"write in place", overwrite_all},
		     {"append", append_all},
		     {"truncate", truncate_all}};
	for (size_t i = 0; i < PML_ARRAY_LEN(calls); i++) {
		char text[96];
		other->call_all = calls[i].call_all;
		(void)snprintf(text, sizeof(text), "4 KiB %s, %s leased", calls[i].name,
			       what_is_leased);
		ratio_compare_works(text, work_guarded, other, "no guard", work_unguarded, other,
				    nrounds);
		pml_fs_set_guard(fs, other->guard_ops, other->guard);
	}
}

/* Leases one more file: the next ones until @end files are leased. */
static void lease_files(const uint64_t *session, unsigned int first, unsigned int end)
{
	static struct pml_grant grant;
	for (unsigned int i = first; i < end; i++) {
		char name[32];
		(void)snprintf(name, sizeof(name), "leased-%u", i);
		struct pml_inode *file = make_file(name);
		write_at(file, 0);
		must(pml_lease_acquire(mgr, session[i % SESSIONS], pml_inode_ino(file), 0, BLOCK,
				       PML_LEASE_READ, &grant),
		     "acquire");
		pml_inode_put(file, 1);
	}
}

/* The guard's filter has a slot for each hash of 4096 inodes: first few count, then all. */
static void compare_others(void)
{
	uint64_t session[SESSIONS];
	struct other other = {.guard_ops = fs->guard_ops, .guard = fs->guard};
	for (unsigned int i = 0; i < SESSIONS; i++)
		must(pml_session_new(mgr, &holder_ops, session, "bench", 0, &session[i]),
		     "session");
	other.file = make_file("other");
	for (unsigned int i = 0; i < CALLS; i++)
		write_at(other.file, (uint64_t)i * BLOCK);
	lease_files(session, 0, 100);
	compare_calls(&other, "100 other files");
	lease_files(session, 100, 5000);
	compare_calls(&other, "5000 other files");
	for (unsigned int i = 0; i < SESSIONS; i++)
		pml_session_end(mgr, session[i], PML_END_SESSION);
	pml_inode_put(other.file, 1);
}

int main(int argc, char **argv)
{
	int c;
	while ((c = getopt(argc, argv, "r:o:")) != -1) {
		if (c == 'r')
			nrounds = (unsigned int)strtoul(optarg, NULL, 10);
		else if (c == 'o')
			ratio_is_markdown = strcmp(optarg, "markdown") == 0;
		else
			return 2;
	}
	if (nrounds < 1 || nrounds > RATIO_ROUNDS_MAX || optind + 1 != argc)
		return 2;
	(void)snprintf(path, sizeof(path), "%s/leases.dev", argv[optind]);
	memset(block, 'b', sizeof(block));
	start();
	short_file = make_file("short");
	write_at(short_file, 0);
	compare_pins();
	compare_net("soft", PML_TRANSPORT_SOFT, "127.0.0.1", "0", "0");
	const char *host = getenv("PML_RDMA_ADDR");
	if (host)
		compare_net("verbs", PML_TRANSPORT_VERBS, host, "7476", "7477");
	compare_others();
	pml_inode_put(short_file, 1);
	end();
	return 0;
}
