/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * daemon.c -- into the background, but not before the outcome is known
 */
#include <fcntl.h>
#include <stdio.h>
#include <sys/wait.h>

#include "daemon.h"

/* The child is ready when a byte comes, and has failed when it ends without one. */
static void wait_and_exit(pid_t child, int ready_fd, int failed_status)
{
	char byte = 0;
	ssize_t got;
	do
		got = read(ready_fd, &byte, 1);
	while (got < 0 && errno == EINTR);
	if (got == 1)
		_exit(0);

	int status = 0;
	while (waitpid(child, &status, 0) < 0 && errno == EINTR)
		continue;
	_exit(WIFEXITED(status) && WEXITSTATUS(status) != 0 ? WEXITSTATUS(status) : failed_status);
}

int pml_daemon_fork(int failed_status, int *ret_ready_fd)
{
	int fds[2];
	if (pipe2(fds, O_CLOEXEC) != 0)
		return -errno;
	if (fflush(NULL) != 0)
		return -errno;
	pid_t child = fork();
	if (child < 0)
		return -errno;
	if (child > 0) {
		(void)close(fds[1]);
		wait_and_exit(child, fds[0], failed_status);
	}
	(void)close(fds[0]);
	*ret_ready_fd = fds[1];
	return 0;
}

int pml_daemon_ready(int ready_fd)
{
	if (setsid() < 0 || chdir("/") != 0)
		return -errno;
	pml_auto_close int null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	if (null_fd < 0)
		return -errno;
	(void)fflush(stdout);
	(void)fflush(stderr);
	for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
		if (dup2(null_fd, fd) < 0)
			return -errno;
	ssize_t put = write(ready_fd, "1", 1);
	int err = put == 1 ? 0 : -EPIPE;
	(void)close(ready_fd);
	return err;
}
