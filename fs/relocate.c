/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * relocate.c -- moving a file's blocks to where they lie together
 *
 * What counts are breaks: places where blocks that follow each other in the file do not on
 * the device.  A step takes a stretch of the file without holes and looks for one run of
 * free blocks with which it has fewer breaks, those at its ends included, or as many and
 * more whole 2 MiB units.  So each move makes a file better, and moving comes to an end.
 *
 *	collect -> take blocks, judge -> admit -> copy -> map in a transaction -> drop
 *
 * Blocks are taken before the guard is asked, which changes nothing that anybody sees: so
 * no lease is taken away for a move that would not be made.
 */
#include "pml/fs.h"

#include "alloc.h"
#include "rewrite.h"
#include "tx.h"

/* Blocks that one step moves at most, 8 MiB; an extent of that size is good as it is. */
#define STRETCH_BLOCKS 2048u
/* Pieces of a stretch, all in one transaction. */
#define PIECES_MAX 256u
static_assert(PIECES_MAX <= PML_UNMAP_MAX, "one transaction unmaps them");
/* Extents and holes that one step looks at, about. */
#define LOOK_MAX 1024u
/* What stays free while a step holds blocks: others must not meet -ENOSPC because of it. */
#define LEAVE_BLOCKS 2048u
#define UNIT_BLOCKS  512u /* 2 MiB */
#define FILE_BLOCKS  ((uint64_t)PML_FILE_BYTES_MAX / PML_BLOCK_BYTES + 1)

/* A part of a file that one share of its own maps, without holes. */
struct stretch {
	struct pml_extent left;	 /* the block in front of it; block 0: nothing is mapped there */
	struct pml_extent right; /* what follows it; block 0: nothing */
	uint64_t nblocks;
	size_t n;
	struct pml_extent piece[PIECES_MAX];
};

/* A run of blocks that was taken for the first pieces of a stretch. */
struct place {
	uint64_t block;
	uint64_t nblocks;
	size_t npieces;
};

struct step {
	struct pml_inode *inode;
	struct pml_waiter *w;
	uint64_t pos; /* file block */
	uint64_t end;
	unsigned int nlooked;
	bool is_over;
	struct pml_relocation result;
};

/* ---- what lies there ------------------------------------------------------ */

static int extent_at(struct step *s, uint64_t file_block, struct pml_extent *ret_extent)
{
	s->nlooked++;
	return pml_extent_at(s->inode->fs, s->inode->media, file_block, FILE_BLOCKS, ret_extent);
}

/* Cuts @e where sharing changes.  Is what is left shared? */
static bool cut_at_sharing(const struct pml_fs *fs, struct pml_extent *e)
{
	bool is_shared = false;
	/* Preallocated blocks are never shared. */
	if (!e->is_unwritten)
		e->nblocks = pml_same_sharing(fs, e->block, e->nblocks, &is_shared);
	return is_shared;
}

static bool is_small(const struct pml_extent *e)
{
	return e->block && e->nblocks < STRETCH_BLOCKS;
}

/* The longest stretch at the position.  Without pieces: what lies there, right, stays. */
static int collect(struct step *s, struct stretch *st)
{
	uint64_t pos = s->pos;
	int err = 0;
	st->n = 0;
	st->nblocks = 0;
	st->left = (struct pml_extent){.block = 0};
	if (pos > 0)
		err = pml_extent_at(s->inode->fs, s->inode->media, pos - 1, pos, &st->left);
	for (;;) {
		st->right = (struct pml_extent){.block = 0};
		if (!err && pos < FILE_BLOCKS)
			err = extent_at(s, pos, &st->right);
		if (err || pos >= s->end || st->n == PIECES_MAX)
			return err;
		struct pml_extent e = st->right;
		if (!is_small(&e) || cut_at_sharing(s->inode->fs, &e))
			return 0;
		e.nblocks = PML_MIN(e.nblocks, s->end - pos);
		if (st->nblocks + e.nblocks > STRETCH_BLOCKS)
			return 0;
		st->piece[st->n++] = e;
		st->nblocks += e.nblocks;
		pos += e.nblocks;
	}
}

