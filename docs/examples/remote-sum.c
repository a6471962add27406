/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * remote-sum.c -- adds up the bytes of a file, many reads in flight
 *
 * usage: remote-sum rdma://HOST:PORT/PATH
 *
 * The program takes the leases itself, and has a queue of reads on each.  It goes on with one
 * piece while the others come.
 *
 *	cc -o remote-sum remote-sum.c $(pkg-config --cflags --libs libpmemlease)
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <pmemleasefs/client.h>

#define DEPTH	    16u
#define PIECE_BYTES 65536u

struct sum {
	struct pml_client_queue *queue;
	unsigned char *room; /* DEPTH pieces */
	uint64_t bytes[DEPTH];
	uint64_t total;
};

static const char *path_of(const char *url)
{
	const char *host = strstr(url, "://");
	const char *path = host ? strchr(host + 3, '/') : NULL;
	return path ? path : "";
}

/* Takes completions, and adds up what they brought; the first error. */
static int take(struct sum *sum, unsigned int *free_slots, unsigned int *nfree)
{
	struct pml_client_completion done[DEPTH];
	int err = 0;
	int n = pml_client_queue_wait(sum->queue, done, DEPTH, -1);
	for (int i = 0; i < n; i++) {
		const unsigned char *data = sum->room + done[i].cookie * PIECE_BYTES;
		if (done[i].status && !err)
			err = done[i].status;
		for (uint64_t k = 0; k < done[i].bytes; k++)
			sum->total += data[k];
		free_slots[(*nfree)++] = (unsigned int)done[i].cookie;
	}
	return err;
}

/* Reads all that the lease covers, from *@at on. */
static int sum_lease(struct sum *sum, struct pml_client_lease *lease, uint64_t at)
{
	unsigned int free_slots[DEPTH];
	unsigned int nfree = 0;
	uint64_t end = pml_client_lease_end(lease);
	int err = 0;
	while (nfree < DEPTH) {
		free_slots[nfree] = nfree;
		nfree++;
	}
	while ((at < end && !err) || nfree < DEPTH) {
		while (at < end && nfree > 0 && !err) {
			unsigned int slot = free_slots[--nfree];
			struct iovec iov = {sum->room + (size_t)slot * PIECE_BYTES,
					    end - at < PIECE_BYTES ? end - at : PIECE_BYTES};
			err = pml_client_queue_read(sum->queue, lease, &iov, 1, at, slot);
			if (err)
				nfree++;
			else
				at += iov.iov_len;
		}
		int failed = nfree < DEPTH ? take(sum, free_slots, &nfree) : 0;
		if (!err)
			err = failed;
	}
	return err;
}

static int sum_file(struct pml_client *client, const char *path, struct sum *sum)
{
	struct pml_client_attr attr;
	int err = pml_client_stat(client, path, &attr);
	for (uint64_t at = 0; !err;) {
		struct pml_client_lease *lease;
		err = pml_client_lease(client, &attr.handle, at, 16 << 20, false, 10000, &lease);
		if (err)
			return err == -ENODATA ? 0 : err; /* the end of the file */
		uint64_t before = sum->total;
		uint64_t end = pml_client_lease_end(lease);
		err = sum_lease(sum, lease, at);
		(void)pml_client_return(lease);
		if (err == -ESTALE) {
			/* Somebody needed the range: this part once more, under a new lease. */
			sum->total = before;
			err = 0;
		} else {
			at = end;
		}
	}
	return err;
}

int main(int argc, char **argv)
{
	char reason[256];
	struct pml_client *client;
	struct pml_client_buffer *buffer;
	struct sum sum = {0};
	if (argc != 2) {
		fprintf(stderr, "usage: remote-sum rdma://HOST:PORT/PATH\n");
		return 2;
	}
	if (pml_client_connect(argv[1], 0, &client, reason)) {
		fprintf(stderr, "%s\n", reason);
		return 1;
	}
	int err = pml_client_buffer_new(client, (size_t)DEPTH * PIECE_BYTES, &buffer);
	if (!err)
		err = pml_client_queue_new(client, DEPTH, &sum.queue);
	if (!err) {
		sum.room = pml_client_buffer_data(buffer);
		err = sum_file(client, path_of(argv[1]), &sum);
	}
	if (err)
		fprintf(stderr, "%s: %s\n", argv[1], pml_client_reason(client));
	else
		printf("%llu\n", (unsigned long long)sum.total);
	pml_client_close(client); /* with queue and buffer */
	return err ? 1 : 0;
}
