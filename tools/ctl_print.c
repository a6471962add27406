/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * ctl_print.c -- pmemleasectl: texts that come from others, times, and JSON
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "ctl.h"
#include "text.h"

void pml_ctl_print_json_text(const char *text)
{
	pml_text_print_json(stdout, text);
}

void pml_ctl_print_text(const char *text)
{
	for (const char *at = text; *at; at++)
		putchar((unsigned char)*at < 0x20 || *at == 0x7f ? '?' : *at);
}

void pml_ctl_print_seconds(int width, uint64_t ms)
{
	printf("%*" PRIu64 ".%u", PML_MAX(width - 2, 0), ms / 1000,
	       (unsigned int)(ms % 1000 / 100));
}

void pml_ctl_print_process(const char *name, int32_t pid)
{
	pml_ctl_print_text(name[0] ? name : "?");
	printf(" (pid %d)", (int)pid);
}

void pml_ctl_print_json_process(const char *name, int32_t pid, const char *op)
{
	printf("{\"name\":");
	pml_ctl_print_json_text(name);
	printf(",\"pid\":%d", (int)pid);
	if (op)
		printf(",\"operation\":\"%s\"", op);
	putchar('}');
}

void pml_ctl_begin_list(struct pml_ctl_list *list, bool is_json)
{
	*list = (struct pml_ctl_list){.is_json = is_json};
	if (is_json)
		putchar('[');
}

void pml_ctl_next_entry(struct pml_ctl_list *list)
{
	if (list->is_json)
		printf("%s%s", list->has_entries ? "," : "", list->is_one_line ? "" : "\n");
	list->has_entries = true;
}

void pml_ctl_end_list(const struct pml_ctl_list *list)
{
	if (list->is_json)
		printf(list->is_one_line ? "]" : "\n]\n");
}
