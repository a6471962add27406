#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
#
# local.t -- local programs that hold leases through their open files
#
# usage: local.t [BUILD_DIR]; see tests/README.md
. "$(dirname "$0")/lib.sh"
start "$@"
fsop=$(helper fsop) || bail_out "fsop does not compile"
locallease=$(helper locallease) || bail_out "locallease does not compile"
ground=$work/ground
clocks=ack=300ms,drain=700ms
base=local_leases,poison,soft=127.0.0.1:0,client_uid=0,client_gid=0

make_device 256M
mount_fs $base,$clocks

trap '' PIPE # some holders are dead when they are told something

# ---- holders ------------------------------------------------------------------

declare -a to from pids
holders=0

# program FILE MODE: a new holder; sets h, its number.
program() {
	h=$((++holders))
	mkfifo "$ground/to.$h" "$ground/from.$h"
	"$locallease" "$mnt/$1" "$2" <"$ground/to.$h" >"$ground/from.$h" 2>/dev/null &
	pids[h]=$!
	disown $!
	local in out
	exec {in}>"$ground/to.$h" {out}<"$ground/from.$h"
	to[h]=$in from[h]=$out
	read -r -t 10 -u "${from[h]}" reply || reply="no answer"
}

# begin N COMMAND...; answer N: sets reply.  tell does both.
begin() { echo "${*:2}" >&"${to[$1]}"; }
answer() { read -r -t 20 -u "${from[$1]}" reply || reply="no answer"; }
tell() {
	begin "$@" 2>/dev/null
	answer "$1"
}
# lets N COMMAND... WANT NAME
lets() {
	tell "$1" "$2"
	is "$reply" "$3" "$4"
}
# take N r|w FIRST LEN: sets lease.
take() {
	tell "$1" take "${@:2}"
	lease=${reply%% *}
}
# quit N: ends the program, and with it the description.  Programs that were started after
# it may have its pipe, too: it is told.
quit() {
	begin "$1" quit 2>/dev/null
	local in=${to[$1]} out=${from[$1]}
	exec {in}>&- {out}<&-
	wait_for 10 is_gone "${pids[$1]}" || not_ok "program $1 ends"
}

# ---- take, read, write, commit, return ------------------------------------------

file a 1000003
program a rw
is "$reply" ok "a program opens its file"
take $h r 100 2000000
is "$(cut -d' ' -f2-4 <<<"$reply")" "100 1000003 1000003" "a read lease ends at the end of the file"
lets $h "pread $device $ground/got" ok "its segments are read on the device"
check "and are what the file says" cmp "$ground/got" <(tail -c +101 "$mnt/a")
contains "$(pmemleasectl "$mnt" leases)" "held by process ${pids[h]} of user 0" "its holder is named"
lets $h "return 0" ok "it is returned"
lets $h "return 0" ESTALE "once"
stat_becomes leases 0 5 "and ends"
lets $h "ack 1" ESTALE "ack of what is over"
lets $h event EAGAIN "there is no event"
lets $h "poll 0" none "poll: readable and writable, no event"
take $h w 8192 100
is "${reply#* }" "8192 12288 1000003 1" "a write lease is rounded out to blocks"
lets $h "pwrite $device here" ok "its device writes"
lets $h "commit 0 8192 4 0" ok "commit"
is "$(head -c 8196 "$mnt/a" | tail -c 4)" here "a local reader sees it"
lets $h "commit 0 12288 1 0" EINVAL "commit outside of the lease"
lets $h "commit 0 8192 0 0" EINVAL "commit of nothing"
lets $h "commit 99 8192 1 0" ESTALE "commit of no lease"
lets $h "return 0" ok "return"
take $h w 1003520 8192
lets $h "pwrite $device longer" ok "behind the end"
lets $h "commit 0 1003520 6 1003526" ok "a commit makes the file longer"
is "$(stat -c %s "$mnt/a") $(tail -c 6 "$mnt/a")" "1003526 longer" "which is seen"
take $h r 0 4096
lets $h "commit $lease 0 1 0" EACCES "commit of a read lease"
lets $h "take w 0 1" EDEADLK "a conflict with a lease of its own"
lets $h "take r 2000000 1" ENODATA "behind the end"
lets $h "take r 0 0" EINVAL "of nothing"
lets $h "take r 0 2000000000" EINVAL "of more than 1 GiB"
lets $h "take r 9223372036854775000 4096" EFBIG "behind what a file can have"
lets $h "badtake version" EINVAL "another version"
lets $h "badtake reserved" EINVAL "a reserved field"
lets $h "badtake unknown" EINVAL "an unknown flag"
lets $h "take ru 0 1" EPERM "unbreakable, and the mount allows none"
quit $h
no_leases 5 "a program that ends"

