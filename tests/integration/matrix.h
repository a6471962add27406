/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * matrix.h -- what meets what: the words of docs/lease-protocol.md, "Matrix", and its cells
 *
 * A cell is an operation, a kind of lease in its way, who holds that, and a policy.
 *
 * Threads: none; each cell has a process of its own, and each holder, too.
 */
#ifndef MATRIX_H
#define MATRIX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define BLOCK	    4096u
#define FILE_BLOCKS 8u
#define FILE_BYTES  (FILE_BLOCKS * BLOCK)
#define BYTES_MAX   (16u * BLOCK)

/* What the operations change, in blocks. */
#define RANGE_FIRST 3u
#define RANGE_END   8u
#define SHIFT	    2u	/* blocks that are taken out or put in at RANGE_FIRST */
#define LONGER_END  10u /* end of what truncate-up makes */

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

enum policy { POLICY_REVOKE, POLICY_EBUSY, POLICY_BLOCK, POLICY_SKIP, POLICIES };

enum op {
	OP_TRUNCATE_DOWN,
	OP_TRUNCATE_UP,
	OP_TRUNCATE_OPEN,
	OP_PUNCH,
	OP_ZERO,
	OP_COLLAPSE,
	OP_INSERT,
	OP_UNSHARE_WRITE,
	OP_UNSHARE_CALL,
	OP_UNSHARE_WRITE_BOTH, /* the file that shares its blocks is leased, too */
	OP_UNSHARE_CALL_BOTH,
	OP_CLONE_SRC,
	OP_CLONE_DST,
	OP_DEDUPE_SRC,
	OP_DEDUPE_DST,
	OP_RELOCATE,
	OP_SNAPSHOT,
	OPS
};

enum kind { KIND_READ, KIND_SHARED_READ, KIND_WRITE, KIND_PAST_END, KIND_SHARED_WRITE, KINDS };

enum who {
	WHO_IGNORING, /* those that take long first: the cells run in this order */
	WHO_SILENT,
	WHO_SEVERAL,
	WHO_STOPPED,
	WHO_SLOW,
	WHO_COOPERATIVE,
	WHO_KILLED,
	WHO_UNBREAKABLE,
	WHO_CALLER, /* of the operation: leases of local programs */
	WHO_CALLER_UNBREAKABLE,
	WHOS
};

enum way { WAY_MEETS, WAY_PASSES, WAY_CANNOT, WAYS };

enum result {
	RESULT_GOES,
	RESULT_WAITS,
	RESULT_WAITS_ON,
	RESULT_BUSY,
	RESULT_SKIPPED,
	RESULT_DEADLOCK,
	RESULTS
};

enum fate {
	FATE_LIVES,
	FATE_RETURNED,
	FATE_CONFLICT,
	FATE_SILENT,
	FATE_EXPIRED,
	FATE_DIED,
	FATE_OWN_CHANGE,
	FATES
};

#define HOLDERS_MAX 2u

/* Two fates only of several holders: the first is cooperative, the second ignores recalls. */
struct outcome {
	enum result result;
	enum fate fate[HOLDERS_MAX];
	unsigned int nfates;
};

/* What the document says. */
struct table {
	enum way way[OPS][KINDS];
	uint32_t asks_for[OPS]; /* enum pml_ioc_op */
	bool may_skip[OPS];
	bool is_through[OPS]; /* the open file that has the lease, if the caller has */
	struct outcome outcome[WHOS][POLICIES];
};

struct cell {
	enum policy policy;
	enum op op;
	enum kind kind;
	enum who who;
	struct outcome want;
	enum way way;
	bool is_short_term; /* in the run whose sessions die soon */
};

/* The mount, and the clocks of each run. */
struct rig {
	const char *mnt;
	const char *url;
	uint32_t ack_ms;
	uint32_t slow_ms; /* a slow holder returns so long after a recall */
	uint32_t drain_ms;
	uint32_t term_ms; /* of the run in which holders are to die by it */
	uint32_t deadline_ms;
};

extern const char *const policy_names[POLICIES];
extern const char *const op_names[OPS];
extern const char *const kind_names[KINDS];
extern const char *const who_names[WHOS];
extern const char *const result_names[RESULTS];
extern const char *const fate_names[FATES];

/* The index of @name, or -1. */
int index_of(const char *const *names, size_t n, const char *name);

/* ---- the document (matrix_table.c) ----------------------------------------- */

