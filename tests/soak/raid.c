/* SPDX-License-Identifier: BSD-3-Clause */
/* raid.c -- see raid.h */
#include "raid.h"

#include <arpa/inet.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>

#include "../../rdma/codec.h"
#include "pml/clock.h"
#include "pml/lease.h"
#include "pmemleasefs/client.h"

#define ANSWER_MS    2000
#define CONNECT_MS   5000
#define BUFFER_BYTES (64u << 10)
#define LEASE_BYTES  (16u * PML_BLOCK_BYTES)
#define TAPE	     16u
#define FLOOD	     16u /* connections at a time: others of this host want some, too */

const char *const raid_names[RAID_KINDS] = {"dying",  "lying",	  "silent",
					    "replay", "flooding", "garbage"};

struct tape {
	size_t bytes;
	union pml_message msg;
};

struct raider {
	const struct raid_target *target;
	unsigned int *seed;
	enum pml_transport_kind fabric;
	char host[64];
	char port[8];
	struct pml_ep *ep;
	struct pml_local_mr *mr;
	uint8_t *buffer;
	uint32_t last_id;
	struct pml_wire_handle root;
	struct pml_wire_handle file;
	struct tape tape[TAPE]; /* what it has said */
	uint32_t ntape;		/* ever */
};

static uint32_t below(struct raider *r, uint32_t n)
{
	return (uint32_t)rand_r(r->seed) % n;
}

static void violation(struct raider *r, const char *what, uint64_t value)
{
	if (atomic_fetch_add(&r->target->counts->violations, 1) < 20)
		printf("# VIOLATION %s: 0x%" PRIx64 "\n", what, value);
	(void)fflush(stdout);
}

/* ---- connections ------------------------------------------------------------ */

static bool parse_url(struct raider *r, const char *url)
{
	r->fabric = strncmp(url, "rdma:", 5) == 0 ? PML_TRANSPORT_VERBS : PML_TRANSPORT_SOFT;
	return sscanf(url, "%*[a-z]://%63[^:/]:%7[0-9]", r->host, r->port) == 2;
}

static void hang_up(struct raider *r)
{
	if (!r->ep)
		return;
	pml_ep_kill(r->ep);
	pml_local_mr_free(r->mr);
	pml_ep_close(r->ep);
	free(r->buffer);
	r->ep = NULL;
}

static bool dial(struct raider *r)
{
	char reason[PML_REASON_BYTES];
	hang_up(r);
	if (pml_ep_connect(r->fabric, r->host, r->port, CONNECT_MS, &r->ep, reason))
		return false;
	r->buffer = aligned_alloc(PML_BLOCK_BYTES, BUFFER_BYTES);
	if (!r->buffer || pml_local_mr_new(r->ep, r->buffer, BUFFER_BYTES, &r->mr)) {
		free(r->buffer);
		pml_ep_kill(r->ep);
		pml_ep_close(r->ep);
		r->ep = NULL;
		return false;
	}
	memset(r->buffer, RAID_EVIL, BUFFER_BYTES);
	return true;
}

/* ---- messages ---------------------------------------------------------------- */

static int say(struct raider *r, union pml_message *msg, size_t bytes, enum pml_wire_type type)
{
	pml_codec_header(&msg->h, type, bytes, ++r->last_id);
	struct tape *tape = &r->tape[r->ntape++ % TAPE];
	tape->bytes = bytes;
	memcpy(&tape->msg, msg, bytes);
	return pml_ep_send(r->ep, msg, bytes, ANSWER_MS);
}

/* The status of the answer, or why there is none. */
static int ask(struct raider *r, union pml_message *msg, size_t bytes, enum pml_wire_type type,
	       union pml_message *ret_reply)
{
	int err = say(r, msg, bytes, type);
	uint64_t deadline_ms = pml_now_ms() + ANSWER_MS;
	while (!err) {
		size_t got;
		err = pml_ep_recv(r->ep, ret_reply, &got, ANSWER_MS);
		if (!err && ret_reply->h.request_id == r->last_id)
			return ret_reply->h.status;
		if (!err && pml_now_ms() > deadline_ms)
			err = -ETIMEDOUT;
	}
	return err;
}

