/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * grant.c -- what a session asks for: to begin, to acquire, to commit
 *
 * A lease is entered in the table before its blocks are mapped, so that from
 * then on no operation changes their layout unseen (I4); pinning and making
 * keys happen without the table's lock.
 *
 * Threads: any; lock order in manager.h.
 */
#include <stdio.h>
#include <string.h>

#include "manager.h"

/* ---- sessions ----------------------------------------------------------- */

int pml_session_new(struct pml_lease_manager *mgr, const struct pml_holder_ops *ops,
		    void *session_arg, const char *peer, uint32_t uid, uint64_t *ret_session)
{
	struct pml_lease_session *session = calloc(1, sizeof(*session));
	if (!session)
		return -ENOMEM;
	session->ops = ops;
	session->arg = session_arg;
	session->uid = uid;
	(void)snprintf(session->peer, sizeof(session->peer), "%s", peer);

	uint64_t now_ms = pml_manager_lock(mgr);
	int err = pml_table_session_add(&mgr->table, session, now_ms);
	if (err == 0)
		*ret_session = session->id;
	pml_manager_unlock(mgr);
	if (err)
		free(session);
	return err;
}

void pml_session_set_identity(struct pml_lease_manager *mgr, uint64_t id, const char *identity)
{
	(void)pml_manager_lock(mgr);
	struct pml_lease_session *session = pml_table_session_find(&mgr->table, id);
	if (session)
		(void)snprintf(session->identity, sizeof(session->identity), "%s", identity);
	pml_manager_unlock(mgr);
}

uint32_t pml_session_term_ms(struct pml_lease_manager *mgr, uint64_t session)
{
	(void)pml_manager_lock(mgr);
	const struct pml_lease_session *found = pml_table_session_find(&mgr->table, session);
	uint32_t term_ms = found ? found->term_ms : 0;
	pml_manager_unlock(mgr);
	return term_ms;
}

void pml_session_renew(struct pml_lease_manager *mgr, uint64_t session)
{
	uint64_t now_ms = pml_manager_lock(mgr);
	pml_table_session_renew(&mgr->table, session, now_ms);
	pml_manager_unlock(mgr);
}

void pml_session_end(struct pml_lease_manager *mgr, uint64_t session, enum pml_end_reason why)
{
	uint64_t now_ms = pml_manager_lock(mgr);
	pml_table_session_end(&mgr->table, session, why, now_ms);
	pml_manager_unlock(mgr);
}

void pml_session_fence_again(struct pml_lease_manager *mgr, uint64_t session)
{
	pml_manager_lock(mgr);
	pml_table_fence_again(&mgr->table, session);
	pml_manager_unlock(mgr);
}

/* ---- acquire ------------------------------------------------------------ */

/* Enters @lease in the table as GRANTING.  @beside: lease number, 0: none. */
static int enter(struct pml_lease_manager *mgr, struct pml_lease *lease, uint64_t beside)
{
	struct pml_table *tab = &mgr->table;
	uint64_t session = lease->claim.session;
	uint64_t now_ms = pml_manager_lock(mgr);
	pml_table_session_renew(tab, session, now_ms);
	int err;
	if (beside) {
		const struct pml_lease *held = pml_table_find_held(tab, session, beside);
		err = held ? pml_table_insert_beside(tab, lease, held, now_ms) : -ESTALE;
	} else {
		err = pml_table_insert(tab, lease, now_ms);
	}
	pml_manager_unlock(mgr);
	return err;
}

static enum pml_pin_kind kind_of(const struct pml_claim *claim)
{
	if (claim->mode == PML_LEASE_WRITE)
		return PML_PIN_WRITE;
	return claim->is_shared ? PML_PIN_OWNED_READ : PML_PIN_READ;
}

/*
 * A range without blocks reads as zeros, and nothing of it could be fenced: who holds it would
 * take zeros for its bytes after it was revoked.  So its first bytes are lent all the same, of
 * a page of zeros, and a reader has to reach something of a lease before it believes in its
 * gaps (I10).  A local holder asks by ioctl and needs none.
 */
static struct pml_segment guard_of(const struct pml_claim *claim, uint64_t end_byte)
{
	static uint8_t zeros[PML_BLOCK_BYTES] __attribute__((aligned(PML_BLOCK_BYTES)));
	return (struct pml_segment){
		.first_byte = claim->first_byte,
		.len_bytes = PML_MIN(end_byte - claim->first_byte, sizeof(zeros)),
		.addr = zeros,
	};
}

/*
 * Pins the range as far as segments reach, and enters them in @lease.
 * Model: blocks_pin (tests/model/lease.pml).
 */
