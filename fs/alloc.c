/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * alloc.c -- which blocks of the allocation groups are free
 *
 * Each group has a bitmap in DRAM, a set bit being a block in use.  A search
 * goes through whole words, begins behind the last one's place (next fit), and
 * wants runs of 2 MiB and more aligned, so that they can be mapped by huge
 * pages; it stops early when it has seen enough runs that are too short.
 *
 * Who writes a file in order holds a window of whole units, which others leave
 * alone while there is anything else: so files that are written side by side stay
 * contiguous, and large ones lie aligned.  A window grows with the file.  Holding
 * takes nothing: held blocks are free, and all are let go before ENOSPC.
 *
 * Where a group ends the next need not begin; carve.c makes groups.
 *
 * Threads: all under one mutex, but for looking up a block's group (the table
 * by 2 MiB unit, published by a release store) and reading single bits.
 */
#include <string.h>

#include "alloc.h"
#include "carve.h"
#include "counter.h"
#include "pin.h"
#include "pml/clock.h"

#define WORD_BLOCKS 64u
#define UNIT_BLOCKS 512u /* 2 MiB */
#define UNIT_WORDS  (UNIT_BLOCKS / WORD_BLOCKS)

/* Runs that are too short, after which a search takes the longest of them. */
#define SHORT_RUNS_MAX 1024u
/* Rather than take a run shorter than this (and than wanted), carve a new group: 128 MiB. */
#define GOOD_RUN_BLOCKS 32768u
/* Files that hold a window at a time; the one that wrote longest ago loses its own. */
#define WINDOWS_MAX 64u
/* A file gets a window from this block on if it is written in order, ... */
#define WINDOW_FILE_BLOCKS 64u
/* ... or at once when so much is written at a time. */
#define WINDOW_WANT_BLOCKS 256u
#define WINDOW_UNITS_MAX   64u
/* After carving has failed, nothing is tried for so long. */
#define CARVE_RETRY_MS 1000u

struct group {
	uint64_t first; /* block */
	uint64_t nblocks;
	uint64_t nfree;	    /* under lock */
	uint64_t hint;	    /* index at which the next search begins; under lock */
	uint64_t unit_hint; /* the same for searches of whole units */
	uint64_t longest;   /* no free run is longer than this; under lock */
	bool has_units;	    /* false: no whole unit is free; under lock */
	_Atomic uint64_t
		*used; /* bitmap by index; written under lock; bits behind the end are set */
	bool *is_held; /* by unit: in somebody's window; under lock */
};

/* What one file holds, and how it is written. */
struct window {
	uint64_t ino;	       /* 0: none */
	uint64_t next_in_file; /* file block behind the last one that was given to it */
	uint64_t used_at;      /* pml_alloc.clock */
	struct group *group;   /* of what it holds */
	uint64_t first;	       /* index in it; held are all units that [first, end) reaches into */
	uint64_t end;	       /* at the end of a unit; first: nothing */
};

struct pml_alloc {
	pthread_mutex_t lock;
	struct group group[PML_GROUPS_MAX];
	unsigned int ngroups;		   /* under lock */
	unsigned int current;		   /* group that the last search ended in; under lock */
	bool is_carved_out;		   /* the last carving failed; under lock */
	uint64_t carved_out_ms;		   /* when; under lock */
	struct window window[WINDOWS_MAX]; /* under lock */
	uint64_t clock;			   /* counts allocations; under lock */
	_Atomic uint64_t free_blocks;
	_Atomic uint64_t carved_blocks;
	uint64_t nunits;	     /* length of the table below */
	_Atomic uint16_t group_of[]; /* by unit of the device: number of its group + 1, or 0 */
};

/* A run of free blocks in a group. */
struct run {
	struct group *group;
	uint64_t i;
	uint64_t n; /* 0: none */
};

/* ---- bitmaps ------------------------------------------------------------- */

static inline uint64_t load_word(const struct group *g, uint64_t word)
{
	return atomic_load_explicit(&g->used[word], memory_order_relaxed);
}

/* As a search sees it: what is held counts as used. */
static inline uint64_t search_word(const struct group *g, uint64_t word)
{
	return g->is_held[word / UNIT_WORDS] ? UINT64_MAX : load_word(g, word);
}