program a rw
first=$h
program a rw
take $first ws 0 4096
take $h ws 0 8192
is "$(stat_of leases)" 2 "two programs write into one range by shared leases"
lets $first "return 0" ok "shared: one goes"
lets $h "pwrite $device shared" ok "shared: the other goes on"
quit $first
mount.pmemleasefs "$device" "$mnt" -o remount,max_unbreakable=1M || not_ok "remount"
lets $h "return 0" ok "shared: it goes, too"
stat_becomes leases 0 5 "shared: both have ended"
take $h ru 0 4096
is "$(truncate -s 10 "$mnt/a" 2>&1 | grep -c 'resource busy')" 1 "unbreakable: EBUSY under revoke"
lets $h event EAGAIN "unbreakable: no recall"
lets $h "truncate 10" EDEADLK "unbreakable: the holder's own change"
quit $h
no_leases 5 "kinds of leases"
truncate -s 1003526 "$mnt/a"
truncate -s 1M "$mnt/sparse"
printf x | dd of="$mnt/sparse" bs=1 seek=500000 conv=notrunc status=none
program sparse r
take $h r 0 2000000
is "${reply#* }" "0 1048576 1048576 1" "a sparse file has one segment"
tell $h "pread $device $ground/got"
check "what lies between segments reads as zeros" cmp "$ground/got" "$mnt/sparse"
lets $h "take w 0 1" EBADF "a write lease needs a descriptor for writing"
quit $h
program a w
lets $h "take r 0 1" EBADF "a read lease one for reading"
lets $h thread ok "a second thread"
take $h w 0 4096
is "$reply" "$lease 0 4096 1003526 1" "takes a lease for the process"
rm "$mnt/a"
lets $h "return 0" ok "an unlinked file: return"
quit $h
program ../ r
is "$(tell $h take r 0 1; echo "$reply")" ENOTTY "a directory has no leases"
quit $h
no_leases 5 "all of that"
audit

# ---- recalls --------------------------------------------------------------------

# Each with what it does to a reader, or to a writer.
operate() {
	case $1 in
	truncate) "$fsop" truncate "$mnt/held" 4096 ;;
	punch) "$fsop" fallocate "$mnt/held" punch 4096 65536 ;;
	unshare) printf x | dd of="$mnt/held" bs=1 seek=5000 conv=notrunc status=none ;;
	esac
}
op_number() { case $1 in truncate) echo 0 ;; punch) echo 1 ;; unshare) echo 2 ;; esac; }
# A file that shares the blocks of held; it would step aside, were it not leased, too.
twin=
share_with_twin() {
	rm -f "$mnt/twin"
	cp "$mnt/held" "$mnt/twin"
	program twin r
	twin=$h
	take "$twin" r 0 262144
}
drop_twin() {
	[ -z "$twin" ] || quit "$twin"
	twin=
}
prepare() {
	drop_twin
	rm -f "$mnt/held"
	file held
	[ "$1" != unshare ] || share_with_twin
	program held rw
	take $h r 0 262144
}
# Long enough for a busy machine, and a little longer than ack.
remount "$base,ack=1s,drain=5s"
for op in truncate punch unshare; do
	prepare $op
	begin $h poll 10000
	operate $op >"$ground/op" 2>&1 &
	waiter=$!
	answer $h
	is "$reply" pri "$op: poll wakes up"
	lets $h event "recall $lease $(op_number $op) 5000" "$op: the event says what it is"
	lets $h event EAGAIN "$op: there is one"
	lets $h "poll 0" none "$op: and none is left"
	lets $h "take r 4096 4096" EAGAIN "$op: nobody gets a new lease meanwhile"
	# It was read: only the drain clock runs.
	sleep 1.2
	is "$(stat_of revoked)" 0 "$op: who has read the event is waited for"
	lets $h "return 0" ok "$op: it is returned"
	wait $waiter
	is "$?" 0 "$op: is done"
	lets $h "poll 0" none "$op: who has returned hears nothing"
	quit $h
