/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * pmemleasectl.c -- shows who holds what of a mounted filesystem, and does with ranges of
 * files and with directory trees what no system call offers
 */
#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "ctl.h"
#include "pmemleasefs/ioctl.h"
#include "size.h"

static const char help[] =
	"Usage: pmemleasectl MOUNT COMMAND [OPTION]...\n"
	"       pmemleasectl COMMAND ARGUMENT... [OPTION]...\n"
	"Show leases of the pmemleasefs that is mounted at MOUNT, or work on its files.\n"
	"\n"
	"  leases                   every lease: range, holder, state, who waits for it\n"
	"  pins                     every run of device blocks that leases keep in place\n"
	"  sessions                 every client: who, where from, what it holds\n"
	"  waiters                  every operation that waits for leases\n"
	"  history                  the last leases that ended by force, and why\n"
	"  stats                    numbers and times of the filesystem and its leases\n"
	"  watch                    what changes: drawn on a terminal, else line by line\n"
	"  audit                    recompute counters and compare; stops changes so long\n"
	"  evict SESSION            end a client's session, and take all its leases\n"
	"\n"
	"  clone SRC DST            share the blocks of SRC with DST\n"
	"  dedupe SRC DST...        share them where DST holds the same bytes already\n"
	"  collapse FILE OFF LEN    take a range out of a file\n"
	"  insert FILE OFF LEN      put a hole into a file\n"
	"  unshare FILE [OFF LEN]   give a file blocks of its own\n"
	"  extents FILE             which blocks lie behind a file, and who shares them\n"
	"  snapshot DIR NEWDIR      clone a directory tree at one point in time\n"
	"  defrag FILE...           move files to where they lie in fewer extents\n"
	"  defrag --all DIR...      the same with all files below DIR\n"
	"  lease FILE               take a lease, as a program with devices of its own\n"
	"\n"
	"      --file=PATH          lists, watch: of this file\n"
	"      --client=ADDRESS     lists, watch: of holders at addresses like this\n"
	"      --lease=NUMBER       lists, watch: of this lease\n"
	"      --block=NUMBER       the same but history: of this block of the device\n"
	"      --interval=TIME      watch: how often (1s)\n"
	"      --count=N            watch: so often (without end)\n"
	"      --src-offset=SIZE    clone, dedupe: where to begin in SRC (0)\n"
	"      --dst-offset=SIZE    and in DST (0)\n"
	"      --length=SIZE        how much (to the end of SRC); lease: of FILE\n"
	"      --offset=SIZE        lease: where to begin (0)\n"
	"      --write              lease: for writing\n"
	"      --shared             lease: beside others that are shared\n"
	"      --unbreakable        lease: one that cannot be recalled\n"
	"      --hold=SECONDS       lease: return it then (when it is recalled)\n"
	"      --ignore-recall      lease: do not return it\n"
	"  -q, --quiet              defrag: print errors alone\n"
	"  -j, --json               print JSON (all that print something)\n"
	"  -V, --version            print the version and exit\n"
	"  -h, --help               print this help and exit\n"
	"\n"
	"Exit status: 0 done, 1 usage, 2 error or audit found a difference, 3 dedupe: a\n"
	"file differs, 5 lease: it was revoked.\n";

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

int pml_ctl_open(const char *path, struct pml_ctl_mount *ret_mount)
{
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return pml_ctl_complain(path, -errno);
	*ret_mount = (struct pml_ctl_mount){.path = path, .fd = fd};
	return 0;
}

/* ---- commands ------------------------------------------------------------ */

/* What a command about a mount takes besides --json. */
enum {
	TAKES_FILTER = 1 << 0,
	TAKES_BLOCK = 1 << 1,
	TAKES_INTERVAL = 1 << 2, /* and opens the mount itself, again and again */
	TAKES_SESSION = 1 << 3,	 /* an argument */
};

