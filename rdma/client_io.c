/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * client_io.c -- client library: buffers and one-sided transfers
 *
 * A transfer is a source of operations and one loop that keeps some of them in
 * flight.  The loop never leaves before every operation that it posted has
 * completed, whatever went wrong, so a caller may reuse or free the buffer.
 *
 * Threads: one transfer at a time per client (data_lock), so completions need
 * no sorting by caller.
 */
#include <string.h>
#include <time.h>

#include "client_i.h"
#include "thread.h"

/* Pieces in flight of a read or write: enough for the fabric, short to drain. */
#define TRANSFER_DEPTH 16u
#define POLL_MAX       32
#define POLL_MS	       1000

struct pml_client_buffer {
	struct pml_list link;
	struct pml_client *client;
	uint8_t *data;
	size_t bytes;
	struct pml_local_mr *mr;
};

struct transfer {
	struct pml_client_lease *lease;
	struct pml_client_buffer *buffer;
	bool is_write;
	uint32_t depth;
	/* Fills in buf, bytes, remote_addr and rkey of the next operation; false: no more. */
	bool (*next)(struct transfer *t, struct pml_data_op *ret_op);

	/* Where the source is. */
	uint32_t segment;
	uint64_t at_byte; /* in the file */
	uint64_t end_byte;
	uint8_t *data; /* of at_byte */
	uint64_t left; /* stream: operations to go */
	uint32_t op_bytes;
	uint32_t slot; /* stream: where in the buffer */
	uint32_t nslots;

	uint32_t in_flight;
	int err; /* the first that says something */
};

/* ---- buffers ------------------------------------------------------------ */

int pml_client_buffer_new(struct pml_client *client, size_t bytes,
			  struct pml_client_buffer **ret_buffer)
{
	if (bytes == 0 || bytes > (size_t)INT64_MAX)
		return pml_client_fail(-EINVAL, "buffer: empty or too large");
	size_t room = pml_round_up(bytes, PML_BLOCK_BYTES);
	struct pml_client_buffer *buffer = calloc(1, sizeof(*buffer));
	void *data = aligned_alloc(PML_BLOCK_BYTES, room);
	if (!buffer || !data) {
		free(buffer);
		free(data);
		return pml_client_fail(-ENOMEM, "buffer of %zu bytes: out of memory", bytes);
	}
	memset(data, 0, room);
	int err = pml_local_mr_new(client->ep, data, room, &buffer->mr);
	if (err) {
		free(buffer);
		free(data);
		return pml_client_fail(
			err, "buffer of %zu bytes: cannot be registered: %s (see ulimit -l)", bytes,
			strerror(-err));
	}
	buffer->client = client;
	buffer->data = data;
	buffer->bytes = bytes;
	pthread_mutex_lock(&client->lock);
	pml_list_append(&client->buffers, &buffer->link);
	pthread_mutex_unlock(&client->lock);
	*ret_buffer = buffer;
	return 0;
}

void *pml_client_buffer_data(struct pml_client_buffer *buffer)
{
	return buffer->data;
}

void pml_client_buffer_free(struct pml_client_buffer *buffer)
{
	if (!buffer)
		return;
	pthread_mutex_lock(&buffer->client->lock);
	pml_list_remove(&buffer->link);
	pthread_mutex_unlock(&buffer->client->lock);
	pml_local_mr_free(buffer->mr);
	free(buffer->data);
	free(buffer);
}

/* Assumes: no other thread uses the client any more. */
void pml_client_buffers_free(struct pml_client *client)
{
	while (!pml_list_is_empty(&client->buffers))
		pml_client_buffer_free(
			pml_list_entry(client->buffers.next, struct pml_client_buffer, link));
}

/* ---- sources of operations ---------------------------------------------- */

/* Passes over @bytes that no segment covers: they read as zeros. */
static void skip_gap(struct transfer *t, uint64_t bytes)
{
	memset(t->data, 0, bytes);
	t->data += bytes;
	t->at_byte += bytes;
}

