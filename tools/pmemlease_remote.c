/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * pmemlease_remote.c -- servers and paths of URLs, messages
 *
 * Each server of a command line is connected to once, and the library connects again if
 * that breaks.  What others have named may
 * hold anything: all messages are printed escaped.
 */
#include <signal.h>
#include <sodium.h>
#include <stdarg.h>
#include <string.h>

#include "pmemlease.h"
#include "text.h"

#define DEFAULT_TIMEOUT_MS 30000 /* of --timeout=0 */

/* ---- messages ----------------------------------------------------------- */

static void PML_PRINTF(1, 0) print_message(const char *fmt, va_list args)
{
	char *text = NULL;
	if (vasprintf(&text, fmt, args) < 0)
		text = NULL;
	fputs("pmemlease: ", stderr);
	pml_text_print_escaped(stderr, text ? text : "out of memory");
	fputc('\n', stderr);
	free(text);
}

int report_local(const char *fmt, ...)
{
	va_list args;
	va_start(args, fmt);
	print_message(fmt, args);
	va_end(args);
	return EXIT_LOCAL;
}

int report_refused(const char *fmt, ...)
{
	va_list args;
	va_start(args, fmt);
	print_message(fmt, args);
	va_end(args);
	return EXIT_REMOTE;
}

int report_remote(struct pml_client *client, const char *what, int err)
{
	const char *reason = pml_client_reason(client);
	switch (err) {
	case -ENOTCONN:
	case -ETIMEDOUT:
		report_local("%s: connection lost: %s", what, reason);
		return EXIT_CONNECT;
	case -EAGAIN:
	case -ESTALE:
		report_local("%s: the lease was not available in time: try later, or with a "
			     "longer --wait",
			     what);
		return EXIT_RECALLED;
	case -EKEYREVOKED:
		fputs("lease revoked: ", stderr);
		pml_text_print_escaped(stderr, reason);
		fputc('\n', stderr);
		return EXIT_REVOKED;
	default:
		return report_refused("%s", reason);
	}
}

int report_instead(struct pml_client *client, const char *path, const char *temp, int err)
{
	const char *reason = pml_client_reason(client);
	size_t len = strlen(temp);
	if (err == -EEXIST || err == -EISDIR || err == -ENOTDIR)
		return report_refused("%s: %s", path, strerror(-err));
	if (strncmp(reason, temp, len) != 0)
		return report_remote(client, path, err);
	if (!is_disconnected(err))
		return report_refused("%s%s", path, reason + len);
	report_local("%s: connection lost%s", path, reason + len);
	return EXIT_CONNECT;
}

/* ---- servers ------------------------------------------------------------ */

static int connect_server(const char *url, const struct options *opt,
			  struct pml_client **ret_client, char *ret_reason)
{
	int timeout_ms = opt->timeout_ms ? (int)opt->timeout_ms : DEFAULT_TIMEOUT_MS;
	int err = pml_client_connect(url, timeout_ms, ret_client, ret_reason);
	if (err)
		return err;
	pml_client_set_reconnect(*ret_client, timeout_ms);
	const struct pml_client_events silent = {.is_silent = true};
	if (opt->ignore_recall)
		pml_client_set_events(*ret_client, &silent);
	return 0;
}

static void server_free(struct server *server)
{
	if (server->client)
		pml_client_close(server->client);
	free(server->url);
	free(server->host);
	free(server->root);
	free(server);
}

static int add_server(struct session *session, const char *url, size_t host_bytes,
		      struct server **ret_server)
{
	char reason[PML_REASON_BYTES];
	struct server *server = calloc(1, sizeof(*server));
	if (!server)
		return report_local("out of memory");
	server->opt = &session->opt;
	server->url = strdup(url);
	server->host = strndup(url, host_bytes);
	if (!server->url || !server->host) {
		server_free(server);
		return report_local("out of memory");
	}
	int err = connect_server(url, &session->opt, &server->client, reason);
	if (err) {
		server_free(server);
		report_local("%s", reason);
		return err == -EINVAL ? EXIT_LOCAL : EXIT_CONNECT;
	}
	pml_list_append(&session->servers, &server->link);
	*ret_server = server;
	return 0;
}

/* What follows "//HOST:PORT" in a URL. */
static const char *path_of(const char *url)
{
	const char *host = strstr(url, "://");
	const char *path = host ? strchr(host + 3, '/') : NULL;
	return path ? path : url + strlen(url);
}

/*
 * Finds out what the connection shows: the export that the first URL lies in.  Its root is
 * the shortest path that is not refused.  "" if nothing is to be found out.
 */
