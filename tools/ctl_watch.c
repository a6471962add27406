/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * ctl_watch.c -- pmemleasectl: what changes at a mount, look by look
 *
 * A look reads leases, waiting operations and what has ended by force since the last one,
 * in this order.  A lease that the history already names is none any more, even if the
 * list still had it: so each end is told once.  What came and went between two looks is
 * seen in the numbers, and if it was forced in the history.
 */
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "ctl.h"
#include "pmemleasefs/ioctl.h"
#include "pml/clock.h"

#define INTERVAL_MS 1000u

#define COUNTER(field)                                                                             \
	{                                                                                          \
#field, offsetof(struct pml_ioc_stats, field)                                      \
	}

const struct pml_ctl_counter pml_ctl_counters[PML_CTL_COUNTERS] = {
	COUNTER(granted), COUNTER(returned), COUNTER(recalls),	    COUNTER(revoked),
	COUNTER(expired), COUNTER(parked),   COUNTER(refused_busy), COUNTER(refused_limit),
};

static uint64_t value_of(const struct pml_ctl_counter *counter, const struct pml_ctl_sample *sample)
{
	uint64_t value = 0;
	memcpy(&value, (const char *)&sample->stats + counter->offset, sizeof(value));
	return value;
}

uint64_t pml_ctl_counted(const struct pml_ctl_counter *counter, const struct pml_ctl_sample *was,
			 const struct pml_ctl_sample *is)
{
	uint64_t before = value_of(counter, was), now = value_of(counter, is);
	/* Less: it was mounted again. */
	return was->at_ms == 0 ? 0 : now - (before <= now ? before : 0);
}

/* ---- a look ---------------------------------------------------------------- */

static void sample_fini(struct pml_ctl_sample *sample)
{
	free(sample->leases.entries);
	free(sample->waiters.entries);
	free(sample->endings.entries);
}

static int compare_leases(const void *a, const void *b)
{
	const struct pml_ioc_lease *left = a, *right = b;
	return left->lease_id < right->lease_id ? -1 : left->lease_id > right->lease_id;
}

/* A thread waits with one operation at a time; pid 0 are those of remote clients. */
static int compare_waiters(const void *a, const void *b)
{
	const struct pml_ioc_waiter *left = a, *right = b;
	if (left->pid != right->pid)
		return left->pid < right->pid ? -1 : 1;
	if (left->ino != right->ino)
		return left->ino < right->ino ? -1 : 1;
	if (left->first_byte != right->first_byte)
		return left->first_byte < right->first_byte ? -1 : 1;
	return (int)left->op - (int)right->op;
}

/* The history's entry about a lease, or NULL. */
static const struct pml_ioc_ending *ending_of(const struct pml_ctl_sample *is, uint64_t lease_id)
{
	const struct pml_ioc_ending *ending = is->endings.entries;
	for (size_t i = 0; i < is->endings.count; i++, ending++)
		if (ending->lease_id == lease_id)
			return ending;
	return NULL;
}

/* Drops what is still being granted, and what has ended by now. */
static void keep_granted(struct pml_ctl_sample *sample)
{
	struct pml_ioc_lease *lease = sample->leases.entries;
	size_t kept = 0;
	for (size_t i = 0; i < sample->leases.count; i++)
		if (lease[i].state != PML_IOC_STATE_GRANTING &&
		    !ending_of(sample, lease[i].lease_id))
			lease[kept++] = lease[i];
	sample->leases.count = kept;
}

static int read_lists(const struct pml_ctl_mount *mount, struct pml_ctl_choice *choice,
		      const struct pml_ctl_sample *was, struct pml_ctl_sample *is)
{
	static const struct pml_ctl_filter none;
	const struct pml_ctl_choice all = {.filter = &none};
	int err = pml_ctl_choose_again(mount, choice);
	if (!err)
		err = pml_ctl_get_leases(mount, choice, &is->leases);
	if (!err)
		err = pml_ctl_get_waiters(mount, choice, &is->waiters);
	if (!err)
		err = pml_ctl_get_history(mount, &all, was->last_ending, &is->endings,
					  &is->last_ending);
	return err;
}

