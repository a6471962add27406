/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * server.c -- drives the lease table as lease/manager.c and lease/grant.c do, one event at a time
 *
 * Between the steps of a grant, a fence, a commit or an effect other things happen, as between
 * threads.  The fabric is here too: messages that are late, lost or doubled.
 */
#include <string.h>

#include "sim.h"

/* ---- messages -------------------------------------------------------------- */

static uint64_t travel_ms(struct sim *sim)
{
	if (!sim->is_prompt && sim_maybe(sim, 4))
		return sim_below(sim, SIM_LATE_MAX);
	return 1 + sim_below(sim, SIM_TRAVEL_MAX);
}

static bool is_to_client(enum sim_message_type type)
{
	return type >= SIM_REPLY;
}

void sim_send(struct sim *sim, const struct sim_message *message)
{
	sim_fn receive = is_to_client(message->type) ? client_receive : server_receive;
	if (sim_maybe(sim, sim->lose_pct) || sim->nmessages == SIM_MESSAGES) {
		sim->lost++;
		return;
	}
	sim->messages[sim->nmessages] = *message;
	sim_after(sim, travel_ms(sim), receive, sim->nmessages, 0);
	if (sim_maybe(sim, 3))
		sim_after(sim, travel_ms(sim), receive, sim->nmessages, 0);
	sim->nmessages++;
}

static void reply(struct sim *sim, const struct sim_note *note, int status,
		  const struct sim_held *granted)
{
	struct sim_message answer = {.type = SIM_REPLY,
				     .conn = note->conn,
				     .request = note->request,
				     .status = status,
				     .for_type = note->for_type};
	if (granted)
		answer.granted = *granted;
	sim_send(sim, &answer);
}

/* ---- configuration ---------------------------------------------------------- */

static enum pml_policy draw_policy(struct sim *sim, bool may_skip)
{
	uint64_t n = sim_below(sim, may_skip ? 8 : 6);
	if (n < 4)
		return PML_POLICY_REVOKE;
	return n == 4 ? PML_POLICY_EBUSY : n == 5 ? PML_POLICY_BLOCK : PML_POLICY_SKIP;
}

static uint32_t draw(struct sim *sim, uint32_t least, uint32_t most)
{
	return least + (uint32_t)sim_below(sim, most - least + 1);
}

static void draw_limits(struct sim *sim, struct pml_lease_config *config)
{
	bool is_tight = sim_maybe(sim, 30);
	config->max_sessions = is_tight ? draw(sim, 2, 5) : 32;
	config->max_client_sessions = is_tight ? draw(sim, 0, 3) : 0;
	config->max_user_sessions = is_tight ? draw(sim, 0, 4) : 0;
	config->max_leases = is_tight ? draw(sim, 4, 20) : 1000;
	config->max_session_leases = is_tight ? draw(sim, 1, 6) : 100;
	config->max_user_leases = is_tight ? draw(sim, 0, 8) : 0;
	config->max_segments = is_tight ? draw(sim, 8, 60) : 1000;
	config->max_session_segments = is_tight ? draw(sim, 1, 20) : 100;
	config->max_pinned_bytes = (is_tight ? draw(sim, 8, 80) : 1000) * PML_BLOCK_BYTES;
	config->max_session_pinned_bytes = (is_tight ? draw(sim, 4, 40) : 100) * PML_BLOCK_BYTES;
	config->max_waiters = is_tight ? draw(sim, 1, SIM_OPS) : 100;
	config->max_unbreakable_bytes = sim_maybe(sim, 50) ? 12 * PML_BLOCK_BYTES : 0;
}

void server_configure(struct sim *sim, struct pml_lease_config *ret_config)
{
	pml_lease_config_default(ret_config, 1ull << 30);
	for (int op = 0; op < PML_OP_COUNT; op++)
		ret_config->policy[op] =
			draw_policy(sim, pml_policy_may_skip((enum pml_layout_op)op));
	ret_config->lease_policy = draw_policy(sim, false);
	ret_config->ebusy_recalls = sim_maybe(sim, 50);
	ret_config->ack_ms = draw(sim, 15, 60);
	ret_config->drain_ms = draw(sim, 60, SIM_DRAIN_MAX);
	ret_config->block_deadline_ms = draw(sim, 50, 400);
	ret_config->term_ms = draw(sim, 200, 900);
	ret_config->fence_ms = draw(sim, 5, 40);
	ret_config->orphan_grace_ms = sim_maybe(sim, 30) ? 0 : draw(sim, 50, 300);
	draw_limits(sim, ret_config);
}

