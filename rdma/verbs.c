/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * verbs.c -- makes connections on RDMA devices
 *
 * The server gives a connection its own event channel as soon as the client
 * has confirmed it; until then its events come through the listener's.
 *
 * Who has been accepted and has not confirmed holds one of few places.  Busy machines confirm
 * late, and many at once later still.  So a place is not lost by time alone until somebody else
 * wants it, and who gets none is told to come again, which the client does by itself.  A host
 * takes places from others only as far as they have more of them than it has.  Nor is one lost
 * whose confirmation may be waiting in the event channel, behind requests that take time.
 *
 * Threads: one at a time accepts; shutdown from any.
 */
#include <endian.h>
#include <ifaddrs.h>
#include <limits.h>
#include <netdb.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>

#include "address.h"
#include "pace.h"
#include "rxe.h"
#include "verbs.h"
#include "pml/log.h"

#define HELLO_MAGIC   0x564c4d50u /* "PMLV" */
#define AGAIN_MAGIC   0x414c4d50u /* "PMLA": a refusal, because all places are taken just now */
#define HELLO_VERSION 1u

#define BACKLOG	    128
#define PENDING_MAX 64u /* accepted, and the client has not confirmed */
#define PENDING_MS  30000
/* After so long another client of the same host may have the place. */
#define PATIENCE_MS 2000
/* Between two attempts of a client that was told to come again; doubles. */
#define AGAIN_MS_MIN	20u
#define AGAIN_MS_MAX	640u
#define PROBE_BYTES_MAX (2u << 20)
/* Receiver not ready: no limit (7), for the sender has one. */
#define RNR_RETRY 7
/*
 * After 4.096 us * 2^18, a second, without an acknowledgement a device sends again, and after
 * seven times more it gives up (soft-RoCE does not: rxe_comp.c takes 7 as "for ever").  What the
 * connection manager would choose depends on the kernel: 2.1 s on soft-RoCE of 6.1, 0.5 s on
 * later ones (cma.c, CMA_IBOE_PACKET_LIFETIME).  A loaded host may answer that late without
 * anything being lost.  Whether the peer lives is not left to this: a session has its term.
 */
#define ACK_TIMEOUT 18
#define ACK_RETRY   7
/* Of devices without a bus: drivers/infiniband/sw/rxe/rxe_param.h, sw/siw/siw.h. */
#define VENDOR_RXE 0xffffffu
#define VENDOR_SIW 0x626d74u
/* include/uapi/rdma/ib_user_verbs.h and include/rdma/ib_verbs.h of Linux, enum
 * ib_odp_transport_cap_bits */
#define ODP_SUPPORT_FLUSH (1u << 6)

/* Private data of connection requests and replies: keeps strangers out. */
struct hello {
	uint32_t magic;
	uint32_t version;
};

struct verbs_fabric {
	struct pml_fabric base; /* first: see verbs_port() */
	struct rdma_event_channel *cm;
	struct rdma_cm_id *id;
	int wake_fd; /* readable for good after shutdown */
	unsigned pending_count;
	struct {
		struct pml_verbs_ep *ep;
		struct pml_address host;
		uint64_t since_ns;
	} pending[PENDING_MAX]; /* oldest first */
	uint64_t drained_ns;	/* when the event channel was last empty */
	struct pml_pace lines;	/* in the log about connections that cannot be accepted */
	uint64_t lines_left_out;
};

static struct verbs_fabric *fabric_of(struct pml_fabric *base)
{
	return PML_CONTAINER_OF(base, struct verbs_fabric, base);
}

static bool is_good_hello(const struct rdma_conn_param *conn)
{
	struct hello hello;
	if (!conn->private_data || conn->private_data_len < sizeof(hello))
		return false;
	memcpy(&hello, conn->private_data, sizeof(hello));
	return hello.magic == HELLO_MAGIC && hello.version == HELLO_VERSION;
}

static const struct hello our_hello = {HELLO_MAGIC, HELLO_VERSION};
static const struct hello come_again = {AGAIN_MAGIC, HELLO_VERSION};

/* Reads in flight: as the device allows, in the connection manager's eight bits. */
static uint8_t depth_of(int device, int wanted)
{
	int depth = PML_MIN(device, wanted);
	return (uint8_t)(depth < 0 ? 0 : PML_MIN(depth, UINT8_MAX));
}

/*
 * For the queue pair of this side.  Before the route is resolved, or the request accepted.  The
 * server does not take the client's word for it, which may be "never".
 */
