/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fuse_ops.c -- requests on names, attributes and directories
 *
 * Node ids are inode numbers.  Each entry that the kernel learns of is counted in
 * the node table before the answer and taken back if the answer fails, so that a
 * forget that follows at once finds it.
 */
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h> /* RENAME_ */
#include <string.h>

#include "fuse_loop.h"
#include "fuse_private.h"

struct pml_inode *pml_fuse_hold(fuse_req_t req, fuse_ino_t ino)
{
	struct pml_inode *inode = pml_fuse_nodes_get(pml_fuse_of(req)->nodes, ino);
	if (!inode)
		pml_fuse_reply_err(req, -ESTALE);
	return inode;
}

static bool is_dot(const char *name)
{
	return strcmp(name, ".") == 0 || strcmp(name, "..") == 0;
}

/* ---- entries ------------------------------------------------------------ */

/* Counts a lookup of @inode, taking over the reference, and describes it. */
static int enter(struct pml_fuse *fuse, struct pml_inode *inode, struct fuse_entry_param *ret_entry)
{
	int err = pml_fuse_nodes_add(fuse->nodes, inode);
	if (err) {
		pml_inode_put(inode, 1);
		return err;
	}
	*ret_entry = (struct fuse_entry_param){
		.ino = pml_inode_ino(inode),
		.generation = pml_inode_generation(inode),
		.attr_timeout = PML_FUSE_TIMEOUT_S,
		.entry_timeout = PML_FUSE_TIMEOUT_S,
	};
	pml_inode_stat(inode, &ret_entry->attr);
	return 0;
}

static void reply_entry(fuse_req_t req, struct pml_inode *inode)
{
	struct pml_fuse *fuse = pml_fuse_of(req);
	struct fuse_entry_param entry;
	int err = enter(fuse, inode, &entry);
	if (err)
		pml_fuse_reply_err(req, err);
	else if (fuse_reply_entry(req, &entry) != 0)
		pml_fuse_nodes_forget(fuse->nodes, entry.ino, 1);
}

/*
 * Export (NFS, open_by_handle_at(2)): "." of an inode that the kernel may have forgotten,
 * and ".." of a directory (fs/fuse/inode.c of Linux).
 */
static void look_up_by_number(fuse_req_t req, fuse_ino_t ino, bool wants_parent)
{
	struct pml_inode *inode = NULL, *parent = NULL;
	int err = pml_inode_get(pml_fuse_of(req)->fs, ino, &inode);
	if (!err && wants_parent) {
		err = pml_dir_parent(inode, &parent);
		pml_inode_put(inode, 1);
		inode = parent;
	}
	struct stat attr = {.st_nlink = 0};
	if (!err)
		pml_inode_stat(inode, &attr);
	/* One that is deleted but open would be known to the kernel. */
	if (!err && attr.st_nlink == 0) {
		pml_inode_put(inode, 1);
		err = -ESTALE;
	}
	if (err)
		pml_fuse_reply_err(req, err);
	else
		reply_entry(req, inode);
}

static void op_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	if (is_dot(name)) {
		look_up_by_number(req, parent, name[1] == '.');
		return;
	}
	struct pml_inode *dir = pml_fuse_hold(req, parent);
	if (!dir)
		return;
	struct pml_inode *inode = NULL;
	int err = pml_dir_lookup(dir, name, &inode);
	if (err == -ENOENT) {
		/* Number 0: there is no such name, and the kernel may remember that. */
		const struct fuse_entry_param none = {.entry_timeout = PML_FUSE_TIMEOUT_S};
		(void)fuse_reply_entry(req, &none);
	} else if (err) {
		pml_fuse_reply_err(req, err);
	} else {
		reply_entry(req, inode);
	}
	pml_inode_put(dir, 1);
}

static void op_forget(fuse_req_t req, fuse_ino_t ino, uint64_t nlookup)
{
	pml_fuse_nodes_forget(pml_fuse_of(req)->nodes, ino, nlookup);
	fuse_reply_none(req);
}

