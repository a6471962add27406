/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * mount.pmemleasefs.c -- mounts a device; the process that then serves it
 *
 * Called by a person, by mount(8) as a helper, or by mount.fuse(8) under the
 * name pmemleasefs.
 */
#include <fcntl.h>
#include <getopt.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "daemon.h"
#include "options.h"
#include "pml/log.h"
#include "remotefs.h"
#include "remount.h"
#include "service.h"
#include "survivor.h"

#define PROGRAM "mount.pmemleasefs"

/* mount(8), "EXIT STATUS". */
enum { EXIT_OK = 0, EXIT_USAGE = 1, EXIT_SYSTEM = 2, EXIT_MOUNT = 32 };

static const char help[] =
	"Usage: mount.pmemleasefs DEVICE|URL DIR [-o OPTION[,OPTION]...] [-f] [-v]\n"
	"Mount the pmemleasefs on DEVICE at DIR and serve it in the background; or\n"
	"another machine's, by URL: rdma://[IDENTITY@]HOST:PORT[/PATH] or soft://...\n"
	"\n"
	"  -o OPTION,...      see below; may be repeated\n"
	"  -f, --foreground   stay in the foreground; log to standard error too\n"
	"  -v, --verbose      say what was mounted\n"
	"  -n, -s, -t TYPE    ignored; mount(8) passes them\n"
	"  -V, --version      print the version and exit\n"
	"  -h, --help         print this help and exit\n"
	"\n"
	"Options, besides those of every filesystem (ro, nosuid, noexec, ...):\n"
	"  soft=ADDR:PORT     offer leases over TCP (software fabric); port 0: any\n"
	"  rdma=ADDR:PORT     offer leases over RDMA; both up to 8 times\n"
	"  secrets=FILE       let in who proves an identity that is in it\n"
	"  exports=FILE       which trees are offered to whom (default: all to all)\n"
	"  allow_unauthenticated\n"
	"                     let clients of other hosts in who prove nothing\n"
	"  client_uid=N, client_gid=N\n"
	"                     whom clients act as that prove nothing or are squashed\n"
	"                     (default 65534)\n"
	"  max_connections=N, max_host_connections=N\n"
	"                     of all and of one host (default 256 and 3/4 of all)\n"
	"  local_leases       give leases to local programs: whoever may open a file\n"
	"                     learns where it lies on the device\n"
	"  policy=P           what a local operation, or a request of another lease,\n"
	"                     does that meets a lease: revoke, ebusy or block\n"
	"  policy.OP=P        the same for OP: truncate, punch, unshare, clone-src,\n"
	"                     clone-dst, zero, collapse, insert, snapshot, dedupe,\n"
	"                     relocate (these two: also skip); and policy.lease for\n"
	"                     requests of leases\n"
	"  ack=T, drain=T     after a recall: to a first answer, to the return\n"
	"  block_deadline=T   policy block gives up with EBUSY after it; 0: never\n"
	"  term=T             silence after which a client is dead\n"
	"  fence=T            a fence that took longer makes the next one harder\n"
	"  fence_method=M     how remote access is ended: window, region, connection;\n"
	"                     default auto: by what pmemlease fencetest has found\n"
	"  fence_verdicts=FILE\n"
	"                     where that stands\n"
	"  remote_durability=R\n"
	"                     how remote writes become durable: commit, flush, read;\n"
	"                     default auto: by FLUSH where the RDMA device has it\n"
	"  orphan_grace=T     a file without names keeps its leases so long; 0: for ever\n"
	"  ebusy_recall       policy ebusy asks the holder too, so that a retry may do\n"
	"  max_sessions, max_leases, max_segments, max_waiters=N, max_pinned=SIZE\n"
	"                     limits of all; of one client: max_client_sessions,\n"
	"                     max_session_leases, _segments, _pinned; of one user:\n"
	"                     max_user_sessions, _leases, _segments, _waiters, _pinned\n"
	"  max_unbreakable=SIZE\n"
	"                     how much unbreakable leases may pin; default 0: none\n"
	"  remount            change policies, times, limits, secrets and exports of what\n"
	"                     is mounted at DIR\n"
	"  allow_other        let other users in (always on when root mounts)\n"
	"  poison             for tests: fill freed blocks with a pattern\n"
	"Options of a URL: attr_timeout=S, entry_timeout=S, timeout=S, secrets=FILE,\n"
	"ro, and those of every filesystem.\n"
	"Times T are in ms, or have a suffix: 1500, 1500ms, 10s.  Sizes: 64M, 1G.\n"
	"\n"
	"Exit status: 0 mounted, 1 usage or permission, 2 system error, 32 not mounted.\n";

struct args {
	const char *device;
	const char *mountpoint;
	struct pml_mount_options options;
	char list[4096]; /* all of -o, for a remount */
	bool is_foreground;
	bool is_verbose;
};

