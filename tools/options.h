/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * options.h -- what -o of mount.pmemleasefs says
 */
#ifndef PML_TOOLS_OPTIONS_H
#define PML_TOOLS_OPTIONS_H

#include <sys/types.h>

#include "pml/base.h"
#include "pml/durable.h"
#include "pml/fence.h"
#include "pml/lease.h"

#define PML_HOST_BYTES	  256u
#define PML_OPTION_BYTES  512u /* longest single option, with its terminating zero */
#define PML_ENDPOINTS_MAX 8u   /* of each fabric */

struct pml_endpoint {
	char host[PML_HOST_BYTES]; /* without the brackets of an IPv6 address */
	char port[8];		   /* decimal */
};

/* Where a fabric listens. */
struct pml_endpoints {
	unsigned int count;
	struct pml_endpoint at[PML_ENDPOINTS_MAX];
};

/* Standard mount options that the kernel, or the daemon, acts on. */
enum {
	PML_MOUNT_RO = 1 << 0,
	PML_MOUNT_NOSUID = 1 << 1,
	PML_MOUNT_NODEV = 1 << 2,
	PML_MOUNT_NOEXEC = 1 << 3,
	PML_MOUNT_SYNC = 1 << 4,
	PML_MOUNT_DIRSYNC = 1 << 5,
	PML_MOUNT_NOATIME = 1 << 6,
	PML_MOUNT_NODIRATIME = 1 << 7,
	PML_MOUNT_STRICTATIME = 1 << 8,
};

struct pml_mount_options {
	unsigned int flags; /* PML_MOUNT_ */
	bool is_remount;    /* of a mount that is there */
	bool allow_other;
	bool poison_freed;
	bool allow_unauthenticated;
	bool local_leases;
	uid_t client_uid;
	gid_t client_gid;
	struct pml_endpoints rdma;
	struct pml_endpoints soft;
	char secrets[PML_OPTION_BYTES]; /* absolute paths; "": none */
	char exports[PML_OPTION_BYTES];
	uint32_t max_connections; /* 0: the default */
	uint32_t max_host_connections;
	enum pml_fence_choice fence_method;
	enum pml_durable_choice remote_durability;
	char fence_verdicts[PML_OPTION_BYTES]; /* "": PML_VERDICTS_PATH */

	/* What was set of the lease configuration; the rest has defaults of the device. */
	struct pml_lease_config lease;
	uint32_t lease_set;	  /* bit by number in the table of options.c */
	uint32_t policy_set;	  /* bit by enum pml_layout_op: policy.OP was given */
	bool ebusy_recalls;	  /* policy ebusy asks the holder, too */
	bool is_policy_set;	  /* policy= was given, for all other operations */
	bool is_lease_policy_set; /* policy.lease= was given */
	enum pml_policy all_policy;
};

void pml_options_init(struct pml_mount_options *ret_options);

/*
 * pml_options_parse() - read one comma-separated list; later ones add to earlier ones
 * @ret_reason: PML_REASON_BYTES; on -EINVAL a line that names the option
 * On error *options is half changed.
 */
int pml_options_parse(struct pml_mount_options *options, const char *list,
		      char *ret_reason) PML_MUST_CHECK;

/*
 * pml_options_remount() - what @list makes of the options of a mount
 * @ret_reason: as above
 * Policies, clocks, limits of leases and the files of secrets and exports can be changed.  The
 * others must be as they are (-EINVAL), but
 * standard options besides ro and rw are left alone: mount(8) passes what the kernel lists.
 */
int pml_options_remount(const struct pml_mount_options *current, const char *list,
			struct pml_mount_options *ret_options, char *ret_reason) PML_MUST_CHECK;

/* Overrides the defaults in @config with what was set. */
void pml_options_apply(const struct pml_mount_options *options, struct pml_lease_config *config);

#define PML_KERNEL_OPTIONS_BYTES 256u

/* The list for pml_fuse_mount().  @is_root: device nodes and suid bits work unless refused. */
void pml_options_kernel(const struct pml_mount_options *options, bool is_root, char *ret_list);

#endif
