/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * pmemlease_copy.c -- the bytes of one file, through leases that slide along it
 *
 * A recalled lease is returned by the library and taken again where the copy
 * stands; of a put, what was not committed by then is written again.  After a
 * connection that broke the file is looked up again and must be the same one.
 * The buffer has two halves: while one is on the network the other is on the local
 * side.  With --hold the last lease stays, and the copied bytes are touched now
 * and then, so that its end is noticed: this is how the server's side of leases is
 * tried out.
 */
#include <inttypes.h>
#include <string.h>
#include <sys/uio.h>

#include "pml/clock.h"
#include "pmemlease.h"

#define HALF_BYTES ((size_t)4 << 20)
/* A hole that is shorter is copied as zeros: a lease costs two round trips. */
#define SHORT_HOLE_BYTES 65536u
/* While a lease is held: how much is touched, and how often. */
#define TOUCH_BYTES   65536u
#define TOUCH_MS      100u
#define TOUCH_HARD_MS 1u   /* --ignore-recall */
#define WAIT_SLICE_MS 500u /* a signal is noticed after that */

/* What is in a half of the buffer. */
struct piece {
	uint64_t first;
	size_t bytes;
	uint8_t *data;
};

bool is_same_version(const struct pml_client_attr *a, const struct pml_client_attr *b)
{
	return a->ino == b->ino && a->generation == b->generation &&
	       a->size_bytes == b->size_bytes && a->mtime_s == b->mtime_s &&
	       a->mtime_ns == b->mtime_ns && a->ctime_s == b->ctime_s && a->ctime_ns == b->ctime_ns;
}

/* ---- leases ------------------------------------------------------------- */

static void drop_lease(struct copy *c)
{
	if (c->lease)
		(void)pml_client_return(c->lease);
	c->lease = NULL;
}

/* All that belongs to the client, so that it can be closed. */
static void drop_all(struct copy *c)
{
	drop_lease(c);
	pml_client_queue_free(c->queue);
	pml_client_buffer_free(c->buffer);
	c->queue = NULL;
	c->buffer = NULL;
}

static int make_buffer(struct copy *c)
{
	if (c->buffer)
		return 0;
	/* No more than the file needs: a tree has many small ones. */
	uint64_t bytes = PML_MAX(c->size, (uint64_t)TOUCH_BYTES);
	uint64_t half_bytes = HALF_BYTES;
	if (c->opt->limit) /* a few pieces a second */
		half_bytes = PML_MIN(half_bytes, PML_MAX(c->opt->limit / 8, (uint64_t)TOUCH_BYTES));
	c->half_bytes = (size_t)PML_MIN(bytes, half_bytes);
	size_t halves = bytes > c->half_bytes ? 2 : 1;
	int err = pml_client_queue_new(c->server->client, 2, &c->queue);
	if (!err)
		err = pml_client_buffer_new(c->server->client, halves * c->half_bytes, &c->buffer);
	return err;
}

/* Takes the lease for what comes next, up to @end. */
static int take_lease(struct copy *c, uint64_t end)
{
	uint64_t deadline_ms = pml_now_ms() + c->opt->wait_ms;
	uint64_t len = PML_MIN(c->opt->lease_bytes, end - c->pos);
	unsigned int kind = c->opt->lease_kind | (c->is_put ? PML_CLIENT_WRITE : 0);
	int err = make_buffer(c);
	drop_lease(c);
	while (!err) {
		uint64_t now_ms = pml_now_ms();
		uint64_t left_ms = deadline_ms > now_ms ? deadline_ms - now_ms : 0;
		err = pml_client_lease_with(c->server->client, &c->attr.handle, c->pos, len, kind,
					    (int)PML_MIN(left_ms, (uint64_t)WAIT_SLICE_MS),
					    &c->lease);
		if (err != -EAGAIN || left_ms <= WAIT_SLICE_MS || is_interrupted())
			break;
		err = 0;
	}
	c->leases += !err;
	return err;
}

static void move_to(struct copy *c, uint64_t pos)
{
	if (pos != c->pos)
		c->moved_ms = pml_now_ms();
	c->pos = pos;
}

