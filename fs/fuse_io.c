/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fuse_io.c -- reading and writing /dev/fuse, to agree with the kernel on one thing more
 *
 * A filesystem with extended attributes is asked for security.capability before
 * each write (file_remove_privs() in fs/inode.c of Linux): two requests instead of
 * one.  The kernel remembers that there is none (S_NOSEC) if the filesystem says
 * FUSE_HANDLE_KILLPRIV_V2 in its answer to FUSE_INIT, and leaves setuid and setgid
 * bits to it then (fuse_data.c).  libfuse 3.14 does not know that flag, so it is
 * added on the way.
 */
#include <linux/fuse.h>
#include <sys/uio.h>

#include "fuse_private.h"

static ssize_t read_request(int fd, void *buffer, size_t bytes, void *userdata)
{
	struct pml_fuse *fuse = userdata;
	ssize_t n = read(fd, buffer, bytes);
	const struct fuse_in_header *header = buffer;
	/* The first request of all, before any other is sent. */
	if (n < (ssize_t)(sizeof(*header) + offsetof(struct fuse_init_in, unused)) ||
	    header->opcode != FUSE_INIT)
		return n;
	const struct fuse_init_in *init = (const void *)(header + 1);
	if (init->flags & FUSE_HANDLE_KILLPRIV_V2)
		atomic_store(&fuse->init_unique, header->unique);
	return n;
}

static ssize_t write_answer(int fd, struct iovec *iov, int count, void *userdata)
{
	struct pml_fuse *fuse = userdata;
	const struct fuse_out_header *header = iov[0].iov_base;
	uint64_t unique = atomic_load_explicit(&fuse->init_unique, memory_order_relaxed);
	if (unique && header->unique == unique && count == 2 &&
	    iov[1].iov_len >= offsetof(struct fuse_init_out, max_background)) {
		struct fuse_init_out *init = iov[1].iov_base;
		init->flags |= FUSE_HANDLE_KILLPRIV_V2;
		atomic_store(&fuse->init_unique, 0);
	}
	return writev(fd, iov, count);
}

int pml_fuse_take_io(struct pml_fuse *fuse)
{
	static const struct fuse_custom_io io = {.read = read_request, .writev = write_answer};
	return fuse_session_custom_io(fuse->session, &io, fuse_session_fd(fuse->session));
}
