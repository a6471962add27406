/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * service.c -- a mounted filesystem with its leases and its remote service
 *
 * Started inside out, so that what fails fails before there is a mount; stopped
 * in an order that lets every waiting operation be answered:
 *
 *   the kernel's requests end -> remote sessions end -> all fences are confirmed and
 *   parked operations let go -> unmounted -> closed
 */
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "busy.h"
#include "control.h"
#include "local.h"
#include "pml/fuse.h"
#include "pml/log.h"
#include "pml/rdma.h"
#include "service.h"

/* A daemon that has just been unmounted may still be fencing: 3 * fence_ms by default. */
#define DEVICE_WAIT_S 20u

#define SERVERS_MAX (2 * PML_ENDPOINTS_MAX)

struct pml_service {
	struct pml_fs *fs;
	struct pml_lease_manager *leases;
	struct pml_access *access; /* NULL: nothing is offered */
	struct pml_server *servers[SERVERS_MAX];
	unsigned int nservers;
	/* Set once there is a mount: remote writers may come before. */
	struct pml_fuse *_Atomic fuse;
	struct pml_control control;
	struct pml_remount remount;
	struct pml_local *local; /* NULL: no leases for local programs */
};

/* ---- the device --------------------------------------------------------- */

static int open_device(const struct pml_service_args *args, struct pml_fs **ret_fs,
		       char *ret_reason)
{
	const struct pml_open_args open_args = {
		.path = args->device,
		.is_read_only = args->options->flags & PML_MOUNT_RO,
		.poison_freed = args->options->poison_freed,
	};
	unsigned int waited_ms = 0;
	int err;
	do
		err = pml_fs_open(&open_args, ret_fs, ret_reason);
	while (err == -EBUSY && pml_busy_wait(args->device, DEVICE_WAIT_S, &waited_ms));
	if (err == -EBUSY && pml_busy_is_mounted(args->device))
		(void)snprintf(ret_reason, PML_REASON_BYTES, "%.200s is already mounted",
			       args->device);
	return err;
}

/* ---- leases and servers ------------------------------------------------- */

static void on_contents_changed(void *arg, uint64_t ino, uint64_t first_byte, uint64_t len_bytes,
				bool may_wait)
{
	struct pml_service *service = arg;
	struct pml_fuse *fuse = atomic_load(&service->fuse);
	if (fuse && may_wait)
		pml_fuse_tell(fuse, ino, first_byte, len_bytes);
	else if (fuse)
		pml_fuse_invalidate(fuse, ino, first_byte, len_bytes);
}

static void on_file_changed(void *arg, uint64_t ino, uint64_t first_byte, uint64_t len_bytes)
{
	on_contents_changed(arg, ino, first_byte, len_bytes, true);
}

static void on_name_changed(void *arg, uint64_t dir_ino, const char *name)
{
	struct pml_service *service = arg;
	struct pml_fuse *fuse = atomic_load(&service->fuse);
	if (fuse)
		pml_fuse_tell_name(fuse, dir_ino, name);
}

static void on_wake(void *arg, uint64_t open_id)
{
	struct pml_service *service = arg;
	struct pml_fuse *fuse = atomic_load(&service->fuse);
	if (fuse)
		pml_fuse_wake(fuse, open_id);
}

/* The endpoint number @which, first those of verbs; NULL behind the last one. */
static const struct pml_endpoint *endpoint_of(const struct pml_mount_options *options,
					      unsigned int which, bool *ret_is_soft)
{
	*ret_is_soft = which >= options->rdma.count;
	if (!*ret_is_soft)
		return &options->rdma.at[which];
	which -= options->rdma.count;
	return which < options->soft.count ? &options->soft.at[which] : NULL;
}

/* What the options say of a server, the rest is still to be filled in.  False: no such one. */
static bool server_args(const struct pml_service *service, const struct pml_mount_options *options,
			unsigned int which, struct pml_server_args *ret_args)
{
	bool is_soft;
	const struct pml_endpoint *at = endpoint_of(options, which, &is_soft);
	if (!at)
		return false;
	*ret_args = (struct pml_server_args){
		.is_soft = is_soft,
		.host = at->host,
		.port = at->port,
		.access = service->access,
		.fence = options->fence_method,
		.verdicts = options->fence_verdicts[0] ? options->fence_verdicts : NULL,
		.durable = options->remote_durability,
	};
	return true;
}

static int read_rules(struct pml_service *service, const struct pml_mount_options *options,
		      char *ret_reason)
{
	if (options->rdma.count + options->soft.count == 0)
		return 0;
	const struct pml_access_args args = {
		.secrets = options->secrets[0] ? options->secrets : NULL,
		.exports = options->exports[0] ? options->exports : NULL,
		.allow_unauthenticated = options->allow_unauthenticated,
		.client_cred = {.uid = options->client_uid, .gid = options->client_gid},
		.is_read_only = options->flags & PML_MOUNT_RO,
		.max_connections = options->max_connections,
		.max_host_connections = options->max_host_connections,
	};
	return pml_access_new(&args, &service->access, ret_reason);
}

/* Refuses wrong rules and addresses while the device is still untouched. */
static int check_servers(struct pml_service *service, const struct pml_mount_options *options,
			 char *ret_reason)
{
	struct pml_server_args args;
	int err = read_rules(service, options, ret_reason);
	for (unsigned int which = 0; !err && server_args(service, options, which, &args); which++)
		err = pml_server_check(&args, ret_reason);
	return err;
}

