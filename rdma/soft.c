/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * soft.c -- makes the connections of the software fabric
 *
 * Both sides send a HELLO frame first.  The server reads the hellos of all new
 * connections at the same time and without blocking, so that a client that is
 * silent keeps nobody waiting; it is dropped after a deadline, or earlier to
 * make room for a newer one.
 *
 * Threads: one at a time accepts; shutdown from any.
 */
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>

#include "soft.h"

#define HELLO_MS    2000
#define SILENCE_MS  500 /* may pass before a hello when others want to come in */
#define PENDING_MAX 64u
#define BACKLOG	    512
#define FD_PAUSE_MS 100 /* rest after accept(2) ran out of descriptors or memory */

/* A connection whose hello has not arrived in full. */
struct pending {
	int fd;
	uint64_t deadline_ns;
	size_t got_bytes;
	struct pml_soft_frame hello;
	char peer[PML_PEER_BYTES];
};

struct soft_fabric {
	struct pml_fabric base; /* first: see soft_port() */
	int listen_fd;
	int wake_fd; /* readable for ever after shutdown */
	uint16_t port;
	uint64_t pause_until_ns;
	unsigned pending_count; /* oldest first */
	struct pending pending[PENDING_MAX];
};

static struct soft_fabric *fabric_of(struct pml_fabric *base)
{
	return PML_CONTAINER_OF(base, struct soft_fabric, base);
}

/* ---- sockets ------------------------------------------------------------ */

static int set_option(int fd, int level, int name, int value)
{
	return setsockopt(fd, level, name, &value, sizeof(value)) < 0 ? -errno : 0;
}

/* A peer whose machine died is noticed after about 15 s.  tcp(7) */
static int prepare_socket(int fd)
{
	static const struct {
		int level, name, value;
	} options[] = {
		{IPPROTO_TCP, TCP_NODELAY, 1},	{SOL_SOCKET, SO_KEEPALIVE, 1},
		{IPPROTO_TCP, TCP_KEEPIDLE, 5}, {IPPROTO_TCP, TCP_KEEPINTVL, 3},
		{IPPROTO_TCP, TCP_KEEPCNT, 3},	{IPPROTO_TCP, TCP_USER_TIMEOUT, 15000},
	};
	for (size_t i = 0; i < PML_ARRAY_LEN(options); i++) {
		int err = set_option(fd, options[i].level, options[i].name, options[i].value);
		if (err)
			return err;
	}
	return 0;
}

static int set_blocking(int fd)
{
	int flags = fcntl(fd, F_GETFL);
	if (flags < 0 || fcntl(fd, F_SETFL, flags & ~O_NONBLOCK) < 0)
		return -errno;
	return 0;
}

static int send_hello(int fd)
{
	struct pml_soft_frame hello;
	pml_soft_frame_init(&hello, PML_SOFT_HELLO);
	ssize_t n = send(fd, &hello, sizeof(hello), MSG_NOSIGNAL | MSG_DONTWAIT);
	return n == (ssize_t)sizeof(hello) ? 0 : -ENOTCONN;
}

/* Reads what has arrived of a hello.  0: complete and right; -EAGAIN: more is due. */
static int take_hello(int fd, struct pml_soft_frame *hello, size_t *got_bytes)
{
	ssize_t n = recv(fd, (char *)hello + *got_bytes, sizeof(*hello) - *got_bytes, MSG_DONTWAIT);
	if (n == 0)
		return -ECONNRESET;
	if (n < 0)
		return errno == EINTR ? -EAGAIN : -errno;
	*got_bytes += (size_t)n;
	if (*got_bytes < sizeof(*hello))
		return -EAGAIN;
	if (pml_soft_frame_check(hello, true) || hello->type != PML_SOFT_HELLO)
		return -EPROTO;
	return 0;
}

/* ---- server ------------------------------------------------------------- */

static int listen_on(const struct addrinfo *ai, int *ret_fd, uint16_t *ret_port)
{
	pml_auto_close int fd =
		socket(ai->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	/* After a crash the port must be free at once.  socket(7) */
	int err = set_option(fd, SOL_SOCKET, SO_REUSEADDR, 1);
	if (err)
		return err;
	if (bind(fd, ai->ai_addr, ai->ai_addrlen) < 0 || listen(fd, BACKLOG) < 0)
		return -errno;

	struct sockaddr_storage bound = {0};
	socklen_t bytes = sizeof(bound);
	if (getsockname(fd, (struct sockaddr *)&bound, &bytes) < 0)
		return -errno;
	*ret_port = ntohs(bound.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)&bound)->sin6_port
						      : ((struct sockaddr_in *)&bound)->sin_port);
	*ret_fd = pml_take_fd(&fd);
	return 0;
}

