/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * client_window.c -- client library: windows, see client_window.h
 *
 * A window goes when its lease is recalled, when another direction needs its bytes, when
 * there are too many, or with the file.  Whoever sends it away only marks it; its last
 * user commits what was written under it and returns the lease.  So a recall never waits in
 * the worker for a transfer, and what was written is committed before the lease is gone.
 * What cannot be committed because the lease was revoked or the connection is gone is a
 * loss: it is counted, with a reason, and each open file reports it once.
 *
 * A window is as long as what is read or written, at least; it doubles while that goes on
 * sequentially.  Inside the file it begins at a multiple of its length, so that random
 * access comes back to it.
 *
 * Threads: any.  The lock is held for no request.
 */
#include <stdio.h>
#include <string.h>

#include "client_window.h"
#include "thread.h"

#define WINDOW_BYTES_MIN     (UINT64_C(256) << 10)
#define WINDOW_BYTES_DEFAULT (UINT64_C(16) << 20)
#define WINDOWS_DEFAULT	     4u
#define WAIT_MS_DEFAULT	     30000u
/* How long what was returned may still count against a limit. */
#define ROOM_WAIT_MS	2000u
#define ROOM_BACKOFF_MS 20u

/* ---- losses ------------------------------------------------------------- */

static void note_loss_locked(struct pml_windows *ws, int err, uint64_t first, uint64_t end)
{
	char why[PML_REASON_BYTES];
	snprintf(why, sizeof(why), "%s", pml_client_reason(ws->client));
	ws->losses++;
	ws->lost_err = err;
	snprintf(ws->lost_reason, sizeof(ws->lost_reason),
		 "bytes %llu to %llu were written and not committed, and are lost: %.160s",
		 (unsigned long long)first, (unsigned long long)(end - 1), why);
}

static void add_dirty_locked(struct pml_window *w, uint64_t first, uint64_t end)
{
	if (first == end)
		return;
	bool is_clean = w->dirty_first == w->dirty_end;
	w->dirty_first = is_clean ? first : PML_MIN(w->dirty_first, first);
	w->dirty_end = is_clean ? end : PML_MAX(w->dirty_end, end);
}

/*
 * Commits what is dirty in a window that somebody uses or that is leaving; drops the lock
 * meanwhile.  On an error it stays dirty.
 */
static int commit_window_locked(struct pml_window *w)
{
	struct pml_windows *ws = w->windows;
	uint64_t first = w->dirty_first;
	uint64_t end = w->dirty_end;
	if (first == end)
		return 0;
	w->dirty_first = w->dirty_end = 0;
	w->is_committing = true;
	pthread_mutex_unlock(&ws->lock);
	int err = pml_client_commit(w->lease, first, end - first, end);
	pthread_mutex_lock(&ws->lock);
	w->is_committing = false;
	if (err)
		add_dirty_locked(w, first, end);
	else
		ws->file_size = PML_MAX(ws->file_size, end);
	pthread_cond_broadcast(&ws->changed);
	return err;
}

/* ---- leaving ------------------------------------------------------------ */

/* The last step of a window; drops the lock meanwhile. */
static void leave_locked(struct pml_window *w)
{
	struct pml_windows *ws = w->windows;
	w->state = PML_WINDOW_LEAVING;
	int err = commit_window_locked(w);
	if (err)
		note_loss_locked(ws, err, w->dirty_first, w->dirty_end);
	pthread_mutex_unlock(&ws->lock);
	/* That it had ended before is known to whoever needs to know. */
	(void)pml_client_return(w->lease);
	pthread_mutex_lock(&ws->lock);
	pml_list_remove(&w->link);
	ws->count--;
	free(w);
	pthread_cond_broadcast(&ws->changed);
}

/* No new user.  True: the window may be gone, and the lock was dropped. */
static bool send_away_locked(struct pml_window *w)
{
	if (w->state != PML_WINDOW_LIVE)
		return false;
	w->state = PML_WINDOW_GOING;
	if (w->users > 0)
		return false;
	leave_locked(w);
	return true;
}

