/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * ctl.h -- what the files of pmemleasectl share
 *
 *   pmemleasectl.c  command line, messages
 *   ctl_filter.c    which leases, pins, waiting operations and ends are wanted; lists
 *   ctl_leases.c, ctl_pins.c, ctl_sessions.c (and evict), ctl_waiters.c, ctl_history.c, ctl_stats.c
 * (and audit) ctl_watch.c     what changes, and ctl_screen.c the same on a terminal ctl_print.c
 * texts and JSON ctl_file.c      ranges of files, snapshots ctl_defrag.c    files in fewer extents
 *   ctl_lease.c     a lease for this process
 */
#ifndef PML_TOOLS_CTL_H
#define PML_TOOLS_CTL_H

#include "pmemleasefs/ioctl.h"
#include "pml/base.h"

#define PML_CTL_PROGRAM "pmemleasectl"

enum pml_ctl_exit {
	PML_CTL_OK = 0,
	PML_CTL_USAGE = 1,
	PML_CTL_ERROR = 2,
	PML_CTL_DIFFERS = 3, /* dedupe */
	PML_CTL_REVOKED = 5, /* lease; as pmemlease's */
};

/* What is wanted of a list; all that is set must fit. */
struct pml_ctl_filter {
	const char *file;   /* a path, or NULL */
	const char *client; /* how the holder's address begins, or NULL */
	uint64_t lease_id;  /* 0: any */
	uint64_t block;	    /* of the device: pinned by the lease */
	bool has_block;
};

struct pml_ctl_options {
	bool is_json;
	struct pml_ctl_filter filter;
	uint64_t session;     /* evict */
	uint32_t interval_ms; /* watch; 0: was not given */
	uint64_t count;	      /* watch; 0: without end */
	bool is_all;	      /* defrag: of whole trees */
	bool is_quiet;	      /* defrag: errors alone */
	bool has_range;	      /* one of the next three was given */
	uint64_t src_byte;
	uint64_t dst_byte;
	uint64_t len_bytes;  /* 0: to the end */
	uint64_t first_byte; /* of a lease */
	bool is_write;
	bool is_shared;
	bool is_unbreakable;
	bool ignores_recall;
	bool has_hold;
	uint32_t hold_ms;
};

/* The root directory of a mount. */
struct pml_ctl_mount {
	const char *path;
	int fd;
};

/* ---- pmemleasectl.c ---- */

/* Prints what went wrong with @object; returns @err. */
int pml_ctl_complain(const char *object, int err);
/* ioctl(2) of ours; complains itself. */
int pml_ctl_ask(const char *object, int fd, unsigned long cmd, void *data) PML_MUST_CHECK;

/* Opens a mount's root directory; complains itself. */
int pml_ctl_open(const char *path, struct pml_ctl_mount *ret_mount) PML_MUST_CHECK;

/* ---- ctl_print.c ---- */

/* RFC 8259, section 7; what is no UTF-8 becomes U+FFFD. */
void pml_ctl_print_json_text(const char *text);
/* Names come from other machines and processes: nothing that moves a terminal's cursor. */
void pml_ctl_print_text(const char *text);
/* "12.3" in @width columns. */
void pml_ctl_print_seconds(int width, uint64_t ms);
/* "truncate (pid 12)". */
void pml_ctl_print_process(const char *name, int32_t pid);
/* @op: or NULL. */
void pml_ctl_print_json_process(const char *name, int32_t pid, const char *op);

/* An array of JSON with an entry a line; prints nothing unless @is_json. */
struct pml_ctl_list {
	bool is_json;
	bool is_one_line;
	bool has_entries;
};
void pml_ctl_begin_list(struct pml_ctl_list *list, bool is_json);
void pml_ctl_next_entry(struct pml_ctl_list *list);
void pml_ctl_end_list(const struct pml_ctl_list *list);

/* ---- ctl_filter.c ---- */

