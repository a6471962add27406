/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * pmemlease.c -- demo client: list, copy and measure files of a server by leases
 *
 * Uses nothing but the public client library (pmemleasefs/client.h).
 *
 * Manual: pmemlease(1).
 */
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "pmemlease.h"

#define DEFAULT_LEASE_BYTES (64ull << 20)
#define LEASE_BYTES_MAX	    (1ull << 30)

static const char help_text[] =
	"Usage: pmemlease ls [-l] URL\n"
	"       pmemlease stat URL\n"
	"       pmemlease get [OPTION]... URL FILE\n"
	"       pmemlease put [OPTION]... FILE URL\n"
	"       pmemlease bench [OPTION]... URL\n"
	"       pmemlease fencetest --help\n"
	"Reads and writes files of a pmemleasefs server by one-sided RDMA.\n"
	"URL is rdma://HOST:PORT/PATH, or soft://HOST:PORT/PATH for the software\n"
	"fabric.  FILE \"-\" of get is standard output.\n"
	"\n"
	"  -l, --long             ls: type, size and time too\n"
	"  -r, --recursive        get: a directory, with all files below it, as FILE\n"
	"      --lease-bytes=N    get, put: size of each lease (default 64M)\n"
	"      --hold=SECONDS     get, put: keep the last lease that long afterwards\n"
	"      --ignore-recall    get, put: never answer a recall, use the lease until\n"
	"                         the server ends that (status 5) or --hold is over\n"
	"      --shared           get, put: beside others' leases that are shared, too\n"
	"      --unbreakable      get, put: leases that cannot be recalled, if allowed\n"
	"      --downgrade        put: with --hold, keep the range for reading only\n"
	"  -q, --quiet            no progress and no remarks\n"
	"      --progress         show progress even if not on a terminal\n"
	"      --write            bench: write (overwrites the file's contents!)\n"
	"      --size=N           bench: bytes of an operation (default 64k, up to 1M)\n"
	"      --depth=N          bench: operations in flight (default 16, up to 128)\n"
	"      --count=N          bench: number of operations (default 2000)\n"
	"      --file-size=N      bench: bytes of the file to use (default 64M; to read:\n"
	"                         at most what there is)\n"
	"      --json             bench: print one JSON object\n"
	"      --wait=SECONDS     wait that long for a busy lease (default 30)\n"
	"      --timeout=SECONDS  give up on a silent server after that (default 30)\n"
	"  -h, --help             print this help\n"
	"  -V, --version          print the version\n"
	"Numbers take the suffixes k, M and G (1024).\n"
	"\n"
	"Exit status: 0 done, 1 usage or local error, 2 no connection, 3 refused by\n"
	"the server, 4 lease recalled or busy for too long, 5 lease revoked.\n";

int report_local(const char *fmt, ...)
{
	va_list args;
	va_start(args, fmt);
	fputs("pmemlease: ", stderr);
	vfprintf(stderr, fmt, args);
	fputc('\n', stderr);
	va_end(args);
	return EXIT_LOCAL;
}

int report_remote(struct pml_client *client, const char *what, int err)
{
	const char *reason = pml_client_reason(client);
	switch (err) {
	case -ENOTCONN:
	case -ETIMEDOUT:
		fprintf(stderr, "pmemlease: %s: connection lost: %s\n", what, reason);
		return EXIT_CONNECT;
	case -EAGAIN:
	case -ESTALE:
		fprintf(stderr,
			"pmemlease: %s: the lease was not available in time: try later, or with a "
			"longer --wait\n",
			what);
		return EXIT_RECALLED;
	case -EKEYREVOKED:
		fprintf(stderr, "lease revoked: %s\n", reason);
		return EXIT_REVOKED;
	default:
		fprintf(stderr, "pmemlease: %s\n", reason);
		return EXIT_REMOTE;
	}
}

/* ---- ls and stat -------------------------------------------------------- */

static const char *type_name(mode_t mode)
{
	switch (mode & S_IFMT) {
	case S_IFREG:
		return "regular file";
	case S_IFDIR:
		return "directory";
	case S_IFLNK:
		return "symbolic link";
	case S_IFIFO:
		return "fifo";
	case S_IFSOCK:
		return "socket";
	case S_IFCHR:
		return "character device";
	case S_IFBLK:
		return "block device";
	default:
		return "unknown";
	}
}

