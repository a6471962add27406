/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * remotefs_data.c -- contents of files: one-sided reads and writes under leases
 *
 * Each open description is a file of the client library, which takes leases where it is read
 * and written, and gives them back when they are recalled; those of one inode share them.
 * What is written is durable, and seen by others, when it was committed: at close, fsync and
 * truncate, and before a lease is returned.  A write that was lost with its lease is told by
 * the next of these.
 */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "remotefs_private.h"

/* What fi->fh of an open file points to. */
struct open_file {
	struct pml_remotefs *fs;
	struct pml_remote_node *node; /* the kernel forgets no inode that is open */
	pthread_rwlock_t io;	      /* held for writing while file is made anew */
	struct pml_client_file *file;
};

static struct open_file *open_of(const struct fuse_file_info *fi)
{
	return (struct open_file *)(uintptr_t)fi->fh;
}

/* ---- open, commit, close ------------------------------------------------- */

/* Whether it may be read or written, the kernel has checked, and the server will. */
static int open_client_file(struct pml_remotefs *fs, struct pml_remote_node *node,
			    struct pml_client_file **ret_file)
{
	const struct pml_client_handle handle = pml_remote_handle(node);
	return pml_client_file_open(fs->client, &handle,
				    PML_CLIENT_FILE_READ | PML_CLIENT_FILE_WRITE, NULL, ret_file);
}

/* The node's file while any description is open, for unuse_node(); else NULL. */
static struct pml_client_file *hold_node(struct pml_remote_node *node)
{
	pthread_mutex_lock(&node->lock);
	struct pml_client_file *file = node->file;
	if (file)
		node->nopens++;
	pthread_mutex_unlock(&node->lock);
	return file;
}

/* Counts a description of @node; the first one opens its file. */
static int use_node(struct pml_remotefs *fs, struct pml_remote_node *node)
{
	if (hold_node(node))
		return 0;
	struct pml_client_file *file;
	int err = open_client_file(fs, node, &file);
	if (err)
		return err;
	pthread_mutex_lock(&node->lock);
	if (node->nopens++ == 0) {
		node->file = file;
		file = NULL;
	}
	pthread_mutex_unlock(&node->lock);
	return pml_client_file_close(file); /* another one was faster: nothing is lost */
}

static void unuse_node(struct pml_remotefs *fs, struct pml_remote_node *node)
{
	struct pml_client_file *file = NULL;
	pthread_mutex_lock(&node->lock);
	assert(node->nopens > 0);
	if (--node->nopens == 0) {
		file = node->file;
		node->file = NULL;
	}
	pthread_mutex_unlock(&node->lock);
	if (!file)
		return;
	/* Losses were told to the descriptions. */
	(void)pml_client_file_close(file);
	pml_remote_unhide(fs, node);
}

int pml_remote_open(struct pml_remotefs *fs, struct pml_remote_node *node,
		    struct fuse_file_info *fi)
{
	struct open_file *open = calloc(1, sizeof(*open));
	if (!open)
		return -ENOMEM;
	int err = open_client_file(fs, node, &open->file);
	if (!err)
		err = use_node(fs, node);
	if (err) {
		(void)pml_client_file_close(open->file);
		free(open);
		return err;
	}
	open->fs = fs;
	open->node = node;
	pthread_rwlock_init(&open->io, NULL);
	fi->fh = (uintptr_t)open;
	/* Nobody tells this kernel of others' writes: its pages live from open to close. */
	fi->keep_cache = 0;
	return 0;
}

int pml_remote_close(struct fuse_file_info *fi)
{
	struct open_file *open = open_of(fi);
	int err = pml_client_file_close(open->file);
	unuse_node(open->fs, open->node);
	pthread_rwlock_destroy(&open->io);
	free(open);
	return err;
}

void pml_remote_abandon(struct fuse_file_info *fi)
{
	int err = pml_remote_close(fi);
	(void)err; /* nothing was written */
}

int pml_remote_commit(struct pml_remotefs *fs, struct pml_remote_node *node)
{
	struct pml_client_file *file = hold_node(node);
	if (!file)
		return 0;
	int err = pml_client_file_commit(file);
	unuse_node(fs, node);
	return err;
}

int pml_remote_give_up(struct pml_remotefs *fs, struct pml_remote_node *node, uint64_t first_byte)
{
	struct pml_client_file *file = hold_node(node);
	if (!file)
		return 0;
	int err = pml_client_file_give_up(file, first_byte);
	unuse_node(fs, node);
	return err;
}

uint64_t pml_remote_written_end(struct pml_remotefs *fs, struct pml_remote_node *node)
{
	struct pml_client_file *file = hold_node(node);
	if (!file)
		return 0;
	uint64_t end_byte = pml_client_file_end(file);
	unuse_node(fs, node);
	return end_byte;
}

/*
 * The server was mounted again, and does not know the handle: opens the file of the same
 * name and number.  What was written before and not committed is lost, and told.
 */
static int open_again(struct open_file *open)
{
	int err = pml_remote_node_again(open->fs, open->node);
	pthread_rwlock_wrlock(&open->io);
	struct pml_client_file *file;
	if (!err)
		err = open_client_file(open->fs, open->node, &file);
	if (!err) {
		err = pml_client_file_close(open->file);
		open->file = file;
	}
	pthread_rwlock_unlock(&open->io);
	return err;
}

