#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
#
# tools.t -- Debian's load generators: fio with verification, stress-ng's filesystem class, dbench
#
# usage: tools.t [BUILD_DIR]; packages: tools/dev/packages soak
# PML_SOAK_STRESS_SECONDS: how long stress-ng runs (8)
#
# None of them finds a fault, the daemon logs no warning, and afterwards the counters agree,
# all space is back, and the daemon has no more descriptors and hardly more memory than before.
. "$(dirname "$0")/../integration/lib.sh"
# stress-ng opens and watches whatever is mounted.
in_namespace "$@" || note "not in a mount namespace of its own: other mounts will be used, too"
start "$@"
for tool in fio stress-ng dbench; do
	command -v $tool >/dev/null || skip_all "needs $tool: tools/dev/packages soak"
done
stress_seconds=${PML_SOAK_STRESS_SECONDS:-8}

make_device 1G
# In the foreground it says on standard error what it logs.
mount.pmemleasefs "$device" "$mnt" -f >"$work/out" 2>"$work/log" &
wait_for 10 is_mounted || bail_out "cannot mount: $(cat "$work/log")"
daemon=$(daemon_of "$device")
free_at_start=$(stat_of free_blocks)

descriptors() { find "/proc/$daemon/fd" -mindepth 1 | wc -l; }
rss_kib() { sed -n 's/^RssAnon:[[:space:]]*\([0-9]*\).*/\1/p' "/proc/$daemon/status"; }

# ---- fio: what was written is read -------------------------------------------

# fio_job NAME OPTIONS...: writes at random, then reads it all and compares checksums.
fio_job() {
	local name=$1
	shift
	mkdir -p "$mnt/fio"
	check "fio: $name" timeout 60 fio --name=job --directory="$mnt/fio" --size=24m --verify=crc32c \
		--verify_fatal=1 --do_verify=1 --verify_state_save=0 --randseed=17 --output="$work/fio.out" "$@"
	grep -qE 'err= *[1-9]|verify failed' "$work/fio.out" && note "$(grep -aE 'err=|verify' "$work/fio.out")"
	rm -rf "$mnt/fio"
}

fio_job "random writes of 4 to 256 KiB, buffered, four jobs" --rw=randwrite --bsrange=4k-256k \
	--ioengine=psync --numjobs=4 --fallocate=none
fio_job "random writes, direct, many at a time" --rw=randwrite --bs=16k --ioengine=libaio \
	--iodepth=16 --direct=1 --numjobs=2
fio_job "through a mapping" --rw=randwrite --bs=4k --ioengine=mmap --numjobs=2 --fallocate=posix
fio_job "reads and writes mixed, of odd sizes, fsync" --rw=randrw --bsrange=1k-33k --bs_unaligned \
	--ioengine=sync --fsync=32 --numjobs=2
fio_job "sequential into preallocated blocks behind the end" --rw=write --bs=128k --ioengine=psync \
	--fallocate=keep --fdatasync=8
fio_job "with a trim now and then (punched holes)" --rw=randwrite --bs=8k --ioengine=psync \
	--fallocate=native --end_fsync=1

# ---- dbench: a file server's operations --------------------------------------

loadfile=/usr/share/dbench/client.txt
mkdir "$mnt/dbench"
check "dbench: 8 clients" timeout 60 dbench -c $loadfile -D "$mnt/dbench" -t 8 --skip-cleanup 8
rm -rf "$mnt/dbench"

# ---- stress-ng: its filesystem class -----------------------------------------

# Left out, and why:
left_out=(
	bind-mount # mounts again and again; dangerous by its own word, and not of this filesystem
	binderfs   # mounts a filesystem of its own
	procfs     # reads /proc only
	dup        # descriptors only
	eventfd    # descriptors only
	ioprio     # priorities of processes only
)
# Skipped by themselves: fiemap and verity, whose ioctls the kernel does not hand to FUSE.
setfattr -n user.probe -v 1 "$mnt" 2>/dev/null && setfattr -x user.probe "$mnt" ||
	left_out+=(xattr)
mkdir "$mnt/stress"
# All at once, so that they are in each other's way.
check "stress-ng: filesystem class" timeout $((stress_seconds + 240)) stress-ng --class filesystem --all 1 --verify \
	--exclude "$(IFS=, && echo "${left_out[*]}")" --timeout "$stress_seconds" \
	--temp-path "$mnt/stress" --hdd-bytes 16m --iomix-bytes 16m --fallocate-bytes 16m \
	--log-file "$work/stress.log" --oomable
is "$(grep ' fail: ' "$work/stress.log")" "" "stress-ng: no stressor has found a fault"
is "$(sed -n 's/.*warn:.*(\(.*\)) aborted early.*/\1/p' "$work/stress.log" | sort -u |
	grep -vxE 'fiemap|verity' | paste -sd' ')" "" "stress-ng: no stressor has given up"
in_range "$(sed -n 's/.*dispatching hogs: //p' "$work/stress.log" | tr ',' '\n' | wc -l)" 38 100 \
	"stress-ng: stressors at work"
rm -rf "$mnt/stress"

# ---- afterwards ---------------------------------------------------------------

# Once more the same little work: what the daemon keeps for good it has by now.
before_fds=$(descriptors) before_rss=$(rss_kib)
mkdir "$mnt/dbench"
check "dbench: once more" timeout 60 dbench -c $loadfile -D "$mnt/dbench" -t 4 8
rm -rf "$mnt/dbench"
wait_for 5 eval '[ "$(descriptors)" -le "$before_fds" ]'
is "$(descriptors)" "$before_fds" "the daemon has no more descriptors"
in_range "$(rss_kib)" 1 $((before_rss + 2048)) "the daemon has no more memory than before (KiB, was $before_rss)"

is "$(ls -A "$mnt")" "" "nothing is left"
stat_becomes used_blocks 0 10 "all blocks are given back"
is "$(stat_of inodes)" 1 "no inode is left"
in_range "$(stat_of free_blocks)" $((free_at_start * 95 / 100)) "$free_at_start" \
	"free blocks are back, but for what metadata keeps"
audit
umount_fs
is "$umount_status" 0 "umount"
is "$(grep -iE 'warn|error|corrupt|contradict|assert' "$work/log")" "" "the daemon has logged nothing bad"
check "fsck finds nothing" fsck.pmemleasefs -n "$device"
finish
