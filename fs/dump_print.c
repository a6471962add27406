/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * dump_print.c -- records of pml_fs_dump(), as text or JSON
 *
 * Names and texts come from the device: what does not print is escaped.
 */
#include <inttypes.h>
#include <string.h>

#include "dump.h"
#include "media_fields.h"

void pml_dump_begin(struct pml_dump_out *out, const char *kind, uint64_t offset, bool has_lines)
{
	out->has_lines = has_lines;
	if (out->is_json)
		fprintf(out->file, "{\"kind\":\"%s\"", kind);
	else
		fputs(kind, out->file);
	if (offset && out->is_json)
		fprintf(out->file, ",\"offset\":%" PRIu64, offset);
	else if (offset)
		fprintf(out->file, " at %#" PRIx64, offset);
}

void pml_dump_end(struct pml_dump_out *out)
{
	fputs(out->is_json ? "}\n" : "\n", out->file);
}

static void print_name(const struct pml_dump_out *out, const char *name)
{
	if (out->is_json)
		fprintf(out->file, ",\"%s\":", name);
	else if (out->has_lines)
		fprintf(out->file, "\n  %-18s ", name);
	else
		fprintf(out->file, " %s=", name);
}

void pml_dump_number(struct pml_dump_out *out, const char *name, uint64_t value)
{
	print_name(out, name);
	fprintf(out->file, "%" PRIu64, value);
}

void pml_dump_offset(struct pml_dump_out *out, const char *name, uint64_t value)
{
	print_name(out, name);
	fprintf(out->file, out->is_json ? "%" PRIu64 : "%#" PRIx64, value);
}

void pml_dump_mode(struct pml_dump_out *out, const char *name, uint64_t value)
{
	print_name(out, name);
	fprintf(out->file, out->is_json ? "%" PRIu64 : "%#" PRIo64, value);
}

void pml_dump_text(struct pml_dump_out *out, const char *name, const char *text, size_t bytes)
{
	print_name(out, name);
	fputc('"', out->file);
	for (size_t i = 0; i < bytes; i++) {
		unsigned char c = (unsigned char)text[i];
		if (c == '"' || c == '\\')
			fprintf(out->file, "\\%c", c);
		else if (c >= ' ' && c < 127)
			fputc(c, out->file);
		else
			fprintf(out->file, out->is_json ? "\\u%04x" : "\\x%02x", c);
	}
	fputc('"', out->file);
}

void pml_dump_bytes(struct pml_dump_out *out, const char *name, const uint8_t *bytes, size_t n)
{
	print_name(out, name);
	fputs(out->is_json ? "\"" : "", out->file);
	for (size_t i = 0; i < n; i++)
		fprintf(out->file, "%02x", bytes[i]);
	fputs(out->is_json ? "\"" : "", out->file);
}

static uint64_t read_number(const uint8_t *at, size_t bytes)
{
	uint64_t value = 0;
	memcpy(&value, at, PML_MIN(bytes, sizeof(value)));
	return value;
}

static void print_field(struct pml_dump_out *out, const struct pml_media_field *f,
			const uint8_t *at)
{
	switch (f->form) {
	case PML_FIELD_NUMBER:
		pml_dump_number(out, f->field, read_number(at, f->bytes));
		break;
	case PML_FIELD_OFFSET:
		pml_dump_offset(out, f->field, read_number(at, f->bytes));
		break;
	case PML_FIELD_MODE:
		pml_dump_mode(out, f->field, read_number(at, f->bytes));
		break;
	case PML_FIELD_BYTES:
		pml_dump_bytes(out, f->field, at, f->bytes);
		break;
	case PML_FIELD_TEXT:
		pml_dump_text(out, f->field, (const char *)at, strnlen((const char *)at, f->bytes));
		break;
	case PML_FIELD_MANY:
		break;
	}
}

void pml_dump_structure(struct pml_dump_out *out, const char *structure, const void *data,
			uint64_t offset, const char *number_name, uint64_t number)
{
	const uint8_t *bytes = data;
	pml_dump_begin(out, structure, offset, true);
	if (number_name)
		pml_dump_number(out, number_name, number);
	for (size_t i = 0; i < pml_media_fields_count; i++) {
		const struct pml_media_field *f = &pml_media_fields[i];
		if (f->field && strcmp(f->structure, structure) == 0)
			print_field(out, f, bytes + f->offset);
	}
	pml_dump_end(out);
}

void pml_dump_problem(struct pml_dump_out *out, uint64_t offset, const char *structure,
		      const char *problem)
{
	out->nproblems++;
	pml_dump_begin(out, "problem", offset, false);
	pml_dump_text(out, "structure", structure, strlen(structure));
	pml_dump_text(out, "text", problem, strlen(problem));
	pml_dump_end(out);
}
