/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * ctl_defrag.c -- pmemleasectl: files in fewer extents
 *
 * Files are not synced first: a page that is written back later belongs to the same place in
 * the file, wherever that lies by then.
 */
#include <fcntl.h>
#include <fts.h>
#include <search.h>
#include <stdio.h>
#include <sys/stat.h>

#include "ctl.h"
#include "pmemleasefs/ioctl.h"
#include "size.h"

/* What was done with one file. */
struct outcome {
	uint64_t before; /* extents */
	uint64_t after;
	uint64_t moved_bytes;
	uint64_t shared_bytes; /* left alone */
	uint64_t leased_bytes;
};

/* A run over files or trees. */
struct run {
	const struct pml_ctl_options *options;
	const char *separator; /* in front of the next file's JSON */
	int status;	       /* enum pml_ctl_exit */
	void *seen;	       /* tsearch(3): inode numbers of files with several names */
};

/* ---- one file ---------------------------------------------------------------- */

/* Contiguous in the file and on the device; sharing and preallocation do not count. */
static int count_extents(const char *path, int fd, uint64_t *ret_count)
{
	struct pml_ioc_extents list = {.version = PML_IOC_VERSION};
	uint64_t count = 0, next_byte = 0, next_block = 0;
	do {
		int err = pml_ctl_ask(path, fd, PML_IOC_EXTENTS, &list);
		if (err)
			return err;
		for (uint32_t i = 0; i < list.count && i < PML_IOC_EXTENTS_MAX; i++) {
			const struct pml_ioc_extent *e = &list.extents[i];
			count += count == 0 || e->first_byte != next_byte || e->block != next_block;
			next_byte = e->first_byte + e->nblocks * PML_BLOCK_BYTES;
			next_block = e->block + e->nblocks;
		}
		list.first_byte = list.next_byte;
	} while (list.count > 0);
	*ret_count = count;
	return 0;
}

static int relocate(const char *path, int fd, struct outcome *out)
{
	struct pml_ioc_relocate step = {.version = PML_IOC_VERSION};
	do {
		int err = pml_ctl_ask(path, fd, PML_IOC_RELOCATE, &step);
		if (err)
			return err;
		out->moved_bytes += step.moved_bytes;
		out->shared_bytes += step.skipped_shared_bytes;
		out->leased_bytes += step.skipped_leased_bytes;
		step.first_byte = step.next_byte;
	} while (step.next_byte != 0);
	return 0;
}

static void print_json(struct run *run, const char *path, const struct outcome *out)
{
	printf("%s{\"file\":", run->separator);
	pml_ctl_print_json_text(path);
	printf(",\"extents_before\":%llu,\"extents_after\":%llu,\"moved_bytes\":%llu,"
	       "\"shared_bytes\":%llu,\"leased_bytes\":%llu}",
	       (unsigned long long)out->before, (unsigned long long)out->after,
	       (unsigned long long)out->moved_bytes, (unsigned long long)out->shared_bytes,
	       (unsigned long long)out->leased_bytes);
	run->separator = ",\n";
}

static void print(struct run *run, const char *path, const struct outcome *out)
{
	char moved[PML_SIZE_TEXT_BYTES], shared[PML_SIZE_TEXT_BYTES], leased[PML_SIZE_TEXT_BYTES];
	if (run->options->is_quiet)
		return;
	if (run->options->is_json) {
		print_json(run, path, out);
		return;
	}
	pml_size_format(out->moved_bytes, moved);
	pml_size_format(out->shared_bytes, shared);
	pml_size_format(out->leased_bytes, leased);
	printf("%-8llu %-8llu %-10s %-10s %-10s ", (unsigned long long)out->before,
	       (unsigned long long)out->after, moved, shared, leased);
	pml_ctl_print_text(path);
	putchar('\n');
}

/*
 * @path is opened, @name is shown.  Returns the error, which was complained of; in a tree
 * files come and go.
 */
