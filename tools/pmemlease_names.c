/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * pmemlease_names.c -- rm, mkdir, mv, ln, clone, df: what needs no lease of ours
 *
 * Each path means what it says: symbolic links are not followed.  A command of
 * several operands goes on after one that was refused.
 */
#include <inttypes.h>
#include <string.h>

#include "pmemlease.h"
#include "size.h"
#include "text.h"

#define TRIES 100

/* Operands of a command. */
struct run {
	struct session *session;
	const struct options *opt;
	int status; /* the first that was not 0 */
	bool has_printed;
};

static void note(struct run *r, int status)
{
	if (status && !r->status)
		r->status = status;
}

static int fail(const struct place *place, const char *path, int err)
{
	return report_remote(place->server->client, shown_path(path), err);
}

/* Calls @each with every operand. */
static int run_each(struct session *session, int count, char **urls,
		    int (*each)(struct run *r, const struct place *place))
{
	struct run r = {.session = session, .opt = &session->opt};
	for (int i = 0; i < count; i++) {
		struct place place = {0};
		int status = find_place(session, urls[i], &place);
		if (!status)
			status = each(&r, &place);
		note(&r, status);
		place_fini(&place);
		if (is_final(status))
			break;
	}
	if (session->opt.is_json)
		puts(r.has_printed ? "]" : "[]");
	return r.status;
}

/* ---- rm ----------------------------------------------------------------- */

static int remove_name(struct run *r, const struct place *place, const char *path)
{
	int err = pml_client_unlink(place->server->client, path);
	if (err == -ENOENT && r->opt->is_forced)
		return 0;
	return err ? fail(place, path, err) : 0;
}

/* Removes all but the directories, which go to the end of @todo.  An exit status. */
static int empty_directory(struct run *r, const struct place *place, const char *path,
			   struct pml_list *todo)
{
	struct pml_list entries;
	struct entry *entry;
	pml_list_init(&entries);
	int status = list_directory(place->server, path, &entries);
	pml_list_for_each(entry, &entries, link) {
		pml_auto_free char *below = join_path(path, entry->name);
		if (!below) {
			status = EXIT_LOCAL;
		} else if (S_ISDIR(entry->type)) {
			struct entry *dir = new_entry(below, entry->type);
			if (dir)
				pml_list_append(todo, &dir->link);
			else
				status = report_local("out of memory");
		} else {
			int own = remove_name(r, place, below);
			status = own ? own : status;
		}
		if (is_final(status))
			break;
	}
	free_entries(&entries);
	return status;
}

/* Those that were found last are the deepest. */
static int remove_directories(struct run *r, const struct place *place, struct pml_list *dirs)
{
	int status = 0;
	while (!pml_list_is_empty(dirs) && !is_final(status)) {
		struct entry *dir = pml_list_entry(dirs->prev, struct entry, link);
		int err = pml_client_rmdir(place->server->client, dir->name);
		if (err && !(err == -ENOENT && r->opt->is_forced))
			status = fail(place, dir->name, err);
		pml_list_remove(&dir->link);
		free(dir);
	}
	return status;
}

static int remove_tree(struct run *r, const struct place *place)
{
	struct pml_list todo, done;
	int status = 0;
	pml_list_init(&todo);
	pml_list_init(&done);
	struct entry *dir = new_entry(place->path, S_IFDIR);
	if (!dir)
		return report_local("out of memory");
	pml_list_append(&todo, &dir->link);
	while (!pml_list_is_empty(&todo) && !is_final(status)) {
		dir = pml_list_entry(todo.next, struct entry, link);
		pml_list_remove(&dir->link);
		pml_list_append(&done, &dir->link);
		int own = empty_directory(r, place, dir->name, &todo);
		status = own ? own : status;
	}
	/* After an error those above it are not empty: each would say so. */
	int late = status ? 0 : remove_directories(r, place, &done);
	free_entries(&todo);
	free_entries(&done);
	return status ? status : late;
}

static int remove_place(struct run *r, const struct place *place)
{
	if (!place->path[0])
		return report_refused("/: is not removed");
	int err = pml_client_unlink(place->server->client, place->path);
	if (err == -ENOENT && r->opt->is_forced)
		return 0;
	if (err == -EISDIR && r->opt->is_recursive)
		return remove_tree(r, place);
	if (err == -EISDIR)
		return report_refused("%s: is a directory: use rm -r", place->path);
	return err ? fail(place, place->path, err) : 0;
}

int run_rm(struct session *session, int count, char **operands)
{
	return run_each(session, count, operands, remove_place);
}

/* ---- mkdir -------------------------------------------------------------- */

static int make_directory(const struct place *place, const char *path, mode_t mode)
{
	struct pml_client_attr attr;
	return pml_client_mkdir(place->server->client, path, mode, &attr);
}

