/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * remotefs_private.h -- what the files of the mounted client share; its only include of libfuse
 *
 *   remotefs.c        options, mount, threads, unmount
 *   remotefs_nodes.c  the files that the kernel knows
 *   remotefs_names.c  names and attributes
 *   remotefs_data.c   contents
 *
 * An inode has its number of the server, but the root, which is 1 (FUSE_ROOT_ID); the server's
 * number 1 is the root of its whole filesystem, and so nobody else's.
 *
 * Threads: libfuse's workers run everything.  Lock order: an open file's io, a node's lock; the
 * table's lock is taken with neither.  Requests are made with io alone.
 */
#ifndef PML_TOOLS_REMOTEFS_PRIVATE_H
#define PML_TOOLS_REMOTEFS_PRIVATE_H

#define FUSE_USE_VERSION 314
#include <fuse_lowlevel.h>
#include <pthread.h>

#include "pml/base.h"
#include "pml/list.h"
#include "pmemleasefs/client.h"

#define PML_REMOTE_BUCKETS 4096u
/* Bytes of one request of the kernel, at most. */
#define PML_REMOTE_IO_BYTES ((size_t)1 << 20)
/* Directories above a file whose handle is looked up again, at most. */
#define PML_REMOTE_DEPTH_MAX 256u

/*
 * A file or directory that the kernel has looked up and not forgotten.
 * Constant: ino.  Under the table's lock: link, nlookups, parent, name.  Under its own: the rest.
 */
struct pml_remote_node {
	struct pml_list link; /* in its bucket */
	uint64_t ino;	      /* the kernel's */
	uint64_t generation;  /* under its lock */
	uint64_t nlookups;

	/* Where it was seen last: to look it up again when the server has forgotten its handles. */
	struct pml_remote_node *parent; /* holds a look-up of it; NULL: the root, or no name */
	char *name;
	struct pml_list by_name; /* in the bucket of parent and name */

	pthread_mutex_t lock;
	struct pml_client_handle handle;
	uint32_t nopens;
	bool is_hidden; /* deleted while open: its last close takes its name away */
	/* For what was written through any description; NULL: none is open. */
	struct pml_client_file *file;
};

struct pml_remotefs {
	struct pml_client *client;
	struct fuse_session *session;
	char *url;
	char *path; /* of the export on the server, "" for its root */
	char *mountpoint;
	double attr_s;	/* how long the kernel may keep attributes */
	double entry_s; /* and names */

	pthread_mutex_t lock; /* the table's */
	struct pml_list buckets[PML_REMOTE_BUCKETS];
	struct pml_list names[PML_REMOTE_BUCKETS];
	uint64_t nhidden; /* numbers for names of hidden files */
	struct pml_remote_node *root;
};

static inline struct pml_remotefs *pml_remotefs_of(fuse_req_t req)
{
	return fuse_req_userdata(req);
}

/* Answers with 0 or a negative errno value; what no program expects becomes EIO. */
void pml_remote_reply_err(fuse_req_t req, int err);

/* ---- remotefs_nodes.c --------------------------------------------------- */

int pml_remote_nodes_init(struct pml_remotefs *fs,
			  const struct pml_client_attr *root) PML_MUST_CHECK;
void pml_remote_nodes_fini(struct pml_remotefs *fs);

/* The node of a number that the kernel knows. */
struct pml_remote_node *pml_remote_node(struct pml_remotefs *fs, fuse_ino_t ino);

/*
 * The kernel is about to be told of @name in @parent: one more look-up of its node, which is
 * made if it is not there.  -ENOMEM.
 */
int pml_remote_node_seen(struct pml_remotefs *fs, struct pml_remote_node *parent, const char *name,
			 const struct pml_client_attr *attr,
			 struct pml_remote_node **ret_node) PML_MUST_CHECK;
/* The kernel has forgotten @count look-ups. */
void pml_remote_node_forget(struct pml_remotefs *fs, uint64_t ino, uint64_t count);
/* What was seen as @name in @from is now @new_name in @to; or they have changed places. */
void pml_remote_node_moved(struct pml_remotefs *fs, struct pml_remote_node *from, const char *name,
			   struct pml_remote_node *to, const char *new_name, bool is_exchange);

/*
 * Is what was seen last as @name in @dir open?  Then it gets a look-up more, for
 * pml_remote_node_forget(); else NULL.
 */
struct pml_remote_node *pml_remote_node_open_as(struct pml_remotefs *fs,
						const struct pml_remote_node *dir,
						const char *name);
/* A copy of the name of @node, and the directory that has it with a look-up more.  -ENOENT. */
int pml_remote_node_place(struct pml_remotefs *fs, struct pml_remote_node *node,
			  struct pml_remote_node **ret_dir, char **ret_name) PML_MUST_CHECK;

/* The handle as it is now. */
struct pml_client_handle pml_remote_handle(struct pml_remote_node *node);

/*
 * The server did not take @node's handle (-ESTALE): it may have been mounted again.  Looks
 * the names above up again; 0: try again with the new handle; -ESTALE: it is another file now.
 */
int pml_remote_node_again(struct pml_remotefs *fs, struct pml_remote_node *node) PML_MUST_CHECK;

/* ---- remotefs_names.c --------------------------------------------------- */

void pml_remote_names_ops(struct fuse_lowlevel_ops *ops);

/* Takes away the name that a deleted file was hidden under. */
void pml_remote_unhide(struct pml_remotefs *fs, struct pml_remote_node *node);
/* Attributes as the kernel gets them: with the size that this client has made. */
void pml_remote_stat(struct pml_remotefs *fs, struct pml_remote_node *node,
		     const struct pml_client_attr *attr, struct stat *ret_stat);

/* ---- remotefs_data.c ---------------------------------------------------- */

void pml_remote_data_ops(struct fuse_lowlevel_ops *ops);

/* One more description of a file; sets fi->fh.  -ENOMEM. */
int pml_remote_open(struct pml_remotefs *fs, struct pml_remote_node *node,
		    struct fuse_file_info *fi) PML_MUST_CHECK;
/* Commits; tells of what was lost. */
int pml_remote_close(struct fuse_file_info *fi) PML_MUST_CHECK;
/* The call that opened it was interrupted: no release comes. */
void pml_remote_abandon(struct fuse_file_info *fi);
/* Makes durable and visible what was written through any description. */
int pml_remote_commit(struct pml_remotefs *fs, struct pml_remote_node *node) PML_MUST_CHECK;
/* The same, and gives back the leases behind @first_byte: the file is going to end there. */
int pml_remote_give_up(struct pml_remotefs *fs, struct pml_remote_node *node,
		       uint64_t first_byte) PML_MUST_CHECK;
/* How far the file reaches by what is written and not committed; 0: nothing is. */
uint64_t pml_remote_written_end(struct pml_remotefs *fs, struct pml_remote_node *node);

#endif
