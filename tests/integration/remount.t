#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
#
# remount.t -- policies, times and limits of a mounted filesystem are changed
#
# usage: remount.t [BUILD_DIR]; see tests/README.md
. "$(dirname "$0")/lib.sh"
start "$@"
fsop=$(helper fsop) || bail_out "fsop does not compile"
make_device 128M
mount_fs soft=127.0.0.1:0,client_uid=0,client_gid=0,ack=500ms,drain=2s,term=60s,policy=block

change() { mount.pmemleasefs "$device" "$mnt" -o "remount,$1"; }
wait_in_background() {
	"$fsop" truncate "$mnt/held" 4096 >"$work/ground/op" 2>&1 &
	op=$!
	stat_becomes waiters 1 5 "$1: an operation waits"
}

# hold_anew [OPTIONS...]: a holder that keeps its lease.
hold_anew() {
	rm -f "$mnt/held"
	head -c 256K /dev/urandom >"$mnt/held"
	hold get /held --hold 60 "$@"
}

hold_anew --ignore-recall
wait_in_background "policy block"
check "remount,policy=ebusy" change policy=ebusy
end_of $op 5
is "$(cat "$work/ground/op")" EBUSY "what waits meets the lease by the new policy"
is "$(stat -c %s "$mnt/held")" 262144 "and has changed nothing"
is "$("$fsop" truncate "$mnt/held" 4096)" EBUSY "what comes later, too"
kill -KILL $client && wait $client 2>/dev/null
stat_becomes leases 0 5 "the holder is gone"

check "remount,policy=block again" change policy=block
hold_anew --ignore-recall
wait_in_background "policy block again"
check "remount,policy=revoke" change policy=revoke
end_of $op 10
is "$(cat "$work/ground/op")" ok "what waits is done"
end_of $client 5
is "$client_status" 5 "for its holder is revoked now"

check "one operation's policy, and a limit" change policy.truncate=ebusy,max_session_leases=1
hold_anew
is "$("$fsop" truncate "$mnt/held" 4096)" EBUSY "truncate fails"
is "$("$fsop" fallocate "$mnt/held" punch 0 65536)" ok "punch goes as before"
end_of $client 5
is "$client_status" 0 "and its holder has returned the lease"

# refused WORDS OPTIONS STATUS NAME
refused() {
	out=$(change "$2" 2>&1)
	is "$?" "$3" "$4: status"
	contains "$out" "$1" "$4: in words"
}
refused "ro or rw cannot be changed" ro,policy=block 1 "read-only"
refused "soft cannot be changed" soft=127.0.0.1:1 1 "another address"
refused "wants revoke, ebusy" policy=maybe 1 "no such policy"
refused "out of range" max_leases=0 1 "a limit of nothing"
hold_anew
is "$("$fsop" fallocate "$mnt/held" punch 0 65536)" ok "a refused remount has changed nothing"
kill -KILL $client && wait $client 2>/dev/null
mkdir "$work/none"
out=$(mount.pmemleasefs "$device" "$work/none" -o remount,policy=block 2>&1)
is "$?" 32 "nothing is mounted there: status"
contains "$out" "no pmemleasefs is mounted there" "nothing is mounted there: in words"
out=$(setpriv --reuid=1234 --clear-groups mount.pmemleasefs "$device" "$mnt" -o remount,policy=block 2>&1)
is "$?" 1 "another user: status"
contains "$out" "not permitted" "another user: in words"
stat_becomes leases 0 5 "no lease is left"
audit
umount_fs
is "$umount_status" 0 "umount"
finish
