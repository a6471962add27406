#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
#
# siege.t -- clients that die, lie, replay, flood and send garbage, policy by policy
#
# usage: siege.t [BUILD_DIR]
#   PML_SIEGE_SECONDS    of attack in all (45)
#   PML_SIEGE_RAIDERS    processes that attack (12)
#   PML_SIEGE_NICE       of these (19; in the guest 0, where they would never run)
#   PML_SEED             of the attack (random; printed)
#   PML_POLICIES         "revoke ebusy block"
#   PML_TEST_TRANSPORT   soft, or rdma inside tests/vm/run
#
# Under attack the oracle of the main job stays clean, an honest client gets on with its work
# and sees its own bytes alone, and afterwards the daemon has no more descriptors and hardly
# more memory than after a first, short attack.
. "$(dirname "$0")/../integration/lib.sh"
start "$@"
siege=$build/tests/siege oracle=$build/tests/oracle badframes=$build/tests/badframes
[ -x "$siege" ] || bail_out "no $siege: build first (meson compile)"
seed=${PML_SEED:-$((RANDOM + 1))} raiders=${PML_SIEGE_RAIDERS:-12}
nice=${PML_SIEGE_NICE:-$([ "${PML_IN_GUEST:-}" = 1 ] && echo 0 || echo 19)}
read -ra policies <<<"${PML_POLICIES:-revoke ebusy block}"
seconds=$((${PML_SIEGE_SECONDS:-45} / ${#policies[@]}))
choose_fabric 256M
# An honest client may not be held to be dead because the machine is busy.
clocks=${clocks/term=*/term=10s}

descriptors() { find "/proc/$daemon/fd" -mindepth 1 | wc -l; }
rss_kib() { sed -n 's/^RssAnon:[[:space:]]*\([0-9]*\).*/\1/p' "/proc/$daemon/status"; }
# of NAME: out of what siege has printed.
of() { sed -n "s/^# $1 \([0-9]*\)$/\1/p" "$work/siege.out"; }

# A session that has a lease on a file of the raiders: so neither the honest client nor the oracle.
a_raider() {
	pmemleasectl --json "$mnt" sessions --file="$mnt/siege/a$((RANDOM % 4))" 2>/dev/null |
		sed -n 's/.*"session":\([0-9]*\).*/\1/p' | tail -n 1
}

# evict_some: an administrator ends one session of a raider after the other, until it is killed.
evict_some() {
	local session
	while :; do
		sleep 0.5
		session=$(a_raider)
		[ -n "$session" ] || continue
		# It may have ended by itself just now.
		pmemleasectl "$mnt" evict "$session" >/dev/null 2>&1 && echo "$session" >>"$work/evicted"
	done
}

# attack SECONDS SEED: with evictions, the oracle and, on soft, frames that are none beside it.
attack() {
	local noise=
	: >"$work/evicted"
	evict_some &
	local administrator=$!
	if [ "${PML_TEST_TRANSPORT:-soft}" = soft ]; then
		"$badframes" "${url##*:}" "$2" >/dev/null 2>&1 &
		noise=$!
	fi
	timeout $(($1 + 200)) "$oracle" "$mnt" "$url" "$1" "$2" 2 1 >"$work/oracle.out" 2>&1 &
	local judge=$!
	timeout $(($1 + 150)) "$siege" "$mnt" "$url" "$1" "$2" "$raiders" "$nice" \
		"$daemon" >"$work/siege.out" 2>&1
	siege_status=$?
	wait $judge
	oracle_status=$?
	kill $administrator
	wait $administrator 2>/dev/null
	[ -z "$noise" ] || { kill $noise 2>/dev/null; wait $noise 2>/dev/null; }
}

quiet() {
	stat_becomes sessions 0 30 "$1: all sessions have ended"
	stat_becomes leases 0 30 "$1: no lease is left"
	wait_for 5 eval '[ "$(descriptors)" -le "${fds_before:-0}" ]'
}

note "PML_SEED=$seed, $seconds s for each policy, $raiders raiders"
for policy in "${policies[@]}"; do
	options=$listen,client_uid=0,client_gid=0,poison,$clocks,policy=$policy,max_sessions=128
	[ "$policy" != block ] || options+=,block_deadline=1s
	mount_fs "$options"
	# What it keeps for good it has after this: threads' stacks, heaps, tables.
	fds_before=$(descriptors)
	attack 4 $((seed + 1))
	quiet "$policy, first attack"
	rm -f "$mnt"/f* # the oracle begins with none
	fds_before=$(descriptors) rss_before=$(rss_kib)

	attack "$seconds" "$seed"
	sed -n 's/^\(# \)\?/# /p' "$work/siege.out"
	grep -E 'VIOLATION|status|cannot|hang' "$work/oracle.out" | sed 's/^\(# \)\?/# /'
	is $siege_status 0 "$policy: nobody gets at what it holds no lease for"
	is $oracle_status 0 "$policy: the oracle is clean"
	in_range "$(sed -n 's/^# words_checked //p' "$work/oracle.out")" 1000 1000000000000 \
		"$policy: it has compared words"
	for kind in dying lying silent replay flooding garbage; do
		in_range "$(of raids_$kind)" 1 1000000000 "$policy: raids, $kind"
	done
	in_range "$(of served)" 1 1000000000 "$policy: raiders were served by leases"
	in_range "$(of refused)" 1 1000000000 "$policy: and refused without"
	in_range "$(of local_ops)" 5 1000000000 "$policy: local operations"
	# Where a program takes a second to start, a raider has ended before it is named: killed.t evicts there.
	[ "${PML_IN_GUEST:-}" = 1 ] ||
		in_range "$(wc -l <"$work/evicted")" 1 1000000 "$policy: sessions of raiders were evicted"
	in_range "$(of honest_lost)" 0 1 "$policy: the honest client keeps its connection"
	# Half is what is wanted, and printed; a tenth is what is no noise of the machine.
	in_range "$(of honest_percent)" 10 100000 "$policy: and does at least a tenth of its work, percent"
	quiet "$policy"
	in_range "$(descriptors)" 1 "$fds_before" "$policy: no descriptor more than before"
	# Arenas of malloc(3) and stacks are kept for the most threads that there were at a time.
	in_range "$(rss_kib)" 1 $((rss_before + 16384)) "$policy: hardly more memory, KiB (was $rss_before)"
	is "$(stat_of pins) $(stat_of pinned_blocks) $(stat_of quarantined_blocks)" "0 0 0" \
		"$policy: no pin is left (I2)"
	is "$(stat_of fences_stuck)" 0 "$policy: no fence is stuck"
	audit "$policy: counters agree with extents (I1)"
	rm -rf "${mnt:?}"/*
	is "$(stat_of used_blocks)" 0 "$policy: all blocks are given back"
	umount_fs
	is "$umount_status" 0 "$policy: umount"
done
finish
