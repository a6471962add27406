/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * locallease.c -- a local program that holds leases, and does what it is told
 *
 * usage: locallease FILE r|w|rw [DESCRIPTOR]
 *
 * Opens FILE, or goes on with an inherited descriptor, and reads commands from standard
 * input, one a line; answers each with one line: "ok", a value, or the name of the error.
 *
 *   take r|w FIRST LEN      "ID FIRST END SIZE COUNT"
 *   badtake WHAT            a take with a wrong version, reserved, unknown, shared, unbreakable
 *   return|ack ID           ID 0: the last one taken
 *   commit ID FIRST LEN SIZE
 *   event                   "recall ID OP DRAIN-MS" or "revoked ID WHY"
 *   poll MS                 "pri", "none" (nothing but what is always so), "err"
 *   epoll MS                the same through epoll(7)
 *   pread DEVICE FILE       copies the bytes of the last lease from the device to a file
 *   pwrite DEVICE TEXT      stores TEXT at the beginning of the last lease on the device
 *   truncate SIZE, punch FIRST LEN, write AT, copy AT    through the descriptor
 *   open                    another description; "use N" goes back to the Nth
 *   dup                     goes on with a duplicate, and closes the first descriptor
 *   fork                    a child that has the description and sleeps; its number
 *   exec                    becomes a new program that inherits the descriptor
 *   thread                  the next takes are made by a second thread
 *   close                   closes the descriptor
 *   quit
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "pmemleasefs/ioctl.h"

#define OPEN_MAX_FILES 64

static const char *program, *file, *mode;
static int fds[OPEN_MAX_FILES];
static int nfds, at;
static bool has_thread;
static struct pml_ioc_lease_take last;

static void say(int err)
{
	printf("%s\n", err ? strerrorname_np(err) : "ok");
}

static int flags_of(void)
{
	return strcmp(mode, "r") == 0 ? O_RDONLY : strcmp(mode, "w") == 0 ? O_WRONLY : O_RDWR;
}

static uint64_t id_of(const char *text)
{
	uint64_t id = text ? strtoull(text, NULL, 0) : 0;
	return id ? id : last.lease_id;
}

static uint64_t number(const char *text)
{
	return text ? strtoull(text, NULL, 0) : 0;
}

/* ---- calls --------------------------------------------------------------- */

static struct pml_ioc_lease_take asked;

/* "w" write, "r" read; behind it "s" shared, "u" unbreakable. */
static uint32_t kind_flags(const char *kind)
{
	return (strchr(kind, 'w') ? PML_IOC_TAKE_WRITE : 0u) |
	       (strchr(kind, 's') ? PML_IOC_TAKE_SHARED : 0u) |
	       (strchr(kind, 'u') ? PML_IOC_TAKE_UNBREAKABLE : 0u);
}

static void *take_thread(void *err)
{
	*(int *)err = ioctl(fds[at], PML_IOC_LEASE_TAKE, &asked) ? errno : 0;
	return NULL;
}

static void take(char **arg)
{
	int err = 0;
	asked = (struct pml_ioc_lease_take){
		.version = PML_IOC_VERSION,
		.flags = arg[1] ? kind_flags(arg[1]) : 0,
		.first_byte = number(arg[2]),
		.len_bytes = number(arg[3]),
	};
	pthread_t thread;
	if (!has_thread)
		take_thread(&err);
	else if (pthread_create(&thread, NULL, take_thread, &err) == 0)
		pthread_join(thread, NULL);
	if (err) {
		say(err);
		return;
	}
	last = asked;
	printf("%llu %llu %llu %llu %u\n", (unsigned long long)last.lease_id,
	       (unsigned long long)last.first_byte, (unsigned long long)last.end_byte,
	       (unsigned long long)last.file_size, last.count);
}

static void bad_take(const char *what)
{
	struct pml_ioc_lease_take bad = {.version = PML_IOC_VERSION, .len_bytes = 1};
	if (strcmp(what, "version") == 0)
		bad.version++;
	else if (strcmp(what, "reserved") == 0)
		bad.reserved = 1;
	else
		bad.flags = 1u << 31;
	say(ioctl(fds[at], PML_IOC_LEASE_TAKE, &bad) ? errno : 0);
}