static int pin(struct pml_lease_manager *mgr, struct pml_lease *lease)
{
	const struct pml_claim *claim = &lease->claim;
	struct pml_segment at[PML_LEASE_SEGMENTS_MAX];
	size_t count = 0;
	uint64_t end_byte = 0;
	int err = pml_file_pin(lease->inode, claim->first_byte, claim->end_byte - claim->first_byte,
			       kind_of(claim), at, lease->max_segments, &count, &end_byte);
	if (err)
		return err;

	if (count == 0 && !lease->session->ops->is_local)
		at[count++] = guard_of(claim, end_byte);

	struct pml_lease_segment *segments = NULL;
	if (count > 0) {
		segments = calloc(count, sizeof(*segments));
		if (!segments) {
			/* No key was ever made (I3). */
			for (size_t i = 0; i < count; i++)
				if (at[i].nblocks > 0)
					pml_fs_unpin(mgr->fs, &at[i]);
			return -ENOMEM;
		}
	}
	for (size_t i = 0; i < count; i++)
		segments[i].at = at[i];

	pml_manager_lock(mgr);
	pml_table_pinned(&mgr->table, lease, segments, (uint32_t)count, end_byte);
	pml_manager_unlock(mgr);
	return 0;
}

/* Model: key_make (tests/model/lease.pml). */
static int make_keys(struct pml_lease *lease)
{
	const struct pml_lease_session *session = lease->session;
	bool is_write = lease->claim.mode == PML_LEASE_WRITE;
	for (uint32_t i = 0; i < lease->nsegments; i++) {
		struct pml_lease_segment *segment = &lease->segments[i];
		int err = session->ops->key_new(session->arg, &segment->at, is_write,
						!is_write || lease->claim.may_read, &segment->rkey,
						&segment->key);
		if (err)
			return err;
		assert(segment->key);
	}
	return 0;
}

/* @size_before: of the file, before blocks were pinned: up to it all of them hold bytes. */
static void fill_grant(const struct pml_lease *lease, uint64_t size_before, uint64_t file_size,
		       uint32_t term_ms, struct pml_grant *ret_grant)
{
	ret_grant->lease_id = lease->id;
	ret_grant->first_byte = lease->claim.first_byte;
	ret_grant->end_byte = lease->claim.end_byte;
	ret_grant->file_size = file_size;
	ret_grant->written_end = PML_MIN(size_before, lease->claim.end_byte);
	ret_grant->term_ms = term_ms;
	ret_grant->nsegments = lease->nsegments;
	for (uint32_t i = 0; i < lease->nsegments; i++) {
		const struct pml_lease_segment *segment = &lease->segments[i];
		ret_grant->segments[i] = (struct pml_grant_segment){
			.first_byte = segment->at.first_byte,
			.len_bytes = segment->at.len_bytes,
			.remote_addr = (uint64_t)(uintptr_t)segment->at.addr,
			.device_byte = segment->at.block * PML_BLOCK_BYTES +
				       segment->at.first_byte % PML_BLOCK_BYTES,
			.rkey = segment->rkey,
		};
	}
}

/* Ends an entered lease that cannot be granted.  @lease may be gone on return. */
static void abandon(struct pml_lease_manager *mgr, struct pml_lease *lease)
{
	struct pml_inode *inode = lease->inode;
	uint64_t now_ms = pml_manager_lock(mgr);
	/* What was pinned goes by way of the fence thread, which drops the inode too. */
	bool is_pinned = lease->segments != NULL;
	pml_table_grant_failed(&mgr->table, lease, now_ms);
	pml_manager_unlock(mgr);
	if (!is_pinned)
		pml_inode_put(inode, 1);
}

/* Pins, makes keys and grants.  On error the lease ends by itself. */
static int grant(struct pml_lease_manager *mgr, struct pml_lease *lease,
		 struct pml_grant *ret_grant)
{
	/* Not after: somebody else may grow the file then, and blocks here stay unwritten. */
	uint64_t size_before = pml_inode_size(lease->inode);
	pthread_rwlock_rdlock(&mgr->pin_lock);
	int err = pin(mgr, lease);
	pthread_rwlock_unlock(&mgr->pin_lock);
	if (err == 0)
		err = make_keys(lease);
	if (err) {
		abandon(mgr, lease);
		return err;
	}

	uint64_t file_size = pml_inode_size(lease->inode);
	struct pml_claim claim = lease->claim;
	uint64_t now_ms = pml_manager_lock(mgr);
	err = pml_table_granted(&mgr->table, lease, now_ms);
	if (err == 0)
		fill_grant(lease, size_before, file_size, lease->session->term_ms, ret_grant);
	pml_manager_unlock(mgr);
	if (err)
		abandon(mgr, lease);
	else if (claim.mode == PML_LEASE_WRITE)
		pml_manager_contents_changed(mgr, claim.ino, 0, 0, false);
	return err;
}

static int check_range(uint64_t first_byte, uint64_t len_bytes)
{
	if (len_bytes == 0 || len_bytes > PML_LEASE_BYTES_MAX)
		return -EINVAL;
	if (first_byte > (uint64_t)PML_FILE_BYTES_MAX - len_bytes)
		return -EFBIG;
	return 0;
}

