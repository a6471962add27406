/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * ctl_leases.c -- pmemleasectl: every lease, who holds it, why it ends, who waits for it
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "ctl.h"
#include "pmemleasefs/ioctl.h"
#include "pml/lease.h"
#include "size.h"

const char *pml_ctl_mode_name(uint8_t mode)
{
	return mode == PML_IOC_MODE_WRITE ? "write" : "read";
}

const char *pml_ctl_op_name(uint8_t op)
{
	return pml_layout_op_name((enum pml_layout_op)op);
}

const char *pml_ctl_end_name(uint8_t why)
{
	return pml_end_reason_name((enum pml_end_reason)why);
}

static bool is_ending(const struct pml_ioc_lease *lease)
{
	return lease->state == PML_IOC_STATE_FENCING || lease->state == PML_IOC_STATE_STUCK;
}

void pml_ctl_print_state(const struct pml_ioc_lease *lease)
{
	printf("%s", pml_lease_state_name((enum pml_lease_state)lease->state));
	if (lease->state == PML_IOC_STATE_RECALLING)
		printf(" for %s", pml_ctl_op_name(lease->recall_op));
	else if (is_ending(lease))
		printf(": %s", pml_ctl_end_name(lease->why));
}

static void print_traits(const struct pml_ioc_lease *lease)
{
	static const struct {
		unsigned int flag;
		const char *text;
	} traits[] = {
		{PML_IOC_LEASE_SHARED, "shared"},
		{PML_IOC_LEASE_UNBREAKABLE, "unbreakable"},
		{PML_IOC_LEASE_ORPHAN, "the file has no name"},
	};
	for (size_t i = 0; i < PML_ARRAY_LEN(traits); i++)
		if (lease->flags & traits[i].flag)
			printf(", %s", traits[i].text);
}

static void print_lease(const void *entry)
{
	const struct pml_ioc_lease *lease = entry;
	char pinned[PML_SIZE_TEXT_BYTES];
	pml_size_format(lease->pinned_bytes, pinned);
	printf("%-8" PRIu64 " %-8" PRIu64 " %-5s %-12" PRIu64 " %-12" PRIu64 " %10s ",
	       lease->lease_id, lease->ino, pml_ctl_mode_name(lease->mode), lease->first_byte,
	       lease->end_byte, pinned);
	pml_ctl_print_seconds(9, lease->age_ms);
	printf("  ");
	pml_ctl_print_state(lease);
	printf("\n         held by ");
	pml_ctl_print_text(lease->peer);
	printf(" (session %" PRIu64 "), uid %u, %u segment%s", lease->session,
	       (unsigned int)lease->uid, (unsigned int)lease->nsegments,
	       lease->nsegments == 1 ? "" : "s");
	print_traits(lease);
	putchar('\n');
	if (lease->flags & PML_IOC_LEASE_RECALLED) {
		printf("         recalled for %s, ", pml_ctl_op_name(lease->recall_op));
		pml_ctl_print_seconds(0, lease->recalled_ms);
		printf(" s ago, %s\n",
		       lease->flags & PML_IOC_LEASE_ACKED ? "acknowledged" : "no answer yet");
	}
	if (!lease->has_waiter)
		return;
	printf("         awaited by ");
	pml_ctl_print_text(lease->waiter[0] ? lease->waiter : "?");
	printf(" (pid %d, %s)\n", (int)lease->waiter_pid, pml_ctl_op_name(lease->waiter_op));
}

static void print_json_flag(const char *name, bool is_set)
{
	printf(",\"%s\":%s", name, is_set ? "true" : "false");
}

/* A name, or null when there is none. */
static void print_json_name(const char *name, const char *value)
{
	if (value)
		printf(",\"%s\":\"%s\"", name, value);
	else
		printf(",\"%s\":null", name);
}

void pml_ctl_print_json_lease(const struct pml_ctl_choice *choice, const void *entry)
{
	const struct pml_ioc_lease *lease = entry;
	bool is_recalled = lease->flags & PML_IOC_LEASE_RECALLED;
	printf("{\"lease\":%" PRIu64 ",\"session\":%" PRIu64 ",", lease->lease_id, lease->session);
	pml_ctl_print_json_inode(choice, lease->ino);
	printf(",\"first_byte\":%" PRIu64 ",\"end_byte\":%" PRIu64 ",\"age_ms\":%" PRIu64
	       ",\"pinned_bytes\":%" PRIu64 ",\"segments\":%u",
	       lease->first_byte, lease->end_byte, lease->age_ms, lease->pinned_bytes,
	       (unsigned int)lease->nsegments);
	print_json_name("mode", pml_ctl_mode_name(lease->mode));
	print_json_name("state", pml_lease_state_name((enum pml_lease_state)lease->state));
	print_json_name("why", is_ending(lease) ? pml_ctl_end_name(lease->why) : NULL);
	print_json_name("recalled_for", is_recalled ? pml_ctl_op_name(lease->recall_op) : NULL);
	printf(",\"recalled_ms\":%" PRIu64, lease->recalled_ms);
	print_json_flag("acknowledged", lease->flags & PML_IOC_LEASE_ACKED);
	print_json_flag("shared", lease->flags & PML_IOC_LEASE_SHARED);
	print_json_flag("unbreakable", lease->flags & PML_IOC_LEASE_UNBREAKABLE);
	print_json_flag("orphan", lease->flags & PML_IOC_LEASE_ORPHAN);
	printf(",\"holder\":");
	pml_ctl_print_json_text(lease->peer);
	printf(",\"uid\":%u,\"waiter\":", (unsigned int)lease->uid);
	if (lease->has_waiter)
		pml_ctl_print_json_process(lease->waiter, lease->waiter_pid,
					   pml_ctl_op_name(lease->waiter_op));
	else
		printf("null");
	putchar('}');
}

int pml_ctl_get_leases(const struct pml_ctl_mount *mount, const struct pml_ctl_choice *choice,
		       struct pml_ctl_array *ret_leases)
{
	struct pml_ioc_leases page = {.version = PML_IOC_VERSION};
	int err;
	*ret_leases = (struct pml_ctl_array){.entry_bytes = sizeof(page.leases[0])};
	while (!(err = pml_ctl_ask(mount->path, mount->fd, PML_IOC_LEASES, &page)) &&
	       page.count > 0) {
		for (uint32_t i = 0; !err && i < page.count && i < PML_IOC_LEASES_MAX; i++) {
			const struct pml_ioc_lease *lease = &page.leases[i];
			if (pml_ctl_is_chosen(choice, lease->ino, lease->lease_id, lease->peer))
				err = pml_ctl_append(ret_leases, lease, 1);
		}
		if (err)
			break;
	}
	return err;
}

static void print_heading(void)
{
	printf("%-8s %-8s %-5s %-12s %-12s %10s %9s  %s\n", "LEASE", "INODE", "MODE", "FIRST",
	       "END", "PINNED", "AGE(s)", "STATE");
}

int pml_ctl_leases(const struct pml_ctl_mount *mount, const struct pml_ctl_options *options)
{
	static const struct pml_ctl_kind kind = {
		pml_ctl_get_leases,
		print_heading,
		print_lease,
		pml_ctl_print_json_lease,
	};
	return pml_ctl_show(mount, options, &kind);
}
