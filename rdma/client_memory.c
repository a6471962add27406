/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * client_memory.c -- client library: memory that the fabric can use
 *
 * Registering memory pins its pages, as they are now.  A registration outlives an munmap(2):
 * then it leads to the old pages, and a transfer to what has come to the same
 * address is lost without an error.  So a program's memory stays registered after a
 * transfer only if the program has promised to say when it unmaps some
 * (pml_client_cache_memory()).  What is registered by a buffer belongs to the library.
 *
 * Threads: any.  Registering and deregistering are slow and happen without the lock.
 */
#include <string.h>

#include "client_i.h"

#define CACHE_MAX 1024u

void pml_memory_init(struct pml_client_memory *memory)
{
	pthread_mutex_init(&memory->lock, NULL);
	pml_list_init(&memory->ranges);
}

static void free_range(struct pml_memory *range)
{
	pml_local_mr_free(range->mr);
	pml_connection_put(range->connection);
	free(range->owned);
	free(range);
}

static void free_ranges(struct pml_list *ranges)
{
	struct pml_memory *range;
	struct pml_memory *tmp;
	pml_list_for_each_safe(range, tmp, ranges, link)
		free_range(range);
}

void pml_memory_end(struct pml_client *client)
{
	struct pml_client_memory *memory = &client->memory;
	free_ranges(&memory->ranges);
	if (memory->bounce)
		free_range(memory->bounce);
	pthread_mutex_destroy(&memory->lock);
}

/* ---- registering -------------------------------------------------------- */

static int register_range(struct pml_client *client, uintptr_t first, uintptr_t end,
			  struct pml_memory **ret_range)
{
	struct pml_memory *range = calloc(1, sizeof(*range));
	if (!range)
		return -ENOMEM;
	pml_list_init(&range->link);
	range->first = first;
	range->end = end;
	atomic_init(&range->uses, 1);
	range->connection = pml_connection_get(client);
	int err = pml_local_mr_new(range->connection->ep, (void *)first, end - first, &range->mr);
	if (err) {
		pml_connection_put(range->connection);
		free(range);
		return err;
	}
	*ret_range = range;
	return 0;
}

int pml_memory_new(struct pml_client *client, size_t bytes, struct pml_memory **ret_memory)
{
	if (bytes > (size_t)INT64_MAX)
		return -EINVAL;
	size_t room = pml_round_up(bytes, PML_BLOCK_BYTES);
	void *data = aligned_alloc(PML_BLOCK_BYTES, room);
	if (!data)
		return -ENOMEM;
	memset(data, 0, room);
	struct pml_memory *range;
	int err = register_range(client, (uintptr_t)data, (uintptr_t)data + room, &range);
	if (err) {
		free(data);
		return err;
	}
	range->owned = data;
	*ret_memory = range;
	return 0;
}

/* ---- the cache ---------------------------------------------------------- */

static bool is_apart(const struct pml_memory *range, uintptr_t first, uintptr_t end)
{
	return range->end < first || end < range->first;
}

/* A range that covers it, now the last used. */
static struct pml_memory *find_locked(struct pml_client_memory *memory, uintptr_t first,
				      uintptr_t end)
{
	struct pml_memory *range;
	for (struct pml_list *at = memory->ranges.prev; at != &memory->ranges; at = at->prev) {
		range = pml_list_entry(at, struct pml_memory, link);
		if (range->first > first || end > range->end)
			continue;
		if (at->next != &memory->ranges) {
			pml_list_remove(&range->link);
			pml_list_append(&memory->ranges, &range->link);
		}
		pml_memory_hold(range);
		return range;
	}
	return NULL;
}

static void uncache_locked(struct pml_client_memory *memory, struct pml_memory *range)
{
	memory->count--;
	memory->bytes -= range->end - range->first;
	range->is_cached = false;
}

/* Moves a cached range that nobody uses to @freed. */
static void drop_locked(struct pml_client_memory *memory, struct pml_memory *range,
			struct pml_list *freed)
{
	uncache_locked(memory, range);
	pml_list_remove(&range->link);
	pml_list_append(freed, &range->link);
}

