/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * mention.h -- a line in the log about a peer, unless there were enough of its kind
 *
 * For what a peer can bring about as often as it likes (I9).  hosts.h says how many lines there
 * are; each says how many of its kind were left out before it.  What an administrator must see
 * in any case goes to pml/log.h.
 *
 * Threads: safe.
 */
#ifndef PML_RDMA_MENTION_H
#define PML_RDMA_MENTION_H

#include "hosts.h"

/*
 * A warning: "client PEER", then what @format makes, which is cut at PML_MENTION_BYTES.
 * @peer: as pml_ep_peer() says
 */
#define PML_MENTION_BYTES 1280u
void pml_mention(struct pml_hosts *hosts, const char *peer, enum pml_line_kind kind,
		 const char *format, ...) PML_PRINTF(4, 5);

#endif