static void set_ack_timeout(struct rdma_cm_id *id)
{
	uint8_t timeout = ACK_TIMEOUT;
	/* Fails on kernels before 5.2: then it is the connection manager's. */
	(void)rdma_set_option(id, RDMA_OPTION_ID, RDMA_OPTION_ID_ACK_TIMEOUT, &timeout,
			      sizeof(timeout));
}

/* ---- listening ---------------------------------------------------------- */

static void explain_setup(char *ret_reason, const char *what, int err)
{
	if (err == -ENOMEM)
		pml_transport_reason(ret_reason,
				     "%s: %s; memory for RDMA is locked: raise RLIMIT_MEMLOCK "
				     "(ulimit -l, LimitMEMLOCK=)",
				     what, strerrordesc_np(-err));
	else
		pml_transport_reason(ret_reason, "%s: %s", what, strerrordesc_np(-err));
}

static void explain_no_cm(char *ret_reason, int err)
{
	pml_transport_reason(ret_reason,
			     "cannot use the RDMA connection manager: %s; is there an RDMA device "
			     "(rdma link), are the modules ib_uverbs and rdma_ucm loaded?",
			     strerrordesc_np(-err));
}

static void verbs_close_fabric(struct pml_fabric *base)
{
	struct verbs_fabric *fabric = fabric_of(base);
	for (unsigned i = 0; i < fabric->pending_count; i++)
		pml_verbs_close(&fabric->pending[i].ep->base);
	if (fabric->id)
		(void)rdma_destroy_id(fabric->id);
	if (fabric->cm)
		rdma_destroy_event_channel(fabric->cm);
	if (fabric->wake_fd >= 0)
		(void)close(fabric->wake_fd);
	free(fabric);
}

static int listen_on(struct verbs_fabric *fabric, const char *host, const char *port,
		     char *ret_reason)
{
	fabric->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	fabric->cm = rdma_create_event_channel();
	if (fabric->wake_fd < 0 || !fabric->cm ||
	    rdma_create_id(fabric->cm, &fabric->id, NULL, RDMA_PS_TCP)) {
		int err = -errno;
		explain_no_cm(ret_reason, err);
		return err;
	}
	struct addrinfo *list;
	int err = pml_transport_resolve(host, port, AI_PASSIVE, &list, ret_reason);
	if (err)
		return err;
	err = rdma_bind_addr(fabric->id, list->ai_addr) ? -errno : 0;
	freeaddrinfo(list);
	if (!err && (rdma_listen(fabric->id, BACKLOG) || pml_verbs_nonblocking(fabric->cm->fd)))
		err = -errno;
	if (err == -ENODEV || err == -EADDRNOTAVAIL)
		pml_transport_reason(ret_reason,
				     "no RDMA device has the address %s: %s; see rdma link; "
				     "soft-RoCE: rdma link add rxe0 type rxe netdev INTERFACE",
				     host, strerrordesc_np(-err));
	else if (err)
		pml_transport_reason(ret_reason, "cannot listen on %s port %s: %s", host, port,
				     strerrordesc_np(-err));
	return err;
}

static int verbs_listen(const char *host, const char *port, struct pml_fabric **ret_fabric,
			char *ret_reason)
{
	struct verbs_fabric *fabric = calloc(1, sizeof(*fabric));
	if (!fabric) {
		explain_setup(ret_reason, "cannot listen", -ENOMEM);
		return -ENOMEM;
	}
	fabric->base.ops = &pml_verbs_ops;
	int err = listen_on(fabric, host, port, ret_reason);
	if (err)
		verbs_close_fabric(&fabric->base);
	else
		*ret_fabric = &fabric->base;
	return err;
}

static uint16_t verbs_port(const struct pml_fabric *base)
{
	return ntohs(rdma_get_src_port(((const struct verbs_fabric *)base)->id));
}

static void verbs_shutdown(struct pml_fabric *base)
{
	pml_verbs_make_readable(fabric_of(base)->wake_fd);
}

static void explain_probe(char *ret_reason, int err)
{
	switch (err) {
	case EOPNOTSUPP:
		pml_transport_reason(
			ret_reason,
			"a file on a DAX filesystem cannot be registered with this RDMA "
			"device; use device-DAX (/dev/daxX.Y), or a device that pages on demand "
			"(ODP); tmpfs can be registered as well");
		break;
	case EFAULT:
		pml_transport_reason(
			ret_reason,
			"this memory cannot be registered for remote writing, as a file "
			"in the page cache cannot; use device-DAX or tmpfs");
		break;
	default:
		explain_setup(ret_reason, "memory cannot be registered with the RDMA device", -err);
	}
}

