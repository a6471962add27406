/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * power.c -- records a script, cuts the power everywhere, and judges what is left
 *
 * Workers are processes, each with a part of the events and a file of its own.  One that
 * dies or hangs on an image is a failure like any other: the image is known.
 */
#include "power.h"

#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <libpmemobj.h>
#include <signal.h>
#include <stdarg.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "fs_check.h"
#include "fs_pool.h"
#include "../tap.h"

#define IMAGE_SECONDS 30u
#define FORMAT_LABEL  "what mkfs was told"

/* What a worker tells, in shared memory. */
struct told {
	struct image image; /* being looked at; path is the worker's */
	bool is_recovery;   /* while it was recovered the power failed again */
	bool has_failed;
	uint64_t images, same, recoveries;
	char text[1024];
};

struct judge {
	const struct script *script; /* NULL: mkfs */
	const struct power_options *options;
	const struct record *record;
	struct state **state; /* after each step; [0] before the first */
	struct told *told;
	const struct told *all_told; /* of all workers */
	unsigned int nworkers;
	const char *path;
	const struct state *outcome; /* of the recovery that was cut */
};

PML_PRINTF(2, 3) static bool fail(struct judge *j, const char *format, ...)
{
	va_list args;
	va_start(args, format);
	(void)vsnprintf(j->told->text, sizeof(j->told->text), format, args);
	va_end(args);
	j->told->has_failed = true;
	return false;
}

/* ---- files ------------------------------------------------------------------ */

static void make_path(const char *suffix, char *ret_path)
{
	const char *given = getenv("PML_TEST_DIR");
	(void)snprintf(ret_path, PATH_MAX, "%s/pmemleasefs-power-%ld-%s",
		       given ? given : "/dev/shm", (long)getpid(), suffix);
}

