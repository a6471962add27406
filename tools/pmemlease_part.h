/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * pmemlease_part.h -- a local file that is not complete yet, beside the one it will be
 *
 * All that return int return an exit status; what is wrong was printed.
 */
#ifndef PML_TOOLS_PMEMLEASE_PART_H
#define PML_TOOLS_PMEMLEASE_PART_H

#include "pmemlease.h"

struct part {
	/* Set by the caller. */
	int dirfd;	   /* where; readable */
	const char *shown; /* for messages: the file that it will be */
	const char *url;   /* of the remote file */
	struct pml_client_attr attr;
	bool is_resumed;
	bool is_unsynced;
	/* Of pmemlease_part.c. */
	int fd; /* for reading and writing */
	char *name;
	char *note_name;
	uint64_t size;
	uint64_t noted_ms;
	uint64_t noted_pos;
	bool is_complete;
};

/* *ret_pos: so many bytes are there already. */
int part_open(struct part *part, const char *name, uint64_t *ret_pos) PML_MUST_CHECK;
/* The copy has come to @pos: notes that now and then. */
int part_note(struct part *part, uint64_t pos) PML_MUST_CHECK;
/* All of it is there: on 0 it is on its disk and has the name @name. */
int part_complete(struct part *part, const char *name) PML_MUST_CHECK;
/* Removes what is not complete, or notes how far it came. */
int part_close(struct part *part, uint64_t pos);

#endif
