/* SPDX-License-Identifier: BSD-3-Clause */
/* peer.c -- see peer.h */
#include <inttypes.h>
#include <string.h>
#include <sys/socket.h>

#include "../../rdma/soft.h"
#include "peer.h"
#include "violation.h"

#define SEND_MS	 20
#define REPLY_MS 30
/* What no file holds: written where the write must not happen. */
#define EVIL 0xee

void peer_judge_bytes(const char *who, const uint8_t *data, uint64_t ino, uint64_t first_byte,
		      size_t bytes)
{
	for (size_t i = 0; i < bytes; i++)
		if (data[i] != 0 && data[i] != pattern_at(ino, first_byte + i))
			VIOLATION("%s: inode %" PRIu64 " byte %" PRIu64 " is 0x%02x", who, ino,
				  first_byte + i, data[i]);
}

/* ---- leases ---------------------------------------------------------------- */

/* False: it is not in the table. */
static bool look_up_lease(struct rig *rig, uint64_t lease_id, struct pml_lease_view *ret_view)
{
	return pml_lease_list(rig->mgr, lease_id - 1, ret_view, 1) == 1 &&
	       ret_view->lease_id == lease_id;
}

static bool is_inside(const struct grant *grant, const struct peer_access *a)
{
	const struct pml_wire_segment *s = &grant->segment;
	return grant->for_write == a->is_write && s->rkey == a->rkey && a->addr >= s->remote_addr &&
	       a->bytes <= s->len_bytes && a->addr - s->remote_addr <= s->len_bytes - a->bytes;
}

/* The lease that allows this access, if there is one. */
static const struct grant *find_right(const struct peer *peer, const struct peer_access *a)
{
	const struct known *known = peer->known;
	uint64_t count = PML_MIN(known->ngrants, (uint64_t)KNOWN_GRANTS);
	for (uint64_t i = 0; i < count; i++) {
		const struct grant *grant = &known->grants[i];
		struct pml_lease_view view;
		if (grant->life == peer->life && is_inside(grant, a) &&
		    look_up_lease(peer->rig, grant->lease_id, &view))
			return grant;
	}
	return NULL;
}

/* ---- accesses -------------------------------------------------------------- */

void peer_post(struct peer *peer, const struct peer_access *a)
{
	uint32_t slot = 0;
	while (slot < PEER_OPS && peer->ops[slot].is_posted)
		slot++;
	if (!peer->ep || peer->is_torn || slot == PEER_OPS || a->bytes == 0 ||
	    a->bytes > PEER_BUFFER_BYTES)
		return;
	peer_listen(peer);
	const struct grant *right = find_right(peer, a);
	/* What it was lent meanwhile it cannot tell from what it was not. */
	if (!right && peer->nunanswered > 0)
		return;
	struct peer_op *op = &peer->ops[slot];
	*op = (struct peer_op){.is_write = a->is_write,
			       .may_succeed = right,
			       .bytes = a->bytes,
			       .buf = peer->buffer + (size_t)slot * PEER_BUFFER_BYTES};
	memset(op->buf, EVIL, a->bytes);
	if (right) {
		op->grant = *right;
		op->first_byte = right->segment.first_byte + (a->addr - right->segment.remote_addr);
		if (a->is_write)
			fill_pattern(op->buf, right->ino, op->first_byte, a->bytes);
	}
	const struct pml_data_op data = {.mr = peer->mr,
					 .buf = op->buf,
					 .bytes = a->bytes,
					 .remote_addr = a->addr,
					 .rkey = a->rkey,
					 .kind = a->is_write ? PML_DATA_WRITE : PML_DATA_READ,
					 .cookie = slot};
	op->is_posted = pml_ep_post(peer->ep, &data) == 0;
}