/* Bits of @word that [i, end) covers, which is not empty there. */
static inline uint64_t word_mask(uint64_t word, uint64_t i, uint64_t end)
{
	uint64_t lo = word * WORD_BLOCKS;
	uint64_t mask = UINT64_MAX;
	if (i > lo)
		mask &= UINT64_MAX << (i - lo);
	if (end < lo + WORD_BLOCKS)
		mask &= UINT64_MAX >> (lo + WORD_BLOCKS - end);
	return mask;
}

/* Sets or clears [i, i + n) and returns how many bits were different. */
static uint64_t write_bits(struct group *g, uint64_t i, uint64_t n, bool used)
{
	uint64_t changed = 0;
	for (uint64_t word = i / WORD_BLOCKS; word * WORD_BLOCKS < i + n; word++) {
		uint64_t mask = word_mask(word, i, i + n);
		uint64_t old = load_word(g, word);
		uint64_t new = used ? old | mask : old & ~mask;
		changed += (uint64_t)__builtin_popcountll(old ^ new);
		atomic_store_explicit(&g->used[word], new, memory_order_relaxed);
	}
	return changed;
}

/* First free index at or behind @i, or g->nblocks. */
static uint64_t next_free(const struct group *g, uint64_t i)
{
	for (; i < g->nblocks; i = (i / WORD_BLOCKS + 1) * WORD_BLOCKS) {
		uint64_t clear = ~search_word(g, i / WORD_BLOCKS) & (UINT64_MAX << i % WORD_BLOCKS);
		if (clear)
			return i - i % WORD_BLOCKS + (uint64_t)__builtin_ctzll(clear);
	}
	return g->nblocks;
}

/* Number of free blocks from @i on, at most @max; those that are held only for the holder. */
static uint64_t run_length(const struct group *g, uint64_t i, uint64_t max, bool is_holder)
{
	uint64_t end = i + PML_MIN(max, g->nblocks - i);
	for (uint64_t at = i; at < end; at = (at / WORD_BLOCKS + 1) * WORD_BLOCKS) {
		uint64_t word = at / WORD_BLOCKS;
		uint64_t set = is_holder ? load_word(g, word) : search_word(g, word);
		set &= UINT64_MAX << at % WORD_BLOCKS;
		if (set) {
			at += (uint64_t)__builtin_ctzll(set) - at % WORD_BLOCKS;
			return PML_MIN(at, end) - i;
		}
	}
	return end - i;
}

/* Is the unit at this index of units free as a whole? */
static bool is_unit_free(const struct group *g, uint64_t unit)
{
	for (uint64_t word = 0; word < UNIT_WORDS; word++)
		if (search_word(g, unit * UNIT_WORDS + word))
			return false;
	return true;
}

/* ---- groups -------------------------------------------------------------- */

static struct group *group_of_block(const struct pml_alloc *alloc, uint64_t block)
{
	uint64_t unit = block / UNIT_BLOCKS;
	if (unit >= alloc->nunits)
		return NULL;
	unsigned int number = atomic_load_explicit(&alloc->group_of[unit], memory_order_acquire);
	if (!number)
		return NULL;
	/* The const is that of the table, not of the group, which its lock protects. */
	struct group *g = (struct group *)(uintptr_t)&alloc->group[number - 1];
	return block - g->first < g->nblocks ? g : NULL;
}

/* The group that holds all of [first, first + n), or NULL. */
static struct group *group_of_run(const struct pml_alloc *alloc, uint64_t first, uint64_t n)
{
	struct group *g = group_of_block(alloc, first);
	if (!g || n < 1 || n > g->nblocks - (first - g->first))
		return NULL;
	return g;
}

/* Takes a carved group into service, all free. */
static int add_group_locked(struct pml_alloc *alloc, const struct pml_media_group *media)
{
	if (alloc->ngroups == PML_GROUPS_MAX)
		return -ENOSPC;
	uint64_t nwords = pml_round_up(media->nblocks, UNIT_BLOCKS) / WORD_BLOCKS;
	_Atomic uint64_t *used = calloc(nwords, sizeof(*used));
	bool *is_held = calloc(nwords / UNIT_WORDS, sizeof(*is_held));
	if (!used || !is_held) {
		free(used);
		free(is_held);
		return -ENOMEM;
	}

	struct group *g = &alloc->group[alloc->ngroups++];
	*g = (struct group){
		.first = media->first_block,
		.nblocks = media->nblocks,
		.nfree = media->nblocks,
		.longest = media->nblocks,
		.has_units = true,
		.used = used,
		.is_held = is_held,
	};
	write_bits(g, g->nblocks, nwords * WORD_BLOCKS - g->nblocks, true);
	for (uint64_t block = g->first; block < g->first + g->nblocks; block += UNIT_BLOCKS)
		atomic_store_explicit(&alloc->group_of[block / UNIT_BLOCKS],
				      (uint16_t)alloc->ngroups, memory_order_release);
	atomic_fetch_add(&alloc->free_blocks, g->nblocks);
	atomic_fetch_add(&alloc->carved_blocks, g->nblocks);
	return 0;
}

