/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * client_url.h -- client library: where a server is, who asks, and for what
 *
 * Threads: a pure function.
 */
#ifndef PML_RDMA_CLIENT_URL_H
#define PML_RDMA_CLIENT_URL_H

#include "transport.h"
#include "wire.h"

struct pml_client_url {
	enum pml_transport_kind kind;
	char identity[PML_WIRE_IDENTITY_MAX + 1]; /* "": none */
	char host[256];
	char port[8];
	char path[PML_WIRE_PATH_MAX + 1]; /* "", or from the first slash on */
	char text[512];			  /* as it was given, or its begin */
};

/* "rdma://[IDENTITY@]HOST:PORT[/PATH]", or "soft://...".  -EINVAL; -ENAMETOOLONG: the path. */
int pml_client_url_parse(const char *text, struct pml_client_url *ret_url) PML_MUST_CHECK;

#endif
