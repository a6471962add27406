/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * notices.c -- see notices.h
 *
 * Order is kept: while the ring is not empty or the thread has a notice in hand,
 * later ones queue behind.
 */
#include <string.h>

#include "mention.h"
#include "notices.h"
#include "thread.h"

/* A client that takes nothing for so long gets nothing more: its leases' clocks go on. */
#define SEND_TIMEOUT_MS 10000

static bool is_idle_locked(const struct pml_notices *notices)
{
	return notices->count == 0 && !notices->is_sending;
}

static void *send_notices(void *arg)
{
	struct pml_notices *notices = arg;
	pthread_mutex_lock(&notices->lock);
	while (!notices->is_over) {
		if (notices->count == 0) {
			pthread_cond_wait(&notices->changed, &notices->lock);
			continue;
		}
		union pml_notice notice = notices->ring[notices->first];
		notices->first = (notices->first + 1) % PML_NOTICES_MAX;
		notices->count--;
		notices->is_sending = true;
		pthread_mutex_unlock(&notices->lock);
		int err = pml_ep_send(notices->ep, &notice, notice.h.bytes, SEND_TIMEOUT_MS);
		if (err == -ETIMEDOUT)
			pml_mention(notices->hosts, pml_ep_peer(notices->ep), PML_LINE_NOTICE_LOST,
				    " takes no messages: a notice is lost");
		pthread_mutex_lock(&notices->lock);
		notices->is_sending = false;
	}
	pthread_mutex_unlock(&notices->lock);
	return NULL;
}

int pml_notices_init(struct pml_notices *notices, struct pml_ep *ep, struct pml_hosts *hosts)
{
	notices->ep = ep;
	notices->hosts = hosts;
	int err = pml_cond_init(&notices->changed);
	if (err)
		return err;
	pthread_mutex_init(&notices->lock, NULL);
	return 0;
}

int pml_notices_start(struct pml_notices *notices)
{
	assert(!notices->has_thread);
	notices->ring = malloc(PML_NOTICES_MAX * sizeof(notices->ring[0]));
	if (!notices->ring)
		return -ENOMEM;
	int err = pml_thread_new_small(&notices->thread, send_notices, notices);
	notices->has_thread = !err;
	return err;
}

int pml_notices_put(struct pml_notices *notices, const union pml_notice *notice)
{
	assert(notices->has_thread);
	pthread_mutex_lock(&notices->lock);
	/* The quick way saves a change of threads; it cannot overtake anything. */
	int err = -ETIMEDOUT;
	if (is_idle_locked(notices))
		err = pml_ep_send(notices->ep, notice, notice->h.bytes, 0);
	if (err == -ETIMEDOUT && notices->count == PML_NOTICES_MAX) {
		err = -ENOBUFS;
	} else if (err == -ETIMEDOUT) {
		uint32_t at = (notices->first + notices->count) % PML_NOTICES_MAX;
		notices->ring[at] = *notice;
		notices->count++;
		pthread_cond_signal(&notices->changed);
		err = 0;
	}
	pthread_mutex_unlock(&notices->lock);
	return err;
}

void pml_notices_fini(struct pml_notices *notices)
{
	pthread_mutex_lock(&notices->lock);
	notices->is_over = true;
	pthread_cond_signal(&notices->changed);
	pthread_mutex_unlock(&notices->lock);
	if (notices->has_thread)
		pthread_join(notices->thread, NULL);
	free(notices->ring);
	pthread_mutex_destroy(&notices->lock);
	pthread_cond_destroy(&notices->changed);
}
