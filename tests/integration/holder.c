/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * holder.c -- a client that takes several leases in one session and keeps them
 *
 * usage: holder URL COUNT [BYTES]
 *
 * Takes COUNT read leases of BYTES (4096), one behind the other on the file that URL
 * names, or if that is a directory, on each of its files 0 to COUNT - 1.  Prints "holding N" when
 * it has them, or "ERROR N: REASON" at the first that is refused, with the number that it has.  A
 * recall is acknowledged, and the leases are kept, until standard input ends; then "returned N", or
 * why the first one had ended.
 * For each line of standard input: "bytes XY...", the first byte behind each lease, read by
 * its key, or "ERROR".
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "pmemleasefs/client.h"

#define LEASES_MAX 4096

/* "The caller will return it": keeps the library from doing so. */
static bool on_recalled(void *arg, struct pml_client_lease *lease, uint32_t drain_ms)
{
	(void)arg;
	(void)lease;
	(void)drain_ms;
	return false;
}

/* The file number @i of the directory @path. */
static int find(struct pml_client *client, const char *path, int i,
		struct pml_client_handle *ret_file)
{
	struct pml_client_attr attr;
	char name[256];
	(void)snprintf(name, sizeof(name), "%s/%d", path, i);
	int err = pml_client_stat(client, name, &attr);
	if (!err)
		*ret_file = attr.handle;
	return err;
}

static void print_bytes(struct pml_client_lease **lease, int n, uint64_t bytes,
			struct pml_client_buffer *buffer)
{
	char text[LEASES_MAX + 1] = "";
	for (int i = 0; i < n; i++) {
		int err = pml_client_read(lease[i], buffer, 0, (uint64_t)i * bytes, 1);
		if (err) {
			printf("%s\n", strerrorname_np(-err));
			return;
		}
		text[i] = *(char *)pml_client_buffer_data(buffer);
	}
	printf("bytes %s\n", text);
}

int main(int argc, char **argv)
{
	static struct pml_client_lease *lease[LEASES_MAX];
	const struct pml_client_events events = {.recalled = on_recalled};
	struct pml_client *client;
	struct pml_client_attr attr;
	char reason[256] = "";

	if (argc < 3 || argc > 4) {
		fprintf(stderr, "usage: holder URL COUNT [BYTES]\n");
		return 2;
	}
	setvbuf(stdout, NULL, _IOLBF, 0);
	int want = atoi(argv[2]);
	uint64_t bytes = argc == 4 ? strtoull(argv[3], NULL, 0) : 4096;
	int err = pml_client_connect(argv[1], 10000, &client, reason);
	if (err) {
		printf("%s 0: %s\n", strerrorname_np(-err), reason);
		return 1;
	}
	pml_client_set_events(client, &events);
	struct pml_client_buffer *buffer;
	if (pml_client_buffer_new(client, 4096, &buffer) != 0)
		return 1;
	const char *host = strstr(argv[1], "://");
	const char *path = host ? strchr(host + 3, '/') : NULL;
	path = path ? path : "";
	err = pml_client_stat(client, path, &attr);
	bool is_dir = !err && S_ISDIR(attr.mode);
	int got = 0;
	while (!err && got < want && got < LEASES_MAX) {
		struct pml_client_handle file = attr.handle;
		if (is_dir)
			err = find(client, path, got, &file);
		if (!err)
			err = pml_client_lease(client, &file, is_dir ? 0 : (uint64_t)got * bytes,
					       bytes, false, 1000, &lease[got]);
		got += err == 0;
	}
	if (err)
		printf("%s %d: %s\n", strerrorname_np(-err), got, pml_client_reason(client));
	else
		printf("holding %d\n", got);
	for (int c = getchar(); c != EOF; c = getchar())
		if (c == '\n')
			print_bytes(lease, got, bytes, buffer);
	err = got > 0 ? pml_client_lease_status(lease[0]) : 0;
	for (int i = 0; i < got; i++)
		(void)pml_client_return(lease[i]);
	printf("returned %d %s\n", got, err ? strerrorname_np(-err) : "live");
	pml_client_buffer_free(buffer);
	pml_client_close(client);
	return 0;
}
