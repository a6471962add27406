/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_scale.c -- costs that grow with the logarithm of a size, or not at all
 *
 * Nothing is timed.  Costs are counted: look-ups of offsets on the device, one for
 * each B+tree node and entry that is read; bytes that transactions snapshot; ranges
 * that are persisted.  The linker puts the functions below in front of the real ones.
 */
#include <sys/wait.h>
#include <unistd.h>

#include "../../fs/alloc.h"
#include "../../fs/extent.h"
#include "../../fs/pool.h"
#include "../support/fs_pool.h"
#include "../tap.h"

#define SMALL 1000u
#define LARGE 60000u
/* Between SMALL and LARGE a tree gets two levels more. */
#define FEW_TIMES 3

static struct fs_pool pool;

/* ---- counting ------------------------------------------------------------ */

static uint64_t nlooks, snapshot_bytes, npersists;

bool __real_pml_pool_has(const struct pml_fs *fs, uint64_t offset, uint64_t bytes);
bool __wrap_pml_pool_has(const struct pml_fs *fs, uint64_t offset, uint64_t bytes);
int __real_pml_tx_add(const void *addr, size_t bytes);
int __wrap_pml_tx_add(const void *addr, size_t bytes);
void __real_pml_data_persist(const struct pml_fs *fs, const void *addr, size_t bytes);
void __wrap_pml_data_persist(const struct pml_fs *fs, const void *addr, size_t bytes);

bool __wrap_pml_pool_has(const struct pml_fs *fs, uint64_t offset, uint64_t bytes)
{
	nlooks++;
	return __real_pml_pool_has(fs, offset, bytes);
}

int __wrap_pml_tx_add(const void *addr, size_t bytes)
{
	snapshot_bytes += bytes;
	return __real_pml_tx_add(addr, bytes);
}

void __wrap_pml_data_persist(const struct pml_fs *fs, const void *addr, size_t bytes)
{
	npersists++;
	__real_pml_data_persist(fs, addr, bytes);
}

struct cost {
	uint64_t looks;
	uint64_t bytes;
};

static void reset(void)
{
	nlooks = snapshot_bytes = npersists = 0;
}

static struct cost cost_of(uint64_t n)
{
	return (struct cost){nlooks / n, snapshot_bytes / n};
}

static void check_grows_slowly(const char *what, struct cost small, struct cost large)
{
	printf("# %s: %llu to %llu looks, %llu to %llu bytes of snapshots\n", what,
	       (unsigned long long)small.looks, (unsigned long long)large.looks,
	       (unsigned long long)small.bytes, (unsigned long long)large.bytes);
	CHECK(large.looks <= FEW_TIMES * small.looks + 2);
	CHECK(large.bytes <= FEW_TIMES * small.bytes + 256);
}

/* ---- a directory --------------------------------------------------------- */

static const char *name_of(unsigned int i)
{
	static char name[32];
	(void)snprintf(name, sizeof(name), "entry-%u", i);
	return name;
}

static void create_entries(struct pml_inode *dir, unsigned int first, unsigned int end)
{
	for (unsigned int i = first; i < end; i++)
		pml_inode_put(fs_pool_create(dir, name_of(i), S_IFREG | 0644), 1);
}

struct dir_cost {
	struct cost create, lookup, list, unlink;
};

static bool count_entry(void *arg, const struct pml_dirent *entry)
{
	unsigned int *n = arg;
	(void)entry;
	++*n;
	return true;
}

static struct dir_cost run_dir(struct pml_inode *dir, unsigned int n)
{
	struct dir_cost cost;
	create_entries(dir, 0, n - SMALL);
	reset();
	create_entries(dir, n - SMALL, n);
	cost.create = cost_of(SMALL);
	reset();
	for (unsigned int i = 0; i < SMALL; i++) {
		struct pml_inode *inode = NULL;
		CHECK_EQ(pml_dir_lookup(dir, name_of(i * (n / SMALL)), &inode), 0);
		if (inode)
			pml_inode_put(inode, 1);
	}
	cost.lookup = cost_of(SMALL);
	reset();
	unsigned int seen = 0;
	CHECK_EQ(pml_dir_read(dir, 0, count_entry, &seen), 0);
	CHECK_EQ(seen, n + 2);
	cost.list = cost_of(n);
	reset();
	for (unsigned int i = 0; i < SMALL; i++)
		CHECK_EQ(pml_dir_unlink(dir, name_of(i)), 0);
	cost.unlink = cost_of(SMALL);
	for (unsigned int i = SMALL; i < n; i++)
		CHECK_EQ(pml_dir_unlink(dir, name_of(i)), 0);
	return cost;
}

