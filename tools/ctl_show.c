/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * ctl_show.c -- pmemleasectl: leases, pins, stats and audit of a mount
 */
#include <stdio.h>
#include <string.h>

#include "ctl.h"
#include "names.h"
#include "pmemleasefs/ioctl.h"
#include "pml/lease.h"
#include "size.h"

/* ---- leases ------------------------------------------------------------- */

static const char *mode_name(const struct pml_ioc_lease *lease)
{
	return lease->mode == PML_IOC_MODE_WRITE ? "write" : "read";
}

static void print_lease(const struct pml_ioc_lease *lease)
{
	char pinned[PML_SIZE_TEXT_BYTES];
	pml_size_format(lease->pinned_bytes, pinned);
	printf("%-8llu %-8llu %-5s %-9s %-12llu %-12llu %10s %7llu.%llu\n",
	       (unsigned long long)lease->lease_id, (unsigned long long)lease->ino,
	       mode_name(lease), pml_lease_state_name((enum pml_lease_state)lease->state),
	       (unsigned long long)lease->first_byte, (unsigned long long)lease->end_byte, pinned,
	       (unsigned long long)(lease->age_ms / 1000),
	       (unsigned long long)(lease->age_ms % 1000 / 100));
	printf("         held by ");
	pml_ctl_print_text(lease->peer);
	printf(" (session %llu)\n", (unsigned long long)lease->session);
	if (!lease->has_waiter)
		return;
	printf("         awaited by ");
	pml_ctl_print_text(lease->waiter[0] ? lease->waiter : "?");
	printf(" (pid %d, %s)\n", (int)lease->waiter_pid,
	       pml_layout_op_name((enum pml_layout_op)lease->waiter_op));
}

static void print_lease_json(const struct pml_ioc_lease *lease)
{
	printf("{\"lease\":%llu,\"session\":%llu,\"inode\":%llu,\"first_byte\":%llu,"
	       "\"end_byte\":%llu,\"age_ms\":%llu,\"pinned_bytes\":%llu,\"segments\":%u,"
	       "\"mode\":\"%s\",\"state\":\"%s\",\"holder\":",
	       (unsigned long long)lease->lease_id, (unsigned long long)lease->session,
	       (unsigned long long)lease->ino, (unsigned long long)lease->first_byte,
	       (unsigned long long)lease->end_byte, (unsigned long long)lease->age_ms,
	       (unsigned long long)lease->pinned_bytes, (unsigned int)lease->nsegments,
	       mode_name(lease), pml_lease_state_name((enum pml_lease_state)lease->state));
	pml_ctl_print_json_text(lease->peer);
	printf(",\"waiter\":");
	if (lease->has_waiter) {
		printf("{\"name\":");
		pml_ctl_print_json_text(lease->waiter);
		printf(",\"pid\":%d,\"operation\":\"%s\"}", (int)lease->waiter_pid,
		       pml_layout_op_name((enum pml_layout_op)lease->waiter_op));
	} else {
		printf("null");
	}
	putchar('}');
}

int pml_ctl_leases(const char *mount, int fd, bool is_json)
{
	static struct pml_ioc_leases list = {.version = PML_IOC_VERSION};
	const char *separator = "\n";
	int err = pml_ctl_ask(mount, fd, PML_IOC_LEASES, &list);
	if (!err && is_json)
		printf("[");
	else if (!err)
		printf("%-8s %-8s %-5s %-9s %-12s %-12s %10s %9s\n", "LEASE", "INODE", "MODE",
		       "STATE", "FIRST", "END", "PINNED", "AGE(s)");
	for (; !err && list.count > 0; err = pml_ctl_ask(mount, fd, PML_IOC_LEASES, &list)) {
		for (uint32_t i = 0; i < list.count && i < PML_IOC_LEASES_MAX; i++) {
			if (is_json) {
				printf("%s", separator);
				separator = ",\n";
				print_lease_json(&list.leases[i]);
			} else {
				print_lease(&list.leases[i]);
			}
		}
	}
	if (!err && is_json)
		printf("\n]\n");
	return err;
}

/* ---- pins --------------------------------------------------------------- */

static void print_pin(const struct pml_ioc_pin *pin, bool is_json)
{
	printf(is_json ? "{\"lease\":%llu,\"inode\":%llu,\"first_byte\":%llu,\"block\":%llu,"
			 "\"blocks\":%llu}"
		       : "%-10llu %-10llu %-18llu %-18llu %llu\n",
	       (unsigned long long)pin->lease_id, (unsigned long long)pin->ino,
	       (unsigned long long)pin->first_byte, (unsigned long long)pin->block,
	       (unsigned long long)pin->nblocks);
}

int pml_ctl_pins(const char *mount, int fd, bool is_json)
{
	static struct pml_ioc_pins list = {.version = PML_IOC_VERSION};
	const char *separator = "\n";
	int err = pml_ctl_ask(mount, fd, PML_IOC_PINS, &list);
	if (!err && is_json)
		printf("[");
	else if (!err)
		printf("%-10s %-10s %-18s %-18s %s\n", "LEASE", "INODE", "FIRST BYTE", "BLOCK",
		       "BLOCKS");
	for (; !err && list.count > 0; err = pml_ctl_ask(mount, fd, PML_IOC_PINS, &list)) {
		for (uint32_t i = 0; i < list.count && i < PML_IOC_PINS_MAX; i++) {
			if (is_json)
				printf("%s", separator);
			separator = ",\n";
			print_pin(&list.pins[i], is_json);
		}
	}
	if (!err && is_json)
		printf("\n]\n");
	return err;
}

