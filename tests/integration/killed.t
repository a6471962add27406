#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
#
# killed.t -- clients that die with kill -9 in the middle of one-sided traffic, or are evicted there
#
# usage: killed.t [BUILD_DIR]; see tests/README.md
#   PML_TEST_TRANSPORT   soft, or rdma inside tests/vm/run
#
# Their leases are fenced and gone within the term, their blocks come back (I1, I2).
. "$(dirname "$0")/lib.sh"
start "$@"
choose_fabric 256M
mount_fs "$listen,client_uid=0,client_gid=0,poison,$clocks"
term=${clocks##*term=} term=${term%s}
free=$(stat_of free_blocks)
head -c 16M /dev/urandom >"$mnt/read"

# stream NAME read|write: sets client, which goes on without an end.
stream() {
	local option=
	[ "$2" = read ] || option=--write
	pmemlease bench "$url/$2" $option --size 64k --count 100000000 --file-size 16M \
		>/dev/null 2>"$work/client" &
	client=$!
	if wait_for 30 stat_at_least pins 4096; then
		ok "$1: a client streams ${2}s through its lease"
	else
		not_ok "$1: a client streams ${2}s through its lease" "$(cat "$work/client")"
	fi
}

for i in 1 2 3 4; do
	stream $i "$([ $((i % 2)) = 1 ] && echo read || echo write)"
	sleep 0.$((RANDOM % 5))
	kill -9 $client
	wait $client 2>/dev/null
	stat_becomes pins 0 "$term" "$i: no pin is left within the term of $term s"
	# The table hears of it a moment after the blocks.
	stat_becomes leases 0 5 "$i: nor lease"
	stat_becomes sessions 0 5 "$i: nor session"
	stat_becomes fences_stuck 0 1 "$i: nor stuck fence"
	audit "$i: counters agree with extents"
done

# The administrator ends one: nothing of it is left when that returns, and it is told.
host=${url#*://} host=${host%:*}
for verb in read write; do
	stream evicted $verb
	timed pmemleasectl "$mnt" sessions
	session=$(sed -n "s/^\([0-9]*\) *0 *[1-9].* $host:[0-9]*$/\1/p" <<<"$out")
	contains "$out" " 16.0 MiB " "evicted: its session is listed, with what it has pinned"
	is "$(pmemleasectl "$mnt" evict "$session")" "session $session is over, and 1 lease" \
		"evicted: and ended"
	is "$(stat_of pins) $(stat_of leases) $(stat_of fences_stuck)" "0 0 0" "evicted: no pin is left"
	end_of $client 30
	# The end of the connection may overtake the words that the server sent before.
	out=$(tail -n 1 "$work/client")
	case "$client_status $out" in
	"5 "*"lease revoked"* | "2 "*"connection lost"*) ok "evicted: the client is told: $out" ;;
	*) not_ok "evicted: the client is told" "status $client_status" "$out" ;;
	esac
	stat_becomes sessions 0 20 "evicted: nor session"
	audit "evicted: counters agree with extents"
done
rm -f "$mnt/read" "$mnt/write"
stat_becomes used_blocks 0 5 "its blocks come back"
in_range "$(stat_of free_blocks)" $((free - free / 50)) "$free" "free blocks are as many as before"
umount_fs
is "$umount_status" 0 "umount"
finish