static void judge_op(struct peer *peer, const struct peer_op *op, int status)
{
	struct pml_lease_view view;
	const char *what = op->is_write ? "write" : "read";
	if (status == 0 && !op->may_succeed)
		VIOLATION("a %s succeeds without a lease", what);
	if (status == 0 && !op->is_write)
		peer_judge_bytes("remote read", op->buf, op->grant.ino, op->first_byte, op->bytes);
	/* A key is refused when its fence has begun, not before. */
	if (status == -EACCES && op->may_succeed &&
	    look_up_lease(peer->rig, op->grant.lease_id, &view) &&
	    (view.state == PML_LEASE_GRANTED || view.state == PML_LEASE_RECALLING))
		VIOLATION("a %s by lease %" PRIu64 " is refused, and it is %s", what,
			  op->grant.lease_id, pml_lease_state_name(view.state));
	if (status != 0 && status != -EACCES && status != -ENOTCONN)
		VIOLATION("a %s ends with %d", what, status);
}

void peer_collect(struct peer *peer, int timeout_ms)
{
	struct pml_completion done[PEER_OPS];
	if (!peer->ep)
		return;
	int n = pml_ep_poll(peer->ep, done, PEER_OPS, timeout_ms);
	for (int i = 0; i < n; i++) {
		struct peer_op *op = &peer->ops[done[i].cookie];
		judge_op(peer, op, done[i].status);
		op->is_posted = false;
	}
}

