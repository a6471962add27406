/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_options.c -- tools/options.c and tools/size.c: what people may write, and what not
 */
#include "../../tools/options.h"
#include "../../tools/size.h"
#include "../tap.h"

/* ---- numbers ------------------------------------------------------------ */

struct number_case {
	const char *text;
	int err;
	uint64_t want;
};

static void test_sizes_have_suffixes_of_1024(void)
{
	static const struct number_case cases[] = {
		{"0", 0, 0},
		{"1", 0, 1},
		{"4096", 0, 4096},
		{"64K", 0, 64u << 10},
		{"64k", 0, 64u << 10},
		{"3M", 0, 3u << 20},
		{"2g", 0, 2ull << 30},
		{"1T", 0, 1ull << 40},
		{"16777215T", 0, 16777215ull << 40},
		{"18446744073709551615", 0, UINT64_MAX},
		{"16777216T", -ERANGE, 0},
		{"18446744073709551616", -ERANGE, 0},
		{"99999999999999999999999", -ERANGE, 0},
		{"", -EINVAL, 0},
		{"K", -EINVAL, 0},
		{"-1", -EINVAL, 0},
		{"+1", -EINVAL, 0},
		{" 1", -EINVAL, 0},
		{"1 ", -EINVAL, 0},
		{"1.5G", -EINVAL, 0},
		{"1KB", -EINVAL, 0},
		{"1KK", -EINVAL, 0},
		{"1P", -EINVAL, 0},
		{"0x10", -EINVAL, 0},
	};
	for (size_t i = 0; i < PML_ARRAY_LEN(cases); i++) {
		uint64_t got = 0;
		int err = pml_size_parse(cases[i].text, &got);
		if (err != cases[i].err || got != cases[i].want)
			TAP_FAIL("\"%s\": %d, %llu", cases[i].text, err, (unsigned long long)got);
	}
}

static void test_times_are_milliseconds_unless_seconds(void)
{
	static const struct number_case cases[] = {
		{"0", 0, 0},
		{"250", 0, 250},
		{"250ms", 0, 250},
		{"10s", 0, 10000},
		{"4294967295", 0, UINT32_MAX},
		{"4294967s", 0, 4294967000u},
		{"4294967296", -ERANGE, 0},
		{"4294968s", -ERANGE, 0},
		{"", -EINVAL, 0},
		{"s", -EINVAL, 0},
		{"ms", -EINVAL, 0},
		{"1m", -EINVAL, 0},
		{"1S", -EINVAL, 0},
		{"1 s", -EINVAL, 0},
		{"1.5s", -EINVAL, 0},
		{"-1s", -EINVAL, 0},
	};
	for (size_t i = 0; i < PML_ARRAY_LEN(cases); i++) {
		uint32_t got = 0;
		int err = pml_time_parse(cases[i].text, &got);
		if (err != cases[i].err || got != cases[i].want)
			TAP_FAIL("\"%s\": %d, %u", cases[i].text, err, (unsigned int)got);
	}
}

static void test_counts_are_plain_and_bounded(void)
{
	uint64_t got = 7;
	CHECK_EQ(pml_count_parse("100", 100, &got), 0);
	CHECK_EQ(got, 100);
	CHECK_EQ(pml_count_parse("101", 100, &got), -ERANGE);
	CHECK_EQ(pml_count_parse("1k", 5000, &got), -EINVAL);
	CHECK_EQ(pml_count_parse("", 5000, &got), -EINVAL);
	CHECK_EQ(got, 100);
}

static void test_sizes_are_printed_in_the_largest_unit(void)
{
	static const struct {
		uint64_t bytes;
		const char *want;
	} cases[] = {
		{0, "0 B"},
		{1023, "1023 B"},
		{1024, "1.0 KiB"},
		{1536, "1.5 KiB"},
		{(1u << 20) - 1, "1023.9 KiB"},
		{64u << 20, "64.0 MiB"},
		{3ull << 40, "3.0 TiB"},
		{UINT64_MAX, "15.9 EiB"},
	};
	for (size_t i = 0; i < PML_ARRAY_LEN(cases); i++) {
		char text[PML_SIZE_TEXT_BYTES];
		pml_size_format(cases[i].bytes, text);
		CHECK_STR(text, cases[i].want);
	}
}

