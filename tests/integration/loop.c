/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * loop.c -- the threads that take requests: nobody waits while a worker sleeps
 *
 * A filesystem of its own on the loop of fs/fuse_loop.c: statfs keeps a worker until
 * the test lets it go (the kernel holds no lock meanwhile); no name exists.  Needs root and
 * /dev/fuse.
 */
#define FUSE_USE_VERSION 314
#include <fuse_lowlevel.h>
#include <linux/fuse.h>
#include <pthread.h>
#include <semaphore.h>
#include <sys/eventfd.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "../../fs/fuse_loop.h"
#include "../tap.h"

/* With one more all workers of the smallest machine would be stuck. */
#define STUCK	 3u
#define CLIENTS	 8u
#define LOOKUPS	 500u
#define REPEATED 20u
#define WAIT_MS	 5000u

static char dir[] = "/tmp/pml-loop.XXXXXX";
static struct fuse_session *session;
static int wake_fd = -1;
static pthread_t server;
static sem_t go;
static atomic_uint nstuck, nlookups;
static atomic_bool is_other_served;
static bool is_stuck_before; /* in the loop's answer, not in libfuse */

static void lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	(void)parent;
	atomic_fetch_add(&nlookups, 1);
	if (strcmp(name, "other") == 0)
		atomic_store(&is_other_served, true);
	(void)fuse_reply_err(req, ENOENT);
}

static void stay_stuck(void)
{
	atomic_fetch_add(&nstuck, 1);
	while (sem_wait(&go) != 0)
		continue;
}

static void stat_fs(fuse_req_t req, fuse_ino_t ino)
{
	(void)ino;
	if (!is_stuck_before)
		stay_stuck();
	(void)fuse_reply_err(req, EAGAIN);
}

/* Sees what libfuse gets to see. */
static bool answer_before(void *arg, const void *request, size_t bytes)
{
	const struct fuse_in_header *head = request;
	(void)arg;
	CHECK(bytes >= sizeof(*head) && bytes == head->len);
	if (is_stuck_before && head->opcode == FUSE_STATFS)
		stay_stuck();
	return false;
}

static void get_attr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	const struct stat attr = {.st_ino = ino, .st_mode = S_IFDIR | 0755, .st_nlink = 2};
	(void)fi;
	(void)fuse_reply_attr(req, &attr, 1.0);
}

static ssize_t read_request(int fd, void *buffer, size_t bytes, void *arg)
{
	(void)arg;
	return read(fd, buffer, bytes);
}

static void *serve(void *arg)
{
	int *ret = arg;
	*ret = pml_fuse_loop_run(session, wake_fd, read_request, answer_before, NULL);
	return NULL;
}

static int loop_result;

static void start(void)
{
	static const struct fuse_lowlevel_ops ops = {
		.lookup = lookup, .statfs = stat_fs, .getattr = get_attr};
	char *arg[] = {"loop", "-o", "fsname=pml-loop"};
	struct fuse_args args = FUSE_ARGS_INIT(3, arg);
	wake_fd = eventfd(0, EFD_CLOEXEC);
	session = fuse_session_new(&args, &ops, sizeof(ops), NULL);
	if (!session || fuse_session_mount(session, dir) != 0)
		BAIL_OUT("cannot mount %s", dir);
	fuse_opt_free_args(&args);
	loop_result = 1;
	if (pthread_create(&server, NULL, serve, &loop_result) != 0)
		BAIL_OUT("pthread_create");
}

static void finish(void)
{
	(void)pthread_join(server, NULL);
	CHECK_EQ(loop_result, 0);
	fuse_session_unmount(session);
	fuse_session_destroy(session);
	(void)close(wake_fd);
}

static void look_up(const char *name)
{
	char path[64];
	struct stat st;
	(void)snprintf(path, sizeof(path), "%s/%s", dir, name);
	CHECK_EQ(stat(path, &st), -1);
	CHECK_EQ(errno, ENOENT);
}

