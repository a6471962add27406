/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * mkfs.pmemleasefs.c -- makes an empty filesystem on a device
 */
#include <getopt.h>
#include <stdio.h>
#include <string.h>

#include "busy.h"
#include "names.h"
#include "pml/fs.h"
#include "size.h"

#define PROGRAM "mkfs.pmemleasefs"

/* For a daemon that has just been unmounted. */
#define DEVICE_WAIT_S 5u

static const char help[] =
	"Usage: mkfs.pmemleasefs [OPTION]... DEVICE\n"
	"Make an empty pmemleasefs on DEVICE: a device-DAX character device, a file on\n"
	"a DAX filesystem, or a plain file that stands in for one.\n"
	"\n"
	"  -s, --size=SIZE    size of a plain file that does not exist yet, at least 64M;\n"
	"                     suffixes K, M, G, T are powers of 1024\n"
	"  -L, --label=TEXT   label, up to 63 bytes\n"
	"  -f, --force        overwrite what DEVICE already holds\n"
	"  -q, --quiet        print nothing on success\n"
	"  -V, --version      print the version and exit\n"
	"  -h, --help         print this help and exit\n"
	"\n"
	"Exit status: 0 made, 1 error (nothing was changed).\n";

struct args {
	struct pml_format_args format;
	bool is_quiet;
};

/* What is left for file data; 0 when it cannot be told. */
static uint64_t payload_bytes(const char *path)
{
	const struct pml_open_args args = {.path = path};
	struct pml_fs *fs = NULL;
	char reason[PML_REASON_BYTES];
	if (pml_fs_open(&args, &fs, reason) != 0)
		return 0;
	struct pml_fs_counts counts;
	pml_fs_counts(fs, &counts);
	pml_fs_close(fs);
	return counts.total_blocks * PML_BLOCK_BYTES;
}

static void print_summary(const char *path, const struct pml_device_info *info)
{
	char uuid[PML_UUID_TEXT_BYTES];
	char size[PML_SIZE_TEXT_BYTES];
	pml_uuid_format(info->uuid, uuid);
	pml_size_format(info->size_bytes, size);
	printf("device:     %s (%s)\n", path, info->kind);
	printf("uuid:       %s\n", uuid);
	printf("label:      %s\n", info->label[0] ? info->label : "none");
	printf("size:       %s (%llu bytes)\n", size, (unsigned long long)info->size_bytes);
	uint64_t payload = payload_bytes(path);
	pml_size_format(payload, size);
	if (payload > 0)
		printf("payload:    %s (%llu bytes)\n", size, (unsigned long long)payload);
	printf("format:     version %u\n", (unsigned int)info->format_version);
	printf("durability: %s\n", info->durability);
}

static int parse_size(const char *text, uint64_t *ret_bytes)
{
	int err = pml_size_parse(text, ret_bytes);
	if (err)
		fprintf(stderr, PROGRAM ": \"%s\" is not a size: %s\n", text,
			err == -ERANGE ? "too large" : "use a number with K, M, G or T");
	return err;
}

/* Returns -ECANCELED when there is nothing left to do. */
static int parse_args(int argc, char **argv, struct args *ret_args)
{
	static const struct option options[] = {{"size", required_argument, NULL, 's'},
						{"label", required_argument, NULL, 'L'},
						{"force", no_argument, NULL, 'f'},
						{"quiet", no_argument, NULL, 'q'},
						{"version", no_argument, NULL, 'V'},
						{"help", no_argument, NULL, 'h'},
						{NULL, 0, NULL, 0}};
	int c = 0;
	while ((c = getopt_long(argc, argv, "s:L:fqVh", options, NULL)) != -1) {
		int err = 0;
		switch (c) {
		case 's':
			err = parse_size(optarg, &ret_args->format.size_bytes);
			break;
		case 'L':
			ret_args->format.label = optarg;
			break;
		case 'f':
			ret_args->format.force = true;
			break;
		case 'q':
			ret_args->is_quiet = true;
			break;
		case 'V':
			puts(PROGRAM " " PML_VERSION);
			return -ECANCELED;
		case 'h':
			fputs(help, stdout);
			return -ECANCELED;
		default:
			err = -EINVAL;
		}
		if (err)
			return err;
	}
	if (optind + 1 != argc) {
		fprintf(stderr, PROGRAM ": %s; see --help\n",
			optind == argc ? "no DEVICE given" : "more than one DEVICE given");
		return -EINVAL;
	}
	ret_args->format.path = argv[optind];
	return 0;
}

int main(int argc, char **argv)
{
	static char program[] = PROGRAM;
	argv[0] = program; /* for the messages of getopt_long() */
	struct args args = {.format = {.path = NULL}};
	int err = parse_args(argc, argv, &args);
	if (err)
		return err == -ECANCELED ? 0 : 1;

	struct pml_device_info info;
	char reason[PML_REASON_BYTES] = "";
	unsigned int waited_ms = 0;
	do
		err = pml_fs_format(&args.format, &info, reason);
	while (err == -EBUSY && pml_busy_wait(args.format.path, DEVICE_WAIT_S, &waited_ms));
	if (err) {
		fprintf(stderr, PROGRAM ": %s\n", reason[0] ? reason : strerror(-err));
		return 1;
	}
	if (!args.is_quiet)
		print_summary(args.format.path, &info);
	return fflush(stdout) == 0 ? 0 : 1;
}
