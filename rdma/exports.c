/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * exports.c -- see exports.h
 */
#include <stdio.h>
#include <string.h>

#include "exports.h"
#include "lines.h"
#include "secrets.h"

#define EXPORT_PATH_MAX 1023u

struct export
{
	char *path; /* absolute, no slash at the end; "" is the root */
	struct pml_export_rule *rules;
	size_t nrules;
};

struct pml_exports {
	size_t count;
	size_t nrules; /* of all */
	struct export exports[PML_EXPORTS_MAX];
};

/* ---- paths -------------------------------------------------------------- */

/* Takes the next name off *@path, without those that mean nothing; its length, 0 at the end. */
static size_t next_name(const char **path, const char **ret_name)
{
	for (;;) {
		const char *name = *path + strspn(*path, "/");
		size_t bytes = strcspn(name, "/");
		*path = name + bytes;
		*ret_name = name;
		if (bytes != 1 || name[0] != '.')
			return bytes;
	}
}

static bool has_dot_dot(const char *path)
{
	const char *name;
	for (size_t bytes = next_name(&path, &name); bytes; bytes = next_name(&path, &name))
		if (bytes == 2 && memcmp(name, "..", 2) == 0)
			return true;
	return false;
}

/* Assumes: no "..". */
static bool is_below(const char *root, const char *path, size_t *ret_bytes)
{
	const char *at = path;
	const char *name;
	const char *want;
	size_t want_bytes;
	while ((want_bytes = next_name(&root, &want)) > 0)
		if (next_name(&at, &name) != want_bytes || memcmp(name, want, want_bytes) != 0)
			return false;
	*ret_bytes = (size_t)(at - path);
	return true;
}

bool pml_path_is_below(const char *root, const char *path, size_t *ret_bytes)
{
	return !has_dot_dot(path) && is_below(root, path, ret_bytes);
}

/* ---- one rule ----------------------------------------------------------- */

static int check_identities(const char *list)
{
	unsigned int count = 0;
	char name[PML_WIRE_IDENTITY_MAX + 1];
	for (;;) {
		size_t bytes = strcspn(list, ":");
		if (bytes >= sizeof(name) || ++count > PML_EXPORT_IDS_MAX)
			return -EINVAL;
		memcpy(name, list, bytes);
		name[bytes] = 0;
		if (!pml_identity_is_valid(name))
			return -EINVAL;
		if (list[bytes] == 0)
			return 0;
		list += bytes + 1;
	}
}

static bool has_identity(const char *list, const char *identity)
{
	size_t want = strlen(identity);
	for (;;) {
		size_t bytes = strcspn(list, ":");
		if (bytes == want && memcmp(list, identity, bytes) == 0)
			return true;
		if (list[bytes] == 0)
			return false;
		list += bytes + 1;
	}
}

static int set_identities(struct pml_lines *lines, struct pml_export_rule *rule, const char *value,
			  char *ret_reason)
{
	if (check_identities(value))
		return pml_lines_fail(lines, ret_reason,
				      "id= wants up to %u names of identities, with colons between",
				      PML_EXPORT_IDS_MAX);
	free(rule->identities);
	rule->identities = strdup(value);
	return rule->identities ? 0 : -ENOMEM;
}

static int set_anon(struct pml_lines *lines, const char *option, uint32_t *id, const char *value,
		    char *ret_reason)
{
	if (pml_word_number(value, PML_ID_MAX, id))
		return pml_lines_fail(lines, ret_reason, "%s= wants a number", option);
	return 0;
}

static int set_auth(struct pml_lines *lines, struct pml_export_rule *rule, const char *value,
		    char *ret_reason)
{
	rule->is_anonymous = strcmp(value, "none") == 0;
	if (rule->is_anonymous || strcmp(value, "secret") == 0)
		return 0;
	return pml_lines_fail(lines, ret_reason, "auth= wants secret or none");
}

static int set_flag(struct pml_lines *lines, struct pml_export_rule *rule, const char *flag,
		    char *ret_reason)
{
	if (strcmp(flag, "ro") == 0)
		rule->is_read_only = true;
	else if (strcmp(flag, "rw") == 0)
		rule->is_read_only = false;
	else if (strcmp(flag, "root_squash") == 0)
		rule->squash = PML_SQUASH_ROOT;
	else if (strcmp(flag, "no_root_squash") == 0)
		rule->squash = PML_SQUASH_NONE;
	else if (strcmp(flag, "all_squash") == 0)
		rule->squash = PML_SQUASH_ALL;
	else
		return pml_lines_fail(lines, ret_reason, "unknown option \"%.40s\"", flag);
	return 0;
}

