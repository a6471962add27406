/* SPDX-License-Identifier: BSD-3-Clause */
/* request.c -- see request.h */
#include <string.h>
#include <sys/stat.h>

#include "pml/lease.h"
#include "race.h"
#include "request.h"

void known_add_handle(struct known *known, const struct pml_wire_handle *handle)
{
	known->handles[known->nhandles++ % KNOWN_HANDLES] = *handle;
}

void known_add_grant(struct known *known, const struct grant *grant)
{
	known->grants[known->ngrants++ % KNOWN_GRANTS] = *grant;
}

/* The last ones have the small numbers. */
const struct grant *known_grant(const struct known *known, uint32_t n)
{
	uint64_t count = PML_MIN(known->ngrants, (uint64_t)KNOWN_GRANTS);
	if (count == 0)
		return NULL;
	return &known->grants[(known->ngrants - 1 - n % count) % KNOWN_GRANTS];
}

/* ---- fields --------------------------------------------------------------- */

static struct pml_wire_handle pick_handle(struct script *s, const struct known *known)
{
	struct pml_wire_handle handle = {.ino = 1};
	uint8_t n = script_byte(s);
	if (known->nhandles > 0)
		handle = known->handles[n % PML_MIN(known->nhandles, (uint64_t)KNOWN_HANDLES)];
	if (n >= 224) {
		uint8_t bytes[sizeof(handle)];
		memcpy(bytes, &handle, sizeof(bytes));
		bytes[script_below(s, sizeof(bytes))] ^= (uint8_t)(1 + script_below(s, 255));
		memcpy(&handle, bytes, sizeof(bytes));
	}
	return handle;
}

static uint64_t pick_lease(struct script *s, const struct known *known)
{
	uint8_t n = script_byte(s);
	const struct grant *grant = known_grant(known, n & 0x7f);
	uint64_t id = grant ? grant->lease_id : 1;
	return n < 224 ? id : id + n - 224;
}

/* Appends a name: of a file that is there, of few that may be, or one that is none. */
static uint32_t add_name(struct script *s, union pml_message *msg, size_t at)
{
	static const char *const odd[] = {".", "..", "a/b", "x\n"};
	char name[PML_WIRE_NAME_MAX + 1] = "";
	uint8_t n = script_byte(s);
	if (n < 200) {
		name[0] = (char)('a' + n % 10);
	} else if (n < 240) {
		strcpy(name, odd[n % PML_ARRAY_LEN(odd)]);
	} else {
		memset(name, 'n', PML_WIRE_NAME_MAX);
	}
	size_t bytes = strlen(name);
	memcpy(msg->bytes + at, name, bytes);
	return (uint32_t)bytes;
}

/* The same, but of attributes one that each file has. */
static uint32_t add_attribute(struct script *s, union pml_message *msg, size_t at)
{
	static const char there[] = "user.x";
	uint32_t bytes = add_name(s, msg, at);
	if (bytes != 1 || msg->bytes[at] > 'c')
		return bytes;
	memcpy(msg->bytes + at, there, strlen(there));
	return (uint32_t)strlen(there);
}

static uint64_t pick_byte(struct script *s)
{
	uint8_t n = script_byte(s);
	if (n == 255)
		return script_u64(s);
	return (uint64_t)(n % FILE_BLOCKS) * PML_BLOCK_BYTES + (n & 0x40 ? n : 0);
}

static uint64_t pick_len(struct script *s)
{
	uint8_t n = script_byte(s);
	if (n == 255)
		return script_u64(s);
	return n & 0x80 ? n : (uint64_t)(1 + n % 32) * PML_BLOCK_BYTES;
}

/* ---- bodies --------------------------------------------------------------- */

static size_t make_named(struct script *s, const struct known *known, enum pml_wire_type type,
			 union pml_message *m)
{
	switch (type) {
	case PML_WIRE_LOOKUP:
	case PML_WIRE_UNLINK:
		m->name.dir = pick_handle(s, known);
		m->name.flags = type == PML_WIRE_UNLINK ? script_below(s, 2) : 0;
		return sizeof(m->name) + add_name(s, m, sizeof(m->name));
	case PML_WIRE_CREATE:
	case PML_WIRE_MKDIR:
		m->create.dir = pick_handle(s, known);
		m->create.mode = script_below(s, 2) ? 0644 : 0;
		m->create.exclusive = type == PML_WIRE_CREATE ? script_below(s, 2) : 0;
		return sizeof(m->create) + add_name(s, m, sizeof(m->create));
	case PML_WIRE_SYMLINK:
		m->symlink.dir = pick_handle(s, known);
		m->symlink.name_bytes = add_name(s, m, sizeof(m->symlink));
		m->symlink.target_bytes =
			add_name(s, m, sizeof(m->symlink) + m->symlink.name_bytes);
		return sizeof(m->symlink) + m->symlink.name_bytes + m->symlink.target_bytes;
	case PML_WIRE_LINK:
		m->link.inode = pick_handle(s, known);
		m->link.dir = pick_handle(s, known);
		return sizeof(m->link) + add_name(s, m, sizeof(m->link));
	case PML_WIRE_RENAME:
		m->rename.from = pick_handle(s, known);
		m->rename.to = pick_handle(s, known);
		m->rename.flags = script_below(s, 3);
		m->rename.name_bytes = add_name(s, m, sizeof(m->rename));
		m->rename.new_name_bytes = add_name(s, m, sizeof(m->rename) + m->rename.name_bytes);
		return sizeof(m->rename) + m->rename.name_bytes + m->rename.new_name_bytes;
	case PML_WIRE_GETXATTR:
		m->xattr.inode = pick_handle(s, known);
		return sizeof(m->xattr) + add_attribute(s, m, sizeof(m->xattr));
	default:
		m->xattr.inode = pick_handle(s, known);
		return sizeof(m->xattr);
	}
}

