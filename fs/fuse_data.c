/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fuse_data.c -- requests on file contents, and setattr, whose size is layout
 *
 * An open file's handle keeps its inode up to the answer of the last request.  What goes
 * on after an answer needs a reference.
 */
#include <string.h>

#include "fuse_private.h"
#include "pml/clock.h"

/* The open file's inode, with a reference. */
static struct pml_inode *hold_open(const struct fuse_file_info *fi)
{
	struct pml_inode *inode = pml_fuse_inode_of(fi);
	pml_inode_ref(inode);
	return inode;
}

/* ---- reading ------------------------------------------------------------ */

/* Reads that the kernel serves from its pages do not come here. */
static bool must_see_reads(const struct pml_fuse *fuse, struct pml_inode *inode, int flags)
{
	return (flags & O_ACCMODE) != O_WRONLY && !(flags & O_NOATIME) &&
	       pml_inode_is_atime_due(inode, fuse->atime);
}

void pml_fuse_open_flags(struct pml_fuse *fuse, struct fuse_file_info *fi)
{
	struct pml_inode *inode = pml_fuse_inode_of(fi);
	/*
	 * All changes go through the kernel or are told to it: its pages may stay, unless the
	 * first read is to set atime.
	 */
	fi->keep_cache = !pml_fuse_nodes_is_stale(fuse->nodes, pml_inode_ino(inode)) &&
			 !must_see_reads(fuse, inode, fi->flags);
	fi->noflush = 1;
}

void pml_fuse_open_file(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct pml_inode *inode = pml_fuse_hold(req, ino);
	if (!inode)
		return;
	struct pml_fuse *fuse = pml_fuse_of(req);
	int err = pml_fuse_handle_new(fuse, inode, fi);
	if (err) {
		pml_fuse_reply_err(req, err);
	} else {
		pml_fuse_open_flags(fuse, fi);
		if (fuse_reply_open(req, fi) != 0)
			pml_fuse_handle_drop(fuse, fi);
	}
	pml_inode_put(inode, 1);
}

void pml_fuse_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
		   struct fuse_file_info *fi)
{
	struct pml_inode *inode = hold_open(fi);
	struct iovec iov[PML_IOV_MAX];
	int iovcnt = 0;
	size_t bytes = 0;
	if (!(fi->flags & O_NOATIME))
		pml_inode_accessed(inode, pml_fuse_of(req)->atime);
	int err = pml_file_read_begin(inode, (uint64_t)off, size, iov, &iovcnt, &bytes);
	if (err) {
		pml_fuse_reply_err(req, err);
	} else {
		(void)fuse_reply_iov(req, iov, iovcnt);
		pml_file_read_end(inode);
	}
	pml_inode_put(inode, 1);
}

void pml_fuse_lseek(fuse_req_t req, fuse_ino_t ino, off_t off, int whence,
		    struct fuse_file_info *fi)
{
	struct pml_inode *inode = hold_open(fi);
	uint64_t found = 0;
	int err = off < 0 ? -ENXIO : pml_file_seek(inode, (uint64_t)off, whence, &found);
	if (err)
		pml_fuse_reply_err(req, err);
	else
		(void)fuse_reply_lseek(req, (off_t)found);
	pml_inode_put(inode, 1);
}

void pml_fuse_fsync(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi)
{
	struct pml_inode *inode = hold_open(fi);
	pml_fuse_reply_err(req, pml_file_sync(inode));
	pml_inode_put(inode, 1);
}

/* ---- changing ----------------------------------------------------------- */

void pml_fuse_write(fuse_req_t req, fuse_ino_t ino, const char *data, size_t size, off_t off,
		    struct fuse_file_info *fi)
{
	struct pml_fuse_op op = {
		.kind = PML_FUSE_WRITE,
		.fuse = pml_fuse_of(req),
		.req = req,
		.inode = hold_open(fi),
		/* The kernel writes pages back through any description of the file. */
		.open_id = fi->writepage ? 0 : pml_fuse_open_id(fi),
		.first_byte = (uint64_t)off,
		.len_bytes = size,
		.data = data,
		/* Pages that the kernel writes back belong where they are. */
		.is_append = (fi->flags & O_APPEND) && !fi->writepage,
		.is_page = fi->writepage,
		/* Of others the kernel asks for an fsync by itself. */
		.is_sync = (fi->flags & O_DIRECT) && (fi->flags & O_DSYNC),
	};
	pml_fuse_op_start(&op);
}

