/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * client_names.c -- client library: entries of directories, by path and by handle
 *
 * Both forms come to a place, a directory and a name in it, and then are one request.
 */
#include <string.h>

#include "client_i.h"

/* Appends a place's name to a message. */
static void put_name(union pml_message *msg, size_t *bytes, const struct pml_client_place *place)
{
	size_t name_bytes = strlen(place->name);
	memcpy(msg->bytes + *bytes, place->name, name_bytes);
	*bytes += name_bytes;
}

/* A request that is answered with attributes; @ret_attr may be NULL. */
static int ask(struct pml_client *client, union pml_message *msg, size_t bytes,
	       enum pml_wire_type type, const char *what, struct pml_client_attr *ret_attr)
{
	union pml_message reply;
	int err = pml_client_request(client, msg, bytes, type, what, &reply);
	if (!err && ret_attr)
		pml_client_take_attr(&reply.attr_reply.attr, ret_attr);
	return err;
}

/* ---- look up ------------------------------------------------------------ */

int pml_client_look_up(struct pml_client *client, const struct pml_client_place *place,
		       struct pml_client_attr *ret_attr)
{
	union pml_message msg = {.name = {.flags = 0}};
	size_t bytes = sizeof(msg.name);
	pml_client_put_handle(&place->dir, &msg.name.dir);
	put_name(&msg, &bytes, place);
	return ask(client, &msg, bytes, PML_WIRE_LOOKUP, place->what, ret_attr);
}

int pml_client_lookup_at(struct pml_client *client, const struct pml_client_handle *dir,
			 const char *name, struct pml_client_attr *ret_attr)
{
	struct pml_client_place place;
	int err = pml_client_place_at(dir, name, &place);
	return err ? err : pml_client_look_up(client, &place, ret_attr);
}

/* ---- create, mkdir ------------------------------------------------------ */

static int make(struct pml_client *client, const struct pml_client_place *place,
		enum pml_wire_type type, mode_t mode, bool exclusive,
		struct pml_client_attr *ret_attr)
{
	union pml_message msg = {.create = {.mode = mode, .exclusive = exclusive}};
	size_t bytes = sizeof(msg.create);
	pml_client_put_handle(&place->dir, &msg.create.dir);
	put_name(&msg, &bytes, place);
	return ask(client, &msg, bytes, type, place->what, ret_attr);
}

int pml_client_create(struct pml_client *client, const char *path, mode_t mode, bool exclusive,
		      struct pml_client_attr *ret_attr)
{
	struct pml_client_attempt attempt = pml_client_attempt(client);
	struct pml_client_place place;
	int err;
	do {
		err = pml_client_walk_to(client, path, &place);
		if (!err)
			err = make(client, &place, PML_WIRE_CREATE, mode & 0777, exclusive,
				   ret_attr);
	} while (pml_client_again(client, &attempt, err));
	return err;
}

int pml_client_create_at(struct pml_client *client, const struct pml_client_handle *dir,
			 const char *name, mode_t mode, bool exclusive,
			 struct pml_client_attr *ret_attr)
{
	struct pml_client_place place;
	int err = pml_client_place_at(dir, name, &place);
	return err ? err : make(client, &place, PML_WIRE_CREATE, mode & 0777, exclusive, ret_attr);
}

int pml_client_mkdir(struct pml_client *client, const char *path, mode_t mode,
		     struct pml_client_attr *ret_attr)
{
	struct pml_client_attempt attempt = pml_client_attempt(client);
	struct pml_client_place place;
	int err;
	do {
		err = pml_client_walk_to(client, path, &place);
		if (!err)
			err = make(client, &place, PML_WIRE_MKDIR, mode & 01777, false, ret_attr);
	} while (pml_client_again(client, &attempt, err));
	return err;
}

int pml_client_mkdir_at(struct pml_client *client, const struct pml_client_handle *dir,
			const char *name, mode_t mode, struct pml_client_attr *ret_attr)
{
	struct pml_client_place place;
	int err = pml_client_place_at(dir, name, &place);
	return err ? err : make(client, &place, PML_WIRE_MKDIR, mode & 01777, false, ret_attr);
}

/* ---- symlink, link ------------------------------------------------------ */

