/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * model.h -- what the mounted filesystem must hold: trees of nodes in shared memory
 *
 * There is one tree per worker process, which nobody else changes, and one that all of
 * them share.  A node is an inode: a file with its bytes, a directory with NAMES places for
 * entries, a symbolic link or a special file.  Names are drawn from a fixed list, so an
 * entry is the index of its name.
 *
 * Threads: a worker's own tree needs no lock.  In the shared tree an operation on names or
 * attributes holds tree.lock exclusively; one on contents holds it shared, and the lock of
 * each file that it touches, by number.  So at any moment the model says exactly what must
 * be there, and the operations on the filesystem still run side by side.
 */
#ifndef SOAK_MODEL_H
#define SOAK_MODEL_H

#include <pthread.h>
#include <semaphore.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>

#define WORKERS_MAX 8
#define TREES_MAX   (WORKERS_MAX + 1)
#define SHARED_TREE WORKERS_MAX /* its number */
#define NODES	    72
#define NAMES	    20 /* per directory */
#define DEPTH_MAX   6
#define PATH_BYTES  4096
#define FILE_MAX    (2u << 20)
#define BLOCK	    4096u
#define FILE_BLOCKS (FILE_MAX / BLOCK)
#define IO_MAX	    (256u << 10)
#define XATTRS	    4
#define XATTR_MAX   3000u
#define SLOTS	    6 /* descriptors that a worker keeps */
#define RECENT	    24
#define NODE_NONE   (-1)

/* What is behind a block of a file, as SEEK_DATA and st_blocks tell. */
enum mapping {
	HOLE,
	DATA,
	UNWRITTEN, /* counted in st_blocks, a hole to SEEK_DATA */
	ANY,
};

/* A time lies in there; exact once it has been seen. */
struct span {
	int64_t from_ns;
	int64_t to_ns;
};

struct attribute {
	bool is_set;
	uint32_t bytes;
	uint32_t fill;
};

/* At most one named user and one named group. */
struct acl {
	bool is_set;
	bool has_user;
	bool has_group;
	bool has_mask;
	uint8_t user_obj; /* permissions: 4 read, 2 write, 1 search */
	uint8_t user;
	uint8_t group_obj;
	uint8_t group;
	uint8_t mask;
	uint8_t other;
	uint32_t uid;
	uint32_t gid;
};

struct node {
	uint32_t type; /* S_IFMT bits; 0: free */
	uint32_t mode; /* 07777 */
	uint32_t uid;
	uint32_t gid;
	uint32_t nlink;
	uint32_t opens; /* descriptors in slots */
	uint64_t size;	/* of a file, or of a link's target */
	uint64_t ino;	/* 0: not seen yet */
	uint64_t rdev;
	struct span mtime;
	struct span ctime;
	struct span atime;
	int64_t read_ns;	 /* when it was read last; 0: never */
	int parent;		 /* of a directory */
	int target;		 /* of a link: index of a name beside it */
	int entry[NAMES];	 /* of a directory; NODE_NONE: no such name */
	uint32_t changes[NAMES]; /* of the entries, counted */
	int64_t born_ns;
	struct attribute attribute[XATTRS];
	struct acl acl[2];	      /* that for access, the default one */
	uint8_t mapping[FILE_BLOCKS]; /* enum mapping */
	pthread_mutex_t lock;
};

struct tree {
	pthread_rwlock_t lock;
	struct node node[NODES]; /* 0: the directory that the tree lies in */
};

enum kind {
	/* names */
	CREATE,
	MKDIR,
	MKNOD,
	SYMLINK,
	LINK,
	UNLINK,
	RMDIR,
	RENAME,
	TMPFILE,  /* a file without name that gets one */
	SNAPSHOT, /* of a directory with all that is below it */
	/* attributes */
	CHMOD,
	CHOWN,
	UTIMENS,
	STAT,
	FOLLOW,
	SETXATTR,
	GETXATTR,
	REMOVEXATTR,
	LISTXATTR,
	SETACL,
	GETACL,
	REMOVEACL,
	PERMIT, /* what another user may do */
	READDIR,
	/* descriptors that stay open */
	OPEN,
	CLOSE,
	/* contents */
	READ,
	WRITE,
	MMAP_READ,
	MMAP_WRITE,
	TRUNCATE,
	ALLOCATE,
	COPY,
	CLONE,
	DEDUPE,
	COLLAPSE,
	INSERT,
	UNSHARE,
	RELOCATE, /* nobody sees it */
	SEEK,
	SYNC,
	/* without a model of the order */
	RACE,
	KINDS
};
extern const char *const kind_names[KINDS];