static void test_a_large_directory_costs_little_more_than_a_small_one(void)
{
	fs_pool_make(&pool, 384ull << 20);
	struct pml_inode *root = fs_pool_root(&pool);
	struct pml_inode *small = fs_pool_create(root, "small", S_IFDIR | 0755);
	struct pml_inode *large = fs_pool_create(root, "large", S_IFDIR | 0755);
	struct dir_cost of_small = run_dir(small, SMALL);
	struct dir_cost of_large = run_dir(large, LARGE);
	check_grows_slowly("create", of_small.create, of_large.create);
	check_grows_slowly("look-up", of_small.lookup, of_large.lookup);
	check_grows_slowly("list, per entry", of_small.list, of_large.list);
	check_grows_slowly("unlink", of_small.unlink, of_large.unlink);
	pml_inode_put(small, 1);
	pml_inode_put(large, 1);
	CHECK_EQ(pml_dir_rmdir(root, "large"), 0);
	pml_inode_put(root, 1);
	char reason[PML_REASON_BYTES] = "";
	CHECK_EQ(pml_fs_audit(pool.fs, NULL, NULL, reason), 0);
	fs_pool_remove(&pool);
}

/* ---- a file of many extents ---------------------------------------------- */

static uint8_t block[PML_BLOCK_BYTES];

/* Every second block: each is an extent. */
static void write_extents(struct pml_inode *file, unsigned int first, unsigned int end)
{
	for (unsigned int i = first; i < end; i++)
		CHECK_EQ(pml_file_write(file, block, sizeof(block), 2ull * i * PML_BLOCK_BYTES,
					false, NULL),
			 0);
}

struct file_cost {
	struct cost append, read, clone, truncate;
	uint64_t sync;
};

static struct file_cost run_file(struct pml_inode *file, struct pml_inode *twin, unsigned int n)
{
	struct file_cost cost;
	struct iovec iov[PML_IOV_MAX];
	write_extents(file, 0, n - SMALL);
	reset();
	write_extents(file, n - SMALL, n);
	cost.append = cost_of(SMALL);
	reset();
	for (unsigned int i = 0; i < SMALL; i++) {
		int niov;
		size_t got;
		int err = pml_file_read_begin(file, 2ull * i * (n / SMALL) * PML_BLOCK_BYTES,
					      PML_BLOCK_BYTES, iov, &niov, &got);
		CHECK_EQ(err, 0);
		if (!err)
			pml_file_read_end(file);
	}
	cost.read = cost_of(SMALL);
	reset();
	CHECK_EQ(pml_file_sync(file), 0);
	cost.sync = npersists;
	reset();
	uint64_t size = pml_inode_size(file), done = 0, bytes = 1;
	while (done < size && bytes) {
		CHECK_EQ(pml_file_clone(file, done, twin, done, size - done, NULL, &bytes), 0);
		done += bytes;
	}
	cost.clone = cost_of(n);
	reset();
	CHECK_EQ(pml_file_truncate(twin, 0, NULL), 0);
	cost.truncate = cost_of(n);
	CHECK_EQ(pml_file_truncate(file, 0, NULL), 0);
	return cost;
}

static void test_a_file_of_many_extents_costs_little_more_than_one_of_few(void)
{
	fs_pool_make(&pool, 512ull << 20);
	struct pml_inode *root = fs_pool_root(&pool);
	struct pml_inode *file = fs_pool_create(root, "file", S_IFREG | 0644);
	struct pml_inode *twin = fs_pool_create(root, "twin", S_IFREG | 0644);
	struct file_cost of_small = run_file(file, twin, SMALL);
	struct file_cost of_large = run_file(file, twin, LARGE);
	check_grows_slowly("append", of_small.append, of_large.append);
	check_grows_slowly("read", of_small.read, of_large.read);
	check_grows_slowly("clone, per extent", of_small.clone, of_large.clone);
	check_grows_slowly("truncate, per extent", of_small.truncate, of_large.truncate);
	CHECK(of_large.sync <= of_small.sync);
	CHECK(of_small.sync > 0);
	pml_inode_put(file, 1);
	pml_inode_put(twin, 1);
	pml_inode_put(root, 1);
	fs_pool_remove(&pool);
}

