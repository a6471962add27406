/* SPDX-License-Identifier: BSD-3-Clause */
/* played.c -- see played.h */
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "../../rdma/soft.h"
#include "played.h"
#include "pml/lease.h"
#include "violation.h"

#define ACCEPT_MS 20
#define RECV_MS	  5
#define SEND_MS	  20
#define RENEWALS  4u /* in a row: the client waits for an answer that will not come */

/* A client that has hung up is found by the receiver. */
static void send_or_not(struct played *p, const void *msg, size_t bytes)
{
	if (pml_ep_send(p->ep, msg, bytes, SEND_MS))
		return;
}

/* ---- keys ------------------------------------------------------------------ */

static void fence(struct played_key *key)
{
	if (!key->key)
		return;
	int err = pml_key_fence(key->key, PML_EP_FENCE_KEY, false);
	while (err)
		err = pml_key_fence(key->key, PML_EP_FENCE_CONNECTION, false);
	key->key = NULL;
}

static void fence_lease(struct played *p, uint64_t lease_id)
{
	for (uint32_t i = 0; i < PLAYED_KEYS; i++)
		if (p->keys[i].lease_id == lease_id)
			fence(&p->keys[i]);
}

/* A key for a part of the memory; the one that had its place dies.  0: none can be had. */
static uint32_t new_key(struct played *p, uint64_t first_byte, uint64_t len_bytes, bool for_write)
{
	struct played_key *key = &p->keys[p->nkeys++ % PLAYED_KEYS];
	uint32_t rkey = 0;
	fence(key);
	key->lease_id = p->last_lease;
	if (first_byte >= PLAYED_BYTES || len_bytes > PLAYED_BYTES - first_byte ||
	    pml_key_new(p->ep, p->memory + first_byte, len_bytes,
			for_write ? PML_KEY_WRITE : PML_KEY_READ, &rkey, &key->key)) {
		key->key = NULL;
		return 0;
	}
	return rkey;
}

/* ---- notices ---------------------------------------------------------------- */

/* Of a lease that was granted some time, or never. */
static uint64_t some_lease(struct played *p)
{
	uint8_t n = script_byte(&p->script);
	return n < 240 && p->last_lease > n % 4 ? p->last_lease - n % 4 : 1 + (uint64_t)n;
}

static void notify(struct played *p)
{
	uint64_t id = some_lease(p);
	uint8_t how = script_byte(&p->script);
	union pml_message msg;
	memset(&msg, 0, sizeof(msg));
	if (how & 4)
		fence_lease(p, id);
	if (how & 1) {
		msg.recall.lease_id = id;
		msg.recall.op = how % 3 ? (uint32_t)how % PML_OP_COUNT : PML_WIRE_OP_LEASE;
		msg.recall.drain_ms = how & 2 ? 0 : how;
		pml_codec_header(&msg.h, PML_WIRE_RECALL, sizeof(msg.recall), 0);
	} else {
		msg.revoked.lease_id = id;
		msg.revoked.why = how % 7;
		pml_codec_header(&msg.h, PML_WIRE_REVOKED, sizeof(msg.revoked), 0);
	}
	send_or_not(p, &msg, msg.h.bytes);
}

/* ---- answers ----------------------------------------------------------------- */

static struct pml_wire_attr some_attr(struct played *p)
{
	uint8_t n = script_byte(&p->script);
	return (struct pml_wire_attr){.handle = {.ino = 2 + n % 4, .generation = 1},
				      .size_bytes = n < 250 ? PLAYED_BYTES : INT64_MAX,
				      .mode = n % 4 == 3 ? S_IFDIR | 0755u : S_IFREG | 0644u,
				      .nlink = 1};
}

static size_t add_entries(struct played *p, union pml_message *msg, uint64_t cookie)
{
	size_t at = sizeof(msg->readdir_reply);
	uint32_t count = script_below(&p->script, 8);
	for (uint32_t i = 0; i < count; i++) {
		struct pml_wire_dirent entry = {.ino = 2 + i,
						.cookie = cookie + i + 1,
						.mode = S_IFREG,
						.name_bytes = 1 + script_below(&p->script, 255)};
		memcpy(msg->bytes + at, &entry, sizeof(entry));
		memset(msg->bytes + at + sizeof(entry), 'a' + (int)i, entry.name_bytes);
		at += pml_codec_dirent_bytes(entry.name_bytes);
		msg->readdir_reply.count++;
	}
	/* A list without end would be one, too. */
	msg->readdir_reply.is_end = script_below(&p->script, 3) != 1;
	return at;
}