static const struct mount_command {
	const char *name;
	int (*run)(const struct pml_ctl_mount *mount, const struct pml_ctl_options *options);
	unsigned int takes;
} mount_commands[] = {
	{"leases", pml_ctl_leases, TAKES_FILTER | TAKES_BLOCK},
	{"pins", pml_ctl_pins, TAKES_FILTER | TAKES_BLOCK},
	{"sessions", pml_ctl_sessions, TAKES_FILTER | TAKES_BLOCK},
	{"waiters", pml_ctl_waiters, TAKES_FILTER | TAKES_BLOCK},
	{"history", pml_ctl_history, TAKES_FILTER},
	{"stats", pml_ctl_stats, 0},
	{"watch", pml_ctl_watch, TAKES_FILTER | TAKES_BLOCK | TAKES_INTERVAL},
	{"audit", pml_ctl_audit, 0},
	{"evict", pml_ctl_evict, TAKES_SESSION},
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
	{"snapshot", 2, 2, pml_ctl_snapshot}, {"defrag", 1, INT32_MAX, pml_ctl_defrag},
	{"lease", 1, 1, pml_ctl_lease},
};

static int usage(const char *what)
{
	fprintf(stderr, PML_CTL_PROGRAM ": %s; see --help\n", what);
	return PML_CTL_USAGE;
}

/* An option that was given and that a command with @takes does not know, or NULL. */
static const char *find_stray(const struct pml_ctl_options *options, unsigned int takes)
{
	const struct pml_ctl_filter *filter = &options->filter;
	if (!(takes & TAKES_FILTER) && filter->file)
		return "--file";
	if (!(takes & TAKES_FILTER) && filter->client)
		return "--client";
	if (!(takes & TAKES_FILTER) && filter->lease_id)
		return "--lease";
	if (!(takes & TAKES_BLOCK) && filter->has_block)
		return "--block";
	if (!(takes & TAKES_INTERVAL) && options->interval_ms)
		return "--interval";
	return !(takes & TAKES_INTERVAL) && options->count ? "--count" : NULL;
}

static int check_options(const struct pml_ctl_options *options, const char *name,
			 unsigned int takes)
{
	const char *stray = find_stray(options, takes);
	if (!stray)
		return PML_CTL_OK;
	fprintf(stderr, PML_CTL_PROGRAM ": %s takes no %s; see --help\n", name, stray);
	return PML_CTL_USAGE;
}

static int run_file_command(const struct file_command *command,
			    const struct pml_ctl_options *options, char **args, int nargs)
{
	if (nargs < command->min_args)
		return usage("arguments are missing");
	if (nargs > command->max_args)
		return usage("too many arguments");
	int status = check_options(options, command->name, 0);
	return status ? status : command->run(options, args, nargs);
}

static int parse_number(const char *text, uint64_t lowest, uint64_t *ret_number)
{
	if (pml_count_parse(text, UINT64_MAX, ret_number) == 0 && *ret_number >= lowest)
		return 0;
	fprintf(stderr, PML_CTL_PROGRAM ": \"%s\" is no number from %u on; see --help\n", text,
		(unsigned int)lowest);
	return -EINVAL;
}

/* What stands behind the command's name. */
static int take_args(struct pml_ctl_options *options, unsigned int takes, char **args, int nargs)
{
	int want = takes & TAKES_SESSION ? 1 : 0;
	if (nargs != want)
		return usage(nargs > want ? "too many arguments"
					  : "the number of a session is needed");
	if (want && parse_number(args[0], 1, &options->session) != 0)
		return PML_CTL_USAGE;
	return PML_CTL_OK;
}

/* @args: the mount, the command's name, what it takes. */
static int run_mount_command(struct pml_ctl_options *options, char **args, int nargs)
{
	const char *path = args[0], *name = args[1];
	const struct mount_command *command = NULL;
	for (size_t i = 0; i < PML_ARRAY_LEN(mount_commands); i++)
		if (strcmp(name, mount_commands[i].name) == 0)
			command = &mount_commands[i];
	if (!command) {
		fprintf(stderr, PML_CTL_PROGRAM ": unknown command \"%s\"; see --help\n", name);
		return PML_CTL_USAGE;
	}
	int status = take_args(options, command->takes, args + 2, nargs - 2);
	if (!status)
		status = check_options(options, name, command->takes);
	if (status)
		return status;
	struct pml_ctl_mount mount = {.path = path, .fd = -1};
	if (!(command->takes & TAKES_INTERVAL) && pml_ctl_open(path, &mount) != 0)
		return PML_CTL_ERROR;
	int err = command->run(&mount, options);
	if (mount.fd >= 0)
		close(mount.fd);
	return err ? PML_CTL_ERROR : PML_CTL_OK;
}

