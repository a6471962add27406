/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * sim.c -- events in order of time, chance from a seed, and one run from begin to end
 */
#include <stdarg.h>
#include <string.h>

#include "sim.h"

static const char *const fault_names[] = {
	[SIM_SOUND] = "sound",
	[SIM_UNPIN_EARLY] = "unpin-early",
	[SIM_NO_FENCE] = "no-fence",
	[SIM_LOST_PIN] = "lost-pin",
	[SIM_ZOMBIE_KEY] = "zombie-key",
	[SIM_NO_GUARD] = "no-guard",
	[SIM_EARLY_RESUME] = "early-resume",
	[SIM_NO_PLACE] = "no-holdback",
	[SIM_NO_SEAT] = "no-seat",
	[SIM_NO_CLOCK] = "no-clock",
	[SIM_NO_OWN] = "no-own",
};
static_assert(PML_ARRAY_LEN(fault_names) == SIM_FAULTS, "all are named");

const char *sim_fault_name(enum sim_fault fault)
{
	return fault_names[fault];
}

/* ---- chance --------------------------------------------------------------- */

uint64_t sim_below(struct sim *sim, uint64_t n)
{
	sim->chance = sim->chance * 6364136223846793005ull + 1442695040888963407ull;
	return (sim->chance >> 33) % n;
}

bool sim_maybe(struct sim *sim, uint32_t pct)
{
	return sim_below(sim, 100) < pct;
}

/* ---- failure --------------------------------------------------------------- */

void sim_fail(struct sim *sim, const char *format, ...)
{
	if (sim->failure[0])
		return;
	int n = snprintf(sim->failure, sizeof(sim->failure),
			 "step %llu, %llu ms: ", (unsigned long long)sim->step,
			 (unsigned long long)sim->now_ms);
	va_list args;
	va_start(args, format);
	(void)vsnprintf(sim->failure + n, sizeof(sim->failure) - (size_t)n, format, args);
	va_end(args);
}

/* ---- events ---------------------------------------------------------------- */

static bool is_before(const struct sim_event *a, const struct sim_event *b)
{
	return a->at_ms != b->at_ms ? a->at_ms < b->at_ms : a->number < b->number;
}

static void swap(struct sim_event *a, struct sim_event *b)
{
	struct sim_event tmp = *a;
	*a = *b;
	*b = tmp;
}

void sim_after(struct sim *sim, uint64_t ms, sim_fn run, uint64_t a, uint64_t b)
{
	if (sim->nevents == SIM_EVENTS) {
		sim_fail(sim, "too many events: the simulation's own fault");
		return;
	}
	uint32_t i = sim->nevents++;
	sim->events[i] = (struct sim_event){sim->now_ms + ms, ++sim->event_number, run, a, b};
	while (i > 0 && is_before(&sim->events[i], &sim->events[(i - 1) / 2])) {
		swap(&sim->events[i], &sim->events[(i - 1) / 2]);
		i = (i - 1) / 2;
	}
}

static struct sim_event next_event(struct sim *sim)
{
	struct sim_event *heap = sim->events;
	struct sim_event first = heap[0];
	uint32_t n = --sim->nevents, i = 0;
	heap[0] = heap[n];
	for (;;) {
		uint32_t child = 2 * i + 1;
		if (child >= n)
			return first;
		if (child + 1 < n && is_before(&heap[child + 1], &heap[child]))
			child++;
		if (is_before(&heap[i], &heap[child]))
			return first;
		swap(&heap[i], &heap[child]);
		i = child;
	}
}

/* ---- a run ----------------------------------------------------------------- */

static bool is_fence_under_way(const struct sim *sim)
{
	return sim->is_fencing || !pml_list_is_empty(&sim->tab->fence_retries) ||
	       !pml_list_is_empty(&sim->tab->fences);
}

static void run_until(struct sim *sim, uint64_t until_ms)
{
	while (!sim->failure[0] && sim->nevents > 0 && sim->events[0].at_ms <= until_ms) {
		struct sim_event event = next_event(sim);
		uint64_t passed_ms = event.at_ms - sim->now_ms;
		if (is_fence_under_way(sim))
			sim->fencing_ms += passed_ms;
		sim->now_ms = event.at_ms;
		sim->step++;
		event.run(sim, event.a, event.b);
		server_settle(sim);
		judge_step(sim, passed_ms);
		sim->hash = (sim->hash ^ sim->now_ms ^ sim->chance) * 1099511628211ull;
	}
}

static void pick_fault_rates(struct sim *sim)
{
	static const uint32_t fails[] = {0, 0, 10, 40}, losses[] = {0, 1, 3, 10};
	sim->fence_fail_pct = fails[sim_below(sim, PML_ARRAY_LEN(fails))];
	sim->lose_pct = losses[sim_below(sim, PML_ARRAY_LEN(losses))];
	sim->is_prompt = sim_maybe(sim, 40);
	if (sim->is_prompt)
		sim->lose_pct = 0;
	sim->immortal_pct = sim_maybe(sim, 10) ? 3 : 0;
}

/* Mostly short: many beginnings and ends; some as long as a request may have to wait. */
static uint64_t draw_length(struct sim *sim)
{
	if (sim_maybe(sim, 2))
		return 8000;
	return sim_maybe(sim, 30) ? 600 + sim_below(sim, 1500) : 200 + sim_below(sim, 500);
}

bool sim_run(struct sim *sim, uint64_t seed, enum sim_fault fault)
{
	struct pml_table *tab = sim->tab;
	memset(sim, 0, offsetof(struct sim, notes));
	sim->tab = tab;
	sim->seed = seed;
	sim->chance = seed * 0x9e3779b97f4a7c15ull + 1;
	sim->fault = fault;
	sim->now_ms = 1000;
	pick_fault_rates(sim);
	ground_init(sim);
	server_init(sim);
	client_init(sim);
	ops_init(sim);
	sim->end_ms = sim->now_ms + draw_length(sim);
	run_until(sim, sim->end_ms);
	if (!sim->failure[0])
		client_probe_all(sim);
	if (!sim->failure[0]) {
		server_close(sim);
		run_until(sim, PML_NEVER_MS - 1);
	}
	if (!sim->failure[0])
		judge_end(sim);
	server_fini(sim);
	return !sim->failure[0];
}
