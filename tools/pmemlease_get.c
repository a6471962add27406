/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * pmemlease_get.c -- get and cat: from a server to here
 *
 * The server is not trusted with what lies here: below the directory that is
 * copied to, no symbolic link is followed, nothing that is not a regular file is
 * written, and each name is an entry of its directory (pmemlease_tree.c).
 */
#include <fcntl.h>
#include <string.h>

#include "pmemlease.h"
#include "pmemlease_part.h"

struct get {
	struct session *session;
	const struct options *opt;
	struct server *server;
	struct progress progress;
	bool is_tree; /* below a directory */
	bool is_over; /* nothing more can be done */
	int status;
};

/* Where a file goes. */
struct target {
	int dirfd;
	const char *name;
	const char *shown; /* the whole path */
};

/* What run_copy() calls back with. */
struct get_file {
	struct get *get;
	const struct target *target;
	struct part *part; /* or NULL: written where it stays */
	mode_t mode;
};

static void note(struct get *g, int status)
{
	if (status && !g->status)
		g->status = status;
	g->progress.failed += status != 0;
	g->is_over |= is_final(status) || is_interrupted();
}

static int fail_errno(struct get *g, const char *shown)
{
	int err = errno;
	progress_clear(&g->progress);
	return report_local("%s: %s", shown, strerror(err));
}

/* ---- one file ----------------------------------------------------------- */

/* Has the file stayed the same while it was copied? */
static int check_version(struct copy *c)
{
	if (!c->opt->is_resumed && c->leases < 2)
		return 0;
	struct pml_client_attr attr;
	int err = pml_client_stat(c->server->client, c->path, &attr);
	if (!err && is_same_version(&attr, &c->attr))
		return 0;
	progress_clear(c->progress);
	if (c->opt->is_resumed)
		return report_refused(
			"%s: was changed between the parts of this copy: get it again", c->shown);
	if (!c->opt->is_quiet)
		report_local("%s: was changed while it was read", c->shown);
	return 0;
}

static int set_attributes(const struct copy *c, const struct get_file *f)
{
	const struct timespec times[2] = {
		{.tv_sec = c->attr.atime_s, .tv_nsec = c->attr.atime_ns},
		{.tv_sec = c->attr.mtime_s, .tv_nsec = c->attr.mtime_ns},
	};
	if (f->part && fchmod(c->fd, f->mode) < 0)
		return fail_errno(f->get, f->target->shown);
	if (!c->opt->preserve)
		return 0;
	if (fchmod(c->fd, c->attr.mode & 0777) < 0 || futimens(c->fd, times) < 0)
		return fail_errno(f->get, f->target->shown);
	return 0;
}

/* All bytes are in the local file. */
static int complete(struct copy *c)
{
	struct get_file *f = c->arg;
	int status = 0;
	if (!c->is_stream && ftruncate(c->fd, (off_t)c->size) < 0)
		return fail_errno(f->get, f->target->shown);
	if (c->opt->is_verified && !c->is_stream)
		status = verify_copy(c);
	if (!status)
		status = check_version(c);
	if (!status && !c->is_stream)
		status = set_attributes(c, f);
	if (status)
		return status;
	if (f->part)
		return part_complete(f->part, f->target->name);
	if (!c->is_stream && !c->opt->is_unsynced && fsync(c->fd) < 0)
		return fail_errno(f->get, f->target->shown);
	return 0;
}

static int call_part_note(struct copy *c)
{
	const struct get_file *f = c->arg;
	return part_note(f->part, c->pos);
}

static int run_get_copy(struct copy *c, struct get_file *f)
{
	c->arg = f;
	c->opt = f->get->opt;
	c->server = f->get->server;
	c->progress = &f->get->progress;
	c->size = c->attr.size_bytes;
	/* Fewer blocks than bytes: there are holes. */
	c->is_sparse = !c->is_stream && c->attr.blocks_512 < (c->size + 511) / 512;
	int status = run_copy(c, complete);
	f->get->progress.files += status == 0;
	return status;
}

static int copy_to_part(struct get_file *f, struct copy *c, const struct stat *old)
{
	const struct options *opt = f->get->opt;
	pml_auto_free char *url = join_path(f->get->server->host, c->path + (c->path[0] == '/'));
	if (!url)
		return EXIT_LOCAL;
	struct part part = {.dirfd = f->target->dirfd,
			    .shown = f->target->shown,
			    .url = url,
			    .attr = c->attr,
			    .is_resumed = opt->is_resumed,
			    .is_unsynced = opt->is_unsynced};
	int status = part_open(&part, f->target->name, &c->pos);
	if (status)
		return status;
	f->part = &part;
	f->mode = old ? old->st_mode & 0777 : c->attr.mode & 0777 & ~current_umask();
	c->fd = part.fd;
	c->has_resumed = c->pos > 0;
	if (opt->is_resumed)
		c->checkpoint = call_part_note;
	if (c->has_resumed && !opt->is_quiet)
		report_local("%s: going on behind %llu bytes", f->target->shown,
			     (unsigned long long)c->pos);
	status = run_get_copy(c, f);
	int late = part_close(&part, c->pos);
	return status ? status : late;
}

