/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * ctl_lease.c -- pmemleasectl: takes a lease as a local program does, to see what happens
 */
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "ctl.h"
#include "pmemleasefs/ioctl.h"
#include "pml/clock.h"
#include "pml/lease.h"

/* A lease that is in the way is recalled by the first try: longer than its holder has. */
#define TAKE_TRIES    150
#define TAKE_PAUSE_US 100000

/* ---- what is printed -------------------------------------------------------- */

static void print_lease(const struct pml_ioc_lease_take *take)
{
	printf("holding lease %llu: bytes %llu-%llu, %s\n", (unsigned long long)take->lease_id,
	       (unsigned long long)take->first_byte, (unsigned long long)take->end_byte,
	       take->flags & PML_IOC_TAKE_WRITE ? "write" : "read");
	printf("%-14s %-14s %s\n", "FIRST", "DEVICE BYTE", "LENGTH");
	for (uint32_t i = 0; i < take->count; i++)
		printf("%-14llu %-14llu %llu\n", (unsigned long long)take->segments[i].first_byte,
		       (unsigned long long)take->segments[i].device_byte,
		       (unsigned long long)take->segments[i].len_bytes);
}

static void print_lease_json(const struct pml_ioc_lease_take *take)
{
	printf("{\"event\":\"taken\",\"lease\":%llu,\"mode\":\"%s\",\"first_byte\":%llu,"
	       "\"end_byte\":%llu,\"file_size\":%llu,\"segments\":[",
	       (unsigned long long)take->lease_id,
	       take->flags & PML_IOC_TAKE_WRITE ? "write" : "read",
	       (unsigned long long)take->first_byte, (unsigned long long)take->end_byte,
	       (unsigned long long)take->file_size);
	for (uint32_t i = 0; i < take->count; i++)
		printf("%s{\"first_byte\":%llu,\"device_byte\":%llu,\"length\":%llu}", i ? "," : "",
		       (unsigned long long)take->segments[i].first_byte,
		       (unsigned long long)take->segments[i].device_byte,
		       (unsigned long long)take->segments[i].len_bytes);
	printf("]}\n");
}

static const char *name_of_op(uint32_t op)
{
	return op == PML_IOC_OP_UNMOUNT ? "unmount" : pml_layout_op_name((enum pml_layout_op)op);
}

static void print_recall(const struct pml_ioc_lease_event *event, bool is_json)
{
	const char *op = name_of_op(event->op);
	if (is_json)
		printf("{\"event\":\"recalled\",\"lease\":%llu,\"operation\":\"%s\","
		       "\"drain_ms\":%u}\n",
		       (unsigned long long)event->lease_id, op, (unsigned int)event->drain_ms);
	else if (event->drain_ms)
		printf("recalled for %s, %u ms\n", op, (unsigned int)event->drain_ms);
	else
		printf("recalled for %s, no clock runs\n", op);
}

static void print_end(const struct pml_ioc_lease_event *event, bool is_json)
{
	const char *why = event ? pml_end_reason_name((enum pml_end_reason)event->why) : "returned";
	if (is_json)
		printf("{\"event\":\"ended\",\"why\":\"%s\"}\n", why);
	else if (event)
		printf("lease revoked: %s\n", why);
	else
		printf("lease returned\n");
}

/* ---- the lease ---------------------------------------------------------------- */

static int complain(const char *path, int err)
{
	if (err != -EPERM)
		return pml_ctl_complain(path, err);
	fprintf(stderr,
		PML_CTL_PROGRAM
		": %s: the mount has no option local_leases, or its daemon cannot kill "
		"this process\n",
		path);
	return err;
}

