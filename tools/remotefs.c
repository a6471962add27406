/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * remotefs.c -- a server's filesystem mounted on the client's machine
 *
 * Requests of the kernel become requests to the server, and contents one-sided reads and
 * writes under leases that the client library takes, returns and takes again.  What the
 * kernel keeps is as fresh as with NFS: names and attributes for a second, contents from
 * open to close (docs/design.md, "A mounted client").
 *
 * Threads: libfuse's workers; one that waits for signals.
 */
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pml/log.h"
#include "remotefs.h"
#include "remotefs_private.h"

#define WORKERS_MAX 10

struct remote_options {
	double attr_s;
	double entry_s;
	unsigned int timeout_s;
	char *secrets;
	char reason[PML_REASON_BYTES]; /* why an option was refused */
};

#define OPTION(text, member)                                                                       \
	{                                                                                          \
		text, offsetof(struct remote_options, member), 1                                   \
	}

/* As FUSE_OPT_KEY, in which clang finds a hidden conversion. */
#define KEY(text, key)                                                                             \
	{                                                                                          \
		text, (unsigned long)-1U, key                                                      \
	}

static const struct fuse_opt option_table[] = {
	OPTION("attr_timeout=%lf", attr_s),
	OPTION("entry_timeout=%lf", entry_s),
	OPTION("timeout=%u", timeout_s),
	OPTION("secrets=%s", secrets),
	/* What libfuse and the kernel know. */
	KEY("fsname=", FUSE_OPT_KEY_KEEP),
	KEY("subtype=", FUSE_OPT_KEY_KEEP),
	KEY("default_permissions", FUSE_OPT_KEY_KEEP),
	KEY("allow_other", FUSE_OPT_KEY_KEEP),
	KEY("ro", FUSE_OPT_KEY_KEEP),
	KEY("rw", FUSE_OPT_KEY_KEEP),
	KEY("nosuid", FUSE_OPT_KEY_KEEP),
	KEY("suid", FUSE_OPT_KEY_KEEP),
	KEY("nodev", FUSE_OPT_KEY_KEEP),
	KEY("dev", FUSE_OPT_KEY_KEEP),
	KEY("noexec", FUSE_OPT_KEY_KEEP),
	KEY("exec", FUSE_OPT_KEY_KEEP),
	KEY("noatime", FUSE_OPT_KEY_KEEP),
	/* What mount(8) passes from fstab(5). */
	KEY("defaults", FUSE_OPT_KEY_DISCARD),
	KEY("auto", FUSE_OPT_KEY_DISCARD),
	KEY("noauto", FUSE_OPT_KEY_DISCARD),
	KEY("nofail", FUSE_OPT_KEY_DISCARD),
	KEY("_netdev", FUSE_OPT_KEY_DISCARD),
	FUSE_OPT_END,
};

bool pml_remotefs_is_url(const char *source)
{
	return strncmp(source, "rdma://", 7) == 0 || strncmp(source, "soft://", 7) == 0;
}

void pml_remote_reply_err(fuse_req_t req, int err)
{
	/* What the library says of connections and leases, programs do not know of files. */
	switch (err) {
	case -ENOTCONN:
	case -ETIMEDOUT:
	case -EKEYREVOKED:
	case -EREMOTEIO:
	case -EPROTO:
	case -ECONNREFUSED:
		err = -EIO;
		break;
	case -EAGAIN:
		err = -EBUSY;
		break;
	default:
		break;
	}
	(void)fuse_reply_err(req, -err);
}

/* ---- options ------------------------------------------------------------- */

/* What no row of the table knows. */
static int on_option(void *data, const char *arg, int key, struct fuse_args *args)
{
	struct remote_options *options = data;
	(void)args;
	if (key == FUSE_OPT_KEY_NONOPT)
		return 1; /* the program's name */
	(void)snprintf(options->reason, sizeof(options->reason),
		       "%.100s: no option of a mounted client; see mount.pmemleasefs(8)", arg);
	return -1;
}

