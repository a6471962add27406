/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * service_rig.h -- a server over the software fabric in this process
 *
 * Fake filesystem, real lease manager, real server, real transport.  And raw
 * connections, to say what the client library never would.
 */
#ifndef SERVICE_RIG_H
#define SERVICE_RIG_H

#include "../../rdma/codec.h"
#include "pmemleasefs/client.h"
#include "pml/lease.h"
#include "pml/rdma.h"
#include "find_handle.h"
#include "service_fake_fs.h"

struct rig {
	struct pml_fs *fs;
	struct pml_lease_manager *mgr;
	struct pml_server *server;
	struct pml_server_args args;
	struct pml_lease_config config;
	char port[8];
	char url[64];
};

/* Defaults of a rig: short clocks; change them before rig_start(). */
void rig_init(struct rig *rig);
/* 0 or what pml_server_start() returns. */
int rig_start(struct rig *rig);
/* Stops everything and checks that no pin is left and no free block was written. */
void rig_stop(struct rig *rig);
/* The server alone; the port stays the same. */
void rig_stop_server(struct rig *rig);
int rig_start_server(struct rig *rig);

/* A connected client, or the test program ends. */
struct pml_client *rig_connect(struct rig *rig);
/* The handle of a file in the root, valid until this thread's next call. */
const struct pml_client_handle *rig_handle(struct pml_client *client, uint64_t ino);
/* The same, for messages. */
struct pml_wire_handle rig_wire_handle(struct rig *rig, uint64_t ino);
struct pml_client_lease *rig_lease(struct pml_client *client, uint64_t ino, uint64_t first_byte,
				   uint64_t len_bytes, bool for_write);
/* Waits until @count leases are there; false after 5 s. */
bool rig_wait_leases(struct rig *rig, uint64_t count);
bool rig_wait_sessions(struct rig *rig, uint64_t count);

/* A connection without the client library. */
struct pml_ep *raw_connect(struct rig *rig);
int raw_send(struct pml_ep *ep, union pml_message *msg, size_t bytes, enum pml_wire_type type);
/* Receives one message: 0, -ETIMEDOUT, -ENOTCONN. */
int raw_recv(struct pml_ep *ep, union pml_message *ret_msg, int timeout_ms);
/* Hello and auth. */
void raw_hello(struct pml_ep *ep);
void raw_close(struct pml_ep *ep);

/* Byte @i of file @ino in all tests. */
static inline uint8_t pattern_at(uint64_t ino, uint64_t i)
{
	return (uint8_t)(i * 7 + (i >> 8) * 13 + (i >> 16) * 29 + ino + 1);
}
void fill_pattern(uint8_t *data, uint64_t ino, uint64_t first_byte, size_t bytes);
/* The number of bytes that differ. */
size_t count_wrong(const uint8_t *data, uint64_t ino, uint64_t first_byte, size_t bytes);

#endif
