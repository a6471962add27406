/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * remote.c -- files that a remote client writes through leases and local programs read
 *
 * Nobody else writes them.  A block is 512 times the same word.  What a commit has said is
 * done must be seen by each local read from then on, and survive any crash; a write that
 * was never committed may have happened in part.
 */
#include "remote.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "perform.h"
#include "pmemleasefs/client.h"

#define FILES  3
#define BLOCKS 48u
#define OPEN   3 /* words that writes which were cut off may have left in a block */

struct block {
	uint64_t committed;
	uint64_t open[OPEN];
	int nopen;
};

static struct remote {
	uint64_t commits;
	uint64_t last_word;
	struct block block[FILES][BLOCKS];
} * remote; /* shared with the clients, of which there is one at a time */

static const char *path_of_file(int file)
{
	static char path[PATH_BYTES];
	snprintf(path, sizeof(path), "%s/remote/f%d", world->mount, file);
	return path;
}

bool remote_init(void)
{
	remote = mmap(NULL, sizeof(*remote), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
		      0);
	if (remote == MAP_FAILED)
		return false;
	for (int i = 0; i < FILES; i++) {
		int fd = open(path_of_file(i), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
		/* One whose size is there, others that commits make longer. */
		if (fd < 0 || (i == 0 && ftruncate(fd, BLOCKS * BLOCK) != 0))
			return false;
		close(fd);
	}
	return true;
}

uint64_t remote_commits(void)
{
	return remote->commits;
}

/* ---- reading ------------------------------------------------------------ */

static bool may_be(const struct block *block, uint64_t word)
{
	bool is_known = word == block->committed;
	for (int i = 0; i < block->nopen; i++)
		is_known = is_known || word == block->open[i];
	return is_known;
}

/* What is behind the end of the file reads as nothing, which stands for zeros. */
static void compare_blocks(int file, int fd, uint32_t first, uint32_t nblocks)
{
	static uint64_t words[BLOCKS * BLOCK / 8] __attribute__((aligned(4096)));
	memset(words, 0, nblocks * BLOCK);
	if (pread(fd, words, nblocks * BLOCK, (off_t)first * BLOCK) < 0) {
		complain("%s: %s", path_of_file(file), strerror(errno));
		return;
	}
	for (uint32_t i = 0; i < nblocks * BLOCK / 8; i++) {
		const struct block *block = &remote->block[file][first + i / (BLOCK / 8)];
		if (may_be(block, words[i]))
			continue;
		complain("%s: block %u has a word %lx, not %lx that was committed, nor one of %d "
			 "others",
			 path_of_file(file), first + i / (BLOCK / 8), (unsigned long)words[i],
			 (unsigned long)block->committed, block->nopen);
		return;
	}
}

void remote_check(void)
{
	for (int i = 0; i < FILES && !has_complained; i++) {
		int fd = open(path_of_file(i), O_RDONLY | O_CLOEXEC);
		if (fd < 0) {
			complain("%s: %s", path_of_file(i), strerror(errno));
			return;
		}
		compare_blocks(i, fd, 0, BLOCKS);
		close(fd);
	}
}

/* ---- writing ------------------------------------------------------------ */

static void fill(struct pml_client_buffer *buffer, uint32_t nblocks, uint64_t word)
{
	uint64_t *words = pml_client_buffer_data(buffer);
	for (uint32_t i = 0; i < nblocks * BLOCK / 8; i++)
		words[i] = word;
}

static int write_leased(struct pml_client_lease *lease, struct pml_client_buffer *buffer, int file,
			uint32_t first, uint32_t nblocks)
{
	struct block *block = &remote->block[file][first];
	uint64_t word = ++remote->last_word << 8 | 1;
	for (uint32_t i = 0; i < nblocks; i++)
		if (block[i].nopen == OPEN)
			return 0;
	for (uint32_t i = 0; i < nblocks; i++)
		block[i].open[block[i].nopen++] = word;
	fill(buffer, nblocks, word);
	uint64_t at = (uint64_t)first * BLOCK, bytes = (uint64_t)nblocks * BLOCK;
	int err = pml_client_write(lease, buffer, 0, at, bytes);
	if (!err)
		err = pml_client_commit(lease, at, bytes, at + bytes);
	if (err)
		return err;
	for (uint32_t i = 0; i < nblocks; i++)
		block[i] = (struct block){.committed = word};
	remote->commits++;
	return 0;
}

void remote_write_once(struct pml_client *client, struct pml_client_buffer *buffer,
		       unsigned int *seed)
{
	static int fd[FILES] = {-1, -1, -1}; /* stay open: with pages that get stale */
	struct pml_client_lease *lease = NULL;
	int file = rand_r(seed) % FILES;
	uint32_t first = (uint32_t)rand_r(seed) % BLOCKS;
	uint32_t nblocks = 1 + (uint32_t)rand_r(seed) % (REMOTE_BYTES / BLOCK);
	nblocks = first + nblocks > BLOCKS ? BLOCKS - first : nblocks;
	if (fd[file] < 0)
		fd[file] = open(path_of_file(file), O_RDONLY | O_CLOEXEC);
	struct pml_client_attr attr;
	if (fd[file] < 0 ||
	    pml_client_stat(client, path_of_file(file) + strlen(world->mount), &attr) ||
	    pml_client_lease(client, &attr.handle, (uint64_t)first * BLOCK,
			     (uint64_t)nblocks * BLOCK, true, 0, &lease) != 0)
		return;
	uint64_t leased = (pml_client_lease_end(lease) - (uint64_t)first * BLOCK) / BLOCK;
	nblocks = leased < nblocks ? (uint32_t)leased : nblocks;
	int err = nblocks ? write_leased(lease, buffer, file, first, nblocks) : EAGAIN;
	/* Before or after the lease's end: it makes no difference. */
	bool is_first = rand_r(seed) % 2;
	if (!err && is_first)
		compare_blocks(file, fd[file], first, nblocks);
	(void)pml_client_return(lease);
	if (!err && !is_first)
		compare_blocks(file, fd[file], first, nblocks);
}