int pml_alloc_open(struct pml_fs *fs)
{
	uint64_t nunits = fs->nblocks / UNIT_BLOCKS + 1;
	struct pml_alloc *alloc = calloc(1, sizeof(*alloc) + nunits * sizeof(alloc->group_of[0]));
	if (!alloc)
		return -ENOMEM;
	alloc->nunits = nunits;
	pthread_mutex_init(&alloc->lock, NULL);
	fs->alloc = alloc;

	for (uint32_t i = 0; i < fs->super->ngroups; i++) {
		int err = add_group_locked(alloc, &fs->super->groups[i]);
		if (err) {
			pml_alloc_close(fs);
			return err;
		}
	}
	return 0;
}

void pml_alloc_close(struct pml_fs *fs)
{
	struct pml_alloc *alloc = fs->alloc;
	if (!alloc)
		return;
	for (unsigned int i = 0; i < alloc->ngroups; i++) {
		free(alloc->group[i].used);
		free(alloc->group[i].is_held);
	}
	pthread_mutex_destroy(&alloc->lock);
	free(alloc);
	fs->alloc = NULL;
}

bool pml_alloc_has(const struct pml_fs *fs, uint64_t first, uint64_t n)
{
	return group_of_run(fs->alloc, first, n) != NULL;
}

/* ---- searching ----------------------------------------------------------- */

static inline void keep_longer(struct run *best, struct group *g, uint64_t i, uint64_t n)
{
	if (n > best->n)
		*best = (struct run){g, i, n};
}

/*
 * Looks in [i, end) of a group for a run of @want and returns true, or keeps the longest.
 * Runs may reach beyond @end.  *left: runs that may still be looked at.
 */
static bool find_run(struct group *g, uint64_t i, uint64_t end, uint64_t want, unsigned int *left,
		     struct run *best)
{
	while (*left > 0) {
		i = next_free(g, i);
		if (i >= end)
			return false;
		uint64_t n = run_length(g, i, want, false);
		keep_longer(best, g, i, n);
		if (n == want)
			return true;
		i += n;
		(*left)--;
	}
	return false;
}

/* The same for runs that begin at a unit; nothing is shorter than one. */
static bool find_units(struct group *g, uint64_t unit, uint64_t end, uint64_t want,
		       struct run *best)
{
	while (unit < end) {
		if (!is_unit_free(g, unit)) {
			unit++;
			continue;
		}
		uint64_t n = run_length(g, unit * UNIT_BLOCKS, want, false);
		keep_longer(best, g, unit * UNIT_BLOCKS, n);
		if (n == want)
			return true;
		unit += n / UNIT_BLOCKS;
	}
	return false;
}

/* Looks through one group, from its hint around to its hint. */
static bool search_group(struct group *g, uint64_t want, bool is_aligned, struct run *best)
{
	uint64_t least = is_aligned ? PML_MAX(best->n + 1, (uint64_t)UNIT_BLOCKS) : best->n + 1;
	if (g->nfree < least || g->longest < least || (is_aligned && !g->has_units))
		return false;
	if (is_aligned) {
		uint64_t end = g->nblocks / UNIT_BLOCKS;
		struct run mine = {NULL, 0, 0};
		bool found = find_units(g, g->unit_hint, end, want, &mine) ||
			     find_units(g, 0, g->unit_hint, want, &mine);
		g->has_units = mine.n > 0;
		keep_longer(best, mine.group, mine.i, mine.n);
		return found;
	}

	unsigned int left = SHORT_RUNS_MAX;
	struct run mine = {NULL, 0, 0};
	bool found = find_run(g, g->hint, g->nblocks, want, &left, &mine) ||
		     find_run(g, 0, g->hint, want, &left, &mine);
	if (!found && left > 0)
		g->longest = mine.n;
	keep_longer(best, mine.group, mine.i, mine.n);
	return found;
}

