/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * client.c -- holders of different temper: what they ask for, how they answer recalls, and what
 *             they do with keys that they no longer have a right to
 */
#include <string.h>

#include "sim.h"

#define TIMEOUT_MS (2 * SIM_LATE_MAX + 100u)

static struct sim_conn *conn_of(struct sim *sim, const struct sim_client *c)
{
	return c->conn < SIM_CONNS ? &sim->conns[c->conn] : NULL;
}

static struct sim_held *find_held(struct sim_client *c, uint64_t lease_id)
{
	for (uint32_t i = 0; i < SIM_HELD; i++)
		if (c->held[i].lease_id == lease_id)
			return &c->held[i];
	return NULL;
}

static void forget_all(struct sim_client *c)
{
	c->conn = SIM_CONNS;
	c->pending = 0;
	c->wish.ino = SIM_FILES;
	memset(c->held, 0, sizeof(c->held));
}

/* ---- the connection ---------------------------------------------------------- */

/* Breaks it; the server notices soon, or only when the term runs out. */
static void break_conn(struct sim *sim, uint32_t number)
{
	sim->conns[number].is_broken = true;
	if (sim_maybe(sim, 80))
		sim_after(sim, sim_below(sim, 50), server_end_conn, number, 0);
}

static void on_timeout(struct sim *sim, uint64_t client, uint64_t request)
{
	struct sim_client *c = &sim->clients[client];
	if (c->pending != request || c->conn == SIM_CONNS || sim->is_closing)
		return;
	break_conn(sim, c->conn);
	forget_all(c);
}

/* Sends a request and waits for its reply; but for ACK. */
static void request(struct sim *sim, struct sim_client *c, struct sim_message *m)
{
	m->conn = c->conn;
	if (m->type != SIM_ACK) {
		m->request = c->pending = ++sim->last_request;
		sim_after(sim, TIMEOUT_MS, on_timeout, (uint64_t)(c - sim->clients), c->pending);
	}
	sim_send(sim, m);
}

static void connect(struct sim *sim, struct sim_client *c)
{
	if (sim->nconns == SIM_CONNS || !sim_maybe(sim, 40))
		return;
	forget_all(c);
	c->conn = sim->nconns++;
	sim->conns[c->conn] = (struct sim_conn){.client = (uint32_t)(c - sim->clients)};
	struct sim_message hello = {.type = SIM_HELLO};
	request(sim, c, &hello);
}

/* ---- access through keys ------------------------------------------------------ */

static void access_arrives(struct sim *sim, uint64_t number, uint64_t conn)
{
	const struct sim_key *key = &sim->keys[number];
	if (sim->conns[conn].is_broken)
		return;
	bool is_served = key->conn == conn && (key->is_alive || sim->fault == SIM_ZOMBIE_KEY);
	judge_access(sim, key, is_served);
	if (is_served)
		return;
	break_conn(sim, (uint32_t)conn);
}

static void use_key(struct sim *sim, struct sim_client *c)
{
	const struct sim_held *h = &c->held[sim_below(sim, SIM_HELD)];
	bool is_allowed = !h->is_over || c->temper == SIM_LIAR;
	if (!h->lease_id || h->nkeys == 0 || !is_allowed)
		return;
	uint32_t key = h->key[sim_below(sim, h->nkeys)];
	sim_after(sim, 1 + sim_below(sim, 12), access_arrives, key, c->conn);
}

void client_probe_all(struct sim *sim)
{
	for (uint32_t i = 0; i < SIM_CLIENTS; i++) {
		struct sim_client *c = &sim->clients[i];
		for (uint32_t k = 0; k < SIM_HELD && c->conn < SIM_CONNS; k++)
			for (uint32_t n = 0; n < c->held[k].nkeys; n++)
				access_arrives(sim, c->held[k].key[n], c->conn);
	}
}

/* ---- requests ------------------------------------------------------------------ */

static void draw_wish(struct sim *sim, struct sim_client *c)
{
	struct pml_claim *w = &c->wish;
	uint64_t bytes = SIM_FILE_BLOCKS * PML_BLOCK_BYTES;
	w->ino = sim_below(sim, SIM_FILES);
	w->mode = sim_maybe(sim, 45) ? PML_LEASE_WRITE : PML_LEASE_READ;
	w->is_shared = sim_maybe(sim, 35);
	w->is_unbreakable = sim_maybe(sim, 8);
	w->first_byte = sim_below(sim, bytes);
	w->end_byte = PML_MIN(w->first_byte + 1 + sim_below(sim, 4 * PML_BLOCK_BYTES), bytes);
	/* As pml_lease_request(). */
	if (w->mode == PML_LEASE_WRITE)
		pml_rules_round_out(&w->first_byte, &w->end_byte);
	c->tries = 1 + (uint32_t)sim_below(sim, 80);
}

static void ask_for_lease(struct sim *sim, struct sim_client *c)
{
	if (c->wish.ino == SIM_FILES)
		draw_wish(sim, c);
	struct sim_message m = {.type = SIM_LEASE, .claim = c->wish};
	request(sim, c, &m);
}

static void ask_about(struct sim *sim, struct sim_client *c, enum sim_message_type type)
{
	uint64_t from = sim_below(sim, SIM_HELD);
	struct sim_held *h = &c->held[from];
	for (uint64_t i = 0; i < SIM_HELD && (!h->lease_id || h->is_over); i++)
		h = &c->held[(from + i) % SIM_HELD];
	if (!h->lease_id)
		return;
	struct sim_message m = {.type = type, .lease_id = h->lease_id};
	if (type == SIM_RETURN)
		h->is_over = true;
	request(sim, c, &m);
}