static void *get_stuck(void *arg)
{
	struct statvfs st;
	(void)arg;
	CHECK_EQ(statvfs(dir, &st), -1);
	CHECK_EQ(errno, EAGAIN);
	return NULL;
}

static void *look_up_other(void *arg)
{
	(void)arg;
	look_up("other");
	return NULL;
}

static void test_a_sleeping_worker_is_called_when_the_others_are_stuck(void)
{
	start();
	for (unsigned int round = 0; round < REPEATED; round++) {
		pthread_t client[STUCK], other;
		atomic_store(&nstuck, 0);
		atomic_store(&is_other_served, false);
		for (size_t i = 0; i < STUCK; i++)
			if (pthread_create(&client[i], NULL, get_stuck, NULL) != 0)
				BAIL_OUT("pthread_create");
		/* Each takes a worker: the watcher has called them all. */
		for (unsigned int ms = 0; atomic_load(&nstuck) < STUCK && ms < WAIT_MS; ms++)
			(void)usleep(1000);
		CHECK_EQ(atomic_load(&nstuck), STUCK);
		if (pthread_create(&other, NULL, look_up_other, NULL) != 0)
			BAIL_OUT("pthread_create");
		for (unsigned int ms = 0; !atomic_load(&is_other_served) && ms < WAIT_MS; ms++)
			(void)usleep(1000);
		CHECK(atomic_load(&is_other_served));
		for (unsigned int i = 0; i < STUCK; i++)
			sem_post(&go);
		for (size_t i = 0; i < STUCK; i++)
			(void)pthread_join(client[i], NULL);
		(void)pthread_join(other, NULL);
	}
	fuse_session_exit(session);
	(void)eventfd_write(wake_fd, 1);
	finish();
}

static void *look_up_many(void *arg)
{
	for (unsigned int i = 0; i < LOOKUPS; i++) {
		char name[32];
		(void)snprintf(name, sizeof(name), "%zu-%u", (size_t)arg, i);
		look_up(name);
		if (i % 100 == 0) /* the workers go to sleep in between */
			(void)usleep(2000);
	}
	return NULL;
}

static void test_requests_of_many_clients_are_all_served_once(void)
{
	start();
	pthread_t client[CLIENTS];
	atomic_store(&nlookups, 0);
	for (size_t i = 0; i < CLIENTS; i++)
		REQUIRE(pthread_create(&client[i], NULL, look_up_many, (void *)i) == 0);
	for (size_t i = 0; i < CLIENTS; i++)
		(void)pthread_join(client[i], NULL);
	CHECK_EQ(atomic_load(&nlookups), CLIENTS * LOOKUPS);
	/* An unmount from outside ends the loop too.  umount(8) would ask for statfs. */
	CHECK_EQ(umount2(dir, MNT_DETACH), 0);
	finish();
}

static void test_the_loop_ends_while_it_is_idle(void)
{
	start();
	look_up("something");
	(void)usleep(300 * 1000); /* the watcher sleeps as well */
	look_up("something-else");
	fuse_session_exit(session);
	(void)eventfd_write(wake_fd, 1);
	finish();
}

static void test_a_worker_that_is_stuck_in_an_answer_is_no_free_one(void)
{
	is_stuck_before = true;
	test_a_sleeping_worker_is_called_when_the_others_are_stuck();
	is_stuck_before = false;
}

int main(void)
{
	if (geteuid() != 0 || access("/dev/fuse", R_OK | W_OK) != 0) {
		printf("1..0 # SKIP needs root and /dev/fuse\n");
		return 0;
	}
	if (!mkdtemp(dir))
		BAIL_OUT("mkdtemp");
	sem_init(&go, 0, 0);
	TAP_RUN(test_a_sleeping_worker_is_called_when_the_others_are_stuck);
	TAP_RUN(test_a_worker_that_is_stuck_in_an_answer_is_no_free_one);
	TAP_RUN(test_requests_of_many_clients_are_all_served_once);
	TAP_RUN(test_the_loop_ends_while_it_is_idle);
	(void)rmdir(dir);
	return tap_done();
}