static void op_forget_multi(fuse_req_t req, size_t count, struct fuse_forget_data *forgets)
{
	for (size_t i = 0; i < count; i++)
		pml_fuse_nodes_forget(pml_fuse_of(req)->nodes, forgets[i].ino, forgets[i].nlookup);
	fuse_reply_none(req);
}

/* ---- creating ----------------------------------------------------------- */

static int create(fuse_req_t req, fuse_ino_t parent, const char *name, struct pml_create_args *args,
		  struct pml_inode **ret_inode)
{
	struct pml_inode *dir = pml_fuse_nodes_get(pml_fuse_of(req)->nodes, parent);
	if (!dir)
		return -ESTALE;
	/* Groups matter to the set-group-id bit only. */
	pml_auto_free gid_t *groups = NULL;
	bool has_setgid = (args->mode & S_ISGID) && !S_ISDIR(args->mode);
	args->cred = pml_fuse_caller(req, has_setgid, &groups);
	args->umask = fuse_req_ctx(req)->umask;
	int err = strcmp(name, PML_FUSE_NO_NAME) == 0 ? pml_dir_create_unnamed(dir, args, ret_inode)
						      : pml_dir_create(dir, name, args, ret_inode);
	/* They are freed here. */
	args->cred.ngroups = 0;
	pml_inode_put(dir, 1);
	return err;
}

static void create_and_reply(fuse_req_t req, fuse_ino_t parent, const char *name,
			     struct pml_create_args *args)
{
	struct pml_inode *inode = NULL;
	int err = create(req, parent, name, args, &inode);
	if (err)
		pml_fuse_reply_err(req, err);
	else
		reply_entry(req, inode);
}

static void op_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t rdev)
{
	struct pml_create_args args = {.mode = mode, .rdev = rdev};
	create_and_reply(req, parent, name, &args);
}

static void op_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode)
{
	struct pml_create_args args = {.mode = (mode & 07777) | S_IFDIR};
	create_and_reply(req, parent, name, &args);
}

static void op_symlink(fuse_req_t req, const char *target, fuse_ino_t parent, const char *name)
{
	struct pml_create_args args = {.mode = S_IFLNK | 0777, .target = target};
	create_and_reply(req, parent, name, &args);
}

static void op_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode,
		      struct fuse_file_info *fi)
{
	struct pml_fuse *fuse = pml_fuse_of(req);
	struct pml_create_args args = {.mode = (mode & 07777) | S_IFREG};
	struct pml_inode *inode = NULL;
	int err = create(req, parent, name, &args, &inode);
	/* A remote client was first: on -ESTALE the kernel looks the name up again and opens it. */
	if (err == -EEXIST && !(fi->flags & O_EXCL))
		err = -ESTALE;

	struct fuse_entry_param entry;
	if (!err)
		err = enter(fuse, inode, &entry);
	if (err) {
		pml_fuse_reply_err(req, err);
		return;
	}
	err = pml_fuse_handle_new(fuse, inode, fi);
	if (!err)
		pml_fuse_open_flags(fuse, fi);
	bool is_open = !err && fuse_reply_create(req, &entry, fi) == 0;
	if (err)
		pml_fuse_reply_err(req, err);
	else if (!is_open)
		pml_fuse_handle_drop(fuse, fi);
	if (!is_open)
		pml_fuse_nodes_forget(fuse->nodes, entry.ino, 1);
}

static void op_link(fuse_req_t req, fuse_ino_t ino, fuse_ino_t new_parent, const char *new_name)
{
	struct pml_inode *inode = pml_fuse_hold(req, ino);
	if (!inode)
		return;
	struct pml_inode *dir = pml_fuse_hold(req, new_parent);
	if (!dir) {
		pml_inode_put(inode, 1);
		return;
	}
	int err = pml_dir_link(dir, new_name, inode);
	pml_inode_put(dir, 1);
	if (err) {
		pml_fuse_reply_err(req, err);
		pml_inode_put(inode, 1);
	} else {
		reply_entry(req, inode);
	}
}

