/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fuse_ioctl.c -- ioctls: who may, and what is answered at once
 *
 * Four kinds: about leases, on the root directory, and about what a description holds, on
 * open files: both are answered by whoever has mounted (pml_fuse_ioctl_ops,
 * pml_fuse_open_ops); about files (fuse_calls.c); and the kernel's questions for flags of
 * inodes, of which there are none.
 */
#include <linux/fs.h>
#include <string.h>

#include "fuse_private.h"
#include "pml/clock.h"

/* An ioctl request. */
struct request {
	struct pml_fuse *fuse;
	fuse_req_t req;
	fuse_ino_t ino;
	unsigned int cmd;
	struct pml_fuse_handle *handle; /* of an open file; NULL: a directory */
	const void *in;
	size_t in_bytes;
	size_t out_bytes;
};

static uid_t uid_of(const struct request *r)
{
	return fuse_req_ctx(r->req)->uid;
}

static bool is_owner(const struct request *r)
{
	return uid_of(r) == 0 || uid_of(r) == r->fuse->owner;
}

/* ---- flags of inodes ------------------------------------------------------ */

/* No flag can be set and none is: lsattr(1) and the kernel's own checks ask. */
static void answer_flags(const struct request *r, bool is_set)
{
	static const char zeros[64];
	if (r->in_bytes > sizeof(zeros) || r->out_bytes > sizeof(zeros))
		pml_fuse_reply_err(r->req, -EINVAL);
	else if (is_set && memcmp(r->in, zeros, r->in_bytes) != 0)
		pml_fuse_reply_err(r->req, -EOPNOTSUPP);
	else
		(void)fuse_reply_ioctl(r->req, 0, zeros, r->out_bytes);
}

/* ---- about leases ---------------------------------------------------------- */

static int check_lease_call(const struct request *r)
{
	if (r->ino != PML_ROOT_INO || !r->fuse->ioctl.ioctl || _IOC_TYPE(r->cmd) != PML_IOC_TYPE)
		return -ENOTTY;
	if (!is_owner(r))
		return -EPERM;
	size_t bytes = _IOC_SIZE(r->cmd);
	return r->in_bytes > bytes || r->out_bytes > bytes ? -EINVAL : 0;
}

static void answer_lease_call(const struct request *r)
{
	const struct pml_fuse *fuse = r->fuse;
	size_t bytes = _IOC_SIZE(r->cmd);
	int err = check_lease_call(r);
	pml_auto_free char *data = err ? NULL : calloc(1, bytes + 1);
	if (!err && !data)
		err = -ENOMEM;
	if (!err) {
		if (r->in_bytes > 0)
			memcpy(data, r->in, r->in_bytes);
		err = fuse->ioctl.ioctl(fuse->ioctl.arg, r->cmd, data, bytes);
	}
	if (err)
		pml_fuse_reply_err(r->req, err);
	else
		(void)fuse_reply_ioctl(r->req, 0, data, r->out_bytes);
}

/* ---- about what a description holds ------------------------------------------ */

/* Numbers below are those of the front end, or for the root directory. */
#define FIRST_OPEN_CALL 32u

static bool is_open_call(const struct request *r)
{
	return r->handle && _IOC_TYPE(r->cmd) == PML_IOC_TYPE && _IOC_NR(r->cmd) >= FIRST_OPEN_CALL;
}

static struct pml_fuse_open describe_open(const struct request *r)
{
	return (struct pml_fuse_open){
		.id = r->handle->id,
		.ino = pml_inode_ino(r->handle->inode),
		.can_read = r->handle->rights & PML_FUSE_CAN_READ,
		.can_write = r->handle->rights & PML_FUSE_CAN_WRITE,
		.uid = uid_of(r),
		.tid = fuse_req_ctx(r->req)->pid,
	};
}

/* Runs and is answered on a thread that may tell the kernel something. */
static int defer_open_call(const struct request *r, const struct pml_fuse_open *open)
{
	struct pml_fuse_call *call = calloc(1, sizeof(*call));
	if (!call)
		return -ENOMEM;
	assert(r->in_bytes <= sizeof(call->data));
	call->fuse = r->fuse;
	call->req = r->req;
	call->cmd = r->cmd;
	call->inode = r->handle->inode;
	pml_inode_ref(call->inode);
	pml_list_init(&call->link);
	call->is_of_open = true;
	call->open = *open;
	memcpy(&call->data, r->in, r->in_bytes);
	pml_fuse_call_answer(call, 0);
	return 0;
}

