/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * check.h -- the checker's inside: what its files share
 *
 * The device may hold any bytes.  What bounds everything is the list of the pool's
 * objects: an offset is followed only when it names an object of the right type that
 * nothing else has claimed, so no structure is visited twice, none lies over another,
 * and time and memory are in proportion to the objects on the device.
 *
 * A round looks at everything; each finding is repaired at once or left.  Repairs that
 * later looks depend on end the round; the checker begins again until a round repairs
 * nothing.  Every repair is a transaction, or several that leave objects which nothing
 * leads to if the machine stops: the next check frees them.
 *
 * check.c           open, rounds, result
 * check_report.c    findings: what is said, asked, counted
 * check_objects.c   the pool's objects and who claims them
 * check_super.c     super block, allocation groups
 * check_table.c     inode table
 * check_tree.c      B+trees: walk, rebuild
 * check_inode.c     inodes, extents, symbolic links
 * check_dir.c       entries of directories
 * check_xattr.c     extended attributes
 * check_names.c     what is reached from the root: parents, link counts, lost+found
 *
 * Threads: one.
 */
#ifndef PML_FS_CHECK_H
#define PML_FS_CHECK_H

#include "btree.h"
#include "pool.h"

/* ---- findings ------------------------------------------------------------ */

/*
 * Name (for reports and tests), when it is repaired, what the repair does.
 *   SAFE   nothing is lost and nothing to choose: -p too
 *   FULL   -y only
 *   NEVER  cannot be repaired without guessing
 *   WHOLE  and only right when everything could be read (struct pml_check.is_partial)
 *   VITAL  where this is left, not everything could be read
 *   AGAIN  once it is repaired the round begins again
 */
#define PML_CHECK_CODES(X)                                                                         \
	X(HEAP, "heap", NEVER | VITAL, "")                                                         \
	X(SUPER_FIELD, "super-field", FULL, "set")                                                 \
	X(GROUP_TABLE, "group-table", FULL | AGAIN, "rebuilt from the groups' objects")            \
	X(GROUP_OBJECT, "group-object", NEVER | VITAL, "")                                         \
	X(TABLE_SLOT, "table-slot", FULL | AGAIN | VITAL, "put back")                              \
	X(TABLE_LOST, "table-lost", FULL | AGAIN | VITAL, "cleared, its inodes are lost")          \
	X(TABLE_UNCLEAR, "table-unclear", NEVER | VITAL, "")                                       \
	X(ROOT, "root", FULL | AGAIN | VITAL, "made a directory")                                  \
	X(INODE_TYPE, "inode-type", FULL | AGAIN | VITAL, "set")                                   \
	X(INODE_LOST, "inode-lost", FULL | WHOLE | AGAIN, "inode cleared")                         \
	X(INODE_FIELD, "inode-field", FULL, "set")                                                 \
	X(INODE_BLOCKS, "inode-blocks", SAFE | WHOLE, "set")                                       \
	X(INODE_PUNCH, "inode-punch", FULL, "marker cleared")                                      \
	X(TREE, "tree", FULL | VITAL, "rebuilt from what could be read")                           \
	X(TREE_FIELD, "tree-field", FULL, "set")                                                   \
	X(EXTENT, "extent", FULL | VITAL, "removed, the file has a hole there")                    \
	X(EXTENT_OVERLAP, "extent-overlap", FULL, "the first one is cut")                          \
	X(EXTENT_BEHIND_END, "extent-behind-end", FULL, "marked as preallocated")                  \
	X(EXTENT_SHARED, "extent-shared", FULL | AGAIN, "unmapped, it reads as zeros as before")   \
	X(SYMLINK, "symlink", FULL | AGAIN, "inode cleared, the target is lost")                   \
	X(SYMLINK_SIZE, "symlink-size", FULL, "set")                                               \
	X(ENTRY, "entry", FULL | VITAL, "removed")                                                 \
	X(ENTRY_FREE, "entry-free", FULL | WHOLE, "removed")                                       \
	X(ENTRY_FIELD, "entry-field", FULL, "set")                                                 \
	X(ENTRY_KEY, "entry-key", FULL, "moved to its key")                                        \
	X(ENTRY_TWICE, "entry-twice", FULL, "removed")                                             \
	X(DIR_ENTRIES, "dir-entries", SAFE | WHOLE, "set")                                         \
	X(DIR_TWICE, "dir-twice", FULL | AGAIN, "name removed")                                    \
	X(DIR_LOOP, "dir-loop", FULL | WHOLE | AGAIN, "moved to /lost+found")                      \
	X(DIR_PARENT, "dir-parent", FULL | WHOLE, "set")                                           \
	X(UNREACHED, "unreached", FULL | WHOLE | AGAIN, "moved to /lost+found")                    \
	X(XATTR, "xattr", FULL, "removed")                                                         \
	X(XATTR_FIELD, "xattr-field", FULL, "set")                                                 \
	X(LINKS, "links", SAFE | WHOLE, "set")                                                     \
	X(LEAK, "leak", SAFE | WHOLE, "freed")                                                     \
	X(LEAK_FOREIGN, "leak-foreign", FULL | WHOLE, "freed")