static int set_option(struct pml_lines *lines, struct pml_export_rule *rule, char *option,
		      char *ret_reason)
{
	char *value = strchr(option, '=');
	if (!value)
		return set_flag(lines, rule, option, ret_reason);
	*value++ = 0;
	if (strcmp(option, "id") == 0)
		return set_identities(lines, rule, value, ret_reason);
	if (strcmp(option, "auth") == 0)
		return set_auth(lines, rule, value, ret_reason);
	if (strcmp(option, "anonuid") == 0)
		return set_anon(lines, option, &rule->anon_uid, value, ret_reason);
	if (strcmp(option, "anongid") == 0)
		return set_anon(lines, option, &rule->anon_gid, value, ret_reason);
	return pml_lines_fail(lines, ret_reason, "unknown option \"%.40s=\"", option);
}

/* What contradicts itself. */
static int check_rule(struct pml_lines *lines, const struct pml_export_rule *rule, bool has_secrets,
		      char *ret_reason)
{
	if (rule->is_anonymous && rule->identities)
		return pml_lines_fail(lines, ret_reason, "id= needs auth=secret");
	if (!rule->is_anonymous && !has_secrets)
		return pml_lines_fail(
			lines, ret_reason,
			"nobody can prove an identity: mount with secrets=FILE, or say "
			"auth=none here");
	if (rule->squash != PML_SQUASH_NONE && rule->anon_uid == 0)
		return pml_lines_fail(lines, ret_reason,
				      "who is squashed would act as user 0: give anonuid=, or "
				      "no_root_squash");
	return 0;
}

/* "CLIENT(OPTION,...)" or "CLIENT". */
static int parse_rule(struct pml_lines *lines, char *word,
		      const struct pml_exports_defaults *defaults, struct pml_export_rule *rule,
		      char *ret_reason)
{
	char *options = strchr(word, '(');
	if (options == word)
		return pml_lines_fail(lines, ret_reason,
				      "no client before \"(\": write CLIENT(OPTIONS) without a "
				      "space");
	if (options) {
		size_t bytes = strlen(options);
		if (options[bytes - 1] != ')')
			return pml_lines_fail(lines, ret_reason,
					      "\")\" is missing behind the options: write "
					      "CLIENT(OPTION,...) without spaces");
		options[bytes - 1] = 0;
		*options++ = 0;
	}
	if (pml_network_parse(word, &rule->clients))
		return pml_lines_fail(lines, ret_reason,
				      "\"%.60s\" is not *, an address or ADDRESS/PREFIX", word);
	while (options) {
		char *option = strsep(&options, ",");
		int err = *option ? set_option(lines, rule, option, ret_reason) : 0;
		if (err)
			return err;
	}
	return check_rule(lines, rule, defaults->has_secrets, ret_reason);
}

/* ---- the file ----------------------------------------------------------- */

/* The export of that path, made if it is new.  NULL: out of memory. */
static struct export *get_export(struct pml_exports *exports, const char *path)
{
	for (size_t i = 0; i < exports->count; i++)
		if (strcmp(exports->exports[i].path, path) == 0)
			return &exports->exports[i];
	struct export *export = &exports->exports[exports->count];
	export->path = strdup(path);
	if (!export->path)
		return NULL;
	exports->count++;
	return export;
}

/* A new rule, still to be filled in; NULL: out of memory. */
static struct pml_export_rule *add_rule(struct pml_exports *exports, struct export *export,
					const struct pml_export_rule *from)
{
	struct pml_export_rule *rules =
		reallocarray(export->rules, export->nrules + 1, sizeof(*rules));
	if (!rules)
		return NULL;
	export->rules = rules;
	rules[export->nrules] = *from;
	exports->nrules++;
	return &rules[export->nrules++];
}

/* Cuts what means nothing off the end.  -EINVAL: not absolute, or not in its plainest form. */
static int parse_path(struct pml_lines *lines, char *path, char *ret_reason)
{
	size_t bytes = path ? strlen(path) : 0;
	if (bytes == 0 || path[0] != '/' || bytes > EXPORT_PATH_MAX)
		return pml_lines_fail(lines, ret_reason,
				      "a line begins with a path from the root of the filesystem, "
				      "as /data or \"/my data\"");
	while (bytes > 0 && path[bytes - 1] == '/')
		path[--bytes] = 0;
	const char *name;
	const char *rest = path;
	size_t length = 0;
	for (size_t n = next_name(&rest, &name); n; n = next_name(&rest, &name))
		length += n + 1;
	if (length != bytes || has_dot_dot(path))
		return pml_lines_fail(lines, ret_reason,
				      "the path has \".\", \"..\" or \"//\" in it");
	return 0;
}