/* The next piece of a contiguous range. */
static bool next_piece(struct transfer *t, struct pml_data_op *ret_op)
{
	const struct pml_client_lease *lease = t->lease;
	while (t->segment < lease->nsegments) {
		const struct pml_wire_segment *s = &lease->segments[t->segment];
		uint64_t segment_end = s->first_byte + s->len_bytes;
		if (segment_end <= t->at_byte) {
			t->segment++;
			continue;
		}
		if (s->first_byte >= t->end_byte)
			break;
		if (s->first_byte > t->at_byte)
			skip_gap(t, s->first_byte - t->at_byte);
		if (t->at_byte == t->end_byte)
			return false;

		uint64_t bytes = PML_MIN(segment_end, t->end_byte) - t->at_byte;
		bytes = PML_MIN(bytes, (uint64_t)PML_DATA_BYTES_MAX);
		ret_op->buf = t->data;
		ret_op->bytes = (uint32_t)bytes;
		ret_op->remote_addr = s->remote_addr + (t->at_byte - s->first_byte);
		ret_op->rkey = s->rkey;
		t->data += bytes;
		t->at_byte += bytes;
		return true;
	}
	skip_gap(t, t->end_byte - t->at_byte);
	return false;
}

/* The next operation of a stream that goes round the segments.  Assumes: one is long enough. */
static bool next_of_stream(struct transfer *t, struct pml_data_op *ret_op)
{
	if (t->left == 0)
		return false;
	const struct pml_client_lease *lease = t->lease;
	const struct pml_wire_segment *s = &lease->segments[t->segment];
	/* at_byte counts from the segment's begin here. */
	while (t->at_byte + t->op_bytes > s->len_bytes) {
		t->segment = (t->segment + 1) % lease->nsegments;
		t->at_byte = 0;
		s = &lease->segments[t->segment];
	}
	ret_op->buf = t->buffer->data + (size_t)t->slot * t->op_bytes;
	ret_op->bytes = t->op_bytes;
	ret_op->remote_addr = s->remote_addr + t->at_byte;
	ret_op->rkey = s->rkey;
	t->at_byte += t->op_bytes;
	t->slot = (t->slot + 1) % t->nslots;
	t->left--;
	return true;
}

/* ---- the loop ----------------------------------------------------------- */

/* A dead key says more than the connection that breaks after it. */
static void note_error(struct transfer *t, int err)
{
	if (err && (t->err == 0 || err == -EACCES))
		t->err = err;
}

/* Posts until enough is in flight; @op is the one to post next.  False: no more to post. */
static bool post_some(struct transfer *t, struct pml_data_op *op)
{
	while (t->in_flight < t->depth) {
		int err = atomic_load(&t->lease->status);
		if (!err)
			err = pml_ep_post(t->lease->client->ep, op);
		if (err == -EAGAIN && t->in_flight > 0)
			return true;
		note_error(t, err);
		if (err)
			return false;
		t->in_flight++;
		if (!t->next(t, op))
			return false;
	}
	return true;
}

static void collect_some(struct transfer *t, uint64_t *deadline_ms)
{
	struct pml_client *client = t->lease->client;
	struct pml_completion done[POLL_MAX];
	int count = pml_ep_poll(client->ep, done, POLL_MAX, POLL_MS);
	if (count < 0) {
		note_error(t, -ENOTCONN);
		t->in_flight = 0;
		return;
	}
	for (int i = 0; i < count; i++)
		note_error(t, done[i].status);
	t->in_flight -= PML_MIN((uint32_t)count, t->in_flight);

	/* When nothing moves, end the connection: then everything completes. */
	if (count > 0)
		*deadline_ms = pml_now_ms() + client->request_timeout_ms;
	else if (pml_now_ms() > *deadline_ms)
		pml_client_die(client, "transfers do not complete");
}

static void run_transfer(struct transfer *t)
{
	struct pml_data_op op = {.mr = t->buffer->mr, .is_write = t->is_write};
	uint64_t deadline_ms = pml_now_ms() + t->lease->client->request_timeout_ms;
	bool has_more = t->next(t, &op);
	while (has_more || t->in_flight > 0) {
		if (has_more)
			has_more = post_some(t, &op);
		if (t->in_flight > 0)
			collect_some(t, &deadline_ms);
		if (t->err)
			has_more = false;
	}
}

