/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * check.c -- the checker: open, rounds, result
 *
 * Order within a round: the pool's objects, super block and groups, inode table,
 * directories, other inodes, names, link counts, leaks.  See check.h.
 */
#include "check.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "device.h"
#include "tx.h"

/* Each round but the last repairs something; this many are never needed. */
#define ROUNDS_MAX 64u

/* ---- one round --------------------------------------------------------------- */

static void visit_dir(struct pml_check *c, uint64_t ino, struct pml_media_inode *inode,
		      struct pml_check_slot *slot)
{
	if (S_ISDIR(inode->mode))
		pml_check_inode(c, ino, inode, slot);
}

static void visit_other(struct pml_check *c, uint64_t ino, struct pml_media_inode *inode,
			struct pml_check_slot *slot)
{
	if (!(slot->flags & PML_SLOT_IS_WALKED))
		pml_check_inode(c, ino, inode, slot);
}

/* Everything hangs on the root directory. */
static void check_root(struct pml_check *c)
{
	struct pml_media_inode *root = pml_check_inode_at(c, PML_ROOT_INO, NULL);
	if (!root) {
		(void)pml_check_found(c, PML_CHECK_TABLE_UNCLEAR,
				      "inode 1 (/): there is no place for the root directory");
		return;
	}
	if (S_ISDIR(root->mode))
		return;
	if (pml_check_found(c, PML_CHECK_ROOT, "inode 1 (/): mode %#o is not of a directory",
			    root->mode)) {
		uint32_t mode = S_IFDIR | (root->mode ? root->mode & 07777u : 0755u);
		pml_check_done(c, pml_check_store(c, &root->mode, &mode, sizeof(mode)));
	}
}

static void run_round(struct pml_check *c)
{
	static void (*const step[])(struct pml_check *) = {
		pml_check_load_objects, pml_check_super, pml_check_groups,
		pml_check_table,	check_root,
	};
	struct pml_check_result *r = c->result;
	c->nrepaired = c->nleft = 0;
	c->is_partial = c->must_restart = false;
	c->nruns = 0;
	r->files = r->directories = r->norphans = r->npunches = r->blocks = r->shares = 0;

	for (size_t i = 0; i < PML_ARRAY_LEN(step); i++) {
		step[i](c);
		if (c->must_restart || pml_check_is_over(c))
			return;
	}
	pml_check_each_inode(c, visit_dir);
	pml_check_each_inode(c, visit_other);
	if (!c->must_restart && !c->err)
		pml_check_shares(c);
	if (!c->must_restart && !c->err)
		pml_check_names(c);
	if (!c->must_restart && !c->err)
		pml_check_leaks(c);
}

/* ---- all rounds --------------------------------------------------------------- */

static int run_rounds(struct pml_check *c)
{
	struct pml_check_result *r = c->result;
	for (unsigned int i = 0; i < ROUNDS_MAX; i++) {
		c->has_notes = i == 0 || c->has_failed;
		run_round(c);
		r->nrepaired += c->nrepaired;
		r->nleft = c->nleft;
		if (c->err)
			return c->err;
		if (c->nrepaired == 0 && !c->must_restart)
			return 0;
	}
	r->nleft++;
	c->code = PML_CHECK_HEAP;
	(void)pml_check_found(c, PML_CHECK_HEAP, "the repairs do not come to an end");
	return 0;
}

static void free_check(struct pml_check *c)
{
	pml_check_table_free(c);
	free(c->left);
	free(c->object);
	free(c->group);
	free(c->item);
	free(c->run);
}

static int check_open_device(struct pml_fs *fs, const char *path,
			     const struct pml_check_options *options,
			     struct pml_check_result *result, char *reason)
{
	struct pml_check c = {.fs = fs, .path = path, .options = options, .result = result};
	int err = pml_check_super_known(&c, reason);
	if (!err && options->mode != PML_CHECK_NOTHING)
		err = pml_tx_logs_open(fs);
	if (err)
		return reason[0] ? err : pml_reason(reason, err, "%s: %s", path, strerror(-err));
	result->info = fs->info;
	memcpy(result->info.uuid, fs->super->uuid, sizeof(result->info.uuid));
	(void)snprintf(result->info.label, sizeof(result->info.label), "%.*s",
		       (int)sizeof(fs->super->label) - 1, fs->super->label);
	err = run_rounds(&c);
	free_check(&c);
	if (err == -ECANCELED)
		return pml_reason(reason, err, "%s: cancelled", path);
	return err ? pml_reason(reason, err, "%s: %s", path, strerror(-err)) : 0;
}

/* The pool was not opened because of what libpmemobj keeps for itself: all of that is said. */
static bool report_heap(struct pml_fs *fs, const char *path,
			const struct pml_check_options *options, struct pml_check_result *result)
{
	struct pml_check c = {.fs = fs, .path = path, .options = options, .result = result};
	int err = pml_heap_check_fd(fs->fd, fs->info.size_bytes, true, pml_check_report_heap, &c);
	result->nleft = c.nleft;
	free_check(&c);
	return err == -EUCLEAN;
}

/* What a crash left is finished as at every mount, which also proves that one works. */
static int finish_pending(const char *path, const struct pml_check_options *options,
			  struct pml_check_result *result)
{
	const struct pml_open_args args = {.path = path};
	struct pml_fs *fs;
	char reason[PML_REASON_BYTES] = "";
	int err = pml_fs_open(&args, &fs, reason);
	if (!err) {
		pml_fs_close(fs);
		return 0;
	}
	char text[PML_REASON_BYTES + 32];
	(void)snprintf(text, sizeof(text), "it cannot be mounted: %s", reason);
	const struct pml_check_finding finding = {
		.name = "mount", .text = text, .action = "", .outcome = PML_CHECK_LEFT};
	if (options->report)
		options->report(options->arg, &finding);
	result->nleft++;
	return 0;
}

int pml_fs_check(const char *path, const struct pml_check_options *options,
		 struct pml_check_result *ret_result, char *ret_reason)
{
	*ret_result = (struct pml_check_result){0};
	ret_reason[0] = 0;
	struct pml_fs *fs = calloc(1, sizeof(*fs));
	if (!fs)
		return pml_reason(ret_reason, -ENOMEM, "out of memory");
	fs->fd = -1;
	pthread_mutex_init(&fs->rename_lock, NULL);
	pthread_rwlock_init(&fs->audit_lock, NULL);
	fs->is_read_only = fs->is_private = options->mode == PML_CHECK_NOTHING;

	int err = pml_pool_open(fs, path, ret_reason);
	if (!err)
		err = check_open_device(fs, path, options, ret_result, ret_reason);
	else if (err == -EUCLEAN && fs->fd >= 0 && report_heap(fs, path, options, ret_result))
		err = 0;
	pml_fs_close(fs);
	if (!err && options->mode != PML_CHECK_NOTHING && ret_result->nleft == 0)
		err = finish_pending(path, options, ret_result);
	return err;
}