/*
 * Registers as a write lease would, and takes it back.  0 or an errno value.
 * @more: IBV_ACCESS_ besides those for remote writing
 */
static int try_register(struct ibv_context *verbs, void *mem, size_t bytes, unsigned int more)
{
	struct ibv_pd *pd = ibv_alloc_pd(verbs);
	if (!pd)
		return errno;
	struct ibv_mr *mr =
		ibv_reg_mr(pd, mem, PML_MIN(bytes, PROBE_BYTES_MAX),
			   (int)(IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE | more));
	int rc = mr ? ibv_dereg_mr(mr) : errno;
	(void)ibv_dealloc_pd(pd);
	return rc;
}

/* On the fabric's device; listening on a wildcard address any device will tell. */
static int try_on_device(struct verbs_fabric *fabric,
			 int (*try)(struct ibv_context *verbs, void *mem, size_t bytes), void *mem,
			 size_t bytes)
{
	struct ibv_context *verbs = fabric->id->verbs;
	struct ibv_context **all = NULL;
	int count = 0;
	if (!verbs) {
		all = rdma_get_devices(&count);
		if (all && count > 0)
			verbs = all[0];
	}
	int rc = verbs ? try(verbs, mem, bytes) : ENODEV;
	if (all)
		rdma_free_devices(all);
	return rc;
}

static int try_for_writing(struct ibv_context *verbs, void *mem, size_t bytes)
{
	return try_register(verbs, mem, bytes, 0);
}

/* What a reliable connection can do on the device through a registration on demand. */
static uint32_t on_demand_caps(struct ibv_context *verbs)
{
	struct ibv_device_attr_ex attr;
	if (ibv_query_device_ex(verbs, NULL, &attr) ||
	    !(attr.odp_caps.general_caps & IBV_ODP_SUPPORT))
		return 0;
	return attr.odp_caps.per_transport_caps.rc_odp_caps;
}

static int try_on_demand(struct ibv_context *verbs, void *mem, size_t bytes)
{
	const uint32_t needed = IBV_ODP_SUPPORT_READ | IBV_ODP_SUPPORT_WRITE;
	if ((on_demand_caps(verbs) & needed) != needed)
		return EOPNOTSUPP;
	return try_register(verbs, mem, bytes, IBV_ACCESS_ON_DEMAND);
}

static int verbs_probe(struct pml_fabric *base, void *mem, size_t bytes, char *ret_reason)
{
	int rc = try_on_device(fabric_of(base), try_for_writing, mem, bytes);
	if (rc == 0) {
		pml_transport_reason(ret_reason, "leased memory is pinned while it is registered");
		return 0;
	}
	/* A DAX filesystem does not let it be pinned; a page cache not for writing. */
	if ((rc == EOPNOTSUPP || rc == EFAULT) &&
	    try_on_device(fabric_of(base), try_on_demand, mem, bytes) == 0) {
		base->is_on_demand = true;
		pml_transport_reason(ret_reason,
				     "leased memory cannot be pinned and is registered on demand "
				     "(ODP)");
		return 0;
	}
	explain_probe(ret_reason, rc);
	return -EOPNOTSUPP;
}

/* A device may have FLUSH and refuse it for memory that is not persistent. */
static int try_for_flushing(struct ibv_context *verbs, void *mem, size_t bytes)
{
	if (!(pml_verbs_can(verbs) & PML_EP_CAN_FLUSH))
		return EOPNOTSUPP;
	return try_register(verbs, mem, bytes, pml_verbs_flush_access());
}

/* The same through a registration on demand: a capability that older headers do not name. */
static int try_for_flushing_on_demand(struct ibv_context *verbs, void *mem, size_t bytes)
{
	if (!(pml_verbs_can(verbs) & PML_EP_CAN_FLUSH) ||
	    !(on_demand_caps(verbs) & ODP_SUPPORT_FLUSH))
		return EOPNOTSUPP;
	return try_register(verbs, mem, bytes, IBV_ACCESS_ON_DEMAND | pml_verbs_flush_access());
}

static bool verbs_can_flush(struct pml_fabric *base)
{
	return try_on_device(fabric_of(base),
			     base->is_on_demand ? try_for_flushing_on_demand : try_for_flushing,
			     base->area, base->area_bytes) == 0;
}

