#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
#
# cow.t -- a local write to a shared block that a remote client reads: its clones step aside
#
# usage: cow.t [BUILD_DIR]; see tests/README.md
. "$(dirname "$0")/lib.sh"
start "$@"
fsop=$(helper fsop) || bail_out "fsop does not compile"
holder=$(helper holder) || bail_out "holder does not compile"
ground=$work/ground

make_device 128M
mount_fs soft=127.0.0.1:0,client_uid=0,client_gid=0,poison,policy=ebusy,term=60s

# letters FILE: the first byte of each of its blocks.
letters() { for b in 0 1 2 3; do dd if="$1" bs=1 skip=$((b * 4096)) count=1 status=none; done; }

# lettered FILE: four blocks, "abcd".
lettered() { for c in a b c d; do head -c 4096 /dev/zero | tr '\0' $c; done >"$1"; }

# write_at FILE BLOCK LETTER: one byte; prints EBUSY or ok.
write_at() {
	if printf %s "$3" | dd of="$1" bs=1 seek=$(($2 * 4096)) conv=notrunc status=none 2>"$ground/err"; then
		echo ok
	else
		sed -n 's/.*: Device or resource busy$/EBUSY/p' "$ground/err"
	fi
}

# take NAME FD: a holder of a lease on each block of the file; it reads when it gets a line.
take() {
	mkfifo "$ground/$1.in"
	"$holder" "$url/$1" 4 4096 <"$ground/$1.in" >"$ground/$1.out" &
	eval "exec $2>\"$ground/$1.in\""
	wait_for 10 grep -q holding "$ground/$1.out" || not_ok "leases on $1" "$(cat "$ground/$1.out")"
}

# remote NAME FD: what the holder reads now.
remote() {
	local lines
	lines=$(wc -l <"$ground/$1.out")
	echo >&"$2"
	has_answered() { [ "$(wc -l <"$ground/$1.out")" -gt "$2" ]; }
	wait_for 10 has_answered "$1" "$lines"
	tail -n 1 "$ground/$1.out"
}

# ---- one clone, nobody reads it ---------------------------------------------

lettered "$mnt/f"
cp "$mnt/f" "$mnt/g"
is "$(stat_of used_blocks) $(stat_of shared_blocks)" "4 4" "a clone"
take f 7
is "$(remote f 7)" "bytes abcd" "a client reads the file through leases"
is "$(write_at "$mnt/f" 1 X)" ok "policy ebusy: a local write to a shared block is done"
is "$(remote f 7)" "bytes aXcd" "and read by the same key"
is "$(letters "$mnt/f") $(letters "$mnt/g")" "aXcd abcd" "the clone has kept its bytes"
is "$(stat_of recalls) $(stat_of refused_busy) $(stat_of leases)" "0 0 4" "no lease was recalled"
is "$(stat_of aside_blocks) $(stat_of aside_refused)" "1 0" "it is counted"
is "$(stat_of used_blocks) $(stat_of shared_blocks)" "5 3" "it took one block"
is "$("$fsop" fallocate "$mnt/f" punch 8192 100)" ok "policy ebusy: punching a part of one, too"
is "$(remote f 7 | tr -d '\0')" "bytes aX" "which the client sees"
is "$(write_at "$mnt/f" 2 c)" ok "what is the file's own is written as ever"
is "$(letters "$mnt/g")" abcd "the clone has kept its bytes"
audit

# ---- several clones, one of them gone, one of another place -----------------

cp "$mnt/f" "$mnt/h"
cp "$mnt/f" "$mnt/gone"
exec 6<"$mnt/gone"
rm "$mnt/gone"
is "$("$fsop" clone "$mnt/f" 4096 "$mnt/i" 40960 12288)" 12288 "a clone of a part"
is "$(write_at "$mnt/f" 3 Y)" ok "policy ebusy: with five sharers a write is done"
is "$(remote f 7)" "bytes aXcY" "and read by the same key"
is "$(letters "$mnt/h") $(letters /dev/fd/6) $(letters "$mnt/g")" "aXcd aXcd abcd" "all have their old bytes"
is "$(dd if="$mnt/i" bs=1 skip=49152 count=1 status=none)" d "the clone of a part, too"
exec 6<&-
audit

# ---- both are leased --------------------------------------------------------

take g 8
is "$(write_at "$mnt/f" 0 Z)" EBUSY "policy ebusy: leases on both sides are in the way"
is "$(remote f 7) $(remote g 8)" "bytes aXcY bytes abcd" "nothing has changed"
is "$(stat_of recalls) $(stat_of leases)" "0 8" "nobody was recalled"
is "$(stat_of aside_refused) $(stat_of refused_busy)" "1 1" "it is counted"
audit
exec 8>&-
stat_becomes leases 4 5 "the clone's leases are returned"
is "$(write_at "$mnt/f" 0 Z)" ok "policy ebusy: then the write is done"
is "$(remote f 7)" "bytes ZXcY" "and read by the same key"
exec 7>&-
stat_becomes leases 0 5 "the file's leases are returned"
is "$(tail -n 1 "$ground/f.out")" "returned 4 live" "they were good to the end"

# ---- over what a mount has found ---------------------------------------------

remount soft=127.0.0.1:0,client_uid=0,client_gid=0,poison,policy=ebusy,term=60s
rm -f "$ground"/f.in "$ground"/f.out "$mnt"/[fghi]
lettered "$mnt/f" && cp "$mnt/f" "$mnt/g"
remount soft=127.0.0.1:0,client_uid=0,client_gid=0,poison,policy=ebusy,term=60s
take f 7
is "$(write_at "$mnt/f" 2 X)" ok "after a new mount: done"
is "$(remote f 7) $(letters "$mnt/g")" "bytes abXd abcd" "after a new mount: read by the same key"
contains "$(pmemleasectl "$mnt" stats)" "copied for others    1" "pmemleasectl stats shows it"
exec 7>&-
stat_becomes leases 0 5 "no lease is left"
audit
umount_fs
is "$umount_status" 0 "umount"
finish