static int start_servers(struct pml_service *service, const struct pml_mount_options *options,
			 char *ret_reason)
{
	struct pml_server_args args;
	int err = 0;
	while (!err && server_args(service, options, service->nservers, &args)) {
		args.fs = service->fs;
		args.leases = service->leases;
		args.hooks = (struct pml_server_hooks){.name_changed = on_name_changed,
						       .file_changed = on_file_changed,
						       .arg = service};
		err = pml_server_start(&args, &service->servers[service->nservers], ret_reason);
		if (!err)
			service->nservers++;
	}
	return err;
}

static void announce(const struct pml_service *service, const struct pml_mount_options *options)
{
	struct pml_device_info info;
	pml_fs_info(service->fs, &info);
	pml_log_info("%s of %llu bytes; %s", info.kind, (unsigned long long)info.size_bytes,
		     info.durability);
	for (unsigned int which = 0; which < service->nservers; which++) {
		bool is_soft;
		const struct pml_endpoint *at = endpoint_of(options, which, &is_soft);
		bool is_ipv6 = strchr(at->host, ':');
		printf("%s: listening on %s%s%s:%u\n", is_soft ? "soft" : "rdma",
		       is_ipv6 ? "[" : "", at->host, is_ipv6 ? "]" : "",
		       (unsigned int)pml_server_port(service->servers[which]));
	}
	(void)fflush(stdout);
}

static void stop_servers(struct pml_service *service)
{
	for (unsigned int which = 0; which < service->nservers; which++)
		pml_server_stop(service->servers[which]);
}

/* ---- start -------------------------------------------------------------- */

static enum pml_atime atime_of(unsigned int flags)
{
	if (flags & PML_MOUNT_NOATIME)
		return PML_ATIME_NEVER;
	return flags & PML_MOUNT_STRICTATIME ? PML_ATIME_STRICT : PML_ATIME_RELATIVE;
}

static int mount_fs(struct pml_service *service, const struct pml_service_args *args,
		    char *ret_reason)
{
	char kernel_options[PML_KERNEL_OPTIONS_BYTES];
	unsigned int flags = args->options->flags;
	pml_options_kernel(args->options, geteuid() == 0, kernel_options);
	service->control = (struct pml_control){
		.fs = service->fs, .leases = service->leases, .remount = &service->remount};
	service->remount.fs = service->fs;
	service->remount.leases = service->leases;
	service->remount.access = service->access;
	service->remount.options = *args->options;
	const struct pml_fuse_args fuse_args = {
		.fs = service->fs,
		.source = args->device,
		.mountpoint = args->mountpoint,
		.kernel_options = kernel_options,
		.atime = atime_of(flags),
		.dir_atime = flags & PML_MOUNT_NODIRATIME ? PML_ATIME_NEVER : atime_of(flags),
		.ioctl = {.ioctl = pml_control_ioctl, .arg = &service->control},
		.open = pml_local_open_ops(service->local),
	};
	struct pml_fuse *fuse = NULL;
	int err = pml_fuse_mount(&fuse_args, &fuse, ret_reason);
	if (!err)
		atomic_store(&service->fuse, fuse);
	return err;
}

static int start_leases(struct pml_service *service, const struct pml_mount_options *options)
{
	struct pml_lease_config config;
	pml_remount_config(service->fs, options, &config);
	const struct pml_lease_hooks hooks = {.contents_changed = on_contents_changed,
					      .arg = service};
	int err = pml_lease_manager_new(service->fs, &config, &hooks, &service->leases);
	if (!err && options->local_leases)
		err = pml_local_new(service->leases, on_wake, service, &service->local);
	return err;
}

static int start_all(struct pml_service *service, const struct pml_service_args *args,
		     char *ret_reason)
{
	int err = check_servers(service, args->options, ret_reason);
	if (!err)
		err = open_device(args, &service->fs, ret_reason);
	if (err)
		return err;
	err = start_leases(service, args->options);
	if (!err)
		err = start_servers(service, args->options, ret_reason);
	if (!err)
		err = mount_fs(service, args, ret_reason);
	return err;
}

int pml_service_start(const struct pml_service_args *args, struct pml_service **ret_service,
		      char *ret_reason)
{
	struct pml_service *service = calloc(1, sizeof(*service));
	if (!service)
		return -ENOMEM;
	pthread_mutex_init(&service->remount.lock, NULL);
	ret_reason[0] = '\0';
	int err = start_all(service, args, ret_reason);
	if (err) {
		if (!ret_reason[0])
			(void)snprintf(ret_reason, PML_REASON_BYTES, "%.150s: %.100s", args->device,
				       strerror(-err));
		/* Stuck leases of a client that was fast: the process ends anyway. */
		if (pml_service_stop(service) != 0)
			pml_log_error("a lease could not be fenced");
		return err;
	}
	announce(service, args->options);
	*ret_service = service;
	return 0;
}

/* ---- run and stop ------------------------------------------------------- */

int pml_service_run(struct pml_service *service)
{
	return pml_fuse_loop(service->fuse);
}

int pml_service_stop(struct pml_service *service)
{
	int err = 0;
	stop_servers(service);
	if (service->leases)
		err = pml_lease_manager_free(service->leases);
	struct pml_fuse *fuse = atomic_exchange(&service->fuse, NULL);
	if (fuse)
		pml_fuse_unmount(fuse);
	if (err)
		return err;
	pml_access_free(service->access);
	pml_local_free(service->local);
	if (service->fs)
		pml_fs_close(service->fs);
	pthread_mutex_destroy(&service->remount.lock);
	free(service);
	return 0;
}
