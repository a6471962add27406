/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * aside.c -- the other sharers of a block step aside, so that a lease need not end
 *
 * Run by run of blocks that are shared, pinned and mapped by the same files.  What the hints
 * say is taken down with the file's lock held; then that is dropped, all files are locked by
 * number, and everything is looked at again.  With all sharers locked nothing of it changes:
 *
 *	copy, settle, drain -> shares of the copy -> one transaction remaps all others (I8)
 *	-> drop their shares of the old block
 *
 * None of the others is leased there, so the pins are of this file's leases: their holders go
 * on reading what the file reads (I4).
 */
#include "aside.h"

#include "alloc.h"
#include "counter.h"
#include "pin.h"
#include "rewrite.h"
#include "sharers.h"
#include "tx.h"

#define OTHERS_MAX 8u
static_assert(OTHERS_MAX + 1 == PML_SHARERS_MAX, "more are not known");
/* How often a run is looked at anew because its sharers have changed between two locks. */
#define TRIES_MAX 4u

struct other {
	struct pml_inode *inode; /* a reference */
	uint64_t file_block;
};

/* A run of blocks whose other sharers are to step aside. */
struct aside {
	struct pml_inode *inode;
	uint64_t file_block;
	uint64_t block;
	uint64_t nblocks;
	uint64_t limit; /* of nblocks */
	struct other other[OTHERS_MAX];
	size_t n;
	struct pml_inode *ref[OTHERS_MAX]; /* of all that were looked at */
	size_t nrefs;
	uint64_t fresh; /* the copy */
};

enum outcome {
	ASIDE_DONE,    /* or nothing was to be done; go on behind the run */
	ASIDE_END,     /* nothing is left */
	ASIDE_CHANGED, /* look again */
	ASIDE_UNKNOWN, /* nobody has asked before for who shares what */
	ASIDE_LEASED,  /* another sharer is leased somewhere in the run */
	ASIDE_REFUSED,
};

/* ---- what is to be done ------------------------------------------------- */

static bool is_shared_and_pinned(const struct pml_fs *fs, uint64_t block)
{
	uint32_t counter = atomic_load_explicit(&fs->counters[block], memory_order_acquire);
	if (counter < PML_PIN_BIAS)
		return false;
	uint32_t shares = pml_block_shares(fs, block);
	return shares > 1 && counter > shares;
}

/* The first such run at or behind @pos.  False: there is none. */
static bool find_run(struct aside *a, uint64_t pos, uint64_t end)
{
	const struct pml_fs *fs = a->inode->fs;
	while (pos < end) {
		struct pml_extent e;
		if (pml_extent_at(fs, a->inode->media, pos, end, &e))
			return false;
		uint64_t i = 0, n = 0;
		if (e.block && !e.is_unwritten) {
			while (i < e.nblocks && !is_shared_and_pinned(fs, e.block + i))
				i++;
			while (i + n < e.nblocks && n < a->limit &&
			       is_shared_and_pinned(fs, e.block + i + n))
				n++;
		}
		if (n > 0) {
			a->file_block = e.file_block + i;
			a->block = e.block + i;
			a->nblocks = n;
			return true;
		}
		pos = e.file_block + e.nblocks;
	}
	return false;
}

static bool is_leased(struct pml_inode *inode, uint64_t file_block, uint64_t nblocks)
{
	return pml_guard_probe(inode, PML_OP_UNSHARE, file_block << PML_BLOCK_SHIFT,
			       (file_block + nblocks) << PML_BLOCK_SHIFT) != 0;
}

/* References to those that share the run's first block, and as many of the next ones. */
static enum outcome get_others(struct aside *a)
{
	struct pml_fs *fs = a->inode->fs;
	struct pml_sharer sharer[PML_SHARERS_MAX];
	size_t n = pml_sharers_at(fs, a->block, &a->nblocks, sharer, PML_SHARERS_MAX);
	if (n > PML_SHARERS_MAX)
		return ASIDE_REFUSED;
	for (size_t i = 0; i < n; i++) {
		struct pml_inode *inode;
		if (sharer[i].ino == a->inode->ino && sharer[i].file_block == a->file_block)
			continue;
		/* Another mapping by the file itself, under the same lease perhaps. */
		if (sharer[i].ino == a->inode->ino || a->n == OTHERS_MAX)
			return ASIDE_REFUSED;
		int err = pml_inode_get(fs, sharer[i].ino, &inode);
		if (err == -ENOENT)
			continue;
		if (err)
			return ASIDE_REFUSED;
		a->ref[a->nrefs++] = inode;
		a->other[a->n++] = (struct other){inode, sharer[i].file_block};
	}
	/* One that is missing may be on its way in, by a clone that holds one of these locks. */
	return a->n == 0 && pml_block_shares(fs, a->block) > 1 ? ASIDE_REFUSED : ASIDE_DONE;
}

