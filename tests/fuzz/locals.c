/* SPDX-License-Identifier: BSD-3-Clause */
/* locals.c -- see locals.h */
#include "locals.h"

#include "peer.h"
#include "race.h"
#include "violation.h"

static void move_bytes(struct pml_fs *fs, const struct local_op *op)
{
	uint8_t block[PML_BLOCK_BYTES];
	if (HAS_RACE_DETECTOR)
		return;
	for (uint64_t i = 0; i < op->nblocks; i++) {
		uint64_t byte = (op->first_block + i) * PML_BLOCK_BYTES;
		if (op->kind == LOCAL_WRITE) {
			fill_pattern(block, op->ino, byte, sizeof(block));
			fake_fs_write(fs, op->ino, byte, block, sizeof(block));
		} else {
			fake_fs_read(fs, op->ino, byte, block, sizeof(block));
			peer_judge_bytes("local read", block, op->ino, byte, sizeof(block));
		}
	}
}

static void perform(struct pml_fs *fs, const struct local_op *op)
{
	int err = 0;
	if (op->kind == LOCAL_TRUNCATE)
		err = fake_fs_truncate(fs, op->ino, op->first_block * PML_BLOCK_BYTES);
	else if (op->kind == LOCAL_PUNCH)
		err = fake_fs_punch(fs, op->ino, op->first_block, op->nblocks);
	else
		move_bytes(fs, op);
	if (err && err != -EBUSY && err != -EAGAIN && err != -EINTR)
		VIOLATION("a local operation (%d) ends with %d", op->kind, err);
}

static void *run(void *arg)
{
	struct locals *locals = arg;
	pthread_mutex_lock(&locals->lock);
	while (!locals->is_over || locals->count > 0) {
		if (locals->count == 0) {
			pthread_cond_wait(&locals->changed, &locals->lock);
			continue;
		}
		struct local_op op = locals->ops[locals->first];
		locals->first = (locals->first + 1) % LOCALS_MAX;
		locals->count--;
		pthread_mutex_unlock(&locals->lock);
		perform(locals->fs, &op);
		pthread_mutex_lock(&locals->lock);
	}
	pthread_mutex_unlock(&locals->lock);
	return NULL;
}

void locals_start(struct locals *locals, struct pml_fs *fs)
{
	*locals = (struct locals){.fs = fs};
	pthread_mutex_init(&locals->lock, NULL);
	pthread_cond_init(&locals->changed, NULL);
	if (pthread_create(&locals->thread, NULL, run, locals))
		VIOLATION("no thread");
}

void locals_put(struct locals *locals, const struct local_op *op)
{
	pthread_mutex_lock(&locals->lock);
	if (locals->count < LOCALS_MAX) {
		locals->ops[(locals->first + locals->count) % LOCALS_MAX] = *op;
		locals->count++;
		pthread_cond_signal(&locals->changed);
	}
	pthread_mutex_unlock(&locals->lock);
}

void locals_stop(struct locals *locals)
{
	pthread_mutex_lock(&locals->lock);
	locals->is_over = true;
	pthread_cond_signal(&locals->changed);
	pthread_mutex_unlock(&locals->lock);
	pthread_join(locals->thread, NULL);
	pthread_mutex_destroy(&locals->lock);
	pthread_cond_destroy(&locals->changed);
}
