/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fs.h -- the filesystem: format, open, inodes, directories, file data, pins
 *
 * Everything here may be called from any thread without locks held; each call
 * takes the locks it needs (docs/locking.md) and is one atomic change of the
 * device: after an error or a crash it happened wholly or not at all (I8),
 * except that contents stored in place may be torn: by an overwrite, at the
 * edges of a punch, where a clone has to copy.  Metadata is durable when a call returns.  File data
 * is durable when a write returns on a cache-line device, and after pml_file_sync() on a
 * page-granularity device (a plain file); see docs/design.md, "Durability".
 *
 * Errors that any changing call may return besides its own:
 *   -ENOSPC  no free block, or no room for metadata
 *   -EIO     the device's structures contradict themselves (logged)
 *   -EROFS   the filesystem was opened read-only
 */
#ifndef PML_FS_H
#define PML_FS_H

#if PML_LAYER < 1
#error "dependencies go one way: tools, rdma, lease, fs, base (docs/design.md)"
#endif

#include <stdio.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/types.h>
#include <sys/uio.h>

#include "pml/base.h"
#include "pml/guard.h"

struct pml_fs;
struct pml_inode;

#define PML_ROOT_INO	     1u
#define PML_NAME_BYTES_MAX   255u
#define PML_SYMLINK_MAX	     4095u
#define PML_LINK_MAX	     65000u
#define PML_LABEL_BYTES	     64u	 /* with the terminating zero */
#define PML_FILE_BYTES_MAX   INT64_MAX	 /* largest file size */
#define PML_DEVICE_BYTES_MIN (64u << 20) /* smallest device */

/* ---- format and open ---------------------------------------------------- */

struct pml_format_args {
	const char *path;
	uint64_t size_bytes; /* for a plain file that does not exist yet; 0: device's own size */
	const char *label;   /* NULL: none; below PML_LABEL_BYTES bytes */
	bool force;	     /* overwrite what the device already holds */
};

/* What was made, or what a device says of itself. */
struct pml_device_info {
	uint64_t size_bytes;
	uint32_t format_version;
	uint8_t uuid[16];
	char label[PML_LABEL_BYTES];
	const char *kind;	/* "device-DAX", "fsdax file", "plain file" */
	const char *durability; /* in words: what makes a store durable in this mode */
	bool is_cache_line;	/* stores are durable by cache flush (else by msync) */
	bool is_page_cache;	/* pages are written back by the kernel, which has to see stores */
};

/*
 * pml_fs_format() - make an empty filesystem on a device
 * @ret_reason: PML_REASON_BYTES; on error, a line that names the object and the remedy
 *
 * Returns 0, or
 *   -EEXIST   the device already holds something and @force is not set
 *   -EBUSY    it is mounted
 *   -ENOTBLK  wrong kind of object (directory, block device, ...)
 *   -EINVAL   bad size or label; -EFBIG too large; -ENOENT no such device and no size
 *   -errno    of the failing system call
 * On error an existing object is unchanged and a new file is removed.
 */
int pml_fs_format(const struct pml_format_args *args, struct pml_device_info *ret_info,
		  char *ret_reason) PML_MUST_CHECK;

struct pml_open_args {
	const char *path;
	bool is_read_only;
	bool poison_freed; /* fill each freed block with 0xdb before reuse (tests: I1) */
};

/*
 * pml_fs_open() - open a formatted device and rebuild counters and free space
 *
 * Walks all inodes: finishes what was interrupted, frees orphans.
 * Returns 0, or
 *   -EMEDIUMTYPE  not a pmemleasefs device, or of an unknown format version
 *   -EUCLEAN      size changed since mkfs, or structures contradict themselves
 *   -EBUSY        in use by another mount
 *   -errno        of the failing system call
 */
int pml_fs_open(const struct pml_open_args *args, struct pml_fs **ret_fs,
		char *ret_reason) PML_MUST_CHECK;

/* Assumes: no inode reference is out and no pin is held. */
void pml_fs_close(struct pml_fs *fs);

void pml_fs_info(const struct pml_fs *fs, struct pml_device_info *ret_info);

/* Installs the guard (NULL: nothing is ever in the way).  Before any other use. */
void pml_fs_set_guard(struct pml_fs *fs, const struct pml_guard_ops *ops, void *guard);
/*
 * cancel() and done() of the guard that is installed, for whoever runs operations with a
 * waiter.  Assumes: the guard stays until done() has been said of every waiter.
 */
void pml_fs_wait_cancel(struct pml_fs *fs, struct pml_waiter *w);
void pml_fs_wait_done(struct pml_fs *fs, struct pml_waiter *w);

