/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * lease.pml -- the lease protocol: who does what when, and what must hold
 *
 * One process for each thread or party that acts by itself.  A client may do at any
 * moment whatever a client can do: use a key that it has, send any request, be silent,
 * die.  A request that is lost is one that is not sent.  So each good and each lying
 * client is among the runs, and each of its messages may be late or lost.
 *
 * Chosen by -D: the size of a run (state.pml), POLICY, LEASE_POLICY, OPS, END; what may happen
 * besides requests (ACCESS, BREAKS, EXPIRE, COMMITS, GRANT_FAILS, FENCE_FAILS, CANCEL, UNMOUNT_TOO,
 * CRASH); what clients ask for (OWN_FILES, READER_AND_WRITER); TIMED with BOUND, or LIVENESS;
 * and the mutations.  tests/model/model.t has the runs; docs/lease-protocol.md, "Model".
 */

#ifndef POLICY
#define POLICY P_REVOKE
#endif
#ifndef LEASE_POLICY
#define LEASE_POLICY POLICY
#endif

/* Layout operations, and those of a run. */
#define TRUNCATE 1
#define PUNCH	 2
#define WRITE	 4
#define CLONE	 8
#define GROW	 16 /* a commit of the last client, which may wait */
#ifndef OPS
#define OPS (TRUNCATE | PUNCH | WRITE)
#endif
#define HAS(op) ((OPS) & (op))
#ifndef END
#define END FB /* places before the end of the file at first */
#endif

/* Answers that a run may see besides "go" and "parked". */
#ifdef FENCE_FAILS
#define MAY_BE_EIO EIO
#else
#define MAY_BE_EIO OK
#endif
#if defined(CANCEL) || defined(UNMOUNT_TOO)
#define MAY_BE_EINTR EINTR
#else
#define MAY_BE_EINTR OK
#endif

#include "state.pml"
#include "blocks.pml"
#include "fence.pml"
#include "breaks.pml"
#include "table.pml"

#if DEADLINE_TICKS > 0 || POLICY == P_EBUSY
#define MAY_BE_EBUSY EBUSY
#else
#define MAY_BE_EBUSY OK
#endif

/* ---- the server's end: process, or machine ---- */

#define P_SERVING(c) (c)
#define P_FENCING    (NC)
#define P_PROGRAM(w)   (NC + 1 + (w))
#ifdef CRASH
bool is_cut[NC + 1 + NW]; /* this process has lost all that it knew */
#define UNLESS_CUT(p, begin) unless { atomic { is_cut[p] -> is_cut[p] = false; goto begin } }
#else
#define UNLESS_CUT(p, begin)
#endif

inline lease_forget(w_l)
{
	L[w_l].state = GONE;
	L[w_l].is_write = false;
	L[w_l].file = 0;
	L[w_l].first = 0;
	L[w_l].end = 0;
	L[w_l].why = 0;
	L[w_l].is_recall_pending = false;
	L[w_l].is_end_pending = false;
	L[w_l].has_clocks = false;
	L[w_l].is_acked = false;
	L[w_l].was_granted = false;
	L[w_l].is_fenced = false;
	L[w_l].is_pinned = false;
	L[w_l].has_segments = false;
	L[w_l].ack = 0;
	L[w_l].drain = 0;
	L[w_l].commits = 0;
	L[w_l].fence = NOWHERE;
	L[w_l].retry = 0;
	L[w_l].place = 0;
	L[w_l].step = 0;
	L[w_l].tries = 0;
	for (m : 0 .. FB - 1) {
		seg_block[AT(w_l, m)] = NONE;
		seg_key[AT(w_l, m)] = false
	};
	skip
}

/* ---- the table as a whole ---- */

