/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_fence.c -- the fence test itself over the software fabric, its verdicts on disk,
 * and what the server makes of them
 */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "../../rdma/rxe.h"
#include "../../rdma/transport.h"
#include "../tap.h"

static char dir[] = "/tmp/pml-fence-XXXXXX";
static char path[64], reason[PML_REASON_BYTES];

static const struct pml_fence_device nic = {"mlx5_0",	  "mlx5_core", "0002c903000e0b72",
					    "16.35.2000", "6.1.0-1",   true};
static const struct pml_fence_device rxe = {"rxe0", "rdma_rxe", "0", "-", "6.1.0-1", true};
static const struct pml_fence_device old_nic = {"cxgb4_0", "iw_cxgb4", "7", "1", "6.1.0-1", false};

static void write_text(const char *text, mode_t mode)
{
	(void)unlink(path);
	FILE *f = fopen(path, "w");
	if (!f || fputs(text, f) < 0 || fclose(f) || chmod(path, mode))
		BAIL_OUT("cannot write %s", path);
}

static struct pml_verdict verdict(const struct pml_fence_device *device,
				  enum pml_fence_method method, uint64_t trials,
				  uint64_t violations)
{
	return (struct pml_verdict){.device = *device,
				    .method = method,
				    .trials = trials,
				    .violations = violations,
				    .date = "2026-01-02T03:04:05Z"};
}

static int record(const struct pml_fence_device *device, enum pml_fence_method method,
		  uint64_t trials, uint64_t violations)
{
	struct pml_verdict v = verdict(device, method, trials, violations);
	return pml_verdict_record(path, &v, reason);
}

/* ---- the file ----------------------------------------------------------- */

static void test_no_file_is_no_verdict(void)
{
	static struct pml_verdicts got = {.count = 3};
	(void)unlink(path);
	CHECK_EQ(pml_verdicts_load(path, &got, reason), 0);
	CHECK_EQ(got.count, 0);
}

static void test_trials_of_the_same_add_up(void)
{
	static struct pml_verdicts got;
	struct pml_fence_device other_kernel = nic;
	strcpy(other_kernel.kernel, "6.1.0-2");
	(void)unlink(path);
	CHECK_EQ(record(&nic, PML_BY_WINDOW, 1000, 3), 0);
	CHECK_EQ(record(&nic, PML_BY_REGION, 7, 0), 0);
	CHECK_EQ(record(&other_kernel, PML_BY_WINDOW, 5, 0), 0);
	/* A clean run does not take back what was seen. */
	CHECK_EQ(record(&nic, PML_BY_WINDOW, 2000, 0), 0);
	CHECK_EQ(pml_verdicts_load(path, &got, reason), 0);
	CHECK_EQ(got.count, 3);
	const struct pml_verdict *v = pml_verdict_find(&got, &nic, PML_BY_WINDOW);
	REQUIRE(v);
	CHECK_EQ(v->trials, 3000);
	CHECK_EQ(v->violations, 3);
	CHECK_STR(v->date, "2026-01-02T03:04:05Z");
	v = pml_verdict_find(&got, &other_kernel, PML_BY_WINDOW);
	CHECK(v && v->trials == 5 && v->violations == 0);
	CHECK(!pml_verdict_find(&got, &nic, PML_BY_CONNECTION));
	CHECK(!pml_verdict_find(&got, &rxe, PML_BY_WINDOW));
	struct stat st;
	CHECK(stat(path, &st) == 0 && (st.st_mode & 0777) == 0644);
}

static void test_concurrent_records_lose_nothing(void)
{
	enum { WRITERS = 6, EACH = 10 };
	static struct pml_verdicts got;
	(void)unlink(path);
	for (int i = 0; i < WRITERS; i++) {
		if (fork() != 0)
			continue;
		int bad = 0;
		for (int k = 0; k < EACH; k++)
			bad |= record(&nic, (enum pml_fence_method)(i % 3), 1, 0);
		_exit(bad ? 1 : 0);
	}
	for (int i = 0; i < WRITERS; i++) {
		int status = -1;
		wait(&status);
		CHECK_EQ(status, 0);
	}
	CHECK_EQ(pml_verdicts_load(path, &got, reason), 0);
	CHECK_EQ(got.count, 3);
	for (int i = 0; i < 3; i++) {
		const struct pml_verdict *v =
			pml_verdict_find(&got, &nic, (enum pml_fence_method)i);
		CHECK(v && v->trials == WRITERS / 3 * EACH);
	}
}

