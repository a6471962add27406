#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
#
# ranges.t -- zero, collapse, insert, unshare, clone, dedupe, extents and snapshots on a
# real mount, also with leases and crashes in the way
#
# usage: ranges.t [BUILD_DIR]; see tests/README.md
. "$(dirname "$0")/lib.sh"
start "$@"
fsop=$(helper fsop) || bail_out "fsop does not compile"
ctl=pmemleasectl

base=soft=127.0.0.1:0,client_uid=0,client_gid=0,poison
clocks=ack=300ms,drain=1s,term=3s
make_device 256M
mount_fs $base,$clocks
cd "$mnt" || bail_out "cannot enter the mount"

# letters FILE ABC: a block of each letter.
letters() {
	local i
	for ((i = 0; i < ${#2}; i++)); do
		head -c 4096 /dev/zero | tr '\0' "${2:i:1}"
	done >"$1"
}
# The letter of each block, . for zeros.
show() { tr '\0' . <"$1" | fold -w 4096 | cut -c1 | tr -d '\n'; }
blocks() { echo "$(stat_of used_blocks) $(stat_of shared_blocks)"; }
says() { "$@" 2>&1; echo "status $?"; }

# ---- ranges -----------------------------------------------------------------

letters f abcdef
cat f >/dev/null # cached
is "$("$fsop" fallocate f zero 4096 8192)" ok "zero"
is "$(show f) $(stat -c '%s %b' f)" "a..def 24576 48" "zero: contents, size, blocks"
is "$("$fsop" fallocate f zero-keep 20480 8192)" ok "zero: with KEEP_SIZE"
is "$(show f) $(stat -c '%s %b' f)" "a..de. 24576 56" "zero: blocks behind the end"
is "$("$fsop" fallocate f zero 24576 100)" ok "zero: without"
is "$(stat -c %s f)" 24676 "zero: the file grows"
letters f abcdef
check "collapse" $ctl collapse f 4096 8K
is "$(show f) $(stat -c %s f)" "adef 16384" "collapse: seen at once"
check "insert" $ctl insert f 8K 4096
is "$(show f) $(stat -c %s f)" "ad.ef 20480" "insert: seen at once"
contains "$(says $ctl collapse f 0 20480)" "Invalid argument" "collapse of all: EINVAL"
contains "$(says $ctl collapse f 1 4096)" "f: Invalid argument: offsets and lengths are multiples of 4096" \
	"which says what would be right"
contains "$(says $ctl insert f 20480 4096)" "status 2" "insert at the end: EINVAL"
contains "$(says $ctl insert f 1 4096)" "status 2" "insert at no block: EINVAL"
is "$(show f)" "ad.ef" "which changes nothing"
contains "$(says $ctl collapse f 0)" "status 1" "collapse without a length: usage"
contains "$(says $ctl collapse f 0 x)" "status 1" "collapse of a wrong length: usage"
contains "$(says $ctl collapse /proc/self/status 0 4096)" "status 2" "collapse elsewhere"
is "$("$fsop" coherent c)" ok "descriptors and mappings see each change at once"
audit
rm -f f c

letters f abcdefgh
check "clone" $ctl clone f g
is "$(blocks)" "8 8" "clone: shares all"
check "clone: same contents" cmp f g
check "clone: a range" $ctl clone f g --src-offset=4096 --dst-offset=32K --length=8K
is "$(show g) $(blocks)" "abcdefghbc 8 8" "clone: behind the end"
contains "$(says $ctl clone f g --src-offset=1)" "Invalid argument" "clone: offsets that cannot share"
contains "$(says $ctl clone f g --length=1M)" "Invalid argument" "clone: behind the end of the source"
check "clone: a shorter file" $ctl clone f g
is "$(stat -c %s g)" 32768 "clone: makes the destination as long as the source"
check "unshare" $ctl unshare g 4096 4096
is "$(blocks)" "9 7" "unshare: one block"
check "unshare: all" $ctl unshare g
is "$(blocks)" "16 0" "unshare: all blocks"
check "unshare: same contents" cmp f g
stamp=$(stat -c '%y %z' g)
check "dedupe" $ctl dedupe f g
is "$(blocks)" "8 8" "dedupe: shares all"
is "$(stat -c '%y %z' g)" "$stamp" "dedupe: times stay"
printf x | dd of=g bs=1 seek=30000 conv=notrunc status=none
is "$(says $ctl dedupe f g)" "$(printf 'pmemleasectl: g: differs\nstatus 3')" "dedupe: differs"
is "$("$fsop" rights f g)" ok "who may call what"
letters t ab
is "$("$fsop" tokens t 300)" ESTALE "a user's oldest tokens go first"
is "$("$fsop" tokens t 200)" ok "no earlier than needed"
: >t # whose tokens keep it for a while
rm t
truncate -s 40960 f
"$fsop" fallocate f keep 40960 8192 >/dev/null
is "$($ctl extents f | awk 'NR > 1 { print $1, $3, $4, $5 }' | paste -sd,)" \
	"0 7 2 shared,28672 1 1 ,40960 2 1 unwritten,last" "extents: text"
is "$($ctl extents --json f | python3 -c '
import json, sys
for e in json.load(sys.stdin):
    print(e["first_byte"], e["blocks"], e["shares"], *[k for k in ("unwritten", "shared", "pinned", "last") if e[k]])
' | paste -sd,)" "0 7 2 shared,28672 1 1,40960 2 1 unwritten last" "extents: JSON"
is "$(lsattr f 2>&1 | tr -d -- -)" " f" "lsattr: no flags"
rm -f f g

nothing_left() { [ "$(blocks)" = "0 0" ]; }
wait_for 5 nothing_left
letters base ab
is "$("$fsop" clones base clone. 10000)" ok "10000 clones of one file"
is "$(blocks) $(stat_of pinned_blocks) $(stat_of quarantined_blocks)" "2 2 0 0" "take no block, and pin none"
audit "counters with 10001 shares"
printf x | dd of=clone.77 bs=1 conv=notrunc status=none
is "$(blocks) $(head -c 1 base)" "3 2 a" "one that is written takes a block"
find . -name 'clone.*' -delete
is "$(blocks)" "2 0" "without them the base is alone"
rm base

# ---- snapshots --------------------------------------------------------------

mkdir -p src/sub/deep
letters src/a abc
letters src/sub/b xyz
ln src/a src/sub/link
ln -s /somewhere src/sym
mkfifo src/fifo
mknod src/null c 1 3
printf '#!/bin/sh\n' >src/tool && chmod 4755 src/tool
chown 12:34 src/sub/b && chmod 600 src/sub/b
setfattr -n user.note -v text src/a 2>/dev/null
touch -d '2001-02-03 04:05:06.789' src/a src/sub/deep src
was=$(blocks)
check "snapshot" $ctl snapshot src snap
is "$(digest snap)" "$(digest src)" "snapshot: names, types, modes, owners, links, times, contents"
is "$(blocks | cut -d' ' -f1)" "${was%% *}" "snapshot: takes no block"
is "$(getfattr -n user.note --only-values snap/a 2>/dev/null)" \
	"$(getfattr -n user.note --only-values src/a 2>/dev/null)" "snapshot: attributes"
is "$(stat -c %i snap/a)" "$(stat -c %i snap/sub/link)" "snapshot: hard links inside"
printf changed >>src/a
is "$(show snap/a)" abc "snapshot: stays what it was"
contains "$(says $ctl snapshot src snap)" "File exists" "snapshot: EEXIST"
contains "$(says $ctl snapshot src none/snap)" "No such file" "snapshot: no such directory"
contains "$(says $ctl snapshot src/a snap2)" "Not a directory" "snapshot: of a file"
contains "$(says $ctl snapshot src /tmp/snap)" "not a pmemleasefs" "snapshot: to another filesystem"
ls nothing 2>/dev/null # the kernel may remember that there is no such name
check "snapshot: of everything into itself" $ctl snapshot . nothing
is "$(ls nothing | sort | paste -sd' ')" "snap src" "snapshot: without itself, seen at once"
if [ -x /usr/sbin/runuser ] || command -v setpriv >/dev/null; then
	chmod 777 .
	contains "$(says setpriv --reuid=1234 --clear-groups $ctl snapshot src mine)" \
		"only root" "snapshot: not for everybody"
	chmod 755 .
	letters open ab && chmod 666 open && letters closed cd && chmod 600 closed
	contains "$(says setpriv --reuid=1234 --clear-groups $ctl clone closed open)" \
		"Permission denied" "clone: of a file that one may not read"
	check "clone: by a user" setpriv --reuid=1234 --clear-groups $ctl clone open open \
		--src-offset=4096 --length=4096
	is "$(show open)" bb "clone: by a user, in one file"
	rm -f open closed
fi
audit
rm -rf snap nothing src

# One point in time: two counters that go up one after the other.
mkdir pair && printf 0 >pair/1 && printf 0 >pair/2
for i in $(seq 60); do letters "pair/f$i" a; done
(i=1000
while [ ! -e "$work/ground/enough" ] && [ $((i += 1)) -lt 9999 ]; do
	printf %s "$i" | dd of=pair/1 conv=notrunc status=none
	printf %s "$i" | dd of=pair/2 conv=notrunc status=none
done) &
writer=$!
worst=0
for i in 1 2 3 4 5 6 7 8 9 10; do
	$ctl snapshot pair "pair.$i"
	ahead=$((10#$(cat "pair.$i/1") - 10#$(cat "pair.$i/2")))
	{ [ $ahead = 0 ] || [ $ahead = 1 ] || [ "$(cat "pair.$i/2")" = 0 ]; } || worst=$ahead
done
touch "$work/ground/enough"
wait $writer
is "$worst" 0 "ten snapshots beside a writer: no change comes between two files"
rm -rf pair pair.*

# ---- leases in the way ------------------------------------------------------

letters "$work/ground/up" abcdefgh
# prepare OPERATION: the files, and what is in its way.
prepare() {
	rm -rf held twin made dir
	mkdir dir
	letters held abcdefgh
	letters twin abcdefgh
	case $1 in
	snapshot) mv held dir/ && hold put /dir/held --hold 30 ;;
	clone-src) hold put /held --hold 30 ;;
	*) hold get /held --hold 30 ;;
	esac
}
operate() {
	case $1 in
	zero) "$fsop" fallocate held zero 4096 8192 ;;
	collapse) $ctl collapse held 4096 8192 ;;
	insert) $ctl insert held 4096 8192 ;;
	dedupe) $ctl dedupe twin held ;;
	clone-src) $ctl clone held made ;;
	clone-dst) $ctl clone twin held ;;
	snapshot) $ctl snapshot dir made ;;
	esac
}
for op in zero collapse insert dedupe clone-src clone-dst snapshot; do
	cd / && remount "$base,$clocks,policy=ebusy" && cd "$mnt" || exit
	prepare $op
	out=$(operate $op 2>&1)
	case $out in
	EBUSY | *"resource busy"*) ok "$op: policy ebusy" ;;
	*) not_ok "$op: policy ebusy" "$out" ;;
	esac
	is "$(stat_of leases)" 1 "$op: the lease lives"
	case $op in snapshot) is "$(ls -d made 2>/dev/null)" "" "$op: nothing is made" ;;
	*) is "$(show held)" abcdefgh "$op: nothing is changed" ;; esac
	kill -KILL $client && wait $client 2>/dev/null
	cd / && remount "$base,$clocks,policy=revoke" && cd "$mnt" || exit
	prepare $op
	check "$op: policy revoke" operate $op
	end_of $client 5
	is "$client_status" 0 "$op: the holder has returned the lease"
	stat_becomes leases 0 5 "$op: no lease is left"