static bool verbs_ep_can_flush(const struct pml_ep *base)
{
	const struct pml_verbs_ep *ep = (const struct pml_verbs_ep *)base; /* its first member */
	return pml_verbs_can(ep->id->verbs) & PML_EP_CAN_FLUSH;
}

/* ---- devices ------------------------------------------------------------ */

/* The kernel driver's name, of PATH_MAX at most. */
static const char *driver_of(const struct ibv_context *verbs, const struct ibv_device_attr *attr,
			     char *buf, size_t room)
{
	if (attr->vendor_id == VENDOR_RXE)
		return "rdma_rxe";
	if (attr->vendor_id == VENDOR_SIW)
		return "siw";
	char link[PATH_MAX];
	int n = snprintf(link, sizeof(link), "%s/device/driver", verbs->device->ibdev_path);
	if (n < 0 || (size_t)n >= sizeof(link))
		return "";
	ssize_t bytes = readlink(link, buf, room - 1);
	if (bytes < 0)
		return "";
	buf[bytes] = 0;
	const char *slash = strrchr(buf, '/');
	return slash ? slash + 1 : buf;
}

static void describe(struct ibv_context *verbs, struct pml_fence_device *ret)
{
	struct ibv_device_attr attr = {0};
	char path[PATH_MAX], guid[24];
	if (ibv_query_device(verbs, &attr))
		memset(&attr, 0, sizeof(attr));
	uint64_t id = be64toh(attr.node_guid);
	(void)snprintf(guid, sizeof(guid), "%016llx", (unsigned long long)id);
	pml_transport_device(ibv_get_device_name(verbs->device),
			     driver_of(verbs, &attr, path, sizeof(path)), guid, attr.fw_ver,
			     attr.device_cap_flags & IBV_DEVICE_MEM_WINDOW_TYPE_2B, ret);
}

static void verbs_ep_device(const struct pml_ep *base, struct pml_fence_device *ret)
{
	const struct pml_verbs_ep *ep = (const struct pml_verbs_ep *)base; /* its first member */
	describe(ep->id->verbs, ret);
}

static bool verbs_fabric_device(const struct pml_fabric *base, struct pml_fence_device *ret)
{
	const struct verbs_fabric *fabric = (const struct verbs_fabric *)base;
	if (fabric->id->verbs)
		describe(fabric->id->verbs, ret);
	return fabric->id->verbs;
}

/* Is there an RDMA device behind the address? */
static bool has_device(struct rdma_event_channel *cm, struct sockaddr *addr)
{
	struct rdma_cm_id *id;
	if (rdma_create_id(cm, &id, NULL, RDMA_PS_TCP))
		return false;
	bool has = rdma_bind_addr(id, addr) == 0 && id->verbs;
	(void)rdma_destroy_id(id);
	return has;
}

int pml_fencetest_find_host(char *ret_host, char *ret_reason)
{
	struct ifaddrs *list, *ifa;
	struct rdma_event_channel *cm = rdma_create_event_channel();
	if (!cm) {
		int err = -errno;
		explain_no_cm(ret_reason, err);
		return err;
	}
	if (getifaddrs(&list)) {
		int err = -errno;
		explain_setup(ret_reason, "cannot list the addresses of this machine", err);
		rdma_destroy_event_channel(cm);
		return err;
	}
	int err = -ENODEV;
	for (ifa = list; ifa && err; ifa = ifa->ifa_next) {
		sa_family_t family = ifa->ifa_addr ? ifa->ifa_addr->sa_family : AF_UNSPEC;
		if ((family != AF_INET && family != AF_INET6) || !has_device(cm, ifa->ifa_addr))
			continue;
		socklen_t bytes = family == AF_INET ? sizeof(struct sockaddr_in)
						    : sizeof(struct sockaddr_in6);
		if (getnameinfo(ifa->ifa_addr, bytes, ret_host, PML_FENCE_HOST_BYTES, NULL, 0,
				NI_NUMERICHOST) == 0)
			err = 0;
	}
	freeifaddrs(list);
	rdma_destroy_event_channel(cm);
	if (err)
		pml_transport_reason(ret_reason,
				     "no address of this machine belongs to an RDMA device: see "
				     "rdma link; soft-RoCE: rdma link add rxe0 type rxe netdev "
				     "INTERFACE");
	return err;
}

/* ---- accepting ---------------------------------------------------------- */

