/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * random.c -- all operations at random, by several processes, against a model
 *
 * usage: random MOUNT SEED PROCESSES
 *
 * Commands come on standard input, one a line; each is answered by lines that begin with
 * '#' and a last one that does not:
 *
 *   run COUNT [die=PID] [full] [URL]   COUNT more operations in each process.  With
 *                       "die" the daemon PID is killed, after a moment and in the middle
 *                       of an operation; with "full" ENOSPC is an answer; with URL a
 *                       remote client is at work meanwhile.
 *                       Answer: "stopped COUNT" (of all so far), or "bad"
 *   verify              compare everything; after a crash each process's last operation
 *                       has happened or has not.  Answer: "good" or "bad"
 *   totals              how often each kind has succeeded.  Answer: "good"
 *   quit
 *
 * Each process draws its operations from the seed, its number and the operation's number,
 * so those on its own tree are the same in each run.  Nothing stays open between runs.
 */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

#include "compare.h"
#include "dirread.h"
#include "leaser.h"
#include "perform.h"
#include "pick.h"
#include "race.h"
#include "remote.h"
#include "rules.h"

/* Operations between two comparisons of a whole tree. */
#define COMPARE_EVERY 300

/* ---- locks -------------------------------------------------------------- */

static bool is_shared(const struct op *op)
{
	return op->tree == SHARED_TREE || op->tree2 == SHARED_TREE;
}

static bool is_data(const struct op *op)
{
	return op->kind >= READ && op->kind != RACE;
}

static void lock_tree(const struct op *op)
{
	pthread_rwlock_t *lock = &world->tree[SHARED_TREE].lock;
	if (is_shared(op) && is_data(op))
		pthread_rwlock_rdlock(lock);
	else if (is_shared(op))
		pthread_rwlock_wrlock(lock);
}

static void unlock_tree(const struct op *op)
{
	if (is_shared(op))
		pthread_rwlock_unlock(&world->tree[SHARED_TREE].lock);
}

/* The files of the shared tree that a data operation works on, by number; returns how many. */
static int shared_files(const struct op *op, int *ret_nodes)
{
	int n = 0;
	if (!is_data(op))
		return 0;
	if (op->tree == SHARED_TREE && op->node != NODE_NONE)
		ret_nodes[n++] = op->node;
	if (op->tree2 == SHARED_TREE && op->node2 != NODE_NONE && op->node2 != op->node)
		ret_nodes[n++] = op->node2;
	else if (op->tree2 == SHARED_TREE && op->node2 != NODE_NONE && op->tree != SHARED_TREE)
		ret_nodes[n++] = op->node2;
	if (n == 2 && ret_nodes[1] < ret_nodes[0]) {
		int first = ret_nodes[1];
		ret_nodes[1] = ret_nodes[0];
		ret_nodes[0] = first;
	}
	return n;
}

static void lock_files(const struct op *op)
{
	int nodes[2];
	int n = shared_files(op, nodes);
	for (int i = 0; i < n; i++)
		pthread_mutex_lock(&node_of(SHARED_TREE, nodes[i])->lock);
}

static void unlock_files(const struct op *op)
{
	int nodes[2];
	for (int n = shared_files(op, nodes); n > 0; n--)
		pthread_mutex_unlock(&node_of(SHARED_TREE, nodes[n - 1])->lock);
}

/* ---- telling ------------------------------------------------------------ */