static int run(struct pml_ctl_options *options, char **args, int nargs)
{
	for (size_t i = 0; nargs > 0 && i < PML_ARRAY_LEN(file_commands); i++)
		if (strcmp(args[0], file_commands[i].name) == 0)
			return run_file_command(&file_commands[i], options, args + 1, nargs - 1);
	if (nargs < 2)
		return usage("MOUNT and COMMAND are needed");
	return run_mount_command(options, args, nargs);
}

/* ---- main ---------------------------------------------------------------- */

enum {
	OPT_SRC_OFFSET = 256,
	OPT_DST_OFFSET,
	OPT_LENGTH,
	OPT_FILE,
	OPT_CLIENT,
	OPT_LEASE,
	OPT_BLOCK,
	OPT_INTERVAL,
	OPT_COUNT,
	OPT_ALL,
	OPT_OFFSET,
	OPT_WRITE,
	OPT_SHARED,
	OPT_UNBREAKABLE,
	OPT_HOLD,
	OPT_IGNORE_RECALL,
};

#define INTERVAL_MIN_MS 100u

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

static int parse_interval(const char *text, uint32_t *ret_ms)
{
	if (pml_time_parse(text, ret_ms) == 0 && *ret_ms >= INTERVAL_MIN_MS)
		return 0;
	fprintf(stderr,
		PML_CTL_PROGRAM ": \"%s\" is no time like 500ms or 2s, of %ums or more; "
				"see --help\n",
		text, INTERVAL_MIN_MS);
	return -EINVAL;
}

/* What is looked at.  -EINVAL: a wrong value, or no such option. */
static int parse_view_option(int c, struct pml_ctl_options *options)
{
	switch (c) {
	case OPT_FILE:
		options->filter.file = optarg;
		return 0;
	case OPT_CLIENT:
		options->filter.client = optarg;
		return 0;
	case OPT_LEASE:
		return parse_number(optarg, 1, &options->filter.lease_id);
	case OPT_BLOCK:
		options->filter.has_block = true;
		return parse_number(optarg, 0, &options->filter.block);
	case OPT_INTERVAL:
		return parse_interval(optarg, &options->interval_ms);
	case OPT_COUNT:
		return parse_number(optarg, 1, &options->count);
	default:
		return -EINVAL;
	}
}

static int parse_option(int c, struct pml_ctl_options *options)
{
	switch (c) {
	case 'j':
		options->is_json = true;
		return 0;
	case 'q':
		options->is_quiet = true;
		return 0;
	case OPT_ALL:
		options->is_all = true;
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
	case OPT_SHARED:
		options->is_shared = true;
		return 0;
	case OPT_UNBREAKABLE:
		options->is_unbreakable = true;
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
		return parse_view_option(c, options);
	}
}

/* Returns -ECANCELED when there is nothing left to do. */
static int parse_args(int argc, char **argv, struct pml_ctl_options *options)
{
	static const struct option long_options[] = {
		{"json", no_argument, NULL, 'j'},
		{"quiet", no_argument, NULL, 'q'},
		{"all", no_argument, NULL, OPT_ALL},
		{"version", no_argument, NULL, 'V'},
		{"help", no_argument, NULL, 'h'},
		{"src-offset", required_argument, NULL, OPT_SRC_OFFSET},
		{"dst-offset", required_argument, NULL, OPT_DST_OFFSET},
		{"length", required_argument, NULL, OPT_LENGTH},
		{"file", required_argument, NULL, OPT_FILE},
		{"client", required_argument, NULL, OPT_CLIENT},
		{"lease", required_argument, NULL, OPT_LEASE},
		{"block", required_argument, NULL, OPT_BLOCK},
		{"interval", required_argument, NULL, OPT_INTERVAL},
		{"count", required_argument, NULL, OPT_COUNT},
		{"offset", required_argument, NULL, OPT_OFFSET},
		{"write", no_argument, NULL, OPT_WRITE},
		{"shared", no_argument, NULL, OPT_SHARED},
		{"unbreakable", no_argument, NULL, OPT_UNBREAKABLE},
		{"hold", required_argument, NULL, OPT_HOLD},
		{"ignore-recall", no_argument, NULL, OPT_IGNORE_RECALL},
		{NULL, 0, NULL, 0}};
	int c = 0, err = 0;
	while (!err && (c = getopt_long(argc, argv, "jqVh", long_options, NULL)) != -1)
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