/* Makes what is not there of the directories above @path.  -errno. */
static int make_parents(const struct place *place, char *path)
{
	struct pml_client_attr attr;
	int err = -ENOENT;
	char *end = path + strlen(path);
	/* Up to one that is there: those above it may not be ours to see. */
	while (err == -ENOENT && end > path) {
		while (end > path && *--end != '/')
			;
		char was = *end;
		*end = 0;
		err = pml_client_stat(place->server->client, path, &attr);
		*end = was;
	}
	if (err)
		return err;
	for (char *next = strchr(end + 1, '/'); next; next = strchr(next + 1, '/')) {
		*next = 0;
		err = next[-1] ? make_directory(place, path, 0777 & ~current_umask()) : 0;
		*next = '/';
		if (err && err != -EEXIST)
			return err;
	}
	return 0;
}

static int make_place(struct run *r, const struct place *place)
{
	struct pml_client_attr attr;
	mode_t mode = r->opt->has_mode ? r->opt->mode : 0777 & ~current_umask();
	int err = make_directory(place, place->path, mode);
	if (err == -ENOENT && r->opt->with_parents) {
		pml_auto_free char *path = strdup(place->path);
		if (!path)
			return report_local("out of memory");
		err = make_parents(place, path);
		if (!err)
			err = make_directory(place, place->path, mode);
	}
	if (r->opt->with_parents && (err == -EEXIST || !place->path[0])) {
		err = pml_client_stat(place->server->client, place->path, &attr);
		if (!err && !S_ISDIR(attr.mode))
			return report_refused("%s: is there and no directory", place->path);
	}
	return err ? fail(place, place->path, err) : 0;
}

int run_mkdir(struct session *session, int count, char **operands)
{
	return run_each(session, count, operands, make_place);
}

/* ---- mv, ln, clone ------------------------------------------------------ */

/* What does it with two paths of one server.  An exit status. */
typedef int (*pair_fn)(struct run *r, const struct place *from, const char *to);

static int run_pair(struct run *r, const struct place *from, const struct place *to, bool into,
		    pair_fn each)
{
	if (from->server != to->server)
		return report_local(
			"both URLs have to be of one server and export: use get and put");
	pml_auto_free char *path =
		into ? join_path(to->path, name_of(from->path)) : strdup(to->path);
	if (!path)
		return report_local("out of memory");
	return each(r, from, path);
}

/* Of two names the second is meant where something is there already. */
static int fail_pair(const struct place *from, const char *to, int err)
{
	if (err == -EEXIST || err == -ENOTEMPTY || err == -EISDIR)
		return report_refused("%s: %s", shown_path(to), strerror(-err));
	return fail(from, from->path, err);
}

/* Is the place a directory, into which things go?  An exit status. */
static int is_directory(const struct place *place, bool *ret_is)
{
	struct pml_client_attr attr;
	int err = pml_client_stat(place->server->client, place->path, &attr);
	if (err && err != -ENOENT)
		return fail(place, place->path, err);
	*ret_is = !err && S_ISDIR(attr.mode);
	return 0;
}

static int run_pairs(struct session *session, int count, char **urls, pair_fn each)
{
	struct run r = {.session = session, .opt = &session->opt};
	struct place to = {0};
	bool into = false;
	int status = find_place(session, urls[count - 1], &to);
	if (!status)
		status = is_directory(&to, &into);
	if (!status && count > 2 && !into)
		status = report_refused("%s: %s", shown_path(to.path), strerror(ENOTDIR));
	note(&r, status);
	for (int i = 0; i < count - 1 && !status; i++) {
		struct place from = {0};
		int own = find_place(session, urls[i], &from);
		if (!own)
			own = run_pair(&r, &from, &to, into, each);
		note(&r, own);
		place_fini(&from);
		if (is_final(own))
			break;
	}
	place_fini(&to);
	return r.status;
}

static int move(struct run *r, const struct place *from, const char *to)
{
	unsigned int flags = r->opt->no_replace ? PML_CLIENT_RENAME_NOREPLACE : 0;
	int err = pml_client_rename(from->server->client, from->path, to, flags);
	return err ? fail_pair(from, to, err) : 0;
}

int run_mv(struct session *session, int count, char **operands)
{
	return run_pairs(session, count, operands, move);
}

static int link_name(struct run *r, const struct place *from, const char *to)
{
	struct pml_client_attr attr;
	(void)r;
	int err = pml_client_link(from->server->client, from->path, to, &attr);
	return err ? fail_pair(from, to, err) : 0;
}

static int make_symlink(struct session *session, const char *target, const char *url)
{
	struct place to = {0};
	struct pml_client_attr attr;
	bool into = false;
	int status = find_place(session, url, &to);
	if (!status)
		status = is_directory(&to, &into);
	pml_auto_free char *path = status ? NULL
				   : into ? join_path(to.path, name_of(target))
					  : strdup(to.path);
	int err = path ? pml_client_symlink(to.server->client, target, path, &attr) : 0;
	if (err)
		status = fail(&to, path, err);
	else if (!path && !status)
		status = report_local("out of memory");
	place_fini(&to);
	return status;
}

int run_ln(struct session *session, int count, char **operands)
{
	if (!session->opt.is_symbolic)
		return run_pairs(session, count, operands, link_name);
	if (count != 2)
		return report_local("ln: takes -s TARGET URL: see pmemlease ln --help");
	return make_symlink(session, operands[0], operands[1]);
}

