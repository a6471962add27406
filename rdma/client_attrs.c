/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * client_attrs.c -- client library: attributes of files, by path and by handle; clone
 *
 * What the server would end the session for is refused here.
 */
#include <string.h>
#include <sys/stat.h> /* UTIME_ */

#include "client_i.h"

static_assert(sizeof(struct pml_client_handle) == sizeof(struct pml_wire_handle), "opaque");

/* How often a value that changes while it is read in pieces is begun again. */
#define PIECE_TRIES 8

static const char by_handle[] = "by handle";

void pml_client_put_handle(const struct pml_client_handle *from, struct pml_wire_handle *ret_handle)
{
	memcpy(ret_handle, from->opaque, sizeof(*ret_handle));
}

void pml_client_take_attr(const struct pml_wire_attr *from, struct pml_client_attr *ret_attr)
{
	*ret_attr = (struct pml_client_attr){
		.ino = from->handle.ino,
		.generation = from->handle.generation,
		.size_bytes = from->size_bytes,
		.blocks_512 = from->blocks_512,
		.atime_s = from->atime_s,
		.mtime_s = from->mtime_s,
		.ctime_s = from->ctime_s,
		.atime_ns = from->atime_ns,
		.mtime_ns = from->mtime_ns,
		.ctime_ns = from->ctime_ns,
		.mode = from->mode,
		.nlink = from->nlink,
		.uid = from->uid,
		.gid = from->gid,
		.rdev_major = from->rdev >> 20,
		.rdev_minor = from->rdev & 0xfffffu,
	};
	memcpy(ret_attr->handle.opaque, &from->handle, sizeof(from->handle));
}

/* ---- stat, statfs ------------------------------------------------------- */

int pml_client_ask_attr(struct pml_client *client, const struct pml_client_handle *inode,
			const char *what, struct pml_client_attr *ret_attr)
{
	union pml_message msg = {.inode = {.inode = {0}}};
	union pml_message reply;
	pml_client_put_handle(inode, &msg.inode.inode);
	int err =
		pml_client_request(client, &msg, sizeof(msg.inode), PML_WIRE_GETATTR, what, &reply);
	if (!err)
		pml_client_take_attr(&reply.attr_reply.attr, ret_attr);
	return err;
}

int pml_client_stat(struct pml_client *client, const char *path, struct pml_client_attr *ret_attr)
{
	struct pml_client_attempt attempt = pml_client_attempt(client);
	int err;
	do
		err = pml_client_walk(client, path, ret_attr);
	while (pml_client_again(client, &attempt, err));
	return err;
}

int pml_client_stat_at(struct pml_client *client, const struct pml_client_handle *inode,
		       struct pml_client_attr *ret_attr)
{
	return pml_client_ask_attr(client, inode, by_handle, ret_attr);
}

int pml_client_statfs(struct pml_client *client, struct pml_client_statfs *ret_stat)
{
	union pml_message msg;
	union pml_message reply;
	int err = pml_client_request(client, &msg, sizeof(struct pml_wire_empty), PML_WIRE_STATFS,
				     "statfs", &reply);
	if (err)
		return err;
	const struct pml_wire_statfs_reply *m = &reply.statfs_reply;
	*ret_stat = (struct pml_client_statfs){
		.blocks = m->blocks,
		.blocks_free = m->blocks_free,
		.inodes = m->inodes,
		.inodes_free = m->inodes_free,
		.block_bytes = m->block_bytes,
		.name_max = m->name_max,
	};
	return 0;
}

/* ---- setattr ------------------------------------------------------------ */

static bool is_valid(const struct pml_client_set *set)
{
	const uint32_t atimes = PML_CLIENT_SET_ATIME | PML_CLIENT_SET_ATIME_NOW;
	const uint32_t mtimes = PML_CLIENT_SET_MTIME | PML_CLIENT_SET_MTIME_NOW;
	return !(set->what & ~PML_WIRE_SET_ALL) && (set->what & atimes) != atimes &&
	       (set->what & mtimes) != mtimes && set->size_bytes <= INT64_MAX &&
	       set->atime_ns < 1000000000u && set->mtime_ns < 1000000000u;
}

