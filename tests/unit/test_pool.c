/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_pool.c -- mkfs, open, and what both refuse
 *
 * The device is a file in $PML_TEST_DIR, or /dev/shm.
 */
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "../../fs/alloc.h"
#include "../../fs/pool.h"
#include "../../fs/tx.h"
#include "../tap.h"

#define MIB  (1ull << 20)
#define SIZE PML_DEVICE_BYTES_MIN

static char path[256];
static char reason[PML_REASON_BYTES];
static pid_t maker;

/* libpmem2 1.12 loses 144 bytes each time a mapping from pmem2_map_from_existing() is deleted. */
const char *__lsan_default_suppressions(void);
const char *__lsan_default_suppressions(void)
{
	return "leak:libpmem2.so\n";
}

/* ---- helpers ------------------------------------------------------------- */

static void remove_device(void)
{
	if (getpid() == maker)
		(void)unlink(path);
}

static int format(uint64_t size_bytes, bool force)
{
	const struct pml_format_args args = {
		.path = path, .size_bytes = size_bytes, .label = "test", .force = force};
	struct pml_device_info info;
	reason[0] = 0;
	return pml_fs_format(&args, &info, reason);
}

static int open_as(bool is_read_only, struct pml_fs **ret_fs)
{
	const struct pml_open_args args = {.path = path, .is_read_only = is_read_only};
	reason[0] = 0;
	return pml_fs_open(&args, ret_fs, reason);
}

/* A fresh filesystem, and an empty reason. */
static void begin(void)
{
	remove_device();
	int err = format(SIZE, false);
	if (err)
		BAIL_OUT("mkfs: %d: %s", err, reason);
}

static struct pml_fs *open_good(void)
{
	struct pml_fs *fs;
	int err = open_as(false, &fs);
	if (err)
		BAIL_OUT("open: %d: %s", err, reason);
	return fs;
}

static void make_file(uint64_t size_bytes)
{
	remove_device();
	int fd = open(path, O_RDWR | O_CREAT | O_EXCL, 0640);
	if (fd < 0 || ftruncate(fd, (off_t)size_bytes) < 0)
		BAIL_OUT("%s: %s", path, strerror(errno));
	(void)close(fd);
}

static void write_at(uint64_t offset, const void *bytes, size_t n)
{
	int fd = open(path, O_WRONLY);
	if (fd < 0 || pwrite(fd, bytes, n, (off_t)offset) != (ssize_t)n)
		BAIL_OUT("%s: %s", path, strerror(errno));
	(void)close(fd);
}

static uint64_t file_size(void)
{
	struct stat st;
	return stat(path, &st) == 0 ? (uint64_t)st.st_size : 0;
}

#define CHECK_REASON(part)                                                                         \
	do {                                                                                       \
		if (!strstr(reason, part))                                                         \
			TAP_FAIL("\"%s\" does not say \"%s\"", reason, part);                      \
	} while (0)

/* ---- mkfs ---------------------------------------------------------------- */

static void test_mkfs_makes_a_file_that_opens(void)
{
	const struct pml_format_args args = {
		.path = path, .size_bytes = SIZE + 12345, .label = "hello"};
	struct pml_device_info info;
	struct pml_device_info opened;
	struct stat st;
	remove_device();
	REQUIRE(pml_fs_format(&args, &info, reason) == 0);
	CHECK_EQ(info.size_bytes, SIZE);
	CHECK_EQ(info.format_version, PML_FORMAT_VERSION);
	CHECK_STR(info.label, "hello");
	REQUIRE(stat(path, &st) == 0);
	CHECK_EQ(st.st_mode, S_IFREG | 0600);
	CHECK_EQ(st.st_size, SIZE);
	if (strcmp(info.kind, "plain file") == 0)
		CHECK(st.st_blocks * 512ll < st.st_size / 4); /* sparse */

	struct pml_fs *fs = open_good();
	pml_fs_info(fs, &opened);
	CHECK(memcmp(info.uuid, opened.uuid, sizeof(info.uuid)) == 0);
	CHECK_EQ(opened.size_bytes, info.size_bytes);
	CHECK_STR(opened.label, "hello");
	CHECK_STR(opened.kind, info.kind);
	CHECK_STR(opened.durability, info.durability);
	CHECK_EQ(opened.is_cache_line, info.is_cache_line);
	pml_fs_close(fs);
}

