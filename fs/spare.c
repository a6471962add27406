/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * spare.c -- a second extent tree beside a file's own: how a whole map changes at once
 *
 * Format: docs/on-media-format.md, "Spare tree".
 */
#include "spare.h"

#include <string.h>

#include "tx.h"

/* Bounds the log of one transaction. */
#define ITEMS_PER_TX  512u
#define LEAVES_PER_TX 32u

int pml_spare_free(struct pml_fs *fs, struct pml_media_inode *inode)
{
	while (inode->spare_tree) {
		struct pml_tx tx;
		int err = pml_tx_begin(fs, &tx);
		if (!err)
			err = pml_tx_end(&tx,
					 pml_btree_prune(fs, &inode->spare_tree, LEAVES_PER_TX));
		if (err)
			return err;
	}
	return 0;
}

void pml_spare_drop(struct pml_fs *fs, struct pml_media_inode *inode)
{
	int err = pml_spare_free(fs, inode);
	if (err)
		pml_log_warning("an extent map that is not used any more stays: %s",
				strerror(-err));
}

int pml_spare_begin(struct pml_spare *ret_spare, struct pml_tx *tx, struct pml_inode *inode)
{
	int err = pml_spare_free(inode->fs, inode->media);
	if (!err)
		err = pml_fs_use_feature(inode->fs, PML_FEATURE_RO_SPARE_TREE);
	if (!err)
		err = pml_tx_begin(inode->fs, tx);
	if (err)
		return err;
	*ret_spare = (struct pml_spare){
		.fs = inode->fs,
		.inode = inode->media,
		.tx = tx,
		.has_tx = true,
	};
	return 0;
}

/* Puts the pending extent into the tree; goes on in a new transaction when this one is full. */
static int flush_pending(struct pml_spare *spare)
{
	if (spare->pending.nblocks == 0)
		return 0;
	if (spare->ninserted == ITEMS_PER_TX) {
		spare->has_tx = false;
		int err = pml_tx_end(spare->tx, 0);
		if (!err)
			err = pml_tx_begin(spare->fs, spare->tx);
		if (err)
			return err;
		spare->has_tx = true;
		spare->ninserted = 0;
	}
	struct pml_btree_item item = pml_extent_item(&spare->pending);
	spare->pending.nblocks = 0;
	spare->ninserted++;
	return pml_btree_insert(spare->fs, &spare->inode->spare_tree, &item);
}

int pml_spare_add(struct pml_spare *spare, const struct pml_extent *e)
{
	spare->nblocks += e->nblocks;
	if (spare->pending.nblocks && pml_extent_adjoin(spare->fs, &spare->pending, e)) {
		spare->pending.nblocks += e->nblocks;
		return 0;
	}
	int err = flush_pending(spare);
	if (!err)
		spare->pending = *e;
	return err;
}

int pml_spare_end(struct pml_spare *spare, int err)
{
	if (!err)
		err = flush_pending(spare);
	if (spare->has_tx)
		err = pml_tx_end(spare->tx, err);
	if (err)
		pml_spare_drop(spare->fs, spare->inode);
	return err;
}

int pml_spare_exchange(struct pml_inode *inode, uint64_t nblocks)
{
	struct pml_media_inode *media = inode->media;
	uint64_t old = media->tree;
	int err = PML_TX_SET(media->tree, media->spare_tree);
	if (!err)
		err = PML_TX_SET(media->spare_tree, old);
	return err ? err : PML_TX_SET(media->nblocks, nblocks);
}