static int add_option(struct fuse_args *args, const char *option)
{
	return fuse_opt_add_arg(args, "-o") || fuse_opt_add_arg(args, option) ? -ENOMEM : 0;
}

static int add_options(struct fuse_args *args, const struct pml_remotefs_args *from)
{
	pml_auto_free char *name = NULL;
	if (strchr(from->url, ','))
		return -EINVAL;
	if (asprintf(&name, "fsname=%s", from->url) < 0) {
		name = NULL;
		return -ENOMEM;
	}
	if (fuse_opt_add_arg(args, "pmemleasefs"))
		return -ENOMEM;
	int err = add_option(args, name);
	if (!err)
		err = add_option(args, "subtype=pmemleasefs");
	/* The server knows one user here; the kernel checks permission bits for them all. */
	if (!err)
		err = add_option(args, "default_permissions");
	if (!err && geteuid() == 0)
		err = add_option(args, "allow_other");
	if (!err && from->options[0])
		err = add_option(args, from->options);
	return err;
}

static int parse_options(const struct pml_remotefs_args *from, struct fuse_args *args,
			 struct remote_options *ret_options, char *ret_reason)
{
	*ret_options = (struct remote_options){.attr_s = 1, .entry_s = 1, .timeout_s = 30};
	int err = add_options(args, from);
	if (err) {
		(void)snprintf(ret_reason, PML_REASON_BYTES, "%.150s: %s", from->url,
			       err == -EINVAL ? "a comma in a URL cannot be mounted"
					      : strerror(-err));
		return err;
	}
	if (fuse_opt_parse(args, ret_options, option_table, on_option) == 0)
		return 0;
	(void)snprintf(ret_reason, PML_REASON_BYTES, "%s",
		       ret_options->reason[0] ? ret_options->reason
					      : "-o: a number is missing or none");
	return -EINVAL;
}

/* ---- the kernel's side --------------------------------------------------- */

static void on_init(void *userdata, struct fuse_conn_info *conn)
{
	(void)userdata;
	conn->max_write = (unsigned int)PML_REMOTE_IO_BYTES;
	conn->max_readahead = (unsigned int)PML_REMOTE_IO_BYTES;
	/* Several requests for one directory or file may run side by side. */
	conn->want |= conn->capable & (FUSE_CAP_PARALLEL_DIROPS | FUSE_CAP_ASYNC_READ |
				       FUSE_CAP_ASYNC_DIO | FUSE_CAP_HANDLE_KILLPRIV);
	conn->want &= ~(unsigned int)FUSE_CAP_WRITEBACK_CACHE;
}

static int mount_session(struct pml_remotefs *fs, struct fuse_args *args, char *ret_reason)
{
	struct fuse_lowlevel_ops ops = {.init = on_init};
	pml_remote_names_ops(&ops);
	pml_remote_data_ops(&ops);
	fs->session = fuse_session_new(args, &ops, sizeof(ops), fs);
	if (!fs->session) {
		(void)snprintf(ret_reason, PML_REASON_BYTES, "options refused by libfuse");
		return -EINVAL;
	}
	errno = 0;
	if (fuse_session_mount(fs->session, fs->mountpoint) == 0)
		return 0;
	int err = errno ? -errno : -EIO;
	(void)snprintf(ret_reason, PML_REASON_BYTES, "%.150s: %s", fs->mountpoint, strerror(-err));
	fuse_session_destroy(fs->session);
	fs->session = NULL;
	return err;
}

/* ---- start and stop ------------------------------------------------------ */

/* The path of a URL that was connected to, without slashes at its end. */
static char *path_of_url(const char *url)
{
	const char *host = strstr(url, "://");
	const char *path = host ? strchr(host + 3, '/') : NULL;
	size_t bytes = path ? strlen(path) : 0;
	while (bytes > 0 && path[bytes - 1] == '/')
		bytes--;
	return strndup(path ? path : "", bytes);
}

