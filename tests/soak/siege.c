/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * siege.c -- one honest client among many bad ones
 *
 * usage: siege MOUNT URL SECONDS SEED RAIDERS
 *
 * RAIDERS processes do one raid after the other (raid.h), local processes change the layouts of
 * the files that these write, and one honest client reads and writes a file of its own and
 * looks at every byte.  The raiders rest and attack in turn, in slices of some seconds: what
 * the honest client gets done under attack is compared with what it gets done without, in
 * the same run.
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
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "pml/base.h"
#include "pml/clock.h"
#include "pmemleasefs/client.h"
#include "raid.h"

#define LOCALS	    2u
#define RAIDERS_MAX 64u
#define FILE_BLOCKS 64u
#define OWN_BYTES   (256u << 10) /* of the honest client's file */
#define WRITE_BYTES (64u << 10)
#define REST_MS	    1000u
#define ATTACK_MS   2000u
#define SETTLE_MS   500u
#define SLICES_MAX  4096u
#define END_MS	    60000u

struct shared {
	struct raid_counts counts;
	_Atomic bool must_stop;
	_Atomic bool is_attack;
	_Atomic uint64_t done;	 /* by the honest client */
	_Atomic uint64_t locals; /* operations */
	_Atomic uint64_t lost;	 /* connections of the honest client */
};

static struct shared *sh;
static const char *mount_dir, *url;

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

/* ---- the honest client ------------------------------------------------------------- */

struct honest {
	struct pml_client *client; /* NULL: not connected */
	struct pml_client_buffer *buffer;
	struct pml_client_handle file;
	uint64_t round;
};

static uint8_t own_byte(uint64_t i)
{
	return (uint8_t)(1 + (i * 7 + i / 4096 * 13) % 251);
}

static bool honest_connect(struct honest *h)
{
	struct pml_client_attr attr;
	char reason[256];
	int err = pml_client_connect(url, 30000, &h->client, reason);
	if (err) {
		printf("# the honest client cannot connect: %s\n", reason);
		h->client = NULL;
		return false;
	}
	if (pml_client_stat(h->client, "/siege/own", &attr) ||
	    pml_client_buffer_new(h->client, OWN_BYTES, &h->buffer)) {
		pml_client_close(h->client);
		h->client = NULL;
		return false;
	}
	h->file = attr.handle;
	return true;
}

static int honest_read(struct honest *h)
{
	struct pml_client_lease *lease;
	const uint8_t *data = pml_client_buffer_data(h->buffer);
	int err = pml_client_lease(h->client, &h->file, 0, OWN_BYTES, false, 5000, &lease);
	if (err)
		return err;
	uint64_t bytes = PML_MIN(pml_client_lease_end(lease), (uint64_t)OWN_BYTES);
	err = pml_client_read(lease, h->buffer, 0, 0, bytes);
	int status = pml_client_return(lease);
	for (uint64_t i = 0; i < bytes && !err; i++) {
		if (data[i] == own_byte(i))
			continue;
		violation("the honest client reads a wrong byte", data[i]);
		break;
	}
	return err ? err : status;
}

static int honest_write(struct honest *h)
{
	struct pml_client_lease *lease;
	uint8_t *data = pml_client_buffer_data(h->buffer);
	uint64_t first = h->round % (OWN_BYTES / WRITE_BYTES) * WRITE_BYTES;
	for (uint64_t i = 0; i < WRITE_BYTES; i++)
		data[i] = own_byte(first + i);
	int err = pml_client_lease(h->client, &h->file, first, WRITE_BYTES, true, 5000, &lease);
	if (err)
		return err;
	uint64_t bytes = PML_MIN(pml_client_lease_end(lease) - first, (uint64_t)WRITE_BYTES);
	err = pml_client_write(lease, h->buffer, 0, first, bytes);
	if (!err)
		err = pml_client_commit(lease, first, bytes, 0);
	int status = pml_client_return(lease);
	return err ? err : status;
}

