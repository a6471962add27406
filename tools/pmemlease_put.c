/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * pmemlease_put.c -- put: from here to a server
 *
 * A file gets a name of its own beside the one it will have, and takes its place by a
 * rename when all bytes are durable: a put that fails leaves the old file.  With
 * --resume that name is made of what identifies the version of the local file, and
 * the file stays when the put fails: what is found under that name was copied from
 * that version, as far as it reaches, because its size grows with what was
 * committed and with nothing else.  With --in-place, and with --hold, which is
 * about a lease on the file that is there, the file itself is written.
 */
#include <fcntl.h>
#include <fts.h>
#include <inttypes.h>
#include <sodium.h>
#include <string.h>

#include "pmemlease.h"

#define TRIES	   100
#define HASH_BYTES 12u

struct put {
	struct session *session;
	const struct options *opt;
	struct server *server;
	struct progress progress;
	mode_t umask;
	bool is_over; /* nothing more can be done */
	int status;
};

/* What run_copy() calls back with. */
struct put_file {
	struct put *put;
	const char *path; /* remote */
	struct stat st;	  /* of the local file, before the copy */
	bool is_there;	  /* the remote file */
	mode_t mode;	  /* that it shall have */
	char *temp;	  /* name until it is complete; NULL: written where it stays */
	bool is_renamed;
};

static void note(struct put *p, int status)
{
	if (status && !p->status)
		p->status = status;
	p->progress.failed += status != 0;
	p->is_over |= is_final(status) || is_interrupted();
}

static int fail_remote(struct put *p, const char *path, int err)
{
	progress_clear(&p->progress);
	return report_remote(p->server->client, shown_path(path), err);
}

/* The user knows nothing of @temp. */
static int fail_temp(struct put *p, const char *path, const char *temp, int err)
{
	progress_clear(&p->progress);
	return report_instead(p->server->client, path, temp, err);
}

static int fail_errno(struct put *p, const char *file)
{
	int err = errno;
	progress_clear(&p->progress);
	return report_local("%s: %s", file, strerror(err));
}

/* ---- the end of a file -------------------------------------------------- */

/* Has the local file stayed the same?  An exit status. */
static int check_version(const struct copy *c, const struct put_file *f)
{
	struct stat st = {0};
	if (fstat(c->fd, &st) < 0)
		return fail_errno(f->put, c->file);
	bool is_same = st.st_size == f->st.st_size && st.st_mtim.tv_sec == f->st.st_mtim.tv_sec &&
		       st.st_mtim.tv_nsec == f->st.st_mtim.tv_nsec &&
		       st.st_ctim.tv_sec == f->st.st_ctim.tv_sec &&
		       st.st_ctim.tv_nsec == f->st.st_ctim.tv_nsec;
	if (is_same)
		return 0;
	progress_clear(c->progress);
	if (c->opt->is_resumed)
		return report_local("%s: was changed between the parts of this copy: put it again",
				    c->file);
	if (!c->opt->is_quiet)
		report_local("%s: was changed while it was read", c->file);
	return 0;
}

/* A hole at the end, and what else is not as it shall be. */
static int set_attributes(const struct copy *c, const struct put_file *f)
{
	struct pml_client_set set = {
		.mode = f->mode,
		.size_bytes = c->size,
		.atime_s = f->st.st_atim.tv_sec,
		.mtime_s = f->st.st_mtim.tv_sec,
		.atime_ns = (uint32_t)f->st.st_atim.tv_nsec,
		.mtime_ns = (uint32_t)f->st.st_mtim.tv_nsec,
	};
	struct pml_client_attr attr;
	if (c->end < c->size)
		set.what |= PML_CLIENT_SET_SIZE;
	if (c->opt->preserve)
		set.what |= PML_CLIENT_SET_ATIME | PML_CLIENT_SET_MTIME;
	if (c->opt->preserve || (f->temp && (f->is_there || (f->mode & 0600) != 0600)))
		set.what |= PML_CLIENT_SET_MODE;
	if (!set.what)
		return 0;
	return pml_client_setattr(c->server->client, c->path, &set, &attr);
}

/* The file takes its place. */
static int rename_temp(const struct copy *c, const struct put_file *f)
{
	struct pml_client_attr attr;
	int err = pml_client_rename(c->server->client, f->temp, f->path, 0);
	/* The server was mounted again in the middle of that: was it done? */
	if (err == -EREMOTEIO && pml_client_stat(c->server->client, f->path, &attr) == 0 &&
	    attr.ino == c->attr.ino && attr.generation == c->attr.generation)
		return 0;
	return err;
}

