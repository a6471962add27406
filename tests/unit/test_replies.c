/* SPDX-License-Identifier: BSD-3-Clause */
/* test_replies.c -- the log of answered changes: what is answered, done, waited for, unknown */
#include <pthread.h>
#include <stdatomic.h>
#include <unistd.h>

#include "../../rdma/replies.h"
#include "tap.h"

static struct pml_replies *replies;
static atomic_int nkilled;

static void on_kill(void *arg)
{
	atomic_fetch_add((atomic_int *)arg, 1);
}

static void start(void)
{
	nkilled = 0;
	if (pml_replies_new(&replies))
		BAIL_OUT("no memory");
}

static struct pml_reply_client client_of(uint32_t n)
{
	struct pml_reply_client client = {.scope = {7}};
	memcpy(client.client_id, &n, sizeof(n));
	return client;
}

static struct pml_reply_log *attach(uint32_t n, uint32_t request_id)
{
	const struct pml_reply_client client = client_of(n);
	struct pml_reply_log *log = NULL;
	CHECK_EQ(pml_replies_attach(replies, &client, request_id, on_kill, &nkilled, &log), 0);
	return log;
}

static void detach(struct pml_reply_log *log)
{
	pml_replies_detach(replies, log, &nkilled, 60000);
}

static int begin(struct pml_reply_log *log, uint32_t id, uint16_t type, bool is_retry,
		 struct pml_reply *ret_reply)
{
	const struct pml_wire_header h = {
		.request_id = id, .type = type, .flags = is_retry ? PML_WIRE_RETRY : 0};
	return pml_replies_begin(replies, log, &h, ret_reply);
}

/* One change, from its beginning to its end. */
static void change(struct pml_reply_log *log, uint32_t id, int32_t status)
{
	struct pml_reply reply;
	CHECK_EQ(begin(log, id, PML_WIRE_MKDIR, false, &reply), 0);
	reply = (struct pml_reply){.status = status, .body_bytes = 4};
	memcpy(reply.body, &id, sizeof(id));
	pml_replies_end(replies, log, id, &reply);
}

static void test_a_retry_gets_the_answer_of_before(void)
{
	start();
	struct pml_reply_log *log = attach(1, 10);
	change(log, 11, 0);
	change(log, 13, -ENOSPC);
	detach(log);
	CHECK(attach(1, 20) == log);
	struct pml_reply reply;
	CHECK_EQ(begin(log, 11, PML_WIRE_MKDIR, true, &reply), -EALREADY);
	CHECK_EQ(reply.status, 0);
	CHECK_EQ(reply.body_bytes, 4);
	CHECK_EQ(reply.body[0], 11);
	CHECK_EQ(begin(log, 13, PML_WIRE_MKDIR, true, &reply), -EALREADY);
	CHECK_EQ(reply.status, -ENOSPC);
	CHECK_EQ(begin(log, 13, PML_WIRE_UNLINK, true, &reply), -EINVAL);
	/* Neither was ever here, whatever came before: numbers may overtake each other. */
	CHECK_EQ(begin(log, 12, PML_WIRE_MKDIR, true, &reply), 0);
	CHECK_EQ(begin(log, 14, PML_WIRE_MKDIR, true, &reply), 0);
	pml_replies_abandon(replies, log, 12);
	pml_replies_abandon(replies, log, 14);
	CHECK_EQ(begin(log, 12, PML_WIRE_MKDIR, true, &reply), 0);
	pml_replies_abandon(replies, log, 12);
	CHECK_EQ(nkilled, 0);
	detach(log);
	pml_replies_free(replies);
}

