/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * pmemlease.h -- what the files of the program pmemlease share
 *
 * pmemlease.c            command line, help, dispatch
 * pmemlease_options.c    every option that a command may take
 * pmemlease_remote.c     servers and paths of URLs, messages
 * pmemlease_show.c       ls, stat
 * pmemlease_names.c      rm, mkdir, mv, ln, clone, df
 * pmemlease_tree.c       a remote directory and all below it
 * pmemlease_get.c        get, cat
 * pmemlease_put.c        put
 * pmemlease_part.c       a local file that is not complete yet
 * pmemlease_copy.c       the bytes of one file, through leases that slide along it
 * pmemlease_progress.c   how far a copy is, and what it did
 * pmemlease_bench.c      bench
 * pmemlease_fencetest.c  fencetest
 */
#ifndef PML_TOOLS_PMEMLEASE_H
#define PML_TOOLS_PMEMLEASE_H

#include <limits.h>
#include <stdio.h>
#include <sys/stat.h>

#include "pmemleasefs/client.h"
#include "pml/base.h"
#include "pml/list.h"

/* Exit statuses, as in pmemlease(1). */
enum {
	EXIT_LOCAL = 1,	   /* usage, or something on this side */
	EXIT_CONNECT = 2,  /* cannot connect, or the connection was lost */
	EXIT_REMOTE = 3,   /* the server refused */
	EXIT_RECALLED = 4, /* recalled, or busy, and not obtained in time */
	EXIT_REVOKED = 5,  /* the server revoked a lease */
};

/* ---- command line ------------------------------------------------------- */

struct options {
	bool is_quiet;
	bool is_json;
	uint32_t timeout_ms;
	uint32_t wait_ms;
	/* ls, stat, df */
	bool is_long;
	bool is_recursive; /* of get, put and rm too */
	bool is_human;
	/* get, put, cat */
	bool force_progress;
	bool preserve;
	bool is_resumed;
	bool is_in_place;
	bool is_verified;
	bool is_unsynced;
	uint32_t retries; /* how often to go on after a revocation */
	uint64_t lease_bytes;
	uint64_t limit; /* bytes in a second; 0: none */
	double hold_s;
	bool ignore_recall;
	bool is_downgrade;
	unsigned int lease_kind; /* PML_CLIENT_ bits, without the direction */
	/* names */
	bool is_forced;
	bool with_parents;
	bool no_replace;
	bool is_symbolic;
	bool has_mode;
	uint32_t mode;
	/* bench */
	const char *url;
	const char *path; /* inside url; "" is the root */
	bool is_write;
	bool is_polling; /* while waiting for completions */
	uint32_t op_bytes;
	uint32_t depth;
	uint64_t count;
	uint64_t file_size;
};

/* Options, by what they do: one bit each in struct subcommand's .takes. */
enum {
	TAKES_LONG,
	TAKES_LS_RECURSIVE,
	TAKES_HUMAN,
	TAKES_COPY_RECURSIVE,
	TAKES_RM_RECURSIVE,
	TAKES_FORCE,
	TAKES_PARENTS,
	TAKES_MODE,
	TAKES_NO_REPLACE,
	TAKES_SYMBOLIC,
	TAKES_PRESERVE,
	TAKES_RESUME,
	TAKES_IN_PLACE,
	TAKES_VERIFY,
	TAKES_NO_SYNC,
	TAKES_RETRY,
	TAKES_LIMIT,
	TAKES_LEASE_BYTES,
	TAKES_HOLD,
	TAKES_IGNORE_RECALL,
	TAKES_SHARED,
	TAKES_UNBREAKABLE,
	TAKES_DOWNGRADE,
	TAKES_PROGRESS,
	TAKES_WRITE,
	TAKES_SIZE,
	TAKES_DEPTH,
	TAKES_COUNT,
	TAKES_FILE_SIZE,
	TAKES_POLL,
	TAKES_JSON,
	TAKES_QUIET,
	TAKES_WAIT,
	TAKES_TIMEOUT,
	TAKES_HELP,
	TAKES_END,
};
#define TAKES(what) (1ull << TAKES_##what)

struct session;

