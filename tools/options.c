/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * options.c -- what -o of mount.pmemleasefs says
 *
 * Three tables: what mount(8) hands to every helper, flags of ours, and numbers
 * of the lease configuration.  The few others are handled one by one.
 */
#include <stdio.h>
#include <string.h>

#include "options.h"
#include "size.h"

#define HOUR_MS		(3600u * 1000u)
#define CONNECTIONS_MAX 4096u

/* ---- standard options --------------------------------------------------- */

static const struct standard_option {
	const char *name;
	unsigned int sets;
	unsigned int clears;
} standard_options[] = {
	{"ro", PML_MOUNT_RO, 0},
	{"rw", 0, PML_MOUNT_RO},
	{"nosuid", PML_MOUNT_NOSUID, 0},
	{"suid", 0, PML_MOUNT_NOSUID},
	{"nodev", PML_MOUNT_NODEV, 0},
	{"dev", 0, PML_MOUNT_NODEV},
	{"noexec", PML_MOUNT_NOEXEC, 0},
	{"exec", 0, PML_MOUNT_NOEXEC},
	{"sync", PML_MOUNT_SYNC, 0},
	{"async", 0, PML_MOUNT_SYNC},
	{"dirsync", PML_MOUNT_DIRSYNC, 0},
	{"noatime", PML_MOUNT_NOATIME, PML_MOUNT_STRICTATIME},
	{"atime", 0, PML_MOUNT_NOATIME},
	{"strictatime", PML_MOUNT_STRICTATIME, PML_MOUNT_NOATIME},
	{"nostrictatime", 0, PML_MOUNT_STRICTATIME},
	{"relatime", 0, PML_MOUNT_NOATIME | PML_MOUNT_STRICTATIME},
	{"nodiratime", PML_MOUNT_NODIRATIME, 0},
	{"diratime", 0, PML_MOUNT_NODIRATIME},
	/* About who mounts and when, or the default anyway. */
	{"defaults", 0, 0},
	{"default_permissions", 0, 0},
	{"norelatime", 0, 0},
	{"lazytime", 0, 0},
	{"nolazytime", 0, 0},
	{"iversion", 0, 0},
	{"noiversion", 0, 0},
	{"loud", 0, 0},
	{"silent", 0, 0},
	{"auto", 0, 0},
	{"noauto", 0, 0},
	{"nofail", 0, 0},
	{"user", 0, 0},
	{"nouser", 0, 0},
	{"users", 0, 0},
	{"nousers", 0, 0},
	{"owner", 0, 0},
	{"noowner", 0, 0},
	{"group", 0, 0},
	{"nogroup", 0, 0},
	{"_netdev", 0, 0},
};

static const char *const ignored_prefixes[] = {
	"x-", "X-", "user=", "comment=", "helper=", "uhelper="};

static const struct standard_option *find_standard(const char *name)
{
	for (size_t i = 0; i < PML_ARRAY_LEN(standard_options); i++)
		if (strcmp(name, standard_options[i].name) == 0)
			return &standard_options[i];
	return NULL;
}

/* The kernel's own, which mount(8) reads from its list of mounts and passes on to a remount. */
static const char *const kernel_prefixes[] = {"user_id=",  "group_id=", "rootmode=", "fd=",
					      "max_read=", "blksize=",	"fsname=",   "subtype="};

static bool has_prefix(const char *option, const char *const *prefixes, size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (strncmp(option, prefixes[i], strlen(prefixes[i])) == 0)
			return true;
	return false;
}

static bool is_ignored(const struct pml_mount_options *options, const char *option)
{
	return has_prefix(option, ignored_prefixes, PML_ARRAY_LEN(ignored_prefixes)) ||
	       (options->is_remount &&
		has_prefix(option, kernel_prefixes, PML_ARRAY_LEN(kernel_prefixes)));
}

/* Is the flag @name among the comma-separated ones? */
static bool has_flag(const char *list, const char *name)
{
	size_t bytes = strlen(name);
	for (const char *at = strstr(list, name); at; at = strstr(at + 1, name))
		if ((at == list || at[-1] == ',') && (at[bytes] == ',' || at[bytes] == '\0'))
			return true;
	return false;
}

