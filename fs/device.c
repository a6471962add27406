/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * device.c -- what kind of object a device is, without opening the pool
 *
 * A device-DAX cannot be read by read(2), and which kind of character device it
 * is only sysfs says (Documentation/ABI/stable/sysfs-bus-nvdimm and
 * drivers/dax of the kernel), as libpmem2 finds it too.
 */
#include <fcntl.h>
#include <inttypes.h>
#include <libgen.h>
#include <limits.h>
#include <linux/magic.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>

#include "device.h"

/* Where a pool's header has its kind: pool_hdr.h of PMDK. */
#define POOL_SIGNATURE "PMEMOBJ"

int pml_reason(char *reason, int err, const char *format, ...)
{
	va_list args;
	va_start(args, format);
	(void)vsnprintf(reason, PML_REASON_BYTES, format, args);
	va_end(args);
	return err;
}

/* pmem2_err_to_errno() is declared but not exported by libpmem2 1.12. */
int pml_pmem2_error(int err)
{
	if (err > PMEM2_E_UNKNOWN)
		return err; /* it is an errno */
	return err == PMEM2_E_NOSUPP ? -EOPNOTSUPP : -EIO;
}

/* ---- reading ------------------------------------------------------------- */

static int read_file(int fd, uint8_t *ret_bytes, size_t bytes)
{
	size_t done = 0;
	while (done < bytes) {
		ssize_t n = pread(fd, ret_bytes + done, bytes - done, (off_t)done);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			break;
		done += (size_t)n;
	}
	memset(ret_bytes + done, 0, bytes - done);
	return 0;
}

/* Maps the first 2 MiB, or what the device's alignment makes of it. */
static int map_head(int fd, bool for_write, struct pmem2_map **ret_map)
{
	struct pmem2_source *source = NULL;
	struct pmem2_config *config = NULL;
	size_t align = 0;

	int err = pmem2_source_from_fd(&source, fd);
	if (!err)
		err = pmem2_config_new(&config);
	if (!err)
		err = pmem2_source_alignment(source, &align);
	if (!err)
		err = pmem2_config_set_length(config, pml_round_up(2u << 20, align));
	if (!err)
		err = pmem2_config_set_protection(
			config, PMEM2_PROT_READ | (for_write ? PMEM2_PROT_WRITE : 0u));
	if (!err)
		err = pmem2_config_set_required_store_granularity(config, PMEM2_GRANULARITY_PAGE);
	if (!err)
		err = pmem2_map_new(ret_map, config, source);
	(void)pmem2_config_delete(&config);
	(void)pmem2_source_delete(&source);
	return pml_pmem2_error(err);
}

int pml_device_read(int fd, bool is_device_dax, void *ret_bytes, size_t bytes)
{
	if (!is_device_dax)
		return read_file(fd, ret_bytes, bytes);

	struct pmem2_map *map;
	int err = map_head(fd, false, &map);
	if (err)
		return err;
	assert(bytes <= pmem2_map_get_size(map));
	memcpy(ret_bytes, pmem2_map_get_address(map), bytes);
	(void)pmem2_map_delete(&map);
	return 0;
}

int pml_device_dax_zero(int fd, size_t bytes)
{
	struct pmem2_map *map;
	int err = map_head(fd, true, &map);
	if (err)
		return err;
	assert(bytes <= pmem2_map_get_size(map));
	memset(pmem2_map_get_address(map), 0, bytes);
	pmem2_get_persist_fn(map)(pmem2_map_get_address(map), bytes);
	(void)pmem2_map_delete(&map);
	return 0;
}

/* ---- kinds --------------------------------------------------------------- */

/* Where sysfs keeps an attribute of a character device. */
static void sysfs_path(dev_t rdev, const char *attribute, char *ret_path, size_t bytes)
{
	(void)snprintf(ret_path, bytes, "/sys/dev/char/%u:%u/%s", major(rdev), minor(rdev),
		       attribute);
}

static bool is_device_dax(dev_t rdev)
{
	char path[64];
	char target[PATH_MAX];
	sysfs_path(rdev, "subsystem", path, sizeof(path));
	ssize_t n = readlink(path, target, sizeof(target) - 1);
	if (n < 0)
		return false;
	target[n] = 0;
	return strcmp(basename(target), "dax") == 0;
}

static int device_dax_size(dev_t rdev, uint64_t *ret_bytes)
{
	char path[64];
	char text[32];
	sysfs_path(rdev, "size", path, sizeof(path));
	pml_auto_close int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	ssize_t n = read(fd, text, sizeof(text) - 1);
	if (n < 0)
		return -errno;
	text[n] = 0;
	uint64_t bytes = strtoull(text, NULL, 0);
	if (bytes == 0)
		return -EIO;
	*ret_bytes = bytes;
	return 0;
}

/* Does the file's filesystem map its pages without a page cache? */
static bool is_fsdax(int fd)
{
	void *p = mmap(NULL, PML_BLOCK_BYTES, PROT_READ, MAP_SHARED_VALIDATE | MAP_SYNC, fd, 0);
	if (p == MAP_FAILED)
		return false;
	(void)munmap(p, PML_BLOCK_BYTES);
	return true;
}

static bool is_hugetlbfs(int fd)
{
	struct statfs st;
	return fstatfs(fd, &st) == 0 && st.f_type == HUGETLBFS_MAGIC;
}

