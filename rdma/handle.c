/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * handle.c -- tags of handles: SipHash-2-4 of libsodium
 *
 * 64 bits: who guesses gets one answer for each round trip.
 */
#include <sodium.h>
#include <string.h>

#include "handle.h"

static_assert(sizeof(((struct pml_handle_maker *)0)->key) == crypto_shorthash_KEYBYTES, "key");

int pml_handle_maker_init(struct pml_handle_maker *ret_maker)
{
	if (sodium_init() < 0)
		return -EIO;
	struct pml_handle_maker maker;
	do
		randombytes_buf(&maker, sizeof(maker));
	while (maker.epoch == 0);
	*ret_maker = maker;
	return 0;
}

void pml_handle_scope_init(struct pml_handle_scope *ret_scope, const char *export_path,
			   const char *identity)
{
	/* The zero between them keeps "a" "bc" and "ab" "c" apart. */
	crypto_generichash_state state;
	crypto_generichash_init(&state, NULL, 0, sizeof(ret_scope->tree));
	crypto_generichash_update(&state, (const uint8_t *)export_path, strlen(export_path) + 1);
	crypto_generichash_update(&state, (const uint8_t *)identity, strlen(identity) + 1);
	crypto_generichash_final(&state, ret_scope->tree, sizeof(ret_scope->tree));
}

static uint64_t tag_of(const struct pml_handle_maker *maker, const struct pml_handle_scope *scope,
		       const struct pml_wire_handle *handle)
{
	struct {
		uint64_t ino;
		uint64_t generation;
		uint64_t epoch;
		struct pml_handle_scope scope;
	} text = {handle->ino, handle->generation, handle->epoch, *scope};
	static_assert(sizeof(text) == 40, "no padding in what is hashed");
	uint64_t tag;
	static_assert(sizeof(tag) == crypto_shorthash_BYTES, "tag");
	crypto_shorthash((uint8_t *)&tag, (const uint8_t *)&text, sizeof(text), maker->key);
	return tag;
}

void pml_handle_make(const struct pml_handle_maker *maker, const struct pml_handle_scope *scope,
		     uint64_t ino, uint64_t generation, struct pml_wire_handle *ret_handle)
{
	*ret_handle = (struct pml_wire_handle){
		.ino = ino, .generation = generation, .epoch = maker->epoch};
	ret_handle->tag = tag_of(maker, scope, ret_handle);
}

int pml_handle_check(const struct pml_handle_maker *maker, const struct pml_handle_scope *scope,
		     const struct pml_wire_handle *handle, const char **ret_reason)
{
	*ret_reason = "a handle from before the server was mounted again";
	if (handle->epoch != maker->epoch)
		return -ESTALE;
	*ret_reason = "a handle that the server did not give to this client";
	uint64_t tag = tag_of(maker, scope, handle);
	if (sodium_memcmp(&tag, &handle->tag, sizeof(tag)) != 0)
		return -ESTALE;
	*ret_reason = NULL;
	return 0;
}
