/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * ctl_history.c -- pmemleasectl: leases that ended against their holder's will
 */
#include <inttypes.h>
#include <stdio.h>

#include "ctl.h"
#include "pmemleasefs/ioctl.h"

int pml_ctl_get_history(const struct pml_ctl_mount *mount, const struct pml_ctl_choice *choice,
			uint64_t after, struct pml_ctl_array *ret_endings, uint64_t *ret_last)
{
	struct pml_ioc_history page = {.version = PML_IOC_VERSION, .after = after};
	int err;
	*ret_endings = (struct pml_ctl_array){.entry_bytes = sizeof(page.endings[0])};
	while (!(err = pml_ctl_ask(mount->path, mount->fd, PML_IOC_HISTORY, &page)) &&
	       page.count > 0) {
		for (uint32_t i = 0; !err && i < page.count && i < PML_IOC_HISTORY_MAX; i++) {
			const struct pml_ioc_ending *ending = &page.endings[i];
			if (pml_ctl_is_chosen(choice, ending->ino, ending->lease_id, ending->peer))
				err = pml_ctl_append(ret_endings, ending, 1);
		}
		if (err)
			break;
	}
	*ret_last = page.after;
	return err;
}

static void print_ending(const void *entry)
{
	const struct pml_ioc_ending *ending = entry;
	printf("%-8" PRIu64 " %-8" PRIu64 " %-5s %-12" PRIu64 " %-12" PRIu64 " %-10s ",
	       ending->lease_id, ending->ino, pml_ctl_mode_name(ending->mode), ending->first_byte,
	       ending->end_byte, pml_ctl_end_name(ending->why));
	pml_ctl_print_seconds(9, ending->recalled_ms);
	putchar(' ');
	pml_ctl_print_seconds(9, ending->ago_ms);
	printf("\n         held by ");
	pml_ctl_print_text(ending->peer);
	printf(" (session %" PRIu64 ") for ", ending->session);
	pml_ctl_print_seconds(0, ending->age_ms);
	printf(" s\n");
	if (ending->was_recalled)
		printf("         recalled for %s\n", pml_ctl_op_name(ending->op));
	if (!ending->has_waiter)
		return;
	printf("         awaited by ");
	pml_ctl_print_process(ending->waiter, ending->waiter_pid);
	putchar('\n');
}

void pml_ctl_print_json_ending(const struct pml_ctl_choice *choice, const void *entry)
{
	const struct pml_ioc_ending *ending = entry;
	printf("{\"number\":%" PRIu64 ",\"lease\":%" PRIu64 ",\"session\":%" PRIu64 ",",
	       ending->number, ending->lease_id, ending->session);
	pml_ctl_print_json_inode(choice, ending->ino);
	printf(",\"first_byte\":%" PRIu64 ",\"end_byte\":%" PRIu64
	       ",\"mode\":\"%s\",\"why\":\"%s\",\"recalled_for\":",
	       ending->first_byte, ending->end_byte, pml_ctl_mode_name(ending->mode),
	       pml_ctl_end_name(ending->why));
	if (ending->was_recalled)
		printf("\"%s\"", pml_ctl_op_name(ending->op));
	else
		printf("null");
	printf(",\"age_ms\":%" PRIu64 ",\"took_ms\":%" PRIu64 ",\"ago_ms\":%" PRIu64 ",\"holder\":",
	       ending->age_ms, ending->recalled_ms, ending->ago_ms);
	pml_ctl_print_json_text(ending->peer);
	printf(",\"waiter\":");
	if (ending->has_waiter)
		pml_ctl_print_json_process(ending->waiter, ending->waiter_pid, NULL);
	else
		printf("null");
	putchar('}');
}

static int get_all(const struct pml_ctl_mount *mount, const struct pml_ctl_choice *choice,
		   struct pml_ctl_array *ret_endings)
{
	uint64_t last = 0;
	return pml_ctl_get_history(mount, choice, 0, ret_endings, &last);
}

static void print_heading(void)
{
	printf("%-8s %-8s %-5s %-12s %-12s %-10s %9s %9s\n", "LEASE", "INODE", "MODE", "FIRST",
	       "END", "WHY", "TOOK(s)", "AGO(s)");
}

int pml_ctl_history(const struct pml_ctl_mount *mount, const struct pml_ctl_options *options)
{
	static const struct pml_ctl_kind kind = {
		get_all,
		print_heading,
		print_ending,
		pml_ctl_print_json_ending,
	};
	return pml_ctl_show(mount, options, &kind);
}
