/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * remotefs_names.c -- names and attributes: each request of the kernel is one to the server
 *
 * A handle that the server does not take any more (it was mounted again) is looked up by
 * its name once, and the request made again.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <limits.h>
#include <sys/statvfs.h>
#include <sys/sysmacros.h>

#include "pml/log.h"
#include "remotefs_private.h"

/* One request about one or two nodes, so that it can be made twice. */
struct ask {
	struct pml_remotefs *fs;
	struct pml_remote_node *node;
	struct pml_remote_node *other; /* NULL: there is none */
	const char *name;
	const char *new_name; /* or the target of a link */
	mode_t mode;
	unsigned int flags;
	struct pml_client_set set;
	struct pml_client_attr attr; /* the answer of most */
	char *text;		     /* and of some */
	size_t text_bytes;
	/* Handles of node and other, as they are now. */
	int (*run)(struct ask *ask, const struct pml_client_handle *at,
		   const struct pml_client_handle *other);
};

static int run_once(struct ask *ask)
{
	const struct pml_client_handle at = pml_remote_handle(ask->node);
	const struct pml_client_handle other =
		ask->other ? pml_remote_handle(ask->other) : (struct pml_client_handle){{0}};
	return ask->run(ask, &at, &other);
}

static int run(struct ask *ask)
{
	int err = run_once(ask);
	if (err != -ESTALE)
		return err;
	int again = pml_remote_node_again(ask->fs, ask->node);
	if (ask->other && pml_remote_node_again(ask->fs, ask->other) == 0)
		again = 0;
	return again ? err : run_once(ask);
}

static struct ask ask_of(fuse_req_t req, fuse_ino_t ino, const char *name)
{
	struct pml_remotefs *fs = pml_remotefs_of(req);
	return (struct ask){.fs = fs, .node = pml_remote_node(fs, ino), .name = name};
}

/* The kernel's mode of a new file, without what this user's umask takes off. */
static mode_t mode_of(fuse_req_t req, mode_t mode)
{
	return mode & 07777 & ~fuse_req_ctx(req)->umask;
}

/* ---- answers -------------------------------------------------------------- */

void pml_remote_stat(struct pml_remotefs *fs, struct pml_remote_node *node,
		     const struct pml_client_attr *attr, struct stat *ret_stat)
{
	*ret_stat = (struct stat){
		.st_ino = node->ino,
		.st_mode = attr->mode,
		.st_nlink = attr->nlink,
		.st_uid = attr->uid,
		.st_gid = attr->gid,
		.st_rdev = makedev(attr->rdev_major, attr->rdev_minor),
		.st_size = (off_t)attr->size_bytes,
		.st_blocks = (blkcnt_t)attr->blocks_512,
		.st_blksize = PML_BLOCK_BYTES,
		.st_atim = {.tv_sec = attr->atime_s, .tv_nsec = attr->atime_ns},
		.st_mtim = {.tv_sec = attr->mtime_s, .tv_nsec = attr->mtime_ns},
		.st_ctim = {.tv_sec = attr->ctime_s, .tv_nsec = attr->ctime_ns},
	};
	uint64_t written = pml_remote_written_end(fs, node);
	if (written > attr->size_bytes)
		ret_stat->st_size = (off_t)written;
}

/* Tells the kernel of the inode in ask->attr, which gets a look-up. */
static int fill_entry(struct ask *ask, struct pml_remote_node *parent, const char *name,
		      struct fuse_entry_param *ret_entry, struct pml_remote_node **ret_node)
{
	struct pml_remotefs *fs = ask->fs;
	int err = pml_remote_node_seen(fs, parent, name, &ask->attr, ret_node);
	if (err)
		return err;
	*ret_entry = (struct fuse_entry_param){
		.ino = (*ret_node)->ino,
		.generation = ask->attr.generation,
		.attr_timeout = fs->attr_s,
		.entry_timeout = fs->entry_s,
	};
	pml_remote_stat(fs, *ret_node, &ask->attr, &ret_entry->attr);
	return 0;
}