/* Numbers of now; each read atomically, not all at one instant. */
struct pml_fs_counts {
	uint64_t total_blocks;	     /* payload of the device: blocks that can hold file data */
	uint64_t free_blocks;	     /* can be allocated now */
	uint64_t used_blocks;	     /* with one share or more */
	uint64_t shared_blocks;	     /* with two shares or more */
	uint64_t pinned_blocks;	     /* with one pin or more */
	uint64_t quarantined_blocks; /* no share, but pinned */
	uint64_t pins;		     /* sum of pins over all blocks (I2) */
	uint64_t inodes;	     /* in use */
	uint64_t aside_blocks;	     /* since open: copied for the others, a lease had the old */
	uint64_t aside_refused;	     /* since open: how often that could not be done */
};
void pml_fs_counts(const struct pml_fs *fs, struct pml_fs_counts *ret_counts);

/*
 * Has a file lost its last name within the last PML_FREES_SOON_MS?  Its blocks come back
 * when its last reference goes, which the kernel drops a moment after unlink(2) returned:
 * who meets -ENOSPC then tries again.
 */
#define PML_FREES_SOON_MS 200u
bool pml_fs_frees_soon(const struct pml_fs *fs);

/* statvfs(3) of the filesystem. */
void pml_fs_statvfs(const struct pml_fs *fs, struct statvfs *ret_stat);

/*
 * pml_fs_audit() - recompute every counter and compare (I1, I2)
 * @pins_of: calls @emit once for each pinned run that the lease manager knows
 * @ret_reason: the first difference in words
 *
 * Stops all changes while it walks (takes every lock).  Returns 0 when all
 * agree, -EUCLEAN at the first difference.
 */
typedef void (*pml_audit_emit)(void *audit, uint64_t block, uint64_t nblocks);
typedef void (*pml_audit_pins)(void *arg, pml_audit_emit emit, void *audit);
int pml_fs_audit(struct pml_fs *fs, pml_audit_pins pins_of, void *arg,
		 char *ret_reason) PML_MUST_CHECK;

/*
 * pml_fs_dump() - print what lies on a device
 * @what:   "super", "groups", "heap", "inode", "tree", "extents", "dir", "xattrs",
 *          "block" or "all"
 * @number: of the inode or block; pml_fs_dump_has_number() tells whether one is wanted
 *
 * Takes no lock and writes nothing; the device may be mounted or damaged.  Field names are
 * those of docs/on-media-format.md.  Returns 0, or
 *   -EINVAL       no such @what (pml_fs_dump_has_number(), too)
 *   -ENOENT       no such inode or block, or an inode of another type
 *   -EMEDIUMTYPE  not a pmemleasefs device
 *   -EUCLEAN      not all is as it must be; what can be printed has been
 *   -errno        of the failing system call
 */
int pml_fs_dump(const char *path, const char *what, uint64_t number, bool is_json, FILE *out,
		char *ret_reason) PML_MUST_CHECK;
int pml_fs_dump_has_number(const char *what) PML_MUST_CHECK;

/* ---- check and repair --------------------------------------------------- */

enum pml_check_mode {
	PML_CHECK_NOTHING, /* repairs nothing; the device stays as it is */
	PML_CHECK_SAFE,	   /* repairs where nothing is lost and nothing to choose */
	PML_CHECK_ALL,	   /* repairs all that can be repaired without guessing */
	PML_CHECK_ASK,	   /* as ALL, what ask() says yes to */
};

enum pml_check_outcome {
	PML_CHECK_NOTE,	    /* no error: worth knowing */
	PML_CHECK_LEFT,	    /* an error; not repaired */
	PML_CHECK_REPAIRED, /* an error; repaired, as action says */
	PML_CHECK_FAILED,   /* an error; repairing it failed, action says why */
};

struct pml_check_finding {
	const char *name;   /* of its kind, one word */
	const char *text;   /* names the object and says what is wrong */
	const char *action; /* what the repair does or did, or why it failed; may be empty */
	enum pml_check_outcome outcome;
};

struct pml_check_options {
	enum pml_check_mode mode;
	void (*report)(void *arg, const struct pml_check_finding *finding); /* may be NULL */
	bool (*ask)(void *arg, const char *text, const char *action);	    /* mode ASK */
	bool (*is_cancelled)(void *arg); /* asked often; may be NULL */
	void *arg;
};

