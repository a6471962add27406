/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fuse_private.h -- what the files of the front end share; the only include of libfuse
 *
 *   fuse.c        mount, threads, unmount
 *   fuse_ops.c    names, attributes, directories
 *   fuse_ioctl.c  ioctls: who may, and what is answered at once
 *   fuse_calls.c  ioctls that change files: run like other operations, answered when
 *                 the kernel's pages are up to date
 *   fuse_tokens.c what stands for an open file in an ioctl on another (without libfuse)
 *   fuse_data.c   file contents
 *   fuse_xattr.c  extended attributes
 *   fuse_io.c     reading and writing /dev/fuse
 *   fuse_jobs.c   operations that can wait for a lease
 *   fuse_loop.c   the threads that take requests
 *   fuse_nodes.c  the inodes that the kernel knows (without libfuse)
 *   fuse_opens.c  the open file descriptions that the kernel knows
 */
#ifndef PML_FUSE_PRIVATE_H
#define PML_FUSE_PRIVATE_H

#define FUSE_USE_VERSION 314
#include <fcntl.h>
#include <fuse_lowlevel.h>
#include <linux/fuse.h>
#include <pthread.h>
#include <stdatomic.h>

#include "fuse_nodes.h"
#include "fuse_tokens.h"
#include "pml/base.h"
#include "pml/fs.h"
#include "pml/fuse.h"
#include "pml/guard.h"
#include "pml/list.h"
#include "pmemleasefs/ioctl.h"

#define PML_FUSE_RERUN_THREADS 2
/* More than one, because the kernel may keep a teller until a page is unlocked. */
#define PML_FUSE_TELL_THREADS 4

/* More than one, because the kernel may keep one until a page is unlocked. */
#define PML_FUSE_ANSWER_THREADS 2

/* Parked operations that may run again.  Guarded by lock. */
struct pml_fuse_jobs {
	pthread_mutex_t lock;
	pthread_cond_t wake;	/* ready or is_stopping changed */
	pthread_cond_t drained; /* nalive became 0 */
	struct pml_list ready;	/* to run again */
	uint32_t nalive;	/* ready, parked or running */
	uint32_t nthreads;	/* started */
	bool is_stopping;
	pthread_t threads[PML_FUSE_RERUN_THREADS];
};

/* Calls that are done and not answered yet.  Guarded by lock. */
struct pml_fuse_answers {
	pthread_mutex_t lock;
	pthread_cond_t wake; /* ready, has_new_token or is_stopping changed */
	pthread_cond_t idle; /* nopen became 0 */
	uint32_t nopen;	     /* calls of pml_fuse_open_ops, ready or running */
	struct pml_list ready;
	bool has_new_token; /* since somebody last looked how old they are */
	bool is_stopping;
	uint32_t nthreads; /* started */
	pthread_t threads[PML_FUSE_ANSWER_THREADS];
};

#define PML_FUSE_OPEN_BUCKETS 1024u

/* Open file descriptions of regular files, by id.  Guarded by lock. */
struct pml_fuse_opens {
	pthread_mutex_t lock;
	uint64_t last_id;
	struct pml_list buckets[PML_FUSE_OPEN_BUCKETS];
};

struct pml_fuse {
	/* Constant from pml_fuse_mount() on. */
	struct pml_fs *fs;
	struct fuse_session *session;
	struct pml_fuse_nodes *nodes;
	struct pml_fuse_ioctl_ops ioctl;
	struct pml_fuse_open_ops open_ops;
	char *mountpoint;
	uid_t owner;
	enum pml_atime atime;
	enum pml_atime dir_atime;

	/* The filesystem's; set before the first request is served. */
	const struct pml_guard_ops *guard_ops; /* NULL: nothing is ever in the way */
	void *guard;

	struct pml_fuse_jobs jobs;
	pthread_t tellers[PML_FUSE_TELL_THREADS];
	uint32_t ntellers; /* started */

	_Atomic uint64_t init_unique; /* of the FUSE_INIT whose answer is to be changed; 0: none */
	struct pml_fuse_tokens *tokens;
	struct pml_fuse_answers answers;
	struct pml_fuse_opens opens;
};

/* ---- fuse_io.c ---------------------------------------------------------- */

/* The name of a file that is made without one. */
#define PML_FUSE_NO_NAME "/"

/* Of a session that is mounted and has served nothing. */
int pml_fuse_take_io(struct pml_fuse *fuse) PML_MUST_CHECK;
/* For the loop (fuse_loop.h); @fuse: a struct pml_fuse. */
ssize_t pml_fuse_read_request(int fd, void *buffer, size_t bytes, void *fuse);
bool pml_fuse_answer_statx(void *fuse, const void *request, size_t bytes);

/* ---- fuse_ops.c --------------------------------------------------------- */

extern const struct fuse_lowlevel_ops pml_fuse_ops;