#define GOOD                                                                                       \
	"device=a driver=b guid=c firmware=- kernel=d method=window trials=10 violations=1 "       \
	"unbounded=0 date=e"

static void test_a_file_that_is_not_ours_is_refused_whole(void)
{
	static const char *const texts[] = {
		"",
		"pmemleasefs fence verdicts 2\n",
		"pmemleasefs fence verdicts 1\n" GOOD, /* cut off */
		"pmemleasefs fence verdicts 1\n\n",
		"pmemleasefs fence verdicts 1\n" GOOD "\n" GOOD " more=1\n",
		"pmemleasefs fence verdicts 1\n" GOOD " \n",
		"pmemleasefs fence verdicts 1\ndevice= driver=b guid=c firmware=- kernel=d "
		"method=window trials=10 violations=1 unbounded=0 date=e\n",
		"pmemleasefs fence verdicts 1\ndevice=a driver=b guid=c firmware=- kernel=d "
		"method=prayer trials=10 violations=1 unbounded=0 date=e\n",
		"pmemleasefs fence verdicts 1\ndevice=a driver=b guid=c firmware=- kernel=d "
		"method=window trials=-1 violations=1 unbounded=0 date=e\n",
		"pmemleasefs fence verdicts 1\ndevice=a driver=b guid=c firmware=- kernel=d "
		"method=window trials=1 violations=2 unbounded=0 date=e\n",
		"pmemleasefs fence verdicts 1\ndevice=a driver=b guid=c firmware=- kernel=d "
		"method=window trials=99999999999999999999 violations=2 unbounded=0 date=e\n",
		"pmemleasefs fence verdicts 1\ndevice=a driver=b guid=cccccccccccccccccccccccccc "
		"firmware=- kernel=d method=window trials=1 violations=0 unbounded=0 date=e\n",
	};
	static struct pml_verdicts got;
	write_text("pmemleasefs fence verdicts 1\n" GOOD "\n", 0644);
	CHECK_EQ(pml_verdicts_load(path, &got, reason), 0);
	CHECK_EQ(got.count, 1);
	for (size_t i = 0; i < PML_ARRAY_LEN(texts); i++) {
		write_text(texts[i], 0644);
		got.count = 7;
		if (pml_verdicts_load(path, &got, reason) != -EINVAL || !strstr(reason, path))
			TAP_FAIL("text %zu was taken", i);
		CHECK_EQ(got.count, 7);
		CHECK_EQ(record(&nic, PML_BY_REGION, 1, 0), -EINVAL);
	}
	printf("# %s\n", reason);
}

static void test_a_file_that_others_can_write_is_not_believed(void)
{
	static struct pml_verdicts got;
	write_text("pmemleasefs fence verdicts 1\n" GOOD "\n", 0666);
	CHECK_EQ(pml_verdicts_load(path, &got, reason), -EPERM);
	printf("# %s\n", reason);
	write_text("pmemleasefs fence verdicts 1\n" GOOD "\n", 0664);
	CHECK_EQ(pml_verdicts_load(path, &got, reason), -EPERM);
	/* Nor is what a link leads to, or a pipe. */
	char link[80];
	snprintf(link, sizeof(link), "%s.link", path);
	REQUIRE(symlink(path, link) == 0);
	CHECK_EQ(pml_verdicts_load(link, &got, reason), -ELOOP);
	CHECK(unlink(link) == 0 && mkfifo(link, 0600) == 0);
	CHECK_EQ(pml_verdicts_load(link, &got, reason), -EPERM);
	(void)unlink(link);
	if (geteuid() == 0) {
		write_text("pmemleasefs fence verdicts 1\n" GOOD "\n", 0644);
		REQUIRE(chown(path, 12345, 0) == 0);
		CHECK_EQ(pml_verdicts_load(path, &got, reason), -EPERM);
	}
}

