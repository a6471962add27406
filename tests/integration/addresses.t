#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
#
# addresses.t -- one filesystem offered on several addresses, IPv4 and IPv6
#
# usage: addresses.t [BUILD_DIR]; see tests/README.md
#   PML_TEST_TRANSPORT   soft, or rdma inside tests/vm/run
. "$(dirname "$0")/lib.sh"
start "$@"
choose_fabric 64M
if [ "${PML_TEST_TRANSPORT:-soft}" = rdma ]; then
	ip address replace fd77::1/64 dev rdma0 nodad || bail_out "no IPv6 on rdma0"
	# soft-RoCE makes the address one of its own a moment later.
	wait_for 10 grep -q fd77 /sys/class/infiniband/rxe0/ports/1/gids/*
	addresses="rdma=$PML_RDMA_ADDR:$port,rdma=[fd77::1]:$((port + 1)),allow_unauthenticated"
else
	addresses="soft=127.0.0.1:0,soft=[::1]:0"
fi
out=$(mount.pmemleasefs "$device" "$mnt" -o "$addresses,client_uid=0,client_gid=0" 2>&1) ||
	bail_out "cannot mount: $out"
daemon=$(daemon_of "$device")
mapfile -t urls < <(sed -n 's,^\(soft\|rdma\): listening on ,\1://,p' <<<"$out")
is "${#urls[@]}" 2 "two addresses"
head -c 1000000 /dev/urandom >"$work/in"
for i in 0 1; do
	check "put at ${urls[i]%:*}" timeout 60 pmemlease put "$work/in" "${urls[i]}/f$i"
	check "it is there" cmp "$work/in" "$mnt/f$i"
	check "get at the other address" timeout 60 pmemlease get "${urls[1 - i]}/f$i" "$work/got$i"
	check "it is the same" cmp "$work/in" "$work/got$i"
done

# A lease that was taken at one address is in the way of what comes by the other.
holder=$(helper holder) || bail_out "holder does not compile"
mkfifo "$work/to"
"$holder" "${urls[1]}/f0" 1 <"$work/to" >"$work/holder" 2>&1 &
client=$!
exec 5>"$work/to"
check "a lease by IPv6" wait_for 20 grep -q '^holding 1' "$work/holder"
contains "$(pmemleasectl "$mnt" sessions)" "[" "its session shows the address"
check "a removal by IPv4 goes on without it" timeout 60 pmemlease rm "${urls[0]}/f0"
exec 5>&-
wait "$client"
audit
umount_fs
is "$umount_status" 0 "umount"
finish
