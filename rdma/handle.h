/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * handle.h -- handles of inodes, which only the server can make
 *
 * A handle is tagged with a keyed hash, so a client cannot name an inode that it was
 * not shown, nor one of another export or identity.  Keys live as long as the mount.
 *
 * Threads: safe; a maker is constant once it is made.
 */
#ifndef PML_RDMA_HANDLE_H
#define PML_RDMA_HANDLE_H

#include "wire.h"

struct pml_handle_maker {
	uint64_t epoch; /* of this mount; random, not 0 */
	uint8_t key[16];
};

/* Whom handles are for: another scope's are not taken. */
struct pml_handle_scope {
	uint8_t tree[16]; /* a hash of the export's path and of the identity */
};

/* Draws epoch and key.  -EIO: no random numbers. */
int pml_handle_maker_init(struct pml_handle_maker *ret_maker) PML_MUST_CHECK;

void pml_handle_scope_init(struct pml_handle_scope *ret_scope, const char *export_path,
			   const char *identity);

void pml_handle_make(const struct pml_handle_maker *maker, const struct pml_handle_scope *scope,
		     uint64_t ino, uint64_t generation, struct pml_wire_handle *ret_handle);

/*
 * Did this maker make @handle for this scope?
 * @ret_reason: on error, constant text
 *
 *   -ESTALE  made before the server was mounted again, for somebody else, or by the client
 */
int pml_handle_check(const struct pml_handle_maker *maker, const struct pml_handle_scope *scope,
		     const struct pml_wire_handle *handle, const char **ret_reason) PML_MUST_CHECK;

#endif
