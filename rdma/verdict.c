/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * verdict.c -- what was measured of fences, kept in a file, and what follows from it
 *
 * The file decides over who may reach which memory, so it is believed only if nobody
 * but root or ourselves can have written it, and only as a whole: one line that is not
 * ours spoils it.  It is replaced by rename(2), under a lock file beside it.
 *
 * Format: a first line of its own, then one line for each verdict: ten fields in the
 * order of write_verdict(), "name=value", separated by single blanks.
 * Threads: any; processes wait for each other.
 */
#include <fcntl.h>
#include <inttypes.h>
#include <libgen.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>

#include "pml/fence.h"

#define FIRST_LINE "pmemleasefs fence verdicts 1\n"
/* PML_VERDICTS_MAX lines of at most LINE_BYTES, and the first. */
#define LINE_BYTES     512u
#define FILE_BYTES_MAX (PML_VERDICTS_MAX * LINE_BYTES + 64u)

static const char *const method_names[] = {"window", "region", "connection"};

static void say(char *ret_text, const char *format, ...) PML_PRINTF(2, 3);
static void say(char *ret_text, const char *format, ...)
{
	va_list args;
	va_start(args, format);
	(void)vsnprintf(ret_text, PML_REASON_BYTES, format, args);
	va_end(args);
}

/* ---- names -------------------------------------------------------------- */

const char *pml_fence_method_name(enum pml_fence_method method)
{
	return method_names[method];
}

int pml_fence_method_parse(const char *text, enum pml_fence_method *ret_method)
{
	for (int i = 0; i < PML_FENCE_METHODS; i++) {
		if (strcmp(text, method_names[i]) == 0) {
			*ret_method = (enum pml_fence_method)i;
			return 0;
		}
	}
	return -EINVAL;
}

int pml_fence_choice_parse(const char *text, enum pml_fence_choice *ret_choice)
{
	static const enum pml_fence_choice choices[] = {PML_FENCE_WINDOW, PML_FENCE_REGION,
							PML_FENCE_BY_CONNECTION};
	enum pml_fence_method method;
	if (strcmp(text, "auto") == 0) {
		*ret_choice = PML_FENCE_AUTO;
		return 0;
	}
	int err = pml_fence_method_parse(text, &method);
	if (!err)
		*ret_choice = choices[method];
	return err;
}

/* ---- lines -------------------------------------------------------------- */

/* Printable, without blanks, not empty, with room for the terminating zero. */
static bool is_word(const char *text, size_t room)
{
	size_t n = strlen(text);
	for (size_t i = 0; i < n; i++) {
		if (text[i] <= ' ' || text[i] > '~')
			return false;
	}
	return n > 0 && n < room;
}

/* Takes "NAME=WORD" and the blank or end behind it off *@text. */
static int take_word(char **text, const char *name, char *ret_word, size_t room)
{
	size_t n = strlen(name);
	char *field = strsep(text, " ");
	if (!field || strncmp(field, name, n) != 0 || field[n] != '=' ||
	    !is_word(field + n + 1, room))
		return -EINVAL;
	memcpy(ret_word, field + n + 1, strlen(field + n + 1) + 1);
	return 0;
}

static int take_number(char **text, const char *name, uint64_t *ret_number)
{
	char word[24], *end;
	int err = take_word(text, name, word, sizeof(word));
	if (err)
		return err;
	errno = 0;
	unsigned long long n = strtoull(word, &end, 10);
	/* Sums of two of them fit. */
	if (word[0] < '0' || word[0] > '9' || *end || errno || n > UINT64_MAX / 2)
		return -EINVAL;
	*ret_number = n;
	return 0;
}

/* One line without its end; it is cut up. */
static int parse_line(char *line, struct pml_verdict *ret)
{
	struct pml_verdict v = {0};
	char method[16];
	int err = take_word(&line, "device", v.device.name, sizeof(v.device.name));
	if (!err)
		err = take_word(&line, "driver", v.device.driver, sizeof(v.device.driver));
	if (!err)
		err = take_word(&line, "guid", v.device.guid, sizeof(v.device.guid));
	if (!err)
		err = take_word(&line, "firmware", v.device.firmware, sizeof(v.device.firmware));
	if (!err)
		err = take_word(&line, "kernel", v.device.kernel, sizeof(v.device.kernel));
	if (!err)
		err = take_word(&line, "method", method, sizeof(method));
	if (!err)
		err = pml_fence_method_parse(method, &v.method);
	if (!err)
		err = take_number(&line, "trials", &v.trials);
	if (!err)
		err = take_number(&line, "violations", &v.violations);
	if (!err)
		err = take_number(&line, "unbounded", &v.unbounded);
	if (!err)
		err = take_word(&line, "date", v.date, sizeof(v.date));
	if (!err && (line || v.violations > v.trials))
		err = -EINVAL;
	if (!err)
		*ret = v;
	return err;
}