static int defrag_file(struct run *run, const char *path, const char *name)
{
	struct outcome out = {0};
	bool is_tree = run->options->is_all;
	pml_auto_close int fd =
		open(path, O_WRONLY | O_NONBLOCK | O_CLOEXEC | (is_tree ? O_NOFOLLOW : 0));
	if (fd < 0)
		return is_tree && errno == ENOENT ? 0 : pml_ctl_complain(name, -errno);
	int err = count_extents(name, fd, &out.before);
	if (!err)
		err = relocate(name, fd, &out);
	if (!err)
		err = count_extents(name, fd, &out.after);
	if (!err)
		print(run, name, &out);
	return err;
}

/* ---- trees -------------------------------------------------------------------- */

static int compare_numbers(const void *a, const void *b)
{
	return (uintptr_t)a < (uintptr_t)b ? -1 : (uintptr_t)a > (uintptr_t)b;
}

static void free_nothing(void *number)
{
	(void)number;
}

/* Has another name of this file been met?  Notes that this one has. */
static int note_seen(struct run *run, ino_t ino, bool *ret_is_seen)
{
	/* The numbers themselves are the keys; none is 0. */
	const void *key = (const void *)(uintptr_t)ino;
	*ret_is_seen = tfind(key, &run->seen, compare_numbers) != NULL;
	return *ret_is_seen || tsearch(key, &run->seen, compare_numbers) ? 0 : -ENOMEM;
}

static int defrag_entry(struct run *run, const FTSENT *entry)
{
	bool is_seen = false;
	if (entry->fts_statp->st_nlink > 1) {
		int err = note_seen(run, entry->fts_statp->st_ino, &is_seen);
		if (err)
			return pml_ctl_complain(entry->fts_path, err);
	}
	return is_seen ? 0 : defrag_file(run, entry->fts_accpath, entry->fts_path);
}

/* What fts_read(3) has found.  -ENOTTY: it is no pmemleasefs. */
static int visit(struct run *run, const FTSENT *entry, dev_t dev)
{
	switch (entry->fts_info) {
	case FTS_F:
		/* Another file may be mounted there. */
		if (!S_ISREG(entry->fts_statp->st_mode) || entry->fts_statp->st_dev != dev)
			return 0;
		return defrag_entry(run, entry);
	case FTS_DNR:
	case FTS_ERR:
	case FTS_NS:
		return pml_ctl_complain(entry->fts_path, -entry->fts_errno);
	default:
		return 0;
	}
}

static void defrag_tree(struct run *run, char *path)
{
	char *paths[] = {path, NULL};
	FTS *fts = fts_open(paths, FTS_PHYSICAL | FTS_COMFOLLOW | FTS_XDEV, NULL);
	if (!fts) {
		(void)pml_ctl_complain(path, -errno);
		run->status = PML_CTL_ERROR;
		return;
	}
	dev_t dev = 0;
	const FTSENT *entry;
	errno = 0;
	while ((entry = fts_read(fts))) {
		if (entry->fts_level == FTS_ROOTLEVEL && entry->fts_info != FTS_NS)
			dev = entry->fts_statp->st_dev;
		int err = visit(run, entry, dev);
		if (err)
			run->status = PML_CTL_ERROR;
		if (err == -ENOTTY)
			break;
		errno = 0;
	}
	if (!entry && errno) {
		(void)pml_ctl_complain(path, -errno);
		run->status = PML_CTL_ERROR;
	}
	(void)fts_close(fts);
	tdestroy(run->seen, free_nothing);
	run->seen = NULL;
}

/* ---- all ------------------------------------------------------------------------ */

int pml_ctl_defrag(const struct pml_ctl_options *options, char **args, int nargs)
{
	struct run run = {.options = options, .separator = "\n"};
	bool is_json = options->is_json && !options->is_quiet;
	if (is_json)
		printf("[");
	else if (!options->is_quiet)
		printf("%-8s %-8s %-10s %-10s %-10s %s\n", "BEFORE", "AFTER", "MOVED", "SHARED",
		       "LEASED", "FILE");
	for (int i = 0; i < nargs; i++) {
		if (options->is_all)
			defrag_tree(&run, args[i]);
		else if (defrag_file(&run, args[i], args[i]))
			run.status = PML_CTL_ERROR;
	}
	if (is_json)
		printf("\n]\n");
	return run.status;
}
