/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_fuse_nodes.c -- what of changed files the kernel is told, and when it is told nothing
 *
 * The table alone, with inodes that are made up here; the test plays kernel and teller.
 */
#include <pthread.h>

#include "../../fs/fuse_nodes.h"
#include "pml/clock.h"
#include "tap.h"

#define INO  7u
#define FULL UINT64_MAX

/* ---- inodes ------------------------------------------------------------------ */

struct pml_inode {
	uint64_t ino;
	uint64_t size;
	int refs;
};

uint64_t pml_inode_ino(const struct pml_inode *inode)
{
	return inode->ino;
}

uint64_t pml_inode_size(const struct pml_inode *inode)
{
	return inode->size;
}

void pml_inode_ref(struct pml_inode *inode)
{
	inode->refs++;
}

void pml_inode_put(struct pml_inode *inode, uint64_t count)
{
	inode->refs -= (int)count;
}

/* ---- one table with one inode --------------------------------------------------- */

static struct pml_inode file;
static struct pml_fuse_nodes *nodes;

/* The kernel has looked the file up. */
static void start(void)
{
	file = (struct pml_inode){.ino = INO, .size = 100000, .refs = 1};
	if (pml_fuse_nodes_new(&nodes) || pml_fuse_nodes_add(nodes, &file))
		BAIL_OUT("no table");
}

static void finish(void)
{
	pml_fuse_nodes_free(nodes);
	CHECK_EQ(file.refs, 0);
}

static void mark(uint64_t first_byte, uint64_t end_byte)
{
	const struct pml_fuse_stale stale = {INO, first_byte, end_byte};
	pml_fuse_nodes_mark(nodes, &stale);
}

/* The kernel asks for attributes. */
static void look(void)
{
	struct pml_inode *inode = pml_fuse_nodes_get(nodes, INO);
	if (inode != &file)
		BAIL_OUT("the inode is not known");
	pml_inode_put(inode, 1);
}

static bool is_due(void)
{
	return pml_fuse_nodes_is_stale(nodes, INO);
}

/* Takes what is due, and tells it; @knows: the kernel knows the inode. */
static struct pml_fuse_tell tell(bool knows)
{
	struct pml_fuse_tell t = {.is_all = false};
	if (!is_due() || !pml_fuse_nodes_take(nodes, &t))
		BAIL_OUT("nothing is due");
	const struct pml_fuse_tell taken = t;
	t.is_all &= knows;
	pml_fuse_nodes_told(nodes, &t);
	return taken;
}

static void check_told(uint64_t first_byte, uint64_t end_byte)
{
	REQUIRE(is_due());
	struct pml_fuse_tell t = tell(true);
	CHECK_EQ(t.stale.first_byte, first_byte);
	CHECK_EQ(t.stale.end_byte, end_byte);
	CHECK_EQ(t.is_all, first_byte == 0 && end_byte == FULL);
	CHECK(!is_due());
}

static void make_clean(void)
{
	mark(0, 4096);
	check_told(0, 4096);
	mark(0, 4096);
	check_told(0, FULL);
}

/* ---- tests ---------------------------------------------------------------------- */

static void test_who_does_not_ask_is_told_twice_and_then_nothing(void)
{
	start();
	mark(4096, 8192);
	check_told(4096, 8192);
	mark(8192, 12288);
	check_told(0, FULL);
	for (int i = 0; i < 3; i++) {
		mark(4096, 8192);
		mark(0, 0);
		CHECK(!is_due());
	}
	/* Who asks for a telling does not wait: there is no teller here. */
	const struct pml_fuse_stale stale = {INO, 0, 4096};
	uint64_t start_ms = pml_now_ms();
	pml_fuse_nodes_ask(nodes, &stale, NULL);
	CHECK(pml_now_ms() - start_ms < 1000);
	finish();
}

static void test_who_asks_is_told_again(void)
{
	start();
	make_clean();
	look();
	mark(4096, 8192);
	check_told(4096, 8192);
	look();
	mark(4096, 8192);
	check_told(4096, 8192);
	mark(4096, 8192);
	check_told(0, FULL);

	/* Another look-up is asking, too. */
	pml_inode_ref(&file);
	REQUIRE(pml_fuse_nodes_add(nodes, &file) == 0);
	mark(0, 4096);
	check_told(0, 4096);
	finish();
}

static void test_an_open_file_is_told_each_range(void)
{
	start();
	make_clean();
	pml_fuse_nodes_opened(nodes, INO, true);
	for (uint64_t i = 1; i < 5; i++) {
		mark(i * 4096, 8192 * i);
		check_told(i * 4096, 8192 * i);
	}
	pml_fuse_nodes_opened(nodes, INO, true);
	pml_fuse_nodes_opened(nodes, INO, false);
	mark(0, 4096);
	check_told(0, 4096);
	mark(0, 4096);
	check_told(0, 4096);
	/* Pages may stay behind the last close. */
	pml_fuse_nodes_opened(nodes, INO, false);
	make_clean();
	mark(0, 4096);
	CHECK(!is_due());
	finish();
}

