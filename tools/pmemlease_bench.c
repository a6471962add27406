/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * pmemlease_bench.c -- measure one-sided transfers through a lease
 *
 * The time is that from the first posted operation to the last completion; the
 * lease is taken before and returned after it.  It goes through a queue, as a
 * program's transfers would.
 */
#include <stdio.h>
#include <sys/stat.h>
#include <time.h>

#include "pmemlease.h"

#define DEPTH_MAX   128u       /* of --depth */
#define SAMPLES_MAX (1u << 16) /* operations whose time is kept: the first ones */

struct bench {
	struct pml_client *client;
	const struct options *opt;
	struct pml_client_lease *lease;
	struct pml_client_buffer *buffer;
	struct pml_client_queue *queue;
	uint64_t file_size; /* of which is used */

	uint64_t end_byte; /* of what the lease covers of that */
	uint64_t at_byte;  /* of the next operation */
	uint64_t submitted;
	uint64_t completed;
	/* Parts of the buffer that no operation uses, by number. */
	uint32_t free_slots[DEPTH_MAX];
	uint32_t nfree;
	uint64_t begun_ns[DEPTH_MAX]; /* of the operation in that part */
	/* How long operations took. */
	uint64_t *samples_ns;
	uint32_t nsamples;
};

static uint64_t now_ns(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static int compare_ns(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
	return (x > y) - (x < y);
}

static void print_result(const struct bench *b, uint64_t ns)
{
	const struct options *opt = b->opt;
	qsort(b->samples_ns, b->nsamples, sizeof(*b->samples_ns), compare_ns);
	double us_p50 = (double)b->samples_ns[b->nsamples / 2] / 1e3;
	double us_p99 = (double)b->samples_ns[b->nsamples - 1 - b->nsamples / 100] / 1e3;
	double seconds = (double)(ns ? ns : 1) / 1e9;
	double bytes = (double)opt->count * opt->op_bytes;
	const char *what = opt->is_write ? "write" : "read";
	if (opt->is_json)
		printf("{\"op\": \"%s\", \"bytes\": %u, \"count\": %llu, \"depth\": %u, "
		       "\"seconds\": %.9f, \"mb_per_s\": %.3f, \"op_per_s\": %.1f, "
		       "\"us_per_op\": %.3f, \"us_p50\": %.3f, \"us_p99\": %.3f}\n",
		       what, opt->op_bytes, (unsigned long long)opt->count, opt->depth, seconds,
		       bytes / seconds / 1e6, (double)opt->count / seconds,
		       seconds * 1e6 / (double)opt->count, us_p50, us_p99);
	else
		printf("%s %u B x %llu depth %u: %.1f MB/s %.0f op/s us_per_op=%.2f p50=%.2f p99=%.2f\n",
		       what, opt->op_bytes, (unsigned long long)opt->count, opt->depth,
		       bytes / seconds / 1e6, (double)opt->count / seconds,
		       seconds * 1e6 / (double)opt->count, us_p50, us_p99);
}

/* Finds the file, or makes it to write.  Returns an exit status. */
static int find_file(struct bench *b, struct pml_client_attr *ret_attr)
{
	const struct options *opt = b->opt;
	int err = opt->is_write ? pml_client_create(b->client, opt->path, 0644, false, ret_attr)
				: pml_client_stat(b->client, opt->path, ret_attr);
	if (err)
		return report_remote(b->client, opt->path, err);
	b->file_size = opt->file_size;
	if (!opt->is_write)
		b->file_size = PML_MIN(opt->file_size, ret_attr->size_bytes);
	if (!S_ISREG(ret_attr->mode) || b->file_size < opt->op_bytes) {
		fprintf(stderr,
			"pmemlease: %s: give a regular file of at least %u bytes, or make one "
			"with bench --write\n",
			opt->path, opt->op_bytes);
		return EXIT_REMOTE;
	}
	return 0;
}

/* ---- the stream --------------------------------------------------------- */

/* Begins the next operation; they go round the file. */
static int submit_one(struct bench *b)
{
	const struct options *opt = b->opt;
	uint32_t slot = b->free_slots[b->nfree - 1];
	char *data = pml_client_buffer_data(b->buffer);
	struct iovec iov = {data + (size_t)slot * opt->op_bytes, opt->op_bytes};
	if (b->end_byte - b->at_byte < opt->op_bytes)
		b->at_byte = 0;
	b->begun_ns[slot] = now_ns();
	int err = (opt->is_write ? pml_client_queue_write : pml_client_queue_read)(
		b->queue, b->lease, &iov, 1, b->at_byte, slot);
	if (err)
		return err;
	b->at_byte += opt->op_bytes;
	b->nfree--;
	b->submitted++;
	return 0;
}

/* Takes what has completed, and waits for it unless told to look only.  The first error. */
static int take_some(struct bench *b)
{
	struct pml_client_completion done[16];
	int err = 0;
	int n = pml_client_queue_wait(b->queue, done, PML_ARRAY_LEN(done),
				      b->opt->is_polling ? 0 : -1);
	uint64_t now = n > 0 ? now_ns() : 0;
	for (int i = 0; i < n; i++) {
		uint32_t slot = (uint32_t)done[i].cookie;
		b->free_slots[b->nfree++] = slot;
		if (b->nsamples < SAMPLES_MAX)
			b->samples_ns[b->nsamples++] = now - b->begun_ns[slot];
		b->completed++;
		err = err ? err : done[i].status;
	}
	return err;
}

/* Leaves when nothing is in flight any more, whatever went wrong. */
static int stream(struct bench *b, uint64_t *ret_ns)
{
	int err = 0;
	uint64_t from_ns = now_ns();
	while (b->completed < b->submitted || (!err && b->submitted < b->opt->count)) {
		while (!err && b->nfree > 0 && b->submitted < b->opt->count)
			err = submit_one(b);
		int failed = take_some(b);
		err = err ? err : failed;
	}
	*ret_ns = now_ns() - from_ns;
	return err;
}

/* What was written stays: the file's size covers it. */
static int run_stream(struct bench *b)
{
	const struct options *opt = b->opt;
	uint64_t ns = 0;
	b->end_byte = PML_MIN(pml_client_lease_end(b->lease), b->file_size);
	if (b->end_byte < opt->op_bytes)
		return report_local("%s: the lease covers %llu bytes only: use smaller operations",
				    opt->path, (unsigned long long)b->end_byte);
	for (uint32_t slot = 0; slot < opt->depth; slot++)
		b->free_slots[b->nfree++] = slot;
	int err = pml_client_queue_new(b->client, opt->depth, &b->queue);
	if (!err)
		err = stream(b, &ns);
	if (!err && opt->is_write)
		err = pml_client_commit(b->lease, 0, b->end_byte, b->end_byte);
	if (err)
		return report_remote(b->client, opt->path, err);
	print_result(b, ns);
	return 0;
}

int run_bench(struct pml_client *client, const struct options *opt)
{
	struct bench b = {.client = client, .opt = opt};
	struct pml_client_attr attr;
	int status = find_file(&b, &attr);
	if (status)
		return status;
	pml_auto_free uint64_t *samples_ns = calloc(SAMPLES_MAX, sizeof(*samples_ns));
	if (!samples_ns)
		return report_local("out of memory");
	b.samples_ns = samples_ns;
	int err = pml_client_buffer_new(client, (size_t)opt->op_bytes * opt->depth, &b.buffer);
	if (err)
		return report_local("%s", pml_client_reason(client));

	err = pml_client_lease(client, &attr.handle, 0, b.file_size, opt->is_write,
			       (int)opt->wait_ms, &b.lease);
	status = err ? report_remote(client, opt->path, err) : run_stream(&b);
	pml_client_queue_free(b.queue);
	if (b.lease)
		(void)pml_client_return(b.lease);
	pml_client_buffer_free(b.buffer);
	return status;
}