/* Runs a transfer under the locks that it needs. */
static int transfer(struct transfer *t, uint64_t *ret_ns)
{
	struct pml_client *client = t->lease->client;
	struct timespec from;
	struct timespec to;
	pthread_mutex_lock(&client->data_lock);
	int err = pml_client_lease_begin(t->lease);
	if (err) {
		pthread_mutex_unlock(&client->data_lock);
		return err;
	}
	clock_gettime(CLOCK_MONOTONIC, &from);
	run_transfer(t);
	clock_gettime(CLOCK_MONOTONIC, &to);
	if (t->err == -EACCES || t->err == -ENOTCONN)
		t->err = pml_client_lease_verdict(t->lease, t->err);
	if (t->err && atomic_load(&t->lease->status))
		(void)pml_client_lease_fail(t->lease, t->err);
	else if (t->err)
		(void)pml_client_fail(t->err, "transfer: %s", strerror(-t->err));
	pml_client_lease_end_use(t->lease);
	pthread_mutex_unlock(&client->data_lock);
	*ret_ns = (uint64_t)(to.tv_sec - from.tv_sec) * 1000000000u + (uint64_t)to.tv_nsec -
		  (uint64_t)from.tv_nsec;
	return t->err;
}

static int transfer_range(struct transfer *t, size_t buffer_offset, uint64_t first_byte,
			  size_t len_bytes)
{
	const struct pml_client_lease *lease = t->lease;
	if (lease->for_write != t->is_write)
		return pml_client_fail(-EINVAL, "transfer: a %s lease does not do that",
				       lease->for_write ? "write" : "read");
	if (first_byte < lease->first_byte || first_byte > lease->end_byte ||
	    len_bytes > lease->end_byte - first_byte)
		return pml_client_fail(-EINVAL, "transfer: outside the lease");
	if (buffer_offset > t->buffer->bytes || len_bytes > t->buffer->bytes - buffer_offset)
		return pml_client_fail(-EINVAL, "transfer: outside the buffer");
	if (len_bytes == 0)
		return 0;

	t->depth = TRANSFER_DEPTH;
	t->next = next_piece;
	t->at_byte = first_byte;
	t->end_byte = first_byte + len_bytes;
	t->data = t->buffer->data + buffer_offset;
	uint64_t ns;
	return transfer(t, &ns);
}

int pml_client_read(struct pml_client_lease *lease, struct pml_client_buffer *buffer,
		    size_t buffer_offset, uint64_t first_byte, size_t len_bytes)
{
	struct transfer t = {.lease = lease, .buffer = buffer};
	return transfer_range(&t, buffer_offset, first_byte, len_bytes);
}

int pml_client_write(struct pml_client_lease *lease, struct pml_client_buffer *buffer,
		     size_t buffer_offset, uint64_t first_byte, size_t len_bytes)
{
	struct transfer t = {.lease = lease, .buffer = buffer, .is_write = true};
	return transfer_range(&t, buffer_offset, first_byte, len_bytes);
}

int pml_client_stream(struct pml_client_lease *lease, struct pml_client_buffer *buffer,
		      bool is_write, uint32_t op_bytes, uint32_t depth, uint64_t count,
		      uint64_t *ret_ns)
{
	if (lease->for_write != is_write || op_bytes == 0 || op_bytes > PML_DATA_BYTES_MAX ||
	    op_bytes > buffer->bytes || depth == 0 || depth > PML_DATA_DEPTH)
		return pml_client_fail(-EINVAL, "stream: size, depth or direction out of range");
	struct transfer t = {
		.lease = lease,
		.buffer = buffer,
		.is_write = is_write,
		.depth = depth,
		.next = next_of_stream,
		.left = count,
		.op_bytes = op_bytes,
		.nslots = (uint32_t)PML_MIN(buffer->bytes / op_bytes, (size_t)depth),
	};
	uint64_t longest = 0;
	for (uint32_t i = 0; i < lease->nsegments; i++)
		longest = PML_MAX(longest, lease->segments[i].len_bytes);
	if (longest < op_bytes)
		return pml_client_fail(-EINVAL,
				       "stream: the longest contiguous part of the lease has %llu "
				       "bytes: use smaller operations",
				       (unsigned long long)longest);
	return transfer(&t, ret_ns);
}