static void refer(unsigned long cmd, const char *id)
{
	struct pml_ioc_lease_ref ref = {.version = PML_IOC_VERSION, .lease_id = id_of(id)};
	say(ioctl(fds[at], cmd, &ref) ? errno : 0);
}

static void commit(char **arg)
{
	struct pml_ioc_lease_commit c = {
		.version = PML_IOC_VERSION,
		.lease_id = id_of(arg[1]),
		.first_byte = number(arg[2]),
		.len_bytes = number(arg[3]),
		.new_size_bytes = number(arg[4]),
	};
	say(ioctl(fds[at], PML_IOC_LEASE_COMMIT, &c) ? errno : 0);
}

static void event(void)
{
	struct pml_ioc_lease_event e = {.version = PML_IOC_VERSION};
	if (ioctl(fds[at], PML_IOC_LEASE_EVENT, &e) != 0)
		say(errno);
	else if (e.kind == PML_IOC_LEASE_RECALL)
		printf("recall %llu %u %u\n", (unsigned long long)e.lease_id, e.op, e.drain_ms);
	else
		printf("revoked %llu %u\n", (unsigned long long)e.lease_id, e.why);
}

static void name_events(unsigned int events)
{
	const unsigned int always = POLLIN | POLLOUT;
	if (events & (POLLERR | POLLHUP))
		puts("err");
	else if ((events & always) != always)
		puts("neither readable nor writable");
	else
		puts(events & POLLPRI ? "pri" : "none");
}

/* First what is always so; then for POLLPRI alone, which sleeps. */
static void poll_once(int ms)
{
	struct pollfd p = {.fd = fds[at], .events = POLLPRI};
	(void)poll(&p, 1, ms);
	p.events = POLLPRI | POLLIN | POLLOUT;
	(void)poll(&p, 1, 0);
	name_events((unsigned short)p.revents);
}

static void epoll_once(int ms)
{
	struct epoll_event e = {.events = EPOLLPRI};
	int fd = epoll_create1(EPOLL_CLOEXEC);
	if (fd < 0 || epoll_ctl(fd, EPOLL_CTL_ADD, fds[at], &e) != 0) {
		say(errno);
		return;
	}
	int n = epoll_wait(fd, &e, 1, ms);
	puts(n == 0 ? "none" : n == 1 && (e.events & EPOLLPRI) ? "pri" : "err");
	(void)close(fd);
}

/* ---- the device ------------------------------------------------------------ */

/* What lies between segments are holes. */
static void device_read(const char *device, const char *to)
{
	int in = open(device, O_RDONLY), out = open(to, O_RDWR | O_CREAT | O_TRUNC, 0666);
	int err = in < 0 || out < 0 ? errno : 0;
	for (uint32_t i = 0; !err && i < last.count; i++) {
		const struct pml_ioc_lease_segment *s = &last.segments[i];
		char *data = malloc(s->len_bytes);
		ssize_t n = pread(in, data, s->len_bytes, (off_t)s->device_byte);
		off_t where = (off_t)(s->first_byte - last.first_byte);
		if (n != (ssize_t)s->len_bytes || pwrite(out, data, (size_t)n, where) != n)
			err = EIO;
		free(data);
	}
	if (!err && ftruncate(out, (off_t)(last.end_byte - last.first_byte)) != 0)
		err = errno;
	say(err);
	(void)close(in);
	(void)close(out);
}

static void device_write(const char *device, const char *text)
{
	int out = open(device, O_WRONLY);
	size_t bytes = strlen(text);
	ssize_t n = pwrite(out, text, bytes, (off_t)last.segments[0].device_byte);
	say(n == (ssize_t)bytes ? 0 : errno);
	(void)close(out);
}

/* ---- descriptors ------------------------------------------------------------ */

static void fork_one(void)
{
	fflush(stdout);
	pid_t pid = fork();
	if (pid > 0) {
		printf("%d\n", (int)pid);
		return;
	}
	(void)close(STDIN_FILENO);
	(void)close(STDOUT_FILENO);
	for (;;)
		(void)pause();
}

