/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fuzz_codec.c -- any bytes as a control message, in both directions
 *
 * What the codec lets pass is used here as session.c, serve_*.c and client*.c use it, which
 * check nothing again: names are copied to buffers of their largest size, entries and
 * segments are walked, ranges are added up.  The message lies in heap memory of exactly its
 * size, so AddressSanitizer sees a read behind the end.
 *
 * Each input is tried as it is, and with a header whose magic number, version and length
 * are right, so that mutations get past it.
 */
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "../../rdma/codec.h"
#include "fuzz.h"
#include "pml/lease.h"

#define REQUIRE_THAT(cond)                                                                         \
	do {                                                                                       \
		if (!(cond)) {                                                                     \
			fprintf(stderr, "what was checked is wrong: %s\n", #cond);                 \
			abort();                                                                   \
		}                                                                                  \
	} while (0)

/* Keeps reads from being left out. */
static volatile uint8_t seen;

static void touch(const void *data, size_t bytes)
{
	const uint8_t *at = data;
	for (size_t i = 0; i < bytes; i++)
		seen ^= at[i];
}

/* As a name is taken out of a message, for functions that want a string. */
static void use_name(const uint8_t *name, size_t bytes)
{
	char text[PML_WIRE_NAME_MAX + 1];
	memcpy(text, name, bytes);
	text[bytes] = 0;
	REQUIRE_THAT(bytes > 0 && strlen(text) == bytes && !strchr(text, '/'));
}

static void use_path(const uint8_t *path, size_t bytes)
{
	char text[PML_WIRE_PATH_MAX + 1];
	memcpy(text, path, bytes);
	text[bytes] = 0;
	REQUIRE_THAT(strlen(text) == bytes);
}

static void use_handle(const struct pml_wire_handle *handle)
{
	touch(handle, sizeof(*handle));
	REQUIRE_THAT(handle->ino != 0);
}

/* File offsets are off_t behind the codec. */
static void use_range(uint64_t first_byte, uint64_t len_bytes)
{
	off_t end;
	REQUIRE_THAT(len_bytes > 0);
	REQUIRE_THAT(!__builtin_add_overflow((off_t)first_byte, (off_t)len_bytes, &end));
	REQUIRE_THAT((off_t)first_byte >= 0 && end > (off_t)first_byte);
}

/* ---- requests ------------------------------------------------------------- */

static void use_hello(const union pml_message *m)
{
	char identity[PML_WIRE_IDENTITY_MAX + 1];
	const uint8_t *tail = m->bytes + sizeof(m->hello);
	memcpy(identity, tail, m->hello.identity_bytes);
	identity[m->hello.identity_bytes] = 0;
	REQUIRE_THAT(strlen(identity) == m->hello.identity_bytes);
	use_path(tail + m->hello.identity_bytes, m->hello.path_bytes);
	touch(m->hello.client_id, sizeof(m->hello.client_id));
	touch(m->hello.nonce, sizeof(m->hello.nonce));
}

static void use_setattr(const struct pml_wire_setattr *m)
{
	use_handle(&m->inode);
	REQUIRE_THAT((off_t)m->size_bytes >= 0);
	REQUIRE_THAT(m->atime_ns < 1000000000u && m->mtime_ns < 1000000000u);
	REQUIRE_THAT((m->mode & ~07777u) == 0);
}

static void use_clone(const struct pml_wire_clone *m)
{
	use_handle(&m->src);
	use_handle(&m->dst);
	uint64_t len_bytes = m->len_bytes ? m->len_bytes : 1;
	use_range(m->src_byte, len_bytes);
	use_range(m->dst_byte, len_bytes);
}

/* Names and links: what has a tail. */
static bool use_named_request(const union pml_message *m)
{
	const uint8_t *bytes = m->bytes;
	size_t all = m->h.bytes;
	switch ((enum pml_wire_type)m->h.type) {
	case PML_WIRE_LOOKUP:
	case PML_WIRE_UNLINK:
		use_handle(&m->name.dir);
		use_name(bytes + sizeof(m->name), all - sizeof(m->name));
		return true;
	case PML_WIRE_CREATE:
	case PML_WIRE_MKDIR:
		use_handle(&m->create.dir);
		use_name(bytes + sizeof(m->create), all - sizeof(m->create));
		return true;
	case PML_WIRE_SYMLINK:
		use_handle(&m->symlink.dir);
		use_name(bytes + sizeof(m->symlink), m->symlink.name_bytes);
		use_path(bytes + sizeof(m->symlink) + m->symlink.name_bytes,
			 m->symlink.target_bytes);
		REQUIRE_THAT(sizeof(m->symlink) + m->symlink.name_bytes + m->symlink.target_bytes ==
			     all);
		return true;
	case PML_WIRE_LINK:
		use_handle(&m->link.inode);
		use_handle(&m->link.dir);
		use_name(bytes + sizeof(m->link), all - sizeof(m->link));
		return true;
	case PML_WIRE_RENAME:
		use_handle(&m->rename.from);
		use_handle(&m->rename.to);
		use_name(bytes + sizeof(m->rename), m->rename.name_bytes);
		use_name(bytes + sizeof(m->rename) + m->rename.name_bytes,
			 m->rename.new_name_bytes);
		return true;
	case PML_WIRE_GETXATTR:
	case PML_WIRE_LISTXATTR:
		use_handle(&m->xattr.inode);
		if (m->h.type == PML_WIRE_GETXATTR) {
			char name[PML_WIRE_NAME_MAX + 1];
			memcpy(name, bytes + sizeof(m->xattr), all - sizeof(m->xattr));
			name[all - sizeof(m->xattr)] = 0;
			REQUIRE_THAT(strlen(name) == all - sizeof(m->xattr));
		}
		return true;
	default:
		return false;
	}
}

static void use_request(const union pml_message *m)
{
	REQUIRE_THAT(m->h.request_id != 0);
	REQUIRE_THAT(strcmp(pml_codec_request_name(m->h.type), "unknown") != 0);
	if (use_named_request(m))
		return;
	switch ((enum pml_wire_type)m->h.type) {
	case PML_WIRE_HELLO:
		use_hello(m);
		break;
	case PML_WIRE_AUTH:
		touch(m->auth.proof, sizeof(m->auth.proof));
		break;
	case PML_WIRE_GETATTR:
	case PML_WIRE_READLINK:
		use_handle(&m->inode.inode);
		break;
	case PML_WIRE_SETATTR:
		use_setattr(&m->setattr);
		break;
	case PML_WIRE_READDIR:
		use_handle(&m->readdir.dir);
		REQUIRE_THAT((int64_t)m->readdir.cookie >= 0);
		break;
	case PML_WIRE_CLONE:
		use_clone(&m->clone);
		break;
	case PML_WIRE_LEASE:
		use_handle(&m->lease.inode);
		use_range(m->lease.first_byte, m->lease.len_bytes);
		REQUIRE_THAT(m->lease.mode == PML_LEASE_READ || m->lease.mode == PML_LEASE_WRITE);
		break;
	case PML_WIRE_COMMIT:
		REQUIRE_THAT(m->commit.lease_id != 0);
		use_range(m->commit.first_byte, m->commit.len_bytes);
		REQUIRE_THAT((off_t)m->commit.new_size_bytes >= 0);
		break;
	case PML_WIRE_RETURN:
	case PML_WIRE_DOWNGRADE:
	case PML_WIRE_ACK:
		REQUIRE_THAT(m->ret.lease_id != 0);
		break;
	default:
		REQUIRE_THAT(m->h.bytes == sizeof(struct pml_wire_empty));
	}
}

/* ---- what a server sends -------------------------------------------------- */

static void use_attr(const struct pml_wire_attr *attr)
{
	touch(attr, sizeof(*attr));
	use_handle(&attr->handle);
	REQUIRE_THAT((off_t)attr->size_bytes >= 0);
	REQUIRE_THAT(attr->mtime_ns < 1000000000u);
}

static void use_entries(const union pml_message *m)
{
	const uint8_t *at = m->bytes + sizeof(m->readdir_reply);
	for (uint32_t i = 0; i < m->readdir_reply.count; i++) {
		struct pml_wire_dirent entry;
		memcpy(&entry, at, sizeof(entry));
		use_name(at + sizeof(entry), entry.name_bytes);
		REQUIRE_THAT(entry.ino != 0 && entry.cookie != 0);
		at += pml_codec_dirent_bytes(entry.name_bytes);
	}
	REQUIRE_THAT(at == m->bytes + m->h.bytes);
}

/* As a transfer goes through them: what lies between two of them is filled with zeros. */
static void use_segments(const union pml_message *m)
{
	const struct pml_wire_lease_reply *lease = &m->lease_reply;
	struct pml_wire_segment segments[PML_LEASE_SEGMENTS_MAX];
	REQUIRE_THAT(lease->lease_id != 0 && lease->term_ms != 0);
	use_range(lease->first_byte, lease->end_byte - lease->first_byte);
	memcpy(segments, m->bytes + sizeof(*lease), lease->nsegments * sizeof(segments[0]));
	uint64_t at = lease->first_byte;
	uint64_t covered = 0;
	for (uint32_t i = 0; i < lease->nsegments; i++) {
		const struct pml_wire_segment *s = &segments[i];
		use_range(s->first_byte, s->len_bytes);
		REQUIRE_THAT(s->first_byte >= at);
		covered += s->first_byte - at + s->len_bytes;
		at = s->first_byte + s->len_bytes;
		REQUIRE_THAT(s->remote_addr + s->len_bytes >= s->remote_addr);
	}
	REQUIRE_THAT(at <= lease->end_byte && covered == at - lease->first_byte);
}

static void use_reply(const union pml_message *m)
{
	if (m->h.status) {
		char reason[PML_REASON_BYTES];
		snprintf(reason, sizeof(reason), "%s: %.*s", strerror(-m->h.status),
			 (int)(m->h.bytes - sizeof(m->h)), (const char *)m->bytes + sizeof(m->h));
		return;
	}
	switch ((enum pml_wire_type)m->h.reply_to) {
	case PML_WIRE_HELLO:
		touch(m->hello_reply.nonce, sizeof(m->hello_reply.nonce));
		break;
	case PML_WIRE_AUTH:
		touch(m->auth_reply.proof, sizeof(m->auth_reply.proof));
		use_attr(&m->auth_reply.root);
		REQUIRE_THAT(m->auth_reply.term_ms && m->auth_reply.credits &&
			     m->auth_reply.max_lease_bytes);
		break;
	case PML_WIRE_READDIR:
		use_entries(m);
		break;
	case PML_WIRE_READLINK:
	case PML_WIRE_GETXATTR:
	case PML_WIRE_LISTXATTR:
		touch(m->bytes + sizeof(m->data_reply), m->h.bytes - sizeof(m->data_reply));
		break;
	case PML_WIRE_STATFS:
		REQUIRE_THAT(m->statfs_reply.blocks_free <= m->statfs_reply.blocks);
		REQUIRE_THAT(m->statfs_reply.blocks * m->statfs_reply.block_bytes /
				     m->statfs_reply.block_bytes ==
			     m->statfs_reply.blocks);
		break;
	case PML_WIRE_CLONE:
		REQUIRE_THAT((off_t)m->clone_reply.bytes >= 0);
		break;
	case PML_WIRE_LEASE:
	case PML_WIRE_DOWNGRADE:
		use_segments(m);
		break;
	case PML_WIRE_LOOKUP:
	case PML_WIRE_GETATTR:
	case PML_WIRE_SETATTR:
	case PML_WIRE_CREATE:
	case PML_WIRE_MKDIR:
	case PML_WIRE_SYMLINK:
	case PML_WIRE_LINK:
		use_attr(&m->attr_reply.attr);
		break;
	default:
		REQUIRE_THAT(m->h.bytes == sizeof(struct pml_wire_empty));
	}
}

static void use_from_server(const union pml_message *m)
{
	if (m->h.type == PML_WIRE_RECALL)
		REQUIRE_THAT(m->recall.lease_id != 0);
	else if (m->h.type == PML_WIRE_REVOKED)
		REQUIRE_THAT(m->revoked.lease_id != 0 && m->revoked.why <= PML_END_OWN_CHANGE);
	else
		use_reply(m);
}

/* ---- inputs --------------------------------------------------------------- */

static void judge(const uint8_t *input, size_t bytes)
{
	union pml_message *exact = malloc(bytes ? bytes : 1);
	if (!exact)
		abort();
	if (bytes)
		memcpy(exact, input, bytes);
	const char *reason = NULL;
	bool is_request = pml_codec_check_request(exact, bytes, &reason) == 0;
	REQUIRE_THAT(is_request || reason);
	reason = NULL;
	bool is_from_server = pml_codec_check_from_server(exact, bytes, &reason) == 0;
	REQUIRE_THAT(is_from_server || reason);
	/* Nobody may say what the other side says. */
	REQUIRE_THAT(!(is_request && is_from_server));
	if (is_request)
		use_request(exact);
	if (is_from_server)
		use_from_server(exact);
	free(exact);
}

void fuzz_start(void)
{
}

void fuzz_one(const uint8_t *input, size_t bytes)
{
	static uint8_t copy[PML_MSG_BYTES_MAX];
	judge(input, bytes);
	if (bytes < sizeof(struct pml_wire_header) || bytes > sizeof(copy))
		return;
	memcpy(copy, input, bytes);
	struct pml_wire_header h;
	memcpy(&h, copy, sizeof(h));
	h.magic = PML_WIRE_MAGIC;
	h.version = PML_WIRE_VERSION;
	h.bytes = (uint32_t)bytes;
	memcpy(copy, &h, sizeof(h));
	judge(copy, bytes);
}
