/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fsck.pmemleasefs.c -- checks and repairs a filesystem that is not mounted
 *
 * Exit statuses and options are those that fsck(8) expects.
 */
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "busy.h"
#include "names.h"
#include "pml/fs.h"
#include "pml/log.h"
#include "size.h"

#define PROGRAM "fsck.pmemleasefs"

/* For a daemon that has just been unmounted. */
#define DEVICE_WAIT_S 5u

/* fsck(8): bits of the exit status. */
enum {
	FSCK_CORRECTED = 1,
	FSCK_UNCORRECTED = 4,
	FSCK_ERROR = 8,
	FSCK_USAGE = 16,
	FSCK_CANCELLED = 32,
};

static const char help[] =
	"Usage: fsck.pmemleasefs [OPTION]... DEVICE\n"
	"Check the pmemleasefs on DEVICE, which must not be mounted, and repair it.\n"
	"\n"
	"  -n             repair nothing; the device stays as it is\n"
	"  -p, -a         repair what can be repaired without choice or loss\n"
	"  -y             repair all that can be repaired without guessing\n"
	"  -f             check even if it seems clean (always done)\n"
	"  -v             print what was found on the device\n"
	"  -V, --version  print the version and exit\n"
	"  -h, --help     print this help and exit\n"
	"\n"
	"Without -n, -p and -y each repair is asked for, if standard input is a terminal;\n"
	"else nothing is repaired.\n"
	"\n"
	"Exit status: 0 no errors, 1 errors corrected, 4 errors left, 8 the check could not\n"
	"be done, 16 usage, 32 cancelled; a sum of these.\n";

struct args {
	const char *path;
	enum pml_check_mode mode;
	bool is_verbose;
};

static volatile sig_atomic_t is_cancelled;

static void on_signal(int signal)
{
	(void)signal;
	is_cancelled = 1;
}

static bool was_cancelled(void *arg)
{
	(void)arg;
	return is_cancelled;
}

/* ---- findings ---------------------------------------------------------------- */

static void print_finding(void *arg, const struct pml_check_finding *finding)
{
	const struct args *args = arg;
	const char *verdict = "";
	switch (finding->outcome) {
	case PML_CHECK_NOTE:
		break;
	case PML_CHECK_LEFT:
		verdict = ": not repaired";
		break;
	case PML_CHECK_REPAIRED:
		verdict = ": ";
		break;
	case PML_CHECK_FAILED:
		verdict = ": repair failed: ";
		break;
	}
	bool has_action =
		finding->outcome == PML_CHECK_REPAIRED || finding->outcome == PML_CHECK_FAILED;
	printf("%s: %s%s%s\n", args->path, finding->text, verdict,
	       has_action ? finding->action : "");
}

static bool ask(void *arg, const char *text, const char *action)
{
	const struct args *args = arg;
	char answer[16];
	printf("%s: %s\n  repair (%s)? [y/N] ", args->path, text, action);
	(void)fflush(stdout);
	if (!fgets(answer, sizeof(answer), stdin)) {
		is_cancelled = 1;
		return false;
	}
	return answer[0] == 'y' || answer[0] == 'Y';
}

/* ---- the last line ------------------------------------------------------------- */

static void print_details(const struct pml_check_result *r)
{
	char uuid[PML_UUID_TEXT_BYTES];
	char size[PML_SIZE_TEXT_BYTES];
	pml_uuid_format(r->info.uuid, uuid);
	pml_size_format(r->info.size_bytes, size);
	printf("uuid:        %s\n", uuid);
	printf("label:       %s\n", r->info.label[0] ? r->info.label : "none");
	printf("size:        %s (%s)\n", size, r->info.kind);
	printf("directories: %llu\n", (unsigned long long)r->directories);
	printf("files:       %llu\n", (unsigned long long)r->files);
	printf("blocks:      %llu in use, mapped %llu times\n", (unsigned long long)r->blocks,
	       (unsigned long long)r->shares);
	printf("objects:     %llu\n", (unsigned long long)r->objects);
}

