/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * pmemlease.c -- demo client: files of a server by leases, as with coreutils and scp
 *
 * Command line, help and dispatch; the commands are in files of their own
 * (pmemlease.h).  Uses nothing but the public client library (pmemleasefs/client.h).
 *
 * Manual: pmemlease(1).
 */
#include <signal.h>
#include <string.h>

#include "pmemlease.h"

#define TAKES_BY_ALL (TAKES(TIMEOUT) | TAKES(HELP))
#define TAKES_BY_COPIES                                                                            \
	(TAKES(COPY_RECURSIVE) | TAKES(PRESERVE) | TAKES(RESUME) | TAKES(IN_PLACE) |               \
	 TAKES(VERIFY) | TAKES(RETRY) | TAKES(LIMIT) | TAKES(LEASE_BYTES) | TAKES(HOLD) |          \
	 TAKES(IGNORE_RECALL) | TAKES(SHARED) | TAKES(UNBREAKABLE) | TAKES(PROGRESS) |             \
	 TAKES(JSON) | TAKES(QUIET) | TAKES(WAIT) | TAKES_BY_ALL)

/* The one operand in place of a session: pmemlease_bench.c connects to one server. */
static int run_bench_on(struct session *session, int count, char **operands)
{
	struct place place = {0};
	(void)count;
	int status = find_place(session, operands[0], &place);
	if (!status) {
		session->opt.url = operands[0];
		session->opt.path = place.path;
		status = run_bench(place.server->client, &session->opt);
	}
	place_fini(&place);
	return status;
}

static const struct subcommand commands[] = {
	{
		.name = "ls",
		.operands = "URL...",
		.summary = "list directories",
		.about = "Lists what is in a directory, sorted, or shows anything else itself.\n",
		.takes = TAKES(LONG) | TAKES(LS_RECURSIVE) | TAKES(HUMAN) | TAKES(JSON) |
			 TAKES_BY_ALL,
		.min_operands = 1,
		.run = run_ls,
	},
	{
		.name = "stat",
		.operands = "URL...",
		.summary = "show attributes",
		.about = "Shows all attributes, as stat(1) does.\n",
		.takes = TAKES(JSON) | TAKES_BY_ALL,
		.min_operands = 1,
		.run = run_stat,
	},
	{
		.name = "get",
		.operands = "URL... FILE",
		.summary = "copy from a server",
		.about =
			"Copies files of a server to FILE, or into it if that is a directory.\n"
			"\"-\" is standard output.  A file that is there is replaced when all has\n"
			"arrived and is on its disk.\n",
		.takes = TAKES(NO_SYNC) | TAKES_BY_COPIES,
		.min_operands = 2,
		.run = run_get,
	},
	{
		.name = "put",
		.operands = "FILE... URL",
		.summary = "copy to a server",
		.about = "Copies files to URL, or into it if that is a directory.  A file that is\n"
			 "there is replaced when all has arrived and is durable.\n",
		.takes = TAKES(DOWNGRADE) | TAKES_BY_COPIES,
		.min_operands = 2,
		.run = run_put,
	},
	{
		.name = "cat",
		.operands = "URL...",
		.summary = "write files to standard output",
		.about = "Writes the contents of files to standard output, one after the other.\n",
		.takes = TAKES(RETRY) | TAKES(LIMIT) | TAKES(LEASE_BYTES) | TAKES(SHARED) |
			 TAKES(PROGRESS) | TAKES(QUIET) | TAKES(WAIT) | TAKES_BY_ALL,
		.min_operands = 1,
		.run = run_cat,
	},
	{
		.name = "rm",
		.operands = "URL...",
		.summary = "remove files and directories",
		.about = "Removes files; with -r directories, too.\n",
		.takes = TAKES(RM_RECURSIVE) | TAKES(FORCE) | TAKES_BY_ALL,
		.min_operands = 1,
		.run = run_rm,
	},
	{
		.name = "mkdir",
		.operands = "URL...",
		.summary = "make directories",
		.about = "Makes directories.\n",
		.takes = TAKES(PARENTS) | TAKES(MODE) | TAKES_BY_ALL,
		.min_operands = 1,
		.run = run_mkdir,
	},
	{
		.name = "mv",
		.operands = "URL... URL",
		.summary = "rename, move",
		.about =
			"Gives a file or directory another name, or moves several into a directory\n"
			"of the same server.  A file that is there is replaced.\n",
		.takes = TAKES(NO_REPLACE) | TAKES_BY_ALL,
		.min_operands = 2,
		.run = run_mv,
	},
	{
		.name = "ln",
		.operands = "TARGET... URL",
		.summary = "give another name, make a symbolic link",
		.about =
			"Gives the files at the URLs TARGET another name, or one in a directory; with\n"
			"-s makes a symbolic link.\n",
		.takes = TAKES(SYMBOLIC) | TAKES_BY_ALL,
		.min_operands = 2,
		.run = run_ln,
	},
	{
		.name = "clone",
		.operands = "URL... URL",
		.summary = "copy on the server, sharing blocks",
		.about =
			"Copies files on the server by sharing their blocks: no data is moved.  A file\n"
			"that is there is replaced.\n",
		.takes = TAKES(NO_REPLACE) | TAKES_BY_ALL,
		.min_operands = 2,
		.run = run_clone,
	},
	{
		.name = "df",
		.operands = "URL...",
		.summary = "show used and free space",
		.about = "Shows how much room a server's filesystem has.\n",
		.takes = TAKES(JSON) | TAKES_BY_ALL,
		.min_operands = 1,
		.run = run_df,
	},
	{
		.name = "bench",
		.operands = "URL",
		.summary = "measure one-sided transfers",
		.about = "Measures one-sided operations of one size through a lease on a file.\n",
		.takes = TAKES(WRITE) | TAKES(SIZE) | TAKES(DEPTH) | TAKES(COUNT) |
			 TAKES(FILE_SIZE) | TAKES(POLL) | TAKES(JSON) | TAKES(QUIET) | TAKES(WAIT) |
			 TAKES_BY_ALL,
		.min_operands = 1,
		.max_operands = 1,
		.run = run_bench_on,
	},
	{
		.name = "fencetest",
		.operands = "",
		.summary = "test whether a device ends remote accesses",
		.main = main_fencetest,
	},
};

