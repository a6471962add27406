/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * proof.c -- see proof.h
 *
 * Each part that may be of any length has its length before it, so no two different facts
 * make the same text.
 */
#include <sodium.h>
#include <string.h>

#include "proof.h"
#include "secrets.h"

static_assert(PML_SECRET_BYTES == crypto_auth_hmacsha512256_KEYBYTES, "key");
static_assert(PML_WIRE_PROOF_BYTES == crypto_auth_hmacsha512256_BYTES, "proof");

typedef crypto_auth_hmacsha512256_state mac;

static void add(mac *state, const void *data, size_t bytes)
{
	crypto_auth_hmacsha512256_update(state, data, bytes);
}

static void add_number(mac *state, uint64_t number)
{
	add(state, &number, sizeof(number));
}

void pml_proof_make(const uint8_t *secret, enum pml_proof_role role,
		    const struct pml_proof_facts *facts, uint8_t *ret_proof)
{
	static const char labels[][24] = {
		[PML_PROOF_CLIENT] = "pmemleasefs client",
		[PML_PROOF_SERVER] = "pmemleasefs server",
	};
	mac state;
	crypto_auth_hmacsha512256_init(&state, secret, PML_SECRET_BYTES);
	add(&state, labels[role], sizeof(labels[role]));
	add_number(&state, PML_WIRE_VERSION);
	add_number(&state, strlen(facts->identity));
	add(&state, facts->identity, strlen(facts->identity));
	add_number(&state, facts->path_bytes);
	add(&state, facts->path, facts->path_bytes);
	add(&state, facts->client_id, PML_WIRE_CLIENT_ID_BYTES);
	add(&state, facts->client_nonce, PML_WIRE_NONCE_BYTES);
	add(&state, facts->server_nonce, PML_WIRE_NONCE_BYTES);
	add_number(&state, facts->epoch);
	crypto_auth_hmacsha512256_final(&state, ret_proof);
	sodium_memzero(&state, sizeof(state));
}

bool pml_proof_is_same(const uint8_t *a, const uint8_t *b)
{
	return sodium_memcmp(a, b, PML_WIRE_PROOF_BYTES) == 0;
}