static void put_locked(struct pml_window *w)
{
	w->users--;
	if (w->users == 0 && w->state == PML_WINDOW_GOING)
		leave_locked(w);
}

void pml_window_put(struct pml_window *w, uint64_t first_byte, uint64_t end_byte)
{
	struct pml_windows *ws = w->windows;
	pthread_mutex_lock(&ws->lock);
	add_dirty_locked(w, first_byte, end_byte);
	put_locked(w);
	pthread_mutex_unlock(&ws->lock);
}

void pml_window_put_bad(struct pml_window *w)
{
	struct pml_windows *ws = w->windows;
	pthread_mutex_lock(&ws->lock);
	(void)send_away_locked(w); /* not gone: this thread uses it */
	put_locked(w);
	pthread_mutex_unlock(&ws->lock);
}

/* In the worker.  The lease is returned here or by the last user. */
static void window_recalled(void *owner)
{
	struct pml_window *w = owner;
	struct pml_windows *ws = w->windows;
	pthread_mutex_lock(&ws->lock);
	if (w->state == PML_WINDOW_TAKING)
		w->is_recalled = true;
	else
		(void)send_away_locked(w);
	pthread_mutex_unlock(&ws->lock);
}

/* ---- looking ------------------------------------------------------------ */

static bool covers(const struct pml_window *w, uint64_t at)
{
	return w->first_byte <= at && at < w->end_byte;
}

/* Sends one window away that has ended meanwhile.  True: look again. */
static bool drop_ended_locked(struct pml_windows *ws)
{
	struct pml_window *w;
	pml_list_for_each(w, &ws->list, link)
		if (w->state == PML_WINDOW_LIVE && pml_client_lease_status(w->lease) != 0 &&
		    send_away_locked(w))
			return true;
	return false;
}

/* Would leases for both meet there?  Those for writing reach whole blocks. */
static bool is_in_the_way(const struct pml_window *w, uint64_t at, bool for_write)
{
	if (!w->for_write && !for_write)
		return covers(w, at);
	return pml_round_down(w->first_byte, PML_BLOCK_BYTES) <= at &&
	       at < pml_round_up(w->end_byte, PML_BLOCK_BYTES);
}

/* A window at @at that can be used, or that is in the way there. */
static struct pml_window *find_locked(struct pml_windows *ws, uint64_t at, bool for_write)
{
	struct pml_window *in_the_way = NULL;
	struct pml_window *w;
	pml_list_for_each(w, &ws->list, link) {
		if (ws->is_shared && w->for_write != for_write)
			continue;
		if (covers(w, at) && w->state == PML_WINDOW_LIVE && w->for_write == for_write)
			return w;
		if (is_in_the_way(w, at, for_write))
			in_the_way = w;
	}
	return in_the_way;
}

static struct pml_window *find_idle_locked(struct pml_windows *ws)
{
	struct pml_window *w;
	pml_list_for_each(w, &ws->list, link)
		if (w->state == PML_WINDOW_LIVE && w->users == 0)
			return w;
	return NULL;
}

/* ---- taking ------------------------------------------------------------- */