static void remark(struct copy *c, const char *what)
{
	progress_clear(c->progress);
	if (!c->opt->is_quiet)
		report_local("%s: %s", c->shown, what);
}

/* The connection is gone: the library makes it again.  Finds the file.  An exit status. */
static int find_again(struct copy *c)
{
	struct pml_client_attr attr;
	drop_lease(c);
	int err = pml_client_stat(c->server->client, c->path, &attr);
	if (err)
		return report_instead(c->server->client, c->shown, c->path, err);
	bool is_same = attr.ino == c->attr.ino && attr.generation == c->attr.generation;
	if (!c->is_put && c->opt->is_resumed)
		is_same = is_same_version(&attr, &c->attr);
	if (!is_same)
		return report_refused("%s: was %s while the connection was lost", c->shown,
				      c->opt->is_resumed ? "changed" : "replaced");
	c->attr.handle = attr.handle; /* the rest is to be compared at the end */
	c->progress->reconnects++;
	remark(c, "connected again");
	return 0;
}

/* Something went wrong remotely: 0 to take the lease again, or an exit status. */
static int recover(struct copy *c, int err)
{
	uint64_t still_ms = pml_now_ms() - c->moved_ms;
	if (!err)
		return 0;
	progress_clear(c->progress);
	if (err == -ESTALE && c->lease && still_ms <= c->opt->wait_ms) {
		c->progress->recalls++;
		drop_lease(c);
		return 0;
	}
	if (err == -EKEYREVOKED) {
		int status = report_remote(c->server->client, c->shown, err);
		c->progress->revokes++;
		if (c->revokes++ >= c->opt->retries)
			return status;
		drop_lease(c);
		return 0;
	}
	bool is_lost = is_disconnected(err) || (err == -ESTALE && !c->lease); /* the handle is */
	if (is_lost && still_ms <= (uint64_t)c->opt->wait_ms + c->opt->timeout_ms)
		return find_again(c);
	return report_remote(c->server->client, c->shown, err);
}

/* ---- holding ------------------------------------------------------------ */

/*
 * Our RETURN may have crossed a fence (a process that was stopped and goes on).  Messages
 * come in order: when a reply is there, so is the word of a revocation before it.
 */
static int ask_how_it_ended(const struct copy *c)
{
	struct pml_client_attr attr;
	int err = pml_client_stat(c->server->client, "", &attr);
	return err == -ENOTCONN ? err : pml_client_lease_status(c->lease);
}

/* Until --hold is over or the lease is.  Returns an exit status. */
static int touch(struct copy *c)
{
	const struct options *opt = c->opt;
	bool is_writing = c->is_put && !opt->is_downgrade;
	uint64_t until_ms = pml_now_ms() + (uint64_t)(opt->hold_s * 1000);
	uint32_t pause_ms = opt->ignore_recall ? TOUCH_HARD_MS : TOUCH_MS;
	size_t bytes = PML_MIN(c->chunk_bytes, (size_t)TOUCH_BYTES);
	while (pml_now_ms() < until_ms && !is_interrupted()) {
		int err = is_writing ? pml_client_write(c->lease, c->buffer, c->chunk_offset,
							c->chunk_first, bytes)
				     : pml_client_read(c->lease, c->buffer, c->chunk_offset,
						       c->chunk_first, bytes);
		if (err == -ESTALE)
			err = ask_how_it_ended(c);
		if (err == -ESTALE) {
			if (!opt->is_quiet)
				fputs("lease recalled and returned\n", stderr);
			return 0;
		}
		if (err)
			return report_remote(c->server->client, c->shown, err);
		(void)usleep(pause_ms * 1000);
	}
	return 0;
}

static int hold_lease(struct copy *c)
{
	if (!(c->opt->hold_s > 0))
		return 0;
	if (!c->lease)
		return report_local("%s: no lease to hold: nothing was copied", c->shown);
	int err = c->is_put && c->opt->is_downgrade ? pml_client_downgrade(&c->lease) : 0;
	if (err)
		return report_remote(c->server->client, c->shown, err);
	progress_clear(c->progress);
	fprintf(stderr, "holding lease %" PRIu64 " on %s\n", pml_client_lease_id(c->lease),
		c->shown);
	fflush(stderr);
	return touch(c);
}