static int look(const struct pml_ctl_mount *mount, struct pml_ctl_choice *choice,
		const struct pml_ctl_sample *was, struct pml_ctl_sample *is)
{
	is->at_ms = pml_now_ms();
	is->stats.version = PML_IOC_VERSION;
	int err = read_lists(mount, choice, was, is);
	if (!err)
		err = pml_ctl_ask(mount->path, mount->fd, PML_IOC_STATS, &is->stats);
	if (err)
		return err;
	const struct pml_ioc_ending *first = is->endings.entries;
	is->has_forgotten = is->endings.count > 0 && first->number > was->last_ending + 1;
	keep_granted(is);
	if (was->at_ms == 0) {
		is->endings.count = 0; /* that was before */
		is->has_forgotten = false;
	}
	if (is->waiters.count > 0)
		qsort(is->waiters.entries, is->waiters.count, is->waiters.entry_bytes,
		      compare_waiters);
	return 0;
}

/* ---- what has changed -------------------------------------------------------- */

typedef int (*compare_fn)(const void *a, const void *b);

static const void *find(const struct pml_ctl_array *array, const void *entry, compare_fn compare)
{
	if (array->count == 0)
		return NULL;
	return bsearch(entry, array->entries, array->count, array->entry_bytes, compare);
}

/* The same wait: one that began anew is younger than the old one was. */
static bool goes_on(const struct pml_ioc_waiter *was, const struct pml_ioc_waiter *is)
{
	return was && is && is->age_ms >= was->age_ms;
}

/* Two looks and how to show what is between them. */
struct report {
	const struct pml_ctl_choice *choice;
	const struct pml_ctl_sample *was, *is;
	struct pml_ctl_list list;
};

static void for_new_leases(struct report *r, void (*show)(struct report *, const void *))
{
	const struct pml_ioc_lease *lease = r->is->leases.entries;
	for (size_t i = 0; i < r->is->leases.count; i++, lease++)
		if (!find(&r->was->leases, lease, compare_leases))
			show(r, lease);
}

/* Those that ended by themselves. */
static void for_given_up(struct report *r, void (*show)(struct report *, const void *))
{
	const struct pml_ioc_lease *lease = r->was->leases.entries;
	for (size_t i = 0; i < r->was->leases.count; i++, lease++)
		if (!find(&r->is->leases, lease, compare_leases) &&
		    !ending_of(r->is, lease->lease_id))
			show(r, lease);
}

static void for_revoked(struct report *r, void (*show)(struct report *, const void *))
{
	const struct pml_ioc_ending *ending = r->is->endings.entries;
	for (size_t i = 0; i < r->is->endings.count; i++, ending++) {
		const struct pml_ioc_lease key = {.lease_id = ending->lease_id};
		/* Of a block it is not known any more whether the lease had it. */
		if (find(&r->was->leases, &key, compare_leases) ||
		    pml_ctl_is_chosen(r->choice, ending->ino, ending->lease_id, ending->peer))
			show(r, ending);
	}
}

/* Waits of @these that are not in @those, which are later if @is_ended. */
static void for_waits(struct report *r, const struct pml_ctl_array *these,
		      const struct pml_ctl_array *those, bool is_ended,
		      void (*show)(struct report *, const void *))
{
	const struct pml_ioc_waiter *waiter = these->entries;
	for (size_t i = 0; i < these->count; i++, waiter++) {
		const struct pml_ioc_waiter *other = find(those, waiter, compare_waiters);
		if (!(is_ended ? goes_on(waiter, other) : goes_on(other, waiter)))
			show(r, waiter);
	}
}

static const char *reason_given_up(const struct report *r)
{
	return r->is->has_forgotten ? "unknown" : "given-up";
}

/* ---- as JSON ------------------------------------------------------------------ */

