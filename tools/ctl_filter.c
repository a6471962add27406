/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * ctl_filter.c -- pmemleasectl: which of the leases, pins, waiting operations and ends
 * are wanted
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "ctl.h"
#include "pmemleasefs/ioctl.h"

/* ---- arrays --------------------------------------------------------------- */

int pml_ctl_append(struct pml_ctl_array *array, const void *entries, size_t count)
{
	size_t room = array->room ? array->room : 64;
	while (room < array->count + count)
		room *= 2;
	if (room != array->room) {
		void *more = reallocarray(array->entries, room, array->entry_bytes);
		if (!more)
			return pml_ctl_complain("lists", -ENOMEM);
		array->entries = more;
		array->room = room;
	}
	memcpy((char *)array->entries + array->count * array->entry_bytes, entries,
	       count * array->entry_bytes);
	array->count += count;
	return 0;
}

/* ---- what is wanted -------------------------------------------------------- */

static bool covers(const struct pml_ioc_pin *pin, uint64_t block)
{
	return block >= pin->block && block - pin->block < pin->nblocks;
}

/* Pins come in order of lease, so the numbers ascend. */
static int note_pin(void *arg, const struct pml_ioc_pin *pin)
{
	struct pml_ctl_choice *choice = arg;
	const uint64_t *ids = choice->pinning.entries;
	size_t count = choice->pinning.count;
	if (!covers(pin, choice->filter->block) || (count > 0 && ids[count - 1] == pin->lease_id))
		return 0;
	return pml_ctl_append(&choice->pinning, &pin->lease_id, 1);
}

/* The file's inode, if it lies on the mount. */
static int find_inode(const struct pml_ctl_mount *mount, const char *path, uint64_t *ret_ino)
{
	struct stat file, root;
	if (stat(path, &file) != 0)
		return pml_ctl_complain(path, -errno);
	if (fstat(mount->fd, &root) != 0)
		return pml_ctl_complain(mount->path, -errno);
	if (file.st_dev != root.st_dev) {
		fprintf(stderr, PML_CTL_PROGRAM ": %s: not on the filesystem at %s\n", path,
			mount->path);
		return -EXDEV;
	}
	*ret_ino = file.st_ino;
	return 0;
}

int pml_ctl_choose_again(const struct pml_ctl_mount *mount, struct pml_ctl_choice *choice)
{
	choice->pinning.count = 0;
	return choice->filter->has_block ? pml_ctl_each_pin(mount, note_pin, choice) : 0;
}

int pml_ctl_choose(const struct pml_ctl_mount *mount, const struct pml_ctl_filter *filter,
		   struct pml_ctl_choice *ret_choice)
{
	*ret_choice = (struct pml_ctl_choice){.filter = filter,
					      .pinning = {.entry_bytes = sizeof(uint64_t)}};
	int err = filter->file ? find_inode(mount, filter->file, &ret_choice->ino) : 0;
	return err ? err : pml_ctl_choose_again(mount, ret_choice);
}

void pml_ctl_choice_fini(struct pml_ctl_choice *choice)
{
	free(choice->pinning.entries);
}

static int compare_ids(const void *a, const void *b)
{
	uint64_t left = *(const uint64_t *)a, right = *(const uint64_t *)b;
	return left < right ? -1 : left > right;
}

bool pml_ctl_is_chosen(const struct pml_ctl_choice *choice, uint64_t ino, uint64_t lease_id,
		       const char *peer)
{
	const struct pml_ctl_filter *filter = choice->filter;
	if (filter->file && ino != choice->ino)
		return false;
	if (filter->client && strncmp(peer, filter->client, strlen(filter->client)) != 0)
		return false;
	if (filter->lease_id && lease_id != filter->lease_id)
		return false;
	if (!filter->has_block)
		return true;
	return choice->pinning.count > 0 &&
	       bsearch(&lease_id, choice->pinning.entries, choice->pinning.count, sizeof(lease_id),
		       compare_ids);
}

void pml_ctl_print_choice(const struct pml_ctl_choice *choice)
{
	if (!choice->filter->file)
		return;
	pml_ctl_print_text(choice->filter->file);
	printf(" is inode %" PRIu64 "\n", choice->ino);
}

void pml_ctl_print_json_inode(const struct pml_ctl_choice *choice, uint64_t ino)
{
	printf("\"inode\":%" PRIu64, ino);
	if (!choice->filter->file)
		return;
	printf(",\"path\":");
	pml_ctl_print_json_text(choice->filter->file);
}

/* ---- showing --------------------------------------------------------------- */

int pml_ctl_show(const struct pml_ctl_mount *mount, const struct pml_ctl_options *options,
		 const struct pml_ctl_kind *kind)
{
	struct pml_ctl_choice choice;
	struct pml_ctl_array array = {0};
	int err = pml_ctl_choose(mount, &options->filter, &choice);
	if (!err)
		err = kind->get(mount, &choice, &array);
	if (err)
		goto out;
	if (!options->is_json) {
		pml_ctl_print_choice(&choice);
		kind->print_heading();
	}
	struct pml_ctl_list list;
	pml_ctl_begin_list(&list, options->is_json);
	const char *entry = array.entries;
	for (size_t i = 0; i < array.count; i++, entry += array.entry_bytes) {
		pml_ctl_next_entry(&list);
		if (options->is_json)
			kind->print_json(&choice, entry);
		else
			kind->print(entry);
	}
	pml_ctl_end_list(&list);
out:
	free(array.entries);
	pml_ctl_choice_fini(&choice);
	return err;
}