static void test_what_was_forgotten_is_not_done_again(void)
{
	start();
	/* Across the end of the numbers. */
	uint32_t first = UINT32_MAX - 20;
	struct pml_reply_log *log = attach(1, first);
	uint32_t id = first;
	for (uint32_t i = 0; i < PML_REPLIES_KEPT + 30; i++) {
		id = id + 1 ? id + 1 : 1;
		change(log, id, 0);
	}
	struct pml_reply reply;
	CHECK_EQ(begin(log, id, PML_WIRE_MKDIR, true, &reply), -EALREADY);
	CHECK_EQ(begin(log, first + 1, PML_WIRE_MKDIR, true, &reply), -ESTALE);
	CHECK_EQ(begin(log, first + 20, PML_WIRE_MKDIR, true, &reply), -ESTALE);
	CHECK_EQ(begin(log, 5, PML_WIRE_MKDIR, true, &reply), -ESTALE);
	CHECK_EQ(begin(log, id - PML_REPLIES_KEPT + 1, PML_WIRE_MKDIR, true, &reply), -EALREADY);
	CHECK_EQ(begin(log, first, PML_WIRE_MKDIR, true, &reply), -EREMOTEIO);
	CHECK_EQ(begin(log, id + 1, PML_WIRE_MKDIR, true, &reply), 0);
	pml_replies_abandon(replies, log, id + 1);
	detach(log);
	pml_replies_free(replies);
}

static void test_a_time_before_the_log_is_unknown(void)
{
	start();
	struct pml_reply_log *log = attach(1, 100);
	struct pml_reply reply;
	CHECK_EQ(begin(log, 99, PML_WIRE_MKDIR, true, &reply), -EREMOTEIO);
	CHECK_EQ(begin(log, 101, PML_WIRE_MKDIR, true, &reply), 0);
	pml_replies_abandon(replies, log, 101);
	/* Another client's, and the same client's in another scope. */
	struct pml_reply_log *other = attach(2, 50);
	CHECK(other != log);
	struct pml_reply_client client = client_of(1);
	client.scope[0] = 8;
	struct pml_reply_log *scoped;
	CHECK_EQ(pml_replies_attach(replies, &client, 1, on_kill, &nkilled, &scoped), 0);
	CHECK(scoped != log && scoped != other);
	CHECK_EQ(nkilled, 0);
	detach(scoped);
	detach(other);
	detach(log);
	pml_replies_free(replies);
}

static void test_the_connection_before_is_killed(void)
{
	start();
	atomic_int nold = 0;
	const struct pml_reply_client client = client_of(1);
	struct pml_reply_log *log, *again;
	CHECK_EQ(pml_replies_attach(replies, &client, 1, on_kill, &nold, &log), 0);
	CHECK_EQ(pml_replies_attach(replies, &client, 5, on_kill, &nkilled, &again), 0);
	CHECK(log == again);
	CHECK_EQ(nold, 1);
	/* One that was given up and comes late kills nobody. */
	CHECK_EQ(pml_replies_attach(replies, &client, 3, on_kill, &nold, &again), -ESTALE);
	CHECK_EQ(nkilled, 0);
	/* It ends when the new one is there already, which stays. */
	pml_replies_detach(replies, log, &nold, 60000);
	CHECK_EQ(nkilled, 0);
	CHECK(attach(1, 9) == log);
	CHECK_EQ(nkilled, 1);
	detach(log);
	detach(log);
	pml_replies_free(replies);
}

static void *end_late(void *arg)
{
	struct pml_reply_log *log = arg;
	const struct pml_reply reply = {.status = -EMLINK};
	usleep(100000);
	pml_replies_end(replies, log, 7, &reply);
	return NULL;
}

static void test_a_retry_waits_for_what_is_still_running(void)
{
	start();
	struct pml_reply_log *log = attach(1, 1);
	struct pml_reply reply;
	CHECK_EQ(begin(log, 7, PML_WIRE_MKDIR, false, &reply), 0);
	CHECK_EQ(begin(log, 7, PML_WIRE_MKDIR, false, &reply), -EINVAL);
	pthread_t thread;
	REQUIRE(pthread_create(&thread, NULL, end_late, log) == 0);
	CHECK_EQ(begin(log, 7, PML_WIRE_MKDIR, true, &reply), -EALREADY);
	CHECK_EQ(reply.status, -EMLINK);
	pthread_join(thread, NULL);
	/* And not for ever. */
	CHECK_EQ(begin(log, 8, PML_WIRE_MKDIR, false, &reply), 0);
	CHECK_EQ(begin(log, 8, PML_WIRE_MKDIR, true, &reply), -EINPROGRESS);
	pml_replies_abandon(replies, log, 8);
	detach(log);
	pml_replies_free(replies);
}

