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
#include <time.h>

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

struct pml_client_args {
	size_t size_bytes; /* sizeof(struct pml_client_args) */
	/*
	 * "rdma://[IDENTITY@]HOST:PORT[/PATH]" or "soft://...".  The path says which of the
	 * server's exports is wanted: the one that it lies in.
	 */
	const char *url;
	/* NULL: that of the URL, or none.  It takes precedence. */
	const char *identity;
	/*
	 * Its secret, 32 bytes.  NULL: that of its line in the file that the environment
	 * variable PMEMLEASE_SECRETS names, else in ~/.config/pmemleasefs/secrets.
	 */
	const uint8_t *secret;
	/*
	 * How long the server may take, now and for each later request; 0: 30000.  A server
	 * that does not answer in time is given up: -ETIMEDOUT, then -ENOTCONN.
	 */
	int timeout_ms;
};

/*
 * pml_client_open() - open a session
 * @ret_reason: NULL, or at least 256 bytes for an explanation
 *
 * With an identity both sides prove that they know its secret, the client first; a server that
 * does not is left before anything else is sent.
 *   -EINVAL        the URL, the identity, or a line of the file of secrets
 *   -E2BIG         an argument of a later version is set
 *   -ENOKEY        the file has no line for the identity
 *   -EPERM         its group or others may read the file
 *   -EACCES        the server does not let this client in, or wants a proof and there is no
 *                  identity, or wants none and there is one
 *   -EKEYREJECTED  the server does not know the secret
 *   -EUSERS        the server has as many clients as it allows
 *   -ENOENT, -ENOTDIR  the directory of the export is not there; or no file of secrets
 *   -ENAMETOOLONG  the path
 *   -ETIMEDOUT, -ENOTCONN, -ECONNREFUSED, -ENOMEM, -errno of the connection
 */
int pml_client_open(const struct pml_client_args *args, struct pml_client **ret_client,
		    char *ret_reason);
/* The same with a URL and a timeout alone. */
int pml_client_connect(const char *url, int timeout_ms, struct pml_client **ret_client,
		       char *ret_reason);
/*
 * Returns all leases, ends the session, frees everything: leases, buffers and queues too.
 * Files must be closed before.
 * Not from a callback; no other thread uses the client or anything of it any more.
 */
void pml_client_close(struct pml_client *client);
/*
 * pml_client_set_reconnect() - when a connection that broke is made again
 * @timeout_ms: how long to try each time; <= 0: never
 *
 * As at first files alone (pml_client_file_open()) make it again, and try for 10 s.  After this
 * call requests by path and pml_client_lease() do so too: a request that broke off is sent
 * again, and done once.  Leases end with their connection all the same, and handles when the
 * server was mounted again (-ESTALE); paths work on.  Of a change that was under way when the
 * server ended nobody knows whether it was done (-EREMOTEIO).  Callbacks, buffers and queues stay.
 */
void pml_client_set_reconnect(struct pml_client *client, int timeout_ms);
/* Why the last call of this thread on this client failed; valid until its next call. */
const char *pml_client_reason(struct pml_client *client);

/* ---- names and attributes ----------------------------------------------- */
/*
 * By path, or by handle where the name ends in _at.  A path leads from the root of the server's
 * filesystem, whatever the export; "" and "/" are that root.  It means what it says: symbolic
 * links in it are shown and not followed (-ENOTDIR in the middle), and ".." is refused (-EINVAL).
 * A @name is one entry of a directory: 1 to 255 bytes without slash.
 *
 * The server does all of this as the user that it takes the client for, by the rules that
 * its kernel has for local programs of that user.  It applies no umask: take it off @mode.
 * A change is durable, and seen by everybody, when its call returns.
 *
 * Errors of all, besides what is said at each:
 *   -ENOENT, -ENOTDIR  a name that is not there, or in something that is no directory
 *   -ENAMETOOLONG      a name of more than 255 bytes
 *   -EINVAL            ".." or "." or an empty name, or a slash in a name
 *   -EACCES            the user may not search a directory on the way; or the path lies outside
 *                      of the export
 *   -ESTALE            of handles: the file is gone, or the server was mounted again
 *   -ENOTCONN, -ETIMEDOUT  the connection is gone, or the server silent
 *   -EIO               the server's device contradicts itself
 * and of all that change something:
 *   -EROFS             the server lets this client read only
 *   -EACCES            the user may not write the directory
 *   -ENOSPC            no room on the server
 *   -EAGAIN            the client has too many requests under way
 *   -EINPROGRESS       the connection broke, and the server still does it: it is not known
 *                      whether it will be done
 *   -EREMOTEIO         the connection broke and the server was restarted: it is not known
 *                      whether the change was done
 */