/* ---- numbers of the lease configuration --------------------------------- */

enum number_kind {
	NUMBER_TIME,  /* uint32_t, in ms */
	NUMBER_COUNT, /* uint32_t */
	NUMBER_SIZE,  /* uint64_t, in bytes */
};

#define AT(field) offsetof(struct pml_lease_config, field)

static const struct lease_number {
	const char *name;
	enum number_kind kind;
	size_t offset; /* in struct pml_lease_config */
	uint64_t min;
	uint64_t max;
} lease_numbers[] = {
	{"ack", NUMBER_TIME, AT(ack_ms), 1, HOUR_MS},
	{"drain", NUMBER_TIME, AT(drain_ms), 1, HOUR_MS},
	{"block_deadline", NUMBER_TIME, AT(block_deadline_ms), 0, 24 * HOUR_MS},
	{"term", NUMBER_TIME, AT(term_ms), 100, HOUR_MS},
	{"fence", NUMBER_TIME, AT(fence_ms), 10, HOUR_MS},
	{"orphan_grace", NUMBER_TIME, AT(orphan_grace_ms), 0, 24 * HOUR_MS},
	{"max_sessions", NUMBER_COUNT, AT(max_sessions), 1, 1u << 16},
	{"max_client_sessions", NUMBER_COUNT, AT(max_client_sessions), 0, 1u << 16},
	{"max_user_sessions", NUMBER_COUNT, AT(max_user_sessions), 0, 1u << 16},
	{"max_leases", NUMBER_COUNT, AT(max_leases), 1, 1u << 24},
	{"max_session_leases", NUMBER_COUNT, AT(max_session_leases), 1, 1u << 24},
	{"max_user_leases", NUMBER_COUNT, AT(max_user_leases), 0, 1u << 24},
	{"max_segments", NUMBER_COUNT, AT(max_segments), 1, UINT32_MAX},
	{"max_session_segments", NUMBER_COUNT, AT(max_session_segments), 1, UINT32_MAX},
	{"max_user_segments", NUMBER_COUNT, AT(max_user_segments), 0, UINT32_MAX},
	{"max_waiters", NUMBER_COUNT, AT(max_waiters), 1, 1u << 20},
	{"max_user_waiters", NUMBER_COUNT, AT(max_user_waiters), 0, 1u << 20},
	{"max_pinned", NUMBER_SIZE, AT(max_pinned_bytes), PML_BLOCK_BYTES, UINT64_MAX},
	{"max_session_pinned", NUMBER_SIZE, AT(max_session_pinned_bytes), PML_BLOCK_BYTES,
	 UINT64_MAX},
	{"max_user_pinned", NUMBER_SIZE, AT(max_user_pinned_bytes), 0, UINT64_MAX},
	{"max_unbreakable", NUMBER_SIZE, AT(max_unbreakable_bytes), 0, UINT64_MAX},
};

static size_t number_bytes(const struct lease_number *number)
{
	return number->kind == NUMBER_SIZE ? sizeof(uint64_t) : sizeof(uint32_t);
}

static int parse_number(const struct lease_number *number, const char *text, uint64_t *ret_value)
{
	if (number->kind == NUMBER_SIZE)
		return pml_size_parse(text, ret_value);
	if (number->kind == NUMBER_COUNT)
		return pml_count_parse(text, UINT32_MAX, ret_value);
	uint32_t ms = 0;
	int err = pml_time_parse(text, &ms);
	if (!err)
		*ret_value = ms;
	return err;
}