/* Which range to ask for, so that it covers @at and meets no other window. */
static void choose_range_locked(struct pml_windows *ws, uint64_t at, uint64_t len_bytes,
				bool for_write, uint64_t *ret_first, uint64_t *ret_end)
{
	bool is_sequential = at == ws->next_byte[for_write];
	uint64_t grown =
		is_sequential ? PML_MAX(ws->grown[for_write], WINDOW_BYTES_MIN) : WINDOW_BYTES_MIN;
	bool is_inside = at < ws->file_size || !for_write;
	uint64_t bytes = is_inside || is_sequential ? PML_MAX(len_bytes, grown) : len_bytes;
	bytes = pml_round_up(PML_MIN(bytes, ws->max_bytes), PML_BLOCK_BYTES);
	ws->grown[for_write] = PML_MIN(grown * 2, ws->max_bytes);

	uint64_t first = pml_round_down(at, PML_BLOCK_BYTES);
	if (is_inside && !is_sequential && !ws->is_fragmented)
		first = pml_round_down(at, bytes);
	uint64_t end = PML_MIN(first + bytes, (uint64_t)INT64_MAX);
	/* Space behind the end of the file costs; not for reading. */
	if (for_write && is_inside && !is_sequential)
		end = PML_MAX(PML_MIN(end, pml_round_up(ws->file_size, PML_BLOCK_BYTES)),
			      PML_MIN(end, pml_round_up(at + len_bytes, PML_BLOCK_BYTES)));
	const struct pml_window *w;
	pml_list_for_each(w, &ws->list, link) {
		if (ws->is_shared && w->for_write != for_write)
			continue;
		uint64_t unit = w->for_write || for_write ? PML_BLOCK_BYTES : 1;
		if (w->end_byte <= at)
			first = PML_MAX(first, pml_round_up(w->end_byte, unit));
		else if (w->first_byte > at)
			end = PML_MIN(end, pml_round_down(w->first_byte, unit));
	}
	*ret_first = first;
	*ret_end = end;
}

static struct pml_window *window_new_locked(struct pml_windows *ws, uint64_t first, uint64_t end,
					    bool for_write)
{
	struct pml_window *w = calloc(1, sizeof(*w));
	if (!w)
		return NULL;
	w->windows = ws;
	w->first_byte = first;
	w->end_byte = end;
	w->for_write = for_write;
	w->users = 1;
	pml_list_init(&w->link);
	pml_list_append(&ws->list, &w->link);
	ws->count++;
	return w;
}

static int ask(struct pml_window *w, uint64_t first, uint64_t end, uint32_t wait_ms)
{
	const struct pml_windows *ws = w->windows;
	unsigned int kind =
		(w->for_write ? PML_CLIENT_WRITE : 0) | (ws->is_shared ? PML_CLIENT_SHARED : 0);
	const struct pml_lease_owner owner = {.recalled = window_recalled, .arg = w};
	return pml_client_lease_owned(ws->client, &ws->handle, first, end - first, kind,
				      (int)wait_ms, &owner, &w->lease);
}

/* Gives up a lease that does not reach @at. */
static int ask_again_nearer(struct pml_window *w, uint64_t at, uint32_t wait_ms)
{
	(void)pml_client_return(w->lease);
	w->lease = NULL;
	uint64_t first = pml_round_down(at, PML_BLOCK_BYTES);
	return ask(w, first, PML_MAX(w->end_byte, first + PML_BLOCK_BYTES), wait_ms);
}

static bool is_limit(int err)
{
	return err == -EDQUOT || err == -EUSERS;
}

/*
 * Some limit is reached: gives up what is idle, and asks for the least.  What was given up
 * counts until the server has fenced it, so that it may take some tries.
 */
static int ask_for_least(struct pml_window *w, uint64_t first, uint64_t end, uint32_t wait_ms)
{
	uint64_t deadline_ms = pml_now_ms() + PML_MIN(wait_ms, ROOM_WAIT_MS);
	uint32_t backoff_ms = 1;
	for (;;) {
		pml_files_shed(w->windows->client, w->windows);
		int err = ask(w, first, end, wait_ms);
		if (!is_limit(err) || pml_now_ms() >= deadline_ms)
			return err;
		pml_sleep_ms(backoff_ms);
		backoff_ms = PML_MIN(backoff_ms * 2, ROOM_BACKOFF_MS);
	}
}

