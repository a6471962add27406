/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * codec.c -- checks of control messages
 *
 * One table row per message: the bytes of its fixed part and a function for
 * the rest.  A check returns NULL or, in words, what is wrong.  Tails are copied
 * out entry by entry, so nothing depends on how they are aligned.
 *
 * Format: docs/lease-protocol.md, "Messages"; wire.h.
 */
#include <string.h>
#include <sys/stat.h>

#include "codec.h"
#include "pml/lease.h"

/* Called with a message of exactly header.bytes, which covers the fixed part. */
typedef const char *(*check_fn)(const union pml_message *msg, size_t tail_bytes);

struct shape {
	size_t fixed_bytes;
	check_fn check;
};

/* A range of a file; zero length is none. */
static bool is_range(uint64_t first_byte, uint64_t len_bytes)
{
	return len_bytes > 0 && len_bytes <= INT64_MAX && first_byte <= INT64_MAX - len_bytes;
}

static const char *check_name(const uint8_t *name, size_t name_bytes)
{
	if (memchr(name, 0, name_bytes) || memchr(name, '/', name_bytes))
		return "a name with a zero or a slash";
	return NULL;
}

static const char *check_no_tail(const union pml_message *msg, size_t tail_bytes)
{
	return tail_bytes ? "length" : NULL;
}

/* @room: of which exactly these must be the name's. */
static const char *check_whole_name(const uint8_t *name, size_t name_bytes, size_t room)
{
	if (name_bytes == 0 || name_bytes > PML_WIRE_NAME_MAX || name_bytes != room)
		return "length of the name";
	return check_name(name, name_bytes);
}

static const char *check_handle(const struct pml_wire_handle *handle)
{
	return handle->ino == 0 ? "inode number 0" : NULL;
}

static bool is_durability(uint32_t durability)
{
	return durability >= PML_DURABLE_BY_COMMIT && durability <= PML_DURABLE_BY_FLUSH;
}