/* Entries of a list that was read in pieces.  The caller frees .entries. */
struct pml_ctl_array {
	void *entries;
	size_t count;
	size_t room;
	size_t entry_bytes;
};
/* -ENOMEM, which was complained of. */
int pml_ctl_append(struct pml_ctl_array *array, const void *entries, size_t count) PML_MUST_CHECK;

/* A filter with what the mount says about it. */
struct pml_ctl_choice {
	const struct pml_ctl_filter *filter;
	uint64_t ino;		      /* of the file */
	struct pml_ctl_array pinning; /* numbers of the leases that pin the block, ascending */
};
/* 0 or the error, which was complained of; pml_ctl_choice_fini() in any case. */
int pml_ctl_choose(const struct pml_ctl_mount *mount, const struct pml_ctl_filter *filter,
		   struct pml_ctl_choice *ret_choice) PML_MUST_CHECK;
/* The block may be another lease's by now. */
int pml_ctl_choose_again(const struct pml_ctl_mount *mount,
			 struct pml_ctl_choice *choice) PML_MUST_CHECK;
void pml_ctl_choice_fini(struct pml_ctl_choice *choice);
bool pml_ctl_is_chosen(const struct pml_ctl_choice *choice, uint64_t ino, uint64_t lease_id,
		       const char *peer);
/* The daemon knows no paths: which inode the one that was given is. */
void pml_ctl_print_choice(const struct pml_ctl_choice *choice);
void pml_ctl_print_json_inode(const struct pml_ctl_choice *choice, uint64_t ino);

/* How a list is read and shown. */
struct pml_ctl_kind {
	int (*get)(const struct pml_ctl_mount *mount, const struct pml_ctl_choice *choice,
		   struct pml_ctl_array *ret_entries);
	void (*print_heading)(void);
	void (*print)(const void *entry);
	void (*print_json)(const struct pml_ctl_choice *choice, const void *entry);
};
int pml_ctl_show(const struct pml_ctl_mount *mount, const struct pml_ctl_options *options,
		 const struct pml_ctl_kind *kind) PML_MUST_CHECK;

/* ---- lists: 0 or the error, which was complained of; .entries is to be freed in any case ---- */

/* struct pml_ioc_lease, in order of number. */
int pml_ctl_get_leases(const struct pml_ctl_mount *mount, const struct pml_ctl_choice *choice,
		       struct pml_ctl_array *ret_leases) PML_MUST_CHECK;
/* struct pml_ioc_waiter, who waits longest first. */
int pml_ctl_get_waiters(const struct pml_ctl_mount *mount, const struct pml_ctl_choice *choice,
			struct pml_ctl_array *ret_waiters) PML_MUST_CHECK;
/* struct pml_ioc_ending behind number @after; *ret_last: the last number that there is. */
int pml_ctl_get_history(const struct pml_ctl_mount *mount, const struct pml_ctl_choice *choice,
			uint64_t after, struct pml_ctl_array *ret_endings,
			uint64_t *ret_last) PML_MUST_CHECK;
/* Until @visit returns an error, which is passed on.  In order of lease. */
int pml_ctl_each_pin(const struct pml_ctl_mount *mount,
		     int (*visit)(void *arg, const struct pml_ioc_pin *pin),
		     void *arg) PML_MUST_CHECK;

const char *pml_ctl_mode_name(uint8_t mode);
const char *pml_ctl_op_name(uint8_t op);
const char *pml_ctl_end_name(uint8_t why);
/* "recalling for truncate", "fencing: silent". */
void pml_ctl_print_state(const struct pml_ioc_lease *lease);
/* @entry: as of the array of that list. */
void pml_ctl_print_json_lease(const struct pml_ctl_choice *choice, const void *entry);
void pml_ctl_print_json_waiter(const struct pml_ctl_choice *choice, const void *entry);
void pml_ctl_print_json_ending(const struct pml_ctl_choice *choice, const void *entry);

/* ---- ctl_watch.c, ctl_screen.c ---- */

