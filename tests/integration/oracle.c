/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * oracle.c -- remote one-sided access against local layout changes, with a model as judge
 *
 * usage: oracle MOUNT URL SECONDS SEED [CLIENTS LOCALS]
 *
 * Client processes read and write random block ranges of a few files through
 * leases at URL (some ignore recalls and get fenced); local processes truncate,
 * punch, clone, overwrite, read and unlink the same files under MOUNT.  Every
 * 8-byte word written names its block, its group of files and a value number; a
 * model in shared memory keeps, per block, which values it may hold now.  A word
 * that was read must be one of the values that the block held between the start
 * and the end of the read, or the operation must have ended in an explicit error
 * (I4, I10).  Clones stay inside a group and keep the block's offset, so a block
 * that was given to another use under a live key (I1, I3) shows itself as a word
 * of another block, another group, or the poison of freed blocks.
 *
 * The load lasts SECONDS, and where that was not enough for the two sides to meet, somewhat longer.
 *
 * Exit status 0: no violation; 1: violations, each printed as a TAP comment; 2: set-up failed.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "pml/base.h"
#include "pml/clock.h"
#include "pmemleasefs/client.h"

#define FILES	    6u /* two groups of three: even and odd numbers */
#define FILE_BLOCKS 64u
#define RANGE_MAX   8u /* blocks of one operation */
#define HISTORY	    32u
#define WORDS	    (PML_BLOCK_BYTES / 8u)
#define WORDS_MIN   10000u /* compared, by oracle.t */
#define LONGER_S    40u	   /* than SECONDS, until they have met */

/* What one block of one file may hold: values history[base .. version]. */
struct block_model {
	pthread_mutex_t writer; /* held through each change of the block's contents */
	pthread_mutex_t lock;	/* of the fields below; held for moments */
	uint64_t version;
	uint64_t base; /* oldest version that may still be the current one */
	uint64_t history[HISTORY];
};

struct file_model {
	_Atomic uint64_t incarnation; /* grows by two when it is unlinked; odd: under way */
	struct block_model block[FILE_BLOCKS];
};

enum counter {
	READS,
	READ_ERRORS,
	WRITES,
	WRITE_ERRORS,
	WRITES_UNSURE,
	REVOKED,
	RECALLED,
	LEASE_BUSY,
	RECONNECTS,
	LOCAL_OPS,
	LOCAL_BUSY,
	LOCAL_READS,
	WORDS_CHECKED,
	COUNTERS,
};
static const char *const counter_names[COUNTERS] = {
	"remote_reads",
	"remote_read_errors",
	"remote_writes",
	"remote_write_errors",
	"remote_writes_unsure",
	"revoked",
	"recalled",
	"lease_busy",
	"reconnects",
	"local_ops",
	"local_busy",
	"local_reads",
	"words_checked",
};

struct shared {
	struct file_model file[FILES];
	_Atomic uint64_t next_value;
	_Atomic uint64_t violations;
	_Atomic bool must_stop;
	_Atomic uint64_t count[COUNTERS];
};

static struct shared *sh;
static const char *mount_dir, *url;

static void bump(enum counter c)
{
	atomic_fetch_add(&sh->count[c], 1);
}

static uint64_t random_below(unsigned int *seed, uint64_t n)
{
	return (uint64_t)rand_r(seed) % n;
}

/* ---- words ---- */

static uint64_t make_word(uint64_t value, unsigned int file, unsigned int block, unsigned int i)
{
	return value == 0 ? 0 : value << 24 | (uint64_t)(file % 2 + 1) << 16 | block << 9 | i;
}

static void fill_block(uint64_t *words, uint64_t value, unsigned int file, unsigned int block)
{
	for (unsigned int i = 0; i < WORDS; i++)
		words[i] = make_word(value, file, block, i);
}

/* ---- the model ---- */

/* What a reader remembers of a block when it starts. */
struct window {
	uint64_t base;
};

