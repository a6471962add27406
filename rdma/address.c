/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * address.c -- see address.h
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <string.h>

#include "address.h"

#define IPV4_BITS 96u /* of the prefix ::ffff:0:0/96 */

static const uint8_t ipv4_prefix[IPV4_BITS / 8] = {[10] = 0xff, [11] = 0xff};

static void set_ipv4(const struct in_addr *in, struct pml_address *ret_address)
{
	memcpy(ret_address->bytes, ipv4_prefix, sizeof(ipv4_prefix));
	memcpy(ret_address->bytes + sizeof(ipv4_prefix), in, sizeof(*in));
}

void pml_address_of(const struct sockaddr *addr, struct pml_address *ret_address)
{
	memset(ret_address, 0, sizeof(*ret_address));
	if (addr->sa_family == AF_INET) {
		struct sockaddr_in in;
		memcpy(&in, addr, sizeof(in));
		set_ipv4(&in.sin_addr, ret_address);
	} else if (addr->sa_family == AF_INET6) {
		struct sockaddr_in6 in6;
		memcpy(&in6, addr, sizeof(in6));
		memcpy(ret_address->bytes, &in6.sin6_addr, sizeof(ret_address->bytes));
	}
}

static int parse(const char *text, struct pml_address *ret_address)
{
	struct in_addr in;
	struct in6_addr in6;
	if (inet_pton(AF_INET, text, &in) == 1)
		set_ipv4(&in, ret_address);
	else if (inet_pton(AF_INET6, text, &in6) == 1)
		memcpy(ret_address->bytes, &in6, sizeof(ret_address->bytes));
	else
		return -EINVAL;
	return 0;
}

void pml_address_of_peer(const char *peer, struct pml_address *ret_address)
{
	memset(ret_address, 0, sizeof(*ret_address));
	bool is_bracketed = peer[0] == '[';
	peer += is_bracketed;
	/* A zone names an interface of this machine. */
	size_t bytes = strcspn(peer, is_bracketed ? "%]" : ":");
	char host[INET6_ADDRSTRLEN];
	if (bytes >= sizeof(host))
		return;
	memcpy(host, peer, bytes);
	host[bytes] = 0;
	if (parse(host, ret_address))
		memset(ret_address, 0, sizeof(*ret_address));
}

bool pml_address_is_ipv4(const struct pml_address *address)
{
	return memcmp(address->bytes, ipv4_prefix, sizeof(ipv4_prefix)) == 0;
}

void pml_address_host(const struct pml_address *address, struct pml_address *ret_host)
{
	*ret_host = *address;
	if (!pml_address_is_ipv4(address) && !pml_address_is_loopback(address))
		memset(ret_host->bytes + 8, 0, 8);
}

bool pml_address_is_loopback(const struct pml_address *address)
{
	static const struct pml_address ipv6 = {.bytes = {[15] = 1}};
	if (pml_address_is_ipv4(address))
		return address->bytes[sizeof(ipv4_prefix)] == 127;
	return memcmp(address, &ipv6, sizeof(ipv6)) == 0;
}

/* At most three digits. */
static int parse_bits(const char *text, unsigned int max, unsigned int *ret_bits)
{
	size_t digits = strspn(text, "0123456789");
	if (digits == 0 || digits > 3 || text[digits])
		return -EINVAL;
	unsigned int bits = (unsigned int)strtoul(text, NULL, 10);
	if (bits > max)
		return -EINVAL;
	*ret_bits = bits;
	return 0;
}

int pml_network_parse(const char *text, struct pml_network *ret_network)
{
	if (strcmp(text, "*") == 0) {
		*ret_network = (struct pml_network){.bits = 0};
		return 0;
	}
	char host[INET6_ADDRSTRLEN];
	const char *slash = strchr(text, '/');
	size_t bytes = slash ? (size_t)(slash - text) : strlen(text);
	if (bytes >= sizeof(host))
		return -EINVAL;
	memcpy(host, text, bytes);
	host[bytes] = 0;

	struct pml_network network;
	int err = parse(host, &network.first);
	if (err)
		return err;
	unsigned int base =
		pml_address_is_ipv4(&network.first) && !strchr(host, ':') ? IPV4_BITS : 0;
	network.bits = 128 - base;
	if (slash)
		err = parse_bits(slash + 1, 128 - base, &network.bits);
	if (err)
		return err;
	network.bits += base;
	*ret_network = network;
	return 0;
}

bool pml_network_has(const struct pml_network *network, const struct pml_address *address)
{
	unsigned int whole = network->bits / 8, rest = network->bits % 8;
	if (memcmp(network->first.bytes, address->bytes, whole) != 0)
		return false;
	uint8_t mask = (uint8_t)(0xff00u >> rest);
	return rest == 0 || ((network->first.bytes[whole] ^ address->bytes[whole]) & mask) == 0;
}