/* ---- large devices and files --------------------------------------------- */

/* Resident memory of the process that is no file's, in MiB. */
static uint64_t own_mib(void)
{
	FILE *f = fopen("/proc/self/status", "re");
	char line[128];
	unsigned long kib = 0;
	while (f && fgets(line, sizeof(line), f))
		if (sscanf(line, "RssAnon: %lu kB", &kib) == 1)
			break;
	if (f)
		(void)fclose(f);
	return kib / 1024;
}

static void test_a_terabyte_of_free_space_takes_no_memory(void)
{
	uint64_t before = own_mib();
	fs_pool_make(&pool, 1ull << 40);
	struct statvfs st;
	pml_fs_statvfs(pool.fs, &st);
	CHECK(st.f_blocks > (1ull << 28) / 100 * 95);
	CHECK_EQ(st.f_bfree, st.f_blocks);

	struct pml_inode *root = fs_pool_root(&pool);
	struct pml_inode *file = fs_pool_create(root, "file", S_IFREG | 0644);
	const uint64_t size = 16ull << 40;
	uint64_t at = 0;
	struct stat attr;
	CHECK_EQ(pml_file_truncate(file, size, NULL), 0);
	CHECK_EQ(pml_file_write(file, block, 1, size - 1, false, NULL), 0);
	reset();
	CHECK_EQ(pml_file_seek(file, 0, SEEK_DATA, &at), 0);
	CHECK_EQ(at, size - PML_BLOCK_BYTES);
	CHECK_EQ(pml_file_seek(file, at, SEEK_HOLE, &at), 0);
	CHECK_EQ(at, size);
	CHECK(nlooks < 16);
	pml_inode_stat(file, &attr);
	CHECK_EQ(attr.st_size, size);
	CHECK_EQ(attr.st_blocks, PML_BLOCK_BYTES / 512);
	CHECK_EQ(pml_file_truncate(file, 1, NULL), 0);
	pml_inode_stat(file, &attr);
	CHECK_EQ(attr.st_blocks, 0);
	pml_inode_put(file, 1);
	pml_inode_put(root, 1);
	fs_pool_reopen(&pool);
	CHECK(own_mib() < before + 64);
	fs_pool_remove(&pool);
}

static void test_mounting_looks_at_each_file_a_few_times(void)
{
	enum { NFILES = 20000 };
	fs_pool_make(&pool, 384ull << 20);
	fs_pool_close(&pool);
	/* The process dies without unmounting. */
	pid_t child = fork();
	if (child == 0) {
		fs_pool_reopen(&pool);
		struct pml_inode *dir = fs_pool_root(&pool);
		for (unsigned int i = 0; i < NFILES; i++) {
			struct pml_inode *f = fs_pool_create(dir, name_of(i), S_IFREG | 0644);
			if (pml_file_write(f, block, 1, 0, false, NULL) != 0)
				_exit(1);
			pml_inode_put(f, 1);
		}
		_exit(0);
	}
	int status = 1;
	CHECK(child > 0 && waitpid(child, &status, 0) == child);
	CHECK_EQ(status, 0);
	reset();
	fs_pool_reopen(&pool);
	printf("# %llu looks at the device for each file\n", (unsigned long long)(nlooks / NFILES));
	CHECK(nlooks < 8ull * NFILES);
	struct pml_fs_counts counts;
	pml_fs_counts(pool.fs, &counts);
	CHECK_EQ(counts.used_blocks, NFILES);
	CHECK_EQ(counts.inodes, NFILES + 1);
	fs_pool_remove(&pool);
}

/* ---- contiguous files ----------------------------------------------------- */

#define WRITERS	     4u
#define WRITER_BYTES (24u << 20)
#define REQUEST	     (128u << 10)

