/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_client_queue.c -- transfers of any memory, queues of transfers, registrations
 *
 * Software fabric on the loopback (tests/support/service_rig.h).  The linker puts the three
 * functions below between the library and the fabric: to count registrations, and to hold up
 * an operation in front of the fabric, which lets a message overtake it.
 */
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../../rdma/transport.h"
#include "pml/clock.h"
#include "service_rig.h"
#include "tap.h"

#define KIB	   1024u
#define MIB	   (1u << 20)
#define FILE_BYTES (3u * MIB + 1234)

static atomic_int registrations, live_registrations;
static const void *_Atomic refused_page;

int __real_pml_local_mr_new(struct pml_ep *ep, void *buf, size_t bytes,
			    struct pml_local_mr **ret_mr);
int __wrap_pml_local_mr_new(struct pml_ep *ep, void *buf, size_t bytes,
			    struct pml_local_mr **ret_mr);
void __real_pml_local_mr_free(struct pml_local_mr *mr);
void __wrap_pml_local_mr_free(struct pml_local_mr *mr);

int __wrap_pml_local_mr_new(struct pml_ep *ep, void *buf, size_t bytes,
			    struct pml_local_mr **ret_mr)
{
	if (buf == atomic_load(&refused_page))
		return -EFAULT;
	atomic_fetch_add(&registrations, 1);
	atomic_fetch_add(&live_registrations, 1);
	return __real_pml_local_mr_new(ep, buf, bytes, ret_mr);
}

void __wrap_pml_local_mr_free(struct pml_local_mr *mr)
{
	atomic_fetch_sub(&live_registrations, 1);
	__real_pml_local_mr_free(mr);
}

static atomic_uint post_delay_us;

int __real_pml_ep_post(struct pml_ep *ep, const struct pml_data_op *op);
int __wrap_pml_ep_post(struct pml_ep *ep, const struct pml_data_op *op);

int __wrap_pml_ep_post(struct pml_ep *ep, const struct pml_data_op *op)
{
	if (atomic_load(&post_delay_us))
		usleep(atomic_load(&post_delay_us));
	return __real_pml_ep_post(ep, op);
}

struct scene {
	struct rig rig;
	struct pml_client *client;
	uint64_t ino;
	uint8_t *memory; /* FILE_BYTES and more, page-aligned */
	int registrations_before;
};