static void window_open(unsigned int file, unsigned int block, struct window *w)
{
	struct block_model *b = &sh->file[file].block[block];
	pthread_mutex_lock(&b->lock);
	w->base = b->base;
	pthread_mutex_unlock(&b->lock);
}

static void violation(const char *who, unsigned int file, unsigned int block, unsigned int i,
		      uint64_t word)
{
	struct block_model *b = &sh->file[file].block[block];
	if (atomic_fetch_add(&sh->violations, 1) > 20)
		return;
	printf("# VIOLATION %s: file %u block %u word %u holds %016" PRIx64 " (value %" PRIu64
	       "), model versions %" PRIu64 "..%" PRIu64 " end with value %" PRIu64 "\n",
	       who, file, block, i, word, word >> 24, b->base, b->version,
	       b->history[b->version % HISTORY]);
	fflush(stdout);
}

/* May @file have become another one since its incarnation was read? */
static bool is_replaced(unsigned int file, uint64_t incarnation)
{
	return incarnation % 2 != 0 || atomic_load(&sh->file[file].incarnation) != incarnation;
}

/*
 * While a write is under way (or after one that was torn) a word may be a mix of two
 * values, cut at any byte: the fabric promises no more.
 */
static bool is_mix(uint64_t word, const uint64_t *allowed, size_t n, unsigned int file,
		   unsigned int block, unsigned int i)
{
	for (unsigned int shift = 0; shift < 64; shift += 8) {
		bool is_good = false;
		for (size_t k = 0; k < n && !is_good; k++)
			is_good = ((word ^ make_word(allowed[k], file, block, i)) >> shift &
				   0xff) == 0;
		if (!is_good)
			return false;
	}
	return true;
}

/* Judges a block that was read since window_open(). */
static void check_block(const char *who, unsigned int file, unsigned int block,
			const struct window *w, const uint64_t *words)
{
	struct block_model *b = &sh->file[file].block[block];
	uint64_t allowed[HISTORY];
	size_t n = 0;

	pthread_mutex_lock(&b->lock);
	bool is_known = b->version - w->base < HISTORY;
	for (uint64_t v = w->base; is_known && v <= b->version; v++)
		allowed[n++] = b->history[v % HISTORY];
	pthread_mutex_unlock(&b->lock);
	if (!is_known)
		return; /* changed too often in between to tell */

	for (unsigned int i = 0; i < WORDS; i++) {
		bool is_good = false;
		for (size_t k = n; k-- > 0 && !is_good;)
			is_good = words[i] == make_word(allowed[k], file, block, i);
		if (!is_good && !is_mix(words[i], allowed, n, file, block, i)) {
			violation(who, file, block, i, words[i]);
			return;
		}
	}
	atomic_fetch_add(&sh->count[WORDS_CHECKED], WORDS);
}

/* A change of blocks under way. */
struct change {
	unsigned int file, first, n;
	uint64_t old[FILE_BLOCKS];
};

static void push_value(struct block_model *b, uint64_t value)
{
	b->version++;
	b->history[b->version % HISTORY] = value;
}

static uint64_t current_value(const struct block_model *b)
{
	return b->history[b->version % HISTORY];
}

static void lock_writers(unsigned int file, unsigned int first, unsigned int n)
{
	for (unsigned int i = 0; i < n; i++)
		pthread_mutex_lock(&sh->file[file].block[first + i].writer);
}

static void unlock_writers(unsigned int file, unsigned int first, unsigned int n)
{
	for (unsigned int i = 0; i < n; i++)
		pthread_mutex_unlock(&sh->file[file].block[first + i].writer);
}

/* From here on each block may hold its old values or values[i].  Writers locked. */
static void change_begin(struct change *c, unsigned int file, unsigned int first, unsigned int n,
			 const uint64_t *values)
{
	c->file = file;
	c->first = first;
	c->n = n;
	for (unsigned int i = 0; i < n; i++) {
		struct block_model *b = &sh->file[file].block[first + i];
		pthread_mutex_lock(&b->lock);
		c->old[i] = current_value(b);
		push_value(b, values[i]);
		pthread_mutex_unlock(&b->lock);
	}
}

