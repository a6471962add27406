/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * client_window.h -- client library: the leases that the file layer holds on one file
 *
 * A window is a lease that the library took for a file by itself, with what was written
 * under it and not committed.  All open files of a client on one handle share its windows:
 * two leases of one session on the same bytes would exclude each other.
 *
 * Life: taking (asked for) -> live -> going (no new user) -> leaving (committed and
 * returned, by the last user or by whoever sent it away) -> gone.
 */
#ifndef PML_RDMA_CLIENT_WINDOW_H
#define PML_RDMA_CLIENT_WINDOW_H

#include "client_i.h"

enum pml_window_state {
	PML_WINDOW_TAKING,
	PML_WINDOW_LIVE,
	PML_WINDOW_GOING,
	PML_WINDOW_LEAVING,
};

struct pml_windows;

/* All but what is constant under pml_windows.lock. */
struct pml_window {
	struct pml_list link; /* pml_windows.list, last used is last */
	struct pml_windows *windows;
	struct pml_client_lease *lease; /* from live on */
	uint64_t first_byte;		/* of the file; taking: what is asked for */
	uint64_t end_byte;
	bool for_write;
	bool is_recalled; /* while taking: it goes after its first use */
	enum pml_window_state state;
	uint32_t users;
	uint64_t dirty_first; /* written and not committed; first == end: nothing */
	uint64_t dirty_end;
	bool is_committing; /* what was dirty is on its way */
};

struct pml_windows {
	struct pml_list link; /* pml_client.files, under files_lock */
	uint32_t opens;	      /* under files_lock */
	struct pml_client *client;
	struct pml_client_handle handle;
	bool is_shared; /* takes shared leases */

	pthread_mutex_t lock;
	pthread_cond_t changed; /* a window's state or users */
	/* Under lock. */
	struct pml_list list;
	uint32_t count;
	uint32_t max_count;
	uint64_t max_bytes; /* of one window */
	uint32_t wait_ms;
	uint64_t file_size;    /* as last heard */
	uint64_t next_byte[2]; /* where a sequential reader, writer goes on */
	uint64_t grown[2];     /* bytes of the last window that one took, doubled */
	bool is_fragmented;    /* a lease ended before what was asked for */
	uint32_t freezes;      /* no window is given out or taken */
	/* One window that the worker takes ahead. */
	struct pml_list ahead_link; /* pml_client.ahead, under the client's lock */
	uint64_t ahead_byte;
	bool ahead_for_write;
	bool is_ahead; /* queued or being taken */
	/* Losses so far, and the last one. */
	uint64_t losses;
	int lost_err;
	char lost_reason[PML_REASON_BYTES];
};

/* Finds or makes what the files of a handle share; counts an open. */
int pml_windows_open(struct pml_client *client, const struct pml_client_handle *handle,
		     const struct pml_client_file_options *options, bool is_shared,
		     struct pml_windows **ret_windows) PML_MUST_CHECK;
/* The last one commits and returns everything.  Losses are in @windows until then. */
void pml_windows_close(struct pml_windows *windows);

/*
 * Gets a window that covers byte @at, for @len_bytes from there if it can be.  -ENODATA: reading
 * at or behind the end of the file; -EAGAIN; what pml_client_lease() returns.
 */
int pml_window_get(struct pml_windows *windows, uint64_t at, uint64_t len_bytes, bool for_write,
		   struct pml_window **ret_window) PML_MUST_CHECK;
/* Lets go of it.  [@first_byte, @end_byte) has been written; equal: nothing. */
void pml_window_put(struct pml_window *window, uint64_t first_byte, uint64_t end_byte);
/* The same, and its lease has ended, or should. */
void pml_window_put_bad(struct pml_window *window);
/* [@at, @to) is moved under @window: if that is sequential, takes the next one when it is time. */
void pml_window_ahead(struct pml_window *window, uint64_t at, uint64_t to);
/* A read or write has come to @end_byte. */
void pml_windows_moved(struct pml_windows *windows, bool for_write, uint64_t end_byte);

/* Commits all that is written. */
int pml_windows_commit(struct pml_windows *windows) PML_MUST_CHECK;
/* Commits and gives back everything from @first_byte on. */
void pml_windows_give_up(struct pml_windows *windows, uint64_t first_byte);
/* Gives back everything, and lets nobody take anything until it is thawed. */
void pml_windows_freeze(struct pml_windows *windows);
/* @size_bytes: of the file now; UINT64_MAX: as before. */
void pml_windows_thaw(struct pml_windows *windows, uint64_t size_bytes);
/* End of what is written and not committed, 0: nothing. */
uint64_t pml_windows_dirty_end(struct pml_windows *windows);

/* Returns leases that no file uses just now, because the session may have no more. */
void pml_files_shed(struct pml_client *client, struct pml_windows *first);

/* In the worker, without locks: takes one window ahead. */
void pml_windows_take_ahead(struct pml_windows *windows);

#endif
