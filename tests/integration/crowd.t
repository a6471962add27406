#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
#
# crowd.t -- many clients connect in the same moment, and none of them is lost
#
# usage: crowd.t [BUILD_DIR]; see tests/README.md
#   PML_TEST_TRANSPORT   soft, or rdma inside tests/vm/run
#   PML_CROWD            clients, 64
. "$(dirname "$0")/lib.sh"
start "$@"
crowd=$(helper crowd) || bail_out "crowd does not compile"
choose_fabric 128M
n=${PML_CROWD:-64}

mount_fs "$listen,client_uid=0,client_gid=0,$clocks,max_sessions=256"
head -c 4096 /dev/zero | tr '\0' x >"$mnt/file"
# The second time some of the server's places have been used before.
again=("" ", and once more")
[ "${PML_IN_GUEST:-}" != 1 ] || again=("")
for again in "${again[@]}"; do
	out=$(timeout 100 "$crowd" "$n" "$url" file 2>&1)
	is "${out##*$'\n'}" "good $n of $n" "$n clients that come at once are all served$again"
	note "$out"
	stat_becomes sessions 0 20 "and go$again"
done
is "$(stat_of leases) $(stat_of pins)" "0 0" "nothing is left of them"
umount_fs
finish
