/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * hosts.h -- what each host that connects has taken and done: connections, refusals
 *
 * A bounded table: a host that has a connection stays in it, of the others the one that was
 * heard of last.  A host is an IPv4 address or the upper half of an IPv6 one, as whoever has
 * one address there has them all.
 *
 * Threads: safe; one lock, innermost.
 */
#ifndef PML_RDMA_HOSTS_H
#define PML_RDMA_HOSTS_H

#include "address.h"

#define PML_HOSTS_CONNECTIONS_MAX 4096u
/* Hosts without a connection whose refusals are remembered. */
#define PML_HOSTS_REMEMBERED 256u
/* Delay of the reply to the first refusal; doubles with each, up to the last. */
#define PML_REFUSAL_FIRST_MS 50u
#define PML_REFUSAL_LAST_MS  3200u
/* After so long without one a host's refusals are forgotten. */
#define PML_REFUSAL_FORGET_MS 60000u

struct pml_hosts;

/* @max: connections of all; @max_per_host: of one.  NULL: out of memory. */
struct pml_hosts *pml_hosts_new(uint32_t max, uint32_t max_per_host);
void pml_hosts_free(struct pml_hosts *hosts);

/*
 * A connection begins; pml_hosts_leave() ends it.
 *   -EUSERS  there are as many as allowed
 *   -EDQUOT  this host has as many as allowed
 * @ret_turned_away: on error, how many were turned away since this was last not 0: log it
 */
int pml_hosts_enter(struct pml_hosts *hosts, const struct pml_address *address, uint64_t now_ms,
		    uint64_t *ret_turned_away) PML_MUST_CHECK;
void pml_hosts_leave(struct pml_hosts *hosts, const struct pml_address *address);

/* Is more than half of all places taken, or of those of that host? */
bool pml_hosts_is_crowded(struct pml_hosts *hosts, const struct pml_address *address);

struct pml_refusal {
	uint32_t count;	   /* of this host, with this one */
	uint32_t delay_ms; /* before it hears of it */
	bool is_logged;	   /* the first of each 64 */
};
/* A client of that host was refused.  Assumes: it has a connection. */
void pml_hosts_refuse(struct pml_hosts *hosts, const struct pml_address *address, uint64_t now_ms,
		      struct pml_refusal *ret_refusal);

#endif