static void answer_open_call(const struct request *r)
{
	const struct pml_fuse_open_ops *ops = &r->fuse->open_ops;
	size_t bytes = _IOC_SIZE(r->cmd);
	int err = ops->ioctl ? 0 : -ENOTTY;
	if (!err && (r->in_bytes != bytes || r->out_bytes != bytes))
		err = -EINVAL;
	pml_auto_free char *data = err ? NULL : malloc(bytes + 1);
	if (!err && !data)
		err = -ENOMEM;
	if (!err) {
		const struct pml_fuse_open open = describe_open(r);
		/* From now on its end matters. */
		r->handle->is_used = true;
		if (ops->may_tell(r->cmd)) {
			err = defer_open_call(r, &open);
			if (!err)
				return;
		} else {
			memcpy(data, r->in, bytes);
			err = ops->ioctl(ops->arg, &open, r->cmd, data, bytes);
		}
	}
	if (err)
		pml_fuse_reply_err(r->req, err);
	else
		(void)fuse_reply_ioctl(r->req, 0, data, bytes);
}

/* ---- about files, answered at once ------------------------------------------ */

static int give_token(const struct request *r, struct pml_inode *inode, void *data)
{
	struct pml_ioc_token *token = data;
	/* A directory is open for reading. */
	unsigned int rights = r->handle ? r->handle->rights : PML_FUSE_CAN_READ;
	static_assert(sizeof(token->token) == PML_FUSE_TOKEN_BYTES, "one size");
	token->life_ms = PML_FUSE_TOKEN_LIFE_MS;
	int err = pml_fuse_tokens_give(r->fuse->tokens, inode, uid_of(r), rights, pml_now_ms(),
				       token->token);
	if (!err)
		pml_fuse_answers_note_token(&r->fuse->answers);
	return err;
}

static void fill_extent(struct pml_ioc_extent *to, const struct pml_extent_info *from)
{
	*to = (struct pml_ioc_extent){
		.first_byte = from->first_byte,
		.block = from->block,
		.nblocks = from->nblocks,
		.shares = from->shares,
		.flags = (from->is_unwritten ? PML_IOC_EXTENT_UNWRITTEN : 0u) |
			 (from->shares > 1 ? PML_IOC_EXTENT_SHARED : 0u) |
			 (from->is_pinned ? PML_IOC_EXTENT_PINNED : 0u) |
			 (from->is_last ? PML_IOC_EXTENT_LAST : 0u),
	};
}

static int list_extents(const struct request *r, struct pml_inode *inode, void *data)
{
	(void)r;
	struct pml_ioc_extents *out = data;
	size_t n = 0;
	if (out->first_byte > (uint64_t)PML_FILE_BYTES_MAX)
		return -EFBIG;
	pml_auto_free struct pml_extent_info *infos = calloc(PML_IOC_EXTENTS_MAX, sizeof(*infos));
	if (!infos)
		return -ENOMEM;
	int err = pml_file_extents(inode, out->first_byte, infos, PML_IOC_EXTENTS_MAX, &n,
				   &out->next_byte);
	for (size_t i = 0; !err && i < n; i++)
		fill_extent(&out->extents[i], &infos[i]);
	out->count = (uint32_t)n;
	return err;
}

/* ---- about files, run like other operations ---------------------------------- */

/* What the tokens of a call must name, and what the descriptor must be able to do. */
static int check_call(const struct request *r, const struct pml_fuse_call *call)
{
	unsigned int rights = r->handle ? r->handle->rights : 0;
	switch (call->cmd) {
	case PML_IOC_CLONE:
		return (rights & PML_FUSE_CAN_WRITE) && !(rights & PML_FUSE_APPENDS) ? 0 : -EBADF;
	case PML_IOC_DEDUPE:
		if (!(rights & PML_FUSE_CAN_READ))
			return -EBADF;
		return call->data.dedupe.ndst - 1 < PML_IOC_DEDUPE_MAX ? 0 : -EINVAL;
	case PML_IOC_SNAPSHOT:
		if (!(pml_inode_mode(call->inode) & S_IFDIR))
			return -ENOTDIR;
		if (!memchr(call->data.snapshot.name, 0, sizeof(call->data.snapshot.name)))
			return -ENAMETOOLONG;
		return is_owner(r) ? 0 : -EPERM;
	default:
		return rights & PML_FUSE_CAN_WRITE ? 0 : -EBADF;
	}
}

static int take_token(const struct request *r, struct pml_fuse_call *call, const uint8_t *token,
		      unsigned int rights)
{
	struct pml_inode *inode =
		pml_fuse_tokens_take(r->fuse->tokens, token, uid_of(r), rights, pml_now_ms());
	if (!inode)
		return -ESTALE;
	call->other[call->nother++] = inode;
	return 0;
}

static int take_tokens(const struct request *r, struct pml_fuse_call *call)
{
	const struct pml_ioc_dedupe *dedupe = &call->data.dedupe;
	int err = 0;
	switch (call->cmd) {
	case PML_IOC_CLONE:
		return take_token(r, call, call->data.clone.token, PML_FUSE_CAN_READ);
	case PML_IOC_SNAPSHOT:
		return take_token(r, call, call->data.snapshot.token, PML_FUSE_CAN_READ);
	case PML_IOC_DEDUPE:
		for (uint32_t i = 0; !err && i < dedupe->ndst; i++)
			err = take_token(r, call, dedupe->dst[i].token, PML_FUSE_CAN_WRITE);
		return err;
	default:
		return 0;
	}
}

