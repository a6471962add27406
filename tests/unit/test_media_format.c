/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_media_format.c -- docs/on-media-format.md says what fs/media.h says
 *
 * Its fields are listed in fs/media_fields.c, which pml_fs_dump() prints by.
 *
 * usage: test_media_format FILE
 *
 * A heading "### `struct NAME`, BYTES bytes" begins a structure; the rows
 * "| OFFSET | SIZE | `FIELD` | ..." behind it are its fields.
 */
#include "../../fs/media_fields.h"

#include <stdio.h>

#include "tap.h"

/* "struct pml_media_super", or its field as "pml_media_super.magic". */
struct fact {
	size_t offset;
	size_t bytes;
	char name[96];
};

#define FACTS_MAX 256
static struct fact facts[FACTS_MAX];
static size_t nfacts;

/* What pml_fs_dump() goes by, too. */
static void read_facts(void)
{
	if (pml_media_fields_count > FACTS_MAX)
		BAIL_OUT("more than %d fields", FACTS_MAX);
	for (; nfacts < pml_media_fields_count; nfacts++) {
		const struct pml_media_field *f = &pml_media_fields[nfacts];
		facts[nfacts].offset = f->offset;
		facts[nfacts].bytes = f->bytes;
		(void)snprintf(facts[nfacts].name, sizeof(facts[0].name), "%s%s%s%s",
			       f->field ? "" : "struct ", f->structure, f->field ? "." : "",
			       f->field ? f->field : "");
	}
}

static const char *path;
static bool is_told[FACTS_MAX]; /* the document has it, right */

static const struct fact *find_fact(const char *name)
{
	for (size_t i = 0; i < nfacts; i++)
		if (strcmp(facts[i].name, name) == 0)
			return &facts[i];
	return NULL;
}

static void compare(const char *name, size_t offset, size_t bytes)
{
	const struct fact *fact = find_fact(name);
	if (!fact)
		TAP_FAIL("%s is unknown", name);
	else if (fact->offset != offset || fact->bytes != bytes)
		TAP_FAIL("%s: offset %zu, %zu bytes; fs/media.h has %zu, %zu", name, offset, bytes,
			 fact->offset, fact->bytes);
	else
		is_told[fact - facts] = true;
}

static void test_what_the_document_says_is_true(void)
{
	FILE *file = fopen(path, "r");
	REQUIRE(file);
	char line[4096], of[64] = "", field[64], name[160];
	size_t offset, bytes;
	while (fgets(line, sizeof(line), file)) {
		if (sscanf(line, "### `struct %63[a-z_]`, %zu bytes", of, &bytes) == 2) {
			(void)snprintf(name, sizeof(name), "struct %s", of);
			compare(name, 0, bytes);
		} else if (sscanf(line, "| %zu | %zu | `%63[a-z0-9_]` |", &offset, &bytes, field) ==
			   3) {
			(void)snprintf(name, sizeof(name), "%s.%s", of, field);
			compare(name, offset, bytes);
		}
	}
	(void)fclose(file);
}

static void test_the_document_says_all(void)
{
	for (size_t i = 0; i < nfacts; i++)
		if (!is_told[i])
			TAP_FAIL("%s is missing or wrong", facts[i].name);
}

/* What a structure has behind the fields that are listed would go unnoticed. */
static void test_the_fields_fill_their_structures(void)
{
	size_t end = 0;
	const char *of = NULL;
	for (size_t i = 0; i <= nfacts; i++) {
		bool is_struct = i == nfacts || strncmp(facts[i].name, "struct ", 7) == 0;
		if (is_struct && of && find_fact(of)->bytes != end)
			TAP_FAIL("%s: its fields end at %zu", of, end);
		if (i == nfacts)
			break;
		if (!is_struct && facts[i].offset != end)
			TAP_FAIL("%s: a gap of %zu bytes before it", facts[i].name,
				 facts[i].offset - end);
		of = is_struct ? facts[i].name : of;
		end = is_struct ? 0 : facts[i].offset + facts[i].bytes;
	}
}

int main(int argc, char **argv)
{
	if (argc != 2)
		BAIL_OUT("usage: test_media_format FILE");
	path = argv[1];
	read_facts();
	TAP_RUN(test_what_the_document_says_is_true);
	TAP_RUN(test_the_document_says_all);
	TAP_RUN(test_the_fields_fill_their_structures);
	return tap_done();
}