static struct pml_verbs_ep *take_pending(struct verbs_fabric *fabric, const struct rdma_cm_id *id)
{
	for (unsigned i = 0; i < fabric->pending_count; i++) {
		struct pml_verbs_ep *ep = fabric->pending[i].ep;
		if (ep->id != id)
			continue;
		fabric->pending_count--;
		memmove(&fabric->pending[i], &fabric->pending[i + 1],
			(fabric->pending_count - i) * sizeof(fabric->pending[0]));
		return ep;
	}
	return NULL;
}

static void drop_pending(struct verbs_fabric *fabric, unsigned index)
{
	struct pml_verbs_ep *ep = take_pending(fabric, fabric->pending[index].ep->id);
	(void)rdma_reject(ep->id, &come_again, sizeof(come_again));
	pml_verbs_close(&ep->base);
}

/* How many places a host has. */
static unsigned pending_of(const struct verbs_fabric *fabric, const struct pml_address *host)
{
	unsigned n = 0;
	for (unsigned i = 0; i < fabric->pending_count; i++)
		n += memcmp(&fabric->pending[i].host, host, sizeof(*host)) == 0;
	return n;
}

/* For so long it had not confirmed, as far as is known. */
static uint64_t silence_ns(const struct verbs_fabric *fabric, unsigned index)
{
	uint64_t since_ns = fabric->pending[index].since_ns;
	return fabric->drained_ns - PML_MIN(since_ns, fabric->drained_ns);
}

/* A place for a client of @host.  False: it has to come again. */
static bool make_room(struct verbs_fabric *fabric, const struct pml_address *host)
{
	if (fabric->pending_count < PENDING_MAX)
		return true;
	unsigned most = 0, index = 0;
	for (unsigned i = 0; i < fabric->pending_count; i++) {
		unsigned n = pending_of(fabric, &fabric->pending[i].host);
		if (n > most) {
			most = n;
			index = i;
		}
	}
	/* The oldest of the host that has most, or of equals of all, when it is old enough. */
	uint64_t patience_ns = 1;
	if (most <= pending_of(fabric, host) + 1) {
		patience_ns = PATIENCE_MS * 1000000ull;
		index = 0;
	}
	if (silence_ns(fabric, index) < patience_ns)
		return false;
	drop_pending(fabric, index);
	return true;
}

static int accept_request(struct pml_verbs_ep *ep, const struct rdma_conn_param *asked)
{
	struct ibv_device_attr device;
	int err = pml_verbs_ep_setup(ep);
	if (err)
		return err;
	set_ack_timeout(ep->id);
	int rc = ibv_query_device(ep->id->verbs, &device);
	if (rc)
		return -rc;
	ep->dereg_trusted_ns = device.vendor_id == VENDOR_RXE ? pml_rxe_trusted_ns() : PML_NEVER_NS;
	struct rdma_conn_param param = {
		.private_data = &our_hello,
		.private_data_len = sizeof(our_hello),
		.responder_resources = depth_of(device.max_qp_rd_atom, asked->responder_resources),
		.initiator_depth = depth_of(device.max_qp_init_rd_atom, asked->initiator_depth),
		.rnr_retry_count = RNR_RETRY,
	};
	return rdma_accept(ep->id, &param) ? -errno : 0;
}

/* Whoever asks again and again fills no log (I9). */
static void log_not_accepted(struct verbs_fabric *fabric, const char *reason)
{
	static const struct pml_pace_rule rule = {.burst = 10, .interval_ms = 10000};
	uint64_t now_ms = pml_transport_now_ns() / 1000000;
	if (!pml_pace_has(&fabric->lines, &rule, now_ms)) {
		fabric->lines_left_out++;
		return;
	}
	pml_pace_take(&fabric->lines, &rule, now_ms);
	if (fabric->lines_left_out)
		pml_log_warning("cannot accept an RDMA connection: %s (%llu more of this kind "
				"were left out)",
				reason, (unsigned long long)fabric->lines_left_out);
	else
		pml_log_warning("cannot accept an RDMA connection: %s", reason);
	fabric->lines_left_out = 0;
}

