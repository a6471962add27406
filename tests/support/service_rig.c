/* SPDX-License-Identifier: BSD-3-Clause */
/* service_rig.c -- see service_rig.h */
#include <stdio.h>
#include <stdlib.h>

#include "../../rdma/transport.h"
#include "service_rig.h"
#include "tap.h"

void rig_init(struct rig *rig)
{
	memset(rig, 0, sizeof(*rig));
	pml_soft_let_look(getenv("PML_TEST_LOOKS") != NULL);
	pml_lease_config_default(&rig->config, (uint64_t)FAKE_BLOCKS * PML_BLOCK_BYTES);
	rig->config.ack_ms = 500;
	rig->config.drain_ms = 1500;
	rig->config.term_ms = 20000;
	rig->fs = fake_fs_new();
	snprintf(rig->port, sizeof(rig->port), "0");
	rig->args = (struct pml_server_args){
		.fs = rig->fs,
		.is_soft = true,
		.host = "127.0.0.1",
		.port = rig->port,
	};
}

int rig_start_server(struct rig *rig)
{
	char reason[PML_REASON_BYTES] = "";
	int err = pml_server_start(&rig->args, &rig->server, reason);
	if (err) {
		printf("# server: %s\n", reason);
		if (reason[0] == 0)
			TAP_FAIL("no reason given");
		return err;
	}
	snprintf(rig->port, sizeof(rig->port), "%u", pml_server_port(rig->server));
	snprintf(rig->url, sizeof(rig->url), "soft://127.0.0.1:%s", rig->port);
	return 0;
}

int rig_start(struct rig *rig)
{
	if (pml_lease_manager_new(rig->fs, &rig->config, NULL, &rig->mgr))
		BAIL_OUT("no lease manager");
	rig->args.leases = rig->mgr;
	return rig_start_server(rig);
}

void rig_stop_server(struct rig *rig)
{
	if (rig->server)
		pml_server_stop(rig->server);
	rig->server = NULL;
}

void rig_stop(struct rig *rig)
{
	const struct pml_soft_faults none = {0};
	pml_soft_set_faults(&none);
	rig_stop_server(rig);
	CHECK_EQ(pml_lease_manager_free(rig->mgr), 0);
	CHECK_EQ(fake_fs_pins(rig->fs), 0);
	CHECK_EQ(fake_fs_stained(rig->fs), 0);
	fake_fs_free(rig->fs);
}

struct pml_client *rig_connect(struct rig *rig)
{
	struct pml_client *client;
	char reason[PML_REASON_BYTES];
	if (pml_client_connect(rig->url, 5000, &client, reason))
		BAIL_OUT("cannot connect: %s", reason);
	return client;
}

const struct pml_client_handle *rig_handle(struct pml_client *client, uint64_t ino)
{
	static _Thread_local struct pml_client_handle handle;
	struct pml_client_attr root;
	int err = ino == PML_ROOT_INO ? pml_client_stat(client, "", &root)
				      : find_handle(client, "", ino, &handle);
	if (err)
		BAIL_OUT("no handle: %d %s", err, pml_client_reason(client));
	if (ino == PML_ROOT_INO)
		handle = root.handle;
	return &handle;
}

struct pml_wire_handle rig_wire_handle(struct rig *rig, uint64_t ino)
{
	struct pml_wire_handle handle;
	struct pml_client *client = rig_connect(rig);
	memcpy(&handle, rig_handle(client, ino)->opaque, sizeof(handle));
	pml_client_close(client);
	return handle;
}

struct pml_client_lease *rig_lease(struct pml_client *client, uint64_t ino, uint64_t first_byte,
				   uint64_t len_bytes, bool for_write)
{
	struct pml_client_lease *lease = NULL;
	int err = pml_client_lease(client, rig_handle(client, ino), first_byte, len_bytes,
				   for_write, 5000, &lease);
	if (err)
		BAIL_OUT("no lease: %d %s", err, pml_client_reason(client));
	return lease;
}

static bool wait_for(struct rig *rig, uint64_t count, bool is_sessions)
{
	for (int i = 0; i < 5000; i++) {
		struct pml_lease_stats stats;
		pml_lease_stats(rig->mgr, &stats);
		if ((is_sessions ? stats.sessions : stats.leases) == count)
			return true;
		usleep(1000);
	}
	return false;
}

bool rig_wait_leases(struct rig *rig, uint64_t count)
{
	return wait_for(rig, count, false);
}

bool rig_wait_sessions(struct rig *rig, uint64_t count)
{
	return wait_for(rig, count, true);
}

struct pml_ep *raw_connect(struct rig *rig)
{
	struct pml_ep *ep;
	char reason[PML_REASON_BYTES];
	if (pml_ep_connect(PML_TRANSPORT_SOFT, "127.0.0.1", rig->port, 5000, &ep, reason))
		BAIL_OUT("cannot connect: %s", reason);
	return ep;
}

int raw_send(struct pml_ep *ep, union pml_message *msg, size_t bytes, enum pml_wire_type type)
{
	pml_codec_header(&msg->h, type, bytes, 99);
	return pml_ep_send(ep, msg, bytes, 1000);
}

int raw_recv(struct pml_ep *ep, union pml_message *ret_msg, int timeout_ms)
{
	size_t bytes;
	return pml_ep_recv(ep, ret_msg, &bytes, timeout_ms);
}

void raw_hello(struct pml_ep *ep)
{
	union pml_message msg = {.hello = {.path_bytes = 0}};
	if (raw_send(ep, &msg, sizeof(msg.hello), PML_WIRE_HELLO) || raw_recv(ep, &msg, 5000) ||
	    msg.h.status)
		BAIL_OUT("no hello");
	msg = (union pml_message){.auth = {.proof = {0}}};
	if (raw_send(ep, &msg, sizeof(msg.auth), PML_WIRE_AUTH) || raw_recv(ep, &msg, 5000) ||
	    msg.h.status)
		BAIL_OUT("not let in");
}

void raw_close(struct pml_ep *ep)
{
	pml_ep_kill(ep);
	pml_ep_close(ep);
}

void fill_pattern(uint8_t *data, uint64_t ino, uint64_t first_byte, size_t bytes)
{
	for (size_t i = 0; i < bytes; i++)
		data[i] = pattern_at(ino, first_byte + i);
}

size_t count_wrong(const uint8_t *data, uint64_t ino, uint64_t first_byte, size_t bytes)
{
	size_t wrong = 0;
	for (size_t i = 0; i < bytes; i++)
		wrong += data[i] != pattern_at(ino, first_byte + i);
	return wrong;
}
