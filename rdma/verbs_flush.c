/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * verbs_flush.c -- FLUSH and ATOMIC WRITE through an rdma-core that knows them
 *
 * FLUSH (InfiniBand architecture, volume 1, annex A19 "Memory placement extensions") makes
 * durable what earlier writes of the queue pair have placed in a range; ATOMIC WRITE places
 * eight aligned bytes, all or none.  Both are posted through ibv_qp_ex only.  See
 * verbs_noflush.c for an older rdma-core.
 */
#include "verbs.h"

/*
 * Capabilities of a device that ibv_query_device_ex(3) passes on and has no names for:
 * include/rdma/ib_verbs.h of Linux, enum ib_device_cap_flags.
 */
#define DEVICE_FLUSH_PERSISTENT (UINT64_C(1) << 39)
#define DEVICE_ATOMIC_WRITE	(UINT64_C(1) << 40)

unsigned int pml_verbs_can(struct ibv_context *verbs)
{
	struct ibv_device_attr_ex attr;
	unsigned int can = 0;
	if (ibv_query_device_ex(verbs, NULL, &attr))
		return 0;
	if (attr.device_cap_flags_ex & DEVICE_FLUSH_PERSISTENT)
		can |= PML_EP_CAN_FLUSH;
	if (attr.device_cap_flags_ex & DEVICE_ATOMIC_WRITE)
		can |= PML_EP_CAN_ATOMIC_WRITE;
	return can;
}

unsigned int pml_verbs_flush_access(void)
{
	return IBV_ACCESS_FLUSH_GLOBAL | IBV_ACCESS_FLUSH_PERSISTENT;
}

uint64_t pml_verbs_send_ops(unsigned int can)
{
	uint64_t ops = IBV_QP_EX_WITH_SEND | IBV_QP_EX_WITH_RDMA_WRITE | IBV_QP_EX_WITH_RDMA_READ;
	if (can & PML_EP_CAN_FLUSH)
		ops |= IBV_QP_EX_WITH_FLUSH;
	if (can & PML_EP_CAN_ATOMIC_WRITE)
		ops |= IBV_QP_EX_WITH_ATOMIC_WRITE;
	return ops;
}

int pml_verbs_post_more_locked(struct pml_verbs_ep *ep, const struct pml_data_op *op,
			       uint64_t wr_id)
{
	struct ibv_qp_ex *qp = ibv_qp_to_qp_ex(ep->id->qp);
	ibv_wr_start(qp);
	qp->wr_id = wr_id;
	qp->wr_flags = IBV_SEND_SIGNALED;
	if (op->kind == PML_DATA_FLUSH)
		ibv_wr_flush(qp, op->rkey, op->remote_addr, op->bytes,
			     IBV_FLUSH_GLOBAL | IBV_FLUSH_PERSISTENT, IBV_FLUSH_RANGE);
	else
		ibv_wr_atomic_write(qp, op->rkey, op->remote_addr, op->buf);
	return ibv_wr_complete(qp);
}
