/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * state.pml -- what the model knows: leases, sessions, waiting operations, blocks, keys
 *
 * Each session has one lease at most, so a lease, its session and its client share
 * a number.  A file is FB places of one block each; a range is places [first, end).
 * Numbers of scratch (hidden) are set and used inside one d_step only.
 */

/* ---- size of a run: lease.pml says what else can be chosen ---- */

#ifndef NC
#define NC 2 /* clients */
#endif
#ifndef NW
#define NW 1 /* local programs */
#endif
#ifndef NF
#define NF 1 /* files that are leased or changed */
#endif
#ifndef LENT_FILES
#define LENT_FILES NF /* the first ones are leased */
#endif
#ifndef FB
#define FB 1 /* blocks of a file */
#endif
#ifndef NB
#define NB 2 /* blocks of the device */
#endif

/* ---- names ---- */

#define NONE 255

/* Answers. */
#define OK	    0
#define EAGAIN	    1
#define EBUSY	    2
#define EIO	    3
#define EINTR	    4
#define ESTALE	    5
#define EINPROGRESS 6

/* States of a lease. */
#define GONE	  0
#define GRANTING  1
#define GRANTED	  2
#define RECALLING 3
#define FENCING	  4
#define STUCK	  5

/* Why it ends. */
#define RETURNED 0
#define CONFLICT 1
#define SILENT	 2
#define EXPIRED	 3
#define SESSION	 4
#define UNMOUNT	 5

#define P_REVOKE 0
#define P_EBUSY	 1
#define P_BLOCK	 2

/* Where a lease is with who fences. */
#define NOWHERE 0
#define QUEUED	1 /* pml_table.fences */
#define LATER	2 /* pml_table.fence_retries */
#define TAKEN	3

#define STEP_KEY	0
#define STEP_CONNECTION 1

/* A key in the network card. */
#define DEAD  0
#define LIVE  1
#define DYING 2 /* no new access; one under way may still touch memory */

/* ---- clocks: 0 does not run, 1 has run out, n: n - 1 ticks are left ---- */

#ifdef TIMED
#define STARTED(ticks) ((ticks) + 1)
#else
#define STARTED(ticks) 1 /* may run out at any moment */
#endif
#define ACK_TICKS   1
#define DRAIN_TICKS 2
#define FENCE_TICKS 1
#define RETRY_TICKS 1
#ifndef RETRIES
#define RETRIES 1
#endif
#ifndef DEADLINE_TICKS
#define DEADLINE_TICKS 0 /* none */
#endif

/* ---- the table ---- */

typedef lease {
	byte state;
	bool is_write;
	byte file;
	byte first;
	byte end;
	byte why;
	bool is_recall_pending;
	bool is_end_pending;
	bool has_clocks;
	bool is_acked;
	bool was_granted;
	bool is_fenced;
	bool is_pinned; /* its range is lent: pins are counted, the layout must stay */
	bool has_segments;
	byte ack;	/* clocks */
	byte drain;
	byte commits;
	byte fence; /* queue */
	byte retry; /* clock */
	byte place; /* whose key is next */
	byte step;
	byte tries;
};
lease L[NC];
byte seg_block[NC * FB]; /* NONE: a hole, or not of the lease */
bool seg_key[NC * FB];	 /* the table believes that the key may live */

typedef session {
	bool is_known; /* until released */
	bool is_live;
	bool is_ended;
	byte fence_from;
};
session S[NC];

typedef waiter {
	bool is_queued;
	bool is_parked;
	bool is_cancelled;
	bool is_resume_due;
	byte verdict;
	byte deadline; /* clock */
	byte waited;   /* ticks since it was queued first */
	byte file; /* the change that it waits for */
	byte first;
	byte end;
	bool writers_only;
	/* What it holds back of each file: all that it has waited for. */
	bool holds[NF];
	byte hold_first[NF];
	byte hold_end[NF];
	bool hold_writers_only[NF];
};
waiter B[NW];
byte front; /* of the leases that are queued for a fence */
bool is_closing;

/* ---- the filesystem ---- */

byte map[NF * FB];	/* block behind a place; NONE: a hole */
byte size[NF];		/* places before the end of the file */
byte shares[NB];
byte pins[NB];
bool is_locked[NF];	/* inode locks */
bool is_running[NW];	/* an operation has begun and not ended */

/* ---- the network ---- */

bool is_connected[NC];
byte key[NC * FB];     /* of the lease's segments */
byte key_file[NC * FB]; /* what it reaches, as the card knows it */
byte key_block[NC * FB];
bool is_busy[NC * FB]; /* an access by that key is under way */

/* ---- who is in whose way (lease/rules.c) ---- */

#define OVERLAPS(f1, e1, f2, e2) ((f1) < (e2) && (f2) < (e1))
#define IS_CONFLICT(x, y)                                                                 \
	(L[x].file == L[y].file && (L[x].is_write || L[y].is_write) &&                     \
	 OVERLAPS(L[x].first, L[x].end, L[y].first, L[y].end))
/* Is lease x in the way of a change? */
#define IS_IN_THE_WAY(x, c_file, c_first, c_end, c_writers_only)                           \
	(L[x].file == (c_file) && (!(c_writers_only) || L[x].is_write) &&                  \
	 OVERLAPS(L[x].first, L[x].end, c_first, c_end))

/*
 * The invariant that an assertion is about; all 0.  They stand in the assertions because Spin
 * prints an assertion that fails, and no comments.
 */
hidden byte I1, I2, I3, I4, I5, I9, I10;
hidden byte Policy; /* what a policy answers and does */

/* ---- scratch ---- */

hidden byte i, j, k, m, h;
hidden byte any, stuck; /* Spin hides no bits */

#define AT(l, place)   ((l) * FB + (place))
#define BLOCK(f, place) ((f) * FB + (place))
