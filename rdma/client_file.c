/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * client_file.c -- client library: files that take their leases by themselves
 *
 * A read or write goes window by window (client_window.c).  When a lease has ended under
 * it, it gets another and does that part again: a read has returned nothing yet, and of a write
 * the bytes are still in the program's memory.  What earlier writes have put under a
 * lease that was revoked is lost; each open file says so once, at its next commit or close.
 *
 * Threads: any.
 */
#include <limits.h>
#include <string.h>

#include "client_window.h"
#include "thread.h"

/* Pieces of memory in one transfer. */
#define PIECES_MAX 64

struct pml_client_file {
	struct pml_windows *windows;
	unsigned int flags;
	_Atomic uint64_t seen_losses;
};

/* Where in the program's memory a call is. */
struct place {
	const struct iovec *iov;
	int niov;
	size_t done_bytes; /* of iov[0] */
};

/* The next pieces of at most @max bytes; their sum. */
static size_t next_pieces(const struct place *p, size_t max, struct iovec ret_iov[PIECES_MAX],
			  int *ret_niov)
{
	size_t bytes = 0;
	int n = 0;
	for (int i = 0; i < p->niov && n < PIECES_MAX && bytes < max; i++) {
		size_t done = i == 0 ? p->done_bytes : 0;
		size_t len = PML_MIN(p->iov[i].iov_len - done, max - bytes);
		if (len > 0)
			ret_iov[n++] = (struct iovec){(char *)p->iov[i].iov_base + done, len};
		bytes += len;
	}
	*ret_niov = n;
	return bytes;
}

static void step(struct place *p, size_t bytes)
{
	p->done_bytes += bytes;
	while (p->niov > 0 && p->done_bytes >= p->iov->iov_len) {
		p->done_bytes -= p->iov->iov_len;
		p->iov++;
		p->niov--;
	}
}

/* One call. */
struct run {
	struct pml_windows *windows;
	struct place place;
	uint64_t at;
	size_t left;
	bool for_write;
	uint64_t deadline_ms;
};

/* -EAGAIN: do it again; else it is for the program. */
static int may_go_on(struct run *r, int err, bool was_transfer)
{
	bool has_ended = was_transfer && (err == -ESTALE || err == -EKEYREVOKED);
	bool is_gone = err == -ENOTCONN || err == -ETIMEDOUT;
	if (pml_now_ms() >= r->deadline_ms || (!has_ended && !is_gone))
		return err;
	/* A refused key has broken the connection, too. */
	int gone = pml_client_reconnect(r->windows->client);
	return gone ? gone : -EAGAIN;
}

/* Reading at the end of the file, as far as the server knows: 0 if it is the end, or -EAGAIN. */
static int check_end(struct run *r)
{
	if (pml_windows_dirty_end(r->windows) <= r->at)
		return 0;
	int err = pml_windows_commit(r->windows);
	return err ? err : -EAGAIN;
}

/* Moves what one window has.  *ret_bytes 0: the end of the file. */
static int run_window(struct run *r, size_t *ret_bytes)
{
	struct pml_window *w;
	struct iovec iov[PIECES_MAX];
	int niov;
	int err = pml_window_get(r->windows, r->at, r->left, r->for_write, &w);
	if (err == -ENODATA && !r->for_write) {
		*ret_bytes = 0;
		return check_end(r);
	}
	if (err)
		return may_go_on(r, err, false);
	size_t room = PML_MIN((uint64_t)r->left, w->end_byte - r->at);
	size_t bytes = next_pieces(&r->place, room, iov, &niov);
	pml_window_ahead(w, r->at, r->at + bytes);
	err = r->for_write ? pml_client_writev(w->lease, iov, niov, r->at)
			   : pml_client_readv(w->lease, iov, niov, r->at);
	if (err) {
		pml_window_put_bad(w);
		return may_go_on(r, err, true);
	}
	pml_window_put(w, r->at, r->for_write ? r->at + bytes : r->at);
	*ret_bytes = bytes;
	return 0;
}

static ssize_t run(struct pml_client_file *file, bool for_write, const struct iovec *iov, int niov,
		   uint64_t first_byte)
{
	if (!(file->flags & (for_write ? PML_CLIENT_FILE_WRITE : PML_CLIENT_FILE_READ)))
		return pml_client_fail(-EBADF, "file: not open for that");
	if (niov < 0 || niov > IOV_MAX || first_byte > INT64_MAX)
		return pml_client_fail(-EINVAL, "file: too many pieces, or no place in a file");
	struct run r = {
		.windows = file->windows,
		.place = {.iov = iov, .niov = niov},
		.at = first_byte,
		.for_write = for_write,
		.deadline_ms = pml_now_ms() + file->windows->wait_ms,
	};
	for (int i = 0; i < niov; i++) {
		if (iov[i].iov_len > SSIZE_MAX - r.left)
			return pml_client_fail(-EINVAL, "file: too many bytes");
		r.left += iov[i].iov_len;
	}
	if (for_write && r.left > INT64_MAX - first_byte)
		return pml_client_fail(-EFBIG, "file: behind the largest size of a file");
	r.left = PML_MIN((uint64_t)r.left, INT64_MAX - first_byte);

	int err = 0;
	while (r.left > 0) {
		size_t bytes;
		err = run_window(&r, &bytes);
		if (err == -EAGAIN && pml_now_ms() < r.deadline_ms)
			continue;
		if (err || bytes == 0)
			break;
		step(&r.place, bytes);
		r.at += bytes;
		r.left -= bytes;
		pml_windows_moved(r.windows, for_write, r.at);
		r.deadline_ms = pml_now_ms() + file->windows->wait_ms;
	}
	uint64_t moved = r.at - first_byte;
	return moved > 0 || !err ? (ssize_t)moved : err;
}