static void run_honest(void)
{
	struct honest h = {.round = 0};
	while (!atomic_load(&sh->must_stop)) {
		if (!h.client && !honest_connect(&h)) {
			(void)usleep(100000);
			continue;
		}
		int err = h.round++ % 4 ? honest_read(&h) : honest_write(&h);
		if (err == 0) {
			atomic_fetch_add(&sh->done, 1);
			continue;
		}
		/* Nobody else wants its file. */
		printf("# the honest client: %s\n", pml_client_reason(h.client));
		(void)fflush(stdout);
		if (err != -ENOTCONN && err != -ETIMEDOUT && err != -EKEYREVOKED)
			violation("the honest client's call fails with", err);
		atomic_fetch_add(&sh->lost, 1);
		pml_client_close(h.client);
		h.client = NULL;
	}
	if (h.client)
		pml_client_close(h.client);
}

/* ---- slices ------------------------------------------------------------------------- */

/* What it gets done in a second. */
static double measure(bool is_attack, unsigned int ms)
{
	atomic_store(&sh->is_attack, is_attack);
	(void)usleep(SETTLE_MS * 1000);
	uint64_t from = atomic_load(&sh->done);
	uint64_t from_ms = pml_now_ms();
	(void)usleep(ms * 1000);
	uint64_t took_ms = pml_now_ms() - from_ms;
	return (double)(atomic_load(&sh->done) - from) * 1000 / (double)took_ms;
}

static int compare(const void *a, const void *b)
{
	const double *x = a, *y = b;
	return (*x > *y) - (*x < *y);
}

static void run_slices(unsigned int seconds)
{
	static double rest[SLICES_MAX], attack[SLICES_MAX];
	unsigned int n = 0;
	uint64_t end_ms = pml_now_ms() + seconds * 1000u;
	while (n < SLICES_MAX && (n == 0 || pml_now_ms() < end_ms)) {
		rest[n] = measure(false, REST_MS);
		attack[n] = measure(true, ATTACK_MS);
		n++;
	}
	atomic_store(&sh->is_attack, false);
	qsort(rest, n, sizeof(rest[0]), compare);
	qsort(attack, n, sizeof(attack[0]), compare);
	double ratio = rest[n / 2] > 0 ? attack[n / 2] / rest[n / 2] : 0;
	printf("# ratio siege, an honest client under attack: %.2f (%.2f of its slowest slice) "
	       "(without)\n",
	       ratio, attack[0] > 0 && rest[0] > 0 ? attack[0] / rest[0] : 0);
	printf("# honest_per_second %.0f without, %.0f under attack, %u slices\n", rest[n / 2],
	       attack[n / 2], n);
	printf("# honest_percent %d\n", (int)(ratio * 100));
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
	run_honest();
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
	static uint8_t data[OWN_BYTES];
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
		data[i] = own_byte(i);
	snprintf(path, sizeof(path), "%s/siege/own", mount_dir);
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
	printf("# honest_done %" PRIu64 "\n", atomic_load(&sh->done));
	printf("# honest_lost %" PRIu64 "\n", atomic_load(&sh->lost));
}

int main(int argc, char **argv)
{
	if (argc != 6) {
		fprintf(stderr, "usage: siege MOUNT URL SECONDS SEED RAIDERS\n");
		return 2;
	}
	mount_dir = argv[1];
	url = argv[2];
	unsigned int seconds = (unsigned int)atoi(argv[3]);
	unsigned int seed = (unsigned int)atoi(argv[4]) * 1000;
	unsigned int raiders = PML_MIN((unsigned int)atoi(argv[5]), RAIDERS_MAX);
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
	run_slices(seconds);
	atomic_store(&sh->must_stop, true);
	reap(pids, n);
	for (unsigned int i = 0; i < RAID_FILES; i++)
		look_at(i);
	print_counts();
	return atomic_load(&sh->counts.violations) ? 1 : 0;
}
