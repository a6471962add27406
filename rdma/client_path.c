/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * client_path.c -- client library: from paths to handles
 *
 * Paths are walked name by name with lookup requests; symbolic links are shown,
 * not followed, and ".." is refused, so a path always means what it says.
 */
#include <string.h>

#include "client_i.h"

/* Mounts of the server that one request may meet. */
#define ATTEMPTS_MAX 4u

/* ---- the root, which is another after each mount of the server ------------ */

static struct pml_client_attr root_of(struct pml_client *client)
{
	pthread_mutex_lock(&client->lock);
	struct pml_client_attr root = client->root;
	pthread_mutex_unlock(&client->lock);
	return root;
}

struct pml_client_attempt pml_client_attempt(struct pml_client *client)
{
	return (struct pml_client_attempt){.root = root_of(client).handle};
}

bool pml_client_again(struct pml_client *client, struct pml_client_attempt *attempt, int err)
{
	if (err != -ESTALE || attempt->n == ATTEMPTS_MAX)
		return false;
	struct pml_client_handle root = root_of(client).handle;
	bool is_another = memcmp(&root, &attempt->root, sizeof(root)) != 0;
	attempt->root = root;
	attempt->n++;
	return is_another;
}

/* ---- paths ---------------------------------------------------------------- */

/*
 * Takes the next name off *@path.  Returns its length, 0 at the end, -ENAMETOOLONG or
 * -EINVAL (a "..").
 */
static int next_name(const char **path, const char **ret_name)
{
	for (;;) {
		const char *name = *path + strspn(*path, "/");
		size_t len = strcspn(name, "/");
		*path = name + len;
		*ret_name = name;
		if (len == 1 && name[0] == '.')
			continue;
		if (len == 2 && name[0] == '.' && name[1] == '.')
			return -EINVAL;
		return len > PML_WIRE_NAME_MAX ? -ENAMETOOLONG : (int)len;
	}
}

static int fail_name(const char *path, int err)
{
	return pml_client_fail(err,
			       err == -EINVAL ? "%s: \"..\" cannot be used here"
					      : "%s: a name in it is longer than 255 bytes",
			       path);
}

static void take_name(const char *name, int bytes, char *ret_name)
{
	memcpy(ret_name, name, (size_t)bytes);
	ret_name[bytes] = 0;
}

int pml_client_walk(struct pml_client *client, const char *path, struct pml_client_attr *ret_attr)
{
	const char *rest;
	int err = pml_client_strip(client, path, &rest);
	if (err)
		return err;
	const char *name;
	struct pml_client_attr attr = root_of(client);
	int len = next_name(&rest, &name);
	if (len == 0)
		return pml_client_ask_attr(client, &attr.handle, "/", ret_attr);

	struct pml_client_place place = {.dir = attr.handle, .what = path};
	for (; len > 0; len = next_name(&rest, &name)) {
		take_name(name, len, place.name);
		err = pml_client_look_up(client, &place, &attr);
		if (err)
			return err;
		place.dir = attr.handle;
	}
	if (len < 0)
		return fail_name(path, len);
	*ret_attr = attr;
	return 0;
}

int pml_client_walk_to(struct pml_client *client, const char *path,
		       struct pml_client_place *ret_place)
{
	struct pml_client_place place = {.dir = root_of(client).handle, .what = path};
	const char *rest;
	int err = pml_client_strip(client, path, &rest);
	if (err)
		return err;
	const char *name;
	int len = next_name(&rest, &name);
	if (len == 0)
		return pml_client_fail(-EISDIR, "%s: give the name of a file", path);
	while (len > 0) {
		const char *next;
		int next_len = next_name(&rest, &next);
		take_name(name, len, place.name);
		if (next_len == 0)
			break;
		struct pml_client_attr attr;
		err = pml_client_look_up(client, &place, &attr);
		if (err)
			return err;
		place.dir = attr.handle;
		name = next;
		len = next_len;
	}
	if (len < 0)
		return fail_name(path, len);
	*ret_place = place;
	return 0;
}

int pml_client_place_at(const struct pml_client_handle *dir, const char *name,
			struct pml_client_place *ret_place)
{
	size_t bytes = strlen(name);
	if (bytes == 0 || strchr(name, '/'))
		return pml_client_fail(-EINVAL, "\"%.100s\": not the name of an entry", name);
	if (bytes > PML_WIRE_NAME_MAX)
		return pml_client_fail(-ENAMETOOLONG, "%.40s...: a name of more than 255 bytes",
				       name);
	*ret_place = (struct pml_client_place){.dir = *dir, .what = name};
	memcpy(ret_place->name, name, bytes);
	return 0;
}
