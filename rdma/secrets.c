/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * secrets.c -- see secrets.h
 *
 * Entry 0 is a decoy: no name, and a random secret.
 */
#include <sodium.h>
#include <stdio.h>
#include <string.h>

#include "lines.h"
#include "secrets.h"

struct pml_secrets {
	uint8_t (*keys)[PML_SECRET_BYTES]; /* sodium_malloc(); by the same index */
	size_t count;
	size_t room;
	struct pml_identity identities[];
};

bool pml_identity_is_valid(const char *name)
{
	static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
				      "0123456789-_.@";
	size_t bytes = strlen(name);
	return bytes > 0 && bytes <= PML_WIRE_IDENTITY_MAX && strspn(name, allowed) == bytes;
}

/* ---- one line ----------------------------------------------------------- */

static int parse_secret(const char *word, uint8_t *ret_key)
{
	size_t bytes = 0;
	const char *end = NULL;
	if (!word || strlen(word) != 2 * PML_SECRET_BYTES)
		return -EINVAL;
	if (sodium_hex2bin(ret_key, PML_SECRET_BYTES, word, strlen(word), NULL, &bytes, &end) != 0)
		return -EINVAL;
	return bytes == PML_SECRET_BYTES && *end == 0 ? 0 : -EINVAL;
}

/* "100,1000": the first is the group, the others are further ones. */
static int parse_groups(char *list, struct pml_identity *identity)
{
	char *rest = list;
	identity->ngroups = 0;
	for (bool is_first = true; rest; is_first = false) {
		uint32_t gid;
		char *word = strsep(&rest, ",");
		if (pml_word_number(word, PML_ID_MAX, &gid))
			return -EINVAL;
		if (is_first)
			identity->gid = gid;
		else if (identity->ngroups < PML_GROUPS_MAX)
			identity->groups[identity->ngroups++] = gid;
		else
			return -EINVAL;
	}
	return 0;
}

/* The words behind the secret. */
static int parse_rights(struct pml_lines *lines, char *rest, bool needs_ids,
			struct pml_identity *identity, char *ret_reason)
{
	bool has_uid = false, has_gid = false;
	for (char *word = pml_word_next(&rest); word; word = pml_word_next(&rest)) {
		if (strncmp(word, "uid=", 4) == 0) {
			uint32_t uid;
			if (pml_word_number(word + 4, PML_ID_MAX, &uid))
				return pml_lines_fail(lines, ret_reason, "uid= wants a number");
			identity->uid = uid;
			has_uid = true;
		} else if (strncmp(word, "gid=", 4) == 0) {
			if (parse_groups(word + 4, identity))
				return pml_lines_fail(lines, ret_reason,
						      "gid= wants numbers: a group, and up to %u "
						      "more behind commas",
						      PML_GROUPS_MAX);
			has_gid = true;
		} else if (strcmp(word, "ro") == 0) {
			identity->is_read_only = true;
		} else {
			/* Not the word itself: it may be a secret in the wrong place. */
			return pml_lines_fail(lines, ret_reason,
					      "only uid=N, gid=N[,N]... and ro may follow the "
					      "secret");
		}
	}
	if (!rest)
		return pml_lines_fail(lines, ret_reason, "a '\"' without its second one");
	if (needs_ids && !(has_uid && has_gid))
		return pml_lines_fail(lines, ret_reason, "%s is missing: whom does \"%s\" act as?",
				      has_uid ? "gid=N" : "uid=N", identity->name);
	return 0;
}

static bool is_known(const struct pml_secrets *secrets, const char *name)
{
	for (size_t i = 1; i < secrets->count; i++)
		if (strcmp(secrets->identities[i].name, name) == 0)
			return true;
	return false;
}