/* Asks for the lease of a window; with less than is wanted if there is no room for more. */
static int take_lease(struct pml_window *w, uint64_t at, uint64_t len_bytes, uint32_t wait_ms)
{
	uint64_t least = pml_round_down(at, PML_BLOCK_BYTES);
	uint64_t least_end = PML_MIN(pml_round_up(at + len_bytes, PML_BLOCK_BYTES), w->end_byte);
	least_end = PML_MAX(least_end, least + PML_BLOCK_BYTES);
	int err = ask(w, w->first_byte, w->end_byte, wait_ms);
	bool is_large = least_end - least < w->end_byte - w->first_byte;
	bool has_time = wait_ms > 0;
	if (has_time && (is_limit(err) || (is_large && err == -ENOSPC)))
		err = ask_for_least(w, least, least_end, wait_ms);
	if (!err && pml_client_lease_end(w->lease) <= at) {
		err = ask_again_nearer(w, at, wait_ms);
		if (has_time && is_limit(err))
			err = ask_for_least(w, least, least_end, wait_ms);
		pthread_mutex_lock(&w->windows->lock);
		w->windows->is_fragmented = true;
		pthread_mutex_unlock(&w->windows->lock);
	}
	return err;
}

static int take_window(struct pml_window *w, uint64_t at, uint64_t len_bytes, uint32_t wait_ms)
{
	struct pml_windows *ws = w->windows;
	int err = take_lease(w, at, len_bytes, wait_ms);
	pthread_mutex_lock(&ws->lock);
	if (err) {
		pml_list_remove(&w->link);
		ws->count--;
		free(w);
	} else {
		w->first_byte = w->lease->first_byte;
		w->end_byte = w->lease->end_byte;
		ws->file_size = w->lease->file_size;
		/* A recall that came already: it is used once, so that there is progress. */
		w->state = w->is_recalled ? PML_WINDOW_GOING : PML_WINDOW_LIVE;
	}
	pthread_cond_broadcast(&ws->changed);
	pthread_mutex_unlock(&ws->lock);
	return err;
}

/*
 * Looks for a window, or makes place for one.  0: *ret_window is in use by this thread, or NULL:
 * there is none, and place.  -EINPROGRESS: something changed, look again; -EBUSY: wait.
 */
static int look_locked(struct pml_windows *ws, uint64_t at, bool for_write,
		       struct pml_window **ret_window)
{
	if (drop_ended_locked(ws))
		return -EINPROGRESS;
	if (ws->freezes > 0)
		return -EBUSY;
	struct pml_window *w = find_locked(ws, at, for_write);
	if (w && w->state == PML_WINDOW_LIVE && w->for_write == for_write) {
		w->users++;
		pml_list_remove(&w->link);
		pml_list_append(&ws->list, &w->link);
		*ret_window = w;
		return 0;
	}
	if (w)
		return send_away_locked(w) ? -EINPROGRESS : -EBUSY;
	*ret_window = NULL;
	if (ws->count < ws->max_count)
		return 0;
	w = find_idle_locked(ws);
	return w && send_away_locked(w) ? -EINPROGRESS : -EBUSY;
}

int pml_window_get(struct pml_windows *ws, uint64_t at, uint64_t len_bytes, bool for_write,
		   struct pml_window **ret_window)
{
	struct pml_window *w = NULL;
	pthread_mutex_lock(&ws->lock);
	uint32_t wait_ms = ws->wait_ms;
	uint64_t deadline_ms = pml_now_ms() + wait_ms;
	int err = look_locked(ws, at, for_write, &w);
	while (err && pml_now_ms() < deadline_ms) {
		if (err == -EBUSY)
			pml_cond_wait_until(&ws->changed, &ws->lock, deadline_ms);
		err = look_locked(ws, at, for_write, &w);
	}
	bool is_new = !err && !w;
	if (is_new) {
		uint64_t first;
		uint64_t end;
		choose_range_locked(ws, at, len_bytes, for_write, &first, &end);
		w = window_new_locked(ws, first, end, for_write);
	}
	pthread_mutex_unlock(&ws->lock);
	if (err)
		return pml_client_fail(-EAGAIN, "file: its leases are in use for too long");
	if (!w)
		return pml_client_fail(-ENOMEM, "file: out of memory");
	if (is_new)
		err = take_window(w, at, len_bytes, wait_ms);
	if (!err)
		*ret_window = w;
	return err;
}

