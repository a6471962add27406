#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
#
# fsck.t -- fsck.pmemleasefs: exit statuses, refusals, repairs; nothing to repair after a crash
#
# usage: fsck.t [BUILD_DIR]; every single damage is in tests/unit/test_check.c
# PML_SEED
. "$(dirname "$0")/lib.sh"
start "$@"
seed=${PML_SEED:-$((RANDOM + 1))}
RANDOM=$seed
note "seed $seed"

# fsck ARGUMENT...: sets out and status.
fsck() {
	out=$(timeout 60 fsck.pmemleasefs "$@" 2>&1 </dev/null)
	status=$?
}

# ---- the device, byte by byte -------------------------------------------------

u64_at() { od -An -t u8 -j "$1" -N 8 "$device" | tr -d ' '; }
super_at() { LC_ALL=C grep -obUaP -m 1 'PMLSFE1\x00' "$device" | head -n 1 | cut -d: -f1; }

# inode_at NUMBER: where it lies; of the first 256.
inode_at() {
	local level chunk
	level=$(u64_at $(($(super_at) + 176)))
	chunk=$(u64_at "$level")
	echo $((chunk + ($1 - 1) * 256))
}

# poke OFFSET BYTES (as printf has them)
poke() {
	# shellcheck disable=SC2059 # that is the point
	printf "$2" | dd of="$device" bs=1 seek="$1" conv=notrunc status=none
}

# ---- usage ----------------------------------------------------------------------

for arguments in "" "a b" "-n -y a" "-p -n a" "-x a"; do
	# shellcheck disable=SC2086 # words
	fsck $arguments
	is $status 16 "usage: \"$arguments\""
done
fsck --help
is $status 0 "--help"
contains "$out" "Exit status" "--help says what the statuses are"
fsck -V
is "$status ${out% *}" "0 fsck.pmemleasefs" "-V"
fsck -n "$work/ground/none"
is $status 8 "a device that is not there"
contains "$out" "$work/ground/none" "is named"
truncate -s 64M "$work/ground/zeros"
fsck -n "$work/ground/zeros"
is $status 8 "a file of zeros"
contains "$out" "no pmemleasefs" "is no pmemleasefs"
fsck -n "$work/ground"
is $status 8 "a directory"

# ---- clean ------------------------------------------------------------------------

make_device 128M
fsck -n "$device"
is $status 0 "a new filesystem is clean"
mount_fs
mkdir "$mnt/dir" "$mnt/dir/sub"
head -c 300000 /dev/urandom >"$mnt/dir/data"
ln "$mnt/dir/data" "$mnt/hard"
for i in $(seq 200); do echo "$i" >"$mnt/dir/sub/$i"; done
number=$(stat -c %i "$mnt/dir/data")
for mode in -n -p -y; do
	fsck $mode "$device"
	is $status 8 "a mounted device is refused: $mode"
done
contains "$out" "$device is already mounted" "and named"
umount_fs
before=$(sum_of "$device")
fsck -n -v -f "$device"
is $status 0 "a used filesystem is clean"
contains "$out" "clean; 201 files, 3 directories" "the last line is a summary"
is "$(sum_of "$device")" "$before" "-n changes no byte"
fsck -y "$device"
is $status 0 "-y has nothing to do"
fsck "$device"
is $status 0 "without an option, and without a terminal, nothing is asked"
check "fsck(8) finds it by the type" timeout 60 fsck -t pmemleasefs "$device" -- -n

# ---- repairs ------------------------------------------------------------------------

poke $(($(inode_at "$number") + 4)) '\011'
before=$(sum_of "$device")
fsck -n "$device"
is $status 4 "-n: errors are left"
contains "$out" "2 links, the inode says 9: not repaired" "and named"
is "$(sum_of "$device")" "$before" "-n changes no byte of a damaged device"
fsck -p "$device"
is $status 1 "-p: errors are corrected"
contains "$out" "errors: 1 corrected, 0 left" "and counted"
fsck -n "$device"
is $status 0 "clean after that"

at=$(inode_at "$number")
poke $((at + 1)) '\377'
poke $(($(inode_at 1) + 4)) '\001'
fsck -p "$device"
is $status 4 "-p leaves what needs a decision, and what depends on it"
fsck -y "$device"
is $status 1 "-y corrects it"
fsck -n "$device"
is $status 0 "clean after that"

# A name is lost, not the file.
mount_fs
echo precious >"$mnt/dir/named"
victim=$(stat -c %i "$mnt/dir/named")
umount_fs
where=$(LC_ALL=C grep -obUaP 'named(?=\x00)' "$device" | head -n 1 | cut -d: -f1)
poke "$where" '/'
fsck -y "$device"
is $status 1 "an entry without a name is removed"
mount_fs
is "$(cat "$mnt/lost+found/#$victim")" precious "its file is in lost+found"
rm -r "$mnt/lost+found"
names=$(find "$mnt" | wc -l)
audit
umount_fs

# ---- repairs that are cut off ---------------------------------------------------------

# Another hash key: each entry has to move.
poke $(($(super_at) + 48)) '\001\002\003\004'
kills=0
for _ in 1 2 3 4 5 6; do
	fsck.pmemleasefs -y "$device" >/dev/null 2>&1 &
	repair=$!
	sleep "0.0$((RANDOM % 90 + 10))"
	kill -KILL $repair 2>/dev/null && kills=$((kills + 1))
	wait $repair 2>/dev/null
done
note "killed $kills times"
fsck -y "$device"
in_range $status 0 1 "after kill -9 a repair goes on"
fsck -n "$device"
is $status 0 "and comes to an end"
mount_fs
is "$(find "$mnt" | wc -l)" "$names" "all names are there"
is "$(sum_of "$mnt/hard")" "$(sum_of "$mnt/dir/data")" "with their contents"
audit
umount_fs

# ---- after a crash ----------------------------------------------------------------------

make_device 256M
unclean=0 orphans=0
for round in 1 2 3 4 5 6; do
	mount_fs
	(
		cd "$mnt" || exit
		exec 9>"open-$round" && rm "open-$round"
		head -c 300000 /dev/zero >&9
		for i in $(seq 5000); do
			mkdir -p "$round/$((i % 7))"
			head -c $((RANDOM * 4)) /dev/zero >"$round/$((i % 7))/$((i % 50))"
			mv "$round/$((i % 7))/$((i % 50))" "$round/$((i % 50))"
			cp "$round/$((i % 50))" "$round/copy"
			truncate -s 10 "$round/copy"
			rm -f "$round/$(((i + 20) % 50))"
		done
	) 2>/dev/null &
	worker=$!
	sleep "0.$(printf %03d $((150 + RANDOM % 400)))"
	kill_daemon
	kill $worker 2>/dev/null
	wait $worker 2>/dev/null
	clear_dead_mount
	before=$(sum_of "$device")
	fsck -n "$device"
	[ $status = 0 ] || { unclean=$((unclean + 1)) && note "$out"; }
	[[ $out != *"the next mount frees"* ]] || orphans=$((orphans + 1))
	[ "$(sum_of "$device")" = "$before" ] || note "round $round: -n changed the device"
	if [ $((round % 2)) = 0 ]; then
		fsck -p "$device"
		[ $status = 0 ] || { unclean=$((unclean + 1)) && note "$out"; }
		fsck -n "$device"
		[[ $status = 0 && $out != *"the next mount"* ]] || unclean=$((unclean + 1))
	fi
done
is $unclean 0 "after kill -9 there is nothing to repair"
in_range $orphans 1 6 "deleted files that were open are reported"
mount_fs
audit
umount_fs
is "$umount_status" 0 "umount"
finish