/* Nothing that is under way has been forgotten: each state has somebody who ends it. */
inline table_audit()
{
	for (h : 0 .. NW - 1) {
		if
		:: B[h].is_parked ->
			find_in_the_way(h, any);
			assert(I9 || any) /* else it would never be resumed */
		:: else
		fi
	}
	for (i : 0 .. NC - 1) {
		assert(I9 || L[i].state != FENCING || L[i].fence != NOWHERE ||
		       (L[i].commits > 0 && L[i].is_fenced));
		assert(I9 || L[i].state != RECALLING || !L[i].has_clocks || L[i].drain > 0);
		assert(Policy || POLICY == P_REVOKE || LEASE_POLICY == P_REVOKE ||
		       (L[i].ack == 0 && L[i].drain == 0));
		assert(Policy || POLICY != P_EBUSY || LEASE_POLICY != P_EBUSY || L[i].state != RECALLING)
	};
	skip
}

/* ---- clients and their network cards ---- */

/* I10: an access that succeeds is one to the file's bytes; I5: a writer's alone. */
inline access_ends(x_l, x_p)
{
	is_busy[AT(x_l, x_p)] = false;
#ifndef NO_I10
	assert(I10 || (map[BLOCK(key_file[AT(x_l, x_p)], x_p)] == key_block[AT(x_l, x_p)]))
#endif
}

proctype client(byte c)
{
	byte p;
end:
	do
	:: atomic { !S[c].is_known && !is_closing -> d_step { session_add(c) } }
#ifdef BREAKS
	/* It dies, uses a dead key, or the network breaks; or the server is never told. */
	:: is_connected[c] -> is_connected[c] = false
#endif
#ifdef ACCESS
	:: atomic {
		is_connected[c] && key[AT(c, 0)] == LIVE && !is_busy[AT(c, 0)] ->
		is_busy[AT(c, 0)] = true
	}
	:: d_step { is_busy[AT(c, 0)] -> access_ends(c, 0) }
#if FB > 1
	:: atomic {
		is_connected[c] && key[AT(c, 1)] == LIVE && !is_busy[AT(c, 1)] ->
		is_busy[AT(c, 1)] = true
	}
	:: d_step { is_busy[AT(c, 1)] -> access_ends(c, 1) }
#endif
#endif
	od
}

/* ---- the thread that serves one client (lease/grant.c, rdma/session.c) ---- */

#define IS_SERVED(c) (is_connected[c] && S[c].is_known && !S[c].is_ended)

/* Any range, any mode. */
inline choose_claim(c)
{
#ifdef OWN_FILES
	/* Each client writes a file of its own. */
	L[c].is_write = true;
	L[c].file = c;
#elif defined(READER_AND_WRITER)
	L[c].is_write = (c == NC - 1);
#else
	if
	:: L[c].is_write = true
	:: L[c].is_write = false
	fi;
#endif
#if LENT_FILES > 1 && !defined(OWN_FILES)
	if
	:: L[c].file = 0
	:: L[c].file = 1
	fi;
#endif
#if FB > 1
	if
	:: L[c].first = 0; L[c].end = 1
	:: L[c].first = 0; L[c].end = 2
	:: L[c].first = 1; L[c].end = 2
	fi
#else
	L[c].end = 1
#endif
}

/*
 * Under the inode's lock: a write lease makes the blocks its own, a read lease ends where
 * the file does.  f_err: no space, or nothing there.
 * Code: pin() in lease/grant.c.
 */
inline blocks_pin(l, f_err, f_end)
{
	f_err = false;
	f_end = L[l].end;
	if
	:: L[l].is_write ->
		for (m : L[l].first .. L[l].end - 1) {
			place_own(L[l].file, m, l, f_err)
		}
	:: !L[l].is_write && L[l].first >= size[L[l].file] -> f_err = true
	:: else ->
		if
		:: f_end > size[L[l].file] -> f_end = size[L[l].file]
		:: else
		fi
	fi;
	if
	:: !f_err ->
		for (m : L[l].first .. f_end - 1) {
			j = map[BLOCK(L[l].file, m)];
			seg_block[AT(l, m)] = j;
			if
			:: j != NONE ->
				pins[j]++;
				L[l].has_segments = true
			:: else
			fi
		}
		L[l].is_pinned = true
	:: else -> blocks_trim(l)
	fi
}