/* Answers a request that found or made @name in ask->node. */
static void reply_entry(fuse_req_t req, struct ask *ask, int err, const char *name)
{
	struct fuse_entry_param entry;
	struct pml_remote_node *node;
	if (!err)
		err = fill_entry(ask, ask->node, name, &entry, &node);
	if (err)
		pml_remote_reply_err(req, err);
	else if (fuse_reply_entry(req, &entry) != 0)
		pml_remote_node_forget(ask->fs, node->ino, 1);
}

/* ---- looking --------------------------------------------------------------- */

static int run_lookup(struct ask *ask, const struct pml_client_handle *at,
		      const struct pml_client_handle *other)
{
	(void)other;
	return pml_client_lookup_at(ask->fs->client, at, ask->name, &ask->attr);
}

static void on_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct ask ask = ask_of(req, parent, name);
	ask.run = run_lookup;
	int err = run(&ask);
	if (err == -ENOENT) {
		/* The kernel may remember that, too. */
		const struct fuse_entry_param none = {.entry_timeout = ask.fs->entry_s};
		(void)fuse_reply_entry(req, &none);
		return;
	}
	reply_entry(req, &ask, err, name);
}

static void on_forget(fuse_req_t req, fuse_ino_t ino, uint64_t nlookups)
{
	pml_remote_node_forget(pml_remotefs_of(req), ino, nlookups);
	fuse_reply_none(req);
}

static void on_forget_multi(fuse_req_t req, size_t count, struct fuse_forget_data *forgets)
{
	for (size_t i = 0; i < count; i++)
		pml_remote_node_forget(pml_remotefs_of(req), forgets[i].ino, forgets[i].nlookup);
	fuse_reply_none(req);
}

static int run_stat(struct ask *ask, const struct pml_client_handle *at,
		    const struct pml_client_handle *other)
{
	(void)other;
	return pml_client_stat_at(ask->fs->client, at, &ask->attr);
}

static void reply_attr(fuse_req_t req, struct ask *ask, int err)
{
	if (err) {
		pml_remote_reply_err(req, err);
		return;
	}
	struct stat st;
	pml_remote_stat(ask->fs, ask->node, &ask->attr, &st);
	(void)fuse_reply_attr(req, &st, ask->fs->attr_s);
}

static void on_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	(void)fi;
	struct ask ask = ask_of(req, ino, NULL);
	ask.run = run_stat;
	reply_attr(req, &ask, run(&ask));
}

static int run_readlink(struct ask *ask, const struct pml_client_handle *at,
			const struct pml_client_handle *other)
{
	(void)other;
	return pml_client_readlink_at(ask->fs->client, at, ask->text, ask->text_bytes);
}

static void on_readlink(fuse_req_t req, fuse_ino_t ino)
{
	char target[PATH_MAX];
	struct ask ask = ask_of(req, ino, NULL);
	ask.text = target;
	ask.text_bytes = sizeof(target);
	ask.run = run_readlink;
	int err = run(&ask);
	if (err)
		pml_remote_reply_err(req, err);
	else
		(void)fuse_reply_readlink(req, target);
}

/* ---- directories ------------------------------------------------------------ */

struct listing {
	fuse_req_t req;
	char *buffer;
	size_t bytes;
	size_t used;
	uint64_t cookie; /* of the last entry; 0: none yet */
};

/* The kernel's cookies: the server's, two further on, for "." and ".." come first. */
#define COOKIE_DOT	1u
#define COOKIE_DOT_DOT	2u
#define COOKIES_FOR_DOT 2u

static bool add_entry(struct listing *list, const char *name, uint64_t ino, mode_t type,
		      uint64_t cookie)
{
	const struct stat st = {.st_ino = ino, .st_mode = type};
	size_t bytes = fuse_add_direntry(list->req, list->buffer + list->used,
					 list->bytes - list->used, name, &st, (off_t)cookie);
	if (bytes > list->bytes - list->used)
		return false;
	list->used += bytes;
	return true;
}

