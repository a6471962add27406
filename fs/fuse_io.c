/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fuse_io.c -- reading and writing /dev/fuse, for what libfuse 3.14 does not know
 *
 *   INIT        A filesystem with extended attributes is asked for security.capability
 *               before each write (file_remove_privs() in fs/inode.c of Linux): two
 *               requests instead of one.  The kernel remembers that there is none
 *               (S_NOSEC) if the filesystem says FUSE_HANDLE_KILLPRIV_V2 in its answer,
 *               and leaves setuid and setgid bits to it then (fuse_data.c).
 *   O_TMPFILE   becomes a create of the name "/", which no other request has: the kernel
 *               gives it that name, and the messages are the same.
 *   statx       is answered here: it is the only way to a time of birth.  Not while it is
 *               read: it may wait for a lock, and who reads counts as free (fuse_loop.c).
 *   copy_file_range  of Linux 6.18 and later (COPY_FILE_RANGE_64) becomes the older one.
 *               Refused, the kernel tries that by itself; but two programs whose first
 *               copies meet make it believe that there is neither, and from then on every
 *               clone of the mount would be a copy through the page cache.
 *
 * All else passes unchanged.
 *
 * Doc: include/uapi/linux/fuse.h of Linux.
 * Threads: any number read and write at a time; INIT is alone.
 */
#include <string.h>
#include <sys/sysmacros.h>
#include <sys/uio.h>

#include "fuse_private.h"

/* Since Linux 6.6: newer than the headers. */
#define OPCODE_STATX 52u
/* Since Linux 6.18.  Takes the same structure, answers with 64 bits instead of 32 and a zero. */
#define OPCODE_COPY_FILE_RANGE_64 53u
#define COPY_BYTES_MAX		  (1u << 30) /* a caller goes on behind a short one */
#define MASK_STATX		  0xfffu     /* STATX_BASIC_STATS | STATX_BTIME */

struct statx_in {
	uint32_t getattr_flags;
	uint32_t reserved;
	uint64_t fh;
	uint32_t sx_flags;
	uint32_t sx_mask;
};

struct statx_time {
	int64_t sec;
	uint32_t nsec;
	int32_t reserved;
};

struct statx_out {
	uint64_t valid_s;
	uint32_t valid_ns;
	uint32_t flags;
	uint64_t spare[2];
	uint32_t mask;
	uint32_t blksize;
	uint64_t attributes;
	uint32_t nlink;
	uint32_t uid;
	uint32_t gid;
	uint16_t mode;
	uint16_t spare0;
	uint64_t ino;
	uint64_t size;
	uint64_t blocks;
	uint64_t attributes_mask;
	struct statx_time atime;
	struct statx_time btime;
	struct statx_time ctime;
	struct statx_time mtime;
	uint32_t rdev_major;
	uint32_t rdev_minor;
	uint32_t dev_major;
	uint32_t dev_minor;
	uint64_t spare2[14];
};
static_assert(sizeof(struct statx_in) == 24 && sizeof(struct statx_out) == 32 + 256,
	      "fuse_statx_in and fuse_statx_out of Linux");

/* ---- answers ------------------------------------------------------------ */

static void answer(int fd, uint64_t unique, int err, const void *body, size_t bytes)
{
	struct fuse_out_header head = {
		.len = (uint32_t)(sizeof(head) + (err ? 0 : bytes)),
		.error = err,
		.unique = unique,
	};
	struct iovec iov[2] = {{.iov_base = &head, .iov_len = sizeof(head)}};
	memcpy(&iov[1].iov_base, &body, sizeof(body));
	iov[1].iov_len = bytes;
	/* An error means that nobody waits for it any more. */
	(void)!writev(fd, iov, err ? 1 : 2);
}

static struct statx_time time_of(const struct timespec *ts)
{
	return (struct statx_time){.sec = ts->tv_sec, .nsec = (uint32_t)ts->tv_nsec};
}