/* What was lent behind the end of the file and not committed goes back. */
inline blocks_trim(l)
{
	if
	:: L[l].is_write ->
		for (m : L[l].first .. L[l].end - 1) {
			if
			:: m >= size[L[l].file] -> map_set(L[l].file, m, NONE, l)
			:: else
			fi
		}
	:: else
	fi
}

/* Code: make_keys() in lease/grant.c. */
inline key_make(l, n_at)
{
	seg_key[AT(l, n_at)] = true;
	key[AT(l, n_at)] = LIVE;
	key_file[AT(l, n_at)] = L[l].file;
	key_block[AT(l, n_at)] = seg_block[AT(l, n_at)]
}

/*
 * The lease must still be pinned.  A commit may grow the file: then the block that its end
 * was in is made the file's own, if no lease is in the way of that.
 * Code: pml_lease_commit() in lease/grant.c.
 */
inline file_commit(l, o_grow)
{
	for (m : L[l].first .. L[l].end - 1) {
		assert(I4 || (L[l].is_pinned && map[BLOCK(L[l].file, m)] == seg_block[AT(l, m)]))
	}
	j = size[L[l].file];
	any = false;
	if
	:: (o_grow) && L[l].end > j ->
		if
		:: j > 0 && map[BLOCK(L[l].file, j - 1)] != NONE &&
		   shares[map[BLOCK(L[l].file, j - 1)]] > 1 ->
#ifndef COMMIT_DOES_NOT_ASK
			for (i : 0 .. NC - 1) {
				any = any || (L[i].state != GONE &&
					      IS_IN_THE_WAY(i, L[l].file, j - 1, j, false))
			}
#endif
			if
			:: !any -> place_own(L[l].file, j - 1, NONE, any)
			:: else
			fi
		:: else
		fi;
		if
		:: !any -> size[L[l].file] = L[l].end
		:: else
		fi
	:: else
	fi
}

proctype serving(byte c)
{
	byte to, at, err;
	bool is_bad;
begin:
	{
end:
	do
	:: atomic { !is_connected[c] && S[c].is_known && !S[c].is_ended ->
		d_step { session_end(c, SESSION); table_audit() }
	}
	:: atomic { IS_SERVED(c) && IS_HELD(c) ->
		d_step { lease_return(c); table_audit() }
	}
	:: atomic { IS_SERVED(c) && L[c].state == RECALLING && !L[c].is_acked ->
		d_step { lease_ack(c) }
	}
#ifdef LIVENESS
	/* It renews the session and does nothing else: fairness makes nobody return a lease. */
	:: IS_SERVED(c) -> skip
#endif
#ifdef COMMITS
	:: atomic { IS_SERVED(c) && IS_HELD(c) && L[c].is_write ->
		d_step { commit_begin(c, err); err = OK };
		goto committing
	}
#endif
#ifndef PIN_BEFORE_TABLE
	:: atomic { IS_SERVED(c) && L[c].state == GONE ->
		choose_claim(c);
		d_step {
			lease_insert(c, err);
			is_bad = (err != OK);
			err = OK;
			if
			:: is_bad -> lease_forget(c)
			:: else
			fi;
			table_audit()
		};
		if
		:: is_bad -> is_bad = false
		:: else -> goto granting
		fi
	}
	od;

granting:
	atomic { !is_locked[L[c].file] ->
		d_step { blocks_pin(c, is_bad, to) };
		if
		:: is_bad -> goto abandon
		:: else
		fi
	}
#else
	:: atomic { IS_SERVED(c) && L[c].state == GONE && !L[c].is_pinned ->
		choose_claim(c);
		!is_locked[L[c].file] ->
		d_step { blocks_pin(c, is_bad, to) };
		if
		:: is_bad -> d_step { is_bad = false; to = 0; lease_forget(c) }; goto begin
		:: else
		fi
	}
	break
	od;
	atomic {
		d_step { lease_insert(c, err); is_bad = (err != OK) };
		/* The mutation need not undo: only runs that end here are cut. */
		!is_bad
	}
#endif
	d_step { lease_pinned(c, to); at = L[c].first; table_audit() };
	do
	:: atomic { at < L[c].end ->
		if
		:: seg_block[AT(c, at)] != NONE ->
			d_step { key_make(c, at) }
#ifdef GRANT_FAILS
		:: seg_block[AT(c, at)] != NONE -> is_bad = true; goto abandon
#endif
		:: seg_block[AT(c, at)] == NONE
		fi;
		at++
	}
	:: atomic { at == L[c].end ->
		d_step {
			lease_granted(c, err);
			is_bad = (err != OK);
			to = 0; at = 0; err = OK;
			table_audit();
			blocks_audit()
		};
		if
		:: is_bad -> goto abandon
		:: else -> goto begin
		fi
	}
	od;

abandon:
	atomic {
		skip;
		d_step { is_bad = false; to = 0; at = 0; err = OK; grant_failed(c); table_audit() }
	};
	goto begin;

#ifdef COMMITS
committing:
	atomic { !is_locked[L[c].file] ->
		if
		:: d_step { file_commit(c, true) }
		:: d_step { file_commit(c, false) }
		fi
	}
	d_step { commit_end(c); table_audit(); blocks_audit() };
	goto begin
#endif
	} UNLESS_CUT(P_SERVING(c), begin)
}

