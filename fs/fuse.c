/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fuse.c -- the front end's life: mount, threads, unmount
 *
 * Threads, besides the workers, which serve requests (fuse_loop.c):
 *   rerun    run operations again whose leases have ended (fuse_jobs.c)
 *   tell     tell the kernel what is stale; may wait in the kernel for a page
 *   answer   answer ioctls that have changed files, when the kernel knows (fuse_calls.c)
 *   signal   during pml_fuse_loop(): takes the signals that end it
 *
 * pml_fuse_loop() blocks the signals for threads that start later; the program
 * blocks them for those that it starts earlier.
 */
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mount.h>

#include "fuse_private.h"
#include "fuse_loop.h"
#include "pml/log.h"
#include "pool.h"

/* How long an unmount waits for operations that the lease manager has let go. */
#define DRAIN_TIMEOUT_S 10u

/* ---- what libfuse says -------------------------------------------------- */

/* libfuse's messages have no context argument, and its errors no text: kept here. */
static struct {
	pthread_mutex_t lock;
	bool is_kept; /* keep the next message instead of logging it */
	char text[PML_REASON_BYTES];
} said = {.lock = PTHREAD_MUTEX_INITIALIZER};

static PML_PRINTF(2, 0) void on_libfuse_message(enum fuse_log_level level, const char *fmt,
						va_list args)
{
	char text[PML_REASON_BYTES];
	(void)vsnprintf(text, sizeof(text), fmt, args);
	text[strcspn(text, "\n")] = '\0';

	pthread_mutex_lock(&said.lock);
	bool is_kept = said.is_kept;
	if (is_kept && said.text[0] == '\0')
		memcpy(said.text, text, sizeof(text));
	pthread_mutex_unlock(&said.lock);
	if (!is_kept)
		syslog((int)level, "%s", text);
}

static void keep_messages(bool is_kept)
{
	pthread_mutex_lock(&said.lock);
	said.is_kept = is_kept;
	said.text[0] = '\0';
	pthread_mutex_unlock(&said.lock);
}

static void explain(char *ret_reason, const char *object, const char *what)
{
	pthread_mutex_lock(&said.lock);
	const char *text = said.text[0] ? said.text : what;
	(void)snprintf(ret_reason, PML_REASON_BYTES, "%.100s: %.150s", object, text);
	pthread_mutex_unlock(&said.lock);
}

/* ---- telling the kernel what is stale ----------------------------------- */

/*
 * The answer that tells the kernel of an inode, and of attributes that are stale by now, may
 * be on its way or with a thread that is not running: the kernel is told again until it knows
 * the inode.  Else it has forgotten it, and we are about to hear of that.  2 s at most.
 */
#define UNKNOWN_TRIES 4000
#define UNKNOWN_US    500

/* @bytes 0: to the end.  @first_byte -1: attributes alone.  False: it does not know the inode. */
static bool invalidate(const struct pml_fuse *fuse, uint64_t ino, off_t first_byte, off_t bytes)
{
	int err = 0;
	for (int i = 0; i < UNKNOWN_TRIES; i++) {
		err = fuse_lowlevel_notify_inval_inode(fuse->session, ino, first_byte, bytes);
		if (err != -ENOENT || !pml_fuse_nodes_is_known(fuse->nodes, ino))
			break;
		(void)usleep(UNKNOWN_US);
	}
	return !err;
}

/*
 * The kernel keeps a size that it was told to forget until it asks for attributes, and puts
 * what is appended there.  Storing the last byte in its cache tells it the new one.
 */
static void tell_size(const struct pml_fuse *fuse, uint64_t ino, uint64_t end_byte)
{
	struct pml_inode *inode = NULL;
	if (pml_inode_get(fuse->fs, ino, &inode) != 0)
		return;
	uint64_t size = pml_inode_size(inode);
	struct iovec iov[PML_IOV_MAX];
	int iovcnt = 0;
	size_t bytes = 0;
	char last = 0;
	if (size > 0 && end_byte >= size &&
	    pml_file_read_begin(inode, size - 1, 1, iov, &iovcnt, &bytes) == 0) {
		if (bytes == 1)
			last = *(const char *)iov[0].iov_base;
		pml_file_read_end(inode);
	}
	pml_inode_put(inode, 1);
	if (bytes == 1) {
		struct fuse_bufvec buffer = FUSE_BUFVEC_INIT(1);
		buffer.buf[0].mem = &last;
		(void)fuse_lowlevel_notify_store(fuse->session, ino, (off_t)size - 1, &buffer, 0);
		/* The byte may have been written since it was read: it must not stay. */
		(void)invalidate(fuse, ino, (off_t)size - 1, 1);
	}
}

