/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * durable.c -- chooses by which rule remote writes become durable
 *
 * Threads: any; no state.
 */
#include "pml/durable.h"

#include <stdio.h>
#include <string.h>

static const char *const choice_names[] = {
	[PML_DURABLE_AUTO] = "auto",
	[PML_DURABLE_ONLY_COMMIT] = "commit",
	[PML_DURABLE_ASSERT_READ] = "read",
	[PML_DURABLE_NEED_FLUSH] = "flush",
};

const char *pml_durable_choice_name(enum pml_durable_choice choice)
{
	return choice_names[choice];
}

int pml_durable_choice_parse(const char *text, enum pml_durable_choice *ret_choice)
{
	for (unsigned int i = 0; i < PML_ARRAY_LEN(choice_names); i++) {
		if (strcmp(text, choice_names[i]) == 0) {
			*ret_choice = (enum pml_durable_choice)i;
			return 0;
		}
	}
	return -EINVAL;
}

static int refuse(char *ret_text, const char *text)
{
	(void)snprintf(ret_text, PML_REASON_BYTES, "%s", text);
	return -EOPNOTSUPP;
}

int pml_durable_decide(enum pml_durable_choice choice, bool can_flush, bool can_persist,
		       enum pml_durable_rule *ret_rule, char *ret_text)
{
	static const char *const texts[] = {
		[PML_DURABLE_BY_COMMIT] = "the server flushes it at a commit",
		[PML_DURABLE_BY_READ] = "the client reads behind it (remote_durability=read)",
		[PML_DURABLE_BY_FLUSH] = "the client has the device flush it (FLUSH)",
	};
	enum pml_durable_rule rule = PML_DURABLE_BY_COMMIT;
	if (choice == PML_DURABLE_NEED_FLUSH && !can_flush)
		return refuse(ret_text,
			      "remote_durability=flush: this RDMA device or driver, or rdma-core, "
			      "has no FLUSH for this memory; use remote_durability=commit");
	if (choice == PML_DURABLE_ASSERT_READ && !can_persist)
		return refuse(ret_text,
			      "remote_durability=read: this memory is not made durable by flushing "
			      "caches but by msync(2), which needs the server; use "
			      "remote_durability=commit, or device-DAX");
	if (choice == PML_DURABLE_ASSERT_READ)
		rule = PML_DURABLE_BY_READ;
	else if (choice != PML_DURABLE_ONLY_COMMIT && can_flush)
		rule = PML_DURABLE_BY_FLUSH;
	(void)snprintf(ret_text, PML_REASON_BYTES, "what is written becomes durable when %s",
		       texts[rule]);
	*ret_rule = rule;
	return 0;
}