/* ---- pieces ------------------------------------------------------------- */

/* The next piece from @at on, in the half whose turn it is. */
static struct piece make_piece(struct copy *c, int turn, uint64_t at, uint64_t end)
{
	size_t offset = turn ? c->half_bytes : 0;
	return (struct piece){
		.first = at,
		.bytes = (size_t)PML_MIN(end - at, (uint64_t)c->half_bytes),
		.data = (uint8_t *)pml_client_buffer_data(c->buffer) + offset,
	};
}

static int begin(struct copy *c, const struct piece *piece)
{
	const struct iovec iov = {.iov_base = piece->data, .iov_len = piece->bytes};
	return c->is_put ? pml_client_queue_write(c->queue, c->lease, &iov, 1, piece->first, 0)
			 : pml_client_queue_read(c->queue, c->lease, &iov, 1, piece->first, 0);
}

/* Waits for what was begun, if anything was. */
static int finish(struct copy *c)
{
	struct pml_client_completion done = {.status = 0};
	int err = 0;
	while (pml_client_queue_pending(c->queue) > 0) {
		int n = pml_client_queue_wait(c->queue, &done, 1, -1);
		if (n < 0)
			return n;
		if (n > 0 && !err)
			err = done.status;
	}
	if (!err || !pml_client_lease_status(c->lease))
		return err;
	/* A completion has no words: a call that is refused because the lease ended has. */
	return c->is_put ? pml_client_write(c->lease, c->buffer, 0, c->pos, 1)
			 : pml_client_read(c->lease, c->buffer, 0, c->pos, 1);
}

/* Not more than --limit in a second, over the whole copy. */
static void keep_limit(const struct copy *c)
{
	const struct progress *p = c->progress;
	if (!c->opt->limit)
		return;
	uint64_t due_ms =
		p->start_ms + (uint64_t)((double)p->moved_bytes * 1000 / (double)c->opt->limit);
	for (uint64_t now_ms = pml_now_ms(); now_ms < due_ms && !is_interrupted();
	     now_ms = pml_now_ms())
		(void)usleep((useconds_t)PML_MIN(due_ms - now_ms, (uint64_t)WAIT_SLICE_MS) * 1000);
}

static void note_chunk(struct copy *c, const struct piece *piece)
{
	c->chunk_first = piece->first;
	c->chunk_bytes = piece->bytes;
	c->chunk_offset = (size_t)(piece->data - (uint8_t *)pml_client_buffer_data(c->buffer));
	c->progress->moved_bytes += piece->bytes;
}

/* ---- get ---------------------------------------------------------------- */

static int write_all(const struct copy *c, uint64_t at, const uint8_t *data, size_t bytes)
{
	while (bytes > 0) {
		ssize_t n = c->is_stream ? write(c->fd, data, bytes)
					 : pwrite(c->fd, data, bytes, (off_t)at);
		if (n < 0 && errno == EINTR && !is_interrupted())
			continue;
		if (n < 0)
			return -errno;
		data += n;
		at += (size_t)n;
		bytes -= (size_t)n;
	}
	return 0;
}

static bool is_zero(const uint8_t *data, size_t bytes)
{
	return data[0] == 0 && memcmp(data, data + 1, bytes - 1) == 0;
}

/* Leaves holes where there are zeros. */
static int write_sparse(const struct copy *c, const struct piece *piece)
{
	size_t from = 0; /* of what is to be written */
	for (size_t at = 0; at < piece->bytes;) {
		size_t bytes = PML_MIN(piece->bytes - at, (size_t)PML_BLOCK_BYTES);
		if (is_zero(piece->data + at, bytes)) {
			int err = write_all(c, piece->first + from, piece->data + from, at - from);
			if (err)
				return err;
			from = at + bytes;
		}
		at += bytes;
	}
	return write_all(c, piece->first + from, piece->data + from, piece->bytes - from);
}

