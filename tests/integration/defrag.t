#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
#
# defrag.t -- pmemleasectl defrag on a real mount: files and trees, with leases, sharing,
# mappings and crashes in the way
#
# usage: defrag.t [BUILD_DIR]; see tests/README.md
. "$(dirname "$0")/lib.sh"
start "$@"
fsop=$(helper fsop) || bail_out "fsop does not compile"
ctl=pmemleasectl

base=soft=127.0.0.1:0,client_uid=0,client_gid=0,poison
clocks=ack=300ms,drain=1s,term=3s
make_device 256M
mount_fs $base,$clocks
cd "$mnt" || bail_out "cannot enter the mount"

# fragment FILE BLOCKS: random bytes, written from the end to the beginning.
fragment() {
	python3 -c '
import os, sys
fd = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT, 0o644)
for i in reversed(range(int(sys.argv[2]))):
    os.pwrite(fd, os.urandom(4096), i * 4096)
' "$1" "$2"
}
# Extents of a file: contiguous in it and on the device.
extents() {
	$ctl extents "$1" | awk 'NR > 1 { n += $1 != byte || $2 != block; byte = $1 + $3 * 4096; block = $2 + $3 } END { print n + 0 }'
}
says() { "$@" 2>&1; echo "status $?"; }
# The numbers of defrag's line.
numbers() { awk 'NR > 1 { print $1, $2, $3 $4, $5 $6, $7 $8 }'; }

# ---- files ------------------------------------------------------------------

fragment f 200
sum=$(sum_of f)
was=$(stat -c '%s %b %y %z %i' f)
is "$(extents f)" 200 "a file of 200 extents"
is "$($ctl defrag f | numbers)" "200 1 800.0KiB 0B 0B" "defrag: says what it has done"
is "$(extents f)" 1 "which is so"
is "$(stat -c '%s %b %y %z %i' f)" "$was" "size, blocks and times stay"
is "$(sum_of f)" "$sum" "so do the bytes that are cached"
is "$(dd if=f bs=1M iflag=direct status=none | sum_of /dev/stdin)" "$sum" "and those that are not"
is "$($ctl defrag f | numbers)" "1 1 0B 0B 0B" "once more: nothing to do"
fragment f 50 && fragment g 50
is "$($ctl defrag --json f g | python3 -c '
import json, sys
for e in json.load(sys.stdin):
    print(e["file"], e["extents_after"], e["shared_bytes"], e["leased_bytes"], e["moved_bytes"] > 0)
' | paste -sd,)" "f 1 0 0 False,g 1 0 0 True" "JSON"
is "$($ctl defrag -q f g)" "" "quiet"
audit
rm g

fragment f2 100
"$fsop" clone f2 0 clone 0 $((40 * 4096)) >/dev/null
is "$($ctl defrag f2 | numbers)" "100 41 240.0KiB 160.0KiB 0B" "shared blocks stay"
check "a clone keeps its bytes" cmp -n $((40 * 4096)) f2 clone
is "$(stat_of shared_blocks)" 40 "and its share"
rm -f clone f2

out=$(says $ctl defrag missing f)
contains "$out" "missing: No such file" "a file that is missing is named"
contains "$out" "status 2" "which is an error"
contains "$out" "1        1" "and the others are done"
contains "$(says $ctl defrag "$mnt")" "Is a directory" "a directory without --all"
contains "$(says $ctl defrag)" "status 1" "without a file: usage"
contains "$(says $ctl defrag /proc/self/comm)" "not a pmemleasefs" "elsewhere"
is "$($ctl --help | awk 'length > 80')" "" "the help fits a terminal"

# Stores through a mapping, beside it.
fragment m 400
is "$(python3 -c '
import mmap, os, subprocess, sys
fd = os.open("m", os.O_RDWR)
view = mmap.mmap(fd, 0)
want = bytearray(os.pread(fd, len(view), 0))
run = subprocess.Popen(["pmemleasectl", "defrag", "-q", "m"])
for i in range(0, len(view), 999):
    view[i] = want[i] = i % 251
view.flush()
run.wait()
for i in range(0, len(view), 777):
    view[i] = want[i] = i % 241
view.flush()
fresh = os.open("m", os.O_RDONLY | os.O_DIRECT)
bounce = mmap.mmap(-1, len(view))
os.preadv(fresh, [bounce], 0)
print(bounce[:] == want and view[:] == want, run.returncode)
')" "True 0" "stores through a mapping meanwhile and afterwards"
is "$(extents m)" 1 "beside which it moves"
rm m

# ---- trees ------------------------------------------------------------------

