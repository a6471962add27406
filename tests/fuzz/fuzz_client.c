/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fuzz_client.c -- the client library against a server that does what an input says
 *
 * The first half of an input is the server's (played.h), the second a list of calls of an
 * honest program: it connects, looks things up, takes leases of all kinds, reads, writes,
 * commits, downgrades and returns them, with and without callbacks of its own, and closes.
 *
 * Judged: each call comes back, with 0 or an errno value and then a reason in words; the
 * library sends only what the codec lets pass; it writes into a program's memory only what
 * was asked for; with threads, memory and descriptors of its own it leaves nothing behind.
 *
 * Threads: the program's, the played server's, the library's.
 */
#include <string.h>

#include "fuzz.h"
#include "played.h"
#include "pmemleasefs/client.h"
#include "pml/clock.h"
#include "violation.h"

#define LEASES	     4u
#define REQUEST_MS   40
#define BUFFER_BYTES (64u << 10)
#define UNTOUCHED    0xa5
#define CALL_MS	     20000u /* bounded, on a busy machine, too */

struct held {
	struct pml_client_lease *lease; /* NULL: none */
	uint64_t first_byte;
	bool for_write;
};

struct program {
	struct script script;
	struct played played;
	struct pml_client *client; /* NULL: none */
	bool is_cut_off;	   /* a call said so */
	struct held leases[LEASES];
	struct pml_client_buffer *buffer;
	struct pml_client_handle file;
	bool wants_recalls; /* returns recalled leases itself */
};

static void judge_status(struct program *g, const char *what, int err)
{
	g->is_cut_off |= err == -ENOTCONN;
	if (err > 0 || err < -4095)
		VIOLATION("%s returns %d", what, err);
	const char *reason = err && g->client ? pml_client_reason(g->client) : "";
	if (err && g->client && (!reason || !reason[0]))
		VIOLATION("%s returns %d and no reason", what, err);
}

/* ---- events ---------------------------------------------------------------- */

static bool on_recalled(void *arg, struct pml_client_lease *lease, uint32_t drain_ms)
{
	const struct program *g = arg;
	(void)pml_client_lease_end(lease);
	return !g->wants_recalls;
}

static void on_revoked(void *arg, struct pml_client_lease *lease, const char *reason)
{
	if (!reason || !reason[0])
		VIOLATION("revoked without a reason");
	(void)pml_client_lease_id(lease);
}

/* ---- calls ----------------------------------------------------------------- */

static void call_close(struct program *g)
{
	if (!g->client)
		return;
	/* What is not returned is returned with it. */
	pml_client_close(g->client);
	g->client = NULL;
	memset(g->leases, 0, sizeof(g->leases));
	g->buffer = NULL;
}

static void call_connect(struct program *g)
{
	char reason[256] = "";
	call_close(g);
	g->is_cut_off = false;
	int err = pml_client_connect(g->played.url, REQUEST_MS, &g->client, reason);
	if (err) {
		g->client = NULL;
		if (err > 0 || !reason[0])
			VIOLATION("connect returns %d, \"%s\"", err, reason);
		return;
	}
	if (pml_client_buffer_new(g->client, BUFFER_BYTES, &g->buffer))
		VIOLATION("no buffer");
}

static void call_events(struct program *g)
{
	uint8_t n = script_byte(&g->script);
	/* The worker reads it: not changed while the client is there with callbacks. */
	const struct pml_client_events events = {.recalled = n & 1 ? on_recalled : NULL,
						 .revoked = n & 2 ? on_revoked : NULL,
						 .arg = g,
						 .is_silent = n & 4};
	pml_client_set_events(g->client, &events);
}

static void call_stat(struct program *g)
{
	struct pml_client_attr attr;
	static const char *const paths[] = {"", "/", "f", "d/f", "a/b/c/d", "..", "d//f/"};
	const char *path = paths[script_below(&g->script, PML_ARRAY_LEN(paths))];
	int err = script_below(&g->script, 4)
			  ? pml_client_stat(g->client, path, &attr)
			  : pml_client_create(g->client, path, 0644, false, &attr);
	judge_status(g, "stat", err);
	if (!err)
		g->file = attr.handle;
}

static bool emit(void *arg, const char *name, uint64_t ino, mode_t type)
{
	uint32_t *left = arg;
	if (strlen(name) == 0 || strlen(name) > 255 || ino == 0)
		VIOLATION("an entry without a name or number");
	/* A directory may have no end: the program has. */
	return --*left > 0;
}

static void call_readdir(struct program *g)
{
	uint32_t left = 64;
	judge_status(g, "readdir", pml_client_readdir(g->client, "/", emit, &left));
}

