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
#define PML_WIRE_VERSION 3u

enum pml_wire_type {
	PML_WIRE_HELLO = 1,
	PML_WIRE_AUTH,
	PML_WIRE_RENEW,
	PML_WIRE_LOOKUP,
	PML_WIRE_GETATTR,
	PML_WIRE_SETATTR,
	PML_WIRE_READDIR,
	PML_WIRE_READLINK,
	PML_WIRE_GETXATTR,
	PML_WIRE_LISTXATTR,
	PML_WIRE_STATFS,
	PML_WIRE_CREATE,
	PML_WIRE_MKDIR,
	PML_WIRE_SYMLINK,
	PML_WIRE_LINK,
	PML_WIRE_UNLINK,
	PML_WIRE_RENAME,
	PML_WIRE_CLONE,
	PML_WIRE_LEASE,
	PML_WIRE_RETURN,
	PML_WIRE_DOWNGRADE,
	PML_WIRE_COMMIT,
	PML_WIRE_ACK, /* client: recall seen; no reply */
	PML_WIRE_REQUESTS_END,
	PML_WIRE_REPLY = 64,   /* its request is in header.reply_to */
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
	uint16_t flags;	     /* request: PML_WIRE_RETRY, PML_WIRE_QUIET; else 0 */
};
static_assert(sizeof(struct pml_wire_header) == 24, "wire size");
/*
 * The same request was sent before, over a connection that broke before its reply came.
 * What changes the filesystem is then done once and answered from the reply cache.
 */
#define PML_WIRE_RETRY 1u
/* The client looks for the reply: the server sends it without waking anybody. */
#define PML_WIRE_QUIET 2u

/* Longest text that explains the status of a reply; its tail when status is not 0. */
#define PML_WIRE_REASON_MAX 200u

/*
 * Stands for an inode.  Only the server makes one, of what a client has looked up, and it
 * takes no other: @tag is a keyed hash over the rest and over the client's export and
 * identity.  Worthless after the server was mounted again.
 */
struct pml_wire_handle {
	uint64_t ino; /* not 0 */
	uint64_t generation;
	uint64_t epoch; /* of the server that made it */
	uint64_t tag;
};
static_assert(sizeof(struct pml_wire_handle) == 32, "wire size");

struct pml_wire_attr {
	struct pml_wire_handle handle;
	uint64_t size_bytes;
	uint64_t blocks_512;
	int64_t atime_s;
	int64_t mtime_s;
	int64_t ctime_s;
	uint32_t atime_ns;
	uint32_t mtime_ns;
	uint32_t ctime_ns;
	uint32_t mode;
	uint32_t nlink;
	uint32_t uid;
	uint32_t gid;
	uint32_t rdev; /* major << 20 | minor */
};
static_assert(sizeof(struct pml_wire_attr) == 104, "wire size");

/*
 * Requests and their replies' bodies.  A reply with status != 0 has no body, but may have a
 * text.
 *
 * A connection begins with hello and auth, in this order and once (docs/lease-protocol.md,
 * "Authentication").
 */
#define PML_WIRE_NONCE_BYTES	 32u
#define PML_WIRE_PROOF_BYTES	 32u
#define PML_WIRE_CLIENT_ID_BYTES 16u
#define PML_WIRE_IDENTITY_MAX	 63u
#define PML_WIRE_PATH_MAX	 4095u

struct pml_wire_hello { /* tail: identity (may be empty: none), path of the tree that is wanted */
	struct pml_wire_header h;
	uint32_t identity_bytes;
	uint32_t path_bytes;
	uint8_t client_id[PML_WIRE_CLIENT_ID_BYTES]; /* random; the same after a reconnect */
	uint8_t nonce[PML_WIRE_NONCE_BYTES];	     /* random, for this connection */
};
struct pml_wire_hello_reply {
	struct pml_wire_header h;
	uint64_t epoch;	 /* of this mount: handles of another epoch are worthless */
	uint32_t method; /* PML_WIRE_AUTH_ */
	uint32_t reserved;
	uint8_t nonce[PML_WIRE_NONCE_BYTES];
};
#define PML_WIRE_AUTH_NONE   0u /* proofs are zero */
#define PML_WIRE_AUTH_SECRET 1u

struct pml_wire_auth {
	struct pml_wire_header h;
	uint8_t proof[PML_WIRE_PROOF_BYTES];
};
struct pml_wire_auth_reply {
	struct pml_wire_header h;
	uint8_t proof[PML_WIRE_PROOF_BYTES];
	struct pml_wire_attr root; /* of the export */
	uint32_t path_bytes;	   /* so many of the path in hello lead to the root */
	uint32_t term_ms;
	uint32_t durability; /* enum pml_durable_rule; the best that a lease may state */
	uint32_t flags;	     /* PML_WIRE_SESSION_ */
	uint32_t credits;    /* requests that may wait for their replies, at least 1 */
	uint32_t reserved;
	uint64_t max_lease_bytes;
};
#define PML_WIRE_SESSION_READ_ONLY 1u

struct pml_wire_empty { /* RENEW, STATFS; replies of unlink, rename, return, commit, renew */
	struct pml_wire_header h;
};

struct pml_wire_name { /* LOOKUP, UNLINK; tail: name, 1 to 255 bytes */
	struct pml_wire_header h;
	struct pml_wire_handle dir;
	uint32_t flags; /* UNLINK: PML_WIRE_UNLINK_DIR; else 0 */
	uint32_t reserved;
};
#define PML_WIRE_UNLINK_DIR 1u /* an empty directory, and nothing else */