static void print_op(const struct op *op, bool is_last)
{
	char line[512];
	int n = snprintf(line, sizeof(line), "#   %s %s", kind_names[op->kind],
			 op->kind == RACE ? "" : tree_name(op->tree));
	if (op->dir != NODE_NONE)
		n += snprintf(line + n, sizeof(line) - (size_t)n, " dir %d name %d", op->dir,
			      op->name);
	if (op->slot >= 0)
		n += snprintf(line + n, sizeof(line) - (size_t)n, " slot %d", op->slot);
	n += snprintf(line + n, sizeof(line) - (size_t)n, " node %d", op->node);
	if (op->dir2 != NODE_NONE)
		n += snprintf(line + n, sizeof(line) - (size_t)n, ", %s dir %d name %d node %d",
			      tree_name(op->tree2), op->dir2, op->name2, op->node2);
	snprintf(line + n, sizeof(line) - (size_t)n,
		 " at %lu bytes %lu at2 %lu flags %#x mode %o%s\n", (unsigned long)op->at,
		 (unsigned long)op->bytes, (unsigned long)op->at2, (unsigned int)op->flags,
		 op->mode, is_last ? "  <- the last one" : "");
	(void)!write(STDOUT_FILENO, line, strlen(line));
}

static void print_recent(const struct worker *worker)
{
	complain("the last operations of process %d (seed %lu), number %lu:",
		 (int)(worker - world->worker), (unsigned long)world->seed,
		 (unsigned long)worker->count);
	uint64_t first = worker->count >= RECENT ? worker->count - RECENT + 1 : 0;
	for (uint64_t i = first; i <= worker->count; i++)
		print_op(&worker->recent[i % RECENT], i == worker->count);
}

/* ---- a worker ----------------------------------------------------------- */

enum outcome {
	GOES_ON,
	FAILED,
	DIED, /* the daemon has, as it may */
};

static void take_slot(struct worker *worker, const struct op *op)
{
	if (op->kind == OPEN) {
		int node = op->node == NODE_NONE ? op->fresh : op->node;
		worker->slot[op->slot].node = node;
		node_of(op->tree, node)->opens++;
	} else {
		worker->slot[op->slot].node = NODE_NONE;
		node_of(op->tree, op->node)->opens--;
		node_drop(op->tree, op->node);
	}
}

/* Looks at what the operation should have left. */
static void look_behind(const struct op *op, const struct worker *worker)
{
	int nodes[TOUCHED_MAX];
	if (op->kind == CLOSE || op->kind == READDIR || op->kind == RACE)
		return;
	if (op->slot >= 0) {
		int node = worker->slot[op->slot].node;
		if (node != NODE_NONE)
			compare_open(op->tree, node, slot_fd[op->slot]);
		return;
	}
	int n = op_touches(op, nodes);
	for (int i = 0; i < n; i++) {
		const struct node *node = node_of(op->tree, nodes[i]);
		if (node->type && node->nlink > 0 && (!is_data(op) || nodes[i] == op->node))
			compare_attributes(op->tree, nodes[i]);
	}
}

/* Which of the two, when something is wrong: a death is told by everything failing. */
static enum outcome judge(void)
{
	bool is_death = world->may_die && is_dead();
	if (!is_death)
		complain_now();
	has_complained = false;
	return is_death ? DIED : FAILED;
}

/* The operation has ended with @err, and had to end with @want. */
static enum outcome settle(struct worker *worker, const struct op *op, int err, int want,
			   uint64_t done)
{
	if (has_complained)
		return judge();
	/* Without space for the file, its name is never looked at. */
	bool may_lack = op->kind == TMPFILE || (want == 0 && op_may_lack_space(op));
	if (err == ENOSPC && world->may_be_full && may_lack) {
		worker->full++;
		/* The kernel may have moved the times before it asked. */
		struct node *n = op->node == NODE_NONE ? NULL : node_of(op->tree, op->node);
		if (n && is_data(op)) {
			may_have_moved(&n->mtime, op->begin_ns);
			may_have_moved(&n->ctime, op->begin_ns);
		}
		return GOES_ON;
	}
	/* The one never waits for a lease, the other not for ever. */
	if (err == EBUSY && (op->kind == DEDUPE || op->kind == SNAPSHOT) && world->has_leases)
		return GOES_ON;
	if (err != want || (err == 0 && done < op_all(op) && !world->may_be_full)) {
		complain("%s: got %s, must be %s; %lu bytes done of %lu", kind_names[op->kind],
			 err ? strerrorname_np(err) : "success",
			 want ? strerrorname_np(want) : "success", (unsigned long)done,
			 (unsigned long)op_all(op));
		return judge();
	}
	if (err) {
		worker->refused++;
		if (op->kind == FOLLOW)
			op_apply(op, 0); /* up to where it failed */
		return GOES_ON;
	}
	op_apply(op, done);
	if (op->kind == OPEN || op->kind == CLOSE)
		take_slot(worker, op);
	worker->kinds[op->kind]++;
	return GOES_ON;
}

