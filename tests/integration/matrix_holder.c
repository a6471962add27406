/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * matrix_holder.c -- a remote client with one lease, which behaves as its cell says
 *
 * A process of its own, so that it can be stopped and killed.  What a cell wants to know it
 * asks over a socket pair; end of file is the end.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "pmemleasefs/client.h"
#include "pmemleasefs/ioctl.h"

#include "matrix.h"

#define PATIENCE_MS 10000 /* for what must come */
#define LEASE_MS    10000

/* The holder's own process. */
struct client {
	const struct rig *rig;
	const struct cell *cell;
	const struct holder *holder;
	const char *path;
	struct pml_client *client;
	struct pml_client_lease *lease; /* NULL: returned by the program */
	struct pml_client_buffer *buffer;
	enum fate fate; /* how it stood then */
	int told[2];	/* a byte for each recall */
	atomic_uint recalls;
	atomic_bool is_revoked;
	char why[128]; /* set before is_revoked */
	uint64_t lease_id;
	uint32_t waiter_op;
};

static void sleep_ms(uint32_t ms)
{
	const struct timespec time = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000L};
	(void)nanosleep(&time, NULL);
}

bool kind_is_write(enum kind kind)
{
	return kind != KIND_READ && kind != KIND_SHARED_READ;
}

bool holder_marks(const struct holder *holder, uint64_t *ret_block)
{
	uint64_t end = holder->end_block < FILE_BLOCKS ? holder->end_block : FILE_BLOCKS;
	*ret_block = end - 1;
	return kind_is_write(holder->kind) && holder->first_block < end &&
	       !who_is_caller(holder->who);
}

bool holder_adds(const struct holder *holder, const struct cell *cell, uint64_t *ret_block)
{
	*ret_block = holder->first_block;
	/* Of what is different nothing can be deduplicated. */
	return holder->who == WHO_SLOW && kind_is_write(holder->kind) &&
	       cell->op != OP_DEDUPE_SRC && cell->op != OP_DEDUPE_DST &&
	       holder->first_block < FILE_BLOCKS;
}

/* ---- in the holder's process: recalls --------------------------------------- */

static bool on_recalled(void *arg, struct pml_client_lease *lease, uint32_t drain_ms)
{
	struct client *c = arg;
	(void)lease;
	(void)drain_ms;
	if (c->holder->who == WHO_KILLED)
		(void)kill(getpid(), SIGKILL);
	atomic_fetch_add(&c->recalls, 1);
	(void)!write(c->told[1], "", 1);
	return c->holder->who == WHO_COOPERATIVE;
}

static void on_revoked(void *arg, struct pml_client_lease *lease, const char *reason)
{
	struct client *c = arg;
	(void)lease;
	(void)snprintf(c->why, sizeof(c->why), "%s", reason);
	atomic_store(&c->is_revoked, true);
}

static int put(struct client *c, uint64_t block, char letter, bool commits)
{
	memset(pml_client_buffer_data(c->buffer), letter, BLOCK);
	int err = pml_client_write(c->lease, c->buffer, 0, block * BLOCK, BLOCK);
	if (!err && commits)
		err = pml_client_commit(c->lease, block * BLOCK, BLOCK, 0);
	return err;
}

