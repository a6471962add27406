/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * sim.h -- the lease table in a simulated world: clients, fabric, filesystem, clock
 *
 * One thread.  Everything that happens is an event at a time in milliseconds, and every choice is
 * drawn from one seed: the same seed is the same run.  The lease table is the real one (lease/ but
 * for its threads); the world around it does what lease/manager.c, lease/grant.c and fs/ do, late,
 * twice, in vain or not at all.  After each event the judge looks at all of it.
 *
 * Files: sim.c (events, chance, runs), ground.c (blocks and files), server.c (what drives the
 *        table), client.c (holders of different temper), ops.c (layout operations), judge.c.
 */
#ifndef SIM_H
#define SIM_H

#include <stdio.h>

#include "../../lease/table.h"

#define SIM_BLOCKS	112u
#define SIM_FILES	3u
#define SIM_FILE_BLOCKS 8u
#define SIM_CLIENTS	5u
#define SIM_OPS		6u
#define SIM_CONNS	64u
#define SIM_LEASES	768u /* numbers that a run may use */
#define SIM_KEYS	2048u
#define SIM_MESSAGES	4096u
#define SIM_EVENTS	512u
#define SIM_HELD	6u /* leases that one client keeps in mind */

#define SIM_HOLE UINT32_MAX

/* Bounds of what is drawn, in ms: the judge's bounds are made of them. */
#define SIM_DRAIN_MAX  250u
#define SIM_GRANT_MAX  30u
#define SIM_COMMIT_MAX 120u
#define SIM_TRAVEL_MAX 9u
#define SIM_LATE_MAX   300u
#define SIM_WAKE_MAX   40u
#define SIM_SLACK      150u

/* Faults of the driver, for the test of the judge. */
enum sim_fault {
	SIM_SOUND,
	SIM_UNPIN_EARLY,  /* pins are dropped when the fence begins */
	SIM_NO_FENCE,	  /* a fence is called confirmed and the key lives on */
	SIM_LOST_PIN,	  /* a segment is forgotten at the unpin */
	SIM_ZOMBIE_KEY,	  /* the fabric serves dead keys */
	SIM_NO_GUARD,	  /* operations do not ask */
	SIM_EARLY_RESUME, /* a parked operation goes on at once */
	SIM_NO_PLACE,	  /* a resumed operation loses its place in the break queue */
	SIM_NO_SEAT,	  /* a request that was told EAGAIN is forgotten */
	SIM_NO_CLOCK,	  /* no clock ever runs out */
	SIM_NO_OWN,	  /* a writer gets blocks that others share */
	SIM_FAULTS,
};

enum sim_temper {
	SIM_GOOD,      /* acknowledges and returns soon */
	SIM_SLOW,      /* acknowledges, returns when it likes */
	SIM_DEAF,      /* never answers a recall */
	SIM_LIAR,      /* returns at once and goes on using the key */
	SIM_DYING,     /* good, and silent from some moment on */
	SIM_RETURNING, /* dies, comes back on a new connection */
	SIM_TEMPERS,
};

enum sim_message_type {
	SIM_HELLO,
	SIM_LEASE,
	SIM_RETURN,
	SIM_COMMIT,
	SIM_ACK,
	SIM_RENEW,
	SIM_DOWNGRADE,
	SIM_REPLY,
	SIM_RECALL,
	SIM_REVOKED,
};

struct sim_key {
	uint64_t lease_id;
	uint32_t conn;
	uint32_t file, first_fb, nblocks;
	uint32_t block[SIM_FILE_BLOCKS];
	uint64_t identity[SIM_FILE_BLOCKS]; /* of the blocks when the key was made */
	bool for_write;
	bool is_alive;
	bool is_immortal; /* no fence works on it */
};

/* What the world knows of a lease besides the table, by number. */
struct sim_note {
	uint32_t conn, request;
	enum sim_message_type for_type;
	uint64_t stands_for; /* the write lease that it is a downgrade of, or 0 */
	bool is_pinned;
	bool is_gone;
	uint32_t first_fb, end_fb;
	uint32_t map[SIM_FILE_BLOCKS]; /* the layout that it was granted with */
	uint64_t orphan_ms;	       /* when its file lost its name, or 0 */
	uint32_t grace_ms;
};

/* One connection, from both sides. */
struct sim_conn {
	uint32_t client;
	uint64_t session; /* 0: none (yet) */
	bool is_broken;	  /* the fabric: nothing passes any more */
	bool is_ended;	  /* the server has ended its session */
	bool is_released;
};

/* A lease as its client sees it. */
struct sim_held {
	uint64_t lease_id; /* 0: none */
	uint32_t key[PML_LEASE_SEGMENTS_MAX];
	uint32_t nkeys;
	bool for_write;
	bool is_over; /* returned, or heard of its end */
};

struct sim_message {
	enum sim_message_type type;
	uint32_t conn;
	uint32_t request;
	int status;
	uint64_t lease_id;
	struct pml_claim claim;		/* LEASE */
	struct sim_held granted;	/* REPLY to LEASE, DOWNGRADE */
	enum sim_message_type for_type; /* REPLY */
};

struct sim_client {
	enum sim_temper temper;
	uint32_t conn; /* SIM_CONNS: none */
	uint64_t dies_ms;
	struct sim_held held[SIM_HELD];
	uint32_t pending;      /* number of the request under way, or 0 */
	struct pml_claim wish; /* asked again while .ino is set */
	uint32_t tries;
	uint64_t silent_ms; /* since when it has been dead, or 0 */
};