/* Goes behind what is never moved: a hole, a large extent, shared blocks. */
static void pass(struct step *s, struct pml_extent e)
{
	if (is_small(&e) && cut_at_sharing(s->inode->fs, &e))
		s->result.skipped_shared_bytes += PML_MIN(e.nblocks, s->end - s->pos)
						  << PML_BLOCK_SHIFT;
	s->pos += e.nblocks;
}

static uint64_t blocks_of(const struct stretch *st, size_t npieces)
{
	uint64_t nblocks = 0;
	for (size_t i = 0; i < npieces; i++)
		nblocks += st->piece[i].nblocks;
	return nblocks;
}

/* ---- what is better ------------------------------------------------------- */

/* Contiguous on the device, too?  Whether preallocated or not does not matter. */
static bool follows(const struct pml_fs *fs, struct pml_extent left, const struct pml_extent *right)
{
	left.is_unwritten = right->is_unwritten;
	return left.block && right->block && pml_extent_adjoin(fs, &left, right);
}

static bool is_break(const struct pml_fs *fs, const struct pml_extent *left,
		     const struct pml_extent *right)
{
	return left->block && right->block && !follows(fs, *left, right);
}

static uint64_t units_in(uint64_t block, uint64_t nblocks)
{
	uint64_t first = pml_round_up(block, (uint64_t)UNIT_BLOCKS);
	uint64_t end = pml_round_down(block + nblocks, (uint64_t)UNIT_BLOCKS);
	return end > first ? (end - first) / UNIT_BLOCKS : 0;
}

/* How the first pieces of a stretch lie. */
struct shape {
	unsigned int breaks; /* inside, and at both ends */
	uint64_t units;	     /* whole ones */
	bool is_whole;	     /* no extent reaches beyond an end */
};

static const struct pml_extent *behind(const struct stretch *st, size_t npieces)
{
	return npieces < st->n ? &st->piece[npieces] : &st->right;
}

static struct shape shape_of(const struct pml_fs *fs, const struct stretch *st, size_t npieces)
{
	const struct pml_extent *last = &st->piece[npieces - 1], *right = behind(st, npieces);
	struct shape shape = {
		.breaks = is_break(fs, &st->left, &st->piece[0]) + is_break(fs, last, right),
		.is_whole = !follows(fs, st->left, &st->piece[0]) && !follows(fs, *last, right),
	};
	struct pml_extent run = st->piece[0];
	for (size_t i = 1; i < npieces; i++) {
		const struct pml_extent *e = &st->piece[i];
		if (follows(fs, run, e)) {
			run.nblocks += e->nblocks;
			continue;
		}
		shape.breaks++;
		shape.units += units_in(run.block, run.nblocks);
		run = *e;
	}
	shape.units += units_in(run.block, run.nblocks);
	return shape;
}

/* Is there any place at which the stretch would lie better? */
static bool may_get_better(const struct pml_fs *fs, const struct stretch *st)
{
	struct shape now = shape_of(fs, st, st->n);
	return now.breaks > 0 || (now.is_whole && now.units < st->nblocks / UNIT_BLOCKS);
}

static bool is_better(const struct pml_fs *fs, const struct stretch *st, const struct place *place)
{
	struct shape now = shape_of(fs, st, place->npieces);
	const struct pml_extent moved = {
		.file_block = st->piece[0].file_block,
		.block = place->block,
		.nblocks = blocks_of(st, place->npieces),
	};
	unsigned int breaks = (unsigned int)is_break(fs, &st->left, &moved) +
			      is_break(fs, &moved, behind(st, place->npieces));
	if (breaks != now.breaks)
		return breaks < now.breaks;
	return now.is_whole && units_in(moved.block, moved.nblocks) > now.units;
}

/* ---- a place -------------------------------------------------------------- */

static void give_back(struct pml_fs *fs, struct place *place, uint64_t keep_blocks)
{
	if (keep_blocks < place->nblocks)
		pml_alloc_unshare(fs, place->block + keep_blocks, place->nblocks - keep_blocks);
	place->nblocks = keep_blocks;
}