static void format_time(char *ret_text, size_t room, int64_t seconds)
{
	time_t t = (time_t)seconds;
	struct tm tm;
	if (!localtime_r(&t, &tm) || strftime(ret_text, room, "%Y-%m-%d %H:%M:%S", &tm) == 0)
		snprintf(ret_text, room, "%lld", (long long)seconds);
}

/* Attributes and a name, as one line. */
static void print_long(const struct pml_client_attr *attr, const char *name)
{
	static const char letters[] = "?pc?d?b?-?l?s???"; /* by S_IFMT >> 12 */
	char when[32];
	format_time(when, sizeof(when), attr->mtime_s);
	printf("%c%04o %4u %5u %5u %12llu %s %s\n", letters[(attr->mode & S_IFMT) >> 12],
	       attr->mode & 07777, attr->nlink, attr->uid, attr->gid,
	       (unsigned long long)attr->size_bytes, when, name);
}

struct ls {
	struct pml_client *client;
	const struct options *opt;
	int status;
};

static bool print_entry(void *arg, const char *name, uint64_t ino, mode_t type)
{
	struct ls *ls = arg;
	if (!ls->opt->is_long) {
		puts(name);
		return true;
	}
	pml_auto_free char *path = NULL;
	if (asprintf(&path, "%s/%s", ls->opt->path, name) < 0) {
		path = NULL;
		ls->status = report_local("%s: out of memory", name);
		return false;
	}
	struct pml_client_attr attr;
	int err = pml_client_stat(ls->client, path, &attr);
	if (err == 0)
		print_long(&attr, name);
	else if (err != -ENOENT) /* removed meanwhile */
		ls->status = report_remote(ls->client, path, err);
	return err == 0 || err == -ENOENT;
}

static int run_ls(struct pml_client *client, const struct options *opt)
{
	struct pml_client_attr attr;
	int err = pml_client_stat(client, opt->path, &attr);
	if (err)
		return report_remote(client, opt->path, err);
	if (!S_ISDIR(attr.mode)) {
		if (opt->is_long)
			print_long(&attr, opt->path);
		else
			puts(opt->path);
		return 0;
	}
	struct ls ls = {.client = client, .opt = opt};
	err = pml_client_readdir(client, opt->path, print_entry, &ls);
	return err ? report_remote(client, opt->path, err) : ls.status;
}

static int run_stat(struct pml_client *client, const struct options *opt)
{
	struct pml_client_attr attr;
	int err = pml_client_stat(client, opt->path, &attr);
	if (err)
		return report_remote(client, opt->path, err);
	char when[32];
	format_time(when, sizeof(when), attr.mtime_s);
	printf("path: %s\n", opt->path[0] ? opt->path : "/");
	printf("type: %s\n", type_name(attr.mode));
	printf("size: %llu\n", (unsigned long long)attr.size_bytes);
	printf("blocks_512: %llu\n", (unsigned long long)attr.blocks_512);
	printf("mode: %04o\n", attr.mode & 07777);
	printf("links: %u\n", attr.nlink);
	printf("uid: %u\n", attr.uid);
	printf("gid: %u\n", attr.gid);
	printf("modified: %s.%09u\n", when, attr.mtime_ns);
	printf("inode: %llu\n", (unsigned long long)attr.ino);
	printf("generation: %llu\n", (unsigned long long)attr.generation);
	return 0;
}

/* ---- command line ------------------------------------------------------- */

/* "64k" to 65536.  -EINVAL, -ERANGE. */
static int parse_bytes(const char *text, uint64_t *ret_bytes)
{
	char *end;
	errno = 0;
	if (text[0] < '0' || text[0] > '9')
		return -EINVAL;
	unsigned long long n = strtoull(text, &end, 10);
	if (errno)
		return -ERANGE;
	unsigned int shift = 0;
	if (*end == 'k' || *end == 'K')
		shift = 10;
	else if (*end == 'M')
		shift = 20;
	else if (*end == 'G')
		shift = 30;
	if (shift)
		end++;
	if (*end)
		return -EINVAL;
	if (n > UINT64_MAX >> shift)
		return -ERANGE;
	*ret_bytes = n << shift;
	return 0;
}

