/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * table.pml -- leases and sessions as lease/table.c, session.c and grant.c make them
 *
 * What stands in one d_step holds the table's lock from its beginning to its end.
 * "Code:" names the function that a transition is; it names the transition back
 * (tests/model/names.t).
 */

/* ---- recall and end ---- */

/* Code: start_clocks() in lease/table.c. */
inline clocks_start(c_l)
{
	L[c_l].has_clocks = true;
	L[c_l].drain = STARTED(DRAIN_TICKS);
	if
	:: !L[c_l].is_acked -> L[c_l].ack = STARTED(ACK_TICKS)
	:: else
	fi
}

/* Code: pml_table_recall() in lease/table.c. */
inline recall_start(r_l, r_arm)
{
	if
	:: L[r_l].state == GRANTING ->
		L[r_l].is_recall_pending = true;
		L[r_l].has_clocks = L[r_l].has_clocks || (r_arm)
	:: L[r_l].state == GRANTED ->
		L[r_l].state = RECALLING;
		if
		:: r_arm -> clocks_start(r_l)
		:: else
		fi
	:: L[r_l].state == RECALLING && (r_arm) && !L[r_l].has_clocks -> clocks_start(r_l)
	:: else
	fi
}

/* Code: pml_table_end() in lease/table.c. */
inline lease_end(e_l, e_cause)
{
	if
	:: L[e_l].state == GRANTING ->
		if
		:: !L[e_l].is_end_pending -> L[e_l].why = e_cause
		:: else
		fi;
		L[e_l].is_end_pending = true
	:: L[e_l].state == GRANTED || L[e_l].state == RECALLING ->
		L[e_l].ack = 0;
		L[e_l].drain = 0;
		L[e_l].state = FENCING;
		L[e_l].why = e_cause;
#ifdef DROP_FENCE
		for (m : 0 .. FB - 1) {
			seg_key[AT(e_l, m)] = false
		}
#endif
		fence_start(e_l)
	:: else
	fi
}

/* The holder learns of it, or knows (I10). */
#ifndef DO_NOT_TELL
#define MUST_TELL(l)                                                                      \
	(L[l].was_granted && (L[l].why == UNMOUNT ||                                       \
			      (L[l].why != RETURNED && L[l].why != SESSION && !S[l].is_ended)))
#else
#define MUST_TELL(l) false
#endif

/* Code: pml_table_gone() in lease/table.c. */
inline lease_gone(g_l)
{
	assert(L[g_l].state == FENCING);
#ifndef NO_COMMIT_WAIT
	assert(L[g_l].commits == 0);
#endif
	for (m : L[g_l].first .. L[g_l].end - 1) {
		seg_key[AT(g_l, m)] = false
	}
	L[g_l].state = GONE;
	waiters_recheck(L[g_l].file, L[g_l].first, L[g_l].end);
	act_gone(g_l);
	session_check_released(g_l)
}

/* ---- granting ---- */

/* What leases in the way mean for a request; changes nothing. */
inline judge_conflicts(q_l, q_err)
{
	q_err = OK;
	stuck = false;
	for (i : 0 .. NC - 1) {
		if
		:: i != q_l && L[i].state != GONE && IS_CONFLICT(i, q_l) ->
			stuck = stuck || L[i].state == STUCK;
			if
			:: L[i].state != FENCING && LEASE_POLICY == P_EBUSY -> q_err = EBUSY
			:: (L[i].state == FENCING || LEASE_POLICY != P_EBUSY) && q_err == OK ->
				q_err = EAGAIN
			:: else
			fi
		:: else
		fi
	}
	if
	:: stuck -> q_err = EIO
	:: else
	fi
}

/* Code: insert() in lease/table.c. */
inline lease_insert(n_l, n_err)
{
	if
	:: !S[n_l].is_live -> n_err = ESTALE
	:: else ->
		judge_conflicts(n_l, n_err);
		if
		:: n_err == EAGAIN ->
			for (i : 0 .. NC - 1) {
				if
				:: i != n_l && L[i].state != GONE && IS_CONFLICT(i, n_l) ->
					recall_start(i, LEASE_POLICY == P_REVOKE)
				:: else
				fi
			}
		:: n_err == OK -> held_back(n_l, n_err)
		:: else
		fi
	fi;
	if
	:: n_err == OK -> L[n_l].state = GRANTING
	:: else
	fi
}