enum outcome { DONE, NOTHING_CHANGED, UNSURE };

static void change_end(const struct change *c, enum outcome outcome)
{
	for (unsigned int i = 0; i < c->n; i++) {
		struct block_model *b = &sh->file[c->file].block[c->first + i];
		pthread_mutex_lock(&b->lock);
		if (outcome == DONE) {
			b->base = b->version;
		} else if (outcome == NOTHING_CHANGED) {
			/* An earlier unsure write may still show: its versions stay allowed. */
			uint64_t unsure = b->version - 1 - b->base;
			push_value(b, c->old[i]);
			if (unsure == 0)
				b->base = b->version;
		} else if (b->version - b->base >= HISTORY - 2) {
			b->base = b->version - (HISTORY - 2);
		}
		pthread_mutex_unlock(&b->lock);
	}
}

/* ---- remote clients ---- */

struct remote {
	struct pml_client *client;
	struct pml_client_buffer *buffer;
	bool is_bad; /* ignores recalls */
	unsigned int seed;
};

static void on_revoked(void *arg, struct pml_client_lease *lease, const char *reason)
{
	(void)arg;
	(void)lease;
	(void)reason;
	bump(REVOKED);
}

static bool on_recalled(void *arg, struct pml_client_lease *lease, uint32_t drain_ms)
{
	(void)arg;
	(void)lease;
	(void)drain_ms;
	bump(RECALLED);
	return true;
}

static bool remote_connect(struct remote *r)
{
	char reason[256];
	for (int i = 0; i < 50 && !atomic_load(&sh->must_stop); i++) {
		if (pml_client_connect(url, 10000, &r->client, reason) == 0) {
			struct pml_client_events events = {
				.recalled = on_recalled,
				.revoked = on_revoked,
				.is_silent = r->is_bad,
			};
			pml_client_set_events(r->client, &events);
			if (pml_client_buffer_new(r->client, RANGE_MAX * PML_BLOCK_BYTES,
						  &r->buffer) == 0)
				return true;
			pml_client_close(r->client);
		}
		usleep(100000);
	}
	r->client = NULL;
	return false;
}

static void remote_disconnect(struct remote *r)
{
	if (!r->client)
		return;
	pml_client_buffer_free(r->buffer);
	pml_client_close(r->client);
	r->client = NULL;
}

/* The connection is gone after a fence: what a client does then. */
static void remote_recover(struct remote *r, int err)
{
	if (err != -ENOTCONN && err != -EKEYREVOKED && err != -ETIMEDOUT)
		return;
	remote_disconnect(r);
	bump(RECONNECTS);
	if (!remote_connect(r) && !atomic_load(&sh->must_stop))
		printf("# a client cannot reconnect\n");
}

static void file_name(char *name, unsigned int file)
{
	snprintf(name, 32, "/f%u", file);
}

static void remote_read(struct remote *r, unsigned int file, unsigned int first, unsigned int n)
{
	char name[32];
	struct pml_client_attr attr;
	struct pml_client_lease *lease;
	file_name(name, file);

	uint64_t incarnation = atomic_load(&sh->file[file].incarnation);
	int err = pml_client_stat(r->client, name, &attr);
	if (!err)
		err = pml_client_lease(r->client, &attr.handle, first * PML_BLOCK_BYTES,
				       n * PML_BLOCK_BYTES, false, 200, &lease);
	if (err) {
		bump(err == -EAGAIN || err == -EBUSY ? LEASE_BUSY : READ_ERRORS);
		remote_recover(r, err);
		return;
	}
	uint64_t blocks = (pml_client_lease_end(lease) - first * PML_BLOCK_BYTES) / PML_BLOCK_BYTES;
	unsigned int rounds = 1 + (unsigned int)random_below(&r->seed, r->is_bad ? 40 : 10);
	for (unsigned int k = 0; k < rounds && !err && blocks > 0; k++) {
		struct window window[RANGE_MAX];
		for (unsigned int i = 0; i < blocks; i++)
			window_open(file, first + i, &window[i]);
		err = pml_client_read(lease, r->buffer, 0, first * PML_BLOCK_BYTES,
				      blocks * PML_BLOCK_BYTES);
		/* A lease keeps an unlinked file alive: its bytes are not the new file's. */
		if (err || is_replaced(file, incarnation))
			break;
		const uint64_t *words = pml_client_buffer_data(r->buffer);
		for (unsigned int i = 0; i < blocks; i++)
			check_block("remote read", file, first + i, &window[i], words + i * WORDS);
		bump(READS);
		/* Hold it for a while, so that local processes meet it. */
		usleep(r->is_bad ? 20000 : (useconds_t)random_below(&r->seed, 10000));
	}
	if (err)
		bump(READ_ERRORS);
	int status = pml_client_return(lease);
	remote_recover(r, err ? err : status);
}

