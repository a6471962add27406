/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * hosts.c -- see hosts.h
 *
 * The table has room for a host for each connection and for the remembered ones; so there is
 * always one to be found that has no connection.
 */
#include <pthread.h>
#include <string.h>

#include "hosts.h"
#include "pace.h"

static const struct pml_pace_rule host_lines = {PML_HOST_LINES, PML_HOST_LINE_MS};
static const struct pml_pace_rule all_lines = {PML_ALL_LINES, PML_ALL_LINE_MS};

struct host {
	struct pml_address key;
	uint64_t used_ms; /* 0: free */
	uint64_t refused_ms;
	uint32_t connections;
	uint32_t refusals;
	struct pml_pace lines[PML_LINE_KINDS];
};

struct pml_hosts {
	pthread_mutex_t lock;
	uint32_t max;
	uint32_t max_per_host;
	/* Under lock. */
	uint32_t connections;
	struct pml_pace lines[PML_LINE_KINDS]; /* about all hosts */
	struct pml_pace unknown_lines[PML_LINE_KINDS];
	uint64_t left_out[PML_LINE_KINDS]; /* since the last line */
	size_t room;
	struct host hosts[];
};

struct pml_hosts *pml_hosts_new(uint32_t max, uint32_t max_per_host)
{
	assert(max > 0 && max <= PML_HOSTS_CONNECTIONS_MAX);
	size_t room = (size_t)max + PML_HOSTS_REMEMBERED;
	struct pml_hosts *hosts = calloc(1, sizeof(*hosts) + room * sizeof(hosts->hosts[0]));
	if (!hosts)
		return NULL;
	pthread_mutex_init(&hosts->lock, NULL);
	hosts->max = max;
	hosts->max_per_host = max_per_host;
	hosts->room = room;
	return hosts;
}

void pml_hosts_free(struct pml_hosts *hosts)
{
	pthread_mutex_destroy(&hosts->lock);
	free(hosts);
}

static struct pml_address key_of(const struct pml_address *address)
{
	struct pml_address key;
	pml_address_host(address, &key);
	return key;
}

static struct host *find_locked(struct pml_hosts *hosts, const struct pml_address *key)
{
	for (size_t i = 0; i < hosts->room; i++) {
		struct host *host = &hosts->hosts[i];
		if (host->used_ms && memcmp(&host->key, key, sizeof(*key)) == 0)
			return host;
	}
	return NULL;
}

/* The host, in the place of the one that was heard of longest ago if it is new. */
static struct host *get_locked(struct pml_hosts *hosts, const struct pml_address *key)
{
	struct host *host = find_locked(hosts, key);
	if (host)
		return host;
	for (size_t i = 0; i < hosts->room; i++) {
		struct host *other = &hosts->hosts[i];
		if (other->connections == 0 && (!host || other->used_ms < host->used_ms))
			host = other;
	}
	assert(host); /* fewer have a connection than there are places */
	*host = (struct host){.key = *key};
	return host;
}

static int enter_locked(struct pml_hosts *hosts, const struct pml_address *key, uint64_t now_ms)
{
	if (hosts->connections == hosts->max)
		return -EUSERS;
	struct host *host = get_locked(hosts, key);
	host->used_ms = PML_MAX(now_ms, (uint64_t)1);
	if (host->connections == hosts->max_per_host)
		return -EDQUOT;
	host->connections++;
	hosts->connections++;
	return 0;
}

int pml_hosts_enter(struct pml_hosts *hosts, const struct pml_address *address, uint64_t now_ms)
{
	const struct pml_address key = key_of(address);
	pthread_mutex_lock(&hosts->lock);
	int err = enter_locked(hosts, &key, now_ms);
	pthread_mutex_unlock(&hosts->lock);
	return err;
}

void pml_hosts_leave(struct pml_hosts *hosts, const struct pml_address *address)
{
	const struct pml_address key = key_of(address);
	pthread_mutex_lock(&hosts->lock);
	struct host *host = find_locked(hosts, &key);
	assert(host && host->connections > 0);
	host->connections--;
	hosts->connections--;
	pthread_mutex_unlock(&hosts->lock);
}

bool pml_hosts_is_crowded(struct pml_hosts *hosts, const struct pml_address *address)
{
	const struct pml_address key = key_of(address);
	pthread_mutex_lock(&hosts->lock);
	const struct host *host = find_locked(hosts, &key);
	bool is_crowded = hosts->connections > hosts->max / 2 ||
			  (host && host->connections > hosts->max_per_host / 2);
	pthread_mutex_unlock(&hosts->lock);
	return is_crowded;
}

void pml_hosts_refuse(struct pml_hosts *hosts, const struct pml_address *address, uint64_t now_ms,
		      struct pml_refusal *ret_refusal)
{
	const struct pml_address key = key_of(address);
	pthread_mutex_lock(&hosts->lock);
	struct host *host = get_locked(hosts, &key);
	if (now_ms - host->refused_ms >= PML_REFUSAL_FORGET_MS)
		host->refusals = 0;
	host->refused_ms = now_ms;
	host->used_ms = PML_MAX(now_ms, (uint64_t)1);
	uint32_t shift = PML_MIN(host->refusals, 16u);
	host->refusals += host->refusals < UINT32_MAX;
	*ret_refusal = (struct pml_refusal){
		.count = host->refusals,
		.delay_ms = PML_MIN(PML_REFUSAL_FIRST_MS << shift, PML_REFUSAL_LAST_MS),
	};
	pthread_mutex_unlock(&hosts->lock);
}

/* Takes from both or from neither: a line that is left out for one costs nothing of the other. */
static bool take_line_locked(struct pml_hosts *hosts, const struct pml_address *key,
			     enum pml_line_kind kind, uint64_t now_ms)
{
	struct host *host = find_locked(hosts, key);
	struct pml_pace *own = host ? &host->lines[kind] : &hosts->unknown_lines[kind];
	struct pml_pace *all = &hosts->lines[kind];
	if (!pml_pace_has(own, &host_lines, now_ms) || !pml_pace_has(all, &all_lines, now_ms))
		return false;
	pml_pace_take(own, &host_lines, now_ms);
	pml_pace_take(all, &all_lines, now_ms);
	return true;
}

bool pml_hosts_may_log(struct pml_hosts *hosts, const struct pml_address *address,
		       enum pml_line_kind kind, uint64_t now_ms, uint64_t *ret_left_out)
{
	assert((unsigned int)kind < PML_LINE_KINDS);
	const struct pml_address key = key_of(address);
	pthread_mutex_lock(&hosts->lock);
	bool may_log = take_line_locked(hosts, &key, kind, now_ms);
	if (may_log) {
		*ret_left_out = hosts->left_out[kind];
		hosts->left_out[kind] = 0;
	} else {
		hosts->left_out[kind]++;
	}
	pthread_mutex_unlock(&hosts->lock);
	return may_log;
}
