#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
#
# reflink.t -- cp and copy_file_range share blocks, and nobody notices but df
#
# usage: reflink.t [BUILD_DIR]; see tests/README.md
. "$(dirname "$0")/lib.sh"
start "$@"
fsop=$(helper fsop) || bail_out "fsop does not compile"

make_device 256M
mount_fs poison
cd "$mnt" || bail_out "cannot enter the mount"
head -c $((8 << 20)) /dev/urandom >"$work/ground/random"

# blocks: used and shared, as "USED SHARED".
blocks() { echo "$(stat_of used_blocks) $(stat_of shared_blocks)"; }

# part FILE OFFSET LENGTH: its checksum.
part() { tail -c +$(($2 + 1)) "$1" | head -c "$3" | sha256sum | cut -c1-32; }

# ---- cp ---------------------------------------------------------------------

cp "$work/ground/random" a
is "$(blocks)" "2048 0" "a file of 8 MiB"
free=$(df -k --output=avail . | tail -n 1)
cp a b
is "$(blocks)" "2048 2048" "cp shares all blocks"
is "$(df -k --output=avail . | tail -n 1)" "$free" "df is unchanged"
is "$(stat -c %b b)" 16384 "the copy says that it has its blocks"
check "the copy has the contents" cmp a b
audit

# ---- copy-on-write, both ways -----------------------------------------------

sum=$(sum_of a)
printf changed | dd of=b bs=1 seek=5000 conv=notrunc status=none
is "$(sum_of a)" "$sum" "a write to the copy leaves the source alone"
is "$(part b 5000 7)" "$(printf changed | sha256sum | cut -c1-32)" "and is in the copy"
is "$(part b 4096 904) $(part b 5007 3185)" "$(part a 4096 904) $(part a 5007 3185)" \
	"around it the block is what it was"
is "$(blocks)" "2049 2047" "it took one block"
sum=$(sum_of b)
printf changed | dd of=a bs=1 seek=1000000 conv=notrunc status=none
is "$(sum_of b)" "$sum" "a write to the source leaves the copy alone"
printf changed | dd of=a bs=1 seek=8388600 status=none conv=notrunc
truncate -s 5001 a
is "$(sum_of b)" "$sum" "truncating the source leaves the copy alone"
truncate -s 8M a
is "$(tail -c +5002 a | tr -d '\0' | wc -c)" 0 "no shared byte shows behind the old end"
is "$(sum_of b)" "$sum" "and the copy is what it was"
is "$("$fsop" fallocate b punch 100 10000)" ok "punch a hole into the copy"
is "$(tail -c +101 b | head -c 10000 | tr -d '\0' | wc -c)" 0 "it reads as zeros"
audit
rm a b
is "$(blocks)" "0 0" "removing both frees all"

# ---- mmap --------------------------------------------------------------------

cp "$work/ground/random" a && cp a b
is "$(printf mapped | dd of=b bs=1 conv=notrunc status=none; head -c 6 b)" mapped "write through"
is "$(sum_of a)" "$(sum_of "$work/ground/random")" "the source has kept its first block"
rm a b

# ---- copy_file_range: offsets, edges, holes ---------------------------------

cp "$work/ground/random" a
is "$("$fsop" clone a 0 c 0 1048576)" 1048576 "copy_file_range: aligned"
is "$(blocks)" "2048 256" "copy_file_range: shares"
is "$("$fsop" clone a 4096 d 8192 1048576)" 1048576 "copy_file_range: to another block"
is "$(blocks)" "2048 257" "copy_file_range: shares there too"
is "$(part d 8192 1048576) $(stat -c %s d)" "$(part a 4096 1048576) 1056768" \
	"copy_file_range: contents and size"
