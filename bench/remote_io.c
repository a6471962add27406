/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * remote_io.c -- reads and writes through a lease beside those of another remote storage
 *
 * usage: bench_remote_io [-r ROUNDS] URL NAME PATH
 *
 * URL names a file of a pmemleasefs server, PATH a file or block device of the same host's
 * other server, mounted or attached here, which is opened with O_DIRECT.  Both have 32 MiB.
 * One operation at a time, on both sides.  A ratio is the time of the other one divided by
 * that through a lease: how many times faster the lease is.
 */
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "pml/base.h"
#include "pmemleasefs/client.h"
#include "ratio.h"

#define FILE_BYTES (32u << 20)
#define TIMEOUT_MS 30000

static unsigned int nrounds = 5;

/* What is done in one piece of work, on either side. */
struct job {
	const char *text;
	uint32_t bytes;
	unsigned int count;
	bool is_write;
	bool is_random;
	bool is_durable; /* each operation, before the next one */
};

static const struct job jobs[] = {
	{"4 KiB random read", 4096, 32, false, true, false},
	{"4 KiB random write", 4096, 32, true, true, false},
	{"4 KiB random write, made durable", 4096, 32, true, true, true},
	{"1 MiB sequential read", 1u << 20, 4, false, false, false},
	{"1 MiB sequential write", 1u << 20, 4, true, false, false},
	{"1 MiB sequential write, made durable", 1u << 20, 4, true, false, true},
};

static const struct job *job;
static struct pml_client *client;
static struct pml_client_buffer *buffer;
static struct pml_client_lease *lease;
static int other_fd;
static uint32_t random_state = 1;

static void die(const char *what, const char *why)
{
	fprintf(stderr, "bench_remote_io: %s: %s\n", what, why);
	exit(1);
}

/* Numerical Recipes' linear congruential generator: the same places in each run. */
static uint64_t place_of(unsigned int i)
{
	uint32_t nplaces = FILE_BYTES / job->bytes;
	random_state = random_state * 1664525u + 1013904223u;
	return (uint64_t)(job->is_random ? (random_state >> 8) % nplaces : i % nplaces) *
	       job->bytes;
}

static double work_lease(void *arg)
{
	(void)arg;
	int err = 0;
	double start_s = ratio_now_s();
	for (unsigned int i = 0; i < job->count && !err; i++) {
		uint64_t at = place_of(i);
		err = job->is_write ? pml_client_write(lease, buffer, 0, at, job->bytes)
				    : pml_client_read(lease, buffer, 0, at, job->bytes);
		if (!err && job->is_durable)
			err = pml_client_flush(lease, at, job->bytes);
	}
	if (err)
		die("lease", pml_client_reason(client));
	return (ratio_now_s() - start_s) / job->count;
}

static double work_other(void *arg)
{
	void *data = arg;
	bool is_good = true;
	double start_s = ratio_now_s();
	for (unsigned int i = 0; i < job->count && is_good; i++) {
		off_t at = (off_t)place_of(i);
		ssize_t n = job->is_write ? pwrite(other_fd, data, job->bytes, at)
					  : pread(other_fd, data, job->bytes, at);
		is_good = n == (ssize_t)job->bytes;
		if (is_good && job->is_durable)
			is_good = fdatasync(other_fd) == 0;
	}
	if (!is_good)
		die("other storage", strerror(errno));
	return (ratio_now_s() - start_s) / job->count;
}

static void compare(const struct pml_client_attr *attr, const char *name, void *data)
{
	if (pml_client_lease(client, &attr->handle, 0, FILE_BYTES, job->is_write, TIMEOUT_MS,
			     &lease))
		die("lease", pml_client_reason(client));
	if (pml_client_lease_end(lease) != FILE_BYTES)
		die("lease", "the file has less than 32 MiB");
	ratio_compare_works(job->text, work_other, data, name, work_lease, NULL, nrounds);
	if (pml_client_return(lease))
		die("return", pml_client_reason(client));
}

int main(int argc, char **argv)
{
	ratio_is_row = true;
	nrounds = ratio_rounds_of(argc, argv, nrounds, 3);
	if (nrounds == 0)
		return 2;
	char reason[256];
	const char *url = argv[optind], *slash = strrchr(url, '/');
	struct pml_client_attr attr;
	if (pml_client_connect(url, TIMEOUT_MS, &client, reason))
		die("connect", reason);
	if (pml_client_stat(client, slash + 1, &attr) ||
	    pml_client_buffer_new(client, 1u << 20, &buffer))
		die(url, pml_client_reason(client));
	other_fd = open(argv[optind + 2], O_RDWR | O_DIRECT | O_CLOEXEC);
	void *data = aligned_alloc(4096, 1u << 20);
	if (other_fd < 0 || !data)
		die(argv[optind + 2], strerror(errno));
	memset(data, 'b', 1u << 20);
	for (job = jobs; job < jobs + PML_ARRAY_LEN(jobs); job++)
		compare(&attr, argv[optind + 1], data);
	free(data);
	(void)close(other_fd);
	pml_client_close(client);
	return 0;
}
