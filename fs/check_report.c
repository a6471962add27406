/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * check_report.c -- findings: what is said, asked and counted
 *
 * What was left is said once, however many rounds see it again: hashes of the lines
 * are kept.  Of each kind only so many lines are said, so that output and memory stay
 * bounded on a device that is all errors.
 */
#include "check.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "tx.h"

/* Lines of one kind; more are counted only. */
#define LINES_MAX 1000u

enum { NEVER = 0, SAFE = 1, FULL = 2, WHOLE = 4, VITAL = 8, AGAIN = 16 };

static const struct {
	const char *name;
	unsigned int when;
	const char *action;
} codes[] = {
#define PML_CHECK_CODE(id, name, when, action) {name, when, action},
	PML_CHECK_CODES(PML_CHECK_CODE)
#undef PML_CHECK_CODE
};

/* FNV-1a, never 0. */
static uint64_t hash_of(const char *text)
{
	uint64_t hash = 0xcbf29ce484222325ull;
	for (; *text; text++)
		hash = (hash ^ (uint8_t)*text) * 0x100000001b3ull;
	return hash ? hash : 1;
}

static uint64_t *place_of(uint64_t *table, size_t capacity, uint64_t hash)
{
	size_t i = hash & (capacity - 1);
	while (table[i] && table[i] != hash)
		i = (i + 1) & (capacity - 1);
	return &table[i];
}

static bool was_left(const struct pml_check *c, uint64_t hash)
{
	return c->left_capacity && *place_of(c->left, c->left_capacity, hash) == hash;
}

static void remember_left(struct pml_check *c, uint64_t hash)
{
	if (2 * c->nleft_hashes >= c->left_capacity) {
		size_t capacity = c->left_capacity ? 2 * c->left_capacity : 64;
		uint64_t *grown = calloc(capacity, sizeof(grown[0]));
		if (!grown)
			return; /* only said once more */
		for (size_t i = 0; i < c->left_capacity; i++)
			if (c->left[i])
				*place_of(grown, capacity, c->left[i]) = c->left[i];
		free(c->left);
		c->left = grown;
		c->left_capacity = capacity;
	}
	*place_of(c->left, c->left_capacity, hash) = hash;
	c->nleft_hashes++;
}

static void say(struct pml_check *c, enum pml_check_outcome outcome, const char *action)
{
	const struct pml_check_finding finding = {
		.name = codes[c->code].name,
		.text = c->text,
		.outcome = outcome,
		.action = action,
	};
	if (c->options->report)
		c->options->report(c->options->arg, &finding);
}

/* Says a finding unless there were too many of its kind. */
static void say_bounded(struct pml_check *c, enum pml_check_outcome outcome, const char *action)
{
	uint32_t n = c->nsaid[c->code]++;
	if (n == LINES_MAX)
		(void)snprintf(c->text, sizeof(c->text), "more of the kind \"%s\" are not listed",
			       codes[c->code].name);
	if (n <= LINES_MAX)
		say(c, outcome, action);
	if (n > LINES_MAX)
		c->nsaid[c->code] = LINES_MAX + 1;
}

static bool is_wanted(const struct pml_check *c, enum pml_check_code code)
{
	unsigned int when = codes[code].when;
	if (c->is_held || c->has_failed || (when & (SAFE | FULL)) == 0 ||
	    ((when & WHOLE) && c->is_partial))
		return false;
	switch (c->options->mode) {
	case PML_CHECK_NOTHING:
		return false;
	case PML_CHECK_SAFE:
		return when & SAFE;
	case PML_CHECK_ALL:
		return true;
	case PML_CHECK_ASK:
		return c->options->ask(c->options->arg, c->text, codes[code].action);
	}
	return false;
}

bool pml_check_found(struct pml_check *c, enum pml_check_code code, const char *format, ...)
{
	va_list args;
	va_start(args, format);
	(void)vsnprintf(c->text, sizeof(c->text), format, args);
	va_end(args);
	c->code = code;

	uint64_t hash = hash_of(c->text);
	if (!was_left(c, hash)) {
		if (is_wanted(c, code))
			return true;
		say_bounded(c, PML_CHECK_LEFT, codes[code].action);
		if (c->nsaid[code] <= LINES_MAX)
			remember_left(c, hash);
	}
	c->nleft++;
	c->is_partial = c->is_partial || (codes[code].when & VITAL);
	return false;
}

void pml_check_done(struct pml_check *c, int err)
{
	if (!err) {
		c->nrepaired++;
		c->must_restart = c->must_restart || (codes[c->code].when & AGAIN);
		say_bounded(c, PML_CHECK_REPAIRED, codes[c->code].action);
		return;
	}
	c->nleft++;
	c->is_partial = c->is_partial || (codes[c->code].when & VITAL);
	remember_left(c, hash_of(c->text));
	say_bounded(c, PML_CHECK_FAILED, strerror(-err));
}

void pml_check_note(struct pml_check *c, const char *format, ...)
{
	if (!c->has_notes)
		return;
	va_list args;
	va_start(args, format);
	(void)vsnprintf(c->text, sizeof(c->text), format, args);
	va_end(args);
	const struct pml_check_finding finding = {
		.name = "note", .text = c->text, .outcome = PML_CHECK_NOTE, .action = ""};
	if (c->options->report)
		c->options->report(c->options->arg, &finding);
}

bool pml_check_is_over(struct pml_check *c)
{
	if (!c->err && c->options->is_cancelled && c->options->is_cancelled(c->options->arg))
		c->err = -ECANCELED;
	return c->err != 0;
}

int pml_check_store(struct pml_check *c, void *to, const void *from, size_t bytes)
{
	struct pml_tx tx;
	int err = pml_tx_begin(c->fs, &tx);
	if (err)
		return err;
	err = pml_tx_add(to, bytes);
	if (!err)
		memcpy(to, from, bytes);
	return pml_tx_end(&tx, err);
}
