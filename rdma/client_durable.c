/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * client_durable.c -- client library: how what was written becomes durable, and is made known
 *
 * A write that has completed is placed, which may mean the server's caches.  The grant says
 * by which rule it becomes durable: the server flushes at a commit; or this client does, by
 * FLUSH or by a read behind the writes, without the server's processor.  Where the grant's
 * rule needs what this side's device does not have, the server is asked, which always works.
 *
 * A commit also makes the range known: the file grows, and programs on the server see what is
 * new.  That takes a request.  A flush alone takes one only past what the file's blocks held
 * when they were lent: behind that a power failure would leave zeros (fs/lend.c).
 *
 * Threads: any; on one connection operations take effect in the order of posting, so a flush
 * is behind all writes that have completed.
 */
#include <string.h>

#include "client_i.h"

/*
 * From here on a commit flushes from this side first: the server's processor flushes a
 * smaller range in less time than one more round trip takes.
 */
#define FLUSH_BEFORE_COMMIT_BYTES (UINT64_C(64) << 10)

/* ---- sources of operations ------------------------------------------------ */

/* The next part of the range that one segment holds; false: no more. */
static bool next_part(struct pml_transfer *t, const struct pml_wire_segment **ret_segment,
		      uint64_t *ret_end)
{
	const struct pml_client_lease *lease = t->lease;
	while (t->segment < lease->nsegments) {
		const struct pml_wire_segment *s = &lease->segments[t->segment];
		uint64_t end = PML_MIN(s->first_byte + s->len_bytes, t->end_byte);
		if (end > t->at_byte) {
			*ret_segment = s;
			*ret_end = end;
			return true;
		}
		t->segment++;
	}
	return false;
}

/* The operation at byte @at of the file, in segment @s; all but a FLUSH from the transfer's memory.
 */
static struct pml_data_op op_at(const struct pml_transfer *t, const struct pml_wire_segment *s,
				enum pml_data_kind kind, uint64_t at, uint64_t bytes)
{
	return (struct pml_data_op){
		.kind = kind,
		.mr = kind == PML_DATA_FLUSH ? NULL : t->pieces[0].mr,
		.buf = kind == PML_DATA_FLUSH ? NULL : t->pieces[0].data,
		.bytes = (uint32_t)bytes,
		.remote_addr = s->remote_addr + (at - s->first_byte),
		.rkey = s->rkey,
	};
}

static bool next_flush(struct pml_transfer *t, struct pml_data_op *ret_op)
{
	const struct pml_wire_segment *s;
	uint64_t end;
	if (!next_part(t, &s, &end))
		return false;
	uint64_t bytes = PML_MIN(end - t->at_byte, (uint64_t)PML_DATA_BYTES_MAX);
	*ret_op = op_at(t, s, PML_DATA_FLUSH, t->at_byte, bytes);
	t->at_byte += bytes;
	return true;
}

/* A read of the last byte, behind all writes through the segment's key. */
static bool next_read_behind(struct pml_transfer *t, struct pml_data_op *ret_op)
{
	const struct pml_wire_segment *s;
	uint64_t end;
	if (!next_part(t, &s, &end))
		return false;
	*ret_op = op_at(t, s, PML_DATA_READ, end - 1, 1);
	t->at_byte = end;
	return true;
}

static bool next_atomic_write(struct pml_transfer *t, struct pml_data_op *ret_op)
{
	const struct pml_wire_segment *s;
	uint64_t end;
	if (!next_part(t, &s, &end))
		return false;
	*ret_op = op_at(t, s, PML_DATA_ATOMIC_WRITE, t->at_byte, PML_ATOMIC_WRITE_BYTES);
	t->at_byte = end;
	return true;
}

static int begin(struct pml_transfer *t, struct pml_client_lease *lease, uint64_t first_byte,
		 uint64_t len_bytes, bool (*next)(struct pml_transfer *t, struct pml_data_op *op))
{
	pml_transfer_init(t, lease, first_byte);
	t->bytes = len_bytes;
	t->end_byte = first_byte + len_bytes;
	t->next = next;
	int err = next == next_flush ? 0 : pml_transfer_use_scratch(t, PML_ATOMIC_WRITE_BYTES);
	if (err)
		return err;
	err = pml_transfer_use(t);
	if (err)
		pml_transfer_drop(t);
	return err;
}

/* ---- the rule ------------------------------------------------------------- */

/* The grant's, as far as this connection's device goes along. */
static enum pml_durable_rule rule_of(const struct pml_client_lease *lease)
{
	if (lease->durable_rule != PML_DURABLE_BY_FLUSH)
		return lease->durable_rule;
	struct pml_connection *connection = pml_connection_get(lease->client);
	bool can = pml_ep_can(connection->ep) & PML_EP_CAN_FLUSH;
	pml_connection_put(connection);
	return can ? PML_DURABLE_BY_FLUSH : PML_DURABLE_BY_COMMIT;
}

int pml_client_lease_durability(const struct pml_client_lease *lease)
{
	return lease->for_write ? (int)rule_of(lease) : 0;
}