/* The best run in all groups, beginning with the one of the last search. */
static struct run search_locked(struct pml_alloc *alloc, uint64_t want, bool is_aligned)
{
	struct run best = {NULL, 0, 0};
	for (unsigned int k = 0; k < alloc->ngroups; k++) {
		unsigned int number = (alloc->current + k) % alloc->ngroups;
		if (search_group(&alloc->group[number], want, is_aligned, &best))
			break;
	}
	return best;
}

/* What is free right at the goal. */
static struct run at_goal_locked(struct pml_alloc *alloc, uint64_t want, uint64_t goal)
{
	struct group *g = goal ? group_of_block(alloc, goal) : NULL;
	if (!g)
		return (struct run){NULL, 0, 0};
	return (struct run){g, goal - g->first, run_length(g, goal - g->first, want, false)};
}

/* Makes one more group; false: none can be made. */
static bool carve_locked(struct pml_fs *fs)
{
	struct pml_alloc *alloc = fs->alloc;
	if (fs->is_read_only || alloc->ngroups == PML_GROUPS_MAX)
		return false;
	if (alloc->is_carved_out && pml_now_ms() - alloc->carved_out_ms < CARVE_RETRY_MS)
		return false;

	struct pml_media_group media;
	int err = pml_carve_group(fs, &media);
	if (!err)
		err = add_group_locked(alloc, &media);
	if (err) {
		alloc->is_carved_out = true;
		alloc->carved_out_ms = pml_now_ms();
		pml_carve_set_payload(fs, atomic_load(&alloc->carved_blocks));
		return false;
	}
	alloc->is_carved_out = false;
	if (atomic_load(&alloc->carved_blocks) > pml_carve_payload(fs))
		pml_carve_set_payload(fs, atomic_load(&alloc->carved_blocks));
	alloc->current = alloc->ngroups - 1;
	return true;
}

/* Anywhere.  What is held by others is left alone. */
static struct run find_locked(struct pml_fs *fs, uint64_t want)
{
	struct pml_alloc *alloc = fs->alloc;
	bool is_aligned = want >= UNIT_BLOCKS;
	uint64_t enough = PML_MIN(want, (uint64_t)GOOD_RUN_BLOCKS);
	struct run best = search_locked(alloc, want, is_aligned);
	if (best.n < enough && carve_locked(fs))
		best = search_locked(alloc, want, is_aligned);
	if (best.n == 0 && is_aligned)
		best = search_locked(alloc, want, false);
	return best;
}

/* ---- windows ------------------------------------------------------------- */

static void let_go(struct window *w)
{
	if (w->first < w->end) {
		for (uint64_t unit = w->first / UNIT_BLOCKS; unit < w->end / UNIT_BLOCKS; unit++)
			w->group->is_held[unit] = false;
		w->group->longest = w->group->nblocks; /* unknown */
		w->group->has_units = true;
	}
	w->first = w->end = 0;
}

/* False: nobody held anything. */
static bool let_all_go_locked(struct pml_alloc *alloc)
{
	bool had_any = false;
	for (unsigned int i = 0; i < WINDOWS_MAX; i++) {
		had_any = had_any || alloc->window[i].first < alloc->window[i].end;
		let_go(&alloc->window[i]);
	}
	return had_any;
}

/* The file's window, or a new one in place of the oldest. */
static struct window *window_of_locked(struct pml_alloc *alloc, uint64_t ino)
{
	struct window *oldest = &alloc->window[0];
	for (unsigned int i = 0; i < WINDOWS_MAX; i++) {
		struct window *w = &alloc->window[i];
		if (w->ino == ino)
			return w;
		if (w->used_at < oldest->used_at)
			oldest = w;
	}
	let_go(oldest);
	*oldest = (struct window){.ino = ino, .next_in_file = UINT64_MAX};
	return oldest;
}

/* Lets the window hold what begins at @run, up to the end of its last whole unit. */
static bool hold(struct window *w, const struct run *run)
{
	uint64_t end = pml_round_down(run->i + run->n, (uint64_t)UNIT_BLOCKS);
	if (run->n == 0 || end <= run->i)
		return false;
	let_go(w);
	w->group = run->group;
	w->first = run->i;
	w->end = end;
	for (uint64_t unit = w->first / UNIT_BLOCKS; unit < w->end / UNIT_BLOCKS; unit++)
		w->group->is_held[unit] = true;
	return true;
}

