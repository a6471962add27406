/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * image.h -- devices as a power failure leaves them, from a recording
 *
 * For each event of a recording: nothing of its lines landed, those in flight, all, single
 * lines, all but one, random subsets, and lines of which only some aligned 8-byte words
 * landed.  An image that equals an earlier one is not built again.
 */
#ifndef TEST_POWER_IMAGE_H
#define TEST_POWER_IMAGE_H

#include "record.h"

struct image_plan {
	uint64_t seed;
	/* Per event at most; drawn at random where there are more lines. */
	unsigned int singles;
	unsigned int without; /* all but one */
	unsigned int random;
	unsigned int torn;
	/* Events to look at: [first_event, end_event). */
	size_t first_event;
	size_t end_event;
	/* One image only, from a report: its event and number; -1: all. */
	long only_image;
};

struct image {
	const char *path; /* the file; whoever changes it does so in a private mapping */
	size_t event;
	long number; /* in the event; which one, with the event and the seed */
	/* Steps that may be the last one seen: all of [1, step] but the last if it is under way. */
	uint32_t step;
	bool is_in_step;
	const char *kind;
};

/* Looks at one image; false ends the run. */
typedef bool (*image_visit)(void *arg, const struct image *image);

/*
 * Builds the images in @path, a file that this makes, and calls @visit for each.
 * Returns how many were built.  *ret_same: how many equalled an earlier one.
 */
uint64_t image_run(const struct record *record, const struct image_plan *plan, const char *path,
		   image_visit visit, void *arg, uint64_t *ret_same);

#endif