/* What the judge knows of requests that were told EAGAIN, by connection. */
struct sim_seeker {
	struct pml_claim claim;
	uint64_t order; /* 0: none */
	uint64_t seen_ms;
	uint64_t waited_ms; /* without what fences and breaks explain */
};

struct sim;

struct sim_op {
	struct sim *sim;
	struct pml_waiter w;
	struct pml_layout_change change[2];
	uint32_t nchanges;
	bool is_running; /* begun, not done */
	bool cannot_wait;
	bool is_due; /* its rerun is on its way */
	bool was_cancelled;
	uint32_t parks;		/* since the last change of the configuration */
	uint64_t config_number; /* when it parked last */
	uint64_t parked_ms, fencing_at_park_ms;
	enum pml_policy policy;
};

typedef void (*sim_fn)(struct sim *sim, uint64_t a, uint64_t b);

struct sim_event {
	uint64_t at_ms;
	uint64_t number; /* what was scheduled first comes first */
	sim_fn run;
	uint64_t a, b;
};

struct sim {
	uint64_t seed, chance;
	enum sim_fault fault;
	uint64_t now_ms, end_ms, step, hash;
	struct sim_event events[SIM_EVENTS]; /* a heap */
	uint32_t nevents;
	uint64_t event_number;
	bool is_closing;
	char failure[256]; /* "": none */

	/* The filesystem (ground.c). */
	uint32_t map[SIM_FILES + 1][SIM_FILE_BLOCKS]; /* the last is the snapshot */
	uint32_t shares[SIM_BLOCKS], pins[SIM_BLOCKS];
	uint64_t identity[SIM_BLOCKS]; /* a new one each time that a block is handed out */
	uint64_t last_identity;
	bool is_orphan[SIM_FILES];

	/* The fabric and the table's driver (server.c). */
	struct pml_table *tab;
	uint32_t nkeys, first_alive; /* keys below first_alive are dead */
	struct sim_conn conns[SIM_CONNS];
	uint32_t nconns;
	uint32_t nmessages;
	struct pml_fence_attempt attempt; /* while is_fencing */
	uint64_t fence_began_ms;
	bool is_fencing, is_acting;
	uint64_t tick_ms;    /* the next one that is scheduled */
	uint64_t fencing_ms; /* how long fences were under way, in all */
	uint32_t fence_fail_pct, lose_pct, immortal_pct;
	bool is_prompt; /* no message is late or lost */
	uint64_t config_number;

	struct sim_client clients[SIM_CLIENTS];
	uint32_t last_request;
	struct sim_op ops[SIM_OPS];
	struct sim_seeker seekers[SIM_CONNS];
	uint64_t seek_order;

	/* What has happened, to see that enough did. */
	uint64_t grants, changes, accesses, refused_accesses, lost, commits, downgrades;
	uint64_t longest_seek_ms;

	/* Written before they are read; all above is zero when a run begins. */
	struct sim_note notes[SIM_LEASES];
	struct sim_key keys[SIM_KEYS];
	struct sim_message messages[SIM_MESSAGES];
};

/* ---- sim.c ---- */

/* One run of @seed; false: a rule was broken, sim->failure says which. */
bool sim_run(struct sim *sim, uint64_t seed, enum sim_fault fault);
const char *sim_fault_name(enum sim_fault fault);
void sim_fail(struct sim *sim, const char *format, ...) __attribute__((format(printf, 2, 3)));
void sim_after(struct sim *sim, uint64_t ms, sim_fn run, uint64_t a, uint64_t b);
uint64_t sim_below(struct sim *sim, uint64_t n);
/* With a chance of @pct in a hundred. */
bool sim_maybe(struct sim *sim, uint32_t pct);

/* ---- ground.c ---- */

void ground_init(struct sim *sim);
/* -ENOSPC. */
int ground_pin(struct sim *sim, const struct pml_lease *lease, struct pml_segment *at, uint32_t max,
	       uint32_t *ret_count, uint64_t *ret_end);
void ground_unpin(struct sim *sim, const struct pml_segment *at);
void ground_change(struct sim *sim, const struct sim_op *op);

/* ---- server.c ---- */

void server_init(struct sim *sim);
void server_fini(struct sim *sim);
/* Schedules what the table has queued. */
void server_settle(struct sim *sim);
void server_receive(struct sim *sim, uint64_t message, uint64_t unused);
void server_end_conn(struct sim *sim, uint64_t conn, uint64_t unused);
void server_close(struct sim *sim);
/* Draws a configuration. */
void server_configure(struct sim *sim, struct pml_lease_config *ret_config);
void server_reconfigure(struct sim *sim, uint64_t unused_a, uint64_t unused_b);
/* Delivers a copy of @message late, twice or never. */
void sim_send(struct sim *sim, const struct sim_message *message);

/* ---- client.c ---- */

void client_init(struct sim *sim);
void client_receive(struct sim *sim, uint64_t message, uint64_t unused);
/* A last use of each key that a client has: it is served rightly or not at all (I10). */
void client_probe_all(struct sim *sim);

/* ---- ops.c ---- */

void ops_init(struct sim *sim);
void op_resume(struct pml_waiter *w);
void op_run(struct sim *sim, uint64_t op, uint64_t unused);

/* ---- judge.c ---- */

void judge_step(struct sim *sim, uint64_t passed_ms);
/* @message, a request for a lease of @conn, was answered with @err. */
void judge_request(struct sim *sim, uint32_t conn, const struct pml_claim *claim, int err);
void judge_access(struct sim *sim, const struct sim_key *key, bool is_served);
void judge_parked(struct sim *sim, struct sim_op *op);
void judge_refusal(struct sim *sim, const struct sim_op *op, const struct pml_layout_change *change,
		   int err);
void judge_end(struct sim *sim);

#endif
