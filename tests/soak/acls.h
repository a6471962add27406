/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * acls.h -- access control lists in the model: POSIX 1003.1e draft 17
 */
#ifndef SOAK_ACLS_H
#define SOAK_ACLS_H

#include "model.h"

#define ACL_BYTES_MAX 64u

const char *acl_name(int which);
/* The list that an operation sets, drawn by op->fill. */
struct acl acl_of_op(const struct op *op);
/* As an attribute's value, of at most ACL_BYTES_MAX; returns its bytes. */
size_t acl_value(const struct acl *acl, uint8_t *ret_value);

/* The list has been set: the mode follows, and a list that says no more is none. */
void acl_set(struct node *n, int which, const struct acl *acl);
/* The mode has been set: the list follows. */
void acl_follow_mode(struct node *n);
/* What a new node has from its directory. */
void acl_inherit(struct node *n, const struct node *dir);
/* May a user without other groups do this (4 read, 2 write, 1 search) with the node? */
bool acl_allows(const struct node *n, uint32_t uid, uint32_t gid, unsigned int wanted);

#endif
