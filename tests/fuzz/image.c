/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * image.c -- damaged devices made from an input of a few bytes
 *
 * The device is one file in memory.  Before each run it is emptied and gets the base
 * image's pages that are not holes: about 5 MiB.
 */
#include "image.h"

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "../../fs/heap.h"
#include "../../fs/pool.h"
#include "../../fs/tx.h"
#include "fuzz.h"

#define BASES	     3u
#define SEGMENTS_MAX 4096u
#define PLACES_MAX   4096u

/* Kinds of places; in inputs, so only ever appended. */
enum place {
	PLACE_POOL_HEADER,
	PLACE_DESCRIPTOR,
	PLACE_LOG, /* header and first bytes of a lane's log */
	PLACE_HEAP_HEADER,
	PLACE_CHUNK, /* header of a block's first chunk */
	PLACE_RUN,   /* header and bitmap */
	PLACE_SUPER,
	PLACE_GROUP,
	PLACE_LEVEL,
	PLACE_INODE,
	PLACE_NODE,
	PLACE_ENTRY,
	PLACE_SYMLINK,
	PLACE_OBJECT,	  /* header of any object */
	PLACE_LOG_OBJECT, /* a log's continuation */
	PLACE_XATTR,
	PLACES, /* at most 16 */
};

enum operation {
	SET_8,
	SET_4,
	SET_2,
	SET_1,
	XOR_8,
	ADD_8,
	SET_OFFSET, /* to the other place's, and the value's lowest byte */
	OPERATIONS,
};

struct base {
	uint8_t *bytes; /* the whole image, sparse */
	struct {
		uint64_t offset;
		uint64_t bytes;
	} segment[SEGMENTS_MAX];
	size_t nsegments;
	struct {
		uint64_t offset[PLACES_MAX];
		size_t n;
	} places[PLACES];
};

static struct base bases[BASES];
static char path[PATH_MAX];
static int device = -1;
static uint8_t *mapping;

#define DIE(...) (fprintf(stderr, __VA_ARGS__), fputc('\n', stderr), abort())

static void remove_device(void)
{
	(void)unlink(path);
}

/* ---- contents of the base images -------------------------------------------- */

static struct pml_fs *open_device(void)
{
	char reason[PML_REASON_BYTES];
	struct pml_fs *fs;
	const struct pml_open_args args = {.path = path};
	if (pml_fs_open(&args, &fs, reason))
		DIE("%s", reason);
	return fs;
}

static void must(int err)
{
	if (err)
		DIE("a base image cannot be made: %s", strerror(-err));
}

static struct pml_inode *make(struct pml_inode *dir, const char *name, mode_t mode)
{
	struct pml_inode *inode;
	const struct pml_create_args args = {.mode = mode, .target = "a target"};
	must(pml_dir_create(dir, name, &args, &inode));
	return inode;
}

static void fill_small(struct pml_inode *root)
{
	static uint8_t data[64 << 10];
	memset(data, 'x', sizeof(data));
	struct pml_inode *dir = make(root, "dir", S_IFDIR | 0755);
	struct pml_inode *file = make(dir, "file", S_IFREG | 0644);
	struct pml_inode *clone = make(dir, "clone", S_IFREG | 0644);
	must(pml_file_write(file, data, sizeof(data), 0, false, NULL));
	must(pml_file_write(file, data, 5000, 1u << 20, false, NULL));
	must(pml_file_allocate(file, 0, 2u << 20, 64u << 10, NULL));
	uint64_t done;
	must(pml_file_clone(file, 0, clone, 0, 32u << 10, NULL, &done));
	must(pml_dir_link(root, "link", file));
	pml_inode_put(make(root, "symlink", S_IFLNK | 0777), 1);
	pml_inode_put(make(root, "fifo", S_IFIFO | 0644), 1);
	pml_inode_put(make(root, "device", S_IFCHR | 0644), 1);
	pml_inode_put(make(dir, "sub", S_IFDIR | 0755), 1);
	const struct pml_cred cred = {0};
	must(pml_xattr_set(file, &cred, "user.small", "value", 5, 0));
	must(pml_xattr_set(file, &cred, "user.large", data, 3000, 0));
	must(pml_xattr_set(dir, &cred, "trusted.other", data, 100, 0));
	pml_inode_put(clone, 1);
	pml_inode_put(file, 1);
	pml_inode_put(dir, 1);
}

