/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * client_url.c -- see client_url.h
 */
#include <stdio.h>
#include <string.h>

#include "client_url.h"
#include "secrets.h"

/* Cuts @len bytes out of a string; -EINVAL when they do not fit or are none. */
static int cut(char *ret_text, size_t room, const char *from, size_t len)
{
	if (len == 0 || len >= room)
		return -EINVAL;
	memcpy(ret_text, from, len);
	ret_text[len] = 0;
	return 0;
}

/* Names of identities may have an '@' in them, hosts have none. */
static int take_identity(const char **at, struct pml_client_url *url)
{
	size_t bytes = strcspn(*at, "/");
	const char *end = memrchr(*at, '@', bytes);
	url->identity[0] = 0;
	if (!end)
		return 0;
	int err = cut(url->identity, sizeof(url->identity), *at, (size_t)(end - *at));
	*at = end + 1;
	return err || pml_identity_is_valid(url->identity) ? err : -EINVAL;
}

static int take_host(const char **at, struct pml_client_url *url)
{
	bool is_bracketed = **at == '[';
	*at += is_bracketed;
	size_t len = strcspn(*at, is_bracketed ? "]/" : ":/");
	int err = cut(url->host, sizeof(url->host), *at, len);
	if (err)
		return err;
	*at += len;
	if (is_bracketed && *(*at)++ != ']')
		return -EINVAL;
	return *(*at)++ == ':' ? 0 : -EINVAL;
}

int pml_client_url_parse(const char *text, struct pml_client_url *ret_url)
{
	struct pml_client_url url;
	if (strncmp(text, "rdma://", 7) == 0)
		url.kind = PML_TRANSPORT_VERBS;
	else if (strncmp(text, "soft://", 7) == 0)
		url.kind = PML_TRANSPORT_SOFT;
	else
		return -EINVAL;

	const char *at = text + 7;
	int err = take_identity(&at, &url);
	if (!err)
		err = take_host(&at, &url);
	if (err)
		return err;
	size_t len = strspn(at, "0123456789");
	if (at[len] != 0 && at[len] != '/')
		return -EINVAL;
	err = cut(url.port, sizeof(url.port), at, len);
	if (err)
		return err;
	at += len;
	if (strlen(at) >= sizeof(url.path))
		return -ENAMETOOLONG;
	memcpy(url.path, at, strlen(at) + 1);
	(void)snprintf(url.text, sizeof(url.text), "%s", text);
	*ret_url = url;
	return 0;
}
