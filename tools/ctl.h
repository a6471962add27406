/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * ctl.h -- what the files of pmemleasectl share
 *
 *   pmemleasectl.c  command line, messages
 *   ctl_show.c      leases, pins, stats, audit of a mount
 *   ctl_file.c      ranges of files, snapshots
 *   ctl_lease.c     a lease for this process
 */
#ifndef PML_TOOLS_CTL_H
#define PML_TOOLS_CTL_H

#include "pml/base.h"

#define PML_CTL_PROGRAM "pmemleasectl"

enum pml_ctl_exit {
	PML_CTL_OK = 0,
	PML_CTL_USAGE = 1,
	PML_CTL_ERROR = 2,
	PML_CTL_DIFFERS = 3, /* dedupe */
	PML_CTL_REVOKED = 5, /* lease; as pmemlease's */
};

struct pml_ctl_options {
	bool is_json;
	bool has_range; /* one of the next three was given */
	uint64_t src_byte;
	uint64_t dst_byte;
	uint64_t len_bytes;  /* 0: to the end */
	uint64_t first_byte; /* of a lease */
	bool is_write;
	bool ignores_recall;
	bool has_hold;
	uint32_t hold_ms;
};

/* ---- pmemleasectl.c ---- */

/* Prints what went wrong with @object; returns @err. */
int pml_ctl_complain(const char *object, int err);
/* ioctl(2) of ours; complains itself. */
int pml_ctl_ask(const char *object, int fd, unsigned long cmd, void *data) PML_MUST_CHECK;

/* RFC 8259, section 7.  Bytes that are not ASCII go out as they came. */
void pml_ctl_print_json_text(const char *text);
/* Names come from other machines and processes: nothing that moves a terminal's cursor. */
void pml_ctl_print_text(const char *text);

/* ---- ctl_show.c: on an open root directory; 0 or the error, which was complained of ---- */

int pml_ctl_leases(const char *mount, int fd, bool is_json) PML_MUST_CHECK;
int pml_ctl_pins(const char *mount, int fd, bool is_json) PML_MUST_CHECK;
int pml_ctl_stats(const char *mount, int fd, bool is_json) PML_MUST_CHECK;
int pml_ctl_audit(const char *mount, int fd, bool is_json) PML_MUST_CHECK;

/* ---- ctl_file.c: enum pml_ctl_exit ---- */

int pml_ctl_clone(const struct pml_ctl_options *options, char **args, int nargs) PML_MUST_CHECK;
int pml_ctl_dedupe(const struct pml_ctl_options *options, char **args, int nargs) PML_MUST_CHECK;
int pml_ctl_collapse(const struct pml_ctl_options *options, char **args, int nargs) PML_MUST_CHECK;
int pml_ctl_insert(const struct pml_ctl_options *options, char **args, int nargs) PML_MUST_CHECK;
int pml_ctl_unshare(const struct pml_ctl_options *options, char **args, int nargs) PML_MUST_CHECK;
int pml_ctl_extents(const struct pml_ctl_options *options, char **args, int nargs) PML_MUST_CHECK;
int pml_ctl_snapshot(const struct pml_ctl_options *options, char **args, int nargs) PML_MUST_CHECK;

/* ---- ctl_lease.c: enum pml_ctl_exit ---- */

int pml_ctl_lease(const struct pml_ctl_options *options, char **args, int nargs) PML_MUST_CHECK;

#endif