/* The inode that a request names, with a reference; NULL: the request was answered. */
struct pml_inode *pml_fuse_hold(fuse_req_t req, fuse_ino_t ino) PML_MUST_CHECK;

static inline struct pml_fuse *pml_fuse_of(fuse_req_t req)
{
	return fuse_req_userdata(req);
}

/* Answers with 0 or a negative errno value. */
static inline void pml_fuse_reply_err(fuse_req_t req, int err)
{
	(void)fuse_reply_err(req, -err);
}

/* ---- fuse_opens.c ------------------------------------------------------- */

/*
 * What the handle of an open regular file points to: one for each open(2).  It lives from
 * the answer to the open to the request that releases it, which the kernel sends when it
 * has the answers of all others; so who has answered does not touch it any more.
 */
struct pml_fuse_handle {
	struct pml_list link; /* in its bucket */
	/* The kernel keeps an inode that it has open, and the node table its reference. */
	struct pml_inode *inode;
	uint64_t id;
	unsigned int rights;		/* PML_FUSE_CAN_: an ioctl request does not say */
	_Atomic bool is_used;		/* pml_fuse_open_ops knows its id */
	struct fuse_pollhandle *poller; /* who wants to be woken, or NULL; under opens.lock */
};

void pml_fuse_opens_init(struct pml_fuse_opens *opens);
/* Frees what nobody has released. */
void pml_fuse_opens_fini(struct pml_fuse_opens *opens);

/* Sets fi->fh.  0, or -ENOMEM. */
int pml_fuse_handle_new(struct pml_fuse *fuse, struct pml_inode *inode,
			struct fuse_file_info *fi) PML_MUST_CHECK;
/* For an open whose answer the kernel did not take. */
void pml_fuse_handle_drop(struct pml_fuse *fuse, const struct fuse_file_info *fi);

static inline struct pml_fuse_handle *pml_fuse_handle_of(const struct fuse_file_info *fi)
{
	return (struct pml_fuse_handle *)(uintptr_t)fi->fh;
}

static inline struct pml_inode *pml_fuse_inode_of(const struct fuse_file_info *fi)
{
	return pml_fuse_handle_of(fi)->inode;
}

/* For pml_fuse_op.open_id: 0 if no session can be behind it. */
static inline uint64_t pml_fuse_open_id(const struct fuse_file_info *fi)
{
	const struct pml_fuse_handle *handle = fi ? pml_fuse_handle_of(fi) : NULL;
	return handle && handle->is_used ? handle->id : 0;
}

void pml_fuse_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void pml_fuse_poll(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi,
		   struct fuse_pollhandle *poller);

/* ---- fuse_ioctl.c -------------------------------------------------------- */

void pml_fuse_ioctl(fuse_req_t req, fuse_ino_t ino, unsigned int cmd, void *arg,
		    struct fuse_file_info *fi, unsigned int flags, const void *in, size_t in_bytes,
		    size_t out_bytes);

/* ---- fuse_calls.c -------------------------------------------------------- */

/* An ioctl that changes files, or waits for them. */
struct pml_fuse_call {
	struct pml_list link; /* on answers->ready */
	struct pml_fuse *fuse;
	fuse_req_t req;
	unsigned int cmd;
	int err;				     /* what it came to */
	struct pml_inode *inode;		     /* a reference; what the call is made on */
	struct pml_inode *other[PML_IOC_DEDUPE_MAX]; /* references; what its tokens name */
	uint32_t nother;
	uint32_t next; /* of other: where a rerun goes on */
	uint32_t nruns;
	bool has_changed; /* the inode's contents */
	bool is_of_open;  /* one of pml_fuse_open_ops, not run yet */
	struct pml_fuse_open open;
	union {
		struct pml_ioc_clone clone;
		struct pml_ioc_dedupe dedupe;
		struct pml_ioc_range range;
		struct pml_ioc_snapshot snapshot;
		struct pml_ioc_relocate relocate;
		struct pml_ioc_lease_commit commit; /* the largest of pml_fuse_open_ops.may_tell */
		char bytes[1];
	} data;
};

/* Does it change what is in the file that it is made on? */
bool pml_fuse_call_is_content(const struct pml_fuse_call *call) PML_MUST_CHECK;
int pml_fuse_call_run(struct pml_fuse_call *call, struct pml_waiter *w) PML_MUST_CHECK;
/* Takes over the call: the request is answered by a thread of its own. */
void pml_fuse_call_answer(struct pml_fuse_call *call, int err);
/* Drops the references. */
void pml_fuse_call_free(struct pml_fuse_call *call);