struct pml_check_result {
	struct pml_device_info info;
	uint64_t nrepaired; /* errors that were repaired */
	uint64_t nleft;	    /* errors that are still there */
	uint64_t norphans;  /* deleted files that the next mount, or a repair, frees */
	uint64_t npunches;  /* files with a punch that the next mount, or a repair, finishes */
	uint64_t files;	    /* and everything else but directories */
	uint64_t directories;
	uint64_t objects; /* of libpmemobj */
	uint64_t blocks;  /* that files map */
	uint64_t shares;  /* sum over these blocks */
};

/*
 * pml_fs_check() - check a device that is not mounted, and repair it
 * @ret_result: set on -ECANCELED too
 * @ret_reason: PML_REASON_BYTES; on error, a line that names the object
 *
 * Every repair is a transaction; after a crash the next check goes on.  In the modes that
 * repair, a device without errors also gets finished what a crash left (orphans, punches).
 * Mode NOTHING maps the device privately (a device-DAX cannot be: libpmemobj's own recovery
 * runs there).  Returns 0 when the check was done, whatever it found, or
 *   -EMEDIUMTYPE  not a pmemleasefs, an unknown version or unknown features
 *   -EUCLEAN      size changed since mkfs, or libpmemobj's own structures are damaged
 *   -EBUSY        mounted or in use
 *   -ECANCELED    is_cancelled() said so
 *   -errno        of the failing system call
 */
int pml_fs_check(const char *path, const struct pml_check_options *options,
		 struct pml_check_result *ret_result, char *ret_reason) PML_MUST_CHECK;

/* ---- inodes ------------------------------------------------------------- */

/* Who asks.  uid 0 passes all checks except execute of a file without x bits. */
struct pml_cred {
	uid_t uid;
	gid_t gid;
	const gid_t *groups; /* more groups of it; may be NULL when there are none */
	size_t ngroups;
};

/*
 * pml_inode_get() - find an inode by number and take a reference
 * Returns 0, -ENOENT (free or out of range; also an unlinked one without references).
 */
int pml_inode_get(struct pml_fs *fs, uint64_t ino, struct pml_inode **ret_inode) PML_MUST_CHECK;
/* One more reference to an inode that the caller has one to. */
void pml_inode_ref(struct pml_inode *inode);
/*
 * Drops @count references; the last one of an unlinked inode frees it and its blocks, that of
 * another one makes durable what remote writers have left in caches.
 */
void pml_inode_put(struct pml_inode *inode, uint64_t count);

uint64_t pml_inode_ino(const struct pml_inode *inode);
uint64_t pml_inode_generation(const struct pml_inode *inode);
mode_t pml_inode_mode(const struct pml_inode *inode);
/* Has it lost its last name? */
bool pml_inode_is_orphan(const struct pml_inode *inode);
uint64_t pml_inode_size(const struct pml_inode *inode);
/* When it was made. */
void pml_inode_btime(const struct pml_inode *inode, struct timespec *ret_btime);

/* st_blocks counts allocated blocks in 512-byte units; st_blksize is 4096. */
void pml_inode_stat(struct pml_inode *inode, struct stat *ret_stat);

/* Permission bits or ACL; @mask of R_OK, W_OK, X_OK.  0, -EACCES; -EIO: the ACL is none. */
int pml_inode_access(struct pml_inode *inode, const struct pml_cred *cred, int mask) PML_MUST_CHECK;

enum {
	PML_SET_MODE = 1 << 0,
	PML_SET_UID = 1 << 1,
	PML_SET_GID = 1 << 2,
	PML_SET_ATIME = 1 << 3,
	PML_SET_MTIME = 1 << 4,
	PML_SET_CTIME = 1 << 5,
	PML_SET_TOUCH = 1 << 6, /* of pml_inode_set_as(): the times are those of now */
};
/*
 * Sets what @what names from @attr; ctime becomes now unless set.  No size: pml_file_truncate().
 * A new mode goes to the access ACL, too.  A new owner or group takes the set-user-id bit away
 * from all but directories, and the set-group-id bit if the group may execute it.
 */
int pml_inode_set(struct pml_inode *inode, unsigned int what,
		  const struct stat *attr) PML_MUST_CHECK;

/*
 * pml_inode_set_as() - as pml_inode_set(), if @cred may
 *
 * For who does not come through the kernel, which has checked before it sends anything: the
 * same rules, under the same lock as the change.  Setgid is not set for who is not in the
 * group; a new owner or group takes security.capability away, too.  Returns 0, or
 *   -EPERM       @cred is neither its owner nor uid 0; or an owner gives it away, or to a
 *                group that he is not in
 *   -EACCES      PML_SET_TOUCH, and @cred may not write it either
 *   -EOPNOTSUPP  the mode of a symlink
 */
