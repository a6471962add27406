/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * lines.h -- a small text file of an administrator, read line by line
 *
 * '#' begins a comment where a word would begin; empty lines are skipped.  The text is kept
 * out of core dumps and wiped, as it may hold secrets.
 *
 * Threads: none of its own; one reader at a time.
 */
#ifndef PML_RDMA_LINES_H
#define PML_RDMA_LINES_H

#include <sys/types.h>

#include "pml/base.h"

#define PML_LINES_BYTES_MAX (1u << 20)

struct pml_lines {
	const char *path; /* the caller's */
	char *text;
	char *rest;	     /* behind the current line */
	unsigned int number; /* of the current line, from 1 */
};

/*
 * pml_lines_open() - read the whole file
 * @forbidden: permission bits that the file must not have
 * @remedy:    what to do about them, as in "chmod 600"
 * @ret_reason: PML_REASON_BYTES; a line that names the file and the remedy
 *
 *   -EPERM  one of @forbidden is set, or the file is neither the caller's nor root's
 *   -EINVAL no regular file, or a zero byte in it
 *   -EFBIG  more than PML_LINES_BYTES_MAX
 *   -ENOMEM, -errno of open(2) and read(2)
 */
int pml_lines_open(const char *path, mode_t forbidden, const char *remedy,
		   struct pml_lines *ret_lines, char *ret_reason) PML_MUST_CHECK;
/* The next line that says something; NULL at the end.  It may be written to. */
char *pml_lines_next(struct pml_lines *lines);
/* Writes "PATH:LINE: ..." and returns -EINVAL. */
int pml_lines_fail(const struct pml_lines *lines, char *ret_reason, const char *format, ...)
	PML_PRINTF(3, 4);
void pml_lines_close(struct pml_lines *lines);

/*
 * Cuts the next word, up to white space, off *@at; NULL at the end or before a comment.  One
 * that begins with '"' reaches to the next '"'; without that it is NULL, too, and *@at set to
 * NULL.
 */
char *pml_word_next(char **at);
/* A decimal number up to @max with nothing behind it.  -EINVAL. */
int pml_word_number(const char *word, uint32_t max, uint32_t *ret_number) PML_MUST_CHECK;

/* The greatest uid or gid: the one above stands for "none" in the kernel. */
#define PML_ID_MAX (UINT32_MAX - 1)

#endif
