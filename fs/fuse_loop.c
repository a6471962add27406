/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fuse_loop.c -- the threads that take requests from the kernel
 *
 * Waking a thread costs more than most requests.  So as few workers as the load
 * allows are active, the others sleep where the kernel does not wake them:
 *
 *   - an active worker that finds no request goes to sleep, the last one in the kernel;
 *   - one that found a request waiting a few times in a row wakes another worker;
 *   - so does one that finds a large transfer waiting, when nobody else is active;
 *   - and a watcher wakes one when all active workers are stuck: it looks once per
 *     WATCH_MS, and only while there is something to do.
 *
 * Threads: loop->lock guards what is not atomic.  The watcher is the caller of
 * pml_fuse_loop_run().
 */
#include <fcntl.h>
#include <linux/fuse.h>
#include <poll.h>
#include <stdatomic.h>

#include "fuse_private.h"
#include "fuse_loop.h"

/* Requests found waiting in a row, after which another worker helps. */
#define BACKLOG 6u
/* A larger read or write takes long enough to wake another worker for the next one. */
#define LARGE_BYTES (256u << 10)
#define WATCH_MS    2
/* The watcher sleeps after so many looks at which nothing had happened. */
#define WATCH_PATIENCE 50u
/*
 * The data of a write begins at a page of the buffer, so that the kernel copies whole
 * pages to whole pages.
 */
#define WRITE_HEAD_BYTES (sizeof(struct fuse_in_header) + sizeof(struct fuse_write_in))
#define REQUEST_BYTES	 (WRITE_HEAD_BYTES + PML_FUSE_TRANSFER_MAX)

struct worker {
	struct loop *loop;
	pthread_t thread;
	void *pages; /* buf lies in */
	struct fuse_buf buf;
	unsigned int backlog; /* requests found waiting in a row */
};

struct loop {
	struct fuse_session *session;
	int wake_fd;
	pml_fuse_read_fn *read;
	pml_fuse_answer_fn *answer;
	void *arg;
	unsigned int nworkers; /* started */
	struct worker worker[PML_FUSE_WORKERS_MAX];

	pthread_mutex_t lock;
	pthread_cond_t called;	    /* ncalled or is_over changed */
	pthread_cond_t watch;	    /* is_unwatched or is_over changed */
	unsigned int nactive;	    /* workers that do not sleep on called; under lock */
	unsigned int ncalled;	    /* sleepers that are to become active; under lock */
	_Atomic unsigned int nfree; /* active workers that do not serve a request */
	_Atomic uint32_t nserved;   /* requests begun */
	_Atomic bool is_unwatched;  /* the watcher sleeps */
	_Atomic bool is_over;
	int err; /* of the device; under lock */
};

static void end_loop(struct loop *loop, int err)
{
	pthread_mutex_lock(&loop->lock);
	if (!loop->err)
		loop->err = err;
	loop->is_over = true;
	pthread_cond_broadcast(&loop->called);
	pthread_cond_broadcast(&loop->watch);
	pthread_mutex_unlock(&loop->lock);
}

/* ---- who is active ------------------------------------------------------- */

static void call_one(struct loop *loop)
{
	pthread_mutex_lock(&loop->lock);
	if (loop->nactive + loop->ncalled < loop->nworkers) {
		loop->ncalled++;
		pthread_cond_signal(&loop->called);
	}
	pthread_mutex_unlock(&loop->lock);
}

/* Sleeps until called; false: nobody else would be left to take requests. */
static bool rest(struct worker *worker)
{
	struct loop *loop = worker->loop;
	pthread_mutex_lock(&loop->lock);
	/* Whoever serves a request may be at it for long: another one must be free. */
	bool may_rest = atomic_load(&loop->nfree) > 1 && !loop->ncalled;
	if (may_rest) {
		loop->nactive--;
		atomic_fetch_sub(&loop->nfree, 1);
		while (!loop->ncalled && !loop->is_over)
			pthread_cond_wait(&loop->called, &loop->lock);
		if (loop->ncalled)
			loop->ncalled--;
		loop->nactive++;
		atomic_fetch_add(&loop->nfree, 1);
	}
	pthread_mutex_unlock(&loop->lock);
	return may_rest;
}

