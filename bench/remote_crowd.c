/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * remote_crowd.c -- many equal clients on one server: does each get its part?
 *
 * usage: bench_remote_crowd [-r WINDOWS] [-n CLIENTS] [-t MS] URL
 *
 * Each client is a process with a connection of its own.  They connect in the same moment; what
 * each has done is looked at after each window, while they go on.  A window lasts for so many
 * milliseconds at least, and until the clients have done OPS_EACH operations on average: with
 * few of them, whoever is just before the end of one looks as if he had got less.  The server's
 * file "large-0" has 64 MiB.
 *
 * Two kinds of work: 64 KiB reads through one lease, and look-up, lease, 4 KiB read, return.
 * Of each are printed the slowest client's part of the mean, and the index of Jain, Chiu and
 * Hawe ("A Quantitative Measure of Fairness", DEC-TR-301): 1 when all get the same, 1/n when
 * one gets all.  And all together against one client alone.
 */
#include <poll.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "pml/base.h"
#include "pmemleasefs/client.h"
#include "ratio.h"

#define CLIENTS_MAX   256u
#define READ_BYTES    (64u << 10)
#define SMALL_BYTES   4096u
#define FILE_BYTES    (64u << 20)
#define TIMEOUT_MS    60000
#define START_MS      120000.0
#define LEASE_BYTES   (1u << 20)
#define OPS_EACH      50u
#define WINDOW_MS_MAX 90000.0

enum phase { PHASE_CONNECT, PHASE_READS, PHASE_REQUESTS, PHASE_END };

/* In memory that all processes share. */
struct board {
	_Atomic enum phase phase;
	atomic_uint at_work; /* first so many clients work */
	atomic_uint ready;
	atomic_uint breaks; /* of connections, which were made again */
	struct {
		atomic_ulong ops;
		char pad[64 - sizeof(atomic_ulong)];
	} client[CLIENTS_MAX];
};

static struct board *board;
static const char *url;
static unsigned int nclients = 64, nrounds = 5, window_ms = 1000;
static double window_s; /* how long the last window was */

static void die(const char *what, const char *why)
{
	fprintf(stderr, "bench_remote_crowd: %s: %s\n", what, why);
	exit(1);
}

static void nap_ms(unsigned int ms)
{
	(void)poll(NULL, 0, (int)ms);
}

/* ---- a client: a process ----------------------------------------------------- */

struct worker {
	unsigned int index;
	struct pml_client *client;
	struct pml_client_attr file;
	struct pml_client_buffer *buffer;
	struct pml_client_lease *lease; /* NULL: none */
	uint64_t at_byte;		/* in the lease */
};

static uint64_t place_of(const struct worker *w)
{
	return (uint64_t)w->index * LEASE_BYTES % FILE_BYTES;
}

static int take(struct worker *w, uint64_t bytes)
{
	return pml_client_lease(w->client, &w->file.handle, place_of(w), bytes, false, TIMEOUT_MS,
				&w->lease);
}

static int give_back(struct worker *w)
{
	struct pml_client_lease *lease = w->lease;
	w->lease = NULL;
	return lease ? pml_client_return(lease) : 0;
}

static int read_more(struct worker *w)
{
	int err = w->lease ? 0 : take(w, LEASE_BYTES);
	if (!err)
		err = pml_client_read(w->lease, w->buffer, 0, place_of(w) + w->at_byte, READ_BYTES);
	w->at_byte = (w->at_byte + READ_BYTES) % LEASE_BYTES;
	return err;
}

static int ask_more(struct worker *w)
{
	int err = give_back(w);
	if (!err)
		err = pml_client_stat(w->client, "large-0", &w->file);
	if (!err)
		err = take(w, SMALL_BYTES);
	if (!err)
		err = pml_client_read(w->lease, w->buffer, 0, place_of(w), SMALL_BYTES);
	if (!err)
		err = give_back(w);
	return err;
}

