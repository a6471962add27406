/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * transport.c -- forwards to the fabric of an endpoint; what both fabrics share
 *
 * Arguments that only a faulty program can get wrong are asserted here, once
 * for both fabrics.  What comes from the network is checked in the fabrics.
 */
#include <netdb.h>
#include <netinet/in.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/utsname.h>
#include <time.h>

#include "transport_impl.h"

static const struct pml_transport_ops *ops_of(enum pml_transport_kind kind)
{
	return kind == PML_TRANSPORT_SOFT ? &pml_soft_ops : &pml_verbs_ops;
}

static bool is_port(const char *text)
{
	char *end;
	unsigned long number = strtoul(text, &end, 10);
	return text[0] >= '0' && text[0] <= '9' && *end == '\0' && number <= UINT16_MAX;
}

int pml_fabric_listen(enum pml_transport_kind kind, const char *host, const char *port,
		      struct pml_fabric **ret_fabric, char *ret_reason)
{
	ret_reason[0] = '\0';
	if (!is_port(port)) {
		pml_transport_reason(ret_reason, "%s is not a port number (0 to 65535)", port);
		return -EINVAL;
	}
	return ops_of(kind)->listen(host, port, ret_fabric, ret_reason);
}

uint16_t pml_fabric_port(const struct pml_fabric *fabric)
{
	return fabric->ops->port(fabric);
}

int pml_fabric_probe(struct pml_fabric *fabric, void *base, size_t bytes, char *ret_reason)
{
	assert(bytes > 0);
	ret_reason[0] = '\0';
	int err = fabric->ops->probe(fabric, base, bytes, ret_reason);
	if (!err) {
		fabric->area = base;
		fabric->area_bytes = bytes;
	}
	return err;
}

bool pml_fabric_is_pinned(const struct pml_fabric *fabric)
{
	return fabric->ops == &pml_verbs_ops && !fabric->is_on_demand;
}

/* What is known of the fabric's device, or without a file of verdicts: nothing. */
static int decide(const struct pml_fabric *fabric, const struct pml_fence_device *device,
		  struct pml_fence_plan *ret_plan, char *ret_text)
{
	static const struct pml_verdicts none;
	enum pml_fence_choice choice = fabric->choice;
	/* A window would lie in a registration that is not pinned: drivers refuse to bind it. */
	if (fabric->is_on_demand && choice == PML_FENCE_WINDOW) {
		pml_transport_reason(ret_text, "fence_method=window: this memory is registered on "
					       "demand, which excludes memory windows; use "
					       "fence_method=region, or device-DAX");
		return -EOPNOTSUPP;
	}
	if (fabric->is_on_demand && choice == PML_FENCE_AUTO)
		choice = PML_FENCE_REGION;
	return pml_fence_decide(choice, fabric->verdicts ? fabric->verdicts : &none, device,
				ret_plan, ret_text);
}

int pml_fabric_set_fence(struct pml_fabric *fabric, enum pml_fence_choice choice,
			 const struct pml_verdicts *verdicts, char *ret_text)
{
	struct pml_verdicts *copy = malloc(sizeof(*copy));
	if (!copy) {
		pml_transport_reason(ret_text, "fence verdicts: %s", strerrordesc_np(ENOMEM));
		return -ENOMEM;
	}
	*copy = *verdicts;
	free(fabric->verdicts);
	fabric->verdicts = copy;
	fabric->choice = choice;

	struct pml_fence_device device;
	struct pml_fence_plan plan;
	if (fabric->ops->fabric_device(fabric, &device))
		return decide(fabric, &device, &plan, ret_text);
	pml_transport_reason(ret_text, "how a lease ends is decided by each client's device");
	return 0;
}

void pml_fabric_force_fence(struct pml_fabric *fabric, const struct pml_fence_plan *plan)
{
	fabric->is_forced = true;
	fabric->forced = *plan;
}