/* One try with the blocks locked; what became of it. */
static enum outcome remote_write_locked(struct remote *r, const struct pml_client_attr *attr,
					unsigned int first, unsigned int n, int *ret_err)
{
	struct pml_client_lease *lease;
	*ret_err = pml_client_lease(r->client, &attr->handle, first * PML_BLOCK_BYTES,
				    n * PML_BLOCK_BYTES, true, 200, &lease);
	if (*ret_err)
		return NOTHING_CHANGED;
	enum outcome outcome = NOTHING_CHANGED;
	uint64_t first_byte = first * PML_BLOCK_BYTES, len = n * PML_BLOCK_BYTES;
	if (pml_client_lease_end(lease) < first_byte + len) {
		*ret_err = -EAGAIN; /* a partial grant: not worth modelling */
	} else {
		outcome = UNSURE;
		if (r->is_bad)
			usleep(200000);
		*ret_err = pml_client_write(lease, r->buffer, 0, first_byte, len);
		if (!*ret_err)
			*ret_err = pml_client_commit(lease, first_byte, len, first_byte + len);
		if (!*ret_err)
			outcome = DONE;
	}
	int status = pml_client_return(lease);
	if (!*ret_err && (status == -ENOTCONN || status == -EKEYREVOKED))
		*ret_err = status;
	return outcome;
}

static void remote_write(struct remote *r, unsigned int file, unsigned int first, unsigned int n)
{
	char name[32];
	struct pml_client_attr attr;
	struct change change;
	uint64_t values[RANGE_MAX];
	file_name(name, file);

	lock_writers(file, first, n);
	/* Created if a local process has just unlinked it; looked up under the locks. */
	int err = pml_client_create(r->client, name, 0666, false, &attr);
	if (!err) {
		uint64_t *words = pml_client_buffer_data(r->buffer);
		for (unsigned int i = 0; i < n; i++) {
			values[i] = atomic_fetch_add(&sh->next_value, 1);
			fill_block(words + i * WORDS, values[i], file, first + i);
		}
		change_begin(&change, file, first, n, values);
		enum outcome outcome = remote_write_locked(r, &attr, first, n, &err);
		change_end(&change, outcome);
		bump(outcome == DONE ? WRITES : outcome == UNSURE ? WRITES_UNSURE : WRITE_ERRORS);
	}
	unlock_writers(file, first, n);
	if (err)
		remote_recover(r, err);
}

static void pick_range(unsigned int *seed, unsigned int *file, unsigned int *first, unsigned int *n)
{
	*file = (unsigned int)random_below(seed, FILES);
	*n = 1 + (unsigned int)random_below(seed, RANGE_MAX);
	*first = (unsigned int)random_below(seed, FILE_BLOCKS - *n + 1);
}