/* All bytes are committed. */
static int complete(struct copy *c)
{
	struct put_file *f = c->arg;
	int err = set_attributes(c, f);
	if (err)
		return fail_remote(f->put, c->shown, err);
	int status = c->opt->is_verified ? verify_copy(c) : 0;
	if (!status)
		status = check_version(c, f);
	if (status || !f->temp)
		return status;
	if (is_interrupted())
		return report_local("%s: interrupted", c->shown);
	err = rename_temp(c, f);
	if (err)
		return fail_temp(f->put, f->path, f->temp, err);
	f->is_renamed = true;
	return 0;
}

/* ---- the start of a file ------------------------------------------------ */

static int open_input(const char *file, int *ret_fd, struct stat *ret_stat)
{
	pml_auto_close int fd = open(file, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	if (fd < 0 || fstat(fd, ret_stat) < 0)
		return report_local("%s: %s", file, strerror(errno));
	if (!S_ISREG(ret_stat->st_mode))
		return report_local("%s: not a regular file%s", file,
				    S_ISDIR(ret_stat->st_mode) ? ": use put -r" : "");
	*ret_fd = pml_take_fd(&fd);
	return 0;
}

/* What stands for this version of the local file. */
static int name_version(const struct stat *st, char ret_hex[2 * HASH_BYTES + 1])
{
	char text[256];
	uint8_t hash[HASH_BYTES + 4]; /* crypto_generichash_BYTES_MIN is 16 */
	int bytes = snprintf(text, sizeof(text), "%ju %ju %jd %jd.%09ld %jd.%09ld",
			     (uintmax_t)st->st_dev, (uintmax_t)st->st_ino, (intmax_t)st->st_size,
			     (intmax_t)st->st_mtim.tv_sec, st->st_mtim.tv_nsec,
			     (intmax_t)st->st_ctim.tv_sec, st->st_ctim.tv_nsec);
	if (crypto_generichash(hash, sizeof(hash), (const uint8_t *)text, (size_t)bytes, NULL, 0))
		return -EINVAL;
	sodium_bin2hex(ret_hex, 2 * HASH_BYTES + 1, hash, HASH_BYTES);
	return 0;
}

static int find_left(struct put_file *f, struct pml_client_attr *ret_attr)
{
	char what[2 * HASH_BYTES + 1];
	struct pml_client *client = f->put->server->client;
	if (name_version(&f->st, what))
		return report_local("cannot make a hash");
	f->temp = temp_path(f->path, what);
	if (!f->temp)
		return EXIT_LOCAL;
	int err = pml_client_create(client, f->temp, f->mode | 0600, false, ret_attr);
	if (err)
		return fail_temp(f->put, f->path, f->temp, err);
	if (ret_attr->size_bytes > (uint64_t)f->st.st_size)
		return report_refused("%s: is none that put --resume has made: remove it", f->temp);
	return 0;
}

static int make_temp(struct put_file *f, struct pml_client_attr *ret_attr)
{
	int err = -EEXIST;
	if (f->put->opt->is_resumed)
		return find_left(f, ret_attr);
	for (int i = 0; i < TRIES && err == -EEXIST; i++) {
		free(f->temp);
		f->temp = random_temp_path(f->path);
		if (!f->temp)
			return EXIT_LOCAL;
		err = pml_client_create(f->put->server->client, f->temp, f->mode | 0600, true,
					ret_attr);
	}
	if (!err)
		return 0;
	int status = fail_temp(f->put, f->path, f->temp, err);
	free(f->temp);
	f->temp = NULL; /* nothing to remove */
	return status;
}

/* Not longer than what comes: nobody shall see old bytes behind it. */
static int open_in_place(struct put_file *f, struct pml_client_attr *ret_attr)
{
	struct pml_client *client = f->put->server->client;
	const struct pml_client_set set = {.what = PML_CLIENT_SET_SIZE,
					   .size_bytes = (uint64_t)f->st.st_size};
	int err = pml_client_create(client, f->path, f->mode, false, ret_attr);
	if (!err && ret_attr->size_bytes > set.size_bytes)
		err = pml_client_setattr_at(client, &ret_attr->handle, &set, ret_attr);
	return err ? fail_remote(f->put, f->path, err) : 0;
}

/* What is at the target already.  An exit status. */
static int look_at_target(struct put_file *f)
{
	struct put *p = f->put;
	struct pml_client_attr old;
	int err = pml_client_stat(p->server->client, f->path, &old);
	if (err && err != -ENOENT)
		return fail_remote(p, f->path, err);
	f->is_there = !err && S_ISREG(old.mode);
	if (!err && !S_ISREG(old.mode) && !S_ISLNK(old.mode))
		return report_refused("%s: %s", shown_path(f->path),
				      S_ISDIR(old.mode) ? strerror(EISDIR)
							: "is there and no regular file");
	f->mode = f->st.st_mode & 0777;
	if (!p->opt->preserve)
		f->mode = f->is_there ? old.mode & 0777 : f->mode & ~p->umask;
	return 0;
}

static void give_up_temp(struct put_file *f)
{
	struct put *p = f->put;
	if (!f->temp || f->is_renamed)
		return;
	if (p->opt->is_resumed) {
		if (!p->opt->is_quiet)
			report_local("%s: what was copied stays as %s for --resume", f->path,
				     f->temp);
		return;
	}
	/* The connection may be gone, and it with it: then it stays. */
	int err = pml_client_unlink(p->server->client, f->temp);
	if (err && err != -ENOENT)
		report_local("%s: what was copied stays there as %s", f->path, name_of(f->temp));
}

static int copy_file(struct put_file *f, const char *file, int fd)
{
	struct put *p = f->put;
	bool is_in_place = p->opt->is_in_place || p->opt->hold_s > 0;
	struct copy c = {.server = p->server,
			 .opt = p->opt,
			 .progress = &p->progress,
			 .is_put = true,
			 .shown = shown_path(f->path),
			 .file = file,
			 .fd = fd,
			 .size = (uint64_t)f->st.st_size,
			 .is_sparse = !is_in_place,
			 .arg = f};
	int status = is_in_place ? open_in_place(f, &c.attr) : make_temp(f, &c.attr);
	if (status)
		return status;
	c.path = f->temp ? f->temp : f->path;
	c.pos = f->temp ? c.attr.size_bytes : 0;
	c.end = c.attr.size_bytes;
	c.has_resumed = c.pos > 0;
	if (c.has_resumed && !p->opt->is_quiet)
		report_local("%s: going on behind %" PRIu64 " bytes", c.shown, c.pos);
	return run_copy(&c, complete);
}

static int put_file(struct put *p, const char *file, const char *path)
{
	struct put_file f = {.put = p, .path = path};
	pml_auto_close int fd = -1;
	int status = open_input(file, &fd, &f.st);
	if (!status)
		status = look_at_target(&f);
	if (!status)
		status = copy_file(&f, file, fd);
	if (status)
		give_up_temp(&f);
	free(f.temp);
	p->progress.files += status == 0;
	return status;
}

/* ---- directories -------------------------------------------------------- */

static int put_directory(struct put *p, const char *path, const struct stat *st)
{
	struct pml_client_attr attr;
	/* The bits that are asked for come last, if at all. */
	mode_t mode = (st->st_mode & 0777 & ~p->umask) | 0700;
	int err = path[0] ? pml_client_mkdir(p->server->client, path, mode, &attr) : -EEXIST;
	if (err == -EEXIST) {
		err = pml_client_stat(p->server->client, path, &attr);
		if (!err && !S_ISDIR(attr.mode))
			return report_refused("%s: %s", shown_path(path), strerror(ENOTDIR));
	}
	p->progress.directories += err == 0;
	return err ? fail_remote(p, path, err) : 0;
}

static int finish_directory(struct put *p, const char *path, const struct stat *st)
{
	const struct pml_client_set set = {
		.what = PML_CLIENT_SET_MODE | PML_CLIENT_SET_ATIME | PML_CLIENT_SET_MTIME,
		.mode = st->st_mode & 0777,
		.atime_s = st->st_atim.tv_sec,
		.mtime_s = st->st_mtim.tv_sec,
		.atime_ns = (uint32_t)st->st_atim.tv_nsec,
		.mtime_ns = (uint32_t)st->st_mtim.tv_nsec,
	};
	struct pml_client_attr attr;
	if (!p->opt->preserve)
		return 0;
	int err = pml_client_setattr(p->server->client, path, &set, &attr);
	return err ? fail_remote(p, path, err) : 0;
}

/* Replaces what is there, as a file does. */
static int put_symlink(struct put *p, const char *file, const char *path)
{
	char target[PATH_MAX];
	struct pml_client *client = p->server->client;
	struct pml_client_attr attr;
	ssize_t bytes = readlink(file, target, sizeof(target) - 1);
	if (bytes < 0)
		return fail_errno(p, file);
	target[bytes] = 0;
	pml_auto_free char *temp = random_temp_path(path);
	if (!temp)
		return EXIT_LOCAL;
	int err = pml_client_symlink(client, target, temp, &attr);
	if (err)
		return fail_temp(p, path, temp, err);
	err = pml_client_rename(client, temp, path, 0);
	int status = err ? fail_temp(p, path, temp, err) : 0;
	if (err)
		(void)pml_client_unlink(client, temp);
	p->progress.symlinks += !err;
	return status;
}

static int put_entry(struct put *p, const FTSENT *entry, const char *path)
{
	switch (entry->fts_info) {
	case FTS_D:
		return put_directory(p, path, entry->fts_statp);
	case FTS_DP:
		return finish_directory(p, path, entry->fts_statp);
	case FTS_F:
		return put_file(p, entry->fts_path, path);
	case FTS_SL:
	case FTS_SLNONE:
		return put_symlink(p, entry->fts_path, path);
	case FTS_DNR:
	case FTS_ERR:
	case FTS_NS:
		progress_clear(&p->progress);
		return report_local("%s: %s", entry->fts_path, strerror(entry->fts_errno));
	default:
		p->progress.skipped++;
		progress_clear(&p->progress);
		if (!p->opt->is_quiet)
			report_local("%s: left out: neither file nor directory", entry->fts_path);
		return 0;
	}
}

static FTS *open_tree(const char *file)
{
	char *files[] = {(char *)(uintptr_t)file, NULL};
	return fts_open(files, FTS_PHYSICAL | FTS_COMFOLLOW | FTS_NOCHDIR, NULL);
}

static uint64_t sum_of_sizes(const char *file)
{
	uint64_t bytes = 0;
	FTS *fts = open_tree(file);
	for (FTSENT *entry = fts ? fts_read(fts) : NULL; entry; entry = fts_read(fts))
		if (entry->fts_info == FTS_F)
			bytes += (uint64_t)entry->fts_statp->st_size;
	if (fts)
		(void)fts_close(fts);
	return bytes;
}

static int put_tree(struct put *p, const char *file, const char *path)
{
	FTS *fts = open_tree(file);
	if (!fts)
		return fail_errno(p, file);
	if (p->progress.is_wanted)
		p->progress.total_bytes += sum_of_sizes(file);
	size_t root_bytes = strlen(file);
	while (!p->is_over) {
		errno = 0;
		FTSENT *entry = fts_read(fts);
		if (!entry && errno)
			note(p, fail_errno(p, file));
		if (!entry)
			break;
		const char *rest = entry->fts_path + root_bytes;
		pml_auto_free char *to = join_path(path, rest + strspn(rest, "/"));
		int status = to ? put_entry(p, entry, to) : EXIT_LOCAL;
		note(p, status);
		if (status && entry->fts_info == FTS_D)
			(void)fts_set(fts, entry, FTS_SKIP);
	}
	(void)fts_close(fts);
	return 0;
}

/* ---- operands ----------------------------------------------------------- */

/* The last name of a local path, whatever slashes stand behind it.  The caller frees it. */
static char *own_name_of(const char *file)
{
	size_t len = strlen(file);
	while (len > 1 && file[len - 1] == '/')
		len--;
	pml_auto_free char *path = strndup(file, len);
	char *name = path ? strdup(name_of(path)) : NULL;
	if (name && (strcmp(name, ".") == 0 || strcmp(name, "..") == 0))
		name[0] = 0; /* what is in it */
	if (!name)
		report_local("out of memory");
	return name;
}

static int put_operand(struct put *p, const char *file, const char *path, bool into)
{
	struct stat st;
	pml_auto_free char *name = own_name_of(file);
	pml_auto_free char *to = !name ? NULL : into ? join_path(path, name) : strdup(path);
	if (!to)
		return EXIT_LOCAL;
	if (stat(file, &st) < 0)
		return fail_errno(p, file);
	if (S_ISDIR(st.st_mode) && p->opt->is_recursive)
		return put_tree(p, file, to);
	return put_file(p, file, to);
}

static int put_to_place(struct put *p, int count, char **files, const char *path)
{
	struct pml_client_attr attr;
	int err = pml_client_stat(p->server->client, path, &attr);
	if (err && err != -ENOENT)
		return fail_remote(p, path, err);
	bool into = !err && S_ISDIR(attr.mode);
	if (count > 1 && !into)
		return report_refused("%s: %s", shown_path(path), strerror(ENOTDIR));
	for (int i = 0; i < count && !p->is_over; i++)
		note(p, put_operand(p, files[i], path, into));
	return 0;
}

int run_put(struct session *session, int count, char **operands)
{
	const struct options *opt = &session->opt;
	struct put p = {.session = session, .opt = opt, .umask = current_umask()};
	struct place place = {0};
	if (opt->is_resumed && (opt->is_in_place || opt->hold_s > 0))
		return report_local("put: --resume needs a file of its own: not with %s",
				    opt->is_in_place ? "--in-place" : "--hold");
	progress_init(&p.progress, opt);
	hold_signals();
	int status = find_place(session, operands[count - 1], &place);
	p.server = place.server;
	if (!status)
		status = put_to_place(&p, count - 1, operands, place.path);
	note(&p, status);
	place_fini(&place);
	progress_clear(&p.progress);
	progress_print_summary(&p.progress, "put");
	release_signals();
	return p.status;
}