int pml_inode_set_as(struct pml_inode *inode, const struct pml_cred *cred, unsigned int what,
		     const struct stat *attr) PML_MUST_CHECK;
/* The check alone, before what must come first. */
int pml_inode_may_set(struct pml_inode *inode, const struct pml_cred *cred, unsigned int what,
		      const struct stat *attr) PML_MUST_CHECK;
/*
 * May @cred give it another name?  -EPERM: it is not his, and no plain file without set-id
 * bits that he may read and write (fs.protected_hardlinks of Linux, always).
 */
int pml_inode_may_link(struct pml_inode *inode, const struct pml_cred *cred) PML_MUST_CHECK;

/*
 * Takes from a file, before @cred changes what is in it, what it must not keep then:
 * security.capability, and unless uid 0 changes it setuid, and setgid where the group may
 * execute it or @cred is not in it.  @ret_has_dropped: there was something.
 */
int pml_inode_drop_privileges(struct pml_inode *inode, const struct pml_cred *cred,
			      bool *ret_has_dropped) PML_MUST_CHECK;

/* When a read sets atime. */
enum pml_atime {
	PML_ATIME_RELATIVE, /* when it is not younger than mtime and ctime, or a day old */
	PML_ATIME_STRICT,   /* always */
	PML_ATIME_NEVER,
};
/* Would a read set it? */
bool pml_inode_is_atime_due(struct pml_inode *inode, enum pml_atime when);
/*
 * Somebody has read the inode: sets atime when it is due.  Neither ctime nor anything else
 * changes; on a read-only filesystem nothing does.
 */
void pml_inode_accessed(struct pml_inode *inode, enum pml_atime when);

/* Target of a symlink into @ret_target (PML_SYMLINK_MAX + 1 bytes).  -EINVAL: not a symlink. */
int pml_inode_readlink(struct pml_inode *inode, char *ret_target) PML_MUST_CHECK;

/* ---- extended attributes ------------------------------------------------ */
/*
 * Names begin with their namespace: "user.", "trusted.", "security.", or they are
 * "system.posix_acl_access" and "system.posix_acl_default".  Whether the caller may is checked
 * by the kernel before, as for names in directories (xattr_permission() of fs/xattr.c there).
 * Symlinks and special files have no "user." attributes, symlinks no ACLs.  Attributes belong
 * to the inode: links and renames keep them, clones do not copy them, snapshots do.
 *
 * Errors of all: -EOPNOTSUPP another namespace, an ACL on a symlink; -EINVAL nothing behind
 * the namespace; -ERANGE a name longer than PML_XATTR_NAME_BYTES_MAX.
 */

#define PML_XATTR_NAME_BYTES_MAX  255u
#define PML_XATTR_VALUE_BYTES_MAX 65536u
#define PML_XATTR_LIST_BYTES_MAX  65536u

/* @max_bytes 0: only its length.  -ENODATA there is none; -ERANGE more than @max_bytes. */
int pml_xattr_get(struct pml_inode *inode, const char *name, void *value, size_t max_bytes,
		  size_t *ret_bytes) PML_MUST_CHECK;

/*
 * May @cred read it?  -EACCES a "user." attribute of what it may not read; -ENODATA a
 * "trusted." one and not uid 0, or "user." of something that has none.
 */
int pml_xattr_may_get(struct pml_inode *inode, const struct pml_cred *cred,
		      const char *name) PML_MUST_CHECK;

/*
 * All names, each with its terminating zero, in no order; "trusted." for uid 0 only.
 * @max_bytes 0: only their length.  -ERANGE more than @max_bytes; -E2BIG more than
 * PML_XATTR_LIST_BYTES_MAX.
 */
int pml_xattr_list(struct pml_inode *inode, const struct pml_cred *cred, char *names,
		   size_t max_bytes, size_t *ret_bytes) PML_MUST_CHECK;

/*
 * pml_xattr_set() - set one, and ctime
 * @flags: 0, XATTR_CREATE (-EEXIST if there is one) or XATTR_REPLACE (-ENODATA if there is none)
 *
 * An access ACL gives the inode its mode, and is stored only if it says more; setgid goes when
 * @cred is neither uid 0 nor in the file's group.  An ACL without entries removes it; flags
 * do not matter to ACLs.  Returns 0, or
 *   -EPERM   a "user." attribute on something that has none
 *   -EACCES  a default ACL on something that is no directory
 *   -E2BIG   more than PML_XATTR_VALUE_BYTES_MAX, or an ACL of more than 511 entries
 *   -EINVAL  flags; not an ACL.  -EOPNOTSUPP an ACL of another version
 */