static void run_client(unsigned int seed, bool is_bad)
{
	struct remote r = {.seed = seed, .is_bad = is_bad};
	if (!remote_connect(&r)) {
		printf("# a client cannot connect to %s\n", url);
		atomic_fetch_add(&sh->violations, 1);
		return;
	}
	while (!atomic_load(&sh->must_stop) && r.client) {
		unsigned int file, first, n;
		pick_range(&r.seed, &file, &first, &n);
		if (random_below(&r.seed, 2))
			remote_read(&r, file, first, n);
		else
			remote_write(&r, file, first, n);
	}
	remote_disconnect(&r);
}

/* ---- local processes ---- */

static int open_file(unsigned int file, int flags)
{
	char path[4096];
	snprintf(path, sizeof(path), "%s/f%u", mount_dir, file);
	return open(path, flags | O_CLOEXEC, 0666);
}

/* Is the error one that promises "nothing changed"?  Others are violations. */
static enum outcome local_outcome(const char *what, int rc)
{
	bump(LOCAL_OPS);
	if (rc >= 0)
		return DONE;
	if (errno == EBUSY || errno == EAGAIN || errno == EINTR)
		bump(LOCAL_BUSY);
	else {
		printf("# local %s: %s\n", what, strerror(errno));
		atomic_fetch_add(&sh->violations, 1);
	}
	return NOTHING_CHANGED;
}

static void local_write(unsigned int *seed, unsigned int file, unsigned int first, unsigned int n)
{
	static uint64_t words[RANGE_MAX * WORDS];
	uint64_t values[RANGE_MAX];
	struct change change;
	(void)seed;

	lock_writers(file, first, n);
	int fd = open_file(file, O_RDWR | O_CREAT);
	if (fd >= 0) {
		for (unsigned int i = 0; i < n; i++) {
			values[i] = atomic_fetch_add(&sh->next_value, 1);
			fill_block(words + i * WORDS, values[i], file, first + i);
		}
		change_begin(&change, file, first, n, values);
		ssize_t rc = pwrite(fd, words, n * PML_BLOCK_BYTES, first * PML_BLOCK_BYTES);
		change_end(&change, local_outcome("write", rc < 0 ? -1 : 0));
		close(fd);
	}
	unlock_writers(file, first, n);
}

/* Truncate to @first blocks: all behind become zero. */
static void local_truncate(unsigned int file, unsigned int first)
{
	static const uint64_t zeros[FILE_BLOCKS];
	struct change change;
	unsigned int n = FILE_BLOCKS - first;

	lock_writers(file, first, n);
	int fd = open_file(file, O_RDWR);
	if (fd >= 0) {
		change_begin(&change, file, first, n, zeros);
		change_end(&change,
			   local_outcome("truncate", ftruncate(fd, first * PML_BLOCK_BYTES)));
		close(fd);
	}
	unlock_writers(file, first, n);
}

static void local_punch(unsigned int file, unsigned int first, unsigned int n)
{
	static const uint64_t zeros[RANGE_MAX];
	struct change change;

	lock_writers(file, first, n);
	int fd = open_file(file, O_RDWR);
	if (fd >= 0) {
		change_begin(&change, file, first, n, zeros);
		change_end(&change,
			   local_outcome("punch",
					 fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
						   first * PML_BLOCK_BYTES, n * PML_BLOCK_BYTES)));
		close(fd);
	}
	unlock_writers(file, first, n);
}

/* Values of a source block that is held still by its writer lock; -1: not certain. */
static bool source_values(unsigned int file, unsigned int first, unsigned int n, uint64_t *values)
{
	for (unsigned int i = 0; i < n; i++) {
		struct block_model *b = &sh->file[file].block[first + i];
		pthread_mutex_lock(&b->lock);
		values[i] = current_value(b);
		bool is_sure = b->base == b->version;
		pthread_mutex_unlock(&b->lock);
		if (!is_sure)
			return false;
	}
	return true;
}

