/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fuse_calls.c -- ioctls that change files, or say that their contents have changed
 *
 * They run like other operations that can wait for leases (fuse_jobs.c).  But the kernel
 * does not know what an ioctl does: it must be told that its pages are stale before the
 * caller hears that it is done.  Telling may wait for a page, and so for a request that
 * needs a worker: threads of their own tell and answer.
 */
#include <string.h>
#include <time.h>

#include "fuse_private.h"
#include "pml/clock.h"

/* A run ends about one file's leases; a snapshot that meets leases so often gives up. */
#define SNAPSHOT_RUNS_MAX 1024u

/* ---- running ----------------------------------------------------------------- */

bool pml_fuse_call_is_content(const struct pml_fuse_call *call)
{
	return call->cmd != PML_IOC_DEDUPE && call->cmd != PML_IOC_SNAPSHOT &&
	       call->cmd != PML_IOC_RELOCATE;
}

static int run_clone(struct pml_fuse_call *call, struct pml_waiter *w)
{
	struct pml_ioc_clone *c = &call->data.clone;
	uint64_t src_size = pml_inode_size(call->other[0]);
	if (c->len_bytes == 0 && c->src_byte < src_size)
		c->len_bytes = src_size - c->src_byte;
	do {
		uint64_t bytes = 0;
		int err = pml_file_clone_blocks(call->other[0], c->src_byte + c->done_bytes,
						call->inode, c->dst_byte + c->done_bytes,
						c->len_bytes - c->done_bytes, w, &bytes);
		if (err)
			return err;
		if (bytes == 0)
			break;
		c->done_bytes += bytes;
		call->has_changed = true;
	} while (c->done_bytes < c->len_bytes);
	return 0;
}

static int run_dedupe(struct pml_fuse_call *call, struct pml_waiter *w)
{
	struct pml_ioc_dedupe *d = &call->data.dedupe;
	for (; call->next < d->ndst; call->next++) {
		struct pml_ioc_dedupe_dst *dst = &d->dst[call->next];
		uint64_t bytes = 0;
		bool is_same = false;
		int err = pml_file_dedupe(call->inode, d->src_byte, call->other[call->next],
					  dst->dst_byte, d->len_bytes, w, &bytes, &is_same);
		/* Without a waiter: it is asked again with one. */
		if (err == -EINPROGRESS || (err == -EBUSY && !w))
			return err;
		dst->done_bytes = err ? 0 : bytes;
		dst->status = err ? err : is_same ? PML_IOC_DEDUPE_SAME : PML_IOC_DEDUPE_DIFFERS;
	}
	return 0;
}

static int run_range(struct pml_fuse_call *call, struct pml_waiter *w)
{
	const struct pml_ioc_range *range = &call->data.range;
	int (*run)(struct pml_inode * inode, uint64_t first, uint64_t len, struct pml_waiter * w) =
		call->cmd == PML_IOC_COLLAPSE ? pml_file_collapse
		: call->cmd == PML_IOC_INSERT ? pml_file_insert
					      : pml_file_unshare;
	int err = run(call->inode, range->first_byte, range->len_bytes, w);
	if (err != -EINPROGRESS)
		call->has_changed = !err;
	return err;
}

static int run_snapshot(struct pml_fuse_call *call, struct pml_waiter *w)
{
	if (call->nruns++ == SNAPSHOT_RUNS_MAX)
		return -EBUSY;
	return pml_dir_snapshot(call->inode, call->other[0], call->data.snapshot.name, w);
}

static int run_relocate(struct pml_fuse_call *call, struct pml_waiter *w)
{
	struct pml_ioc_relocate *r = &call->data.relocate;
	struct pml_relocation done;
	int err = pml_file_relocate(call->inode, r->first_byte, r->len_bytes, w, &done);
	if (err)
		return err;
	r->next_byte = done.next_byte;
	r->moved_bytes = done.moved_bytes;
	r->skipped_shared_bytes = done.skipped_shared_bytes;
	r->skipped_leased_bytes = done.skipped_leased_bytes;
	return 0;
}

int pml_fuse_call_run(struct pml_fuse_call *call, struct pml_waiter *w)
{
	switch (call->cmd) {
	case PML_IOC_DEDUPE:
		return run_dedupe(call, w);
	case PML_IOC_SNAPSHOT:
		return run_snapshot(call, w);
	case PML_IOC_RELOCATE:
		return run_relocate(call, w);
	default:
		break;
	}
	return call->cmd == PML_IOC_CLONE ? run_clone(call, w) : run_range(call, w);
}

/* ---- answering --------------------------------------------------------------- */

void pml_fuse_call_free(struct pml_fuse_call *call)
{
	for (uint32_t i = 0; i < call->nother; i++)
		pml_inode_put(call->other[i], 1);
	pml_inode_put(call->inode, 1);
	free(call);
}

void pml_fuse_call_answer(struct pml_fuse_call *call, int err)
{
	struct pml_fuse_answers *answers = &call->fuse->answers;
	call->err = err;
	pthread_mutex_lock(&answers->lock);
	pml_list_append(&answers->ready, &call->link);
	answers->nopen += call->is_of_open;
	pthread_cond_signal(&answers->wake);
	pthread_mutex_unlock(&answers->lock);
}