static void print_summary(const struct args *args, const struct pml_check_result *r)
{
	if (args->is_verbose)
		print_details(r);
	const char *when = args->mode == PML_CHECK_NOTHING ? "the next mount frees" : "freed";
	if (r->norphans)
		printf("%s: %s %llu deleted files that were open\n", args->path, when,
		       (unsigned long long)r->norphans);
	when = args->mode == PML_CHECK_NOTHING ? "the next mount finishes" : "finished";
	if (r->npunches)
		printf("%s: %s %llu truncations and punches\n", args->path, when,
		       (unsigned long long)r->npunches);
	if (r->nrepaired || r->nleft)
		printf("%s: errors: %llu corrected, %llu left; ", args->path,
		       (unsigned long long)r->nrepaired, (unsigned long long)r->nleft);
	else
		printf("%s: clean; ", args->path);
	printf("%llu files, %llu directories, %llu blocks in use\n", (unsigned long long)r->files,
	       (unsigned long long)r->directories, (unsigned long long)r->blocks);
}

/* ---- command line -------------------------------------------------------------- */

/* Returns -ECANCELED when there is nothing left to do. */
static int parse_args(int argc, char **argv, struct args *ret_args)
{
	static const struct option options[] = {{"version", no_argument, NULL, 'V'},
						{"help", no_argument, NULL, 'h'},
						{NULL, 0, NULL, 0}};
	int c = 0;
	char chosen = 0;
	while ((c = getopt_long(argc, argv, "npayfvVh", options, NULL)) != -1) {
		switch (c) {
		case 'a':
			c = 'p';
			/* fall through */
		case 'n':
		case 'p':
		case 'y':
			if (chosen && chosen != c) {
				fprintf(stderr, PROGRAM ": -%c and -%c contradict each other\n",
					chosen, c);
				return -EINVAL;
			}
			chosen = (char)c;
			break;
		case 'f':
			break;
		case 'v':
			ret_args->is_verbose = true;
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
	if (optind + 1 != argc) {
		fprintf(stderr, PROGRAM ": %s; see --help\n",
			optind == argc ? "no DEVICE given" : "more than one DEVICE given");
		return -EINVAL;
	}
	ret_args->path = argv[optind];
	ret_args->mode = chosen == 'p'	 ? PML_CHECK_SAFE
			 : chosen == 'y' ? PML_CHECK_ALL
			 : !chosen && isatty(STDIN_FILENO) && isatty(STDOUT_FILENO)
				 ? PML_CHECK_ASK
				 : PML_CHECK_NOTHING;
	return 0;
}

static int status_of(int err, const struct pml_check_result *r)
{
	int status = 0;
	if (r->nrepaired)
		status |= FSCK_CORRECTED;
	if (r->nleft)
		status |= FSCK_UNCORRECTED;
	if (err == -ECANCELED)
		status |= FSCK_CANCELLED;
	else if (err)
		status |= FSCK_ERROR;
	return status;
}

int main(int argc, char **argv)
{
	static char program[] = PROGRAM;
	argv[0] = program; /* for the messages of getopt_long() */
	struct args args = {.path = NULL};
	int err = parse_args(argc, argv, &args);
	if (err)
		return err == -ECANCELED ? 0 : FSCK_USAGE;

	/* Not restarted: a question that is waited for ends too. */
	const struct sigaction action = {.sa_handler = on_signal};
	(void)sigaction(SIGINT, &action, NULL);
	(void)sigaction(SIGTERM, &action, NULL);
	pml_log_open(PROGRAM, false);

	const struct pml_check_options options = {
		.mode = args.mode,
		.report = print_finding,
		.ask = ask,
		.is_cancelled = was_cancelled,
		.arg = &args,
	};
	struct pml_check_result result;
	char reason[PML_REASON_BYTES] = "";
	unsigned int waited_ms = 0;
	do
		err = pml_fs_check(args.path, &options, &result, reason);
	while (err == -EBUSY && pml_busy_wait(args.path, DEVICE_WAIT_S, &waited_ms));
	if (err)
		fprintf(stderr, PROGRAM ": %s\n", reason[0] ? reason : strerror(-err));
	else
		print_summary(&args, &result);
	int status = status_of(err, &result);
	return fflush(stdout) == 0 ? status : status | FSCK_ERROR;
}