mkdir -p tree/a/b tree/mounted
fragment tree/one 20
fragment tree/a/two 20
fragment "tree/a/b/th ree" 20
ln tree/one tree/a/again
ln -s one tree/link
mkfifo tree/fifo
: >tree/empty
if in_mount=$(mount -t tmpfs none tree/mounted 2>&1); then
	head -c 8192 /dev/zero >tree/mounted/foreign
else
	note "$in_mount"
fi
was=$(digest tree)
out=$($ctl defrag --all tree)
is "$(numbers <<<"$out" | sort | uniq -c | awk '{ print $1, $2, $3 }' | paste -sd,)" \
	"1 0 0,3 20 1" "--all: each file once, on this filesystem"
contains "$out" "tree/a/b/th ree" "--all: tells names"
is "$(digest tree)" "$was" "--all: nobody sees a difference"
is "$($ctl defrag --all -q tree; echo $?)" 0 "--all: quiet"
contains "$(says $ctl defrag --all /proc/self)" "status 2" "--all: elsewhere"
contains "$(says $ctl defrag --all nothing)" "nothing: No such file" "--all: no such directory"
umount tree/mounted 2>/dev/null
if command -v setpriv >/dev/null; then
	out=$(says setpriv --reuid=1234 --clear-groups $ctl defrag --all tree)
	contains "$out" "tree/a/two: Permission denied" "only who may write a file"
	contains "$out" "status 2" "which is an error"
fi
audit
rm -rf tree f

# ---- leases in the way ------------------------------------------------------

# again POLICY [OPTION]: a new mount, a file of 60 extents, and a client that holds a lease.
again() {
	cd / && remount "$base,$clocks$1" && cd "$mnt" || exit
	rm -f held free
	fragment held 60
	fragment free 30
	sum=$(sum_of held)
	hold get /held --hold 30 ${2:+"$2"}
}
drop() {
	kill -KILL $client && wait $client 2>/dev/null
	stat_becomes leases 0 5 "$1: no lease is left"
	check "$1: no byte has changed" [ "$(sum_of held)" = "$sum" ]
}

again ""
is "$($ctl defrag held free | numbers | paste -sd,)" \
	"60 60 0B 0B 240.0KiB,30 1 120.0KiB 0B 0B" "default: what is leased is skipped, the rest is moved"
is "$(stat_of leases) $(stat_of recalls)" "1 0" "default: the lease lives"
drop default

again ,policy.relocate=revoke
is "$($ctl defrag held | numbers)" "60 1 240.0KiB 0B 0B" "revoke: the file is moved"
end_of $client 5
is "$client_status" 0 "revoke: the holder has returned the lease"
audit

again ,policy.relocate=ebusy
contains "$(says $ctl defrag held free)" "held: Device or resource busy" "ebusy: names the file"
is "$(extents held) $(extents free)" "60 1" "ebusy: others are moved"
is "$(says $ctl defrag -q held | tail -n 1)" "status 2" "ebusy: is an error"
is "$(stat_of leases)" 1 "ebusy: the lease lives"
drop ebusy

again ,policy.relocate=block --ignore-recall
$ctl defrag -q held &
mover=$!
wait_for 5 stat_is waiters 1
contains "$($ctl "$mnt" leases)" relocate "block: who waits is shown"
is "$(extents held)" 60 "block: nothing is changed meanwhile"
kill -TERM $mover
end_of $mover 5
is "$client_status" 143 "block: a signal ends the wait"
$ctl defrag -q held &
mover=$!
wait_for 5 stat_is waiters 1
kill -KILL $client && wait $client 2>/dev/null
end_of $mover 8
is "$client_status" 0 "block: goes on when the lease has ended"
is "$(extents held) $(sum_of held)" "1 $sum" "block: the file is moved"
audit

# ---- a crash, and read-only ----------------------------------------------------

for i in 1 2 3; do fragment "big.$i" 1500; done
was=$(digest .)
cd / || exit
has_begun() { for i in 1 2 3; do [ "$(extents "$mnt/big.$i")" = 1500 ] || return 0; done; false; }
$ctl defrag --all -q "$mnt" >/dev/null 2>&1 &
mover=$!
wait_for 5 has_begun
kill_daemon
wait $mover 2>/dev/null
clear_dead_mount
mount_fs $base
audit "after a crash: counters agree"
is "$(digest "$mnt")" "$was" "after a crash: nobody sees a difference"
check "after a crash: goes on" $ctl defrag --all -q "$mnt"
is "$(digest "$mnt")" "$was" "nobody sees a difference, again"
remount ro
contains "$(says $ctl defrag "$mnt/big.1")" "Read-only" "read-only: refused"
umount_fs
is "$umount_status" 0 "umount"
check "the device is sound" fsck.pmemleasefs -n "$device"
finish