static void test_a_full_file_takes_no_more(void)
{
	static struct pml_verdicts got;
	struct pml_fence_device device = nic;
	(void)unlink(path);
	for (unsigned i = 0; i < PML_VERDICTS_MAX; i++) {
		snprintf(device.name, sizeof(device.name), "dev%u", i);
		REQUIRE(record(&device, PML_BY_REGION, 1, 0) == 0);
	}
	strcpy(device.name, "more");
	CHECK_EQ(record(&device, PML_BY_REGION, 1, 0), -ENOSPC);
	printf("# %s\n", reason);
	strcpy(device.name, "dev3");
	CHECK_EQ(record(&device, PML_BY_REGION, 1, 0), 0);
	CHECK_EQ(pml_verdicts_load(path, &got, reason), 0);
	CHECK_EQ(got.count, PML_VERDICTS_MAX);
}

static void test_a_file_that_cannot_be_written_is_named(void)
{
	struct pml_verdict v = verdict(&nic, PML_BY_REGION, 1, 0);
	char under[80];
	(void)unlink(path);
	write_text("", 0644);
	snprintf(under, sizeof(under), "%s/fences", path);
	CHECK_EQ(pml_verdict_record(under, &v, reason), -ENOTDIR);
	CHECK(strstr(reason, under) != NULL);
}

/* ---- the decision ------------------------------------------------------- */

struct known {
	uint64_t trials, violations, unbounded;
};

static struct pml_fence_plan plan;

/* What follows of window, region and connection; trials 0: no verdict. */
static int decide(enum pml_fence_choice choice, const struct pml_fence_device *device,
		  struct known window, struct known region, struct known connection)
{
	static struct pml_verdicts all;
	const struct known known[] = {window, region, connection};
	all.count = 0;
	for (int i = 0; i < PML_FENCE_METHODS; i++) {
		if (known[i].trials == 0)
			continue;
		struct pml_verdict v = verdict(device, (enum pml_fence_method)i, known[i].trials,
					       known[i].violations);
		v.unbounded = known[i].unbounded;
		all.list[all.count++] = v;
	}
	plan = (struct pml_fence_plan){0};
	return pml_fence_decide(choice, &all, device, &plan, reason);
}

static bool is_plan(enum pml_fence_method method, bool is_key, bool is_connection)
{
	return plan.method == method && plan.is_key_proven == is_key &&
	       plan.is_connection_proven == is_connection;
}

static const struct known none, good = {1000, 0, 0}, few = {999, 0, 0}, bad = {5000, 1, 0},
				loose = {1000, 0, 2};

static void test_auto_takes_windows_only_when_proven(void)
{
	CHECK_EQ(decide(PML_FENCE_AUTO, &nic, none, none, none), 0);
	CHECK(is_plan(PML_BY_REGION, true, true));
	CHECK_EQ(decide(PML_FENCE_AUTO, &nic, few, none, none), 0);
	CHECK(is_plan(PML_BY_REGION, true, true));
	CHECK_EQ(decide(PML_FENCE_AUTO, &nic, bad, none, none), 0);
	CHECK(is_plan(PML_BY_REGION, true, true));
	CHECK_EQ(decide(PML_FENCE_AUTO, &nic, loose, none, none), 0);
	CHECK(is_plan(PML_BY_REGION, true, true));
	CHECK_EQ(decide(PML_FENCE_AUTO, &old_nic, good, none, none), 0);
	CHECK(is_plan(PML_BY_REGION, true, true));
	CHECK_EQ(decide(PML_FENCE_AUTO, &nic, good, none, bad), 0);
	CHECK(is_plan(PML_BY_REGION, true, false));
	CHECK_EQ(decide(PML_FENCE_AUTO, &nic, good, none, none), 0);
	CHECK(is_plan(PML_BY_WINDOW, true, true));
	CHECK_EQ(decide(PML_FENCE_AUTO, &rxe, good, none, none), 0);
	CHECK(is_plan(PML_BY_WINDOW, true, true));
}

