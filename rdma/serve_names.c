/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * serve_names.c -- requests that look at names and attributes, as the client's user
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

int pml_remote_check_file(struct pml_remote *remote, struct pml_inode *inode, int mask)
{
	if (S_ISDIR(pml_inode_mode(inode)))
		return -EISDIR;
	if (!S_ISREG(pml_inode_mode(inode)))
		return -EINVAL;
	return pml_inode_access(inode, &remote->cred, mask);
}

int pml_remote_file(struct pml_remote *remote, const struct pml_wire_handle *handle, int mask,
		    struct pml_inode **ret_inode)
{
	struct pml_inode *inode;
	int err = pml_remote_inode(remote, handle, &inode);
	if (err)
		return err;
	err = pml_remote_check_file(remote, inode, mask);
	if (err)
		pml_inode_put(inode, 1);
	else
		*ret_inode = inode;
	return err;
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

int pml_remote_dir(struct pml_remote *remote, const struct pml_wire_handle *handle, int mask,
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

void pml_remote_reply_attr(struct pml_remote *remote, struct pml_inode *inode)
{
	pml_remote_attr(remote, inode, &remote->out.attr_reply.attr);
	remote->out_bytes = sizeof(remote->out.attr_reply);
	pml_inode_put(inode, 1);
}

void pml_remote_name(const struct pml_remote *remote, size_t at, size_t bytes, char *ret_name)
{
	assert(bytes <= PML_NAME_BYTES_MAX);
	memcpy(ret_name, remote->in.bytes + at, bytes);
	ret_name[bytes] = 0;
}

void pml_remote_last_name(const struct pml_remote *remote, size_t at, char *ret_name)
{
	pml_remote_name(remote, at, remote->in.h.bytes - at, ret_name);
}

int pml_remote_place(struct pml_remote *remote, const struct pml_wire_handle *handle, size_t at,
		     char *ret_name, struct pml_inode **ret_dir)
{
	pml_remote_last_name(remote, at, ret_name);
	return pml_remote_dir(remote, handle, X_OK, ret_dir);
}

int pml_serve_lookup(struct pml_remote *remote)
{
	const struct pml_wire_name *m = &remote->in.name;
	char name[PML_NAME_BYTES_MAX + 1];
	struct pml_inode *dir;
	int err = pml_remote_place(remote, &m->dir, sizeof(*m), name, &dir);
	if (err)
		return err;
	struct pml_inode *inode;
	err = pml_dir_lookup(dir, name, &inode);
	pml_inode_put(dir, 1);
	if (err)
		return err;
	pml_remote_reply_attr(remote, inode);
	return 0;
}

int pml_serve_getattr(struct pml_remote *remote)
{
	struct pml_inode *inode;
	int err = pml_remote_inode(remote, &remote->in.inode.inode, &inode);
	if (err)
		return err;
	pml_remote_reply_attr(remote, inode);
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
	int err = pml_remote_dir(remote, &remote->in.readdir.dir, R_OK, &dir);
	if (err)
		return err;

	remote->out.readdir_reply.count = 0;
	remote->out.readdir_reply.is_end = 1;
	remote->out_bytes = sizeof(remote->out.readdir_reply);
	err = pml_dir_read(dir, remote->in.readdir.cookie, emit_dirent, remote);
	pml_inode_put(dir, 1);
	return err;
}

/* ---- bytes, in pieces --------------------------------------------------- */

/* The piece of @bytes bytes of @data that the client asks for and one message holds. */
static void reply_piece(struct pml_remote *remote, const char *data, size_t bytes,
			uint32_t first_byte)
{
	struct pml_wire_data_reply *m = &remote->out.data_reply;
	size_t first = PML_MIN(bytes, (size_t)first_byte);
	size_t n = PML_MIN(bytes - first, sizeof(remote->out) - sizeof(*m));
	m->total_bytes = (uint32_t)bytes;
	m->reserved = 0;
	memcpy(remote->out.bytes + sizeof(*m), data + first, n);
	remote->out_bytes = sizeof(*m) + n;
}

int pml_serve_readlink(struct pml_remote *remote)
{
	struct pml_inode *inode;
	int err = pml_remote_inode(remote, &remote->in.inode.inode, &inode);
	if (err)
		return err;
	char target[PML_SYMLINK_MAX + 1];
	err = pml_inode_readlink(inode, target);
	if (err)
		remote->reason = "it is no symbolic link";
	else
		reply_piece(remote, target, strlen(target), 0);
	pml_inode_put(inode, 1);
	return err;
}

int pml_serve_getxattr(struct pml_remote *remote)
{
	const struct pml_wire_xattr *m = &remote->in.xattr;
	char name[PML_XATTR_NAME_BYTES_MAX + 1];
	pml_remote_last_name(remote, sizeof(*m), name);
	pml_auto_free char *value = malloc(PML_XATTR_VALUE_BYTES_MAX);
	if (!value)
		return -ENOMEM;
	struct pml_inode *inode;
	int err = pml_remote_inode(remote, &m->inode, &inode);
	if (err)
		return err;
	size_t bytes = 0;
	err = pml_xattr_may_get(inode, &remote->cred, name);
	if (!err)
		err = pml_xattr_get(inode, name, value, PML_XATTR_VALUE_BYTES_MAX, &bytes);
	if (!err)
		reply_piece(remote, value, bytes, m->first_byte);
	pml_inode_put(inode, 1);
	return err;
}

int pml_serve_listxattr(struct pml_remote *remote)
{
	const struct pml_wire_xattr *m = &remote->in.xattr;
	pml_auto_free char *names = malloc(PML_XATTR_LIST_BYTES_MAX);
	if (!names)
		return -ENOMEM;
	struct pml_inode *inode;
	int err = pml_remote_inode(remote, &m->inode, &inode);
	if (err)
		return err;
	size_t bytes = 0;
	err = pml_xattr_list(inode, &remote->cred, names, PML_XATTR_LIST_BYTES_MAX, &bytes);
	if (!err)
		reply_piece(remote, names, bytes, m->first_byte);
	pml_inode_put(inode, 1);
	return err;
}

int pml_serve_statfs(struct pml_remote *remote)
{
	struct statvfs st;
	pml_fs_statvfs(remote->env->fs, &st);
	struct pml_wire_statfs_reply *m = &remote->out.statfs_reply;
	m->blocks = st.f_blocks;
	m->blocks_free = PML_MIN(st.f_bfree, st.f_blocks);
	m->inodes = st.f_files;
	m->inodes_free = st.f_ffree;
	m->block_bytes = (uint32_t)st.f_frsize;
	m->name_max = (uint32_t)st.f_namemax;
	remote->out_bytes = sizeof(*m);
	return 0;
}