/* ---- who fences (lease/fencer.c): a thread, and with FENCERS=2 who takes returns, too ---- */

#ifdef TIMED
byte fence_clock; /* how long a step of the ladder may still take */
#endif

/*
 * I3: pins are dropped when every key is confirmed dead.
 * Code: unpin_locked() in lease/fencer.c.
 */
inline blocks_unpin(l)
{
	for (m : L[l].first .. L[l].end - 1) {
#ifndef NO_I3
		assert(I3 || (!IS_REACHED(AT(l, m))));
#endif
		if
		:: seg_block[AT(l, m)] != NONE -> pins[seg_block[AT(l, m)]]--
		:: else
		fi
	}
	L[l].is_pinned = false
}

/*
 * No new access by this key; the harder step ends the connection.
 * Code: fence_key_locked() in lease/fencer.c.
 */
inline key_fence(l, n_at)
{
	key[AT(l, n_at)] = DYING;
	if
	:: L[l].step == STEP_CONNECTION -> is_connected[l] = false
	:: else
	fi;
#ifdef TIMED
	fence_clock = STARTED(FENCE_TICKS);
#endif
	skip
}

proctype fencing()
{
	byte l, at;
	bool is_idle, is_bad;
begin:
	{
end:
	do
	:: atomic {
		L[front].fence == QUEUED -> l = front;
		d_step { fence_next(l, at, is_idle); table_audit() };
		if
		:: is_idle -> d_step { is_idle = false; at = 0; l = 0 }
		:: !is_idle && at == NONE -> goto unpin
		:: else -> goto fence
		fi
	}
	od;

fence:
	skip;
	d_step { key_fence(l, at) };
	atomic {
		if
#ifndef UNPIN_EARLY
		:: !is_busy[AT(l, at)] ->
			d_step { key[AT(l, at)] = DEAD; key_file[AT(l, at)] = 0; key_block[AT(l, at)] = NONE }
#else
		:: key[AT(l, at)] = DEAD
#endif
#ifdef FENCE_FAILS
		:: d_step { key[AT(l, at)] = LIVE; is_bad = true }
#endif
#if defined(TIMED) && !defined(FENCE_FAILS)
		/* Too slow.  The step that ends the connection always works here. */
		:: L[l].step == STEP_KEY && fence_clock == 1 ->
			d_step { key[AT(l, at)] = LIVE; is_bad = true }
#endif
		fi;
		d_step {
			fence_result(l, is_bad);
			is_bad = false; at = 0; l = 0;
#ifdef TIMED
			fence_clock = 0;
#endif
			table_audit()
		};
		goto begin
	}

unpin:
	atomic { skip; d_step { blocks_unpin(l) } };
	/* The lease is still in the table: nobody else has the range yet. */
	atomic { !is_locked[L[l].file] -> d_step { blocks_trim(l) } }
	d_step {
		lease_gone(l);
		at = 0; l = 0;
		table_audit();
		blocks_audit()
	};
	goto begin
	} UNLESS_CUT(P_FENCING, begin)
}

