/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_access.c -- who gets in: addresses, the files of secrets and exports, the hosts' table
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "../../rdma/address.h"
#include "../../rdma/exports.h"
#include "../../rdma/hosts.h"
#include "../../rdma/lines.h"
#include "../../rdma/proof.h"
#include "../../rdma/secrets.h"
#include "pml/rdma.h"
#include "tap.h"

#define KEY_A "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"
#define KEY_B "ffeeddccbbaa99887766554433221100FFEEDDCCBBAA99887766554433221100"

static char dir[] = "/tmp/pml-access.XXXXXX";
static char file[64];
static char reason[PML_REASON_BYTES];

static void write_file(const char *text, size_t bytes, mode_t mode)
{
	snprintf(file, sizeof(file), "%s/file", dir);
	FILE *f = fopen(file, "w");
	if (!f || fwrite(text, 1, bytes, f) != bytes || fclose(f) || chmod(file, mode))
		BAIL_OUT("cannot write %s", file);
	reason[0] = 0;
}

/* ---- addresses ----------------------------------------------------------- */

static void test_networks_have_their_addresses_and_no_others(void)
{
	static const struct {
		const char *network, *peer;
		bool want;
	} cases[] = {
		{"*", "10.0.0.1:5", true},
		{"*", "[2001:db8::1]:5", true},
		{"10.0.0.1", "10.0.0.1:5", true},
		{"10.0.0.1", "10.0.0.2:5", false},
		{"10.0.0.1", "[::ffff:10.0.0.1]:5", true},
		{"10.0.0.0/8", "10.255.0.1:5", true},
		{"10.0.0.0/8", "11.0.0.1:5", false},
		{"10.0.0.0/9", "10.127.255.255:5", true},
		{"10.0.0.0/9", "10.128.0.0:5", false},
		{"10.9.8.7/8", "10.1.1.1:5", true},
		{"0.0.0.0/0", "192.0.2.1:5", true},
		{"0.0.0.0/0", "[2001:db8::1]:5", false},
		{"10.0.0.1/32", "10.0.0.1:5", true},
		{"10.0.0.1/31", "10.0.0.0:5", true},
		{"2001:db8::/32", "[2001:db8:1::1]:5", true},
		{"2001:db8::/32", "[2001:db9::1]:5", false},
		{"fe80::/10", "[fe80::1%eth0]:5", true},
		{"::/0", "10.0.0.1:5", true},
		{"::1", "[::1]:5", true},
		{"::1/128", "127.0.0.1:5", false},
		{"::ffff:10.0.0.0/104", "10.3.0.1:5", true},
		{"10.0.0.0/8", "unknown", false},
	};
	for (size_t i = 0; i < PML_ARRAY_LEN(cases); i++) {
		struct pml_network network;
		struct pml_address address;
		pml_address_of_peer(cases[i].peer, &address);
		if (pml_network_parse(cases[i].network, &network) ||
		    pml_network_has(&network, &address) != cases[i].want)
			TAP_FAIL("%s in %s", cases[i].peer, cases[i].network);
	}
}

static void test_what_is_no_network_is_refused(void)
{
	static const char *const texts[] = {
		"",
		"host",
		"10.0.0",
		"10.0.0.0/",
		"10.0.0.0/33",
		"10.0.0.0/x",
		"10.0.0.0/-1",
		"10.0.0.0/0008",
		"10.0.0.0/8/9",
		"::/129",
		"[::1]",
		"**",
		"300.0.0.1",
		" 10.0.0.1",
		"10.0.0.1:5",
		"::ffff:10.0.0.0/129",
		"1111:1111:1111:1111:1111:1111:1111:1111:1111:1111:1111:1111:1111:1111",
	};
	for (size_t i = 0; i < PML_ARRAY_LEN(texts); i++) {
		struct pml_network network;
		if (pml_network_parse(texts[i], &network) != -EINVAL)
			TAP_FAIL("\"%s\" is taken", texts[i]);
	}
}

static bool is_loopback(const char *peer)
{
	struct pml_address address;
	pml_address_of_peer(peer, &address);
	return pml_address_is_loopback(&address);
}

static void test_loopback_is_what_no_other_host_has(void)
{
	CHECK(is_loopback("127.0.0.1:5") && is_loopback("127.9.9.9:5") && is_loopback("[::1]:5"));
	CHECK(is_loopback("[::ffff:127.0.0.1]:5"));
	CHECK(!is_loopback("128.0.0.1:5") && !is_loopback("[::2]:5") && !is_loopback("[::]:5"));
	CHECK(!is_loopback("unknown") && !is_loopback("") && !is_loopback("["));
	CHECK(!is_loopback("127.0.0.1.evil.example.org:5"));

	struct pml_address address;
	struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(0x7f000001)};
	pml_address_of((struct sockaddr *)&in, &address);
	CHECK(pml_address_is_loopback(&address) && pml_address_is_ipv4(&address));
	struct sockaddr_in6 in6 = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
	pml_address_of((struct sockaddr *)&in6, &address);
	CHECK(pml_address_is_loopback(&address) && !pml_address_is_ipv4(&address));
	struct sockaddr other = {.sa_family = AF_UNIX};
	pml_address_of(&other, &address);
	CHECK(!pml_address_is_loopback(&address));
}

/* ---- secrets ------------------------------------------------------------- */

