/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * pmemlease_options.c -- every option that a command of pmemlease may take
 *
 * A table; which of its lines a command takes is said by a bit for each.  A name
 * or letter may be there more than once, for different commands.
 */
#include <getopt.h>
#include <string.h>

#include "pmemlease.h"
#include "size.h"

#define DEFAULT_LEASE_BYTES (64ull << 20)
#define LEASE_BYTES_MAX	    (1ull << 30)
#define OPTION_BASE	    256 /* of getopt's values: beyond all letters */

enum kind {
	FLAG,
	LEASE_KIND, /* a bit of .lease_kind */
	BYTES,	    /* uint64_t */
	COUNT32,    /* uint32_t, with suffixes as BYTES */
	TIME_MS,    /* seconds on the command line, uint32_t milliseconds here */
	SECONDS,    /* double */
	MODE,	    /* octal, and .has_mode */
	HELP,
};

struct spec {
	const char *name;
	char letter;
	enum kind kind;
	const char *value; /* what help calls it, or NULL */
	size_t offset;	   /* in struct options */
	uint64_t min;	   /* of LEASE_KIND: the bit */
	uint64_t max;
	const char *help; /* lines */
};

#define AT(field) offsetof(struct options, field)

static const struct spec specs[TAKES_END] = {
	[TAKES_LONG] = {"long", 'l', FLAG, NULL, AT(is_long), 0, 0,
			"type, permissions, links, owner, group, size, time"},
	[TAKES_LS_RECURSIVE] = {"recursive", 'R', FLAG, NULL, AT(is_recursive), 0, 0,
				"directories below, too"},
	[TAKES_HUMAN] = {"human-readable", 'H', FLAG, NULL, AT(is_human), 0, 0, "sizes as 1.5 GiB"},
	[TAKES_COPY_RECURSIVE] = {"recursive", 'r', FLAG, NULL, AT(is_recursive), 0, 0,
				  "directories, with all below them"},
	[TAKES_RM_RECURSIVE] = {"recursive", 'r', FLAG, NULL, AT(is_recursive), 0, 0,
				"directories, with all below them"},
	[TAKES_FORCE] = {"force", 'f', FLAG, NULL, AT(is_forced), 0, 0,
			 "what is not there is no error"},
	[TAKES_PARENTS] = {"parents", 'p', FLAG, NULL, AT(with_parents), 0, 0,
			   "directories above, too; one that is there is no error"},
	[TAKES_MODE] = {"mode", 'm', MODE, "MODE", AT(mode), 0, 01777,
			"permission bits, in octal (default 0755)"},
	[TAKES_NO_REPLACE] = {"no-clobber", 'n', FLAG, NULL, AT(no_replace), 0, 0,
			      "refuse a name that is there already"},
	[TAKES_SYMBOLIC] = {"symbolic", 's', FLAG, NULL, AT(is_symbolic), 0, 0,
			    "a symbolic link; TARGET is its text"},
	[TAKES_PRESERVE] = {"preserve", 'p', FLAG, NULL, AT(preserve), 0, 0,
			    "keep permission bits and times"},
	[TAKES_RESUME] = {"resume", 0, FLAG, NULL, AT(is_resumed), 0, 0,
			  "keep what is there of a copy that fails, and go on with\n"
			  "what such a copy left, if the source is the same still"},
	[TAKES_IN_PLACE] = {"in-place", 0, FLAG, NULL, AT(is_in_place), 0, 0,
			    "write into the file that is there, instead of\n"
			    "replacing it when all has arrived"},
	[TAKES_VERIFY] = {"verify", 0, FLAG, NULL, AT(is_verified), 0, 0,
			  "read all again at the end and compare"},
	[TAKES_NO_SYNC] = {"no-sync", 0, FLAG, NULL, AT(is_unsynced), 0, 0,
			   "do not wait until local files are on their disk"},
	[TAKES_RETRY] = {"retry", 0, COUNT32, "N", AT(retries), 0, 1000000,
			 "go on after a lease was revoked, up to N times a file"},
	[TAKES_LIMIT] = {"limit", 0, BYTES, "N", AT(limit), 1, UINT64_MAX >> 20,
			 "bytes in a second, at most"},
	[TAKES_LEASE_BYTES] = {"lease-bytes", 0, BYTES, "N", AT(lease_bytes), 1, LEASE_BYTES_MAX,
			       "size of each lease (default 64M)"},
	[TAKES_HOLD] = {"hold", 0, SECONDS, "SECONDS", AT(hold_s), 0, 0,
			"keep the last lease that long afterwards"},
	[TAKES_IGNORE_RECALL] = {"ignore-recall", 0, FLAG, NULL, AT(ignore_recall), 0, 0,
				 "never answer a recall, use the lease until the\n"
				 "server ends that (status 5) or --hold is over"},
	[TAKES_SHARED] = {"shared", 0, LEASE_KIND, NULL, 0, PML_CLIENT_SHARED, 0,
			  "beside others' leases that are shared, too"},
	[TAKES_UNBREAKABLE] = {"unbreakable", 0, LEASE_KIND, NULL, 0, PML_CLIENT_UNBREAKABLE, 0,
			       "leases that cannot be recalled, if allowed"},
	[TAKES_DOWNGRADE] = {"downgrade", 0, FLAG, NULL, AT(is_downgrade), 0, 0,
			     "with --hold, keep the range for reading only"},
	[TAKES_PROGRESS] = {"progress", 0, FLAG, NULL, AT(force_progress), 0, 0,
			    "show progress even if not on a terminal"},
	[TAKES_WRITE] = {"write", 0, FLAG, NULL, AT(is_write), 0, 0,
			 "write (overwrites the file's contents!)"},
	[TAKES_SIZE] = {"size", 0, COUNT32, "N", AT(op_bytes), 1, 1 << 20,
			"bytes of an operation (default 64k)"},
	[TAKES_DEPTH] = {"depth", 0, COUNT32, "N", AT(depth), 1, 128,
			 "operations in flight (default 16)"},
	[TAKES_COUNT] = {"count", 0, BYTES, "N", AT(count), 1, UINT64_MAX >> 20,
			 "number of operations (default 2000)"},
	[TAKES_FILE_SIZE] = {"file-size", 0, BYTES, "N", AT(file_size), 1, LEASE_BYTES_MAX,
			     "bytes of the file to use (default 64M; to read: at\n"
			     "most what there is)"},
	[TAKES_POLL] = {"poll", 0, FLAG, NULL, AT(is_polling), 0, 0,
			"never sleep while waiting for completions"},
	[TAKES_JSON] = {"json", 'j', FLAG, NULL, AT(is_json), 0, 0, "print JSON"},
	[TAKES_QUIET] = {"quiet", 'q', FLAG, NULL, AT(is_quiet), 0, 0,
			 "no progress and no remarks"},
	[TAKES_WAIT] = {"wait", 0, TIME_MS, "SECONDS", AT(wait_ms), 0, 0,
			"wait that long for a busy lease (default 30)"},
	[TAKES_TIMEOUT] = {"timeout", 0, TIME_MS, "SECONDS", AT(timeout_ms), 0, 0,
			   "give up on a silent or lost server after that\n"
			   "(default 30)"},
	[TAKES_HELP] = {"help", 'h', HELP, NULL, 0, 0, 0, "print this help"},
};