struct subcommand {
	const char *name;
	const char *operands; /* as the usage line shows them */
	const char *summary;  /* one line */
	const char *about;    /* whole lines */
	uint64_t takes;
	int min_operands;
	int max_operands; /* 0: any number */
	/* Returns an exit status. */
	int (*run)(struct session *session, int count, char **operands);
	/* Instead: a command with a command line of its own, from its name on. */
	int (*main)(int argc, char **argv);
};

/*
 * Takes the options of @command out of the command line (argv[0] is its name) and moves the
 * operands to argv[*ret_first] and behind.  0; 1: --help; -EINVAL, printed.
 */
int parse_options(const struct subcommand *command, int argc, char **argv, struct options *ret_opt,
		  int *ret_first) PML_MUST_CHECK;
/* The lines of --help for the options of @takes. */
void print_options(uint64_t takes);

/* ---- servers and paths -------------------------------------------------- */

/* A server that is connected to; it stays so until the end of the program. */
struct server {
	struct pml_list link;
	const struct options *opt;
	struct pml_client *client;
	char *url;  /* that it was connected with: its path says which export is wanted */
	char *host; /* the same without the path */
	char *root; /* shortest path that can be seen, or NULL: not looked for yet */
};

/* What a run of the program works with. */
struct session {
	struct options opt;
	struct pml_list servers;
};

/* Where a URL points.  Owns .path. */
struct place {
	struct server *server;
	char *path; /* "" is the root; no slash at its end */
};

/* Connects if need be.  An exit status; what is wrong was printed. */
int find_place(struct session *session, const char *url, struct place *ret_place) PML_MUST_CHECK;
void place_fini(struct place *place);
void session_fini(struct session *session);

/* The last name in a path, "" of the root. */
const char *name_of(const char *path);
/* "A/B", without a slash more than is needed; NULL: out of memory, printed. */
char *join_path(const char *dir, const char *name);
/* For messages: "/" for the root. */
static inline const char *shown_path(const char *path)
{
	return path[0] ? path : "/";
}
/*
 * Names for what is not complete yet, beside @path: ".NAME.pml-WHAT", with NAME cut where that
 * would be too long.  NULL: out of memory, printed.
 */
char *temp_path(const char *path, const char *what);
char *random_temp_path(const char *path);
/* The bits that new files do not get. */
mode_t current_umask(void);
/* A name that stands for an entry of its directory and nothing else. */
bool is_plain_name(const char *name);

/* Is the connection gone, by what a call has returned? */
static inline bool is_disconnected(int err)
{
	return err == -ENOTCONN || err == -ETIMEDOUT;
}

/*
 * Prints "pmemlease: what: why" for an error of the client library and returns the
 * exit status that stands for it.
 */
int report_remote(struct pml_client *client, const char *what, int err);
/* The same, when what was done to @temp was done for @path. */
int report_instead(struct pml_client *client, const char *path, const char *temp, int err);
/* The same for a local error, in the manner of printf(3).  Returns EXIT_LOCAL. */
int report_local(const char *fmt, ...) PML_PRINTF(1, 2);
/* The same for what the server has refused, or might as well have.  Returns EXIT_REMOTE. */
int report_refused(const char *fmt, ...) PML_PRINTF(1, 2);
/* Of several files: nothing more can be done after this one ended so. */
static inline bool is_final(int status)
{
	return status == EXIT_CONNECT || status == EXIT_REVOKED;
}

/* ---- a signal ----------------------------------------------------------- */

/*
 * Between the two, SIGINT, SIGTERM and SIGHUP do not end the program; a second one does.
 * At the end it is ended by the one that came.
 */
void hold_signals(void);
void release_signals(void);
bool is_interrupted(void);

/* ---- trees -------------------------------------------------------------- */

/* An entry of a remote directory. */
struct entry {
	struct pml_list link;
	mode_t type;
	char name[];
};
/* NULL: out of memory. */
struct entry *new_entry(const char *name, mode_t type);
/* The entries of a directory, without "." and "..", sorted by name.  An exit status. */
int list_directory(struct server *server, const char *path,
		   struct pml_list *ret_entries) PML_MUST_CHECK;
void free_entries(struct pml_list *entries);

/* ---- progress ----------------------------------------------------------- */

#define PROGRESS_SAMPLES 16