done
prepare punch
begin $h epoll 10000
operate punch >/dev/null &
answer $h
is "$reply" pri "epoll wakes up, too"
lets $h "return 0" ok "a lease is returned, its event unread"
lets $h event EAGAIN "and the event is gone with it"
wait
quit $h

remount "$base,$clocks,policy=ebusy"
for op in truncate punch unshare; do
	prepare $op
	timed operate $op
	[ $op = unshare ] && out=$(sed -n 's/.*: Device or resource busy$/EBUSY/p' <<<"$out")
	is "$rc $out" "1 EBUSY" "ebusy: $op fails"
	lets $h "poll 0" none "ebusy: $op: the holder is not disturbed"
	quit $h
done
drop_twin
remount "$base,$clocks,policy=block"
for op in truncate punch unshare; do
	prepare $op
	operate $op >"$ground/op" 2>&1 &
	waiter=$!
	lets $h "poll 5000" pri "block: $op: recalled"
	lets $h event "recall $lease $(op_number $op) 0" "block: $op: without a clock"
	[ $op != truncate ] || sleep 1
	is "$(stat_of waiters) $(stat_of revoked)" "1 0" "block: $op waits longer than drain"
	if [ $op = punch ]; then
		lets $h close ok "block: $op: until the description is closed"
	else
		lets $h "return 0" ok "block: $op: until it is returned"
	fi
	wait $waiter
	is "$?" 0 "block: $op is done then"
	quit $h
done
drop_twin
no_leases 5 "policies"

remount "$base,$clocks"
file held
cp "$mnt/held" "$ground/up"
program held r
take $h r 0 4096
pmemlease put --hold 30 "$ground/up" "$url/held" >"$ground/put" 2>&1 &
client=$!
lets $h "poll 5000" pri "a remote lease request recalls it"
tell $h event
is "${reply% *}" "recall $lease 11" "and says that it is one"
lets $h "return 0" ok "it is returned"
wait_for 5 grep -q 'holding lease' "$ground/put"
lets $h "take r 0 4096" EAGAIN "and the other way round: asks again"
end_of $client 5
is "$client_status" 0 "the remote holder returns it"
wait_for 5 stat_is leases 0
take $h r 0 4096
is "${reply#* }" "0 4096 262144 1" "then it is there"
quit $h

# ---- who does not return is killed -------------------------------------------------

ends_killed() { check "$2" wait_for 5 is_gone "${pids[$1]}"; }
file held
program held r
take $h r 0 262144
tell $h fork
child=$reply
kill -KILL "$child"
timed "$fsop" truncate "$mnt/held" 4096
is "$rc $out" "0 ok" "a silent holder: truncate is done"
in_range $ms 250 3000 "after the ack clock, ms"
ends_killed $h "the silent holder was killed"
file held
program held r
take $h r 0 262144
"$fsop" truncate "$mnt/held" 4096 >"$ground/op" &
waiter=$!
tell $h "poll 5000"
tell $h event
is "$(stat_of fences_stuck)" 0 "a holder that reads the event"
wait $waiter
is "$?" 0 "and does not return: truncate is done"
ends_killed $h "it was killed"
is "$(stat_of revoked)" 2 "both are counted"
no_leases 5 "killed holders"
is "$(stat -c %s "$mnt/held")" 4096 "the file is truncated"

# A process that was forked has the description: its lease is stuck until it closes it.
file held
program held r
take $h r 0 262144
tell $h fork
child=$reply
timed "$fsop" truncate "$mnt/held" 4096
is "$rc $out" "1 EIO" "a description that others have: EIO"
ends_killed $h "its holder was killed"
is "$(stat_of fences_stuck) $(stat_of leases)" "1 1" "the lease is stuck"
is "$(stat_of pins)" 64 "and keeps its pins"
timed "$fsop" truncate "$mnt/held" 4096
is "$rc $out" "1 EIO" "and is in the way"
timed "$fsop" truncate "$mnt/held" 524288
is "$rc $out" "0 ok" "of what meets it, and nothing else"
audit "a stuck lease: counters agree"
kill -KILL "$child"
no_leases 5 "the last one closes it"
is "$(stat_of fences_stuck)" 0 "nothing is stuck any more"
timed "$fsop" truncate "$mnt/held" 4096
is "$rc $out" "0 ok" "truncate goes again"

# ---- descriptions --------------------------------------------------------------------

