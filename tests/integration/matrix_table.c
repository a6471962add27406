/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * matrix_table.c -- the tables of docs/lease-protocol.md, "Matrix", as they stand there
 *
 * The first cell of a table's heading says which one it is: "operation", "holder".  A word
 * that is not known, a row that is missing or there twice, a cell too many: all are errors,
 * so that nothing is in the document that no test has seen.
 */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pmemleasefs/ioctl.h"

#include "matrix.h"

#define LINE_BYTES  1024
#define COLUMNS_MAX 10

const char *const policy_names[POLICIES] = {"revoke", "ebusy", "block", "skip"};
const char *const op_names[OPS] = {
	[OP_TRUNCATE_DOWN] = "truncate down",
	[OP_TRUNCATE_UP] = "truncate up",
	[OP_TRUNCATE_OPEN] = "O_TRUNC",
	[OP_PUNCH] = "punch",
	[OP_ZERO] = "zero",
	[OP_COLLAPSE] = "collapse",
	[OP_INSERT] = "insert",
	[OP_UNSHARE_WRITE] = "write to shared blocks",
	[OP_UNSHARE_CALL] = "unshare by ioctl",
	[OP_CLONE_SRC] = "clone, source",
	[OP_CLONE_DST] = "clone, destination",
	[OP_UNSHARE_WRITE_BOTH] = "write to blocks shared with a leased file",
	[OP_UNSHARE_CALL_BOTH] = "unshare from a leased file",
	[OP_DEDUPE_SRC] = "dedupe, source",
	[OP_DEDUPE_DST] = "dedupe, destination",
	[OP_RELOCATE] = "relocate",
	[OP_SNAPSHOT] = "snapshot",
};
const char *const kind_names[KINDS] = {
	[KIND_READ] = "read",
	[KIND_SHARED_READ] = "shared read",
	[KIND_WRITE] = "write",
	[KIND_PAST_END] = "write past the end",
	[KIND_SHARED_WRITE] = "shared write",
};
const char *const who_names[WHOS] = {
	[WHO_IGNORING] = "ignoring",
	[WHO_SILENT] = "silent",
	[WHO_SEVERAL] = "cooperative and ignoring",
	[WHO_STOPPED] = "stopped",
	[WHO_SLOW] = "slow",
	[WHO_COOPERATIVE] = "cooperative",
	[WHO_KILLED] = "killed",
	[WHO_UNBREAKABLE] = "unbreakable",
	[WHO_CALLER] = "the caller",
	[WHO_CALLER_UNBREAKABLE] = "the caller, unbreakable",
};
const char *const result_names[RESULTS] = {
	[RESULT_GOES] = "goes",	 [RESULT_WAITS] = "waits",     [RESULT_WAITS_ON] = "waits on",
	[RESULT_BUSY] = "EBUSY", [RESULT_SKIPPED] = "skipped", [RESULT_DEADLOCK] = "EDEADLK",
};
const char *const fate_names[FATES] = {
	[FATE_LIVES] = "lives",		  [FATE_RETURNED] = "returned",
	[FATE_CONFLICT] = "conflict",	  [FATE_SILENT] = "silent",
	[FATE_EXPIRED] = "expired",	  [FATE_DIED] = "died",
	[FATE_OWN_CHANGE] = "own change",
};
static const char *const way_names[WAYS] = {
	[WAY_MEETS] = "meets", [WAY_PASSES] = "passes", [WAY_CANNOT] = "cannot meet: I5"};

/* The names of pmemleasefs(7) and of mount options, by enum pml_ioc_op. */
static const char *const change_names[] = {
	[PML_IOC_OP_TRUNCATE] = "truncate",   [PML_IOC_OP_PUNCH] = "punch",
	[PML_IOC_OP_UNSHARE] = "unshare",     [PML_IOC_OP_CLONE_SRC] = "clone-src",
	[PML_IOC_OP_CLONE_DST] = "clone-dst", [PML_IOC_OP_ZERO] = "zero",
	[PML_IOC_OP_COLLAPSE] = "collapse",   [PML_IOC_OP_INSERT] = "insert",
	[PML_IOC_OP_DEDUPE] = "dedupe",	      [PML_IOC_OP_RELOCATE] = "relocate",
	[PML_IOC_OP_SNAPSHOT] = "snapshot",
};

enum which { TABLE_NONE, TABLE_OPERATIONS, TABLE_HOLDERS, TABLE_OTHER };

/* Where the reader is. */
struct reader {
	const char *path;
	unsigned int line;
	enum which which;
	bool has_op[OPS], has_who[WHOS];
	struct table *table;
};

int index_of(const char *const *names, size_t n, const char *name)
{
	for (size_t i = 0; i < n; i++) {
		if (names[i] && strcmp(names[i], name) == 0)
			return (int)i;
	}
	return -1;
}

static int wrong(const struct reader *r, const char *what, const char *word)
{
	printf("# %s:%u: %s: \"%s\"\n", r->path, r->line, what, word);
	return -1;
}

/* Takes spaces and the quotes of code away at both ends. */
static char *trim(char *text)
{
	while (*text == ' ' || *text == '`')
		text++;
	size_t n = strlen(text);
	while (n > 0 && (isspace((unsigned char)text[n - 1]) || text[n - 1] == '`'))
		text[--n] = '\0';
	return text;
}

/* Cuts a row into its cells.  Returns how many, or -1: no row. */
static int split(char *line, char **ret_cells)
{
	int n = 0;
	char *rest = trim(line);
	if (*rest != '|')
		return -1;
	rest++;
	for (char *end = strchr(rest, '|'); end && n < COLUMNS_MAX; end = strchr(rest, '|')) {
		*end = '\0';
		ret_cells[n++] = trim(rest);
		rest = end + 1;
	}
	return n;
}

