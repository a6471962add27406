/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * request.h -- requests of a client that does not keep to the protocol, out of a script
 *
 * Most are well-formed and name handles and leases that somebody was given at some time; some
 * have a damaged handle, a byte or a length that is wrong.
 */
#ifndef FUZZ_REQUEST_H
#define FUZZ_REQUEST_H

#include "../../rdma/codec.h"
#include "script.h"

#define KNOWN_HANDLES 32u
#define KNOWN_GRANTS  4096u /* more than a run gets: a key that is forgotten would look stolen */
/* Files are this long at most, so that peers meet in them. */
#define FILE_BLOCKS 64u

/* One key that a peer was given. */
struct grant {
	uint64_t life; /* of the connection: see struct peer */
	uint64_t lease_id;
	uint64_t ino;
	bool for_write;
	struct pml_wire_segment segment;
};

/* What all peers have heard: they tell each other everything.  Rings: the oldest go first. */
struct known {
	struct pml_wire_handle handles[KNOWN_HANDLES];
	uint64_t nhandles; /* ever */
	struct grant grants[KNOWN_GRANTS];
	uint64_t ngrants; /* ever */
};

void known_add_handle(struct known *known, const struct pml_wire_handle *handle);
void known_add_grant(struct known *known, const struct grant *grant);
/* NULL: none yet. */
const struct grant *known_grant(const struct known *known, uint32_t n);

/* Fills in all but the request's number; returns the message's bytes. */
size_t request_make(struct script *script, const struct known *known, union pml_message *ret_msg);
/* The two that every client has to send, right; @who: one of few client ids. */
size_t request_hello(uint8_t who, union pml_message *ret_msg);
size_t request_auth(union pml_message *ret_msg);

#endif
