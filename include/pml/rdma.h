/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * rdma.h -- the service that a mounted filesystem offers to remote clients
 *
 * Threads: one accepts, one serves each connection; all are the server's own.
 */
#ifndef PML_RDMA_H
#define PML_RDMA_H

#if PML_LAYER < 3
#error "dependencies go one way: tools, rdma, lease, fs, base (docs/design.md)"
#endif

#include "pml/base.h"
#include "pml/fs.h"
#include "pml/lease.h"

struct pml_server;

/*
 * What a client has changed, for those on this machine who remember what it was like.  The
 * client gets its answer when they return.  In a thread of its own, without locks.  NULL:
 * nobody needs to know.
 */
struct pml_server_hooks {
	/* A name was made, or stands for something else, or is gone. */
	void (*name_changed)(void *arg, uint64_t dir_ino, const char *name);
	/* Bytes and attributes of a file; @len_bytes 0: attributes alone. */
	void (*file_changed)(void *arg, uint64_t ino, uint64_t first_byte, uint64_t len_bytes);
	void *arg;
};

struct pml_server_args {
	struct pml_fs *fs;
	struct pml_lease_manager *leases;
	bool is_soft;		     /* the software fabric over TCP; else verbs */
	const char *host;	     /* address to listen on */
	const char *port;	     /* decimal; "0": any (soft) */
	bool allow_unauthenticated;  /* needed for an address that is not loopback */
	struct pml_cred client_cred; /* whom every client acts as: nothing authenticates it yet */
	bool is_read_only;	     /* refuse all changes and write leases with -EROFS */
	struct pml_server_hooks hooks;
};

/*
 * pml_server_start() - listen and serve
 * @ret_reason: PML_REASON_BYTES; a line that names the address and the remedy
 *
 *   -EPERM       not a loopback address and no allow_unauthenticated
 *   -EOPNOTSUPP  the device's memory cannot be registered (ret_reason says why)
 *   -errno       of the failing call
 */
int pml_server_start(const struct pml_server_args *args, struct pml_server **ret_server,
		     char *ret_reason) PML_MUST_CHECK;
/*
 * Would an address do?  Listens for a moment at any port of @host; touches neither
 * filesystem nor leases, so that a wrong address can be refused before the device is
 * opened.  Errors as pml_server_start().
 */
int pml_server_check(const struct pml_server_args *args, char *ret_reason) PML_MUST_CHECK;
uint16_t pml_server_port(const struct pml_server *server);

/*
 * Stops accepting and ends all sessions (fenced, PML_END_UNMOUNT), waits for its
 * threads.  Call it before pml_lease_manager_free().
 */
void pml_server_stop(struct pml_server *server);

#endif