/* ---- taking ahead ------------------------------------------------------- */

/* Is there room beyond @w, and no other window? */
static bool may_take_ahead_locked(const struct pml_window *w)
{
	const struct pml_windows *ws = w->windows;
	if (ws->is_ahead || w->state != PML_WINDOW_LIVE || ws->max_count < 2)
		return false;
	if (!w->for_write && w->end_byte >= ws->file_size)
		return false;
	const struct pml_window *other;
	pml_list_for_each(other, &ws->list, link)
		if (covers(other, w->end_byte))
			return false;
	return true;
}

void pml_window_ahead(struct pml_window *w, uint64_t at, uint64_t to)
{
	struct pml_windows *ws = w->windows;
	struct pml_client *client = ws->client;
	/* Not yet in the first half. */
	if (to - w->first_byte < (w->end_byte - w->first_byte) / 2)
		return;
	pthread_mutex_lock(&ws->lock);
	bool is_due = at > 0 && at == ws->next_byte[w->for_write] && may_take_ahead_locked(w);
	if (is_due) {
		ws->is_ahead = true;
		ws->ahead_byte = w->end_byte;
		ws->ahead_for_write = w->for_write;
	}
	pthread_mutex_unlock(&ws->lock);
	if (!is_due)
		return;
	pthread_mutex_lock(&client->lock);
	pml_list_append(&client->ahead, &ws->ahead_link);
	pthread_cond_signal(&client->has_work);
	pthread_mutex_unlock(&client->lock);
}

void pml_windows_take_ahead(struct pml_windows *ws)
{
	pthread_mutex_lock(&ws->lock);
	uint64_t at = ws->ahead_byte;
	bool for_write = ws->ahead_for_write;
	struct pml_window *w = find_locked(ws, at, for_write);
	struct pml_window *idle = ws->count >= ws->max_count ? find_idle_locked(ws) : NULL;
	if (!w && idle)
		(void)send_away_locked(idle);
	bool is_due = !w && ws->count < ws->max_count && ws->freezes == 0;
	if (is_due && !find_locked(ws, at, for_write)) {
		uint64_t first;
		uint64_t end;
		ws->next_byte[for_write] = at;
		choose_range_locked(ws, at, PML_BLOCK_BYTES, for_write, &first, &end);
		w = window_new_locked(ws, first, end, for_write);
	} else {
		w = NULL;
	}
	pthread_mutex_unlock(&ws->lock);
	/* An error comes again, to who needs the window. */
	if (w && take_window(w, at, PML_BLOCK_BYTES, 0) == 0)
		pml_window_put(w, 0, 0);
	pthread_mutex_lock(&ws->lock);
	ws->is_ahead = false;
	pthread_cond_broadcast(&ws->changed);
	pthread_mutex_unlock(&ws->lock);
}

/* ---- committing --------------------------------------------------------- */

static bool is_dirty(const struct pml_window *w)
{
	return w->dirty_first != w->dirty_end;
}

/* The first dirty window that can be committed; *ret_wait: some window is on its way. */
static struct pml_window *find_dirty_locked(struct pml_windows *ws, bool *ret_wait)
{
	struct pml_window *first = NULL;
	struct pml_window *w;
	*ret_wait = false;
	pml_list_for_each(w, &ws->list, link) {
		bool is_usable = w->state == PML_WINDOW_LIVE ||
				 (w->state == PML_WINDOW_GOING && w->users > 0);
		*ret_wait |= w->is_committing || (is_dirty(w) && !is_usable);
		if (is_dirty(w) && is_usable && (!first || w->dirty_first < first->dirty_first))
			first = w;
	}
	return first;
}

static bool is_end_of_lease(int err)
{
	return err == -ESTALE || err == -EKEYREVOKED || err == -ENOTCONN || err == -ETIMEDOUT;
}