/* ---- the clock thread: time, and the effects that are due (lease/manager.c) ---- */

proctype clock(byte c)
{
end:
	do
	:: atomic { L[c].ack == 1 -> d_step { clock_ack(c); table_audit() } }
	:: atomic { L[c].drain == 1 -> d_step { clock_drain(c); table_audit() } }
	:: atomic { L[c].fence == LATER && L[c].retry == 1 -> d_step { fence_retry(c) } }
#ifdef EXPIRE
	:: atomic { S[c].is_live -> d_step { session_expire(c); table_audit() } }
#endif
	od
}

/* ---- local programs (fs/) ---- */

/*
 * A commit that grows the file waits as a change of a local program does.  What waits does not
 * count as a commit that runs: its own lease may end.
 */
inline grow_ask(g_w, g_err)
{
	commit_begin(NC - 1, g_err);
	if
	:: g_err == OK ->
		j = size[L[NC - 1].file];
		if
		:: L[NC - 1].end > j && j > 0 && map[BLOCK(L[NC - 1].file, j - 1)] != NONE &&
		   shares[map[BLOCK(L[NC - 1].file, j - 1)]] > 1 ->
			break_admit(g_w, L[NC - 1].file, j - 1, j, false, g_err)
		:: else
		fi;
		if
		:: g_err != OK -> commit_end(NC - 1)
		:: else
		fi
	:: else
	fi
}

/* It was let: its blocks are pinned and in place. */
inline file_grow(l)
{
	for (m : L[l].first .. L[l].end - 1) {
		assert(I4 || (L[l].is_pinned && map[BLOCK(L[l].file, m)] == seg_block[AT(l, m)]))
	}
	j = size[L[l].file];
	any = false;
	if
	:: L[l].end > j && j > 0 && map[BLOCK(L[l].file, j - 1)] != NONE ->
		place_own(L[l].file, j - 1, NONE, any)
	:: else
	fi;
	if
	:: L[l].end > j && !any -> size[L[l].file] = L[l].end
	:: else
	fi;
	commit_end(l)
}

/* Asks as the filesystem does, one change after the other; nothing has changed yet. */
inline ask(a_w, a_op, a_p, a_err)
{
	a_err = OK;
	if
	:: a_op == TRUNCATE -> break_admit(a_w, 0, a_p, FB, false, a_err)
	:: a_op == PUNCH -> break_admit(a_w, 0, a_p, a_p + 1, false, a_err)
	:: a_op == WRITE ->
		if
		:: a_p >= size[0] -> break_admit(a_w, 0, size[0], a_p + 1, false, a_err)
		:: else
		fi;
		if
		:: a_err == OK && (map[BLOCK(0, a_p)] == NONE || shares[map[BLOCK(0, a_p)]] > 1) ->
			break_admit(a_w, 0, a_p, a_p + 1, false, a_err)
		:: else
		fi
	:: a_op == CLONE ->
		break_admit(a_w, 0, a_p, a_p + 1, true, a_err);
		if
		:: a_err == OK -> break_admit(a_w, NF - 1, a_p, a_p + 1, false, a_err)
		:: else
		fi
	:: a_op == GROW -> grow_ask(a_w, a_err)
	fi
}

