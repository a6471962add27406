/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * serve_names.c -- requests about names and attributes, done as the client's user
 *
 * A client names inodes by handles that it got from here, so whoever has one has
 * passed the directories above it.
 */
#include <string.h>
#include <sys/sysmacros.h>

#include "remote_i.h"

int pml_remote_inode(struct pml_remote *remote, const struct pml_wire_handle *handle,
		     struct pml_inode **ret_inode)
{
	int err = pml_handle_check(&remote->env->handles, &remote->scope, handle, &remote->reason);
	if (err)
		return err;
	struct pml_inode *inode;
	err = pml_inode_get(remote->env->fs, handle->ino, &inode);
	if (err == 0 && pml_inode_generation(inode) == handle->generation) {
		*ret_inode = inode;
		return 0;
	}
	if (err == 0)
		pml_inode_put(inode, 1);
	else if (err != -ENOENT)
		return err;
	remote->reason = "the file is gone";
	return -ESTALE;
}

void pml_remote_attr(struct pml_remote *remote, struct pml_inode *inode,
		     struct pml_wire_attr *ret_attr)
{
	struct stat st;
	pml_inode_stat(inode, &st);
	*ret_attr = (struct pml_wire_attr){
		.size_bytes = (uint64_t)st.st_size,
		.blocks_512 = (uint64_t)st.st_blocks,
		.atime_s = st.st_atim.tv_sec,
		.mtime_s = st.st_mtim.tv_sec,
		.ctime_s = st.st_ctim.tv_sec,
		.atime_ns = (uint32_t)st.st_atim.tv_nsec,
		.mtime_ns = (uint32_t)st.st_mtim.tv_nsec,
		.ctime_ns = (uint32_t)st.st_ctim.tv_nsec,
		.mode = st.st_mode,
		.nlink = (uint32_t)st.st_nlink,
		.uid = st.st_uid,
		.gid = st.st_gid,
		.rdev = (uint32_t)(major(st.st_rdev) << 20 | minor(st.st_rdev)),
	};
	pml_handle_make(&remote->env->handles, &remote->scope, pml_inode_ino(inode),
			pml_inode_generation(inode), &ret_attr->handle);
}

/* ---- requests ----------------------------------------------------------- */

/* A reference to a directory in which this client may do what @mask says. */
static int get_dir(struct pml_remote *remote, const struct pml_wire_handle *handle, int mask,
		   struct pml_inode **ret_dir)
{
	struct pml_inode *dir;
	int err = pml_remote_inode(remote, handle, &dir);
	if (err)
		return err;

	err = S_ISDIR(pml_inode_mode(dir)) ? pml_inode_access(dir, &remote->cred, mask) : -ENOTDIR;
	if (err) {
		pml_inode_put(dir, 1);
		return err;
	}
	*ret_dir = dir;
	return 0;
}

/* Takes over the caller's reference to @inode. */
static void reply_attr(struct pml_remote *remote, struct pml_inode *inode)
{
	pml_remote_attr(remote, inode, &remote->out.attr_reply.attr);
	remote->out_bytes = sizeof(remote->out.attr_reply);
	pml_inode_put(inode, 1);
}

/* The directory to search, and the name: the @name_bytes behind the fixed @body_bytes. */
static int get_named_dir(struct pml_remote *remote, const struct pml_wire_handle *handle,
			 size_t body_bytes, char *ret_name, struct pml_inode **ret_dir)
{
	size_t name_bytes = remote->in.h.bytes - body_bytes;
	memcpy(ret_name, remote->in.bytes + body_bytes, name_bytes);
	ret_name[name_bytes] = 0;
	return get_dir(remote, handle, X_OK, ret_dir);
}

int pml_serve_lookup(struct pml_remote *remote)
{
	const struct pml_wire_name *m = &remote->in.name;
	char name[PML_NAME_BYTES_MAX + 1];
	struct pml_inode *dir;
	int err = get_named_dir(remote, &m->dir, sizeof(*m), name, &dir);
	if (err)
		return err;

	struct pml_inode *inode;
	err = pml_dir_lookup(dir, name, &inode);
	pml_inode_put(dir, 1);
	if (err)
		return err;
	reply_attr(remote, inode);
	return 0;
}

int pml_serve_getattr(struct pml_remote *remote)
{
	struct pml_inode *inode;
	int err = pml_remote_inode(remote, &remote->in.inode.inode, &inode);
	if (err)
		return err;
	reply_attr(remote, inode);
	return 0;
}

static bool emit_dirent(void *arg, const struct pml_dirent *entry)
{
	struct pml_remote *remote = arg;
	if (strcmp(entry->name, ".") == 0 || strcmp(entry->name, "..") == 0)
		return true;

	size_t name_bytes = strlen(entry->name);
	size_t bytes = pml_codec_dirent_bytes(name_bytes);
	if (remote->out_bytes + bytes > sizeof(remote->out)) {
		remote->out.readdir_reply.is_end = 0;
		return false;
	}

	struct pml_wire_dirent dirent = {
		.ino = entry->ino,
		.cookie = entry->cookie,
		.mode = entry->type,
		.name_bytes = (uint32_t)name_bytes,
	};
	uint8_t *to = remote->out.bytes + remote->out_bytes;
	memset(to, 0, bytes);
	memcpy(to, &dirent, sizeof(dirent));
	memcpy(to + sizeof(dirent), entry->name, name_bytes);
	remote->out_bytes += bytes;
	remote->out.readdir_reply.count++;
	return true;
}

int pml_serve_readdir(struct pml_remote *remote)
{
	struct pml_inode *dir;
	int err = get_dir(remote, &remote->in.readdir.dir, R_OK, &dir);
	if (err)
		return err;

	remote->out.readdir_reply.count = 0;
	remote->out.readdir_reply.is_end = 1;
	remote->out_bytes = sizeof(remote->out.readdir_reply);
	err = pml_dir_read(dir, remote->in.readdir.cookie, emit_dirent, remote);
	pml_inode_put(dir, 1);
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

	if (remote->is_read_only)
		return -EROFS;
	err = pml_inode_access(dir, &remote->cred, W_OK | X_OK);
	if (err)
		return err;
	const struct pml_create_args args = {.mode = S_IFREG | m->mode, .cred = remote->cred};
	err = pml_dir_create(dir, name, &args, ret_inode);
	if (!err && remote->env->created)
		remote->env->created(remote->env->created_arg, pml_inode_ino(dir), name);
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
	int err = get_named_dir(remote, &m->dir, sizeof(*m), name, &dir);
	if (err)
		return err;
	struct pml_inode *inode;
	err = create_or_find(remote, dir, name, &inode);
	pml_inode_put(dir, 1);
	if (err)
		return err;

	if (!S_ISREG(pml_inode_mode(inode))) {
		err = S_ISDIR(pml_inode_mode(inode)) ? -EISDIR : -EINVAL;
		pml_inode_put(inode, 1);
		return err;
	}
	reply_attr(remote, inode);
	return 0;
}
