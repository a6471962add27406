/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_codec.c -- no malformed control message passes
 *
 * Each message type has one valid example.  It is accepted, and refused with
 * any length but its own and after each damage to a single field.  Messages
 * are checked in heap blocks of exactly their size, so that the address
 * sanitizer sees a read behind the end.
 */
#include <stdbool.h>
#include <sys/stat.h>
#include <time.h>

#include "../../rdma/codec.h"
#include "pml/lease.h"
#include "tap.h"

struct sample {
	union pml_message msg;
	size_t bytes;
	bool is_request;
};

static int check(const struct sample *s, const void *bytes, size_t len)
{
	void *exact = malloc(len ? len : 1);
	memcpy(exact, bytes, len);
	const char *reason = NULL;
	int err = s->is_request ? pml_codec_check_request(exact, len, &reason)
				: pml_codec_check_from_server(exact, len, &reason);
	if (err && !reason)
		TAP_FAIL("refused without a reason");
	free(exact);
	return err;
}

static int check_sample(const struct sample *s)
{
	return check(s, s->msg.bytes, s->bytes);
}

/* ---- one valid example of each ------------------------------------------- */

static void add_tail(struct sample *s, const void *tail, size_t bytes)
{
	memcpy(s->msg.bytes + s->bytes, tail, bytes);
	s->bytes += bytes;
}

static void request(struct sample *s, enum pml_wire_type type, size_t bytes)
{
	s->is_request = true;
	s->bytes = bytes;
	pml_codec_header(&s->msg.h, type, bytes, 7);
}

static void reply(struct sample *s, enum pml_wire_type to, size_t bytes)
{
	s->is_request = false;
	s->bytes = bytes;
	pml_codec_header(&s->msg.h, PML_WIRE_REPLY, bytes, 7);
	s->msg.h.reply_to = (uint16_t)to;
}

static void add_dirent(struct sample *s, const char *name, uint64_t ino)
{
	struct pml_wire_dirent entry = {.ino = ino,
					.cookie = ino + 100,
					.mode = S_IFREG,
					.name_bytes = (uint32_t)strlen(name)};
	uint8_t padded[256] = {0};
	memcpy(padded, name, strlen(name));
	add_tail(s, &entry, sizeof(entry));
	add_tail(s, padded, (strlen(name) + 7) / 8 * 8);
	s->msg.readdir_reply.count++;
	s->msg.h.bytes = (uint32_t)s->bytes;
}

static void add_segment(struct sample *s, uint64_t first_byte, uint64_t len_bytes)
{
	struct pml_wire_segment seg = {.first_byte = first_byte,
				       .len_bytes = len_bytes,
				       .remote_addr = 0x7f0000000000 + first_byte,
				       .rkey = 0x1234};
	add_tail(s, &seg, sizeof(seg));
	s->msg.lease_reply.nsegments++;
	s->msg.h.bytes = (uint32_t)s->bytes;
}

/* Valid for all requests and replies alike. */
static const struct pml_wire_handle some_handle = {.ino = 2, .generation = 3, .epoch = 4, .tag = 5};

static void text_request(struct sample *s, enum pml_wire_type type, size_t fixed, const char *tail)
{
	request(s, type, fixed + strlen(tail));
	s->bytes = fixed;
	add_tail(s, tail, strlen(tail));
}

static void make_name_request(struct sample *s, enum pml_wire_type type)
{
	union pml_message *m = &s->msg;
	switch (type) {
	case PML_WIRE_HELLO:
		text_request(s, type, sizeof(m->hello), "alice/some/path");
		m->hello.identity_bytes = 5;
		m->hello.path_bytes = 10;
		break;
	case PML_WIRE_LOOKUP:
	case PML_WIRE_UNLINK:
		text_request(s, type, sizeof(m->name), "hello");
		m->name.dir = some_handle;
		break;
	case PML_WIRE_CREATE:
	case PML_WIRE_MKDIR:
		text_request(s, type, sizeof(m->create), "hello");
		m->create.dir = some_handle;
		m->create.mode = 0644;
		break;
	case PML_WIRE_SYMLINK:
		text_request(s, type, sizeof(m->symlink), "hellotarget");
		m->symlink.dir = some_handle;
		m->symlink.name_bytes = 5;
		m->symlink.target_bytes = 6;
		break;
	case PML_WIRE_LINK:
		text_request(s, type, sizeof(m->link), "hello");
		m->link.inode = m->link.dir = some_handle;
		break;
	case PML_WIRE_GETXATTR:
		text_request(s, type, sizeof(m->xattr), "user.a");
		m->xattr.inode = some_handle;
		break;
	default:
		text_request(s, type, sizeof(m->rename), "helloother");
		m->rename.from = m->rename.to = some_handle;
		m->rename.name_bytes = m->rename.new_name_bytes = 5;
		break;
	}
}

static void make_inode_request(struct sample *s, enum pml_wire_type type)
{
	union pml_message *m = &s->msg;
	switch (type) {
	case PML_WIRE_SETATTR:
		request(s, type, sizeof(m->setattr));
		m->setattr.inode = some_handle;
		break;
	case PML_WIRE_READDIR:
		request(s, type, sizeof(m->readdir));
		m->readdir.dir = some_handle;
		break;
	case PML_WIRE_LISTXATTR:
		request(s, type, sizeof(m->xattr));
		m->xattr.inode = some_handle;
		break;
	case PML_WIRE_CLONE:
		request(s, type, sizeof(m->clone));
		m->clone.src = m->clone.dst = some_handle;
		break;
	case PML_WIRE_LEASE:
		request(s, type, sizeof(m->lease));
		m->lease.inode = some_handle;
		m->lease.len_bytes = 4096;
		m->lease.mode = PML_LEASE_WRITE;
		break;
	default:
		request(s, type, sizeof(m->inode));
		m->inode.inode = some_handle;
		break;
	}
}