int pml_durable_begin(struct pml_transfer *t, struct pml_client_lease *lease, uint64_t first_byte,
		      uint64_t len_bytes)
{
	enum pml_durable_rule rule = rule_of(lease);
	assert(rule != PML_DURABLE_BY_COMMIT);
	return begin(t, lease, first_byte, len_bytes,
		     rule == PML_DURABLE_BY_FLUSH ? next_flush : next_read_behind);
}

static int finish(struct pml_transfer *t)
{
	pml_data_run(t->lease->client, t);
	return pml_transfer_end(t);
}

int pml_durable_check(const struct pml_client_lease *lease, uint64_t first_byte, uint64_t len_bytes,
		      const char *what)
{
	if (lease->for_write && len_bytes > 0 && first_byte >= lease->first_byte &&
	    first_byte < lease->end_byte && len_bytes <= lease->end_byte - first_byte)
		return 0;
	return pml_client_fail(-EINVAL, "%s: outside the lease, or not a write lease", what);
}

bool pml_durable_is_ours(const struct pml_client_lease *lease, uint64_t end_byte)
{
	return rule_of(lease) != PML_DURABLE_BY_COMMIT &&
	       end_byte <= atomic_load(&lease->written_end);
}

/* ---- what the program calls ------------------------------------------------ */

/* The blocks of the range hold what was written now, and no more zeros for others. */
static void note_committed(struct pml_client_lease *lease, uint64_t first_byte, uint64_t end_byte,
			   uint64_t new_size_bytes)
{
	struct pml_client *client = lease->client;
	end_byte = PML_MIN(end_byte, new_size_bytes);
	pthread_mutex_lock(&client->lock);
	uint64_t was = atomic_load(&lease->written_end);
	if (first_byte <= was && end_byte > was)
		atomic_store(&lease->written_end, end_byte);
	pthread_mutex_unlock(&client->lock);
}

static int ask_to_commit(struct pml_client_lease *lease, uint64_t first_byte, uint64_t len_bytes,
			 uint64_t new_size_bytes, bool is_durable)
{
	int err = pml_client_lease_begin(lease);
	if (err)
		return err;
	union pml_message msg = {.commit = {.lease_id = lease->id,
					    .first_byte = first_byte,
					    .len_bytes = len_bytes,
					    .new_size_bytes = new_size_bytes,
					    .flags = is_durable ? PML_WIRE_COMMIT_IS_DURABLE : 0}};
	union pml_message reply;
	err = pml_client_request(lease->client, &msg, sizeof(msg.commit), PML_WIRE_COMMIT, "commit",
				 &reply);
	pml_client_lease_end_use(lease);
	/* That means fenced; the notice may still be on its way. */
	if (err == -ESTALE)
		err = pml_client_fail(-EKEYREVOKED, "commit: the lease was revoked before it");
	if (!err)
		note_committed(lease, first_byte, first_byte + len_bytes, new_size_bytes);
	pml_client_lease_put(lease);
	return err;
}

int pml_client_commit(struct pml_client_lease *lease, uint64_t first_byte, uint64_t len_bytes,
		      uint64_t new_size_bytes)
{
	int err = pml_durable_check(lease, first_byte, len_bytes, "commit");
	bool is_ours = !err && len_bytes >= FLUSH_BEFORE_COMMIT_BYTES &&
		       rule_of(lease) != PML_DURABLE_BY_COMMIT;
	struct pml_transfer t;
	if (!err && is_ours)
		err = pml_durable_begin(&t, lease, first_byte, len_bytes);
	if (!err && is_ours)
		err = finish(&t);
	return err ? err : ask_to_commit(lease, first_byte, len_bytes, new_size_bytes, is_ours);
}

int pml_client_flush(struct pml_client_lease *lease, uint64_t first_byte, uint64_t len_bytes)
{
	int err = pml_durable_check(lease, first_byte, len_bytes, "flush");
	if (err)
		return err;
	uint64_t end_byte = first_byte + len_bytes;
	if (!pml_durable_is_ours(lease, end_byte)) {
		bool is_behind = end_byte > atomic_load(&lease->written_end);
		return ask_to_commit(lease, first_byte, len_bytes, is_behind ? end_byte : 0, false);
	}
	struct pml_transfer t;
	err = pml_durable_begin(&t, lease, first_byte, len_bytes);
	return err ? err : finish(&t);
}

int pml_client_write_atomic(struct pml_client_lease *lease, const void *data, uint64_t first_byte)
{
	int err = pml_durable_check(lease, first_byte, PML_ATOMIC_WRITE_BYTES, "atomic write");
	if (err)
		return err;
	if (first_byte % PML_ATOMIC_WRITE_BYTES)
		return pml_client_fail(-EINVAL, "atomic write: byte %llu is no multiple of 8",
				       (unsigned long long)first_byte);
	struct pml_transfer t;
	err = begin(&t, lease, first_byte, PML_ATOMIC_WRITE_BYTES, next_atomic_write);
	if (err)
		return err;
	memcpy(t.pieces[0].data, data, PML_ATOMIC_WRITE_BYTES);
	return finish(&t);
}
