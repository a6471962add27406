/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * peer.h -- a connection that says and touches what it likes, and judges what it gets
 *
 * Every file holds its own pattern (service_rig.h) or zeros, whoever writes, so a byte that
 * is neither has come from where it must not: another file, another place, a free block.
 *
 * What is judged:
 *   - each message of the server passes the codec;
 *   - a one-sided access succeeds only with a key of this connection's own, in its
 *     direction, inside its segment, of a lease that was in the table when it began (I1, I6);
 *   - it is not refused while that lease is held;
 *   - what it reads is the file's (I6, I10).
 *
 * Threads: one uses a peer.
 */
#ifndef FUZZ_PEER_H
#define FUZZ_PEER_H

#include "request.h"
#include "service_rig.h"

#define PEER_OPS	  8u
#define PEER_BUFFER_BYTES (80u << 10)
#define PEER_ASKED	  64u

/* One access under way. */
struct peer_op {
	bool is_posted;
	bool is_write;
	bool may_succeed;
	struct grant grant;  /* if so, by this one */
	uint64_t first_byte; /* of the file */
	uint32_t bytes;
	uint8_t *buf;
};

/* A request for a lease whose answer names no file. */
struct peer_asked {
	uint32_t request_id;
	uint64_t ino;	       /* 0: that of the next one */
	uint64_t old_lease_id; /* of a downgrade */
	bool for_write;
};

struct peer {
	struct rig *rig;
	struct known *known;
	struct pml_ep *ep; /* NULL: not connected */
	uint64_t life;	   /* of this connection; never the same twice in a run */
	uint32_t last_id;
	bool is_torn; /* half a frame was sent: whatever follows would be part of it */
	struct peer_asked asked[PEER_ASKED];
	uint32_t nasked;      /* ever */
	uint32_t nunanswered; /* of these */
	struct pml_local_mr *mr;
	uint8_t *buffer;
	struct peer_op ops[PEER_OPS];
};

/* @life: new. */
void peer_connect(struct peer *peer, struct rig *rig, struct known *known, uint64_t life);
void peer_close(struct peer *peer);
/* Both steps, and their answers. */
void peer_login(struct peer *peer, uint8_t who);
/* Gives @msg its number, sends it, and waits for the answer if told so. */
void peer_ask(struct peer *peer, union pml_message *msg, size_t bytes, bool must_wait);
/* Takes what has arrived. */
void peer_listen(struct peer *peer);

/* An access by @rkey; it is judged when its completion is collected. */
struct peer_access {
	uint32_t rkey;
	uint64_t addr;
	uint32_t bytes;
	bool is_write;
};
void peer_post(struct peer *peer, const struct peer_access *access);
void peer_collect(struct peer *peer, int timeout_ms);
/* Sends bytes behind the endpoint's back. */
void peer_tear(struct peer *peer, const void *data, size_t bytes);
/* How many accesses it has begun: the number of the next one on the wire. */
uint64_t peer_ops_begun(const struct peer *peer);

/* Ends the program unless @data is the file's pattern, zeros, or a mixture. */
void peer_judge_bytes(const char *who, const uint8_t *data, uint64_t ino, uint64_t first_byte,
		      size_t bytes);

#endif