static void make_request(struct sample *s, enum pml_wire_type type)
{
	union pml_message *m = &s->msg;
	memset(s, 0, sizeof(*s));
	switch (type) {
	case PML_WIRE_HELLO:
	case PML_WIRE_LOOKUP:
	case PML_WIRE_UNLINK:
	case PML_WIRE_CREATE:
	case PML_WIRE_MKDIR:
	case PML_WIRE_SYMLINK:
	case PML_WIRE_LINK:
	case PML_WIRE_GETXATTR:
	case PML_WIRE_RENAME:
		make_name_request(s, type);
		break;
	case PML_WIRE_GETATTR:
	case PML_WIRE_READLINK:
	case PML_WIRE_SETATTR:
	case PML_WIRE_READDIR:
	case PML_WIRE_LISTXATTR:
	case PML_WIRE_CLONE:
	case PML_WIRE_LEASE:
		make_inode_request(s, type);
		break;
	case PML_WIRE_AUTH:
		request(s, type, sizeof(m->auth));
		break;
	case PML_WIRE_COMMIT:
		request(s, type, sizeof(m->commit));
		m->commit.lease_id = 3;
		m->commit.first_byte = 4096;
		m->commit.len_bytes = 1;
		m->commit.new_size_bytes = 4097;
		break;
	case PML_WIRE_RETURN:
	case PML_WIRE_DOWNGRADE:
	case PML_WIRE_ACK:
		request(s, type, sizeof(m->ret));
		m->ret.lease_id = 3;
		break;
	default:
		request(s, type, sizeof(struct pml_wire_empty));
		break;
	}
}

static void make_auth_reply(struct sample *s)
{
	struct pml_wire_auth_reply *m = &s->msg.auth_reply;
	reply(s, PML_WIRE_AUTH, sizeof(*m));
	m->root.handle = some_handle;
	m->root.mode = S_IFDIR | 0755;
	m->term_ms = 30000;
	m->durability = PML_DURABLE_BY_COMMIT;
	m->credits = 1;
	m->max_lease_bytes = PML_LEASE_BYTES_MAX;
}

static void make_lease_reply(struct sample *s, enum pml_wire_type to)
{
	struct pml_wire_lease_reply *m = &s->msg.lease_reply;
	reply(s, to, sizeof(*m));
	m->lease_id = 3;
	m->first_byte = 4096;
	m->end_byte = 5 * 4096;
	m->term_ms = 1000;
	m->durability = PML_DURABLE_BY_FLUSH;
	add_segment(s, 4096, 4096);
	add_segment(s, 3 * 4096, 8192);
}

static void make_reply(struct sample *s, enum pml_wire_type to)
{
	union pml_message *m = &s->msg;
	memset(s, 0, sizeof(*s));
	switch (to) {
	case PML_WIRE_HELLO:
		reply(s, to, sizeof(m->hello_reply));
		m->hello_reply.method = PML_WIRE_AUTH_SECRET;
		break;
	case PML_WIRE_AUTH:
		make_auth_reply(s);
		break;
	case PML_WIRE_LOOKUP:
	case PML_WIRE_GETATTR:
	case PML_WIRE_SETATTR:
	case PML_WIRE_CREATE:
	case PML_WIRE_MKDIR:
	case PML_WIRE_SYMLINK:
	case PML_WIRE_LINK:
		reply(s, to, sizeof(m->attr_reply));
		m->attr_reply.attr.handle = some_handle;
		m->attr_reply.attr.mode = S_IFREG | 0644;
		break;
	case PML_WIRE_READDIR:
		reply(s, to, sizeof(m->readdir_reply));
		add_dirent(s, "a", 2);
		add_dirent(s, "exactly8", 3);
		break;
	case PML_WIRE_READLINK:
	case PML_WIRE_GETXATTR:
	case PML_WIRE_LISTXATTR:
		reply(s, to, sizeof(m->data_reply));
		break;
	case PML_WIRE_STATFS:
		reply(s, to, sizeof(m->statfs_reply));
		m->statfs_reply.block_bytes = 4096;
		m->statfs_reply.blocks = 10;
		m->statfs_reply.blocks_free = 10;
		break;
	case PML_WIRE_CLONE:
		reply(s, to, sizeof(m->clone_reply));
		break;
	case PML_WIRE_LEASE:
	case PML_WIRE_DOWNGRADE:
		make_lease_reply(s, to);
		break;
	default:
		reply(s, to, sizeof(struct pml_wire_empty));
		break;
	}
}

static void make_notice(struct sample *s, enum pml_wire_type type)
{
	memset(s, 0, sizeof(*s));
	s->bytes = type == PML_WIRE_RECALL ? sizeof(s->msg.recall) : sizeof(s->msg.revoked);
	pml_codec_header(&s->msg.h, type, s->bytes, 0);
	s->msg.recall.lease_id = 3; /* at the same place in both */
}

static void for_each_sample(void (*fn)(const struct sample *s))
{
	struct sample s;
	for (unsigned int type = PML_WIRE_HELLO; type < PML_WIRE_REQUESTS_END; type++) {
		make_request(&s, (enum pml_wire_type)type);
		fn(&s);
		if (type == PML_WIRE_ACK) /* has none */
			continue;
		make_reply(&s, (enum pml_wire_type)type);
		fn(&s);
	}
	make_notice(&s, PML_WIRE_RECALL);
	fn(&s);
	make_notice(&s, PML_WIRE_REVOKED);
	fn(&s);
}