/* Trees with inner nodes. */
static void fill_trees(struct pml_inode *root)
{
	struct pml_inode *dir = make(root, "many", S_IFDIR | 0755);
	struct pml_inode *file = make(root, "holes", S_IFREG | 0644);
	for (unsigned int i = 0; i < 400; i++) {
		char name[32];
		(void)snprintf(name, sizeof(name), "%u", i);
		pml_inode_put(make(dir, name, S_IFREG | 0644), 1);
		must(pml_file_write(file, name, 4, i * 8192ull, false, NULL));
	}
	pml_inode_put(file, 1);
	pml_inode_put(dir, 1);
}

/* Dies with an open file that has no name, and in a transaction with long logs. */
static void die_in_transaction(void)
{
	struct pml_fs *fs = open_device();
	struct pml_inode *root;
	must(pml_inode_get(fs, PML_ROOT_INO, &root));
	struct pml_inode *orphan = make(root, "orphan", S_IFREG | 0644);
	must(pml_file_write(orphan, "orphan", 6, 0, false, NULL));
	must(pml_dir_unlink(root, "orphan"));
	struct pml_tx tx;
	must(pml_tx_begin(fs, &tx));
	for (uint32_t i = 0; i < 200; i++) {
		uint64_t offset;
		must(pml_tx_add(&fs->super->groups[1000 + 2 * i], sizeof(fs->super->groups[0])));
		must(pml_tx_alloc(100, PML_TYPE_DIRENT, &offset));
	}
	_Exit(0);
}

static void kill_one(void)
{
	pid_t pid = fork();
	if (pid == 0)
		die_in_transaction();
	int status = -1;
	if (waitpid(pid, &status, 0) != pid || status != 0)
		DIE("the process that dies in a transaction: status %d", status);
}

/* ---- base images -------------------------------------------------------------- */

static void add_place(struct base *base, enum place kind, uint64_t offset)
{
	if (base->places[kind].n < PLACES_MAX)
		base->places[kind].offset[base->places[kind].n++] = offset;
}

static int note_block(void *arg, const struct pml_heap_block *block)
{
	add_place(arg, PLACE_CHUNK, block->header_offset);
	if (block->header.type == PML_CHUNK_RUN)
		add_place(arg, PLACE_RUN, block->offset);
	return 0;
}

static int note_object(void *arg, const struct pml_heap_object *object)
{
	static const enum place of_type[] = {
		[PML_TYPE_ITABLE_LEVEL] = PLACE_LEVEL, [PML_TYPE_BTREE_NODE] = PLACE_NODE,
		[PML_TYPE_DIRENT] = PLACE_ENTRY,       [PML_TYPE_SYMLINK] = PLACE_SYMLINK,
		[PML_TYPE_XATTR] = PLACE_XATTR,
	};
	struct base *base = arg;
	add_place(base, PLACE_OBJECT, object->offset - PML_OBJECT_HEADER_BYTES);
	if (object->is_internal)
		add_place(base, PLACE_LOG_OBJECT, pml_round_up(object->offset, 64));
	else if (object->type < PML_ARRAY_LEN(of_type) && of_type[object->type])
		add_place(base, of_type[object->type], object->offset);
	else if (object->type == PML_TYPE_ITABLE_CHUNK)
		for (uint64_t i = 0; i < PML_CHUNK_INODES; i++)
			add_place(base, PLACE_INODE,
				  object->offset + i * sizeof(struct pml_media_inode));
	return 0;
}

static void note_places(struct base *base)
{
	struct pml_heap heap;
	pml_heap_init(&heap, base->bytes, IMAGE_BYTES);
	uint64_t super = pml_heap_root(&heap);
	add_place(base, PLACE_POOL_HEADER, 0);
	add_place(base, PLACE_DESCRIPTOR, PML_POOL_DESCRIPTOR_OFFSET);
	for (uint64_t lane = 0; lane < PML_NLANES; lane++) {
		uint64_t at = PML_LANES_OFFSET + lane * PML_LANE_BYTES;
		add_place(base, PLACE_LOG, at + PML_LOG_INTERNAL_OFFSET);
		add_place(base, PLACE_LOG, at + PML_LOG_EXTERNAL_OFFSET);
		add_place(base, PLACE_LOG, at + PML_LOG_UNDO_OFFSET);
	}
	add_place(base, PLACE_HEAP_HEADER, heap.offset);
	add_place(base, PLACE_SUPER, super);
	for (uint64_t i = 0; i < 8; i++)
		add_place(base, PLACE_GROUP,
			  super + offsetof(struct pml_media_super, groups) +
				  i * sizeof(struct pml_media_group));
	(void)pml_heap_blocks(&heap, note_block, base);
	(void)pml_heap_walk(&heap, note_object, base);
}

