/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fuzz_rules.c -- any text as a file of exports or of secrets
 *
 * The first byte of an input chooses the file and how it is read: 1 secrets, else exports; 2 as
 * a client, or with secrets; 4 the rest is the text itself, else each byte stands for a word
 * that such files have (below).  Behind a zero byte is the path that a client asks for.
 *
 * Judged: what is refused has a reason that names the file and ends; what is taken is within
 * its limits, is found again, by each address and identity by the rule that fits first, and
 * read once more is the same.
 */
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../../rdma/exports.h"
#include "../../rdma/lines.h"
#include "../../rdma/secrets.h"
#include "fuzz.h"
#include "violation.h"

#define TEXT_BYTES 65536u

enum { IS_SECRETS = 1, IS_OTHER = 2, IS_TEXT = 4 };

struct rules {
	unsigned int how;
	char text[TEXT_BYTES];
	size_t bytes;
	char path[1024]; /* that a client asks for */
	char file[64];	 /* where the text is */
	char reason[PML_REASON_BYTES];
};

/* ---- the file ------------------------------------------------------------ */

#define HEX16 "0123456789abcdef"

static const char *const words[] = {
	"\n",
	"\n",
	" ",
	" ",
	"\t",
	"/",
	"/data",
	"/data/a",
	"/data/a/b",
	"/pub",
	"\"/my data\"",
	"\"",
	"*",
	"10.0.0.0/8",
	"10.0.0.7",
	"127.0.0.1",
	"fe80::/10",
	"::1",
	"(",
	")",
	",",
	"(ro)",
	"(rw)",
	"(rw,no_root_squash)",
	"ro",
	"rw",
	"root_squash",
	"all_squash",
	"no_root_squash",
	"auth=none",
	"auth=secret",
	"id=",
	"alice",
	"bob",
	":",
	"anonuid=",
	"anongid=",
	"uid=",
	"gid=",
	"7",
	"0",
	"4294967294",
	"4294967295",
	HEX16 HEX16 HEX16 HEX16,
	HEX16,
	"#",
	"..",
	".",
	"uid=7 gid=7",
	"(auth=none,anonuid=7)",
	"x",
	"\r",
};

static void add(struct rules *r, const char *text, size_t bytes)
{
	bytes = PML_MIN(bytes, sizeof(r->text) - r->bytes);
	memcpy(r->text + r->bytes, text, bytes);
	r->bytes += bytes;
}

static void compose(struct rules *r, const uint8_t *input, size_t bytes)
{
	r->how = bytes ? input[0] : 0;
	input += bytes > 0;
	bytes -= bytes > 0;
	const uint8_t *zero = bytes ? memchr(input, 0, bytes) : NULL;
	size_t text_bytes = zero ? (size_t)(zero - input) : bytes;
	if (zero) {
		size_t path_bytes = strnlen((const char *)zero + 1, bytes - text_bytes - 1);
		path_bytes = PML_MIN(path_bytes, sizeof(r->path) - 1);
		memcpy(r->path, zero + 1, path_bytes);
	}
	if (r->how & IS_TEXT) {
		add(r, (const char *)input, text_bytes);
		return;
	}
	for (size_t i = 0; i < text_bytes; i++) {
		const char *word = words[input[i] % PML_ARRAY_LEN(words)];
		add(r, word, strlen(word));
	}
}

static int make_file(struct rules *r)
{
	int fd = memfd_create("rules", MFD_CLOEXEC);
	if (fd < 0 || fchmod(fd, 0600) || write(fd, r->text, r->bytes) != (ssize_t)r->bytes)
		VIOLATION("no file");
	(void)snprintf(r->file, sizeof(r->file), "/proc/self/fd/%d", fd);
	return fd;
}

static void judge_refusal(const struct rules *r, int err)
{
	size_t bytes = strnlen(r->reason, sizeof(r->reason));
	if (bytes == 0 || bytes == sizeof(r->reason) ||
	    strncmp(r->reason, r->file, strlen(r->file)) != 0)
		VIOLATION("refused with %d and without a reason", err);
	if (err != -EINVAL && err != -ENOMEM)
		VIOLATION("refused with %d: %s", err, r->reason);
}

/* ---- exports ------------------------------------------------------------- */

static void judge_rule(const struct pml_export_rule *rule, const struct pml_address *address,
		       const char *identity)
{
	if (!pml_network_has(&rule->clients, address) || rule->clients.bits > 128)
		VIOLATION("a rule of other clients");
	if (rule->is_anonymous != !identity || rule->squash > PML_SQUASH_ALL)
		VIOLATION("a rule for who proves what this one does not");
	if (rule->identities && !strstr(rule->identities, identity))
		VIOLATION("a rule of other identities");
	if (rule->squash != PML_SQUASH_NONE && rule->anon_uid == 0)
		VIOLATION("who is squashed acts as user 0");
	if (rule->anon_uid > PML_ID_MAX || rule->anon_gid > PML_ID_MAX)
		VIOLATION("nobody has that number");
}