static int write_verdict(FILE *f, const struct pml_verdict *v)
{
	const struct pml_fence_device *d = &v->device;
	int n = fprintf(f,
			"device=%s driver=%s guid=%s firmware=%s kernel=%s method=%s "
			"trials=%" PRIu64 " violations=%" PRIu64 " unbounded=%" PRIu64 " date=%s\n",
			d->name, d->driver, d->guid, d->firmware, d->kernel,
			pml_fence_method_name(v->method), v->trials, v->violations, v->unbounded,
			v->date);
	return n < 0 ? -EIO : 0;
}

/* ---- reading ------------------------------------------------------------ */

static int check_owner(int fd, const char *path, char *ret_reason)
{
	struct stat st;
	if (fstat(fd, &st) < 0) {
		int err = -errno;
		say(ret_reason, "%s: %s", path, strerrordesc_np(-err));
		return err;
	}
	if (S_ISREG(st.st_mode) && !(st.st_mode & (S_IWGRP | S_IWOTH)) &&
	    (st.st_uid == 0 || st.st_uid == geteuid()))
		return 0;
	say(ret_reason,
	    "%s: not believed, for others than root can write it: remove it and run "
	    "pmemlease fencetest as root",
	    path);
	return -EPERM;
}

/* The whole file into @ret_text of FILE_BYTES_MAX + 1, and a zero behind it. */
static int read_file(const char *path, char *ret_text, char *ret_reason)
{
	pml_auto_close int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	if (fd < 0) {
		int err = -errno;
		if (err != -ENOENT)
			say(ret_reason, "%s: %s", path, strerrordesc_np(-err));
		return err;
	}
	int err = check_owner(fd, path, ret_reason);
	size_t bytes = 0;
	while (!err && bytes < FILE_BYTES_MAX) {
		ssize_t n = read(fd, ret_text + bytes, FILE_BYTES_MAX - bytes);
		if (n == 0)
			break;
		if (n > 0) {
			bytes += (size_t)n;
		} else if (errno != EINTR) {
			err = -errno;
			say(ret_reason, "%s: %s", path, strerrordesc_np(-err));
		}
	}
	/* A zero inside would hide what follows. */
	if (!err && (bytes == FILE_BYTES_MAX || memchr(ret_text, 0, bytes))) {
		say(ret_reason, "%s: not a file of fence verdicts", path);
		err = -EINVAL;
	}
	ret_text[err ? 0 : bytes] = 0;
	return err;
}

static int parse_file(char *text, const char *path, struct pml_verdicts *ret, char *ret_reason)
{
	size_t n = strlen(FIRST_LINE);
	uint32_t count = 0, line_number = 1;
	bool is_good = strncmp(text, FIRST_LINE, n) == 0;
	for (char *at = text + n; is_good && *at;) {
		line_number++;
		char *end = strchr(at, '\n');
		is_good = end && count < PML_VERDICTS_MAX;
		if (!is_good)
			break;
		*end = 0;
		is_good = parse_line(at, &ret->list[count++]) == 0;
		at = end + 1;
	}
	if (!is_good) {
		say(ret_reason,
		    "%s: line %u is no fence verdict: remove the file and run pmemlease "
		    "fencetest as root",
		    path, line_number);
		return -EINVAL;
	}
	ret->count = count;
	return 0;
}

int pml_verdicts_load(const char *path, struct pml_verdicts *ret_verdicts, char *ret_reason)
{
	pml_auto_free char *text = malloc(FILE_BYTES_MAX + 1);
	pml_auto_free struct pml_verdicts *found = calloc(1, sizeof(*found));
	if (!text || !found) {
		say(ret_reason, "%s: %s", path, strerrordesc_np(ENOMEM));
		return -ENOMEM;
	}
	int err = read_file(path, text, ret_reason);
	if (!err)
		err = parse_file(text, path, found, ret_reason);
	if (err && err != -ENOENT)
		return err;
	*ret_verdicts = *found;
	return 0;
}

/* ---- recording ---------------------------------------------------------- */

