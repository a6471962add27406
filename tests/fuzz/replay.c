/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * replay.c -- runs a target on each file of a corpus, without libFuzzer
 *
 * usage: replay_NAME FOLDER
 *
 * One TAP line per file.  A crash or a hang ends the program, which is the failure; after
 * RUN_S seconds an alarm ends it.
 */
#include <dirent.h>
#include <stdbool.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fuzz.h"
#include "quiet.h"
#include "tap.h"

#define RUN_S	    60u
#define INPUT_BYTES 8192u

static const char *folder;
static const char *name;

static void run_file(void)
{
	char path[4096];
	static uint8_t input[INPUT_BYTES + 1];
	(void)snprintf(path, sizeof(path), "%s/%s", folder, name);
	FILE *file = fopen(path, "r");
	REQUIRE(file);
	size_t bytes = fread(input, 1, sizeof(input), file);
	(void)fclose(file);
	CHECK(bytes <= INPUT_BYTES);
	(void)alarm(RUN_S);
	fuzz_one(input, bytes);
	(void)alarm(0);
}

static int is_file(const struct dirent *entry)
{
	return entry->d_name[0] != '.';
}

int main(int argc, char **argv)
{
	struct dirent **entries;
	if (argc != 2)
		BAIL_OUT("usage: %s FOLDER", argv[0]);
	folder = argv[1];
	fuzz_start();
	int n = scandir(folder, &entries, is_file, alphasort);
	if (n <= 0)
		BAIL_OUT("%s: no files", folder);
	for (int i = 0; i < n; i++) {
		name = entries[i]->d_name;
		tap_run(name, run_file);
		free(entries[i]);
	}
	free(entries);
	return tap_done();
}
