/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * replies.c -- see replies.h
 *
 * A log has a ring of replies, made with its client's first change.  A place in it is taken
 * when a change begins and filled when it ends; the oldest filled one is forgotten for a new
 * one, and its number remembered: what is younger than that and in no place never began.
 */
#include <string.h>

#include "pml/list.h"
#include "replies.h"
#include "thread.h"

enum place_state { PLACE_FREE, PLACE_RUNNING, PLACE_DONE };

struct place {
	enum place_state state;
	uint32_t request_id;
	uint16_t type;
	uint64_t used; /* when it was taken: smaller is older */
	struct pml_reply reply;
};

struct pml_reply_log {
	struct pml_list link;
	struct pml_reply_client client;
	struct place *places;	/* PML_REPLIES_KEPT, or NULL: no change yet */
	uint64_t nused;		/* changes so far */
	uint32_t first_id;	/* up to here nothing was ever known */
	uint32_t forgotten_id;	/* up to here not everything is known any more */
	uint32_t nattached;	/* connections, those that are ending included */
	uint64_t kept_until_ms; /* when nobody is attached */
	void (*kill)(void *arg);
	void *owner;	   /* kill's argument; NULL: nobody */
	uint32_t owner_id; /* request number that it attached with */
};

struct pml_replies {
	pthread_mutex_t lock;
	pthread_cond_t changed; /* a change has ended */
	struct pml_list logs;	/* who went first, first; then who is there */
	uint32_t nlogs;
};

int pml_replies_new(struct pml_replies **ret_replies)
{
	pml_auto_free struct pml_replies *replies = calloc(1, sizeof(*replies));
	int err = replies ? pml_cond_init(&replies->changed) : -ENOMEM;
	if (err)
		return err;
	pthread_mutex_init(&replies->lock, NULL);
	pml_list_init(&replies->logs);
	*ret_replies = pml_take_ptr(&replies);
	return 0;
}

static void drop_log_locked(struct pml_replies *replies, struct pml_reply_log *log)
{
	pml_list_remove(&log->link);
	replies->nlogs--;
	free(log->places);
	free(log);
}

void pml_replies_free(struct pml_replies *replies)
{
	while (!pml_list_is_empty(&replies->logs)) {
		struct pml_reply_log *log =
			pml_list_entry(replies->logs.next, struct pml_reply_log, link);
		assert(log->nattached == 0);
		drop_log_locked(replies, log);
	}
	pthread_cond_destroy(&replies->changed);
	pthread_mutex_destroy(&replies->lock);
	free(replies);
}

/* ---- clients ------------------------------------------------------------ */

/* Is @a younger than @b? */
static bool is_younger(uint32_t a, uint32_t b)
{
	return (int32_t)(a - b) > 0;
}

/* Makes room: of what has been kept long enough all, else of the one that went first. */
static void purge_locked(struct pml_replies *replies, uint64_t now_ms)
{
	struct pml_reply_log *log;
	struct pml_reply_log *tmp;
	pml_list_for_each_safe(log, tmp, &replies->logs, link) {
		bool is_needed = replies->nlogs < PML_REPLIES_CLIENTS_MAX;
		if (log->nattached == 0 && (log->kept_until_ms < now_ms || !is_needed))
			drop_log_locked(replies, log);
	}
}

static struct pml_reply_log *find_locked(struct pml_replies *replies,
					 const struct pml_reply_client *client)
{
	struct pml_reply_log *log;
	pml_list_for_each(log, &replies->logs, link)
		if (memcmp(&log->client, client, sizeof(*client)) == 0)
			return log;
	return NULL;
}

static int new_log_locked(struct pml_replies *replies, const struct pml_reply_client *client,
			  uint32_t request_id, struct pml_reply_log **ret_log)
{
	if (replies->nlogs >= PML_REPLIES_CLIENTS_MAX)
		return -EUSERS;
	struct pml_reply_log *log = calloc(1, sizeof(*log));
	if (!log)
		return -ENOMEM;
	log->client = *client;
	log->first_id = log->forgotten_id = request_id;
	pml_list_append(&replies->logs, &log->link);
	replies->nlogs++;
	*ret_log = log;
	return 0;
}

int pml_replies_attach(struct pml_replies *replies, const struct pml_reply_client *client,
		       uint32_t request_id, void (*kill)(void *arg), void *arg,
		       struct pml_reply_log **ret_log)
{
	pthread_mutex_lock(&replies->lock);
	int err = 0;
	struct pml_reply_log *log = find_locked(replies, client);
	if (log && log->owner && is_younger(log->owner_id, request_id)) {
		/* It gave this one up before it was answered, and is here again. */
		err = -ESTALE;
	} else if (!log) {
		purge_locked(replies, pml_now_ms());
		err = new_log_locked(replies, client, request_id, &log);
	}
	if (!err) {
		/* Still there, as it detaches under the lock before it ends. */
		if (log->owner)
			log->kill(log->owner);
		log->kill = kill;
		log->owner = arg;
		log->owner_id = request_id;
		log->nattached++;
		pml_list_remove(&log->link);
		pml_list_append(&replies->logs, &log->link);
		*ret_log = log;
	}
	pthread_mutex_unlock(&replies->lock);
	return err;
}