static void test_attributes_alone_make_nobody_forget_pages(void)
{
	start();
	for (int i = 0; i < 3; i++) {
		mark(0, 0);
		REQUIRE(is_due());
		struct pml_fuse_tell t = tell(true);
		CHECK(t.stale.first_byte >= t.stale.end_byte);
		CHECK(!t.is_all);
	}
	finish();
}

static void test_a_size_that_has_changed_is_told(void)
{
	start();
	make_clean();
	file.size += 4096;
	mark(100000, FULL);
	check_told(0, FULL);
	mark(100000, FULL);
	CHECK(!is_due());
	file.size = 10;
	mark(0, 0);
	CHECK(is_due());
	(void)tell(true);
	finish();
}

static void test_what_is_asked_while_all_is_told_counts(void)
{
	start();
	mark(0, 4096);
	check_told(0, 4096);
	mark(0, 4096);
	struct pml_fuse_tell t;
	REQUIRE(pml_fuse_nodes_take(nodes, &t));
	CHECK(t.is_all);
	look();
	pml_fuse_nodes_told(nodes, &t);
	mark(0, 4096);
	check_told(0, 4096);

	/* The same of an open, and of a kernel that does not know the inode. */
	mark(0, 4096);
	REQUIRE(pml_fuse_nodes_take(nodes, &t));
	CHECK(t.is_all);
	pml_fuse_nodes_opened(nodes, INO, true);
	pml_fuse_nodes_told(nodes, &t);
	mark(0, 4096);
	check_told(0, 4096);
	pml_fuse_nodes_opened(nodes, INO, false);
	mark(0, 4096);
	check_told(0, 4096);
	mark(0, 4096);
	CHECK(tell(false).is_all);
	mark(0, 4096);
	check_told(0, FULL);
	finish();
}

/* The table grows meanwhile. */
static void test_many_inodes_are_known_at_once(void)
{
	enum { MANY = 5000 };
	struct pml_inode *many = calloc(MANY, sizeof(*many));
	REQUIRE(many);
	start();
	for (uint64_t i = 0; i < MANY; i++) {
		many[i] = (struct pml_inode){.ino = INO + 1 + i, .refs = 1};
		REQUIRE(pml_fuse_nodes_add(nodes, &many[i]) == 0);
	}
	unsigned int missing = 0;
	for (uint64_t i = 0; i < MANY; i++) {
		missing += pml_fuse_nodes_get(nodes, INO + 1 + i) != &many[i];
		pml_inode_put(&many[i], 1);
		if (i % 2)
			pml_fuse_nodes_forget(nodes, INO + 1 + i, 1);
	}
	CHECK_EQ(missing, 0);
	for (uint64_t i = 0; i < MANY; i++)
		CHECK_EQ(many[i].refs, i % 2 ? 0 : 1);
	finish();
	free(many);
}

struct ask {
	pthread_t thread;
	const char *name;
};

static void *ask_main(void *arg)
{
	const struct ask *ask = arg;
	const struct pml_fuse_stale stale = {INO, 0, ask->name ? 0 : 4096};
	pml_fuse_nodes_ask(nodes, &stale, ask->name);
	return NULL;
}

static void test_a_name_is_told_in_any_case(void)
{
	start();
	make_clean();
	struct ask ask = {.name = "new"};
	pthread_create(&ask.thread, NULL, ask_main, &ask);
	struct pml_fuse_tell t;
	REQUIRE(pml_fuse_nodes_take(nodes, &t)); /* waits for it */
	CHECK(t.name && strcmp(t.name, "new") == 0);
	CHECK(!t.is_all);
	pml_fuse_nodes_told(nodes, &t);
	pthread_join(ask.thread, NULL);

	/* And who asks for a range waits until it was told. */
	look();
	ask.name = NULL;
	pthread_create(&ask.thread, NULL, ask_main, &ask);
	REQUIRE(pml_fuse_nodes_take(nodes, &t));
	CHECK_EQ(t.stale.end_byte, 4096);
	pml_fuse_nodes_told(nodes, &t);
	pthread_join(ask.thread, NULL);
	finish();
}

int main(void)
{
	TAP_RUN(test_who_does_not_ask_is_told_twice_and_then_nothing);
	TAP_RUN(test_who_asks_is_told_again);
	TAP_RUN(test_an_open_file_is_told_each_range);
	TAP_RUN(test_attributes_alone_make_nobody_forget_pages);
	TAP_RUN(test_a_size_that_has_changed_is_told);
	TAP_RUN(test_what_is_asked_while_all_is_told_counts);
	TAP_RUN(test_many_inodes_are_known_at_once);
	TAP_RUN(test_a_name_is_told_in_any_case);
	return tap_done();
}