/* From the local file into @data.  -ENODATA: it became shorter. */
static int read_all(const struct copy *c, uint64_t at, uint8_t *data, size_t bytes)
{
	for (size_t done = 0; done < bytes;) {
		ssize_t n = pread(c->fd, data + done, bytes - done, (off_t)(at + done));
		if (n < 0 && errno == EINTR && !is_interrupted())
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			return -ENODATA;
		done += (size_t)n;
	}
	return 0;
}

static int compare(const struct copy *c, const struct piece *piece)
{
	pml_auto_free uint8_t *data = malloc(piece->bytes);
	if (!data)
		return -ENOMEM;
	int err = read_all(c, piece->first, data, piece->bytes);
	if (err)
		return err;
	return memcmp(data, piece->data, piece->bytes) == 0 ? 0 : -EILSEQ;
}

static int store(struct copy *c, const struct piece *piece)
{
	if (is_interrupted())
		return -EINTR;
	if (c->is_comparing)
		return compare(c, piece);
	return c->is_sparse ? write_sparse(c, piece)
			    : write_all(c, piece->first, piece->data, piece->bytes);
}

/*
 * Copies what one lease covers.  Returns a status of the client library; *ret_local is
 * set when something on this side failed instead.
 */
static int get_leased(struct copy *c, int *ret_local)
{
	uint64_t end = PML_MIN(pml_client_lease_end(c->lease), c->size);
	struct piece next = make_piece(c, 0, c->pos, end);
	int turn = 0;
	int err = begin(c, &next);
	while (!err && c->pos < end) {
		struct piece piece = next;
		err = finish(c);
		if (err)
			return err;
		uint64_t at = piece.first + piece.bytes;
		turn = !turn;
		if (at < end) {
			next = make_piece(c, turn, at, end);
			err = begin(c, &next); /* what is here is stored all the same */
		}
		*ret_local = store(c, &piece);
		if (*ret_local)
			break;
		note_chunk(c, &piece);
		move_to(c, at);
		progress_move(c->progress, at);
		keep_limit(c);
	}
	int late = finish(c);
	return err ? err : *ret_local ? 0 : late;
}

static int fail_locally(const struct copy *c, int err)
{
	progress_clear(c->progress);
	if (err == -EINTR)
		return report_local("%s: interrupted", c->shown);
	if (err == -ENODATA)
		return report_local("%s: became shorter while it was read", c->file);
	if (err == -EILSEQ)
		return report_local("%s and %s differ: copy again", c->shown, c->file);
	return report_local("%s: %s", c->file, strerror(-err));
}

/* Tells who keeps the copy how far it is. */
static int call_checkpoint(struct copy *c)
{
	return c->checkpoint && !c->is_comparing ? c->checkpoint(c) : 0;
}

static int get_all(struct copy *c)
{
	int status = 0;
	while (c->pos < c->size && !status) {
		int local = 0;
		int err = take_lease(c, c->size);
		if (err == -ENODATA)
			break;
		if (!err)
			err = get_leased(c, &local);
		status = local ? fail_locally(c, local) : recover(c, err);
		if (!status)
			status = call_checkpoint(c);
		if (!status && is_interrupted())
			status = fail_locally(c, -EINTR);
	}
	if (status || c->pos == c->size)
		return status;
	progress_clear(c->progress);
	return report_refused("%s: became shorter while it was read: %" PRIu64 " of %" PRIu64
			      " bytes copied: get it again",
			      c->shown, c->pos, c->size);
}

/* ---- put ---------------------------------------------------------------- */

/*
 * Moves to the next byte of data and finds the end of it.  Without data up to the end of the
 * file, .pos is there.
 */
