/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * lines.c -- see lines.h
 */
#include <fcntl.h>
#include <sodium.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "lines.h"

static int fail_file(const char *path, int err, char *ret_reason, const char *why)
{
	(void)snprintf(ret_reason, PML_REASON_BYTES, "%.150s: %.100s", path, why);
	return err;
}

/* Who may write a file of rules or read one of secrets is as good as an administrator. */
static int check_file(int fd, const char *path, mode_t forbidden, const char *remedy,
		      char *ret_reason)
{
	struct stat st;
	if (fstat(fd, &st) != 0)
		return fail_file(path, -errno, ret_reason, strerror(errno));
	if (!S_ISREG(st.st_mode))
		return fail_file(path, -EINVAL, ret_reason, "not a regular file");
	if (st.st_uid != 0 && st.st_uid != geteuid())
		return fail_file(path, -EPERM, ret_reason,
				 "belongs to another user: chown it to yours");
	if (st.st_mode & forbidden) {
		(void)snprintf(ret_reason, PML_REASON_BYTES,
			       "%.100s: its group or others may %s it: %s %.80s", path,
			       forbidden & 044 ? "read" : "write", remedy, path);
		return -EPERM;
	}
	if (st.st_size > (off_t)PML_LINES_BYTES_MAX)
		return fail_file(path, -EFBIG, ret_reason, "longer than 1 MiB");
	return 0;
}

/* Assumes: @text has room for PML_LINES_BYTES_MAX + 1. */
static int read_text(int fd, const char *path, char *text, char *ret_reason)
{
	size_t bytes = 0;
	for (;;) {
		ssize_t n = read(fd, text + bytes, PML_LINES_BYTES_MAX + 1 - bytes);
		if (n < 0)
			return fail_file(path, -errno, ret_reason, strerror(errno));
		if (n == 0)
			break;
		bytes += (size_t)n;
		if (bytes > PML_LINES_BYTES_MAX)
			return fail_file(path, -EFBIG, ret_reason, "longer than 1 MiB");
	}
	text[bytes] = 0;
	if (memchr(text, 0, bytes))
		return fail_file(path, -EINVAL, ret_reason, "a zero byte in it: no text");
	return 0;
}

int pml_lines_open(const char *path, mode_t forbidden, const char *remedy,
		   struct pml_lines *ret_lines, char *ret_reason)
{
	/* O_NONBLOCK: a fifo must not keep us. */
	pml_auto_close int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	if (fd < 0)
		return fail_file(path, -errno, ret_reason, strerror(errno));
	int err = check_file(fd, path, forbidden, remedy, ret_reason);
	if (err)
		return err;
	char *text = sodium_init() < 0 ? NULL : sodium_malloc(PML_LINES_BYTES_MAX + 1);
	if (!text)
		return fail_file(path, -ENOMEM, ret_reason, "out of memory");
	err = read_text(fd, path, text, ret_reason);
	if (err) {
		sodium_free(text);
		return err;
	}
	*ret_lines = (struct pml_lines){.path = path, .text = text, .rest = text};
	return 0;
}

char *pml_lines_next(struct pml_lines *lines)
{
	while (*lines->rest) {
		char *line = lines->rest;
		size_t bytes = strcspn(line, "\n");
		lines->rest += bytes + (line[bytes] == '\n');
		line[bytes] = 0;
		lines->number++;
		line += strspn(line, " \t\r");
		if (*line && *line != '#')
			return line;
	}
	return NULL;
}

int pml_lines_fail(const struct pml_lines *lines, char *ret_reason, const char *format, ...)
{
	int used =
		snprintf(ret_reason, PML_REASON_BYTES, "%.100s:%u: ", lines->path, lines->number);
	va_list args;
	va_start(args, format);
	(void)vsnprintf(ret_reason + used, PML_REASON_BYTES - (size_t)used, format, args);
	va_end(args);
	return -EINVAL;
}

void pml_lines_close(struct pml_lines *lines)
{
	sodium_free(lines->text); /* wipes it */
	lines->text = NULL;
}

/* ---- words -------------------------------------------------------------- */

char *pml_word_next(char **at)
{
	char *word = *at + strspn(*at, " \t\r");
	if (*word == 0 || *word == '#') {
		*at = word + strlen(word);
		return NULL;
	}
	bool is_quoted = *word == '"';
	word += is_quoted;
	size_t bytes = strcspn(word, is_quoted ? "\"" : " \t\r");
	if (is_quoted && word[bytes] == 0) {
		*at = NULL;
		return NULL;
	}
	*at = word + bytes + (word[bytes] != 0);
	word[bytes] = 0;
	return word;
}

int pml_word_number(const char *word, uint32_t max, uint32_t *ret_number)
{
	size_t digits = strspn(word, "0123456789");
	if (digits == 0 || digits > 10 || word[digits])
		return -EINVAL;
	unsigned long long number = strtoull(word, NULL, 10);
	if (number > max)
		return -EINVAL;
	*ret_number = (uint32_t)number;
	return 0;
}
