/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * survivor.c -- a child that ends the FUSE connection of a daemon that was killed
 *
 * A pipe does not tell of the death: the thread that hangs keeps its end open.  The
 * parent-death signal does (prctl(2), PR_SET_PDEATHSIG): it is sent when the main thread
 * is gone.
 */
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "survivor.h"

/* Which mount: another one may be in its place by then. */
struct mount_id {
	uint32_t major;
	uint32_t minor;
};

/* Asks the kernel only: nobody may be there to answer. */
static int mount_id_of(int fd, struct mount_id *ret_id)
{
	struct statx stx;
	if (statx(fd, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, 0, &stx) != 0)
		return -errno;
	*ret_id = (struct mount_id){.major = stx.stx_dev_major, .minor = stx.stx_dev_minor};
	return 0;
}

/* The open descriptor keeps the mount busy, so that it is not unmounted. */
static void end_connection(const char *mountpoint, const struct mount_id *id)
{
	struct mount_id now;
	pml_auto_close int fd = open(mountpoint, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (fd >= 0 && mount_id_of(fd, &now) == 0 && now.major == id->major &&
	    now.minor == id->minor)
		(void)umount2(mountpoint, MNT_FORCE | UMOUNT_NOFOLLOW);
}

/* Keeps @fd as descriptor 3 and nothing else of the daemon's. */
static int let_go(int fd)
{
	(void)setsid();
	(void)prctl(PR_SET_NAME, "pml-survivor");
	int null_fd = open("/dev/null", O_RDWR);
	if (null_fd < 0 || chdir("/") != 0)
		return -errno;
	for (int std = STDIN_FILENO; std <= STDERR_FILENO; std++)
		if (dup2(null_fd, std) < 0)
			return -errno;
	if (fd != STDERR_FILENO + 1 && dup2(fd, STDERR_FILENO + 1) < 0)
		return -errno;
	return close_range(STDERR_FILENO + 2, ~0u, 0) == 0 ? 0 : -errno;
}

static int death_fd(pid_t parent)
{
	sigset_t signals;
	sigemptyset(&signals);
	sigaddset(&signals, SIGUSR1);
	if (sigprocmask(SIG_BLOCK, &signals, NULL) != 0 || prctl(PR_SET_PDEATHSIG, SIGUSR1) != 0)
		return -errno;
	/* It may have died before. */
	if (getppid() != parent)
		return -ESRCH;
	int fd = signalfd(-1, &signals, SFD_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

static int survive(pid_t parent, int fd, const char *mountpoint)
{
	struct mount_id id = {0};
	bool is_armed = false;

	if (let_go(fd) != 0)
		return 1;
	struct pollfd fds[] = {{.fd = death_fd(parent), .events = POLLIN},
			       {.fd = STDERR_FILENO + 1, .events = POLLIN}};
	if (fds[0].fd < 0)
		return 1;
	for (;;) {
		if (poll(fds, PML_ARRAY_LEN(fds), -1) < 0)
			continue;
		/*
		 * What was said before the death comes first.  The pipe's end may be seen before
		 * the signal, and is as good.  After an orderly end the mount is gone.
		 */
		if (fds[1].revents && read(fds[1].fd, &id, sizeof(id)) == (ssize_t)sizeof(id)) {
			is_armed = true;
			continue;
		}
		if (is_armed)
			end_connection(mountpoint, &id);
		return 0;
	}
}

int pml_survivor_start(const char *mountpoint, struct pml_survivor *ret_survivor)
{
	*ret_survivor = (struct pml_survivor){.fd = -1};
	if (geteuid() != 0)
		return 0;
	int fds[2];
	if (pipe2(fds, O_CLOEXEC) != 0)
		return -errno;
	if (fflush(NULL) != 0)
		return -errno;
	pid_t parent = getpid();
	pid_t child = fork();
	if (child == 0)
		_exit(survive(parent, fds[0], mountpoint));
	int err = child < 0 ? -errno : 0;
	(void)close(fds[0]);
	if (err) {
		(void)close(fds[1]);
		return err;
	}
	*ret_survivor = (struct pml_survivor){.pid = child, .fd = fds[1]};
	return 0;
}

void pml_survivor_arm(const struct pml_survivor *survivor, const char *mountpoint)
{
	struct mount_id id;
	if (!survivor->pid)
		return;
	pml_auto_close int fd = open(mountpoint, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (fd >= 0 && mount_id_of(fd, &id) == 0)
		(void)!write(survivor->fd, &id, sizeof(id));
}

void pml_survivor_end(const struct pml_survivor *survivor)
{
	if (!survivor->pid)
		return;
	(void)close(survivor->fd);
	while (waitpid(survivor->pid, NULL, 0) < 0 && errno == EINTR)
		continue;
}