static int find_data(struct copy *c, uint64_t *ret_end)
{
	*ret_end = c->size;
	if (!c->is_sparse)
		return 0;
	off_t data = lseek(c->fd, (off_t)c->pos, SEEK_DATA);
	if (data < 0 && errno == ENXIO) {
		c->progress->hole_bytes += c->size - c->pos;
		c->pos = c->size;
		return 0;
	}
	if (data < 0)
		return errno == EINVAL ? 0 : -errno; /* a filesystem that does not know */
	if (data >= (off_t)c->pos + SHORT_HOLE_BYTES) {
		uint64_t pos = PML_MIN(pml_round_down((uint64_t)data, PML_BLOCK_BYTES), c->size);
		c->progress->hole_bytes += pos - c->pos;
		c->pos = pos;
	}
	off_t hole = data;
	do { /* over short holes */
		hole = lseek(c->fd, data, SEEK_HOLE);
		if (hole < 0)
			return -errno;
		data = lseek(c->fd, hole, SEEK_DATA);
	} while (data >= 0 && data - hole < (off_t)SHORT_HOLE_BYTES && (uint64_t)data < c->size &&
		 (uint64_t)data < c->pos + c->opt->lease_bytes);
	*ret_end = PML_MIN((uint64_t)hole, c->size);
	return 0;
}

/* Writes what the lease covers.  As get_leased(). */
static int write_leased(struct copy *c, uint64_t end, int *ret_local)
{
	int turn = 0;
	int err = 0;
	for (uint64_t at = c->pos; at < end && !err; turn = !turn) {
		struct piece piece = make_piece(c, turn, at, end);
		*ret_local = is_interrupted() ? -EINTR
					      : read_all(c, piece.first, piece.data, piece.bytes);
		err = finish(c); /* of the piece before */
		if (err || *ret_local)
			return err;
		err = begin(c, &piece);
		note_chunk(c, &piece);
		at += piece.bytes;
		progress_move(c->progress, at);
		keep_limit(c);
	}
	int late = finish(c);
	return err ? err : late;
}

/* Position moves only by the commit. */
static int put_leased(struct copy *c, uint64_t end, int *ret_local)
{
	end = PML_MIN(pml_client_lease_end(c->lease), end);
	int err = write_leased(c, end, ret_local);
	if (err || *ret_local)
		return *ret_local ? 0 : err;
	err = pml_client_commit(c->lease, c->pos, end - c->pos, end);
	if (err)
		return err;
	move_to(c, end);
	c->end = PML_MAX(c->end, end);
	return 0;
}

static int put_all(struct copy *c)
{
	int status = 0;
	while (c->pos < c->size && !status) {
		uint64_t end = 0;
		int err = 0;
		int local = find_data(c, &end);
		if (!local && c->pos == c->size)
			break;
		if (!local)
			err = take_lease(c, end);
		if (!local && !err)
			err = put_leased(c, end, &local);
		status = local ? fail_locally(c, local) : recover(c, err);
		if (!status)
			status = call_checkpoint(c);
		if (!status && is_interrupted())
			status = fail_locally(c, -EINTR);
	}
	return status;
}

/* ---- one copy ----------------------------------------------------------- */

int run_copy(struct copy *copy, int (*then)(struct copy *copy))
{
	copy->moved_ms = pml_now_ms();
	progress_begin(copy->progress, name_of(copy->shown), copy->size);
	copy->progress->resumed_bytes += copy->pos;
	progress_move(copy->progress, copy->pos);
	int status = copy->is_put ? put_all(copy) : get_all(copy);
	if (!status)
		progress_move(copy->progress, copy->size);
	progress_end(copy->progress);
	if (!(copy->opt->hold_s > 0))
		drop_lease(copy);
	if (!status && then)
		status = then(copy);
	if (!status)
		status = hold_lease(copy);
	drop_all(copy);
	return status;
}

int verify_copy(struct copy *copy)
{
	struct copy v = {.server = copy->server,
			 .opt = copy->opt,
			 .progress = copy->progress,
			 .path = copy->path,
			 .shown = copy->shown,
			 .file = copy->file,
			 .fd = copy->fd,
			 .attr = copy->attr,
			 .size = copy->size,
			 .is_comparing = true,
			 .moved_ms = pml_now_ms()};
	progress_begin(v.progress, name_of(v.shown), v.size);
	int status = get_all(&v);
	progress_begin(v.progress, "", 0);
	drop_all(&v);
	return status;
}
