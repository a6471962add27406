/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * hosts.h -- what each host that connects has taken and done: connections, refusals, log lines
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

/* Lines of each kind in the log about one host: so many in a row, then one per interval. */
#define PML_HOST_LINES	 10u
#define PML_HOST_LINE_MS 10000u
/* And about all of them: many addresses are no way around that. */
#define PML_ALL_LINES	100u
#define PML_ALL_LINE_MS 1000u

struct pml_hosts;

/* @max: connections of all; @max_per_host: of one.  NULL: out of memory. */
struct pml_hosts *pml_hosts_new(uint32_t max, uint32_t max_per_host);
void pml_hosts_free(struct pml_hosts *hosts);

/*
 * A connection begins; pml_hosts_leave() ends it.
 *   -EUSERS  there are as many as allowed
 *   -EDQUOT  this host has as many as allowed
 */
int pml_hosts_enter(struct pml_hosts *hosts, const struct pml_address *address,
		    uint64_t now_ms) PML_MUST_CHECK;
void pml_hosts_leave(struct pml_hosts *hosts, const struct pml_address *address);

/* Is more than half of all places taken, or of those of that host? */
bool pml_hosts_is_crowded(struct pml_hosts *hosts, const struct pml_address *address);

struct pml_refusal {
	uint32_t count;	   /* of this host, with this one */
	uint32_t delay_ms; /* before it hears of it */
};
/* A client of that host was refused.  Assumes: it has a connection. */
void pml_hosts_refuse(struct pml_hosts *hosts, const struct pml_address *address, uint64_t now_ms,
		      struct pml_refusal *ret_refusal);

/*
 * Lines of one kind never silence those of another: what strangers can do says nothing about
 * who is in, and who has no place says nothing about who tries secrets.  A refusal is of one
 * kind whatever its cause: whether a line is written takes time, and would tell.
 */
enum pml_line_kind {
	PML_LINE_NOT_ACCEPTED, /* resources are short */
	PML_LINE_TURNED_AWAY,  /* there is no place for it */
	PML_LINE_GREETING,     /* breaks the protocol before it is let in */
	PML_LINE_REFUSED,      /* by its proof or the exports */
	PML_LINE_NO_SESSION,   /* has proved who it is, and still cannot be served */
	PML_LINE_PROTOCOL,     /* is in and breaks the protocol */
	PML_LINE_NOTICE_LOST,  /* is in and does not read */
	PML_LINE_KINDS
};
/*
 * May a line about that host go to the log?  Hosts that the table does not know count as one,
 * and are not entered: lines cost nobody its place in it.
 * @ret_left_out: if so, how many of its kind were left out since the last one
 */
bool pml_hosts_may_log(struct pml_hosts *hosts, const struct pml_address *address,
		       enum pml_line_kind kind, uint64_t now_ms,
		       uint64_t *ret_left_out) PML_MUST_CHECK;

#endif