static enum outcome race(struct worker *worker, const struct op *op)
{
	int err = race_once(op, pick_word());
	if (err || has_complained)
		return judge();
	worker->kinds[RACE]++;
	return GOES_ON;
}

/* To the conductor, who waits for such a one to kill the daemon. */
static void tell_aimed(const struct op *op)
{
	int kind = (int)op->kind;
	if (world->aim == kind && atomic_compare_exchange_strong(&world->aim, &kind, -1))
		sem_post(&world->aimed);
}

/* What lacked space has changed nothing: no block has been mapped, and none is missing. */
static void compare_extent(const struct op *op, const struct extent *before)
{
	struct extent after = extent_of(op);
	if (after.size != before->size || after.blocks != before->blocks)
		complain("%s without space: size was %lu, is %lu; blocks were %lu, are %lu",
			 kind_names[op->kind], (unsigned long)before->size,
			 (unsigned long)after.size, (unsigned long)before->blocks,
			 (unsigned long)after.blocks);
}

/* With the locks held. */
static enum outcome do_locked(struct worker *worker, struct op *op)
{
	op->begin_ns = now_coarse_ns();
	worker->recent[worker->count % RECENT] = *op;
	worker->turn = ++world->nbegun;
	worker->is_pending = true;
	uint64_t done = 0;
	enum outcome outcome;
	if (op->kind == RACE) {
		tell_aimed(op);
		outcome = race(worker, op);
	} else {
		int want = op_expect(op, worker);
		bool may_lack = world->may_be_full && is_data(op) && op->node != NODE_NONE;
		struct extent before = {0};
		if (may_lack)
			before = extent_of(op);
		if (want == 0)
			tell_aimed(op);
		int err = op_perform(op, worker, &done);
		if (may_lack && err == ENOSPC)
			compare_extent(op, &before);
		outcome = settle(worker, op, err, want, done);
	}
	if (outcome != GOES_ON)
		return outcome;
	worker->is_pending = false;
	if (op->kind != RACE && pick_below(3) == 0) {
		look_behind(op, worker);
		if (has_complained)
			outcome = judge();
	}
	return outcome;
}

static enum outcome do_next(struct worker *worker, int number)
{
	struct op op;
	enum outcome outcome = GOES_ON;
	pick_seed(world->seed, (uint64_t)number, worker->count);
	pick_kind(&op, number);
	lock_tree(&op);
	if (pick_target(&op, worker)) {
		lock_files(&op);
		if (pick_extent(&op, worker))
			outcome = do_locked(worker, &op);
		unlock_files(&op);
	}
	unlock_tree(&op);
	if (outcome == GOES_ON && worker->count % COMPARE_EVERY == COMPARE_EVERY - 1) {
		compare_tree(number);
		if (has_complained)
			outcome = judge();
		worker->checks++;
	}
	return outcome;
}

static void close_slots(struct worker *worker, int number)
{
	read_directory_end();
	for (int i = 0; i < SLOTS; i++) {
		int node = worker->slot[i].node;
		if (node == NODE_NONE)
			continue;
		close(slot_fd[i]);
		worker->slot[i].node = NODE_NONE;
		node_of(number, node)->opens--;
		node_drop(number, node);
	}
}

static void work(struct worker *worker, int number)
{
	enum outcome outcome = GOES_ON;
	has_complained = false;
	is_quiet = world->may_die;
	while (outcome == GOES_ON && worker->count < worker->until && !world->must_stop) {
		outcome = do_next(worker, number);
		if (outcome == GOES_ON)
			worker->count++;
	}
	is_quiet = false;
	if (outcome == FAILED) {
		print_recent(worker);
		worker->has_failed = true;
	}
	if (outcome != GOES_ON)
		world->must_stop = true;
	close_slots(worker, number);
}