/* One to three segments; a write lease's have no gaps, unless it lies. */
static size_t add_segments(struct played *p, union pml_message *msg, bool for_write)
{
	struct pml_wire_lease_reply *m = &msg->lease_reply;
	size_t at = sizeof(*m);
	uint64_t first = m->first_byte;
	uint32_t count = 1 + script_below(&p->script, 3);
	for (uint32_t i = 0; i < count && first < m->end_byte; i++) {
		uint8_t n = script_byte(&p->script);
		uint64_t len = i + 1 == count ? m->end_byte - first
					      : PML_MIN((uint64_t)n * 64 + 1, m->end_byte - first);
		struct pml_wire_segment seg = {.first_byte = first, .len_bytes = len};
		seg.remote_addr = (uintptr_t)p->memory + first;
		seg.rkey = n == 255 ? 0x7700u : new_key(p, first, len, for_write);
		memcpy(msg->bytes + at, &seg, sizeof(seg));
		at += sizeof(seg);
		m->nsegments++;
		first += len + (!for_write && n % 4 == 1 ? 512u : 0);
	}
	return at;
}

static size_t make_grant(struct played *p, const union pml_message *request,
			 union pml_message *reply)
{
	static const uint32_t terms[] = {60000, 2000, 30, 1};
	struct pml_wire_lease_reply *m = &reply->lease_reply;
	bool is_new = request->h.type == PML_WIRE_LEASE;
	uint8_t n = script_byte(&p->script);
	m->lease_id = n == 77 && p->last_lease ? p->last_lease : ++p->last_lease;
	m->first_byte = is_new ? request->lease.first_byte : 0;
	m->end_byte = m->first_byte + (is_new ? request->lease.len_bytes : 4096);
	if (n % 8 == 1)
		m->end_byte = m->first_byte + 1 + n; /* less than asked */
	if (n == 99)
		m->first_byte++, m->end_byte++;
	m->file_size = PLAYED_BYTES;
	m->term_ms = terms[n % PML_ARRAY_LEN(terms)];
	m->durability = PML_DURABLE_BY_COMMIT;
	return add_segments(p, reply, is_new && request->lease.mode == PML_LEASE_WRITE);
}

static size_t make_auth(struct played *p, union pml_message *reply)
{
	static const uint32_t terms[] = {60000, 2000, 30, 1};
	struct pml_wire_auth_reply *m = &reply->auth_reply;
	uint8_t n = script_byte(&p->script);
	m->root = (struct pml_wire_attr){.handle = {.ino = 1}, .mode = S_IFDIR | 0755u};
	m->term_ms = terms[n % PML_ARRAY_LEN(terms)];
	m->durability = PML_DURABLE_BY_COMMIT;
	m->credits = 1 + n;
	m->max_lease_bytes = n == 255 ? UINT64_MAX : 1 << 20;
	return sizeof(*m);
}

/* A true answer; the header is left to the caller. */
static size_t make_answer(struct played *p, const union pml_message *request,
			  union pml_message *reply)
{
	switch ((enum pml_wire_type)request->h.type) {
	case PML_WIRE_HELLO:
		reply->hello_reply.epoch = 1;
		reply->hello_reply.method = script_below(&p->script, 32) == 31;
		return sizeof(reply->hello_reply);
	case PML_WIRE_AUTH:
		return make_auth(p, reply);
	case PML_WIRE_LOOKUP:
	case PML_WIRE_GETATTR:
	case PML_WIRE_SETATTR:
	case PML_WIRE_CREATE:
	case PML_WIRE_MKDIR:
	case PML_WIRE_SYMLINK:
	case PML_WIRE_LINK:
		reply->attr_reply.attr = some_attr(p);
		return sizeof(reply->attr_reply);
	case PML_WIRE_READDIR:
		return add_entries(p, reply, request->readdir.cookie);
	case PML_WIRE_READLINK:
	case PML_WIRE_GETXATTR:
	case PML_WIRE_LISTXATTR:
		reply->data_reply.total_bytes = script_byte(&p->script);
		memset(reply->bytes + sizeof(reply->data_reply), 'x',
		       reply->data_reply.total_bytes);
		return sizeof(reply->data_reply) + reply->data_reply.total_bytes;
	case PML_WIRE_STATFS:
		reply->statfs_reply.block_bytes = 4096;
		return sizeof(reply->statfs_reply);
	case PML_WIRE_CLONE:
		return sizeof(reply->clone_reply);
	case PML_WIRE_LEASE:
	case PML_WIRE_DOWNGRADE:
		return make_grant(p, request, reply);
	case PML_WIRE_RETURN:
		fence_lease(p, request->ret.lease_id);
		return sizeof(struct pml_wire_empty);
	default:
		return sizeof(struct pml_wire_empty);
	}
}

