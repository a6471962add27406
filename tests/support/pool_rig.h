/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * pool_rig.h -- servers for several users over the software fabric, on a real filesystem
 *
 * One pool in memory, one lease manager, and for each user a server of its own, since a server
 * takes all its clients for one user; or several addresses of one service (access).
 */
#ifndef POOL_RIG_H
#define POOL_RIG_H

#include <pthread.h>

#include "../../rdma/codec.h"
#include "fs_pool.h"
#include "pmemleasefs/client.h"
#include "pml/lease.h"
#include "pml/rdma.h"

#define POOL_RIG_USERS 6

/* What the servers' hooks were told. */
struct pool_rig_told {
	pthread_mutex_t lock;
	unsigned int nnames;
	unsigned int nfiles;
	char last_name[PML_NAME_BYTES_MAX + 1];
};

struct pool_rig {
	struct fs_pool pool;
	struct pml_lease_config config;
	struct pml_lease_manager *mgr;
	struct pml_server_args args[POOL_RIG_USERS];
	struct pml_server *servers[POOL_RIG_USERS];
	struct pml_client *clients[POOL_RIG_USERS];
	unsigned int nusers;
	/* Of all servers together, made by the test; NULL: each has its own. */
	struct pml_access *access;
	struct pool_rig_told told;
};

/* Makes the pool, whose root anybody may write to; short clocks. */
void pool_rig_init(struct pool_rig *rig);
/* The same, on a device of that size. */
void pool_rig_init_sized(struct pool_rig *rig, uint64_t device_bytes);
/* Begins to lend, by rig->config. */
void pool_rig_start(struct pool_rig *rig);
/*
 * A client of a server of its own, for a user and the two groups @gid and @gid + 1.  It is
 * closed by the end of the rig.
 */
struct pml_client *pool_rig_user(struct pool_rig *rig, uid_t uid, gid_t gid, bool is_read_only);
/* Its server ends and comes again, at the same port, as after a new mount. */
void pool_rig_restart(struct pool_rig *rig, const struct pml_client *client);
/* Another client of the same user, whose requests may take @timeout_ms. */
struct pml_client *pool_rig_again(struct pool_rig *rig, const struct pml_client *client,
				  int timeout_ms);
/* A raw connection to the server of a client, behind hello and auth. */
struct pml_ep *pool_rig_raw(struct pool_rig *rig, const struct pml_client *client,
			    const uint8_t client_id[PML_WIRE_CLIENT_ID_BYTES], uint32_t request_id);
/* Stops all and checks the filesystem: sound, and no pin is left. */
void pool_rig_stop(struct pool_rig *rig);

#endif
