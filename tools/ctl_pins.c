/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * ctl_pins.c -- pmemleasectl: which blocks of the device leases keep in place
 *
 * There may be a million: they are printed as they come.
 */
#include <inttypes.h>
#include <stdio.h>

#include "ctl.h"
#include "pmemleasefs/ioctl.h"

int pml_ctl_each_pin(const struct pml_ctl_mount *mount,
		     int (*visit)(void *arg, const struct pml_ioc_pin *pin), void *arg)
{
	struct pml_ioc_pins page = {.version = PML_IOC_VERSION};
	int err;
	while (!(err = pml_ctl_ask(mount->path, mount->fd, PML_IOC_PINS, &page)) &&
	       page.count > 0) {
		for (uint32_t i = 0; !err && i < page.count && i < PML_IOC_PINS_MAX; i++)
			err = visit(arg, &page.pins[i]);
		if (err)
			break;
	}
	return err;
}

struct printing {
	/* Without the block: each pin is looked at anyway. */
	struct pml_ctl_filter filter;
	struct pml_ctl_choice choice;
	struct pml_ctl_list list;
	const struct pml_ctl_filter *asked;
};

/* A lease may begin inside a block, its pins do not. */
static uint64_t first_of_blocks(const struct pml_ioc_pin *pin)
{
	return pml_round_down(pin->first_byte, PML_BLOCK_BYTES);
}

/* Of @pin only the block that was asked for; false: it does not cover it. */
static bool cut_to_block(struct pml_ioc_pin *pin, uint64_t block)
{
	if (block < pin->block || block - pin->block >= pin->nblocks)
		return false;
	uint64_t begin = first_of_blocks(pin) + (block - pin->block) * PML_BLOCK_BYTES;
	pin->first_byte = PML_MAX(pin->first_byte, begin);
	pin->block = block;
	pin->nblocks = 1;
	return true;
}

static int print_pin(void *arg, const struct pml_ioc_pin *from)
{
	struct printing *p = arg;
	struct pml_ioc_pin pin = *from;
	if (!pml_ctl_is_chosen(&p->choice, pin.ino, pin.lease_id, pin.peer) ||
	    (p->asked->has_block && !cut_to_block(&pin, p->asked->block)))
		return 0;
	uint64_t end_byte = first_of_blocks(&pin) + pin.nblocks * PML_BLOCK_BYTES;
	pml_ctl_next_entry(&p->list);
	if (!p->list.is_json) {
		printf("%-10" PRIu64 " %-10" PRIu64 " %-14" PRIu64 " %-14" PRIu64 " %-12" PRIu64
		       " %-9" PRIu64 " ",
		       pin.lease_id, pin.ino, pin.first_byte, end_byte, pin.block, pin.nblocks);
		pml_ctl_print_text(pin.peer);
		putchar('\n');
		return 0;
	}
	printf("{\"lease\":%" PRIu64 ",", pin.lease_id);
	pml_ctl_print_json_inode(&p->choice, pin.ino);
	printf(",\"first_byte\":%" PRIu64 ",\"end_byte\":%" PRIu64 ",\"block\":%" PRIu64
	       ",\"blocks\":%" PRIu64 ",\"holder\":",
	       pin.first_byte, end_byte, pin.block, pin.nblocks);
	pml_ctl_print_json_text(pin.peer);
	putchar('}');
	return 0;
}

int pml_ctl_pins(const struct pml_ctl_mount *mount, const struct pml_ctl_options *options)
{
	struct printing p = {.filter = options->filter, .asked = &options->filter};
	p.filter.has_block = false;
	int err = pml_ctl_choose(mount, &p.filter, &p.choice);
	if (err)
		goto out;
	if (!options->is_json) {
		pml_ctl_print_choice(&p.choice);
		printf("%-10s %-10s %-14s %-14s %-12s %-9s %s\n", "LEASE", "INODE", "FIRST", "END",
		       "BLOCK", "BLOCKS", "HOLDER");
	}
	pml_ctl_begin_list(&p.list, options->is_json);
	err = pml_ctl_each_pin(mount, print_pin, &p);
	if (!err)
		pml_ctl_end_list(&p.list);
out:
	pml_ctl_choice_fini(&p.choice);
	return err;
}
