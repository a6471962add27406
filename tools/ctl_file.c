/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * ctl_file.c -- pmemleasectl: ranges of files, snapshots
 *
 * Each file is synced first: what its owner has stored through a mapping must have
 * reached the filesystem before blocks move (pmemleasefs/ioctl.h).
 */
#include <fcntl.h>
#include <libgen.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "ctl.h"
#include "pmemleasefs/ioctl.h"
#include "size.h"

/* What one dedupe call takes at most. */
#define DEDUPE_BYTES (1ull << 30)

/* Complains itself; a regular file is synced. */
static int open_file(const char *path, int flags)
{
	int fd = open(path, flags | O_CLOEXEC, 0666);
	if (fd < 0)
		return pml_ctl_complain(path, -errno);
	struct stat st;
	if (fstat(fd, &st) == 0 && (S_ISDIR(st.st_mode) || fsync(fd) == 0))
		return fd;
	int err = pml_ctl_complain(path, -errno);
	(void)close(fd);
	return err;
}

static int size_of(const char *path, int fd, uint64_t *ret_bytes)
{
	struct stat st;
	if (fstat(fd, &st) != 0)
		return pml_ctl_complain(path, -errno);
	*ret_bytes = (uint64_t)st.st_size;
	return 0;
}

static int get_token(const char *path, int fd, uint8_t *ret_token)
{
	struct pml_ioc_token token = {.version = PML_IOC_VERSION};
	int err = pml_ctl_ask(path, fd, PML_IOC_TOKEN, &token);
	if (!err)
		memcpy(ret_token, token.token, sizeof(token.token));
	return err;
}

/* ---- clone, dedupe --------------------------------------------------------- */

/* A copy is not longer than what it is a copy of. */
static int shorten(const char *path, int fd, uint64_t src_size)
{
	uint64_t size = 0;
	int err = size_of(path, fd, &size);
	if (!err && size > src_size && ftruncate(fd, (off_t)src_size) != 0)
		err = pml_ctl_complain(path, -errno);
	return err;
}

int pml_ctl_clone(const struct pml_ctl_options *options, char **args, int nargs)
{
	(void)nargs;
	pml_auto_close int src = open_file(args[0], O_RDONLY);
	pml_auto_close int dst = src < 0 ? -1 : open_file(args[1], O_RDWR | O_CREAT);
	if (src < 0 || dst < 0)
		return PML_CTL_ERROR;
	struct pml_ioc_clone clone = {
		.version = PML_IOC_VERSION,
		.src_byte = options->src_byte,
		.dst_byte = options->dst_byte,
		.len_bytes = options->len_bytes,
	};
	uint64_t src_size = 0;
	int err = size_of(args[0], src, &src_size);
	if (!err && !options->has_range)
		err = shorten(args[1], dst, src_size);
	/* Nothing of an empty file is cloned. */
	if (!err && !options->has_range && src_size == 0)
		return PML_CTL_OK;
	if (!err)
		err = get_token(args[0], src, clone.token);
	if (!err)
		err = pml_ctl_ask(args[1], dst, PML_IOC_CLONE, &clone);
	return err ? PML_CTL_ERROR : PML_CTL_OK;
}

/* One step; moves the range on. */
static int dedupe_step(const char *src_path, int src, const char *path, int fd,
		       struct pml_ctl_options *left)
{
	struct pml_ioc_dedupe dedupe = {
		.version = PML_IOC_VERSION,
		.ndst = 1,
		.src_byte = left->src_byte,
		.len_bytes = PML_MIN(left->len_bytes, (uint64_t)DEDUPE_BYTES),
		.dst[0].dst_byte = left->dst_byte,
	};
	int err = get_token(path, fd, dedupe.dst[0].token);
	if (!err)
		err = pml_ctl_ask(src_path, src, PML_IOC_DEDUPE, &dedupe);
	if (!err && dedupe.dst[0].status < 0)
		err = pml_ctl_complain(path, dedupe.dst[0].status);
	if (err)
		return PML_CTL_ERROR;
	if (dedupe.dst[0].status == PML_IOC_DEDUPE_DIFFERS) {
		fprintf(stderr, PML_CTL_PROGRAM ": %s: differs\n", path);
		return PML_CTL_DIFFERS;
	}
	uint64_t done = dedupe.dst[0].done_bytes;
	/* A last part of a block that cannot be shared stays. */
	left->len_bytes = done ? left->len_bytes - done : 0;
	left->src_byte += done;
	left->dst_byte += done;
	return PML_CTL_OK;
}