/* ---- option lists ------------------------------------------------------- */

static struct pml_mount_options options;
static char reason[PML_REASON_BYTES];

static int parse(const char *list)
{
	pml_options_init(&options);
	reason[0] = '\0';
	return pml_options_parse(&options, list, reason);
}

static void test_without_options_there_are_defaults(void)
{
	CHECK_EQ(parse(""), 0);
	CHECK_EQ(options.flags, 0);
	CHECK_EQ(options.client_uid, 65534);
	CHECK_EQ(options.client_gid, 65534);
	CHECK(options.rdma.count == 0 && options.soft.count == 0 && !options.allow_other);
	CHECK(!options.secrets[0] && !options.exports[0]);
	CHECK(options.max_connections == 0 && options.max_host_connections == 0);
	CHECK(!options.allow_unauthenticated && !options.poison_freed);
	CHECK(!options.local_leases);
}

static void test_what_mount_passes_is_taken_or_ignored(void)
{
	CHECK_EQ(parse("rw,suid,dev,exec,auto,nouser,async,relatime,defaults,_netdev,nofail,"
		       "x-systemd.automount,x-initrd,user=joe,uhelper=hal,comment=a b"),
		 0);
	CHECK_EQ(options.flags, 0);
	CHECK_EQ(parse("ro,nosuid,nodev,noexec,sync,dirsync,noatime,nodiratime"), 0);
	CHECK_EQ(options.flags, PML_MOUNT_RO | PML_MOUNT_NOSUID | PML_MOUNT_NODEV |
					PML_MOUNT_NOEXEC | PML_MOUNT_SYNC | PML_MOUNT_DIRSYNC |
					PML_MOUNT_NOATIME | PML_MOUNT_NODIRATIME);
}

static void test_the_last_of_opposite_options_wins(void)
{
	CHECK_EQ(parse("ro,nosuid,rw,suid,,ro,"), 0);
	CHECK_EQ(options.flags, PML_MOUNT_RO);
}

static void test_lists_add_up(void)
{
	CHECK_EQ(parse("ro"), 0);
	CHECK_EQ(pml_options_parse(&options, "poison", reason), 0);
	CHECK_EQ(options.flags, PML_MOUNT_RO);
	CHECK(options.poison_freed);
}

static void test_own_flags_and_ids(void)
{
	CHECK_EQ(parse("allow_other,allow_unauthenticated,poison,client_uid=0,client_gid=100,"
		       "local_leases"),
		 0);
	CHECK(options.local_leases);
	CHECK(options.allow_other && options.allow_unauthenticated && options.poison_freed);
	CHECK_EQ(options.client_uid, 0);
	CHECK_EQ(options.client_gid, 100);
}

static void test_addresses_are_split(void)
{
	CHECK_EQ(parse("soft=127.0.0.1:0,rdma=[fe80::1%eth0]:7471"), 0);
	CHECK(options.soft.count == 1 && options.rdma.count == 1);
	CHECK_STR(options.soft.at[0].host, "127.0.0.1");
	CHECK_STR(options.soft.at[0].port, "0");
	CHECK_STR(options.rdma.at[0].host, "fe80::1%eth0");
	CHECK_STR(options.rdma.at[0].port, "7471");
	CHECK_EQ(parse("soft=localhost:65535"), 0);
	CHECK_STR(options.soft.at[0].host, "localhost");
	CHECK_EQ(parse("soft=a:1,soft=[::1]:2,rdma=b:3,soft=a:1"), 0);
	CHECK(options.soft.count == 3 && options.rdma.count == 1);
	CHECK_STR(options.soft.at[1].host, "::1");
	CHECK_STR(options.soft.at[2].port, "1");
	CHECK_EQ(parse("soft=a:1,soft=a:2,soft=a:3,soft=a:4,soft=a:5,soft=a:6,soft=a:7,soft=a:8"),
		 0);
	CHECK_EQ(pml_options_parse(&options, "soft=a:9", reason), -EINVAL);
	CHECK(strstr(reason, "more than 8 addresses"));
}

