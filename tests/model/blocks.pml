/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * blocks.pml -- the filesystem below the guard: layouts, counters, allocation
 *
 * Every step runs with the inode's lock held or, for counters, is one atomic store.
 */

/* I1, I4: a reach is a key in the card or an access that has begun. */
#define IS_REACHED(at) (key[at] != DEAD || is_busy[at])

/* A block that nobody uses, or NONE.  I1: nothing reaches what is taken. */
inline block_take(a_block)
{
	a_block = NONE;
	for (i : 0 .. NB - 1) {
		if
		:: a_block == NONE && shares[i] == 0 && pins[i] == 0 -> a_block = i
		:: else
		fi
	}
	if
	:: a_block != NONE ->
#ifndef NO_I1
		for (i : 0 .. NC * FB - 1) {
			assert(I1 || (!(key_block[i] == a_block && IS_REACHED(i))))
		}
#endif
		shares[a_block] = 1
	:: else
	fi
}

/* I4: no lease whose blocks are pinned covers the place, but the one that is being granted. */
inline map_set(a_file, a_place, a_block, a_grantee)
{
#ifndef NO_I4
	for (i : 0 .. NC - 1) {
		assert(I4 || (i == a_grantee || !L[i].is_pinned || L[i].file != a_file ||
		       a_place < L[i].first || a_place >= L[i].end))
	}
#endif
	if
	:: map[BLOCK(a_file, a_place)] != NONE -> shares[map[BLOCK(a_file, a_place)]]--
	:: else
	fi;
	map[BLOCK(a_file, a_place)] = a_block
}

/* Makes the block behind a place the file's own (I5): a hole is filled, a shared one copied. */
inline place_own(a_file, a_place, a_grantee, a_is_full)
{
	if
	:: map[BLOCK(a_file, a_place)] == NONE || shares[map[BLOCK(a_file, a_place)]] > 1 ->
		block_take(k);
		if
		:: k == NONE -> a_is_full = true
		:: else -> map_set(a_file, a_place, k, a_grantee)
		fi
	:: else
	fi
}

/* I5, and I2 in so far as counters and leases agree. */
inline blocks_audit()
{
	for (i : 0 .. NB - 1) {
		k = 0;
		for (j : 0 .. NC * FB - 1) {
			if
			:: L[j / FB].is_pinned && seg_block[j] == i ->
				k++;
				assert(I5 || (!L[j / FB].is_write || shares[i] == 1))
			:: else
			fi
		}
		assert(I2 || (pins[i] == k))
	};
	skip
}