static void json_lease(struct report *r, const void *entry)
{
	pml_ctl_next_entry(&r->list);
	pml_ctl_print_json_lease(r->choice, entry);
}

static void json_given_up(struct report *r, const void *entry)
{
	const struct pml_ioc_lease *lease = entry;
	pml_ctl_next_entry(&r->list);
	printf("{\"lease\":%" PRIu64 ",\"session\":%" PRIu64 ",", lease->lease_id, lease->session);
	pml_ctl_print_json_inode(r->choice, lease->ino);
	printf(",\"first_byte\":%" PRIu64 ",\"end_byte\":%" PRIu64
	       ",\"mode\":\"%s\",\"why\":\"%s\",\"holder\":",
	       lease->first_byte, lease->end_byte, pml_ctl_mode_name(lease->mode),
	       reason_given_up(r));
	pml_ctl_print_json_text(lease->peer);
	putchar('}');
}

static void json_revoked(struct report *r, const void *entry)
{
	pml_ctl_next_entry(&r->list);
	pml_ctl_print_json_ending(r->choice, entry);
}

static void json_waiter(struct report *r, const void *entry)
{
	pml_ctl_next_entry(&r->list);
	pml_ctl_print_json_waiter(r->choice, entry);
}

static void begin_member(struct report *r, const char *name)
{
	printf(",\"%s\":", name);
	pml_ctl_begin_list(&r->list, true);
	r->list.is_one_line = true;
}

static void print_json(struct report *r)
{
	const struct pml_ctl_sample *is = r->is, *was = r->was;
	printf("{\"time\":%" PRIu64 ",\"interval_ms\":%" PRIu64 ",\"sessions\":%" PRIu64
	       ",\"leases\":%" PRIu64 ",\"pinned_bytes\":%" PRIu64 ",\"waiters\":%" PRIu64
	       ",\"counted\":{",
	       (uint64_t)time(NULL), was->at_ms ? is->at_ms - was->at_ms : 0, is->stats.sessions,
	       is->stats.leases, is->stats.pinned_bytes, is->stats.waiters);
	for (size_t i = 0; i < PML_CTL_COUNTERS; i++)
		printf("%s\"%s\":%" PRIu64, i ? "," : "", pml_ctl_counters[i].name,
		       pml_ctl_counted(&pml_ctl_counters[i], was, is));
	putchar('}');
	begin_member(r, "new_leases");
	for_new_leases(r, json_lease);
	pml_ctl_end_list(&r->list);
	begin_member(r, "ended_leases");
	for_given_up(r, json_given_up);
	for_revoked(r, json_revoked);
	pml_ctl_end_list(&r->list);
	begin_member(r, "new_waiters");
	for_waits(r, &is->waiters, &was->waiters, false, json_waiter);
	pml_ctl_end_list(&r->list);
	begin_member(r, "ended_waiters");
	for_waits(r, &was->waiters, &is->waiters, true, json_waiter);
	pml_ctl_end_list(&r->list);
	printf("}\n");
}

/* ---- as a line ------------------------------------------------------------------ */

static void line_lease(struct report *r, const void *entry)
{
	const struct pml_ioc_lease *lease = entry;
	(void)r;
	printf("; +lease %" PRIu64 " %s inode %" PRIu64 " %" PRIu64 "-%" PRIu64 " ",
	       lease->lease_id, pml_ctl_mode_name(lease->mode), lease->ino, lease->first_byte,
	       lease->end_byte);
	pml_ctl_print_text(lease->peer);
}

static void line_given_up(struct report *r, const void *entry)
{
	const struct pml_ioc_lease *lease = entry;
	printf("; -lease %" PRIu64 " %s", lease->lease_id, reason_given_up(r));
}

