#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
#
# remote_names.t -- what a client changes the mount shows at once, and the other way round
#
# usage: remote_names.t [BUILD_DIR]; see tests/README.md
#   PML_TEST_TRANSPORT   soft, or rdma inside tests/vm/run
. "$(dirname "$0")/lib.sh"
start "$@"
remote_names=$(helper remote_names) || bail_out "remote_names does not compile"
choose_fabric 128M
limit=$([ "${PML_IN_GUEST:-}" = 1 ] && echo 200 || echo 60)

mount_fs "$listen,client_uid=0,client_gid=0,$clocks"
is "$(timeout $limit "$remote_names" "$mnt" "$url" 2>&1)" "wrong 0" \
	"each change of names and attributes is seen by the other side at once"
is "$(ls -A "$mnt")" "" "nothing is left behind"
audit
# In the guest it takes long, and shows nothing more.
[ "${PML_IN_GUEST:-}" != 1 ] || finish
remount "$listen,client_uid=0,client_gid=0,$clocks"
is "$(timeout $limit "$remote_names" "$mnt" "$url" 2>&1)" "wrong 0" \
	"and again after the filesystem was mounted anew"
audit
finish
