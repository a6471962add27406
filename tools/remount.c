/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * remount.c -- changes the options of a mount, and asks for that
 */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "pmemleasefs/ioctl.h"
#include "remount.h"

/* ---- the serving side ----------------------------------------------------- */

void pml_remount_config(const struct pml_fs *fs, const struct pml_mount_options *options,
			struct pml_lease_config *ret_config)
{
	struct pml_fs_counts counts;
	pml_fs_counts(fs, &counts);
	pml_lease_config_default(ret_config, counts.total_blocks * PML_BLOCK_BYTES);
	pml_options_apply(options, ret_config);
}

static const char *file_or_none(const char *path)
{
	return path[0] ? path : NULL;
}

/* *ret_rules: NULL where nothing is offered. */
static int read_rules(struct pml_remount *remount, const struct pml_mount_options *options,
		      struct pml_access_rules **ret_rules, char *ret_reason)
{
	*ret_rules = NULL;
	if (!remount->access)
		return 0;
	return pml_access_read_rules(remount->access, file_or_none(options->secrets),
				     file_or_none(options->exports), ret_rules, ret_reason);
}

static int change_locked(struct pml_remount *remount, const char *list, char *ret_reason)
{
	struct pml_mount_options changed;
	int err = pml_options_remount(&remount->options, list, &changed, ret_reason);
	if (err)
		return err;
	struct pml_access_rules *rules;
	err = read_rules(remount, &changed, &rules, ret_reason);
	if (err)
		return err;
	struct pml_lease_config config;
	pml_remount_config(remount->fs, &changed, &config);
	err = pml_lease_configure(remount->leases, &config);
	if (err) {
		(void)snprintf(ret_reason, PML_REASON_BYTES, "limits contradict each other");
		pml_access_free_rules(rules);
		return err;
	}
	if (rules)
		pml_access_use_rules(remount->access, rules);
	remount->options = changed;
	return 0;
}

int pml_remount_change(struct pml_remount *remount, const char *list, char *ret_reason)
{
	pthread_mutex_lock(&remount->lock);
	int err = change_locked(remount, list, ret_reason);
	pthread_mutex_unlock(&remount->lock);
	return err;
}

/* ---- the asking side ------------------------------------------------------ */

int pml_remount_ask(const char *mountpoint, const char *list, char *ret_reason)
{
	struct pml_ioc_remount ask = {.version = PML_IOC_VERSION};
	size_t bytes = strlen(list);
	int err = bytes < sizeof(ask.options) ? 0 : -ENAMETOOLONG;
	pml_auto_close int fd = err ? -1 : open(mountpoint, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (!err && fd < 0)
		err = -errno;
	if (!err) {
		memcpy(ask.options, list, bytes);
		err = ioctl(fd, PML_IOC_REMOUNT, &ask) == 0 ? 0 : -errno;
	}
	if (err) {
		(void)snprintf(ret_reason, PML_REASON_BYTES, "%.150s: %s", mountpoint,
			       err == -ENOTTY ? "no pmemleasefs is mounted there" : strerror(-err));
		return err;
	}
	ask.reason[sizeof(ask.reason) - 1] = '\0';
	if (ask.status)
		(void)snprintf(ret_reason, PML_REASON_BYTES, "%s", ask.reason);
	return ask.status;
}