/* Letters, digits and -_.@: nothing that a log or a file of keys could take for something else. */
static const char *check_identity(const uint8_t *text, size_t bytes)
{
	for (size_t i = 0; i < bytes; i++) {
		uint8_t c = text[i];
		bool is_word =
			(c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
		if (!is_word && !(c && strchr("-_.@", c)))
			return "identity";
	}
	return NULL;
}

/* ---- requests ----------------------------------------------------------- */

static const char *check_hello(const union pml_message *msg, size_t tail_bytes)
{
	const struct pml_wire_hello *m = &msg->hello;
	if (m->identity_bytes > PML_WIRE_IDENTITY_MAX || m->path_bytes > PML_WIRE_PATH_MAX)
		return "length of identity or path";
	if (tail_bytes != (size_t)m->identity_bytes + m->path_bytes)
		return "length";
	const uint8_t *identity = msg->bytes + sizeof(*m);
	if (memchr(identity + m->identity_bytes, 0, m->path_bytes))
		return "a path with a zero";
	return check_identity(identity, m->identity_bytes);
}

static const char *check_lookup(const union pml_message *msg, size_t tail_bytes)
{
	const struct pml_wire_name *m = &msg->name;
	if (m->reserved || m->flags)
		return "a reserved field is set";
	const char *wrong = check_handle(&m->dir);
	return wrong ? wrong : check_whole_name(msg->bytes + sizeof(*m), tail_bytes, tail_bytes);
}

static const char *check_unlink(const union pml_message *msg, size_t tail_bytes)
{
	const struct pml_wire_name *m = &msg->name;
	if (m->reserved)
		return "a reserved field is set";
	if (m->flags & ~PML_WIRE_UNLINK_DIR)
		return "flags";
	const char *wrong = check_handle(&m->dir);
	return wrong ? wrong : check_whole_name(msg->bytes + sizeof(*m), tail_bytes, tail_bytes);
}

static const char *check_create(const union pml_message *msg, size_t tail_bytes)
{
	const struct pml_wire_create *m = &msg->create;
	if (m->mode & ~(m->h.type == PML_WIRE_MKDIR ? 07777u : 0777u))
		return "mode";
	if (m->exclusive > (m->h.type == PML_WIRE_MKDIR ? 0 : 1))
		return "exclusive";
	const char *wrong = check_handle(&m->dir);
	return wrong ? wrong : check_whole_name(msg->bytes + sizeof(*m), tail_bytes, tail_bytes);
}

static const char *check_symlink(const union pml_message *msg, size_t tail_bytes)
{
	const struct pml_wire_symlink *m = &msg->symlink;
	const uint8_t *name = msg->bytes + sizeof(*m);
	if (m->target_bytes == 0 || m->target_bytes > PML_WIRE_PATH_MAX ||
	    m->target_bytes > tail_bytes)
		return "length of the target";
	if (memchr(name + (tail_bytes - m->target_bytes), 0, m->target_bytes))
		return "a target with a zero";
	const char *wrong = check_handle(&m->dir);
	return wrong ? wrong : check_whole_name(name, m->name_bytes, tail_bytes - m->target_bytes);
}

static const char *check_link(const union pml_message *msg, size_t tail_bytes)
{
	const struct pml_wire_link *m = &msg->link;
	const char *wrong = check_handle(&m->inode);
	if (!wrong)
		wrong = check_handle(&m->dir);
	return wrong ? wrong : check_whole_name(msg->bytes + sizeof(*m), tail_bytes, tail_bytes);
}

static const char *check_rename(const union pml_message *msg, size_t tail_bytes)
{
	const struct pml_wire_rename *m = &msg->rename;
	const uint8_t *name = msg->bytes + sizeof(*m);
	if (m->reserved)
		return "a reserved field is set";
	if (m->flags > PML_WIRE_RENAME_EXCHANGE)
		return "flags";
	const char *wrong = check_handle(&m->from);
	if (!wrong)
		wrong = check_handle(&m->to);
	if (!wrong && m->name_bytes > tail_bytes)
		wrong = "length of the name";
	if (!wrong)
		wrong = check_whole_name(name, m->name_bytes, m->name_bytes);
	return wrong ? wrong
		     : check_whole_name(name + m->name_bytes, m->new_name_bytes,
					tail_bytes - m->name_bytes);
}

static const char *check_inode(const union pml_message *msg, size_t tail_bytes)
{
	return tail_bytes ? "length" : check_handle(&msg->inode.inode);
}

static const char *check_setattr(const union pml_message *msg, size_t tail_bytes)
{
	const struct pml_wire_setattr *m = &msg->setattr;
	if (tail_bytes)
		return "length";
	if (m->what & ~PML_WIRE_SET_ALL)
		return "what to set";
	if ((m->what & PML_WIRE_SET_ATIME && m->what & PML_WIRE_SET_ATIME_NOW) ||
	    (m->what & PML_WIRE_SET_MTIME && m->what & PML_WIRE_SET_MTIME_NOW))
		return "two times for one";
	if (m->mode & ~07777u)
		return "mode";
	if (m->size_bytes > INT64_MAX)
		return "size";
	if (m->atime_ns > 999999999u || m->mtime_ns > 999999999u)
		return "time";
	return check_handle(&m->inode);
}

static const char *check_readdir(const union pml_message *msg, size_t tail_bytes)
{
	if (tail_bytes)
		return "length";
	if (msg->readdir.cookie > INT64_MAX)
		return "cookie";
	return check_handle(&msg->readdir.dir);
}

static const char *check_getxattr(const union pml_message *msg, size_t tail_bytes)
{
	const struct pml_wire_xattr *m = &msg->xattr;
	if (m->reserved)
		return "a reserved field is set";
	if (tail_bytes == 0 || tail_bytes > PML_WIRE_NAME_MAX ||
	    memchr(msg->bytes + sizeof(*m), 0, tail_bytes))
		return "name of the attribute";
	return check_handle(&m->inode);
}

static const char *check_listxattr(const union pml_message *msg, size_t tail_bytes)
{
	if (tail_bytes)
		return "length";
	if (msg->xattr.reserved)
		return "a reserved field is set";
	return check_handle(&msg->xattr.inode);
}

static const char *check_clone(const union pml_message *msg, size_t tail_bytes)
{
	const struct pml_wire_clone *m = &msg->clone;
	if (tail_bytes)
		return "length";
	uint64_t len_bytes = m->len_bytes ? m->len_bytes : 1;
	if (!is_range(m->src_byte, len_bytes) || !is_range(m->dst_byte, len_bytes))
		return "range";
	const char *wrong = check_handle(&m->src);
	return wrong ? wrong : check_handle(&m->dst);
}

static const char *check_lease(const union pml_message *msg, size_t tail_bytes)
{
	const struct pml_wire_lease *m = &msg->lease;
	if (tail_bytes)
		return "length";
	if (m->flags & ~(PML_WIRE_LEASE_SHARED | PML_WIRE_LEASE_UNBREAKABLE))
		return "flags";
	if (m->mode != PML_LEASE_READ && m->mode != PML_LEASE_WRITE)
		return "mode";
	if (!is_range(m->first_byte, m->len_bytes))
		return "range";
	return check_handle(&m->inode);
}

static const char *check_return(const union pml_message *msg, size_t tail_bytes)
{
	if (tail_bytes)
		return "length";
	return msg->ret.lease_id == 0 ? "lease number 0" : NULL;
}

static const char *check_commit(const union pml_message *msg, size_t tail_bytes)
{
	const struct pml_wire_commit *m = &msg->commit;
	if (tail_bytes)
		return "length";
	if (m->reserved)
		return "a reserved field is set";
	if (m->flags & ~PML_WIRE_COMMIT_IS_DURABLE)
		return "flags";
	if (m->lease_id == 0)
		return "lease number 0";
	if (m->new_size_bytes > INT64_MAX)
		return "size";
	return is_range(m->first_byte, m->len_bytes) ? NULL : "range";
}

static const struct shape requests[] = {
	[PML_WIRE_HELLO] = {sizeof(struct pml_wire_hello), check_hello},
	[PML_WIRE_AUTH] = {sizeof(struct pml_wire_auth), check_no_tail},
	[PML_WIRE_RENEW] = {sizeof(struct pml_wire_empty), check_no_tail},
	[PML_WIRE_LOOKUP] = {sizeof(struct pml_wire_name), check_lookup},
	[PML_WIRE_GETATTR] = {sizeof(struct pml_wire_inode), check_inode},
	[PML_WIRE_SETATTR] = {sizeof(struct pml_wire_setattr), check_setattr},
	[PML_WIRE_READDIR] = {sizeof(struct pml_wire_readdir), check_readdir},
	[PML_WIRE_READLINK] = {sizeof(struct pml_wire_inode), check_inode},
	[PML_WIRE_GETXATTR] = {sizeof(struct pml_wire_xattr), check_getxattr},
	[PML_WIRE_LISTXATTR] = {sizeof(struct pml_wire_xattr), check_listxattr},
	[PML_WIRE_STATFS] = {sizeof(struct pml_wire_empty), check_no_tail},
	[PML_WIRE_CREATE] = {sizeof(struct pml_wire_create), check_create},
	[PML_WIRE_MKDIR] = {sizeof(struct pml_wire_create), check_create},
	[PML_WIRE_SYMLINK] = {sizeof(struct pml_wire_symlink), check_symlink},
	[PML_WIRE_LINK] = {sizeof(struct pml_wire_link), check_link},
	[PML_WIRE_UNLINK] = {sizeof(struct pml_wire_name), check_unlink},
	[PML_WIRE_RENAME] = {sizeof(struct pml_wire_rename), check_rename},
	[PML_WIRE_CLONE] = {sizeof(struct pml_wire_clone), check_clone},
	[PML_WIRE_LEASE] = {sizeof(struct pml_wire_lease), check_lease},
	[PML_WIRE_RETURN] = {sizeof(struct pml_wire_return), check_return},
	[PML_WIRE_DOWNGRADE] = {sizeof(struct pml_wire_return), check_return},
	[PML_WIRE_COMMIT] = {sizeof(struct pml_wire_commit), check_commit},
	[PML_WIRE_ACK] = {sizeof(struct pml_wire_return), check_return},
};

/* ---- what the server sends ---------------------------------------------- */

static const char *check_attr(const struct pml_wire_attr *attr)
{
	if (attr->size_bytes > INT64_MAX)
		return "size";
	if (attr->atime_ns > 999999999u || attr->mtime_ns > 999999999u ||
	    attr->ctime_ns > 999999999u)
		return "time";
	if (attr->mode & ~(uint32_t)(S_IFMT | 07777))
		return "mode";
	return check_handle(&attr->handle);
}

static const char *check_hello_reply(const union pml_message *msg, size_t tail_bytes)
{
	const struct pml_wire_hello_reply *m = &msg->hello_reply;
	if (tail_bytes)
		return "length";
	if (m->reserved)
		return "a reserved field is set";
	return m->method > PML_WIRE_AUTH_SECRET ? "method" : NULL;
}

static const char *check_auth_reply(const union pml_message *msg, size_t tail_bytes)
{
	const struct pml_wire_auth_reply *m = &msg->auth_reply;
	if (tail_bytes)
		return "length";
	if (m->reserved)
		return "a reserved field is set";
	if (m->path_bytes > PML_WIRE_PATH_MAX)
		return "length of the path";
	if (m->term_ms == 0)
		return "term";
	if (!is_durability(m->durability))
		return "durability";
	if (m->flags & ~PML_WIRE_SESSION_READ_ONLY)
		return "flags";
	if (m->credits == 0)
		return "credits";
	if (m->max_lease_bytes == 0)
		return "largest lease";
	return check_attr(&m->root);
}

static const char *check_attr_reply(const union pml_message *msg, size_t tail_bytes)
{
	return tail_bytes ? "length" : check_attr(&msg->attr_reply.attr);
}

static const char *check_data_reply(const union pml_message *msg, size_t tail_bytes)
{
	const struct pml_wire_data_reply *m = &msg->data_reply;
	if (m->reserved)
		return "a reserved field is set";
	return m->total_bytes < tail_bytes ? "length of the whole" : NULL;
}

static const char *check_statfs_reply(const union pml_message *msg, size_t tail_bytes)
{
	const struct pml_wire_statfs_reply *m = &msg->statfs_reply;
	if (tail_bytes)
		return "length";
	if (m->block_bytes == 0 || m->blocks > UINT64_MAX / m->block_bytes ||
	    m->blocks_free > m->blocks)
		return "number of blocks";
	return m->inodes_free > m->inodes ? "number of inodes" : NULL;
}

static const char *check_clone_reply(const union pml_message *msg, size_t tail_bytes)
{
	if (tail_bytes)
		return "length";
	return msg->clone_reply.bytes > INT64_MAX ? "length of the clone" : NULL;
}

/* @entry: @room bytes are readable.  *ret_bytes: how many of them it takes. */
static const char *check_dirent(const uint8_t *entry, size_t room, size_t *ret_bytes)
{
	struct pml_wire_dirent dirent;
	if (room < sizeof(dirent))
		return "a directory entry is cut off";
	memcpy(&dirent, entry, sizeof(dirent));
	if (dirent.name_bytes == 0 || dirent.name_bytes > PML_WIRE_NAME_MAX)
		return "length of the name";

	size_t bytes = pml_codec_dirent_bytes(dirent.name_bytes);
	if (room < bytes)
		return "a directory entry is cut off";
	if (dirent.ino == 0)
		return "inode number 0";
	if (dirent.cookie == 0 || dirent.cookie > INT64_MAX)
		return "cookie";
	if (dirent.mode & ~(uint32_t)S_IFMT)
		return "mode";
	for (size_t i = sizeof(dirent) + dirent.name_bytes; i < bytes; i++)
		if (entry[i])
			return "padding is not zero";

	*ret_bytes = bytes;
	return check_name(entry + sizeof(dirent), dirent.name_bytes);
}

static const char *check_readdir_reply(const union pml_message *msg, size_t tail_bytes)
{
	const struct pml_wire_readdir_reply *m = &msg->readdir_reply;
	if (m->is_end > 1)
		return "is_end";
	/* The tail bounds the loop: every entry takes more than nothing. */
	const uint8_t *entry = msg->bytes + sizeof(*m);
	for (uint32_t i = 0; i < m->count; i++) {
		size_t bytes = 0;
		const char *wrong = check_dirent(entry, tail_bytes, &bytes);
		if (wrong)
			return wrong;
		entry += bytes;
		tail_bytes -= bytes;
	}
	return tail_bytes ? "length" : NULL;
}

static const char *check_lease_reply(const union pml_message *msg, size_t tail_bytes)
{
	const struct pml_wire_lease_reply *m = &msg->lease_reply;
	if (m->nsegments > PML_LEASE_SEGMENTS_MAX ||
	    tail_bytes != m->nsegments * sizeof(struct pml_wire_segment))
		return "number of segments";
	if (m->reserved)
		return "a reserved field is set";
	if (!is_durability(m->durability))
		return "durability";
	if (m->lease_id == 0)
		return "lease number 0";
	if (m->end_byte <= m->first_byte || m->end_byte > INT64_MAX || m->file_size > INT64_MAX ||
	    m->written_end_byte > m->end_byte)
		return "range";
	if (m->term_ms == 0)
		return "term";

	uint64_t from = m->first_byte;
	for (uint32_t i = 0; i < m->nsegments; i++) {
		struct pml_wire_segment s;
		memcpy(&s, msg->bytes + sizeof(*m) + i * sizeof(s), sizeof(s));
		if (s.reserved)
			return "a reserved field is set";
		if (!is_range(s.first_byte, s.len_bytes) || s.first_byte < from ||
		    s.first_byte + s.len_bytes > m->end_byte)
			return "range of a segment";
		if (s.remote_addr > UINT64_MAX - s.len_bytes)
			return "remote address";
		from = s.first_byte + s.len_bytes;
	}
	return NULL;
}

static const struct shape replies[] = {
	[PML_WIRE_HELLO] = {sizeof(struct pml_wire_hello_reply), check_hello_reply},
	[PML_WIRE_AUTH] = {sizeof(struct pml_wire_auth_reply), check_auth_reply},
	[PML_WIRE_RENEW] = {sizeof(struct pml_wire_empty), check_no_tail},
	[PML_WIRE_LOOKUP] = {sizeof(struct pml_wire_attr_reply), check_attr_reply},
	[PML_WIRE_GETATTR] = {sizeof(struct pml_wire_attr_reply), check_attr_reply},
	[PML_WIRE_SETATTR] = {sizeof(struct pml_wire_attr_reply), check_attr_reply},
	[PML_WIRE_READDIR] = {sizeof(struct pml_wire_readdir_reply), check_readdir_reply},
	[PML_WIRE_READLINK] = {sizeof(struct pml_wire_data_reply), check_data_reply},
	[PML_WIRE_GETXATTR] = {sizeof(struct pml_wire_data_reply), check_data_reply},
	[PML_WIRE_LISTXATTR] = {sizeof(struct pml_wire_data_reply), check_data_reply},
	[PML_WIRE_STATFS] = {sizeof(struct pml_wire_statfs_reply), check_statfs_reply},
	[PML_WIRE_CREATE] = {sizeof(struct pml_wire_attr_reply), check_attr_reply},
	[PML_WIRE_MKDIR] = {sizeof(struct pml_wire_attr_reply), check_attr_reply},
	[PML_WIRE_SYMLINK] = {sizeof(struct pml_wire_attr_reply), check_attr_reply},
	[PML_WIRE_LINK] = {sizeof(struct pml_wire_attr_reply), check_attr_reply},
	[PML_WIRE_UNLINK] = {sizeof(struct pml_wire_empty), check_no_tail},
	[PML_WIRE_RENAME] = {sizeof(struct pml_wire_empty), check_no_tail},
	[PML_WIRE_CLONE] = {sizeof(struct pml_wire_clone_reply), check_clone_reply},
	[PML_WIRE_LEASE] = {sizeof(struct pml_wire_lease_reply), check_lease_reply},
	[PML_WIRE_RETURN] = {sizeof(struct pml_wire_empty), check_no_tail},
	[PML_WIRE_DOWNGRADE] = {sizeof(struct pml_wire_lease_reply), check_lease_reply},
	[PML_WIRE_COMMIT] = {sizeof(struct pml_wire_empty), check_no_tail},
};

static const char *check_recall(const union pml_message *msg, size_t tail_bytes)
{
	const struct pml_wire_recall *m = &msg->recall;
	if (tail_bytes)
		return "length";
	if (m->op >= PML_OP_COUNT && m->op != PML_WIRE_OP_LEASE && m->op != PML_WIRE_OP_ORPHAN)
		return "operation";
	return m->lease_id == 0 ? "lease number 0" : NULL;
}

static const char *check_revoked(const union pml_message *msg, size_t tail_bytes)
{
	const struct pml_wire_revoked *m = &msg->revoked;
	if (tail_bytes)
		return "length";
	if (m->reserved)
		return "a reserved field is set";
	if (m->why > PML_END_EVICTED)
		return "reason";
	if (m->lease_id == PML_WIRE_SESSION_ITSELF && m->why != PML_END_EVICTED)
		return "lease number 0";
	return NULL;
}

/* ---- headers ------------------------------------------------------------ */

/* What all messages share.  -EPROTONOSUPPORT: the version alone is wrong. */
static int check_header(const union pml_message *msg, size_t bytes, const char **ret_reason)
{
	const struct pml_wire_header *h = &msg->h;
	*ret_reason = "length";
	if (bytes < sizeof(*h) || bytes > PML_MSG_BYTES_MAX)
		return -EPROTO;
	*ret_reason = "magic number";
	if (h->magic != PML_WIRE_MAGIC)
		return -EPROTO;
	*ret_reason = "protocol version";
	if (h->version != PML_WIRE_VERSION)
		return -EPROTONOSUPPORT;
	*ret_reason = "length";
	if (h->bytes != bytes)
		return -EPROTO;
	*ret_reason = "flags";
	return h->flags & ~(PML_WIRE_RETRY | PML_WIRE_QUIET) ? -EPROTO : 0;
}

static const char *check_shape(const struct shape *shape, const union pml_message *msg,
			       size_t bytes)
{
	if (!shape->check)
		return "type";
	if (bytes < shape->fixed_bytes)
		return "length";
	return shape->check(msg, bytes - shape->fixed_bytes);
}

static const char *check_request(const union pml_message *msg, size_t bytes)
{
	const struct pml_wire_header *h = &msg->h;
	if (h->request_id == 0)
		return "request number 0";
	if (h->status || h->reply_to)
		return "a request that is a reply";
	if (h->type >= PML_ARRAY_LEN(requests))
		return "type";
	return check_shape(&requests[h->type], msg, bytes);
}

/* A text for a person's eyes: nothing that moves a terminal's cursor. */
static const char *check_reason(const uint8_t *text, size_t bytes)
{
	if (bytes > PML_WIRE_REASON_MAX)
		return "length of the reason";
	for (size_t i = 0; i < bytes; i++)
		if (text[i] < 0x20 || text[i] > 0x7e)
			return "reason";
	return NULL;
}

static const char *check_reply(const union pml_message *msg, size_t bytes)
{
	const struct pml_wire_header *h = &msg->h;
	if (h->request_id == 0)
		return "request number 0";
	if (h->flags)
		return "flags";
	if (h->reply_to >= PML_ARRAY_LEN(replies) || !replies[h->reply_to].check)
		return "type of the request";
	if (h->status > 0 || h->status < -4095)
		return "status";
	if (h->status)
		return check_reason(msg->bytes + sizeof(*h), bytes - sizeof(*h));
	return check_shape(&replies[h->reply_to], msg, bytes);
}

static const char *check_from_server(const union pml_message *msg, size_t bytes)
{
	static const struct shape recall = {sizeof(struct pml_wire_recall), check_recall};
	static const struct shape revoked = {sizeof(struct pml_wire_revoked), check_revoked};
	const struct pml_wire_header *h = &msg->h;

	if (h->type == PML_WIRE_REPLY)
		return check_reply(msg, bytes);
	if (h->type != PML_WIRE_RECALL && h->type != PML_WIRE_REVOKED)
		return "type";
	if (h->request_id || h->status || h->reply_to || h->flags)
		return "a notice that is a reply";
	return check_shape(h->type == PML_WIRE_RECALL ? &recall : &revoked, msg, bytes);
}

int pml_codec_check_request(const union pml_message *msg, size_t bytes, const char **ret_reason)
{
	int err = check_header(msg, bytes, ret_reason);
	if (err)
		return err;
	*ret_reason = check_request(msg, bytes);
	return *ret_reason ? -EPROTO : 0;
}

int pml_codec_check_from_server(const union pml_message *msg, size_t bytes, const char **ret_reason)
{
	int err = check_header(msg, bytes, ret_reason);
	if (err)
		return err;
	*ret_reason = check_from_server(msg, bytes);
	return *ret_reason ? -EPROTO : 0;
}

void pml_codec_header(struct pml_wire_header *ret_header, enum pml_wire_type type, size_t bytes,
		      uint32_t request_id)
{
	assert(bytes <= PML_MSG_BYTES_MAX);
	*ret_header = (struct pml_wire_header){
		.magic = PML_WIRE_MAGIC,
		.version = PML_WIRE_VERSION,
		.type = (uint16_t)type,
		.bytes = (uint32_t)bytes,
		.request_id = request_id,
	};
}

bool pml_codec_is_change(uint16_t type)
{
	switch ((enum pml_wire_type)type) {
	case PML_WIRE_SETATTR:
	case PML_WIRE_CREATE:
	case PML_WIRE_MKDIR:
	case PML_WIRE_SYMLINK:
	case PML_WIRE_LINK:
	case PML_WIRE_UNLINK:
	case PML_WIRE_RENAME:
	case PML_WIRE_CLONE:
		return true;
	default:
		return false;
	}
}

bool pml_codec_may_wait(uint16_t type)
{
	return type == PML_WIRE_SETATTR || type == PML_WIRE_CLONE || type == PML_WIRE_COMMIT;
}

const char *pml_codec_request_name(uint16_t type)
{
	static const char *const names[] = {
		[PML_WIRE_HELLO] = "hello",
		[PML_WIRE_AUTH] = "auth",
		[PML_WIRE_RENEW] = "renew",
		[PML_WIRE_LOOKUP] = "lookup",
		[PML_WIRE_GETATTR] = "getattr",
		[PML_WIRE_SETATTR] = "setattr",
		[PML_WIRE_READDIR] = "readdir",
		[PML_WIRE_READLINK] = "readlink",
		[PML_WIRE_GETXATTR] = "getxattr",
		[PML_WIRE_LISTXATTR] = "listxattr",
		[PML_WIRE_STATFS] = "statfs",
		[PML_WIRE_CREATE] = "create",
		[PML_WIRE_MKDIR] = "mkdir",
		[PML_WIRE_SYMLINK] = "symlink",
		[PML_WIRE_LINK] = "link",
		[PML_WIRE_UNLINK] = "unlink",
		[PML_WIRE_RENAME] = "rename",
		[PML_WIRE_CLONE] = "clone",
		[PML_WIRE_LEASE] = "lease",
		[PML_WIRE_RETURN] = "return",
		[PML_WIRE_DOWNGRADE] = "downgrade",
		[PML_WIRE_COMMIT] = "commit",
		[PML_WIRE_ACK] = "ack",
	};
	return type < PML_ARRAY_LEN(names) && names[type] ? names[type] : "unknown";
}
