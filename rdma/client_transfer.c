/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * client_transfer.c -- client library: one transfer between program memory and a leased range
 *
 * The program's side is a list of pieces that are registered; the file's side are the
 * segments of the lease.  An operation is what is contiguous on both sides.  Memory that is not
 * registered goes through a bounce slot when it is little, and else is registered, for as
 * long as the transfer takes or longer (client_memory.c); if it cannot be, because it
 * may not be written, say, it goes through memory of the library's own.
 *
 * Threads: begin and end run in the program's thread, the source of operations under the
 * data lock.
 */
#include <string.h>

#include "client_i.h"

void pml_transfer_init(struct pml_transfer *t, struct pml_client_lease *lease, uint64_t first_byte)
{
	static_assert(offsetof(struct pml_transfer, small_iov) + sizeof(t->small_iov) ==
				      sizeof(*t) &&
			      offsetof(struct pml_transfer, small_iov) ==
				      offsetof(struct pml_transfer, small) + sizeof(t->small),
		      "nothing behind what is not zeroed");
	memset(t, 0, offsetof(struct pml_transfer, small));
	t->lease = lease;
	t->at_byte = first_byte;
	t->depth = PML_TRANSFER_DEPTH;
	t->pieces = t->small;
	t->iov = t->small_iov;
	pml_list_init(&t->link);
}

/* ---- the source --------------------------------------------------------- */

/* Steps over @bytes of the program's side. */
static void advance(struct pml_transfer *t, size_t bytes)
{
	t->piece_at += bytes;
	while (t->piece < t->npieces && t->piece_at >= t->pieces[t->piece].bytes) {
		t->piece_at -= t->pieces[t->piece].bytes;
		t->piece++;
	}
}

/* The next operation of a contiguous range of the file. */
static bool next_of_range(struct pml_transfer *t, struct pml_data_op *ret_op)
{
	const struct pml_client_lease *lease = t->lease;
	const struct pml_wire_segment *s = &lease->segments[t->segment];
	if (t->at_byte == t->end_byte)
		return false;
	for (; t->segment < lease->nsegments; s = &lease->segments[++t->segment])
		if (s->first_byte + s->len_bytes > t->at_byte)
			break;
	if (t->segment == lease->nsegments || s->first_byte >= t->end_byte)
		return false;
	if (s->first_byte > t->at_byte) {
		/* No segment: zeroed at the begin of the transfer. */
		advance(t, s->first_byte - t->at_byte);
		t->at_byte = s->first_byte;
	}
	const struct pml_piece *piece = &t->pieces[t->piece];
	uint64_t bytes = PML_MIN(s->first_byte + s->len_bytes, t->end_byte) - t->at_byte;
	bytes = PML_MIN(bytes, (uint64_t)(piece->bytes - t->piece_at));
	bytes = PML_MIN(bytes, (uint64_t)PML_DATA_BYTES_MAX);
	*ret_op = (struct pml_data_op){
		.mr = piece->mr,
		.buf = piece->data + t->piece_at,
		.bytes = (uint32_t)bytes,
		.remote_addr = s->remote_addr + (t->at_byte - s->first_byte),
		.rkey = s->rkey,
		.kind = t->is_write ? PML_DATA_WRITE : PML_DATA_READ,
	};
	advance(t, bytes);
	t->at_byte += bytes;
	return true;
}

/* One byte of the lease, wherever. */
static bool next_of_gap(struct pml_transfer *t, struct pml_data_op *ret_op)
{
	const struct pml_wire_segment *s = &t->lease->segments[0];
	if (t->at_byte == t->end_byte)
		return false;
	*ret_op = (struct pml_data_op){
		.kind = PML_DATA_READ,
		.mr = t->pieces[0].mr,
		.buf = t->pieces[0].data,
		.bytes = 1,
		.remote_addr = s->remote_addr,
		.rkey = s->rkey,
	};
	t->at_byte = t->end_byte;
	return true;
}

static void zero_pieces(const struct pml_transfer *t, uint64_t from, uint64_t bytes)
{
	for (uint32_t i = 0; i < t->npieces && bytes > 0; i++) {
		const struct pml_piece *piece = &t->pieces[i];
		if (from >= piece->bytes) {
			from -= piece->bytes;
			continue;
		}
		uint64_t n = PML_MIN(bytes, (uint64_t)piece->bytes - from);
		memset(piece->data + from, 0, n);
		bytes -= n;
		from = 0;
	}
}

/* The first segment that ends behind @at, or their number.  They are ordered. */
static uint32_t find_segment(const struct pml_client_lease *lease, uint64_t at)
{
	uint32_t first = 0;
	uint32_t end = lease->nsegments;
	while (first < end) {
		uint32_t middle = first + (end - first) / 2;
		const struct pml_wire_segment *s = &lease->segments[middle];
		if (s->first_byte + s->len_bytes > at)
			end = middle;
		else
			first = middle + 1;
	}
	return first;
}