static bool is_same_device(const struct pml_fence_device *a, const struct pml_fence_device *b)
{
	return strcmp(a->name, b->name) == 0 && strcmp(a->driver, b->driver) == 0 &&
	       strcmp(a->guid, b->guid) == 0 && strcmp(a->firmware, b->firmware) == 0 &&
	       strcmp(a->kernel, b->kernel) == 0;
}

const struct pml_verdict *pml_verdict_find(const struct pml_verdicts *verdicts,
					   const struct pml_fence_device *device,
					   enum pml_fence_method method)
{
	for (uint32_t i = 0; i < verdicts->count; i++) {
		const struct pml_verdict *v = &verdicts->list[i];
		if (v->method == method && is_same_device(&v->device, device))
			return v;
	}
	return NULL;
}

static int add(struct pml_verdicts *verdicts, const struct pml_verdict *verdict)
{
	for (uint32_t i = 0; i < verdicts->count; i++) {
		struct pml_verdict *v = &verdicts->list[i];
		if (v->method != verdict->method || !is_same_device(&v->device, &verdict->device))
			continue;
		v->trials += verdict->trials;
		v->violations += verdict->violations;
		v->unbounded += verdict->unbounded;
		memcpy(v->date, verdict->date, sizeof(v->date));
		return 0;
	}
	if (verdicts->count == PML_VERDICTS_MAX)
		return -ENOSPC;
	verdicts->list[verdicts->count++] = *verdict;
	return 0;
}

/* Writes all to @temp and gives it the name @path; both and the name reach the disk. */
static int replace(const char *path, const char *temp, const char *dir,
		   const struct pml_verdicts *verdicts)
{
	int fd = open(temp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0644);
	if (fd < 0)
		return -errno;
	FILE *f = fdopen(fd, "w");
	if (!f) {
		int err = -errno;
		(void)close(fd);
		return err;
	}
	int err = fputs(FIRST_LINE, f) < 0 ? -EIO : 0;
	for (uint32_t i = 0; i < verdicts->count && !err; i++)
		err = write_verdict(f, &verdicts->list[i]);
	if (!err && (fflush(f) || fchmod(fd, 0644) || fsync(fd)))
		err = -errno;
	if (fclose(f) && !err)
		err = -errno;
	if (!err && rename(temp, path))
		err = -errno;
	if (err)
		return err;
	pml_auto_close int dir_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return dir_fd < 0 || fsync(dir_fd) ? -errno : 0;
}

static int update(const char *path, const char *temp, const char *dir,
		  const struct pml_verdict *verdict, char *ret_reason)
{
	pml_auto_free struct pml_verdicts *all = calloc(1, sizeof(*all));
	int err = all ? 0 : -ENOMEM;
	if (!err) {
		ret_reason[0] = 0;
		err = pml_verdicts_load(path, all, ret_reason);
		if (err)
			return err;
	}
	if (!err)
		err = add(all, verdict);
	if (err == -ENOSPC) {
		say(ret_reason, "%s: full (%u verdicts): remove the lines of old kernels", path,
		    PML_VERDICTS_MAX);
		return err;
	}
	if (!err)
		err = replace(path, temp, dir, all);
	if (err)
		say(ret_reason, "%s: cannot be written: %s", path, strerrordesc_np(-err));
	return err;
}

int pml_verdict_record(const char *path, const struct pml_verdict *verdict, char *ret_reason)
{
	char temp[PATH_MAX], lock[PATH_MAX], copy[PATH_MAX];
	int n = snprintf(temp, sizeof(temp), "%s.new", path);
	if (n < 0 || n >= PATH_MAX) {
		say(ret_reason, "the path of the fence verdicts is too long");
		return -ENAMETOOLONG;
	}
	(void)snprintf(lock, sizeof(lock), "%s.lck", path);
	(void)snprintf(copy, sizeof(copy), "%s", path);
	const char *dir = dirname(copy);
	(void)mkdir(dir, 0755); /* what is wrong shows on opening */
	pml_auto_close int fd = open(lock, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0 || flock(fd, LOCK_EX)) {
		int err = -errno;
		say(ret_reason, "%s: %s", lock, strerrordesc_np(-err));
		return err;
	}
	return update(path, temp, dir, verdict, ret_reason);
}

/* ---- what follows ------------------------------------------------------- */

enum proof { DISPROVEN, UNKNOWN, PROVEN };