static struct pml_secrets *load_secrets(const char *text, bool is_client)
{
	struct pml_secrets *secrets = NULL;
	write_file(text, strlen(text), 0600);
	if (pml_secrets_load(file, is_client, &secrets, reason))
		TAP_FAIL("%s", reason);
	return secrets;
}

static void test_secrets_are_read_as_written(void)
{
	struct pml_secrets *secrets = load_secrets("# who\n"
						   "\n"
						   "  alice\t" KEY_A " uid=7 gid=8\n"
						   "bob.b-B_2@x " KEY_B " gid=100,0,4294967294 ro "
						   "uid=0 # a remark\r\n"
						   "carol " KEY_B " uid=4294967294 gid=1",
						   false);
	REQUIRE(secrets);
	const uint8_t *secret;
	const struct pml_identity *id = pml_secrets_find(secrets, "alice", &secret);
	REQUIRE(id);
	CHECK(id->uid == 7 && id->gid == 8 && id->ngroups == 0 && !id->is_read_only);
	CHECK_EQ(secret[1], 0x11);
	CHECK_EQ(secret[31], 0xff);
	id = pml_secrets_find(secrets, "bob.b-B_2@x", &secret);
	REQUIRE(id);
	CHECK(id->uid == 0 && id->gid == 100 && id->ngroups == 2 && id->is_read_only);
	CHECK(id->groups[0] == 0 && id->groups[1] == PML_ID_MAX);
	CHECK_EQ(secret[0], 0xff);
	id = pml_secrets_find(secrets, "carol", &secret);
	CHECK(id && id->uid == PML_ID_MAX);
	pml_secrets_free(secrets);
}

static void test_unknown_identities_have_a_secret_that_nobody_knows(void)
{
	static const char *const names[] = {"", "alic", "alicee", "Alice", "mallory"};
	struct pml_secrets *secrets = load_secrets("alice " KEY_A " uid=7 gid=8\n", false);
	struct pml_secrets *again = load_secrets("alice " KEY_A " uid=7 gid=8\n", false);
	REQUIRE(secrets && again);
	const uint8_t *known, *decoy, *other;
	CHECK(pml_secrets_find(secrets, "alice", &known));
	for (size_t i = 0; i < PML_ARRAY_LEN(names); i++) {
		CHECK(!pml_secrets_find(secrets, names[i], &decoy));
		CHECK(memcmp(decoy, known, PML_SECRET_BYTES) != 0);
		CHECK(!pml_secrets_find(again, names[i], &other));
		CHECK(memcmp(decoy, other, PML_SECRET_BYTES) != 0);
	}
	pml_secrets_free(secrets);
	pml_secrets_free(again);
}

static void test_client_lines_need_no_ids(void)
{
	struct pml_secrets *secrets = load_secrets("alice " KEY_A "\nbob " KEY_B " uid=1\n", true);
	const uint8_t *secret;
	CHECK(secrets && pml_secrets_find(secrets, "bob", &secret));
	pml_secrets_free(secrets);
}

static void refuse_secrets(const char *text, const char *words)
{
	struct pml_secrets *secrets;
	char place[96];
	write_file(text, strlen(text), 0600);
	snprintf(place, sizeof(place), "%s:2: ", file);
	int err = pml_secrets_load(file, false, &secrets, reason);
	if (err != -EINVAL || !strstr(reason, words) ||
	    strncmp(reason, place, strlen(place)) != 0 || strstr(reason, "0011223"))
		TAP_FAIL("\"%s\": %d, %s", text, err, reason);
	if (!err)
		pml_secrets_free(secrets);
}

static void test_wrong_lines_of_secrets_are_refused_in_words(void)
{
	static char long_name[200];
	memset(long_name, 'a', 64);
	snprintf(long_name + 64, sizeof(long_name) - 64, " " KEY_A " uid=1 gid=1");
	char text[2048];
#define LINE(line) (snprintf(text, sizeof(text), "a " KEY_B " uid=1 gid=1\n%s\n", line), text)
	refuse_secrets(LINE("alice"), "hexadecimal");
	refuse_secrets(LINE("alice 00112233"), "hexadecimal");
	refuse_secrets(LINE("alice " KEY_A "00 uid=1 gid=1"), "hexadecimal");
	refuse_secrets(LINE("alice x" KEY_A " uid=1 gid=1"), "hexadecimal");
	refuse_secrets(LINE("alice 0g112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"
			    " uid=1 gid=1"),
		       "hexadecimal");
	refuse_secrets(LINE("al/ce " KEY_A " uid=1 gid=1"), "name of an identity");
	refuse_secrets(LINE("\"al ce\" " KEY_A " uid=1 gid=1"), "name of an identity");
	refuse_secrets(LINE("\"alice " KEY_A " uid=1 gid=1"), "name of an identity");
	refuse_secrets(LINE(long_name), "name of an identity");
	refuse_secrets(LINE("a " KEY_A " uid=1 gid=1"), "second line for \"a\"");
	refuse_secrets(LINE("alice " KEY_A " uid=1"), "gid=N is missing");
	refuse_secrets(LINE("alice " KEY_A " gid=1"), "uid=N is missing");
	refuse_secrets(LINE("alice " KEY_A " uid=x gid=1"), "uid= wants");
	refuse_secrets(LINE("alice " KEY_A " uid= gid=1"), "uid= wants");
	refuse_secrets(LINE("alice " KEY_A " uid=4294967295 gid=1"), "uid= wants");
	refuse_secrets(LINE("alice " KEY_A " uid=-1 gid=1"), "uid= wants");
	refuse_secrets(LINE("alice " KEY_A " uid=1 gid=1,"), "gid= wants");
	refuse_secrets(LINE("alice " KEY_A " uid=1 gid=1,,2"), "gid= wants");
	refuse_secrets(LINE("alice " KEY_A " uid=1 gid=99999999999"), "gid= wants");
	refuse_secrets(LINE("alice " KEY_A " uid=1 gid=1 rw"), "may follow");
	refuse_secrets(LINE("alice " KEY_A " uid=1 gid=1 " KEY_A), "may follow");
	refuse_secrets(LINE("alice " KEY_A " uid=1 gid=1 \"ro"), "without its second");
	char groups[400] = "alice " KEY_A " uid=1 gid=1";
	for (unsigned int i = 0; i < PML_GROUPS_MAX + 1; i++)
		strcat(groups, ",2");
	refuse_secrets(LINE(groups), "gid= wants");
#undef LINE
}