static void become_another(void)
{
	char text[16];
	(void)snprintf(text, sizeof(text), "%d", fds[at]);
	(void)fcntl(fds[at], F_SETFD, 0);
	fflush(stdout);
	(void)execl(program, program, file, mode, text, NULL);
	say(errno);
}

static void copy(uint64_t to)
{
	int from = open(file, O_RDONLY);
	off_t first = 0, second = (off_t)to;
	say(copy_file_range(from, &first, fds[at], &second, 4096, 0) == 4096 ? 0 : errno);
	(void)close(from);
}

static void open_another(void)
{
	int fd = nfds < OPEN_MAX_FILES ? open(file, flags_of() | O_CLOEXEC) : -1;
	if (fd >= 0) {
		at = nfds;
		fds[nfds++] = fd;
	}
	say(fd < 0 ? errno : 0);
}

static bool run_on_descriptor(char **arg)
{
	if (strcmp(arg[0], "truncate") == 0)
		say(ftruncate(fds[at], (off_t)number(arg[1])) ? errno : 0);
	else if (strcmp(arg[0], "punch") == 0)
		say(fallocate(fds[at], FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
			      (off_t)number(arg[1]), (off_t)number(arg[2]))
			    ? errno
			    : 0);
	else if (strcmp(arg[0], "write") == 0)
		say(pwrite(fds[at], "x", 1, (off_t)number(arg[1])) == 1 ? 0 : errno);
	else if (strcmp(arg[0], "copy") == 0)
		copy(number(arg[1]));
	else if (strcmp(arg[0], "open") == 0)
		open_another();
	else if (strcmp(arg[0], "use") == 0)
		say((at = (int)number(arg[1])) < nfds ? 0 : EBADF);
	else if (strcmp(arg[0], "dup") == 0)
		say((fds[at] = dup(fds[at])) < 0 || close(fds[at] - 1) != 0 ? errno : 0);
	else if (strcmp(arg[0], "fork") == 0)
		fork_one();
	else if (strcmp(arg[0], "exec") == 0)
		become_another();
	else if (strcmp(arg[0], "thread") == 0)
		say((has_thread = true) ? 0 : 1);
	else if (strcmp(arg[0], "close") == 0)
		say(close(fds[at]) ? errno : 0);
	else
		return false;
	return true;
}

static void run(char **arg)
{
	if (strcmp(arg[0], "take") == 0)
		take(arg);
	else if (strcmp(arg[0], "badtake") == 0)
		bad_take(arg[1]);
	else if (strcmp(arg[0], "return") == 0)
		refer(PML_IOC_LEASE_RETURN, arg[1]);
	else if (strcmp(arg[0], "ack") == 0)
		refer(PML_IOC_LEASE_ACK, arg[1]);
	else if (strcmp(arg[0], "commit") == 0)
		commit(arg);
	else if (strcmp(arg[0], "event") == 0)
		event();
	else if (strcmp(arg[0], "poll") == 0)
		poll_once((int)number(arg[1]));
	else if (strcmp(arg[0], "epoll") == 0)
		epoll_once((int)number(arg[1]));
	else if (strcmp(arg[0], "pread") == 0)
		device_read(arg[1], arg[2]);
	else if (strcmp(arg[0], "pwrite") == 0)
		device_write(arg[1], arg[2]);
	else if (!run_on_descriptor(arg))
		puts("unknown command");
}

int main(int argc, char **argv)
{
	if (argc < 3) {
		fprintf(stderr, "usage: locallease FILE r|w|rw [DESCRIPTOR]\n");
		return 2;
	}
	program = argv[0];
	file = argv[1];
	mode = argv[2];
	/* One line is one read: the rest is there for the next program. */
	setvbuf(stdin, NULL, _IONBF, 0);
	fds[nfds++] = argc > 3 ? atoi(argv[3]) : open(file, flags_of());
	say(fds[0] < 0 ? errno : 0);
	char line[512];
	while (fflush(stdout) == 0 && fgets(line, sizeof(line), stdin)) {
		char *arg[6] = {NULL}, *rest = line;
		for (int i = 0; i < 5; i++)
			arg[i] = strtok_r(i ? NULL : line, " \n", &rest);
		if (arg[0] && strcmp(arg[0], "quit") == 0)
			break;
		if (arg[0])
			run(arg);
	}
	return 0;
}
