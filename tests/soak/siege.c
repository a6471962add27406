/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * siege.c -- one honest client among many bad ones
 *
 * usage: siege MOUNT URL SECONDS SEED RAIDERS NICE SERVER
 *
 * RAIDERS processes do one raid after the other (raid.h), local processes change the layouts of
 * the files that these write, and one honest client reads and writes a file of its own
 * (honest.h).  The raiders rest and attack in turn, in slices of some seconds: what
 * the honest client gets done under attack is compared with what it gets done without, in
 * the same run.  SERVER is the process that serves the mount: its use of the processors is told.
 *
 * The raiders stand for machines of their own, whose processors are no loss to the server and to
 * the honest client.  Here all share this machine's.  So raiders run by NICE, nice(1), with a
 * low priority, which is not none: they attack as fast as they get processors for it.  All that
 * the server does because of them counts, as it would there.
 *
 * Exit status 0: no violation; 1: violations, each printed as a TAP comment; 2: set-up failed.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "pml/base.h"
#include "pml/clock.h"
#include "pmemleasefs/client.h"
#include "honest.h"
#include "raid.h"
#include "usage.h"

#define LOCALS	    2u
#define RAIDERS_MAX 64u
#define FILE_BLOCKS 64u
#define REST_MS	    1000u
#define ATTACK_MS   2000u
#define SETTLE_MS   500u
#define SLICES_MAX  4096u
#define END_MS	    60000u

struct shared {
	struct raid_counts counts;
	struct honest_counts honest;
	_Atomic bool must_stop;
	_Atomic bool is_attack;
	_Atomic uint64_t locals; /* operations */
};

static struct shared *sh;
static const char *mount_dir, *url;
static int raider_nice;

static void violation(const char *what, long long value)
{
	atomic_fetch_add(&sh->counts.violations, 1);
	printf("# VIOLATION %s: %lld\n", what, value);
	(void)fflush(stdout);
}

/* ---- the bad ones ------------------------------------------------------------- */

static void run_raider(unsigned int number, unsigned int seed)
{
	const struct raid_target target = {.url = url, .counts = &sh->counts};
	(void)setpriority(PRIO_PROCESS, 0, raider_nice);
	enum raid_kind kind = (enum raid_kind)(number % RAID_KINDS);
	while (!atomic_load(&sh->must_stop)) {
		if (!atomic_load(&sh->is_attack)) {
			(void)usleep(10000);
			continue;
		}
		raid(&target, kind, &seed);
		/* Each kind from several sides at once, and in turn. */
		kind = (enum raid_kind)((kind + 1) % RAID_KINDS);
		(void)usleep((useconds_t)rand_r(&seed) % 20000);
	}
}

/* ---- local programs -------------------------------------------------------------- */

static int open_local(unsigned int file, int flags)
{
	char path[4096];
	snprintf(path, sizeof(path), "%s/siege/a%u", mount_dir, file);
	return open(path, flags | O_CLOEXEC, 0666);
}

static void change_layout(int fd, int other_fd, unsigned int *seed)
{
	static uint8_t data[8 * PML_BLOCK_BYTES];
	off_t first = (off_t)((unsigned int)rand_r(seed) % (FILE_BLOCKS - 8)) * 4096;
	loff_t from = first, to = first;
	int rc = 0;
	switch (rand_r(seed) % 5) {
	case 0:
		rc = ftruncate(fd, first);
		break;
	case 1:
		rc = fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, first, sizeof(data));
		break;
	case 2:
		rc = copy_file_range(fd, &from, other_fd, &to, sizeof(data), 0) < 0 ? -1 : 0;
		break;
	case 3:
		rc = fallocate(fd, 0, first, sizeof(data));
		break;
	default:
		memset(data, RAID_LOCAL, sizeof(data));
		rc = pwrite(fd, data, sizeof(data), first) < 0 ? -1 : 0;
		break;
	}
	if (rc && errno != EBUSY && errno != EAGAIN && errno != EINTR)
		violation("a local operation fails with errno", errno);
	atomic_fetch_add(&sh->locals, 1);
}

/* Past the page cache: what is on the device now. */
static void look_at(unsigned int file)
{
	static uint8_t data[FILE_BLOCKS * PML_BLOCK_BYTES] __attribute__((aligned(4096)));
	int fd = open_local(file, O_RDONLY | O_DIRECT);
	ssize_t got = fd < 0 ? 0 : pread(fd, data, sizeof(data), 0);
	if (fd >= 0)
		(void)close(fd);
	for (ssize_t i = 0; i < got; i++) {
		if (data[i] == 0 || data[i] == RAID_EVIL || data[i] == RAID_LOCAL)
			continue;
		violation("a raider's file holds somebody else's byte", data[i]);
		return;
	}
}

