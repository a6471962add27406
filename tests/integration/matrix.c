/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * matrix.c -- every cell of docs/lease-protocol.md, "Matrix", on a mounted filesystem
 *
 * usage: matrix [OPTION...] DOCUMENT MOUNT URL
 *
 *   --policies=LIST --operations=LIST --leases=LIST --holders=LIST
 *                   only these; separated by semicolons, by the document's words
 *   --clocks=ACK:SLOW:DRAIN:TERM:DEADLINE   in ms (1000:1200:2500:3000:3500)
 *   --jobs=N        cells at the same time (64)
 *
 * Reads what is to happen from the document, changes the policy of the mount by
 * PML_IOC_REMOUNT, and runs the cells, each in a process of its own.  One TAP line for each
 * policy, operation and kind of lease; cells that failed are comments above it.
 *
 * Exit status 0: all as the document says; 1: not; 2: set-up failed.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "pmemleasefs/ioctl.h"

#include "matrix.h"

#define JOBS_MAX      240u
#define CELLS_MAX     4096u
#define TEXT_BYTES    512u
#define CELL_LIMIT_MS 120000 /* a cell that has not ended then hangs */
#define SNAPSHOTS_MAX 8u     /* each stops all changes */
#define LONG_TERM_MS  60000u

/* What a cell's process leaves; shared with it. */
struct verdict {
	int failures;
	char text[TEXT_BYTES];
};

struct job {
	pid_t pid; /* 0: free */
	size_t cell;
	int64_t begin_ms;
};

struct matrix {
	struct rig rig;
	struct table table;
	struct cell cells[CELLS_MAX];
	size_t ncells;
	struct verdict *verdicts;
	struct job jobs[JOBS_MAX];
	unsigned int njobs;
	unsigned int tests, bad_tests;
	const char *policies, *operations, *leases, *holders; /* lists, or NULL */
};

/* ---- what is to be run -------------------------------------------------------- */

/* Is @name among those of @list? */
static bool is_chosen(const char *list, const char *name)
{
	size_t bytes = strlen(name);
	for (const char *at = list; at && *at; at += strcspn(at, ";"), at += *at == ';') {
		if (strcspn(at, ";") == bytes && strncmp(at, name, bytes) == 0)
			return true;
	}
	return !list;
}

/* What is done through another open file meets the lease as anybody's. */
static enum who as_whom(const struct matrix *m, enum op op, enum who who)
{
	if (m->table.is_through[op] || !who_is_caller(who))
		return who;
	return who == WHO_CALLER ? WHO_IGNORING : WHO_UNBREAKABLE;
}

/* A caller that waited for a lease of its own would wait for itself, until it is killed. */
static bool waits_for_itself(const struct cell *cell)
{
	return who_is_caller(cell->who) &&
	       (cell->want.result == RESULT_WAITS || cell->want.result == RESULT_WAITS_ON);
}

static void add_cell(struct matrix *m, enum policy policy, enum op op, enum kind kind, enum who who)
{
	struct cell *cell = &m->cells[m->ncells++];
	*cell = (struct cell){.policy = policy,
			      .op = op,
			      .kind = kind,
			      .who = who,
			      .way = m->table.way[op][kind],
			      .want = m->table.outcome[as_whom(m, op, who)][policy]};
	/* Whoever is not in the way notices nothing. */
	if (cell->way != WAY_MEETS)
		cell->want = (struct outcome){.result = RESULT_GOES,
					      .fate = {FATE_LIVES, FATE_LIVES},
					      .nfates = cell->want.nfates};
	m->ncells -= waits_for_itself(cell);
	cell->is_short_term = cell->want.fate[0] == FATE_EXPIRED;
}

static void add_cells(struct matrix *m)
{
	for (int policy = 0; policy < POLICIES; policy++) {
		for (int who = 0; who < WHOS; who++) {
			for (int op = 0; op < OPS; op++) {
				bool is_there = policy != POLICY_SKIP || m->table.may_skip[op];
				is_there &= is_chosen(m->policies, policy_names[policy]) &&
					    is_chosen(m->operations, op_names[op]) &&
					    is_chosen(m->holders, who_names[who]);
				for (int kind = 0; is_there && kind < KINDS; kind++) {
					if (is_chosen(m->leases, kind_names[kind]))
						add_cell(m, (enum policy)policy, (enum op)op,
							 (enum kind)kind, (enum who)who);
				}
			}
		}
	}
}

/* ---- the mount ------------------------------------------------------------------ */