/*
 * Reads the section "Matrix" of the document; everything that the program knows has exactly
 * one row there.  Returns 0, or -1 after a line on standard output that says what is wrong where.
 */
int table_read(const char *path, struct table *ret_table);

/* ---- holders (matrix_holder.c) --------------------------------------------- */

/* One remote client with one lease, or the cell's own process with one. */
struct holder {
	pid_t pid;
	int fd;	  /* to it; -1: there is none */
	int here; /* the open file that has the lease, of a caller; else -1 */
	uint64_t first_block;
	uint64_t end_block;
	uint64_t lease_id;
	enum who who;
	enum kind kind;
};

/* What it says of its lease. */
struct report {
	int error; /* could not take it, or not use it: a negative errno value */
	char reason[128];
	uint64_t lease_id;
	enum fate fate;
	uint32_t recalls;
	uint32_t waiter_op; /* of the operation that waits, as PML_IOC_LEASES has it; or OP_NONE */
};
#define OP_NONE UINT32_MAX

bool kind_is_write(enum kind kind);
/* The block that a writer marks with 'W' and commits before the operation; or none: false. */
bool holder_marks(const struct holder *holder, uint64_t *ret_block);
/* A slow writer commits a 'Z' there before it returns the lease; or none: false. */
bool holder_adds(const struct holder *holder, const struct cell *cell, uint64_t *ret_block);

/* Starts it on @path, a file below the mount; blocks, who and kind are set.  Returns when
 * it has its lease. */
int holder_start(struct holder *holder, const struct rig *rig, const struct cell *cell,
		 const char *path, char *ret_reason, size_t bytes);
/* Is it the caller of the operation, who takes the lease himself? */
bool who_is_caller(enum who who);
int holder_take_here(struct holder *holder, const char *path);
/* Asks what has become of the lease; waits for an end, if one is @expected, but not for ever. */
int holder_ask(struct holder *holder, enum fate expected, struct report *ret_report);
/* By SIGSTOP, and on; by SIGKILL. */
void holder_stop(struct holder *holder);
void holder_go_on(struct holder *holder);
void holder_end(struct holder *holder);

/* ---- files (matrix_file.c) ------------------------------------------------- */

struct contents {
	size_t bytes;
	char data[BYTES_MAX];
};

/* What may not have changed when an operation was refused. */
struct state {
	struct contents contents;
	int64_t blocks_512;
	int64_t mtime_s, mtime_ns;
};

/* The files of a cell, in a directory of their own. */
struct ground {
	char dir[256];
	char tree[300];	 /* a directory; holds the leased file alone */
	char held[320];	 /* the leased file */
	char twin[300];	 /* shares its blocks */
	char other[300]; /* source or destination of a clone, source of a dedupe */
	char made[300];	 /* a snapshot's name, and the file in it */
	char made_held[320];
};

int ground_make(struct ground *ground, const struct rig *rig, const struct cell *cell,
		unsigned int number);
/* What needs the contents that the holders have written. */
int ground_finish(const struct ground *ground, const struct cell *cell);
void ground_remove(const struct ground *ground);

int state_of(const char *path, struct state *ret_state);
/* Blocks of [first, end) of the file whose PML_IOC_EXTENT_ @flags are set; -1: an error. */
int count_blocks(const char *path, uint64_t first, uint64_t end, uint32_t flags);

/* The contents of a file before and after: letters from @letter, one for each block. */
void contents_begin(struct contents *ret_contents, char letter);
void contents_fill(struct contents *contents, uint64_t block, char letter);
void contents_change(struct contents *contents, enum op op);
/* The first byte that differs, or -1. */
int64_t contents_differ(const struct contents *a, const struct contents *b);

/* Of the two ways to unshare blocks? */
bool op_unshares(enum op op);
/* Does the operation.  Returns 0 or a negative errno value. */
int operate(const struct ground *ground, enum op op);
/* The same, through @fd, as far as it can be done through a descriptor that is there. */
int operate_on(const struct ground *ground, int fd, enum op op);

/* ---- cells (matrix_cell.c) ------------------------------------------------- */

/*
 * Runs in a process of its own.  Returns how many things were wrong; @ret_text gets the first
 * ones in words.
 */
int cell_run(const struct rig *rig, const struct cell *cell, uint32_t asks_for, unsigned int number,
	     char *ret_text, size_t bytes);

#endif
