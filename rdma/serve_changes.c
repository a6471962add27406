/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * serve_changes.c -- requests that change names and attributes, done as the client's user
 *
 * Who may is decided as the kernel does for local programs, in its order: the name is looked
 * at, then a read-only export says no, then come permissions.  What could change between a
 * check and the change is checked by the filesystem under its locks (fs/permit.c).
 *
 * Whoever remembers a name or file on this machine is told before the client is answered.
 */
#include <stdio.h> /* RENAME_ */
#include <string.h>

#include "pml/clock.h"
#include "remote_i.h"

void pml_remote_name_changed(struct pml_remote *remote, uint64_t dir_ino, const char *name)
{
	const struct pml_server_hooks *hooks = &remote->env->hooks;
	if (hooks->name_changed)
		hooks->name_changed(hooks->arg, dir_ino, name);
}

void pml_remote_file_changed(struct pml_remote *remote, uint64_t ino, uint64_t first_byte,
			     uint64_t len_bytes)
{
	const struct pml_server_hooks *hooks = &remote->env->hooks;
	if (hooks->file_changed)
		hooks->file_changed(hooks->arg, ino, first_byte, len_bytes);
}

static void attr_changed(struct pml_remote *remote, uint64_t ino)
{
	pml_remote_file_changed(remote, ino, 0, 0);
}

static int check_writable(struct pml_remote *remote)
{
	if (!remote->is_read_only)
		return 0;
	remote->reason = "the server lets this client read only";
	return -EROFS;
}

/* ---- new names ---------------------------------------------------------- */

/* May this client make a name in @dir that is not there? */
static int may_make(struct pml_remote *remote, struct pml_inode *dir)
{
	int err = check_writable(remote);
	return err ? err : pml_inode_access(dir, &remote->cred, W_OK | X_OK);
}

static int make(struct pml_remote *remote, struct pml_inode *dir, const char *name,
		struct pml_create_args *args, struct pml_inode **ret_inode)
{
	int err = may_make(remote, dir);
	if (err)
		return err;
	args->cred = remote->cred;
	err = pml_dir_create(dir, name, args, ret_inode);
	if (!err)
		pml_remote_name_changed(remote, pml_inode_ino(dir), name);
	return err;
}

/* -EEXIST before anything else is said. */
static int check_absent(struct pml_inode *dir, const char *name)
{
	struct pml_inode *inode;
	int err = pml_dir_lookup(dir, name, &inode);
	if (err)
		return err == -ENOENT ? 0 : err;
	pml_inode_put(inode, 1);
	return -EEXIST;
}

/* Makes what is not there yet, and answers with it. */
static int make_and_reply(struct pml_remote *remote, const struct pml_wire_handle *handle,
			  const char *name, struct pml_create_args *args)
{
	struct pml_inode *dir;
	int err = pml_remote_dir(remote, handle, X_OK, &dir);
	if (err)
		return err;
	struct pml_inode *inode;
	err = check_absent(dir, name);
	if (!err)
		err = make(remote, dir, name, args, &inode);
	pml_inode_put(dir, 1);
	if (!err)
		pml_remote_reply_attr(remote, inode);
	return err;
}

/* Creates @name, or finds it unless it must be new. */
static int create_or_find(struct pml_remote *remote, struct pml_inode *dir, const char *name,
			  struct pml_inode **ret_inode)
{
	const struct pml_wire_create *m = &remote->in.create;
	int err = pml_dir_lookup(dir, name, ret_inode);
	if (err == 0 && m->exclusive) {
		pml_inode_put(*ret_inode, 1);
		return -EEXIST;
	}
	if (err != -ENOENT)
		return err;
	struct pml_create_args args = {.mode = S_IFREG | m->mode};
	err = make(remote, dir, name, &args, ret_inode);
	/* Somebody was faster. */
	if (err == -EEXIST && !m->exclusive)
		return pml_dir_lookup(dir, name, ret_inode);
	return err;
}

int pml_serve_create(struct pml_remote *remote)
{
	const struct pml_wire_create *m = &remote->in.create;
	char name[PML_NAME_BYTES_MAX + 1];
	struct pml_inode *dir;
	int err = pml_remote_place(remote, &m->dir, sizeof(*m), name, &dir);
	if (err)
		return err;
	struct pml_inode *inode;
	err = create_or_find(remote, dir, name, &inode);
	pml_inode_put(dir, 1);
	if (err)
		return err;

	if (!S_ISREG(pml_inode_mode(inode))) {
		remote->reason = "there is something else of that name";
		err = S_ISDIR(pml_inode_mode(inode)) ? -EISDIR : -EINVAL;
		pml_inode_put(inode, 1);
		return err;
	}
	pml_remote_reply_attr(remote, inode);
	return 0;
}

