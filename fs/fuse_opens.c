/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fuse_opens.c -- the open file descriptions that the kernel knows
 *
 * Each open(2) has a structure of its own, which its handle points to, and a number, by
 * which others name it: what it was is known until they have forgotten it, too.  Requests
 * need no look-up; who wakes a poller does, as he may be late.
 *
 * poll(2) asks once, and again when it was woken: so a poller is noted first, and then
 * it is asked whether an event waits.
 *
 * Threads: safe.  One lock, which is never held while calling anything else.
 */
#include <poll.h>

#include "fuse_private.h"

static struct pml_list *bucket_of(struct pml_fuse_opens *opens, uint64_t id)
{
	return &opens->buckets[id % PML_FUSE_OPEN_BUCKETS];
}

void pml_fuse_opens_init(struct pml_fuse_opens *opens)
{
	pthread_mutex_init(&opens->lock, NULL);
	for (size_t i = 0; i < PML_FUSE_OPEN_BUCKETS; i++)
		pml_list_init(&opens->buckets[i]);
}

static void free_handle(struct pml_fuse_handle *handle)
{
	if (handle->poller)
		fuse_pollhandle_destroy(handle->poller);
	free(handle);
}

void pml_fuse_opens_fini(struct pml_fuse_opens *opens)
{
	for (size_t i = 0; i < PML_FUSE_OPEN_BUCKETS; i++) {
		struct pml_fuse_handle *handle, *tmp;
		pml_list_for_each_safe(handle, tmp, &opens->buckets[i], link)
			free_handle(handle);
	}
	pthread_mutex_destroy(&opens->lock);
}

static unsigned int rights_of(int flags)
{
	unsigned int rights = 0;
	if ((flags & O_ACCMODE) != O_WRONLY)
		rights |= PML_FUSE_CAN_READ;
	if ((flags & O_ACCMODE) != O_RDONLY)
		rights |= PML_FUSE_CAN_WRITE;
	if (flags & O_APPEND)
		rights |= PML_FUSE_APPENDS;
	return rights;
}

int pml_fuse_handle_new(struct pml_fuse *fuse, struct pml_inode *inode, struct fuse_file_info *fi)
{
	struct pml_fuse_opens *opens = &fuse->opens;
	struct pml_fuse_handle *handle = calloc(1, sizeof(*handle));
	if (!handle)
		return -ENOMEM;
	handle->inode = inode;
	handle->rights = rights_of(fi->flags);
	pthread_mutex_lock(&opens->lock);
	handle->id = ++opens->last_id;
	pml_list_append(bucket_of(opens, handle->id), &handle->link);
	pthread_mutex_unlock(&opens->lock);
	pml_fuse_nodes_opened(fuse->nodes, pml_inode_ino(inode), true);
	fi->fh = (uintptr_t)handle;
	return 0;
}

void pml_fuse_handle_drop(struct pml_fuse *fuse, const struct fuse_file_info *fi)
{
	struct pml_fuse_handle *handle = pml_fuse_handle_of(fi);
	pthread_mutex_lock(&fuse->opens.lock);
	pml_list_remove(&handle->link);
	pthread_mutex_unlock(&fuse->opens.lock);
	pml_fuse_nodes_opened(fuse->nodes, pml_inode_ino(handle->inode), false);
	free_handle(handle);
}

void pml_fuse_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct pml_fuse *fuse = pml_fuse_of(req);
	uint64_t id = pml_fuse_open_id(fi);
	pml_fuse_handle_drop(fuse, fi);
	if (id)
		fuse->open_ops.released(fuse->open_ops.arg, id);
	pml_fuse_reply_err(req, 0);
}

/* ---- poll --------------------------------------------------------------- */

/* Takes @poller over; returns the one before, which is the caller's. */
static struct fuse_pollhandle *exchange_poller(struct pml_fuse_opens *opens,
					       struct pml_fuse_handle *handle,
					       struct fuse_pollhandle *poller)
{
	pthread_mutex_lock(&opens->lock);
	struct fuse_pollhandle *before = handle->poller;
	handle->poller = poller;
	pthread_mutex_unlock(&opens->lock);
	return before;
}

void pml_fuse_poll(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi,
		   struct fuse_pollhandle *poller)
{
	struct pml_fuse *fuse = pml_fuse_of(req);
	if (!fuse->open_ops.has_event) {
		if (poller)
			fuse_pollhandle_destroy(poller);
		/* The kernel does not ask again. */
		pml_fuse_reply_err(req, -ENOSYS);
		return;
	}
	/* Without one nobody sleeps: a poll that only looks. */
	struct fuse_pollhandle *before = NULL;
	if (poller)
		before = exchange_poller(&fuse->opens, pml_fuse_handle_of(fi), poller);
	if (before)
		fuse_pollhandle_destroy(before);
	unsigned int events = POLLIN | POLLRDNORM | POLLOUT | POLLWRNORM;
	uint64_t id = pml_fuse_open_id(fi);
	if (id && fuse->open_ops.has_event(fuse->open_ops.arg, id))
		events |= POLLPRI;
	(void)fuse_reply_poll(req, events);
}

void pml_fuse_wake(struct pml_fuse *fuse, uint64_t open_id)
{
	struct pml_fuse_opens *opens = &fuse->opens;
	struct fuse_pollhandle *poller = NULL;
	struct pml_fuse_handle *handle;
	pthread_mutex_lock(&opens->lock);
	pml_list_for_each(handle, bucket_of(opens, open_id), link) {
		if (handle->id != open_id)
			continue;
		poller = handle->poller;
		handle->poller = NULL;
		break;
	}
	pthread_mutex_unlock(&opens->lock);
	if (!poller)
		return;
	/* Of who polls no more the kernel knows nothing. */
	(void)fuse_lowlevel_notify_poll(poller);
	fuse_pollhandle_destroy(poller);
}