void peer_tear(struct peer *peer, const void *data, size_t bytes)
{
	if (!peer->ep || peer->is_torn)
		return;
	struct pml_soft_ep *soft = PML_CONTAINER_OF(peer->ep, struct pml_soft_ep, base);
	peer->is_torn = true;
	if (send(soft->fd, data, bytes, MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
		return; /* it has ended */
}

uint64_t peer_ops_begun(const struct peer *peer)
{
	return PML_CONTAINER_OF(peer->ep, struct pml_soft_ep, base)->ops_posted;
}

/* ---- messages -------------------------------------------------------------- */

static const struct peer_asked *find_asked(const struct peer *peer, uint32_t request_id)
{
	for (uint32_t i = 0; i < PEER_ASKED; i++)
		if (peer->asked[i].request_id == request_id)
			return &peer->asked[i];
	return NULL;
}

/* The file of a lease that somebody was given; 0: not known any more. */
static uint64_t ino_of(const struct known *known, uint64_t lease_id)
{
	for (uint32_t i = 0; i < KNOWN_GRANTS; i++)
		if (known->grants[i].lease_id == lease_id)
			return known->grants[i].ino;
	return 0;
}

static void note_asked(struct peer *peer, const union pml_message *msg)
{
	struct peer_asked asked = {.request_id = msg->h.request_id};
	if (msg->h.type == PML_WIRE_LEASE) {
		asked.ino = msg->lease.inode.ino;
		asked.for_write = msg->lease.mode == PML_LEASE_WRITE;
	} else if (msg->h.type == PML_WIRE_DOWNGRADE) {
		asked.old_lease_id = msg->ret.lease_id;
	} else {
		return;
	}
	peer->asked[peer->nasked++ % PEER_ASKED] = asked;
	peer->nunanswered++;
}

static void take_lease(struct peer *peer, const union pml_message *msg)
{
	const struct pml_wire_lease_reply *m = &msg->lease_reply;
	const struct peer_asked *asked = find_asked(peer, msg->h.request_id);
	if (!asked)
		VIOLATION("a lease that nobody asked for");
	uint64_t ino = asked->ino ? asked->ino : ino_of(peer->known, asked->old_lease_id);
	if (ino == 0)
		VIOLATION("a downgrade of a lease that this client does not have");
	uint8_t *base;
	uint64_t room;
	pml_fs_mapping(peer->rig->fs, &base, &room);
	for (uint32_t i = 0; i < m->nsegments; i++) {
		struct grant grant = {.life = peer->life,
				      .lease_id = m->lease_id,
				      .ino = ino,
				      .for_write = asked->for_write};
		memcpy(&grant.segment, msg->bytes + sizeof(*m) + i * sizeof(grant.segment),
		       sizeof(grant.segment));
		uint64_t at = grant.segment.remote_addr - (uintptr_t)base;
		/* Of a range without blocks: zeros of the server's own. */
		bool may_be_guard = !asked->for_write && m->nsegments == 1 &&
				    grant.segment.len_bytes <= PML_BLOCK_BYTES;
		bool is_inside_device = at <= room && grant.segment.len_bytes <= room - at;
		if (!is_inside_device && !may_be_guard)
			VIOLATION("a segment that is not on the device");
		known_add_grant(peer->known, &grant);
	}
}

static void take_message(struct peer *peer, const union pml_message *msg, size_t bytes)
{
	const char *reason = "";
	if (pml_codec_check_from_server(msg, bytes, &reason))
		VIOLATION("the server sends what it may not: %s", reason);
	bool is_reply = msg->h.type == PML_WIRE_REPLY;
	if (is_reply &&
	    (msg->h.reply_to == PML_WIRE_LEASE || msg->h.reply_to == PML_WIRE_DOWNGRADE))
		peer->nunanswered--;
	if (!is_reply || msg->h.status)
		return;
	switch ((enum pml_wire_type)msg->h.reply_to) {
	case PML_WIRE_LEASE:
	case PML_WIRE_DOWNGRADE:
		take_lease(peer, msg);
		break;
	case PML_WIRE_AUTH:
		known_add_handle(peer->known, &msg->auth_reply.root.handle);
		break;
	case PML_WIRE_LOOKUP:
	case PML_WIRE_CREATE:
	case PML_WIRE_MKDIR:
	case PML_WIRE_SYMLINK:
	case PML_WIRE_LINK:
		known_add_handle(peer->known, &msg->attr_reply.attr.handle);
		break;
	default:
		break;
	}
}

static void listen_for(struct peer *peer, uint32_t request_id, int timeout_ms)
{
	union pml_message msg;
	size_t bytes;
	/* Bounded: a server could send without end. */
	for (int i = 0; i < 100 && peer->ep; i++) {
		if (pml_ep_recv(peer->ep, &msg, &bytes, timeout_ms))
			return;
		take_message(peer, &msg, bytes);
		if (request_id && msg.h.request_id == request_id)
			return;
	}
}

void peer_listen(struct peer *peer)
{
	listen_for(peer, 0, 0);
}

void peer_ask(struct peer *peer, union pml_message *msg, size_t bytes, bool must_wait)
{
	if (!peer->ep || peer->is_torn)
		return;
	/* Also behind a damage: an answer must be told from that of another request. */
	if (bytes >= sizeof(msg->h) && msg->h.request_id)
		msg->h.request_id = ++peer->last_id;
	if (pml_ep_send(peer->ep, msg, bytes, SEND_MS))
		return;
	note_asked(peer, msg);
	if (must_wait && bytes >= sizeof(msg->h) && msg->h.type != PML_WIRE_ACK)
		listen_for(peer, msg->h.request_id, REPLY_MS);
}

void peer_login(struct peer *peer, uint8_t who)
{
	union pml_message msg;
	size_t bytes = request_hello(who, &msg);
	peer_ask(peer, &msg, bytes, true);
	bytes = request_auth(&msg);
	peer_ask(peer, &msg, bytes, true);
}

/* ---- life ------------------------------------------------------------------ */

void peer_connect(struct peer *peer, struct rig *rig, struct known *known, uint64_t life)
{
	*peer = (struct peer){.rig = rig, .known = known, .life = life};
	peer->ep = raw_connect(rig);
	peer->buffer = malloc((size_t)PEER_OPS * PEER_BUFFER_BYTES);
	if (!peer->buffer || pml_local_mr_new(peer->ep, peer->buffer,
					      (size_t)PEER_OPS * PEER_BUFFER_BYTES, &peer->mr))
		VIOLATION("out of memory");
}

void peer_close(struct peer *peer)
{
	if (!peer->ep)
		return;
	pml_ep_kill(peer->ep);
	/* All end now: what has succeeded is judged, too. */
	for (uint32_t i = 0; i < PEER_OPS; i++)
		peer_collect(peer, 1000);
	pml_local_mr_free(peer->mr);
	pml_ep_close(peer->ep);
	free(peer->buffer);
	peer->ep = NULL;
}