int pml_serve_mkdir(struct pml_remote *remote)
{
	const struct pml_wire_create *m = &remote->in.create;
	char name[PML_NAME_BYTES_MAX + 1];
	pml_remote_last_name(remote, sizeof(*m), name);
	/* As vfs_mkdir(): set-id bits come from the directory above alone. */
	struct pml_create_args args = {.mode = S_IFDIR | (m->mode & 01777)};
	return make_and_reply(remote, &m->dir, name, &args);
}

int pml_serve_symlink(struct pml_remote *remote)
{
	const struct pml_wire_symlink *m = &remote->in.symlink;
	char name[PML_NAME_BYTES_MAX + 1];
	char target[PML_SYMLINK_MAX + 1];
	static_assert(PML_SYMLINK_MAX == PML_WIRE_PATH_MAX, "targets");
	pml_remote_name(remote, sizeof(*m), m->name_bytes, name);
	memcpy(target, remote->in.bytes + sizeof(*m) + m->name_bytes, m->target_bytes);
	target[m->target_bytes] = 0;
	struct pml_create_args args = {.mode = S_IFLNK | 0777, .target = target};
	return make_and_reply(remote, &m->dir, name, &args);
}

static int link_inode(struct pml_remote *remote, struct pml_inode *dir, const char *name,
		      struct pml_inode *inode)
{
	int err = check_absent(dir, name);
	if (!err)
		err = check_writable(remote);
	if (!err)
		err = pml_inode_may_link(inode, &remote->cred);
	if (err == -EPERM)
		remote->reason = "only the owner may give a file of this kind another name";
	if (!err)
		err = pml_inode_access(dir, &remote->cred, W_OK | X_OK);
	if (err)
		return err;
	err = pml_dir_link(dir, name, inode);
	if (err == -EPERM)
		remote->reason = "a directory has one name only";
	if (err)
		return err;
	pml_remote_name_changed(remote, pml_inode_ino(dir), name);
	attr_changed(remote, pml_inode_ino(inode));
	return 0;
}

int pml_serve_link(struct pml_remote *remote)
{
	const struct pml_wire_link *m = &remote->in.link;
	char name[PML_NAME_BYTES_MAX + 1];
	pml_remote_last_name(remote, sizeof(*m), name);
	struct pml_inode *inode, *dir;
	int err = pml_remote_inode(remote, &m->inode, &inode);
	if (err)
		return err;
	err = pml_remote_dir(remote, &m->dir, X_OK, &dir);
	if (!err) {
		err = link_inode(remote, dir, name, inode);
		pml_inode_put(dir, 1);
	}
	if (err)
		pml_inode_put(inode, 1);
	else
		pml_remote_reply_attr(remote, inode);
	return err;
}

/* ---- names that go or move ---------------------------------------------- */

static const char sticky[] =
	"the directory is sticky, and neither it nor the file belongs to this user";

int pml_serve_unlink(struct pml_remote *remote)
{
	const struct pml_wire_name *m = &remote->in.name;
	char name[PML_NAME_BYTES_MAX + 1];
	pml_remote_last_name(remote, sizeof(*m), name);
	struct pml_inode *dir;
	int err = check_writable(remote);
	if (!err)
		err = pml_remote_dir(remote, &m->dir, X_OK, &dir);
	if (err)
		return err;
	uint64_t ino;
	err = pml_dir_remove_as(dir, name, m->flags & PML_WIRE_UNLINK_DIR, &remote->cred, &ino);
	if (err == -EPERM)
		remote->reason = sticky;
	if (!err) {
		pml_remote_name_changed(remote, pml_inode_ino(dir), name);
		attr_changed(remote, ino);
	}
	pml_inode_put(dir, 1);
	return err;
}