static void line_revoked(struct report *r, const void *entry)
{
	const struct pml_ioc_ending *ending = entry;
	(void)r;
	printf("; -lease %" PRIu64 " %s", ending->lease_id, pml_ctl_end_name(ending->why));
	if (ending->was_recalled)
		printf(" for %s", pml_ctl_op_name(ending->op));
	if (ending->has_waiter) {
		printf(" of ");
		pml_ctl_print_process(ending->waiter, ending->waiter_pid);
	}
	printf(" after ");
	pml_ctl_print_seconds(0, ending->recalled_ms);
	printf(" s");
}

static void print_wait(char sign, const struct pml_ioc_waiter *waiter)
{
	printf("; %cwait %s inode %" PRIu64 " ", sign, pml_ctl_op_name(waiter->op), waiter->ino);
	pml_ctl_print_process(waiter->name, waiter->pid);
}

static void line_wait_began(struct report *r, const void *entry)
{
	(void)r;
	print_wait('+', entry);
}

static void line_wait_ended(struct report *r, const void *entry)
{
	(void)r;
	print_wait('-', entry);
}

static void print_line(struct report *r)
{
	time_t now = time(NULL);
	struct tm local;
	char clock[16] = "";
	if (localtime_r(&now, &local))
		(void)strftime(clock, sizeof(clock), "%H:%M:%S", &local);
	printf("%s leases %zu, waiters %zu", clock, r->is->leases.count, r->is->waiters.count);
	for_new_leases(r, line_lease);
	for_given_up(r, line_given_up);
	for_revoked(r, line_revoked);
	for_waits(r, &r->is->waiters, &r->was->waiters, false, line_wait_began);
	for_waits(r, &r->was->waiters, &r->is->waiters, true, line_wait_ended);
	putchar('\n');
}

/* ---- again and again -------------------------------------------------------------- */

/* True: a signal has come that ends it. */
static bool rest(uint32_t ms)
{
	const struct timespec pause = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000L};
	sigset_t ends;
	sigemptyset(&ends);
	sigaddset(&ends, SIGINT);
	sigaddset(&ends, SIGTERM);
	sigprocmask(SIG_BLOCK, &ends, NULL);
	return sigtimedwait(&ends, NULL, &pause) >= 0;
}

/* A look at a mount that is open for just as long. */
static int look_once(const char *path, const struct pml_ctl_options *options,
		     struct pml_ctl_choice *choice, const struct pml_ctl_sample *was,
		     struct pml_ctl_sample *is)
{
	struct pml_ctl_mount mount;
	int err = pml_ctl_open(path, &mount);
	if (err)
		return err;
	/* The path is looked up once: a file that is removed is still of interest. */
	if (was->at_ms == 0)
		err = pml_ctl_choose(&mount, &options->filter, choice);
	if (!err)
		err = look(&mount, choice, was, is);
	close(mount.fd);
	return err;
}

static int show(const struct pml_ctl_mount *mount, const struct pml_ctl_options *options,
		bool is_terminal, struct report *r)
{
	if (options->is_json)
		print_json(r);
	else if (is_terminal)
		pml_ctl_draw(mount, r->was, r->is);
	else
		print_line(r);
	return fflush(stdout) == 0 ? 0 : pml_ctl_complain("standard output", -errno);
}

int pml_ctl_watch(const struct pml_ctl_mount *mount, const struct pml_ctl_options *options)
{
	bool is_terminal = !options->is_json && isatty(STDOUT_FILENO);
	uint32_t interval_ms = options->interval_ms ? options->interval_ms : INTERVAL_MS;
	struct pml_ctl_choice choice = {0};
	struct pml_ctl_sample was = {0};
	uint64_t looks = 0;
	int err;
	do {
		struct pml_ctl_sample is = {0};
		struct report report = {.choice = &choice, .was = &was, .is = &is};
		err = look_once(mount->path, options, &choice, &was, &is);
		if (!err)
			err = show(mount, options, is_terminal, &report);
		sample_fini(&was);
		was = is;
		looks++;
	} while (!err && looks != options->count && !rest(interval_ms));
	if (is_terminal)
		pml_ctl_undraw();
	sample_fini(&was);
	pml_ctl_choice_fini(&choice);
	return err;
}