/* What the kernel has to forget: it may know none of it. */
static void tell_kernel(const struct pml_fuse_call *call)
{
	struct pml_fuse *fuse = call->fuse;
	uint64_t ino = pml_inode_ino(call->inode);
	switch (call->cmd) {
	case PML_IOC_CLONE:
		if (call->has_changed)
			pml_fuse_tell(fuse, ino, call->data.clone.dst_byte, UINT64_MAX);
		break;
	case PML_IOC_DEDUPE:
		for (uint32_t i = 0; i < call->nother; i++)
			pml_fuse_tell(fuse, pml_inode_ino(call->other[i]), 0, 0);
		break;
	case PML_IOC_UNSHARE:
		pml_fuse_tell(fuse, ino, 0, 0);
		break;
	case PML_IOC_RELOCATE:
		/* Neither bytes nor attributes have changed. */
		break;
	case PML_IOC_SNAPSHOT:
		if (!call->err)
			pml_fuse_tell_name(fuse, pml_inode_ino(call->other[0]),
					   call->data.snapshot.name);
		break;
	default:
		if (call->has_changed)
			pml_fuse_tell(fuse, ino, call->data.range.first_byte, UINT64_MAX);
		break;
	}
}

static void run_open_call(struct pml_fuse_call *call)
{
	const struct pml_fuse_open_ops *ops = &call->fuse->open_ops;
	struct pml_fuse_answers *answers = &call->fuse->answers;
	call->err = ops->ioctl(ops->arg, &call->open, call->cmd, &call->data, _IOC_SIZE(call->cmd));
	pthread_mutex_lock(&answers->lock);
	if (--answers->nopen == 0)
		pthread_cond_broadcast(&answers->idle);
	pthread_mutex_unlock(&answers->lock);
}

void pml_fuse_answers_drain(struct pml_fuse_answers *answers)
{
	pthread_mutex_lock(&answers->lock);
	while (answers->nopen > 0)
		pthread_cond_wait(&answers->idle, &answers->lock);
	pthread_mutex_unlock(&answers->lock);
}

static void answer(struct pml_fuse_call *call)
{
	if (call->err)
		pml_fuse_reply_err(call->req, call->err);
	else
		(void)fuse_reply_ioctl(call->req, 0, &call->data, _IOC_SIZE(call->cmd));
	pml_fuse_call_free(call);
}

void pml_fuse_answers_note_token(struct pml_fuse_answers *answers)
{
	pthread_mutex_lock(&answers->lock);
	answers->has_new_token = true;
	pthread_cond_signal(&answers->wake);
	pthread_mutex_unlock(&answers->lock);
}

/* Waits for a call, or while there are tokens for a second.  NULL: nothing came. */
static struct pml_fuse_call *next_call(struct pml_fuse_answers *answers, bool has_tokens)
{
	struct pml_fuse_call *call = NULL;
	struct timespec until;
	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += 1;
	pthread_mutex_lock(&answers->lock);
	if (pml_list_is_empty(&answers->ready) && !answers->is_stopping) {
		if (has_tokens || answers->has_new_token)
			(void)pthread_cond_timedwait(&answers->wake, &answers->lock, &until);
		else
			(void)pthread_cond_wait(&answers->wake, &answers->lock);
	}
	/* Whoever calls this looks next. */
	answers->has_new_token = false;
	if (!pml_list_is_empty(&answers->ready)) {
		call = pml_list_entry(answers->ready.next, struct pml_fuse_call, link);
		pml_list_remove(&call->link);
	}
	pthread_mutex_unlock(&answers->lock);
	return call;
}

static bool is_over(struct pml_fuse_answers *answers)
{
	pthread_mutex_lock(&answers->lock);
	bool is_over = answers->is_stopping && pml_list_is_empty(&answers->ready);
	pthread_mutex_unlock(&answers->lock);
	return is_over;
}

static void *answer_thread(void *arg)
{
	struct pml_fuse *fuse = arg;
	while (!is_over(&fuse->answers)) {
		bool has_tokens = pml_fuse_tokens_purge(fuse->tokens, pml_now_ms()) > 0;
		struct pml_fuse_call *call = next_call(&fuse->answers, has_tokens);
		if (call) {
			if (call->is_of_open)
				run_open_call(call);
			else
				tell_kernel(call);
			answer(call);
		}
	}
	return NULL;
}

int pml_fuse_answers_init(struct pml_fuse *fuse)
{
	struct pml_fuse_answers *answers = &fuse->answers;
	pthread_condattr_t attr;
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&answers->wake, &attr);
	pthread_condattr_destroy(&attr);
	pthread_cond_init(&answers->idle, NULL);
	pthread_mutex_init(&answers->lock, NULL);
	pml_list_init(&answers->ready);

	while (answers->nthreads < PML_FUSE_ANSWER_THREADS) {
		int err = pthread_create(&answers->threads[answers->nthreads], NULL, answer_thread,
					 fuse);
		if (err)
			return -err;
		answers->nthreads++;
	}
	return 0;
}

void pml_fuse_answers_fini(struct pml_fuse *fuse)
{
	struct pml_fuse_answers *answers = &fuse->answers;
	if (answers->nthreads == 0)
		return;
	pthread_mutex_lock(&answers->lock);
	answers->is_stopping = true;
	pthread_cond_broadcast(&answers->wake);
	pthread_mutex_unlock(&answers->lock);
	for (uint32_t i = 0; i < answers->nthreads; i++)
		(void)pthread_join(answers->threads[i], NULL);
	pthread_cond_destroy(&answers->wake);
	pthread_cond_destroy(&answers->idle);
	pthread_mutex_destroy(&answers->lock);
}
