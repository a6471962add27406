/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * exports.h -- which trees are offered to whom: a file in the spirit of exports(5)
 *
 *	/data     10.0.0.0/8(rw)  *(ro,all_squash)
 *	/scratch  10.0.0.7(rw,no_root_squash,id=alice:bob)
 *	/pub      127.0.0.1(auth=none)
 *
 * The longest export that the asked path lies in counts, and of its rules the first one that
 * fits the client.
 *
 * Threads: constant once it is made.
 */
#ifndef PML_RDMA_EXPORTS_H
#define PML_RDMA_EXPORTS_H

#include <sys/types.h>

#include "address.h"

#define PML_EXPORTS_MAX	     1024u
#define PML_EXPORT_RULES_MAX 4096u
#define PML_EXPORT_IDS_MAX   64u

enum pml_squash { PML_SQUASH_ROOT, PML_SQUASH_NONE, PML_SQUASH_ALL };

struct pml_export_rule {
	struct pml_network clients;
	bool is_anonymous; /* auth=none: for clients that prove nothing, who act as anon_ */
	bool is_read_only;
	enum pml_squash squash;
	uid_t anon_uid;
	gid_t anon_gid;
	char *identities; /* "alice:bob"; NULL: all */
};

struct pml_exports;

/* What holds where a rule does not say. */
struct pml_exports_defaults {
	uid_t anon_uid;
	gid_t anon_gid;
	bool has_secrets; /* else a rule with auth=secret lets nobody in: refused */
};

/*
 * pml_exports_load() - read a file of exports
 * @ret_reason: PML_REASON_BYTES; a line that names file, line and remedy
 *
 *   -EPERM  group or others may write the file, or it is another user's
 *   -EINVAL a line is wrong
 *   -EFBIG  longer than 1 MiB; -ENOMEM; -errno of open(2), read(2)
 */
int pml_exports_load(const char *path, const struct pml_exports_defaults *defaults,
		     struct pml_exports **ret_exports, char *ret_reason) PML_MUST_CHECK;
/* One export, "/", with one rule for all addresses.  NULL: out of memory. */
struct pml_exports *pml_exports_of_root(const struct pml_export_rule *rule);
/* NULL is allowed. */
void pml_exports_free(struct pml_exports *exports);

/*
 * pml_exports_find() - the rule for a client
 * @path:         absolute, or "" for "/"; "." and repeated slashes in it mean nothing
 * @address:      where the client comes from
 * @identity:     who it is, or NULL: it proves nothing
 * @ret_root:     path of the export; valid as long as @exports
 * @ret_bytes:    so many of @path lead there
 *
 * NULL: none; *ret_why says why not, constant text for the log.
 */
const struct pml_export_rule *pml_exports_find(const struct pml_exports *exports, const char *path,
					       const struct pml_address *address,
					       const char *identity, const char **ret_root,
					       size_t *ret_bytes, const char **ret_why);

/*
 * Does @path lie at or below @root?  Compares name by name.  Returns true and how many bytes
 * of @path lead to @root.  "..": false.
 */
bool pml_path_is_below(const char *root, const char *path, size_t *ret_bytes);

#endif