/* A frame that no server sends, or not now. */
static void send_frame(struct played *p)
{
	struct pml_soft_frame frame;
	uint8_t data[sizeof(frame) + 4096];
	uint8_t type = script_byte(&p->script);
	pml_soft_frame_init(&frame,
			    type < 128 ? PML_SOFT_DATA : (enum pml_soft_frame_type)(type % 10));
	frame.bytes = script_byte(&p->script) * 16u;
	frame.op = script_below(&p->script, 4);
	frame.credits = type % 4 ? 0 : script_below(&p->script, 40);
	memset(data, 'f', sizeof(data));
	memcpy(data, &frame, sizeof(frame));
	int fd = PML_CONTAINER_OF(p->ep, struct pml_soft_ep, base)->fd;
	if (send(fd, data, sizeof(frame) + frame.bytes, MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
		return;
}

static size_t make_error(struct played *p, union pml_message *reply)
{
	static const char reason[] = "the script says so";
	static const int32_t errors[] = {-EAGAIN, -EBUSY, -ESTALE, -EIO, -ENOENT, -4095, -EUSERS};
	memset(reply, 0, sizeof(*reply));
	size_t bytes = script_below(&p->script, 2) ? sizeof(reason) - 1 : 0;
	memcpy(reply->bytes + sizeof(reply->h), reason, bytes);
	pml_codec_header(&reply->h, PML_WIRE_REPLY, sizeof(reply->h) + bytes, 1);
	reply->h.status = errors[script_below(&p->script, PML_ARRAY_LEN(errors))];
	return sizeof(reply->h) + bytes;
}

static void answer(struct played *p, const union pml_message *request)
{
	static union pml_message reply; /* of this thread alone */
	uint8_t how = script_byte(&p->script);
	if (how >= 250)
		return;
	memset(&reply, 0, sizeof(reply));
	size_t bytes = make_answer(p, request, &reply);
	pml_codec_header(&reply.h, PML_WIRE_REPLY, bytes, request->h.request_id);
	if (how >= 232)
		bytes = make_error(p, &reply);
	reply.h.request_id = request->h.request_id;
	reply.h.reply_to = request->h.type;
	if (how >= 228 && how < 232)
		reply.h.reply_to = (uint16_t)(1 + script_below(&p->script, 24));
	if (how >= 222 && how < 228)
		reply.bytes[script_byte(&p->script) % bytes] ^=
			(uint8_t)(1 + script_below(&p->script, 255));
	send_or_not(p, &reply, bytes);
	if (how >= 216 && how < 222)
		send_or_not(p, &reply, bytes);
}

/* ---- the server ---------------------------------------------------------------- */

/* False: it hangs up. */
static bool play(struct played *p, const union pml_message *request)
{
	uint8_t before = script_byte(&p->script);
	if (before >= 200 && before < 240)
		notify(p);
	if (before == 240)
		send_frame(p);
	if (before == 241)
		return false;
	if (request->h.type != PML_WIRE_ACK)
		answer(p, request);
	if (before >= 160 && before < 200)
		notify(p);
	return true;
}

/* Nothing is asked: so a transfer may be under way.  False: it hangs up. */
static bool idle(struct played *p)
{
	uint8_t how = script_byte(&p->script);
	if (how >= 192)
		send_frame(p);
	else if (how >= 160)
		notify(p);
	return how != 159;
}

static void serve(struct played *p)
{
	static union pml_message msg;
	bool goes_on = true;
	bool was_asked = false;
	uint32_t renewals = 0;
	while (goes_on && !atomic_load(&p->is_over)) {
		size_t bytes;
		int err = pml_ep_recv(p->ep, &msg, &bytes, RECV_MS);
		if (err == -ETIMEDOUT) {
			/* Once after each request: time does not use the script up. */
			goes_on = !was_asked || idle(p);
			was_asked = false;
			continue;
		}
		if (err)
			break;
		was_asked = true;
		const char *reason = "";
		if (pml_codec_check_request(&msg, bytes, &reason))
			VIOLATION("the client sends what it may not: %s", reason);
		renewals = msg.h.type == PML_WIRE_RENEW ? renewals + 1 : 0;
		/* A call that may wait is waited for as long as renewals are answered. */
		goes_on = play(p, &msg) && renewals < RENEWALS;
	}
	pml_ep_kill(p->ep);
	for (uint32_t i = 0; i < PLAYED_KEYS; i++)
		fence(&p->keys[i]);
	pml_ep_close(p->ep);
	p->ep = NULL;
}

static void *run(void *arg)
{
	struct played *p = arg;
	while (!atomic_load(&p->is_over))
		if (pml_fabric_accept(p->fabric, ACCEPT_MS, &p->ep) == 0)
			serve(p);
	return NULL;
}

void played_start(struct played *p, const struct script *script)
{
	char reason[PML_REASON_BYTES];
	*p = (struct played){.script = *script};
	p->memory = malloc(PLAYED_BYTES);
	if (!p->memory ||
	    pml_fabric_listen(PML_TRANSPORT_SOFT, "127.0.0.1", "0", &p->fabric, reason))
		VIOLATION("no server");
	memset(p->memory, 'm', PLAYED_BYTES);
	const struct pml_soft_faults slow = {.delay_data_us =
						     script_below(&p->script, 4) == 3 ? 15000 : 0};
	pml_soft_set_faults(&slow);
	snprintf(p->url, sizeof(p->url), "soft://127.0.0.1:%u", pml_fabric_port(p->fabric));
	if (pthread_create(&p->thread, NULL, run, p))
		VIOLATION("no thread");
}

void played_stop(struct played *p)
{
	atomic_store(&p->is_over, true);
	pml_fabric_shutdown(p->fabric);
	pthread_join(p->thread, NULL);
	pml_fabric_close(p->fabric);
	free(p->memory);
	const struct pml_soft_faults none = {0};
	pml_soft_set_faults(&none);
}