static int set_lease_number(struct pml_mount_options *options, size_t index, const char *value,
			    char *ret_reason)
{
	static const char *const forms[] = {
		[NUMBER_TIME] = "a time like 1500ms or 10s",
		[NUMBER_COUNT] = "a number",
		[NUMBER_SIZE] = "a size like 64M or 1G",
	};
	const struct lease_number *number = &lease_numbers[index];
	uint64_t parsed = 0;
	int err = parse_number(number, value, &parsed);
	if (err == -EINVAL) {
		(void)snprintf(ret_reason, PML_REASON_BYTES,
			       "option \"%s\" wants %s, not \"%.80s\"", number->name,
			       forms[number->kind], value);
		return -EINVAL;
	}
	if (err || parsed < number->min || parsed > number->max) {
		(void)snprintf(ret_reason, PML_REASON_BYTES,
			       "option \"%s\": %.80s is out of range (%llu to %llu%s)",
			       number->name, value, (unsigned long long)number->min,
			       (unsigned long long)number->max,
			       number->kind == NUMBER_TIME ? " ms" : "");
		return -EINVAL;
	}
	uint32_t parsed32 = (uint32_t)parsed;
	memcpy((char *)&options->lease + number->offset,
	       number->kind == NUMBER_SIZE ? (const void *)&parsed : (const void *)&parsed32,
	       number_bytes(number));
	options->lease_set |= 1u << index;
	return 0;
}

/* ---- policies, addresses, files, ids ------------------------------------------- */

/* @what: behind "policy.", or NULL for all layout operations and lease requests. */
static int set_policy(struct pml_mount_options *options, const char *what, const char *value,
		      char *ret_reason)
{
	enum pml_layout_op op = PML_OP_COUNT;
	bool is_lease = what && strcmp(what, "lease") == 0;
	if (what && !is_lease && (pml_layout_op_from_name(what, &op) != 0 || op >= PML_OP_COUNT)) {
		(void)snprintf(ret_reason, PML_REASON_BYTES,
			       "unknown option \"policy.%.80s\": no such operation", what);
		return -EINVAL;
	}
	enum pml_policy policy = PML_POLICY_REVOKE;
	if (pml_policy_from_name(value, &policy) != 0) {
		(void)snprintf(ret_reason, PML_REASON_BYTES,
			       "option \"policy%s%s\" wants revoke, ebusy, block or, for "
			       "relocate and dedupe, skip, not \"%.80s\"",
			       what ? "." : "", what ? what : "", value);
		return -EINVAL;
	}
	if (policy == PML_POLICY_SKIP && (!what || is_lease || !pml_policy_may_skip(op))) {
		(void)snprintf(ret_reason, PML_REASON_BYTES,
			       "policy \"skip\" is for relocate and dedupe, not for \"policy%s%s\"",
			       what ? "." : "", what ? what : "");
		return -EINVAL;
	}
	if (is_lease) {
		options->lease.lease_policy = policy;
		options->is_lease_policy_set = true;
	} else if (what) {
		options->lease.policy[op] = policy;
		options->policy_set |= 1u << op;
	} else {
		options->all_policy = policy;
		options->is_policy_set = true;
	}
	return 0;
}

/* "ADDR:PORT" or "[ADDR]:PORT". */
static int split_endpoint(const char *value, struct pml_endpoint *ret_endpoint)
{
	const char *colon = strrchr(value, ':');
	if (!colon)
		return -EINVAL;
	const char *host = value;
	size_t host_bytes = (size_t)(colon - value);
	if (host_bytes >= 2 && host[0] == '[' && host[host_bytes - 1] == ']') {
		host++;
		host_bytes -= 2;
	} else if (memchr(host, ':', host_bytes)) {
		return -EINVAL;
	}
	uint64_t port = 0;
	if (host_bytes == 0 || host_bytes >= PML_HOST_BYTES ||
	    pml_count_parse(colon + 1, UINT16_MAX, &port) != 0)
		return -EINVAL;
	memcpy(ret_endpoint->host, host, host_bytes);
	ret_endpoint->host[host_bytes] = '\0';
	(void)snprintf(ret_endpoint->port, sizeof(ret_endpoint->port), "%u", (unsigned int)port);
	return 0;
}

