/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * durable.h -- by which rule the bytes that a remote client has written become durable
 *
 * A write that has completed is placed in the server's memory, which may mean its caches.
 * What makes it durable depends on the device that the client writes through and on the
 * server's platform, and each grant of a write lease states it.
 *
 * Text: docs/design.md, "Durability of remote writes".
 */
#ifndef PML_DURABLE_H
#define PML_DURABLE_H

#if PML_LAYER < 3
#error "dependencies go one way: tools, rdma, lease, fs, base (docs/design.md)"
#endif

#include "pml/base.h"

/* The numbers go over the wire (rdma/wire.h). */
enum pml_durable_rule {
	PML_DURABLE_BY_COMMIT = 1, /* the server flushes, when it is asked to */
	PML_DURABLE_BY_READ = 2,   /* a read through the same key, behind the writes */
	PML_DURABLE_BY_FLUSH = 3,  /* a FLUSH through the same key, behind the writes */
};

/* What the administrator wants: mount option remote_durability=. */
enum pml_durable_choice {
	PML_DURABLE_AUTO,	 /* by FLUSH where device and memory offer it, else by commit */
	PML_DURABLE_ONLY_COMMIT, /* always by commit */
	PML_DURABLE_ASSERT_READ, /* by read: the administrator vouches for the platform */
	PML_DURABLE_NEED_FLUSH,	 /* by FLUSH, or no service */
};

/* "auto", "commit", "read", "flush" */
const char *pml_durable_choice_name(enum pml_durable_choice choice);
/* 0 or -EINVAL. */
int pml_durable_choice_parse(const char *text, enum pml_durable_choice *ret_choice) PML_MUST_CHECK;
/*
 * pml_durable_decide() - the rule for a device
 * @can_flush: it was tried: FLUSH of this memory through this device
 * @can_persist: flushing the processor's caches makes this memory durable
 * @ret_text: PML_REASON_BYTES; what was chosen, or why not, in words
 *
 * Returns 0, or -EOPNOTSUPP: what was asked for cannot be had.
 */
int pml_durable_decide(enum pml_durable_choice choice, bool can_flush, bool can_persist,
		       enum pml_durable_rule *ret_rule, char *ret_text) PML_MUST_CHECK;

#endif
