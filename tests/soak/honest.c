/* SPDX-License-Identifier: BSD-3-Clause */
/* honest.c -- see honest.h */
#include "honest.h"

#include <errno.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include "pml/base.h"
#include "pmemleasefs/client.h"

#define WRITE_BYTES (64u << 10)

const char *const honest_names[HONEST_STEPS] = {"lease", "read", "write", "commit", "return"};

struct honest {
	const struct honest_env *env;
	struct pml_client *client; /* NULL: not connected */
	struct pml_client_buffer *buffer;
	struct pml_client_handle file;
	uint64_t round;
};

uint8_t honest_byte(uint64_t i)
{
	return (uint8_t)(1 + (i * 7 + i / 4096 * 13) % 251);
}

static void violation(const struct honest *h, const char *what, long long value)
{
	atomic_fetch_add(&h->env->counts->violations, 1);
	printf("# VIOLATION %s: %lld\n", what, value);
	(void)fflush(stdout);
}

static uint64_t now_ns(void)
{
	struct timespec ts;
	(void)clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

/* Notes what a step that began at @from_ns took, and passes its error on. */
static int took(const struct honest *h, enum honest_step step, uint64_t from_ns, int err)
{
	struct honest_counts *counts = h->env->counts;
	unsigned int phase = atomic_load(h->env->is_attack);
	if (err == 0) {
		atomic_fetch_add(&counts->calls[phase][step], 1);
		atomic_fetch_add(&counts->took_ns[phase][step], now_ns() - from_ns);
	}
	return err;
}

static bool dial(struct honest *h)
{
	struct pml_client_attr attr;
	char reason[256];
	if (pml_client_connect(h->env->url, 30000, &h->client, reason)) {
		printf("# the honest client cannot connect: %s\n", reason);
		h->client = NULL;
		return false;
	}
	if (pml_client_stat(h->client, HONEST_FILE, &attr) ||
	    pml_client_buffer_new(h->client, HONEST_BYTES, &h->buffer)) {
		pml_client_close(h->client);
		h->client = NULL;
		return false;
	}
	h->file = attr.handle;
	return true;
}

static int lease(struct honest *h, uint64_t first_byte, uint64_t bytes, bool for_write,
		 struct pml_client_lease **ret_lease)
{
	uint64_t from_ns = now_ns();
	int err = pml_client_lease(h->client, &h->file, first_byte, bytes, for_write, 5000,
				   ret_lease);
	return took(h, HONEST_LEASE, from_ns, err);
}

static int give_back(struct honest *h, struct pml_client_lease *lease)
{
	uint64_t from_ns = now_ns();
	return took(h, HONEST_RETURN, from_ns, pml_client_return(lease));
}

static int read_all(struct honest *h)
{
	struct pml_client_lease *l;
	const uint8_t *data = pml_client_buffer_data(h->buffer);
	int err = lease(h, 0, HONEST_BYTES, false, &l);
	if (err)
		return err;
	uint64_t bytes = PML_MIN(pml_client_lease_end(l), (uint64_t)HONEST_BYTES);
	uint64_t from_ns = now_ns();
	err = took(h, HONEST_READ, from_ns, pml_client_read(l, h->buffer, 0, 0, bytes));
	int status = give_back(h, l);
	for (uint64_t i = 0; i < bytes && !err; i++) {
		if (data[i] == honest_byte(i))
			continue;
		violation(h, "the honest client reads a wrong byte", data[i]);
		break;
	}
	return err ? err : status;
}

static int write_some(struct honest *h)
{
	struct pml_client_lease *l;
	uint8_t *data = pml_client_buffer_data(h->buffer);
	uint64_t first = h->round % (HONEST_BYTES / WRITE_BYTES) * WRITE_BYTES;
	for (uint64_t i = 0; i < WRITE_BYTES; i++)
		data[i] = honest_byte(first + i);
	int err = lease(h, first, WRITE_BYTES, true, &l);
	if (err)
		return err;
	uint64_t bytes = PML_MIN(pml_client_lease_end(l) - first, (uint64_t)WRITE_BYTES);
	uint64_t from_ns = now_ns();
	err = took(h, HONEST_WRITE, from_ns, pml_client_write(l, h->buffer, 0, first, bytes));
	from_ns = now_ns();
	if (!err)
		err = took(h, HONEST_COMMIT, from_ns, pml_client_commit(l, first, bytes, 0));
	int status = give_back(h, l);
	return err ? err : status;
}

void honest_run(const struct honest_env *env)
{
	struct honest h = {.env = env};
	while (!atomic_load(env->must_stop)) {
		if (!h.client && !dial(&h)) {
			(void)usleep(100000);
			continue;
		}
		int err = h.round++ % 4 ? read_all(&h) : write_some(&h);
		if (err == 0) {
			atomic_fetch_add(&env->counts->done, 1);
			continue;
		}
		/* Nobody else wants its file. */
		printf("# the honest client: %s\n", pml_client_reason(h.client));
		(void)fflush(stdout);
		if (err != -ENOTCONN && err != -ETIMEDOUT && err != -EKEYREVOKED)
			violation(&h, "the honest client's call fails with", err);
		atomic_fetch_add(&env->counts->lost, 1);
		pml_client_close(h.client);
		h.client = NULL;
	}
	if (h.client)
		pml_client_close(h.client);
}