static bool emit_entry(void *arg, const struct pml_client_dirent *entry)
{
	return add_entry(arg, entry->name, entry->ino, entry->type,
			 entry->cookie + COOKIES_FOR_DOT);
}

struct list_ask {
	struct ask ask; /* first: see run_readdir() */
	struct listing list;
	uint64_t from;
};

static int run_readdir(struct ask *ask, const struct pml_client_handle *at,
		       const struct pml_client_handle *other)
{
	(void)other;
	struct list_ask *list = PML_CONTAINER_OF(ask, struct list_ask, ask);
	return pml_client_readdir_at(ask->fs->client, at, list->from, emit_entry, &list->list);
}

static void on_readdir(fuse_req_t req, fuse_ino_t ino, size_t bytes, off_t cookie,
		       struct fuse_file_info *fi)
{
	(void)fi;
	pml_auto_free char *buffer = malloc(bytes);
	if (!buffer) {
		pml_remote_reply_err(req, -ENOMEM);
		return;
	}
	struct list_ask list = {
		.ask = ask_of(req, ino, NULL),
		.list = {.req = req, .buffer = buffer, .bytes = bytes},
		.from = cookie > (off_t)COOKIES_FOR_DOT ? (uint64_t)cookie - COOKIES_FOR_DOT : 0,
	};
	list.ask.run = run_readdir;
	bool has_room = true;
	if (cookie < (off_t)COOKIE_DOT)
		has_room = add_entry(&list.list, ".", ino, S_IFDIR, COOKIE_DOT);
	if (has_room && cookie < (off_t)COOKIE_DOT_DOT)
		has_room = add_entry(&list.list, "..", ino, S_IFDIR, COOKIE_DOT_DOT);
	int err = has_room ? run(&list.ask) : 0;
	if (err)
		pml_remote_reply_err(req, err);
	else
		(void)fuse_reply_buf(req, buffer, list.list.used);
}

/* ---- attributes -------------------------------------------------------------- */

static struct pml_client_set set_of(const struct stat *attr, int what)
{
	struct pml_client_set set = {
		.mode = attr->st_mode & 07777,
		.uid = attr->st_uid,
		.gid = attr->st_gid,
		.size_bytes = (uint64_t)attr->st_size,
		.atime_s = attr->st_atim.tv_sec,
		.mtime_s = attr->st_mtim.tv_sec,
		.atime_ns = (uint32_t)attr->st_atim.tv_nsec,
		.mtime_ns = (uint32_t)attr->st_mtim.tv_nsec,
	};
	set.what = (what & FUSE_SET_ATTR_MODE ? PML_CLIENT_SET_MODE : 0u) |
		   (what & FUSE_SET_ATTR_UID ? PML_CLIENT_SET_UID : 0u) |
		   (what & FUSE_SET_ATTR_GID ? PML_CLIENT_SET_GID : 0u) |
		   (what & FUSE_SET_ATTR_SIZE ? PML_CLIENT_SET_SIZE : 0u);
	/* The kernel sets ATIME besides ATIME_NOW. */
	if (what & FUSE_SET_ATTR_ATIME_NOW)
		set.what |= PML_CLIENT_SET_ATIME_NOW;
	else if (what & FUSE_SET_ATTR_ATIME)
		set.what |= PML_CLIENT_SET_ATIME;
	if (what & FUSE_SET_ATTR_MTIME_NOW)
		set.what |= PML_CLIENT_SET_MTIME_NOW;
	else if (what & FUSE_SET_ATTR_MTIME)
		set.what |= PML_CLIENT_SET_MTIME;
	return set;
}

static int run_setattr(struct ask *ask, const struct pml_client_handle *at,
		       const struct pml_client_handle *other)
{
	(void)other;
	return pml_client_setattr_at(ask->fs->client, at, &ask->set, &ask->attr);
}