static void tell_range(struct pml_fuse *fuse, struct pml_fuse_tell *tell)
{
	uint64_t ino = tell->stale.ino;
	uint64_t end = tell->stale.end_byte;
	if (tell->stale.first_byte >= end) {
		(void)invalidate(fuse, ino, -1, 0);
		return;
	}
	struct pml_fuse_stale piece;
	bool is_whole = true;
	while (pml_fuse_nodes_next_piece(fuse->nodes, tell, &piece)) {
		off_t bytes =
			piece.end_byte > INT64_MAX ? 0 : (off_t)(piece.end_byte - piece.first_byte);
		tell->is_all &= invalidate(fuse, ino, (off_t)piece.first_byte, bytes);
		is_whole = piece.end_byte == end;
	}
	/* If not, the last page belongs to a parked write, and is told again after it. */
	if (is_whole)
		tell_size(fuse, ino, end);
}

static void tell_name(const struct pml_fuse *fuse, const struct pml_fuse_tell *tell)
{
	/* The directory has new times. */
	(void)invalidate(fuse, tell->stale.ino, -1, 0);
	/* -ENOENT: the kernel had no such name, or never looked. */
	(void)fuse_lowlevel_notify_inval_entry(fuse->session, tell->stale.ino, tell->name,
					       strlen(tell->name));
}

static void *tell_thread(void *arg)
{
	struct pml_fuse *fuse = arg;
	struct pml_fuse_tell tell;

	while (pml_fuse_nodes_take(fuse->nodes, &tell)) {
		if (tell.name)
			tell_name(fuse, &tell);
		else
			tell_range(fuse, &tell);
		pml_fuse_nodes_told(fuse->nodes, &tell);
	}
	return NULL;
}

static int start_tellers(struct pml_fuse *fuse)
{
	while (fuse->ntellers < PML_FUSE_TELL_THREADS) {
		int err = pthread_create(&fuse->tellers[fuse->ntellers], NULL, tell_thread, fuse);
		if (err)
			return -err;
		fuse->ntellers++;
	}
	return 0;
}

static struct pml_fuse_stale stale_of(uint64_t ino, uint64_t first_byte, uint64_t len_bytes)
{
	struct pml_fuse_stale stale = {.ino = ino, .first_byte = first_byte};
	if (__builtin_add_overflow(first_byte, len_bytes, &stale.end_byte))
		stale.end_byte = UINT64_MAX;
	if (stale.first_byte > INT64_MAX)
		stale.end_byte = 0;
	return stale;
}

void pml_fuse_invalidate(struct pml_fuse *fuse, uint64_t ino, uint64_t first_byte,
			 uint64_t len_bytes)
{
	const struct pml_fuse_stale stale = stale_of(ino, first_byte, len_bytes);
	pml_fuse_nodes_mark(fuse->nodes, &stale);
}

void pml_fuse_tell(struct pml_fuse *fuse, uint64_t ino, uint64_t first_byte, uint64_t len_bytes)
{
	const struct pml_fuse_stale stale = stale_of(ino, first_byte, len_bytes);
	pml_fuse_nodes_ask(fuse->nodes, &stale, NULL);
}

void pml_fuse_tell_name(struct pml_fuse *fuse, uint64_t dir_ino, const char *name)
{
	const struct pml_fuse_stale stale = {.ino = dir_ino};
	pml_fuse_nodes_ask(fuse->nodes, &stale, name);
}

/* ---- mount -------------------------------------------------------------- */