static void test_files_that_others_can_read_are_refused(void)
{
	static const mode_t modes[] = {0640, 0604, 0660, 0601, 0620, 0777};
	static const char text[] = "alice " KEY_A " uid=7 gid=8\n";
	struct pml_secrets *secrets;
	for (size_t i = 0; i < PML_ARRAY_LEN(modes); i++) {
		write_file(text, strlen(text), modes[i]);
		CHECK_EQ(pml_secrets_load(file, false, &secrets, reason), -EPERM);
		CHECK(strstr(reason, file) && strstr(reason, "chmod 600"));
	}
	write_file(text, strlen(text), 0400);
	CHECK_EQ(pml_secrets_load(file, false, &secrets, reason), 0);
	pml_secrets_free(secrets);

	struct pml_exports *exports;
	const struct pml_exports_defaults defaults = {.anon_uid = 9, .has_secrets = true};
	write_file("/ *", 3, 0646);
	CHECK_EQ(pml_exports_load(file, &defaults, &exports, reason), -EPERM);
	CHECK(strstr(reason, "chmod 644"));
	write_file("/ *", 3, 0644);
	CHECK_EQ(pml_exports_load(file, &defaults, &exports, reason), 0);
	pml_exports_free(exports);
}

static void test_files_that_are_none_are_refused(void)
{
	struct pml_secrets *secrets;
	CHECK_EQ(pml_secrets_load("/none/of/that", false, &secrets, reason), -ENOENT);
	CHECK(strstr(reason, "/none/of/that: No such file"));
	CHECK_EQ(pml_secrets_load(dir, false, &secrets, reason), -EINVAL);
	CHECK(strstr(reason, "not a regular file"));
	write_file("a\0b", 3, 0600);
	CHECK_EQ(pml_secrets_load(file, false, &secrets, reason), -EINVAL);
	CHECK(strstr(reason, "zero byte"));
	size_t bytes = PML_LINES_BYTES_MAX + 1;
	char *big = malloc(bytes);
	memset(big, '\n', bytes);
	write_file(big, bytes, 0600);
	CHECK_EQ(pml_secrets_load(file, false, &secrets, reason), -EFBIG);
	write_file(big, bytes - 1, 0600);
	CHECK_EQ(pml_secrets_load(file, false, &secrets, reason), 0);
	pml_secrets_free(secrets);
	free(big);

	char fifo[80];
	snprintf(fifo, sizeof(fifo), "%s/fifo", dir);
	CHECK_EQ(mkfifo(fifo, 0600), 0);
	CHECK_EQ(pml_secrets_load(fifo, false, &secrets, reason), -EINVAL);
	unlink(fifo);
}

static void test_too_many_identities_are_refused(void)
{
	char *text = malloc((PML_IDENTITIES_MAX + 1) * 100u);
	size_t at = 0, most = 0;
	for (unsigned int i = 0; i <= PML_IDENTITIES_MAX; i++) {
		most = at;
		at += (size_t)sprintf(text + at, "a%u " KEY_A " uid=1 gid=1\n", i);
	}
	struct pml_secrets *secrets;
	write_file(text, at, 0600);
	CHECK_EQ(pml_secrets_load(file, false, &secrets, reason), -EINVAL);
	CHECK(strstr(reason, ":4097: more than 4096"));
	write_file(text, most, 0600);
	CHECK_EQ(pml_secrets_load(file, false, &secrets, reason), 0);
	const uint8_t *secret;
	CHECK(pml_secrets_find(secrets, "a4095", &secret));
	pml_secrets_free(secrets);
	free(text);
}

/* ---- exports ------------------------------------------------------------- */

static const struct pml_exports_defaults plain = {
	.anon_uid = 65534, .anon_gid = 65533, .has_secrets = true};

static struct pml_exports *load_exports(const char *text)
{
	struct pml_exports *exports = NULL;
	write_file(text, strlen(text), 0644);
	if (pml_exports_load(file, &plain, &exports, reason))
		TAP_FAIL("%s", reason);
	return exports;
}

static const struct pml_export_rule *find(const struct pml_exports *exports, const char *path,
					  const char *peer, const char *identity,
					  const char **ret_root, size_t *ret_bytes)
{
	struct pml_address address;
	const char *why;
	pml_address_of_peer(peer, &address);
	*ret_root = "?";
	const struct pml_export_rule *rule =
		pml_exports_find(exports, path, &address, identity, ret_root, ret_bytes, &why);
	if (!rule && !*why)
		TAP_FAIL("no reason for %s", path);
	return rule;
}

