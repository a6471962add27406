/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * tx.h -- one atomic change of the device
 *
 *	int err = pml_tx_begin(fs, &tx);
 *	if (err)
 *		return err;
 *	err = change_this(fs);          -- uses pml_tx_add(), pml_tx_alloc(), ...
 *	if (!err)
 *		err = change_that(fs);
 *	return pml_tx_end(&tx, err);    -- commits on 0, else rolls back; returns the result
 *
 * Wraps libpmemobj transactions with POBJ_TX_FAILURE_RETURN, so no longjmp.
 * Memory for their logs is kept free, so that freeing works on a full device.
 * Not nested; one per thread.
 */
#ifndef PML_FS_TX_H
#define PML_FS_TX_H

#include "pool.h"

struct pml_tx {
	struct pml_fs *fs;
	/* What it has made and freed. */
	struct pml_tx_object {
		uint64_t offset;
		enum pml_media_type type; /* 0: freed */
	} * objects;
	size_t nobjects;
	size_t capacity;
};

/* Sets the pool up for transactions: before the first one after opening it. */
int pml_tx_logs_open(struct pml_fs *fs) PML_MUST_CHECK;
void pml_tx_logs_close(struct pml_fs *fs);

int pml_tx_begin(struct pml_fs *fs, struct pml_tx *ret_tx) PML_MUST_CHECK;
/* @err 0: commit.  Returns @err, or the error of the commit. */
int pml_tx_end(struct pml_tx *tx, int err) PML_MUST_CHECK;

/* The range's old bytes come back on a rollback.  -ENOSPC: no room for the log. */
int pml_tx_add(const void *addr, size_t bytes) PML_MUST_CHECK;
/* A range whose old contents do not matter after a rollback; flushed at the commit. */
int pml_tx_add_fresh(const void *addr, size_t bytes) PML_MUST_CHECK;
/* A zeroed object, gone after a rollback; stores to it need no pml_tx_add(). */
int pml_tx_alloc(size_t bytes, enum pml_media_type type, uint64_t *ret_offset) PML_MUST_CHECK;
/* -EIO (logged): there is no such object, or it has been freed before. */
int pml_tx_free(struct pml_fs *fs, uint64_t offset, enum pml_media_type type) PML_MUST_CHECK;
/* Has the thread's open transaction made an object of this type there? */
bool pml_tx_has_made(uint64_t offset, enum pml_media_type type);

/*
 * pml_tx_add() of an integer and its assignment, in one store, as some are read without
 * lock (pml_inode_size()); evaluates to 0 or the error.
 */
#define PML_TX_SET(lvalue, value)                                                                  \
	({                                                                                         \
		int set_err_ = pml_tx_add(&(lvalue), sizeof(lvalue));                              \
		if (!set_err_)                                                                     \
			__atomic_store_n(&(lvalue), (value), __ATOMIC_RELAXED);                    \
		set_err_;                                                                          \
	})

#endif