static void start_call(const struct request *r, struct pml_inode *inode)
{
	struct pml_fuse_call *call = calloc(1, sizeof(*call));
	if (!call) {
		pml_inode_put(inode, 1);
		pml_fuse_reply_err(r->req, -ENOMEM);
		return;
	}
	call->fuse = r->fuse;
	call->req = r->req;
	call->cmd = r->cmd;
	call->inode = inode;
	pml_list_init(&call->link);
	memcpy(&call->data, r->in, r->in_bytes);
	int err = check_call(r, call);
	if (!err)
		err = take_tokens(r, call);
	if (err) {
		pml_fuse_reply_err(r->req, err);
		pml_fuse_call_free(call);
		return;
	}
	pml_inode_ref(inode);
	struct pml_fuse_op op = {
		.kind = PML_FUSE_CALL,
		.fuse = r->fuse,
		.req = r->req,
		.inode = inode,
		.open_id = r->handle && r->handle->is_used ? r->handle->id : 0,
		.call = call,
	};
	pml_fuse_op_start(&op);
}

/* ---- all --------------------------------------------------------------------- */

/* Calls about files; answer NULL: fuse_calls.c. */
static const struct file_call {
	unsigned int cmd;
	size_t reserved_at; /* of a field that must be 0; 0: none */
	int (*answer)(const struct request *r, struct pml_inode *inode, void *data);
} file_calls[] = {
	{PML_IOC_TOKEN, 0, give_token},
	{PML_IOC_EXTENTS, 0, list_extents},
	{PML_IOC_CLONE, offsetof(struct pml_ioc_clone, reserved), NULL},
	{PML_IOC_DEDUPE, 0, NULL},
	{PML_IOC_COLLAPSE, offsetof(struct pml_ioc_range, reserved), NULL},
	{PML_IOC_INSERT, offsetof(struct pml_ioc_range, reserved), NULL},
	{PML_IOC_UNSHARE, offsetof(struct pml_ioc_range, reserved), NULL},
	{PML_IOC_SNAPSHOT, offsetof(struct pml_ioc_snapshot, reserved), NULL},
	{PML_IOC_RELOCATE, offsetof(struct pml_ioc_relocate, reserved), NULL},
};

static const struct file_call *find_file_call(unsigned int cmd)
{
	for (size_t i = 0; i < PML_ARRAY_LEN(file_calls); i++)
		if (file_calls[i].cmd == cmd)
			return &file_calls[i];
	return NULL;
}

static int check_data(const struct request *r, const struct file_call *call)
{
	size_t bytes = _IOC_SIZE(r->cmd);
	uint32_t version, reserved = 0;
	if (r->in_bytes != bytes || r->out_bytes != bytes)
		return -EINVAL;
	memcpy(&version, r->in, sizeof(version)); /* the first field of each */
	if (call->reserved_at)
		memcpy(&reserved, (const char *)r->in + call->reserved_at, sizeof(reserved));
	return version != PML_IOC_VERSION || reserved ? -EINVAL : 0;
}

static void answer_file_call(const struct request *r, const struct file_call *call)
{
	int err = check_data(r, call);
	if (err) {
		pml_fuse_reply_err(r->req, err);
		return;
	}
	struct pml_inode *inode = pml_fuse_hold(r->req, r->ino);
	if (!inode)
		return;
	if (!call->answer) {
		start_call(r, inode);
		return;
	}
	pml_auto_free char *data = malloc(r->in_bytes);
	err = data ? 0 : -ENOMEM;
	if (data) {
		memcpy(data, r->in, r->in_bytes);
		err = call->answer(r, inode, data);
	}
	if (err)
		pml_fuse_reply_err(r->req, err);
	else
		(void)fuse_reply_ioctl(r->req, 0, data, r->out_bytes);
	pml_inode_put(inode, 1);
}

void pml_fuse_ioctl(fuse_req_t req, fuse_ino_t ino, unsigned int cmd, void *arg,
		    struct fuse_file_info *fi, unsigned int flags, const void *in, size_t in_bytes,
		    size_t out_bytes)
{
	const struct request r = {
		.fuse = pml_fuse_of(req),
		.req = req,
		.ino = ino,
		.cmd = cmd,
		.handle = flags & FUSE_IOCTL_DIR ? NULL : pml_fuse_handle_of(fi),
		.in = in,
		.in_bytes = in_bytes,
		.out_bytes = out_bytes,
	};
	const struct file_call *call = find_file_call(cmd);
	if (call)
		answer_file_call(&r, call);
	else if (cmd == FS_IOC_GETFLAGS || cmd == FS_IOC_FSGETXATTR)
		answer_flags(&r, false);
	else if (cmd == FS_IOC_SETFLAGS || cmd == FS_IOC_FSSETXATTR)
		answer_flags(&r, true);
	else if (is_open_call(&r))
		answer_open_call(&r);
	else
		answer_lease_call(&r);
}