static int soft_listen(const char *host, const char *port, struct pml_fabric **ret_fabric,
		       char *ret_reason)
{
	struct addrinfo *list;
	int err = pml_transport_resolve(host, port, AI_PASSIVE, &list, ret_reason);
	if (err)
		return err;

	int fd = -1;
	uint16_t number = 0;
	err = -EADDRNOTAVAIL;
	for (const struct addrinfo *ai = list; ai && err; ai = ai->ai_next)
		err = listen_on(ai, &fd, &number);
	freeaddrinfo(list);
	if (err) {
		pml_transport_reason(ret_reason, "cannot listen on %s port %s: %s", host, port,
				     strerrordesc_np(-err));
		return err;
	}

	struct soft_fabric *fabric = calloc(1, sizeof(*fabric));
	int wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (!fabric || wake_fd < 0) {
		err = fabric ? -errno : -ENOMEM;
		pml_transport_reason(ret_reason, "cannot listen on %s port %s: %s", host, port,
				     strerrordesc_np(-err));
		if (wake_fd >= 0)
			(void)close(wake_fd);
		free(fabric);
		(void)close(fd);
		return err;
	}
	fabric->base.ops = &pml_soft_ops;
	fabric->listen_fd = fd;
	fabric->wake_fd = wake_fd;
	fabric->port = number;
	*ret_fabric = &fabric->base;
	return 0;
}

static uint16_t soft_port(const struct pml_fabric *base)
{
	return ((const struct soft_fabric *)base)->port;
}

static int soft_probe(struct pml_fabric *base, void *mem, size_t bytes, char *ret_reason)
{
	pml_transport_reason(ret_reason, "the software fabric registers no memory");
	return 0;
}

/* This fabric's own processor does it, in the place of a device. */
static bool soft_can_flush(struct pml_fabric *base)
{
	return true;
}

static bool soft_ep_can_flush(const struct pml_ep *base)
{
	return true;
}

static void forget_pending(struct soft_fabric *fabric, unsigned i)
{
	fabric->pending_count--;
	memmove(&fabric->pending[i], &fabric->pending[i + 1],
		(fabric->pending_count - i) * sizeof(fabric->pending[0]));
}

static void drop_pending(struct soft_fabric *fabric, unsigned i)
{
	(void)close(fabric->pending[i].fd);
	forget_pending(fabric, i);
}

/* Has anything come from it? */
static bool has_spoken(const struct pending *p)
{
	char byte;
	return p->got_bytes > 0 || recv(p->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) > 0;
}

/*
 * Hangs up on the oldest connection that says nothing, but not before it had time to: until
 * then new ones wait in the kernel's queue.  So a flood of silent ones displaces nobody else.
 */
static bool make_room(struct soft_fabric *fabric)
{
	for (unsigned i = 0; i < fabric->pending_count; i++) {
		const struct pending *p = &fabric->pending[i];
		if (has_spoken(p))
			continue;
		uint64_t due_ns = p->deadline_ns - (HELLO_MS - SILENCE_MS) * 1000000ull;
		if (pml_transport_now_ns() < due_ns) {
			fabric->pause_until_ns = due_ns;
			return false;
		}
		drop_pending(fabric, i);
		return true;
	}
	/* All have spoken, and are looked at next. */
	return false;
}

/* Takes new connections off the listening socket. */
static void take_connections(struct soft_fabric *fabric)
{
	for (unsigned i = 0; i < PENDING_MAX; i++) {
		if (fabric->pending_count == PENDING_MAX && !make_room(fabric))
			return;
		struct sockaddr_storage addr = {0};
		socklen_t bytes = sizeof(addr);
		int fd = accept4(fabric->listen_fd, (struct sockaddr *)&addr, &bytes,
				 SOCK_CLOEXEC | SOCK_NONBLOCK);
		if (fd < 0) {
			if (errno != EAGAIN && errno != ECONNABORTED && errno != EINTR)
				fabric->pause_until_ns = pml_transport_deadline_ns(FD_PAUSE_MS);
			return;
		}
		if (prepare_socket(fd)) {
			(void)close(fd);
			continue;
		}
		struct pending *p = &fabric->pending[fabric->pending_count++];
		p->fd = fd;
		p->got_bytes = 0;
		p->deadline_ns = pml_transport_deadline_ns(HELLO_MS);
		pml_transport_peer_text((struct sockaddr *)&addr, p->peer);
	}
}