int pml_client_stat(struct pml_client *client, const char *path, struct pml_client_attr *ret_attr);
/* The entry @name of a directory. */
int pml_client_lookup_at(struct pml_client *client, const struct pml_client_handle *dir,
			 const char *name, struct pml_client_attr *ret_attr);
/* What a handle stands for, as it is now. */
int pml_client_stat_at(struct pml_client *client, const struct pml_client_handle *inode,
		       struct pml_client_attr *ret_attr);

/*
 * pml_client_setattr() - change attributes, all or none of them
 *
 * A new size may have to wait until others have given back leases that are in its way; other
 * calls of the client go on meanwhile, and renewals, so there is no timeout as long as the
 * server is there, which is asked each third of the client's timeout.  Leases of this client
 * in the way end (-EKEYREVOKED).  A new owner or size takes set-user-id and set-group-id bits
 * away as it does locally.  @what 0 takes them away, as before a write.
 *
 *   -EPERM       not the owner; giving it to another user, or to a group that the owner is not in
 *   -EACCES      a size, or times of now, by somebody who may not write it
 *   -EISDIR, -EINVAL  a size of something that is no regular file; no such user or group
 *   -EOPNOTSUPP  the mode of a symbolic link
 *   -EFBIG, -ENOSPC  of a size
 *   -EBUSY       a lease is in the way, and the server's policy is not to recall it
 *   -EDEADLK     an unbreakable lease of this client is
 *   -EINTR       the server is ending
 */
enum {
	PML_CLIENT_SET_MODE = 1 << 0,
	PML_CLIENT_SET_UID = 1 << 1,
	PML_CLIENT_SET_GID = 1 << 2,
	PML_CLIENT_SET_SIZE = 1 << 3,
	PML_CLIENT_SET_ATIME = 1 << 4,
	PML_CLIENT_SET_MTIME = 1 << 5,
	PML_CLIENT_SET_ATIME_NOW = 1 << 6, /* by the server's clock; not with SET_ATIME */
	PML_CLIENT_SET_MTIME_NOW = 1 << 7,
};
struct pml_client_set {
	uint32_t what; /* PML_CLIENT_SET_ */
	uint32_t mode; /* permission bits, 07777 */
	uint32_t uid;
	uint32_t gid;
	uint64_t size_bytes;
	int64_t atime_s;
	int64_t mtime_s;
	uint32_t atime_ns; /* below 1000000000 */
	uint32_t mtime_ns;
};
int pml_client_setattr(struct pml_client *client, const char *path,
		       const struct pml_client_set *set, struct pml_client_attr *ret_attr);
int pml_client_setattr_at(struct pml_client *client, const struct pml_client_handle *inode,
			  const struct pml_client_set *set, struct pml_client_attr *ret_attr);
/* Parts of it, with its errors. */
int pml_client_chmod(struct pml_client *client, const char *path, mode_t mode);
/* (uid_t)-1, (gid_t)-1: stays as it is. */
int pml_client_chown(struct pml_client *client, const char *path, uid_t uid, gid_t gid);
int pml_client_truncate(struct pml_client *client, const char *path, uint64_t size_bytes);
/* @times: of access and of change, UTIME_NOW and UTIME_OMIT too; NULL: both now. */
int pml_client_utimens(struct pml_client *client, const char *path, const struct timespec times[2]);

/*
 * Calls @emit for each entry but "." and ".." until it returns false; in no order.  Entries
 * that come and go meanwhile are seen or not, others once.  @emit may use the client.
 *   -EACCES  the user may not read the directory
 */
int pml_client_readdir(struct pml_client *client, const char *path,
		       bool (*emit)(void *arg, const char *name, uint64_t ino, mode_t type),
		       void *arg);
struct pml_client_dirent {
	const char *name; /* during the call only */
	uint64_t ino;
	uint64_t cookie; /* to go on behind this entry */
	mode_t type;	 /* S_IFMT bits */
};
/* From behind the entry of @cookie on; 0: from the first. */
int pml_client_readdir_at(struct pml_client *client, const struct pml_client_handle *dir,
			  uint64_t cookie,
			  bool (*emit)(void *arg, const struct pml_client_dirent *entry),
			  void *arg);

/*
 * The target of a symbolic link, with a terminating zero: 4096 bytes hold any.
 *   -EINVAL it is none.  -ERANGE: it does not fit in @bytes
 */
int pml_client_readlink(struct pml_client *client, const char *path, char *ret_target,
			size_t bytes);
int pml_client_readlink_at(struct pml_client *client, const struct pml_client_handle *inode,
			   char *ret_target, size_t bytes);