/* A number of an option in [@min, @max]; prints what is wrong. */
static int parse_number(const char *name, const char *text, uint64_t min, uint64_t max,
			uint64_t *ret_number)
{
	uint64_t n = 0;
	if (parse_bytes(text, &n) || n < min || n > max) {
		report_local("--%s=%s: give a number from %llu to %llu", name, text,
			     (unsigned long long)min, (unsigned long long)max);
		return -EINVAL;
	}
	*ret_number = n;
	return 0;
}

static int parse_seconds(const char *name, const char *text, double *ret_seconds)
{
	char *end;
	double s = strtod(text, &end);
	if (end == text || *end || !(s >= 0 && s <= 1000000)) {
		report_local("--%s=%s: give seconds from 0 to 1000000", name, text);
		return -EINVAL;
	}
	*ret_seconds = s;
	return 0;
}

enum {
	OPT_LEASE_BYTES = 256,
	OPT_HOLD,
	OPT_IGNORE_RECALL,
	OPT_SHARED,
	OPT_UNBREAKABLE,
	OPT_DOWNGRADE,
	OPT_PROGRESS,
	OPT_WRITE,
	OPT_SIZE,
	OPT_DEPTH,
	OPT_COUNT,
	OPT_FILE_SIZE,
	OPT_JSON,
	OPT_WAIT,
	OPT_TIMEOUT,
};

static const struct option long_options[] = {
	{"long", no_argument, NULL, 'l'},
	{"recursive", no_argument, NULL, 'r'},
	{"quiet", no_argument, NULL, 'q'},
	{"help", no_argument, NULL, 'h'},
	{"version", no_argument, NULL, 'V'},
	{"lease-bytes", required_argument, NULL, OPT_LEASE_BYTES},
	{"hold", required_argument, NULL, OPT_HOLD},
	{"ignore-recall", no_argument, NULL, OPT_IGNORE_RECALL},
	{"shared", no_argument, NULL, OPT_SHARED},
	{"unbreakable", no_argument, NULL, OPT_UNBREAKABLE},
	{"downgrade", no_argument, NULL, OPT_DOWNGRADE},
	{"progress", no_argument, NULL, OPT_PROGRESS},
	{"write", no_argument, NULL, OPT_WRITE},
	{"size", required_argument, NULL, OPT_SIZE},
	{"depth", required_argument, NULL, OPT_DEPTH},
	{"count", required_argument, NULL, OPT_COUNT},
	{"file-size", required_argument, NULL, OPT_FILE_SIZE},
	{"json", no_argument, NULL, OPT_JSON},
	{"wait", required_argument, NULL, OPT_WAIT},
	{"timeout", required_argument, NULL, OPT_TIMEOUT},
	{NULL, 0, NULL, 0},
};

/* An option that takes a number.  0 or -EINVAL, printed. */
static int take_number(struct options *opt, int c, const char *text)
{
	uint64_t n = 0;
	double s = 0;
	int err;
	switch (c) {
	case OPT_LEASE_BYTES:
		return parse_number("lease-bytes", text, 1, LEASE_BYTES_MAX, &opt->lease_bytes);
	case OPT_SIZE:
		err = parse_number("size", text, 1, 1 << 20, &n);
		opt->op_bytes = (uint32_t)n;
		return err;
	case OPT_DEPTH:
		err = parse_number("depth", text, 1, 128, &n);
		opt->depth = (uint32_t)n;
		return err;
	case OPT_COUNT:
		return parse_number("count", text, 1, UINT64_MAX >> 20, &opt->count);
	case OPT_FILE_SIZE:
		return parse_number("file-size", text, 1, LEASE_BYTES_MAX, &opt->file_size);
	case OPT_HOLD:
		return parse_seconds("hold", text, &opt->hold_s);
	case OPT_WAIT:
		err = parse_seconds("wait", text, &s);
		opt->wait_ms = (uint32_t)(s * 1000);
		return err;
	case OPT_TIMEOUT:
		err = parse_seconds("timeout", text, &s);
		opt->timeout_ms = (uint32_t)(s * 1000);
		return err;
	default:
		return -EINVAL; /* getopt has said why */
	}
}