/* ---- values ------------------------------------------------------------- */

static int refuse(const struct spec *spec, const char *text, uint64_t min, uint64_t max)
{
	report_local("--%s=%s: give a number from %llu to %llu", spec->name, text,
		     (unsigned long long)min, (unsigned long long)max);
	return -EINVAL;
}

static int parse_seconds(const struct spec *spec, const char *text, double *ret_seconds)
{
	char *end;
	double s = strtod(text, &end);
	if (end == text || *end || !(s >= 0 && s <= 1000000)) {
		report_local("--%s=%s: give seconds from 0 to 1000000", spec->name, text);
		return -EINVAL;
	}
	*ret_seconds = s;
	return 0;
}

static int parse_mode(const struct spec *spec, const char *text, uint32_t *ret_mode)
{
	char *end;
	errno = 0;
	unsigned long mode = strtoul(text, &end, 8);
	if (text[0] < '0' || text[0] > '7' || *end || errno || mode > spec->max) {
		report_local("--%s=%s: give permission bits in octal, up to %04llo", spec->name,
			     text, (unsigned long long)spec->max);
		return -EINVAL;
	}
	*ret_mode = (uint32_t)mode;
	return 0;
}

/* 0; 1: help is wanted; -EINVAL, printed. */
static int take_value(const struct spec *spec, const char *text, struct options *opt)
{
	void *field = (char *)opt + spec->offset;
	uint64_t n = 0;
	double s = 0;
	int err = 0;
	switch (spec->kind) {
	case FLAG:
		*(bool *)field = true;
		return 0;
	case LEASE_KIND:
		opt->lease_kind |= (unsigned int)spec->min;
		return 0;
	case BYTES:
	case COUNT32:
		if (pml_size_parse(text, &n) || n < spec->min || n > spec->max)
			return refuse(spec, text, spec->min, spec->max);
		if (spec->kind == BYTES)
			*(uint64_t *)field = n;
		else
			*(uint32_t *)field = (uint32_t)n;
		return 0;
	case TIME_MS:
		err = parse_seconds(spec, text, &s);
		*(uint32_t *)field = (uint32_t)(s * 1000);
		return err;
	case SECONDS:
		return parse_seconds(spec, text, field);
	case MODE:
		opt->has_mode = true;
		return parse_mode(spec, text, field);
	case HELP:
	default:
		return 1;
	}
}