static const struct pml_export_rule *find(const struct pml_exports *exports, const char *path,
					  const char *peer, const char *identity)
{
	struct pml_address address;
	const char *root, *why;
	size_t bytes, below;
	pml_address_of_peer(peer, &address);
	const struct pml_export_rule *rule =
		pml_exports_find(exports, path, &address, identity, &root, &bytes, &why);
	if (!rule && !why[0])
		VIOLATION("no rule, and no word why");
	if (!rule)
		return NULL;
	if (bytes > strlen(path) || !pml_path_is_below(root, path, &below) || below != bytes)
		VIOLATION("%s is no root of %s", root, path);
	judge_rule(rule, &address, identity);
	return rule;
}

static void use_exports(const struct rules *r, const struct pml_exports *exports,
			const struct pml_exports *again)
{
	static const char *const paths[] = {"", "/", "/data/a/b/c", "/my data", "//pub/./x", "/.."};
	static const char *const peers[] = {"10.0.0.7:1", "127.0.0.1:9", "[fe80::1%eth0]:7", "?"};
	static const char *const names[] = {NULL, "alice", "bob"};
	for (size_t i = 0; i <= PML_ARRAY_LEN(paths); i++)
		for (size_t k = 0; k < PML_ARRAY_LEN(peers); k++)
			for (size_t m = 0; m < PML_ARRAY_LEN(names); m++) {
				const char *path = i < PML_ARRAY_LEN(paths) ? paths[i] : r->path;
				const struct pml_export_rule *a, *b;
				a = find(exports, path, peers[k], names[m]);
				b = find(again, path, peers[k], names[m]);
				if (!a != !b || (a && a->is_read_only != b->is_read_only))
					VIOLATION("one text, two rules");
			}
}

static void run_exports(struct rules *r)
{
	const struct pml_exports_defaults defaults = {
		.anon_uid = 65534, .anon_gid = 65534, .has_secrets = r->how & IS_OTHER};
	struct pml_exports *exports, *again;
	int err = pml_exports_load(r->file, &defaults, &exports, r->reason);
	if (err) {
		judge_refusal(r, err);
		return;
	}
	if (pml_exports_load(r->file, &defaults, &again, r->reason))
		VIOLATION("one text is taken, and is not");
	use_exports(r, exports, again);
	pml_exports_free(exports);
	pml_exports_free(again);
}

/* ---- secrets ------------------------------------------------------------- */

static void judge_identity(const struct pml_identity *identity, const char *name)
{
	if (strcmp(identity->name, name) != 0 || !pml_identity_is_valid(name))
		VIOLATION("another identity");
	if (identity->ngroups > PML_GROUPS_MAX || identity->uid > PML_ID_MAX ||
	    identity->gid > PML_ID_MAX)
		VIOLATION("an identity out of its limits");
}

static void look_for(const struct pml_secrets *secrets, const struct pml_secrets *again,
		     const char *name)
{
	const uint8_t *key, *key_again;
	const struct pml_identity *found = pml_secrets_find(secrets, name, &key);
	const struct pml_identity *same = pml_secrets_find(again, name, &key_again);
	if (!key || !found != !same)
		VIOLATION("one text, two identities");
	if (!found)
		return;
	judge_identity(found, name);
	if (memcmp(key, key_again, PML_SECRET_BYTES) != 0 || memcmp(found, same, sizeof(*found)))
		VIOLATION("one text, two secrets");
}

/* Each first word is looked for. */
static void use_secrets(struct rules *r, const struct pml_secrets *secrets,
			const struct pml_secrets *again)
{
	char *rest = r->text;
	look_for(secrets, again, "");
	look_for(secrets, again, "nobody");
	for (char *line = strsep(&rest, "\n"); line; line = strsep(&rest, "\n")) {
		const char *name = pml_word_next(&line);
		if (name && strlen(name) <= PML_WIRE_IDENTITY_MAX)
			look_for(secrets, again, name);
	}
}

static void run_secrets(struct rules *r)
{
	struct pml_secrets *secrets, *again;
	bool is_client = r->how & IS_OTHER;
	int err = pml_secrets_load(r->file, is_client, &secrets, r->reason);
	if (err) {
		judge_refusal(r, err);
		return;
	}
	if (pml_secrets_load(r->file, is_client, &again, r->reason))
		VIOLATION("one text is taken, and is not");
	r->text[PML_MIN(r->bytes, sizeof(r->text) - 1)] = 0;
	use_secrets(r, secrets, again);
	pml_secrets_free(secrets);
	pml_secrets_free(again);
}

/* ---- all ----------------------------------------------------------------- */

void fuzz_start(void)
{
}

void fuzz_one(const uint8_t *input, size_t bytes)
{
	struct rules *r = calloc(1, sizeof(*r));
	if (!r)
		VIOLATION("out of memory");
	compose(r, input, bytes);
	int fd = make_file(r);
	if (r->how & IS_SECRETS)
		run_secrets(r);
	else
		run_exports(r);
	(void)close(fd);
	free(r);
}
