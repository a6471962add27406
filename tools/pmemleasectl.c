/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * pmemleasectl.c -- shows who holds what of a mounted filesystem, and does with ranges of
 * files and with directory trees what no system call offers
 */
#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <string.h>

#include "ctl.h"
#include "names.h"
#include "pmemleasefs/ioctl.h"
#include "size.h"

static const char help[] =
	"Usage: pmemleasectl MOUNT leases|pins|stats|audit [--json]\n"
	"       pmemleasectl COMMAND ARGUMENT... [OPTION]...\n"
	"Show the leases of the pmemleasefs that is mounted at MOUNT, or work on its files.\n"
	"\n"
	"  leases                   every lease: inode, range, holder, state, who waits for it\n"
	"  pins                     every run of device blocks that leases keep in place\n"
	"  stats                    numbers of the filesystem and its leases\n"
	"  audit                    recompute all counters and compare; stops changes meanwhile\n"
	"\n"
	"  clone SRC DST            share the blocks of SRC with DST\n"
	"  dedupe SRC DST...        share them where DST holds the same bytes already\n"
	"  collapse FILE OFF LEN    take a range out of a file\n"
	"  insert FILE OFF LEN      put a hole into a file\n"
	"  unshare FILE [OFF LEN]   give a file blocks of its own\n"
	"  extents FILE             which blocks lie behind a file, and who shares them\n"
	"  snapshot DIR NEWDIR      clone a directory tree at one point in time\n"
	"  lease FILE               take a lease, as a program with devices of its own does\n"
	"\n"
	"      --src-offset=SIZE    clone, dedupe: where to begin in SRC (0)\n"
	"      --dst-offset=SIZE    and in DST (0)\n"
	"      --length=SIZE        how much (to the end of SRC); lease: of FILE\n"
	"      --offset=SIZE        lease: where to begin (0)\n"
	"      --write              lease: for writing\n"
	"      --hold=SECONDS       lease: return it then (when it is recalled)\n"
	"      --ignore-recall      lease: do not return it\n"
	"  -j, --json               print JSON (leases, pins, stats, audit, extents, lease)\n"
	"  -V, --version            print the version and exit\n"
	"  -h, --help               print this help and exit\n"
	"\n"
	"Exit status: 0 done, 1 usage, 2 error or, for audit, a difference was found, 3 dedupe:\n"
	"a file differs, 5 lease: it was revoked.\n";

int pml_ctl_complain(const char *object, int err)
{
	const char *text = strerror(-err);
	if (err == -ENOTTY)
		text = "not a pmemleasefs, or not an object that this is for";
	else if (err == -EPERM)
		text = "only root and the user who mounted it may ask";
	fprintf(stderr, PML_CTL_PROGRAM ": %s: %s\n", object, text);
	return err;
}

int pml_ctl_ask(const char *object, int fd, unsigned long cmd, void *data)
{
	if (ioctl(fd, cmd, data) == 0)
		return 0;
	int err = -errno;
	bool is_range = cmd == PML_IOC_CLONE || cmd == PML_IOC_COLLAPSE || cmd == PML_IOC_INSERT;
	if (err != -EINVAL || !is_range)
		return pml_ctl_complain(object, err);
	fprintf(stderr,
		PML_CTL_PROGRAM ": %s: Invalid argument: offsets and lengths are multiples of "
				"4096, and ranges lie inside the file and do not overlap\n",
		object);
	return err;
}

void pml_ctl_print_json_text(const char *text)
{
	putchar('"');
	for (const char *at = text; *at; at++) {
		unsigned char c = (unsigned char)*at;
		if (c == '"' || c == '\\')
			printf("\\%c", c);
		else if (c < 0x20)
			printf("\\u%04x", c);
		else
			putchar(c);
	}
	putchar('"');
}

void pml_ctl_print_text(const char *text)
{
	for (const char *at = text; *at; at++)
		putchar((unsigned char)*at < 0x20 || *at == 0x7f ? '?' : *at);
}

/* ---- commands ------------------------------------------------------------ */

static const struct mount_command {
	const char *name;
	int (*run)(const char *mount, int fd, bool is_json);
} mount_commands[] = {
	{"leases", pml_ctl_leases},
	{"pins", pml_ctl_pins},
	{"stats", pml_ctl_stats},
	{"audit", pml_ctl_audit},
};

static const struct file_command {
	const char *name;
	int min_args;
	int max_args;
	int (*run)(const struct pml_ctl_options *options, char **args, int nargs);
} file_commands[] = {
	{"clone", 2, 2, pml_ctl_clone},	      {"dedupe", 2, INT32_MAX, pml_ctl_dedupe},
	{"collapse", 3, 3, pml_ctl_collapse}, {"insert", 3, 3, pml_ctl_insert},
	{"unshare", 1, 3, pml_ctl_unshare},   {"extents", 1, 1, pml_ctl_extents},
	{"snapshot", 2, 2, pml_ctl_snapshot}, {"lease", 1, 1, pml_ctl_lease},
};

static int usage(const char *what)
{
	fprintf(stderr, PML_CTL_PROGRAM ": %s; see --help\n", what);
	return PML_CTL_USAGE;
}