int pml_fabric_set_durable(struct pml_fabric *fabric, enum pml_durable_choice choice,
			   pml_persist_fn *persist, void *arg, char *ret_text)
{
	fabric->persist = persist;
	fabric->persist_arg = arg;
	return pml_durable_decide(choice, persist && fabric->ops->can_flush(fabric), persist,
				  &fabric->durable_rule, ret_text);
}

int pml_fabric_accept(struct pml_fabric *fabric, int timeout_ms, struct pml_ep **ret_ep)
{
	return fabric->ops->accept(fabric, timeout_ms, ret_ep);
}

void pml_fabric_shutdown(struct pml_fabric *fabric)
{
	fabric->ops->shutdown(fabric);
}

void pml_fabric_close(struct pml_fabric *fabric)
{
	if (!fabric)
		return;
	free(fabric->verdicts);
	fabric->ops->close_fabric(fabric);
}

int pml_key_new(struct pml_ep *ep, void *addr, size_t bytes, unsigned int rights,
		uint32_t *ret_rkey, struct pml_key **ret_key)
{
	assert(bytes > 0 && (uintptr_t)addr <= UINTPTR_MAX - bytes);
	assert(rights && (!(rights & PML_KEY_FLUSH) || ep->durable_rule == PML_DURABLE_BY_FLUSH));
	return ep->ops->key_new(ep, addr, bytes, rights, ret_rkey, ret_key);
}

/* Ending a key by a step that is no fence would free what can still be reached (I3). */
int pml_key_fence(struct pml_key *key, enum pml_ep_fence how, bool is_cooperative)
{
	const struct pml_fence_plan *plan = &key->ep->plan;
	if (how == PML_EP_FENCE_KEY ? !plan->is_key_proven : !plan->is_connection_proven)
		return -EOPNOTSUPP;
	return key->ep->ops->key_fence(key, how);
}

int pml_ep_destroy(struct pml_ep *ep)
{
	return ep->ops->destroy(ep);
}

enum pml_durable_rule pml_ep_durable_rule(const struct pml_ep *ep)
{
	return ep->durable_rule;
}

unsigned int pml_ep_can(const struct pml_ep *ep)
{
	return ep->can;
}

void pml_ep_device(const struct pml_ep *ep, struct pml_fence_device *ret_device)
{
	ep->ops->ep_device(ep, ret_device);
}

int pml_ep_connect(enum pml_transport_kind kind, const char *host, const char *port, int timeout_ms,
		   struct pml_ep **ret_ep, char *ret_reason)
{
	ret_reason[0] = '\0';
	if (!is_port(port)) {
		pml_transport_reason(ret_reason, "%s is not a port number (0 to 65535)", port);
		return -EINVAL;
	}
	return ops_of(kind)->connect(host, port, timeout_ms, ret_ep, ret_reason);
}

int pml_local_mr_new(struct pml_ep *ep, void *buf, size_t bytes, struct pml_local_mr **ret_mr)
{
	assert(bytes > 0);
	return ep->ops->local_mr_new(ep, buf, bytes, ret_mr);
}

void pml_local_mr_free(struct pml_local_mr *mr)
{
	if (mr)
		mr->ep->ops->local_mr_free(mr);
}

static bool is_inside(const struct pml_local_mr *mr, const void *buf, size_t bytes)
{
	uintptr_t first = (uintptr_t)mr->buf;
	uintptr_t at = (uintptr_t)buf;
	return at >= first && bytes <= mr->bytes && at - first <= mr->bytes - bytes;
}

int pml_ep_post(struct pml_ep *ep, const struct pml_data_op *op)
{
	static const unsigned int needs[] = {
		[PML_DATA_FLUSH] = PML_EP_CAN_FLUSH,
		[PML_DATA_ATOMIC_WRITE] = PML_EP_CAN_ATOMIC_WRITE,
	};
	assert(op->bytes > 0 && op->bytes <= PML_DATA_BYTES_MAX);
	assert(op->kind == PML_DATA_FLUSH
		       ? !op->mr
		       : op->mr->ep == ep && is_inside(op->mr, op->buf, op->bytes));
	assert(op->kind != PML_DATA_ATOMIC_WRITE ||
	       (op->bytes == PML_ATOMIC_WRITE_BYTES &&
		op->remote_addr % PML_ATOMIC_WRITE_BYTES == 0));
	if (needs[op->kind] & ~ep->can)
		return -EOPNOTSUPP;
	return ep->ops->post(ep, op);
}

