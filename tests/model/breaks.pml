/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * breaks.pml -- layout operations that meet leases, as lease/waiters.c has them
 */

/* ---- resume ---- */

/* Code: resume() in lease/waiters.c. */
inline waiter_resume(r_w, r_verdict)
{
	assert(B[r_w].is_parked);
	B[r_w].is_parked = false;
	B[r_w].verdict = r_verdict;
	B[r_w].is_resume_due = true
}

/* Is any lease in the way of what the waiter waits for? */
inline find_in_the_way(f_w, f_any)
{
	f_any = false;
	for (i : 0 .. NC - 1) {
		f_any = f_any || (L[i].state != GONE &&
			IS_IN_THE_WAY(i, B[f_w].file, B[f_w].first, B[f_w].end,
				      B[f_w].writers_only))
	}
}

/* Code: pml_table_recheck_waiters() in lease/waiters.c. */
inline waiters_recheck(k_file, k_first, k_end)
{
	for (h : 0 .. NW - 1) {
		if
		:: B[h].is_parked && B[h].file == k_file &&
		   OVERLAPS(B[h].first, B[h].end, k_first, k_end) ->
			find_in_the_way(h, any);
			if
			:: !any -> waiter_resume(h, OK)
			:: else
			fi
		:: else
		fi
	};
	skip
}

/* Code: pml_table_fail_waiters() in lease/waiters.c. */
inline waiters_fail(x_l, x_verdict)
{
	for (h : 0 .. NW - 1) {
		if
		:: B[h].is_parked && IS_IN_THE_WAY(x_l, B[h].file, B[h].first, B[h].end,
						   B[h].writers_only) ->
			waiter_resume(h, x_verdict)
		:: else
		fi
	};
	skip
}

/* Code: pml_table_waiter_tick() in lease/waiters.c. */
inline waiter_deadline(t_w)
{
	waiter_resume(t_w, EBUSY)
}

/* ---- admit ---- */

/* Code: break_leases() in lease/waiters.c. */
inline break_recall(b_file, b_first, b_end, b_writers_only)
{
	for (i : 0 .. NC - 1) {
		if
		:: L[i].state != GONE && IS_IN_THE_WAY(i, b_file, b_first, b_end, b_writers_only) ->
			recall_start(i, POLICY == P_REVOKE)
		:: else
		fi
	};
	skip
}

/* Code: hold_former() in lease/waiters.c. */
inline break_hold(o_w, o_file, o_first, o_end, o_writers_only)
{
#ifdef FORGET_HOLDS
	for (i : 0 .. NF - 1) {
		B[o_w].holds[i] = false
	}
#endif
	if
	:: !B[o_w].holds[o_file] ->
		B[o_w].holds[o_file] = true;
		B[o_w].hold_first[o_file] = o_first;
		B[o_w].hold_end[o_file] = o_end;
		B[o_w].hold_writers_only[o_file] = o_writers_only
	:: else ->
		if
		:: o_first < B[o_w].hold_first[o_file] -> B[o_w].hold_first[o_file] = o_first
		:: else
		fi;
		if
		:: o_end > B[o_w].hold_end[o_file] -> B[o_w].hold_end[o_file] = o_end
		:: else
		fi;
		B[o_w].hold_writers_only[o_file] =
			B[o_w].hold_writers_only[o_file] && o_writers_only
	fi
}

/* Code: park() in lease/waiters.c. */
inline break_park(p_w, p_file, p_first, p_end, p_writers_only)
{
	if
	:: !B[p_w].is_queued ->
		B[p_w].is_queued = true;
#if DEADLINE_TICKS > 0
		B[p_w].deadline = STARTED(DEADLINE_TICKS)
#endif
	:: else
	fi;
	break_hold(p_w, p_file, p_first, p_end, p_writers_only);
	B[p_w].file = p_file;
	B[p_w].first = p_first;
	B[p_w].end = p_end;
	B[p_w].writers_only = p_writers_only;
	B[p_w].is_parked = true
}

/* Code: pml_table_admit() in lease/waiters.c. */
inline break_admit(a_w, a_file, a_first, a_end, a_writers_only, a_err)
{
	any = false;
	stuck = false;
	for (i : 0 .. NC - 1) {
		if
		:: L[i].state != GONE && IS_IN_THE_WAY(i, a_file, a_first, a_end, a_writers_only) ->
			any = true;
			stuck = stuck || L[i].state == STUCK
		:: else
		fi
	}
	if
	:: B[a_w].verdict != OK -> a_err = B[a_w].verdict
	:: B[a_w].verdict == OK && !any -> a_err = OK
	:: B[a_w].verdict == OK && any ->
		if
		:: stuck -> a_err = EIO
		:: !stuck && POLICY == P_EBUSY -> a_err = EBUSY
		:: !stuck && POLICY != P_EBUSY && (B[a_w].is_cancelled || is_closing) ->
			a_err = EINTR
		:: else ->
			break_recall(a_file, a_first, a_end, a_writers_only);
			break_park(a_w, a_file, a_first, a_end, a_writers_only);
			a_err = EINPROGRESS
		fi
	fi
}

/* Code: pml_table_cancel() in lease/waiters.c. */
inline break_cancel(c_w)
{
	if
	:: B[c_w].is_parked -> waiter_resume(c_w, EINTR)
	:: else -> B[c_w].is_cancelled = true
	fi
}

/* Code: pml_table_done() in lease/waiters.c. */
inline break_done(d_w)
{
	assert(!B[d_w].is_parked && !B[d_w].is_resume_due);
	B[d_w].is_queued = false;
	B[d_w].is_cancelled = false;
	B[d_w].verdict = OK;
	B[d_w].deadline = 0;
	B[d_w].waited = 0;
	B[d_w].file = 0;
	B[d_w].first = 0;
	B[d_w].end = 0;
	B[d_w].writers_only = false;
	for (i : 0 .. NF - 1) {
		B[d_w].holds[i] = false;
		B[d_w].hold_first[i] = 0;
		B[d_w].hold_end[i] = 0;
		B[d_w].hold_writers_only[i] = false
	};
	skip
}

/* Code: pml_table_is_held_back() in lease/waiters.c. */
inline held_back(h_l, h_err)
{
#ifndef GRANT_WHILE_BREAKER_WAITS
	for (h : 0 .. NW - 1) {
		if
		:: B[h].is_queued && B[h].holds[L[h_l].file] &&
		   IS_IN_THE_WAY(h_l, L[h_l].file, B[h].hold_first[L[h_l].file],
				 B[h].hold_end[L[h_l].file],
				 B[h].hold_writers_only[L[h_l].file]) ->
			h_err = EAGAIN
		:: else
		fi
	};
#endif
	skip
}