static int set_attr(struct pml_client *client, const struct pml_client_handle *inode,
		    const struct pml_client_set *set, const char *what,
		    struct pml_client_attr *ret_attr)
{
	static_assert(PML_CLIENT_SET_SIZE == PML_WIRE_SET_SIZE &&
			      PML_CLIENT_SET_MTIME_NOW == PML_WIRE_SET_MTIME_NOW,
		      "the same bits");
	if (!is_valid(set))
		return pml_client_fail(-EINVAL, "%s: attributes to set", what);
	union pml_message msg = {.setattr = {.what = set->what,
					     .mode = set->mode & 07777,
					     .uid = set->uid,
					     .gid = set->gid,
					     .size_bytes = set->size_bytes,
					     .atime_s = set->atime_s,
					     .mtime_s = set->mtime_s,
					     .atime_ns = set->atime_ns,
					     .mtime_ns = set->mtime_ns}};
	union pml_message reply;
	pml_client_put_handle(inode, &msg.setattr.inode);
	int err = pml_client_request(client, &msg, sizeof(msg.setattr), PML_WIRE_SETATTR, what,
				     &reply);
	if (!err && ret_attr)
		pml_client_take_attr(&reply.attr_reply.attr, ret_attr);
	return err;
}

int pml_client_setattr(struct pml_client *client, const char *path,
		       const struct pml_client_set *set, struct pml_client_attr *ret_attr)
{
	struct pml_client_attempt attempt = pml_client_attempt(client);
	struct pml_client_attr attr;
	int err;
	do {
		err = pml_client_walk(client, path, &attr);
		if (!err)
			err = set_attr(client, &attr.handle, set, path, ret_attr);
	} while (pml_client_again(client, &attempt, err));
	return err;
}

int pml_client_setattr_at(struct pml_client *client, const struct pml_client_handle *inode,
			  const struct pml_client_set *set, struct pml_client_attr *ret_attr)
{
	return set_attr(client, inode, set, by_handle, ret_attr);
}

int pml_client_chmod(struct pml_client *client, const char *path, mode_t mode)
{
	const struct pml_client_set set = {.what = PML_CLIENT_SET_MODE, .mode = mode};
	return pml_client_setattr(client, path, &set, NULL);
}

int pml_client_chown(struct pml_client *client, const char *path, uid_t uid, gid_t gid)
{
	const struct pml_client_set set = {
		.what = (uid != (uid_t)-1 ? PML_CLIENT_SET_UID : 0u) |
			(gid != (gid_t)-1 ? PML_CLIENT_SET_GID : 0u),
		.uid = uid,
		.gid = gid,
	};
	return pml_client_setattr(client, path, &set, NULL);
}

int pml_client_truncate(struct pml_client *client, const char *path, uint64_t size_bytes)
{
	const struct pml_client_set set = {.what = PML_CLIENT_SET_SIZE, .size_bytes = size_bytes};
	return pml_client_setattr(client, path, &set, NULL);
}

/* Of one time: @given and @now are its bits. */
static uint32_t what_of(const struct timespec *time, uint32_t given, uint32_t now)
{
	if (!time || time->tv_nsec == UTIME_NOW)
		return now;
	return time->tv_nsec == UTIME_OMIT ? 0 : given;
}

int pml_client_utimens(struct pml_client *client, const char *path, const struct timespec times[2])
{
	const struct timespec *atime = times ? &times[0] : NULL;
	const struct timespec *mtime = times ? &times[1] : NULL;
	struct pml_client_set set = {
		.what = what_of(atime, PML_CLIENT_SET_ATIME, PML_CLIENT_SET_ATIME_NOW) |
			what_of(mtime, PML_CLIENT_SET_MTIME, PML_CLIENT_SET_MTIME_NOW),
	};
	if (set.what == 0)
		return 0;
	if (set.what & PML_CLIENT_SET_ATIME) {
		set.atime_s = atime->tv_sec;
		set.atime_ns = (uint32_t)atime->tv_nsec;
	}
	if (set.what & PML_CLIENT_SET_MTIME) {
		set.mtime_s = mtime->tv_sec;
		set.mtime_ns = (uint32_t)mtime->tv_nsec;
	}
	return pml_client_setattr(client, path, &set, NULL);
}