/* ---- rows ------------------------------------------------------------------ */

/* "waits; returned", "waits; returned and conflict" */
static int read_outcome(const struct reader *r, enum who who, char *text,
			struct outcome *ret_outcome)
{
	char whole[LINE_BYTES], *rest = NULL;
	(void)snprintf(whole, sizeof(whole), "%s", text);
	struct outcome out = {0};
	char *part = strtok_r(text, ";", &rest);
	int result = part ? index_of(result_names, RESULTS, trim(part)) : -1;
	if (result < 0)
		return wrong(r, "no such result", whole);
	out.result = (enum result)result;
	char *fates = rest ? trim(rest) : (char *)"";
	while (*fates) {
		char *next = strstr(fates, " and ");
		if (next)
			*next = '\0';
		int fate = index_of(fate_names, FATES, trim(fates));
		if (fate < 0 || out.nfates == HOLDERS_MAX)
			return wrong(r, "no such end of a lease", whole);
		out.fate[out.nfates++] = (enum fate)fate;
		fates = next ? next + 5 : (char *)"";
	}
	if (out.nfates != (who == WHO_SEVERAL ? 2u : 1u))
		return wrong(r, "as many ends as holders are wanted", whole);
	*ret_outcome = out;
	return 0;
}

static int read_holder(struct reader *r, char **cells, int n)
{
	if (n != 1 + POLICIES)
		return wrong(r, "a holder has a cell for each policy", cells[0]);
	int who = index_of(who_names, WHOS, cells[0]);
	if (who < 0 || r->has_who[who])
		return wrong(r, "no such holder, or once more", cells[0]);
	r->has_who[who] = true;
	for (int policy = 0; policy < POLICIES; policy++) {
		if (read_outcome(r, (enum who)who, cells[1 + policy],
				 &r->table->outcome[who][policy]) < 0)
			return -1;
	}
	return 0;
}

static int read_yes(const struct reader *r, const char *word, bool *ret_is_yes)
{
	*ret_is_yes = strcmp(word, "yes") == 0;
	return *ret_is_yes || strcmp(word, "no") == 0 ? 0 : wrong(r, "yes or no is wanted", word);
}

static int read_operation(struct reader *r, char **cells, int n)
{
	if (n != 4 + KINDS)
		return wrong(r, "an operation has a cell for each kind of lease", cells[0]);
	int op = index_of(op_names, OPS, cells[0]);
	if (op < 0 || r->has_op[op])
		return wrong(r, "no such operation, or once more", cells[0]);
	r->has_op[op] = true;
	int change = index_of(change_names, COUNT(change_names), cells[1]);
	if (change < 0)
		return wrong(r, "no such change", cells[1]);
	r->table->asks_for[op] = (uint32_t)change;
	if (read_yes(r, cells[2], &r->table->may_skip[op]) ||
	    read_yes(r, cells[3], &r->table->is_through[op]))
		return -1;
	for (int kind = 0; kind < KINDS; kind++) {
		int way = index_of(way_names, WAYS, cells[4 + kind]);
		if (way < 0)
			return wrong(r, "no such word", cells[4 + kind]);
		r->table->way[op][kind] = (enum way)way;
	}
	return 0;
}

/* ---- the section ------------------------------------------------------------ */

/* The columns stand in the order in which the program has them. */
static int read_heading(struct reader *r, char **cells, int n)
{
	bool is_right = false;
	if (strcmp(cells[0], "operation") == 0) {
		r->which = TABLE_OPERATIONS;
		is_right = n == 4 + KINDS && strcmp(cells[1], "asks for") == 0;
		for (int i = 0; is_right && i < KINDS; i++)
			is_right = strcmp(cells[4 + i], kind_names[i]) == 0;
	} else if (strcmp(cells[0], "holder") == 0) {
		r->which = TABLE_HOLDERS;
		is_right = n == 1 + POLICIES;
		for (int i = 0; is_right && i < POLICIES; i++)
			is_right = strcmp(cells[1 + i], policy_names[i]) == 0;
	} else {
		r->which = TABLE_OTHER;
		is_right = true;
	}
	return is_right ? 0 : wrong(r, "other columns than expected", cells[0]);
}

static int read_line(struct reader *r, char *line)
{
	char *cells[COLUMNS_MAX];
	int n = split(line, cells);
	if (n <= 0) {
		r->which = TABLE_NONE;
		return 0;
	}
	if (r->which == TABLE_NONE)
		return read_heading(r, cells, n);
	if (strncmp(cells[0], "---", 3) == 0 || r->which == TABLE_OTHER)
		return 0;
	return r->which == TABLE_OPERATIONS ? read_operation(r, cells, n)
					    : read_holder(r, cells, n);
}

static int check_rows(const struct reader *r)
{
	for (int i = 0; i < OPS; i++) {
		if (!r->has_op[i])
			return wrong(r, "no row for the operation", op_names[i]);
	}
	for (int i = 0; i < WHOS; i++) {
		if (!r->has_who[i])
			return wrong(r, "no row for the holder", who_names[i]);
	}
	return 0;
}

int table_read(const char *path, struct table *ret_table)
{
	struct reader r = {.path = path, .table = ret_table};
	char line[LINE_BYTES];
	bool is_inside = false;
	int err = 0;
	FILE *file = fopen(path, "re");
	if (!file)
		return wrong(&r, "cannot be read", path);
	while (!err && fgets(line, sizeof(line), file)) {
		r.line++;
		if (strncmp(line, "## ", 3) == 0)
			is_inside = strcmp(line, "## Matrix\n") == 0;
		else if (is_inside)
			err = read_line(&r, line);
	}
	(void)fclose(file);
	return err ? err : check_rows(&r);
}
