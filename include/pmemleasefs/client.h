/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * client.h -- client library: files of a pmemleasefs server by one-sided RDMA
 *
 * A client connects, looks a file up, takes a lease on a range and then reads
 * or writes the file's bytes with one-sided operations that no server thread
 * takes part in.  When the server needs the range back it recalls the lease:
 * the library answers at once, waits for the transfers in flight and returns
 * the lease by itself (pml_client_set_events() to do it yourself).
 *
 * Threads: one client handle may be used from several threads at a time, as may its leases;
 * what is different is said at the call.  Transfers of several threads run side by side and
 * share the connection fairly.  Recalls are handled on a thread of the library.  A child
 * after fork(2) uses no client of its parent.
 *
 * All functions return 0 or a negative errno value.  pml_client_reason() says
 * in words why the last one failed.  The ones that stand for a lease:
 *   -ESTALE     the lease was recalled and returned: take it again
 *   -EKEYREVOKED the server revoked it: bytes of a transfer in flight are undefined
 *   -ENOTCONN   the connection is gone, and with it every lease: reconnect
 */
#ifndef PMEMLEASEFS_CLIENT_H
#define PMEMLEASEFS_CLIENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

#ifdef __cplusplus
extern "C" {
#endif

struct pml_client;
struct pml_client_lease;
struct pml_client_buffer;
struct pml_client_queue;

/*
 * Stands for a file or directory of the server.  Opaque: only the server makes one, and only
 * for the client that it shows the attributes to; worthless once the server was mounted again
 * (-ESTALE: look the path up again).
 */
struct pml_client_handle {
	uint64_t opaque[4];
};

struct pml_client_attr {
	struct pml_client_handle handle;
	uint64_t ino;
	uint64_t generation;
	uint64_t size_bytes;
	uint64_t blocks_512;
	int64_t atime_s;
	int64_t mtime_s;
	int64_t ctime_s;
	uint32_t atime_ns;
	uint32_t mtime_ns;
	uint32_t ctime_ns;
	uint32_t mode;
	uint32_t nlink;
	uint32_t uid;
	uint32_t gid;
	uint32_t rdev_major;
	uint32_t rdev_minor;
};

/*
 * pml_client_connect() - open a session
 * @url: "rdma://HOST:PORT[/PATH]" or "soft://HOST:PORT[/PATH]"; the path is left to the caller
 * @timeout_ms: how long the server may take, now and for each later request; 0: 30000.
 *              A server that does not answer in time is given up: -ETIMEDOUT, then -ENOTCONN
 * @ret_reason: NULL, or at least 256 bytes for an explanation
 */
int pml_client_connect(const char *url, int timeout_ms, struct pml_client **ret_client,
		       char *ret_reason);
/*
 * Returns all leases, ends the session, frees everything: leases, buffers and queues too.
 * Files must be closed before.
 * Not from a callback; no other thread uses the client or anything of it any more.
 */
void pml_client_close(struct pml_client *client);
/* Why the last call of this thread on this client failed; valid until its next call. */
const char *pml_client_reason(struct pml_client *client);

/* @path: from the root of the filesystem; "" and "/" are the root. */
int pml_client_stat(struct pml_client *client, const char *path, struct pml_client_attr *ret_attr);
int pml_client_create(struct pml_client *client, const char *path, mode_t mode, bool exclusive,
		      struct pml_client_attr *ret_attr);
/* Calls @emit for each entry until it returns false. */
int pml_client_readdir(struct pml_client *client, const char *path,
		       bool (*emit)(void *arg, const char *name, uint64_t ino, mode_t type),
		       void *arg);

/* ---- leases ------------------------------------------------------------- */

/* Called on the library's thread when a lease is recalled or revoked. */
struct pml_client_events {
	/*
	 * Return true: the library drains and returns the lease (the default).  False: the
	 * caller will, by pml_client_return(), before @drain_ms are over (0: the server sets
	 * no limit yet; it calls again when it does).
	 */
	bool (*recalled)(void *arg, struct pml_client_lease *lease, uint32_t drain_ms);
	void (*revoked)(void *arg, struct pml_client_lease *lease, const char *reason);
	void *arg;
	bool is_silent; /* do not even acknowledge recalls (to play a bad client) */
};
void pml_client_set_events(struct pml_client *client, const struct pml_client_events *events);

/*
 * pml_client_lease() - take a lease
 * @wait_ms: how long to ask again while the range is busy (-EAGAIN); then -EAGAIN
 * May cover less than asked: see pml_client_lease_end().
 */
int pml_client_lease(struct pml_client *client, const struct pml_client_handle *file,
		     uint64_t first_byte, uint64_t len_bytes, bool for_write, int wait_ms,
		     struct pml_client_lease **ret_lease);

/*
 * pml_client_lease_with() - take a lease of a kind of its own
 * @kind: PML_CLIENT_ bits
 *
 * Shared: beside leases of others that asked for it too, for reading and writing; who writes
 * what is then up to the clients.  Needs a server that is not mounted read-only.
 * Unbreakable: it is never recalled, and local operations that meet it fail with EBUSY; only
 * if the server's mount allows it (else -EPERM) and up to its limit (-EUSERS).
 * Else as pml_client_lease().
 */
enum {
	PML_CLIENT_WRITE = 1 << 0,
	PML_CLIENT_SHARED = 1 << 1,
	PML_CLIENT_UNBREAKABLE = 1 << 2,
};
int pml_client_lease_with(struct pml_client *client, const struct pml_client_handle *file,
			  uint64_t first_byte, uint64_t len_bytes, unsigned int kind, int wait_ms,
			  struct pml_client_lease **ret_lease);

/*
 * pml_client_downgrade() - go on reading what was written
 *
 * A read lease on the write lease's range, as far as the file reaches, takes its place;
 * nobody else's change comes in between.  Waits for transfers in flight; no other thread
 * begins one meanwhile.  On 0 *@lease is the
 * new one and the old one is freed; what was not committed is undefined.  On an error @lease
 * is as it was:
 *   -EINVAL   not a write lease
 *   -EAGAIN   somebody waits whom a read lease would hold up, too
 *   -ENODATA  its range begins at or behind the end of the file
 *   and what stands for a lease that has ended
 */
int pml_client_downgrade(struct pml_client_lease **lease);

uint64_t pml_client_lease_end(const struct pml_client_lease *lease); /* exclusive */
uint64_t pml_client_lease_file_size(const struct pml_client_lease *lease);
uint64_t pml_client_lease_id(const struct pml_client_lease *lease);
/* 0 while it is live; else -ESTALE, -EKEYREVOKED or -ENOTCONN. */
int pml_client_lease_status(const struct pml_client_lease *lease);
/*
 * Returns it if it is live, and frees it.  Waits for the operations in flight; what a queue has
 * not begun of its transfers on it gets -ESTALE.  No other call on the lease begins any more.
 */
int pml_client_return(struct pml_client_lease *lease);

/* ---- memory for transfers ------------------------------------------------ */

/*
 * Transfers take any memory of the program.  What lies in a buffer is fastest.  Other memory
 * is registered with the network device for as long as the transfer takes, if it is more than
 * 16 KiB, and else copied; memory that cannot be registered (read-only, or beyond ulimit -l)
 * is copied too.  Registering costs time for each page: pml_client_cache_memory() saves it.
 */

/*
 * A buffer that the fabric can use, page-aligned.  It belongs to the client.
 *   -EINVAL 0 bytes; -ENOMEM; -errno of the registration (see ulimit -l)
 */
int pml_client_buffer_new(struct pml_client *client, size_t bytes,
			  struct pml_client_buffer **ret_buffer);
void *pml_client_buffer_data(struct pml_client_buffer *buffer);
/* No transfer uses it any more.  NULL is allowed. */
void pml_client_buffer_free(struct pml_client_buffer *buffer);

/*
 * pml_client_cache_memory() - keep registrations of the program's memory
 * @max_count: so many at most (up to 1024); 0, as at first: none is kept
 * @max_bytes: so much at most in all; what was not used for longest goes first
 *
 * With it the program promises to call pml_client_forget_memory() before it unmaps memory that
 * a transfer has used, or lets it be unmapped: munmap(2), mremap(2), shmdt(2), and free(3) of
 * what malloc(3) has mapped (large blocks, each time).  If it does not, and other memory
 * comes to that address, transfers succeed and the bytes are not there.
 *   -EINVAL @max_count
 */
int pml_client_cache_memory(struct pml_client *client, uint32_t max_count, uint64_t max_bytes);
/*
 * Lets go of what is registered of a range.  Call it before the range is unmapped.
 *   -EBUSY a transfer uses some of it: it is let go of after that, but not yet
 */
int pml_client_forget_memory(struct pml_client *client, const void *addr, size_t bytes);

/* ---- transfers ---------------------------------------------------------- */

/*
 * One-sided read or write of [@first_byte, +@len_bytes) of the leased file; the range
 * lies inside the lease.  What no segment covers reads as zeros.  On return the data
 * is in the buffer / placed in the server's memory, not yet durable.
 *   -EINVAL outside lease or buffer, or wrong direction
 * On any error the buffer's contents (reading) or the range's (writing) are undefined.
 */
int pml_client_read(struct pml_client_lease *lease, struct pml_client_buffer *buffer,
		    size_t buffer_offset, uint64_t first_byte, size_t len_bytes);
int pml_client_write(struct pml_client_lease *lease, struct pml_client_buffer *buffer,
		     size_t buffer_offset, uint64_t first_byte, size_t len_bytes);

/*
 * The same with any memory, in @niov pieces (0 to 1024): the file's range begins at
 * @first_byte and is as long as they are together.
 *   -EINVAL outside the lease, wrong direction, too many pieces
 *   -ENOMEM, or -errno of the registration, which a copy could not replace either
 */
int pml_client_readv(struct pml_client_lease *lease, const struct iovec *iov, int niov,
		     uint64_t first_byte);
int pml_client_writev(struct pml_client_lease *lease, const struct iovec *iov, int niov,
		      uint64_t first_byte);

/* ---- queues: transfers that run while the program goes on ----------------- */

struct pml_client_completion {
	uint64_t cookie; /* of the transfer */
	uint64_t bytes;	 /* moved: all, or with an error 0 */
	int status;	 /* 0, or as pml_client_readv() would have returned */
};

/*
 * pml_client_queue_new() - a queue of at most @depth (1 to 4096) transfers
 *
 * A client may have many queues: one for each thread that wants one.  The calls on one queue
 * come from one thread at a time.
 *   -EINVAL @depth; -ENOMEM
 */
int pml_client_queue_new(struct pml_client *client, uint32_t depth,
			 struct pml_client_queue **ret_queue);

/*
 * Begin a transfer as pml_client_readv() and pml_client_writev(), without waiting for it.  The
 * list is copied; the memory stays as it is, and untouched, until its completion was taken.  The
 * transfers of a queue may run and complete in any order, also when they overlap.
 * Small writes from memory that is not registered are copied here.
 *   -EAGAIN  @depth transfers were begun whose completions were not taken
 *   -ESTALE, -EKEYREVOKED, -ENOTCONN  the lease has ended
 *   -EINVAL, -ENOMEM, -errno  as there
 * After an error nothing was begun and no completion comes.
 */
int pml_client_queue_read(struct pml_client_queue *queue, struct pml_client_lease *lease,
			  const struct iovec *iov, int niov, uint64_t first_byte, uint64_t cookie);
int pml_client_queue_write(struct pml_client_queue *queue, struct pml_client_lease *lease,
			   const struct iovec *iov, int niov, uint64_t first_byte, uint64_t cookie);

/*
 * pml_client_queue_wait() - take completions
 * @max: room in @ret
 * @timeout_ms: how long to wait for the first one; 0: only look; < 0: without a limit, which
 *              the timeout of the client is for a server that does not answer
 *
 * Returns their number.  0: none came in time, or none is to be expected.  Transfers go
 * on while some thread waits or looks; a program that does neither for long slows them.
 * A lease whose transfers are in the queue may be returned (and is freed) all the same.
 */
int pml_client_queue_wait(struct pml_client_queue *queue, struct pml_client_completion *ret,
			  uint32_t max, int timeout_ms);
/* Transfers that were begun and whose completions were not taken. */
uint32_t pml_client_queue_pending(const struct pml_client_queue *queue);
/* Waits for all of its transfers; completions that were not taken are lost.  NULL is allowed. */
void pml_client_queue_free(struct pml_client_queue *queue);

/* ---- durability, and a benchmark ------------------------------------------ */

/*
 * Makes a written range durable and visible to everybody; the file's size is then at
 * least @new_size_bytes (0: as it was).
 *   -EINVAL  outside the lease, or not a write lease
 *   -EBUSY   the file would grow, and its last block is shared with another file and under
 *            somebody's lease: that must not move
 *   -ENOSPC, -EIO of the server
 */
int pml_client_commit(struct pml_client_lease *lease, uint64_t first_byte, uint64_t len_bytes,
		      uint64_t new_size_bytes);

/*
 * A stream of equal transfers with @depth in flight, for benchmarks: @count operations
 * of @op_bytes at offsets that go round the lease.  *ret_ns: from first post to last completion.
 * At most 16 MiB are in flight, also those of others.
 */
int pml_client_stream(struct pml_client_lease *lease, struct pml_client_buffer *buffer,
		      bool is_write, uint32_t op_bytes, uint32_t depth, uint64_t count,
		      uint64_t *ret_ns);

/* ---- files: the library takes the leases --------------------------------- */

/*
 * A file is read and written anywhere, as by pread(2) and pwrite(2); the library takes leases
 * on it, a few at a time, that go along with what the program does.  A lease that is recalled is
 * committed, returned, and taken again when it is needed; a connection that breaks is made
 * again.  The program's events are not called for these leases.
 *
 * Reading and writing the same bytes in turns costs a commit and a lease each time, unless the
 * file is open with PML_CLIENT_FILE_SHARED.  Files of one client on one handle share their
 * leases, so what one writes the others read.  A lease that the program took itself is in
 * the way of the library's (-EDEADLK).
 *
 * Threads: one file may be used from several threads; open and close of it are once.
 */
struct pml_client_file;

enum {
	PML_CLIENT_FILE_READ = 1 << 0,
	PML_CLIENT_FILE_WRITE = 1 << 1,
	/*
	 * Shared leases, see pml_client_lease_with(): other clients may have the file open in
	 * the same way, and what they write in the same place is up to them.
	 */
	PML_CLIENT_FILE_SHARED = 1 << 2,
};

#define PML_CLIENT_FILE_LEASES_MAX 64u

/* Each 0: what is said.  The last open of a handle decides for all. */
struct pml_client_file_options {
	uint64_t window_bytes; /* longest range of one lease; 16 MiB.  The server has a limit too */
	uint32_t max_leases;   /* at a time; 4; at most PML_CLIENT_FILE_LEASES_MAX */
	uint32_t wait_ms;      /* how long one step may take while somebody is in the way; 30000 */
	uint32_t reserved;
};

/*
 * pml_client_file_open() - open a file of which the attributes were shown
 * @handle: pml_client_attr.handle of a regular file
 * @options: NULL: what is said there
 * No request is made; the first read or write tells whether it is allowed.
 *   -EINVAL flags or options; -ENOMEM
 */
int pml_client_file_open(struct pml_client *client, const struct pml_client_handle *handle,
			 unsigned int flags, const struct pml_client_file_options *options,
			 struct pml_client_file **ret_file);

/*
 * Read or write @bytes from @first_byte on.  Returns how many were moved: fewer at the end of the
 * file (reading; 0: at or behind it), or when an error came later, which the next call
 * meets.  Holes read as zeros.  A write is seen by others and durable after a commit.
 *   -EAGAIN, -EBUSY    somebody is in the way, for wait_ms
 *   -EBADF             not open for that
 *   -EDEADLK           a lease of the program's own is in the way
 *   -EFBIG, -ENOSPC, -EDQUOT, -EUSERS, -EROFS, -EACCES, -EIO  of the server
 *   -ENOTCONN          the connection is gone and could not be made again
 *   -ESTALE            the file is gone, or the server was mounted again: look it up again
 *   -EINVAL, -ENOMEM
 */
ssize_t pml_client_file_read(struct pml_client_file *file, void *data, size_t bytes,
			     uint64_t first_byte);
ssize_t pml_client_file_write(struct pml_client_file *file, const void *data, size_t bytes,
			      uint64_t first_byte);
/* The same with memory in @niov pieces (0 to IOV_MAX). */
ssize_t pml_client_file_readv(struct pml_client_file *file, const struct iovec *iov, int niov,
			      uint64_t first_byte);
ssize_t pml_client_file_writev(struct pml_client_file *file, const struct iovec *iov, int niov,
			       uint64_t first_byte);

/*
 * pml_client_file_commit() - make all durable that was written to the handle
 *
 * Also says, once to each open file, when something of it was lost before it could be
 * committed; pml_client_reason() says which bytes and why:
 *   -EKEYREVOKED  the server revoked the lease that they were written under
 *   -ENOTCONN, -ETIMEDOUT  the connection broke; it is not known what of them is there
 *   -ENOSPC, -EIO, -EBUSY  the server could not commit them when their lease was recalled
 * Or the commit itself failed, with the same errors of the server: what it was for can be
 * committed again.
 */
int pml_client_file_commit(struct pml_client_file *file);
/*
 * Commits and returns the leases on what is behind @first_byte, because somebody else shall
 * change it: the program by another way, say.  Losses are told by the next commit.
 */
int pml_client_file_give_up(struct pml_client_file *file, uint64_t first_byte);
/*
 * How far the file reaches by what is written and not committed (0: nothing is); the
 * server knows its size without that.
 */
uint64_t pml_client_file_end(struct pml_client_file *file);
/* Commits, returns the leases with the last file on its handle, frees it.  As commit.  NULL: 0. */
int pml_client_file_close(struct pml_client_file *file);

#ifdef __cplusplus
}
#endif

#endif
