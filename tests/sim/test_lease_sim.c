/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_lease_sim.c -- random schedules of the lease table in simulated time (sim.h)
 *
 * PML_SEED=N runs that schedule alone; PML_SIM_SECONDS=N runs new ones for so long;
 * PML_SIM_BREAK=NAME breaks the driver in one way, and a violation has to be found.
 */
#include <string.h>
#include <time.h>

#include "../tap.h"
#include "pml/clock.h"
#include "sim.h"

#define SCHEDULES	3000u
#define TRIES_PER_FAULT 1500u

static struct sim sim;
static struct pml_table table;
static struct {
	uint64_t schedules, steps, grants, changes, accesses, refused, lost, commits, downgrades;
	uint64_t revoked, died, stuck, escalations, parked, sought, orphans, longest_seek_ms;
} seen;

static void add_up(void)
{
	const struct pml_lease_stats *stats = &table.stats;
	seen.schedules++;
	seen.steps += sim.step;
	seen.grants += sim.grants;
	seen.changes += sim.changes;
	seen.accesses += sim.accesses;
	seen.refused += sim.refused_accesses;
	seen.lost += sim.lost;
	seen.commits += sim.commits;
	seen.downgrades += sim.downgrades;
	seen.revoked += stats->revoked;
	seen.died += stats->sessions_died;
	seen.stuck += stats->fences_stuck;
	seen.escalations += stats->fence_escalations;
	seen.parked += stats->parked;
	seen.sought += stats->sought;
	seen.orphans += stats->orphans_recalled;
	seen.longest_seek_ms = PML_MAX(seen.longest_seek_ms, sim.longest_seek_ms);
}

/* False: a rule was broken, and it is said how to see it again. */
static bool run(uint64_t seed, enum sim_fault fault)
{
	sim.tab = &table;
	bool is_right = sim_run(&sim, seed, fault);
	add_up();
	if (!is_right && fault == SIM_SOUND)
		TAP_FAIL("PML_SEED=%llu: %s", (unsigned long long)seed, sim.failure);
	return is_right;
}

static uint64_t number_from(const char *name, uint64_t otherwise)
{
	const char *env = getenv(name);
	return env ? strtoull(env, NULL, 0) : otherwise;
}

static enum sim_fault fault_asked_for(void)
{
	const char *name = getenv("PML_SIM_BREAK");
	for (int i = 0; name && i < SIM_FAULTS; i++)
		if (strcmp(name, sim_fault_name((enum sim_fault)i)) == 0)
			return (enum sim_fault)i;
	if (name)
		BAIL_OUT("PML_SIM_BREAK: no fault is called %s", name);
	return SIM_SOUND;
}

static void print_seen(uint64_t took_ms)
{
#define SHOW(field) printf("# %-16s %llu\n", #field, (unsigned long long)seen.field)
	SHOW(schedules);
	SHOW(steps);
	SHOW(grants);
	SHOW(changes);
	SHOW(accesses);
	SHOW(refused);
	SHOW(lost);
	SHOW(commits);
	SHOW(downgrades);
	SHOW(revoked);
	SHOW(died);
	SHOW(stuck);
	SHOW(escalations);
	SHOW(parked);
	SHOW(sought);
	SHOW(orphans);
	SHOW(longest_seek_ms);
#undef SHOW
	printf("# %llu schedules a second\n",
	       (unsigned long long)(seen.schedules * 1000 / PML_MAX(took_ms, 1u)));
}

static void test_random_schedules_keep_every_rule(void)
{
	uint64_t seconds = number_from("PML_SIM_SECONDS", 0);
	uint64_t began_ms = pml_now_ms();
	memset(&seen, 0, sizeof(seen));
	if (getenv("PML_SEED")) {
		CHECK(run(number_from("PML_SEED", 0), SIM_SOUND));
		return;
	}
	uint64_t first = seconds ? (uint64_t)time(NULL) * 1000000u : 1;
	for (uint64_t i = 0; i < SCHEDULES || pml_now_ms() < began_ms + seconds * 1000; i++)
		if (!run(first + i, SIM_SOUND))
			return;
	print_seen(pml_now_ms() - began_ms);
	/* Everything that there is has happened often. */
	CHECK(seen.grants > 10000 && seen.changes > 10000 && seen.accesses > 10000);
	CHECK(seen.refused > 1000 && seen.lost > 1000 && seen.commits > 1000);
	CHECK(seen.downgrades > 300 && seen.revoked > 1000 && seen.died > 500);
	CHECK(seen.stuck > 20 && seen.escalations > 500 && seen.parked > 1000);
	CHECK(seen.sought > 300 && seen.orphans > 100);
}

static void test_a_seed_repeats_a_run_exactly(void)
{
	for (uint64_t seed = 1; seed <= 20; seed++) {
		CHECK(run(seed, SIM_SOUND));
		uint64_t hash = sim.hash, steps = sim.step;
		CHECK(run(seed + 100, SIM_SOUND));
		CHECK(hash != sim.hash);
		CHECK(run(seed, SIM_SOUND));
		CHECK(hash == sim.hash && steps == sim.step);
	}
}

static void test_each_broken_driver_is_found_out(void)
{
	enum sim_fault only = fault_asked_for();
	for (int i = SIM_SOUND + 1; i < SIM_FAULTS; i++) {
		enum sim_fault fault = (enum sim_fault)i;
		if (only != SIM_SOUND && fault != only)
			continue;
		uint64_t seed = number_from("PML_SEED", 1), tries = 0;
		while (run(seed, fault) && tries++ < TRIES_PER_FAULT)
			seed++;
		if (sim.failure[0])
			printf("# %s, PML_SEED=%llu: %s\n", sim_fault_name(fault),
			       (unsigned long long)seed, sim.failure);
		else
			TAP_FAIL("%s is not found out", sim_fault_name(fault));
	}
}

int main(void)
{
	if (fault_asked_for() == SIM_SOUND) {
		TAP_RUN(test_random_schedules_keep_every_rule);
		TAP_RUN(test_a_seed_repeats_a_run_exactly);
	}
	TAP_RUN(test_each_broken_driver_is_found_out);
	return tap_done();
}
