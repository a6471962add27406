/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * client_hello.h -- client library: who this client says to be, and the proofs of both sides
 *
 * Protocol: docs/lease-protocol.md, "Authentication".
 */
#ifndef PML_RDMA_CLIENT_HELLO_H
#define PML_RDMA_CLIENT_HELLO_H

#include "client_url.h"
#include "codec.h"
#include "pmemleasefs/client.h"

struct pml_client_claim {
	/* Constant once the client is open. */
	char identity[PML_WIRE_IDENTITY_MAX + 1]; /* "": none */
	uint8_t *secret;			  /* sodium_malloc(); NULL: none */
	/* Under pml_client.lock. */
	bool is_asking;				    /* auth is sent, or about to be */
	uint8_t server_proof[PML_WIRE_PROOF_BYTES]; /* that the reply to auth must have */
	bool is_refuted;			    /* and did not */
	char root[PML_WIRE_PATH_MAX + 1];	    /* of the export; "": the filesystem's */
};

/*
 * Takes identity and secret from @args, @url and the file of secrets.
 *   -EINVAL  no such identity can be, or a secret without one; a wrong line of the file
 *   -ENOKEY  the file has no line for the identity
 *   -EPERM   group or others may read the file
 *   -ENOMEM, -errno of open(2), read(2)
 */
int pml_client_claim_init(struct pml_client_claim *claim, const struct pml_client_args *args,
			  const struct pml_client_url *url) PML_MUST_CHECK;
void pml_client_claim_end(struct pml_client_claim *claim);

/*
 * pml_client_hello() - hello and auth over client->ep, with a nonce of its own each time
 * @what: subject of the reason
 *
 * The receiver runs, and no other request is sent before this has returned 0; then root,
 * term and limits are set, and is_ready.
 *   -EACCES       not let in; or a proof is wanted and there is none, or none is wanted of a
 *                 client that has one
 *   -EKEYREJECTED the server does not know the secret: it is another one
 *   -EPROTO       the server contradicts itself
 *   -EUSERS, -ENOTCONN, -ETIMEDOUT, and others of the server
 */
int pml_client_hello(struct pml_client *client, const char *what) PML_MUST_CHECK;

/*
 * The reply to auth has come, with status 0: checks the server's proof before anything in it
 * is believed.  In the receiver, which must not renew before.  With the client's lock.
 */
void pml_client_take_auth_locked(struct pml_client *client, const union pml_message *reply);

/*
 * What is left of an absolute @path below the root of the export.
 *   -EACCES outside of it;  -EINVAL a ".."
 */
int pml_client_strip(struct pml_client *client, const char *path,
		     const char **ret_rest) PML_MUST_CHECK;

#endif