/* ---- readlink, extended attributes -------------------------------------- */

static int read_link(struct pml_client *client, const struct pml_client_handle *inode,
		     const char *what, char *ret_target, size_t bytes)
{
	union pml_message msg = {.inode = {.inode = {0}}};
	union pml_message reply;
	pml_client_put_handle(inode, &msg.inode.inode);
	int err = pml_client_request(client, &msg, sizeof(msg.inode), PML_WIRE_READLINK, what,
				     &reply);
	if (err)
		return err;
	size_t got = reply.h.bytes - sizeof(reply.data_reply);
	if (got != reply.data_reply.total_bytes)
		return pml_client_fail(-EPROTO, "%s: the server shows a part of the target", what);
	if (got >= bytes)
		return pml_client_fail(-ERANGE, "%s: the target has %zu bytes", what, got);
	memcpy(ret_target, reply.bytes + sizeof(reply.data_reply), got);
	ret_target[got] = 0;
	return 0;
}

int pml_client_readlink(struct pml_client *client, const char *path, char *ret_target, size_t bytes)
{
	struct pml_client_attempt attempt = pml_client_attempt(client);
	struct pml_client_attr attr;
	int err;
	do {
		err = pml_client_walk(client, path, &attr);
		if (!err)
			err = read_link(client, &attr.handle, path, ret_target, bytes);
	} while (pml_client_again(client, &attempt, err));
	return err;
}

int pml_client_readlink_at(struct pml_client *client, const struct pml_client_handle *inode,
			   char *ret_target, size_t bytes)
{
	return read_link(client, inode, by_handle, ret_target, bytes);
}

/* A value, or list of names (name NULL), that comes in pieces. */
struct value {
	const struct pml_client_handle *inode;
	const char *name;
	const char *what; /* for messages */
	void *to;
	size_t max_bytes;
};

static int ask_piece(struct pml_client *client, const struct value *value, size_t first_byte,
		     union pml_message *ret_reply)
{
	union pml_message msg = {.xattr = {.first_byte = (uint32_t)first_byte}};
	size_t name_bytes = value->name ? strlen(value->name) : 0;
	if (value->name && name_bytes == 0)
		return pml_client_fail(-EINVAL, "%s: no name of an attribute", value->what);
	if (name_bytes > PML_WIRE_NAME_MAX)
		return pml_client_fail(
			-ERANGE, "%s: the name of an attribute has 255 bytes at most", value->what);
	pml_client_put_handle(value->inode, &msg.xattr.inode);
	if (value->name)
		memcpy(msg.bytes + sizeof(msg.xattr), value->name, name_bytes);
	return pml_client_request(client, &msg, sizeof(msg.xattr) + name_bytes,
				  value->name ? PML_WIRE_GETXATTR : PML_WIRE_LISTXATTR, value->what,
				  ret_reply);
}

/* -EAGAIN: another length than before, or no progress: from the start again. */
static int read_once(struct pml_client *client, const struct value *value, size_t *ret_bytes)
{
	size_t done = 0, total = 0;
	do {
		union pml_message reply;
		int err = ask_piece(client, value, done, &reply);
		if (err)
			return err;
		size_t now = reply.data_reply.total_bytes;
		size_t got = reply.h.bytes - sizeof(reply.data_reply);
		if (value->max_bytes == 0) {
			*ret_bytes = now;
			return 0;
		}
		if (done > 0 && now != total)
			return -EAGAIN;
		total = now;
		if (total > value->max_bytes)
			return pml_client_fail(-ERANGE, "%s: there are %zu bytes", value->what,
					       total);
		if (got > total - done || (got == 0 && done < total))
			return -EAGAIN;
		memcpy((char *)value->to + done, reply.bytes + sizeof(reply.data_reply), got);
		done += got;
	} while (done < total);
	*ret_bytes = total;
	return 0;
}

static int read_value(struct pml_client *client, const struct value *value, size_t *ret_bytes)
{
	int err = -EAGAIN;
	for (int i = 0; i < PIECE_TRIES && err == -EAGAIN; i++)
		err = read_once(client, value, ret_bytes);
	return err == -EAGAIN ? pml_client_fail(err, "%s: it changes while it is read", value->what)
			      : err;
}