/* Drops those that were not used for longest, down to the limits. */
static void evict_locked(struct pml_client_memory *memory, struct pml_list *freed)
{
	struct pml_memory *range;
	struct pml_memory *tmp;
	pml_list_for_each_safe(range, tmp, &memory->ranges, link) {
		if (memory->count <= memory->max_count && memory->bytes <= memory->max_bytes)
			return;
		if (range->is_cached && atomic_load(&range->uses) == 0)
			drop_locked(memory, range, freed);
	}
}

/* Widens the range by what is cached beside it, as far as one may be. */
static void widen_locked(struct pml_client_memory *memory, uintptr_t *first, uintptr_t *end)
{
	const struct pml_memory *range;
	pml_list_for_each(range, &memory->ranges, link) {
		if (!range->is_cached || is_apart(range, *first, *end))
			continue;
		uintptr_t to_first = PML_MIN(*first, range->first);
		uintptr_t to_end = PML_MAX(*end, range->end);
		if (to_end - to_first > memory->max_bytes / 2)
			continue;
		*first = to_first;
		*end = to_end;
	}
}

/* Drops what lies inside @range. */
static void absorb_locked(struct pml_client_memory *memory, const struct pml_memory *range,
			  struct pml_list *freed)
{
	struct pml_memory *other;
	struct pml_memory *tmp;
	pml_list_for_each_safe(other, tmp, &memory->ranges, link)
		if (other->is_cached && atomic_load(&other->uses) == 0 &&
		    other->first >= range->first && other->end <= range->end)
			drop_locked(memory, other, freed);
}

static void insert(struct pml_client *client, struct pml_memory *range)
{
	struct pml_client_memory *memory = &client->memory;
	struct pml_list freed;
	uint64_t bytes = range->end - range->first;
	pml_list_init(&freed);
	pthread_mutex_lock(&memory->lock);
	struct pml_connection *connection = pml_connection_get(client);
	/* Not if there has been a new connection meanwhile. */
	bool is_current = range->connection == connection;
	pml_connection_put(connection);
	if (is_current && memory->max_count > 0 && bytes <= memory->max_bytes) {
		absorb_locked(memory, range, &freed);
		range->is_cached = true;
		memory->count++;
		memory->bytes += bytes;
		pml_list_append(&memory->ranges, &range->link);
		evict_locked(memory, &freed);
	}
	pthread_mutex_unlock(&memory->lock);
	free_ranges(&freed);
}

int pml_memory_get(struct pml_client *client, const void *addr, size_t bytes, bool may_register,
		   struct pml_memory **ret_memory)
{
	struct pml_client_memory *memory = &client->memory;
	uintptr_t first = (uintptr_t)addr;
	uintptr_t end = first + bytes;
	pthread_mutex_lock(&memory->lock);
	struct pml_memory *range = find_locked(memory, first, end);
	first = pml_round_down(first, PML_BLOCK_BYTES);
	end = pml_round_up(end, PML_BLOCK_BYTES);
	uintptr_t wide_first = first;
	uintptr_t wide_end = end;
	if (!range && may_register)
		widen_locked(memory, &wide_first, &wide_end);
	pthread_mutex_unlock(&memory->lock);

	int err = range ? 0 : -ENOENT;
	if (!range && may_register) {
		err = register_range(client, wide_first, wide_end, &range);
		if (err && wide_end - wide_first > end - first)
			err = register_range(client, first, end, &range);
		if (!err)
			insert(client, range);
	}
	if (!err)
		*ret_memory = range;
	return err;
}

void pml_memory_hold(struct pml_memory *range)
{
	atomic_fetch_add(&range->uses, 1);
}

/* False: this use is the last one. */
static bool put_one_of_many(struct pml_memory *range)
{
	unsigned int uses = atomic_load(&range->uses);
	while (uses > 1)
		if (atomic_compare_exchange_weak(&range->uses, &uses, uses - 1))
			return true;
	return false;
}