static void run_local(unsigned int seed)
{
	while (!atomic_load(&sh->must_stop)) {
		unsigned int file = (unsigned int)rand_r(&seed) % RAID_FILES;
		int fd = open_local(file, O_RDWR);
		int other_fd = open_local((file + 1) % RAID_FILES, O_RDWR);
		if (fd >= 0 && other_fd >= 0)
			change_layout(fd, other_fd, &seed);
		if (fd >= 0)
			(void)close(fd);
		if (other_fd >= 0)
			(void)close(other_fd);
		if (rand_r(&seed) % 8 == 0)
			look_at(file);
		(void)usleep((useconds_t)rand_r(&seed) % 10000);
	}
}

/* ---- slices ------------------------------------------------------------------------- */

/* Whose use of the processors is told. */
enum party { PARTY_SERVER, PARTY_HONEST, PARTY_LOCALS, PARTY_RAIDERS, PARTIES };
static const char *const party_names[PARTIES] = {"server", "honest", "locals", "raiders"};

struct crowd {
	const pid_t *pids[PARTIES];
	unsigned int counts[PARTIES];
};

/* All slices of a kind. */
struct phase {
	double rates[SLICES_MAX]; /* rounds of the honest client, per second */
	unsigned int n;
	double took_ms;
	double used_ms[PARTIES];
};

static void note_usage(const struct crowd *crowd, struct phase *phase, int sign)
{
	phase->took_ms += sign * (double)pml_now_ms();
	for (unsigned int i = 0; i < PARTIES; i++)
		phase->used_ms[i] += sign * usage_all_ms(crowd->pids[i], crowd->counts[i]);
}

static void measure(const struct crowd *crowd, struct phase *phase, bool is_attack, unsigned int ms)
{
	atomic_store(&sh->is_attack, is_attack);
	(void)usleep(SETTLE_MS * 1000);
	note_usage(crowd, phase, -1);
	uint64_t from = atomic_load(&sh->honest.done);
	uint64_t from_ms = pml_now_ms();
	(void)usleep(ms * 1000);
	uint64_t took_ms = pml_now_ms() - from_ms;
	phase->rates[phase->n++] =
		(double)(atomic_load(&sh->honest.done) - from) * 1000 / (double)took_ms;
	note_usage(crowd, phase, 1);
}

static int compare(const void *a, const void *b)
{
	const double *x = a, *y = b;
	return (*x > *y) - (*x < *y);
}

/* The middle one, and *ret_low, *ret_high: that a quarter of all is below, above. */
static double middle(double *values, unsigned int n, double *ret_low, double *ret_high)
{
	qsort(values, n, sizeof(values[0]), compare);
	*ret_low = values[n / 4];
	*ret_high = values[n - 1 - n / 4];
	return values[n / 2];
}

/* Each slice of attack with the rest before it: what else the machine does changes with time. */
static void print_ratio(const struct phase *rest, const struct phase *attack)
{
	static double ratios[SLICES_MAX];
	double low, high;
	for (unsigned int i = 0; i < rest->n; i++)
		ratios[i] = rest->rates[i] > 0 ? attack->rates[i] / rest->rates[i] : 0;
	double ratio = middle(ratios, rest->n, &low, &high);
	printf("# ratio siege, an honest client under attack: %.2f (%.2f to %.2f) (without)\n",
	       ratio, low, high);
	printf("# honest_percent %d\n", (int)(ratio * 100));
}

static double us_of(enum honest_step step, bool is_attack)
{
	uint64_t calls = atomic_load(&sh->honest.calls[is_attack][step]);
	uint64_t ns = atomic_load(&sh->honest.took_ns[is_attack][step]);
	return calls ? (double)ns / 1000 / (double)calls : 0;
}

static void print_slices(struct phase *rest, struct phase *attack)
{
	double low, high;
	print_ratio(rest, attack);
	printf("# honest_per_second %.0f without, %.0f under attack\n",
	       middle(rest->rates, rest->n, &low, &high),
	       middle(attack->rates, attack->n, &low, &high));
	for (unsigned int i = 0; i < HONEST_STEPS; i++)
		printf("# honest_us %s: %.0f without, %.0f under attack\n", honest_names[i],
		       us_of(i, false), us_of(i, true));
	for (unsigned int i = 0; i < PARTIES; i++)
		printf("# processors %s: %.2f without, %.2f under attack\n", party_names[i],
		       rest->used_ms[i] / rest->took_ms, attack->used_ms[i] / attack->took_ms);
}

static void run_slices(unsigned int seconds, const struct crowd *crowd)
{
	static struct phase rest, attack;
	uint64_t end_ms = pml_now_ms() + seconds * 1000u;
	while (rest.n < SLICES_MAX && (rest.n == 0 || pml_now_ms() < end_ms)) {
		measure(crowd, &rest, false, REST_MS);
		measure(crowd, &attack, true, ATTACK_MS);
	}
	atomic_store(&sh->is_attack, false);
	print_slices(&rest, &attack);
}