int pml_windows_commit(struct pml_windows *ws)
{
	pthread_mutex_lock(&ws->lock);
	int err = 0;
	for (;;) {
		bool must_wait;
		struct pml_window *w = find_dirty_locked(ws, &must_wait);
		if (!w && !must_wait)
			break;
		if (!w) {
			pthread_cond_wait(&ws->changed, &ws->lock);
			continue;
		}
		w->users++;
		err = commit_window_locked(w);
		if (is_end_of_lease(err)) {
			note_loss_locked(ws, err, w->dirty_first, w->dirty_end);
			w->dirty_first = w->dirty_end = 0;
			(void)send_away_locked(w);
			err = 0;
		}
		put_locked(w);
		if (err)
			break;
	}
	pthread_mutex_unlock(&ws->lock);
	return err;
}

void pml_windows_give_up(struct pml_windows *ws, uint64_t first_byte)
{
	pthread_mutex_lock(&ws->lock);
	struct pml_list *at = ws->list.next;
	while (at != &ws->list) {
		struct pml_window *w = pml_list_entry(at, struct pml_window, link);
		at = at->next;
		if (w->end_byte <= first_byte)
			continue;
		if (send_away_locked(w)) {
			at = ws->list.next;
		} else if (w->state != PML_WINDOW_LIVE) {
			pthread_cond_wait(&ws->changed, &ws->lock);
			at = ws->list.next;
		}
	}
	pthread_mutex_unlock(&ws->lock);
}

void pml_windows_freeze(struct pml_windows *ws)
{
	pthread_mutex_lock(&ws->lock);
	ws->freezes++;
	pthread_mutex_unlock(&ws->lock);
	pml_windows_give_up(ws, 0);
}

void pml_windows_thaw(struct pml_windows *ws, uint64_t size_bytes)
{
	pthread_mutex_lock(&ws->lock);
	ws->freezes--;
	if (size_bytes != UINT64_MAX)
		ws->file_size = size_bytes;
	pthread_cond_broadcast(&ws->changed);
	pthread_mutex_unlock(&ws->lock);
}

void pml_windows_moved(struct pml_windows *ws, bool for_write, uint64_t end_byte)
{
	pthread_mutex_lock(&ws->lock);
	ws->next_byte[for_write] = end_byte;
	pthread_mutex_unlock(&ws->lock);
}

uint64_t pml_windows_dirty_end(struct pml_windows *ws)
{
	uint64_t end = 0;
	const struct pml_window *w;
	pthread_mutex_lock(&ws->lock);
	pml_list_for_each(w, &ws->list, link)
		if (is_dirty(w) || w->is_committing)
			end = PML_MAX(end, is_dirty(w) ? w->dirty_end : w->end_byte);
	pthread_mutex_unlock(&ws->lock);
	return end;
}

/* ---- opening and closing ------------------------------------------------ */

static struct pml_windows *windows_new(struct pml_client *client,
				       const struct pml_client_handle *handle)
{
	struct pml_windows *ws = calloc(1, sizeof(*ws));
	if (!ws)
		return NULL;
	if (pml_cond_init(&ws->changed)) {
		free(ws);
		return NULL;
	}
	pthread_mutex_init(&ws->lock, NULL);
	pml_list_init(&ws->link);
	pml_list_init(&ws->list);
	pml_list_init(&ws->ahead_link);
	ws->client = client;
	ws->handle = *handle;
	/* The first read is taken for sequential; the first write gets just its own space. */
	ws->next_byte[true] = UINT64_MAX;
	return ws;
}

/* The last open decides for all. */
static void set_options(struct pml_windows *ws, const struct pml_client_file_options *options)
{
	pthread_mutex_lock(&ws->lock);
	ws->max_bytes =
		options && options->window_bytes ? options->window_bytes : WINDOW_BYTES_DEFAULT;
	ws->max_bytes = pml_round_up(PML_MIN(ws->max_bytes, UINT64_C(1) << 40), PML_BLOCK_BYTES);
	ws->max_count = options && options->max_leases ? options->max_leases : WINDOWS_DEFAULT;
	ws->wait_ms = options && options->wait_ms ? options->wait_ms : WAIT_MS_DEFAULT;
	pthread_mutex_unlock(&ws->lock);
}

