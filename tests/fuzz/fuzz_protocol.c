/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fuzz_protocol.c -- a server against clients that do what an input says
 *
 * Real server, lease manager and software fabric over a fake filesystem, in this process.
 * An input is a head of 2 bytes (policy, clocks) and a list of actions, each a byte that
 * chooses it and some that say how (script.h): four clients connect, say hello, send requests
 * that are right or damaged, use keys that live, are dead, of others or out of range, recall
 * nothing and keep silent, tear frames, vanish; local programs truncate and punch meanwhile.
 *
 * Judged on the way: see peer.h.  In the end: all sessions and leases end with their
 * connections, no pin is left (I2), no free block was written (I1, I3), each file holds its
 * own pattern, and the server serves an honest client.
 */
#include <arpa/inet.h>
#include <inttypes.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "../../rdma/soft.h"
#include "fuzz.h"
#include "locals.h"
#include "peer.h"
#include "pml/clock.h"
#include "violation.h"

#define PEERS	  4u
#define STRANGERS 4u /* sockets that never become a peer */
#define FILES	  4u
#define END_MS	  20000u

struct world {
	struct script script;
	struct rig rig;
	struct known known;
	struct peer peers[PEERS];
	uint64_t lives;
	int strangers[STRANGERS]; /* 0: none */
	struct locals locals;
	uint64_t inos[FILES];
};

/* ---- actions --------------------------------------------------------------- */

static struct peer *pick_peer(struct world *w)
{
	return &w->peers[script_below(&w->script, PEERS)];
}

static void act_connect(struct world *w)
{
	struct peer *peer = pick_peer(w);
	peer_close(peer);
	peer_connect(peer, &w->rig, &w->known, ++w->lives);
	if (script_below(&w->script, 8) > 0)
		peer_login(peer, script_byte(&w->script));
}

static void act_login(struct world *w)
{
	peer_login(pick_peer(w), script_byte(&w->script));
}

static void act_close(struct world *w)
{
	peer_close(pick_peer(w));
}

static void act_request(struct world *w)
{
	struct peer *peer = pick_peer(w);
	union pml_message msg;
	bool must_wait = script_below(&w->script, 4) > 0;
	size_t bytes = request_make(&w->script, &w->known, &msg);
	peer_ask(peer, &msg, bytes, must_wait);
}

/* A lease as an honest client takes it. */
static void act_lease(struct world *w)
{
	struct peer *peer = pick_peer(w);
	union pml_message msg = {.lease = {.mode = script_below(&w->script, 2)}};
	uint32_t n = script_byte(&w->script);
	if (w->known.nhandles <= FILES)
		return;
	msg.lease.inode = w->known.handles[1 + n % FILES];
	msg.lease.first_byte = (uint64_t)(n / FILES % 16) * 4 * PML_BLOCK_BYTES;
	msg.lease.len_bytes = (1 + script_below(&w->script, 24)) * PML_BLOCK_BYTES;
	pml_codec_header(&msg.h, PML_WIRE_LEASE, sizeof(msg.lease), 1);
	peer_ask(peer, &msg, sizeof(msg.lease), true);
}

static size_t put_name(union pml_message *msg, size_t at, char name)
{
	msg->bytes[at] = (uint8_t)name;
	return at + 1;
}

/* Of the tree below the root, as an honest client makes it; names are few, so that they meet. */
static size_t make_change(struct script *s, const struct pml_wire_handle *root,
			  const struct pml_wire_handle *file, union pml_message *m,
			  enum pml_wire_type *ret_type)
{
	char name = (char)('e' + script_below(s, 6));
	switch (script_below(s, 8)) {
	case 0:
		*ret_type = PML_WIRE_MKDIR;
		m->create = (struct pml_wire_create){.dir = *root, .mode = 0755};
		return put_name(m, sizeof(m->create), name);
	case 1:
		*ret_type = PML_WIRE_LINK;
		m->link = (struct pml_wire_link){.inode = *file, .dir = *root};
		return put_name(m, sizeof(m->link), name);
	case 2:
	case 3:
		*ret_type = PML_WIRE_RENAME;
		m->rename = (struct pml_wire_rename){
			.from = *root, .to = *root, .name_bytes = 1, .new_name_bytes = 1};
		(void)put_name(m, sizeof(m->rename), name);
		return put_name(m, sizeof(m->rename) + 1, (char)('e' + script_below(s, 6)));
	case 4:
		*ret_type = PML_WIRE_UNLINK;
		m->name = (struct pml_wire_name){.dir = *root, .flags = script_below(s, 2)};
		return put_name(m, sizeof(m->name), name);
	case 5:
		*ret_type = PML_WIRE_SETATTR;
		m->setattr = (struct pml_wire_setattr){.inode = *file,
						       .what = PML_WIRE_SET_SIZE,
						       .size_bytes = script_below(s, FILE_BLOCKS) *
								     (uint64_t)PML_BLOCK_BYTES};
		return sizeof(m->setattr);
	case 6:
		*ret_type = PML_WIRE_CREATE;
		m->create = (struct pml_wire_create){.dir = *root, .mode = 0644};
		return put_name(m, sizeof(m->create), name);
	default:
		/* Onto itself: see request.c. */
		*ret_type = PML_WIRE_CLONE;
		m->clone = (struct pml_wire_clone){.src = *file, .dst = *file};
		m->clone.src_byte = script_below(s, FILE_BLOCKS) * (uint64_t)PML_BLOCK_BYTES;
		m->clone.dst_byte = m->clone.src_byte;
		m->clone.len_bytes = (1 + script_below(s, 8)) * (uint64_t)PML_BLOCK_BYTES;
		return sizeof(m->clone);
	}
}

