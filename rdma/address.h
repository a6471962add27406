/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * address.h -- addresses of hosts, and networks of them
 *
 * An IPv4 address is kept as the IPv6 address that stands for it (::ffff:a.b.c.d), so a host
 * is the same whichever way it came.
 *
 * Threads: pure functions, safe anywhere.
 */
#ifndef PML_RDMA_ADDRESS_H
#define PML_RDMA_ADDRESS_H

#include <sys/socket.h>

#include "pml/base.h"

struct pml_address {
	uint8_t bytes[16];
};

struct pml_network {
	struct pml_address first;
	unsigned int bits; /* of the prefix, 0 to 128; 0: everybody */
};

/* Of AF_INET or AF_INET6; anything else becomes "::", which no client has. */
void pml_address_of(const struct sockaddr *addr, struct pml_address *ret_address);
/* Of what pml_ep_peer() says: "10.0.0.1:2000", "[fe80::1%eth0]:2000".  Else "::". */
void pml_address_of_peer(const char *peer, struct pml_address *ret_address);

bool pml_address_is_ipv4(const struct pml_address *address);
bool pml_address_is_loopback(const struct pml_address *address);

/* "*", "10.0.0.1", "10.0.0.0/8", "fe80::/10".  -EINVAL: none of these. */
int pml_network_parse(const char *text, struct pml_network *ret_network) PML_MUST_CHECK;
bool pml_network_has(const struct pml_network *network, const struct pml_address *address);

/*
 * The host that an address stands for: an IPv6 one counts as its network of 64 bits, as whoever
 * has one address there has them all.
 */
void pml_address_host(const struct pml_address *address, struct pml_address *ret_host);

#endif
