#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
#
# coherent.t -- the mount shows what a remote writer did as soon as that has its answer
#
# usage: coherent.t [BUILD_DIR]; see tests/README.md
#   PML_ROUNDS           of coherent.c (150; 10 in the guest)
#   PML_TEST_TRANSPORT   soft, or rdma inside tests/vm/run
. "$(dirname "$0")/lib.sh"
start "$@"
coherent=$(helper coherent) || bail_out "coherent does not compile"
choose_fabric 256M
# Emulation is slow, and slower on a busy machine.
limit=100 rounds=150
[ "${PML_IN_GUEST:-}" != 1 ] || limit=400 rounds=10

mount_fs "$listen,client_uid=0,client_gid=0,$clocks"
is "$(timeout $limit "$coherent" "$mnt" "$url" "${PML_ROUNDS:-$rounds}" 2>&1)" "stale 0" \
	"after a commit, a return and a create no cache is stale"
is "$(timeout $limit "$coherent" "$mnt" "$url" seldom 2>&1)" "stale 0" \
	"what nobody here uses while it is written is fresh for who looks then"
stat_becomes leases 0 20 "no lease is left"
audit

remount "$listen,client_uid=0,client_gid=0,ack=10s,drain=60s,term=60s"
is "$(timeout $limit "$coherent" "$mnt" "$url" parked 2>&1)" "stale 0" \
	"while a local write waits for the lease, all but its pages are fresh, and nobody waits for it"
is "$(timeout $limit "$coherent" "$mnt" "$url" longer 2>&1)" "stale 0" \
	"a commit that makes a file longer waits for who reads its last block, and is seen then"
stat_becomes leases 0 20 "no lease is left"
audit

# A daemon that is told to end answers who waits.
timeout 60 "$coherent" "$mnt" "$url" 100000 >"$work/ground/out" 2>&1 &
client=$!
wait_for 10 stat_at_least granted 20
kill -TERM "$daemon"
if wait_for 20 is_gone "$daemon"; then
	ok "SIGTERM in the middle of it ends the daemon"
else
	not_ok "SIGTERM in the middle of it ends the daemon"
fi
end_of "$client" 20
in_range "$client_status" 1 255 "and the client ends with an error"
finish