static void test_a_fresh_filesystem_has_a_root_directory(void)
{
	struct pml_inode *root;
	struct stat st;
	begin();
	struct pml_fs *fs = open_good();
	REQUIRE(pml_inode_get(fs, PML_ROOT_INO, &root) == 0);
	pml_inode_stat(root, &st);
	CHECK_EQ(st.st_mode, S_IFDIR | 0755);
	CHECK_EQ(st.st_nlink, 2);
	CHECK_EQ(st.st_uid, 0);
	CHECK(llabs((long long)(time(NULL) - st.st_mtime)) < 60);
	pml_inode_put(root, 1);

	struct statvfs v;
	pml_fs_statvfs(fs, &v);
	CHECK_EQ(v.f_bsize, 4096);
	CHECK_EQ(v.f_bfree, v.f_blocks);
	CHECK_EQ(v.f_namemax, 255);
	CHECK_EQ(v.f_files - v.f_ffree, 1);
	CHECK_EQ(v.f_flag, 0);
	pml_fs_close(fs);
}

static void test_two_filesystems_have_different_uuids(void)
{
	struct pml_device_info a;
	struct pml_device_info b;
	begin();
	struct pml_fs *fs = open_good();
	pml_fs_info(fs, &a);
	pml_fs_close(fs);
	begin();
	fs = open_good();
	pml_fs_info(fs, &b);
	pml_fs_close(fs);
	CHECK(memcmp(a.uuid, b.uuid, sizeof(a.uuid)) != 0);
	CHECK_EQ(a.uuid[6] >> 4, 4);
	CHECK_EQ(a.uuid[8] >> 6, 2);
}

static void test_mkfs_refuses_wrong_objects_and_sizes(void)
{
	struct pml_device_info info;
	struct pml_format_args args = {.path = "/dev/shm", .force = true};
	CHECK_EQ(pml_fs_format(&args, &info, reason), -ENOTBLK);
	CHECK_REASON("a directory");
	args.path = "/dev/null";
	CHECK_EQ(pml_fs_format(&args, &info, reason), -ENOTBLK);
	CHECK_REASON("character device");

	remove_device();
	CHECK_EQ(format(0, false), -ENOENT);
	CHECK_REASON("give a size");
	CHECK_EQ(format(SIZE - 1, false), -EINVAL);
	CHECK_REASON("the smallest size is 64 MiB");
	CHECK_EQ(format(1ull << 60, false), -EFBIG);
	CHECK_EQ(access(path, F_OK), -1);
	char label[PML_LABEL_BYTES + 1];
	memset(label, 'x', PML_LABEL_BYTES);
	label[PML_LABEL_BYTES] = 0;
	args = (struct pml_format_args){.path = path, .size_bytes = SIZE, .label = label};
	CHECK_EQ(pml_fs_format(&args, &info, reason), -EINVAL);
	CHECK_EQ(access(path, F_OK), -1);
	make_file(0);
	CHECK_EQ(format(0, false), -EINVAL);
	CHECK_REASON("is empty");
}

static void test_a_block_device_is_refused_with_the_remedy(void)
{
	struct pml_device_info info;
	const struct pml_format_args args = {.path = path, .force = true};
	remove_device();
	if (mknod(path, S_IFBLK | 0600, 0) < 0)
		SKIP("cannot make a block device node");
	CHECK_EQ(pml_fs_format(&args, &info, reason), -ENOTBLK);
	CHECK_REASON("device-DAX");
	CHECK_REASON("file on a DAX filesystem");
}

static void test_mkfs_takes_an_existing_empty_file(void)
{
	struct stat st;
	make_file(SIZE + 4 * MIB);
	CHECK_EQ(format(0, false), 0);
	CHECK_EQ(file_size(), SIZE + 4 * MIB);
	REQUIRE(stat(path, &st) == 0);
	CHECK_EQ(st.st_mode & 0777, 0640);
	pml_fs_close(open_good());
	/* Not a multiple of 2 MiB. */
	make_file(SIZE + MIB);
	CHECK_EQ(format(0, false), 0);
	CHECK_EQ(file_size(), SIZE);
	make_file(0);
	CHECK_EQ(format(SIZE, false), 0);
	pml_fs_close(open_good());
}

static void test_a_size_that_differs_needs_force(void)
{
	make_file(SIZE);
	CHECK_EQ(format(SIZE + 2 * MIB, false), -EEXIST);
	CHECK_REASON("-f");
	CHECK_EQ(file_size(), SIZE);
	CHECK_EQ(format(SIZE, false), 0);
	CHECK_EQ(format(SIZE + 2 * MIB, true), 0);
	CHECK_EQ(file_size(), SIZE + 2 * MIB);
	pml_fs_close(open_good());
}

