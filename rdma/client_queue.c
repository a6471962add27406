/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * client_queue.c -- client library: queues of transfers that run while the program goes on
 *
 * A queue has a fixed number of places.  A place holds one transfer from its submission
 * until its completion has been taken.  Done transfers stand in the order in which they
 * were done.
 *
 * Threads: one queue, one thread at a time.  The thread that collects completions, whosever
 * it is, moves a place to the done ones, under the data lock.
 */
#include "client_i.h"

#define DEPTH_MAX 4096u
#define REAP_MAX  16u

struct pml_client_queue {
	struct pml_list link; /* pml_client.queues */
	struct pml_client *client;
	struct pml_list free; /* the program's thread alone */
	uint32_t nfree;
	uint32_t depth;
	/* Under the data lock. */
	struct pml_list done;
	uint32_t in_flight;
	struct pml_data_waiter *waiter;
	struct pml_transfer places[];
};

void pml_queue_begun_locked(struct pml_transfer *t)
{
	t->queue->in_flight++;
}

void pml_queue_done_locked(struct pml_transfer *t)
{
	struct pml_client_queue *queue = t->queue;
	pml_list_append(&queue->done, &t->link);
	queue->in_flight--;
	if (queue->waiter)
		pthread_cond_signal(&queue->waiter->woken);
}

int pml_client_queue_new(struct pml_client *client, uint32_t depth,
			 struct pml_client_queue **ret_queue)
{
	if (depth == 0 || depth > DEPTH_MAX)
		return pml_client_fail(-EINVAL, "queue: 1 to %u transfers", DEPTH_MAX);
	struct pml_client_queue *queue =
		calloc(1, sizeof(*queue) + depth * sizeof(queue->places[0]));
	if (!queue)
		return pml_client_fail(-ENOMEM, "queue: out of memory");
	queue->client = client;
	queue->depth = queue->nfree = depth;
	pml_list_init(&queue->free);
	pml_list_init(&queue->done);
	for (uint32_t i = 0; i < depth; i++)
		pml_list_append(&queue->free, &queue->places[i].link);
	pthread_mutex_lock(&client->lock);
	pml_list_append(&client->queues, &queue->link);
	pthread_mutex_unlock(&client->lock);
	*ret_queue = queue;
	return 0;
}

/* A place for a transfer on @lease. */
static int take_place(struct pml_client_queue *queue, const struct pml_client_lease *lease,
		      struct pml_transfer **ret_place)
{
	if (lease->client != queue->client)
		return pml_client_fail(-EINVAL, "queue: the lease is another client's");
	if (queue->nfree == 0)
		return pml_client_fail(-EAGAIN, "queue: full; take completions first");
	*ret_place = pml_list_entry(queue->free.next, struct pml_transfer, link);
	pml_list_remove(&(*ret_place)->link);
	return 0;
}

/* The transfer in the place was begun, or with @err was not. */
static int start(struct pml_client_queue *queue, struct pml_transfer *t, uint64_t cookie, int err)
{
	if (err) {
		pml_list_append(&queue->free, &t->link);
		return err;
	}
	t->queue = queue;
	t->cookie = cookie;
	queue->nfree--;
	pml_data_start(queue->client, t);
	return 0;
}

static int submit(struct pml_client_queue *queue, struct pml_client_lease *lease, bool is_write,
		  const struct iovec *iov, int niov, uint64_t first_byte, uint64_t cookie)
{
	struct pml_transfer *t = NULL;
	int err = take_place(queue, lease, &t);
	if (err)
		return err;
	err = pml_transfer_begin(t, lease, is_write, iov, niov, first_byte, NULL);
	return start(queue, t, cookie, err);
}

int pml_client_queue_read(struct pml_client_queue *queue, struct pml_client_lease *lease,
			  const struct iovec *iov, int niov, uint64_t first_byte, uint64_t cookie)
{
	return submit(queue, lease, false, iov, niov, first_byte, cookie);
}