static int copy_in_place(struct get_file *f, struct copy *c)
{
	int flags = O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC | (f->get->is_tree ? O_NOFOLLOW : 0);
	c->fd = openat(f->target->dirfd, f->target->name, flags, c->attr.mode & 0777);
	if (c->fd < 0)
		return fail_errno(f->get, f->target->shown);
	int status = run_get_copy(c, f);
	if (close(c->fd) < 0 && !status)
		status = fail_errno(f->get, f->target->shown);
	return status;
}

/* A device, a pipe. */
static int copy_to_stream(struct get_file *f, struct copy *c)
{
	c->is_stream = true;
	c->fd = openat(f->target->dirfd, f->target->name, O_WRONLY | O_CLOEXEC | O_NOCTTY);
	if (c->fd < 0)
		return fail_errno(f->get, f->target->shown);
	int status = run_get_copy(c, f);
	if (close(c->fd) < 0 && !status)
		status = fail_errno(f->get, f->target->shown);
	return status;
}

static int get_file(struct get *g, const char *path, const struct pml_client_attr *attr,
		    const struct target *target)
{
	struct copy c = {.path = path,
			 .shown = shown_path(path),
			 .file = target->shown,
			 .fd = -1,
			 .attr = *attr};
	struct get_file f = {.get = g, .target = target};
	struct stat st;
	bool is_there = fstatat(target->dirfd, target->name, &st, AT_SYMLINK_NOFOLLOW) == 0;
	if (!is_there && errno != ENOENT)
		return fail_errno(g, target->shown);
	if (is_there && S_ISDIR(st.st_mode))
		return report_local("%s: %s", target->shown, strerror(EISDIR));
	bool is_file = !is_there || S_ISREG(st.st_mode) || S_ISLNK(st.st_mode);
	if (!is_file && g->is_tree)
		return report_local("%s: is there and no regular file", target->shown);
	if (!is_file)
		return copy_to_stream(&f, &c);
	if (g->opt->is_in_place)
		return copy_in_place(&f, &c);
	return copy_to_part(&f, &c, is_there && S_ISREG(st.st_mode) ? &st : NULL);
}

/* To standard output. */
static int get_to_stdout(struct get *g, const char *path, const struct pml_client_attr *attr)
{
	const struct target target = {.dirfd = AT_FDCWD, .shown = "standard output"};
	struct copy c = {.path = path,
			 .shown = shown_path(path),
			 .file = target.shown,
			 .fd = STDOUT_FILENO,
			 .attr = *attr,
			 .is_stream = true};
	struct get_file f = {.get = g, .target = &target};
	return run_get_copy(&c, &f);
}

/* ---- directories -------------------------------------------------------- */

/* A directory that was copied, or is to be. */
struct directory {
	struct pml_list link;
	struct pml_client_attr attr; /* when it was */
	char path[];		     /* behind the starting point: "" or "/a/b" */
};

struct tree {
	struct get *get;
	const char *from;     /* remote */
	const char *to;	      /* local */
	int fd;		      /* of that */
	struct pml_list todo; /* struct directory */
	struct pml_list done;
};

static struct directory *add_directory(struct pml_list *list, const char *dir, const char *name)
{
	size_t bytes = strlen(dir) + strlen(name) + 2;
	struct directory *d = calloc(1, sizeof(*d) + bytes);
	if (!d)
		return NULL;
	(void)snprintf(d->path, bytes, "%s%s%s", dir, name[0] ? "/" : "", name);
	pml_list_append(list, &d->link);
	return d;
}