/* What one look at a mount has found. */
struct pml_ctl_sample {
	uint64_t at_ms; /* pml_now_ms(); 0: there was none yet */
	struct pml_ioc_stats stats;
	struct pml_ctl_array leases;  /* that are granted and not gone, in order of number */
	struct pml_ctl_array waiters; /* in order of pid */
	struct pml_ctl_array endings; /* of any lease, since the look before */
	uint64_t last_ending;
	bool has_forgotten; /* more have ended than the history holds */
};

/* What is counted from look to look. */
struct pml_ctl_counter {
	const char *name;
	size_t offset; /* in struct pml_ioc_stats */
};
#define PML_CTL_COUNTERS 8
extern const struct pml_ctl_counter pml_ctl_counters[PML_CTL_COUNTERS];
/* How much it has grown. */
uint64_t pml_ctl_counted(const struct pml_ctl_counter *counter, const struct pml_ctl_sample *was,
			 const struct pml_ctl_sample *is);

/* Draws the terminal anew. */
void pml_ctl_draw(const struct pml_ctl_mount *mount, const struct pml_ctl_sample *was,
		  const struct pml_ctl_sample *is);
/* Leaves it as it was found, below what was drawn. */
void pml_ctl_undraw(void);

/* ---- commands about a mount: 0 or the error, which was complained of ---- */

int pml_ctl_leases(const struct pml_ctl_mount *mount,
		   const struct pml_ctl_options *options) PML_MUST_CHECK;
int pml_ctl_pins(const struct pml_ctl_mount *mount,
		 const struct pml_ctl_options *options) PML_MUST_CHECK;
int pml_ctl_sessions(const struct pml_ctl_mount *mount,
		     const struct pml_ctl_options *options) PML_MUST_CHECK;
int pml_ctl_evict(const struct pml_ctl_mount *mount,
		  const struct pml_ctl_options *options) PML_MUST_CHECK;
int pml_ctl_waiters(const struct pml_ctl_mount *mount,
		    const struct pml_ctl_options *options) PML_MUST_CHECK;
int pml_ctl_history(const struct pml_ctl_mount *mount,
		    const struct pml_ctl_options *options) PML_MUST_CHECK;
int pml_ctl_stats(const struct pml_ctl_mount *mount,
		  const struct pml_ctl_options *options) PML_MUST_CHECK;
int pml_ctl_audit(const struct pml_ctl_mount *mount,
		  const struct pml_ctl_options *options) PML_MUST_CHECK;
/* Opens @mount for each look only: it does not keep anybody from unmounting. */
int pml_ctl_watch(const struct pml_ctl_mount *mount,
		  const struct pml_ctl_options *options) PML_MUST_CHECK;

/* ---- ctl_file.c: enum pml_ctl_exit ---- */

int pml_ctl_clone(const struct pml_ctl_options *options, char **args, int nargs) PML_MUST_CHECK;
int pml_ctl_dedupe(const struct pml_ctl_options *options, char **args, int nargs) PML_MUST_CHECK;
int pml_ctl_collapse(const struct pml_ctl_options *options, char **args, int nargs) PML_MUST_CHECK;
int pml_ctl_insert(const struct pml_ctl_options *options, char **args, int nargs) PML_MUST_CHECK;
int pml_ctl_unshare(const struct pml_ctl_options *options, char **args, int nargs) PML_MUST_CHECK;
int pml_ctl_extents(const struct pml_ctl_options *options, char **args, int nargs) PML_MUST_CHECK;
int pml_ctl_snapshot(const struct pml_ctl_options *options, char **args, int nargs) PML_MUST_CHECK;

/* ---- ctl_defrag.c: enum pml_ctl_exit ---- */

int pml_ctl_defrag(const struct pml_ctl_options *options, char **args, int nargs) PML_MUST_CHECK;
/* ---- ctl_lease.c: enum pml_ctl_exit ---- */

int pml_ctl_lease(const struct pml_ctl_options *options, char **args, int nargs) PML_MUST_CHECK;

#endif