static int add_endpoint(struct pml_endpoints *endpoints, const char *name, const char *value,
			char *ret_reason)
{
	struct pml_endpoint endpoint = {.host = ""};
	if (split_endpoint(value, &endpoint) != 0) {
		(void)snprintf(ret_reason, PML_REASON_BYTES,
			       "option \"%s\" wants ADDR:PORT (an IPv6 address in []), not "
			       "\"%.80s\"",
			       name, value);
		return -EINVAL;
	}
	if (endpoints->count == PML_ENDPOINTS_MAX) {
		(void)snprintf(ret_reason, PML_REASON_BYTES,
			       "option \"%s\": more than %u addresses", name, PML_ENDPOINTS_MAX);
		return -EINVAL;
	}
	endpoints->at[endpoints->count++] = endpoint;
	return 0;
}

/* The process that serves is in another directory, and it is the one that reads it. */
static int set_file(char *path, const char *name, const char *value, char *ret_reason)
{
	if (value[0] != '/') {
		(void)snprintf(ret_reason, PML_REASON_BYTES,
			       "option \"%s\" wants the absolute path of a file, not \"%.80s\"",
			       name, value);
		return -EINVAL;
	}
	(void)snprintf(path, PML_OPTION_BYTES, "%s", value);
	return 0;
}

static int set_connections(uint32_t *number, uint64_t min, const char *name, const char *value,
			   char *ret_reason)
{
	uint64_t parsed = 0;
	if (pml_count_parse(value, CONNECTIONS_MAX, &parsed) != 0 || parsed < min) {
		(void)snprintf(ret_reason, PML_REASON_BYTES,
			       "option \"%s\" wants a number from %u to %u, not \"%.80s\"", name,
			       (unsigned int)min, CONNECTIONS_MAX, value);
		return -EINVAL;
	}
	*number = (uint32_t)parsed;
	return 0;
}

static int set_id(uint32_t *id, const char *name, const char *value, char *ret_reason)
{
	uint64_t number = 0;
	/* The greatest number stands for "none" in the kernel. */
	if (pml_count_parse(value, UINT32_MAX - 1, &number) != 0) {
		(void)snprintf(ret_reason, PML_REASON_BYTES,
			       "option \"%s\" wants a numeric id, not \"%.80s\"", name, value);
		return -EINVAL;
	}
	*id = (uint32_t)number;
	return 0;
}

static int set_fence_method(enum pml_fence_choice *choice, const char *value, char *ret_reason)
{
	int err = pml_fence_choice_parse(value, choice);
	if (err)
		(void)snprintf(ret_reason, PML_REASON_BYTES,
			       "fence_method is auto, window, region or connection, not \"%.80s\"",
			       value);
	return err;
}

static int set_remote_durability(enum pml_durable_choice *choice, const char *value,
				 char *ret_reason)
{
	int err = pml_durable_choice_parse(value, choice);
	if (err)
		(void)snprintf(ret_reason, PML_REASON_BYTES,
			       "remote_durability is auto, commit, read or flush, not \"%.80s\"",
			       value);
	return err;
}

/* ---- one option --------------------------------------------------------- */

static int set_flag(struct pml_mount_options *options, const char *name)
{
	const struct standard_option *standard = find_standard(name);
	if (standard) {
		options->flags = (options->flags & ~standard->clears) | standard->sets;
	} else if (strcmp(name, "allow_other") == 0) {
		options->allow_other = true;
	} else if (strcmp(name, "poison") == 0) {
		options->poison_freed = true;
	} else if (strcmp(name, "ebusy_recall") == 0) {
		options->ebusy_recalls = true;
	} else if (strcmp(name, "noebusy_recall") == 0) {
		options->ebusy_recalls = false;
	} else if (strcmp(name, "allow_unauthenticated") == 0) {
		options->allow_unauthenticated = true;
	} else if (strcmp(name, "local_leases") == 0) {
		options->local_leases = true;
	} else if (strcmp(name, "remount") == 0) {
		options->is_remount = true;
	} else {
		return -ENOENT;
	}
	return 0;
}

