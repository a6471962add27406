/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * access.h -- who gets in, where to and as whom
 *
 * One for all addresses that a mount listens on.  pml/rdma.h has what makes and frees it.
 *
 * Threads: safe.  Rules may be read anew at any time; who is in stays as it is.
 */
#ifndef PML_RDMA_ACCESS_H
#define PML_RDMA_ACCESS_H

#include "codec.h"
#include "handle.h"
#include "hosts.h"
#include "pml/fs.h"
#include "pml/rdma.h"
#include "replies.h"
#include "secrets.h"

#define PML_EXPORT_PATH_BYTES 1024u

/* What one client may, and what it has to prove before. */
struct pml_admission {
	uint32_t method; /* PML_WIRE_AUTH_ */
	/* With PML_WIRE_AUTH_SECRET: the proof to expect, and the one to give then. */
	uint8_t client_proof[PML_WIRE_PROOF_BYTES];
	uint8_t server_proof[PML_WIRE_PROOF_BYTES];
	char identity[PML_WIRE_IDENTITY_MAX + 1]; /* "": none */

	/* What follows holds once it has proved that. */
	int status;	      /* 0, or -EACCES: no rule lets it in */
	const char *why;      /* not, for the log; constant text */
	struct pml_cred cred; /* its groups are those below */
	gid_t groups[PML_GROUPS_MAX];
	bool is_read_only;
	char root[PML_EXPORT_PATH_BYTES]; /* of the export; "" is the filesystem's */
	uint32_t root_bytes;		  /* so many of the path in hello lead there */
};

/*
 * What a hello asks for, answered by @server_nonce.
 * @peer: as pml_ep_peer() says
 * @trusts_loopback: nobody else can say to come from there
 * @msg: a checked hello
 */
void pml_access_ask(struct pml_access *access, const char *peer, bool trusts_loopback,
		    const union pml_message *msg, const uint8_t *server_nonce,
		    struct pml_admission *ret_admission);

const struct pml_handle_maker *pml_access_handles(const struct pml_access *access);
struct pml_hosts *pml_access_hosts(struct pml_access *access);
/* What was answered to changes: a client may come again by another address. */
struct pml_replies *pml_access_replies(struct pml_access *access);
/* May a server listen where other hosts can reach it? */
bool pml_access_is_open(struct pml_access *access);

#endif