/* How far a copy of one or many files is. */
struct progress {
	const struct options *opt;
	bool is_wanted;
	uint64_t start_ms;
	uint64_t total_bytes; /* 0: not known */
	uint64_t done_bytes;  /* of files that are finished */
	uint64_t at_bytes;    /* of the file at hand */
	uint64_t size_bytes;
	const char *name; /* of the file at hand */
	uint64_t shown_ms;
	bool is_shown;
	/* The last few seconds, for the rate. */
	struct {
		uint64_t at_ms;
		uint64_t bytes;
	} samples[PROGRESS_SAMPLES];
	uint32_t nsamples;
	/* What was done. */
	uint64_t moved_bytes; /* through leases; without what was there already */
	uint64_t resumed_bytes;
	uint64_t hole_bytes;
	uint32_t files;
	uint32_t directories;
	uint32_t symlinks;
	uint32_t skipped;
	uint32_t failed;
	uint32_t recalls;
	uint32_t revokes;
	uint32_t reconnects;
};
void progress_init(struct progress *p, const struct options *opt);
void progress_begin(struct progress *p, const char *name, uint64_t size_bytes);
void progress_move(struct progress *p, uint64_t at_bytes);
/* The file at hand is done, or given up. */
void progress_end(struct progress *p);
/* Ends the line, so that a message can be printed. */
void progress_clear(struct progress *p);
/* One JSON object on standard output, if --json. */
void progress_print_summary(const struct progress *p, const char *command);

/* ---- copies ------------------------------------------------------------- */

/* The copy of one regular file. */
struct copy {
	struct server *server;
	const struct options *opt;
	struct progress *progress;
	bool is_put;
	const char *path;  /* remote, to find it again after a connection that broke */
	const char *shown; /* remote, for messages */
	const char *file;  /* local, for messages */
	int fd;		   /* local */
	struct pml_client_attr attr;
	uint64_t size;	/* bytes to copy */
	uint64_t pos;	/* copied; of a put: committed */
	uint64_t end;	/* put: size of the remote file */
	bool is_sparse; /* keep holes: the target has no bytes from .pos on */
	bool is_stream; /* get: the local file is no regular one */
	/* Called when .pos has moved; may be NULL.  An exit status. */
	int (*checkpoint)(struct copy *copy);
	void *arg;
	bool has_resumed; /* there were bytes from an earlier copy */
	/* Of pmemlease_copy.c. */
	bool is_comparing;
	struct pml_client_queue *queue;
	struct pml_client_buffer *buffer;
	size_t half_bytes;
	struct pml_client_lease *lease;
	/* The last chunk, which is still in the buffer. */
	uint64_t chunk_first;
	size_t chunk_bytes;
	size_t chunk_offset;
	uint64_t moved_ms; /* when pos changed last */
	uint32_t leases;   /* that were taken */
	uint32_t revokes;
};

/*
 * Copies from .pos to .size, then holds the last lease if that is wanted (@then, which may be
 * NULL, comes before).  An exit status.
 */
int run_copy(struct copy *copy, int (*then)(struct copy *copy)) PML_MUST_CHECK;
/* Reads all of the remote file again and compares it with the local one.  An exit status. */
int verify_copy(struct copy *copy) PML_MUST_CHECK;
/* The same file in the same state: of the server, and as far as it knows of its bytes. */
bool is_same_version(const struct pml_client_attr *a, const struct pml_client_attr *b);

/* ---- commands ----------------------------------------------------------- */

int run_ls(struct session *session, int count, char **operands);
int run_stat(struct session *session, int count, char **operands);
int run_get(struct session *session, int count, char **operands);
int run_cat(struct session *session, int count, char **operands);
int run_put(struct session *session, int count, char **operands);
int run_rm(struct session *session, int count, char **operands);
int run_mkdir(struct session *session, int count, char **operands);
int run_mv(struct session *session, int count, char **operands);
int run_ln(struct session *session, int count, char **operands);
int run_clone(struct session *session, int count, char **operands);
int run_df(struct session *session, int count, char **operands);
int run_bench(struct pml_client *client, const struct options *opt);
/* The command line from "fencetest" on: it has no server, and options of its own. */
int main_fencetest(int argc, char **argv);

#endif