static const char *root_of(struct server *server)
{
	struct pml_client_attr attr;
	const char *path = path_of(server->url);
	for (const char *end = path; !server->root; end += 1 + strcspn(end + 1, "/")) {
		server->root = strndup(path, (size_t)(end - path));
		if (!server->root || !*end ||
		    pml_client_stat(server->client, server->root, &attr) != -EACCES)
			break;
		free(server->root);
		server->root = NULL;
	}
	return server->root ? server->root : path;
}

/* A server that shows @path of @url already, or NULL. */
static struct server *find_server(struct session *session, const char *url, size_t host_bytes,
				  const char *path)
{
	struct server *server;
	pml_list_for_each(server, &session->servers, link) {
		if (strlen(server->host) != host_bytes ||
		    strncmp(server->host, url, host_bytes) != 0)
			continue;
		const char *root = root_of(server);
		size_t len = strlen(root);
		if (strncmp(path, root, len) == 0 && (!path[len] || path[len] == '/'))
			return server;
	}
	return NULL;
}

int find_place(struct session *session, const char *url, struct place *ret_place)
{
	const char *path = path_of(url);
	size_t host_bytes = (size_t)(path - url);
	pml_auto_free char *own_path = strdup(path);
	if (!own_path)
		return report_local("out of memory");
	for (size_t len = strlen(own_path); len > 0 && own_path[len - 1] == '/'; len--)
		own_path[len - 1] = 0;

	struct server *found = find_server(session, url, host_bytes, own_path);
	int status = found ? 0 : add_server(session, url, host_bytes, &found);
	if (status)
		return status;
	*ret_place = (struct place){.server = found, .path = pml_take_ptr(&own_path)};
	return 0;
}

void place_fini(struct place *place)
{
	free(place->path);
	place->path = NULL;
}

void session_fini(struct session *session)
{
	while (!pml_list_is_empty(&session->servers)) {
		struct server *server = pml_list_entry(session->servers.next, struct server, link);
		pml_list_remove(&server->link);
		server_free(server);
	}
}

/* ---- paths -------------------------------------------------------------- */

const char *name_of(const char *path)
{
	const char *slash = strrchr(path, '/');
	return slash ? slash + 1 : path;
}

char *join_path(const char *dir, const char *name)
{
	char *path;
	size_t len = strlen(dir);
	const char *slash = name[0] == 0 || (len > 0 && dir[len - 1] == '/') ? "" : "/";
	if (asprintf(&path, "%s%s%s", dir, slash, name) < 0) {
		report_local("out of memory");
		return NULL;
	}
	return path;
}

char *temp_path(const char *path, const char *what)
{
	const char *name = name_of(path);
	char *temp;
	int room = NAME_MAX - (int)strlen("..pml-") - (int)strlen(what);
	if (asprintf(&temp, "%.*s.%.*s.pml-%s", (int)(name - path), path, room, name, what) < 0) {
		report_local("out of memory");
		return NULL;
	}
	return temp;
}

char *random_temp_path(const char *path)
{
	char what[9];
	(void)snprintf(what, sizeof(what), "%08x", randombytes_random());
	return temp_path(path, what);
}

mode_t current_umask(void)
{
	mode_t mask = umask(0);
	(void)umask(mask);
	return mask;
}

bool is_plain_name(const char *name)
{
	return name[0] && !strchr(name, '/') && strcmp(name, ".") != 0 && strcmp(name, "..") != 0;
}

/* ---- a signal ----------------------------------------------------------- */

/* signal(2) leaves no other place. */
static volatile sig_atomic_t came;
static const int ending[] = {SIGINT, SIGTERM, SIGHUP};

static void note_signal(int number)
{
	came = number;
}

void hold_signals(void)
{
	struct sigaction action = {.sa_handler = note_signal, .sa_flags = (int)SA_RESETHAND};
	for (size_t i = 0; i < PML_ARRAY_LEN(ending); i++) {
		struct sigaction was;
		/* nohup(1), or a shell's background: it stays ignored */
		if (sigaction(ending[i], NULL, &was) == 0 && was.sa_handler != SIG_IGN)
			(void)sigaction(ending[i], &action, NULL);
	}
}

void release_signals(void)
{
	for (size_t i = 0; i < PML_ARRAY_LEN(ending); i++) {
		struct sigaction was;
		if (sigaction(ending[i], NULL, &was) == 0 && was.sa_handler == note_signal)
			(void)signal(ending[i], SIG_DFL);
	}
	if (came)
		(void)raise(came);
}

bool is_interrupted(void)
{
	return came != 0;
}