/* What no segment covers reads as zeros. */
static void zero_gaps(const struct pml_transfer *t)
{
	const struct pml_client_lease *lease = t->lease;
	uint64_t at = t->at_byte;
	for (uint32_t i = t->segment; i < lease->nsegments && at < t->end_byte; i++) {
		const struct pml_wire_segment *s = &lease->segments[i];
		uint64_t gap_end = PML_MIN(s->first_byte, t->end_byte);
		if (gap_end > at)
			zero_pieces(t, at - t->at_byte, gap_end - at);
		at = PML_MAX(at, s->first_byte + s->len_bytes);
	}
	if (at < t->end_byte)
		zero_pieces(t, at - t->at_byte, t->end_byte - at);
}

/* ---- the program's side -------------------------------------------------- */

static void copy_iov(const struct pml_transfer *t, bool to_bounce)
{
	uint8_t *at = t->bounce;
	for (uint32_t i = 0; i < t->niov; i++) {
		if (to_bounce)
			memcpy(at, t->iov[i].iov_base, t->iov[i].iov_len);
		else
			memcpy(t->iov[i].iov_base, at, t->iov[i].iov_len);
		at += t->iov[i].iov_len;
	}
}

static void put_memory(struct pml_transfer *t)
{
	for (uint32_t i = 0; i < t->npieces; i++)
		if (t->pieces[i].memory)
			pml_memory_put(t->lease->client, t->pieces[i].memory);
	t->npieces = 0;
}

static void free_sides(struct pml_transfer *t)
{
	put_memory(t);
	if (t->bounce_slot)
		pml_bounce_give(t->lease->client, t->bounce_slot);
	if (t->pieces != t->small)
		free(t->pieces);
	if (t->iov != t->small_iov)
		free(t->iov);
}

static int alloc_sides(struct pml_transfer *t, uint32_t niov)
{
	if (niov <= PML_TRANSFER_PIECES_SMALL)
		return 0;
	t->pieces = calloc(niov, sizeof(t->pieces[0]));
	t->iov = calloc(niov, sizeof(t->iov[0]));
	if (t->pieces && t->iov)
		return 0;
	free(t->pieces);
	free(t->iov);
	return -ENOMEM;
}

/* Copies @iov without its empty entries, and adds up its bytes. */
static int take_iov(struct pml_transfer *t, const struct iovec *iov, int niov)
{
	if (niov < 0 || niov > PML_TRANSFER_PIECES_MAX)
		return pml_client_fail(-EINVAL, "transfer: 0 to %d pieces of memory can be given",
				       PML_TRANSFER_PIECES_MAX);
	if (alloc_sides(t, (uint32_t)niov))
		return pml_client_fail(-ENOMEM, "transfer: out of memory");
	for (int i = 0; i < niov; i++) {
		if (iov[i].iov_len > (size_t)INT64_MAX - t->bytes) {
			free_sides(t);
			return pml_client_fail(-EINVAL, "transfer: more bytes than a file has");
		}
		t->bytes += iov[i].iov_len;
		if (iov[i].iov_len > 0)
			t->iov[t->niov++] = iov[i];
	}
	return 0;
}

/* The program's memory, of which the caller knows where it is registered. */
static void use_known(struct pml_transfer *t, struct pml_memory *memory)
{
	for (uint32_t i = 0; i < t->niov; i++) {
		pml_memory_hold(memory);
		t->pieces[t->npieces++] = (struct pml_piece){
			.data = t->iov[i].iov_base,
			.bytes = t->iov[i].iov_len,
			.mr = memory->mr,
			.memory = memory,
		};
	}
}

/* The program's memory itself, as far as it is registered or may be. */
static int use_iov(struct pml_transfer *t, bool may_register)
{
	for (uint32_t i = 0; i < t->niov; i++) {
		struct pml_memory *memory;
		int err = pml_memory_get(t->lease->client, t->iov[i].iov_base, t->iov[i].iov_len,
					 may_register, &memory);
		if (err) {
			put_memory(t);
			return err;
		}
		t->pieces[t->npieces++] = (struct pml_piece){
			.data = t->iov[i].iov_base,
			.bytes = t->iov[i].iov_len,
			.mr = memory->mr,
			.memory = memory,
		};
	}
	return 0;
}

static bool use_bounce_slot(struct pml_transfer *t)
{
	struct pml_local_mr *mr;
	t->bounce_slot = pml_bounce_take(t->lease->client, &mr);
	if (!t->bounce_slot)
		return false;
	t->bounce = t->bounce_slot;
	t->pieces[t->npieces++] =
		(struct pml_piece){.data = t->bounce, .bytes = t->bytes, .mr = mr};
	return true;
}

/* Memory of its own, for a transfer whose memory cannot be registered. */
static int use_copy(struct pml_transfer *t)
{
	struct pml_memory *memory;
	int err = pml_memory_new(t->lease->client, t->bytes, &memory);
	if (err)
		return err;
	t->bounce = (uint8_t *)memory->first;
	t->pieces[t->npieces++] = (struct pml_piece){
		.data = t->bounce, .bytes = t->bytes, .mr = memory->mr, .memory = memory};
	return 0;
}

