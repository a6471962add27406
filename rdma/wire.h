/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * wire.h -- control messages between client and server (docs/lease-protocol.md)
 *
 * Each message is one SEND: a header and the fixed body of its type, then for
 * some types a tail of bytes (a name, directory entries).  Little-endian,
 * naturally aligned, no implicit padding; reserved fields are zero and checked.
 * The version is that of the first message; a message of any other version,
 * type, length or with a reserved field set is refused with -EPROTO and, on
 * the server, ends the session.
 */
#ifndef PML_RDMA_WIRE_H
#define PML_RDMA_WIRE_H

#include "pml/base.h"

#define PML_WIRE_MAGIC	 0x314c4d50u /* "PML1" */
#define PML_WIRE_VERSION 1u

enum pml_wire_type {
	PML_WIRE_HELLO = 1,
	PML_WIRE_LOOKUP,
	PML_WIRE_GETATTR,
	PML_WIRE_READDIR,
	PML_WIRE_CREATE,
	PML_WIRE_LEASE,
	PML_WIRE_RETURN,
	PML_WIRE_COMMIT,
	PML_WIRE_RENEW,
	PML_WIRE_ACK, /* client: recall seen; no reply */
	PML_WIRE_DOWNGRADE,
	PML_WIRE_REPLY = 64,   /* + type of the request in header.reply_to */
	PML_WIRE_RECALL = 128, /* server-sent, no reply */
	PML_WIRE_REVOKED,
};

struct pml_wire_header {
	uint32_t magic;
	uint16_t version;
	uint16_t type;
	uint32_t bytes;	     /* of the whole message */
	uint32_t request_id; /* chosen by the client, never 0; echoed in the reply; 0 in server-sent
			      */
	int32_t status;	     /* reply: 0 or -errno (Linux numbers); else 0 */
	uint16_t reply_to;   /* reply: type of the request; else 0 */
	uint16_t reserved;
};
static_assert(sizeof(struct pml_wire_header) == 24, "wire size");

struct pml_wire_attr {
	uint64_t ino;
	uint64_t generation;
	uint64_t size_bytes;
	uint64_t blocks_512;
	int64_t mtime_s;
	int64_t ctime_s;
	uint32_t mtime_ns;
	uint32_t ctime_ns;
	uint32_t mode;
	uint32_t nlink;
	uint32_t uid;
	uint32_t gid;
};
static_assert(sizeof(struct pml_wire_attr) == 72, "wire size");

/* Requests and their replies' bodies.  A reply with status != 0 has no body. */
struct pml_wire_hello {
	struct pml_wire_header h;
	uint32_t flags; /* 0 */
	uint32_t reserved;
};
struct pml_wire_hello_reply {
	struct pml_wire_header h;
	uint64_t epoch; /* of this mount: handles of another epoch are worthless */
	uint64_t root_ino;
	uint32_t term_ms;
	uint32_t durability; /* PML_WIRE_SERVER_COMMIT */
	uint64_t max_lease_bytes;
};
#define PML_WIRE_SERVER_COMMIT 1u

struct pml_wire_lookup { /* tail: name */
	struct pml_wire_header h;
	uint64_t dir_ino;
	uint32_t name_bytes; /* 1 to 255 */
	uint32_t reserved;
};
struct pml_wire_create { /* tail: name; makes a regular file, or opens an existing one */
	struct pml_wire_header h;
	uint64_t dir_ino;
	uint32_t name_bytes;
	uint32_t mode;	    /* permission bits */
	uint32_t exclusive; /* 1: -EEXIST if it is there */
	uint32_t reserved;
};
struct pml_wire_getattr {
	struct pml_wire_header h;
	uint64_t ino;
};
struct pml_wire_attr_reply { /* of lookup, create and getattr */
	struct pml_wire_header h;
	struct pml_wire_attr attr;
};

struct pml_wire_readdir {
	struct pml_wire_header h;
	uint64_t dir_ino;
	uint64_t cookie; /* 0: from the start */
};
struct pml_wire_readdir_reply { /* tail: count entries, each padded to 8 bytes */
	struct pml_wire_header h;
	uint32_t count;
	uint32_t is_end;
};
struct pml_wire_dirent { /* then name_bytes bytes, padded with zeros to a multiple of 8 */
	uint64_t ino;
	uint64_t cookie;
	uint32_t mode; /* S_IFMT bits */
	uint32_t name_bytes;
};

struct pml_wire_lease {
	struct pml_wire_header h;
	uint64_t ino;
	uint64_t first_byte;
	uint64_t len_bytes;
	uint32_t mode;	/* 0 read, 1 write */
	uint32_t flags; /* PML_WIRE_LEASE_ */
};
#define PML_WIRE_LEASE_SHARED	   1u
#define PML_WIRE_LEASE_UNBREAKABLE 2u
struct pml_wire_segment {
	uint64_t first_byte;
	uint64_t len_bytes;
	uint64_t remote_addr;
	uint32_t rkey;
	uint32_t reserved;
};
struct pml_wire_lease_reply { /* of lease and downgrade; tail: nsegments segments */
	struct pml_wire_header h;
	uint64_t lease_id;
	uint64_t first_byte;
	uint64_t end_byte;
	uint64_t file_size;
	uint32_t term_ms;
	uint32_t nsegments;
};

struct pml_wire_return { /* also ACK and DOWNGRADE */
	struct pml_wire_header h;
	uint64_t lease_id;
};
struct pml_wire_commit {
	struct pml_wire_header h;
	uint64_t lease_id;
	uint64_t first_byte;
	uint64_t len_bytes;
	uint64_t new_size_bytes; /* 0: leave it */
};
struct pml_wire_empty { /* RENEW; replies of return, commit, renew */
	struct pml_wire_header h;
};

struct pml_wire_recall {
	struct pml_wire_header h;
	uint64_t lease_id;
	uint32_t op; /* enum pml_layout_op, or PML_WIRE_OP_ */
	uint32_t drain_ms;
};
#define PML_WIRE_OP_LEASE  0xffffu
#define PML_WIRE_OP_ORPHAN 0xfffeu
struct pml_wire_revoked {
	struct pml_wire_header h;
	uint64_t lease_id;
	uint32_t why; /* enum pml_end_reason */
	uint32_t reserved;
};

#endif