static int parse_line(struct pml_lines *lines, char *line,
		      const struct pml_exports_defaults *defaults, struct pml_exports *exports,
		      char *ret_reason)
{
	char *path = pml_word_next(&line);
	int err = parse_path(lines, path, ret_reason);
	if (err)
		return err;
	if (exports->count == PML_EXPORTS_MAX)
		return pml_lines_fail(lines, ret_reason, "more than %u exports", PML_EXPORTS_MAX);
	struct export *export = get_export(exports, path);
	if (!export)
		return -ENOMEM;

	const struct pml_export_rule plain = {
		.is_read_only = true,
		.anon_uid = defaults->anon_uid,
		.anon_gid = defaults->anon_gid,
	};
	size_t before = export->nrules;
	for (char *word = pml_word_next(&line); word; word = pml_word_next(&line)) {
		if (exports->nrules == PML_EXPORT_RULES_MAX)
			return pml_lines_fail(lines, ret_reason, "more than %u clients",
					      PML_EXPORT_RULES_MAX);
		struct pml_export_rule *rule = add_rule(exports, export, &plain);
		err = rule ? parse_rule(lines, word, defaults, rule, ret_reason) : -ENOMEM;
		if (err)
			return err;
	}
	if (!line)
		return pml_lines_fail(lines, ret_reason, "a '\"' without its second one");
	if (export->nrules == before)
		return pml_lines_fail(lines, ret_reason,
				      "no client behind the path: \"*(OPTIONS)\" is everybody");
	return 0;
}

int pml_exports_load(const char *path, const struct pml_exports_defaults *defaults,
		     struct pml_exports **ret_exports, char *ret_reason)
{
	struct pml_lines lines;
	int err = pml_lines_open(path, 022, "chmod 644", &lines, ret_reason);
	if (err)
		return err;
	struct pml_exports *exports = calloc(1, sizeof(*exports));
	err = exports ? 0 : -ENOMEM;
	while (!err) {
		char *line = pml_lines_next(&lines);
		if (!line)
			break;
		err = parse_line(&lines, line, defaults, exports, ret_reason);
	}
	pml_lines_close(&lines);
	if (err == -ENOMEM)
		(void)snprintf(ret_reason, PML_REASON_BYTES, "%.150s: out of memory", path);
	if (err)
		pml_exports_free(exports);
	else
		*ret_exports = exports;
	return err;
}

struct pml_exports *pml_exports_of_root(const struct pml_export_rule *rule)
{
	struct pml_exports *exports = calloc(1, sizeof(*exports));
	struct export *root = exports ? get_export(exports, "") : NULL;
	if (root && add_rule(exports, root, rule))
		return exports;
	pml_exports_free(exports);
	return NULL;
}

void pml_exports_free(struct pml_exports *exports)
{
	if (!exports)
		return;
	for (size_t i = 0; i < exports->count; i++) {
		struct export *export = &exports->exports[i];
		for (size_t k = 0; k < export->nrules; k++)
			free(export->rules[k].identities);
		free(export->rules);
		free(export->path);
	}
	free(exports);
}

/* ---- who may ------------------------------------------------------------ */

static const struct export *find_export(const struct pml_exports *exports, const char *path,
					size_t *ret_bytes)
{
	const struct export *best = NULL;
	for (size_t i = 0; i < exports->count; i++) {
		const struct export *export = &exports->exports[i];
		if (best && strlen(export->path) <= strlen(best->path))
			continue;
		if (is_below(export->path, path, ret_bytes))
			best = export;
	}
	return best;
}

const struct pml_export_rule *pml_exports_find(const struct pml_exports *exports, const char *path,
					       const struct pml_address *address,
					       const char *identity, const char **ret_root,
					       size_t *ret_bytes, const char **ret_why)
{
	*ret_why = "no export has that path";
	if ((*path && *path != '/') || has_dot_dot(path))
		return NULL;
	const struct export *export = find_export(exports, path, ret_bytes);
	if (!export)
		return NULL;
	*ret_why = "no rule of the export lets that address and identity in";
	for (size_t i = 0; i < export->nrules; i++) {
		const struct pml_export_rule *rule = &export->rules[i];
		if (rule->is_anonymous == (identity != NULL))
			continue;
		if (!pml_network_has(&rule->clients, address))
			continue;
		if (rule->identities && !has_identity(rule->identities, identity))
			continue;
		*ret_root = export->path;
		return rule;
	}
	return NULL;
}