/* Keeps the device's bytes, and where they are no holes. */
static void keep(struct base *base)
{
	base->bytes =
		mmap(NULL, IMAGE_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (base->bytes == MAP_FAILED)
		DIE("no memory");
	off_t at = 0;
	for (;;) {
		at = lseek(device, at, SEEK_DATA);
		off_t end = at < 0 ? at : lseek(device, at, SEEK_HOLE);
		if (end <= at)
			break;
		if (base->nsegments == SEGMENTS_MAX)
			DIE("too many segments");
		memcpy(base->bytes + at, mapping + at, (size_t)(end - at));
		base->segment[base->nsegments].offset = (uint64_t)at;
		base->segment[base->nsegments++].bytes = (uint64_t)(end - at);
		at = end;
	}
	note_places(base);
}

static void make_base(unsigned int i)
{
	char reason[PML_REASON_BYTES];
	struct pml_device_info info;
	const struct pml_format_args args = {.path = path, .force = true};
	if (pml_fs_format(&args, &info, reason))
		DIE("%s", reason);
	struct pml_fs *fs = open_device();
	struct pml_inode *root;
	must(pml_inode_get(fs, PML_ROOT_INO, &root));
	fill_small(root);
	if (i > 0)
		fill_trees(root);
	pml_inode_put(root, 1);
	pml_fs_close(fs);
	if (i > 1)
		kill_one();
	keep(&bases[i]);
}

void fuzz_start(void)
{
	const char *given = getenv("PML_TEST_DIR");
	(void)snprintf(path, sizeof(path), "%s/pmemleasefs-test-%ld-fuzz",
		       given ? given : "/dev/shm", (long)getpid());
	/* Flushes by msync would be most of the time. */
	(void)setenv("PMEM_IS_PMEM_FORCE", "1", 1);
	(void)atexit(remove_device);
	device = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (device < 0 || ftruncate(device, IMAGE_BYTES) < 0)
		DIE("%s: %s", path, strerror(errno));
	mapping = mmap(NULL, IMAGE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, device, 0);
	if (mapping == MAP_FAILED)
		DIE("%s: %s", path, strerror(errno));
	for (unsigned int i = 0; i < BASES; i++)
		make_base(i);
}

/* ---- patches --------------------------------------------------------------- */

static void reset(const struct base *base)
{
	if (ftruncate(device, 0) < 0 || ftruncate(device, IMAGE_BYTES) < 0)
		DIE("%s: %s", path, strerror(errno));
	for (size_t i = 0; i < base->nsegments; i++) {
		uint64_t at = base->segment[i].offset;
		if (pwrite(device, base->bytes + at, base->segment[i].bytes, (off_t)at) !=
		    (ssize_t)base->segment[i].bytes)
			DIE("%s: %s", path, strerror(errno));
	}
}

/* 0: there is none. */
static uint64_t place_of(const struct base *base, unsigned int kind, unsigned int number)
{
	kind %= PLACES;
	size_t n = base->places[kind].n;
	return n ? base->places[kind].offset[number % n] : 0;
}

static void apply(const struct base *base, const struct image_patch *patch)
{
	uint64_t at = place_of(base, patch->place, patch->number) + patch->byte;
	uint64_t word;
	if (at > IMAGE_BYTES - 8)
		return;
	memcpy(&word, mapping + at, sizeof(word));
	size_t bytes = 8;
	switch ((enum operation)(patch->operation % OPERATIONS)) {
	case SET_1:
		bytes = 1;
		word = patch->value;
		break;
	case SET_2:
		bytes = 2;
		word = patch->value;
		break;
	case SET_4:
		bytes = 4;
		word = patch->value;
		break;
	case XOR_8:
		word ^= patch->value;
		break;
	case ADD_8:
		word += patch->value;
		break;
	case SET_OFFSET:
		word = place_of(base, patch->other >> 12, patch->other & 0xfffu) +
		       (patch->value & 0xff) + (patch->value & 7ull << 61);
		break;
	case SET_8:
	case OPERATIONS:
		word = patch->value;
		break;
	}
	memcpy(mapping + at, &word, bytes);
}

/* ---- checksums ------------------------------------------------------------- */

static uint64_t add_sum(uint64_t offset, uint64_t bytes, uint64_t skip, uint64_t skip_end,
			uint64_t sum)
{
	uint32_t low = (uint32_t)sum, high = (uint32_t)(sum >> 32);
	for (uint64_t at = offset; at < offset + bytes; at += 4) {
		uint32_t word;
		memcpy(&word, mapping + at, sizeof(word));
		low += at >= skip && at < skip_end ? 0 : word;
		high += low;
	}
	return (uint64_t)high << 32 | low;
}

static uint64_t get(uint64_t offset)
{
	uint64_t word;
	memcpy(&word, mapping + offset, sizeof(word));
	return word;
}

static void put(uint64_t offset, uint64_t word)
{
	memcpy(mapping + offset, &word, sizeof(word));
}

static void fix_redo(uint64_t log, uint64_t max_bytes)
{
	uint64_t capacity = PML_MIN(get(log + 8 * PML_LOG_CAPACITY), max_bytes);
	uint64_t n = 0;
	while (n + 16 <= capacity && get(log + PML_LOG_HEADER_BYTES + n))
		n += 16;
	put(log, add_sum(log, PML_LOG_HEADER_BYTES + n, log, log + 8, 0));
}

static void fix_undo(uint64_t log, uint64_t max_bytes, uint64_t generation)
{
	for (uint64_t n = 0; n + 64 <= max_bytes;) {
		uint64_t at = log + PML_LOG_HEADER_BYTES + n;
		uint64_t bytes = get(at + 16);
		if (get(at) == 0 || bytes > max_bytes - n - PML_ENTRY_UNDO_HEADER_BYTES)
			return;
		bytes = pml_round_up(bytes + PML_ENTRY_UNDO_HEADER_BYTES, 64);
		if (bytes > max_bytes - n)
			return;
		uint64_t sum = add_sum(at, bytes, at + 8, at + 16, 0);
		put(at + 8, add_sum(generation, 8, 0, 0, sum));
		n += bytes;
	}
}

/* So that libpmemobj believes what was patched. */
static void fix_place(const struct base *base, const struct image_patch *patch)
{
	unsigned int kind = patch->place % PLACES;
	uint64_t at = place_of(base, kind, patch->number);
	uint64_t in_lane = (at - PML_LANES_OFFSET) % PML_LANE_BYTES;
	if (kind == PLACE_LOG && in_lane == PML_LOG_INTERNAL_OFFSET)
		fix_redo(at, PML_LOG_INTERNAL_BYTES);
	else if (kind == PLACE_LOG && in_lane == PML_LOG_EXTERNAL_OFFSET)
		fix_redo(at, PML_LOG_EXTERNAL_BYTES);
	else if (kind == PLACE_LOG)
		fix_undo(at, PML_LOG_UNDO_BYTES, at + 8 * PML_LOG_GENERATION);
	else if (kind == PLACE_LOG_OBJECT && at)
		fix_undo(at, 2048, PML_LANES_OFFSET + PML_LOG_UNDO_OFFSET + 8 * PML_LOG_GENERATION);
}

static void fix_headers(void)
{
	const uint64_t header = offsetof(struct pml_pool_header, checksum);
	const uint64_t descriptor =
		PML_POOL_DESCRIPTOR_OFFSET + offsetof(struct pml_pool_descriptor, checksum);
	const uint64_t heap =
		get(PML_POOL_DESCRIPTOR_OFFSET + offsetof(struct pml_pool_descriptor, heap_offset));
	put(header,
	    add_sum(0, sizeof(struct pml_pool_header), 2048, sizeof(struct pml_pool_header), 0));
	put(descriptor, add_sum(PML_POOL_DESCRIPTOR_OFFSET, PML_POOL_DESCRIPTOR_BYTES, descriptor,
				descriptor + 8, 0));
	if (heap % 4096 == 0 && heap < IMAGE_BYTES - 4096) {
		const uint64_t at = heap + offsetof(struct pml_heap_header, checksum);
		put(at, add_sum(heap, sizeof(struct pml_heap_header), at, at + 8, 0));
	}
}

const char *image_make(const uint8_t *input, size_t bytes)
{
	if (bytes < 2)
		return NULL;
	const struct base *base = &bases[input[0] % BASES];
	size_t n = PML_MIN((bytes - 2) / sizeof(struct image_patch), (size_t)IMAGE_PATCHES_MAX);
	struct image_patch patch[IMAGE_PATCHES_MAX];
	memcpy(patch, input + 2, n * sizeof(patch[0]));

	reset(base);
	for (size_t i = 0; i < n; i++)
		apply(base, &patch[i]);
	if (!(input[1] & 0x80)) {
		for (size_t i = 0; i < n; i++)
			fix_place(base, &patch[i]);
		fix_headers();
	}
	return path;
}

/* ---- mutation -------------------------------------------------------------- */

/* Sizes of what lies at the places, for bytes that make sense. */
static const uint16_t place_bytes[PLACES] = {
	[PLACE_POOL_HEADER] = 256, [PLACE_DESCRIPTOR] = 2104, [PLACE_LOG] = 192,
	[PLACE_HEAP_HEADER] = 128, [PLACE_CHUNK] = 8,	      [PLACE_RUN] = 128,
	[PLACE_SUPER] = 256,	   [PLACE_GROUP] = 32,	      [PLACE_LEVEL] = 64,
	[PLACE_INODE] = 256,	   [PLACE_NODE] = 1024,	      [PLACE_ENTRY] = 32,
	[PLACE_SYMLINK] = 16,	   [PLACE_OBJECT] = 16,	      [PLACE_LOG_OBJECT] = 256,
	[PLACE_XATTR] = 32,
};

static struct image_patch random_patch(unsigned int *seed, unsigned int base)
{
	static const uint64_t values[] = {0,	      1,	  2,	      UINT64_MAX,
					  1ull << 63, 1ull << 32, 1ull << 48, UINT32_MAX,
					  INT64_MAX,  4096};
	struct image_patch patch = {
		.place = (uint8_t)((unsigned int)rand_r(seed) % PLACES),
		.operation = (uint8_t)((unsigned int)rand_r(seed) % OPERATIONS),
		.value = (unsigned int)rand_r(seed) % 64,
	};
	size_t n = bases[base % BASES].places[patch.place].n;
	unsigned int number = (unsigned int)rand_r(seed);
	/* Most inodes are free, and most logs empty. */
	bool is_low = patch.place == PLACE_INODE || patch.place == PLACE_LOG;
	patch.number = (uint16_t)(is_low && number % 8 ? number / 8 % 20 : number % (n ? n : 1));
	patch.byte = (uint16_t)((unsigned int)rand_r(seed) % place_bytes[patch.place]);
	if (rand_r(seed) % 8)
		patch.byte &= (uint16_t)~7u;
	unsigned int kind = (unsigned int)rand_r(seed) % PLACES;
	n = bases[base % BASES].places[kind].n;
	patch.other = (uint16_t)(kind << 12 | ((unsigned int)rand_r(seed) % (n ? n : 1) & 0xfff));
	if (rand_r(seed) % 2)
		patch.value = values[(unsigned int)rand_r(seed) % PML_ARRAY_LEN(values)];
	if (patch.operation == SET_OFFSET && rand_r(seed) % 2)
		patch.value = (uint64_t)((unsigned int)rand_r(seed) % 8) << 61;
	return patch;
}

size_t image_mutate(uint8_t *input, size_t bytes, size_t max_bytes, unsigned int seed)
{
	if (bytes < 2) {
		memset(input, 0, 2);
		bytes = 2;
	}
	if (rand_r(&seed) % 8 == 0)
		input[rand_r(&seed) % 2] = (uint8_t)rand_r(&seed);
	size_t n = (bytes - 2) / sizeof(struct image_patch);
	size_t max =
		PML_MIN((max_bytes - 2) / sizeof(struct image_patch), (size_t)IMAGE_PATCHES_MAX);
	unsigned int what = (unsigned int)rand_r(&seed) % 4;
	size_t i = n ? (size_t)rand_r(&seed) % n : 0;
	if (n > 0 && what == 0) { /* one less */
		n--;
		memmove(input + 2 + i * sizeof(struct image_patch),
			input + 2 + (i + 1) * sizeof(struct image_patch),
			(n - i) * sizeof(struct image_patch));
	} else if (n < max && (n == 0 || what < 3)) {
		i = n++;
		what = 3;
	}
	if (what == 3 && i < n) {
		struct image_patch patch = random_patch(&seed, input[0]);
		memcpy(input + 2 + i * sizeof(patch), &patch, sizeof(patch));
	}
	return 2 + n * sizeof(struct image_patch);
}
