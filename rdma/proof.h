/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * proof.h -- proofs that one side of a connection knows an identity's secret
 *
 * A proof is HMAC-SHA-512-256 (crypto_auth of libsodium) over what both sides have said.  The
 * role is in it, so a proof that is sent back proves nothing; both nonces are, so one of
 * another connection does neither; the epoch is, so one of before a mount does neither.
 *
 * Doc: docs/lease-protocol.md, "Authentication".
 * Threads: pure functions, safe anywhere.
 */
#ifndef PML_RDMA_PROOF_H
#define PML_RDMA_PROOF_H

#include "wire.h"

enum pml_proof_role { PML_PROOF_CLIENT, PML_PROOF_SERVER };

/* What both sides have said before the proofs. */
struct pml_proof_facts {
	const char *identity;
	const char *path; /* @path_bytes of it, as in hello */
	size_t path_bytes;
	const uint8_t *client_id;    /* PML_WIRE_CLIENT_ID_BYTES */
	const uint8_t *client_nonce; /* PML_WIRE_NONCE_BYTES */
	const uint8_t *server_nonce; /* PML_WIRE_NONCE_BYTES */
	uint64_t epoch;
};

/* @secret: PML_SECRET_BYTES.  @ret_proof: PML_WIRE_PROOF_BYTES. */
void pml_proof_make(const uint8_t *secret, enum pml_proof_role role,
		    const struct pml_proof_facts *facts, uint8_t *ret_proof);
/* In a time that does not depend on where they differ. */
bool pml_proof_is_same(const uint8_t *a, const uint8_t *b);

#endif