/* Appends "-o" and @option, in which libfuse takes a backslash for an escape. */
static int add_option(struct fuse_args *args, const char *option, const char *value)
{
	pml_auto_free char *text = malloc(strlen(option) + 2 * strlen(value) + 1);
	if (!text)
		return -ENOMEM;
	char *to = stpcpy(text, option);
	for (const char *from = value; *from; from++) {
		if (*from == '\\')
			*to++ = '\\';
		*to++ = *from;
	}
	*to = '\0';
	if (fuse_opt_add_arg(args, "-o") || fuse_opt_add_arg(args, text))
		return -ENOMEM;
	return 0;
}

static int build_args(const struct pml_fuse_args *args, struct fuse_args *fuse_args)
{
	if (strchr(args->source, ','))
		return -EINVAL;
	if (fuse_opt_add_arg(fuse_args, "pmemleasefs"))
		return -ENOMEM;
	int err = add_option(fuse_args, "fsname=", args->source);
	if (!err)
		err = add_option(fuse_args, "subtype=pmemleasefs", "");
	if (!err && args->kernel_options[0])
		err = add_option(fuse_args, args->kernel_options, "");
	return err;
}

static int mount_session(struct pml_fuse *fuse, const struct pml_fuse_args *args, char *ret_reason)
{
	struct fuse_args fuse_args = FUSE_ARGS_INIT(0, NULL);
	int err = build_args(args, &fuse_args);
	if (err) {
		explain(ret_reason, args->source,
			err == -EINVAL ? "a comma in a device's name cannot be mounted"
				       : strerror(-err));
		fuse_opt_free_args(&fuse_args);
		return err;
	}
	fuse->session = fuse_session_new(&fuse_args, &pml_fuse_ops, sizeof(pml_fuse_ops), fuse);
	fuse_opt_free_args(&fuse_args);
	if (!fuse->session) {
		explain(ret_reason, args->kernel_options, "options refused by libfuse");
		return -EINVAL;
	}
	errno = 0;
	if (fuse_session_mount(fuse->session, args->mountpoint) != 0) {
		int mount_errno = errno ? errno : EIO;
		explain(ret_reason, args->mountpoint, strerror(mount_errno));
		fuse_session_destroy(fuse->session);
		fuse->session = NULL;
		return -mount_errno;
	}
	err = pml_fuse_take_io(fuse);
	if (err) {
		explain(ret_reason, args->mountpoint, strerror(-err));
		fuse_session_unmount(fuse->session);
		fuse_session_destroy(fuse->session);
		fuse->session = NULL;
	}
	return err;
}

/* Everything but the mount itself.  What fails half-way is left to undo_mount(). */
static int prepare(struct pml_fuse *fuse, const struct pml_fuse_args *args)
{
	fuse->fs = args->fs;
	fuse->ioctl = args->ioctl;
	fuse->open_ops = args->open;
	fuse->atime = args->atime;
	fuse->dir_atime = args->dir_atime;
	fuse->owner = geteuid();
	fuse->mountpoint = strdup(args->mountpoint);
	if (!fuse->mountpoint)
		return -ENOMEM;
	int err = pml_fuse_nodes_new(&fuse->nodes);
	if (!err)
		err = pml_fuse_tokens_new(&fuse->tokens);
	if (err)
		return err;
	struct pml_inode *root = NULL;
	err = pml_inode_get(fuse->fs, PML_ROOT_INO, &root);
	if (err)
		return err;
	err = pml_fuse_nodes_add(fuse->nodes, root);
	if (err)
		pml_inode_put(root, 1);
	return err;
}

static void free_fuse(struct pml_fuse *fuse)
{
	pml_fuse_opens_fini(&fuse->opens);
	pml_fuse_tokens_free(fuse->tokens);
	pml_fuse_nodes_free(fuse->nodes);
	free(fuse->mountpoint);
	free(fuse);
}