/* A client asks for a connection; @id is ours to keep or destroy. */
static void take_request(struct verbs_fabric *fabric, struct rdma_cm_id *id,
			 const struct rdma_conn_param *asked)
{
	struct pml_verbs_ep *ep = NULL;
	struct pml_address address, host;
	pml_address_of(rdma_get_peer_addr(id), &address);
	pml_address_host(&address, &host);
	char reason[PML_REASON_BYTES] = "";
	int err = is_good_hello(asked) ? 0 : -EPROTO;
	if (!err && !make_room(fabric, &host))
		err = -EAGAIN;
	if (!err)
		err = pml_verbs_ep_new(&ep);
	if (!err) {
		ep->id = id;
		ep->is_server = true;
		err = pml_transport_plan(&fabric->base, &ep->base, reason);
	}
	if (!err)
		err = accept_request(ep, asked);
	if (err) {
		(void)rdma_reject(id, err == -EAGAIN ? &come_again : &our_hello, sizeof(our_hello));
		if (err != -EPROTO && err != -EAGAIN)
			log_not_accepted(fabric, reason[0] ? reason : strerrordesc_np(-err));
		if (ep)
			pml_verbs_close(&ep->base);
		else
			(void)rdma_destroy_id(id);
		return;
	}
	unsigned i = fabric->pending_count++;
	fabric->pending[i].ep = ep;
	fabric->pending[i].host = host;
	fabric->pending[i].since_ns = pml_transport_now_ns();
}

/* The client has confirmed: from now on the endpoint gets its own events. */
static int take_established(struct verbs_fabric *fabric, struct rdma_cm_id *id,
			    struct pml_ep **ret_ep)
{
	struct pml_verbs_ep *ep = take_pending(fabric, id);
	if (!ep)
		return -EAGAIN;
	pml_verbs_ep_connected(ep);
	if (rdma_migrate_id(id, ep->cm)) {
		pml_verbs_close(&ep->base);
		return -EAGAIN;
	}
	*ret_ep = &ep->base;
	return 0;
}

/* One event of the listener.  0: *ret_ep is set; -EAGAIN: look for more. */
static int take_fabric_event(struct verbs_fabric *fabric, struct rdma_cm_event *event,
			     struct pml_ep **ret_ep)
{
	struct rdma_cm_id *id = event->id;
	enum rdma_cm_event_type type = event->event;
	if (type == RDMA_CM_EVENT_CONNECT_REQUEST) {
		struct hello hello = {0};
		struct rdma_conn_param asked = event->param.conn;
		if (asked.private_data && asked.private_data_len >= sizeof(hello)) {
			memcpy(&hello, asked.private_data, sizeof(hello));
			asked.private_data = &hello;
		}
		(void)rdma_ack_cm_event(event);
		take_request(fabric, id, &asked);
		return -EAGAIN;
	}
	/* Migrating or destroying an id waits for its events to be acknowledged. */
	(void)rdma_ack_cm_event(event);
	if (type == RDMA_CM_EVENT_ESTABLISHED)
		return take_established(fabric, id, ret_ep);
	if (id == fabric->id)
		return type == RDMA_CM_EVENT_DEVICE_REMOVAL ? -ENODEV : -EAGAIN;
	struct pml_verbs_ep *ep = take_pending(fabric, id);
	if (ep)
		pml_verbs_close(&ep->base);
	return -EAGAIN;
}

static void drop_expired(struct verbs_fabric *fabric)
{
	while (fabric->pending_count > 0 && silence_ns(fabric, 0) >= PENDING_MS * 1000000ull)
		drop_pending(fabric, 0);
}

/* 0: *ret_ep is set; -EAGAIN: there are no more events. */
static int take_fabric_events(struct verbs_fabric *fabric, struct pml_ep **ret_ep)
{
	struct rdma_cm_event *event;
	while (rdma_get_cm_event(fabric->cm, &event) == 0) {
		int err = take_fabric_event(fabric, event, ret_ep);
		if (err != -EAGAIN)
			return err;
	}
	fabric->drained_ns = pml_transport_now_ns();
	return -EAGAIN;
}

static int verbs_accept(struct pml_fabric *base, int timeout_ms, struct pml_ep **ret_ep)
{
	struct verbs_fabric *fabric = fabric_of(base);
	uint64_t deadline_ns = pml_transport_deadline_ns(timeout_ms);
	for (;;) {
		drop_expired(fabric);
		uint64_t wake_ns = deadline_ns;
		if (fabric->pending_count > 0)
			wake_ns = PML_MIN(wake_ns,
					  fabric->pending[0].since_ns + PENDING_MS * 1000000ull);
		struct pollfd fds[] = {
			{.fd = fabric->wake_fd, .events = POLLIN},
			{.fd = fabric->cm->fd, .events = POLLIN},
		};
		int n = poll(fds, 2, pml_transport_ms_left(wake_ns));
		if (n < 0 && errno != EINTR)
			return -errno;
		if (n > 0 && fds[0].revents)
			return -ESHUTDOWN;
		int err = take_fabric_events(fabric, ret_ep);
		if (err != -EAGAIN)
			return err;
		if (pml_transport_now_ns() >= deadline_ns)
			return -ETIMEDOUT;
	}
}