/* ---- removing and renaming ---------------------------------------------- */

static void op_unlink(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct pml_inode *dir = pml_fuse_hold(req, parent);
	if (!dir)
		return;
	pml_fuse_reply_err(req, pml_dir_unlink(dir, name));
	pml_inode_put(dir, 1);
}

static void op_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct pml_inode *dir = pml_fuse_hold(req, parent);
	if (!dir)
		return;
	pml_fuse_reply_err(req, pml_dir_rmdir(dir, name));
	pml_inode_put(dir, 1);
}

static void op_rename(fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t new_parent,
		      const char *new_name, unsigned int flags)
{
	struct pml_inode *from = pml_fuse_hold(req, parent);
	if (!from)
		return;
	struct pml_inode *to = pml_fuse_hold(req, new_parent);
	if (to) {
		gid_t *no_groups;
		const struct pml_cred cred = pml_fuse_caller(req, false, &no_groups);
		int err = flags & RENAME_WHITEOUT
				  ? pml_dir_rename_whiteout(from, name, to, new_name,
							    flags & ~RENAME_WHITEOUT, &cred)
				  : pml_dir_rename(from, name, to, new_name, flags);
		pml_fuse_reply_err(req, err);
		pml_inode_put(to, 1);
	}
	pml_inode_put(from, 1);
}

/* ---- attributes --------------------------------------------------------- */

static void op_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct pml_inode *inode = pml_fuse_hold(req, ino);
	if (!inode)
		return;
	struct stat attr;
	pml_inode_stat(inode, &attr);
	(void)fuse_reply_attr(req, &attr, PML_FUSE_TIMEOUT_S);
	pml_inode_put(inode, 1);
}

static void op_readlink(fuse_req_t req, fuse_ino_t ino)
{
	struct pml_inode *inode = pml_fuse_hold(req, ino);
	if (!inode)
		return;
	char target[PML_SYMLINK_MAX + 1];
	pml_inode_accessed(inode, pml_fuse_of(req)->atime);
	int err = pml_inode_readlink(inode, target);
	if (err)
		pml_fuse_reply_err(req, err);
	else
		(void)fuse_reply_readlink(req, target);
	pml_inode_put(inode, 1);
}

static void op_statfs(fuse_req_t req, fuse_ino_t ino)
{
	struct statvfs st;
	pml_fs_statvfs(pml_fuse_of(req)->fs, &st);
	(void)fuse_reply_statfs(req, &st);
}

/* ---- directories -------------------------------------------------------- */

static void op_opendir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	fi->fh = 0;
	(void)fuse_reply_open(req, fi);
}

/* Metadata is durable when the call that changed it returns. */
static void op_fsyncdir(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi)
{
	pml_fuse_reply_err(req, 0);
}

/* An answer to readdir that is being put together; the entries fit in @bytes. */
struct listing {
	fuse_req_t req;
	char *buffer;
	size_t bytes;
	size_t used;
};

static bool emit_plain(void *arg, const struct pml_dirent *dirent)
{
	struct listing *list = arg;
	struct stat attr = {.st_ino = dirent->ino, .st_mode = dirent->type};
	size_t room = list->bytes - list->used;
	size_t need = fuse_add_direntry(list->req, list->buffer + list->used, room, dirent->name,
					&attr, (off_t)dirent->cookie);
	if (need > room)
		return false;
	list->used += need;
	return true;
}

static void op_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
		       struct fuse_file_info *fi)
{
	struct pml_inode *dir = pml_fuse_hold(req, ino);
	if (!dir)
		return;
	pml_inode_accessed(dir, pml_fuse_of(req)->dir_atime);
	struct listing list = {.req = req, .buffer = malloc(size), .bytes = size};
	int err = list.buffer ? pml_dir_read(dir, (uint64_t)off, emit_plain, &list) : -ENOMEM;
	if (err)
		pml_fuse_reply_err(req, err);
	else
		(void)fuse_reply_buf(req, list.buffer, list.used);
	free(list.buffer);
	pml_inode_put(dir, 1);
}