/* Code: pml_table_pinned() in lease/table.c. */
inline lease_pinned(p_l, p_end)
{
	if
	:: p_end < L[p_l].end ->
		j = L[p_l].end;
		L[p_l].end = p_end;
		waiters_recheck(L[p_l].file, L[p_l].first, j)
	:: else
	fi
}

/* Code: pml_table_granted() in lease/table.c. */
inline lease_granted(d_l, d_err)
{
	if
	:: L[d_l].is_end_pending -> d_err = ESTALE
	:: else ->
		d_err = OK;
		L[d_l].state = GRANTED;
		L[d_l].was_granted = true;
		if
		:: L[d_l].is_recall_pending -> recall_start(d_l, L[d_l].has_clocks)
		:: else
		fi
	fi
}

/* Code: pml_table_grant_failed() in lease/table.c. */
inline grant_failed(f_l)
{
	L[f_l].state = GRANTED;
	lease_end(f_l, RETURNED);
	if
	:: !L[f_l].has_segments ->
		fence_forget(f_l);
		lease_gone(f_l)
	:: else
	fi
}

/* ---- clocks ---- */

/* No sign of life.  Code: tick_recalls() in lease/table.c. */
inline clock_ack(k_l)
{
	lease_end(k_l, SILENT)
}

/* Alive, but not returned.  Code: tick_recalls() in lease/table.c. */
inline clock_drain(k_l)
{
	lease_end(k_l, CONFLICT)
}

/* ---- the holder's requests ---- */

#define IS_HELD(l) (L[l].state == GRANTED || L[l].state == RECALLING)

/* Code: pml_table_ack() in lease/table.c. */
inline lease_ack(a_l)
{
	if
	:: L[a_l].state == RECALLING ->
		L[a_l].is_acked = true;
		L[a_l].ack = 0
	:: else
	fi
}

/* Code: pml_table_return() in lease/table.c. */
inline lease_return(t_l)
{
	if
	:: IS_HELD(t_l) -> lease_end(t_l, RETURNED)
	:: else
	fi
}

/* Code: pml_table_commit_begin() in lease/table.c. */
inline commit_begin(b_l, b_err)
{
	if
	:: IS_HELD(b_l) && L[b_l].is_write ->
		L[b_l].commits++;
		b_err = OK
	:: else -> b_err = ESTALE
	fi
}

/* Code: pml_table_commit_end() in lease/table.c. */
inline commit_end(z_l)
{
	L[z_l].commits--;
	if
	:: L[z_l].commits == 0 && L[z_l].is_fenced -> fence_append(z_l)
	:: else
	fi
}

/* ---- sessions ---- */

/* Code: pml_table_session_add() in lease/session.c. */
inline session_add(s_l)
{
	is_connected[s_l] = true;
	S[s_l].is_known = true;
	S[s_l].is_live = true;
	S[s_l].is_ended = false;
	S[s_l].fence_from = STEP_KEY
}

/* Code: end_leases() in lease/session.c. */
inline session_end_leases(s_l, s_cause)
{
	S[s_l].is_live = false;
	if
	:: L[s_l].state != GONE -> lease_end(s_l, s_cause)
	:: else
	fi
}

/* Code: end_session() in lease/session.c. */
inline session_end(s_l, s_cause)
{
	if
	:: S[s_l].is_known && !S[s_l].is_ended ->
		session_end_leases(s_l, s_cause);
		S[s_l].is_ended = true;
		session_check_released(s_l)
	:: else
	fi
}

/* The term has run out.  Code: pml_table_session_tick() in lease/session.c. */
inline session_expire(s_l)
{
	session_end_leases(s_l, EXPIRED)
}

/* Code: pml_table_close() in lease/session.c. */
inline table_close()
{
	is_closing = true;
	for (k : 0 .. NC - 1) {
		session_end(k, UNMOUNT)
	};
	skip
}

/*
 * The session and its connection are no more.
 * Code: pml_table_session_check_released() in lease/session.c.
 */
inline session_check_released(v_l)
{
	if
	:: S[v_l].is_ended && L[v_l].state == GONE ->
		S[v_l].is_known = false;
		S[v_l].is_ended = false;
		S[v_l].fence_from = STEP_KEY;
		is_connected[v_l] = false
	:: else
	fi
}

/* The holder is told, or knows (I10).  Code: finish_lease() in lease/manager.c. */
inline act_gone(o_l)
{
	assert(I10 || (!L[o_l].was_granted || L[o_l].why == RETURNED || MUST_TELL(o_l) ||
	       !is_connected[o_l] || S[o_l].is_ended)); /* an ended one is cut off now */
	lease_forget(o_l)
}