static void on_setattr(fuse_req_t req, fuse_ino_t ino, struct stat *attr, int what,
		       struct fuse_file_info *fi)
{
	(void)fi;
	struct ask ask = ask_of(req, ino, NULL);
	ask.set = set_of(attr, what);
	ask.run = run_setattr;
	int err = 0;
	/*
	 * What was written counts before it is cut off, and sets times before these.  All leases
	 * go: from which byte on the server would end those in the way, and lose what is under
	 * them, depends on the size that it knows, before the commit of what was written.
	 */
	if (ask.set.what & PML_CLIENT_SET_SIZE)
		err = pml_remote_give_up(ask.fs, ask.node, 0);
	else if (what & (FUSE_SET_ATTR_MTIME | FUSE_SET_ATTR_ATIME))
		err = pml_remote_commit(ask.fs, ask.node);
	reply_attr(req, &ask, err ? err : run(&ask));
}

/* ---- new names ----------------------------------------------------------------- */

static int run_create(struct ask *ask, const struct pml_client_handle *at,
		      const struct pml_client_handle *other)
{
	(void)other;
	return pml_client_create_at(ask->fs->client, at, ask->name, ask->mode & 0777,
				    ask->flags & O_EXCL, &ask->attr);
}

static void on_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode,
		      struct fuse_file_info *fi)
{
	struct ask ask = ask_of(req, parent, name);
	ask.mode = mode_of(req, mode);
	ask.flags = (unsigned int)fi->flags;
	ask.run = run_create;
	struct fuse_entry_param entry;
	struct pml_remote_node *node = NULL;
	int err = run(&ask);
	if (!err)
		err = fill_entry(&ask, ask.node, name, &entry, &node);
	if (!err)
		err = pml_remote_open(ask.fs, node, fi);
	if (!err && fuse_reply_create(req, &entry, fi) == 0)
		return;
	if (!err)
		pml_remote_abandon(fi);
	if (node)
		pml_remote_node_forget(ask.fs, node->ino, 1);
	if (err)
		pml_remote_reply_err(req, err);
}

static void on_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t rdev)
{
	(void)rdev;
	struct ask ask = ask_of(req, parent, name);
	ask.mode = mode_of(req, mode);
	ask.flags = O_EXCL;
	ask.run = run_create;
	/* The protocol makes regular files, directories and links. */
	reply_entry(req, &ask, S_ISREG(mode) ? run(&ask) : -EOPNOTSUPP, name);
}

static int run_mkdir(struct ask *ask, const struct pml_client_handle *at,
		     const struct pml_client_handle *other)
{
	(void)other;
	return pml_client_mkdir_at(ask->fs->client, at, ask->name, ask->mode & 01777, &ask->attr);
}

static void on_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode)
{
	struct ask ask = ask_of(req, parent, name);
	ask.mode = mode_of(req, mode);
	ask.run = run_mkdir;
	reply_entry(req, &ask, run(&ask), name);
}

static int run_symlink(struct ask *ask, const struct pml_client_handle *at,
		       const struct pml_client_handle *other)
{
	(void)other;
	return pml_client_symlink_at(ask->fs->client, ask->new_name, at, ask->name, &ask->attr);
}

static void on_symlink(fuse_req_t req, const char *target, fuse_ino_t parent, const char *name)
{
	struct ask ask = ask_of(req, parent, name);
	ask.new_name = target;
	ask.run = run_symlink;
	reply_entry(req, &ask, run(&ask), name);
}

static int run_link(struct ask *ask, const struct pml_client_handle *at,
		    const struct pml_client_handle *other)
{
	return pml_client_link_at(ask->fs->client, other, at, ask->name, &ask->attr);
}

static void on_link(fuse_req_t req, fuse_ino_t ino, fuse_ino_t parent, const char *name)
{
	struct ask ask = ask_of(req, parent, name);
	ask.other = pml_remote_node(ask.fs, ino);
	ask.run = run_link;
	reply_entry(req, &ask, run(&ask), name);
}

/* ---- files that are deleted while they are open -------------------------------------- */

/*
 * The server keeps no file for us that has no name.  So one that a local program has open
 * gets a name of its own until it is closed, as NFS clients do it.
 */

