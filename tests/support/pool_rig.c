/* SPDX-License-Identifier: BSD-3-Clause */
/* pool_rig.c -- see pool_rig.h */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../rdma/transport.h"
#include "fs_check.h"
#include "pool_rig.h"
#include "tap.h"

static void on_name(void *arg, uint64_t dir_ino, const char *name)
{
	struct pool_rig_told *told = arg;
	pthread_mutex_lock(&told->lock);
	told->nnames++;
	snprintf(told->last_name, sizeof(told->last_name), "%s", name);
	pthread_mutex_unlock(&told->lock);
}

static void on_file(void *arg, uint64_t ino, uint64_t first_byte, uint64_t len_bytes)
{
	struct pool_rig_told *told = arg;
	pthread_mutex_lock(&told->lock);
	told->nfiles++;
	pthread_mutex_unlock(&told->lock);
}

void pool_rig_init(struct pool_rig *rig)
{
	pool_rig_init_sized(rig, FS_POOL_BYTES);
}

void pool_rig_init_sized(struct pool_rig *rig, uint64_t device_bytes)
{
	memset(rig, 0, sizeof(*rig));
	pml_soft_let_look(getenv("PML_TEST_LOOKS") != NULL);
	pthread_mutex_init(&rig->told.lock, NULL);
	fs_pool_make(&rig->pool, device_bytes);
	pml_lease_config_default(&rig->config, device_bytes);
	rig->config.ack_ms = 500;
	rig->config.drain_ms = 1500;
	rig->config.term_ms = 20000;
	struct pml_inode *root = fs_pool_root(&rig->pool);
	const struct stat attr = {.st_mode = 0777};
	if (pml_inode_set(root, PML_SET_MODE, &attr))
		BAIL_OUT("chmod of the root");
	pml_inode_put(root, 1);
}

void pool_rig_start(struct pool_rig *rig)
{
	if (pml_lease_manager_new(rig->pool.fs, &rig->config, NULL, &rig->mgr))
		BAIL_OUT("no lease manager");
}

static void url_of(const struct pml_server *server, char *ret_url, size_t bytes)
{
	snprintf(ret_url, bytes, "soft://127.0.0.1:%u", pml_server_port(server));
}

static struct pml_client *connect_to(const struct pml_server *server, int timeout_ms)
{
	struct pml_client *client;
	char reason[PML_REASON_BYTES];
	char url[64];
	url_of(server, url, sizeof(url));
	if (pml_client_connect(url, timeout_ms, &client, reason))
		BAIL_OUT("cannot connect: %s", reason);
	return client;
}

static void start_server(struct pool_rig *rig, unsigned int n)
{
	char reason[PML_REASON_BYTES];
	if (pml_server_start(&rig->args[n], &rig->servers[n], reason))
		BAIL_OUT("no server: %s", reason);
}

struct pml_client *pool_rig_user(struct pool_rig *rig, uid_t uid, gid_t gid, bool is_read_only)
{
	static gid_t groups[POOL_RIG_USERS];
	if (rig->nusers == POOL_RIG_USERS)
		BAIL_OUT("too many users");
	unsigned int n = rig->nusers++;
	groups[n] = gid + 1;
	rig->args[n] = (struct pml_server_args){
		.fs = rig->pool.fs,
		.leases = rig->mgr,
		.is_soft = true,
		.host = "127.0.0.1",
		.port = "0",
		.access = rig->access,
		.client_cred = {.uid = uid, .gid = gid, .groups = &groups[n], .ngroups = 1},
		.is_read_only = is_read_only,
		.hooks = {.name_changed = on_name, .file_changed = on_file, .arg = &rig->told},
	};
	start_server(rig, n);
	rig->clients[n] = connect_to(rig->servers[n], 10000);
	return rig->clients[n];
}

static unsigned int number_of(const struct pool_rig *rig, const struct pml_client *client)
{
	for (unsigned int i = 0; i < rig->nusers; i++)
		if (rig->clients[i] == client)
			return i;
	BAIL_OUT("not a client of the rig");
}

static const struct pml_server *server_of(const struct pool_rig *rig,
					  const struct pml_client *client)
{
	return rig->servers[number_of(rig, client)];
}

void pool_rig_restart(struct pool_rig *rig, const struct pml_client *client)
{
	unsigned int n = number_of(rig, client);
	char port[16];
	snprintf(port, sizeof(port), "%u", pml_server_port(rig->servers[n]));
	pml_server_stop(rig->servers[n]);
	rig->args[n].port = port;
	start_server(rig, n);
	rig->args[n].port = "0";
}

struct pml_client *pool_rig_again(struct pool_rig *rig, const struct pml_client *client,
				  int timeout_ms)
{
	return connect_to(server_of(rig, client), timeout_ms);
}

static void exchange(struct pml_ep *ep, union pml_message *msg, size_t bytes,
		     enum pml_wire_type type, uint32_t request_id)
{
	pml_codec_header(&msg->h, type, bytes, request_id);
	size_t got;
	if (pml_ep_send(ep, msg, bytes, 5000) || pml_ep_recv(ep, msg, &got, 5000) || msg->h.status)
		BAIL_OUT("not let in");
}

struct pml_ep *pool_rig_raw(struct pool_rig *rig, const struct pml_client *client,
			    const uint8_t client_id[PML_WIRE_CLIENT_ID_BYTES], uint32_t request_id)
{
	struct pml_ep *ep;
	char reason[PML_REASON_BYTES];
	char port[16];
	snprintf(port, sizeof(port), "%u", pml_server_port(server_of(rig, client)));
	if (pml_ep_connect(PML_TRANSPORT_SOFT, "127.0.0.1", port, 5000, &ep, reason))
		BAIL_OUT("cannot connect: %s", reason);
	union pml_message msg = {.hello = {.path_bytes = 0}};
	memcpy(msg.hello.client_id, client_id, PML_WIRE_CLIENT_ID_BYTES);
	exchange(ep, &msg, sizeof(msg.hello), PML_WIRE_HELLO, request_id);
	msg = (union pml_message){.auth = {.proof = {0}}};
	exchange(ep, &msg, sizeof(msg.auth), PML_WIRE_AUTH, request_id + 1);
	return ep;
}

void pool_rig_stop(struct pool_rig *rig)
{
	const struct pml_soft_faults none = {0};
	pml_soft_set_faults(&none);
	for (unsigned int i = 0; i < rig->nusers; i++) {
		pml_client_close(rig->clients[i]);
		pml_server_stop(rig->servers[i]);
	}
	pml_access_free(rig->access);
	CHECK_EQ(pml_lease_manager_free(rig->mgr), 0);
	struct pml_fs_counts counts;
	pml_fs_counts(rig->pool.fs, &counts);
	CHECK_EQ(counts.pins, 0);
	CHECK_STR(fs_check(rig->pool.fs), "");
	fs_pool_remove(&rig->pool);
	pthread_mutex_destroy(&rig->told.lock);
}