int pml_xattr_set(struct pml_inode *inode, const struct pml_cred *cred, const char *name,
		  const void *value, size_t bytes, int flags) PML_MUST_CHECK;

/* -ENODATA: there is none, except that it does not matter for ACLs; -EPERM as above. */
int pml_xattr_remove(struct pml_inode *inode, const char *name) PML_MUST_CHECK;

/* ---- directories -------------------------------------------------------- */
/*
 * @name: any bytes but '/' and zero, 1 to PML_NAME_BYTES_MAX long.
 * Errors of all: -ENOTDIR @dir is none; -ENAMETOOLONG; -EINVAL empty name, "." or "..";
 * -ENOENT no such entry, or @dir has been removed; -EEXIST; -EMLINK.
 */

struct pml_create_args {
	mode_t mode;  /* type and permission bits; setgid inheritance is done here */
	mode_t umask; /* applied unless the directory has a default ACL, which is inherited then */
	struct pml_cred cred;
	dev_t rdev;	    /* of a device node */
	const char *target; /* of a symlink: 1 to PML_SYMLINK_MAX bytes */
};

int pml_dir_lookup(struct pml_inode *dir, const char *name,
		   struct pml_inode **ret_inode) PML_MUST_CHECK;
int pml_dir_create(struct pml_inode *dir, const char *name, const struct pml_create_args *args,
		   struct pml_inode **ret_inode) PML_MUST_CHECK;
/*
 * A file without a name, with one reference; it goes with its last one, or gets a name by
 * pml_dir_link().  @dir gives group and place.  After a crash it is gone.
 */
int pml_dir_create_unnamed(struct pml_inode *dir, const struct pml_create_args *args,
			   struct pml_inode **ret_inode) PML_MUST_CHECK;
/* -EPERM: @inode is a directory.  -ENOENT: it has been deleted. */
int pml_dir_link(struct pml_inode *dir, const char *name, struct pml_inode *inode) PML_MUST_CHECK;
/* -EISDIR.  Not a layout operation: leases keep the file alive. */
int pml_dir_unlink(struct pml_inode *dir, const char *name) PML_MUST_CHECK;
/* -ENOTEMPTY. */
int pml_dir_rmdir(struct pml_inode *dir, const char *name) PML_MUST_CHECK;
/* @flags: 0, RENAME_NOREPLACE or RENAME_EXCHANGE (else -EINVAL); -EINVAL into own subtree. */
int pml_dir_rename(struct pml_inode *from, const char *name, struct pml_inode *to,
		   const char *new_name, unsigned int flags) PML_MUST_CHECK;

/*
 * The same for who does not come through the kernel, as @cred, by the kernel's rules and under
 * the locks of the change; cred NULL: unchecked.
 *   -EACCES  @cred may not change the directory; or not write a directory that moves to another
 *   -EPERM   the directory is sticky, and neither it nor the file is @cred's
 * @ret_ino: what has lost the name, which may be gone by now.
 */
int pml_dir_remove_as(struct pml_inode *dir, const char *name, bool is_dir,
		      const struct pml_cred *cred, uint64_t *ret_ino) PML_MUST_CHECK;
/* What a rename was about; numbers 0: nothing had to be done, or nothing was replaced. */
struct pml_renamed {
	uint64_t moved_ino;
	uint64_t replaced_ino; /* of an exchange: what has the old name now */
};
int pml_dir_rename_as(struct pml_inode *from, const char *name, struct pml_inode *to,
		      const char *new_name, unsigned int flags, const struct pml_cred *cred,
		      struct pml_renamed *ret_done) PML_MUST_CHECK;

/*
 * A rename that leaves a whiteout, a device node 0/0 of mode 0 and of @cred, behind under
 * the old name: RENAME_WHITEOUT.  Two names of one inode: does nothing, as any rename.
 * @flags: 0 or RENAME_NOREPLACE (else -EINVAL).
 */
int pml_dir_rename_whiteout(struct pml_inode *from, const char *name, struct pml_inode *to,
			    const char *new_name, unsigned int flags,
			    const struct pml_cred *cred) PML_MUST_CHECK;
/* The directory that ".." leads to; -ENOENT: @dir has been removed. */
int pml_dir_parent(struct pml_inode *dir, struct pml_inode **ret_parent) PML_MUST_CHECK;