/* ---- requests ------------------------------------------------------------ */

static void on_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct pml_remotefs *fs = pml_remotefs_of(req);
	int err = pml_remote_open(fs, pml_remote_node(fs, ino), fi);
	if (err)
		pml_remote_reply_err(req, err);
	else if (fuse_reply_open(req, fi) != 0)
		pml_remote_abandon(fi);
}

static ssize_t read_open(struct open_file *open, void *data, size_t bytes, uint64_t first_byte)
{
	pthread_rwlock_rdlock(&open->io);
	ssize_t got = pml_client_file_read(open->file, data, bytes, first_byte);
	pthread_rwlock_unlock(&open->io);
	return got;
}

static void on_read(fuse_req_t req, fuse_ino_t ino, size_t len_bytes, off_t first_byte,
		    struct fuse_file_info *fi)
{
	(void)ino;
	size_t bytes = PML_MIN(len_bytes, PML_REMOTE_IO_BYTES);
	pml_auto_free char *buffer = malloc(bytes);
	ssize_t got = -ENOMEM;
	if (buffer)
		got = read_open(open_of(fi), buffer, bytes, (uint64_t)first_byte);
	if (got == -ESTALE && open_again(open_of(fi)) == 0)
		got = read_open(open_of(fi), buffer, bytes, (uint64_t)first_byte);
	if (got < 0)
		pml_remote_reply_err(req, (int)got);
	else
		(void)fuse_reply_buf(req, buffer, (size_t)got);
}

static ssize_t write_open(struct open_file *open, const void *data, size_t bytes,
			  uint64_t first_byte)
{
	pthread_rwlock_rdlock(&open->io);
	ssize_t put = pml_client_file_write(open->file, data, bytes, first_byte);
	pthread_rwlock_unlock(&open->io);
	return put;
}

static void on_write(fuse_req_t req, fuse_ino_t ino, const char *data, size_t len_bytes,
		     off_t first_byte, struct fuse_file_info *fi)
{
	(void)ino;
	ssize_t put = write_open(open_of(fi), data, len_bytes, (uint64_t)first_byte);
	if (put == -ESTALE && open_again(open_of(fi)) == 0)
		put = write_open(open_of(fi), data, len_bytes, (uint64_t)first_byte);
	if (put < 0)
		pml_remote_reply_err(req, (int)put);
	else
		(void)fuse_reply_write(req, (size_t)put);
}

/* close(2) of a descriptor, or fsync(2): what was lost reaches the program. */
static void on_flush(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	(void)ino;
	struct open_file *open = open_of(fi);
	pthread_rwlock_rdlock(&open->io);
	int err = pml_client_file_commit(open->file);
	pthread_rwlock_unlock(&open->io);
	pml_remote_reply_err(req, err);
}

static void on_fsync(fuse_req_t req, fuse_ino_t ino, int is_data, struct fuse_file_info *fi)
{
	(void)is_data;
	on_flush(req, ino, fi);
}

static void on_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	(void)ino;
	pml_remote_reply_err(req, pml_remote_close(fi));
}

/* What is aligned to blocks shares them; the kernel copies the rest by reading and writing. */
static void on_copy(fuse_req_t req, fuse_ino_t ino_in, off_t off_in, struct fuse_file_info *fi_in,
		    fuse_ino_t ino_out, off_t off_out, struct fuse_file_info *fi_out,
		    size_t len_bytes, int flags)
{
	(void)fi_in;
	(void)fi_out;
	(void)flags;
	struct pml_remotefs *fs = pml_remotefs_of(req);
	struct pml_remote_node *from = pml_remote_node(fs, ino_in);
	struct pml_remote_node *to = pml_remote_node(fs, ino_out);
	if ((uint64_t)off_in % PML_BLOCK_BYTES || (uint64_t)off_out % PML_BLOCK_BYTES) {
		pml_remote_reply_err(req, -EOPNOTSUPP);
		return;
	}
	/* The server clones what it knows of, and our own leases would be in its way. */
	int err = pml_remote_give_up(fs, from, (uint64_t)off_in);
	if (!err)
		err = pml_remote_give_up(fs, to, (uint64_t)off_out);
	uint64_t bytes = 0;
	const struct pml_client_handle src = pml_remote_handle(from);
	const struct pml_client_handle dst = pml_remote_handle(to);
	if (!err)
		err = pml_client_clone_at(fs->client, &src, (uint64_t)off_in, &dst,
					  (uint64_t)off_out, len_bytes, &bytes);
	if (err == -EINVAL || err == -ESTALE)
		err = -EOPNOTSUPP;
	if (err)
		pml_remote_reply_err(req, err);
	else
		(void)fuse_reply_write(req, (size_t)bytes);
}

void pml_remote_data_ops(struct fuse_lowlevel_ops *ops)
{
	ops->open = on_open;
	ops->read = on_read;
	ops->write = on_write;
	ops->flush = on_flush;
	ops->fsync = on_fsync;
	ops->release = on_release;
	ops->copy_file_range = on_copy;
}