/* ---- what holds for all -------------------------------------------------- */

static void expect_accepted(const struct sample *s)
{
	if (check_sample(s))
		TAP_FAIL("type %u to %u is refused", s->msg.h.type, s->msg.h.reply_to);
}

static void test_valid_messages_are_accepted(void)
{
	for_each_sample(expect_accepted);
}

/* Messages whose name has no length field: any other length is one of another name. */
static bool has_open_tail(const struct sample *s)
{
	switch ((enum pml_wire_type)(s->is_request ? s->msg.h.type : s->msg.h.reply_to)) {
	case PML_WIRE_LOOKUP:
	case PML_WIRE_UNLINK:
	case PML_WIRE_CREATE:
	case PML_WIRE_MKDIR:
	case PML_WIRE_LINK:
	case PML_WIRE_GETXATTR:
		return s->is_request;
	default:
		return false;
	}
}

static void expect_no_other_length(const struct sample *s)
{
	if (has_open_tail(s))
		return; /* test_names_have_255_bytes_at_most() */
	uint8_t bytes[PML_MSG_BYTES_MAX + 8];
	memset(bytes, 0, sizeof(bytes));
	memcpy(bytes, s->msg.bytes, s->bytes);
	for (size_t len = 0; len <= sizeof(bytes); len++) {
		if (len == s->bytes)
			continue;
		/* Received short or long, and with a header that agrees with it. */
		if (check(s, bytes, len) != -EPROTO)
			TAP_FAIL("type %u to %u: %zu of %zu bytes pass", s->msg.h.type,
				 s->msg.h.reply_to, len, s->bytes);
		struct pml_wire_header h = s->msg.h;
		h.bytes = (uint32_t)len;
		memcpy(bytes, &h, sizeof(h));
		if (check(s, bytes, len) != -EPROTO)
			TAP_FAIL("type %u to %u: %zu of %zu bytes pass, header too", s->msg.h.type,
				 s->msg.h.reply_to, len, s->bytes);
		memcpy(bytes, &s->msg.h, sizeof(h));
	}
}

static void test_any_other_length_is_refused(void)
{
	for_each_sample(expect_no_other_length);
}

static void expect_header_checked(const struct sample *valid)
{
	struct sample s = *valid;
	s.msg.h.magic ^= 1;
	CHECK_EQ(check_sample(&s), -EPROTO);
	s = *valid;
	s.msg.h.version++;
	CHECK_EQ(check_sample(&s), -EPROTONOSUPPORT);
	s = *valid;
	s.msg.h.flags = 4;
	CHECK_EQ(check_sample(&s), -EPROTO);
	/* A request may be a retry, or want a quiet reply, and nothing else. */
	for (uint16_t flags = 1; flags <= (PML_WIRE_RETRY | PML_WIRE_QUIET); flags++) {
		s.msg.h.flags = flags;
		CHECK_EQ(check_sample(&s), s.is_request ? 0 : -EPROTO);
	}
	s = *valid;
	s.msg.h.bytes++;
	CHECK_EQ(check_sample(&s), -EPROTO);
	s = *valid;
	s.msg.h.request_id = s.msg.h.request_id ? 0 : 1;
	CHECK_EQ(check_sample(&s), -EPROTO);
	s = *valid;
	s.msg.h.status = 1;
	CHECK_EQ(check_sample(&s), -EPROTO);
	s.msg.h.status = -4096;
	CHECK_EQ(check_sample(&s), -EPROTO);
	s = *valid;
	s.msg.h.reply_to = s.msg.h.type == PML_WIRE_REPLY ? PML_WIRE_ACK : PML_WIRE_HELLO;
	CHECK_EQ(check_sample(&s), -EPROTO);
	s.msg.h.reply_to = 0xffff;
	CHECK_EQ(check_sample(&s), -EPROTO);
	/* Nobody may say what the other side says. */
	s = *valid;
	s.is_request = !s.is_request;
	CHECK_EQ(check_sample(&s), -EPROTO);
}

static void test_each_damage_to_a_header_is_refused(void)
{
	for_each_sample(expect_header_checked);
}

static void test_unknown_types_are_refused(void)
{
	struct sample s;
	for (unsigned int type = 0; type <= 0xffff; type++) {
		if (type < PML_WIRE_HELLO || type >= PML_WIRE_REQUESTS_END) {
			make_request(&s, PML_WIRE_RENEW);
			s.msg.h.type = (uint16_t)type;
			if (check_sample(&s) != -EPROTO)
				TAP_FAIL("request type %u passes", type);
		}
		if (type < PML_WIRE_REPLY || type > PML_WIRE_REVOKED) {
			make_reply(&s, PML_WIRE_RENEW);
			s.msg.h.type = (uint16_t)type;
			if (check_sample(&s) != -EPROTO)
				TAP_FAIL("server message type %u passes", type);
		}
	}
}

/* ---- single fields ------------------------------------------------------- */