enum pml_check_code {
#define PML_CHECK_CODE(id, name, when, action) PML_CHECK_##id,
	PML_CHECK_CODES(PML_CHECK_CODE)
#undef PML_CHECK_CODE
		PML_CHECK_NCODES,
};

/* ---- what is known of the device ------------------------------------------ */

struct pml_check_object {
	uint64_t offset;
	uint32_t eighths; /* usable bytes / 8 */
	uint8_t type;	  /* as libpmemobj has it; UINT8_MAX: larger */
	bool is_claimed;
};

enum {
	PML_SLOT_ON_PATH = 1 << 0,   /* on the way up that is being walked */
	PML_SLOT_REACHED = 1 << 1,   /* a directory below the root */
	PML_SLOT_IS_WALKED = 1 << 2, /* has been looked at */
	PML_SLOT_HIDDEN = 1 << 3,    /* a directory in a tree that the next mount frees */
};

/* What has been found out about an inode number in this round. */
struct pml_check_slot {
	uint64_t dirent;  /* offset of a valid entry that names it; 0: none */
	uint32_t links;	  /* entries that name it */
	uint32_t subdirs; /* directories that it names */
	uint32_t parent;  /* number of the directory with that entry */
	uint32_t flags;	  /* PML_SLOT_ */
};

struct pml_check_chunk {
	struct pml_media_itable_chunk *media;
	struct pml_check_slot slot[PML_CHUNK_INODES];
};

struct pml_check_item {
	uint64_t key;
	uint64_t word[2];
	bool is_misplaced; /* its key is out of order */
	bool is_bad;	   /* of a directory: stays as it is, and counts for nothing */
};

/* A run of blocks that an extent maps. */
struct pml_check_run {
	uint64_t block;
	uint32_t nblocks;
	uint32_t ino : 31;
	uint32_t is_unwritten : 1;
};

struct pml_check {
	struct pml_fs *fs;
	const char *path;
	const struct pml_check_options *options;
	struct pml_check_result *result;

	/* Findings (check_report.c). */
	char text[512];
	enum pml_check_code code; /* of the text */
	uint64_t nrepaired;	  /* in this round */
	uint64_t nleft;		  /* in this round */
	uint32_t nsaid[PML_CHECK_NCODES];
	uint64_t *left; /* hashes of what was reported as left */
	size_t nleft_hashes;
	size_t left_capacity; /* a power of two */
	bool is_partial;      /* something could not be read and was left so */
	bool has_notes;	      /* notes are for the first round */
	bool must_restart;    /* a repair changed what this round builds on */
	bool has_failed;      /* a tree could not be made: no more repairs */
	bool is_held;	      /* what is found belongs to a repair that was declined */
	int err;	      /* no memory, cancelled: ends the round */

	struct pml_check_object *object; /* by offset */
	size_t nobjects;
	size_t objects_capacity;

	struct pml_media_group *group; /* as the objects say, by first block */
	size_t ngroups;

	struct pml_check_chunk **level[PML_ITABLE_FANOUT]; /* arrays of PML_ITABLE_FANOUT */

	struct pml_check_item *item; /* of the tree at hand */
	size_t nitems;
	size_t items_capacity;
	bool is_tree_damaged; /* the items make a better tree than the one on the device */

	struct pml_check_run *run; /* of all files */
	size_t nruns;
	size_t runs_capacity;
};

/* ---- check_report.c -------------------------------------------------------- */

/*
 * Reports a contradiction.  True: the caller repairs it now and then says how that went
 * with pml_check_done().
 */
bool pml_check_found(struct pml_check *c, enum pml_check_code code, const char *format, ...)
	PML_PRINTF(3, 4);
void pml_check_done(struct pml_check *c, int err);
/* Something worth knowing that is no error.  Of the first round only. */
void pml_check_note(struct pml_check *c, const char *format, ...) PML_PRINTF(2, 3);
/* Ends the round when the caller's caller wants to stop. */
bool pml_check_is_over(struct pml_check *c);