int pml_client_queue_write(struct pml_client_queue *queue, struct pml_client_lease *lease,
			   const struct iovec *iov, int niov, uint64_t first_byte, uint64_t cookie)
{
	return submit(queue, lease, true, iov, niov, first_byte, cookie);
}

int pml_client_queue_flush(struct pml_client_queue *queue, struct pml_client_lease *lease,
			   uint64_t first_byte, uint64_t len_bytes, uint64_t cookie)
{
	int err = pml_durable_check(lease, first_byte, len_bytes, "flush");
	if (err)
		return err;
	if (!pml_durable_is_ours(lease, first_byte + len_bytes))
		return pml_client_fail(-EOPNOTSUPP, "flush: only the server can make this durable, "
						    "by a commit");
	struct pml_transfer *t = NULL;
	err = take_place(queue, lease, &t);
	if (err)
		return err;
	err = pml_durable_begin(t, lease, first_byte, len_bytes);
	return start(queue, t, cookie, err);
}

/* Something to take, or nothing to wait for. */
static bool is_ready(const void *arg)
{
	const struct pml_client_queue *queue = arg;
	return !pml_list_is_empty(&queue->done) || queue->in_flight == 0;
}

static bool is_idle(const void *arg)
{
	return ((const struct pml_client_queue *)arg)->in_flight == 0;
}

static void reap(struct pml_client_queue *queue, struct pml_transfer *t,
		 struct pml_client_completion *ret)
{
	*ret = (struct pml_client_completion){.cookie = t->cookie};
	ret->status = pml_transfer_end(t);
	ret->bytes = ret->status ? 0 : t->bytes;
	pml_list_append(&queue->free, &t->link);
	queue->nfree++;
}

static uint32_t take_done_locked(struct pml_client_queue *queue, struct pml_transfer **taken,
				 uint32_t max)
{
	uint32_t n = 0;
	for (; n < max && !pml_list_is_empty(&queue->done); n++) {
		taken[n] = pml_list_entry(queue->done.next, struct pml_transfer, link);
		pml_list_remove(&taken[n]->link);
	}
	return n;
}

int pml_client_queue_wait(struct pml_client_queue *queue, struct pml_client_completion *ret,
			  uint32_t max, int timeout_ms)
{
	struct pml_client_data *data = &queue->client->data;
	struct pml_transfer *taken[REAP_MAX];
	uint32_t count = 0;
	pthread_mutex_lock(&data->lock);
	(void)pml_data_wait_locked(queue->client, is_ready, queue, &queue->waiter, timeout_ms);
	max = PML_MIN(max, (uint32_t)INT32_MAX);
	for (;;) {
		uint32_t n = take_done_locked(queue, taken, PML_MIN(max - count, REAP_MAX));
		bool has_more = !pml_list_is_empty(&queue->done);
		pthread_mutex_unlock(&data->lock);
		/* The copies out of bounce slots need no lock. */
		for (uint32_t i = 0; i < n; i++)
			reap(queue, taken[i], &ret[count++]);
		if (!has_more || count == max)
			return (int)count;
		pthread_mutex_lock(&data->lock);
	}
}

uint32_t pml_client_queue_pending(const struct pml_client_queue *queue)
{
	return queue->depth - queue->nfree;
}

void pml_client_queue_free(struct pml_client_queue *queue)
{
	if (!queue)
		return;
	struct pml_client *client = queue->client;
	pthread_mutex_lock(&client->data.lock);
	(void)pml_data_wait_locked(client, is_idle, queue, &queue->waiter, -1);
	pthread_mutex_unlock(&client->data.lock);
	struct pml_client_completion lost[REAP_MAX];
	while (pml_client_queue_wait(queue, lost, REAP_MAX, 0) > 0)
		;
	pthread_mutex_lock(&client->lock);
	pml_list_remove(&queue->link);
	pthread_mutex_unlock(&client->lock);
	free(queue);
}

/* Assumes: no other thread uses the client any more; no lease is left. */
void pml_queues_free(struct pml_client *client)
{
	while (!pml_list_is_empty(&client->queues))
		pml_client_queue_free(
			pml_list_entry(client->queues.next, struct pml_client_queue, link));
}
