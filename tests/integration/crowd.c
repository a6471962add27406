/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * crowd.c -- many clients come to a server in the same moment
 *
 * usage: crowd CLIENTS URL NAME
 *
 * Each client is a process of its own: it waits until all are there, connects, reads the first
 * block of the file NAME under a lease, gives that back, and keeps the connection until all have
 * done so.  NAME's block is filled with one byte.  Last line: how many of them had all they asked
 * for.
 */
#include <poll.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "pmemleasefs/client.h"

#define CLIENTS_MAX 256u
#define TIMEOUT_MS  60000
#define BLOCK	    4096u

static struct board {
	atomic_uint ready;
	atomic_bool go;
	atomic_uint done;
} * board;
static const char *url, *name;
static unsigned nclients;

static void nap(void)
{
	(void)poll(NULL, 0, 20);
}

static unsigned now_ms(void)
{
	struct timespec ts;
	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (unsigned)(ts.tv_sec * 1000 + ts.tv_nsec / 1000000);
}

/* 0 when what came is one byte, over and over. */
static int read_block(struct pml_client *client)
{
	struct pml_client_attr file;
	struct pml_client_buffer *buffer;
	struct pml_client_lease *lease;
	int err = pml_client_stat(client, name, &file);
	if (!err)
		err = pml_client_buffer_new(client, BLOCK, &buffer);
	if (err)
		return err;
	err = pml_client_lease(client, &file.handle, 0, BLOCK, false, TIMEOUT_MS, &lease);
	if (!err) {
		err = pml_client_read(lease, buffer, 0, 0, BLOCK);
		const char *bytes = pml_client_buffer_data(buffer);
		if (!err && (!bytes[0] || memcmp(bytes, bytes + 1, BLOCK - 1) != 0))
			err = -1;
		int rc = pml_client_return(lease);
		err = err ? err : rc;
	}
	pml_client_buffer_free(buffer);
	return err;
}

static int run_client(unsigned index)
{
	struct pml_client *client;
	char reason[256];
	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	atomic_fetch_add(&board->ready, 1);
	while (!atomic_load(&board->go))
		nap();
	unsigned start_ms = now_ms();
	if (pml_client_connect(url, TIMEOUT_MS, &client, reason)) {
		printf("# client %u: after %u ms: %s\n", index, now_ms() - start_ms, reason);
		(void)atomic_fetch_add(&board->done, 1);
		return 1;
	}
	int err = read_block(client);
	if (err)
		printf("# client %u: after %u ms: %d: %s\n", index, now_ms() - start_ms, err,
		       pml_client_reason(client));
	atomic_fetch_add(&board->done, 1);
	while (atomic_load(&board->done) < nclients)
		nap();
	pml_client_close(client);
	return err ? 1 : 0;
}

int main(int argc, char **argv)
{
	nclients = argc == 4 ? (unsigned)strtoul(argv[1], NULL, 10) : 0;
	if (nclients == 0 || nclients > CLIENTS_MAX) {
		fprintf(stderr, "usage: crowd CLIENTS URL NAME\n");
		return 2;
	}
	url = argv[2];
	name = argv[3];
	setvbuf(stdout, NULL, _IOLBF, 0);
	board = mmap(NULL, sizeof(*board), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
		     0);
	if (board == MAP_FAILED)
		return 2;
	for (unsigned i = 0; i < nclients; i++) {
		pid_t pid = fork();
		if (pid < 0)
			return 2;
		if (pid == 0)
			exit(run_client(i));
	}
	while (atomic_load(&board->ready) < nclients)
		nap();
	atomic_store(&board->go, true);
	unsigned good = 0, start_ms = now_ms();
	for (unsigned i = 0; i < nclients; i++) {
		int status;
		if (wait(&status) > 0 && status == 0)
			good++;
	}
	printf("# took %u ms\n", now_ms() - start_ms);
	printf("good %u of %u\n", good, nclients);
	return good == nclients ? 0 : 1;
}