static void test_the_longest_export_of_a_path_counts(void)
{
	static const struct {
		const char *path, *root;
		size_t bytes;
	} cases[] = {
		{"/data", "/data", 5},
		{"/data/", "/data", 5},
		{"//data//x", "/data", 6},
		{"/./data/./x", "/data", 7},
		{"/data/in/x", "/data/in", 8},
		{"/data/inn", "/data", 5},
		{"/data/i", "/data", 5},
		{"/my data/x", "/my data", 8},
		{"/dat", NULL, 0},
		{"/datas", NULL, 0},
		{"/", NULL, 0},
		{"", NULL, 0},
		{"data", NULL, 0},
		{"/data/../data", NULL, 0},
		{"/..", NULL, 0},
		{"/data/..", NULL, 0},
	};
	struct pml_exports *exports = load_exports("/data *(rw)\n"
						   "/data/in/ *(rw)\n"
						   "\"/my data\" *\n");
	REQUIRE(exports);
	for (size_t i = 0; i < PML_ARRAY_LEN(cases); i++) {
		const char *root;
		size_t bytes = 0;
		bool is_let_in = find(exports, cases[i].path, "10.0.0.1:1", "a", &root, &bytes);
		if (is_let_in != (cases[i].root != NULL) ||
		    (is_let_in && (strcmp(root, cases[i].root) != 0 || bytes != cases[i].bytes)))
			TAP_FAIL("%s: %s, %zu", cases[i].path, root, bytes);
	}
	pml_exports_free(exports);

	exports = load_exports("/ *\n");
	const char *root;
	size_t bytes = 9;
	CHECK(find(exports, "", "10.0.0.1:1", "a", &root, &bytes) && bytes == 0);
	CHECK(find(exports, "/x/y", "10.0.0.1:1", "a", &root, &bytes) && bytes == 0);
	CHECK_STR(root, "");
	pml_exports_free(exports);
}

static void test_the_first_rule_that_fits_counts(void)
{
	struct pml_exports *exports =
		load_exports("/a 10.0.0.7(rw,id=alice:bob) 10.0.0.0/8(ro,id=bob,anonuid=5)\n"
			     "/a *(auth=none,all_squash,anongid=3) # more of it\n"
			     "/a 2001:db8::/32(no_root_squash,rw,ro,)\n");
	REQUIRE(exports);
	const char *root;
	size_t bytes;
	const struct pml_export_rule *r = find(exports, "/a", "10.0.0.7:1", "bob", &root, &bytes);
	CHECK(r && !r->is_read_only && r->squash == PML_SQUASH_ROOT && r->anon_uid == 65534 &&
	      r->anon_gid == 65533);
	r = find(exports, "/a", "10.0.0.8:1", "bob", &root, &bytes);
	CHECK(r && r->is_read_only && r->anon_uid == 5);
	CHECK(!find(exports, "/a", "10.0.0.8:1", "alice", &root, &bytes));
	CHECK(!find(exports, "/a", "10.0.0.7:1", "ali", &root, &bytes));
	CHECK(!find(exports, "/a", "10.0.0.7:1", "alice:bob", &root, &bytes));
	r = find(exports, "/a", "11.0.0.1:1", NULL, &root, &bytes);
	CHECK(r && r->is_anonymous && r->squash == PML_SQUASH_ALL && r->anon_gid == 3);
	CHECK(!find(exports, "/a", "11.0.0.1:1", "bob", &root, &bytes));
	r = find(exports, "/a", "[2001:db8::5]:1", "carol", &root, &bytes);
	CHECK(r && r->squash == PML_SQUASH_NONE && r->is_read_only);
	pml_exports_free(exports);
}

static void refuse_exports(const char *line, const char *words)
{
	struct pml_exports *exports;
	char text[2048];
	snprintf(text, sizeof(text), "/first *\n%s\n", line);
	write_file(text, strlen(text), 0644);
	char place[96];
	snprintf(place, sizeof(place), "%s:2: ", file);
	int err = pml_exports_load(file, &plain, &exports, reason);
	if (err != -EINVAL || !strstr(reason, words) || strncmp(reason, place, strlen(place)) != 0)
		TAP_FAIL("\"%s\": %d, %s", line, err, reason);
	if (!err)
		pml_exports_free(exports);
}

