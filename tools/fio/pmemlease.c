/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * pmemlease.c -- an engine of fio: one-sided reads and writes under leases
 *
 * fio loads it with ioengine=external:/path/to/fio-pmemlease.so.  It is built against the
 * source of the fio that is to load it (meson -Dfio_source=DIR), as that has no headers
 * installed, and uses nothing of ours but libpmemlease.
 *
 * Each job has a connection and a queue of its own, and for each file a few leases, taken
 * where it is read or written.  A lease that was recalled is taken again and the operation
 * repeated.  An operation that no single lease covers is done at once, in pieces.  A lease is
 * for one direction: a job that mixes them, or that shares a file with others, takes shared
 * leases, or returns one to take the other.
 *
 * Manual: docs/man/fio-pmemlease.7.scd.
 */
#include "fio.h"
#include "optgroup.h"

#include "pmemleasefs/client.h"

#define LEASES_MAX   64
#define EVENTS_MAX   256
#define WAIT_MS	     30000
#define REPEATS_MAX  1000
#define REASON_BYTES 256

struct engine_options {
	void *pad; /* fio takes offset 0 for "not set" */
	char *url;
	unsigned long long lease_bytes;
	unsigned int is_shared;
};

/* A lease on [first, end) of one file. */
struct held {
	struct pml_client_lease *lease; /* NULL: a free place */
	uint64_t first;
	uint64_t end;
	bool for_write;
};

struct engine_file {
	struct pml_client_handle handle;
	struct held held[LEASES_MAX];
	unsigned int next; /* place to give up when none is free */
	uint64_t written_end;
};

struct engine_data {
	struct pml_client *client;
	struct pml_client_queue *queue;
	struct pml_client_buffer *buffer; /* all of fio's I/O memory */
	struct io_u *events[EVENTS_MAX];
};

static struct fio_option option_table[] = {
	{
		.name = "url",
		.lname = "server",
		.type = FIO_OPT_STR_STORE,
		.off1 = offsetof(struct engine_options, url),
		.help = "rdma://HOST:PORT or soft://HOST:PORT",
		.category = FIO_OPT_C_ENGINE,
		.group = FIO_OPT_G_INVALID,
	},
	{
		.name = "lease_size",
		.lname = "size of a lease",
		.type = FIO_OPT_STR_VAL,
		.off1 = offsetof(struct engine_options, lease_bytes),
		.def = "64m",
		.minval = 4096,
		.maxval = 1ull << 30,
		.help = "bytes that one lease covers at most",
		.category = FIO_OPT_C_ENGINE,
		.group = FIO_OPT_G_INVALID,
	},
	{
		.name = "shared",
		.lname = "shared leases",
		.type = FIO_OPT_BOOL,
		.off1 = offsetof(struct engine_options, is_shared),
		.def = "0",
		.help = "take leases beside those of other jobs and clients that are shared",
		.category = FIO_OPT_C_ENGINE,
		.group = FIO_OPT_G_INVALID,
	},
	{.name = NULL},
};

static int fail(struct thread_data *td, const char *what, int err, const char *reason)
{
	log_err("pmemlease: %s: %s\n", what, reason && reason[0] ? reason : strerror(-err));
	td_verror(td, -err, what);
	return 1;
}

/* The path of a file on the server: fio's names are relative to its root. */
static void path_of(const struct fio_file *f, char *ret_path, size_t room)
{
	snprintf(ret_path, room, "/%s", f->file_name + strspn(f->file_name, "/"));
}

static bool does_write(const struct thread_data *td)
{
	return td_write(td);
}

/* ---- leases -------------------------------------------------------------- */

static bool takes_shared(const struct thread_data *td)
{
	const struct engine_options *o = td->eo;
	return o->is_shared || td_rw(td);
}

static int give_back(struct engine_file *file, struct held *held)
{
	int err = 0;
	if (held->for_write && file->written_end)
		err = pml_client_commit(held->lease, held->first, held->end - held->first,
					file->written_end);
	(void)pml_client_return(held->lease);
	held->lease = NULL;
	return err;
}