int pml_ep_poll(struct pml_ep *ep, struct pml_completion *ret, int max, int timeout_ms)
{
	assert(max > 0);
	return ep->ops->poll(ep, ret, max, timeout_ms);
}

int pml_ep_send(struct pml_ep *ep, const void *msg, size_t bytes, int timeout_ms)
{
	assert(bytes > 0 && bytes <= PML_MSG_BYTES_MAX);
	return ep->ops->send(ep, msg, bytes, false, timeout_ms);
}

int pml_ep_send_quiet(struct pml_ep *ep, const void *msg, size_t bytes, int timeout_ms)
{
	assert(bytes > 0 && bytes <= PML_MSG_BYTES_MAX);
	return ep->ops->send(ep, msg, bytes, true, timeout_ms);
}

int pml_ep_recv(struct pml_ep *ep, void *buf, size_t *ret_bytes, int timeout_ms)
{
	return ep->ops->recv(ep, buf, ret_bytes, timeout_ms);
}

bool pml_ep_can_look(const struct pml_ep *ep)
{
	return ep->ops->can_look(ep);
}

void pml_ep_recv_arm(struct pml_ep *ep, bool for_quiet)
{
	ep->ops->recv_arm(ep, for_quiet);
}

void pml_ep_recv_sleep(struct pml_ep *ep, int timeout_ms)
{
	ep->ops->recv_sleep(ep, timeout_ms);
}

void pml_ep_kill(struct pml_ep *ep)
{
	ep->ops->kill(ep);
}

void pml_ep_close(struct pml_ep *ep)
{
	if (ep)
		ep->ops->close(ep);
}

const char *pml_ep_peer(const struct pml_ep *ep)
{
	return ep->peer;
}

const char *pml_ep_fence_text(const struct pml_ep *ep)
{
	return ep->ops->fence_texts[ep->plan.method];
}

/* ---- shared by the fabrics ---------------------------------------------- */

static int plan_fence(const struct pml_fabric *fabric, struct pml_ep *ep, char *ret_reason)
{
	if (fabric->is_forced) {
		ep->plan = fabric->forced;
		return 0;
	}
	struct pml_fence_device device;
	char text[PML_REASON_BYTES];
	ep->ops->ep_device(ep, &device);
	int rc = decide(fabric, &device, &ep->plan, text);
	if (rc < 0)
		memcpy(ret_reason, text, sizeof(text));
	return rc < 0 ? rc : 0;
}

/* By the fabric's rule if this connection's keys can have it, else by commit. */
static void plan_durable(const struct pml_fabric *fabric, struct pml_ep *ep)
{
	/* No device is known that lets a memory window be flushed through. */
	bool can_flush = ep->plan.method != PML_BY_WINDOW && ep->ops->ep_can_flush(ep);
	bool is_had = fabric->durable_rule == PML_DURABLE_BY_READ ||
		      (fabric->durable_rule == PML_DURABLE_BY_FLUSH && can_flush);
	ep->durable_rule = is_had ? fabric->durable_rule : PML_DURABLE_BY_COMMIT;
	ep->persist = fabric->persist;
	ep->persist_arg = fabric->persist_arg;
}

int pml_transport_plan(const struct pml_fabric *fabric, struct pml_ep *ep, char *ret_reason)
{
	ep->area = fabric->area;
	ep->area_bytes = fabric->area_bytes;
	ep->is_on_demand = fabric->is_on_demand;
	int err = plan_fence(fabric, ep, ret_reason);
	if (!err)
		plan_durable(fabric, ep);
	return err;
}

bool pml_transport_in_area(const struct pml_ep *ep, const void *addr, size_t bytes)
{
	uintptr_t first = (uintptr_t)ep->area;
	uintptr_t at = (uintptr_t)addr;
	return ep->area && at >= first && bytes <= ep->area_bytes &&
	       at - first <= ep->area_bytes - bytes;
}