/* ---- connecting --------------------------------------------------------- */

/* Waits for the next event of a connection that is being made. */
static int wait_cm_event(struct pml_verbs_ep *ep, uint64_t deadline_ns, struct rdma_cm_event **ret)
{
	while (rdma_get_cm_event(ep->cm, ret)) {
		if (errno != EAGAIN && errno != EINTR)
			return -errno;
		struct pollfd p = {.fd = ep->cm->fd, .events = POLLIN};
		if (poll(&p, 1, pml_transport_ms_left(deadline_ns)) == 0)
			return -ETIMEDOUT;
	}
	return 0;
}

/* The server was too busy for this attempt: it said so, or has given its place to another. */
static bool is_come_again(const struct rdma_cm_event *event)
{
	const struct rdma_conn_param *conn = &event->param.conn;
	struct hello hello;
	/* The place was lost while the confirmation was being made. */
	if (event->event == RDMA_CM_EVENT_CONNECT_ERROR)
		return true;
	if (event->event != RDMA_CM_EVENT_REJECTED)
		return false;
	if (!conn->private_data || conn->private_data_len < sizeof(hello))
		return false;
	memcpy(&hello, conn->private_data, sizeof(hello));
	return hello.magic == AGAIN_MAGIC;
}

/*
 * 0: it was @want.  -EAGAIN: another attempt may succeed.  A failure that the event reports comes
 * as its errno.
 */
static int expect_event(struct pml_verbs_ep *ep, enum rdma_cm_event_type want, uint64_t deadline_ns)
{
	struct rdma_cm_event *event;
	int err = wait_cm_event(ep, deadline_ns, &event);
	if (err)
		return err;
	if (is_come_again(event))
		err = -EAGAIN;
	else if (event->event == RDMA_CM_EVENT_REJECTED)
		err = -ECONNREFUSED;
	else if (event->event != want)
		err = event->status < 0 ? event->status : -EHOSTUNREACH;
	else if (want == RDMA_CM_EVENT_ESTABLISHED && !is_good_hello(&event->param.conn))
		err = -EPROTO;
	(void)rdma_ack_cm_event(event);
	return err;
}

static int find_route(struct pml_verbs_ep *ep, struct sockaddr *addr, uint64_t deadline_ns)
{
	int left_ms = pml_transport_ms_left(deadline_ns);
	int step_ms = left_ms < 0 ? 10000 : left_ms;
	if (rdma_create_id(ep->cm, &ep->id, NULL, RDMA_PS_TCP))
		return -errno;
	set_ack_timeout(ep->id);
	if (rdma_resolve_addr(ep->id, NULL, addr, step_ms))
		return -errno;
	int err = expect_event(ep, RDMA_CM_EVENT_ADDR_RESOLVED, deadline_ns);
	if (err)
		return err;
	if (rdma_resolve_route(ep->id, step_ms))
		return -errno;
	return expect_event(ep, RDMA_CM_EVENT_ROUTE_RESOLVED, deadline_ns);
}

static int shake_hands(struct pml_verbs_ep *ep, uint64_t deadline_ns)
{
	struct ibv_device_attr device;
	int rc = ibv_query_device(ep->id->verbs, &device);
	if (rc)
		return -rc;
	struct rdma_conn_param param = {
		.private_data = &our_hello,
		.private_data_len = sizeof(our_hello),
		/* Reads go from client to server only. */
		.initiator_depth = depth_of(device.max_qp_init_rd_atom, UINT8_MAX),
		.retry_count = ACK_RETRY,
		.rnr_retry_count = RNR_RETRY,
	};
	if (rdma_connect(ep->id, &param))
		return -errno;
	return expect_event(ep, RDMA_CM_EVENT_ESTABLISHED, deadline_ns);
}

