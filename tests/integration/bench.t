#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
#
# bench.t -- the benchmark runs; what it measures is printed, never a verdict
. "$(dirname "$0")/lib.sh"
start "$@"

"$top/bench/run" --quick "$build" >"$work/out" 2>"$work/err"
is "$?" 0 "the quick form ends well"
[ ! -s "$work/err" ] || note "$(cat "$work/err")"
grep '^# ' "$work/out"

# Every operation has its line beside the daemon that does nothing or a real filesystem.
for operation in create 'list a directory' 'unlink with 4 KiB' '4 KiB random read, direct' \
	'1 MiB write, direct' '4 KiB append and fsync' 'clone of a file' \
	'scale, directory of 20000: look-up' 'scale, mount after a crash, 20000 files' \
	'leases, pin and unpin, run of 8192 blocks' 'leases, soft: empty request' \
	'leases, soft: grant and return, write, 64 MiB' 'leases, soft: truncate, one holder returns' \
	'leases, 4 KiB append, 5000 other files leased' \
	'leases, table of 20000: find by number'; do
	if grep -q "^# ratio ${operation}[,:]" "$work/out"; then
		ok "measured: $operation"
	else
		not_ok "measured: $operation"
	fi
done
is "$(mounts_below /dev/shm | grep -c pml-bench)" 0 "nothing stays mounted"
finish