static void worker_main(int number)
{
	struct worker *worker = &world->worker[number];
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	umask(0);
	(void)setgroups(0, NULL);
	for (;;) {
		while (sem_wait(&worker->go) != 0)
			continue;
		if (world->must_quit)
			_exit(0);
		work(worker, number);
		sem_post(&worker->done);
	}
}

/* ---- the conductor ------------------------------------------------------ */

static void must_mkdir(const char *name)
{
	char path[PATH_BYTES];
	snprintf(path, sizeof(path), "%s/%s", world->mount, name);
	if (mkdir(path, 0755) != 0) {
		fprintf(stderr, "random: %s: %s\n", path, strerror(errno));
		exit(2);
	}
}

/* What this filesystem and kernel can do; what it claims to is tested. */
static void probe(void)
{
	char path[PATH_BYTES];
	snprintf(path, sizeof(path), "%s/probe", world->mount);
	int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (fd < 0) {
		fprintf(stderr, "random: %s: %s\n", path, strerror(errno));
		exit(2);
	}
	world->has_xattr = fsetxattr(fd, "user.probe", "x", 1, 0) == 0;
	world->has_zero_range = fallocate(fd, FALLOC_FL_ZERO_RANGE, 0, BLOCK) == 0;
	close(fd);
	unlink(path);
	printf("# forms:%s%s\n", world->has_xattr ? " xattr" : "",
	       world->has_zero_range ? " zero_range" : "");
}

static uint64_t total_count(void)
{
	uint64_t count = 0;
	for (int w = 0; w < world->nworkers; w++)
		count += world->worker[w].count;
	return count;
}

/*
 * Each kind that changes something has the same chance to be cut off, however rare and
 * short it is.
 */
static void kill_at_random(pid_t daemon)
{
	static unsigned int seed;
	static const int spared[] = {STAT,   FOLLOW,  GETXATTR,	 LISTXATTR, GETACL,
				     PERMIT, READDIR, MMAP_READ, CLOSE,	    READ,
				     SEEK,   SYNC,    UTIMENS};
	size_t i = 0, n = sizeof(spared) / sizeof(spared[0]);
	int kind;
	if (seed == 0)
		seed = (unsigned int)world->seed;
	usleep(10000 + (unsigned int)rand_r(&seed) % 200000);
	do {
		kind = rand_r(&seed) % KINDS;
		for (i = 0; i < n && spared[i] != kind; i++)
			continue;
	} while (i < n);
	while (sem_trywait(&world->aimed) == 0)
		continue;
	world->aim = kind;
	struct timespec until;
	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec++;
	(void)sem_timedwait(&world->aimed, &until);
	world->aim = -1;
	/* Most operations are short, some are not. */
	usleep((unsigned int)rand_r(&seed) % (1u << (4 + rand_r(&seed) % 9)));
	kill(daemon, SIGKILL);
}

static void run(const char *arguments)
{
	unsigned long count = strtoul(arguments, NULL, 0);
	const char *url = strstr(arguments, "soft://");
	const char *die = strstr(arguments, " die=");
	world->may_die = die;
	world->may_be_full = strstr(arguments, " full") != NULL;
	world->must_stop = false;
	world->has_leases = url != NULL;
	pid_t leaser = url ? leaser_start(url) : 0;
	for (int w = 0; w < world->nworkers; w++) {
		world->worker[w].until = world->worker[w].count + count;
		sem_post(&world->worker[w].go);
	}
	if (die)
		kill_at_random((pid_t)strtol(die + 5, NULL, 10));
	bool has_failed = false;
	for (int w = 0; w < world->nworkers; w++) {
		while (sem_wait(&world->worker[w].done) != 0)
			continue;
		has_failed = has_failed || world->worker[w].has_failed;
	}
	if (leaser > 0)
		leaser_stop(leaser);
	if (has_failed || world->has_leaser_failed)
		printf("bad\n");
	else
		printf("stopped %lu\n", (unsigned long)total_count());
}

