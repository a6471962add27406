/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * thread.h -- threads and condition variables as this folder uses them
 *
 * Threads of a library take no signals: those are the program's.  Waits have
 * deadlines by the clock of pml_now_ms().
 */
#ifndef PML_RDMA_THREAD_H
#define PML_RDMA_THREAD_H

#include <pthread.h>
#include <signal.h>

#include "pml/base.h"
#include "pml/clock.h"

/*
 * Several times what a thread of a connection needs.  The C library keeps stacks of threads
 * that have ended, 40 MiB of them: of this size those of 80 threads, of the usual size those of 5.
 * So connections that come and go do not map and unmap stacks, which holds up every thread.
 */
#define PML_THREAD_STACK_BYTES ((size_t)512 << 10)

/* @stack_bytes: 0: as usual. */
PML_MUST_CHECK static inline int pml_thread_new_sized(pthread_t *ret_thread, size_t stack_bytes,
						      void *(*fn)(void *), void *arg)
{
	pthread_attr_t attr;
	int err = pthread_attr_init(&attr);
	if (err)
		return -err;
	if (stack_bytes)
		err = pthread_attr_setstacksize(&attr, stack_bytes);
	sigset_t all;
	sigset_t old;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	if (!err)
		err = pthread_create(ret_thread, &attr, fn, arg);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	pthread_attr_destroy(&attr);
	return -err;
}

/* Starts a thread with all signals blocked. */
PML_MUST_CHECK static inline int pml_thread_new(pthread_t *ret_thread, void *(*fn)(void *),
						void *arg)
{
	return pml_thread_new_sized(ret_thread, 0, fn, arg);
}

/* The same with PML_THREAD_STACK_BYTES: of a connection, of which there are many. */
PML_MUST_CHECK static inline int pml_thread_new_small(pthread_t *ret_thread, void *(*fn)(void *),
						      void *arg)
{
	return pml_thread_new_sized(ret_thread, PML_THREAD_STACK_BYTES, fn, arg);
}

/* A condition variable for pml_cond_wait_until(). */
PML_MUST_CHECK static inline int pml_cond_init(pthread_cond_t *ret_cond)
{
	pthread_condattr_t attr;
	int err = pthread_condattr_init(&attr);
	if (err)
		return -err;
	err = pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	if (!err)
		err = pthread_cond_init(ret_cond, &attr);
	pthread_condattr_destroy(&attr);
	return -err;
}

/* Returns after a signal, at @deadline_ms, or for no reason: the caller looks again. */
static inline void pml_cond_wait_until(pthread_cond_t *cond, pthread_mutex_t *lock,
				       uint64_t deadline_ms)
{
	struct timespec ts = {.tv_sec = (time_t)(deadline_ms / 1000),
			      .tv_nsec = (long)(deadline_ms % 1000) * 1000000};
	(void)pthread_cond_timedwait(cond, lock, &ts);
}

static inline void pml_sleep_ms(uint32_t ms)
{
	struct timespec ts = {.tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000};
	(void)nanosleep(&ts, NULL);
}

#endif
