/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * client_io.c -- client library: synchronous one-sided transfers
 *
 * Each is a transfer (client_transfer.c) that the caller waits for.  None returns
 * before every operation that it posted has completed, whatever went wrong, so a caller may
 * reuse or free the memory.
 *
 * Threads: any; transfers of several threads run side by side.
 */
#include <time.h>

#include "client_i.h"

/* @memory: what the pieces lie in, if the caller knows and keeps it; else NULL. */
static int run_transfer(struct pml_client_lease *lease, bool is_write, const struct iovec *iov,
			int niov, uint64_t first_byte, struct pml_memory *memory)
{
	struct pml_transfer t;
	int err = pml_transfer_begin(&t, lease, is_write, iov, niov, first_byte, memory);
	if (err)
		return err;
	pml_data_run(lease->client, &t);
	return pml_transfer_end(&t);
}

int pml_client_readv(struct pml_client_lease *lease, const struct iovec *iov, int niov,
		     uint64_t first_byte)
{
	return run_transfer(lease, false, iov, niov, first_byte, NULL);
}

int pml_client_writev(struct pml_client_lease *lease, const struct iovec *iov, int niov,
		      uint64_t first_byte)
{
	return run_transfer(lease, true, iov, niov, first_byte, NULL);
}

static int transfer_buffer(struct pml_client_lease *lease, bool is_write,
			   const struct pml_client_buffer *buffer, size_t buffer_offset,
			   uint64_t first_byte, size_t len_bytes)
{
	if (buffer_offset > buffer->bytes || len_bytes > buffer->bytes - buffer_offset)
		return pml_client_fail(-EINVAL, "transfer: outside the buffer");
	const struct iovec iov = {.iov_base = buffer->data + buffer_offset, .iov_len = len_bytes};
	return run_transfer(lease, is_write, &iov, 1, first_byte, buffer->memory);
}

int pml_client_read(struct pml_client_lease *lease, struct pml_client_buffer *buffer,
		    size_t buffer_offset, uint64_t first_byte, size_t len_bytes)
{
	return transfer_buffer(lease, false, buffer, buffer_offset, first_byte, len_bytes);
}

int pml_client_write(struct pml_client_lease *lease, struct pml_client_buffer *buffer,
		     size_t buffer_offset, uint64_t first_byte, size_t len_bytes)
{
	return transfer_buffer(lease, true, buffer, buffer_offset, first_byte, len_bytes);
}

/* ---- streams, for benchmarks -------------------------------------------- */

/* The next operation of a stream that goes round the segments.  Assumes: one is long enough. */
static bool next_of_stream(struct pml_transfer *t, struct pml_data_op *ret_op)
{
	if (t->left == 0)
		return false;
	const struct pml_client_lease *lease = t->lease;
	const struct pml_wire_segment *s = &lease->segments[t->segment];
	while (t->at_byte + t->op_bytes > s->len_bytes) {
		t->segment = (t->segment + 1) % lease->nsegments;
		t->at_byte = 0;
		s = &lease->segments[t->segment];
	}
	*ret_op = (struct pml_data_op){
		.mr = t->pieces[0].mr,
		.buf = t->pieces[0].data + (size_t)t->slot * t->op_bytes,
		.bytes = t->op_bytes,
		.remote_addr = s->remote_addr + t->at_byte,
		.rkey = s->rkey,
		.kind = t->is_write ? PML_DATA_WRITE : PML_DATA_READ,
	};
	t->at_byte += t->op_bytes;
	t->slot = (t->slot + 1) % t->nslots;
	t->left--;
	return true;
}

static int run_stream(struct pml_transfer *t, uint64_t *ret_ns)
{
	struct pml_client *client = t->lease->client;
	struct timespec from;
	struct timespec to;
	int err = pml_transfer_use(t);
	if (err)
		return err;
	clock_gettime(CLOCK_MONOTONIC, &from);
	pml_data_run(client, t);
	clock_gettime(CLOCK_MONOTONIC, &to);
	err = pml_transfer_end(t);
	*ret_ns = (uint64_t)(to.tv_sec - from.tv_sec) * 1000000000u + (uint64_t)to.tv_nsec -
		  (uint64_t)from.tv_nsec;
	return err;
}

int pml_client_stream(struct pml_client_lease *lease, struct pml_client_buffer *buffer,
		      bool is_write, uint32_t op_bytes, uint32_t depth, uint64_t count,
		      uint64_t *ret_ns)
{
	if (lease->for_write != is_write || op_bytes == 0 || op_bytes > PML_DATA_BYTES_MAX ||
	    op_bytes > buffer->bytes || depth == 0 || depth > PML_DATA_DEPTH)
		return pml_client_fail(-EINVAL, "stream: size, depth or direction out of range");
	uint64_t longest = 0;
	for (uint32_t i = 0; i < lease->nsegments; i++)
		longest = PML_MAX(longest, lease->segments[i].len_bytes);
	if (longest < op_bytes)
		return pml_client_fail(-EINVAL,
				       "stream: the longest contiguous part of the lease has %llu "
				       "bytes: use smaller operations",
				       (unsigned long long)longest);
	struct pml_transfer t;
	pml_transfer_init(&t, lease, 0);
	t.is_write = is_write;
	t.depth = depth;
	t.next = next_of_stream;
	t.left = count;
	t.op_bytes = op_bytes;
	t.nslots = (uint32_t)PML_MIN(buffer->bytes / op_bytes, (size_t)depth);
	t.pieces[0] = (struct pml_piece){
		.data = buffer->data, .bytes = buffer->bytes, .mr = buffer->memory->mr};
	t.npieces = 1;
	return run_stream(&t, ret_ns);
}
