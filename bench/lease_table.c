/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * lease_table.c -- what a lease table with many leases costs, beside one with 1000
 *
 * usage: bench_lease_table [-r ROUNDS] [-n NUMBER] [-o markdown|ratio]
 *
 * The table alone: no threads, no filesystem, time stands still.  A ratio is the
 * cost of one step among NUMBER leases divided by its cost among 1000.  Memory is
 * the process's.
 */
#include "../lease/table.h"
#include "ratio.h"

#define SMALL	       1000u
#define SESSIONS       64u
#define LEASES_OF_FILE 100u
#define FIRST_INO      2u
#define BATCH	       200u /* steps in one round */
#define NOW_MS	       1000u

/* A table with @n leases, and the ones that a round adds. */
struct side {
	struct pml_table table;
	uint64_t session[SESSIONS];
	unsigned int n;
	uint64_t seed;
	struct pml_lease *added[BATCH];
};

static void must(bool is_good, const char *what)
{
	if (is_good)
		return;
	fprintf(stderr, "bench_lease_table: %s\n", what);
	exit(1);
}

static unsigned int pick(struct side *side)
{
	uint64_t x = side->seed;
	x ^= x << 13;
	x ^= x >> 7;
	x ^= x << 17;
	side->seed = x;
	return (unsigned int)(x % side->n);
}

/* ---- leases ---------------------------------------------------------------- */

/* Every second block of a file is leased: @is_gap names the free one behind it. */
static struct pml_claim claim_of(const struct side *side, unsigned int i, bool is_gap)
{
	uint64_t block = 2ull * (i % LEASES_OF_FILE) + is_gap;
	return (struct pml_claim){
		.session = side->session[i % SESSIONS],
		.ino = FIRST_INO + i / LEASES_OF_FILE,
		.first_byte = block * PML_BLOCK_BYTES,
		.end_byte = (block + 1) * PML_BLOCK_BYTES,
		.mode = PML_LEASE_READ,
	};
}

/* As pml_lease_acquire() does, with one segment. */
static struct pml_lease *grant(struct side *side, unsigned int i, bool is_gap)
{
	struct pml_lease *lease = calloc(1, sizeof(*lease));
	struct pml_lease_segment *segment = calloc(1, sizeof(*segment));
	must(lease && segment, "out of memory");
	lease->claim = claim_of(side, i, is_gap);
	must(pml_table_insert(&side->table, lease, NOW_MS) == 0, "insert");
	segment->at.nblocks = 1;
	segment->key = segment;
	pml_table_pinned(&side->table, lease, segment, 1, lease->claim.end_byte);
	must(pml_table_granted(&side->table, lease, NOW_MS) == 0, "granted");
	return lease;
}

/* As manager.c does.  True: an operation was resumed. */
static bool act(struct pml_table *tab)
{
	bool has_resumed = false;
	struct pml_action action;
	while (pml_table_next_action(tab, &action)) {
		has_resumed |= action.kind == PML_ACTION_RESUME;
		if (action.kind != PML_ACTION_GONE)
			continue;
		free(action.lease->segments);
		free(action.lease);
	}
	return has_resumed;
}

static void fence(struct pml_table *tab)
{
	struct pml_fence_attempt attempt;
	while (pml_table_next_fence(tab, &attempt)) {
		if (attempt.key)
			pml_table_fence_result(tab, attempt.lease, 0, 0, NOW_MS);
		else
			pml_table_gone(tab, attempt.lease, NOW_MS);
	}
}

static bool give_back(struct side *side, const struct pml_lease *lease)
{
	must(pml_table_return(&side->table, lease->claim.session, lease->id, NOW_MS) == 0,
	     "return");
	fence(&side->table);
	return act(&side->table);
}

static struct side *make_side(unsigned int n)
{
	struct side *side = calloc(1, sizeof(*side));
	must(side, "out of memory");
	side->n = n;
	side->seed = 88172645463325252u;
	struct pml_lease_config config;
	pml_lease_config_default(&config, UINT64_MAX);
	config.max_leases = config.max_session_leases = 2 * n + BATCH;
	config.max_sessions = config.max_client_sessions = SESSIONS;
	config.max_segments = config.max_session_segments = UINT32_MAX;
	must(pml_table_init(&side->table, &config) == 0, "table");
	for (unsigned int i = 0; i < SESSIONS; i++) {
		struct pml_lease_session *session = calloc(1, sizeof(*session));
		must(session && pml_table_session_add(&side->table, session, NOW_MS) == 0,
		     "session");
		side->session[i] = session->id;
	}
	for (unsigned int i = 0; i < n; i++)
		(void)grant(side, i, false);
	return side;
}

/* ---- steps ----------------------------------------------------------------- */