static void make_setattr(struct script *s, const struct known *known, struct pml_wire_setattr *m)
{
	m->inode = pick_handle(s, known);
	m->what = script_byte(s) & ~(uint32_t)(PML_WIRE_SET_ATIME_NOW | PML_WIRE_SET_MTIME_NOW);
	m->mode = 0666;
	m->size_bytes = pick_byte(s);
}

static size_t make_lease(struct script *s, const struct known *known, enum pml_wire_type type,
			 union pml_message *m)
{
	if (type == PML_WIRE_LEASE) {
		m->lease.inode = pick_handle(s, known);
		m->lease.first_byte = pick_byte(s);
		m->lease.len_bytes = pick_len(s);
		m->lease.mode = script_below(s, 2);
		m->lease.flags = script_below(s, 8) > 4 ? script_below(s, 4) : 0;
		if (HAS_RACE_DETECTOR)
			m->lease.flags &= ~PML_WIRE_LEASE_SHARED;
		return sizeof(m->lease);
	}
	if (type == PML_WIRE_COMMIT) {
		const struct grant *grant = known_grant(known, script_below(s, 16));
		m->commit.lease_id = pick_lease(s, known);
		m->commit.first_byte = grant ? grant->segment.first_byte : pick_byte(s);
		m->commit.len_bytes = grant ? grant->segment.len_bytes : pick_len(s);
		m->commit.new_size_bytes = script_below(s, 2) ? pick_byte(s) : 0;
		m->commit.flags = script_below(s, 4) == 3;
		return sizeof(m->commit);
	}
	m->ret.lease_id = pick_lease(s, known);
	return sizeof(m->ret);
}

static size_t make_body(struct script *s, const struct known *known, enum pml_wire_type type,
			union pml_message *m)
{
	switch (type) {
	case PML_WIRE_HELLO:
		return request_hello(script_byte(s), m);
	case PML_WIRE_AUTH:
		return request_auth(m);
	case PML_WIRE_RENEW:
	case PML_WIRE_STATFS:
		return sizeof(struct pml_wire_empty);
	case PML_WIRE_GETATTR:
	case PML_WIRE_READLINK:
		m->inode.inode = pick_handle(s, known);
		return sizeof(m->inode);
	case PML_WIRE_READDIR:
		m->readdir.dir = pick_handle(s, known);
		m->readdir.cookie = script_byte(s);
		return sizeof(m->readdir);
	case PML_WIRE_SETATTR:
		make_setattr(s, known, &m->setattr);
		return sizeof(m->setattr);
	case PML_WIRE_CLONE:
		/* Onto itself: else a file's bytes would be another file's. */
		m->clone.src = m->clone.dst = pick_handle(s, known);
		m->clone.src_byte = m->clone.dst_byte = pick_byte(s);
		m->clone.len_bytes = pick_len(s);
		return sizeof(m->clone);
	case PML_WIRE_LEASE:
	case PML_WIRE_RETURN:
	case PML_WIRE_DOWNGRADE:
	case PML_WIRE_COMMIT:
	case PML_WIRE_ACK:
		return make_lease(s, known, type, m);
	default:
		return make_named(s, known, type, m);
	}
}

size_t request_hello(uint8_t who, union pml_message *ret_msg)
{
	memset(ret_msg, 0, sizeof(*ret_msg));
	ret_msg->hello.client_id[0] = (uint8_t)(1 + who % 3);
	pml_codec_header(&ret_msg->h, PML_WIRE_HELLO, sizeof(ret_msg->hello), 1);
	return sizeof(ret_msg->hello);
}

size_t request_auth(union pml_message *ret_msg)
{
	memset(ret_msg, 0, sizeof(*ret_msg));
	pml_codec_header(&ret_msg->h, PML_WIRE_AUTH, sizeof(ret_msg->auth), 1);
	return sizeof(ret_msg->auth);
}

/* One byte, or the length. */
static size_t damage(struct script *s, union pml_message *msg, size_t bytes)
{
	if (script_below(s, 4) > 0) {
		msg->bytes[script_byte(s) % bytes] ^= (uint8_t)(1 + script_below(s, 255));
		return bytes;
	}
	bytes = PML_MIN(bytes + script_byte(s) - 8, (size_t)PML_MSG_BYTES_MAX);
	bytes = PML_MAX(bytes, (size_t)1);
	if (script_below(s, 2) && bytes >= sizeof(msg->h))
		msg->h.bytes = (uint32_t)bytes;
	return bytes;
}

size_t request_make(struct script *script, const struct known *known, union pml_message *ret_msg)
{
	/* Those about leases more often than the others. */
	static const uint8_t often[] = {PML_WIRE_LEASE,	 PML_WIRE_LEASE,  PML_WIRE_LEASE,
					PML_WIRE_RETURN, PML_WIRE_COMMIT, PML_WIRE_ACK,
					PML_WIRE_LOOKUP, PML_WIRE_CREATE};
	uint8_t n = script_byte(script);
	enum pml_wire_type type =
		n & 0x80 ? (enum pml_wire_type)often[n % PML_ARRAY_LEN(often)]
			 : (enum pml_wire_type)(1 + n % (PML_WIRE_REQUESTS_END - 1));
	memset(ret_msg, 0, sizeof(*ret_msg));
	size_t bytes = make_body(script, known, type, ret_msg);
	pml_codec_header(&ret_msg->h, type, bytes, 1);
	if (script_below(script, 16) == 15)
		ret_msg->h.flags = PML_WIRE_RETRY;
	if (script_below(script, 12) == 11)
		bytes = damage(script, ret_msg, bytes);
	return bytes;
}