int pml_fuse_answers_init(struct pml_fuse *fuse) PML_MUST_CHECK;
/* Returns when no call of pml_fuse_open_ops runs.  Assumes: nobody makes new ones. */
void pml_fuse_answers_drain(struct pml_fuse_answers *answers);
/* A token was given: it is dropped when it is too old, even if nothing else happens. */
void pml_fuse_answers_note_token(struct pml_fuse_answers *answers);
/* Answers what is left, and stops the threads. */
void pml_fuse_answers_fini(struct pml_fuse *fuse);

/* ---- fuse_jobs.c -------------------------------------------------------- */

enum pml_fuse_op_kind {
	PML_FUSE_SETATTR,
	PML_FUSE_WRITE,
	PML_FUSE_ALLOCATE,
	PML_FUSE_CLONE,
	PML_FUSE_CALL, /* an ioctl: fuse_calls.c */
};

struct pml_fuse_call;

/* One request that may change a layout, with all that running it again takes. */
struct pml_fuse_op {
	enum pml_fuse_op_kind kind;
	struct pml_fuse *fuse;
	fuse_req_t req;
	struct pml_inode *inode; /* a reference; what is changed */
	struct pml_inode *src;	 /* a reference; of a clone, else NULL */
	uint64_t open_id;	 /* of the description that it is made through, or 0 */
	uint64_t src_open_id;	 /* the same of src */

	/* Progress, kept from run to run. */
	uint64_t done_bytes;
	bool is_truncated;

	uint64_t first_byte;
	uint64_t len_bytes;
	uint64_t src_byte;
	int mode;	     /* of fallocate */
	unsigned int to_set; /* of setattr: FUSE_SET_ATTR_ */
	struct stat attr;
	const void *data; /* of a write; a job's own copy, else the request's */
	bool is_append;
	bool is_page;		    /* a page of a mapping that the kernel writes back */
	bool is_sync;		    /* durable when it is answered */
	struct pml_fuse_call *call; /* of an ioctl */
};

/*
 * Runs the operation and answers the request, now or when leases have ended.  Takes
 * over the references.  The caller's @op is not used after the call.
 */
void pml_fuse_op_start(struct pml_fuse_op *op);

int pml_fuse_jobs_init(struct pml_fuse_jobs *jobs) PML_MUST_CHECK;
/* Waits until every job has been answered and stops the threads.  -ETIMEDOUT: some has not. */
int pml_fuse_jobs_fini(struct pml_fuse_jobs *jobs, unsigned int timeout_s) PML_MUST_CHECK;

/* ---- fuse_data.c -------------------------------------------------------- */

/* Runs it from its start, or from the progress that it made.  @w: NULL: cannot wait. */
int pml_fuse_op_run(struct pml_fuse_op *op, struct pml_waiter *w) PML_MUST_CHECK;
void pml_fuse_op_reply(const struct pml_fuse_op *op, int err);

void pml_fuse_setattr(fuse_req_t req, fuse_ino_t ino, struct stat *attr, int to_set,
		      struct fuse_file_info *fi);
void pml_fuse_open_file(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void pml_fuse_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
		   struct fuse_file_info *fi);
void pml_fuse_write(fuse_req_t req, fuse_ino_t ino, const char *data, size_t size, off_t off,
		    struct fuse_file_info *fi);
void pml_fuse_fsync(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi);
void pml_fuse_fallocate(fuse_req_t req, fuse_ino_t ino, int mode, off_t offset, off_t length,
			struct fuse_file_info *fi);
void pml_fuse_copy_file_range(fuse_req_t req, fuse_ino_t ino_in, off_t off_in,
			      struct fuse_file_info *fi_in, fuse_ino_t ino_out, off_t off_out,
			      struct fuse_file_info *fi_out, size_t len, int flags);
void pml_fuse_lseek(fuse_req_t req, fuse_ino_t ino, off_t off, int whence,
		    struct fuse_file_info *fi);

/* How an open file, whose handle is set, is to be treated by the kernel. */
void pml_fuse_open_flags(struct pml_fuse *fuse, struct fuse_file_info *fi);

/* ---- fuse_xattr.c ------------------------------------------------------- */

/*
 * The caller of a request.  Its groups are loaded into *ret_groups, to be freed, if
 * @with_groups; a process that is gone has none.
 */
struct pml_cred pml_fuse_caller(fuse_req_t req, bool with_groups, gid_t **ret_groups);

void pml_fuse_getxattr(fuse_req_t req, fuse_ino_t ino, const char *name, size_t size);
void pml_fuse_listxattr(fuse_req_t req, fuse_ino_t ino, size_t size);
void pml_fuse_setxattr(fuse_req_t req, fuse_ino_t ino, const char *name, const char *value,
		       size_t size, int flags);
void pml_fuse_removexattr(fuse_req_t req, fuse_ino_t ino, const char *name);

/*
 * Seconds that the kernel may trust names, missing names and attributes without asking: it
 * changes them itself, or is told (pml_fuse_tell()).
 */
#define PML_FUSE_TIMEOUT_S 3600.0

#endif