/* An entry that was gathered under the directory's lock, to be looked up without it. */
struct gathered {
	uint64_t ino;
	uint64_t cookie;
	mode_t type;
	uint16_t name_bytes; /* with the terminating zero; the name follows */
	bool is_counted;     /* the answer tells the kernel of it */
};

/* Entries one behind the other in list->buffer; @answer_bytes is what they take in the answer. */
struct gathering {
	struct listing list;
	size_t answer_bytes;
};

static struct gathered *gathered_at(const struct listing *list, size_t at)
{
	return (struct gathered *)(void *)(list->buffer + at);
}

static size_t gathered_bytes(size_t name_bytes)
{
	return pml_round_up(sizeof(struct gathered) + name_bytes, _Alignof(struct gathered));
}

static bool emit_gather(void *arg, const struct pml_dirent *dirent)
{
	struct gathering *gathering = arg;
	struct listing *list = &gathering->list;
	/* Without a buffer it only says how much the entry takes: at least as much as ours. */
	size_t need = fuse_add_direntry_plus(list->req, NULL, 0, dirent->name, NULL, 0);
	size_t name_bytes = strlen(dirent->name) + 1;
	size_t taken = gathered_bytes(name_bytes);
	if (gathering->answer_bytes + need > list->bytes || list->used + taken > list->bytes)
		return false;

	struct gathered *to = gathered_at(list, list->used);
	to->ino = dirent->ino;
	to->cookie = dirent->cookie;
	to->type = dirent->type;
	to->name_bytes = (uint16_t)name_bytes;
	to->is_counted = false;
	memcpy(to + 1, dirent->name, name_bytes);
	list->used += taken;
	gathering->answer_bytes += need;
	return true;
}

/*
 * Describes an entry.  One without a node id is only a name to the kernel (readdirplus
 * in fs/fuse/readdir.c): the dots, and what has gone since it was gathered.
 */
static void look_up(struct pml_fuse *fuse, struct gathered *from, struct fuse_entry_param *entry)
{
	struct pml_inode *inode = NULL;
	if (!is_dot((const char *)(from + 1)) && pml_inode_get(fuse->fs, from->ino, &inode) == 0)
		from->is_counted = enter(fuse, inode, entry) == 0;
	if (!from->is_counted)
		*entry = (struct fuse_entry_param){
			.attr = {.st_ino = from->ino, .st_mode = from->type}};
}

static size_t build_answer(struct pml_fuse *fuse, const struct gathering *gathering, char *answer)
{
	const struct listing *list = &gathering->list;
	size_t used = 0;
	size_t next = 0;
	for (size_t at = 0; at < list->used; at = next) {
		struct gathered *from = gathered_at(list, at);
		next = at + gathered_bytes(from->name_bytes);
		struct fuse_entry_param entry;
		look_up(fuse, from, &entry);
		used += fuse_add_direntry_plus(list->req, answer + used, list->bytes - used,
					       (const char *)(from + 1), &entry,
					       (off_t)from->cookie);
	}
	assert(used <= list->bytes);
	return used;
}

static void uncount(struct pml_fuse *fuse, const struct listing *list)
{
	size_t next = 0;
	for (size_t at = 0; at < list->used; at = next) {
		const struct gathered *entry = gathered_at(list, at);
		next = at + gathered_bytes(entry->name_bytes);
		if (entry->is_counted)
			pml_fuse_nodes_forget(fuse->nodes, entry->ino, 1);
	}
}

