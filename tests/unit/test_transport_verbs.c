/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_transport_verbs.c -- the common suite on an RDMA device, soft-RoCE too
 *
 * PML_RDMA_ADDR is an address of the device.  PML_SUITE=durable: flushes and atomic writes alone.
 */
#include <fcntl.h>
#include <netdb.h>
#include <rdma/rdma_cma.h>

#include "transport_suite.h"

static void *accept_main(void *arg)
{
	struct pml_ep **ret_ep = arg;
	int err = pml_fabric_accept(suite.fabric, 1500, ret_ep);
	CHECK_EQ(err, -ETIMEDOUT);
	return NULL;
}

/* An RDMA program that is none of ours, as ib_write_bw -R would be. */
static void test_a_foreign_client_is_refused(void)
{
	struct rdma_cm_id *id;
	struct addrinfo *to;
	struct rdma_conn_param param = {.private_data = "hello", .private_data_len = 5};
	struct ibv_qp_init_attr attr = {
		.qp_type = IBV_QPT_RC,
		.cap = {.max_send_wr = 1, .max_recv_wr = 1, .max_send_sge = 1, .max_recv_sge = 1},
	};
	struct pml_ep *none = NULL;
	pthread_t thread;
	REQUIRE(getaddrinfo(suite.host, suite.port, NULL, &to) == 0);
	pthread_create(&thread, NULL, accept_main, &none);
	/* Without an event channel each call waits for its result. */
	CHECK_EQ(rdma_create_id(NULL, &id, NULL, RDMA_PS_TCP), 0);
	CHECK_EQ(rdma_resolve_addr(id, NULL, to->ai_addr, 2000), 0);
	CHECK_EQ(rdma_resolve_route(id, 2000), 0);
	CHECK_EQ(rdma_create_qp(id, NULL, &attr), 0);
	CHECK_EQ(rdma_connect(id, &param), -1);
	CHECK_EQ(errno, ECONNREFUSED);
	rdma_destroy_ep(id);
	freeaddrinfo(to);
	pthread_join(thread, NULL);
	struct pair p;
	REQUIRE(pair_open(&p));
	pair_close(&p);
}

/* Prints figures; no judgement. */
static void test_speed(void)
{
	struct pair p;
	REQUIRE(pair_open(&p));
	uint8_t *area = area_new(0), *buf = area_new(0);
	struct pml_key *key;
	struct pml_local_mr *mr;
	struct pml_data_op op = {.buf = buf, .bytes = 4096, .remote_addr = (uintptr_t)area};
	REQUIRE(pml_key_new(p.server, area, AREA, PML_KEY_READ, &op.rkey, &key) == 0);
	REQUIRE(pml_local_mr_new(p.client, buf, AREA, &mr) == 0);
	op.mr = mr;
	uint64_t start = pml_now_ms();
	for (int i = 0; i < 200; i++)
		REQUIRE(do_op(p.client, op) == 0);
	printf("# 4 KiB reads, one at a time: %llu us\n",
	       (unsigned long long)(pml_now_ms() - start) * 1000u / 200u);

	pthread_t thread;
	pthread_create(&thread, NULL, echo_main, p.server);
	size_t bytes;
	start = pml_now_ms();
	for (int i = 0; i < 200; i++) {
		REQUIRE(pml_ep_send(p.client, buf, 64, WAIT_MS) == 0);
		REQUIRE(pml_ep_recv(p.client, buf, &bytes, WAIT_MS) == 0);
	}
	printf("# message there and back: %llu us\n",
	       (unsigned long long)(pml_now_ms() - start) * 1000u / 200u);
	pml_ep_kill(p.client);
	pthread_join(thread, NULL);
	pml_local_mr_free(mr);
	fence_ok(key, PML_EP_FENCE_KEY);
	pair_close(&p);
	area_free(area);
	area_free(buf);
}

/* FLUSH is for persistent memory: of PML_DAX, a device-DAX, if there is one; else NULL. */
static uint8_t *map_dax(void)
{
	const char *path = getenv("PML_DAX");
	int fd = path && path[0] ? open(path, O_RDWR | O_CLOEXEC) : -1;
	if (fd < 0)
		return NULL;
	void *arena =
		mmap(NULL, (size_t)AREAS_MAX * AREA, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	(void)close(fd);
	return arena == MAP_FAILED ? NULL : arena;
}

int main(int argc, char **argv)
{
	const char *rounds = getenv("PML_FENCE_ROUNDS");
	suite.kind = PML_TRANSPORT_VERBS;
	suite.host = getenv("PML_RDMA_ADDR");
	suite.fence_rounds = rounds ? (unsigned)atoi(rounds) : 60;
	if (!suite.host || !suite.host[0])
		suite.skip = "no RDMA device here; tests/vm/run runs it";
	if (suite_child(argc, argv))
		return 0;
	suite_run_durable(map_dax());
	const char *part = getenv("PML_SUITE");
	if (part && strcmp(part, "durable") == 0)
		return tap_done();
	suite_open();
	suite_run();
	SUITE_RUN(test_a_foreign_client_is_refused);
	SUITE_RUN(test_speed);
	suite_close();
	/* Not on soft-RoCE: pmemlease fencetest. */
	suite.is_window_fence = false;
	suite_run_windows();
	return tap_done();
}