static int rename_names(struct pml_remote *remote, struct pml_inode *from, struct pml_inode *to)
{
	const struct pml_wire_rename *m = &remote->in.rename;
	char name[PML_NAME_BYTES_MAX + 1];
	char new_name[PML_NAME_BYTES_MAX + 1];
	pml_remote_name(remote, sizeof(*m), m->name_bytes, name);
	pml_remote_name(remote, sizeof(*m) + m->name_bytes, m->new_name_bytes, new_name);
	unsigned int flags = (m->flags & PML_WIRE_RENAME_NOREPLACE ? RENAME_NOREPLACE : 0u) |
			     (m->flags & PML_WIRE_RENAME_EXCHANGE ? RENAME_EXCHANGE : 0u);
	struct pml_renamed done;
	int err = pml_dir_rename_as(from, name, to, new_name, flags, &remote->cred, &done);
	if (err == -EPERM)
		remote->reason = sticky;
	if (err == -EINVAL)
		remote->reason = "a directory cannot be moved into itself";
	if (err)
		return err;
	pml_remote_name_changed(remote, pml_inode_ino(from), name);
	pml_remote_name_changed(remote, pml_inode_ino(to), new_name);
	if (done.moved_ino)
		attr_changed(remote, done.moved_ino);
	if (done.replaced_ino)
		attr_changed(remote, done.replaced_ino);
	return 0;
}

int pml_serve_rename(struct pml_remote *remote)
{
	const struct pml_wire_rename *m = &remote->in.rename;
	struct pml_inode *from, *to;
	int err = check_writable(remote);
	if (!err)
		err = pml_remote_dir(remote, &m->from, X_OK, &from);
	if (err)
		return err;
	err = pml_remote_dir(remote, &m->to, X_OK, &to);
	if (!err) {
		err = rename_names(remote, from, to);
		pml_inode_put(to, 1);
	}
	pml_inode_put(from, 1);
	return err;
}

/* ---- attributes --------------------------------------------------------- */

/* What a SETATTR sets besides the size, and to what. */
struct set {
	unsigned int what; /* PML_SET_ */
	struct stat attr;
};

/* "Now" is one time for all. */
static void take_set(const struct pml_wire_setattr *m, struct set *ret_set)
{
	const uint32_t now = PML_WIRE_SET_ATIME_NOW | PML_WIRE_SET_MTIME_NOW;
	const uint32_t given = PML_WIRE_SET_ATIME | PML_WIRE_SET_MTIME;
	*ret_set = (struct set){
		.attr = {.st_mode = m->mode,
			 .st_uid = m->uid,
			 .st_gid = m->gid,
			 .st_ctim = pml_now_wall(),
			 .st_atim = {.tv_sec = m->atime_s, .tv_nsec = m->atime_ns},
			 .st_mtim = {.tv_sec = m->mtime_s, .tv_nsec = m->mtime_ns}},
	};
	unsigned int what =
		(m->what & PML_WIRE_SET_MODE ? PML_SET_MODE : 0u) |
		(m->what & PML_WIRE_SET_UID ? PML_SET_UID : 0u) |
		(m->what & PML_WIRE_SET_GID ? PML_SET_GID : 0u) |
		(m->what & (PML_WIRE_SET_ATIME | PML_WIRE_SET_ATIME_NOW) ? PML_SET_ATIME : 0u) |
		(m->what & (PML_WIRE_SET_MTIME | PML_WIRE_SET_MTIME_NOW) ? PML_SET_MTIME : 0u);
	if (m->what & PML_WIRE_SET_ATIME_NOW)
		ret_set->attr.st_atim = ret_set->attr.st_ctim;
	if (m->what & PML_WIRE_SET_MTIME_NOW)
		ret_set->attr.st_mtim = ret_set->attr.st_ctim;
	/*
	 * Who may write may say that it was now: both times at once, as utimes(2) without times,
	 * or with a new size; and nothing at all, which is what comes before a write.
	 */
	bool is_touch = (m->what & now) == now || (m->what & PML_WIRE_SET_SIZE) || m->what == 0;
	if (is_touch && !(m->what & given))
		what |= PML_SET_TOUCH;
	if (what)
		what |= PML_SET_CTIME;
	ret_set->what = what;
}

static const char *reason_for_set(int err)
{
	switch (err) {
	case -EPERM:
		return "only the owner may do that, and give it to no group but his own";
	case -EOPNOTSUPP:
		return "a symbolic link has no permissions";
	default:
		return NULL;
	}
}

static int may_set(struct pml_remote *remote, struct pml_inode *inode, const struct set *set)
{
	const struct pml_wire_setattr *m = &remote->in.setattr;
	/* No user and no group have these numbers (uid_valid() of Linux). */
	if (((m->what & PML_WIRE_SET_UID) && m->uid == UINT32_MAX) ||
	    ((m->what & PML_WIRE_SET_GID) && m->gid == UINT32_MAX))
		return -EINVAL;
	/* A new size is a write. */
	int err = m->what & PML_WIRE_SET_SIZE ? pml_remote_check_file(remote, inode, W_OK) : 0;
	if (!err)
		err = pml_inode_may_set(inode, &remote->cred, set->what, &set->attr);
	if (err)
		remote->reason = reason_for_set(err);
	return err;
}