void pml_fuse_fallocate(fuse_req_t req, fuse_ino_t ino, int mode, off_t offset, off_t length,
			struct fuse_file_info *fi)
{
	struct pml_fuse_op op = {
		.kind = PML_FUSE_ALLOCATE,
		.fuse = pml_fuse_of(req),
		.req = req,
		.inode = hold_open(fi),
		.open_id = pml_fuse_open_id(fi),
		.first_byte = (uint64_t)offset,
		.len_bytes = (uint64_t)length,
		.mode = mode,
	};
	pml_fuse_op_start(&op);
}

void pml_fuse_copy_file_range(fuse_req_t req, fuse_ino_t ino_in, off_t off_in,
			      struct fuse_file_info *fi_in, fuse_ino_t ino_out, off_t off_out,
			      struct fuse_file_info *fi_out, size_t len, int flags)
{
	struct pml_fuse_op op = {
		.kind = PML_FUSE_CLONE,
		.fuse = pml_fuse_of(req),
		.req = req,
		.inode = hold_open(fi_out),
		.src = hold_open(fi_in),
		.open_id = pml_fuse_open_id(fi_out),
		.src_open_id = pml_fuse_open_id(fi_in),
		.first_byte = (uint64_t)off_out,
		.src_byte = (uint64_t)off_in,
		.len_bytes = len,
	};
	pml_fuse_op_start(&op);
}

void pml_fuse_setattr(fuse_req_t req, fuse_ino_t ino, struct stat *attr, int to_set,
		      struct fuse_file_info *fi)
{
	struct pml_inode *inode = pml_fuse_hold(req, ino);
	if (!inode)
		return;
	struct pml_fuse_op op = {
		.kind = PML_FUSE_SETATTR,
		.fuse = pml_fuse_of(req),
		.req = req,
		.inode = inode,
		.open_id = pml_fuse_open_id(fi),
		.to_set = (unsigned int)to_set,
		.attr = *attr,
	};
	/* "Now" is one time for all. */
	if (op.to_set & (FUSE_SET_ATTR_ATIME_NOW | FUSE_SET_ATTR_MTIME_NOW)) {
		op.attr.st_ctim = pml_now_wall();
		op.to_set |= FUSE_SET_ATTR_CTIME;
	}
	if (op.to_set & FUSE_SET_ATTR_ATIME_NOW)
		op.attr.st_atim = op.attr.st_ctim;
	if (op.to_set & FUSE_SET_ATTR_MTIME_NOW)
		op.attr.st_mtim = op.attr.st_ctim;
	pml_fuse_op_start(&op);
}

static unsigned int what_to_set(unsigned int to_set)
{
	unsigned int what = 0;
	if (to_set & FUSE_SET_ATTR_MODE)
		what |= PML_SET_MODE;
	if (to_set & FUSE_SET_ATTR_UID)
		what |= PML_SET_UID;
	if (to_set & FUSE_SET_ATTR_GID)
		what |= PML_SET_GID;
	if (to_set & (FUSE_SET_ATTR_ATIME | FUSE_SET_ATTR_ATIME_NOW))
		what |= PML_SET_ATIME;
	if (to_set & (FUSE_SET_ATTR_MTIME | FUSE_SET_ATTR_MTIME_NOW))
		what |= PML_SET_MTIME;
	if (to_set & FUSE_SET_ATTR_CTIME)
		what |= PML_SET_CTIME;
	return what;
}

/*
 * Setuid and setgid bits and capabilities go when a user changes what is in a file.  The
 * kernel leaves that to us (fuse_io.c): before a write it sends a setattr that sets nothing
 * (fuse_setattr() in fs/fuse/dir.c there), though not before each kind on each version.
 */
static int drop_privileges(const struct pml_fuse_op *op)
{
	bool is_content = !op->is_page;
	if (op->kind == PML_FUSE_SETATTR)
		is_content = op->to_set == 0 || (op->to_set & FUSE_SET_ATTR_SIZE);
	if (op->kind == PML_FUSE_CALL)
		is_content = pml_fuse_call_is_content(op->call);
	if (!is_content || fuse_req_ctx(op->req)->uid == 0)
		return 0;
	pml_auto_free gid_t *groups = NULL;
	bool has_setgid = pml_inode_mode(op->inode) & S_ISGID;
	struct pml_cred cred = pml_fuse_caller(op->req, has_setgid, &groups);
	bool has_dropped = false;
	int err = pml_inode_drop_privileges(op->inode, &cred, &has_dropped);
	/* The answer to a setattr says so; attributes alone wait for no page's lock. */
	if (has_dropped && op->kind != PML_FUSE_SETATTR)
		(void)fuse_lowlevel_notify_inval_inode(op->fuse->session, pml_inode_ino(op->inode),
						       -1, 0);
	return err;
}