/* Reports; when it is to be repaired, stores @value at @lvalue in a transaction. */
#define PML_CHECK_SET(c, code, lvalue, value, ...)                                                 \
	do {                                                                                       \
		if (pml_check_found((c), (code), __VA_ARGS__)) {                                   \
			__auto_type check_value_ = (value);                                        \
			pml_check_done((c), pml_check_store((c), &(lvalue), &check_value_,         \
							    sizeof(lvalue)));                      \
			static_assert(sizeof(lvalue) == sizeof(check_value_), "same type");        \
		}                                                                                  \
	} while (0)
int pml_check_store(struct pml_check *c, void *to, const void *from, size_t bytes) PML_MUST_CHECK;

/* ---- check_objects.c ------------------------------------------------------- */

void pml_check_load_objects(struct pml_check *c);
/* A pml_heap_report; @arg is the struct pml_check. */
void pml_check_report_heap(void *arg, uint64_t offset, const char *structure, const char *problem);
/* NULL: it is now claimed; else what is wrong, to follow "... names". */
const char *pml_check_claim(struct pml_check *c, uint64_t offset, enum pml_media_type type,
			    uint64_t bytes);
/* The object that begins at @offset, or NULL. */
struct pml_check_object *pml_check_object_at(const struct pml_check *c, uint64_t offset);
static inline uint64_t pml_check_object_bytes(const struct pml_check_object *object)
{
	return (uint64_t)object->eighths * 8;
}
/* What nothing has claimed is freed. */
void pml_check_leaks(struct pml_check *c);

/* Makes room for one more element of @bytes; false: out of memory, which ends the round. */
bool pml_check_grow(struct pml_check *c, void *array, size_t n, size_t *capacity, size_t bytes);

/* ---- the others ------------------------------------------------------------ */

/* What the super block must say for anything else to make sense.  -EMEDIUMTYPE and so on. */
int pml_check_super_known(struct pml_check *c, char *reason) PML_MUST_CHECK;
void pml_check_super(struct pml_check *c);
void pml_check_groups(struct pml_check *c);
/* Do the blocks lie inside one group? */
bool pml_check_in_group(const struct pml_check *c, uint64_t first, uint64_t n);

void pml_check_table(struct pml_check *c);
void pml_check_table_free(struct pml_check *c);
/* The inode and its slot; NULL: there is none.  @ret_slot may be NULL. */
struct pml_media_inode *pml_check_inode_at(const struct pml_check *c, uint64_t ino,
					   struct pml_check_slot **ret_slot);
/* Calls @visit for all inodes in use until the round is over. */
void pml_check_each_inode(struct pml_check *c, void (*visit)(struct pml_check *c, uint64_t ino,
							     struct pml_media_inode *inode,
							     struct pml_check_slot *slot));

/*
 * Claims the nodes of a tree and puts its items into c->item, in order of their keys.
 * @owner: for messages.  False: its damage is left, so no item may be changed.
 */
bool pml_check_tree(struct pml_check *c, const char *owner, uint64_t root);
/*
 * Makes a tree of c->item and puts it in place of the one in the slot; the round starts
 * again.  Without room for it nothing more is repaired.
 */
void pml_check_tree_replace(struct pml_check *c, uint64_t *root_slot);

void pml_check_inode(struct pml_check *c, uint64_t ino, struct pml_media_inode *inode,
		     struct pml_check_slot *slot);
/* Shares of preallocated blocks; after all inodes. */
void pml_check_shares(struct pml_check *c);
bool pml_check_type_known(uint32_t mode);
void pml_check_xattrs(struct pml_check *c, const char *name, struct pml_media_inode *inode);
void pml_check_dir(struct pml_check *c, const char *name, uint64_t ino,
		   struct pml_media_inode *dir);
/* c->item that are misplaced have the first key of their hash: gives them the lowest free one. */
void pml_check_assign_keys(struct pml_check *c);
/* Removes the entry at @dirent from a directory whose tree is whole. */
int pml_check_remove_entry(struct pml_check *c, uint64_t dir_ino, uint64_t dirent) PML_MUST_CHECK;

void pml_check_names(struct pml_check *c);
#define PML_CHECK_NAME_BYTES 200u
/* "inode 12 (/a/b)": @ret_text of PML_CHECK_NAME_BYTES, always terminated. */
const char *pml_check_name(const struct pml_check *c, uint64_t ino, char *ret_text);

#endif