static int connect_server(struct pml_remotefs *fs, const struct remote_options *options,
			  char *ret_reason)
{
	int timeout_ms = (int)PML_MIN(options->timeout_s, 86400u) * 1000;
	/* The library's way to name the file; nobody else reads the environment here. */
	if (options->secrets && setenv("PMEMLEASE_SECRETS", options->secrets, 1))
		return -ENOMEM;
	const struct pml_client_args args = {
		.size_bytes = sizeof(args), .url = fs->url, .timeout_ms = timeout_ms};
	int err = pml_client_open(&args, &fs->client, ret_reason);
	if (err)
		return err;
	pml_client_set_reconnect(fs->client, timeout_ms);
	struct pml_client_attr root;
	err = pml_client_stat(fs->client, fs->path, &root);
	if (!err && !S_ISDIR(root.mode))
		err = -ENOTDIR;
	if (err) {
		(void)snprintf(ret_reason, PML_REASON_BYTES, "%.150s: %s", fs->url, strerror(-err));
		return err;
	}
	return pml_remote_nodes_init(fs, &root);
}

static void free_fs(struct pml_remotefs *fs)
{
	if (fs->session)
		fuse_session_destroy(fs->session);
	if (fs->root)
		pml_remote_nodes_fini(fs);
	if (fs->client)
		pml_client_close(fs->client);
	free(fs->url);
	free(fs->path);
	free(fs->mountpoint);
	free(fs);
}

static int start(struct pml_remotefs *fs, const struct pml_remotefs_args *from,
		 struct fuse_args *args, char *ret_reason)
{
	struct remote_options options;
	int err = parse_options(from, args, &options, ret_reason);
	fs->attr_s = options.attr_s;
	fs->entry_s = options.entry_s;
	fs->url = strdup(from->url);
	fs->path = path_of_url(from->url);
	fs->mountpoint = strdup(from->mountpoint);
	if (!err && (!fs->url || !fs->path || !fs->mountpoint))
		err = -ENOMEM;
	if (!err)
		err = connect_server(fs, &options, ret_reason);
	free(options.secrets);
	return err ? err : mount_session(fs, args, ret_reason);
}

int pml_remotefs_start(const struct pml_remotefs_args *from, struct pml_remotefs **ret_fs,
		       char *ret_reason)
{
	struct pml_remotefs *fs = calloc(1, sizeof(*fs));
	if (!fs)
		return -ENOMEM;
	ret_reason[0] = '\0';
	struct fuse_args args = FUSE_ARGS_INIT(0, NULL);
	int err = start(fs, from, &args, ret_reason);
	fuse_opt_free_args(&args);
	if (err) {
		if (!ret_reason[0])
			(void)snprintf(ret_reason, PML_REASON_BYTES, "%.150s: %s", from->url,
				       strerror(-err));
		free_fs(fs);
		return err;
	}
	*ret_fs = fs;
	return 0;
}

int pml_remotefs_run(struct pml_remotefs *fs)
{
	/* libfuse ends its loop by a handler, and in this thread: its others block signals. */
	sigset_t signals;
	sigemptyset(&signals);
	sigaddset(&signals, SIGTERM);
	sigaddset(&signals, SIGINT);
	sigaddset(&signals, SIGHUP);
	if (fuse_set_signal_handlers(fs->session) != 0)
		return -EIO;
	pthread_sigmask(SIG_UNBLOCK, &signals, NULL);

	struct fuse_loop_config *config = fuse_loop_cfg_create();
	int err = config ? 0 : -ENOMEM;
	if (config) {
		fuse_loop_cfg_set_max_threads(config, WORKERS_MAX);
		err = fuse_session_loop_mt(fs->session, config);
		fuse_loop_cfg_destroy(config);
	}
	pthread_sigmask(SIG_BLOCK, &signals, NULL);
	fuse_remove_signal_handlers(fs->session);
	return err > 0 ? 0 : err; /* the number of a signal */
}

void pml_remotefs_stop(struct pml_remotefs *fs)
{
	fuse_session_unmount(fs->session);
	free_fs(fs);
}