struct pml_dirent {
	const char *name; /* zero-terminated; valid during the call only */
	uint64_t ino;
	mode_t type;	 /* S_IFMT bits */
	uint64_t cookie; /* pass to pml_dir_read() to go on behind this entry; 1 to INT64_MAX */
};
/* Returns false to stop before taking this entry. */
typedef bool (*pml_dir_emit)(void *arg, const struct pml_dirent *entry);
/*
 * Calls @emit for "." and ".." and each entry behind @cookie (0: from the start).
 * Cookies stay valid while entries come and go.  @emit runs under the directory's
 * lock and must not call the filesystem.
 */
int pml_dir_read(struct pml_inode *dir, uint64_t cookie, pml_dir_emit emit,
		 void *arg) PML_MUST_CHECK;

/*
 * pml_dir_snapshot() - clone a directory tree at one point in time
 *
 * All changes of the filesystem wait meanwhile.  The tree appears as @name in @to whole or
 * not at all (I8).  The guard is asked about every file (clone-src) before anything is
 * made.  -EEXIST, -EMLINK; -ENOENT @from or @to has been removed; -ELOOP more levels than
 * PML_SNAPSHOT_DEPTH_MAX; -E2BIG more files with several names than PML_SNAPSHOT_LINKS_MAX.
 */
#define PML_SNAPSHOT_DEPTH_MAX 4096u
#define PML_SNAPSHOT_LINKS_MAX (4u << 20)
int pml_dir_snapshot(struct pml_inode *from, struct pml_inode *to, const char *name,
		     struct pml_waiter *w) PML_MUST_CHECK;

/* ---- file data ---------------------------------------------------------- */
/*
 * @w may be NULL (cannot wait).  Errors of all that change: -EISDIR or -EINVAL not a
 * regular file; -EFBIG; and what pml_guard_ops.admit() returns, having changed nothing.
 */

/* Holds any read of up to PML_IO_BYTES_MAX, however fragmented the file is. */
#define PML_IOV_MAX	 260
#define PML_IO_BYTES_MAX (1u << 20) /* of one read or write */

/*
 * pml_file_read_begin() - where the bytes are
 * @iov: PML_IOV_MAX entries; holes point at zeros.  They stay valid, with the inode
 *       locked for reading, until pml_file_read_end(), which the same thread calls
 *       after each successful begin.
 *
 * @len_bytes at most PML_IO_BYTES_MAX (else -EINVAL); less only at the end of the file.
 */
int pml_file_read_begin(struct pml_inode *inode, uint64_t first_byte, size_t len_bytes,
			struct iovec *iov, int *ret_iovcnt, size_t *ret_bytes) PML_MUST_CHECK;
void pml_file_read_end(struct pml_inode *inode);

/*
 * All of @len_bytes (at most PML_IO_BYTES_MAX, else -EINVAL) or nothing.  @is_append:
 * @first_byte is ignored, the size taken instead.
 */
int pml_file_write(struct pml_inode *inode, const void *data, size_t len_bytes, uint64_t first_byte,
		   bool is_append, struct pml_waiter *w) PML_MUST_CHECK;

/*
 * pml_file_write_back() - as pml_file_write(), but bytes behind the end of the file are
 * dropped: for pages of mappings, which never make a file longer.  Whoever writes them
 * back may know an old, larger size.
 */
int pml_file_write_back(struct pml_inode *inode, const void *data, size_t len_bytes,
			uint64_t first_byte, struct pml_waiter *w) PML_MUST_CHECK;

int pml_file_truncate(struct pml_inode *inode, uint64_t size_bytes,
		      struct pml_waiter *w) PML_MUST_CHECK;

/*
 * @mode: 0 or FALLOC_FL_KEEP_SIZE (preallocate), FALLOC_FL_PUNCH_HOLE|KEEP_SIZE, or
 * FALLOC_FL_ZERO_RANGE with or without KEEP_SIZE; else -EOPNOTSUPP.  A punch zeroes
 * partial blocks at its edges.  Zeroing preallocates whole blocks, holes too, and zeroes
 * partial ones in place; after -ENOSPC holes may be preallocated and shared blocks copied.
 */
int pml_file_allocate(struct pml_inode *inode, int mode, uint64_t first_byte, uint64_t len_bytes,
		      struct pml_waiter *w) PML_MUST_CHECK;

/*
 * pml_file_clone() - copy_file_range: share whole blocks, copy the edges
 * @ret_bytes: how much was done, at most @len_bytes; may be less (many extents: call
 *             again behind it) and is 0 at the end of @src
 *
 * Blocks are shared where both offsets are equal modulo 4096 and copied elsewhere.
 * -EINVAL: overlapping ranges of one file.
 */
