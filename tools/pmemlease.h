/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * pmemlease.h -- what the files of the program pmemlease share
 *
 * pmemlease.c        command line, ls, stat
 * pmemlease_copy.c   get, put
 * pmemlease_tree.c   get -r
 * pmemlease_bench.c  bench
 * pmemlease_fencetest.c  fencetest
 */
#ifndef PML_TOOLS_PMEMLEASE_H
#define PML_TOOLS_PMEMLEASE_H

#include "pmemleasefs/client.h"
#include "pml/base.h"

/* Exit statuses, as in pmemlease(1). */
enum {
	EXIT_LOCAL = 1,	   /* usage, or something on this side */
	EXIT_CONNECT = 2,  /* cannot connect, or the connection was lost */
	EXIT_REMOTE = 3,   /* the server refused */
	EXIT_RECALLED = 4, /* recalled, or busy, and not obtained in time */
	EXIT_REVOKED = 5,  /* the server revoked a lease */
};

struct options {
	const char *command;
	const char *url;
	const char *path; /* inside url; "" is the root */
	const char *file; /* get, put: the local one */
	uint64_t lease_bytes;
	double hold_s;
	uint32_t wait_ms;
	uint32_t timeout_ms;
	bool is_long;
	bool is_recursive;
	bool ignore_recall;
	bool is_downgrade;
	unsigned int lease_kind; /* PML_CLIENT_ bits, without the direction */
	bool is_quiet;
	bool force_progress;
	/* bench */
	bool is_write;
	bool is_json;
	uint32_t op_bytes;
	uint32_t depth;
	uint64_t count;
	uint64_t file_size;
};

/*
 * Prints "pmemlease: what: why" for an error of the client library and returns the
 * exit status that stands for it.
 */
int report_remote(struct pml_client *client, const char *what, int err);
/* The same for a local error, in the manner of printf(3).  Returns EXIT_LOCAL. */
int report_local(const char *fmt, ...) PML_PRINTF(1, 2);

/* The commands.  Each returns an exit status. */
int run_get(struct pml_client *client, const struct options *opt);
/* get -r of a directory. */
int run_get_tree(struct pml_client *client, const struct options *opt);
int run_put(struct pml_client *client, const struct options *opt);
int run_bench(struct pml_client *client, const struct options *opt);
/* The command line from "fencetest" on. */
int main_fencetest(int argc, char **argv);

#endif