static int run_file_command(const struct file_command *command,
			    const struct pml_ctl_options *options, char **args, int nargs)
{
	if (nargs < command->min_args)
		return usage("arguments are missing");
	if (nargs > command->max_args)
		return usage("too many arguments");
	return command->run(options, args, nargs);
}

static int run_mount_command(const struct pml_ctl_options *options, const char *mount,
			     const char *name)
{
	const struct mount_command *command = NULL;
	for (size_t i = 0; i < PML_ARRAY_LEN(mount_commands); i++)
		if (strcmp(name, mount_commands[i].name) == 0)
			command = &mount_commands[i];
	if (!command) {
		fprintf(stderr, PML_CTL_PROGRAM ": unknown command \"%s\"; see --help\n", name);
		return PML_CTL_USAGE;
	}
	pml_auto_close int fd = open(mount, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0) {
		(void)pml_ctl_complain(mount, -errno);
		return PML_CTL_ERROR;
	}
	return command->run(mount, fd, options->is_json) ? PML_CTL_ERROR : PML_CTL_OK;
}

static int run(const struct pml_ctl_options *options, char **args, int nargs)
{
	for (size_t i = 0; nargs > 0 && i < PML_ARRAY_LEN(file_commands); i++)
		if (strcmp(args[0], file_commands[i].name) == 0)
			return run_file_command(&file_commands[i], options, args + 1, nargs - 1);
	if (nargs != 2)
		return usage(nargs > 2 ? "too many arguments" : "MOUNT and COMMAND are needed");
	return run_mount_command(options, args[0], args[1]);
}

/* ---- main ---------------------------------------------------------------- */

enum {
	OPT_SRC_OFFSET = 256,
	OPT_DST_OFFSET,
	OPT_LENGTH,
	OPT_OFFSET,
	OPT_WRITE,
	OPT_HOLD,
	OPT_IGNORE_RECALL,
};

static int parse_size(const char *text, uint64_t *ret_bytes)
{
	if (pml_size_parse(text, ret_bytes) == 0)
		return 0;
	fprintf(stderr, PML_CTL_PROGRAM ": \"%s\" is no size like 4096 or 64K; see --help\n", text);
	return -EINVAL;
}

static int parse_hold(struct pml_ctl_options *options, const char *text)
{
	char *end;
	double s = strtod(text, &end);
	if (end == text || *end || !(s >= 0 && s <= 1000000)) {
		fprintf(stderr, PML_CTL_PROGRAM ": --hold=%s: give seconds from 0 to 1000000\n",
			text);
		return -EINVAL;
	}
	options->has_hold = true;
	options->hold_ms = (uint32_t)(s * 1000);
	return 0;
}

static int parse_option(int c, struct pml_ctl_options *options)
{
	switch (c) {
	case 'j':
		options->is_json = true;
		return 0;
	case 'V':
		puts(PML_CTL_PROGRAM " " PML_VERSION);
		return -ECANCELED;
	case 'h':
		fputs(help, stdout);
		return -ECANCELED;
	case OPT_WRITE:
		options->is_write = true;
		return 0;
	case OPT_IGNORE_RECALL:
		options->ignores_recall = true;
		return 0;
	case OPT_HOLD:
		return parse_hold(options, optarg);
	case OPT_OFFSET:
		return parse_size(optarg, &options->first_byte);
	case OPT_SRC_OFFSET:
	case OPT_DST_OFFSET:
	case OPT_LENGTH:
		options->has_range = true;
		return parse_size(optarg, c == OPT_SRC_OFFSET	? &options->src_byte
					  : c == OPT_DST_OFFSET ? &options->dst_byte
								: &options->len_bytes);
	default:
		return -EINVAL;
	}
}

/* Returns -ECANCELED when there is nothing left to do. */
static int parse_args(int argc, char **argv, struct pml_ctl_options *options)
{
	static const struct option long_options[] = {
		{"json", no_argument, NULL, 'j'},
		{"version", no_argument, NULL, 'V'},
		{"help", no_argument, NULL, 'h'},
		{"src-offset", required_argument, NULL, OPT_SRC_OFFSET},
		{"dst-offset", required_argument, NULL, OPT_DST_OFFSET},
		{"length", required_argument, NULL, OPT_LENGTH},
		{"offset", required_argument, NULL, OPT_OFFSET},
		{"write", no_argument, NULL, OPT_WRITE},
		{"hold", required_argument, NULL, OPT_HOLD},
		{"ignore-recall", no_argument, NULL, OPT_IGNORE_RECALL},
		{NULL, 0, NULL, 0}};
	int c = 0, err = 0;
	while (!err && (c = getopt_long(argc, argv, "jVh", long_options, NULL)) != -1)
		err = parse_option(c, options);
	return err;
}

int main(int argc, char **argv)
{
	static char program[] = PML_CTL_PROGRAM;
	if (argc > 0)
		argv[0] = program; /* for the messages of getopt_long() */
	struct pml_ctl_options options = {0};
	int err = parse_args(argc, argv, &options);
	if (err)
		return err == -ECANCELED ? PML_CTL_OK : PML_CTL_USAGE;
	int status = run(&options, argv + optind, argc - optind);
	return fflush(stdout) != 0 && status == PML_CTL_OK ? PML_CTL_ERROR : status;
}