static void test_an_unproven_window_leaves_the_connection(void)
{
	CHECK_EQ(decide(PML_FENCE_WINDOW, &nic, none, none, none), 1);
	CHECK(is_plan(PML_BY_WINDOW, false, true));
	printf("# %s\n", reason);
	CHECK_EQ(decide(PML_FENCE_WINDOW, &nic, bad, good, good), 1);
	CHECK(is_plan(PML_BY_WINDOW, false, true));
	CHECK_EQ(decide(PML_FENCE_WINDOW, &nic, good, none, none), 0);
	CHECK(is_plan(PML_BY_WINDOW, true, true));
	CHECK_EQ(decide(PML_FENCE_WINDOW, &nic, none, good, bad), -EOPNOTSUPP);
	CHECK_EQ(decide(PML_FENCE_WINDOW, &nic, good, good, bad), -EOPNOTSUPP);
	CHECK_EQ(decide(PML_FENCE_WINDOW, &old_nic, none, none, none), -EOPNOTSUPP);
	printf("# %s\n", reason);
}

static void test_a_window_without_bounds_is_never_used(void)
{
	CHECK_EQ(decide(PML_FENCE_WINDOW, &nic, loose, good, good), -EOPNOTSUPP);
	printf("# %s\n", reason);
	/* soft-RoCE is known for it, until it was seen to be mended. */
	CHECK_EQ(decide(PML_FENCE_WINDOW, &rxe, none, good, good), -EOPNOTSUPP);
	CHECK_EQ(decide(PML_FENCE_WINDOW, &rxe, few, good, good), 1);
}

static void test_a_step_with_violations_is_not_used(void)
{
	CHECK_EQ(decide(PML_FENCE_REGION, &nic, good, none, none), 0);
	CHECK(is_plan(PML_BY_REGION, true, true));
	CHECK_EQ(decide(PML_FENCE_REGION, &nic, none, none, bad), 0);
	CHECK(is_plan(PML_BY_REGION, true, false));
	CHECK_EQ(decide(PML_FENCE_REGION, &nic, none, bad, none), 1);
	CHECK(is_plan(PML_BY_CONNECTION, false, true));
	CHECK_EQ(decide(PML_FENCE_AUTO, &nic, none, bad, good), 1);
	CHECK(is_plan(PML_BY_CONNECTION, false, true));
	CHECK_EQ(decide(PML_FENCE_AUTO, &nic, none, bad, bad), -EOPNOTSUPP);
	printf("# %s\n", reason);
	CHECK_EQ(decide(PML_FENCE_BY_CONNECTION, &nic, good, good, none), 1);
	CHECK(is_plan(PML_BY_CONNECTION, false, true));
	CHECK_EQ(decide(PML_FENCE_BY_CONNECTION, &nic, good, good, bad), -EOPNOTSUPP);
}

static void test_choices_have_names(void)
{
	enum pml_fence_choice choice;
	static const char *const names[] = {"auto", "window", "region", "connection"};
	for (int i = 0; i < 4; i++) {
		CHECK_EQ(pml_fence_choice_parse(names[i], &choice), 0);
		CHECK_EQ(choice, i);
	}
	CHECK_EQ(pml_fence_choice_parse("Window", &choice), -EINVAL);
	CHECK_EQ(pml_fence_choice_parse("", &choice), -EINVAL);
}

