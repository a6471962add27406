/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * ops.c -- layout operations of local programs and of holders: begun, parked, run again, cancelled
 */
#include <string.h>

#include "sim.h"

static uint64_t number_of(const struct sim *sim, const struct sim_op *op)
{
	return (uint64_t)(op - sim->ops);
}

static void done(struct sim *sim, uint64_t number, uint64_t unused)
{
	struct sim_op *op = &sim->ops[number];
	pml_table_done(sim->tab, &op->w, sim->now_ms);
	op->is_running = false;
}

static void end_later(struct sim *sim, struct sim_op *op)
{
	sim_after(sim, sim_below(sim, 5), done, number_of(sim, op), 0);
}

static int ask(struct sim *sim, struct sim_op *op, const struct pml_layout_change *change)
{
	if (sim->fault == SIM_NO_GUARD || !pml_table_may_be_leased(sim->tab, change->ino))
		return 0;
	struct pml_waiter *w = op->cannot_wait ? NULL : &op->w;
	int err = pml_table_admit(sim->tab, change, w, sim->now_ms);
	if (err && err != -EINPROGRESS)
		judge_refusal(sim, op, change, err);
	return err;
}

void op_run(struct sim *sim, uint64_t number, uint64_t unused)
{
	struct sim_op *op = &sim->ops[number];
	op->is_due = false;
	int err = 0;
	for (uint32_t i = 0; i < op->nchanges && !err; i++)
		err = ask(sim, op, &op->change[i]);
	if (!err || (err == -EINPROGRESS && sim->fault == SIM_EARLY_RESUME))
		ground_change(sim, op);
	if (err == -EINPROGRESS)
		judge_parked(sim, op);
	else
		end_later(sim, op);
}

/* By the clock thread, without locks: the rerun comes later. */
void op_resume(struct pml_waiter *w)
{
	struct sim_op *op = PML_CONTAINER_OF(w, struct sim_op, w);
	struct sim *sim = op->sim;
	if (sim->fault == SIM_NO_PLACE)
		pml_table_done(sim->tab, w, sim->now_ms);
	op->is_due = true;
	sim_after(sim, sim_below(sim, 6), op_run, number_of(sim, op), 0);
}

/* ---- beginning ------------------------------------------------------------- */

static struct pml_layout_change draw_change(struct sim *sim, enum pml_layout_op op)
{
	uint64_t bytes = SIM_FILE_BLOCKS * PML_BLOCK_BYTES;
	struct pml_layout_change change = {
		.ino = sim_below(sim, SIM_FILES),
		.first_byte = sim_below(sim, bytes),
		.op = op,
		.writers_only = op == PML_OP_CLONE_SRC || op == PML_OP_SNAPSHOT,
	};
	if (sim_maybe(sim, 70)) /* mostly whole blocks */
		change.first_byte = pml_round_down(change.first_byte, PML_BLOCK_BYTES);
	change.end_byte = change.first_byte + 1 + sim_below(sim, 4 * PML_BLOCK_BYTES);
	bool is_endless = op == PML_OP_TRUNCATE || op == PML_OP_COLLAPSE || op == PML_OP_INSERT;
	if (is_endless)
		change.end_byte = UINT64_MAX;
	return change;
}

static void draw_op(struct sim *sim, struct sim_op *op)
{
	enum pml_layout_op kind = (enum pml_layout_op)sim_below(sim, PML_OP_COUNT);
	memset(op, 0, sizeof(*op));
	op->sim = sim;
	op->w.resume = op_resume;
	op->w.uid = (uint32_t)sim_below(sim, 3);
	op->w.pid = (int32_t)number_of(sim, op) + 1;
	op->is_running = true;
	op->cannot_wait = sim_maybe(sim, 8);
	op->nchanges = 1;
	op->change[0] = draw_change(sim, kind);
	if (sim->nconns && sim_maybe(sim, 15))
		op->w.session = sim->conns[sim_below(sim, sim->nconns)].session;
	bool is_clone = kind == PML_OP_CLONE_DST || kind == PML_OP_DEDUPE;
	if (kind == PML_OP_UNSHARE && sim_maybe(sim, 40)) {
		/* A write that makes the file longer: two changes of one file. */
		op->nchanges = 2;
		op->change[1] = op->change[0];
		op->change[0] = draw_change(sim, PML_OP_TRUNCATE);
		op->change[0].ino = op->change[1].ino;
	}
	if (!is_clone)
		return;
	op->nchanges = 2;
	op->change[1] = op->change[0];
	op->change[0].op = PML_OP_CLONE_SRC;
	op->change[0].writers_only = true;
	op->change[0].ino = (op->change[1].ino + 1) % SIM_FILES;
}

static void begin(struct sim *sim, uint64_t unused_a, uint64_t unused_b)
{
	if (sim->is_closing)
		return;
	sim_after(sim, 2 + sim_below(sim, 60), begin, 0, 0);
	struct sim_op *op = &sim->ops[sim_below(sim, SIM_OPS)];
	if (!op->is_running) {
		draw_op(sim, op);
		op_run(sim, number_of(sim, op), 0);
	} else if (sim_maybe(sim, 10) && !op->cannot_wait) {
		/* A signal, at any moment of its life. */
		op->was_cancelled = true;
		pml_table_cancel(sim->tab, &op->w);
	}
}

void ops_init(struct sim *sim)
{
	sim_after(sim, sim_below(sim, 60), begin, 0, 0);
}
