/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * pmemlease_show.c -- ls and stat: what is there
 *
 * A directory's entries are sorted and their columns fitted, so it is read as a
 * whole before anything is printed.  On a terminal names are escaped, as what
 * others have named may hold anything.
 */
#include <inttypes.h>
#include <string.h>
#include <time.h>

#include "pmemlease.h"
#include "size.h"
#include "text.h"

/* An entry with all that is shown of it. */
struct row {
	const char *name;
	char *path; /* owned */
	struct pml_client_attr attr;
	char *target; /* owned; of a symbolic link, or NULL */
	bool has_attr;
};

/* Widths of columns. */
struct widths {
	int nlink;
	int uid;
	int gid;
	int size;
};

struct ls {
	struct session *session;
	struct server *server;
	bool has_printed; /* something: JSON needs a comma, ls -R an empty line */
	bool has_headings;
	int status;
};

/* ---- pieces ------------------------------------------------------------- */

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

/* "drwxr-xr-x", as strmode(3) of other systems. */
static void format_mode(char ret_text[11], mode_t mode)
{
	static const char types[] = "?pc?d?b?-?l?s???"; /* by S_IFMT >> 12 */
	static const char bits[] = "rwxrwxrwx";
	ret_text[0] = types[(mode & S_IFMT) >> 12];
	for (unsigned int i = 0; i < 9; i++)
		ret_text[1 + i] = mode & (0400u >> i) ? bits[i] : '-';
	if (mode & S_ISUID)
		ret_text[3] = mode & S_IXUSR ? 's' : 'S';
	if (mode & S_ISGID)
		ret_text[6] = mode & S_IXGRP ? 's' : 'S';
	if (mode & S_ISVTX)
		ret_text[9] = mode & S_IXOTH ? 't' : 'T';
	ret_text[10] = 0;
}

static void format_time(char *ret_text, size_t room, int64_t seconds)
{
	time_t t = (time_t)seconds;
	struct tm tm;
	if (!localtime_r(&t, &tm) || strftime(ret_text, room, "%Y-%m-%d %H:%M:%S", &tm) == 0)
		(void)snprintf(ret_text, room, "%" PRId64, seconds);
}

static void print_name(const char *name)
{
	if (isatty(STDOUT_FILENO))
		pml_text_print_escaped(stdout, name);
	else
		fputs(name, stdout);
}

static int digits(uint64_t n)
{
	return snprintf(NULL, 0, "%" PRIu64, n);
}

static void format_size(const struct options *opt, const struct pml_client_attr *attr,
			char *ret_text, size_t room)
{
	bool is_device = S_ISCHR(attr->mode) || S_ISBLK(attr->mode);
	if (is_device)
		(void)snprintf(ret_text, room, "%u, %u", attr->rdev_major, attr->rdev_minor);
	else if (opt->is_human)
		pml_size_format(attr->size_bytes, ret_text);
	else
		(void)snprintf(ret_text, room, "%" PRIu64, attr->size_bytes);
}

/* ---- rows --------------------------------------------------------------- */

static void print_row(const struct ls *ls, const struct row *row, const struct widths *w)
{
	char mode[11], size[32], when[32];
	const struct pml_client_attr *attr = &row->attr;
	if (ls->session->opt.is_long) {
		format_mode(mode, attr->mode);
		format_size(&ls->session->opt, attr, size, sizeof(size));
		format_time(when, sizeof(when), attr->mtime_s);
		printf("%s %*u %*u %*u %*s %s ", mode, w->nlink, attr->nlink, w->uid, attr->uid,
		       w->gid, attr->gid, w->size, size, when);
	}
	print_name(row->name);
	if (row->target) {
		fputs(" -> ", stdout);
		print_name(row->target);
	}
	putchar('\n');
}

static void print_json_time(const char *name, int64_t seconds, uint32_t ns)
{
	printf(", \"%s\": %" PRId64 ".%09u", name, seconds, ns);
}

static void print_json_row(const struct row *row)
{
	const struct pml_client_attr *a = &row->attr;
	printf("{\"path\": ");
	pml_text_print_json(stdout, shown_path(row->path));
	printf(", \"name\": ");
	pml_text_print_json(stdout, row->name);
	printf(", \"type\": \"%s\", \"mode\": \"%04o\", \"nlink\": %u, \"uid\": %u, \"gid\": %u, "
	       "\"size\": %" PRIu64 ", \"blocks_512\": %" PRIu64 ", \"ino\": %" PRIu64
	       ", \"generation\": %" PRIu64,
	       type_name(a->mode), a->mode & 07777, a->nlink, a->uid, a->gid, a->size_bytes,
	       a->blocks_512, a->ino, a->generation);
	print_json_time("atime", a->atime_s, a->atime_ns);
	print_json_time("mtime", a->mtime_s, a->mtime_ns);
	print_json_time("ctime", a->ctime_s, a->ctime_ns);
	if (S_ISCHR(a->mode) || S_ISBLK(a->mode))
		printf(", \"major\": %u, \"minor\": %u", a->rdev_major, a->rdev_minor);
	if (row->target) {
		printf(", \"target\": ");
		pml_text_print_json(stdout, row->target);
	}
	putchar('}');
}