static double step_grant(void *arg)
{
	struct side *side = arg;
	double start = ratio_now_s();
	for (unsigned int k = 0; k < BATCH; k++)
		side->added[k] = grant(side, pick(side), true);
	double s = ratio_now_s() - start;
	for (unsigned int k = 0; k < BATCH; k++)
		(void)give_back(side, side->added[k]);
	return s / BATCH;
}

static double step_return(void *arg)
{
	struct side *side = arg;
	for (unsigned int k = 0; k < BATCH; k++)
		side->added[k] = grant(side, pick(side), true);
	double start = ratio_now_s();
	for (unsigned int k = 0; k < BATCH; k++)
		(void)give_back(side, side->added[k]);
	return (ratio_now_s() - start) / BATCH;
}

static double step_find(void *arg)
{
	struct side *side = arg;
	/* Numbers go up from 1, as make_side() granted them. */
	unsigned int found = 0;
	double start = ratio_now_s();
	for (unsigned int k = 0; k < BATCH; k++) {
		unsigned int i = pick(side);
		found += pml_table_find_held(&side->table, side->session[i % SESSIONS], i + 1ull) !=
			 NULL;
	}
	double s = ratio_now_s() - start;
	must(found == BATCH, "a lease is not found");
	return s / BATCH;
}

static double admit_all(struct side *side, bool is_gap, int want)
{
	double start = ratio_now_s();
	for (unsigned int k = 0; k < BATCH; k++) {
		struct pml_claim at = claim_of(side, pick(side), is_gap);
		const struct pml_layout_change change = {.ino = at.ino,
							 .first_byte = at.first_byte,
							 .end_byte = at.end_byte,
							 .op = PML_OP_PUNCH};
		/* Who cannot wait is told at once, and nobody is recalled. */
		must(pml_table_admit(&side->table, &change, NULL, NOW_MS) == want, "admit");
	}
	return (ratio_now_s() - start) / BATCH;
}

static double step_admit_leased(void *arg)
{
	return admit_all(arg, false, -EBUSY);
}

static double step_admit_free(void *arg)
{
	return admit_all(arg, true, 0);
}

/* A whole break: parked, recalled, returned, fenced, resumed. */
static double step_break(void *arg)
{
	struct side *side = arg;
	double s = 0;
	for (unsigned int k = 0; k < BATCH; k++) {
		struct pml_lease *lease = grant(side, pick(side), true);
		const struct pml_claim at = lease->claim;
		const struct pml_layout_change change = {.ino = at.ino,
							 .first_byte = at.first_byte,
							 .end_byte = at.end_byte,
							 .op = PML_OP_PUNCH};
		struct pml_waiter w = {.pid = 0};
		double start = ratio_now_s();
		must(pml_table_admit(&side->table, &change, &w, NOW_MS) == -EINPROGRESS, "park");
		must(!act(&side->table), "resumed too early");
		must(give_back(side, lease), "not resumed");
		must(pml_table_admit(&side->table, &change, &w, NOW_MS) == 0, "admit");
		pml_table_done(&side->table, &w, NOW_MS);
		s += ratio_now_s() - start;
	}
	return s / BATCH;
}

/* ---- the run --------------------------------------------------------------- */

static void compare_sides(struct side *of_large, struct side *of_small, unsigned int nrounds)
{
	static const struct step {
		const char *name;
		ratio_work work;
	} steps[] = {
		{"grant", step_grant},
		{"find by number", step_find},
		{"ask for a leased range", step_admit_leased},
		{"ask for a free range of a leased file", step_admit_free},
		{"return and fence", step_return},
		{"break, from parking to resuming", step_break},
	};
	for (size_t i = 0; i < PML_ARRAY_LEN(steps); i++) {
		char text[96];
		(void)snprintf(text, sizeof(text), "table of %u: %s", of_large->n, steps[i].name);
		ratio_compare_works(text, steps[i].work, of_large, "table of 1000", steps[i].work,
				    of_small, nrounds);
	}
}

int main(int argc, char **argv)
{
	unsigned int large = 1000000, nrounds = 101;
	int c;
	while ((c = getopt(argc, argv, "r:n:o:")) != -1) {
		if (c == 'r')
			nrounds = (unsigned int)strtoul(optarg, NULL, 10);
		else if (c == 'n')
			large = (unsigned int)strtoul(optarg, NULL, 10);
		else if (c == 'o')
			ratio_is_markdown = strcmp(optarg, "markdown") == 0;
		else
			return 2;
	}
	if (large < 2 * SMALL || large > 100000000 || nrounds < 1 || nrounds > RATIO_ROUNDS_MAX ||
	    optind != argc)
		return 2;
	struct side *of_small = make_side(SMALL);
	double bytes = ratio_own_bytes();
	struct side *of_large = make_side(large);
	bytes = ratio_own_bytes() - bytes;

	compare_sides(of_large, of_small, nrounds);
	char text[96];
	(void)snprintf(text, sizeof(text), "table of %u: bytes of memory per lease", large);
	ratio_number(text, bytes / large, "1 byte");
	return 0;
}
