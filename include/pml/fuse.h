/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fuse.h -- the kernel's side: serves a filesystem at a directory through libfuse3
 *
 * Implemented by fs/fuse.c and the files beside it; only fs/fuse_private.h includes libfuse.
 */
#ifndef PML_FUSE_H
#define PML_FUSE_H

#include "pml/base.h"
#include "pml/fs.h"
#include "pml/guard.h"

struct pml_fuse;

/* Private ioctls on the root directory that the front end does not know itself. */
struct pml_fuse_ioctl_ops {
	/*
	 * @data: _IOC_SIZE(cmd) bytes, in and out.  Returns 0 or -errno (-ENOTTY: not one of
	 * ours).  Called for uid 0 and the owner of the mount only.
	 */
	int (*ioctl)(void *arg, unsigned int cmd, void *data, size_t bytes);
	void *arg;
};

/* An open file description of a regular file, and who calls. */
struct pml_fuse_open {
	uint64_t id; /* never 0, never used again */
	uint64_t ino;
	bool can_read;
	bool can_write;
	uid_t uid;
	pid_t tid; /* of the thread; it waits until it is answered.  0: not visible from here */
};

/* What open files are good for that the front end does not know itself. */
struct pml_fuse_open_ops {
	/*
	 * Private ioctls on regular files, from number 32 on.  @data as above.  May block as
	 * any operation may, but not wait for a lease.  -ENOTTY: not one of ours.
	 */
	int (*ioctl)(void *arg, const struct pml_fuse_open *open, unsigned int cmd, void *data,
		     size_t bytes);
	/*
	 * May this one call pml_fuse_tell()?  Then it comes on a thread that may, and others
	 * like it wait behind it.
	 */
	bool (*may_tell)(unsigned int cmd);
	/*
	 * Does an event wait, for POLLPRI?  When one comes later: pml_fuse_wake().  NULL: the
	 * kernel answers poll(2) without asking.
	 */
	bool (*has_event)(void *arg, uint64_t open_id);
	/* For pml_waiter.session of what is done through this description; 0: nobody. */
	uint64_t (*session)(void *arg, uint64_t open_id);
	/*
	 * It is closed, by everybody who had it.  Nothing of it runs any more or comes later.
	 * Must not block.  Not called for what is open when the loop ends.
	 */
	void (*released)(void *arg, uint64_t open_id);
	/*
	 * A signal is about to end the loop.  Requests are still served.  In a thread that may
	 * wait, for some seconds.
	 */
	void (*ending)(void *arg);
	void *arg;
};

struct pml_fuse_args {
	struct pml_fs *fs;
	const char *source; /* the device, for the mount table; a comma is refused with -EINVAL */
	const char *mountpoint;
	const char *kernel_options; /* "allow_other,default_permissions": a list, may be "" */
	enum pml_atime atime;	    /* of everything but directories */
	enum pml_atime dir_atime;
	struct pml_fuse_ioctl_ops ioctl;
	struct pml_fuse_open_ops open; /* all of it NULL: there are no such ioctls */
};

/* Mounts.  From here on the kernel may send requests; pml_fuse_loop() answers them. */
int pml_fuse_mount(const struct pml_fuse_args *args, struct pml_fuse **ret_fuse,
		   char *ret_reason) PML_MUST_CHECK;
/*
 * Serves requests with several threads until unmounted or SIGTERM, SIGINT, SIGHUP, which
 * the caller has blocked before it started threads.  Operations wait at the guard that is
 * installed now (pml_fs_set_guard()); they are let go by its end, after the loop's and
 * before pml_fuse_unmount().  0 or -errno.
 */
int pml_fuse_loop(struct pml_fuse *fuse) PML_MUST_CHECK;
/*
 * Tells the kernel that cached pages and attributes of a range are stale; of an empty one
 * attributes alone.  Queued to threads of its own: never blocks, safe under any lock and
 * from any thread.  Who opens the file after the call sees no stale page; who has it open
 * may see one for a moment.
 */
void pml_fuse_invalidate(struct pml_fuse *fuse, uint64_t ino, uint64_t first_byte,
			 uint64_t len_bytes);
/*
 * The same, and waits until the kernel knows: from then on no local reader sees anything
 * older, but in pages that a local write to the file, which waits for a lease, is about to
 * change.  Without locks; not from a thread that serves requests.  At most some seconds.
 */
void pml_fuse_tell(struct pml_fuse *fuse, uint64_t ino, uint64_t first_byte, uint64_t len_bytes);
/* A name in a directory has come, gone or changed, not through the kernel.  As pml_fuse_tell(). */
void pml_fuse_tell_name(struct pml_fuse *fuse, uint64_t dir_ino, const char *name);
/*
 * An event came for an open file: who polls it looks again.  Never blocks, from any thread,
 * with no lock that has_event() takes.  Harmless for an id that is gone.
 */
void pml_fuse_wake(struct pml_fuse *fuse, uint64_t open_id);
/* Unmounts if still mounted, waits for parked operations' threads, drops all references. */
void pml_fuse_unmount(struct pml_fuse *fuse);

#endif