file held
program held rw
one=$h
take $one r 0 8192
first=$lease
lets $one open ok "a second description"
lets $one "return $first" ESTALE "has nothing to do with the first one's lease"
lets $one "ack $first" ESTALE "nor can it acknowledge"
take $one r 0 8192
is "$(stat_of leases) $(stat_of sessions)" "2 2" "and has its own"
lets $one close ok "it is closed"
stat_becomes leases 1 5 "its lease ends, the other's does not"
lets $one "use 0" ok "back to the first"
lets $one dup ok "a duplicate, and the first descriptor is closed"
is "$(stat_of leases)" 1 "the lease lives with the description"
lets $one "return $first" ok "and is returned through the duplicate"
take $one r 0 8192
tell $one fork
child=$reply
lets $one close ok "the parent closes it, its child does not"
sleep 0.2
is "$(stat_of leases)" 1 "the lease lives"
kill -KILL "$child"
stat_becomes leases 0 5 "until the child has ended"
quit $one
program held rw
take $h r 0 8192
first=$lease
lets $h exec ok "exec with the descriptor"
is "$(stat_of leases)" 1 "the lease lives"
lets $h "return $first" ok "and the new program returns it"
take $h r 0 8192
is "$(stat_of leases)" 1 "and takes another"
kill -KILL "${pids[h]}"
no_leases 5 "kill -9 of a holder"

# ---- changes of its own ----------------------------------------------------------------

# own COMMAND NAME
own() {
	file held
	share_with_twin
	program held rw
	take $h "${3:-r}" 0 65536
	lets $h "$1" ok "$2 through the description is done"
	lets $h event "revoked $lease 6" "$2: its lease is over, by its own change"
	lets $h event EAGAIN "$2: and nothing was recalled"
	quit $h
	drop_twin
}
recalls=$(stat_of recalls) revoked=$(stat_of revoked)
own "truncate 4096" truncate
own "punch 0 8192" punch
own "write 100" "a write to a shared block"
own "copy 8192" copy_file_range
own "truncate 4096" "truncate of a write lease" w
is "$(stat_of recalls) $(stat_of revoked)" "$recalls $revoked" "own changes recall and revoke nobody"
file held
program held rw
take $h r 0 65536
lets $h "write 100" ok "a write in place"
lets $h "return 0" ok "leaves the lease alone"
take $h r 0 65536
lets $h open ok "another description of the same program"
begin $h truncate 4096
wait_for 5 is_gone "${pids[h]}"
ok "is anybody's: its program, which waits for itself, is killed"
wait_for 5 stat_is leases 0
is "$(stat_of leases) $(stat_of fences_stuck)" "0 0" "and nothing is stuck"
quit $h

# ---- pmemleasectl, the example, limits, rights ---------------------------------------------

# What an administrator takes from it: its life, as nobody knows what its devices do.
file evicted
program evicted rw
take $h w 0 8192
session=$(pmemleasectl "$mnt" sessions --json | sed -n 's/.*"session":\([0-9]*\).*/\1/p')
contains "$(pmemleasectl "$mnt" sessions)" "process ${pids[h]} of user 0" "sessions: a local program"
is "$(pmemleasectl "$mnt" evict "$session")" "session $session is over, and 1 lease" "evict"
is "$(stat_of leases) $(stat_of pins)" "0 0" "evict: nothing is left when it returns"
check "evict: the program is killed" wait_for 5 is_gone "${pids[h]}"
quit $h

file held
pmemleasectl lease "$mnt/held" >"$ground/ctl" 2>&1 &
ctl=$!
wait_for 5 grep -q 'holding lease' "$ground/ctl"
timed "$fsop" truncate "$mnt/held" 4096
wait $ctl
is "$? $rc" "0 0" "pmemleasectl lease: returns what is recalled"
contains "$(cat "$ground/ctl")" $'recalled for truncate, 700 ms\nlease returned' "and says so"
timed pmemleasectl lease "$mnt/held" --write --offset=4096 --length=8192 --hold=0.1 --json
is "$rc" 0 "pmemleasectl lease --hold"
contains "$out" '"mode":"write","first_byte":4096,"end_byte":12288' "--json: the lease"
contains "$out" '{"event":"ended","why":"returned"}' "--json: its end"
file held
pmemleasectl lease "$mnt/held" --ignore-recall >"$ground/ctl" 2>&1 &
ctl=$!
disown $ctl
wait_for 5 grep -q 'holding lease' "$ground/ctl"
timed "$fsop" truncate "$mnt/held" 4096
is "$rc" 0 "pmemleasectl lease --ignore-recall: is killed"
check "indeed" wait_for 5 is_gone $ctl
timed pmemleasectl lease "$mnt/none"
is "$rc" 2 "pmemleasectl lease: no such file"
timed pmemleasectl lease "$mnt/held" --hold=x
is "$rc" 1 "pmemleasectl lease: usage"
timed pmemleasectl lease "$mnt/held" --offset=1M
is "$rc" 2 "pmemleasectl lease: behind the end"
example=$build/tests/local_lease_example
if [ -x "$example" ]; then
	file held
	timed "$example" "$mnt/held" "$device"
	is "$rc $out" "0 $(cksum <"$mnt/held" | cut -d' ' -f2) bytes read on the device" "the example"