/* What it holds is named, and is still there after the refusal. */
static void check_held(uint64_t offset, const void *bytes, size_t n, const char *name)
{
	char back[4096];
	make_file(SIZE);
	write_at(offset, bytes, n);
	CHECK_EQ(format(0, false), -EEXIST);
	CHECK_REASON(name);
	CHECK_REASON("-f");
	int fd = open(path, O_RDONLY);
	CHECK(pread(fd, back, n, (off_t)offset) == (ssize_t)n && memcmp(back, bytes, n) == 0);
	(void)close(fd);
	CHECK_EQ(format(0, true), 0);
	pml_fs_close(open_good());
}

static void test_mkfs_does_not_overwrite_what_is_there(void)
{
	struct {
		uint32_t version;
		uint32_t last_page;
		uint8_t zeros[3054];
		char magic[10];
	} __attribute__((packed)) swap = {.version = 1, .last_page = 1000};
	memcpy(swap.magic, "SWAPSPACE2", 10);
	check_held(1024, &swap, sizeof(swap), "swap");
	check_held(0, "PMEMBLK", 8, "PMDK pool");
	check_held(65535, "x", 1, "not empty");
	/* A partition table with one partition. */
	static const uint8_t mbr[66] = {0x80, 1, 1, 0, 0x83, 0xfe, 0xff,	0xff,
					0,    8, 0, 0, 0,    8,	   [64] = 0x55, [65] = 0xaa};
	check_held(446, mbr, sizeof(mbr), "dos");
	begin();
	CHECK_EQ(format(0, false), -EEXIST);
	CHECK_REASON("already holds a pmemleasefs filesystem");
	CHECK_EQ(format(0, true), 0);
}

static void test_force_leaves_nothing_of_the_old_contents(void)
{
	static const char secret[] = "a secret of long ago";
	make_file(SIZE);
	for (uint64_t at = 0; at < SIZE; at += MIB)
		write_at(at + 777, secret, sizeof(secret));
	CHECK_EQ(format(0, true), 0);
	int fd = open(path, O_RDONLY);
	const char *p = mmap(NULL, SIZE, PROT_READ, MAP_SHARED, fd, 0);
	REQUIRE(p != MAP_FAILED);
	CHECK(memmem(p, SIZE, secret, sizeof(secret)) == NULL);
	(void)munmap((void *)(uintptr_t)p, SIZE);
	(void)close(fd);
}

static void test_a_new_file_is_removed_after_an_error(void)
{
	remove_device();
	pid_t pid = fork();
	if (pid == 0) {
		/* The pool cannot be mapped. */
		const struct rlimit limit = {256 * MIB, 256 * MIB};
		(void)setrlimit(RLIMIT_AS, &limit);
		int err = format(1ull << 30, false);
		_Exit(err < 0 && reason[0] && access(path, F_OK) != 0 ? 0 : 1);
	}
	int status = -1;
	REQUIRE(waitpid(pid, &status, 0) == pid);
	CHECK_EQ(status, 0);
}

/* ---- open ---------------------------------------------------------------- */

static void check_open(int want, const char *part)
{
	struct pml_fs *fs = NULL;
	int err = open_as(false, &fs);
	CHECK_EQ(err, want);
	if (!err)
		pml_fs_close(fs);
	else
		CHECK_REASON(part);
}

static void test_what_is_not_ours_is_refused(void)
{
	remove_device();
	check_open(-ENOENT, path);
	make_file(SIZE);
	check_open(-EMEDIUMTYPE, "mkfs.pmemleasefs");
	make_file(100);
	check_open(-EMEDIUMTYPE, "mkfs.pmemleasefs");
	make_file(SIZE);
	PMEMobjpool *pool = pmemobj_create(path, "another program's", 0, 0600);
	REQUIRE(pool);
	pmemobj_close(pool);
	check_open(-EMEDIUMTYPE, "no pmemleasefs");
	begin();
	write_at(PML_LAYOUT_OFFSET, "pmemleasefs/9 size", 18);
	check_open(-EMEDIUMTYPE, "format version 9");
	begin();
	write_at(0, "PMEMXXX", 7);
	check_open(-EMEDIUMTYPE, "no pmemleasefs");
}

