/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * pmemlease_fencetest.c -- measure whether ending a remote access ends it
 *
 * Client and server are both in this process; no filesystem is touched.  Run as root,
 * what was found is added to the file that mount.pmemleasefs reads.
 *
 * Manual: pmemlease(1).
 */
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "pml/fence.h"
#include "pmemlease.h"

#define COUNT_MAX 100000000u

/* Exit statuses of this command. */
enum { FENCE_HOLDS = 0, FENCE_VIOLATED = 1, FENCE_NOT_TESTED = 2 };

static const char help_text[] =
	"Usage: pmemlease fencetest [OPTION]...\n"
	"A client streams writes and reads while its access is ended; nothing may change,\n"
	"and nothing be read, after that.\n"
	"\n"
	"      --method=M         window, region, connection or all (default all)\n"
	"      --count=N          trials of each method (default 1000)\n"
	"      --rdma=ADDRESS     test the RDMA device with this address (default: the\n"
	"                         first that there is)\n"
	"      --soft             test the software fabric\n"
	"      --dir=DIR          with memory of a file in DIR, on a DAX filesystem, say: it\n"
	"                         may have to be registered on demand\n"
	"      --state=FILE       add the verdicts there (default, for root only:\n"
	"                         " PML_VERDICTS_PATH ")\n"
	"      --no-record        keep no verdict\n"
	"      --json             print one JSON object for each method\n"
	"  -q, --quiet            no progress\n"
	"  -h, --help             print this help\n"
	"\n"
	"The last line is \"violations V of N\".  Exit status: 0 none, 1 some, 2 no test\n"
	"was made.\n";

struct command {
	bool is_soft;
	const char *host;
	const char *dir;    /* NULL: memory of no file */
	const char *method; /* or "all" */
	uint32_t count;
	const char *state; /* NULL: keep nothing */
	bool is_json;
	bool is_quiet;
};

/* ---- results ------------------------------------------------------------ */

static bool show_progress(void *arg, uint32_t done, uint32_t violations)
{
	const struct pml_fencetest_args *args = arg;
	if (done % 50 == 0)
		fprintf(stderr, "\r%s: %u of %u, violations %u ",
			pml_fence_method_name(args->method), done, args->count, violations);
	return true;
}

static uint64_t violations_of(const struct pml_fencetest_result *r)
{
	return (uint64_t)r->violations + r->unbounded;
}

static void print_text(enum pml_fence_method method, const struct pml_fencetest_result *r)
{
	printf("%s: %u trials on %s (%s), kernel %s: memory changed after the fence %u, read from "
	       "after it %u; a fence takes %.0f us, at most %.0f us",
	       pml_fence_method_name(method), r->trials, r->device.name, r->device.driver,
	       r->device.kernel, r->writes, r->reads,
	       (double)r->fence_ns / 1e3 / (r->trials ? r->trials : 1),
	       (double)r->fence_max_ns / 1e3);
	if (r->failed > 0)
		printf("; %u fences failed", r->failed);
	if (r->unbounded > 0)
		printf("; a key REACHES BEYOND ITS RANGE");
	putchar('\n');
}

static void print_json(enum pml_fence_method method, const struct pml_fencetest_result *r)
{
	printf("{\"method\": \"%s\", \"device\": \"%s\", \"driver\": \"%s\", \"guid\": \"%s\", "
	       "\"firmware\": \"%s\", \"kernel\": \"%s\", \"trials\": %u, \"violations\": %" PRIu64
	       ", \"writes\": %u, \"reads\": %u, \"unbounded\": %u, \"failed\": %u, \"idle\": %u, "
	       "\"us_per_fence\": %.3f, \"us_max\": %.3f}\n",
	       pml_fence_method_name(method), r->device.name, r->device.driver, r->device.guid,
	       r->device.firmware, r->device.kernel, r->trials, violations_of(r), r->writes,
	       r->reads, r->unbounded, r->failed, r->idle,
	       (double)r->fence_ns / 1e3 / (r->trials ? r->trials : 1),
	       (double)r->fence_max_ns / 1e3);
}

static int record(const char *path, enum pml_fence_method method,
		  const struct pml_fencetest_result *r)
{
	struct pml_verdict v = {
		.device = r->device,
		.method = method,
		.trials = r->trials,
		.violations = r->violations,
		.unbounded = r->unbounded,
	};
	char reason[PML_REASON_BYTES];
	time_t now = time(NULL);
	struct tm tm;
	if (!gmtime_r(&now, &tm) || !strftime(v.date, sizeof(v.date), "%Y-%m-%dT%H:%M:%SZ", &tm))
		return -EINVAL;
	int err = pml_verdict_record(path, &v, reason);
	if (err)
		report_local("%s", reason);
	return err;
}

/* ---- the test ----------------------------------------------------------- */

/* One method.  0; 1: this device cannot do it; -errno, reported. */
static int run_method(const struct command *cmd, enum pml_fence_method method,
		      struct pml_fencetest_result *ret)
{
	struct pml_fencetest_args args = {
		.is_soft = cmd->is_soft,
		.host = cmd->host,
		.method = method,
		.dir = cmd->dir,
		.count = cmd->count,
	};
	char reason[PML_REASON_BYTES];
	if (!cmd->is_quiet) {
		args.progress = show_progress;
		args.progress_arg = &args;
	}
	int err = pml_fencetest_run(&args, ret, reason);
	if (!cmd->is_quiet)
		fputs("\r\033[K", stderr);
	if (err == -EOPNOTSUPP && strcmp(cmd->method, "all") == 0) {
		if (!cmd->is_json)
			printf("%s: %s\n", pml_fence_method_name(method), reason);
		return 1;
	}
	if (err) {
		report_local("%s: %s", pml_fence_method_name(method), reason);
		return err;
	}
	if (cmd->is_json)
		print_json(method, ret);
	else
		print_text(method, ret);
	(void)fflush(stdout);
	return cmd->state ? record(cmd->state, method, ret) : 0;
}