static void op_readdirplus(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
			   struct fuse_file_info *fi)
{
	struct pml_fuse *fuse = pml_fuse_of(req);
	pml_auto_free char *entries = malloc(size);
	pml_auto_free char *answer = malloc(size);
	if (!entries || !answer) {
		pml_fuse_reply_err(req, -ENOMEM);
		return;
	}
	struct pml_inode *dir = pml_fuse_hold(req, ino);
	if (!dir)
		return;
	pml_inode_accessed(dir, fuse->dir_atime);
	struct gathering gathering = {.list = {.req = req, .buffer = entries, .bytes = size}};
	int err = pml_dir_read(dir, (uint64_t)off, emit_gather, &gathering);
	pml_inode_put(dir, 1);
	if (err) {
		pml_fuse_reply_err(req, err);
		return;
	}
	size_t used = build_answer(fuse, &gathering, answer);
	if (fuse_reply_buf(req, answer, used) != 0)
		uncount(fuse, &gathering.list);
}

/* ---- the session's start ------------------------------------------------ */

static void op_init(void *arg, struct fuse_conn_info *conn)
{
	/* No splice: it was measured slower.  Truncation and suid bits come as setattr. */
	conn->want &= ~(unsigned int)(FUSE_CAP_SPLICE_READ | FUSE_CAP_SPLICE_WRITE |
				      FUSE_CAP_SPLICE_MOVE | FUSE_CAP_ATOMIC_O_TRUNC |
				      FUSE_CAP_HANDLE_KILLPRIV | FUSE_CAP_WRITEBACK_CACHE |
				      FUSE_CAP_AUTO_INVAL_DATA);
	/* We say which pages are stale (pml_fuse_invalidate); a new mtime alone says nothing. */
	unsigned int wanted = FUSE_CAP_ASYNC_READ | FUSE_CAP_ASYNC_DIO | FUSE_CAP_PARALLEL_DIROPS |
			      FUSE_CAP_READDIRPLUS | FUSE_CAP_READDIRPLUS_AUTO |
			      FUSE_CAP_IOCTL_DIR | FUSE_CAP_EXPLICIT_INVAL_DATA |
			      FUSE_CAP_EXPORT_SUPPORT;
	/* A default ACL takes the umask's place, so the umask is ours to apply. */
	wanted |= FUSE_CAP_POSIX_ACL | FUSE_CAP_DONT_MASK;
	/* A target never changes, but who counts each read of it must see each. */
	if (((const struct pml_fuse *)arg)->atime != PML_ATIME_STRICT)
		wanted |= FUSE_CAP_CACHE_SYMLINKS;
	conn->want |= wanted & conn->capable;
	conn->max_write = PML_FUSE_TRANSFER_MAX;
	conn->max_readahead = 1u << 20;
	conn->max_background = 64;
	conn->congestion_threshold = 48;
	conn->time_gran = 1;
}

/*
 * flush and releasedir have nothing to do, and access is the kernel's
 * (default_permissions): libfuse answers what is not here so that it is not asked again.
 */
const struct fuse_lowlevel_ops pml_fuse_ops = {
	.init = op_init,
	.lookup = op_lookup,
	.forget = op_forget,
	.forget_multi = op_forget_multi,
	.getattr = op_getattr,
	.setattr = pml_fuse_setattr,
	.readlink = op_readlink,
	.mknod = op_mknod,
	.mkdir = op_mkdir,
	.unlink = op_unlink,
	.rmdir = op_rmdir,
	.symlink = op_symlink,
	.rename = op_rename,
	.link = op_link,
	.open = pml_fuse_open_file,
	.release = pml_fuse_release,
	.read = pml_fuse_read,
	.write = pml_fuse_write,
	.fsync = pml_fuse_fsync,
	.opendir = op_opendir,
	.readdir = op_readdir,
	.readdirplus = op_readdirplus,
	.fsyncdir = op_fsyncdir,
	.statfs = op_statfs,
	.create = op_create,
	.fallocate = pml_fuse_fallocate,
	.copy_file_range = pml_fuse_copy_file_range,
	.lseek = pml_fuse_lseek,
	.getxattr = pml_fuse_getxattr,
	.listxattr = pml_fuse_listxattr,
	.setxattr = pml_fuse_setxattr,
	.removexattr = pml_fuse_removexattr,
	.ioctl = pml_fuse_ioctl,
	.poll = pml_fuse_poll,
};
