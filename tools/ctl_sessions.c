/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * ctl_sessions.c -- pmemleasectl: who is connected, and the end of one of them
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "ctl.h"
#include "pmemleasefs/ioctl.h"
#include "size.h"

/* ---- which are wanted ------------------------------------------------------ */

/* Does the filter ask for leases, of which a session must have one? */
static bool is_about_leases(const struct pml_ctl_filter *filter)
{
	return filter->file || filter->lease_id || filter->has_block;
}

static bool has_one(const struct pml_ctl_array *leases, uint64_t session)
{
	const struct pml_ioc_lease *lease = leases->entries;
	for (size_t i = 0; i < leases->count; i++)
		if (lease[i].session == session)
			return true;
	return false;
}

static bool is_chosen(const struct pml_ctl_filter *filter, const struct pml_ctl_array *leases,
		      const struct pml_ioc_session *session)
{
	const char *client = filter->client;
	if (client && strncmp(session->peer, client, strlen(client)) != 0)
		return false;
	return !is_about_leases(filter) || has_one(leases, session->session);
}

static int get_sessions(const struct pml_ctl_mount *mount, const struct pml_ctl_choice *choice,
			struct pml_ctl_array *ret_sessions)
{
	struct pml_ioc_sessions page = {.version = PML_IOC_VERSION};
	struct pml_ctl_array leases = {0};
	*ret_sessions = (struct pml_ctl_array){.entry_bytes = sizeof(page.sessions[0])};
	int err = is_about_leases(choice->filter) ? pml_ctl_get_leases(mount, choice, &leases) : 0;
	while (!err && !(err = pml_ctl_ask(mount->path, mount->fd, PML_IOC_SESSIONS, &page)) &&
	       page.count > 0) {
		for (uint32_t i = 0; !err && i < page.count && i < PML_IOC_SESSIONS_MAX; i++)
			if (is_chosen(choice->filter, &leases, &page.sessions[i]))
				err = pml_ctl_append(ret_sessions, &page.sessions[i], 1);
	}
	free(leases.entries);
	return err;
}

/* ---- the list -------------------------------------------------------------- */

static void print_heading(void)
{
	printf("%-8s %-5s %-7s %-8s %10s %9s %9s  %s\n", "SESSION", "UID", "LEASES", "SEGMENTS",
	       "PINNED", "AGE(s)", "SILENT(s)", "CLIENT");
}

static void print_session(const void *entry)
{
	const struct pml_ioc_session *session = entry;
	char pinned[PML_SIZE_TEXT_BYTES];
	pml_size_format(session->pinned_bytes, pinned);
	printf("%-8" PRIu64 " %-5u %-7u %-8u %10s ", session->session, (unsigned int)session->uid,
	       (unsigned int)session->nleases, (unsigned int)session->nsegments, pinned);
	pml_ctl_print_seconds(9, session->age_ms);
	putchar(' ');
	pml_ctl_print_seconds(9, session->silent_ms);
	printf("  ");
	if (session->identity[0]) {
		pml_ctl_print_text(session->identity);
		printf(" at ");
	}
	pml_ctl_print_text(session->peer);
	printf("%s\n", session->flags & PML_IOC_SESSION_ENDING ? ", ending" : "");
}

static void print_json_session(const struct pml_ctl_choice *choice, const void *entry)
{
	const struct pml_ioc_session *session = entry;
	(void)choice;
	printf("{\"session\":%" PRIu64 ",\"client\":", session->session);
	pml_ctl_print_json_text(session->peer);
	printf(",\"identity\":");
	if (session->identity[0])
		pml_ctl_print_json_text(session->identity);
	else
		printf("null");
	printf(",\"uid\":%u,\"age_ms\":%" PRIu64 ",\"silent_ms\":%" PRIu64
	       ",\"leases\":%u,\"segments\":%u,\"pinned_bytes\":%" PRIu64
	       ",\"local\":%s,\"ending\":%s}",
	       (unsigned int)session->uid, session->age_ms, session->silent_ms,
	       (unsigned int)session->nleases, (unsigned int)session->nsegments,
	       session->pinned_bytes, session->flags & PML_IOC_SESSION_LOCAL ? "true" : "false",
	       session->flags & PML_IOC_SESSION_ENDING ? "true" : "false");
}

int pml_ctl_sessions(const struct pml_ctl_mount *mount, const struct pml_ctl_options *options)
{
	static const struct pml_ctl_kind kind = {
		get_sessions,
		print_heading,
		print_session,
		print_json_session,
	};
	return pml_ctl_show(mount, options, &kind);
}

/* ---- the end --------------------------------------------------------------- */

static const char *reason_of(int err)
{
	switch (err) {
	case -ESRCH:
		return "no such session, or it is ending by itself";
	case -EIO:
		return "the end of a lease cannot be confirmed: its blocks stay pinned";
	case -ETIMEDOUT:
		return "it is being ended, and is not over yet";
	default:
		return NULL;
	}
}

int pml_ctl_evict(const struct pml_ctl_mount *mount, const struct pml_ctl_options *options)
{
	struct pml_ioc_evict evict = {.version = PML_IOC_VERSION, .session = options->session};
	int err = ioctl(mount->fd, PML_IOC_EVICT, &evict) == 0 ? 0 : -errno;
	const char *reason = reason_of(err);
	if (reason)
		fprintf(stderr, PML_CTL_PROGRAM ": %s: session %" PRIu64 ": %s\n", mount->path,
			options->session, reason);
	else if (err)
		return pml_ctl_complain(mount->path, err);
	else if (options->is_json)
		printf("{\"session\":%" PRIu64 ",\"leases\":%u}\n", evict.session,
		       (unsigned int)evict.nleases);
	else
		printf("session %" PRIu64 " is over, and %u lease%s\n", evict.session,
		       (unsigned int)evict.nleases, evict.nleases == 1 ? "" : "s");
	return err;
}
