/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fuse_jobs.c -- operations that can wait for a lease without keeping a thread
 *
 * A request on a file that no lease covers runs on libfuse's thread with its own
 * buffers.  On others it becomes a job on the heap with a copy of the data,
 * because an answer of -EINPROGRESS (pml/guard.h) means that the guard has the
 * waiter, and the request runs again on a thread of ours after resume().
 *
 * A job has one owner at a time: the thread that runs it, then the guard, then
 * the ready list.  The exception is on_interrupt(): libfuse calls it with the
 * request's lock held until fuse_req_interrupt_func() takes it away, and that
 * call waits for one that is running (libfuse, lib/fuse_lowlevel.c).  So it is
 * taken away first when a job ends, and never under a lock that the guard needs.
 */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "fuse_private.h"
#include "pml/log.h"

struct job {
	struct pml_fuse_op op;
	struct pml_waiter waiter;
	struct pml_list link;	       /* on jobs->ready */
	struct pml_fuse_parked parked; /* of a write */
	char data[];		       /* of a write */
};

static void drop_references(const struct pml_fuse_op *op)
{
	pml_inode_put(op->inode, 1);
	if (op->src)
		pml_inode_put(op->src, 1);
}

static void on_interrupt(fuse_req_t req, void *arg)
{
	struct job *job = arg;
	job->op.fuse->guard_ops->cancel(job->op.fuse->guard, &job->waiter);
}

static void on_resume(struct pml_waiter *w)
{
	struct job *job = PML_CONTAINER_OF(w, struct job, waiter);
	struct pml_fuse_jobs *jobs = &job->op.fuse->jobs;

	pthread_mutex_lock(&jobs->lock);
	pml_list_append(&jobs->ready, &job->link);
	pthread_cond_signal(&jobs->wake);
	pthread_mutex_unlock(&jobs->lock);
}

static void finish_job(struct job *job, int err)
{
	struct pml_fuse *fuse = job->op.fuse;

	fuse_req_interrupt_func(job->op.req, NULL, NULL);
	fuse->guard_ops->done(fuse->guard, &job->waiter);
	pml_fuse_op_reply(&job->op, err);
	if (job->op.kind == PML_FUSE_WRITE)
		pml_fuse_nodes_write_end(fuse->nodes, pml_inode_ino(job->op.inode), &job->parked);
	drop_references(&job->op);
	free(job);

	pthread_mutex_lock(&fuse->jobs.lock);
	if (--fuse->jobs.nalive == 0)
		pthread_cond_broadcast(&fuse->jobs.drained);
	pthread_mutex_unlock(&fuse->jobs.lock);
}

/* After it the job may be gone. */
static void run_job(struct job *job)
{
	int err = pml_fuse_op_run(&job->op, &job->waiter);
	if (err != -EINPROGRESS)
		finish_job(job, err);
}

static void *rerun_thread(void *arg)
{
	struct pml_fuse_jobs *jobs = arg;

	pthread_mutex_lock(&jobs->lock);
	for (;;) {
		while (!jobs->is_stopping && pml_list_is_empty(&jobs->ready))
			pthread_cond_wait(&jobs->wake, &jobs->lock);
		if (pml_list_is_empty(&jobs->ready))
			break;
		struct job *job = pml_list_entry(jobs->ready.next, struct job, link);
		pml_list_remove(&job->link);
		pthread_mutex_unlock(&jobs->lock);
		run_job(job);
		pthread_mutex_lock(&jobs->lock);
	}
	pthread_mutex_unlock(&jobs->lock);
	return NULL;
}

/* Who waits, for the lists that administrators see.  Empty when it cannot be known. */
static void read_command_name(pid_t pid, char *name, size_t bytes)
{
	char path[32];
	(void)snprintf(path, sizeof(path), "/proc/%d/comm", (int)pid);
	pml_auto_close int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return;
	ssize_t got = read(fd, name, bytes - 1);
	name[got > 0 ? got : 0] = '\0';
	name[strcspn(name, "\n")] = '\0';
}

/* Whose change it is, of those who hold leases through their open files. */
static uint64_t session_of(const struct pml_fuse_op *op)
{
	const struct pml_fuse_open_ops *ops = &op->fuse->open_ops;
	uint64_t session = op->open_id ? ops->session(ops->arg, op->open_id) : 0;
	if (!session && op->src_open_id)
		session = ops->session(ops->arg, op->src_open_id);
	return session;
}

