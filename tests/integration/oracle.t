#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
#
# oracle.t -- remote access against local layout changes, judged by oracle.c, policy by policy
#
# usage: oracle.t [BUILD_DIR]; see tests/README.md
#   PML_ORACLE_SECONDS   of load per policy (8)
#   PML_SEED             of the load (random; printed)
#   PML_POLICIES         "revoke ebusy block"
#   PML_TEST_TRANSPORT   soft, or rdma inside tests/vm/run
. "$(dirname "$0")/lib.sh"
start "$@"
oracle=$build/tests/oracle
[ -x "$oracle" ] || bail_out "no $oracle: build first (meson compile)"
seconds=${PML_ORACLE_SECONDS:-8}
seed=${PML_SEED:-$((RANDOM + 1))}

choose_fabric 256M

for policy in ${PML_POLICIES:-revoke ebusy block}; do
	options=$listen,client_uid=0,client_gid=0,poison,$clocks,policy=$policy
	[ $policy != block ] || options+=,block_deadline=3s
	mount_fs "$options"
	free=$(stat_of free_blocks)
	note "policy $policy, PML_SEED=$seed"
	# The oracle gives its own processes two minutes to end.
	timeout $((seconds + 150)) "$oracle" "$mnt" "$url" "$seconds" "$seed" >"$work/out" 2>&1
	rc=$?
	sed 's/^\(# \)\?/# /' "$work/out"
	is $rc 0 "$policy: every word that was read is one that may be there"
	in_range "$(sed -n 's/^# words_checked //p' "$work/out")" 10000 1000000000000 \
		"$policy: words were compared"
	in_range "$(sed -n 's/^# remote_writes //p' "$work/out")" 1 1000000000 \
		"$policy: remote writes were done"
	in_range "$(sed -n 's/^# local_ops //p' "$work/out")" 1 1000000000 \
		"$policy: local operations were done"
	[ $policy = ebusy ] || in_range "$(stat_of recalls)" 1 1000000000 "$policy: leases were recalled"
	stat_becomes sessions 0 20 "$policy: all sessions have ended"
	stat_becomes leases 0 20 "$policy: no lease is left"
	is "$(stat_of pins) $(stat_of pinned_blocks) $(stat_of quarantined_blocks)" "0 0 0" \
		"$policy: no pin is left (I2)"
	is "$(stat_of fences_stuck)" 0 "$policy: no fence is stuck"
	audit "$policy: counters agree with extents (I1)"
	rm -f "$mnt"/*
	is "$(stat_of used_blocks)" 0 "$policy: all blocks are given back"
	in_range "$(stat_of free_blocks)" $((free - free / 50)) "$free" \
		"$policy: free blocks are as many as before"
	umount_fs
	is "$umount_status" 0 "$policy: umount"
done
finish