static void test_a_fabric_follows_the_verdicts(void)
{
	static struct pml_verdicts all;
	struct pml_fabric *fabric;
	struct pml_fence_device soft;
	REQUIRE(pml_fabric_listen(PML_TRANSPORT_SOFT, "127.0.0.1", "0", &fabric, reason) == 0);
	CHECK_EQ(pml_fabric_set_fence(fabric, PML_FENCE_AUTO, &all, reason), 0);
	CHECK(strstr(reason, "regions") != NULL);
	CHECK_EQ(pml_fabric_set_fence(fabric, PML_FENCE_WINDOW, &all, reason), 1);
	printf("# %s\n", reason);

	static struct pml_fencetest_result r;
	const struct pml_fencetest_args args = {
		.is_soft = true, .host = "127.0.0.1", .method = PML_BY_REGION, .count = 1};
	REQUIRE(pml_fencetest_run(&args, &r, reason) == 0);
	soft = r.device;
	CHECK_STR(soft.name, "soft");
	all.count = 2;
	all.list[0] = verdict(&soft, PML_BY_REGION, 10, 1);
	all.list[1] = verdict(&soft, PML_BY_CONNECTION, 10, 1);
	CHECK_EQ(pml_fabric_set_fence(fabric, PML_FENCE_AUTO, &all, reason), -EOPNOTSUPP);
	pml_fabric_close(fabric);
}

/* ---- the test, tested --------------------------------------------------- */

static struct pml_fencetest_result run(enum pml_fence_method method, uint32_t count,
				       struct pml_soft_faults faults)
{
	struct pml_fencetest_result r = {0};
	const struct pml_fencetest_args args = {
		.is_soft = true, .host = "127.0.0.1", .method = method, .count = count};
	pml_soft_set_faults(&faults);
	int err = pml_fencetest_run(&args, &r, reason);
	if (err)
		TAP_FAIL("%s: %d %s", pml_fence_method_name(method), err, reason);
	pml_soft_set_faults(&(struct pml_soft_faults){0});
	return r;
}

static void test_the_software_fabric_has_no_violations(void)
{
	for (int i = 0; i < PML_FENCE_METHODS; i++) {
		struct pml_fencetest_result r =
			run((enum pml_fence_method)i, 60, (struct pml_soft_faults){0});
		CHECK_EQ(r.trials, 60);
		CHECK_EQ(r.violations, 0);
		CHECK_EQ(r.unbounded, 0);
		CHECK_EQ(r.failed, 0);
	}
}

static void test_an_invalidation_that_is_none_is_found(void)
{
#ifdef __SANITIZE_THREAD__
	SKIP("what is to be found is a data race");
#endif
	const struct pml_soft_faults late = {.late_invalidate_us = 3000};
	struct pml_fencetest_result r = run(PML_BY_WINDOW, 20, late);
	printf("# %u of %u: %u writes, %u reads\n", r.violations, r.trials, r.writes, r.reads);
	CHECK(r.writes > 0);
	CHECK(r.reads > 0);
	/* The other two wait for the access. */
	CHECK_EQ(run(PML_BY_REGION, 10, late).violations, 0);
	CHECK_EQ(run(PML_BY_CONNECTION, 10, late).violations, 0);
}

static void test_failing_fences_are_counted_and_no_trials(void)
{
	struct pml_fencetest_result r =
		run(PML_BY_REGION, 4, (struct pml_soft_faults){.fail_key_fences = 3});
	CHECK_EQ(r.trials, 4);
	CHECK_EQ(r.failed, 3);
	CHECK_EQ(r.violations, 0);
	const struct pml_fencetest_args args = {
		.is_soft = true, .host = "127.0.0.1", .method = PML_BY_WINDOW, .count = 1};
	pml_soft_set_faults(&(struct pml_soft_faults){.fail_key_fences = 1000});
	CHECK_EQ(pml_fencetest_run(&args, &r, reason), -EIO);
	printf("# %s\n", reason);
	pml_soft_set_faults(&(struct pml_soft_faults){0});
}

static bool stop_at_three(void *arg, uint32_t done, uint32_t violations)
{
	return done < 3;
}

static void test_the_caller_can_stop_it(void)
{
	struct pml_fencetest_result r;
	const struct pml_fencetest_args args = {.is_soft = true,
						.host = "127.0.0.1",
						.method = PML_BY_REGION,
						.count = 1000,
						.progress = stop_at_three};
	CHECK_EQ(pml_fencetest_run(&args, &r, reason), 0);
	CHECK_EQ(r.trials, 3);
}

static void test_an_address_that_is_none_is_refused(void)
{
	struct pml_fencetest_result r;
	const struct pml_fencetest_args args = {
		.is_soft = true, .host = "192.0.2.77", .method = PML_BY_REGION, .count = 1};
	CHECK(pml_fencetest_run(&args, &r, reason) < 0);
	CHECK(strstr(reason, "192.0.2.77") != NULL);
}