static int take(const char *path, int fd, const struct pml_ctl_options *options,
		struct pml_ioc_lease_take *ret_take)
{
	struct stat st;
	if (fstat(fd, &st) != 0)
		return complain(path, -errno);
	uint64_t size = (uint64_t)st.st_size;
	uint64_t rest = size > options->first_byte ? size - options->first_byte : 1;
	*ret_take = (struct pml_ioc_lease_take){
		.version = PML_IOC_VERSION,
		.flags = (options->is_write ? PML_IOC_TAKE_WRITE : 0u) |
			 (options->is_shared ? PML_IOC_TAKE_SHARED : 0u) |
			 (options->is_unbreakable ? PML_IOC_TAKE_UNBREAKABLE : 0u),
		.first_byte = options->first_byte,
		.len_bytes = options->len_bytes ? options->len_bytes
						: PML_MIN(rest, (uint64_t)PML_LEASE_BYTES_MAX),
	};
	int err = 0;
	for (int i = 0; i < TAKE_TRIES; i++) {
		err = ioctl(fd, PML_IOC_LEASE_TAKE, ret_take) == 0 ? 0 : -errno;
		if (err != -EAGAIN)
			break;
		(void)usleep(TAKE_PAUSE_US);
	}
	return err ? complain(path, err) : 0;
}

static int give_back(const char *path, int fd, uint64_t lease_id, bool is_json)
{
	struct pml_ioc_lease_ref ref = {.version = PML_IOC_VERSION, .lease_id = lease_id};
	int err = ioctl(fd, PML_IOC_LEASE_RETURN, &ref) == 0 ? 0 : -errno;
	if (err) {
		(void)complain(path, err);
		return PML_CTL_ERROR;
	}
	print_end(NULL, is_json);
	return PML_CTL_OK;
}

/* Takes one event.  *ret_is_over: the lease has ended, or is to be returned. */
static int see_event(const char *path, int fd, const struct pml_ctl_options *options,
		     uint64_t lease_id, bool *ret_is_over)
{
	struct pml_ioc_lease_event event = {.version = PML_IOC_VERSION};
	if (ioctl(fd, PML_IOC_LEASE_EVENT, &event) != 0) {
		/* Somebody who has the descriptor, too, was faster. */
		if (errno == EAGAIN)
			return PML_CTL_OK;
		(void)complain(path, -errno);
		return PML_CTL_ERROR;
	}
	if (event.kind == PML_IOC_LEASE_REVOKED) {
		print_end(&event, options->is_json);
		*ret_is_over = true;
		return PML_CTL_REVOKED;
	}
	print_recall(&event, options->is_json);
	(void)fflush(stdout);
	if (options->ignores_recall)
		return PML_CTL_OK;
	*ret_is_over = true;
	return give_back(path, fd, lease_id, options->is_json);
}

static int hold(const char *path, int fd, const struct pml_ctl_options *options, uint64_t lease_id)
{
	uint64_t until_ms = pml_now_ms() + options->hold_ms;
	bool is_over = false;
	int status = PML_CTL_OK;
	while (status == PML_CTL_OK && !is_over) {
		uint64_t now_ms = pml_now_ms();
		if (options->has_hold && now_ms >= until_ms)
			return give_back(path, fd, lease_id, options->is_json);
		struct pollfd wait = {.fd = fd, .events = POLLPRI};
		int n = poll(&wait, 1, options->has_hold ? (int)(until_ms - now_ms) : -1);
		if (n > 0)
			status = see_event(path, fd, options, lease_id, &is_over);
	}
	return status;
}

int pml_ctl_lease(const struct pml_ctl_options *options, char **args, int nargs)
{
	(void)nargs;
	pml_auto_close int fd = open(args[0], (options->is_write ? O_RDWR : O_RDONLY) | O_CLOEXEC);
	if (fd < 0) {
		(void)complain(args[0], -errno);
		return PML_CTL_ERROR;
	}
	struct pml_ioc_lease_take lease;
	if (take(args[0], fd, options, &lease))
		return PML_CTL_ERROR;
	if (options->is_json)
		print_lease_json(&lease);
	else
		print_lease(&lease);
	(void)fflush(stdout);
	return hold(args[0], fd, options, lease.lease_id);
}