static int use_memory(struct pml_transfer *t, struct pml_memory *known)
{
	if (known) {
		use_known(t, known);
		return 0;
	}
	int err = use_iov(t, false);
	if (err == -ENOENT && t->bytes <= PML_BOUNCE_BYTES && use_bounce_slot(t))
		err = 0;
	if (err == -ENOENT)
		err = use_iov(t, true);
	/* Read-only memory, say, or the limit of locked memory. */
	if (err && err != -ENOTCONN)
		err = use_copy(t);
	if (err)
		return pml_client_fail(
			err,
			"transfer: %llu bytes of memory cannot be registered: %s (see ulimit -l)",
			(unsigned long long)t->bytes, strerror(-err));
	if (t->bounce && t->is_write)
		copy_iov(t, true);
	return 0;
}

/* Small memory of its own. */
static int use_scratch(struct pml_transfer *t, size_t bytes)
{
	struct pml_local_mr *mr;
	struct pml_memory *memory = NULL;
	t->bounce_slot = pml_bounce_take(t->lease->client, &mr);
	uint8_t *data = t->bounce_slot;
	if (!data) {
		int err = pml_memory_new(t->lease->client, bytes, &memory);
		if (err)
			return pml_client_fail(err, "transfer: %zu bytes cannot be registered: %s",
					       bytes, strerror(-err));
		data = (uint8_t *)memory->first;
		mr = memory->mr;
	}
	t->pieces[t->npieces++] =
		(struct pml_piece){.data = data, .bytes = bytes, .mr = mr, .memory = memory};
	return 0;
}

/* ---- begin and end ------------------------------------------------------ */

static int check_range(const struct pml_transfer *t)
{
	const struct pml_client_lease *lease = t->lease;
	if (lease->for_write != t->is_write)
		return pml_client_fail(-EINVAL, "transfer: a %s lease does not do that",
				       lease->for_write ? "write" : "read");
	if (t->at_byte < lease->first_byte || t->at_byte > lease->end_byte ||
	    t->bytes > lease->end_byte - t->at_byte)
		return pml_client_fail(-EINVAL, "transfer: outside the lease");
	return 0;
}

/* Is no byte of a read behind a segment? */
static bool is_gap(const struct pml_transfer *t)
{
	const struct pml_client_lease *lease = t->lease;
	if (t->segment < lease->nsegments && lease->segments[t->segment].first_byte < t->end_byte)
		return false;
	return !t->is_write && t->bytes > 0;
}

/*
 * Zeros, if the lease is still there: nothing is transferred that a fence could refuse, so some
 * byte of the lease is read behind them.  What another transfer reads proves the same by itself.
 */
static int use_zeros(struct pml_transfer *t)
{
	if (t->lease->nsegments == 0)
		return pml_client_fail(-EPROTO, "transfer: the server gave no key with the lease");
	for (uint32_t i = 0; i < t->niov; i++)
		memset(t->iov[i].iov_base, 0, t->iov[i].iov_len);
	t->next = next_of_gap;
	return use_scratch(t, 1);
}

int pml_transfer_begin(struct pml_transfer *t, struct pml_client_lease *lease, bool is_write,
		       const struct iovec *iov, int niov, uint64_t first_byte,
		       struct pml_memory *memory)
{
	pml_transfer_init(t, lease, first_byte);
	t->is_write = is_write;
	t->next = next_of_range;
	int err = take_iov(t, iov, niov);
	if (err)
		return err;
	t->end_byte = first_byte + t->bytes;
	t->segment = find_segment(lease, first_byte);
	err = check_range(t);
	if (!err)
		err = is_gap(t) ? use_zeros(t) : use_memory(t, memory);
	if (!err)
		err = pml_transfer_use(t);
	if (err) {
		free_sides(t);
		return err;
	}
	if (!is_write && t->next == next_of_range)
		zero_gaps(t);
	return 0;
}

int pml_transfer_use_scratch(struct pml_transfer *t, size_t bytes)
{
	assert(bytes <= PML_BOUNCE_BYTES);
	return use_scratch(t, bytes);
}

void pml_transfer_drop(struct pml_transfer *t)
{
	free_sides(t);
}

int pml_transfer_use(struct pml_transfer *t)
{
	return pml_client_lease_begin(t->lease);
}

int pml_transfer_end(struct pml_transfer *t)
{
	struct pml_client_lease *lease = t->lease;
	assert(t->is_done);
	if (t->err == -EACCES || t->err == -ENOTCONN)
		t->err = pml_client_lease_verdict(lease, t->err);
	if (t->err && atomic_load(&lease->status))
		(void)pml_client_lease_fail(lease, t->err);
	else if (t->err)
		(void)pml_client_fail(t->err, "transfer: %s", strerror(-t->err));
	if (!t->err && t->bounce && !t->is_write)
		copy_iov(t, false);
	free_sides(t);
	pml_client_lease_put(lease);
	return t->err;
}