static enum proof proof_of(const struct pml_verdicts *verdicts,
			   const struct pml_fence_device *device, enum pml_fence_method method)
{
	const struct pml_verdict *v = pml_verdict_find(verdicts, device, method);
	if (!v)
		return UNKNOWN;
	if (v->violations > 0 || v->unbounded > 0)
		return DISPROVEN;
	return v->trials >= PML_VERDICT_TRIALS_MIN ? PROVEN : UNKNOWN;
}

/*
 * May windows be used at all (I6)?  soft-RoCE checks an access through a window against the
 * registration behind it, not against the window (drivers/infiniband/sw/rxe/rxe_resp.c,
 * check_rkey()): until it is seen to have been mended there, they are none.
 */
static bool are_bounds_kept(const struct pml_verdicts *verdicts,
			    const struct pml_fence_device *device)
{
	const struct pml_verdict *v = pml_verdict_find(verdicts, device, PML_BY_WINDOW);
	if (v && v->trials > 0)
		return v->unbounded == 0;
	return strcmp(device->driver, "rdma_rxe") != 0;
}

/* Windows were asked for.  What they lack, the connection has to give. */
static int decide_windows(const struct pml_verdicts *verdicts,
			  const struct pml_fence_device *device, enum proof window,
			  struct pml_fence_plan *plan, char *ret_text)
{
	if (!device->has_windows) {
		say(ret_text,
		    "device %s (%s) has no memory windows of type 2B: use fence_method=region or "
		    "fence_method=auto",
		    device->name, device->driver);
		return -EOPNOTSUPP;
	}
	if (!are_bounds_kept(verdicts, device)) {
		say(ret_text,
		    "device %s (%s) lets a client reach beyond its memory window: windows are not "
		    "used there; use fence_method=region or fence_method=auto",
		    device->name, device->driver);
		return -EOPNOTSUPP;
	}
	/* On a broken connection no window can be invalidated: its end must be a fence too. */
	if (!plan->is_connection_proven) {
		say(ret_text,
		    "device %s: destroying the queue pair was measured to be no fence there, and "
		    "windows need that one when a connection breaks: use fence_method=region",
		    device->name);
		return -EOPNOTSUPP;
	}
	plan->method = PML_BY_WINDOW;
	plan->is_key_proven = window == PROVEN;
	if (window == PROVEN) {
		say(ret_text, "device %s: a lease ends by invalidating its memory windows",
		    device->name);
		return 0;
	}
	say(ret_text,
	    "device %s: invalidating a memory window is %s there: every lease that ends takes "
	    "its client's connection with it; pmemlease fencetest measures, fence_method=region avoids it",
	    device->name,
	    window == DISPROVEN ? "measured to be no fence" : "not proven to be a fence");
	return 1;
}

static int decide_connection(const struct pml_fence_device *device, struct pml_fence_plan *plan,
			     char *ret_text)
{
	if (!plan->is_connection_proven) {
		say(ret_text,
		    "device %s: no way to end an access for certain: destroying the queue pair "
		    "was measured to be no fence (" PML_VERDICTS_PATH "); do not serve clients "
		    "through it",
		    device->name);
		return -EOPNOTSUPP;
	}
	plan->method = PML_BY_CONNECTION;
	plan->is_key_proven = false;
	say(ret_text,
	    "device %s: only destroying the queue pair ends an access: every lease that ends "
	    "takes its client's connection with it",
	    device->name);
	return 1;
}

int pml_fence_decide(enum pml_fence_choice choice, const struct pml_verdicts *verdicts,
		     const struct pml_fence_device *device, struct pml_fence_plan *ret_plan,
		     char *ret_text)
{
	enum proof window = proof_of(verdicts, device, PML_BY_WINDOW);
	enum proof region = proof_of(verdicts, device, PML_BY_REGION);
	struct pml_fence_plan plan = {
		.method = PML_BY_REGION,
		.is_key_proven = region != DISPROVEN,
		.is_connection_proven = proof_of(verdicts, device, PML_BY_CONNECTION) != DISPROVEN,
	};
	int rc = 0;
	bool wants_windows =
		choice == PML_FENCE_WINDOW || (choice == PML_FENCE_AUTO && window == PROVEN &&
					       device->has_windows && plan.is_connection_proven);
	if (wants_windows)
		rc = decide_windows(verdicts, device, window, &plan, ret_text);
	else if (choice == PML_FENCE_BY_CONNECTION || region == DISPROVEN)
		rc = decide_connection(device, &plan, ret_text);
	else
		say(ret_text, "device %s: a lease ends by deregistering its memory regions",
		    device->name);
	if (rc >= 0)
		*ret_plan = plan;
	return rc;
}