void server_reconfigure(struct sim *sim, uint64_t unused_a, uint64_t unused_b)
{
	struct pml_lease_config config;
	if (sim->is_closing)
		return;
	server_configure(sim, &config);
	if (pml_table_reconfigure(sim->tab, &config) != 0)
		sim_fail(sim, "a good configuration was refused");
	sim->config_number++;
	sim_after(sim, 200 + sim_below(sim, 1500), server_reconfigure, 0, 0);
}

/* ---- fences ----------------------------------------------------------------- */

static void unpin(struct sim *sim, const struct pml_lease *lease)
{
	struct sim_note *note = &sim->notes[lease->id];
	if (!note->is_pinned)
		return;
	note->is_pinned = false;
	for (uint32_t i = sim->fault == SIM_LOST_PIN; i < lease->nsegments; i++)
		ground_unpin(sim, &lease->segments[i].at);
}

static int fence_key(struct sim *sim, struct sim_key *key, enum pml_fence_step step)
{
	if (key->is_immortal)
		return -EIO;
	uint32_t fails_pct = step == PML_FENCE_KEY ? sim->fence_fail_pct : sim->fence_fail_pct / 2;
	if (sim_maybe(sim, fails_pct))
		return -EIO;
	if (step == PML_FENCE_CONNECTION)
		sim->conns[key->conn].is_broken = true;
	if (sim->fault != SIM_NO_FENCE)
		key->is_alive = false;
	return 0;
}

static void fence_done(struct sim *sim, uint64_t unused_a, uint64_t unused_b)
{
	const struct pml_fence_attempt attempt = sim->attempt;
	sim->is_fencing = false;
	if (attempt.key) {
		int err = fence_key(sim, attempt.key, attempt.step);
		pml_table_fence_result(sim->tab, attempt.lease, err,
				       sim->now_ms - sim->fence_began_ms, sim->now_ms);
		return;
	}
	unpin(sim, attempt.lease);
	sim->notes[attempt.lease->id].is_gone = true;
	pml_table_gone(sim->tab, attempt.lease, sim->now_ms);
}

static void next_fence(struct sim *sim)
{
	if (sim->is_fencing || !pml_table_next_fence(sim->tab, &sim->attempt))
		return;
	sim->is_fencing = true;
	sim->fence_began_ms = sim->now_ms;
	if (sim->fault == SIM_UNPIN_EARLY)
		unpin(sim, sim->attempt.lease);
	uint64_t took_ms =
		sim->attempt.key && sim_maybe(sim, 5) ? sim_below(sim, 60) : sim_below(sim, 4);
	sim_after(sim, took_ms, fence_done, 0, 0);
}

/* ---- effects ---------------------------------------------------------------- */

static uint32_t conn_of(const struct pml_lease_session *session)
{
	return (uint32_t)(uintptr_t)session->arg;
}

static void finish_lease(struct sim *sim, const struct pml_action *action)
{
	struct pml_lease *lease = action->lease;
	const struct sim_conn *conn = &sim->conns[conn_of(lease->session)];
	bool was_asked_back = lease->why != PML_END_RETURNED && lease->why != PML_END_SESSION;
	if (lease->was_granted && was_asked_back && !conn->is_ended && !action->tell_holder)
		sim_fail(sim, "I10: the holder of lease %llu is not told of its end",
			 (unsigned long long)lease->id);
	if (action->tell_holder) {
		struct sim_message revoked = {.type = SIM_REVOKED,
					      .conn = conn_of(lease->session),
					      .lease_id = lease->id};
		sim_send(sim, &revoked);
	}
	free(lease->segments);
	free(lease);
}

static void act(struct sim *sim, const struct pml_action *action)
{
	switch (action->kind) {
	case PML_ACTION_RECALL: {
		struct sim_message recall = {.type = SIM_RECALL,
					     .conn = conn_of(action->session),
					     .lease_id = action->lease->id};
		sim_send(sim, &recall);
		break;
	}
	case PML_ACTION_GONE:
		finish_lease(sim, action);
		break;
	case PML_ACTION_RESUME:
		op_resume(action->waiter);
		break;
	case PML_ACTION_DIED:
	case PML_ACTION_EVICTED:
		sim_after(sim, sim_below(sim, 50), server_end_conn, conn_of(action->session), 0);
		break;
	case PML_ACTION_RELEASED:
		sim->conns[conn_of(action->session)].is_released = true;
		free(action->session);
		break;
	case PML_ACTION_STUCK:
		break;
	}
}