/* The lease on a byte that serves a direction; one that is in its way is returned. */
static struct held *find_held(struct thread_data *td, struct engine_file *file, uint64_t first,
			      bool for_write)
{
	for (unsigned int i = 0; i < LEASES_MAX; i++) {
		struct held *held = &file->held[i];
		if (!held->lease || first < held->first || first >= held->end)
			continue;
		bool is_live = pml_client_lease_status(held->lease) == 0;
		if (is_live && held->for_write == for_write)
			return held;
		if (!is_live || !takes_shared(td))
			(void)give_back(file, held);
	}
	return NULL;
}

/* A place for one more; gives another lease up when there is none. */
static struct held *find_place(struct engine_file *file)
{
	for (unsigned int i = 0; i < LEASES_MAX; i++)
		if (!file->held[i].lease)
			return &file->held[i];
	struct held *held = &file->held[file->next++ % LEASES_MAX];
	(void)give_back(file, held);
	return held;
}

static int take(struct thread_data *td, struct engine_file *file, struct held *held, uint64_t from,
		uint64_t bytes)
{
	struct engine_data *data = td->io_ops_data;
	unsigned int kind = (held->for_write ? PML_CLIENT_WRITE : 0) |
			    (takes_shared(td) ? PML_CLIENT_SHARED : 0);
	int err = pml_client_lease_with(data->client, &file->handle, from, bytes, kind, WAIT_MS,
					&held->lease);
	if (err) {
		held->lease = NULL;
		return err;
	}
	held->first = from;
	held->end = pml_client_lease_end(held->lease);
	return 0;
}

/* A live lease on the byte @first. */
static int hold(struct thread_data *td, struct io_u *io_u, uint64_t first, struct held **ret_held)
{
	struct engine_file *file = FILE_ENG_DATA(io_u->file);
	const struct engine_options *o = td->eo;
	bool for_write = io_u->ddir == DDIR_WRITE;
	*ret_held = find_held(td, file, first, for_write);
	if (*ret_held)
		return 0;

	struct held *held = find_place(file);
	uint64_t from = first - first % o->lease_bytes;
	uint64_t end = min(from + (uint64_t)o->lease_bytes,
			   max(io_u->file->real_file_size, (uint64_t)first + 1));
	held->for_write = for_write;
	int err = take(td, file, held, from, end - from);
	if (!err && held->end <= first) {
		/* A fragmented file: the lease ends before the byte that is wanted. */
		(void)give_back(file, held);
		err = take(td, file, held, first, end - first);
	}
	if (!err)
		*ret_held = held;
	return err;
}

static bool may_repeat(int err)
{
	return err == -ESTALE || err == -EKEYREVOKED || err == -EAGAIN;
}

/* ---- transfers ------------------------------------------------------------ */

/* Does an operation at once, piece by piece, until it is done. */
static int transfer_now(struct thread_data *td, struct io_u *io_u)
{
	uint64_t done = 0;
	for (int repeats = 0; done < io_u->xfer_buflen && repeats < REPEATS_MAX;) {
		struct held *held;
		uint64_t first = io_u->offset + done;
		int err = hold(td, io_u, first, &held);
		if (!err) {
			struct iovec iov = {
				(char *)io_u->xfer_buf + done,
				min((uint64_t)(io_u->xfer_buflen - done), held->end - first)};
			err = io_u->ddir == DDIR_WRITE
				      ? pml_client_writev(held->lease, &iov, 1, first)
				      : pml_client_readv(held->lease, &iov, 1, first);
			if (!err)
				done += iov.iov_len;
		}
		if (err && !may_repeat(err))
			return err;
		if (err)
			repeats++;
	}
	return done == io_u->xfer_buflen ? 0 : -EBUSY;
}

static int commit_file(struct fio_file *f)
{
	struct engine_file *file = FILE_ENG_DATA(f);
	for (unsigned int i = 0; file->written_end && i < LEASES_MAX; i++) {
		struct held *held = &file->held[i];
		if (!held->lease || !held->for_write)
			continue;
		int err = pml_client_commit(held->lease, held->first, held->end - held->first,
					    file->written_end);
		if (err)
			return err;
	}
	return 0;
}