/* For a request, or the end. */
static void wait_in_kernel(struct loop *loop)
{
	struct pollfd fds[] = {{.fd = fuse_session_fd(loop->session), .events = POLLIN},
			       {.fd = loop->wake_fd, .events = POLLIN}};
	(void)poll(fds, PML_ARRAY_LEN(fds), -1);
	if (fds[1].revents)
		end_loop(loop, 0);
}

static void wake_watcher(struct loop *loop)
{
	pthread_mutex_lock(&loop->lock);
	loop->is_unwatched = false;
	pthread_cond_signal(&loop->watch);
	pthread_mutex_unlock(&loop->lock);
}

static struct timespec next_look(void)
{
	struct timespec t;
	(void)clock_gettime(CLOCK_MONOTONIC, &t);
	t.tv_nsec += WATCH_MS * 1000000;
	if (t.tv_nsec >= 1000000000) {
		t.tv_sec++;
		t.tv_nsec -= 1000000000;
	}
	return t;
}

/* Until the end: sees to it that somebody is free. */
static void watch(struct loop *loop)
{
	uint32_t nserved = 0;
	unsigned int nothing = 0; /* looks at which nothing had happened */

	pthread_mutex_lock(&loop->lock);
	while (!loop->is_over) {
		bool has_moved = nserved != loop->nserved;
		nserved = loop->nserved;
		if (loop->nfree == 0 && !has_moved && !loop->ncalled &&
		    loop->nactive < loop->nworkers) {
			loop->ncalled++;
			pthread_cond_signal(&loop->called);
		}
		nothing = has_moved || loop->nfree < loop->nactive ? 0 : nothing + 1;
		/* Who begins to serve counts nfree down first and looks at is_unwatched then. */
		loop->is_unwatched = nothing >= WATCH_PATIENCE;
		if (loop->is_unwatched && loop->nfree == loop->nactive) {
			while (loop->is_unwatched && !loop->is_over)
				pthread_cond_wait(&loop->watch, &loop->lock);
			nothing = 0;
		}
		loop->is_unwatched = false;
		struct timespec until = next_look();
		if (!loop->is_over)
			(void)pthread_cond_timedwait(&loop->watch, &loop->lock, &until);
	}
	pthread_mutex_unlock(&loop->lock);
}

/* ---- requests ------------------------------------------------------------ */

/* True: worker->buf holds one.  False: none is there, or the end. */
static bool receive(struct worker *worker)
{
	struct loop *loop = worker->loop;
	if (fuse_session_exited(loop->session)) {
		end_loop(loop, 0);
		return false;
	}
	ssize_t n = loop->read(fuse_session_fd(loop->session), worker->buf.mem, REQUEST_BYTES,
			       loop->arg);
	int err = n < 0 ? errno : EIO;
	if (n >= (ssize_t)sizeof(struct fuse_in_header)) {
		worker->buf.size = (size_t)n;
		return true;
	}
	/* ENOENT: it was interrupted while it was being read. */
	if (err != EAGAIN && err != EINTR && err != ENOENT)
		end_loop(loop, err == ENODEV ? 0 : -err); /* ENODEV: unmounted */
	return false;
}

static bool is_large(const struct fuse_buf *buf)
{
	const struct fuse_in_header *head = buf->mem;
	const struct fuse_read_in *read = (const void *)(head + 1);

	switch (head->opcode) {
	case FUSE_READ:
		return buf->size >= sizeof(*head) + sizeof(*read) && read->size >= LARGE_BYTES;
	case FUSE_WRITE:
		return buf->size >= LARGE_BYTES;
	default:
		return false;
	}
}

