/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * state.h -- what a filesystem shows: every name with its attributes and contents
 *
 * A state is taken of the running filesystem after each operation.  What is found after a
 * power failure is compared with the states before and after the operation that was cut.
 */
#ifndef TEST_POWER_STATE_H
#define TEST_POWER_STATE_H

#include <stdio.h>

#include "pml/fs.h"

struct state;

/* @before: NULL, or an earlier state, with which equal contents are shared.  Ends the program
 * on failure. */
struct state *state_take(struct pml_fs *fs, const struct state *before);
void state_free(struct state *state);

/* What a cut operation may have left between its two states. */
struct state_blur {
	uint64_t ino; /* of the file; 0: nothing */
	/* Aligned 8-byte words of these ranges may be those of either state. */
	struct {
		uint64_t first_byte;
		uint64_t end_byte;
	} torn[2];
	bool times;  /* each of mtime and ctime may be that of either state */
	bool blocks; /* st_blocks may be anything */
};

/*
 * Does @fs show @state, but for what @blur allows to be as in @other?
 * On false *ret_difference says the first difference in words (a static buffer).
 */
bool state_matches(struct pml_fs *fs, const struct state *state, const struct state *other,
		   const struct state_blur *blur, const char **ret_difference);

/* The inode at a path below the root; 0: none. */
uint64_t state_ino(const struct state *state, const char *path);

#endif
