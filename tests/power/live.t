#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
#
# live.t -- power cuts of the whole daemon under load: what was acknowledged is there (I8)
#
# usage: live.t [BUILD_DIR]; see docs/power-failure.md
# PML_CUTS (default 200), PML_SEED
. "$(dirname "$0")/../integration/lib.sh"
start "$@"
flusher=$(helper flusher) || bail_out "flusher does not compile"
acked=$(helper acked) || bail_out "acked does not compile"
preload=$build/tests/libpml_cut.so
[ -e "$preload" ] || bail_out "no $preload: build first (meson compile)"
cuts=${PML_CUTS:-200}
seed=${PML_SEED:-$((RANDOM + 1))}
note "seed $seed (PML_SEED=$seed repeats the operations, not the moments)"
head -c 100000 /dev/urandom >"$work/ground/up"
put_sum=$(sum_of "$work/ground/up")

# ---- one lane: a device that is mounted, loaded and cut over and over --------

rule=remote_durability=auto

# mount_cut [VARIABLE=VALUE...]: mounts $device at $mnt so that kill -9 is a power cut.
mount_cut() {
	env "$@" LD_PRELOAD="$preload" PML_CUT_DEVICE="$device" \
		PMEMOBJ_CONF=copy_on_write.at_open=1 PMEM2_FORCE_GRANULARITY=CACHE_LINE \
		mount.pmemleasefs -f "$device" "$mnt" \
		-o "soft=127.0.0.1:0,client_uid=0,client_gid=0,$rule" >"$lane.log" 2>&1 &
	daemon=$!
	wait_for 30 eval "is_mounted || is_gone $daemon"
	is_mounted "$mnt" || return 1
	wait_for 30 has_url
}

has_url() {
	url=$(sed -n 's,^soft: listening on ,soft://,p' "$lane.log" | head -n 1)
	[ -n "$url" ]
}

cut_power() {
	kill -KILL "$daemon"
	wait "$daemon" 2>/dev/null
}

bad_puts() {
	local name
	while read -r name; do
		[ "$(sum_of "$mnt/$name")" = "$put_sum" ] || echo "$name"
	done <"$lane.put"
}

tell() {
	for w in "${!to[@]}"; do echo "$1" >&"${to[w]}"; done
}

