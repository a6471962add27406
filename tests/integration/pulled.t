#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
#
# pulled.t -- the network of a client is pulled in the middle of its leases, and comes back
#
# usage: pulled.t [BUILD_DIR]; see tests/README.md
#
# Client and server are in network namespaces of their own, joined by a pair of virtual
# interfaces.  The software fabric alone: soft-RoCE of the guest has one namespace.
if [ -z "${PML_PULLED:-}" ]; then
	unshare -n true 2>/dev/null || { echo "1..0 # SKIP needs root and network namespaces"; exit; }
	PML_PULLED=1 exec unshare -n -- "$0" "$@"
fi
. "$(dirname "$0")/lib.sh"
start "$@"
holder=$(helper holder) || bail_out "holder does not compile"
term=3

unshare -n sleep 1000 &
other=$!
wait_for 5 eval "[ \"\$(readlink /proc/$other/ns/net)\" != \"\$(readlink /proc/self/ns/net)\" ]"
there() { nsenter --net="/proc/$other/ns/net" -- "$@"; }
ip link set lo up
ip link add here type veth peer name there netns "$other" || skip_all "no virtual interfaces here"
ip address add 10.9.8.1/24 dev here && ip link set here up
there ip address add 10.9.8.2/24 dev there && there ip link set there up

make_device 64M
mount_pulled() {
	mount_fs "soft=10.9.8.1:0,allow_unauthenticated,client_uid=0,client_gid=0,poison,ack=500ms,drain=1s,term=${term}s,$1"
	dd if=/dev/zero bs=4096 count=64 2>/dev/null | tr '\0' a >"$mnt/file"
}

# hold_and_pull WHAT: a client over there holds the file's first blocks when its network goes.
hold_and_pull() {
	rm -f "$work/to" "$work/holder"
	mkfifo "$work/to"
	there "$holder" "$url/file" 8 <"$work/to" >"$work/holder" 2>&1 &
	client=$!
	exec 5>"$work/to"
	check "$1: a client of another host has leases" wait_for 10 grep -q '^holding 8' "$work/holder"
	stat_becomes leases 8 5 "$1: the server knows them"
	there ip link set there down
}

# took COMMAND...: how long it takes, in tenths of a second.
took() {
	local begin=${EPOCHREALTIME/./}
	"$@" || echo "status $?"
	echo $(((${EPOCHREALTIME/./} - begin) / 100000))
}

plug_in() {
	there ip link set there up
	echo >&5
	check "$1: what it reads by the key then is an error" \
		wait_for 30 grep -qE '^E(KEYREVOKED|NOTCONN)' "$work/holder"
	exec 5>&-
	wait "$client"
	is "$(tail -n 1 "$work/holder" | grep -cE '^returned 8 E(KEYREVOKED|NOTCONN)$')" 1 \
		"$1: its leases say how they ended"
	check "$1: a new client gets the file" there timeout 20 pmemlease get "$url/file" "$work/got"
	check "$1: as it is now" cmp "$mnt/file" "$work/got"
	rm -f "$work/got"
}

# Nobody waits for it: the term ends its leases.
mount_pulled policy=revoke
hold_and_pull "no conflict"
stat_becomes leases 0 $((term + 2)) "no conflict: its leases are fenced within the term"
stat_becomes pins 0 2 "no conflict: nothing stays pinned"
plug_in "no conflict"
umount_fs

# A truncate recalls it: who gives no sign of life has the time for an acknowledgement.
mount_pulled policy=revoke
hold_and_pull revoke
in_range "$(took timeout 20 truncate -s 0 "$mnt/file")" 4 20 "revoke: a truncate waits for the clock of acknowledgements (tenths of a second)"
is "$(stat -c %s "$mnt/file")" 0 "revoke: and is done"
plug_in revoke
umount_fs

# By policy block the holder has all of its term.
mount_pulled policy=block
hold_and_pull block
in_range "$(took timeout 20 truncate -s 0 "$mnt/file")" 10 $(((term + 2) * 10)) "block: a truncate waits for the term (tenths of a second)"
is "$(stat -c %s "$mnt/file")" 0 "block: and is done"
stat_becomes leases 0 2 "block: no lease is left"
audit
plug_in block
umount_fs

# A short break within the term: nobody has lost anything.
mount_pulled policy=revoke
hold_and_pull "a moment"
sleep 1
there ip link set there up
sleep 1
is "$(stat_of leases)" 8 "a moment: the leases are still there"
echo >&5
check "a moment: and the keys" wait_for 20 grep -qE '^bytes a+$' "$work/holder"
exec 5>&-
wait "$client"
contains "$(tail -n 1 "$work/holder")" "returned 8" "a moment: they are returned"
umount_fs
finish
