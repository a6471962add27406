/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * unshare.c -- blocks of its own for a file, before it is written (FALLOC_FL_UNSHARE_RANGE)
 */
#include "aside.h"
#include "pin.h"
#include "rewrite.h"
#include "space.h"
#include "tx.h"

/* Adds one extent or hole. */
static void survey_extent(const struct pml_fs *fs, const struct pml_extent *e,
			  struct pml_space_survey *survey)
{
	if (!e->block) {
		survey->nholes += e->nblocks;
		return;
	}
	/* Preallocated blocks are never shared. */
	for (uint64_t i = 0; !e->is_unwritten && i < e->nblocks; i++) {
		if (pml_block_shares(fs, e->block + i) < 2)
			continue;
		if (survey->nshared++ == 0)
			survey->shared_first = e->file_block + i;
		survey->shared_end = e->file_block + i + 1;
	}
}

int pml_space_survey(struct pml_inode *inode, uint64_t first, uint64_t end,
		     struct pml_space_survey *ret_survey)
{
	*ret_survey = (struct pml_space_survey){.shared_first = first, .shared_end = first};
	for (uint64_t pos = first; pos < end;) {
		struct pml_extent e;
		int err = pml_extent_at(inode->fs, inode->media, pos, end, &e);
		if (err)
			return err;
		survey_extent(inode->fs, &e, ret_survey);
		pos = e.file_block + e.nblocks;
	}
	return 0;
}

/* Copies what is shared among one batch of pieces. */
static int copy_pieces(struct pml_rewrite *rw)
{
	size_t kept = 0;
	for (size_t i = 0; i < rw->n; i++)
		if (rw->piece[i].kind == PML_PIECE_COPY)
			rw->piece[kept++] = rw->piece[i];
	rw->n = kept;
	if (kept == 0)
		return 0;
	int err = pml_rewrite_allocate(rw);
	if (err)
		return err;
	const struct pml_fs *fs = rw->inode->fs;
	for (size_t i = 0; i < rw->n; i++) {
		uint8_t *addr = pml_block_addr(fs, rw->piece[i].block);
		size_t bytes = rw->piece[i].nblocks << PML_BLOCK_SHIFT;
		pml_data_copy(fs, addr, pml_block_addr(fs, rw->piece[i].old_block), bytes);
		pml_data_settle(fs, addr, bytes);
	}
	pml_data_drain(fs);
	return pml_rewrite_commit(rw, UINT64_MAX);
}

int pml_unshare_blocks(struct pml_inode *inode, uint64_t first, uint64_t end)
{
	while (first < end) {
		struct pml_rewrite rw;
		int err = pml_rewrite_plan(inode, first, end, &rw);
		if (!err)
			err = copy_pieces(&rw);
		if (err)
			return err;
		first = rw.end_block;
	}
	return 0;
}

static int unshare_locked(struct pml_inode *inode, uint64_t first, uint64_t end,
			  struct pml_waiter *w)
{
	struct pml_space_survey survey;
	int err = pml_extent_punch_resume(inode->fs, inode->media);
	if (!err)
		err = pml_space_survey(inode, first, end, &survey);
	if (err || survey.nshared == 0)
		return err;
	err = pml_guard_admit(inode, PML_OP_UNSHARE, survey.shared_first << PML_BLOCK_SHIFT,
			      survey.shared_end << PML_BLOCK_SHIFT, w);
	if (err)
		return err;
	struct statvfs st;
	pml_fs_statvfs(inode->fs, &st);
	if (survey.nshared > st.f_bfree)
		return -ENOSPC;
	return pml_unshare_blocks(inode, survey.shared_first, survey.shared_end);
}

int pml_file_unshare(struct pml_inode *inode, uint64_t first_byte, uint64_t len_bytes,
		     struct pml_waiter *w)
{
	if (!pml_inode_is_file(inode))
		return pml_inode_is_dir(inode) ? -EISDIR : -EINVAL;
	if (len_bytes == 0)
		return -EINVAL;
	if (first_byte > (uint64_t)PML_FILE_BYTES_MAX ||
	    len_bytes > (uint64_t)PML_FILE_BYTES_MAX - first_byte)
		return -EFBIG;
	pml_step_aside(inode, first_byte, first_byte + len_bytes);
	int err = pml_inode_begin_change(inode);
	if (err)
		return err;
	err = unshare_locked(inode, first_byte >> PML_BLOCK_SHIFT,
			     pml_block_above(first_byte + len_bytes), w);
	pml_inode_end_change(inode);
	return err;
}