static void act(struct sim *sim, struct sim_client *c)
{
	if (sim_maybe(sim, 60))
		use_key(sim, c);
	if (c->pending)
		return;
	if (c->wish.ino != SIM_FILES) {
		ask_for_lease(sim, c);
		return;
	}
	uint64_t n = sim_below(sim, 100);
	if (n < 45) {
		ask_for_lease(sim, c);
	} else if (n < 60) {
		ask_about(sim, c, SIM_COMMIT);
	} else if (n < 68) {
		ask_about(sim, c, SIM_DOWNGRADE);
	} else if (n < 80) {
		ask_about(sim, c, SIM_RETURN);
	} else {
		struct sim_message renew = {.type = SIM_RENEW};
		request(sim, c, &renew);
	}
}

/* Dead of itself: nothing is sent any more, and nobody is told. */
static bool is_silent(struct sim *sim, struct sim_client *c)
{
	if (c->temper != SIM_DYING && c->temper != SIM_RETURNING)
		return false;
	if (sim->now_ms < c->dies_ms)
		return false;
	if (c->temper == SIM_DYING || sim->now_ms < c->dies_ms + 300)
		return true;
	/* It is back and knows nothing; its old session is left to the clocks. */
	c->dies_ms = sim->now_ms + 300 + sim_below(sim, 2000);
	if (c->conn < SIM_CONNS)
		sim->conns[c->conn].is_broken = true;
	forget_all(c);
	return false;
}

static void wake(struct sim *sim, uint64_t client, uint64_t unused)
{
	struct sim_client *c = &sim->clients[client];
	if (sim->is_closing)
		return;
	sim_after(sim, 3 + sim_below(sim, SIM_WAKE_MAX - 3), wake, client, 0);
	if (is_silent(sim, c))
		return;
	const struct sim_conn *conn = conn_of(sim, c);
	if (!conn || conn->is_broken)
		connect(sim, c);
	else
		act(sim, c);
}

void client_init(struct sim *sim)
{
	for (uint64_t i = 0; i < SIM_CLIENTS; i++) {
		struct sim_client *c = &sim->clients[i];
		c->temper = (enum sim_temper)sim_below(sim, SIM_TEMPERS);
		c->dies_ms = sim->now_ms + 200 + sim_below(sim, 2000);
		forget_all(c);
		sim_after(sim, sim_below(sim, 40), wake, i, 0);
	}
}

/* ---- what comes from the server -------------------------------------------------- */

static void return_later(struct sim *sim, uint64_t client, uint64_t lease_id)
{
	struct sim_client *c = &sim->clients[client];
	struct sim_held *h = find_held(c, lease_id);
	const struct sim_conn *conn = conn_of(sim, c);
	if (!h || !conn || conn->is_broken || sim->is_closing)
		return;
	h->is_over = true;
	/* Beside any request: a program may have several under way. */
	struct sim_message m = {.type = SIM_RETURN, .conn = c->conn, .lease_id = lease_id};
	sim_send(sim, &m);
}

static void on_recall(struct sim *sim, struct sim_client *c, const struct sim_message *m)
{
	struct sim_message ack = {.type = SIM_ACK, .lease_id = m->lease_id};
	uint64_t number = (uint64_t)(c - sim->clients);
	if (c->temper == SIM_DEAF || !find_held(c, m->lease_id))
		return;
	request(sim, c, &ack);
	uint64_t limit_ms = c->temper == SIM_SLOW ? 3ull * SIM_DRAIN_MAX : 40;
	sim_after(sim, sim_below(sim, limit_ms), return_later, number, m->lease_id);
}

static void keep_lease(struct sim *sim, struct sim_client *c, const struct sim_held *granted)
{
	struct sim_held *free_slot = find_held(c, 0);
	for (uint32_t i = 0; !free_slot && i < SIM_HELD; i++)
		if (c->held[i].is_over)
			free_slot = &c->held[i];
	if (free_slot) {
		*free_slot = *granted;
		return;
	}
	struct sim_message m = {.type = SIM_RETURN, .conn = c->conn, .lease_id = granted->lease_id};
	sim_send(sim, &m);
}

static void on_reply(struct sim *sim, struct sim_client *c, const struct sim_message *m)
{
	if (m->request != c->pending)
		return; /* doubled, or of a request that nobody waits for */
	c->pending = 0;
	if (m->for_type == SIM_HELLO && m->status) {
		forget_all(c);
		return;
	}
	if (m->for_type != SIM_LEASE && m->for_type != SIM_DOWNGRADE)
		return;
	if (m->status == 0)
		keep_lease(sim, c, &m->granted);
	if (m->status == -ESTALE && m->for_type == SIM_LEASE) {
		break_conn(sim, c->conn); /* the session is dead */
		return;
	}
	bool goes_on = m->status == -EAGAIN && c->tries-- > 1;
	if (m->for_type == SIM_LEASE && !goes_on)
		c->wish.ino = SIM_FILES;
}

void client_receive(struct sim *sim, uint64_t message, uint64_t unused)
{
	const struct sim_message *m = &sim->messages[message];
	struct sim_client *c = &sim->clients[sim->conns[m->conn].client];
	if (c->conn != m->conn || sim->conns[m->conn].is_broken || is_silent(sim, c))
		return;
	struct sim_held *h = find_held(c, m->lease_id);
	if (m->type == SIM_REPLY)
		on_reply(sim, c, m);
	else if (m->type == SIM_RECALL)
		on_recall(sim, c, m);
	else if (h && h->lease_id)
		h->is_over = true;
}