/* Of the operations that are not resolved the one that began first; NULL: none is left. */
static struct worker *first_pending(void)
{
	struct worker *first = NULL;
	for (int w = 0; w < world->nworkers; w++) {
		struct worker *worker = &world->worker[w];
		if (worker->is_pending && (!first || worker->turn < first->turn))
			first = worker;
	}
	return first;
}

/*
 * Files that had no name and were open when the daemon died are gone.  Who waited for the
 * lock of one whose operation died has begun another on the same file: in their order.
 */
static void verify(void)
{
	has_complained = false;
	for (struct worker *worker; !has_complained && (worker = first_pending());) {
		resolve_pending(worker);
		if (has_complained)
			print_recent(worker);
		else
			worker->count++;
	}
	for (int w = 0; w < world->nworkers && !has_complained; w++)
		compare_tree(w);
	if (!has_complained)
		compare_tree(SHARED_TREE);
	if (!has_complained)
		race_check();
	if (!has_complained)
		remote_check();
	for (int w = 0; has_complained && w < world->nworkers; w++)
		print_recent(&world->worker[w]);
	printf("%s\n", has_complained ? "bad" : "good");
}

static void totals(void)
{
	uint64_t refused = 0, full = 0, checks = 0;
	for (int w = 0; w < world->nworkers; w++) {
		refused += world->worker[w].refused;
		full += world->worker[w].full;
		checks += world->worker[w].checks;
	}
	for (int k = 0; k < KINDS; k++) {
		uint64_t sum = 0;
		for (int w = 0; w < world->nworkers; w++)
			sum += world->worker[w].kinds[k];
		printf("# %s %lu\n", kind_names[k], (unsigned long)sum);
	}
	printf("# refused %lu\n# full %lu\n# compared_trees %lu\n# leases %lu\n"
	       "# commits %lu\ngood\n",
	       (unsigned long)refused, (unsigned long)full, (unsigned long)checks,
	       (unsigned long)leaser_granted(), (unsigned long)remote_commits());
}

static void quit(void)
{
	world->must_quit = true;
	for (int w = 0; w < world->nworkers; w++)
		sem_post(&world->worker[w].go);
	while (wait(NULL) > 0)
		continue;
}

int main(int argc, char **argv)
{
	char line[512];
	int nworkers = argc == 4 ? atoi(argv[3]) : 0;
	if (nworkers < 1 || nworkers > WORKERS_MAX) {
		fprintf(stderr, "usage: random MOUNT SEED PROCESSES (1 to %d)\n", WORKERS_MAX);
		return 2;
	}
	setvbuf(stdout, NULL, _IOLBF, 0);
	model_new(argv[1], strtoull(argv[2], NULL, 0), nworkers);
	leaser_init();
	for (int w = 0; w < nworkers; w++)
		must_mkdir(tree_name(w));
	must_mkdir(tree_name(SHARED_TREE));
	must_mkdir("race");
	must_mkdir("remote");
	if (!remote_init()) {
		fprintf(stderr, "random: %s\n", strerror(errno));
		return 2;
	}
	for (int i = 0; i < 3; i++)
		must_mkdir((const char *[]){"race/d0", "race/d1", "race/d2"}[i]);
	probe();
	for (int w = 0; w < nworkers; w++)
		if (fork() == 0)
			worker_main(w);
	while (fgets(line, sizeof(line), stdin)) {
		line[strcspn(line, "\n")] = '\0';
		if (strcmp(line, "quit") == 0)
			break;
		if (strncmp(line, "run ", 4) == 0)
			run(line + 4);
		else if (strcmp(line, "verify") == 0)
			verify();
		else if (strcmp(line, "totals") == 0)
			totals();
		else
			printf("bad\n");
	}
	quit();
	return 0;
}