static void next_json(struct ls *ls)
{
	fputs(ls->has_printed ? ",\n " : "[", stdout);
	ls->has_printed = true;
}

static void fit_columns(const struct options *opt, const struct row *row, struct widths *w)
{
	char size[32];
	format_size(opt, &row->attr, size, sizeof(size));
	w->nlink = PML_MAX(w->nlink, digits(row->attr.nlink));
	w->uid = PML_MAX(w->uid, digits(row->attr.uid));
	w->gid = PML_MAX(w->gid, digits(row->attr.gid));
	w->size = PML_MAX(w->size, (int)strlen(size));
}

static void print_rows(struct ls *ls, const struct row *rows, size_t nrows)
{
	struct widths w = {0};
	bool is_json = ls->session->opt.is_json;
	for (size_t i = 0; i < nrows && ls->session->opt.is_long; i++)
		if (rows[i].has_attr)
			fit_columns(&ls->session->opt, &rows[i], &w);
	for (size_t i = 0; i < nrows; i++) {
		if (!rows[i].has_attr)
			continue;
		if (is_json) {
			next_json(ls);
			print_json_row(&rows[i]);
		} else {
			print_row(ls, &rows[i], &w);
		}
	}
}

static void row_fini(struct row *row)
{
	free(row->path);
	free(row->target);
}

static int fill_target(struct ls *ls, struct row *row)
{
	char target[PATH_MAX];
	int err = pml_client_readlink_at(ls->server->client, &row->attr.handle, target,
					 sizeof(target));
	if (err == -ESTALE)
		return 0; /* removed meanwhile */
	if (err)
		return report_remote(ls->server->client, shown_path(row->path), err);
	row->target = strdup(target);
	return row->target ? 0 : report_local("out of memory");
}

/* Asks for what is to be shown of row->path.  An exit status. */
static int fill_row(struct ls *ls, struct row *row)
{
	int err = pml_client_stat(ls->server->client, row->path, &row->attr);
	if (err == -ENOENT && row->name != row->path)
		return 0; /* removed meanwhile */
	if (err)
		return report_remote(ls->server->client, shown_path(row->path), err);
	row->has_attr = true;
	return S_ISLNK(row->attr.mode) ? fill_target(ls, row) : 0;
}

/* ---- ls ----------------------------------------------------------------- */

static void note(struct ls *ls, int status)
{
	if (status && !ls->status)
		ls->status = status;
}

/* All entries of a directory.  An exit status that lets nothing more be done, or 0. */
static int show_entries(struct ls *ls, const char *path, struct pml_list *entries)
{
	const struct options *opt = &ls->session->opt;
	struct entry *entry;
	size_t count = 0, n = 0;
	int status = 0;
	pml_list_for_each(entry, entries, link)
		count++;
	struct row *rows = calloc(PML_MAX(count, (size_t)1), sizeof(*rows));
	if (!rows)
		return report_local("%s: out of memory", shown_path(path));
	pml_list_for_each(entry, entries, link) {
		struct row *row = &rows[n++];
		row->name = entry->name;
		row->has_attr = true;
		if (!opt->is_long && !opt->is_json)
			continue;
		row->has_attr = false;
		row->path = join_path(path, entry->name);
		status = row->path ? fill_row(ls, row) : EXIT_LOCAL;
		note(ls, status);
		if (is_final(status))
			break;
	}
	print_rows(ls, rows, n);
	for (size_t i = 0; i < n; i++)
		row_fini(&rows[i]);
	free(rows);
	return is_final(status) ? status : 0;
}

static void print_heading(const struct ls *ls, const char *path)
{
	if (!ls->has_headings || ls->session->opt.is_json)
		return;
	if (ls->has_printed)
		putchar('\n');
	print_name(shown_path(path));
	fputs(":\n", stdout);
}

/* Puts the directories among @entries in front of @todo, in their order. */
static int queue_below(const char *path, struct pml_list *entries, struct pml_list *todo)
{
	struct pml_list *behind = todo;
	struct entry *entry;
	pml_list_for_each(entry, entries, link) {
		if (!S_ISDIR(entry->type))
			continue;
		pml_auto_free char *below = join_path(path, entry->name);
		struct entry *dir = below ? new_entry(below, entry->type) : NULL;
		if (!dir)
			return report_local("out of memory");
		pml_list_append(behind->next, &dir->link); /* in front of that: behind it */
		behind = &dir->link;
	}
	return 0;
}