static void fill_statx(struct pml_inode *inode, struct statx_out *ret_out)
{
	struct stat st;
	struct timespec btime;
	pml_inode_stat(inode, &st);
	pml_inode_btime(inode, &btime);
	*ret_out = (struct statx_out){
		.valid_s = (uint64_t)PML_FUSE_TIMEOUT_S,
		.mask = MASK_STATX,
		.blksize = (uint32_t)st.st_blksize,
		.nlink = (uint32_t)st.st_nlink,
		.uid = st.st_uid,
		.gid = st.st_gid,
		.mode = (uint16_t)st.st_mode,
		.ino = st.st_ino,
		.size = (uint64_t)st.st_size,
		.blocks = (uint64_t)st.st_blocks,
		.atime = time_of(&st.st_atim),
		.btime = time_of(&btime),
		.ctime = time_of(&st.st_ctim),
		.mtime = time_of(&st.st_mtim),
		.rdev_major = major(st.st_rdev),
		.rdev_minor = minor(st.st_rdev),
	};
}

bool pml_fuse_answer_statx(void *arg, const void *request, size_t bytes)
{
	struct pml_fuse *fuse = arg;
	const struct fuse_in_header *head = request;
	if (bytes < sizeof(*head) || head->opcode != OPCODE_STATX)
		return false;
	struct statx_out out;
	struct pml_inode *inode = pml_fuse_nodes_get(fuse->nodes, head->nodeid);
	if (inode) {
		fill_statx(inode, &out);
		pml_inode_put(inode, 1);
	}
	answer(fuse_session_fd(fuse->session), head->unique, inode ? 0 : -ESTALE, &out,
	       sizeof(out));
	return true;
}

/* ---- requests and answers ----------------------------------------------- */

static void note_init(struct pml_fuse *fuse, const struct fuse_in_header *head, size_t bytes)
{
	const struct fuse_init_in *init = (const void *)(head + 1);
	/* The first request of all, before any other is sent. */
	if (bytes >= sizeof(*head) + offsetof(struct fuse_init_in, unused) &&
	    (init->flags & FUSE_HANDLE_KILLPRIV_V2))
		atomic_store(&fuse->init_unique, head->unique);
}

static void shorten_copy(struct fuse_in_header *head, size_t bytes)
{
	struct fuse_copy_file_range_in *copy = (void *)(head + 1);
	if (bytes < sizeof(*head) + sizeof(*copy))
		return;
	copy->len = PML_MIN(copy->len, (uint64_t)COPY_BYTES_MAX);
	head->opcode = FUSE_COPY_FILE_RANGE;
}

ssize_t pml_fuse_read_request(int fd, void *buffer, size_t bytes, void *fuse)
{
	struct fuse_in_header *head = buffer;
	ssize_t n = read(fd, buffer, bytes);
	if (n < (ssize_t)sizeof(*head))
		return n;
	switch (head->opcode) {
	case FUSE_INIT:
		note_init(fuse, head, (size_t)n);
		break;
	case FUSE_TMPFILE:
		head->opcode = FUSE_CREATE;
		break;
	case OPCODE_COPY_FILE_RANGE_64:
		shorten_copy(head, (size_t)n);
		break;
	default:
		break;
	}
	return n;
}

static ssize_t write_answer(int fd, struct iovec *iov, int count, void *userdata)
{
	struct pml_fuse *fuse = userdata;
	const struct fuse_out_header *header = iov[0].iov_base;
	uint64_t unique = atomic_load_explicit(&fuse->init_unique, memory_order_relaxed);
	if (unique && header->unique == unique && count == 2 &&
	    iov[1].iov_len >= offsetof(struct fuse_init_out, max_background)) {
		struct fuse_init_out *init = iov[1].iov_base;
		init->flags |= FUSE_HANDLE_KILLPRIV_V2;
		atomic_store(&fuse->init_unique, 0);
	}
	return writev(fd, iov, count);
}

int pml_fuse_take_io(struct pml_fuse *fuse)
{
	static const struct fuse_custom_io io = {.read = pml_fuse_read_request,
						 .writev = write_answer};
	return fuse_session_custom_io(fuse->session, &io, fuse_session_fd(fuse->session));
}