int pml_windows_open(struct pml_client *client, const struct pml_client_handle *handle,
		     const struct pml_client_file_options *options, bool is_shared,
		     struct pml_windows **ret_windows)
{
	struct pml_windows *ws;
	struct pml_windows *found = NULL;
	pthread_mutex_lock(&client->files_lock);
	pml_list_for_each(ws, &client->files, link)
		if (memcmp(&ws->handle, handle, sizeof(*handle)) == 0 && ws->is_shared == is_shared)
			found = ws;
	if (!found) {
		found = windows_new(client, handle);
		if (found) {
			found->is_shared = is_shared;
			pml_list_append(&client->files, &found->link);
		}
	}
	if (found) {
		found->opens++;
		set_options(found, options);
	}
	pthread_mutex_unlock(&client->files_lock);
	if (!found)
		return -ENOMEM;
	*ret_windows = found;
	return 0;
}

/* Nothing is queued for the worker, and it is not at it. */
static void stop_ahead(struct pml_windows *ws)
{
	struct pml_client *client = ws->client;
	pthread_mutex_lock(&client->lock);
	bool was_queued = !pml_list_is_empty(&ws->ahead_link);
	pml_list_remove(&ws->ahead_link);
	pthread_mutex_unlock(&client->lock);
	pthread_mutex_lock(&ws->lock);
	if (was_queued)
		ws->is_ahead = false;
	while (ws->is_ahead)
		pthread_cond_wait(&ws->changed, &ws->lock);
	pthread_mutex_unlock(&ws->lock);
}

void pml_windows_close(struct pml_windows *ws)
{
	struct pml_client *client = ws->client;
	pthread_mutex_lock(&client->files_lock);
	bool is_last = --ws->opens == 0;
	if (is_last)
		pml_list_remove(&ws->link);
	pthread_mutex_unlock(&client->files_lock);
	if (!is_last)
		return;
	stop_ahead(ws);
	pml_windows_give_up(ws, 0);
	assert(ws->count == 0);
	pthread_cond_destroy(&ws->changed);
	pthread_mutex_destroy(&ws->lock);
	free(ws);
}

/* Sends away what is idle, of one file after the other. */
void pml_files_shed(struct pml_client *client, struct pml_windows *first)
{
	struct pml_windows *ws = first;
	uint32_t limit = 0;
	pthread_mutex_lock(&client->files_lock);
	const struct pml_windows *each;
	pml_list_for_each(each, &client->files, link)
		limit++;
	first->opens++;
	for (; limit > 0; limit--) {
		pthread_mutex_unlock(&client->files_lock);
		pthread_mutex_lock(&ws->lock);
		for (struct pml_window *w = find_idle_locked(ws); w; w = find_idle_locked(ws))
			(void)send_away_locked(w);
		pthread_mutex_unlock(&ws->lock);
		pthread_mutex_lock(&client->files_lock);
		struct pml_list *next =
			ws->link.next == &client->files ? client->files.next : ws->link.next;
		struct pml_windows *next_ws = pml_list_entry(next, struct pml_windows, link);
		next_ws->opens++;
		pthread_mutex_unlock(&client->files_lock);
		pml_windows_close(ws);
		ws = next_ws;
		pthread_mutex_lock(&client->files_lock);
	}
	pthread_mutex_unlock(&client->files_lock);
	pml_windows_close(ws);
}

void pml_files_free(struct pml_client *client)
{
	while (!pml_list_is_empty(&client->files)) {
		struct pml_windows *ws =
			pml_list_entry(client->files.next, struct pml_windows, link);
		ws->opens = 1;
		pml_windows_close(ws);
	}
}