static void test_running_changes_are_never_forgotten(void)
{
	start();
	struct pml_reply_log *log = attach(1, 1);
	struct pml_reply reply;
	for (uint32_t i = 0; i < PML_REPLIES_KEPT; i++)
		CHECK_EQ(begin(log, 10 + i, PML_WIRE_MKDIR, false, &reply), 0);
	CHECK_EQ(begin(log, 1000, PML_WIRE_MKDIR, false, &reply), -EAGAIN);
	reply = (struct pml_reply){.status = 0};
	for (uint32_t i = 0; i < PML_REPLIES_KEPT; i++)
		pml_replies_end(replies, log, 10 + i, &reply);
	CHECK_EQ(begin(log, 1000, PML_WIRE_MKDIR, false, &reply), 0);
	pml_replies_end(replies, log, 1000, &reply);
	CHECK_EQ(begin(log, 10, PML_WIRE_MKDIR, true, &reply), -ESTALE);
	detach(log);
	pml_replies_free(replies);
}

static void test_clients_are_limited_and_the_oldest_goes_first(void)
{
	start();
	struct pml_reply_log *logs[PML_REPLIES_CLIENTS_MAX];
	for (uint32_t i = 0; i < PML_REPLIES_CLIENTS_MAX; i++) {
		logs[i] = attach(i, 1);
		change(logs[i], 2, 0);
	}
	const struct pml_reply_client more = client_of(5000);
	struct pml_reply_log *log;
	CHECK_EQ(pml_replies_attach(replies, &more, 1, on_kill, &nkilled, &log), -EUSERS);
	detach(logs[8]);
	detach(logs[3]);
	CHECK_EQ(pml_replies_attach(replies, &more, 1, on_kill, &nkilled, &log), 0);
	detach(log);
	/* 8 went first, and is forgotten; 3 is still known. */
	struct pml_reply reply;
	CHECK(attach(3, 9) == logs[3]);
	CHECK_EQ(begin(logs[3], 2, PML_WIRE_MKDIR, true, &reply), -EALREADY);
	logs[8] = attach(8, 9);
	CHECK_EQ(begin(logs[8], 2, PML_WIRE_MKDIR, true, &reply), -EREMOTEIO);
	for (uint32_t i = 0; i < PML_REPLIES_CLIENTS_MAX; i++)
		detach(logs[i]);
	pml_replies_free(replies);
}

static void test_a_log_is_kept_for_its_time(void)
{
	start();
	struct pml_reply_log *log = attach(1, 1);
	change(log, 2, 0);
	pml_replies_detach(replies, log, &nkilled, 0);
	usleep(10000);
	struct pml_reply_log *other = attach(2, 1);
	log = attach(1, 9);
	struct pml_reply reply;
	CHECK_EQ(begin(log, 2, PML_WIRE_MKDIR, true, &reply), -EREMOTEIO);
	detach(log);
	detach(other);
	pml_replies_free(replies);
}

int main(void)
{
	TAP_RUN(test_a_retry_gets_the_answer_of_before);
	TAP_RUN(test_what_was_forgotten_is_not_done_again);
	TAP_RUN(test_a_time_before_the_log_is_unknown);
	TAP_RUN(test_the_connection_before_is_killed);
	TAP_RUN(test_a_retry_waits_for_what_is_still_running);
	TAP_RUN(test_running_changes_are_never_forgotten);
	TAP_RUN(test_clients_are_limited_and_the_oldest_goes_first);
	TAP_RUN(test_a_log_is_kept_for_its_time);
	return tap_done();
}
