/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * process.c -- a process that can be killed, and nobody in its place
 *
 * pidfd_open(2) takes the number of a process, and the kernel says which thread has
 * called.  Doc: pidfd_open(2), proc_pid_status(5).
 */
#include "process.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/pidfd.h>

#include "pml/log.h"

struct pml_process {
	atomic_uint refs;
	int fd;
	pid_t pid;
	bool was_killed; /* of the thread that kills */
};

/* The process that a thread belongs to; 0: there is no such thread. */
static pid_t process_of(pid_t tid)
{
	char path[48], text[1024];
	(void)snprintf(path, sizeof(path), "/proc/%d/status", (int)tid);
	pml_auto_close int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
	if (n <= 0)
		return 0;
	text[n] = '\0';
	const char *at = strstr(text, "\nTgid:");
	return at ? (pid_t)strtol(at + 6, NULL, 10) : 0;
}

int pml_process_of_thread(pid_t tid, struct pml_process **ret_process)
{
	pid_t pid = tid > 0 ? process_of(tid) : 0;
	if (pid <= 0)
		return -ESRCH;
	if (pid == getpid())
		return -EPERM;
	pml_auto_close int fd = pidfd_open(pid, 0);
	/* It cannot be another one by now: its thread lives. */
	if (fd < 0 || pidfd_send_signal(fd, 0, NULL, 0) != 0)
		return -errno;
	struct pml_process *process = calloc(1, sizeof(*process));
	if (!process)
		return -ENOMEM;
	process->refs = 1;
	process->fd = pml_take_fd(&fd);
	process->pid = pid;
	*ret_process = process;
	return 0;
}

void pml_process_ref(struct pml_process *process)
{
	atomic_fetch_add(&process->refs, 1);
}

void pml_process_put(struct pml_process *process)
{
	if (!process || atomic_fetch_sub(&process->refs, 1) > 1)
		return;
	(void)close(process->fd);
	free(process);
}

pid_t pml_process_pid(const struct pml_process *process)
{
	return process->pid;
}

/* Waits at most @ms. */
static bool has_ended(const struct pml_process *process, int ms)
{
	struct pollfd ended = {.fd = process->fd, .events = POLLIN};
	int n;
	do
		n = poll(&ended, 1, ms);
	while (n < 0 && errno == EINTR);
	return n > 0;
}

bool pml_process_has_thread(const struct pml_process *process, pid_t tid)
{
	return process_of(tid) == process->pid && !has_ended(process, 0);
}

bool pml_process_kill(struct pml_process *process, unsigned int wait_ms)
{
	if (process->was_killed)
		return false;
	process->was_killed = true;
	if (has_ended(process, 0))
		return true;
	/* ESRCH: it has ended by itself. */
	if (pidfd_send_signal(process->fd, SIGKILL, NULL, 0) != 0 && errno != ESRCH)
		pml_log_error("process %d cannot be killed: %s", (int)process->pid,
			      strerror(errno));
	if (has_ended(process, (int)wait_ms))
		pml_log_warning("process %d was killed: it did not return a lease",
				(int)process->pid);
	else
		pml_log_error("process %d was killed and does not end", (int)process->pid);
	return true;
}