static int refuse_kind(const char *path, mode_t mode, char *reason)
{
	if (S_ISBLK(mode))
		return pml_reason(
			reason, -ENOTBLK,
			"%s is a block device: use a file on a DAX filesystem on it, or "
			"make its namespace a device-DAX (ndctl create-namespace -m devdax)",
			path);
	return pml_reason(reason, -ENOTBLK, "%s is %s, not a device-DAX or a regular file", path,
			  S_ISDIR(mode)	   ? "a directory"
			  : S_ISCHR(mode)  ? "another kind of character device"
			  : S_ISFIFO(mode) ? "a pipe"
					   : "a special file");
}

/* "pmemleasefs/<version> size=<bytes>", see media.h. */
static void parse_layout(const char *layout, struct pml_device_peek *peek)
{
	char text[64];
	unsigned int version;
	uint64_t bytes;

	if (sscanf(layout, "pmemleasefs/%u", &version) != 1)
		return;
	peek->is_ours = true;
	peek->format_version = version;
	if (sscanf(layout, PML_LAYOUT_SCAN, &version, &bytes) != 2)
		return;
	(void)snprintf(text, sizeof(text), PML_LAYOUT_FORMAT, version, bytes);
	if (strcmp(text, layout) == 0)
		peek->recorded_bytes = bytes;
}

int pml_device_peek(const char *path, struct pml_device_peek *ret_peek, char *ret_reason)
{
	struct stat st;
	if (stat(path, &st) < 0)
		return pml_reason(ret_reason, -errno, "%s: %s", path, strerror(errno));

	struct pml_device_peek peek = {.is_device_dax =
					       S_ISCHR(st.st_mode) && is_device_dax(st.st_rdev)};
	if (!S_ISREG(st.st_mode) && !peek.is_device_dax)
		return refuse_kind(path, st.st_mode, ret_reason);

	pml_auto_close int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return pml_reason(ret_reason, -errno, "%s: %s", path, strerror(errno));
	/* libpmemobj maps and unmaps a pool's head by itself, and ends the process if it cannot. */
	if (is_hugetlbfs(fd))
		return pml_reason(ret_reason, -EOPNOTSUPP,
				  "%s is on hugetlbfs, which maps no less than a huge page, and "
				  "libpmemobj needs 4 KiB: use a tmpfs mounted with huge=always",
				  path);
	peek.size_bytes = (uint64_t)st.st_size;
	int err = peek.is_device_dax ? device_dax_size(st.st_rdev, &peek.size_bytes) : 0;
	if (err)
		return pml_reason(ret_reason, err, "%s: sysfs does not tell its size: %s", path,
				  strerror(-err));
	peek.kind = peek.is_device_dax ? "device-DAX" : is_fsdax(fd) ? "fsdax file" : "plain file";

	uint8_t head[PML_LAYOUT_OFFSET + 64];
	err = pml_device_read(fd, peek.is_device_dax, head, sizeof(head));
	if (err)
		return pml_reason(ret_reason, err, "%s cannot be read: %s", path, strerror(-err));
	head[sizeof(head) - 1] = 0;
	if (memcmp(head, POOL_SIGNATURE, sizeof(POOL_SIGNATURE)) == 0)
		parse_layout((const char *)head + PML_LAYOUT_OFFSET, &peek);
	*ret_peek = peek;
	return 0;
}

/* ---- locks and stores ---------------------------------------------------- */

int pml_device_lock(int fd)
{
	struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
	if (fcntl(fd, F_OFD_SETLK, &lock) == 0)
		return 0;
	return errno == EAGAIN || errno == EACCES ? -EBUSY : -errno;
}

static bool is_volatile(int fd)
{
	struct statfs st;
	if (fstatfs(fd, &st) < 0)
		return false;
	return st.f_type == TMPFS_MAGIC || st.f_type == RAMFS_MAGIC;
}

/* Maps the device for a moment to see what libpmem2 grants. */
static int granularity_of(int fd, enum pmem2_granularity *ret_granularity)
{
	struct pmem2_map *map;
	int err = map_head(fd, true, &map);
	if (err)
		return err;
	*ret_granularity = pmem2_map_get_store_granularity(map);
	(void)pmem2_map_delete(&map);
	return 0;
}

int pml_device_store_of(int fd, struct pml_device_store *ret_store, char *ret_reason)
{
	struct pml_device_store store = {.granularity = PMEM2_GRANULARITY_PAGE};
	struct stat st;

	if (fstat(fd, &st) < 0)
		return pml_reason(ret_reason, -errno, "fstat: %s", strerror(errno));
	int err = granularity_of(fd, &store.granularity);
	if (err)
		return pml_reason(ret_reason, err, "libpmem2 cannot map it: %s", pmem2_errormsg());

	store.is_volatile = S_ISREG(st.st_mode) && is_volatile(fd);
	if (store.is_volatile)
		store.durability = "none: a file in memory, nothing outlives a power failure";
	else if (store.granularity != PMEM2_GRANULARITY_PAGE)
		store.durability = "a write is durable when it returns (CPU cache flush)";
	else if (getenv("PMEM_IS_PMEM_FORCE"))
		store.durability = "not given: PMEM_IS_PMEM_FORCE is set on a file in page cache";
	else
		store.durability = "metadata is durable when a call returns, data after fsync "
				   "(msync of a file in page cache)";
	*ret_store = store;
	return 0;
}

bool pml_device_has_usc(int fd)
{
	struct pmem2_source *source;
	uint64_t count;
	if (pmem2_source_from_fd(&source, fd) != 0)
		return false;
	bool has = pmem2_source_device_usc(source, &count) == 0;
	(void)pmem2_source_delete(&source);
	return has;
}