static bool login(struct raider *r)
{
	union pml_message msg = {.hello = {.client_id = {1}}};
	union pml_message reply;
	if (!dial(r) || ask(r, &msg, sizeof(msg.hello), PML_WIRE_HELLO, &reply))
		return false;
	memset(&msg, 0, sizeof(msg));
	if (ask(r, &msg, sizeof(msg.auth), PML_WIRE_AUTH, &reply))
		return false;
	r->root = reply.auth_reply.root.handle;
	return true;
}

/* Looks a name up below @dir. */
static bool look_up(struct raider *r, const struct pml_wire_handle *dir, const char *name,
		    struct pml_wire_handle *ret_handle)
{
	union pml_message msg = {.name = {.dir = *dir}};
	union pml_message reply;
	memcpy(msg.bytes + sizeof(msg.name), name, strlen(name));
	if (ask(r, &msg, sizeof(msg.name) + strlen(name), PML_WIRE_LOOKUP, &reply))
		return false;
	*ret_handle = reply.attr_reply.attr.handle;
	return true;
}

static bool open_file(struct raider *r)
{
	struct pml_wire_handle dir;
	char name[3] = {'a', (char)('0' + below(r, RAID_FILES))};
	return look_up(r, &r->root, "siege", &dir) && look_up(r, &dir, name, &r->file);
}

/* The first key of a lease. */
static bool take_lease(struct raider *r, enum pml_lease_mode mode, uint64_t *ret_id,
		       struct pml_wire_segment *ret_segment)
{
	union pml_message msg = {.lease = {.inode = r->file,
					   .first_byte = below(r, 4) * LEASE_BYTES,
					   .len_bytes = LEASE_BYTES,
					   .mode = mode}};
	union pml_message reply;
	for (int i = 0; i < 20; i++) {
		int err = ask(r, &msg, sizeof(msg.lease), PML_WIRE_LEASE, &reply);
		if (err == 0 && reply.lease_reply.nsegments > 0) {
			*ret_id = reply.lease_reply.lease_id;
			memcpy(ret_segment, reply.bytes + sizeof(reply.lease_reply),
			       sizeof(*ret_segment));
			return true;
		}
		if (err != -EAGAIN)
			return false;
		(void)usleep(5000);
	}
	return false;
}

static int tell(struct raider *r, enum pml_wire_type type, uint64_t lease_id)
{
	union pml_message msg = {.ret = {.lease_id = lease_id}};
	union pml_message reply;
	if (type == PML_WIRE_ACK)
		return say(r, &msg, sizeof(msg.ret), type);
	return ask(r, &msg, sizeof(msg.ret), type, &reply);
}

static int commit(struct raider *r, uint64_t lease_id, const struct pml_wire_segment *seg)
{
	union pml_message msg = {.commit = {.lease_id = lease_id,
					    .first_byte = seg->first_byte,
					    .len_bytes = seg->len_bytes,
					    .new_size_bytes = below(r, 2) * seg->first_byte}};
	union pml_message reply;
	return ask(r, &msg, sizeof(msg.commit), PML_WIRE_COMMIT, &reply);
}

/* ---- accesses ------------------------------------------------------------------ */

static void judge(struct raider *r, size_t bytes, bool is_own)
{
	for (size_t i = 0; i < bytes; i++) {
		uint8_t byte = r->buffer[i];
		if (is_own && byte != 0 && byte != RAID_EVIL && byte != RAID_LOCAL) {
			violation(r, "a raider has read somebody else's byte", byte);
			return;
		}
		/* The oracle's words are not of one byte: that is what raiders or poison look like.
		 */
		if (!is_own && byte != 0 && i >= 8 &&
		    memcmp(r->buffer + i - 8, r->buffer + i - 7, 8) == 0) {
			violation(r, "a raider has read what its file never held", byte);
			return;
		}
	}
}

/* 0, or how it ended.  @is_own: the key is of a file that raiders write. */
static int touch(struct raider *r, const struct pml_wire_segment *seg, bool is_write, bool is_own)
{
	uint32_t bytes = (uint32_t)PML_MIN(seg->len_bytes, (uint64_t)BUFFER_BYTES);
	memset(r->buffer, is_write ? RAID_EVIL : 0, bytes);
	const struct pml_data_op op = {.mr = r->mr,
				       .buf = r->buffer,
				       .bytes = bytes,
				       .remote_addr = seg->remote_addr,
				       .rkey = seg->rkey,
				       .kind = is_write ? PML_DATA_WRITE : PML_DATA_READ};
	struct pml_completion done = {.status = -ENOTCONN};
	int err = pml_ep_post(r->ep, &op);
	if (!err && pml_ep_poll(r->ep, &done, 1, ANSWER_MS) != 1)
		err = -ENOTCONN;
	if (!err)
		err = done.status;
	atomic_fetch_add(err ? &r->target->counts->refused : &r->target->counts->served, 1);
	if (!err && !is_write)
		judge(r, bytes, is_own);
	return err;
}

