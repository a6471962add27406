/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * ctl_screen.c -- pmemleasectl: a look at a mount, drawn on a terminal
 *
 * One line an entry, as many as fit; operations that wait come first.
 */
#include <inttypes.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "ctl.h"
#include "pmemleasefs/ioctl.h"
#include "pml/lease.h"
#include "size.h"

/* ECMA-48: cursor home, erase to the end of the line and of the screen; DEC: no line wrap. */
#define HOME	   "\033[H"
#define END_LINE   "\033[K\n"
#define ERASE_REST "\033[J"
#define NO_WRAP	   "\033[?7l"
#define WRAP	   "\033[?7h"

#define HEAD_LINES 9u /* all but the entries, and the one that the cursor is left in */

static size_t screen_lines(void)
{
	struct winsize size;
	bool is_known = ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_row > 0;
	return is_known ? size.ws_row : 24;
}

static void draw_head(const struct pml_ctl_mount *mount, const struct pml_ctl_sample *was,
		      const struct pml_ctl_sample *is)
{
	char pinned[PML_SIZE_TEXT_BYTES], clock[16] = "";
	time_t now = time(NULL);
	struct tm local;
	if (localtime_r(&now, &local))
		(void)strftime(clock, sizeof(clock), "%H:%M:%S", &local);
	pml_size_format(is->stats.pinned_bytes, pinned);
	printf(HOME NO_WRAP "%s  ", clock);
	pml_ctl_print_text(mount->path);
	printf(END_LINE "%" PRIu64 " sessions, %" PRIu64 " leases, %s pinned, %" PRIu64
			" operations wait" END_LINE,
	       is->stats.sessions, is->stats.leases, pinned, is->stats.waiters);
	uint64_t ms = was->at_ms ? PML_MAX(is->at_ms - was->at_ms, (uint64_t)1) : 1;
	printf("a second:");
	for (size_t i = 0; i < PML_CTL_COUNTERS; i++) {
		uint64_t tenths = pml_ctl_counted(&pml_ctl_counters[i], was, is) * 10000 / ms;
		printf(" %s %" PRIu64 ".%u", pml_ctl_counters[i].name, tenths / 10,
		       (unsigned int)(tenths % 10));
	}
	printf(END_LINE END_LINE);
}

static void draw_waiter(const struct pml_ioc_waiter *waiter)
{
	pml_ctl_print_seconds(9, waiter->age_ms);
	printf("  %-9s %-7s %-8" PRIu64 " %-8" PRIu64 " ", pml_ctl_op_name(waiter->op),
	       pml_policy_name((enum pml_policy)waiter->policy), waiter->ino, waiter->lease_id);
	pml_ctl_print_process(waiter->name, waiter->pid);
	printf(END_LINE);
}

static void draw_lease(const struct pml_ioc_lease *lease)
{
	pml_ctl_print_seconds(9, lease->age_ms);
	printf("  %-8" PRIu64 " %-5s %-8" PRIu64 " ", lease->lease_id,
	       pml_ctl_mode_name(lease->mode), lease->ino);
	pml_ctl_print_text(lease->peer);
	printf("  ");
	pml_ctl_print_state(lease);
	printf("  %" PRIu64 "-%" PRIu64 END_LINE, lease->first_byte, lease->end_byte);
}

static void draw_rest(size_t all, size_t drawn)
{
	if (all > drawn)
		printf("          and %zu more" END_LINE, all - drawn);
}

void pml_ctl_draw(const struct pml_ctl_mount *mount, const struct pml_ctl_sample *was,
		  const struct pml_ctl_sample *is)
{
	size_t lines = screen_lines();
	size_t room = lines > HEAD_LINES + 4 ? lines - HEAD_LINES : 4;
	size_t nwaiters = PML_MIN(is->waiters.count, room / 2);
	size_t nleases = PML_MIN(is->leases.count, room - nwaiters);
	const struct pml_ioc_waiter *waiter = is->waiters.entries;
	const struct pml_ioc_lease *lease = is->leases.entries;

	draw_head(mount, was, is);
	if (nwaiters > 0)
		printf("%9s  %-9s %-7s %-8s %-8s %s" END_LINE, "WAITED(s)", "OPERATION", "POLICY",
		       "INODE", "LEASE", "PROCESS");
	for (size_t i = 0; i < nwaiters; i++)
		draw_waiter(&waiter[i]);
	draw_rest(is->waiters.count, nwaiters);
	printf("%9s  %-8s %-5s %-8s %s" END_LINE, "AGE(s)", "LEASE", "MODE", "INODE",
	       "HOLDER, STATE, RANGE");
	for (size_t i = 0; i < nleases; i++)
		draw_lease(&lease[i]);
	draw_rest(is->leases.count, nleases);
	printf(ERASE_REST);
}

void pml_ctl_undraw(void)
{
	printf(WRAP);
}