static void test_a_damaged_pool_header_is_refused(void)
{
	begin();
	write_at(200, "damage", 6);
	check_open(-EUCLEAN, "libpmemobj");
}

static void test_a_changed_size_is_refused_and_the_old_one_works(void)
{
	begin();
	CHECK_EQ(truncate(path, (off_t)(SIZE + 2 * MIB)), 0);
	check_open(-EUCLEAN, "67108864");
	CHECK_REASON("69206016");
	CHECK_EQ(truncate(path, (off_t)(SIZE - 2 * MIB)), 0);
	check_open(-EUCLEAN, "65011712");
	CHECK_EQ(truncate(path, 0), 0);
	check_open(-EMEDIUMTYPE, "");
	begin();
	CHECK_EQ(truncate(path, (off_t)(SIZE + 2 * MIB)), 0);
	CHECK_EQ(truncate(path, (off_t)SIZE), 0);
	check_open(0, "");
	begin();
	write_at(PML_LAYOUT_OFFSET, "pmemleasefs/1 size=", 20);
	check_open(-EUCLEAN, "");
}

static void test_a_device_is_mounted_once(void)
{
	begin();
	struct pml_fs *fs = open_good();
	check_open(-EBUSY, "already mounted");
	CHECK_EQ(format(0, false), -EBUSY);
	CHECK_EQ(format(0, true), -EBUSY);
	CHECK_REASON("mounted");
	pid_t pid = fork();
	if (pid == 0) {
		struct pml_fs *other;
		_Exit(open_as(false, &other) == -EBUSY && format(0, true) == -EBUSY ? 0 : 1);
	}
	int status = -1;
	CHECK_EQ(waitpid(pid, &status, 0), pid);
	CHECK_EQ(status, 0);
	pml_fs_close(fs);
	check_open(0, "");
	/* Another program of PMDK. */
	char layout[64];
	(void)snprintf(layout, sizeof(layout), PML_LAYOUT_FORMAT, PML_FORMAT_VERSION,
		       (uint64_t)SIZE);
	PMEMobjpool *pool = pmemobj_open(path, layout);
	REQUIRE(pool);
	check_open(-EBUSY, "in use");
	CHECK_EQ(format(0, true), -EBUSY);
	pmemobj_close(pool);
}

/* Where the super block lies in the file, and what it holds. */
static uint64_t read_super(struct pml_media_super *super)
{
	struct pml_fs *fs = open_good();
	uint64_t first;
	uint64_t n;
	/* So that there is a group. */
	if (pml_alloc_take(fs, 1, 0, &first, &n) != 0)
		BAIL_OUT("no block");
	pml_alloc_unshare(fs, first, n);
	uint64_t offset = pml_offset_of(fs, fs->super);
	*super = *fs->super;
	pml_fs_close(fs);
	return offset;
}

static struct pml_media_super good;
static struct pml_media_super bad;

static void check_super(uint64_t offset, int want, const char *part)
{
	write_at(offset, &bad, sizeof(bad));
	check_open(want, part);
	bad = good;
}

static void test_a_damaged_super_block_is_refused(void)
{
	begin();
	uint64_t at = read_super(&good);
	uint64_t group_object = good.groups[0].object;
	bad = good;
	REQUIRE(good.ngroups >= 1);
	check_super(at, 0, "");
	bad.magic = 0;
	check_super(at, -EMEDIUMTYPE, "interrupted");
	bad.magic++;
	check_super(at, -EUCLEAN, "damaged");
	bad.format_version = 2;
	check_super(at, -EMEDIUMTYPE, "format version 2");
	bad.feature_incompat = 4;
	check_super(at, -EMEDIUMTYPE, "0x4");
	bad.feature_compat = 4;
	check_super(at, 0, "");
	bad.size_bytes += 4096;
	check_super(at, -EUCLEAN, "contradicts");
	memset(bad.label, 'x', sizeof(bad.label));
	check_super(at, -EUCLEAN, "contradicts");
	bad.ngroups = PML_GROUPS_MAX + 1;
	check_super(at, -EUCLEAN, "contradicts");
	bad.ngroups = 2;
	bad.groups[1] = bad.groups[0];
	check_super(at, -EUCLEAN, "contradicts");
	bad.groups[0].first_block++;
	check_super(at, -EUCLEAN, "contradicts");
	bad.groups[0].first_block = UINT64_MAX & ~511ull;
	check_super(at, -EUCLEAN, "contradicts");
	bad.groups[0].nblocks = UINT64_MAX;
	check_super(at, -EUCLEAN, "contradicts");
	bad.groups[0].nblocks = 0;
	check_super(at, -EUCLEAN, "contradicts");
	bad.groups[0].object = group_object + (bad.groups[0].nblocks << PML_BLOCK_SHIFT);
	check_super(at, -EUCLEAN, "contradicts");
	bad.groups[0].device = 1;
	check_super(at, -EUCLEAN, "contradicts");
	/* Over the super block itself. */
	bad.groups[0].first_block = pml_round_down(at >> PML_BLOCK_SHIFT, 512);
	bad.groups[0].object = (bad.groups[0].first_block << PML_BLOCK_SHIFT) - 16;
	check_super(at, -EUCLEAN, "contradicts");
	bad.itable[0] = UINT64_MAX - 7;
	check_super(at, -EUCLEAN, "contradict");
	check_super(at, 0, "");
}