static void test_wrong_lines_of_exports_are_refused_in_words(void)
{
	refuse_exports("data *", "begins with a path");
	refuse_exports("\"/data *", "begins with a path");
	refuse_exports("/data", "no client");
	refuse_exports("/data # *", "no client");
	refuse_exports("/data \"*", "without its second");
	refuse_exports("/data * \"10.0.0.1", "without its second");
	refuse_exports("/da//ta *", "\"//\" in it");
	refuse_exports("/data/../x *", "\"..\"");
	refuse_exports("/data/./x *", "\".\"");
	refuse_exports("/.. *", "\"..\"");
	refuse_exports("/data * (rw)", "without a space");
	refuse_exports("/data *(rw", "missing");
	refuse_exports("/data *(rw, ro)", "missing");
	refuse_exports("/data *(rw)x", "missing");
	refuse_exports("/data host(rw)", "is not *");
	refuse_exports("/data 10.0.0.0/33(rw)", "is not *");
	refuse_exports("/data *(rx)", "unknown option \"rx\"");
	refuse_exports("/data *(RW)", "unknown option \"RW\"");
	refuse_exports("/data *(fsid=0)", "unknown option \"fsid=\"");
	refuse_exports("/data *(rw=1)", "unknown option \"rw=\"");
	refuse_exports("/data *(anonuid=x)", "anonuid= wants");
	refuse_exports("/data *(anongid=4294967295)", "anongid= wants");
	refuse_exports("/data *(auth=maybe)", "auth= wants");
	refuse_exports("/data *(id=)", "id= wants");
	refuse_exports("/data *(id=a:)", "id= wants");
	refuse_exports("/data *(id=a/b)", "id= wants");
	refuse_exports("/data *(id=a,auth=none)", "id= needs");
	refuse_exports("/data *(anonuid=0)", "no_root_squash");
	refuse_exports("/data *(all_squash,anonuid=0)", "no_root_squash");
	char ids[400] = "/data *(id=a";
	for (unsigned int i = 0; i < PML_EXPORT_IDS_MAX; i++)
		strcat(ids, ":a");
	refuse_exports(strcat(ids, ")"), "id= wants");
	char path[1200] = "/";
	memset(path + 1, 'x', 1100);
	refuse_exports(strcat(path, " *"), "begins with a path");
}

static void test_rules_for_secrets_need_secrets(void)
{
	struct pml_exports *exports;
	const struct pml_exports_defaults none = {.anon_uid = 65534};
	write_file("/a *(rw)\n", 9, 0644);
	CHECK_EQ(pml_exports_load(file, &none, &exports, reason), -EINVAL);
	CHECK(strstr(reason, "secrets=FILE"));
	write_file("/a *(auth=none)\n", 16, 0644);
	CHECK_EQ(pml_exports_load(file, &none, &exports, reason), 0);
	pml_exports_free(exports);
}

static void test_too_many_exports_are_refused(void)
{
	char *text = malloc(PML_EXPORT_RULES_MAX * 20u);
	size_t at = 0;
	for (unsigned int i = 0; i <= PML_EXPORTS_MAX; i++)
		at += (size_t)sprintf(text + at, "/a%u *\n", i);
	struct pml_exports *exports;
	write_file(text, at, 0644);
	CHECK_EQ(pml_exports_load(file, &plain, &exports, reason), -EINVAL);
	CHECK(strstr(reason, ":1025: more than 1024 exports"));
	at = (size_t)sprintf(text, "/a");
	for (unsigned int i = 0; i <= PML_EXPORT_RULES_MAX; i++)
		at += (size_t)sprintf(text + at, " *");
	write_file(text, at, 0644);
	CHECK_EQ(pml_exports_load(file, &plain, &exports, reason), -EINVAL);
	CHECK(strstr(reason, ":1: more than 4096 clients"));
	free(text);
}

/* ---- both ---------------------------------------------------------------- */

static int reload(struct pml_access *access, const char *secrets, const char *exports,
		  char *ret_reason)
{
	struct pml_access_rules *rules;
	int err = pml_access_read_rules(access, secrets, exports, &rules, ret_reason);
	if (!err)
		pml_access_use_rules(access, rules);
	return err;
}

static void test_rules_stay_when_new_ones_are_wrong(void)
{
	struct pml_access *access;
	write_file("/a *(auth=none)\n", 16, 0644);
	const struct pml_access_args args = {.exports = file, .client_cred = {.uid = 9}};
	REQUIRE(pml_access_new(&args, &access, reason) == 0);
	write_file("/a *(auth=nobody)\n", 18, 0644);
	CHECK_EQ(reload(access, NULL, file, reason), -EINVAL);
	CHECK(strstr(reason, ":1: auth="));
	write_file("/b *(auth=none)\n", 16, 0644);
	CHECK_EQ(reload(access, NULL, file, reason), 0);
	CHECK_EQ(reload(access, "/none", file, reason), -ENOENT);
	pml_access_free(access);
	CHECK_EQ(pml_access_new(&(struct pml_access_args){.secrets = "/none"}, &access, reason),
		 -ENOENT);
	CHECK(strstr(reason, "/none"));
}

/* ---- proofs -------------------------------------------------------------- */

static void test_proofs_depend_on_everything(void)
{
	const uint8_t secret[PML_SECRET_BYTES] = {1}, other[PML_SECRET_BYTES] = {2};
	const uint8_t id[PML_WIRE_CLIENT_ID_BYTES] = {3}, id2[PML_WIRE_CLIENT_ID_BYTES] = {4};
	const uint8_t n1[PML_WIRE_NONCE_BYTES] = {5}, n2[PML_WIRE_NONCE_BYTES] = {6};
	const struct pml_proof_facts facts[] = {
		{"ab", "/c", 2, id, n1, n2, 1},	 {"a", "b/c", 3, id, n1, n2, 1},
		{"ab", "/c/", 3, id, n1, n2, 1}, {"ab", "/c", 2, id2, n1, n2, 1},
		{"ab", "/c", 2, id, n2, n2, 1},	 {"ab", "/c", 2, id, n1, n1, 1},
		{"ab", "/c", 2, id, n1, n2, 2},	 {"ab", "/c", 2, id, n2, n1, 1},
	};
	uint8_t first[PML_WIRE_PROOF_BYTES], proof[PML_WIRE_PROOF_BYTES];
	pml_proof_make(secret, PML_PROOF_CLIENT, &facts[0], first);
	for (size_t i = 0; i < PML_ARRAY_LEN(facts); i++) {
		pml_proof_make(secret, PML_PROOF_CLIENT, &facts[i], proof);
		CHECK_EQ(pml_proof_is_same(first, proof), i == 0);
	}
	pml_proof_make(secret, PML_PROOF_SERVER, &facts[0], proof);
	CHECK(!pml_proof_is_same(first, proof));
	pml_proof_make(other, PML_PROOF_CLIENT, &facts[0], proof);
	CHECK(!pml_proof_is_same(first, proof));
}