static void test_lease_numbers_override_defaults(void)
{
	struct pml_lease_config config;
	pml_lease_config_default(&config, 1ull << 30);
	const struct pml_lease_config defaults = config;

	CHECK_EQ(parse("ack=1s,drain=2500,block_deadline=0,term=30s,fence=50ms,max_sessions=3,"
		       "max_waiters=9,max_pinned=64M,max_session_pinned=4096"),
		 0);
	pml_options_apply(&options, &config);
	CHECK_EQ(config.ack_ms, 1000);
	CHECK_EQ(config.drain_ms, 2500);
	CHECK_EQ(config.block_deadline_ms, 0);
	CHECK_EQ(config.term_ms, 30000);
	CHECK_EQ(config.fence_ms, 50);
	CHECK_EQ(config.max_sessions, 3);
	CHECK_EQ(config.max_waiters, 9);
	CHECK_EQ(config.max_pinned_bytes, 64 << 20);
	CHECK_EQ(config.max_session_pinned_bytes, 4096);
	CHECK_EQ(config.max_leases, defaults.max_leases);
	CHECK_EQ(config.max_session_leases, defaults.max_session_leases);
	CHECK_EQ(config.policy[PML_OP_PUNCH], defaults.policy[PML_OP_PUNCH]);
	CHECK_EQ(config.lease_policy, defaults.lease_policy);
}

static void test_policy_of_an_operation_beats_the_general_one(void)
{
	static const char *const orders[] = {
		"policy=ebusy,policy.truncate=block,policy.lease=revoke",
		"policy.lease=revoke,policy.truncate=block,policy=ebusy",
	};
	for (size_t i = 0; i < PML_ARRAY_LEN(orders); i++) {
		struct pml_lease_config config;
		pml_lease_config_default(&config, 1ull << 30);
		config.lease_policy = PML_POLICY_BLOCK;
		CHECK_EQ(parse(orders[i]), 0);
		pml_options_apply(&options, &config);
		CHECK_EQ(config.policy[PML_OP_TRUNCATE], PML_POLICY_BLOCK);
		CHECK_EQ(config.policy[PML_OP_PUNCH], PML_POLICY_EBUSY);
		CHECK_EQ(config.policy[PML_OP_CLONE_DST], PML_POLICY_EBUSY);
		CHECK_EQ(config.lease_policy, PML_POLICY_REVOKE);
	}
}

static void test_the_general_policy_is_that_of_lease_requests_too(void)
{
	struct pml_lease_config config;
	pml_lease_config_default(&config, 1ull << 30);
	CHECK_EQ(parse("policy=block"), 0);
	pml_options_apply(&options, &config);
	CHECK_EQ(config.lease_policy, PML_POLICY_BLOCK);
}