/* What a file must not keep when somebody changes what is in it. */
static int drop_privileges(struct pml_remote *remote, struct pml_inode *inode)
{
	bool has_dropped;
	return pml_inode_drop_privileges(inode, &remote->cred, &has_dropped);
}

static int run_truncate(struct pml_errand *errand, union pml_message *out, size_t *ret_bytes)
{
	struct pml_remote *remote = errand->remote;
	const struct pml_wire_setattr *m = &errand->args.setattr;
	int err = drop_privileges(remote, errand->inode);
	uint64_t old_bytes = pml_inode_size(errand->inode);
	if (!err)
		err = pml_file_truncate(errand->inode, m->size_bytes, &errand->waiter);
	if (err)
		return err;
	struct set set;
	take_set(m, &set);
	if (set.what & ~(unsigned int)(PML_SET_TOUCH | PML_SET_CTIME))
		err = pml_inode_set_as(errand->inode, &remote->cred, set.what, &set.attr);
	errand->reason = reason_for_set(err);
	pml_remote_file_changed(remote, pml_inode_ino(errand->inode),
				PML_MIN(old_bytes, m->size_bytes), UINT64_MAX);
	pml_remote_attr(remote, errand->inode, &out->attr_reply.attr);
	*ret_bytes = sizeof(out->attr_reply);
	return err;
}

int pml_serve_setattr(struct pml_remote *remote)
{
	const struct pml_wire_setattr *m = &remote->in.setattr;
	struct set set;
	take_set(m, &set);
	struct pml_inode *inode;
	int err = pml_remote_inode(remote, &m->inode, &inode);
	if (err)
		return err;
	err = check_writable(remote);
	if (!err)
		err = may_set(remote, inode, &set);
	if (!err && (m->what & PML_WIRE_SET_SIZE)) {
		const struct pml_errand errand = {
			.inode = inode, .run = run_truncate, .args.setattr = *m};
		return pml_errands_start(remote, &errand);
	}
	if (!err && m->what == 0)
		err = drop_privileges(remote, inode);
	if (!err)
		err = pml_inode_set_as(inode, &remote->cred, set.what, &set.attr);
	if (err) {
		pml_inode_put(inode, 1);
		return err;
	}
	attr_changed(remote, pml_inode_ino(inode));
	pml_remote_reply_attr(remote, inode);
	return 0;
}

/* ---- clone -------------------------------------------------------------- */

static int clone_all(struct pml_errand *errand)
{
	struct pml_wire_clone *m = &errand->args.clone;
	uint64_t src_size = pml_inode_size(errand->src);
	if (m->len_bytes == 0 && m->src_byte < src_size)
		m->len_bytes = src_size - m->src_byte;
	while (errand->done_bytes < m->len_bytes) {
		uint64_t bytes = 0;
		int err = pml_file_clone_blocks(errand->src, m->src_byte + errand->done_bytes,
						errand->inode, m->dst_byte + errand->done_bytes,
						m->len_bytes - errand->done_bytes, &errand->waiter,
						&bytes);
		if (err)
			return err;
		if (bytes == 0)
			break;
		errand->done_bytes += bytes;
	}
	return 0;
}

static int run_clone(struct pml_errand *errand, union pml_message *out, size_t *ret_bytes)
{
	int err = drop_privileges(errand->remote, errand->inode);
	if (!err)
		err = clone_all(errand);
	if (err == -EINPROGRESS)
		return err;
	if (err == -EINVAL)
		errand->reason = "blocks of 4096 bytes are shared: offsets and length must be "
				 "multiples, or end where the source ends; and not overlap";
	if (errand->done_bytes > 0)
		pml_remote_file_changed(errand->remote, pml_inode_ino(errand->inode),
					errand->args.clone.dst_byte, UINT64_MAX);
	out->clone_reply.bytes = errand->done_bytes;
	*ret_bytes = sizeof(out->clone_reply);
	return err;
}

int pml_serve_clone(struct pml_remote *remote)
{
	const struct pml_wire_clone *m = &remote->in.clone;
	struct pml_errand errand = {.run = run_clone, .args.clone = *m};
	int err = pml_remote_file(remote, &m->src, R_OK, &errand.src);
	if (err)
		return err;
	err = check_writable(remote);
	if (!err)
		err = pml_remote_file(remote, &m->dst, W_OK, &errand.inode);
	if (err) {
		pml_inode_put(errand.src, 1);
		return err;
	}
	return pml_errands_start(remote, &errand);
}