static struct job *job_new(const struct pml_fuse_op *op)
{
	size_t data_bytes = op->data ? op->len_bytes : 0;
	struct job *job = malloc(sizeof(*job) + data_bytes);
	if (!job)
		return NULL;
	memset(job, 0, sizeof(*job));
	job->op = *op;
	if (op->data)
		job->op.data = memcpy(job->data, op->data, data_bytes);

	pid_t pid = fuse_req_ctx(op->req)->pid;
	job->waiter.resume = on_resume;
	job->waiter.session = session_of(op);
	job->waiter.pid = pid;
	job->waiter.uid = fuse_req_ctx(op->req)->uid;
	if (pid > 0)
		read_command_name(pid, job->waiter.name, sizeof(job->waiter.name));
	return job;
}

static void start_job(struct pml_fuse_op *op)
{
	struct pml_fuse *fuse = op->fuse;
	struct job *job = job_new(op);
	if (!job) {
		pml_fuse_op_reply(op, -ENOMEM);
		drop_references(op);
		return;
	}

	pthread_mutex_lock(&fuse->jobs.lock);
	fuse->jobs.nalive++;
	pthread_mutex_unlock(&fuse->jobs.lock);
	if (op->kind == PML_FUSE_WRITE) {
		job->parked.first_byte = op->first_byte;
		job->parked.end_byte = op->first_byte + op->len_bytes;
		pml_fuse_nodes_write_begin(fuse->nodes, pml_inode_ino(op->inode), &job->parked);
	}
	fuse_req_interrupt_func(op->req, on_interrupt, job);
	run_job(job);
}

static bool may_be_leased(const struct pml_fuse_op *op)
{
	const struct pml_fuse *fuse = op->fuse;
	if (!fuse->guard_ops)
		return false;
	if (fuse->guard_ops->may_be_leased(fuse->guard, pml_inode_ino(op->inode)))
		return true;
	for (uint32_t i = 0; op->call && i < op->call->nother; i++)
		if (fuse->guard_ops->may_be_leased(fuse->guard, pml_inode_ino(op->call->other[i])))
			return true;
	return op->src && fuse->guard_ops->may_be_leased(fuse->guard, pml_inode_ino(op->src));
}

void pml_fuse_op_start(struct pml_fuse_op *op)
{
	if (may_be_leased(op)) {
		start_job(op);
		return;
	}
	int err = pml_fuse_op_run(op, NULL);
	/* A lease came in between. */
	if (err == -EBUSY && op->fuse->guard_ops) {
		start_job(op);
		return;
	}
	pml_fuse_op_reply(op, err);
	drop_references(op);
}

int pml_fuse_jobs_init(struct pml_fuse_jobs *jobs)
{
	pthread_condattr_t attr;
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&jobs->drained, &attr);
	pthread_condattr_destroy(&attr);
	pthread_cond_init(&jobs->wake, NULL);
	pthread_mutex_init(&jobs->lock, NULL);
	pml_list_init(&jobs->ready);

	while (jobs->nthreads < PML_FUSE_RERUN_THREADS) {
		int err = pthread_create(&jobs->threads[jobs->nthreads], NULL, rerun_thread, jobs);
		if (err)
			return -err;
		jobs->nthreads++;
	}
	return 0;
}

static bool wait_until_drained(struct pml_fuse_jobs *jobs, unsigned int timeout_s)
{
	struct timespec until;
	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += timeout_s;

	pthread_mutex_lock(&jobs->lock);
	int err = 0;
	while (jobs->nalive > 0 && !err)
		err = pthread_cond_timedwait(&jobs->drained, &jobs->lock, &until);
	bool is_drained = jobs->nalive == 0;
	if (!is_drained)
		pml_log_error("%u operations still wait for leases", jobs->nalive);
	jobs->is_stopping = is_drained;
	pthread_cond_broadcast(&jobs->wake);
	pthread_mutex_unlock(&jobs->lock);
	return is_drained;
}

int pml_fuse_jobs_fini(struct pml_fuse_jobs *jobs, unsigned int timeout_s)
{
	if (!wait_until_drained(jobs, timeout_s))
		return -ETIMEDOUT;
	for (uint32_t i = 0; i < jobs->nthreads; i++)
		(void)pthread_join(jobs->threads[i], NULL);
	pthread_cond_destroy(&jobs->wake);
	pthread_cond_destroy(&jobs->drained);
	pthread_mutex_destroy(&jobs->lock);
	return 0;
}
