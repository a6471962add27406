/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * pmemleasefs-dump.c -- prints what lies on a device
 */
#include <getopt.h>
#include <stdio.h>
#include <string.h>

#include "pml/fs.h"

#define PROGRAM "pmemleasefs-dump"

static const char help[] =
	"Usage: pmemleasefs-dump [OPTION]... DEVICE [WHAT [NUMBER]]\n"
	"Print structures of the pmemleasefs on DEVICE.  Never writes; DEVICE may be mounted\n"
	"or damaged.\n"
	"\n"
	"  super       the super block (default)\n"
	"  groups      allocation groups\n"
	"  heap        libpmemobj's heap: chunks, numbers of objects, and what is wrong with it\n"
	"  inode N     inode N\n"
	"  tree N      nodes of its trees\n"
	"  extents N   extents of a file\n"
	"  dir N       entries of a directory\n"
	"  xattrs N    extended attributes\n"
	"  block B     what block B belongs to, and which files map it\n"
	"  all         everything but nodes\n"
	"\n"
	"  -j, --json     one JSON object per line\n"
	"  -V, --version  print the version and exit\n"
	"  -h, --help     print this help and exit\n"
	"\n"
	"Exit status: 0 printed, 1 error, 4 something on DEVICE is not as it must be.\n";

enum { EXIT_DAMAGE = 4 };

struct args {
	const char *path;
	const char *what;
	uint64_t number;
	bool is_json;
};

static int fail(const char *text)
{
	fprintf(stderr, PROGRAM ": %s; see --help\n", text);
	return -EINVAL;
}

static int parse_number(const char *text, uint64_t *ret_number)
{
	char *end;
	errno = 0;
	unsigned long long number = strtoull(text, &end, 0);
	if (errno || end == text || *end || text[0] == '-')
		return fail("NUMBER is not a number");
	*ret_number = number;
	return 0;
}

static int parse_operands(int n, char **operand, struct args *ret_args)
{
	if (n < 1 || n > 3)
		return fail(n < 1 ? "no DEVICE given" : "too many operands");
	ret_args->path = operand[0];
	ret_args->what = n > 1 ? operand[1] : "super";
	int has_number = pml_fs_dump_has_number(ret_args->what);
	if (has_number < 0)
		return fail("unknown WHAT");
	if (n != (has_number ? 3 : n > 1 ? 2 : 1))
		return fail(has_number ? "no NUMBER given" : "there is no NUMBER to this");
	return has_number ? parse_number(operand[2], &ret_args->number) : 0;
}

/* Returns -ECANCELED when there is nothing left to do. */
static int parse_args(int argc, char **argv, struct args *ret_args)
{
	static const struct option options[] = {{"json", no_argument, NULL, 'j'},
						{"version", no_argument, NULL, 'V'},
						{"help", no_argument, NULL, 'h'},
						{NULL, 0, NULL, 0}};
	int c = 0;
	while ((c = getopt_long(argc, argv, "jVh", options, NULL)) != -1) {
		switch (c) {
		case 'j':
			ret_args->is_json = true;
			break;
		case 'V':
			puts(PROGRAM " " PML_VERSION);
			return -ECANCELED;
		case 'h':
			fputs(help, stdout);
			return -ECANCELED;
		default:
			return -EINVAL;
		}
	}
	return parse_operands(argc - optind, argv + optind, ret_args);
}

int main(int argc, char **argv)
{
	static char program[] = PROGRAM;
	argv[0] = program; /* for the messages of getopt_long() */
	struct args args = {.path = NULL};
	int err = parse_args(argc, argv, &args);
	if (err)
		return err == -ECANCELED ? 0 : 1;

	char reason[PML_REASON_BYTES] = "";
	err = pml_fs_dump(args.path, args.what, args.number, args.is_json, stdout, reason);
	if (fflush(stdout) != 0) {
		fprintf(stderr, PROGRAM ": writing: %s\n", strerror(errno));
		return 1;
	}
	if (err)
		fprintf(stderr, PROGRAM ": %s\n", reason[0] ? reason : strerror(-err));
	return err == -EUCLEAN ? EXIT_DAMAGE : err ? 1 : 0;
}