struct pml_wire_create { /* CREATE, MKDIR; tail: name; a regular file may be there already */
	struct pml_wire_header h;
	struct pml_wire_handle dir;
	uint32_t mode;	    /* permission bits */
	uint32_t exclusive; /* CREATE: 1: -EEXIST if it is there; else 0 */
};
struct pml_wire_symlink { /* tail: name, target */
	struct pml_wire_header h;
	struct pml_wire_handle dir;
	uint32_t name_bytes;   /* 1 to 255 */
	uint32_t target_bytes; /* 1 to 4095 */
};
struct pml_wire_link { /* tail: the new name */
	struct pml_wire_header h;
	struct pml_wire_handle inode;
	struct pml_wire_handle dir;
};
struct pml_wire_rename { /* tail: both names */
	struct pml_wire_header h;
	struct pml_wire_handle from;
	struct pml_wire_handle to;
	uint32_t name_bytes;	 /* 1 to 255 */
	uint32_t new_name_bytes; /* 1 to 255 */
	uint32_t flags;		 /* PML_WIRE_RENAME_ */
	uint32_t reserved;
};
#define PML_WIRE_RENAME_NOREPLACE 1u
#define PML_WIRE_RENAME_EXCHANGE  2u

struct pml_wire_inode { /* GETATTR, READLINK */
	struct pml_wire_header h;
	struct pml_wire_handle inode;
};
struct pml_wire_attr_reply { /* of lookup, getattr, setattr, create, mkdir, symlink, link */
	struct pml_wire_header h;
	struct pml_wire_attr attr;
};
struct pml_wire_setattr {
	struct pml_wire_header h;
	struct pml_wire_handle inode;
	uint32_t what; /* PML_WIRE_SET_ */
	uint32_t mode; /* 07777 */
	uint32_t uid;
	uint32_t gid;
	uint64_t size_bytes;
	int64_t atime_s;
	int64_t mtime_s;
	uint32_t atime_ns;
	uint32_t mtime_ns;
};
#define PML_WIRE_SET_MODE      1u
#define PML_WIRE_SET_UID       2u
#define PML_WIRE_SET_GID       4u
#define PML_WIRE_SET_SIZE      8u
#define PML_WIRE_SET_ATIME     16u
#define PML_WIRE_SET_MTIME     32u
#define PML_WIRE_SET_ATIME_NOW 64u /* the server's clock; not with SET_ATIME */
#define PML_WIRE_SET_MTIME_NOW 128u
#define PML_WIRE_SET_ALL       255u

struct pml_wire_readdir {
	struct pml_wire_header h;
	struct pml_wire_handle dir;
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

struct pml_wire_xattr { /* GETXATTR, tail: name, 1 to 255 bytes; LISTXATTR, no tail */
	struct pml_wire_header h;
	struct pml_wire_handle inode;
	uint32_t first_byte; /* of the value or list: what one reply cannot hold comes in pieces */
	uint32_t reserved;
};
struct pml_wire_data_reply { /* of readlink, getxattr, listxattr; tail: bytes */
	struct pml_wire_header h;
	uint32_t total_bytes; /* of the whole */
	uint32_t reserved;
};

struct pml_wire_statfs_reply {
	struct pml_wire_header h;
	uint64_t blocks; /* of block_bytes */
	uint64_t blocks_free;
	uint64_t inodes;
	uint64_t inodes_free;
	uint32_t block_bytes;
	uint32_t name_max;
};

struct pml_wire_clone { /* shares blocks; whole blocks, but the source's last */
	struct pml_wire_header h;
	struct pml_wire_handle src;
	struct pml_wire_handle dst;
	uint64_t src_byte;
	uint64_t dst_byte;
	uint64_t len_bytes; /* 0: to the source's end */
};
struct pml_wire_clone_reply {
	struct pml_wire_header h;
	uint64_t bytes; /* cloned */
};

struct pml_wire_lease {
	struct pml_wire_header h;
	struct pml_wire_handle inode;
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
	uint64_t end_byte; /* before the end that was asked for: ask for the rest again */
	uint64_t file_size;
	uint32_t term_ms;
	uint32_t nsegments;
	uint32_t durability; /* enum pml_durable_rule */
	uint32_t reserved;
	/* Of a write lease: behind it only a commit makes blocks hold what was written. */
	uint64_t written_end_byte;
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
	uint32_t flags;		 /* PML_WIRE_COMMIT_ */
	uint32_t reserved;
};
/* The client has made the bytes durable by the rule that the lease states. */
#define PML_WIRE_COMMIT_IS_DURABLE 1u

struct pml_wire_recall {
	struct pml_wire_header h;
	uint64_t lease_id;
	uint32_t op; /* enum pml_layout_op, or PML_WIRE_OP_ */
	uint32_t drain_ms;
};
#define PML_WIRE_OP_LEASE  0xffffu
#define PML_WIRE_OP_ORPHAN 0xfffeu
/* Instead of a lease's number, with PML_END_EVICTED alone: none is left, the session ends. */
#define PML_WIRE_SESSION_ITSELF 0u
struct pml_wire_revoked {
	struct pml_wire_header h;
	uint64_t lease_id; /* or PML_WIRE_SESSION_ITSELF */
	uint32_t why;	   /* enum pml_end_reason */
	uint32_t reserved;
};

#endif
