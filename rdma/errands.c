/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * errands.c -- see errands.h
 *
 * The thread is made on first need: most sessions never change a layout.
 */
#include <stdio.h>
#include <string.h>

#include "remote_i.h"
#include "thread.h"

static void put_files(const struct pml_errand *what)
{
	if (what->inode)
		pml_inode_put(what->inode, 1);
	if (what->src)
		pml_inode_put(what->src, 1);
}

static void free_errand(struct pml_errand *errand)
{
	put_files(errand);
	free(errand);
}

/* By the guard: the lease is gone, or the wait is cancelled. */
static void on_resume(struct pml_waiter *w)
{
	struct pml_errand *errand = PML_CONTAINER_OF(w, struct pml_errand, waiter);
	struct pml_errands *errands = &errand->remote->errands;
	pthread_mutex_lock(&errands->lock);
	pml_list_append(&errands->ready, &errand->link);
	pthread_cond_signal(&errands->changed);
	pthread_mutex_unlock(&errands->lock);
}

/* Errors of waiting, which errno says nothing of. */
static const char *reason_of(int err)
{
	switch (err) {
	case -EBUSY:
		return "a lease is in the way, and the server's policy is not to recall it";
	case -EAGAIN:
		return "too many operations wait for leases already";
	case -EIO:
		return "a lease in the way cannot be ended, or the device has an error";
	case -EDEADLK:
		return "an unbreakable lease of this client is in the way: return it first";
	default:
		return NULL;
	}
}

static void finish(struct pml_errand *errand, union pml_message *out, size_t bytes, int status)
{
	struct pml_remote *remote = errand->remote;
	struct pml_errands *errands = &remote->errands;
	/* Off the list first: it is what a cancel goes by. */
	pthread_mutex_lock(&errands->lock);
	pml_list_remove(&errand->link_alive);
	bool is_over = errands->is_over;
	pthread_mutex_unlock(&errands->lock);

	pml_fs_wait_done(remote->env->fs, &errand->waiter);
	if (status && !errand->reason)
		errand->reason = reason_of(status);
	/* A wait that the end of the connection ends has changed nothing that a retry would not. */
	bool is_undone = is_over && status == -EINTR;
	/* Who takes no reply is gone. */
	if (pml_remote_finish(remote, &errand->request, out, bytes, status, errand->reason,
			      is_undone))
		pml_ep_kill(remote->ep);
	free_errand(errand);

	pthread_mutex_lock(&errands->lock);
	errands->nalive--;
	pthread_mutex_unlock(&errands->lock);
}

/* After it the errand may be gone. */
static void run(struct pml_errand *errand, bool is_over)
{
	union pml_message out;
	size_t bytes = sizeof(out.h);
	/* What has not begun when its client is gone is not done at all. */
	bool is_given_up = is_over && !errand->has_begun;
	errand->has_begun = true;
	int status = is_given_up ? -EINTR : errand->run(errand, &out, &bytes);
	if (status != -EINPROGRESS)
		finish(errand, &out, bytes, status);
}

static void *run_errands(void *arg)
{
	struct pml_errands *errands = arg;
	pthread_mutex_lock(&errands->lock);
	while (!errands->is_over || errands->nalive > 0) {
		if (pml_list_is_empty(&errands->ready)) {
			pthread_cond_wait(&errands->changed, &errands->lock);
			continue;
		}
		struct pml_errand *errand =
			pml_list_entry(errands->ready.next, struct pml_errand, link);
		pml_list_remove(&errand->link);
		bool is_over = errands->is_over;
		pthread_mutex_unlock(&errands->lock);
		run(errand, is_over);
		pthread_mutex_lock(&errands->lock);
	}
	pthread_mutex_unlock(&errands->lock);
	return NULL;
}

static int admit_locked(struct pml_errands *errands)
{
	if (errands->nalive == PML_ERRANDS_MAX)
		return -EAGAIN;
	if (errands->has_thread)
		return 0;
	int err = pml_thread_new_small(&errands->thread, run_errands, errands);
	errands->has_thread = !err;
	return err;
}

static int add(struct pml_remote *remote, struct pml_errand *errand)
{
	struct pml_errands *errands = &remote->errands;
	errand->remote = remote;
	errand->request = remote->in.h;
	errand->waiter.resume = on_resume;
	errand->waiter.session = remote->session;
	errand->waiter.uid = (uint32_t)remote->cred.uid;
	(void)snprintf(errand->waiter.name, sizeof(errand->waiter.name), "%s",
		       pml_ep_peer(remote->ep));
	pml_list_init(&errand->link);
	pml_list_init(&errand->link_alive);

	pthread_mutex_lock(&errands->lock);
	int err = admit_locked(errands);
	if (!err) {
		errands->nalive++;
		pml_list_append(&errands->alive, &errand->link_alive);
		pml_list_append(&errands->ready, &errand->link);
		pthread_cond_signal(&errands->changed);
	}
	pthread_mutex_unlock(&errands->lock);
	if (err) {
		remote->reason = "the client has too many requests under way";
		free_errand(errand);
	}
	return err;
}

int pml_errands_start(struct pml_remote *remote, const struct pml_errand *what)
{
	struct pml_errand *errand = malloc(sizeof(*errand));
	if (!errand) {
		put_files(what);
		return -ENOMEM;
	}
	*errand = *what;
	int err = add(remote, errand);
	return err ? err : -EINPROGRESS;
}

void pml_errands_init(struct pml_errands *errands)
{
	pthread_mutex_init(&errands->lock, NULL);
	pthread_cond_init(&errands->changed, NULL);
	pml_list_init(&errands->ready);
	pml_list_init(&errands->alive);
}

void pml_errands_stop(struct pml_errands *errands)
{
	pthread_mutex_lock(&errands->lock);
	errands->is_over = true;
	struct pml_errand *errand;
	pml_list_for_each(errand, &errands->alive, link_alive)
		pml_fs_wait_cancel(errand->remote->env->fs, &errand->waiter);
	pthread_cond_signal(&errands->changed);
	bool has_thread = errands->has_thread;
	pthread_mutex_unlock(&errands->lock);
	if (has_thread)
		pthread_join(errands->thread, NULL);
	errands->has_thread = false;
}

void pml_errands_fini(struct pml_errands *errands)
{
	assert(!errands->has_thread);
	pthread_cond_destroy(&errands->changed);
	pthread_mutex_destroy(&errands->lock);
}