int pml_file_clone(struct pml_inode *src, uint64_t src_byte, struct pml_inode *dst,
		   uint64_t dst_byte, uint64_t len_bytes, struct pml_waiter *w,
		   uint64_t *ret_bytes) PML_MUST_CHECK;

/*
 * pml_file_clone_blocks() - FICLONERANGE: as pml_file_clone(), but shares or fails
 *
 * -EINVAL: offsets or length cannot be shared, or the range reaches behind the end of
 * @src; -EMLINK: a block has PML_SHARES_MAX shares.  @len_bytes 0: to the end of @src.
 */
int pml_file_clone_blocks(struct pml_inode *src, uint64_t src_byte, struct pml_inode *dst,
			  uint64_t dst_byte, uint64_t len_bytes, struct pml_waiter *w,
			  uint64_t *ret_bytes) PML_MUST_CHECK;

/*
 * pml_file_dedupe() - FIDEDUPERANGE: share what holds the same bytes
 * @ret_bytes: how much is shared now, when @ret_is_same
 *
 * Compares and shares under both locks; at most PML_DEDUPE_BYTES_MAX.  Leaves times alone.
 * -EINVAL as ioctl.h says.  An error in the middle of many extents leaves the first ones
 * shared, which nobody sees.
 */
#define PML_DEDUPE_BYTES_MAX (1u << 30)
int pml_file_dedupe(struct pml_inode *src, uint64_t src_byte, struct pml_inode *dst,
		    uint64_t dst_byte, uint64_t len_bytes, struct pml_waiter *w,
		    uint64_t *ret_bytes, bool *ret_is_same) PML_MUST_CHECK;

/*
 * Takes [first_byte, +len_bytes) out of the file, or puts a hole there; what lies behind
 * it moves.  All or nothing, also across a crash (I8).  -EINVAL: not multiples of
 * PML_BLOCK_BYTES, 0, a collapse that reaches the end, an insertion at or behind the end.
 */
int pml_file_collapse(struct pml_inode *inode, uint64_t first_byte, uint64_t len_bytes,
		      struct pml_waiter *w) PML_MUST_CHECK;
int pml_file_insert(struct pml_inode *inode, uint64_t first_byte, uint64_t len_bytes,
		    struct pml_waiter *w) PML_MUST_CHECK;

/*
 * Copies the shared blocks that the range touches, so that each has one share.  -ENOSPC
 * before the first copy when free blocks do not suffice; a later error leaves the first
 * ones copied.  -EINVAL: empty.
 */
int pml_file_unshare(struct pml_inode *inode, uint64_t first_byte, uint64_t len_bytes,
		     struct pml_waiter *w) PML_MUST_CHECK;

/* What one call of pml_file_relocate() came to. */
struct pml_relocation {
	uint64_t next_byte;	       /* where to go on; 0: nothing is left of the range */
	uint64_t moved_bytes;	       /* 8 MiB at most */
	uint64_t skipped_shared_bytes; /* left alone: another extent maps the blocks, too */
	uint64_t skipped_leased_bytes; /* left alone, as the guard wants it (policy skip) */
};
/*
 * pml_file_relocate() - move a file's blocks so that it lies in fewer extents
 * @len_bytes: 0: to the end of what is mapped; the range grows to whole blocks
 *
 * One step: goes along the file up to the first part that lies better elsewhere, and moves
 * that in one transaction; call again for what is behind it.  Better is: fewer places where
 * the file is not contiguous on the device, or as many, and more whole 2 MiB units of it.
 * Bytes, times, holes, preallocated blocks and the number of blocks stay what they are.
 * Where there is no better place, or too little free space, nothing happens, which is no
 * error.  The guard is asked (relocate) about exactly what is going to be moved.
 */
int pml_file_relocate(struct pml_inode *inode, uint64_t first_byte, uint64_t len_bytes,
		      struct pml_waiter *w, struct pml_relocation *ret_result) PML_MUST_CHECK;

/* Blocks that follow each other in a file and on the device, with equal shares and pins. */
struct pml_extent_info {
	uint64_t first_byte; /* in the file */
	uint64_t block;	     /* on the device */
	uint64_t nblocks;
	uint32_t shares;
	bool is_unwritten;
	bool is_pinned;
	bool is_last; /* nothing is mapped behind it */
};
/*
 * The first @max of what is mapped from the block of @first_byte on; *ret_next_byte is
 * where to go on.  May give none where nothing is mapped.
 */
int pml_file_extents(struct pml_inode *inode, uint64_t first_byte, struct pml_extent_info *infos,
		     size_t max, size_t *ret_count, uint64_t *ret_next_byte) PML_MUST_CHECK;