/* Holes stay holes. */
static bool copy_file(const char *from, const char *to)
{
	static uint8_t page[4096];
	struct stat st;
	pml_auto_close int in = open(from, O_RDONLY | O_CLOEXEC);
	pml_auto_close int out = open(to, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (in < 0 || out < 0 || fstat(in, &st) != 0 || ftruncate(out, st.st_size) != 0)
		return false;
	off_t at = 0;
	while ((at = lseek(in, at, SEEK_DATA)) >= 0 && at < st.st_size) {
		ssize_t n = pread(in, page, sizeof(page), at);
		if (n <= 0 || pwrite(out, page, (size_t)n, at) != n)
			return false;
		at += n;
	}
	return true;
}

static void set_private(int is_private)
{
	if (pmemobj_ctl_set(NULL, "copy_on_write.at_open", &is_private) != 0)
		BAIL_OUT("copy_on_write.at_open: %s", pmemobj_errormsg());
}

/* ---- judging an image ------------------------------------------------------- */

static int open_image(const char *path, struct pml_fs **ret_fs, char *ret_reason)
{
	const struct pml_open_args args = {.path = path};
	return pml_fs_open(&args, ret_fs, ret_reason);
}

static int remove_below(struct pml_inode *dir);

struct first_name {
	char name[PML_NAME_BYTES_MAX + 1];
	mode_t type;
};

static bool take_first(void *arg, const struct pml_dirent *entry)
{
	struct first_name *first = arg;
	if (first->name[0])
		return false;
	if (strcmp(entry->name, ".") != 0 && strcmp(entry->name, "..") != 0) {
		(void)snprintf(first->name, sizeof(first->name), "%s", entry->name);
		first->type = entry->type;
	}
	return true;
}

static int remove_one(struct pml_inode *dir, const struct first_name *first)
{
	if (!S_ISDIR(first->type))
		return pml_dir_unlink(dir, first->name);
	struct pml_inode *child;
	int err = pml_dir_lookup(dir, first->name, &child);
	if (err)
		return err;
	err = remove_below(child);
	pml_inode_put(child, 1);
	return err ? err : pml_dir_rmdir(dir, first->name);
}

static int remove_below(struct pml_inode *dir)
{
	for (;;) {
		struct first_name first = {0};
		int err = pml_dir_read(dir, 0, take_first, &first);
		if (!err && !first.name[0])
			return 0;
		if (!err)
			err = remove_one(dir, &first);
		if (err)
			return err;
	}
}

/* What was recovered must also be good to go on with: a file is written, then all removed. */
static bool use(struct judge *j, struct pml_fs *fs)
{
	static const uint8_t bytes[200000] = {1};
	struct pml_inode *root, *file;
	const struct pml_create_args args = {.mode = S_IFREG | 0600};
	int err = pml_inode_get(fs, PML_ROOT_INO, &root);
	if (err)
		return fail(j, "root: %s", strerror(-err));
	err = pml_dir_create(root, "used afterwards", &args, &file);
	if (!err) {
		err = pml_file_write(file, bytes, sizeof(bytes), 0, false, NULL);
		pml_inode_put(file, 1);
	}
	const char *fault = err ? "" : fs_check(fs);
	if (!err && !*fault)
		err = remove_below(root);
	pml_inode_put(root, 1);
	if (err)
		return fail(j, "using it afterwards: %s", strerror(-err));
	if (!*fault)
		fault = fs_check(fs);
	if (*fault)
		return fail(j, "after using it: %s", fault);
	struct pml_fs_counts counts;
	pml_fs_counts(fs, &counts);
	if (counts.inodes != 1 || counts.used_blocks != 0)
		return fail(j, "empty, it has %" PRIu64 " inodes and %" PRIu64 " blocks in use",
			    counts.inodes, counts.used_blocks);
	return true;
}

/* Is it as after the last step that returned, or as after the one under way? */
static bool judge_state(struct judge *j, struct pml_fs *fs, const struct image *image)
{
	const char *difference;
	char first[512];
	if (j->outcome) {
		if (!state_matches(fs, j->outcome, NULL, NULL, &difference))
			return fail(j, "recovery ended otherwise when it was cut: %s", difference);
		return true;
	}
	struct state *now = j->state[image->step];
	if (!image->is_in_step) {
		if (!state_matches(fs, now, NULL, NULL, &difference))
			return fail(j, "not as acknowledged: %s", difference);
		return true;
	}
	struct state *before = j->state[image->step - 1];
	struct state_blur blur_before, blur_after;
	step_blurs(&j->script->step[image->step - 1], before, &blur_before, &blur_after);
	if (state_matches(fs, before, now, &blur_before, &difference))
		return true;
	(void)snprintf(first, sizeof(first), "%s", difference);
	if (state_matches(fs, now, before, &blur_after, &difference))
		return true;
	return fail(j, "neither as before (%s) nor as after (%s)", first, difference);
}

static int format(const char *path, bool force, char *ret_reason)
{
	struct pml_device_info info;
	const struct pml_format_args args = {
		.path = path,
		.size_bytes = FS_POOL_BYTES,
		.label = FORMAT_LABEL,
		.force = force,
	};
	return pml_fs_format(&args, &info, ret_reason);
}

/* The remedy that the refusal names. */
static bool format_again(struct judge *j, const struct image *image)
{
	char path[PATH_MAX], reason[PML_REASON_BYTES];
	struct pml_fs *fs;
	(void)snprintf(path, sizeof(path), "%.*s.r", PATH_MAX - 8, image->path);
	if (!copy_file(image->path, path))
		BAIL_OUT("copying an image: %s", strerror(errno));
	int err = format(path, true, reason);
	if (!err)
		err = open_image(path, &fs, reason);
	if (err)
		return fail(j, "mkfs once more: %s (%s)", reason, strerror(-err));
	pml_fs_close(fs);
	(void)unlink(path);
	return true;
}

static bool judge_format(struct judge *j, struct pml_fs *fs, int err, const char *reason,
			 const struct image *image)
{
	if (err) {
		if (!image->is_in_step && image->step)
			return fail(j, "mkfs had ended, but: %s", reason);
		if ((err == -EMEDIUMTYPE || err == -EUCLEAN) && strstr(reason, "mkfs"))
			return image->number % 8 != 0 || format_again(j, image);
		return fail(j, "refused without a remedy: %s (%s)", strerror(-err), reason);
	}
	struct pml_fs_counts counts;
	pml_fs_counts(fs, &counts);
	struct pml_device_info info;
	pml_fs_info(fs, &info);
	if (strcmp(info.label, FORMAT_LABEL) != 0)
		return fail(j, "label \"%s\"", info.label);
	if (counts.inodes != 1 || counts.used_blocks != 0 || counts.total_blocks == 0)
		return fail(j, "%" PRIu64 " inodes, %" PRIu64 " of %" PRIu64 " blocks in use",
			    counts.inodes, counts.used_blocks, counts.total_blocks);
	return true;
}

static bool judge_fs(struct judge *j, const struct image *image)
{
	struct pml_fs *fs;
	char reason[PML_REASON_BYTES] = "";
	int err = open_image(image->path, &fs, reason);
	if (!j->script && err)
		return judge_format(j, NULL, err, reason, image);
	if (err)
		return fail(j, "open: %s (%s)", reason, strerror(-err));
	const char *fault = fs_check(fs);
	bool is_good = *fault ? fail(j, "%s", fault) : true;
	if (is_good)
		is_good = j->script ? judge_state(j, fs, image)
				    : judge_format(j, fs, 0, reason, image);
	unsigned int every = j->options->use_every;
	if (is_good && every && (image->event + (size_t)image->number) % every == 0)
		is_good = use(j, fs);
	pml_fs_close(fs);
	return is_good;
}

/* ---- a power failure during recovery --------------------------------------- */

static bool visit_recovery(void *arg, const struct image *image)
{
	struct judge *j = arg;
	(void)alarm(IMAGE_SECONDS);
	j->told->recoveries++;
	return judge_fs(j, image);
}

/* Recovers a copy of the image, and looks at what a power failure leaves meanwhile. */
static bool cut_recovery(struct judge *j, const struct image *image)
{
	char path[PATH_MAX], again[PATH_MAX], reason[PML_REASON_BYTES];
	struct record record;
	struct pml_fs *fs;
	(void)snprintf(path, sizeof(path), "%.*s.r", PATH_MAX - 8, image->path);
	(void)snprintf(again, sizeof(again), "%.*s.rr", PATH_MAX - 8, image->path);
	if (!copy_file(image->path, path))
		BAIL_OUT("copying an image: %s", strerror(errno));
	set_private(false);
	record_start(path, NULL);
	int err = open_image(path, &fs, reason);
	record_stop(&record);
	set_private(true);
	bool is_good = !err || fail(j, "open: %s (%s)", reason, strerror(-err));
	if (is_good) {
		struct state *outcome = state_take(fs, NULL);
		pml_fs_close(fs);
		const struct image_plan plan = {
			.seed = j->options->seed,
			.singles = 1,
			.without = 1,
			.random = 1,
			.torn = 1,
			.end_event = record.nevents,
			.only_image = -1,
		};
		uint64_t same;
		j->outcome = outcome;
		j->told->is_recovery = true;
		(void)image_run(&record, &plan, again, visit_recovery, j, &same);
		j->outcome = NULL;
		is_good = !j->told->has_failed;
		j->told->is_recovery = !is_good;
		state_free(outcome);
	}
	record_free(&record);
	(void)unlink(path);
	return is_good;
}

/* ---- workers ---------------------------------------------------------------- */

static bool visit(void *arg, const struct image *image)
{
	struct judge *j = arg;
	(void)alarm(IMAGE_SECONDS);
	j->told->image = *image;
	for (unsigned int i = 0; i < j->nworkers; i++)
		if (j->all_told[i].has_failed)
			return false; /* one fault is enough */
	bool is_good = judge_fs(j, image);
	unsigned int every = j->options->recover_every;
	if (is_good && j->script && every &&
	    (image->event * 7 + (size_t)image->number) % every == 0)
		is_good = cut_recovery(j, image);
	if (!is_good && j->options->keep) {
		char to[PATH_MAX];
		(void)snprintf(to, sizeof(to), "%s/%s-%zu-%ld.img", j->options->keep,
			       j->script ? j->script->name : "mkfs", image->event, image->number);
		if (!copy_file(image->path, to))
			(void)unlink(to);
	}
	return is_good;
}

static void work(struct judge *j, const struct image_plan *plan)
{
	set_private(true);
	j->told->images = image_run(j->record, plan, j->path, visit, j, &j->told->same);
}

static void add_report(const struct judge *j, const struct told *told, int status,
		       struct power_result *result)
{
	const struct image *image = &told->image;
	FILE *to = fmemopen(result->report, sizeof(result->report), "w");
	if (!to)
		BAIL_OUT("no memory");
	result->has_failed = true;
	if (WIFSIGNALED(status))
		fprintf(to, "%s: %s", strsignal(WTERMSIG(status)),
			WTERMSIG(status) == SIGALRM ? "it hangs" : "it crashed");
	else
		fprintf(to, "%s", told->has_failed ? told->text : "a worker failed");
	fprintf(to, "\n%s%s, step %u %s", told->is_recovery ? "cut again during recovery; " : "",
		image->kind ? image->kind : "", image->step,
		image->is_in_step ? "under way" : "returned");
	if (j->script && image->step) {
		fprintf(to, ": ");
		step_print(to, &j->script->step[image->step - 1]);
	}
	fprintf(to, "\nagain: --seed %" PRIu64 " --script %s --image %zu:%ld", j->options->seed,
		j->script ? j->script->name : "mkfs", image->event, image->number);
	(void)fclose(to);
}

/* The events to look at: [*ret_first, *ret_end). */
static void choose_events(const struct judge *j, size_t *ret_first, size_t *ret_end)
{
	const struct power_options *options = j->options;
	const struct record_event *e = j->record->events;
	size_t first = 0, end = j->record->nevents;
	while (options->first_step < options->end_step && first < end &&
	       e[first].step < options->first_step)
		first++;
	while (options->first_step < options->end_step && first < end &&
	       e[end - 1].step >= options->end_step)
		end--;
	if (options->only_event != SIZE_MAX) {
		first = options->only_event;
		end = first + 1;
	}
	*ret_first = first;
	*ret_end = end;
}

/* Shares the events out to processes, and waits for them. */
static void look_at_all(struct judge *j, struct power_result *result)
{
	unsigned int n = PML_MAX(1u, PML_MIN(j->options->workers, POWER_WORKERS_MAX));
	struct told *told = mmap(NULL, n * sizeof(*told), PROT_READ | PROT_WRITE,
				 MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (told == MAP_FAILED)
		BAIL_OUT("no memory");
	j->all_told = told;
	j->nworkers = n;
	pid_t pids[POWER_WORKERS_MAX];
	char path[POWER_WORKERS_MAX][PATH_MAX];
	size_t first, end;
	choose_events(j, &first, &end);
	(void)fflush(stdout);
	for (unsigned int i = 0; i < n; i++) {
		char suffix[32];
		(void)snprintf(suffix, sizeof(suffix), "image%u", i);
		make_path(suffix, path[i]);
		struct image_plan plan = j->options->plan;
		plan.seed = j->options->seed;
		plan.first_event = first + (end - first) * i / n;
		plan.end_event = first + (end - first) * (i + 1) / n;
		pids[i] = fork();
		if (pids[i] == 0) {
			(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
			j->told = &told[i];
			j->path = path[i];
			work(j, &plan);
			_exit(told[i].has_failed);
		}
	}
	for (unsigned int i = 0; i < n; i++) {
		int status = 0;
		if (pids[i] < 0 || waitpid(pids[i], &status, 0) != pids[i])
			BAIL_OUT("a worker: %s", strerror(errno));
		result->images += told[i].images;
		result->same += told[i].same;
		result->recoveries += told[i].recoveries;
		if (status && !result->has_failed)
			add_report(j, &told[i], status, result);
		for (const char *const *s = (const char *const[]){"", ".r", ".rr", NULL}; *s; s++) {
			char gone[PATH_MAX];
			(void)snprintf(gone, sizeof(gone), "%.*s%s", PATH_MAX - 8, path[i], *s);
			(void)unlink(gone);
		}
	}
	(void)munmap(told, n * sizeof(*told));
}

/* ---- recording -------------------------------------------------------------- */

static void format_or_bail(const char *path, bool force)
{
	char reason[PML_REASON_BYTES];
	if (format(path, force, reason) != 0)
		BAIL_OUT("format: %s", reason);
}

static struct pml_fs *open_or_bail(const char *path)
{
	struct pml_fs *fs;
	char reason[PML_REASON_BYTES];
	int err = open_image(path, &fs, reason);
	if (err)
		BAIL_OUT("open: %s", reason);
	return fs;
}

static void run_steps(const struct script *script, struct pml_fs *fs, struct state **state)
{
	struct stepper *stepper = stepper_new(fs);
	state[0] = state_take(fs, NULL);
	for (size_t i = 0; i < script->n; i++) {
		const struct step *step = &script->step[i];
		record_begin_step();
		int err = stepper_run(stepper, step);
		record_end_step();
		if (err && !(step->leaves & STEP_MAY_FAIL)) {
			printf("# ");
			step_print(stdout, step);
			printf("\n");
			BAIL_OUT("step %zu of %s: %s", i + 1, script->name, strerror(-err));
		}
		state[i + 1] = state_take(fs, state[i]);
	}
	stepper_free(stepper);
}

void power_run(const struct script *script, const struct record_drop *drop,
	       const struct power_options *options, struct power_result *ret_result)
{
	char path[PATH_MAX];
	struct record record;
	struct state **state = calloc(script->n + 1, sizeof(struct state *));
	if (!state)
		BAIL_OUT("no memory");
	*ret_result = (struct power_result){0};
	make_path("run", path);
	(void)unlink(path);
	format_or_bail(path, false);
	struct pml_fs *fs = open_or_bail(path);
	script->prepare(fs);
	pml_fs_close(fs);

	record_start(path, drop);
	fs = open_or_bail(path);
	run_steps(script, fs, state);
	record_stop(&record);
	pml_fs_close(fs);
	(void)unlink(path);

	struct judge j = {.script = script, .options = options, .record = &record, .state = state};
	ret_result->events = record.nevents;
	ret_result->drops = record_drops();
	look_at_all(&j, ret_result);
	for (size_t i = 0; i <= script->n; i++)
		state_free(state[i]);
	free(state);
	record_free(&record);
}

void power_run_format(const struct record_drop *drop, const struct power_options *options,
		      struct power_result *ret_result)
{
	char path[PATH_MAX];
	struct record record;
	*ret_result = (struct power_result){0};
	make_path("run", path);
	pml_auto_close int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (fd < 0 || ftruncate(fd, FS_POOL_BYTES) != 0)
		BAIL_OUT("%s: %s", path, strerror(errno));
	record_start(path, drop);
	record_begin_step();
	format_or_bail(path, true);
	record_end_step();
	record_stop(&record);
	(void)unlink(path);

	struct judge j = {.options = options, .record = &record};
	ret_result->events = record.nevents;
	ret_result->drops = record_drops();
	look_at_all(&j, ret_result);
	record_free(&record);
}

/* ---- the command line, and the verdict ------------------------------------- */

static const struct image_plan quick_plan = {
	.singles = 1,
	.without = 1,
	.random = 1,
	.torn = 1,
	.only_image = -1,
};
static const struct image_plan full_plan = {
	.singles = 200,
	.without = 50,
	.random = 50,
	.torn = 50,
	.only_image = -1,
};

void power_options(int argc, char **argv, struct power_options *ret_options)
{
	static const struct option known[] = {
		{"full", no_argument, NULL, 'f'},	  {"seed", required_argument, NULL, 's'},
		{"image", required_argument, NULL, 'i'},  {"keep", required_argument, NULL, 'k'},
		{"script", required_argument, NULL, 'n'}, {0},
	};
	/* libpmem2 reads it when it is loaded. */
	static const char granularity[] = "PMEM2_FORCE_GRANULARITY";
	if (!getenv(granularity)) {
		(void)setenv(granularity, "CACHE_LINE", 1);
		(void)execv("/proc/self/exe", argv);
		BAIL_OUT("exec: %s", strerror(errno));
	}
	const char *seed = getenv("PML_SEED");
	*ret_options = (struct power_options){
		.seed = seed ? strtoull(seed, NULL, 0) : (uint64_t)getpid(),
		.plan = quick_plan,
		.workers = (unsigned int)sysconf(_SC_NPROCESSORS_ONLN),
		.use_every = 16,
		.recover_every = 2000,
		.only_event = SIZE_MAX,
	};
	for (int opt; (opt = getopt_long(argc, argv, "", known, NULL)) != -1;) {
		if (opt == 'f') {
			ret_options->plan = full_plan;
			ret_options->use_every = 4;
			ret_options->recover_every = 64;
		} else if (opt == 's') {
			ret_options->seed = strtoull(optarg, NULL, 0);
		} else if (opt == 'k') {
			ret_options->keep = optarg;
		} else if (opt == 'n') {
			ret_options->script = optarg;
		} else if (opt != 'i' || sscanf(optarg, "%zu:%ld", &ret_options->only_event,
						&ret_options->plan.only_image) != 2) {
			fprintf(stderr,
				"usage: %s [--full] [--seed N] [--script NAME] [--image EVENT:NUMBER] "
				"[--keep DIR]\n",
				argv[0]);
			exit(2);
		}
	}
	printf("# seed %" PRIu64 " (PML_SEED or --seed repeats it)\n", ret_options->seed);
}

const char *power_report(const char *what, const struct power_result *r)
{
	printf("# %s: %" PRIu64 " fences, %" PRIu64 " images, %" PRIu64 " more were equal, %" PRIu64
	       " of interrupted recoveries\n",
	       what, r->events, r->images, r->same, r->recoveries);
	return r->has_failed ? r->report : r->images == 0 ? "no images" : "";
}