/* Sets one field of a valid request or reply and expects the verdict. */
#define EXPECT(make, type, lvalue, value, verdict)                                                 \
	do {                                                                                       \
		struct sample s_;                                                                  \
		make(&s_, type);                                                                   \
		union pml_message *m = &s_.msg;                                                    \
		m->lvalue = (value);                                                               \
		int got_ = check_sample(&s_);                                                      \
		if (got_ != (verdict))                                                             \
			TAP_FAIL("%s with %s = %s: %d", #type, #lvalue, #value, got_);             \
	} while (0)
#define REFUSE_REQUEST(type, lvalue, value) EXPECT(make_request, type, lvalue, value, -EPROTO)
#define ACCEPT_REQUEST(type, lvalue, value) EXPECT(make_request, type, lvalue, value, 0)
#define REFUSE_REPLY(type, lvalue, value)   EXPECT(make_reply, type, lvalue, value, -EPROTO)
#define ACCEPT_REPLY(type, lvalue, value)   EXPECT(make_reply, type, lvalue, value, 0)
#define REFUSE_NOTICE(type, lvalue, value)  EXPECT(make_notice, type, lvalue, value, -EPROTO)
#define ACCEPT_NOTICE(type, lvalue, value)  EXPECT(make_notice, type, lvalue, value, 0)

static void test_fields_of_requests_are_checked(void)
{
	REFUSE_REQUEST(PML_WIRE_HELLO, hello.identity_bytes, 4);
	REFUSE_REQUEST(PML_WIRE_HELLO, hello.path_bytes, UINT32_MAX);
	REFUSE_REQUEST(PML_WIRE_HELLO, bytes[sizeof(struct pml_wire_hello)], '\n');
	REFUSE_REQUEST(PML_WIRE_HELLO, bytes[sizeof(struct pml_wire_hello)], ' ');
	REFUSE_REQUEST(PML_WIRE_HELLO, bytes[sizeof(struct pml_wire_hello)], 0);
	REFUSE_REQUEST(PML_WIRE_HELLO, bytes[sizeof(struct pml_wire_hello) + 7], 0);
	REFUSE_REQUEST(PML_WIRE_LOOKUP, name.dir.ino, 0);
	REFUSE_REQUEST(PML_WIRE_LOOKUP, name.flags, 1);
	REFUSE_REQUEST(PML_WIRE_LOOKUP, name.reserved, 1);
	ACCEPT_REQUEST(PML_WIRE_UNLINK, name.flags, PML_WIRE_UNLINK_DIR);
	REFUSE_REQUEST(PML_WIRE_UNLINK, name.flags, 2);
	REFUSE_REQUEST(PML_WIRE_UNLINK, name.reserved, 1);
	REFUSE_REQUEST(PML_WIRE_UNLINK, name.dir.ino, 0);
	REFUSE_REQUEST(PML_WIRE_CREATE, create.dir.ino, 0);
	REFUSE_REQUEST(PML_WIRE_CREATE, create.mode, 01000);
	REFUSE_REQUEST(PML_WIRE_CREATE, create.mode, S_IFREG | 0644);
	ACCEPT_REQUEST(PML_WIRE_CREATE, create.exclusive, 1);
	REFUSE_REQUEST(PML_WIRE_CREATE, create.exclusive, 2);
	ACCEPT_REQUEST(PML_WIRE_MKDIR, create.mode, 02775);
	REFUSE_REQUEST(PML_WIRE_MKDIR, create.mode, S_IFDIR | 0755);
	REFUSE_REQUEST(PML_WIRE_MKDIR, create.exclusive, 1);
	REFUSE_REQUEST(PML_WIRE_SYMLINK, symlink.dir.ino, 0);
	REFUSE_REQUEST(PML_WIRE_SYMLINK, symlink.name_bytes, 4);
	REFUSE_REQUEST(PML_WIRE_SYMLINK, symlink.target_bytes, 0);
	REFUSE_REQUEST(PML_WIRE_SYMLINK, symlink.target_bytes, UINT32_MAX);
	REFUSE_REQUEST(PML_WIRE_SYMLINK, symlink.target_bytes, 11);
	REFUSE_REQUEST(PML_WIRE_LINK, link.inode.ino, 0);
	REFUSE_REQUEST(PML_WIRE_LINK, link.dir.ino, 0);
	REFUSE_REQUEST(PML_WIRE_RENAME, rename.from.ino, 0);
	REFUSE_REQUEST(PML_WIRE_RENAME, rename.to.ino, 0);
	REFUSE_REQUEST(PML_WIRE_RENAME, rename.name_bytes, 0);
	REFUSE_REQUEST(PML_WIRE_RENAME, rename.name_bytes, 10);
	REFUSE_REQUEST(PML_WIRE_RENAME, rename.name_bytes, UINT32_MAX);
	REFUSE_REQUEST(PML_WIRE_RENAME, rename.new_name_bytes, 4);
	REFUSE_REQUEST(PML_WIRE_RENAME, rename.reserved, 1);
	ACCEPT_REQUEST(PML_WIRE_RENAME, rename.flags, PML_WIRE_RENAME_EXCHANGE);
	REFUSE_REQUEST(PML_WIRE_RENAME, rename.flags, 3);
	REFUSE_REQUEST(PML_WIRE_GETATTR, inode.inode.ino, 0);
	REFUSE_REQUEST(PML_WIRE_READLINK, inode.inode.ino, 0);
	ACCEPT_REQUEST(PML_WIRE_SETATTR, setattr.what, PML_WIRE_SET_SIZE | PML_WIRE_SET_MODE);
	REFUSE_REQUEST(PML_WIRE_SETATTR, setattr.what, PML_WIRE_SET_ALL + 1);
	REFUSE_REQUEST(PML_WIRE_SETATTR, setattr.what, PML_WIRE_SET_ATIME | PML_WIRE_SET_ATIME_NOW);
	REFUSE_REQUEST(PML_WIRE_SETATTR, setattr.what, PML_WIRE_SET_MTIME | PML_WIRE_SET_MTIME_NOW);
	REFUSE_REQUEST(PML_WIRE_SETATTR, setattr.mode, 010000);
	REFUSE_REQUEST(PML_WIRE_SETATTR, setattr.size_bytes, UINT64_MAX);
	REFUSE_REQUEST(PML_WIRE_SETATTR, setattr.atime_ns, 1000000000);
	REFUSE_REQUEST(PML_WIRE_SETATTR, setattr.mtime_ns, 1000000000);
	REFUSE_REQUEST(PML_WIRE_SETATTR, setattr.inode.ino, 0);
	REFUSE_REQUEST(PML_WIRE_GETXATTR, xattr.inode.ino, 0);
	REFUSE_REQUEST(PML_WIRE_GETXATTR, xattr.reserved, 1);
	REFUSE_REQUEST(PML_WIRE_GETXATTR, bytes[sizeof(struct pml_wire_xattr)], 0);
	REFUSE_REQUEST(PML_WIRE_LISTXATTR, xattr.inode.ino, 0);
	REFUSE_REQUEST(PML_WIRE_LISTXATTR, xattr.reserved, 1);
	REFUSE_REQUEST(PML_WIRE_CLONE, clone.src.ino, 0);
	REFUSE_REQUEST(PML_WIRE_CLONE, clone.dst.ino, 0);
	REFUSE_REQUEST(PML_WIRE_CLONE, clone.src_byte, UINT64_MAX);
	REFUSE_REQUEST(PML_WIRE_CLONE, clone.len_bytes, UINT64_MAX);
	REFUSE_REQUEST(PML_WIRE_READDIR, readdir.dir.ino, 0);
	ACCEPT_REQUEST(PML_WIRE_READDIR, readdir.cookie, INT64_MAX);
	REFUSE_REQUEST(PML_WIRE_READDIR, readdir.cookie, (uint64_t)INT64_MAX + 1);
	REFUSE_REQUEST(PML_WIRE_LEASE, lease.inode.ino, 0);
	REFUSE_REQUEST(PML_WIRE_LEASE, lease.len_bytes, 0);
	REFUSE_REQUEST(PML_WIRE_LEASE, lease.len_bytes, UINT64_MAX);
	ACCEPT_REQUEST(PML_WIRE_LEASE, lease.len_bytes, INT64_MAX);
	ACCEPT_REQUEST(PML_WIRE_LEASE, lease.first_byte, INT64_MAX - 4096);
	REFUSE_REQUEST(PML_WIRE_LEASE, lease.first_byte, INT64_MAX - 4095);
	REFUSE_REQUEST(PML_WIRE_LEASE, lease.first_byte, UINT64_MAX);
	REFUSE_REQUEST(PML_WIRE_LEASE, lease.mode, 2);
	ACCEPT_REQUEST(PML_WIRE_LEASE, lease.flags, 3);
	REFUSE_REQUEST(PML_WIRE_LEASE, lease.flags, 4);
	REFUSE_REQUEST(PML_WIRE_DOWNGRADE, ret.lease_id, 0);
	REFUSE_REQUEST(PML_WIRE_RETURN, ret.lease_id, 0);
	REFUSE_REQUEST(PML_WIRE_ACK, ret.lease_id, 0);
	REFUSE_REQUEST(PML_WIRE_COMMIT, commit.lease_id, 0);
	REFUSE_REQUEST(PML_WIRE_COMMIT, commit.len_bytes, 0);
	REFUSE_REQUEST(PML_WIRE_COMMIT, commit.len_bytes, INT64_MAX);
	REFUSE_REQUEST(PML_WIRE_COMMIT, commit.new_size_bytes, (uint64_t)INT64_MAX + 1);
	ACCEPT_REQUEST(PML_WIRE_COMMIT, commit.new_size_bytes, 0);
	ACCEPT_REQUEST(PML_WIRE_COMMIT, commit.flags, PML_WIRE_COMMIT_IS_DURABLE);
	REFUSE_REQUEST(PML_WIRE_COMMIT, commit.flags, 2);
	REFUSE_REQUEST(PML_WIRE_COMMIT, commit.reserved, 1);
}

static void test_names_with_zero_or_slash_are_refused(void)
{
	REFUSE_REQUEST(PML_WIRE_LOOKUP, bytes[sizeof(struct pml_wire_name)], '/');
	REFUSE_REQUEST(PML_WIRE_LOOKUP, bytes[sizeof(struct pml_wire_name) + 4], 0);
	REFUSE_REQUEST(PML_WIRE_CREATE, bytes[sizeof(struct pml_wire_create)], 0);
	REFUSE_REQUEST(PML_WIRE_CREATE, bytes[sizeof(struct pml_wire_create) + 4], '/');
	ACCEPT_REQUEST(PML_WIRE_CREATE, bytes[sizeof(struct pml_wire_create) + 4], 0xff);
	REFUSE_REQUEST(PML_WIRE_SYMLINK, bytes[sizeof(struct pml_wire_symlink)], '/');
	ACCEPT_REQUEST(PML_WIRE_SYMLINK, bytes[sizeof(struct pml_wire_symlink) + 5], '/');
	REFUSE_REQUEST(PML_WIRE_SYMLINK, bytes[sizeof(struct pml_wire_symlink) + 5], 0);
	REFUSE_REQUEST(PML_WIRE_RENAME, bytes[sizeof(struct pml_wire_rename)], 0);
	REFUSE_REQUEST(PML_WIRE_RENAME, bytes[sizeof(struct pml_wire_rename) + 9], '/');
	REFUSE_REQUEST(PML_WIRE_LINK, bytes[sizeof(struct pml_wire_link)], '/');
}

static void test_names_have_255_bytes_at_most(void)
{
	static const struct {
		enum pml_wire_type type;
		size_t fixed_bytes;
	} named[] = {
		{PML_WIRE_LOOKUP, sizeof(struct pml_wire_name)},
		{PML_WIRE_UNLINK, sizeof(struct pml_wire_name)},
		{PML_WIRE_CREATE, sizeof(struct pml_wire_create)},
		{PML_WIRE_MKDIR, sizeof(struct pml_wire_create)},
		{PML_WIRE_LINK, sizeof(struct pml_wire_link)},
		{PML_WIRE_GETXATTR, sizeof(struct pml_wire_xattr)},
	};
	for (size_t i = 0; i < PML_ARRAY_LEN(named); i++)
		for (uint32_t len = 0; len < 1000; len++) {
			struct sample s;
			make_request(&s, named[i].type);
			memset(s.msg.bytes + named[i].fixed_bytes, 'x', len);
			s.bytes = named[i].fixed_bytes + len;
			s.msg.h.bytes = (uint32_t)s.bytes;
			CHECK_EQ(check_sample(&s), len >= 1 && len <= 255 ? 0 : -EPROTO);
		}
}

static void test_reasons_are_short_and_printable(void)
{
	struct sample s;
	for (size_t len = 0; len < 300; len++) {
		make_reply(&s, PML_WIRE_LEASE);
		s.msg.h.status = -EBUSY;
		memset(s.msg.bytes + sizeof(s.msg.h), 'x', len);
		s.bytes = sizeof(s.msg.h) + len;
		s.msg.h.bytes = (uint32_t)s.bytes;
		CHECK_EQ(check_sample(&s), len <= PML_WIRE_REASON_MAX ? 0 : -EPROTO);
	}
	make_reply(&s, PML_WIRE_LEASE);
	s.msg.h.status = -EBUSY;
	s.bytes = sizeof(s.msg.h) + 1;
	s.msg.h.bytes = (uint32_t)s.bytes;
	s.msg.bytes[sizeof(s.msg.h)] = 0x1b;
	CHECK_EQ(check_sample(&s), -EPROTO);
}

static void test_fields_of_replies_are_checked(void)
{
	ACCEPT_REPLY(PML_WIRE_HELLO, hello_reply.method, PML_WIRE_AUTH_NONE);
	REFUSE_REPLY(PML_WIRE_HELLO, hello_reply.method, 2);
	REFUSE_REPLY(PML_WIRE_HELLO, hello_reply.reserved, 1);
	REFUSE_REPLY(PML_WIRE_AUTH, auth_reply.root.handle.ino, 0);
	REFUSE_REPLY(PML_WIRE_AUTH, auth_reply.path_bytes, 4096);
	REFUSE_REPLY(PML_WIRE_AUTH, auth_reply.term_ms, 0);
	REFUSE_REPLY(PML_WIRE_AUTH, auth_reply.durability, 0);
	REFUSE_REPLY(PML_WIRE_AUTH, auth_reply.durability, 4);
	REFUSE_REPLY(PML_WIRE_AUTH, auth_reply.flags, 2);
	ACCEPT_REPLY(PML_WIRE_AUTH, auth_reply.flags, PML_WIRE_SESSION_READ_ONLY);
	REFUSE_REPLY(PML_WIRE_AUTH, auth_reply.credits, 0);
	REFUSE_REPLY(PML_WIRE_AUTH, auth_reply.reserved, 1);
	REFUSE_REPLY(PML_WIRE_AUTH, auth_reply.max_lease_bytes, 0);
	REFUSE_REPLY(PML_WIRE_READLINK, data_reply.reserved, 1);
	ACCEPT_REPLY(PML_WIRE_GETXATTR, data_reply.total_bytes, 65536);
	REFUSE_REPLY(PML_WIRE_STATFS, statfs_reply.block_bytes, 0);
	REFUSE_REPLY(PML_WIRE_STATFS, statfs_reply.blocks, UINT64_MAX);
	REFUSE_REPLY(PML_WIRE_STATFS, statfs_reply.blocks_free, 11);
	REFUSE_REPLY(PML_WIRE_STATFS, statfs_reply.inodes_free, 1);
	REFUSE_REPLY(PML_WIRE_CLONE, clone_reply.bytes, UINT64_MAX);
	REFUSE_REPLY(PML_WIRE_LOOKUP, attr_reply.attr.handle.ino, 0);
	REFUSE_REPLY(PML_WIRE_SETATTR, attr_reply.attr.atime_ns, 1000000000);
	REFUSE_REPLY(PML_WIRE_LEASE, lease_reply.durability, 0);
	REFUSE_REPLY(PML_WIRE_LEASE, lease_reply.durability, 4);
	REFUSE_REPLY(PML_WIRE_LEASE, lease_reply.reserved, 1);
	REFUSE_REPLY(PML_WIRE_GETATTR, attr_reply.attr.size_bytes, UINT64_MAX);
	REFUSE_REPLY(PML_WIRE_GETATTR, attr_reply.attr.mtime_ns, 1000000000);
	REFUSE_REPLY(PML_WIRE_CREATE, attr_reply.attr.ctime_ns, 1000000000);
	REFUSE_REPLY(PML_WIRE_CREATE, attr_reply.attr.mode, 0x80000000);
	REFUSE_REPLY(PML_WIRE_READDIR, readdir_reply.count, 0);
	REFUSE_REPLY(PML_WIRE_READDIR, readdir_reply.count, 1);
	REFUSE_REPLY(PML_WIRE_READDIR, readdir_reply.count, 3);
	REFUSE_REPLY(PML_WIRE_READDIR, readdir_reply.count, UINT32_MAX);
	ACCEPT_REPLY(PML_WIRE_READDIR, readdir_reply.is_end, 1);
	REFUSE_REPLY(PML_WIRE_READDIR, readdir_reply.is_end, 2);
	REFUSE_REPLY(PML_WIRE_LEASE, lease_reply.lease_id, 0);
	REFUSE_REPLY(PML_WIRE_LEASE, lease_reply.end_byte, 4096);
	REFUSE_REPLY(PML_WIRE_LEASE, lease_reply.end_byte, UINT64_MAX);
	REFUSE_REPLY(PML_WIRE_LEASE, lease_reply.end_byte, 5 * 4096 - 1);
	REFUSE_REPLY(PML_WIRE_LEASE, lease_reply.first_byte, 4097);
	REFUSE_REPLY(PML_WIRE_LEASE, lease_reply.file_size, UINT64_MAX);
	REFUSE_REPLY(PML_WIRE_LEASE, lease_reply.term_ms, 0);
	REFUSE_REPLY(PML_WIRE_LEASE, lease_reply.nsegments, 0);
	REFUSE_REPLY(PML_WIRE_LEASE, lease_reply.nsegments, 1);
	REFUSE_REPLY(PML_WIRE_LEASE, lease_reply.nsegments, 3);
	REFUSE_REPLY(PML_WIRE_LEASE, lease_reply.nsegments, UINT32_MAX);
}

static void test_notices_are_checked(void)
{
	REFUSE_NOTICE(PML_WIRE_RECALL, recall.lease_id, 0);
	REFUSE_NOTICE(PML_WIRE_RECALL, recall.op, PML_OP_COUNT);
	ACCEPT_NOTICE(PML_WIRE_RECALL, recall.op, PML_WIRE_OP_LEASE);
	ACCEPT_NOTICE(PML_WIRE_RECALL, recall.drain_ms, UINT32_MAX);
	REFUSE_NOTICE(PML_WIRE_REVOKED, revoked.lease_id, 0);
	ACCEPT_NOTICE(PML_WIRE_REVOKED, revoked.why, PML_END_OWN_CHANGE);
	ACCEPT_NOTICE(PML_WIRE_REVOKED, revoked.why, PML_END_EVICTED);
	REFUSE_NOTICE(PML_WIRE_REVOKED, revoked.why, PML_END_EVICTED + 1);
	REFUSE_NOTICE(PML_WIRE_REVOKED, revoked.reserved, 1);
	/* The end of the session itself. */
	struct sample s;
	make_notice(&s, PML_WIRE_REVOKED);
	s.msg.revoked.lease_id = PML_WIRE_SESSION_ITSELF;
	s.msg.revoked.why = PML_END_EVICTED;
	expect_accepted(&s);
}

/* Damages the first entry of a listing. */
static void refuse_dirent(const struct pml_wire_dirent *entry, const char *what)
{
	struct sample s;
	make_reply(&s, PML_WIRE_READDIR);
	memcpy(s.msg.bytes + sizeof(s.msg.readdir_reply), entry, sizeof(*entry));
	if (check_sample(&s) != -EPROTO)
		TAP_FAIL("directory entry with %s passes", what);
}

static void test_directory_entries_are_checked(void)
{
	const struct pml_wire_dirent good = {
		.ino = 2, .cookie = 9, .mode = S_IFDIR, .name_bytes = 1};
	struct pml_wire_dirent bad = good;
	bad.ino = 0;
	refuse_dirent(&bad, "inode number 0");
	bad = good;
	bad.cookie = 0;
	refuse_dirent(&bad, "cookie 0");
	bad.cookie = UINT64_MAX;
	refuse_dirent(&bad, "a cookie out of range");
	bad = good;
	bad.mode = S_IFREG | 1;
	refuse_dirent(&bad, "permission bits");
	const uint32_t lengths[] = {0, 2, 9, 256, 8192, UINT32_MAX};
	for (size_t i = 0; i < PML_ARRAY_LEN(lengths); i++) {
		bad = good;
		bad.name_bytes = lengths[i];
		refuse_dirent(&bad, "another name length");
	}

	size_t name_at = sizeof(struct pml_wire_readdir_reply) + sizeof(good);
	REFUSE_REPLY(PML_WIRE_READDIR, bytes[name_at], '/');
	REFUSE_REPLY(PML_WIRE_READDIR, bytes[name_at], 0);
	for (size_t i = 1; i < 8; i++)
		REFUSE_REPLY(PML_WIRE_READDIR, bytes[name_at + i], 1);
}

static void refuse_segment(const struct pml_wire_segment *seg, const char *what)
{
	struct sample s;
	make_reply(&s, PML_WIRE_LEASE);
	memcpy(s.msg.bytes + sizeof(s.msg.lease_reply), seg, sizeof(*seg));
	if (check_sample(&s) != -EPROTO)
		TAP_FAIL("segment with %s passes", what);
}

static void test_segments_are_checked(void)
{
	const struct pml_wire_segment good = {
		.first_byte = 4096, .len_bytes = 4096, .remote_addr = 0x1000, .rkey = 1};
	struct pml_wire_segment bad = good;
	bad.reserved = 1;
	refuse_segment(&bad, "a reserved field");
	bad = good;
	bad.len_bytes = 0;
	refuse_segment(&bad, "no bytes");
	bad.len_bytes = 3 * 4096;
	refuse_segment(&bad, "an overlap");
	bad.len_bytes = UINT64_MAX;
	refuse_segment(&bad, "a length that wraps");
	bad = good;
	bad.first_byte = 0;
	refuse_segment(&bad, "a begin before the lease");
	bad.first_byte = 4 * 4096;
	refuse_segment(&bad, "a wrong order");
	bad = good;
	bad.remote_addr = UINT64_MAX - 4095;
	refuse_segment(&bad, "an address that wraps");
}

static void test_more_segments_than_a_lease_has_are_refused(void)
{
	struct sample s;
	make_reply(&s, PML_WIRE_LEASE);
	s.bytes = sizeof(s.msg.lease_reply);
	s.msg.lease_reply.nsegments = 0;
	s.msg.lease_reply.end_byte = 1 << 20;
	for (uint32_t i = 0; i < PML_LEASE_SEGMENTS_MAX; i++)
		add_segment(&s, 4096 * (i + 1), 4096);
	CHECK_EQ(check_sample(&s), 0);
	add_segment(&s, 4096 * (PML_LEASE_SEGMENTS_MAX + 1), 4096);
	CHECK_EQ(check_sample(&s), -EPROTO);
}

static void test_failed_reply_has_no_body(void)
{
	for (unsigned int to = PML_WIRE_HELLO; to <= PML_WIRE_RENEW; to++) {
		struct sample s;
		make_reply(&s, (enum pml_wire_type)to);
		bool has_body = s.bytes > sizeof(s.msg.h);
		s.msg.h.status = -ENOENT;
		CHECK_EQ(check_sample(&s), has_body ? -EPROTO : 0);
		s.bytes = sizeof(s.msg.h);
		s.msg.h.bytes = (uint32_t)s.bytes;
		CHECK_EQ(check_sample(&s), 0);
	}
}

/* ---- random -------------------------------------------------------------- */

static uint64_t random_state;

/* xorshift64* */
static uint32_t random_u32(void)
{
	random_state ^= random_state >> 12;
	random_state ^= random_state << 25;
	random_state ^= random_state >> 27;
	return (uint32_t)((random_state * 0x2545f4914f6cdd1du) >> 32);
}

static void fuzz_sample(const struct sample *valid)
{
	for (int round = 0; round < 5000; round++) {
		struct sample s = *valid;
		size_t len = s.bytes;
		for (uint32_t n = random_u32() % 4; n > 0; n--)
			s.msg.bytes[random_u32() % len] = (uint8_t)random_u32();
		if (random_u32() % 4 == 0) {
			len = random_u32() % 512;
			s.msg.h.bytes = (uint32_t)len;
		}
		(void)check(&s, s.msg.bytes, len);
	}
}

static void test_random_bytes_are_never_read_out_of_bounds(void)
{
	const char *seed = getenv("PML_SEED");
	random_state = seed ? strtoull(seed, NULL, 0) : (uint64_t)time(NULL);
	printf("# PML_SEED=%llu\n", (unsigned long long)random_state);
	random_state |= 1ull << 63; /* never 0 */
	for_each_sample(fuzz_sample);

	struct sample s = {0};
	for (int round = 0; round < 20000; round++) {
		size_t len = random_u32() % 256;
		for (size_t i = 0; i < len; i++)
			s.msg.bytes[i] = (uint8_t)random_u32();
		s.is_request = round % 2;
		CHECK(check(&s, s.msg.bytes, len) != 0);
	}
}

/* ---- seeds of the fuzzer -------------------------------------------------- */

static const char *seeds; /* folder */

static void write_seed(const struct sample *s)
{
	char path[4096];
	const char *kind = s->is_request		     ? "request"
			   : s->msg.h.type == PML_WIRE_REPLY ? "reply"
							     : "notice";
	unsigned int type = s->msg.h.reply_to ? s->msg.h.reply_to : s->msg.h.type;
	snprintf(path, sizeof(path), "%s/%s-%u", seeds, kind, type);
	FILE *file = fopen(path, "w");
	if (!file || fwrite(s->msg.bytes, s->bytes, 1, file) != 1 || fclose(file))
		BAIL_OUT("%s: cannot be written", path);
}

/* With a folder as argument it gets a file for each example: tests/fuzz/corpus/codec. */
int main(int argc, char **argv)
{
	if (argc == 2) {
		seeds = argv[1];
		for_each_sample(write_seed);
		return 0;
	}
	TAP_RUN(test_valid_messages_are_accepted);
	TAP_RUN(test_any_other_length_is_refused);
	TAP_RUN(test_each_damage_to_a_header_is_refused);
	TAP_RUN(test_unknown_types_are_refused);
	TAP_RUN(test_fields_of_requests_are_checked);
	TAP_RUN(test_names_with_zero_or_slash_are_refused);
	TAP_RUN(test_names_have_255_bytes_at_most);
	TAP_RUN(test_reasons_are_short_and_printable);
	TAP_RUN(test_fields_of_replies_are_checked);
	TAP_RUN(test_notices_are_checked);
	TAP_RUN(test_directory_entries_are_checked);
	TAP_RUN(test_segments_are_checked);
	TAP_RUN(test_more_segments_than_a_lease_has_are_refused);
	TAP_RUN(test_failed_reply_has_no_body);
	TAP_RUN(test_random_bytes_are_never_read_out_of_bounds);
	return tap_done();
}
