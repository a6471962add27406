/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_heap.c -- what libpmemobj believes is checked before it does
 *
 * Each damage is made on a closed pool, with the checksums that libpmemobj looks at put
 * right, and must be reported by the structure's name and refused by pml_fs_open().
 */
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/mman.h>

#include "../../fs/alloc.h"
#include "../../fs/itable.h"
#include "../../fs/tx.h"
#include "../tap.h"
#include "fs_pool.h"

#define CHUNK		    PML_HEAP_CHUNK_BYTES
#define DESCRIPTOR	    ((uint64_t)PML_POOL_DESCRIPTOR_OFFSET)
#define UNDO		    (PML_LANES_OFFSET + (uint64_t)PML_LOG_UNDO_OFFSET)
#define EXTERNAL	    (PML_LANES_OFFSET + (uint64_t)PML_LOG_EXTERNAL_OFFSET)
#define INTERNAL	    ((uint64_t)PML_LANES_OFFSET)
#define LOG_WORD(log, word) ((log) + 8ull * (word))

/* ---- the device as bytes -------------------------------------------------- */

static struct fs_pool pool;
static uint8_t *image; /* of the closed device, for writing */

static void map_image(void)
{
	int fd = open(pool.path, O_RDWR | O_CLOEXEC);
	image = mmap(NULL, FS_POOL_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (fd < 0 || image == MAP_FAILED)
		BAIL_OUT("%s: %s", pool.path, strerror(errno));
	(void)close(fd);
}

/* A filesystem with files of all kinds, closed. */
static void begin(void)
{
	fs_pool_make(&pool, FS_POOL_BYTES);
	struct pml_inode *root = fs_pool_root(&pool);
	for (int i = 0; i < 100; i++) {
		char name[32];
		(void)snprintf(name, sizeof(name), "file%d", i);
		struct pml_inode *file = fs_pool_create(root, name, S_IFREG | 0644);
		if (pml_file_write(file, name, sizeof(name), 4096u * (unsigned int)i, false, NULL))
			BAIL_OUT("write");
		pml_inode_put(file, 1);
	}
	pml_inode_put(root, 1);
	fs_pool_close(&pool);
	map_image();
}

static void end(void)
{
	(void)munmap(image, FS_POOL_BYTES);
	fs_pool_remove(&pool);
}

static uint64_t get(uint64_t offset)
{
	uint64_t word;
	memcpy(&word, image + offset, sizeof(word));
	return word;
}

static void put(uint64_t offset, uint64_t word)
{
	memcpy(image + offset, &word, sizeof(word));
}

/* As libpmemobj computes it, in another way than fs/heap.c: word by word. */
static uint64_t sum_of(uint64_t offset, uint64_t bytes, uint64_t skip, uint64_t sum)
{
	uint32_t low = (uint32_t)sum, high = (uint32_t)(sum >> 32);
	for (uint64_t at = offset; at < offset + bytes; at += 4) {
		uint32_t word;
		memcpy(&word, image + at, sizeof(word));
		if (at - skip >= 8)
			low += word;
		high += low;
	}
	return (uint64_t)high << 32 | low;
}

static void fix_descriptor(void)
{
	uint64_t at = DESCRIPTOR + offsetof(struct pml_pool_descriptor, checksum);
	put(at, sum_of(DESCRIPTOR, PML_POOL_DESCRIPTOR_BYTES, at, 0));
}

static uint64_t heap_at(void)
{
	return get(DESCRIPTOR + offsetof(struct pml_pool_descriptor, heap_offset));
}

static void fix_heap_header(void)
{
	uint64_t at = heap_at() + offsetof(struct pml_heap_header, checksum);
	put(at, sum_of(heap_at(), sizeof(struct pml_heap_header), at, 0));
}

static uint64_t zone_at(void)
{
	return heap_at() + sizeof(struct pml_heap_header);
}

static struct pml_heap view(void)
{
	struct pml_heap heap;
	pml_heap_init(&heap, image, FS_POOL_BYTES);
	return heap;
}

struct wanted {
	uint16_t type;
	uint32_t nchunks_min;
	struct pml_heap_block found;
};

static int find(void *arg, const struct pml_heap_block *block)
{
	struct wanted *wanted = arg;
	if (block->header.type != wanted->type || block->header.nchunks < wanted->nchunks_min)
		return 0;
	wanted->found = *block;
	return 1;
}

static struct pml_heap_block find_block(uint16_t type, uint32_t nchunks_min)
{
	struct pml_heap heap = view();
	struct wanted wanted = {.type = type, .nchunks_min = nchunks_min};
	if (!pml_heap_blocks(&heap, find, &wanted))
		BAIL_OUT("no block of type %u", type);
	return wanted.found;
}

/* ---- reports --------------------------------------------------------------- */

struct reports {
	unsigned int n;
	char first[64];
};

static void note(void *arg, uint64_t offset, const char *structure, const char *problem)
{
	struct reports *reports = arg;
	if (reports->n++ == 0)
		(void)snprintf(reports->first, sizeof(reports->first), "%s", structure);
}

static void check_sound(bool is_deep)
{
	struct reports reports = {0};
	CHECK_EQ(pml_heap_check(image, FS_POOL_BYTES, is_deep, note, &reports), 0);
	CHECK_EQ(reports.n, 0);
	CHECK_STR(reports.first, "");
}

/* It is reported and refused; @is_deep: only by the deep check. */
static void check_refused(const char *structure)
{
	struct reports reports = {0};
	CHECK_EQ(pml_heap_check(image, FS_POOL_BYTES, false, note, &reports), -EUCLEAN);
	CHECK_STR(reports.first, structure);
	CHECK_EQ(fs_pool_try_open(&pool), -EUCLEAN);
}

/* A word is damaged, looked at and put back. */
static void check_word(uint64_t offset, uint64_t word, void (*fix)(void), const char *structure)
{
	uint64_t old = get(offset);
	put(offset, word);
	if (fix)
		fix();
	check_refused(structure);
	put(offset, old);
	if (fix)
		fix();
	check_sound(true);
}

#define WORD_OF(structure, field) offsetof(struct structure, field)

static void test_a_sound_device_is_sound(void)
{
	begin();
	check_sound(false);
	check_sound(true);
	end();
}

static void test_pool_header_and_descriptor(void)
{
	begin();
	const uint64_t header_checksum = WORD_OF(pml_pool_header, checksum);
	check_word(header_checksum, get(header_checksum) + 1, NULL, "pool header");
	check_word(DESCRIPTOR + 512, 1, NULL, "pool descriptor");
	static const struct {
		size_t field;
		uint64_t value;
	} damages[] = {
		{WORD_OF(pml_pool_descriptor, lanes_offset), 0},
		{WORD_OF(pml_pool_descriptor, lanes_offset), FS_POOL_BYTES},
		{WORD_OF(pml_pool_descriptor, nlanes), 0},
		{WORD_OF(pml_pool_descriptor, nlanes), UINT64_MAX},
		{WORD_OF(pml_pool_descriptor, heap_offset), 0},
		{WORD_OF(pml_pool_descriptor, heap_offset), FS_POOL_BYTES - 4096},
		{WORD_OF(pml_pool_descriptor, heap_offset), UINT64_MAX - 4095},
		{WORD_OF(pml_pool_descriptor, heap_bytes), UINT64_MAX},
		{WORD_OF(pml_pool_descriptor, run_id), 1},
		{WORD_OF(pml_pool_descriptor, root_offset), 0},
		{WORD_OF(pml_pool_descriptor, root_offset), FS_POOL_BYTES},
		{WORD_OF(pml_pool_descriptor, root_offset), 8},
		{WORD_OF(pml_pool_descriptor, root_bytes), 1ull << 40},
	};
	for (size_t i = 0; i < PML_ARRAY_LEN(damages); i++)
		check_word(DESCRIPTOR + damages[i].field, damages[i].value, fix_descriptor,
			   "pool descriptor");
	end();
}

static void test_heap_and_zone_headers(void)
{
	begin();
	check_word(heap_at(), 0, NULL, "heap header");
	check_word(heap_at(), 0, fix_heap_header, "heap header");
	check_word(heap_at() + WORD_OF(pml_heap_header, chunk_bytes), 4096, fix_heap_header,
		   "heap header");
	check_word(heap_at() + WORD_OF(pml_heap_header, chunks_per_zone), 1ull << 40,
		   fix_heap_header, "heap header");
	uint64_t zone = get(zone_at());
	check_word(zone_at(), zone ^ 1, NULL, "zone header");
	check_word(zone_at(), zone + (1ull << 32), NULL, "zone header");
	check_word(zone_at(), (uint32_t)zone, NULL, "zone header");
	end();
}

static uint64_t chunk_word(uint16_t type, uint16_t flags, uint32_t nchunks)
{
	return (uint64_t)nchunks << 32 | (uint32_t)flags << 16 | type;
}

static void test_chunk_headers(void)
{
	begin();
	struct pml_heap_block free_block = find_block(PML_CHUNK_FREE, 2);
	struct pml_heap_block run = find_block(PML_CHUNK_RUN, 2);
	uint32_t n = free_block.header.nchunks;
	static const char name[] = "chunk header";
	check_word(free_block.header_offset, chunk_word(PML_CHUNK_FREE, 0, 0), NULL, name);
	check_word(free_block.header_offset, chunk_word(PML_CHUNK_FREE, 0, UINT32_MAX), NULL, name);
	check_word(free_block.header_offset, chunk_word(PML_CHUNK_UNKNOWN, 0, n), NULL, name);
	check_word(free_block.header_offset, chunk_word(PML_CHUNK_FOOTER, 0, n), NULL, name);
	check_word(free_block.header_offset, chunk_word(PML_CHUNK_RUN_DATA, 0, n), NULL, name);
	check_word(free_block.header_offset, chunk_word(77, 0, n), NULL, name);
	check_word(free_block.header_offset, chunk_word(PML_CHUNK_FREE, 4, n), NULL, name);
	check_word(free_block.header_offset, chunk_word(PML_CHUNK_USED, 0, n), NULL, name);
	check_word(run.header_offset, get(run.header_offset) & ~0xffff0000ull, NULL, name);
	check_word(run.header_offset + 8, chunk_word(PML_CHUNK_RUN_DATA, 0, 2), NULL, name);
	check_word(run.header_offset + 8, chunk_word(PML_CHUNK_FREE, 0, 1), NULL, name);
	end();
}

static void test_runs(void)
{
	begin();
	struct pml_heap_block run = find_block(PML_CHUNK_RUN, 1);
	check_word(run.offset, 0, NULL, "run header");
	check_word(run.offset, 17, NULL, "run header");
	check_word(run.offset, 1ull << 40, NULL, "run header");
	check_word(run.offset + 8, 64, NULL, "run header");
	/* The largest units: all bits are in one word, most of them behind the last unit. */
	uint64_t bits = get(run.offset + 16);
	REQUIRE(bits >> 63);
	check_word(run.offset + 16, bits & (UINT64_MAX >> 1), NULL, "run bitmap");
	end();
}

/* libpmemobj does not end at an entry of a kind that it does not know. */
static void test_logs(void)
{
	begin();
	uint64_t entry = INTERNAL + PML_LOG_HEADER_BYTES;
	check_word(LOG_WORD(INTERNAL, PML_LOG_CAPACITY), UINT64_MAX, NULL, "internal redo log");
	check_word(LOG_WORD(EXTERNAL, PML_LOG_CAPACITY), 1ull << 40, NULL, "external redo log");
	check_word(LOG_WORD(UNDO, PML_LOG_CAPACITY), 1ull << 40, NULL, "undo log");
	check_word(LOG_WORD(UNDO, PML_LOG_FLAGS), 1, NULL, "undo log");
	check_word(LOG_WORD(INTERNAL, PML_LOG_NEXT), zone_at() + CHUNK, NULL, "internal redo log");
	check_word(LOG_WORD(UNDO, PML_LOG_NEXT), FS_POOL_BYTES, NULL, "undo log");
	check_word(LOG_WORD(UNDO, PML_LOG_NEXT), UINT64_MAX - 7, NULL, "undo log");
	check_word(LOG_WORD(EXTERNAL, PML_LOG_NEXT), EXTERNAL, NULL, "external redo log");
	put(LOG_WORD(INTERNAL, PML_LOG_CAPACITY), PML_LOG_INTERNAL_BYTES);
	check_word(entry, 7ull << 61 | zone_at(), NULL, "internal redo log");
	check_word(entry, 3ull << 61 | zone_at(), NULL, "internal redo log");
	check_word(UNDO + PML_LOG_HEADER_BYTES, 7ull << 61 | zone_at(), NULL, "undo log");
	check_word(UNDO + PML_LOG_HEADER_BYTES, 1ull << 61 | zone_at(), NULL, "undo log");
	end();
}

/* A log that goes in a circle: a continuation that is its own next one. */
static void test_a_loop_of_logs(void)
{
	begin();
	uint64_t at = find_block(PML_CHUNK_FREE, 2).offset + 128;
	put(LOG_WORD(at, PML_LOG_CAPACITY), 640);
	put(LOG_WORD(at, PML_LOG_NEXT), at);
	check_word(LOG_WORD(UNDO, PML_LOG_NEXT), at, NULL, "undo log");
	end();
}

static void fix_internal(void)
{
	put(INTERNAL, sum_of(INTERNAL, PML_LOG_HEADER_BYTES + PML_ENTRY_REDO_BYTES, INTERNAL, 0));
}

/* A redo log that libpmemobj would carry out. */
static void check_redo(uint64_t offset, uint64_t value, const char *structure)
{
	uint64_t entry = INTERNAL + PML_LOG_HEADER_BYTES;
	put(LOG_WORD(INTERNAL, PML_LOG_CAPACITY), PML_LOG_HEADER_BYTES);
	put(entry + 8, value);
	put(entry + 16, 0);
	check_word(entry, PML_ENTRY_SET | offset, fix_internal, structure);
}

static void test_redo_logs_are_judged_by_what_they_do(void)
{
	begin();
	check_redo(FS_POOL_BYTES, 0, "internal redo log");
	check_redo(8, 0, "internal redo log");
	check_redo(DESCRIPTOR + WORD_OF(pml_pool_descriptor, nlanes), 0, "internal redo log");
	check_redo(UNDO + PML_LOG_HEADER_BYTES, 0, "internal redo log");
	check_redo(zone_at(), 0x1111, "zone header");
	check_redo(find_block(PML_CHUNK_FREE, 2).header_offset, 0, "chunk header");
	check_redo(find_block(PML_CHUNK_RUN, 1).offset, 5, "run header");
	check_redo(LOG_WORD(UNDO, PML_LOG_NEXT), find_block(PML_CHUNK_RUN, 1).offset + 256,
		   "undo log");
	end();
}

static void test_a_redo_log_is_carried_out(void)
{
	begin();
	struct pml_heap_block block = find_block(PML_CHUNK_FREE, 2);
	uint64_t entry = INTERNAL + PML_LOG_HEADER_BYTES;
	uint64_t unused = get(DESCRIPTOR + WORD_OF(pml_pool_descriptor, root_offset)) +
			  WORD_OF(pml_media_super, reserved1);
	put(LOG_WORD(INTERNAL, PML_LOG_CAPACITY), PML_LOG_HEADER_BYTES);
	put(entry, PML_ENTRY_OR | unused);
	put(entry + 8, 0x5555);
	put(entry + 16, 0);
	fix_internal();
	check_sound(true);
	CHECK_EQ(fs_pool_try_open(&pool), 0);
	fs_pool_close(&pool);
	CHECK_EQ(get(unused), 0x5555);
	block = find_block(PML_CHUNK_FREE, 2);
	put(LOG_WORD(INTERNAL, PML_LOG_CAPACITY), PML_LOG_HEADER_BYTES);
	put(entry, PML_ENTRY_SET | block.header_offset);
	put(entry + 8, get(block.header_offset));
	/* libpmemobj looks at the headers before it does that, too, and never ends at 0 chunks. */
	fix_internal();
	check_word(block.header_offset, chunk_word(PML_CHUNK_FREE, 0, 0), NULL, "chunk header");
	end();
}

static void fix_undo(void)
{
	uint64_t at = UNDO + PML_LOG_HEADER_BYTES;
	uint64_t bytes = pml_round_up(get(at + 16) + PML_ENTRY_UNDO_HEADER_BYTES, 64);
	if (bytes > PML_LOG_UNDO_BYTES)
		return;
	uint64_t sum = sum_of(at, bytes, at + 8, 0);
	uint64_t generation = LOG_WORD(UNDO, PML_LOG_GENERATION);
	put(at + 8, sum_of(generation, 8, UINT64_MAX, sum));
}

static void test_undo_logs_restore_objects_only(void)
{
	begin();
	uint64_t at = UNDO + PML_LOG_HEADER_BYTES;
	uint64_t super = get(DESCRIPTOR + WORD_OF(pml_pool_descriptor, root_offset));
	uint64_t old = get(at);
	put(at + 16, 8);
	put(at + 24, get(super));
	put(at + 64, 0);
	check_word(at, PML_ENTRY_COPY | zone_at(), fix_undo, "undo log");
	check_word(at, PML_ENTRY_COPY | find_block(PML_CHUNK_RUN, 1).offset, fix_undo, "undo log");
	check_word(at, PML_ENTRY_COPY | (super - 8), fix_undo, "undo log");
	check_word(at, PML_ENTRY_FILL | UNDO, fix_undo, "undo log");
	put(at, PML_ENTRY_COPY | super);
	check_word(at + 16, UINT64_MAX - 30, fix_undo, "undo log");
	check_word(at + 16, 4096, fix_undo, "undo log");
	fix_undo();
	check_sound(true);
	put(at, old);
	end();
}

static void test_the_deep_check_looks_at_every_object(void)
{
	begin();
	uint64_t root = get(DESCRIPTOR + WORD_OF(pml_pool_descriptor, root_offset));
	const struct pml_media_super *super = (const void *)(image + root);
	const struct pml_media_itable_level *level = (const void *)(image + super->itable[0]);
	uint64_t header = level->chunk[0] - PML_OBJECT_HEADER_BYTES;
	uint64_t old = get(header);
	static const uint64_t sizes[] = {0, 1, 1ull << 30, PML_OBJECT_SIZE_MASK};
	for (size_t i = 0; i < PML_ARRAY_LEN(sizes); i++) {
		struct reports reports = {0};
		put(header, sizes[i]);
		check_sound(false);
		CHECK_EQ(pml_heap_check(image, FS_POOL_BYTES, true, note, &reports), -EUCLEAN);
		CHECK_STR(reports.first, "object header");
		/* The object is needed at mount. */
		CHECK_EQ(fs_pool_try_open(&pool), -EUCLEAN);
	}
	put(header, old);
	check_sound(true);
	end();
}

/* ---- footers ----------------------------------------------------------------- */

static PMEMobjpool *raw;

static PMEMoid alloc_chunks(uint32_t n)
{
	PMEMoid oid;
	if (pmemobj_alloc(raw, &oid, n * CHUNK - PML_OBJECT_HEADER_BYTES, 1, NULL, NULL))
		BAIL_OUT("pmemobj_alloc: %s", pmemobj_errormsg());
	return oid;
}

static void persist_nothing(const void *addr, size_t bytes)
{
}

/*
 * Four objects side by side: @a, @c, @f, @g.  @f is freed; its footer is as it was when all
 * of @a, @c and @f were one free block, as after a power failure that has lost the store.
 * Then @a and @g are freed and an object of four chunks is made.  Does it lie over @c?
 */
static bool is_overlapping(bool with_repair, uint64_t *ret_nrepaired)
{
	const char *given = getenv("PML_TEST_DIR");
	(void)snprintf(pool.path, sizeof(pool.path), "%s/pmemleasefs-test-%ld-raw",
		       given ? given : "/dev/shm", (long)getpid());
	raw = pmemobj_create(pool.path, "raw", FS_POOL_BYTES, 0600);
	if (!raw)
		BAIL_OUT("pmemobj_create: %s", pmemobj_errormsg());
	PMEMoid a = alloc_chunks(2), c = alloc_chunks(2), f = alloc_chunks(3), g = alloc_chunks(2);
	CHECK_EQ(c.off, a.off + 2 * CHUNK);
	CHECK_EQ(f.off, c.off + 2 * CHUNK);
	CHECK_EQ(g.off, f.off + 3 * CHUNK);
	uint64_t f_off = f.off;
	pmemobj_free(&f);
	pmemobj_close(raw);

	map_image();
	struct wanted wanted = {.type = PML_CHUNK_FREE, .nchunks_min = 3};
	struct pml_heap heap = view();
	(void)pml_heap_blocks(&heap, find, &wanted);
	CHECK_EQ(wanted.found.offset + PML_OBJECT_HEADER_BYTES, f_off);
	CHECK_EQ(wanted.found.header.nchunks, 3);
	put(wanted.found.header_offset + 16, chunk_word(PML_CHUNK_FOOTER, 0, 7));
	check_sound(true);
	(void)munmap(image, FS_POOL_BYTES);

	raw = pmemobj_open(pool.path, "raw");
	if (!raw)
		BAIL_OUT("pmemobj_open: %s", pmemobj_errormsg());
	pml_heap_init(&heap, (uint8_t *)raw, FS_POOL_BYTES);
	if (with_repair)
		*ret_nrepaired = pml_heap_repair_footers(&heap, (uint8_t *)raw, persist_nothing);
	pmemobj_free(&a);
	pmemobj_free(&g);
	PMEMoid x = alloc_chunks(4);
	bool is_over = x.off < c.off + 2 * CHUNK && x.off + 4 * CHUNK > c.off;
	pmemobj_close(raw);
	(void)unlink(pool.path);
	return is_over;
}

static void test_a_stale_footer_is_repaired(void)
{
	uint64_t n = 0;
	CHECK(!is_overlapping(true, &n));
	CHECK_EQ(n, 1);
	if (!is_overlapping(false, &n))
		SKIP("this libpmemobj does not go by stale footers");
}

static void test_opening_repairs_footers(void)
{
	begin();
	struct pml_heap_block used = find_block(PML_CHUNK_USED, 2);
	uint64_t footer = used.header_offset + 8ull * (used.header.nchunks - 1);
	/* libpmemobj copies flags there, too. */
	const uint64_t flags = 0xffff0000;
	uint64_t right = chunk_word(PML_CHUNK_FOOTER, 0, used.header.nchunks);
	put(footer, 0);
	check_sound(true);
	CHECK_EQ(fs_pool_try_open(&pool), 0);
	CHECK_EQ(get(footer) & ~flags, right);
	fs_pool_close(&pool);
	/* A footer may say anything and lead out of the zone. */
	put(footer, chunk_word(PML_CHUNK_FOOTER, 0, UINT32_MAX));
	CHECK_EQ(fs_pool_try_open(&pool), 0);
	CHECK_EQ(get(footer) & ~flags, right);
	end();
}

/* ---- objects ------------------------------------------------------------------- */

/* Offsets in a filesystem that is open. */
static uint64_t an_entry(void)
{
	for (PMEMoid oid = pmemobj_first(pool.fs->pool); !OID_IS_NULL(oid); oid = pmemobj_next(oid))
		if (pmemobj_type_num(oid) == PML_TYPE_DIRENT)
			return oid.off;
	BAIL_OUT("no directory entry");
}

static int try_free(uint64_t offset, enum pml_media_type type)
{
	struct pml_tx tx;
	int err = pml_tx_begin(pool.fs, &tx);
	return err ? err : pml_tx_end(&tx, pml_tx_free(pool.fs, offset, type));
}

static void test_only_objects_of_the_type_are_freed(void)
{
	begin();
	fs_pool_reopen(&pool);
	uint64_t entry = an_entry();
	uint64_t root = pml_offset_of(pool.fs, pool.fs->super);
	CHECK_EQ(try_free(entry, PML_TYPE_BTREE_NODE), -EIO);
	CHECK_EQ(try_free(entry + 8, PML_TYPE_DIRENT), -EIO);
	CHECK_EQ(try_free(entry + 64, PML_TYPE_SYMLINK), -EIO);
	CHECK_EQ(try_free(entry + 1, PML_TYPE_DIRENT), -EIO);
	CHECK_EQ(try_free(root, PML_TYPE_DIRENT), -EIO);
	CHECK_EQ(try_free(pool.fs->super->groups[0].object, PML_TYPE_GROUP), -EIO);
	CHECK_EQ(try_free(pool.fs->heap.offset, PML_TYPE_DIRENT), -EIO);
	CHECK_EQ(try_free(0, PML_TYPE_DIRENT), -EIO);
	CHECK_EQ(try_free(UINT64_MAX - 7, PML_TYPE_DIRENT), -EIO);
	CHECK_EQ(try_free(entry, PML_TYPE_DIRENT), 0);
	CHECK_EQ(try_free(entry, PML_TYPE_DIRENT), -EIO);
	end();
}

static void test_a_transaction_frees_an_object_once(void)
{
	begin();
	fs_pool_reopen(&pool);
	uint64_t entry = an_entry();
	uint64_t made;
	struct pml_tx tx;
	REQUIRE(pml_tx_begin(pool.fs, &tx) == 0);
	CHECK_EQ(pml_tx_free(pool.fs, entry, PML_TYPE_DIRENT), 0);
	CHECK_EQ(pml_tx_free(pool.fs, entry, PML_TYPE_DIRENT), -EIO);
	/* One that the transaction itself has made can be freed, once too. */
	REQUIRE(pml_tx_alloc(100, PML_TYPE_SYMLINK, &made) == 0);
	CHECK_EQ(pml_pool_check_object(pool.fs, made, PML_TYPE_SYMLINK, 100), 0);
	CHECK_EQ(pml_pool_check_object(pool.fs, made, PML_TYPE_DIRENT, 100), -EIO);
	CHECK_EQ(pml_tx_free(pool.fs, made, PML_TYPE_SYMLINK), 0);
	CHECK_EQ(pml_tx_free(pool.fs, made, PML_TYPE_SYMLINK), -EIO);
	CHECK_EQ(pml_tx_end(&tx, -ECANCELED), -ECANCELED);
	CHECK_EQ(pml_pool_check_object(pool.fs, made, PML_TYPE_SYMLINK, 100), -EIO);
	CHECK_EQ(try_free(entry, PML_TYPE_DIRENT), 0);
	end();
}

/* What looks like a run with objects in it, as file data. */
static void test_file_data_holds_no_objects(void)
{
	begin();
	struct pml_heap_block used = find_block(PML_CHUNK_USED, 10);
	struct pml_heap_block run = find_block(PML_CHUNK_RUN, 1);
	uint64_t at = used.offset + 9 * CHUNK;
	put(used.header_offset + 9 * 8, chunk_word(PML_CHUNK_RUN, 9, 1));
	memcpy(image + at, image + run.offset, CHUNK);
	put(at, 1040);
	memset(image + at + 16, 0xff, 64);
	fs_pool_reopen(&pool);
	uint64_t node = at + 64 + PML_OBJECT_HEADER_BYTES;
	put(node - 16, 1040);
	put(node - 8, PML_TYPE_BTREE_NODE);
	struct pml_heap_object object;
	CHECK(pml_heap_object_at(&pool.fs->heap, node, &object));
	CHECK_EQ(pml_pool_check_object(pool.fs, node, PML_TYPE_BTREE_NODE, 1024), -EIO);
	end();
}

/* What looks like a run with the inode table in it, inside of free memory. */
static void test_the_inode_table_lies_in_blocks(void)
{
	begin();
	uint64_t root = get(DESCRIPTOR + WORD_OF(pml_pool_descriptor, root_offset));
	struct pml_media_super *super = (void *)(image + root);
	uint64_t level = super->itable[0];
	struct pml_heap heap = view();
	struct pml_heap_object object;
	REQUIRE(pml_heap_object_at(&heap, level, &object));
	struct pml_heap_block free_block = find_block(PML_CHUNK_FREE, 100);
	uint64_t unit = object.bytes + PML_OBJECT_HEADER_BYTES;
	uint64_t at = free_block.offset + 50 * CHUNK;
	put(free_block.header_offset + 50 * 8, chunk_word(PML_CHUNK_RUN, 9, 1));
	put(at, unit);
	memset(image + at + 16, 0xff, 48);
	memcpy(image + at + 64, image + level - PML_OBJECT_HEADER_BYTES, unit);
	super->itable[0] = at + 64 + PML_OBJECT_HEADER_BYTES;
	CHECK(pml_heap_object_at(&heap, super->itable[0], &object));
	REQUIRE(pml_heap_note_blocks(&heap) == 0);
	CHECK(!pml_heap_object_at(&heap, super->itable[0], &object));
	pml_heap_forget_blocks(&heap);
	CHECK_EQ(fs_pool_try_open(&pool), -EUCLEAN);
	super->itable[0] = level;
	CHECK_EQ(fs_pool_try_open(&pool), 0);
	end();
}

/* A group whose object is not a used block would let file data into the heap's headers. */
static void test_groups_lie_in_used_blocks(void)
{
	begin();
	uint64_t super_at = get(DESCRIPTOR + WORD_OF(pml_pool_descriptor, root_offset));
	struct pml_media_super *super = (void *)(image + super_at);
	REQUIRE(super->ngroups > 0);
	struct pml_media_group old = super->groups[0];
	super->groups[0].nblocks += 64;
	CHECK_EQ(fs_pool_try_open(&pool), -EUCLEAN);
	super->groups[0] = old;
	super->groups[0].object += CHUNK;
	CHECK_EQ(fs_pool_try_open(&pool), -EUCLEAN);
	super->groups[0] = old;
	CHECK_EQ(fs_pool_try_open(&pool), 0);
	end();
}

int main(void)
{
	TAP_RUN(test_a_sound_device_is_sound);
	TAP_RUN(test_pool_header_and_descriptor);
	TAP_RUN(test_heap_and_zone_headers);
	TAP_RUN(test_chunk_headers);
	TAP_RUN(test_runs);
	TAP_RUN(test_logs);
	TAP_RUN(test_a_loop_of_logs);
	TAP_RUN(test_redo_logs_are_judged_by_what_they_do);
	TAP_RUN(test_a_redo_log_is_carried_out);
	TAP_RUN(test_undo_logs_restore_objects_only);
	TAP_RUN(test_the_deep_check_looks_at_every_object);
	TAP_RUN(test_a_stale_footer_is_repaired);
	TAP_RUN(test_opening_repairs_footers);
	TAP_RUN(test_only_objects_of_the_type_are_freed);
	TAP_RUN(test_a_transaction_frees_an_object_once);
	TAP_RUN(test_file_data_holds_no_objects);
	TAP_RUN(test_the_inode_table_lies_in_blocks);
	TAP_RUN(test_groups_lie_in_used_blocks);
	return tap_done();
}
