/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_power_rules.c -- each ordering rule, broken: the harness must see it
 *
 * The rules are those of docs/power-failure.md.  One flush or fence is left out in one step
 * of a script, and then images of that step and the next are looked at: one must be wrong.
 * That the same images are right without is what test_power_replay shows.
 */
#include <getopt.h>

#include "power.h"

#include <string.h>

#include "../tap.h"

#define HEAP_OFFSET 0x302000ull /* of libpmemobj: behind header, descriptor and 1024 lanes */
#define BIT(source) (1u << PERSIST_##source)

struct rule {
	const char *name;
	const char *script; /* NULL: mkfs */
	const char *step;
	unsigned int sources;
	bool is_fence;
	bool in_lanes; /* logs of transactions only; META: else the heap only */
	unsigned int skip, max;
};

static const struct rule rules[] = {
	{.name = "new bytes before the map",
	 .script = "data",
	 .step = "fill",
	 .sources = BIT(DATA_COPY)},
	{.name = "bytes behind the end before the size",
	 .script = "data",
	 .step = "append",
	 .sources = BIT(DATA_COPY)},
	{.name = "zeros around new bytes before the map",
	 .script = "data",
	 .step = "gap",
	 .sources = BIT(DATA_ZERO)},
	{.name = "copied bytes before the map",
	 .script = "data",
	 .step = "copy",
	 .sources = BIT(DATA_COPY)},
	{.name = "bytes of a converted block before the map",
	 .script = "data",
	 .step = "convert",
	 .sources = BIT(DATA_COPY)},
	{.name = "zeros of a converted block before the map",
	 .script = "data",
	 .step = "convert",
	 .sources = BIT(DATA_ZERO)},
	{.name = "zeros of the tail before the size",
	 .script = "data",
	 .step = "grow",
	 .sources = BIT(DATA_ZERO)},
	{.name = "copy of the tail before its map",
	 .script = "data",
	 .step = "grow a copy",
	 .sources = BIT(DATA_COPY)},
	{.name = "zeros of the tail before a clone behind it",
	 .script = "data",
	 .step = "clone behind the end",
	 .sources = BIT(DATA_ZERO)},
	{.name = "overwritten bytes before the times",
	 .script = "data",
	 .step = "overwrite",
	 .sources = BIT(DATA_DRAIN),
	 .is_fence = true},
	{.name = "overwritten bytes at return",
	 .script = "data",
	 .step = "overwrite",
	 .sources = BIT(DATA_COPY)},
	{.name = "times at return", .script = "data", .step = "overwrite", .sources = BIT(OBJ)},
	{.name = "bytes in place at return of a mixed write",
	 .script = "data",
	 .step = "mixed",
	 .sources = BIT(DATA_DRAIN),
	 .is_fence = true},
	{.name = "commit before bytes in place",
	 .script = "data",
	 .step = "mixed",
	 .sources = BIT(META),
	 .is_fence = true},
	{.name = "zeros at the edges at return of a punch",
	 .script = "data",
	 .step = "punch",
	 .sources = BIT(DATA_DRAIN),
	 .is_fence = true},
	{.name = "copied edge before the map",
	 .script = "data",
	 .step = "punch a copy",
	 .sources = BIT(DATA_COPY)},
	{.name = "zeros of a copied edge before the map",
	 .script = "data",
	 .step = "punch a copy",
	 .sources = BIT(DATA_ZERO)},
	{.name = "zeros before a grant",
	 .script = "lease",
	 .step = "grant",
	 .sources = BIT(DATA_ZERO)},
	{.name = "zeros behind the end before a grant",
	 .script = "lease",
	 .step = "grant behind the end",
	 .sources = BIT(DATA_ZERO)},
	{.name = "remote bytes at commit",
	 .script = "lease",
	 .step = "commit",
	 .sources = BIT(DATA_PERSIST)},
	{.name = "remote bytes before the size",
	 .script = "lease",
	 .step = "commit behind the end",
	 .sources = BIT(DATA_PERSIST)},
	{.name = "remote bytes at fsync",
	 .script = "lease",
	 .step = "sync",
	 .sources = BIT(DATA_PERSIST)},
	{.name = "remote bytes at the last reference",
	 .script = "lease",
	 .step = "late sync",
	 .sources = BIT(DATA_PERSIST)},
	{.name = "copies before others step aside",
	 .script = "lease",
	 .step = "step aside",
	 .sources = BIT(DATA_COPY)},
	{.name = "log of a step aside before its stores",
	 .script = "lease",
	 .step = "step aside",
	 .sources = BIT(META),
	 .in_lanes = true},
	{.name = "entry of a group before their number",
	 .script = "large",
	 .step = "new group",
	 .sources = BIT(OBJ)},
	{.name = "log of an atomic step before its stores",
	 .script = "large",
	 .step = "new group",
	 .sources = BIT(META),
	 .in_lanes = true},
	{.name = "undo log before stores",
	 .script = "names",
	 .step = "rename",
	 .sources = BIT(META),
	 .in_lanes = true},
	{.name = "stores before the end of the log",
	 .script = "names",
	 .step = "rename",
	 .sources = BIT(META)},
	{.name = "new objects before the end of the log",
	 .script = "names",
	 .step = "create",
	 .sources = BIT(META)},
	{.name = "fences of a commit",
	 .script = "names",
	 .step = "unlink",
	 .sources = BIT(META),
	 .is_fence = true},
	{.name = "log of a punch in steps",
	 .script = "large",
	 .step = "punch in steps",
	 .sources = BIT(META),
	 .in_lanes = true},
	{.name = "new chunk before its offset",
	 .script = "large",
	 .step = "new chunk",
	 .sources = BIT(META)},
	{.name = "new attribute before the end of the log",
	 .script = "xattrs",
	 .step = "new xattr",
	 .sources = BIT(META)},
	{.name = "new value before the old one goes",
	 .script = "xattrs",
	 .step = "replace xattr",
	 .sources = BIT(META)},
	{.name = "zeros at the edges at return of a zeroing",
	 .script = "ranges",
	 .step = "zero",
	 .sources = BIT(DATA_ZERO)},
	{.name = "copies before an unsharing",
	 .script = "ranges",
	 .step = "unshare",
	 .sources = BIT(DATA_COPY)},
	{.name = "new map before the exchange",
	 .script = "ranges",
	 .step = "collapse",
	 .sources = BIT(META)},
	{.name = "copies before a relocation",
	 .script = "ranges",
	 .step = "relocate",
	 .sources = BIT(DATA_COPY)},
	{.name = "snapshot before its name",
	 .script = "ranges",
	 .step = "snapshot",
	 .sources = BIT(META)},
	{.name = "super block before the magic number", .sources = BIT(OBJ), .max = 1},
	{.name = "size of the payload before the magic number",
	 .sources = BIT(OBJ),
	 .skip = 1,
	 .max = 1},
	{.name = "magic number at return", .sources = BIT(OBJ), .skip = 2, .max = 1},
	{.name = "root directory before the magic number", .sources = BIT(META)},
};