/* Clones a range to the next file of the group, at the same offset. */
static void local_clone(unsigned int file, unsigned int first, unsigned int n)
{
	unsigned int to = (file + 2) % FILES;
	unsigned int low = PML_MIN(file, to), high = PML_MAX(file, to);
	uint64_t values[RANGE_MAX] = {0};
	struct change change;
	struct stat st;

	lock_writers(low, first, n);
	lock_writers(high, first, n);
	int src = open_file(file, O_RDONLY);
	int dst = open_file(to, O_RDWR | O_CREAT);
	off_t end = (off_t)((first + n) * PML_BLOCK_BYTES);
	if (src >= 0 && dst >= 0 && fstat(src, &st) == 0 && st.st_size >= end &&
	    source_values(file, first, n, values)) {
		loff_t from = first * PML_BLOCK_BYTES, at = from;
		change_begin(&change, to, first, n, values);
		ssize_t rc = copy_file_range(src, &from, dst, &at, n * PML_BLOCK_BYTES, 0);
		enum outcome outcome = local_outcome("clone", rc < 0 ? -1 : 0);
		if (rc >= 0 && rc < (ssize_t)(n * PML_BLOCK_BYTES))
			outcome = UNSURE;
		change_end(&change, outcome);
	}
	if (src >= 0)
		close(src);
	if (dst >= 0)
		close(dst);
	unlock_writers(high, first, n);
	unlock_writers(low, first, n);
}

static void local_unlink(unsigned int file)
{
	static const uint64_t zeros[FILE_BLOCKS];
	struct change change;
	char path[4096];
	snprintf(path, sizeof(path), "%s/f%u", mount_dir, file);

	lock_writers(file, 0, FILE_BLOCKS);
	atomic_fetch_add(&sh->file[file].incarnation, 1);
	change_begin(&change, file, 0, FILE_BLOCKS, zeros);
	int rc = unlink(path);
	if (rc < 0 && errno == ENOENT)
		rc = 0;
	change_end(&change, local_outcome("unlink", rc));
	atomic_fetch_add(&sh->file[file].incarnation, 1);
	unlock_writers(file, 0, FILE_BLOCKS);
}

static void local_read(unsigned int file, unsigned int first, unsigned int n)
{
	struct window window[RANGE_MAX];
	static uint64_t words[RANGE_MAX * WORDS] __attribute__((aligned(4096)));
	uint64_t incarnation = atomic_load(&sh->file[file].incarnation);
	/* Past the page cache, whose invalidation after a remote commit takes a moment. */
	int fd = open_file(file, O_RDONLY | O_DIRECT);
	if (fd < 0)
		return;
	for (unsigned int i = 0; i < n; i++)
		window_open(file, first + i, &window[i]);
	ssize_t got = pread(fd, words, n * PML_BLOCK_BYTES, first * PML_BLOCK_BYTES);
	close(fd);
	if (got < 0 || is_replaced(file, incarnation))
		return;
	for (unsigned int i = 0; i < (size_t)got / PML_BLOCK_BYTES; i++)
		check_block("local read", file, first + i, &window[i], words + i * WORDS);
	bump(LOCAL_READS);
}

static void run_local(unsigned int seed)
{
	while (!atomic_load(&sh->must_stop)) {
		unsigned int file, first, n;
		pick_range(&seed, &file, &first, &n);
		switch (random_below(&seed, 12)) {
		case 0:
			local_truncate(file, first);
			break;
		case 1:
		case 2:
			local_punch(file, first, n);
			break;
		case 3:
		case 4:
			local_clone(file, first, n);
			break;
		case 5:
			if (random_below(&seed, 4) == 0)
				local_unlink(file);
			break;
		case 6:
		case 7:
		case 8:
			local_read(file, first, n);
			break;
		default:
			local_write(&seed, file, first, n);
		}
		usleep((useconds_t)random_below(&seed, 3000));
	}
}

/* ---- set-up ---- */

