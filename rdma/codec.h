/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * codec.h -- every control message passes here before anybody believes it
 *
 * The checks are complete: after one of them said 0, each field is in the range
 * that wire.h names and each tail lies wholly inside the message, so the code
 * behind it indexes without checking again.
 *
 * Threads: pure functions, safe anywhere.
 */
#ifndef PML_RDMA_CODEC_H
#define PML_RDMA_CODEC_H

#include "transport.h"
#include "wire.h"

/* A buffer for any message, aligned as the structures need it. */
union pml_message {
	struct pml_wire_header h;
	struct pml_wire_hello hello;
	struct pml_wire_hello_reply hello_reply;
	struct pml_wire_auth auth;
	struct pml_wire_auth_reply auth_reply;
	struct pml_wire_name name;
	struct pml_wire_create create;
	struct pml_wire_symlink symlink;
	struct pml_wire_link link;
	struct pml_wire_rename rename;
	struct pml_wire_inode inode;
	struct pml_wire_attr_reply attr_reply;
	struct pml_wire_setattr setattr;
	struct pml_wire_readdir readdir;
	struct pml_wire_readdir_reply readdir_reply;
	struct pml_wire_xattr xattr;
	struct pml_wire_data_reply data_reply;
	struct pml_wire_statfs_reply statfs_reply;
	struct pml_wire_clone clone;
	struct pml_wire_clone_reply clone_reply;
	struct pml_wire_lease lease;
	struct pml_wire_lease_reply lease_reply;
	struct pml_wire_return ret;
	struct pml_wire_commit commit;
	struct pml_wire_recall recall;
	struct pml_wire_revoked revoked;
	uint8_t bytes[PML_MSG_BYTES_MAX];
};
static_assert(sizeof(union pml_message) == PML_MSG_BYTES_MAX, "largest message");

/* Longest name in a message, without a terminating zero. */
#define PML_WIRE_NAME_MAX 255u

/*
 * pml_codec_check_request() - is this a message that a client may send?
 * @msg:        @bytes of it were received and are readable
 * @ret_reason: on error, constant text that says what is wrong
 *
 * Returns 0, or
 *   -EPROTONOSUPPORT  another protocol version; type and request_id may be echoed
 *   -EPROTO           anything else
 */
int pml_codec_check_request(const union pml_message *msg, size_t bytes,
			    const char **ret_reason) PML_MUST_CHECK;

/* As above for what a server may send: a reply, a recall or a notice of revocation. */
int pml_codec_check_from_server(const union pml_message *msg, size_t bytes,
				const char **ret_reason) PML_MUST_CHECK;

/* Fills in a header; all other fields of it become zero. */
void pml_codec_header(struct pml_wire_header *ret_header, enum pml_wire_type type, size_t bytes,
		      uint32_t request_id);

/* Does a request of this type change the filesystem, so that a retry must not do it twice? */
bool pml_codec_is_change(uint16_t type);

/* May a request of this type have to wait for leases, for longer than any timeout? */
bool pml_codec_may_wait(uint16_t type);

/* "lookup"; "unknown" for what is no request. */
const char *pml_codec_request_name(uint16_t type);

/* Room that a directory entry with a name of that length takes. */
static inline size_t pml_codec_dirent_bytes(size_t name_bytes)
{
	return sizeof(struct pml_wire_dirent) + (name_bytes + 7) / 8 * 8;
}

#endif
