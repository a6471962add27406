/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * media_fields.h -- the fields of media.h's structures, by name
 *
 * What pml_fs_dump() prints, and what docs/on-media-format.md is compared with.
 */
#ifndef PML_FS_MEDIA_FIELDS_H
#define PML_FS_MEDIA_FIELDS_H

#include "media.h"

enum pml_field_form {
	PML_FIELD_NUMBER, /* printed in decimal */
	PML_FIELD_OFFSET, /* of the device, or bits: in hexadecimal */
	PML_FIELD_MODE,	  /* in octal */
	PML_FIELD_BYTES,  /* a UUID or key */
	PML_FIELD_TEXT,	  /* zero-terminated */
	PML_FIELD_MANY,	  /* an array of other structures or offsets; not printed */
};

/* A structure is a row with field NULL; its fields follow, in ascending order. */
struct pml_media_field {
	const char *structure; /* "pml_media_super" */
	const char *field;
	size_t offset;
	size_t bytes;
	enum pml_field_form form;
};

extern const struct pml_media_field pml_media_fields[];
extern const size_t pml_media_fields_count;

#endif