else
	skip "the example" "not built"
fi

remount "$base,$clocks,max_session_leases=2,max_sessions=2,max_session_pinned=64K"
file held
program held r
one=$h
take $one r 0 4096
take $one r 0 4096
lets $one "take r 0 4096" EDQUOT "max_session_leases"
lets $one "return 0" ok "one less"
stat_becomes leases 1 5 "when it is fenced"
lets $one "take r 0 262144" EDQUOT "max_session_pinned"
lets $one open ok "a second description"
take $one r 0 4096
lets $one open ok "and a third"
lets $one "take r 0 4096" EUSERS "max_sessions"
lets $one "use 0" ok "the first"
take $one r 0 4096
is "${reply#* }" "0 4096 262144 1" "goes on"
quit $one
no_leases 5 "limits"
chmod 640 "$mnt/held"
timed setpriv --reuid=4711 --regid=4711 --clear-groups "$locallease" "$mnt/held" r
is "$out" EACCES "who may not open a file gets no lease"
chmod 644 "$mnt/held"
timed eval 'echo "take r 0 4096" | setpriv --reuid=4711 --regid=4711 --clear-groups "$locallease" "$mnt/held" r'
contains "$out" " 0 4096 262144 1" "who may does"
remount "soft=127.0.0.1:0"
program held r
lets $h "take r 0 4096" EPERM "without local_leases"
lets $h event EPERM "nor an event"
lets $h "poll 0" none "but poll goes"
quit $h
remount "ro,$base"
program held r
take $h r 0 4096
is "${reply#* }" "0 4096 262144 1" "read-only: a read lease"
quit $h

# ---- ends of the filesystem -----------------------------------------------------------------

remount "$base,$clocks"
program held r
one=$h
take $one r 0 4096
first=$lease
program held r
two=$h
take $two r 0 4096
kill -TERM "$daemon"
lets $one "poll 5000" pri "SIGTERM: holders are recalled"
lets $one event "recall $first 13 700" "and told why"
lets $one "take r 8192 1" ESHUTDOWN "nothing new is given"
lets $one "return 0" ok "one returns its lease"
begin $one poll 10000
check "the daemon ends" wait_for 10 is_gone "$daemon"
answer $one
is "$reply" err "poll: error"
lets $one event ENOTCONN "all else: ENOTCONN"
ends_killed $two "who has returned nothing was killed"
quit $one
is "$(is_mounted; echo $?)" 1 "it has unmounted"
check "the device is sound" fsck.pmemleasefs -n "$device"

mount_fs "$base,$clocks"
program held r
take $h r 0 4096
umount -l "$mnt"
lets $h "poll 0" none "umount -l: the holder goes on"
is "$(is_gone "$daemon"; echo $?)" 1 "so does the daemon"
lets $h "return 0" ok "the lease is returned"
quit $h
check "the daemon ends with the last description" wait_for 20 is_gone "$daemon"
mount_fs "$base,$clocks"
program held r
take $h r 0 4096
umount -f "$mnt" 2>/dev/null # busy, but the connection is over
ends_killed $h "umount -f: nobody hears of a return any more, the holder was killed"
quit $h
check "the daemon ends" wait_for 20 is_gone "$daemon"
clear_dead_mount
mount_fs "$base,$clocks"
program held r
take $h r 0 4096
begin $h poll 10000
kill_daemon
answer $h
is "$reply" err "kill -9 of the daemon: poll ends with an error"
lets $h "return 0" ENOTCONN "and everything fails"
quit $h
clear_dead_mount
mount_fs "$base,$clocks"
is "$(stat_of pins)" 0 "nothing of a lease survives"
audit
umount_fs
is $umount_status 0 "umount"
finish