/* Makes the file that shares the blocks.  -errno; *ret_temp is owned by the caller. */
static int clone_to_temp(const struct place *from, const struct pml_client_attr *src,
			 const char *to, mode_t mode, char **ret_temp)
{
	struct pml_client *client = from->server->client;
	struct pml_client_attr attr;
	int err = -EEXIST;
	for (int i = 0; i < TRIES && err == -EEXIST; i++) {
		free(*ret_temp);
		*ret_temp = random_temp_path(to);
		err = !*ret_temp ? -ENOMEM
				 : pml_client_create(client, *ret_temp, mode | 0600, true, &attr);
	}
	if (!err && src->size_bytes > 0)
		err = pml_client_clone_at(client, &src->handle, 0, &attr.handle, 0, 0, NULL);
	const struct pml_client_set set = {.what = PML_CLIENT_SET_MODE, .mode = mode};
	if (!err && mode != (mode | 0600))
		err = pml_client_setattr_at(client, &attr.handle, &set, &attr);
	return err;
}

/* The file that is there is replaced when the new one is complete. */
static int clone(struct run *r, const struct place *from, const char *to)
{
	struct pml_client *client = from->server->client;
	struct pml_client_attr src, old;
	int err = pml_client_stat(from->server->client, from->path, &src);
	if (err)
		return fail(from, from->path, err);
	if (!S_ISREG(src.mode))
		return report_refused("%s: not a regular file", shown_path(from->path));
	err = pml_client_stat(from->server->client, to, &old);
	if (err && err != -ENOENT)
		return fail(from, to, err);
	if (!err && old.ino == src.ino && old.generation == src.generation)
		return report_refused("%s and %s are the same file", from->path, to);
	mode_t mode =
		!err && S_ISREG(old.mode) ? old.mode & 0777 : src.mode & 0777 & ~current_umask();
	char *temp = NULL;
	err = clone_to_temp(from, &src, to, mode, &temp);
	if (!err)
		err = pml_client_rename(client, temp, to,
					r->opt->no_replace ? PML_CLIENT_RENAME_NOREPLACE : 0);
	int status = !err   ? 0
		     : temp ? report_instead(client, to, temp, err)
			    : report_local("out of memory");
	if (err && temp)
		(void)pml_client_unlink(client, temp);
	free(temp);
	return status;
}

int run_clone(struct session *session, int count, char **operands)
{
	return run_pairs(session, count, operands, clone);
}

/* ---- df ----------------------------------------------------------------- */

static unsigned int percent(uint64_t part, uint64_t whole)
{
	return whole ? (unsigned int)((double)part * 100 / (double)whole + 0.999) : 0;
}

static void print_space(const struct place *place, const struct pml_client_statfs *st)
{
	uint64_t used = st->blocks - PML_MIN(st->blocks_free, st->blocks);
	uint64_t inodes_used = st->inodes - PML_MIN(st->inodes_free, st->inodes);
	char size[PML_SIZE_TEXT_BYTES], used_text[PML_SIZE_TEXT_BYTES], free[PML_SIZE_TEXT_BYTES];
	pml_size_format(st->blocks * st->block_bytes, size);
	pml_size_format(used * st->block_bytes, used_text);
	pml_size_format(st->blocks_free * st->block_bytes, free);
	printf("%10s %10s %10s %4u%% %10" PRIu64 " %4u%%  ", size, used_text, free,
	       percent(used, st->blocks), inodes_used, percent(inodes_used, st->inodes));
	pml_text_print_escaped(stdout, place->server->host);
	putchar('\n');
}

static void print_json_space(const struct place *place, const struct pml_client_statfs *st)
{
	uint64_t used = st->blocks - PML_MIN(st->blocks_free, st->blocks);
	printf("{\"server\": ");
	pml_text_print_json(stdout, place->server->host);
	printf(", \"size\": %" PRIu64 ", \"used\": %" PRIu64 ", \"free\": %" PRIu64
	       ", \"block_bytes\": %u, \"inodes\": %" PRIu64 ", \"inodes_free\": %" PRIu64
	       ", \"name_max\": %u}",
	       st->blocks * st->block_bytes, used * st->block_bytes,
	       st->blocks_free * st->block_bytes, st->block_bytes, st->inodes, st->inodes_free,
	       st->name_max);
}

static int show_space(struct run *r, const struct place *place)
{
	struct pml_client_statfs st;
	int err = pml_client_statfs(place->server->client, &st);
	if (err)
		return fail(place, place->path, err);
	if (r->opt->is_json) {
		fputs(r->has_printed ? ",\n " : "[", stdout);
		print_json_space(place, &st);
	} else {
		if (!r->has_printed)
			printf("%10s %10s %10s %5s %10s %5s  %s\n", "Size", "Used", "Avail", "Use%",
			       "Inodes", "IUse%", "Server");
		print_space(place, &st);
	}
	r->has_printed = true;
	return 0;
}

int run_df(struct session *session, int count, char **operands)
{
	return run_each(session, count, operands, show_space);
}