/* ---- processes ------------------------------------------------------------------------ */

static pid_t spawn(void (*run)(unsigned int number, unsigned int seed), unsigned int number,
		   unsigned int seed)
{
	(void)fflush(stdout);
	pid_t pid = fork();
	if (pid != 0)
		return pid;
	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	run(number, seed);
	(void)fflush(stdout);
	_exit(0);
}

static void start_local(unsigned int number, unsigned int seed)
{
	run_local(seed + number);
}

static void start_honest(unsigned int number, unsigned int seed)
{
	const struct honest_env env = {
		.url = url,
		.must_stop = &sh->must_stop,
		.is_attack = &sh->is_attack,
		.counts = &sh->honest,
	};
	honest_run(&env);
}

/* All have to end; one that hangs or dies is a violation. */
static void reap(const pid_t *pids, unsigned int n)
{
	uint64_t deadline_ms = pml_now_ms() + END_MS;
	for (unsigned int i = 0; i < n; i++) {
		int status = 0;
		pid_t pid = 0;
		while (pid == 0 && pml_now_ms() < deadline_ms) {
			pid = waitpid(pids[i], &status, WNOHANG);
			if (pid == 0)
				(void)usleep(5000);
		}
		if (pid == 0) {
			violation("a process hangs", pids[i]);
			(void)kill(pids[i], SIGKILL);
			(void)waitpid(pids[i], NULL, 0);
		} else if (status) {
			violation("a process ended with status", status);
		}
	}
}

static int make_files(void)
{
	static uint8_t data[HONEST_BYTES];
	char path[4096];
	snprintf(path, sizeof(path), "%s/siege", mount_dir);
	if (mkdir(path, 0777) && errno != EEXIST)
		return -errno;
	for (unsigned int i = 0; i < RAID_FILES; i++) {
		int fd = open_local(i, O_RDWR | O_CREAT);
		if (fd < 0)
			return -errno;
		(void)close(fd);
	}
	for (uint64_t i = 0; i < sizeof(data); i++)
		data[i] = honest_byte(i);
	snprintf(path, sizeof(path), "%s" HONEST_FILE, mount_dir);
	pml_auto_close int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
	return fd >= 0 && pwrite(fd, data, sizeof(data), 0) == (ssize_t)sizeof(data) ? 0 : -EIO;
}

static void print_counts(void)
{
	for (unsigned int kind = 0; kind < RAID_KINDS; kind++)
		printf("# raids_%s %" PRIu64 "\n", raid_names[kind],
		       atomic_load(&sh->counts.raids[kind]));
	printf("# served %" PRIu64 "\n", atomic_load(&sh->counts.served));
	printf("# refused %" PRIu64 "\n", atomic_load(&sh->counts.refused));
	printf("# local_ops %" PRIu64 "\n", atomic_load(&sh->locals));
	printf("# honest_done %" PRIu64 "\n", atomic_load(&sh->honest.done));
	printf("# honest_lost %" PRIu64 "\n", atomic_load(&sh->honest.lost));
}

int main(int argc, char **argv)
{
	if (argc != 8) {
		fprintf(stderr, "usage: siege MOUNT URL SECONDS SEED RAIDERS NICE SERVER\n");
		return 2;
	}
	mount_dir = argv[1];
	url = argv[2];
	unsigned int seconds = (unsigned int)atoi(argv[3]);
	unsigned int seed = (unsigned int)atoi(argv[4]) * 1000;
	unsigned int raiders = PML_MIN((unsigned int)atoi(argv[5]), RAIDERS_MAX);
	raider_nice = atoi(argv[6]);
	pid_t server = (pid_t)atoi(argv[7]);
	sh = mmap(NULL, sizeof(*sh), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (sh == MAP_FAILED || make_files()) {
		fprintf(stderr, "siege: cannot make the files in %s/siege\n", mount_dir);
		return 2;
	}

	pid_t pids[RAIDERS_MAX + LOCALS + 1];
	unsigned int n = 0;
	pids[n++] = spawn(start_honest, 0, seed);
	for (unsigned int i = 0; i < LOCALS; i++)
		pids[n++] = spawn(start_local, i, seed + 500);
	for (unsigned int i = 0; i < raiders; i++)
		pids[n++] = spawn(run_raider, i, seed + i);
	const struct crowd crowd = {
		.pids = {&server, pids, pids + 1, pids + 1 + LOCALS},
		.counts = {1, 1, LOCALS, raiders},
	};
	run_slices(seconds, &crowd);
	atomic_store(&sh->must_stop, true);
	reap(pids, n);
	for (unsigned int i = 0; i < RAID_FILES; i++)
		look_at(i);
	print_counts();
	return atomic_load(&sh->counts.violations) + atomic_load(&sh->honest.violations) ? 1 : 0;
}