/* A file that lost its last name before its lease was in the table. */
static void note_orphan(struct pml_lease_manager *mgr, const struct pml_inode *inode)
{
	if (!pml_inode_is_orphan(inode))
		return;
	uint64_t now_ms = pml_manager_lock(mgr);
	pml_table_orphaned(&mgr->table, pml_inode_ino(inode), now_ms);
	pml_manager_unlock(mgr);
}

/* @beside: number of the write lease that the new one stands in for, or 0. */
static int acquire(struct pml_lease_manager *mgr, const struct pml_claim *claim, uint64_t beside,
		   struct pml_grant *ret_grant)
{
	struct pml_lease *lease = calloc(1, sizeof(*lease));
	if (!lease)
		return -ENOMEM;
	lease->claim = *claim;
	int err = pml_inode_get(mgr->fs, claim->ino, &lease->inode);
	if (err) {
		free(lease);
		return err;
	}
	err = enter(mgr, lease, beside);
	if (err) {
		pml_inode_put(lease->inode, 1);
		free(lease);
		return err;
	}
	note_orphan(mgr, lease->inode);
	return grant(mgr, lease, ret_grant);
}

int pml_lease_request(struct pml_lease_manager *mgr, uint64_t session,
		      const struct pml_lease_wish *wish, struct pml_grant *ret_grant)
{
	int err = check_range(wish->first_byte, wish->len_bytes);
	if (err)
		return err;
	struct pml_claim claim = {
		.session = session,
		.ino = wish->ino,
		.first_byte = wish->first_byte,
		.end_byte = wish->first_byte + wish->len_bytes,
		.mode = wish->mode,
		.is_shared = wish->is_shared,
		.is_unbreakable = wish->is_unbreakable,
		.may_read = wish->may_read,
	};
	/* A writer owns whole blocks (I5); pml_file_pin() rounds out the same way. */
	if (claim.mode == PML_LEASE_WRITE)
		pml_rules_round_out(&claim.first_byte, &claim.end_byte);
	if (claim.end_byte > (uint64_t)PML_FILE_BYTES_MAX)
		return -EFBIG;
	return acquire(mgr, &claim, 0, ret_grant);
}

static void count_downgrade(struct pml_lease_manager *mgr)
{
	pml_manager_lock(mgr);
	mgr->table.stats.downgraded++;
	pml_manager_unlock(mgr);
}

int pml_lease_downgrade(struct pml_lease_manager *mgr, uint64_t session, uint64_t lease_id,
			struct pml_grant *ret_grant)
{
	pml_manager_lock(mgr);
	const struct pml_lease *held = pml_table_find_held(&mgr->table, session, lease_id);
	struct pml_claim claim = {.session = 0};
	if (held)
		claim = held->claim;
	pml_manager_unlock(mgr);
	if (!held)
		return -ESTALE;
	if (claim.mode != PML_LEASE_WRITE)
		return -EINVAL;
	claim.mode = PML_LEASE_READ;
	int err = acquire(mgr, &claim, lease_id, ret_grant);
	if (err)
		return err;
	/* It may have been revoked meanwhile: that ends it as well. */
	err = pml_lease_return(mgr, session, lease_id);
	if (!err)
		count_downgrade(mgr);
	return err == -ESTALE ? 0 : err;
}

/* ---- the holder's requests ---------------------------------------------- */

int pml_lease_ack(struct pml_lease_manager *mgr, uint64_t session, uint64_t lease_id)
{
	uint64_t now_ms = pml_manager_lock(mgr);
	pml_table_session_renew(&mgr->table, session, now_ms);
	int err = pml_table_ack(&mgr->table, session, lease_id, now_ms);
	pml_manager_unlock(mgr);
	return err;
}

/*
 * A fence waits for commits that run, so one that has to wait for other leases must not count
 * as running: else this lease would end no sooner than those.
 * Model: file_commit (tests/model/lease.pml).
 */
int pml_lease_commit(struct pml_lease_manager *mgr, uint64_t session, uint64_t lease_id,
		     uint64_t first_byte, uint64_t len_bytes, uint64_t new_size_bytes,
		     bool is_durable, struct pml_waiter *w)
{
	struct pml_lease *lease = NULL;
	uint64_t now_ms = pml_manager_lock(mgr);
	pml_table_session_renew(&mgr->table, session, now_ms);
	int err = pml_table_commit_begin(&mgr->table, session, lease_id, first_byte, len_bytes,
					 &lease);
	if (!err && w)
		w->is_returning = lease->state == PML_LEASE_RECALLING;
	pml_manager_unlock(mgr);
	if (err)
		return err;

	/* Without the lock.  The lease may be fenced meanwhile, but stays pinned. */
	uint64_t ino = lease->claim.ino;
	err = pml_file_commit(lease->inode, first_byte, len_bytes, new_size_bytes, is_durable, w);

	pml_manager_lock(mgr);
	pml_table_commit_end(&mgr->table, lease);
	pml_manager_unlock(mgr);
	if (err == 0)
		pml_manager_contents_changed(mgr, ino, first_byte, len_bytes, true);
	return err;
}