static int dedupe_file(const char *src_path, int src, uint64_t src_size, const char *path,
		       const struct pml_ctl_options *options)
{
	/* As FIDEDUPERANGE: who may write the file may do this, and O_RDWR shows it. */
	pml_auto_close int fd = open_file(path, O_RDWR);
	if (fd < 0)
		return PML_CTL_ERROR;
	struct pml_ctl_options left = *options;
	if (left.len_bytes == 0 && left.src_byte < src_size)
		left.len_bytes = src_size - left.src_byte;
	int status = PML_CTL_OK;
	while (status == PML_CTL_OK && left.len_bytes > 0)
		status = dedupe_step(src_path, src, path, fd, &left);
	return status;
}

int pml_ctl_dedupe(const struct pml_ctl_options *options, char **args, int nargs)
{
	pml_auto_close int src = open_file(args[0], O_RDONLY);
	uint64_t src_size = 0;
	if (src < 0 || size_of(args[0], src, &src_size))
		return PML_CTL_ERROR;
	int status = PML_CTL_OK;
	for (int i = 1; i < nargs; i++) {
		int one = dedupe_file(args[0], src, src_size, args[i], options);
		if (one != PML_CTL_OK && status != PML_CTL_ERROR)
			status = one;
	}
	return status;
}

/* ---- collapse, insert, unshare ----------------------------------------------- */

static int parse(const char *text, uint64_t *ret_bytes)
{
	int err = pml_size_parse(text, ret_bytes);
	if (err)
		fprintf(stderr, PML_CTL_PROGRAM ": \"%s\" is no size like 4096 or 64K\n", text);
	return err;
}

static int change_range(unsigned long cmd, char **args, int nargs)
{
	struct pml_ioc_range range = {.version = PML_IOC_VERSION};
	if (nargs == 2) {
		fprintf(stderr, PML_CTL_PROGRAM ": LEN is missing; see --help\n");
		return PML_CTL_USAGE;
	}
	if (nargs == 3 && (parse(args[1], &range.first_byte) || parse(args[2], &range.len_bytes)))
		return PML_CTL_USAGE;
	pml_auto_close int fd = open_file(args[0], O_RDWR);
	if (fd < 0)
		return PML_CTL_ERROR;
	if (nargs == 1 && size_of(args[0], fd, &range.len_bytes))
		return PML_CTL_ERROR;
	if (nargs == 1 && range.len_bytes == 0)
		return PML_CTL_OK;
	return pml_ctl_ask(args[0], fd, cmd, &range) ? PML_CTL_ERROR : PML_CTL_OK;
}

int pml_ctl_collapse(const struct pml_ctl_options *options, char **args, int nargs)
{
	(void)options;
	return change_range(PML_IOC_COLLAPSE, args, nargs);
}

int pml_ctl_insert(const struct pml_ctl_options *options, char **args, int nargs)
{
	(void)options;
	return change_range(PML_IOC_INSERT, args, nargs);
}

int pml_ctl_unshare(const struct pml_ctl_options *options, char **args, int nargs)
{
	(void)options;
	return change_range(PML_IOC_UNSHARE, args, nargs);
}

/* ---- extents ------------------------------------------------------------------ */

static const struct {
	uint32_t flag;
	const char *name;
} flag_names[] = {
	{PML_IOC_EXTENT_UNWRITTEN, "unwritten"},
	{PML_IOC_EXTENT_SHARED, "shared"},
	{PML_IOC_EXTENT_PINNED, "pinned"},
	{PML_IOC_EXTENT_LAST, "last"},
};

