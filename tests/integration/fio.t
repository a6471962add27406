#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
#
# fio.t -- the engine of fio on a mounted filesystem
#
# usage: fio.t [BUILD_DIR]; see tests/README.md
#
# The engine is built here, against the source of the fio that is installed.
. "$(dirname "$0")/lib.sh"
start "$@"
command -v fio >/dev/null || skip_all "fio is not installed (tools/dev/packages soak)"
version=$(dpkg-query -W -f '${source:Version}' fio 2>/dev/null) ||
	skip_all "fio is in no package here: its source cannot be found"
"$top/tools/dev/source" fio "$work/source" "$version" >"$work/source.log" 2>&1 ||
	skip_all "the source of fio cannot be fetched: $(tail -n 1 "$work/source.log")"
mkdir "$work/fio"
tar xf "$(find "$work/source" -name "fio_*.orig.tar.[gxb]*[z2]")" -C "$work/fio" --strip-components=1 &&
	(cd "$work/fio" && ./configure) >"$work/configure.log" 2>&1 ||
	bail_out "the source of fio cannot be configured: $(tail -n 3 "$work/configure.log")"
nm -D "$build/rdma/libpmemlease.so" | grep -qE '__(asan|tsan)_' &&
	skip_all "fio cannot load what a sanitizer was built into"
engine=$work/fio-pmemlease.so
check "the engine compiles without a warning of ours" ${CC:-cc} -shared -fPIC -O2 -Wall -Wextra \
	-Wno-unused-parameter -Werror -D_GNU_SOURCE -include "$work/fio/config-host.h" \
	-isystem "$work/fio" -I"$top/include" -o "$engine" "$top/tools/fio/pmemlease.c" \
	-L"$build/rdma" -lpmemlease -Wl,-rpath,"$build/rdma"
make_device 256M
mount_fs soft=127.0.0.1:0,client_uid=0,client_gid=0
chmod 777 "$mnt"

# run NAME OPTION...: a job; its output in $work/NAME.
run() {
	local name=$1
	shift
	timeout 60 fio --ioengine=external:"$engine" --url="$url" --name="$name" --size=8m \
		--output-format=terse --terse-version=3 "$@" >"$work/$name" 2>&1
}
# total NAME FIELD: of all lines of a job.
total() { awk -F';' -v f="$2" '$1 == 3 { n += $f } END { print n + 0 }' "$work/$1"; }

check "a sequential write" run write --filename=data --rw=write --bs=64k --iodepth=8
is "$(total write 47)" 8192 "of all of its KiB"
is "$(stat -c %s "$mnt/data")" $((8 << 20)) "which are on the server"
check "random reads" run read --filename=data --rw=randread --bs=4k --iodepth=16
is "$(total read 6)" 8192 "of all of its KiB"
check "random writes that are verified" run verify --filename=verify --rw=randwrite --bs=4k \
	--iodepth=16 --verify=crc32c --do_verify=1 --verify_fatal=1 --verify_state_save=0
is "$(total verify 6)" 8192 "by reading all of them"
check "two jobs that read and write one file" run mixed --filename=data --rw=randrw --bs=16k \
	--iodepth=8 --numjobs=2 --fsync=32
check "leases smaller than the file, and operations across them" run small --filename=data \
	--rw=randread --bs=12k --iodepth=4 --lease_size=64k
run missing --filename=none --rw=read --bs=4k
is $? 1 "reading a file that is not there fails"
contains "$(cat "$work/missing")" "No such file" "in words"

# Layout changes under a job recall its leases again and again.
run recalled --filename=data --rw=randread --bs=4k --iodepth=16 --time_based --runtime=2 &
job=$!
changes=0
while kill -0 $job 2>/dev/null; do
	fallocate -p -o $((changes % 100 * 4096)) -l 4096 "$mnt/data" && changes=$((changes + 1))
	sleep 0.02
done
wait $job
is $? 0 "a job survives recalls"
in_range $changes 5 1000000 "and so many changes were made meanwhile"
umount_fs
finish