/* 0; 1: help or version was printed; -EINVAL: usage error, printed. */
static int take_option(struct options *opt, int c, const char *text)
{
	switch (c) {
	case 'l':
		opt->is_long = true;
		return 0;
	case 'r':
		opt->is_recursive = true;
		return 0;
	case 'q':
		opt->is_quiet = true;
		return 0;
	case OPT_IGNORE_RECALL:
		opt->ignore_recall = true;
		return 0;
	case OPT_SHARED:
		opt->lease_kind |= PML_CLIENT_SHARED;
		return 0;
	case OPT_UNBREAKABLE:
		opt->lease_kind |= PML_CLIENT_UNBREAKABLE;
		return 0;
	case OPT_DOWNGRADE:
		opt->is_downgrade = true;
		return 0;
	case OPT_PROGRESS:
		opt->force_progress = true;
		return 0;
	case OPT_WRITE:
		opt->is_write = true;
		return 0;
	case OPT_JSON:
		opt->is_json = true;
		return 0;
	case 'h':
		fputs(help_text, stdout);
		return 1;
	case 'V':
		printf("pmemlease %s\n", PML_VERSION);
		return 1;
	default:
		return take_number(opt, c, text);
	}
}

/* What follows "//HOST:PORT" in a URL. */
static const char *path_of(const char *url)
{
	const char *host = strstr(url, "://");
	const char *path = host ? strchr(host + 3, '/') : NULL;
	return path ? path : "";
}

static int take_operands(struct options *opt, int count, char **operands)
{
	bool is_get = strcmp(opt->command, "get") == 0;
	bool is_put = strcmp(opt->command, "put") == 0;
	int want = is_get || is_put ? 2 : 1;
	if (count != want) {
		report_local("%s takes %s: see pmemlease --help", opt->command,
			     is_get   ? "URL and FILE"
			     : is_put ? "FILE and URL"
				      : "one URL");
		return -EINVAL;
	}
	opt->url = operands[is_put ? 1 : 0];
	if (want == 2)
		opt->file = operands[is_put ? 0 : 1];
	opt->path = path_of(opt->url);
	return 0;
}

/* As take_option(). */
static int parse_command_line(struct options *opt, int argc, char **argv)
{
	for (;;) {
		int c = getopt_long(argc, argv, "lrqhV", long_options, NULL);
		if (c == -1)
			break;
		int err = take_option(opt, c, optarg);
		if (err)
			return err;
	}
	if (optind == argc) {
		report_local("no command given: see pmemlease --help");
		return -EINVAL;
	}
	opt->command = argv[optind];
	return take_operands(opt, argc - optind - 1, argv + optind + 1);
}

struct command {
	const char *name;
	int (*run)(struct pml_client *client, const struct options *opt);
};

static const struct command commands[] = {
	{"ls", run_ls},	  {"stat", run_stat},	{"get", run_get},
	{"put", run_put}, {"bench", run_bench},
};

static const struct command *find_command(const char *name)
{
	for (size_t i = 0; i < PML_ARRAY_LEN(commands); i++)
		if (strcmp(commands[i].name, name) == 0)
			return &commands[i];
	return NULL;
}

int main(int argc, char **argv)
{
	/* It has no server, and options of its own. */
	if (argc > 1 && strcmp(argv[1], "fencetest") == 0)
		return main_fencetest(argc - 1, argv + 1);
	struct options opt = {
		.lease_bytes = DEFAULT_LEASE_BYTES,
		.wait_ms = 30000,
		.timeout_ms = 30000,
		.op_bytes = 65536,
		.depth = 16,
		.count = 2000,
		.file_size = DEFAULT_LEASE_BYTES,
	};
	int err = parse_command_line(&opt, argc, argv);
	if (err)
		return err > 0 ? 0 : EXIT_LOCAL;
	const struct command *command = find_command(opt.command);
	if (!command)
		return report_local("%s: no such command: see pmemlease --help", opt.command);

	signal(SIGPIPE, SIG_IGN); /* a closed standard output is an error like others */
	struct pml_client *client;
	char reason[PML_REASON_BYTES];
	err = pml_client_connect(opt.url, (int)opt.timeout_ms, &client, reason);
	if (err) {
		fprintf(stderr, "pmemlease: %s\n", reason);
		return err == -EINVAL ? EXIT_LOCAL : EXIT_CONNECT;
	}
	const struct pml_client_events silent = {.is_silent = true};
	if (opt.ignore_recall)
		pml_client_set_events(client, &silent);
	int status = command->run(client, &opt);
	pml_client_close(client);
	if (fflush(stdout) == EOF && status == 0)
		status = report_local("standard output: %s", strerror(errno));
	return status;
}