int pml_fuse_mount(const struct pml_fuse_args *args, struct pml_fuse **ret_fuse, char *ret_reason)
{
	struct pml_fuse *fuse = calloc(1, sizeof(*fuse));
	if (!fuse)
		return -ENOMEM;

	pml_fuse_opens_init(&fuse->opens);
	fuse_set_log_func(on_libfuse_message);
	keep_messages(true);
	int err = prepare(fuse, args);
	if (err)
		explain(ret_reason, args->source, strerror(-err));
	else
		err = mount_session(fuse, args, ret_reason);
	keep_messages(false);
	if (err) {
		free_fuse(fuse);
		return err;
	}

	err = pml_fuse_jobs_init(&fuse->jobs);
	if (!err)
		err = start_tellers(fuse);
	if (!err)
		err = pml_fuse_answers_init(fuse);
	if (err) {
		explain(ret_reason, args->mountpoint, strerror(-err));
		pml_fuse_unmount(fuse);
		return err;
	}
	*ret_fuse = fuse;
	return 0;
}

/* ---- loop --------------------------------------------------------------- */

/* What the signal thread and the loop's thread say to each other. */
struct ending {
	struct pml_fuse *fuse;
	int wake_fd; /* an eventfd */
	sigset_t signals;
	_Atomic bool is_over; /* the loop has returned */
};

static void *signal_thread(void *arg)
{
	struct ending *ending = arg;
	int signo = 0;

	while (sigwait(&ending->signals, &signo) != 0)
		continue;
	if (ending->is_over)
		return NULL;
	pml_log_info("unmounting after signal %d", signo);
	const struct pml_fuse_open_ops *ops = &ending->fuse->open_ops;
	if (ops->ending)
		ops->ending(ops->arg);
	fuse_session_exit(ending->fuse->session);
	(void)eventfd_write(ending->wake_fd, 1);
	return NULL;
}

int pml_fuse_loop(struct pml_fuse *fuse)
{
	fuse->guard_ops = fuse->fs->guard_ops;
	fuse->guard = fuse->fs->guard;

	pml_auto_close int wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (wake_fd < 0)
		return -errno;
	struct ending ending = {.fuse = fuse, .wake_fd = wake_fd};
	sigemptyset(&ending.signals);
	sigaddset(&ending.signals, SIGTERM);
	sigaddset(&ending.signals, SIGINT);
	sigaddset(&ending.signals, SIGHUP);
	pthread_sigmask(SIG_BLOCK, &ending.signals, NULL);

	pthread_t thread;
	int err = pthread_create(&thread, NULL, signal_thread, &ending);
	if (err)
		return -err;
	err = pml_fuse_loop_run(fuse->session, wake_fd, pml_fuse_read_request,
				pml_fuse_answer_statx, fuse);
	pml_fuse_nodes_stop_waiting(fuse->nodes);
	pml_fuse_answers_drain(&fuse->answers);
	ending.is_over = true;
	/* Harmless if the thread has already got one. */
	(void)pthread_kill(thread, SIGTERM);
	(void)pthread_join(thread, NULL);
	return err;
}

/* ---- unmount ------------------------------------------------------------ */

static bool is_mounted(const struct pml_fuse *fuse)
{
	struct pollfd pfd = {.fd = fuse_session_fd(fuse->session)};
	return poll(&pfd, 1, 0) == 0 || !(pfd.revents & POLLERR);
}

/*
 * Requests that nobody will answer any more are ended by the kernel, and with them what
 * a teller may be waiting for.  Without the right to, libfuse's unmount has to do.
 */
static void abort_connection(const struct pml_fuse *fuse)
{
	if (is_mounted(fuse) && geteuid() == 0)
		(void)umount2(fuse->mountpoint, MNT_FORCE | MNT_DETACH | UMOUNT_NOFOLLOW);
}

void pml_fuse_unmount(struct pml_fuse *fuse)
{
	if (pml_fuse_jobs_fini(&fuse->jobs, DRAIN_TIMEOUT_S) != 0) {
		/* A job may still be touched: leak it all. */
		abort_connection(fuse);
		return;
	}
	pml_fuse_nodes_stop(fuse->nodes);
	abort_connection(fuse);
	for (uint32_t i = 0; i < fuse->ntellers; i++)
		(void)pthread_join(fuse->tellers[i], NULL);
	pml_fuse_answers_fini(fuse);
	fuse_session_unmount(fuse->session);
	fuse_session_destroy(fuse->session);
	free_fuse(fuse);
}
