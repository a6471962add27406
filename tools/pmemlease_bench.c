/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * pmemlease_bench.c -- measure one-sided transfers through a lease
 *
 * The time is that from the first posted operation to the last completion; the
 * lease is taken before and returned after it.
 */
#include <stdio.h>
#include <sys/stat.h>

#include "pmemlease.h"

struct bench {
	struct pml_client *client;
	const struct options *opt;
	struct pml_client_lease *lease;
	struct pml_client_buffer *buffer;
	uint64_t file_size; /* of which is used */
};

static void print_result(const struct options *opt, uint64_t ns)
{
	double seconds = (double)(ns ? ns : 1) / 1e9;
	double bytes = (double)opt->count * opt->op_bytes;
	const char *what = opt->is_write ? "write" : "read";
	if (opt->is_json)
		printf("{\"op\": \"%s\", \"bytes\": %u, \"count\": %llu, \"depth\": %u, "
		       "\"seconds\": %.9f, \"mb_per_s\": %.3f, \"op_per_s\": %.1f, "
		       "\"us_per_op\": %.3f}\n",
		       what, opt->op_bytes, (unsigned long long)opt->count, opt->depth, seconds,
		       bytes / seconds / 1e6, (double)opt->count / seconds,
		       seconds * 1e6 / (double)opt->count);
	else
		printf("%s %u B x %llu depth %u: %.1f MB/s %.0f op/s us_per_op=%.2f\n", what,
		       opt->op_bytes, (unsigned long long)opt->count, opt->depth,
		       bytes / seconds / 1e6, (double)opt->count / seconds,
		       seconds * 1e6 / (double)opt->count);
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

/* What was written stays: the file's size covers it. */
static int run_stream(struct bench *b)
{
	const struct options *opt = b->opt;
	uint64_t ns;
	int err = pml_client_stream(b->lease, b->buffer, opt->is_write, opt->op_bytes, opt->depth,
				    opt->count, &ns);
	if (!err && opt->is_write) {
		uint64_t end = PML_MIN(pml_client_lease_end(b->lease), b->file_size);
		err = pml_client_commit(b->lease, 0, end, end);
	}
	if (err)
		return report_remote(b->client, opt->path, err);
	print_result(opt, ns);
	return 0;
}

int run_bench(struct pml_client *client, const struct options *opt)
{
	struct bench b = {.client = client, .opt = opt};
	struct pml_client_attr attr;
	int status = find_file(&b, &attr);
	if (status)
		return status;
	int err = pml_client_buffer_new(client, (size_t)opt->op_bytes * opt->depth, &b.buffer);
	if (err)
		return report_local("%s", pml_client_reason(client));

	err = pml_client_lease(client, &attr.handle, 0, b.file_size, opt->is_write,
			       (int)opt->wait_ms, &b.lease);
	status = err ? report_remote(client, opt->path, err) : run_stream(&b);
	if (b.lease)
		(void)pml_client_return(b.lease);
	pml_client_buffer_free(b.buffer);
	return status;
}