/* ---- hosts --------------------------------------------------------------- */

static struct pml_address host(uint32_t n)
{
	struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(0x0a000000 + n)};
	struct pml_address address;
	pml_address_of((struct sockaddr *)&in, &address);
	return address;
}

static void test_one_host_cannot_take_all_places(void)
{
	struct pml_hosts *hosts = pml_hosts_new(4, 3);
	const struct pml_address a = host(1), b = host(2);
	for (int i = 0; i < 3; i++)
		CHECK_EQ(pml_hosts_enter(hosts, &a, 1000), 0);
	CHECK_EQ(pml_hosts_enter(hosts, &a, 1000), -EDQUOT);
	CHECK_EQ(pml_hosts_enter(hosts, &a, 1001), -EDQUOT);
	CHECK_EQ(pml_hosts_enter(hosts, &b, 1001), 0);
	CHECK_EQ(pml_hosts_enter(hosts, &b, 1002), -EUSERS);
	CHECK_EQ(pml_hosts_enter(hosts, &b, 20000), -EUSERS);
	pml_hosts_leave(hosts, &a);
	CHECK_EQ(pml_hosts_enter(hosts, &b, 20001), 0);
	pml_hosts_free(hosts);
}

static void test_it_is_crowded_with_more_than_half(void)
{
	struct pml_hosts *hosts = pml_hosts_new(8, 4);
	const struct pml_address a = host(1), b = host(2), c = host(3);
	CHECK(!pml_hosts_is_crowded(hosts, &a));
	for (int i = 0; i < 2; i++) {
		CHECK_EQ(pml_hosts_enter(hosts, &a, 1), 0);
		CHECK_EQ(pml_hosts_enter(hosts, &b, 1), 0);
	}
	CHECK(!pml_hosts_is_crowded(hosts, &a) && !pml_hosts_is_crowded(hosts, &c));
	/* One host. */
	pml_hosts_leave(hosts, &b);
	CHECK_EQ(pml_hosts_enter(hosts, &a, 1), 0);
	CHECK(pml_hosts_is_crowded(hosts, &a));
	CHECK(!pml_hosts_is_crowded(hosts, &b) && !pml_hosts_is_crowded(hosts, &c));
	/* All of them. */
	CHECK_EQ(pml_hosts_enter(hosts, &b, 1), 0);
	CHECK(pml_hosts_is_crowded(hosts, &b) && pml_hosts_is_crowded(hosts, &c));
	pml_hosts_leave(hosts, &b);
	CHECK(!pml_hosts_is_crowded(hosts, &b));
	for (int i = 0; i < 3; i++)
		pml_hosts_leave(hosts, &a);
	pml_hosts_leave(hosts, &b);
	pml_hosts_free(hosts);
}

static void test_an_ipv6_host_is_its_network(void)
{
	struct pml_hosts *hosts = pml_hosts_new(4, 1);
	struct pml_address a, b, c;
	pml_address_of_peer("[2001:db8::1]:5", &a);
	pml_address_of_peer("[2001:db8::ffff:1]:5", &b);
	pml_address_of_peer("[2001:db8:0:1::1]:5", &c);
	CHECK_EQ(pml_hosts_enter(hosts, &a, 1), 0);
	CHECK_EQ(pml_hosts_enter(hosts, &b, 1), -EDQUOT);
	CHECK_EQ(pml_hosts_enter(hosts, &c, 1), 0);
	pml_hosts_free(hosts);
}

static void test_refusals_are_slower_each_time_and_forgotten(void)
{
	struct pml_hosts *hosts = pml_hosts_new(4, 4);
	const struct pml_address a = host(1), b = host(2);
	struct pml_refusal refusal;
	uint32_t want_ms = PML_REFUSAL_FIRST_MS;
	for (uint32_t i = 1; i <= 200; i++) {
		pml_hosts_refuse(hosts, &a, 1000, &refusal);
		CHECK_EQ(refusal.delay_ms, want_ms);
		CHECK_EQ(refusal.count, i);
		want_ms = PML_MIN(2 * want_ms, PML_REFUSAL_LAST_MS);
	}
	pml_hosts_refuse(hosts, &b, 1000, &refusal);
	CHECK_EQ(refusal.delay_ms, PML_REFUSAL_FIRST_MS);
	pml_hosts_refuse(hosts, &a, 1000 + PML_REFUSAL_FORGET_MS - 1, &refusal);
	CHECK_EQ(refusal.delay_ms, PML_REFUSAL_LAST_MS);
	pml_hosts_refuse(hosts, &a, 1000 + 2 * PML_REFUSAL_FORGET_MS, &refusal);
	CHECK_EQ(refusal.count, 1);
	pml_hosts_free(hosts);
}