int pml_client_getxattr(struct pml_client *client, const char *path, const char *name, void *value,
			size_t max_bytes, size_t *ret_bytes)
{
	struct pml_client_attempt attempt = pml_client_attempt(client);
	struct pml_client_attr attr;
	const struct value wanted = {&attr.handle, name, path, value, max_bytes};
	int err;
	do {
		err = pml_client_walk(client, path, &attr);
		if (!err)
			err = read_value(client, &wanted, ret_bytes);
	} while (pml_client_again(client, &attempt, err));
	return err;
}

int pml_client_getxattr_at(struct pml_client *client, const struct pml_client_handle *inode,
			   const char *name, void *value, size_t max_bytes, size_t *ret_bytes)
{
	const struct value wanted = {inode, name, by_handle, value, max_bytes};
	return read_value(client, &wanted, ret_bytes);
}

int pml_client_listxattr(struct pml_client *client, const char *path, char *names, size_t max_bytes,
			 size_t *ret_bytes)
{
	struct pml_client_attempt attempt = pml_client_attempt(client);
	struct pml_client_attr attr;
	const struct value wanted = {&attr.handle, NULL, path, names, max_bytes};
	int err;
	do {
		err = pml_client_walk(client, path, &attr);
		if (!err)
			err = read_value(client, &wanted, ret_bytes);
	} while (pml_client_again(client, &attempt, err));
	return err;
}

int pml_client_listxattr_at(struct pml_client *client, const struct pml_client_handle *inode,
			    char *names, size_t max_bytes, size_t *ret_bytes)
{
	const struct value wanted = {inode, NULL, by_handle, names, max_bytes};
	return read_value(client, &wanted, ret_bytes);
}

/* ---- clone -------------------------------------------------------------- */

struct range {
	struct pml_client_handle src;
	struct pml_client_handle dst;
	uint64_t src_byte;
	uint64_t dst_byte;
	uint64_t len_bytes;
};

static bool is_inside(uint64_t first_byte, uint64_t len_bytes)
{
	uint64_t bytes = len_bytes ? len_bytes : 1;
	return bytes <= INT64_MAX && first_byte <= INT64_MAX - bytes;
}

static int ask_clone(struct pml_client *client, const struct range *range, const char *what,
		     uint64_t *ret_bytes)
{
	if (!is_inside(range->src_byte, range->len_bytes) ||
	    !is_inside(range->dst_byte, range->len_bytes))
		return pml_client_fail(-EINVAL, "%s: no range of a file", what);
	union pml_message msg = {.clone = {.src_byte = range->src_byte,
					   .dst_byte = range->dst_byte,
					   .len_bytes = range->len_bytes}};
	union pml_message reply;
	pml_client_put_handle(&range->src, &msg.clone.src);
	pml_client_put_handle(&range->dst, &msg.clone.dst);
	int err = pml_client_request(client, &msg, sizeof(msg.clone), PML_WIRE_CLONE, what, &reply);
	if (!err && ret_bytes)
		*ret_bytes = reply.clone_reply.bytes;
	return err;
}

int pml_client_clone(struct pml_client *client, const char *src, uint64_t src_byte, const char *dst,
		     uint64_t dst_byte, uint64_t len_bytes, uint64_t *ret_bytes)
{
	struct pml_client_attempt attempt = pml_client_attempt(client);
	struct pml_client_attr from, to;
	int err;
	do {
		err = pml_client_walk(client, src, &from);
		if (!err)
			err = pml_client_walk(client, dst, &to);
		if (err)
			continue;
		const struct range range = {from.handle, to.handle, src_byte, dst_byte, len_bytes};
		err = ask_clone(client, &range, dst, ret_bytes);
	} while (pml_client_again(client, &attempt, err));
	return err;
}

int pml_client_clone_at(struct pml_client *client, const struct pml_client_handle *src,
			uint64_t src_byte, const struct pml_client_handle *dst, uint64_t dst_byte,
			uint64_t len_bytes, uint64_t *ret_bytes)
{
	const struct range range = {*src, *dst, src_byte, dst_byte, len_bytes};
	return ask_clone(client, &range, by_handle, ret_bytes);
}