static int make_symlink(struct pml_client *client, const char *target,
			const struct pml_client_place *place, struct pml_client_attr *ret_attr)
{
	size_t target_bytes = strlen(target);
	if (target_bytes == 0 || target_bytes > PML_WIRE_PATH_MAX)
		return pml_client_fail(target_bytes ? -ENAMETOOLONG : -ENOENT,
				       "%s: the target of a symbolic link has 1 to 4095 bytes",
				       place->what);
	union pml_message msg = {.symlink = {.name_bytes = (uint32_t)strlen(place->name),
					     .target_bytes = (uint32_t)target_bytes}};
	size_t bytes = sizeof(msg.symlink);
	pml_client_put_handle(&place->dir, &msg.symlink.dir);
	put_name(&msg, &bytes, place);
	memcpy(msg.bytes + bytes, target, target_bytes);
	return ask(client, &msg, bytes + target_bytes, PML_WIRE_SYMLINK, place->what, ret_attr);
}

int pml_client_symlink(struct pml_client *client, const char *target, const char *path,
		       struct pml_client_attr *ret_attr)
{
	struct pml_client_attempt attempt = pml_client_attempt(client);
	struct pml_client_place place;
	int err;
	do {
		err = pml_client_walk_to(client, path, &place);
		if (!err)
			err = make_symlink(client, target, &place, ret_attr);
	} while (pml_client_again(client, &attempt, err));
	return err;
}

int pml_client_symlink_at(struct pml_client *client, const char *target,
			  const struct pml_client_handle *dir, const char *name,
			  struct pml_client_attr *ret_attr)
{
	struct pml_client_place place;
	int err = pml_client_place_at(dir, name, &place);
	return err ? err : make_symlink(client, target, &place, ret_attr);
}

static int make_link(struct pml_client *client, const struct pml_client_handle *inode,
		     const struct pml_client_place *place, struct pml_client_attr *ret_attr)
{
	union pml_message msg = {.link = {.inode = {0}}};
	size_t bytes = sizeof(msg.link);
	pml_client_put_handle(inode, &msg.link.inode);
	pml_client_put_handle(&place->dir, &msg.link.dir);
	put_name(&msg, &bytes, place);
	return ask(client, &msg, bytes, PML_WIRE_LINK, place->what, ret_attr);
}

int pml_client_link(struct pml_client *client, const char *path, const char *new_path,
		    struct pml_client_attr *ret_attr)
{
	struct pml_client_attempt attempt = pml_client_attempt(client);
	struct pml_client_attr attr;
	struct pml_client_place place;
	int err;
	do {
		err = pml_client_walk(client, path, &attr);
		if (!err)
			err = pml_client_walk_to(client, new_path, &place);
		if (!err)
			err = make_link(client, &attr.handle, &place, ret_attr);
	} while (pml_client_again(client, &attempt, err));
	return err;
}

int pml_client_link_at(struct pml_client *client, const struct pml_client_handle *inode,
		       const struct pml_client_handle *dir, const char *name,
		       struct pml_client_attr *ret_attr)
{
	struct pml_client_place place;
	int err = pml_client_place_at(dir, name, &place);
	return err ? err : make_link(client, inode, &place, ret_attr);
}

/* ---- unlink, rmdir ------------------------------------------------------ */

static int take_away(struct pml_client *client, const struct pml_client_place *place,
		     uint32_t flags)
{
	union pml_message msg = {.name = {.flags = flags}};
	size_t bytes = sizeof(msg.name);
	pml_client_put_handle(&place->dir, &msg.name.dir);
	put_name(&msg, &bytes, place);
	return ask(client, &msg, bytes, PML_WIRE_UNLINK, place->what, NULL);
}

static int take_path_away(struct pml_client *client, const char *path, uint32_t flags)
{
	struct pml_client_attempt attempt = pml_client_attempt(client);
	struct pml_client_place place;
	int err;
	do {
		err = pml_client_walk_to(client, path, &place);
		if (!err)
			err = take_away(client, &place, flags);
	} while (pml_client_again(client, &attempt, err));
	return err;
}

static int take_entry_away(struct pml_client *client, const struct pml_client_handle *dir,
			   const char *name, uint32_t flags)
{
	struct pml_client_place place;
	int err = pml_client_place_at(dir, name, &place);
	return err ? err : take_away(client, &place, flags);
}

int pml_client_unlink(struct pml_client *client, const char *path)
{
	return take_path_away(client, path, 0);
}

int pml_client_unlink_at(struct pml_client *client, const struct pml_client_handle *dir,
			 const char *name)
{
	return take_entry_away(client, dir, name, 0);
}

int pml_client_rmdir(struct pml_client *client, const char *path)
{
	return take_path_away(client, path, PML_WIRE_UNLINK_DIR);
}

int pml_client_rmdir_at(struct pml_client *client, const struct pml_client_handle *dir,
			const char *name)
{
	return take_entry_away(client, dir, name, PML_WIRE_UNLINK_DIR);
}

/* ---- rename ------------------------------------------------------------- */

