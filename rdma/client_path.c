/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * client_path.c -- client library: names and attributes
 *
 * Paths are walked name by name with lookup requests; symbolic links are shown,
 * not followed, and ".." is refused, so a path always means what it says.
 */
#include <stdio.h>
#include <string.h>

#include "client_i.h"

static_assert(sizeof(struct pml_client_handle) == sizeof(struct pml_wire_handle), "opaque");

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

/*
 * Takes the next name off *@path.  Returns its length, 0 at the end, -ENAMETOOLONG or
 * -EINVAL (a "..").
 */
static int next_name(const char **path, const char **ret_name)
{
	for (;;) {
		const char *name = *path + strspn(*path, "/");
		size_t len = strcspn(name, "/");
		*path = name + len;
		*ret_name = name;
		if (len == 1 && name[0] == '.')
			continue;
		if (len == 2 && name[0] == '.' && name[1] == '.')
			return -EINVAL;
		return len > PML_WIRE_NAME_MAX ? -ENAMETOOLONG : (int)len;
	}
}

static int fail_name(const char *path, int err)
{
	return pml_client_fail(err,
			       err == -EINVAL ? "%s: \"..\" cannot be used here"
					      : "%s: a name in it is longer than 255 bytes",
			       path);
}

static int get_root(struct pml_client *client, struct pml_client_attr *ret_attr)
{
	union pml_message msg = {.inode = {.inode = {0}}};
	union pml_message reply;
	pml_client_put_handle(&client->root.handle, &msg.inode.inode);
	int err =
		pml_client_request(client, &msg, sizeof(msg.inode), PML_WIRE_GETATTR, "/", &reply);
	if (!err)
		pml_client_take_attr(&reply.attr_reply.attr, ret_attr);
	return err;
}

/* @what: the whole path, for messages. */
static int lookup(struct pml_client *client, const struct pml_client_handle *dir, const char *name,
		  int name_bytes, const char *what, struct pml_client_attr *ret_attr)
{
	union pml_message msg = {.name = {.flags = 0}};
	union pml_message reply;
	pml_client_put_handle(dir, &msg.name.dir);
	memcpy(msg.bytes + sizeof(msg.name), name, (size_t)name_bytes);
	int err = pml_client_request(client, &msg, sizeof(msg.name) + (size_t)name_bytes,
				     PML_WIRE_LOOKUP, what, &reply);
	if (!err)
		pml_client_take_attr(&reply.attr_reply.attr, ret_attr);
	return err;
}

int pml_client_stat(struct pml_client *client, const char *path, struct pml_client_attr *ret_attr)
{
	const char *rest = path;
	const char *name;
	int len = next_name(&rest, &name);
	if (len == 0)
		return get_root(client, ret_attr);

	struct pml_client_attr attr = client->root;
	for (; len > 0; len = next_name(&rest, &name)) {
		int err = lookup(client, &attr.handle, name, len, path, &attr);
		if (err)
			return err;
	}
	if (len < 0)
		return fail_name(path, len);
	*ret_attr = attr;
	return 0;
}

/* Splits off the last name. */
static int find_parent(struct pml_client *client, const char *path,
		       struct pml_client_handle *ret_dir, const char **ret_name,
		       int *ret_name_bytes)
{
	struct pml_client_attr attr = client->root;
	const char *rest = path;
	const char *name;
	int len = next_name(&rest, &name);
	if (len == 0)
		return pml_client_fail(-EISDIR, "%s: give the name of a file", path);
	while (len > 0) {
		const char *next;
		int next_len = next_name(&rest, &next);
		if (next_len == 0)
			break;
		int err = lookup(client, &attr.handle, name, len, path, &attr);
		if (err)
			return err;
		name = next;
		len = next_len;
	}
	if (len < 0)
		return fail_name(path, len);
	*ret_dir = attr.handle;
	*ret_name = name;
	*ret_name_bytes = len;
	return 0;
}

int pml_client_create(struct pml_client *client, const char *path, mode_t mode, bool exclusive,
		      struct pml_client_attr *ret_attr)
{
	struct pml_client_handle dir = {0};
	const char *name = "";
	int name_bytes = 0;
	int err = find_parent(client, path, &dir, &name, &name_bytes);
	if (err)
		return err;

	union pml_message msg = {.create = {.mode = mode & 0777, .exclusive = exclusive}};
	union pml_message reply;
	pml_client_put_handle(&dir, &msg.create.dir);
	memcpy(msg.bytes + sizeof(msg.create), name, (size_t)name_bytes);
	err = pml_client_request(client, &msg, sizeof(msg.create) + (size_t)name_bytes,
				 PML_WIRE_CREATE, path, &reply);
	if (!err)
		pml_client_take_attr(&reply.attr_reply.attr, ret_attr);
	return err;
}

struct listing {
	bool (*emit)(void *arg, const char *name, uint64_t ino, mode_t type);
	void *arg;
	uint64_t cookie; /* of the last entry */
	bool is_end;
};

/* Assumes: the reply is checked. */
static void emit_entries(struct listing *list, const union pml_message *reply)
{
	const uint8_t *at = reply->bytes + sizeof(reply->readdir_reply);
	list->is_end = reply->readdir_reply.is_end;
	for (uint32_t i = 0; i < reply->readdir_reply.count; i++) {
		struct pml_wire_dirent entry;
		char name[PML_WIRE_NAME_MAX + 1];
		memcpy(&entry, at, sizeof(entry));
		memcpy(name, at + sizeof(entry), entry.name_bytes);
		name[entry.name_bytes] = 0;
		at += pml_codec_dirent_bytes(entry.name_bytes);
		list->cookie = entry.cookie;
		if (!list->emit(list->arg, name, entry.ino, entry.mode)) {
			list->is_end = true;
			return;
		}
	}
}

int pml_client_readdir(struct pml_client *client, const char *path,
		       bool (*emit)(void *arg, const char *name, uint64_t ino, mode_t type),
		       void *arg)
{
	struct pml_client_attr attr;
	int err = pml_client_stat(client, path, &attr);
	if (err)
		return err;

	struct listing list = {.emit = emit, .arg = arg};
	while (!list.is_end) {
		union pml_message msg = {.readdir = {.cookie = list.cookie}};
		union pml_message reply;
		pml_client_put_handle(&attr.handle, &msg.readdir.dir);
		err = pml_client_request(client, &msg, sizeof(msg.readdir), PML_WIRE_READDIR, path,
					 &reply);
		if (err)
			return err;
		emit_entries(&list, &reply);
		if (reply.readdir_reply.count == 0 && !list.is_end)
			return pml_client_fail(-EPROTO, "%s: the server lists nothing and no end",
					       path);
	}
	return 0;
}