static int parse_line(struct pml_lines *lines, char *line, bool is_client,
		      struct pml_secrets *secrets, char *ret_reason)
{
	if (secrets->count > PML_IDENTITIES_MAX)
		return pml_lines_fail(lines, ret_reason, "more than %u identities",
				      PML_IDENTITIES_MAX);
	assert(secrets->count < secrets->room);
	struct pml_identity *identity = &secrets->identities[secrets->count];
	const char *name = pml_word_next(&line);
	if (!name || !pml_identity_is_valid(name))
		return pml_lines_fail(lines, ret_reason,
				      "the name of an identity is 1 to %u letters, digits and -_.@",
				      PML_WIRE_IDENTITY_MAX);
	if (is_known(secrets, name))
		return pml_lines_fail(lines, ret_reason, "a second line for \"%s\"", name);
	memcpy(identity->name, name, strlen(name));
	const char *key = line ? pml_word_next(&line) : NULL;
	if (parse_secret(key, secrets->keys[secrets->count]))
		return pml_lines_fail(lines, ret_reason,
				      "the secret of \"%s\" is not %u hexadecimal digits: make one "
				      "with openssl rand -hex %u",
				      name, 2 * PML_SECRET_BYTES, PML_SECRET_BYTES);
	int err = parse_rights(lines, line, !is_client, identity, ret_reason);
	if (!err)
		secrets->count++;
	return err;
}

/* ---- the file ----------------------------------------------------------- */

/* Room for a decoy and @lines more. */
static struct pml_secrets *alloc_secrets(size_t lines)
{
	size_t room = PML_MIN(lines, (size_t)PML_IDENTITIES_MAX + 1) + 1;
	struct pml_secrets *secrets =
		calloc(1, sizeof(*secrets) + room * sizeof(secrets->identities[0]));
	if (!secrets)
		return NULL;
	secrets->keys = sodium_allocarray(room, sizeof(secrets->keys[0]));
	if (!secrets->keys) {
		free(secrets);
		return NULL;
	}
	secrets->room = room;
	secrets->count = 1;
	randombytes_buf(secrets->keys[0], sizeof(secrets->keys[0]));
	return secrets;
}

static size_t count_lines(const char *text)
{
	size_t lines = 1;
	for (const char *at = strchr(text, '\n'); at; at = strchr(at + 1, '\n'))
		lines++;
	return lines;
}

int pml_secrets_load(const char *path, bool is_client, struct pml_secrets **ret_secrets,
		     char *ret_reason)
{
	struct pml_lines lines;
	int err = pml_lines_open(path, 077, "chmod 600", &lines, ret_reason);
	if (err)
		return err;
	struct pml_secrets *secrets = alloc_secrets(count_lines(lines.text));
	if (!secrets) {
		(void)snprintf(ret_reason, PML_REASON_BYTES, "%.150s: out of memory", path);
		err = -ENOMEM;
	}
	while (!err) {
		char *line = pml_lines_next(&lines);
		if (!line)
			break;
		err = parse_line(&lines, line, is_client, secrets, ret_reason);
	}
	pml_lines_close(&lines);
	if (err)
		pml_secrets_free(secrets);
	else
		*ret_secrets = secrets;
	return err;
}

void pml_secrets_free(struct pml_secrets *secrets)
{
	if (!secrets)
		return;
	sodium_free(secrets->keys); /* wipes them */
	free(secrets);
}

const struct pml_identity *pml_secrets_find(const struct pml_secrets *secrets, const char *name,
					    const uint8_t **ret_secret)
{
	char wanted[PML_WIRE_IDENTITY_MAX + 1] = "";
	assert(strlen(name) < sizeof(wanted));
	memcpy(wanted, name, strlen(name));
	/* All of them, without a way out: the time says nothing. */
	size_t found = 0;
	for (size_t i = 1; i < secrets->count; i++)
		if (sodium_memcmp(secrets->identities[i].name, wanted, sizeof(wanted)) == 0)
			found = i;
	*ret_secret = secrets->keys[found];
	return found ? &secrets->identities[found] : NULL;
}