/* ---- arguments ---------------------------------------------------------- */

static int take_positional(int argc, char **argv, struct args *ret_args)
{
	if (optind + 2 != argc) {
		fprintf(stderr, PROGRAM ": %s; see --help\n",
			argc - optind > 2 ? "too many arguments" : "DEVICE and DIR are needed");
		return -EINVAL;
	}
	ret_args->device = argv[optind];
	ret_args->mountpoint = argv[optind + 1];
	return 0;
}

static int add_options(struct args *args, const char *list)
{
	size_t used = strlen(args->list);
	if (used + strlen(list) + 2 > sizeof(args->list)) {
		fprintf(stderr, PROGRAM ": the options are longer than %zu bytes\n",
			sizeof(args->list));
		return -EINVAL;
	}
	(void)snprintf(args->list + used, sizeof(args->list) - used, "%s%s", used ? "," : "", list);
	return 0;
}

/* A URL has options of its own, which libfuse parses. */
static int parse_options(struct args *args)
{
	char reason[PML_REASON_BYTES] = "";
	if (pml_remotefs_is_url(args->device))
		return 0;
	int err = pml_options_parse(&args->options, args->list, reason);
	if (err)
		fprintf(stderr, PROGRAM ": %s\n", reason);
	return err;
}

/* Returns -ECANCELED when there is nothing left to do. */
static int parse_args(int argc, char **argv, struct args *ret_args)
{
	static const struct option options[] = {
		{"options", required_argument, NULL, 'o'}, {"foreground", no_argument, NULL, 'f'},
		{"verbose", no_argument, NULL, 'v'},	   {"version", no_argument, NULL, 'V'},
		{"help", no_argument, NULL, 'h'},	   {NULL, 0, NULL, 0}};
	int c = 0;
	while ((c = getopt_long(argc, argv, "o:fvnst:Vh", options, NULL)) != -1) {
		switch (c) {
		case 'o':
			if (add_options(ret_args, optarg) != 0)
				return -EINVAL;
			break;
		case 'f':
			ret_args->is_foreground = true;
			break;
		case 'v':
			ret_args->is_verbose = true;
			break;
		case 'n':
		case 's':
		case 't':
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
	int err = take_positional(argc, argv, ret_args);
	return err ? err : parse_options(ret_args);
}

/* ---- what can be checked beforehand ------------------------------------- */

static int complain(const char *object, int err, const char *remedy)
{
	fprintf(stderr, PROGRAM ": %s: %s%s\n", object, strerror(-err), remedy);
	return err;
}

static int check_fuse(void)
{
	int fd = open("/dev/fuse", O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return complain("/dev/fuse", -errno,
				errno == ENOENT || errno == ENODEV ? "; try: modprobe fuse" : "");
	(void)close(fd);
	return 0;
}

static int check_mountpoint(const char *path)
{
	struct stat st;
	if (stat(path, &st) != 0)
		return complain(path, -errno,
				errno == ENOTCONN ? " (a dead mount: unmount it first)" : "");
	return S_ISDIR(st.st_mode) ? 0 : complain(path, -ENOTDIR, "");
}

/* Makes both paths absolute: the daemon leaves the directory. */
static int resolve(struct args *args, char *device, char *mountpoint)
{
	int err = check_mountpoint(args->mountpoint);
	if (err)
		return err;
	if (!realpath(args->mountpoint, mountpoint))
		return complain(args->mountpoint, -errno, "");
	args->mountpoint = mountpoint;
	if (pml_remotefs_is_url(args->device))
		return check_fuse();
	if (realpath(args->device, device))
		args->device = device;
	/* What /proc/PID/fd/N stands for may have no name of its own, as a memfd has none. */
	else if (args->device[0] != '/' || access(args->device, R_OK))
		return complain(args->device, -errno, "");
	return check_fuse();
}

/* ---- the process that serves -------------------------------------------- */

/* As far as allowed: what needs more says so itself. */
static void raise_limit(int resource, rlim_t wanted)
{
	struct rlimit limit;
	if (getrlimit(resource, &limit) != 0)
		return;
	struct rlimit higher = {.rlim_cur = wanted, .rlim_max = PML_MAX(limit.rlim_max, wanted)};
	if (setrlimit(resource, &higher) == 0)
		return;
	limit.rlim_cur = PML_MIN(limit.rlim_max, wanted);
	(void)setrlimit(resource, &limit);
}

static void block_signals(void)
{
	sigset_t signals;
	sigemptyset(&signals);
	sigaddset(&signals, SIGTERM);
	sigaddset(&signals, SIGINT);
	sigaddset(&signals, SIGHUP);
	(void)sigprocmask(SIG_BLOCK, &signals, NULL);
	(void)signal(SIGPIPE, SIG_IGN);
}

static int exit_status(int err)
{
	if (err == -EPERM || err == -EACCES)
		return EXIT_USAGE;
	return err == -ENOMEM || err == -EMFILE ? EXIT_SYSTEM : EXIT_MOUNT;
}

/* Tells whoever waits that it is mounted. */
static int report_ready(const struct args *args, int ready_fd)
{
	if (args->is_verbose)
		printf(PROGRAM ": mounted %s on %s\n", args->device, args->mountpoint);
	return ready_fd < 0 ? fflush(stdout) : pml_daemon_ready(ready_fd);
}

/* Serves another machine's filesystem.  Returns an exit status. */
static int serve_remote(const struct args *args, int ready_fd)
{
	pml_log_open("pmemleasefs", args->is_foreground);
	block_signals();
	if (geteuid() == 0)
		raise_limit(RLIMIT_MEMLOCK, RLIM_INFINITY);
	const struct pml_remotefs_args remote_args = {
		.url = args->device, .mountpoint = args->mountpoint, .options = args->list};
	struct pml_remotefs *fs = NULL;
	char reason[PML_REASON_BYTES] = "";
	int err = pml_remotefs_start(&remote_args, &fs, reason);
	if (err) {
		fprintf(stderr, PROGRAM ": %s\n", reason[0] ? reason : strerror(-err));
		return err == -EINVAL ? EXIT_USAGE : exit_status(err);
	}
	err = report_ready(args, ready_fd);
	if (!err)
		err = pml_remotefs_run(fs);
	if (err)
		pml_log_error("serving %s: %s", args->mountpoint, strerror(-err));
	pml_remotefs_stop(fs);
	return err ? EXIT_SYSTEM : EXIT_OK;
}

/* @ready_fd: -1 in the foreground. */
static int serve(const struct args *args, int ready_fd)
{
	pml_log_open("pmemleasefs", args->is_foreground);
	block_signals();
	if (geteuid() == 0)
		raise_limit(RLIMIT_MEMLOCK, RLIM_INFINITY);
	raise_limit(RLIMIT_NOFILE, 65536);
	struct pml_survivor survivor;
	int err = pml_survivor_start(args->mountpoint, &survivor);
	if (err) {
		(void)complain("fork", err, "");
		return EXIT_SYSTEM;
	}

	const struct pml_service_args service_args = {
		.device = args->device,
		.mountpoint = args->mountpoint,
		.options = &args->options,
	};
	struct pml_service *service = NULL;
	char reason[PML_REASON_BYTES] = "";
	err = pml_service_start(&service_args, &service, reason);
	if (err) {
		pml_survivor_end(&survivor);
		fprintf(stderr, PROGRAM ": %s\n", reason[0] ? reason : strerror(-err));
		return exit_status(err);
	}
	pml_survivor_arm(&survivor, args->mountpoint);
	err = report_ready(args, ready_fd);
	if (!err)
		err = pml_service_run(service);
	if (err)
		pml_log_error("serving %s: %s", args->mountpoint, strerror(-err));
	if (pml_service_stop(service) != 0) {
		pml_log_error("%s: a lease could not be fenced; ending the process ends its "
			      "connection, but no local program that holds one",
			      args->device);
		_exit(EXIT_SYSTEM);
	}
	pml_survivor_end(&survivor);
	return err ? EXIT_SYSTEM : EXIT_OK;
}

/* Returns an exit status. */
static int remount(const struct args *args)
{
	char reason[PML_REASON_BYTES] = "";
	int err = pml_remount_ask(args->mountpoint, args->list, reason);
	if (err)
		fprintf(stderr, PROGRAM ": %s\n", reason);
	else if (args->is_verbose)
		printf(PROGRAM ": changed options of %s\n", args->mountpoint);
	if (err == -EPERM || err == -EINVAL)
		return EXIT_USAGE;
	return err ? EXIT_MOUNT : EXIT_OK;
}

int main(int argc, char **argv)
{
	static char program[] = PROGRAM;
	if (argc > 0)
		argv[0] = program; /* for the messages of getopt_long() */
	static struct args args;
	pml_options_init(&args.options);
	int err = parse_args(argc, argv, &args);
	if (err)
		return err == -ECANCELED ? EXIT_OK : EXIT_USAGE;

	if (args.options.is_remount)
		return remount(&args);

	static char device[PATH_MAX];
	static char mountpoint[PATH_MAX];
	err = resolve(&args, device, mountpoint);
	if (err)
		return exit_status(err);
	int ready_fd = -1;
	if (!args.is_foreground) {
		err = pml_daemon_fork(EXIT_MOUNT, &ready_fd);
		if (err) {
			(void)complain("fork", err, "");
			return EXIT_SYSTEM;
		}
	}
	return pml_remotefs_is_url(args.device) ? serve_remote(&args, ready_fd)
						: serve(&args, ready_fd);
}