static int open_worker(struct worker *w)
{
	char reason[256];
	int err = pml_client_connect(url, TIMEOUT_MS, &w->client, reason);
	if (err)
		die("connect", reason);
	pml_client_set_reconnect(w->client, TIMEOUT_MS);
	err = pml_client_stat(w->client, "large-0", &w->file);
	if (!err)
		err = pml_client_buffer_new(w->client, READ_BYTES, &w->buffer);
	return err;
}

/*
 * On soft-RoCE a processor that comes late makes the device send a read again, and when that
 * arrives after the read's lease was returned the key is dead and the connection breaks.
 */
static int survive(struct worker *w, int err)
{
	if (err != -ENOTCONN && err != -EKEYREVOKED)
		return err;
	atomic_fetch_add(&board->breaks, 1);
	(void)give_back(w); /* it ended with the connection */
	return 0;
}

static int work(struct worker *w)
{
	enum phase phase;
	int err = 0;
	while (!err && (phase = atomic_load(&board->phase)) != PHASE_END) {
		if (phase == PHASE_CONNECT || w->index >= atomic_load(&board->at_work)) {
			nap_ms(5);
			continue;
		}
		err = phase == PHASE_READS ? read_more(w) : ask_more(w);
		if (!err)
			atomic_fetch_add(&board->client[w->index].ops, 1);
		else
			err = survive(w, err);
	}
	return err;
}

static void run_client(unsigned int index)
{
	struct worker w = {.index = index};
	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	int err = open_worker(&w);
	if (!err) {
		atomic_fetch_add(&board->ready, 1);
		err = work(&w);
	}
	if (err)
		die("client", pml_client_reason(w.client));
	pml_client_close(w.client);
	exit(0);
}

/* ---- looking on -------------------------------------------------------------- */

static double *new_numbers(void)
{
	double *numbers = calloc(RATIO_ROUNDS_MAX, sizeof(*numbers));
	if (!numbers)
		die("memory", "none left");
	return numbers;
}

/* Nobody ends before he is told to. */
static void look_for_dead(void)
{
	if (waitpid(-1, NULL, WNOHANG) > 0)
		die("client", "one ended early");
}

static void wait_until_ready(unsigned int n, double end_s)
{
	while (atomic_load(&board->ready) < n) {
		look_for_dead();
		if (ratio_now_s() > end_s)
			die("clients", "not all of them could connect in time");
		nap_ms(20);
	}
}

static void start_clients(void)
{
	double end_s = ratio_now_s() + START_MS / 1000;
	for (unsigned int i = 0; i < nclients; i++) {
		pid_t pid = fork();
		if (pid < 0)
			die("fork", strerror(errno));
		if (pid == 0)
			run_client(i);
	}
	wait_until_ready(nclients, end_s);
}

static unsigned long ops_of(unsigned int n)
{
	unsigned long ops = 0;
	for (unsigned int i = 0; i < n; i++)
		ops += atomic_load(&board->client[i].ops);
	return ops;
}

/* Operations in a second that each of the first @n clients does in one window. */
static void measure(unsigned int n, double *ret_rates)
{
	unsigned long before[CLIENTS_MAX];
	double start_s = ratio_now_s(), s = 0;
	for (unsigned int i = 0; i < n; i++)
		before[i] = atomic_load(&board->client[i].ops);
	unsigned long enough = ops_of(n) + (unsigned long)n * OPS_EACH;
	do {
		nap_ms(s > 0 ? 100 : window_ms);
		s = ratio_now_s() - start_s;
	} while (ops_of(n) < enough && s * 1000 < WINDOW_MS_MAX);
	window_s = s;
	for (unsigned int i = 0; i < n; i++)
		ret_rates[i] = (double)(atomic_load(&board->client[i].ops) - before[i]) / s;
	look_for_dead();
}

