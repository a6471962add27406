/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fuse_loop.h -- the threads that take requests from the kernel
 *
 * Also for bench/null.c, which measures what a request costs at least.
 */
#ifndef PML_FUSE_LOOP_H
#define PML_FUSE_LOOP_H

#include "pml/base.h"

#define PML_FUSE_WORKERS_MAX 10u

/* Of a read or write request's data: the session's max_write. */
#define PML_FUSE_TRANSFER_MAX (1u << 20)

struct fuse_session;

/* Takes a request from the session's descriptor, as read(2); @arg as given to the loop. */
typedef ssize_t pml_fuse_read_fn(int fd, void *buffer, size_t bytes, void *arg);

/* Answers a request that libfuse does not know, and returns true. */
typedef bool pml_fuse_answer_fn(void *arg, const void *request, size_t bytes);

/*
 * pml_fuse_loop_run() - serve requests until the session ends
 * @wake_fd: becomes readable when somebody has called fuse_session_exit()
 * @read, @arg: how requests are taken, by any thread; must not block
 * @answer: sees each request before libfuse does, on the worker that serves it, and may
 *          block as any operation may; NULL: none
 *
 * Makes the session's descriptor non-blocking.  Returns when the filesystem is unmounted
 * or @wake_fd is readable, and all workers have ended: 0, or -ENOMEM, or the error of
 * starting the first thread or of the device.
 */
int pml_fuse_loop_run(struct fuse_session *session, int wake_fd, pml_fuse_read_fn *read,
		      pml_fuse_answer_fn *answer, void *arg) PML_MUST_CHECK;

#endif