void pml_memory_put(struct pml_client *client, struct pml_memory *range)
{
	struct pml_client_memory *memory = &client->memory;
	struct pml_list freed;
	if (put_one_of_many(range))
		return;
	pml_list_init(&freed);
	pthread_mutex_lock(&memory->lock);
	bool is_listed = !pml_list_is_empty(&range->link);
	bool is_last = atomic_fetch_sub(&range->uses, 1) == 1 && !is_listed;
	if (is_listed)
		evict_locked(memory, &freed);
	pthread_mutex_unlock(&memory->lock);
	free_ranges(&freed);
	if (is_last)
		free_range(range);
}

static int rebind(struct pml_memory *range, struct pml_connection *connection)
{
	struct pml_local_mr *mr;
	int err = pml_local_mr_new(connection->ep, (void *)range->first, range->end - range->first,
				   &mr);
	if (err)
		return err;
	pml_local_mr_free(range->mr);
	pml_connection_put(range->connection);
	atomic_fetch_add(&connection->refs, 1);
	range->mr = mr;
	range->connection = connection;
	return 0;
}

int pml_memory_rebind(struct pml_client *client)
{
	struct pml_client_memory *memory = &client->memory;
	struct pml_connection *connection = pml_connection_get(client);
	struct pml_list freed;
	struct pml_memory *range;
	struct pml_memory *tmp;
	pml_list_init(&freed);
	pthread_mutex_lock(&memory->lock);
	int err = memory->bounce ? rebind(memory->bounce, connection) : 0;
	pml_list_for_each_safe(range, tmp, &memory->ranges, link) {
		if (!range->is_cached) {
			err = err ? err : rebind(range, connection);
		} else if (atomic_load(&range->uses) == 0) {
			drop_locked(memory, range, &freed);
		} else {
			/* Of a transfer that has failed; its end frees it. */
			uncache_locked(memory, range);
			pml_list_remove(&range->link);
		}
	}
	pthread_mutex_unlock(&memory->lock);
	free_ranges(&freed);
	pml_connection_put(connection);
	return err;
}

int pml_client_cache_memory(struct pml_client *client, uint32_t max_count, uint64_t max_bytes)
{
	if (max_count > CACHE_MAX)
		return pml_client_fail(-EINVAL, "cache: at most %u registrations", CACHE_MAX);
	struct pml_client_memory *memory = &client->memory;
	struct pml_list freed;
	pml_list_init(&freed);
	pthread_mutex_lock(&memory->lock);
	memory->max_count = max_bytes > 0 ? max_count : 0;
	memory->max_bytes = max_count > 0 ? max_bytes : 0;
	evict_locked(memory, &freed);
	pthread_mutex_unlock(&memory->lock);
	free_ranges(&freed);
	return 0;
}

int pml_client_forget_memory(struct pml_client *client, const void *addr, size_t bytes)
{
	struct pml_client_memory *memory = &client->memory;
	uintptr_t first = (uintptr_t)addr;
	uintptr_t end = bytes > UINTPTR_MAX - first ? UINTPTR_MAX : first + bytes;
	struct pml_list freed;
	struct pml_memory *range;
	struct pml_memory *tmp;
	bool is_busy = false;
	pml_list_init(&freed);
	pthread_mutex_lock(&memory->lock);
	pml_list_for_each_safe(range, tmp, &memory->ranges, link) {
		if (!range->is_cached || range->end <= first || end <= range->first)
			continue;
		if (atomic_load(&range->uses) == 0) {
			drop_locked(memory, range, &freed);
			continue;
		}
		/* Nobody finds it any more; its last user frees it. */
		uncache_locked(memory, range);
		pml_list_remove(&range->link);
		is_busy = true;
	}
	pthread_mutex_unlock(&memory->lock);
	free_ranges(&freed);
	return is_busy ? pml_client_fail(-EBUSY, "forget: a transfer uses this memory") : 0;
}

/* ---- bounce slots ------------------------------------------------------- */

