/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * pmemlease_copy.c -- get and put: copy a file through leases that slide along it
 *
 * A recalled lease is returned by the library and taken again where the copy
 * stands; of a put, what was not committed by then is written again.  With
 * --hold the last lease stays, and the copied bytes are touched now and then, so
 * that its end is noticed: this is how the server's side of leases is tried out.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "pml/clock.h"
#include "pmemlease.h"

#define CHUNK_BYTES (8u << 20)
/* While a lease is held: how much is touched, and how often. */
#define TOUCH_BYTES   65536u
#define TOUCH_MS      100u
#define TOUCH_HARD_MS 1u /* --ignore-recall */
#define PROGRESS_MS   200u

struct copy {
	struct pml_client *client;
	const struct options *opt;
	int fd;
	bool is_put;
	struct pml_client_handle file;
	uint64_t size;			  /* bytes to copy */
	uint64_t pos;			  /* copied; of a put: committed */
	struct pml_client_buffer *buffer; /* CHUNK_BYTES, less for a small file */
	struct pml_client_lease *lease;	  /* or NULL */
	/* The last chunk, which is still in the buffer. */
	uint64_t chunk_first;
	size_t chunk_bytes;

	uint64_t start_ms;
	uint64_t moved_ms; /* when pos changed last */
	uint64_t shown_ms;
	bool is_shown;
};

/* ---- progress ----------------------------------------------------------- */

static void show_progress(struct copy *c, uint64_t at)
{
	uint64_t now_ms = pml_now_ms();
	bool is_wanted = c->opt->force_progress || (!c->opt->is_quiet && isatty(STDERR_FILENO));
	if (!is_wanted || (at < c->size && now_ms - c->shown_ms < PROGRESS_MS))
		return;
	c->shown_ms = now_ms;
	c->is_shown = true;
	double seconds = (double)PML_MAX(now_ms - c->start_ms, (uint64_t)1) / 1000;
	double rate = (double)at / seconds;
	double left = rate > 0 ? (double)(c->size - at) / rate : 0;
	fprintf(stderr, "\r%3.0f %%  %8.1f of %.1f MB  %8.1f MB/s  %3.0f:%02.0f left ",
		c->size ? 100.0 * (double)at / (double)c->size : 100.0, (double)at / 1e6,
		(double)c->size / 1e6, rate / 1e6, (double)((uint64_t)left / 60),
		(double)((uint64_t)left % 60));
	fflush(stderr);
}

static void end_progress(const struct copy *c)
{
	if (c->is_shown)
		fputc('\n', stderr);
}

/* ---- leases ------------------------------------------------------------- */

static void drop_lease(struct copy *c)
{
	if (c->lease)
		(void)pml_client_return(c->lease);
	c->lease = NULL;
}

/* Takes the lease for what comes next. */
static int take_lease(struct copy *c)
{
	uint64_t len = PML_MIN(c->opt->lease_bytes, c->size - c->pos);
	drop_lease(c);
	unsigned int kind = c->opt->lease_kind | (c->is_put ? PML_CLIENT_WRITE : 0);
	return pml_client_lease_with(c->client, &c->file, c->pos, len, kind, (int)c->opt->wait_ms,
				     &c->lease);
}

/* Something went wrong with a lease: 0 to take it again. */
static int judge(struct copy *c, int err)
{
	if (err != -ESTALE)
		return err;
	drop_lease(c);
	return pml_now_ms() - c->moved_ms > c->opt->wait_ms ? -ESTALE : 0;
}

static void move_to(struct copy *c, uint64_t pos)
{
	if (pos != c->pos)
		c->moved_ms = pml_now_ms();
	c->pos = pos;
}

/*
 * Our RETURN may have crossed a fence (a process that was stopped and goes on).  Messages
 * come in order: when a reply is there, so is the word of a revocation before it.
 */
static int ask_how_it_ended(const struct copy *c)
{
	struct pml_client_attr attr;
	int err = pml_client_stat(c->client, "", &attr);
	return err == -ENOTCONN ? err : pml_client_lease_status(c->lease);
}

