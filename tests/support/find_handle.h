/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * find_handle.h -- the handle of a file whose inode number a test knows from elsewhere
 */
#ifndef FIND_HANDLE_H
#define FIND_HANDLE_H

#include <errno.h>
#include <stdio.h>

#include "pmemleasefs/client.h"

struct find_handle {
	uint64_t ino;
	char name[256]; /* "": not found */
};

static inline bool find_handle_emit(void *arg, const char *name, uint64_t ino, mode_t type)
{
	struct find_handle *find = (struct find_handle *)arg;
	(void)type;
	if (ino == find->ino)
		snprintf(find->name, sizeof(find->name), "%s", name);
	return ino != find->ino;
}

/* Looks through the directory @dir alone ("": the root).  0, -ENOENT, or the client's error. */
static inline int find_handle(struct pml_client *client, const char *dir, uint64_t ino,
			      struct pml_client_handle *ret_handle)
{
	struct find_handle find = {.ino = ino};
	int err = pml_client_readdir(client, dir, find_handle_emit, &find);
	if (err)
		return err;
	char path[4096 + 256];
	snprintf(path, sizeof(path), "%s/%s", dir, find.name);
	struct pml_client_attr attr;
	err = find.name[0] ? pml_client_stat(client, path, &attr) : -ENOENT;
	if (!err)
		*ret_handle = attr.handle;
	return err;
}

#endif
