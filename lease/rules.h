/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * rules.h -- who is in whose way: pure questions about ranges, modes and sessions
 *
 * Threads: pure functions, no state.
 * Doc: docs/lease-protocol.md, "Conflicts".
 */
#ifndef PML_LEASE_RULES_H
#define PML_LEASE_RULES_H

#include "pml/guard.h"
#include "pml/lease.h"

/* What matters of a lease, or of a request for one, to decide about conflicts. */
struct pml_claim {
	uint64_t session;
	uint64_t ino;
	uint64_t first_byte;
	uint64_t end_byte; /* exclusive, above first_byte */
	enum pml_lease_mode mode;
	bool is_shared;
	bool is_unbreakable;
	bool may_read; /* in mode write: the key may let read, too */
};

/*
 * Rounds a range out to whole blocks, the unit of sharing and pinning: what may be in
 * the way of a range is found by overlap with this.
 */
void pml_rules_round_out(uint64_t *first_byte, uint64_t *end_byte);

/* Are the blocks under it the file's alone (I5)?  Of write leases and of shared ones. */
bool pml_rules_owns(const struct pml_claim *claim);

/*
 * pml_rules_coexist() - may @asked be granted beside @held?
 *
 * A write lease reaches whole blocks: taking it may copy a block (I5), which would
 * leave a read lease on the block's other bytes with the old copy (I4).  So does a shared
 * read lease, which lets writers in later: shared leases coexist whatever their modes, and
 * read leases that are not shared; one of either kind excludes the other.
 *
 * Returns 0, -EAGAIN (another session holds it), or -EDEADLK (the same session does).
 */
int pml_rules_coexist(const struct pml_claim *held, const struct pml_claim *asked) PML_MUST_CHECK;

/*
 * pml_rules_is_in_the_way() - would @change alter the layout under @held? (I4)
 *
 * Copy-on-write (unshare) replaces whole blocks; all other changes take a block away
 * only when they cover all of it, so their exact bytes count.
 */
bool pml_rules_is_in_the_way(const struct pml_claim *held, const struct pml_layout_change *change);

#endif