/* The size first: it is what can fail for reasons that the kernel has not checked. */
static int run_setattr(struct pml_fuse_op *op, struct pml_waiter *w)
{
	if ((op->to_set & FUSE_SET_ATTR_SIZE) && !op->is_truncated) {
		if (op->attr.st_size < 0)
			return -EFBIG;
		int err = pml_file_truncate(op->inode, (uint64_t)op->attr.st_size, w);
		if (err)
			return err;
		op->is_truncated = true;
	}
	unsigned int what = what_to_set(op->to_set);
	/* Nothing at all is a chown(2) that names no one, or a write's; it sets ctime. */
	return what || op->to_set == 0 ? pml_inode_set(op->inode, what, &op->attr) : 0;
}

static int run_clone(struct pml_fuse_op *op, struct pml_waiter *w)
{
	/*
	 * Up to the end that the source has now: the kernel's limit may be an old size, and a
	 * copy behind the end of the same file would follow the end that it moves.
	 */
	if (op->done_bytes == 0) {
		uint64_t size = pml_inode_size(op->src);
		uint64_t left = size > op->src_byte ? size - op->src_byte : 0;
		op->len_bytes = PML_MIN(op->len_bytes, left);
	}
	while (op->done_bytes < op->len_bytes) {
		uint64_t bytes = 0;
		int err = pml_file_clone(op->src, op->src_byte + op->done_bytes, op->inode,
					 op->first_byte + op->done_bytes,
					 op->len_bytes - op->done_bytes, w, &bytes);
		if (err == -EINPROGRESS)
			return err; /* op may be gone */
		if (err)
			return op->done_bytes > 0 ? 0 : err;
		if (bytes == 0)
			break;
		op->done_bytes += bytes;
	}
	return 0;
}

static int run_once(struct pml_fuse_op *op, struct pml_waiter *w)
{
	int err = drop_privileges(op);
	if (err)
		return err;
	switch (op->kind) {
	case PML_FUSE_SETATTR:
		return run_setattr(op, w);
	case PML_FUSE_WRITE:
		if (op->is_page)
			err = pml_file_write_back(op->inode, op->data, op->len_bytes,
						  op->first_byte, w);
		else
			err = pml_file_write(op->inode, op->data, op->len_bytes, op->first_byte,
					     op->is_append, w);
		return !err && op->is_sync ? pml_file_sync(op->inode) : err;
	case PML_FUSE_ALLOCATE:
		return pml_file_allocate(op->inode, op->mode, op->first_byte, op->len_bytes, w);
	case PML_FUSE_CLONE:
		return run_clone(op, w);
	case PML_FUSE_CALL:
		return pml_fuse_call_run(op->call, w);
	}
	return -EINVAL;
}

/* Between two tries of an operation that found the device full. */
#define RETRY_US 5000

int pml_fuse_op_run(struct pml_fuse_op *op, struct pml_waiter *w)
{
	/* After -EINPROGRESS op may be gone. */
	int err = run_once(op, w);
	while (err == -ENOSPC && pml_fs_frees_soon(op->fuse->fs)) {
		usleep(RETRY_US);
		err = run_once(op, w);
	}
	return err;
}

/*
 * The kernel kept what was appended at the size that it knew.  If a remote writer has
 * made the file longer in between, the bytes have gone elsewhere.
 */
static void check_append(const struct pml_fuse_op *op)
{
	if (op->is_append && pml_inode_size(op->inode) != op->first_byte + op->len_bytes)
		pml_fuse_invalidate(op->fuse, pml_inode_ino(op->inode), 0, UINT64_MAX);
}

void pml_fuse_op_reply(const struct pml_fuse_op *op, int err)
{
	if (op->kind == PML_FUSE_CALL) {
		pml_fuse_call_answer(op->call, err);
		return;
	}
	if (err) {
		pml_fuse_reply_err(op->req, err);
		return;
	}
	struct stat attr;
	switch (op->kind) {
	case PML_FUSE_SETATTR:
		pml_inode_stat(op->inode, &attr);
		(void)fuse_reply_attr(op->req, &attr, PML_FUSE_TIMEOUT_S);
		break;
	case PML_FUSE_WRITE:
		check_append(op);
		(void)fuse_reply_write(op->req, op->len_bytes);
		break;
	case PML_FUSE_ALLOCATE:
		pml_fuse_reply_err(op->req, 0);
		break;
	case PML_FUSE_CLONE:
		(void)fuse_reply_write(op->req, op->done_bytes);
		break;
	case PML_FUSE_CALL:
		break;
	}
}