/* Goes on until it is stopped, for some seconds at most. */
static void go_on(struct raider *r, const struct pml_wire_segment *seg, bool is_write, bool is_own)
{
	uint64_t end_ms = pml_now_ms() + 4000;
	while (touch(r, seg, is_write, is_own) == 0 && pml_now_ms() < end_ms)
		(void)usleep(2000);
}

/* ---- raids ----------------------------------------------------------------------- */

static void lie(struct raider *r)
{
	struct pml_wire_segment seg;
	uint64_t id;
	bool is_write = below(r, 2);
	if (!login(r) || !open_file(r) ||
	    !take_lease(r, is_write ? PML_LEASE_WRITE : PML_LEASE_READ, &id, &seg))
		return;
	(void)touch(r, &seg, is_write, true);
	switch (below(r, 4)) {
	case 0: /* commits what it did not write, and what it does not have */
		(void)commit(r, id, &seg);
		seg.first_byte += 1u << 30;
		(void)commit(r, id, &seg);
		(void)commit(r, id + 1, &seg);
		return;
	case 1: /* against its direction */
		(void)touch(r, &seg, !is_write, true);
		return;
	case 2: /* keys near its own, in the same place */
		seg.rkey += 1 + below(r, 300);
		(void)touch(r, &seg, is_write, true);
		return;
	default:
		break;
	}
	if (tell(r, PML_WIRE_RETURN, id) == 0)
		go_on(r, &seg, is_write, true);
}

/* Of its own files it writes too; of others it reads what a lease allows, and longer. */
static void be_silent(struct raider *r)
{
	struct pml_wire_segment seg;
	uint64_t id;
	bool is_own = below(r, 2);
	char name[3] = {'f', (char)('0' + below(r, 6))};
	if (!login(r) || (is_own ? !open_file(r) : !look_up(r, &r->root, name, &r->file)))
		return;
	bool is_write = is_own && below(r, 2);
	if (!take_lease(r, is_write ? PML_LEASE_WRITE : PML_LEASE_READ, &id, &seg))
		return;
	if (below(r, 2))
		(void)tell(r, PML_WIRE_ACK, id);
	go_on(r, &seg, is_write, is_own);
}

/* The tape of a connection, over another one, mixed. */
static void replay(struct raider *r)
{
	struct pml_wire_segment seg;
	uint64_t id;
	if (!login(r) || !open_file(r) || !take_lease(r, PML_LEASE_WRITE, &id, &seg))
		return;
	(void)touch(r, &seg, true, true);
	(void)commit(r, id, &seg);
	(void)tell(r, PML_WIRE_RETURN, id);
	uint32_t n = PML_MIN(r->ntape, TAPE);
	struct tape tape[TAPE];
	memcpy(tape, r->tape, sizeof(tape));
	if (below(r, 2) ? !login(r) : !dial(r))
		return;
	for (uint32_t i = 0; i < n; i++) {
		struct tape *old = &tape[below(r, 4) ? i : below(r, n)];
		union pml_message reply;
		size_t bytes;
		if (below(r, 2))
			old->msg.h.flags = PML_WIRE_RETRY;
		if (pml_ep_send(r->ep, &old->msg, old->bytes, ANSWER_MS) ||
		    pml_ep_recv(r->ep, &reply, &bytes, 100) == -ENOTCONN)
			break;
	}
	/* The old key over the new connection. */
	(void)touch(r, &seg, true, true);
}

static void flood_with_connections(struct raider *r)
{
	struct pml_ep *eps[FLOOD];
	char reason[PML_REASON_BYTES];
	uint32_t n = 0;
	while (n < FLOOD && pml_ep_connect(r->fabric, r->host, r->port, 1000, &eps[n], reason) == 0)
		n++;
	(void)usleep(50000);
	for (uint32_t i = 0; i < n; i++) {
		pml_ep_kill(eps[i]);
		pml_ep_close(eps[i]);
	}
}

