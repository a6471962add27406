/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * random.c -- runs a target on random inputs for some seconds, without libFuzzer
 *
 * usage: random_NAME [SECONDS]
 *
 * One TAP line.  A crash ends the program, which is the failure.  PML_SEED=N repeats the
 * inputs; threads make their own order.
 */
#include <stdbool.h>
#include <time.h>
#include <unistd.h>

#include "fuzz.h"
#include "pml/clock.h"
#include "quiet.h"
#include "tap.h"

#define INPUT_BYTES 1024u
#define SECONDS	    3u
#define HANG_S	    60u /* one input takes a moment */

static unsigned int seconds = SECONDS;
static uint64_t state;

/* splitmix64: any seed will do. */
static uint64_t random_u64(void)
{
	uint64_t z = state += 0x9e3779b97f4a7c15u;
	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
	z = (z ^ z >> 27) * 0x94d049bb133111ebu;
	return z ^ z >> 31;
}

static void test_random_inputs_do_no_harm(void)
{
	const char *seed = getenv("PML_SEED");
	state = seed ? strtoull(seed, NULL, 0) : (uint64_t)time(NULL);
	printf("# PML_SEED=%llu\n", (unsigned long long)state);
	(void)fflush(stdout);
	uint64_t end_ms = pml_now_ms() + seconds * 1000u;
	unsigned int inputs = 0;
	for (; pml_now_ms() < end_ms; inputs++) {
		uint8_t input[INPUT_BYTES];
		size_t bytes = 64 + random_u64() % (sizeof(input) - 63);
		for (size_t i = 0; i < bytes; i++)
			input[i] = (uint8_t)random_u64();
		(void)alarm(HANG_S);
		fuzz_one(input, bytes);
	}
	(void)alarm(0);
	printf("# %u inputs\n", inputs);
	CHECK(inputs > 0);
}

int main(int argc, char **argv)
{
	if (argc > 1)
		seconds = (unsigned int)atoi(argv[1]);
	fuzz_start();
	TAP_RUN(test_random_inputs_do_no_harm);
	return tap_done();
}