static int set_value(struct pml_mount_options *options, const char *name, const char *value,
		     char *ret_reason)
{
	for (size_t i = 0; i < PML_ARRAY_LEN(lease_numbers); i++)
		if (strcmp(name, lease_numbers[i].name) == 0)
			return set_lease_number(options, i, value, ret_reason);
	if (strcmp(name, "policy") == 0)
		return set_policy(options, NULL, value, ret_reason);
	if (strncmp(name, "policy.", 7) == 0)
		return set_policy(options, name + 7, value, ret_reason);
	if (strcmp(name, "rdma") == 0)
		return add_endpoint(&options->rdma, name, value, ret_reason);
	if (strcmp(name, "soft") == 0)
		return add_endpoint(&options->soft, name, value, ret_reason);
	if (strcmp(name, "secrets") == 0)
		return set_file(options->secrets, name, value, ret_reason);
	if (strcmp(name, "exports") == 0)
		return set_file(options->exports, name, value, ret_reason);
	if (strcmp(name, "fence_method") == 0)
		return set_fence_method(&options->fence_method, value, ret_reason);
	if (strcmp(name, "fence_verdicts") == 0)
		return set_file(options->fence_verdicts, name, value, ret_reason);
	if (strcmp(name, "remote_durability") == 0)
		return set_remote_durability(&options->remote_durability, value, ret_reason);
	if (strcmp(name, "max_connections") == 0)
		return set_connections(&options->max_connections, 1, name, value, ret_reason);
	if (strcmp(name, "max_host_connections") == 0)
		return set_connections(&options->max_host_connections, 0, name, value, ret_reason);
	if (strcmp(name, "client_uid") == 0)
		return set_id(&options->client_uid, name, value, ret_reason);
	if (strcmp(name, "client_gid") == 0)
		return set_id(&options->client_gid, name, value, ret_reason);
	return -ENOENT;
}

/* An option that is known, but not in this form; or not known at all. */
static int refuse(const char *name, bool has_value, char *ret_reason)
{
	struct pml_mount_options scratch;
	pml_options_init(&scratch);
	char ignored[PML_REASON_BYTES];
	const char *fault = NULL;
	if (has_value && set_flag(&scratch, name) != -ENOENT)
		fault = "takes no value";
	else if (!has_value && set_value(&scratch, name, "", ignored) != -ENOENT)
		fault = "needs a value";

	if (fault)
		(void)snprintf(ret_reason, PML_REASON_BYTES, "option \"%.80s\" %s", name, fault);
	else
		(void)snprintf(ret_reason, PML_REASON_BYTES, "unknown option \"%.80s\"", name);
	return -EINVAL;
}

static int parse_one(struct pml_mount_options *options, char *option, char *ret_reason)
{
	if (is_ignored(options, option))
		return 0;
	char *value = strchr(option, '=');
	if (value)
		*value++ = '\0';
	int err = value ? set_value(options, option, value, ret_reason) : set_flag(options, option);
	return err == -ENOENT ? refuse(option, value, ret_reason) : err;
}

/* ---- interface ---------------------------------------------------------- */

void pml_options_init(struct pml_mount_options *ret_options)
{
	*ret_options = (struct pml_mount_options){
		.client_uid = 65534,
		.client_gid = 65534,
	};
}

int pml_options_parse(struct pml_mount_options *options, const char *list, char *ret_reason)
{
	options->is_remount |= has_flag(list, "remount");
	while (*list) {
		size_t bytes = strcspn(list, ",");
		char option[PML_OPTION_BYTES];
		if (bytes >= sizeof(option)) {
			(void)snprintf(ret_reason, PML_REASON_BYTES,
				       "option \"%.40s...\" is too long", list);
			return -EINVAL;
		}
		memcpy(option, list, bytes);
		option[bytes] = '\0';
		list += bytes;
		list += *list == ',';
		if (bytes == 0) /* as in "ro,,noatime" */
			continue;
		int err = parse_one(options, option, ret_reason);
		if (err)
			return err;
	}
	return 0;
}

static bool are_same_endpoints(const struct pml_endpoints *a, const struct pml_endpoints *b)
{
	for (unsigned int i = 0; i < a->count && i < b->count; i++)
		if (strcmp(a->at[i].host, b->at[i].host) != 0 ||
		    strcmp(a->at[i].port, b->at[i].port) != 0)
			return false;
	return a->count == b->count;
}