inline change(g_op, g_p)
{
	any = false;
	if
	:: g_op == TRUNCATE ->
		for (m : g_p .. FB - 1) {
			map_set(0, m, NONE, NONE)
		}
		size[0] = g_p
	:: g_op == PUNCH -> map_set(0, g_p, NONE, NONE)
	:: g_op == WRITE ->
		place_own(0, g_p, NONE, any);
		if
		:: !any && g_p >= size[0] -> size[0] = g_p + 1
		:: else
		fi
	:: g_op == CLONE ->
		j = map[BLOCK(0, g_p)];
		if
		:: j != NONE && j != map[BLOCK(NF - 1, g_p)] ->
			/* The share is taken before the block is mapped. */
			shares[j]++;
			map_set(NF - 1, g_p, j, NONE)
		:: else
		fi
	:: g_op == GROW -> file_grow(NC - 1)
	fi;
	blocks_audit()
}

proctype program(byte w)
{
	byte op, p, err;
begin:
	{
end:
	do
	:: atomic {
		if
		:: HAS(TRUNCATE) -> op = TRUNCATE
		:: HAS(PUNCH) -> op = PUNCH
		:: HAS(WRITE) -> op = WRITE
		:: HAS(CLONE) -> op = CLONE
		:: HAS(GROW) -> op = GROW
		fi;
#if FB > 1
		if
		:: p = 0
		:: p = 1
		fi;
#endif
		is_running[w] = true;
		break
	}
	od;

again:
	atomic { !is_locked[0] && !is_locked[NF - 1] ->
		d_step {
			is_locked[0] = true;
			is_locked[NF - 1] = true;
			ask(w, op, p, err);
			table_audit();
			/* What may be answered, by policy. */
			assert(Policy || err == OK || err == EINPROGRESS ||
			       err == MAY_BE_EIO || err == MAY_BE_EBUSY || err == MAY_BE_EINTR ||
			       (op == GROW && err == ESTALE));
			assert(Policy || POLICY != P_EBUSY || !B[w].is_queued)
		}
	}
	if
	:: err == OK -> goto go
	:: err == EINPROGRESS -> d_step { err = OK; is_locked[0] = false; is_locked[NF - 1] = false }
	:: else -> goto done
	fi;
parked:
	atomic { B[w].is_resume_due ->
		B[w].is_resume_due = false;
#ifdef SKIP_RECHECK
		if
		:: B[w].verdict == OK ->
			!is_locked[0] && !is_locked[NF - 1] ->
			d_step { is_locked[0] = true; is_locked[NF - 1] = true };
			goto go
		:: else
		fi;
#endif
		goto again
	}
go:
	atomic { skip; d_step { change(op, p) } };
done:
	atomic {
		skip;
		d_step {
			err = OK; op = 0; p = 0;
			is_locked[0] = false;
			is_locked[NF - 1] = false;
			is_running[w] = false;
			break_done(w)
		}
	};
	goto begin
	} UNLESS_CUT(P_PROGRAM(w), begin)
}

#ifdef CANCEL
proctype signals(byte w)
{
end:
	do
	:: atomic { is_running[w] && !B[w].is_cancelled && B[w].verdict == OK ->
		d_step { break_cancel(w) }
	}
	od
}
#endif

#if DEADLINE_TICKS > 0
proctype deadlines(byte w)
{
end:
	do
	:: atomic { B[w].is_parked && B[w].deadline == 1 ->
		d_step { waiter_deadline(w) }
	}
	od
}
#endif

#ifdef UNMOUNT_TOO
proctype unmount()
{
	atomic { d_step { table_close(); table_audit() } }
}
#endif

