/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * verbs_noflush.c -- in place of verbs_flush.c where rdma-core is older than FLUSH
 */
#include "verbs.h"

unsigned int pml_verbs_can(struct ibv_context *verbs)
{
	return 0;
}

unsigned int pml_verbs_flush_access(void)
{
	return 0;
}

uint64_t pml_verbs_send_ops(unsigned int can)
{
	return 0;
}

int pml_verbs_post_more_locked(struct pml_verbs_ep *ep, const struct pml_data_op *op,
			       uint64_t wr_id)
{
	return EOPNOTSUPP;
}
