/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * transport_impl.h -- what the two fabrics implement, and the code they share
 *
 * Private to transport.c, soft*.c and verbs.c.  transport.c checks the callers'
 * arguments and forwards each function of transport.h to the fabric's table.
 */
#ifndef PML_RDMA_TRANSPORT_IMPL_H
#define PML_RDMA_TRANSPORT_IMPL_H

#include <pthread.h>
#include <sys/socket.h>

#include "transport.h"

/* "[ffff:...:ffff%interface]:65535" */
#define PML_PEER_BYTES 96

struct addrinfo;
struct pml_transport_ops {
	int (*listen)(const char *host, const char *port, struct pml_fabric **ret_fabric,
		      char *ret_reason);
	uint16_t (*port)(const struct pml_fabric *fabric);
	int (*probe)(struct pml_fabric *fabric, void *base, size_t bytes, char *ret_reason);
	/* Has the device a FLUSH for the probed memory?  With a wildcard address: any device. */
	bool (*can_flush)(struct pml_fabric *fabric);
	/* The same of the device of a connection. */
	bool (*ep_can_flush)(const struct pml_ep *ep);
	int (*accept)(struct pml_fabric *fabric, int timeout_ms, struct pml_ep **ret_ep);
	void (*shutdown)(struct pml_fabric *fabric);
	void (*close_fabric)(struct pml_fabric *fabric);

	int (*key_new)(struct pml_ep *ep, void *addr, size_t bytes, unsigned int rights,
		       uint32_t *ret_rkey, struct pml_key **ret_key);
	int (*key_fence)(struct pml_key *key, enum pml_ep_fence how);
	int (*destroy)(struct pml_ep *ep);
	void (*ep_device)(const struct pml_ep *ep, struct pml_fence_device *ret_device);
	/* False: not known before a client comes. */
	bool (*fabric_device)(const struct pml_fabric *fabric, struct pml_fence_device *ret_device);

	int (*connect)(const char *host, const char *port, int timeout_ms, struct pml_ep **ret_ep,
		       char *ret_reason);
	int (*local_mr_new)(struct pml_ep *ep, void *buf, size_t bytes,
			    struct pml_local_mr **ret_mr);
	void (*local_mr_free)(struct pml_local_mr *mr);
	int (*post)(struct pml_ep *ep, const struct pml_data_op *op);
	int (*poll)(struct pml_ep *ep, struct pml_completion *ret, int max, int timeout_ms);

	int (*send)(struct pml_ep *ep, const void *msg, size_t bytes, bool is_quiet,
		    int timeout_ms);
	int (*recv)(struct pml_ep *ep, void *buf, size_t *ret_bytes, int timeout_ms);
	bool (*can_look)(const struct pml_ep *ep);
	void (*recv_arm)(struct pml_ep *ep, bool for_quiet);
	void (*recv_sleep)(struct pml_ep *ep, int timeout_ms);
	void (*kill)(struct pml_ep *ep);
	void (*close)(struct pml_ep *ep);
	const char *fence_texts[PML_FENCE_METHODS];
};

extern const struct pml_transport_ops pml_soft_ops;
extern const struct pml_transport_ops pml_verbs_ops;

/* Each fabric's own structures begin with these. */
struct pml_fabric {
	const struct pml_transport_ops *ops;
	/* Set before the first accept. */
	void *area; /* what windows are cut from; NULL: not probed */
	size_t area_bytes;
	enum pml_fence_choice choice;
	struct pml_verdicts *verdicts; /* NULL: none */
	bool is_on_demand; /* the area is not pinned: the device asks for pages as it needs them */
	bool is_forced;
	struct pml_fence_plan forced;
	enum pml_durable_rule durable_rule; /* 0: not set, by commit */
	pml_persist_fn *persist;	    /* NULL: none */
	void *persist_arg;
};

struct pml_ep {
	const struct pml_transport_ops *ops;
	char peer[PML_PEER_BYTES];
	/* Server side; constant once the endpoint is handed out. */
	void *area;
	size_t area_bytes;
	struct pml_fence_plan plan;
	bool is_on_demand;
	enum pml_durable_rule durable_rule;
	pml_persist_fn *persist;
	void *persist_arg;
	/* Both sides: PML_EP_CAN_; constant once the endpoint is handed out. */
	unsigned int can;
};

struct pml_key {
	struct pml_ep *ep;
};

struct pml_local_mr {
	struct pml_ep *ep;
	void *buf;
	size_t bytes;
};

/*
 * Gives a new endpoint of @fabric its plan; ops->ep_device() must work on it.
 * -EOPNOTSUPP: no fence on its device.
 * @ret_reason: PML_REASON_BYTES; on error, in words
 */
int pml_transport_plan(const struct pml_fabric *fabric, struct pml_ep *ep,
		       char *ret_reason) PML_MUST_CHECK;
/* Is the range in the memory that windows are cut from? */
bool pml_transport_in_area(const struct pml_ep *ep, const void *addr, size_t bytes);
/* A device's identity from the bits that the fabric knows; "" becomes "-". */
void pml_transport_device(const char *name, const char *driver, const char *guid,
			  const char *firmware, bool has_windows, struct pml_fence_device *ret);

/* A deadline that never comes. */
#define PML_NEVER_NS UINT64_MAX

uint64_t pml_transport_now_ns(void);
/* The moment @timeout_ms from now; negative: never. */
uint64_t pml_transport_deadline_ns(int timeout_ms);
/* What is left, rounded up, as poll(2) wants it: -1 forever, 0 past. */
int pml_transport_ms_left(uint64_t deadline_ns);
/* A condition variable whose timed waits follow CLOCK_MONOTONIC. */
int pml_transport_cond_init(pthread_cond_t *cond) PML_MUST_CHECK;
/* 0: woken, look again; -ETIMEDOUT. */
int pml_transport_cond_wait(pthread_cond_t *cond, pthread_mutex_t *lock,
			    uint64_t deadline_ns) PML_MUST_CHECK;

/*
 * getaddrinfo(3) for a stream at a numeric port; @flags of AI_.  freeaddrinfo() the list.
 * The error is also in words in @ret_reason.
 */
int pml_transport_resolve(const char *host, const char *port, int flags, struct addrinfo **ret_list,
			  char *ret_reason) PML_MUST_CHECK;
/* "127.0.0.1:34567", "[::1]:34567" */
void pml_transport_peer_text(const struct sockaddr *addr, char *ret_text);
/* Puts one line into @ret_reason of PML_REASON_BYTES. */
void pml_transport_reason(char *ret_reason, const char *format, ...) PML_PRINTF(2, 3);

#endif