struct layout {
	unsigned int nextents;
	unsigned int nbad; /* of 2 MiB and more, and not aligned so */
};

static int see_extent(void *arg, const struct pml_extent *e)
{
	struct layout *layout = arg;
	layout->nextents++;
	layout->nbad += e->nblocks >= 512 && e->block % 512 != 0;
	return 0;
}

static void test_files_written_side_by_side_lie_in_few_aligned_extents(void)
{
	fs_pool_make(&pool, 256ull << 20);
	struct pml_inode *root = fs_pool_root(&pool);
	struct pml_inode *file[WRITERS];
	uint8_t *data = calloc(1, REQUEST);
	for (unsigned int i = 0; i < WRITERS; i++)
		file[i] = fs_pool_create(root, name_of(i), S_IFREG | 0644);
	for (uint64_t at = 0; data && at < WRITER_BYTES; at += REQUEST)
		for (unsigned int i = 0; i < WRITERS; i++)
			CHECK_EQ(pml_file_write(file[i], data, REQUEST, at, false, NULL), 0);
	for (unsigned int i = 0; i < WRITERS; i++) {
		struct layout layout = {0};
		CHECK_EQ(pml_extent_walk(pool.fs, file[i]->media, 0, see_extent, &layout), 0);
		printf("# %u extents\n", layout.nextents);
		/* The beginning, and one for each doubling. */
		CHECK(layout.nextents <= 8);
		CHECK_EQ(layout.nbad, 0);
		pml_inode_put(file[i], 1);
	}
	free(data);
	pml_inode_put(root, 1);
	fs_pool_remove(&pool);
}

static void test_windows_are_let_go_before_the_device_is_full(void)
{
	fs_pool_make(&pool, FS_POOL_BYTES);
	struct pml_inode *root = fs_pool_root(&pool);
	uint8_t *data = calloc(1, REQUEST);
	struct pml_inode *file[WRITERS];
	/* Each holds a window that it does not fill. */
	for (unsigned int i = 0; data && i < WRITERS; i++) {
		file[i] = fs_pool_create(root, name_of(i), S_IFREG | 0644);
		for (uint64_t at = 0; at < 4 * REQUEST; at += REQUEST)
			CHECK_EQ(pml_file_write(file[i], data, REQUEST, at, false, NULL), 0);
	}
	struct pml_inode *last = fs_pool_create(root, "last", S_IFREG | 0644);
	int err = 0;
	for (uint64_t at = 0; !err; at += PML_BLOCK_BYTES)
		err = pml_file_write(last, block, sizeof(block), at, false, NULL);
	CHECK_EQ(err, -ENOSPC);
	struct pml_fs_counts counts;
	pml_fs_counts(pool.fs, &counts);
	CHECK_EQ(counts.free_blocks, 0);
	for (unsigned int i = 0; i < WRITERS; i++)
		pml_inode_put(file[i], 1);
	CHECK_EQ(pml_file_truncate(last, 0, NULL), 0);
	pml_inode_put(last, 1);
	for (unsigned int i = 0; i < WRITERS; i++)
		CHECK_EQ(pml_dir_unlink(root, name_of(i)), 0);
	CHECK_EQ(pml_dir_unlink(root, "last"), 0);
	pml_inode_put(root, 1);
	pml_fs_counts(pool.fs, &counts);
	CHECK_EQ(counts.used_blocks, 0);
	char reason[PML_REASON_BYTES] = "";
	CHECK_EQ(pml_fs_audit(pool.fs, NULL, NULL, reason), 0);
	free(data);
	fs_pool_remove(&pool);
}

int main(void)
{
	TAP_RUN(test_a_large_directory_costs_little_more_than_a_small_one);
	TAP_RUN(test_a_file_of_many_extents_costs_little_more_than_one_of_few);
	TAP_RUN(test_a_terabyte_of_free_space_takes_no_memory);
	TAP_RUN(test_mounting_looks_at_each_file_a_few_times);
	TAP_RUN(test_files_written_side_by_side_lie_in_few_aligned_extents);
	TAP_RUN(test_windows_are_let_go_before_the_device_is_full);
	return tap_done();
}
