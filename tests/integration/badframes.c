/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * badframes.c -- talks nonsense to the software fabric's port
 *
 * usage: badframes PORT SEED
 *
 * The frames and messages are written out by hand here, as a foreign program would.
 * Prints a line "CASE: closed" or "CASE: open" for each; "open" is wrong: the server
 * still keeps a connection on which it got what cannot be.  Exit status 2: no connection.
 */
#include <arpa/inet.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define FRAME	       40
#define MESSAGE	       24
#define HANDLE	       32
#define VERSION	       3
#define FABRIC_VERSION 2
#define CLOSE_MS       25000 /* a silent client has 2 s and 20 s for its two hellos */

static uint16_t port;

static int dial(void)
{
	struct sockaddr_in at = {.sin_family = AF_INET,
				 .sin_port = htons(port),
				 .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	if (fd < 0 || connect(fd, (struct sockaddr *)&at, sizeof(at)) != 0) {
		perror("badframes: connect");
		exit(2);
	}
	return fd;
}

static void put(uint8_t *to, uint64_t value, int bytes)
{
	for (int i = 0; i < bytes; i++)
		to[i] = (uint8_t)(value >> 8 * i);
}

/* A frame of the software fabric (rdma/soft.h). */
static void frame(uint8_t *to, unsigned int type, uint32_t bytes)
{
	memset(to, 0, FRAME);
	put(to, 0x534c4d50u, 4);
	put(to + 4, FABRIC_VERSION, 2);
	put(to + 6, type, 2);
	put(to + 8, bytes, 4);
}

/* A control message's header (rdma/wire.h). */
static void message(uint8_t *to, unsigned int version, unsigned int type, uint32_t bytes)
{
	memset(to, 0, MESSAGE);
	put(to, 0x314c4d50u, 4);
	put(to + 4, version, 2);
	put(to + 6, type, 2);
	put(to + 8, bytes, 4);
	put(to + 12, 1, 4);
}

static void give(int fd, const void *data, size_t bytes)
{
	(void)!send(fd, data, bytes, MSG_NOSIGNAL);
}

/* Does the other side hang up in time? */
static void judge(const char *name, int fd)
{
	char data[4096];
	for (;;) {
		struct pollfd p = {.fd = fd, .events = POLLIN};
		if (poll(&p, 1, CLOSE_MS) <= 0) {
			printf("%s: open\n", name);
			break;
		}
		if (recv(fd, data, sizeof(data), MSG_DONTWAIT) <= 0) {
			printf("%s: closed\n", name);
			break;
		}
	}
	fflush(stdout);
	close(fd);
}

/* A connection that has exchanged the fabric's hello. */
static int greeted(void)
{
	uint8_t hello[FRAME];
	int fd = dial();
	frame(hello, 1, 0);
	give(fd, hello, FRAME);
	(void)!recv(fd, hello, FRAME, MSG_WAITALL);
	return fd;
}

/* Sends a message with an empty body and takes the answer. */
static void exchange(int fd, unsigned int type, uint32_t body, uint32_t answer_body)
{
	uint8_t data[FRAME + MESSAGE + 256] = {0};
	frame(data, 2, MESSAGE + body);
	message(data + FRAME, VERSION, type, MESSAGE + body);
	give(fd, data, FRAME + MESSAGE + body);
	ssize_t n = recv(fd, data, FRAME + MESSAGE + answer_body, MSG_WAITALL);
	if (n != FRAME + MESSAGE + (ssize_t)answer_body || memcmp(data + FRAME + 16, "\0\0\0", 4)) {
		fprintf(stderr, "badframes: message %u is refused\n", type);
		exit(2);
	}
}

/* And the service's hello and proof, too. */
static int welcomed(void)
{
	int fd = greeted();
	exchange(fd, 1, 56, 48);
	exchange(fd, 2, 32, 168);
	return fd;
}

static void bad_hello(const char *name, size_t at, uint64_t value, int bytes)
{
	uint8_t hello[FRAME];
	int fd = dial();
	frame(hello, 1, 0);
	put(hello + at, value, bytes);
	give(fd, hello, FRAME);
	judge(name, fd);
}

/* One field of an otherwise good message to a service that has said hello. */
static void bad_message(const char *name, unsigned int type, uint32_t body, size_t at,
			uint64_t value, int bytes)
{
	uint8_t data[FRAME + MESSAGE + 128] = {0};
	int fd = welcomed();
	frame(data, 2, MESSAGE + body);
	message(data + FRAME, VERSION, type, MESSAGE + body);
	if (type != 1) {
		put(data + FRAME + MESSAGE, 1, 8);	/* an inode, where a handle belongs */
		data[FRAME + MESSAGE + HANDLE + 8] = 1; /* a name, or a length */
	}
	put(data + FRAME + at, value, bytes);
	give(fd, data, FRAME + MESSAGE + body);
	judge(name, fd);
}

static void bad_frame(const char *name, unsigned int type, uint32_t bytes, uint32_t op_bytes,
		      uint64_t addr, uint32_t rkey)
{
	uint8_t data[FRAME];
	int fd = welcomed();
	frame(data, type, bytes);
	put(data + 12, op_bytes, 4);
	put(data + 24, addr, 8);
	put(data + 32, rkey, 4);
	give(fd, data, FRAME);
	judge(name, fd);
}

static void random_bytes(uint8_t *to, size_t bytes)
{
	for (size_t i = 0; i < bytes; i++)
		to[i] = (uint8_t)rand();
}

/* Random bytes after both hellos, and good frames with random fields: nothing is expected back. */
static void storm(int rounds)
{
	static uint8_t data[100000];
	for (int i = 0; i < rounds; i++) {
		size_t bytes = 1 + (size_t)rand() % (i % 8 == 0 ? sizeof(data) : 300);
		random_bytes(data, bytes);
		int fd = i % 3 == 0 ? dial() : i % 3 == 1 ? greeted() : welcomed();
		if (i % 2 && bytes > FRAME + MESSAGE) {
			frame(data, 1 + (unsigned int)rand() % 8, (uint32_t)(bytes - FRAME));
			if (i % 4 == 1)
				message(data + FRAME, VERSION, 1 + (unsigned int)rand() % 24,
					(uint32_t)(bytes - FRAME));
		}
		give(fd, data, bytes);
		close(fd);
	}
	printf("storm: closed\n");
}

/* Many that connect and say nothing, while others want to be served. */
static void crowd(void)
{
	int fds[300];
	for (int i = 0; i < 300; i++)
		fds[i] = dial();
	judge("a crowd of silent connections", fds[0]);
	judge("the last of them", fds[299]);
	for (int i = 1; i < 299; i++)
		close(fds[i]);
}

int main(int argc, char **argv)
{
	if (argc != 3) {
		fprintf(stderr, "usage: badframes PORT SEED\n");
		return 2;
	}
	port = (uint16_t)atoi(argv[1]);
	srand((unsigned int)atoi(argv[2]));

	int silent = dial(); /* judged at the end: takes seconds */
	int half = dial();
	give(half, "PMLS\1\0", 6);
	int mute = greeted();

	bad_hello("hello: wrong magic", 0, 0x12345678, 4);
	bad_hello("hello: wrong version", 4, 1, 2);
	bad_hello("hello: wrong type", 6, 2, 2);
	bad_hello("hello: unknown type", 6, 99, 2);
	bad_hello("hello: with a payload", 8, 4096, 4);
	bad_hello("hello: a field that is not used", 12, 1, 4);

	int fd = greeted();
	uint8_t data[FRAME + MESSAGE + HANDLE] = {0};
	frame(data, 2, MESSAGE + HANDLE);
	message(data + FRAME, 77, 1, MESSAGE + HANDLE);
	give(fd, data, sizeof(data));
	judge("service: wrong protocol version", fd);
	fd = greeted();
	message(data + FRAME, VERSION, 5, MESSAGE + HANDLE);
	put(data + FRAME + MESSAGE, 1, 8);
	give(fd, data, sizeof(data));
	judge("service: a request before hello", fd);

	bad_message("message: wrong magic", 5, HANDLE, 0, 1, 4);
	bad_message("message: another version later", 5, HANDLE, 4, VERSION + 1, 2);
	bad_message("message: unknown type", 200, HANDLE, 6, 200, 2);
	bad_message("message: a reply from a client", 64, 0, 6, 64, 2);
	bad_message("message: a second hello", 1, 56, 6, 1, 2);
	bad_message("message: says it is longer", 5, HANDLE, 8, 5000, 4);
	bad_message("message: says it is shorter", 5, HANDLE, 8, 24, 4);
	bad_message("message: request number 0", 5, HANDLE, 12, 0, 4);
	bad_message("message: a status in a request", 5, HANDLE, 16, 1, 4);
	bad_message("message: an unknown flag", 5, HANDLE, 22, 4, 2);
	bad_message("lookup: a name with a slash", 4, HANDLE + 9, MESSAGE + HANDLE + 8, '/', 1);
	bad_message("lease: no such mode", 19, HANDLE + 24, MESSAGE + HANDLE + 16, 7, 4);

	bad_frame("frame: message of 4 GiB", 2, 0xffffffff, 0, 0, 0);
	bad_frame("frame: unknown type", 60, 0, 0, 0, 0);
	bad_frame("frame: only servers send it", 6, 0, 0, 0, 0);
	bad_frame("read: of a key that is none", 4, 0, 4096, 0, 0x1234);
	bad_frame("read: of a wild address", 4, 0, 4096, 0xffffffffffff0000, 0x100);
	bad_frame("read: of 4 GiB", 4, 0, 0xffffffff, 0, 0x100);
	bad_frame("read: of nothing", 4, 0, 0, 0, 0x100);
	bad_frame("write: longer than its operation", 5, 65536, 4096, 0, 0x100);

	storm(300);
	crowd();
	judge("silent: no hello", silent);
	judge("silent: half a hello", half);
	judge("silent: no hello to the service", mute);
	return 0;
}