static int run_all(const struct command *cmd)
{
	uint64_t violations = 0, trials = 0;
	bool has_failed = false;
	for (int i = 0; i < PML_FENCE_METHODS; i++) {
		enum pml_fence_method method = (enum pml_fence_method)i;
		struct pml_fencetest_result r = {0};
		if (strcmp(cmd->method, "all") != 0 &&
		    strcmp(cmd->method, pml_fence_method_name(method)) != 0)
			continue;
		has_failed |= run_method(cmd, method, &r) < 0;
		violations += violations_of(&r);
		trials += r.trials;
	}
	printf("violations %" PRIu64 " of %" PRIu64 "\n", violations, trials);
	if (violations > 0)
		return FENCE_VIOLATED;
	return has_failed || trials == 0 ? FENCE_NOT_TESTED : FENCE_HOLDS;
}

/* ---- command line ------------------------------------------------------- */

enum {
	OPT_METHOD = 256,
	OPT_COUNT,
	OPT_RDMA,
	OPT_SOFT,
	OPT_DIR,
	OPT_STATE,
	OPT_NO_RECORD,
	OPT_JSON
};

static const struct option long_options[] = {
	{"method", required_argument, NULL, OPT_METHOD},
	{"count", required_argument, NULL, OPT_COUNT},
	{"rdma", required_argument, NULL, OPT_RDMA},
	{"soft", no_argument, NULL, OPT_SOFT},
	{"dir", required_argument, NULL, OPT_DIR},
	{"state", required_argument, NULL, OPT_STATE},
	{"no-record", no_argument, NULL, OPT_NO_RECORD},
	{"json", no_argument, NULL, OPT_JSON},
	{"quiet", no_argument, NULL, 'q'},
	{"help", no_argument, NULL, 'h'},
	{NULL, 0, NULL, 0},
};

static int take_count(const char *text, uint32_t *ret_count)
{
	char *end;
	errno = 0;
	unsigned long n = strtoul(text, &end, 10);
	if (text[0] < '0' || text[0] > '9' || *end || errno || n == 0 || n > COUNT_MAX) {
		report_local("--count=%s: give a number from 1 to %u", text, COUNT_MAX);
		return -EINVAL;
	}
	*ret_count = (uint32_t)n;
	return 0;
}

static int take_method(const char *text, const char **ret_method)
{
	enum pml_fence_method method;
	if (strcmp(text, "all") != 0 && pml_fence_method_parse(text, &method)) {
		report_local("--method=%s: give window, region, connection or all", text);
		return -EINVAL;
	}
	*ret_method = text;
	return 0;
}

/* 0; 1: help was printed; -EINVAL: printed. */
static int take_option(struct command *cmd, int c, const char *text)
{
	switch (c) {
	case OPT_METHOD:
		return take_method(text, &cmd->method);
	case OPT_COUNT:
		return take_count(text, &cmd->count);
	case OPT_RDMA:
		cmd->host = text;
		return 0;
	case OPT_SOFT:
		cmd->is_soft = true;
		return 0;
	case OPT_DIR:
		cmd->dir = text;
		return 0;
	case OPT_STATE:
		cmd->state = text;
		return 0;
	case OPT_NO_RECORD:
		cmd->state = NULL;
		return 0;
	case OPT_JSON:
		cmd->is_json = true;
		return 0;
	case 'q':
		cmd->is_quiet = true;
		return 0;
	case 'h':
		fputs(help_text, stdout);
		return 1;
	default:
		return -EINVAL; /* getopt has said why */
	}
}

static int parse(struct command *cmd, int argc, char **argv)
{
	for (;;) {
		int c = getopt_long(argc, argv, "qh", long_options, NULL);
		if (c == -1)
			break;
		int err = take_option(cmd, c, optarg);
		if (err)
			return err;
	}
	if (optind < argc) {
		report_local("fencetest takes no operand: %s", argv[optind]);
		return -EINVAL;
	}
	if (cmd->is_soft && cmd->host) {
		report_local("--soft and --rdma exclude each other");
		return -EINVAL;
	}
	return 0;
}

int main_fencetest(int argc, char **argv)
{
	struct command cmd = {
		.method = "all",
		.count = 1000,
		.state = geteuid() == 0 ? PML_VERDICTS_PATH : NULL,
		.is_quiet = !isatty(STDERR_FILENO),
	};
	int err = parse(&cmd, argc, argv);
	if (err)
		return err > 0 ? FENCE_HOLDS : FENCE_NOT_TESTED;

	char host[PML_FENCE_HOST_BYTES], reason[PML_REASON_BYTES];
	if (cmd.is_soft) {
		cmd.host = "127.0.0.1";
	} else if (!cmd.host) {
		if (pml_fencetest_find_host(host, reason)) {
			report_local("%s", reason);
			return FENCE_NOT_TESTED;
		}
		cmd.host = host;
	}
	int status = run_all(&cmd);
	if (fflush(stdout) == EOF && status == FENCE_HOLDS)
		status = FENCE_NOT_TESTED;
	return status;
}
