/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * ctl_waiters.c -- pmemleasectl: operations that wait for leases
 */
#include <inttypes.h>
#include <stdio.h>

#include "ctl.h"
#include "pmemleasefs/ioctl.h"
#include "pml/lease.h"

/* Who waits longest comes first. */
static int compare_ages(const void *a, const void *b)
{
	const struct pml_ioc_waiter *left = a, *right = b;
	return left->age_ms < right->age_ms ? 1 : -(left->age_ms > right->age_ms);
}

int pml_ctl_get_waiters(const struct pml_ctl_mount *mount, const struct pml_ctl_choice *choice,
			struct pml_ctl_array *ret_waiters)
{
	struct pml_ioc_waiters page = {.version = PML_IOC_VERSION};
	int err;
	*ret_waiters = (struct pml_ctl_array){.entry_bytes = sizeof(page.waiters[0])};
	while (!(err = pml_ctl_ask(mount->path, mount->fd, PML_IOC_WAITERS, &page)) &&
	       page.count > 0) {
		for (uint32_t i = 0; !err && i < page.count && i < PML_IOC_WAITERS_MAX; i++) {
			const struct pml_ioc_waiter *waiter = &page.waiters[i];
			if (pml_ctl_is_chosen(choice, waiter->ino, waiter->lease_id, waiter->peer))
				err = pml_ctl_append(ret_waiters, waiter, 1);
		}
		if (err)
			break;
	}
	if (!err && ret_waiters->count > 0)
		qsort(ret_waiters->entries, ret_waiters->count, ret_waiters->entry_bytes,
		      compare_ages);
	return err;
}

static void print_waiter(const void *entry)
{
	const struct pml_ioc_waiter *waiter = entry;
	char end[24] = "infinity";
	if (waiter->end_byte != UINT64_MAX)
		(void)snprintf(end, sizeof(end), "%" PRIu64, waiter->end_byte);
	printf("%-9s %-7s %-8" PRIu64 " %-12" PRIu64 " %-12s ", pml_ctl_op_name(waiter->op),
	       pml_policy_name((enum pml_policy)waiter->policy), waiter->ino, waiter->first_byte,
	       end);
	pml_ctl_print_seconds(9, waiter->age_ms);
	printf("\n         of ");
	pml_ctl_print_process(waiter->name, waiter->pid);
	printf(", uid %u\n", (unsigned int)waiter->uid);
	if (waiter->lease_id == 0) {
		printf("         goes on just now\n");
		return;
	}
	printf("         for lease %" PRIu64 ", held by ", waiter->lease_id);
	pml_ctl_print_text(waiter->peer);
	putchar('\n');
}

void pml_ctl_print_json_waiter(const struct pml_ctl_choice *choice, const void *entry)
{
	const struct pml_ioc_waiter *waiter = entry;
	printf("{\"operation\":\"%s\",\"policy\":\"%s\",", pml_ctl_op_name(waiter->op),
	       pml_policy_name((enum pml_policy)waiter->policy));
	pml_ctl_print_json_inode(choice, waiter->ino);
	printf(",\"first_byte\":%" PRIu64, waiter->first_byte);
	if (waiter->end_byte == UINT64_MAX)
		printf(",\"end_byte\":null");
	else
		printf(",\"end_byte\":%" PRIu64, waiter->end_byte);
	printf(",\"age_ms\":%" PRIu64 ",\"uid\":%u,\"process\":", waiter->age_ms,
	       (unsigned int)waiter->uid);
	pml_ctl_print_json_process(waiter->name, waiter->pid, NULL);
	if (waiter->lease_id == 0) {
		printf(",\"lease\":null,\"holder\":null}");
		return;
	}
	printf(",\"lease\":%" PRIu64 ",\"holder\":", waiter->lease_id);
	pml_ctl_print_json_text(waiter->peer);
	putchar('}');
}

static void print_heading(void)
{
	printf("%-9s %-7s %-8s %-12s %-12s %9s\n", "OPERATION", "POLICY", "INODE", "FIRST", "END",
	       "WAITED(s)");
}

int pml_ctl_waiters(const struct pml_ctl_mount *mount, const struct pml_ctl_options *options)
{
	static const struct pml_ctl_kind kind = {
		pml_ctl_get_waiters,
		print_heading,
		print_waiter,
		pml_ctl_print_json_waiter,
	};
	return pml_ctl_show(mount, options, &kind);
}