static struct held *pick(struct program *g)
{
	return &g->leases[script_below(&g->script, LEASES)];
}

static void call_lease(struct program *g)
{
	struct held *held = pick(g);
	uint8_t n = script_byte(&g->script);
	uint64_t first_byte = script_below(&g->script, 16) * 4096u;
	uint64_t len_bytes = n == 255 ? INT64_MAX : 1 + (uint64_t)n * 200;
	if (held->lease)
		return;
	int err = pml_client_lease_with(g->client, &g->file, first_byte, len_bytes, n % 8,
					n % 16 ? 0 : 5, &held->lease);
	judge_status(g, "lease", err);
	if (err)
		held->lease = NULL;
	else if (pml_client_lease_end(held->lease) <= first_byte)
		VIOLATION("a lease of nothing");
	held->first_byte = first_byte;
	held->for_write = n & PML_CLIENT_WRITE;
}

/* Nothing but the range that was asked for is touched. */
static void judge_buffer(const uint8_t *data, size_t from, size_t bytes)
{
	for (size_t i = 0; i < BUFFER_BYTES; i++)
		if ((i < from || i >= from + bytes) && data[i] != UNTOUCHED)
			VIOLATION("byte %zu was written; asked for %zu from %zu", i, bytes, from);
}

/* Mostly in the lease and in its direction. */
static void call_transfer(struct program *g)
{
	const struct held *held = pick(g);
	uint8_t n = script_byte(&g->script);
	size_t from = script_byte(&g->script) * 16u;
	uint64_t skip_bytes = script_byte(&g->script);
	uint8_t *data = pml_client_buffer_data(g->buffer);
	if (!held->lease)
		return;
	uint64_t room = pml_client_lease_end(held->lease) - held->first_byte;
	uint64_t bytes = PML_MIN(room, (uint64_t)BUFFER_BYTES / 2) / (1 + n % 4);
	if (n < 240)
		skip_bytes = PML_MIN(skip_bytes, room - bytes);
	bool is_write = n % 16 == 15 ? !held->for_write : held->for_write;
	memset(data, UNTOUCHED, BUFFER_BYTES);
	int err = is_write ? pml_client_write(held->lease, g->buffer, from,
					      held->first_byte + skip_bytes, bytes)
			   : pml_client_read(held->lease, g->buffer, from,
					     held->first_byte + skip_bytes, bytes);
	judge_status(g, "transfer", err);
	judge_buffer(data, from, is_write ? 0 : bytes);
}

static void call_commit(struct program *g)
{
	const struct held *held = pick(g);
	uint64_t skip_bytes = script_byte(&g->script) % 4;
	if (held->lease)
		judge_status(g, "commit",
			     pml_client_commit(held->lease, held->first_byte + skip_bytes,
					       1 + script_byte(&g->script),
					       script_byte(&g->script)));
}

static void call_downgrade(struct program *g)
{
	struct held *held = pick(g);
	if (!held->lease)
		return;
	int err = pml_client_downgrade(&held->lease);
	judge_status(g, "downgrade", err);
	held->for_write &= err != 0;
}

static void call_return(struct program *g)
{
	struct held *held = pick(g);
	if (!held->lease)
		return;
	judge_status(g, "status", pml_client_lease_status(held->lease));
	judge_status(g, "return", pml_client_return(held->lease));
	held->lease = NULL;
}

static void call_one(struct program *g)
{
	static void (*const calls[])(struct program *) = {
		call_stat,     call_readdir,  call_lease,    call_lease,  call_lease,
		call_transfer, call_transfer, call_transfer, call_commit, call_downgrade,
		call_return,   call_return,   call_events,   call_stat,
	};
	uint8_t n = script_byte(&g->script);
	uint64_t from_ms = pml_now_ms();
	if (n >= 252 || (g->is_cut_off && n % 8))
		call_close(g);
	if (!g->client)
		call_connect(g);
	if (g->client)
		calls[n % PML_ARRAY_LEN(calls)](g);
	if (pml_now_ms() - from_ms > CALL_MS)
		VIOLATION("a call takes more than %u ms", CALL_MS);
}

void fuzz_start(void)
{
}

void fuzz_one(const uint8_t *input, size_t bytes)
{
	struct program *g = calloc(1, sizeof(*g));
	if (!g)
		VIOLATION("out of memory");
	const struct script server = {input, bytes / 2};
	g->script = (struct script){input + bytes / 2, bytes - bytes / 2};
	g->file.opaque[0] = 2;
	g->wants_recalls = script_below(&g->script, 4) == 3;
	played_start(&g->played, &server);
	while (g->script.left > 0)
		call_one(g);
	call_close(g);
	played_stop(&g->played);
	free(g);
}