/* @patience_ms: how long a recall may take; 0: as in all tests. */
static void begin_patiently(struct scene *s, uint32_t patience_ms)
{
	memset(s, 0, sizeof(*s));
	rig_init(&s->rig);
	if (patience_ms)
		s->rig.config.ack_ms = s->rig.config.drain_ms = patience_ms;
	s->ino = fake_fs_make(s->rig.fs, PML_ROOT_INO, "file", S_IFREG | 0644, 0);
	s->memory = mmap(NULL, 4 * MIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	fill_pattern(s->memory, s->ino, 0, FILE_BYTES);
	fake_fs_write(s->rig.fs, s->ino, 0, s->memory, FILE_BYTES);
	memset(s->memory, 0xee, 4 * MIB);
	if (rig_start(&s->rig))
		BAIL_OUT("no server");
	s->client = rig_connect(&s->rig);
	s->registrations_before = atomic_load(&registrations);
}

static void begin(struct scene *s)
{
	begin_patiently(s, 0);
}

static void end(struct scene *s)
{
	pml_client_close(s->client);
	CHECK_EQ(atomic_load(&live_registrations), 0);
	munmap(s->memory, 4 * MIB);
	rig_stop(&s->rig);
}

static void set_delay_us(uint32_t us)
{
	const struct pml_soft_faults faults = {.delay_data_us = us};
	pml_soft_set_faults(&faults);
}

static struct pml_client_queue *new_queue(struct scene *s, uint32_t depth)
{
	struct pml_client_queue *queue;
	if (pml_client_queue_new(s->client, depth, &queue))
		BAIL_OUT("no queue");
	return queue;
}

static int queue_read(struct pml_client_queue *queue, struct pml_client_lease *lease, void *data,
		      uint64_t first_byte, size_t bytes, uint64_t cookie)
{
	const struct iovec iov = {data, bytes};
	return pml_client_queue_read(queue, lease, &iov, 1, first_byte, cookie);
}

static int read_one(struct pml_client_lease *lease, void *data, uint64_t first_byte, size_t bytes)
{
	const struct iovec iov = {data, bytes};
	return pml_client_readv(lease, &iov, 1, first_byte);
}

static int registered(const struct scene *s)
{
	return atomic_load(&registrations) - s->registrations_before;
}

/* ---- any memory --------------------------------------------------------- */

static void test_pieces_of_any_memory_are_read(void)
{
	struct scene s;
	begin(&s);
	struct pml_client_lease *lease = rig_lease(s.client, s.ino, 0, FILE_BYTES, false);
	unsigned int seed = 3;
	struct iovec iov[40];
	for (int round = 0; round < 60; round++) {
		uint64_t first = (uint64_t)rand_r(&seed) % (MIB / 2);
		int n = 1 + rand_r(&seed) % 40;
		size_t total = 0;
		size_t at = (size_t)rand_r(&seed) % 5000;
		for (int i = 0; i < n; i++) {
			/* Short ones fit a bounce slot together, long ones do not; some are empty.
			 */
			size_t len = (size_t)rand_r(&seed) % (round % 2 ? 400 : 50000);
			len = rand_r(&seed) % 7 ? len : 0;
			iov[i] = (struct iovec){s.memory + at, len};
			at += len + (size_t)rand_r(&seed) % 100;
			total += len;
		}
		memset(s.memory, 0xee, 4 * MIB);
		CHECK_EQ(pml_client_readv(lease, iov, n, first), 0);
		uint64_t pos = first;
		for (int i = 0; i < n; i++) {
			CHECK_EQ(count_wrong(iov[i].iov_base, s.ino, pos, iov[i].iov_len), 0);
			pos += iov[i].iov_len;
		}
		CHECK_EQ(pos, first + total);
		CHECK_EQ(s.memory[at], 0xee);
	}
	CHECK_EQ(pml_client_readv(lease, iov, 0, 5), 0);
	CHECK_EQ(pml_client_readv(lease, iov, -1, 5), -EINVAL);
	CHECK_EQ(pml_client_readv(lease, iov, 1025, 5), -EINVAL);
	CHECK_EQ(read_one(lease, s.memory, FILE_BYTES - 1, 2), -EINVAL);
	const struct iovec huge[2] = {{s.memory, SIZE_MAX}, {s.memory, SIZE_MAX}};
	CHECK_EQ(pml_client_readv(lease, huge, 2, 0), -EINVAL);
	CHECK_EQ(pml_client_writev(lease, huge, 1, 0), -EINVAL);
	CHECK_EQ(pml_client_return(lease), 0);
	end(&s);
}

static void test_pieces_of_any_memory_are_written(void)
{
	struct scene s;
	begin(&s);
	struct pml_client_attr attr;
	REQUIRE(pml_client_create(s.client, "new", 0644, true, &attr) == 0);
	struct pml_client_lease *lease = rig_lease(s.client, attr.ino, 0, MIB, true);
	fill_pattern(s.memory, attr.ino, 0, MIB);
	uint8_t little[100];
	memcpy(little, s.memory, sizeof(little));
	/* From the stack and small; from everywhere and long. */
	const struct iovec first = {little, sizeof(little)};
	CHECK_EQ(pml_client_writev(lease, &first, 1, 0), 0);
	struct iovec iov[10];
	size_t at = 100;
	for (int i = 0; i < 10; i++) {
		iov[i] = (struct iovec){s.memory + at, 99999};
		at += 99999;
	}
	CHECK_EQ(pml_client_writev(lease, iov, 10, 100), 0);
	CHECK_EQ(pml_client_commit(lease, 0, at, at), 0);
	CHECK_EQ(pml_client_return(lease), 0);
	uint8_t *got = malloc(at);
	fake_fs_read(s.rig.fs, attr.ino, 0, got, at);
	CHECK_EQ(count_wrong(got, attr.ino, 0, at), 0);
	free(got);
	end(&s);
}

static void test_holes_are_zeros_in_each_piece(void)
{
	struct scene s;
	begin(&s);
	uint64_t ino = fake_fs_make(s.rig.fs, PML_ROOT_INO, "sparse", S_IFREG | 0644, 0);
	uint8_t *want = calloc(1, MIB);
	for (size_t at = 40960; at + 5000 < MIB; at += 123456) {
		fill_pattern(want + at, ino, at, 5000);
		fake_fs_write(s.rig.fs, ino, at, want + at, 5000);
	}
	fake_fs_write(s.rig.fs, ino, MIB - 1, "", 1);
	struct pml_client_lease *lease = rig_lease(s.client, ino, 0, MIB, false);
	static const size_t lens[] = {100, 3000, 16000, 100000, MIB};
	for (size_t l = 0; l < PML_ARRAY_LEN(lens); l++) {
		for (uint64_t first = 0; first < MIB; first += lens[l]) {
			size_t len = PML_MIN(lens[l], MIB - first);
			const struct iovec iov[3] = {{s.memory, len / 3},
						     {s.memory + 2 * MIB, len / 2},
						     {s.memory + MIB, len - len / 3 - len / 2}};
			if (l == 0 && first > 60000)
				break;
			memset(s.memory, 0xee, len);
			memset(s.memory + MIB, 0xee, len);
			memset(s.memory + 2 * MIB, 0xee, len);
			CHECK_EQ(pml_client_readv(lease, iov, 3, first), 0);
			uint64_t pos = first;
			for (int i = 0; i < 3; i++) {
				CHECK_EQ(memcmp(iov[i].iov_base, want + pos, iov[i].iov_len), 0);
				pos += iov[i].iov_len;
			}
		}
	}
	CHECK_EQ(pml_client_return(lease), 0);
	free(want);
	end(&s);
}

/* ---- registrations ------------------------------------------------------- */

static void test_nothing_stays_registered_unless_asked(void)
{
	struct scene s;
	begin(&s);
	struct pml_client_lease *lease = rig_lease(s.client, s.ino, 0, FILE_BYTES, false);
	CHECK_EQ(read_one(lease, s.memory, 0, 16 * KIB), 0);
	CHECK_EQ(read_one(lease, s.memory, 0, 16 * KIB), 0);
	CHECK_EQ(registered(&s), 1); /* the bounce slots */
	CHECK_EQ(read_one(lease, s.memory, 0, 64 * KIB), 0);
	CHECK_EQ(read_one(lease, s.memory, 0, 64 * KIB), 0);
	CHECK_EQ(registered(&s), 3);
	CHECK_EQ(atomic_load(&live_registrations), 1);

	/* A buffer is found by its address. */
	struct pml_client_buffer *buffer;
	REQUIRE(pml_client_buffer_new(s.client, 256 * KIB, &buffer) == 0);
	uint8_t *data = pml_client_buffer_data(buffer);
	CHECK_EQ(read_one(lease, data + 100, 7, 200 * KIB), 0);
	CHECK_EQ(read_one(lease, data, 0, 10), 0);
	CHECK_EQ(count_wrong(data + 100, s.ino, 7, 200 * KIB), 0);
	CHECK_EQ(registered(&s), 4);
	CHECK_EQ(pml_client_forget_memory(s.client, data, 256 * KIB), 0);
	CHECK_EQ(read_one(lease, data, 0, 200 * KIB), 0);
	CHECK_EQ(registered(&s), 4);
	pml_client_buffer_free(buffer);
	CHECK_EQ(pml_client_return(lease), 0);
	end(&s);
}

static void test_cache_keeps_merges_forgets_and_evicts(void)
{
	struct scene s;
	begin(&s);
	struct pml_client_lease *lease = rig_lease(s.client, s.ino, 0, FILE_BYTES, false);
	CHECK_EQ(pml_client_cache_memory(s.client, 1025, MIB), -EINVAL);
	CHECK_EQ(pml_client_cache_memory(s.client, 3, 4 * MIB), 0);
	for (int i = 0; i < 5; i++)
		CHECK_EQ(read_one(lease, s.memory + 5, 0, 64 * KIB), 0);
	CHECK_EQ(registered(&s), 1);
	/* Now also for small ones. */
	CHECK_EQ(read_one(lease, s.memory + 100, 0, 50), 0);
	CHECK_EQ(registered(&s), 1);
	/* What adjoins becomes one. */
	CHECK_EQ(read_one(lease, s.memory + 70 * KIB, 0, 64 * KIB), 0);
	CHECK_EQ(read_one(lease, s.memory + 5, 0, 130 * KIB), 0);
	CHECK_EQ(registered(&s), 2);
	CHECK_EQ(atomic_load(&live_registrations), 1);

	CHECK_EQ(pml_client_forget_memory(s.client, s.memory + 4 * KIB, 1), 0);
	CHECK_EQ(atomic_load(&live_registrations), 0);
	CHECK_EQ(read_one(lease, s.memory, 0, 64 * KIB), 0);
	CHECK_EQ(registered(&s), 3);

	/* At most three; the first one is used again and stays. */
	CHECK_EQ(read_one(lease, s.memory + MIB, 0, 64 * KIB), 0);
	CHECK_EQ(read_one(lease, s.memory + 2 * MIB, 0, 64 * KIB), 0);
	CHECK_EQ(read_one(lease, s.memory, 0, 64 * KIB), 0);
	CHECK_EQ(read_one(lease, s.memory + 3 * MIB, 0, 64 * KIB), 0);
	CHECK_EQ(registered(&s), 6);
	CHECK_EQ(atomic_load(&live_registrations), 3);
	CHECK_EQ(read_one(lease, s.memory, 0, 64 * KIB), 0);
	CHECK_EQ(registered(&s), 6);
	CHECK_EQ(read_one(lease, s.memory + MIB, 0, 64 * KIB), 0);
	CHECK_EQ(registered(&s), 7);
	/* At most so many bytes. */
	CHECK_EQ(pml_client_cache_memory(s.client, 3, 100 * KIB), 0);
	CHECK_EQ(atomic_load(&live_registrations), 1);
	CHECK_EQ(read_one(lease, s.memory, 0, 200 * KIB), 0);
	CHECK_EQ(read_one(lease, s.memory, 0, 200 * KIB), 0);
	CHECK_EQ(registered(&s), 9);
	CHECK_EQ(pml_client_cache_memory(s.client, 0, 0), 0);
	CHECK_EQ(atomic_load(&live_registrations), 0);
	CHECK_EQ(pml_client_return(lease), 0);
	end(&s);
}

static void test_memory_that_cannot_be_registered_is_copied(void)
{
	struct scene s;
	begin(&s);
	atomic_store(&refused_page, s.memory);
	struct pml_client_lease *lease = rig_lease(s.client, s.ino, 0, FILE_BYTES, false);
	CHECK_EQ(read_one(lease, s.memory, 9, MIB), 0);
	CHECK_EQ(count_wrong(s.memory, s.ino, 9, MIB), 0);
	CHECK_EQ(pml_client_return(lease), 0);
	lease = rig_lease(s.client, s.ino, 0, 2 * MIB, true);
	fill_pattern(s.memory, 77, 0, MIB);
	const struct iovec iov = {s.memory, MIB};
	CHECK_EQ(pml_client_writev(lease, &iov, 1, 3), 0);
	CHECK_EQ(pml_client_commit(lease, 3, MIB, 0), 0);
	CHECK_EQ(pml_client_return(lease), 0);
	fake_fs_read(s.rig.fs, s.ino, 3, s.memory + MIB, MIB);
	CHECK_EQ(count_wrong(s.memory + MIB, 77, 0, MIB), 0);
	atomic_store(&refused_page, NULL);
	end(&s);
}

static void test_memory_in_use_is_forgotten_afterwards(void)
{
	struct scene s;
	begin(&s);
	CHECK_EQ(pml_client_cache_memory(s.client, 8, MIB), 0);
	struct pml_client_lease *lease = rig_lease(s.client, s.ino, 0, FILE_BYTES, false);
	struct pml_client_queue *queue = new_queue(&s, 1);
	struct pml_client_completion c;
	set_delay_us(20000);
	CHECK_EQ(queue_read(queue, lease, s.memory, 0, 64 * KIB, 1), 0);
	CHECK_EQ(pml_client_forget_memory(s.client, s.memory, 1), -EBUSY);
	CHECK_EQ(atomic_load(&live_registrations), 1);
	CHECK_EQ(pml_client_queue_wait(queue, &c, 1, -1), 1);
	CHECK_EQ(c.status, 0);
	CHECK_EQ(count_wrong(s.memory, s.ino, 0, 64 * KIB), 0);
	CHECK_EQ(atomic_load(&live_registrations), 0);
	set_delay_us(0);
	CHECK_EQ(pml_client_return(lease), 0);
	end(&s);
}

static void test_memory_in_use_twice_stays_until_the_second_end(void)
{
	struct scene s;
	begin(&s);
	CHECK_EQ(pml_client_cache_memory(s.client, 8, MIB), 0);
	struct pml_client_lease *lease = rig_lease(s.client, s.ino, 0, FILE_BYTES, false);
	struct pml_client_queue *queue = new_queue(&s, 2);
	struct pml_client_completion c;
	CHECK_EQ(read_one(lease, s.memory, 0, 64 * KIB), 0);
	set_delay_us(20000);
	CHECK_EQ(queue_read(queue, lease, s.memory, 0, 1000, 1), 0);
	CHECK_EQ(queue_read(queue, lease, s.memory + 4096, 5, 1000, 2), 0);
	CHECK_EQ(registered(&s), 1);
	CHECK_EQ(pml_client_forget_memory(s.client, s.memory, 1), -EBUSY);
	CHECK_EQ(pml_client_queue_wait(queue, &c, 1, -1), 1);
	CHECK_EQ(c.status, 0);
	CHECK_EQ(atomic_load(&live_registrations), 1);
	CHECK_EQ(pml_client_queue_wait(queue, &c, 1, -1), 1);
	CHECK_EQ(c.status, 0);
	CHECK_EQ(atomic_load(&live_registrations), 0);
	CHECK_EQ(count_wrong(s.memory, s.ino, 0, 1000), 0);
	CHECK_EQ(count_wrong(s.memory + 4096, s.ino, 5, 1000), 0);
	set_delay_us(0);
	CHECK_EQ(pml_client_return(lease), 0);
	end(&s);
}

/* ---- queues ------------------------------------------------------------- */

static void test_queue_completes_each_transfer_once(void)
{
	struct scene s;
	begin(&s);
	struct pml_client_queue *queue;
	CHECK_EQ(pml_client_queue_new(s.client, 0, &queue), -EINVAL);
	CHECK_EQ(pml_client_queue_new(s.client, 4097, &queue), -EINVAL);
	queue = new_queue(&s, 64);
	struct pml_client_lease *lease = rig_lease(s.client, s.ino, 0, FILE_BYTES, false);
	struct pml_client_completion done[64];
	CHECK_EQ(pml_client_queue_wait(queue, done, 64, -1), 0);
	char is_done[1000] = {0};
	unsigned int submitted = 0;
	unsigned int completed = 0;
	while (completed < 1000) {
		while (submitted < 1000) {
			/* Some small, some not; each at a place of its own. */
			size_t len = submitted % 3 ? 1000 : 30000;
			int err = queue_read(queue, lease, s.memory + (submitted % 64) * 32768,
					     submitted * 3000, len, submitted);
			if (err == -EAGAIN)
				break;
			CHECK_EQ(err, 0);
			submitted++;
		}
		int n = pml_client_queue_wait(queue, done, 7, -1);
		CHECK(n >= 1 && n <= 7);
		for (int i = 0; i < n; i++) {
			uint64_t at = done[i].cookie;
			CHECK_EQ(done[i].status, 0);
			CHECK_EQ(done[i].bytes, at % 3 ? 1000 : 30000);
			is_done[at]++;
			completed++;
		}
		/* The place of one that is done may be taken again at once: empty the queue. */
		if (submitted % 64 == 0)
			for (; completed < submitted; completed += (unsigned int)n) {
				n = pml_client_queue_wait(queue, done, 64, -1);
				for (int i = 0; i < n; i++) {
					is_done[done[i].cookie]++;
					CHECK_EQ(done[i].status, 0);
				}
			}
	}
	CHECK_EQ(submitted, 1000);
	for (int i = 0; i < 1000; i++)
		CHECK_EQ(is_done[i], 1);
	CHECK_EQ(pml_client_queue_pending(queue), 0);
	for (unsigned int i = 1000 - 1000 % 64; i < 1000; i++)
		CHECK_EQ(count_wrong(s.memory + (i % 64) * 32768, s.ino, i * 3000,
				     i % 3 ? 1000 : 30000),
			 0);
	pml_client_queue_free(queue);
	CHECK_EQ(pml_client_return(lease), 0);
	end(&s);
}

static void test_queue_is_bounded_and_waits_no_longer_than_told(void)
{
	struct scene s;
	begin(&s);
	struct pml_client_queue *queue = new_queue(&s, 2);
	struct pml_client_lease *lease = rig_lease(s.client, s.ino, 0, FILE_BYTES, false);
	struct pml_client_completion done[3];
	set_delay_us(100000);
	CHECK_EQ(queue_read(queue, lease, s.memory, 0, 100, 1), 0);
	CHECK_EQ(queue_read(queue, lease, s.memory + MIB, 0, 0, 2), 0);
	CHECK_EQ(queue_read(queue, lease, s.memory, 0, 100, 3), -EAGAIN);
	CHECK(strstr(pml_client_reason(s.client), "full") != NULL);
	CHECK_EQ(pml_client_queue_pending(queue), 2);
	/* Nothing to move: done at once. */
	CHECK_EQ(pml_client_queue_wait(queue, done, 3, 0), 1);
	CHECK_EQ(done[0].cookie, 2);
	CHECK_EQ(pml_client_queue_wait(queue, done, 3, 0), 0);
	uint64_t from_ms = pml_now_ms();
	CHECK_EQ(pml_client_queue_wait(queue, done, 3, 20), 0);
	CHECK(pml_now_ms() - from_ms >= 20);
	CHECK_EQ(pml_client_queue_wait(queue, done, 3, 5000), 1);
	CHECK_EQ(done[0].status, 0);
	CHECK_EQ(queue_read(queue, lease, s.memory, FILE_BYTES, 1, 4), -EINVAL);
	CHECK_EQ(pml_client_queue_pending(queue), 0);
	set_delay_us(0);
	CHECK_EQ(pml_client_return(lease), 0);
	CHECK_EQ(pml_client_queue_wait(queue, done, 3, 0), 0);
	end(&s); /* with the queue */
}

static void test_short_transfer_overtakes_a_long_one(void)
{
	struct scene s;
	begin(&s);
	struct pml_client_queue *queue = new_queue(&s, 2);
	struct pml_client_lease *lease = rig_lease(s.client, s.ino, 0, FILE_BYTES, false);
	struct pml_client_completion done[2];
	set_delay_us(1000);
	/* Some fifty operations: the file's pieces are short. */
	CHECK_EQ(queue_read(queue, lease, s.memory, 0, FILE_BYTES, 1), 0);
	CHECK_EQ(queue_read(queue, lease, s.memory + FILE_BYTES, 0, 100, 2), 0);
	CHECK_EQ(pml_client_queue_wait(queue, done, 2, -1), 1);
	CHECK_EQ(done[0].cookie, 2);
	CHECK_EQ(pml_client_queue_wait(queue, done, 2, -1), 1);
	CHECK_EQ(done[0].cookie, 1);
	CHECK_EQ(done[0].bytes, FILE_BYTES);
	CHECK_EQ(count_wrong(s.memory, s.ino, 0, FILE_BYTES), 0);
	set_delay_us(0);
	CHECK_EQ(pml_client_return(lease), 0);
	end(&s);
}

static void test_recall_ends_transfers_that_nobody_waits_for(void)
{
	struct scene s;
	begin_patiently(&s, 20000);
	struct pml_client_queue *queue = new_queue(&s, 2);
	struct pml_client_lease *lease = rig_lease(s.client, s.ino, 0, FILE_BYTES, false);
	struct pml_client_completion done[2];
	set_delay_us(5000);
	CHECK_EQ(queue_read(queue, lease, s.memory, 0, FILE_BYTES, 1), 0);
	uint64_t from_ms = pml_now_ms();
	CHECK_EQ(fake_fs_truncate(s.rig.fs, s.ino, 4096), 0);
	CHECK(pml_now_ms() - from_ms < 10000);
	struct pml_lease_stats stats;
	pml_lease_stats(s.rig.mgr, &stats);
	CHECK_EQ(stats.revoked, 0);
	CHECK_EQ(queue_read(queue, lease, s.memory, 0, 1, 2), -ESTALE);
	CHECK_EQ(pml_client_queue_wait(queue, done, 2, 0), 1);
	CHECK_EQ(done[0].status, -ESTALE);
	CHECK_EQ(done[0].bytes, 0);
	CHECK(strstr(pml_client_reason(s.client), "recalled") != NULL);
	set_delay_us(0);
	CHECK_EQ(pml_client_return(lease), 0);
	end(&s);
}

static void test_lease_may_be_returned_before_its_completions_are_taken(void)
{
	struct scene s;
	begin(&s);
	struct pml_client_queue *queue = new_queue(&s, 8);
	struct pml_client_lease *lease = rig_lease(s.client, s.ino, 0, FILE_BYTES, false);
	struct pml_client_completion done[8];
	set_delay_us(2000);
	for (uint64_t i = 0; i < 8; i++)
		CHECK_EQ(queue_read(queue, lease, s.memory + i * 65536, i * 65536, 60000, i), 0);
	CHECK_EQ(pml_client_return(lease), 0);
	CHECK(rig_wait_leases(&s.rig, 0));
	int n = pml_client_queue_wait(queue, done, 8, -1);
	CHECK_EQ(n, 8);
	for (int i = 0; i < n; i++) {
		CHECK(done[i].status == 0 || done[i].status == -ESTALE);
		if (done[i].status == 0)
			CHECK_EQ(count_wrong(s.memory + done[i].cookie * 65536, s.ino,
					     done[i].cookie * 65536, 60000),
				 0);
	}
	set_delay_us(0);
	end(&s);
}

static void test_revoked_key_and_lost_connection_show_in_completions(void)
{
	struct scene s;
	begin(&s);
	const struct pml_client_events silent = {.is_silent = true};
	pml_client_set_events(s.client, &silent);
	struct pml_client_queue *queue = new_queue(&s, 4);
	struct pml_client_lease *lease = rig_lease(s.client, s.ino, 0, FILE_BYTES, false);
	struct pml_client_completion done[4];
	CHECK_EQ(fake_fs_truncate(s.rig.fs, s.ino, 4096), 0);
	/* The notice may not have come yet: then the key says so. */
	int err = queue_read(queue, lease, s.memory, 0, 100, 1);
	CHECK(err == 0 || err == -EKEYREVOKED);
	if (!err) {
		CHECK_EQ(pml_client_queue_wait(queue, done, 4, -1), 1);
		CHECK_EQ(done[0].status, -EKEYREVOKED);
	}
	CHECK_EQ(pml_client_return(lease), -EKEYREVOKED);
	pml_client_close(s.client);

	s.client = rig_connect(&s.rig);
	queue = new_queue(&s, 4);
	lease = rig_lease(s.client, s.ino, 0, 4096, false);
	set_delay_us(50000);
	for (uint64_t i = 0; i < 4; i++)
		CHECK_EQ(queue_read(queue, lease, s.memory + i * 4096, 0, 4096, i), 0);
	rig_stop_server(&s.rig);
	for (int taken = 0, n; taken < 4; taken += n) {
		n = pml_client_queue_wait(queue, done, 4, 5000);
		REQUIRE(n > 0);
		for (int i = 0; i < n; i++)
			CHECK(done[i].status != -EACCES && done[i].status != -EAGAIN);
		/* The server ends leases before connections: either word may come first. */
		CHECK(done[n - 1].status == -ENOTCONN || done[n - 1].status == -EKEYREVOKED ||
		      done[n - 1].status == -ESTALE || done[n - 1].status == 0);
	}
	CHECK(pml_client_lease_status(lease) != 0);
	(void)pml_client_return(lease);
	end(&s);
}

/* Also for who only looks, and has no time limit of its own that would show it. */
static void test_transfers_that_do_not_complete_end_the_connection(void)
{
	for (int is_waiting = 0; is_waiting < 2; is_waiting++) {
		struct scene s;
		begin(&s);
		struct pml_client *client;
		char reason[256];
		REQUIRE(pml_client_connect(s.rig.url, 1000, &client, reason) == 0);
		struct pml_client_queue *queue;
		struct pml_client_completion c = {.status = 1};
		REQUIRE(pml_client_queue_new(client, 1, &queue) == 0);
		struct pml_client_lease *lease = rig_lease(client, s.ino, 0, 4096, false);
		/* What moves has time, however often one looks. */
		for (int i = 0; i < 10; i++) {
			CHECK_EQ(queue_read(queue, lease, s.memory, 0, 100, 1), 0);
			while (pml_client_queue_wait(queue, &c, 1, 0) == 0)
				sched_yield();
			CHECK_EQ(c.status, 0);
		}
		set_delay_us(20000000);
		uint64_t from_ms = pml_now_ms();
		CHECK_EQ(queue_read(queue, lease, s.memory, 0, 100, 1), 0);
		while (pml_client_queue_wait(queue, &c, 1, is_waiting ? -1 : 0) == 0)
			sched_yield();
		CHECK_EQ(c.status, -ENOTCONN);
		CHECK(strstr(pml_client_reason(client), "do not complete") != NULL);
		CHECK(pml_now_ms() - from_ms >= 990 && pml_now_ms() - from_ms < 10000);
		set_delay_us(0);
		CHECK_EQ(pml_client_return(lease), -ENOTCONN);
		pml_client_close(client);
		end(&s);
	}
}

/* ---- several threads ----------------------------------------------------- */

struct reader {
	struct scene *s;
	struct pml_client_lease *lease; /* one for all */
	pthread_t thread;
	atomic_uint count;
	int err; /* that ended it */
};

static void *read_until_error(void *arg)
{
	struct reader *r = arg;
	uint8_t data[100];
	while (r->err == 0) {
		r->err = read_one(r->lease, data, 4096, sizeof(data));
		atomic_fetch_add(&r->count, 1);
	}
	return NULL;
}

/*
 * A transfer begins without a lock while the lease is stopped and returned.  One that began
 * behind the return would meet a dead key.
 */
static void test_no_transfer_begins_behind_the_return(void)
{
	struct scene s;
	begin_patiently(&s, 20000);
	atomic_store(&post_delay_us, 500);
	for (int round = 0; round < 20; round++) {
		struct reader readers[4] = {0};
		struct pml_client_lease *lease = rig_lease(s.client, s.ino, 0, FILE_BYTES, false);
		for (size_t i = 0; i < PML_ARRAY_LEN(readers); i++) {
			readers[i].s = &s;
			readers[i].lease = lease;
			pthread_create(&readers[i].thread, NULL, read_until_error, &readers[i]);
		}
		for (size_t i = 0; i < PML_ARRAY_LEN(readers); i++)
			while (atomic_load(&readers[i].count) < 5)
				sched_yield();
		CHECK_EQ(fake_fs_truncate(s.rig.fs, s.ino, FILE_BYTES - round - 1), 0);
		for (size_t i = 0; i < PML_ARRAY_LEN(readers); i++) {
			pthread_join(readers[i].thread, NULL);
			CHECK_EQ(readers[i].err, -ESTALE);
		}
		CHECK_EQ(pml_client_return(lease), 0);
	}
	atomic_store(&post_delay_us, 0);
	struct pml_lease_stats stats;
	pml_lease_stats(s.rig.mgr, &stats);
	CHECK_EQ(stats.revoked, 0);
	end(&s);
}

struct worker {
	struct scene *s;
	struct pml_client_lease *lease; /* one for all */
	pthread_t thread;
	unsigned int number;
	size_t wrong;
	int err;
};

static void read_by_queue(struct worker *w, uint8_t *memory)
{
	struct pml_client_queue *queue = new_queue(w->s, 8);
	struct pml_client_completion done[8];
	for (int round = 0; round < 20; round++) {
		for (uint64_t i = 0; i < 8; i++)
			w->err |= queue_read(queue, w->lease, memory + i * 8192,
					     (w->number * 31 + i) * 8191, 8192, i);
		for (int taken = 0, n; taken < 8; taken += n) {
			/* Some wait, some only look. */
			bool is_looking = w->number % 4 == 3;
			n = pml_client_queue_wait(queue, done, 8, is_looking ? 0 : 20000);
			for (int i = 0; i < n; i++)
				w->err |= done[i].status;
			if (n == 0 && is_looking)
				sched_yield();
			else if (n == 0)
				w->err = -ETIMEDOUT;
		}
		for (uint64_t i = 0; i < 8; i++)
			w->wrong += count_wrong(memory + i * 8192, w->s->ino,
						(w->number * 31 + i) * 8191, 8192);
	}
	pml_client_queue_free(queue);
}

static void *work(void *arg)
{
	struct worker *w = arg;
	uint8_t *memory = malloc(65536);
	if (w->number % 2) {
		read_by_queue(w, memory);
	} else {
		for (unsigned int i = 0; i < 200; i++) {
			size_t len = i % 5 ? 4096 : 65536;
			uint64_t first = (w->number * 100 + i) * 777;
			w->err |= read_one(w->lease, memory, first, len);
			w->wrong += count_wrong(memory, w->s->ino, first, len);
		}
	}
	free(memory);
	return NULL;
}

static void test_threads_and_queues_share_a_client(void)
{
	struct scene s;
	begin(&s);
	struct worker workers[8] = {0};
	struct pml_client_lease *lease = rig_lease(s.client, s.ino, 0, FILE_BYTES, false);
	for (unsigned int i = 0; i < PML_ARRAY_LEN(workers); i++) {
		workers[i].s = &s;
		workers[i].lease = lease;
		workers[i].number = i;
		pthread_create(&workers[i].thread, NULL, work, &workers[i]);
	}
	for (size_t i = 0; i < PML_ARRAY_LEN(workers); i++) {
		pthread_join(workers[i].thread, NULL);
		CHECK_EQ(workers[i].err, 0);
		CHECK_EQ(workers[i].wrong, 0);
	}
	CHECK_EQ(pml_client_return(lease), 0);
	end(&s);
}

int main(void)
{
	TAP_RUN(test_pieces_of_any_memory_are_read);
	TAP_RUN(test_pieces_of_any_memory_are_written);
	TAP_RUN(test_holes_are_zeros_in_each_piece);
	TAP_RUN(test_nothing_stays_registered_unless_asked);
	TAP_RUN(test_cache_keeps_merges_forgets_and_evicts);
	TAP_RUN(test_memory_that_cannot_be_registered_is_copied);
	TAP_RUN(test_memory_in_use_is_forgotten_afterwards);
	TAP_RUN(test_memory_in_use_twice_stays_until_the_second_end);
	TAP_RUN(test_queue_completes_each_transfer_once);
	TAP_RUN(test_queue_is_bounded_and_waits_no_longer_than_told);
	TAP_RUN(test_short_transfer_overtakes_a_long_one);
	TAP_RUN(test_recall_ends_transfers_that_nobody_waits_for);
	TAP_RUN(test_lease_may_be_returned_before_its_completions_are_taken);
	TAP_RUN(test_revoked_key_and_lost_connection_show_in_completions);
	TAP_RUN(test_transfers_that_do_not_complete_end_the_connection);
	TAP_RUN(test_no_transfer_begins_behind_the_return);
	TAP_RUN(test_threads_and_queues_share_a_client);
	return tap_done();
}
