/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * leaser.c -- a remote client that takes leases on the files that others work on
 *
 * It finds files by the inode numbers in the model, holds a few read leases for some
 * milliseconds, reads through them, and gives them back when they are recalled (the
 * library does): so truncations, punches and copies meet leases.  Whatever it is refused
 * is no concern of the run.  Between, it writes files of its own (remote.h).
 */
#include "leaser.h"

#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "perform.h"
#include "pmemleasefs/client.h"
#include "remote.h"

#define HELD 4

static _Atomic uint64_t *granted; /* shared with the processes that take them */

void leaser_init(void)
{
	granted = mmap(NULL, sizeof(*granted), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
		       -1, 0);
	if (granted == MAP_FAILED)
		abort();
}

uint64_t leaser_granted(void)
{
	return *granted;
}

/* A file's attributes.  The model changes meanwhile; a wrong one does no harm. */
static bool find_file(struct pml_client *client, unsigned int *seed,
		      struct pml_client_attr *ret_attr)
{
	int tree = rand_r(seed) % (world->nworkers + 1);
	int node = rand_r(seed) % NODES;
	int dir, name;
	tree = tree == world->nworkers ? SHARED_TREE : tree;
	if (!S_ISREG(node_of(tree, node)->type))
		return false;
	name_of_node(tree, node, &dir, &name);
	if (dir == NODE_NONE)
		return false;
	const char *path = path_of(tree, dir, name) + strlen(world->mount);
	return pml_client_stat(client, path, ret_attr) == 0 && S_ISREG(ret_attr->mode);
}

static void lease_one(struct pml_client *client, struct pml_client_buffer *buffer,
		      unsigned int *seed, struct pml_client_lease **lease)
{
	uint64_t first = (uint64_t)(rand_r(seed) % 64) * BLOCK;
	struct pml_client_attr attr;
	if (*lease)
		(void)pml_client_return(*lease);
	*lease = NULL;
	if (!find_file(client, seed, &attr) ||
	    pml_client_lease(client, &attr.handle, first, 16 * BLOCK, false, 0, lease) != 0)
		return;
	atomic_fetch_add(granted, 1);
	uint64_t bytes = pml_client_lease_end(*lease) - first;
	(void)pml_client_read(*lease, buffer, 0, first, bytes < 16 * BLOCK ? bytes : 16 * BLOCK);
}

static void leaser_main(const char *url)
{
	struct pml_client *client;
	struct pml_client_buffer *buffer;
	struct pml_client_lease *lease[HELD] = {NULL};
	unsigned int seed = (unsigned int)(world->seed + *granted);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	is_quiet = world->may_die;
	if (pml_client_connect(url, 5000, &client, NULL) != 0 ||
	    pml_client_buffer_new(client, 16 * BLOCK, &buffer) != 0)
		_exit(1);
	while (!world->must_stop) {
		for (int i = 0; i < HELD; i++)
			lease_one(client, buffer, &seed, &lease[i]);
		remote_write_once(client, buffer, &seed);
		/* A death of the daemon shows in any way. */
		if (has_complained && !(world->may_die && is_dead())) {
			complain_now();
			world->has_leaser_failed = true;
			world->must_stop = true;
		}
		usleep(2000);
	}
	_exit(0);
}

pid_t leaser_start(const char *url)
{
	pid_t pid = fork();
	if (pid == 0)
		leaser_main(url);
	return pid;
}

void leaser_stop(pid_t pid)
{
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
}
