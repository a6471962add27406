/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * compare.h -- is what is mounted what the model says?
 *
 * Differences are told with complain().  What was not known exactly (times, inode
 * numbers) is taken over into the model.
 */
#ifndef SOAK_COMPARE_H
#define SOAK_COMPARE_H

#include "model.h"

/* Everything in a tree, and that there is nothing else.  Nobody changes it meanwhile. */
void compare_tree(int tree);
/* The attributes of a node that has a name, found by that name. */
void compare_attributes(int tree, int node);
/* The attributes of an open file. */
void compare_open(int tree, int node, int fd);
/* Returns 0 or an errno value. */
/* One of its two access control lists (acls.h); returns 0, or why it cannot be read. */
int compare_acl(int tree, int node, const char *path, int which);
/* Size and blocks, asked of the filesystem itself. */
struct extent {
	uint64_t size;
	uint64_t blocks;
};
struct extent extent_of(const struct op *op);
int compare_xattr_list(int tree, int node, const char *path);

/*
 * After a crash: the operation that a worker had begun has happened wholly or not at all,
 * and then the model says which.  Bytes that it overwrote in place may be a mixture, which
 * is taken over.
 */
void resolve_pending(struct worker *worker);

#endif
