/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_power_replay.c -- a power failure at every fence of every operation (I8)
 *
 * usage: test_power_replay [--full] [--seed N] [--script NAME] [--image EVENT:NUMBER]
 *        [--keep DIR]
 * See docs/power-failure.md.
 */
#include "power.h"

#include <string.h>

#include "../tap.h"

#define RANDOM_STEPS 60u

static struct power_options options;

static bool is_wanted(const char *name)
{
	if (!options.script || strcmp(options.script, name) == 0)
		return true;
	tap_skip_reason = "another script was asked for";
	return false;
}

static void run(const char *name)
{
	struct power_result result;
	if (!is_wanted(name))
		return;
	for (size_t i = 0; i < nscripts; i++) {
		if (strcmp(scripts[i].name, name) != 0)
			continue;
		power_run(&scripts[i], NULL, &options, &result);
		CHECK_STR(power_report(name, &result), "");
		return;
	}
	BAIL_OUT("no script %s", name);
}

static void test_I8_names_and_attributes_survive_a_power_failure(void)
{
	run("names");
}

static void test_I8_extended_attributes_survive_a_power_failure(void)
{
	run("xattrs");
}

static void test_I8_file_contents_survive_a_power_failure(void)
{
	run("data");
}

static void test_I8_changed_ranges_and_snapshots_survive_a_power_failure(void)
{
	run("ranges");
}

static void test_I8_leased_ranges_survive_a_power_failure(void)
{
	run("lease");
}

static void test_I8_changes_of_several_transactions_survive_a_power_failure(void)
{
	run("large");
}

static void test_I8_random_operations_survive_a_power_failure(void)
{
	struct power_result result;
	if (!is_wanted("random"))
		return;
	struct script script = script_random(options.seed, RANDOM_STEPS);
	power_run(&script, NULL, &options, &result);
	CHECK_STR(power_report(script.name, &result), "");
}

static void test_I8_an_interrupted_mkfs_leaves_no_filesystem_or_a_whole_one(void)
{
	struct power_result result;
	if (!is_wanted("mkfs"))
		return;
	power_run_format(NULL, &options, &result);
	CHECK_STR(power_report("mkfs", &result), "");
}

int main(int argc, char **argv)
{
	power_options(argc, argv, &options);
	TAP_RUN(test_I8_names_and_attributes_survive_a_power_failure);
	TAP_RUN(test_I8_extended_attributes_survive_a_power_failure);
	TAP_RUN(test_I8_file_contents_survive_a_power_failure);
	TAP_RUN(test_I8_changed_ranges_and_snapshots_survive_a_power_failure);
	TAP_RUN(test_I8_leased_ranges_survive_a_power_failure);
	TAP_RUN(test_I8_changes_of_several_transactions_survive_a_power_failure);
	TAP_RUN(test_I8_random_operations_survive_a_power_failure);
	TAP_RUN(test_I8_an_interrupted_mkfs_leaves_no_filesystem_or_a_whole_one);
	return tap_done();
}