static int run_rename(struct ask *ask, const struct pml_client_handle *at,
		      const struct pml_client_handle *other)
{
	return pml_client_rename_at(ask->fs->client, at, ask->name, other, ask->new_name,
				    ask->flags);
}

static bool take_hidden(struct pml_remote_node *node)
{
	pthread_mutex_lock(&node->lock);
	bool was_hidden = node->is_hidden;
	node->is_hidden = false;
	pthread_mutex_unlock(&node->lock);
	return was_hidden;
}

/* 1: it was open and is hidden now, so the name is free; 0: it is not open; or -errno. */
static int hide_open(struct pml_remotefs *fs, struct pml_remote_node *dir, const char *name)
{
	struct pml_remote_node *node = pml_remote_node_open_as(fs, dir, name);
	if (!node)
		return 0;
	char hidden[64];
	pthread_mutex_lock(&fs->lock);
	uint64_t number = ++fs->nhidden;
	pthread_mutex_unlock(&fs->lock);
	(void)snprintf(hidden, sizeof(hidden), ".pmemleasefs.%llx.%llx.%x",
		       (unsigned long long)node->ino, (unsigned long long)number, getpid());
	struct ask ask = {.fs = fs,
			  .node = dir,
			  .other = dir,
			  .name = name,
			  .new_name = hidden,
			  .flags = PML_CLIENT_RENAME_NOREPLACE,
			  .run = run_rename};
	int err = run(&ask);
	if (!err) {
		pml_remote_node_moved(fs, dir, name, dir, hidden, false);
		pthread_mutex_lock(&node->lock);
		node->is_hidden = true;
		bool is_closed = node->nopens == 0;
		pthread_mutex_unlock(&node->lock);
		if (is_closed)
			pml_remote_unhide(fs, node);
	}
	pml_remote_node_forget(fs, node->ino, 1);
	return err ? err : 1;
}

static int run_unlink(struct ask *ask, const struct pml_client_handle *at,
		      const struct pml_client_handle *other)
{
	(void)other;
	return pml_client_unlink_at(ask->fs->client, at, ask->name);
}

void pml_remote_unhide(struct pml_remotefs *fs, struct pml_remote_node *node)
{
	struct pml_remote_node *dir;
	char *name;
	if (!take_hidden(node) || pml_remote_node_place(fs, node, &dir, &name))
		return;
	struct ask ask = {.fs = fs, .node = dir, .name = name, .run = run_unlink};
	int err = run(&ask);
	if (err)
		pml_log_warning("%s: a deleted file stays as %s: %s", fs->url, name,
				strerror(-err));
	pml_remote_node_forget(fs, dir->ino, 1);
	free(name);
}

/* ---- names that go ---------------------------------------------------------------- */

static void on_unlink(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct ask ask = ask_of(req, parent, name);
	ask.run = run_unlink;
	int err = hide_open(ask.fs, ask.node, name);
	if (err == 0)
		err = run(&ask);
	pml_remote_reply_err(req, err > 0 ? 0 : err);
}

static int run_rmdir(struct ask *ask, const struct pml_client_handle *at,
		     const struct pml_client_handle *other)
{
	(void)other;
	return pml_client_rmdir_at(ask->fs->client, at, ask->name);
}

static void on_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct ask ask = ask_of(req, parent, name);
	ask.run = run_rmdir;
	pml_remote_reply_err(req, run(&ask));
}

static void on_rename(fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t new_parent,
		      const char *new_name, unsigned int flags)
{
	struct ask ask = ask_of(req, parent, name);
	ask.other = pml_remote_node(ask.fs, new_parent);
	ask.new_name = new_name;
	ask.flags = (flags & RENAME_NOREPLACE ? PML_CLIENT_RENAME_NOREPLACE : 0u) |
		    (flags & RENAME_EXCHANGE ? PML_CLIENT_RENAME_EXCHANGE : 0u);
	ask.run = run_rename;
	int err = flags & ~(unsigned int)(RENAME_NOREPLACE | RENAME_EXCHANGE) ? -EINVAL : 0;
	if (!err && flags == 0)
		err = hide_open(ask.fs, ask.other, new_name);
	if (err >= 0)
		err = run(&ask);
	if (!err)
		pml_remote_node_moved(ask.fs, ask.node, name, ask.other, new_name,
				      flags & RENAME_EXCHANGE);
	pml_remote_reply_err(req, err);
}