static void act_change(struct world *w)
{
	struct peer *peer = pick_peer(w);
	union pml_message msg = {.name = {.flags = 0}};
	uint32_t n = script_byte(&w->script);
	if (w->known.nhandles <= FILES)
		return;
	const struct pml_wire_handle root = w->known.handles[0];
	const struct pml_wire_handle file = w->known.handles[1 + n % FILES];
	enum pml_wire_type type;
	size_t bytes = make_change(&w->script, &root, &file, &msg, &type);
	pml_codec_header(&msg.h, type, bytes, 1);
	peer_ask(peer, &msg, bytes, n & 0x80);
}

static void act_return(struct world *w)
{
	struct peer *peer = pick_peer(w);
	const struct grant *grant = known_grant(&w->known, script_byte(&w->script));
	union pml_message msg = {.ret = {.lease_id = grant ? grant->lease_id : 1}};
	pml_codec_header(&msg.h, PML_WIRE_RETURN, sizeof(msg.ret), 1);
	peer_ask(peer, &msg, sizeof(msg.ret), script_below(&w->script, 2));
}

/* Somebody's key, as it is, or nearly. */
static bool make_access(struct world *w, struct peer *peer, struct peer_access *ret_access)
{
	struct script *s = &w->script;
	static const uint32_t sizes[] = {1, 8, 512, 4096, 8192, 65536};
	uint8_t n = script_byte(s);
	const struct grant *grant = known_grant(&w->known, n);
	/* Mostly one of its own. */
	for (uint32_t i = 0; grant && grant->life != peer->life && n % 4 && i < 32; i++)
		grant = known_grant(&w->known, n + i);
	if (!grant)
		return false;
	const struct pml_wire_segment *seg = &grant->segment;
	uint8_t how = script_byte(s);
	uint32_t bytes = sizes[how % PML_ARRAY_LEN(sizes)];
	bytes = (uint32_t)PML_MIN((uint64_t)bytes, seg->len_bytes);
	*ret_access = (struct peer_access){.rkey = seg->rkey,
					   .addr = seg->remote_addr + seg->len_bytes - bytes,
					   .bytes = bytes,
					   .is_write = grant->for_write};
	switch (how / 8) {
	case 0:
		ret_access->is_write = !grant->for_write;
		break;
	case 1:
		ret_access->bytes += 1 + script_byte(s); /* over the end */
		break;
	case 2:
		ret_access->addr = seg->remote_addr - 1 - script_byte(s);
		break;
	case 3:
		ret_access->rkey ^= 1u << script_below(s, 32);
		break;
	case 4:
		ret_access->addr = script_u64(s);
		break;
	case 5:
		ret_access->addr += script_byte(s) * PML_BLOCK_BYTES;
		break;
	default:
		break;
	}
	return true;
}

static void act_access(struct world *w)
{
	struct peer *peer = pick_peer(w);
	struct peer_access access;
	if (!peer->ep || !make_access(w, peer, &access))
		return;
	peer_post(peer, &access);
	if (script_below(&w->script, 4) > 0)
		peer_collect(peer, 100);
}

static void act_collect(struct world *w)
{
	struct peer *peer = pick_peer(w);
	peer_collect(peer, 0);
	if (peer->ep)
		peer_listen(peer);
}

