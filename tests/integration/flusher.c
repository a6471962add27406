/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * flusher.c -- a remote client that flushes what it writes until the server dies, and knows
 *              what must be there afterwards
 *
 * usage: flusher URL run FILE N    goes on behind record N; prints "M RULE" for the last one
 *                                  that is durable when the connection ends
 *        flusher URL write FILE N  writes record N and does not flush it; prints "written"
 *        flusher URL read FILE     prints "N good" or "N torn ...", of what is there
 *
 * FILE is RECORDS records of a block each, and a head of eight bytes behind them.  Record N
 * goes to its place and is flushed; then the head becomes N by an atomic write, which is
 * flushed too.  So whatever a power failure leaves: the head names a record that is whole.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pmemleasefs/client.h"

#define BLOCK	UINT64_C(4096)
#define RECORDS UINT64_C(16)
#define HEAD	(RECORDS * BLOCK)
#define BYTES	((RECORDS + 1) * BLOCK)

static struct pml_client *client;
static struct pml_client_lease *lease;
static uint64_t record[BLOCK / 8];

static int fail(const char *what)
{
	fprintf(stderr, "flusher: %s: %s\n", what, pml_client_reason(client));
	return 1;
}

static int take_lease(const char *path, bool for_write)
{
	struct pml_client_attr attr;
	if (pml_client_stat(client, path, &attr))
		return fail(path);
	if (pml_client_lease(client, &attr.handle, 0, BYTES, for_write, 5000, &lease))
		return fail("lease");
	return 0;
}

static int put(uint64_t number)
{
	for (size_t i = 0; i < BLOCK / 8; i++)
		record[i] = number;
	const struct iovec iov = {.iov_base = record, .iov_len = BLOCK};
	return pml_client_writev(lease, &iov, 1, number % RECORDS * BLOCK);
}

static int run(uint64_t number)
{
	int err = 0;
	while (!err) {
		err = put(number + 1);
		if (!err)
			err = pml_client_flush(lease, (number + 1) % RECORDS * BLOCK, BLOCK);
		if (!err)
			err = pml_client_write_atomic(lease, &record[0], HEAD);
		if (!err)
			err = pml_client_flush(lease, HEAD, 8);
		if (!err)
			number++;
	}
	printf("%" PRIu64 " %d\n", number, pml_client_lease_durability(lease));
	return 0;
}

static int get(uint64_t at, void *data, size_t bytes)
{
	const struct iovec iov = {.iov_base = data, .iov_len = bytes};
	return pml_client_readv(lease, &iov, 1, at);
}

static int look(void)
{
	uint64_t head;
	if (get(HEAD, &head, sizeof(head)) || get(head % RECORDS * BLOCK, record, BLOCK))
		return fail("read");
	for (size_t i = 0; i < BLOCK / 8; i++) {
		if (record[i] != head) {
			printf("%" PRIu64 " torn: word %zu is %" PRIu64 "\n", head, i, record[i]);
			return 0;
		}
	}
	printf("%" PRIu64 " good\n", head);
	return 0;
}

int main(int argc, char **argv)
{
	char reason[512];
	if (argc < 4)
		return 2;
	uint64_t number = argc > 4 ? strtoull(argv[4], NULL, 10) : 0;
	if (pml_client_connect(argv[1], 5000, &client, reason)) {
		fprintf(stderr, "flusher: %s\n", reason);
		return 1;
	}
	pml_client_set_reconnect(client, 0);
	if (take_lease(argv[3], strcmp(argv[2], "read") != 0))
		return 1;
	if (strcmp(argv[2], "run") == 0)
		return run(number);
	if (strcmp(argv[2], "read") == 0)
		return look();
	if (put(number))
		return fail("write");
	puts("written");
	return 0;
}