/* Uses the lease until --hold is over or the lease is.  Returns an exit status. */
static int hold_lease(struct copy *c)
{
	const struct options *opt = c->opt;
	if (!(opt->hold_s > 0))
		return 0;
	if (!c->lease)
		return report_local("%s: no lease to hold: the file is empty", opt->path);
	bool is_writing = c->is_put && !opt->is_downgrade;
	int err = c->is_put && opt->is_downgrade ? pml_client_downgrade(&c->lease) : 0;
	if (err)
		return report_remote(c->client, opt->path, err);
	fprintf(stderr, "holding lease %llu on %s\n",
		(unsigned long long)pml_client_lease_id(c->lease), opt->path);
	fflush(stderr);

	uint64_t until_ms = pml_now_ms() + (uint64_t)(opt->hold_s * 1000);
	uint32_t pause_ms = opt->ignore_recall ? TOUCH_HARD_MS : TOUCH_MS;
	size_t bytes = PML_MIN(c->chunk_bytes, (size_t)TOUCH_BYTES);
	while (pml_now_ms() < until_ms) {
		err = is_writing ? pml_client_write(c->lease, c->buffer, 0, c->chunk_first, bytes)
				 : pml_client_read(c->lease, c->buffer, 0, c->chunk_first, bytes);
		if (err == -ESTALE)
			err = ask_how_it_ended(c);
		if (err == -ESTALE) {
			if (!opt->is_quiet)
				fputs("lease recalled and returned\n", stderr);
			return 0;
		}
		if (err)
			return report_remote(c->client, opt->path, err);
		(void)usleep(pause_ms * 1000);
	}
	return 0;
}

/* ---- get ---------------------------------------------------------------- */

static int write_all(int fd, const uint8_t *data, size_t bytes)
{
	while (bytes > 0) {
		ssize_t n = write(fd, data, bytes);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		data += n;
		bytes -= (size_t)n;
	}
	return 0;
}

/*
 * Copies what one lease covers.  Returns a status of the client library; *ret_local is
 * set when writing the local file failed instead.
 */
static int get_leased(struct copy *c, int *ret_local)
{
	uint64_t end = PML_MIN(pml_client_lease_end(c->lease), c->size);
	while (c->pos < end) {
		size_t bytes = (size_t)PML_MIN(end - c->pos, (uint64_t)CHUNK_BYTES);
		int err = pml_client_read(c->lease, c->buffer, 0, c->pos, bytes);
		if (err)
			return err;
		c->chunk_first = c->pos;
		c->chunk_bytes = bytes;
		*ret_local = write_all(c->fd, pml_client_buffer_data(c->buffer), bytes);
		if (*ret_local)
			return 0;
		move_to(c, c->pos + bytes);
		show_progress(c, c->pos);
	}
	return 0;
}

/* Returns an exit status. */
static int get_all(struct copy *c)
{
	while (c->pos < c->size) {
		int local = 0;
		int err = take_lease(c);
		if (err == -ENODATA)
			break;
		if (!err)
			err = get_leased(c, &local);
		err = judge(c, err);
		if (local)
			return report_local("%s: %s", c->opt->file, strerror(-local));
		if (err)
			return report_remote(c->client, c->opt->path, err);
	}
	if (c->pos == c->size)
		return 0;
	fprintf(stderr,
		"pmemlease: %s: became shorter while it was read: %llu of %llu bytes copied: "
		"get it again\n",
		c->opt->path, (unsigned long long)c->pos, (unsigned long long)c->size);
	return EXIT_REMOTE;
}