static void act_once(struct sim *sim, uint64_t unused_a, uint64_t unused_b)
{
	struct pml_action action;
	sim->is_acting = false;
	if (pml_table_next_action(sim->tab, &action))
		act(sim, &action);
}

static void tick(struct sim *sim, uint64_t unused_a, uint64_t unused_b)
{
	sim->tick_ms = 0;
	pml_table_tick(sim->tab, sim->now_ms);
}

void server_settle(struct sim *sim)
{
	next_fence(sim);
	if (!sim->is_acting && pml_table_has_action(sim->tab)) {
		sim->is_acting = true;
		sim_after(sim, sim_below(sim, 2), act_once, 0, 0);
	}
	uint64_t due_ms = pml_table_next_due_ms(sim->tab);
	if (sim->fault == SIM_NO_CLOCK || due_ms == PML_NEVER_MS)
		return;
	due_ms = PML_MAX(due_ms, sim->now_ms) + sim_below(sim, 2);
	if (sim->tick_ms && sim->tick_ms <= due_ms)
		return;
	sim->tick_ms = due_ms;
	sim_after(sim, due_ms - sim->now_ms, tick, 0, 0);
}

/* ---- leases ----------------------------------------------------------------- */

static void note_layout(struct sim *sim, const struct pml_lease *lease)
{
	struct sim_note *note = &sim->notes[lease->id];
	note->is_pinned = true;
	note->first_fb = (uint32_t)(lease->claim.first_byte / PML_BLOCK_BYTES);
	note->end_fb = (uint32_t)((lease->claim.end_byte + PML_BLOCK_BYTES - 1) / PML_BLOCK_BYTES);
	memcpy(note->map, sim->map[lease->claim.ino], sizeof(note->map));
}

static void make_key(struct sim *sim, const struct pml_lease *lease,
		     struct pml_lease_segment *segment)
{
	if (sim->nkeys == SIM_KEYS) {
		sim_fail(sim, "too many keys: the simulation's own fault");
		return;
	}
	segment->rkey = sim->nkeys;
	struct sim_key *key = &sim->keys[sim->nkeys++];
	segment->key = key;
	*key = (struct sim_key){
		.lease_id = lease->id,
		.conn = sim->notes[lease->id].conn,
		.file = (uint32_t)lease->claim.ino,
		.first_fb = (uint32_t)(segment->at.first_byte / PML_BLOCK_BYTES),
		.nblocks = (uint32_t)segment->at.nblocks,
		.for_write = lease->claim.mode == PML_LEASE_WRITE,
		.is_alive = true,
		.is_immortal = sim_maybe(sim, sim->immortal_pct),
	};
	for (uint32_t i = 0; i < key->nblocks; i++) {
		key->block[i] = (uint32_t)segment->at.block + i;
		key->identity[i] = sim->identity[key->block[i]];
	}
}

static void abandon(struct sim *sim, struct pml_lease *lease, int err)
{
	struct sim_note *note = &sim->notes[lease->id];
	if (!lease->segments) {
		note->is_pinned = false;
		note->is_gone = true;
	}
	reply(sim, note, err, NULL);
	pml_table_grant_failed(sim->tab, lease, sim->now_ms);
}

static void grant(struct sim *sim, uint64_t lease_id, uint64_t unused)
{
	struct pml_lease *lease = pml_table_find(sim->tab, lease_id);
	const struct sim_note *note = &sim->notes[lease_id];
	int err = pml_table_granted(sim->tab, lease, sim->now_ms);
	if (err) {
		abandon(sim, lease, err);
		return;
	}
	sim->grants++;
	struct sim_held held = {.lease_id = lease_id,
				.nkeys = lease->nsegments,
				.for_write = lease->claim.mode == PML_LEASE_WRITE};
	for (uint32_t i = 0; i < lease->nsegments; i++)
		held.key[i] = lease->segments[i].rkey;
	if (note->stands_for) {
		sim->downgrades++;
		err = pml_table_return(sim->tab, lease->claim.session, note->stands_for,
				       sim->now_ms);
		if (err && err != -ESTALE)
			sim_fail(sim, "a return ends in %d", err);
	}
	reply(sim, note, 0, &held);
}