static void init_shared(void)
{
	sh = mmap(NULL, sizeof(*sh), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (sh == MAP_FAILED) {
		perror("# mmap");
		exit(2);
	}
	pthread_mutexattr_t attr;
	pthread_mutexattr_init(&attr);
	pthread_mutexattr_setpshared(&attr, PTHREAD_PROCESS_SHARED);
	for (unsigned int f = 0; f < FILES; f++) {
		for (unsigned int b = 0; b < FILE_BLOCKS; b++) {
			pthread_mutex_init(&sh->file[f].block[b].writer, &attr);
			pthread_mutex_init(&sh->file[f].block[b].lock, &attr);
		}
	}
	atomic_store(&sh->next_value, 1);
}

static pid_t spawn(unsigned int seed, int kind)
{
	fflush(stdout);
	pid_t pid = fork();
	if (pid != 0)
		return pid;
	if (kind == 0)
		run_local(seed);
	else
		run_client(seed, kind == 2);
	fflush(stdout);
	_exit(0);
}

/* Everything has ended: each block must hold a value that the model allows. */
static void final_check(void)
{
	for (unsigned int f = 0; f < FILES; f++)
		for (unsigned int b = 0; b < FILE_BLOCKS; b += RANGE_MAX)
			local_read(f, b, RANGE_MAX);
}

/* Waits for the children; one that hangs or dies is a violation. */
static void reap(size_t n)
{
	uint64_t deadline = pml_now_ms() + 120000;
	while (n > 0 && pml_now_ms() < deadline) {
		int status;
		pid_t pid = waitpid(-1, &status, WNOHANG);
		if (pid <= 0) {
			usleep(20000);
			continue;
		}
		n--;
		if (status != 0) {
			printf("# process %d ended with status 0x%x\n", (int)pid, status);
			atomic_fetch_add(&sh->violations, 1);
		}
	}
	if (n > 0) {
		printf("# VIOLATION %zu processes hang\n", n);
		atomic_fetch_add(&sh->violations, 1);
		signal(SIGTERM, SIG_IGN);
		kill(0, SIGTERM);
	}
}

/* Has each side done something, and met the other? */
static bool has_met(void)
{
	return atomic_load(&sh->count[WRITES]) > 0 && atomic_load(&sh->count[LOCAL_OPS]) > 0 &&
	       atomic_load(&sh->count[WORDS_CHECKED]) >= WORDS_MIN &&
	       atomic_load(&sh->count[RECALLED]) + atomic_load(&sh->count[REVOKED]) +
			       atomic_load(&sh->count[LOCAL_BUSY]) >
		       0;
}

/* On a slow machine that takes longer than what was asked for. */
static void load(unsigned int seconds)
{
	sleep(seconds);
	for (unsigned int i = 0; i < LONGER_S && !has_met(); i++)
		sleep(1);
}

int main(int argc, char **argv)
{
	if (argc != 5 && argc != 7) {
		fprintf(stderr, "usage: oracle MOUNT URL SECONDS SEED [CLIENTS LOCALS]\n");
		return 2;
	}
	mount_dir = argv[1];
	url = argv[2];
	unsigned int seconds = (unsigned int)atoi(argv[3]);
	unsigned int seed = (unsigned int)atoi(argv[4]);
	unsigned int clients = argc == 7 ? (unsigned int)atoi(argv[5]) : 3;
	unsigned int locals = argc == 7 ? (unsigned int)atoi(argv[6]) : 2;
	printf("# oracle: seed %u, %u clients (the last one ignores recalls), %u local processes\n",
	       seed, clients, locals);
	init_shared();

	for (unsigned int i = 0; i < locals; i++)
		spawn(seed * 100 + i, 0);
	for (unsigned int i = 0; i < clients; i++)
		spawn(seed * 100 + 50 + i, i + 1 == clients ? 2 : 1);
	load(seconds);
	atomic_store(&sh->must_stop, true);
	reap(clients + locals);
	final_check();

	for (int i = 0; i < COUNTERS; i++)
		printf("# %s %" PRIu64 "\n", counter_names[i], atomic_load(&sh->count[i]));
	uint64_t violations = atomic_load(&sh->violations);
	printf("# violations %" PRIu64 "\n", violations);
	return violations ? 1 : 0;
}