is "$(head -c 8192 d | tr -d '\0' | wc -c)" 0 "copy_file_range: nothing in front of it"
is "$("$fsop" clone a 100 e 4196 1000000)" 1000000 "copy_file_range: unaligned edges"
is "$(part e 4196 1000000)" "$(part a 100 1000000)" "copy_file_range: unaligned edges, contents"
is "$(blocks)" "2050 257" "copy_file_range: only the edges take a block each"
is "$("$fsop" clone a 0 f 1 100000)" 100000 "copy_file_range: offsets that cannot share"
is "$(part f 1 100000)" "$(part a 0 100000)" "copy_file_range: copies then"
is "$("$fsop" clone a 8388000 g 0 100000)" 608 "copy_file_range: ends at the end of the source"
is "$("$fsop" clone a 8388608 g 0 100000)" 0 "copy_file_range: nothing behind it"
is "$("$fsop" clone a 0 a 4096 8192)" EINVAL "copy_file_range: overlapping ranges of a file"
is "$("$fsop" clone a 0 a 4194304 4096)" 4096 "copy_file_range: inside one file"
is "$(part a 4194304 4096)" "$(part a 0 4096)" "copy_file_range: inside one file, contents"
truncate -s 1M h
is "$("$fsop" clone h 0 c 0 1048576)" 1048576 "copy_file_range: a hole over data"
is "$(tr -d '\0' <c | wc -c) $(stat -c %b c)" "0 0" "copy_file_range: leaves a hole"
audit
rm ./*
is "$(blocks)" "0 0" "removing all frees all"

# ---- many clones of one file ------------------------------------------------

free_at_start=$(stat_of free_blocks)
head -c 1M "$work/ground/random" >base
for i in $(seq 200); do cp base "clone.$i"; done
is "$(blocks)" "256 256" "200 clones take no block"
is "$(sha256sum base clone.* | cut -d' ' -f1 | sort -u | wc -l)" 1 "all have one content"
audit "counters with 201 shares"
for i in 1 100 200; do printf %s "$i" | dd of="clone.$i" bs=1 seek=8192 conv=notrunc status=none; done
is "$(blocks)" "259 256" "three that are written take a block each"
is "$(sum_of base)" "$(head -c 1M "$work/ground/random" | sha256sum | cut -c1-32)" "the base is what it was"
rm base
is "$(blocks)" "259 256" "the base goes first: its blocks stay"
check "a clone of a removed base" cmp -n 8192 "$work/ground/random" clone.100
for i in $(seq 2 2 198) $(seq 199 -2 3); do rm "clone.$i"; done
is "$(ls | wc -l)" 2 "two are left"
audit "counters after removing in another order"
is "$(blocks)" "257 255" "which share all but what was written"
rm clone.1
is "$(blocks)" "256 0" "the last one shares nothing"
printf x | dd of=clone.200 bs=1 conv=notrunc status=none
is "$(blocks)" "256 0" "and is written in place"
rm clone.200
is "$(blocks)" "0 0" "all is free"

# ---- clone of a clone, remount, full device ---------------------------------

head -c 4M "$work/ground/random" >base
cp base x && cp x y && printf 1 | dd of=x bs=1 conv=notrunc status=none && cp x z
sum=$(sha256sum base x y z)
was=$(blocks)
cd / || exit
remount poison
cd "$mnt" || exit
is "$(sha256sum base x y z)" "$sum" "remount: contents of clones of clones"
is "$(blocks)" "$was" "remount: shares are counted again"
audit "remount: counters agree"
avail=$(stat -f -c %a .)
head -c $((avail * 4096)) /dev/zero 2>/dev/null | dd of=full bs=1M status=none 2>/dev/null
while head -c 4096 /dev/zero >>full; do :; done 2>/dev/null
cp base last
check "full device: a clone needs no block of data" cmp base last
sum=$(sum_of last)
is "$(printf x | dd of=last bs=1 conv=notrunc 2>&1 | grep -c 'No space left')" 1 \
	"full device: writing to a clone is ENOSPC"
is "$(sum_of last)" "$sum" "full device: which changes nothing"
audit "full device: counters agree"
rm full
printf x | dd of=last bs=1 conv=notrunc status=none && ok "with space it can be written" ||
	not_ok "with space it can be written"
rm ./*
# The kernel drops its last reference a moment after rm has returned.
nothing_left() { [ "$(blocks)" = "0 0" ]; }
wait_for 5 nothing_left
is "$(blocks)" "0 0" "everything is free at the end"
in_range "$(stat_of free_blocks)" $((free_at_start * 98 / 100)) $((free_at_start + 1024)) \
	"free blocks are back, but for what metadata keeps"
audit
cd / || exit

# ---- the first clones of a mount, all at once (fs/fuse_io.c, COPY_FILE_RANGE_64) ----

cp "$work/ground/random" "$mnt/a"
copied=0
for ((round = 0; round < 15; round++)); do
	remount poison
	result=$("$fsop" together "$mnt/a" 6)
	[ "$result $(stat_of used_blocks)" = "ok 2048" ] || copied=$((copied + 1))
	rm "$mnt"/a.*
done
is "$copied" 0 "copies that meet as the first of a mount are clones"
umount_fs
is "$umount_status" 0 "umount"
finish
