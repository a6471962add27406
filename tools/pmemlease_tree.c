/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * pmemlease_tree.c -- a remote directory as a sorted list
 *
 * The server is not trusted: a name that does not stand for an entry of its
 * directory, a name that comes twice and a directory without end are refused.
 */
#include <string.h>

#include "pmemlease.h"

#define ENTRIES_MAX 16777216u

struct listing {
	struct pml_list *entries;
	uint32_t count;
	bool is_out_of_memory;
	bool is_endless;
	bool has_wrong_name;
};

struct entry *new_entry(const char *name, mode_t type)
{
	size_t bytes = strlen(name) + 1;
	struct entry *entry = malloc(sizeof(*entry) + bytes);
	if (!entry)
		return NULL;
	entry->type = type;
	pml_list_init(&entry->link);
	memcpy(entry->name, name, bytes);
	return entry;
}

void free_entries(struct pml_list *entries)
{
	while (!pml_list_is_empty(entries)) {
		struct entry *entry = pml_list_entry(entries->next, struct entry, link);
		pml_list_remove(&entry->link);
		free(entry);
	}
}

static bool collect(void *arg, const char *name, uint64_t ino, mode_t type)
{
	struct listing *l = arg;
	(void)ino;
	if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
		return true;
	l->has_wrong_name = !is_plain_name(name);
	l->is_endless = ++l->count > ENTRIES_MAX;
	if (l->has_wrong_name || l->is_endless)
		return false;
	struct entry *entry = new_entry(name, type);
	l->is_out_of_memory = !entry;
	if (entry)
		pml_list_append(l->entries, &entry->link);
	return entry;
}

static int compare(const void *a, const void *b)
{
	const struct entry *const *x = a;
	const struct entry *const *y = b;
	return strcmp((*x)->name, (*y)->name);
}

/* Sorts and takes out what is there twice: the directory was changed meanwhile. */
static int sort_entries(struct pml_list *entries, uint32_t count)
{
	struct entry **sorted = malloc(PML_MAX(count, 1u) * sizeof(struct entry *));
	struct entry *entry;
	size_t n = 0;
	if (!sorted)
		return -ENOMEM;
	pml_list_for_each(entry, entries, link)
		sorted[n++] = entry;
	qsort(sorted, n, sizeof(struct entry *), compare);
	pml_list_init(entries);
	for (size_t i = 0; i < n; i++) {
		if (i + 1 < n && strcmp(sorted[i]->name, sorted[i + 1]->name) == 0)
			free(sorted[i]);
		else
			pml_list_append(entries, &sorted[i]->link);
	}
	free(sorted);
	return 0;
}

int list_directory(struct server *server, const char *path, struct pml_list *ret_entries)
{
	struct listing l = {.entries = ret_entries};
	int err = pml_client_readdir(server->client, path, collect, &l);
	int status = 0;
	if (err)
		status = report_remote(server->client, shown_path(path), err);
	else if (l.has_wrong_name)
		status = report_refused("%s: the server lists a name that cannot be one",
					shown_path(path));
	else if (l.is_endless)
		status = report_refused("%s: has more than %u entries", shown_path(path),
					ENTRIES_MAX);
	else if (l.is_out_of_memory || sort_entries(ret_entries, l.count))
		status = report_local("%s: out of memory", shown_path(path));
	if (status)
		free_entries(ret_entries);
	return status;
}