static void test_unknown_ro_compat_features_allow_reading(void)
{
	struct pml_fs *fs;
	begin();
	uint64_t at = read_super(&good);
	bad = good;
	bad.feature_ro_compat = PML_FEATURE_RO_XATTR;
	check_super(at, 0, "");
	bad.feature_ro_compat = 1u << 31;
	check_super(at, -EMEDIUMTYPE, "read-only");
	REQUIRE(open_as(true, &fs) == 0);
	struct statvfs v;
	pml_fs_statvfs(fs, &v);
	CHECK_EQ(v.f_flag, ST_RDONLY);
	pml_fs_close(fs);
}

static void test_an_interrupted_mkfs_is_named(void)
{
	make_file(SIZE);
	char layout[64];
	(void)snprintf(layout, sizeof(layout), PML_LAYOUT_FORMAT, PML_FORMAT_VERSION,
		       (uint64_t)SIZE);
	PMEMobjpool *pool = pmemobj_create(path, layout, 0, 0600);
	REQUIRE(pool);
	pmemobj_close(pool);
	check_open(-EMEDIUMTYPE, "interrupted");
	CHECK_EQ(format(0, true), 0);
	check_open(0, "");
}

/* ---- a crash in a transaction -------------------------------------------- */

static uint64_t object;

/* Changes much in one transaction and dies before its end. */
static void die_in_transaction(void)
{
	struct pml_tx tx;
	struct pml_fs *fs = open_good();
	uint8_t *p = pml_at(fs, object);
	uint64_t other;
	int err = pml_tx_begin(fs, &tx);
	for (size_t at = 0; at < sizeof(struct pml_media_itable_chunk) && !err; at += 256) {
		err = pml_tx_add(p + at, 128);
		memset(p + at, 2, 128);
	}
	for (int i = 0; i < 100 && !err; i++)
		err = pml_tx_alloc(1000, PML_TYPE_DIRENT, &other);
	_Exit(err ? 1 : 0);
}

/* Recovery finds the extensions of the log, and frees them. */
static void test_a_death_inside_a_large_transaction_undoes_it(void)
{
	struct pml_tx tx;
	begin();
	struct pml_fs *fs = open_good();
	REQUIRE(pml_tx_begin(fs, &tx) == 0);
	REQUIRE(pml_tx_end(&tx, pml_tx_alloc(sizeof(struct pml_media_itable_chunk),
					     PML_TYPE_ITABLE_CHUNK, &object)) == 0);
	pml_fs_close(fs);
	for (int round = 0; round < 3; round++) {
		pid_t pid = fork();
		if (pid == 0)
			die_in_transaction();
		int status = -1;
		REQUIRE(waitpid(pid, &status, 0) == pid);
		CHECK_EQ(status, 0);
		fs = open_good();
		const uint8_t *p = pml_at(fs, object);
		unsigned int wrong = 0;
		for (size_t at = 0; at < sizeof(struct pml_media_itable_chunk); at++)
			wrong += p[at] != 0;
		CHECK_EQ(wrong, 0);
		pml_fs_close(fs);
	}
}

/* ---- small things -------------------------------------------------------- */