/* What is not a transfer: a flush, which is a commit here, or nothing. */
static enum fio_q_status do_sync(struct io_u *io_u)
{
	if (ddir_sync(io_u->ddir))
		io_u->error = -commit_file(io_u->file);
	else
		io_u->error = EOPNOTSUPP;
	return FIO_Q_COMPLETED;
}

static void note_write(struct io_u *io_u)
{
	struct engine_file *file = FILE_ENG_DATA(io_u->file);
	uint64_t end = io_u->offset + io_u->xfer_buflen;
	if (io_u->ddir == DDIR_WRITE && end > file->written_end)
		file->written_end = end;
}

static enum fio_q_status engine_queue(struct thread_data *td, struct io_u *io_u)
{
	struct engine_data *data = td->io_ops_data;
	fio_ro_check(td, io_u);
	if (!ddir_rw(io_u->ddir))
		return do_sync(io_u);

	struct held *held;
	int err = hold(td, io_u, io_u->offset, &held);
	if (!err && held->end - io_u->offset >= io_u->xfer_buflen) {
		const struct iovec iov = {io_u->xfer_buf, io_u->xfer_buflen};
		err = io_u->ddir == DDIR_WRITE
			      ? pml_client_queue_write(data->queue, held->lease, &iov, 1,
						       io_u->offset, (uintptr_t)io_u)
			      : pml_client_queue_read(data->queue, held->lease, &iov, 1,
						      io_u->offset, (uintptr_t)io_u);
		if (!err) {
			note_write(io_u);
			return FIO_Q_QUEUED;
		}
		if (err == -EAGAIN)
			return FIO_Q_BUSY;
	}
	if (!err || may_repeat(err))
		err = transfer_now(td, io_u);
	if (!err)
		note_write(io_u);
	io_u->error = (unsigned int)-err;
	return FIO_Q_COMPLETED;
}

static int engine_getevents(struct thread_data *td, unsigned int min_events,
			    unsigned int max_events, const struct timespec *timeout)
{
	struct engine_data *data = td->io_ops_data;
	unsigned int got = 0;
	if (max_events > EVENTS_MAX)
		max_events = EVENTS_MAX;
	do {
		struct pml_client_completion done[EVENTS_MAX];
		int n = pml_client_queue_wait(data->queue, done, max_events - got,
					      got < min_events ? WAIT_MS : 0);
		if (n < 0)
			return n;
		if (n == 0 && (timeout || pml_client_queue_pending(data->queue) == 0))
			break;
		for (int i = 0; i < n; i++) {
			struct io_u *io_u = (struct io_u *)(uintptr_t)done[i].cookie;
			int err = done[i].status;
			/* Its lease was recalled under way. */
			if (may_repeat(err))
				err = transfer_now(td, io_u);
			io_u->error = (unsigned int)-err;
			data->events[got++] = io_u;
		}
	} while (got < min_events);
	return (int)got;
}

static struct io_u *engine_event(struct thread_data *td, int event)
{
	struct engine_data *data = td->io_ops_data;
	return data->events[event];
}

/* ---- files ---------------------------------------------------------------- */

static int connect_server(struct thread_data *td, struct pml_client **ret_client)
{
	const struct engine_options *o = td->eo;
	char reason[REASON_BYTES] = "";
	if (!o->url)
		return fail(td, "url", -EINVAL, "give url=rdma://HOST:PORT or soft://HOST:PORT");
	int err = pml_client_connect(o->url, 0, ret_client, reason);
	return err ? fail(td, "connect", err, reason) : 0;
}

/* Sizes, before fio forks its jobs: the connection does not outlive this. */
static int engine_setup(struct thread_data *td)
{
	struct pml_client *client;
	struct fio_file *f;
	unsigned int i;
	if (connect_server(td, &client))
		return 1;
	int failed = 0;
	for_each_file(td, f, i)
	{
		struct pml_client_attr attr;
		char path[PATH_MAX];
		path_of(f, path, sizeof(path));
		int err = pml_client_stat(client, path, &attr);
		if (err && (err != -ENOENT || !does_write(td)))
			failed |= fail(td, path, err, pml_client_reason(client));
		uint64_t wanted = td->o.size / (td->o.nr_files ? td->o.nr_files : 1);
		f->real_file_size = err ? 0 : attr.size_bytes;
		if (does_write(td) && f->real_file_size < wanted)
			f->real_file_size = wanted;
		f->filetype = FIO_TYPE_FILE;
		fio_file_set_size_known(f);
	}
	pml_client_close(client);
	return failed;
}