/*
 * An extended attribute; names begin with their namespace.  @max_bytes 0: its length alone.
 *   -ENODATA  there is none, or a "trusted." one that the user may not see
 *   -EACCES   a "user." one of a file that the user may not read
 *   -ERANGE   it does not fit; a name of more than 255 bytes
 *   -EOPNOTSUPP, -EINVAL  another namespace, or nothing behind it
 *   -EAGAIN   it changes faster than it can be read
 */
int pml_client_getxattr(struct pml_client *client, const char *path, const char *name, void *value,
			size_t max_bytes, size_t *ret_bytes);
int pml_client_getxattr_at(struct pml_client *client, const struct pml_client_handle *inode,
			   const char *name, void *value, size_t max_bytes, size_t *ret_bytes);
/* Their names, each with its terminating zero.  Errors as above. */
int pml_client_listxattr(struct pml_client *client, const char *path, char *names, size_t max_bytes,
			 size_t *ret_bytes);
int pml_client_listxattr_at(struct pml_client *client, const struct pml_client_handle *inode,
			    char *names, size_t max_bytes, size_t *ret_bytes);

struct pml_client_statfs {
	uint64_t blocks; /* of block_bytes */
	uint64_t blocks_free;
	uint64_t inodes;
	uint64_t inodes_free;
	uint32_t block_bytes;
	uint32_t name_max; /* bytes */
};
int pml_client_statfs(struct pml_client *client, struct pml_client_statfs *ret_stat);

/*
 * pml_client_create() - make a regular file, or find it
 * @mode: permission bits, 0777
 * @exclusive: -EEXIST if it is there already
 *   -EISDIR, -EINVAL  there is a directory or something else of that name
 */
int pml_client_create(struct pml_client *client, const char *path, mode_t mode, bool exclusive,
		      struct pml_client_attr *ret_attr);
int pml_client_create_at(struct pml_client *client, const struct pml_client_handle *dir,
			 const char *name, mode_t mode, bool exclusive,
			 struct pml_client_attr *ret_attr);

/* @mode: 01777; the set-group-id bit comes from the directory above.  -EEXIST, -EMLINK. */
int pml_client_mkdir(struct pml_client *client, const char *path, mode_t mode,
		     struct pml_client_attr *ret_attr);
int pml_client_mkdir_at(struct pml_client *client, const struct pml_client_handle *dir,
			const char *name, mode_t mode, struct pml_client_attr *ret_attr);

/* A symbolic link at @path.  @target: 1 to 4095 bytes (-ENOENT, -ENAMETOOLONG).  -EEXIST. */
int pml_client_symlink(struct pml_client *client, const char *target, const char *path,
		       struct pml_client_attr *ret_attr);
int pml_client_symlink_at(struct pml_client *client, const char *target,
			  const struct pml_client_handle *dir, const char *name,
			  struct pml_client_attr *ret_attr);

/*
 * Another name for a file.
 *   -EEXIST, -EMLINK
 *   -EPERM   a directory; or it is not the user's own, and no plain file without set-id bits
 *            that the user may read and write
 */
int pml_client_link(struct pml_client *client, const char *path, const char *new_path,
		    struct pml_client_attr *ret_attr);
int pml_client_link_at(struct pml_client *client, const struct pml_client_handle *inode,
		       const struct pml_client_handle *dir, const char *name,
		       struct pml_client_attr *ret_attr);

/*
 * Takes a name away.  Leases keep a file that has lost its last name alive, for a time.
 *   -EISDIR it is a directory.  -EPERM: the directory above is sticky, and neither it nor the
 *   file is the user's
 */
int pml_client_unlink(struct pml_client *client, const char *path);
int pml_client_unlink_at(struct pml_client *client, const struct pml_client_handle *dir,
			 const char *name);
/* The same of an empty directory.  -ENOTEMPTY, -ENOTDIR, -EPERM. */
int pml_client_rmdir(struct pml_client *client, const char *path);
int pml_client_rmdir_at(struct pml_client *client, const struct pml_client_handle *dir,
			const char *name);

/*
 * pml_client_rename() - give a file or directory another name
 * @flags: 0, PML_CLIENT_RENAME_NOREPLACE or PML_CLIENT_RENAME_EXCHANGE
 *
 * What had the new name is replaced in the same moment, or gets the old one (EXCHANGE).
 *   -EEXIST  NOREPLACE, and the new name is there
 *   -ENOENT  EXCHANGE, and it is not
 *   -EINVAL  a directory into itself; flags
 *   -EISDIR, -ENOTDIR, -ENOTEMPTY  what would be replaced
 *   -EPERM   as pml_client_unlink(), of both names
 *   -EACCES  a directory that moves to another one, and is not the user's to write
 */