static int call_root(const struct matrix *m, unsigned long cmd, void *data)
{
	int fd = open(m->rig.mnt, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int err = fd < 0 || ioctl(fd, cmd, data) ? -errno : 0;
	if (fd >= 0)
		(void)close(fd);
	return err;
}

/* Operations that skip cannot be told so all at once. */
static int change_mount(const struct matrix *m, enum policy policy, bool is_short_term)
{
	struct pml_ioc_remount ask = {.version = PML_IOC_VERSION};
	const struct rig *rig = &m->rig;
	(void)snprintf(ask.options, sizeof(ask.options),
		       "%s,ack=%ums,drain=%ums,term=%ums,block_deadline=%ums",
		       policy == POLICY_SKIP	? "policy.dedupe=skip,policy.relocate=skip"
		       : policy == POLICY_EBUSY ? "policy=ebusy"
		       : policy == POLICY_BLOCK ? "policy=block"
						: "policy=revoke",
		       rig->ack_ms, rig->drain_ms, is_short_term ? rig->term_ms : LONG_TERM_MS,
		       is_short_term ? 0 : rig->deadline_ms);
	int err = call_root(m, PML_IOC_REMOUNT, &ask);
	err = err ? err : ask.status;
	if (err)
		printf("# remount %s: %s %s\n", ask.options, strerror(-err), ask.reason);
	return err;
}

/* ---- running --------------------------------------------------------------------- */

static int64_t now_ms(void)
{
	struct timespec now;
	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static void start(struct matrix *m, struct job *job, size_t i)
{
	const struct cell *cell = &m->cells[i];
	struct verdict *verdict = &m->verdicts[i];
	verdict->failures = -1;
	(void)fflush(stdout);
	pid_t pid = fork();
	if (pid == 0) {
		(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
		verdict->failures = cell_run(&m->rig, cell, m->table.asks_for[cell->op],
					     (unsigned int)i, verdict->text, TEXT_BYTES);
		_exit(0);
	}
	*job = (struct job){.pid = pid, .cell = i, .begin_ms = now_ms()};
}

static void end(struct matrix *m, struct job *job, const char *how)
{
	struct verdict *verdict = &m->verdicts[job->cell];
	if (verdict->failures < 0) {
		(void)snprintf(verdict->text, sizeof(verdict->text), "its process %s", how);
		verdict->failures = 1;
	}
	job->pid = 0;
}

/* Takes note of those that have ended.  Returns how many cells run, of snapshots too. */
static unsigned int reap(struct matrix *m, unsigned int *ret_snapshots)
{
	unsigned int running = 0;
	*ret_snapshots = 0;
	for (unsigned int i = 0; i < m->njobs; i++) {
		struct job *job = &m->jobs[i];
		if (job->pid == 0)
			continue;
		bool hangs = now_ms() - job->begin_ms > CELL_LIMIT_MS;
		if (hangs)
			(void)kill(job->pid, SIGKILL);
		if (waitpid(job->pid, NULL, hangs ? 0 : WNOHANG) != 0)
			end(m, job, hangs ? "hangs" : "died");
		else
			running++, *ret_snapshots += m->cells[job->cell].op == OP_SNAPSHOT;
	}
	return running;
}

static struct job *free_job(struct matrix *m)
{
	for (unsigned int i = 0; i < m->njobs; i++) {
		if (m->jobs[i].pid == 0)
			return &m->jobs[i];
	}
	return NULL;
}

/* Runs the cells of one mount's options.  Returns how many. */
static size_t run_cells(struct matrix *m, enum policy policy, bool is_short_term)
{
	static bool is_started[CELLS_MAX];
	size_t nstarted = 0;
	unsigned int running, snapshots;
	do {
		const struct timespec pause = {.tv_nsec = 2000000};
		running = reap(m, &snapshots);
		struct job *job = free_job(m);
		size_t i = 0;
		while (i < m->ncells &&
		       (is_started[i] || m->cells[i].policy != policy ||
			m->cells[i].is_short_term != is_short_term ||
			(m->cells[i].op == OP_SNAPSHOT && snapshots >= SNAPSHOTS_MAX)))
			i++;
		if (job && i < m->ncells) {
			is_started[i] = true;
			nstarted++;
			running++;
			start(m, job, i);
		} else {
			(void)nanosleep(&pause, NULL);
		}
	} while (running > 0);
	return nstarted;
}

/* ---- saying ----------------------------------------------------------------------- */

static void say(struct matrix *m, bool is_ok, enum policy policy, const char *what,
		const char *where)
{
	printf("%sok %u - %s: %s: %s\n", is_ok ? "" : "not ", ++m->tests, policy_names[policy],
	       what, where);
	(void)fflush(stdout);
	m->bad_tests += !is_ok;
}

/* One line for an operation and a kind of lease; nothing, if no cell was run. */
static void say_group(struct matrix *m, enum policy policy, enum op op, enum kind kind)
{
	unsigned int ncells = 0, nbad = 0;
	for (size_t i = 0; i < m->ncells; i++) {
		const struct cell *cell = &m->cells[i];
		if (cell->policy != policy || cell->op != op || cell->kind != kind)
			continue;
		ncells++;
		if (m->verdicts[i].failures == 0)
			continue;
		nbad++;
		printf("# %s, %s, %s, %s: want \"%s\": %s\n", policy_names[policy], op_names[op],
		       kind_names[kind], who_names[cell->who], result_names[cell->want.result],
		       m->verdicts[i].text);
	}
	if (ncells > 0)
		say(m, nbad == 0, policy, op_names[op], kind_names[kind]);
}

/* Nothing is left of all of it. */
static void say_rest(struct matrix *m, enum policy policy)
{
	struct pml_ioc_audit audit = {.version = PML_IOC_VERSION};
	struct pml_ioc_stats stats = {.version = PML_IOC_VERSION};
	int err = call_root(m, PML_IOC_AUDIT, &audit);
	if (!err)
		err = call_root(m, PML_IOC_STATS, &stats);
	bool is_clean = !err && audit.status == 0 && stats.leases == 0 && stats.pins == 0 &&
			stats.waiters == 0 && stats.quarantined_blocks == 0 &&
			stats.used_blocks == 0 && stats.fences_stuck == 0;
	if (!is_clean)
		printf("# error %d, audit %s, leases %" PRIu64 ", pins %" PRIu64
		       ", waiters %" PRIu64 ", quarantined %" PRIu64 ", used %" PRIu64 "\n",
		       err, audit.reason, (uint64_t)stats.leases, (uint64_t)stats.pins,
		       (uint64_t)stats.waiters, (uint64_t)stats.quarantined_blocks,
		       (uint64_t)stats.used_blocks);
	say(m, is_clean, policy, "in the end",
	    "no lease, pin, waiter or block is left, and the audit is clean");
}

static int run_policy(struct matrix *m, enum policy policy)
{
	size_t ncells = 0;
	int64_t begin_ms = now_ms();
	for (int is_short_term = 0; is_short_term < 2; is_short_term++) {
		int err = change_mount(m, policy, is_short_term);
		if (err)
			return err;
		ncells += run_cells(m, policy, is_short_term);
	}
	if (ncells == 0)
		return 0;
	for (int op = 0; op < OPS; op++) {
		for (int kind = 0; kind < KINDS; kind++)
			say_group(m, policy, (enum op)op, (enum kind)kind);
	}
	say_rest(m, policy);
	printf("# %s: %zu cells in %lld ms\n", policy_names[policy], ncells,
	       (long long)(now_ms() - begin_ms));
	return 0;
}

/* ---- start -------------------------------------------------------------------------- */

static const struct option options[] = {
	{"policies", required_argument, NULL, 'p'},
	{"operations", required_argument, NULL, 'o'},
	{"leases", required_argument, NULL, 'l'},
	{"holders", required_argument, NULL, 'h'},
	{"clocks", required_argument, NULL, 'c'},
	{"jobs", required_argument, NULL, 'j'},
	{NULL, 0, NULL, 0},
};

static bool read_options(struct matrix *m, int argc, char **argv)
{
	struct rig *rig = &m->rig;
	for (int c = getopt_long(argc, argv, "", options, NULL); c != -1;
	     c = getopt_long(argc, argv, "", options, NULL)) {
		if (c == 'p')
			m->policies = optarg;
		else if (c == 'o')
			m->operations = optarg;
		else if (c == 'l')
			m->leases = optarg;
		else if (c == 'h')
			m->holders = optarg;
		else if (c == 'j')
			m->njobs = (unsigned int)strtoul(optarg, NULL, 10);
		else if (c != 'c' || sscanf(optarg, "%u:%u:%u:%u:%u", &rig->ack_ms, &rig->slow_ms,
					    &rig->drain_ms, &rig->term_ms, &rig->deadline_ms) != 5)
			return false;
	}
	if (argc - optind != 3 || m->njobs == 0 || m->njobs > JOBS_MAX)
		return false;
	rig->mnt = argv[optind + 1];
	rig->url = argv[optind + 2];
	return true;
}

int main(int argc, char **argv)
{
	static struct matrix matrix = {.rig = {.ack_ms = 1000,
					       .slow_ms = 1200,
					       .drain_ms = 2500,
					       .term_ms = 3000,
					       .deadline_ms = 3500},
				       .njobs = 64};
	struct matrix *m = &matrix;
	if (!read_options(m, argc, argv)) {
		(void)fprintf(stderr, "usage: matrix [OPTION...] DOCUMENT MOUNT URL\n");
		return 2;
	}
	if (table_read(argv[optind], &m->table)) {
		printf("Bail out! the document is not as the program reads it\n");
		return 2;
	}
	add_cells(m);
	m->verdicts = mmap(NULL, CELLS_MAX * sizeof(*m->verdicts), PROT_READ | PROT_WRITE,
			   MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (m->verdicts == MAP_FAILED || m->ncells == 0) {
		printf("Bail out! no cells\n");
		return 2;
	}
	for (int policy = 0; policy < POLICIES; policy++) {
		if (run_policy(m, (enum policy)policy)) {
			printf("Bail out! the mount's options cannot be changed\n");
			return 2;
		}
	}
	printf("# %zu cells\n1..%u\n", m->ncells, m->tests);
	return m->bad_tests > 0;
}
