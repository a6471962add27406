#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
#
# crash.t -- kill -9 of the daemon under load: what was acknowledged is there afterwards (I8)
#
# usage: crash.t [BUILD_DIR]; see tests/README.md
# PML_KILLS (default 18), PML_SEED
. "$(dirname "$0")/lib.sh"
start "$@"
acked=$(helper acked) || bail_out "acked does not compile"
kills=${PML_KILLS:-18}
seed=${PML_SEED:-$((RANDOM + 1))}
RANDOM=$seed
workers=3
note "seed $seed (PML_SEED=$seed repeats the operations, not the moments)"

make_device 256M
mount_fs soft=127.0.0.1:0,client_uid=0,client_gid=0
free_at_start=$(stat_of free_blocks)
mkdir "$mnt/put"

# ---- workers: each has a directory and a model ------------------------------

to=() from=() pids=() operations=()
for w in $(seq 0 $((workers - 1))); do
	mkdir "$mnt/w$w"
	mkfifo "$work/ground/to.$w" "$work/ground/from.$w"
	"$acked" "$mnt/w$w" $((seed * 10 + w)) <"$work/ground/to.$w" >"$work/ground/from.$w" &
	pids[w]=$!
	exec {fd}>"$work/ground/to.$w"
	to[w]=$fd
	exec {fd}<"$work/ground/from.$w"
	from[w]=$fd
done

tell() {
	for w in "${!to[@]}"; do echo "$1" >&"${to[w]}"; done
}

# answers WANTED: reads one from each worker; false if any is another one.
answers() {
	local line rc=0
	for w in "${!from[@]}"; do
		while :; do
			if ! read -r -t 30 -u "${from[w]}" line; then
				note "worker $w does not answer"
				rc=1
				break
			fi
			case $line in
			'#'*) echo "$line (worker $w)" ;;
			$1*) break ;;
			*) rc=1 && note "worker $w says \"$line\"" && break ;;
			esac
		done
		[[ $line != stopped* ]] || operations[w]=${line//[^0-9]/}
	done
	return $rc
}

# What a remote client puts.
head -c 100000 /dev/urandom >"$work/ground/up"
put_sum=$(sum_of "$work/ground/up")
bad_puts() {
	local name
	while read -r name; do
		[ "$(sum_of "$mnt/$name")" = "$put_sum" ] || echo "$name"
	done <"$work/ground/put"
}

: >"$work/ground/put"
bad_rounds=0 audits=0 cleared=0
for round in $(seq "$kills"); do
	tell run
	put_files "$round" >>"$work/ground/put" &
	putter=$!
	# At a moment that nothing is in step with.
	sleep "0.$(printf %03d $((20 + RANDOM % 400)))"
	kill_daemon
	answers stopped || { bad_rounds=$((bad_rounds + 1)) && note "round $round: no crash"; }
	is_mounted && { ls "$mnt" 2>&1 | grep -q 'not connected' ||
		note "round $round: a dead mount says something else"; }
	clear_dead_mount && cleared=$((cleared + 1))
	end_put_files $putter || note "round $round: the remote client does not end"
	options=soft=127.0.0.1:0,client_uid=0,client_gid=0
	[ $((round % 2)) = 0 ] || options+=,poison
	mount_fs "$options"
	if out=$(pmemleasectl "$mnt" audit 2>&1); then
		audits=$((audits + 1))
	else
		note "round $round: audit: $out"
	fi
	tell verify
	if ! answers good; then
		bad_rounds=$((bad_rounds + 1))
		note "round $round differs"
		break
	fi
done

is "$cleared" "$kills" "every dead mount is cleared"
is "$audits" "$kills" "after every crash the counters agree"
is "$bad_rounds" 0 "after every crash all acknowledged operations are there, the last one wholly or not"
is "$(bad_puts | paste -sd' ')" "" "what a remote client has committed is there"
in_range "$(wc -l <"$work/ground/put")" 1 1000000 "remote files committed"
for w in "${!to[@]}"; do
	in_range "${operations[w]}" "$kills" 1000000000 "worker $w: operations acknowledged"
done
tell quit
wait "${pids[@]}"

# ---- an open file that was removed; a crash while it is mounted read-only ----

exec 9>"$mnt/orphan"
head -c 1M /dev/zero >&9
used=$(stat_of used_blocks)
rm "$mnt/orphan"
is "$(stat_of used_blocks)" "$used" "an open file keeps its blocks when it is removed"
kill_daemon
exec 9>&- 2>/dev/null
clear_dead_mount
mount_fs
is "$(stat_of used_blocks)" $((used - 256)) "after a crash they are free"
audit
sum=$(digest "$mnt")
remount ro
kill_daemon
clear_dead_mount
mount_fs
is "$(digest "$mnt")" "$sum" "a crash of a read-only mount changes nothing"

# As if a thread of the dead daemon hung in the kernel (tools/survivor.h).
fsop=$(helper fsop) || bail_out "fsop does not compile"
is "$("$fsop" outlived "$daemon" "$mnt")" ENOTCONN "who uses the mount of a dead daemon is not kept waiting"
check "and the dead mount stays in its place" is_mounted
wait_for 10 is_gone "$daemon" || bail_out "process $daemon survives SIGKILL"
clear_dead_mount
mount_fs
audit

rm -rf "${mnt:?}"/*
is "$(stat_of used_blocks) $(stat_of inodes)" "0 1" "nothing is left over"
in_range "$(stat_of free_blocks)" $((free_at_start * 98 / 100)) "$free_at_start" \
	"free blocks are back, but for what metadata keeps"
umount_fs
is "$umount_status" 0 "umount"
finish
