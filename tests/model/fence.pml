/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fence.pml -- the fence ladder, as lease/fence.c has it
 */

/* The queue: of two leases that are queued, which is ahead. */
#define OTHER(l) (NC - 1 - (l))
inline fence_append(q_l)
{
	if
	:: NC > 1 && L[OTHER(q_l)].fence == QUEUED -> front = OTHER(q_l)
	:: else -> front = q_l
	fi;
	L[q_l].fence = QUEUED
}

inline fence_put_in_front(q_l)
{
	front = q_l;
	L[q_l].fence = QUEUED
}

inline fence_forget(q_l)
{
	L[q_l].fence = NOWHERE;
	front = OTHER(q_l);
	if
	:: L[front].fence != QUEUED -> front = 0
	:: else
	fi
}

/* The step that the next key begins with. */
inline begin_segment(b_l)
{
	L[b_l].step = S[b_l].fence_from;
	L[b_l].tries = 0
}

/* Code: pml_table_fence_start() in lease/fence.c. */
inline fence_start(s_l)
{
	L[s_l].place = L[s_l].first;
	begin_segment(s_l);
	fence_append(s_l)
}

/*
 * What is done next with lease n_l: n_place NONE: all keys are dead, unpin.
 * n_idle: nothing to do now.
 * Code: next_attempt() in lease/fence.c.
 */
inline fence_next(n_l, n_place, n_idle)
{
	n_idle = false;
	n_place = NONE;
	L[n_l].fence = TAKEN;
	front = OTHER(n_l);
	if
	:: L[front].fence != QUEUED -> front = 0
	:: else
	fi;
	do
	:: L[n_l].place < L[n_l].end && !seg_key[AT(n_l, L[n_l].place)] -> L[n_l].place++
	:: else -> break
	od;
	if
	:: L[n_l].place == L[n_l].end ->
		if
		:: L[n_l].state == STUCK -> n_idle = true
#ifndef NO_COMMIT_WAIT
		:: L[n_l].state != STUCK && L[n_l].commits > 0 ->
			L[n_l].is_fenced = true;
			n_idle = true
#endif
		:: else
		fi;
		if
		:: n_idle -> L[n_l].fence = NOWHERE
		:: else
		fi
	:: else ->
		if
		:: L[n_l].step < S[n_l].fence_from -> L[n_l].step = S[n_l].fence_from
		:: else
		fi;
		n_place = L[n_l].place
	fi
}

/* Code: escalate() in lease/fence.c. */
inline fence_escalate(e_l)
{
	S[e_l].fence_from = STEP_CONNECTION
}

/* Code: give_up_segment() in lease/fence.c. */
inline fence_give_up(g_l)
{
	if
	:: L[g_l].state != STUCK ->
		L[g_l].state = STUCK;
		waiters_fail(g_l, EIO)
	:: else
	fi;
	L[g_l].place++;
	begin_segment(g_l);
	fence_append(g_l)
}

/* Code: pml_table_fence_result() in lease/fence.c. */
inline fence_result(r_l, r_failed)
{
	if
	:: !r_failed ->
		seg_key[AT(r_l, L[r_l].place)] = false;
		begin_segment(r_l);
		/* Finishing one lease frees more than beginning two. */
		fence_put_in_front(r_l)
	:: else ->
		if
		:: L[r_l].step < STEP_CONNECTION ->
			fence_escalate(r_l);
			L[r_l].step = STEP_CONNECTION;
			fence_append(r_l)
		:: L[r_l].step == STEP_CONNECTION && L[r_l].tries < RETRIES ->
			L[r_l].tries++;
			L[r_l].retry = STARTED(RETRY_TICKS);
			L[r_l].fence = LATER
		:: else -> fence_give_up(r_l)
		fi
	fi
}

/* Code: pml_table_fence_tick() in lease/fence.c. */
inline fence_retry(t_l)
{
	L[t_l].retry = 0;
	fence_append(t_l)
}
