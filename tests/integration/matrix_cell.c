/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * matrix_cell.c -- one cell: files, holders, the operation, and a look at everything then
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include "pmemleasefs/ioctl.h"

#include "matrix.h"

/* Clocks of the server count whole milliseconds. */
#define ROUNDING_MS 2
/* Longest time that anything takes on a busy machine, beyond the clock that it waits for. */
#define GRACE_MS   20000
#define AFTER_MS   300 /* still waiting so long after the drain clock would have run out */
#define GONE_TRIES 1000

struct run {
	const struct rig *rig;
	const struct cell *cell;
	struct ground ground;
	struct holder holder[HOLDERS_MAX];
	unsigned int nholders;
	struct holder beside;		/* of the file that shares its blocks; pid 0: nobody */
	struct state held, twin, other; /* before the operation */
	bool has_ended; /* a lease may have, so what it kept behind the end is given back */
	int failures;
	char *text;
	size_t bytes, used;
};

static int64_t now_ms(void)
{
	struct timespec now;
	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

__attribute__((format(printf, 2, 3))) static void fail(struct run *r, const char *format, ...)
{
	va_list args;
	r->failures++;
	va_start(args, format);
	if (r->used + 2 < r->bytes) {
		if (r->used > 0)
			r->text[r->used++] = ';', r->text[r->used++] = ' ';
		int n = vsnprintf(r->text + r->used, r->bytes - r->used, format, args);
		r->used += n > 0 ? (size_t)n : 0;
		if (r->used >= r->bytes)
			r->used = r->bytes - 1;
	}
	va_end(args);
}

static const char *name_of(int err)
{
	const char *name = strerrorname_np(-err);
	return err == 0 ? "no error" : name ? name : "an unknown error";
}

/* ---- before ---------------------------------------------------------------------- */

/* Where the leases lie: several have a part each, and the operation meets both. */
static void place_holders(struct run *r)
{
	const struct cell *cell = r->cell;
	bool is_past = cell->kind == KIND_PAST_END;
	uint64_t first = is_past ? FILE_BLOCKS - 2 : RANGE_FIRST - 1;
	uint64_t end = is_past ? FILE_BLOCKS + 4 : RANGE_END - 2;
	uint64_t middle = is_past ? FILE_BLOCKS - 1 : RANGE_FIRST + 1;
	if (is_past && cell->op == OP_TRUNCATE_UP)
		middle = LONGER_END - 1;
	r->nholders = cell->who == WHO_SEVERAL ? 2 : 1;
	for (unsigned int i = 0; i < r->nholders; i++) {
		struct holder *h = &r->holder[i];
		h->kind = cell->kind;
		h->who = r->nholders == 1 ? cell->who : i == 0 ? WHO_COOPERATIVE : WHO_IGNORING;
		h->first_block = i == 0 ? first : middle;
		h->end_block = r->nholders == 1 || i == 1 ? end : middle;
	}
}

/* Contents as the writers left them. */
static void expect_contents(const struct run *r, struct contents *ret_contents)
{
	uint64_t block;
	contents_begin(ret_contents, 'a');
	for (unsigned int i = 0; i < r->nholders; i++) {
		if (holder_marks(&r->holder[i], &block))
			contents_fill(ret_contents, block, 'W');
	}
}

static int look_at_all(const struct run *r, struct state *held, struct state *twin,
		       struct state *other)
{
	const struct ground *g = &r->ground;
	int err = state_of(g->held, held);
	if (!err && access(g->twin, F_OK) == 0)
		err = state_of(g->twin, twin);
	if (!err && access(g->other, F_OK) == 0)
		err = state_of(g->other, other);
	return err;
}

/* Whoever holds a lease on the file that shares the blocks: it lives, whatever comes. */
static int start_beside(struct run *r, char *ret_reason, size_t bytes)
{
	struct stat st;
	if (r->cell->op != OP_UNSHARE_WRITE_BOTH && r->cell->op != OP_UNSHARE_CALL_BOTH)
		return 0;
	if (stat(r->ground.twin, &st))
		return -errno;
	r->beside.who = WHO_COOPERATIVE;
	r->beside.kind = KIND_READ;
	r->beside.end_block = FILE_BLOCKS;
	return holder_start(&r->beside, r->rig, r->cell, r->ground.twin, ret_reason, bytes);
}

static bool prepare(struct run *r, unsigned int number)
{
	char reason[128] = "";
	struct contents expected;
	int err = ground_make(&r->ground, r->rig, r->cell, number);
	if (err) {
		fail(r, "cannot make files: %s", name_of(err));
		return false;
	}
	place_holders(r);
	for (unsigned int i = 0; i < r->nholders && !err; i++)
		err = who_is_caller(r->cell->who)
			      ? holder_take_here(&r->holder[i], r->ground.held)
			      : holder_start(&r->holder[i], r->rig, r->cell, r->ground.held, reason,
					     sizeof(reason));
	if (!err)
		err = start_beside(r, reason, sizeof(reason));
	if (err) {
		fail(r, "a holder gets no lease: %s: %s", name_of(err), reason);
		return false;
	}
	err = ground_finish(&r->ground, r->cell);
	if (!err)
		err = look_at_all(r, &r->held, &r->twin, &r->other);
	if (err) {
		fail(r, "cannot read files: %s", name_of(err));
		return false;
	}
	expect_contents(r, &expected);
	int64_t differ = contents_differ(&expected, &r->held.contents);
	if (differ >= 0)
		fail(r, "byte %lld is not what was committed", (long long)differ);
	return true;
}

/* What has one share under the lease cannot be unshared there (I5). */
static void check_cannot_meet(struct run *r)
{
	const struct holder *h = &r->holder[0];
	for (unsigned int i = 0; i < r->nholders; i++, h++) {
		if (count_blocks(r->ground.held, h->first_block, h->end_block,
				 PML_IOC_EXTENT_SHARED) != 0)
			fail(r, "there are shared blocks under the lease");
	}
}

/* ---- afterwards ------------------------------------------------------------------ */

static void check_nothing_changed(struct run *r, const char *when)
{
	static struct state held, twin, other;
	struct stat st;
	int err = look_at_all(r, &held, &twin, &other);
	if (err) {
		fail(r, "%s: cannot read files: %s", when, name_of(err));
		return;
	}
	if (contents_differ(&r->held.contents, &held.contents) >= 0)
		fail(r, "%s: contents have changed from byte %lld", when,
		     (long long)contents_differ(&r->held.contents, &held.contents));
	if (held.mtime_s != r->held.mtime_s || held.mtime_ns != r->held.mtime_ns)
		fail(r, "%s: mtime has changed", when);
	if (r->has_ended ? held.blocks_512 > r->held.blocks_512
			 : held.blocks_512 != r->held.blocks_512)
		fail(r, "%s: st_blocks was %lld, is %lld", when, (long long)r->held.blocks_512,
		     (long long)held.blocks_512);
	if (memcmp(&twin, &r->twin, sizeof(twin)) != 0)
		fail(r, "%s: the file that shares its blocks has changed", when);
	if (memcmp(&other, &r->other, sizeof(other)) != 0)
		fail(r, "%s: the other file has changed", when);
	if (stat(r->ground.made, &st) == 0)
		fail(r, "%s: something was made", when);
	if (!op_unshares(r->cell->op) &&
	    count_blocks(r->ground.held, 0, FILE_BLOCKS, PML_IOC_EXTENT_SHARED) != 0)
		fail(r, "%s: blocks are shared", when);
}

/* What the operation has made besides, and what is shared now. */
static void check_others(struct run *r, const struct contents *before)
{
	static struct state other;
	const struct ground *g = &r->ground;
	struct contents expected = {0};
	int shared = count_blocks(g->held, RANGE_FIRST, RANGE_END, PML_IOC_EXTENT_SHARED);
	enum op op = r->cell->op;
	const char *path = op == OP_SNAPSHOT	? g->made_held
			   : op == OP_CLONE_SRC ? g->other
			   : op_unshares(op)	? g->twin
						: NULL;
	bool is_shared = op == OP_SNAPSHOT || op == OP_CLONE_SRC || op == OP_CLONE_DST ||
			 op == OP_DEDUPE_SRC || op == OP_DEDUPE_DST;
	if (is_shared ? shared != RANGE_END - RANGE_FIRST : path && shared != 0)
		fail(r, "done: %d blocks are shared", shared);
	if (!path)
		return;
	int err = state_of(path, &other);
	if (err) {
		fail(r, "done: %s: %s", path, name_of(err));
		return;
	}
	expected = *before;
	if (op == OP_CLONE_SRC) {
		expected = (struct contents){.bytes = (size_t)(RANGE_END - RANGE_FIRST) * BLOCK};
		memcpy(expected.data, before->data + (size_t)RANGE_FIRST * BLOCK, expected.bytes);
	} else if (path == g->twin) {
		expected = r->twin.contents;
	}
	if (contents_differ(&expected, &other.contents) >= 0)
		fail(r, "done: %s differs from byte %lld", path,
		     (long long)contents_differ(&expected, &other.contents));
}

static void check_done(struct run *r, bool was_slow)
{
	static struct state held;
	static struct contents before, after;
	uint64_t block;
	before = r->held.contents;
	if (was_slow && holder_adds(&r->holder[0], r->cell, &block))
		contents_fill(&before, block, 'Z');
	after = before;
	contents_change(&after, r->cell->op);
	int err = state_of(r->ground.held, &held);
	if (err) {
		fail(r, "done: cannot read the file: %s", name_of(err));
		return;
	}
	if (held.contents.bytes != after.bytes)
		fail(r, "done: size is %zu, want %zu", held.contents.bytes, after.bytes);
	else if (contents_differ(&after, &held.contents) >= 0)
		fail(r, "done: contents differ from byte %lld",
		     (long long)contents_differ(&after, &held.contents));
	check_others(r, &before);
}

/* A lease and its pins are gone soon, when they are to be gone. */
static bool has_lease(const struct run *r, uint64_t lease_id)
{
	struct pml_ioc_leases list = {.version = PML_IOC_VERSION, .after = lease_id - 1};
	int fd = open(r->rig->mnt, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int rc = ioctl(fd, PML_IOC_LEASES, &list);
	(void)close(fd);
	return rc != 0 || (list.count > 0 && list.leases[0].lease_id == lease_id);
}

static void check_lease(struct run *r, const struct holder *h, bool is_there, const char *when)
{
	for (int i = 0; !is_there && i < GONE_TRIES && has_lease(r, h->lease_id); i++)
		(void)usleep(10000);
	if (has_lease(r, h->lease_id) != is_there)
		fail(r, "%s: the lease is %s", when, is_there ? "gone" : "still there");
}

/* ---- the operation --------------------------------------------------------------- */

static void on_alarm(int signo)
{
	(void)signo;
}

/* Does it, interrupted after @interrupt_ms, if that is not 0. */
static int operate_timed(const struct run *r, uint32_t interrupt_ms, int64_t *ret_ms)
{
	const struct sigaction action = {.sa_handler = on_alarm}; /* no SA_RESTART */
	struct itimerval timer = {
		.it_value = {.tv_sec = interrupt_ms / 1000, .tv_usec = interrupt_ms % 1000 * 1000}};
	int here = r->holder[0].here;
	int64_t begin_ms = now_ms();
	(void)sigaction(SIGALRM, &action, NULL);
	(void)setitimer(ITIMER_REAL, &timer, NULL);
	int err = here >= 0 ? operate_on(&r->ground, here, r->cell->op)
			    : operate(&r->ground, r->cell->op);
	*ret_ms = now_ms() - begin_ms;
	timer = (struct itimerval){0};
	(void)setitimer(ITIMER_REAL, &timer, NULL);
	return err;
}

static void check_end(struct run *r, int got, int want, int64_t ms, int64_t least_ms)
{
	if (got != want)
		fail(r, "ended with %s, want %s", name_of(got), name_of(want));
	if (ms + ROUNDING_MS < least_ms)
		fail(r, "ended after %lld ms, want %lld at least", (long long)ms,
		     (long long)least_ms);
	if (ms > least_ms + GRACE_MS)
		fail(r, "ended after %lld ms only", (long long)ms);
}

/* How long an operation waits at least until this has become of the lease. */
static int64_t least_ms(const struct run *r, unsigned int i)
{
	switch (r->cell->want.fate[i]) {
	case FATE_CONFLICT:
		return r->rig->drain_ms;
	case FATE_SILENT:
		return r->rig->ack_ms;
	case FATE_RETURNED:
		return r->holder[i].who == WHO_SLOW ? r->rig->slow_ms : 0;
	case FATE_EXPIRED: /* the library's last message was sent a third of the term ago */
		return r->rig->term_ms / 2;
	default:
		return 0;
	}
}

static void run_waiting(struct run *r)
{
	int64_t ms, least = 0;
	for (unsigned int i = 0; i < r->nholders; i++)
		least = least_ms(r, i) > least ? least_ms(r, i) : least;
	int err = operate_timed(r, 0, &ms);
	check_end(r, err, 0, ms, least);
	if (err)
		check_nothing_changed(r, "failed");
	else
		check_done(r, r->cell->want.fate[0] == FATE_RETURNED);
}

/* Longer than the clock that does not run; a signal ends it, and a deadline. */
static void run_waiting_on(struct run *r)
{
	int64_t ms;
	uint32_t long_ms = r->rig->drain_ms + AFTER_MS;
	int err = operate_timed(r, long_ms, &ms);
	check_end(r, err, -EINTR, ms, long_ms);
	r->has_ended = r->cell->who == WHO_SEVERAL;
	check_nothing_changed(r, "interrupted");
	err = operate_timed(r, 0, &ms);
	check_end(r, err, -EBUSY, ms, r->rig->deadline_ms);
	check_nothing_changed(r, "after the deadline");
}

static void run_at_once(struct run *r)
{
	int64_t ms;
	enum result result = r->cell->want.result;
	int want = result == RESULT_BUSY       ? -EBUSY
		   : result == RESULT_SKIPPED  ? -ECANCELED
		   : result == RESULT_DEADLOCK ? -EDEADLK
					       : 0;
	int err = operate_timed(r, 0, &ms);
	check_end(r, err, want, ms, 0);
	if (err)
		check_nothing_changed(r, "refused");
	else
		check_done(r, false);
}

/* ---- leases ------------------------------------------------------------------------ */

static void check_holder(struct run *r, struct holder *h, enum result result, enum fate fate,
			 uint32_t asks_for)
{
	struct report report;
	if (h->who == WHO_STOPPED)
		holder_go_on(h);
	if (holder_ask(h, fate, &report) < 0) {
		fail(r, "a holder does not answer");
		return;
	}
	if (report.fate != fate)
		fail(r, "the lease: %s, want %s %s",
		     report.fate < FATES ? fate_names[report.fate] : "of an unknown end",
		     fate_names[fate], report.reason);
	if (report.error)
		fail(r, "the lease lives and cannot be used: %s", name_of(report.error));
	check_lease(r, h, fate == FATE_LIVES, "then");
	bool is_asked = result == RESULT_WAITS || result == RESULT_WAITS_ON;
	if (!is_asked && report.recalls > 0)
		fail(r, "a holder was asked to return the lease");
	if (is_asked && report.recalls == 0 && fate != FATE_DIED && h->who != WHO_STOPPED)
		fail(r, "a holder was not asked to return the lease");
	if (is_asked && h->who == WHO_IGNORING && report.waiter_op != asks_for)
		fail(r, "waits for change %u, want %u", report.waiter_op, asks_for);
}

/* When nobody holds it any more, what was refused is possible, and nothing is left. */
static void finish(struct run *r, bool was_refused)
{
	int64_t ms;
	for (unsigned int i = 0; i < r->nholders; i++) {
		if (r->cell->who == WHO_KILLED && r->holder[i].fd >= 0)
			(void)kill(r->holder[i].pid, SIGKILL);
		holder_end(&r->holder[i]);
		check_lease(r, &r->holder[i], false, "in the end");
	}
	if (r->beside.pid) {
		holder_end(&r->beside);
		check_lease(r, &r->beside, false, "in the end, beside");
	}
	if (was_refused) {
		int err = operate_timed(r, 0, &ms);
		check_end(r, err, 0, ms, 0);
		if (!err)
			check_done(r, false);
	}
	if (count_blocks(r->ground.held, 0, UINT64_MAX, PML_IOC_EXTENT_PINNED) != 0)
		fail(r, "in the end: blocks are pinned");
}

int cell_run(const struct rig *rig, const struct cell *cell, uint32_t asks_for, unsigned int number,
	     char *ret_text, size_t bytes)
{
	static struct run run;
	struct run *r = &run;
	enum result result = cell->want.result;
	run = (struct run){.rig = rig, .cell = cell, .text = ret_text, .bytes = bytes};
	r->beside.fd = r->holder[0].fd = r->holder[1].fd = -1;
	r->beside.here = r->holder[0].here = r->holder[1].here = -1;
	if (prepare(r, number)) {
		if (cell->way == WAY_CANNOT)
			check_cannot_meet(r);
		if (cell->who == WHO_STOPPED)
			holder_stop(&r->holder[0]);
		if (result == RESULT_WAITS)
			run_waiting(r);
		else if (result == RESULT_WAITS_ON)
			run_waiting_on(r);
		else
			run_at_once(r);
		for (unsigned int i = 0; i < r->nholders; i++)
			check_holder(r, &r->holder[i], result, cell->want.fate[i], asks_for);
		if (r->beside.pid)
			check_holder(r, &r->beside, RESULT_GOES, FATE_LIVES, OP_NONE);
		finish(r, result != RESULT_WAITS && result != RESULT_GOES);
	}
	for (unsigned int i = 0; i < r->nholders; i++)
		holder_end(&r->holder[i]);
	holder_end(&r->beside);
	ground_remove(&r->ground);
	return r->failures;
}