static void make_bounce_locked(struct pml_client *client)
{
	struct pml_client_memory *memory = &client->memory;
	if (memory->has_bounce_been_tried)
		return;
	memory->has_bounce_been_tried = true;
	if (pml_memory_new(client, (size_t)PML_BOUNCE_SLOTS * PML_BOUNCE_BYTES, &memory->bounce))
		memory->bounce = NULL;
	else
		memory->bounce_free = UINT32_MAX;
}

uint8_t *pml_bounce_take(struct pml_client *client, struct pml_local_mr **ret_mr)
{
	static_assert(PML_BOUNCE_SLOTS == 32, "a bit each");
	struct pml_client_memory *memory = &client->memory;
	uint8_t *slot = NULL;
	pthread_mutex_lock(&memory->lock);
	make_bounce_locked(client);
	if (memory->bounce_free) {
		int i = __builtin_ctz(memory->bounce_free);
		memory->bounce_free &= ~(1u << i);
		slot = (uint8_t *)memory->bounce->first + (size_t)i * PML_BOUNCE_BYTES;
		*ret_mr = memory->bounce->mr;
	}
	pthread_mutex_unlock(&memory->lock);
	return slot;
}

void pml_bounce_give(struct pml_client *client, uint8_t *slot)
{
	struct pml_client_memory *memory = &client->memory;
	pthread_mutex_lock(&memory->lock);
	size_t i = ((uintptr_t)slot - memory->bounce->first) / PML_BOUNCE_BYTES;
	memory->bounce_free |= 1u << i;
	pthread_mutex_unlock(&memory->lock);
}

/* ---- buffers ------------------------------------------------------------ */

int pml_client_buffer_new(struct pml_client *client, size_t bytes,
			  struct pml_client_buffer **ret_buffer)
{
	if (bytes == 0 || bytes > (size_t)INT64_MAX)
		return pml_client_fail(-EINVAL, "buffer: empty or too large");
	struct pml_client_buffer *buffer = calloc(1, sizeof(*buffer));
	int err = buffer ? pml_memory_new(client, bytes, &buffer->memory) : -ENOMEM;
	if (err) {
		free(buffer);
		if (err == -ENOMEM)
			return pml_client_fail(err,
					       "buffer of %zu bytes: out of memory, or of "
					       "memory that may be locked (see ulimit -l)",
					       bytes);
		return pml_client_fail(
			err, "buffer of %zu bytes: cannot be registered: %s (see ulimit -l)", bytes,
			strerror(-err));
	}
	buffer->client = client;
	buffer->data = (uint8_t *)buffer->memory->first;
	buffer->bytes = bytes;
	pthread_mutex_lock(&client->lock);
	pml_list_append(&client->buffers, &buffer->link);
	pthread_mutex_unlock(&client->lock);
	/* From now on transfers find it by its address. */
	pthread_mutex_lock(&client->memory.lock);
	pml_list_append(&client->memory.ranges, &buffer->memory->link);
	pthread_mutex_unlock(&client->memory.lock);
	*ret_buffer = buffer;
	return 0;
}

void *pml_client_buffer_data(struct pml_client_buffer *buffer)
{
	return buffer->data;
}

void pml_client_buffer_free(struct pml_client_buffer *buffer)
{
	if (!buffer)
		return;
	struct pml_client *client = buffer->client;
	pthread_mutex_lock(&client->lock);
	pml_list_remove(&buffer->link);
	pthread_mutex_unlock(&client->lock);
	pthread_mutex_lock(&client->memory.lock);
	pml_list_remove(&buffer->memory->link);
	pthread_mutex_unlock(&client->memory.lock);
	pml_memory_put(client, buffer->memory);
	free(buffer);
}

/* Assumes: no other thread uses the client any more. */
void pml_client_buffers_free(struct pml_client *client)
{
	while (!pml_list_is_empty(&client->buffers))
		pml_client_buffer_free(
			pml_list_entry(client->buffers.next, struct pml_client_buffer, link));
}