/* The name of something that is not the same and cannot be changed, or NULL. */
static const char *fixed_difference(const struct pml_mount_options *a,
				    const struct pml_mount_options *b)
{
	if ((a->flags ^ b->flags) & PML_MOUNT_RO)
		return "ro or rw";
	if (!are_same_endpoints(&a->rdma, &b->rdma))
		return "rdma";
	if (!are_same_endpoints(&a->soft, &b->soft))
		return "soft";
	if (a->client_uid != b->client_uid || a->client_gid != b->client_gid)
		return "client_uid or client_gid";
	if (a->allow_unauthenticated != b->allow_unauthenticated)
		return "allow_unauthenticated";
	if (a->max_connections != b->max_connections ||
	    a->max_host_connections != b->max_host_connections)
		return "max_connections or max_host_connections";
	if (a->fence_method != b->fence_method || strcmp(a->fence_verdicts, b->fence_verdicts) != 0)
		return "fence_method or fence_verdicts";
	if (a->remote_durability != b->remote_durability)
		return "remote_durability";
	if (a->local_leases != b->local_leases)
		return "local_leases";
	return a->poison_freed != b->poison_freed ? "poison" : NULL;
}

int pml_options_remount(const struct pml_mount_options *current, const char *list,
			struct pml_mount_options *ret_options, char *ret_reason)
{
	struct pml_mount_options changed = *current;
	/* The list names all addresses or none. */
	changed.rdma.count = changed.soft.count = 0;
	int err = pml_options_parse(&changed, list, ret_reason);
	if (err)
		return err;
	if (changed.rdma.count == 0)
		changed.rdma = current->rdma;
	if (changed.soft.count == 0)
		changed.soft = current->soft;
	const char *name = fixed_difference(current, &changed);
	if (name) {
		(void)snprintf(ret_reason, PML_REASON_BYTES,
			       "%s cannot be changed by remount: unmount, then mount anew", name);
		return -EINVAL;
	}
	changed.flags = current->flags;
	*ret_options = changed;
	return 0;
}

void pml_options_apply(const struct pml_mount_options *options, struct pml_lease_config *config)
{
	static_assert(PML_ARRAY_LEN(lease_numbers) <= 32, "bits of lease_set");
	for (size_t i = 0; i < PML_ARRAY_LEN(lease_numbers); i++) {
		const struct lease_number *number = &lease_numbers[i];
		if (options->lease_set & (1u << i))
			memcpy((char *)config + number->offset,
			       (const char *)&options->lease + number->offset,
			       number_bytes(number));
	}
	config->ebusy_recalls = options->ebusy_recalls;
	for (unsigned int op = 0; op < PML_OP_COUNT; op++) {
		if (options->policy_set & (1u << op))
			config->policy[op] = options->lease.policy[op];
		else if (options->is_policy_set)
			config->policy[op] = options->all_policy;
	}
	if (options->is_lease_policy_set)
		config->lease_policy = options->lease.lease_policy;
	else if (options->is_policy_set)
		config->lease_policy = options->all_policy;
}

void pml_options_kernel(const struct pml_mount_options *options, bool is_root, char *ret_list)
{
	unsigned int flags = options->flags;
	/* libfuse and fusermount start from nosuid,nodev; only root may ask for more. */
	(void)snprintf(ret_list, PML_KERNEL_OPTIONS_BYTES, "default_permissions%s%s%s%s%s%s%s%s",
		       options->allow_other || is_root ? ",allow_other" : "",
		       flags & PML_MOUNT_RO ? ",ro" : "",
		       is_root && !(flags & PML_MOUNT_NOSUID) ? ",suid" : "",
		       is_root && !(flags & PML_MOUNT_NODEV) ? ",dev" : "",
		       flags & PML_MOUNT_NOEXEC ? ",noexec" : "",
		       flags & PML_MOUNT_SYNC ? ",sync" : "",
		       flags & PML_MOUNT_DIRSYNC ? ",dirsync" : "",
		       flags & PML_MOUNT_NOATIME ? ",noatime" : "");
}