static void test_the_table_forgets_who_was_heard_of_longest_ago(void)
{
	struct pml_hosts *hosts = pml_hosts_new(2, 2);
	struct pml_refusal refusal;
	const struct pml_address kept = host(1000000), old = host(1000001);
	CHECK_EQ(pml_hosts_enter(hosts, &kept, 1), 0);
	pml_hosts_refuse(hosts, &kept, 1, &refusal);
	pml_hosts_refuse(hosts, &old, 2, &refusal);
	/* Those that the table remembers, and the place of the second connection. */
	for (uint32_t i = 0; i < PML_HOSTS_REMEMBERED + 1; i++) {
		const struct pml_address a = host(i);
		pml_hosts_refuse(hosts, &a, 3 + i, &refusal);
	}
	pml_hosts_refuse(hosts, &old, 1000, &refusal);
	CHECK_EQ(refusal.count, 1);
	pml_hosts_refuse(hosts, &kept, 1000, &refusal);
	CHECK_EQ(refusal.count, 2);
	pml_hosts_leave(hosts, &kept);
	pml_hosts_free(hosts);
}

/* ---- lines in the log ---------------------------------------------------- */

static bool may_log(struct pml_hosts *hosts, uint32_t n, enum pml_line_kind kind, uint64_t now_ms,
		    uint64_t *ret_left_out)
{
	const struct pml_address a = host(n);
	return pml_hosts_may_log(hosts, &a, kind, now_ms, ret_left_out);
}

/* How many of @tries lines about a host are written at that time. */
static uint32_t count_lines(struct pml_hosts *hosts, uint32_t n, enum pml_line_kind kind,
			    uint64_t now_ms, uint32_t tries)
{
	uint32_t written = 0;
	uint64_t ignored;
	for (uint32_t i = 0; i < tries; i++)
		written += may_log(hosts, n, kind, now_ms, &ignored);
	return written;
}

/* A table in which the first @n hosts have a connection each. */
static struct pml_hosts *hosts_with(uint32_t n)
{
	struct pml_hosts *hosts = pml_hosts_new(n, 1);
	for (uint32_t i = 0; i < n; i++) {
		const struct pml_address a = host(i);
		if (pml_hosts_enter(hosts, &a, 1))
			BAIL_OUT("no place for host %u", i);
	}
	return hosts;
}

static void free_hosts_with(struct pml_hosts *hosts, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++) {
		const struct pml_address a = host(i);
		pml_hosts_leave(hosts, &a);
	}
	pml_hosts_free(hosts);
}

static void test_I9_lines_about_a_host_come_in_a_burst_and_then_slowly(void)
{
	const uint64_t t = 1000000;
	uint64_t left_out = 77;
	struct pml_hosts *hosts = hosts_with(2);
	for (uint32_t i = 0; i < PML_HOST_LINES; i++) {
		CHECK(may_log(hosts, 0, PML_LINE_GREETING, t, &left_out));
		CHECK_EQ(left_out, 0);
	}
	CHECK_EQ(count_lines(hosts, 0, PML_LINE_GREETING, t, 490), 0);
	CHECK(!may_log(hosts, 0, PML_LINE_GREETING, t + PML_HOST_LINE_MS - 1, &left_out));
	CHECK(may_log(hosts, 0, PML_LINE_GREETING, t + PML_HOST_LINE_MS, &left_out));
	CHECK_EQ(left_out, 491);
	/* One per interval, and what was left out is told once. */
	CHECK(!may_log(hosts, 0, PML_LINE_GREETING, t + 2 * PML_HOST_LINE_MS - 1, &left_out));
	CHECK(may_log(hosts, 0, PML_LINE_GREETING, t + 2 * PML_HOST_LINE_MS, &left_out));
	CHECK_EQ(left_out, 1);
	/* After a pause there is a burst again, of the same length. */
	const uint64_t later = t + 100 * PML_HOST_LINE_MS;
	CHECK_EQ(count_lines(hosts, 0, PML_LINE_GREETING, later, 100), PML_HOST_LINES);
	free_hosts_with(hosts, 2);
}

static void test_lines_of_one_kind_or_host_silence_no_other(void)
{
	const uint64_t t = 1000000;
	uint64_t left_out;
	struct pml_hosts *hosts = hosts_with(2);
	for (unsigned int kind = 0; kind < PML_LINE_KINDS; kind++) {
		CHECK_EQ(count_lines(hosts, 0, (enum pml_line_kind)kind, t, 1000), PML_HOST_LINES);
		/* The other host's line is the next: it tells. */
		CHECK(may_log(hosts, 1, (enum pml_line_kind)kind, t, &left_out));
		CHECK_EQ(left_out, 1000 - PML_HOST_LINES);
	}
	free_hosts_with(hosts, 2);
}

static void test_I9_many_hosts_have_a_limit_together(void)
{
	enum { N = 50 };
	const uint64_t t = 1000000;
	uint64_t left_out, told = 0;
	struct pml_hosts *hosts = hosts_with(N);
	uint32_t written = 0;
	for (uint32_t i = 0; i < N * 20; i++) {
		if (!may_log(hosts, i / 20, PML_LINE_REFUSED, t, &left_out))
			continue;
		written++;
		told += left_out;
	}
	CHECK_EQ(written, PML_ALL_LINES);
	/* A host that was left out for the others has all of its own lines yet. */
	CHECK(!may_log(hosts, N - 1, PML_LINE_REFUSED, t + PML_ALL_LINE_MS - 1, &left_out));
	CHECK(may_log(hosts, N - 1, PML_LINE_REFUSED, t + PML_ALL_LINE_MS, &left_out));
	CHECK_EQ(told + left_out, N * 20 - PML_ALL_LINES + 1);
	CHECK_EQ(count_lines(hosts, N - 1, PML_LINE_REFUSED, t + 60000, 20), PML_HOST_LINES);
	/* For an hour, whatever the number of hosts: one line per interval. */
	written = 0;
	for (uint64_t ms = 0; ms < 3600000; ms += 500)
		written +=
			count_lines(hosts, (uint32_t)(ms / 500 % N), PML_LINE_GREETING, t + ms, 1);
	CHECK(written >= 3600000 / PML_ALL_LINE_MS);
	CHECK(written <= PML_ALL_LINES + 3600000 / PML_ALL_LINE_MS);
	free_hosts_with(hosts, N);
}