static int show_directory(struct ls *ls, const char *path, struct pml_list *todo)
{
	struct pml_list entries;
	pml_list_init(&entries);
	int status = list_directory(ls->server, path, &entries);
	if (!status) {
		print_heading(ls, path);
		status = show_entries(ls, path, &entries);
		ls->has_printed |= !ls->session->opt.is_json;
	}
	if (!status && ls->session->opt.is_recursive)
		status = queue_below(path, &entries, todo);
	free_entries(&entries);
	note(ls, status);
	return is_final(status) ? status : 0;
}

static int show_directories(struct ls *ls, const char *path)
{
	struct pml_list todo;
	pml_list_init(&todo);
	int status = show_directory(ls, path, &todo);
	while (!status && !pml_list_is_empty(&todo)) {
		struct entry *dir = pml_list_entry(todo.next, struct entry, link);
		pml_list_remove(&dir->link);
		status = show_directory(ls, dir->name, &todo);
		free(dir);
	}
	free_entries(&todo);
	return status;
}

static int list_place(struct ls *ls, const char *path)
{
	struct row row = {.name = path, .path = strdup(path)};
	if (!row.path)
		return report_local("out of memory");
	row.name = row.path;
	int status = fill_row(ls, &row);
	if (!status && S_ISDIR(row.attr.mode)) {
		status = show_directories(ls, path);
	} else if (!status) {
		row.name = ls->session->opt.is_json ? name_of(path) : shown_path(path);
		print_rows(ls, &row, 1);
		ls->has_printed = true;
	}
	row_fini(&row);
	note(ls, status);
	return status;
}

int run_ls(struct session *session, int count, char **operands)
{
	struct ls ls = {.session = session, .has_headings = count > 1 || session->opt.is_recursive};
	for (int i = 0; i < count; i++) {
		struct place place = {0};
		int status = find_place(session, operands[i], &place);
		ls.server = place.server;
		if (!status)
			status = list_place(&ls, place.path);
		note(&ls, status);
		place_fini(&place);
		if (is_final(status))
			break;
	}
	if (session->opt.is_json)
		puts(ls.has_printed ? "]" : "[]");
	return ls.status;
}

/* ---- stat --------------------------------------------------------------- */

static void print_stat_time(const char *name, int64_t seconds, uint32_t ns)
{
	time_t t = (time_t)seconds;
	struct tm tm;
	char when[32], zone[16] = "";
	format_time(when, sizeof(when), seconds);
	if (localtime_r(&t, &tm))
		(void)strftime(zone, sizeof(zone), "%z", &tm);
	printf("%s: %s.%09u %s\n", name, when, ns, zone);
}

/* As stat(1) does. */
static void print_stat(const struct row *row)
{
	const struct pml_client_attr *a = &row->attr;
	char mode[11];
	format_mode(mode, a->mode);
	printf("  File: ");
	print_name(shown_path(row->path));
	if (row->target) {
		printf(" -> ");
		print_name(row->target);
	}
	printf("\n  Size: %-15" PRIu64 " Blocks: %-10" PRIu64 " IO Block: %-6u %s\n", a->size_bytes,
	       a->blocks_512, PML_BLOCK_BYTES, type_name(a->mode));
	printf(" Inode: %-15" PRIu64 " Generation: %-6" PRIu64 " Links: %u", a->ino, a->generation,
	       a->nlink);
	if (S_ISCHR(a->mode) || S_ISBLK(a->mode))
		printf("  Device type: %u,%u", a->rdev_major, a->rdev_minor);
	printf("\nAccess: (%04o/%s)  Uid: %u  Gid: %u\n", a->mode & 07777, mode, a->uid, a->gid);
	print_stat_time("Access", a->atime_s, a->atime_ns);
	print_stat_time("Modify", a->mtime_s, a->mtime_ns);
	print_stat_time("Change", a->ctime_s, a->ctime_ns);
}

int run_stat(struct session *session, int count, char **operands)
{
	struct ls ls = {.session = session};
	for (int i = 0; i < count; i++) {
		struct place place = {0};
		struct row row = {0};
		int status = find_place(session, operands[i], &place);
		if (!status) {
			ls.server = place.server;
			row.path = pml_take_ptr(&place.path);
			row.name = row.path;
			status = fill_row(&ls, &row);
		}
		if (!status && session->opt.is_json) {
			row.name = name_of(row.path);
			next_json(&ls);
			print_json_row(&row);
		} else if (!status) {
			print_stat(&row);
		}
		row_fini(&row);
		place_fini(&place);
		note(&ls, status);
		if (is_final(status))
			break;
	}
	if (session->opt.is_json)
		puts(ls.has_printed ? "]" : "[]");
	return ls.status;
}