static int move(struct pml_client *client, const struct pml_client_place *from,
		const struct pml_client_place *to, unsigned int flags)
{
	static_assert(PML_CLIENT_RENAME_NOREPLACE == PML_WIRE_RENAME_NOREPLACE &&
			      PML_CLIENT_RENAME_EXCHANGE == PML_WIRE_RENAME_EXCHANGE,
		      "the same bits");
	if (flags > PML_CLIENT_RENAME_EXCHANGE)
		return pml_client_fail(-EINVAL, "%s: flags of a rename", from->what);
	union pml_message msg = {.rename = {.name_bytes = (uint32_t)strlen(from->name),
					    .new_name_bytes = (uint32_t)strlen(to->name),
					    .flags = flags}};
	size_t bytes = sizeof(msg.rename);
	pml_client_put_handle(&from->dir, &msg.rename.from);
	pml_client_put_handle(&to->dir, &msg.rename.to);
	put_name(&msg, &bytes, from);
	put_name(&msg, &bytes, to);
	return ask(client, &msg, bytes, PML_WIRE_RENAME, from->what, NULL);
}

int pml_client_rename(struct pml_client *client, const char *path, const char *new_path,
		      unsigned int flags)
{
	struct pml_client_attempt attempt = pml_client_attempt(client);
	struct pml_client_place from, to;
	int err;
	do {
		err = pml_client_walk_to(client, path, &from);
		if (!err)
			err = pml_client_walk_to(client, new_path, &to);
		if (!err)
			err = move(client, &from, &to, flags);
	} while (pml_client_again(client, &attempt, err));
	return err;
}

int pml_client_rename_at(struct pml_client *client, const struct pml_client_handle *dir,
			 const char *name, const struct pml_client_handle *new_dir,
			 const char *new_name, unsigned int flags)
{
	struct pml_client_place from, to;
	int err = pml_client_place_at(dir, name, &from);
	if (!err)
		err = pml_client_place_at(new_dir, new_name, &to);
	return err ? err : move(client, &from, &to, flags);
}

/* ---- readdir ------------------------------------------------------------ */

struct listing {
	bool (*emit)(void *arg, const struct pml_client_dirent *entry);
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
		const struct pml_client_dirent shown = {
			.name = name, .ino = entry.ino, .cookie = entry.cookie, .type = entry.mode};
		if (!list->emit(list->arg, &shown)) {
			list->is_end = true;
			return;
		}
	}
}

static int read_dir(struct pml_client *client, const struct pml_client_handle *dir,
		    const char *what, struct listing *list)
{
	while (!list->is_end) {
		union pml_message msg = {.readdir = {.cookie = list->cookie}};
		union pml_message reply;
		pml_client_put_handle(dir, &msg.readdir.dir);
		int err = pml_client_request(client, &msg, sizeof(msg.readdir), PML_WIRE_READDIR,
					     what, &reply);
		if (err)
			return err;
		emit_entries(list, &reply);
		if (reply.readdir_reply.count == 0 && !list->is_end)
			return pml_client_fail(-EPROTO, "%s: the server lists nothing and no end",
					       what);
	}
	return 0;
}

int pml_client_readdir_at(struct pml_client *client, const struct pml_client_handle *dir,
			  uint64_t cookie,
			  bool (*emit)(void *arg, const struct pml_client_dirent *entry), void *arg)
{
	if (cookie > INT64_MAX)
		return pml_client_fail(-EINVAL, "by handle: no cookie of an entry");
	struct listing list = {.emit = emit, .arg = arg, .cookie = cookie};
	return read_dir(client, dir, "by handle", &list);
}

struct plain_listing {
	bool (*emit)(void *arg, const char *name, uint64_t ino, mode_t type);
	void *arg;
};

static bool emit_plain(void *arg, const struct pml_client_dirent *entry)
{
	const struct plain_listing *plain = arg;
	return plain->emit(plain->arg, entry->name, entry->ino, entry->type);
}

int pml_client_readdir(struct pml_client *client, const char *path,
		       bool (*emit)(void *arg, const char *name, uint64_t ino, mode_t type),
		       void *arg)
{
	struct pml_client_attempt attempt = pml_client_attempt(client);
	struct plain_listing plain = {.emit = emit, .arg = arg};
	struct listing list = {.emit = emit_plain, .arg = &plain};
	struct pml_client_attr attr;
	int err;
	/* Cookies outlive a mount: it goes on behind what was told. */
	do {
		err = pml_client_walk(client, path, &attr);
		if (!err)
			err = read_dir(client, &attr.handle, path, &list);
	} while (pml_client_again(client, &attempt, err));
	return err;
}