static int take(const struct step *s, const struct stretch *st, uint64_t goal, struct place *place)
{
	const struct pml_alloc_wish wish = {
		.want = st->nblocks,
		.goal = goal,
		.ino = s->inode->ino,
		.file_block = st->piece[0].file_block,
	};
	return pml_alloc_take_for(s->inode->fs, &wish, &place->block, &place->nblocks);
}

/* Keeps as many pieces as fit. */
static void fit(const struct stretch *st, struct place *place)
{
	uint64_t nblocks = 0;
	place->npieces = 0;
	while (place->npieces < st->n &&
	       nblocks + st->piece[place->npieces].nblocks <= place->nblocks)
		nblocks += st->piece[place->npieces++].nblocks;
}

/* How many pieces have no better place when no free run is longer than @nblocks. */
static size_t hopeless(const struct stretch *st, size_t npieces, uint64_t nblocks)
{
	size_t i = PML_MAX(npieces, (size_t)1);
	while (i < st->n && st->piece[i - 1].nblocks + st->piece[i].nblocks > nblocks)
		i++;
	return i;
}

/*
 * Takes blocks that are better for the first pieces.  place->npieces 0: there are none, and
 * *ret_skip pieces stay where they are.
 */
static void find_place(const struct step *s, const struct stretch *st, struct place *place,
		       size_t *ret_skip)
{
	struct pml_fs *fs = s->inode->fs;
	uint64_t goal = st->left.block ? st->left.block + 1 : 0;
	struct statvfs vfs;
	pml_fs_statvfs(fs, &vfs);
	*ret_skip = st->n;
	place->npieces = 0;
	if (vfs.f_bfree < st->nblocks + LEAVE_BLOCKS || take(s, st, goal, place))
		return;
	if (goal && place->nblocks < st->nblocks) {
		/* What is free behind the file may be short. */
		give_back(fs, place, 0);
		if (take(s, st, 0, place))
			return;
	}
	fit(st, place);
	if (place->npieces && is_better(fs, st, place)) {
		give_back(fs, place, blocks_of(st, place->npieces));
		return;
	}
	*ret_skip = hopeless(st, place->npieces, place->nblocks);
	give_back(fs, place, 0);
	place->npieces = 0;
}

/* ---- the guard ------------------------------------------------------------ */

static int admit(const struct step *s, const struct pml_extent *first,
		 const struct pml_extent *last)
{
	return pml_guard_admit(s->inode, PML_OP_RELOCATE, first->file_block << PML_BLOCK_SHIFT,
			       (last->file_block + last->nblocks) << PML_BLOCK_SHIFT, s->w);
}

/*
 * Policy skip, and a lease somewhere: how many of the first pieces get the same answer, and
 * which.  What is leased is passed, what is not is moved if that is still better.
 */
static int admit_each(const struct step *s, const struct stretch *st, struct place *place)
{
	size_t n = 1;
	int answer = admit(s, &st->piece[0], &st->piece[0]);
	while (n < place->npieces && (answer == 0 || answer == -ECANCELED) &&
	       admit(s, &st->piece[n], &st->piece[n]) == answer)
		n++;
	place->npieces = n;
	return answer;
}

/* May the pieces be moved?  With place->npieces 0 afterwards *ret_skip of them stay. */
static int ask(struct step *s, const struct stretch *st, struct place *place, size_t *ret_skip)
{
	struct pml_fs *fs = s->inode->fs;
	int err = admit(s, &st->piece[0], &st->piece[place->npieces - 1]);
	if (err != -ECANCELED)
		return err;
	err = admit_each(s, st, place);
	if (err && err != -ECANCELED)
		return err;
	if (err)
		s->result.skipped_leased_bytes += blocks_of(st, place->npieces) << PML_BLOCK_SHIFT;
	if (!err && is_better(fs, st, place)) {
		give_back(fs, place, blocks_of(st, place->npieces));
		return 0;
	}
	*ret_skip = place->npieces;
	give_back(fs, place, 0);
	place->npieces = 0;
	return 0;
}

/* ---- moving --------------------------------------------------------------- */

