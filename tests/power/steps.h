/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * steps.h -- operations that a power failure may cut, and what each may leave
 *
 * A step is one call of pml/fs.h that changes something.  A script is a list of steps on a
 * filesystem that was made ready before.
 */
#ifndef TEST_POWER_STEPS_H
#define TEST_POWER_STEPS_H

#include "state.h"

enum step_op {
	STEP_CREATE, /* a: name, mode: with type */
	STEP_LINK,   /* b is a new name of a */
	STEP_UNLINK,
	STEP_RMDIR,
	STEP_RENAME, /* a to b, mode: flags */
	STEP_SET,    /* mode: PML_SET_ bits */
	STEP_XATTR,  /* set b of a, bytes long; 0: remove it */
	STEP_HOLD,   /* open a file */
	STEP_DROP,   /* close it */
	STEP_WRITE,
	STEP_APPEND,
	STEP_TRUNCATE, /* to at */
	STEP_ALLOCATE, /* mode: of fallocate(2) */
	STEP_CLONE,    /* bytes at `at` of a to `to` of b */
	STEP_COLLAPSE,
	STEP_INSERT,
	STEP_UNSHARE,
	STEP_DEDUPE,   /* as a clone, of equal bytes */
	STEP_SNAPSHOT, /* of the directory a, as b */
	STEP_RELOCATE, /* the first part of a that would lie better elsewhere; there is one */
	STEP_LEND,     /* for reading, and a guard refuses what would move it, until the unpin */
	STEP_PIN,      /* for writing; the rest of the lease's life: */
	STEP_COMMIT,   /* stores as a NIC does, and commits; to: new size */
	STEP_SYNC,     /* stores as a NIC does, and fsync */
	STEP_UNPIN,    /* and trims */
	STEP_END,      /* stores as a NIC does, unpins, and then fsync of who opens it anew */
};

/* What a cut step may leave besides the states before and after it. */
enum {
	/* The bytes that it stores may be torn while everything else is as before it, */
	STEP_TORN_BEFORE = 1 << 0,
	/* or as after it. */
	STEP_TORN_AFTER = 1 << 1,
	/* Both times, or one, are still old. */
	STEP_OLD_TIMES = 1 << 2,
	/* Blocks were added and nothing else. */
	STEP_BLOCKS = 1 << 3,
	/* It may fail: then it has changed nothing. */
	STEP_MAY_FAIL = 1 << 4,
};

struct step {
	const char *rule_name; /* how rules find it; NULL: they do not */
	enum step_op op;
	const char *a, *b;
	uint64_t at, bytes, to;
	unsigned int mode;
	unsigned int leaves;
	/* What may be torn, if that is not all that is written. */
	uint64_t torn_at, torn_bytes;
};

struct script {
	const char *name;
	/* Before anything is watched. */
	void (*prepare)(struct pml_fs *fs);
	const struct step *step;
	size_t n;
};

extern const struct script scripts[];
extern const size_t nscripts;

/* A script drawn at random; freed by nobody. */
struct script script_random(uint64_t seed, size_t nsteps);

/* What steps keep between them. */
struct stepper;
struct stepper *stepper_new(struct pml_fs *fs);
/* Gives back what steps hold. */
void stepper_free(struct stepper *stepper);
/* 0 or the step's error. */
int stepper_run(struct stepper *stepper, const struct step *step);

void step_print(FILE *to, const struct step *step);

/* What @step may have left that is else as @before, or as after it. */
void step_blurs(const struct step *step, const struct state *before, struct state_blur *ret_before,
		struct state_blur *ret_after);

#endif