static void explain_connect(char *ret_reason, const char *peer, int err)
{
	if (err == -ECONNREFUSED)
		pml_transport_reason(
			ret_reason,
			"%s refused the RDMA connection: no server listens there, or it "
			"is full or of another version than %u",
			peer, HELLO_VERSION);
	else if (err == -EAGAIN)
		pml_transport_reason(
			ret_reason, "%s has too many clients that connect at once: try again later",
			peer);
	else if (err == -EPROTO)
		pml_transport_reason(ret_reason,
				     "%s does not answer as a pmemleasefs server of version %u",
				     peer, HELLO_VERSION);
	else
		explain_setup(ret_reason, "cannot make an RDMA connection", err);
}

static int connect_ep(struct pml_verbs_ep *ep, const char *host, const char *port,
		      uint64_t deadline_ns, char *ret_reason)
{
	struct addrinfo *list;
	int err = pml_transport_resolve(host, port, 0, &list, ret_reason);
	if (err)
		return err;
	err = find_route(ep, list->ai_addr, deadline_ns);
	freeaddrinfo(list);
	if (err) {
		pml_transport_reason(
			ret_reason,
			"no RDMA device reaches %s: %s; see rdma link; soft-RoCE: rdma "
			"link add rxe0 type rxe netdev INTERFACE",
			host, strerrordesc_np(-err));
		return err;
	}
	err = pml_verbs_ep_setup(ep);
	if (!err)
		err = shake_hands(ep, deadline_ns);
	if (err)
		explain_connect(ret_reason, ep->base.peer, err);
	return err;
}

/* One attempt. */
static int try_connect(const char *host, const char *port, uint64_t deadline_ns,
		       struct pml_ep **ret_ep, char *ret_reason)
{
	struct pml_verbs_ep *ep;
	int err = pml_verbs_ep_new(&ep);
	if (err) {
		explain_no_cm(ret_reason, err);
		return err;
	}
	err = connect_ep(ep, host, port, deadline_ns, ret_reason);
	if (err) {
		pml_verbs_close(&ep->base);
		return err;
	}
	pml_verbs_ep_connected(ep);
	*ret_ep = &ep->base;
	return 0;
}

static int verbs_connect(const char *host, const char *port, int timeout_ms, struct pml_ep **ret_ep,
			 char *ret_reason)
{
	uint64_t deadline_ns = pml_transport_deadline_ns(timeout_ms);
	for (uint64_t ms = AGAIN_MS_MIN;; ms = PML_MIN(ms * 2, AGAIN_MS_MAX)) {
		int err = try_connect(host, port, deadline_ns, ret_ep, ret_reason);
		if (err != -EAGAIN)
			return err;
		/* Not all at the same time: half of it by chance. */
		uint64_t now_ns = pml_transport_now_ns();
		uint64_t pause_ns = ms * 500000u + now_ns % (ms * 500000u);
		if (pause_ns >= deadline_ns - PML_MIN(now_ns, deadline_ns))
			return -ETIMEDOUT;
		(void)usleep((useconds_t)(pause_ns / 1000u));
	}
}

const struct pml_transport_ops pml_verbs_ops = {
	.listen = verbs_listen,
	.port = verbs_port,
	.probe = verbs_probe,
	.can_flush = verbs_can_flush,
	.ep_can_flush = verbs_ep_can_flush,
	.accept = verbs_accept,
	.shutdown = verbs_shutdown,
	.close_fabric = verbs_close_fabric,
	.key_new = pml_verbs_key_new,
	.key_fence = pml_verbs_key_fence,
	.connect = verbs_connect,
	.local_mr_new = pml_verbs_local_mr_new,
	.local_mr_free = pml_verbs_local_mr_free,
	.post = pml_verbs_post,
	.poll = pml_verbs_poll,
	.send = pml_verbs_send,
	.recv = pml_verbs_recv,
	.can_look = pml_verbs_can_look,
	.recv_arm = pml_verbs_recv_arm,
	.recv_sleep = pml_verbs_recv_sleep,
	.kill = pml_verbs_kill,
	.close = pml_verbs_close,
	.destroy = pml_verbs_destroy,
	.ep_device = verbs_ep_device,
	.fabric_device = verbs_fabric_device,
	.fence_texts =
		{
			[PML_BY_WINDOW] =
				"the segment's memory window is invalidated (LOCAL_INV), and "
				"the device confirms it",
			[PML_BY_REGION] =
				"the segment's own memory region is deregistered "
				"(ibv_dereg_mr): the device has dropped it before the call "
				"returns",
			[PML_BY_CONNECTION] =
				"the client's queue pair is destroyed, and the segment's "
				"own memory region deregistered",
		},
};