/* @whence SEEK_DATA or SEEK_HOLE; -ENXIO as lseek(2). */
int pml_file_seek(struct pml_inode *inode, uint64_t from_byte, int whence,
		  uint64_t *ret_byte) PML_MUST_CHECK;

/* Makes the file's data durable, also what remote writers left in caches. */
int pml_file_sync(struct pml_inode *inode) PML_MUST_CHECK;

/* ---- what leases use ---------------------------------------------------- */

/* A run of pinned blocks of a file that is contiguous on the device. */
struct pml_segment {
	uint64_t first_byte; /* in the file */
	uint64_t len_bytes;
	uint8_t *addr;	  /* of first_byte in the device's mapping */
	uint64_t block;	  /* first pinned device block */
	uint64_t nblocks; /* 0: memory that is not the device's (pml/lease.h) */
};

enum pml_pin_kind {
	PML_PIN_READ,
	PML_PIN_WRITE,
	PML_PIN_OWNED_READ, /* for reading beside writers that may come */
};

/*
 * pml_file_pin() - pin the blocks behind a byte range, for remote access
 * @segments: @max entries; ordered by first_byte
 * @ret_end:  the range covered ends here: less than asked when @segments is full or,
 *            for reading, at the end of the file
 *
 * For reading, holes and preallocated blocks have no segment: the holder reads zeros.
 * For writing, the range is rounded out to whole blocks, shared blocks are copied, holes
 * allocated, and all fresh blocks zeroed first (I5, I6); the range may reach past the end of the
 * file: those blocks read as zeros to everybody else until pml_file_commit().  The file loses
 * setuid, setgid and capabilities, as by a write (pml_inode_drop_privileges()).  What another
 * pin for writing covers already is left as its holder has it.
 *
 * For owned reading, blocks are prepared as for writing, up to the end of the file.
 *
 * Assumes: the lease table already excludes conflicting leases and holds back layout
 * operations on the range.  Returns 0, or
 *   -EINVAL empty range or not a regular file; -EFBIG past PML_FILE_BYTES_MAX
 *   -EUSERS the pin counter of a block would overflow
 *   -ENODATA (reading) the range begins at or behind the end of the file
 */
int pml_file_pin(struct pml_inode *inode, uint64_t first_byte, uint64_t len_bytes,
		 enum pml_pin_kind kind, struct pml_segment *segments, size_t max,
		 size_t *ret_count, uint64_t *ret_end) PML_MUST_CHECK;

/*
 * Drops the pins of one segment; blocks without shares become free.  Call it only
 * after the transport has confirmed the fence (I3).  Cannot fail.
 */
void pml_fs_unpin(struct pml_fs *fs, const struct pml_segment *segment);

/*
 * pml_file_commit() - make a remote writer's bytes durable and visible
 * @new_size_bytes: at least this size afterwards; 0: leave it
 * @is_durable: the writer has made its bytes durable by itself: they are not flushed here
 * @w: NULL: one that only tries; a refusal is not counted as one
 *
 * The range was pinned for writing by the caller, who keeps it pinned during the call; not
 * while the commit waits.  Flushes it, makes preallocated blocks below the new size readable,
 * grows the size, sets mtime and ctime.  Durable: on return.  Growing may have to move a shared
 * last block from under somebody's lease (I4): then it is as any change of a layout, with the
 * errors of pml_guard_ops.admit(), and nothing but the flush was done.
 */
int pml_file_commit(struct pml_inode *inode, uint64_t first_byte, uint64_t len_bytes,
		    uint64_t new_size_bytes, bool is_durable, struct pml_waiter *w) PML_MUST_CHECK;

/*
 * Gives back what a write lease on the range allocated past the end of the file and did
 * not commit, unless the file keeps preallocated space (pml_file_allocate()).  After the
 * lease's unpin; what another lease has pinned for writing stays.  Best effort: what cannot
 * be freed now stays with the file.
 */
void pml_file_trim(struct pml_inode *inode, uint64_t first_byte, uint64_t end_byte);

/*
 * Flushes a range of the data area's mapping out of the processor's caches, which makes it
 * durable on a cache-line device (pml_device_info.is_cache_line), on return.  Any thread.
 */
void pml_fs_persist(const struct pml_fs *fs, const void *addr, uint64_t bytes);

/* The whole data area's mapping: what a transport may have to register. */
void pml_fs_mapping(const struct pml_fs *fs, uint8_t **ret_base, uint64_t *ret_bytes);

#endif