/* What PERMIT tries; none of them may change anything. */
enum attempt {
	LOOK_UP,
	OPEN_READ,
	OPEN_WRITE,
	OPEN_BOTH,
	CHANGE_MODE,
	SET_ACL,
	REMOVE_NAME,
	ATTEMPTS
};

struct op {
	enum kind kind;
	int tree;
	int dir; /* where the name is */
	int name;
	int node;  /* what it names, or what the slot has open; NODE_NONE: nothing */
	int tree2; /* of a copy: where it comes from */
	int dir2;
	int name2;
	int node2;
	int fresh; /* the node that a creation will be; the first one of a snapshot */
	int slot;  /* -1: by path */
	int flags; /* of open, rename, fallocate, setxattr; whence; enum attempt */
	uint64_t at;
	uint64_t bytes;
	uint64_t at2;
	uint32_t mode;
	uint32_t fill;
	uint32_t uid;
	uint32_t gid;
	int64_t begin_ns;
};

/* Nodes that an operation may change. */
#define TOUCHED_MAX (NODES + 4)

struct slot {
	int node; /* NODE_NONE: not in use */
	int flags;
};

struct worker {
	sem_t go;
	sem_t done;
	uint64_t count; /* operations so far, over all runs */
	uint64_t until;
	uint64_t kinds[KINDS]; /* successes */
	uint64_t refused;      /* errors that had to be */
	uint64_t full;	       /* ENOSPC */
	uint64_t checks;       /* comparisons of the whole tree */
	bool has_failed;
	bool is_pending; /* recent[count % RECENT] was begun and never answered */
	uint64_t turn;	 /* of that operation among all that were begun */
	struct op recent[RECENT];
	struct slot slot[SLOTS];
};

struct world {
	uint64_t seed;
	int nworkers;
	bool may_be_full; /* ENOSPC is an answer */
	bool may_die;	  /* the daemon may be killed during this run */
	bool has_xattr;
	bool has_zero_range;
	bool has_leases; /* what cannot wait for them may be refused */
	_Atomic int aim; /* the kind of operation in which the daemon is to be killed, or -1 */
	sem_t aimed;	 /* it has begun */
	_Atomic uint64_t nbegun; /* operations of all workers */
	_Atomic bool has_leaser_failed;
	_Atomic bool must_stop;
	_Atomic bool must_quit;
	char mount[PATH_BYTES / 2];
	struct worker worker[WORKERS_MAX];
	struct tree tree[TREES_MAX];
};

extern struct world *world;

/* Makes the model; nothing is on the device but the trees' empty directories. */
void model_new(const char *mount, uint64_t seed, int nworkers);

struct node *node_of(int tree, int node);
uint8_t *data_of(int tree, int node); /* FILE_MAX bytes; zeros behind the size */
/* A free node, or NODE_NONE. */
int node_free(int tree);
int nodes_free(int tree); /* how many */
/* Makes a node without names or descriptors free; others stay. */
void node_drop(int tree, int node);
/* The directory's entries; depth from the tree's root, and how deep it is below. */
int entries_of(const struct node *dir);
int depth_of(int tree, int dir);
int height_of(int tree, int node);
/* The nodes at and below one, at most NODES, each once; returns how many. */
int below_of(int tree, int node, int *ret_nodes);
bool is_below(int tree, int node, int ancestor); /* or the same */

const char *tree_name(int tree);
const char *name_text(int name);
const char *xattr_name(int attribute);
/* What a link contains that points at a name beside it; at least @ret of PATH_BYTES. */
void target_text(int name, uint32_t fill, char *ret);
/* A path of a name in a directory (name < 0: of the directory); one of a few static buffers. */
const char *path_of(int tree, int dir, int name);
/* One of the names that a node has; NODE_NONE in *ret_dir: it has none. */
void name_of_node(int tree, int node, int *ret_dir, int *ret_name);

/* Bytes that are told from those of another fill, and are never zero. */
void fill_bytes(uint8_t *to, uint64_t bytes, uint32_t fill);

int64_t now_ns(void);
int64_t now_coarse_ns(void); /* what the kernel may stamp now, at the earliest */
/* The time is what it was, or since then. */
void may_have_moved(struct span *span, int64_t since_ns);
/* It has been read since then, and relatime decides. */
void may_have_been_read(struct node *n, int64_t since_ns);
/* The kernel reads ahead: that may be served, and set atime, so long after the read. */
#define READ_AHEAD_NS 3000000000

#endif
