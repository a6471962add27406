/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * remote-file.c -- reads or writes a file of a server; the library takes the leases
 *
 * usage: remote-file get|put rdma://HOST:PORT/PATH
 *
 * get writes the file to its output, put makes a file of its input.
 *
 *	cc -o remote-file remote-file.c $(pkg-config --cflags --libs libpmemlease)
 */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <pmemleasefs/client.h>

#define LOCAL 1 /* an error on this side; those of the library are negative */

/* The path behind rdma://HOST:PORT. */
static const char *path_of(const char *url)
{
	const char *host = strstr(url, "://");
	const char *path = host ? strchr(host + 3, '/') : NULL;
	return path ? path : "";
}

/* Fewer bytes than room: the end of the file. */
static int get(struct pml_client_file *file, char *room, size_t bytes)
{
	uint64_t at = 0;
	for (;;) {
		ssize_t n = pml_client_file_read(file, room, bytes, at);
		if (n <= 0)
			return (int)n;
		if (fwrite(room, 1, (size_t)n, stdout) != (size_t)n)
			return LOCAL;
		at += (uint64_t)n;
	}
}

static int put(struct pml_client_file *file, char *room, size_t bytes)
{
	uint64_t at = 0;
	ssize_t got;
	while ((got = read(STDIN_FILENO, room, bytes)) > 0) {
		for (ssize_t done = 0; done < got;) {
			ssize_t n =
				pml_client_file_write(file, room + done, (size_t)(got - done), at);
			if (n < 0)
				return (int)n;
			done += n;
			at += (uint64_t)n;
		}
	}
	/* Not before this is it durable, and it is the only one who tells of a loss. */
	return pml_client_file_commit(file);
}

static int run(struct pml_client *client, const char *path, int is_put)
{
	struct pml_client_attr attr;
	struct pml_client_file *file;
	struct pml_client_buffer *buffer;
	const size_t bytes = 1 << 20;
	int err = is_put ? pml_client_create(client, path, 0644, false, &attr)
			 : pml_client_stat(client, path, &attr);
	if (!err)
		err = pml_client_file_open(client, &attr.handle,
					   is_put ? PML_CLIENT_FILE_WRITE : PML_CLIENT_FILE_READ,
					   NULL, &file);
	if (err) {
		fprintf(stderr, "%s\n", pml_client_reason(client));
		return err;
	}
	/* Any memory would do; this saves a registration for each transfer. */
	err = pml_client_buffer_new(client, bytes, &buffer);
	if (!err && is_put)
		err = pml_client_file_truncate(file, 0);
	if (!err)
		err = is_put ? put(file, pml_client_buffer_data(buffer), bytes)
			     : get(file, pml_client_buffer_data(buffer), bytes);
	if (err)
		fprintf(stderr, "%s: %s\n", path,
			err == LOCAL ? "cannot write" : pml_client_reason(client));
	(void)pml_client_file_close(file); /* committed, or it failed already */
	return err;
}

int main(int argc, char **argv)
{
	char reason[256];
	struct pml_client *client;
	if (argc != 3 || (strcmp(argv[1], "get") != 0 && strcmp(argv[1], "put") != 0)) {
		fprintf(stderr, "usage: remote-file get|put rdma://HOST:PORT/PATH\n");
		return 2;
	}
	if (pml_client_connect(argv[2], 0, &client, reason)) {
		fprintf(stderr, "%s\n", reason);
		return 1;
	}
	int err = run(client, path_of(argv[2]), strcmp(argv[1], "put") == 0);
	pml_client_close(client);
	return err || fflush(stdout) ? 1 : 0;
}
