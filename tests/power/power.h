/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * power.h -- records a script, cuts the power everywhere, and judges what is left
 */
#ifndef TEST_POWER_POWER_H
#define TEST_POWER_POWER_H

#include "image.h"
#include "steps.h"

#define POWER_WORKERS_MAX 16u

struct power_options {
	uint64_t seed;
	struct image_plan plan; /* seed and events are filled in here */
	unsigned int workers;
	unsigned int use_every;	       /* each so many-th image is used and emptied; 0: none */
	unsigned int recover_every;    /* the power fails again during recovery; 0: never */
	size_t only_event;	       /* SIZE_MAX: all */
	uint32_t first_step, end_step; /* events of these steps; equal: all */
	const char *script;	       /* only this one; NULL: all */
	const char *keep;	       /* failing images go to this directory; NULL: nowhere */
};

/* Call it first.  From the command line: [--full] [--seed N] [--script NAME]
 * [--image EVENT:NUMBER] [--keep DIR];
 * $PML_SEED. */
void power_options(int argc, char **argv, struct power_options *ret_options);

struct power_result {
	uint64_t events;
	uint64_t images;
	uint64_t same;	     /* images that were not built again */
	uint64_t recoveries; /* images of interrupted recoveries */
	uint64_t drops;
	bool has_failed;
	char report[2048];
};

/*
 * Runs @script with @drop (NULL: none), and looks at images of all its events.  Returns at
 * the first image that is wrong.
 */
void power_run(const struct script *script, const struct record_drop *drop,
	       const struct power_options *options, struct power_result *ret_result);

/* The same with mkfs instead of a script: each image is refused in clear words, or empty. */
void power_run_format(const struct record_drop *drop, const struct power_options *options,
		      struct power_result *ret_result);

/* Prints the numbers.  Returns what was wrong, or "". */
const char *power_report(const char *what, const struct power_result *result);

#endif