static void pin(struct sim *sim, uint64_t lease_id, uint64_t unused)
{
	struct pml_lease *lease = pml_table_find(sim->tab, lease_id);
	struct pml_segment at[PML_LEASE_SEGMENTS_MAX];
	uint32_t count = 0;
	uint64_t end_byte = 0;
	int err = ground_pin(sim, lease, at, lease->max_segments, &count, &end_byte);
	if (err) {
		abandon(sim, lease, err);
		return;
	}
	struct pml_lease_segment *segments = count ? calloc(count, sizeof(*segments)) : NULL;
	for (uint32_t i = 0; i < count; i++)
		segments[i].at = at[i];
	pml_table_pinned(sim->tab, lease, segments, count, end_byte);
	note_layout(sim, lease);
	uint32_t fails_at = sim_maybe(sim, 3) ? (uint32_t)sim_below(sim, count + 1) : count + 1;
	for (uint32_t i = 0; i < PML_MIN(count, fails_at); i++)
		make_key(sim, lease, &segments[i]);
	if (fails_at <= count)
		abandon(sim, lease, -ENOSPC);
	else
		sim_after(sim, sim_below(sim, SIM_GRANT_MAX / 3), grant, lease_id, 0);
}

/* A file that has lost its name, for the leases that the table may not know yet. */
static void note_orphans(struct sim *sim, uint32_t file)
{
	if (!sim->is_orphan[file])
		return;
	pml_table_orphaned(sim->tab, file, sim->now_ms);
	const struct pml_lease *lease;
	pml_list_for_each(lease, &sim->tab->leases, all) {
		struct sim_note *note = &sim->notes[lease->id];
		if (lease->claim.ino != file || note->orphan_ms)
			continue;
		note->orphan_ms = sim->now_ms;
		note->grace_ms = sim->tab->config.orphan_grace_ms;
	}
}

static void orphan(struct sim *sim, uint64_t unused_a, uint64_t unused_b)
{
	uint32_t file = (uint32_t)sim_below(sim, SIM_FILES);
	sim->is_orphan[file] = !sim->is_orphan[file];
	note_orphans(sim, file);
	if (!sim->is_closing)
		sim_after(sim, 300 + sim_below(sim, 2000), orphan, 0, 0);
}

static int insert(struct sim *sim, struct pml_lease *lease, uint64_t stands_for)
{
	if (!stands_for)
		return pml_table_insert(sim->tab, lease, sim->now_ms);
	const struct pml_lease *held =
		pml_table_find_held(sim->tab, lease->claim.session, stands_for);
	if (!held)
		return -ESTALE;
	if (held->claim.mode != PML_LEASE_WRITE)
		return -EINVAL;
	lease->claim = held->claim;
	lease->claim.mode = PML_LEASE_READ;
	return pml_table_insert_beside(sim->tab, lease, held, sim->now_ms);
}

static void request_lease(struct sim *sim, const struct sim_message *m, struct sim_note *note)
{
	struct pml_lease_session *session =
		pml_table_session_find(sim->tab, sim->conns[m->conn].session);
	struct pml_lease *lease = calloc(1, sizeof(*lease));
	lease->claim = m->claim;
	lease->claim.session = sim->conns[m->conn].session;
	lease->inode = (struct pml_inode *)sim;
	note->stands_for = m->type == SIM_DOWNGRADE ? m->lease_id : 0;
	int err = insert(sim, lease, note->stands_for);
	if (m->type == SIM_LEASE)
		judge_request(sim, m->conn, &lease->claim, err);
	else if (err != -ESTALE && err != -EINVAL) /* else the table was not asked */
		sim->seekers[m->conn].order = 0;
	if (sim->fault == SIM_NO_SEAT && session)
		pml_table_seek_end(session);
	if (!err && lease->id >= SIM_LEASES)
		sim_fail(sim, "too many leases: the simulation's own fault");
	if (err || sim->failure[0]) {
		reply(sim, note, err, NULL);
		if (err)
			free(lease);
		return;
	}
	sim->notes[lease->id] = *note;
	note_orphans(sim, (uint32_t)lease->claim.ino);
	sim_after(sim, sim_below(sim, SIM_GRANT_MAX / 3), pin, lease->id, 0);
}

/* ---- other requests ---------------------------------------------------------- */

static void hello(struct sim *sim, const struct sim_message *m, const struct sim_note *note)
{
	struct sim_conn *conn = &sim->conns[m->conn];
	if (conn->session) /* doubled */
		return;
	struct pml_lease_session *session = calloc(1, sizeof(*session));
	session->arg = (void *)(uintptr_t)m->conn;
	session->uid = conn->client % 3;
	(void)snprintf(session->peer, sizeof(session->peer), "host%u:%u", conn->client % 2,
		       m->conn);
	int err = pml_table_session_add(sim->tab, session, sim->now_ms);
	if (err)
		free(session);
	else
		conn->session = session->id;
	reply(sim, note, err, NULL);
}

