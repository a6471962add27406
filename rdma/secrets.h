/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * secrets.h -- the file of identities and their secrets
 *
 *	# identity  secret (64 hexadecimal digits)  user   groups           rights
 *	alice       0123...                         uid=7  gid=100,1000     ro
 *
 * Secrets lie in memory that is locked as far as allowed, left out of core dumps, and wiped.
 *
 * Threads: constant once it is loaded.
 */
#ifndef PML_RDMA_SECRETS_H
#define PML_RDMA_SECRETS_H

#include <sys/types.h>

#include "pml/base.h"
#include "wire.h"

#define PML_SECRET_BYTES   32u
#define PML_IDENTITIES_MAX 4096u
#define PML_GROUPS_MAX	   64u /* further ones, besides the first */

struct pml_secrets;

struct pml_identity {
	char name[PML_WIRE_IDENTITY_MAX + 1]; /* padded with zeros */
	uid_t uid;
	gid_t gid;
	gid_t groups[PML_GROUPS_MAX];
	size_t ngroups;
	bool is_read_only;
};

/*
 * pml_secrets_load() - read a file of secrets
 * @is_client: that of a client: uid= and gid= may be left out
 * @ret_reason: PML_REASON_BYTES; a line that names file, line and remedy, never a secret
 *
 *   -EPERM  group or others may read the file, or it is another user's
 *   -EINVAL a line is wrong
 *   -EFBIG  longer than 1 MiB; -ENOMEM; -errno of open(2), read(2)
 */
int pml_secrets_load(const char *path, bool is_client, struct pml_secrets **ret_secrets,
		     char *ret_reason) PML_MUST_CHECK;
/* NULL is allowed. */
void pml_secrets_free(struct pml_secrets *secrets);

/*
 * Who is called @name, and the secret.  NULL: nobody; *ret_secret is then one that nobody
 * knows, so that what follows takes the same way.  How long it takes does not depend on @name.
 */
const struct pml_identity *pml_secrets_find(const struct pml_secrets *secrets, const char *name,
					    const uint8_t **ret_secret);

/* Letters, digits and -_.@, 1 to 63 of them. */
bool pml_identity_is_valid(const char *name);

#endif
