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
#include "pml/durable.h"
#include "pml/fence.h"
#include "pml/fs.h"
#include "pml/lease.h"

/* ---- who gets in --------------------------------------------------------- */

/*
 * Who gets in, where to and as whom; and how many.  One for all servers of a filesystem: a
 * handle that one of them made is taken by all, and limits hold for all of them together.
 */
struct pml_access;

struct pml_access_args {
	/*
	 * Path of the file of identities and secrets; NULL: nobody proves anything, and every
	 * client acts as @client_cred.
	 */
	const char *secrets;
	const char *exports;	     /* path of the file of exports; NULL: all of the filesystem */
	bool allow_unauthenticated;  /* let in who proves nothing, from other hosts too */
	struct pml_cred client_cred; /* who proves nothing or is squashed; 64 groups */
	bool is_read_only;	     /* refuse all changes and write leases with -EROFS */
	uint32_t max_connections;    /* 0: 256; up to 4096 */
	uint32_t max_host_connections; /* of one host; 0: three quarters of them */
};

/*
 * pml_access_new() - read the rules
 * @ret_reason: PML_REASON_BYTES; a line that names file, line and remedy
 *
 *   -EPERM   others may read the secrets, or write the exports
 *   -EINVAL  a line is wrong
 *   -EFBIG, -ENOMEM, -EIO (no random numbers), -errno of the files
 */
int pml_access_new(const struct pml_access_args *args, struct pml_access **ret_access,
		   char *ret_reason) PML_MUST_CHECK;
/*
 * pml_access_read_rules() - read the files anew, for clients that come later
 *
 * Nothing has changed until pml_access_use_rules(), which cannot fail and frees the rules that
 * held before; or pml_access_free_rules().  Any thread.  Paths and errors as above.
 */
struct pml_access_rules;
int pml_access_read_rules(const struct pml_access *access, const char *secrets, const char *exports,
			  struct pml_access_rules **ret_rules, char *ret_reason) PML_MUST_CHECK;
void pml_access_use_rules(struct pml_access *access, struct pml_access_rules *rules);
void pml_access_free_rules(struct pml_access_rules *rules); /* NULL is allowed */
/* After the last server has stopped.  NULL is allowed. */
void pml_access_free(struct pml_access *access);

/* ---- one address --------------------------------------------------------- */

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
	bool is_soft;	  /* the software fabric over TCP; else verbs */
	const char *host; /* address to listen on */
	const char *port; /* decimal; "0": any (soft) */
	/* Outlives the server.  NULL: one of its own, by the next three and without files. */
	struct pml_access *access;
	bool allow_unauthenticated;
	struct pml_cred client_cred;
	bool is_read_only;
	struct pml_server_hooks hooks;
	enum pml_fence_choice fence;
	const char *verdicts; /* file of what was measured of fences; NULL: PML_VERDICTS_PATH */
	enum pml_durable_choice durable;
};

/*
 * pml_server_start() - listen and serve
 * @ret_reason: PML_REASON_BYTES; a line that names the address and the remedy
 *
 *   -EPERM       not a loopback address, and clients need prove nothing
 *   -EOPNOTSUPP  the device's memory cannot be registered, or has no fence, or not the rule of
 *                durability that was asked for (ret_reason says why)
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