/* ---- help --------------------------------------------------------------- */

static const char help_text[] = "Usage: pmemlease COMMAND [OPTION]... OPERAND...\n"
				"       pmemlease COMMAND --help\n"
				"Works with files of a pmemleasefs server by one-sided RDMA.\n"
				"\n";

static const char help_end[] =
	"\n"
	"  -h, --help       print this help\n"
	"  -V, --version    print the version\n"
	"\n"
	"URL is rdma://[IDENTITY@]HOST:PORT/PATH, or soft://... for the software fabric.\n"
	"Numbers take the suffixes k, M, G and T (1024).\n";

static const char help_statuses[] =
	"\n"
	"Exit status: 0 done, 1 usage or local error, 2 no connection, 3 refused by\n"
	"the server, 4 lease recalled or busy for too long, 5 lease revoked.\n";

static void print_help(void)
{
	fputs(help_text, stdout);
	for (size_t i = 0; i < PML_ARRAY_LEN(commands); i++)
		printf("  %-10s %-16s %s\n", commands[i].name, commands[i].operands,
		       commands[i].summary);
	fputs(help_end, stdout);
	fputs(help_statuses, stdout);
}

static void print_command_help(const struct subcommand *command)
{
	printf("Usage: pmemlease %s [OPTION]... %s\n%s\n", command->name, command->operands,
	       command->about);
	print_options(command->takes);
	fputs(help_statuses, stdout);
}

/* ---- dispatch ----------------------------------------------------------- */

static const struct subcommand *find_command(const char *name)
{
	for (size_t i = 0; i < PML_ARRAY_LEN(commands); i++)
		if (strcmp(commands[i].name, name) == 0)
			return &commands[i];
	return NULL;
}

/* Before the command there are only these.  An exit status. */
static int run_without_command(const char *option)
{
	if (!option)
		return report_local("no command given: see pmemlease --help");
	if (strcmp(option, "-h") == 0 || strcmp(option, "--help") == 0)
		print_help();
	else if (strcmp(option, "-V") == 0 || strcmp(option, "--version") == 0)
		printf("pmemlease %s\n", PML_VERSION);
	else
		return report_local("%s: options stand behind the command: see pmemlease --help",
				    option);
	return 0;
}

static int check_operands(const struct subcommand *command, int count)
{
	bool is_few = count < command->min_operands;
	bool is_many = command->max_operands && count > command->max_operands;
	if (!is_few && !is_many)
		return 0;
	return report_local("%s: takes %s, and got %s: see pmemlease %s --help", command->name,
			    command->operands,
			    count == 0 ? "nothing"
			    : is_few   ? "less"
				       : "more",
			    command->name);
}

static int run_command(const struct subcommand *command, int argc, char **argv)
{
	struct session session = {.opt = {.is_quiet = false}};
	int first = 0;
	pml_list_init(&session.servers);
	int err = parse_options(command, argc, argv, &session.opt, &first);
	if (err > 0)
		print_command_help(command);
	if (err)
		return err > 0 ? 0 : EXIT_LOCAL;
	int status = check_operands(command, argc - first);
	if (!status)
		status = command->run(&session, argc - first, argv + first);
	session_fini(&session);
	return status;
}

int main(int argc, char **argv)
{
	int status;
	signal(SIGPIPE, SIG_IGN); /* a closed standard output is an error like others */
	if (argc < 2 || argv[1][0] == '-') {
		status = run_without_command(argv[1]);
	} else {
		const struct subcommand *command = find_command(argv[1]);
		if (!command)
			status = report_local("%s: no such command: see pmemlease --help", argv[1]);
		else if (command->main)
			status = command->main(argc - 1, argv + 1);
		else
			status = run_command(command, argc - 1, argv + 1);
	}
	if (fflush(stdout) == EOF && status == 0)
		status = report_local("standard output: %s", strerror(errno));
	return status;
}