ssize_t pml_client_file_readv(struct pml_client_file *file, const struct iovec *iov, int niov,
			      uint64_t first_byte)
{
	return run(file, false, iov, niov, first_byte);
}

ssize_t pml_client_file_writev(struct pml_client_file *file, const struct iovec *iov, int niov,
			       uint64_t first_byte)
{
	return run(file, true, iov, niov, first_byte);
}

ssize_t pml_client_file_read(struct pml_client_file *file, void *data, size_t bytes,
			     uint64_t first_byte)
{
	const struct iovec iov = {data, bytes};
	return run(file, false, &iov, 1, first_byte);
}

ssize_t pml_client_file_write(struct pml_client_file *file, const void *data, size_t bytes,
			      uint64_t first_byte)
{
	/* A write only reads it. */
	const struct iovec iov = {(void *)(uintptr_t)data, bytes};
	return run(file, true, &iov, 1, first_byte);
}

/* Says once what has been lost since it was last said. */
static int report_losses(struct pml_client_file *file)
{
	struct pml_windows *ws = file->windows;
	pthread_mutex_lock(&ws->lock);
	bool is_new = atomic_exchange(&file->seen_losses, ws->losses) != ws->losses;
	int err = is_new ? pml_client_fail(ws->lost_err, "%s", ws->lost_reason) : 0;
	pthread_mutex_unlock(&ws->lock);
	return err;
}

int pml_client_file_commit(struct pml_client_file *file)
{
	int err = pml_windows_commit(file->windows);
	int lost = report_losses(file);
	return lost ? lost : err;
}

int pml_client_file_truncate(struct pml_client_file *file, uint64_t size_bytes)
{
	if (!(file->flags & PML_CLIENT_FILE_WRITE))
		return pml_client_fail(-EBADF, "file: not open for that");
	struct pml_windows *ws = file->windows;
	const struct pml_client_set set = {.what = PML_CLIENT_SET_SIZE, .size_bytes = size_bytes};
	struct pml_client_attr attr;
	/* The server would end leases of this client that are in the way, and what is under them.
	 */
	pml_windows_freeze(ws);
	int err = pml_client_setattr_at(ws->client, &ws->handle, &set, &attr);
	if ((err == -ENOTCONN || err == -ETIMEDOUT) && pml_client_reconnect(ws->client) == 0)
		err = pml_client_setattr_at(ws->client, &ws->handle, &set, &attr);
	pml_windows_thaw(ws, err ? UINT64_MAX : attr.size_bytes);
	return err;
}

int pml_client_file_give_up(struct pml_client_file *file, uint64_t first_byte)
{
	pml_windows_give_up(file->windows, first_byte);
	return 0;
}

uint64_t pml_client_file_end(struct pml_client_file *file)
{
	return pml_windows_dirty_end(file->windows);
}

int pml_client_file_open(struct pml_client *client, const struct pml_client_handle *handle,
			 unsigned int flags, const struct pml_client_file_options *options,
			 struct pml_client_file **ret_file)
{
	const unsigned int all =
		PML_CLIENT_FILE_READ | PML_CLIENT_FILE_WRITE | PML_CLIENT_FILE_SHARED;
	if ((flags & ~all) || !(flags & (PML_CLIENT_FILE_READ | PML_CLIENT_FILE_WRITE)))
		return pml_client_fail(-EINVAL, "open: neither for reading nor for writing");
	if (options && options->max_leases > PML_CLIENT_FILE_LEASES_MAX)
		return pml_client_fail(-EINVAL, "open: at most %u leases for a file",
				       PML_CLIENT_FILE_LEASES_MAX);
	struct pml_client_file *file = calloc(1, sizeof(*file));
	int err = file ? pml_windows_open(client, handle, options, flags & PML_CLIENT_FILE_SHARED,
					  &file->windows)
		       : -ENOMEM;
	if (err) {
		free(file);
		return pml_client_fail(err, "open: out of memory");
	}
	file->flags = flags;
	pthread_mutex_lock(&file->windows->lock);
	atomic_store(&file->seen_losses, file->windows->losses);
	pthread_mutex_unlock(&file->windows->lock);
	*ret_file = file;
	return 0;
}

int pml_client_file_close(struct pml_client_file *file)
{
	if (!file)
		return 0;
	int err = pml_client_file_commit(file);
	pml_windows_close(file->windows);
	free(file);
	return err;
}