/* Reads hellos.  True: one is complete and *ret_ep set. */
static bool serve_pending(struct soft_fabric *fabric, struct pml_ep **ret_ep)
{
	uint64_t now = pml_transport_now_ns();
	for (unsigned i = 0; i < fabric->pending_count;) {
		struct pending *p = &fabric->pending[i];
		int err = take_hello(p->fd, &p->hello, &p->got_bytes);
		if (err == -EAGAIN && now < p->deadline_ns) {
			i++;
			continue;
		}
		if (err || send_hello(p->fd) || set_blocking(p->fd)) {
			drop_pending(fabric, i);
			continue;
		}
		struct pending ready = *p;
		forget_pending(fabric, i);
		if (pml_soft_ep_new(ready.fd, &fabric->base, ready.peer, ret_ep) == 0)
			return true;
	}
	return false;
}

/* Sleeps until something may have happened.  -ETIMEDOUT, -ESHUTDOWN. */
static int wait_for_clients(struct soft_fabric *fabric, uint64_t deadline_ns)
{
	struct pollfd fds[2 + PENDING_MAX];
	uint64_t now = pml_transport_now_ns();
	bool is_paused = now < fabric->pause_until_ns;
	uint64_t wake_ns = is_paused ? PML_MIN(deadline_ns, fabric->pause_until_ns) : deadline_ns;

	fds[0] = (struct pollfd){.fd = fabric->wake_fd, .events = POLLIN};
	fds[1] = (struct pollfd){.fd = is_paused ? -1 : fabric->listen_fd, .events = POLLIN};
	for (unsigned i = 0; i < fabric->pending_count; i++) {
		fds[2 + i] = (struct pollfd){.fd = fabric->pending[i].fd, .events = POLLIN};
		wake_ns = PML_MIN(wake_ns, fabric->pending[i].deadline_ns);
	}
	int n = poll(fds, 2 + fabric->pending_count, pml_transport_ms_left(wake_ns));
	if (n < 0 && errno != EINTR)
		return -errno;
	if (n > 0 && fds[0].revents)
		return -ESHUTDOWN;
	if (n > 0 && fds[1].revents)
		take_connections(fabric);
	return n == 0 && pml_transport_now_ns() >= deadline_ns ? -ETIMEDOUT : 0;
}

static int soft_accept(struct pml_fabric *base, int timeout_ms, struct pml_ep **ret_ep)
{
	struct soft_fabric *fabric = fabric_of(base);
	uint64_t deadline_ns = pml_transport_deadline_ns(timeout_ms);
	for (;;) {
		int err = wait_for_clients(fabric, deadline_ns);
		if (err == -ESHUTDOWN)
			return err;
		if (serve_pending(fabric, ret_ep))
			return 0;
		if (err)
			return err;
	}
}

static void soft_shutdown(struct pml_fabric *base)
{
	uint64_t one = 1;
	/* Cannot fail: the counter is far from full. */
	ssize_t n PML_UNUSED = write(fabric_of(base)->wake_fd, &one, sizeof(one));
}

static void soft_close_fabric(struct pml_fabric *base)
{
	struct soft_fabric *fabric = fabric_of(base);
	while (fabric->pending_count > 0)
		drop_pending(fabric, fabric->pending_count - 1);
	(void)close(fabric->listen_fd);
	(void)close(fabric->wake_fd);
	free(fabric);
}

static void soft_ep_device(const struct pml_ep *ep, struct pml_fence_device *ret)
{
	pml_transport_device("soft", "soft", "", PML_VERSION, true, ret);
}

static bool soft_fabric_device(const struct pml_fabric *fabric, struct pml_fence_device *ret)
{
	soft_ep_device(NULL, ret);
	return true;
}

/* ---- client ------------------------------------------------------------- */

static int wait_fd(int fd, short events, uint64_t deadline_ns)
{
	for (;;) {
		struct pollfd p = {.fd = fd, .events = events};
		int n = poll(&p, 1, pml_transport_ms_left(deadline_ns));
		if (n > 0)
			return 0;
		if (n == 0 && pml_transport_now_ns() >= deadline_ns)
			return -ETIMEDOUT;
		if (n < 0 && errno != EINTR)
			return -errno;
	}
}

