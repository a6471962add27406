#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
#
# badinput.t -- what cannot be: one clear line on stderr, the documented exit code, nothing changed
#
# usage: badinput.t [BUILD_DIR]; see tests/README.md
. "$(dirname "$0")/lib.sh"
start "$@"
badframes=$(helper badframes) || bail_out "badframes does not compile"
ground=$work/ground

make_device 64M
good=$device
other=$work/other
mkdir "$other"
echo text >"$ground/plain"
truncate -s 64M "$ground/zeros"
head -c 2M /dev/urandom >"$ground/noise"
truncate -s 64M "$ground/noise"

# state: what a refused command must leave alone, as far as it can be seen quickly.
state() {
	stat -c '%n %s %b %y' "$good"
	stat -c '%n %s %b %y' "$ground"/*
	grep -F "$work" /proc/self/mounts
	ls /dev/shm/pml-it."$id".* "$mnt" "$other" 2>&1
}

# And every byte, after each group.
contents() { sha256sum "$good" "$ground/plain" "$ground/noise"; }
contents_at_start=$(contents)
unchanged() { is "$(contents)" "$contents_at_start" "$1: no byte was changed"; }

# bad STATUS PART NAME COMMAND...: refused with the status and one line that contains PART.
bad() {
	local want=$1 part=$2 name=$3 rc before faults=
	shift 3
	before=$(state)
	timeout 30 "$@" >"$work/out" 2>"$work/err" </dev/null
	rc=$?
	[ $rc = "$want" ] || faults+="status $rc, want $want"$'\n'
	[ "$(wc -l <"$work/err")" = 1 ] || faults+="not one line on stderr"$'\n'
	[[ $(<"$work/err") == *"$part"* ]] || faults+="want: ...$part..."$'\n'
	[ ! -s "$work/out" ] || faults+="stdout: $(<"$work/out")"$'\n'
	[ "$(state)" = "$before" ] || faults+="something was changed"$'\n'
	if [ -z "$faults" ]; then
		ok "$name: $(<"$work/err")"
	else
		not_ok "$name" "$faults""stderr: $(<"$work/err")"
	fi
	if is_mounted; then umount "$mnt"; fi
}

# ---- help ---------------------------------------------------------------------

# What the manual page of a tool names as an option, its --help names too.
for page in "$top"/docs/man/{mkfs,mount,fsck}.pmemleasefs.8.scd; do
	tool=$(basename "$page" .8.scd)
	$tool --help >"$work/help"
	missing=
	for option in $(grep -oE '\*--[a-z-]+\*' "$page" | tr -d "*" | sort -u | grep -vx -- --fake); do
		grep -q -- "$option" "$work/help" || missing+=" $option"
	done
	is "$missing" "" "$tool --help names the options of its manual page"
done
mount.pmemleasefs --help >"$work/help"
missing=
for op in truncate punch unshare clone-src clone-dst zero collapse insert dedupe lease; do
	grep -qE "(\.| )$op\b" "$work/help" || missing+=" $op"
done
is "$missing" "" "mount.pmemleasefs --help names the operations that have a policy"

# ---- mkfs -------------------------------------------------------------------

bad 1 "no DEVICE" "mkfs: no device" mkfs.pmemleasefs
bad 1 "more than one" "mkfs: two devices" mkfs.pmemleasefs -s 64M "$ground/a" "$ground/b"
bad 1 "nonsense" "mkfs: unknown option" mkfs.pmemleasefs --nonsense "$ground/a"
bad 1 "12X" "mkfs: size with a bad suffix" mkfs.pmemleasefs -s 12X "$ground/a"
bad 1 "-5M" "mkfs: negative size" mkfs.pmemleasefs -s -5M "$ground/a"
bad 1 "too large" "mkfs: size that no number holds" mkfs.pmemleasefs -s 99999999999T "$ground/a"
bad 1 "64 MiB" "mkfs: too small" mkfs.pmemleasefs -s 1M "$ground/a"
bad 1 "largest size" "mkfs: too large" mkfs.pmemleasefs -s 1000000T "$ground/a"
bad 1 "give a size" "mkfs: no such file and no size" mkfs.pmemleasefs "$ground/a"
bad 1 "No such file" "mkfs: no such directory" mkfs.pmemleasefs -s 64M "$ground/none/a"
bad 1 "-f" "mkfs: a file that is not empty" mkfs.pmemleasefs -s 64M "$ground/plain"
bad 1 "-f" "mkfs: a file with foreign contents" mkfs.pmemleasefs "$ground/noise"
bad 1 "-f" "mkfs: a device that holds a filesystem" mkfs.pmemleasefs "$good"
bad 1 "directory" "mkfs: a directory" mkfs.pmemleasefs -s 64M -f "$ground"
bad 1 "character device" "mkfs: /dev/null" mkfs.pmemleasefs -s 64M -f /dev/null
bad 1 "label" "mkfs: a label of 64 bytes" mkfs.pmemleasefs -s 64M -L "$(printf 'l%.0s' $(seq 64))" \
	"$ground/a"
truncate -s 64M "$ground/ext" && mke2fs -q -F "$ground/ext" 2>/dev/null
bad 1 "ext" "mkfs: a device with ext2" mkfs.pmemleasefs "$ground/ext"
rm "$ground/ext"
unchanged mkfs

# ---- mount: usage -----------------------------------------------------------

bad 1 "DEVICE and DIR" "mount: no arguments" mount.pmemleasefs
bad 1 "too many" "mount: three arguments" mount.pmemleasefs "$good" "$mnt" "$other"
bad 1 "nonsense" "mount: unknown option" mount.pmemleasefs --nonsense "$good" "$mnt"

# option VALUE PART: -o that is refused.
option() { bad 1 "$2" "mount: -o $1" mount.pmemleasefs "$good" "$mnt" -o "$1"; }

option nonsense 'unknown option "nonsense"'
option nonsense=1 'unknown option "nonsense"'
option policy=kind '"kind"'
option policy 'needs a value'
option policy.fly=ebusy 'policy.fly'
option policy.truncate=skip '"skip"'
option ro=1 'takes no value'
option ack=soon '"soon"'
option ack=0 'out of range'
option term=10d '"10d"'
option drain=99999999999999999999 'out of range'
option max_sessions=many '"many"'
option max_sessions=0 'out of range'
option max_pinned=1X '"1X"'
option client_uid=nobody '"nobody"'
option client_uid=4294967295 '4294967295'
option soft=localhost 'ADDR:PORT'
option soft=127.0.0.1:99999 'ADDR:PORT'
option soft=::1:7471 'ADDR:PORT'
option soft=:7471 'ADDR:PORT'
option rdma= 'ADDR:PORT'
option "$(printf 'x%.0s' $(seq 600))" 'too long'

unchanged "mount options"

# ---- mount: what cannot be mounted ------------------------------------------

# refused PART NAME DEVICE [DIR]
refused() { bad 32 "$1" "mount: $2" mount.pmemleasefs "$3" "${4:-$mnt}"; }

bad 32 "no pmemleasefs is mounted" "mount: -o remount of nothing" mount.pmemleasefs "$device" "$mnt" -o remount,ack=1s
refused "No such file" "no such device" "$ground/none"
refused "directory" "a directory as device" "$ground"
refused "character device" "/dev/null" /dev/null
mkfifo "$ground/fifo"
refused "pipe" "a pipe" "$ground/fifo"
rm "$ground/fifo"
refused "holds no pmemleasefs" "a file that is no filesystem" "$ground/plain"
refused "holds no pmemleasefs" "a file of zeros" "$ground/zeros"
refused "holds no pmemleasefs" "a file of noise" "$ground/noise"
: >"$ground/empty"
refused "holds no pmemleasefs" "an empty file" "$ground/empty"
refused "No such file" "no such directory" "$good" "$ground/none"
refused "Not a directory" "a file as directory" "$good" "$ground/plain"

for change in +2M -2M +1; do
	cp --sparse=always "$good" "$ground/changed"
	truncate -s $change "$ground/changed"
	sum=$(sha256sum <"$ground/changed")
	refused "size" "a device whose size has changed by $change" "$ground/changed"
	is "$(sha256sum <"$ground/changed")" "$sum" "which is left as it is"
done
rm "$ground/changed"
chmod 400 "$good"
bad 1 "Permission denied" "mount: a device that the user may not write" \
	setpriv --reuid 65534 --regid 65534 --clear-groups "$build/tools/mount.pmemleasefs" "$good" "$mnt"
chmod 600 "$good"

option soft=0.0.0.0:0 'authenticated'
option soft=192.0.2.1:0 'authenticated'
bad 32 "300.1.1.1" "mount: an address that does not resolve" \
	mount.pmemleasefs "$good" "$mnt" -o soft=300.1.1.1:0,allow_unauthenticated
bad 32 "192.0.2.1" "mount: an address that is not ours" \
	mount.pmemleasefs "$good" "$mnt" -o soft=192.0.2.1:0,allow_unauthenticated
if [ "${PML_IN_GUEST:-}" != 1 ]; then
	bad 32 "rdma" "mount: no RDMA device" \
		mount.pmemleasefs "$good" "$mnt" -o rdma=127.0.0.1:7471
fi
unchanged mount

# ---- while it is mounted ----------------------------------------------------

mount_fs soft=127.0.0.1:0,client_uid=0,client_gid=0
port=${url##*:}
echo alive >"$mnt/alive"
mounted=$mnt mnt=$work/second
mkdir "$mnt"
is "$(mount.pmemleasefs "$good" "$mnt" 2>&1; echo $?)" \
	"mount.pmemleasefs: $good is already mounted"$'\n32' "mount: a mounted device"
is "$(mkfs.pmemleasefs -f "$good" 2>&1 >/dev/null | wc -l)" 1 "mkfs -f: of a mounted device: one line"
is "$(mkfs.pmemleasefs -f "$good" >/dev/null 2>&1; echo $?)" 1 "mkfs -f: is refused"
make_device 64M
out=$(timeout 20 mount.pmemleasefs "$device" "$mnt" -o "soft=127.0.0.1:$port" 2>&1)
is "$?" 32 "mount: the port is taken"
contains "$out" "$port" "mount: and the line names it"
mnt=$mounted
is "$(cat "$mnt/alive")" alive "the mounted filesystem is well"
rmdir "$work/second"
audit

# ---- pmemleasectl -----------------------------------------------------------

# tool STATUS PART NAME COMMAND...: as bad(), without looking at the device, which is in use.
tool() {
	local want=$1 part=$2 name=$3 rc
	shift 3
	timeout 30 "$@" >"$work/out" 2>"$work/err" </dev/null
	rc=$?
	if [ $rc = "$want" ] && [ "$(wc -l <"$work/err")" = 1 ] && [[ $(<"$work/err") == *"$part"* ]]; then
		ok "$name: $(<"$work/err")"
	else
		not_ok "$name" "status $rc, want $want"$'\n'"stderr: $(<"$work/err")"$'\n'"want:   ...$part..."
	fi
}

tool 1 "MOUNT and COMMAND" "pmemleasectl: no command" pmemleasectl "$mnt"
tool 1 "fly" "pmemleasectl: no such command" pmemleasectl "$mnt" fly
tool 2 "not a pmemleasefs" "pmemleasectl: another filesystem" pmemleasectl /tmp stats
tool 2 "No such file" "pmemleasectl: no such directory" pmemleasectl "$ground/none" stats
tool 2 "Not a directory" "pmemleasectl: a file" pmemleasectl "$mnt/alive" stats
mkdir "$mnt/dir"
tool 2 "not a pmemleasefs" "pmemleasectl: not the root of the mount" pmemleasectl "$mnt/dir" stats

# ---- the client -------------------------------------------------------------

tool 1 "no command" "pmemlease: no command" pmemlease
tool 1 "fly" "pmemlease: no such command" pmemlease fly "$url"
tool 1 "URL... FILE" "pmemlease: too few arguments" pmemlease get "$url/alive"
tool 1 "lease-bytes" "pmemlease: bad number" pmemlease get --lease-bytes=x "$url/alive" /dev/null
tool 1 "--wait" "pmemlease: bad time" pmemlease get --wait=-1 "$url/alive" /dev/null
tool 1 "soft://HOST" "pmemlease: a URL of another kind" pmemlease ls http://127.0.0.1/
tool 1 "soft://HOST" "pmemlease: a URL without a port" pmemlease ls soft://127.0.0.1/
tool 1 "soft://HOST" "pmemlease: a URL with a bad port" pmemlease ls soft://127.0.0.1:port/
tool 1 "65535" "pmemlease: a URL with a port that is too large" pmemlease ls soft://127.0.0.1:70000/
tool 2 "refused" "pmemlease: nobody listens" pmemlease ls soft://127.0.0.1:1/
tool 3 "No such file" "pmemlease: no such file" pmemlease get "$url/none" "$ground/got"
tool 3 "not a regular file" "pmemlease: get of a directory" pmemlease get "$url/dir" "$ground/got"
tool 3 "Not a directory" "pmemlease: put of two onto a file" pmemlease put "$ground/plain" "$ground/plain" "$url/alive"
tool 3 "Not a directory" "pmemlease: ls below a file" pmemlease ls "$url/alive/x"
tool 1 "No such file" "pmemlease: put of nothing" pmemlease put "$ground/none" "$url/new"
tool 1 "No such file" "pmemlease: get into no directory" pmemlease get "$url/alive" "$ground/none/x"
check "what was refused has left no file" test ! -e "$ground/got" -a ! -e "$mnt/new"

# A server that is none: it says something else, or nothing.
coproc { timeout 20 bash -c 'exec 3<>/dev/tcp/127.0.0.1/'"$port"'; sleep 20'; } # keeps one idle
start_ms=$(now_ms)
is "$(pmemlease ls "$url/" | sort | paste -sd' ')" "alive dir" "pmemlease: served beside a silent connection"
in_range $(($(now_ms) - start_ms)) 0 2000 "and not held up by it, ms"
kill "$COPROC_PID" 2>/dev/null

# ---- nonsense on the wire ---------------------------------------------------

"$badframes" "$port" "${PML_SEED:-1}" >"$work/out" 2>&1 &
talker=$!
# Meanwhile others are served.
unserved=
while ! is_gone $talker; do
	out=$(timeout 20 pmemlease get -q "$url/alive" - 2>&1; echo " $?")
	[ "$out" = $'alive\n 0' ] || unserved+="$out; "
	sleep 0.05
done
wait $talker
is $? 0 "nonsense on the wire: all connections were made"
is "$(grep -v ': closed$' "$work/out")" "" "nonsense on the wire: every one is hung up on"
is "$(grep -c ': closed$' "$work/out")" 34 "nonsense on the wire: cases"
is "$unserved" "" "meanwhile and afterwards others are served"
stat_becomes sessions 0 10 "no session is left"
is "$(stat_of leases) $(stat_of pins)" "0 0" "no lease and no pin"
is "$(daemon_of "$good")" "$daemon" "the daemon is the same process"
is "$(cat "$mnt/alive")" alive "and serves the mount"
fds=$(ls "/proc/$daemon/fd" | wc -l)
in_range "$fds" 1 60 "its descriptors do not pile up"
audit
umount_fs
is "$umount_status" 0 "umount"
finish