# answers WANTED: one answer from each worker.
answers() {
	local line rc=0
	for w in "${!from[@]}"; do
		while :; do
			read -r -t 60 -u "${from[w]}" line || { echo "worker $w is silent" && return 1; }
			[[ $line == '#'* ]] || break
			echo "${line#\# } (worker $w)"
		done
		[[ $line == "$1"* ]] || { echo "worker $w says \"$line\"" && rc=1; }
		[[ $line != stopped* ]] || operations[w]=${line//[^0-9]/}
	done
	return $rc
}

start_workers() {
	local w fd
	to=() from=() operations=()
	for w in 0 1; do
		mkdir "$mnt/w$w"
		mkfifo "$lane.to$w" "$lane.from$w"
		"$acked" "$mnt/w$w" $((seed * 10 + $1 * 2 + w)) <"$lane.to$w" >"$lane.from$w" &
		exec {fd}>"$lane.to$w"
		to[w]=$fd
		exec {fd}<"$lane.from$w"
		from[w]=$fd
	done
}

# round NUMBER [VARIABLE=VALUE...]: load, cut, mount, verify.  Prints what is wrong.
round() {
	local n=$1 out putter
	shift
	tell run
	put_files "$n" >>"$lane.put" &
	putter=$!
	sleep "0.$(printf %03d $((5 + RANDOM % 200)))"
	cut_power
	answers stopped || return 1
	clear_dead_mount
	end_put_files $putter || { echo "the remote client does not end" && return 1; }
	mount_cut "$@" || { echo "cannot be mounted: $(cat "$lane.log")" && return 1; }
	out=$(pmemleasectl "$mnt" audit 2>&1) || { echo "audit: $out" && return 1; }
	tell verify
	answers good || return 1
	out=$(bad_puts)
	[ -z "$out" ] || { echo "committed by a remote client, and not there: $out" && return 1; }
	: >"$lane.put"
	rm -f "$mnt"/put/*
}

# run_lane NUMBER CUTS [VARIABLE=VALUE...]: prints "CUTS OPERATIONS" last.
run_lane() {
	local number=$1 wanted=$2 n=0 sum=0
	shift 2
	lane=$work/ground/lane$number
	mnt=$work/mnt$number
	mkdir "$mnt"
	: >"$lane.put"
	RANDOM=$((seed + number))
	make_device 64M
	mount_cut "$@" || { echo "cannot be mounted: $(cat "$lane.log")" && return 1; }
	mkdir "$mnt/put"
	start_workers "$number"
	while [ $n -lt "$wanted" ] && round "$n" "$@"; do n=$((n + 1)); done
	[ $n = "$wanted" ] || sed 's/^/daemon: /' "$lane.log"
	for w in "${operations[@]}"; do sum=$((sum + w)); done
	tell quit
	is_gone "$daemon" || cut_power
	clear_dead_mount
	echo "$n $sum"
}

half=$((cuts / 2))
run_lane 0 $half >"$work/ground/out0" 2>&1 &
lane0=$!
run_lane 1 $((cuts - half)) PML_CUT_EARLY=30 >"$work/ground/out1" 2>&1 &
lane1=$!
wait $lane0 $lane1

# lane_is_good NUMBER CUTS NAME
lane_is_good() {
	local rounds operations
	read -r rounds operations < <(tail -n 1 "$work/ground/out$1")
	if [ "$rounds" = "$2" ]; then
		ok "$3 ($operations operations)"
	else
		not_ok "$3" "$(tail -n 40 "$work/ground/out$1")"
	fi
}
lane_is_good 0 $half "$half cuts: only what was fenced survives"
lane_is_good 1 $((cuts - half)) \
	"$((cuts - half)) cuts: some of what was not fenced survives, too, or a part of a line"

# ---- the harness itself: without its write-back everything is lost -----------

lane=$work/ground/proof
make_device 64M
mount_cut PML_CUT_LOSE_ALL=1 || bail_out "cannot mount: $(cat "$lane.log")"
echo text >"$mnt/file"
sync "$mnt/file"
is "$(cat "$mnt/file")" text "a file is there before the cut"
cut_power
clear_dead_mount
mount_cut || bail_out "cannot mount: $(cat "$lane.log")"
is "$(ls "$mnt")" "" "and after a cut in which no fence counted it is not"
echo text >"$mnt/file"
cut_power
clear_dead_mount
mount_cut || bail_out "cannot mount: $(cat "$lane.log")"
is "$(cat "$mnt/file")" text "where fences count it survives"
cut_power
clear_dead_mount

# ---- flushes of a remote client: by each rule, without a commit ---------------

# look_at_records: sets head and verdict of what is there.
look_at_records() {
	read -r head verdict < <("$flusher" "$url" read log)
}

# cut_flushes CUTS [VARIABLE=VALUE...]: what is wrong; last "N flushed under rule R".
cut_flushes() {
	local n=$1 last=0 flushed got used=
	shift
	mount_cut "$@" || { echo "cannot be mounted: $(cat "$lane.log")" && return; }
	head -c $((17 * 4096)) /dev/zero >"$mnt/log" && sync "$mnt/log"
	while [ $((n--)) -gt 0 ]; do
		"$flusher" "$url" run log "$last" >"$lane.flushed" 2>&1 &
		got=$!
		sleep "0.$(printf %03d $((20 + RANDOM % 200)))"
		cut_power
		wait $got
		clear_dead_mount
		# The cut may come before the client is there.
		read -r flushed got <"$lane.flushed"
		[[ $flushed =~ ^[0-9]+$ ]] && used=$got || flushed=$last
		mount_cut "$@" || { echo "cannot be mounted: $(cat "$lane.log")" && return; }
		look_at_records
		[ "$verdict" = good ] || echo "record $head: $verdict"
		[ "$head" -ge "$flushed" ] || echo "record $flushed was flushed, and $head is there"
		[ "$head" -le $((flushed + 1)) ] || echo "record $head was never written"
		last=$head
	done
	cut_power
	clear_dead_mount
	echo "$([ "$last" -gt 0 ] && echo some) flushed under rule $used"
}

lane=$work/ground/flush
for case in auto:3 read:2 commit:1; do
	rule=remote_durability=${case%:*}
	make_device 64M
	is "$(cut_flushes 8)" "some flushed under rule ${case#*:}" "$rule: what was flushed survives cuts"
	make_device 64M
	is "$(cut_flushes 8 PML_CUT_EARLY=30)" "some flushed under rule ${case#*:}" \
		"$rule: and where some of what was not fenced survives, too"
done

rule=remote_durability=auto
make_device 64M
mount_cut || bail_out "cannot mount: $(cat "$lane.log")"
head -c $((17 * 4096)) /dev/zero >"$mnt/log" && sync "$mnt/log"
is "$("$flusher" "$url" write log 16)" written "a write that nobody flushes"
is "$(od -An -tu8 -N8 "$mnt/log" | tr -d ' ')" 16 "is seen before the cut"
cut_power
clear_dead_mount
mount_cut || bail_out "cannot mount: $(cat "$lane.log")"
is "$(od -An -tu8 -N8 "$mnt/log" | tr -d ' ')" 0 "and lost by it"
cut_power
clear_dead_mount
finish