/* Printable and in one piece, as the file of verdicts needs it. */
static void set_word(char *to, size_t room, const char *from)
{
	size_t n = 0;
	for (; from[n] && n < room - 1; n++)
		to[n] = from[n] > ' ' && from[n] <= '~' ? from[n] : '_';
	if (n == 0)
		to[n++] = '-';
	to[n] = 0;
}

void pml_transport_device(const char *name, const char *driver, const char *guid,
			  const char *firmware, bool has_windows, struct pml_fence_device *ret)
{
	struct utsname os;
	memset(ret, 0, sizeof(*ret));
	set_word(ret->name, sizeof(ret->name), name);
	set_word(ret->driver, sizeof(ret->driver), driver);
	set_word(ret->guid, sizeof(ret->guid), guid);
	set_word(ret->firmware, sizeof(ret->firmware), firmware);
	set_word(ret->kernel, sizeof(ret->kernel), uname(&os) ? "" : os.release);
	ret->has_windows = has_windows;
}

uint64_t pml_transport_now_ns(void)
{
	struct timespec ts;
	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

uint64_t pml_transport_deadline_ns(int timeout_ms)
{
	if (timeout_ms < 0)
		return PML_NEVER_NS;
	return pml_transport_now_ns() + (uint64_t)timeout_ms * 1000000u;
}

int pml_transport_ms_left(uint64_t deadline_ns)
{
	if (deadline_ns == PML_NEVER_NS)
		return -1;
	uint64_t now = pml_transport_now_ns();
	if (now >= deadline_ns)
		return 0;
	uint64_t ms = (deadline_ns - now + 999999u) / 1000000u;
	return ms > 86400000u ? 86400000 : (int)ms;
}

int pml_transport_cond_init(pthread_cond_t *cond)
{
	pthread_condattr_t attr;
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	int err = pthread_cond_init(cond, &attr);
	pthread_condattr_destroy(&attr);
	return -err;
}

int pml_transport_cond_wait(pthread_cond_t *cond, pthread_mutex_t *lock, uint64_t deadline_ns)
{
	if (deadline_ns == PML_NEVER_NS)
		return -pthread_cond_wait(cond, lock);
	struct timespec ts = {
		.tv_sec = (time_t)(deadline_ns / 1000000000u),
		.tv_nsec = (long)(deadline_ns % 1000000000u),
	};
	return -pthread_cond_timedwait(cond, lock, &ts);
}

void pml_transport_peer_text(const struct sockaddr *addr, char *ret_text)
{
	char host[64], port[8];
	bool is_v6 = addr->sa_family == AF_INET6;
	socklen_t bytes = is_v6 ? sizeof(struct sockaddr_in6) : sizeof(struct sockaddr_in);
	if (getnameinfo(addr, bytes, host, sizeof(host), port, sizeof(port),
			NI_NUMERICHOST | NI_NUMERICSERV) != 0)
		snprintf(ret_text, PML_PEER_BYTES, "unknown");
	else
		snprintf(ret_text, PML_PEER_BYTES, is_v6 ? "[%s]:%s" : "%s:%s", host, port);
}

void pml_transport_reason(char *ret_reason, const char *format, ...)
{
	va_list args;
	va_start(args, format);
	vsnprintf(ret_reason, PML_REASON_BYTES, format, args);
	va_end(args);
}

int pml_transport_resolve(const char *host, const char *port, int flags, struct addrinfo **ret_list,
			  char *ret_reason)
{
	const struct addrinfo hints = {
		.ai_family = AF_UNSPEC,
		.ai_socktype = SOCK_STREAM,
		.ai_flags = flags | AI_NUMERICSERV,
	};
	int rc = getaddrinfo(host, port, &hints, ret_list);
	if (rc == 0)
		return 0;
	pml_transport_reason(ret_reason, "cannot resolve %s port %s: %s", host, port,
			     gai_strerror(rc));
	return rc == EAI_SYSTEM ? -errno : -EINVAL;
}