/* For what the lease is recalled, as pmemleasectl shows it. */
static void look_for_waiter(struct client *c)
{
	int fd = open(c->rig->mnt, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	for (int i = 0; fd >= 0 && i < 100 && c->waiter_op == OP_NONE; i++) {
		struct pml_ioc_leases list = {.version = PML_IOC_VERSION, .after = c->lease_id - 1};
		if (ioctl(fd, PML_IOC_LEASES, &list) == 0 && list.count > 0 &&
		    list.leases[0].lease_id == c->lease_id && list.leases[0].has_waiter)
			c->waiter_op = list.leases[0].waiter_op;
		else
			sleep_ms(10);
	}
	if (fd >= 0)
		(void)close(fd);
}

static enum fate fate_now(struct client *c)
{
	if (!c->lease)
		return c->fate;
	int status = pml_client_lease_status(c->lease);
	if (status == 0)
		return FATE_LIVES;
	if (status == -ESTALE)
		return FATE_RETURNED;
	if (status == -ENOTCONN)
		return FATE_EXPIRED;
	for (int i = 0; i < PATIENCE_MS / 10 && !atomic_load(&c->is_revoked); i++)
		sleep_ms(10);
	if (strstr(c->why, "not returned in time"))
		return FATE_CONFLICT;
	if (strstr(c->why, "no sign of life"))
		return FATE_SILENT;
	/* The server ends the connection of a dead session: its last word may not get through. */
	bool is_over = strstr(c->why, "not renewed") || strstr(c->why, "the connection ended");
	return is_over ? FATE_EXPIRED : FATES;
}

/* A slow one returns the lease by itself, once. */
static void give_back(struct client *c)
{
	uint64_t block;
	sleep_ms(c->rig->slow_ms);
	c->fate = fate_now(c);
	if (c->fate == FATE_LIVES) {
		int err = holder_adds(c->holder, c->cell, &block) ? put(c, block, 'Z', true) : 0;
		c->fate = err ? fate_now(c) : FATE_RETURNED;
	}
	(void)pml_client_return(c->lease);
	c->lease = NULL;
}

static void answer_recall(struct client *c)
{
	char byte;
	(void)!read(c->told[0], &byte, 1);
	if (c->holder->who == WHO_IGNORING && c->waiter_op == OP_NONE)
		look_for_waiter(c);
	if (c->holder->who == WHO_SLOW && c->lease)
		give_back(c);
}

/* ---- in the holder's process: its lease -------------------------------------- */

static int take(struct client *c, char *ret_reason)
{
	const struct pml_client_events events = {.recalled = on_recalled,
						 .revoked = on_revoked,
						 .arg = c,
						 .is_silent = c->holder->who == WHO_SILENT};
	const struct holder *h = c->holder;
	enum kind kind = h->kind;
	unsigned int bits = kind_is_write(kind) ? PML_CLIENT_WRITE : 0;
	if (kind == KIND_SHARED_READ || kind == KIND_SHARED_WRITE)
		bits |= PML_CLIENT_SHARED;
	if (h->who == WHO_UNBREAKABLE)
		bits |= PML_CLIENT_UNBREAKABLE;
	int err = pml_client_connect(c->rig->url, PATIENCE_MS, &c->client, ret_reason);
	if (err)
		return err;
	pml_client_set_events(c->client, &events);
	err = pml_client_buffer_new(c->client, BYTES_MAX, &c->buffer);
	struct pml_client_attr attr;
	if (!err)
		err = pml_client_stat(c->client, c->path + strlen(c->rig->mnt), &attr);
	if (!err)
		err = pml_client_lease_with(c->client, &attr.handle, h->first_block * BLOCK,
					    (h->end_block - h->first_block) * BLOCK, bits, LEASE_MS,
					    &c->lease);
	if (err)
		return err;
	c->lease_id = pml_client_lease_id(c->lease);
	if (pml_client_lease_end(c->lease) != h->end_block * BLOCK)
		return -ERANGE;
	uint64_t block;
	if (holder_marks(h, &block))
		err = put(c, block, 'W', true);
	/* Behind the end, and never committed: nobody may see it. */
	if (!err && kind_is_write(kind) && h->end_block >= LONGER_END)
		err = put(c, LONGER_END - 1, 'U', false);
	return err;
}

/* A lease that lives can be used, and reaches what the file has there. */
static int use(struct client *c)
{
	static char seen[BYTES_MAX];
	uint64_t block, first = c->holder->first_block * BLOCK;
	if (kind_is_write(c->holder->kind))
		return holder_marks(c->holder, &block) ? put(c, block, 'W', true) : 0;
	size_t bytes = (c->holder->end_block - c->holder->first_block) * BLOCK;
	int err = pml_client_read(c->lease, c->buffer, 0, first, bytes);
	if (err)
		return err;
	int fd = open(c->path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : pread(fd, seen, bytes, (off_t)first);
	if (fd >= 0)
		(void)close(fd);
	if (n != (ssize_t)bytes)
		return -EIO;
	return memcmp(seen, pml_client_buffer_data(c->buffer), bytes) == 0 ? 0 : -EILSEQ;
}

static void answer(struct client *c, int fd, enum fate expected)
{
	struct report report = {.lease_id = c->lease_id};
	enum fate fate = fate_now(c);
	for (int i = 0; i < PATIENCE_MS / 10 && fate == FATE_LIVES && expected != FATE_LIVES; i++) {
		sleep_ms(10);
		fate = fate_now(c);
	}
	report.fate = fate;
	report.recalls = atomic_load(&c->recalls);
	report.waiter_op = c->waiter_op;
	if (fate == FATE_LIVES)
		report.error = use(c);
	(void)snprintf(report.reason, sizeof(report.reason), "%s", c->why);
	(void)!send(fd, &report, sizeof(report), MSG_NOSIGNAL);
}

static void hold(struct client *c, int fd)
{
	char reason[256] = "";
	struct report report = {0};
	report.error = pipe(c->told) ? -errno : take(c, reason);
	if (report.error && c->client && !reason[0])
		(void)snprintf(reason, sizeof(reason), "%s", pml_client_reason(c->client));
	(void)snprintf(report.reason, sizeof(report.reason), "%.100s", reason);
	report.lease_id = c->lease_id;
	(void)!send(fd, &report, sizeof(report), MSG_NOSIGNAL);

	struct pollfd polls[2] = {{.fd = fd, .events = POLLIN},
				  {.fd = c->told[0], .events = POLLIN}};
	while (!report.error && poll(polls, 2, -1) >= 0) {
		enum fate expected;
		if (polls[1].revents)
			answer_recall(c);
		else if (recv(fd, &expected, sizeof(expected), 0) == sizeof(expected))
			answer(c, fd, expected);
		else
			break;
	}
	if (c->client)
		pml_client_close(c->client);
}

/* ---- in the cell's process --------------------------------------------------- */

int holder_start(struct holder *holder, const struct rig *rig, const struct cell *cell,
		 const char *path, char *ret_reason, size_t bytes)
{
	int fds[2];
	struct report report;
	holder->fd = -1;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds))
		return -errno;
	holder->pid = fork();
	if (holder->pid == 0) {
		static struct client client;
		(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
		/* Another holder's socket would keep that one from seeing its end. */
		(void)close_range(3, (unsigned int)fds[1] - 1, 0);
		(void)close_range((unsigned int)fds[1] + 1, ~0u, 0);
		client.rig = rig;
		client.cell = cell;
		client.holder = holder;
		client.path = path;
		client.waiter_op = OP_NONE;
		hold(&client, fds[1]);
		_exit(0);
	}
	(void)close(fds[1]);
	holder->fd = fds[0];
	if (recv(holder->fd, &report, sizeof(report), 0) != sizeof(report))
		return -EPIPE;
	holder->lease_id = report.lease_id;
	(void)snprintf(ret_reason, bytes, "%.100s", report.reason);
	return report.error;
}

bool who_is_caller(enum who who)
{
	return who == WHO_CALLER || who == WHO_CALLER_UNBREAKABLE;
}

int holder_take_here(struct holder *holder, const char *path)
{
	struct pml_ioc_lease_take take = {
		.version = PML_IOC_VERSION,
		.first_byte = holder->first_block * BLOCK,
		.len_bytes = (holder->end_block - holder->first_block) * BLOCK,
	};
	if (kind_is_write(holder->kind))
		take.flags |= PML_IOC_TAKE_WRITE;
	if (holder->kind == KIND_SHARED_READ || holder->kind == KIND_SHARED_WRITE)
		take.flags |= PML_IOC_TAKE_SHARED;
	if (holder->who == WHO_CALLER_UNBREAKABLE)
		take.flags |= PML_IOC_TAKE_UNBREAKABLE;
	holder->here = open(path, O_RDWR | O_CLOEXEC);
	if (holder->here < 0 || ioctl(holder->here, PML_IOC_LEASE_TAKE, &take))
		return -errno;
	holder->lease_id = take.lease_id;
	return take.end_byte == holder->end_block * BLOCK ? 0 : -ERANGE;
}

/* By the events that its open file has. */
static int ask_here(const struct holder *holder, struct report *ret_report)
{
	struct report report = {.lease_id = holder->lease_id, .waiter_op = OP_NONE};
	struct pml_ioc_lease_event event = {.version = PML_IOC_VERSION};
	while (ioctl(holder->here, PML_IOC_LEASE_EVENT, &event) == 0) {
		if (event.kind == PML_IOC_LEASE_RECALL)
			report.recalls++;
		else
			report.fate = event.why == PML_IOC_END_OWN_CHANGE ? FATE_OWN_CHANGE : FATES;
		event = (struct pml_ioc_lease_event){.version = PML_IOC_VERSION};
	}
	*ret_report = report;
	return errno == EAGAIN ? 0 : -errno;
}

int holder_ask(struct holder *holder, enum fate expected, struct report *ret_report)
{
	struct report report = {.fate = FATE_DIED, .waiter_op = OP_NONE};
	if (holder->here >= 0)
		return ask_here(holder, ret_report);
	if (send(holder->fd, &expected, sizeof(expected), MSG_NOSIGNAL) == sizeof(expected)) {
		struct pollfd polled = {.fd = holder->fd, .events = POLLIN};
		if (poll(&polled, 1, 3 * PATIENCE_MS) <= 0)
			return -ETIMEDOUT;
		ssize_t n = recv(holder->fd, &report, sizeof(report), 0);
		if (n != sizeof(report))
			report = (struct report){.fate = FATE_DIED, .waiter_op = OP_NONE};
	}
	*ret_report = report;
	return 0;
}

void holder_stop(struct holder *holder)
{
	(void)kill(holder->pid, SIGSTOP);
	(void)waitpid(holder->pid, NULL, WUNTRACED);
}

void holder_go_on(struct holder *holder)
{
	(void)kill(holder->pid, SIGCONT);
}

void holder_end(struct holder *holder)
{
	if (holder->here >= 0)
		(void)close(holder->here);
	holder->here = -1;
	if (holder->fd < 0)
		return;
	(void)close(holder->fd);
	holder->fd = -1;
	for (int i = 0; i < PATIENCE_MS / 10; i++) {
		if (waitpid(holder->pid, NULL, WNOHANG) != 0)
			return;
		sleep_ms(10);
	}
	(void)kill(holder->pid, SIGKILL);
	(void)waitpid(holder->pid, NULL, 0);
}