done
# By itself dedupe takes no lease away.
cd / && remount "$base,$clocks" && cd "$mnt" || exit
prepare dedupe
contains "$(says operate dedupe)" "busy" "dedupe: leaves leases alone by default"
is "$(stat_of recalls)" 0 "dedupe: asks nobody to return one"
contains "$($ctl extents held)" pinned "extents: what is pinned"
kill -KILL $client && wait $client 2>/dev/null
stat_becomes leases 0 5 "no lease is left"
audit
rm -rf ./*

# ---- crashes ----------------------------------------------------------------

# Many extents, so that a collapse takes a while.
letters two ab
for i in $(seq 0 2 400); do
	"$fsop" clone two 0 many $((i * 8192)) 4096 >/dev/null
done
"$fsop" clone many 0 old 0 $((500 * 8192)) >/dev/null
mkdir tree && for i in $(seq 40); do letters "tree/$i" ab; done
cd / || exit
for i in 1 2 3 4; do
	(while $ctl collapse "$mnt/many" 4096 8192 && $ctl insert "$mnt/many" 4096 8192; do :; done) >/dev/null 2>&1 &
	mover=$!
	(j=0; while $ctl snapshot "$mnt/tree" "$mnt/snap.$i.$j"; do j=$((j + 1)); done) >/dev/null 2>&1 &
	snapper=$!
	wait_for 5 test -d "$mnt/snap.$i.2"
	kill_daemon
	wait $mover $snapper 2>/dev/null
	clear_dead_mount
	mount_fs $base,$clocks
	audit "crash $i: counters agree"
	bad=0
	for snap in "$mnt"/snap.*; do [ "$(digest "$snap")" = "$(digest "$mnt/tree")" ] || bad=$((bad + 1)); done
	is $bad 0 "crash $i: each snapshot is whole or not there"
	# A collapse and the insertion behind it leave the first bytes and the tail.
	size=$(stat -c %s "$mnt/many")
	full=$(stat -c %s "$mnt/old")
	case $((full - size)) in
	0 | 8192) ok "crash $i: the file has moved wholly or not at all" ;;
	*) not_ok "crash $i: the file has moved wholly or not at all" "$size of $full" ;;
	esac
	is "$(tail -c $((full - 12288)) "$mnt/many" | sum_of /dev/stdin)" \
		"$(tail -c $((full - 12288)) "$mnt/old" | sum_of /dev/stdin)" "crash $i: what moves is the same"
	[ "$size" = "$full" ] || $ctl insert "$mnt/many" 4096 8192
done
remount ro
contains "$(says $ctl collapse "$mnt/many" 0 4096)" "Read-only" "read-only: refused"
contains "$(says $ctl snapshot "$mnt/tree" "$mnt/snap")" "Read-only" "read-only: snapshot"
umount_fs
is "$umount_status" 0 "umount"
finish