/* A kernel that is not known to wait longer waits 200 ticks. */
static void test_a_late_deregistration_is_believed_by_the_kernel(void)
{
	static const struct {
		const char *release, *version;
		bool waits_long;
	} kernels[] = {
		{"6.14.0", "#1 SMP PREEMPT_DYNAMIC", true},
		{"6.18.44-cloud", "#1 SMP", true},
		{"7.2.0-rc1", "#2 SMP", true},
		{"10.0", "#1", true},
		{"6.13.12", "#1 SMP", false},
		{"6.1.192", "#1 SMP", true},
		{"6.1.191", "#1 SMP", false},
		{"6.10.192", "#1 SMP", false},
		{"5.19.200", "#1 SMP", false},
		{"6.1.0-56-amd64", "#1 SMP PREEMPT_DYNAMIC Debian 6.1.192-2 (2026-11-16)", true},
		{"6.1.0-50-amd64", "#1 SMP PREEMPT_DYNAMIC Debian 6.1.128-1 (2025-02-07)", false},
		{"6.1.0-200-amd64", "#1 SMP PREEMPT_DYNAMIC Debian unknown", false},
		{"6.1.0-256-amd64", "#1 SMP", false},
		{"linux", "", false},
		{"", "", false},
	};
	for (size_t i = 0; i < PML_ARRAY_LEN(kernels); i++) {
		uint64_t ns = pml_rxe_wait_ns(kernels[i].release, kernels[i].version, 4000000);
		CHECK_EQ(ns, kernels[i].waits_long ? 50000000000 : 800000000);
	}
	/* What the clock cannot be makes no longer wait, and no shorter one than the fastest. */
	CHECK_EQ(pml_rxe_wait_ns("5.19.0", "", 1000000), 200000000);
	CHECK_EQ(pml_rxe_wait_ns("5.19.0", "", 0), 200000000);
	CHECK_EQ(pml_rxe_wait_ns("5.19.0", "", 1), 200000000);
	CHECK_EQ(pml_rxe_wait_ns("5.19.0", "", 999999999), 2000000000);
	CHECK(pml_rxe_trusted_ns() >= 150000000 && pml_rxe_trusted_ns() <= 37500000000);
}

int main(void)
{
	if (!mkdtemp(dir))
		BAIL_OUT("cannot make %s", dir);
	snprintf(path, sizeof(path), "%s/fences", dir);
	TAP_RUN(test_no_file_is_no_verdict);
	TAP_RUN(test_trials_of_the_same_add_up);
	TAP_RUN(test_concurrent_records_lose_nothing);
	TAP_RUN(test_a_file_that_is_not_ours_is_refused_whole);
	TAP_RUN(test_a_file_that_others_can_write_is_not_believed);
	TAP_RUN(test_a_full_file_takes_no_more);
	TAP_RUN(test_a_file_that_cannot_be_written_is_named);
	TAP_RUN(test_auto_takes_windows_only_when_proven);
	TAP_RUN(test_an_unproven_window_leaves_the_connection);
	TAP_RUN(test_a_window_without_bounds_is_never_used);
	TAP_RUN(test_a_step_with_violations_is_not_used);
	TAP_RUN(test_choices_have_names);
	TAP_RUN(test_a_fabric_follows_the_verdicts);
	TAP_RUN(test_the_software_fabric_has_no_violations);
	TAP_RUN(test_an_invalidation_that_is_none_is_found);
	TAP_RUN(test_failing_fences_are_counted_and_no_trials);
	TAP_RUN(test_the_caller_can_stop_it);
	TAP_RUN(test_an_address_that_is_none_is_refused);
	TAP_RUN(test_a_late_deregistration_is_believed_by_the_kernel);
	char lock[80];
	snprintf(lock, sizeof(lock), "%s.lck", path);
	(void)unlink(path);
	(void)unlink(lock);
	(void)rmdir(dir);
	return tap_done();
}
