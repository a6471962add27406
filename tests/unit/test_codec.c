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

static void make_name_request(struct sample *s, enum pml_wire_type type, size_t fixed)
{
	request(s, type, fixed + 5);
	s->bytes = fixed;
	add_tail(s, "hello", 5);
}

static void make_request(struct sample *s, enum pml_wire_type type)
{
	union pml_message *m = &s->msg;
	memset(s, 0, sizeof(*s));
	switch (type) {
	case PML_WIRE_HELLO:
		request(s, type, sizeof(m->hello));
		break;
	case PML_WIRE_LOOKUP:
		make_name_request(s, type, sizeof(m->lookup));
		m->lookup.dir_ino = 1;
		m->lookup.name_bytes = 5;
		break;
	case PML_WIRE_CREATE:
		make_name_request(s, type, sizeof(m->create));
		m->create.dir_ino = 1;
		m->create.name_bytes = 5;
		m->create.mode = 0644;
		break;
	case PML_WIRE_GETATTR:
		request(s, type, sizeof(m->getattr));
		m->getattr.ino = 1;
		break;
	case PML_WIRE_READDIR:
		request(s, type, sizeof(m->readdir));
		m->readdir.dir_ino = 1;
		break;
	case PML_WIRE_LEASE:
		request(s, type, sizeof(m->lease));
		m->lease.ino = 2;
		m->lease.len_bytes = 4096;
		m->lease.mode = PML_LEASE_WRITE;
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

static void make_reply(struct sample *s, enum pml_wire_type to)
{
	union pml_message *m = &s->msg;
	memset(s, 0, sizeof(*s));
	switch (to) {
	case PML_WIRE_HELLO:
		reply(s, to, sizeof(m->hello_reply));
		m->hello_reply.root_ino = 1;
		m->hello_reply.term_ms = 30000;
		m->hello_reply.durability = PML_WIRE_SERVER_COMMIT;
		m->hello_reply.max_lease_bytes = PML_LEASE_BYTES_MAX;
		break;
	case PML_WIRE_LOOKUP:
	case PML_WIRE_CREATE:
	case PML_WIRE_GETATTR:
		reply(s, to, sizeof(m->attr_reply));
		m->attr_reply.attr.ino = 2;
		m->attr_reply.attr.mode = S_IFREG | 0644;
		break;
	case PML_WIRE_READDIR:
		reply(s, to, sizeof(m->readdir_reply));
		add_dirent(s, "a", 2);
		add_dirent(s, "exactly8", 3);
		break;
	case PML_WIRE_LEASE:
	case PML_WIRE_DOWNGRADE:
		reply(s, to, sizeof(m->lease_reply));
		m->lease_reply.lease_id = 3;
		m->lease_reply.first_byte = 4096;
		m->lease_reply.end_byte = 5 * 4096;
		m->lease_reply.term_ms = 1000;
		add_segment(s, 4096, 4096);
		add_segment(s, 3 * 4096, 8192);
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
	for (unsigned int type = PML_WIRE_HELLO; type <= PML_WIRE_DOWNGRADE; type++) {
		make_request(&s, (enum pml_wire_type)type);
		fn(&s);
		if (type == PML_WIRE_ACK)
			break;
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

static void expect_no_other_length(const struct sample *s)
{
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
	s.msg.h.reserved = 1;
	CHECK_EQ(check_sample(&s), -EPROTO);
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
		if (type < PML_WIRE_HELLO || type > PML_WIRE_DOWNGRADE) {
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
	REFUSE_REQUEST(PML_WIRE_HELLO, hello.flags, 1);
	REFUSE_REQUEST(PML_WIRE_HELLO, hello.reserved, 1);
	REFUSE_REQUEST(PML_WIRE_LOOKUP, lookup.dir_ino, 0);
	REFUSE_REQUEST(PML_WIRE_LOOKUP, lookup.name_bytes, 0);
	REFUSE_REQUEST(PML_WIRE_LOOKUP, lookup.name_bytes, 4);
	REFUSE_REQUEST(PML_WIRE_LOOKUP, lookup.name_bytes, 6);
	REFUSE_REQUEST(PML_WIRE_LOOKUP, lookup.name_bytes, UINT32_MAX);
	REFUSE_REQUEST(PML_WIRE_LOOKUP, lookup.reserved, 1);
	REFUSE_REQUEST(PML_WIRE_CREATE, create.dir_ino, 0);
	REFUSE_REQUEST(PML_WIRE_CREATE, create.name_bytes, 4);
	REFUSE_REQUEST(PML_WIRE_CREATE, create.mode, 01000);
	REFUSE_REQUEST(PML_WIRE_CREATE, create.mode, S_IFREG | 0644);
	ACCEPT_REQUEST(PML_WIRE_CREATE, create.exclusive, 1);
	REFUSE_REQUEST(PML_WIRE_CREATE, create.exclusive, 2);
	REFUSE_REQUEST(PML_WIRE_CREATE, create.reserved, 1);
	REFUSE_REQUEST(PML_WIRE_GETATTR, getattr.ino, 0);
	REFUSE_REQUEST(PML_WIRE_READDIR, readdir.dir_ino, 0);
	ACCEPT_REQUEST(PML_WIRE_READDIR, readdir.cookie, INT64_MAX);
	REFUSE_REQUEST(PML_WIRE_READDIR, readdir.cookie, (uint64_t)INT64_MAX + 1);
	REFUSE_REQUEST(PML_WIRE_LEASE, lease.ino, 0);
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
}

static void test_names_with_zero_or_slash_are_refused(void)
{
	REFUSE_REQUEST(PML_WIRE_LOOKUP, bytes[sizeof(struct pml_wire_lookup)], '/');
	REFUSE_REQUEST(PML_WIRE_LOOKUP, bytes[sizeof(struct pml_wire_lookup) + 4], 0);
	REFUSE_REQUEST(PML_WIRE_CREATE, bytes[sizeof(struct pml_wire_create)], 0);
	REFUSE_REQUEST(PML_WIRE_CREATE, bytes[sizeof(struct pml_wire_create) + 4], '/');
	ACCEPT_REQUEST(PML_WIRE_CREATE, bytes[sizeof(struct pml_wire_create) + 4], 0xff);
}

static void test_names_have_255_bytes_at_most(void)
{
	for (uint32_t len = 254; len < 258; len++) {
		struct sample s;
		make_request(&s, PML_WIRE_LOOKUP);
		memset(s.msg.bytes + sizeof(s.msg.lookup), 'x', len);
		s.msg.lookup.name_bytes = len;
		s.bytes = sizeof(s.msg.lookup) + len;
		s.msg.h.bytes = (uint32_t)s.bytes;
		CHECK_EQ(check_sample(&s), len <= 255 ? 0 : -EPROTO);
	}
}

static void test_fields_of_replies_are_checked(void)
{
	REFUSE_REPLY(PML_WIRE_HELLO, hello_reply.root_ino, 0);
	REFUSE_REPLY(PML_WIRE_HELLO, hello_reply.term_ms, 0);
	REFUSE_REPLY(PML_WIRE_HELLO, hello_reply.durability, 0);
	REFUSE_REPLY(PML_WIRE_HELLO, hello_reply.durability, 2);
	REFUSE_REPLY(PML_WIRE_HELLO, hello_reply.max_lease_bytes, 0);
	REFUSE_REPLY(PML_WIRE_LOOKUP, attr_reply.attr.ino, 0);
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
	REFUSE_NOTICE(PML_WIRE_REVOKED, revoked.why, PML_END_OWN_CHANGE + 1);
	REFUSE_NOTICE(PML_WIRE_REVOKED, revoked.reserved, 1);
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

int main(void)
{
	TAP_RUN(test_valid_messages_are_accepted);
	TAP_RUN(test_any_other_length_is_refused);
	TAP_RUN(test_each_damage_to_a_header_is_refused);
	TAP_RUN(test_unknown_types_are_refused);
	TAP_RUN(test_fields_of_requests_are_checked);
	TAP_RUN(test_names_with_zero_or_slash_are_refused);
	TAP_RUN(test_names_have_255_bytes_at_most);
	TAP_RUN(test_fields_of_replies_are_checked);
	TAP_RUN(test_notices_are_checked);
	TAP_RUN(test_directory_entries_are_checked);
	TAP_RUN(test_segments_are_checked);
	TAP_RUN(test_more_segments_than_a_lease_has_are_refused);
	TAP_RUN(test_failed_reply_has_no_body);
	TAP_RUN(test_random_bytes_are_never_read_out_of_bounds);
	return tap_done();
}