enum {
	PML_CLIENT_RENAME_NOREPLACE = 1,
	PML_CLIENT_RENAME_EXCHANGE = 2,
};
int pml_client_rename(struct pml_client *client, const char *path, const char *new_path,
		      unsigned int flags);
int pml_client_rename_at(struct pml_client *client, const struct pml_client_handle *dir,
			 const char *name, const struct pml_client_handle *new_dir,
			 const char *new_name, unsigned int flags);

/*
 * pml_client_clone() - make a range of one file share the blocks of another
 * @len_bytes: 0: to the end of the source
 * @ret_bytes: how much it was; may be NULL
 *
 * No data is moved.  May wait for leases as a new size does (pml_client_setattr(), with its
 * errors of waiting).  After an error a first part may have been cloned.
 *   -EINVAL  offsets or length are no multiples of 4096 (the length may end where the source
 *            does), ranges of one file that overlap, something that is no regular file
 *   -EISDIR, -EMLINK (a block is shared too often)
 *   -EACCES  the user may not read the source, or not write the destination
 */
int pml_client_clone(struct pml_client *client, const char *src, uint64_t src_byte, const char *dst,
		     uint64_t dst_byte, uint64_t len_bytes, uint64_t *ret_bytes);
int pml_client_clone_at(struct pml_client *client, const struct pml_client_handle *src,
			uint64_t src_byte, const struct pml_client_handle *dst, uint64_t dst_byte,
			uint64_t len_bytes, uint64_t *ret_bytes);

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
 * Begins to make a range durable, as pml_client_flush(): what had completed of writes when it
 * was called.  Only from this side: -EOPNOTSUPP where that needs a commit.  Completes like the
 * others, with the range's bytes.
 */
int pml_client_queue_flush(struct pml_client_queue *queue, struct pml_client_lease *lease,
			   uint64_t first_byte, uint64_t len_bytes, uint64_t cookie);

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
 * By which rule what is written under a lease becomes durable; 0 of a read lease.  The server
 * chooses what its device and memory offer (mount.pmemleasefs(8), remote_durability); where
 * this side's device does not go along it is by commit.
 */
enum {
	PML_CLIENT_DURABLE_BY_COMMIT = 1, /* the server flushes, in a request */
	PML_CLIENT_DURABLE_BY_READ = 2,	  /* this side reads behind its writes */
	PML_CLIENT_DURABLE_BY_FLUSH = 3,  /* this side's device sends FLUSH behind its writes */
};
int pml_client_lease_durability(const struct pml_client_lease *lease);

/*
 * Makes a written range durable and visible to everybody; the file's size is then at
 * least @new_size_bytes (0: as it was).
 *   -EINVAL  outside the lease, or not a write lease
 *   -EBUSY   the file would grow, its last block is shared with another file and under
 *            somebody's lease, and the server's policy is not to take that away; else the
 *            call waits for the lease, and ends leases on that block of its own client
 *   -EAGAIN, -EDEADLK, -ENOSPC, -EIO of the server
 */
int pml_client_commit(struct pml_client_lease *lease, uint64_t first_byte, uint64_t len_bytes,
		      uint64_t new_size_bytes);

/*
 * pml_client_flush() - make a written range durable, and not more than that
 *
 * For those who write the same bytes again and again, as a log or a database does: by FLUSH or
 * by a read it takes one round trip and nothing of the server's processor.  Programs on the
 * server that remember the file see what is new, and its times change, only after a commit, or
 * when the lease was returned.  Where it cannot be done from this side it is a commit; a range
 * that reaches behind the file's end is committed too, and the file grows to its end.
 * Covers writes that had completed when it was called.  Errors as pml_client_commit().
 */
int pml_client_flush(struct pml_client_lease *lease, uint64_t first_byte, uint64_t len_bytes);

/*
 * pml_client_write_atomic() - write eight bytes, all of them or none
 * @first_byte: in the file, a multiple of 8, inside the write lease
 *
 * Who reads meanwhile, and a power failure, find the eight bytes of before or of after.  Takes
 * effect behind all that has completed; durable by a flush or commit, as other writes.
 *   -EOPNOTSUPP  the network device, its driver or rdma-core has no ATOMIC WRITE
 *   -EINVAL      outside the lease, not a write lease, not a multiple of 8
 */
int pml_client_write_atomic(struct pml_client_lease *lease, const void *data, uint64_t first_byte);

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
 * pml_client_file_truncate() - give the file another size
 *
 * What is written is committed before, then the server changes the size, durably.  For a file
 * that is open better than pml_client_setattr(), which would end the library's leases.  Errors
 * as there; -EBADF not open for writing.  What is lost on the way the next commit tells.
 */
int pml_client_file_truncate(struct pml_client_file *file, uint64_t size_bytes);
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