/* A new window for a file that is written in order: right behind what it has, or elsewhere. */
static bool move_window_locked(struct pml_fs *fs, struct window *w,
			       const struct pml_alloc_wish *wish)
{
	struct pml_alloc *alloc = fs->alloc;
	/* As much again as it has. */
	uint64_t nunits = PML_MAX(wish->file_block / UNIT_BLOCKS, 1u);
	uint64_t want = PML_MIN(nunits, (uint64_t)WINDOW_UNITS_MAX) * UNIT_BLOCKS;
	/* The beginning of a file may lie anywhere; from then on alignment is kept. */
	if (wish->file_block >= UNIT_BLOCKS) {
		struct run next = at_goal_locked(alloc, want + UNIT_BLOCKS, wish->goal);
		if (hold(w, &next))
			return true;
	}
	struct run units = search_locked(alloc, want, true);
	if (units.n == 0 && carve_locked(fs))
		units = search_locked(alloc, want, true);
	return hold(w, &units);
}

/* What is free at the goal, or at the beginning of a new window. */
static struct run find_in_window_locked(struct pml_fs *fs, struct window *w,
					const struct pml_alloc_wish *wish)
{
	bool is_in_order = w->next_in_file == wish->file_block || wish->want >= WINDOW_WANT_BLOCKS;
	bool is_large = wish->file_block >= WINDOW_FILE_BLOCKS || wish->want >= WINDOW_WANT_BLOCKS;
	uint64_t goal_i = w->first < w->end ? wish->goal - w->group->first : 0;
	bool is_inside = w->first < w->end && goal_i >= w->first && goal_i < w->end;

	if (!is_inside && is_in_order && is_large && move_window_locked(fs, w, wish)) {
		goal_i = w->first;
		is_inside = true;
	}
	if (!is_inside)
		return at_goal_locked(fs->alloc, wish->want, wish->goal);
	uint64_t n = run_length(w->group, goal_i, PML_MIN(wish->want, w->end - goal_i), true);
	return (struct run){w->group, goal_i, n};
}

static struct run find_wish_locked(struct pml_fs *fs, const struct pml_alloc_wish *wish)
{
	struct pml_alloc *alloc = fs->alloc;
	struct run run = {NULL, 0, 0};
	/* The first blocks of a file say nothing yet of what it will be. */
	bool is_small = wish->file_block + wish->want < WINDOW_FILE_BLOCKS / 4;
	if (wish->ino && !is_small && wish->want < UNIT_BLOCKS) {
		struct window *w = window_of_locked(alloc, wish->ino);
		run = find_in_window_locked(fs, w, wish);
		if (!run.n)
			run = find_locked(fs, wish->want);
		w->next_in_file = wish->file_block + run.n;
		w->used_at = ++alloc->clock;
	} else {
		run = at_goal_locked(alloc, wish->want, wish->goal);
		if (!run.n)
			run = find_locked(fs, wish->want);
	}
	if (!run.n && let_all_go_locked(alloc))
		run = find_locked(fs, wish->want);
	return run;
}

static void take_run_locked(struct pml_alloc *alloc, const struct run *run)
{
	struct group *g = run->group;
	uint64_t changed = write_bits(g, run->i, run->n, true);
	assert(changed == run->n);
	g->nfree -= run->n;
	if (run->n >= UNIT_BLOCKS)
		g->unit_hint = (run->i + run->n) / UNIT_BLOCKS;
	else
		g->hint = run->i + run->n;
	alloc->current = (unsigned int)(g - alloc->group);
	atomic_fetch_sub(&alloc->free_blocks, run->n);
}

int pml_alloc_take_for(struct pml_fs *fs, const struct pml_alloc_wish *wish, uint64_t *ret_first,
		       uint64_t *ret_n)
{
	struct pml_alloc *alloc = fs->alloc;
	assert(wish->want >= 1);

	pthread_mutex_lock(&alloc->lock);
	struct run run = find_wish_locked(fs, wish);
	if (run.n)
		take_run_locked(alloc, &run);
	pthread_mutex_unlock(&alloc->lock);
	if (!run.n)
		return -ENOSPC;

	uint64_t first = run.group->first + run.i;
	pml_counter_take(&fs->counters[first], run.n);
	*ret_first = first;
	*ret_n = run.n;
	return 0;
}

int pml_alloc_take(struct pml_fs *fs, uint64_t want, uint64_t goal, uint64_t *ret_first,
		   uint64_t *ret_n)
{
	const struct pml_alloc_wish wish = {.want = want, .goal = goal};
	return pml_alloc_take_for(fs, &wish, ret_first, ret_n);
}

/* ---- marking and freeing ------------------------------------------------- */