static void print_extent(const struct pml_ioc_extent *extent)
{
	printf("%-18llu %-14llu %-10llu %-8u", (unsigned long long)extent->first_byte,
	       (unsigned long long)extent->block, (unsigned long long)extent->nblocks,
	       (unsigned int)extent->shares);
	const char *separator = " ";
	for (size_t i = 0; i < PML_ARRAY_LEN(flag_names); i++) {
		if (!(extent->flags & flag_names[i].flag))
			continue;
		printf("%s%s", separator, flag_names[i].name);
		separator = ",";
	}
	putchar('\n');
}

static void print_extent_json(const struct pml_ioc_extent *extent)
{
	printf("{\"first_byte\":%llu,\"block\":%llu,\"blocks\":%llu,\"shares\":%u",
	       (unsigned long long)extent->first_byte, (unsigned long long)extent->block,
	       (unsigned long long)extent->nblocks, (unsigned int)extent->shares);
	for (size_t i = 0; i < PML_ARRAY_LEN(flag_names); i++)
		printf(",\"%s\":%s", flag_names[i].name,
		       extent->flags & flag_names[i].flag ? "true" : "false");
	putchar('}');
}

int pml_ctl_extents(const struct pml_ctl_options *options, char **args, int nargs)
{
	(void)nargs;
	static struct pml_ioc_extents list = {.version = PML_IOC_VERSION};
	const char *separator = "\n";
	pml_auto_close int fd = open_file(args[0], O_RDONLY);
	if (fd < 0 || pml_ctl_ask(args[0], fd, PML_IOC_EXTENTS, &list))
		return PML_CTL_ERROR;
	if (options->is_json)
		printf("[");
	else
		printf("%-18s %-14s %-10s %-8s %s\n", "FIRST BYTE", "BLOCK", "BLOCKS", "SHARES",
		       "FLAGS");
	while (list.count > 0) {
		for (uint32_t i = 0; i < list.count && i < PML_IOC_EXTENTS_MAX; i++) {
			if (options->is_json) {
				printf("%s", separator);
				separator = ",\n";
				print_extent_json(&list.extents[i]);
			} else {
				print_extent(&list.extents[i]);
			}
		}
		list.first_byte = list.next_byte;
		if (pml_ctl_ask(args[0], fd, PML_IOC_EXTENTS, &list))
			return PML_CTL_ERROR;
	}
	if (options->is_json)
		printf("\n]\n");
	return PML_CTL_OK;
}

/* ---- snapshot ------------------------------------------------------------------ */

int pml_ctl_snapshot(const struct pml_ctl_options *options, char **args, int nargs)
{
	(void)options;
	(void)nargs;
	struct pml_ioc_snapshot snapshot = {.version = PML_IOC_VERSION};
	/* dirname(3) and basename(3) may change what they get. */
	pml_auto_free char *for_dir = strdup(args[1]);
	pml_auto_free char *for_name = strdup(args[1]);
	if (!for_dir || !for_name) {
		(void)pml_ctl_complain(args[1], -ENOMEM);
		return PML_CTL_ERROR;
	}
	const char *parent_path = dirname(for_dir);
	const char *name = basename(for_name);
	if (strlen(name) >= sizeof(snapshot.name)) {
		(void)pml_ctl_complain(args[1], -ENAMETOOLONG);
		return PML_CTL_ERROR;
	}
	memcpy(snapshot.name, name, strlen(name) + 1);
	pml_auto_close int dir = open_file(args[0], O_RDONLY | O_DIRECTORY);
	pml_auto_close int parent = dir < 0 ? -1 : open_file(parent_path, O_RDONLY | O_DIRECTORY);
	if (dir < 0 || parent < 0 || get_token(parent_path, parent, snapshot.token))
		return PML_CTL_ERROR;
	return pml_ctl_ask(args[1], dir, PML_IOC_SNAPSHOT, &snapshot) ? PML_CTL_ERROR : PML_CTL_OK;
}
