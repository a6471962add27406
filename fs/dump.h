/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * dump.h -- records of pml_fs_dump(), as text or JSON (dump_print.c)
 *
 * A record is what lies at one offset: a kind, named values, and one line in JSON.  In text
 * it is one line too, unless it is a structure's, which has a line per field.
 */
#ifndef PML_FS_DUMP_H
#define PML_FS_DUMP_H

#include <stdio.h>

#include "heap.h"

struct pml_dump_out {
	FILE *file;
	bool is_json;
	bool has_lines; /* the record that is being printed */
	uint64_t nproblems;
};

/* @offset 0 is not printed. */
void pml_dump_begin(struct pml_dump_out *out, const char *kind, uint64_t offset, bool has_lines);
void pml_dump_number(struct pml_dump_out *out, const char *name, uint64_t value);
void pml_dump_offset(struct pml_dump_out *out, const char *name, uint64_t value);
void pml_dump_mode(struct pml_dump_out *out, const char *name, uint64_t value);
void pml_dump_text(struct pml_dump_out *out, const char *name, const char *text, size_t bytes);
void pml_dump_bytes(struct pml_dump_out *out, const char *name, const uint8_t *bytes, size_t n);
void pml_dump_end(struct pml_dump_out *out);

/* A record of a structure of media.h ("pml_media_inode"), with its number if it has one. */
void pml_dump_structure(struct pml_dump_out *out, const char *structure, const void *data,
			uint64_t offset, const char *number_name, uint64_t number);

/* A record that something is not as it must be. */
void pml_dump_problem(struct pml_dump_out *out, uint64_t offset, const char *structure,
		      const char *problem);

#endif