int pml_alloc_mark_used(struct pml_fs *fs, uint64_t first, uint64_t n)
{
	struct pml_alloc *alloc = fs->alloc;
	struct group *g = group_of_run(alloc, first, n);
	if (!g)
		return pml_corrupt(fs, "an extent lies outside the allocation groups", first);
	pthread_mutex_lock(&alloc->lock);
	uint64_t changed = write_bits(g, first - g->first, n, true);
	g->nfree -= changed;
	pthread_mutex_unlock(&alloc->lock);
	atomic_fetch_sub(&alloc->free_blocks, changed);
	return 0;
}

/* What a batch of counters that reaches 0 needs to know. */
struct release {
	struct pml_fs *fs;
	uint64_t first;
};

/* The counters of these blocks have reached 0: nobody can reach the blocks any more (I1). */
static void free_run(void *arg, uint64_t i, uint64_t n)
{
	const struct release *release = arg;
	struct pml_alloc *alloc = release->fs->alloc;
	uint64_t first = release->first + i;
	struct group *g = group_of_run(alloc, first, n);
	assert(g);

	if (release->fs->poison_freed)
		memset(pml_block_addr(release->fs, first), 0xdb, n << PML_BLOCK_SHIFT);
	pthread_mutex_lock(&alloc->lock);
	uint64_t changed = write_bits(g, first - g->first, n, false);
	assert(changed == n);
	g->nfree += n;
	g->longest = g->nblocks; /* unknown: it may have joined others */
	g->has_units = true;
	pthread_mutex_unlock(&alloc->lock);
	atomic_fetch_add(&alloc->free_blocks, n);
}

void pml_alloc_unshare(struct pml_fs *fs, uint64_t first, uint64_t n)
{
	struct release release = {fs, first};
	pml_counter_unshare(&fs->counters[first], n, free_run, &release);
}

void pml_alloc_unpin(struct pml_fs *fs, uint64_t first, uint64_t n)
{
	struct release release = {fs, first};
	pml_counter_unpin(&fs->counters[first], n, free_run, &release);
}

/* ---- numbers ------------------------------------------------------------- */

uint64_t pml_alloc_free_blocks(const struct pml_fs *fs)
{
	return atomic_load(&fs->alloc->free_blocks);
}

uint64_t pml_alloc_carved_blocks(const struct pml_fs *fs)
{
	return atomic_load(&fs->alloc->carved_blocks);
}

uint64_t pml_alloc_uncarved_blocks(const struct pml_fs *fs)
{
	uint64_t payload = pml_carve_payload(fs);
	uint64_t carved = pml_alloc_carved_blocks(fs);
	return payload > carved ? payload - carved : 0;
}

bool pml_alloc_is_used(const struct pml_fs *fs, uint64_t block)
{
	const struct group *g = group_of_block(fs->alloc, block);
	if (!g)
		return false;
	uint64_t i = block - g->first;
	return load_word(g, i / WORD_BLOCKS) >> i % WORD_BLOCKS & 1;
}

static void count_group(const struct pml_fs *fs, const struct group *g, uint64_t *used,
			uint64_t *shared)
{
	for (uint64_t i = 0; i < g->nblocks; i += WORD_BLOCKS) {
		uint64_t set = load_word(g, i / WORD_BLOCKS);
		for (; set; set &= set - 1) {
			uint64_t k = i + (uint64_t)__builtin_ctzll(set);
			if (k >= g->nblocks)
				break;
			uint32_t shares = pml_block_shares(fs, g->first + k);
			*used += shares >= 1;
			*shared += shares >= 2;
		}
	}
}

void pml_alloc_count_shares(const struct pml_fs *fs, uint64_t *ret_used, uint64_t *ret_shared)
{
	struct pml_alloc *alloc = fs->alloc;
	pthread_mutex_lock(&alloc->lock);
	unsigned int ngroups = alloc->ngroups; /* groups stay */
	pthread_mutex_unlock(&alloc->lock);

	uint64_t used = 0;
	uint64_t shared = 0;
	for (unsigned int i = 0; i < ngroups; i++)
		count_group(fs, &alloc->group[i], &used, &shared);
	*ret_used = used;
	*ret_shared = shared;
}

void pml_alloc_stop(struct pml_fs *fs)
{
	if (fs->alloc) /* not in mkfs */
		pthread_mutex_lock(&fs->alloc->lock);
}

void pml_alloc_go_on(struct pml_fs *fs)
{
	if (fs->alloc)
		pthread_mutex_unlock(&fs->alloc->lock);
}