static void serve(struct worker *worker)
{
	struct loop *loop = worker->loop;
	bool is_last = atomic_fetch_sub(&loop->nfree, 1) == 1;
	atomic_fetch_add(&loop->nserved, 1);
	if (loop->is_unwatched)
		wake_watcher(loop);
	if (worker->backlog >= BACKLOG ||
	    (is_last && worker->backlog > 1 && is_large(&worker->buf))) {
		worker->backlog = 0;
		call_one(loop);
	}
	if (!loop->answer || !loop->answer(loop->arg, worker->buf.mem, worker->buf.size))
		fuse_session_process_buf(loop->session, &worker->buf);
	atomic_fetch_add(&loop->nfree, 1);
}

static void *work(void *arg)
{
	struct worker *worker = arg;
	while (!worker->loop->is_over) {
		if (receive(worker)) {
			worker->backlog++;
			serve(worker);
			continue;
		}
		worker->backlog = 0;
		if (!rest(worker))
			wait_in_kernel(worker->loop);
	}
	return NULL;
}

/* ---- the loop's life ------------------------------------------------------ */

/* A positive errno value. */
static int start_worker(struct loop *loop, struct worker *worker)
{
	worker->loop = loop;
	worker->pages = aligned_alloc(PML_BLOCK_BYTES, PML_BLOCK_BYTES + PML_FUSE_TRANSFER_MAX);
	if (!worker->pages)
		return ENOMEM;
	worker->buf.mem = (char *)worker->pages + PML_BLOCK_BYTES - WRITE_HEAD_BYTES;
	atomic_fetch_add(&loop->nfree, 1);
	int err = pthread_create(&worker->thread, NULL, work, worker);
	if (err) {
		atomic_fetch_sub(&loop->nfree, 1);
		free(worker->pages);
	}
	return err;
}

static int start(struct loop *loop)
{
	long ncpus = sysconf(_SC_NPROCESSORS_ONLN);
	unsigned int wanted = ncpus < 2	  ? 4
			      : ncpus > 5 ? PML_FUSE_WORKERS_MAX
					  : (unsigned int)ncpus * 2;
	int err = 0;
	pthread_mutex_lock(&loop->lock); /* nobody rests before all are counted */
	while (loop->nworkers < wanted && !err) {
		err = start_worker(loop, &loop->worker[loop->nworkers]);
		loop->nworkers += !err;
	}
	loop->nactive = loop->nworkers;
	pthread_mutex_unlock(&loop->lock);
	return loop->nworkers ? 0 : -err;
}

int pml_fuse_loop_run(struct fuse_session *session, int wake_fd, pml_fuse_read_fn *read,
		      pml_fuse_answer_fn *answer, void *arg)
{
	int fd = fuse_session_fd(session);
	int flags = fcntl(fd, F_GETFL);
	if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0)
		return -errno;
	struct loop *loop = calloc(1, sizeof(*loop));
	if (!loop)
		return -ENOMEM;
	loop->session = session;
	loop->wake_fd = wake_fd;
	loop->read = read;
	loop->answer = answer;
	loop->arg = arg;
	pthread_condattr_t attr;
	(void)pthread_condattr_init(&attr);
	(void)pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	(void)pthread_cond_init(&loop->watch, &attr);
	(void)pthread_condattr_destroy(&attr);
	(void)pthread_cond_init(&loop->called, NULL);
	(void)pthread_mutex_init(&loop->lock, NULL);

	int err = start(loop);
	if (!err)
		watch(loop);
	for (unsigned int i = 0; i < loop->nworkers; i++) {
		(void)pthread_join(loop->worker[i].thread, NULL);
		free(loop->worker[i].pages);
	}
	if (!err)
		err = loop->err;
	(void)pthread_cond_destroy(&loop->watch);
	(void)pthread_cond_destroy(&loop->called);
	(void)pthread_mutex_destroy(&loop->lock);
	free(loop);
	return err;
}