static void flood(struct raider *r)
{
	if (below(r, 2)) {
		flood_with_connections(r);
		return;
	}
	if (!login(r) || !open_file(r))
		return;
	union pml_message msg = {.readdir = {.dir = r->root}};
	uint64_t end_ms = pml_now_ms() + 200;
	while (pml_now_ms() < end_ms) {
		pml_codec_header(&msg.h, PML_WIRE_READDIR, sizeof(msg.readdir), ++r->last_id);
		if (pml_ep_send(r->ep, &msg, sizeof(msg.readdir), 50))
			return;
	}
}

static void send_noise(struct raider *r)
{
	uint8_t data[512];
	struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(r->port))};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	for (size_t i = 0; i < sizeof(data); i++)
		data[i] = (uint8_t)rand_r(r->seed);
	if (fd >= 0 && inet_pton(AF_INET, r->host, &at.sin_addr) == 1 &&
	    connect(fd, (struct sockaddr *)&at, sizeof(at)) == 0 &&
	    send(fd, data, 1 + below(r, sizeof(data)), MSG_NOSIGNAL) > 0)
		(void)usleep(20000);
	if (fd >= 0)
		(void)close(fd);
}

static void send_garbage(struct raider *r)
{
	if (r->fabric == PML_TRANSPORT_SOFT && below(r, 2)) {
		send_noise(r);
		return;
	}
	if (below(r, 4) ? !login(r) : !dial(r))
		return;
	union pml_message msg;
	size_t bytes;
	for (size_t i = 0; i < sizeof(msg); i++)
		msg.bytes[i] = (uint8_t)rand_r(r->seed);
	bytes = 1 + below(r, sizeof(msg));
	if (below(r, 4) && bytes > sizeof(msg.h))
		pml_codec_header(&msg.h, (enum pml_wire_type)(1 + below(r, 30)), bytes, 1);
	if (pml_ep_send(r->ep, &msg, bytes, ANSWER_MS) ||
	    pml_ep_recv(r->ep, &msg, &bytes, ANSWER_MS))
		return;
}

/* A client of the library that writes; it is killed by its parent. */
static void write_until_killed(struct raider *r)
{
	struct pml_client *client;
	struct pml_client_attr attr;
	struct pml_client_buffer *buffer;
	char path[16];
	snprintf(path, sizeof(path), "/siege/a%u", below(r, RAID_FILES));
	if (pml_client_connect(r->target->url, CONNECT_MS, &client, NULL) ||
	    pml_client_stat(client, path, &attr) ||
	    pml_client_buffer_new(client, LEASE_BYTES, &buffer))
		return;
	memset(pml_client_buffer_data(buffer), RAID_EVIL, LEASE_BYTES);
	for (;;) {
		struct pml_client_lease *lease;
		uint64_t first_byte = below(r, 4) * LEASE_BYTES;
		int err = pml_client_lease(client, &attr.handle, first_byte, LEASE_BYTES, true,
					   1000, &lease);
		for (int i = 0; i < 20 && !err; i++)
			err = pml_client_write(lease, buffer, 0, first_byte, LEASE_BYTES);
		if (err == -ENOTCONN)
			return;
	}
}

static void die(struct raider *r)
{
	uint32_t ms = 20 + below(r, 300);
	(void)fflush(stdout);
	pid_t pid = fork();
	if (pid == 0) {
		write_until_killed(r);
		_exit(0);
	}
	if (pid < 0)
		return;
	(void)usleep(ms * 1000);
	(void)kill(pid, SIGKILL);
	(void)waitpid(pid, NULL, 0);
}

void raid(const struct raid_target *target, enum raid_kind kind, unsigned int *seed)
{
	static void (*const raids[RAID_KINDS])(struct raider *) = {
		[RAID_DIE] = die,	[RAID_LIE] = lie,     [RAID_SILENT] = be_silent,
		[RAID_REPLAY] = replay, [RAID_FLOOD] = flood, [RAID_GARBAGE] = send_garbage,
	};
	struct raider *r = calloc(1, sizeof(*r));
	if (!r)
		return;
	r->target = target;
	r->seed = seed;
	if (parse_url(r, target->url))
		raids[kind](r);
	hang_up(r);
	free(r);
	atomic_fetch_add(&target->counts->raids[kind], 1);
}
