/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * ratio.h -- two pieces of work in turn, many short rounds, and what is printed of it
 *
 * A round does both, beginning with the other one each time, so that a disturbance
 * of the machine meets both or spoils one round.  A ratio is the cost of the work
 * divided by the cost of its peer in the same round; the median counts.
 *
 * For programs of one file: state is static.
 */
#ifndef BENCH_RATIO_H
#define BENCH_RATIO_H

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define RATIO_ROUNDS_MAX 1001u

static bool ratio_is_markdown;
static bool ratio_is_row; /* what, against, median, quartiles, rounds: for bench/remote */

/* "-r ROUNDS", then @noperands from optind on.  0: the command line is wrong. */
static inline unsigned int ratio_rounds_of(int argc, char **argv, unsigned int rounds,
					   int noperands)
{
	int c;
	while ((c = getopt(argc, argv, "r:")) != -1) {
		if (c != 'r')
			return 0;
		rounds = (unsigned int)strtoul(optarg, NULL, 10);
	}
	return rounds > RATIO_ROUNDS_MAX || optind + noperands != argc ? 0 : rounds;
}

static inline double ratio_now_s(void)
{
	struct timespec ts;
	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec * 1e-9;
}

/* Resident memory that is not the device's, in bytes. */
static inline double ratio_own_bytes(void)
{
	FILE *f = fopen("/proc/self/status", "re");
	char line[128];
	unsigned long kib = 0;
	while (f && fgets(line, sizeof(line), f))
		if (sscanf(line, "RssAnon: %lu kB", &kib) == 1)
			break;
	if (f)
		(void)fclose(f);
	return (double)kib * 1024;
}

static inline int ratio_compare(const void *a, const void *b)
{
	const double *x = a, *y = b;
	return (*x > *y) - (*x < *y);
}

/* Prints the median of @n ratios, which it sorts, and the quartiles. */
static inline void ratio_row(const char *what, const char *against, double *ratios, unsigned int n)
{
	qsort(ratios, n, sizeof(ratios[0]), ratio_compare);
	double median = ratios[n / 2], low = ratios[n / 4], high = ratios[n - 1 - n / 4];
	if (ratio_is_row)
		printf("%s\t%s\t%.4f\t%.4f\t%.4f\t%u\n", what, against, median, low, high, n);
	else if (ratio_is_markdown)
		printf("| %s | %.2f (%.2f-%.2f) | %s |\n", what, median, low, high, against);
	else
		printf("# ratio leases, %s: %.2f (%.2f to %.2f) (%s)\n", what, median, low, high,
		       against);
	(void)fflush(stdout);
}

/* Does a piece of work some times; seconds for one time. */
typedef double (*ratio_work)(void *arg);

/* The work and its peer in @nrounds rounds. */
static inline void ratio_compare_works(const char *what, ratio_work work, void *arg,
				       const char *against, ratio_work peer, void *peer_arg,
				       unsigned int nrounds)
{
	double ratios[RATIO_ROUNDS_MAX];
	(void)work(arg); /* not counted: caches, first use of memory */
	(void)peer(peer_arg);
	for (unsigned int r = 0; r < nrounds; r++) {
		double peer_s = r % 2 ? peer(peer_arg) : 0;
		double s = work(arg);
		if (r % 2 == 0)
			peer_s = peer(peer_arg);
		ratios[r] = s / peer_s;
	}
	ratio_row(what, against, ratios, nrounds);
}

/* A number that is no ratio of times, in the same form. */
static inline void ratio_number(const char *what, double number, const char *unit)
{
	ratio_row(what, unit, &number, 1);
}

#endif