static void commit_end(struct sim *sim, uint64_t lease_id, uint64_t unused)
{
	struct pml_lease *lease = pml_table_find(sim->tab, lease_id);
	if (!lease || !sim->notes[lease_id].is_pinned) {
		sim_fail(sim, "I1: lease %llu was unpinned under a commit",
			 (unsigned long long)lease_id);
		return;
	}
	sim->commits++;
	pml_table_commit_end(sim->tab, lease);
}

static int commit(struct sim *sim, const struct sim_message *m, uint64_t session)
{
	struct pml_lease *lease = pml_table_find_held(sim->tab, session, m->lease_id);
	uint64_t first_byte = lease ? lease->claim.first_byte : 0;
	int err = pml_table_commit_begin(sim->tab, session, m->lease_id, first_byte, 1, &lease);
	if (!err)
		sim_after(sim, sim_below(sim, SIM_COMMIT_MAX), commit_end, m->lease_id, 0);
	return err;
}

void server_receive(struct sim *sim, uint64_t message, uint64_t unused)
{
	const struct sim_message *m = &sim->messages[message];
	const struct sim_conn *conn = &sim->conns[m->conn];
	struct sim_note note = {.conn = m->conn, .request = m->request, .for_type = m->type};
	if (conn->is_broken || conn->is_ended || sim->is_closing)
		return;
	uint64_t session = conn->session;
	pml_table_session_renew(sim->tab, session, sim->now_ms);
	switch (m->type) {
	case SIM_HELLO:
		hello(sim, m, &note);
		break;
	case SIM_LEASE:
	case SIM_DOWNGRADE:
		request_lease(sim, m, &note);
		break;
	case SIM_RETURN:
		reply(sim, &note, pml_table_return(sim->tab, session, m->lease_id, sim->now_ms),
		      NULL);
		break;
	case SIM_COMMIT:
		reply(sim, &note, commit(sim, m, session), NULL);
		break;
	case SIM_ACK: {
		int err = pml_table_ack(sim->tab, session, m->lease_id, sim->now_ms);
		if (err && err != -ESTALE)
			sim_fail(sim, "an acknowledgement ends in %d", err);
		break;
	}
	case SIM_RENEW:
	case SIM_REPLY:
	case SIM_RECALL:
	case SIM_REVOKED:
		reply(sim, &note, 0, NULL);
		break;
	}
}

/* ---- begin and end ------------------------------------------------------------ */

void server_end_conn(struct sim *sim, uint64_t number, uint64_t unused)
{
	struct sim_conn *conn = &sim->conns[number];
	if (conn->is_ended)
		return;
	conn->is_broken = conn->is_ended = true;
	pml_table_session_end(sim->tab, conn->session, PML_END_SESSION, sim->now_ms);
}

void server_init(struct sim *sim)
{
	struct pml_lease_config config;
	server_configure(sim, &config);
	if (pml_table_init(sim->tab, &config) != 0)
		sim_fail(sim, "a good configuration was refused");
	sim_after(sim, 200 + sim_below(sim, 1500), server_reconfigure, 0, 0);
	sim_after(sim, 300 + sim_below(sim, 2000), orphan, 0, 0);
}

void server_close(struct sim *sim)
{
	sim->is_closing = true;
	for (uint32_t i = 0; i < sim->nconns; i++)
		sim->conns[i].is_ended = true;
	pml_table_close(sim->tab, sim->now_ms);
	server_settle(sim);
}

/* Frees all, whatever state a failure has left. */
void server_fini(struct sim *sim)
{
	struct pml_table *tab = sim->tab;
	struct pml_action action;
	while (pml_table_next_action(tab, &action)) {
		if (action.kind == PML_ACTION_GONE) {
			free(action.lease->segments);
			free(action.lease);
		}
		if (action.kind == PML_ACTION_RELEASED)
			free(action.session);
	}
	struct pml_lease *lease, *tmp;
	pml_list_for_each_safe(lease, tmp, &tab->leases, all) {
		free(lease->segments);
		free(lease);
	}
	for (size_t i = 0; i < PML_TABLE_SESSION_BUCKETS; i++) {
		struct pml_lease_session *session, *next;
		pml_list_for_each_safe(session, next, &tab->session_buckets[i], by_id)
			free(session);
	}
	struct pml_party *party, *other;
	pml_list_for_each_safe(party, other, &tab->accounts.parties, link)
		free(party);
	free(tab->lease_buckets);
}