#ifdef CRASH
/* The process dies, the device keeps layouts; the next mount counts shares anew (I1, I2). */
proctype crash()
{
	d_step {
		for (k : 0 .. NC - 1) {
			lease_forget(k);
			S[k].is_known = false;
			S[k].is_live = false;
			S[k].is_ended = false;
			S[k].fence_from = STEP_KEY;
			is_connected[k] = false
		}
		front = 0;
		for (k : 0 .. NC * FB - 1) {
			key[k] = DEAD;
			key_file[k] = 0;
			key_block[k] = NONE;
			is_busy[k] = false
		}
		for (k : 0 .. NW - 1) {
			B[k].is_parked = false;
			B[k].is_resume_due = false;
			break_done(k);
			is_running[k] = false
		}
		for (k : 0 .. NF - 1) {
			is_locked[k] = false
		}
		for (k : 0 .. NB - 1) {
			pins[k] = 0;
			shares[k] = 0
		}
		for (k : 0 .. NF * FB - 1) {
			if
			:: map[k] != NONE -> shares[map[k]]++
			:: else
			fi
		}
		for (k : 0 .. NC + NW) {
			is_cut[k] = true
		}
	}
}
#endif

#ifdef TIMED
/* Whoever can go on by himself does so before time passes. */
#define IS_HURRIED(l)                                                                     \
	(((L[l].fence == TAKEN || L[l].fence == QUEUED) && fence_clock == 0) ||            \
	 L[l].ack == 1 || L[l].drain == 1 || L[l].retry == 1 || L[l].state == GRANTING ||  \
	 (S[l].is_known && !S[l].is_ended && !is_connected[l]))
#define IS_RUN_HURRIED(w) (is_running[w] && (!B[w].is_parked || B[w].deadline == 1))

proctype time()
{
end:
	do
	:: atomic {
		!IS_HURRIED(0) && !IS_HURRIED(NC - 1) && !IS_RUN_HURRIED(0) &&
		!IS_RUN_HURRIED(NW - 1) && fence_clock != 1 ->
		d_step {
			for (i : 0 .. NC - 1) {
				L[i].ack = L[i].ack - (L[i].ack > 1);
				L[i].drain = L[i].drain - (L[i].drain > 1);
				L[i].retry = L[i].retry - (L[i].retry > 1)
			}
			fence_clock = fence_clock - (fence_clock > 1);
			for (i : 0 .. NW - 1) {
				B[i].deadline = B[i].deadline - (B[i].deadline > 1);
				if
				:: B[i].is_parked ->
					B[i].waited++;
					assert(I9 || (B[i].waited <= BOUND))
				:: else
				fi
			}
		}
	}
	od
}
#endif

#ifdef LIVENESS
/* I9: under revoke whoever waits gets done, whatever holders do (run with weak fairness). */
ltl ends { [] (B[0].is_queued -> <> !B[0].is_queued) }
#endif

init
{
	atomic {
		d_step {
			for (k : 0 .. NC - 1) {
				lease_forget(k)
			}
			for (k : 0 .. NF * FB - 1) {
				map[k] = NONE
			}
			for (k : 0 .. NC * FB - 1) {
				key_block[k] = NONE
			}
			for (k : 0 .. NF - 1) {
				size[k] = END
			}
			/* Each file has a block, and with two they share it. */
			map[0] = 0;
			shares[0] = 1;
#if NF > 1
			map[FB] = 0;
			shares[0] = 2
#endif
		};
		run client(0); run serving(0); run clock(0);
#if NC > 1
		run client(1); run serving(1); run clock(1);
#endif
		run fencing();
#if FENCERS > 1
		run fencing();
#endif
#if OPS
		run program(0);
#endif
#if NW > 1
		run program(1);
#endif
#ifdef CANCEL
		run signals(0);
#endif
#if DEADLINE_TICKS > 0
		run deadlines(0);
#endif
#ifdef UNMOUNT_TOO
		run unmount();
#endif
#ifdef CRASH
		run crash();
#endif
#ifdef TIMED
		run time()
#endif
	}
}