static struct power_options options;

static const struct script *find_script(const char *name)
{
	for (size_t i = 0; i < nscripts; i++)
		if (strcmp(scripts[i].name, name) == 0)
			return &scripts[i];
	BAIL_OUT("no script %s", name);
}

/* Number of the step, from 1. */
static uint32_t find_step(const struct script *script, const char *rule_name)
{
	for (uint32_t i = 0; i < script->n; i++)
		if (script->step[i].rule_name && strcmp(script->step[i].rule_name, rule_name) == 0)
			return i + 1;
	BAIL_OUT("no step %s in %s", rule_name, script->name);
}

static void run(const struct rule *rule, struct power_result *ret_result)
{
	struct power_options few = options;
	struct record_drop drop = {
		.first_step = 1,
		.end_step = 2,
		.sources = rule->sources,
		.is_fence = rule->is_fence,
		.end_byte = rule->in_lanes ? HEAP_OFFSET : UINT64_MAX,
		.skip = rule->skip,
		.max = rule->max,
	};
	if (rule->sources == BIT(META) && !rule->in_lanes)
		drop.first_byte = HEAP_OFFSET;
	if (!rule->script) {
		power_run_format(&drop, &few, ret_result);
		return;
	}
	const struct script *script = find_script(rule->script);
	drop.first_step = find_step(script, rule->step);
	drop.end_step = drop.first_step + 1;
	few.first_step = drop.first_step;
	few.end_step = drop.first_step + 2; /* what was acknowledged shows in the next one */
	power_run(script, &drop, &few, ret_result);
}

/* The line of TAP is the rule's. */
static const struct rule *current;

/* Which images are built is chance: a rule that is caught by few of them gets so many tries. */
#define TRIES 6u

static void check_rule(void)
{
	struct power_result result = {.has_failed = false};
	uint64_t seed = options.seed;
	for (unsigned int i = 0; i < TRIES && !result.has_failed; i++) {
		options.seed = seed + i;
		run(current, &result);
		CHECK(result.drops > 0);
	}
	options.seed = seed;
	CHECK(result.has_failed);
	if (result.has_failed)
		printf("# %.*s\n", (int)strcspn(result.report, "\n"), result.report);
}

int main(int argc, char **argv)
{
	power_options(argc, argv, &options);
	options.recover_every = 0;
	const char *only = optind < argc ? argv[optind] : NULL; /* a rule's name */
	for (size_t i = 0; i < PML_ARRAY_LEN(rules); i++) {
		char name[128];
		current = &rules[i];
		if (only && strcmp(current->name, only) != 0)
			continue;
		(void)snprintf(name, sizeof(name), "without \"%s\" something is lost",
			       rules[i].name);
		tap_run(name, check_rule);
	}
	return tap_done();
}