void pml_replies_detach(struct pml_replies *replies, struct pml_reply_log *log, void *arg,
			uint32_t keep_ms)
{
	pthread_mutex_lock(&replies->lock);
	assert(log->nattached > 0);
	log->nattached--;
	log->kept_until_ms = pml_now_ms() + keep_ms;
	if (log->owner == arg)
		log->owner = NULL;
	pml_list_remove(&log->link);
	pml_list_append(&replies->logs, &log->link);
	pthread_mutex_unlock(&replies->lock);
}

/* ---- changes ------------------------------------------------------------ */

/* The youngest place of that number. */
static struct place *find_place(const struct pml_reply_log *log, uint32_t request_id)
{
	struct place *found = NULL;
	for (uint32_t i = 0; log->places && i < PML_REPLIES_KEPT; i++) {
		struct place *place = &log->places[i];
		if (place->state != PLACE_FREE && place->request_id == request_id &&
		    (!found || place->used > found->used))
			found = place;
	}
	return found;
}

/* No two are under way under one number: its end would be ambiguous. */
static bool is_running(const struct pml_reply_log *log, uint32_t request_id)
{
	const struct place *place = find_place(log, request_id);
	return place && place->state == PLACE_RUNNING;
}

static struct place *choose_place(struct pml_reply_log *log)
{
	struct place *oldest = NULL;
	for (uint32_t i = 0; i < PML_REPLIES_KEPT; i++) {
		struct place *place = &log->places[i];
		if (place->state == PLACE_FREE)
			return place;
		if (place->state == PLACE_DONE && (!oldest || place->used < oldest->used))
			oldest = place;
	}
	if (oldest && is_younger(oldest->request_id, log->forgotten_id))
		log->forgotten_id = oldest->request_id;
	return oldest;
}

static int take_place(struct pml_reply_log *log, const struct pml_wire_header *request)
{
	if (!log->places)
		log->places = calloc(PML_REPLIES_KEPT, sizeof(*log->places));
	if (!log->places)
		return -ENOMEM;
	struct place *place = choose_place(log);
	if (!place)
		return -EAGAIN;
	*place = (struct place){
		.state = PLACE_RUNNING,
		.request_id = request->request_id,
		.type = request->type,
		.used = log->nused++,
	};
	return 0;
}

static int retry_locked(struct pml_replies *replies, struct pml_reply_log *log,
			const struct pml_wire_header *request, struct pml_reply *ret_reply)
{
	uint64_t deadline_ms = pml_now_ms() + PML_REPLIES_WAIT_MS;
	struct place *place = find_place(log, request->request_id);
	while (place && place->state == PLACE_RUNNING && pml_now_ms() < deadline_ms) {
		pml_cond_wait_until(&replies->changed, &replies->lock, deadline_ms);
		place = find_place(log, request->request_id);
	}
	if (place && place->type != request->type)
		return -EINVAL;
	if (place && place->state == PLACE_RUNNING)
		return -EINPROGRESS;
	if (place) {
		*ret_reply = place->reply;
		return -EALREADY;
	}
	if (!is_younger(request->request_id, log->first_id))
		return -EREMOTEIO;
	if (!is_younger(request->request_id, log->forgotten_id))
		return -ESTALE;
	return take_place(log, request);
}

int pml_replies_begin(struct pml_replies *replies, struct pml_reply_log *log,
		      const struct pml_wire_header *request, struct pml_reply *ret_reply)
{
	int err;
	pthread_mutex_lock(&replies->lock);
	if (request->flags & PML_WIRE_RETRY)
		err = retry_locked(replies, log, request, ret_reply);
	else
		err = is_running(log, request->request_id) ? -EINVAL : take_place(log, request);
	pthread_mutex_unlock(&replies->lock);
	return err;
}

void pml_replies_end(struct pml_replies *replies, struct pml_reply_log *log, uint32_t request_id,
		     const struct pml_reply *reply)
{
	pthread_mutex_lock(&replies->lock);
	struct place *place = find_place(log, request_id);
	assert(place && place->state == PLACE_RUNNING && reply->body_bytes <= sizeof(reply->body));
	place->reply = *reply;
	place->state = PLACE_DONE;
	pthread_cond_broadcast(&replies->changed);
	pthread_mutex_unlock(&replies->lock);
}

void pml_replies_abandon(struct pml_replies *replies, struct pml_reply_log *log,
			 uint32_t request_id)
{
	pthread_mutex_lock(&replies->lock);
	struct place *place = find_place(log, request_id);
	assert(place && place->state == PLACE_RUNNING);
	place->state = PLACE_FREE;
	pthread_cond_broadcast(&replies->changed);
	pthread_mutex_unlock(&replies->lock);
}