static int open_output(const char *file, int *ret_fd)
{
	bool is_stdout = strcmp(file, "-") == 0;
	int fd = is_stdout ? dup(STDOUT_FILENO)
			   : open(file, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
	if (fd < 0)
		return report_local("%s: %s", file, strerror(errno));
	*ret_fd = fd;
	return 0;
}

static int run_copy(struct copy *c, int (*copy_all)(struct copy *c))
{
	c->start_ms = c->moved_ms = pml_now_ms();
	/* No more than the file needs: a tree has many small ones. */
	size_t bytes = PML_MIN(PML_MAX(c->size, (uint64_t)TOUCH_BYTES), (uint64_t)CHUNK_BYTES);
	int err = pml_client_buffer_new(c->client, bytes, &c->buffer);
	if (err)
		return report_local("%s", pml_client_reason(c->client));
	int status = copy_all(c);
	end_progress(c);
	if (status == 0)
		status = hold_lease(c);
	drop_lease(c);
	pml_client_buffer_free(c->buffer);
	return status;
}

int run_get(struct pml_client *client, const struct options *opt)
{
	struct pml_client_attr attr;
	int err = pml_client_stat(client, opt->path, &attr);
	if (err)
		return report_remote(client, opt->path, err);
	if (S_ISDIR(attr.mode) && opt->is_recursive)
		return run_get_tree(client, opt);
	if (!S_ISREG(attr.mode)) {
		fprintf(stderr, "pmemlease: %s: not a regular file: use ls, or get -r\n",
			opt->path[0] ? opt->path : "/");
		return EXIT_REMOTE;
	}
	struct copy c = {.client = client,
			 .opt = opt,
			 .fd = -1,
			 .file = attr.handle,
			 .size = attr.size_bytes};
	int status = open_output(opt->file, &c.fd);
	if (status)
		return status;
	status = run_copy(&c, get_all);
	if (close(c.fd) < 0 && status == 0)
		status = report_local("%s: %s", opt->file, strerror(errno));
	return status;
}

/* ---- put ---------------------------------------------------------------- */

/* Fills the buffer from the local file.  -ENODATA: it became shorter. */
static int read_chunk(struct copy *c, uint64_t at, size_t bytes)
{
	uint8_t *data = pml_client_buffer_data(c->buffer);
	for (size_t done = 0; done < bytes;) {
		ssize_t n = pread(c->fd, data + done, bytes - done, (off_t)(at + done));
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			return -ENODATA;
		done += (size_t)n;
	}
	return 0;
}

/* As get_leased(); pos moves only by the commit. */
static int put_leased(struct copy *c, int *ret_local)
{
	uint64_t end = PML_MIN(pml_client_lease_end(c->lease), c->size);
	uint64_t at = c->pos;
	while (at < end) {
		size_t bytes = (size_t)PML_MIN(end - at, (uint64_t)CHUNK_BYTES);
		*ret_local = read_chunk(c, at, bytes);
		if (*ret_local)
			return 0;
		int err = pml_client_write(c->lease, c->buffer, 0, at, bytes);
		if (err)
			return err;
		c->chunk_first = at;
		c->chunk_bytes = bytes;
		at += bytes;
		show_progress(c, at);
	}
	int err = pml_client_commit(c->lease, c->pos, end - c->pos, end);
	if (!err)
		move_to(c, end);
	return err;
}

static int put_all(struct copy *c)
{
	while (c->pos < c->size) {
		int local = 0;
		int err = take_lease(c);
		if (!err)
			err = put_leased(c, &local);
		err = judge(c, err);
		if (local == -ENODATA)
			return report_local("%s: became shorter while it was read", c->opt->file);
		if (local)
			return report_local("%s: %s", c->opt->file, strerror(-local));
		if (err)
			return report_remote(c->client, c->opt->path, err);
	}
	return 0;
}

static int open_input(const char *file, int *ret_fd, struct stat *ret_stat)
{
	pml_auto_close int fd = open(file, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || fstat(fd, ret_stat) < 0)
		return report_local("%s: %s", file, strerror(errno));
	if (!S_ISREG(ret_stat->st_mode))
		return report_local("%s: not a regular file", file);
	*ret_fd = pml_take_fd(&fd);
	return 0;
}

int run_put(struct pml_client *client, const struct options *opt)
{
	struct stat st = {0};
	pml_auto_close int fd = -1;
	int status = open_input(opt->file, &fd, &st);
	if (status)
		return status;

	struct pml_client_attr attr;
	int err = pml_client_create(client, opt->path, st.st_mode & 0777, false, &attr);
	if (err)
		return report_remote(client, opt->path, err);
	if (attr.size_bytes > (uint64_t)st.st_size)
		return report_local("%s: exists and is longer (%llu bytes): remove it first",
				    opt->path, (unsigned long long)attr.size_bytes);
	struct copy c = {.client = client,
			 .opt = opt,
			 .fd = fd,
			 .is_put = true,
			 .file = attr.handle,
			 .size = (uint64_t)st.st_size};
	return run_copy(&c, put_all);
}