static int engine_open_file(struct thread_data *td, struct fio_file *f)
{
	struct engine_data *data = td->io_ops_data;
	struct pml_client_attr attr;
	char path[PATH_MAX];
	path_of(f, path, sizeof(path));
	int err = does_write(td) ? pml_client_create(data->client, path, 0644, false, &attr)
				 : pml_client_stat(data->client, path, &attr);
	if (err)
		return fail(td, path, err, pml_client_reason(data->client));
	struct engine_file *file = calloc(1, sizeof(*file));
	if (!file)
		return fail(td, path, -ENOMEM, NULL);
	file->handle = attr.handle;
	FILE_SET_ENG_DATA(f, file);
	return 0;
}

static int engine_close_file(struct thread_data *td, struct fio_file *f)
{
	struct engine_file *file = FILE_ENG_DATA(f);
	if (!file)
		return 0;
	int err = 0;
	for (unsigned int i = 0; i < LEASES_MAX; i++)
		if (file->held[i].lease && give_back(file, &file->held[i]) && !err)
			err = -EIO;
	free(file);
	FILE_SET_ENG_DATA(f, NULL);
	return err ? fail(td, "commit", err, NULL) : 0;
}

static int engine_unlink_file(struct thread_data *td, struct fio_file *f)
{
	(void)td;
	(void)f;
	return 0; /* what is on the server stays */
}

/* ---- jobs ----------------------------------------------------------------- */

static int engine_init(struct thread_data *td)
{
	struct engine_data *data = calloc(1, sizeof(*data));
	if (!data)
		return 1;
	if (connect_server(td, &data->client)) {
		free(data);
		return 1;
	}
	int err = pml_client_queue_new(data->client, td->o.iodepth, &data->queue);
	if (err) {
		pml_client_close(data->client);
		free(data);
		return fail(td, "queue", err, NULL);
	}
	td->io_ops_data = data;
	return 0;
}

static void engine_cleanup(struct thread_data *td)
{
	struct engine_data *data = td->io_ops_data;
	if (!data)
		return;
	pml_client_queue_free(data->queue);
	pml_client_close(data->client);
	free(data);
	td->io_ops_data = NULL;
}

/* fio's memory is the fabric's: nothing is copied or registered on the way. */
static int engine_iomem_alloc(struct thread_data *td, size_t bytes)
{
	struct engine_data *data = td->io_ops_data;
	int err = pml_client_buffer_new(data->client, bytes, &data->buffer);
	if (err)
		return fail(td, "memory", err, pml_client_reason(data->client));
	td->orig_buffer = pml_client_buffer_data(data->buffer);
	return 0;
}

static void engine_iomem_free(struct thread_data *td)
{
	struct engine_data *data = td->io_ops_data;
	if (data && data->buffer)
		pml_client_buffer_free(data->buffer);
	td->orig_buffer = NULL;
}

/* fio looks for this name. */
struct ioengine_ops ioengine = {
	.name = "pmemlease",
	.version = FIO_IOOPS_VERSION,
	.flags = FIO_DISKLESSIO | FIO_NOEXTEND | FIO_NODISKUTIL | FIO_RAWIO | FIO_MEMALIGN,
	.setup = engine_setup,
	.init = engine_init,
	.queue = engine_queue,
	.getevents = engine_getevents,
	.event = engine_event,
	.cleanup = engine_cleanup,
	.open_file = engine_open_file,
	.close_file = engine_close_file,
	.unlink_file = engine_unlink_file,
	.iomem_alloc = engine_iomem_alloc,
	.iomem_free = engine_iomem_free,
	.options = option_table,
	.option_struct_size = sizeof(struct engine_options),
};