/* ---- command line ------------------------------------------------------- */

static void make_tables(uint64_t takes, struct option *long_options, char *letters)
{
	*letters++ = ':'; /* getopt tells a missing value from an unknown option */
	for (int i = 0; i < TAKES_END; i++) {
		const struct spec *spec = &specs[i];
		if (!(takes & (1ull << i)))
			continue;
		int has_value = spec->value ? required_argument : no_argument;
		*long_options++ = (struct option){spec->name, has_value, NULL, OPTION_BASE + i};
		if (spec->letter)
			*letters++ = spec->letter;
		if (spec->letter && spec->value)
			*letters++ = ':';
	}
	*long_options = (struct option){NULL, 0, NULL, 0};
	*letters = 0;
}

static const struct spec *find_spec(uint64_t takes, int c)
{
	for (int i = 0; i < TAKES_END; i++)
		if ((takes & (1ull << i)) && (c == OPTION_BASE + i || c == specs[i].letter))
			return &specs[i];
	return NULL;
}

static int complain(const struct subcommand *command, int c, char **argv)
{
	const char *what = c == ':' ? "needs a value" : "is not an option of this command";
	if (optopt > 0 && optopt < OPTION_BASE)
		report_local("%s: -%c %s: see pmemlease %s --help", command->name, optopt, what,
			     command->name);
	else
		report_local("%s: %s %s: see pmemlease %s --help", command->name, argv[optind - 1],
			     what, command->name);
	return -EINVAL;
}

int parse_options(const struct subcommand *command, int argc, char **argv, struct options *ret_opt,
		  int *ret_first)
{
	struct option long_options[TAKES_END + 1];
	char letters[2 * TAKES_END + 2];
	struct options opt = {
		.lease_bytes = DEFAULT_LEASE_BYTES,
		.wait_ms = 30000,
		.timeout_ms = 30000,
		.op_bytes = 65536,
		.depth = 16,
		.count = 2000,
		.file_size = DEFAULT_LEASE_BYTES,
	};
	make_tables(command->takes, long_options, letters);
	opterr = 0;
	for (;;) {
		int c = getopt_long(argc, argv, letters, long_options, NULL);
		if (c == -1)
			break;
		if (c == '?' || c == ':')
			return complain(command, c, argv);
		const struct spec *spec = find_spec(command->takes, c);
		assert(spec); /* getopt knows no others */
		int err = take_value(spec, optarg, &opt);
		if (err)
			return err;
	}
	*ret_opt = opt;
	*ret_first = optind;
	return 0;
}

/* ---- help --------------------------------------------------------------- */

void print_options(uint64_t takes)
{
	for (int i = 0; i < TAKES_END; i++) {
		const struct spec *spec = &specs[i];
		if (!(takes & (1ull << i)))
			continue;
		char left[64], letter[8] = "   ";
		if (spec->letter)
			(void)snprintf(letter, sizeof(letter), "-%c,", spec->letter);
		(void)snprintf(left, sizeof(left), "  %s --%s%s%s", letter, spec->name,
			       spec->value ? "=" : "", spec->value ? spec->value : "");
		printf("%-24s ", left);
		for (const char *at = spec->help; *at; at++) {
			putchar(*at);
			if (*at == '\n')
				printf("%-25s", "");
		}
		putchar('\n');
	}
}