static double sum_of(const double *rates, unsigned int n)
{
	double sum = 0;
	for (unsigned int i = 0; i < n; i++)
		sum += rates[i];
	return sum;
}

static double slowest_part(const double *rates, unsigned int n)
{
	double least = rates[0];
	for (unsigned int i = 1; i < n; i++)
		least = PML_MIN(least, rates[i]);
	return sum_of(rates, n) > 0 ? least * n / sum_of(rates, n) : 0;
}

static double jain(const double *rates, unsigned int n)
{
	double sum = sum_of(rates, n), squares = 0;
	for (unsigned int i = 0; i < n; i++)
		squares += rates[i] * rates[i];
	return squares > 0 ? sum * sum / (n * squares) : 0;
}

/* What was in flight when the number of workers changed is not counted. */
static double rate_of(enum phase phase, unsigned int n, double *ret_rates)
{
	atomic_store(&board->at_work, n);
	atomic_store(&board->phase, phase);
	nap_ms(window_ms / 4);
	measure(n, ret_rates);
	atomic_store(&board->at_work, 0);
	return sum_of(ret_rates, n);
}

static void print_part(const char *what, const char *text, const char *against, double *numbers)
{
	char row[160];
	(void)snprintf(row, sizeof(row), "%u clients, %s: %s", nclients, what, text);
	ratio_row(row, against, numbers, nrounds);
}

static void run_phase(enum phase phase, const char *what)
{
	double *slowest = new_numbers(), *index = new_numbers(), *total = new_numbers();
	double *each = new_numbers();
	double rates[CLIENTS_MAX], one;
	for (unsigned int r = 0; r < nrounds; r++) {
		double alone = rate_of(phase, 1, &one);
		double all = rate_of(phase, nclients, rates);
		each[r] = all * window_s / nclients;
		slowest[r] = slowest_part(rates, nclients);
		index[r] = jain(rates, nclients);
		total[r] = alone > 0 ? all / alone : 0;
	}
	print_part(what, "the slowest", "their mean", slowest);
	print_part(what, "Jain's index", "1: all the same", index);
	print_part(what, "all together", "one client alone", total);
	print_part(what, "operations of each in a window", "one", each);
	free(each);
	free(slowest);
	free(index);
	free(total);
}

/* Bounded: who does not end is killed with the parent. */
static void end_clients(void)
{
	atomic_store(&board->phase, PHASE_END);
	double end_s = ratio_now_s() + 20;
	unsigned int left = nclients;
	while (left > 0 && ratio_now_s() < end_s) {
		int status;
		if (waitpid(-1, &status, WNOHANG) <= 0) {
			nap_ms(20);
			continue;
		}
		if (status != 0)
			die("client", "one failed");
		left--;
	}
}

int main(int argc, char **argv)
{
	int c;
	ratio_is_row = true;
	while ((c = getopt(argc, argv, "r:n:t:")) != -1) {
		if (c == 'r')
			nrounds = (unsigned int)strtoul(optarg, NULL, 10);
		else if (c == 'n')
			nclients = (unsigned int)strtoul(optarg, NULL, 10);
		else if (c == 't')
			window_ms = (unsigned int)strtoul(optarg, NULL, 10);
		else
			return 2;
	}
	if (nrounds < 1 || nrounds > RATIO_ROUNDS_MAX || nclients < 1 || nclients > CLIENTS_MAX ||
	    window_ms < 1 || window_ms > 60000 || optind + 1 != argc)
		return 2;
	url = argv[optind];
	board = mmap(NULL, sizeof(*board), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
		     0);
	if (board == MAP_FAILED)
		die("memory", strerror(errno));
	start_clients();
	run_phase(PHASE_READS, "64 KiB reads");
	run_phase(PHASE_REQUESTS, "open, lease, read, return");
	end_clients();
	double breaks = atomic_load(&board->breaks);
	nrounds = 1;
	print_part("all", "connections that broke", "none", &breaks);
	return 0;
}