/* Sets *pos to the run that it found. */
static enum outcome plan(struct aside *a, uint64_t *pos, uint64_t end)
{
	enum outcome outcome = ASIDE_DONE;
	pthread_rwlock_wrlock(&a->inode->lock);
	if (!find_run(a, *pos, end)) {
		outcome = ASIDE_END;
	} else {
		*pos = a->file_block;
		if (is_leased(a->inode, a->file_block, a->nblocks))
			outcome =
				pml_sharers_are_known(a->inode->fs) ? get_others(a) : ASIDE_UNKNOWN;
	}
	pthread_rwlock_unlock(&a->inode->lock);
	return outcome;
}

/* ---- all locks ---------------------------------------------------------- */

/* The files in question by number, each once; returns how many. */
static size_t in_order(const struct aside *a, struct pml_inode **ret_inodes)
{
	size_t n = 0;
	for (size_t i = 0; i <= a->n; i++) {
		struct pml_inode *inode = i < a->n ? a->other[i].inode : a->inode;
		size_t at = 0;
		while (at < n && ret_inodes[at]->ino < inode->ino)
			at++;
		if (at < n && ret_inodes[at] == inode)
			continue;
		for (size_t k = n++; k > at; k--)
			ret_inodes[k] = ret_inodes[k - 1];
		ret_inodes[at] = inode;
	}
	return n;
}

/* Shortens the run to where @inode maps it from @file_block on; false: not at all. */
static bool maps_run(struct aside *a, const struct pml_inode *inode, uint64_t file_block)
{
	struct pml_extent e;
	if (!pml_inode_is_file(inode) ||
	    pml_extent_at(inode->fs, inode->media, file_block, file_block + a->nblocks, &e))
		return false;
	a->nblocks = PML_MIN(a->nblocks, e.nblocks);
	return e.block == a->block && !e.is_unwritten;
}

/* All locks are held: do these files map the run, and nobody else?  Forgets hints that are not so.
 */
static bool are_all_sharers(struct aside *a)
{
	const struct pml_fs *fs = a->inode->fs;
	if (!maps_run(a, a->inode, a->file_block))
		return false;
	bool are_all_true = true;
	for (size_t i = 0; i < a->n; i++) {
		const struct other *other = &a->other[i];
		if (maps_run(a, other->inode, other->file_block))
			continue;
		const struct pml_extent wrong = {other->file_block, a->block, 1, false};
		pml_sharers_drop(a->inode->fs, other->inode->media, &wrong);
		are_all_true = false;
	}
	uint64_t n = 0;
	while (are_all_true && n < a->nblocks && pml_block_shares(fs, a->block + n) == a->n + 1)
		n++;
	a->nblocks = n;
	return n > 0;
}

/* ---- doing it ----------------------------------------------------------- */

static void drop_copy(const struct aside *a)
{
	for (size_t i = 0; i < a->n; i++)
		pml_alloc_unshare(a->inode->fs, a->fresh, a->nblocks);
}

/* A filled copy with a share for each of the others; may shorten the run. */
static int make_copy(struct aside *a)
{
	struct pml_fs *fs = a->inode->fs;
	const struct pml_alloc_wish wish = {
		.want = a->nblocks,
		.ino = a->other[0].inode->ino,
		.file_block = a->other[0].file_block,
	};
	int err = pml_alloc_take_for(fs, &wish, &a->fresh, &a->nblocks);
	if (err)
		return err;
	for (size_t i = 1; i < a->n; i++) {
		err = pml_counter_share(&fs->counters[a->fresh], a->nblocks);
		assert(!err); /* they have one share each, and nobody knows them */
	}
	uint64_t bytes = a->nblocks << PML_BLOCK_SHIFT;
	uint8_t *addr = pml_block_addr(fs, a->fresh);
	pml_data_copy(fs, addr, pml_block_addr(fs, a->block), bytes);
	pml_data_settle(fs, addr, bytes);
	pml_data_drain(fs);
	return 0;
}

static int remap_in_tx(const struct aside *a)
{
	struct pml_fs *fs = a->inode->fs;
	for (size_t i = 0; i < a->n; i++) {
		struct pml_media_inode *media = a->other[i].inode->media;
		const struct pml_extent e = {
			.file_block = a->other[i].file_block,
			.block = a->fresh,
			.nblocks = a->nblocks,
		};
		struct pml_unmapped old;
		uint64_t next;
		old.n = 0;
		int err = pml_extent_unmap(fs, media, e.file_block, e.file_block + e.nblocks, &old,
					   &next);
		if (!err)
			err = pml_extent_map(fs, media, &e);
		if (err)
			return err;
	}
	return 0;
}

/* After the commit. */
static void leave_old(const struct aside *a)
{
	struct pml_fs *fs = a->inode->fs;
	struct pml_extent e = {.nblocks = a->nblocks};
	for (size_t i = 0; i < a->n; i++) {
		const struct pml_inode *inode = a->other[i].inode;
		e.file_block = a->other[i].file_block;
		e.block = a->block;
		pml_alloc_unshare(fs, e.block, e.nblocks);
		pml_sharers_drop(fs, inode->media, &e);
		e.block = a->fresh;
		if (a->n > 1)
			pml_sharers_note(fs, inode->ino, inode->media, &e);
	}
	atomic_fetch_add(&fs->aside_blocks, a->nblocks);
}

