#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
#
# random.t -- all operations at random by several processes, against a model; remounts and crashes between
#
# usage: random.t [--seed N] [--seconds N] [--processes N] [--keep] [BUILD_DIR]
#
#   --seed       of the operations (PML_SEED; else at random, printed)
#   --seconds    of work on the large device, a quarter more on a full one (PML_SOAK_SECONDS; 45)
#   --processes  that work (PML_SOAK_PROCESSES; 4)
#   --keep       leave the device in /dev/shm when something differs, and say where
#
# Rounds on a device with room: work beside a remote client whose leases are in the way,
# compare, remount, compare; work until the daemon is killed, mount, compare (I8).  Then the
# same on a device that is too small for what is drawn.
. "$(dirname "$0")/../integration/lib.sh"
seed=${PML_SEED:-$((RANDOM + 1))} seconds=${PML_SOAK_SECONDS:-45}
processes=${PML_SOAK_PROCESSES:-4} keep=
while [[ ${1:-} == --* ]]; do
	case $1 in
	--seed) seed=$2; shift ;;
	--seconds) seconds=$2; shift ;;
	--processes) processes=$2; shift ;;
	--keep) keep=1 ;;
	*) bail_out "random.t: unknown option $1" ;;
	esac
	shift
done
start "$@"
program=$build/tests/random
[ -x "$program" ] || bail_out "no $program: build first (meson compile)"
RANDOM=$seed
note "seed $seed, $seconds s, $processes processes"
options=soft=127.0.0.1:0,client_uid=0,client_gid=0,ack=200ms,drain=500ms,term=3s

mkfifo "$work/ground/to" "$work/ground/from"

# begin SIZE: a new device and a new model.
begin() {
	make_device "$1"
	mount_fs "$options"
	free_at_start=$(stat_of free_blocks)
	"$program" "$mnt" "$seed" "$processes" <"$work/ground/to" >"$work/ground/from" &
	program_pid=$!
	exec {to}>"$work/ground/to" {from}<"$work/ground/from"
}

tell() { echo "$1" >&"$to"; }

# answer WANTED...: reads up to the answer, which is one of these; prints the rest.
answer() {
	local line
	while :; do
		if ! read -r -t 300 -u "$from" line; then
			note "no answer"
			return 1
		fi
		[[ $line == '#'* ]] && echo "$line" && continue
		[[ " $* " == *" ${line%% *} "* ]] && answered=$line && return
		return 1
	done
}

ask() {
	tell "$1"
	shift
	answer "$@"
}

audited() {
	local out
	out=$(pmemleasectl "$mnt" audit 2>&1) || { note "audit: $out"; return 1; }
}

# After every stop, clean or not, before the next mount: what that has to finish is no error.
checked() {
	local out
	out=$(fsck.pmemleasefs -n "$device" 2>&1) || { note "fsck: $out"; return 1; }
}

differs() {
	failed=$1
	if [ -n "$keep" ]; then
		cp --sparse=always "$device" "/dev/shm/kept.$seed.img"
		note "the device is kept as /dev/shm/kept.$seed.img"
	fi
	return 1
}

# In every other round a remote client is in the way.
remote() { [ $((rounds_done % 2)) = 0 ] && echo "$url"; }

# work_and_remount COUNT [full]
work_and_remount() {
	ask "run $1 ${2:-} $(remote)" stopped || differs "during the run" || return
	audited || differs "audit after the run" || return
	ask verify good || differs "after the run" || return
	umount_fs || differs "umount" || return
	checked || differs "fsck" || return
	mount_fs "$options"
	ask verify good || differs "after a remount" || return
	audited || differs "audit after a remount"
}

# work_and_crash [full]
work_and_crash() {
	tell "run 1000000000 die=$daemon ${1:-} $(remote)"
	answer stopped || differs "until the crash" || return
	wait_for 10 is_gone "$daemon" || bail_out "process $daemon survives SIGKILL"
	clear_dead_mount
	checked || differs "fsck after a crash" || return
	mount_fs "$options"
	ask verify good || differs "after a crash" || return
	audited || differs "audit after a crash"
}

# rounds SECONDS [full]: sets failed, crashes and remounts.
rounds() {
	local until=$(($(now_ms) + $1 * 1000))
	failed='' crashes=0 remounts=0 rounds_done=0
	while [ "$(now_ms)" -lt $until ]; do
		work_and_remount 1500 "${2:-}" || return
		remounts=$((remounts + 1))
		for _ in 1 2 3 4 5 6 7 8; do
			work_and_crash "${2:-}" || return
			crashes=$((crashes + 1))
		done
		rounds_done=$((rounds_done + 1))
	done
}

# total NAME: out of the totals.
total() { sed -n "s/^# $1 \([0-9]*\)$/\1/p" "$work/totals"; }

# end NAME: everything is removed, and all space comes back.
end() {
	if [ -n "$failed" ] || ! ask totals good >"$work/totals"; then
		note "$1: given up"
		finish
	fi
	note "$(tr '\n' ' ' <"$work/totals" | sed 's/# //g')"
	tell quit
	exec {to}>&- {from}<&-
	wait_for 10 is_gone "$program_pid" || not_ok "$1: the program ends"
	check "$1: everything can be removed" rm -rf "$mnt"/p? "$mnt/shared" "$mnt/race" "$mnt/remote" "$mnt/ballast"
	stat_becomes used_blocks 0 10 "$1: all blocks are given back"
	is "$(stat_of inodes)" 1 "$1: no inode is left"
	# What is not carved yet is an estimate, which may grow when it is.
	in_range "$(stat_of free_blocks)" $((free_at_start * 95 / 100)) \
		$((free_at_start * 102 / 100)) \
		"$1: free blocks are back, but for what metadata keeps"
	audit "$1: counters agree"
	umount_fs
	is "$umount_status" 0 "$1: umount"
	check "$1: fsck finds nothing" checked
	rm -f "$device"
}

begin 512M
rounds "$seconds"
is "$failed" "" "nothing differs from the model"
in_range "$remounts" 1 1000000 "remounts"
in_range "$crashes" 3 1000000 "crashes"
end "a device with room"
for kind in create mkdir mknod symlink link unlink rmdir rename chmod chown utimens stat follow \
	tmpfile snapshot setacl getacl removeacl permit readdir open close read write mmap_read mmap_write truncate allocate copy \
	clone dedupe collapse insert unshare relocate seek sync race; do
	[ "$(total $kind)" -ge 5 ] || not_ok "$kind was done" "$(total $kind) times"
done
in_range "$(total refused)" 100 1000000000 "operations were refused as they must"
in_range "$(total leases)" 10 1000000000 "leases were in the way"
is "$(total full)" 0 "the device was never full"

begin 64M
# All but some megabytes are taken.
check "ballast" fallocate -l $((($(stat_of free_blocks) - 1200) * 4096)) "$mnt/ballast"
rounds $(((seconds + 3) / 4)) full
is "$failed" "" "on a small device nothing differs from the model"
end "a small device"
in_range "$(total full)" 20 1000000000 "operations met a full device"
finish