/* Half of a write by a key, or of anything else; then nothing more comes. */
static void act_tear(struct world *w)
{
	struct peer *peer = pick_peer(w);
	struct peer_access access;
	if (!peer->ep || !make_access(w, peer, &access))
		return;
	struct pml_soft_frame frame;
	uint8_t data[sizeof(frame) + PML_BLOCK_BYTES];
	pml_soft_frame_init(&frame, PML_SOFT_WRITE);
	frame.op = peer_ops_begun(peer);
	frame.rkey = access.rkey;
	frame.remote_addr = access.addr;
	frame.op_bytes = access.bytes;
	frame.bytes = PML_MIN(access.bytes, PML_SOFT_PIECE_BYTES);
	memcpy(data, &frame, sizeof(frame));
	/* Zeros are what any file may hold. */
	memset(data + sizeof(frame), 0, PML_BLOCK_BYTES);
	size_t bytes = sizeof(frame) + script_byte(&w->script) * 4u;
	uint8_t at = script_byte(&w->script);
	if (at < sizeof(frame))
		data[at] ^= (uint8_t)(1 + script_below(&w->script, 255));
	peer_tear(peer, data, PML_MIN(bytes, sizeof(data)));
}

/* A socket that says little or nothing, or gets nowhere. */
static void act_stranger(struct world *w)
{
	int *fd = &w->strangers[script_below(&w->script, STRANGERS)];
	uint8_t data[sizeof(struct pml_soft_frame) * 2] = {0};
	if (*fd > 0)
		(void)close(*fd);
	*fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	const struct sockaddr_in at = {.sin_family = AF_INET,
				       .sin_port = htons((uint16_t)atoi(w->rig.port)),
				       .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	if (*fd < 0 || connect(*fd, (const struct sockaddr *)&at, sizeof(at)))
		VIOLATION("the server takes no connections");
	pml_soft_frame_init((struct pml_soft_frame *)(void *)data, PML_SOFT_HELLO);
	pml_soft_frame_init((struct pml_soft_frame *)(void *)data + 1,
			    (enum pml_soft_frame_type)script_below(&w->script, 10));
	size_t bytes = script_below(&w->script, sizeof(data) + 1);
	uint8_t where = script_byte(&w->script);
	if (where < sizeof(data))
		data[where] ^= script_byte(&w->script);
	if (send(*fd, data, bytes, MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
		return;
}

static void act_local(struct world *w)
{
	struct local_op op = {.kind = (enum local_kind)script_below(&w->script, LOCAL_KINDS),
			      .ino = w->inos[script_below(&w->script, FILES)],
			      .first_block = script_below(&w->script, FILE_BLOCKS)};
	op.nblocks = PML_MIN(1 + script_below(&w->script, 16), FILE_BLOCKS - op.first_block);
	locals_put(&w->locals, &op);
}

static void act_silence(struct world *w)
{
	(void)usleep(script_byte(&w->script) * 8u);
}

static void act_fault(struct world *w)
{
	uint8_t n = script_byte(&w->script);
	const struct pml_soft_faults faults = {
		.delay_data_us = n & 1 ? 200 : 0,
		.fail_key_fences = n & 2 ? 3 : 0,
		.late_fence_us = n & 4 ? 500 : 0,
		.tear_writes = n & 8 ? 1 : 0,
	};
	pml_soft_set_faults(&faults);
}

static void act(struct world *w)
{
	static void (*const actions[])(struct world *) = {
		act_request, act_request, act_request, act_request, act_lease,	 act_lease,
		act_lease,   act_access,  act_access,  act_access,  act_access,	 act_access,
		act_return,  act_local,	  act_local,   act_collect, act_silence, act_fault,
		act_connect, act_connect, act_login,   act_close,   act_tear,	 act_stranger,
	};
	uint8_t n = script_byte(&w->script);
	if (n >= 240)
		act_change(w);
	else
		actions[n % PML_ARRAY_LEN(actions)](w);
}

/* ---- beginning and end ------------------------------------------------------ */

static void configure(struct world *w)
{
	static const enum pml_policy policies[] = {PML_POLICY_REVOKE, PML_POLICY_REVOKE,
						   PML_POLICY_EBUSY, PML_POLICY_BLOCK};
	struct pml_lease_config *c = &w->rig.config;
	uint8_t n = script_byte(&w->script);
	enum pml_policy policy = policies[n % PML_ARRAY_LEN(policies)];
	c->policy[PML_OP_TRUNCATE] = c->policy[PML_OP_PUNCH] = policy;
	c->policy[PML_OP_CLONE_DST] = policy;
	c->orphan_grace_ms = 5;
	c->lease_policy = policies[n / 4 % PML_ARRAY_LEN(policies)];
	c->ebusy_recalls = n & 16;
	n = script_byte(&w->script);
	c->ack_ms = 2 + n % 16;
	c->drain_ms = 4 + n / 16;
	c->block_deadline_ms = 10;
	c->term_ms = n & 1 ? 40 : 2000;
	c->max_session_leases = 16;
	c->max_session_pinned_bytes = 256 * PML_BLOCK_BYTES;
	c->max_unbreakable_bytes = 64 * PML_BLOCK_BYTES;
}

static void make_files(struct world *w)
{
	static uint8_t data[FILE_BLOCKS / 2 * PML_BLOCK_BYTES];
	for (uint32_t i = 0; i < FILES; i++) {
		const char name[2] = {(char)('a' + i)};
		w->inos[i] = fake_fs_make(w->rig.fs, PML_ROOT_INO, name, S_IFREG | 0644, 0);
		fill_pattern(data, w->inos[i], 0, sizeof(data));
		fake_fs_write(w->rig.fs, w->inos[i], 0, data, sizeof(data));
	}
}

/* Two clients are in, and have looked the files up. */
static void let_in(struct world *w)
{
	for (uint32_t i = 0; i < 2; i++) {
		peer_connect(&w->peers[i], &w->rig, &w->known, ++w->lives);
		peer_login(&w->peers[i], (uint8_t)i);
	}
	for (uint32_t i = 0; i < FILES; i++) {
		union pml_message msg = {.name = {.dir = w->known.handles[0]}};
		msg.bytes[sizeof(msg.name)] = (uint8_t)('a' + i);
		pml_codec_header(&msg.h, PML_WIRE_LOOKUP, sizeof(msg.name) + 1, 1);
		peer_ask(&w->peers[0], &msg, sizeof(msg.name) + 1, true);
	}
}

static struct world *begin(const uint8_t *input, size_t bytes)
{
	struct world *w = calloc(1, sizeof(*w));
	if (!w)
		VIOLATION("out of memory");
	w->script = (struct script){input, bytes};
	rig_init(&w->rig);
	configure(w);
	if (rig_start(&w->rig))
		VIOLATION("no server");
	make_files(w);
	locals_start(&w->locals, w->rig.fs);
	let_in(w);
	return w;
}

static void judge_end(struct world *w)
{
	if (!rig_wait_sessions(&w->rig, 0) || !rig_wait_leases(&w->rig, 0)) {
		struct pml_lease_stats stats;
		pml_lease_stats(w->rig.mgr, &stats);
		VIOLATION("%" PRIu64 " sessions and %" PRIu64 " leases outlive their connections",
			  stats.sessions, stats.leases);
	}
	if (fake_fs_pins(w->rig.fs))
		VIOLATION("%" PRIu64 " pins are left", fake_fs_pins(w->rig.fs));
	if (fake_fs_stained(w->rig.fs))
		VIOLATION("%" PRIu64 " free blocks were written", fake_fs_stained(w->rig.fs));
	static uint8_t data[FILE_BLOCKS * PML_BLOCK_BYTES];
	for (uint32_t i = 0; i < FILES; i++) {
		fake_fs_read(w->rig.fs, w->inos[i], 0, data, sizeof(data));
		peer_judge_bytes("the file", data, w->inos[i], 0, sizeof(data));
	}
	/* With time enough on a busy machine. */
	w->rig.config.term_ms = END_MS;
	if (pml_lease_configure(w->rig.mgr, &w->rig.config))
		VIOLATION("the clocks cannot be set");
	struct pml_client *client = rig_connect(&w->rig);
	struct pml_client_attr attr;
	int err = pml_client_stat(client, "/", &attr);
	if (err)
		VIOLATION("the server does not serve: %d", err);
	pml_client_close(client);
}

static void end(struct world *w)
{
	const struct pml_soft_faults none = {0};
	pml_soft_set_faults(&none);
	for (uint32_t i = 0; i < PEERS; i++)
		peer_close(&w->peers[i]);
	for (uint32_t i = 0; i < STRANGERS; i++)
		if (w->strangers[i] > 0)
			(void)close(w->strangers[i]);
	locals_stop(&w->locals);
	judge_end(w);
	rig_stop(&w->rig);
	free(w);
}

void fuzz_start(void)
{
}

void fuzz_one(const uint8_t *input, size_t bytes)
{
	struct world *w = begin(input, bytes);
	while (w->script.left > 0)
		act(w);
	end(w);
}