static void test_errors_name_the_option(void)
{
	static const struct {
		const char *list;
		const char *want;
	} cases[] = {
		{"nonsense", "unknown option \"nonsense\""},
		{"ro,nonsense=1,rw", "unknown option \"nonsense\""},
		{"=1", "unknown option \"\""},
		{"ack", "option \"ack\" needs a value"},
		{"soft", "option \"soft\" needs a value"},
		{"policy", "option \"policy\" needs a value"},
		{"ro=1", "option \"ro\" takes no value"},
		{"poison=", "option \"poison\" takes no value"},
		{"ack=", "option \"ack\" wants a time like 1500ms or 10s, not \"\""},
		{"ack=1h", "option \"ack\" wants a time"},
		{"ack=0", "option \"ack\": 0 is out of range (1 to 3600000 ms)"},
		{"term=3601s", "option \"term\": 3601s is out of range"},
		{"fence=99999999999", "option \"fence\": 99999999999 is out of range"},
		{"max_leases=-1", "option \"max_leases\" wants a number"},
		{"max_leases=0", "option \"max_leases\": 0 is out of range"},
		{"max_pinned=1X", "option \"max_pinned\" wants a size like 64M or 1G"},
		{"max_pinned=1", "option \"max_pinned\": 1 is out of range"},
		{"policy=maybe", "option \"policy\" wants revoke, ebusy, block or, for"},
		{"policy=skip", "policy \"skip\" is for relocate and dedupe, not for \"policy\""},
		{"policy.punch=skip", "policy \"skip\" is for relocate and dedupe, not for "
				      "\"policy.punch\""},
		{"policy.lease=skip", "policy \"skip\" is for relocate and dedupe, not for "
				      "\"policy.lease\""},
		{"policy.punch=", "option \"policy.punch\" wants revoke"},
		{"policy.defrag=revoke", "unknown option \"policy.defrag\": no such operation"},
		{"policy.=revoke", "unknown option \"policy.\""},
		{"secrets=secrets", "option \"secrets\" wants the absolute path"},
		{"exports=", "option \"exports\" wants the absolute path"},
		{"max_connections=0", "option \"max_connections\" wants a number from 1 to 4096"},
		{"max_connections=4097", "option \"max_connections\" wants"},
		{"max_host_connections=x", "option \"max_host_connections\" wants"},
		{"soft=127.0.0.1", "option \"soft\" wants ADDR:PORT"},
		{"soft=:1", "option \"soft\" wants ADDR:PORT"},
		{"soft=[]:1", "option \"soft\" wants ADDR:PORT"},
		{"soft=a:", "option \"soft\" wants ADDR:PORT"},
		{"soft=a:65536", "option \"soft\" wants ADDR:PORT"},
		{"soft=a:1x", "option \"soft\" wants ADDR:PORT"},
		{"rdma=fe80::1:7471", "option \"rdma\" wants ADDR:PORT (an IPv6 address in [])"},
		{"client_uid=root", "option \"client_uid\" wants a numeric id"},
		{"client_gid=4294967295", "option \"client_gid\" wants a numeric id"},
	};
	for (size_t i = 0; i < PML_ARRAY_LEN(cases); i++) {
		int err = parse(cases[i].list);
		if (err != -EINVAL || strncmp(reason, cases[i].want, strlen(cases[i].want)) != 0 ||
		    strchr(reason, '\n'))
			TAP_FAIL("\"%s\": %d, %s", cases[i].list, err, reason);
	}
}

static void test_a_remount_changes_policies_times_and_limits_only(void)
{
	struct pml_mount_options changed;
	CHECK_EQ(parse("soft=127.0.0.1:7470,policy=block,policy.punch=ebusy,ack=1s,noatime"), 0);
	const struct pml_mount_options mounted = options;
	CHECK_EQ(pml_options_remount(&mounted,
				     "rw,relatime,remount,user_id=0,group_id=0,allow_other,"
				     "policy=revoke,drain=2s,max_leases=7,ebusy_recall",
				     &changed, reason),
		 0);
	struct pml_lease_config config;
	pml_lease_config_default(&config, 1 << 30);
	pml_options_apply(&changed, &config);
	CHECK_EQ(config.policy[PML_OP_TRUNCATE], PML_POLICY_REVOKE);
	CHECK_EQ(config.policy[PML_OP_PUNCH], PML_POLICY_EBUSY);
	CHECK_EQ(config.ack_ms, 1000);
	CHECK_EQ(config.drain_ms, 2000);
	CHECK_EQ(config.max_leases, 7);
	CHECK(config.ebusy_recalls && changed.flags == mounted.flags);

	/* What is named as it is, and the files. */
	CHECK_EQ(pml_options_remount(&mounted, "remount,soft=127.0.0.1:7470,secrets=/s,exports=/e",
				     &changed, reason),
		 0);
	CHECK_EQ(changed.soft.count, 1);
	CHECK_STR(changed.secrets, "/s");
	CHECK_STR(changed.exports, "/e");

	static const char *const fixed[][2] = {
		{"remount,soft=127.0.0.1:7470,soft=127.0.0.1:1", "soft"},
		{"remount,max_connections=5", "max_connections"},
		{"remount,max_host_connections=5", "max_connections"},
		{"remount,ro", "ro or rw"},
		{"remount,soft=127.0.0.1:1", "soft"},
		{"remount,rdma=127.0.0.1:1", "rdma"},
		{"remount,client_gid=5", "client_uid or client_gid"},
		{"remount,poison", "poison"},
		{"remount,allow_unauthenticated", "allow_unauthenticated"},
	};
	for (size_t i = 0; i < PML_ARRAY_LEN(fixed); i++) {
		CHECK_EQ(pml_options_remount(&mounted, fixed[i][0], &changed, reason), -EINVAL);
		CHECK(strncmp(reason, fixed[i][1], strlen(fixed[i][1])) == 0);
	}
	CHECK_EQ(pml_options_remount(&mounted, "remount,policy=never", &changed, reason), -EINVAL);
	/* What the kernel lists means something to a remount only. */
	CHECK_EQ(parse("user_id=0"), -EINVAL);
}

