/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * null.c -- a FUSE filesystem that does nothing: what the data path costs at least
 *
 * usage: bench_null MOUNTPOINT MIB [store]
 *
 * One file, "data": reads come from ordinary memory of that size, what is written
 * goes nowhere, or into that memory.  The session has the settings of pmemleasefs (fs/fuse_ops.c),
 * the same time limits of attributes, and its loop (fs/fuse_loop.c).  Stays in the foreground until
 * it is unmounted.
 */
#define FUSE_USE_VERSION 314
#include <errno.h>
#include <fuse_lowlevel.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "../fs/fuse_loop.h"

#define DATA_INO  2
#define TIMEOUT_S 1.0

static char *data_memory;
static bool is_storing;
static off_t data_bytes;

static void init(void *arg, struct fuse_conn_info *conn)
{
	conn->want &= ~(unsigned int)(FUSE_CAP_SPLICE_READ | FUSE_CAP_SPLICE_WRITE |
				      FUSE_CAP_SPLICE_MOVE | FUSE_CAP_ATOMIC_O_TRUNC |
				      FUSE_CAP_WRITEBACK_CACHE | FUSE_CAP_AUTO_INVAL_DATA);
	conn->want |= (FUSE_CAP_ASYNC_READ | FUSE_CAP_ASYNC_DIO | FUSE_CAP_EXPLICIT_INVAL_DATA) &
		      conn->capable;
	conn->max_write = PML_FUSE_TRANSFER_MAX;
	conn->max_readahead = 1u << 20;
	conn->max_background = 64;
	conn->congestion_threshold = 48;
}

static int attr_of(fuse_ino_t ino, struct stat *ret_attr)
{
	*ret_attr = (struct stat){.st_ino = ino, .st_nlink = 1, .st_blksize = 4096};
	if (ino == FUSE_ROOT_ID) {
		ret_attr->st_mode = S_IFDIR | 0755;
	} else if (ino == DATA_INO) {
		ret_attr->st_mode = S_IFREG | 0644;
		ret_attr->st_size = data_bytes;
	} else {
		return ENOENT;
	}
	return 0;
}

static void lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct fuse_entry_param entry = {
		.ino = DATA_INO, .attr_timeout = TIMEOUT_S, .entry_timeout = TIMEOUT_S};
	if (strcmp(name, "data") != 0 || attr_of(DATA_INO, &entry.attr) != 0)
		(void)fuse_reply_err(req, ENOENT);
	else
		(void)fuse_reply_entry(req, &entry);
}

static void get_attr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct stat attr;
	int err = attr_of(ino, &attr);
	if (err)
		(void)fuse_reply_err(req, err);
	else
		(void)fuse_reply_attr(req, &attr, TIMEOUT_S);
}

static void open_file(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	fi->keep_cache = 1;
	fi->noflush = 1;
	(void)fuse_reply_open(req, fi);
}

static void read_file(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
		      struct fuse_file_info *fi)
{
	size_t left = off < data_bytes ? (size_t)(data_bytes - off) : 0;
	struct iovec iov = {data_memory + (data_bytes - (off_t)left), left < size ? left : size};
	(void)fuse_reply_iov(req, &iov, 1);
}

static void write_file(fuse_req_t req, fuse_ino_t ino, const char *data, size_t size, off_t off,
		       struct fuse_file_info *fi)
{
	if (is_storing && off < data_bytes) {
		size_t left = (size_t)(data_bytes - off);
		memcpy(data_memory + off, data, left < size ? left : size);
	}
	(void)fuse_reply_write(req, size);
}

static void sync_file(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi)
{
	(void)fuse_reply_err(req, 0);
}

static ssize_t read_request(int fd, void *buffer, size_t bytes, void *arg)
{
	return read(fd, buffer, bytes);
}

static const struct fuse_lowlevel_ops ops = {
	.init = init,
	.lookup = lookup,
	.getattr = get_attr,
	.open = open_file,
	.read = read_file,
	.write = write_file,
	.fsync = sync_file,
};

int main(int argc, char **argv)
{
	is_storing = argc == 4 && strcmp(argv[3], "store") == 0;
	if (argc != 3 && !is_storing) {
		fprintf(stderr, "usage: bench_null MOUNTPOINT MIB [store]\n");
		return 2;
	}
	data_bytes = (off_t)strtoul(argv[2], NULL, 10) << 20;
	data_memory = aligned_alloc(4096, (size_t)data_bytes);
	if (!data_memory)
		return 1;
	/* Not zero: else all of it would be one page of the kernel's. */
	memset(data_memory, 1, (size_t)data_bytes);

	char *arg[] = {argv[0], "-o", "fsname=null,subtype=null,default_permissions,allow_other"};
	struct fuse_args args = FUSE_ARGS_INIT(3, arg);
	struct fuse_session *session = fuse_session_new(&args, &ops, sizeof(ops), NULL);
	int wake_fd = eventfd(0, EFD_CLOEXEC);
	if (!session || wake_fd < 0 || fuse_session_mount(session, argv[1]) != 0)
		return 1;
	int err = pml_fuse_loop_run(session, wake_fd, read_request, NULL, NULL);
	fuse_session_unmount(session);
	fuse_session_destroy(session);
	free(data_memory);
	return err != 0;
}
