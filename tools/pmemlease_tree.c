/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * pmemlease_tree.c -- get -r: copies a directory and all below it
 *
 * Directories wait in a list, so depth costs no stack.  Files are fetched one by
 * one as get does.  What is neither a file nor a directory is named and left out:
 * the protocol has no request for it yet.
 */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "pml/list.h"
#include "pmemlease.h"

/* A directory still to be copied, or a name in one. */
struct entry {
	struct pml_list link;
	mode_t type;
	char path[]; /* behind the starting point: "" or "/a/b" */
};

struct tree {
	struct pml_client *client;
	const struct options *opt;
	struct pml_list dirs;  /* to do */
	struct pml_list names; /* of the directory at hand */
	const char *dir;       /* its path */
	bool is_out_of_memory;
};

static struct entry *add_entry(struct pml_list *list, const char *dir, const char *name,
			       mode_t type)
{
	size_t bytes = strlen(dir) + strlen(name) + 2;
	struct entry *entry = malloc(sizeof(*entry) + bytes);
	if (!entry)
		return NULL;
	entry->type = type;
	(void)snprintf(entry->path, bytes, "%s%s%s", dir, name[0] ? "/" : "", name);
	pml_list_append(list, &entry->link);
	return entry;
}

static bool collect_name(void *arg, const char *name, uint64_t ino, mode_t type)
{
	struct tree *t = arg;
	(void)ino;
	if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
		return true;
	t->is_out_of_memory = !add_entry(&t->names, t->dir, name, type);
	return !t->is_out_of_memory;
}

/* Joins two halves of a path; -ENAMETOOLONG is printed. */
static int join(char *ret_path, const char *start, const char *rest)
{
	int n = snprintf(ret_path, PATH_MAX, "%s%s", start, rest);
	if (n >= PATH_MAX)
		return report_local("%s%s: %s", start, rest, strerror(ENAMETOOLONG));
	return 0;
}

static int copy_entry(struct tree *t, const struct entry *entry)
{
	char from[PATH_MAX], to[PATH_MAX];
	if (S_ISDIR(entry->type))
		return add_entry(&t->dirs, entry->path, "", entry->type)
			       ? 0
			       : report_local("%s: out of memory", entry->path);
	int status = join(from, t->opt->path, entry->path);
	if (!status)
		status = join(to, t->opt->file, entry->path);
	if (status)
		return status;
	if (!S_ISREG(entry->type)) {
		if (!t->opt->is_quiet)
			fprintf(stderr, "pmemlease: %s: left out: neither file nor directory\n",
				from);
		return 0;
	}
	struct options one = *t->opt;
	one.path = from;
	one.file = to;
	return run_get(t->client, &one);
}

static int copy_directory(struct tree *t, const struct entry *dir)
{
	char from[PATH_MAX], to[PATH_MAX];
	int status = join(from, t->opt->path, dir->path);
	if (!status)
		status = join(to, t->opt->file, dir->path);
	if (status)
		return status;
	if (mkdir(to, 0777) < 0 && errno != EEXIST)
		return report_local("%s: %s", to, strerror(errno));
	t->dir = dir->path;
	int err = pml_client_readdir(t->client, from, collect_name, t);
	if (err)
		return report_remote(t->client, from, err);
	if (t->is_out_of_memory)
		return report_local("%s: out of memory", from);

	while (!status && !pml_list_is_empty(&t->names)) {
		struct entry *entry = pml_list_entry(t->names.next, struct entry, link);
		pml_list_remove(&entry->link);
		status = copy_entry(t, entry);
		free(entry);
	}
	return status;
}

static void free_entries(struct pml_list *list)
{
	while (!pml_list_is_empty(list)) {
		struct entry *entry = pml_list_entry(list->next, struct entry, link);
		pml_list_remove(&entry->link);
		free(entry);
	}
}

int run_get_tree(struct pml_client *client, const struct options *opt)
{
	struct tree t = {.client = client, .opt = opt};
	int status = 0;
	pml_list_init(&t.dirs);
	pml_list_init(&t.names);
	if (!add_entry(&t.dirs, "", "", S_IFDIR))
		return report_local("out of memory");
	while (!status && !pml_list_is_empty(&t.dirs)) {
		struct entry *dir = pml_list_entry(t.dirs.next, struct entry, link);
		pml_list_remove(&dir->link);
		status = copy_directory(&t, dir);
		free(dir);
	}
	free_entries(&t.names);
	free_entries(&t.dirs);
	return status;
}