static enum outcome move_others_locked(struct aside *a)
{
	struct pml_fs *fs = a->inode->fs;
	for (size_t i = 0; i < a->n; i++)
		if (pml_extent_punch_resume(fs, a->other[i].inode->media))
			return ASIDE_REFUSED;
	if (!are_all_sharers(a))
		return ASIDE_CHANGED;
	for (size_t i = 0; i < a->n; i++)
		if (is_leased(a->other[i].inode, a->other[i].file_block, a->nblocks))
			return ASIDE_LEASED;
	if (make_copy(a))
		return ASIDE_REFUSED;
	struct pml_tx tx;
	int err = pml_tx_begin(fs, &tx);
	if (!err)
		err = pml_tx_end(&tx, remap_in_tx(a));
	if (err) {
		drop_copy(a);
		return ASIDE_REFUSED;
	}
	leave_old(a);
	return ASIDE_DONE;
}

static enum outcome move_others(struct aside *a)
{
	struct pml_inode *locked[OTHERS_MAX + 1];
	size_t n = in_order(a, locked);
	for (size_t i = 0; i < n; i++)
		pthread_rwlock_wrlock(&locked[i]->lock);
	enum outcome outcome = move_others_locked(a);
	for (size_t i = 0; i < n; i++)
		pthread_rwlock_unlock(&locked[i]->lock);
	return outcome;
}

/* The next run at or behind *pos, which moves on with it. */
static enum outcome step(struct pml_inode *inode, uint64_t *pos, uint64_t end, uint64_t limit)
{
	struct aside a = {.inode = inode, .limit = limit};
	enum outcome outcome = plan(&a, pos, end);
	if (outcome == ASIDE_DONE && a.n > 0)
		outcome = move_others(&a);
	/* Without inode locks: the last reference to a deleted file may be among them. */
	for (size_t i = 0; i < a.nrefs; i++)
		pml_inode_put_in_change(a.ref[i]);
	if (outcome == ASIDE_DONE)
		*pos += a.nblocks;
	return outcome;
}

/* step() inside a change of the filesystem. */
static enum outcome step_in_change(struct pml_inode *inode, uint64_t *pos, uint64_t end,
				   uint64_t limit)
{
	pthread_rwlock_rdlock(&inode->fs->audit_lock);
	enum outcome outcome = step(inode, pos, end, limit);
	pthread_rwlock_unlock(&inode->fs->audit_lock);
	if (outcome == ASIDE_UNKNOWN)
		outcome = pml_sharers_learn(inode->fs) ? ASIDE_REFUSED : ASIDE_CHANGED;
	return outcome;
}

static void step_through(struct pml_inode *inode, uint64_t pos, uint64_t end)
{
	uint64_t limit = UINT64_MAX;
	unsigned int tries = 0;
	for (;;) {
		uint64_t last = pos;
		enum outcome outcome = step_in_change(inode, &pos, end, limit);
		if (outcome == ASIDE_END)
			return;
		if (pos != last)
			tries = 0;
		/* One of the others is leased at a block of the run: perhaps this file is not. */
		if (outcome == ASIDE_LEASED && limit > 1)
			limit = 1;
		else if (outcome == ASIDE_LEASED || outcome == ASIDE_REFUSED ||
			 (outcome == ASIDE_CHANGED && ++tries == TRIES_MAX))
			break;
	}
	atomic_fetch_add(&inode->fs->aside_refused, 1);
}

/* ---- interface ---------------------------------------------------------- */

void pml_step_aside(struct pml_inode *inode, uint64_t first_byte, uint64_t end_byte)
{
	struct pml_fs *fs = inode->fs;
	if (!fs->guard_ops || !fs->guard_ops->may_be_leased(fs->guard, inode->ino) ||
	    fs->is_read_only || !pml_inode_is_file(inode) || first_byte >= end_byte)
		return;
	step_through(inode, first_byte >> PML_BLOCK_SHIFT, pml_block_above(end_byte));
}

void pml_step_aside_at_edges(struct pml_inode *inode, uint64_t first_byte, uint64_t end_byte)
{
	uint64_t head_end = pml_block_above(first_byte) << PML_BLOCK_SHIFT;
	uint64_t tail_first = pml_round_down(end_byte, PML_BLOCK_BYTES);
	pml_step_aside(inode, first_byte, PML_MIN(head_end, end_byte));
	pml_step_aside(inode, PML_MAX(tail_first, first_byte), end_byte);
}

void pml_step_aside_at_tail(struct pml_inode *inode, uint64_t size_bytes)
{
	uint64_t size = pml_inode_size(inode);
	if (size < size_bytes && size % PML_BLOCK_BYTES != 0)
		pml_step_aside(inode, size, size + 1);
}