static void test_offsets_from_the_device_are_bounded(void)
{
	begin();
	struct pml_fs *fs = open_good();
	CHECK(!pml_pool_has(fs, 0, 8));
	CHECK(!pml_pool_has(fs, 4096, 8));
	CHECK(pml_pool_has(fs, SIZE - 8, 8));
	CHECK(!pml_pool_has(fs, SIZE - 8, 9));
	CHECK(!pml_pool_has(fs, SIZE / 2 + 1, 8));
	CHECK(!pml_pool_has(fs, UINT64_MAX - 7, 8));
	CHECK(!pml_pool_has(fs, UINT64_MAX - 7, UINT64_MAX));
	CHECK(!pml_pool_has(fs, SIZE / 2, UINT64_MAX));
	uint8_t *base;
	uint64_t bytes;
	pml_fs_mapping(fs, &base, &bytes);
	CHECK_EQ(bytes, SIZE);
	CHECK(base == pml_at(fs, 0));
	pml_fs_close(fs);
}

static void test_data_stores_store(void)
{
	begin();
	struct pml_fs *fs = open_good();
	uint64_t first;
	uint64_t n;
	uint8_t data[5000];
	REQUIRE(pml_alloc_take(fs, 2, 0, &first, &n) == 0);
	uint8_t *p = pml_block_addr(fs, first);
	memset(data, 0x77, sizeof(data));
	pml_data_copy(fs, p + 13, data, sizeof(data));
	pml_data_drain(fs);
	pml_data_persist(fs, p + 13, sizeof(data));
	CHECK(memcmp(p + 13, data, sizeof(data)) == 0);
	pml_data_zero(fs, p + 100, 4000);
	pml_data_drain(fs);
	CHECK_EQ(p[99], 0x77);
	CHECK_EQ(p[100], 0);
	CHECK_EQ(p[4099], 0);
	CHECK_EQ(p[4100], 0x77);
	pml_alloc_unshare(fs, first, n);
	pml_fs_close(fs);
}

static void test_times_go_there_and_back(void)
{
	static const struct timespec times[] = {
		{0, 0}, {-1, 999999999}, {-2147483648ll, 0}, {1795000000, 5}, {16299260423ll, 1}};
	for (size_t i = 0; i < PML_ARRAY_LEN(times); i++) {
		struct timespec back = pml_time_to(pml_time_from(&times[i]));
		CHECK_EQ(back.tv_sec, times[i].tv_sec);
		CHECK_EQ(back.tv_nsec, times[i].tv_nsec);
	}
	const struct timespec early = {-2147483649ll, 999999999};
	const struct timespec late = {INT64_MAX, 0};
	CHECK_EQ(pml_time_from(&early), 0);
	/* The latest time is a whole second, as that of other filesystems of Linux. */
	CHECK_EQ(pml_time_to(pml_time_from(&late)).tv_sec, 16299260424ll);
	CHECK_EQ(pml_time_to(pml_time_from(&late)).tv_nsec, 0);
	CHECK(pml_time_now() > pml_time_from(&times[3]) - 86400ull * 1000000000u * 365 * 3);
}

int main(void)
{
	const char *folder = getenv("PML_TEST_DIR");
	maker = getpid();
	(void)snprintf(path, sizeof(path), "%s/pmemleasefs-test-pool-%ld",
		       folder ? folder : "/dev/shm", (long)maker);
	(void)atexit(remove_device);
	TAP_RUN(test_mkfs_makes_a_file_that_opens);
	TAP_RUN(test_a_fresh_filesystem_has_a_root_directory);
	TAP_RUN(test_two_filesystems_have_different_uuids);
	TAP_RUN(test_mkfs_refuses_wrong_objects_and_sizes);
	TAP_RUN(test_a_block_device_is_refused_with_the_remedy);
	TAP_RUN(test_mkfs_takes_an_existing_empty_file);
	TAP_RUN(test_a_size_that_differs_needs_force);
	TAP_RUN(test_mkfs_does_not_overwrite_what_is_there);
	TAP_RUN(test_force_leaves_nothing_of_the_old_contents);
	TAP_RUN(test_a_new_file_is_removed_after_an_error);
	TAP_RUN(test_what_is_not_ours_is_refused);
	TAP_RUN(test_a_damaged_pool_header_is_refused);
	TAP_RUN(test_a_changed_size_is_refused_and_the_old_one_works);
	TAP_RUN(test_a_device_is_mounted_once);
	TAP_RUN(test_a_damaged_super_block_is_refused);
	TAP_RUN(test_unknown_ro_compat_features_allow_reading);
	TAP_RUN(test_an_interrupted_mkfs_is_named);
	TAP_RUN(test_a_death_inside_a_large_transaction_undoes_it);
	TAP_RUN(test_offsets_from_the_device_are_bounded);
	TAP_RUN(test_data_stores_store);
	TAP_RUN(test_times_go_there_and_back);
	return tap_done();
}