/* ---- stats -------------------------------------------------------------- */

#define STAT(field, title)                                                                         \
	{                                                                                          \
#field, title, offsetof(struct pml_ioc_stats, field)                               \
	}

static const struct stat_line {
	const char *name;  /* in JSON */
	const char *title; /* in text; NULL heads: @name is the heading of a group */
	size_t offset;
} stat_lines[] = {
	{"DEVICE", NULL, 0},
	STAT(device_bytes, "bytes"),
	STAT(total_blocks, "blocks for data"),
	STAT(free_blocks, "free blocks"),
	STAT(used_blocks, "used blocks"),
	STAT(shared_blocks, "shared blocks"),
	STAT(pinned_blocks, "pinned blocks"),
	STAT(quarantined_blocks, "quarantined blocks"),
	STAT(pins, "pins"),
	STAT(inodes, "inodes"),
	{"NOW", NULL, 0},
	STAT(sessions, "sessions"),
	STAT(leases, "leases"),
	STAT(pinned_bytes, "pinned bytes"),
	STAT(waiters, "waiting operations"),
	{"SINCE THE MOUNT", NULL, 0},
	STAT(granted, "leases granted"),
	STAT(returned, "leases returned"),
	STAT(recalls, "recalls"),
	STAT(revoked, "leases revoked"),
	STAT(expired, "leases expired"),
	STAT(sessions_died, "sessions died"),
	STAT(fences, "fences"),
	STAT(fence_escalations, "fences escalated"),
	STAT(fences_stuck, "fences stuck"),
	STAT(parked, "operations parked"),
	STAT(refused_busy, "refused: busy"),
	STAT(refused_limit, "refused: limit"),
	STAT(interrupted, "interrupted"),
	STAT(aside_blocks, "copied for others"),
	STAT(aside_refused, "others stayed"),
};

static unsigned long long stat_value(const struct pml_ioc_stats *stats, size_t offset)
{
	uint64_t value = 0;
	memcpy(&value, (const char *)stats + offset, sizeof(value));
	return value;
}

static void print_stats(const struct pml_ioc_stats *stats, const char *uuid)
{
	for (size_t i = 0; i < PML_ARRAY_LEN(stat_lines); i++) {
		const struct stat_line *line = &stat_lines[i];
		if (line->title)
			printf("  %-20s %llu\n", line->title, stat_value(stats, line->offset));
		else
			printf("%s\n", line->name);
		if (i > 0)
			continue;
		printf("  %-20s %s, format %u\n", "kind", stats->kind,
		       (unsigned int)stats->format_version);
		printf("  %-20s %s\n", "uuid", uuid);
		printf("  %-20s ", "label");
		pml_ctl_print_text(stats->label[0] ? stats->label : "none");
		printf("\n  %-20s %s\n", "durability", stats->durability);
	}
}

static void print_stats_json(const struct pml_ioc_stats *stats, const char *uuid)
{
	printf("{\"kind\":");
	pml_ctl_print_json_text(stats->kind);
	printf(",\n\"format_version\":%u,\n\"uuid\":\"%s\",\n\"label\":",
	       (unsigned int)stats->format_version, uuid);
	pml_ctl_print_json_text(stats->label);
	printf(",\n\"durability\":");
	pml_ctl_print_json_text(stats->durability);
	printf(",\n\"is_cache_line\":%s", stats->is_cache_line ? "true" : "false");
	for (size_t i = 0; i < PML_ARRAY_LEN(stat_lines); i++)
		if (stat_lines[i].title)
			printf(",\n\"%s\":%llu", stat_lines[i].name,
			       stat_value(stats, stat_lines[i].offset));
	printf("}\n");
}

int pml_ctl_stats(const char *mount, int fd, bool is_json)
{
	struct pml_ioc_stats stats = {.version = PML_IOC_VERSION};
	int err = pml_ctl_ask(mount, fd, PML_IOC_STATS, &stats);
	if (err)
		return err;
	char uuid[PML_UUID_TEXT_BYTES];
	pml_uuid_format(stats.uuid, uuid);
	if (is_json)
		print_stats_json(&stats, uuid);
	else
		print_stats(&stats, uuid);
	return 0;
}

/* ---- audit -------------------------------------------------------------- */

int pml_ctl_audit(const char *mount, int fd, bool is_json)
{
	struct pml_ioc_audit audit = {.version = PML_IOC_VERSION};
	int err = pml_ctl_ask(mount, fd, PML_IOC_AUDIT, &audit);
	if (err)
		return err;
	if (is_json) {
		printf("{\"consistent\":%s,\"status\":%d,\"reason\":",
		       audit.status == 0 ? "true" : "false", (int)audit.status);
		pml_ctl_print_json_text(audit.reason);
		printf("}\n");
	} else if (audit.status == 0) {
		printf("consistent\n");
	} else {
		printf("%s: ", audit.status == -EUCLEAN ? "inconsistent" : "not audited");
		pml_ctl_print_text(audit.reason[0] ? audit.reason : strerror(-audit.status));
		printf("\n");
	}
	return audit.status;
}