/* Opens @path below @fd, name by name: no symbolic link is followed.  -errno. */
static int open_below(int fd, const char *path, bool without_last)
{
	pml_auto_close int at = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	while (at >= 0 && *path == '/') {
		size_t len = strcspn(path + 1, "/");
		pml_auto_free char *name = strndup(path + 1, len);
		if (!name)
			return -ENOMEM;
		path += 1 + len;
		if (!*path && without_last)
			break;
		int next = openat(at, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		if (next < 0)
			return -errno;
		(void)close(at);
		at = next;
	}
	return at < 0 ? -errno : pml_take_fd(&at);
}

static int make_directory(const struct tree *t, const struct directory *d, const char *shown)
{
	/* The starting point was made before, or was there. */
	if (!d->path[0])
		return 0;
	pml_auto_close int fd = open_below(t->fd, d->path, true);
	if (fd < 0)
		return report_local("%s: %s", shown, strerror(-fd));
	if (mkdirat(fd, name_of(d->path), (d->attr.mode & 0777) | 0700) < 0 && errno != EEXIST)
		return report_local("%s: %s", shown, strerror(errno));
	return 0;
}

static int skip_entry(struct get *g, const char *path, const char *what)
{
	g->progress.skipped++;
	progress_clear(&g->progress);
	if (!g->opt->is_quiet)
		report_local("%s: left out: %s", path, what);
	return 0;
}

/* Replaces what is there, as a file does; nobody follows it here. */
static int get_symlink(struct get *g, const char *from, int dirfd, const char *name, const char *to)
{
	char target[PATH_MAX];
	int err = pml_client_readlink(g->server->client, from, target, sizeof(target));
	if (err == -ENOENT)
		return skip_entry(g, from, "was removed");
	if (err)
		return report_remote(g->server->client, from, err);
	pml_auto_free char *temp = random_temp_path(name);
	if (!temp)
		return EXIT_LOCAL;
	if (symlinkat(target, dirfd, temp) < 0)
		return fail_errno(g, to);
	if (renameat(dirfd, temp, dirfd, name) < 0) {
		int status = fail_errno(g, to);
		(void)unlinkat(dirfd, temp, 0);
		return status;
	}
	g->progress.symlinks++;
	return 0;
}

/* @dirfd: of the local directory. */
static int get_entry(struct tree *t, const struct directory *d, int dirfd,
		     const struct entry *entry, const char *from, const char *to)
{
	struct get *g = t->get;
	if (S_ISDIR(entry->type))
		return add_directory(&t->todo, d->path, entry->name)
			       ? 0
			       : report_local("%s: out of memory", from);
	if (S_ISLNK(entry->type))
		return get_symlink(g, from, dirfd, entry->name, to);
	if (!S_ISREG(entry->type))
		return skip_entry(g, from, "neither file nor directory");
	struct pml_client_attr attr;
	int err = pml_client_stat(g->server->client, from, &attr);
	if (err == -ENOENT)
		return skip_entry(g, from, "was removed");
	if (err)
		return report_remote(g->server->client, from, err);
	if (!S_ISREG(attr.mode))
		return skip_entry(g, from, "was replaced");
	const struct target target = {.dirfd = dirfd, .name = entry->name, .shown = to};
	return get_file(g, from, &attr, &target);
}

static int get_entries(struct tree *t, const struct directory *d, int dirfd,
		       struct pml_list *entries, const char *from, const char *to)
{
	struct entry *entry;
	pml_list_for_each(entry, entries, link) {
		pml_auto_free char *entry_from = join_path(from, entry->name);
		pml_auto_free char *entry_to = join_path(to, entry->name);
		if (!entry_from || !entry_to)
			return EXIT_LOCAL;
		int status = get_entry(t, d, dirfd, entry, entry_from, entry_to);
		note(t->get, status);
		if (t->get->is_over)
			break;
	}
	return 0;
}

static int get_directory(struct tree *t, struct directory *d)
{
	struct get *g = t->get;
	struct pml_list entries;
	pml_auto_free char *from = NULL;
	pml_auto_free char *to = NULL;
	if (asprintf(&from, "%s%s", t->from, d->path) < 0 ||
	    asprintf(&to, "%s%s", t->to, d->path) < 0)
		return report_local("out of memory");
	int err = pml_client_stat(g->server->client, from, &d->attr);
	if (err)
		return report_remote(g->server->client, shown_path(from), err);
	int status = make_directory(t, d, to);
	if (status)
		return status;
	pml_auto_close int fd = open_below(t->fd, d->path, false);
	if (fd < 0)
		return report_local("%s: %s", to, strerror(-fd));
	pml_list_init(&entries);
	status = list_directory(g->server, from, &entries);
	if (!status)
		status = get_entries(t, d, fd, &entries, from, to);
	free_entries(&entries);
	g->progress.directories += status == 0;
	return status;
}

/* Last first: a directory's time changes with what is made in it. */
static void set_directory_attributes(struct tree *t)
{
	while (!pml_list_is_empty(&t->done)) {
		struct directory *d = pml_list_entry(t->done.prev, struct directory, link);
		const struct timespec times[2] = {
			{.tv_sec = d->attr.atime_s, .tv_nsec = d->attr.atime_ns},
			{.tv_sec = d->attr.mtime_s, .tv_nsec = d->attr.mtime_ns},
		};
		pml_auto_close int fd =
			t->get->opt->preserve ? open_below(t->fd, d->path, false) : -ENOENT;
		if (fd >= 0 && (fchmod(fd, d->attr.mode & 0777) < 0 || futimens(fd, times) < 0))
			note(t->get, report_local("%s%s: %s", t->to, d->path, strerror(errno)));
		pml_list_remove(&d->link);
		free(d);
	}
}

static void free_directories(struct pml_list *list)
{
	while (!pml_list_is_empty(list)) {
		struct directory *d = pml_list_entry(list->next, struct directory, link);
		pml_list_remove(&d->link);
		free(d);
	}
}

static int get_tree(struct get *g, const char *path, const char *to)
{
	struct tree t = {.get = g, .from = path, .to = to, .fd = -1};
	if (mkdir(to, 0777) < 0 && errno != EEXIST)
		return fail_errno(g, to);
	pml_auto_close int fd = open(to, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return fail_errno(g, to);
	t.fd = fd;
	pml_list_init(&t.todo);
	pml_list_init(&t.done);
	if (!add_directory(&t.todo, "", ""))
		return report_local("out of memory");
	while (!g->is_over && !pml_list_is_empty(&t.todo)) {
		struct directory *d = pml_list_entry(t.todo.next, struct directory, link);
		pml_list_remove(&d->link);
		int status = get_directory(&t, d);
		note(g, status);
		if (status)
			free(d);
		else
			pml_list_append(&t.done, &d->link);
	}
	set_directory_attributes(&t);
	free_directories(&t.todo);
	return 0;
}

/* ---- operands ----------------------------------------------------------- */

/* Splits a local path: follows symbolic links, as this user has made them. */
static int get_to_path(struct get *g, const char *path, const struct pml_client_attr *attr,
		       const char *to)
{
	pml_auto_free char *real = realpath(to, NULL);
	pml_auto_free char *dir = strdup(real ? real : to);
	if (!dir)
		return report_local("out of memory");
	pml_auto_free char *name = strdup(name_of(dir));
	char *slash = strrchr(dir, '/');
	if (!name)
		return report_local("out of memory");
	if (!name[0])
		return report_local("%s: give the name of a file", to);
	if (slash)
		slash[slash == dir] = 0;
	pml_auto_close int fd = open(slash ? dir : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return fail_errno(g, to);
	const struct target target = {.dirfd = fd, .name = name, .shown = to};
	return get_file(g, path, attr, &target);
}

/* @into: the target is a directory, into which it goes. */
static int get_place(struct get *g, const char *path, const char *to, bool into)
{
	struct pml_client_attr attr;
	int err = pml_client_stat(g->server->client, path, &attr);
	if (err)
		return report_remote(g->server->client, shown_path(path), err);
	if (!S_ISREG(attr.mode) && !(S_ISDIR(attr.mode) && g->opt->is_recursive))
		return report_refused("%s: not a regular file%s", shown_path(path),
				      S_ISDIR(attr.mode) ? ": use ls, or get -r" : "");
	if (!to)
		return S_ISREG(attr.mode)
			       ? get_to_stdout(g, path, &attr)
			       : report_local("%s: a directory cannot go to standard output",
					      shown_path(path));
	pml_auto_free char *target = into ? join_path(to, name_of(path)) : strdup(to);
	if (!target)
		return report_local("out of memory");
	g->is_tree = S_ISDIR(attr.mode);
	return g->is_tree ? get_tree(g, path, target) : get_to_path(g, path, &attr, target);
}

/* @to: NULL for standard output. */
static int get_all_places(struct session *session, int count, char **urls, const char *to,
			  const char *command)
{
	struct get g = {.session = session, .opt = &session->opt};
	struct stat st;
	bool into = to && stat(to, &st) == 0 && S_ISDIR(st.st_mode);
	if (to && count > 1 && !into)
		return report_local("%s: %s", to, strerror(ENOTDIR));
	progress_init(&g.progress, &session->opt);
	hold_signals();
	for (int i = 0; i < count && !g.is_over; i++) {
		struct place place = {0};
		int status = find_place(session, urls[i], &place);
		g.server = place.server;
		if (!status)
			status = get_place(&g, place.path, to, into);
		note(&g, status);
		place_fini(&place);
	}
	progress_clear(&g.progress);
	progress_print_summary(&g.progress, command);
	release_signals();
	return g.status;
}

int run_get(struct session *session, int count, char **operands)
{
	const struct options *opt = &session->opt;
	const char *to = operands[count - 1];
	bool is_stdout = strcmp(to, "-") == 0;
	if (opt->is_resumed && (opt->is_in_place || is_stdout))
		return report_local("get: --resume needs a file of its own: not with %s",
				    is_stdout ? "-" : "--in-place");
	if (opt->is_json && is_stdout)
		return report_local("get: --json and - would both print to standard output");
	return get_all_places(session, count - 1, operands, is_stdout ? NULL : to, "get");
}

int run_cat(struct session *session, int count, char **operands)
{
	return get_all_places(session, count, operands, NULL, "cat");
}