static int connect_to(const struct addrinfo *ai, uint64_t deadline_ns, int *ret_fd)
{
	pml_auto_close int fd =
		socket(ai->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	int err = prepare_socket(fd);
	if (err)
		return err;
	if (connect(fd, ai->ai_addr, ai->ai_addrlen) < 0) {
		if (errno != EINPROGRESS)
			return -errno;
		err = wait_fd(fd, POLLOUT, deadline_ns);
		if (err)
			return err;
		socklen_t bytes = sizeof(err);
		if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &err, &bytes) < 0)
			return -errno;
		if (err)
			return -err;
	}
	*ret_fd = pml_take_fd(&fd);
	return 0;
}

static int exchange_hello(int fd, uint64_t deadline_ns)
{
	int err = send_hello(fd);
	struct pml_soft_frame hello;
	size_t got_bytes = 0;
	while (!err) {
		err = wait_fd(fd, POLLIN, deadline_ns);
		if (err)
			break;
		err = take_hello(fd, &hello, &got_bytes);
		if (err != -EAGAIN)
			break;
		err = 0;
	}
	return err ? err : set_blocking(fd);
}

static int soft_connect(const char *host, const char *port, int timeout_ms, struct pml_ep **ret_ep,
			char *ret_reason)
{
	uint64_t deadline_ns = pml_transport_deadline_ns(timeout_ms);
	struct addrinfo *list;
	int err = pml_transport_resolve(host, port, 0, &list, ret_reason);
	if (err)
		return err;

	int fd = -1;
	char peer[PML_PEER_BYTES];
	err = -EADDRNOTAVAIL;
	for (const struct addrinfo *ai = list; ai && err; ai = ai->ai_next) {
		err = connect_to(ai, deadline_ns, &fd);
		pml_transport_peer_text(ai->ai_addr, peer);
	}
	freeaddrinfo(list);
	if (err) {
		pml_transport_reason(ret_reason, "cannot reach %s port %s: %s", host, port,
				     strerrordesc_np(-err));
		return err;
	}

	err = exchange_hello(fd, deadline_ns);
	if (err) {
		pml_transport_reason(ret_reason,
				     "%s does not answer as a pmemleasefs server of version %u: %s",
				     peer, PML_SOFT_VERSION, strerrordesc_np(-err));
		(void)close(fd);
		return err;
	}
	err = pml_soft_ep_new(fd, NULL, peer, ret_ep);
	if (err)
		pml_transport_reason(ret_reason, "cannot start the connection to %s: %s", peer,
				     strerrordesc_np(-err));
	return err;
}

static int soft_local_mr_new(struct pml_ep *ep, void *buf, size_t bytes,
			     struct pml_local_mr **ret_mr)
{
	struct pml_local_mr *mr = malloc(sizeof(*mr));
	if (!mr)
		return -ENOMEM;
	*mr = (struct pml_local_mr){.ep = ep, .buf = buf, .bytes = bytes};
	*ret_mr = mr;
	return 0;
}

static void soft_local_mr_free(struct pml_local_mr *mr)
{
	free(mr);
}

const struct pml_transport_ops pml_soft_ops = {
	.listen = soft_listen,
	.port = soft_port,
	.probe = soft_probe,
	.can_flush = soft_can_flush,
	.ep_can_flush = soft_ep_can_flush,
	.accept = soft_accept,
	.shutdown = soft_shutdown,
	.close_fabric = soft_close_fabric,
	.key_new = pml_soft_key_new,
	.key_fence = pml_soft_key_fence,
	.connect = soft_connect,
	.local_mr_new = soft_local_mr_new,
	.local_mr_free = soft_local_mr_free,
	.post = pml_soft_ep_post,
	.poll = pml_soft_ep_poll,
	.send = pml_soft_ep_send,
	.recv = pml_soft_ep_recv,
	.can_look = pml_soft_ep_can_look,
	.recv_arm = pml_soft_ep_recv_arm,
	.recv_sleep = pml_soft_ep_recv_sleep,
	.kill = pml_soft_ep_kill,
	.close = pml_soft_ep_close,
	.destroy = pml_soft_ep_destroy,
	.ep_device = soft_ep_device,
	.fabric_device = soft_fabric_device,
	.fence_texts =
		{
			[PML_BY_WINDOW] =
				"the software fabric invalidates the segment's window and waits "
				"until its own last access through it has ended",
			[PML_BY_REGION] =
				"the software fabric forgets the segment's key and waits until "
				"its own last access through it has ended",
			[PML_BY_CONNECTION] =
				"the software fabric ends the connection and waits until its "
				"own last access has ended",
		},
};