/* ---- extended attributes, the whole filesystem -------------------------------------- */

struct xattr_ask {
	struct ask ask; /* first */
	size_t got_bytes;
};

static int run_getxattr(struct ask *ask, const struct pml_client_handle *at,
			const struct pml_client_handle *other)
{
	(void)other;
	struct xattr_ask *x = PML_CONTAINER_OF(ask, struct xattr_ask, ask);
	return pml_client_getxattr_at(ask->fs->client, at, ask->name, ask->text, ask->text_bytes,
				      &x->got_bytes);
}

static int run_listxattr(struct ask *ask, const struct pml_client_handle *at,
			 const struct pml_client_handle *other)
{
	(void)other;
	struct xattr_ask *x = PML_CONTAINER_OF(ask, struct xattr_ask, ask);
	return pml_client_listxattr_at(ask->fs->client, at, ask->text, ask->text_bytes,
				       &x->got_bytes);
}

/* @bytes 0: the caller wants to know how many. */
static void reply_xattr(fuse_req_t req, struct xattr_ask *x, size_t bytes)
{
	pml_auto_free char *text = bytes ? malloc(bytes) : NULL;
	x->ask.text = text;
	x->ask.text_bytes = bytes;
	int err = bytes && !text ? -ENOMEM : run(&x->ask);
	if (err)
		pml_remote_reply_err(req, err);
	else if (bytes)
		(void)fuse_reply_buf(req, text, x->got_bytes);
	else
		(void)fuse_reply_xattr(req, x->got_bytes);
}

static void on_getxattr(fuse_req_t req, fuse_ino_t ino, const char *name, size_t bytes)
{
	struct xattr_ask x = {.ask = ask_of(req, ino, name)};
	x.ask.run = run_getxattr;
	reply_xattr(req, &x, bytes);
}

static void on_listxattr(fuse_req_t req, fuse_ino_t ino, size_t bytes)
{
	struct xattr_ask x = {.ask = ask_of(req, ino, NULL)};
	x.ask.run = run_listxattr;
	reply_xattr(req, &x, bytes);
}

static void on_statfs(fuse_req_t req, fuse_ino_t ino)
{
	(void)ino;
	struct pml_client_statfs from;
	int err = pml_client_statfs(pml_remotefs_of(req)->client, &from);
	if (err) {
		pml_remote_reply_err(req, err);
		return;
	}
	const struct statvfs st = {
		.f_bsize = from.block_bytes,
		.f_frsize = from.block_bytes,
		.f_blocks = from.blocks,
		.f_bfree = from.blocks_free,
		.f_bavail = from.blocks_free,
		.f_files = from.inodes,
		.f_ffree = from.inodes_free,
		.f_favail = from.inodes_free,
		.f_namemax = from.name_max,
	};
	(void)fuse_reply_statfs(req, &st);
}

void pml_remote_names_ops(struct fuse_lowlevel_ops *ops)
{
	ops->lookup = on_lookup;
	ops->forget = on_forget;
	ops->forget_multi = on_forget_multi;
	ops->getattr = on_getattr;
	ops->setattr = on_setattr;
	ops->readlink = on_readlink;
	ops->readdir = on_readdir;
	ops->create = on_create;
	ops->mknod = on_mknod;
	ops->mkdir = on_mkdir;
	ops->symlink = on_symlink;
	ops->link = on_link;
	ops->unlink = on_unlink;
	ops->rmdir = on_rmdir;
	ops->rename = on_rename;
	ops->getxattr = on_getxattr;
	ops->listxattr = on_listxattr;
	ops->statfs = on_statfs;
}