static void test_hosts_that_are_not_known_count_as_one_and_cost_no_place(void)
{
	const uint64_t t = 1000000;
	struct pml_hosts *hosts = hosts_with(1);
	struct pml_refusal refusal;
	const struct pml_address guesser = host(1);
	pml_hosts_refuse(hosts, &guesser, t, &refusal);
	uint32_t written = 0;
	for (uint32_t i = 0; i < 10 * PML_HOSTS_REMEMBERED; i++)
		written += count_lines(hosts, 1000 + i, PML_LINE_TURNED_AWAY, t, 1);
	CHECK_EQ(written, PML_HOST_LINES);
	CHECK_EQ(count_lines(hosts, 0, PML_LINE_TURNED_AWAY, t, 1), 1);
	/* Nobody was forgotten for them. */
	pml_hosts_refuse(hosts, &guesser, t, &refusal);
	CHECK_EQ(refusal.count, 2);
	free_hosts_with(hosts, 1);
}

struct shouter {
	struct pml_hosts *hosts;
	uint32_t n;
	uint64_t written;
	uint64_t left_out; /* that it was told of */
	pthread_t thread;
};

static void *shout(void *arg)
{
	struct shouter *s = arg;
	for (uint64_t i = 0; i < 20000; i++) {
		uint64_t left_out;
		if (may_log(s->hosts, s->n, PML_LINE_GREETING, 1000000 + i, &left_out)) {
			s->written++;
			s->left_out += left_out;
		}
	}
	return NULL;
}

static void test_every_line_is_written_or_counted(void)
{
	enum { N = 4 };
	struct pml_hosts *hosts = hosts_with(N);
	struct shouter shouters[N];
	for (uint32_t i = 0; i < N; i++) {
		shouters[i] = (struct shouter){.hosts = hosts, .n = i / 2};
		CHECK_EQ(pthread_create(&shouters[i].thread, NULL, shout, &shouters[i]), 0);
	}
	uint64_t seen = 0, written = 0, left_out;
	for (uint32_t i = 0; i < N; i++) {
		pthread_join(shouters[i].thread, NULL);
		seen += shouters[i].written + shouters[i].left_out;
		written += shouters[i].written;
	}
	CHECK(may_log(hosts, N - 1, PML_LINE_GREETING, 2000000, &left_out));
	CHECK_EQ(seen + left_out, N * 20000);
	CHECK(written >= 2 * PML_HOST_LINES);
	CHECK(written <= 2 * (PML_HOST_LINES + 20000 / PML_HOST_LINE_MS + 1));
	free_hosts_with(hosts, N);
}

int main(void)
{
	if (!mkdtemp(dir))
		BAIL_OUT("no directory");
	TAP_RUN(test_networks_have_their_addresses_and_no_others);
	TAP_RUN(test_what_is_no_network_is_refused);
	TAP_RUN(test_loopback_is_what_no_other_host_has);
	TAP_RUN(test_secrets_are_read_as_written);
	TAP_RUN(test_unknown_identities_have_a_secret_that_nobody_knows);
	TAP_RUN(test_client_lines_need_no_ids);
	TAP_RUN(test_wrong_lines_of_secrets_are_refused_in_words);
	TAP_RUN(test_files_that_others_can_read_are_refused);
	TAP_RUN(test_files_that_are_none_are_refused);
	TAP_RUN(test_too_many_identities_are_refused);
	TAP_RUN(test_the_longest_export_of_a_path_counts);
	TAP_RUN(test_the_first_rule_that_fits_counts);
	TAP_RUN(test_wrong_lines_of_exports_are_refused_in_words);
	TAP_RUN(test_rules_for_secrets_need_secrets);
	TAP_RUN(test_too_many_exports_are_refused);
	TAP_RUN(test_rules_stay_when_new_ones_are_wrong);
	TAP_RUN(test_proofs_depend_on_everything);
	TAP_RUN(test_one_host_cannot_take_all_places);
	TAP_RUN(test_it_is_crowded_with_more_than_half);
	TAP_RUN(test_an_ipv6_host_is_its_network);
	TAP_RUN(test_refusals_are_slower_each_time_and_forgotten);
	TAP_RUN(test_the_table_forgets_who_was_heard_of_longest_ago);
	TAP_RUN(test_I9_lines_about_a_host_come_in_a_burst_and_then_slowly);
	TAP_RUN(test_lines_of_one_kind_or_host_silence_no_other);
	TAP_RUN(test_I9_many_hosts_have_a_limit_together);
	TAP_RUN(test_hosts_that_are_not_known_count_as_one_and_cost_no_place);
	TAP_RUN(test_every_line_is_written_or_counted);
	unlink(file);
	rmdir(dir);
	return tap_done();
}