/* Before anybody can see it.  What is preallocated holds nothing. */
static void copy(const struct pml_fs *fs, const struct stretch *st, const struct place *place)
{
	uint8_t *to = pml_block_addr(fs, place->block);
	for (size_t i = 0; i < place->npieces; i++) {
		const struct pml_extent *e = &st->piece[i];
		size_t bytes = e->nblocks << PML_BLOCK_SHIFT;
		if (!e->is_unwritten) {
			pml_data_copy(fs, to, pml_block_addr(fs, e->block), bytes);
			pml_data_settle(fs, to, bytes);
		}
		to += bytes;
	}
	pml_data_drain(fs);
}

static int remap_in_tx(const struct step *s, const struct stretch *st, const struct place *place,
		       struct pml_unmapped *unmapped)
{
	struct pml_fs *fs = s->inode->fs;
	struct pml_media_inode *media = s->inode->media;
	uint64_t first = st->piece[0].file_block, next;
	int err = pml_extent_unmap(fs, media, first, first + place->nblocks, unmapped, &next);
	for (size_t i = 0; !err && i < place->npieces;) {
		struct pml_extent e = st->piece[i];
		e.block = place->block + (e.file_block - first);
		while (++i < place->npieces && st->piece[i].is_unwritten == e.is_unwritten)
			e.nblocks += st->piece[i].nblocks;
		err = pml_extent_map(fs, media, &e);
	}
	return err;
}

static int commit(const struct step *s, const struct stretch *st, struct place *place)
{
	struct pml_fs *fs = s->inode->fs;
	struct pml_unmapped unmapped = {.n = 0};
	struct pml_tx tx;
	int err = pml_tx_begin(fs, &tx);
	if (!err)
		err = pml_tx_end(&tx, remap_in_tx(s, st, place, &unmapped));
	if (err)
		give_back(fs, place, 0);
	else
		pml_unmapped_drop(fs, &unmapped);
	return err;
}

/* Moves the first pieces of the stretch, or goes behind those that stay. */
static int move_some(struct step *s, const struct stretch *st)
{
	struct place place;
	size_t skip;
	find_place(s, st, &place, &skip);
	if (place.npieces) {
		int err = ask(s, st, &place, &skip);
		if (err) {
			give_back(s->inode->fs, &place, 0);
			return err;
		}
	}
	if (place.npieces == 0) {
		s->pos += blocks_of(st, skip);
		return 0;
	}
	uint64_t nblocks = place.nblocks;
	copy(s->inode->fs, st, &place);
	int err = commit(s, st, &place);
	/* No room for the transaction is no better place, either. */
	if (err && err != -ENOSPC)
		return err;
	s->is_over = true;
	s->pos += nblocks;
	s->result.moved_bytes = err ? 0 : nblocks << PML_BLOCK_SHIFT;
	return 0;
}

static int relocate_locked(struct step *s)
{
	int err = pml_extent_punch_resume(s->inode->fs, s->inode->media);
	while (!err && !s->is_over && s->pos < s->end && s->nlooked < LOOK_MAX) {
		struct stretch st;
		err = collect(s, &st);
		if (err)
			break;
		if (st.n == 0)
			pass(s, st.right);
		else if (may_get_better(s->inode->fs, &st))
			err = move_some(s, &st);
		else
			s->pos += st.nblocks;
	}
	return err;
}

int pml_file_relocate(struct pml_inode *inode, uint64_t first_byte, uint64_t len_bytes,
		      struct pml_waiter *w, struct pml_relocation *ret_result)
{
	if (!pml_inode_is_file(inode))
		return pml_inode_is_dir(inode) ? -EISDIR : -EINVAL;
	if (first_byte > (uint64_t)PML_FILE_BYTES_MAX ||
	    len_bytes > (uint64_t)PML_FILE_BYTES_MAX - first_byte)
		return -EFBIG;
	struct step s = {
		.inode = inode,
		.w = w,
		.pos = first_byte >> PML_BLOCK_SHIFT,
		.end = len_bytes ? pml_block_above(first_byte + len_bytes) : FILE_BLOCKS,
	};
	int err = pml_inode_begin_change(inode);
	if (err)
		return err;
	err = relocate_locked(&s);
	pml_inode_end_change(inode);
	if (err)
		return err;
	s.result.next_byte = s.pos < s.end ? s.pos << PML_BLOCK_SHIFT : 0;
	*ret_result = s.result;
	return 0;
}