static void test_long_options_are_refused(void)
{
	char list[2048];
	memset(list, 'a', sizeof(list) - 1);
	list[sizeof(list) - 1] = '\0';
	CHECK_EQ(parse(list), -EINVAL);
	CHECK(strstr(reason, "too long"));
	memcpy(list, "soft=", 5);
	memcpy(list + 400, ":1,ro", sizeof(":1,ro"));
	CHECK_EQ(parse(list), -EINVAL);
	CHECK(strstr(reason, "option \"soft\" wants"));
}

static void test_the_kernel_hears_of_standard_options_only(void)
{
	char list[PML_KERNEL_OPTIONS_BYTES];
	CHECK_EQ(parse("soft=127.0.0.1:0,poison"), 0);
	pml_options_kernel(&options, false, list);
	CHECK_STR(list, "default_permissions");
	pml_options_kernel(&options, true, list);
	CHECK_STR(list, "default_permissions,allow_other,suid,dev");
	CHECK_EQ(parse("ro,nosuid,nodev,noexec,sync,dirsync,noatime,nodiratime,allow_other"), 0);
	pml_options_kernel(&options, true, list);
	CHECK_STR(list, "default_permissions,allow_other,ro,noexec,sync,dirsync,noatime");
	pml_options_kernel(&options, false, list);
	CHECK_STR(list, "default_permissions,allow_other,ro,noexec,sync,dirsync,noatime");
}

static void test_fence_methods(void)
{
	pml_options_init(&options);
	CHECK_EQ(options.fence_method, PML_FENCE_AUTO);
	CHECK_EQ(pml_options_parse(&options, "fence_method=connection,fence_verdicts=/x", reason),
		 0);
	CHECK_EQ(options.fence_method, PML_FENCE_BY_CONNECTION);
	CHECK(strcmp(options.fence_verdicts, "/x") == 0);
	CHECK_EQ(pml_options_parse(&options, "fence_method=hope", reason), -EINVAL);
	CHECK(strstr(reason, "hope") != NULL);
	struct pml_mount_options changed;
	CHECK_EQ(pml_options_remount(&options, "fence_method=region", &changed, reason), -EINVAL);
	CHECK_EQ(pml_options_remount(&options, "fence_method=connection", &changed, reason), 0);
}

int main(void)
{
	TAP_RUN(test_sizes_have_suffixes_of_1024);
	TAP_RUN(test_times_are_milliseconds_unless_seconds);
	TAP_RUN(test_counts_are_plain_and_bounded);
	TAP_RUN(test_sizes_are_printed_in_the_largest_unit);
	TAP_RUN(test_without_options_there_are_defaults);
	TAP_RUN(test_what_mount_passes_is_taken_or_ignored);
	TAP_RUN(test_the_last_of_opposite_options_wins);
	TAP_RUN(test_lists_add_up);
	TAP_RUN(test_own_flags_and_ids);
	TAP_RUN(test_addresses_are_split);
	TAP_RUN(test_lease_numbers_override_defaults);
	TAP_RUN(test_policy_of_an_operation_beats_the_general_one);
	TAP_RUN(test_the_general_policy_is_that_of_lease_requests_too);
	TAP_RUN(test_errors_name_the_option);
	TAP_RUN(test_a_remount_changes_policies_times_and_limits_only);
	TAP_RUN(test_long_options_are_refused);
	TAP_RUN(test_the_kernel_hears_of_standard_options_only);
	TAP_RUN(test_fence_methods);
	return tap_done();
}
